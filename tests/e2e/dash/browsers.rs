//! Viewers in browsers: without a stall, without an error event. `RILLBOX_WATCH_SECONDS=60` for as long as it is
//! promised.

use super::{dash, endless, link_count, manifest, with};
use crate::support::browser::watch;
use crate::support::{Clip, Server, wait_until};

/// So much of it that players can stay as far behind as they are told.
fn is_under_way(server: &Server) {
    wait_until("some segments", || link_count(&manifest(server)) >= 4);
}

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
    is_under_way(&server);
    watch("shaka", &server.http("demo.mpd"), &[]);
}

#[test]
fn firefox_plays_h265() {
    let server = with(&[]);
    let _publisher = endless(&server, Clip::H265_AAC);
    is_under_way(&server);
    watch("dash.js", &server.http("demo.mpd"), &["browser=firefox"]);
}
