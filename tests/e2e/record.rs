//! Recordings: what was published is what is in the file, whatever the container, and whatever happens meanwhile.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::publish_play::publisher;
use crate::support::client::clients;
use crate::support::frames::Form;
use crate::support::{Clip, Dir, Frames, Kind, Program, Server, wait_for, wait_until};

const SWITCH: &str = "VHOST__DEFAULT__RECORD__ENABLED";
const FORMAT: &str = "VHOST__DEFAULT__RECORD__FORMAT";
const PATH: &str = "VHOST__DEFAULT__RECORD__PATH";
const MIN_FREE: &str = "VHOST__DEFAULT__RECORD__MIN_FREE";
const PLAN: &str = "VHOST__DEFAULT__RECORD__PLAN";

/// A server that records into `dir`.
pub fn recording(dir: &Dir, format: &str, more: &[(&str, &str)]) -> Server {
    let path = format!("{}/[app]/", dir.path("rec").display());
    // The machine's disk may be fuller than a box's should be.
    let keys = [(SWITCH, "true"), (FORMAT, format), (PATH, &path), (MIN_FREE, "1MiB")];
    Server::with(&[&keys, more].concat())
}

/// The recordings below `dir`, by name.
pub fn files(dir: &Dir) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut dirs = vec![dir.path("rec")];
    while let Some(dir) = dirs.pop() {
        for entry in fs::read_dir(dir).into_iter().flatten() {
            let path = entry.unwrap().path();
            if path.is_dir() { dirs.push(path) } else { found.push(path) }
        }
    }
    found.sort();
    found
}

/// Demands that FFmpeg, old and new, decodes a file without a word (if it knows the codecs), and mp4box.js or tsreport
/// finds nothing wrong.
#[track_caller]
pub fn is_clean(file: &Path, old: bool) {
    let decode = format!("-v warning -i {} -f null -", file.display());
    Program::ffmpeg(&decode).end().clean();
    if old {
        Program::old_ffmpeg(&decode).end().clean();
        let arguments = ["-v", "warning", "-show_format", "-show_streams", "-of", "json"];
        let ended =
            Program::start("/usr/bin/ffprobe", [&arguments[..], &[file.to_str().unwrap()]].concat()).end();
        ended.good();
        assert!(ended.said.trim_start().starts_with('{'), "{}", ended.said);
    }
    match file.extension().unwrap().to_str().unwrap() {
        "ts" => {
            let report = Command::new("tsreport").arg("-v").arg(file).output().unwrap();
            let said = String::from_utf8_lossy(&report.stdout);
            assert!(report.status.success(), "{said}");
            for bad in ["discontinuity", "not match", "!!!", "###"] {
                assert!(!said.to_lowercase().contains(bad), "{said}");
            }
        }
        "mp4" => {
            let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/browser/mp4box.mjs");
            if script.exists() {
                let args =
                    [script.as_os_str(), clients().as_os_str(), file.as_os_str()].map(ToOwned::to_owned);
                Program::start("node", args).end().good();
            }
        }
        _ => {}
    }
}

fn form(format: &str) -> (Form, Form, i64) {
    match format {
        "ts" => (Form::Ts, Form::FlvAsTs, 2000),
        "flv" => (Form::Flv, Form::Flv, 0),
        // Audio stands where its samples say, and the picture's first frame may begin later than time 0.
        _ => (Form::Flv, Form::Flv, 4000),
    }
}

/// Records a clip, and compares each frame.
#[track_caller]
fn all_frames_are_kept(clip: Clip, format: &str) {
    let dir = Dir::new();
    let mut server = recording(&dir, format, &[]);
    publisher(Program::ffmpeg, clip, &server.rtmp("demo")).end().clean();
    server.line("recorded live/demo: ");
    let files = files(&dir);
    let [file] = &files[..] else { panic!("{files:?}") };
    let (got, source, tolerance) = form(format);
    let frames = Frames::of_file(file, clip, got);
    let first = frames.are_the_end_of(&Frames::of_clip(clip, source), tolerance);
    assert_eq!(first, 0, "{format}: the file begins late");
    let kind = if clip.video_frames() > 0 { Kind::Video } else { Kind::Audio };
    let start = frames.of(kind)[0].pts;
    // MPEG-TS has its clock half a second before.
    assert!((0..800_000).contains(&start), "{format}: begins at {start} µs");
    is_clean(file, !matches!(clip.name, "h265-aac" | "av1-opus" | "vp9-opus") || format != "flv");
    assert!(server.stop().success());
}

#[test]
fn h264_aac_in_each_container() {
    for format in ["flv", "ts", "fmp4", "mp4"] {
        all_frames_are_kept(Clip::H264_AAC, format);
    }
}

#[test]
fn h264_with_b_frames_in_each_container() {
    for format in ["flv", "ts", "fmp4", "mp4"] {
        all_frames_are_kept(Clip::H264_B_AAC, format);
    }
}

