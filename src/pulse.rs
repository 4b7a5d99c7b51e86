//! A sign of life: whoever must not hang gives one each time it is asked for it.

use std::sync::atomic::{AtomicU32, Ordering};

/// Whether a thread or task still goes round its loop: another one asks, the loop answers.
#[derive(Debug, Default)]
pub struct Pulse(AtomicU32);

impl Pulse {
    /// Asks, and says how often that was done before without an answer. Who asks also wakes who shall answer.
    pub fn ask(&self) -> u32 {
        self.0.fetch_add(1, Ordering::Relaxed)
    }

    /// I live.
    pub fn answer(&self) {
        self.0.store(0, Ordering::Relaxed);
    }
}
