//! Viewers of what is fetched piece by piece (segments): who asks for the pieces under one id is one player.

use std::collections::HashMap;
use std::fmt;
use std::hash::{BuildHasher, RandomState};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::{Attendance, StreamName};

/// The most viewers that are counted at once. More are served, too: who was idle for longest is counted out, and in again
/// when it asks for something.
const MOST: usize = 16_384;

/// How long the words of an id are.
const LEN: usize = 16;

/// Names a viewer. Ids of a run can't be guessed from others.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct ViewerId([u8; LEN]);

impl ViewerId {
    /// What a client sent, if it has the form of an id.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let id: [u8; LEN] = text.as_bytes().try_into().ok()?;
        id.iter().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit()).then_some(Self(id))
    }

    /// As it stands in links.
    #[must_use]
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).unwrap_or_default()
    }
}

impl fmt::Debug for ViewerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// All viewers.
pub struct Viewers {
    table: Mutex<Table>,
    most: usize,
}

#[derive(Default)]
struct Table {
    viewers: HashMap<ViewerId, Viewer>,
    count: u64,
    /// Keyed by the operating system's random numbers.
    hasher: RandomState,
}

/// How a viewer stands with us.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// An operator ended it.
    Ended,
    /// It was admitted.
    Known,
    /// It has to be admitted first.
    New,
}

struct Viewer {
    /// `None`: an operator ended it, which is remembered for as long as it tries.
    attendance: Option<Attendance>,
    stream: StreamName,
    last: Instant,
    /// It is gone when it has asked for nothing for so long.
    patience: Duration,
}

impl Default for Viewers {
    fn default() -> Self {
        Self::new(MOST)
    }
}

impl Viewers {
    /// For at most so many.
    fn new(most: usize) -> Self {
        Self { table: Mutex::default(), most: most.max(1) }
    }

    /// An id that nobody has.
    #[must_use]
    pub fn new_id(&self) -> ViewerId {
        let mut table = self.table.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            table.count = table.count.wrapping_add(1);
            let mut id = [b'0'; LEN];
            for (half, digits) in id.chunks_mut(LEN / 2).enumerate() {
                let mut n = table.hasher.hash_one((table.count, half));
                for digit in digits {
                    *digit = *b"0123456789abcdefghijklmnopqrstuv".get((n % 32) as usize).unwrap_or(&b'0');
                    n /= 32;
                }
            }
            let id = ViewerId(id);
            if !table.viewers.contains_key(&id) {
                return id;
            }
        }
    }

    /// A viewer of `stream` asks for something: whether it may.
    pub fn seen(&self, id: ViewerId, stream: &StreamName, now: Instant) -> Standing {
        let mut table = self.table.lock().unwrap_or_else(PoisonError::into_inner);
        match table.viewers.get_mut(&id) {
            Some(viewer) if viewer.stream == *stream => {
                viewer.last = viewer.last.max(now);
                if viewer.attendance.is_some() { Standing::Known } else { Standing::Ended }
            }
            _ => Standing::New,
        }
    }

    /// Counts a viewer in that was admitted. It is gone when it asks for nothing for as long as `patience`.
    pub fn enter(&self, id: ViewerId, attendance: Attendance, patience: Duration, now: Instant) {
        let stream = attendance.stream().clone();
        let mut gone = Vec::new();
        let mut table = self.table.lock().unwrap_or_else(PoisonError::into_inner);
        // The same id for another stream: a viewer has one each.
        gone.extend(table.viewers.remove(&id));
        if table.viewers.len() >= self.most {
            gone.append(&mut table.make_room());
        }
        table.viewers.insert(id, Viewer { attendance: Some(attendance), stream, last: now, patience });
        drop(table);
        finish(gone, "other viewers take its place", now);
    }

    /// Ends whom an operator ended.
    pub(super) fn end_ended(&self, now: Instant) {
        let mut table = self.table.lock().unwrap_or_else(PoisonError::into_inner);
        let is_ended = |attendance: &mut Attendance| attendance.ended().is_some();
        let viewers = table.viewers.values_mut();
        let gone: Vec<_> = viewers.filter_map(|viewer| viewer.attendance.take_if(is_ended)).collect();
        drop(table);
        gone.into_iter().for_each(|attendance| attendance.finish("", now));
    }

    /// Whether this viewer is counted at present.
    #[must_use]
    pub fn knows(&self, id: ViewerId) -> bool {
        self.table.lock().unwrap_or_else(PoisonError::into_inner).viewers.contains_key(&id)
    }

    /// Counts what a viewer was sent. Of one that isn't known nothing is counted.
    pub fn sent(&self, id: ViewerId, bytes: u64, now: Instant) {
        let mut table = self.table.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(viewer) = table.viewers.get_mut(&id) {
            viewer.last = viewer.last.max(now);
            if let Some(attendance) = &viewer.attendance {
                attendance.add_sent(usize::try_from(bytes).unwrap_or(usize::MAX));
            }
        }
    }

    /// Counts out who has been idle for too long.
    pub(super) fn expire(&self, now: Instant) {
        let mut table = self.table.lock().unwrap_or_else(PoisonError::into_inner);
        let idle = |viewer: &mut Viewer| now.saturating_duration_since(viewer.last) >= viewer.patience;
        let gone: Vec<_> = table.viewers.extract_if(|_, viewer| idle(viewer)).collect();
        if table.viewers.len() * 4 < table.viewers.capacity() {
            table.viewers.shrink_to_fit();
        }
        drop(table);
        finish(gone.into_iter().map(|(_, viewer)| viewer), "asked for nothing more", now);
    }

    /// Counts all out: the server stops.
    pub(super) fn finish(&self, now: Instant) {
        let mut table = self.table.lock().unwrap_or_else(PoisonError::into_inner);
        let all = std::mem::take(&mut table.viewers);
        drop(table);
        finish(all.into_values(), "the server is stopping", now);
    }

    /// How many there are.
    #[cfg(test)]
    fn len(&self) -> usize {
        self.table.lock().unwrap().viewers.len()
    }
}

