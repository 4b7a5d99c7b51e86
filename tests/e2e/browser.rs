//! A browser plays: Chromium with mpegts.js, by HTTP and by WebSocket.

use std::path::Path;

use crate::support::client::clients;
use crate::support::{Clip, Program, Server};

/// Plays `url` and demands that frames are decoded.
#[track_caller]
fn plays(clip: Clip, url: impl Fn(&Server) -> String, kind: &str) {
    let server = Server::start();
    let args = format!(
        "-re -stream_loop -1 -i {} -t 60 -c copy -f flv {}",
        clip.file().display(),
        server.rtmp("demo")
    );
    let _publisher = Program::ffmpeg(&args);
    server.line("publish of live/demo ");
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/browser/play.mjs");
    let clients = clients();
    let args = [script.to_str().unwrap(), clients.to_str().unwrap(), &url(&server), kind];
    let ended = Program::start("node", args).end();
    println!("{}", ended.said);
    ended.good();
}

#[test]
fn http_flv() {
    plays(Clip::H264_B_AAC, |server| server.http("demo.flv"), "flv");
}

#[test]
fn websocket_flv() {
    plays(Clip::H264_B_AAC, |server| server.http("demo.flv").replace("http:", "ws:"), "flv");
}

#[test]
fn http_ts() {
    plays(Clip::H264_AAC, |server| server.http("demo.ts"), "mpegts");
}
