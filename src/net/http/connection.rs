use std::convert::Infallible;
use std::error::Error as _;
use std::net::IpAddr;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use bytes::{Buf, BufMut, BytesMut};
use hyper::body::Incoming;
use hyper::header::{self, HeaderValue};
use hyper::server::conn::http1;
#[cfg(feature = "tls")]
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper::upgrade::OnUpgrade;
use hyper::{Method, Response, StatusCode, Version};
#[cfg(feature = "tls")]
use hyper_util::rt::TokioExecutor;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::mpsc;

use super::front::{Front, Options};
use super::io::Io;
use super::plain;
use super::pump::{end_of, pump, pump_into};
use super::reply::{asks_websocket, finish, last_reply, live_head, switch_headers, websocket_fault};
use super::service::{Framing, LiveBody, LiveRequest, Peer, Request, RequestBody};
use super::{Body, Head, HeadError, Reply, text_reply};
use crate::net::Permit;

/// hyper refuses a smaller buffer.
const HYPER_MIN_BUFFER: usize = 8192;

/// How many requests of one HTTP/2 connection may be under way: a page's player and its blocked playlists need ten.
#[cfg(feature = "tls")]
const HTTP2_STREAMS: u32 = 64;
/// What may wait to be sent for each of them.
#[cfg(feature = "tls")]
const HTTP2_SEND_BUFFER: usize = 64 * 1024;

/// Why connections end on which nothing went wrong.
pub(super) const DONE: &str = "done";
pub(super) const IDLE: &str = "idle for too long";

/// How long, and for how many bytes, we read on after a last reply: closing with bytes unread would reset the
/// connection, and the client might never see the reply.
const LINGER: Duration = Duration::from_secs(1);
const LINGER_BYTES: u64 = 256 * 1024;

/// One connection, shared with the task that writes a live body on it.
pub(super) struct Connection {
    pub(super) options: Arc<Options>,
    front: Arc<Front>,
    peer: Peer,
    permit: Arc<Permit>,
    requests: AtomicU32,
}

impl Connection {
    pub(super) fn new(front: Arc<Front>, peer: Peer, permit: Permit) -> Self {
        Self { options: front.options(), front, peer, permit: Arc::new(permit), requests: AtomicU32::new(0) }
    }

    /// How many requests were read.
    pub(super) fn requests(&self) -> u32 {
        self.requests.load(Ordering::Relaxed)
    }

    /// Serves the connection: why it ended, or `None` when a delivery worker has it now.
    pub(super) async fn talk(self: Arc<Self>, mut io: Io) -> Option<String> {
        #[cfg(feature = "tls")]
        if io.is_http2() {
            return Some(self.http2(io).await);
        }
        let mut buffer = BytesMut::with_capacity(1024);
        let front = Arc::clone(&self.front);
        let mut stopped = pin!(front.stopped());
        loop {
            let first = self.requests() == 0;
            let patience = if first { self.options.header_timeout } else { self.options.idle_timeout };
            let reading =
                tokio::time::timeout(patience, read_head(&mut io, &mut buffer, self.options.max_header));
            let read = tokio::select! {
                biased;
                // What a client has just asked is not answered any more, as if it had come later.
                () = &mut stopped, if !first => return Some(DONE.to_owned()),
                read = reading => read,
            };
            let (head, len) = match read {
                Ok(Ok(Some((head, len)))) => (Box::new(head), len),
                Ok(Ok(None)) if first => return Some("the client sent no request".to_owned()),
                Ok(Ok(None)) => return Some(DONE.to_owned()),
                Ok(Err(error)) => return Some(refuse(io, &error).await),
                Err(_) if !first => return Some(IDLE.to_owned()),
                Err(_) if buffer.is_empty() => return Some("no request came in time".to_owned()),
                Err(_) => return Some(refuse(io, &HeadError::Timeout).await),
            };
            let (head, len) = match self.answer_plain(&mut io, head, len, &mut buffer).await {
                Ok(true) => continue,
                Ok(false) => return Some(close(io).await),
                Err(Unanswered::Ended(why)) => return Some(why),
                Err(Unanswered::Other(head, len)) => (head, len),
            };
            return self.other(io, &head, len, buffer).await;
        }
    }

