//! FLV tags: the container of HTTP-FLV and DVR files, and the bodies of RTMP's media messages.
//!
//! Follows Adobe's "Video File Format Specification" 10.1 (annex E) and Enhanced RTMP v1 and v2 (Veovera).
//! Three parts, each usable alone:
//!
//! * [`Demuxer`]: the bytes of a file or an HTTP body, in any slices, to [`Tag`]s;
//! * [`TagReader`]: tags (or RTMP messages, which have the same bodies) to tracks, frames and metadata;
//! * writers, that put bytes *around* a payload and never copy it: [`frame_prefix`], [`config_body`],
//!   [`metadata_body`] for bodies, [`file_header`], [`tag_header`], [`tag_trailer`] for files.
//!
//! | codec | read from | written as |
//! |---|---|---|
//! | H.264 | codec id 7, `avc1` | codec id 7 |
//! | H.265 | `hvc1`, codec id 12 (an old habit, in no specification) | `hvc1` |
//! | AV1, VP9, VP8 | `av01`, `vp09`, `vp08` | the same |
//! | AAC | sound format 10, `mp4a` | sound format 10 |
//! | MP3 | sound formats 2 and 14, `.mp3` | sound format 2 or 14 |
//! | G.711 | sound formats 7 and 8 | the same |
//! | Opus, FLAC, AC-3, E-AC-3 | `Opus`, `fLaC`, `ac-3`, `ec-3` | the same |
//!
//! Multitrack packets are read; written is one track of a kind, see [`default_track`]. Time is in
//! milliseconds, the only clock FLV has: nanosecond offsets (ModEx) are passed over.
//!
//! # Example: a file through the reader and back
//!
//! ```
//! use bytes::BytesMut;
//! use rillbox::format::flv::{self, Demuxer, Event, TagKind, TagReader};
//! use rillbox::media::{Meta, Track};
//!
//! # fn remux(file: &[u8]) -> Result<BytesMut, flv::FlvError> {
//! let mut demuxer = Demuxer::new(flv::MAX_TAG);
//! let mut reader = TagReader::new();
//! let mut tracks: Vec<Track> = Vec::new();
//! let mut out = BytesMut::from(&flv::file_header(true, true)[..]);
//!
//! // `file` may come in slices of any size: what is not used stays in `input`.
//! let mut input = file;
//! while let Some(tag) = demuxer.next_tag(&mut input)? {
//!     reader.push(tag.kind, tag.ts_ms, tag.body)?;
//!     while let Some(event) = reader.next_event() {
//!         match event {
//!             Event::Track(track) => {
//!                 if let (Some(kind), Some(body)) = (TagKind::of(track.codec), flv::config_body(&track)) {
//!                     flv::put_tag(&mut out, kind, 0, &[], &body)?;
//!                 }
//!                 tracks.retain(|old| old.id != track.id);
//!                 tracks.push(track);
//!             }
//!             Event::Frame(frame) => {
//!                 let Some(track) = tracks.iter().find(|t| t.id == frame.track) else { continue };
//!                 if let (Some(kind), Some(prefix)) = (TagKind::of(track.codec), flv::frame_prefix(track, &frame)) {
//!                     flv::put_tag(&mut out, kind, track.ticks_to_ms(frame.dts), &prefix, &frame.data)?;
//!                 }
//!             }
//!             Event::Meta(meta) => {
//!                 let body = flv::metadata_body(&meta, &tracks, &Meta::default());
//!                 flv::put_tag(&mut out, TagKind::Script, 0, &[], &body)?;
//!             }
//!         }
//!     }
//! }
//! # Ok(out)
//! # }
//! # let file = include_bytes!("../../../tests/media/ffmpeg9-avc-aac.flv");
//! # let out = remux(file)?;
//! # assert_eq!(remux(&out)?, out);
//! # Ok::<(), flv::FlvError>(())
//! ```

