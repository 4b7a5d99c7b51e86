//! Files that FFmpeg wrote, through the demuxer, the reader, the writers and back.

use bytes::{Bytes, BytesMut};
use proptest::prelude::*;

use super::*;
use crate::media::{Flags, Frame, Meta, MetaValue, Track};

const AVC_AAC: &[u8] = include_bytes!("../../../tests/media/ffmpeg9-avc-aac.flv");
const AVC_MP3: &[u8] = include_bytes!("../../../tests/media/ffmpeg5-avc-mp3.flv");
const HEVC_OPUS: &[u8] = include_bytes!("../../../tests/media/ffmpeg9-hevc-opus.flv");
const AV1_FLAC: &[u8] = include_bytes!("../../../tests/media/ffmpeg9-av1-flac.flv");
const VP9_AC3: &[u8] = include_bytes!("../../../tests/media/ffmpeg9-vp9-ac3.flv");
const ALAW: &[u8] = include_bytes!("../../../tests/media/ffmpeg9-alaw.flv");
const MULTITRACK: &[u8] = include_bytes!("../../../tests/media/ffmpeg9-multitrack.flv");
const ALL: [&[u8]; 7] = [AVC_AAC, AVC_MP3, HEVC_OPUS, AV1_FLAC, VP9_AC3, ALAW, MULTITRACK];

fn tags(mut file: &[u8]) -> Vec<Tag> {
    let mut demuxer = Demuxer::new(MAX_TAG);
    std::iter::from_fn(|| demuxer.next_tag(&mut file).unwrap()).collect()
}

fn read(reader: &mut TagReader, tags: &[Tag]) -> Vec<Event> {
    let mut events = Vec::new();
    for tag in tags {
        reader.push(tag.kind, tag.ts_ms, tag.body.clone()).unwrap_or_else(|e| panic!("{e}: {tag:?}"));
        events.extend(std::iter::from_fn(|| reader.next_event()));
    }
    events
}

fn read_file(file: &[u8]) -> Vec<Event> {
    read(&mut TagReader::new(), &tags(file))
}

fn tracks(events: &[Event]) -> Vec<Track> {
    events.iter().filter_map(|e| if let Event::Track(t) = e { Some(t.clone()) } else { None }).collect()
}

fn frames(events: &[Event], track: u8) -> Vec<Frame> {
    let frames = events.iter().filter_map(|e| if let Event::Frame(f) = e { Some(f.clone()) } else { None });
    frames.filter(|f| f.track.0 == track).collect()
}

fn push(reader: &mut TagReader, kind: TagKind, body: &'static [u8]) -> Result<Vec<Event>, FlvError> {
    reader.push(kind, 40, Bytes::from_static(body))?;
    Ok(std::iter::from_fn(|| reader.next_event()).collect())
}

/// Codec, config length, frames, key frames.
fn summary(file: &[u8]) -> Vec<(Codec, usize, usize, usize)> {
    let events = read_file(file);
    let mut last: Vec<Track> = Vec::new();
    for track in tracks(&events) {
        last.retain(|t| t.id != track.id);
        last.push(track);
    }
    last.sort_by_key(|t| t.id);
    let count = |t: &Track| {
        let frames = frames(&events, t.id.0);
        (t.codec, t.config.len(), frames.len(), frames.iter().filter(|f| f.is_key()).count())
    };
    last.iter().map(count).collect()
}

fn rewrite(events: &[Event]) -> BytesMut {
    let tracks = tracks(events);
    let has = |kind| default_track(&tracks, kind).is_some();
    let mut out = BytesMut::from(&file_header(has(Kind::Audio), has(Kind::Video))[..]);
    for event in events {
        match event {
            Event::Meta(meta) => {
                let body = metadata_body(meta, &tracks, &Meta::default());
                put_tag(&mut out, TagKind::Script, 0, &[], &body).unwrap();
            }
            Event::Track(track) => {
                if let Some(body) = config_body(track) {
                    put_tag(&mut out, TagKind::of(track.codec).unwrap(), 0, &[], &body).unwrap();
                }
            }
            Event::Frame(frame) => {
                let track = tracks.iter().rfind(|t| t.id == frame.track).unwrap();
                let prefix = frame_prefix(track, frame).unwrap();
                let kind = TagKind::of(track.codec).unwrap();
                put_tag(&mut out, kind, track.ticks_to_ms(frame.dts), &prefix, &frame.data).unwrap();
            }
        }
    }
    out
}

