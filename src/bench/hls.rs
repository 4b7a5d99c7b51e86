//! Many HLS players: each fetches a playlist and its segments over one connection, again and again at the pace of
//! the media, and throws them away.

use std::collections::BTreeMap;
use std::io::{self, Read, Write};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Token};

use super::process::{self, Spent};
use super::{Args, BenchError, Result, io_error, resolve, until};

pub(super) const OPTIONS: &[&str] = &["url", "count", "seconds", "settle", "period", "pid"];

/// All connections read into one buffer.
const BUFFER: usize = 256 * 1024;
/// The longest playlist.
const MOST_TEXT: usize = 64 * 1024;

/// Runs until `--seconds` have been measured.
pub(super) fn run(args: &Args) -> Result<()> {
    let url = args.text("url")?;
    let bad = || BenchError::Usage(format!("--url {url:?} is not http://HOST:PORT/PATH"));
    let (authority, path) =
        url.strip_prefix("http://").and_then(|rest| rest.split_once('/')).ok_or_else(bad)?;
    let (host, port) = authority.rsplit_once(':').ok_or_else(bad)?;
    let seconds = |name, default| {
        Ok::<_, BenchError>(args.number::<f64>(name)?.filter(|s| *s > 0.0).unwrap_or(default))
    };
    let plan = Plan {
        address: resolve(host, port.parse().map_err(|_| bad())?)?,
        host: authority.to_owned(),
        path: format!("/{path}"),
        count: args.number("count")?.unwrap_or(1),
        seconds: Duration::from_secs_f64(seconds("seconds", 10.0)?),
        settle: Duration::from_secs_f64(seconds("settle", 5.0)?),
        period: Duration::from_secs_f64(seconds("period", 4.0)?),
        pid: args.number("pid")?,
    };
    Players::new(plan)?.run()
}

struct Plan {
    address: SocketAddr,
    host: String,
    path: String,
    count: usize,
    seconds: Duration,
    settle: Duration,
    /// How often a player fetches all that there is.
    period: Duration,
    pid: Option<u32>,
}

struct Player {
    socket: TcpStream,
    /// The playlist that it asks for each time.
    playlist: String,
    /// What it still has to ask for in this round, the next one last.
    wanted: Vec<String>,
    /// Request bytes that did not fit into the socket.
    out: Vec<u8>,
    reading: Reading,
    /// When the next round begins.
    due: Instant,
}

enum Reading {
    /// Waits for its next round.
    Nothing,
    /// The head of an answer so far, and of a playlist what came after it.
    Head {
        text: Vec<u8>,
        playlist: bool,
    },
    Body {
        left: usize,
        playlist: Option<Vec<u8>>,
    },
}

struct Players {
    plan: Plan,
    poll: Poll,
    players: Vec<Option<Player>>,
    bytes: u64,
    requests: u64,
    errors: BTreeMap<String, usize>,
    buffer: Vec<u8>,
}

impl Players {
    fn new(plan: Plan) -> Result<Self> {
        Ok(Self {
            poll: Poll::new().map_err(io_error("make an epoll"))?,
            players: Vec::with_capacity(plan.count),
            plan,
            bytes: 0,
            requests: 0,
            errors: BTreeMap::new(),
            buffer: vec![0; BUFFER],
        })
    }

    fn run(mut self) -> Result<()> {
        // Spread over the period, as viewers are.
        let begun = Instant::now();
        for n in 0..self.plan.count {
            let due = begun
                + self.plan.period * u32::try_from(n).unwrap_or(0)
                    / u32::try_from(self.plan.count).unwrap_or(1);
            let mut socket = TcpStream::connect(self.plan.address).map_err(io_error("connect"))?;
            let _ = socket2::SockRef::from(&socket).set_linger(Some(Duration::ZERO));
            self.poll
                .registry()
                .register(&mut socket, Token(n), Interest::READABLE)
                .map_err(io_error("watch a socket"))?;
            let (playlist, wanted, out) = (self.plan.path.clone(), Vec::new(), Vec::new());
            self.players.push(Some(Player { socket, playlist, wanted, out, reading: Reading::Nothing, due }));
            if n % 100 == 99 {
                self.play_until(Instant::now() + Duration::from_millis(20))?;
            }
        }
        self.play_until(Instant::now() + self.plan.period + self.plan.settle)?;
        let look = |pid: Option<u32>| pid.and_then(Spent::by);
        let (cpu, own, machine) = (look(self.plan.pid), Spent::by(std::process::id()), process::machine());
        let (bytes, requests, measured) = (self.bytes, self.requests, Instant::now());
        self.play_until(measured + self.plan.seconds)?;
        let seconds = measured.elapsed().as_secs_f64();
        let (cpu_after, own_after) = (look(self.plan.pid), Spent::by(std::process::id()));
        let busy = process::machine()
            .zip(machine)
            .map_or(0.0, |(after, before)| (after.saturating_sub(before)).as_secs_f64());
        let spent = |a: Option<Spent>, b: Option<Spent>| Some(b?.cpu.saturating_sub(a?.cpu).as_secs_f64());
        let gbit = (self.bytes - bytes) as f64 * 8.0 / 1e9;
        let server = spent(cpu, cpu_after);
        let others = busy - server.unwrap_or(0.0) - spent(own, own_after).unwrap_or(0.0);
        let per_gbit = server.filter(|_| gbit > 0.0).map(|server| server * 100.0 / gbit);
        let alive = self.players.iter().flatten().count();
        let number = |n: Option<f64>| n.map_or("null".to_owned(), |n| format!("{n:.3}"));
        println!(
            "{{\"players\":{},\"alive\":{alive},\"seconds\":{seconds:.3},\"gbit_s\":{:.5},\"requests_s\":{:.0},\
             \"server_cpu_s\":{},\"cpu_percent_per_gbit\":{},\"others_cpu_percent\":{:.0},\"rss_kib\":{}}}",
            self.plan.count,
            gbit / seconds,
            (self.requests - requests) as f64 / seconds,
            number(server),
            number(per_gbit),
            (others / seconds * 100.0).max(0.0),
            cpu_after.map_or("null".to_owned(), |spent| spent.rss.to_string()),
        );
        for (error, n) in &self.errors {
            eprintln!("  {n} times: {error}");
        }
        if alive == 0 { Err(BenchError::Server("keeps no player".into())) } else { Ok(()) }
    }

