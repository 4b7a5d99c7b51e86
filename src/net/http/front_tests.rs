//! The front with real sockets and a made-up service.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use hyper::StatusCode;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::*;
use crate::net::{ConnectionLimit, Listener, Permit, TcpOptions};

/// Three pieces of a stream, then its end. `/live` is there, `/later` comes, `/refused` can't be had.
#[derive(Default)]
struct Fake {
    begun: Arc<AtomicUsize>,
}

struct FakeBody(Framing, usize);

impl FakeBody {
    fn piece(framing: Framing, text: &'static str) -> Vec<Bytes> {
        match framing {
            Framing::Chunked => vec![format!("{:x}\r\n{text}\r\n", text.len()).into()],
            Framing::Raw => vec![text.into()],
            Framing::WebSocket => {
                vec![Bytes::copy_from_slice(websocket::binary_head(text.len()).as_slice()), text.into()]
            }
        }
    }
}

impl Service for Fake {
    fn live(&self, request: &LiveRequest<'_>) -> Live {
        let (framing, begun) = (request.framing, Arc::clone(&self.begun));
        let begin: Begin = Box::pin(async move {
            begun.fetch_add(1, Ordering::Relaxed);
            Ok(Box::new(FakeBody(framing, 0)) as Box<dyn LiveBody>)
        });
        match request.head.path.as_str() {
            "/live" => Live::Now(begin),
            "/later" => Live::Wait(begin),
            "/refused" => Live::Now(Box::pin(async {
                Err(text_reply(StatusCode::UNSUPPORTED_MEDIA_TYPE, "no such track"))
            })),
            "/never" => Live::Now(Box::pin(std::future::pending())),
            _ => Live::No,
        }
    }

    fn call<'a>(&'a self, request: Request) -> Boxed<'a, Outcome> {
        Box::pin(async move {
            match request.head.path.as_str() {
                "/echo" => text_reply(StatusCode::OK, request.head.query).into(),
                _ => request.into(),
            }
        })
    }
}

impl LiveBody for FakeBody {
    fn content_type(&self) -> &'static str {
        "video/x-flv"
    }

    fn deliver(self: Box<Self>, socket: std::net::TcpStream, head: Bytes, early: &[u8], permit: Arc<Permit>) {
        let (mut socket, early) = (TcpStream::from_std(socket).unwrap(), early.to_vec());
        tokio::spawn(async move {
            socket.write_all(&head).await.unwrap();
            socket.write_all(&Self::piece(self.0, "delivered").concat()).await.unwrap();
            socket.write_all(&early).await.unwrap();
            drop(permit);
        });
    }

    fn next(&mut self) -> Boxed<'_, Option<Vec<Bytes>>> {
        self.1 += 1;
        let piece = ["one", "two", "three"].get(self.1 - 1).map(|text| Self::piece(self.0, text));
        Box::pin(async { piece })
    }

    fn finish(self: Box<Self>, _: &str) {}
}

struct Server {
    addr: std::net::SocketAddr,
    front: Arc<Front>,
    limit: ConnectionLimit,
    begun: Arc<AtomicUsize>,
}

impl Server {
    fn new(options: Options) -> Self {
        let fake = Fake::default();
        let begun = Arc::clone(&fake.begun);
        let front = Front::new(options, vec![Box::new(fake), Box::new(Home::new(1935, None))]);
        let limit = ConnectionLimit::new(9, 9);
        let listener =
            Listener::bind("127.0.0.1:0".parse().unwrap(), limit.clone(), TcpOptions::default()).unwrap();
        let addr = listener.local_addr();
        tokio::spawn(Arc::clone(&front).run(listener));
        Self { addr, front, limit, begun }
    }

    /// Sends `text`, then reads until we close.
    async fn ask(&self, text: &str) -> String {
        let mut socket = TcpStream::connect(self.addr).await.unwrap();
        socket.write_all(text.as_bytes()).await.unwrap();
        read_all(&mut socket).await
    }
}

async fn read_all(socket: &mut TcpStream) -> String {
    let mut all = Vec::new();
    let reading = socket.read_to_end(&mut all);
    let done = tokio::time::timeout(Duration::from_secs(5), reading).await;
    let text = String::from_utf8_lossy(&all).into_owned();
    assert!(done.is_ok(), "not closed after {text:?}");
    text
}

fn quick() -> Options {
    let short = Duration::from_millis(300);
    Options { header_timeout: short, idle_timeout: short, ..Options::default() }
}

