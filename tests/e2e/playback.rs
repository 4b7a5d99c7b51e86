//! Recordings by HTTP: lists, any time as MP4 and as HLS, files, and what must not be had.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;

use crate::publish_play::publisher;
use crate::record::{files, recording};
use crate::support::client::clients;
use crate::support::frames::{Form, Player};
use crate::support::playlist::Media;
use crate::support::{Clip, Dir, Frames, Kind, PATIENCE, Program, Server, wait_until};

const PLAN: (&str, &str) = ("VHOST__DEFAULT__RECORD__PLAN", "segment");
const DURATION: (&str, &str) = ("VHOST__DEFAULT__RECORD__DURATION", "3s");

/// A whole answer: status, head and body. `more`: header lines.
fn ask(server: &Server, method: &str, target: &str, more: &str) -> (u16, String, Vec<u8>) {
    let mut socket = TcpStream::connect(server.address("HTTP")).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    write!(socket, "{method} {target} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n{more}\r\n").unwrap();
    let mut answer = Vec::new();
    socket.read_to_end(&mut answer).unwrap();
    let end = answer.windows(4).position(|w| w == b"\r\n\r\n").expect("a head") + 4;
    let head = String::from_utf8_lossy(&answer[..end]).to_ascii_lowercase();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    (status, head, answer.split_off(end))
}

fn get(server: &Server, target: &str) -> (u16, String) {
    let (status, _, body) = ask(server, "GET", target, "");
    (status, String::from_utf8_lossy(&body).into_owned())
}

/// All values of a key in a JSON text of ours.
fn values(json: &str, key: &str) -> Vec<String> {
    let key = format!("\"{key}\":");
    let value = |rest: &str| rest.trim_start_matches('"').split(['"', ',', '}']).next().unwrap().to_owned();
    json.split(&key).skip(1).map(value).collect()
}

/// A server with a recorded clip.
fn recorded(dir: &Dir, format: &str, clip: Clip, files: usize) -> Server {
    let server = recording(dir, format, &[PLAN, DURATION]);
    publisher(Program::ffmpeg, clip, &server.rtmp("demo")).end().clean();
    wait_until("the files", || server.count("recorded live/demo: ") == files);
    // The list may be a second old.
    wait_until("the list", || {
        let (_, list) = get(&server, "/recordings/live/demo");
        values(&list, "recording") == vec!["false"; files]
    });
    server
}

fn url(server: &Server, target: &str) -> String {
    format!("http://{}{target}", server.address("HTTP"))
}

#[track_caller]
fn any_time_plays(format: &str, clip: Clip) {
    let dir = Dir::new();
    let server = recorded(&dir, format, clip, 2);
    let (_, list) = get(&server, "/recordings/live/demo");
    println!("{format}: {list}");
    let start: i64 = values(&list, "start_ms")[0].parse().unwrap();
    let source = Frames::of_clip(clip, Form::Flv);
    let hashes = |frames: &Frames| frames.video.iter().map(|f| f.hash.clone()).collect::<Vec<_>>();
    let all = hashes(&source);
    let frames = |target: &str| {
        let got = Player::start(Program::ffmpeg, &url(&server, target), clip, Form::Flv).frames();
        assert!(got.video[0].pts.abs() < 200_000, "{target}: begins at {} µs", got.video[0].pts);
        got
    };
    // All of it, over both files.
    for end in [".mp4", ".m3u8"] {
        let got = frames(&format!("/recordings/live/demo{end}"));
        assert!(hashes(&got) == all, "{format}: {end} has {} of {} pictures", got.video.len(), all.len());
        assert!(got.audio.len() + 3 >= source.audio.len(), "{format}: {end} lacks sound");
        // No jump where the files meet. (HLS: FFmpeg puts what follows a discontinuity where it wants.)
        if end == ".mp4" {
            let steps: Vec<i64> = got.video.windows(2).map(|two| two[1].dts - two[0].dts).collect();
            assert!(steps.iter().all(|step| (20_000..60_000).contains(step)), "{format}: {steps:?}");
        }
    }
    let playlist = Media::parse(&get(&server, "/recordings/live/demo.m3u8").1).unwrap();
    assert!(playlist.ended && playlist.independent && playlist.segments.len() == 2, "{playlist:?}");
    assert!(
        playlist.segments[1].discontinuity && playlist.segments.iter().all(|segment| segment.map.is_some())
    );
    let begins: Vec<i64> = values(&list, "start_ms").iter().map(|text| text.parse().unwrap()).collect();
    assert_eq!(playlist.segments.iter().filter_map(|segment| segment.date).collect::<Vec<_>>(), begins);
    // A time within the second file, then one over both.
    for (from, duration, first, last) in [(4300, "1.2", 100, 150), (1500, "3", 25, 125)] {
        let from = start + from;
        let at = format!("from={}.{:03}&duration={duration}", from / 1000, from % 1000);
        for end in [".mp4", ".m3u8"] {
            let got = frames(&format!("/recordings/live/demo{end}?{at}"));
            let place = all.iter().position(|hash| *hash == got.video[0].hash).unwrap();
            println!("{format}{end} {at}: {} pictures from {place} on", got.video.len());
            assert_eq!(place, first, "{format}{end}: the key frame before");
            assert!(hashes(&got) == all[place..place + got.video.len()]);
            let end = place + got.video.len();
            assert!((last - 13..=last + 25).contains(&end), "{format}: ends with {end}");
        }
    }
    for end in [".mp4", ".m3u8"] {
        let late = format!("/recordings/live/demo{end}?from={}", start / 1000 + 100);
        assert_eq!(get(&server, &late).0, 404, "nothing is there at this time");
    }
}

