//! Which streams have segments: starts and stops their jobs, and finds what they made.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};
use std::time::Duration;

use portable_atomic::{AtomicBool, AtomicUsize, Ordering};
use tokio::sync::broadcast::error::RecvError;

use super::builder::LEAST_MEMORY;
use super::index::{Index, Lookup};
use super::job::{Job, Left};
use super::presentation::Presentation;
use super::settings::{Settings, Slot};
use super::{Form, PlaylistFiles, Want};
use crate::config;
use crate::hub::{Event, Hub, StreamName};

/// The segments of all live streams.
pub struct Segments {
    hub: Hub,
    config: config::Shared,
    index: Arc<Index>,
    budget: Arc<Budget>,
    jobs: Mutex<HashMap<(StreamName, Slot), Running>>,
    /// Numbers of streams that are gone: names are not given twice.
    numbers: Mutex<HashMap<(StreamName, Slot), u64>>,
    playlists: OnceLock<Arc<PlaylistFiles>>,
    manifests: OnceLock<Arc<PlaylistFiles>>,
    stopping: AtomicBool,
    /// For tasks that must not keep it.
    this: Weak<Segments>,
}

struct Running {
    presentation: Arc<Presentation>,
    /// The number of the next segment; while the job runs, that of its first.
    number: u64,
    active: bool,
    /// What the last job has left.
    left: Left,
}

/// The most streams whose numbers are remembered.
const REMEMBERED: usize = 10_000;

/// How long a publisher is waited for to tell its tracks.
const TRACKS_WAIT: Duration = Duration::from_secs(10);

impl Segments {
    /// For the streams of `hub`. Nothing is made before [`run`](Self::run) or [`open`](Self::open).
    #[must_use]
    pub fn new(hub: Hub, config: config::Shared) -> Arc<Self> {
        Arc::new_cyclic(|this| Self {
            hub,
            config,
            index: Arc::default(),
            budget: Arc::default(),
            jobs: Mutex::default(),
            numbers: Mutex::default(),
            playlists: OnceLock::new(),
            manifests: OnceLock::new(),
            stopping: AtomicBool::new(false),
            this: this.clone(),
        })
    }

    /// Starts segments with each stream that is to have them, until dropped.
    pub async fn run(self: Arc<Self>) {
        let mut events = self.hub.events();
        self.start_all();
        loop {
            match events.recv().await {
                Ok(Event::Published { name, .. }) => self.start(&name),
                Ok(_) => {}
                Err(RecvError::Lagged(_)) => self.start_all(),
                Err(RecvError::Closed) => return,
            }
        }
    }

    /// The segments of all streams together may take `bytes`. Unlimited until this is called.
    pub fn limit_memory(&self, bytes: usize) {
        self.budget.total.store(bytes, Ordering::Relaxed);
    }

    /// Who makes the manifests of streams whose segments are made for DASH alone, and are on disk; the first call counts.
    pub fn set_manifests(&self, manifests: Arc<PlaylistFiles>) {
        let _ = self.manifests.set(manifests);
    }

    /// Who makes the playlists of streams whose segments are on disk; the first call counts.
    pub fn set_playlists(&self, playlists: Arc<PlaylistFiles>) {
        let _ = self.playlists.set(playlists);
    }

    /// The configuration was replaced: streams that are to have segments now get them. Those that have some go on as they
    /// began.
    pub fn reload(&self) {
        self.start_all();
    }

    /// The segments of a stream, for a viewer: starts making them where that is done on demand. `None`: it is not live and
    /// was not lately, or is not to have segments. For DASH: ask again when its [form](super::State::form) turns out to be another
    /// than fMP4.
    #[must_use]
    pub fn open(&self, name: &StreamName, want: Want) -> Option<Arc<Presentation>> {
        let config = self.config.current();
        let vhost = config.vhost(&name.vhost, &name.app, &name.stream);
        let wanted = match want {
            Want::Hls => vhost.hls.enabled,
            Want::Dash => cfg!(feature = "dash") && vhost.dash.enabled,
        };
        if !vhost.enabled || !wanted {
            return None;
        }
        let mut slot = Slot::of(want, vhost);
        if want == Want::Dash {
            // What HLS has may do, once it is known what that is; but what DASH has begun with stays.
            let jobs = self.lock();
            let of = |slot| jobs.get(&(name.clone(), slot));
            if let Some(shared) = of(Slot::Auto)
                && of(slot).is_none_or(|own| shared.active && !own.active)
            {
                let state = shared.presentation.state();
                if state.form == Form::Fmp4 || (shared.active && state.renditions.is_empty()) {
                    slot = Slot::Auto;
                }
            }
        }
        let presentation = self.ensure(name, slot, vhost)?;
        presentation.touch();
        Some(presentation)
    }

    /// What a name leads to. `path` is below the vhost's root, percent-decoded, e.g. `live/demo-12.ts`.
    #[must_use]
    pub fn resource(&self, vhost: &str, path: &str) -> Option<Lookup> {
        self.index.find(vhost, path)
    }

    /// Of which stream it is what [`resource`](Self::resource) gives.
    #[must_use]
    pub fn owner(&self, vhost: &str, path: &str) -> Option<Arc<Presentation>> {
        self.index.owner(vhost, path)
    }

    /// How many names lead to something.
    #[cfg(test)]
    pub(super) fn names(&self) -> usize {
        self.index.len()
    }

    fn start_all(&self) {
        for name in self.hub.live() {
            self.start(&name);
        }
    }

