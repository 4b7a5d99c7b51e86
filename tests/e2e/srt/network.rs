//! On networks that lose, delay and reorder.

use std::time::Duration;

use super::{are_most_of, publisher};
use crate::support::frames::{Form, Player};
use crate::support::relay::{Impairment, Relay};
use crate::support::{Clip, Kind, Program, Server, wait_until};

/// As in the field: 5 % loss each way, 50 ms ± 10 ms there and back, 2 % overtaken.
const FIELD: Impairment = Impairment {
    loss: 50,
    burst: 0,
    delay: Duration::from_millis(25),
    jitter: Duration::from_millis(5),
    reorder: 20,
    double: 5,
};

const LONG: Clip = Clip::WATCHED.lasting(30);

fn through(relay: &Relay, id: &str) -> String {
    format!("srt://{}?streamid=#!::r=live/{id}&latency=400000", relay.address())
}

#[test]
fn a_publisher_on_a_bad_network_is_whole() {
    let server = Server::with(&[("SRT_LATENCY", "400ms")]);
    let relay = Relay::start(server.address("SRT"), FIELD);
    let player = Player::start(Program::ffmpeg, &server.http("demo.ts"), LONG, Form::Ts);
    server.players(1);
    let publisher = publisher(Program::ffmpeg, LONG, &through(&relay, "demo,m=publish"));
    player.wait_for(Kind::Video, LONG.video_frames() - 75);
    relay.calm();
    publisher.end();
    let line = server.line(" srt-publish of live/demo ended after ");
    assert!(line.contains(" 0 of them for good, 0 gaps"), "{line}");
    assert_eq!(are_most_of(&player.end().0, LONG, LONG.video_frames() - 25), 0);
    let (lost, passed) = relay.counts();
    assert!(lost > passed / 40, "{lost} lost, {passed} passed");
}

#[test]
fn a_player_on_a_bad_network_is_whole() {
    let server = Server::start();
    let relay = Relay::start(server.address("SRT"), FIELD);
    let player = Player::start(Program::ffmpeg, &through(&relay, "demo"), LONG, Form::Ts);
    server.players(1);
    crate::publish_play::publisher(Program::ffmpeg, LONG, &server.rtmp("demo")).end().clean();
    assert_eq!(are_most_of(&player.end().0, LONG, LONG.video_frames() - 1), 0);
}

#[test]
fn on_a_very_bad_network_the_picture_goes_on() {
    let server = Server::start();
    let relay = Relay::start(server.address("SRT"), Impairment { loss: 200, burst: 500, ..FIELD });
    let publisher = publisher(Program::ffmpeg, LONG, &through(&relay, "demo,m=publish"));
    let player = Player::start(Program::ffmpeg, &server.http("demo.flv"), LONG, Form::Flv);
    player.wait_for(Kind::Video, 300);
    let ended = publisher.end();
    let line = server.line(" srt-publish of live/demo ended after ");
    println!("{line} {ended:?}");
    player.end();
}

#[test]
fn a_short_cut_is_survived_and_a_long_one_ends_the_session() {
    let server = Server::with(&[("SRT_PEER_IDLE_TIMEOUT", "6s")]);
    let relay = Relay::start(server.address("SRT"), Impairment::default());
    let publisher = publisher(Program::ffmpeg, Clip::WATCHED, &through(&relay, "demo,m=publish"));
    let player = Player::start(Program::ffmpeg, &server.http("demo.flv"), LONG, Form::Flv);
    player.wait_for(Kind::Video, 50);
    relay.cut(true);
    std::thread::sleep(Duration::from_secs(3));
    relay.cut(false);
    let frames = player.so_far().video.len();
    player.wait_for(Kind::Video, frames + 50);
    assert_eq!(server.count(" srt-publish of live/demo from "), 1, "the session went on");
    relay.cut(true);
    let line = server.line(" srt-publish of live/demo ended after ");
    assert!(line.contains("silent"), "{line}");
    publisher.kill();
    player.end();
    let again = super::publisher(Program::ffmpeg, Clip::H264_AAC, &server.srt("demo,m=publish"));
    wait_until("it is there again", || server.count(" srt-publish of live/demo from ") == 2);
    again.end();
}
