//! Many WHEP players in one process, which count what comes and don't decrypt it; and the floor they are held against.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::{Duration, Instant};

use portable_atomic::{AtomicU64, AtomicUsize, Ordering};
use ring::aead::{AES_128_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UdpSocket;

use super::process::{self, Spent};
use super::synth::{Shape, Synth};
use super::{Args, BenchError, Result, io_error, resolve};
use crate::net::udp::{BatchSocket, Received, Run};
use crate::rtmp::chunk::kind;
use crate::webrtc::caller::{Caller, Heard};
use crate::webrtc::dtls::{Certificate, DtlsConfig, Fingerprint, Role};
use crate::webrtc::endpoint::{Endpoint, EndpointOptions, Peer};
use crate::webrtc::ice::Credentials;
use crate::webrtc::session::Remote;

pub(super) const OPTIONS: &[&str] = &["url", "floor", "count", "seconds", "settle", "pid"];
pub(super) const FLOOR_OPTIONS: &[&str] =
    &["listen", "payload", Shape::OPTIONS[0], Shape::OPTIONS[1], Shape::OPTIONS[2]];

/// What a player says of itself to the floor.
const HELLO: &[u8] = b"\x80hello";
/// Longest answer of a server's.
const MAX_ANSWER: u64 = 64 << 10;
const TIMEOUT: Duration = Duration::from_secs(10);

#[derive(Default)]
struct Counts {
    packets: AtomicU64,
    bytes: AtomicU64,
    alive: AtomicUsize,
}

/// Where players find what they play.
#[derive(Clone)]
enum Source {
    Whep { host: String, address: SocketAddr, path: String },
    Floor(SocketAddr),
}

/// Runs until `--seconds` have been measured.
pub(super) fn run(args: &Args) -> Result<()> {
    let source = match args.number::<SocketAddr>("floor")? {
        Some(floor) => Source::Floor(floor),
        None => {
            let url = args.text("url")?;
            let rest =
                url.strip_prefix("http://").ok_or_else(|| BenchError::Usage("--url http://…".into()))?;
            let (host, path) = rest.split_once('/').unwrap_or((rest, ""));
            let (name, port) = host.split_once(':').unwrap_or((host, "80"));
            let port = port.parse().map_err(|_| BenchError::Usage(format!("no port: {port}")))?;
            Source::Whep { host: host.to_owned(), address: resolve(name, port)?, path: format!("/{path}") }
        }
    };
    let count = args.number("count")?.unwrap_or(1);
    let time = |name, usual| -> Result<Duration> {
        let seconds = args.number::<f64>(name)?.unwrap_or(usual);
        Duration::try_from_secs_f64(seconds).map_err(|error| BenchError::Usage(format!("--{name}: {error}")))
    };
    let (seconds, settle) = (time("seconds", 10.0)?, time("settle", 2.0)?);
    let pid: Option<u32> = args.number("pid")?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.map_err(io_error("start a runtime"))?.block_on(async {
        let before = pid.and_then(Spent::by);
        let begun = Instant::now();
        let counts = Arc::new(Counts::default());
        let certificate = Certificate::generate().map_err(|e| BenchError::Server(e.to_string()))?;
        let config = DtlsConfig::new(certificate).map_err(|e| BenchError::Server(e.to_string()))?;
        for _ in 0..count {
            join(&source, &config, &counts).await?;
        }
        let joining = begun.elapsed();
        tokio::time::sleep(settle).await;
        let look = || (pid.and_then(Spent::by), Spent::by(std::process::id()), process::machine());
        let (cpu, own, machine) = look();
        let had = || (counts.packets.load(Ordering::Relaxed), counts.bytes.load(Ordering::Relaxed));
        let ((packets, bytes), measured) = (had(), Instant::now());
        tokio::time::sleep(seconds).await;
        let passed = measured.elapsed().as_secs_f64();
        let (packets_after, bytes_after) = had();
        let (packets, bytes) = (packets_after - packets, bytes_after - bytes);
        let (cpu_after, own_after, machine_after) = look();
        let spent = |a: Option<Spent>, b: Option<Spent>| Some(b?.cpu.saturating_sub(a?.cpu).as_secs_f64());
        let alive = counts.alive.load(Ordering::Relaxed);
        let cpu_spent = spent(cpu, cpu_after);
        let per_packet = cpu_spent.filter(|_| packets > 0).map(|cpu| cpu * 1e6 / packets as f64);
        let each = before.zip(cpu_after).map(|(a, b)| (b.rss as f64 - a.rss as f64) / f64::from(count).max(1.0));
        let own = spent(own, own_after).unwrap_or(0.0);
        let busy = machine_after.zip(machine).map_or(0.0, |(after, before)| after.saturating_sub(before).as_secs_f64());
        let others = (busy - own - cpu_spent.unwrap_or(0.0)).max(0.0) / passed * 100.0;
        let number = |n: Option<f64>| n.map_or("null".to_owned(), |n| format!("{n:.3}"));
        println!(
            "{{\"players\":{count},\"alive\":{alive},\"joining_s\":{:.2},\"seconds\":{passed:.3},\"packets\":{packets},\
             \"mbit_s\":{:.1},\"cpu_us_a_packet\":{},\"kib_a_player\":{},\"own_cpu_s\":{own:.3},\"others_cpu_percent\":{others:.0}}}",
            joining.as_secs_f64(),
            bytes as f64 * 8e-6 / passed,
            number(per_packet),
            number(each),
        );
        if alive == 0 { Err(BenchError::Server("keeps no player".into())) } else { Ok(()) }
    })
}

async fn join(source: &Source, config: &DtlsConfig, counts: &Arc<Counts>) -> Result<()> {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.map_err(io_error("open a socket"))?;
    match source {
        Source::Floor(to) => {
            socket.connect(to).await.map_err(io_error("reach the floor"))?;
            socket.send(HELLO).await.map_err(io_error("reach the floor"))?;
            drop(tokio::spawn(play(socket, None, counts.clone())));
        }
        Source::Whep { host, address, path } => {
            let local =
                Credentials::generate().ok_or_else(|| BenchError::Server("has no random numbers".into()))?;
            let offer = offer(&local, config.certificate().fingerprint());
            let head = format!(
                "POST {path} HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/sdp\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
                offer.len()
            );
            let (address, request) = (*address, head + &offer);
            let asked = tokio::task::spawn_blocking(move || ask(address, &request)).await;
            let text = asked.map_err(|e| BenchError::Server(e.to_string()))??;
            let (to, remote) =
                answer(&text, address).ok_or_else(|| BenchError::Server(format!("answers {text}")))?;
            socket.connect(to).await.map_err(io_error("reach the server"))?;
            let caller = Caller::new(config, local, remote, Instant::now());
            drop(tokio::spawn(play(socket, Some(caller), counts.clone())));
        }
    }
    Ok(())
}

fn ask(address: SocketAddr, request: &str) -> Result<String> {
    let mut stream = TcpStream::connect_timeout(&address, TIMEOUT).map_err(io_error("reach the server"))?;
    stream.set_read_timeout(Some(TIMEOUT)).map_err(io_error("reach the server"))?;
    stream.write_all(request.as_bytes()).map_err(io_error("ask the server"))?;
    let mut text = String::new();
    stream.take(MAX_ANSWER).read_to_string(&mut text).map_err(io_error("read the answer"))?;
    Ok(text)
}

fn offer(local: &Credentials, fingerprint: &Fingerprint) -> String {
    let lines = [
        "v=0",
        "o=- 1 1 IN IP4 127.0.0.1",
        "s=-",
        "t=0 0",
        "a=group:BUNDLE 0 1",
        &format!("a=ice-ufrag:{}", local.ufrag),
        &format!("a=ice-pwd:{}", local.pwd),
        &format!("a=fingerprint:{fingerprint}"),
        "a=setup:actpass",
        "m=audio 9 UDP/TLS/RTP/SAVPF 111",
        "c=IN IP4 0.0.0.0",
        "a=mid:0",
        "a=recvonly",
        "a=rtcp-mux",
        "a=rtpmap:111 opus/48000/2",
        "m=video 9 UDP/TLS/RTP/SAVPF 96",
        "c=IN IP4 0.0.0.0",
        "a=mid:1",
        "a=recvonly",
        "a=rtcp-mux",
        "a=rtpmap:96 H264/90000",
        "a=fmtp:96 level-asymmetry-allowed=1;packetization-mode=1;profile-level-id=42e01f",
        "a=rtcp-fb:96 nack",
        "a=rtcp-fb:96 nack pli",
    ];
    lines.map(|line| format!("{line}\r\n")).concat()
}

/// Where the server is, and what it says of itself.
fn answer(text: &str, asked: SocketAddr) -> Option<(SocketAddr, Remote)> {
    let value =
        |name: &str| text.lines().find_map(|line| line.strip_prefix(name)).map(|v| v.trim().to_owned());
    let candidates = text.lines().filter_map(|line| line.strip_prefix("a=candidate:")).filter_map(|line| {
        let mut words = line.split_whitespace().skip(2);
        let is_udp = words.next()?.eq_ignore_ascii_case("udp");
        let ip: std::net::IpAddr = words.nth(1)?.parse().ok()?;
        let port: u16 = words.next()?.parse().ok()?;
        is_udp.then_some(SocketAddr::from((ip, port)))
    });
    let found: Vec<_> = candidates.collect();
    let to = found.iter().find(|to| to.ip() == asked.ip()).or(found.first()).copied()?;
    let fingerprint = Fingerprint::parse(&value("a=fingerprint:")?)?;
    let role = if value("a=setup:")? == "active" { Role::Server } else { Role::Client };
    Some((to, Remote { ufrag: value("a=ice-ufrag:")?, pwd: value("a=ice-pwd:")?, fingerprint, role }))
}

async fn play(socket: UdpSocket, mut caller: Option<Caller>, counts: Arc<Counts>) {
    let mut bytes = vec![0; 2048];
    let mut out = Vec::new();
    if caller.is_none() {
        counts.alive.fetch_add(1, Ordering::Relaxed);
    }
    loop {
        let now = Instant::now();
        let mut heard = caller.as_mut().map_or(Heard::Nothing, |caller| caller.poll(now, &mut out));
        let deadline = caller.as_ref().map_or(now + TIMEOUT, Caller::deadline);
        if heard == Heard::Nothing && out.is_empty() {
            let received = tokio::time::timeout_at(deadline.into(), socket.recv(&mut bytes)).await;
            let Ok(received) = received else { continue };
            let Some(datagram) = received.ok().and_then(|length| bytes.get_mut(..length)) else { continue };
            if matches!(datagram.first(), Some(128..=191)) {
                counts.packets.fetch_add(1, Ordering::Relaxed);
                counts.bytes.fetch_add(datagram.len() as u64, Ordering::Relaxed);
                continue;
            }
            heard = caller.as_mut().map_or(Heard::Nothing, |c| c.input(datagram, Instant::now(), &mut out));
        }
        for datagram in out.drain(..) {
            let _ = socket.send(&datagram).await;
        }
        match heard {
            Heard::Connected => {
                counts.alive.fetch_add(1, Ordering::Relaxed);
            }
            Heard::Ended(_) => {
                counts.alive.fetch_sub(1, Ordering::Relaxed);
                return;
            }
            _ => {}
        }
    }
}

/// The transport of ours and nothing else: what the floor sends, to players by WHEP. Runs until it is killed.
pub(super) fn transport(args: &Args) -> Result<()> {
    let shape = Shape::of(args)?;
    let address = args.number("listen")?.unwrap_or(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)));
    let most: usize = args.number("payload")?.unwrap_or(1180);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.map_err(io_error("start a runtime"))?.block_on(async {
        let certificate = Certificate::generate().map_err(|e| BenchError::Server(e.to_string()))?;
        let endpoint = Endpoint::bind(&[address], &[], EndpointOptions::new(certificate));
        let endpoint = endpoint.map_err(io_error("open a socket"))?;
        let listener = tokio::net::TcpListener::bind(address).await.map_err(io_error("listen"))?;
        eprintln!("the transport listens on {}", listener.local_addr().map_err(io_error("listen"))?);
        let mut players: Vec<(Peer, u16)> = Vec::new();
        let mut synth = Synth::new(shape);
        let mut batch = endpoint.batch();
        let begun = Instant::now();
        loop {
            let due = begun + Duration::from_millis(synth.next_ms());
            tokio::select! {
                () = tokio::time::sleep_until(due.into()) => {}
                accepted = listener.accept() => {
                    if let Ok((stream, _)) = accepted {
                        players.extend(let_in(&endpoint, stream).await.map(|peer| (peer, 0)));
                    }
                    continue;
                }
            }
            let unit = synth.next();
            let frame = unit.body.get(if unit.kind == kind::VIDEO { 9 } else { 2 }..).unwrap_or_default();
            let size = frame.len().div_ceil(frame.len().div_ceil(most).max(1)).max(1);
            for (peer, seq) in &mut players {
                for payload in frame.chunks(size) {
                    *seq = seq.wrapping_add(1);
                    let [high, low] = seq.to_be_bytes();
                    batch.rtp(peer, &[0x80, 96, high, low, 0, 0, 0, 0, 0, 0, 0, 1], &[payload]);
                }
                if batch.is_full() {
                    batch.flush().await;
                }
            }
            batch.flush().await;
        }
    })
}

