//! Live streams by name: the one place where publishers and readers meet.
//!
//! A protocol asks [`Hub::publish`] for a [`Publisher`] and feeds it [`Frame`]s, or asks
//! [`Hub::subscribe`] for a [`Subscription`] with a [`Package`] that serialises frames. Who may publish,
//! how long a stream outlives its publisher, what a slow reader loses and all counting are decided here.
//!
//! - A **stream** outlives its publishers. Each publisher is an *epoch*; when the next one comes within the
//!   grace period (`vhost.*.grace`) readers stay, and times go on (`timeline`).
//! - A stream keeps what it last carried in a **ring**, bounded by bytes and time. The newest key frame in it
//!   is where new readers start, so the ring is the GOP cache too.
//! - A **feed** is a stream in one serialised form, made once for all readers of one [`FeedKey`] when the first
//!   comes, dropped with the last. A reader is a cursor into it. One that falls out of the ring skips to the
//!   newest key frame and is counted, so a stalled reader costs its socket and at most one frame.
//! - **Delivery workers** (`delivery`) write feeds to plain sockets, one `mio` loop a core. Other readers (TLS)
//!   pull with [`Subscription::next`].
//! - A publisher that sends a transport stream has that **passed** ([`Publisher::pass`]) unchanged to feeds that take it
//!   ([`Package::passes`]); the frames in it are for all others.
//! - Whoever builds something else of a stream (segments, recordings) reads its **frames** ([`Hub::frames`]), and learns
//!   from [`Hub::events`] when there is something to build. A viewer of what they built is an [`Attendance`].
//!
//! - Whoever comes was **admitted** ([`Hub::admit`]) by all [`Gate`]s: access rules, callbacks. What it then does is tied to
//!   its [`Admission`], so that it is counted, listed, and can be ended ([`Hub::kick_client`]) whatever its protocol.
//!
//! Locks: a stream's, then a feed's, then a worker's inbox; never the other way, none held across I/O.

#[cfg(test)]
mod admission_tests;
mod client;
#[cfg(feature = "relay")]
mod connector;
mod delivery;
mod entry;
mod events;
mod feed;
mod frames;
mod gate;
mod name;
#[cfg(test)]
mod pass_tests;
#[cfg(feature = "record")]
mod recorder;
mod ring;
mod sessions;
mod stats;
mod stream;
mod subscription;
#[cfg(test)]
mod tests;
mod timeline;
#[cfg(feature = "segments")]
mod viewers;

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock, PoisonError, RwLock};
#[cfg(feature = "segments")]
use std::sync::{Mutex, Weak};
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::sync::broadcast;

pub use self::client::{Client, ClientKind, Secret};
#[cfg(feature = "relay")]
pub use self::connector::{Asking, Connector, Destinations, Opening, Progress, Relay, RelayStatus, Relaying};
use self::delivery::Delivery;
pub use self::delivery::{Control, Flow};
pub use self::entry::Parts;
pub use self::events::{Event, RecordingMade, SegmentMade};
pub use self::feed::{FeedKey, Join, Package, StreamInfo};
pub use self::frames::{Frames, Item};
pub use self::gate::{Action, Ask, CREDENTIALS, Denied, Gate, Traffic, Verdict};
pub use self::name::{DEFAULT_VHOST, NameError, StreamName};
#[cfg(feature = "record")]
pub use self::recorder::{RecordError, RecordState, RecordStatus, RecordedFile, Recorder};
pub use self::sessions::{Admission, ClientStats, Totals};
use self::sessions::{Pending, Sessions};
pub use self::stats::StreamStats;
use self::stream::Stream;
pub use self::subscription::{Attendance, SubscribeOptions, Subscription};
#[cfg(feature = "segments")]
pub use self::viewers::{Standing, ViewerId, Viewers};
use crate::config::{self, Wait};
use crate::id::{SessionId, tag};
use crate::media::{Frame, Meta, Track};

/// The most tracks of a stream; more are ignored. A power of two.
pub const MAX_TRACKS: usize = 16;

/// The least a stream keeps, however many there are: two seconds at 1 Mbit/s.
const LEAST_RING: usize = 256 * 1024;

