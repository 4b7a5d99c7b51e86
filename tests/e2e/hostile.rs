//! Bytes that no honest peer sends. A good stream plays on meanwhile, untouched.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use crate::publish_play::publisher;
use crate::support::clip::Tags;
use crate::support::frames::{Form, Player};
use crate::support::rtmp::Rtmp;
use crate::support::{Clip, Frames, Kind, PATIENCE, Program, Server, wait_until};

/// The server's patience, for tests that use it up.
const SETTINGS: &[(&str, &str)] = &[
    // Segments of the good stream fill their memory, as they may: here it is what attackers leave that counts.
    ("VHOST__DEFAULT__HLS__ENABLED", "false"),
    ("RTMP_HANDSHAKE_TIMEOUT", "2s"),
    ("RTMP_FIRST_PACKET_TIMEOUT", "2s"),
    ("HTTP_HEADER_TIMEOUT", "2s"),
    ("HTTP_IDLE_TIMEOUT", "2s"),
];

/// How much more memory the server may hold after all, KiB.
const SAME: u64 = 4 * 1024;

/// A generator of bytes that are the same each time (xorshift).
struct Noise(u64);

impl Noise {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, end: usize) -> usize {
        (self.next() % end as u64) as usize
    }

    fn bytes(&mut self, len: usize) -> Vec<u8> {
        (0..len).map(|_| self.next().to_le_bytes()[3]).collect()
    }
}

/// Runs attacks beside a stream, which has to arrive whole.
fn under(attack: impl FnOnce(&Server)) {
    let (server, clip) = (Server::with(SETTINGS), Clip::LONG_GOP);
    let players = [server.rtmp("good"), server.http("good.flv")]
        .map(|url| Player::start(Program::ffmpeg, &url, clip, Form::Flv));
    server.players(2);
    let publisher = publisher(Program::ffmpeg, clip, &server.rtmp("good"));
    for player in &players {
        player.wait_for(Kind::Video, 10);
    }
    let (descriptors, memory) = (server.descriptors(), server.memory());
    let honest = server.connections().len();
    attack(&server);
    wait_until("all attackers are gone", || server.descriptors() <= descriptors);
    let silent = || server.connections().into_iter().skip(honest).find(|(_, told)| !told);
    wait_until("the log tells how each connection ended", || silent().is_none());
    let attacks = server.connections().len() - honest;
    println!("{attacks} connections");
    assert!(attacks > 5);
    let growth = server.memory().saturating_sub(memory);
    // The ring of the good stream grows a little, too.
    assert!(growth <= SAME, "the server grew by {growth} KiB");
    publisher.end().clean();
    let source = Frames::of_clip(clip, Form::Flv);
    for player in players {
        assert_eq!(player.frames().are_the_end_of(&source, 0), 0);
    }
}

/// Sends bytes, closes our side, and waits until the server has closed its own.
fn send(address: SocketAddr, bytes: &[u8]) -> Vec<u8> {
    let mut socket = connect(address);
    // A server that has heard enough closes before all is sent.
    let _ = socket.write_all(bytes);
    let _ = socket.shutdown(Shutdown::Write);
    closed(socket)
}

fn connect(address: SocketAddr) -> TcpStream {
    let socket = TcpStream::connect(address).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    socket.set_write_timeout(Some(PATIENCE)).unwrap();
    socket
}

/// What still comes, until the server has closed.
fn closed(mut socket: TcpStream) -> Vec<u8> {
    let mut said = Vec::new();
    if let Err(error) = socket.read_to_end(&mut said) {
        let timeout = matches!(error.kind(), std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut);
        assert!(!timeout, "the server keeps a connection that it should close");
    }
    said
}

/// All bytes that a publisher of ours sends.
fn honest(server: &Server) -> Vec<u8> {
    let mut publisher = Rtmp::publish(&server.rtmp("honest"));
    for tag in Tags::of(Clip::H264_AAC).take(20) {
        publisher.send(&tag).unwrap();
    }
    let sent = publisher.sent.clone();
    publisher.finish();
    sent
}

/// The length of C0, C1 and C2.
const HANDSHAKE: usize = 1 + 1536 + 1536;