    /// Answers a request that has no body and wants none without end. Whether another may follow.
    async fn answer_plain(
        &self,
        io: &mut Io,
        head: Box<Head>,
        len: usize,
        buffer: &mut BytesMut,
    ) -> Result<bool, Unanswered> {
        let peer = self.peer_of(&head);
        let asked = LiveRequest { head: &head, peer: &peer, framing: Framing::Raw };
        let is_live = head.method == Method::GET && self.front.live(&asked).is_some();
        if is_live || io.plain().is_none() || !plain::is_plain(&head) {
            return Err(Unanswered::Other(head, len));
        }
        buffer.advance(len.min(buffer.len()));
        self.count(&head, &peer);
        let cors = self.cors(&head);
        let request = Request { head: Head::clone(&head), peer, body: RequestBody::default() };
        let mut reply = {
            let gone = async {
                tokio::time::sleep(plain::LOOK).await;
                io.gone().await;
            };
            tokio::select! {
                biased;
                reply = self.front.call(request) => reply,
                () = gone => return Err(Unanswered::Ended("the client left before it was answered".to_owned())),
            }
        };
        finish(reply.headers_mut(), cors);
        plain::send(io, &head, reply).await.map_err(|error| Unanswered::Ended(end_of(&error)))
    }

    /// Gives a live body, or what it says instead; other requests, and all that follow, go to hyper.
    async fn other(
        self: Arc<Self>,
        mut io: Io,
        head: &Head,
        len: usize,
        mut buffer: BytesMut,
    ) -> Option<String> {
        let framing = match head.version {
            Version::HTTP_10 => Framing::Raw,
            _ if asks_websocket(head) => Framing::WebSocket,
            _ => Framing::Chunked,
        };
        let peer = self.peer_of(head);
        let request = LiveRequest { head, peer: &peer, framing };
        let begin = if head.method == Method::GET { self.front.live(&request) } else { None };
        let Some(begin) = begin else {
            io.unread(buffer.freeze());
            return Some(self.hyper(io).await);
        };
        self.count(head, &peer);
        let cors = self.cors(head);
        let fault = if framing == Framing::WebSocket { websocket_fault(head) } else { None };
        let begun = tokio::select! {
            begun = async { if let Some(reply) = fault { Err(reply) } else { begin.await } } => begun,
            () = io.gone() => return Some("the client left before the stream began".to_owned()),
        };
        let body = match begun {
            Ok(body) => body,
            Err(mut reply) => {
                finish(reply.headers_mut(), cors);
                return Some(send_last(io, &reply).await);
            }
        };
        let start = live_head(head, framing, body.content_type(), cors);
        let early = buffer.split_off(len.min(buffer.len())).freeze();
        match io.into_plain().map(tokio::net::TcpStream::into_std) {
            Ok(Ok(socket)) => {
                body.deliver(socket, start, &early, Arc::clone(&self.permit));
                None
            }
            Ok(Err(error)) => {
                let why = format!("the socket cannot be handed to a delivery worker: {error}");
                body.finish(&why);
                Some(why)
            }
            Err(mut io) => {
                io.unread(early);
                Some(pump(io, start, body, framing == Framing::WebSocket).await)
            }
        }
    }

    /// Gives the connection to hyper, until its end.
    async fn hyper(self: Arc<Self>, io: Io) -> String {
        let this = Arc::clone(&self);
        let service = service_fn(move |request| {
            let this = Arc::clone(&this);
            async move { Ok::<_, Infallible>(this.answer(request).await) }
        });
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(self.options.idle_timeout)
            .max_buf_size(self.options.max_header.max(HYPER_MIN_BUFFER))
            .title_case_headers(true)
            .serve_connection(TokioIo::new(io), service)
            .with_upgrades();
        let mut connection = pin!(connection);
        let done = tokio::select! {
            done = &mut connection => done,
            () = self.front.stopped() => {
                connection.as_mut().graceful_shutdown();
                connection.await
            }
        };
        why(done)
    }

    /// Speaks HTTP/2 (RFC 9113), which TLS clients choose in the handshake, until the connection's end.
    #[cfg(feature = "tls")]
    async fn http2(self: Arc<Self>, io: Io) -> String {
        let traffic = io.traffic();
        let this = Arc::clone(&self);
        let service = service_fn(move |request| {
            let this = Arc::clone(&this);
            async move { Ok::<_, Infallible>(this.answer(request).await) }
        });
        let connection = http2::Builder::new(TokioExecutor::new())
            .timer(TokioTimer::new())
            .max_concurrent_streams(HTTP2_STREAMS)
            .max_send_buf_size(HTTP2_SEND_BUFFER)
            .max_header_list_size(u32::try_from(self.options.max_header).unwrap_or(u32::MAX))
            .serve_connection(TokioIo::new(io), service);
        let mut connection = pin!(connection);
        let mut seen = 0;
        loop {
            tokio::select! {
                done = &mut connection => return why(done),
                () = self.front.stopped() => break,
                () = tokio::time::sleep(self.options.idle_timeout) => {
                    let carried = traffic.received().saturating_add(traffic.sent());
                    if std::mem::replace(&mut seen, carried) == carried {
                        break;
                    }
                }
            }
        }
        // Requests under way are answered; the client is told to send no more.
        connection.as_mut().graceful_shutdown();
        why(connection.await)
    }

