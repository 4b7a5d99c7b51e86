//! From bytes to what is known of a track, whatever its codec.

use bytes::Bytes;

use super::aac::AudioSpecificConfig;
use super::av1::{Av1Config, SequenceHeader};
use super::h264::AvcConfig;
use super::h265::HvcConfig;
use super::nal::{ParamSets, Role, nals};
use super::opus::OpusHead;
use super::vp9::VpcConfig;
use super::{Codec, Facts, MediaError, Result, Track, TrackId, ac3, av1, flac, g711, h264, h265, mp3, vp9};

/// The longest [`Track::config`] in bytes. Real ones have less than a thousand; each stream keeps its own.
pub const MAX_CONFIG: usize = 64 * 1024;

impl Track {
    /// A track whose config came with it, in the form that the [module](super) page gives for the codec.
    ///
    /// Fills [`Track::facts`]. `config` is kept as it is, except that H.264 and H.265 records which promise
    /// other than 4-byte lengths, or hold start codes, are rebuilt: ask [`length_size`] with the config as it
    /// came before frames are [normalised](super::nal::normalise). Of VP9 the box's version and flags, of FLAC the stream
    /// marker and block header are cut off, where they came along.
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
            Codec::Av1 if !config.is_empty() => (Av1Config::parse(&config)?.facts(), config),
            Codec::Vp9 if !config.is_empty() => {
                (VpcConfig::parse(&config)?.facts(), vp9::shared_content(&config))
            }
            Codec::Flac => (flac::StreamInfo::parse(&config)?.facts(), flac::shared_body(&config)),
            Codec::Opus if config.is_empty() => (OpusHead::new(2).facts(), config),
            Codec::Opus => (OpusHead::parse(&config)?.facts(), config),
            Codec::G711A | Codec::G711U => (g711::facts(), config),
            Codec::Ac3 => (named("ac-3"), config),
            Codec::Eac3 => (named("ec-3"), config),
            Codec::Mp3 => (named("mp4a.6B"), config),
            Codec::Vp8 => (named("vp8"), config),
            Codec::Av1 | Codec::Data | Codec::Klv | Codec::Vp9 => (Facts::default(), config),
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

    /// Fills [`Track::facts`] (AV1, Opus, VP9: also [`Track::config`]) from a frame, for codecs that tell in their frames:
    /// AC-3, E-AC-3, AV1, MP3, VP8, VP9, and Opus without a header. Cheap; may be called for every frame. Tells whether
    /// anything changed; what can't be read changes nothing.
    pub fn learn(&mut self, data: &[u8]) -> bool {
        let mut config = None;
        let facts = match self.codec {
            Codec::Ac3 | Codec::Eac3 => match ac3::Header::parse(data) {
                Ok(h) if !h.dependent && (h.sample_rate, h.channels) != self.sound() => h.facts(),
                _ => return false,
            },
            Codec::Mp3 => match mp3::Header::parse(data) {
                Ok(h)
                    if (h.sample_rate, h.channels) != self.sound()
                        || u32::from(h.layer) != self.facts.profile =>
                {
                    h.facts()
                }
                _ => return false,
            },
            Codec::Opus if self.config.is_empty() => {
                let head = OpusHead::new(2);
                config = Some(head.build().into());
                head.facts()
            }
            Codec::Av1 => return self.learn_av1(data),
            Codec::Vp8 => match vp9::vp8_key(data) {
                Ok(Some((width, height))) => Facts { width, height, ..self.facts.clone() },
                _ => return false,
            },
            Codec::Vp9 => match vp9::FrameHeader::parse(data) {
                Ok(vp9::FrameHeader { profile, key: Some(key) }) => {
                    // What the publisher said of level and colours stands, unless it is of another stream.
                    let known = VpcConfig::parse(&self.config).ok().filter(|c| c.profile == profile);
                    let vpc = known.unwrap_or_else(|| VpcConfig::of(profile, &key));
                    if known.is_none() {
                        config = Some(Bytes::copy_from_slice(&vpc.build()));
                    }
                    Facts { width: key.width, height: key.height, ..vpc.facts() }
                }
                _ => return false,
            },
            _ => return false,
        };
        let changed = facts != self.facts || config.is_some();
        self.facts = facts;
        self.config = config.unwrap_or_else(|| self.config.clone());
        changed
    }

    /// A new sequence header counts when what we tell of it differs: encoders repeat it, and some write another into
    /// their file header.
    fn learn_av1(&mut self, data: &[u8]) -> bool {
        let Some(obu) = av1::find_sequence_header(data) else { return false };
        let Ok(facts) = SequenceHeader::parse(obu.payload).map(|h| h.facts()) else { return false };
        if facts == self.facts && !self.config.is_empty() {
            return false;
        }
        av1::build_config(&obu).is_ok_and(|config| self.set_config(config).is_ok())
    }

    fn sound(&self) -> (u32, u8) {
        (self.facts.sample_rate, self.facts.channels)
    }

    /// Whether the frame is a B-frame that is shown before one sent earlier: as [`is_b_frame`], but no where the
    /// config rules out that frames are put in order.
    #[must_use]
    pub fn is_b_frame(&self, data: &[u8]) -> bool {
        self.facts.reorder != Some(0) && is_b_frame(self.codec, data)
    }
}

/// What is known of a codec that tells the rest in its frames.
fn named(rfc6381: &str) -> Facts {
    Facts { rfc6381: rfc6381.to_owned(), ..Facts::default() }
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
/// H.264: an IDR picture, or one with a recovery point SEI; H.265: an IRAP picture; AV1, VP8, VP9: a key frame. Audio and
/// data: always.
#[must_use]
pub fn is_key(codec: Codec, data: &[u8]) -> bool {
    match codec {
        Codec::H264 => nals(data).any(|nal| match Role::of(codec, nal) {
            Role::KeySlice => true,
            Role::Sei => h264::is_recovery_point(nal),
            _ => false,
        }),
        Codec::H265 => nals(data).any(|nal| Role::of(codec, nal) == Role::KeySlice),
        Codec::Av1 => av1::is_key(data),
        Codec::Vp8 => matches!(vp9::vp8_key(data), Ok(Some(_))),
        Codec::Vp9 => vp9::FrameHeader::parse(data).is_ok_and(|h| h.key.is_some()),
        _ => true,
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
