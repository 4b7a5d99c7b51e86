//! Live streams through the real front and hub, to real sockets.

use std::net::SocketAddr;

use bytes::Bytes;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::*;
use crate::config::Config;
use crate::hub::{Client, ClientKind, Publisher};
use crate::id::SessionId;
use crate::media::aac::AudioSpecificConfig;
use crate::media::{Codec, Flags, Frame, Track, TrackId};
use crate::net::http::{Front, Options};
use crate::net::{ConnectionLimit, Listener, TcpOptions};

struct Server {
    hub: Hub,
    limit: ConnectionLimit,
    addr: SocketAddr,
}

impl Server {
    fn new(change: impl FnOnce(&mut Config)) -> Self {
        let mut config = Config::default();
        change(&mut config);
        let config = Shared::new(config);
        let (hub, limit) = (Hub::new(config.clone()), ConnectionLimit::new(9, 9));
        let front = Front::new(Options::default(), vec![Box::new(HttpLive::new(hub.clone(), config))]);
        let listener =
            Listener::bind("127.0.0.1:0".parse().unwrap(), limit.clone(), TcpOptions::default()).unwrap();
        let addr = listener.local_addr();
        tokio::spawn(front.run(listener));
        Self { hub, limit, addr }
    }

    /// Publishes a second of `live/demo`.
    fn publish(&self) -> Publisher {
        let name = self.hub.name("", "live", "demo").unwrap();
        let client = Client::new(SessionId::next(), ClientKind::FmlePublish, self.addr);
        let mut publisher = self.hub.publish_now(&name, client, Instant::now()).unwrap();
        let mut avc = Track::new(TrackId(0), Codec::H264);
        avc.config = Bytes::from_static(b"avcC");
        let mut aac = Track::new(TrackId(1), Codec::Aac);
        aac.config = AudioSpecificConfig::lc(44_100, 2).unwrap().build().into();
        publisher.set_track(avc).unwrap();
        publisher.set_track(aac).unwrap();
        for n in 0..10 {
            frame(&mut publisher, 0, n * 100, n == 0);
            frame(&mut publisher, 1, n * 100 + 5, true);
        }
        publisher
    }

    async fn connect(&self, request: &str) -> TcpStream {
        let mut socket = TcpStream::connect(self.addr).await.unwrap();
        socket.write_all(request.as_bytes()).await.unwrap();
        socket
    }

    /// Asks, waits for the first bytes, ends the stream, reads on to the end.
    async fn whole(&self, request: &str, publisher: Publisher) -> Vec<u8> {
        let mut socket = self.connect(request).await;
        let mut all = read_until(&mut socket, b"sound905").await;
        drop(publisher);
        self.hub.stop();
        let done = tokio::time::timeout(Duration::from_secs(5), socket.read_to_end(&mut all)).await;
        assert!(matches!(done, Ok(Ok(_))), "{done:?} after {:?}", String::from_utf8_lossy(&all));
        all
    }

    async fn status(&self, request: &str) -> u16 {
        let text = format!("{request} HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n");
        let mut socket = self.connect(&text).await;
        let all = read_until(&mut socket, b"\r\n\r\n").await;
        std::str::from_utf8(&all[9..12]).unwrap().parse().unwrap()
    }
}

fn frame(publisher: &mut Publisher, track: u8, ms: i64, key: bool) {
    let kind = if track == 0 { "picture" } else { "sound" };
    let frame = Frame {
        track: TrackId(track),
        flags: if key { Flags::KEY } else { Flags::NONE },
        dts: ms,
        cts: 0,
        wall_ms: None,
        data: format!("{kind}{ms}").into(),
    };
    publisher.frame(frame, Instant::now()).unwrap();
}

async fn read_until(socket: &mut TcpStream, what: &[u8]) -> Vec<u8> {
    let mut all = Vec::new();
    while !all.windows(what.len()).any(|window| window == what) {
        let read = tokio::time::timeout(Duration::from_secs(5), socket.read_buf(&mut all)).await;
        let text = String::from_utf8_lossy(&all);
        assert!(matches!(read, Ok(Ok(1..))), "{read:?} before {:?}: {text:?}", String::from_utf8_lossy(what));
    }
    all
}

/// What follows the head, and the head.
fn split(all: &[u8]) -> (String, Vec<u8>) {
    let end = all.windows(4).position(|window| window == b"\r\n\r\n").unwrap() + 4;
    (String::from_utf8(all[..end].to_vec()).unwrap(), all[end..].to_vec())
}

fn unchunk(mut body: &[u8]) -> Vec<u8> {
    let mut all = Vec::new();
    loop {
        let line = body.windows(2).position(|window| window == b"\r\n").unwrap();
        let len = usize::from_str_radix(std::str::from_utf8(&body[..line]).unwrap(), 16).unwrap();
        all.extend_from_slice(&body[line + 2..line + 2 + len]);
        assert_eq!(&body[line + 2 + len..line + 4 + len], b"\r\n");
        body = &body[line + 4 + len..];
        if len == 0 {
            assert!(body.is_empty(), "nothing after the last chunk");
            return all;
        }
    }
}

