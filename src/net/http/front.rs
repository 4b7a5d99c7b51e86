use std::fmt;
use std::pin::pin;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, Instant};

use hyper::{Method, StatusCode};
use tokio::sync::watch;

use super::connection::{Connection, DONE, IDLE};
use super::io::Io;
use super::reply::{not_allowed, options_reply};
use super::service::{Begin, Live, LiveRequest, Outcome, Peer, Request, Service};
use super::{Head, Reply, Stream, text_reply};
use crate::id::SessionId;
use crate::net::{Listener, Permit};

/// Bounds and manners of the HTTP front.
#[derive(Debug, Clone)]
pub struct Options {
    /// How long the head of a connection's first request may take.
    pub header_timeout: Duration,
    /// How long a connection may stay open between requests, and the head of a later request may take.
    pub idle_timeout: Duration,
    /// How long a client may read nothing of what we have for it.
    pub send_timeout: Duration,
    /// The most bytes of a request's head.
    pub max_header: usize,
    /// Whether pages of other origins may use what we serve (CORS).
    pub crossdomain: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            header_timeout: Duration::from_secs(10),
            idle_timeout: Duration::from_secs(60),
            send_timeout: Duration::from_secs(30),
            max_header: 16 * 1024,
            crossdomain: true,
        }
    }
}

/// The HTTP/1.1 front: reads requests and gives them to its services. One for all listeners.
pub struct Front {
    options: RwLock<Arc<Options>>,
    services: Vec<Box<dyn Service>>,
    stopping: watch::Sender<bool>,
}

impl Front {
    /// A front that asks `services` in this order.
    #[must_use]
    pub fn new(options: Options, services: Vec<Box<dyn Service>>) -> Arc<Self> {
        let options = RwLock::new(Arc::new(options));
        Arc::new(Self { options, services, stopping: watch::Sender::new(false) })
    }

    /// Changes the options, for connections to come.
    pub fn set_options(&self, options: Options) {
        *self.options.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(options);
    }

    /// Stops accepting and ends kept-alive connections after the reply they are at. Live bodies end when
    /// their stream does.
    pub fn stop(&self) {
        self.stopping.send_replace(true);
    }

    /// Accepts and serves plain connections until [`stop`](Self::stop).
    pub async fn run(self: Arc<Self>, mut listener: Listener) {
        let mut stopped = pin!(self.stopped());
        let door = listener.local_addr();
        loop {
            let connection = tokio::select! {
                connection = listener.accept() => connection,
                () = &mut stopped => return,
            };
            let front = Arc::clone(&self);
            tokio::spawn(async move {
                let stream = Stream::Plain(connection.stream);
                let peer = Peer::new(SessionId::next(), connection.peer, door, false);
                front.serve(stream, peer, connection.permit).await;
            });
        }
    }

    /// Accepts and serves encrypted connections until [`stop`](Self::stop).
    #[cfg(feature = "tls")]
    pub async fn run_tls(self: Arc<Self>, mut listener: Listener, acceptor: crate::net::TlsAcceptor) {
        let mut stopped = pin!(self.stopped());
        let door = listener.local_addr();
        loop {
            let connection = tokio::select! {
                connection = listener.accept() => connection,
                () = &mut stopped => return,
            };
            let (front, acceptor) = (Arc::clone(&self), acceptor.clone());
            tokio::spawn(async move {
                let peer = Peer::new(SessionId::next(), connection.peer, door, true);
                match acceptor.accept(connection.stream).await {
                    Ok(tls) => front.serve(Stream::Tls(Box::new(tls)), peer, connection.permit).await,
                    Err(error) => {
                        log::info!(session:% = peer.id; "HTTPS connection from {} refused: {error}", peer.addr);
                    }
                }
            });
        }
    }

    /// The options for a new connection.
    pub(super) fn options(&self) -> Arc<Options> {
        Arc::clone(&self.options.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Completes when the front is to stop.
    pub(super) async fn stopped(&self) {
        // Fails only when the sender, that is `self`, is gone.
        let _ = self.stopping.subscribe().wait_for(|stop| *stop).await;
    }

    /// Serves one connection to its end, or until a delivery worker owns its socket.
    pub async fn serve(self: Arc<Self>, stream: Stream, peer: Peer, permit: Permit) {
        let since = Instant::now();
        let Peer { id, addr, .. } = peer;
        let scheme = if peer.secure { "HTTPS" } else { "HTTP" };
        log::debug!(session:% = id; "{scheme} connection from {addr}");
        let connection = Arc::new(Connection::new(self, peer, permit));
        let io = Io::new(stream, connection.options.send_timeout);
        let traffic = io.traffic();
        if let Some(why) = Arc::clone(&connection).talk(io).await {
            let seconds = since.elapsed().as_secs_f64();
            let (requests, received, sent) = (connection.requests(), traffic.received(), traffic.sent());
            // A load balancer or port scan that says nothing is no news, nor are the thousands of requests a minute that
            // viewers of segments make: the viewers themselves have their lines.
            let news = traffic.received() > 0 && !matches!(&*why, DONE | IDLE);
            let level = if news { log::Level::Info } else { log::Level::Debug };
            log::log!(level, session:% = id;
                "{scheme} connection from {addr} ended after {seconds:.1} s: {why}; requests: {requests}, \
                 received: {received} bytes, sent: {sent} bytes");
        }
    }

    /// The live body that a `GET` asks for, if it does.
    pub(super) fn live(&self, request: &LiveRequest<'_>) -> Option<Begin> {
        for (place, service) in self.services.iter().enumerate() {
            match service.live(request) {
                Live::No => {}
                Live::Now(begin) => return Some(begin),
                Live::Wait(begin) => {
                    let others = self.services.iter().enumerate().filter(|(other, _)| *other != place);
                    let taken = others.map(|(_, service)| service).any(|service| service.has(request.head));
                    return (!taken).then_some(begin);
                }
            }
        }
        None
    }

    /// What is said to `OPTIONS`.
    pub(super) fn options_of(&self, head: &Head) -> Reply {
        self.services.iter().find_map(|service| service.options(head)).unwrap_or_else(options_reply)
    }

    /// What the first service that knows the request says.
    pub(super) async fn call(&self, request: Request) -> Reply {
        let mut request = Box::new(request);
        for service in &self.services {
            match service.call(*request).await {
                Outcome::Reply(reply) => return *reply,
                Outcome::NotMine(back) => request = back,
            }
        }
        if matches!(request.head.method, Method::GET | Method::HEAD) {
            let path = &request.head.path;
            text_reply(StatusCode::NOT_FOUND, format_args!("404: there is no stream and no file at {path}"))
        } else {
            not_allowed()
        }
    }
}

impl fmt::Debug for Front {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Front({} services)", self.services.len())
    }
}
