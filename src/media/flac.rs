//! FLAC (RFC 9639): STREAMINFO (8.2) and frame headers (9.1).

use bytes::Bytes;

use super::bits::Bits;
use super::{Facts, Result};

/// The STREAMINFO block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StreamInfo {
    /// Fewest samples per channel in a frame, the last apart.
    pub min_block: u16,
    /// Most samples per channel in a frame.
    pub max_block: u16,
    /// Samples per second.
    pub sample_rate: u32,
    /// 1 to 8.
    pub channels: u8,
    /// Bits of a sample, 4 to 32.
    pub depth: u8,
}

impl StreamInfo {
    /// Bytes of the block's body.
    pub const LEN: usize = 34;

    /// Reads the block's body; also with its header before it, and with the stream's marker before that.
    ///
    /// # Errors
    /// When it is truncated, or the sample rate is 0.
    pub fn parse(data: &[u8]) -> Result<Self> {
        let mut bits = Bits::new("FLAC STREAMINFO", body(data));
        let min_block = bits.u(16, "minimum block size")? as u16;
        let max_block = bits.u(16, "maximum block size")? as u16;
        bits.skip(48, "frame sizes")?;
        let sample_rate = bits.u(20, "sample rate")?;
        if sample_rate == 0 {
            return Err(bits.invalid("sample rate", 0, "nothing"));
        }
        let channels = bits.u8(3, "number of channels")? + 1;
        let depth = bits.u8(5, "bits per sample")? + 1;
        bits.skip(36 + 128, "number of samples and checksum")?;
        Ok(Self { min_block, max_block, sample_rate, channels, depth })
    }

    pub(crate) fn facts(&self) -> Facts {
        Facts {
            sample_rate: self.sample_rate,
            channels: self.channels,
            rfc6381: "fLaC".to_owned(),
            ..Facts::default()
        }
    }
}

/// The body of STREAMINFO, whatever of a native stream stands around it.
fn body(data: &[u8]) -> &[u8] {
    let data = data.strip_prefix(b"fLaC").unwrap_or(data);
    let block = match data {
        // Block type 0, 34 bytes, the last block or not. As a body these would be blocks of 0 samples.
        [0 | 0x80, 0, 0, 34, body @ ..] => body,
        _ => data,
    };
    block.get(..StreamInfo::LEN).unwrap_or(block)
}

/// [`body`] of shared bytes.
pub(crate) fn shared_body(data: &Bytes) -> Bytes {
    data.slice_ref(body(data))
}

/// The header of a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FrameHeader {
    /// Samples per channel in the frame.
    pub samples: u32,
    /// Samples per second; 0: as STREAMINFO says.
    pub sample_rate: u32,
    /// 1 to 8.
    pub channels: u8,
}

