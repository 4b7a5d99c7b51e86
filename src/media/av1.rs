//! AV1: OBUs (AV1 bitstream specification 5.3), the sequence header (5.5), and the `av1C` record (AV1 in ISOBMFF 2.3).

use std::ops::Range;

use bytes::{BufMut, Bytes};

use super::bits::Bits;
use super::h264::frame_rate;
use super::{Facts, MediaError, Result};

const SEQUENCE_HEADER: u8 = 1;
const TEMPORAL_DELIMITER: u8 = 2;
const FRAME_HEADER: u8 = 3;
const FRAME: u8 = 6;
const PADDING: u8 = 15;

/// An open bitstream unit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Obu<'a> {
    /// `obu_type`: 1 sequence header, 2 temporal delimiter, 3 frame header, 6 frame, …
    pub obu_type: u8,
    /// The header: one byte, or two with the extension; without the size.
    pub header: &'a [u8],
    /// Whether its size stands in it; otherwise it reaches to the end of the data.
    pub has_size: bool,
    /// What stands behind header and size.
    pub payload: &'a [u8],
}

/// The OBUs of `data`. Ends after the first that can't be read, which is an error.
#[must_use]
pub fn obus(data: &[u8]) -> Obus<'_> {
    Obus { data, rest: data }
}

/// Iterator of [`obus`].
#[derive(Debug, Clone)]
pub struct Obus<'a> {
    data: &'a [u8],
    rest: &'a [u8],
}

impl<'a> Obus<'a> {
    /// How far it is.
    fn position(&self) -> usize {
        self.data.len() - self.rest.len()
    }

    fn read(&mut self) -> Result<Obu<'a>> {
        let truncated = |field| MediaError::Truncated { what: "AV1 OBU", field, len: self.data.len() };
        let first = *self.rest.first().ok_or_else(|| truncated("header"))?;
        if first & 0x80 != 0 {
            let (what, value) = ("AV1 OBU", u64::from(first));
            return Err(MediaError::Invalid {
                what,
                field: "header",
                value,
                why: "with its forbidden bit set",
            });
        }
        let len = if first & 4 != 0 { 2 } else { 1 };
        let (header, rest) = self.rest.split_at_checked(len).ok_or_else(|| truncated("extension header"))?;
        let has_size = first & 2 != 0;
        let (size, rest) =
            if has_size { leb128(rest).ok_or_else(|| truncated("size"))? } else { (rest.len(), rest) };
        let (payload, rest) = rest.split_at_checked(size).ok_or_else(|| truncated("payload"))?;
        self.rest = rest;
        Ok(Obu { obu_type: first >> 3 & 15, header, has_size, payload })
    }
}

impl<'a> Iterator for Obus<'a> {
    type Item = Result<Obu<'a>>;

    fn next(&mut self) -> Option<Result<Obu<'a>>> {
        if self.rest.is_empty() {
            return None;
        }
        let obu = self.read();
        if obu.is_err() {
            self.rest = &[];
        }
        Some(obu)
    }
}

/// Brings a temporal unit into the form of [`Frame::data`](super::Frame::data): temporal delimiters and padding are
/// taken out, and an OBU without size is given one. Bytes are copied only where that leaves more than one run.
///
/// # Errors
/// When an OBU is truncated or its forbidden bit is set.
pub fn normalise(data: Bytes) -> Result<Bytes> {
    let mut run: Option<Range<usize>> = Some(0..0);
    let mut units = obus(&data);
    let mut at = 0;
    while let Some(obu) = units.next() {
        let obu = obu?;
        let place = at..units.position();
        at = place.end;
        if matches!(obu.obu_type, TEMPORAL_DELIMITER | PADDING) {
            continue;
        }
        run = match run {
            _ if !obu.has_size => None,
            Some(r) if r.is_empty() => Some(place),
            Some(r) if r.end == place.start => Some(r.start..place.end),
            _ => None,
        };
        if run.is_none() {
            break;
        }
    }
    if let Some(run) = run {
        return Ok(if run.len() == data.len() { data } else { data.slice(run) });
    }
    // Eight more for the size of the one OBU that can lack it.
    let mut out = Vec::with_capacity(data.len() + 8);
    for obu in obus(&data) {
        let obu = obu?;
        if !matches!(obu.obu_type, TEMPORAL_DELIMITER | PADDING) {
            put_obu(&mut out, &obu);
        }
    }
    Ok(out.into())
}

