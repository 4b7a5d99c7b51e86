//! The client's side: connects to a server, publishes or plays one stream. Bytes in, bytes and events out.

use std::time::{Duration, Instant};

use bytes::BytesMut;

use super::RtmpError;
use super::chunk::{ChunkHeader, MAX_CHUNK_SIZE, Message, csid, kind, put_message};
use super::connect::our_codecs;
use super::handshake::ClientHandshake;
use super::message::{Aggregate, Command, Link, UserControl, put_call, put_value, put_values};
use super::session::Tag;
use super::url::split_port;
use crate::format::amf::Value;

/// From the first byte to the answer to publish; servers that ask others first take their time.
const SETUP_TIMEOUT: Duration = Duration::from_secs(10);
/// The chunk size that we write with.
const CHUNK_SIZE: usize = 60_000;
/// What we announce as our version; some servers serve only what looks like FMLE.
const FLASH_VERSION: &str = concat!("FMLE/3.0 (compatible; Rillbox/", env!("CARGO_PKG_VERSION"), ")");
/// Transaction ids, in order of use.
const CONNECT: f64 = 1.0;
const RELEASE_STREAM: f64 = 2.0;
const FC_PUBLISH: f64 = 3.0;
const CREATE_STREAM: f64 = 4.0;
const START: f64 = 5.0;

/// Publish or play.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Goal {
    /// Get a stream.
    Play,
    /// Bring a stream.
    Publish,
}

/// A stream on a server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// Host name or address, without brackets.
    pub host: String,
    /// TCP port.
    pub port: u16,
    /// By TLS.
    pub tls: bool,
    /// Application.
    pub app: String,
    /// Stream with its parameters.
    pub name: String,
    /// Sign the handshake; all servers of today take it.
    pub digest: bool,
}

impl Target {
    /// Reads `rtmp[s]://host[:port]/app/stream[?params]`.
    ///
    /// # Errors
    /// [`RtmpError::Url`] that says what is missing.
    pub fn parse(url: &str) -> Result<Self, RtmpError> {
        let error = |why| RtmpError::Url { url: url.to_owned(), why };
        let (scheme, rest) = url.split_once("://").ok_or(error("has no rtmp:// in front"))?;
        let tls = match scheme {
            "rtmp" => false,
            "rtmps" => true,
            _ => return Err(error("is neither rtmp:// nor rtmps://")),
        };
        let (authority, path) = rest.split_once('/').ok_or(error("has no /app/stream"))?;
        let (host, port) = split_port(authority);
        let default = if tls { 443 } else { 1935 };
        let port = port.map_or(Ok(default), str::parse).map_err(|_| error("has no number as its port"))?;
        let (path, params) = path.split_once('?').map_or((path, None), |(p, q)| (p, Some(q)));
        let (app, stream) = path.rsplit_once('/').ok_or(error("has no stream after the app"))?;
        if host.is_empty() || app.is_empty() || stream.is_empty() {
            return Err(error("needs a host, an app and a stream: rtmp://host/app/stream"));
        }
        let name = params.map_or(stream.to_owned(), |params| format!("{stream}?{params}"));
        Ok(Self { host: host.to_owned(), port, tls, app: app.to_owned(), name, digest: true })
    }

    /// The URL up to the application.
    #[must_use]
    pub fn tc_url(&self) -> String {
        let scheme = if self.tls { "rtmps" } else { "rtmp" };
        let (open, close) = if self.host.contains(':') { ("[", "]") } else { ("", "") };
        format!("{scheme}://{open}{}{close}:{}/{}", self.host, self.port, self.app)
    }
}

/// What the server did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ClientEvent {
    /// The stream that is played has ended.
    Ended,
    /// Publish or play is accepted. A publisher may send now; a player may wait for media for long.
    Ready,
    /// A piece of the played stream.
    Tag(Tag),
}

#[derive(Debug)]
enum State {
    Handshake(ClientHandshake),
    Setup,
    Ready,
}

/// A client session. See the [module](self).
#[derive(Debug)]
pub struct ClientSession {
    goal: Goal,
    target: Target,
    state: State,
    link: Link,
    aggregate: Option<Aggregate>,
    stream: u32,
    out: Vec<u8>,
    since: Instant,
}

