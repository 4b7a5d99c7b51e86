//! Recordings of streams (DVR): files, how long they are kept, and their playback by HTTP.
//!
//! | format | while it is written | after a crash | codecs |
//! |---|---|---|---|
//! | `fmp4` | plays | plays up to the last fragment; the rest is cut off at the next start | what [`mp4`](mod@crate::format::mp4) has |
//! | `ts` | plays | likewise | what [`mpegts`](mod@crate::format::mpegts) has |
//! | `mp4` | `NAME.mp4.tmp`, which plays (`mp4` has how) | is completed at the next start | as `fmp4` |
//! | `flv` | `NAME.flv.tmp` | likewise | one video and one audio track of what [`flv`](mod@crate::format::flv) has |
//!
//! A recording says of itself whose it is (`ident`), so the list of recordings needs no database: it is made from the files
//! below the directories that `record.path` names, whatever happened to them meanwhile, and nothing is deleted there that
//! doesn't say so. One thread for each stream that is recorded reads its frames and writes (`recorder`); what the disk can't
//! take is lost up to the next key frame, and live viewers notice nothing. When writing fails, the stream's [`RecordStatus`] says
//! why, and it is tried again.
//!
//! By HTTP ([`Playback`]), on the HTTP port:
//!
//! | request | answer |
//! |---|---|
//! | `GET /recordings` | streams that have recordings |
//! | `GET /recordings/APP/STREAM?from=&to=&limit=&after=` | its files, the oldest first, `limit` at a time |
//! | `GET /recordings/APP/STREAM.mp4?from=&to=` or `&duration=` | that time as one MP4 |
//! | `GET /recordings/APP/STREAM.m3u8?from=&to=` | the same as HLS |
//! | `GET /recordings/APP/STREAM/START.mp4` | a file as it is (`START`: when it begins, in milliseconds since 1970) |
//! | `DELETE` of such a file | deletes it; only from this machine itself, not by a proxy |
//!
//! Times are RFC 3339 or Unix seconds; durations are seconds. `?vhost=` as for live streams. Keys: `[vhost.*.record]`.
//! Not here: recordings of data tracks but in MPEG-TS, time zones (paths are in UTC).

mod catalog;
mod flv;
mod fragments;
mod ident;
mod mp4;
mod output;
mod plan;
mod playback;
mod recorder;
mod recover;
mod registry;
mod retention;
mod template;
#[cfg(test)]
mod tests;
mod ts;
mod writer;

use std::collections::{HashMap, HashSet, VecDeque};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use portable_atomic::{AtomicBool, Ordering};
use tokio::runtime::Handle;
use tokio::sync::{broadcast, watch};

use self::catalog::Catalog;
pub use self::playback::Playback;
use self::recorder::Recorder;
use self::registry::Registry;
use crate::config::{self, RecordFormat, RecordPlan, Shared};
use crate::hub::{Event, Hub, Item, RecordError, RecordState, RecordStatus, RecordedFile, StreamName};

/// How often it is looked whether what is recorded is what should be.
const LOOK: Duration = Duration::from_secs(1);
/// How often recordings are looked through for those that have to go.
const TIDY: Duration = Duration::from_secs(10);
/// A file that is broken and was not touched for so long was left behind.
const LEFT_BEHIND: Duration = Duration::from_secs(60);
/// How many frames that wait are still written when a recording is stopped.
const MAX_LATE: usize = 10_000;
/// What a recorder's thread has for its stack: it calls nothing deep.
const STACK: usize = 512 * 1024;

/// All recorders. A clone is another handle to the same.
#[derive(Clone)]
pub struct Records {
    inner: Arc<Inner>,
}

struct Inner {
    hub: Hub,
    config: Shared,
    registry: Arc<Registry>,
    catalog: Catalog,
    running: Mutex<HashMap<StreamName, watch::Sender<Control>>>,
    /// What was asked for by name.
    asked: Mutex<Asked>,
    changed: tokio::sync::Notify,
    stopping: AtomicBool,
}

#[derive(Debug, Default)]
struct Asked {
    start: HashSet<StreamName>,
    /// Until the stream ends.
    stop: HashSet<StreamName>,
}

