//! Recordings when things go wrong or change: full and missing disks, other codecs, publishers that come back, and the
//! old that has to go.

use std::fs;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::publish_play::publisher;
use crate::record::{files, is_clean, recording};
use crate::support::frames::{Form, Player};
use crate::support::{Clip, Dir, Frames, Program, http, wait_until};

const RETRY: (&str, &str) = ("VHOST__DEFAULT__RECORD__RETRY", "200ms");
const PLAN: (&str, &str) = ("VHOST__DEFAULT__RECORD__PLAN", "segment");
const DURATION: (&str, &str) = ("VHOST__DEFAULT__RECORD__DURATION", "2s");
const NOTHING_FREE: (&str, &str) = ("VHOST__DEFAULT__RECORD__MIN_FREE", "0");
const LONG_GRACE: (&str, &str) = ("VHOST__DEFAULT__GRACE", "10s");

/// A file system of its own in memory; needs root.
struct Mount(PathBuf);

impl Mount {
    #[track_caller]
    fn new(dir: &Path, options: &str) -> Self {
        fs::create_dir_all(dir).unwrap();
        let mounted =
            Command::new("mount").args(["-t", "tmpfs", "-o", options, "tmpfs"]).arg(dir).status().unwrap();
        assert!(mounted.success(), "file systems can't be mounted: these tests have to run as root");
        Self(dir.to_owned())
    }

