//! From bytes to what is known of a track, whatever its codec.

use bytes::Bytes;

use super::aac::AudioSpecificConfig;
use super::h264::AvcConfig;
use super::h265::HvcConfig;
use super::nal::{ParamSets, Role, nals};
use super::{Codec, Facts, Kind, MediaError, Result, Track, TrackId, h264, h265};

/// The longest [`Track::config`] in bytes. Real ones have less than a thousand; each stream keeps its own.
pub const MAX_CONFIG: usize = 64 * 1024;

impl Track {
    /// A track whose config came with it, in the form that the [module](super) page gives for the codec.
    ///
    /// Fills [`Track::facts`]. `config` is kept as it is, except that H.264 and H.265 records which promise
    /// other than 4-byte lengths, or hold start codes, are rebuilt: ask [`length_size`] with the config as it
    /// came before frames are [normalised](super::nal::normalise).
    ///
    /// # Errors
    /// When the config can't be read, is missing where the codec [needs one](Codec::needs_config), or is longer
    /// than [`MAX_CONFIG`].
    pub fn with_config(id: TrackId, codec: Codec, config: Bytes) -> Result<Self> {
        let mut track = Self::new(id, codec);
        track.set_config(config)?;
        Ok(track)
    }

    /// Replaces [`Track::config`] and what of [`Track::facts`] comes from it, as [`Track::with_config`] does.
    ///
    /// # Errors
    /// As [`Track::with_config`]; the track is then as it was.
    pub fn set_config(&mut self, config: Bytes) -> Result<()> {
        if config.len() > MAX_CONFIG {
            let (what, value) = (self.codec.name(), config.len() as u64);
            return Err(MediaError::Invalid {
                what,
                field: "length of the config",
                value,
                why: "above 65536 bytes",
            });
        }
        (self.facts, self.config) = match self.codec {
            Codec::Aac => (AudioSpecificConfig::parse(&config)?.facts(), config),
            Codec::H264 => {
                let avc = AvcConfig::parse(&config)?;
                let kept = if avc.length_size == 4 && !avc.repaired { config } else { avc.build()? };
                (avc.sps()?.facts(), kept)
            }
            Codec::H265 => {
                let hvc = HvcConfig::parse(&config)?;
                let kept = if hvc.length_size == 4 && !hvc.repaired { config } else { hvc.build()? };
                (hvc.sps()?.facts(), kept)
            }
            _ => (Facts::default(), config),
        };
        Ok(())
    }

    /// Takes over parameter sets that came in band (H.264, H.265): a set replaces the one of its id, or is added.
    /// Tells whether that changed [`Track::config`]; then the frame is [`NEW_CONFIG`](super::Flags::NEW_CONFIG).
    /// A track without config gets one when all kinds of sets are there.
    ///
    /// # Errors
    /// When the sets can't be read; the track is then as it was.
    pub fn update_sets(&mut self, new: &ParamSets) -> Result<bool> {
        if new.is_empty() {
            return Ok(false);
        }
        let mut sets = match self.codec {
            _ if self.config.is_empty() => ParamSets::default(),
            Codec::H264 => AvcConfig::parse(&self.config)?.sets,
            Codec::H265 => HvcConfig::parse(&self.config)?.sets,
            _ => return Ok(false),
        };
        let changed = sets.merge(self.codec, new);
        let complete = !sets.sps.is_empty() && !sets.pps.is_empty();
        let config = match self.codec {
            Codec::H264 if changed && complete => AvcConfig::new(sets)?.build()?,
            Codec::H265 if changed && complete && !sets.vps.is_empty() => HvcConfig::new(sets)?.build()?,
            _ => return Ok(false),
        };
        self.set_config(config)?;
        Ok(true)
    }

    /// Whether the frame is a B-frame that is shown before one sent earlier: as [`is_b_frame`], but no where the
    /// config rules out that frames are put in order.
    #[must_use]
    pub fn is_b_frame(&self, data: &[u8]) -> bool {
        self.facts.reorder != Some(0) && is_b_frame(self.codec, data)
    }
}

/// How many bytes the lengths in frames of this config have: 1 to 4, or 0 for Annex B; 4 for codecs without lengths.
///
/// # Errors
/// When the config can't be read.
pub fn length_size(codec: Codec, config: &[u8]) -> Result<u8> {
    match codec {
        Codec::H264 => Ok(AvcConfig::parse(config)?.length_size),
        Codec::H265 => Ok(HvcConfig::parse(config)?.length_size),
        _ => Ok(4),
    }
}

/// Whether a decoder can start at this frame. `data` is in the form of [`Frame::data`](super::Frame::data).
///
/// H.264: an IDR picture, or one with a recovery point SEI; H.265: an IRAP picture. Audio and data: always.
#[must_use]
pub fn is_key(codec: Codec, data: &[u8]) -> bool {
    match codec {
        Codec::H264 => nals(data).any(|nal| match Role::of(codec, nal) {
            Role::KeySlice => true,
            Role::Sei => h264::is_recovery_point(nal),
            _ => false,
        }),
        Codec::H265 => nals(data).any(|nal| Role::of(codec, nal) == Role::KeySlice),
        _ => codec.kind() != Kind::Video,
    }
}

/// Whether the first slice of this frame is a B slice. Cheap: reads some bytes of one slice header. `data` is in the
/// form of [`Frame::data`](super::Frame::data).
///
/// H.265 encoders code frames that refer only to the past as B slices too (generalised P/B), so there
/// [`Track::is_b_frame`] is the better question. No for all codecs but H.264 and H.265.
#[must_use]
pub fn is_b_frame(codec: Codec, data: &[u8]) -> bool {
    let first_slice = || nals(data).find(|nal| matches!(Role::of(codec, nal), Role::Slice | Role::KeySlice));
    match codec {
        Codec::H264 => first_slice().is_some_and(h264::is_b_slice),
        Codec::H265 => first_slice().is_some_and(h265::is_b_slice),
        _ => false,
    }
}
