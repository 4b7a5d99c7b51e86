//! One live stream: its epochs, its ring of frames, its feeds.

mod wire;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use portable_atomic::{AtomicUsize, Ordering};
use tokio::sync::Notify;

use self::wire::Wire;
use super::feed::{Announce, Feed, FeedKey, Package};
use super::frames::{Frames, Queue};
use super::ring::{Item, Limits, Ring};
use super::stats::{Counters, Rate, StreamStats};
use super::timeline::Timeline;
use super::{Client, ClientKind, Ended, HubError, MAX_TRACKS, StreamName};
use crate::config::{Duplicate, Vhost};
use crate::media::{Flags, Frame, Kind, Meta, MetaValue, Track};

/// Readers wait this long for a second track when the publisher doesn't say which tracks there will be.
const SETTLE_MS: i64 = 1000;
/// Audio of a returning publisher is held back this long while its first key frame is awaited.
const RESUME_MS: i64 = 3000;
/// A publisher that has sent no frame for this long loses its stream to one from the same address: it is the same
/// encoder, whose old connection broke without a word.
const QUIET: Duration = Duration::from_secs(3);
/// Without any key frame for this long, readers may start at any frame.
const KEYLESS_MS: i64 = 10_000;
/// Without a second key frame for this long, too (intra-refresh encoders start with one); not sooner, since many
/// encoders send one each ten seconds or so, and a reader that starts between sees grey.
const REFRESH_MS: i64 = 30_000;
/// Without a picture for this long, readers may start at sound: the camera is off.
const PICTURELESS_MS: i64 = 15_000;
/// The most items of a ring: 5 s of 4 tracks of 50 packets a second, ten times over.
const MAX_ITEMS: usize = 16_384;

pub(super) struct Stream {
    pub(super) name: StreamName,
    pub(super) number: u64,
    pub(super) counters: Counters,
    /// Bytes of ring that each stream may have at present, whatever its configuration says.
    share: Arc<AtomicUsize>,
    inner: Mutex<Inner>,
}

/// Ends a publisher from outside.
#[derive(Debug, Default)]
pub(super) struct EndSignal {
    why: Mutex<Option<Ended>>,
    notify: Notify,
}

impl EndSignal {
    pub(super) fn end(&self, why: Ended) {
        self.why.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(why);
        self.notify.notify_waiters();
    }

    /// Completes when it is ended.
    pub(super) async fn ended(&self) -> Ended {
        loop {
            let notified = self.notify.notified();
            tokio::pin!(notified);
            notified.as_mut().enable();
            if let Some(why) = self.why() {
                return why;
            }
            notified.await;
        }
    }

