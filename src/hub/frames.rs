//! Frames as they are, for whoever builds something of them: segments, recordings, other protocols' packets.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use crate::media::{Frame, Meta, Track};

/// The most items that wait for one reader of frames, whatever their bytes.
const MAX_ITEMS: usize = 16_384;

/// What a stream tells a reader of its frames.
#[derive(Debug, Clone)]
pub enum Item {
    /// What follows is of these tracks. Comes first, when tracks or words change, and with each publisher.
    Tracks {
        /// The stream's tracks, in order of appearance.
        tracks: Arc<[Track]>,
        /// What the publisher says of it.
        meta: Arc<Meta>,
        /// Counts the stream's publishers, from 1.
        epoch: u64,
        /// When its next frame is due on the stream's timeline, in milliseconds.
        at_ms: i64,
    },
    /// A frame. Its track is one of those told last.
    Frame(Frame),
    /// The reader was too slow: so many frames are lost. The next frame is one that decoders can start at.
    Lagged(u64),
    /// The publisher has left; another may come within the grace period.
    Left,
}

/// A reader of frames, from the newest key frame of the stream on; [`Hub::frames`](super::Hub::frames) makes one. It holds
/// nothing: a stream ends without regard to it.
#[derive(Debug)]
pub struct Frames {
    queue: Arc<Queue>,
}

impl Frames {
    /// This reader has no use for what is made for others only ([`Publisher::is_read`](super::Publisher::is_read)).
    #[must_use]
    pub fn aside(self) -> Self {
        self.queue.aside.store(true, Ordering::Relaxed);
        self
    }

    /// What comes next; waits until there is something. `None`: the stream has ended. Safe to cancel.
    pub async fn next(&mut self) -> Option<Item> {
        loop {
            let grown = self.queue.grown.notified();
            tokio::pin!(grown);
            grown.as_mut().enable();
            {
                let mut inner = self.queue.lock();
                if let Some(item) = inner.take() {
                    return Some(item);
                }
                if inner.ended {
                    return None;
                }
            }
            grown.await;
        }
    }

    /// What is there already; `None` when there is nothing at this moment.
    pub fn ready(&mut self) -> Option<Item> {
        self.queue.lock().take()
    }
}

/// What waits for one reader. Bounded: a reader that is slower than the stream loses frames up to a key frame.
#[derive(Debug)]
pub(super) struct Queue {
    inner: Mutex<Inner>,
    grown: Notify,
    /// The most bytes of frames in it.
    bytes: usize,
    /// Its reader does not count where it is asked whether there are any.
    aside: AtomicBool,
}

#[derive(Debug)]
struct Inner {
    items: VecDeque<Item>,
    bytes: usize,
    /// Given out only once it is known which tracks there are.
    open: bool,
    /// The tracks told at the start of this epoch were not given out yet: what is added to them joins them.
    gathering: bool,
    /// Frames lost since the reader fell behind; it waits for one to start at.
    lost: u64,
    ended: bool,
}

impl Queue {
    pub(super) fn new(bytes: usize) -> Arc<Self> {
        let inner =
            Inner { items: VecDeque::new(), bytes: 0, open: false, gathering: true, lost: 0, ended: false };
        Arc::new(Self {
            inner: Mutex::new(inner),
            grown: Notify::new(),
            bytes,
            aside: AtomicBool::new(false),
        })
    }

    pub(super) fn reader(self: &Arc<Self>) -> Frames {
        Frames { queue: Arc::clone(self) }
    }

    pub(super) fn is_aside(&self) -> bool {
        self.aside.load(Ordering::Relaxed)
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// New tracks or words. `grown`: all that was told before is still so, some tracks were added.
    pub(super) fn tracks(
        &self,
        tracks: &Arc<[Track]>,
        meta: &Arc<Meta>,
        epoch: u64,
        at_ms: i64,
        grown: bool,
    ) {
        if tracks.is_empty() {
            return;
        }
        let mut inner = self.lock();
        if inner.gathering && grown {
            // Not at the end of the queue: the frames that came meanwhile are of these tracks, too.
            let told = inner.items.iter_mut().rev().find(|item| matches!(item, Item::Tracks { .. }));
            if let Some(Item::Tracks { tracks: told_tracks, meta: told_meta, epoch: of, .. }) = told
                && *of == epoch
            {
                (*told_tracks, *told_meta) = (tracks.clone(), meta.clone());
                return;
            }
        }
        // One such item is enough where frames between them were lost.
        if inner.lost > 0 && matches!(inner.items.back(), Some(Item::Tracks { .. })) {
            inner.items.pop_back();
        }
        inner.items.push_back(Item::Tracks { tracks: tracks.clone(), meta: meta.clone(), epoch, at_ms });
        self.wake(&inner);
    }

    /// A frame; `join`: a reader can start at it.
    pub(super) fn frame(&self, frame: &Frame, join: bool) {
        let mut inner = self.lock();
        if inner.lost > 0 {
            if !join {
                inner.lost += 1;
                return;
            }
            let lost = std::mem::take(&mut inner.lost);
            inner.items.push_back(Item::Lagged(lost));
        }
        inner.bytes += frame.data.len();
        inner.items.push_back(Item::Frame(frame.clone()));
        if inner.items.len() > 1 && (inner.bytes > self.bytes || inner.items.len() > MAX_ITEMS) {
            inner.overflow();
        }
        self.wake(&inner);
    }

    /// The publisher has left.
    pub(super) fn left(&self) {
        let mut inner = self.lock();
        if !matches!(inner.items.back(), Some(Item::Left)) {
            inner.items.push_back(Item::Left);
        }
        // What was held back until all tracks are known will not get more.
        inner.open = true;
        self.wake(&inner);
    }

    /// Whether it is known which tracks there are.
    pub(super) fn open(&self, open: bool) {
        let mut inner = self.lock();
        if !open {
            inner.gathering = true;
        }
        inner.open = open;
        self.wake(&inner);
    }

    pub(super) fn end(&self) {
        let mut inner = self.lock();
        (inner.ended, inner.open) = (true, true);
        self.wake(&inner);
    }

    fn wake(&self, inner: &Inner) {
        if inner.open {
            self.grown.notify_waiters();
        }
    }
}

impl Inner {
    fn take(&mut self) -> Option<Item> {
        // Of an epoch whose tracks are not known yet nothing is given, but of the one before everything is.
        let newest = |item: &Item| matches!(item, Item::Tracks { .. });
        let held = !self.open
            && match self.items.iter().rposition(newest) {
                Some(place) => place == 0,
                None => true,
            };
        if held {
            return None;
        }
        let item = self.items.pop_front()?;
        match &item {
            Item::Frame(frame) => self.bytes -= frame.data.len(),
            Item::Tracks { .. } if self.open => self.gathering = false,
            _ => {}
        }
        Some(item)
    }

