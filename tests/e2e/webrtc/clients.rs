//! Real clients, in both directions.

use super::{CLIP, aiortc, chromium, publisher, told, url};
use crate::support::frames::{Form, Player};
use crate::support::{Kind, Program, Server, http, wait_until};

#[test]
fn ffmpeg_publishes_and_everyone_plays() {
    let server = Server::start();
    let publisher = publisher("whip", &url(&server, "demo", "whip"), 14);
    server.line(" rtc-publish of live/demo from ");
    server.line("track 1: H264");
    let flv = Player::start(Program::ffmpeg, &server.http("demo.flv"), CLIP, Form::Flv);
    let rtmp = Player::start(Program::ffmpeg, &server.rtmp("demo"), CLIP, Form::Flv);
    flv.wait_for(Kind::Video, 25);
    rtmp.wait_for(Kind::Video, 25);
    flv.wait_for(Kind::Audio, 25);
    let got = told(aiortc(&url(&server, "demo", "whep"), 3));
    assert_eq!((got["width"].as_u64(), got["deleted"].as_u64()), (Some(320), Some(200)), "{got}");
    assert!(got["video"].as_u64().unwrap() > 50 && got["audio"].as_u64().unwrap() > 80, "{got}");
    publisher.end().good();
    server.line(" rtc-publish of live/demo ended after ");
    server.line(" rtc-play of live/demo ended after ");
    // The pictures are those of the publisher, bit by bit.
    let source = crate::support::Frames::of_clip(CLIP, Form::Flv);
    let frames = flv.so_far();
    let known = frames.video.iter().filter(|frame| source.video.iter().any(|one| one.hash == frame.hash));
    assert!(known.count() * 10 >= frames.video.len() * 9, "{} frames", frames.video.len());
}

#[test]
fn what_comes_by_rtmp_is_played_in_a_browser() {
    let server = Server::start();
    let _publisher = publisher("flv", &server.rtmp("demo"), 60);
    server.line(" publish of live/demo ".trim_start());
    let got = told(chromium("play", &url(&server, "demo", "whep"), &["sound=yes", "restart=yes"]));
    assert_eq!(
        (got["codec"].as_str(), got["state"].as_str()),
        (Some("video/H264"), Some("connected")),
        "{got}"
    );
    assert!(got["frames"].as_u64().unwrap() > 60 && got["energy"].as_f64().unwrap() > 0.0, "{got}");
    assert_eq!(got["deleted"], 200);
    server.line(" rtc-play of live/demo ended after ");
}

#[test]
fn networks_without_udp() {
    let server = Server::with(&[("WEBRTC_TRANSPORTS", "tcp")]);
    let _publisher = publisher("flv", &server.rtmp("demo"), 60);
    server.line("publish of live/demo ");
    let got = told(chromium("play", &url(&server, "demo", "whep"), &["seconds=2"]));
    assert!(got["frames"].as_u64().unwrap() > 30, "{got}");
    server.line(" by TCP started");
}

/// A browser publishes with a codec; others get it.
#[track_caller]
fn browser_publishes(codec: &str, name: &str) {
    let server = Server::start();
    let option = format!("codec={codec}");
    let publisher = chromium("publish", &url(&server, "cam", "whip"), &["seconds=20", &option]);
    wait_until("pictures", || publisher.said().contains("flows"));
    let got = told(aiortc_or_chromium(codec, &url(&server, "cam", "whep")));
    assert!(got["video"].as_u64().or(got["frames"].as_u64()).unwrap() > 20, "{got}");
    let stats = http::get(server.address("API"), "/api/v1/streams/").good();
    assert!(stats.contains(&format!("\"codec\":\"{name}\"")), "{stats}");
    let clients = http::get(server.address("API"), "/api/v1/clients/").good();
    assert!(clients.contains("\"type\":\"rtc-publish\""), "{clients}");
}

fn aiortc_or_chromium(codec: &str, url: &str) -> Program {
    // aiortc knows VP8 and H.264.
    if matches!(codec, "VP8" | "H264") { aiortc(url, 3) } else { chromium("play", url, &["seconds=3"]) }
}

#[test]
fn a_browser_publishes_h264() {
    browser_publishes("H264", "H264");
}

#[test]
fn a_browser_publishes_vp8() {
    browser_publishes("VP8", "VP8");
}

#[test]
fn a_browser_publishes_vp9() {
    browser_publishes("VP9", "VP9");
}

#[test]
fn a_browser_publishes_av1() {
    browser_publishes("AV1", "AV1");
}

#[test]
fn an_operator_ends_sessions() {
    let server = Server::start();
    let _publisher = publisher("flv", &server.rtmp("demo"), 60);
    server.line("publish of live/demo ");
    let player = chromium("play", &url(&server, "demo", "whep"), &["seconds=60"]);
    wait_until("pictures", || player.said().contains("flows"));
    let line = server.line(" rtc-play of live/demo from ");
    let id = line.split_whitespace().nth(2).unwrap();
    let api = server.address("API");
    let shown = http::get(api, &format!("/api/v1/clients/{id}")).good();
    assert!(shown.contains("\"type\":\"rtc-play\""), "{shown}");
    let answer = super::send(api, "DELETE", &format!("/api/v1/clients/{id}"), "", "");
    assert_eq!(answer.status, 200);
    server.line(" rtc-play of live/demo ended after ");
    assert_eq!(server.count("ended by an operator"), 1);
    // DTLS tells the browser, whose page sees it.
    player.kill();
}
