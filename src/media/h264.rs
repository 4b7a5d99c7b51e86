//! H.264 (ITU-T H.264): parameter sets, slice headers, and the `avcC` record (ISO/IEC 14496-15 5.3.3).

use bytes::{BufMut, Bytes};

use super::bits::{Bits, rbsp, rbsp_start};
use super::nal::{MAX_PPS, MAX_SET, MAX_SPS, ParamSets, Role, annex_b, starts_with_start_code};
use super::{Codec, Facts, MediaError, Result};

/// The largest frame of any level (6.2, table A-1) in macroblocks; a side is at most the root of eight times that.
const MAX_FRAME_MBS: u32 = 139_264;
const MAX_SIDE_MBS: u32 = 1055;

/// A sequence parameter set (7.3.2.1.1), as far as a server needs it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sps {
    /// `seq_parameter_set_id`, 0 to 31.
    pub id: u32,
    /// `profile_idc`: 66 Baseline, 77 Main, 100 High, …
    pub profile: u8,
    /// The byte of `constraint_set` flags.
    pub constraints: u8,
    /// `level_idc`: 31 is level 3.1.
    pub level: u8,
    /// `chroma_format_idc`: 0 monochrome, 1 4:2:0, 2 4:2:2, 3 4:4:4.
    pub chroma_format: u8,
    /// Bits of a luma sample.
    pub luma_depth: u8,
    /// Bits of a chroma sample.
    pub chroma_depth: u8,
    /// Picture width in pixels, after cropping.
    pub width: u32,
    /// Picture height in pixels, after cropping, of a whole frame.
    pub height: u32,
    /// Whether fields may be coded.
    pub interlaced: bool,
    /// `max_num_ref_frames`.
    pub ref_frames: u8,
    /// Frames per second as a fraction in lowest terms, where the VUI says so.
    pub fps: Option<(u32, u32)>,
    /// `max_num_reorder_frames`, or what the specification infers where it is absent.
    pub reorder: u8,
    /// `max_dec_frame_buffering`, or what the specification infers.
    pub dpb: u8,
}

