//! H.265 (ITU-T H.265): parameter sets, slice headers, and the `hvcC` record (ISO/IEC 14496-15 8.3.3).

use super::Result;
use super::bits::{Bits, rbsp_start};
use super::nal::Role;

/// What a NAL unit is.
pub(crate) fn role(nal: &[u8]) -> Role {
    // Units of a layer above the first are an enhancement; decoders of what we describe pass over them.
    let Some(&[first, second]) = nal.first_chunk::<2>() else { return Role::Stuffing };
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
            let sub_layers = bits.u(3, "sps_max_sub_layers_minus1").ok()?;
            bits.skip(1, "sps_temporal_id_nesting_flag").ok()?;
            ProfileTierLevel::read(&mut bits, sub_layers).ok()?;
            bits.ue("id").ok()
        }
        34 => bits.ue("id").ok(),
        _ => None,
    }
}

/// Whether the slice NAL unit is of a B picture (7.3.6.1). Assumes that the PPS adds no bits to slice headers
/// (`num_extra_slice_header_bits` 0), as that of every live encoder.
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
    fn read(bits: &mut Bits<'_>, sub_layers_minus1: u32) -> Result<Self> {
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
}
