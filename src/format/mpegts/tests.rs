//! What is written is checked packet by packet, and read back.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use proptest::prelude::*;

use super::packet::Packet;
use super::pes::{Assembler, Progress};
use super::psi::{Sections, Table};
use super::*;
use crate::media::{Codec, Flags, Frame, Track};

const AVCC: &str =
    "0164001fffe1001a6764001facd9405005bb0110000003001000000303c0f183196001000668ebe3cb22c0fdf8f800";
const HVCC: &str = "0101600000009000000000005df000fcfdf8f800000f03a00001001840010c01ffff01600000030090000003000003005d959809a10001002b42010101600000030090000003000003005da00280802d165959a4932bc05a020000030002000003003c10a2000100074401c172b46240";

fn hex(text: &str) -> Bytes {
    (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap()).collect()
}

fn track(id: u8, codec: Codec) -> Track {
    let config = match codec {
        Codec::H264 => hex(AVCC),
        Codec::H265 => hex(HVCC),
        Codec::Aac => hex("1190"),
        Codec::Opus => crate::media::opus::OpusHead::new(2).build().into(),
        _ => Bytes::new(),
    };
    let mut track = Track::with_config(TrackId(id), codec, config).unwrap();
    track.timescale = TIMESCALE;
    track
}

/// A frame of about this many bytes that its codec's reader takes for one.
fn payload(codec: Codec, key: bool, len: usize) -> Bytes {
    let fill = |head: &[u8], len: usize| -> Vec<u8> {
        let tail = (head.len()..len.max(head.len() + 1)).map(|n| (n % 251) as u8 | 1);
        head.iter().copied().chain(tail).collect()
    };
    let mut out = Vec::new();
    match codec {
        Codec::H264 => {
            crate::media::nal::put_nal(&mut out, &[6, 5, 1, 7, 0x80]); // SEI
            crate::media::nal::put_nal(&mut out, &fill(&[if key { 0x65 } else { 0x41 }, 0x9A], len));
        }
        Codec::H265 => {
            crate::media::nal::put_nal(&mut out, &fill(&[if key { 0x26 } else { 0x02 }, 1, 0xAF], len));
        }
        Codec::Mp3 => out = fill(&[0xFF, 0xFB, 0x90, 0x64], 417), // 128 kbit/s, 44.1 kHz
        Codec::Ac3 => out = fill(&[0x0B, 0x77, 1, 2, 8, 0x40, 0x44, 1], 256), // 64 kbit/s, 48 kHz
        Codec::Eac3 => out = fill(&[0x0B, 0x77, 0, 127, 0x34, 0x80], 256), // 6 blocks, 48 kHz
        Codec::Opus => out = fill(&[0xFC], len.min(1200)),        // 20 ms
        _ => out = fill(&[], len.min(2000)),
    }
    out.into()
}

fn frame(track: &Track, dts: i64, cts: i32, key: bool, len: usize) -> Frame {
    let flags = if key { Flags::KEY } else { Flags::NONE };
    let data = payload(track.codec, key, len);
    Frame { track: track.id, flags, dts, cts, wall_ms: None, data }
}

/// Frames of these tracks in the order of their DTS, from `start` on: 25 pictures a second with a key frame each second
/// and B-frames; audio in frames of 20 ms; data every half second.
fn frames(tracks: &[Track], start: i64, seconds: i64) -> Vec<Frame> {
    let mut out = Vec::new();
    for (n, track) in tracks.iter().enumerate() {
        let step = match track.kind() {
            crate::media::Kind::Video => 3600,
            crate::media::Kind::Audio => 1800,
            crate::media::Kind::Data => 45_000,
        };
        for at in 0..seconds * i64::from(TIMESCALE) / step {
            let is_video = step == 3600;
            let key = !is_video || at % 25 == 0;
            let cts = if is_video { [3600, 10_800, 0][at as usize % 3] } else { 0 };
            let len = if is_video && key { 70_000 + at as usize } else { 13 * (at as usize % 97) + n };
            out.push(frame(track, start + at * step, cts, key, len));
        }
    }
    out.sort_by_key(|frame| frame.dts);
    out
}

fn mux(muxer: &mut Muxer, frames: &[Frame]) -> BytesMut {
    let mut out = BytesMut::new();
    for frame in frames {
        muxer.frame(frame, &mut out).unwrap();
    }
    muxer.flush(&mut out);
    out
}