impl FrameHeader {
    /// Reads the header at the start of `data`.
    ///
    /// # Errors
    /// When it is truncated, has no sync code, or a reserved value.
    pub fn parse(data: &[u8]) -> Result<Self> {
        let mut bits = Bits::new("FLAC frame header", data);
        let sync = bits.u(15, "sync code")?;
        if sync != 0x7FFC {
            return Err(bits.invalid("sync code", u64::from(sync), "not 0x7FFC"));
        }
        bits.skip(1, "blocking strategy")?;
        let block = bits.u(4, "block size")?;
        let rate = bits.u(4, "sample rate")?;
        let channels = match bits.u8(4, "channels")? {
            n @ 0..=7 => n + 1,
            8..=10 => 2,
            n => return Err(bits.invalid("channels", u64::from(n), "reserved")),
        };
        bits.skip(4, "bit depth")?;
        // The frame's or sample's number, coded like UTF-8: the leading ones tell how many bytes it has.
        let ones = (bits.u8(8, "coded number")?).leading_ones();
        if ones == 1 || ones > 7 {
            return Err(bits.invalid("coded number", u64::from(ones), "not the start of a number"));
        }
        bits.skip(8 * ones.saturating_sub(1) as usize, "coded number")?;
        let samples = match block {
            1 => 192,
            2..=5 => 144 << block,
            6 => bits.u(8, "block size")? + 1,
            7 => bits.u(16, "block size")? + 1,
            8.. => 1 << block,
            _ => return Err(bits.invalid("block size", u64::from(block), "reserved")),
        };
        const RATES: [u32; 12] =
            [0, 88_200, 176_400, 192_000, 8000, 16_000, 22_050, 24_000, 32_000, 44_100, 48_000, 96_000];
        let sample_rate = match rate {
            12 => bits.u(8, "sample rate")? * 1000,
            13 => bits.u(16, "sample rate")?,
            14 => bits.u(16, "sample rate")? * 10,
            _ => match RATES.get(rate as usize) {
                Some(&known) => known,
                None => return Err(bits.invalid("sample rate", u64::from(rate), "forbidden")),
            },
        };
        Ok(Self { samples, sample_rate, channels })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::media::test::{hex, mutations, truncations};
    use crate::media::{Codec, MediaError, Track, TrackId};
    use proptest::prelude::*;

    // Debian 12's ffmpeg 5.1: `-ar 44100 -ac 2`, and `-ar 48000 -ac 6 -sample_fmt s32`.
    const STEREO: &str =
        "664c614300000022 1200120000046d0005080ac442f0000033ae36567c6137e8d578c431ed191fd85ff5";
    const SURROUND: &str =
        "664c614300000022 1200120000011b0005140bb80b7000003840ac6cb81e3336d327945e18447881da79";

    #[test]
    fn streaminfo_of_ffmpeg() {
        let read = |data: &[u8]| {
            let s = StreamInfo::parse(data).unwrap();
            (s.max_block, s.sample_rate, s.channels, s.depth)
        };
        for from in [0, 4, 8] {
            assert_eq!(read(&hex(STEREO)[from..]), (4608, 44_100, 2, 16));
            let track =
                Track::with_config(TrackId(1), Codec::Flac, hex(STEREO).split_off(from).into()).unwrap();
            assert_eq!(track.config, hex(STEREO)[8..]);
            assert_eq!((track.facts.sample_rate, &*track.facts.rfc6381), (44_100, "fLaC"));
        }
        assert_eq!(read(&hex(SURROUND)), (4608, 48_000, 6, 24));
        assert!(Track::with_config(TrackId(1), Codec::Flac, Bytes::new()).is_err());
    }

    #[test]
    fn frame_headers_of_ffmpeg() {
        let read = |data: &str| FrameHeader::parse(&hex(data));
        assert_eq!(read("fff85988008a"), Ok(FrameHeader { samples: 4608, sample_rate: 44_100, channels: 2 }));
        assert_eq!(read("fff85a5c00d9"), Ok(FrameHeader { samples: 4608, sample_rate: 48_000, channels: 6 }));
        // The last of a file: 8-bit and 16-bit block sizes, rates in full, a number of three bytes.
        assert_eq!(
            read("fff86c18e08080 0f 30"),
            Ok(FrameHeader { samples: 16, sample_rate: 48_000, channels: 2 })
        );
        assert_eq!(
            read("fff97e18 00 0fa5 1f40"),
            Ok(FrameHeader { samples: 4006, sample_rate: 80_000, channels: 2 })
        );
        for data in ["", "fff0598800", "fff8098800", "fff85fb800", "fff859b800", "fff859888000", "fff85988ff"]
        {
            assert!(read(data).is_err(), "{data}");
        }
    }

    #[test]
    fn cut_and_changed_bytes_do_not_panic() {
        truncations(&hex(STEREO)[8..]).for_each(|d| {
            assert!(matches!(StreamInfo::parse(d), Err(MediaError::Truncated { .. })), "{}", d.len());
        });
        mutations(&hex(STEREO)).for_each(|d| _ = StreamInfo::parse(&d));
        mutations(&hex("fff86e18e080800f303132")).for_each(|d| _ = FrameHeader::parse(&d));
    }

    proptest! {
        #[test]
        fn any_bytes(data: Vec<u8>) {
            let _ = StreamInfo::parse(&data);
            if let Ok(h) = FrameHeader::parse(&[&[0xFF, 0xF8], &*data].concat()) {
                prop_assert!((1..=65_536).contains(&h.samples));
            }
        }
    }
}
