//! Many players: each opens a stream, and then throws away what comes.

use std::collections::BTreeMap;
use std::io::{self, Read, Write};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Token};

use super::opening::{Opening, Progress, Source};
use super::process::{self, Spent};
use super::{Args, BenchError, Result, io_error, until};

pub(super) const OPTIONS: &[&str] = &["url", "count", "seconds", "stall", "rate", "settle", "pid"];

/// All connections read into one buffer: what is not looked at need not stay.
const BUFFER: usize = 256 * 1024;
/// So many may be on their way to the first frame at a time: fewer than a listener's backlog.
const MOST_OPENING: usize = 500;
/// How long players may take to get their first frame after the last has connected.
const JOIN_TIMEOUT: Duration = Duration::from_secs(20);

/// Runs until `--seconds` have been measured.
pub(super) fn run(args: &Args) -> Result<()> {
    let source = Source::parse(args.text("url")?)?;
    let plan = Plan {
        address: source.address()?,
        source,
        count: args.number("count")?.unwrap_or(1),
        stall: args.number("stall")?.unwrap_or(0),
        seconds: Duration::from_secs_f64(args.number("seconds")?.filter(|s| *s > 0.0).unwrap_or(10.0)),
        settle: Duration::from_secs_f64(args.number("settle")?.filter(|s| *s >= 0.0).unwrap_or(2.0)),
        rate: args.number("rate")?.filter(|r| *r > 0.0).unwrap_or(1000.0),
        pid: args.number("pid")?,
    };
    let report = Players::new(plan)?.run()?;
    println!("{}", report.json());
    eprintln!("{}", report.words());
    if report.alive == 0 { Err(BenchError::Server("keeps no player".into())) } else { Ok(()) }
}

struct Plan {
    address: SocketAddr,
    source: Source,
    count: usize,
    /// The last so many stop reading after their first frame.
    stall: usize,
    /// How long to measure, once all have joined and `settle` has passed.
    seconds: Duration,
    settle: Duration,
    /// Connections opened a second.
    rate: f64,
    /// The server's process.
    pid: Option<u32>,
}

struct Player {
    socket: TcpStream,
    /// `None` once it only discards.
    opening: Option<Box<Started>>,
}

struct Started {
    opening: Opening,
    out: Vec<u8>,
    begun: Instant,
    media: bool,
}

struct Players {
    plan: Plan,
    poll: Poll,
    players: Vec<Option<Player>>,
    opening: usize,
    bytes: u64,
    /// From connecting to the first media, and to the first frame.
    first_media: Vec<Duration>,
    first_frame: Vec<Duration>,
    errors: BTreeMap<String, usize>,
    buffer: Vec<u8>,
}

impl Players {
    fn new(plan: Plan) -> Result<Self> {
        Ok(Self {
            poll: Poll::new().map_err(io_error("make an epoll"))?,
            players: Vec::with_capacity(plan.count),
            plan,
            opening: 0,
            bytes: 0,
            first_media: Vec::new(),
            first_frame: Vec::new(),
            errors: BTreeMap::new(),
            buffer: vec![0; BUFFER],
        })
    }

    fn run(mut self) -> Result<Report> {
        let before = self.plan.pid.and_then(Spent::by);
        let begun = Instant::now();
        self.join_all()?;
        let joining = begun.elapsed();
        self.read_until(Instant::now() + self.plan.settle)?;

        let (cpu, own, bytes) = (self.look(), Spent::by(std::process::id()), self.bytes);
        let machine = process::machine();
        let measured = Instant::now();
        self.read_until(measured + self.plan.seconds)?;
        let seconds = measured.elapsed().as_secs_f64();
        let (cpu_after, own_after) = (self.look(), Spent::by(std::process::id()));

        let machine = process::machine().zip(machine).map(|(after, before)| after.saturating_sub(before));
        let bytes = self.bytes - bytes;
        let cpu_of = |a: Option<Spent>, b: Option<Spent>| Some(b?.cpu.saturating_sub(a?.cpu).as_secs_f64());
        Ok(Report {
            count: self.plan.count,
            alive: self.players.iter().flatten().count(),
            joining,
            seconds,
            bytes,
            first_media: Spread::of(self.first_media),
            first_frame: Spread::of(self.first_frame),
            server: cpu_of(cpu, cpu_after),
            own: cpu_of(own, own_after).unwrap_or(0.0),
            machine: machine.map_or(0.0, |busy| busy.as_secs_f64()),
            rss: before.zip(cpu_after).map(|(before, after)| (before.rss, after.rss)),
            errors: self.errors,
        })
    }

