//! What a stream carries, whatever protocol brought it: [`Frame`]s on [`Track`]s of a [`Codec`].
//!
//! Payload forms (one for the whole server, so that FLV and MP4 take them as they are):
//!
//! | codec | [`Frame::data`] | [`Track::config`] |
//! |---|---|---|
//! | H.264 | NAL units, each after a 4-byte big-endian length, without AUD/SPS/PPS | `avcC` record (ISO/IEC 14496-15 5.3.3) |
//! | H.265 | the same, without AUD/VPS/SPS/PPS | `hvcC` record (14496-15 8.3.3) |
//! | AV1 | a temporal unit of OBUs with size fields, without temporal delimiter | `av1C` record |
//! | VP8, VP9 | a frame (VP9: or superframe) | VP9: `vpcC` content after the box's version and flags; VP8: empty |
//! | AAC | a raw access unit, no ADTS | AudioSpecificConfig (14496-3 1.6.2.1) |
//! | Opus | a packet | `OpusHead` (RFC 7845 5.1) with its magic |
//! | FLAC | a frame | STREAMINFO body, 34 bytes |
//! | MP3, AC-3, E-AC-3 | one frame with its header | empty |
//! | G.711 | samples, 8 kHz mono unless the facts say otherwise | empty |
//! | KLV, other data | opaque | empty |

//!
//! The codecs' own modules read and build the configs and what of the payloads a server must know;
//! [`nal`] brings H.264 and H.265 into their form. [`Track::with_config`], [`Track::update_sets`],
//! [`Track::learn`], [`is_key`] and [`is_b_frame`] are the way in for protocols.

pub mod aac;
pub mod ac3;
pub mod av1;
mod bits;
mod codec;
mod facts;
pub mod flac;
mod frame;
pub mod g711;
pub mod h264;
pub mod h265;
pub mod mp3;
pub mod nal;
pub mod opus;
#[cfg(test)]
pub(crate) mod test;
mod track;
pub mod vp9;

pub use codec::{Codec, Kind};
pub use facts::{MAX_CONFIG, is_b_frame, is_key, length_size};
pub use frame::{Flags, Frame};
pub use track::{Direction, Facts, Meta, MetaValue, Track, TrackId, rescale};

/// Why media bytes could not be understood.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum MediaError {
    /// The bytes end before the element they promise.
    #[error("{what}: ends after {len} bytes, in the middle of {field}")]
    Truncated {
        /// The structure that was read, e.g. `"H.264 SPS"`.
        what: &'static str,
        /// The element it ended in.
        field: &'static str,
        /// How many bytes there were.
        len: usize,
    },
    /// An element has a value that its specification forbids, or that is beyond our bounds.
    #[error("{what}: {field} is {value}, which is {why}")]
    Invalid {
        /// The structure that was read.
        what: &'static str,
        /// The element.
        field: &'static str,
        /// Its value.
        value: u64,
        /// e.g. `"out of range (0 to 31)"`.
        why: &'static str,
    },
    /// Valid, but of a kind that this server does not carry.
    #[error("{what}: {why}")]
    Unsupported {
        /// The structure that was read.
        what: &'static str,
        /// What about it.
        why: &'static str,
    },
}

/// Result of reading media bytes.
pub type Result<T, E = MediaError> = std::result::Result<T, E>;