/// Answers one offer.
async fn let_in(endpoint: &Endpoint, mut stream: tokio::net::TcpStream) -> Option<Peer> {
    let mut text = Vec::new();
    while !text.ends_with(b"nack pli\r\n") {
        if stream.read_buf(&mut text).await.ok()? == 0 {
            return None;
        }
    }
    let text = String::from_utf8(text).ok()?;
    let value = |name: &str| text.lines().find_map(|line| line.strip_prefix(name)).map(str::to_owned);
    let fingerprint = Fingerprint::parse(&value("a=fingerprint:")?)?;
    let local = Credentials::generate()?;
    let remote =
        Remote { ufrag: value("a=ice-ufrag:")?, pwd: value("a=ice-pwd:")?, fingerprint, role: Role::Server };
    let to = endpoint.local_addrs().udp.first().copied()?;
    let answer = format!(
        "HTTP/1.1 201 Created\r\n\r\na=ice-ufrag:{}\r\na=ice-pwd:{}\r\na=fingerprint:{}\r\na=setup:passive\r\n\
         a=candidate:1 1 udp 1 {} {} typ host\r\n",
        local.ufrag,
        local.pwd,
        endpoint.certificate().fingerprint(),
        to.ip(),
        to.port(),
    );
    let peer = endpoint.open(local, remote).ok()?;
    stream.write_all(answer.as_bytes()).await.ok()?;
    Some(peer)
}