/// Appends an OBU with its size.
pub fn put_obu(out: &mut Vec<u8>, obu: &Obu<'_>) {
    for (i, &byte) in obu.header.iter().enumerate() {
        out.put_u8(if i == 0 { byte | 2 } else { byte });
    }
    let mut size = obu.payload.len();
    while size >= 0x80 {
        out.put_u8(size as u8 | 0x80);
        size >>= 7;
    }
    out.put_u8(size as u8);
    out.extend_from_slice(obu.payload);
}

/// Whether a temporal unit begins with a key frame that is shown: a decoder that has the sequence header can start.
pub(crate) fn is_key(data: &[u8]) -> bool {
    let frame = obus(data).map_while(Result::ok).find(|o| matches!(o.obu_type, FRAME | FRAME_HEADER));
    // show_existing_frame 0, frame_type KEY_FRAME, show_frame 1 (5.9.2).
    frame.and_then(|f| f.payload.first().copied()).is_some_and(|b| b >> 4 == 0b0001)
}

/// The first sequence header of a temporal unit.
pub(crate) fn find_sequence_header(data: &[u8]) -> Option<Obu<'_>> {
    obus(data).map_while(Result::ok).find(|o| o.obu_type == SEQUENCE_HEADER)
}

/// A number of 7 bits a byte, lowest first (4.10.5), and the rest.
fn leb128(data: &[u8]) -> Option<(usize, &[u8])> {
    let mut value = 0u64;
    for (i, &byte) in data.iter().enumerate().take(8) {
        value |= u64::from(byte & 0x7F) << (7 * i);
        if byte & 0x80 == 0 {
            return Some((usize::try_from(value).ok()?, data.get(i + 1..)?));
        }
    }
    None
}

/// A sequence header (5.5.1), as far as a server needs it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SequenceHeader {
    /// `seq_profile`: 0 Main, 1 High, 2 Professional.
    pub profile: u8,
    /// `seq_level_idx` of the first operating point: 8 is level 4.0, 31 means no bounds.
    pub level: u8,
    /// `seq_tier` of the first operating point: High tier.
    pub high_tier: bool,
    /// `max_frame_width_minus_1` + 1.
    pub width: u32,
    /// `max_frame_height_minus_1` + 1.
    pub height: u32,
    /// Frames per second in lowest terms, where timing is given and pictures have equal intervals.
    pub fps: Option<(u32, u32)>,
    /// Bits of a sample: 8, 10 or 12.
    pub bit_depth: u8,
    /// Whether there is no colour.
    pub monochrome: bool,
    /// `subsampling_x` and `subsampling_y`.
    pub subsampling: (bool, bool),
    /// `chroma_sample_position`.
    pub chroma_position: u8,
}