/// How long who would not wait for a publisher waits for a stream that is being fetched.
const FETCHED: Duration = Duration::from_secs(10);

/// Why the hub refuses.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum HubError {
    /// Someone else publishes this stream.
    #[error(
        "{name} is being published by session {id} from {peer}; stop that one, or set duplicate = \"takeover\""
    )]
    Busy {
        /// The stream.
        name: StreamName,
        /// Its publisher.
        id: SessionId,
        /// Where that one is.
        peer: SocketAddr,
    },
    /// A gate refuses.
    #[error(transparent)]
    Denied(#[from] Denied),
    /// The vhost is switched off.
    #[error("vhost {0} is switched off (enabled = false)")]
    Disabled(String),
    /// Nobody publishes this stream.
    #[error("nobody publishes {0}")]
    NotLive(StreamName),
    /// The server is stopping.
    #[error("the server is stopping")]
    Stopping,
    /// There are as many streams as may be.
    #[error("there are {0} streams, which is the most (server.max_streams)")]
    TooManyStreams(usize),
}

/// Why a publisher may not go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Ended {
    /// An operator ended it.
    #[error("ended by an operator")]
    Kicked,
    /// Another publisher took the stream over.
    #[error("another publisher took the stream over")]
    Replaced,
    /// The server is stopping.
    #[error("the server is stopping")]
    Stopping,
}

/// All live streams. A clone is another handle to the same hub.
#[derive(Clone)]
pub struct Hub {
    inner: Arc<Inner>,
}

struct Inner {
    config: config::Shared,
    streams: RwLock<HashMap<StreamName, Arc<Stream>>>,
    delivery: Delivery,
    /// Bytes for the rings of all streams together, and what that is for each.
    memory: portable_atomic::AtomicUsize,
    share: Arc<portable_atomic::AtomicUsize>,
    numbers: portable_atomic::AtomicU64,
    events: broadcast::Sender<Event>,
    gates: OnceLock<Vec<Arc<dyn Gate>>>,
    sessions: Sessions,
    /// Makes ids of names, others in each run.
    tags: RandomState,
    /// Tables of viewers, whose idle ones are to be counted out.
    #[cfg(feature = "segments")]
    viewers: Mutex<Vec<Weak<Viewers>>>,
    stopping: AtomicBool,
}

impl Hub {
    /// An empty hub. It starts no thread before the first reader is delivered to.
    #[must_use]
    pub fn new(config: config::Shared) -> Self {
        let delivery = Delivery::new(config.clone());
        let inner = Inner {
            config,
            streams: RwLock::default(),
            delivery,
            memory: portable_atomic::AtomicUsize::new(usize::MAX),
            share: Arc::new(portable_atomic::AtomicUsize::new(usize::MAX)),
            numbers: portable_atomic::AtomicU64::new(1),
            events: broadcast::Sender::new(events::BACKLOG),
            gates: OnceLock::new(),
            sessions: Sessions::default(),
            tags: RandomState::new(),
            #[cfg(feature = "segments")]
            viewers: Mutex::default(),
            stopping: AtomicBool::new(false),
        };
        Self { inner: Arc::new(inner) }
    }

    /// The name of a stream as a URL gives it: a vhost that isn't configured is the default one, so that a
    /// stream published to one address of the box is found at another.
    pub fn name(&self, vhost: &str, app: &str, stream: &str) -> Result<StreamName, NameError> {
        let config = self.inner.config.current();
        let known = config.vhost.names().find(|name| name.eq_ignore_ascii_case(vhost));
        StreamName::new(known.unwrap_or(DEFAULT_VHOST), app, stream)
    }

    /// Who decides from now on who may publish and play: asked in order, all have to agree. Set once, before anyone
    /// comes.
    pub fn set_gates(&self, gates: Vec<Arc<dyn Gate>>) {
        if self.inner.gates.set(gates).is_err() {
            log::error!("gates were set already; those stay");
        }
    }

    fn gates(&self) -> &[Arc<dyn Gate>] {
        self.inner.gates.get().map_or(&[], Vec::as_slice)
    }

    /// Whether someone might be refused who wants to do this.
    #[must_use]
    pub fn guards(&self, action: Action, name: &StreamName) -> bool {
        self.gates().iter().any(|gate| gate.guards(action, name))
    }

