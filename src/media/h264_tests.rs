#![allow(clippy::unusual_byte_groupings)] // bits are grouped by syntax element

use proptest::prelude::*;

use super::*;
use crate::media::bits::BitWriter;
use crate::media::test::{hex, mutations, truncations};
use crate::media::{Track, TrackId, is_b_frame, is_key, length_size, nal};

// Debian 12's ffmpeg 5.1, libx264 r3095, `-f lavfi -i testsrc2`:
/// 1280x720, 30 fps, `-profile:v high`
const HIGH_720: &str = "6764001facd9405005bb0110000003001000000303c0f18319600000";
const HIGH_720_PPS: &str = "68ebe3cb22c0";
/// 1920x1080, 30000/1001 fps, `-profile:v high`
const HIGH_1080: &str = "67640028acd940780227e5c04400000fa40003a9803c60c658";
/// 640x360, 25 fps, `-profile:v baseline -tune zerolatency`
const BASELINE: &str = "6742c01ed900a02ff97011000003000100000300328f162e48";
/// 1920x1080, 50 fps, `-pix_fmt yuv422p10le -profile:v high422 -x264-params interlaced=1:tff=1`
const HIGH_422: &str = "677a003eb6cd94078044fcb8088000000300800000320f8f1ecb";
/// 322x178, 24 fps, `-pix_fmt yuv444p -profile:v high444`
const HIGH_444: &str = "67f4000d919b282a33c7c7e022000003000200000300601e28532c";
/// 1280x720, 60 fps, `cqm=jvt:nal-hrd=cbr:vbv-maxrate=5000:vbv-bufsize=5000:bitrate=5000`
const CQM_HRD: &str = "67640020acd9405005bb0110000003001000000786040001312d00009896e4d38078c18cb0";

const ALL: [&str; 6] = [HIGH_720, HIGH_1080, BASELINE, HIGH_422, HIGH_444, CQM_HRD];

#[test]
fn sps_of_x264() {
    let read = |sps| {
        let s = Sps::parse(&hex(sps)).unwrap();
        (s.width, s.height, s.fps, s.profile_name(), s.level, s.reorder, s.dpb)
    };
    assert_eq!(read(HIGH_720), (1280, 720, Some((30, 1)), "High", 31, 2, 4));
    assert_eq!(read(HIGH_1080), (1920, 1080, Some((30_000, 1001)), "High", 40, 2, 4));
    assert_eq!(read(BASELINE), (640, 360, Some((25, 1)), "Constrained Baseline", 30, 0, 3));
    assert_eq!(read(HIGH_422), (1920, 1080, Some((50, 1)), "High 4:2:2", 62, 2, 4));
    assert_eq!(read(HIGH_444), (322, 178, Some((24, 1)), "High 4:4:4 Predictive", 13, 2, 4));
    assert_eq!(read(CQM_HRD), (1280, 720, Some((60, 1)), "High", 32, 2, 4));

    let s = Sps::parse(&hex(HIGH_422)).unwrap();
    assert_eq!((s.chroma_format, s.luma_depth, s.chroma_depth, s.interlaced), (2, 10, 10, true));
    assert_eq!(Sps::parse(&hex(HIGH_444)).unwrap().chroma_format, 3);
    assert_eq!(Pps::parse(&hex(HIGH_720_PPS)).unwrap(), Pps { id: 0, sps_id: 0, cabac: true });
}

/// An SPS of profile 66, 4x3 macroblocks, with this VUI.
fn sps_with_vui(vui: impl FnOnce(&mut BitWriter)) -> Vec<u8> {
    let mut w = BitWriter::default();
    w.put(0x67_4D_00_1E, 32); // Main, level 3.0
    w.put(0b1_1_1_1, 4); // id 0, log2_max_frame_num 4, poc type 0, log2_max_poc_lsb 4
    w.put(0b010, 3); // one reference frame
    w.put(0, 1);
    w.put(0b00100, 5); // 4 macroblocks wide
    w.put(0b011, 3); // 3 high
    w.put(0b1_1_0_1, 4); // frames, direct 8x8, no cropping, VUI
    vui(&mut w);
    w.put(1, 1);
    escape(&w.finish())
}