fn demux(data: &[u8], cut: usize) -> (Vec<Track>, Vec<Frame>, Counters) {
    let mut demuxer = Demuxer::new(None);
    let (mut tracks, mut frames) = (Vec::new(), Vec::new());
    let mut each = |event| match event {
        Event::Track(track) => tracks.push(track),
        Event::Frame(frame) => frames.push(frame),
        Event::Begins(mark) => panic!("{mark}: nothing was marked"),
    };
    data.chunks(cut).for_each(|part| demuxer.push(part, &mut each));
    demuxer.finish(&mut each);
    (tracks, frames, demuxer.counters())
}

/// Checks every packet, and that tables and clock come when they must. Gives how many PATs, PMTs and PCRs there are.
fn check(data: &[u8]) -> (usize, usize, usize) {
    assert_eq!(data.len() % PACKET, 0);
    let mut counters = BTreeMap::<u16, u8>::new();
    let mut pes = BTreeMap::<u16, Assembler>::new();
    let mut pmt = Sections::default();
    let (mut pats, mut pmts, mut pcrs) = (0, 0, 0);
    let mut clock: Option<i64> = None;
    let mut tables: Option<i64> = None;
    let shorter = |a: i64, b: i64| ((a - b) << 31) >> 31; // of 33 bits
    for bytes in data.chunks(PACKET) {
        let packet = Packet::parse(bytes).expect("a packet");
        let adaptation = &bytes[4..];
        if bytes[3] & 0x20 != 0 && adaptation[0] > 0 && adaptation[1] & 0x10 != 0 {
            let pcr =
                u64::from_be_bytes([0, 0, bytes[6], bytes[7], bytes[8], bytes[9], bytes[10], bytes[11]]);
            assert_eq!(pcr & 0x7FFF, 0x7E00);
            let pcr = (pcr >> 15) as i64;
            if let Some(last) = clock.filter(|_| !packet.discontinuity) {
                let step = shorter(pcr, last);
                assert!((1..=9000).contains(&step), "PCR steps by {step} ticks");
                let since = shorter(pcr, tables.unwrap());
                assert!((0..=45_000).contains(&since), "no tables for {since} ticks");
            }
            clock = Some(pcr);
            tables = tables.or(clock);
            pcrs += 1;
        }
        let Some(payload) = packet.payload else {
            assert_eq!(packet.cc, counters[&packet.pid]);
            continue;
        };
        let last = counters.insert(packet.pid, packet.cc);
        assert!(last.is_none_or(|last| packet.cc == (last + 1) & 15), "counter of PID {}", packet.pid);
        match packet.pid {
            PAT_PID => {
                assert!(matches!(Table::parse(&payload[1..17]), Ok(Table::Pat(_))));
                (pats, tables) = (pats + 1, clock);
            }
            0x1000 => pmt.push(packet.start, payload, &mut |section| {
                assert!(matches!(Table::parse(section), Ok(Table::Pmt(_))));
                pmts += 1;
            }),
            pid => {
                let assembler = pes.entry(pid).or_default();
                if packet.start {
                    assembler.clear();
                    assembler.start();
                }
                if let (Progress::Header(header), _) = assembler.push(payload) {
                    let pts = header.pts.expect("every frame has a time") as i64;
                    let dts = header.dts.map_or(pts, |dts| dts as i64);
                    let ahead = clock.map_or(0, |clock| shorter(dts, clock));
                    assert!((0..=90_000).contains(&ahead), "DTS is {ahead} ticks after PCR");
                }
            }
        }
    }
    (pats, pmts, pcrs)
}

/// Frames as they come back: later by the delay, and on the track that the demuxer gave its codec.
fn expect(muxer: &Muxer, tracks: &[Track], got: &[Track], frames: &[Frame]) -> Vec<Frame> {
    let id = |frame: &Frame| {
        let codec = tracks.iter().find(|track| track.id == frame.track).unwrap().codec;
        got.iter().find(|track| track.codec == codec).unwrap().id
    };
    let mut frames: Vec<_> =
        frames.iter().map(|f| Frame { dts: f.dts + muxer.delay(), track: id(f), ..f.clone() }).collect();
    frames.sort_by_key(|frame| (frame.track, frame.dts));
    frames
}

fn sorted(mut frames: Vec<Frame>) -> Vec<Frame> {
    frames.sort_by_key(|frame| (frame.track, frame.dts));
    frames
}