#[test]
fn any_time_of_fmp4() {
    any_time_plays("fmp4", Clip::H264_B_AAC);
}

#[test]
fn any_time_of_mp4() {
    any_time_plays("mp4", Clip::H264_B_AAC);
}

#[test]
fn any_time_of_flv() {
    any_time_plays("flv", Clip::H264_B_AAC);
}

#[test]
fn any_time_of_ts() {
    any_time_plays("ts", Clip::H264_B_AAC);
}

#[test]
fn any_time_of_newer_codecs() {
    any_time_plays("fmp4", Clip::AV1_OPUS);
    any_time_plays("ts", Clip::H265_AAC);
}

#[test]
fn any_range_of_bytes_is_the_same_file() {
    let dir = Dir::new();
    let server = recorded(&dir, "fmp4", Clip::H264_AAC, 2);
    for target in ["/recordings/live/demo.mp4".to_owned(), file_url(&server)] {
        let (status, head, whole) = ask(&server, "GET", &target, "");
        assert!(status == 200 && head.contains(&format!("content-length: {}\r\n", whole.len())), "{head}");
        let len = whole.len();
        let etag = head.split("etag: ").nth(1).unwrap().split("\r\n").next().unwrap().to_owned();
        let mut from = 7;
        while from < len {
            let to = (from + from / 3 + 1).min(len - 1);
            let (status, _, part) = ask(&server, "GET", &target, &format!("Range: bytes={from}-{to}\r\n"));
            assert_eq!(status, 206);
            assert!(part == whole[from..=to], "{target}: {from} to {to}");
            from = to + 1;
        }
        let range = |text: &str| {
            let (status, _, body) = ask(&server, "GET", &target, &format!("Range: {text}\r\n"));
            (status, body.len())
        };
        assert_eq!(range("bytes=-10"), (206, 10));
        assert_eq!(range(&format!("bytes={}-", len - 3)), (206, 3));
        assert_eq!(range("bytes=0-18446744073709551615"), (206, len));
        assert_eq!(range(&format!("bytes={len}-")).0, 416);
        assert_eq!(range("bytes=99999999999999999999999-").0, 416);
        // Many parts at once would be more than the file: it is sent once.
        let bomb = vec!["0-"; 200].join(",");
        assert_eq!(range(&format!("bytes={bomb}")), (200, len));
        let (status, _, _) =
            ask(&server, "GET", &target, &format!("Range: bytes=0-1\r\nIf-Range: {etag}\r\n"));
        assert_eq!(status, 206);
        assert_eq!(ask(&server, "GET", &target, "Range: bytes=0-1\r\nIf-Range: \"old\"\r\n").0, 200);
        let (status, head, body) = ask(&server, "HEAD", &target, "");
        assert!(status == 200 && body.is_empty() && head.contains(&format!("content-length: {len}\r\n")));
    }
}

fn file_url(server: &Server) -> String {
    values(&get(server, "/recordings/live/demo").1, "url")[0].clone()
}

