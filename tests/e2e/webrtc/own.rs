//! Clients of our own, which need no browser: what runs on machines that are emulated, too.

use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rillbox::webrtc::caller::{Caller, Heard};
use rillbox::webrtc::dtls::{Certificate, DtlsConfig, Fingerprint, Role};
use rillbox::webrtc::ice::Credentials;
use rillbox::webrtc::session::{End, Remote};

use super::{place, send};
use crate::support::{Server, http, wait_until};

const LONG: Duration = Duration::from_secs(20);
const SSRC: u32 = 0x1234_5678;
/// Parameter sets of 1280x720, Constrained Baseline.
const SPS: [u8; 9] = [0x67, 0x42, 0xc0, 0x1f, 0xda, 0x01, 0x40, 0x16, 0xe4];
const PPS: [u8; 4] = [0x68, 0xce, 0x38, 0x80];
/// What is in each slice of the publisher's.
const NOISE: [u8; 400] = [0x5a; 400];

struct Own {
    socket: UdpSocket,
    caller: Caller,
    connected: bool,
    end: Option<End>,
    /// RTP, decrypted.
    got: Vec<Vec<u8>>,
    place: String,
}

impl Own {
    /// Asks the server for a session: `whip` or `whep`.
    fn join(at: SocketAddr, what: &str, name: &str) -> Self {
        let local = Credentials::generate().unwrap();
        let config = DtlsConfig::new(Certificate::generate().unwrap()).unwrap();
        let direction = if what == "whip" { "sendonly" } else { "recvonly" };
        let offer = [
            "v=0",
            "o=- 1 1 IN IP4 127.0.0.1",
            "s=-",
            "t=0 0",
            "a=group:BUNDLE 0",
            &format!("a=ice-ufrag:{}", local.ufrag),
            &format!("a=ice-pwd:{}", local.pwd),
            &format!("a=fingerprint:{}", config.certificate().fingerprint()),
            "a=setup:actpass",
            "m=video 9 UDP/TLS/RTP/SAVPF 96",
            "c=IN IP4 0.0.0.0",
            "a=mid:0",
            &format!("a={direction}"),
            "a=rtcp-mux",
            "a=rtpmap:96 H264/90000",
            "a=fmtp:96 level-asymmetry-allowed=1;packetization-mode=1;profile-level-id=42e01f",
            "a=rtcp-fb:96 nack",
            "a=rtcp-fb:96 nack pli",
        ]
        .map(|line| format!("{line}\r\n"))
        .concat();
        let sdp = "Content-Type: application/sdp\r\n";
        let answer = send(at, "POST", &format!("/live/{name}/{what}"), sdp, &offer);
        let place = place(&answer);
        let text = answer.text();
        let value = |name: &str| {
            text.lines()
                .find_map(|line| line.strip_prefix(name))
                .unwrap_or_else(|| panic!("no {name} in {text}"))
                .trim()
        };
        let candidate = text
            .lines()
            .find(|line| line.starts_with("a=candidate:") && line.to_lowercase().contains(" udp "))
            .unwrap_or_else(|| panic!("no candidate in {text}"));
        let words: Vec<_> = candidate.split(' ').collect();
        let to = SocketAddr::new(words[4].parse().unwrap(), words[5].parse().unwrap());
        let remote = Remote {
            ufrag: value("a=ice-ufrag:").to_owned(),
            pwd: value("a=ice-pwd:").to_owned(),
            fingerprint: Fingerprint::parse(value("a=fingerprint:")).unwrap(),
            role: if value("a=setup:") == "active" { Role::Server } else { Role::Client },
        };
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.connect(to).unwrap();
        let caller = Caller::new(&config, local, remote, Instant::now());
        Self { socket, caller, connected: false, end: None, got: Vec::new(), place }
    }

