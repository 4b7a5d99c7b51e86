use bytes::Bytes;

use super::*;
use crate::media::test::hex;
use crate::media::{Codec, Track, TrackId};

/// x264, 1280x720, High.
const AVCC: &str =
    "0164001fffe1001a6764001facd9405005bb0110000003001000000303c0f1831960010006 68ebe3cb22c0 fdf8f800";

fn video() -> Track {
    Track::with_config(TrackId(0), Codec::H264, hex(AVCC).into()).unwrap()
}

fn audio() -> Track {
    Track::with_config(TrackId(1), Codec::Aac, Bytes::from_static(&[0x11, 0x90])).unwrap()
}

fn sample(dts: i64, duration: u32, cts: i32, key: bool, data: &'static [u8]) -> Sample {
    Sample { dts, duration, cts, key, data: Bytes::from_static(data) }
}

/// The boxes of `data`: type and content.
fn boxes(mut data: &[u8]) -> Vec<([u8; 4], &[u8])> {
    let mut out = Vec::new();
    while !data.is_empty() {
        let len = u32::from_be_bytes(data[..4].try_into().unwrap()) as usize;
        out.push((data[4..8].try_into().unwrap(), &data[8..len]));
        data = &data[len..];
    }
    out
}

/// The content of the first box of this path.
fn find<'a>(data: &'a [u8], path: &str) -> Option<&'a [u8]> {
    path.split('/').try_fold(data, |data, kind| {
        // What stands before the boxes in a box that has more than boxes.
        let head = match kind {
            "stsd" => 8,
            "avc1" | "encv" => 78,
            "mp4a" | "enca" | "Opus" | "fLaC" | "ac-3" | "ec-3" => 28,
            _ => 0,
        };
        let (_, content) = boxes(data).into_iter().find(|(k, _)| k == kind.as_bytes())?;
        content.get(head..)
    })
}

#[test]
fn a_fragment_byte_by_byte() {
    let pictures =
        [sample(0x1_0000_0000, 3600, 7200, true, b"key"), sample(0x1_0000_0E10, 3600, 0, false, b"delta")];
    let sounds = [sample(48_000, 1024, 0, true, b"a1"), sample(49_024, 1024, 0, true, b"a2")];
    let parts = fragment(7, &[Run::new(1, &pictures), Run::new(2, &sounds)]).unwrap();
    let head = "000000c0 6d6f6f66
        00000010 6d666864 00000000 00000007
        0000005c 74726166
          00000018 74666864 00020028 00000001 00000e10 01010000
          00000014 74666474 01000000 0000000100000000
          00000028 7472756e 01000a05 00000002 000000c8 02000000  00000003 00001c20  00000005 00000000
        0000004c 74726166
          0000001c 74666864 00020038 00000002 00000400 00000002 02000000
          00000014 74666474 01000000 000000000000bb80
          00000014 7472756e 01000001 00000002 000000d0
        00000014 6d646174";
    assert_eq!(parts[0], hex(head));
    assert_eq!(parts[1..], [&b"key"[..], b"delta", b"a1", b"a2"]);
    // Shared, not copied.
    assert_eq!(parts[1].as_ptr(), pictures[0].data.as_ptr());
}

#[test]
fn flags_of_each_sample_where_keys_lie_in_the_middle() {
    let samples = [
        sample(0, 10, 0, true, b"k"),
        sample(10, 10, -5, false, b"d"),
        sample(20, 11, 0, true, b"k"),
        sample(31, 10, 0, false, b"d"),
    ];
    let parts = fragment(1, &[Run::new(1, &samples), Run::new(2, &[])]).unwrap();
    let traf = find(&parts[0][..parts[0].len() - 8], "moof/traf").unwrap();
    // Sizes are the same; durations, flags and offsets are not.
    assert_eq!(find(traf, "tfhd").unwrap(), hex("00020030 00000001 00000001 01010000"));
    let rows = "0000000a 02000000 00000000  0000000a 01010000 fffffffb
        0000000b 02000000 00000000  0000000a 01010000 00000000";
    assert_eq!(find(traf, "trun").unwrap(), hex(&format!("01000d01 00000004 00000098 {rows}")));
    // A time before 0 can't be said.
    let early = [sample(-1, 1, 0, true, b"")];
    let head = &fragment(1, &[Run::new(1, &early)]).unwrap()[0];
    assert_eq!(find(&head[..head.len() - 8], "moof/traf/tfdt").unwrap(), hex("01000000 0000000000000000"));
}

