//! The chunk stream (RTMP 1.0 section 5.3): messages cut into chunks, those of several chunk streams mixed.
//!
//! [`ChunkReader`] puts messages together again; [`put_message`] writes them. Set Chunk
//! Size and Abort are obeyed here, where they act; the reader's owner never sees them.
//!
//! A body that arrives whole in one chunk is split off the read buffer and shared; others are copied once,
//! to where they stay. A declared length allocates at most `EAGER` bytes until the bytes come, and all
//! unfinished messages together may not declare more than the session's limit.

use bytes::{Buf, Bytes, BytesMut};

use super::RtmpError;

/// The most chunk streams of a session that are remembered at a time. Encoders and players use three to
/// eight; past that the one unused for longest is forgotten.
pub const MAX_CHUNK_STREAMS: usize = 12;
/// The chunk size before the peer sets another (RTMP 1.0 5.4.1).
pub const DEFAULT_CHUNK_SIZE: usize = 128;
/// The largest chunk size: a message has at most 2^24 - 1 bytes, so a larger one means nothing.
pub const MAX_CHUNK_SIZE: usize = 0xFF_FFFF;
/// What a declared message length allocates at once; more only as bytes arrive.
const EAGER: usize = 64 * 1024;
/// Bodies from this size on are shared with the read buffer; a smaller one is copied, lest it hold on to a
/// buffer many times its size: what a stream keeps takes at most four times its limit.
const SHARE_FROM: usize = 8192;
/// The timestamp field that says "in the four bytes that follow the header".
const EXTENDED: u32 = 0xFF_FFFF;

/// Message type ids (RTMP 1.0 sections 5.4, 6.2, 7.1).
pub mod kind {
    #![allow(missing_docs, reason = "the names say it")]
    pub const SET_CHUNK_SIZE: u8 = 1;
    pub const ABORT: u8 = 2;
    pub const ACKNOWLEDGEMENT: u8 = 3;
    pub const USER_CONTROL: u8 = 4;
    pub const WINDOW_ACK_SIZE: u8 = 5;
    pub const SET_PEER_BANDWIDTH: u8 = 6;
    pub const AUDIO: u8 = 8;
    pub const VIDEO: u8 = 9;
    pub const DATA_AMF3: u8 = 15;
    pub const COMMAND_AMF3: u8 = 17;
    pub const DATA_AMF0: u8 = 18;
    pub const COMMAND_AMF0: u8 = 20;
    pub const AGGREGATE: u8 = 22;
}

/// Chunk stream ids that we write on: 2 is the protocol's, the others are free.
pub mod csid {
    #![allow(missing_docs, reason = "the names say it")]
    pub const CONTROL: u8 = 2;
    pub const COMMAND: u8 = 3;
    pub const AUDIO: u8 = 4;
    pub const DATA: u8 = 5;
    pub const VIDEO: u8 = 6;
}

/// A whole message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// Message type id, one of [`kind`] or unknown.
    pub kind: u8,
    /// Message stream id: 0 for the connection, else what `createStream` gave.
    pub stream: u32,
    /// Milliseconds on the publisher's clock; continues past 2^32.
    pub time: i64,
    /// What it carries.
    pub body: Bytes,
}

/// The last header of one chunk stream and the message that is being received on it.
#[derive(Debug, Default)]
struct ChunkStream {
    csid: u32,
    /// The timestamp or delta that the last header of format 0 to 2 gave.
    field: u32,
    /// That value stood in the extended timestamp.
    extended: bool,
    kind: u8,
    /// A message has begun and is not whole; `body` holds what came.
    open: bool,
    stamp: u32,
    len: u32,
    stream: u32,
    /// When it was last used, in headers read by the session.
    used: u32,
    body: BytesMut,
}

/// Reads chunks, gives messages.
#[derive(Debug)]
pub struct ChunkReader {
    chunk_size: usize,
    streams: heapless::Vec<ChunkStream, MAX_CHUNK_STREAMS>,
    /// The chunk whose payload is being read: place in `streams`, bytes still to come.
    current: Option<(usize, usize)>,
    headers: u32,
    /// Bytes that unfinished messages declare.
    declared: usize,
    /// The largest message taken, bytes.
    max_message: usize,
    /// Time of the newest audio or video message: 32-bit timestamps are unwrapped to the nearest of it.
    clock: Option<i64>,
}

