//! Sessions on a socket: one UDP port for all of them, for who calls us and for whom we call.
//!
//! One task owns the socket. It hands what comes to sessions by their number, lets them send what is due, and sends
//! the datagrams of all of them together. Who has a [`Connection`] works on its session directly, and tells the task
//! that there is something to send.

use std::collections::HashSet;
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use bytes::Bytes;
use tokio::sync::{Notify, mpsc, oneshot};

use super::attempt::Attempt;
use super::caller::Caller;
use super::listener::Conclusion;
use super::rendezvous::Meeting;
use super::session::{Datagram, Session};
use super::{End, Options, Payload, Reject, SendError, SrtError, Statistics};
use crate::net::udp::{BatchSocket, Outgoing};

mod driver;

/// Bounds of an endpoint.
#[derive(Debug, Clone)]
pub struct EndpointOptions {
    /// Sessions at once, and calls on their way.
    pub max_sessions: usize,
    /// Callers that wait to be let in; more are refused.
    pub backlog: usize,
}

impl Default for EndpointOptions {
    fn default() -> Self {
        Self { max_sessions: 10_000, backlog: 128 }
    }
}

/// A UDP socket with SRT sessions. Clones are the same endpoint; it goes when all of them, and all connections, are
/// gone.
#[derive(Debug, Clone)]
pub struct Endpoint {
    handle: Arc<Handle>,
}

#[derive(Debug)]
struct Handle {
    shared: Arc<Shared>,
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.shared.unused.store(true, Ordering::Release);
        self.shared.wake.notify_one();
    }
}

/// What the task and everybody else know.
#[derive(Debug)]
struct Shared {
    socket: BatchSocket,
    options: EndpointOptions,
    wake: Notify,
    posted: Mutex<Posted>,
    /// No more.
    stopped: AtomicBool,
    /// Nobody can ask for anything any more: the end comes with the last session's.
    unused: AtomicBool,
}

/// What the task is asked to do.
#[derive(Debug, Default)]
struct Posted {
    calls: Vec<Call>,
    /// The task has ended: nothing is taken any more.
    closed: bool,
    /// Numbers of sessions that are open.
    ids: HashSet<u32>,
    /// Requests that were answered: peer and its socket's number; and the refusal, if it was one.
    answered: Vec<((SocketAddr, u32), Option<Datagram>)>,
    new: Vec<Arc<Link>>,
    /// Sessions that have something to send.
    touched: Vec<Arc<Link>>,
}

/// A session, as the task and its connection have it.
#[derive(Debug)]
struct Link {
    id: u32,
    peer: SocketAddr,
    peer_id: u32,
    locked: Mutex<Locked>,
    readable: Notify,
    touched: AtomicBool,
}

#[derive(Debug)]
struct Locked {
    session: Session,
    /// The reader waits: until when.
    waits: Option<Option<Instant>>,
}

#[derive(Debug)]
struct Call {
    opening: Opening,
    answer: oneshot::Sender<Result<Connection, SrtError>>,
    handle: Arc<Handle>,
}

/// How a session of ours begins.
#[derive(Debug)]
enum Opening {
    Call(Caller),
    Meeting(Meeting),
}

impl Opening {
    fn attempt(&self) -> &Attempt {
        match self {
            Self::Call(call) => call.attempt(),
            Self::Meeting(meeting) => meeting.attempt(),
        }
    }

    fn peer(&self) -> SocketAddr {
        self.attempt().peer()
    }

    fn local_id(&self) -> u32 {
        self.attempt().local_id()
    }

    fn deadline(&self) -> Instant {
        self.attempt().deadline()
    }

    fn poll(&mut self, now: Instant, out: &mut Vec<Datagram>) -> Result<(), SrtError> {
        match self {
            Self::Call(call) => call.poll(now, out),
            Self::Meeting(meeting) => meeting.poll(now, out),
        }
    }

