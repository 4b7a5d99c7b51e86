//! A ring of what a stream last carried, bounded by bytes and by time, that knows where a reader can start.

use std::collections::VecDeque;
use std::time::Duration;

/// What a ring keeps of one item.
pub(super) trait Item {
    /// Its size in bytes.
    fn size(&self) -> usize;
    /// Its decoding time on the stream's timeline, in milliseconds.
    fn at_ms(&self) -> i64;
    /// Whether a reader can start at it.
    fn join(&self) -> bool;
}

/// How much a ring may hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Limits {
    /// Never more bytes than this (but for a single item that is larger).
    pub(super) bytes: usize,
    /// What is older than this goes, unless a reader would start there.
    pub(super) time: Duration,
    /// Never more items than this: tiny frames cost more in bookkeeping than in payload.
    pub(super) items: usize,
}

/// Items by sequence number. The first has number [`Ring::first`]; numbers never repeat.
#[derive(Debug)]
pub(super) struct Ring<T> {
    items: VecDeque<T>,
    first: u64,
    bytes: usize,
    join: Option<u64>,
}

impl<T: Item> Ring<T> {
    pub(super) fn new() -> Self {
        Self { items: VecDeque::new(), first: 0, bytes: 0, join: None }
    }

    /// The number of the oldest item.
    pub(super) fn first(&self) -> u64 {
        self.first
    }

    /// The number that the next item will get.
    pub(super) fn end(&self) -> u64 {
        self.first + self.items.len() as u64
    }

    /// The newest item a reader can start at.
    pub(super) fn join(&self) -> Option<u64> {
        self.join
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(super) fn item(&self, number: u64) -> Option<&T> {
        self.items.get(usize::try_from(number.checked_sub(self.first)?).ok()?)
    }

    /// The items from `number` on, or from the oldest one if that is gone.
    pub(super) fn since(&self, number: u64) -> impl Iterator<Item = &T> {
        let skip = usize::try_from(number.saturating_sub(self.first)).unwrap_or(usize::MAX);
        self.items.range(skip.min(self.items.len())..)
    }

    pub(super) fn push(&mut self, item: T, limits: &Limits) {
        self.bytes += item.size();
        let newest = item.at_ms();
        if item.join() {
            self.join = Some(self.end());
        }
        self.items.push_back(item);
        let span = i64::try_from(limits.time.as_millis()).unwrap_or(i64::MAX);
        while let Some(oldest) = self.items.front() {
            let old = newest.saturating_sub(oldest.at_ms()) > span
                && self.join.is_none_or(|join| self.first < join);
            let full = self.bytes > limits.bytes || self.items.len() > limits.items;
            if !(old || full) || self.items.len() == 1 {
                break;
            }
            self.pop();
        }
    }

    /// Drops items before `number`: a mirror follows the ring it copies.
    pub(super) fn trim_to(&mut self, number: u64) {
        while self.first < number && self.pop() {}
        if self.items.is_empty() {
            self.first = self.first.max(number);
        }
    }

    /// Adds without trimming, where another ring decides what goes.
    pub(super) fn copy(&mut self, item: T) {
        self.bytes += item.size();
        self.items.push_back(item);
    }

    /// A reader can start at `number`, if that is still here.
    pub(super) fn mark(&mut self, number: u64) {
        if (self.first..self.end()).contains(&number) && self.join.is_none_or(|join| join < number) {
            self.join = Some(number);
        }
    }

    /// No reader starts at what is here now: its config is gone.
    pub(super) fn forget_join(&mut self) {
        self.join = None;
    }

    pub(super) fn clear(&mut self) {
        while self.pop() {}
        self.items = VecDeque::new();
    }

    fn pop(&mut self) -> bool {
        let Some(item) = self.items.pop_front() else { return false };
        self.bytes -= item.size();
        if self.join == Some(self.first) {
            self.join = None;
        }
        self.first += 1;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    impl Item for (usize, i64, bool) {
        fn size(&self) -> usize {
            self.0
        }
        fn at_ms(&self) -> i64 {
            self.1
        }
        fn join(&self) -> bool {
            self.2
        }
    }

    const LIMITS: Limits = Limits { bytes: 1000, time: Duration::from_millis(100), items: 50 };

    #[test]
    fn keeps_the_newest_group_and_what_is_young() {
        let mut ring = Ring::new();
        for n in 0..40 {
            ring.push((10, n * 10, n % 8 == 0), &LIMITS);
        }
        assert_eq!((ring.join(), ring.end()), (Some(32), 40));
        assert_eq!(ring.first(), 29, "100 ms back from 390 ms");
        // A group longer than the time limit stays whole.
        for n in 40..60 {
            ring.push((10, n * 10, false), &LIMITS);
        }
        assert_eq!((ring.first(), ring.join()), (32, Some(32)));
    }

    #[test]
    fn bytes_and_items_are_bounded_whatever_comes() {
        let mut ring = Ring::new();
        for n in 0..200 {
            ring.push((300, n, n == 0), &LIMITS);
            assert!(ring.bytes() <= 1000);
        }
        assert_eq!(ring.join(), None, "the key frame was pushed out");
        let mut ring = Ring::new();
        for n in 0..200 {
            ring.push((0, n, n == 0), &LIMITS);
        }
        assert_eq!(ring.since(0).count(), 50);
        ring.push((5000, 201, true), &LIMITS);
        assert_eq!(
            (ring.since(0).count(), ring.join()),
            (1, Some(200)),
            "one item may be larger than the limit"
        );
    }

    #[test]
    fn a_mirror_follows() {
        let (mut ring, mut mirror) = (Ring::new(), Ring::new());
        for n in 0..100i64 {
            ring.push((30, n * 10, n % 10 == 0), &LIMITS);
            if n % 7 == 0 {
                mirror.trim_to(ring.first());
                for item in ring.since(mirror.end()) {
                    mirror.copy(*item);
                }
                assert_eq!(
                    (mirror.first(), mirror.end(), mirror.bytes()),
                    (ring.first(), ring.end(), ring.bytes())
                );
            }
        }
    }
}