fn unmessage(mut body: &[u8]) -> Vec<u8> {
    let mut all = Vec::new();
    while let [first, len, rest @ ..] = body {
        let (len, rest) = match len {
            126 => (usize::from(u16::from_be_bytes([rest[0], rest[1]])), &rest[2..]),
            len => (usize::from(*len), rest),
        };
        if *first == 0x88 {
            assert_eq!(rest, 1000u16.to_be_bytes());
            return all;
        }
        assert_eq!(*first, 0x82);
        all.extend_from_slice(&rest[..len]);
        body = &rest[len..];
    }
    panic!("no close frame");
}

#[tokio::test]
async fn the_same_flv_in_all_framings() {
    const SOCKET: &str = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
                          Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
    let get = "GET /live/demo.flv?vhost=x HTTP/1.1\r\nHost: h\r\n";
    // Later requests of a connection are hyper's.
    let later = "HEAD /live/demo.flv HTTP/1.1\r\nHost: h\r\n\r\n";
    let mut bodies = Vec::new();
    for (request, status) in [
        ("GET /live/demo.flv HTTP/1.0\r\n\r\n".to_owned(), 200),
        (format!("{get}\r\n"), 200),
        (format!("{get}{SOCKET}\r\n"), 101),
        (format!("{later}{get}\r\n"), 200),
        (format!("{later}{get}{SOCKET}\r\n"), 101),
    ] {
        let server = Server::new(|_| {});
        let publisher = server.publish();
        let mut all = server.whole(&request, publisher).await;
        if request.starts_with("HEAD") {
            let (head, rest) = split(&all);
            assert!(
                head.starts_with("HTTP/1.1 200 OK\r\n") && head.contains("Content-Type: video/x-flv\r\n"),
                "{head}"
            );
            assert!(!head.contains("Content-Length"), "{head}");
            all = rest;
        }
        let (head, body) = split(&all);
        assert!(head.starts_with(&format!("HTTP/1.1 {status} ")), "{head}");
        let chunked = head.contains("Transfer-Encoding: chunked\r\n");
        bodies.push(match status {
            101 => unmessage(&body),
            _ if chunked => unchunk(&body),
            _ => body,
        });
        while server.limit.open() > 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
    assert_eq!(&bodies[0][..5], b"FLV\x01\x05");
    assert!(bodies[0].windows(10).any(|window| window == b"picture900"));
    assert!(bodies.iter().all(|body| *body == bodies[0]));
}

#[tokio::test]
async fn adts_is_given_and_mp3_is_refused() {
    let server = Server::new(|_| {});
    let publisher = server.publish();
    assert_eq!(server.status("GET /live/demo.mp3").await, 415);
    assert_eq!(server.status("GET /live/demo.flv?has_audio=off&has_video=off").await, 415);
    let (head, body) = split(&server.whole("GET /live/demo.aac HTTP/1.0\r\n\r\n", publisher).await);
    assert!(head.contains("Content-Type: audio/aac\r\n"));
    assert_eq!(&body[..2], b"\xff\xf1");
    assert!(!body.windows(7).any(|window| window == b"picture"));
}

#[tokio::test]
async fn methods_and_streams_that_are_not_there() {
    let server = Server::new(|_| {});
    for request in ["GET /live/demo.flv", "HEAD /live/demo.flv", "GET /live/demo", "GET /x"] {
        assert_eq!(server.status(request).await, 404, "{request}");
    }
    let publisher = server.publish();
    assert_eq!(server.status("HEAD /live/demo.flv").await, 200);
    assert_eq!(server.status("POST /live/demo.flv").await, 405);
    assert_eq!(server.status("OPTIONS /live/demo.flv").await, 204);
    assert_eq!(server.hub.sessions(), 1, "none of them became a reader");
    drop(publisher);
}

#[tokio::test]
async fn a_websocket_ping_is_answered_before_and_after_the_hand_over() {
    let server = Server::new(|_| {});
    let mut publisher = server.publish();
    let ping = b"\x89\x82\0\0\0\0hi";
    let request = "GET /live/demo.flv HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
                   Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
    let mut socket = TcpStream::connect(server.addr).await.unwrap();
    socket.write_all(&[request.as_bytes(), ping].concat()).await.unwrap();
    read_until(&mut socket, b"\x8a\x02hi").await;
    socket.write_all(ping).await.unwrap();
    frame(&mut publisher, 0, 1000, false);
    read_until(&mut socket, b"\x8a\x02hi").await;
    socket.write_all(b"\x88\x80\0\0\0\0").await.unwrap();
    let mut rest = Vec::new();
    tokio::time::timeout(Duration::from_secs(5), socket.read_to_end(&mut rest)).await.unwrap().unwrap();
    assert!(rest.ends_with(b"\x88\x02\x03\xe8"), "closed as the RFC says: {rest:?}");
}
