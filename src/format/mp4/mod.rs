//! MP4 (ISO/IEC 14496-12, "ISO base media file format"), progressive and fragmented, and CMAF (ISO/IEC 23000-19).
//!
//! | codec | entry | config box | `Sample::data` is a frame's payload as it is |
//! |---|---|---|---|
//! | H.264 | `avc1` | `avcC` (14496-15 5.3.3) | yes: parameter sets stand in the config alone |
//! | H.265 | `hvc1` | `hvcC` (14496-15 8.3.3) | yes, likewise |
//! | AV1 | `av01` | `av1C` (AV1 in ISOBMFF 2.3) | yes |
//! | VP8, VP9 | `vp08`, `vp09` | `vpcC` (VP in ISOBMFF 2.2) | yes |
//! | AAC | `mp4a` | `esds`, object type 0x40 (14496-14 5.6) | yes |
//! | MP3 | `mp4a` | `esds`, object type 0x6B, or 0x69 up to 24 kHz | yes |
//! | Opus | `Opus` | `dOps` (Opus in ISOBMFF 4.3.2) | yes |
//! | FLAC | `fLaC` | `dfLa` (FLAC in ISOBMFF 3.3.2) | yes |
//! | AC-3, E-AC-3 | `ac-3`, `ec-3` | `dac3`, `dec3` (ETSI TS 102 366 F.4, F.6) | yes |
//!
//! Writing: [`init_segment`] and [`fragment`] (whose payloads are shared, never copied), [`styp`], [`sidx`], [`prft`]
//! and [`emsg`] to go before a fragment; [`movie`] and [`file_head`] for progressive files from [`SampleTable`]s.
//! [`Protection`] is common encryption by its scheme `cbcs` (ISO/IEC 23001-7). Reading: [`Reader`].
//!
//! Times are ticks of the track's timescale in the file, 64 bits. Not written: edit lists in fragmented files (a
//! decoder's delay, as Opus's pre-skip, is told by the config box alone), data tracks, G.711.

mod boxes;
mod entry;
mod fragment;
mod init;
mod input;
mod movie;
mod protect;
mod read;
mod table;

pub use fragment::{Emsg, Reference, Run, Sample, Sidx, emsg, fragment, prft, sidx, styp};
pub use init::{Mp4Track, init_segment};
pub use movie::{Movie, MovieTrack, Samples};
pub use protect::{Protection, Subsamples};
pub use read::{End, Found, Fragment, Reader};
pub use table::{Entry, MAX_SAMPLES, SampleTable, file_head, movie};

#[cfg(test)]
mod read_tests;
#[cfg(test)]
mod tests;

use crate::media::{Codec, MediaError, Track};

/// Ticks per second of video tracks, where nothing else commends itself: what MPEG-TS has.
pub const VIDEO_TIMESCALE: u32 = 90_000;

/// The most tracks of a file.
pub const MAX_TRACKS: usize = 32;

/// Whether MP4 has a place for this codec.
#[must_use]
pub const fn carries(codec: Codec) -> bool {
    use Codec::{Aac, Ac3, Av1, Eac3, Flac, H264, H265, Mp3, Opus, Vp8, Vp9};
    matches!(codec, Aac | Ac3 | Av1 | Eac3 | Flac | H264 | H265 | Mp3 | Opus | Vp8 | Vp9)
}

/// The timescale that a track has in a file: 90 000 for video, the sample rate for audio (48 000 while unknown).
#[must_use]
pub fn timescale(track: &Track) -> u32 {
    match track.kind() {
        crate::media::Kind::Audio if track.facts.sample_rate > 0 => track.facts.sample_rate,
        crate::media::Kind::Audio => 48_000,
        _ => VIDEO_TIMESCALE,
    }
}

/// Why MP4 can't be written or read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Mp4Error {
    /// There is no sample entry for this codec.
    #[error("MP4: {0} has no place in it; leave out this track, or use FLV")]
    Codec(Codec),
    /// The track can't be described yet.
    #[error(
        "MP4: the config of the {codec} track is missing or can't be read ({why}); wait until it has one"
    )]
    NoConfig {
        /// Its codec.
        codec: Codec,
        /// What is wrong with it.
        why: String,
    },
    /// A fragment or table is beyond what its fields can say.
    #[error("MP4: {what} is {value}, more than the {max} that fit; cut it into smaller pieces")]
    TooLarge {
        /// What is.
        what: &'static str,
        /// How large.
        value: u64,
        /// The most there can be.
        max: u64,
    },
    /// A box ends before what it promises, or reaches beyond what it is in.
    #[error("MP4: box {} at byte {at} is cut short", kind_text(.kind))]
    Truncated {
        /// Its type.
        kind: [u8; 4],
        /// Where it is in the file.
        at: u64,
    },
    /// A box says what can't be, or what is beyond our bounds.
    #[error("MP4: {what} of box {} is {value}, which is {why}", kind_text(.kind))]
    Invalid {
        /// The box's type.
        kind: [u8; 4],
        /// The field.
        what: &'static str,
        /// Its value.
        value: u64,
        /// What is wrong with it.
        why: &'static str,
    },
    /// The file has no `moov`: it is not MP4, or was never finished.
    #[error(
        "MP4: there is no moov box; the file is not MP4, or the recording of it was cut before it could be finished"
    )]
    NoMovie,
    /// A codec's config in the file can't be read.
    #[error("MP4: {0}")]
    Media(#[from] MediaError),
}

/// A box's type for people: `moov`, or `0x00000000` where it has no letters.
fn kind_text(kind: &[u8; 4]) -> String {
    if kind.iter().all(|b| b.is_ascii_graphic() || *b == b' ') {
        kind.iter().map(|&b| char::from(b)).collect()
    } else {
        format!("0x{:08x}", u32::from_be_bytes(*kind))
    }
}
