//! Publishers that break off and come back, and two at a time.

use std::time::{Duration, Instant};

use rillbox::rtmp::client_session::Goal;

use crate::publish_play::publisher;
use crate::support::frames::{Form, Frame, Player};
use crate::support::rtmp::Rtmp;
use crate::support::{Clip, Frames, Kind, Program, Server};

#[test]
fn players_survive_a_publisher_that_is_back_in_3_s() {
    let server = Server::with(&[("VHOST__DEFAULT__GRACE", "10s")]);
    let clip = Clip::H264_B_AAC;
    let players = [server.rtmp("demo"), server.http("demo.flv")]
        .map(|url| Player::start(Program::ffmpeg, &url, clip, Form::Flv));
    let ts = Player::start(Program::ffmpeg, &server.http("demo.ts"), clip, Form::Ts);
    // One that decodes, and complains of what it can't.
    let decoder = Program::ffmpeg(&format!("-xerror -i {} -f null -", server.rtmp("demo")));
    server.players(4);
    let first = publisher(Program::ffmpeg, clip, &server.rtmp("demo"));
    players[0].wait_for(Kind::Video, 70);
    first.kill();
    server.line("publish of live/demo ended");
    // What is tested is that time passes.
    std::thread::sleep(Duration::from_secs(3));
    publisher(Program::ffmpeg, clip, &server.rtmp("demo")).end().clean();
    let source = Frames::of_clip(clip, Form::Flv);
    for player in players {
        goes_on(&player.frames(), &source);
    }
    goes_on(&ts.frames(), &Frames::of_clip(clip, Form::FlvAsTs));
    decoder.end().clean();
}

/// Demands the start of the source, and then all of it, on one clock. Sound from before a first picture may be
/// left out.
#[track_caller]
fn goes_on(frames: &Frames, source: &Frames) {
    for kind in [Kind::Video, Kind::Audio] {
        let (got, all) = (frames.of(kind), source.of(kind));
        const LEFT_OUT: usize = 3;
        let first = |frame: &Frame| all.iter().take(LEFT_OUT + 1).position(|first| first.hash == frame.hash);
        let again = got.iter().rposition(|frame| first(frame).is_some()).unwrap();
        let again = (again.saturating_sub(LEFT_OUT)..=again).find(|n| first(&got[*n]).is_some()).unwrap();
        assert!(again >= 60, "{kind:?}: the second publisher begins at frame {again} of {}", got.len());
        for part in [&got[..again], &got[again..]] {
            let rest = &all[first(&part[0]).unwrap()..];
            for (n, (a, b)) in part.iter().zip(rest).enumerate() {
                assert_eq!(a.hash, b.hash, "{kind:?}: frame {n} of {}", part.len());
            }
        }
        assert_eq!(got.last().unwrap().hash, all.last().unwrap().hash);
        for pair in got.windows(2) {
            let step = pair[1].dts - pair[0].dts;
            // The gap is told as it was, or left out, but it is no jump.
            assert!((0..8_000_000).contains(&step), "{kind:?}: {step} µs from one frame to the next");
        }
    }
    let (video, audio) = (frames.video.last().unwrap(), frames.audio.last().unwrap());
    let (v, a) = (source.video.last().unwrap(), source.audio.last().unwrap());
    let shift = (video.dts - audio.dts) - (v.dts - a.dts);
    assert!(shift.abs() <= 1000, "sound and picture of the second publisher are {shift} µs apart");
}

#[test]
fn players_end_when_nobody_comes_back() {
    let server = Server::with(&[("VHOST__DEFAULT__GRACE", "1s")]);
    let clip = Clip::H264_AAC;
    let player = Player::start(Program::ffmpeg, &server.http("demo.flv"), clip, Form::Flv);
    server.players(1);
    let first = publisher(Program::ffmpeg, clip, &server.rtmp("demo"));
    player.wait_for(Kind::Video, 30);
    first.kill();
    let start = Instant::now();
    assert!(player.frames().video.len() >= 30);
    assert!(start.elapsed() < Duration::from_secs(10));
}

#[test]
fn a_second_publisher_is_refused() {
    let (server, clip) = (Server::start(), Clip::H264_AAC);
    let player = Player::start(Program::ffmpeg, &server.rtmp("demo"), clip, Form::Flv);
    server.players(1);
    let first = publisher(Program::ffmpeg, clip, &server.rtmp("demo"));
    player.wait_for(Kind::Video, 10);
    let text = Rtmp::try_start(&server.rtmp("demo"), Goal::Publish).err().unwrap();
    assert!(text.contains("NetStream.Publish.BadName"), "{text}");
    let second = publisher(Program::old_ffmpeg, clip, &server.rtmp("demo")).end();
    assert!(!second.status.success(), "{second:?}");
    first.end().clean();
    assert_eq!(player.frames().are_the_end_of(&Frames::of_clip(clip, Form::Flv), 0), 0);
}

#[test]
fn a_second_publisher_takes_over_when_so_configured() {
    let server = Server::with(&[("VHOST__DEFAULT__DUPLICATE", "takeover")]);
    let clip = Clip::H264_AAC;
    let player = Player::start(Program::ffmpeg, &server.rtmp("demo"), clip, Form::Flv);
    server.players(1);
    let first = publisher(Program::ffmpeg, clip, &server.rtmp("demo"));
    player.wait_for(Kind::Video, 70);
    publisher(Program::ffmpeg, clip, &server.rtmp("demo")).end().clean();
    assert!(!first.end().status.success());
    server.line("took live/demo over");
    goes_on(&player.frames(), &Frames::of_clip(clip, Form::Flv));
}
