//! From a tag's body to its packets: which track, which coding, which role, which bytes.

use bytes::{Buf, Bytes};

use super::{FOURCCS, FlvError, MAX_TRACKS, TagKind, wire};
use crate::media::Codec;

/// One packet of a tag; a multitrack tag of Enhanced RTMP holds several.
#[derive(Debug)]
pub(super) struct Packet {
    /// Track number, 0 where the tag has none.
    pub(super) number: u8,
    pub(super) codec: Codec,
    pub(super) role: Role,
    pub(super) payload: Bytes,
}

/// What a packet is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    /// A decoder configuration, in the codec's own form.
    Config,
    /// Speaker layout of an audio track.
    Channels,
    /// A frame; video: composition time, key, disposable.
    Frame { cts: i32, key: bool, disposable: bool },
    /// Nothing that a server needs: end of sequence, colour metadata.
    Nothing,
}

pub(super) type Packets = heapless::Vec<Packet, MAX_TRACKS>;

/// The packets of a video or audio tag; none in an empty tag and in seek commands.
pub(super) fn packets(kind: TagKind, body: Bytes) -> Result<Packets, FlvError> {
    let mut input = Input { what: kind.name(), len: body.len(), rest: body };
    let mut packets = Packets::new();
    if input.len == 0 {
        return Ok(packets);
    }
    let head = input.u8("the tag's first byte")?;
    let legacy = match kind {
        TagKind::Video => {
            let frame_type = head >> 4 & 7;
            if head & wire::EX_VIDEO != 0 {
                let tag =
                    Ex { kind, frame_type, packet_type: head & 0xF, multitrack: wire::VIDEO_MULTITRACK };
                tag.packets(input, &mut packets)?;
                None
            } else {
                legacy_video(head & 0xF, frame_type, input)?
            }
        }
        TagKind::Audio if head >> 4 == wire::SOUND_EX => {
            let tag = Ex { kind, frame_type: 0, packet_type: head & 0xF, multitrack: wire::AUDIO_MULTITRACK };
            tag.packets(input, &mut packets)?;
            None
        }
        TagKind::Audio => legacy_audio(head, input)?,
        TagKind::Script | TagKind::ScriptAmf3 => None,
    };
    if let Some(packet) = legacy {
        let _ = packets.push(packet); // there is room: nothing else was pushed
    }
    Ok(packets)
}

/// Annex E.4.3.1; HEVC by the same layout under number 12.
fn legacy_video(codec_id: u8, frame_type: u8, mut input: Input) -> Result<Option<Packet>, FlvError> {
    if frame_type == wire::FRAME_COMMAND {
        return Ok(None);
    }
    let codec = match codec_id {
        wire::VIDEO_AVC => Codec::H264,
        wire::VIDEO_HEVC => Codec::H265,
        _ => return Err(input.unsupported(legacy_video_name(codec_id))),
    };
    let packet_type = input.u8("the packet type")?;
    let role = match packet_type {
        wire::SEQUENCE_START => {
            input.skip(3, "the composition time")?;
            Role::Config
        }
        wire::CODED_FRAMES => frame(frame_type, input.si24("the composition time")?),
        wire::SEQUENCE_END => Role::Nothing,
        _ => return Err(input.invalid("the packet type", packet_type)),
    };
    Ok(Some(Packet { number: 0, codec, role, payload: input.rest }))
}

/// Annex E.4.2.1.
fn legacy_audio(head: u8, mut input: Input) -> Result<Option<Packet>, FlvError> {
    let format = head >> 4;
    let mut role = frame(wire::FRAME_KEY, 0);
    let codec = match format {
        wire::SOUND_AAC => {
            let packet_type = input.u8("the packet type")?;
            role = match packet_type {
                wire::SEQUENCE_START => Role::Config,
                wire::CODED_FRAMES => role,
                _ => return Err(input.invalid("the packet type", packet_type)),
            };
            Codec::Aac
        }
        wire::SOUND_MP3 | wire::SOUND_MP3_8K => Codec::Mp3,
        wire::SOUND_G711A => Codec::G711A,
        wire::SOUND_G711U => Codec::G711U,
        _ => return Err(input.unsupported(legacy_audio_name(format))),
    };
    Ok(Some(Packet { number: 0, codec, role, payload: input.rest }))
}

/// ExVideoTagHeader and ExAudioTagHeader of Enhanced RTMP v2, which differ in their packet types alone.
struct Ex {
    kind: TagKind,
    frame_type: u8,
    packet_type: u8,
    /// The packet type of a multitrack tag.
    multitrack: u8,
}

impl Ex {
    fn packets(mut self, mut input: Input, packets: &mut Packets) -> Result<(), FlvError> {
        while self.packet_type == wire::MOD_EX {
            self.packet_type = input.mod_ex()?;
        }
        let is_command = self.kind == TagKind::Video && self.frame_type == wire::FRAME_COMMAND;
        if is_command && self.packet_type != wire::VIDEO_METADATA {
            return Ok(());
        }
        if self.packet_type != self.multitrack {
            let codec = input.codec(self.kind)?;
            return self.push(packets, 0, codec, input);
        }

        let byte = input.u8("the multitrack type")?;
        let layout = byte >> 4;
        self.packet_type = byte & 0xF;
        if layout > wire::MANY_TRACKS_MANY_CODECS {
            return Err(input.invalid("the multitrack type", layout));
        }
        let shared = match layout {
            wire::MANY_TRACKS_MANY_CODECS => None,
            _ => Some(input.codec(self.kind)?),
        };
        loop {
            let codec = match shared {
                Some(codec) => codec,
                None => input.codec(self.kind)?,
            };
            let number = input.u8("the track number")?;
            if layout == wire::ONE_TRACK {
                return self.push(packets, number, codec, input);
            }
            let len = usize::try_from(input.u24("a track's length")?).unwrap_or(usize::MAX);
            let track = input.split(len, "a track's packet")?;
            self.push(packets, number, codec, track)?;
            if input.rest.is_empty() {
                return Ok(());
            }
        }
    }