#[test]
fn h265_aac_in_each_container() {
    for format in ["flv", "ts", "fmp4", "mp4"] {
        all_frames_are_kept(Clip::H265_AAC, format);
    }
}

#[test]
fn av1_opus_where_it_has_a_place() {
    for format in ["flv", "fmp4", "mp4"] {
        all_frames_are_kept(Clip::AV1_OPUS, format);
    }
}

#[test]
fn other_codecs_in_mp4() {
    for clip in [Clip::VP9_OPUS, Clip::H264_MP3, Clip::H264_FLAC, Clip::H264_AC3, Clip::AAC, Clip::H264] {
        all_frames_are_kept(clip, "mp4");
    }
}

#[test]
fn what_a_container_lacks_is_told_once_and_the_rest_is_recorded() {
    let dir = Dir::new();
    let server = recording(&dir, "ts", &[]);
    publisher(Program::ffmpeg, Clip::AV1_OPUS, &server.rtmp("demo")).end().clean();
    server.line("AV1 has no place in ts");
    server.line("recorded live/demo: ");
    assert_eq!(server.count("has no place in"), 1);
    assert_eq!(files(&dir).len(), 1, "Opus has a place");
}

#[test]
fn segments_follow_each_other_without_loss() {
    for format in ["flv", "ts", "fmp4", "mp4"] {
        let dir = Dir::new();
        let keys = [(PLAN, "segment"), ("VHOST__DEFAULT__RECORD__DURATION", "2s")];
        let server = recording(&dir, format, &keys);
        let clip = Clip::H264_AAC;
        publisher(Program::ffmpeg, clip, &server.rtmp("demo")).end().clean();
        wait_until("three files", || server.count("recorded live/demo: ") == 3);
        let mut all = Frames::default();
        let files = files(&dir);
        assert_eq!(files.len(), 3, "{files:?}");
        for file in &files {
            is_clean(file, true);
            let frames = Frames::of_file(file, clip, form(format).0);
            assert_eq!(frames.video.len(), 50, "{}", file.display());
            all.video.extend(frames.video);
            all.audio.extend(frames.audio);
        }
        let source = Frames::of_clip(clip, form(format).1);
        let hashes =
            |frames: &Frames, kind| frames.of(kind).iter().map(|f| f.hash.clone()).collect::<Vec<_>>();
        assert!(
            hashes(&all, Kind::Video) == hashes(&source, Kind::Video),
            "{format}: pictures are not the same"
        );
        // Sound before the first picture is left out.
        let (all, source) = (hashes(&all, Kind::Audio), hashes(&source, Kind::Audio));
        assert!(source.ends_with(&all) && all.len() + 2 >= source.len(), "{format}: sounds are not the same");
    }
}

/// Kills the server while it records; the file is mended at the next start, and at most a fragment is lost.
#[test]
fn killed_while_recording() {
    for format in ["fmp4", "mp4", "flv", "ts"] {
        let dir = Dir::new();
        let server = recording(&dir, format, &[]);
        let clip = Clip::H264_B_AAC;
        let _publisher = publisher(Program::ffmpeg, clip, &server.rtmp("demo"));
        let size =
            || files(&dir).first().and_then(|file| fs::metadata(file).ok()).map_or(0, |facts| facts.len());
        let spare = if format == "mp4" { 1 << 20 } else { 0 };
        wait_until("some seconds", || size() > spare + 130_000);
        assert!(Command::new("kill").args(["-9", &server.pid().to_string()]).status().unwrap().success());
        std::mem::forget(server);
        let left = files(&dir);
        let [file] = &left[..] else { panic!("{left:?}") };
        let written = fs::metadata(file).unwrap().len();
        let as_left = (format == "fmp4").then(|| Frames::of_file(file, clip, Form::Flv));
        let _server = recording(&dir, format, &[]);
        let mended = wait_for("the mended file", || {
            let found = files(&dir);
            found.first().filter(|file| file.extension().is_some_and(|end| end != "tmp")).cloned()
        });
        _server.line("recording mended after a crash");
        let frames = Frames::of_file(&mended, clip, form(format).0);
        if let Some(before) = as_left {
            assert!(before.video == frames.video, "it played up to its last fragment before, too");
        }
        is_clean(&mended, true);
        println!("{format}: {written} bytes were written, {} pictures are left", frames.video.len());
        // 130 kB are more than three seconds, of which one fragment and its wait for a key frame may be lost.
        assert!(frames.video.len() >= 50, "{format}: {} frames are left", frames.video.len());
        let source = Frames::of_clip(clip, form(format).1);
        let hashes = |frames: &[crate::support::frames::Frame]| {
            frames.iter().map(|f| f.hash.clone()).collect::<Vec<_>>()
        };
        assert!(hashes(&source.video).starts_with(&hashes(&frames.video)), "{format}: other pictures");
    }
}
