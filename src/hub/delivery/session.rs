//! A delivered reader: its socket and its place.

use std::collections::VecDeque;
use std::io::{self, IoSlice, Read, Write};
use std::sync::Arc;
use std::time::{Duration, Instant};

use mio::net::TcpStream;

use super::{Control, Flow};
use crate::hub::entry::Entry;
use crate::hub::feed::JoinPoint;
use crate::hub::ring::Ring;
use crate::hub::subscription::Reader;

/// A player that needs so many send timeouts for one frame is no player: it holds on to frames that all others have
/// had, and takes just enough to seem alive.
const TIMEOUTS_A_FRAME: u32 = 4;
/// I/O vectors of one `writev`.
const VECTORS: usize = 64;
/// A player has no reason to send more than this at once.
const MAX_INPUT: usize = 64 * 1024;
/// Replies that wait to be sent; more means that the peer asks without reading.
const MAX_REPLIES: usize = 32;

pub(super) struct Session {
    pub(super) socket: TcpStream,
    pub(super) reader: Reader,
    pub(super) outlet: usize,
    /// Place in its outlet's list.
    pub(super) place: usize,
    /// Give up waiting for a publisher then.
    pub(super) wait_until: Option<Instant>,
    control: Box<dyn Control>,
    /// What goes out before the ring: heads, replies, and the rest of an entry that was sent in part.
    queue: VecDeque<Arc<Entry>>,
    /// Bytes of the queue's first entry that are sent.
    offset: usize,
    /// The ring entry that comes next; `None` until there is a place to start.
    next: Option<u64>,
    started: bool,
    pub(super) blocked: bool,
    paused: bool,
    /// Close when the queue is empty.
    pub(super) ending: Option<&'static str>,
    /// When the peer last took something.
    progress: Instant,
    /// When it last had taken something whole, or began to take.
    whole: Instant,
}

impl Session {
    pub(super) fn new(
        socket: TcpStream,
        reader: Reader,
        outlet: usize,
        wait_until: Option<Instant>,
        control: Box<dyn Control>,
        now: Instant,
    ) -> Self {
        Self {
            socket,
            reader,
            outlet,
            place: 0,
            wait_until,
            control,
            queue: VecDeque::new(),
            offset: 0,
            next: None,
            started: false,
            blocked: false,
            paused: false,
            ending: None,
            progress: now,
            whole: now,
        }
    }

    pub(super) fn push(&mut self, entry: Arc<Entry>) {
        if entry.len() > 0 {
            self.queue.push_back(entry);
        }
    }

    /// Whether it looks for a place to start.
    pub(super) fn waits(&self) -> bool {
        self.next.is_none() && !self.paused && self.ending.is_none()
    }

    pub(super) fn has_started(&self) -> bool {
        self.started
    }

    /// If it has had something to send for too long that the peer doesn't take: the reason to close.
    pub(super) fn stuck(&self, now: Instant, timeout: Duration) -> Option<String> {
        let longer = |since: Instant, than: Duration| now.saturating_duration_since(since) > than;
        let whole = timeout.saturating_mul(TIMEOUTS_A_FRAME);
        if !self.blocked {
            None
        } else if longer(self.progress, timeout) {
            Some(format!("the player took nothing for {:.0} s", timeout.as_secs_f64()))
        } else if longer(self.whole, whole) {
            Some(format!("the player took more than {:.0} s for one frame", whole.as_secs_f64()))
        } else {
            None
        }
    }

    /// Whether all it lacks is what comes from ring entry `end` on.
    pub(super) fn is_at(&self, end: u64) -> bool {
        !self.blocked && !self.paused && self.queue.is_empty() && self.next == Some(end)
    }

    pub(super) fn join(&mut self, point: &JoinPoint) {
        if !std::mem::replace(&mut self.started, true) {
            self.push(point.start.clone());
        }
        self.push(point.config.clone());
        self.next = Some(point.number);
    }

