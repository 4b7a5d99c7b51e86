//! One stream in one form, as rooms see it.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use portable_atomic::AtomicU64;
use tokio::sync::watch;

use super::{Form, State};
use crate::hub::StreamName;

/// One stream in one form. It outlives the stream by `hls.dispose`, and goes on when the stream comes back meanwhile.
#[derive(Debug)]
pub struct Presentation {
    name: StreamName,
    state: watch::Sender<Arc<State>>,
    viewed: Viewed,
    error: Mutex<Option<Arc<str>>>,
}

impl Presentation {
    pub(super) fn new(name: StreamName, form: Form, target: Duration) -> Self {
        let state = State {
            version: 0,
            form,
            renditions: Vec::new(),
            target,
            part_target: None,
            clock_ms: 0,
            run: 0,
            ended: false,
        };
        Self {
            name,
            state: watch::Sender::new(Arc::new(state)),
            viewed: Viewed::default(),
            error: Mutex::default(),
        }
    }

    /// Whose segments these are.
    #[must_use]
    pub fn name(&self) -> &StreamName {
        &self.name
    }

    /// The segments as they are now.
    #[must_use]
    pub fn state(&self) -> Arc<State> {
        Arc::clone(&self.state.borrow())
    }

    /// Waits for a state with another version than `seen`, and gives it. Not before the stream goes on: limit the time.
    /// Safe to cancel.
    pub async fn changed(&self, seen: u64) -> Arc<State> {
        let mut states = self.state.subscribe();
        match states.wait_for(|state| state.version != seen).await {
            Ok(state) => Arc::clone(&state),
            // The sender is in `self`.
            Err(_) => self.state(),
        }
    }

    /// Someone watches: with `on_demand` segments are made until two windows after the last call. [`Segments::open`]
    /// and [`Segments::resource`] do so themselves.
    ///
    /// [`Segments::open`]: super::Segments::open
    /// [`Segments::resource`]: super::Segments::resource
    pub fn touch(&self) {
        self.viewed.touch();
    }

    /// Why segments can't be written to disk at present.
    #[must_use]
    pub fn error(&self) -> Option<Arc<str>> {
        self.error.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) fn set_error(&self, error: Option<Arc<str>>) {
        *self.error.lock().unwrap_or_else(PoisonError::into_inner) = error;
    }

    pub(super) fn viewed(&self) -> &Viewed {
        &self.viewed
    }

    pub(super) fn set(&self, state: Arc<State>) {
        self.state.send_replace(state);
    }
}

/// When someone last wanted something, in milliseconds since this was made. Shared with what is given out.
#[derive(Debug, Clone)]
pub(super) struct Viewed(Arc<(Instant, AtomicU64)>);

impl Default for Viewed {
    fn default() -> Self {
        Self(Arc::new((Instant::now(), AtomicU64::new(0))))
    }
}

impl Viewed {
    pub(super) fn touch(&self) {
        self.0.1.fetch_max(millis(self.0.0.elapsed()), Ordering::Relaxed);
    }

    pub(super) fn idle(&self, now: Instant) -> Duration {
        let last = Duration::from_millis(self.0.1.load(Ordering::Relaxed));
        now.saturating_duration_since(self.0.0).saturating_sub(last)
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