#[tokio::test]
async fn a_live_body_leaves_at_once() {
    let server = Server::new(quick());
    let text = server.ask("GET /live HTTP/1.1\r\nHost: a\r\nOrigin: http://b\r\n\r\n").await;
    assert!(
        text.starts_with("HTTP/1.1 200 OK\r\n") && text.ends_with("\r\n\r\n9\r\ndelivered\r\n"),
        "{text}"
    );
    assert!(
        text.contains("Transfer-Encoding: chunked\r\n")
            && text.contains("Access-Control-Allow-Origin: *\r\n")
    );
    let text = server.ask("GET /live HTTP/1.0\r\n\r\nearly").await;
    assert!(text.ends_with("\r\n\r\ndeliveredearly") && !text.contains("chunked"), "{text}");
    let text = server.ask("GET /later HTTP/1.1\r\n\r\n").await;
    assert!(text.ends_with("9\r\ndelivered\r\n"), "{text}");
    assert_eq!(server.limit.open(), 0, "permits went with the sockets");
}

#[tokio::test]
async fn a_live_body_on_a_kept_alive_connection() {
    let server = Server::new(quick());
    let live = "GET /live HTTP/1.1\r\nHost: a\r\n\r\n";
    let text = server.ask(&format!("GET /echo?a HTTP/1.1\r\nHost: a\r\n\r\n{live}")).await;
    assert!(text.contains("\r\n\r\na\n") && text.contains("Content-Type: video/x-flv\r\n"), "{text}");
    assert!(text.ends_with("\r\n\r\n9\r\ndelivered\r\n"), "{text}");
    let text = server.ask(&format!("OPTIONS /echo HTTP/1.1\r\nHost: a\r\n\r\n{live}")).await;
    assert!(text.contains("Content-Type: video/x-flv\r\n"), "{text}");
    let pieces = "3\r\none\r\n3\r\ntwo\r\n5\r\nthree\r\n0\r\n\r\n";
    assert!(text.ends_with(pieces), "after what hyper answered, it has the connection: {text}");
}