#[test]
fn files_of_ffmpeg_are_read() {
    assert_eq!(summary(AVC_AAC), [(Codec::H264, 45, 8, 2), (Codec::Aac, 5, 27, 27)]);
    assert_eq!(summary(AVC_MP3), [(Codec::H264, 45, 8, 1), (Codec::Mp3, 0, 24, 24)]);
    assert_eq!(summary(HEVC_OPUS), [(Codec::H265, 109, 8, 2), (Codec::Opus, 19, 31, 31)]);
    assert_eq!(summary(AV1_FLAC), [(Codec::Av1, 17, 8, 1), (Codec::Flac, 34, 29, 29)]);
    assert_eq!(summary(VP9_AC3), [(Codec::Vp9, 8, 8, 1), (Codec::Ac3, 0, 18, 18)]);
    assert_eq!(summary(ALAW), [(Codec::G711A, 0, 27, 27)]);
}

#[test]
fn multitrack_files_are_read() {
    let summary = summary(MULTITRACK);
    let codecs: Vec<_> = summary.iter().map(|s| s.0).collect();
    assert_eq!(codecs, [Codec::H264, Codec::H265, Codec::Aac, Codec::Eac3]);
    assert!(summary.iter().all(|s| s.2 >= 8), "{summary:?}");
    let tracks = tracks(&read_file(MULTITRACK));
    assert_eq!(default_track(&tracks, Kind::Video).unwrap().codec, Codec::H264);
    assert_eq!(default_track(&tracks, Kind::Audio).unwrap().codec, Codec::Aac);
}

#[test]
fn what_is_written_reads_the_same() {
    for file in [AVC_AAC, AVC_MP3, HEVC_OPUS, AV1_FLAC, VP9_AC3, ALAW] {
        let events = read_file(file);
        let written = rewrite(&events);
        let again = read_file(&written);
        assert_eq!(frames(&again, 0), frames(&events, 0));
        assert_eq!(frames(&again, 1), frames(&events, 1));
        // Facts that only FFmpeg's MultichannelConfig told are not written.
        let configs = |events: &[Event]| {
            let mut configs: Vec<_> = tracks(events).into_iter().map(|t| (t.id, t.codec, t.config)).collect();
            configs.dedup();
            configs
        };
        assert_eq!(configs(&again), configs(&events));
        let once = rewrite(&again);
        assert!(rewrite(&read_file(&once)) == once, "the second time nothing changes");
    }
}

#[test]
fn composition_times_and_flags_are_kept() {
    let frames = frames(&read_file(AVC_AAC), 0);
    let times: Vec<_> = frames.iter().map(|f| (f.dts, f.cts)).collect();
    assert_eq!(times[..4], [(0, 200), (100, 400), (200, 100), (300, 100)]);
    assert_eq!((frames[0].flags, frames[1].flags), (Flags::KEY, Flags::NONE));
}

