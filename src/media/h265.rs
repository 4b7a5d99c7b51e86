//! H.265 (ITU-T H.265): parameter sets, slice headers, and the `hvcC` record (ISO/IEC 14496-15 8.3.3).

use bytes::{BufMut, Bytes};

use super::bits::{Bits, rbsp, rbsp_start};
use super::h264::{bounded, cropped, frame_rate, skip_video_signal, split_u16};
use super::nal::{ParamSets, Role, annex_b, starts_with_start_code};
use super::{Codec, Facts, MediaError, Result};

/// The longest side of any level (6.2, table A.8): the root of eight times 35 651 584 samples.
const MAX_SIDE: u32 = 16_888;

/// profile_tier_level (7.3.3) with its general profile present.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProfileTierLevel {
    /// `general_profile_space`, 0 so far.
    pub space: u8,
    /// `general_tier_flag`: High tier.
    pub high_tier: bool,
    /// `general_profile_idc`: 1 Main, 2 Main 10, …
    pub profile: u8,
    /// `general_profile_compatibility_flag`, flag 0 in the highest bit.
    pub compatibility: u32,
    /// The 48 bits of constraint flags that follow, as six bytes.
    pub constraints: [u8; 6],
    /// `general_level_idc`: 93 is level 3.1.
    pub level: u8,
}

impl ProfileTierLevel {
    fn read(bits: &mut Bits<'_>, sub_layers_minus1: u8) -> Result<Self> {
        let mut ptl = Self {
            space: bits.u8(2, "general_profile_space")?,
            high_tier: bits.flag("general_tier_flag")?,
            profile: bits.u8(5, "general_profile_idc")?,
            compatibility: bits.u(32, "general_profile_compatibility_flags")?,
            constraints: [0; 6],
            level: 0,
        };
        for byte in &mut ptl.constraints {
            *byte = bits.u8(8, "general constraint flags")?;
        }
        ptl.level = bits.u8(8, "general_level_idc")?;
        if sub_layers_minus1 > 0 {
            // Two flags for each of at most seven sub-layers, padded to eight.
            let present = bits.u(16, "sub_layer flags")?;
            for i in 0..sub_layers_minus1.min(7) {
                let flags = present >> (14 - 2 * i);
                bits.skip(if flags & 2 != 0 { 88 } else { 0 }, "sub_layer profile")?;
                bits.skip(if flags & 1 != 0 { 8 } else { 0 }, "sub_layer_level_idc")?;
            }
        }
        Ok(ptl)
    }

    /// The profile as people call it.
    #[must_use]
    pub fn profile_name(&self) -> &'static str {
        // Streams may leave the profile at 0 and say by a flag what they are compatible with.
        let compatible = self.compatibility.leading_zeros() as u8;
        match if self.profile == 0 { compatible } else { self.profile } {
            1 => "Main",
            2 => "Main 10",
            3 => "Main Still Picture",
            4 => "Range Extensions",
            5 => "High Throughput",
            6 => "Multiview Main",
            7 => "Scalable Main",
            8 => "3D Main",
            9 => "Screen Content",
            10 => "Scalable Range Extensions",
            11 => "High Throughput Screen Content",
            _ => "",
        }
    }

    /// The codec string (ISO/IEC 14496-15 E.3).
    fn rfc6381(&self) -> String {
        let space = ["", "A", "B", "C"].get(usize::from(self.space)).unwrap_or(&"");
        let tier = if self.high_tier { 'H' } else { 'L' };
        let compatibility = self.compatibility.reverse_bits();
        let mut text = format!("hvc1.{space}{}.{compatibility:X}.{tier}{}", self.profile, self.level);
        let used = self.constraints.iter().rposition(|&b| b != 0).map_or(0, |last| last + 1);
        for byte in self.constraints.iter().take(used) {
            text += &format!(".{byte:X}");
        }
        text
    }
}

/// A video parameter set (7.3.2.1), as far as a server needs it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Vps {
    /// `vps_video_parameter_set_id`, 0 to 15.
    pub id: u8,
    /// `vps_max_sub_layers_minus1` + 1: temporal layers.
    pub temporal_layers: u8,
    /// Profile, tier and level.
    pub ptl: ProfileTierLevel,
}

