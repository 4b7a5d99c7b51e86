//! What messages say: protocol and user control, commands, aggregates (RTMP 1.0 sections 5.4, 6.2, 7).

use bytes::{Buf, Bytes, BytesMut};

use super::RtmpError;
use super::chunk::{ChunkHeader, ChunkReader, Message, csid, kind, put_message};
use crate::format::amf::{Decoder, Value};

/// The message stream that every `createStream` gives: a connection carries one stream, and all players
/// share the same serialised bytes.
pub const STREAM: u32 = 1;
/// The longest command: a connect of a player that lists its codecs takes less than 2 KiB.
pub(super) const MAX_COMMAND: usize = 64 * 1024;
/// Acknowledgements are never closer than half of this, bytes, whatever window the peer announces: one for each byte
/// would let it make us write sixteen times what it sends.
const MIN_WINDOW: u32 = 1024;

/// A user control message's event (RTMP 1.0 section 7.1.7).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum UserControl {
    /// The stream of this id starts.
    StreamBegin(u32),
    /// The stream of this id has no more data.
    StreamEof(u32),
    /// The player buffers that many milliseconds of the stream.
    SetBufferLength(u32, u32),
    /// To be answered with the same time.
    PingRequest(u32),
    /// The answer.
    PingResponse(u32),
    /// Something else.
    Other(u16),
}

impl UserControl {
    /// Reads a message's body; `None` when it is too short.
    #[must_use]
    pub fn parse(body: &[u8]) -> Option<Self> {
        let (event, rest) = body.split_first_chunk()?;
        let (value, more) = match rest.split_first_chunk() {
            Some((value, more)) => (u32::from_be_bytes(*value), more),
            None => (0, rest),
        };
        Some(match u16::from_be_bytes(*event) {
            0 => Self::StreamBegin(value),
            1 => Self::StreamEof(value),
            3 => Self::SetBufferLength(value, u32::from_be_bytes(*more.first_chunk()?)),
            6 => Self::PingRequest(value),
            7 => Self::PingResponse(value),
            other => Self::Other(other),
        })
    }

    /// Writes the message.
    pub fn put(self, out: &mut Vec<u8>) {
        let (event, value, more) = match self {
            Self::StreamBegin(id) => (0u16, id, None),
            Self::StreamEof(id) => (1, id, None),
            Self::SetBufferLength(id, ms) => (3, id, Some(ms)),
            Self::PingRequest(time) => (6, time, None),
            Self::PingResponse(time) => (7, time, None),
            Self::Other(event) => (event, 0, None),
        };
        let mut body = heapless::Vec::<u8, 10>::new();
        // 2 + 4 + 4 bytes: there is room.
        let _ = body.extend_from_slice(&event.to_be_bytes());
        let _ = body.extend_from_slice(&value.to_be_bytes());
        let _ = more.map(|more| body.extend_from_slice(&more.to_be_bytes()));
        put_control(out, kind::USER_CONTROL, &body);
    }
}

/// Writes a protocol control message with a 4-byte value: chunk size, acknowledgement, window.
pub fn put_value(out: &mut Vec<u8>, kind: u8, value: u32) {
    put_control(out, kind, &value.to_be_bytes());
}

/// Asks the peer to limit what it sends unacknowledged (type 2: dynamic).
pub fn put_peer_bandwidth(out: &mut Vec<u8>, window: u32) {
    let [a, b, c, d] = window.to_be_bytes();
    put_control(out, kind::SET_PEER_BANDWIDTH, &[a, b, c, d, 2]);
}

fn put_control(out: &mut Vec<u8>, kind: u8, body: &[u8]) {
    let header = ChunkHeader { csid: csid::CONTROL, kind, stream: 0, time: 0, len: 0 };
    put_message(out, header, body, 128);
}

/// A call or its answer.
#[derive(Debug, Clone, PartialEq)]
pub struct Command {
    /// Name of the procedure, `_result` or `_error`.
    pub name: String,
    /// Transaction id; 0 wants no answer.
    pub txn: f64,
    /// Command object (null mostly), then the arguments.
    pub args: Vec<Value>,
}

impl Command {
    /// Reads a command message of either AMF version. Arguments after one that can't be read are left out:
    /// encoders put strange things into places that nobody reads.
    ///
    /// # Errors
    /// When there is no name.
    pub fn parse(message: &Message) -> Result<Self, RtmpError> {
        if message.body.len() > MAX_COMMAND {
            return Err(RtmpError::TooLong { len: message.body.len(), max: MAX_COMMAND });
        }
        // An AMF3 command starts with a format byte of 0, and goes on in AMF0 that can switch.
        let body = message.body.strip_prefix(&[0]).unwrap_or(&message.body);
        let mut decoder = Decoder::new(body);
        let Value::String(name) = decoder.value()? else {
            return Err(RtmpError::Command("whose name is no text"));
        };
        let txn = if decoder.is_empty() { 0.0 } else { decoder.value()?.as_f64().unwrap_or(0.0) };
        let mut args = Vec::new();
        while !decoder.is_empty() {
            let Ok(value) = decoder.value() else { break };
            args.push(value);
        }
        Ok(Self { name, txn, args })
    }

