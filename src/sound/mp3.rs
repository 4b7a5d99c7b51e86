//! MPEG audio, layers I to III, by nanomp3: no C, no unsafe code; the only one here that computes with fractions.

use nanomp3_core as lib;

use super::{Pcm, Result, SoundError};
use crate::media::Codec;
use crate::media::mp3::Header;

/// Decodes one or two channels.
pub(super) struct Decoder {
    decoder: Box<lib::Decoder>,
    buffer: Box<[i16]>,
}

impl Decoder {
    pub(super) fn new() -> Self {
        let buffer = vec![0; lib::MAX_SAMPLES_PER_FRAME].into();
        Self { decoder: Box::new(lib::Decoder::new()), buffer }
    }

    /// What a frame holds; silence of its length where it refers to others that were not seen.
    pub(super) fn decode(&mut self, frame: &[u8], pcm: &mut Pcm) -> Result<()> {
        let header = Header::parse(frame).map_err(|_| SoundError::Packet(Codec::Mp3))?;
        let (_, decoded) = self.decoder.decode(frame, &mut self.buffer);
        if let Ok(info) = decoded {
            let channels = info.channels.num();
            let samples = self.buffer.get(..info.samples_produced * usize::from(channels));
            if let Some(samples) = samples.filter(|samples| !samples.is_empty()) {
                pcm.set(info.sample_rate, channels, samples);
                return Ok(());
            }
        }
        (pcm.rate, pcm.channels) = (header.sample_rate, header.channels);
        pcm.silence(header.samples as usize);
        Ok(())
    }
}

impl std::fmt::Debug for Decoder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Decoder").finish_non_exhaustive()
    }
}
