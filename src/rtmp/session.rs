//! The server's side of a connection, up to where media flows: bytes in, bytes and events out.
//!
//! ```text
//! Handshake → Connecting ─connect→ Connected ─publish→ (accept_publish) → Publishing ─┐
//!                                      ↑   └──play───→ (accept_play) → into_player    │
//!                                      └──── FCUnpublish, closeStream, deleteStream ──┘
//! ```
//!
//! [`Session::input`] stops at each event, so nothing queues up: the caller handles it, writes
//! [`Session::take_output`], and calls again. Between a publish or play and its answer no input is taken.

use std::time::Instant;

use bytes::{Bytes, BytesMut};

use super::RtmpError;
use super::chunk::{Message, kind};
use super::connect::{CodecSet, Connect};
use super::handshake::ServerHandshake;
use super::message::{
    Aggregate, Command, Link, MAX_COMMAND, STREAM, UserControl, put_call, put_peer_bandwidth, put_status,
    put_value, put_values, status,
};
use super::play::Player;
use super::url::StreamUrl;
use crate::config;
use crate::format::amf::Value;

/// How a publisher announces itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PublishKind {
    /// Flash: `createStream`, `publish`.
    Flash,
    /// FMLE, FFmpeg, OBS, GStreamer: `FCPublish` before `createStream`.
    Fmle,
    /// Haivision: `createStream`, then `FCPublish`.
    Haivision,
}

/// What the peer did.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// The stream that was published is closed; the connection may go on. Why.
    Closed(&'static str),
    /// The peer said who it is and was answered.
    Connected(Connect),
    /// It wants to play: answer with [`Session::accept_play`] or [`Session::reject`].
    Play {
        /// What.
        url: StreamUrl,
        /// What it can take.
        codecs: CodecSet,
    },
    /// It wants to publish: answer with [`Session::accept_publish`] or [`Session::reject`].
    Publish {
        /// What.
        url: StreamUrl,
        /// How it asked.
        kind: PublishKind,
    },
    /// A piece of the published stream.
    Tag(Tag),
}

/// One audio, video or data message: the body of an FLV tag.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tag {
    /// FLV tag type: 8 audio, 9 video, 18 data (AMF0).
    pub kind: u8,
    /// Milliseconds on the publisher's clock; continues past 2^32.
    pub time: i64,
    /// The tag's body. `@setDataFrame` is taken off.
    pub body: Bytes,
}

/// Why a publish or play is refused: which code of `onStatus` the peer gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reject {
    /// Somebody publishes that name already, or it can't be a name.
    BadName,
    /// Not allowed, or not possible now.
    Failed,
    /// Nobody publishes it.
    NotFound,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Asked {
    Play { reset: bool },
    Publish,
}

#[derive(Debug)]
enum State {
    Handshake(ServerHandshake),
    Connecting,
    Connected,
    Asked(Asked),
    Publishing { media: bool },
}

/// A server session. See the [module](self).
#[derive(Debug)]
pub struct Session {
    config: config::Rtmp,
    state: State,
    link: Link,
    connect: Option<Connect>,
    aggregate: Option<Aggregate>,
    out: Vec<u8>,
    /// Where the state's deadline counts from: the handshake's end stays it for connect, publish and the
    /// first packet together.
    since: Instant,
    fc_publish: String,
    create_stream: bool,
    publish_kind: PublishKind,
    /// Message stream that publish or play came on.
    stream: u32,
}

impl Session {
    /// A session of a connection accepted at `now`. `seed` makes handshakes differ.
    #[must_use]
    pub fn new(config: &config::Rtmp, seed: u64, now: Instant) -> Self {
        Self {
            config: config.clone(),
            state: State::Handshake(ServerHandshake::new(seed)),
            // Large messages are for those who were let publish.
            link: Link::new(MAX_COMMAND, config.in_ack_size),
            connect: None,
            aggregate: None,
            out: Vec::new(),
            since: now,
            fc_publish: String::new(),
            create_stream: false,
            publish_kind: PublishKind::Flash,
            stream: STREAM,
        }
    }