impl Sps {
    /// Reads an SPS NAL unit, header included. A VUI that ends too soon counts as absent: such encoders exist,
    /// and decoders play them.
    ///
    /// # Errors
    /// When it is truncated, or a value is one that the specification forbids.
    pub fn parse(nal: &[u8]) -> Result<Self> {
        let data = rbsp(bounded(nal, "H.264 SPS")?);
        let mut bits = Bits::new("H.264 SPS", &data);
        let nal_type = bits.u(8, "NAL unit header")? & 31;
        if nal_type != 7 {
            return Err(bits.invalid("nal_unit_type", u64::from(nal_type), "not that of an SPS (7)"));
        }
        let profile = bits.u8(8, "profile_idc")?;
        let constraints = bits.u8(8, "constraint_set_flags")?;
        let level = bits.u8(8, "level_idc")?;
        let id = bits.ue_max(31, "seq_parameter_set_id")?;

        let (mut chroma_format, mut luma_depth, mut chroma_depth, mut planes) = (1, 8, 8, false);
        if matches!(profile, 44 | 83 | 86 | 100 | 110 | 118 | 122 | 128 | 134 | 135 | 138 | 139 | 244) {
            chroma_format = bits.ue_max(3, "chroma_format_idc")? as u8;
            planes = chroma_format == 3 && bits.flag("separate_colour_plane_flag")?;
            luma_depth = 8 + bits.ue_max(6, "bit_depth_luma_minus8")? as u8;
            chroma_depth = 8 + bits.ue_max(6, "bit_depth_chroma_minus8")? as u8;
            bits.skip(1, "qpprime_y_zero_transform_bypass_flag")?;
            if bits.flag("seq_scaling_matrix_present_flag")? {
                for list in 0..if chroma_format == 3 { 12 } else { 8 } {
                    if bits.flag("seq_scaling_list_present_flag")? {
                        skip_scaling_list(&mut bits, if list < 6 { 16 } else { 64 })?;
                    }
                }
            }
        }

        bits.ue_max(12, "log2_max_frame_num_minus4")?;
        let poc_type = bits.ue_max(2, "pic_order_cnt_type")?;
        if poc_type == 0 {
            bits.ue_max(12, "log2_max_pic_order_cnt_lsb_minus4")?;
        } else if poc_type == 1 {
            bits.skip(1, "delta_pic_order_always_zero_flag")?;
            bits.se("offset_for_non_ref_pic")?;
            bits.se("offset_for_top_to_bottom_field")?;
            for _ in 0..bits.ue_max(255, "num_ref_frames_in_pic_order_cnt_cycle")? {
                bits.se("offset_for_ref_frame")?;
            }
        }
        let ref_frames = bits.ue_max(16, "max_num_ref_frames")? as u8;
        bits.skip(1, "gaps_in_frame_num_value_allowed_flag")?;

        let width_mbs = bits.ue_max(MAX_SIDE_MBS - 1, "pic_width_in_mbs_minus1")? + 1;
        let map_units = bits.ue_max(MAX_SIDE_MBS - 1, "pic_height_in_map_units_minus1")? + 1;
        let interlaced = !bits.flag("frame_mbs_only_flag")?;
        if interlaced {
            bits.skip(1, "mb_adaptive_frame_field_flag")?;
        }
        let height_mbs = if interlaced { 2 * map_units } else { map_units };
        if width_mbs * height_mbs > MAX_FRAME_MBS {
            let value = u64::from(width_mbs * height_mbs);
            return Err(bits.invalid("picture size in macroblocks", value, "beyond level 6.2 (139264)"));
        }
        bits.skip(1, "direct_8x8_inference_flag")?;
        let (mut width, mut height) = (width_mbs * 16, height_mbs * 16);
        if bits.flag("frame_cropping_flag")? {
            // Table 6-1 and equations 7-19 to 7-22.
            let unit_x = if !planes && matches!(chroma_format, 1 | 2) { 2 } else { 1 };
            let unit_y = (if !planes && chroma_format == 1 { 2 } else { 1 }) * if interlaced { 2 } else { 1 };
            let (left, right) = (bits.ue("frame_crop_left_offset")?, bits.ue("frame_crop_right_offset")?);
            let (top, bottom) = (bits.ue("frame_crop_top_offset")?, bits.ue("frame_crop_bottom_offset")?);
            width = cropped(&bits, width, left, right, unit_x)?;
            height = cropped(&bits, height, top, bottom, unit_y)?;
        }

        let vui = if bits.flag("vui_parameters_present_flag")? {
            vui(&mut bits).unwrap_or_default()
        } else {
            Vui::default()
        };
        let intra_only = matches!(profile, 44 | 86 | 100 | 110 | 122 | 244) && constraints & 0x10 != 0;
        let max_dpb = max_dpb_frames(level, constraints, width_mbs * height_mbs);
        let inferred = if intra_only { 0 } else { max_dpb };
        let (reorder, dpb) = match vui.restriction {
            // Output order is decoding order (8.2.1.3), and Baseline has no B slices (A.2.1).
            _ if poc_type == 2 || profile == 66 => (0, vui.restriction.map_or(inferred, |(_, dpb)| dpb)),
            Some(told) => told,
            None => (inferred, inferred),
        };
        Ok(Self {
            id,
            profile,
            constraints,
            level,
            chroma_format,
            luma_depth,
            chroma_depth,
            width,
            height,
            interlaced,
            ref_frames,
            fps: vui.fps,
            reorder,
            dpb,
        })
    }

