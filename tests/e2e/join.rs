//! Who joins a running stream sees a picture at once.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use crate::publish_play::publisher;
use crate::support::clip::Tags;
use crate::support::frames::{Form, Player};
use crate::support::rtmp::Rtmp;
use crate::support::{Clip, Kind, PATIENCE, Program, Server};

/// Key frames of the clip are four seconds apart: who had to wait for the next would wait for longer than this.
const AT_ONCE: Duration = Duration::from_millis(1000);

/// FLV video tags, first byte: key frame of AVC.
const KEY_FRAME: u8 = 0x17;
/// Second byte: NAL units, where 0 is the sequence header.
const NALUS: u8 = 1;

#[test]
fn a_late_player_starts_at_the_newest_key_frame() {
    let (server, clip) = (Server::start(), Clip::LONG_GOP);
    let early = Player::start(Program::ffmpeg, &server.rtmp("demo"), clip, Form::Flv);
    server.players(1);
    let _publisher = publisher(Program::ffmpeg, clip, &server.rtmp("demo"));
    // In the middle of the second group of pictures.
    early.wait_for(Kind::Video, 130);

    let start = Instant::now();
    let mut player = Rtmp::play(&server.rtmp("demo"));
    let first = loop {
        let tag = player.tag();
        if tag.kind == 9 && tag.body.get(1) == Some(&NALUS) {
            break tag;
        }
    };
    assert!(start.elapsed() < AT_ONCE, "the first picture by RTMP came after {:?}", start.elapsed());
    assert_eq!(first.body[0], KEY_FRAME, "the first picture by RTMP is no key frame");

    let start = Instant::now();
    let mut body = flv(&server);
    let key = loop {
        let (kind, data) = flv_tag(&mut body);
        if kind == 9 && data.get(1) == Some(&NALUS) {
            break data[0];
        }
    };
    assert!(start.elapsed() < AT_ONCE, "the first picture by HTTP came after {:?}", start.elapsed());
    assert_eq!(key, KEY_FRAME, "the first picture by HTTP is no key frame");

    // It is the newest one.
    let mut pictures = Tags::of(clip).filter(|tag| tag.kind == 9 && tag.body.get(1) == Some(&NALUS));
    assert_eq!(pictures.nth(100).unwrap().body, first.body);
}

/// The body of an FLV stream: HTTP/1.0 has no chunks.
fn flv(server: &Server) -> BufReader<TcpStream> {
    let mut socket = TcpStream::connect(server.address("HTTP")).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    socket.write_all(b"GET /live/demo.flv HTTP/1.0\r\nHost: localhost\r\n\r\n").unwrap();
    let mut body = BufReader::new(socket);
    let mut line = String::new();
    while line != "\r\n" {
        line.clear();
        assert!(body.read_line(&mut line).unwrap() > 0);
    }
    // The file's header and the first PreviousTagSize.
    body.read_exact(&mut [0; 13]).unwrap();
    body
}

/// Type and body of the next tag.
fn flv_tag(body: &mut impl Read) -> (u8, Vec<u8>) {
    let mut head = [0; 11];
    body.read_exact(&mut head).unwrap();
    let len = u32::from_be_bytes([0, head[1], head[2], head[3]]) as usize;
    let mut data = vec![0; len + 4];
    body.read_exact(&mut data).unwrap();
    data.truncate(len);
    (head[0], data)
}

#[test]
fn a_stream_that_is_not_there_is_refused_when_so_configured() {
    let server =
        Server::with(&[("VHOST__DEFAULT__HTTP_LIVE__WAIT", "no"), ("VHOST__DEFAULT__PLAY__WAIT", "no")]);
    let args = ["-s", "-o", "/dev/null", "-w", "%{http_code}", &server.http("nobody.flv")];
    assert_eq!(Program::start("curl", args).end().said, "404");
    let refused = Rtmp::try_start(&server.rtmp("nobody"), rillbox::rtmp::client_session::Goal::Play);
    let text = refused.err().unwrap();
    assert!(text.contains("NetStream.Play.StreamNotFound"), "{text}");
}