impl Vps {
    /// Reads a VPS NAL unit, header included.
    ///
    /// # Errors
    /// When it is truncated, or not a VPS.
    pub fn parse(nal: &[u8]) -> Result<Self> {
        let data = rbsp(bounded(nal, "H.265 VPS")?);
        let mut bits = header(Bits::new("H.265 VPS", &data), 32)?;
        let id = bits.u8(4, "vps_video_parameter_set_id")?;
        bits.skip(8, "vps_base_layer flags and vps_max_layers_minus1")?;
        let sub_layers_minus1 = sub_layers_minus1(&mut bits)?;
        bits.skip(17, "vps_temporal_id_nesting_flag and reserved bits")?;
        let ptl = ProfileTierLevel::read(&mut bits, sub_layers_minus1)?;
        Ok(Self { id, temporal_layers: sub_layers_minus1 + 1, ptl })
    }
}

/// A sequence parameter set (7.3.2.2), as far as a server needs it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sps {
    /// `sps_seq_parameter_set_id`, 0 to 15.
    pub id: u32,
    /// Profile, tier and level.
    pub ptl: ProfileTierLevel,
    /// `sps_max_sub_layers_minus1` + 1: temporal layers.
    pub temporal_layers: u8,
    /// `sps_temporal_id_nesting_flag`.
    pub nested: bool,
    /// `chroma_format_idc`: 0 monochrome, 1 4:2:0, 2 4:2:2, 3 4:4:4.
    pub chroma_format: u8,
    /// Bits of a luma sample.
    pub luma_depth: u8,
    /// Bits of a chroma sample.
    pub chroma_depth: u8,
    /// Picture width in pixels, inside of the conformance window.
    pub width: u32,
    /// Picture height in pixels, inside of the conformance window.
    pub height: u32,
    /// Pictures per second as a fraction in lowest terms, where the VUI says so.
    pub fps: Option<(u32, u32)>,
    /// `sps_max_num_reorder_pics` of the highest temporal layer.
    pub reorder: u8,
    /// `sps_max_dec_pic_buffering_minus1` + 1 of the highest temporal layer.
    pub dpb: u8,
}

impl Sps {
    /// Reads an SPS NAL unit, header included. A VUI that ends too soon counts as absent.
    ///
    /// # Errors
    /// When it is truncated, or a value is one that the specification forbids.
    pub fn parse(nal: &[u8]) -> Result<Self> {
        let data = rbsp(bounded(nal, "H.265 SPS")?);
        let mut bits = header(Bits::new("H.265 SPS", &data), 33)?;
        bits.skip(4, "sps_video_parameter_set_id")?;
        let sub_layers_minus1 = sub_layers_minus1(&mut bits)?;
        let nested = bits.flag("sps_temporal_id_nesting_flag")?;
        let ptl = ProfileTierLevel::read(&mut bits, sub_layers_minus1)?;
        let id = bits.ue_max(15, "sps_seq_parameter_set_id")?;

        let chroma_format = bits.ue_max(3, "chroma_format_idc")? as u8;
        let planes = chroma_format == 3 && bits.flag("separate_colour_plane_flag")?;
        let mut width = bits.ue_max(MAX_SIDE, "pic_width_in_luma_samples")?;
        let mut height = bits.ue_max(MAX_SIDE, "pic_height_in_luma_samples")?;
        if width == 0 || height == 0 {
            return Err(bits.invalid("picture size", 0, "nothing"));
        }
        if bits.flag("conformance_window_flag")? {
            // Table 6-1.
            let unit_x = if !planes && matches!(chroma_format, 1 | 2) { 2 } else { 1 };
            let unit_y = if !planes && chroma_format == 1 { 2 } else { 1 };
            let (left, right) = (bits.ue("conf_win_left_offset")?, bits.ue("conf_win_right_offset")?);
            let (top, bottom) = (bits.ue("conf_win_top_offset")?, bits.ue("conf_win_bottom_offset")?);
            width = cropped(&bits, width, left, right, unit_x)?;
            height = cropped(&bits, height, top, bottom, unit_y)?;
        }
        let luma_depth = 8 + bits.ue_max(8, "bit_depth_luma_minus8")? as u8;
        let chroma_depth = 8 + bits.ue_max(8, "bit_depth_chroma_minus8")? as u8;
        let poc_bits = 4 + bits.ue_max(12, "log2_max_pic_order_cnt_lsb_minus4")?;

        let (mut dpb, mut reorder) = (1, 0);
        let all = bits.flag("sps_sub_layer_ordering_info_present_flag")?;
        for _ in 0..if all { sub_layers_minus1 + 1 } else { 1 } {
            dpb = bits.ue_max(15, "sps_max_dec_pic_buffering_minus1")? as u8 + 1;
            reorder = bits.ue_max(15, "sps_max_num_reorder_pics")? as u8;
            bits.ue("sps_max_latency_increase_plus1")?;
        }
        let mut sps = Self {
            id,
            ptl,
            temporal_layers: sub_layers_minus1 + 1,
            nested,
            chroma_format,
            luma_depth,
            chroma_depth,
            width,
            height,
            fps: None,
            reorder,
            dpb,
        };
        coding_tools(&mut bits, poc_bits)?;
        if bits.flag("vui_parameters_present_flag")? {
            sps.fps = vui_frame_rate(&mut bits).unwrap_or(None);
        }
        Ok(sps)
    }

