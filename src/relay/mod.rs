//! Streams to and from other servers: `vhost.*.forward` brings them there, `vhost.*.pull` fetches them.
//!
//! The protocols' client sides are [`Connector`]s, told apart by the scheme of a URL; what is the same for all of them is here:
//! which streams go where, when they are fetched, trying again, what the log and the API tell.
//!
//! - **Forward** (SRS `forward`): each URL of a live stream has a task that reads the stream's frames as recorders do. A server
//!   that is slow loses frames up to a key frame, one that is not there is called again after `retry`; neither is felt by
//!   anybody else. Where to is said by the configuration, and by a server that is asked (SRS `on_forward`).
//! - **Pull** (SRS `cluster` with `mode remote`, `ingest` without a transcoder): a task per stream calls the URLs in their order
//!   until one has it, and publishes what comes, so that it is like any other publisher; all the time, or while someone plays.
//!
//! No program is started, so that all of it may be changed by the API.

mod target;

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::{Notify, broadcast};
use tokio::task::AbortHandle;

use crate::config::{self, Config};
use crate::hub::{
    ClientKind, Connector, Destinations, Event, Hub, Opening, Progress, Relay, RelayStatus, StreamName,
};
use crate::id::SessionId;

/// How often it is looked whether what is relayed is what should be, and whether what is fetched is still wanted.
const LOOK: Duration = Duration::from_secs(1);
/// The most tasks, whatever the configuration and the server that is asked say.
const MOST: usize = 1000;
/// The most URLs that are taken of one answer of the server that is asked.
const MOST_TOLD: usize = 32;
/// What happens within so long is looked at together: whoever asks for many names costs no more.
const PAUSE: Duration = Duration::from_millis(20);
/// How long what is fetched on demand stays at least: who asked may come back for it (HLS), or be counted only once there are
/// tracks (WebRTC).
const LEAST: Duration = Duration::from_secs(10);
/// The same trouble is told again after so long.
const TELL: Duration = Duration::from_secs(60);

/// All that is relayed. One for the server.
pub struct Relays {
    hub: Hub,
    config: config::Shared,
    connectors: Vec<Arc<dyn Connector>>,
    destinations: Option<Arc<dyn Destinations>>,
    running: Mutex<HashMap<Key, Running>>,
    /// Where streams go, where someone says that: for which publisher it was asked, and the answer, once there is one.
    told: Mutex<HashMap<StreamName, (SessionId, Vec<String>)>>,
    /// What someone waits for.
    wanted: Mutex<HashSet<StreamName>>,
    told_full: Mutex<Option<Instant>>,
    changed: Notify,
    stopping: AtomicBool,
}

/// One task.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Key {
    Forward(StreamName, String),
    /// With its URLs: when they change, another task takes over.
    Pull(StreamName, Vec<String>),
}

