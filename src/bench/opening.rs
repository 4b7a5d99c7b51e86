//! A player's first bytes: from the connection to the first frame, after which it only discards.

use std::time::Instant;

use bytes::{Buf, BytesMut};

use super::{BenchError, Result, resolve};
use crate::rtmp::chunk::kind;
use crate::rtmp::client_session::{ClientEvent, ClientSession, Goal, Target};

/// A server that sends so much without a frame sends something else.
const MOST: usize = 32 * 1024 * 1024;
const FLV_HEADER: usize = 9 + 4;
const TAG_HEADER: usize = 11;

/// What to read and from where.
pub(super) enum Source {
    Rtmp(Target),
    Http { host: String, port: u16, path: String },
}

impl Source {
    pub(super) fn parse(url: &str) -> Result<Self> {
        let Some(rest) = url.strip_prefix("http://") else {
            let target = Target::parse(url)?;
            if target.tls {
                return Err(BenchError::Usage("bench tools don't speak TLS".into()));
            }
            // Signing costs this process time that it should not take.
            return Ok(Self::Rtmp(Target { digest: false, ..target }));
        };
        let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
        let (host, port) = crate::rtmp::url::split_port(authority);
        let port = port.map_or(Ok(80), str::parse);
        let port = port.map_err(|_| BenchError::Usage(format!("{url:?} has no number as its port")))?;
        Ok(Self::Http { host: host.to_owned(), port, path: format!("/{path}") })
    }

    pub(super) fn address(&self) -> Result<std::net::SocketAddr> {
        match self {
            Self::Rtmp(target) => resolve(&target.host, target.port),
            Self::Http { host, port, .. } => resolve(host, *port),
        }
    }
}

/// How far a player is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd)]
pub(super) enum Progress {
    Nothing,
    /// Media, but no frame.
    Media,
    /// A whole video frame, or a whole audio frame where there is no video.
    Frame,
}

pub(super) enum Opening {
    Rtmp { session: Box<ClientSession>, input: BytesMut },
    Http(HttpOpening),
}

impl Opening {
    /// Begins, and gives what is to be sent.
    pub(super) fn new(source: &Source, seed: u64, now: Instant) -> (Self, Vec<u8>) {
        match source {
            Source::Rtmp(target) => {
                let mut session = Box::new(ClientSession::new(target.clone(), Goal::Play, seed, now));
                let out = session.take_output();
                (Self::Rtmp { session, input: BytesMut::new() }, out)
            }
            Source::Http { host, port, path } => {
                let request =
                    format!("GET {path} HTTP/1.1\r\nHost: {host}:{port}\r\nUser-Agent: bench\r\n\r\n");
                (Self::Http(HttpOpening::default()), request.into_bytes())
            }
        }
    }

    /// Takes what came; adds what is to be sent.
    pub(super) fn input(&mut self, bytes: &[u8], out: &mut Vec<u8>) -> Result<Progress> {
        match self {
            Self::Rtmp { session, input } => {
                input.extend_from_slice(bytes);
                let mut progress = Progress::Nothing;
                while let Some(event) = session.input(input)? {
                    match event {
                        ClientEvent::Ended => return Err(BenchError::Server("ended the stream".into())),
                        ClientEvent::Ready => {}
                        ClientEvent::Tag(tag) if tag.kind == kind::VIDEO && is_frame(&tag.body) => {
                            progress = Progress::Frame;
                        }
                        ClientEvent::Tag(_) => progress = Progress::Media.max_of(progress),
                    }
                }
                out.extend_from_slice(&session.take_output());
                Ok(progress)
            }
            Self::Http(opening) => opening.input(bytes),
        }
    }
}

impl Progress {
    fn max_of(self, other: Self) -> Self {
        if other > self { other } else { self }
    }
}

/// Reads a response's head, its chunks, and the FLV tags in them.
#[derive(Default)]
pub(super) struct HttpOpening {
    input: BytesMut,
    body: BytesMut,
    stage: Stage,
    total: usize,
}

#[derive(Default, Clone, Copy)]
enum Stage {
    #[default]
    Head,
    /// Bytes of the chunk still to come, its line end among them.
    Chunk(usize),
    /// A body without chunks.
    Plain,
}

