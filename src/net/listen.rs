use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use socket2::{Domain, Protocol, SockRef, Socket, TcpKeepalive, Type};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;

use super::NetError;
use super::limit::{ConnectionLimit, Full, Permit};
use crate::pulse::Pulse;

/// How many connections the kernel keeps for us between two accepts: a reconnect storm of a thousand
/// players must not see refused connections. The kernel lowers it to `net.core.somaxconn`.
const BACKLOG: i32 = 4096;

/// First pause after the process or the system ran out of descriptors or memory; doubles to
/// [`BACKOFF_MAX`]. Without it the loop would spin, since the waiting connection stays readable.
const BACKOFF_MIN: Duration = Duration::from_millis(50);
const BACKOFF_MAX: Duration = Duration::from_secs(1);

/// Connections closed over the limit, and failures to accept, are told in one line per this time: at the edge
/// of a limit success and failure alternate.
const LOG_PERIOD: Duration = Duration::from_secs(10);

/// A listening TCP socket.
#[derive(Debug)]
pub struct Listener {
    socket: TcpListener,
    local_addr: SocketAddr,
    limit: ConnectionLimit,
    options: TcpOptions,
    /// The pause after the last failed accept; zero when the last one succeeded.
    backoff: Duration,
    refused: Refused,
    trouble: Trouble,
    probe: Probe,
}

impl Listener {
    /// Opens a listening socket. `[::]` takes IPv4 too, and becomes `0.0.0.0` where the system has no IPv6;
    /// port 0 lets the system choose. Must be called inside a tokio runtime.
    ///
    /// # Errors
    /// [`NetError::Bind`], whose text says what to do (port taken, privileged port, no such address).
    pub fn bind(addr: SocketAddr, limit: ConnectionLimit, options: TcpOptions) -> Result<Self, NetError> {
        let bound = open(addr).or_else(|error| match ipv4_instead(addr, &error) {
            Some(v4) => {
                log::info!("no IPv6 on this system ({error}): listening on {v4} instead of {addr}");
                open(v4)
            }
            None => Err(error),
        });
        let socket = bound.map_err(|source| NetError::Bind { addr, source })?;
        Self::of(socket, limit, options).map_err(|source| NetError::Bind { addr, source })
    }

    /// Listens by a socket that was passed to us, which stays open for others when this is dropped.
    ///
    /// # Errors
    /// As [`bind`](Self::bind).
    pub fn passed(
        socket: &std::net::TcpListener,
        addr: SocketAddr,
        limit: ConnectionLimit,
        options: TcpOptions,
    ) -> Result<Self, NetError> {
        let listener = || Self::of(TcpListener::from_std(socket.try_clone()?)?, limit, options);
        listener().map_err(|source| NetError::Bind { addr, source })
    }

    fn of(socket: TcpListener, limit: ConnectionLimit, options: TcpOptions) -> io::Result<Self> {
        let local_addr = socket.local_addr()?;
        Ok(Self {
            socket,
            local_addr,
            limit,
            options,
            backoff: Duration::ZERO,
            refused: Refused::default(),
            trouble: Trouble::default(),
            probe: Probe::default(),
        })
    }

    /// Where it listens; the port is the real one also if 0 was asked for.
    #[must_use]
    pub fn local_addr(&self) -> SocketAddr {
        self.local_addr
    }

    /// Tells whether the task that accepts still lives.
    #[must_use]
    pub fn probe(&self) -> Probe {
        self.probe.clone()
    }

