//! WebRTC: FFmpeg, aiortc and Chromium publish and play, and what they are told over HTTP.

mod clients;
mod own;
mod pages;
mod signal;

use std::net::SocketAddr;
use std::path::Path;

use serde_json::Value;

use crate::support::client::clients;
use crate::support::http::{self, Answer};
use crate::support::{Clip, Program, Server};

const CLIP: Clip = Clip::H264_AAC;

/// An offer that a browser made, whose peer never comes.
const PUBLISH: &str = include_str!("../../../src/webrtc/offers/chromium_publish.sdp");
const PLAY: &str = include_str!("../../../src/webrtc/offers/chromium_play.sdp");

/// FFmpeg publishes a clip with Opus for so many seconds: by `whip` or `flv`.
fn publisher(form: &str, url: &str, seconds: u32) -> Program {
    let file = CLIP.file();
    Program::ffmpeg(&format!(
        "-re -stream_loop -1 -i {} -t {seconds} -c:v copy -c:a libopus -ac 2 -f {form} {url}",
        file.display()
    ))
}

/// Chromium, by `tests/browser/webrtc.mjs`.
fn chromium(what: &str, url: &str, options: &[&str]) -> Program {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/browser/webrtc.mjs");
    let clients = clients();
    let mut args = vec![script.to_str().unwrap(), clients.to_str().unwrap(), what, url];
    args.extend(options);
    Program::start("node", &args)
}

/// aiortc, by `tests/browser/whep.py`.
fn aiortc(url: &str, seconds: u32) -> Program {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/browser/whep.py");
    let python = clients().join("python/bin/python");
    Program::start(python, [script.to_str().unwrap(), url, &seconds.to_string()])
}

/// What a client told in its last line.
#[track_caller]
fn told(program: Program) -> Value {
    let ended = program.end();
    println!("{}", ended.said);
    ended.good();
    serde_json::from_str(ended.said.lines().last().unwrap_or_default()).unwrap()
}

/// Sends a request with a body.
#[track_caller]
fn send(address: SocketAddr, method: &str, target: &str, headers: &str, body: &str) -> Answer {
    let length = body.len();
    http::request(
        address,
        &format!(
            "{method} {target} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\nContent-Length: {length}\r\n{headers}\r\n{body}"
        ),
    )
}

/// Where a session is, of the answer that opened it.
#[track_caller]
fn place(answer: &Answer) -> String {
    assert_eq!(answer.status, 201, "{}\n{}", answer.head, answer.text());
    answer.header("location").unwrap().to_owned()
}

/// `http://…/live/NAME/whip` or `whep`.
fn url(server: &Server, name: &str, what: &str) -> String {
    server.http(&format!("{name}/{what}"))
}