    /// Takes what it can of `input`; gives the next event, or `None` when it needs more input (or an answer).
    ///
    /// # Errors
    /// When the peer breaks the protocol or a limit. The session is over then; what
    /// [`take_output`](Self::take_output) holds may still be sent.
    pub fn input(&mut self, input: &mut BytesMut, now: Instant) -> Result<Option<Event>, RtmpError> {
        if let State::Handshake(handshake) = &mut self.state {
            if handshake.input(input, &mut self.out)?.is_none() {
                return Ok(None);
            }
            self.enter(State::Connecting, now);
        }
        if matches!(self.state, State::Publishing { media: true }) && !input.is_empty() {
            self.since = now;
        }
        while !matches!(self.state, State::Asked(_)) {
            if let Some(message) = self.aggregate.as_mut().and_then(Iterator::next) {
                if let Some(tag) = self.media(message, now) {
                    return Ok(Some(tag));
                }
                continue;
            }
            self.aggregate = None;
            let Some(message) = self.link.read(input, &mut self.out)? else { return Ok(None) };
            let event = match message.kind {
                kind::COMMAND_AMF0 | kind::COMMAND_AMF3 => self.command(&message, now)?,
                kind::AGGREGATE => {
                    self.aggregate = Some(Aggregate::new(message));
                    None
                }
                _ => self.media(message, now),
            };
            if event.is_some() {
                return Ok(event);
            }
        }
        Ok(None)
    }

