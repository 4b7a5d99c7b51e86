//! What a player gets: a stream as RTMP chunks, serialised once for all; and what it may say meanwhile.

use bytes::{Bytes, BytesMut};

use super::RtmpError;
use super::chunk::{ChunkHeader, MAX_CHUNK_SIZE, csid, kind};
use super::connect::CodecSet;
use super::message::{Command, Link, STREAM, UserControl, put_status};
use super::session::answer_other;
use crate::format::amf::Value;
use crate::format::flv::{self, TagKind};
use crate::hub::{FeedKey, Flow, Join, Package, Parts, StreamInfo};
use crate::media::{Frame, Kind, Meta, Track};

/// The longest message of a player that is being sent a stream: commands without objects, some hundred bytes.
const MAX_MESSAGE: usize = 8 * 1024;

/// The ear of a player that is being sent a stream: acknowledgements, pings, pause, close. Less than 1 KiB.
#[derive(Debug)]
pub struct Player {
    link: Link,
    chunk_size: usize,
    /// The beginning of a chunk header, nothing mostly.
    input: BytesMut,
}

impl Player {
    pub(super) fn new(mut link: Link, chunk_size: usize) -> Self {
        link.limit(MAX_MESSAGE);
        Self { link, chunk_size, input: BytesMut::new() }
    }

    /// Takes what the player sent, answers to `reply`, tells what becomes of the stream.
    ///
    /// # Errors
    /// When the player breaks the protocol or a limit.
    pub fn input(&mut self, bytes: &[u8], reply: &mut Vec<u8>) -> Result<Flow, RtmpError> {
        self.input.extend_from_slice(bytes);
        let mut flow = Flow::Go;
        while let Some(message) = self.link.read(&mut self.input, reply)? {
            if matches!(message.kind, kind::COMMAND_AMF0 | kind::COMMAND_AMF3) {
                match self.command(&Command::parse(&message)?, reply) {
                    Flow::Go => {}
                    Flow::End(why) => return Ok(Flow::End(why)),
                    changed => flow = changed,
                }
            }
        }
        if self.input.is_empty() {
            // A player is silent for seconds: it need not hold a buffer.
            self.input = BytesMut::new();
        }
        Ok(flow)
    }

    fn command(&self, command: &Command, reply: &mut Vec<u8>) -> Flow {
        let mut status = |level, code, text| put_status(reply, STREAM, level, code, text, self.chunk_size);
        match command.name.as_str() {
            "closeStream" | "deleteStream" => Flow::End("the player closed the stream"),
            "pause" | "pauseRaw" if command.args.get(1).and_then(Value::as_bool) == Some(false) => {
                status("status", "NetStream.Unpause.Notify", "Playing again");
                UserControl::StreamBegin(STREAM).put(reply);
                Flow::Resume
            }
            "pause" | "pauseRaw" => {
                status("status", "NetStream.Pause.Notify", "Paused");
                UserControl::StreamEof(STREAM).put(reply);
                Flow::Pause
            }
            "play" if command.args.get(1).and_then(Value::as_bool) == Some(false) => {
                Flow::End("the player sent play(false)")
            }
            "play" | "publish" => {
                status("error", "NetStream.Failed", "This connection plays already: open another");
                Flow::Go
            }
            _ => {
                answer_other(command, STREAM, reply, self.chunk_size);
                Flow::Go
            }
        }
    }
}

/// Serialises a stream for RTMP players: fmt 0 headers and absolute times, so that each message stands alone
/// and all players can share it.
#[derive(Debug)]
pub struct RtmpPackage {
    codecs: CodecSet,
    chunk_size: usize,
}

impl RtmpPackage {
    /// For players that take `codecs`, written in chunks of `chunk_size` bytes.
    #[must_use]
    pub fn new(codecs: CodecSet, chunk_size: usize) -> Self {
        Self { codecs, chunk_size }
    }

    /// The key of the feed that such players share.
    #[must_use]
    pub fn key(&self) -> FeedKey {
        // 17 bits of chunk size (65536 at most), 11 of codecs.
        let size = u32::try_from(self.chunk_size).unwrap_or(0) & 0x1_FFFF;
        FeedKey { format: "rtmp", variant: size | u32::from(self.codecs.bits()) << 17 }
    }