    pub(crate) fn facts(&self) -> Facts {
        Facts {
            width: self.width,
            height: self.height,
            fps: self.fps,
            profile: u32::from(self.ptl.profile),
            profile_name: self.ptl.profile_name(),
            level: u32::from(self.ptl.level),
            reorder: Some(self.reorder),
            rfc6381: self.ptl.rfc6381(),
            ..Facts::default()
        }
    }
}

/// A picture parameter set (7.3.2.3), as far as a server needs it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pps {
    /// `pps_pic_parameter_set_id`, 0 to 63.
    pub id: u32,
    /// `pps_seq_parameter_set_id` of the SPS that it belongs to.
    pub sps_id: u32,
    /// `num_extra_slice_header_bits`.
    pub extra_slice_bits: u8,
}

impl Pps {
    /// Reads a PPS NAL unit, header included.
    ///
    /// # Errors
    /// When it is truncated, or an id is out of range.
    pub fn parse(nal: &[u8]) -> Result<Self> {
        let data = rbsp_start::<16>(nal);
        let mut bits = header(Bits::new("H.265 PPS", &data), 34)?;
        let id = bits.ue_max(63, "pps_pic_parameter_set_id")?;
        let sps_id = bits.ue_max(15, "pps_seq_parameter_set_id")?;
        bits.skip(2, "dependent_slice_segments_enabled_flag and output_flag_present_flag")?;
        Ok(Self { id, sps_id, extra_slice_bits: bits.u8(3, "num_extra_slice_header_bits")? })
    }
}

/// The `hvcC` record (HEVCDecoderConfigurationRecord).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HvcConfig {
    /// How many bytes the length before each NAL unit has: 1 to 4; 0 when Annex B was sent in place of a record.
    pub length_size: u8,
    /// VPS, SPS and PPS, at least one of each.
    pub sets: ParamSets,
    /// Whether the record that was read had start codes, so that it can't be passed on as it is.
    pub(crate) repaired: bool,
}

impl HvcConfig {
    /// The record of `sets`, for 4-byte lengths.
    ///
    /// # Errors
    /// When VPS, SPS or PPS is missing, or the first SPS can't be read.
    pub fn new(sets: ParamSets) -> Result<Self> {
        let config = Self { length_size: 4, sets, repaired: false };
        config.sps()?;
        if config.sets.vps.is_empty() || config.sets.pps.is_empty() {
            return Err(MediaError::Unsupported {
                what: "H.265 parameter sets",
                why: "there is no VPS or no PPS",
            });
        }
        Ok(config)
    }