fn round_trip(codecs: &[Codec], options: &MuxOptions, start: i64) {
    let tracks: Vec<_> = (0..).zip(codecs).map(|(id, codec)| track(2 * id, *codec)).collect();
    let mut muxer = Muxer::new(options);
    muxer.set_tracks(&tracks);
    let sent = frames(&tracks, start, 3);
    let out = mux(&mut muxer, &sent);
    let (pats, pmts, pcrs) = check(&out);
    assert!(pats >= 8 && pats == pmts && pcrs >= 37, "{codecs:?}: {pats} {pmts} {pcrs}");
    for cut in [out.len(), 1316, 61] {
        let (got, back, counters) = demux(&out, cut);
        assert_eq!(
            counters,
            Counters { packets: (out.len() / PACKET) as u64, ..Counters::default() },
            "{codecs:?}"
        );
        assert_eq!(got.len(), tracks.len());
        for track in &tracks {
            let same = got.iter().find(|got| got.codec == track.codec).unwrap();
            assert_eq!((&same.config, same.timescale), (&track.config, TIMESCALE));
        }
        let want = expect(&muxer, &tracks, &got, &sent);
        let back = sorted(back);
        assert_eq!(want.len(), back.len());
        for (want, back) in want.iter().zip(&back) {
            // The first may be anywhere in the wire's 33 bits.
            let turns = (want.dts - back.dts) & !(TIME_MASK as i64);
            assert_eq!(*want, Frame { dts: back.dts + turns, ..back.clone() });
        }
    }
}

#[test]
fn every_codec_comes_back() {
    use Codec::{Aac, Ac3, Eac3, H264, H265, Klv, Mp3, Opus};
    let options = MuxOptions::default();
    for codecs in [
        &[H264, Aac][..],
        &[H265, Opus],
        &[H264, Mp3, Klv],
        &[Aac],
        &[Mp3],
        &[Ac3],
        &[Eac3],
        &[Opus],
        &[H264],
    ] {
        round_trip(codecs, &options, 0);
    }
    round_trip(&[H264, H265, Aac, Ac3, Eac3, Opus, Mp3, Klv], &options, 777);
}

#[test]
fn times_wrap_at_33_bits() {
    for start in [(1 << 33) - 100_000, (1 << 33) - 45_000, (1 << 34) - 180_000, -90_000, -5_000_000_000] {
        round_trip(&[Codec::H264, Codec::Aac], &MuxOptions::default(), start);
        round_trip(&[Codec::Opus], &MuxOptions::default(), start);
    }
}

#[test]
fn gathered_audio_comes_back_with_its_times() {
    let options = MuxOptions { gather: Duration::from_millis(100), ..MuxOptions::default() };
    let single = mux_len(&MuxOptions::default());
    let gathered = mux_len(&options);
    assert!(gathered * 10 < single * 9, "{gathered} {single}");
    // 20 ms of Opus, so that counted times are as sent.
    round_trip(&[Codec::H264, Codec::Opus], &options, 0);
    round_trip(&[Codec::Opus], &options, 0);
}

fn mux_len(options: &MuxOptions) -> usize {
    let tracks = [track(0, Codec::Aac)];
    let mut muxer = Muxer::new(options);
    muxer.set_tracks(&tracks);
    let sent: Vec<_> = (0..150).map(|n| frame(&tracks[0], 1920 * n, 0, true, 340)).collect();
    mux(&mut muxer, &sent).len()
}

#[test]
fn a_key_frame_can_be_joined() {
    let tracks = [track(0, Codec::H264), track(1, Codec::Aac)];
    let options = MuxOptions { gather: Duration::from_millis(100), ..MuxOptions::default() };
    for options in [MuxOptions::default(), options] {
        let mut muxer = Muxer::new(&options);
        muxer.set_tracks(&tracks);
        let mut joins = 0;
        for frame in frames(&tracks, 0, 3) {
            let mut out = BytesMut::new();
            let join = muxer.frame(&frame, &mut out).unwrap();
            assert_eq!(join, frame.track == TrackId(0) && frame.is_key());
            if join {
                joins += 1;
                let (tracks, frames, _) = demux(&out, 188);
                let first = frames.iter().position(|f| f.data == frame.data).unwrap();
                assert!(frames[first].is_key() && tracks.iter().any(|track| track.codec == Codec::H264));
                assert_eq!((out[1] & 0x1F, out[2], out[PACKET + 1] & 0x1F, out[PACKET + 2]), (0, 0, 0x10, 0));
            }
        }
        assert_eq!(joins, 3);
    }
}

