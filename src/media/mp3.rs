//! MPEG audio, layers I to III of MPEG-1, MPEG-2 and MPEG-2.5 (ISO/IEC 11172-3 2.4.2.3, 13818-3).

use super::bits::Bits;
use super::{Facts, MediaError, Result};

/// Which standard a frame follows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Version {
    /// MPEG-1: 32 to 48 kHz.
    Mpeg1,
    /// MPEG-2: 16 to 24 kHz.
    Mpeg2,
    /// The common extension to 8 to 12 kHz.
    Mpeg25,
}

/// The header of a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// Which standard.
    pub version: Version,
    /// 1 to 3.
    pub layer: u8,
    /// Bits per second.
    pub bitrate: u32,
    /// Samples per second.
    pub sample_rate: u32,
    /// 1 or 2.
    pub channels: u8,
    /// Samples per channel in the frame.
    pub samples: u32,
    /// Bytes of the frame, header included.
    pub frame_len: usize,
}

impl Header {
    /// Bytes of a header.
    pub const LEN: usize = 4;

    /// Reads the header at the start of `data`.
    ///
    /// # Errors
    /// When there are fewer than 4 bytes, no sync word, or a reserved value; and for the free format, whose frames
    /// don't tell their size.
    pub fn parse(data: &[u8]) -> Result<Self> {
        let mut bits = Bits::new("MPEG audio header", data);
        let sync = bits.u(11, "syncword")?;
        if sync != 0x7FF {
            return Err(bits.invalid("syncword", u64::from(sync), "not 0x7FF"));
        }
        let version = match bits.u(2, "ID")? {
            0 => Version::Mpeg25,
            2 => Version::Mpeg2,
            3 => Version::Mpeg1,
            id => return Err(bits.invalid("ID", u64::from(id), "reserved")),
        };
        let layer = 4 - bits.u8(2, "layer")?;
        if layer == 4 {
            return Err(bits.invalid("layer", 0, "reserved: this may be ADTS"));
        }
        bits.skip(1, "protection_bit")?;
        let index = bits.u(4, "bitrate_index")?;
        if index == 0 {
            return Err(MediaError::Unsupported { what: "MPEG audio header", why: "free format" });
        }
        let kbits = bitrates(version, layer).get(index as usize - 1).copied();
        let kbits = kbits.ok_or_else(|| bits.invalid("bitrate_index", u64::from(index), "reserved"))?;
        let index = bits.u(2, "sampling_frequency")?;
        let base = [44_100, 48_000, 32_000].get(index as usize).copied();
        let base: u32 =
            base.ok_or_else(|| bits.invalid("sampling_frequency", u64::from(index), "reserved"))?;
        let sample_rate = match version {
            Version::Mpeg1 => base,
            Version::Mpeg2 => base / 2,
            Version::Mpeg25 => base / 4,
        };
        let padding = bits.u(1, "padding_bit")?;
        bits.skip(1, "private_bit")?;
        const MONO: u32 = 3;
        let channels = if bits.u(2, "mode")? == MONO { 1 } else { 2 };
        bits.skip(6, "mode_extension, copyright, original and emphasis")?;

        let samples = match (layer, version) {
            (1, _) => 384,
            (3, Version::Mpeg2 | Version::Mpeg25) => 576,
            _ => 1152,
        };
        let bitrate = u32::from(kbits) * 1000;
        // Slots of four bytes in layer I, of one in the others.
        let slot = if layer == 1 { 4 } else { 1 };
        let frame_len = (samples / 8 / slot * bitrate / sample_rate + padding) * slot;
        Ok(Self { version, layer, bitrate, sample_rate, channels, samples, frame_len: frame_len as usize })
    }