impl ClientSession {
    /// Begins; the first bytes are in the output. `seed` makes handshakes differ.
    #[must_use]
    pub fn new(target: Target, goal: Goal, seed: u64, now: Instant) -> Self {
        let mut out = Vec::new();
        let handshake = ClientHandshake::new(seed, target.digest, &mut out);
        Self {
            goal,
            target,
            state: State::Handshake(handshake),
            link: Link::new(MAX_CHUNK_SIZE, 0),
            aggregate: None,
            stream: 0,
            out,
            since: now,
        }
    }

    /// Takes what it can of `input`; gives the next event, or `None` when it needs more input.
    ///
    /// # Errors
    /// When the server refuses, or breaks the protocol. The session is over then.
    pub fn input(&mut self, input: &mut BytesMut) -> Result<Option<ClientEvent>, RtmpError> {
        if let State::Handshake(handshake) = &mut self.state {
            if handshake.input(input, &mut self.out)?.is_none() {
                return Ok(None);
            }
            self.state = State::Setup;
            self.send_connect();
        }
        loop {
            if let Some(message) = self.aggregate.as_mut().and_then(Iterator::next) {
                if let Some(event) = media(message) {
                    return Ok(Some(event));
                }
                continue;
            }
            self.aggregate = None;
            let Some(message) = self.link.read(input, &mut self.out)? else { return Ok(None) };
            let event = match message.kind {
                kind::COMMAND_AMF0 | kind::COMMAND_AMF3 => self.command(&message)?,
                kind::SET_PEER_BANDWIDTH => {
                    if let Some(size) = message.body.first_chunk() {
                        let size = u32::from_be_bytes(*size);
                        put_value(&mut self.out, kind::WINDOW_ACK_SIZE, size);
                    }
                    None
                }
                kind::USER_CONTROL => match UserControl::parse(&message.body) {
                    Some(UserControl::StreamEof(_)) if self.goal == Goal::Play => Some(ClientEvent::Ended),
                    _ => None,
                },
                kind::AGGREGATE => {
                    self.aggregate = Some(Aggregate::new(message));
                    None
                }
                _ => media(message),
            };
            if event.is_some() {
                return Ok(event);
            }
        }
    }

