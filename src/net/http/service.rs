use std::future::Future;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
#[cfg(feature = "webrtc")]
use std::time::Duration;

use bytes::Bytes;
use hyper::body::{Frame, Incoming, SizeHint};

use super::{Head, Reply};
use crate::id::SessionId;
use crate::net::Permit;

/// A future in a box, as trait objects need it.
pub type Boxed<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// One subject that HTTP requests can be about: live streams, files, the API. The front asks its services
/// in order; the first that knows the request answers it.
pub trait Service: Send + Sync {
    /// Whether a `GET` asks for a body that has no end. Called before anything else, and must not block.
    fn live(&self, _request: &LiveRequest<'_>) -> Live {
        Live::No
    }

    /// Whether [`call`](Self::call) would answer. Asked only when another service would have the client
    /// wait for a stream at the same path.
    fn has(&self, _head: &Head) -> bool {
        false
    }

    /// What it says to `OPTIONS`, where that is more than what all say.
    fn options(&self, _head: &Head) -> Option<Reply> {
        None
    }

    /// Answers a request, or hands it back for the next service. `OPTIONS` does not come here, and what a
    /// reply to `HEAD` carries is not sent.
    fn call<'a>(&'a self, request: Request) -> Boxed<'a, Outcome>;
}

/// What came of asking a service.
pub enum Outcome {
    /// It answered.
    Reply(Box<Reply>),
    /// The request is about something else.
    NotMine(Box<Request>),
}

impl From<Reply> for Outcome {
    fn from(reply: Reply) -> Self {
        Self::Reply(Box::new(reply))
    }
}

impl From<Request> for Outcome {
    fn from(request: Request) -> Self {
        Self::NotMine(Box::new(request))
    }
}

/// A request for [`Service::call`].
pub struct Request {
    /// Its head.
    pub head: Head,
    /// Who sent it.
    pub peer: Peer,
    /// Its body. Read it with a limit of bytes and time.
    pub body: RequestBody,
}

/// What a request carries.
#[derive(Debug, Default)]
pub struct RequestBody(pub(super) Option<Incoming>);

/// Why a body could not be read.
#[cfg(feature = "webrtc")]
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BodyError {
    /// It ended, or its connection did.
    #[error("the body ended too early")]
    Cut,
    /// It took too long.
    #[error("the body took longer than {0:?}")]
    Late(Duration),
    /// It is too large.
    #[error("the body is larger than {0} bytes, which is the most")]
    Large(usize),
}

#[cfg(feature = "webrtc")]
impl RequestBody {
    /// All of it: at most so many bytes, within so much time.
    ///
    /// # Errors
    /// [`BodyError`].
    pub async fn read(self, most: usize, time: Duration) -> Result<Vec<u8>, BodyError> {
        use hyper::body::Body as _;
        if self.size_hint().lower() > u64::try_from(most).unwrap_or(u64::MAX) {
            return Err(BodyError::Large(most));
        }
        let reading = async {
            let mut body = std::pin::pin!(self);
            let mut bytes = Vec::new();
            while let Some(frame) = std::future::poll_fn(|cx| body.as_mut().poll_frame(cx)).await {
                let Ok(data) = frame.map_err(|_| BodyError::Cut)?.into_data() else { continue };
                if data.len() > most.saturating_sub(bytes.len()) {
                    return Err(BodyError::Large(most));
                }
                bytes.extend_from_slice(&data);
            }
            Ok(bytes)
        };
        tokio::time::timeout(time, reading).await.unwrap_or(Err(BodyError::Late(time)))
    }
}

impl hyper::body::Body for RequestBody {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        match &mut self.0 {
            Some(body) => Pin::new(body).poll_frame(cx),
            None => Poll::Ready(None),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.0.as_ref().is_none_or(hyper::body::Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.0.as_ref().map_or(SizeHint::with_exact(0), hyper::body::Body::size_hint)
    }
}

/// Who sent a request.
#[derive(Debug, Clone, Copy)]
pub struct Peer {
    /// The connection's session.
    pub id: SessionId,
    /// The other end of the connection.
    pub addr: SocketAddr,
    /// The listener's address: which door it came in by.
    pub door: SocketAddr,
    /// The client behind a reverse proxy on this machine, as the proxy says.
    pub forwarded_for: Option<IpAddr>,
    /// Whether the connection is encrypted.
    pub secure: bool,
}

impl Peer {
    /// A peer that speaks for itself.
    pub(super) fn new(id: SessionId, addr: SocketAddr, door: SocketAddr, secure: bool) -> Self {
        Self { id, addr, door, forwarded_for: None, secure }
    }
}

/// A request for [`Service::live`].
pub struct LiveRequest<'a> {
    /// Its head; the method is `GET`.
    pub head: &'a Head,
    /// Who sent it.
    pub peer: &'a Peer,
    /// How the body will be framed.
    pub framing: Framing,
}

/// How a live body lies on the connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Framing {
    /// `Transfer-Encoding: chunked` (RFC 9112 7.1), chunk heads made by the body.
    Chunked,
    /// As it is: for HTTP/1.0, and where hyper makes the chunks.
    Raw,
    /// Binary messages of a WebSocket, frame heads made by the body.
    WebSocket,
}

/// A service's answer to [`Service::live`].
pub enum Live {
    /// Not about a live stream, or there is none of that name.
    No,
    /// There is such a stream.
    Now(Begin),
    /// There is no such stream yet; if nobody has anything else at this path, wait for it.
    Wait(Begin),
}

/// Ends in a live body, or in the reply that says why there is none.
pub type Begin = Boxed<'static, Result<Box<dyn LiveBody>, Reply>>;

/// A body without end: one reader of a live stream, not started yet.
pub trait LiveBody: Send {
    /// Its `Content-Type`.
    fn content_type(&self) -> &'static str;

    /// Takes a plain socket (non-blocking) over, for good: `head` is to be written first, `early` is what the
    /// client sent after its request, `permit` is to be kept as long as the socket is open.
    fn deliver(self: Box<Self>, socket: std::net::TcpStream, head: Bytes, early: &[u8], permit: Arc<Permit>);

    /// What to write next, framed; whole messages where the framing has such. `None`: the end. May be
    /// dropped before it completes.
    fn next(&mut self) -> Boxed<'_, Option<Vec<Bytes>>>;

    /// Tells why it ended, of a body that was read with [`next`](Self::next).
    fn finish(self: Box<Self>, why: &str);
}