#[test]
fn parameter_sets_stand_between_delimiter_and_sei() {
    let tracks = [track(0, Codec::H264)];
    let mut muxer = Muxer::new(&MuxOptions::default());
    muxer.set_tracks(&tracks);
    let out = mux(&mut muxer, &[frame(&tracks[0], 0, 0, true, 9), frame(&tracks[0], 3600, 0, false, 9)]);
    let bodies: Vec<Vec<u8>> = out
        .chunks(PACKET)
        .map(|bytes| Packet::parse(bytes).unwrap())
        .filter(|packet| packet.pid == 0x100)
        .map(|packet| packet.payload.unwrap()[14..].to_vec())
        .collect();
    let types = |body: &[u8]| crate::media::nal::annex_b(body).map(|nal| nal[0] & 31).collect::<Vec<_>>();
    assert_eq!(types(&bodies[0]), [9, 7, 8, 6, 5]);
    assert_eq!(types(&bodies[1]), [9, 6, 1]);
}

#[test]
fn distant_frames_get_clock_and_tables_between() {
    for codec in [Codec::H264, Codec::Klv] {
        let tracks = [track(0, codec)];
        let mut muxer = Muxer::new(&MuxOptions::default());
        muxer.set_tracks(&tracks);
        let sent: Vec<_> = (0..4).map(|n| frame(&tracks[0], n * 250_000, 0, n == 0, 500)).collect();
        check(&mux(&mut muxer, &sent));
    }
}

#[test]
fn one_track_ahead_or_silent_leaves_the_clock_sound() {
    let tracks = [track(0, Codec::H264), track(1, Codec::Opus)];
    // Audio 400 ms ahead or behind of the pictures it comes with.
    for skew in [36_000, -36_000] {
        let mut sent = frames(&tracks, 0, 3);
        sent.iter_mut().filter(|f| f.track == TrackId(1)).for_each(|f| f.dts += skew);
        let mut muxer = Muxer::new(&MuxOptions::default());
        muxer.set_tracks(&tracks);
        check(&mux(&mut muxer, &sent));
    }
    // Pictures stop for two seconds.
    let mut sent = frames(&tracks, 0, 5);
    sent.retain(|f| f.track == TrackId(1) || !(90_000..270_000).contains(&f.dts));
    let mut muxer = Muxer::new(&MuxOptions::default());
    muxer.set_tracks(&tracks);
    check(&mux(&mut muxer, &sent));
}

#[test]
fn a_jump_is_marked() {
    let tracks = [track(0, Codec::H264)];
    for (second, flagged) in [(40 * 90_000, false), (-200_000, false), (3600, true)] {
        let mut muxer = Muxer::new(&MuxOptions::default());
        muxer.set_tracks(&tracks);
        let mut next = frame(&tracks[0], second, 0, true, 100);
        next.flags = if flagged { next.flags.with(Flags::DISCONTINUITY) } else { next.flags };
        let out = mux(&mut muxer, &[frame(&tracks[0], 0, 0, true, 100), next]);
        check(&out);
        let (_, back, counters) = demux(&out, 1000);
        assert!(!back[0].flags.has(Flags::DISCONTINUITY) && back[1].flags.has(Flags::DISCONTINUITY));
        assert_eq!((back[1].dts - back[0].dts, counters.lost), (second, 0));
    }
}

#[test]
fn other_tracks_make_another_version() {
    let mut muxer = Muxer::new(&MuxOptions::default());
    let version = |muxer: &mut Muxer, tracks: &[Track]| {
        muxer.set_tracks(tracks);
        let mut out = BytesMut::new();
        let join = muxer.frame(&frame(&tracks[0], 0, 0, false, 5), &mut out).unwrap();
        assert!(!join);
        let tables = out[1] & 0x1F == 0 && out[2] == 0;
        tables.then(|| out[PACKET + 5 + 5] >> 1 & 31)
    };
    let (video, audio) = (track(0, Codec::H264), track(1, Codec::Aac));
    assert_eq!(version(&mut muxer, std::slice::from_ref(&video)), Some(0));
    assert_eq!(version(&mut muxer, std::slice::from_ref(&video)), None);
    assert_eq!(version(&mut muxer, &[video.clone(), audio]), Some(1));
    assert_eq!(version(&mut muxer, &[video.clone(), track(2, Codec::Av1)]), Some(2));
    assert_eq!(version(&mut muxer, &[video, track(1, Codec::Opus)]), Some(3));
}