struct Running {
    task: AbortHandle,
    status: Arc<Mutex<RelayStatus>>,
    progress: Arc<Mutex<Arc<Progress>>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Relays {
    /// For the streams of `hub`. Nothing happens before [`run`](Self::run). `destinations`: who is asked where streams go.
    #[must_use]
    pub fn new(
        hub: Hub,
        config: config::Shared,
        connectors: Vec<Arc<dyn Connector>>,
        destinations: Option<Arc<dyn Destinations>>,
    ) -> Arc<Self> {
        Arc::new(Self {
            hub,
            config,
            connectors,
            destinations,
            running: Mutex::default(),
            told: Mutex::default(),
            wanted: Mutex::default(),
            told_full: Mutex::default(),
            changed: Notify::new(),
            stopping: AtomicBool::new(false),
        })
    }

    /// Another configuration is in force.
    pub fn reloaded(&self) {
        self.changed.notify_one();
    }

    /// The server stops: streams end by themselves, and with them what is brought elsewhere; nothing more is fetched.
    pub fn stop(&self) {
        self.stopping.store(true, Ordering::Release);
        for (key, running) in lock(&self.running).iter() {
            if matches!(key, Key::Pull(..)) {
                running.task.abort();
            }
        }
        self.changed.notify_one();
    }

    /// Whether other servers are still being told of the end.
    #[must_use]
    pub fn busy(&self) -> bool {
        let running = lock(&self.running);
        running.iter().any(|(key, running)| {
            matches!(key, Key::Forward(..))
                && !running.task.is_finished()
                && lock(&running.progress).is_connected()
        })
    }

    /// Relays what is to be relayed, until the server stops.
    pub async fn run(self: Arc<Self>) {
        let mut events = self.hub.events();
        let mut looks = tokio::time::interval(LOOK);
        looks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        while !self.stopping.load(Ordering::Acquire) {
            self.reconcile();
            tokio::select! {
                event = events.recv() => match event {
                    Ok(event) => self.note(event),
                    Err(broadcast::error::RecvError::Lagged(_)) => {}
                    Err(broadcast::error::RecvError::Closed) => return,
                },
                () = self.changed.notified() => {}
                _ = looks.tick() => {}
            }
            tokio::time::sleep(PAUSE).await;
            while let Ok(event) = events.try_recv() {
                self.note(event);
            }
        }
    }

    fn note(&self, event: Event) {
        if let Event::Wanted { name } = event {
            let mut wanted = lock(&self.wanted);
            if wanted.len() < MOST {
                wanted.insert(name);
            }
        }
    }

    /// Starts and stops tasks.
    fn reconcile(self: &Arc<Self>) {
        let config = self.config.current();
        let mut due = self.forwards(&config);
        self.pulls(&config, &mut due);
        // What goes elsewhere ends with its stream by itself, once all of it is there.
        let ends = |key: &Key| matches!(key, Key::Forward(name, _) if !self.hub.is_live(name));
        let mut running = lock(&self.running);
        running.retain(|key, running| {
            let stays = due.contains(key) || ends(key);
            if !stays {
                running.task.abort();
            }
            stays && !running.task.is_finished()
        });
        for key in due {
            if running.contains_key(&key) {
                continue;
            }
            if running.len() >= MOST {
                let now = Instant::now();
                let mut told = lock(&self.told_full);
                if told.is_none_or(|at| now >= at + TELL) {
                    log::error!("{MOST} streams are relayed, more are not");
                    *told = Some(now);
                }
                // Who still wants them asks again.
                lock(&self.wanted).retain(|name| {
                    running.keys().any(|key| matches!(key, Key::Pull(known, _) if known == name))
                });
                return;
            }
            if let Some(started) = self.start(&key) {
                running.insert(key, started);
            }
        }
    }

    /// What is to be brought elsewhere.
    fn forwards(self: &Arc<Self>, config: &Config) -> HashSet<Key> {
        let mut due = HashSet::new();
        let live = self.hub.live();
        lock(&self.told).retain(|name, _| live.contains(name));
        for name in live {
            let vhost = config.vhost(&name.vhost, &name.app, &name.stream);
            if !vhost.forward.enabled {
                continue;
            }
            let told = self.ask(&name, vhost.forward.retry);
            let urls = told.unwrap_or_else(|| vhost.forward.urls.iter().map(str::to_owned).collect());
            // What comes from a server does not go back there, at an edge.
            let fetched = self.hub.publisher(&name).is_some_and(|client| client.kind == ClientKind::Pull);
            let sources: Vec<String> = vhost.pull.urls.iter().map(|url| target::expand(url, &name)).collect();
            let is_source = |url: &str| sources.iter().any(|from| target::shown(from) == target::shown(url));
            for url in urls.iter().map(|url| target::expand(url, &name)) {
                if !(fetched && is_source(&url)) {
                    due.insert(Key::Forward(name.clone(), url));
                }
            }
        }
        due
    }

    /// Where a stream goes, if there is someone who says that. Asks, if that is not known.
    fn ask(self: &Arc<Self>, name: &StreamName, retry: Duration) -> Option<Vec<String>> {
        let mut told = lock(&self.told);
        let before = told.get(name).map(|(_, urls)| urls.clone());
        let (Some(destinations), Some(client)) = (&self.destinations, self.hub.publisher(name)) else {
            return before;
        };
        if told.get(name).is_some_and(|(by, _)| *by == client.id) {
            return before;
        }
        let Some(asking) = destinations.ask(name, &client) else {
            told.remove(name);
            return None;
        };
        let before = before.unwrap_or_default();
        // What was told of the publisher before holds until there is an answer.
        told.insert(name.clone(), (client.id, before.clone()));
        drop(told);
        let (this, name, id) = (Arc::clone(self), name.clone(), client.id);
        tokio::spawn(async move {
            let answer = asking.await;
            let failed = answer.is_err();
            {
                let mut told = lock(&this.told);
                let Some(place) = told.get_mut(&name).filter(|(by, _)| *by == id) else { return };
                match answer {
                    Ok(urls) => place.1 = urls.into_iter().take(MOST_TOLD).collect(),
                    Err(why) => log::warn!(session:% = id; "where {name} is to go is not known: {why}"),
                }
            }
            if failed {
                tokio::time::sleep(retry).await;
                // Asked again by the next look.
                let mut told = lock(&this.told);
                if told.get(&name).is_some_and(|(by, _)| *by == id) {
                    told.remove(&name);
                }
            }
            this.changed.notify_one();
        });
        Some(before)
    }

    /// What is to be fetched.
    fn pulls(&self, config: &Config, due: &mut HashSet<Key>) {
        let mut names = HashSet::new();
        for (vhost, app, stream, settings) in config.vhost.streams() {
            if !settings.pull.on_demand
                && settings.enabled
                && let Ok(name) = self.hub.name(vhost, app, stream)
            {
                names.insert(name);
            }
        }
        names.extend(lock(&self.wanted).iter().cloned());
        for name in names {
            let settings = config.vhost(&name.vhost, &name.app, &name.stream);
            let urls: Vec<String> = settings.pull.urls.iter().map(|url| target::expand(url, &name)).collect();
            if !urls.is_empty() && settings.enabled {
                due.insert(Key::Pull(name, urls));
            }
        }
        // Whoever waits for what can't be fetched any more waits for a publisher.
        lock(&self.wanted).retain(|name| {
            let pull = &config.vhost(&name.vhost, &name.app, &name.stream).pull;
            pull.on_demand && !pull.urls.is_empty()
        });
    }

    fn start(self: &Arc<Self>, key: &Key) -> Option<Running> {
        let (name, pulled) = match key {
            // Only what someone publishes now has frames.
            Key::Forward(name, _) if self.hub.publisher(name).is_none() => return None,
            Key::Forward(name, _) => (name.clone(), false),
            Key::Pull(name, _) => (name.clone(), true),
        };
        let id = SessionId::next();
        let status = RelayStatus {
            id,
            name,
            pulled,
            server: String::new(),
            connected: false,
            bytes: 0,
            attempts: 0,
            error: String::new(),
        };
        let task = Task {
            relays: Arc::clone(self),
            id,
            status: Arc::new(Mutex::new(status)),
            progress: Arc::default(),
            told: None,
        };
        let (status, progress) = (task.status.clone(), task.progress.clone());
        let task = match key.clone() {
            Key::Forward(name, url) => tokio::spawn(task.forward(name, url)),
            Key::Pull(name, urls) => tokio::spawn(task.pull(name, urls)),
        };
        Some(Running { task: task.abort_handle(), status, progress })
    }

    fn connector(&self, url: &str) -> Result<Arc<dyn Connector>, String> {
        let scheme = url.split_once("://").map_or("", |(scheme, _)| scheme);
        let known = self.connectors.iter().find(|connector| connector.schemes().contains(&scheme));
        let Some(connector) = known else {
            let all: Vec<&str> =
                self.connectors.iter().flat_map(|connector| connector.schemes()).copied().collect();
            return Err(format!(
                "streams go to and come from {}, not {scheme}://",
                all.join("://, ") + "://"
            ));
        };
        connector.check(url).map(|()| Arc::clone(connector))
    }
}

impl Relay for Relays {
    fn relays(&self) -> Vec<RelayStatus> {
        let running = lock(&self.running);
        let mut all: Vec<RelayStatus> = running.values().map(Running::status).collect();
        all.sort_by(|a, b| {
            (a.name.to_string(), a.pulled, &a.server).cmp(&(b.name.to_string(), b.pulled, &b.server))
        });
        all
    }
}

impl Running {
    fn status(&self) -> RelayStatus {
        let mut status = lock(&self.status).clone();
        let progress = lock(&self.progress);
        status.connected = progress.is_connected() && !self.task.is_finished();
        status.bytes = status.bytes.saturating_add(progress.bytes());
        status
    }
}

/// One stream and the other servers that it goes to or comes from.
struct Task {
    relays: Arc<Relays>,
    id: SessionId,
    status: Arc<Mutex<RelayStatus>>,
    /// Of the connection that is there now.
    progress: Arc<Mutex<Arc<Progress>>>,
    /// What the log was told last, and when.
    told: Option<(String, Instant)>,
}

impl Task {
    /// Brings a stream to `url` until it ends.
    async fn forward(mut self, name: StreamName, url: String) {
        let what = format!("forward of {name} to {}", target::shown(&url));
        let mut broken = false;
        loop {
            let (queue, retry) = {
                let config = self.relays.config.current();
                let forward = &config.vhost(&name.vhost, &name.app, &name.stream).forward;
                (forward.queue.bytes(), forward.retry)
            };
            let Ok(frames) = self.relays.hub.frames(&name, queue) else { return };
            let progress = self.begin(&url);
            let result = match self.relays.connector(&url) {
                Ok(connector) => {
                    let push = connector.push(&url, frames, progress.clone());
                    self.follow(&what, &progress, push).await
                }
                Err(why) => Err(why),
            };
            let ended = self.end(&result);
            match result {
                Ok(()) => {
                    log::info!(session:% = self.id; "{what} ended with the stream; sent {ended} bytes");
                    return;
                }
                Err(why) => self.complain(&what, why, std::mem::replace(&mut broken, true), retry),
            }
            tokio::time::sleep(retry).await;
        }
    }