/// Puts emulation prevention in.
fn escape(rbsp: &[u8]) -> Vec<u8> {
    let mut out: Vec<u8> = Vec::new();
    for &b in rbsp {
        if out.ends_with(&[0, 0]) && b <= 3 {
            out.push(3);
        }
        out.push(b);
    }
    out
}

#[test]
fn vui_of_hardware_encoders() {
    // Colour description, then time_scale that wants emulation prevention, as NVENC and phones send.
    let timing = |ticks: u32, scale: u32| {
        sps_with_vui(|w| {
            w.put(0b1, 1);
            w.put(255, 8); // Extended_SAR
            w.put(0x0001_0001, 32);
            w.put(0b0_1_101_0_1, 7);
            w.put(0x01_01_01, 24);
            w.put(0b0_1, 2);
            w.put(ticks, 32);
            w.put(scale, 32);
            w.put(0b1_0_0_0_0, 5);
        })
    };
    let fps = |ticks, scale| Sps::parse(&timing(ticks, scale)).unwrap().fps;
    assert_eq!(fps(1, 120), Some((60, 1)));
    assert_eq!(fps(1001, 60_000), Some((30_000, 1001)));
    assert_eq!(fps(0x0100_0000, 0x1E00_0000), Some((15, 1)));
    assert_eq!(fps(416_667, 20_000_000), Some((10_000_000, 416_667)));
    // Nonsense is unknown, not an error.
    for (ticks, scale) in [(0, 0), (0, 60), (1, 0), (1, u32::MAX), (u32::MAX, 1), (1, 90_000)] {
        assert_eq!(fps(ticks, scale), None, "{ticks}/{scale}");
    }
    assert_eq!(Sps::parse(&timing(1, 50)).unwrap().width, 64);
    assert_eq!(Sps::parse(&timing(1, 50)).unwrap().height, 48);
}

#[test]
fn huge_hrd_values_and_the_restriction_after_them() {
    let sps = |reorder: u32, dpb: u32| {
        sps_with_vui(|w| {
            w.put(0b0_0_0_0_0_1, 6); // nothing before the HRD
            w.put(1, 1); // cpb_cnt_minus1 0
            w.put(0, 8);
            for _ in 0..2 {
                w.put(0, 31); // 2^32 - 2
                w.put(u32::MAX, 32);
            }
            w.put(0, 1 + 20);
            w.put(0b0_0_0_1_1, 5); // no VCL HRD, low delay, pic_struct, restriction, motion vectors
            w.put(0b1111, 4);
            for n in [reorder, dpb] {
                w.put(0, (n + 1).ilog2());
                w.put(n + 1, (n + 1).ilog2() + 1);
            }
        })
    };
    let read = |reorder, dpb| {
        let s = Sps::parse(&sps(reorder, dpb)).unwrap();
        (s.reorder, s.dpb)
    };
    assert_eq!(read(0, 1), (0, 1));
    assert_eq!(read(2, 4), (2, 4));
    // Out of range or contradicting: as if absent. 8100 / 12 macroblocks is more than the bound of 16.
    assert_eq!(read(17, 17), (16, 16));
    assert_eq!(read(3, 2), (16, 16));
}

#[test]
fn without_a_vui_the_depth_is_inferred() {
    let mut sps = hex(HIGH_720);
    // The same without VUI: its flag is the 4th bit after "direct_8x8, cropping" 1 0.
    let s = Sps::parse(&sps).unwrap();
    sps.truncate(13);
    let cut = Sps::parse(&sps).unwrap();
    assert_eq!((cut.width, cut.height, cut.fps), (s.width, s.height, None));
    assert_eq!((cut.reorder, cut.dpb), (5, 5)); // 18000 / 3600
    assert_eq!(max_dpb_frames(40, 0, 8160), 4);
    assert_eq!(max_dpb_frames(11, 0x10, 99), 4);
    assert_eq!(max_dpb_frames(11, 0, 99), 9);
    assert_eq!(max_dpb_frames(62, 0, 0), 16);
}

