//! VP9: the uncompressed header (VP9 bitstream specification 6.2) and `vpcC` (VP codec ISO media file format binding
//! 2.2); and what of VP8 (RFC 6386 9.1) a server must know.

use bytes::Bytes;

use super::bits::Bits;
use super::{Facts, MediaError, Result};

/// The beginning of a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FrameHeader {
    /// 0 to 3.
    pub profile: u8,
    /// What a key frame tells; `None` in all other frames.
    pub key: Option<KeyFrame>,
}

/// What the header of a key frame tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KeyFrame {
    /// Frame width in pixels.
    pub width: u32,
    /// Frame height in pixels.
    pub height: u32,
    /// Bits of a sample: 8, 10 or 12.
    pub bit_depth: u8,
    /// `subsampling_x` and `subsampling_y`.
    pub subsampling: (bool, bool),
    /// Whether samples use all values.
    pub full_range: bool,
}

impl FrameHeader {
    /// Reads the header of a frame, or of the first frame of a superframe.
    ///
    /// # Errors
    /// When it is truncated, or a marker is wrong.
    pub fn parse(data: &[u8]) -> Result<Self> {
        let mut bits = Bits::new("VP9 frame header", data);
        let marker = bits.u(2, "frame_marker")?;
        if marker != 2 {
            return Err(bits.invalid("frame_marker", u64::from(marker), "not 2"));
        }
        let profile = bits.u8(1, "profile_low_bit")? | bits.u8(1, "profile_high_bit")? << 1;
        if profile == 3 && bits.flag("reserved_zero")? {
            return Err(bits.invalid("profile", 4, "reserved"));
        }
        // show_existing_frame has no frame behind it; frame_type is 0 for a key frame.
        if bits.flag("show_existing_frame")? || bits.flag("frame_type")? {
            return Ok(Self { profile, key: None });
        }
        bits.skip(2, "show_frame and error_resilient_mode")?;
        let sync = bits.u(24, "frame_sync_code")?;
        if sync != 0x49_83_42 {
            return Err(bits.invalid("frame_sync_code", u64::from(sync), "not 0x498342"));
        }
        let bit_depth = match profile {
            0 | 1 => 8,
            _ if bits.flag("ten_or_twelve_bit")? => 12,
            _ => 10,
        };
        const RGB: u32 = 7;
        let mut subsampling = (true, true);
        let mut full_range = true;
        if bits.u(3, "color_space")? == RGB {
            if profile & 1 == 0 {
                return Err(bits.invalid("color_space", u64::from(RGB), "not possible in profiles 0 and 2"));
            }
            subsampling = (false, false);
            bits.skip(1, "reserved_zero")?;
        } else {
            full_range = bits.flag("color_range")?;
            if profile & 1 == 1 {
                subsampling = (bits.flag("subsampling_x")?, bits.flag("subsampling_y")?);
                bits.skip(1, "reserved_zero")?;
            }
        }
        let width = bits.u(16, "frame_width_minus_1")? + 1;
        let height = bits.u(16, "frame_height_minus_1")? + 1;
        Ok(Self { profile, key: Some(KeyFrame { width, height, bit_depth, subsampling, full_range }) })
    }
}

/// `vpcC` (VPCodecConfigurationRecord).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct VpcConfig {
    /// 0 to 3.
    pub profile: u8,
    /// Ten times the level: 31 is level 3.1.
    pub level: u8,
    /// Bits of a sample: 8, 10 or 12.
    pub bit_depth: u8,
    /// 0 and 1 4:2:0, 2 4:2:2, 3 4:4:4.
    pub chroma: u8,
    /// Whether samples use all values.
    pub full_range: bool,
    /// `colourPrimaries`, `transferCharacteristics` and `matrixCoefficients` (ITU-T H.273); 2 is unspecified.
    pub colours: [u8; 3],
}

impl VpcConfig {
    /// Bytes of the record.
    pub const LEN: usize = 8;

    /// The record of a stream with this key frame; the level is that of its size.
    #[must_use]
    pub fn of(profile: u8, key: &KeyFrame) -> Self {
        // Luma picture sizes of the levels, in samples.
        const LEVELS: [(u32, u8); 9] = [
            (36_864, 10),
            (73_728, 11),
            (122_880, 20),
            (245_760, 21),
            (552_960, 30),
            (983_040, 31),
            (2_228_224, 40),
            (8_912_896, 50),
            (35_651_584, 60),
        ];
        let size = key.width.saturating_mul(key.height);
        Self {
            profile,
            level: LEVELS.iter().find(|(max, _)| size <= *max).map_or(62, |(_, level)| *level),
            bit_depth: key.bit_depth,
            chroma: match key.subsampling {
                (true, true) => 1,
                (true, false) => 2,
                _ => 3,
            },
            full_range: key.full_range,
            colours: [2; 3],
        }
    }

