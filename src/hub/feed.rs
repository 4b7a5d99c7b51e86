//! A feed: a stream in one serialised form, made once for all its readers.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use tokio::sync::Notify;

use super::delivery::Outlet;
use super::entry::{Entry, Parts};
use super::ring::{Limits, Ring};
use super::stream::Stream;
use crate::media::{Frame, Kind, Meta, Track};

/// What a [`Package`] may know of the stream it serialises.
#[derive(Debug, Clone, Copy)]
pub struct StreamInfo<'a> {
    /// Its tracks, in order of appearance.
    pub tracks: &'a [Track],
    /// What the publisher says of it.
    pub meta: &'a Meta,
}

impl<'a> StreamInfo<'a> {
    /// Whether there is a video track.
    #[must_use]
    pub fn has_video(&self) -> bool {
        self.first(Kind::Video).is_some()
    }

    /// Whether there is an audio track.
    #[must_use]
    pub fn has_audio(&self) -> bool {
        self.first(Kind::Audio).is_some()
    }

    /// The first track of a kind: the one that readers without track selection get.
    #[must_use]
    pub fn first(&self, kind: Kind) -> Option<&'a Track> {
        self.tracks.iter().find(|t| t.kind() == kind)
    }
}

/// Whether a new reader can start at an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Join {
    /// Yes.
    Here,
    /// No: it depends on entries before it.
    No,
}