    /// The profile as people call it.
    #[must_use]
    pub fn profile_name(&self) -> &'static str {
        let intra = self.constraints & 0x10 != 0;
        match self.profile {
            44 => "CAVLC 4:4:4 Intra",
            66 if self.constraints & 0x40 != 0 => "Constrained Baseline",
            66 => "Baseline",
            77 => "Main",
            88 => "Extended",
            100 => "High",
            110 if intra => "High 10 Intra",
            110 => "High 10",
            122 if intra => "High 4:2:2 Intra",
            122 => "High 4:2:2",
            244 if intra => "High 4:4:4 Intra",
            244 => "High 4:4:4 Predictive",
            83 => "Scalable Baseline",
            86 => "Scalable High",
            118 => "Multiview High",
            128 => "Stereo High",
            _ => "",
        }
    }

    pub(crate) fn facts(&self) -> Facts {
        Facts {
            width: self.width,
            height: self.height,
            fps: self.fps,
            profile: u32::from(self.profile),
            profile_name: self.profile_name(),
            level: u32::from(self.level),
            reorder: Some(self.reorder),
            rfc6381: format!("avc1.{:02X}{:02X}{:02X}", self.profile, self.constraints, self.level),
            ..Facts::default()
        }
    }
}

/// A picture parameter set (7.3.2.2), as far as a server needs it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pps {
    /// `pic_parameter_set_id`, 0 to 255.
    pub id: u32,
    /// `seq_parameter_set_id` of the SPS that it belongs to.
    pub sps_id: u32,
    /// Whether slices are coded by CABAC.
    pub cabac: bool,
}

impl Pps {
    /// Reads a PPS NAL unit, header included.
    ///
    /// # Errors
    /// When it is truncated, or an id is out of range.
    pub fn parse(nal: &[u8]) -> Result<Self> {
        let data = rbsp_start::<16>(nal);
        let mut bits = Bits::new("H.264 PPS", &data);
        let nal_type = bits.u(8, "NAL unit header")? & 31;
        if nal_type != 8 {
            return Err(bits.invalid("nal_unit_type", u64::from(nal_type), "not that of a PPS (8)"));
        }
        Ok(Self {
            id: bits.ue_max(255, "pic_parameter_set_id")?,
            sps_id: bits.ue_max(31, "seq_parameter_set_id")?,
            cabac: bits.flag("entropy_coding_mode_flag")?,
        })
    }
}

/// The `avcC` record (AVCDecoderConfigurationRecord).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AvcConfig {
    /// How many bytes the length before each NAL unit has: 1 to 4; 0 when Annex B was sent in place of a record.
    pub length_size: u8,
    /// SPS and PPS, at least one of each.
    pub sets: ParamSets,
    /// Whether the record that was read had start codes, so that it can't be passed on as it is.
    pub(crate) repaired: bool,
}

impl AvcConfig {
    /// The record of `sets`, for 4-byte lengths.
    ///
    /// # Errors
    /// When SPS or PPS is missing, or the first SPS can't be read.
    pub fn new(sets: ParamSets) -> Result<Self> {
        let config = Self { length_size: 4, sets, repaired: false };
        config.sps()?;
        if config.sets.pps.is_empty() {
            return Err(MediaError::Unsupported { what: "H.264 parameter sets", why: "there is no PPS" });
        }
        Ok(config)
    }

    /// Reads a record. Also understands what some encoders send in its place: parameter sets with start codes,
    /// for the whole record or inside of it.
    ///
    /// # Errors
    /// When it is truncated, of another version, or without an SPS that can be read.
    pub fn parse(data: &[u8]) -> Result<Self> {
        let mut sets = ParamSets::default();
        let mut add = |nal: &[u8]| sets.push(Role::of(Codec::H264, nal), nal);
        if starts_with_start_code(data) {
            annex_b(data).for_each(add);
            return Ok(Self { length_size: 0, repaired: true, ..Self::new(sets)? });
        }
        let mut bits = Bits::new("avcC", data);
        let version = bits.u(8, "configurationVersion")?;
        if version != 1 {
            return Err(bits.invalid("configurationVersion", u64::from(version), "unknown (not 1)"));
        }
        bits.skip(24, "profile, constraints and level")?;
        let length_size = bits.u8(8, "lengthSizeMinusOne")? % 4 + 1;
        let mut rest = data.get(5..).unwrap_or_default();
        let mut repaired = false;
        for (field, mask) in [("SPS", 31), ("PPS", 255)] {
            let truncated = || MediaError::Truncated { what: "avcC", field, len: data.len() };
            let (&count, mut after) = rest.split_first().ok_or_else(truncated)?;
            for _ in 0..count & mask {
                let (nal, next) = split_u16(after).ok_or_else(truncated)?;
                after = next;
                if starts_with_start_code(nal) {
                    repaired = true;
                    annex_b(nal).for_each(&mut add);
                } else {
                    add(nal);
                }
            }
            rest = after;
        }
        Ok(Self { length_size, repaired, ..Self::new(sets)? })
    }