    /// Answers a request that hyper has read.
    async fn answer(self: Arc<Self>, mut request: hyper::Request<Incoming>) -> Reply {
        let upgrade = hyper::upgrade::on(&mut request);
        let (parts, body) = request.into_parts();
        let head = match Head::of(parts) {
            Ok(head) => head,
            Err(error) => {
                let mut reply = text_reply(error.status(), error);
                finish(reply.headers_mut(), false);
                return reply;
            }
        };
        let peer = self.peer_of(&head);
        self.count(&head, &peer);
        let cors = self.cors(&head);
        let mut reply = match head.method {
            Method::OPTIONS => self.front.options_of(&head),
            _ => self.route(Request { head, peer, body: RequestBody(Some(body)) }, upgrade).await,
        };
        finish(reply.headers_mut(), cors);
        reply
    }

    async fn route(self: &Arc<Self>, request: Request, upgrade: OnUpgrade) -> Reply {
        let (head, peer) = (&request.head, &request.peer);
        let is_websocket = head.version != Version::HTTP_10 && asks_websocket(head);
        let framing = if is_websocket { Framing::WebSocket } else { Framing::Raw };
        let asked = LiveRequest { head, peer, framing };
        let begin = if head.method == Method::GET { self.front.live(&asked) } else { None };
        let Some(begin) = begin else { return self.front.call(request).await };
        if is_websocket && let Some(reply) = websocket_fault(head) {
            return reply;
        }
        match begin.await {
            Ok(body) if is_websocket => self.switch(head, upgrade, body),
            Ok(body) => self.stream(head.version, body),
            Err(reply) => reply,
        }
    }

    /// A live body as one of hyper's: its task ends with the stream, or with hyper's end of the channel.
    fn stream(self: &Arc<Self>, version: Version, body: Box<dyn LiveBody>) -> Reply {
        // One piece is on its way while hyper writes the one before: all else waits in the shared ring.
        let (sender, receiver) = mpsc::channel(1);
        let mut reply = Response::new(Body::live(receiver));
        reply.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(body.content_type()));
        if version != Version::HTTP_2 {
            reply.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("Close"));
        }
        let permit = Arc::clone(&self.permit);
        tokio::spawn(async move {
            pump_into(sender, body).await;
            drop(permit);
        });
        reply
    }

    /// The 101 that begins a WebSocket; its task takes the connection from hyper.
    fn switch(self: &Arc<Self>, head: &Head, upgrade: OnUpgrade, body: Box<dyn LiveBody>) -> Reply {
        let mut reply = Response::new(Body::default());
        *reply.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
        switch_headers(head, reply.headers_mut());
        let permit = Arc::clone(&self.permit);
        tokio::spawn(async move {
            match upgrade.await {
                Ok(io) => drop(pump(TokioIo::new(io), bytes::Bytes::new(), body, true).await),
                Err(error) => body.finish(&format!("the client left: {error}")),
            }
            drop(permit);
        });
        reply
    }

    fn count(&self, head: &Head, peer: &Peer) {
        self.requests.fetch_add(1, Ordering::Relaxed);
        match peer.forwarded_for {
            Some(client) => log::debug!(session:% = peer.id; "{head:?} for {client}"),
            None => log::debug!(session:% = peer.id; "{head:?}"),
        }
    }

    fn cors(&self, head: &Head) -> bool {
        self.options.crossdomain && head.headers.contains_key(header::ORIGIN)
    }

    fn peer_of(&self, head: &Head) -> Peer {
        Peer { forwarded_for: forwarded_for(head, self.peer.addr.ip()), ..self.peer }
    }
}

/// Why a request was not answered from here.
enum Unanswered {
    /// The connection is of no more use, for this reason.
    Ended(String),
    /// It is not one of those that are; its head, and how long that is in the buffer.
    Other(Box<Head>, usize),
}

/// Closes a connection after its last reply, so that the client gets all of that.
async fn close(mut io: Io) -> String {
    let _ = io.shutdown().await;
    let mut rest = io.take(LINGER_BYTES);
    let _ = tokio::time::timeout(LINGER, tokio::io::copy(&mut rest, &mut tokio::io::sink())).await;
    DONE.to_owned()
}

/// Why hyper is done with a connection.
fn why(done: Result<(), hyper::Error>) -> String {
    match done {
        Ok(()) => DONE.to_owned(),
        Err(error) if error.is_timeout() => IDLE.to_owned(),
        Err(error) if error.is_incomplete_message() => "the client left in the middle".to_owned(),
        Err(error) => match error.source() {
            Some(source) => match source.downcast_ref() {
                Some(io) => end_of(io),
                None => format!("{error}: {source}"),
            },
            None => error.to_string(),
        },
    }
}