struct Header {
    len: usize,
    csid: u32,
    format: u8,
}

impl ChunkReader {
    /// A reader of messages up to `max_message` bytes, before anything was read. Unfinished messages of all
    /// chunk streams may declare twice that.
    #[must_use]
    pub fn new(max_message: usize) -> Self {
        Self {
            chunk_size: DEFAULT_CHUNK_SIZE,
            streams: heapless::Vec::new(),
            current: None,
            headers: 0,
            declared: 0,
            max_message: max_message.min(MAX_CHUNK_SIZE),
            clock: None,
        }
    }

    /// The chunk size that the peer writes with, bytes.
    #[must_use]
    pub fn chunk_size(&self) -> usize {
        self.chunk_size
    }

    /// From now on messages have at most `max_message` bytes.
    pub(super) fn limit(&mut self, max_message: usize) {
        self.max_message = max_message.min(MAX_CHUNK_SIZE);
    }

    /// The next whole message, consuming `input`; `None` when more bytes are needed. What stays in `input`
    /// then is less than one header (18 bytes).
    ///
    /// # Errors
    /// When the chunks can't be read, or the peer breaks a limit. The reader is of no use afterwards.
    pub fn read(&mut self, input: &mut BytesMut) -> Result<Option<Message>, RtmpError> {
        loop {
            let (index, left) = match self.current {
                Some(current) => current,
                None => match self.read_header(input)? {
                    Some(index) => (index, self.begin_chunk(index)),
                    None => return Ok(None),
                },
            };
            let Some(stream) = self.streams.get_mut(index) else {
                return Err(RtmpError::Chunk("is on a chunk stream that is gone"));
            };
            let take = left.min(input.len());
            let whole = stream.body.is_empty() && take == stream.len as usize;
            let body = if whole && take >= SHARE_FROM {
                Some(input.split_to(take).freeze())
            } else {
                grow(&mut stream.body, take, stream.len as usize);
                stream.body.extend_from_slice(input.get(..take).unwrap_or(&[]));
                input.advance(take);
                (stream.body.len() == stream.len as usize).then(|| std::mem::take(&mut stream.body).freeze())
            };
            if let Some(body) = body {
                stream.open = false;
                self.declared = self.declared.saturating_sub(stream.len as usize);
                self.current = None;
                let (kind, stream, stamp) = (stream.kind, stream.stream, stream.stamp);
                match kind {
                    kind::SET_CHUNK_SIZE => self.set_chunk_size(&body)?,
                    kind::ABORT => self.abort(&body)?,
                    _ => return Ok(Some(Message { kind, stream, time: self.unwrap(kind, stamp), body })),
                }
                continue;
            }
            self.current = (take < left).then_some((index, left - take));
            if self.current.is_some() {
                return Ok(None);
            }
        }
    }

