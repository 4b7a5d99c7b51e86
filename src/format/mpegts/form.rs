//! What each codec has in a transport stream: types, descriptors, and what is put before its payload.

use bytes::BufMut;

use super::TsError;
use crate::media::aac::{Adts, AudioSpecificConfig, MAX_ADTS};
use crate::media::h264::AvcConfig;
use crate::media::h265::HvcConfig;
use crate::media::nal::ParamSets;
use crate::media::{Codec, Frame, Kind, MediaError, Track};

/// The longest audio or data payload, so that with its headers it fits the 16 bits of a PES length.
const MAX_BOUNDED: usize = 65_000;
/// The longest packet with an ADTS header, whose length has 13 bits.
const MAX_AAC: usize = 8191 - MAX_ADTS;
/// The longest Opus packet: what 94 bytes of `au_size` can say. Real ones end at 7.7 kB.
const MAX_OPUS: usize = 94 * 255 - 1;

/// Bytes before one payload.
pub(super) type Prefix = heapless::Vec<u8, 96>;

/// Whether a transport stream can carry this codec.
#[must_use]
pub const fn carries(codec: Codec) -> bool {
    use Codec::{Aac, Ac3, Eac3, H264, H265, Klv, Mp3, Opus};
    matches!(codec, Aac | Ac3 | Eac3 | H264 | H265 | Klv | Mp3 | Opus)
}

/// `stream_type` in the PMT.
pub(super) fn stream_type(track: &Track) -> u8 {
    match track.codec {
        Codec::H264 => 0x1B,
        Codec::H265 => 0x24,
        Codec::Aac => 0x0F,
        Codec::Mp3 if (1..32_000).contains(&track.facts.sample_rate) => 0x04,
        Codec::Mp3 => 0x03,
        Codec::Ac3 => 0x81,
        Codec::Eac3 => 0x87,
        _ => 0x06,
    }
}

/// `stream_id` of PES packets.
pub(super) fn stream_id(codec: Codec) -> u8 {
    match codec {
        Codec::H264 | Codec::H265 => 0xE0,
        Codec::Aac | Codec::Mp3 => 0xC0,
        _ => 0xBD,
    }
}

/// Descriptors in the PMT.
pub(super) fn descriptors(track: &Track) -> Vec<u8> {
    let mut out = Vec::new();
    let registration = match track.codec {
        Codec::Ac3 => Some(b"AC-3"),
        Codec::Eac3 => Some(b"EAC3"),
        Codec::H265 => Some(b"HEVC"),
        Codec::Klv => Some(b"KLVA"),
        Codec::Opus => Some(b"Opus"),
        _ => None,
    };
    if let Some(name) = registration {
        out.put_slice(&[5, 4]);
        out.put_slice(name);
    }
    if track.codec == Codec::Opus {
        out.put_slice(&[0x7F, 2, 0x80, opus_channels(track)]);
    }
    if track.kind() == Kind::Audio && track.language != *b"und" {
        out.put_slice(&[0x0A, 4]);
        out.put_slice(&track.language);
        out.put_u8(0);
    }
    out
}

/// `channel_config_code`: how many channels, in the layout of RFC 7845 family 0 or 1.
fn opus_channels(track: &Track) -> u8 {
    let channels = track.config.get(9).copied().filter(|_| track.config.starts_with(b"OpusHead"));
    channels.or(Some(track.facts.channels)).filter(|n| (1..=8).contains(n)).unwrap_or(2)
}

/// What is put before payloads.
#[derive(Debug)]
pub(super) enum Form {
    /// An access unit delimiter, and before key frames parameter sets; all with start codes.
    AnnexB {
        aud: &'static [u8],
        sets: Vec<u8>,
    },
    /// An ADTS header, here for an empty packet.
    Adts(heapless::Vec<u8, MAX_ADTS>),
    /// The control header of Opus in MPEG-TS.
    Opus,
    Plain,
}

impl Form {
    pub(super) fn of(track: &Track) -> Result<Self, MediaError> {
        Ok(match track.codec {
            Codec::H264 => Self::AnnexB {
                aud: &[0, 0, 0, 1, 9, 0xF0],
                sets: with_start_codes(&AvcConfig::parse(&track.config)?.sets),
            },
            Codec::H265 => Self::AnnexB {
                aud: &[0, 0, 0, 1, 0x46, 1, 0x50],
                sets: with_start_codes(&HvcConfig::parse(&track.config)?.sets),
            },
            Codec::Aac => Self::Adts(AudioSpecificConfig::parse(&track.config)?.adts(0)?),
            Codec::Opus => Self::Opus,
            _ => Self::Plain,
        })
    }

    /// What goes before this frame's payload; for H.264 and H.265 the writer does it.
    pub(super) fn prefix(&self, frame: &Frame) -> Result<Prefix, TsError> {
        let len = frame.data.len();
        let max = match self {
            Self::AnnexB { .. } => usize::MAX,
            Self::Adts(_) => MAX_AAC,
            Self::Opus => MAX_OPUS,
            Self::Plain => MAX_BOUNDED,
        };
        if len > max {
            return Err(TsError::TooLong { track: frame.track, len, max });
        }
        let mut out = Prefix::new();
        match self {
            Self::Adts(header) => {
                out.extend(header.iter().copied());
                // What came by ADTS has its program config element (id_syn_ele 5) inside; one is enough.
                if frame.data.first().is_some_and(|byte| byte >> 5 == 5) {
                    out.truncate(Adts::LEN);
                }
                // aac_frame_length: 13 bits from the 31st on; the header has its own length there.
                let total = out.len() + len;
                if let Some([b3, b4, b5]) = out.get_mut(3..6) {
                    *b3 = *b3 & 0xFC | (total >> 11) as u8 & 3;
                    *b4 = (total >> 3) as u8;
                    *b5 = *b5 & 0x1F | (total << 5) as u8;
                }
            }
            Self::Opus => {
                // control_header_prefix of 11 bits, no trims, no extension; then the size in steps of 255.
                out.extend([0x7F, 0xE0]);
                out.extend(std::iter::repeat_n(255, len / 255));
                out.extend([(len % 255) as u8]);
            }
            Self::AnnexB { .. } | Self::Plain => {}
        }
        Ok(out)
    }
}

fn with_start_codes(sets: &ParamSets) -> Vec<u8> {
    let mut out = Vec::new();
    for nal in [&sets.vps, &sets.sps, &sets.pps].into_iter().flatten() {
        out.put_slice(&[0, 0, 0, 1]);
        out.put_slice(nal);
    }
    out
}