    /// Asks all gates whether `client` may do this. Every publisher and reader of every protocol comes by here.
    ///
    /// # Errors
    ///
    /// [`HubError::Denied`]; or the vhost is switched off, or the server is stopping.
    pub async fn admit(
        &self,
        action: Action,
        name: &StreamName,
        client: Client,
    ) -> Result<Admission, HubError> {
        let refused = |stopping: bool| {
            if stopping {
                return Err(HubError::Stopping);
            }
            let config = self.inner.config.current();
            let enabled = config.vhost(&name.vhost, &name.app, &name.stream).enabled;
            if enabled { Ok(()) } else { Err(HubError::Disabled(name.vhost.clone())) }
        };
        refused(self.inner.stopping.load(Ordering::SeqCst))?;
        let ask = Ask { action, name: name.clone(), client, stream_id: self.stream_id(name) };
        let mut pending = Pending { hub: self, ask: None, gates: 0 };
        let ask = pending.ask.insert(ask);
        for gate in self.gates() {
            if let Err(denied) = gate.admit(ask).await {
                self.inner.sessions.note_denied();
                return Err(denied.into());
            }
            pending.gates += 1;
        }
        // A gate may have taken its time. Until here all that have admitted are told if nothing comes of it.
        refused(self.inner.stopping.load(Ordering::SeqCst))?;
        let Some(ask) = pending.ask.take() else { return Err(HubError::Stopping) };
        Ok(Admission::new(self.inner.sessions.enter(ask, Instant::now()), self.clone()))
    }

    /// [`Self::admit`] for what the configuration itself wants published: no gate is asked.
    #[cfg(feature = "relay")]
    pub(super) fn admit_own(&self, name: &StreamName, client: Client) -> Result<Admission, HubError> {
        if self.inner.stopping.load(Ordering::SeqCst) {
            return Err(HubError::Stopping);
        }
        let ask =
            Ask { action: Action::Publish, name: name.clone(), client, stream_id: self.stream_id(name) };
        Ok(Admission::own(self.inner.sessions.enter(ask, Instant::now()), self.clone()))
    }

    /// Whether [`publish`](Self::publish) would find the stream taken, for protocols that have to say so before they know that
    /// the publisher is who it says. Nothing changes.
    ///
    /// # Errors
    ///
    /// [`HubError::Busy`].
    pub fn may_publish(&self, admission: &Admission, now: Instant) -> Result<(), HubError> {
        let streams = self.inner.streams.read().unwrap_or_else(PoisonError::into_inner);
        streams.get(admission.name()).map_or(Ok(()), |stream| stream.may_begin(admission.client(), now))
    }

    /// Starts publishing.
    pub fn publish(&self, admission: Admission, now: Instant) -> Result<Publisher, HubError> {
        let name = admission.name().clone();
        let (stream, config) = self.stream(&name, now, Create::Publisher)?;
        let who = admission.client().clone();
        let begun = stream.begin(who.clone(), admission.session.signal.clone(), config, now);
        stream.counters.readers.fetch_sub(1, portable_atomic::Ordering::AcqRel);
        if let Some(old) = begun? {
            log::info!(session:% = who.id; "took {name} over from session {} of {}", old.id, old.peer);
        }
        self.tell(Event::Published { name, client: who });
        Ok(Publisher { stream, admission, hub: self.clone() })
    }

    /// Starts reading in the form that `options.key` names and `package` makes.
    pub fn subscribe(
        &self,
        admission: Admission,
        options: SubscribeOptions,
        package: impl FnOnce() -> Box<dyn Package>,
        now: Instant,
    ) -> Result<Subscription, HubError> {
        let wait = match options.wait {
            Wait::No if self.fetches(admission.name()) => Wait::For(FETCHED),
            wait => wait,
        };
        let create = if wait == Wait::No { Create::No } else { Create::Reader };
        let (stream, _) = self.stream(admission.name(), now, create)?;
        // Counts itself out again when dropped.
        let reader = subscription::Reader::new(stream.clone(), admission, now);
        if !stream.is_live() {
            let _ = self.want(&stream.name);
            if wait == Wait::No {
                return Err(HubError::NotLive(stream.name.clone()));
            }
        }
        let until = match wait {
            Wait::For(wait) if !stream.is_live() => Some(now + wait),
            _ => None,
        };
        let feed = stream.feed(options.key, package);
        Ok(Subscription::new(feed, reader, until, self.clone()))
    }