#[test]
fn a_layout_without_a_number_stands_in_the_packet_once() {
    use crate::media::aac::{Adts, AudioSpecificConfig};
    // LC, 48 kHz, four channels by a program config element, as an encoder sent it.
    let config = hex("118004c40400211000");
    assert_eq!(AudioSpecificConfig::parse(&config).unwrap().channels, 4);
    let track = Track::with_config(TrackId(0), Codec::Aac, config).unwrap();
    for packet in [&[0x21, 7, 7][..], &[0xA0, 7, 7]] {
        let mut muxer = Muxer::new(&MuxOptions::default());
        muxer.set_tracks(std::slice::from_ref(&track));
        let mut frame = frame(&track, 0, 0, true, 1);
        frame.data = Bytes::copy_from_slice(packet);
        let out = mux(&mut muxer, &[frame]);
        let payload = Packet::parse(&out[2 * PACKET..]).unwrap().payload.unwrap();
        let header = Adts::parse(&payload[14..]).unwrap();
        assert_eq!((header.channel_config, header.frame_len), (0, payload.len() - 14));
        let body = &payload[14 + header.header_len..];
        assert!(body.ends_with(packet) && body[0] >> 5 == 5);
        assert_eq!(body.len() > packet.len(), packet[0] == 0x21);
    }
}

#[test]
fn what_has_no_place_is_refused() {
    let mut muxer = Muxer::new(&MuxOptions::default());
    let mut bare = track(1, Codec::H264);
    bare.config = Bytes::new();
    let tracks = [track(0, Codec::Av1), bare, track(2, Codec::Aac), track(3, Codec::Klv)];
    muxer.set_tracks(&tracks);
    let mut out = BytesMut::new();
    let mut put = |n: usize, len| {
        let mut frame = frame(&tracks[n], 0, 0, true, 5);
        frame.data = vec![1; len].into();
        muxer.frame(&frame, &mut out)
    };
    assert_eq!(put(0, 5), Err(TsError::UnknownTrack(TrackId(0))));
    assert!(matches!(put(1, 5), Err(TsError::NoConfig { track: TrackId(1), .. })));
    assert!(matches!(put(2, 9000), Err(TsError::TooLong { len: 9000, .. })));
    assert!(matches!(put(3, 66_000), Err(TsError::TooLong { .. })));
    assert!(put(3, 64_000).is_ok());
    assert!(!carries(Codec::Av1) && carries(Codec::Klv));
}

#[test]
fn many_tracks_have_a_table_of_several_packets() {
    let tracks: Vec<_> = (0..40).map(|id| track(id, Codec::Opus)).collect();
    let mut muxer = Muxer::new(&MuxOptions::default());
    muxer.set_tracks(&tracks);
    let sent = frames(&tracks[..MAX_TRACKS], 0, 1);
    let out = mux(&mut muxer, &sent);
    check(&out);
    assert_eq!(demux(&out, 999).0.len(), MAX_STREAMS);
    assert!(muxer.frame(&frame(&tracks[MAX_TRACKS], 0, 0, true, 1), &mut BytesMut::new()).is_err());
}

#[test]
fn lost_packets_cost_the_frames_they_hit() {
    let tracks = [track(0, Codec::H264), track(1, Codec::Opus)];
    let mut muxer = Muxer::new(&MuxOptions::default());
    muxer.set_tracks(&tracks);
    let sent = frames(&tracks, 0, 2);
    let out = mux(&mut muxer, &sent);
    let all: Vec<&[u8]> = out.chunks(PACKET).collect();
    let first = sent.iter().find(|frame| frame.track == TrackId(0)).unwrap();
    for lost in 2..all.len() {
        let mut left = all.clone();
        let pid = Packet::parse(left.remove(lost)).unwrap().pid;
        let (_, back, counters) = demux(&left.concat(), 4096);
        let missing: Vec<_> = sent.iter().filter(|f| !back.iter().any(|b| b.data == f.data)).collect();
        // Without the first key frame nothing is known of the picture up to the next. A frame that doesn't tell its
        // length may lack its end as well as what comes next lacks its start.
        let most = if missing.contains(&first) { 25 } else { 2 };
        assert!(missing.len() <= most, "{} frames missing", missing.len());
        assert!(counters.lost <= 1);
        if pid != PAT_PID && pid != 0x1000 && counters.lost == 1 {
            let marked: Vec<_> = back.iter().filter(|f| f.flags.has(Flags::DISCONTINUITY)).collect();
            assert!(marked.len() <= 1 && missing.iter().all(|f| f.track.0 as u16 + 0x100 == pid));
        }
        // The same packet twice does no harm.
        let mut twice = all.clone();
        twice.insert(lost, all[lost]);
        assert_eq!(demux(&twice.concat(), 4096).1.len(), sent.len());
    }
}

