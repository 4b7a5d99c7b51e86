use std::net::TcpStream;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use portable_atomic::{AtomicU64, Ordering};

#[cfg(any(feature = "segments", feature = "webrtc"))]
use super::StreamName;
use super::delivery::Control;
use super::feed::{Feed, FeedKey};
use super::sessions::Admission;
use super::stats::Counters;
use super::stream::Stream;
use super::{Client, Ended, Hub};
use crate::config::Wait;
use crate::media::Track;

/// How a reader wants a stream.
#[derive(Debug, Clone, Copy)]
pub struct SubscribeOptions {
    /// In which form; readers with equal keys share one.
    pub key: FeedKey,
    /// What to do while nobody publishes it.
    pub wait: Wait,
}

/// A reader as it is counted; counts itself out when dropped.
pub(super) struct Reader {
    pub(super) admission: Admission,
    pub(super) stream: Arc<Stream>,
    pub(super) since: Instant,
    pub(super) lagged: AtomicU64,
}

impl Reader {
    /// Takes over the count that `Hub::stream` raised.
    pub(super) fn new(stream: Arc<Stream>, admission: Admission, now: Instant) -> Self {
        stream.count(admission.client().kind, true);
        Self { admission, stream, since: now, lagged: AtomicU64::new(0) }
    }

    fn client(&self) -> &Client {
        self.admission.client()
    }

    pub(super) fn add_lag(&self, entries: u64) {
        self.lagged.fetch_add(1, Ordering::Relaxed);
        self.stream.counters.lag_events.fetch_add(1, Ordering::Relaxed);
        self.stream.counters.dropped.fetch_add(entries, Ordering::Relaxed);
    }

    /// The one log line of a reader's end.
    pub(super) fn log_end(&self, why: &str, now: Instant) {
        let seconds = now.saturating_duration_since(self.since).as_secs_f64();
        let sent = self.admission.session.sent.load(Ordering::Relaxed);
        let lagged = self.lagged.load(Ordering::Relaxed);
        let ended = self.admission.ended().map(|ended| ended.to_string());
        let why = ended.as_deref().unwrap_or(why);
        let lag = match lagged {
            0 => String::new(),
            n => format!(", was too slow and skipped ahead {n} times"),
        };
        log::info!(session:% = self.client().id;
            "{} of {} ended after {seconds:.1} s: {why}; sent {sent} bytes{lag}",
            self.client().kind.as_str(), self.stream.name);
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        self.stream.count(self.client().kind, false);
        self.stream.counters.readers.fetch_sub(1, Ordering::AcqRel);
    }
}

/// A viewer who doesn't read a stream itself but what was built of it, such as segments: counted among the stream's
/// readers until dropped.
pub struct Attendance {
    reader: Reader,
}

impl Attendance {
    pub(super) fn new(reader: Reader) -> Self {
        Self { reader }
    }

    /// Who it is.
    #[must_use]
    pub fn client(&self) -> &Client {
        self.reader.client()
    }

    /// The stream.
    #[cfg(any(feature = "segments", feature = "webrtc"))]
    #[must_use]
    pub fn stream(&self) -> &StreamName {
        &self.reader.stream.name
    }

    /// Why it may not go on, if so.
    #[must_use]
    pub fn ended(&self) -> Option<Ended> {
        self.reader.admission.ended()
    }

    /// Completes when it may not go on. Lives longer than the attendance.
    #[cfg(feature = "webrtc")]
    pub fn ending(&self) -> impl Future<Output = Ended> + Send + use<> {
        let signal = self.reader.admission.session.signal.clone();
        async move { signal.ended().await }
    }

    /// Counts what was sent to it.
    pub fn add_sent(&self, bytes: usize) {
        self.reader.admission.add_sent(bytes);
        Counters::add(&self.reader.stream.counters.bytes_out, bytes);
    }

    /// Ends it and logs why.
    pub fn finish(self, why: &str, now: Instant) {
        self.reader.log_end(why, now);
    }
}

/// A reader's place in a stream. Either [`deliver`](Self::deliver) its socket, or pull with
/// [`next`](Self::next).
pub struct Subscription {
    pub(super) feed: Arc<Feed>,
    pub(super) reader: Reader,
    pub(super) wait_until: Option<Instant>,
    hub: Hub,
    next: Option<u64>,
    started: bool,
    ended: bool,
}

