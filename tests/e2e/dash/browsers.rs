//! Viewers in browsers: without a stall, without an error event. `RILLBOX_WATCH_SECONDS=60` for as long as it is
//! promised.

use super::{dash, endless, with};
use crate::support::Clip;
use crate::support::browser::watch;

#[test]
fn dash_js() {
    let server = with(&[]);
    let _publisher = endless(&server, Clip::H264_B_AAC);
    watch("dash.js", &server.http("demo.mpd"), &[]);
}

#[test]
fn dash_js_low_latency() {
    let server = with(&[(dash!("LOW_LATENCY"), "true")]);
    let _publisher = endless(&server, Clip::H264_AAC);
    watch("dash.js", &server.http("demo.mpd"), &["latency=3.5"]);
}

#[test]
fn shaka() {
    let server = with(&[]);
    let _publisher = endless(&server, Clip::AV1_OPUS);
    watch("shaka", &server.http("demo.mpd"), &[]);
}

#[test]
fn firefox_plays_h265() {
    let server = with(&[]);
    let _publisher = endless(&server, Clip::H265_AAC);
    watch("dash.js", &server.http("demo.mpd"), &["browser=firefox"]);
}