#[test]
fn what_is_forbidden_is_an_error() {
    let sps = hex(HIGH_720);
    assert!(Sps::parse(&[]).is_err());
    assert!(Sps::parse(&sps[..4]).is_err());
    assert!(Sps::parse(&hex(HIGH_720_PPS)).is_err());
    assert!(Pps::parse(&sps).is_err());
    assert!(Sps::parse(&vec![0x67; MAX_SET + 1]).is_err());
    // A picture of 1055 x 1055 macroblocks is larger than any level allows, one that is all cropped away is none.
    let sized = |width: u32, height: u32, crop: u32| {
        let mut w = BitWriter::default();
        w.put(0x67_4D_00_1E, 32);
        w.put(0b1111_010_0, 8);
        for n in [width, height] {
            w.put(0, n.ilog2());
            w.put(n, n.ilog2() + 1);
        }
        w.put(0b1_1_1, 3);
        w.put(0, (crop + 1).ilog2());
        w.put(crop + 1, (crop + 1).ilog2() + 1);
        w.put(0b1_1_1_0_1, 5);
        Sps::parse(&escape(&w.finish())).map(|s| (s.width, s.height))
    };
    assert_eq!(sized(120, 68, 0), Ok((1920, 1088)));
    assert_eq!(sized(120, 68, 10), Ok((1900, 1088)));
    assert!(sized(120, 68, 960).is_err());
    assert!(sized(120, 68, u32::MAX / 4).is_err());
    assert!(sized(1055, 1055, 0).is_err());
    assert!(sized(1056, 1, 0).is_err());
}

/// ffmpeg 5.1's FLV muxer, for the stream of `HIGH_720`.
const AVCC: &str =
    "0164001fffe1001a6764001facd9405005bb0110000003001000000303c0f1831960010006 68ebe3cb22c0 fdf8f800";

fn track(config: Vec<u8>) -> Result<Track> {
    Track::with_config(TrackId(0), Codec::H264, config.into())
}

#[test]
fn avcc_of_ffmpeg() {
    let config = AvcConfig::parse(&hex(AVCC)).unwrap();
    assert_eq!(config.length_size, 4);
    assert_eq!(config.sets.pps, [hex(HIGH_720_PPS)]);
    assert_eq!(config.build().unwrap(), hex(AVCC));

    let track = track(hex(AVCC)).unwrap();
    assert_eq!(track.config, hex(AVCC));
    let f = track.facts;
    assert_eq!((f.width, f.height, f.fps, f.reorder), (1280, 720, Some((30, 1)), Some(2)));
    assert_eq!((f.profile, f.profile_name, f.level, &*f.rfc6381), (100, "High", 31, "avc1.64001F"));
}

#[test]
fn odd_records_become_plain_ones() {
    let mut short = hex(AVCC);
    short[4] = 0xFD;
    assert_eq!(length_size(Codec::H264, &short), Ok(2));
    assert_eq!(track(short).unwrap().config, hex(AVCC));

    // Annex B in place of a record, and inside of one.
    let sps = hex(&HIGH_720[..52]);
    let pps = hex(HIGH_720_PPS);
    let annex_b = [&[0, 0, 0, 1][..], &sps, &[0, 0, 1], &pps].concat();
    assert_eq!(length_size(Codec::H264, &annex_b), Ok(0));
    assert_eq!(track(annex_b.clone()).unwrap().config, hex(AVCC));
    let inside = [&[1, 0x64, 0, 0x1F, 0xFF, 0xE1, 0, annex_b.len() as u8][..], &annex_b, &[0]].concat();
    assert_eq!(length_size(Codec::H264, &inside), Ok(4));
    assert_eq!(track(inside).unwrap().config, hex(AVCC));

    // No sets, empty sets, no PPS, too long.
    assert!(track(vec![]).is_err());
    assert!(track(hex("0164001fffe000")).is_err());
    assert!(track(hex("0164001fffe100000100 00")).is_err());
    assert!(track(hex(AVCC)[..5 + 1 + 2 + 26].iter().copied().chain([0]).collect()).is_err());
    assert!(track([hex(AVCC), vec![0; crate::media::MAX_CONFIG]].concat()).is_err());
}

