//! FFmpeg plays: all frames of the source, byte by byte, whatever the segments are.

use super::{fetch, hls, media, resolve, server, variants, with};
use crate::publish_play::publisher;
use crate::support::frames::{Form, Player};
use crate::support::{Clip, Dir, Frames, Program, Server, wait_until};

/// Times are rounded to FLV's clock, and from there to those of the containers: in microseconds.
const TICKS: i64 = 2000;

/// Plays from the first segment to the end.
#[track_caller]
fn plays_on(server: &Server, clip: Clip, form: Form, ffmpeg: fn(&str) -> Program) {
    // Of sound alone in a transport stream FFmpeg gives the frames after the first a wrong time, until the next PES packet.
    let tolerance = if clip.video_frames() == 0 && form == Form::Ts { 12 * TICKS } else { TICKS };
    let publisher = publisher(Program::ffmpeg, clip, &server.rtmp("demo"));
    server.line("publish of live/demo ");
    // There is no segment yet: the server has it wait.
    let url = format!("-live_start_index 0 -i {}", server.http("demo.m3u8"));
    let player = Player::start(ffmpeg, &url, clip, form);
    publisher.end().clean();
    let source = Frames::of_clip(clip, if form == Form::Ts { Form::FlvAsTs } else { Form::Flv });
    let (frames, ended) = player.end();
    println!("{}", ended.said);
    ended.good();
    let first = frames.are_the_end_of(&source, tolerance);
    assert_eq!(first, 0, "the first segment begins with the stream");
}

#[track_caller]
fn plays(variant: &str, clip: Clip, form: Form) {
    plays_on(&server(variant), clip, form, Program::ffmpeg);
}

#[test]
fn ts_h264_aac() {
    plays("ts", Clip::H264_B_AAC, Form::Ts);
}

#[test]
fn ts_h264_aac_by_an_old_ffmpeg() {
    plays_on(&server("ts"), Clip::H264_AAC, Form::Ts, Program::old_ffmpeg);
}

#[test]
fn ts_h265_aac() {
    plays("ts", Clip::H265_AAC, Form::Ts);
}

#[test]
fn ts_h264_mp3() {
    plays("ts", Clip::H264_MP3, Form::Ts);
}

#[test]
fn ts_h264_ac3() {
    plays("ts", Clip::H264_AC3, Form::Ts);
}

#[test]
fn ts_sound_alone() {
    plays("ts", Clip::AAC, Form::Ts);
}

#[test]
fn ts_picture_alone() {
    plays("ts", Clip::H264, Form::Ts);
}

#[test]
fn fmp4_h264_aac() {
    plays("fmp4", Clip::H264_B_AAC, Form::Flv);
}

#[test]
fn fmp4_h265_aac() {
    plays("fmp4", Clip::H265_AAC, Form::Flv);
}

#[test]
fn auto_av1_opus() {
    plays("auto", Clip::AV1_OPUS, Form::Flv);
}

#[test]
fn fmp4_vp9_opus() {
    plays("fmp4", Clip::VP9_OPUS, Form::Flv);
}

#[test]
fn fmp4_h264_mp3() {
    plays("fmp4", Clip::H264_MP3, Form::Flv);
}

#[test]
fn fmp4_h264_ac3() {
    plays("fmp4", Clip::H264_AC3, Form::Flv);
}

#[test]
fn fmp4_h264_flac() {
    plays("fmp4", Clip::H264_FLAC, Form::Flv);
}

#[test]
fn fmp4_sound_alone() {
    plays("fmp4", Clip::AAC, Form::Flv);
}

#[test]
fn fmp4_picture_alone() {
    plays("fmp4", Clip::H264, Form::Flv);
}

#[test]
fn low_latency_h264_aac() {
    plays("low-latency", Clip::H264_B_AAC, Form::Flv);
}

#[test]
fn low_latency_h265_aac() {
    plays("low-latency", Clip::H265_AAC, Form::Flv);
}

#[test]
fn aes_128() {
    let server = with("ts", &[(hls!("ENCRYPTION"), "aes-128"), (hls!("SEGMENTS_PER_KEY"), "2")]);
    plays_on(&server, Clip::H264_AAC, Form::Ts, Program::ffmpeg);
}

#[test]
fn aes_128_of_fmp4() {
    let server = with("fmp4", &[(hls!("ENCRYPTION"), "aes-128"), (hls!("SEGMENTS_PER_KEY"), "2")]);
    plays_on(&server, Clip::H264_AAC, Form::Flv, Program::ffmpeg);
}

/// What is on disk plays without us.
#[test]
fn from_disk() {
    for (variant, form) in [("ts", Form::Ts), ("fmp4", Form::Flv)] {
        let (dir, clip) = (Dir::new(), Clip::H264_B_AAC);
        let root = dir.path("hls");
        let server = with(variant, &[(hls!("PATH"), root.to_str().unwrap())]);
        publisher(Program::ffmpeg, clip, &server.rtmp("demo")).end().clean();
        let file = root.join("live/demo.m3u8");
        let lists: &[&str] =
            if variant == "ts" { &["live/demo.m3u8"] } else { &["live/demo/v0.m3u8", "live/demo/a1.m3u8"] };
        let has_ended = |name: &&str| {
            std::fs::read_to_string(root.join(name)).is_ok_and(|text| text.contains("#EXT-X-ENDLIST"))
        };
        let ended = || lists.iter().all(has_ended);
        wait_until("the end of the playlists", ended);
        drop(server);
        let frames = Frames::of_file(&file, clip, form);
        let source = Frames::of_clip(clip, if form == Form::Ts { Form::FlvAsTs } else { Form::Flv });
        assert_eq!(frames.are_the_end_of(&source, TICKS), 0, "{variant}");
    }
}

