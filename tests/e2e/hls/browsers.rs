//! Viewers in browsers: without a stall, without an error event. `RILLBOX_WATCH_SECONDS=60` for as long as it is
//! promised.

use super::{endless, with};
use crate::support::Clip;
use crate::support::browser::watch;

#[test]
fn hls_js_plays_ts() {
    let server = with("ts", &[]);
    let _publisher = endless(&server, Clip::WATCHED);
    watch("hls.js", &server.http("demo.m3u8"), &[]);
}

#[test]
fn hls_js_plays_fmp4() {
    let server = with("fmp4", &[]);
    let _publisher = endless(&server, Clip::WATCHED);
    watch("hls.js", &server.http("demo.m3u8"), &[]);
}

#[test]
fn hls_js_plays_low_latency() {
    let server = with("low-latency", &[]);
    let _publisher = endless(&server, Clip::WATCHED);
    watch("hls.js", &server.http("demo.m3u8"), &["latency=2.5", "config={\"lowLatencyMode\":true}"]);
}

#[test]
fn shaka_plays_fmp4() {
    let server = with("fmp4", &[]);
    let _publisher = endless(&server, Clip::WATCHED);
    watch("shaka", &server.http("demo.m3u8"), &[]);
}

#[test]
fn firefox_plays_h265() {
    let server = with("fmp4", &[]);
    let _publisher = endless(&server, Clip::WATCHED_H265);
    watch("hls.js", &server.http("demo.m3u8"), &["browser=firefox"]);
}