    /// The next connection. Never fails and never ends: errors of single connections are skipped, want of
    /// descriptors or memory is waited out (and logged once), connections over the limit are closed (and
    /// logged in sum). May be dropped at any await point without losing a connection.
    pub async fn accept(&mut self) -> Connection {
        loop {
            if !self.backoff.is_zero() {
                tokio::time::sleep(self.backoff).await;
            }
            self.probe.0.pulse.answer();
            let accepted = tokio::select! {
                accepted = self.socket.accept() => accepted,
                () = self.probe.0.asked.notified() => continue,
            };
            match accepted {
                Ok((stream, peer)) => {
                    self.backoff = Duration::ZERO;
                    if self.trouble.is_over() {
                        log::info!("accepting connections on {} again", self.local_addr);
                    }
                    let peer = canonical(peer);
                    let permit = match self.limit.permit(peer.ip()) {
                        Ok(permit) => permit,
                        Err(full) => {
                            self.refused.count(full, peer, self.local_addr, Instant::now());
                            continue;
                        }
                    };
                    if let Err(error) = self.options.apply(&stream) {
                        // The peer is gone already; reading will tell.
                        log::debug!("socket options of {peer}: {error}");
                    }
                    return Connection { stream, peer, permit };
                }
                Err(error) if is_peers_fault(&error) => {
                    log::debug!("a connection to {} ended before it was accepted: {error}", self.local_addr);
                }
                Err(error) => {
                    if self.trouble.is_news(Instant::now()) {
                        log::error!(
                            "cannot accept connections on {}: {error}; trying on (is the limit of open files, \
                             `ulimit -n`, above max_connections?)",
                            self.local_addr
                        );
                    }
                    self.backoff = (self.backoff * 2).clamp(BACKOFF_MIN, BACKOFF_MAX);
                }
            }
        }
    }
}

/// Asks a listener's task for a sign of life. Clones ask the same one.
#[derive(Debug, Clone, Default)]
pub struct Probe(Arc<Probed>);

#[derive(Debug, Default)]
struct Probed {
    pulse: Pulse,
    asked: Notify,
}

impl Probe {
    /// Asks, and says how often that was done before without an answer.
    pub fn ask(&self) -> u32 {
        let silent = self.0.pulse.ask();
        self.0.asked.notify_one();
        silent
    }

    /// Answers each time it is asked, for as long as this is polled.
    pub async fn answer(&self) {
        loop {
            self.0.pulse.answer();
            self.0.asked.notified().await;
        }
    }
}

/// An accepted connection.
#[derive(Debug)]
pub struct Connection {
    /// The socket, with [`TcpOptions`] set.
    pub stream: TcpStream,
    /// Who is at the other end; an IPv4 peer of a dual-stack socket has its IPv4 address.
    pub peer: SocketAddr,
    /// Its place under the limit: keep it as long as the socket is open.
    pub permit: Permit,
}

/// What is set on every accepted (or opened) TCP socket, `TCP_NODELAY` apart, which always is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TcpOptions {
    /// `TCP_NOTSENT_LOWAT`: the kernel says "writable" only while fewer unsent bytes than this wait in its
    /// buffer, so that a slow reader's backlog stays in the shared ring instead of in kernel memory.
    pub notsent_lowat: Option<u32>,
    /// Idle time after which the kernel asks whether the peer is still there; three unanswered questions a
    /// third of this apart end the connection.
    pub keepalive: Option<Duration>,
    /// `TCP_USER_TIMEOUT`: sent bytes unacknowledged for this long end the connection.
    pub user_timeout: Option<Duration>,
}

impl Default for TcpOptions {
    fn default() -> Self {
        Self {
            notsent_lowat: Some(256 * 1024),
            keepalive: Some(Duration::from_secs(60)),
            user_timeout: Some(Duration::from_secs(30)),
        }
    }
}

impl TcpOptions {
    /// Sets the options on a socket. An option that the system does not know is left out: it is an
    /// improvement, not a condition.
    ///
    /// # Errors
    /// When `TCP_NODELAY` can't be set, that is when the connection is closed already.
    pub fn apply(&self, stream: &TcpStream) -> io::Result<()> {
        const KEEPALIVE_PROBES: u32 = 3;
        let socket = SockRef::from(stream);
        socket.set_tcp_nodelay(true)?;
        let or_leave = |option: &str, result: io::Result<()>| {
            if let Err(error) = result {
                log::debug!("{option} not set: {error}");
            }
        };
        if let Some(idle) = self.keepalive.filter(|idle| !idle.is_zero()) {
            let pause = (idle / KEEPALIVE_PROBES).max(Duration::from_secs(1));
            let keepalive =
                TcpKeepalive::new().with_time(idle).with_interval(pause).with_retries(KEEPALIVE_PROBES);
            or_leave("TCP keepalive", socket.set_tcp_keepalive(&keepalive));
        }
        #[cfg(target_os = "linux")]
        {
            if let Some(bytes) = self.notsent_lowat {
                or_leave("TCP_NOTSENT_LOWAT", socket.set_tcp_notsent_lowat(bytes));
            }
            or_leave("TCP_USER_TIMEOUT", socket.set_tcp_user_timeout(self.user_timeout));
        }
        Ok(())
    }
}

