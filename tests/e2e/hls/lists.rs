//! Playlists over time: each keeps the rules, each follows from the one before, and other people's parsers read them.

use std::collections::HashMap;
use std::path::Path;

use super::{endless, fetch, hls, media, resolve, server, variants, with};
use crate::support::client::clients;
use crate::support::playlist::Media;
use crate::support::{Clip, Dir, Program, Server, wait_until};

/// A player of low latency that never looks away: asks for each part as it comes, checks every playlist, fetches what is
/// hinted. Gives all texts.
#[track_caller]
fn follow(server: &Server, file: &str, updates: usize) -> Vec<String> {
    let mut texts = vec![fetch(server, file).good()];
    let mut list = Media::parse(&texts[0]).unwrap();
    let mut hinted = HashMap::new();
    for n in 0..updates {
        let next = list.segments.last().map_or(list.first, |segment| segment.number + 1);
        let query = format!("_HLS_msn={next}&_HLS_part={}", list.open.len());
        // The hint, as the playlist has it, before it is there.
        let hint = list.hints[0].find("URI").unwrap().to_owned();
        let part = std::thread::scope(|scope| {
            let part = scope.spawn(|| fetch(server, &resolve(file, &hint)));
            let text = fetch(server, &format!("{file}?{query}")).good();
            let now = Media::parse(&text).unwrap_or_else(|wrong| panic!("{wrong}:\n{text}"));
            if let Err(wrong) = now.follows(&list) {
                panic!("{wrong}\n--- before\n{}\n--- now\n{text}", texts.last().unwrap());
            }
            let has =
                |segment: u64, parts: usize| segment > next || (segment == next && parts > list.open.len());
            let end = now.segments.last().map_or(now.first, |segment| segment.number + 1);
            assert!(has(end, now.open.len()) || end > next, "not what {query} asked for:\n{text}");
            if n % 5 == 0 {
                let delta = fetch(server, &format!("{file}?{query}&_HLS_skip=YES")).good();
                let delta = Media::parse(&delta).unwrap_or_else(|wrong| panic!("{wrong}:\n{delta}"));
                let whole = fetch(server, &format!("{file}?{query}")).good();
                let whole = Media::parse(&whole).unwrap();
                let on = delta.on(&now).unwrap_or_else(|wrong| panic!("{wrong}"));
                // There may have been a part in between.
                if on.segments.len() == whole.segments.len() && on.open.len() == whole.open.len() {
                    assert_eq!(on.segments, whole.segments);
                    assert_eq!(on.open, whole.open);
                }
            }
            (list, _) = (now, texts.push(text));
            part.join().unwrap()
        });
        assert_eq!(part.status, 200, "the hint {hint}");
        hinted.insert(hint, part.body);
    }
    // What was given ahead is what the segments are made of.
    let mut checked = 0;
    for segment in list.segments.iter().filter(|segment| !segment.parts.is_empty()) {
        let whole = fetch(server, &resolve(file, &segment.uri)).body;
        let parts: Option<Vec<_>> = segment.parts.iter().map(|part| hinted.get(&part.uri)).collect();
        if let Some(parts) = parts {
            assert!(parts.into_iter().flatten().eq(&whole), "segment {} is not its parts", segment.number);
            checked += 1;
        }
    }
    assert!(checked > 0);
    texts
}

/// Other people's parsers read all of it as we do.
#[track_caller]
fn parsers_agree(texts: &[String]) {
    let dir = Dir::new();
    let mut args = Vec::new();
    for (n, text) in texts.iter().enumerate() {
        let file = dir.path(&format!("{n}.m3u8"));
        std::fs::write(&file, text).unwrap();
        args.push(file.to_str().unwrap().to_owned());
    }
    let tests = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/browser");
    let expected: String = texts
        .iter()
        .map(|text| {
            let list = Media::parse(text).unwrap();
            let ms: u32 = list.segments.iter().map(|segment| segment.duration).sum();
            let parts: usize =
                list.segments.iter().map(|segment| segment.parts.len()).sum::<usize>() + list.open.len();
            format!("{} {} {} {ms} {parts} {}\n", list.target, list.first, list.segments.len(), list.ended)
        })
        .collect();
    let python = clients().join("python/bin/python");
    let script = tests.join("m3u8_read.py").to_str().unwrap().to_owned();
    let said = Program::start(python, std::iter::once(&script).chain(&args)).end();
    said.good();
    assert_eq!(said.said, expected, "PyPI m3u8");
    let script = tests.join("m3u8_read.mjs").to_str().unwrap().to_owned();
    let clients = clients().to_str().unwrap().to_owned();
    let said = Program::start("node", [&script, &clients].into_iter().chain(&args)).end();
    said.good();
    assert_eq!(said.said, expected, "npm m3u8-parser");
}