#[test]
fn metadata_is_read_flat() {
    let Some(Event::Meta(meta)) = read_file(AVC_AAC).into_iter().next() else { panic!() };
    assert_eq!(meta.find("width"), Some(&MetaValue::Number(64.0)));
    assert_eq!(meta.find("stereo"), Some(&MetaValue::Bool(false)));

    let mut reader = TagReader::new();
    let wrapped = b"\x02\0\x0d@setDataFrame\x02\0\x0aonMetaData\x03\0\x01a\x01\x01\0\0\x09";
    let events = push(&mut reader, TagKind::Script, wrapped).unwrap();
    assert!(matches!(&events[..], [Event::Meta(meta)] if meta.len() == 1));
    let amf3 = b"\0\x02\0\x0aonMetaData\x11\x0a\x0b\x01\x03a\x03\x01";
    let events = push(&mut reader, TagKind::ScriptAmf3, amf3).unwrap();
    assert!(matches!(&events[..], [Event::Meta(meta)] if meta.find("a") == Some(&MetaValue::Bool(true))));
    assert_eq!(push(&mut reader, TagKind::Script, b"\x02\0\x04onFI\xFF").unwrap(), []);
    assert!(matches!(push(&mut reader, TagKind::Script, b"\x02\0\x0aonMeta"), Err(FlvError::Amf(_))));
}

#[test]
fn payloads_share_the_tag() {
    for file in [AVC_AAC, HEVC_OPUS, AV1_FLAC] {
        let mut reader = TagReader::new();
        for tag in tags(file) {
            reader.push(tag.kind, tag.ts_ms, tag.body.clone()).unwrap();
            while let Some(event) = reader.next_event() {
                if let Event::Frame(frame) = event {
                    assert!(tag.body.as_ptr_range().contains(&frame.data.as_ptr()));
                }
            }
        }
    }
}

#[test]
fn av1_loses_its_delimiter() {
    for frame in frames(&read_file(AV1_FLAC), 0) {
        assert_ne!(frame.data[0] >> 3, 2);
    }
}

#[test]
fn repeated_sequence_headers_are_passed_over_and_new_ones_told() {
    let tags = tags(AVC_AAC);
    let mut reader = TagReader::new();
    read(&mut reader, &tags);
    assert_eq!(tracks(&read(&mut reader, &tags)), [], "all of it again");

    let events = push(&mut reader, TagKind::Audio, b"\xAF\0\x11\x90").unwrap();
    let [Event::Track(track)] = &events[..] else { panic!("{events:?}") };
    assert_eq!((track.id.0, &track.config[..], track.facts.sample_rate), (1, &[0x11, 0x90][..], 48_000));
    let new = |events: &[Event]| frames(events, 1)[0].flags.has(Flags::NEW_CONFIG);
    assert!(new(&push(&mut reader, TagKind::Audio, b"\xAF\x01\x21").unwrap()));
    assert!(!new(&push(&mut reader, TagKind::Audio, b"\xAF\x01\x21").unwrap()));
}

#[test]
fn frames_before_a_needed_config_are_left_out() {
    let mut reader = TagReader::new();
    assert_eq!(push(&mut reader, TagKind::Audio, b"\xAF\x01\x21\x10").unwrap(), []);
    assert_eq!(push(&mut reader, TagKind::Audio, b"\xAF\0\x11\x90").unwrap().len(), 1);
    assert_eq!(push(&mut reader, TagKind::Audio, b"\xAF\x01\x21\x10").unwrap().len(), 1);
}

#[test]
fn tags_without_media_say_nothing() {
    let bodies: [(TagKind, &[u8]); 9] = [
        (TagKind::Audio, b""),
        (TagKind::Video, b""),
        (TagKind::Script, b""),
        (TagKind::Video, b"\x17\x02\0\0\0"),
        (TagKind::Video, b"\x17\x02"),
        (TagKind::Video, b"\x57\0"),
        (TagKind::Video, b"\x92hvc1"),
        (TagKind::Video, b"\xD4av01\x02\0\x09colorInfo"),
        (TagKind::Audio, b"\x92Opus"),
    ];
    let mut reader = TagReader::new();
    for (kind, body) in bodies {
        assert_eq!(push(&mut reader, kind, body), Ok(vec![]), "{body:?}");
    }
}

