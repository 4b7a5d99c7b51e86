//! What was sent of a track: one ring for all its viewers, from which losses are made good and new viewers begin.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use crate::format::rtp::Payload;

/// How long packets are kept for those who missed them.
const KEEP: Duration = Duration::from_secs(2);
/// The most bytes kept, whatever else: then new viewers wait for the next key frame.
const MAX_BYTES: usize = 8 << 20;
/// The most packets kept.
const MAX_PACKETS: usize = 16_384;

/// A packet as all viewers have it in common.
#[derive(Debug, Clone)]
pub(super) struct Entry {
    /// `None`: it was lost on its way to us.
    pub(super) payload: Option<Payload>,
    /// In ticks of the track's RTP clock.
    pub(super) timestamp: u32,
    /// Counts frames: packets of one have one number.
    pub(super) frame: u64,
    at: Instant,
}

/// The packets of a track by their numbers, the newest at the end.
#[derive(Debug, Default)]
pub(super) struct History {
    entries: VecDeque<Entry>,
    first: u64,
    bytes: usize,
    /// Where the newest key frame begins.
    key: Option<u64>,
    frame: u64,
    timestamp: Option<u32>,
}

impl History {
    /// Appends a packet. `key`: a decoder can start at its frame.
    pub(super) fn push(&mut self, payload: Payload, timestamp: u32, key: bool, now: Instant) {
        if self.timestamp != Some(timestamp) {
            self.frame += 1;
            self.timestamp = Some(timestamp);
            if key {
                self.key = Some(self.end());
            }
        } else if key && self.key.is_none_or(|key| self.get(key).is_none_or(|e| e.timestamp != timestamp)) {
            // What says so wasn't the first of its frame.
            self.key = self.begin_of(timestamp);
        }
        self.bytes += payload.len() + size_of::<Entry>();
        self.entries.push_back(Entry { payload: Some(payload), timestamp, frame: self.frame, at: now });
        self.trim(now);
    }

    fn begin_of(&self, timestamp: u32) -> Option<u64> {
        let same = self.entries.iter().rev().take_while(|entry| entry.timestamp == timestamp).count() as u64;
        Some(self.end() - same)
    }

    /// So many packets were lost before they came here: their numbers stay empty.
    pub(super) fn skip(&mut self, count: u64, now: Instant) {
        let timestamp = self.timestamp.unwrap_or(0);
        for _ in 0..count.min(1000) {
            self.bytes += size_of::<Entry>();
            self.entries.push_back(Entry { payload: None, timestamp, frame: self.frame, at: now });
        }
        self.trim(now);
    }

    /// What was before is of another kind: nobody begins there.
    pub(super) fn forget_key(&mut self) {
        self.key = None;
    }

    fn trim(&mut self, now: Instant) {
        let needed = self.key.unwrap_or(u64::MAX);
        while let Some(entry) = self.entries.front() {
            let old = now.saturating_duration_since(entry.at) > KEEP;
            let full = self.bytes > MAX_BYTES || self.entries.len() > MAX_PACKETS;
            if !(full || old && self.first < needed) {
                break;
            }
            self.bytes -= entry.payload.as_ref().map_or(0, Payload::len) + size_of::<Entry>();
            self.entries.pop_front();
            self.first += 1;
        }
        self.key = self.key.filter(|key| *key >= self.first);
    }

    /// The number that the next packet will have.
    pub(super) fn end(&self) -> u64 {
        self.first + self.entries.len() as u64
    }

    /// The number of the oldest packet.
    pub(super) fn first(&self) -> u64 {
        self.first
    }

    /// Where the newest key frame begins, if it is still here.
    pub(super) fn key(&self) -> Option<u64> {
        self.key
    }

    /// How old the newest key frame is.
    pub(super) fn key_age(&self, now: Instant) -> Option<Duration> {
        let entry = self.get(self.key?)?;
        Some(now.saturating_duration_since(entry.at))
    }

    pub(super) fn get(&self, number: u64) -> Option<&Entry> {
        self.entries.get(usize::try_from(number.checked_sub(self.first)?).ok()?)
    }

    pub(super) fn newest(&self) -> Option<&Entry> {
        self.entries.back()
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::format::rtp::Head;

    fn payload(len: usize) -> Payload {
        Payload { head: Head::new(), body: vec![0; len].into(), marker: false, later: 0 }
    }

    #[test]
    fn new_viewers_begin_at_the_newest_key_frame() {
        let (mut history, start) = (History::default(), Instant::now());
        assert_eq!((history.end(), history.key()), (0, None));
        for n in 0..100u32 {
            // Four packets a frame; that a frame is a key frame shows in its second packet only, from frame 50 on.
            let (frame, part) = (n / 4, n % 4);
            let key = frame % 10 == 0 && (part == 0 || part == 1 && n >= 50);
            let now = start + Duration::from_millis(u64::from(frame) * 40);
            history.push(payload(1000), frame * 3600, key && (n < 50 || part == 1), now);
        }
        assert_eq!((history.key(), history.end()), (Some(80), 100));
        assert_eq!(history.get(80).map(|entry| entry.frame), Some(21));
        assert_eq!(history.newest().map(|entry| entry.timestamp), Some(24 * 3600));
    }

    #[test]
    fn what_is_kept_is_bounded_by_time_and_bytes() {
        let (mut history, start) = (History::default(), Instant::now());
        history.push(payload(10), 0, true, start);
        for n in 1..1000u32 {
            history.push(payload(10), n * 900, false, start + Duration::from_millis(u64::from(n) * 10));
        }
        assert_eq!(history.first(), 0, "the key frame is still wanted");
        let end = start + Duration::from_secs(10);
        history.push(payload(10), 1000 * 900, true, end);
        assert!((795..=805).contains(&history.first()), "{}", history.first());
        for n in 0..20_000u32 {
            history.push(payload(1000), 2_000_000 + n, n == 0, end);
            assert!(history.bytes <= MAX_BYTES);
        }
        assert_eq!(history.key(), None, "it had no room");
        history.skip(u64::MAX, end);
        assert!(history.newest().is_some_and(|entry| entry.payload.is_none()));
        assert!(history.bytes <= MAX_BYTES && Bytes::new().is_empty());
    }
}