    fn look(&self) -> Option<Spent> {
        self.plan.pid.and_then(Spent::by)
    }

    /// Opens all connections, and reads until each has its first frame.
    fn join_all(&mut self) -> Result<()> {
        let begun = Instant::now();
        let mut deadline = begun + JOIN_TIMEOUT;
        loop {
            let now = Instant::now();
            let due = (now - begun).as_secs_f64() * self.plan.rate + 1.0;
            while self.players.len() < self.plan.count
                && (self.players.len() as f64) < due
                && self.opening < MOST_OPENING
            {
                self.connect(now)?;
                deadline = now + JOIN_TIMEOUT;
            }
            if self.players.len() == self.plan.count && self.opening == 0 {
                return Ok(());
            }
            if now > deadline {
                *self.errors.entry("no frame in 20 s".into()).or_default() += self.opening;
                return Ok(());
            }
            self.read_until(now + Duration::from_millis(2))?;
        }
    }

    fn connect(&mut self, now: Instant) -> Result<()> {
        let token = Token(self.players.len());
        let (opening, out) = Opening::new(&self.plan.source, token.0 as u64, now);
        let mut socket = TcpStream::connect(self.plan.address).map_err(io_error("connect"))?;
        // A reset at the end leaves no port in TIME_WAIT: there are not many of them.
        let _ = socket2::SockRef::from(&socket).set_linger(Some(Duration::ZERO));
        let interest = Interest::READABLE | Interest::WRITABLE;
        self.poll.registry().register(&mut socket, token, interest).map_err(io_error("watch a socket"))?;
        let started = Started { opening, out, begun: now, media: false };
        self.players.push(Some(Player { socket, opening: Some(Box::new(started)) }));
        self.opening += 1;
        Ok(())
    }

    fn read_until(&mut self, end: Instant) -> Result<()> {
        let mut events = Events::with_capacity(1024);
        loop {
            match self.poll.poll(&mut events, Some(until(end))) {
                Ok(()) => {}
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(BenchError::Io { what: "wait for sockets".into(), cause: e }),
            }
            for event in &events {
                let number = event.token().0;
                if let Err(error) = self.event(number, event.is_writable()) {
                    *self.errors.entry(error.to_string()).or_default() += 1;
                    self.opening -= usize::from(self.opening_of(number).is_some());
                    if let Some(player) = self.players.get_mut(number) {
                        *player = None;
                    }
                }
            }
            if Instant::now() >= end {
                return Ok(());
            }
        }
    }

    fn opening_of(&self, number: usize) -> Option<&Started> {
        self.players.get(number)?.as_ref()?.opening.as_deref()
    }

    fn event(&mut self, number: usize, writable: bool) -> Result<()> {
        let Some(Some(player)) = self.players.get_mut(number) else { return Ok(()) };
        if writable && let Some(started) = &mut player.opening {
            started.send(&player.socket)?;
        }
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
            let Some(started) = &mut player.opening else {
                // Less than a buffer: the socket is empty, and the next bytes will be an event.
                if n < BUFFER {
                    return Ok(());
                }
                continue;
            };
            let now = Instant::now();
            let bytes = self.buffer.get(..n).unwrap_or_default();
            let progress = started.opening.input(bytes, &mut started.out)?;
            started.send(&player.socket)?;
            let passed = now - started.begun;
            if progress >= Progress::Media && !std::mem::replace(&mut started.media, true) {
                self.first_media.push(passed);
            }
            if progress == Progress::Frame {
                self.first_frame.push(passed);
                self.opening -= 1;
                player.opening = None;
                if number + self.plan.stall >= self.plan.count {
                    let stalls = self.poll.registry().deregister(&mut player.socket);
                    return stalls.map_err(io_error("leave a socket"));
                }
            }
        }
    }
}