    /// Fetches a stream from the first of `urls` that has it, while it is wanted.
    async fn pull(mut self, name: StreamName, urls: Vec<String>) {
        let mut broken = false;
        // Since when nobody plays it.
        let mut alone = Some(Instant::now() + LEAST);
        for url in urls.iter().cycle() {
            let config = self.relays.config.current();
            let settings = config.vhost(&name.vhost, &name.app, &name.stream).pull.clone();
            let what = format!("{name} from {}", target::shown(url));
            let progress = self.begin(url);
            let result = match self.relays.connector(url) {
                Ok(connector) => {
                    let opening = Opening::new(self.relays.hub.clone(), name.clone(), self.id);
                    let pull = connector.pull(url, opening, progress.clone());
                    let unwanted = self.relays.hub.clone();
                    tokio::select! {
                        result = self.follow(&what, &progress, pull) => result,
                        why = silent(&progress, settings.timeout) => Err(why),
                        () = deserted(&unwanted, &name, &settings, &mut alone) => {
                            self.end(&Ok(()));
                            return self.leave(&what, &name);
                        }
                    }
                }
                Err(why) => Err(why),
            };
            let received = self.end(&result);
            let why = result.err().unwrap_or_else(|| format!("it ended there; received {received} bytes"));
            self.complain(&what, why, std::mem::replace(&mut broken, true), settings.retry);
            // The next server at once, unless all were asked.
            if received > 0 || urls.last() == Some(url) {
                let unwanted = self.relays.hub.clone();
                tokio::select! {
                    () = tokio::time::sleep(settings.retry) => {}
                    () = deserted(&unwanted, &name, &settings, &mut alone) => return self.leave(&what, &name),
                }
            }
        }
    }

