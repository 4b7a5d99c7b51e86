//! Sessions on sockets: one port for all of them, UDP and TCP.
//!
//! A task for each socket takes what comes and hands it to the session that it is for: checks of ICE by the name in them, all
//! else by the path that a check has proved. Nothing is kept of others. Handshakes are computed by a task of their own, so that
//! media doesn't wait for them. Media is sent by who has it ([`Batch`]), past all tasks.
//!
//! Locks: the tables first, then what is in a session. Who holds a lock of a session never asks for the tables.

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use tokio::net::TcpListener;
use tokio::sync::{Notify, mpsc, watch};

use super::WebRtcError;
use super::dtls::{Certificate, DtlsConfig};
use super::ice::{Credentials, Path, Via};
use super::session::{Change, End, Remote, Session, Timeouts, Traffic};
use super::stun::{Message, unmapped};
use crate::net::udp::BatchSocket;

mod batch;
mod driver;
mod tcp;

pub use batch::Batch;

/// Handshake datagrams that wait for their turn; more are dropped, and sent again by their peers.
const HANDSHAKES: usize = 256;
/// And of one peer, so that none fills it for all: a whole flight.
const HANDSHAKES_OF_PEER: usize = 8;
/// Who was heard in this time is there, and keeps its paths: checks come every 6 s at least (RFC 7675, section 5.1).
const PRESENT: Duration = Duration::from_secs(6);

/// Bounds of an endpoint.
#[derive(Debug, Clone)]
pub struct EndpointOptions {
    /// Sessions at once.
    pub max_sessions: usize,
    /// Until a peer that was answered is connected.
    pub connect_timeout: Duration,
    /// Until a peer of which nothing is heard is taken as gone (RFC 7675).
    pub consent_timeout: Duration,
    /// Our certificate.
    pub certificate: Certificate,
}

impl EndpointOptions {
    /// The usual ones with this certificate.
    #[must_use]
    pub fn new(certificate: Certificate) -> Self {
        let timeout = Duration::from_secs(30);
        Self { max_sessions: 10_000, connect_timeout: timeout, consent_timeout: timeout, certificate }
    }
}

/// Takes what a peer sends, decrypted.
pub trait Sink: Send + Sync {
    /// An RTP packet, without what protected it. Called by the endpoint's task: must not block.
    fn rtp(&self, packet: Bytes, now: Instant);
    /// A compound RTCP packet.
    fn rtcp(&self, compound: &[u8], now: Instant);
}

/// WebRTC on its port. Clones are the same endpoint; when the last is gone, it stops.
#[derive(Debug, Clone)]
pub struct Endpoint(Arc<Handle>);

#[derive(Debug)]
struct Handle(Arc<Shared>);

impl Drop for Handle {
    fn drop(&mut self) {
        self.0.stop();
    }
}

/// Bounds that can change.
#[derive(Debug, Clone, Copy)]
struct Limits {
    max_sessions: usize,
    timeouts: Timeouts,
}

/// What tasks, peers and batches know.
#[derive(Debug)]
struct Shared {
    limits: Mutex<Limits>,
    dtls: DtlsConfig,
    sockets: Vec<BatchSocket>,
    tcp_addrs: Vec<SocketAddr>,
    tables: Mutex<Tables>,
    handshakes: mpsc::Sender<Handshake>,
    stopped: AtomicBool,
    /// It has just been.
    stopping: Notify,
    /// There is a new session.
    wake: Notify,
    /// Sessions that are not connected yet.
    connecting: AtomicUsize,
}

/// Who is where.
#[derive(Debug, Default)]
struct Tables {
    names: HashMap<String, Arc<Inner>>,
    paths: HashMap<Path, Arc<Inner>>,
    peers: HashMap<usize, Arc<Inner>>,
    connections: HashMap<u32, tcp::Writer>,
    next_peer: usize,
    next_connection: u32,
}