impl SequenceHeader {
    /// Reads the payload of a sequence header OBU.
    ///
    /// # Errors
    /// When it is truncated, or of a reserved profile.
    pub fn parse(payload: &[u8]) -> Result<Self> {
        let mut bits = Bits::new("AV1 sequence header", payload);
        let profile = bits.u8(3, "seq_profile")?;
        if profile > 2 {
            return Err(bits.invalid("seq_profile", u64::from(profile), "reserved"));
        }
        bits.skip(1, "still_picture")?;
        let reduced = bits.flag("reduced_still_picture_header")?;
        let OperatingPoint { level, high_tier, fps } = if reduced {
            OperatingPoint { level: bits.u8(5, "seq_level_idx")?, ..OperatingPoint::default() }
        } else {
            operating_points(&mut bits)?
        };

        let width_bits = bits.u(4, "frame_width_bits_minus_1")? + 1;
        let height_bits = bits.u(4, "frame_height_bits_minus_1")? + 1;
        let width = bits.u(width_bits, "max_frame_width_minus_1")? + 1;
        let height = bits.u(height_bits, "max_frame_height_minus_1")? + 1;
        if !reduced && bits.flag("frame_id_numbers_present_flag")? {
            bits.skip(7, "frame id lengths")?;
        }
        bits.skip(3, "use_128x128_superblock, enable_filter_intra and enable_intra_edge_filter")?;
        if !reduced {
            bits.skip(4, "compound tools")?;
            let order_hint = bits.flag("enable_order_hint")?;
            bits.skip(if order_hint { 2 } else { 0 }, "enable_jnt_comp and enable_ref_frame_mvs")?;
            let screen_content = bits.flag("seq_choose_screen_content_tools")?
                || bits.flag("seq_force_screen_content_tools")?;
            if screen_content && !bits.flag("seq_choose_integer_mv")? {
                bits.skip(1, "seq_force_integer_mv")?;
            }
            bits.skip(if order_hint { 3 } else { 0 }, "order_hint_bits_minus_1")?;
        }
        bits.skip(3, "enable_superres, enable_cdef and enable_restoration")?;

        let mut header = Self {
            profile,
            level,
            high_tier,
            width,
            height,
            fps,
            bit_depth: 8,
            monochrome: false,
            subsampling: (true, true),
            chroma_position: 0,
        };
        header.color_config(&mut bits)?;
        Ok(header)
    }

    /// 5.5.2
    fn color_config(&mut self, bits: &mut Bits<'_>) -> Result<()> {
        const SRGB: (u32, u32, u32) = (1, 13, 0); // BT.709 primaries, sRGB transfer, identity matrix
        if bits.flag("high_bitdepth")? {
            self.bit_depth = if self.profile == 2 && bits.flag("twelve_bit")? { 12 } else { 10 };
        }
        self.monochrome = self.profile != 1 && bits.flag("mono_chrome")?;
        let mut colours = (2, 2, 2);
        if bits.flag("color_description_present_flag")? {
            colours =
                (bits.u(8, "color_primaries")?, bits.u(8, "transfer_characteristics")?, bits.u(8, "matrix")?);
        }
        if !self.monochrome && colours == SRGB {
            self.subsampling = (false, false);
            return Ok(());
        }
        bits.skip(1, "color_range")?;
        self.subsampling = match self.profile {
            _ if self.monochrome => return Ok(()),
            0 => (true, true),
            1 => (false, false),
            _ if self.bit_depth == 12 => {
                let x = bits.flag("subsampling_x")?;
                (x, x && bits.flag("subsampling_y")?)
            }
            _ => (true, false),
        };
        if self.subsampling == (true, true) {
            self.chroma_position = bits.u8(2, "chroma_sample_position")?;
        }
        Ok(())
    }

    pub(crate) fn facts(&self) -> Facts {
        let tier = if self.high_tier { 'H' } else { 'M' };
        Facts {
            width: self.width,
            height: self.height,
            fps: self.fps,
            profile: u32::from(self.profile),
            profile_name: profile_name(self.profile),
            level: u32::from(self.level),
            rfc6381: format!("av01.{}.{:02}{tier}.{:02}", self.profile, self.level, self.bit_depth),
            ..Facts::default()
        }
    }
}

fn profile_name(profile: u8) -> &'static str {
    ["Main", "High", "Professional"].get(usize::from(profile)).unwrap_or(&"")
}

/// Level and tier of the first operating point, and the frame rate.
#[derive(Default)]
struct OperatingPoint {
    level: u8,
    high_tier: bool,
    fps: Option<(u32, u32)>,
}

