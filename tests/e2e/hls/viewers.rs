//! Viewers are players: counted once each, whatever they ask for, and gone when they are.

use super::{endless, fetch, hls, media, server, variants, with};
use crate::support::http::get;
use crate::support::{Clip, wait_until};

#[test]
fn a_viewer_is_counted_once() {
    let server = with("ts", &[(hls!("WINDOW"), "4s")]);
    let _publisher = endless(&server, Clip::H264_AAC);
    let list = variants(&server);
    let (_, link) = &list.variants[0];
    assert!(link.starts_with("demo.m3u8?hls_ctx="), "{link}");
    let playlist = media(&server, link);
    let segment = &playlist.segments.last().unwrap().uri;
    assert!(segment.contains(".ts?hls_ctx="), "{segment}");
    assert_eq!(fetch(&server, segment).status, 200);
    media(&server, link);
    server.line(" as HLS (hls_ctx ");
    assert_eq!(server.count(" as HLS (hls_ctx "), 1);
    // Two windows later.
    server.line("hls-play of live/demo ended after");
    // What was known once is taken on again.
    media(&server, link);
    wait_until("it is counted in", || server.count(" as HLS (hls_ctx ") == 2);
    // What never was an id is none.
    for forged in ["x", "%22%0d", "0123456789abcdeF", "0123456789abcdef0"] {
        let text = fetch(&server, &format!("demo.m3u8?hls_ctx={forged}")).good();
        assert!(
            text.contains("#EXT-X-STREAM-INF") && !text.contains(&format!("hls_ctx={forged}\n")),
            "{text}"
        );
    }
}

#[test]
fn tokens_go_on_and_vhosts_too() {
    let server = with("fmp4", &[(hls!("SESSIONS_IN_SEGMENTS"), "false")]);
    let _publisher = endless(&server, Clip::H264_AAC);
    let text = fetch(&server, "demo.m3u8?token=a%20b&vhost=v&_HLS_msn=1&x='y'").good();
    let link = text.lines().find(|line| line.starts_with("demo/v0.m3u8?hls_ctx=")).unwrap();
    assert!(link.ends_with("&token=a%20b&vhost=v&x='y'"), "{link}");
    let playlist = media(&server, link);
    let segment = &playlist.segments.last().unwrap().uri;
    assert!(segment.ends_with(".m4s?token=a%20b&vhost=v&x='y'"), "{segment}");
    assert_eq!(fetch(&server, segment.strip_prefix("../").unwrap()).status, 200);
    let long = format!("demo.m3u8?token={}", "x".repeat(3000));
    assert_eq!(fetch(&server, &long).status, 414);
}

#[test]
fn without_sessions() {
    let server = with("ts", &[(hls!("SESSIONS"), "false")]);
    let _publisher = endless(&server, Clip::H264_AAC);
    let playlist = media(&server, "demo.m3u8");
    assert!(playlist.segments.iter().all(|segment| segment.uri.ends_with(".ts")));
    assert_eq!(server.count(" as HLS (hls_ctx "), 0);
}

#[test]
fn stopping_does_not_wait_for_viewers() {
    let mut server = server("ts");
    let _publisher = endless(&server, Clip::H264_AAC);
    let (_, link) = &variants(&server).variants[0];
    media(&server, link);
    let begun = std::time::Instant::now();
    assert!(server.stop().success());
    assert!(begun.elapsed().as_secs() < 8, "{:?}", begun.elapsed());
}

#[test]
fn streams_that_are_not_there() {
    let server = server("ts");
    for path in
        ["/live/none.m3u8", "/live/none/v0.m3u8", "/none.m3u8", "/live/none-1.ts", "/.m3u8", "/live/.m3u8"]
    {
        assert_eq!(get(server.address("HTTP"), path).status, 404, "{path}");
    }
    let _publisher = endless(&server, Clip::H264_AAC);
    // The stream's own name, and others that lead there.
    assert!(fetch(&server, "demo.m3u8").good().contains("#EXT-X-STREAM-INF"));
    for path in ["//live//demo.m3u8?x=y", "/live/_definst_/demo.m3u8?x=y"] {
        let answer = get(server.address("HTTP"), path);
        assert_eq!((answer.status, answer.header("Location")), (302, Some("/live/demo.m3u8?x=y")), "{path}");
    }
    assert_eq!(fetch(&server, "demo/v7.m3u8").status, 404);
    wait_until("a segment", || fetch(&server, "demo-0.ts").status == 200);
}