impl Tables {
    /// A path isn't this session's any more, nor is its connection; if it is another's by now, nothing happens.
    fn forget(&mut self, path: Path, id: usize) {
        if self.paths.get(&path).is_some_and(|at| at.id != id) {
            return;
        }
        self.paths.remove(&path);
        if let Via::Tcp(connection) = path.via {
            self.connections.remove(&connection);
        }
    }
}

/// A datagram for a session's DTLS; empty: it begins.
struct Handshake(Arc<Inner>, Bytes);

impl Handshake {
    /// `None`: enough of this peer wait.
    fn new(peer: Arc<Inner>, datagram: Bytes) -> Option<Self> {
        let waiting = peer.handshakes.fetch_add(1, Ordering::AcqRel);
        let handshake = Self(peer, datagram);
        (waiting < HANDSHAKES_OF_PEER).then_some(handshake)
    }
}

impl Drop for Handshake {
    fn drop(&mut self) {
        self.0.handshakes.fetch_sub(1, Ordering::AcqRel);
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum State {
    Connecting,
    Connected,
    Ended(End),
}

struct Inner {
    id: usize,
    session: Session,
    /// Datagrams of its handshake that wait.
    handshakes: AtomicUsize,
    state: watch::Sender<State>,
    sink: Mutex<Option<Arc<dyn Sink>>>,
}

impl std::fmt::Debug for Inner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Peer").field("session", &self.session).finish_non_exhaustive()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Where an endpoint can be reached, on this machine.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LocalAddrs {
    /// UDP sockets.
    pub udp: Vec<SocketAddr>,
    /// TCP listeners.
    pub tcp: Vec<SocketAddr>,
}

impl Endpoint {
    /// Opens its sockets, in the context of a tokio runtime. `[::]` takes IPv4, too. `tcp` may be empty.
    ///
    /// # Errors
    /// What the system says of an address.
    pub fn bind(udp: &[SocketAddr], tcp: &[SocketAddr], options: EndpointOptions) -> io::Result<Self> {
        let sockets =
            udp.iter().map(|addr| BatchSocket::bind(*addr, false)).collect::<io::Result<Vec<_>>>()?;
        let listeners =
            tcp.iter().map(|addr| tcp::listen(*addr)).collect::<io::Result<Vec<TcpListener>>>()?;
        let tcp_addrs = listeners.iter().map(TcpListener::local_addr).collect::<io::Result<Vec<_>>>()?;
        let dtls = DtlsConfig::new(options.certificate).map_err(io::Error::other)?;
        let timeouts = Timeouts { connect: options.connect_timeout, consent: options.consent_timeout };
        let (handshakes, waiting) = mpsc::channel(HANDSHAKES);
        let shared = Arc::new(Shared {
            limits: Mutex::new(Limits { max_sessions: options.max_sessions, timeouts }),
            dtls,
            sockets,
            tcp_addrs,
            tables: Mutex::default(),
            handshakes,
            stopped: AtomicBool::new(false),
            stopping: Notify::new(),
            wake: Notify::new(),
            connecting: AtomicUsize::new(0),
        });
        for index in 0..shared.sockets.len() {
            tokio::spawn(driver::receive(shared.clone(), index));
        }
        for listener in listeners {
            tokio::spawn(tcp::accept(shared.clone(), listener));
        }
        tokio::spawn(driver::compute(shared.clone(), waiting));
        tokio::spawn(driver::tick(shared.clone()));
        Ok(Self(Arc::new(Handle(shared))))
    }

    /// Where it is bound.
    #[must_use]
    pub fn local_addrs(&self) -> LocalAddrs {
        let udp = self.0.0.sockets.iter().map(BatchSocket::local_addr).collect();
        LocalAddrs { udp, tcp: self.0.0.tcp_addrs.clone() }
    }

    /// Our certificate, whose fingerprint stands in descriptions.
    #[must_use]
    pub fn certificate(&self) -> &Certificate {
        self.0.0.dtls.certificate()
    }

