//! Opus: `OpusHead` (RFC 7845 5.1) and the duration of a packet (RFC 6716 3.1).

use super::{Facts, MediaError, Result};

/// Samples per second that every Opus decoder gives.
pub const SAMPLE_RATE: u32 = 48_000;

const WHAT: &str = "OpusHead";

/// The identification header.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OpusHead {
    /// Output channels, 1 to 255.
    pub channels: u8,
    /// Samples at 48 kHz to throw away at the start.
    pub pre_skip: u16,
    /// Sample rate of the original, for information.
    pub input_rate: u32,
    /// Gain in dB, in 1/256.
    pub gain: i16,
    /// `None` for family 0: one stream, mono or stereo.
    pub mapping: Option<Mapping>,
}

/// The channel mapping table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mapping {
    /// Mapping family: 1 Vorbis order, 255 none.
    pub family: u8,
    /// Streams in a packet.
    pub streams: u8,
    /// How many of them are coupled.
    pub coupled: u8,
    /// Which decoded channel each output channel is; 255 is silence.
    pub channels: Vec<u8>,
}

impl OpusHead {
    /// Family 0 with these channels (1 or 2), for a source that sends no header.
    #[must_use]
    pub fn new(channels: u8) -> Self {
        // What libopus looks ahead at 48 kHz.
        Self {
            channels: channels.clamp(1, 2),
            pre_skip: 312,
            input_rate: SAMPLE_RATE,
            gain: 0,
            mapping: None,
        }
    }

    /// Reads a header with its magic. What follows is passed over.
    ///
    /// # Errors
    /// When it is truncated, of another major version, or has channels that can't be.
    pub fn parse(data: &[u8]) -> Result<Self> {
        let truncated = |field| MediaError::Truncated { what: WHAT, field, len: data.len() };
        let rest = data.strip_prefix(b"OpusHead").ok_or_else(|| truncated("magic (\"OpusHead\")"))?;
        let (&[version, channels, skip0, skip1, r0, r1, r2, r3, g0, g1, family], rest) =
            rest.split_first_chunk::<11>().ok_or_else(|| truncated("header"))?;
        let invalid =
            |field, value: u8, why| MediaError::Invalid { what: WHAT, field, value: u64::from(value), why };
        if version > 15 {
            return Err(invalid("version", version, "unknown (not 0 to 15)"));
        }
        let max = match family {
            0 => 2,
            1 => 8,
            _ => 255,
        };
        if channels == 0 || channels > max {
            return Err(invalid("channel count", channels, "out of range for its mapping family"));
        }
        let mapping = if family == 0 {
            None
        } else {
            let (&[streams, coupled], rest) =
                rest.split_first_chunk::<2>().ok_or_else(|| truncated("stream count"))?;
            let map = rest.get(..usize::from(channels)).ok_or_else(|| truncated("channel mapping"))?;
            if streams == 0 || coupled > streams || streams.checked_add(coupled).is_none() {
                return Err(invalid(
                    "stream count",
                    streams,
                    "0, less than the coupled ones, or more than fit",
                ));
            }
            if let Some(&bad) = map.iter().find(|&&c| c != 255 && c >= streams + coupled) {
                return Err(invalid("channel mapping", bad, "beyond the decoded channels"));
            }
            Some(Mapping { family, streams, coupled, channels: map.to_vec() })
        };
        Ok(Self {
            channels,
            pre_skip: u16::from_le_bytes([skip0, skip1]),
            input_rate: u32::from_le_bytes([r0, r1, r2, r3]),
            gain: i16::from_le_bytes([g0, g1]),
            mapping,
        })
    }

    /// The header as bytes.
    #[must_use]
    pub fn build(&self) -> Vec<u8> {
        let mut out = b"OpusHead\x01".to_vec();
        out.push(self.channels);
        out.extend_from_slice(&self.pre_skip.to_le_bytes());
        out.extend_from_slice(&self.input_rate.to_le_bytes());
        out.extend_from_slice(&self.gain.to_le_bytes());
        if let Some(mapping) = &self.mapping {
            out.extend_from_slice(&[mapping.family, mapping.streams, mapping.coupled]);
            out.extend_from_slice(&mapping.channels);
        } else {
            out.push(0);
        }
        out
    }

    pub(crate) fn facts(&self) -> Facts {
        Facts {
            sample_rate: SAMPLE_RATE,
            channels: self.channels,
            rfc6381: "opus".to_owned(),
            ..Facts::default()
        }
    }
}