#[test]
fn what_is_being_written_plays() {
    for format in ["fmp4", "mp4", "ts", "flv"] {
        let dir = Dir::new();
        let server = recording(&dir, format, &[]);
        let clip = Clip::H264_B_AAC;
        let publisher = publisher(Program::ffmpeg, clip, &server.rtmp("demo"));
        wait_until("three seconds", || {
            let list = get(&server, "/recordings/live/demo").1;
            values(&list, "duration").first().is_some_and(|text| text.parse::<f64>().unwrap() > 2.9)
        });
        let list = get(&server, "/recordings/live/demo").1;
        assert_eq!(values(&list, "recording"), ["true"], "{list}");
        let target = url(&server, "/recordings/live/demo.mp4");
        let got = Player::start(Program::ffmpeg, &target, clip, Form::Flv).frames();
        let source = Frames::of_clip(clip, Form::Flv);
        let hashes = |frames: &Frames| frames.video.iter().map(|f| f.hash.clone()).collect::<Vec<_>>();
        assert!(got.video.len() >= 50 && hashes(&source).starts_with(&hashes(&got)), "{format}");
        let playlist = get(&server, "/recordings/live/demo.m3u8").1;
        assert!(playlist.contains("PLAYLIST-TYPE:EVENT") && !playlist.contains("ENDLIST"), "{playlist}");
        let before = Media::parse(&playlist).unwrap();
        let delete = ask(&server, "DELETE", &file_url(&server), "");
        assert_eq!(delete.0, 409);
        publisher.end().clean();
        server.line("recorded live/demo: ");
        wait_until("its end", || get(&server, "/recordings/live/demo.m3u8").1.contains("ENDLIST"));
        let after = Media::parse(&get(&server, "/recordings/live/demo.m3u8").1).unwrap();
        assert_eq!(after.target, before.target);
        assert!(after.segments.len() > before.segments.len() || !before.segments.is_empty());
        assert_eq!(after.segments[..before.segments.len()], before.segments, "what was there stays");
    }
}

#[test]
fn lists_come_in_pages() {
    let dir = Dir::new();
    let server = recorded(&dir, "fmp4", Clip::LONG_GOP, 3);
    let (_, all) = get(&server, "/recordings/live/demo");
    let starts = values(&all, "start_ms");
    assert_eq!(starts.len(), 3);
    let (mut seen, mut after) = (Vec::new(), String::new());
    loop {
        let (status, page) = get(&server, &format!("/recordings/live/demo?limit=1&after={after}"));
        assert_eq!(status, 200);
        seen.extend(values(&page, "start_ms"));
        after = values(&page, "next")[0].clone();
        if after == "null" {
            break;
        }
    }
    assert_eq!(seen, starts);
    let second: i64 = starts[1].parse().unwrap();
    let at = format!("from={}.{:03}&duration=0.5", second / 1000, second % 1000 + 1);
    assert_eq!(
        values(&get(&server, &format!("/recordings/live/demo?{at}")).1, "start_ms"),
        [starts[1].clone()]
    );
    let (status, streams) = get(&server, "/recordings");
    assert!(status == 200 && streams.contains("\"stream\":\"demo\",\"recordings\":3"), "{streams}");
}

#[test]
fn tricks_are_refused() {
    let dir = Dir::new();
    let server = recorded(&dir, "fmp4", Clip::H264_AAC, 2);
    let secret = dir.path("secret.mp4");
    fs::write(&secret, "treasure").unwrap();
    fs::write(dir.path("rec/live/foreign.mp4"), "treasure").unwrap();
    std::os::unix::fs::symlink(&secret, dir.path("rec/live/demo.1.mp4")).unwrap();
    let name = files(&dir)[0].file_name().unwrap().to_str().unwrap().to_owned();
    for (target, expected) in [
        ("/recordings/../secret.mp4", 404),
        ("/recordings/%2e%2e/secret.mp4", 404),
        ("/recordings/live/%2e%2e%2f%2e%2e%2fsecret.mp4", 404),
        ("/recordings/live/demo/../../../secret.mp4", 404),
        ("/recordings/live/demo/%2e%2e/%2e%2e/%2e%2e/secret.mp4", 404),
        ("/recordings/live/demo%00.mp4", 400),
        ("/recordings/live/demo%00/1.mp4", 400),
        ("/recordings/live/foreign.mp4", 404),
        ("/recordings/live/demo/1.mp4", 404),
        ("/recordings/live/demo/foreign.mp4", 404),
        (&format!("/recordings/live/{name}"), 404),
        ("/recordings//etc/passwd", 404),
        ("/recordings/live/demo/99999999999999999999999999.mp4", 404),
        ("/recordings/live/demo/-1/init.mp4", 404),
        ("/recordings/live/demo.mp4?from=-1", 400),
        ("/recordings/live/demo.mp4?from=1e400", 400),
        ("/recordings/live/demo.mp4?from=99999999999999999999", 400),
        ("/recordings/live/demo.mp4?from=2&to=1", 400),
        ("/recordings/live/demo.m3u8?to=x", 400),
        ("/recordings/live/demo?limit=99999999999999999999", 400),
        ("/recordings/live/demo?after=x", 400),
        ("/recordings?limit=0", 400),
    ] {
        let (status, body) = get(&server, target);
        assert_eq!(status, expected, "{target}: {body}");
        assert!(!body.contains("treasure"), "{target}");
    }
    let start = values(&get(&server, "/recordings/live/demo").1, "start_ms")[0].clone();
    for segment in ["0-99999", "5-5", "9-3", "0-18446744073709551616", "0-", "-1", "0-1-2", "0.5-1"] {
        let target = format!("/recordings/live/demo/{start}/{segment}.m4s");
        assert_eq!(get(&server, &target).0, 404, "{target}");
    }
    assert_eq!(ask(&server, "POST", "/recordings/live/demo.mp4", "Content-Length: 0\r\n").0, 405);
    assert_eq!(ask(&server, "DELETE", "/recordings/live/demo", "").0, 405);
}