    /// The text at place `n` after the command object.
    #[must_use]
    pub fn text(&self, n: usize) -> &str {
        self.args.get(n + 1).and_then(Value::as_str).unwrap_or("")
    }
}

/// Writes a command (or data, by `kind`) message of these values.
pub fn put_values(out: &mut Vec<u8>, kind: u8, stream: u32, values: &[Value], chunk_size: usize) {
    let mut body = BytesMut::new();
    values.iter().for_each(|value| value.encode(&mut body));
    let csid = if kind == kind::DATA_AMF0 { csid::DATA } else { csid::COMMAND };
    put_message(out, ChunkHeader { csid, kind, stream, time: 0, len: 0 }, &body, chunk_size);
}

/// Writes a call: name, transaction, command object, arguments.
pub fn put_call(out: &mut Vec<u8>, stream: u32, name: &str, txn: f64, args: &[Value], chunk_size: usize) {
    let mut values = vec![name.into(), txn.into()];
    values.extend_from_slice(args);
    put_values(out, kind::COMMAND_AMF0, stream, &values, chunk_size);
}

/// Writes `onStatus` to a stream. `level` is `status` or `error`.
pub fn put_status(out: &mut Vec<u8>, stream: u32, level: &str, code: &str, text: &str, chunk_size: usize) {
    let info = status(level, code, text);
    put_call(out, stream, "onStatus", 0.0, &[Value::Null, info], chunk_size);
}

/// The information object of `onStatus`, `_result` and `_error`.
#[must_use]
pub fn status(level: &str, code: &str, text: &str) -> Value {
    Value::object([("level", level.into()), ("code", code.into()), ("description", text.into())])
}

/// The messages inside an aggregate message (RTMP 1.0 section 7.1.6): FLV tags with their back pointers.
#[derive(Debug)]
pub struct Aggregate {
    time: i64,
    stream: u32,
    first: Option<u32>,
    body: Bytes,
}

impl Aggregate {
    /// Of a message of type 22.
    #[must_use]
    pub fn new(message: Message) -> Self {
        Self { time: message.time, stream: message.stream, first: None, body: message.body }
    }
}

impl Iterator for Aggregate {
    type Item = Message;

    fn next(&mut self) -> Option<Message> {
        let header = *self.body.first_chunk::<11>()?;
        let [kind, a, b, c, d, e, f, high, ..] = header;
        let len = u32::from_be_bytes([0, a, b, c]) as usize;
        let stamp = u32::from_be_bytes([high, d, e, f]);
        self.body.advance(11);
        if self.body.len() < len {
            return None;
        }
        let body = self.body.split_to(len);
        self.body.advance(self.body.len().min(4));
        // The first one's own time is the aggregate's; the others keep their distance from it.
        let first = *self.first.get_or_insert(stamp);
        let time = self.time.saturating_add(i64::from(stamp.wrapping_sub(first)));
        Some(Message { kind, stream: self.stream, time, body })
    }
}

/// A chunk reader with what every RTMP peer does by itself: acknowledge, and answer pings.
#[derive(Debug)]
pub struct Link {
    reader: ChunkReader,
    /// Acknowledge when that many bytes came; 0 is never.
    window: u32,
    received: u32,
    acknowledged: u32,
}

impl Link {
    /// `window`: the acknowledgement window until the peer announces one.
    #[must_use]
    pub fn new(max_message: usize, window: u32) -> Self {
        Self { reader: ChunkReader::new(max_message), window, received: 0, acknowledged: 0 }
    }

    /// From now on messages have at most `max_message` bytes.
    pub(super) fn limit(&mut self, max_message: usize) {
        self.reader.limit(max_message);
    }

    /// The next message that is for the session; answers to others go to `out`.
    ///
    /// # Errors
    /// As [`ChunkReader::read`].
    pub fn read(&mut self, input: &mut BytesMut, out: &mut Vec<u8>) -> Result<Option<Message>, RtmpError> {
        loop {
            let before = input.len();
            let message = self.reader.read(input)?;
            self.count(before - input.len(), out);
            let Some(message) = message else { return Ok(None) };
            match message.kind {
                kind::ACKNOWLEDGEMENT => {}
                kind::WINDOW_ACK_SIZE => {
                    if let Some(size) = message.body.first_chunk() {
                        self.window = u32::from_be_bytes(*size);
                    }
                }
                kind::USER_CONTROL => match UserControl::parse(&message.body) {
                    Some(UserControl::PingRequest(time)) => UserControl::PingResponse(time).put(out),
                    _ => return Ok(Some(message)),
                },
                _ => return Ok(Some(message)),
            }
        }
    }

