//! Streams on their way to viewers: one task a stream lays each frame into packets once, and sends them to all its viewers.
//!
//! A stream comes either as the hub's frames, or, while a WebRTC publisher sends it, as that one's own packets
//! ([`Passage`]), which come to viewers as they were. Both end up in one history a track; a viewer is a
//! place in it.

mod lane;
mod passage;
mod task;

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use portable_atomic::{AtomicU64, AtomicUsize, Ordering};
use tokio::sync::Notify;

pub use self::passage::Passage;
use self::passage::Passing;
use super::endpoint::{Endpoint, Peer};
use super::negotiated::Negotiated;
use super::viewer::Tracks;
use crate::hub::{Attendance, Hub, StreamName};
use crate::media::Kind;

/// Packets that a viewer asks for again, and that wait for their turn; more are not heard.
const MAX_ASKED: usize = 256;
/// What viewers say wakes a stream's task at most so often: each time, it looks at all of them.
const HEAR: Duration = Duration::from_millis(5);
/// A viewer that asks for key frames again and again is heard once in this time, after the first two. They cost all viewers.
const KEY_EVERY: Duration = Duration::from_secs(3);

/// How frames become packets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FanoutOptions {
    /// Whether frames of publishers of other protocols are sent at all.
    pub from_others: bool,
    /// Whether pictures that are shown before others that came earlier (B-frames) are sent, even where nothing depends on them.
    pub keep_b_frames: bool,
}

/// All streams that have WebRTC viewers. Clones are the same.
#[derive(Clone)]
pub struct Fanouts {
    inner: Arc<Inner>,
}

struct Inner {
    hub: Hub,
    endpoint: Endpoint,
    streams: Mutex<HashMap<StreamName, Arc<Fanout>>>,
    passages: Mutex<HashMap<StreamName, Arc<Passing>>>,
    ids: AtomicUsize,
}

/// A stream with viewers, as its task and everybody else knows it.
pub(super) struct Fanout {
    name: StreamName,
    options: FanoutOptions,
    inbox: Mutex<Inbox>,
    wake: Notify,
    /// When a viewer woke the task.
    heard: Mutex<Option<Instant>>,
    figures: Figures,
}

/// What the task is asked to do.
#[derive(Default)]
struct Inbox {
    commands: Vec<Command>,
    /// Seats that are taken, or about to be.
    users: usize,
    /// The task has ended.
    closed: bool,
}

enum Command {
    Join(Box<Viewer>),
    Leave(usize, String),
}

#[derive(Default)]
struct Figures {
    viewers: AtomicUsize,
    dropped_b_frames: AtomicU64,
    resent: AtomicU64,
    words: Mutex<Vec<String>>,
}

/// What is known of a stream's viewers.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct FanoutStatus {
    /// Viewers that are connected.
    pub viewers: usize,
    /// B-frames that were left out.
    pub dropped_b_frames: u64,
    /// Packets that were sent again.
    pub resent: u64,
    /// What a user should know, e.g. that viewers get no sound.
    pub words: Vec<String>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A viewer, as the stream's task has it.
struct Viewer {
    id: usize,
    peer: Peer,
    tracks: Tracks,
    feedback: Arc<Feedback>,
    attendance: Attendance,
    gone: Arc<Notify>,
}

/// What a viewer says; written by the endpoint's task, read by the stream's.
#[derive(Default)]
pub(super) struct Feedback {
    heard: Mutex<Heard>,
}

#[derive(Debug, Default)]
struct Heard {
    /// Sources, and numbers of packets that are missing.
    missing: VecDeque<(u32, u16)>,
    wants_key: bool,
    /// Until when it has asked for as many key frames as it may.
    keys: Option<Instant>,
    said: Said,
}

/// What a viewer has said of what it gets.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Said {
    /// The bit rate that its way seems to bear, if it says so (REMB).
    pub bitrate: Option<u64>,
    /// Of 256 packets, so many were lost lately.
    pub fraction_lost: u8,
    /// There and back, in microseconds.
    pub round_trip_us: Option<u64>,
}

impl Feedback {
    /// What was said last.
    pub(super) fn said(&self) -> Said {
        lock(&self.heard).said
    }

    pub(super) fn note(&self, change: impl FnOnce(&mut Said)) {
        change(&mut lock(&self.heard).said);
    }

    /// Packets are missing.
    pub(super) fn ask(&self, ssrc: u32, numbers: impl Iterator<Item = u16>) {
        let mut heard = lock(&self.heard);
        for number in numbers {
            if heard.missing.len() >= MAX_ASKED {
                break;
            }
            heard.missing.push_back((ssrc, number));
        }
    }

    /// A key frame is wanted. Whether that is heard.
    pub(super) fn ask_key(&self, now: Instant) -> bool {
        let mut heard = lock(&self.heard);
        let from = heard.keys.map_or(now, |until| until.max(now));
        let may = from.saturating_duration_since(now) <= KEY_EVERY;
        if may {
            heard.keys = Some(from + KEY_EVERY);
            heard.wants_key = true;
        }
        may
    }
}

/// A viewer's place; left when dropped.
pub(super) struct Seat {
    fanout: Arc<Fanout>,
    id: usize,
    joined: bool,
}