    /// The first SPS.
    ///
    /// # Errors
    /// When there is none, or it can't be read.
    pub fn sps(&self) -> Result<Sps> {
        let Some(sps) = self.sets.sps.first() else {
            return Err(MediaError::Unsupported { what: "H.264 parameter sets", why: "there is no SPS" });
        };
        Sps::parse(sps)
    }

    /// The record as bytes, always for 4-byte lengths.
    ///
    /// # Errors
    /// When the first SPS can't be read.
    pub fn build(&self) -> Result<Bytes> {
        let sps = self.sps()?;
        let mut out = vec![1, sps.profile, sps.constraints, sps.level, 0xFC | 3];
        for (reserved, list, max) in [(0xE0, &self.sets.sps, MAX_SPS), (0, &self.sets.pps, MAX_PPS)] {
            let list = list.get(..max).unwrap_or(list);
            out.put_u8(reserved | u8::try_from(list.len()).unwrap_or(0));
            for nal in list {
                out.put_u16(u16::try_from(nal.len()).unwrap_or(0));
                out.extend_from_slice(nal);
            }
        }
        if !matches!(sps.profile, 66 | 77 | 88) {
            out.extend_from_slice(&[
                0xFC | sps.chroma_format,
                0xF8 | (sps.luma_depth - 8),
                0xF8 | (sps.chroma_depth - 8),
                0,
            ]);
        }
        Ok(out.into())
    }
}

/// `nal` unless it is longer than any container could carry it.
pub(crate) fn bounded<'a>(nal: &'a [u8], what: &'static str) -> Result<&'a [u8]> {
    if nal.len() > MAX_SET {
        return Err(MediaError::Invalid {
            what,
            field: "length",
            value: nal.len() as u64,
            why: "above 65535 bytes",
        });
    }
    Ok(nal)
}

/// What a 16-bit length stands before, and the rest.
pub(crate) fn split_u16(data: &[u8]) -> Option<(&[u8], &[u8])> {
    let (len, rest) = data.split_first_chunk::<2>()?;
    rest.split_at_checked(usize::from(u16::from_be_bytes(*len)))
}

/// `size` less what is cropped on both sides, in units of `unit` pixels.
pub(crate) fn cropped(bits: &Bits<'_>, size: u32, before: u32, after: u32, unit: u32) -> Result<u32> {
    let crop = before.checked_add(after).and_then(|sum| sum.checked_mul(unit));
    crop.and_then(|crop| size.checked_sub(crop)).filter(|&left| left > 0).ok_or_else(|| {
        bits.invalid("cropping", u64::from(before) + u64::from(after), "as large as the picture")
    })
}

/// `units` per second over `ticks` in lowest terms, where that is a frame rate: encoders fill in the strangest
/// values when they don't know.
pub(crate) fn frame_rate(units: u64, ticks: u64) -> Option<(u32, u32)> {
    /// Above any camera; below, one frame in ten minutes.
    const MAX_FPS: u64 = 1000;
    const MAX_SECONDS: u64 = 600;
    let (mut a, mut b) = (units, ticks);
    while b > 0 {
        (a, b) = (b, a % b);
    }
    let (num, den) = (units.checked_div(a)?, ticks.checked_div(a)?);
    let plausible = num > 0 && den > 0 && num / den <= MAX_FPS && den / num <= MAX_SECONDS;
    plausible.then_some((u32::try_from(num).ok()?, u32::try_from(den).ok()?))
}

