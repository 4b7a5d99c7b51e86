//! MPEG transport stream (ISO/IEC 13818-1): [`Muxer`] and [`Demuxer`].
//!
//! | codec | `stream_type` | told by | PES `stream_id` | payload |
//! |---|---|---|---|---|
//! | H.264 | 0x1B | | 0xE0 | Annex B, a delimiter first |
//! | H.265 | 0x24 | registration `HEVC` | 0xE0 | Annex B, a delimiter first |
//! | AAC | 0x0F | | 0xC0 | ADTS |
//! | MP3 | 0x03, or 0x04 below 32 kHz | | 0xC0 | frames |
//! | AC-3 | 0x81 | registration `AC-3` | 0xBD | frames |
//! | E-AC-3 | 0x87 | registration `EAC3` | 0xBD | frames |
//! | Opus | 0x06 | registration `Opus`, extension descriptor 0x7F/0x80 with the channels | 0xBD | control header and packet |
//! | KLV | 0x06 | registration `KLVA` | 0xBD | SMPTE 336M (ST 1402 asynchronous, but with PTS, as ffmpeg does) |
//!
//! That is what is written. Read are also: AAC in LATM (0x11), AC-3 and E-AC-3 told by DVB descriptors or Blu-ray
//! types, HEVC in 0x06, synchronous KLV (0x15), packets of 192 and 204 bytes, and other private data as
//! [`Codec::Data`](crate::media::Codec::Data). Not carried: AV1, VP8, VP9, FLAC, G.711; not read: MPEG-2
//! video, DVB subtitles and teletext, section streams (SCTE 35), anything scrambled.
//!
//! Times on the wire are 33 bits at 90 kHz. Here they are 64 bits that never wrap.

mod audio;
mod demux;
mod form;
pub(in crate::format) mod latm;
mod mux;
mod packet;
mod pes;
mod psi;
mod stream;
mod sync;

pub use demux::{Counters, Demuxer, Event, MAX_STREAMS};
pub use form::carries;
pub use mux::{MAX_TRACKS, MuxOptions, Muxer};
pub use sync::Aligner;

#[cfg(test)]
mod tests;

use crate::media::TrackId;

/// Bytes of a transport packet.
pub const PACKET: usize = 188;

/// Ticks per second of PTS, DTS and PCR base.
pub const TIMESCALE: u32 = 90_000;

/// The PID of the program association table.
const PAT_PID: u16 = 0;

/// Bits of a time on the wire.
const TIME_MASK: u64 = (1 << 33) - 1;

/// Why a frame can't be put into a transport stream.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TsError {
    /// The frame has no track among those that were set.
    #[error("MPEG-TS: track {} is not among the tracks to mux, or its codec has no place in MPEG-TS; skip its frames", .0.0)]
    UnknownTrack(TrackId),
    /// The track has no config that could be read, or AAC of a kind that ADTS can't say.
    #[error("MPEG-TS: track {} has no usable codec config yet: {why}", .track.0)]
    NoConfig {
        /// Which track.
        track: TrackId,
        /// What is wrong with it.
        why: String,
    },
    /// The frame is too long for its codec's form in a transport stream.
    #[error("MPEG-TS: a frame of {len} bytes on track {} is beyond the {max} bytes that its form allows; skip it", .track.0)]
    TooLong {
        /// Which track.
        track: TrackId,
        /// Bytes of the frame.
        len: usize,
        /// The most there can be.
        max: usize,
    },
}