    /// Reads the record, with or without the box's version and flags before it.
    ///
    /// # Errors
    /// When it is truncated, or a value is out of range.
    pub fn parse(data: &[u8]) -> Result<Self> {
        let mut bits = Bits::new("vpcC", content(data));
        let config = Self {
            profile: bits.u8(8, "profile")?,
            level: bits.u8(8, "level")?,
            bit_depth: bits.u8(4, "bitDepth")?,
            chroma: bits.u8(3, "chromaSubsampling")?,
            full_range: bits.flag("videoFullRangeFlag")?,
            colours: [bits.u8(8, "colourPrimaries")?, bits.u8(8, "transfer")?, bits.u8(8, "matrix")?],
        };
        if config.profile > 3 {
            return Err(bits.invalid("profile", u64::from(config.profile), "out of range (0 to 3)"));
        }
        if !matches!(config.bit_depth, 8 | 10 | 12) {
            return Err(bits.invalid("bitDepth", u64::from(config.bit_depth), "not 8, 10 or 12"));
        }
        Ok(config)
    }

    /// The record as bytes.
    #[must_use]
    pub fn build(&self) -> [u8; Self::LEN] {
        let formats = self.bit_depth << 4 | (self.chroma & 7) << 1 | u8::from(self.full_range);
        let [primaries, transfer, matrix] = self.colours;
        [self.profile, self.level, formats, primaries, transfer, matrix, 0, 0]
    }

    pub(crate) fn facts(&self) -> Facts {
        Facts {
            profile: u32::from(self.profile),
            profile_name: ["Profile 0", "Profile 1", "Profile 2", "Profile 3"]
                .get(usize::from(self.profile))
                .unwrap_or(&""),
            level: u32::from(self.level),
            rfc6381: format!("vp09.{:02}.{:02}.{:02}", self.profile, self.level, self.bit_depth),
            ..Facts::default()
        }
    }
}

/// The record without the box's version and flags: `01 00 00 00` can't begin one, as its bit depth would be 0.
pub(crate) fn content(data: &[u8]) -> &[u8] {
    data.strip_prefix(&[1, 0, 0, 0]).unwrap_or(data)
}

/// The same for shared bytes.
pub(crate) fn shared_content(data: &Bytes) -> Bytes {
    data.slice_ref(content(data))
}

