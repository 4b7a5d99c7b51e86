//! Who is there: every publisher and reader that was admitted, until it leaves.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use portable_atomic::{AtomicU64, Ordering};

use super::gate::{Action, Ask, Traffic};
use super::stats::Rate;
use super::stream::EndSignal;
use super::{Client, Ended, Hub, StreamName};
use crate::id::SessionId;

/// Readings of a session's rates: fewer than of a stream's, since there are so many more of them.
const SAMPLES: usize = 4;

/// A publisher or reader.
pub(super) struct Session {
    pub(super) ask: Ask,
    since: Instant,
    pub(super) sent: AtomicU64,
    pub(super) received: AtomicU64,
    /// Ends it from outside.
    pub(super) signal: Arc<EndSignal>,
    rates: Mutex<(Rate<SAMPLES>, Rate<SAMPLES>)>,
}

impl Session {
    fn traffic(&self) -> Traffic {
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Traffic { sent: count(&self.sent), received: count(&self.received), time: Some(self.since.elapsed()) }
    }

    fn rates(&self) -> MutexGuard<'_, (Rate<SAMPLES>, Rate<SAMPLES>)> {
        self.rates.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn stats(&self, now: Instant) -> ClientStats {
        let Traffic { sent, received, .. } = self.traffic();
        let rates = self.rates();
        ClientStats {
            client: self.ask.client.clone(),
            name: self.ask.name.clone(),
            stream_id: self.ask.stream_id.clone(),
            action: self.ask.action,
            age: now.saturating_duration_since(self.since),
            sent,
            received,
            kbps_in: rates.0.kbps(received, now),
            kbps_out: rates.1.kbps(sent, now),
        }
    }
}

/// All sessions.
#[derive(Default)]
pub(super) struct Sessions {
    table: Mutex<HashMap<SessionId, Arc<Session>>>,
    admitted: AtomicU64,
    denied: AtomicU64,
    /// What those who left had carried.
    sent: AtomicU64,
    received: AtomicU64,
}

impl Sessions {
    fn table(&self) -> MutexGuard<'_, HashMap<SessionId, Arc<Session>>> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn note_denied(&self) {
        self.denied.fetch_add(1, Ordering::Relaxed);
    }

    /// Lets a session in. One connection may have several at once (HTTP/2): the second gets an id of its own.
    pub(super) fn enter(&self, mut ask: Ask, now: Instant) -> Arc<Session> {
        self.admitted.fetch_add(1, Ordering::Relaxed);
        let mut table = self.table();
        if table.contains_key(&ask.client.id) {
            ask.client.id = SessionId::next();
        }
        let session = Arc::new(Session {
            ask,
            since: now,
            sent: AtomicU64::new(0),
            received: AtomicU64::new(0),
            signal: Arc::default(),
            rates: Mutex::default(),
        });
        table.insert(session.ask.client.id, session.clone());
        session
    }

    pub(super) fn leave(&self, session: &Session) -> Traffic {
        let traffic = session.traffic();
        self.sent.fetch_add(traffic.sent, Ordering::Relaxed);
        self.received.fetch_add(traffic.received, Ordering::Relaxed);
        let mut table = self.table();
        table.remove(&session.ask.client.id);
        if table.len() * 4 < table.capacity() {
            table.shrink_to_fit();
        }
        traffic
    }

    /// Takes readings.
    pub(super) fn tick(&self, now: Instant) {
        for session in self.table().values() {
            let Traffic { sent, received, .. } = session.traffic();
            let mut rates = session.rates();
            rates.0.sample(received, now);
            rates.1.sample(sent, now);
        }
    }

    pub(super) fn all(&self, now: Instant) -> Vec<ClientStats> {
        let mut sessions: Vec<_> = self.table().values().cloned().collect();
        sessions.sort_by_key(|session| session.since);
        sessions.iter().map(|session| session.stats(now)).collect()
    }

    /// Shows what each has carried. Must not block.
    pub(super) fn each(&self, mut show: impl FnMut(&Ask, Traffic)) {
        for session in self.table().values() {
            show(&session.ask, session.traffic());
        }
    }

    pub(super) fn find(&self, id: &str) -> Option<Arc<Session>> {
        self.table().get(&SessionId::parse(id)?).cloned()
    }

    pub(super) fn totals(&self) -> Totals {
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let table = self.table();
        let mut totals = Totals {
            clients: table.len(),
            admitted: count(&self.admitted),
            denied: count(&self.denied),
            sent: count(&self.sent),
            received: count(&self.received),
        };
        for traffic in table.values().map(|session| session.traffic()) {
            totals.sent = totals.sent.saturating_add(traffic.sent);
            totals.received = totals.received.saturating_add(traffic.received);
        }
        totals
    }
}

/// What all sessions have done since the start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Totals {
    /// Publishers and readers there now.
    pub clients: usize,
    /// Publishers and readers that were let in.
    pub admitted: u64,
    /// Those that were refused by a [`Gate`](super::Gate).
    pub denied: u64,
    /// Bytes sent to readers.
    pub sent: u64,
    /// Bytes received from publishers.
    pub received: u64,
}

/// A publisher or reader, at one moment.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct ClientStats {
    /// Who it is.
    pub client: Client,
    /// Its stream.
    pub name: StreamName,
    /// The stream's id.
    pub stream_id: String,
    /// What it does.
    pub action: Action,
    /// How long it has been there.
    pub age: Duration,
    /// Bytes sent to it.
    pub sent: u64,
    /// Bytes received from it.
    pub received: u64,
    /// Received kilobits a second over 30 s.
    pub kbps_in: u64,
    /// Sent kilobits a second over 30 s.
    pub kbps_out: u64,
}

/// The leave to publish or read one stream once. Dropping it, or what was begun with it, ends the session.
pub struct Admission {
    pub(super) session: Arc<Session>,
    hub: Hub,
    /// Whether gates have admitted it, and are told of its end.
    gated: bool,
}

impl Admission {
    pub(super) fn new(session: Arc<Session>, hub: Hub) -> Self {
        Self { session, hub, gated: true }
    }

    /// One that no gate was asked about.
    #[cfg(feature = "relay")]
    pub(super) fn own(session: Arc<Session>, hub: Hub) -> Self {
        Self { session, hub, gated: false }
    }

    /// Who it is.
    #[must_use]
    pub fn client(&self) -> &Client {
        &self.session.ask.client
    }

    /// The stream.
    #[must_use]
    pub fn name(&self) -> &StreamName {
        &self.session.ask.name
    }

    /// Why it may not go on, if so.
    pub(super) fn ended(&self) -> Option<Ended> {
        self.session.signal.why()
    }

    pub(super) fn add_sent(&self, bytes: usize) {
        self.session.sent.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    pub(super) fn add_received(&self, bytes: usize) {
        self.session.received.fetch_add(bytes as u64, Ordering::Relaxed);
    }
}

impl Drop for Admission {
    fn drop(&mut self) {
        let traffic = self.hub.inner.sessions.leave(&self.session);
        for gate in self.hub.gates().iter().filter(|_| self.gated) {
            gate.left(&self.session.ask, traffic);
        }
    }
}

/// The gates that have admitted someone who is not in yet: if that one gives up, or a later gate refuses, they are told.
pub(super) struct Pending<'a> {
    pub(super) hub: &'a Hub,
    pub(super) ask: Option<Ask>,
    pub(super) gates: usize,
}

impl Drop for Pending<'_> {
    fn drop(&mut self) {
        let Some(ask) = &self.ask else { return };
        for gate in self.hub.gates().iter().take(self.gates) {
            gate.left(ask, Traffic::default());
        }
    }
}