/// Connections closed over a limit since they were last told of.
#[derive(Debug, Default)]
struct Refused {
    count: u64,
    logged: Option<Instant>,
}

impl Refused {
    fn count(&mut self, full: Full, peer: SocketAddr, local: SocketAddr, now: Instant) {
        self.count = self.count.saturating_add(1);
        if self.logged.is_none_or(|logged| now.saturating_duration_since(logged) >= LOG_PERIOD) {
            let reached = match full {
                Full::All(max) => format!("server.max_connections = {max} reached"),
                Full::Address(max) => {
                    format!("server.max_connections_per_ip: {max} connections from {}", peer.ip())
                }
            };
            log::warn!("{reached}: closed {} new one(s) on {local} since the last such line", self.count);
            *self = Self { count: 0, logged: Some(now) };
        }
    }
}

/// Whether it was told that connections can't be accepted.
#[derive(Debug, Default)]
struct Trouble {
    logged: Option<Instant>,
    lasts: bool,
}

impl Trouble {
    /// Accepting failed: whether to tell.
    fn is_news(&mut self, now: Instant) -> bool {
        let long_ago = |logged| now.saturating_duration_since(logged) >= LOG_PERIOD;
        let news = !self.lasts && self.logged.is_none_or(long_ago);
        if news {
            *self = Self { logged: Some(now), lasts: true };
        }
        news
    }

    /// Accepting succeeded: whether to tell.
    fn is_over(&mut self) -> bool {
        std::mem::take(&mut self.lasts)
    }
}

fn open(addr: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(addr), Type::STREAM, Some(Protocol::TCP))?;
    // A restarted server must not wait for its old connections' TIME_WAIT.
    socket.set_reuse_address(true)?;
    if addr.is_ipv6() {
        // Only the wildcard can be dual stack.
        socket.set_only_v6(!addr.ip().is_unspecified())?;
    }
    socket.set_nonblocking(true)?;
    socket.bind(&addr.into())?;
    socket.listen(BACKLOG)?;
    TcpListener::from_std(socket.into())
}

/// `0.0.0.0` for `[::]`, if the error says that the system has no IPv6.
fn ipv4_instead(addr: SocketAddr, error: &io::Error) -> Option<SocketAddr> {
    // EAFNOSUPPORT has no ErrorKind; the number is the same on all Linux targets but MIPS.
    const EAFNOSUPPORT: i32 = if cfg!(any(target_arch = "mips", target_arch = "mips64")) { 124 } else { 97 };
    let is_wildcard = addr.is_ipv6() && addr.ip().is_unspecified();
    let no_ipv6 =
        error.raw_os_error() == Some(EAFNOSUPPORT) || error.kind() == io::ErrorKind::AddrNotAvailable;
    (is_wildcard && no_ipv6).then(|| SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), addr.port()))
}

/// The peer's address in its own family: `192.0.2.1`, not `::ffff:192.0.2.1`.
fn canonical(peer: SocketAddr) -> SocketAddr {
    SocketAddr::new(peer.ip().to_canonical(), peer.port())
}

/// Whether only the connection that was to be accepted is broken, not our ability to accept (accept(2)
/// hands over errors that are pending on the new socket).
fn is_peers_fault(error: &io::Error) -> bool {
    use io::ErrorKind as Kind;
    matches!(
        error.kind(),
        Kind::ConnectionAborted
            | Kind::ConnectionRefused
            | Kind::ConnectionReset
            | Kind::HostUnreachable
            | Kind::Interrupted
            | Kind::NetworkDown
            | Kind::NetworkUnreachable
            | Kind::TimedOut
            | Kind::WouldBlock
    )
}