#[tokio::test]
async fn websockets_on_first_and_later_requests() {
    let server = Server::new(quick());
    let ask = concat!(
        "GET /live HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n",
        "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    );
    let text = server.ask(ask).await;
    assert!(text.starts_with("HTTP/1.1 101 Switching Protocols\r\n"), "{text}");
    assert!(text.contains("s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n") && text.ends_with("\tdelivered"), "{text}");
    let text = server.ask(&format!("GET /echo HTTP/1.1\r\nHost: a\r\n\r\n{ask}")).await;
    assert!(text.contains("HTTP/1.1 101 ") && text.ends_with("\tdelivered"), "{text}");
    let text = server.ask(&format!("OPTIONS /echo HTTP/1.1\r\nHost: a\r\n\r\n{ask}")).await;
    assert!(text.contains("HTTP/1.1 101 Switching Protocols\r\n"), "{text}");
    assert!(text.ends_with("\u{3}one\u{fffd}\u{3}two\u{fffd}\u{5}three"), "{text:?}");
    let text = server.ask(&ask.replace("Version: 13", "Version: 7")).await;
    assert!(text.starts_with("HTTP/1.1 426 "), "{text}");
    assert_eq!(server.begun.load(Ordering::Relaxed), 3);
}

#[tokio::test]
async fn refusals_and_other_methods() {
    let server = Server::new(quick());
    let close = "Host: a\r\nConnection: close\r\n\r\n";
    for (request, status) in [
        ("GET /refused HTTP/1.1", 415),
        ("GET /none HTTP/1.1", 404),
        ("HEAD /none HTTP/1.1", 404),
        ("POST /none HTTP/1.1", 405),
        ("HEAD /live HTTP/1.1", 404),
        ("DELETE / HTTP/1.1", 405),
        ("OPTIONS /live HTTP/1.1", 204),
        ("OPTIONS * HTTP/1.1", 204),
        ("GET http://a/ HTTP/1.1", 200),
        ("GET / HTTP/1.0", 200),
        ("GET /%zz HTTP/1.1", 400),
        ("GET / HTTP/3.0", 505),
        ("GET / HTTP/1.1\r\nX-Empty:\r\nRange: ", 200),
    ] {
        let text = server.ask(&format!("{request}\r\n{close}")).await;
        let is_expected = text.split("\r\n").next().is_some_and(|line| line.contains(&format!(" {status} ")));
        assert!(is_expected, "{request}: {text}");
        assert!(text.contains(&format!("Server: {SERVER}\r\n")), "{request}: {text}");
    }
    assert_eq!(server.begun.load(Ordering::Relaxed), 0, "HEAD begins no stream");
    let text = server.ask(&format!("OPTIONS /live HTTP/1.1\r\nOrigin: http://b\r\n{close}")).await;
    assert!(text.contains("Access-Control-Allow-Private-Network: true\r\n"), "{text}");
}

#[tokio::test]
async fn hostile_heads_are_refused_in_time() {
    let server = Server::new(Options { max_header: 9000, ..quick() });
    let long = format!("GET / HTTP/1.1\r\nA: {}\r\n\r\n", "x".repeat(20_000));
    assert!(server.ask(&long).await.starts_with("HTTP/1.1 431 "));
    assert!(server.ask("\u{16}\u{3}\u{1}").await.contains("not HTTPS"));
    assert!(server.ask("\u{3}\0\0\0 not HTTP").await.starts_with("HTTP/1.1 400 "));
    assert!(server.ask("GET / HTTP/1.1\r\nslow").await.starts_with("HTTP/1.1 408 "));
    assert_eq!(server.ask("").await, "", "silence is closed without a word");
    // Kept alive: the idle timeout, and the limit of later heads.
    let kept = server.ask("GET /echo HTTP/1.1\r\nHost: a\r\n\r\n").await;
    assert!(kept.starts_with("HTTP/1.1 200 "), "{kept}");
    let second = server.ask(&format!("GET /echo HTTP/1.1\r\nHost: a\r\n\r\n{long}")).await;
    assert!(second.contains("HTTP/1.1 431 "), "{second}");
    while server.limit.open() > 0 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn heads_may_come_byte_by_byte() {
    let server = Server::new(Options::default());
    let mut socket = TcpStream::connect(server.addr).await.unwrap();
    socket.set_nodelay(true).unwrap();
    for byte in b"GET /live HTTP/1.1\nHost: a\n\n" {
        socket.write_all(&[*byte]).await.unwrap();
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    assert!(read_all(&mut socket).await.ends_with("delivered\r\n"));
}

#[tokio::test]
async fn a_client_that_leaves_or_a_stop_ends_the_wait() {
    let server = Server::new(Options::default());
    let mut waiting = TcpStream::connect(server.addr).await.unwrap();
    waiting.write_all(b"GET /never HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
    let mut idle = TcpStream::connect(server.addr).await.unwrap();
    idle.write_all(b"GET /echo HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
    assert_ne!(idle.read(&mut [0; 1000]).await.unwrap(), 0);
    assert_eq!(server.limit.open(), 2);
    drop(waiting);
    server.front.stop();
    assert_eq!(read_all(&mut idle).await, "", "an idle connection is closed");
    while server.limit.open() > 0 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn several_requests_in_one_go_and_an_end() {
    let server = Server::new(Options::default());
    let ask = |word: &str, more: &str| format!("GET /echo?{word} HTTP/1.1\r\nHost: a\r\n{more}\r\n");
    let close = "Connection: close\r\n";
    let text =
        server.ask(&[ask("one", ""), ask("two", ""), ask("three", close), ask("four", "")].concat()).await;
    let bodies: Vec<_> = text.split("\r\n\r\n").skip(1).map(|rest| rest.lines().next().unwrap()).collect();
    assert_eq!(bodies, ["one", "two", "three"], "{text}");
    assert_eq!(text.matches("Connection: Close\r\n").count(), 1, "{text}");
    assert!(text.matches("Date: ").count() == 3 && text.matches("Content-Length: ").count() == 3, "{text}");
    let old = server.ask("GET /echo?a HTTP/1.0\r\n\r\n").await;
    assert!(old.contains("Connection: Close\r\n") && old.ends_with("\r\n\r\na\n"), "{old}");
    let kept = "GET /echo?a HTTP/1.0\r\nConnection: keep-alive\r\n\r\nGET /echo?b HTTP/1.0\r\n\r\n";
    let kept = server.ask(kept).await;
    assert!(kept.contains("Connection: Keep-Alive\r\n") && kept.ends_with("\r\n\r\nb\n"), "{kept}");
    let head = server.ask("HEAD /echo?abc HTTP/1.1\r\nConnection: close\r\n\r\n").await;
    assert!(head.contains("Content-Length: 4\r\n") && head.ends_with("\r\n\r\n"), "{head}");
}