    fn push(
        &self,
        packets: &mut Packets,
        number: u8,
        codec: Codec,
        mut input: Input,
    ) -> Result<(), FlvError> {
        let what = input.what;
        let role = match self.kind {
            TagKind::Video => self.video_role(codec, &mut input)?,
            _ => self.audio_role(&input)?,
        };
        let packet = Packet { number, codec, role, payload: input.rest };
        packets.push(packet).map_err(|_| FlvError::TooManyTracks { what, number })
    }

    fn video_role(&self, codec: Codec, input: &mut Input) -> Result<Role, FlvError> {
        match self.packet_type {
            wire::SEQUENCE_START => Ok(Role::Config),
            wire::CODED_FRAMES if codec.has_nals() => {
                Ok(frame(self.frame_type, input.si24("the composition time")?))
            }
            wire::CODED_FRAMES | wire::CODED_FRAMES_X => Ok(frame(self.frame_type, 0)),
            wire::SEQUENCE_END | wire::VIDEO_METADATA => Ok(Role::Nothing),
            wire::MPEG2TS_SEQUENCE_START => {
                Err(input.unsupported("a sequence start in MPEG-2 TS form".to_owned()))
            }
            other => Err(input.invalid("the packet type", other)),
        }
    }

    fn audio_role(&self, input: &Input) -> Result<Role, FlvError> {
        match self.packet_type {
            wire::SEQUENCE_START => Ok(Role::Config),
            wire::CODED_FRAMES => Ok(frame(wire::FRAME_KEY, 0)),
            wire::SEQUENCE_END => Ok(Role::Nothing),
            wire::MULTICHANNEL_CONFIG => Ok(Role::Channels),
            other => Err(input.invalid("the packet type", other)),
        }
    }
}

fn frame(frame_type: u8, cts: i32) -> Role {
    Role::Frame { cts, key: frame_type == wire::FRAME_KEY, disposable: frame_type == wire::FRAME_DISPOSABLE }
}

/// The body of a tag, read from the front.
struct Input {
    what: &'static str,
    /// How long the body was.
    len: usize,
    rest: Bytes,
}

impl Input {
    fn array<const N: usize>(&mut self, field: &'static str) -> Result<[u8; N], FlvError> {
        let bytes = self.rest.first_chunk().copied().ok_or_else(|| self.truncated(field))?;
        self.rest.advance(N);
        Ok(bytes)
    }

    fn skip(&mut self, len: usize, field: &'static str) -> Result<(), FlvError> {
        self.split(len, field).map(drop)
    }

    fn split(&mut self, len: usize, field: &'static str) -> Result<Self, FlvError> {
        if len > self.rest.len() {
            return Err(self.truncated(field));
        }
        Ok(Self { what: self.what, len: self.len, rest: self.rest.split_to(len) })
    }

    fn u8(&mut self, field: &'static str) -> Result<u8, FlvError> {
        self.array(field).map(|[byte]| byte)
    }

    fn u24(&mut self, field: &'static str) -> Result<u32, FlvError> {
        self.array(field).map(|[a, b, c]| u32::from_be_bytes([0, a, b, c]))
    }

    fn si24(&mut self, field: &'static str) -> Result<i32, FlvError> {
        self.array(field).map(|[a, b, c]| i32::from_be_bytes([a, b, c, 0]) >> 8)
    }

    fn codec(&mut self, kind: TagKind) -> Result<Codec, FlvError> {
        let fourcc = self.array("the FourCC")?;
        let known = FOURCCS.iter().find(|(codec, f)| *f == fourcc && TagKind::of(*codec) == Some(kind));
        known
            .map(|(codec, _)| *codec)
            .ok_or_else(|| self.unsupported(format!("FourCC {}", fourcc.escape_ascii())))
    }

    /// Passes over a ModEx and gives the packet type behind it. The one kind there is so far, a nanosecond
    /// offset, is finer than our clock.
    fn mod_ex(&mut self) -> Result<u8, FlvError> {
        const FIELD: &str = "a ModEx";
        let mut len = usize::from(self.u8(FIELD)?) + 1;
        if len == 256 {
            len = usize::from(u16::from_be_bytes(self.array(FIELD)?)) + 1;
        }
        self.skip(len, FIELD)?;
        Ok(self.u8(FIELD)? & 0xF)
    }

    fn truncated(&self, field: &'static str) -> FlvError {
        FlvError::Truncated { what: self.what, field, len: self.len }
    }

    fn invalid(&self, field: &'static str, value: u8) -> FlvError {
        let at = self.len.saturating_sub(self.rest.len() + 1) as u64; // the byte that was read last
        FlvError::Invalid { what: self.what, field, value: u32::from(value), at }
    }

    fn unsupported(&self, why: String) -> FlvError {
        FlvError::Unsupported { what: self.what, why }
    }
}

fn legacy_video_name(codec_id: u8) -> String {
    let name = match codec_id {
        2 => "Sorenson H.263",
        3 | 6 => "Screen video",
        4 | 5 => "VP6",
        _ => "unknown",
    };
    format!("codec id {codec_id} ({name})")
}

fn legacy_audio_name(format: u8) -> String {
    let name = match format {
        0 | 3 => "PCM",
        1 => "ADPCM",
        4..=6 => "Nellymoser",
        11 => "Speex",
        _ => "unknown",
    };
    format!("sound format {format} ({name})")
}