    /// What is to be sent to the server.
    #[must_use]
    pub fn take_output(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.out)
    }

    /// Until when the server has to accept; `None` once it did.
    #[must_use]
    pub fn deadline(&self) -> Option<Instant> {
        (!matches!(self.state, State::Ready)).then(|| self.since + SETUP_TIMEOUT)
    }

    /// Tells the time.
    ///
    /// # Errors
    /// [`RtmpError::Timeout`] when the deadline has passed.
    pub fn timeout(&self, now: Instant) -> Result<(), RtmpError> {
        match self.deadline() {
            Some(deadline) if now >= deadline => {
                Err(RtmpError::Timeout { what: "accept the stream", after: SETUP_TIMEOUT })
            }
            _ => Ok(()),
        }
    }

    /// Writes a piece of the published stream. Nothing happens before [`ClientEvent::Ready`].
    pub fn send(&mut self, tag: &Tag) {
        if !matches!(self.state, State::Ready) || self.goal != Goal::Publish {
            return;
        }
        let csid = match tag.kind {
            kind::AUDIO => csid::AUDIO,
            kind::VIDEO => csid::VIDEO,
            _ => csid::DATA,
        };
        let header = ChunkHeader { csid, kind: tag.kind, stream: self.stream, time: tag.time, len: 0 };
        put_message(&mut self.out, header, &tag.body, CHUNK_SIZE);
    }

    /// Writes the stream's metadata, for the server to keep: `onMetaData` with this object.
    pub fn send_meta(&mut self, meta: Value) {
        if matches!(self.state, State::Ready) && self.goal == Goal::Publish {
            let values = ["@setDataFrame".into(), "onMetaData".into(), meta];
            put_values(&mut self.out, kind::DATA_AMF0, self.stream, &values, CHUNK_SIZE);
        }
    }

    /// Says goodbye: the server frees the stream's name at once.
    pub fn finish(&mut self) {
        if self.stream == 0 {
            return;
        }
        if self.goal == Goal::Publish {
            let name = self.target.name.as_str().into();
            self.call(0, "FCUnpublish", START + 1.0, &[Value::Null, name]);
        }
        let stream = self.stream.into();
        self.call(0, "deleteStream", START + 2.0, &[Value::Null, stream]);
    }

    fn send_connect(&mut self) {
        put_value(&mut self.out, kind::SET_CHUNK_SIZE, u32::try_from(CHUNK_SIZE).unwrap_or(128));
        let mut object = vec![
            ("app", Value::from(&*self.target.app)),
            ("type", "nonprivate".into()),
            ("flashVer", FLASH_VERSION.into()),
            ("tcUrl", self.target.tc_url().into()),
            ("fpad", false.into()),
            ("capabilities", 239.0.into()),
            // All codecs of the old lists, and seeking by time.
            ("audioCodecs", 4071.0.into()),
            ("videoCodecs", 252.0.into()),
            ("videoFunction", 1.0.into()),
            ("objectEncoding", 0.0.into()),
        ];
        object.extend(our_codecs());
        self.call(0, "connect", CONNECT, &[Value::object(object)]);
    }

    fn command(&mut self, message: &Message) -> Result<Option<ClientEvent>, RtmpError> {
        let command = Command::parse(message)?;
        let info = command.args.get(1).unwrap_or(&Value::Null);
        match (command.name.as_str(), command.txn) {
            ("_result", CONNECT) => {
                if self.goal == Goal::Publish {
                    let name: Value = self.target.name.as_str().into();
                    self.call(0, "releaseStream", RELEASE_STREAM, &[Value::Null, name.clone()]);
                    self.call(0, "FCPublish", FC_PUBLISH, &[Value::Null, name]);
                }
                self.call(0, "createStream", CREATE_STREAM, &[Value::Null]);
            }
            ("_result", CREATE_STREAM) => {
                let id = info.as_f64().filter(|id| (1.0..65_536.0).contains(id));
                self.stream = id.map(to_id).ok_or(RtmpError::Command("that creates no usable stream"))?;
                let name = self.target.name.as_str().into();
                if self.goal == Goal::Publish {
                    self.call(self.stream, "publish", START, &[Value::Null, name, "live".into()]);
                } else {
                    // -2000: live, or recorded if there is no live stream of that name.
                    self.call(self.stream, "play", START, &[Value::Null, name, (-2000.0).into()]);
                    UserControl::SetBufferLength(self.stream, 1000).put(&mut self.out);
                }
            }
            ("_error", CONNECT | CREATE_STREAM | START) => return Err(refused(info)),
            ("onStatus", _) => {
                let code = info.find("code").and_then(Value::as_str).unwrap_or("");
                if info.find("level").and_then(Value::as_str) == Some("error") {
                    return Err(refused(info));
                }
                match code {
                    "NetStream.Publish.Start" | "NetStream.Play.Start" => {
                        self.state = State::Ready;
                        return Ok(Some(ClientEvent::Ready));
                    }
                    "NetStream.Play.UnpublishNotify" | "NetStream.Play.Stop" => {
                        return Ok(Some(ClientEvent::Ended));
                    }
                    _ => {}
                }
            }
            _ => {}
        }
        Ok(None)
    }

    fn call(&mut self, stream: u32, name: &str, txn: f64, args: &[Value]) {
        put_call(&mut self.out, stream, name, txn, args, CHUNK_SIZE);
    }
}

fn media(message: Message) -> Option<ClientEvent> {
    let kind = message.kind;
    matches!(kind, kind::AUDIO | kind::VIDEO | kind::DATA_AMF0)
        .then(|| ClientEvent::Tag(Tag { kind, time: message.time, body: message.body }))
}

fn refused(info: &Value) -> RtmpError {
    let text = |name| info.find(name).and_then(Value::as_str).unwrap_or("").chars().take(200).collect();
    RtmpError::Refused { code: text("code"), text: text("description") }
}

/// A number known to lie in 1 to 65535.
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "the range was checked")]
fn to_id(id: f64) -> u32 {
    id as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_become_targets() {
        let t = Target::parse("rtmp://h/a/b/s?k=v").unwrap();
        assert_eq!((&*t.host, t.port, t.tls, &*t.app, &*t.name), ("h", 1935, false, "a/b", "s?k=v"));
        assert_eq!(t.tc_url(), "rtmp://h:1935/a/b");
        let t = Target::parse("rtmps://[::1]:9/live/x").unwrap();
        assert_eq!((&*t.host, t.port, t.tls), ("::1", 9, true));
        assert_eq!(t.tc_url(), "rtmps://[::1]:9/live");
        for bad in ["", "http://h/a/s", "rtmp://h", "rtmp://h/a", "rtmp://h:x/a/s", "rtmp:///a/s"] {
            let error = Target::parse(bad).unwrap_err().to_string();
            assert!(error.contains(bad), "{error}");
        }
    }
}