#[test]
fn files_are_deleted_from_the_machine_itself_alone() {
    let dir = Dir::new();
    let server = recorded(&dir, "fmp4", Clip::H264_AAC, 2);
    let foreign = dir.path("rec/live/demo.17.mp4");
    fs::write(&foreign, "not ours").unwrap();
    let target = file_url(&server);
    for by in [
        "X-Forwarded-For: 192.0.2.7",
        "X-Real-IP: 192.0.2.7",
        "Forwarded: for=192.0.2.7",
        "Via: 1.1 proxy",
        "Origin: http://evil.example",
    ] {
        assert_eq!(ask(&server, "DELETE", &target, &format!("{by}\r\n")).0, 403, "{by}");
    }
    assert_eq!(files(&dir).len(), 3);
    assert_eq!(ask(&server, "DELETE", &target, "").0, 204);
    assert_eq!(files(&dir).len(), 2);
    assert_eq!(get(&server, &target).0, 404);
    assert_eq!(ask(&server, "DELETE", &target, "").0, 404);
    // Someone deletes the other one by hand.
    let other = file_url(&server);
    let gone = files(&dir).into_iter().find(|file| *file != foreign).unwrap();
    fs::remove_file(gone).unwrap();
    for target in [other.as_str(), "/recordings/live/demo.mp4", "/recordings/live/demo.m3u8"] {
        let (status, body) = get(&server, target);
        assert_eq!(status, 404, "{target}: {body}");
    }
    assert!(foreign.exists());
    server.line(" deleted recording ");
}

#[test]
fn a_browser_plays_and_seeks() {
    for format in ["fmp4", "flv"] {
        let dir = Dir::new();
        let server = recorded(&dir, format, Clip::LONG_GOP, 3);
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/browser/seek.mjs");
        let (clients, url) = (clients(), url(&server, "/recordings/live/demo.mp4"));
        let args = [script.to_str().unwrap(), clients.to_str().unwrap(), &url];
        let ended = Program::start("node", args).end();
        println!("{}", ended.said);
        ended.good();
        let duration: f64 = values(&ended.said, "duration")[0].parse().unwrap();
        assert!((11.9..12.2).contains(&duration), "{}", ended.said);
    }
}

#[test]
fn sound_alone_plays() {
    let dir = Dir::new();
    for (format, clip) in [("fmp4", Clip::AAC), ("ts", Clip::AAC), ("flv", Clip::MP3)] {
        let dir = Dir::new();
        let server = recording(&dir, format, &[]);
        publisher(Program::ffmpeg, clip, &server.rtmp("demo")).end().clean();
        server.line("recorded live/demo: ");
        wait_until("the list", || get(&server, "/recordings/live/demo.mp4").0 == 200);
        let target = url(&server, "/recordings/live/demo.mp4");
        let got = Player::start(Program::ffmpeg, &target, clip, Form::Flv).frames();
        let source = Frames::of_clip(clip, Form::Flv);
        assert!(got.of(Kind::Audio).len() + 12 >= source.audio.len(), "{format}: {}", got.audio.len());
    }
    drop(dir);
}