/// Serialises a stream, once for all readers of one [`FeedKey`].
///
/// Each method appends to `out`; what it appends becomes one entry, that readers get whole or not at all.
/// `at_ms` and frame times are on the stream's timeline, which goes on when a publisher comes back.
pub trait Package: Send {
    /// What a reader gets once, before all else (e.g. the FLV file header).
    fn start(&mut self, info: &StreamInfo<'_>, out: &mut Parts);

    /// What a decoder needs before the frame at `at_ms`: given to each reader before its first frame or
    /// when it skips, and to all readers when tracks change.
    fn config(&mut self, info: &StreamInfo<'_>, at_ms: i64, out: &mut Parts);

    /// What readers under way get when only the stream's words changed: decoders need not know.
    fn words(&mut self, _info: &StreamInfo<'_>, _out: &mut Parts) {}

    /// One frame. Appending nothing leaves it out of this feed.
    fn frame(&mut self, info: &StreamInfo<'_>, track: &Track, frame: &Frame, out: &mut Parts) -> Join;

    /// What a reader gets last, when the stream ends.
    fn end(&mut self, info: &StreamInfo<'_>, out: &mut Parts);

    /// Whether readers get the transport stream of a publisher that sends one, by [`pass`](Self::pass), in place of what
    /// would be made of its frames.
    fn passes(&self) -> bool {
        false
    }

    /// Pieces of a publisher's transport stream, which readers get as they are.
    fn pass(&mut self, _pieces: &[Bytes], _out: &mut Parts) {}
}

/// What readers under way must be told of a change.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Announce {
    #[default]
    Nothing,
    /// The words, not the tracks.
    Words,
    /// What decoders start with.
    All,
}

/// Readers with equal keys share a feed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct FeedKey {
    /// The form, e.g. `"flv-chunked"`.
    pub format: &'static str,
    /// What else sets the bytes apart: track selection, chunk size, …
    pub variant: u32,
}

/// Where a reader starts: these entries first, then the ring from `number` on.
pub(super) struct JoinPoint {
    pub(super) number: u64,
    pub(super) start: Arc<Entry>,
    pub(super) config: Arc<Entry>,
}

pub(super) struct Feed {
    pub(super) key: FeedKey,
    pub(super) stream: Arc<Stream>,
    inner: Mutex<Inner>,
    /// Wakes readers that wait in [`Subscription::next`](super::Subscription::next).
    pub(super) grown: Notify,
}

pub(super) struct Inner {
    package: Box<dyn Package>,
    pub(super) ring: Ring<Arc<Entry>>,
    limits: Limits,
    tracks: Arc<[Track]>,
    meta: Arc<Meta>,
    /// Readers start only once it is known which tracks there are.
    open: bool,
    start: Option<Arc<Entry>>,
    config: Option<(u64, Arc<Entry>)>,
    pub(super) end: Option<Arc<Entry>>,
    outlets: Vec<Outlet>,
    passing: Option<Passing>,
}

/// A publisher's own transport stream goes through.
#[derive(Default)]
struct Passing {
    /// What a reader needs first: PAT and PMT.
    tables: Bytes,
    /// The number of the last piece, and of its entry.
    last: (u64, u64),
}

impl Feed {
    pub(super) fn new(key: FeedKey, stream: Arc<Stream>, package: Box<dyn Package>, limits: Limits) -> Self {
        let inner = Inner {
            package,
            ring: Ring::new(),
            limits,
            tracks: Arc::new([]),
            meta: Arc::default(),
            open: false,
            start: None,
            config: None,
            end: None,
            outlets: Vec::new(),
            passing: None,
        };
        Self { key, stream, inner: Mutex::new(inner), grown: Notify::new() }
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes how much may be kept, from the next entry on.
    pub(super) fn limit(&self, limits: Limits) {
        self.lock().limits = limits;
    }

    /// Tells readers that there is something new.
    pub(super) fn wake(&self, inner: &Inner) {
        for outlet in &inner.outlets {
            outlet.arm();
        }
        self.grown.notify_waiters();
    }

    /// Serialises one frame and tells the readers. `keyless`: the stream has had no key frame for so long
    /// that readers may start anywhere.
    pub(super) fn frame(&self, track: &Track, frame: &Frame, keyless: bool) {
        let mut inner = self.lock();
        if inner.passing.is_some() {
            return;
        }
        let (tracks, meta) = (inner.tracks.clone(), inner.meta.clone());
        let mut out = Parts::default();
        let join = inner.package.frame(&StreamInfo { tracks: &tracks, meta: &meta }, track, frame, &mut out);
        if out.is_empty() {
            return;
        }
        inner.push(out, track.ticks_to_ms(frame.dts), join == Join::Here || keyless);
        self.wake(&inner);
    }

    /// From now on the publisher's own transport stream is given, if the readers want it, or no longer. Whether it is.
    pub(super) fn set_passing(&self, passing: bool) -> bool {
        let mut inner = self.lock();
        let passing = passing && inner.package.passes();
        if passing != inner.passing.is_some() {
            inner.passing = passing.then(Passing::default);
            inner.config = None;
        }
        passing
    }

    /// What readers of the transport stream need first, from now on.
    pub(super) fn set_tables(&self, tables: &Bytes) {
        let mut inner = self.lock();
        if let Some(passing) = &mut inner.passing {
            passing.tables = tables.clone();
            inner.config = None;
        }
    }

    /// Gives pieces of the publisher's transport stream.
    pub(super) fn pass(&self, number: u64, pieces: &[Bytes], at_ms: i64) {
        let mut inner = self.lock();
        let entry = inner.ring.end();
        let Some(passing) = &mut inner.passing else { return };
        passing.last = (number, entry);
        let mut out = Parts::default();
        inner.package.pass(pieces, &mut out);
        inner.push(out, at_ms, false);
        self.wake(&inner);
    }

    /// A reader can start at what `number` was given with.
    pub(super) fn mark(&self, number: u64) {
        let mut inner = self.lock();
        let Some((last, entry)) = inner.passing.as_ref().map(|passing| passing.last) else { return };
        if let Some(place) = last.checked_sub(number).and_then(|back| entry.checked_sub(back)) {
            inner.ring.mark(place);
            self.wake(&inner);
        }
    }

    /// The stream's tracks or words changed before `at_ms`. `keep_joins`: what is in the ring can still be
    /// decoded by a reader that starts there. `announce`: what readers that are under way must be told.
    pub(super) fn tracks(
        &self,
        tracks: &Arc<[Track]>,
        meta: &Arc<Meta>,
        at_ms: i64,
        keep_joins: bool,
        announce: Announce,
    ) {
        let mut inner = self.lock();
        inner.tracks = tracks.clone();
        inner.meta = meta.clone();
        (inner.start, inner.config) = (None, None);
        if !keep_joins {
            inner.ring.forget_join();
        }
        // Those who get the publisher's own transport stream read it there.
        if tracks.is_empty() || inner.passing.is_some() {
            return;
        }
        let mut out = Parts::default();
        let info = StreamInfo { tracks, meta };
        match announce {
            Announce::Nothing => return,
            Announce::Words => inner.package.words(&info, &mut out),
            Announce::All => inner.package.config(&info, at_ms, &mut out),
        }
        if inner.ring.end() > 0 && !out.is_empty() {
            inner.push(out, at_ms, false);
            self.wake(&inner);
        }
    }

    /// Whether readers may start.
    pub(super) fn open(&self, open: bool) {
        let mut inner = self.lock();
        if inner.open != open {
            inner.open = open;
            self.wake(&inner);
        }
    }

    /// No more frames will come: readers get the trailer and leave.
    pub(super) fn end(&self) {
        let mut inner = self.lock();
        if inner.end.is_some() {
            return;
        }
        let (tracks, meta) = (inner.tracks.clone(), inner.meta.clone());
        let mut out = Parts::default();
        inner.package.end(&StreamInfo { tracks: &tracks, meta: &meta }, &mut out);
        inner.end = Some(Arc::new(out.finish(0, false)));
        self.wake(&inner);
    }
}

impl Inner {
    /// Where a reader can start now, if anywhere.
    pub(super) fn join_point(&mut self) -> Option<JoinPoint> {
        let number = self.ring.join().filter(|_| self.open)?;
        let at_ms = super::ring::Item::at_ms(self.ring.item(number)?);
        let (tracks, meta) = (self.tracks.clone(), self.meta.clone());
        let info = StreamInfo { tracks: &tracks, meta: &meta };
        let start = if let Some(start) = &self.start {
            start.clone()
        } else {
            let mut out = Parts::default();
            self.package.start(&info, &mut out);
            self.start.insert(Arc::new(out.finish(0, false))).clone()
        };
        let config = match &self.config {
            Some((of, config)) if *of == number => config.clone(),
            _ => {
                let mut out = Parts::default();
                match &self.passing {
                    Some(passing) if passing.tables.is_empty() => {}
                    Some(passing) => self.package.pass(std::slice::from_ref(&passing.tables), &mut out),
                    None => self.package.config(&info, at_ms, &mut out),
                }
                self.config.insert((number, Arc::new(out.finish(at_ms, false)))).1.clone()
            }
        };
        Some(JoinPoint { number, start, config })
    }

    /// The stream's tracks, once it is known which there are.
    pub(super) fn open_tracks(&self) -> Option<Arc<[Track]>> {
        (self.open && !self.tracks.is_empty()).then(|| self.tracks.clone())
    }

    pub(super) fn add_outlet(&mut self, outlet: Outlet) {
        self.outlets.push(outlet);
    }

    pub(super) fn remove_outlet(&mut self, outlet: &Outlet) {
        self.outlets.retain(|o| !o.same(outlet));
    }

    fn push(&mut self, out: Parts, at_ms: i64, join: bool) {
        let limits = self.limits;
        self.ring.push(Arc::new(out.finish(at_ms, join)), &limits);
    }
}