/// What to do about a failed bind.
pub(super) fn bind_advice(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::AddrInUse => {
            "the port is taken by another program (`ss -ltnp` shows which); stop it or \
                                     choose another port"
                .into()
        }
        io::ErrorKind::PermissionDenied => {
            "permission denied; ports below 1024 need root or CAP_NET_BIND_SERVICE".into()
        }
        io::ErrorKind::AddrNotAvailable => "this machine has no such address".into(),
        _ => error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::AsyncReadExt;

    fn any() -> SocketAddr {
        "[::]:0".parse().unwrap()
    }

    #[tokio::test]
    async fn accepts_ipv4_on_the_wildcard_and_sets_options() {
        let mut listener = Listener::bind(any(), ConnectionLimit::new(9, 9), TcpOptions::default()).unwrap();
        let port = listener.local_addr().port();
        let client = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
        let connection = listener.accept().await;
        assert_eq!(connection.peer, client.local_addr().unwrap(), "an IPv4 peer has an IPv4 address");
        assert!(connection.stream.nodelay().unwrap());
        let socket = SockRef::from(&connection.stream);
        assert!(socket.keepalive().unwrap());
        #[cfg(target_os = "linux")]
        {
            assert_eq!(socket.tcp_notsent_lowat().unwrap(), 256 * 1024);
            assert_eq!(socket.tcp_user_timeout().unwrap(), Some(Duration::from_secs(30)));
        }
    }

    #[tokio::test]
    async fn connections_over_the_limit_are_closed() {
        let limit = ConnectionLimit::new(1, 1);
        let mut listener =
            Listener::bind("127.0.0.1:0".parse().unwrap(), limit.clone(), TcpOptions::default()).unwrap();
        let addr = listener.local_addr();
        let first = TcpStream::connect(addr).await.unwrap();
        let accepted = listener.accept().await;
        let mut second = TcpStream::connect(addr).await.unwrap();
        let nobody = tokio::time::timeout(Duration::from_millis(300), listener.accept()).await;
        assert!(nobody.is_err());
        assert_eq!(second.read(&mut [0; 1]).await.unwrap_or(0), 0, "closed by us");
        drop((first, accepted));
        let _third = TcpStream::connect(addr).await.unwrap();
        listener.accept().await;
    }

    #[tokio::test]
    async fn a_taken_port_is_told_clearly() {
        let options = TcpOptions::default();
        let first = Listener::bind(any(), ConnectionLimit::new(1, 1), options).unwrap();
        let error = Listener::bind(first.local_addr(), ConnectionLimit::new(1, 1), options).unwrap_err();
        assert!(error.to_string().contains("the port is taken"), "{error}");
    }

    #[tokio::test]
    async fn a_listener_that_accepts_lives() {
        let mut listener = Listener::bind(any(), ConnectionLimit::new(1, 1), TcpOptions::default()).unwrap();
        let probe = listener.probe();
        assert_eq!((probe.ask(), probe.ask(), probe.ask()), (0, 1, 2), "nobody accepts yet");
        let accepting = tokio::spawn(async move { listener.accept().await });
        for _ in 0..3 {
            while probe.ask() > 0 {
                tokio::task::yield_now().await;
            }
        }
        accepting.abort();
        let _ = accepting.await;
        probe.ask();
        assert!(probe.ask() > 0, "nobody accepts any more");
    }

    #[test]
    fn refused_connections_are_told_in_sum() {
        let (mut refused, start) = (Refused::default(), Instant::now());
        for second in 0..9 {
            refused.count(Full::All(1), any(), any(), start + Duration::from_secs(second));
        }
        assert_eq!(refused.count, 8, "the first was told at once");
        refused.count(Full::Address(1), any(), any(), start + Duration::from_secs(10));
        assert_eq!(refused.count, 0);
    }

    #[test]
    fn trouble_is_told_once_and_its_end_too() {
        let (mut trouble, start) = (Trouble::default(), Instant::now());
        assert!(trouble.is_news(start) && !trouble.is_news(start + LOG_PERIOD));
        assert!(trouble.is_over() && !trouble.is_over());
        assert!(!trouble.is_news(start + LOG_PERIOD / 2) && !trouble.is_over(), "it flaps");
        assert!(trouble.is_news(start + LOG_PERIOD));
    }

    #[test]
    fn only_the_ipv6_wildcard_falls_back() {
        let no_ipv6 = io::Error::from(io::ErrorKind::AddrNotAvailable);
        assert_eq!(ipv4_instead("[::]:80".parse().unwrap(), &no_ipv6), Some("0.0.0.0:80".parse().unwrap()));
        assert_eq!(ipv4_instead("[::1]:80".parse().unwrap(), &no_ipv6), None);
        let taken = io::Error::from(io::ErrorKind::AddrInUse);
        assert_eq!(ipv4_instead(any(), &taken), None);
    }
}