mod packet;
mod read;
mod tag;
mod write;

pub use read::{Event, MAX_TRACKS, TagReader};
pub use tag::{
    Demuxer, FILE_HEADER, MAX_BODY, MAX_TAG, TAG_HEADER, TAG_TRAILER, Tag, file_header, put_tag, tag_header,
    tag_trailer,
};
pub use write::{Prefix, config_body, default_track, frame_prefix, metadata_body};

use super::amf::AmfError;
use crate::media::{Codec, Kind, MediaError};

/// Why bytes are not FLV that this server takes.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FlvError {
    /// The body of a tag would be longer than a tag's length field holds.
    #[error(
        "FLV tag: a body of {len} bytes doesn't fit, a tag holds {MAX_BODY}; lower the bitrate or shorten the key frame"
    )]
    BodyTooLarge {
        /// How long the body is.
        len: usize,
    },
    /// The script data of a tag can't be read.
    #[error("FLV script tag: {0}")]
    Amf(#[from] AmfError),
    /// A value that the specification forbids.
    #[error("FLV {what} at byte {at}: {field} is {value}")]
    Invalid {
        /// `"file"`, `"video tag"`, `"audio tag"`.
        what: &'static str,
        /// The element.
        field: &'static str,
        /// Its value.
        value: u32,
        /// Where it stands in the file or the tag's body.
        at: u64,
    },
    /// The payload of a tag can't be read.
    #[error("FLV {what}: {source}")]
    Media {
        /// `"video tag"` or `"audio tag"`.
        what: &'static str,
        /// What is wrong with it.
        source: MediaError,
    },
    /// A tag is announced to be longer than the reader's bound.
    #[error("FLV file at byte {at}: a tag of {len} bytes, above the limit of {max}")]
    TagTooLarge {
        /// Announced length of its body.
        len: usize,
        /// The bound.
        max: usize,
        /// Where the tag starts.
        at: u64,
    },
    /// One stream has more than [`MAX_TRACKS`] tracks.
    #[error(
        "FLV {what}: track number {number} would be one more than the {MAX_TRACKS} tracks a stream may have"
    )]
    TooManyTracks {
        /// `"video tag"` or `"audio tag"`.
        what: &'static str,
        /// The number that was sent with it.
        number: u8,
    },
    /// The body of a tag ends too early.
    #[error("FLV {what}: ends after {len} bytes, in the middle of {field}")]
    Truncated {
        /// `"video tag"` or `"audio tag"`.
        what: &'static str,
        /// The element it ended in.
        field: &'static str,
        /// How many bytes there were.
        len: usize,
    },
    /// Valid, but this server doesn't carry it. Told once for each codec of a stream.
    #[error(
        "FLV {what}: {why} is not supported; the server carries H.264, H.265, AV1, VP8, VP9, AAC, MP3, Opus, FLAC, AC-3, E-AC-3 and G.711"
    )]
    Unsupported {
        /// `"file"`, `"video tag"`, `"audio tag"`.
        what: &'static str,
        /// What it is, e.g. `codec id 2 (Sorenson H.263)`.
        why: String,
    },
}

/// Tag types (annex E.4.1), which are RTMP's message types, too.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum TagKind {
    /// 8: audio.
    Audio,
    /// 18: script data in AMF0.
    Script,
    /// 15: script data that may hold AMF3 (a format byte stands before it).
    ScriptAmf3,
    /// 9: video.
    Video,
}

impl TagKind {
    /// The kind of this type number; `None` for those without media.
    #[must_use]
    pub const fn from_u8(kind: u8) -> Option<Self> {
        match kind {
            8 => Some(Self::Audio),
            9 => Some(Self::Video),
            15 => Some(Self::ScriptAmf3),
            18 => Some(Self::Script),
            _ => None,
        }
    }

