//! Publishers: each sends the same stream under its own name.

use std::io::{self, Read, Write};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use bytes::BytesMut;
use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Token};

use super::synth::{Shape, Synth, Unit};
use super::{Args, BenchError, Result, io_error, resolve, until};
use crate::rtmp::client_session::{ClientEvent, ClientSession, Goal, Target};
use crate::rtmp::session::Tag;

pub(super) const OPTIONS: &[&str] =
    &["url", "count", "seconds", Shape::OPTIONS[0], Shape::OPTIONS[1], Shape::OPTIONS[2]];

/// A server that lets more than this pile up is too slow, and the figures mean nothing.
const MOST_PENDING: usize = 64 * 1024 * 1024;

struct Publisher {
    socket: TcpStream,
    session: ClientSession,
    input: BytesMut,
    out: Vec<u8>,
    ready: bool,
}

/// Publishes until it is killed, or for `--seconds`.
pub(super) fn run(args: &Args) -> Result<()> {
    let target = Target { digest: false, ..Target::parse(args.text("url")?)? };
    let count = args.number("count")?.unwrap_or(1);
    let seconds = args.number("seconds")?.unwrap_or(u64::from(u32::MAX));
    let address = resolve(&target.host, target.port)?;
    let mut synth = Synth::new(Shape::of(args)?);
    let mut poll = Poll::new().map_err(io_error("make an epoll"))?;
    let mut publishers = Vec::new();
    for number in 0..count {
        let mut target = target.clone();
        if count > 1 {
            target.name = format!("{}-{number}", target.name);
        }
        publishers.push(Publisher::new(target, address, number, &poll)?);
    }
    let config = synth.config();
    let mut events = Events::with_capacity(1024);
    let begun = Instant::now();
    let mut next = begun;
    while begun.elapsed().as_secs() < seconds {
        match poll.poll(&mut events, Some(until(next))) {
            Ok(()) => {}
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(BenchError::Io { what: "wait for sockets".into(), cause: e }),
        }
        for event in &events {
            if let Some(publisher) = publishers.get_mut(event.token().0) {
                let was_ready = publisher.ready;
                publisher.event()?;
                if publisher.ready && !was_ready {
                    publisher.send(&config)?;
                }
            }
        }
        let passed = begun.elapsed().as_millis() as u64;
        while synth.next_ms() <= passed {
            let unit = [synth.next()];
            for publisher in publishers.iter_mut().filter(|p| p.ready) {
                publisher.send(&unit)?;
            }
        }
        next = begun + Duration::from_millis(synth.next_ms());
    }
    Ok(())
}

impl Publisher {
    fn new(target: Target, address: SocketAddr, number: usize, poll: &Poll) -> Result<Self> {
        let mut socket = TcpStream::connect(address).map_err(io_error(format!("connect to {address}")))?;
        let _ = socket.set_nodelay(true);
        let interest = Interest::READABLE | Interest::WRITABLE;
        poll.registry().register(&mut socket, Token(number), interest).map_err(io_error("watch a socket"))?;
        let mut session = ClientSession::new(target, Goal::Publish, number as u64, Instant::now());
        let out = session.take_output();
        Ok(Self { socket, session, input: BytesMut::new(), out, ready: false })
    }

    fn event(&mut self) -> Result<()> {
        self.flush()?;
        let mut buffer = [0; 4096];
        loop {
            let n = match self.socket.read(&mut buffer) {
                Ok(0) => return Err(BenchError::Server("closed the publisher's connection".into())),
                Ok(n) => n,
                Err(e) if matches!(e.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::NotConnected) => {
                    break;
                }
                Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
                Err(e) => return Err(BenchError::Io { what: "read".into(), cause: e }),
            };
            self.input.extend_from_slice(buffer.get(..n).unwrap_or_default());
            while let Some(event) = self.session.input(&mut self.input)? {
                self.ready |= event == ClientEvent::Ready;
            }
        }
        self.flush()
    }

    fn send(&mut self, units: &[Unit]) -> Result<()> {
        for unit in units {
            self.session.send(&Tag { kind: unit.kind, time: unit.ms, body: unit.body.clone() });
        }
        self.flush()
    }

    fn flush(&mut self) -> Result<()> {
        self.out.extend_from_slice(&self.session.take_output());
        while !self.out.is_empty() {
            match (&self.socket).write(&self.out) {
                Ok(n) => drop(self.out.drain(..n)),
                Err(e) if matches!(e.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::NotConnected) => {
                    break;
                }
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(BenchError::Io { what: "send".into(), cause: e }),
            }
        }
        if self.out.len() > MOST_PENDING {
            return Err(BenchError::Server("takes less than the publisher sends".into()));
        }
        Ok(())
    }
}