    pub(super) fn lags(&self, ring: &Ring<Arc<Entry>>) -> bool {
        self.next.is_some_and(|next| next < ring.first())
    }

    /// Nothing comes after what is in the ring: queues that and the trailer.
    pub(super) fn end_of_stream(&mut self, ring: &Ring<Arc<Entry>>, end: &Arc<Entry>) {
        if self.ending.is_some() {
            return;
        }
        if let Some(next) = self.next.take() {
            for entry in ring.since(next) {
                self.push(entry.clone());
            }
        }
        if self.started {
            self.push(end.clone());
        }
        self.ending = Some("the stream ended");
    }

    /// If it has fallen out of the ring: counts that, and makes it look for a new place.
    pub(super) fn note_lag(&mut self, ring: &Ring<Arc<Entry>>) {
        if let Some(next) = self.next.filter(|next| *next < ring.first()) {
            self.reader.add_lag(ring.first() - next);
            self.next = None;
        }
    }

    /// Writes `batch`, the bytes of the ring from where this session stands to its end.
    pub(super) fn write_batch(
        &mut self,
        batch: &[u8],
        ring: &Ring<Arc<Entry>>,
        now: Instant,
    ) -> io::Result<usize> {
        self.whole = now;
        let n = match (&self.socket).write(batch) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(n) => n,
            Err(e) if retry(&e) => 0,
            Err(e) => return Err(e),
        };
        if n == batch.len() {
            self.next = Some(ring.end());
        } else {
            self.blocked = true;
            self.advance(n, ring, now);
        }
        self.took(n, now);
        Ok(n)
    }

    /// Writes what there is, until all is written or the socket is full. How many bytes that was.
    pub(super) fn pump(&mut self, ring: &Ring<Arc<Entry>>, now: Instant) -> io::Result<usize> {
        let mut total = 0;
        if !self.blocked && self.offset == 0 {
            self.whole = now; // It may have had nothing to send for long.
        }
        while !self.blocked {
            let (n, asked) = {
                let mut vectors = heapless::Vec::<IoSlice<'_>, VECTORS>::new();
                let mut skip = self.offset;
                let ahead = self.next.filter(|_| !self.paused && self.ending.is_none());
                let ahead = ahead.into_iter().flat_map(|next| ring.since(next));
                'fill: for entry in self.queue.iter().chain(ahead) {
                    for part in entry.parts() {
                        let rest = part.get(skip..).unwrap_or_default();
                        skip = skip.saturating_sub(part.len());
                        if !rest.is_empty() && vectors.push(IoSlice::new(rest)).is_err() {
                            break 'fill;
                        }
                    }
                }
                let asked: usize = vectors.iter().map(|v| v.len()).sum();
                if asked == 0 {
                    break;
                }
                match (&self.socket).write_vectored(&vectors) {
                    Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                    Ok(n) => (n, asked),
                    Err(e) if retry(&e) => (0, asked),
                    Err(e) => return Err(e),
                }
            };
            // A short write means that the socket is full: the next "writable" event is certain.
            self.blocked = n < asked;
            self.advance(n, ring, now);
            self.took(n, now);
            total += n;
        }
        Ok(total)
    }

    /// `n` more bytes are sent.
    fn advance(&mut self, mut n: usize, ring: &Ring<Arc<Entry>>, now: Instant) {
        while let Some(entry) = self.queue.front() {
            let left = entry.len() - self.offset;
            if n < left {
                self.offset += n;
                return;
            }
            n -= left;
            self.offset = 0;
            self.queue.pop_front();
            self.whole = now;
        }
        let Some(next) = &mut self.next else { return };
        for entry in ring.since(*next) {
            if n < entry.len() {
                if n > 0 {
                    // It must end what it began, even when the ring has moved on.
                    *next += 1;
                    self.offset = n;
                    self.queue.push_back(entry.clone());
                }
                return;
            }
            n -= entry.len();
            *next += 1;
            self.whole = now;
        }
    }

    fn took(&mut self, n: usize, now: Instant) {
        if n > 0 {
            self.progress = now;
            self.reader.admission.add_sent(n);
        }
    }

    /// Reads all that the peer has sent. `Err` is the reason to close.
    pub(super) fn read(&mut self, buffer: &mut [u8]) -> Result<(), &'static str> {
        let mut total = 0;
        let mut reply = Vec::new();
        loop {
            let n = match (&self.socket).read(buffer) {
                Ok(0) => return Err("the player left"),
                Ok(n) => n,
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
                Err(_) => return Err("the player's connection broke"),
            };
            total += n;
            self.reader.admission.add_received(n);
            if total > MAX_INPUT {
                return Err("the player sends what a player has no reason to send");
            }
            let flow = self.control.input(buffer.get(..n).unwrap_or_default(), &mut reply);
            if !reply.is_empty() {
                if self.queue.len() >= MAX_REPLIES {
                    return Err("the player asks without reading the answers");
                }
                self.push(Arc::new(Entry::of(std::mem::take(&mut reply).into())));
            }
            match flow {
                Flow::Go => {}
                Flow::Pause => self.paused = true,
                Flow::Resume => {
                    if std::mem::take(&mut self.paused) {
                        self.next = None;
                    }
                }
                Flow::End(why) => {
                    self.ending = Some(why);
                    return Ok(());
                }
            }
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }
}

