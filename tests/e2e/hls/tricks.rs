//! Requests that no honest player sends.

use super::{endless, fetch, hls, media, resolve, with};
use crate::support::http::{get, request};
use crate::support::{Clip, Dir, Server, wait_until};

/// A low-latency stream that has some segments.
fn low_latency() -> (Server, impl Sized) {
    let server = with("low-latency", &[(hls!("SESSIONS"), "false")]);
    let publisher = endless(&server, Clip::H264_AAC);
    wait_until("three segments", || media(&server, "demo/v0.m3u8").segments.len() >= 3);
    (server, publisher)
}

#[test]
fn absurd_numbers_are_refused() {
    let (server, _publisher) = low_latency();
    for query in [
        "_HLS_msn=999999",
        "_HLS_msn=18446744073709551615",
        "_HLS_msn=99999999999999999999999999999999999999",
        "_HLS_msn=-1",
        "_HLS_msn=1.5",
        "_HLS_msn=",
        "_HLS_msn=x",
        "_HLS_msn=%31%00",
        "_HLS_part=0",
        "_HLS_msn=0x1&_HLS_part=0",
        "_HLS_msn=1&_HLS_part=-1",
    ] {
        let answer = fetch(&server, &format!("demo/v0.m3u8?{query}"));
        assert_eq!(answer.status, 400, "{query}: {}", answer.text());
    }
    let last = media(&server, "demo/v0.m3u8").segments.last().unwrap().number;
    let far = fetch(&server, &format!("demo/v0.m3u8?_HLS_msn={}&_HLS_part=99999999", last + 1));
    assert_eq!(far.status, 400, "{}", far.text());
    // Long past is just answered.
    assert_eq!(fetch(&server, "demo/v0.m3u8?_HLS_msn=0&_HLS_part=99999999").status, 200);
    assert_eq!(fetch(&server, "demo/v0.m3u8?_HLS_skip=NO&_HLS_skip=%ff").status, 200);
}

#[test]
fn ranges_of_segments() {
    let (server, _publisher) = low_latency();
    let list = media(&server, "demo/v0.m3u8");
    let path = format!("/live/{}", resolve("demo/v0.m3u8", &list.segments[0].uri));
    let address = server.address("HTTP");
    let whole = get(address, &path);
    let len = whole.body.len();
    assert!(len > 1000 && whole.status == 200);
    assert_eq!(whole.header("Content-Type"), Some("video/iso.segment"));
    assert!(whole.header("Cache-Control").unwrap().contains("immutable"));
    let range = |range: &str| {
        request(
            address,
            &format!("GET {path} HTTP/1.1\r\nHost: a\r\nRange: {range}\r\nConnection: close\r\n\r\n"),
        )
    };
    for (text, first, end) in [
        ("bytes=0-0", 0, 1),
        ("bytes=10-", 10, len),
        ("bytes=-7", len - 7, len),
        ("bytes=100-99999999999999999999999", 100, len),
    ] {
        let part = range(text);
        assert_eq!(part.status, 206, "{text}");
        assert_eq!(part.body, whole.body[first..end], "{text}");
        assert_eq!(part.header("Content-Range").unwrap(), format!("bytes {first}-{}/{len}", end - 1));
    }
    let beyond = range("bytes=99999999-");
    assert_eq!((beyond.status, beyond.header("Content-Range")), (416, Some(&*format!("bytes */{len}"))));
    // A bomb of ranges is one request for the whole.
    let bomb = (0..900).map(|n| format!("{n}-")).collect::<Vec<_>>().join(",");
    let answer = range(&format!("bytes={bomb}"));
    assert!((answer.status, answer.body.len()) == (200, len), "{}", answer.head);
    let head = request(address, &format!("HEAD {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"));
    assert_eq!((head.status, head.body.len()), (200, 0));
    assert_eq!(head.header("Content-Length").unwrap(), len.to_string());
    for path in [&path, "/live/demo/v0.m3u8"] {
        let post =
            format!("POST {path} HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
        assert_eq!(request(address, &post).status, 405, "{path}");
    }
}

#[test]
fn nothing_outside_the_roots_is_read() {
    let dir = Dir::new();
    std::fs::create_dir_all(dir.path("hls")).unwrap();
    std::fs::write(dir.path("secret.ts"), "secret").unwrap();
    std::fs::write(dir.path("secret.m3u8"), "secret").unwrap();
    let root = dir.path("hls");
    let server = with("ts", &[(hls!("PATH"), root.to_str().unwrap())]);
    let _publisher = endless(&server, Clip::H264_AAC);
    fetch(&server, "demo.m3u8").good();
    for path in [
        "/../secret.ts",
        "/live/../../secret.ts",
        "/%2e%2e/secret.ts",
        "/live/%2e%2e/%2e%2e/secret.ts",
        "/live/..%2f..%2fsecret.ts",
        "/live/..%5c..%5csecret.ts",
        "/live/%252e%252e/secret.ts",
        "/live/....//secret.ts",
        "//secret.ts",
        "/live/demo-0.ts%00.m3u8",
        "/live/demo-0.ts%0d%0aX:%20y",
        "/../secret.m3u8",
        "/live/%2e%2e/%2e%2e/secret.m3u8",
        "/%2e%2e/%2e%2e/%2e%2e/%2e%2e/etc/passwd",
        "/live/demo-18446744073709551616.ts",
        "/live/demo--1.ts",
    ] {
        let answer = get(server.address("HTTP"), path);
        assert!(matches!(answer.status, 400 | 404), "{path}: {}", answer.status);
        assert!(!answer.text().contains("secret\n") && answer.body != b"secret", "{path}");
    }
}