    pub(super) fn why(&self) -> Option<Ended> {
        *self.why.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[derive(Debug)]
struct RingFrame {
    frame: Frame,
    at_ms: i64,
    join: bool,
    /// A reader can start here for want of a key frame.
    keyless: bool,
}

impl Item for RingFrame {
    fn size(&self) -> usize {
        self.frame.data.len()
    }
    fn at_ms(&self) -> i64 {
        self.at_ms
    }
    fn join(&self) -> bool {
        self.join
    }
}

struct Live {
    client: Client,
    signal: Arc<EndSignal>,
    since: Instant,
    /// When it sent its last frame.
    heard: Instant,
}

struct Inner {
    config: Arc<Vhost>,
    live: Option<Live>,
    epochs: u64,
    offline_since: Option<Instant>,
    tracks: Arc<[Track]>,
    /// The tracks that feeds were last told of.
    told: Arc<[Track]>,
    meta: Arc<Meta>,
    /// Tracks or words changed since the feeds were told.
    changed: bool,
    /// What of it readers under way must be told.
    announce: Announce,
    /// It is known which tracks there are.
    settled: bool,
    /// Media time of the epoch's first frame.
    epoch_start_ms: Option<i64>,
    /// The epoch waits for its first key frame.
    resuming: bool,
    last_key: Option<i64>,
    last_picture: Option<i64>,
    frames_since_key: u32,
    timeline: Timeline,
    ring: Ring<RingFrame>,
    /// What the publisher sends, where that is a form that readers take.
    wire: Option<Wire>,
    /// Time of the newest frame.
    newest_ms: i64,
    feeds: Vec<Weak<Feed>>,
    /// Readers of frames.
    queues: Vec<Weak<Queue>>,
    had_video: bool,
    video_frames: u64,
    audio_frames: u64,
    frames_dropped: u64,
    gop_frames: u32,
    gop_ms: u32,
    b_frames: bool,
    rate_in: Rate,
    rate_out: Rate,
}

impl Stream {
    pub(super) fn new(
        name: StreamName,
        number: u64,
        config: Arc<Vhost>,
        share: Arc<AtomicUsize>,
        now: Instant,
    ) -> Self {
        let inner = Inner {
            config,
            live: None,
            epochs: 0,
            offline_since: Some(now),
            tracks: Arc::new([]),
            told: Arc::new([]),
            meta: Arc::default(),
            changed: false,
            announce: Announce::Nothing,
            settled: false,
            epoch_start_ms: None,
            resuming: false,
            last_key: None,
            last_picture: None,
            frames_since_key: 0,
            timeline: Timeline::default(),
            ring: Ring::new(),
            wire: None,
            newest_ms: 0,
            feeds: Vec::new(),
            queues: Vec::new(),
            had_video: false,
            video_frames: 0,
            audio_frames: 0,
            frames_dropped: 0,
            gop_frames: 0,
            gop_ms: 0,
            b_frames: false,
            rate_in: Rate::default(),
            rate_out: Rate::default(),
        };
        Self { name, number, counters: Counters::default(), share, inner: Mutex::new(inner) }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Someone publishes, or did within the grace period.
    pub(super) fn is_live(&self) -> bool {
        let inner = self.lock();
        inner.live.is_some() || inner.epochs > 0
    }

    pub(super) fn tracks(&self) -> Vec<Track> {
        self.lock().tracks.to_vec()
    }

    pub(super) fn begin(
        &self,
        client: Client,
        signal: Arc<EndSignal>,
        config: Arc<Vhost>,
        now: Instant,
    ) -> Result<Option<Client>, HubError> {
        let mut inner = self.lock();
        self.is_free(&inner, &config, &client, now)?;
        let replaced = inner.live.take().map(|old| {
            old.signal.end(Ended::Replaced);
            old.client
        });
        inner.config = config;
        self.count(client.kind, true);
        inner.live = Some(Live { client, signal, since: now, heard: now });
        inner.begin_epoch();
        Ok(replaced)
    }

    /// Whether `client` could [begin](Self::begin) now.
    pub(super) fn may_begin(&self, client: &Client, now: Instant) -> Result<(), HubError> {
        let inner = self.lock();
        self.is_free(&inner, &inner.config, client, now)
    }

    fn is_free(&self, inner: &Inner, config: &Vhost, client: &Client, now: Instant) -> Result<(), HubError> {
        let quiet = |old: &Live| {
            old.client.peer.ip() == client.peer.ip() && now.saturating_duration_since(old.heard) >= QUIET
        };
        match &inner.live {
            Some(old) if config.duplicate == Duplicate::Refuse && !quiet(old) => {
                Err(HubError::Busy { name: self.name.clone(), id: old.client.id, peer: old.client.peer })
            }
            _ => Ok(()),
        }
    }

    /// The publisher whose signal this is has left.
    pub(super) fn leave(&self, signal: &Arc<EndSignal>, kind: ClientKind, now: Instant) {
        self.count(kind, false);
        let mut inner = self.lock();
        if inner.live.as_ref().is_some_and(|live| Arc::ptr_eq(&live.signal, signal)) {
            inner.live = None;
            inner.offline_since = Some(now);
            inner.queues().for_each(|queue| queue.left());
        }
    }

    pub(super) fn count(&self, kind: ClientKind, comes: bool) {
        if let Some(n) = self.counters.clients.get(kind.index()) {
            if comes {
                n.fetch_add(1, Ordering::Relaxed)
            } else {
                n.fetch_sub(1, Ordering::Relaxed)
            };
        }
    }

    pub(super) fn set_track(&self, signal: &Arc<EndSignal>, track: Track) -> Result<(), Ended> {
        let mut inner = self.current(signal)?;
        let mut tracks = inner.tracks.to_vec();
        if let Some(old) = tracks.iter_mut().find(|t| t.id == track.id) {
            if *old == track {
                return Ok(());
            }
            if !decodes_alike(old, &track) {
                inner.announce = Announce::All;
            }
            *old = track;
        } else if tracks.len() < MAX_TRACKS {
            inner.announce = Announce::All;
            tracks.push(track);
        } else {
            return Ok(());
        }
        inner.tracks = tracks.into();
        inner.changed = true;
        Ok(())
    }

    pub(super) fn set_meta(&self, signal: &Arc<EndSignal>, meta: Meta) -> Result<(), Ended> {
        let mut inner = self.current(signal)?;
        if *inner.meta != meta {
            inner.meta = Arc::new(meta);
            inner.changed = true;
            inner.announce = inner.announce.max(Announce::Words);
        }
        Ok(())
    }

    /// A frame; `begins` is the number of the [piece](Self::pass) that it begins in, if it is known from such.
    pub(super) fn frame(
        &self,
        signal: &Arc<EndSignal>,
        mut frame: Frame,
        begins: Option<u64>,
        now: Instant,
    ) -> Result<(), Ended> {
        let mut inner = self.current(signal)?;
        let inner = &mut *inner;
        if let Some(live) = &mut inner.live {
            live.heard = now;
        }
        let tracks = inner.tracks.clone();
        let Some(track) = tracks.iter().find(|t| t.id == frame.track) else {
            inner.frames_dropped += 1;
            return Ok(());
        };
        if frame.data.is_empty() {
            return Ok(());
        }
        let video = track.kind() == Kind::Video;
        if inner.wire.is_none() {
            Counters::add(&self.counters.bytes_in, frame.data.len());
        }

        inner.timeline.place(track, &mut frame, now);
        let at_ms = track.ticks_to_ms(frame.dts);
        let start_ms = *inner.epoch_start_ms.get_or_insert(at_ms);
        inner.newest_ms = at_ms;
        if inner.resuming {
            // Readers of the last epoch go on with a picture, not with sound alone.
            if (video && frame.is_key()) || at_ms.saturating_sub(start_ms) > RESUME_MS {
                inner.resuming = false;
                if let Some(wire) = &mut inner.wire {
                    wire.skip_to(begins);
                }
                inner.give();
            } else {
                inner.frames_dropped += 1;
                return Ok(());
            }
        }
        if inner.changed {
            if inner.announce == Announce::All {
                frame.flags = frame.flags.with(Flags::NEW_CONFIG);
            }
            inner.tell(at_ms);
        }
        inner.note(track, &frame, at_ms);

        let has_video = tracks.iter().any(|t| t.kind() == Kind::Video);
        let keyless = has_video && inner.is_keyless(track, &frame, at_ms, start_ms);
        let join = if has_video { video && frame.is_key() } else { track.kind() == Kind::Audio };
        for feed in inner.feeds() {
            feed.frame(track, &frame, keyless);
        }
        for queue in inner.queues() {
            queue.frame(&frame, join || keyless);
        }
        if let Some(number) = begins.filter(|_| join || keyless) {
            if let Some(wire) = &mut inner.wire {
                wire.mark(number);
            }
            inner.feeds().for_each(|feed| feed.mark(number));
        }
        let limits = self.limits(&inner.config);
        inner.ring.push(RingFrame { frame, at_ms, join: join || keyless, keyless }, &limits);

        if !inner.settled && inner.is_settled(at_ms.saturating_sub(start_ms)) {
            inner.settled = true;
            for feed in inner.feeds() {
                feed.open(true);
            }
            inner.queues().for_each(|queue| queue.open(true));
        }
        Ok(())
    }

    /// A reader of its frames, which starts with what a new player would.
    pub(super) fn frames(&self, bytes: usize) -> Frames {
        let mut inner = self.lock();
        let queue = Queue::new(bytes);
        if !inner.told.is_empty() {
            let join = inner.ring.join();
            let start = join.and_then(|n| inner.ring.item(n)).map_or(0, |f| f.at_ms);
            queue.tracks(&inner.told, &inner.meta, inner.epochs, start, false);
            for item in join.into_iter().flat_map(|join| inner.ring.since(join)) {
                if inner.told.iter().any(|t| t.id == item.frame.track) {
                    queue.frame(&item.frame, item.join);
                }
            }
        }
        if inner.settled {
            queue.open(true);
        }
        inner.queues.retain(|q| q.strong_count() > 0);
        inner.queues.push(Arc::downgrade(&queue));
        queue.reader()
    }

    /// Whether somebody reads it who needs all that can be had.
    pub(super) fn is_read(&self) -> bool {
        let inner = self.lock();
        inner.feeds().next().is_some() || inner.queues().any(|queue| !queue.is_aside())
    }

    /// Who publishes it.
    pub(super) fn publisher(&self) -> Option<Client> {
        self.lock().live.as_ref().map(|live| live.client.clone())
    }

    /// Ends its publisher.
    pub(super) fn kick(&self) {
        if let Some(live) = &self.lock().live {
            live.signal.end(Ended::Kicked);
        }
    }

    /// The feed of `key`, made when there is none.
    pub(super) fn feed(
        self: &Arc<Self>,
        key: FeedKey,
        package: impl FnOnce() -> Box<dyn Package>,
    ) -> Arc<Feed> {
        let mut inner = self.lock();
        if let Some(feed) = inner.feeds().find(|f| f.key == key) {
            return feed;
        }
        let limits = self.limits(&inner.config);
        let feed = Arc::new(Feed::new(key, self.clone(), package(), limits));
        if inner.seed(&feed) {
            // What came is given as it is.
        } else if !inner.told.is_empty() {
            let start = inner.ring.join().and_then(|n| inner.ring.item(n)).map_or(0, |f| f.at_ms);
            feed.tracks(&inner.told, &inner.meta, start, true, Announce::All);
            if let Some(join) = inner.ring.join() {
                for item in inner.ring.since(join) {
                    if let Some(track) = inner.told.iter().find(|t| t.id == item.frame.track) {
                        feed.frame(track, &item.frame, item.keyless);
                    }
                }
            }
        }
        feed.open(inner.settled);
        inner.feeds.retain(|f| f.strong_count() > 0);
        inner.feeds.push(Arc::downgrade(&feed));
        feed
    }

    /// Takes readings; ends what has been offline for longer than the grace period. Whether the stream is
    /// of no more use to anyone.
    pub(super) fn tick(&self, now: Instant) -> bool {
        let mut inner = self.lock();
        inner.rate_in.sample(self.counters.bytes_in.load(Ordering::Relaxed), now);
        inner.rate_out.sample(self.counters.bytes_out.load(Ordering::Relaxed), now);
        inner.feeds.retain(|f| f.strong_count() > 0);
        inner.queues.retain(|q| q.strong_count() > 0);
        let limits = self.limits(&inner.config);
        inner.feeds().for_each(|feed| feed.limit(limits));
        let offline = match (&inner.live, inner.offline_since) {
            (None, Some(since)) => now.saturating_duration_since(since),
            _ => return false,
        };
        if inner.epochs > 0 && offline >= inner.config.grace {
            inner.end();
        }
        inner.epochs == 0
            && self.counters.readers.load(Ordering::Acquire) == 0
            && offline >= inner.config.idle_timeout
    }

    /// Ends publisher and readers now.
    pub(super) fn stop(&self, why: Ended) {
        let mut inner = self.lock();
        if let Some(live) = &inner.live {
            live.signal.end(why);
        }
        inner.end();
    }

    /// Whether someone publishes it at this moment.
    pub(super) fn has_publisher(&self) -> bool {
        self.lock().live.is_some()
    }

    /// Whether neither a publisher nor a reader would miss it.
    pub(super) fn is_deserted(&self) -> bool {
        self.lock().live.is_none() && self.counters.readers.load(Ordering::Acquire) == 0
    }

    pub(super) fn set_config(&self, config: Arc<Vhost>) {
        let mut inner = self.lock();
        let limits = self.limits(&config);
        inner.feeds().for_each(|feed| feed.limit(limits));
        inner.config = config;
    }

    pub(super) fn stats(&self, now: Instant) -> StreamStats {
        let inner = self.lock();
        let count = |counter: &portable_atomic::AtomicU64| counter.load(Ordering::Relaxed);
        let readers = ClientKind::ALL.iter().zip(&self.counters.clients);
        let (bytes_in, bytes_out) = (count(&self.counters.bytes_in), count(&self.counters.bytes_out));
        StreamStats {
            name: self.name.clone(),
            id: String::new(),
            number: self.number,
            publisher: inner.live.as_ref().map(|l| l.client.clone()),
            live: inner.live.as_ref().map_or(Duration::ZERO, |l| now.saturating_duration_since(l.since)),
            epochs: inner.epochs,
            tracks: inner.tracks.to_vec(),
            meta: Meta::clone(&inner.meta),
            bytes_in,
            bytes_out,
            kbps_in: inner.rate_in.kbps(bytes_in, now),
            kbps_out: inner.rate_out.kbps(bytes_out, now),
            video_frames: inner.video_frames,
            audio_frames: inner.audio_frames,
            frames_dropped: inner.frames_dropped,
            reader_drops: count(&self.counters.dropped),
            lag_events: count(&self.counters.lag_events),
            readers: readers
                .filter(|(kind, _)| kind.reads())
                .map(|(kind, n)| (*kind, n.load(Ordering::Relaxed)))
                .filter(|(_, n)| *n > 0)
                .collect(),
            gop_frames: inner.gop_frames,
            gop_ms: inner.gop_ms,
            b_frames: inner.b_frames,
            ring_bytes: inner.ring.bytes() + inner.wire.as_ref().map_or(0, Wire::bytes),
        }
    }

    /// What a feed, the ring of frames or that of a transport stream may hold.
    fn limits(&self, config: &Vhost) -> Limits {
        let bytes = config.ring_bytes.bytes().min(self.share.load(Ordering::Relaxed));
        Limits { bytes, time: config.ring_time, items: MAX_ITEMS }
    }

    fn current(&self, signal: &Arc<EndSignal>) -> Result<MutexGuard<'_, Inner>, Ended> {
        // The lock comes first: whoever takes the stream over holds it, too.
        let inner = self.lock();
        match signal.why() {
            Some(why) => Err(why),
            None => Ok(inner),
        }
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        // A stream that is pushed out for another one has not been ended.
        self.inner.get_mut().unwrap_or_else(PoisonError::into_inner).end();
    }
}

impl Inner {
    fn feeds(&self) -> impl Iterator<Item = Arc<Feed>> {
        self.feeds.iter().filter_map(Weak::upgrade)
    }

    fn queues(&self) -> impl Iterator<Item = Arc<Queue>> {
        self.queues.iter().filter_map(Weak::upgrade)
    }

    fn begin_epoch(&mut self) {
        self.epochs += 1;
        if self.wire.take().is_some() {
            self.feeds().for_each(|feed| _ = feed.set_passing(false));
        }
        self.offline_since = None;
        // A publisher that came and went without a frame changes nothing.
        self.resuming = self.epochs > 1 && (self.had_video || self.resuming);
        self.timeline.new_epoch();
        self.tracks = Arc::new([]);
        self.meta = Arc::default();
        (self.changed, self.announce) = (true, Announce::All);
        self.settled = false;
        self.epoch_start_ms = None;
        (self.last_key, self.last_picture) = (None, None);
        self.had_video = false;
        self.ring.forget_join();
        for feed in self.feeds() {
            feed.open(false);
        }
        self.queues().for_each(|queue| queue.open(false));
    }

    /// Tells the feeds of new tracks or words.
    fn tell(&mut self, at_ms: i64) {
        self.changed = false;
        let announce = std::mem::take(&mut self.announce);
        // What a reader starts at can still be decoded if every track it was told of is as it was.
        let same = |old: &Track| self.tracks.iter().any(|t| decodes_alike(t, old));
        let keep_joins = !self.told.is_empty() && self.ring.join().is_some() && self.told.iter().all(same);
        if !keep_joins {
            self.ring.forget_join();
            if let Some(wire) = &mut self.wire {
                wire.forget_join();
            }
        }
        let grown = self.told.iter().all(same);
        self.told = self.tracks.clone();
        for queue in self.queues() {
            queue.tracks(&self.told, &self.meta, self.epochs, at_ms, grown);
        }
        for feed in self.feeds() {
            feed.tracks(&self.told, &self.meta, at_ms, keep_joins, announce);
        }
    }

    fn note(&mut self, track: &Track, frame: &Frame, at_ms: i64) {
        match track.kind() {
            Kind::Audio => self.audio_frames += 1,
            Kind::Data => {}
            Kind::Video => {
                self.had_video = true;
                self.last_picture = Some(at_ms);
                self.video_frames += 1;
                self.b_frames = self.b_frames || track.is_b_frame(&frame.data);
                if frame.is_key() {
                    if let Some(last) = self.last_key.replace(at_ms) {
                        self.gop_ms = u32::try_from(at_ms.saturating_sub(last)).unwrap_or(u32::MAX);
                        self.gop_frames = self.frames_since_key;
                    }
                    self.frames_since_key = 0;
                }
                self.frames_since_key = self.frames_since_key.saturating_add(1);
            }
        }
    }

    /// Whether readers of a stream with video may start at this frame because it has had no key frame, or no
    /// picture at all, for so long.
    fn is_keyless(&self, track: &Track, frame: &Frame, at_ms: i64, start_ms: i64) -> bool {
        let since = |last: Option<i64>| at_ms.saturating_sub(last.unwrap_or(start_ms));
        match track.kind() {
            Kind::Audio => since(self.last_picture) > PICTURELESS_MS,
            Kind::Data => false,
            Kind::Video => {
                let usual = i64::from(self.gop_ms).saturating_mul(2);
                let most = if self.last_key.is_none() { KEYLESS_MS } else { usual.max(REFRESH_MS) };
                !frame.is_key() && since(self.last_key) > most
            }
        }
    }

    /// Whether it is known which tracks the publisher sends, `media_ms` after its first frame.
    fn is_settled(&self, media_ms: i64) -> bool {
        let has = |kind| self.tracks.iter().any(|t| t.kind() == kind);
        let (video, audio) = (has(Kind::Video), has(Kind::Audio));
        let says = |names: [&str; 2]| {
            names.iter().any(|n| match self.meta.find(n) {
                Some(MetaValue::Number(n)) => *n > 0.0,
                Some(MetaValue::Text(t)) => !t.is_empty(),
                Some(MetaValue::Bool(_)) | None => false,
            })
        };
        let announced = (says(["videocodecid", "width"]), says(["audiocodecid", "audiosamplerate"]));
        (video && audio)
            || media_ms >= SETTLE_MS
            || (announced != (false, false) && announced == (video, audio))
    }

    fn end(&mut self) {
        for feed in self.feeds() {
            feed.end();
        }
        self.feeds.clear();
        self.queues().for_each(|queue| queue.end());
        self.queues.clear();
        self.ring.clear();
        self.wire = None;
        self.epochs = 0;
        self.had_video = false;
        self.tracks = Arc::new([]);
        self.told = Arc::new([]);
        self.meta = Arc::default();
    }
}

/// Whether a decoder of one can go on with the other: only what is known of the content differs.
fn decodes_alike(a: &Track, b: &Track) -> bool {
    (a.id, a.codec, &a.config, a.timescale) == (b.id, b.codec, &b.config, b.timescale)
}
