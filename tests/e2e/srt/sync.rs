//! Sound and picture stay together, whichever way a stream goes.

use super::publisher;
use crate::support::frames::{Form, Frame, Player};
use crate::support::{Clip, Frames, Program, Server};

const CLIP: Clip = Clip::H264_B_AAC;

/// How far picture and sound have moved apart, in microseconds.
#[track_caller]
fn apart(got: &Frames, source: &Frames) -> i64 {
    let shift = |got: &[Frame], all: &[Frame]| {
        // Who remuxes may write start codes another way: one frame that is the same says which the others are.
        let same = |frame: &Frame| all.iter().position(|other| other.hash == frame.hash);
        let (n, place) = got
            .iter()
            .enumerate()
            .find_map(|(n, frame)| Some((n, same(frame)?)))
            .expect("a frame of the source");
        let pairs = got.iter().zip(all.iter().skip(place - n));
        let mut shifts: Vec<i64> = pairs.map(|(got, all)| got.pts - all.pts).collect();
        shifts.sort_unstable();
        assert!(shifts.len() > 50, "{} frames", shifts.len());
        shifts[shifts.len() / 2]
    };
    shift(&got.video, &source.video) - shift(&got.audio, &source.audio)
}

/// One frame of the picture.
const FRAME: i64 = 40_000;

#[test]
fn from_srt_to_others() {
    let server = Server::start();
    let play = |url: String, form| Player::start(Program::ffmpeg, &url, CLIP, form);
    let rtmp = play(server.rtmp("demo"), Form::Flv);
    let flv = play(server.http("demo.flv"), Form::Flv);
    let srt = play(server.srt("demo"), Form::Ts);
    server.players(3);
    let publisher = publisher(Program::ffmpeg, CLIP, &server.srt("demo,m=publish"));
    rtmp.wait_for(crate::support::Kind::Video, 100);
    let hls = play(format!("-live_start_index 0 -i {}", server.http("demo.m3u8")), Form::Ts);
    publisher.end().good();
    for (player, form) in [(rtmp, Form::Flv), (flv, Form::Flv), (srt, Form::FlvAsTs), (hls, Form::FlvAsTs)] {
        let apart = apart(&player.end().0, &Frames::of_clip(CLIP, form));
        assert!(apart.abs() <= FRAME, "{form:?}: {apart} µs");
    }
}

#[test]
fn from_rtmp_by_srt_to_rtmp() {
    let (first, second) = (Server::start(), Server::start());
    let player = Player::start(Program::ffmpeg, &second.rtmp("demo"), CLIP, Form::Flv);
    second.players(1);
    let relay =
        format!("-i {} -c copy -f mpegts {}&pkt_size=1316", first.srt("demo"), second.srt("demo,m=publish"));
    let relay = Program::ffmpeg(&relay);
    first.players(1);
    crate::publish_play::publisher(Program::ffmpeg, CLIP, &first.rtmp("demo")).end().clean();
    relay.end();
    let apart = apart(&player.end().0, &Frames::of_clip(CLIP, Form::Flv));
    assert!(apart.abs() <= FRAME, "{apart} µs");
}