    /// What is to be sent to the peer.
    #[must_use]
    pub fn take_output(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.out)
    }

    /// When [`timeout`](Self::timeout) is to be called, if nothing else happens before.
    #[must_use]
    pub fn deadline(&self) -> Option<Instant> {
        self.wait().map(|(_, wait)| self.since + wait)
    }

    /// Tells the time.
    ///
    /// # Errors
    /// [`RtmpError::Timeout`] when the deadline has passed.
    pub fn timeout(&self, now: Instant) -> Result<(), RtmpError> {
        match self.wait() {
            Some((what, after)) if now >= self.since + after => Err(RtmpError::Timeout { what, after }),
            _ => Ok(()),
        }
    }

    /// Lets the peer publish.
    pub fn accept_publish(&mut self) {
        if !matches!(self.state, State::Asked(Asked::Publish)) {
            return;
        }
        let text = "Publishing started";
        UserControl::StreamBegin(self.stream).put(&mut self.out);
        if self.publish_kind != PublishKind::Flash {
            let info = status("status", "NetStream.Publish.Start", text);
            self.call(self.stream, "onFCPublish", 0.0, &[Value::Null, info]);
        }
        self.status("status", "NetStream.Publish.Start", text);
        self.link.limit(self.config.max_message.bytes());
        self.state = State::Publishing { media: false };
    }

    /// Lets the peer play. Its chunks go on in the [`Player`]; what is in the output is to be sent before
    /// the stream. A stream that nobody publishes yet is answered the same way: the player waits.
    #[must_use]
    pub fn accept_play(mut self) -> (Player, Vec<u8>) {
        // No StreamIsRecorded: that is for files, and makes Flash offer to seek.
        UserControl::StreamBegin(STREAM).put(&mut self.out);
        if matches!(self.state, State::Asked(Asked::Play { reset: true })) {
            self.status("status", "NetStream.Play.Reset", "Playing and resetting");
        }
        self.status("status", "NetStream.Play.Start", "Started playing");
        let chunk_size = self.chunk_size();
        let access = ["|RtmpSampleAccess".into(), true.into(), true.into()];
        put_values(&mut self.out, kind::DATA_AMF0, STREAM, &access, chunk_size);
        let start = ["onStatus".into(), status("status", "NetStream.Data.Start", "Started playing")];
        put_values(&mut self.out, kind::DATA_AMF0, STREAM, &start, chunk_size);
        (Player::new(self.link, chunk_size), self.out)
    }

    /// Refuses what the peer asked for; it may ask for something else in the time it has.
    pub fn reject(&mut self, why: Reject, text: &str) {
        let State::Asked(asked) = self.state else { return };
        let code = match (asked, why) {
            (Asked::Publish, Reject::BadName) => "NetStream.Publish.BadName",
            (Asked::Publish, _) => "NetStream.Publish.Failed",
            (Asked::Play { .. }, Reject::NotFound) => "NetStream.Play.StreamNotFound",
            (Asked::Play { .. }, _) => "NetStream.Play.Failed",
        };
        self.status("error", code, text);
        self.state = State::Connected;
    }

    /// Tells a publisher why its stream is ended from this side; close the connection afterwards.
    pub fn end_publish(&mut self, text: &str) {
        if matches!(self.state, State::Publishing { .. }) {
            self.status("error", "NetStream.Publish.Failed", text);
        }
    }

    /// The chunk size that is written with, bytes.
    #[must_use]
    pub fn chunk_size(&self) -> usize {
        self.config.chunk_size as usize
    }

    fn wait(&self) -> Option<(&'static str, std::time::Duration)> {
        Some(match self.state {
            State::Handshake(_) => ("finish the handshake", self.config.handshake_timeout),
            State::Connecting | State::Connected => ("publish or play", self.config.first_packet_timeout),
            State::Publishing { media: false } => {
                ("send audio or video after publish", self.config.first_packet_timeout)
            }
            State::Publishing { media: true } => ("send anything more", self.config.publish_timeout),
            State::Asked(_) => return None,
        })
    }

    fn enter(&mut self, state: State, now: Instant) {
        self.state = state;
        self.since = now;
    }

    fn media(&mut self, message: Message, now: Instant) -> Option<Event> {
        let State::Publishing { media } = &mut self.state else { return None };
        let (kind, body) = match message.kind {
            kind::AUDIO | kind::VIDEO => {
                if !std::mem::replace(media, true) {
                    self.since = now;
                }
                (message.kind, message.body)
            }
            kind::DATA_AMF0 => (kind::DATA_AMF0, script(message.body)?),
            kind::DATA_AMF3 => {
                let skip = usize::from(message.body.first() == Some(&0));
                (kind::DATA_AMF0, script(message.body.slice(skip..))?)
            }
            _ => return None,
        };
        Some(Event::Tag(Tag { kind, time: message.time, body }))
    }

    fn command(&mut self, message: &Message, now: Instant) -> Result<Option<Event>, RtmpError> {
        let command = Command::parse(message)?;
        if command.name == "connect" {
            return Ok(self.connect(&command));
        }
        if matches!(self.state, State::Connecting) {
            return Err(RtmpError::Command("that comes before connect"));
        }
        match command.name.as_str() {
            "createStream" => {
                self.create_stream = true;
                self.result(command.txn, &[Value::Null, STREAM.into()]);
            }
            "releaseStream" => self.result(command.txn, &[Value::Null, Value::Undefined]),
            "FCPublish" => {
                self.publish_kind =
                    if self.create_stream { PublishKind::Haivision } else { PublishKind::Fmle };
                command.text(0).clone_into(&mut self.fc_publish);
                self.result(command.txn, &[Value::Null, Value::Undefined]);
            }
            "publish" => return Ok(self.publish(&command, message.stream, now)),
            "play" => return Ok(self.play(&command, message.stream)),
            "FCUnpublish" => {
                let info = status("status", "NetStream.Unpublish.Success", "Stopped publishing");
                self.call(message.stream, "onFCUnpublish", 0.0, &[Value::Null, info]);
                self.result(command.txn, &[Value::Null, Value::Undefined]);
                return Ok(self.close("the publisher sent FCUnpublish", now));
            }
            "closeStream" => return Ok(self.close("the publisher sent closeStream", now)),
            "deleteStream" => return Ok(self.close("the publisher sent deleteStream", now)),
            _ => {
                let chunk_size = self.chunk_size();
                answer_other(&command, message.stream, &mut self.out, chunk_size);
            }
        }
        Ok(None)
    }

    fn connect(&mut self, command: &Command) -> Option<Event> {
        if !matches!(self.state, State::Connecting) {
            let info = status("error", "NetConnection.Connect.Rejected", "Already connected");
            self.call(0, "_error", command.txn, &[Value::Null, info]);
            return None;
        }
        let connect = Connect::parse(command);
        put_value(&mut self.out, kind::WINDOW_ACK_SIZE, self.config.out_ack_size);
        put_peer_bandwidth(&mut self.out, self.config.out_ack_size);
        put_value(&mut self.out, kind::SET_CHUNK_SIZE, self.config.chunk_size);
        self.result(command.txn, &connect.answer());
        self.connect = Some(connect.clone());
        self.state = State::Connected;
        Some(Event::Connected(connect))
    }

    fn publish(&mut self, command: &Command, stream: u32, now: Instant) -> Option<Event> {
        // Flash: publish(false) ends it.
        if command.args.get(1).and_then(Value::as_bool) == Some(false) {
            return self.close("the publisher sent publish(false)", now);
        }
        if !matches!(self.state, State::Connected) {
            let text = "This connection publishes already";
            let chunk_size = self.chunk_size();
            put_status(&mut self.out, stream, "error", "NetStream.Publish.Failed", text, chunk_size);
            return None;
        }
        self.stream = if stream == 0 { STREAM } else { stream };
        self.state = State::Asked(Asked::Publish);
        let name = if command.text(0).is_empty() { &self.fc_publish } else { command.text(0) };
        Some(Event::Publish { url: self.url(name), kind: self.publish_kind })
    }

    fn play(&mut self, command: &Command, stream: u32) -> Option<Event> {
        if command.args.get(1).and_then(Value::as_bool) == Some(false) {
            return None;
        }
        if !matches!(self.state, State::Connected) {
            let text = "This connection publishes: play on another";
            let chunk_size = self.chunk_size();
            put_status(&mut self.out, stream, "error", "NetStream.Play.Failed", text, chunk_size);
            return None;
        }
        self.stream = STREAM;
        // name, start, duration, reset (RTMP 1.0 7.2.2.1); a live stream has no start and no duration.
        let reset = match command.args.get(4) {
            Some(Value::Boolean(reset)) => *reset,
            Some(Value::Number(reset)) => *reset > 0.0,
            _ => true,
        };
        self.state = State::Asked(Asked::Play { reset });
        let codecs = self.connect.as_ref().map_or(CodecSet::ALL, |c| c.codecs);
        Some(Event::Play { url: self.url(command.text(0)), codecs })
    }

    fn close(&mut self, why: &'static str, now: Instant) -> Option<Event> {
        if !matches!(self.state, State::Publishing { .. }) {
            return None;
        }
        self.status("status", "NetStream.Unpublish.Success", "Stopped publishing");
        self.enter(State::Connected, now);
        (self.create_stream, self.publish_kind) = (false, PublishKind::Flash);
        self.fc_publish.clear();
        self.aggregate = None;
        Some(Event::Closed(why))
    }

    fn url(&self, name: &str) -> StreamUrl {
        let (tc_url, app) = self.connect.as_ref().map_or(("", ""), |c| (&*c.tc_url, &*c.app));
        StreamUrl::parse(tc_url, app, name)
    }

    fn result(&mut self, txn: f64, args: &[Value]) {
        self.call(0, "_result", txn, args);
    }

    fn status(&mut self, level: &str, code: &str, text: &str) {
        let chunk_size = self.chunk_size();
        put_status(&mut self.out, self.stream, level, code, text, chunk_size);
    }

    fn call(&mut self, stream: u32, name: &str, txn: f64, args: &[Value]) {
        let chunk_size = self.chunk_size();
        put_call(&mut self.out, stream, name, txn, args, chunk_size);
    }
}