#[test]
fn low_latency() {
    let server = with("low-latency", &[(hls!("WINDOW"), "10s"), (hls!("SESSIONS"), "false")]);
    let _publisher = endless(&server, Clip::WATCHED);
    let list = variants(&server);
    assert_eq!((list.variants.len(), list.media.len()), (1, 1), "{list:#?}");
    let (video, sound) = std::thread::scope(|scope| {
        let video = scope.spawn(|| follow(&server, "demo/v0.m3u8", 70));
        let sound = scope.spawn(|| follow(&server, "demo/a1.m3u8", 70));
        (video.join().unwrap(), sound.join().unwrap())
    });
    println!("{}\n{}", video.last().unwrap(), sound.last().unwrap());
    let last = Media::parse(video.last().unwrap()).unwrap();
    assert!(last.first > 0, "the window has moved");
    assert_eq!(last.reports.len(), 1);
    let delta = media(&server, "demo/v0.m3u8?_HLS_skip=v2");
    assert!(delta.skipped > 0, "{delta:#?}");
    parsers_agree(&video);
    parsers_agree(&sound);
}

/// Another publisher within the grace period: a discontinuity, which is counted when it has left the playlist.
#[test]
fn publishers_that_change() {
    for variant in ["ts", "fmp4"] {
        let keys = [(hls!("WINDOW"), "4s"), (hls!("SESSIONS"), "false"), ("VHOST__DEFAULT__GRACE", "20s")];
        let server = with(variant, &keys);
        let file = if variant == "ts" { "demo/main.m3u8" } else { "demo/v0.m3u8" };
        let mut texts = Vec::new();
        let mut known: Option<Media> = None;
        for clip in [Clip::H264_AAC, Clip::H264_B_AAC, Clip::H264_AAC] {
            let publisher = crate::publish_play::publisher(Program::ffmpeg, clip, &server.rtmp("demo"));
            let mut publisher = publisher;
            server.line("publish of live/demo ");
            while publisher.runs() {
                let text = fetch(&server, file).good();
                let now = Media::parse(&text).unwrap_or_else(|wrong| panic!("{wrong}:\n{text}"));
                if let Some(known) = known.replace(now.clone())
                    && let Err(wrong) = now.follows(&known)
                {
                    panic!("{wrong}\n--- before\n{}\n--- now\n{text}", texts.last().unwrap());
                }
                texts.push(text);
                std::thread::sleep(std::time::Duration::from_millis(200));
            }
            publisher.end().clean();
        }
        let last = known.unwrap();
        println!("{}", texts.last().unwrap());
        assert!(last.discontinuity_sequence >= 1, "{last:#?}");
        parsers_agree(&texts);
    }
}

/// Without low latency, and to the end.
#[test]
fn plain() {
    for variant in ["ts", "fmp4"] {
        let server = server(variant);
        let publisher =
            crate::publish_play::publisher(Program::ffmpeg, Clip::H264_B_AAC, &server.rtmp("demo"));
        server.line("publish of live/demo ");
        let list = variants(&server);
        let (attributes, link) = list.variants[0].clone();
        assert_eq!(attributes.find("RESOLUTION"), Some("320x180"));
        assert_eq!(attributes.find("FRAME-RATE"), Some("25.000"));
        let codecs = attributes.find("CODECS").unwrap();
        assert!(codecs.starts_with("avc1.") && codecs.ends_with(",mp4a.40.2"), "{codecs}");
        let mut texts = vec![fetch(&server, &link).good()];
        publisher.end().clean();
        wait_until("the end of the playlist", || {
            texts.push(fetch(&server, &link).good());
            Media::parse(texts.last().unwrap()).unwrap().ended
        });
        parsers_agree(&texts);
    }
}