#[derive(Default)]
struct Vui {
    fps: Option<(u32, u32)>,
    /// `max_num_reorder_frames` and `max_dec_frame_buffering`.
    restriction: Option<(u8, u8)>,
}

/// VUI parameters (E.1.1).
fn vui(bits: &mut Bits<'_>) -> Result<Vui> {
    skip_video_signal(bits)?;
    let mut vui = Vui::default();
    if bits.flag("timing_info_present_flag")? {
        let ticks = bits.u(32, "num_units_in_tick")?;
        let scale = bits.u(32, "time_scale")?;
        bits.skip(1, "fixed_frame_rate_flag")?;
        // A tick is a field (E.2.1).
        vui.fps = frame_rate(u64::from(scale), 2 * u64::from(ticks));
    }
    // What follows may be broken; the frame rate still holds.
    vui.restriction = restriction(bits).unwrap_or(None);
    Ok(vui)
}

/// What the VUI of H.264 and of H.265 begins with: aspect ratio, overscan, colours, chroma location.
pub(crate) fn skip_video_signal(bits: &mut Bits<'_>) -> Result<()> {
    if bits.flag("aspect_ratio_info_present_flag")? && bits.u(8, "aspect_ratio_idc")? == 255 {
        bits.skip(32, "sar_width and sar_height")?;
    }
    if bits.flag("overscan_info_present_flag")? {
        bits.skip(1, "overscan_appropriate_flag")?;
    }
    if bits.flag("video_signal_type_present_flag")? {
        bits.skip(4, "video_format and video_full_range_flag")?;
        if bits.flag("colour_description_present_flag")? {
            bits.skip(24, "colour description")?;
        }
    }
    if bits.flag("chroma_loc_info_present_flag")? {
        bits.ue("chroma_sample_loc_type_top_field")?;
        bits.ue("chroma_sample_loc_type_bottom_field")?;
    }
    Ok(())
}

/// The rest of the VUI, from the HRD parameters on.
fn restriction(bits: &mut Bits<'_>) -> Result<Option<(u8, u8)>> {
    let mut hrd = false;
    for field in ["nal_hrd_parameters_present_flag", "vcl_hrd_parameters_present_flag"] {
        if bits.flag(field)? {
            hrd = true;
            let count = bits.ue_max(31, "cpb_cnt_minus1")? + 1;
            bits.skip(8, "bit_rate_scale and cpb_size_scale")?;
            for _ in 0..count {
                bits.ue("bit_rate_value_minus1")?;
                bits.ue("cpb_size_value_minus1")?;
                bits.skip(1, "cbr_flag")?;
            }
            bits.skip(20, "HRD lengths")?;
        }
    }
    if hrd {
        bits.skip(1, "low_delay_hrd_flag")?;
    }
    bits.skip(1, "pic_struct_present_flag")?;
    if !bits.flag("bitstream_restriction_flag")? {
        return Ok(None);
    }
    bits.skip(1, "motion_vectors_over_pic_boundaries_flag")?;
    for field in [
        "max_bytes_per_pic_denom",
        "max_bits_per_mb_denom",
        "log2_max_mv_length_horizontal",
        "log2_max_mv_length_vertical",
    ] {
        bits.ue(field)?;
    }
    let reorder = bits.ue_max(16, "max_num_reorder_frames")? as u8;
    let dpb = bits.ue_max(16, "max_dec_frame_buffering")? as u8;
    Ok((reorder <= dpb).then_some((reorder, dpb)))
}

