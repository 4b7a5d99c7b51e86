//! RTP (RFC 3550): packets, reports, and how each codec's frames are laid into packets.
//!
//! | part | what it is |
//! |---|---|
//! | [`packet`] | headers with their extensions (RFC 8285), read and written |
//! | [`rtcp`] | reports, and feedback: NACK, PLI, FIR, REMB, transport-wide (RFC 4585, 5104) |
//! | [`jitter`] | puts packets in order, and knows which are missing |
//! | [`clock`] | unwraps 16 and 32 bit counters; senders' clocks brought onto one timeline |
//! | [`dts`] | decoding times of pictures whose packets tell only when they are shown |
//! | one file a payload format | frames to payloads ([`Packetise`]) and back ([`Depacketise`]) |
//!
//! Frames have the form of [`media`](crate::media). Everything that a peer can make grow is bounded: a frame by
//! [`MAX_FRAME`], a jitter buffer by packets and bytes.

pub mod clock;
pub mod dts;
pub mod jitter;
pub mod packet;
pub mod rtcp;

mod aac;
mod assembly;
mod audio;
mod av1;
mod h264;
mod h265;
mod key;
mod klv;
mod latm;
mod mpa;
#[cfg(test)]
mod test;
mod vp8;
mod vp9;

use bytes::Bytes;

pub use self::aac::AacFormat;
pub use self::key::starts_key;
pub use self::packet::{Extensions, Header, HeaderBytes, Packet, write_header};
use crate::media::{Codec, Track};

/// The longest frame that is put together from packets, in bytes: 2 seconds at 16 Mbit/s. Longer ones are dropped.
pub const MAX_FRAME: usize = 4 << 20;

/// The most bytes of a payload that a datagram has room for beside all headers, on any path. With header, extensions, tag,
/// UDP and IPv6 that is below 1300.
pub const MAX_PAYLOAD: usize = 1180;

/// Why bytes are no RTP or RTCP.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RtpError {
    /// The bytes end before the element they promise.
    #[error("{what}: ends after {len} bytes, in the middle of {field}")]
    Truncated {
        /// The structure that was read.
        what: &'static str,
        /// The element it ended in.
        field: &'static str,
        /// How many bytes there were.
        len: usize,
    },
    /// Something else than RTP.
    #[error("version {0} of RTP, but there is only 2")]
    Version(u8),
}

/// What one packet carries: a few bytes of the payload format's own, and a piece of the frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Payload {
    /// The payload format's header.
    pub head: Head,
    /// Shares the frame's memory where the format allows it.
    pub body: Bytes,
    /// The packet's marker bit.
    pub marker: bool,
    /// Ticks of the RTP clock from the frame's time to this packet's; 0 unless a frame is many packets of sound.
    pub later: u32,
}

/// The bytes that a payload format sets before a piece of a frame.
pub type Head = heapless::Vec<u8, 16>;

impl Payload {
    fn new(head: &[u8], body: Bytes) -> Self {
        Self { head: Head::from_slice(head).unwrap_or_default(), body, marker: false, later: 0 }
    }

    /// How many bytes it has.
    #[must_use]
    pub fn len(&self) -> usize {
        self.head.len() + self.body.len()
    }

    /// Whether it has none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// Lays frames of one track into packets.
pub trait Packetise: Send {
    /// Takes over what of the track goes into packets: parameter sets.
    fn set_track(&mut self, _track: &Track) {}

    /// Appends the payloads of a frame, in order. `key`: a decoder can start here, and gets what it needs for that.
    fn frame(&mut self, data: &Bytes, key: bool, out: &mut Vec<Payload>);
}

/// A packet's payload on its way into a frame. Packets come in order.
#[derive(Debug, Clone, Copy)]
pub struct Piece<'a> {
    /// What the packet carries.
    pub payload: &'a Bytes,
    /// Its marker bit.
    pub marker: bool,
    /// Its time, unwrapped.
    pub timestamp: i64,
    /// Packets between the one before and this are missing.
    pub lost: bool,
}

/// A frame that was put together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unit {
    /// When it is shown, in ticks of the RTP clock, unwrapped.
    pub timestamp: i64,
    /// The frame. H.264 and H.265: NAL units after 4-byte lengths, parameter sets among them; all else in the form of
    /// [`media`](crate::media).
    pub data: Bytes,
    /// Packets, or whole frames, before it are missing.
    pub lost: bool,
    /// A config that stood in the stream (LATM), where it is not the one of before.
    pub config: Option<Bytes>,
}