/// Samples that are encrypted are played by who has the key.
#[test]
fn cbcs() {
    let server = with("fmp4", &[(hls!("ENCRYPTION"), "cbcs"), (hls!("SESSIONS"), "false")]);
    let publisher = publisher(Program::ffmpeg, Clip::H264_AAC, &server.rtmp("demo"));
    server.line("publish of live/demo ");
    variants(&server);
    publisher.end().clean();
    let dir = Dir::new();
    for rendition in ["v0", "a1"] {
        let playlist = format!("demo/{rendition}.m3u8");
        wait_until("the end of the playlist", || media(&server, &playlist).ended);
        let list = media(&server, &playlist);
        let fetch_link = |link: &str| {
            let answer = fetch(&server, &resolve(&playlist, link));
            assert_eq!(answer.status, 200, "{link}");
            answer.body
        };
        let key = &list.segments[0].keys[0];
        assert_eq!((key.find("METHOD"), key.find("KEYFORMAT")), (Some("SAMPLE-AES"), Some("identity")));
        let secret = fetch_link(key.find("URI").unwrap());
        assert_eq!(secret.len(), 16);
        let same = list.segments.iter().take_while(|segment| segment.keys[0].find("URI") == key.find("URI"));
        let mut all = fetch_link(list.segments[0].map.as_ref().unwrap().find("URI").unwrap());
        let mut seconds = 0;
        for segment in same {
            all.extend(fetch_link(&segment.uri));
            seconds += 1;
        }
        assert!(seconds >= 3);
        let file = dir.path(rendition);
        std::fs::write(&file, all).unwrap();
        let hex: String = secret.iter().map(|byte| format!("{byte:02x}")).collect();
        let input = format!("-decryption_key {hex} -i {}", file.display());
        let frames = Player::start(Program::ffmpeg, &input, Clip::H264_AAC, Form::Flv).frames();
        let source = Frames::of_clip(Clip::H264_AAC, Form::Flv);
        let (got, expected) =
            if rendition == "v0" { (&frames.video, &source.video) } else { (&frames.audio, &source.audio) };
        assert!(got.len() >= 25 * 3);
        // Sound begins with the picture.
        let first = expected.iter().position(|frame| frame.hash == got[0].hash);
        let expected =
            &expected[first.unwrap_or_else(|| panic!("{rendition}: what is decrypted is not the source"))..];
        assert!(got.iter().zip(expected).all(|(got, expected)| got.hash == expected.hash), "{rendition}");
    }
}

/// What tstools has to say of all segments in a row.
#[test]
fn segments_in_a_row_are_one_transport_stream() {
    let (server, dir) = (server("ts"), Dir::new());
    let publisher = publisher(Program::ffmpeg, Clip::H264_B_AAC, &server.rtmp("demo"));
    server.line("publish of live/demo ");
    variants(&server);
    publisher.end().clean();
    wait_until("the end of the playlist", || media(&server, "demo/main.m3u8").ended);
    let list = media(&server, "demo/main.m3u8");
    assert_eq!((list.first, list.segments.len()), (0, 6), "{list:#?}");
    let mut all = Vec::new();
    for segment in &list.segments {
        let answer = fetch(&server, &resolve("demo/main.m3u8", &segment.uri));
        assert_eq!(
            (answer.status, answer.header("Content-Type")),
            (200, Some("video/MP2T")),
            "{}",
            segment.uri
        );
        assert_eq!(answer.body.len() % 188, 0);
        all.extend(answer.body);
    }
    let file = dir.path("all.ts");
    std::fs::write(&file, &all).unwrap();
    let report = Program::start("tsreport", ["-buffering", file.to_str().unwrap()]).end();
    println!("{}", report.said);
    report.good();
    let wrong = |line: &&str| {
        let line = line.to_ascii_lowercase();
        ["cc error", "discontinuity", "!!!", "warning", "###", "< dts"].iter().any(|word| line.contains(word))
    };
    assert_eq!(report.said.lines().find(wrong), None);
    assert!(report.said.contains(" Bad (>.1s) gaps: 0,"));
    let streams = report.said.lines().filter(|line| line.contains("duplicate packets: 0")).count();
    assert_eq!(streams, 2, "picture and sound, no packet twice");
    counters_go_on(&all);
}

/// Each packet with a payload has the next continuity counter of its PID.
#[track_caller]
fn counters_go_on(ts: &[u8]) {
    let mut last = std::collections::HashMap::new();
    for (n, packet) in ts.chunks(188).enumerate() {
        let pid = u16::from(packet[1] & 0x1F) << 8 | u16::from(packet[2]);
        let (counter, has_payload) = (packet[3] & 0xF, packet[3] & 0x10 != 0);
        if let Some(before) = last.insert(pid, counter) {
            assert_eq!(counter, (before + u8::from(has_payload)) & 0xF, "packet {n}, PID {pid:#x}");
        }
    }
}