#[test]
fn sets_in_band_make_and_change_the_config() {
    let mut track = Track::new(TrackId(0), Codec::H264);
    let sets = |sps: &[&str], pps: &[&str]| ParamSets {
        sps: sps.iter().map(|s| hex(s).into()).collect(),
        pps: pps.iter().map(|s| hex(s).into()).collect(),
        ..ParamSets::default()
    };
    assert_eq!(track.update_sets(&sets(&[], &[])), Ok(false));
    assert_eq!(track.update_sets(&sets(&[HIGH_720], &[])), Ok(false));
    assert_eq!(track.update_sets(&sets(&[HIGH_720], &[HIGH_720_PPS])), Ok(true));
    assert_eq!(track.facts.height, 720);
    assert_eq!(track.update_sets(&sets(&[HIGH_720], &[HIGH_720_PPS])), Ok(false));
    assert_eq!(track.update_sets(&sets(&[HIGH_1080], &[])), Ok(true));
    assert_eq!(track.facts.height, 1080);
    assert_eq!(AvcConfig::parse(&track.config).unwrap().sets.sps.len(), 1);
    // A broken one changes nothing.
    let before = track.clone();
    assert!(track.update_sets(&sets(&["6764001f80"], &[])).is_err());
    assert_eq!(track, before);
}

/// `nals` in the form of a frame.
fn frame(nals: &[&str]) -> Vec<u8> {
    let mut out = Vec::new();
    for nal in nals {
        nal::put_nal(&mut out, &hex(nal));
    }
    out
}

#[test]
fn slices_of_x264() {
    // The first bytes of the stream of HIGH_720: IDR with an SEI before it, P, B (reference), B.
    let sei = "0605ffffaadc45e9bde6d948b7962cd8";
    let idr = frame(&[sei, "6588840077d2acfdd09bd9d0bf80530a"]);
    let p = frame(&["419a216c421fca90fa535fc8eb98a70e"]);
    let b = frame(&["419e40df886bfff20a47abff72ddd98f"]);
    let b_last = frame(&["019e615ea435fff1d506c37e1d35cb29"]);
    let read = |data: &[u8]| (is_key(Codec::H264, data), is_b_frame(Codec::H264, data));
    assert_eq!(read(&idr), (true, false));
    assert_eq!(read(&p), (false, false));
    assert_eq!(read(&b), (false, true));
    assert_eq!(read(&b_last), (false, true));
    // Open GOP and intra refresh: a recovery point, alone and behind a picture timing.
    assert_eq!(read(&frame(&["060601c480", "419a216c"])), (true, false));
    assert_eq!(read(&frame(&["06010132 06060209c480", "419a216c"])), (true, false));
    assert_eq!(read(&frame(&["0601013280", "419a216c"])), (false, false));
    for data in [&idr, &p, &b, &b_last] {
        truncations(data).for_each(|d| _ = read(d));
        mutations(data).for_each(|d| _ = read(&d));
    }

    let mut track = track(hex(AVCC)).unwrap();
    assert!(track.is_b_frame(&b));
    track.facts.reorder = Some(0);
    assert!(!track.is_b_frame(&b));
}

#[test]
fn cut_and_changed_sets_do_not_panic() {
    for sps in ALL {
        truncations(&hex(sps)).for_each(|d| drop(Sps::parse(d)));
        mutations(&hex(sps)).for_each(|d| drop(Sps::parse(&d)));
    }
    truncations(&hex(AVCC)).for_each(|d| {
        // Only what a Baseline record doesn't have may be missing.
        assert_eq!(track(d.to_vec()).is_ok(), d.len() >= hex(AVCC).len() - 4, "{}", d.len());
    });
    mutations(&hex(AVCC)).for_each(|d| drop(track(d)));
    mutations(&hex(HIGH_720_PPS)).for_each(|d| drop(Pps::parse(&d)));
}

proptest! {
    #[test]
    fn any_bytes(data: Vec<u8>) {
        let _ = Sps::parse(&[&[0x67], &*data].concat());
        let _ = Pps::parse(&[&[0x68], &*data].concat());
        let _ = AvcConfig::parse(&[&[1, 100, 0, 31, 255], &*data].concat());
        let _ = is_recovery_point(&data);
        let _ = is_b_slice(&data);
        let _ = set_id(&data);
        let _ = (is_key(Codec::H264, &data), is_b_frame(Codec::H264, &data));
    }
}