/// Answers commands that mean the same whatever the session does.
pub(super) fn answer_other(command: &Command, stream: u32, out: &mut Vec<u8>, chunk_size: usize) {
    let mut call = |name: &str, args: &[Value]| put_call(out, stream, name, command.txn, args, chunk_size);
    match command.name.as_str() {
        // Answers to what we called, and what wants no answer.
        "_result" | "_error" | "onStatus" | "receiveAudio" | "receiveVideo" | "onBWDone" => {}
        // A live stream has no length.
        "getStreamLength" => call("_result", &[Value::Null, 0.0.into()]),
        "_checkbw" | "checkBandwidth" | "releaseStream" | "set_playlist" => {
            call("_result", &[Value::Null, Value::Undefined]);
        }
        "FCSubscribe" => {
            let text = "Subscribed";
            let info = status("status", "NetStream.Play.Start", text);
            put_call(out, stream, "onFCSubscribe", 0.0, &[Value::Null, info], chunk_size);
        }
        "seek" => {
            let text = "Live: there is nowhere to seek to";
            put_status(out, stream, "status", "NetStream.Seek.Notify", text, chunk_size);
        }
        "play2" => {
            let text = "play2 is not supported";
            put_status(out, stream, "error", "NetStream.Play.Failed", text, chunk_size);
        }
        _ if command.txn > 0.0 => {
            let info = status("error", "NetConnection.Call.Failed", "Unknown call");
            call("_error", &[Value::Null, info]);
        }
        _ => {}
    }
}

/// A data message without `@setDataFrame`; `None` when it clears data.
fn script(body: Bytes) -> Option<Bytes> {
    if let Some(rest) = strip_string(&body, "@setDataFrame") {
        return Some(body.slice(body.len() - rest.len()..));
    }
    if strip_string(&body, "@clearDataFrame").is_some() { None } else { Some(body) }
}

/// What follows an AMF0 string of this text.
fn strip_string<'a>(body: &'a [u8], text: &str) -> Option<&'a [u8]> {
    let rest = body.strip_prefix(&[2])?;
    let (len, rest) = rest.split_first_chunk()?;
    (usize::from(u16::from_be_bytes(*len)) == text.len()).then_some(())?;
    rest.strip_prefix(text.as_bytes())
}

#[cfg(test)]
mod tests;
