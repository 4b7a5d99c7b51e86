//! Requests to other servers (RFC 9110, RFC 9112): callbacks, heartbeats, keys.
//!
//! HTTP/1.1 over TCP or TLS, one answer in memory for each request, all within a time and a size that the caller gives.
//! Servers are verified, always: against what the system trusts and the certificates of `tls.ca`. Redirections are not
//! followed: an answer is that of the server that was asked. Who wants `Basic` credentials puts them into the URL.
//!
//! Connections that stay open are kept for the next request. One that the server closed meanwhile is noticed, and the
//! request goes out once more on a connection of its own; so a server may, very rarely, get a request twice.
//!
//! Not here: HTTP/2, proxies, cookies, compression, bodies that are not in memory.

mod pool;
#[cfg(feature = "tls")]
mod secure;
#[cfg(test)]
mod tests;
mod url;

use std::error::Error as _;
use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use hyper::body::Incoming;
use hyper::client::conn::http1::{self, SendRequest};
use hyper::header::{self, HeaderName, HeaderValue};
use hyper::{Method, Request, Response};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::{Instant, timeout};

use self::pool::Pool;
#[cfg(feature = "tls")]
use self::secure::Trust;
pub use self::url::{Url, UrlError};
use super::Body;
use crate::net::dial;

/// What hyper may hold of one answer that was not read yet, and of a request that was not sent: heads have to fit.
const BUFFER: usize = 16 * 1024;

/// Asks other servers. One for the whole process; it costs nothing before the first request.
pub struct Client {
    pool: Pool,
    #[cfg(feature = "tls")]
    trust: Trust,
}

/// What a request may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// All of it: the name, the connection, TLS, sending, the answer.
    pub timeout: Duration,
    /// The most bytes of the answer's body.
    pub max_body: usize,
}

/// What a server answered.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Answer {
    /// The status, 200 to 599 as a rule.
    pub status: u16,
    /// The body.
    pub body: Bytes,
}

impl Answer {
    /// An answer as a server would give it.
    #[cfg(test)]
    pub(crate) fn new(status: u16, body: Bytes) -> Self {
        Self { status, body }
    }
}

/// Why there is no answer. Texts name the server, never the path or the query, which may hold secrets.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ClientError {
    /// No connection.
    #[error("cannot connect to {server}: {source}")]
    Connect {
        /// The server, `host:port`.
        server: String,
        /// What the system said.
        source: io::Error,
    },
    /// The answer is longer than the caller takes.
    #[error("{server} answered {status} with more than {most} bytes")]
    Long {
        /// The server.
        server: String,
        /// The answer's status.
        status: u16,
        /// The most that is taken.
        most: usize,
    },
    /// It took too long.
    #[error("{server} did not answer within {limit:?} ({doing})")]
    Timeout {
        /// The server.
        server: String,
        /// The time it had.
        limit: Duration,
        /// What was being done.
        doing: &'static str,
    },
    /// The connection broke, or what came is no HTTP.
    #[error("{server} gave no proper answer: {why}")]
    Talk {
        /// The server.
        server: String,
        /// What went wrong.
        why: String,
    },
    /// TLS did not come about, mostly since the server's certificate is not what it has to be.
    #[cfg(feature = "tls")]
    #[error("no secure connection to {server}: {source}{}", secure::advice(.source))]
    Tls {
        /// The server.
        server: String,
        /// What went wrong.
        source: io::Error,
    },
    /// Whom to trust can't be read.
    #[cfg(feature = "tls")]
    #[error("{0}")]
    Trust(String),
    /// The URL asks for what this build has not.
    #[cfg(not(feature = "tls"))]
    #[error("{0} is to be asked by https, and this build has no TLS (Cargo feature \"tls\")")]
    NoTls(String),
    /// The URL is none.
    #[error(transparent)]
    Url(#[from] UrlError),
}