    /// Starts what a live stream has without being asked.
    fn start(&self, name: &StreamName) {
        let config = self.config.current();
        let vhost = config.vhost(&name.vhost, &name.app, &name.stream);
        if cfg!(feature = "hls") && vhost.hls.enabled && !vhost.hls.on_demand {
            let _ = self.ensure(name, Slot::of(Want::Hls, vhost), vhost);
        }
        if cfg!(feature = "dash") && vhost.dash.enabled && !vhost.dash.on_demand {
            let (this, name) = (self.this.clone(), name.clone());
            tokio::spawn(async move {
                let open = || this.upgrade().and_then(|this| this.open(&name, Want::Dash));
                let Some(presentation) = open() else { return };
                let state = presentation.state();
                if state.renditions.is_empty() {
                    // Once more when it is known what HLS has.
                    let _ = tokio::time::timeout(TRACKS_WAIT, presentation.changed(state.version)).await;
                    open();
                }
            });
        }
    }

    /// Begins nothing any more. What is being made ends with its stream.
    pub fn stop(&self) {
        self.stopping.store(true, Ordering::SeqCst);
    }

    /// Whether nothing is being made or written: once all streams have ended, a stop may go on.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.lock().values().all(|running| !running.active)
    }

    /// The presentation of a slot, with its job running if the stream is live.
    fn ensure(&self, name: &StreamName, slot: Slot, vhost: &config::Vhost) -> Option<Arc<Presentation>> {
        let mut jobs = self.lock();
        let key = (name.clone(), slot);
        if let Some(running) = jobs.get(&key).filter(|running| running.active) {
            return Some(running.presentation.clone());
        }
        if self.stopping.load(Ordering::SeqCst) {
            return None;
        }
        let settings = Settings::new(vhost, slot);
        let for_dash = slot == Slot::Fmp4 && !slot.is_of_hls(vhost);
        let Ok(frames) = self.hub.frames(name, settings.memory.min(8 << 20)) else {
            return jobs.get(&key).map(|running| running.presentation.clone());
        };
        let this = self.this.upgrade()?;
        let running = jobs.entry(key.clone()).or_insert_with(|| {
            let form = settings.form.unwrap_or(Form::Ts);
            let presentation = Arc::new(Presentation::new(name.clone(), form, settings.target));
            let number = self.numbers().get(&key).copied().unwrap_or(0);
            Running { presentation, number, active: false, left: Left::default() }
        });
        running.active = true;
        let presentation = running.presentation.clone();
        let job = Job {
            hub: self.hub.clone(),
            index: self.index.clone(),
            budget: self.budget.clone(),
            settings: Arc::new(settings),
            presentation: presentation.clone(),
            number: running.number,
            playlists: if for_dash { &self.manifests } else { &self.playlists }.get().cloned(),
            old: std::mem::take(&mut running.left),
        };
        drop(jobs);
        tokio::spawn(async move {
            let (dispose, window) = (job.settings.dispose, job.settings.window);
            let end = job.run(frames).await;
            let keep = match dispose {
                _ if end.unwatched => Duration::ZERO,
                Duration::ZERO => window * 2,
                dispose => dispose,
            };
            // With "never", memory is given back, and files stay.
            let mut left = end.left;
            if dispose.is_zero() && !end.unwatched {
                left.files.clear();
            }
            this.ended(key, end.number, left, keep).await;
        });
        Some(presentation)
    }

    /// A job has ended: what it made is kept for a while.
    async fn ended(&self, key: (StreamName, Slot), number: u64, left: Left, keep: Duration) {
        let presentation = {
            let mut jobs = self.lock();
            let Some(running) = jobs.get_mut(&key) else { return };
            (running.active, running.number, running.left) = (false, number, left);
            running.presentation.clone()
        };
        if self.hub.is_live(&key.0) {
            // Published again at this very moment, when there was no place for another job.
            self.start(&key.0);
        }
        tokio::time::sleep(keep).await;
        let files = {
            let mut jobs = self.lock();
            let idle = jobs.get(&key).is_some_and(|running| !running.active && running.number == number);
            if !idle {
                return;
            }
            let mut numbers = self.numbers();
            if numbers.len() >= REMEMBERED {
                numbers.clear();
            }
            numbers.insert(key.clone(), number);
            jobs.remove(&key).map(|running| running.left.files).unwrap_or_default()
        };
        self.index.forget(&presentation);
        if !files.is_empty() {
            // Nobody waits for it.
            let _ = tokio::task::spawn_blocking(move || {
                files.iter().for_each(|file| drop(std::fs::remove_file(file)));
            })
            .await;
        }
    }

    fn numbers(&self) -> MutexGuard<'_, HashMap<(StreamName, Slot), u64>> {
        self.numbers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<(StreamName, Slot), Running>> {
        self.jobs.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Memory for all jobs.
#[derive(Debug)]
pub(super) struct Budget {
    total: AtomicUsize,
    jobs: AtomicUsize,
}

impl Default for Budget {
    fn default() -> Self {
        Self { total: AtomicUsize::new(usize::MAX), jobs: AtomicUsize::new(0) }
    }
}

impl Budget {
    /// A job takes its share until it drops that.
    pub(super) fn enter(self: &Arc<Self>) -> Share {
        self.jobs.fetch_add(1, Ordering::Relaxed);
        Share(self.clone())
    }
}

/// A job's share.
pub(super) struct Share(Arc<Budget>);

impl Share {
    /// Bytes that the job may take at present.
    pub(super) fn bytes(&self) -> usize {
        let jobs = self.0.jobs.load(Ordering::Relaxed).max(1);
        (self.0.total.load(Ordering::Relaxed) / jobs).max(LEAST_MEMORY)
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.0.jobs.fetch_sub(1, Ordering::Relaxed);
    }
}