/// The most bytes that one [`Subscription::next`] gives, unless one entry is larger.
const BATCH: usize = 256 * 1024;

impl Subscription {
    pub(super) fn new(feed: Arc<Feed>, reader: Reader, wait_until: Option<Instant>, hub: Hub) -> Self {
        Self { feed, reader, wait_until, hub, next: None, started: false, ended: false }
    }

    /// The reader's session.
    #[must_use]
    pub fn client(&self) -> &Client {
        self.reader.client()
    }

    /// The stream's tracks; waits until it is known which there are. `None`: the stream has ended, or nobody
    /// published it in time.
    pub async fn tracks(&mut self) -> Option<Arc<[Track]>> {
        loop {
            let feed = self.feed.clone();
            let grown = feed.grown.notified();
            tokio::pin!(grown);
            grown.as_mut().enable();
            {
                let inner = feed.lock();
                if let Some(tracks) = inner.open_tracks() {
                    return Some(tracks);
                }
                if inner.end.is_some() {
                    return None;
                }
            }
            let signal = self.reader.admission.session.signal.clone();
            let changed = async {
                tokio::select! {
                    () = grown => true,
                    _ = signal.ended() => false,
                }
            };
            let more = match self.wait_until {
                Some(until) => tokio::time::timeout_at(until.into(), changed).await.ok()?,
                None => changed.await,
            };
            if !more {
                return None;
            }
        }
    }

    /// What to write next; waits until there is something. `None`: the stream has ended and its trailer was
    /// given, nobody published it in time, or an operator ended the reader. Safe to cancel: nothing is lost.
    pub async fn next(&mut self) -> Option<Vec<Bytes>> {
        loop {
            let feed = self.feed.clone();
            let grown = feed.grown.notified();
            tokio::pin!(grown);
            grown.as_mut().enable();
            if self.ended || self.reader.admission.ended().is_some() {
                return None;
            }
            let batch = self.ready();
            if !batch.is_empty() {
                let len = batch.iter().map(Bytes::len).sum();
                self.reader.admission.add_sent(len);
                Counters::add(&self.reader.stream.counters.bytes_out, len);
                return Some(batch);
            }
            if self.ended {
                return None; // without a trailer
            }
            let signal = self.reader.admission.session.signal.clone();
            let until = self.wait_until.filter(|_| !self.started);
            tokio::select! {
                () = grown => {}
                _ = signal.ended() => self.ended = true,
                () = sleep_until(until) => self.ended = true,
            }
        }
    }

    fn ready(&mut self) -> Vec<Bytes> {
        let mut inner = self.feed.lock();
        let mut batch = Vec::new();
        let mut len = 0;
        let mut add = |entry: &super::entry::Entry| {
            len += entry.len();
            batch.extend(entry.parts().iter().cloned());
            len < BATCH
        };
        if let Some(next) = self.next.filter(|next| *next < inner.ring.first()) {
            self.reader.add_lag(inner.ring.first() - next);
            self.next = None;
        }
        if self.next.is_none()
            && let Some(join) = inner.join_point()
        {
            if !std::mem::replace(&mut self.started, true) {
                add(&join.start);
            }
            add(&join.config);
            self.next = Some(join.number);
        }
        let mut more = true;
        if let Some(next) = &mut self.next {
            for entry in inner.ring.since(*next) {
                more = add(entry);
                *next += 1;
                if !more {
                    break;
                }
            }
        }
        if more && let Some(end) = &inner.end {
            if self.started {
                add(end);
            }
            self.ended = true;
        }
        batch
    }

    /// Hands a plain socket to a delivery worker, which from now on owns it: writes `first`, then the
    /// stream, and gives what the peer sends to `control`.
    pub fn deliver(self, socket: TcpStream, first: Bytes, control: Box<dyn Control>) {
        let hub = self.hub.clone();
        hub.inner.delivery.add(self, socket, first, control);
    }

    pub(super) fn split(self) -> (Arc<Feed>, Reader) {
        (self.feed, self.reader)
    }

    /// Ends the reading and logs why.
    pub fn finish(self, why: &str) {
        self.reader.log_end(why, Instant::now());
    }
}

async fn sleep_until(until: Option<Instant>) {
    match until {
        Some(until) => tokio::time::sleep_until(until.into()).await,
        None => std::future::pending().await,
    }
}