/// What a recorder is told.
#[derive(Debug, Clone)]
struct Control {
    settings: Arc<config::Record>,
    stop: bool,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Records {
    /// Recorders for the streams of `hub`. Nothing happens before [`run`](Self::run).
    #[must_use]
    pub fn new(hub: Hub, config: Shared) -> Self {
        let inner = Inner {
            hub,
            config,
            registry: Arc::default(),
            catalog: Catalog::default(),
            running: Mutex::default(),
            asked: Mutex::default(),
            changed: tokio::sync::Notify::new(),
            stopping: AtomicBool::new(false),
        };
        Self { inner: Arc::new(inner) }
    }

    /// Whether files are being written or closed.
    #[must_use]
    pub fn busy(&self) -> bool {
        !lock(&self.inner.running).is_empty()
    }

    /// Another configuration is in force.
    pub fn reloaded(&self) {
        self.inner.changed.notify_one();
    }

    /// The server stops: files are closed, and no more begin.
    pub fn shut_down(&self) {
        self.inner.stopping.store(true, Ordering::Release);
        for control in lock(&self.inner.running).values() {
            control.send_modify(|control| control.stop = true);
        }
        self.inner.changed.notify_one();
    }

    /// Records what is to be recorded and deletes what has to go, until the server stops.
    pub async fn run(self) {
        let mut events = self.inner.hub.events();
        let mut looks = tokio::time::interval(LOOK);
        looks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut tidied: Option<Instant> = None;
        let mut tidying: Option<tokio::task::JoinHandle<()>> = None;
        let mut urgent = false;
        while !self.inner.stopping.load(Ordering::Acquire) {
            let now = Instant::now();
            self.reconcile();
            let due = tidied.is_none_or(|at| now.saturating_duration_since(at) >= TIDY) || urgent;
            let idle = tidying.as_ref().is_none_or(tokio::task::JoinHandle::is_finished);
            if due && idle && self.inner.wanted() {
                let (inner, first) = (Arc::clone(&self.inner), tidied.is_none());
                tidying = Some(tokio::task::spawn_blocking(move || inner.tidy(first)));
                (tidied, urgent) = (Some(now), false);
            }
            tokio::select! {
                event = events.recv() => match event {
                    Ok(Event::Ended { name }) => {
                        lock(&self.inner.asked).stop.remove(&name);
                    }
                    Ok(_) | Err(broadcast::error::RecvError::Lagged(_)) => {}
                    Err(broadcast::error::RecvError::Closed) => return,
                },
                () = self.inner.changed.notified() => {}
                () = self.inner.registry.tidy.notified() => urgent = true,
                _ = looks.tick() => {}
            }
        }
    }

    /// Starts and stops recorders.
    fn reconcile(&self) {
        let inner = &self.inner;
        let mut running = lock(&inner.running);
        if inner.stopping.load(Ordering::Acquire) {
            return;
        }
        for (name, control) in running.iter() {
            let settings = inner.settings(name);
            if !inner.is_wanted(name, &settings) {
                control.send_if_modified(|control| !std::mem::replace(&mut control.stop, true));
            } else if *control.borrow().settings != settings {
                control.send_modify(|control| control.settings = Arc::new(settings));
            }
        }
        for name in inner.hub.live() {
            let settings = inner.settings(&name);
            if running.contains_key(&name)
                || !inner.is_wanted(&name, &settings)
                || inner.hub.publisher(&name).is_none()
            {
                continue;
            }
            let (sender, receiver) = watch::channel(Control { settings: Arc::new(settings), stop: false });
            let (task, handle, stream) = (Arc::clone(inner), Handle::current(), name.clone());
            let work = move || {
                task.record(&stream, receiver, &handle);
                lock(&task.running).remove(&stream);
                task.registry.forget(&stream);
                task.changed.notify_one();
            };
            match std::thread::Builder::new().name("record".to_owned()).stack_size(STACK).spawn(work) {
                Ok(_) => {
                    running.insert(name, sender);
                }
                Err(error) => {
                    log::error!("{name} can't be recorded: {error}");
                    let failed = RecordState::Failed(error.to_string());
                    inner.registry.status(&name, |status| status.state = failed);
                }
            }
        }
    }
}

impl crate::hub::Recorder for Records {
    fn list(&self) -> Vec<RecordedFile> {
        let roots = catalog::roots(&self.inner.config.current());
        let mut all = self.inner.catalog.scan(&roots, &self.inner.registry);
        // What a crash left behind is shown when it is mended.
        all.retain(|entry| !entry.is_broken());
        all.into_iter().map(|entry| playback::file(&entry)).collect()
    }

    fn status(&self) -> Vec<RecordStatus> {
        self.inner.registry.all()
    }

    fn start(&self, name: &StreamName) -> Result<(), RecordError> {
        if !self.inner.settings(name).enabled {
            return Err(RecordError::Disabled(name.clone()));
        }
        let mut asked = lock(&self.inner.asked);
        asked.stop.remove(name);
        asked.start.insert(name.clone());
        drop(asked);
        self.inner.changed.notify_one();
        Ok(())
    }