/// How many samples at 48 kHz a packet gives.
///
/// # Errors
/// When it is empty, or gives none or more than the 120 ms that a packet may have.
pub fn packet_samples(packet: &[u8]) -> Result<u32> {
    const WHAT: &str = "Opus packet";
    let truncated = |field| MediaError::Truncated { what: WHAT, field, len: packet.len() };
    let &toc = packet.first().ok_or_else(|| truncated("TOC"))?;
    let config = toc >> 3;
    let frame = match config {
        // SILK: 10, 20, 40, 60 ms
        0..=11 => *[480, 960, 1920, 2880].get(usize::from(config & 3)).unwrap_or(&0),
        // Hybrid: 10, 20 ms
        12..=15 => 480 << (config & 1),
        // CELT: 2.5, 5, 10, 20 ms
        _ => 120 << (config & 3),
    };
    let frames = match toc & 3 {
        0 => 1,
        1 | 2 => 2,
        _ => u32::from(packet.get(1).ok_or_else(|| truncated("frame count"))? & 0x3F),
    };
    let samples = frame * frames;
    if samples == 0 || samples > 5760 {
        let value = u64::from(samples);
        return Err(MediaError::Invalid {
            what: WHAT,
            field: "duration in samples",
            value,
            why: "0 or above 5760 (120 ms)",
        });
    }
    Ok(samples)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::media::test::{hex, mutations, truncations};
    use crate::media::{Codec, Track, TrackId};
    use proptest::prelude::*;

    // Debian 12's ffmpeg 5.1, libopus 1.3: `-ac 2`, and `-ac 6 -mapping_family 1`.
    const STEREO: &str = "4f707573486561640102380180bb0000000000";
    const SURROUND: &str = "4f707573486561640106380180bb00000000010402000401020305";

    #[test]
    fn heads_of_ffmpeg() {
        assert_eq!(OpusHead::parse(&hex(STEREO)).unwrap(), OpusHead::new(2));
        let head = OpusHead::parse(&hex(SURROUND)).unwrap();
        assert_eq!((head.channels, head.mapping.as_ref().unwrap().streams), (6, 4));
        for data in [STEREO, SURROUND] {
            assert_eq!(OpusHead::parse(&hex(data)).unwrap().build(), hex(data));
        }
        let track = Track::with_config(TrackId(1), Codec::Opus, hex(SURROUND).into()).unwrap();
        assert_eq!(
            (track.facts.sample_rate, track.facts.channels, &*track.facts.rfc6381),
            (48_000, 6, "opus")
        );
    }

    #[test]
    fn a_track_without_head_is_stereo() {
        let mut track = Track::with_config(TrackId(1), Codec::Opus, bytes::Bytes::new()).unwrap();
        assert_eq!((track.facts.sample_rate, track.facts.channels), (48_000, 2));
        assert!(track.learn(&hex("fcb4065a")));
        assert_eq!(track.config, hex(STEREO));
        assert!(!track.learn(&hex("fcb4065a")));
    }

    #[test]
    fn durations() {
        // libopus with `-frame_duration 2.5`, 5, 20, 60, 120; then SILK of 60 ms and hybrid of 10 ms.
        let read = |packet: &str| packet_samples(&hex(packet)).unwrap();
        assert_eq!(["c073", "e87e", "f8b5", "fb83", "fb86"].map(read), [120, 240, 960, 2880, 5760]);
        assert_eq!(["18", "60", "61"].map(read), [2880, 480, 960]);
        for packet in ["", "fb", "fb80", "fb87", "1b03"] {
            assert!(packet_samples(&hex(packet)).is_err(), "{packet}");
        }
    }

    #[test]
    fn cut_and_changed_bytes_do_not_panic() {
        for data in [STEREO, SURROUND] {
            truncations(&hex(data)).for_each(|d| assert!(OpusHead::parse(d).is_err()));
            mutations(&hex(data)).for_each(|d| _ = OpusHead::parse(&d));
        }
    }

    proptest! {
        #[test]
        fn any_bytes(data: Vec<u8>) {
            if let Ok(head) = OpusHead::parse(&[b"OpusHead\x01", &*data].concat()) {
                prop_assert_eq!(OpusHead::parse(&head.build()), Ok(head));
            }
            let _ = packet_samples(&data);
        }
    }
}
