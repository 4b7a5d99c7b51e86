//! SIGTERM under load.

use std::time::{Duration, Instant};

use crate::publish_play::publisher;
use crate::support::frames::{Form, Player};
use crate::support::{Clip, Kind, Program, Server};

#[test]
fn a_stop_sees_everybody_off() {
    let (mut server, clip) = (Server::start(), Clip::H264_AAC);
    let players = [server.rtmp("demo"), server.http("demo.flv"), server.http("demo.ts")]
        .map(|url| Player::start(Program::ffmpeg, &url, clip, Form::Flv));
    let args = ["-sSf", "-o", "/dev/null", &server.http("demo.flv")];
    let curl = Program::start("curl", args);
    server.players(4);
    let publisher = publisher(Program::ffmpeg, clip, &server.rtmp("demo"));
    players[0].wait_for(Kind::Video, 30);
    let start = Instant::now();
    assert_eq!(server.stop().code(), Some(0));
    assert!(start.elapsed() < Duration::from_secs(10), "it took {:?}", start.elapsed());
    // Players see the end of a stream, not a broken connection.
    for player in players {
        assert!(player.frames().video.len() >= 20);
    }
    curl.end().clean();
    publisher.end();
}