impl Started {
    fn send(&mut self, mut socket: &TcpStream) -> Result<()> {
        while !self.out.is_empty() {
            match socket.write(&self.out) {
                Ok(n) => drop(self.out.drain(..n)),
                Err(e) if matches!(e.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::NotConnected) => {
                    break;
                }
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(BenchError::Io { what: "send".into(), cause: e }),
            }
        }
        Ok(())
    }
}

/// Half of all are below the first, 99 % below the second. Milliseconds.
#[derive(Debug, Clone, Copy)]
struct Spread(f64, f64);

impl Spread {
    fn of(mut all: Vec<Duration>) -> Option<Self> {
        all.sort_unstable();
        let at =
            |percent: usize| all.get((all.len() * percent / 100).min(all.len().checked_sub(1)?)).copied();
        let ms = |d: Duration| d.as_secs_f64() * 1e3;
        Some(Self(ms(at(50)?), ms(at(99)?)))
    }
}

struct Report {
    count: usize,
    alive: usize,
    joining: Duration,
    seconds: f64,
    bytes: u64,
    first_media: Option<Spread>,
    first_frame: Option<Spread>,
    /// Processor time of the server, seconds.
    server: Option<f64>,
    own: f64,
    /// Processor time of all that runs on the machine, these two among them.
    machine: f64,
    /// Memory of the server before the first player and at the end, KiB.
    rss: Option<(u64, u64)>,
    errors: BTreeMap<String, usize>,
}

impl Report {
    fn gbit(&self) -> f64 {
        self.bytes as f64 * 8.0 / 1e9
    }

    /// Percent of a core for each Gbit/s that players get.
    fn cpu_per_gbit(&self) -> Option<f64> {
        self.server.filter(|_| self.bytes > 0).map(|cpu| cpu * 100.0 / self.gbit())
    }

    /// Percent of a core that others took meanwhile. The publisher is among them, and takes little.
    fn others(&self) -> f64 {
        let others = self.machine - self.own - self.server.unwrap_or(0.0);
        (others / self.seconds * 100.0).max(0.0)
    }

    fn json(&self) -> String {
        let number = |n: Option<f64>| n.map_or("null".into(), |n| format!("{n:.3}"));
        let spread = |s: Option<Spread>| s.map_or("null".into(), |s| format!("[{:.3},{:.3}]", s.0, s.1));
        let errors: Vec<_> = self.errors.iter().map(|(e, n)| format!("{e:?}:{n}")).collect();
        format!(
            "{{\"players\":{},\"alive\":{},\"joining_s\":{:.2},\"seconds\":{:.3},\"bytes\":{},\"gbit_s\":{:.5},\
             \"first_media_ms\":{},\"first_frame_ms\":{},\"server_cpu_s\":{},\"cpu_percent_per_gbit\":{},\
             \"own_cpu_s\":{:.3},\"others_cpu_percent\":{:.0},\"rss_before_kib\":{},\"rss_kib\":{},\"errors\":{{{}}}}}",
            self.count,
            self.alive,
            self.joining.as_secs_f64(),
            self.seconds,
            self.bytes,
            self.gbit() / self.seconds,
            spread(self.first_media),
            spread(self.first_frame),
            number(self.server),
            number(self.cpu_per_gbit()),
            self.own,
            self.others(),
            self.rss.map_or("null".into(), |r| r.0.to_string()),
            self.rss.map_or("null".into(), |r| r.1.to_string()),
            errors.join(","),
        )
    }

    fn words(&self) -> String {
        let mut text = format!(
            "{} of {} players alive, {:.4} Gbit/s over {:.1} s",
            self.alive,
            self.count,
            self.gbit() / self.seconds,
            self.seconds
        );
        if let Some(Spread(half, most)) = self.first_frame {
            text += &format!("; first frame after {half:.1} ms (99 %: {most:.1} ms)");
        }
        if let Some(cpu) = self.cpu_per_gbit() {
            text += &format!("; server {cpu:.2} % of a core per Gbit/s");
        }
        if let Some((before, after)) = self.rss {
            let each = (after as f64 - before as f64) / self.count.max(1) as f64;
            text += &format!("; {before} KiB before, {each:.2} KiB a player");
        }
        let own = self.own / self.seconds * 100.0;
        text += &format!("; players took {own:.0} % of a core, others {:.0} %", self.others());
        for (error, n) in &self.errors {
            text += &format!("\n  {n} times: {error}");
        }
        text
    }
}