fn retry(e: &io::Error) -> bool {
    matches!(e.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hub::stream::Stream;
    use crate::hub::{Action, Client, ClientKind, Hub, StreamName};
    use crate::id::SessionId;

    struct NoControl;

    impl Control for NoControl {
        fn input(&mut self, _: &[u8], _: &mut Vec<u8>) -> Flow {
            Flow::Go
        }
    }

    #[test]
    fn a_player_that_drips_is_given_up_like_one_that_stalls() {
        const TIMEOUT: Duration = Duration::from_secs(30);
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let mut player = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (socket, peer) = listener.accept().unwrap();
        socket.set_nonblocking(true).unwrap();
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let name = StreamName::new("v", "live", "a").unwrap();
        let stream = Arc::new(Stream::new(name.clone(), 1, Arc::default(), Arc::default(), start));
        stream.counters.readers.fetch_add(1, portable_atomic::Ordering::Relaxed);
        let client = Client::new(SessionId::next(), ClientKind::FlvPlay, peer);
        let hub = Hub::new(crate::config::Shared::default());
        let reader = Reader::new(stream, hub.admit_now(Action::Play, &name, client).unwrap(), start);
        let socket = TcpStream::from_std(socket);
        let mut session = Session::new(socket, reader, 1, None, Box::new(NoControl), start);
        let ring = Ring::new();
        assert!(session.stuck(at(900), TIMEOUT).is_none(), "it waits for a publisher");
        session.push(Arc::new(Entry::of(vec![0; 64 << 20].into())));
        session.pump(&ring, at(1000)).unwrap();
        assert!(session.stuck(at(1029), TIMEOUT).is_none());
        assert_eq!(session.stuck(at(1031), TIMEOUT).unwrap(), "the player took nothing for 30 s");
        for n in 1..7 {
            let mut buffer = vec![0; 64 * 1024];
            loop {
                assert!(player.read(&mut buffer).unwrap() > 0);
                session.blocked = false;
                if session.pump(&ring, at(1000 + n * 20)).unwrap() > 0 {
                    break;
                }
            }
            assert!(session.stuck(at(1000 + n * 20), TIMEOUT).is_none(), "it drips");
        }
        let why = session.stuck(at(1121), TIMEOUT).unwrap();
        assert_eq!(why, "the player took more than 120 s for one frame", "but it can't play so");
    }
}
