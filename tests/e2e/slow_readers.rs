//! Readers that do not read cost nothing, and disturb nobody.

use std::io::Write;
use std::net::TcpStream;
use std::time::{Duration, Instant};

use crate::support::frames::{Form, Frames, Player};
use crate::support::rtmp::Rtmp;
use crate::support::{Clip, Kind, Program, Server};

/// Of the stream.
const LENGTH: Duration = Duration::from_secs(60);
/// Until the ring is full and all readers are there.
const WARM_UP: Duration = Duration::from_secs(15);
/// How much the server's memory may move afterwards, KiB.
const FLAT: u64 = 2 * 1024;

#[test]
fn readers_that_never_read_cost_no_memory() {
    // Long enough that nobody is thrown out.
    let server = Server::with(&[
        ("DELIVERY_SEND_TIMEOUT", "5m"),
        // Segments come and go by megabytes; what is measured is what readers cost.
        ("VHOST__DEFAULT__HLS__ENABLED", "false"),
    ]);
    let clip = Clip::HEAVY;
    let file = clip.file();
    let good = [server.rtmp("demo"), server.http("demo.flv")].map(|url| {
        let player = Player::start(Program::ffmpeg, &url, clip, Form::Flv);
        player.limit(LENGTH * 3)
    });
    let stalled_rtmp = Rtmp::play(&server.rtmp("demo"));
    let mut stalled_http = TcpStream::connect(server.address("HTTP")).unwrap();
    stalled_http.write_all(b"GET /live/demo.flv HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
    server.players(4);

    let args = format!(
        "-re -stream_loop -1 -i {} -t {} -c copy -f flv {}",
        file.display(),
        LENGTH.as_secs(),
        server.rtmp("demo")
    );
    let mut publisher = Program::ffmpeg(&args).limit(LENGTH * 3);
    good[0].wait_for(Kind::Video, 1);
    let start = Instant::now();
    let mut memory = Vec::new();
    while publisher.runs() {
        if start.elapsed() > WARM_UP {
            memory.push(server.memory());
        }
        std::thread::sleep(Duration::from_millis(250));
    }
    publisher.end().clean();
    let (low, high) = (memory.iter().min().unwrap(), memory.iter().max().unwrap());
    println!("memory of the server from {low} to {high} KiB: {memory:?}");
    let source = Frames::of_clip(clip, Form::Flv).video;
    for player in good {
        let got = player.frames().video;
        // The clip's sound is a little longer than its pictures.
        assert!(got.len() as u64 >= LENGTH.as_secs() * 25 * 99 / 100, "{} frames", got.len());
        for (n, frame) in got.iter().enumerate() {
            assert_eq!(frame.hash, source[n % source.len()].hash, "frame {n}");
        }
        assert!(got.windows(2).all(|pair| (1..=200_000).contains(&(pair[1].dts - pair[0].dts))));
    }
    // Both were there to the end.
    assert_eq!(stalled_rtmp.socket.take_error().unwrap().map(|error| error.kind()), None);
    assert_eq!(stalled_http.take_error().unwrap().map(|error| error.kind()), None);
    assert!(high - low <= FLAT, "memory moved from {low} to {high} KiB: {memory:?}");
}

#[test]
fn readers_that_never_read_are_seen_off() {
    let server = Server::with(&[("DELIVERY_SEND_TIMEOUT", "3s")]);
    let clip = Clip::HEAVY;
    let args = format!(
        "-re -stream_loop -1 -i {} -t 20 -c copy -f flv {}",
        clip.file().display(),
        server.rtmp("demo")
    );
    let mut stalled = TcpStream::connect(server.address("HTTP")).unwrap();
    stalled.write_all(b"GET /live/demo.flv HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
    server.players(1);
    let _publisher = Program::ffmpeg(&args);
    server.line("took nothing for 3 s");
}