    fn input(
        &mut self,
        datagram: &[u8],
        now: Instant,
        out: &mut Vec<Datagram>,
    ) -> Result<Option<Session>, SrtError> {
        match self {
            Self::Call(call) => call.input(datagram, now),
            Self::Meeting(meeting) => meeting.input(datagram, now, out),
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn random() -> u32 {
    let mut bytes = [0; 4];
    // Where the system has none, numbers are only easier to guess.
    let _ = getrandom::getrandom(&mut bytes);
    u32::from_be_bytes(bytes)
}

impl Posted {
    /// A number for a session.
    fn id(&mut self, max: usize) -> Result<u32, SrtError> {
        if self.closed {
            return Err(SrtError::Stopped);
        }
        if self.ids.len() >= max {
            return Err(SrtError::TooMany(max));
        }
        loop {
            let id = random() & 0x3fff_ffff;
            if id != 0 && self.ids.insert(id) {
                return Ok(id);
            }
        }
    }
}

impl Shared {
    fn touch(&self, link: &Arc<Link>) {
        if !link.touched.swap(true, Ordering::AcqRel) {
            lock(&self.posted).touched.push(link.clone());
            self.wake.notify_one();
        }
    }
}

impl Endpoint {
    /// Opens a socket. Requests of callers come by [`Incoming`]; when that is dropped, they are refused.
    /// Must be called inside a tokio runtime.
    ///
    /// # Errors
    /// What the system says.
    pub fn bind(addr: SocketAddr, options: EndpointOptions) -> io::Result<(Self, Incoming)> {
        let socket = BatchSocket::bind(addr, false)?;
        let (sender, receiver) = mpsc::channel(options.backlog.max(1));
        let shared = Arc::new(Shared {
            socket,
            options,
            wake: Notify::new(),
            posted: Mutex::default(),
            stopped: AtomicBool::new(false),
            unused: AtomicBool::new(false),
        });
        let handle = Arc::new(Handle { shared: shared.clone() });
        tokio::spawn(driver::Driver::new(shared, sender, Arc::downgrade(&handle)).run());
        Ok((Self { handle }, Incoming { requests: receiver }))
    }

    /// Where it is bound.
    #[must_use]
    pub fn local_addr(&self) -> SocketAddr {
        self.handle.shared.socket.local_addr()
    }

    /// Calls a listener. Given up when the future is dropped.
    ///
    /// # Errors
    /// [`SrtError`].
    pub async fn call(&self, to: SocketAddr, options: Options) -> Result<Connection, SrtError> {
        self.open(to, |to, id| Caller::new(to, &options, id, random(), Instant::now()).map(Opening::Call))
            .await
    }

    /// Meets who meets us: both call each other, and no one listens. Given up when the future is dropped.
    ///
    /// # Errors
    /// [`SrtError`].
    pub async fn meet(&self, to: SocketAddr, options: Options) -> Result<Connection, SrtError> {
        let meeting = |to, id| Meeting::new(to, &options, id, random(), random(), Instant::now());
        self.open(to, |to, id| meeting(to, id).map(Opening::Meeting)).await
    }

    async fn open(
        &self,
        to: SocketAddr,
        opening: impl FnOnce(SocketAddr, u32) -> Result<Opening, SrtError>,
    ) -> Result<Connection, SrtError> {
        let shared = &self.handle.shared;
        let to = shared.socket.address(to);
        let (answer, answered) = oneshot::channel();
        {
            let mut posted = lock(&shared.posted);
            let id = posted.id(shared.options.max_sessions)?;
            match opening(to, id) {
                Ok(opening) => posted.calls.push(Call { opening, answer, handle: self.handle.clone() }),
                Err(e) => {
                    posted.ids.remove(&id);
                    return Err(e);
                }
            }
        }
        shared.wake.notify_one();
        answered.await.unwrap_or(Err(SrtError::Stopped))
    }

    /// Ends all sessions, and tells their peers.
    pub fn stop(&self) {
        self.handle.shared.stopped.store(true, Ordering::Release);
        self.handle.shared.wake.notify_one();
    }
}

/// Callers that want in.
#[derive(Debug)]
pub struct Incoming {
    requests: mpsc::Receiver<Request>,
}

impl Incoming {
    /// The next one; `None` when the endpoint was stopped.
    pub async fn next(&mut self) -> Option<Request> {
        self.requests.recv().await
    }
}

/// A caller that wants in, and has shown that it is where it says. Refused when dropped.
#[derive(Debug)]
pub struct Request {
    conclusion: Box<Conclusion>,
    handle: Arc<Handle>,
    answered: bool,
}

impl Request {
    /// Where it is.
    #[must_use]
    pub fn peer(&self) -> SocketAddr {
        SocketAddr::new(self.conclusion.peer.ip().to_canonical(), self.conclusion.peer.port())
    }

    /// Its stream id; empty when it has none.
    #[must_use]
    pub fn stream_id(&self) -> &str {
        self.conclusion.stream_id()
    }

    /// It has a passphrase.
    #[must_use]
    pub fn is_encrypted(&self) -> bool {
        self.conclusion.is_encrypted()
    }

    /// Its version of SRT, e.g. `0x010501`.
    #[must_use]
    pub fn version(&self) -> u32 {
        self.conclusion.version()
    }

    /// Lets it in. When its passphrase is not that of the options, it is told so.
    ///
    /// # Errors
    /// [`SrtError::Refused`] and why; [`SrtError::TooMany`]; [`SrtError::Options`].
    pub fn accept(mut self, options: &Options) -> Result<Connection, SrtError> {
        if let Some(wrong) = options.wrong() {
            return Err(SrtError::Options(wrong));
        }
        let shared = self.handle.shared.clone();
        let id = match lock(&shared.posted).id(shared.options.max_sessions) {
            Ok(id) => id,
            Err(e) => {
                self.answer(Reject::RESOURCE);
                return Err(e);
            }
        };
        // This derives keys, which takes a while: no lock is held.
        match self.conclusion.accept(id, options, Instant::now()) {
            Ok(session) => {
                self.answered = true;
                let link = Link::new(session);
                let mut posted = lock(&shared.posted);
                if posted.closed {
                    return Err(SrtError::Stopped);
                }
                posted.answered.push((self.key(), None));
                posted.new.push(link.clone());
                drop(posted);
                shared.wake.notify_one();
                Ok(Connection { link, handle: self.handle.clone() })
            }
            Err(reason) => {
                lock(&shared.posted).ids.remove(&id);
                self.answer(reason);
                Err(SrtError::Refused(reason))
            }
        }
    }

    /// Refuses it.
    pub fn reject(mut self, reason: Reject) {
        self.answer(reason);
    }

    fn key(&self) -> (SocketAddr, u32) {
        (self.conclusion.peer, self.conclusion.peer_id())
    }

    fn answer(&mut self, reason: Reject) {
        if !std::mem::replace(&mut self.answered, true) {
            let refusal = self.conclusion.reject(reason);
            lock(&self.handle.shared.posted).answered.push((self.key(), Some(refusal)));
            self.handle.shared.wake.notify_one();
        }
    }
}

impl Drop for Request {
    fn drop(&mut self) {
        self.answer(Reject::PEER);
    }
}

impl Link {
    fn new(session: Session) -> Arc<Self> {
        Arc::new(Self {
            id: session.local_id(),
            peer: session.peer(),
            peer_id: session.peer_id(),
            locked: Mutex::new(Locked { session, waits: None }),
            readable: Notify::new(),
            touched: AtomicBool::new(false),
        })
    }
}

/// A session. Closed when dropped.
#[derive(Debug)]
pub struct Connection {
    link: Arc<Link>,
    handle: Arc<Handle>,
}

impl Connection {
    /// Where the peer is.
    #[must_use]
    pub fn peer(&self) -> SocketAddr {
        SocketAddr::new(self.link.peer.ip().to_canonical(), self.link.peer.port())
    }

    /// The peer's version of SRT, e.g. `0x010501`.
    #[must_use]
    pub fn peer_version(&self) -> u32 {
        lock(&self.link.locked).session.peer_version()
    }

    /// Payloads are encrypted.
    #[must_use]
    pub fn is_encrypted(&self) -> bool {
        lock(&self.link.locked).session.is_encrypted()
    }

    /// Longest payload that can be sent.
    #[must_use]
    pub fn max_payload(&self) -> usize {
        lock(&self.link.locked).session.max_payload()
    }

    /// The next payload, when its time has come; `None` once the session is over and all was given out.
    /// Nothing is lost when the future is dropped.
    pub async fn receive(&mut self) -> Option<Payload> {
        loop {
            let at = {
                let now = Instant::now();
                let mut locked = lock(&self.link.locked);
                if let Some(payload) = locked.session.receive(now) {
                    return Some(payload);
                }
                let at = locked.session.readable_at();
                if at.is_none() && locked.session.ended().is_some() {
                    return None;
                }
                locked.waits = Some(at);
                at
            };
            self.wait(at).await;
        }
    }

    /// Waits for a payload, and appends it and all others whose time has come, at most `max`; tells how many. 0: the
    /// session is over and all was given out. Nothing is lost when the future is dropped.
    pub async fn receive_many(&mut self, into: &mut Vec<Payload>, max: usize) -> usize {
        let Some(first) = self.receive().await else { return 0 };
        into.push(first);
        let now = Instant::now();
        let mut locked = lock(&self.link.locked);
        let more = std::iter::from_fn(|| locked.session.receive(now)).take(max.saturating_sub(1));
        let before = into.len();
        into.extend(more);
        into.len() - before + 1
    }

    async fn wait(&self, until: Option<Instant>) {
        let notified = self.link.readable.notified();
        match until {
            Some(at) => {
                let _ = tokio::time::timeout_at(at.into(), notified).await;
            }
            None => notified.await,
        }
    }

    /// Waits for the end of the session, for who only sends.
    pub async fn wait_end(&mut self) -> End {
        loop {
            if let Some(end) = self.ended() {
                return end;
            }
            if self.receive().await.is_none() {
                return self.ended().unwrap_or(End::Closed);
            }
        }
    }

    /// Sends a payload; `now` is its time.
    ///
    /// # Errors
    /// [`SendError`].
    pub fn send(&self, payload: Bytes, now: Instant) -> Result<(), SendError> {
        let taken = lock(&self.link.locked).session.send(payload, now);
        self.handle.shared.touch(&self.link);
        taken
    }

    /// Sends payloads of one time; what does not fit in the send buffer is counted as dropped.
    ///
    /// # Errors
    /// [`SendError`]: the first; others may have been taken.
    pub fn send_many(&self, payloads: &[Bytes], now: Instant) -> Result<(), SendError> {
        let mut result = Ok(());
        {
            let mut locked = lock(&self.link.locked);
            for payload in payloads {
                result = result.and(locked.session.send(payload.clone(), now));
            }
        }
        self.handle.shared.touch(&self.link);
        result
    }

    /// Why it is over, if it is.
    #[must_use]
    pub fn ended(&self) -> Option<End> {
        lock(&self.link.locked).session.ended()
    }

    /// Ends it once the peer has what was sent, or can't use it any more.
    pub fn close(self) {
        drop(self);
    }

    /// Figures of now.
    #[must_use]
    pub fn statistics(&self) -> Statistics {
        lock(&self.link.locked).session.statistics(Instant::now())
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        lock(&self.link.locked).session.close(Instant::now());
        self.handle.shared.touch(&self.link);
    }
}

impl Outgoing for Datagram {
    fn to(&self) -> SocketAddr {
        self.to
    }

    fn pieces(&self) -> [&[u8]; 2] {
        [&self.head, &self.body]
    }
}

#[cfg(test)]
mod tests;