    /// Reads a record. Also understands parameter sets with start codes, for the whole record or inside of it.
    ///
    /// # Errors
    /// When it is truncated, of another version, or sets are missing.
    pub fn parse(data: &[u8]) -> Result<Self> {
        let mut sets = ParamSets::default();
        let mut add = |nal: &[u8]| sets.push(Role::of(Codec::H265, nal), nal);
        if starts_with_start_code(data) {
            annex_b(data).for_each(add);
            return Ok(Self { length_size: 0, repaired: true, ..Self::new(sets)? });
        }
        let mut bits = Bits::new("hvcC", data);
        let version = bits.u8(8, "configurationVersion")?;
        // Encoders from before the record was final write 0.
        if version > 1 {
            return Err(bits.invalid("configurationVersion", u64::from(version), "unknown (not 1)"));
        }
        bits.skip(20 * 8, "profile, level and formats")?;
        let length_size = bits.u8(8, "lengthSizeMinusOne")? % 4 + 1;
        let arrays = bits.u8(8, "numOfArrays")?;
        let truncated = || MediaError::Truncated { what: "hvcC", field: "NAL unit array", len: data.len() };
        let mut rest = data.get(23..).unwrap_or_default();
        let mut repaired = false;
        for _ in 0..arrays {
            let (&[_, high, low], mut after) = rest.split_first_chunk::<3>().ok_or_else(truncated)?;
            for _ in 0..u16::from_be_bytes([high, low]) {
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
            return Err(MediaError::Unsupported { what: "H.265 parameter sets", why: "there is no SPS" });
        };
        Sps::parse(sps)
    }

    /// The record as bytes, always for 4-byte lengths.
    ///
    /// # Errors
    /// When the first SPS can't be read.
    pub fn build(&self) -> Result<Bytes> {
        let sps = self.sps()?;
        let ptl = &sps.ptl;
        let mut out = vec![1, ptl.space << 6 | u8::from(ptl.high_tier) << 5 | ptl.profile];
        out.put_u32(ptl.compatibility);
        out.extend_from_slice(&ptl.constraints);
        out.put_u8(ptl.level);
        // min_spatial_segmentation_idc and parallelismType: unknown.
        out.extend_from_slice(&[0xF0, 0, 0xFC]);
        let (luma, chroma) = (sps.luma_depth - 8, sps.chroma_depth - 8);
        // Depths above 15 bits don't fit.
        out.extend_from_slice(&[0xFC | sps.chroma_format, 0xF8 | luma.min(7), 0xF8 | chroma.min(7)]);
        out.put_u16(0); // avgFrameRate: unknown
        out.extend_from_slice(&[sps.temporal_layers << 3 | u8::from(sps.nested) << 2 | 3, 3]);
        for (nal_type, list) in [(32, &self.sets.vps), (33, &self.sets.sps), (34, &self.sets.pps)] {
            out.put_u8(0x80 | nal_type); // complete: frames have no sets
            out.put_u16(u16::try_from(list.len()).unwrap_or(0));
            for nal in list {
                out.put_u16(u16::try_from(nal.len()).unwrap_or(0));
                out.extend_from_slice(nal);
            }
        }
        Ok(out.into())
    }
}

/// What a NAL unit is.
pub(crate) fn role(nal: &[u8]) -> Role {
    // A unit without its header of two bytes carries nothing.
    let Some(&[first, second]) = nal.first_chunk::<2>() else { return Role::Stuffing };
    // Units of a layer above the first are an enhancement; decoders of what we describe pass over them.
    let base = first & 1 == 0 && second >> 3 == 0;
    match first >> 1 & 63 {
        0..=9 if base => Role::Slice,
        16..=21 if base => Role::KeySlice,
        32 if base => Role::Vps,
        33 if base => Role::Sps,
        34 if base => Role::Pps,
        35 | 38 => Role::Stuffing,
        39 => Role::Sei,
        _ => Role::Other,
    }
}

/// The id of a VPS, SPS or PPS.
pub(crate) fn set_id(nal: &[u8]) -> Option<u32> {
    // An SPS has up to 6 sub-layers of 12 bytes before its id.
    let data = rbsp_start::<128>(nal);
    let mut bits = Bits::new("H.265 parameter set", &data);
    match bits.u(16, "NAL unit header").ok()? >> 9 & 63 {
        32 => bits.u(4, "id").ok(),
        33 => {
            bits.skip(4, "sps_video_parameter_set_id").ok()?;
            let sub_layers_minus1 = sub_layers_minus1(&mut bits).ok()?;
            bits.skip(1, "sps_temporal_id_nesting_flag").ok()?;
            ProfileTierLevel::read(&mut bits, sub_layers_minus1).ok()?;
            bits.ue("id").ok()
        }
        34 => bits.ue("id").ok(),
        _ => None,
    }
}

/// Whether the slice NAL unit is of a B picture (7.3.6.1). Assumes that the PPS adds no bits to slice headers
/// ([`Pps::extra_slice_bits`] is 0), as that of every live encoder.
pub(crate) fn is_b_slice(nal: &[u8]) -> bool {
    let data = rbsp_start::<16>(nal);
    let mut bits = Bits::new("H.265 slice header", &data);
    let mut slice_type = || -> Result<Option<u32>> {
        if bits.u(16, "NAL unit header")? >> 9 & 63 > 9 {
            return Ok(None); // IRAP pictures are intra coded
        }
        let first = bits.flag("first_slice_segment_in_pic_flag")?;
        bits.ue_max(63, "slice_pic_parameter_set_id")?;
        if !first {
            return Ok(None); // what follows depends on the picture's size
        }
        bits.ue_max(2, "slice_type").map(Some)
    };
    slice_type().is_ok_and(|t| t == Some(0))
}

/// Passes over the NAL unit header.
fn header(mut bits: Bits<'_>, wanted: u32) -> Result<Bits<'_>> {
    let nal_type = bits.u(16, "NAL unit header")? >> 9 & 63;
    if nal_type != wanted {
        return Err(bits.invalid("nal_unit_type", u64::from(nal_type), "that of another NAL unit"));
    }
    Ok(bits)
}

fn sub_layers_minus1(bits: &mut Bits<'_>) -> Result<u8> {
    let n = bits.u8(3, "max_sub_layers_minus1")?;
    if n > 6 {
        return Err(bits.invalid("max_sub_layers_minus1", u64::from(n), "out of range (0 to 6)"));
    }
    Ok(n)
}

/// What stands in an SPS between the picture buffer and the VUI.
fn coding_tools(bits: &mut Bits<'_>, poc_bits: u32) -> Result<()> {
    for field in [
        "log2_min_luma_coding_block_size_minus3",
        "log2_diff_max_min_luma_coding_block_size",
        "log2_min_luma_transform_block_size_minus2",
        "log2_diff_max_min_luma_transform_block_size",
        "max_transform_hierarchy_depth_inter",
        "max_transform_hierarchy_depth_intra",
    ] {
        bits.ue_max(4, field)?;
    }
    if bits.flag("scaling_list_enabled_flag")? && bits.flag("sps_scaling_list_data_present_flag")? {
        skip_scaling_lists(bits)?;
    }
    bits.skip(2, "amp_enabled_flag and sample_adaptive_offset_enabled_flag")?;
    if bits.flag("pcm_enabled_flag")? {
        bits.skip(8, "pcm_sample_bit_depths")?;
        bits.ue("log2_min_pcm_luma_coding_block_size_minus3")?;
        bits.ue("log2_diff_max_min_pcm_luma_coding_block_size")?;
        bits.skip(1, "pcm_loop_filter_disabled_flag")?;
    }
    skip_short_term_sets(bits)?;
    if bits.flag("long_term_ref_pics_present_flag")? {
        for _ in 0..bits.ue_max(32, "num_long_term_ref_pics_sps")? {
            bits.skip(poc_bits as usize + 1, "lt_ref_pic_poc_lsb_sps")?;
        }
    }
    bits.skip(2, "sps_temporal_mvp_enabled_flag and strong_intra_smoothing_enabled_flag")
}

/// scaling_list_data (7.3.4)
fn skip_scaling_lists(bits: &mut Bits<'_>) -> Result<()> {
    for size in 0..4 {
        for _ in 0..if size == 3 { 2 } else { 6 } {
            if !bits.flag("scaling_list_pred_mode_flag")? {
                bits.ue("scaling_list_pred_matrix_id_delta")?;
                continue;
            }
            if size > 1 {
                bits.se("scaling_list_dc_coef_minus8")?;
            }
            for _ in 0..if size == 0 { 16 } else { 64 } {
                bits.se("scaling_list_delta_coef")?;
            }
        }
    }
    Ok(())
}

/// All st_ref_pic_set (7.3.7) of an SPS.
fn skip_short_term_sets(bits: &mut Bits<'_>) -> Result<()> {
    let mut pictures = 0;
    for i in 0..bits.ue_max(64, "num_short_term_ref_pic_sets")? {
        if i > 0 && bits.flag("inter_ref_pic_set_prediction_flag")? {
            bits.skip(1, "delta_rps_sign")?;
            bits.ue("abs_delta_rps_minus1")?;
            let mut kept = 0;
            // One flag for each picture of the set before, and one for that itself.
            for _ in 0..=pictures {
                if bits.flag("used_by_curr_pic_flag")? || bits.flag("use_delta_flag")? {
                    kept += 1;
                }
            }
            pictures = kept;
        } else {
            let negative = bits.ue_max(16, "num_negative_pics")?;
            let positive = bits.ue_max(16, "num_positive_pics")?;
            pictures = negative + positive;
            for _ in 0..pictures {
                bits.ue("delta_poc_minus1")?;
                bits.skip(1, "used_by_curr_pic_flag")?;
            }
        }
        if pictures > 16 {
            return Err(bits.invalid("pictures of a short-term set", u64::from(pictures), "more than 16"));
        }
    }
    Ok(())
}

/// The VUI parameters (E.2.1) up to the timing.
fn vui_frame_rate(bits: &mut Bits<'_>) -> Result<Option<(u32, u32)>> {
    skip_video_signal(bits)?;
    bits.skip(3, "neutral_chroma_indication_flag, field_seq_flag and frame_field_info_present_flag")?;
    if bits.flag("default_display_window_flag")? {
        for _ in 0..4 {
            bits.ue("default display window")?;
        }
    }
    if !bits.flag("vui_timing_info_present_flag")? {
        return Ok(None);
    }
    let ticks = bits.u(32, "vui_num_units_in_tick")?;
    let scale = bits.u(32, "vui_time_scale")?;
    Ok(frame_rate(u64::from(scale), u64::from(ticks)))
}

#[cfg(test)]
#[path = "h265_tests.rs"]
mod tests;