    /// Basic header, message header and extended timestamp; `None` when they are not all there. Gives the
    /// place of the chunk stream.
    fn read_header(&mut self, input: &mut BytesMut) -> Result<Option<usize>, RtmpError> {
        let Some(basic) = basic_header(input) else { return Ok(None) };
        let size = [11, 7, 3, 0].get(usize::from(basic.format)).copied().unwrap_or(0);
        let Some(fields) = input.get(basic.len..basic.len + size) else { return Ok(None) };
        let mut len = basic.len + size;
        let known = self.streams.iter().position(|s| s.csid == basic.csid);
        let last = known.and_then(|index| self.streams.get(index));

        let mut field = last.map_or(0, |s| s.field);
        let mut extended = last.is_some_and(|s| s.extended);
        if let Some((stamp, _)) = fields.split_first_chunk::<3>() {
            field = u24(*stamp);
            extended = field == EXTENDED;
            if extended {
                let Some(long) = input.get(len..).and_then(|rest| rest.first_chunk::<4>()) else {
                    return Ok(None);
                };
                field = u32::from_be_bytes(*long);
                len += 4;
            }
        } else if extended {
            // Format 3: by the book the extended timestamp comes again; some leave it out. Compare.
            let again = field.to_be_bytes();
            let there = input.get(len..).unwrap_or(&[]);
            if let Some(long) = there.first_chunk::<4>() {
                len += if *long == again { 4 } else { 0 };
            } else if again.starts_with(there) {
                return Ok(None);
            }
        }

        let index = match known {
            Some(index) => index,
            // librtmp and some boards start a chunk stream with format 1: the message stream is 0 then.
            None if basic.format <= 1 => self.add_stream(basic.csid)?,
            None => return Err(RtmpError::Chunk("starts a chunk stream without a full header")),
        };
        self.headers = self.headers.wrapping_add(1);
        let Some(stream) = self.streams.get_mut(index) else {
            return Err(RtmpError::Chunk("is on a chunk stream that is gone"));
        };
        stream.used = self.headers;
        let was_open = stream.open;
        if was_open && basic.format != 3 {
            // A new header inside a message: the old one is abandoned. ffmpeg never does; cameras do after
            // a lost frame.
            self.declared = self.declared.saturating_sub(stream.len as usize);
            stream.body = BytesMut::new();
            stream.open = false;
        }
        stream.field = field;
        stream.extended = extended;
        if let Some((length, rest)) = fields.get(3..).and_then(|f| f.split_first_chunk::<3>()) {
            stream.len = u24(*length);
            stream.kind = rest.first().copied().unwrap_or(0);
            if let Some(id) = rest.get(1..).and_then(|r| r.first_chunk::<4>()) {
                stream.stream = u32::from_le_bytes(*id);
            }
        }
        if !stream.open {
            stream.stamp = if basic.format == 0 { field } else { stream.stamp.wrapping_add(field) };
            stream.open = true;
            let length = stream.len as usize;
            if length > self.max_message {
                return Err(RtmpError::TooLong { len: length, max: self.max_message });
            }
            self.declared = self.declared.saturating_add(length);
            if self.declared > self.max_message.saturating_mul(2) {
                return Err(RtmpError::TooMuch { declared: self.declared });
            }
        }
        input.advance(len);
        Ok(Some(index))
    }

    fn begin_chunk(&mut self, index: usize) -> usize {
        let left = self.streams.get(index).map_or(0, |s| (s.len as usize).saturating_sub(s.body.len()));
        let left = left.min(self.chunk_size);
        self.current = Some((index, left));
        left
    }

    fn add_stream(&mut self, csid: u32) -> Result<usize, RtmpError> {
        let new = ChunkStream { csid, ..ChunkStream::default() };
        let Err(new) = self.streams.push(new) else { return Ok(self.streams.len() - 1) };
        let now = self.headers;
        let idle = self.streams.iter_mut().enumerate().filter(|(_, s)| !s.open);
        let oldest = idle.max_by_key(|(_, s)| now.wrapping_sub(s.used));
        let (index, place) = oldest.ok_or(RtmpError::Chunk("has too many messages unfinished at once"))?;
        *place = new;
        Ok(index)
    }

    fn set_chunk_size(&mut self, body: &[u8]) -> Result<(), RtmpError> {
        let Some(size) = body.first_chunk().map(|b| u32::from_be_bytes(*b)) else {
            return Err(RtmpError::Chunk("sends a Set Chunk Size of less than 4 bytes"));
        };
        // The top bit must be 0 by the book; beyond 2^24 - 1 all sizes mean "one chunk a message".
        self.chunk_size = usize::try_from(size).unwrap_or(usize::MAX).min(MAX_CHUNK_SIZE);
        if self.chunk_size == 0 { Err(RtmpError::Chunk("sets a chunk size of 0")) } else { Ok(()) }
    }

    fn abort(&mut self, body: &[u8]) -> Result<(), RtmpError> {
        let Some(csid) = body.first_chunk().map(|b| u32::from_be_bytes(*b)) else {
            return Err(RtmpError::Chunk("sends an Abort of less than 4 bytes"));
        };
        if let Some(stream) = self.streams.iter_mut().find(|s| s.csid == csid && s.open) {
            self.declared = self.declared.saturating_sub(stream.len as usize);
            stream.open = false;
            stream.body = BytesMut::new();
        }
        Ok(())
    }

    /// 32-bit `stamp` on the endless clock of the session's media.
    fn unwrap(&mut self, kind: u8, stamp: u32) -> i64 {
        let time = match self.clock {
            None => i64::from(stamp),
            Some(clock) => clock.saturating_add(i64::from(delta(clock, stamp))),
        };
        if matches!(kind, kind::AUDIO | kind::VIDEO | kind::AGGREGATE) {
            self.clock = Some(time);
        }
        time
    }
}

