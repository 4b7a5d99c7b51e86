//! The pages, and sound across the border: AAC becomes Opus for WebRTC, Opus becomes AAC for all others.

use std::path::Path;

use serde_json::Value;

use super::CLIP;
use crate::support::client::clients;
use crate::support::{Program, Server};

#[test]
fn pages_play_and_publish_with_sound() {
    let server = Server::start();
    let file = CLIP.file();
    let _publisher = Program::ffmpeg(&format!(
        "-re -stream_loop -1 -i {} -t 120 -c copy -f flv {}",
        file.display(),
        server.rtmp("demo")
    ));
    server.line("publish of live/demo ");
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/browser/pages.mjs");
    let clients = clients();
    let base = format!("http://{}", server.address("HTTP"));
    let ended = Program::start("node", [script.to_str().unwrap(), clients.to_str().unwrap(), &base]).end();
    println!("{}", ended.said);
    ended.good();
    let got: Vec<Value> = ended.said.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
    let ways: Vec<_> = got.iter().map(|one| one["by"].as_str().unwrap()).collect();
    assert_eq!(ways, ["webrtc", "flv", "webrtc", "flv"]);
    for one in &got {
        assert!(one["loudest"].as_f64().unwrap() > 0.01, "silent: {one}");
        assert_eq!(one["wide"], false, "{one}");
    }
    // The publisher's own Opus goes to browsers as it is; others get AAC.
    server.line("track 1: H264");
    server.line(" rtc-publish of live/cam ended after ");
}