    fn stop(&self, name: &StreamName) {
        let mut asked = lock(&self.inner.asked);
        asked.start.remove(name);
        asked.stop.insert(name.clone());
        drop(asked);
        self.inner.changed.notify_one();
    }
}

impl Inner {
    fn settings(&self, name: &StreamName) -> config::Record {
        self.config.current().vhost(&name.vhost, &name.app, &name.stream).record.clone()
    }

    fn is_wanted(&self, name: &StreamName, settings: &config::Record) -> bool {
        let asked = lock(&self.asked);
        let listed =
            || settings.streams.iter().any(|pattern| config::matches(pattern, &name.app, &name.stream));
        settings.enabled
            && !asked.stop.contains(name)
            && (asked.start.contains(name) || (settings.plan != RecordPlan::Api && listed()))
    }

    /// Whether there is anything to look after.
    fn wanted(&self) -> bool {
        self.config.current().vhost.all().any(|vhost| vhost.record.enabled)
    }

    /// Writes the files of a stream until it ends or is to be recorded no more.
    fn record(&self, name: &StreamName, mut control: watch::Receiver<Control>, handle: &Handle) {
        let settings = Arc::clone(&control.borrow_and_update().settings);
        let Ok(mut frames) = self.hub.frames(name, settings.queue.bytes()) else { return };
        let mut recorder =
            Recorder::new(name.clone(), self.hub.clone(), Arc::clone(&self.registry), settings);
        self.registry.status(name, |_| ());
        let mut waiting = VecDeque::new();
        let mut begun = false;
        loop {
            if control.borrow().stop {
                // What came before that belongs to it.
                for _ in 0..MAX_LATE {
                    let Some(item) = waiting.pop_front().or_else(|| frames.ready()) else { break };
                    recorder.item(item, Instant::now(), unix_ms());
                }
                break;
            }
            if control.has_changed().unwrap_or(true) {
                let settings = Arc::clone(&control.borrow_and_update().settings);
                recorder.set(settings, Instant::now());
            }
            let item = match waiting.pop_front().or_else(|| frames.ready()) {
                Some(item) => item,
                None => {
                    let next = handle.block_on(async {
                        tokio::select! {
                            item = frames.next() => Some(item),
                            _ = control.wait_for(|control| control.stop) => None,
                        }
                    });
                    match next {
                        Some(Some(item)) => item,
                        Some(None) => break,
                        None => continue,
                    }
                }
            };
            let first = !std::mem::replace(&mut begun, true);
            recorder.item(item, Instant::now(), unix_ms());
            if first {
                // The stream's past comes at once: the last of it is what is now.
                while let Some(item) = frames.ready() {
                    waiting.push_back(item);
                }
                let newest = waiting.iter().rev().find_map(|item| match item {
                    Item::Frame(frame) => Some(frame),
                    _ => None,
                });
                if let Some(frame) = newest {
                    recorder.prime(frame, unix_ms());
                }
            }
        }
        recorder.close(Instant::now());
    }

    /// Mends what a crash left behind, then deletes what has to go. `first`: nobody else writes yet.
    fn tidy(&self, first: bool) {
        let config = self.config.current();
        let roots = catalog::roots(&config);
        let mut entries = self.catalog.scan(&roots, &self.registry);
        let now = SystemTime::now();
        let mut mended = false;
        for entry in entries.iter().filter(|entry| entry.is_broken()) {
            let age = now.duration_since(entry.modified).unwrap_or_default();
            if first || age >= LEFT_BEHIND {
                mended |= recover::recover(entry, &self.registry, &self.hub, first);
            }
        }
        if mended {
            entries = self.catalog.scan(&roots, &self.registry);
        }
        retention::tidy(&entries, &config, unix_ms());
    }
}

/// Now, in milliseconds since 1970.
fn unix_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

const fn format_name(format: RecordFormat) -> &'static str {
    match format {
        RecordFormat::Flv => "flv",
        RecordFormat::Fmp4 => "fmp4",
        RecordFormat::Mp4 => "mp4",
        RecordFormat::Ts => "ts",
    }
}

fn format_of(name: &str) -> Option<RecordFormat> {
    use RecordFormat::{Flv, Fmp4, Mp4, Ts};
    [Flv, Fmp4, Mp4, Ts].into_iter().find(|format| format_name(*format) == name)
}

/// What a file is called while it is written.
fn tmp_of(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".");
    name.push(catalog::TMP);
    PathBuf::from(name)
}