/// 7.3.2.1.1.1
fn skip_scaling_list(bits: &mut Bits<'_>, size: u32) -> Result<()> {
    let (mut last, mut next) = (8i32, 8i32);
    for _ in 0..size {
        if next != 0 {
            let delta = bits.se("delta_scale")?;
            if !(-128..=127).contains(&delta) {
                return Err(bits.invalid(
                    "delta_scale",
                    u64::from(delta.unsigned_abs()),
                    "out of range (-128 to 127)",
                ));
            }
            next = (last + delta + 256) % 256;
        }
        if next != 0 {
            last = next;
        }
    }
    Ok(())
}

/// MaxDpbFrames (A.3.1): MaxDpbMbs of table A-1 in frames of this size.
fn max_dpb_frames(level: u8, constraints: u8, frame_mbs: u32) -> u8 {
    let max_dpb_mbs = match level {
        ..=10 => 396,
        11 if constraints & 0x10 != 0 => 396, // level 1b
        11 => 900,
        12..=20 => 2376,
        21 => 4752,
        22..=30 => 8100,
        31 => 18_000,
        32 => 20_480,
        40 | 41 => 32_768,
        42 => 34_816,
        50 => 110_400,
        51..=59 => 184_320,
        _ => 696_320,
    };
    (max_dpb_mbs / frame_mbs.max(1)).min(16) as u8
}

/// What a NAL unit with this header byte is.
pub(crate) fn role(first: u8) -> Role {
    match first & 31 {
        1 | 2 => Role::Slice,
        5 => Role::KeySlice,
        6 => Role::Sei,
        7 => Role::Sps,
        8 => Role::Pps,
        9 | 12 => Role::Stuffing,
        _ => Role::Other,
    }
}

/// The id of an SPS or PPS.
pub(crate) fn set_id(nal: &[u8]) -> Option<u32> {
    let data = rbsp_start::<16>(nal);
    let mut bits = Bits::new("H.264 parameter set", &data);
    match bits.u(8, "NAL unit header").ok()? & 31 {
        7 => bits.skip(24, "profile and level").ok()?,
        8 => {}
        _ => return None,
    }
    bits.ue("id").ok()
}

/// Whether the slice NAL unit is of a B picture (7.3.3).
pub(crate) fn is_b_slice(nal: &[u8]) -> bool {
    let data = rbsp_start::<16>(nal);
    let mut bits = Bits::new("H.264 slice header", &data);
    let mut slice_type = || {
        bits.skip(8, "NAL unit header")?;
        bits.ue("first_mb_in_slice")?;
        bits.ue_max(9, "slice_type")
    };
    slice_type().is_ok_and(|t| t % 5 == 1)
}

/// Whether the SEI NAL unit holds a recovery point (D.1.8): decoding may start here, though the picture is
/// whole only some frames later. Encoders with intra refresh or open GOPs have no other place to start.
pub(crate) fn is_recovery_point(nal: &[u8]) -> bool {
    const RECOVERY_POINT: u32 = 6;
    // Messages that may stand before it (buffering period, picture timing, captions) are short, and the most
    // that is read of the unit is bounded.
    let data = rbsp_start::<512>(nal);
    let mut bits = Bits::new("H.264 SEI", &data);
    let mut find = || -> Result<bool> {
        bits.skip(8, "NAL unit header")?;
        // A message has at least two bytes, the trailing bits one.
        while bits.left() > 16 {
            let kind = sei_number(&mut bits)?;
            if kind == RECOVERY_POINT {
                return Ok(true);
            }
            let size = sei_number(&mut bits)?;
            bits.skip(8 * size as usize, "payload")?;
        }
        Ok(false)
    };
    find().unwrap_or(false)
}

/// A type or size of SEI (7.3.2.3.1): each byte of 255 goes on. The data's length bounds it.
fn sei_number(bits: &mut Bits<'_>) -> Result<u32> {
    let mut sum = 0;
    loop {
        let byte = bits.u(8, "SEI number")?;
        sum += byte;
        if byte != 255 {
            return Ok(sum);
        }
    }
}

#[cfg(test)]
#[path = "h264_tests.rs"]
mod tests;