#[test]
fn unsupported_codecs_are_told_once() {
    let mut reader = TagReader::new();
    let error = push(&mut reader, TagKind::Video, b"\x22\0\0").unwrap_err();
    assert!(error.to_string().contains("codec id 2 (Sorenson H.263) is not supported"), "{error}");
    assert_eq!(push(&mut reader, TagKind::Video, b"\x22\0\0"), Ok(vec![]));
    let error = push(&mut reader, TagKind::Video, b"\x90vvc1\0").unwrap_err();
    assert!(error.to_string().contains("FourCC vvc1"), "{error}");
    assert!(push(&mut reader, TagKind::Video, b"\x95av01\0").is_err(), "MPEG-2 TS sequence start");
    assert!(push(&mut reader, TagKind::Audio, b"\xB2\0").is_err(), "Speex");
    assert!(push(&mut reader, TagKind::Audio, b"\x91av01\0").is_err(), "video in an audio tag");
}

#[test]
fn mod_ex_is_passed_over() {
    let mut reader = TagReader::new();
    // A nanosecond offset of three bytes, then one of unknown kind with a long length, then CodedFrames.
    let body = b"\x97\x02\x01\x02\x03\x07\xFF\x00\x01..\xF1Opus\x78data";
    let events = push(&mut reader, TagKind::Audio, body).unwrap();
    assert_eq!(&frames(&events, 0)[0].data[..], b"\x78data");
    assert!(matches!(
        push(&mut reader, TagKind::Audio, b"\x97\xFF\xFF\xFF.."),
        Err(FlvError::Truncated { .. })
    ));
}

#[test]
fn many_tracks_of_one_codec_and_of_several() {
    let mut reader = TagReader::new();
    let one = b"\x95\x11Opus\0\0\0\x02\x78a\x07\0\0\x03\x78bc";
    let events = push(&mut reader, TagKind::Audio, one).unwrap();
    assert_eq!(tracks(&events).iter().map(|t| t.id.0).collect::<Vec<_>>(), [0, 1]);
    assert_eq!(
        (&frames(&events, 0)[0].data[..], &frames(&events, 1)[0].data[..]),
        (&b"\x78a"[..], &b"\x78bc"[..])
    );

    let several = b"\x95\x21Opus\x07\0\0\x02\x78d.mp3\x09\0\0\x04\xFF\xFB\x10\xC4";
    let events = push(&mut reader, TagKind::Audio, several).unwrap();
    assert_eq!(&frames(&events, 1)[0].data[..], b"\x78d", "number 7 is track 1 still");
    assert_eq!(tracks(&events)[0].codec, Codec::Mp3);

    for bad in [&b"\x95\x31Opus\0\0\0\0"[..], b"\x95\x15Opus\0\0\0\0", b"\x95\x11Opus\0\0\0\x09\x78"] {
        assert!(push(&mut reader, TagKind::Audio, bad).is_err(), "{bad:?}");
    }
}

#[test]
fn tracks_are_bounded() {
    let mut reader = TagReader::new();
    let body = |number: u8| Bytes::from([&b"\x95\x01Opus"[..], &[number, 0x78]].concat());
    for number in 0..16 {
        reader.push(TagKind::Audio, 0, body(number)).unwrap();
    }
    let error = reader.push(TagKind::Audio, 0, body(16)).unwrap_err();
    assert!(matches!(error, FlvError::TooManyTracks { number: 16, .. }));
    reader.push(TagKind::Audio, 0, body(3)).unwrap();
    assert!(matches!(reader.next_event(), Some(Event::Frame(f)) if f.track.0 == 3));
}

/// Bare as FFmpeg sends it, behind its block header, and as the specification says.
#[test]
fn flac_sequence_headers_of_all_shapes() {
    let config = |events: &[Event]| tracks(events).first().map(|t| t.config.clone());
    let bare = tracks(&read_file(AV1_FLAC)).into_iter().find(|t| t.codec == Codec::Flac).unwrap().config;
    assert_eq!(bare.len(), 34);
    for before in [&b"\x90fLaC"[..], b"\x90fLaC\x80\0\0\x22", b"\x90fLaCfLaC\0\0\0\x22"] {
        let mut reader = TagReader::new();
        reader.push(TagKind::Audio, 0, [before, &bare].concat().into()).unwrap();
        let events: Vec<_> = std::iter::from_fn(|| reader.next_event()).collect();
        assert_eq!(config(&events), Some(bare.clone()), "{before:?}");
    }
    let short = push(&mut TagReader::new(), TagKind::Audio, b"\x90fLaCfLaC\0\0\0\x22");
    assert!(matches!(short, Err(FlvError::Media { .. })));
}

