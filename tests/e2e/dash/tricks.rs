//! Viewers are counted, and requests that no honest player sends refused.

use super::{attribute, dash, endless, fetch, link, link_count, manifest, with};
use crate::support::http::{get, request};
use crate::support::{Clip, Dir, wait_until};

#[test]
fn a_viewer_is_counted_once() {
    let server = with(&[(dash!("TIMESHIFT"), "4s")]);
    let _publisher = endless(&server, Clip::H264_AAC);
    let text = manifest(&server);
    let location = text.split_once("<Location>").unwrap().1.split_once('<').unwrap().0.replace("&amp;", "&");
    assert!(location.starts_with("demo.mpd?dash_ctx="), "{location}");
    let segment = link(&text, "media", attribute(&text, "startNumber").unwrap().parse().unwrap());
    assert!(segment.contains("?dash_ctx="), "{segment}");
    assert_eq!(fetch(&server, &segment).status, 200);
    fetch(&server, &location).good();
    wait_until("it is counted in", || server.count(" as DASH (dash_ctx ") == 1);
    // Now it is known to come with its id: who comes without is another.
    fetch(&server, "demo.mpd").good();
    wait_until("it is counted in", || server.count(" as DASH (dash_ctx ") == 2);
    // Two windows later.
    server.line("dash-play of live/demo ended after");
    // What was known once is taken on again.
    fetch(&server, &location).good();
    wait_until("it is counted in", || server.count(" as DASH (dash_ctx ") == 3);
}

#[test]
fn tokens_go_on_and_vhosts_too() {
    let server = with(&[(dash!("SESSIONS"), "false")]);
    let _publisher = endless(&server, Clip::H264_AAC);
    let text = fetch(&server, "demo.mpd?token=a%20b$&vhost=v&dash_ctx=0123456789abcdef&x='%3C").good();
    super::well_formed(&text);
    assert!(!text.contains("Location") && !text.contains("dash_ctx"), "{text}");
    let segment = link(&text, "media", attribute(&text, "startNumber").unwrap().parse().unwrap());
    assert!(segment.contains(".m4s?token=a%20b%24&vhost=v&x='"), "{segment}");
    assert_eq!(fetch(&server, segment.split_once("&x=").unwrap().0).status, 200);
    assert_eq!(server.count(" as DASH (dash_ctx "), 0);
    assert_eq!(fetch(&server, &format!("demo.mpd?token={}", "x".repeat(3000))).status, 414);
}

#[test]
fn tricks_are_refused() {
    let server = with(&[(dash!("SESSIONS"), "false")]);
    let _publisher = endless(&server, Clip::H264_AAC);
    let text = manifest(&server);
    let first: u64 = attribute(&text, "startNumber").unwrap().parse().unwrap();
    for path in [
        "demo/v0d-99999999.m4s",
        "demo/v0d-18446744073709551615.m4s",
        "demo/v0d-18446744073709551616.m4s",
        "demo/v0d--1.m4s",
        "demo/v0d-1e3.m4s",
        "demo/v9-0.m4s",
        "demo/v0d-init-00000000.mp4",
        "demo/v0d-init-.mp4",
        "demo/%2e%2e/%2e%2e/etc/passwd.m4s",
        "demo/../demo.mpd/v0-0.m4s",
        "demo/v0d-0.m4s/",
        "demo/v0d-0.m4s%00",
        "none.mpd",
        "none/v0-0.m4s",
        "%2e%2e.mpd",
    ] {
        let answer = fetch(&server, path);
        assert!(matches!(answer.status, 400 | 404), "{path}: {}", answer.status);
    }
    let address = server.address("HTTP");
    for path in [link(&text, "media", first), link(&text, "initialization", 0)] {
        let path = format!("/live/{path}");
        let whole = get(address, &path);
        assert_eq!(whole.status, 200, "{path}: {}", whole.head);
        let len = whole.body.len();
        let range = |range: &str| {
            let text =
                format!("GET {path} HTTP/1.1\r\nHost: a\r\nRange: {range}\r\nConnection: close\r\n\r\n");
            request(address, &text)
        };
        let part = range("bytes=10-");
        assert_eq!((part.status, &part.body[..]), (206, &whole.body[10..]));
        assert_eq!(range("bytes=99999999-").status, 416);
        let bomb = (0..900).map(|n| format!("{n}-")).collect::<Vec<_>>().join(",");
        let answer = range(&format!("bytes={bomb}"));
        assert_eq!((answer.status, answer.body.len()), (200, len));
    }
    let post = "POST /live/demo.mpd HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
    assert_eq!(request(address, post).status, 405);
    let head = request(address, "HEAD /live/demo.mpd HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
    assert_eq!((head.status, head.header("Content-Type")), (200, Some("application/dash+xml")));
}

#[test]
fn a_growing_segment_comes_in_chunks() {
    let server =
        with(&[(dash!("LOW_LATENCY"), "true"), (dash!("SESSIONS"), "false"), (dash!("SEGMENT"), "2s")]);
    let _publisher = endless(&server, Clip::H264_AAC);
    let text = manifest(&server);
    for needed in [
        "availabilityTimeComplete=\"false\"",
        "availabilityTimeOffset=\"",
        "<Latency ",
        "<ProducerReferenceTime ",
    ] {
        assert!(text.contains(needed), "{needed} is not in {text}");
    }
    let first: u64 = attribute(&text, "startNumber").unwrap().parse().unwrap();
    let count = link_count(&text);
    let growing = fetch(&server, &link(&text, "media", first + count - 1));
    assert_eq!(growing.header("Transfer-Encoding"), Some("chunked"), "{}", growing.head);
    // Several parts, each with a head of its own.
    assert!(growing.body.windows(4).filter(|kind| kind == b"moof").count() >= 5);
}

#[test]
fn what_hls_encrypts_as_a_whole_is_not_given_out_in_the_clear() {
    let server = with(&[("VHOST__DEFAULT__HLS__ENCRYPTION", "aes-128")]);
    let _publisher = endless(&server, Clip::H264_AAC);
    let answer = fetch(&server, "demo.mpd");
    assert!(answer.status == 403 && answer.text().contains("cbcs"), "{}", answer.text());
}

#[test]
fn segments_on_disk() {
    let dir = Dir::new();
    let path = dir.path("dash");
    let server = with(&[(dash!("PATH"), path.to_str().unwrap()), (dash!("ON_DEMAND"), "false")]);
    let _publisher = endless(&server, Clip::H264_AAC);
    let text = manifest(&server);
    let first = attribute(&text, "startNumber").unwrap().parse().unwrap();
    assert_eq!(fetch(&server, &link(&text, "media", first)).status, 200);
    // What another server gives out plays from there.
    let file = path.join("live/demo.mpd");
    let named = |text: &str| -> usize {
        let names = text.split(" media=\"").skip(1).filter_map(|rest| rest.split('"').next());
        names.filter(|name| path.join("live").join(name).exists()).count()
    };
    wait_until("a manifest on disk with two segments of each", || {
        std::fs::read_to_string(&file).is_ok_and(|text| named(&text) >= 4)
    });
    let text = std::fs::read_to_string(&file).unwrap();
    super::well_formed(&text);
    assert!(path.join("live").join(attribute(&text, "sourceURL").unwrap()).exists(), "{text}");
}