#[test]
fn an_init_segment_of_two_tracks() {
    let (video, mut audio) = (video(), audio());
    audio.language = *b"deu";
    let init = init_segment(&[Mp4Track::new(1, &video), Mp4Track::new(2, &audio)]).unwrap();
    assert_eq!(find(&init, "ftyp").unwrap(), b"iso6\0\0\0\0iso6mp41");
    let traks: Vec<_> =
        boxes(find(&init, "moov").unwrap()).into_iter().filter(|(k, _)| k == b"trak").collect();
    let [(_, first), (_, second)] = traks[..] else { panic!() };
    let tkhd = find(first, "tkhd").unwrap();
    assert_eq!(tkhd[..24], hex("01000003 0000000000000000 0000000000000000 00000001"));
    assert_eq!(tkhd[tkhd.len() - 8..], hex("05000000 02d00000"));
    assert_eq!(find(first, "mdia/mdhd").unwrap()[20..24], 90_000u32.to_be_bytes());
    assert_eq!(find(second, "mdia/mdhd").unwrap()[20..24], 48_000u32.to_be_bytes());
    assert_eq!(find(second, "mdia/mdhd").unwrap()[32..34], [0x10, 0xB5]);
    assert_eq!(find(first, "mdia/minf/stbl/stsd/avc1/avcC").unwrap(), hex(AVCC));
    let esds =
        "00000000 0380808022 0000 00 0480808014 4015000000 00000000 00000000 0580808002 1190 0680808001 02";
    assert_eq!(find(second, "mdia/minf/stbl/stsd/mp4a/esds").unwrap(), hex(esds));
    assert_eq!(
        find(&init, "moov/mvex/trex").unwrap(),
        hex("00000000 00000001 00000001 00000000 00000000 00000000")
    );
}

#[test]
fn what_has_no_place_or_no_config_is_refused() {
    let of = |codec| init_segment(&[Mp4Track::new(1, &Track::new(TrackId(0), codec))]);
    for codec in [Codec::G711A, Codec::Klv, Codec::Data] {
        assert!(!carries(codec));
        assert_eq!(of(codec), Err(Mp4Error::Codec(codec)));
    }
    for codec in [Codec::Aac, Codec::Av1, Codec::Flac, Codec::H264, Codec::H265, Codec::Vp9] {
        assert!(carries(codec) && matches!(of(codec), Err(Mp4Error::NoConfig { .. })), "{codec}");
    }
    for codec in [Codec::Ac3, Codec::Eac3, Codec::Mp3, Codec::Opus, Codec::Vp8] {
        assert!(carries(codec) && of(codec).is_ok(), "{codec}");
    }
    let many: Vec<Track> = (0..33).map(|_| audio()).collect();
    let many: Vec<_> = many.iter().map(|track| Mp4Track::new(1, track)).collect();
    assert!(matches!(init_segment(&many), Err(Mp4Error::TooLarge { .. })));
}

#[test]
fn dolby_config_comes_from_a_frame() {
    let of = |codec, frame: &[u8]| {
        let track = Track::with_config(TrackId(0), codec, Bytes::new()).unwrap();
        let init = init_segment(&[Mp4Track { sample: Some(frame), ..Mp4Track::new(1, &track) }]).unwrap();
        let path = if codec == Codec::Ac3 { "ac-3/dac3" } else { "ec-3/dec3" };
        find(&init, &format!("moov/trak/mdia/minf/stbl/stsd/{path}")).unwrap().to_vec()
    };
    // What ffmpeg 5.1 writes for the streams of these frames (5.1 at 448 kbit/s, stereo 192, 5.1 at 256).
    assert_eq!(of(Codec::Ac3, &hex("0b77b50b1e40ebf8")), hex("103de0"));
    assert_eq!(of(Codec::Ac3, &hex("0b77c2ea544043e1")), hex("501140"));
    assert_eq!(of(Codec::Eac3, &hex("0b7701ff3f87c000")), hex("0800 200f00"));
    assert_eq!(of(Codec::Ac3, b"no frame"), hex("1011e0"));
}