    fn play_until(&mut self, end: Instant) -> Result<()> {
        let mut events = Events::with_capacity(1024);
        loop {
            let now = Instant::now();
            if now >= end {
                return Ok(());
            }
            // Rounds that are due; a look each 5 ms is exact enough.
            for number in 0..self.players.len() {
                let Some(Some(player)) = self.players.get_mut(number) else { continue };
                if matches!(player.reading, Reading::Nothing) && now >= player.due {
                    player.due += self.plan.period;
                    let playlist = player.playlist.clone();
                    self.requests += 1;
                    let asked = player.ask(&playlist, &self.plan.host, true);
                    self.settle(number, asked);
                }
            }
            let wake = end.min(now + Duration::from_millis(5));
            match self.poll.poll(&mut events, Some(until(wake))) {
                Ok(()) => {}
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(BenchError::Io { what: "wait for sockets".into(), cause: e }),
            }
            for event in &events {
                let number = event.token().0;
                let read = self.read(number);
                self.settle(number, read);
            }
        }
    }

    fn settle(&mut self, number: usize, done: Result<()>) {
        if let Err(error) = done {
            *self.errors.entry(error.to_string()).or_default() += 1;
            if let Some(player) = self.players.get_mut(number) {
                *player = None;
            }
        }
    }

    fn read(&mut self, number: usize) -> Result<()> {
        let Some(Some(player)) = self.players.get_mut(number) else { return Ok(()) };
        loop {
            let n = match player.socket.read(&mut self.buffer) {
                Ok(0) => return Err(BenchError::Server("closed the connection".into())),
                Ok(n) => n,
                Err(e) if matches!(e.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::NotConnected) => {
                    return Ok(());
                }
                Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
                Err(e) => return Err(BenchError::Io { what: "read".into(), cause: e }),
            };
            self.bytes += n as u64;
            if player.input(self.buffer.get(..n).unwrap_or_default())? {
                if let Some(next) = player.wanted.pop() {
                    self.requests += 1;
                    let is_playlist = next.split('?').next().is_some_and(|path| path.ends_with(".m3u8"));
                    if is_playlist {
                        player.playlist.clone_from(&next);
                    }
                    player.ask(&next, &self.plan.host, is_playlist)?;
                } else {
                    player.reading = Reading::Nothing;
                }
            }
        }
    }
}

impl Player {
    fn ask(&mut self, path: &str, host: &str, playlist: bool) -> Result<()> {
        self.reading = Reading::Head { text: Vec::new(), playlist };
        self.out = format!("GET {path} HTTP/1.1\r\nHost: {host}\r\n\r\n").into_bytes();
        // A request is small: a socket that has no room for it is broken.
        match self.socket.write(&self.out) {
            Ok(n) if n == self.out.len() => Ok(()),
            Ok(_) => Err(BenchError::Server("takes no requests".into())),
            Err(cause) => Err(BenchError::Io { what: "send".into(), cause }),
        }
    }

    /// Tells whether the answer is whole.
    fn input(&mut self, mut bytes: &[u8]) -> Result<bool> {
        if let Reading::Head { text, playlist } = &mut self.reading {
            text.extend_from_slice(bytes);
            let Some(end) = text.windows(4).position(|end| end == b"\r\n\r\n") else { return Ok(false) };
            let head = String::from_utf8_lossy(text.get(..end).unwrap_or_default()).into_owned();
            if !head.starts_with("HTTP/1.1 200") {
                return Err(BenchError::Server(format!(
                    "answers {:?}",
                    head.lines().next().unwrap_or_default()
                )));
            }
            let length = head.lines().filter_map(|line| line.split_once(": "));
            let length = length.filter(|(name, _)| name.eq_ignore_ascii_case("content-length"));
            let left = length.map(|(_, value)| value.trim().parse().unwrap_or(0)).next().unwrap_or(0);
            let rest = text.len() - end - 4;
            let playlist = playlist.then(Vec::new);
            self.reading = Reading::Body { left, playlist };
            bytes = bytes.get(bytes.len() - rest.min(bytes.len())..).unwrap_or_default();
        }
        let Reading::Body { left, playlist } = &mut self.reading else {
            return Err(BenchError::Server("sends what nobody asked for".into()));
        };
        *left = left.saturating_sub(bytes.len());
        if let Some(text) = playlist {
            text.extend_from_slice(bytes);
            if text.len() > MOST_TEXT {
                return Err(BenchError::Server("sends an endless playlist".into()));
            }
        }
        if *left > 0 {
            return Ok(false);
        }
        if let Some(text) = playlist.take() {
            let folder = self.playlist.rsplit_once('/').map_or("", |(folder, _)| folder);
            let text = String::from_utf8_lossy(&text).into_owned();
            let links = text.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
            self.wanted = links.map(|link| format!("{folder}/{link}")).collect();
            self.wanted.reverse();
        }
        Ok(true)
    }
}