    /// Whether a stream is fetched from elsewhere when someone wants to play it.
    #[cfg_attr(not(feature = "relay"), allow(clippy::unused_self, reason = "nothing is fetched"))]
    fn fetches(&self, name: &StreamName) -> bool {
        #[cfg(feature = "relay")]
        {
            let config = self.inner.config.current();
            let pull = &config.vhost(&name.vhost, &name.app, &name.stream).pull;
            pull.on_demand && !pull.urls.is_empty()
        }
        #[cfg(not(feature = "relay"))]
        {
            let _ = name;
            false
        }
    }

    /// Someone wants to play a stream that nobody publishes: how long to wait for it at least, if it is fetched then.
    pub fn want(&self, name: &StreamName) -> Option<Duration> {
        self.fetches(name).then(|| {
            self.tell(Event::Wanted { name: name.clone() });
            FETCHED
        })
    }

    /// Reads the frames of a stream that is live, from its newest key frame on. At most `bytes` of them wait for a reader
    /// that is slow. It is not counted as a reader, and does not keep the stream.
    pub fn frames(&self, name: &StreamName, bytes: usize) -> Result<Frames, HubError> {
        let streams = self.inner.streams.read().unwrap_or_else(PoisonError::into_inner);
        let stream = streams.get(name).filter(|stream| stream.is_live());
        stream.map(|stream| stream.frames(bytes)).ok_or_else(|| HubError::NotLive(name.clone()))
    }

    /// What the configuration says of a stream now.
    #[must_use]
    pub fn rules(&self, name: &StreamName) -> Arc<config::Vhost> {
        self.inner.config.current().vhost(&name.vhost, &name.app, &name.stream).clone()
    }

    /// Counts a viewer of what was built of a live stream, until it is dropped.
    pub fn attend(&self, admission: Admission, now: Instant) -> Result<Attendance, HubError> {
        let (stream, _) = self.stream(admission.name(), now, Create::No).inspect_err(|_| {
            let _ = self.want(admission.name());
        })?;
        let reader = subscription::Reader::new(stream.clone(), admission, now);
        if stream.is_live() {
            Ok(Attendance::new(reader))
        } else {
            Err(HubError::NotLive(stream.name.clone()))
        }
    }

    /// Who is there, who came first first.
    #[must_use]
    pub fn clients(&self, now: Instant) -> Vec<ClientStats> {
        self.inner.sessions.all(now)
    }

    /// The session of an id, if it is there.
    #[must_use]
    pub fn client(&self, id: &str, now: Instant) -> Option<ClientStats> {
        self.inner.sessions.find(id).map(|session| session.stats(now))
    }

    /// Ends the session of an id, at once and whatever its protocol. Whether it was there.
    pub fn kick_client(&self, id: &str) -> bool {
        let Some(session) = self.inner.sessions.find(id) else { return false };
        session.signal.end(Ended::Kicked);
        self.inner.delivery.look();
        #[cfg(feature = "segments")]
        self.each_viewers(|viewers| viewers.end_ended(Instant::now()));
        true
    }

    /// Shows each session, and what it has carried; cheaper than [`clients`](Self::clients). `show` must not block.
    pub fn each_client(&self, show: impl FnMut(&Ask, Traffic)) {
        self.inner.sessions.each(show);
    }

    /// How long what is new may wait now before it is written to readers: the longest of all delivery workers.
    #[must_use]
    pub fn delivery_window(&self) -> Duration {
        self.inner.delivery.window()
    }

    /// What all sessions have done since the start.
    #[must_use]
    pub fn totals(&self) -> Totals {
        self.inner.sessions.totals()
    }

    /// The id of a stream in the API and in callbacks, whether it is there or not.
    #[must_use]
    pub fn stream_id(&self, name: &StreamName) -> String {
        tag(self.inner.tags.hash_one(name))
    }

