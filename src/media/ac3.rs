//! AC-3 and E-AC-3 (ETSI TS 102 366): the header of a sync frame (4.3.1, 4.3.2; E.1.2.1, E.1.2.2).

use super::bits::Bits;
use super::{Facts, Result};

/// The header of a sync frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// E-AC-3, not AC-3.
    pub enhanced: bool,
    /// Bytes of the sync frame, header included.
    pub frame_len: usize,
    /// Samples per second.
    pub sample_rate: u32,
    /// Channels, low frequency effects included.
    pub channels: u8,
    /// Samples per channel: 1536, or fewer in E-AC-3.
    pub samples: u32,
    /// Whether it only adds to the sync frame before it (E-AC-3 dependent substream).
    pub dependent: bool,
}

impl Header {
    /// Bytes that [`parse`](Self::parse) needs.
    pub const LEN: usize = 7;

    /// Reads the header at the start of `data`.
    ///
    /// # Errors
    /// When there are fewer than 7 bytes, no sync word, or a reserved value.
    pub fn parse(data: &[u8]) -> Result<Self> {
        let mut bits = Bits::new("AC-3 header", data);
        if data.len() < Self::LEN {
            return Err(bits.truncated("header"));
        }
        let sync = bits.u(16, "syncword")?;
        if sync != 0x0B77 {
            return Err(bits.invalid("syncword", u64::from(sync), "not 0x0B77"));
        }
        // The version stands at the same place in both.
        match data.get(5).map(|b| b >> 3) {
            Some(bsid @ 0..=10) => Self::ac3(bits, bsid),
            Some(11..=16) => Self::eac3(bits),
            Some(bsid) => Err(bits.invalid("bsid", u64::from(bsid), "unknown (not 0 to 16)")),
            None => Err(bits.truncated("bsid")),
        }
    }

    fn ac3(mut bits: Bits<'_>, bsid: u8) -> Result<Self> {
        /// kbit/s, for each two frame size codes.
        const RATES: [u32; 19] =
            [32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384, 448, 512, 576, 640];
        bits.skip(16, "crc1")?;
        let code = bits.u(2, "fscod")?;
        let rate = sample_rate(&bits, code)?;
        let size = bits.u(6, "frmsizecod")?;
        let kbits = RATES.get(size as usize / 2).copied();
        let kbits =
            kbits.ok_or_else(|| bits.invalid("frmsizecod", u64::from(size), "out of range (0 to 37)"))?;
        // 1536 samples in words of 16 bits; at 44.1 kHz every other frame may have one more (table 4.13).
        let words = kbits * 96_000 / rate + if rate == 44_100 { size & 1 } else { 0 };
        bits.skip(8, "bsid and bsmod")?;
        let acmod = bits.u(3, "acmod")?;
        // Mix levels stand between, depending on the layout.
        let mut between = 0;
        between += if acmod & 1 != 0 && acmod != 1 { 2 } else { 0 };
        between += if acmod & 4 != 0 { 2 } else { 0 };
        between += if acmod == 2 { 2 } else { 0 };
        bits.skip(between, "mix levels")?;
        Ok(Self {
            enhanced: false,
            frame_len: 2 * words as usize,
            // Versions 9 and 10 halve the rate, and halve it again.
            sample_rate: rate >> bsid.saturating_sub(8),
            channels: channels(acmod) + bits.u8(1, "lfeon")?,
            samples: 1536,
            dependent: false,
        })
    }

    fn eac3(mut bits: Bits<'_>) -> Result<Self> {
        let kind = bits.u(2, "strmtyp")?;
        if kind == 3 {
            return Err(bits.invalid("strmtyp", 3, "reserved"));
        }
        bits.skip(3, "substreamid")?;
        let frame_len = 2 * (bits.u(11, "frmsiz")? as usize + 1);
        if frame_len < Self::LEN {
            return Err(bits.invalid("frmsiz", frame_len as u64, "smaller than the header"));
        }
        let code = bits.u(2, "fscod")?;
        let (sample_rate, blocks) = if code == 3 {
            let code = bits.u(2, "fscod2")?;
            (sample_rate(&bits, code)? / 2, 6)
        } else {
            let blocks = [1, 2, 3, 6].get(bits.u(2, "numblkscod")? as usize).copied();
            (sample_rate(&bits, code)?, blocks.unwrap_or(6))
        };
        let acmod = bits.u(3, "acmod")?;
        Ok(Self {
            enhanced: true,
            frame_len,
            sample_rate,
            channels: channels(acmod) + bits.u8(1, "lfeon")?,
            samples: 256 * blocks,
            dependent: kind == 1,
        })
    }