fn operating_points(bits: &mut Bits<'_>) -> Result<OperatingPoint> {
    let mut point = OperatingPoint::default();
    let mut delay_bits = None;
    if bits.flag("timing_info_present_flag")? {
        let ticks = bits.u(32, "num_units_in_display_tick")?;
        let scale = bits.u(32, "time_scale")?;
        if bits.flag("equal_picture_interval")? {
            let per_picture = u64::from(bits.ue("num_ticks_per_picture_minus_1")?) + 1;
            point.fps = u64::from(ticks)
                .checked_mul(per_picture)
                .and_then(|ticks| frame_rate(u64::from(scale), ticks));
        }
        if bits.flag("decoder_model_info_present_flag")? {
            delay_bits = Some(bits.u(5, "buffer_delay_length_minus_1")? as usize + 1);
            bits.skip(42, "decoder model")?;
        }
    }
    let initial_delay = bits.flag("initial_display_delay_present_flag")?;
    for i in 0..=bits.u(5, "operating_points_cnt_minus_1")? {
        bits.skip(12, "operating_point_idc")?;
        let level = bits.u8(5, "seq_level_idx")?;
        let high_tier = level > 7 && bits.flag("seq_tier")?;
        if i == 0 {
            point = OperatingPoint { level, high_tier, ..point };
        }
        if let Some(n) = delay_bits
            && bits.flag("decoder_model_present_for_this_op")?
        {
            bits.skip(2 * n + 1, "operating_parameters_info")?;
        }
        if initial_delay && bits.flag("initial_display_delay_present_for_this_op")? {
            bits.skip(4, "initial_display_delay_minus_1")?;
        }
    }
    Ok(point)
}

/// The `av1C` record (AV1CodecConfigurationRecord).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Av1Config {
    /// `seq_profile`.
    pub profile: u8,
    /// `seq_level_idx_0`.
    pub level: u8,
    /// `seq_tier_0`.
    pub high_tier: bool,
    /// Bits of a sample.
    pub bit_depth: u8,
    /// Its sequence header, where it has one.
    pub sequence_header: Option<SequenceHeader>,
}

impl Av1Config {
    /// Reads a record.
    ///
    /// # Errors
    /// When it is truncated, of another version, or its OBUs can't be read.
    pub fn parse(data: &[u8]) -> Result<Self> {
        let mut bits = Bits::new("av1C", data);
        let marker = bits.u(8, "marker and version")?;
        if marker != 0x81 {
            return Err(bits.invalid("marker and version", u64::from(marker), "unknown (not 0x81)"));
        }
        let mut config = Self {
            profile: bits.u8(3, "seq_profile")?,
            level: bits.u8(5, "seq_level_idx_0")?,
            high_tier: bits.flag("seq_tier_0")?,
            bit_depth: match bits.u(2, "high_bitdepth and twelve_bit")? {
                0 | 1 => 8,
                2 => 10,
                _ => 12,
            },
            sequence_header: None,
        };
        bits.skip(5 + 8, "formats and initial_presentation_delay")?;
        for obu in obus(data.get(4..).unwrap_or_default()) {
            let obu = obu?;
            if obu.obu_type == SEQUENCE_HEADER && config.sequence_header.is_none() {
                config.sequence_header = Some(SequenceHeader::parse(obu.payload)?);
            }
        }
        Ok(config)
    }

    pub(crate) fn facts(&self) -> Facts {
        if let Some(header) = &self.sequence_header {
            return header.facts();
        }
        let tier = if self.high_tier { 'H' } else { 'M' };
        Facts {
            profile: u32::from(self.profile),
            profile_name: profile_name(self.profile),
            level: u32::from(self.level),
            rfc6381: format!("av01.{}.{:02}{tier}.{:02}", self.profile, self.level, self.bit_depth),
            ..Facts::default()
        }
    }
}