    /// The id of a vhost in the API.
    #[must_use]
    pub fn vhost_id(&self, vhost: &str) -> String {
        tag(self.inner.tags.hash_one(vhost))
    }

    /// A table of viewers. Those who ask for nothing more, and all when the server stops, are counted out of it.
    #[cfg(feature = "segments")]
    #[must_use]
    pub fn viewers(&self) -> Arc<Viewers> {
        let viewers = Arc::new(Viewers::default());
        let mut all = self.inner.viewers.lock().unwrap_or_else(PoisonError::into_inner);
        all.push(Arc::downgrade(&viewers));
        viewers
    }

    #[cfg(feature = "segments")]
    fn each_viewers(&self, act: impl Fn(&Viewers)) {
        let mut all = self.inner.viewers.lock().unwrap_or_else(PoisonError::into_inner);
        all.retain(|viewers| viewers.strong_count() > 0);
        all.iter().filter_map(Weak::upgrade).for_each(|viewers| act(&viewers));
    }

    /// What happens to streams from now on. Who is too slow to take it learns how much was lost, and can ask
    /// [`live`](Self::live) where things stand.
    #[must_use]
    pub fn events(&self) -> broadcast::Receiver<Event> {
        self.inner.events.subscribe()
    }

    /// Tells whoever listens.
    pub fn tell(&self, event: Event) {
        // Nobody needs to listen.
        let _ = self.inner.events.send(event);
    }

    /// The streams that are live.
    #[must_use]
    pub fn live(&self) -> Vec<StreamName> {
        let streams = self.inner.streams.read().unwrap_or_else(PoisonError::into_inner);
        streams.values().filter(|stream| stream.is_live()).map(|stream| stream.name.clone()).collect()
    }

    /// Who publishes `name`.
    #[must_use]
    pub fn publisher(&self, name: &StreamName) -> Option<Client> {
        let streams = self.inner.streams.read().unwrap_or_else(PoisonError::into_inner);
        streams.get(name).and_then(|stream| stream.publisher())
    }

    /// The tracks of a stream, as far as they are known.
    #[must_use]
    pub fn tracks(&self, name: &StreamName) -> Vec<Track> {
        let streams = self.inner.streams.read().unwrap_or_else(PoisonError::into_inner);
        streams.get(name).map(|stream| stream.tracks()).unwrap_or_default()
    }

    /// How many read a stream or wait for it.
    #[cfg(feature = "relay")]
    #[must_use]
    pub fn readers(&self, name: &StreamName) -> u32 {
        let streams = self.inner.streams.read().unwrap_or_else(PoisonError::into_inner);
        streams.get(name).map_or(0, |stream| stream.counters.readers.load(portable_atomic::Ordering::Acquire))
    }

    /// Ends the publisher of `name`, if there is one.
    pub fn kick(&self, name: &StreamName) {
        let streams = self.inner.streams.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(stream) = streams.get(name) {
            stream.kick();
        }
    }

    /// Whether someone publishes `name`, or did within the grace period.
    #[must_use]
    pub fn is_live(&self, name: &StreamName) -> bool {
        let streams = self.inner.streams.read().unwrap_or_else(PoisonError::into_inner);
        streams.get(name).is_some_and(|s| s.is_live())
    }

    /// What all streams are and have done, by name.
    #[must_use]
    pub fn stats(&self, now: Instant) -> Vec<StreamStats> {
        let streams = self.inner.streams.read().unwrap_or_else(PoisonError::into_inner);
        let stats =
            |stream: &Arc<Stream>| StreamStats { id: self.stream_id(&stream.name), ..stream.stats(now) };
        let mut all: Vec<_> = streams.values().map(stats).collect();
        drop(streams);
        all.sort_by(|a, b| a.name.cmp(&b.name));
        all
    }

    /// Takes readings and forgets what nobody needs. Call it once a second.
    pub fn tick(&self, now: Instant) {
        #[cfg(feature = "segments")]
        self.each_viewers(|viewers| viewers.expire(now));
        self.inner.sessions.tick(now);
        let mut streams = self.inner.streams.write().unwrap_or_else(PoisonError::into_inner);
        self.share(&streams);
        let mut ended = Vec::new();
        streams.retain(|name, stream| {
            let was_live = stream.is_live();
            let useless = stream.tick(now);
            if was_live && !stream.is_live() {
                ended.push(name.clone());
            }
            !useless
        });
        drop(streams);
        for name in ended {
            self.tell(Event::Ended { name });
        }
    }

