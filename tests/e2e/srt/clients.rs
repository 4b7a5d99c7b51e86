//! FFmpeg, srt-live-transmit and GStreamer, as publishers and as players.

use super::{are_most_of, are_most_of_form, publisher, transport_stream};
use crate::support::frames::{Form, Player};
use crate::support::{Clip, Dir, Kind, Program, Server, wait_until};

const CLIP: Clip = Clip::H264_AAC;
/// A sender that goes takes with it what is still on its way: half a second.
const MOST: usize = 137;

#[test]
fn ffmpeg_publishes_and_everyone_plays() {
    let server = Server::start();
    let play = |url: &str, form| Player::start(Program::ffmpeg, url, CLIP, form);
    let early = play(&server.srt("demo"), Form::Ts);
    let old = Player::start(Program::old_ffmpeg, &server.srt("demo"), CLIP, Form::Ts);
    let http = play(&server.http("demo.ts"), Form::Ts);
    let flv = play(&server.http("demo.flv"), Form::Flv);
    let rtmp = play(&server.rtmp("demo"), Form::Flv);
    server.players(5);
    let publisher = publisher(Program::ffmpeg, CLIP, &server.srt("demo,m=publish"));
    early.wait_for(Kind::Video, 60);
    let late = play(&server.srt("demo"), Form::Ts);
    publisher.end().good();
    server.line(" srt-publish of live/demo ended after ");
    for (name, player) in [("early", early), ("old", old), ("http", http)] {
        println!("{name}");
        assert_eq!(are_most_of(&player.end().0, CLIP, MOST), 0);
    }
    let first = are_most_of(&late.end().0, CLIP, 25);
    assert!(first > 0 && first.is_multiple_of(25), "a late player begins at key frame {first}");
    for player in [flv, rtmp] {
        are_most_of_form(&player.end().0, CLIP, Form::Flv, MOST);
    }
}

#[test]
fn what_comes_by_rtmp_is_played_by_srt() {
    for clip in [Clip::H264_AAC, Clip::H264_B_AAC, Clip::H265_AAC] {
        let server = Server::start();
        let player = Player::start(Program::ffmpeg, &server.srt("demo"), clip, Form::Ts);
        server.players(1);
        crate::publish_play::publisher(Program::ffmpeg, clip, &server.rtmp("demo")).end().clean();
        assert_eq!(are_most_of(&player.end().0, clip, clip.video_frames() - 1), 0, "{}", clip.name);
    }
}

#[test]
fn srt_live_transmit_gets_what_was_sent_byte_by_byte() {
    let (server, dir) = (Server::start(), Dir::new());
    let file = transport_stream(CLIP, &dir);
    let got = dir.path("got.ts");
    let url = server.srt("demo");
    let receive = format!("exec srt-live-transmit -a no -q '{url}' file://con > {}", got.display());
    let receiver = Program::start("sh", ["-c", &receive]);
    server.players(1);
    // Its own clock: FFmpeg paces the file, srt-live-transmit sends it.
    let ffmpeg = crate::support::client::clients().join("ffmpeg");
    let send = format!(
        "{} -v error -re -i {} -c copy -f mpegts - | srt-live-transmit -a no -q file://con '{}'",
        ffmpeg.display(),
        file.display(),
        server.srt("demo,m=publish")
    );
    let sender = Program::start("sh", ["-c", &send]);
    wait_until("a second of it", || std::fs::metadata(&got).is_ok_and(|meta| meta.len() > 100_000));
    sender.end();
    server.line(" srt-publish of live/demo ended after ");
    receiver.end();
    let bytes = std::fs::read(&got).unwrap();
    assert!(bytes.len() % 188 == 0 && bytes.chunks(188).all(|packet| packet[0] == 0x47));
    let frames = Player::start(Program::ffmpeg, &got.display().to_string(), CLIP, Form::Ts).end().0;
    assert_eq!(are_most_of(&frames, CLIP, MOST), 0);
    // No packet of any PID is missing.
    let mut counters = std::collections::HashMap::new();
    // After the tables that a player gets first.
    for packet in bytes.chunks(188).skip(2).filter(|packet| packet[3] & 0x10 != 0) {
        let pid = u16::from_be_bytes([packet[1] & 0x1F, packet[2]]);
        let counter = packet[3] & 0x0F;
        if let Some(last) = counters.insert(pid, counter).filter(|_| pid != 0x1FFF) {
            assert_eq!(counter, (last + 1) & 0x0F, "PID {pid}");
        }
    }
}

#[test]
fn gstreamer_publishes_and_plays() {
    let (server, dir) = (Server::start(), Dir::new());
    let address = server.address("SRT");
    let got = dir.path("got.ts");
    let gst = |pipeline: String| Program::start("gst-launch-1.0", pipeline.split_whitespace().chain(["-q"]));
    let player = gst(format!(
        "srtsrc uri=srt://{address} streamid=#!::r=live/gst latency=120 ! filesink buffer-mode=unbuffered location={}",
        got.display()
    ));
    server.players(1);
    let publisher = gst(format!(
        "videotestsrc is-live=true num-buffers=150 ! video/x-raw,width=320,height=180,framerate=25/1 ! x264enc \
         tune=zerolatency key-int-max=25 ! mpegtsmux alignment=7 ! srtsink uri=srt://{address} streamid=#!::r=live/gst,m=publish"
    ));
    wait_until("some of it", || std::fs::metadata(&got).is_ok_and(|meta| meta.len() > 20_000));
    publisher.end();
    server.line(" srt-publish of live/gst ended after ");
    server.line(" srt-play of live/gst ended after ");
    // It would wait for a server that comes back.
    player.kill();
    let frames = Player::start(Program::ffmpeg, &got.display().to_string(), CLIP, Form::Ts).end().0;
    assert!(frames.video.len() >= 125, "{} of 150 frames", frames.video.len());
}