    /// Half a window early: a peer that stops at its window's end never has to.
    #[allow(clippy::cast_possible_truncation, reason = "sequence numbers are modulo 2^32")]
    fn count(&mut self, bytes: usize, out: &mut Vec<u8>) {
        self.received = self.received.wrapping_add(bytes as u32);
        let step = self.window.max(MIN_WINDOW) / 2;
        if self.window > 0 && self.received.wrapping_sub(self.acknowledged) >= step {
            self.acknowledged = self.received;
            put_value(out, kind::ACKNOWLEDGEMENT, self.received);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(kind: u8, body: Vec<u8>) -> Message {
        Message { kind, stream: 1, time: 5000, body: body.into() }
    }

    #[test]
    fn commands_of_both_amf_versions() {
        let mut wire = Vec::new();
        let args = [Value::Null, "demo".into(), "live".into()];
        put_call(&mut wire, 1, "publish", 5.0, &args, 128);
        let amf0 = ChunkReader::new(4096).read(&mut BytesMut::from(&wire[..])).unwrap().unwrap();
        let mut amf3 = amf0.clone();
        amf3.kind = kind::COMMAND_AMF3;
        amf3.body = [&[0], &amf0.body[..]].concat().into();
        for message in [amf0.clone(), amf3] {
            let command = Command::parse(&message).unwrap();
            assert_eq!((&*command.name, command.txn, command.text(0)), ("publish", 5.0, "demo"));
        }
        // Cut anywhere: an error or fewer arguments.
        for end in 0..amf0.body.len() {
            let cut = Message { body: amf0.body.slice(..end), ..amf0.clone() };
            if let Ok(command) = Command::parse(&cut) {
                assert!(command.args.len() < 3);
            }
        }
        assert!(Command::parse(&message(20, vec![5])).is_err());
        assert!(Command::parse(&message(20, vec![2; MAX_COMMAND + 1])).is_err());
    }

    #[test]
    fn user_control_survives_the_wire() {
        for event in [
            UserControl::StreamBegin(1),
            UserControl::StreamEof(1),
            UserControl::SetBufferLength(1, 3000),
            UserControl::PingRequest(7),
        ] {
            let mut wire = Vec::new();
            event.put(&mut wire);
            let got = ChunkReader::new(4096).read(&mut BytesMut::from(&wire[..])).unwrap().unwrap();
            assert_eq!(UserControl::parse(&got.body), Some(event));
        }
        assert_eq!(UserControl::parse(&[0]), None);
        assert_eq!(UserControl::parse(&[0, 0x1A, 5]), Some(UserControl::Other(26)));
    }

    #[test]
    fn aggregates_fall_apart() {
        let mut body = Vec::new();
        for (kind, stamp, len) in [(8u8, 700u32, 3usize), (9, 720, 5)] {
            body.extend([kind, 0, 0, len as u8, 0, (stamp >> 8) as u8, stamp as u8, 0, 0, 0, 0]);
            body.extend(vec![kind; len]);
            body.extend([0, 0, 0, 11 + len as u8]);
        }
        let all: Vec<_> = Aggregate::new(message(22, body.clone())).collect();
        let short: Vec<_> = all.iter().map(|m| (m.kind, m.time, m.body.len(), m.stream)).collect();
        assert_eq!(short, [(8, 5000, 3, 1), (9, 5020, 5, 1)]);
        for end in 0..body.len() {
            assert!(Aggregate::new(message(22, body[..end].to_vec())).count() <= 2);
        }
    }

    #[test]
    fn a_tiny_window_does_not_make_us_talk() {
        let mut wire = Vec::new();
        put_value(&mut wire, kind::WINDOW_ACK_SIZE, 1);
        // Empty messages of one byte each.
        wire.extend([4, 0, 0, 0, 0, 0, 0, kind::AUDIO, 1, 0, 0, 0]);
        wire.extend([0xC4; 4000]);
        let (mut link, mut out) = (Link::new(4096, 0), Vec::new());
        let mut input = BytesMut::from(&wire[..]);
        while link.read(&mut input, &mut out).unwrap().is_some() {}
        assert!((7 * 16..10 * 16).contains(&out.len()), "{}", out.len());
    }

    #[test]
    fn a_link_acknowledges_and_answers_pings() {
        let mut wire = Vec::new();
        put_value(&mut wire, kind::WINDOW_ACK_SIZE, 1000);
        UserControl::PingRequest(77).put(&mut wire);
        let header = ChunkHeader { csid: 4, kind: kind::AUDIO, stream: 1, time: 0, len: 0 };
        put_message(&mut wire, header, &[0; 600], 128);
        let (mut link, mut out) = (Link::new(4096, 0), Vec::new());
        let got = link.read(&mut BytesMut::from(&wire[..]), &mut out).unwrap().unwrap();
        assert_eq!(got.kind, kind::AUDIO);
        let (mut reader, mut input) = (ChunkReader::new(4096), BytesMut::from(&out[..]));
        let pong = reader.read(&mut input).unwrap().unwrap();
        assert_eq!(UserControl::parse(&pong.body), Some(UserControl::PingResponse(77)));
        let ack = reader.read(&mut input).unwrap().unwrap();
        assert_eq!(
            (ack.kind, &ack.body[..]),
            (kind::ACKNOWLEDGEMENT, &(wire.len() as u32).to_be_bytes()[..])
        );
    }
}