/// Reads the head of a connection's next request into `buffer`, which may then hold more than the head.
/// `None`: the client closed without a word.
async fn read_head(
    io: &mut Io,
    buffer: &mut BytesMut,
    max: usize,
) -> Result<Option<(Head, usize)>, HeadError> {
    // A client may ask for several things in one go.
    if !buffer.is_empty()
        && let Some(found) = Head::parse(buffer)?
    {
        return Ok(Some(found));
    }
    let mut parsed = buffer.len();
    loop {
        let room = max.saturating_sub(buffer.len());
        if room == 0 {
            return Err(HeadError::TooLarge);
        }
        let before = buffer.len();
        match io.read_buf(&mut (&mut *buffer).limit(room)).await {
            Ok(0) | Err(_) if before == 0 => return Ok(None),
            Ok(0) | Err(_) => return Err(HeadError::Malformed("it ends in the middle".to_owned())),
            Ok(_) => {}
        }
        const TLS_HANDSHAKE: u8 = 0x16;
        if buffer.first() == Some(&TLS_HANDSHAKE) {
            return Err(HeadError::Tls);
        }
        // A client that sends byte by byte must not make us parse at every byte: only when the head may be
        // whole, and at doubled lengths, to refuse garbage early.
        let new = buffer.get(before.saturating_sub(3)..).unwrap_or_default();
        let may_be_whole =
            new.windows(2).any(|end| end == b"\n\n") || new.windows(3).any(|end| end == b"\n\r\n");
        if may_be_whole || buffer.len() >= parsed * 2 {
            parsed = buffer.len();
            if let Some(found) = Head::parse(buffer)? {
                return Ok(Some(found));
            }
        }
    }
}

/// Tells the client what is wrong with its request.
async fn refuse(io: Io, error: &HeadError) -> String {
    let mut reply = text_reply(error.status(), format_args!("{}: {error}", error.status().as_u16()));
    finish(reply.headers_mut(), false);
    send_last(io, &reply).await;
    format!("request refused: {error}")
}

/// Sends a reply and closes.
async fn send_last(mut io: Io, reply: &Reply) -> String {
    let _ = io.write_all(&last_reply(reply)).await;
    close(io).await;
    format!("answered {}", reply.status().as_u16())
}

/// Who a reverse proxy on this very machine says it asks for. Proxies elsewhere are not believed: anyone
/// could send these headers.
fn forwarded_for(head: &Head, peer: IpAddr) -> Option<IpAddr> {
    if !peer.to_canonical().is_loopback() {
        return None;
    }
    // The last address is the one that our proxy has seen itself; what stands before, and X-Real-IP beside it, may be the
    // client's own words.
    let mut lines = head.headers.get_all("x-forwarded-for").iter();
    let chain = lines.next_back().and_then(|line| line.to_str().ok()?.rsplit(',').next());
    let address = chain.or_else(|| head.header("x-real-ip"))?.trim().parse::<IpAddr>();
    address.ok().map(|address| address.to_canonical())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_local_proxy_is_believed() {
        let text = "GET / HTTP/1.1\r\nX-Forwarded-For: 1.1.1.1, 2.2.2.2\r\n\r\n";
        let head = Head::parse(text.as_bytes()).unwrap().unwrap().0;
        assert_eq!(forwarded_for(&head, [127, 0, 0, 1].into()), Some([2, 2, 2, 2].into()));
        assert_eq!(forwarded_for(&head, [10, 0, 0, 1].into()), None);
        let both = b"GET / HTTP/1.1\r\nX-Real-IP: 9.9.9.9\r\nX-Forwarded-For: 8.8.8.8\r\nX-Forwarded-For: 7.7.7.7, 3.3.3.3\r\n\r\n";
        let both = Head::parse(both).unwrap().unwrap().0;
        assert_eq!(
            forwarded_for(&both, [127, 0, 0, 1].into()),
            Some([3, 3, 3, 3].into()),
            "what the proxy added"
        );
        let real = Head::parse(b"GET / HTTP/1.1\r\nX-Real-IP: 4.4.4.4\r\n\r\n").unwrap().unwrap().0;
        assert_eq!(forwarded_for(&real, "::ffff:127.0.0.1".parse().unwrap()), Some([4, 4, 4, 4].into()));
        let bad = Head::parse(b"GET / HTTP/1.1\r\nX-Real-IP: x\r\n\r\n").unwrap().unwrap().0;
        assert_eq!(forwarded_for(&bad, [127, 0, 0, 1].into()), None);
    }
}