/// From `clock` to the nearest time whose lower 32 bits are `stamp`.
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "modular arithmetic on purpose")]
fn delta(clock: i64, stamp: u32) -> i32 {
    stamp.wrapping_sub(clock as u32) as i32
}

fn basic_header(input: &[u8]) -> Option<Header> {
    let (&first, rest) = input.split_first()?;
    let (len, csid) = match first & 0x3F {
        0 => (2, u32::from(*rest.first()?) + 64),
        1 => {
            let [low, high] = *rest.first_chunk()?;
            (3, u32::from(low) + u32::from(high) * 256 + 64)
        }
        id => (1, u32::from(id)),
    };
    Some(Header { len, csid, format: first >> 6 })
}

/// Makes room for `more` bytes of a body that will have `whole`: exactly if it is small, else by doubling.
fn grow(body: &mut BytesMut, more: usize, whole: usize) {
    let need = body.len() + more;
    if body.capacity() < need {
        let target = need.max(body.capacity().saturating_mul(2)).max(EAGER).min(whole);
        body.reserve(target.saturating_sub(body.len()));
    }
}

fn u24(bytes: [u8; 3]) -> u32 {
    let [a, b, c] = bytes;
    u32::from_be_bytes([0, a, b, c])
}

/// The most bytes of a header that [`ChunkHeader`] writes.
pub const MAX_HEADER: usize = 16;

/// Headers of one message on chunk streams 2 to 63.
#[derive(Debug, Clone, Copy)]
pub struct ChunkHeader {
    /// Chunk stream id, 2 to 63.
    pub csid: u8,
    /// Message type id.
    pub kind: u8,
    /// Message stream id.
    pub stream: u32,
    /// Milliseconds; its lower 32 bits are written.
    pub time: i64,
    /// Length of the body.
    pub len: usize,
}

impl ChunkHeader {
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "RTMP time is modulo 2^32")]
    fn stamp(&self) -> u32 {
        self.time as u32
    }

    /// The first chunk's header: format 0, absolute time.
    #[must_use]
    pub fn first(&self) -> heapless::Vec<u8, MAX_HEADER> {
        let stamp = self.stamp();
        let [_, a, b, c] = stamp.min(EXTENDED).to_be_bytes();
        let [_, d, e, f] = u32::try_from(self.len).unwrap_or(EXTENDED).to_be_bytes();
        let [i, j, k, l] = self.stream.to_le_bytes();
        let head = [self.csid & 0x3F, a, b, c, d, e, f, self.kind, i, j, k, l];
        self.with_extended(&head)
    }

    /// The header of each further chunk: format 3, with the extended timestamp again, as the book has it.
    #[must_use]
    pub fn next(&self) -> heapless::Vec<u8, MAX_HEADER> {
        self.with_extended(&[0xC0 | self.csid])
    }

    fn with_extended(&self, head: &[u8]) -> heapless::Vec<u8, MAX_HEADER> {
        let mut bytes = heapless::Vec::from_slice(head).unwrap_or_default();
        if self.stamp() >= EXTENDED {
            // 12 + 4 bytes at most: there is room.
            let _ = bytes.extend_from_slice(&self.stamp().to_be_bytes());
        }
        bytes
    }
}

