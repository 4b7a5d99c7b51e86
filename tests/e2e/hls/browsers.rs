//! Viewers in browsers: without a stall, without an error event. `RILLBOX_WATCH_SECONDS=60` for as long as it is
//! promised.

use super::{endless, with};
use crate::support::Clip;
use crate::support::browser::watch;

#[test]
fn hls_js_plays_ts() {
    let server = with("ts", &[]);
    let _publisher = endless(&server, Clip::H264_AAC);
    watch("hls.js", &server.http("demo.m3u8"), &[]);
}

#[test]
#[ignore = "segments of fMP4 are being made"]
fn hls_js_plays_fmp4() {
    let server = with("fmp4", &[]);
    let _publisher = endless(&server, Clip::H264_B_AAC);
    watch("hls.js", &server.http("demo.m3u8"), &[]);
}

#[test]
#[ignore = "segments of fMP4 are being made"]
fn hls_js_plays_low_latency() {
    let server = with("low-latency", &[]);
    let _publisher = endless(&server, Clip::H264_AAC);
    watch("hls.js", &server.http("demo.m3u8"), &["latency=2.5", "config={\"lowLatencyMode\":true}"]);
}

#[test]
#[ignore = "segments of fMP4 are being made"]
fn shaka_plays_low_latency() {
    let server = with("low-latency", &[]);
    let _publisher = endless(&server, Clip::H264_AAC);
    watch("shaka", &server.http("demo.m3u8"), &["config={\"streaming\":{\"lowLatencyMode\":true}}"]);
}

#[test]
#[ignore = "segments of fMP4 are being made"]
fn firefox_plays_h265() {
    let server = with("fmp4", &[]);
    let _publisher = endless(&server, Clip::H265_AAC);
    watch("hls.js", &server.http("demo.m3u8"), &["browser=firefox"]);
}
