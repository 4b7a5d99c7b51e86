//! FFmpeg plays: all frames of the source, byte by byte.

use super::{attribute, dash, fetch, link_count, manifest, well_formed, with};
use crate::publish_play::publisher;
use crate::support::frames::{Form, Kind, Player};
use crate::support::{Clip, Frames, Program, wait_until};

/// Times are rounded to FLV's clock, and from there to those of MP4: in microseconds.
const TICKS: i64 = 2000;

/// Plays from the first segment on while the stream is live, and to the end when it has ended.
///
/// FFmpegs know of the end of a live stream as little as of segments that are not there yet, which they pass over: so the one
/// that plays live comes later than the stream, is not faster than it, and is left before the end.
#[track_caller]
fn plays(clip: Clip, keys: &[(&str, &str)]) {
    let clip = clip.lasting(14);
    let server = with(keys);
    let publisher = publisher(Program::ffmpeg, clip, &server.rtmp("demo"));
    server.line("publish of live/demo ");
    // The first request begins it.
    manifest(&server);
    wait_until("some segments", || {
        let text = manifest(&server);
        link_count(&text) >= 3 || !text.contains("video/mp4") && link_count(&text) >= 2
    });
    let url = format!("-re -i {}", server.http("demo.mpd"));
    let player = Player::start(Program::ffmpeg, &url, clip, Form::Flv);
    let source = Frames::of_clip(clip, Form::Flv);
    // Eight seconds; three have been, and as many are still to come.
    let kind = if source.video.is_empty() { Kind::Audio } else { Kind::Video };
    player.wait_for(kind, source.of(kind).len() * 8 / 14);
    let frames = player.so_far();
    is_a_run_of(&frames, &source);
    drop(player);

    publisher.end().clean();
    wait_until("the end", || fetch(&server, "demo.mpd").good().contains("type=\"static\""));
    for ffmpeg in [Program::ffmpeg, Program::old_ffmpeg] {
        let frames =
            Player::start(ffmpeg, &format!("-i {}", server.http("demo.mpd")), clip, Form::Flv).frames();
        let (audio, all) = is_a_run_of(&frames, &source);
        assert_eq!(frames.video.len(), source.video.len());
        // Its demuxer ends with the track that ends first, which the last frame of sound may outlast.
        let lost = if source.video.is_empty() { 0 } else { 1 };
        assert!(audio + lost >= all, "{audio} frames of sound of {all}");
    }
}

/// Demands that these are frames of the source from the first one on: all pictures, and sound but for what was before the
/// picture. Gives how many of sound these are of how many, with what was left out at the start.
#[track_caller]
fn is_a_run_of(frames: &Frames, source: &Frames) -> (usize, usize) {
    // The first frames of sound may be silence, all the same: a search for the first would not do.
    let run = |kind: Kind, most: usize| {
        let (got, all) = (frames.of(kind), source.of(kind));
        let is_run = |from: &usize| {
            let rest = all.get(*from..).unwrap_or_default();
            rest.len() >= got.len() && got.iter().zip(rest).all(|(a, b)| a.hash == b.hash)
        };
        let from = (0..=most).find(is_run).unwrap_or_else(|| panic!("{kind:?} is not what was published"));
        (from, all[from..from + got.len()].to_vec())
    };
    let (from, audio) = run(Kind::Audio, 3);
    let (_, video) = run(Kind::Video, 0);
    frames.are_the_end_of(&Frames { video, audio }, TICKS);
    (from + frames.audio.len(), source.audio.len())
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
    // On demand it would begin with the frame that comes next, whichever that is.
    plays(Clip::AAC, &[("VHOST__DEFAULT__HLS__VARIANT", "fmp4")]);
}

#[test]
fn picture_alone() {
    plays(Clip::H264, &[]);
}

#[test]
fn shared_with_hls() {
    plays(Clip::H264_AAC, &[("VHOST__DEFAULT__HLS__VARIANT", "fmp4")]);
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