    fn again(&self, options: &str) {
        let mounted =
            Command::new("mount").args(["-o", &format!("remount,{options}")]).arg(&self.0).status().unwrap();
        assert!(mounted.success());
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

/// 30 MB are recorded to 20 MB: recording stops with one error, live goes on, and recording too when there is room.
#[test]
fn a_full_disk() {
    for format in ["fmp4", "mp4", "ts", "flv"] {
        let dir = Dir::new();
        let disk = Mount::new(&dir.path("rec"), "size=20m");
        let server = recording(&dir, format, &[RETRY, NOTHING_FREE]);
        let clip = Clip::HEAVY;
        let player = Player::start(Program::ffmpeg, &server.http("demo.flv"), clip, Form::Flv);
        server.players(1);
        let (source, url) = (clip.file(), server.rtmp("demo"));
        let args = format!("-re -stream_loop 1 -i {} -t 8 -c copy -f flv {url}", source.display());
        let publisher = Program::ffmpeg(&args);
        server.line("recording of live/demo stops: No space left on device");
        // It is closed in the same breath, but not in the same instant.
        let whole = || files(&dir).iter().all(|file| file.extension().is_some_and(|ending| ending != "tmp"));
        wait_until("what is whole to be closed", whole);
        let kept = files(&dir);
        let [file] = &kept[..] else { panic!("{format}: {kept:?}") };
        let copy = dir.path("first").with_extension(file.extension().unwrap());
        fs::copy(file, &copy).unwrap();
        assert_eq!(server.count(" stops: "), 1);
        fs::remove_file(file).unwrap();
        server.line("recording of live/demo goes on: ");
        publisher.end().clean();
        let hashes =
            |frames: &Frames| frames.video.iter().map(|frame| frame.hash.clone()).collect::<Vec<_>>();
        let source = hashes(&Frames::of_clip(clip, Form::Flv));
        let live = hashes(&player.frames());
        assert!(
            live.len() >= 195 && [source.clone(), source].concat().starts_with(&live),
            "live was touched"
        );
        is_clean(&copy, true);
        let recorded = Frames::of_file(&copy, clip, if format == "ts" { Form::Ts } else { Form::Flv });
        println!("{format}: {} pictures, then {}", recorded.video.len(), server.line(" stops: "));
        assert!(recorded.video.len() > 50, "{format}: {} pictures", recorded.video.len());
        wait_until("the second file", || {
            files(&dir).len() == 1 && files(&dir)[0].extension().unwrap() != "tmp"
        });
        wait_until("its end", || server.count("recorded live/demo: ") == 2);
        is_clean(&files(&dir)[0], true);
        assert_eq!(server.count(" stops: "), 1, "one error");
        drop(server);
        drop(disk);
    }
}

#[test]
fn a_disk_that_can_only_be_read_or_is_not_there() {
    let dir = Dir::new();
    let mount = dir.path("rec").display().to_string();
    fs::create_dir_all(&mount).unwrap();
    let server = recording(&dir, "fmp4", &[RETRY, ("VHOST__DEFAULT__RECORD__MOUNT", &mount)]);
    let args = format!(
        "-re -stream_loop -1 -i {} -t 60 -c copy -f flv {}",
        Clip::H264_AAC.file().display(),
        server.rtmp("demo")
    );
    let _publisher = Program::ffmpeg(&args);
    server.line("is no mount point (record.mount): is the card in?");
    assert!(files(&dir).is_empty());
    let disk = Mount::new(&dir.path("rec"), "size=20m,ro");
    std::thread::sleep(std::time::Duration::from_secs(1));
    disk.again("rw");
    server.line("recording of live/demo goes on: ");
    wait_until("a fragment", || {
        files(&dir).first().is_some_and(|file| fs::metadata(file).unwrap().len() > 20_000)
    });
    assert_eq!(server.count(" stops: "), 1, "one error, whatever it was");
}

#[test]
fn other_codecs_are_another_file() {
    for format in ["fmp4", "flv", "mp4", "ts"] {
        let dir = Dir::new();
        let server = recording(&dir, format, &[LONG_GRACE, ("VHOST__DEFAULT__RECORD__APPEND", "true")]);
        publisher(Program::ffmpeg, Clip::H264_AAC, &server.rtmp("demo")).end().clean();
        publisher(Program::ffmpeg, Clip::H264_AAC, &server.rtmp("demo")).end().clean();
        publisher(Program::ffmpeg, Clip::H265_AAC, &server.rtmp("demo")).end().clean();
        let mut server = server;
        assert!(server.stop().success());
        let found = files(&dir);
        if format == "ts" {
            // MPEG-TS can go on with another codec.
            assert_eq!(found.len(), 1);
            continue;
        }
        assert_eq!(found.len(), 2, "{format}: {found:?}");
        let first = Frames::of_file(&found[0], Clip::H264_AAC, Form::Flv);
        assert_eq!(first.video.len(), 300, "{format}: append");
        assert!(first.video.windows(2).all(|two| two[1].dts > two[0].dts), "{format}: times run on");
        assert!(first.video.last().unwrap().dts < 30_000_000, "{format}");
        assert_eq!(Frames::of_file(&found[1], Clip::H265_AAC, Form::Flv).video.len(), 150, "{format}");
        found.iter().for_each(|file| is_clean(file, format != "flv"));
    }
}

#[test]
fn a_publisher_that_comes_back_begins_a_file() {
    let dir = Dir::new();
    let server = recording(&dir, "mp4", &[LONG_GRACE]);
    for n in 1..=2 {
        publisher(Program::ffmpeg, Clip::H264_B_AAC, &server.rtmp("demo")).end().clean();
        wait_until("the file", || server.count("recorded live/demo: ") == n);
    }
    for file in files(&dir) {
        is_clean(&file, true);
        let frames = Frames::of_file(&file, Clip::H264_B_AAC, Form::Flv);
        assert_eq!(frames.are_the_end_of(&Frames::of_clip(Clip::H264_B_AAC, Form::Flv), 4000), 0);
        assert!(frames.video[0].pts < 200_000, "times begin at 0");
    }
    assert_eq!(files(&dir).len(), 2);
}

/// Writes another start into a recording.
fn make_old(file: &Path, days: i64) {
    let bytes = fs::read(file).unwrap();
    let at = bytes.windows(6).position(|w| w == b"start=").unwrap() + 6;
    let start: i64 = std::str::from_utf8(&bytes[at..at + 15]).unwrap().parse().unwrap();
    let older = format!("{:015}", start - days * 86_400_000);
    fs::OpenOptions::new().write(true).open(file).unwrap().write_all_at(older.as_bytes(), at as u64).unwrap();
}

#[test]
fn the_old_goes_and_nothing_else() {
    for format in ["fmp4", "flv", "ts"] {
        let dir = Dir::new();
        let mut server = recording(&dir, format, &[PLAN, DURATION]);
        publisher(Program::ffmpeg, Clip::H264_AAC, &server.rtmp("demo")).end().clean();
        wait_until("three files", || server.count("recorded live/demo: ") == 3);
        assert!(server.stop().success());
        let made = files(&dir);
        make_old(&made[1], 10);
        let foreign =
            [dir.path("rec/live/demo.1.mp4"), dir.path("rec/holiday.flv"), dir.path("rec/live/notes.txt")];
        for file in &foreign {
            fs::write(file, "RILLBOX-RECORDING 1 is a word in my diary").unwrap();
        }
        let left = |expected: usize| {
            wait_until(&format!("{expected} recordings to be left"), || {
                files(&dir).len() == foreign.len() + expected
            });
            foreign.iter().for_each(|file| assert!(file.exists()));
        };

        let mut server = recording(&dir, format, &[("VHOST__DEFAULT__RECORD__MAX_AGE", "9d")]);
        left(2);
        assert!(!made[1].exists(), "the old one");
        assert!(server.stop().success());
        let least = fs::metadata(&made[2]).unwrap().len().to_string();
        let mut server = recording(&dir, format, &[("VHOST__DEFAULT__RECORD__QUOTA", &least)]);
        left(1);
        assert!(made[2].exists(), "the newest stays");
        assert!(server.stop().success());

        // A stream that is recorded keeps its file, whatever the limits.
        let server = recording(&dir, format, &[("VHOST__DEFAULT__RECORD__MIN_FREE", "100%")]);
        left(0);
        let url = server.rtmp("demo");
        let args =
            format!("-re -stream_loop -1 -i {} -t 14 -c copy -f flv {url}", Clip::H264_AAC.file().display());
        let publisher = Program::ffmpeg(&args);
        server.line("recording of live/demo: ");
        let written = || files(&dir).into_iter().find(|file| !foreign.contains(file));
        wait_until("some seconds", || {
            written().is_some_and(|file| fs::metadata(file).unwrap().len() > 300_000)
        });
        let list = http::get(server.address("HTTP"), "/recordings/live/demo").good();
        assert!(list.contains("\"recording\":true"), "{list}");
        publisher.end().clean();
        left(0);
    }
}
