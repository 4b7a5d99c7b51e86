use bytes::Bytes;
use proptest::prelude::*;

use super::*;
use crate::media::test::{hex, mutations, truncations};
use crate::media::{Track, TrackId, is_b_frame, is_key, length_size, nal};

// Debian 12's ffmpeg 5.1, libx265 3.5, `-f lavfi -i testsrc2`:
/// 1280x720, 30 fps
const MAIN: [&str; 3] = [
    "40010c01ffff01600000030090000003000003005d959809",
    "42010101600000030090000003000003005da00280802d165959a4932bc05a020000030002000003003c10",
    "4401c172b46240",
];
/// 1920x1080, 30000/1001 fps, `yuv420p10le`, BT.2020, `vbv-maxrate=5000:vbv-bufsize=5000:hrd=1`
const MAIN_10: [&str; 3] = [
    "40010c01ffff022000000300900000030000030078959809",
    "420101022000000300900000030000030078a003c08010e4d96566924caf016a1220120800001f480003a98300a4b370000989680004c4b440",
    "4401c172bc6240",
];
/// 322x178, 50 fps, `yuv422p10le`, `temporal-layers=1`
const RANGE_422: [&str; 3] = [
    "40010c02ffff0408000003009d0800000300003c00009598acc048",
    "4201020408000003009d0800000300003c0000b00a480b9c93b659598acd24995e02d0100000030010000003032080",
    "4401c172b46240",
];
/// 640x360, 25 fps, `scaling-list=default:ref=4:bframes=0`
const SCALING: &str = "42010101600000030090000003000003003fa0050201696596a49395e02d010000030001000003001908";

/// What ffmpeg 5.1's MP4 muxer makes of `MAIN`.
const HVCC: &str = "0101600000009000000000005df000fcfdf8f800000f03a00001001840010c01ffff01600000030090000003000003005d959809a10001002b42010101600000030090000003000003005da00280802d165959a4932bc05a020000030002000003003c10a2000100074401c172b46240";

fn track(config: impl Into<Bytes>) -> Result<Track> {
    Track::with_config(TrackId(0), Codec::H265, config.into())
}

fn sets(nals: [&str; 3]) -> ParamSets {
    let [vps, sps, pps] = nals.map(|n| vec![hex(n).into()]);
    ParamSets { vps, sps, pps }
}

#[test]
fn sps_of_x265() {
    let read = |sps| {
        let s = Sps::parse(&hex(sps)).unwrap();
        (
            s.width,
            s.height,
            s.fps,
            s.ptl.profile_name(),
            s.ptl.level,
            s.reorder,
            s.luma_depth,
            s.temporal_layers,
        )
    };
    assert_eq!(read(MAIN[1]), (1280, 720, Some((30, 1)), "Main", 93, 2, 8, 1));
    assert_eq!(read(MAIN_10[1]), (1920, 1080, Some((30_000, 1001)), "Main 10", 120, 2, 10, 1));
    assert_eq!(read(RANGE_422[1]), (322, 178, Some((50, 1)), "Range Extensions", 60, 2, 10, 2));
    assert_eq!(read(SCALING), (640, 360, Some((25, 1)), "Main", 63, 0, 8, 1));
    assert_eq!(Sps::parse(&hex(RANGE_422[1])).unwrap().chroma_format, 2);
}

#[test]
fn vps_and_pps_of_x265() {
    for nals in [MAIN, MAIN_10, RANGE_422] {
        let (vps, sps) = (Vps::parse(&hex(nals[0])).unwrap(), Sps::parse(&hex(nals[1])).unwrap());
        assert_eq!((vps.id, vps.ptl, vps.temporal_layers), (0, sps.ptl, sps.temporal_layers));
        assert_eq!(Pps::parse(&hex(nals[2])).unwrap(), Pps { id: 0, sps_id: 0, extra_slice_bits: 0 });
    }
}

#[test]
fn hvcc_of_ffmpeg() {
    let built = HvcConfig::new(sets(MAIN)).unwrap().build().unwrap();
    // We say that the sets are complete, ffmpeg 5.1 in MP4 `hvc1` does too.
    assert_eq!(built, hex(HVCC));
    let track = track(built.clone()).unwrap();
    assert_eq!(track.config, built);
    let f = track.facts;
    assert_eq!((f.width, f.height, f.fps, f.reorder, f.level), (1280, 720, Some((30, 1)), Some(2), 93));
    assert_eq!(f.rfc6381, "hvc1.1.6.L93.90");
    assert_eq!(length_size(Codec::H265, &built), Ok(4));
    let rfc6381 = |nals| Sps::parse(&hex(nals)).unwrap().facts().rfc6381;
    assert_eq!(rfc6381(MAIN_10[1]), "hvc1.2.4.L120.90");
    assert_eq!(rfc6381(RANGE_422[1]), "hvc1.4.10.L60.9D.8");
}