#[test]
fn rtmp_garbage() {
    under(|server| {
        let (address, mut noise) = (server.address("RTMP"), Noise(1));
        for len in [0, 1, 2, 100, 1536, 1537, 1538, 3073, 4000, 70_000] {
            send(address, &noise.bytes(len));
            // With the right version, so that the handshake begins.
            let mut bytes = noise.bytes(len + 1);
            bytes[0] = 3;
            send(address, &bytes);
        }
        send(address, b"GET / HTTP/1.1\r\nHost: x\r\n\r\n");
        send(address, b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03");
        let session = honest(server);
        for _ in 0..20 {
            let mut bytes = session[..HANDSHAKE].to_vec();
            bytes.extend(noise.bytes(5000));
            send(address, &bytes);
        }
    });
}

#[test]
fn rtmp_sessions_that_are_cut_or_damaged() {
    under(|server| {
        let (address, mut noise, session) = (server.address("RTMP"), Noise(2), honest(server));
        for _ in 0..100 {
            let len = HANDSHAKE + noise.below(session.len() - HANDSHAKE);
            send(address, &session[..len]);
        }
        for _ in 0..300 {
            let mut bytes = session.clone();
            // Mostly in the commands, where the structure is.
            let span = if noise.below(4) > 0 { 1200 } else { session.len() - HANDSHAKE };
            for _ in 0..=noise.below(3) {
                let at = HANDSHAKE + noise.below(span);
                bytes[at] = noise.next().to_le_bytes()[2];
            }
            send(address, &bytes);
        }
    });
}

#[test]
fn rtmp_sizes_that_are_out_of_all_bounds() {
    under(|server| {
        let address = server.address("RTMP");
        let session = honest(server);
        let hands = &session[..HANDSHAKE];
        let attack = |chunks: &[u8]| send(address, &[hands, chunks].concat());
        // A message of 16 MiB on each of thousands of chunk streams, of which a byte comes.
        let mut many = Vec::new();
        for stream in 64_u32..8000 {
            let id = (stream - 64).to_le_bytes();
            many.extend([1, id[0], id[1], 0, 0, 0, 0xff, 0xff, 0xff, 9, 1, 0, 0, 0, 0]);
            many.extend([0; 128]);
        }
        attack(&many);
        // Chunk sizes.
        for size in [0, 1, 0x7fff_ffff, 0x8000_0000, 0xffff_ffff_u32] {
            let mut bytes = vec![2, 0, 0, 0, 0, 0, 4, 1, 0, 0, 0, 0];
            bytes.extend(size.to_be_bytes());
            bytes.extend([3, 0, 0, 0, 0xff, 0xff, 0xff, 20, 0, 0, 0, 0]);
            bytes.extend([0; 1000]);
            attack(&bytes);
        }
        // A command nested without end, a string and an array longer than the message.
        let command = |body: &[u8]| {
            let mut bytes = vec![2, 0, 0, 0, 0, 0, 4, 1, 0, 0, 0, 0, 0, 1, 0, 0];
            bytes.extend([3, 0, 0, 0]);
            bytes.extend(&u32::try_from(body.len()).unwrap().to_be_bytes()[1..]);
            bytes.extend([20, 0, 0, 0, 0]);
            bytes.extend(body);
            bytes
        };
        attack(&command(&[3, 0, 1, b'a'].repeat(10_000)));
        attack(&command(&[12, 0xff, 0xff, 0xff, 0xff, b'a']));
        attack(&command(&[10, 0xff, 0xff, 0xff, 0xff, 5, 5]));
        // Chunks of a message that never began.
        attack(&[0xc3; 1000]);
    });
}

#[test]
fn peers_that_are_slow_or_silent() {
    under(|server| {
        let start = Instant::now();
        let silent: Vec<_> = ["RTMP", "HTTP"]
            .into_iter()
            .flat_map(|protocol| (0..100).map(move |_| protocol))
            .map(|protocol| connect(server.address(protocol)))
            .collect();
        // A byte now and then: time counts from the start, not from the last byte.
        let drip = |protocol: &str, bytes: Vec<u8>| {
            let mut socket = connect(server.address(protocol));
            std::thread::spawn(move || {
                for byte in bytes {
                    if socket.write_all(&[byte]).is_err() {
                        break;
                    }
                    std::thread::sleep(Duration::from_millis(100));
                }
                closed(socket);
            })
        };
        let dripping = [
            drip("RTMP", vec![3; 400]),
            drip("HTTP", b"GET / HTTP/1.1\r\nX-".iter().copied().chain([b'a'; 400]).collect()),
            drip("HTTP", b"GET /live/good.flv HTTP/1.1\r\n".iter().copied().chain([b'\n'; 1]).collect()),
        ];
        // A handshake, and then nothing.
        let mut hands = connect(server.address("RTMP"));
        hands.write_all(&[vec![3], vec![0; 2 * 1536]].concat()).unwrap();
        closed(hands);
        for socket in silent {
            closed(socket);
        }
        for thread in dripping {
            thread.join().unwrap();
        }
        assert!(start.elapsed() < Duration::from_secs(20), "it took {:?}", start.elapsed());
    });
}

#[test]
fn http_garbage() {
    under(|server| {
        let (address, mut noise) = (server.address("HTTP"), Noise(3));
        for len in [0, 1, 10, 1000, 70_000] {
            send(address, &noise.bytes(len));
        }
        let long = "a".repeat(100_000);
        let requests = [
            "GET".to_owned(),
            "GET / HTTP/9.9\r\n\r\n".to_owned(),
            "GET / HTTP/1.1\r\n".to_owned(),
            format!("GET /{long} HTTP/1.1\r\nHost: x\r\n\r\n"),
            format!("GET / HTTP/1.1\r\nHost: {long}\r\n\r\n"),
            format!("GET / HTTP/1.1\r\n{}\r\n", "A: b\r\n".repeat(2000)),
            format!("{long} / HTTP/1.1\r\nHost: x\r\n\r\n"),
            "GET / HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999999999999\r\n\r\n".to_owned(),
            "GET / HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n".to_owned(),
            "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffff\r\n".to_owned(),
            "GET / HTTP/1.1\r\nHost : x\r\n\tfolded: y\r\n\r\n".to_owned(),
            "GET /live/good.flv HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: !\r\n\r\n"
                .to_owned(),
            "GET /live/%00%ff%2e%2e/x.flv HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".to_owned(),
            "GET http://[::1/live/good.flv HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".to_owned(),
            "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_owned(),
            "\0\0\0\0\r\n\r\n".to_owned(),
        ];
        for request in &requests {
            let said = send(address, request.as_bytes());
            let said = String::from_utf8_lossy(&said);
            let answer = said.lines().next().unwrap_or_default();
            println!("{:?}: {answer:?}", request.get(..40).unwrap_or(request));
            assert!(answer.is_empty() || answer.starts_with("HTTP/1."), "{answer:?}");
            // A request with both lengths may be answered (RFC 9112 6.1).
            assert!(!answer.contains(" 200 ") || request.contains("chunked"), "{answer:?}");
            for _ in 0..10 {
                let mut bytes = request.clone().into_bytes();
                bytes.truncate(2000);
                let at = noise.below(bytes.len());
                bytes[at] = noise.next().to_le_bytes()[1];
                send(address, &bytes);
            }
        }
    });
}