#[test]
fn facts_come_from_configs_and_frames() {
    let facts = |file, codec| tracks(&read_file(file)).into_iter().rfind(|t| t.codec == codec).unwrap().facts;
    for (file, codec) in [
        (AVC_AAC, Codec::H264),
        (HEVC_OPUS, Codec::H265),
        (AV1_FLAC, Codec::Av1),
        (VP9_AC3, Codec::Vp9),
        (MULTITRACK, Codec::H265),
    ] {
        let facts = facts(file, codec);
        assert_eq!((facts.width, facts.height), (64, 48), "{codec}");
    }
    for (file, codec, rate) in [
        (AVC_AAC, Codec::Aac, 44_100),
        (AVC_MP3, Codec::Mp3, 44_100),
        (HEVC_OPUS, Codec::Opus, 48_000),
        (AV1_FLAC, Codec::Flac, 8000),
        (VP9_AC3, Codec::Ac3, 44_100),
        (MULTITRACK, Codec::Eac3, 44_100),
        (ALAW, Codec::G711A, 8000),
    ] {
        let facts = facts(file, codec);
        assert_eq!((facts.sample_rate, facts.channels), (rate, 1), "{codec}");
    }
}

/// Each track of the usual files is told once: readers are sent its config once.
#[test]
fn tracks_are_told_once() {
    for file in [AVC_AAC, AVC_MP3, HEVC_OPUS, ALAW] {
        let ids: Vec<_> = tracks(&read_file(file)).iter().map(|t| t.id.0).collect();
        assert_eq!(ids, (0..ids.len() as u8).collect::<Vec<_>>());
    }
}

#[test]
fn parameter_sets_in_frames_renew_the_config() {
    let mut reader = TagReader::new();
    let old = tracks(&read(&mut reader, &tags(AVC_AAC))).remove(0);
    let new = tracks(&read_file(AVC_MP3)).remove(0);
    assert_ne!(old.config, new.config);
    let sets = crate::media::h264::AvcConfig::parse(&new.config).unwrap().sets;
    let mut body = b"\x17\x01\0\0\0".to_vec();
    for nal in [&sets.sps[0][..], &sets.pps[0], b"\x65\x88\x84"] {
        crate::media::nal::put_nal(&mut body, nal);
    }

    let body = Bytes::from(body);
    reader.push(TagKind::Video, 0, body.clone()).unwrap();
    let events: Vec<_> = std::iter::from_fn(|| reader.next_event()).collect();
    let [Event::Track(track), Event::Frame(frame)] = &events[..] else { panic!("{events:?}") };
    assert_eq!((track.id, &track.config), (old.id, &new.config));
    assert_eq!(frame.flags, Flags::KEY | Flags::NEW_CONFIG);
    assert_eq!(&frame.data[..], b"\0\0\0\x03\x65\x88\x84");
    assert!(body.as_ptr_range().contains(&frame.data.as_ptr()), "not copied");
}

#[test]
fn opus_without_a_header_gets_one() {
    let mut reader = TagReader::new();
    assert_eq!(push(&mut reader, TagKind::Audio, b"\x90Opus").unwrap(), []);
    let events = push(&mut reader, TagKind::Audio, b"\x91Opus\x78data").unwrap();
    let track = &tracks(&events)[0];
    assert!(track.config.starts_with(b"OpusHead\x01\x02"));
    assert_eq!(frames(&events, 0)[0].flags, Flags::KEY);
}

