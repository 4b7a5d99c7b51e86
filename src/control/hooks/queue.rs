//! Callbacks that nobody waits for: made in the background, in order for each URL.
//!
//! Each URL has a lane of its own: a bounded queue, and one task while there is something in it. So a server that is slow
//! or dead holds up only what is for itself, and what it gets comes in the order in which it happened. A lane that is full
//! loses its oldest callbacks: what comes last says how things stand.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use portable_atomic::Ordering;
use tokio::runtime::Handle;
use tokio::sync::Notify;

use super::call::{self, Call, Failure};
use super::stats::Stats;
use crate::net::http::Client;

/// The most bytes that wait in one lane: bodies hold what clients said of themselves, up to 16 KiB.
const MOST_BYTES: usize = 1024 * 1024;
/// Before a callback is made again; twice as long each time.
const PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
/// How often a lane tells of what it lost.
const TELL: Duration = Duration::from_secs(10);

/// All lanes.
pub(super) struct Queue {
    client: Arc<Client>,
    stats: Arc<Stats>,
    runtime: Handle,
    lanes: Mutex<HashMap<String, Lane>>,
    stopping: AtomicBool,
    /// Wakes who pauses, since we stop.
    hurry: Notify,
}

#[derive(Default)]
struct Lane {
    calls: VecDeque<Waiting>,
    bytes: usize,
    lost: u64,
    told: Option<Instant>,
}

struct Waiting {
    call: Call,
    retries: u32,
}

impl Queue {
    /// To be called within the runtime that is to make the callbacks.
    pub(super) fn new(client: Arc<Client>, stats: Arc<Stats>) -> Arc<Self> {
        Arc::new(Self {
            client,
            stats,
            runtime: Handle::current(),
            lanes: Mutex::default(),
            stopping: AtomicBool::new(false),
            hurry: Notify::new(),
        })
    }

    fn lanes(&self) -> MutexGuard<'_, HashMap<String, Lane>> {
        self.lanes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Has `call` made, after those that wait in the same lane. Never blocks; from any thread.
    pub(super) fn push(self: &Arc<Self>, lane: &str, call: Call, retries: u32, most: usize) {
        let mut lanes = self.lanes();
        let new = !lanes.contains_key(lane);
        let entry = lanes.entry(lane.to_owned()).or_default();
        entry.bytes = entry.bytes.saturating_add(size(&call));
        entry.calls.push_back(Waiting { call, retries });
        self.stats.waiting.fetch_add(1, Ordering::Relaxed);
        let mut lost = 0_u64;
        while entry.calls.len() > most.max(1) || (entry.bytes > MOST_BYTES && entry.calls.len() > 1) {
            let Some(oldest) = entry.calls.pop_front() else { break };
            entry.bytes = entry.bytes.saturating_sub(size(&oldest.call));
            self.stats.waiting.fetch_sub(1, Ordering::Relaxed);
            self.stats.of(oldest.call.hook).lost.fetch_add(1, Ordering::Relaxed);
            lost += 1;
        }
        if lost > 0 {
            entry.lose(lost, lane, "its queue is full");
        }
        drop(lanes);
        if new {
            self.runtime.spawn(self.clone().drain(lane.to_owned()));
        }
    }

    /// Makes the callbacks of a lane until there are none.
    async fn drain(self: Arc<Self>, lane: String) {
        loop {
            let next = {
                let mut lanes = self.lanes();
                let Some(entry) = lanes.get_mut(&lane) else { return };
                let Some(next) = entry.calls.pop_front() else {
                    lanes.remove(&lane);
                    return;
                };
                entry.bytes = entry.bytes.saturating_sub(size(&next.call));
                next
            };
            if let Err(failure) = self.make(&next).await {
                self.stats.of(next.call.hook).lost.fetch_add(1, Ordering::Relaxed);
                if let Some(entry) = self.lanes().get_mut(&lane) {
                    entry.lose(1, &lane, failure.text());
                }
            }
            self.stats.waiting.fetch_sub(1, Ordering::Relaxed);
        }
    }

    async fn make(&self, Waiting { call, retries }: &Waiting) -> Result<(), Failure> {
        let mut pause = PAUSE;
        for _ in 0..*retries {
            // From here on it is woken, also while the call is under way.
            let hurry = self.hurry.notified();
            match call::make(&self.client, &self.stats, call).await {
                Err(Failure::NoAnswer(why)) if !self.stopping.load(Ordering::SeqCst) => {
                    log::debug!("{}: {why}; tried again in {pause:?}", call.hook.as_str());
                }
                result => return result,
            }
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = hurry => {}
            }
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
        call::make(&self.client, &self.stats, call).await
    }

    /// From now on nothing is tried twice.
    pub(super) fn stop(&self) {
        self.stopping.store(true, Ordering::SeqCst);
        self.hurry.notify_waiters();
    }

    /// Whether something waits or is under way.
    pub(super) fn busy(&self) -> bool {
        !self.lanes().is_empty()
    }
}

impl Lane {
    /// Tells of callbacks that were lost, but not of each.
    fn lose(&mut self, count: u64, url: &str, why: &str) {
        self.lost = self.lost.saturating_add(count);
        let now = Instant::now();
        if self.told.is_none_or(|told| now.saturating_duration_since(told) >= TELL) {
            self.told = Some(now);
            let count = std::mem::take(&mut self.lost);
            let s = if count == 1 { "" } else { "s" };
            let place = crate::net::masked(url);
            log::warn!("{count} callback{s} for {place} lost: {why}");
        }
    }
}

fn size(call: &Call) -> usize {
    call.body.len().saturating_add(call.url.len())
}