    pub(crate) fn facts(&self) -> Facts {
        Facts {
            sample_rate: self.sample_rate,
            channels: self.channels,
            rfc6381: if self.enhanced { "ec-3" } else { "ac-3" }.to_owned(),
            ..Facts::default()
        }
    }
}

fn sample_rate(bits: &Bits<'_>, code: u32) -> Result<u32> {
    let rate = [48_000, 44_100, 32_000].get(code as usize).copied();
    rate.ok_or_else(|| bits.invalid("fscod", u64::from(code), "reserved"))
}

/// Full channels of `acmod` (table 4.4).
fn channels(acmod: u32) -> u8 {
    [2, 1, 2, 3, 3, 4, 4, 5].get(acmod as usize).copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::media::test::{hex, mutations, truncations};
    use crate::media::{Codec, Track, TrackId};
    use proptest::prelude::*;

    // Debian 12's ffmpeg 5.1: `ac3` at 48 kHz 5.1 448k, 44.1 kHz stereo 192k (two frames), 32 kHz mono 64k;
    // `eac3` at 48 kHz 5.1 256k, 44.1 kHz stereo 96k. Sizes as the distance of their sync words.
    const AC3: &str = "0b77b50b1e40ebf8";
    const EAC3: &str = "0b7701ff3f87c000";

    fn read(data: &str) -> (bool, usize, u32, u8, u32) {
        let h = Header::parse(&hex(data)).unwrap();
        assert!(!h.dependent);
        (h.enhanced, h.frame_len, h.sample_rate, h.channels, h.samples)
    }

    #[test]
    fn headers_of_ffmpeg() {
        assert_eq!(read(AC3), (false, 1792, 48_000, 6, 1536));
        assert_eq!(read("0b77c2ea544043e1"), (false, 834, 44_100, 2, 1536));
        assert_eq!(read("0b77c2ea554043e1"), (false, 836, 44_100, 2, 1536));
        assert_eq!(read("0b77999b88402f84"), (false, 384, 32_000, 1, 1536));
        assert_eq!(read(EAC3), (true, 1024, 48_000, 6, 1536));
        assert_eq!(read("0b7700cf7487c000"), (true, 416, 44_100, 2, 1536));
    }

    #[test]
    fn a_track_learns_from_its_frames() {
        for (codec, data, rfc6381) in [(Codec::Ac3, AC3, "ac-3"), (Codec::Eac3, EAC3, "ec-3")] {
            let mut track = Track::with_config(TrackId(1), codec, bytes::Bytes::new()).unwrap();
            assert_eq!(track.facts.rfc6381, rfc6381);
            assert!(track.learn(&hex(data)));
            assert!(!track.learn(&hex(data)));
            assert_eq!((track.facts.sample_rate, track.facts.channels), (48_000, 6));
        }
    }

    #[test]
    fn what_is_forbidden_is_an_error() {
        for data in ["0b76b50b1e40eb", "0b77b50bde40eb", "0b77b50b2640eb", "0b77b50b1ef8eb", "0b77c1ff3f87c0"]
        {
            assert!(Header::parse(&hex(data)).is_err(), "{data}");
        }
        assert!(Header::parse(&hex("0b7700013487c0")).is_err());
        for data in [AC3, EAC3] {
            truncations(&hex(data)[..7]).for_each(|d| assert!(Header::parse(d).is_err()));
            mutations(&hex(data)).for_each(|d| _ = Header::parse(&d));
        }
    }

    proptest! {
        #[test]
        fn any_bytes(data: [u8; 5]) {
            if let Ok(h) = Header::parse(&[&[0x0B, 0x77], &data[..]].concat()) {
                prop_assert!(h.frame_len >= 7 && h.frame_len <= 4096 && h.sample_rate >= 8000);
            }
        }
    }
}