/// The `av1C` record of a sequence header OBU.
///
/// # Errors
/// When its payload can't be read.
pub fn build_config(sequence_header: &Obu<'_>) -> Result<Bytes> {
    let h = SequenceHeader::parse(sequence_header.payload)?;
    let mut out = vec![0x81, h.profile << 5 | h.level];
    let (x, y) = h.subsampling;
    out.put_u8(
        u8::from(h.high_tier) << 7
            | u8::from(h.bit_depth > 8) << 6
            | u8::from(h.bit_depth == 12) << 5
            | u8::from(h.monochrome) << 4
            | u8::from(x) << 3
            | u8::from(y) << 2
            | h.chroma_position,
    );
    out.put_u8(0); // no initial_presentation_delay
    put_obu(&mut out, sequence_header);
    Ok(out.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::media::test::{hex, mutations, truncations};
    use crate::media::{Codec, Track, TrackId, is_key};
    use proptest::prelude::*;

    // Debian 12's ffmpeg 5.1, `-f lavfi -i testsrc2`, in MP4:
    /// libsvtav1 1.4, 1280x720, preset 12
    const SVT: &str = "81050c00 0a0b0000002d4cffb3c02f8004";
    /// libsvtav1, 640x360, `yuv420p10le`
    const SVT_10: &str = "81014c00 0a0b0000000cc4ff6700be1010";
    /// libaom 3.6, 322x178, `yuv444p10le`
    const AOM_444: &str = "81204000 0a0a200000043d06c4daf942";
    /// librav1e 0.5, 322x178: level without bounds, colours told
    const RAV1E: &str = "811f0c00 0a0e000000fa1e8362210a88101010a0";
    /// The beginning of the first frames of SVT and rav1e, sizes made to fit.
    const SVT_KEY: &str = "0a0b0000002d4cffb3cfbf9004 320b10008900800006 0bcfbc00";
    const SVT_INTER: &str = "32093002080924922246 00";

    fn track(config: &str) -> Result<Track> {
        Track::with_config(TrackId(0), Codec::Av1, hex(config).into())
    }

    #[test]
    fn av1c_of_encoders() {
        let facts = |config| {
            let f = track(config).unwrap().facts;
            (f.width, f.height, f.profile_name, f.rfc6381)
        };
        assert_eq!(facts(SVT), (1280, 720, "Main", "av01.0.05M.08".to_owned()));
        assert_eq!(facts(SVT_10), (640, 360, "Main", "av01.0.01M.10".to_owned()));
        assert_eq!(facts(AOM_444), (322, 178, "High", "av01.1.00M.10".to_owned()));
        assert_eq!(facts(RAV1E), (322, 178, "Main", "av01.0.31M.08".to_owned()));
        // Without OBUs.
        assert_eq!(facts("81050c00"), (0, 0, "Main", "av01.0.05M.08".to_owned()));
        assert_eq!(facts("8148cc00"), (0, 0, "Professional", "av01.2.08H.10".to_owned()));
        for config in [SVT, SVT_10, AOM_444, RAV1E] {
            let config = hex(config);
            assert_eq!(build_config(&find_sequence_header(&config[4..]).unwrap()).unwrap(), config);
        }
    }

    #[test]
    fn timing_and_decoder_model() {
        // Main, timing 30 fps by 2 ticks of 1/60, a decoder model of 10 bits, delay; one operating point 4.0 High.
        let mut w = crate::media::bits::BitWriter::default();
        for (value, n) in [
            (0, 5),
            (1, 1),
            (1, 32),
            (60, 32),
            (1, 1),
            (0b010, 3), // timing
            (1, 1),
            (9, 5),
            (1, 32),
            (0, 10), // decoder model
            (1, 1),
            (0, 5),
            (0, 12),
            (8, 5),
            (1, 1),
            (1, 1),
            (0, 21),
            (1, 1),
            (3, 4), // operating point
            (10, 4),
            (10, 4),
            (1279, 11),
            (719, 11),
            (1, 1),
            (0, 7),
            (0, 3),
            (0, 4),
            (1, 1),
            (0, 2), // sizes, tools
            (0, 1),
            (1, 1),
            (0, 1),
            (0, 1),
            (6, 3),
            (0, 3),
            (0, 1),
            (0, 1),
            (0, 1),
            (0, 1),
            (2, 2),
            (0, 3), // colour
        ] {
            w.put(value, n);
        }
        let h = SequenceHeader::parse(&w.finish()).unwrap();
        assert_eq!((h.width, h.height, h.fps, h.level, h.high_tier), (1280, 720, Some((30, 1)), 8, true));
        assert_eq!((h.bit_depth, h.subsampling, h.chroma_position), (8, (true, true), 2));
    }

    #[test]
    fn delimiters_go_without_a_copy() {
        let unit = hex(SVT_KEY);
        let data = Bytes::from([hex("1200"), unit.clone()].concat());
        let n = normalise(data.clone()).unwrap();
        assert_eq!(n, unit);
        assert!(data.as_ptr_range().contains(&n.as_ptr()));
        let again = normalise(n.clone()).unwrap();
        assert_eq!(again.as_ptr(), n.as_ptr());
        assert!(normalise(Bytes::from(hex("1200"))).unwrap().is_empty());
    }

    #[test]
    fn a_missing_size_is_put_in() {
        let sized = hex(SVT_KEY);
        let mut bare = sized.clone();
        bare[13] = 0x30; // the frame, without has_size …
        bare.remove(14); // … nor size
        assert_eq!(normalise(bare.into()).unwrap(), sized);
        // With an extension header, more than 127 bytes, and padding between.
        let long = [hex("1200 3600020000 7a0100 3408"), vec![7; 200]].concat();
        let n = normalise(long.into()).unwrap();
        assert_eq!(n, [hex("3600020000 3608c801"), vec![7; 200]].concat());
    }

    #[test]
    fn key_frames() {
        assert!(is_key(Codec::Av1, &hex(SVT_KEY)));
        assert!(!is_key(Codec::Av1, &hex(SVT_INTER)));
        // rav1e: a frame header that shows an existing frame.
        assert!(!is_key(Codec::Av1, &hex("1a01c8")));
        assert!(!is_key(Codec::Av1, &[]));
    }

    #[test]
    fn a_track_learns_from_its_first_key_frame() {
        let mut track = Track::new(TrackId(0), Codec::Av1);
        assert!(!track.learn(&hex(SVT_INTER)));
        assert!(track.learn(&hex(SVT_KEY)));
        assert_eq!((track.facts.width, &*track.facts.rfc6381), (1280, "av01.0.05M.08"));
        assert_eq!(track.config, hex("81050c00 0a0b0000002d4cffb3cfbf9004"));
        assert!(!track.learn(&hex(SVT_KEY)));
        // SVT's MP4 header differs from the stream in tools only: that changes nothing for us.
        let mut track = self::track(SVT).unwrap();
        assert!(!track.learn(&hex(SVT_KEY)));
        assert!(track.learn(&hex(RAV1E)[4..]));
        assert_eq!(track.facts.width, 322);
    }

    #[test]
    fn cut_and_changed_bytes_do_not_panic() {
        for config in [SVT, SVT_10, AOM_444, RAV1E] {
            truncations(&hex(config)).for_each(|d| assert!(Av1Config::parse(d).is_err() || d.len() == 4));
            mutations(&hex(config)).for_each(|d| _ = Av1Config::parse(&d).map(|c| c.facts()));
        }
        mutations(&hex(SVT_KEY)).for_each(|d| {
            let _ = is_key(Codec::Av1, &d);
            let _ = normalise(d.into());
        });
        assert!(normalise(Bytes::from(hex("0aff"))).is_err());
        assert!(normalise(Bytes::from(hex("0affffffffffffffffff01"))).is_err());
        assert!(normalise(Bytes::from(hex("8a00"))).is_err());
    }

    proptest! {
        #[test]
        fn any_bytes(data: Vec<u8>) {
            let _ = Av1Config::parse(&[&[0x81, 0, 0, 0, 0x0A, data.len() as u8 & 0x7F], &*data].concat());
            let _ = SequenceHeader::parse(&data);
            if let Ok(unit) = normalise(data.into()) {
                prop_assert_eq!(&normalise(unit.clone()).unwrap(), &unit);
                prop_assert!(obus(&unit).all(|o| o.unwrap().has_size));
            }
        }
    }
}
