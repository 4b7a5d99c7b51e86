//! Clients that are not FFmpeg 9: each reads and writes RTMP in its own way.

use std::path::Path;

use crate::publish_play::{BURST, publisher};
use crate::support::frames::{Form, Player};
use crate::support::{Clip, Dir, Frames, Program, Server};

/// The old FFmpeg, as publisher and as player.
fn old_ffmpeg(clip: Clip) {
    let server = Server::start();
    let early: Vec<_> = [server.rtmp("demo"), server.http("demo.flv")]
        .iter()
        .map(|url| Player::start(Program::old_ffmpeg, url, clip, Form::Flv))
        .collect();
    let ts = Player::start(Program::old_ffmpeg, &server.http("demo.ts"), clip, Form::Ts);
    server.players(3);
    publisher(Program::old_ffmpeg, clip, &server.rtmp("demo")).end().clean();
    let source = Frames::of_clip(clip, Form::Flv);
    for player in early {
        assert_eq!(player.frames().are_the_end_of(&source, 0), 0);
    }
    assert_eq!(ts.frames().are_the_end_of(&Frames::of_clip(clip, Form::FlvAsTs), 1000), 0);
}

#[test]
fn old_ffmpeg_h264_aac() {
    old_ffmpeg(Clip::H264_B_AAC);
}

#[test]
fn old_ffmpeg_h264_mp3() {
    old_ffmpeg(Clip::H264_MP3);
}

#[test]
fn a_player_that_lists_its_video_codecs_gets_sound_too() {
    let (server, clip) = (Server::start(), Clip::AV1_OPUS);
    let input = format!("-rtmp_enhanced_codecs hvc1,av01 -i {}", server.rtmp("demo"));
    let player = Player::start(Program::ffmpeg, &input, clip, Form::Flv);
    server.players(1);
    publisher(Program::ffmpeg, clip, &server.rtmp("demo")).end().clean();
    assert_eq!(player.frames().are_the_end_of(&Frames::of_clip(clip, Form::Flv), 0), 0);
}

/// Compares a file that a player wrote until the publisher ended.
#[track_caller]
fn complete(file: &Path, clip: Clip) {
    let frames = Frames::of_file(file, clip, Form::Flv);
    assert_eq!(frames.are_the_end_of(&Frames::of_clip(clip, Form::Flv), 0), 0);
}

#[test]
fn rtmpdump_plays() {
    let (server, dir, clip) = (Server::start(), Dir::new(), Clip::H264_B_AAC);
    let file = dir.path("dump.flv");
    let args = ["--live", "-q", "-r", &server.rtmp("demo"), "-o", file.to_str().unwrap()];
    let rtmpdump = Program::start("rtmpdump", args);
    server.players(1);
    publisher(Program::ffmpeg, clip, &server.rtmp("demo")).end().clean();
    rtmpdump.end();
    complete(&file, clip);
}

#[test]
fn gstreamer_plays() {
    let (server, dir, clip) = (Server::start(), Dir::new(), Clip::H264_B_AAC);
    let file = dir.path("dump.flv");
    let args = format!("-q rtmp2src location={} ! filesink location={}", server.rtmp("demo"), file.display());
    let gst = Program::start("gst-launch-1.0", args.split_whitespace());
    server.players(1);
    publisher(Program::ffmpeg, clip, &server.rtmp("demo")).end().clean();
    gst.end().good();
    complete(&file, clip);
}

#[test]
fn gstreamer_publishes() {
    let (server, dir, clip) = (Server::start(), Dir::new(), Clip::H264_AAC);
    let player = Player::start(Program::ffmpeg, &server.rtmp("demo"), clip, Form::Flv);
    let ts = Player::start(Program::ffmpeg, &server.http("demo.ts"), clip, Form::Ts);
    server.players(2);
    // It makes times of its own, so that what it sends is the source.
    let file = dir.path("sent.flv");
    let args = format!(
        "-q flvmux name=mux streamable=true ! tee name=both ! queue ! rtmp2sink location={} \
         both. ! queue ! filesink location={} \
         filesrc location={} ! flvdemux name=demux \
         demux.video ! queue ! h264parse ! identity sync=true ! mux.video \
         demux.audio ! queue ! aacparse ! identity sync=true ! mux.audio",
        server.rtmp("demo"),
        file.display(),
        clip.file().display()
    );
    Program::start("gst-launch-1.0", args.split_whitespace()).end().good();
    let sent = |form| Frames::of_file(&file, clip, form);
    assert_eq!(player.frames().are_the_end_of(&sent(Form::Flv), 0), 0);
    assert_eq!(ts.frames().are_the_end_of(&sent(Form::FlvAsTs), 1000), 0);
    assert_eq!(sent(Form::Flv).video.len(), clip.video_frames());
}

#[test]
fn curl_fetches() {
    let (server, dir, clip) = (Server::start(), Dir::new(), Clip::H264_AAC);
    let files = ["demo.flv", "demo.ts", "demo.aac"].map(|name| (name, dir.path(name)));
    let curls: Vec<_> = files
        .iter()
        .map(|(name, file)| {
            Program::start("curl", ["-sSf", "-o", file.to_str().unwrap(), &server.http(name)])
        })
        .collect();
    server.players(3);
    publisher(Program::ffmpeg, clip, &server.rtmp("demo")).end().clean();
    // A body that is cut off is an error to curl.
    for curl in curls {
        curl.end().clean();
    }
    complete(&files[0].1, clip);
    let aac = Frames::of_file(&files[2].1, clip, Form::Raw);
    assert!(aac.audio.len() + BURST >= Frames::of_clip(clip, Form::Flv).audio.len());
}