/// Puts frames of one track together.
pub trait Depacketise: Send + Sync {
    /// Takes the next packet, and gives the frames that are complete.
    fn push(&mut self, piece: &Piece<'_>, each: &mut dyn FnMut(Unit));
}

/// How a session lays a codec into packets, where there is a choice.
#[derive(Debug, Clone)]
pub struct Format {
    /// The most bytes of a payload.
    pub max_payload: usize,
    /// Ticks per second of the RTP clock.
    pub clock_rate: u32,
    /// H.264: packets may hold several NAL units, or a piece of one (`packetization-mode=1`).
    pub fragments: bool,
    /// AAC in the form of RFC 3640: sizes of its fields.
    pub aac: AacFormat,
    /// AAC in the form of RFC 6416 (`MP4A-LATM`): the StreamMuxConfig of the session description; in band where that is
    /// empty. `None`: RFC 3640.
    pub latm: Option<Bytes>,
}

impl Format {
    /// The usual form of a codec on a clock.
    #[must_use]
    pub fn new(clock_rate: u32) -> Self {
        Self { max_payload: MAX_PAYLOAD, clock_rate, fragments: true, aac: AacFormat::HBR, latm: None }
    }
}

/// What lays frames of a codec into packets; `None`: RTP has no form for it that we know.
#[must_use]
pub fn packetiser(codec: Codec, format: &Format) -> Option<Box<dyn Packetise>> {
    let max = format.max_payload.max(64);
    Some(match codec {
        Codec::Aac if format.latm.is_some() => Box::new(latm::Packetiser::new(max)),
        Codec::Aac => Box::new(aac::Packetiser::new(format.aac, max)),
        Codec::Ac3 | Codec::Eac3 => Box::new(audio::Ac3Packetiser::new(codec, max)),
        Codec::Av1 => Box::new(av1::Packetiser::new(max)),
        Codec::G711A | Codec::G711U => Box::new(audio::SamplesPacketiser::new(max)),
        Codec::H264 => Box::new(h264::Packetiser::new(max, format.fragments)),
        Codec::H265 => Box::new(h265::Packetiser::new(max)),
        Codec::Klv => Box::new(klv::Packetiser::new(max)),
        Codec::Mp3 => Box::new(mpa::Packetiser::new(max)),
        Codec::Opus => Box::new(audio::WholePacketiser),
        Codec::Vp8 => Box::new(vp8::Packetiser::new(max)),
        Codec::Vp9 => Box::new(vp9::Packetiser::new(max)),
        Codec::Data | Codec::Flac => return None,
    })
}

/// What puts frames of a codec together; `None`: RTP has no form for it that we know.
#[must_use]
pub fn depacketiser(codec: Codec, format: &Format) -> Option<Box<dyn Depacketise>> {
    Some(match codec {
        Codec::Aac => match &format.latm {
            Some(config) => Box::new(latm::Depacketiser::new(config)),
            None => Box::new(aac::Depacketiser::new(format.aac)),
        },
        Codec::Ac3 | Codec::Eac3 => Box::new(audio::Ac3Depacketiser::new(codec)),
        Codec::Av1 => Box::new(av1::Depacketiser::default()),
        Codec::G711A | Codec::G711U | Codec::Opus => Box::new(audio::WholeDepacketiser),
        Codec::H264 => Box::new(h264::Depacketiser::default()),
        Codec::H265 => Box::new(h265::Depacketiser::default()),
        Codec::Klv => Box::new(klv::Depacketiser::default()),
        Codec::Mp3 => Box::new(mpa::Depacketiser::new(format.clock_rate)),
        Codec::Vp8 => Box::new(vp8::Depacketiser::default()),
        Codec::Vp9 => Box::new(vp9::Depacketiser::default()),
        Codec::Data | Codec::Flac => return None,
    })
}

/// Cuts `len` bytes into as few pieces of at most `max` as will do, all of one length but for the last: what is sent
/// together can be cut by the kernel then.
fn pieces(len: usize, max: usize) -> impl Iterator<Item = std::ops::Range<usize>> {
    let count = len.div_ceil(max.max(1)).max(1);
    let size = len.div_ceil(count).max(1);
    (0..count).map(move |n| (n * size).min(len)..((n + 1) * size).min(len)).filter(|range| !range.is_empty())
}