#[test]
fn odd_records_become_plain_ones() {
    let plain = hex(HVCC);
    let mut short = plain.clone();
    short[21] &= !2;
    assert_eq!(length_size(Codec::H265, &short), Ok(2));
    assert_eq!(track(short).unwrap().config, plain);
    let mut old = plain.clone();
    old[0] = 0;
    assert_eq!(track(old).unwrap().facts.width, 1280);

    let annex_b: Vec<u8> = MAIN.iter().flat_map(|n| [&[0, 0, 0, 1][..], &hex(n)].concat()).collect();
    assert_eq!(length_size(Codec::H265, &annex_b), Ok(0));
    assert_eq!(track(annex_b.clone()).unwrap().config, plain);
    let inside = [&plain[..22], &[1, 0xA0, 0, 1, 0, annex_b.len() as u8], &annex_b].concat();
    assert_eq!(track(inside).unwrap().config, plain);

    assert!(track(vec![]).is_err());
    assert!(track([&plain[..22], &[0]].concat()).is_err());
    assert!(track([&[2], &plain[1..]].concat()).is_err());
    assert!(HvcConfig::new(ParamSets { vps: vec![], ..sets(MAIN) }).is_err());
    assert!(HvcConfig::new(ParamSets { pps: vec![], ..sets(MAIN) }).is_err());
}

#[test]
fn sets_in_band_make_and_change_the_config() {
    let mut track = Track::new(TrackId(0), Codec::H265);
    assert_eq!(track.update_sets(&ParamSets { pps: vec![], ..sets(MAIN) }), Ok(false));
    assert_eq!(track.update_sets(&sets(MAIN)), Ok(true));
    assert_eq!(track.config, hex(HVCC));
    assert_eq!(track.update_sets(&sets(MAIN)), Ok(false));
    assert_eq!(track.update_sets(&sets(MAIN_10)), Ok(true));
    assert_eq!((track.facts.height, track.facts.profile), (1080, 2));
    assert_eq!(HvcConfig::parse(&track.config).unwrap().sets, sets(MAIN_10));
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
fn slices_of_x265() {
    let read = |data: &[u8]| (is_key(Codec::H265, data), is_b_frame(Codec::H265, data));
    // The first bytes of the stream of MAIN: SEI and IDR, P, B (reference), B; and B of RANGE_422 (TSA_N).
    assert_eq!(read(&frame(&["4e0105ff", "2801af08460d33a0e7893a30513f0cf0"])), (true, false));
    assert_eq!(read(&frame(&["0201d02149e10c6108c185bcbea5168e"])), (false, false));
    assert_eq!(read(&frame(&["0201e04495786120c182d41dc0ca0780"])), (false, true));
    assert_eq!(read(&frame(&["0001e024fd7e8b0a460b1c61481280c0"])), (false, true));
    assert_eq!(read(&frame(&["0402e024fffa2c3167c306f5232810ba"])), (false, true));
    // CRA is a place to start, too; a slice of another layer isn't.
    assert_eq!(read(&frame(&["2a01af08"])), (true, false));
    assert_eq!(read(&frame(&["2a09af08"])), (false, false));
}

#[test]
fn normalise_takes_out_delimiters_and_sets() {
    let (aud, slice) = ("460110", "2801af08460d33a0e7893a30513f0cf0");
    let data: Bytes = frame(&[aud, MAIN[0], MAIN[1], MAIN[2], slice, "4c01ff80"]).into();
    let n = nal::normalise(Codec::H265, data, 4).unwrap();
    assert_eq!((n.data, n.sets, n.key), (frame(&[slice]).into(), sets(MAIN), true));
}

#[test]
fn what_is_forbidden_is_an_error() {
    assert!(Sps::parse(&[]).is_err());
    assert!(Sps::parse(&hex(MAIN[0])).is_err());
    assert!(Vps::parse(&hex(MAIN[1])).is_err());
    assert!(Pps::parse(&hex(MAIN[1])).is_err());
    // Eight sub-layers.
    let mut sps = hex(MAIN[1]);
    sps[2] |= 0x0E;
    assert!(Sps::parse(&sps).is_err());
    // Its VUI cut off: what stood before still counts.
    let sps = Sps::parse(&hex(MAIN[1])[..33]).unwrap();
    assert_eq!((sps.width, sps.fps), (1280, None));
}

#[test]
fn cut_and_changed_bytes_do_not_panic() {
    for nals in [MAIN, MAIN_10, RANGE_422, [MAIN[0], SCALING, MAIN[2]]] {
        for nal in nals.map(hex) {
            truncations(&nal).for_each(|d| _ = (Vps::parse(d), Sps::parse(d), Pps::parse(d)));
            mutations(&nal).for_each(|d| {
                let _ = (Vps::parse(&d), Sps::parse(&d).map(|s| s.facts()), Pps::parse(&d));
            });
        }
    }
    truncations(&hex(HVCC)).for_each(|d| assert!(track(d.to_vec()).is_err()));
    mutations(&hex(HVCC)).for_each(|d| _ = track(d));
}

proptest! {
    #[test]
    fn any_bytes(data: Vec<u8>, tail: Vec<u8>) {
        let _ = Sps::parse(&[&[0x42, 1], &*data].concat());
        // Behind a good profile, to get further.
        let _ = Sps::parse(&[&hex(MAIN[1])[..15], &*data].concat());
        let _ = Sps::parse(&[&hex(MAIN[1])[..22], &*data].concat());
        let _ = Vps::parse(&[&[0x40, 1], &*data].concat());
        let _ = Pps::parse(&[&[0x44, 1], &*data].concat());
        let _ = HvcConfig::parse(&[&hex(HVCC)[..22], &*tail].concat());
        let _ = (is_b_slice(&data), set_id(&data), role(&data));
    }
}