    /// Its type number.
    #[must_use]
    pub const fn to_u8(self) -> u8 {
        match self {
            Self::Audio => 8,
            Self::Video => 9,
            Self::ScriptAmf3 => 15,
            Self::Script => 18,
        }
    }

    /// The kind of tag that carries this codec; `None` where FLV has no place for it.
    #[must_use]
    pub const fn of(codec: Codec) -> Option<Self> {
        match codec.kind() {
            Kind::Audio => Some(Self::Audio),
            Kind::Video => Some(Self::Video),
            Kind::Data => None,
        }
    }

    const fn name(self) -> &'static str {
        match self {
            Self::Audio => "audio tag",
            Self::Script | Self::ScriptAmf3 => "script tag",
            Self::Video => "video tag",
        }
    }
}

/// The FourCC of Enhanced RTMP for a codec; `None` where it has none (G.711).
#[must_use]
pub fn fourcc(codec: Codec) -> Option<[u8; 4]> {
    FOURCCS.iter().find(|(c, _)| *c == codec).map(|(_, fourcc)| *fourcc)
}

/// Whether a player must know Enhanced RTMP to take this codec from us.
#[must_use]
pub const fn needs_enhanced(codec: Codec) -> bool {
    matches!(
        codec,
        Codec::Ac3
            | Codec::Av1
            | Codec::Eac3
            | Codec::Flac
            | Codec::H265
            | Codec::Opus
            | Codec::Vp8
            | Codec::Vp9
    )
}

const FOURCCS: [(Codec, [u8; 4]); 11] = [
    (Codec::Aac, *b"mp4a"),
    (Codec::Ac3, *b"ac-3"),
    (Codec::Av1, *b"av01"),
    (Codec::Eac3, *b"ec-3"),
    (Codec::Flac, *b"fLaC"),
    (Codec::H264, *b"avc1"),
    (Codec::H265, *b"hvc1"),
    (Codec::Mp3, *b".mp3"),
    (Codec::Opus, *b"Opus"),
    (Codec::Vp8, *b"vp08"),
    (Codec::Vp9, *b"vp09"),
];

/// Codec and sound format numbers, packet types, frame types: the words of tag bodies.
mod wire {
    pub(super) const VIDEO_AVC: u8 = 7;
    pub(super) const VIDEO_HEVC: u8 = 12;

    pub(super) const SOUND_MP3: u8 = 2;
    pub(super) const SOUND_G711A: u8 = 7;
    pub(super) const SOUND_G711U: u8 = 8;
    pub(super) const SOUND_EX: u8 = 9;
    pub(super) const SOUND_AAC: u8 = 10;
    pub(super) const SOUND_MP3_8K: u8 = 14;

    pub(super) const FRAME_KEY: u8 = 1;
    pub(super) const FRAME_INTER: u8 = 2;
    pub(super) const FRAME_DISPOSABLE: u8 = 3;
    pub(super) const FRAME_COMMAND: u8 = 5;

    /// Set in a video tag's first byte when a FourCC names the codec.
    pub(super) const EX_VIDEO: u8 = 0x80;

    pub(super) const SEQUENCE_START: u8 = 0;
    pub(super) const CODED_FRAMES: u8 = 1;
    pub(super) const SEQUENCE_END: u8 = 2;
    pub(super) const CODED_FRAMES_X: u8 = 3;
    pub(super) const VIDEO_METADATA: u8 = 4;
    pub(super) const MULTICHANNEL_CONFIG: u8 = 4;
    pub(super) const MPEG2TS_SEQUENCE_START: u8 = 5;
    pub(super) const AUDIO_MULTITRACK: u8 = 5;
    pub(super) const VIDEO_MULTITRACK: u8 = 6;
    pub(super) const MOD_EX: u8 = 7;

    pub(super) const ONE_TRACK: u8 = 0;
    pub(super) const MANY_TRACKS_MANY_CODECS: u8 = 2;
}

#[cfg(test)]
mod tests;