impl Client {
    /// A client that trusts what the system trusts, and who the certificates in the PEM file `ca` say. Both are read when the
    /// first https request is made.
    #[must_use]
    #[cfg_attr(
        not(feature = "tls"),
        allow(unused_variables, clippy::needless_pass_by_value, reason = "only TLS trusts")
    )]
    pub fn new(ca: Option<PathBuf>) -> Self {
        Self {
            pool: Pool::default(),
            #[cfg(feature = "tls")]
            trust: Trust::new(ca),
        }
    }

    /// Trusts others from now on: what `ca` says (now), and the system. For connections to come.
    #[cfg_attr(
        not(feature = "tls"),
        allow(unused_variables, clippy::needless_pass_by_value, reason = "only TLS trusts")
    )]
    pub fn set_ca(&self, ca: Option<PathBuf>) {
        #[cfg(feature = "tls")]
        self.trust.set(ca);
        self.pool.clear();
    }

    /// Sends a request, with `Host`, `User-Agent`, `Content-Length` and what `headers` say, and gives the answer.
    ///
    /// # Errors
    /// [`ClientError`]: there is no whole answer within `limits`.
    pub async fn request(
        &self,
        method: Method,
        url: &Url,
        headers: &[(HeaderName, HeaderValue)],
        body: Bytes,
        limits: Limits,
    ) -> Result<Answer, ClientError> {
        let doing = AtomicU8::new(CONNECTING);
        let answer = self.ask(method, url, headers, body, limits.max_body, &doing);
        timeout(limits.timeout, answer).await.unwrap_or_else(|_| {
            let doing = PHASES.get(usize::from(doing.load(Ordering::Relaxed))).copied().unwrap_or_default();
            Err(ClientError::Timeout { server: url.server(), limit: limits.timeout, doing })
        })
    }

    async fn ask(
        &self,
        method: Method,
        url: &Url,
        headers: &[(HeaderName, HeaderValue)],
        body: Bytes,
        most: usize,
        doing: &AtomicU8,
    ) -> Result<Answer, ClientError> {
        let request = || request(method.clone(), url, headers, body.clone());
        if let Some(mut kept) = self.pool.take(url) {
            doing.store(ASKING, Ordering::Relaxed);
            // Ready: what it carried before is through.
            if kept.ready().await.is_ok() {
                match kept.send_request(request()).await {
                    Ok(response) => return self.read(kept, response, url, most, doing).await,
                    Err(error) if went_away(&error) => {}
                    Err(error) => return Err(talk(url, &error)),
                }
            }
            doing.store(CONNECTING, Ordering::Relaxed);
        }
        let mut fresh = self.connect(url, doing).await?;
        doing.store(ASKING, Ordering::Relaxed);
        let response = fresh.send_request(request()).await.map_err(|error| talk(url, &error))?;
        self.read(fresh, response, url, most, doing).await
    }

    /// Reads the whole answer, and keeps the connection if it can be used again.
    async fn read(
        &self,
        connection: SendRequest<Body>,
        response: Response<Incoming>,
        url: &Url,
        most: usize,
        doing: &AtomicU8,
    ) -> Result<Answer, ClientError> {
        doing.store(READING, Ordering::Relaxed);
        let status = response.status().as_u16();
        let mut incoming = response.into_body();
        let mut body = BytesMut::new();
        while let Some(frame) = next_frame(&mut incoming).await {
            let frame = frame.map_err(|error| talk(url, &error))?;
            let Ok(data) = frame.into_data() else { continue };
            if data.len() > most.saturating_sub(body.len()) {
                return Err(ClientError::Long { server: url.server(), status, most });
            }
            body.extend_from_slice(&data);
        }
        if !connection.is_closed() {
            self.pool.put(url, connection, Instant::now());
        }
        Ok(Answer { status, body: body.freeze() })
    }

    async fn connect(&self, url: &Url, doing: &AtomicU8) -> Result<SendRequest<Body>, ClientError> {
        let failed = |source| ClientError::Connect { server: url.server(), source };
        let socket = dial(url.host(), url.port()).await.map_err(failed)?;
        socket.set_nodelay(true).map_err(failed)?;
        if !url.is_secure() {
            return shake(socket, url).await;
        }
        #[cfg(feature = "tls")]
        {
            doing.store(SECURING, Ordering::Relaxed);
            shake(self.trust.connect(url, socket).await?, url).await
        }
        #[cfg(not(feature = "tls"))]
        {
            let _ = doing;
            Err(ClientError::NoTls(url.server()))
        }
    }
}

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Client")
    }
}

const CONNECTING: u8 = 0;
#[cfg(feature = "tls")]
const SECURING: u8 = 1;
const ASKING: u8 = 2;
const READING: u8 = 3;
const PHASES: [&str; 4] = [
    "it was being connected to",
    "TLS was being negotiated",
    "the request was sent, and no answer began",
    "the answer had begun",
];

/// Begins HTTP on a connection. What drives it ends with the connection, or with the last who can send on it.
async fn shake<T>(io: T, url: &Url) -> Result<SendRequest<Body>, ClientError>
where
    T: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let builder = http1::Builder::new().max_buf_size(BUFFER).handshake(TokioIo::new(io)).await;
    let (sender, connection) = builder.map_err(|error| talk(url, &error))?;
    tokio::spawn(async move {
        // Whoever waits for an answer gets the error, too.
        let _ = connection.await;
    });
    Ok(sender)
}

fn request(method: Method, url: &Url, headers: &[(HeaderName, HeaderValue)], body: Bytes) -> Request<Body> {
    let mut request = Request::new(Body::from(body));
    *request.method_mut() = method;
    *request.uri_mut() = url.target();
    let lines = request.headers_mut();
    lines.insert(header::HOST, url.authority());
    lines.insert(header::USER_AGENT, HeaderValue::from_static(super::SERVER));
    if let Some(credentials) = url.credentials() {
        lines.insert(header::AUTHORIZATION, credentials);
    }
    for (name, value) in headers {
        lines.insert(name, value.clone());
    }
    request
}

async fn next_frame(body: &mut Incoming) -> Option<hyper::Result<hyper::body::Frame<Bytes>>> {
    use hyper::body::Body as _;
    use std::pin::Pin;
    std::future::poll_fn(|cx| Pin::new(&mut *body).poll_frame(cx)).await
}

/// Whether a kept connection had ended before the server began to answer.
fn went_away(error: &hyper::Error) -> bool {
    use io::ErrorKind::{BrokenPipe, ConnectionAborted, ConnectionReset, NotConnected, UnexpectedEof};
    let io = error.source().and_then(|source| source.downcast_ref::<io::Error>()).map(io::Error::kind);
    error.is_incomplete_message()
        || error.is_canceled()
        || error.is_closed()
        || matches!(io, Some(BrokenPipe | ConnectionAborted | ConnectionReset | NotConnected | UnexpectedEof))
}

fn talk(url: &Url, error: &hyper::Error) -> ClientError {
    let mut why = error.to_string();
    let mut cause = error.source();
    while let Some(next) = cause {
        why = format!("{why}: {next}");
        cause = next.source();
    }
    ClientError::Talk { server: url.server(), why }
}