    /// The track of a kind that players get: the first that they can take.
    fn track<'a>(&self, tracks: &'a [Track], kind: Kind) -> Option<&'a Track> {
        tracks.iter().find(|t| t.kind() == kind && TagKind::of(t.codec).is_some() && self.codecs.has(t.codec))
    }

    /// All tracks that players get.
    fn chosen(&self, tracks: &[Track]) -> Vec<Track> {
        let chosen = [Kind::Video, Kind::Audio].map(|kind| self.track(tracks, kind).cloned());
        chosen.into_iter().flatten().collect()
    }

    /// Writes a message of `prefix` and `payload`, which is shared. Not what is too long for a message.
    fn put(&self, out: &mut Parts, kind: TagKind, time: i64, prefix: &[u8], payload: &Bytes) {
        let csid = match kind {
            TagKind::Audio => csid::AUDIO,
            TagKind::Video => csid::VIDEO,
            _ => csid::DATA,
        };
        let len = prefix.len() + payload.len();
        if len > MAX_CHUNK_SIZE {
            return;
        }
        let header = ChunkHeader { csid, kind: kind.to_u8(), stream: STREAM, time, len };
        out.put(&header.first());
        out.put(prefix);
        // A prefix is shorter than any chunk.
        let mut room = self.chunk_size.saturating_sub(prefix.len()).max(1);
        let mut rest = payload.clone();
        while rest.len() > room {
            out.share(rest.split_to(room));
            out.put(&header.next());
            room = self.chunk_size.max(1);
        }
        out.share(rest);
    }
}