impl Table {
    /// Takes out the sixteenth that was idle for longest: a search through all is too much for each newcomer.
    fn make_room(&mut self) -> Vec<Viewer> {
        let mut times: Vec<_> = self.viewers.values().map(|viewer| viewer.last).collect();
        let place = (times.len() / 16).min(times.len().saturating_sub(1));
        let (_, oldest, _) = times.select_nth_unstable(place);
        let (oldest, mut most) = (*oldest, place + 1);
        let old = |viewer: &Viewer| {
            let is_old = most > 0 && viewer.last <= oldest;
            most -= usize::from(is_old);
            is_old
        };
        let mut old = old;
        self.viewers.extract_if(|_, viewer| old(viewer)).map(|(_, viewer)| viewer).collect()
    }
}

fn finish(viewers: impl IntoIterator<Item = Viewer>, why: &str, now: Instant) {
    for attendance in viewers.into_iter().filter_map(|viewer| viewer.attendance) {
        attendance.finish(why, now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Shared;
    use crate::hub::{Action, Client, ClientKind, Hub};
    use crate::id::SessionId;

    const MINUTE: Duration = Duration::from_secs(60);

    fn client(kind: ClientKind) -> Client {
        Client::new(SessionId::next(), kind, ([127, 0, 0, 1], 1).into())
    }

    struct Scene {
        hub: Hub,
        name: StreamName,
        _publisher: crate::hub::Publisher,
        sessions: Viewers,
        now: Instant,
    }

    impl Scene {
        fn new(most: usize) -> Self {
            let (hub, now) = (Hub::new(Shared::default()), Instant::now());
            let name = hub.name("", "live", "demo").unwrap();
            let publisher = hub.publish_now(&name, client(ClientKind::FmlePublish), now).unwrap();
            Self { hub, name, _publisher: publisher, sessions: Viewers::new(most), now }
        }

        fn seen(&self, id: ViewerId, now: Instant) {
            if self.sessions.seen(id, &self.name, now) == Standing::New {
                let client = client(ClientKind::HlsPlay);
                let admission = self.hub.admit_now(Action::Play, &self.name, client).unwrap();
                self.sessions.enter(id, self.hub.attend(admission, now).unwrap(), MINUTE, now);
            }
        }

        fn players(&self) -> usize {
            self.hub.sessions() - 1
        }
    }

    #[test]
    fn viewers_are_counted_once_and_expire() {
        let scene = Scene::new(100);
        let (a, b) = (scene.sessions.new_id(), scene.sessions.new_id());
        assert_ne!(a, b);
        assert_eq!(ViewerId::parse(a.as_str()), Some(a));
        scene.seen(a, scene.now);
        scene.seen(a, scene.now);
        scene.seen(b, scene.now);
        assert_eq!(scene.players(), 2);
        let later = scene.now + MINUTE;
        scene.sessions.sent(b, 1000, later - Duration::from_secs(1));
        scene.sessions.expire(later);
        assert_eq!(scene.players(), 1);
        scene.seen(a, later);
        assert_eq!(scene.players(), 2, "it comes back under its id");
        scene.sessions.expire(later + 2 * MINUTE);
        assert_eq!(scene.players(), 0);
    }

    #[test]
    fn there_are_never_more_than_may_be() {
        let scene = Scene::new(32);
        let mut ids = Vec::new();
        for n in 0..1000 {
            let id = scene.sessions.new_id();
            scene.seen(id, scene.now + Duration::from_millis(n));
            ids.push(id);
            assert!(scene.sessions.len() <= 32 && scene.players() == scene.sessions.len());
        }
        // All at one moment, too.
        for _ in 0..100 {
            scene.seen(scene.sessions.new_id(), scene.now);
            assert!(scene.sessions.len() <= 32);
        }
    }

    #[test]
    fn what_is_no_id_is_refused() {
        for text in [
            "",
            "x",
            "0123456789abcde",
            "0123456789abcdefg",
            "0123456789ABCDEF",
            "0123456789abcd\"f",
            "ü23456789abcdef",
        ] {
            assert_eq!(ViewerId::parse(text), None, "{text}");
        }
    }
}