#[test]
fn small_boxes() {
    assert_eq!(styp(false), hex("0000001c 73747970 6d736468 00000000 6d736468 6d736978 636d6673"));
    assert_eq!(styp(true).len(), 0x20);
    // 1970-01-01T00:00:00.500Z
    assert_eq!(prft(2, 500, 90_000)[8..], hex("01000018 00000002 83aa7e80 80000000 0000000000015f90"));
    assert_eq!(prft(2, -1, 0)[16..24], hex("83aa7e7f ffbe76c8"));
    let event =
        Emsg { timescale: 1000, time: 1, duration: 2, id: 3, scheme: "urn:x\0y", value: "", data: b"d" };
    assert_eq!(
        emsg(&event).unwrap()[8..],
        hex("01000000 000003e8 0000000000000001 00000002 00000003 75726e3a7800 00 64")
    );
    let reference = Reference { size: 5, duration: 6, key: true };
    let mut index = Sidx { track_id: 1, timescale: 2, time: 3, gap: 4, references: vec![reference] };
    let body =
        "01000000 00000001 00000002 0000000000000003 0000000000000004 00000001 00000005 00000006 90000000";
    assert_eq!(sidx(&index).unwrap()[8..], hex(body));
    index.references[0].size = 1 << 31;
    assert!(sidx(&index).is_err());
}

#[test]
fn tables_of_places_beyond_4_gib_and_of_long_times() {
    let video = video();
    let track = Mp4Track::new(1, &video);
    let mut table = SampleTable::default();
    let mut entry = Entry { offset: 0, size: 100, duration: 3000, dts: 1 << 34, cts: 6000, key: true };
    for n in 0..5u64 {
        table.push(&entry, 90_000).unwrap();
        entry.offset += if n == 2 { 5 << 30 } else { 100 };
        entry.dts += 3000;
        (entry.cts, entry.key) = (if n % 2 == 0 { -3000 } else { 3000 }, false);
    }
    assert_eq!((table.len(), table.duration()), (5, 15_000));
    let stbl = |movie: &[u8]| find(movie, "moov/trak/mdia/minf/stbl").unwrap().to_vec();
    let head = file_head(&[(track.clone(), &table)], 6 << 30).unwrap();
    // The mdat's head has 64 bits.
    let (rest, mdat) = head.split_at(head.len() - 16);
    assert_eq!(mdat, hex("00000001 6d646174 0000000180000010"));
    let written = stbl(rest);
    let first = head.len() as u64;
    let second = first + 200 + (5 << 30);
    assert_eq!(
        find(&written, "co64").unwrap(),
        hex(&format!("00000000 00000002 {first:016x} {second:016x}"))
    );
    assert_eq!(
        find(&written, "stsc").unwrap(),
        hex("00000000 00000002 00000001 00000003 00000001 00000002 00000002 00000001")
    );
    assert_eq!(find(&written, "stts").unwrap(), hex("00000000 00000001 00000005 00000bb8"));
    let ctts = "01000000 00000005 00000001 00001770 00000001 fffff448 00000001 00000bb8 00000001 fffff448 00000001 00000bb8";
    assert_eq!(find(&written, "ctts").unwrap(), hex(ctts));
    assert_eq!(find(&written, "stss").unwrap(), hex("00000000 00000001 00000001"));
    // The earliest presentation time is the first decoding time.
    assert_eq!(find(rest, "moov/trak/edts"), None);
    // Below 4 GiB places have 32 bits.
    let mut near = SampleTable::default();
    near.push(&Entry { offset: 0, ..entry }, 90_000).unwrap();
    let movie = movie(&[(track, &near)], 48).unwrap();
    assert_eq!(find(&stbl(&movie), "stco").unwrap(), hex("00000000 00000001 00000030"));
}

#[test]
fn edit_lists_keep_picture_and_sound_together() {
    let (video, audio) = (video(), audio());
    let mut pictures = SampleTable::default();
    let mut sounds = SampleTable::default();
    // The picture is shown at 1.08 s, the sound begins at 1 s.
    let picture = Entry { offset: 0, size: 9, duration: 3600, dts: 90_000, cts: 7200, key: true };
    pictures.push(&picture, 90_000).unwrap();
    let sound = Entry { offset: 9, size: 3, duration: 1024, dts: 48_000, cts: 0, key: true };
    sounds.push(&sound, 48_000).unwrap();
    let tracks = [(Mp4Track::new(1, &video), &pictures), (Mp4Track::new(2, &audio), &sounds)];
    let movie = movie(&tracks, 0).unwrap();
    let elst = "01000000 00000002  0000000000001c20 ffffffffffffffff 00010000  0000000000000e10 0000000000001c20 00010000";
    assert_eq!(find(&movie, "moov/trak/edts/elst").unwrap(), hex(elst));
    let second = boxes(find(&movie, "moov").unwrap())[2].1;
    assert_eq!(find(second, "edts"), None);
}