#[test]
fn packets_of_other_sizes_flagged_and_scrambled_ones() {
    let tracks = [track(0, Codec::H264), track(1, Codec::Aac)];
    let mut muxer = Muxer::new(&MuxOptions::default());
    muxer.set_tracks(&tracks);
    let sent = frames(&tracks, 0, 1);
    let out = mux(&mut muxer, &sent);
    let m2ts: Vec<u8> = out.chunks(PACKET).flat_map(|p| [&[1, 2, 3, 4], p].concat()).collect();
    let parity: Vec<u8> = out.chunks(PACKET).flat_map(|p| [p, &[0x47; 16]].concat()).collect();
    for data in [m2ts, parity] {
        let (_, back, counters) = demux(&data, 1000);
        assert_eq!((back.len(), counters.lost), (sent.len(), 0));
    }
    let mut scrambled = out.to_vec();
    let mut damaged = out.to_vec();
    for at in (0..out.len()).step_by(PACKET).skip(2) {
        scrambled[at + 3] |= 0x80;
        damaged[at + 1] |= 0x80;
    }
    let (_, back, counters) = demux(&scrambled, 1000);
    assert!(back.is_empty() && counters.scrambled as usize > out.len() / PACKET / 2);
    let (_, back, counters) = demux(&damaged, 1000);
    assert!(back.is_empty() && counters.damaged as usize == out.len() / PACKET - 2);
}

#[test]
fn a_track_that_moves_stays_the_same() {
    let (video, audio) = (track(0, Codec::H264), track(1, Codec::Aac));
    let mut muxer = Muxer::new(&MuxOptions::default());
    muxer.set_tracks(&[video.clone(), audio.clone()]);
    let mut out = mux(&mut muxer, &frames(&[video, audio.clone()], 0, 1));
    // The picture comes on another PID and in another codec; the sound goes on.
    let other = track(7, Codec::H265);
    muxer.set_tracks(&[other.clone(), audio.clone()]);
    out.extend_from_slice(&mux(&mut muxer, &frames(&[other, audio], 90_000, 1)));
    let (tracks, back, counters) = demux(&out, 1000);
    assert_eq!(tracks.len(), 3);
    let video = tracks.iter().find(|track| track.codec == Codec::H264).unwrap();
    assert_eq!((tracks[2].codec, tracks[2].id), (Codec::H265, video.id));
    assert_eq!((back.len(), counters.lost, counters.dropped), (2 * 75, 0, 0));
    assert_eq!(back.iter().filter(|f| f.flags.has(Flags::NEW_CONFIG)).count(), 1);
}

#[test]
fn one_program_of_several() {
    let one = |codec| {
        let tracks = [track(0, codec)];
        let mut muxer = Muxer::new(&MuxOptions::default());
        muxer.set_tracks(&tracks);
        mux(&mut muxer, &frames(&tracks, 0, 1))
    };
    // The second program moves to PMT PID 0x1100 and PID 0x180.
    let mut out = BytesMut::new();
    let body = [0, 1, 0xF0, 0, 0, 2, 0xF1, 0];
    let mut pat_cc = 0;
    super::packet::put_section(PAT_PID, &mut pat_cc, &super::psi::section(0, 1, 0, &body), &mut out);
    let pmt = super::psi::pmt(
        0,
        2,
        0x180,
        &[super::psi::Entry { stream_type: 0x0F, pid: 0x180, descriptors: &[] }],
    );
    super::packet::put_section(0x1100, &mut 0, &pmt, &mut out);
    for packet in one(Codec::H264).chunks(PACKET).filter(|p| Packet::parse(p).unwrap().pid != PAT_PID) {
        out.extend_from_slice(packet);
    }
    for packet in one(Codec::Aac).chunks(PACKET).filter(|p| Packet::parse(p).unwrap().pid == 0x100) {
        let mut packet = packet.to_vec();
        packet[2] = 0x80;
        out.extend_from_slice(&packet);
    }
    for (wanted, codec) in [(None, Codec::H264), (Some(1), Codec::H264), (Some(2), Codec::Aac)] {
        let mut demuxer = Demuxer::new(wanted);
        let mut codecs = Vec::new();
        demuxer.push(&out, &mut |event| {
            if let Event::Track(track) = event {
                codecs.push(track.codec);
            }
        });
        assert_eq!((codecs, demuxer.program()), (vec![codec], wanted.or(Some(1))));
    }
    let mut demuxer = Demuxer::new(Some(3));
    demuxer.push(&out, &mut |_| panic!("there is no program 3"));
}