    /// New random credentials, for [`open`](Self::open).
    ///
    /// # Errors
    /// [`WebRtcError::Random`].
    pub fn credentials() -> Result<Credentials, WebRtcError> {
        Credentials::generate().ok_or(WebRtcError::Random)
    }

    /// Sessions that are open.
    #[must_use]
    pub fn sessions(&self) -> usize {
        lock(&self.0.0.tables).peers.len()
    }

    /// Waits for a peer: `local` and `remote` are what the two descriptions say. When the last clone of what is given back is
    /// gone, the session ends.
    ///
    /// # Errors
    /// [`WebRtcError`]: there are too many, or it is stopped.
    pub fn open(&self, local: Credentials, remote: Remote) -> Result<Peer, WebRtcError> {
        let shared = &self.0.0;
        let Limits { max_sessions, timeouts } = *lock(&shared.limits);
        let name = local.ufrag.clone();
        let session = Session::new(&shared.dtls, local, remote, timeouts, Instant::now());
        let mut tables = lock(&shared.tables);
        if shared.stopped.load(Ordering::Acquire) {
            return Err(WebRtcError::Stopping);
        }
        if tables.peers.len() >= max_sessions {
            return Err(WebRtcError::Full(max_sessions));
        }
        if tables.names.contains_key(&name) {
            return Err(WebRtcError::Random);
        }
        let id = tables.next_peer;
        tables.next_peer = id.wrapping_add(1);
        let state = watch::Sender::new(State::Connecting);
        let inner =
            Arc::new(Inner { id, session, handshakes: AtomicUsize::new(0), state, sink: Mutex::new(None) });
        tables.names.insert(name, inner.clone());
        tables.peers.insert(id, inner.clone());
        drop(tables);
        shared.connecting.fetch_add(1, Ordering::AcqRel);
        shared.wake.notify_one();
        Ok(Peer(Arc::new(PeerHandle { inner, shared: shared.clone() })))
    }

    /// Changes its bounds, for sessions that are opened from now on: how many at once, until a peer is connected, until one of
    /// which nothing is heard is taken as gone.
    pub fn set_limits(&self, max_sessions: usize, connect_timeout: Duration, consent_timeout: Duration) {
        let timeouts = Timeouts { connect: connect_timeout, consent: consent_timeout };
        *lock(&self.0.0.limits) = Limits { max_sessions, timeouts };
    }

    /// Room for packets to many peers.
    #[must_use]
    pub fn batch(&self) -> Batch {
        Batch::new(self.0.0.clone())
    }

    /// Ends all sessions, and takes no more.
    pub fn stop(&self) {
        self.0.0.stop();
    }
}

impl Shared {
    fn stop(&self) {
        if self.stopped.swap(true, Ordering::AcqRel) {
            return;
        }
        let peers: Vec<_> = lock(&self.tables).peers.values().cloned().collect();
        for peer in peers {
            self.end(&peer, &End::Stopped);
        }
        lock(&self.tables).connections.clear();
        self.stopping.notify_waiters();
    }

    fn is_stopped(&self) -> bool {
        self.stopped.load(Ordering::Acquire)
    }

    /// A datagram came on `path`. What is to be sent back goes into `out`.
    fn input(&self, datagram: &[u8], path: Path, now: Instant, out: &mut Vec<Vec<u8>>) -> Option<()> {
        match *datagram.first()? {
            0..=3 => self.check(datagram, path, now, out),
            20..=63 => {
                let peer = self.peer(path)?;
                self.handshakes.try_send(Handshake::new(peer, Bytes::copy_from_slice(datagram))?).ok()
            }
            128..=191 => {
                let control = matches!(datagram.get(1)?, 192..=223);
                let peer = self.peer(path)?;
                let mut packet = BytesMut::from(datagram);
                let length = peer.session.media(&mut packet, control, path, now).ok()?;
                let sink = lock(&peer.sink).clone()?;
                packet.truncate(length);
                if control {
                    sink.rtcp(&packet, now);
                } else {
                    sink.rtp(packet.freeze(), now);
                }
                Some(())
            }
            _ => None,
        }
    }