/// Writes a message in chunks of `chunk_size`; `header.len` is taken from `body`.
pub fn put_message(out: &mut Vec<u8>, header: ChunkHeader, body: &[u8], chunk_size: usize) {
    let header = ChunkHeader { len: body.len(), ..header };
    out.extend_from_slice(&header.first());
    for (n, chunk) in body.chunks(chunk_size.max(1)).enumerate() {
        if n > 0 {
            out.extend_from_slice(&header.next());
        }
        out.extend_from_slice(chunk);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn header(csid: u8, kind: u8, time: i64) -> ChunkHeader {
        ChunkHeader { csid, kind, stream: 1, time, len: 0 }
    }

    fn read_all(reader: &mut ChunkReader, wire: &[u8], step: usize) -> Result<Vec<Message>, RtmpError> {
        let (mut input, mut messages) = (BytesMut::new(), Vec::new());
        for part in wire.chunks(step.max(1)) {
            input.extend_from_slice(part);
            while let Some(message) = reader.read(&mut input)? {
                messages.push(message);
            }
            assert!(input.len() < 18 + 4);
        }
        Ok(messages)
    }

    #[test]
    fn what_is_written_is_read_whatever_the_cuts() {
        let bodies: Vec<Vec<u8>> =
            [0, 1, 127, 128, 129, 4000, 70_000].iter().map(|n| (0..*n).map(|i| i as u8).collect()).collect();
        for chunk_size in [1, 128, 60_000] {
            let mut wire = Vec::new();
            put_message(&mut wire, header(2, 1, 0), &(chunk_size as u32).to_be_bytes(), 128);
            for (n, body) in bodies.iter().enumerate() {
                put_message(&mut wire, header(6, kind::VIDEO, 40 * n as i64 + 0xFF_FFF0), body, chunk_size);
            }
            for step in [1, 7, 1500, 1 << 20] {
                let got = read_all(&mut ChunkReader::new(1 << 20), &wire, step).unwrap();
                assert_eq!(got.len(), bodies.len());
                for (n, (message, body)) in got.iter().zip(&bodies).enumerate() {
                    assert_eq!(message.body, body);
                    assert_eq!((message.time, message.stream), (40 * n as i64 + 0xFF_FFF0, 1));
                }
            }
        }
    }

    #[test]
    fn all_formats_and_interleaving() {
        let mut wire = vec![4, 0, 0, 100, 0, 0, 2, 8, 1, 0, 0, 0, 1, 2]; // 0: at 100
        wire.extend([0x44, 0, 0, 10, 0, 0, 3, 8, 3, 4, 5]); // 1: +10, length 3
        wire.extend([0x84, 0, 0, 20, 6, 7, 8]); // 2: +20
        wire.extend([0xC4, 9, 10, 11]); // 3: +20 again
        let mut video = vec![6, 0, 0, 130, 0, 0, 200, 9, 1, 0, 0, 0]; // 200 bytes at 130 …
        video.extend([0; 128]);
        wire.extend(video);
        wire.extend([0xC4, 12, 13, 14]); // … audio between …
        wire.push(0xC6);
        wire.extend([1; 72]); // … and its rest
        for step in [1, 5, 1000] {
            let got = read_all(&mut ChunkReader::new(4096), &wire, step).unwrap();
            let times: Vec<_> = got.iter().map(|m| (m.kind, m.time, m.body.len())).collect();
            assert_eq!(
                times,
                [(8, 100, 2), (8, 110, 3), (8, 130, 3), (8, 150, 3), (8, 170, 3), (9, 130, 200)]
            );
        }
    }

    #[test]
    fn basic_headers_of_two_and_three_bytes() {
        let mut wire = vec![0, 10, 0, 0, 1, 0, 0, 1, 8, 1, 0, 0, 0, 1]; // csid 74
        wire.extend([1, 10, 1, 0, 0, 2, 0, 0, 1, 9, 1, 0, 0, 0, 2]); // csid 330
        wire.extend([0xC0, 10, 3, 0xC1, 10, 1, 4]);
        let got = read_all(&mut ChunkReader::new(4096), &wire, 1).unwrap();
        let short: Vec<_> = got.iter().map(|m| (m.kind, m.time, m.body[0])).collect();
        assert_eq!(short, [(8, 1, 1), (9, 2, 2), (8, 2, 3), (9, 4, 4)]);
    }

    #[test]
    fn extended_timestamps_in_both_habits() {
        let time = 0x0123_4567u32;
        let body: Vec<u8> = (0..200).collect();
        let mut repeated = Vec::new();
        put_message(&mut repeated, header(6, kind::VIDEO, i64::from(time)), &body, 128);
        let mut once = repeated.clone();
        once.drain(16 + 128 + 1..16 + 128 + 5);
        for wire in [repeated, once] {
            for step in [1, 3, 500] {
                // Twice, as a message follows in life.
                let got = read_all(&mut ChunkReader::new(4096), &wire.repeat(2), step).unwrap();
                assert_eq!(got.len(), 2);
                assert!(got.iter().all(|m| m.body == body && m.time == i64::from(time)));
            }
        }
    }

    #[test]
    fn time_goes_on_past_32_bits_for_all_chunk_streams() {
        let mut wire = Vec::new();
        let start = i64::from(u32::MAX) - 50;
        for n in 0..10 {
            put_message(&mut wire, header(6, kind::VIDEO, start + n * 20), &[0], 128);
            if n > 5 {
                // Audio is first heard of after the wrap; metadata at 0 disturbs nobody.
                put_message(&mut wire, header(4, kind::AUDIO, start + n * 20 + 1), &[0], 128);
                put_message(&mut wire, header(5, kind::DATA_AMF0, 0), &[0], 128);
            }
        }
        let got = read_all(&mut ChunkReader::new(4096), &wire, 100).unwrap();
        let times: Vec<_> = got.iter().filter(|m| m.kind == kind::VIDEO).map(|m| m.time).collect();
        assert_eq!(times, (0..10).map(|n| start + n * 20).collect::<Vec<_>>());
        let audio: Vec<_> = got.iter().filter(|m| m.kind == kind::AUDIO).map(|m| m.time).collect();
        assert_eq!(audio, (6..10).map(|n| start + n * 20 + 1).collect::<Vec<_>>());
    }

    #[test]
    fn abort_drops_what_had_come() {
        let mut wire = vec![6, 0, 0, 1, 0, 1, 0, 9, 1, 0, 0, 0];
        wire.extend([7; 128]);
        put_message(&mut wire, header(2, kind::ABORT, 0), &6u32.to_be_bytes(), 128);
        put_message(&mut wire, header(6, kind::VIDEO, 5), &[8; 3], 128);
        let mut reader = ChunkReader::new(4096);
        let got = read_all(&mut reader, &wire, 9).unwrap();
        assert_eq!(got.len(), 1);
        assert_eq!((got[0].time, &got[0].body[..], reader.declared), (5, &[8; 3][..], 0));
    }

    #[test]
    fn limits_end_the_session() {
        let big = [6, 0, 0, 0, 0xFF, 0xFF, 0xFF, 9, 1, 0, 0, 0];
        let error = read_all(&mut ChunkReader::new(1 << 20), &big, 99).unwrap_err();
        assert!(matches!(error, RtmpError::TooLong { len: 0xFF_FFFF, max: 0x10_0000 }), "{error}");

        // Many streams, each with one byte of a long message.
        let mut wire = Vec::new();
        for csid in 10..20 {
            wire.extend([csid, 0, 0, 0, 0x0F, 0xFF, 0xFF, 9, 1, 0, 0, 0]);
            wire.extend([0; 128]);
        }
        let mut reader = ChunkReader::new(1 << 20);
        assert!(matches!(read_all(&mut reader, &wire, 99), Err(RtmpError::TooMuch { .. })));
        let held: usize = reader.streams.iter().map(|s| s.body.capacity()).sum();
        assert!(held <= 2 * EAGER + 4096, "{held}");

        let mut wire = Vec::new();
        for csid in 10..40 {
            wire.extend([csid, 0, 0, 0, 0, 1, 0, 9, 1, 0, 0, 0]);
            wire.extend([0; 128]);
        }
        assert!(matches!(read_all(&mut ChunkReader::new(1 << 20), &wire, 99), Err(RtmpError::Chunk(_))));

        let mut wire = Vec::new();
        put_message(&mut wire, header(2, 1, 0), &[0; 4], 128);
        assert!(read_all(&mut ChunkReader::new(4096), &wire, 99).is_err());
        assert!(read_all(&mut ChunkReader::new(4096), &[0xC6, 1, 2, 3], 99).is_err());
    }

    #[test]
    fn more_chunk_streams_than_the_table_are_fine_one_after_the_other() {
        let mut wire = Vec::new();
        for csid in 3..60 {
            put_message(&mut wire, header(csid, kind::AUDIO, i64::from(csid)), &[csid], 128);
        }
        assert_eq!(read_all(&mut ChunkReader::new(4096), &wire, 99).unwrap().len(), 57);
    }

    #[test]
    fn a_reader_is_small() {
        assert!(size_of::<ChunkReader>() <= 960, "{}", size_of::<ChunkReader>());
    }

    proptest! {
        #[test]
        fn any_bytes_are_an_error_or_messages(wire in proptest::collection::vec(any::<u8>(), 0..4096)) {
            let _ = read_all(&mut ChunkReader::new(65_536), &wire, 97);
        }
    }
}