    /// Drops all frames; what was told of tracks stays, the newest of each epoch.
    fn overflow(&mut self) {
        let frames = self.items.iter().filter(|item| matches!(item, Item::Frame(_))).count();
        let lagged = |item: &Item| if let Item::Lagged(n) = item { *n } else { 0 };
        self.lost += frames as u64 + self.items.iter().map(lagged).sum::<u64>();
        self.bytes = 0;
        let mut told = None;
        let mut left = false;
        for item in self.items.drain(..) {
            match item {
                Item::Tracks { .. } => told = Some(item),
                Item::Left => left = true,
                Item::Frame(_) | Item::Lagged(_) => {}
            }
        }
        if left {
            self.items.push_back(Item::Left);
        }
        self.items.extend(told);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::media::{Codec, Flags, TrackId};
    use bytes::Bytes;

    fn frame(dts: i64, len: usize) -> Frame {
        let data = Bytes::from(vec![0; len]);
        Frame { track: TrackId(0), flags: Flags::NONE, dts, cts: 0, wall_ms: None, data }
    }

    fn tracks(n: u8) -> Arc<[Track]> {
        (0..n).map(|id| Track::new(TrackId(id), Codec::Opus)).collect()
    }

    fn text(frames: &mut Frames) -> String {
        let mut text = String::new();
        while let Some(item) = frames.ready() {
            text += &match item {
                Item::Tracks { tracks, epoch, .. } => format!("[{}:{epoch}]", tracks.len()),
                Item::Frame(frame) => format!(" {}", frame.dts),
                Item::Lagged(n) => format!(" lost{n}"),
                Item::Left => " left".to_owned(),
            };
        }
        text
    }

    #[test]
    fn tracks_that_come_one_by_one_are_told_at_once() {
        let queue = Queue::new(1000);
        let mut frames = queue.reader();
        let meta = Arc::default();
        queue.tracks(&tracks(1), &meta, 1, 0, false);
        queue.frame(&frame(0, 10), true);
        queue.tracks(&tracks(2), &meta, 1, 0, true);
        queue.frame(&frame(1, 10), true);
        assert_eq!(text(&mut frames), "");
        queue.open(true);
        assert_eq!(text(&mut frames), "[2:1] 0 1");
        queue.tracks(&tracks(3), &meta, 1, 0, true);
        assert_eq!(text(&mut frames), "[3:1]", "later ones are a change");
    }

    #[test]
    fn the_next_epoch_is_held_back_until_its_tracks_are_known_and_the_last_one_is_not() {
        let queue = Queue::new(1000);
        let mut frames = queue.reader();
        let meta = Arc::default();
        queue.tracks(&tracks(1), &meta, 1, 0, false);
        queue.open(true);
        queue.frame(&frame(0, 10), true);
        queue.left();
        queue.open(false);
        queue.tracks(&tracks(1), &meta, 2, 0, false);
        queue.frame(&frame(5, 10), true);
        assert_eq!(text(&mut frames), "[1:1] 0 left");
        queue.open(true);
        assert_eq!(text(&mut frames), "[1:2] 5");
    }

    #[test]
    fn a_slow_reader_loses_whole_groups_and_is_told() {
        let queue = Queue::new(100);
        let mut frames = queue.reader();
        queue.tracks(&tracks(1), &Arc::default(), 1, 0, false);
        queue.open(true);
        for n in 0..25 {
            queue.frame(&frame(n, 10), n % 8 == 0);
        }
        assert_eq!(text(&mut frames), "[1:1] lost16 16 17 18 19 20 21 22 23 24");
        queue.frame(&frame(25, 500), false);
        assert_eq!(text(&mut frames), " 25", "one frame may be larger than the limit");
        queue.end();
        assert!(queue.lock().ended);
    }
}