    fn peer(&self, path: Path) -> Option<Arc<Inner>> {
        lock(&self.tables).paths.get(&path).cloned()
    }

    fn check(&self, datagram: &[u8], path: Path, now: Instant, out: &mut Vec<Vec<u8>>) -> Option<()> {
        let message = Message::parse(datagram).ok()?;
        let peer = {
            let tables = lock(&self.tables);
            let peer = tables.names.get(message.local_name()?).cloned()?;
            // Sources of datagrams can be made up: nobody takes the path of a peer that is there.
            let taken = tables.paths.get(&path).is_some_and(|at| {
                at.id != peer.id && now.saturating_duration_since(at.session.heard()) < PRESENT
            });
            if taken {
                return None;
            }
            peer
        };
        let first = peer.session.path().is_none();
        let checked = peer.session.stun(&message, path, now);
        out.extend(checked.answer);
        if checked.proved {
            let mut tables = lock(&self.tables);
            // Not if it has ended in between.
            if tables.peers.contains_key(&peer.id) {
                tables.paths.insert(path, peer.clone());
            }
            if let Some(path) = checked.forgotten {
                tables.forget(path, peer.id);
            }
            if let Some(name) = checked.retired {
                tables.names.remove(&name);
            }
        }
        if first && checked.moved && peer.session.begins() {
            // If there is no place for it now, it is begun a tick later.
            let _ = self.handshakes.try_send(Handshake::new(peer, Bytes::new())?);
        }
        Some(())
    }

    /// What became of a session.
    fn changed(&self, peer: &Arc<Inner>, change: Option<Change>) {
        match change {
            None => {}
            Some(Change::Connected) => {
                let connected = peer.state.send_if_modified(|state| {
                    let connecting = *state == State::Connecting;
                    if connecting {
                        *state = State::Connected;
                    }
                    connecting
                });
                if connected {
                    self.connecting.fetch_sub(1, Ordering::AcqRel);
                }
            }
            Some(Change::Ended(end)) => self.end(peer, &end),
        }
    }

    fn end(&self, peer: &Arc<Inner>, end: &End) {
        let mut was = State::Connected;
        let ended = peer.state.send_if_modified(|state| {
            if matches!(state, State::Ended(_)) {
                return false;
            }
            was = std::mem::replace(state, State::Ended(end.clone()));
            true
        });
        if !ended {
            return;
        }
        if was == State::Connecting {
            self.connecting.fetch_sub(1, Ordering::AcqRel);
        }
        if matches!(end, End::Closed | End::Stopped) {
            let mut out = Vec::new();
            peer.session.close(&mut out);
            if let Some(path) = peer.session.path() {
                self.send(path, &out);
            }
        }
        *lock(&peer.sink) = None;
        let mut tables = lock(&self.tables);
        tables.peers.remove(&peer.id);
        let (mut names, mut paths) = (Vec::new(), Vec::new());
        peer.session.known_as(|name| names.push(name.to_owned()), |path| paths.push(path));
        for name in names {
            tables.names.remove(&name);
        }
        for path in paths {
            tables.forget(path, peer.id);
        }
    }