    /// The rings of all streams together may take `bytes`: each published stream gets its share, as far as its own
    /// configuration lets it. Unlimited until this is called.
    pub fn limit_memory(&self, bytes: usize) {
        self.inner.memory.store(bytes, portable_atomic::Ordering::Relaxed);
    }

    fn share(&self, streams: &HashMap<StreamName, Arc<Stream>>) {
        let published = streams.values().filter(|stream| stream.has_publisher()).count();
        let share = self.inner.memory.load(portable_atomic::Ordering::Relaxed) / published.max(1);
        self.inner.share.store(share.max(LEAST_RING), portable_atomic::Ordering::Relaxed);
    }

    /// Applies a configuration that was replaced in [`config::Shared`] to the streams that are there.
    pub fn reload(&self) {
        let config = self.inner.config.current();
        let streams = self.inner.streams.read().unwrap_or_else(PoisonError::into_inner);
        for (name, stream) in streams.iter() {
            stream.set_config(config.vhost(&name.vhost, &name.app, &name.stream).clone());
        }
    }

    /// Ends all publishers and readers, each as its protocol does; from now on none is admitted.
    pub fn stop(&self) {
        self.inner.stopping.store(true, Ordering::SeqCst);
        #[cfg(feature = "segments")]
        {
            let now = Instant::now();
            self.each_viewers(|viewers| viewers.finish(now));
        }
        let streams = self.inner.streams.read().unwrap_or_else(PoisonError::into_inner);
        for stream in streams.values() {
            let was_live = stream.is_live();
            stream.stop(Ended::Stopping);
            if was_live {
                self.tell(Event::Ended { name: stream.name.clone() });
            }
        }
    }

    /// Asks the delivery workers for a sign of life, and says how often one has been asked before without an answer.
    #[must_use]
    pub fn ask(&self) -> u32 {
        self.inner.delivery.ask()
    }

    /// How many readers and publishers there are.
    #[must_use]
    pub fn sessions(&self) -> usize {
        let streams = self.inner.streams.read().unwrap_or_else(PoisonError::into_inner);
        let count = |s: &Arc<Stream>| -> u32 {
            s.counters.clients.iter().map(|n| n.load(portable_atomic::Ordering::Relaxed)).sum()
        };
        streams.values().map(count).sum::<u32>() as usize
    }

    /// The stream of a name, with its reader count raised by one so that it is not forgotten meanwhile.
    fn stream(
        &self,
        name: &StreamName,
        now: Instant,
        create: Create,
    ) -> Result<(Arc<Stream>, Arc<config::Vhost>), HubError> {
        if self.inner.stopping.load(Ordering::SeqCst) {
            return Err(HubError::Stopping);
        }
        let config = self.inner.config.current();
        let vhost = config.vhost(&name.vhost, &name.app, &name.stream).clone();
        if !vhost.enabled {
            return Err(HubError::Disabled(name.vhost.clone()));
        }
        let hold = |stream: &Arc<Stream>| {
            stream.counters.readers.fetch_add(1, portable_atomic::Ordering::AcqRel);
            stream.clone()
        };
        {
            let streams = self.inner.streams.read().unwrap_or_else(PoisonError::into_inner);
            if let Some(stream) = streams.get(name) {
                return Ok((hold(stream), vhost));
            }
        }
        if create == Create::No {
            return Err(HubError::NotLive(name.clone()));
        }
        let mut streams = self.inner.streams.write().unwrap_or_else(PoisonError::into_inner);
        let most = config.server.max_streams as usize;
        if streams.len() >= most {
            // Whoever publishes many names, one after the other, must not lock others out.
            streams.retain(|_, stream| !stream.is_deserted());
        }
        if streams.len() >= most && !streams.contains_key(name) {
            // Readers who wait for many names must not lock publishers out: they have as many places again.
            let published = || streams.values().filter(|stream| stream.has_publisher()).count();
            if create == Create::Reader || published() >= most {
                return Err(HubError::TooManyStreams(most));
            }
        }
        let stream = streams.entry(name.clone()).or_insert_with(|| {
            let number = self.inner.numbers.fetch_add(1, portable_atomic::Ordering::Relaxed);
            Arc::new(Stream::new(name.clone(), number, vhost.clone(), self.inner.share.clone(), now))
        });
        Ok((hold(stream), vhost))
    }
}

