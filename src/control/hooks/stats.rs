//! What became of callbacks, counted.

use std::time::Duration;

use portable_atomic::{AtomicU64, Ordering};

/// A kind of callback.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Hook {
    /// That we are alive.
    Heartbeat,
    /// A connection has gone.
    OnClose,
    /// A connection wants to publish or play.
    OnConnect,
    /// A recording was closed.
    OnDvr,
    /// Where is a stream to go?
    OnForward,
    /// A segment is complete.
    OnHls,
    /// The same, for a CDN.
    OnHlsNotify,
    /// Someone wants to play.
    OnPlay,
    /// Someone wants to publish.
    OnPublish,
    /// A player has gone.
    OnStop,
    /// A publisher has gone.
    OnUnpublish,
}

impl Hook {
    /// All of them.
    pub const ALL: [Self; 11] = [
        Self::Heartbeat,
        Self::OnClose,
        Self::OnConnect,
        Self::OnDvr,
        Self::OnForward,
        Self::OnHls,
        Self::OnHlsNotify,
        Self::OnPlay,
        Self::OnPublish,
        Self::OnStop,
        Self::OnUnpublish,
    ];

    /// Its name in SRS's words.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Heartbeat => "heartbeat",
            Self::OnClose => "on_close",
            Self::OnConnect => "on_connect",
            Self::OnDvr => "on_dvr",
            Self::OnForward => "on_forward",
            Self::OnHls => "on_hls",
            Self::OnHlsNotify => "on_hls_notify",
            Self::OnPlay => "on_play",
            Self::OnPublish => "on_publish",
            Self::OnStop => "on_stop",
            Self::OnUnpublish => "on_unpublish",
        }
    }
}

/// Upper ends of the classes that durations are counted in, in milliseconds; what is longer has a class of its own.
pub const CLASSES_MS: [u64; 9] = [5, 25, 100, 250, 1000, 2500, 10_000, 30_000, 60_000];

/// What became of one kind of callback.
#[derive(Debug, Default)]
pub struct Count {
    /// The server agreed.
    pub passed: AtomicU64,
    /// The server said no.
    pub refused: AtomicU64,
    /// There was no answer, or none that says anything.
    pub failed: AtomicU64,
    /// Given up without having been delivered: the queue was full, or all tries failed.
    pub lost: AtomicU64,
    /// How many took so long, by [`CLASSES_MS`]; the last are those that took longer.
    pub classes: [AtomicU64; CLASSES_MS.len() + 1],
    /// Milliseconds that all took together.
    pub total_ms: AtomicU64,
}

/// What became of all callbacks.
#[derive(Debug, Default)]
pub struct Stats {
    counts: [Count; Hook::ALL.len()],
    /// Callbacks that wait for their turn.
    pub(super) waiting: AtomicU64,
}

impl Stats {
    /// What became of the callbacks of one kind.
    #[must_use]
    pub fn of(&self, hook: Hook) -> &Count {
        // There is one for each.
        self.counts.get(hook as usize).unwrap_or(&self.counts[0])
    }

    /// Callbacks that wait for their turn now.
    #[must_use]
    pub fn waiting(&self) -> u64 {
        self.waiting.load(Ordering::Relaxed)
    }

    pub(super) fn took(&self, hook: Hook, time: Duration) {
        let ms = u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        let count = self.of(hook);
        let class = CLASSES_MS.iter().position(|end| ms <= *end).unwrap_or(CLASSES_MS.len());
        if let Some(class) = count.classes.get(class) {
            class.fetch_add(1, Ordering::Relaxed);
        }
        count.total_ms.fetch_add(ms, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_has_its_own_count() {
        let stats = Stats::default();
        for hook in Hook::ALL {
            stats.of(hook).passed.fetch_add(1, Ordering::Relaxed);
            stats.took(hook, Duration::from_millis(26));
            stats.took(hook, Duration::from_secs(600));
        }
        for hook in Hook::ALL {
            let count = stats.of(hook);
            assert_eq!(count.passed.load(Ordering::Relaxed), 1, "{}", hook.as_str());
            let classes: Vec<u64> = count.classes.iter().map(|n| n.load(Ordering::Relaxed)).collect();
            assert_eq!(classes, [0, 0, 1, 0, 0, 0, 0, 0, 0, 1]);
            assert_eq!(count.total_ms.load(Ordering::Relaxed), 600_026);
        }
    }
}