    /// Sends datagrams that are no media. What the network doesn't take at once is lost, and asked for again.
    fn send(&self, path: Path, datagrams: &[Vec<u8>]) {
        match path.via {
            Via::Udp(index) => {
                let Some(socket) = self.sockets.get(usize::from(index)) else { return };
                let datagrams: Vec<_> =
                    datagrams.iter().map(|bytes| driver::To(path.remote, bytes)).collect();
                let mut rest = &datagrams[..];
                while let Ok(count) = socket.send(rest)
                    && let Some(left) = rest.get(count..).filter(|left| !left.is_empty())
                {
                    rest = left;
                }
            }
            Via::Tcp(connection) => {
                let tables = lock(&self.tables);
                let Some(writer) = tables.connections.get(&connection) else { return };
                for datagram in datagrams {
                    writer.send(datagram);
                }
            }
        }
    }
}

/// A session with one peer. Clones are the same; when the last is gone, it is closed.
#[derive(Clone)]
pub struct Peer(Arc<PeerHandle>);

struct PeerHandle {
    inner: Arc<Inner>,
    shared: Arc<Shared>,
}

impl Drop for PeerHandle {
    fn drop(&mut self) {
        self.shared.end(&self.inner, &End::Closed);
    }
}

impl std::fmt::Debug for Peer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.inner.fmt(f)
    }
}

impl Peer {
    /// Where decrypted packets go from now on; until there is one they are dropped.
    pub fn set_sink(&self, sink: Arc<dyn Sink>) {
        let mut place = lock(&self.0.inner.sink);
        if !matches!(*self.0.inner.state.borrow(), State::Ended(_)) {
            *place = Some(sink);
        }
    }

    async fn reach(&self, wanted: impl FnMut(&State) -> bool) -> State {
        let mut state = self.0.inner.state.subscribe();
        state.wait_for(wanted).await.map_or(State::Ended(End::Closed), |state| state.clone())
    }

    /// Waits until media can flow.
    ///
    /// # Errors
    /// [`End`]: it will not.
    pub async fn connected(&self) -> Result<(), End> {
        match self.reach(|state| *state != State::Connecting).await {
            State::Ended(end) => Err(end),
            State::Connected | State::Connecting => Ok(()),
        }
    }

    /// Waits until it is over; tells why.
    pub async fn ended(&self) -> End {
        match self.reach(|state| matches!(state, State::Ended(_))).await {
            State::Ended(end) => end,
            State::Connected | State::Connecting => End::Closed,
        }
    }

    /// Ends it, and tells the peer.
    pub fn close(&self) {
        self.0.shared.end(&self.0.inner, &End::Closed);
    }

    /// The peer begins ICE anew with these credentials; ours are then what is given back.
    ///
    /// # Errors
    /// [`WebRtcError::Random`], or [`WebRtcError::Stopping`]: it is over.
    pub fn restart(&self, ufrag: String, pwd: String) -> Result<Credentials, WebRtcError> {
        let local = Endpoint::credentials()?;
        let PeerHandle { inner, shared } = &*self.0;
        let mut tables = lock(&shared.tables);
        if !tables.peers.contains_key(&inner.id) || tables.names.contains_key(&local.ufrag) {
            return Err(WebRtcError::Stopping);
        }
        tables.names.insert(local.ufrag.clone(), inner.clone());
        if let Some(name) = inner.session.restart(local.clone(), Credentials { ufrag, pwd }) {
            tables.names.remove(&name);
        }
        Ok(local)
    }

    /// The credentials that the peer has told: by others it asks for a restart.
    #[must_use]
    pub fn remote(&self) -> Credentials {
        self.0.inner.session.remote()
    }

    /// Where the peer is; `None`: it hasn't come yet.
    #[must_use]
    pub fn address(&self) -> Option<SocketAddr> {
        self.0.inner.session.path().map(|path| (unmapped(path.remote.ip()), path.remote.port()).into())
    }

    /// Whether it has come by TCP.
    #[must_use]
    pub fn is_tcp(&self) -> bool {
        self.0.inner.session.path().is_some_and(|path| matches!(path.via, Via::Tcp(_)))
    }

    /// Figures.
    #[must_use]
    pub fn traffic(&self) -> Traffic {
        self.0.inner.session.traffic()
    }
}

#[cfg(test)]
#[path = "endpoint/tests.rs"]
mod tests;