    pub(crate) fn facts(&self) -> Facts {
        Facts {
            profile: u32::from(self.layer),
            profile_name: match self.layer {
                1 => "Layer I",
                2 => "Layer II",
                _ => "Layer III",
            },
            sample_rate: self.sample_rate,
            channels: self.channels,
            // Object types of MPEG-1 and MPEG-2 audio.
            rfc6381: if self.version == Version::Mpeg1 { "mp4a.6B" } else { "mp4a.69" }.to_owned(),
            ..Facts::default()
        }
    }
}

/// Bit rates in kbit/s for index 1 to 14.
fn bitrates(version: Version, layer: u8) -> [u16; 14] {
    match (version, layer) {
        (Version::Mpeg1, 1) => [32, 64, 96, 128, 160, 192, 224, 256, 288, 320, 352, 384, 416, 448],
        (Version::Mpeg1, 2) => [32, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384],
        (Version::Mpeg1, _) => [32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320],
        (_, 1) => [32, 48, 56, 64, 80, 96, 112, 128, 144, 160, 176, 192, 224, 256],
        _ => [8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160],
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::media::test::{hex, mutations, truncations};
    use crate::media::{Codec, Track, TrackId};
    use proptest::prelude::*;

    fn read(data: &str) -> (u8, u32, u8, u32, usize) {
        let h = Header::parse(&hex(data)).unwrap();
        (h.layer, h.sample_rate, h.channels, h.samples, h.frame_len)
    }

    #[test]
    fn headers_of_encoders() {
        // Debian 12's ffmpeg 5.1: libmp3lame at 44.1 (128k), 22.05 (32k) and 11.025 kHz (16k), mp2 at 48 kHz (192k);
        // sizes as ffprobe shows them.
        assert_eq!(read("fffb9064"), (3, 44_100, 2, 1152, 417));
        assert_eq!(read("fffb9264"), (3, 44_100, 2, 1152, 418));
        assert_eq!(read("fff340c4"), (3, 22_050, 1, 576, 104));
        assert_eq!(read("ffe320c4"), (3, 11_025, 1, 576, 104));
        assert_eq!(read("fffda404"), (2, 48_000, 2, 1152, 576));
        // Layer I, 384 kbit/s at 48 kHz: 12 * 384000 / 48000 slots of 4 bytes.
        assert_eq!(read("ffffc400"), (1, 48_000, 2, 384, 384));
    }

    #[test]
    fn what_is_forbidden_is_an_error() {
        for data in ["", "fffb90", "ff1b9064", "ffeb9064", "fff19064", "fffb0064", "fffbf064", "fffb9c64"] {
            assert!(Header::parse(&hex(data)).is_err(), "{data}");
        }
    }

    #[test]
    fn a_track_learns_from_its_frames() {
        let mut track = Track::with_config(TrackId(1), Codec::Mp3, bytes::Bytes::new()).unwrap();
        assert!(!track.learn(b"no"));
        assert!(track.learn(&hex("fffb9064")));
        assert!(!track.learn(&hex("fffb9264")));
        let f = &track.facts;
        assert_eq!(
            (f.sample_rate, f.channels, f.profile_name, &*f.rfc6381),
            (44_100, 2, "Layer III", "mp4a.6B")
        );
        assert!(track.learn(&hex("fff340c4")));
        assert_eq!((track.facts.sample_rate, &*track.facts.rfc6381), (22_050, "mp4a.69"));
    }

    #[test]
    fn cut_and_changed_bytes_do_not_panic() {
        truncations(&hex("fffb9064")).for_each(|d| assert!(Header::parse(d).is_err()));
        mutations(&hex("fffb9064")).for_each(|d| _ = Header::parse(&d).map(|h| assert!(h.frame_len > 4)));
    }

    proptest! {
        #[test]
        fn any_bytes(data: [u8; 4]) {
            if let Ok(h) = Header::parse(&[0xFF, data[1] | 0xE0, data[2], data[3]]) {
                prop_assert!((24..=3000).contains(&h.frame_len), "{:?}", h);
            }
        }
    }
}
