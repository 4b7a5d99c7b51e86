//! What is being written, for all who look at files: nobody touches those.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use portable_atomic::{AtomicI64, AtomicU64, Ordering};
use tokio::sync::Notify;

use crate::hub::{RecordState, RecordStatus, StreamName};

/// A file that is being written.
#[derive(Debug)]
pub(super) struct Growing {
    bytes: AtomicU64,
    duration_ms: AtomicI64,
}

impl Growing {
    /// It is whole up to here.
    pub(super) fn grow(&self, bytes: u64, duration_ms: i64) {
        self.duration_ms.store(duration_ms, Ordering::Release);
        self.bytes.store(bytes, Ordering::Release);
    }

    /// Bytes of it that are whole.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Acquire)
    }

    /// How long these play.
    pub(super) fn duration_ms(&self) -> i64 {
        self.duration_ms.load(Ordering::Acquire)
    }
}

/// All that is being written.
#[derive(Debug, Default)]
pub(super) struct Registry {
    growing: Mutex<HashMap<PathBuf, Arc<Growing>>>,
    states: Mutex<HashMap<StreamName, RecordStatus>>,
    /// Someone needs space.
    pub(super) tidy: Notify,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Registry {
    pub(super) fn opened(&self, path: &Path) -> Arc<Growing> {
        let growing = Growing { bytes: AtomicU64::new(0), duration_ms: AtomicI64::new(0) };
        let growing = Arc::new(growing);
        lock(&self.growing).insert(path.to_owned(), growing.clone());
        growing
    }

    pub(super) fn closed(&self, path: &Path) {
        lock(&self.growing).remove(path);
    }

    /// The file of that path, while it is being written.
    pub(super) fn growing(&self, path: &Path) -> Option<Arc<Growing>> {
        lock(&self.growing).get(path).cloned()
    }

    /// Changes a stream's status, which begins to be.
    pub(super) fn status(&self, name: &StreamName, change: impl FnOnce(&mut RecordStatus)) {
        let mut states = lock(&self.states);
        let fresh = || RecordStatus { name: name.clone(), state: RecordState::Waiting, files: 0, lost: 0 };
        change(states.entry(name.clone()).or_insert_with(fresh));
    }

    pub(super) fn forget(&self, name: &StreamName) {
        lock(&self.states).remove(name);
    }

    /// How all recordings stand, by name.
    pub(super) fn all(&self) -> Vec<RecordStatus> {
        let mut all: Vec<_> = lock(&self.states).values().cloned().collect();
        all.sort_by(|a, b| a.name.cmp(&b.name));
        all
    }
}