#[test]
fn a_codec_may_change_in_mid_stream() {
    let mut reader = TagReader::new();
    let g711 = push(&mut reader, TagKind::Audio, b"\x72\xD5\xD5").unwrap();
    assert_eq!((tracks(&g711)[0].facts.sample_rate, tracks(&g711)[0].facts.channels), (8000, 1));
    let opus = push(&mut reader, TagKind::Audio, b"\x91Opus\x78").unwrap();
    assert_eq!((tracks(&opus)[0].codec, tracks(&opus)[0].id.0), (Codec::Opus, 0));
    assert!(frames(&opus, 0)[0].flags.has(Flags::NEW_CONFIG));
    let again = push(&mut reader, TagKind::Audio, b"\x72\xD5\xD5").unwrap();
    assert_eq!(tracks(&again)[0].codec, Codec::G711A);
}

#[test]
fn errors_say_what_and_where() {
    let message = |kind, body| push(&mut TagReader::new(), kind, body).unwrap_err().to_string();
    assert_eq!(
        message(TagKind::Video, b"\x17\x01\0"),
        "FLV video tag: ends after 3 bytes, in the middle of the composition time"
    );
    assert_eq!(message(TagKind::Video, b"\x17\x09\0\0\0"), "FLV video tag at byte 1: the packet type is 9");
    assert_eq!(message(TagKind::Audio, b"\xAF\x05"), "FLV audio tag at byte 1: the packet type is 5");
    let error = message(TagKind::Video, b"\x17\0\0\0\0\x01\x64");
    assert!(error.starts_with("FLV video tag: avcC"), "{error}");
}

/// Reads whatever the bytes hold; only panics matter.
fn read_hostile(mut file: &[u8]) {
    let mut demuxer = Demuxer::new(100_000);
    let mut reader = TagReader::new();
    while let Ok(Some(tag)) = demuxer.next_tag(&mut file) {
        let _ = reader.push(tag.kind, tag.ts_ms, tag.body);
        while let Some(event) = reader.next_event() {
            if let Event::Track(track) = event {
                let _ = config_body(&track);
            }
        }
    }
}

#[test]
fn mutations_and_truncations_do_not_panic() {
    for file in ALL {
        for len in (0..file.len()).step_by(7) {
            read_hostile(&file[..len]);
        }
        // The first bytes of each tag's body are where the structure is.
        for tag in tags(file) {
            for i in 0..tag.body.len().min(48) {
                for byte in [0, 1, 0x7F, 0x80, 0xFF, tag.body[i] ^ 0x10, tag.body[i].wrapping_add(1)] {
                    let mut body = tag.body.to_vec();
                    body[i] = byte;
                    let mut out = BytesMut::from(&file_header(true, true)[..]);
                    put_tag(&mut out, tag.kind, 0, &[], &body).unwrap();
                    put_tag(&mut out, tag.kind, 0, &[], &tag.body).unwrap();
                    read_hostile(&out);
                }
            }
        }
    }
}

#[test]
fn bodies_cut_at_every_byte_do_not_panic() {
    for file in ALL {
        let mut reader = TagReader::new();
        for tag in tags(file).into_iter().take(12) {
            for len in 0..tag.body.len() {
                let _ = reader.push(tag.kind, tag.ts_ms, tag.body.slice(..len));
            }
        }
    }
}

proptest! {
    #[test]
    fn noise_does_not_panic(
        bodies in prop::collection::vec((0u8..3, any::<u8>(), prop::collection::vec(any::<u8>(), 0..60)), 1..8)
    ) {
        let mut reader = TagReader::new();
        for (kind, fourcc, rest) in bodies {
            let kind = [TagKind::Audio, TagKind::Video, TagKind::Script][usize::from(kind)];
            let (_, fourcc) = FOURCCS[usize::from(fourcc) % FOURCCS.len()];
            let mut body = rest;
            let at = 1.min(body.len());
            body.splice(at..at, fourcc);
            let _ = reader.push(kind, 0, body.into());
            while reader.next_event().is_some() {}
        }
    }
}
