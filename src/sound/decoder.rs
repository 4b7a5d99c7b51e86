//! What decodes, whichever codec it is.

use super::{Pcm, Result, SoundError, aac, g711, mp3, opus};
use crate::media::aac::AudioSpecificConfig;
use crate::media::opus::{self as packets, OpusHead};
use crate::media::{Codec, Track};

/// Packets of one track to samples.
#[derive(Debug)]
pub(super) enum Decoder {
    Aac(aac::Decoder),
    Mp3(mp3::Decoder),
    Opus(opus::Decoder),
    G711 { law: fn(u8) -> i16, rate: u32, channels: u8 },
}

impl Decoder {
    pub(super) fn new(track: &Track, to: Codec) -> Result<Self> {
        Ok(match track.codec {
            Codec::Aac => {
                // The library takes what is none for what it knows.
                AudioSpecificConfig::parse(&track.config).map_err(|_| SoundError::Packet(Codec::Aac))?;
                Self::Aac(aac::Decoder::new(&track.config)?)
            }
            Codec::Mp3 => Self::Mp3(mp3::Decoder::new()),
            Codec::Opus => {
                let head = OpusHead::parse(&track.config).unwrap_or_else(|_| OpusHead::new(2));
                Self::Opus(opus::Decoder::new(&head)?)
            }
            Codec::G711A | Codec::G711U => Self::G711 {
                law: if track.codec == Codec::G711A { g711::a_law } else { g711::mu_law },
                rate: match track.facts.sample_rate {
                    0 => crate::media::g711::SAMPLE_RATE,
                    rate => rate,
                },
                channels: track.facts.channels.clamp(1, 2),
            },
            from => return Err(SoundError::Unsupported { from, to }),
        })
    }

    /// What a packet holds.
    pub(super) fn decode(&mut self, packet: &[u8], pcm: &mut Pcm) -> Result<()> {
        match self {
            Self::Aac(decoder) => decoder.decode(packet, pcm),
            Self::Mp3(decoder) => decoder.decode(packet, pcm),
            Self::Opus(decoder) => decoder.decode(packet, pcm),
            Self::G711 { law, rate, channels } => {
                (pcm.rate, pcm.channels) = (*rate, *channels);
                pcm.samples.clear();
                // More than a second in a packet is none.
                let most = *rate as usize * usize::from(*channels);
                pcm.samples.extend(packet.iter().take(most).map(|&byte| law(byte)));
                Ok(())
            }
        }
    }

    /// Makes up as much of `len` missing samples (of 48 kHz) as it can at a time; `next` is the packet after them, if they are
    /// the last ones missing. An error where the codec can't.
    pub(super) fn conceal(&mut self, len: usize, next: Option<&[u8]>, pcm: &mut Pcm) -> Result<()> {
        match self {
            Self::Aac(decoder) => decoder.conceal(pcm),
            Self::Opus(decoder) => match next {
                // What a packet tells of the one before it is as long as it is itself.
                Some(packet) => match packets::packet_samples(packet) {
                    Ok(of_it) if len > of_it as usize => decoder.conceal(len - of_it as usize, None, pcm),
                    Ok(_) => decoder.conceal(len, Some(packet), pcm),
                    Err(_) => decoder.conceal(len, None, pcm),
                },
                None => decoder.conceal(len, None, pcm),
            },
            Self::Mp3(_) | Self::G711 { .. } => Err(SoundError::Packet(Codec::G711A)),
        }
    }

    /// By how many samples (of the rate decoded to) sound comes out later than it went in.
    pub(super) fn delay(&self) -> u32 {
        match self {
            Self::Aac(decoder) => decoder.delay(),
            // The synthesis filter of MPEG audio.
            Self::Mp3(_) => 529,
            Self::Opus(_) | Self::G711 { .. } => 0,
        }
    }
}