#[cfg(test)]
impl Hub {
    /// [`admit`](Self::admit) where no gate takes its time.
    pub(crate) fn admit_now(
        &self,
        action: Action,
        name: &StreamName,
        client: Client,
    ) -> Result<Admission, HubError> {
        let mut admission = std::pin::pin!(self.admit(action, name, client));
        let mut context = std::task::Context::from_waker(std::task::Waker::noop());
        match admission.as_mut().poll(&mut context) {
            std::task::Poll::Ready(admission) => admission,
            std::task::Poll::Pending => panic!("a gate takes its time"),
        }
    }

    pub(crate) fn publish_now(
        &self,
        name: &StreamName,
        client: Client,
        now: Instant,
    ) -> Result<Publisher, HubError> {
        self.publish(self.admit_now(Action::Publish, name, client)?, now)
    }
}

/// Who may make a stream that isn't there.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Create {
    No,
    Publisher,
    /// One that waits for a publisher.
    Reader,
}

/// The right to publish a stream; gives it back when dropped.
pub struct Publisher {
    stream: Arc<Stream>,
    admission: Admission,
    hub: Hub,
}

impl Publisher {
    /// Adds a track, or replaces the one with the same id. A seventeenth track is ignored.
    pub fn set_track(&mut self, track: Track) -> Result<(), Ended> {
        self.stream.set_track(&self.admission.session.signal, track)
    }

    /// Replaces what is said of the stream.
    pub fn set_meta(&mut self, meta: Meta) -> Result<(), Ended> {
        self.stream.set_meta(&self.admission.session.signal, meta)
    }

    /// Gives a frame to all readers. Frames of tracks that were not set are counted and dropped.
    pub fn frame(&mut self, frame: Frame, now: Instant) -> Result<(), Ended> {
        self.admission.add_received(frame.data.len());
        self.stream.frame(&self.admission.session.signal, frame, None, now)
    }

    /// Gives pieces of the publisher's own transport stream, as they came, to readers who take that; the frames that are read
    /// of it are to follow by [`passed_frame`](Self::passed_frame). The number of what was given.
    pub fn pass(&mut self, pieces: Vec<Bytes>, now: Instant) -> Result<u64, Ended> {
        self.admission.add_received(pieces.iter().map(Bytes::len).sum());
        self.stream.pass(&self.admission.session.signal, pieces, now)
    }

    /// The transport packets of PAT and PMT, which those who begin to read get first.
    pub fn set_tables(&mut self, tables: Bytes) -> Result<(), Ended> {
        self.stream.set_tables(&self.admission.session.signal, tables)
    }

    /// Gives a frame that was read of what was [passed](Self::pass), and begins in piece `begins`.
    pub fn passed_frame(&mut self, frame: Frame, begins: u64, now: Instant) -> Result<(), Ended> {
        self.stream.frame(&self.admission.session.signal, frame, Some(begins), now)
    }

    /// What the configuration says of the stream now.
    #[must_use]
    pub fn rules(&self) -> Arc<config::Vhost> {
        self.hub.rules(&self.stream.name)
    }

    /// Whether somebody reads the stream: a player by any protocol, or what builds segments and recordings of it. Readers that
    /// stand [aside](Frames::aside) don't count.
    #[must_use]
    pub fn is_read(&self) -> bool {
        self.stream.is_read()
    }

    /// Completes when the publisher may not go on.
    pub async fn ended(&self) -> Ended {
        self.admission.session.signal.ended().await
    }
}

impl Drop for Publisher {
    // However a session ends, its stream is free at once: hence no caller's clock here.
    fn drop(&mut self) {
        let client = self.admission.client().clone();
        self.stream.leave(&self.admission.session.signal, client.kind, Instant::now());
        let name = self.stream.name.clone();
        self.hub.tell(Event::Unpublished { name, client });
    }
}
