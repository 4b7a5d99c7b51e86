//! What is counted of a stream.

use std::time::{Duration, Instant};

use portable_atomic::{AtomicU64, Ordering};

use super::ClientKind;
use crate::media::{Meta, Track};

/// Counters that readers add to without a lock.
#[derive(Debug, Default)]
pub(super) struct Counters {
    pub(super) bytes_in: AtomicU64,
    pub(super) bytes_out: AtomicU64,
    pub(super) lag_events: AtomicU64,
    pub(super) dropped: AtomicU64,
    /// Readers and publishers there now, by kind.
    pub(super) clients: [portable_atomic::AtomicU32; ClientKind::ALL.len()],
    pub(super) readers: portable_atomic::AtomicU32,
}

impl Counters {
    pub(super) fn add(counter: &AtomicU64, n: usize) {
        counter.fetch_add(n as u64, Ordering::Relaxed);
    }
}

/// A byte counter's rate over the last 30 seconds.
#[derive(Debug, Clone, Default)]
pub(super) struct Rate<const N: usize = 16> {
    /// Counter readings, oldest first.
    samples: heapless::Deque<(Instant, u64), N>,
}

impl<const N: usize> Rate<N> {
    const SPAN: Duration = Duration::from_secs(30);

    /// Takes a reading; call it about once a second.
    pub(super) fn sample(&mut self, total: u64, now: Instant) {
        let step = Self::SPAN / (N as u32 - 1);
        if self.samples.back().is_some_and(|(at, _)| now.saturating_duration_since(*at) < step) {
            return;
        }
        if self.samples.is_full() {
            self.samples.pop_front();
        }
        let _ = self.samples.push_back((now, total));
    }

    /// Kilobits a second over the last 30 s, or since the first reading.
    pub(super) fn kbps(&self, total: u64, now: Instant) -> u64 {
        let Some((at, from)) = self.samples.front() else { return 0 };
        let ms = now.saturating_duration_since(*at).as_millis();
        let bits = u128::from(total.saturating_sub(*from)) * 8;
        bits.checked_div(ms).map_or(0, |kbps| u64::try_from(kbps).unwrap_or(u64::MAX))
    }
}

/// What a stream is and has done, at one moment.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct StreamStats {
    /// `vhost/app/stream`; the vhost is left out when it is the default one.
    pub name: super::StreamName,
    /// Its id in the API, the same for this name as long as the server runs.
    pub id: String,
    /// A number that stays with the stream while it is known.
    pub number: u64,
    /// Who publishes now.
    pub publisher: Option<super::Client>,
    /// How long it has been published without a break.
    pub live: Duration,
    /// Publishers so far.
    pub epochs: u64,
    /// Its tracks.
    pub tracks: Vec<Track>,
    /// What the publisher says of it.
    pub meta: Meta,
    /// Media bytes received since the stream is known.
    pub bytes_in: u64,
    /// Bytes given to readers, framing included.
    pub bytes_out: u64,
    /// Received kilobits a second over 30 s.
    pub kbps_in: u64,
    /// Given kilobits a second over 30 s.
    pub kbps_out: u64,
    /// Video frames received.
    pub video_frames: u64,
    /// Audio frames received.
    pub audio_frames: u64,
    /// Frames left out: of unknown tracks, or before the first key frame of a returning publisher.
    pub frames_dropped: u64,
    /// Entries that readers skipped because they were too slow.
    pub reader_drops: u64,
    /// How often a reader was too slow and skipped to a key frame.
    pub lag_events: u64,
    /// Readers there now, by kind.
    pub readers: Vec<(ClientKind, u32)>,
    /// Frames from the last key frame but one to the last one.
    pub gop_frames: u32,
    /// The same in milliseconds.
    pub gop_ms: u32,
    /// Whether a B-frame was seen: they disturb WebRTC viewers.
    pub b_frames: bool,
    /// Media bytes kept for new readers.
    pub ring_bytes: usize,
}

impl StreamStats {
    /// Readers there now.
    #[must_use]
    pub fn reader_count(&self) -> u32 {
        self.readers.iter().map(|(_, n)| n).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_is_of_the_last_30_seconds() {
        let (mut rate, start) = (Rate::<16>::default(), Instant::now());
        let mut total = 0;
        for second in 0..120u64 {
            let now = start + Duration::from_secs(second);
            rate.sample(total, now);
            if second == 20 {
                assert_eq!(rate.kbps(total, now), 8);
            }
            total += if second < 60 { 1000 } else { 2000 };
        }
        assert_eq!(rate.kbps(total, start + Duration::from_secs(120)), 16);
    }
}