/// PES packets made by hand on PID 0x100, with a PMT that says so.
fn by_hand(stream_type: u8, pes: &[Vec<u8>]) -> BytesMut {
    let mut out = BytesMut::new();
    super::packet::put_section(PAT_PID, &mut 0, &super::psi::pat(0, 1, 0x1000), &mut out);
    let pmt =
        super::psi::pmt(0, 1, 0x100, &[super::psi::Entry { stream_type, pid: 0x100, descriptors: &[] }]);
    super::packet::put_section(0x1000, &mut 0, &pmt, &mut out);
    let mut cc = 0;
    for pes in pes {
        super::packet::PesWriter::new(0x100, &mut cc, pes.len(), Default::default(), &mut out).put(pes);
    }
    out
}

fn pes(pts: Option<u8>, bounded: bool, payload: &[u8]) -> Vec<u8> {
    let times: &[u8] = if pts.is_some() { &[0x21, 0, 1, 0, pts.unwrap_or(0) << 1 | 1] } else { &[] };
    let len = if bounded { 3 + times.len() + payload.len() } else { 0 } as u16;
    let [high, low] = len.to_be_bytes();
    let flags = if pts.is_some() { 0x80 } else { 0 };
    [&[0, 0, 1, 0xE0, high, low, 0x80, flags, times.len() as u8], times, payload].concat()
}

#[test]
fn access_units_over_several_pes_packets() {
    let config = crate::media::h264::AvcConfig::parse(&hex(AVCC)).unwrap().sets;
    let start = [0, 0, 0, 1];
    let key = [&start[..], &[9, 0xF0], &start, &config.sps[0], &start, &config.pps[0], &start, &[0x65, 0x88]]
        .concat();
    let slice = [&start[..], &[9, 0xF0], &start, &[0x41, 0x9A, 1]].concat();
    let rest = vec![0x55; 500];
    for bounded in [false, true] {
        let pes = [
            pes(Some(10), bounded, &key),
            pes(None, bounded, &rest),
            pes(None, bounded, &rest),
            pes(Some(20), bounded, &slice),
            pes(None, bounded, &rest),
            pes(Some(30), bounded, &slice),
            pes(None, bounded, &rest),
            pes(None, bounded, &slice), // a frame without time
            pes(Some(50), bounded, &slice),
        ];
        let (_, frames, _) = demux(&by_hand(0x1B, &pes), 500);
        let got: Vec<_> = frames.iter().map(|f| (f.dts, f.data.len())).collect();
        // Where lengths are told, the first such frame is given early, and what goes on is lost.
        let first = if bounded { 4 + 2 } else { 4 + 2 + 1000 };
        assert_eq!(got, [(10, first), (20, 4 + 3 + 500), (30, 4 + 3 + 500), (40, 4 + 3), (50, 4 + 3)]);
    }
}

#[test]
fn frames_know_the_piece_that_they_begin_in() {
    let tracks = [track(0, Codec::H264), track(1, Codec::Aac)];
    let mut muxer = Muxer::new(&MuxOptions::default());
    muxer.set_tracks(&tracks);
    let (mut out, mut starts) = (BytesMut::new(), Vec::new());
    for n in 0..50 {
        let sent = frame(&tracks[n as usize % 2], 1800 * n, 0, n % 10 == 0, 100 + 37 * n as usize);
        muxer.frame(&sent, &mut out).unwrap();
        let packets = out.chunks(188).enumerate();
        // The last PES packet that begins, of either PID.
        let start = packets.filter(|(_, p)| p[1] & 0x5F == 0x41).map(|(at, _)| at).max().unwrap();
        starts.push((sent.track, start * 188));
    }
    for cut in [188, 376, 1316, 1400, 7000] {
        let mut demuxer = Demuxer::new(None);
        let (mut began, mut all) = (None, Vec::new());
        let mut each = |event| match event {
            Event::Begins(mark) => began = Some(mark),
            Event::Frame(frame) => all.push((frame.track, began.take().unwrap())),
            Event::Track(_) => {}
        };
        for (n, piece) in out.chunks(cut).enumerate() {
            demuxer.push_marked(piece, n as u64, &mut each);
        }
        demuxer.finish(&mut each);
        for id in [TrackId(0), TrackId(1)] {
            let of = |list: &mut dyn Iterator<Item = (TrackId, u64)>| -> Vec<u64> {
                list.filter(|(track, _)| *track == id).map(|(_, piece)| piece).collect()
            };
            let got = of(&mut all.iter().copied());
            let due = of(&mut starts.iter().map(|(track, at)| (*track, (at / cut) as u64)));
            assert_eq!(got.len(), due.len());
            for (got, due) in got.iter().zip(&due) {
                assert!(*got <= *due && *due <= got + 2, "{got} for {due}, pieces of {cut}");
            }
        }
    }
    let mut demuxer = Demuxer::new(None);
    demuxer.push(&out, &mut |_| ());
    let tables = demuxer.take_tables().unwrap();
    assert_eq!(
        (tables.len(), &tables[..3], &tables[188..191]),
        (376, &[0x47, 0x40, 0][..], &[0x47, 0x50, 0][..])
    );
    assert!(demuxer.take_tables().is_none());
}

