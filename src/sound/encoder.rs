//! What encodes, whichever codec it is.

use bytes::Bytes;

use super::{RATE, Result, Target, aac, opus};
use crate::media::aac::AudioSpecificConfig;
use crate::media::opus::OpusHead;
use crate::media::{Codec, Facts, Track, TrackId};

/// Samples of 48 kHz to packets.
#[derive(Debug)]
pub(super) enum Encoder {
    Aac(aac::Encoder),
    Opus(opus::Encoder),
}

impl Encoder {
    pub(super) fn new(target: Target, channels: u8) -> Result<Self> {
        Ok(match target {
            Target::Aac { bitrate } => Self::Aac(aac::Encoder::new(channels, bitrate)?),
            Target::Opus { bitrate } => Self::Opus(opus::Encoder::new(channels, bitrate)?),
        })
    }

    /// Samples of each channel in a packet.
    pub(super) fn frame(&self) -> usize {
        match self {
            Self::Aac(_) => aac::FRAME,
            Self::Opus(_) => opus::FRAME,
        }
    }

    /// How many samples before those put in the sound of a packet begins.
    pub(super) fn delay(&self) -> u32 {
        match self {
            Self::Aac(encoder) => encoder.delay(),
            Self::Opus(encoder) => encoder.delay(),
        }
    }

    /// The packet of [`frame`](Self::frame) samples; empty if it has none yet.
    pub(super) fn encode(&mut self, samples: &[i16]) -> Result<Vec<u8>> {
        match self {
            Self::Aac(encoder) => encoder.encode(samples),
            Self::Opus(encoder) => encoder.encode(samples),
        }
    }

    /// The track that it makes, in ticks of 48 kHz.
    pub(super) fn track(&self, from: &Track, id: TrackId, channels: u8) -> Track {
        let (codec, config, facts) = match self {
            Self::Aac(encoder) => {
                let config = Bytes::copy_from_slice(encoder.config());
                let facts =
                    AudioSpecificConfig::parse(&config).map_or_else(|_| Facts::default(), |c| c.facts());
                (Codec::Aac, config, facts)
            }
            Self::Opus(encoder) => {
                let pre_skip = u16::try_from(encoder.delay()).unwrap_or_default();
                let head = OpusHead { pre_skip, ..OpusHead::new(channels) };
                (Codec::Opus, head.build().into(), head.facts())
            }
        };
        Track {
            codec,
            config,
            facts,
            timescale: RATE,
            language: from.language,
            group: from.group,
            ..Track::new(id, codec)
        }
    }
}