    /// Takes what comes within this time, and does what is due.
    fn run(&mut self, time: Duration) {
        let until = Instant::now() + time;
        let mut out = Vec::new();
        let mut datagram = [0; 2048];
        loop {
            let mut heard = vec![self.caller.poll(Instant::now(), &mut out)];
            let wait = until.saturating_duration_since(Instant::now()).min(Duration::from_millis(20));
            self.socket.set_read_timeout(Some(wait.max(Duration::from_millis(1)))).unwrap();
            if let Ok(length) = self.socket.recv(&mut datagram) {
                let datagram = &mut datagram[..length];
                heard.push(self.caller.input(datagram, Instant::now(), &mut out));
                if let Some(Heard::Rtp(length)) = heard.last() {
                    self.got.push(datagram[..*length].to_vec());
                }
            }
            for datagram in out.drain(..) {
                // Who is not there any more refuses.
                let _ = self.socket.send(&datagram);
            }
            for heard in heard {
                match heard {
                    Heard::Connected => self.connected = true,
                    Heard::Ended(end) => self.end = Some(end),
                    _ => {}
                }
            }
            if Instant::now() >= until {
                return;
            }
        }
    }

    #[track_caller]
    fn until(&mut self, what: &str, done: impl Fn(&Self) -> bool) {
        let until = Instant::now() + LONG;
        while !done(self) {
            assert!(Instant::now() < until, "{what}: connected {}, {:?}", self.connected, self.end);
            self.run(Duration::from_millis(20));
        }
    }

    fn close(mut self) {
        let mut out = Vec::new();
        self.caller.close(&mut out);
        for datagram in out {
            let _ = self.socket.send(&datagram);
        }
    }
}

/// A publisher on a thread of its own.
struct Publisher {
    thread: JoinHandle<()>,
    stop: Arc<AtomicBool>,
}

impl Publisher {
    fn start(server: &Server, name: &str) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let mut own = Own::join(server.address("HTTP"), "whip", name);
        own.until("a publisher", |own| own.connected);
        let stopped = Arc::clone(&stop);
        let thread = std::thread::spawn(move || {
            let mut seq = 100u16;
            let mut frame = 0u32;
            while !stopped.load(Ordering::Acquire) {
                let slice =
                    [&[if frame.is_multiple_of(25) { 0x65 } else { 0x41 }, 0x88], &NOISE[..]].concat();
                let units =
                    if frame.is_multiple_of(25) { vec![&SPS[..], &PPS, &slice] } else { vec![&slice[..]] };
                for (index, unit) in units.iter().enumerate() {
                    let last = index + 1 == units.len();
                    let mut packet = vec![0x80, 96 | u8::from(last) << 7];
                    packet.extend(seq.to_be_bytes());
                    packet.extend((frame * 3600).to_be_bytes());
                    packet.extend(SSRC.to_be_bytes());
                    packet.extend(*unit);
                    assert!(own.caller.seal(&mut packet, false));
                    own.socket.send(&packet).unwrap();
                    seq = seq.wrapping_add(1);
                }
                frame += 1;
                own.run(Duration::from_millis(40));
            }
            own.close();
        });
        Self { thread, stop }
    }

    fn end(self) {
        self.stop.store(true, Ordering::Release);
        self.thread.join().unwrap();
    }
}

#[test]
fn our_own_publisher_reaches_our_own_players() {
    let server = Server::start();
    let publisher = Publisher::start(&server, "own");
    let mut players: Vec<_> = (0..3).map(|_| Own::join(server.address("HTTP"), "whep", "own")).collect();
    for player in &mut players {
        player.until("a player", |own| own.connected);
        player.until("media", |own| own.got.len() >= 50);
        let slices = player.got.iter().filter(|packet| packet.ends_with(&NOISE)).count();
        assert!(slices > 30, "{slices} of {}", player.got.len());
        // What begins it is a key frame's, and its numbers have no holes.
        let seqs: Vec<_> =
            player.got.iter().map(|packet| u16::from_be_bytes([packet[2], packet[3]])).collect();
        assert!(seqs.windows(2).all(|two| two[1].wrapping_sub(two[0]) == 1), "{seqs:?}");
    }
    let clients = || http::get(server.address("API"), "/api/v1/clients/").good();
    assert!(clients().contains("rtc-play") && clients().contains("rtc-publish"));
    // One asks for the end, one says that it goes.
    let first = players.remove(0);
    assert_eq!(send(server.address("HTTP"), "DELETE", &first.place, "", "").status, 200);
    let mut first = first;
    first.until("the end", |own| own.end == Some(End::PeerClosed));
    players.remove(0).close();
    wait_until("one player", || clients().matches("\"rtc-play\"").count() == 1);
    publisher.end();
    wait_until("no publisher", || !clients().contains("rtc-publish"));
}