/// The least that a server must do: a copy of each packet for each player, sealed in place, and sent with those of its frame. Runs
/// until it is killed.
pub(super) fn floor(args: &Args) -> Result<()> {
    let shape = Shape::of(args)?;
    let address = args.number("listen")?.unwrap_or(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)));
    let most: usize = args.number("payload")?.unwrap_or(1180);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.map_err(io_error("start a runtime"))?.block_on(async {
        let socket = BatchSocket::bind(address, false).map_err(io_error("open a socket"))?;
        eprintln!("the floor listens on {}", socket.local_addr());
        let mut players: Vec<(SocketAddr, LessSafeKey, u64)> = Vec::new();
        let mut received = Received::default();
        let mut synth = Synth::new(shape);
        let (mut bytes, mut runs) = (Vec::new(), Vec::new());
        let begun = Instant::now();
        loop {
            let due = begun + Duration::from_millis(synth.next_ms());
            tokio::time::sleep_until(due.into()).await;
            while socket.receive(&mut received).is_ok_and(|count| count > 0) {
                for (_, from) in received.datagrams().filter(|(datagram, _)| *datagram == HELLO) {
                    let key = UnboundKey::new(&AES_128_GCM, &[7; 16]);
                    let key = key.map_err(|_| BenchError::Server("has no AES".into()))?;
                    players.push((from, LessSafeKey::new(key), 0));
                }
            }
            let unit = synth.next();
            let frame = unit.body.get(if unit.kind == kind::VIDEO { 9 } else { 2 }..).unwrap_or_default();
            let size = frame.len().div_ceil(frame.len().div_ceil(most).max(1)).max(1);
            for (to, key, sent) in &mut players {
                for payload in frame.chunks(size) {
                    *sent += 1;
                    let start = bytes.len();
                    bytes.extend_from_slice(&[0x80, 96, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]);
                    bytes.extend_from_slice(payload);
                    let nonce = Nonce::assume_unique_for_key(
                        (u128::from(*sent) << 32).to_be_bytes().first_chunk().copied().unwrap_or_default(),
                    );
                    let packet = bytes.get_mut(start..).and_then(|packet| packet.split_at_mut_checked(12));
                    let Some((header, body)) = packet else { continue };
                    let tag = key.seal_in_place_separate_tag(nonce, Aad::from(header), body);
                    let tag = tag.map_err(|_| BenchError::Server("has no AES".into()))?;
                    bytes.extend_from_slice(tag.as_ref());
                    let length = bytes.len() - start;
                    if !runs.last_mut().is_some_and(|run: &mut Run| run.add(*to, start, length, usize::MAX)) {
                        runs.push(Run::new(*to, start, length));
                    }
                }
                if bytes.len() > 256 << 10 {
                    flush(&socket, &mut bytes, &mut runs).await;
                }
            }
            flush(&socket, &mut bytes, &mut runs).await;
        }
    })
}

async fn flush(socket: &BatchSocket, bytes: &mut Vec<u8>, runs: &mut Vec<Run>) {
    let mut sent = 0;
    while let Some(rest) = runs.get(sent..).filter(|rest| !rest.is_empty()) {
        match socket.send_runs(bytes, rest) {
            Ok(count) => sent += count,
            Err(_) if socket.writable().await.is_ok() => {}
            Err(_) => break,
        }
    }
    bytes.clear();
    runs.clear();
}