/// Width and height of a VP8 key frame; `None` in all other frames.
///
/// # Errors
/// When it is truncated, or its start code is wrong.
pub fn vp8_key(data: &[u8]) -> Result<Option<(u32, u32)>> {
    const WHAT: &str = "VP8 frame header";
    let truncated = |field| MediaError::Truncated { what: WHAT, field, len: data.len() };
    let (tag, rest) = data.split_first_chunk::<3>().ok_or_else(|| truncated("frame tag"))?;
    if tag.first().is_some_and(|b| b & 1 == 1) {
        return Ok(None);
    }
    let &[a, b, c, w0, w1, h0, h1] = rest.first_chunk::<7>().ok_or_else(|| truncated("key frame header"))?;
    if [a, b, c] != [0x9D, 0x01, 0x2A] {
        let value = u64::from(u32::from_be_bytes([0, a, b, c]));
        return Err(MediaError::Invalid { what: WHAT, field: "start code", value, why: "not 0x9D012A" });
    }
    // The two high bits tell how a player may scale.
    let size = |low, high| u32::from(u16::from_le_bytes([low, high]) & 0x3FFF);
    Ok(Some((size(w0, w1), size(h0, h1))))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::media::test::{hex, mutations, truncations};
    use crate::media::{Codec, Track, TrackId, is_key};
    use proptest::prelude::*;

    // Debian 12's ffmpeg 5.1, libvpx 1.12, `-f lavfi -i testsrc2 -deadline realtime`: the first bytes of a key frame and
    // of the one after it, and the box that its MP4 muxer writes.
    /// 1280x720
    const KEY: &str = "82498342004ff02cf60638241c184a18";
    const INTER: &str = "86004092f121400600c67f91f8bffa3f";
    const BOX: &str = "01000000001f820202020000";
    /// 322x178, `yuv422p10le`
    const KEY_422: &str = "b124c1a10200a0805 8b031c120e0c2c0";
    const BOX_422: &str = "01000000030ba40202020000";
    /// VP8, 322x178
    const VP8_KEY: &str = "5069009d012a4201b20000070885";
    const VP8_INTER: &str = "911f0009108c001ecfaa84696344";

    #[test]
    fn headers_of_libvpx() {
        let key = |data: &str| FrameHeader::parse(&hex(data)).unwrap().key.unwrap();
        let k = key(KEY);
        assert_eq!(
            (k.width, k.height, k.bit_depth, k.subsampling, k.full_range),
            (1280, 720, 8, (true, true), false)
        );
        let k = key(KEY_422);
        assert_eq!((k.width, k.height, k.bit_depth, k.subsampling), (322, 178, 10, (true, false)));
        assert_eq!(FrameHeader::parse(&hex(INTER)), Ok(FrameHeader { profile: 0, key: None }));
        assert!(
            is_key(Codec::Vp9, &hex(KEY)) && !is_key(Codec::Vp9, &hex(INTER)) && !is_key(Codec::Vp9, &[])
        );
        assert!(FrameHeader::parse(&hex("4249834200")).is_err());
        assert!(FrameHeader::parse(&hex("824983430000000000")).is_err());
    }

    #[test]
    fn boxes_of_ffmpeg() {
        for (data, key) in [(BOX, KEY), (BOX_422, KEY_422)] {
            let config = VpcConfig::parse(&hex(data)).unwrap();
            assert_eq!(VpcConfig::parse(&hex(data)[4..]), Ok(config));
            assert_eq!(config.build(), hex(data)[4..]);
            // ffmpeg, too, takes the level from the size.
            let header = FrameHeader::parse(&hex(key)).unwrap();
            assert_eq!(
                VpcConfig { level: 11, ..VpcConfig::of(header.profile, &header.key.unwrap()) },
                VpcConfig { level: 11, ..config }
            );
        }
        let track = Track::with_config(TrackId(0), Codec::Vp9, hex(BOX).into()).unwrap();
        assert_eq!(track.config, hex(BOX)[4..]);
        assert_eq!((&*track.facts.rfc6381, track.facts.profile_name), ("vp09.00.31.08", "Profile 0"));
    }

    #[test]
    fn a_track_learns_from_its_key_frames() {
        let mut track = Track::new(TrackId(0), Codec::Vp9);
        assert!(!track.learn(&hex(INTER)));
        assert!(track.learn(&hex(KEY)));
        assert!(!track.learn(&hex(KEY)));
        assert_eq!((track.facts.width, &*track.facts.rfc6381), (1280, "vp09.00.31.08"));
        assert_eq!(track.config, hex(BOX)[4..]);

        // What the config says of colours and level stays when the size comes.
        let config = hex("00 29 82 01 01 01 0000");
        let mut track = Track::with_config(TrackId(0), Codec::Vp9, config.clone().into()).unwrap();
        assert!(track.learn(&hex(KEY)));
        assert_eq!((track.facts.height, track.facts.level, track.config.to_vec()), (720, 41, config));

        let mut track = Track::new(TrackId(0), Codec::Vp8);
        assert!(!track.learn(&hex(VP8_INTER)));
        assert!(track.learn(&hex(VP8_KEY)));
        assert_eq!((track.facts.width, track.facts.height), (322, 178));
        assert!(is_key(Codec::Vp8, &hex(VP8_KEY)) && !is_key(Codec::Vp8, &hex(VP8_INTER)));
    }

    #[test]
    fn cut_and_changed_bytes_do_not_panic() {
        for data in [KEY, KEY_422, INTER, BOX, VP8_KEY] {
            truncations(&hex(data))
                .for_each(|d| _ = (FrameHeader::parse(d), VpcConfig::parse(d), vp8_key(d)));
            mutations(&hex(data))
                .for_each(|d| _ = (FrameHeader::parse(&d), VpcConfig::parse(&d), vp8_key(&d)));
        }
    }

    proptest! {
        #[test]
        fn any_bytes(data: Vec<u8>) {
            if let Ok(FrameHeader { profile, key: Some(key) }) = FrameHeader::parse(&data) {
                let config = VpcConfig::of(profile, &key);
                prop_assert_eq!(VpcConfig::parse(&config.build()), Ok(config));
            }
            let _ = (VpcConfig::parse(&data), vp8_key(&data));
        }
    }
}