#[test]
fn cbcs_of_slices_and_of_sound() {
    let protection = Protection { key: [1; 16], key_id: [2; 16], iv: [3; 16] };
    // SEI of 20 bytes, a slice of 400, a slice too short to be encrypted.
    let mut data = vec![0, 0, 0, 20, 6];
    data.extend([0; 19]);
    data.extend([0, 0, 1, 0x90, 0x65]);
    data.extend([7; 399]);
    data.extend([0, 0, 0, 10, 0x65]);
    data.extend([8; 9]);
    let data = Bytes::from(data);
    let (out, subsamples) = protection.encrypt(Codec::H264, &data);
    assert_eq!(subsamples[..], [(24 + 4 + 64, 336), (14, 0)]);
    let changed: Vec<usize> = (0..data.len()).filter(|&i| out[i] != data[i]).collect();
    // Blocks 0, 10 and 20 of the slice's rest.
    let blocks = [92..108, 252..268, 412..428];
    assert!(changed.iter().all(|i| blocks.iter().any(|b| b.contains(i))) && changed.len() > 40);
    // As openssl has it: AES-128-CBC of 7s, key 01.., IV 03...
    assert_eq!(out.len(), data.len());

    let (out, subsamples) = protection.encrypt(Codec::Aac, &Bytes::from(vec![9; 40]));
    assert!(subsamples.is_empty());
    assert!(out[..16] != [9; 16] && out[16..32] != out[..16] && out[32..] == [9; 8]);

    let video = video();
    let track = Mp4Track { protection: Some(protection), ..Mp4Track::new(1, &video) };
    let init = init_segment(&[track]).unwrap();
    let entry = find(&init, "moov/trak/mdia/minf/stbl/stsd/encv/sinf").unwrap();
    assert_eq!(find(entry, "frma").unwrap(), b"avc1");
    assert_eq!(find(entry, "schm").unwrap(), hex("00000000 63626373 00010000"));
    let tenc = format!("01000000 00 19 01 00 {} 10 {}", "02".repeat(16), "03".repeat(16));
    assert_eq!(find(entry, "schi/tenc").unwrap(), hex(&tenc));

    let told = [Subsamples::default(), subsamples];
    let samples = [sample(0, 1, 0, true, b"x"), sample(1, 1, 0, false, b"y")];
    let run = Run { subsamples: &told, ..Run::new(1, &samples) };
    let head = &fragment(1, &[run]).unwrap()[0];
    let traf = find(&head[..head.len() - 8], "moof/traf").unwrap();
    assert_eq!(find(traf, "senc").unwrap(), hex("00000002 00000002 0000 0000"));
    assert_eq!(find(traf, "saiz").unwrap(), hex("00000000 00 00000002 02 02"));
    let at = u32::from_be_bytes(find(traf, "saio").unwrap()[8..12].try_into().unwrap()) as usize;
    // The first sample's information, behind senc's head and count.
    assert_eq!(head[at - 16 + 4..at + 2], hex("73656e63 00000002 00000002 0000"));
}

#[test]
fn slices_without_number_are_still_told() {
    let protection = Protection { key: [1; 16], key_id: [2; 16], iv: [3; 16] };
    let mut data = Vec::new();
    for _ in 0..100 {
        data.extend([0, 0, 0, 200, 0x41]);
        data.extend([5; 199]);
    }
    let (_, subsamples) = protection.encrypt(Codec::H264, &data.clone().into());
    let sum: usize =
        subsamples.iter().map(|(clear, protected)| usize::from(*clear) + *protected as usize).sum();
    assert_eq!((subsamples.len(), sum), (42, data.len()));
    // 200 kB of clear SEI.
    let mut data = vec![0, 3, 0x0D, 0x40, 6];
    data.resize(200_004, 0);
    data.extend([0, 0, 0, 200, 0x41]);
    data.resize(200_208, 5);
    let (_, subsamples) = protection.encrypt(Codec::H264, &data.into());
    assert_eq!(subsamples[..], [(65_535, 0), (65_535, 0), (65_535, 0), (3467, 136)]);
}