#[test]
fn a_frame_without_end_is_dropped() {
    let mut packets = vec![pes(Some(1), false, &[0, 0, 1, 9, 0xF0])];
    packets[0].resize(20 << 20, 0x55);
    packets.push(pes(Some(2), false, &[0, 0, 1, 9, 0xF0]));
    let out = by_hand(0x1B, &packets);
    let mut demuxer = Demuxer::new(None);
    for part in out.chunks(1 << 16) {
        demuxer.push(part, &mut |event| panic!("{event:?}"));
    }
    assert_eq!(demuxer.counters().dropped, 1);
}

#[test]
fn every_truncation_and_many_changes() {
    let tracks = [track(0, Codec::H264), track(1, Codec::Aac), track(2, Codec::Opus), track(3, Codec::Eac3)];
    let mut muxer = Muxer::new(&MuxOptions::default());
    muxer.set_tracks(&tracks);
    let sent: Vec<_> =
        (0..2).flat_map(|n| tracks.iter().map(move |track| frame(track, 3600 * n, 0, true, 20))).collect();
    let out = mux(&mut muxer, &sent);
    for len in 0..out.len() {
        let (_, back, _) = demux(&out[..len], 188);
        assert!(back.len() <= sent.len());
    }
    let mut data = out.to_vec();
    for at in 0..data.len() {
        let was = data[at];
        for value in [0, 1, 0x47, 0x7F, 0x80, 0xFF, was ^ 1, was ^ 0x10, was ^ 0x40] {
            data[at] = value;
            demux(&data, data.len());
        }
        data[at] = was;
    }
}

proptest! {
    #[test]
    fn random_packets_do_no_harm(
        parts in proptest::collection::vec((0u16..4, any::<u8>(), any::<u8>(), proptest::collection::vec(any::<u8>(), 184)), 0..60)
    ) {
        let tracks = [track(0, Codec::H265), track(1, Codec::Aac), track(2, Codec::Opus), track(3, Codec::Ac3)];
        let mut muxer = Muxer::new(&MuxOptions::default());
        muxer.set_tracks(&tracks);
        let mut data = mux(&mut muxer, &[frame(&tracks[0], 0, 0, true, 20)]).to_vec();
        for (pid, flags, control, body) in parts {
            data.extend_from_slice(&[0x47, flags & 0x40 | 1, pid as u8, control | 0x10]);
            let mut body = body;
            if flags & 1 == 0 {
                body[..9].copy_from_slice(&[0, 0, 1, 0xC0, 0, 0, 0x80, 0x80, 5]);
            }
            data.extend_from_slice(&body);
        }
        demux(&data, 1000);
    }

    #[test]
    fn random_bytes_do_no_harm(data in proptest::collection::vec(prop_oneof![Just(0x47u8), any::<u8>()], 0..3000), cut in 1usize..500) {
        demux(&data, cut);
    }

    #[test]
    fn random_frames_are_muxed(
        frames in proptest::collection::vec((0u8..4, any::<i64>(), any::<i32>(), any::<u8>(), proptest::collection::vec(any::<u8>(), 0..400)), 0..30),
        scale in 1u32..,
    ) {
        let mut tracks = [track(0, Codec::H264), track(1, Codec::Aac), track(2, Codec::Opus), track(3, Codec::Klv)];
        tracks[0].timescale = scale;
        for gather in [0, 50] {
            let mut muxer = Muxer::new(&MuxOptions { gather: Duration::from_millis(gather), ..MuxOptions::default() });
            muxer.set_tracks(&tracks);
            let mut out = BytesMut::new();
            for (id, dts, cts, flags, data) in &frames {
                let flags = [Flags::NONE, Flags::KEY, Flags::KEY | Flags::DISCONTINUITY, Flags::NEW_CONFIG][*flags as usize & 3];
                let frame = Frame { track: TrackId(*id), flags, dts: *dts, cts: *cts, wall_ms: None, data: data.clone().into() };
                muxer.frame(&frame, &mut out).unwrap();
            }
            muxer.flush(&mut out);
            prop_assert_eq!(out.len() % PACKET, 0);
            prop_assert!(out.len() < 8_000_000);
        }
    }
}