impl Package for RtmpPackage {
    fn start(&mut self, _: &StreamInfo<'_>, _: &mut Parts) {}

    fn config(&mut self, info: &StreamInfo<'_>, at_ms: i64, out: &mut Parts) {
        self.words(info, out);
        for track in &self.chosen(info.tracks) {
            if let (Some(kind), Some(body)) = (TagKind::of(track.codec), flv::config_body(track)) {
                self.put(out, kind, at_ms, &[], &body);
            }
        }
    }

    fn words(&mut self, info: &StreamInfo<'_>, out: &mut Parts) {
        let meta = flv::metadata_body(info.meta, &self.chosen(info.tracks), &Meta::default());
        // At 0 wherever it stands: ffmpeg takes metadata at any other time for subtitles.
        self.put(out, TagKind::Script, 0, &[], &meta);
    }

    fn frame(&mut self, info: &StreamInfo<'_>, track: &Track, frame: &Frame, out: &mut Parts) -> Join {
        let chosen = self.track(info.tracks, track.kind());
        if chosen.is_none_or(|chosen| chosen.id != track.id) {
            return Join::No;
        }
        if let (Some(kind), Some(prefix)) = (TagKind::of(track.codec), flv::frame_prefix(track, frame)) {
            self.put(out, kind, track.ticks_to_ms(frame.dts), &prefix, &frame.data);
        }
        let here = match track.kind() {
            Kind::Video => frame.is_key(),
            _ => self.track(info.tracks, Kind::Video).is_none(),
        };
        if here { Join::Here } else { Join::No }
    }

    fn end(&mut self, _: &StreamInfo<'_>, out: &mut Parts) {
        let mut wire = Vec::new();
        UserControl::StreamEof(STREAM).put(&mut wire);
        let text = "The publisher stopped";
        put_status(&mut wire, STREAM, "status", "NetStream.Play.UnpublishNotify", text, self.chunk_size);
        out.put(&wire);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::media::{Codec, Flags, TrackId};
    use crate::rtmp::chunk::{ChunkReader, Message};

    #[test]
    fn a_player_cannot_make_us_hold_much() {
        let mut player = Player::new(Link::new(1 << 20, 0), 128);
        let begun = [3, 0, 0, 0, 0, 0x1F, 0xFF, kind::COMMAND_AMF0, 1, 0, 0, 0];
        let mut reply = Vec::new();
        assert_eq!(player.input(&begun, &mut reply).unwrap(), Flow::Go);
        let more = [4, 0, 0, 0, 0, 0x20, 1, kind::COMMAND_AMF0, 1, 0, 0, 0];
        let mut player = Player::new(Link::new(1 << 20, 0), 128);
        assert!(matches!(player.input(&more, &mut reply), Err(crate::rtmp::RtmpError::TooLong { .. })));
    }

    fn track(id: u8, codec: Codec) -> Track {
        Track { config: Bytes::from_static(&[1, 2, 3]), ..Track::new(TrackId(id), codec) }
    }

    fn read(parts: &Parts, chunk_size: u32) -> Vec<Message> {
        let mut wire = Vec::new();
        crate::rtmp::message::put_value(&mut wire, kind::SET_CHUNK_SIZE, chunk_size);
        wire.extend(parts.to_vec());
        let (mut reader, mut input) = (ChunkReader::new(1 << 20), BytesMut::from(&wire[..]));
        let mut all = Vec::new();
        while let Some(message) = reader.read(&mut input).unwrap() {
            all.push(message);
        }
        assert!(input.is_empty());
        all
    }

    #[test]
    fn frames_are_messages_of_any_chunk_size() {
        let (video, audio) = (track(0, Codec::H264), track(1, Codec::Aac));
        let tracks = [video.clone(), audio.clone()];
        let meta = Meta::default();
        let info = StreamInfo { tracks: &tracks, meta: &meta };
        for chunk_size in [128, 4096, 60_000] {
            let mut package = RtmpPackage::new(CodecSet::ALL, chunk_size);
            for len in [1, 122, 123, 124, 251, 5000, 130_000] {
                for dts in [0, 0xFF_FFFF, (1 << 32) + 5] {
                    let data = Bytes::from(vec![7; len]);
                    let frame =
                        Frame { track: TrackId(0), flags: Flags::KEY, dts, cts: 0, wall_ms: None, data };
                    let mut parts = Parts::default();
                    assert_eq!(package.frame(&info, &video, &frame, &mut parts), Join::Here);
                    let all = read(&parts, chunk_size as u32);
                    assert_eq!(all.len(), 1);
                    assert_eq!((all[0].kind, all[0].stream, all[0].body.len()), (9, 1, 5 + len));
                    assert_eq!(all[0].time, dts & 0xFFFF_FFFF);
                    assert_eq!(all[0].body[5..], frame.data);
                }
            }
            let mut parts = Parts::default();
            package.config(&info, 99, &mut parts);
            let kinds: Vec<_> = read(&parts, chunk_size as u32).iter().map(|m| (m.kind, m.time)).collect();
            assert_eq!(kinds, [(18, 0), (9, 99), (8, 99)]);
            let mut parts = Parts::default();
            package.end(&info, &mut parts);
            assert_eq!(read(&parts, chunk_size as u32).len(), 2);
        }
    }

    #[test]
    fn a_player_gets_what_it_can_take() {
        let tracks = [track(0, Codec::H265), track(1, Codec::Opus), track(2, Codec::Aac)];
        let meta = Meta::default();
        let info = StreamInfo { tracks: &tracks, meta: &meta };
        let frame = |id| Frame {
            track: TrackId(id),
            flags: Flags::KEY,
            dts: 0,
            cts: 0,
            wall_ms: None,
            data: Bytes::from_static(&[1]),
        };
        let sent = |codecs| {
            let mut package = RtmpPackage::new(codecs, 60_000);
            tracks
                .iter()
                .map(|t| {
                    let mut parts = Parts::default();
                    let join = package.frame(&info, t, &frame(t.id.0), &mut parts);
                    (!parts.is_empty(), join)
                })
                .collect::<Vec<_>>()
        };
        // All: the first of each kind. Old players: AAC alone, where they can start anywhere.
        assert_eq!(sent(CodecSet::ALL), [(true, Join::Here), (true, Join::No), (false, Join::No)]);
        assert_eq!(sent(CodecSet::LEGACY), [(false, Join::No), (false, Join::No), (true, Join::Here)]);
        let keys = [CodecSet::ALL, CodecSet::LEGACY].map(|codecs| RtmpPackage::new(codecs, 60_000).key());
        assert_ne!(keys[0], keys[1]);
    }
}