    /// Nobody plays what is fetched.
    fn leave(&self, what: &str, name: &StreamName) {
        log::info!(session:% = self.id; "{what} is not fetched on: nobody plays it");
        lock(&self.relays.wanted).remove(name);
        // Whoever came meanwhile was not heard.
        if self.relays.hub.readers(name) > 0 {
            lock(&self.relays.wanted).insert(name.clone());
            self.relays.changed.notify_one();
        }
    }

    fn begin(&self, url: &str) -> Arc<Progress> {
        let progress = Arc::<Progress>::default();
        *lock(&self.progress) = progress.clone();
        let mut status = lock(&self.status);
        status.server = target::shown(url);
        status.attempts = status.attempts.saturating_add(1);
        progress
    }

    /// Bytes that went through.
    fn end(&self, result: &Result<(), String>) -> u64 {
        let last = std::mem::take(&mut *lock(&self.progress)).bytes();
        let mut status = lock(&self.status);
        status.bytes = status.bytes.saturating_add(last);
        if let Err(why) = result {
            status.error.clone_from(why);
        }
        last
    }

    /// Waits for a connection's end, and tells of its beginning.
    async fn follow(
        &self,
        what: &str,
        progress: &Progress,
        relaying: impl Future<Output = Result<(), String>>,
    ) -> Result<(), String> {
        tokio::pin!(relaying);
        tokio::select! {
            result = &mut relaying => return result,
            () = progress.agreed() => log::info!(session:% = self.id; "{what} began"),
        }
        relaying.await
    }

    /// Tells the log, but not the same again and again.
    fn complain(&mut self, what: &str, why: String, again: bool, retry: Duration) {
        let now = Instant::now();
        let known = self.told.as_ref().is_some_and(|(text, at)| *text == why && now < *at + TELL);
        if again && known {
            log::debug!(session:% = self.id; "{what}: {why}");
            return;
        }
        log::warn!(session:% = self.id; "{what}: {why}; tried again every {retry:?}");
        self.told = Some((why, now));
    }
}

/// Completes when nothing has come for `timeout`; why that is the end.
async fn silent(progress: &Progress, timeout: Duration) -> String {
    loop {
        let before = progress.bytes();
        tokio::time::sleep(timeout).await;
        if progress.bytes() == before {
            return format!("nothing came for {timeout:?}");
        }
    }
}

/// Completes when a stream that is fetched on demand has had no player for `linger`. `alone`: since when it has none; at
/// first in the future.
async fn deserted(hub: &Hub, name: &StreamName, settings: &config::Pull, alone: &mut Option<Instant>) {
    if !settings.on_demand {
        return std::future::pending().await;
    }
    loop {
        tokio::time::sleep(LOOK.min(settings.linger.max(Duration::from_millis(100)))).await;
        let now = Instant::now();
        if hub.readers(name) > 0 {
            *alone = None;
            continue;
        }
        let since = *alone.get_or_insert(now);
        if now >= since + settings.linger {
            return;
        }
    }
}