impl HttpOpening {
    fn input(&mut self, bytes: &[u8]) -> Result<Progress> {
        self.total += bytes.len();
        if self.total > MOST {
            return Err(BenchError::Server(format!("sent {MOST} bytes without a frame")));
        }
        self.input.extend_from_slice(bytes);
        loop {
            match self.stage {
                Stage::Head => {
                    let Some(end) = find(&self.input, b"\r\n\r\n") else { return Ok(Progress::Nothing) };
                    let head = String::from_utf8_lossy(&self.input.split_to(end + 4)).to_ascii_lowercase();
                    let line = head.lines().next().unwrap_or_default();
                    if line.split(' ').nth(1) != Some("200") {
                        return Err(BenchError::Server(format!("answered {line:?}")));
                    }
                    let chunked = head.contains("transfer-encoding: chunked");
                    self.stage = if chunked { Stage::Chunk(0) } else { Stage::Plain };
                }
                Stage::Chunk(0) => {
                    let Some(end) = find(&self.input, b"\r\n") else { break };
                    let line = self.input.split_to(end + 2);
                    let text = std::str::from_utf8(line.trim_ascii()).unwrap_or_default();
                    match usize::from_str_radix(text, 16) {
                        Ok(0) => return Err(BenchError::Server("ended the stream".into())),
                        Ok(len) if len < MOST => self.stage = Stage::Chunk(len + 2),
                        _ => return Err(BenchError::Server(format!("sent a chunk with length {text:?}"))),
                    }
                }
                Stage::Chunk(len) => {
                    if self.input.len() < len {
                        break;
                    }
                    let chunk = self.input.split_to(len);
                    self.body.extend_from_slice(chunk.get(..len - 2).unwrap_or_default());
                    self.stage = Stage::Chunk(0);
                }
                Stage::Plain => {
                    self.body.extend_from_slice(&self.input.split());
                    break;
                }
            }
        }
        Ok(self.look())
    }

    /// How far the body is.
    fn look(&self) -> Progress {
        let mut body = &self.body[..];
        if body.len() < FLV_HEADER {
            return Progress::Nothing;
        }
        if !body.starts_with(b"FLV") {
            return Progress::Frame;
        }
        body.advance(FLV_HEADER);
        let mut progress = Progress::Nothing;
        while let Some([kind, a, b, c, ..]) = body.first_chunk::<TAG_HEADER>().copied() {
            let len = u32::from_be_bytes([0, a, b, c]) as usize;
            let Some(tag) = body.get(TAG_HEADER..TAG_HEADER + len) else { break };
            if kind == kind::VIDEO && is_frame(tag) {
                return Progress::Frame;
            }
            progress = Progress::Media;
            body.advance((TAG_HEADER + len + 4).min(body.len()));
        }
        progress
    }
}

/// Whether a video tag is a frame, rather than a decoder's configuration.
fn is_frame(tag: &[u8]) -> bool {
    tag.first_chunk::<2>().is_some_and(|[first, packet]| first & 0x80 != 0 || *packet == 1)
}

fn find(bytes: &[u8], what: &[u8]) -> Option<usize> {
    bytes.windows(what.len()).position(|w| w == what)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tag(kind: u8, body: &[u8]) -> Vec<u8> {
        let mut tag = vec![kind, 0, 0, body.len() as u8, 0, 0, 0, 0, 0, 0, 0];
        tag.extend_from_slice(body);
        tag.extend_from_slice(&(TAG_HEADER as u32 + body.len() as u32).to_be_bytes());
        tag
    }

    #[test]
    fn the_first_frame_is_found_whatever_the_cuts() {
        let flv = [
            b"FLV\x01\x05\0\0\0\x09\0\0\0\0".to_vec(),
            tag(kind::VIDEO, &[0x17, 0, 0, 0, 0]),
            tag(kind::VIDEO, &[0x17, 1, 0, 0, 0]),
        ];
        for chunked in [true, false] {
            let mut wire = b"HTTP/1.1 200 OK\r\n".to_vec();
            wire.extend_from_slice(if chunked { b"Transfer-Encoding: chunked\r\n\r\n" } else { b"\r\n" });
            for part in &flv {
                let len = format!("{:x}\r\n", part.len());
                let (head, tail) = if chunked { (len.as_str(), "\r\n") } else { ("", "") };
                wire.extend([head.as_bytes(), part, tail.as_bytes()].concat());
            }
            for step in [1, 7, 1000] {
                let mut opening = HttpOpening::default();
                let mut seen = vec![Progress::Nothing];
                for bytes in wire.chunks(step) {
                    seen.push(opening.input(bytes).unwrap());
                }
                assert!(seen.is_sorted());
                assert_eq!(seen.last(), Some(&Progress::Frame));
            }
        }
    }

    #[test]
    fn what_is_no_stream_is_told() {
        for (wire, word) in [
            ("HTTP/1.1 404 Not Found\r\n\r\n", "404"),
            ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", "zz"),
            ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", "ended"),
        ] {
            let error = HttpOpening::default().input(wire.as_bytes()).unwrap_err().to_string();
            assert!(error.contains(word), "{error}");
        }
    }
}
