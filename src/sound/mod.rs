//! Sound from one coding into another, for those who can't take what a stream has: browsers play Opus by WebRTC and nothing
//! of AAC, players of RTMP and HLS want AAC and know no Opus.
//!
//! | from | to |
//! |---|---|
//! | AAC (LC, HE, HE v2), MP3, MPEG layers I and II, G.711 | Opus |
//! | Opus, G.711, MP3 | AAC-LC |
//!
//! A [`Transcoder`] takes frames and gives frames: no task, no clock, no socket. Whoever needs one for a stream makes one and
//! shares what it gives. All of it computes with whole numbers, since the boards that this is for have no floating-point
//! unit; only MP3 does not, for want of a decoder with a licence to ship.
//!
//! **Time.** What comes out is 48 kHz and goes on without a hole: samples that are missing are made up by the decoder, longer
//! holes are silence, and past [`MAX_FILL_MS`] the timeline begins anew. A source whose clock runs faster or slower than it
//! says is stretched by up to 0.25 %, which nobody hears. The time of each frame is that of the sound in it: what the codecs
//! look ahead is taken off.
//!
//! **Delay** that this adds: a packet's worth (20 ms of Opus, 21 of AAC) while it fills, and what the encoder looks ahead:
//! 6.5 ms for Opus, 33 for AAC.
//!
//! Not there: AC-3, E-AC-3 and FLAC; AAC Main, SSR and LTP; more than two channels out.

mod aac;
mod decoder;
mod encoder;
mod g711;
mod mix;
mod mp3;
mod opus;
mod resample;
#[cfg(test)]
mod tests;
mod transcoder;

pub use transcoder::{MAX_FILL_MS, Statistics, Target, Transcoder, can};

use crate::media::Codec;

/// Samples per second that every encoder here takes.
const RATE: u32 = 48_000;

/// Why sound can't be had in another coding.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SoundError {
    /// A library said no.
    #[error("{library} can't {what}: error {code}")]
    Library {
        /// `"fdk-aac"` or `"libopus"`.
        library: &'static str,
        /// What was asked of it.
        what: &'static str,
        /// Its number for the reason.
        code: i64,
    },
    /// A packet, or what a decoder has to know before the first, is none of its codec.
    #[error("this is no {0}, or damaged")]
    Packet(Codec),
    /// Nothing here reads or writes this.
    #[error("{from} can't be turned into {to}; publish AAC or Opus")]
    Unsupported {
        /// What the stream has.
        from: Codec,
        /// What was wanted.
        to: Codec,
    },
}

type Result<T, E = SoundError> = std::result::Result<T, E>;

/// Decoded sound, channels in turn. Reused from packet to packet.
#[derive(Debug, Default)]
struct Pcm {
    /// Samples per second.
    rate: u32,
    /// Channels; with three and more, in the order of Vorbis.
    channels: u8,
    samples: Vec<i16>,
}

impl Pcm {
    /// Samples of each channel.
    fn len(&self) -> usize {
        self.samples.len() / usize::from(self.channels.max(1))
    }

    fn set(&mut self, rate: u32, channels: u8, samples: &[i16]) {
        (self.rate, self.channels) = (rate, channels);
        self.samples.clear();
        self.samples.extend_from_slice(samples);
    }

    /// Silence of this many samples of each channel.
    fn silence(&mut self, len: usize) {
        self.samples.clear();
        self.samples.resize(len * usize::from(self.channels), 0);
    }
}
