//! FFmpeg plays: all frames of the source, byte by byte.

use super::{attribute, dash, fetch, manifest, well_formed, with};
use crate::publish_play::publisher;
use crate::support::frames::{Form, Player};
use crate::support::{Clip, Frames, Program, wait_until};

/// Times are rounded to FLV's clock, and from there to those of MP4: in microseconds.
const TICKS: i64 = 2000;

/// Plays from the first segment to the end, by both FFmpegs.
#[track_caller]
fn plays(clip: Clip, keys: &[(&str, &str)]) {
    for ffmpeg in [Program::ffmpeg, Program::old_ffmpeg] {
        let server = with(keys);
        let publisher = publisher(Program::ffmpeg, clip, &server.rtmp("demo"));
        server.line("publish of live/demo ");
        // There is no segment yet: the server has it wait.
        let player = Player::start(ffmpeg, &format!("-i {}", server.http("demo.mpd")), clip, Form::Flv);
        publisher.end().clean();
        let source = Frames::of_clip(clip, Form::Flv);
        let (frames, ended) = player.end();
        println!("{}", ended.said);
        ended.good();
        assert_eq!(frames.are_the_end_of(&source, TICKS), 0, "the first segment begins with the stream");
    }
}

#[test]
fn h264_aac() {
    plays(Clip::H264_B_AAC, &[]);
}

#[test]
fn h264_aac_low_latency() {
    plays(Clip::H264_AAC, &[(dash!("LOW_LATENCY"), "true")]);
}

#[test]
fn h265_aac() {
    plays(Clip::H265_AAC, &[]);
}

#[test]
fn av1_opus() {
    plays(Clip::AV1_OPUS, &[]);
}

#[test]
fn vp9_opus() {
    plays(Clip::VP9_OPUS, &[]);
}

#[test]
fn h264_ac3() {
    plays(Clip::H264_AC3, &[]);
}

#[test]
fn sound_alone() {
    plays(Clip::AAC, &[]);
}

#[test]
fn picture_alone() {
    plays(Clip::H264, &[]);
}

#[test]
fn shared_with_hls() {
    plays(
        Clip::H264_AAC,
        &[("VHOST__DEFAULT__HLS__VARIANT", "fmp4"), ("VHOST__DEFAULT__HLS__SEGMENT", "1s")],
    );
}

#[test]
fn the_end_is_static_and_a_new_publisher_a_new_period() {
    let server = with(&[("VHOST__DEFAULT__GRACE", "10s"), (dash!("TIMESHIFT"), "1m")]);
    for (round, clip) in [Clip::H264_AAC, Clip::H265_AAC].into_iter().enumerate() {
        let publisher = publisher(Program::ffmpeg, clip, &server.rtmp("demo"));
        wait_until("a publisher", || server.count("publish of live/demo ") > round);
        let text = manifest(&server);
        assert_eq!(attribute(&text, "type"), Some("dynamic"), "{text}");
        publisher.end().clean();
    }
    let text = manifest(&server);
    assert_eq!(text.matches("<Period ").count(), 2, "{text}");
    let start = attribute(&text, "availabilityStartTime").unwrap().to_owned();
    wait_until("the end", || fetch(&server, "demo.mpd").good().contains("type=\"static\""));
    let text = fetch(&server, "demo.mpd").good();
    well_formed(&text);
    assert_eq!(attribute(&text, "availabilityStartTime"), Some(&*start));
    assert!(attribute(&text, "mediaPresentationDuration").is_some() && !text.contains("minimumUpdatePeriod"));
}
