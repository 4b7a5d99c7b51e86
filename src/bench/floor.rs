//! The least that a server must do: the same bytes to each connection, one `write` per window.

use std::io::{self, Read, Write};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use mio::net::{TcpListener, TcpStream};
use mio::{Events, Interest, Poll, Token};

use super::synth::{Shape, Synth, Unit};
use super::{Args, BenchError, Result, io_error, until};

pub(super) const OPTIONS: &[&str] =
    &["listen", "window", Shape::OPTIONS[0], Shape::OPTIONS[1], Shape::OPTIONS[2]];

const LISTENER: Token = Token(usize::MAX);
const HEAD: &str = "HTTP/1.1 200 OK\r\nContent-Type: video/x-flv\r\nTransfer-Encoding: chunked\r\n\r\n";
const FLV_HEADER: &[u8] = b"FLV\x01\x05\0\0\0\x09\0\0\0\0";
/// A connection that leaves more than this unread misses the rest.
const MOST_PENDING: usize = 1024 * 1024;

struct Reader {
    socket: TcpStream,
    /// It has asked, and gets what comes.
    started: bool,
    pending: Vec<u8>,
}

/// Serves until it is killed.
pub(super) fn run(args: &Args) -> Result<()> {
    let shape = Shape::of(args)?;
    let window = Duration::from_millis(args.number("window")?.unwrap_or(0));
    let address: SocketAddr = args.number("listen")?.unwrap_or(SocketAddr::from(([127, 0, 0, 1], 0)));
    let mut floor = Floor::new(address)?;
    let mut synth = Synth::new(shape);
    let mut start = Vec::new();
    start.extend_from_slice(HEAD.as_bytes());
    put_chunk(&mut start, FLV_HEADER);
    for unit in synth.config() {
        put_unit(&mut start, &unit);
    }
    let mut events = Events::with_capacity(1024);
    let begun = Instant::now();
    let mut batch = Vec::new();
    let mut flush = begun;
    loop {
        match floor.poll.poll(&mut events, Some(until(flush))) {
            Ok(()) => {}
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(BenchError::Io { what: "wait for sockets".into(), cause: e }),
        }
        for event in &events {
            match event.token() {
                LISTENER => floor.accept(),
                Token(number) => floor.event(number, &start),
            }
        }
        if Instant::now() < flush {
            continue;
        }
        let passed = begun.elapsed().as_millis() as u64;
        while synth.next_ms() <= passed {
            put_unit(&mut batch, &synth.next());
        }
        floor.send(&batch);
        batch.clear();
        let next = begun + Duration::from_millis(synth.next_ms());
        flush = next.max(flush + window);
    }
}

struct Floor {
    poll: Poll,
    listener: TcpListener,
    readers: Vec<Option<Reader>>,
}

impl Floor {
    fn new(address: SocketAddr) -> Result<Self> {
        let poll = Poll::new().map_err(io_error("make an epoll"))?;
        let mut listener = TcpListener::bind(address).map_err(io_error(format!("listen on {address}")))?;
        let watched = poll.registry().register(&mut listener, LISTENER, Interest::READABLE);
        watched.map_err(io_error("watch the listener"))?;
        let bound = listener.local_addr().map_err(io_error("name the listener"))?;
        println!("{bound}");
        Ok(Self { poll, listener, readers: Vec::new() })
    }

    fn accept(&mut self) {
        while let Ok((mut socket, _)) = self.listener.accept() {
            let token = Token(self.readers.len());
            let _ = socket.set_nodelay(true);
            let interest = Interest::READABLE | Interest::WRITABLE;
            if self.poll.registry().register(&mut socket, token, interest).is_ok() {
                self.readers.push(Some(Reader { socket, started: false, pending: Vec::new() }));
            }
        }
    }

    fn event(&mut self, number: usize, start: &[u8]) {
        let Some(place) = self.readers.get_mut(number) else { return };
        let Some(reader) = place else { return };
        let mut request = [0; 2048];
        match reader.socket.read(&mut request) {
            Ok(n) if n > 0 => {
                if !std::mem::replace(&mut reader.started, true) {
                    reader.pending.extend_from_slice(start);
                }
            }
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => {}
            _ => {
                *place = None;
                return;
            }
        }
        if reader.catch_up().is_err() {
            *place = None;
        }
    }

    fn send(&mut self, batch: &[u8]) {
        for place in &mut self.readers {
            let Some(reader) = place else { continue };
            if reader.started && reader.send(batch).is_err() {
                *place = None;
            }
        }
    }
}

impl Reader {
    fn send(&mut self, batch: &[u8]) -> io::Result<()> {
        if !self.pending.is_empty() {
            if self.pending.len() + batch.len() <= MOST_PENDING {
                self.pending.extend_from_slice(batch);
            }
            return Ok(());
        }
        let n = write(&self.socket, batch)?;
        self.pending.extend_from_slice(batch.get(n..).unwrap_or_default());
        Ok(())
    }

    fn catch_up(&mut self) -> io::Result<()> {
        while !self.pending.is_empty() {
            match write(&self.socket, &self.pending)? {
                0 => return Ok(()),
                n => drop(self.pending.drain(..n)),
            }
        }
        self.pending = Vec::new();
        Ok(())
    }
}

/// How much was taken; 0 when the socket is full.
fn write(mut socket: &TcpStream, bytes: &[u8]) -> io::Result<usize> {
    match socket.write(bytes) {
        Err(e) if matches!(e.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => Ok(0),
        result => result,
    }
}

/// Adds a unit as an FLV tag in an HTTP chunk, as HTTP-FLV has it.
fn put_unit(out: &mut Vec<u8>, unit: &Unit) {
    let len = unit.body.len() as u32;
    let [_, a, b, c] = len.to_be_bytes();
    let [high, d, e, f] = (unit.ms as u32).to_be_bytes();
    let mut tag = vec![unit.kind, a, b, c, d, e, f, high, 0, 0, 0];
    tag.extend_from_slice(&unit.body);
    tag.extend_from_slice(&(len + 11).to_be_bytes());
    put_chunk(out, &tag);
}

fn put_chunk(out: &mut Vec<u8>, bytes: &[u8]) {
    out.extend_from_slice(format!("{:x}\r\n", bytes.len()).as_bytes());
    out.extend_from_slice(bytes);
    out.extend_from_slice(b"\r\n");
}