impl Seat {
    /// The stream.
    pub(super) fn fanout(&self) -> Arc<Fanout> {
        self.fanout.clone()
    }

    /// From now on it is sent what the stream has. `gone` is notified when the stream has ended.
    pub(super) fn join(
        &mut self,
        peer: Peer,
        negotiated: &Negotiated,
        feedback: Arc<Feedback>,
        attendance: Attendance,
        gone: Arc<Notify>,
    ) {
        let tracks = Tracks::new(negotiated, Instant::now());
        let viewer = Viewer { id: self.id, peer, tracks, feedback, attendance, gone };
        self.joined = true;
        lock(&self.fanout.inbox).commands.push(Command::Join(Box::new(viewer)));
        self.fanout.wake.notify_one();
    }

    /// The end; `why` stands in the log.
    pub(super) fn leave(mut self, why: String) {
        self.go(why);
    }

    fn go(&mut self, why: String) {
        if std::mem::take(&mut self.joined) {
            lock(&self.fanout.inbox).commands.push(Command::Leave(self.id, why));
            self.fanout.wake.notify_one();
        }
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.go("closed".to_owned());
        let mut inbox = lock(&self.fanout.inbox);
        inbox.users = inbox.users.saturating_sub(1);
    }
}

impl Fanout {
    /// A viewer said something. Where another just did, the task looks again by itself.
    pub(super) fn hear(&self, now: Instant) {
        let mut heard = lock(&self.heard);
        if heard.is_none_or(|at| now.saturating_duration_since(at) >= HEAR) {
            *heard = Some(now);
            self.wake.notify_one();
        }
    }

    /// Words for the user; once each.
    fn tell(&self, words: &str) {
        let mut all = lock(&self.figures.words);
        if all.len() < 8 && !all.iter().any(|other| other == words) {
            all.push(words.to_owned());
            log::warn!("{} for WebRTC viewers: {words}", self.name);
        }
    }
}

impl Fanouts {
    /// None yet.
    #[must_use]
    pub fn new(hub: Hub, endpoint: Endpoint) -> Self {
        let inner = Inner {
            hub,
            endpoint,
            streams: Mutex::default(),
            passages: Mutex::default(),
            ids: AtomicUsize::new(0),
        };
        Self { inner: Arc::new(inner) }
    }

    /// A place for a viewer of a stream; the stream's task begins with the first. Must be called inside a tokio runtime.
    pub(super) fn seat(&self, name: &StreamName, options: FanoutOptions) -> Seat {
        let id = self.inner.ids.fetch_add(1, Ordering::Relaxed);
        let mut streams = lock(&self.inner.streams);
        if let Some(fanout) = streams.get(name) {
            let mut inbox = lock(&fanout.inbox);
            if !inbox.closed {
                inbox.users += 1;
                drop(inbox);
                return Seat { fanout: fanout.clone(), id, joined: false };
            }
        }
        let fanout = Arc::new(Fanout {
            name: name.clone(),
            options,
            inbox: Mutex::new(Inbox { users: 1, ..Inbox::default() }),
            wake: Notify::new(),
            heard: Mutex::default(),
            figures: Figures::default(),
        });
        streams.insert(name.clone(), fanout.clone());
        tokio::spawn(task::Task::new(self.clone(), fanout.clone()).run());
        Seat { fanout, id, joined: false }
    }

    /// A way for a publisher's own packets of `name`, until it is dropped.
    #[must_use]
    pub fn passage(&self, name: &StreamName) -> Passage {
        let passing = Arc::new(Passing::default());
        lock(&self.inner.passages).insert(name.clone(), passing.clone());
        self.wake(name);
        Passage::new(self.clone(), name.clone(), passing)
    }

    fn passing(&self, name: &StreamName) -> Option<Arc<Passing>> {
        lock(&self.inner.passages).get(name).cloned()
    }

    fn end_passage(&self, name: &StreamName, passing: &Arc<Passing>) {
        let mut passages = lock(&self.inner.passages);
        if passages.get(name).is_some_and(|other| Arc::ptr_eq(other, passing)) {
            passages.remove(name);
        }
        drop(passages);
        self.wake(name);
    }

    fn wake(&self, name: &StreamName) {
        if let Some(fanout) = lock(&self.inner.streams).get(name) {
            fanout.wake.notify_one();
        }
    }

    /// How the viewers of a stream fare; `None`: it has none.
    #[must_use]
    pub fn status(&self, name: &StreamName) -> Option<FanoutStatus> {
        let fanout = lock(&self.inner.streams).get(name).cloned()?;
        let figures = &fanout.figures;
        Some(FanoutStatus {
            viewers: figures.viewers.load(Ordering::Relaxed),
            dropped_b_frames: figures.dropped_b_frames.load(Ordering::Relaxed),
            resent: figures.resent.load(Ordering::Relaxed),
            words: lock(&figures.words).clone(),
        })
    }
}

/// Tracks are told apart by what they are to a viewer: it has one picture and one sound.
const KINDS: [Kind; 2] = [Kind::Audio, Kind::Video];

#[cfg(test)]
#[path = "fanout_tests.rs"]
mod tests;
