//! Transport streams that ffmpeg wrote are read, written anew, and must be the same to ffmpeg. Needs `ffmpeg` and
//! `ffprobe`.

#![allow(clippy::expect_used, clippy::indexing_slicing, clippy::unwrap_used)] // a test: to fail is to panic

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use bytes::BytesMut;
use rillbox::format::mpegts::{Demuxer, Event, MuxOptions, Muxer};
use rillbox::media::{Frame, Track};

const VIDEO: &str = "-f lavfi -i testsrc2=size=320x240:rate=25:duration=3";
const AUDIO: &str = "-f lavfi -i aevalsrc=sin(440*2*PI*t)|sin(660*2*PI*t):s=48000:d=3";

#[test]
fn h264_with_b_frames_and_sei_and_aac() {
    let x264 = "-c:v libx264 -g 25 -bf 2 -x264-params nal-hrd=vbr:vbv-maxrate=800:vbv-bufsize=800 -c:a aac";
    same("h264-aac", &format!("{VIDEO} {AUDIO} {x264}"), &[0, 1]);
}

#[test]
fn h265_and_opus() {
    same(
        "h265-opus",
        &format!("{VIDEO} {AUDIO} -c:v libx265 -g 25 -x265-params log-level=error -c:a libopus"),
        &[0, 1],
    );
}

#[test]
fn opus_of_six_channels() {
    let audio = "-f lavfi -i anoisesrc=d=3:a=0.1,pan=5.1|c0=c0|c1=c0|c2=c0|c3=c0|c4=c0|c5=c0";
    same("opus-six", &format!("{audio} -ar 48000 -c:a libopus -mapping_family 1"), &[0]);
}

#[test]
fn mp3() {
    same(
        "mp3",
        &format!("{VIDEO} {AUDIO} -c:v libx264 -preset ultrafast -c:a libmp3lame -ar 44100"),
        &[0, 1],
    );
    same("mp3-low", &format!("{AUDIO} -c:a libmp3lame -ar 22050"), &[0]);
}

#[test]
fn ac3_and_eac3() {
    same("ac3", &format!("{AUDIO} -c:a ac3"), &[0]);
    same("eac3-dvb", &format!("{AUDIO} -c:a eac3 -mpegts_flags system_b"), &[0]);
}

#[test]
fn latm_and_bluray_packets() {
    same("latm", &format!("{AUDIO} -c:a aac -mpegts_flags latm"), &[0]);
    same("m2ts", &format!("{VIDEO} {AUDIO} -c:v libx264 -c:a ac3 -mpegts_m2ts_mode 1"), &[0, 1]);
}

/// Has ffmpeg make a transport stream, and checks all of it.
fn same(name: &str, arguments: &str, streams: &[usize]) {
    let dir = PathBuf::from(env!("CARGO_TARGET_TMPDIR"));
    let made = dir.join(format!("{name}.ts"));
    run(Command::new("ffmpeg")
        .args(["-v", "error", "-y"])
        .args(arguments.split(' '))
        .args(["-f", "mpegts"])
        .arg(&made));
    let data = fs::read(&made).unwrap();
    let (tracks, frames) = demux(&data);
    assert_eq!(tracks.len(), streams.len(), "{name}");
    let source = packets(&made, streams.len());

    for gather in [0, 100] {
        let options = MuxOptions { gather: Duration::from_millis(gather), ..MuxOptions::default() };
        let mut muxer = Muxer::new(&options);
        muxer.set_tracks(&tracks);
        let mut out = BytesMut::new();
        for frame in &frames {
            muxer.frame(frame, &mut out).unwrap();
        }
        muxer.flush(&mut out);
        let written = dir.join(format!("{name}-{gather}.ts"));
        fs::write(&written, &out).unwrap();

        let heard = run(Command::new("ffmpeg")
            .args(["-v", "warning", "-i"])
            .arg(&written)
            .args(["-map", "0", "-f", "null", "-"]));
        assert_eq!(heard, "", "what ffmpeg says to {}", written.display());
        for stream in streams {
            let map = format!("0:{}", if streams.len() == 2 { ["v", "a"][*stream] } else { "a" });
            assert_eq!(hashes(&written, &map), hashes(&made, &map), "{name} {map}");
        }
        let shifted = packets(&written, streams.len());
        for (a, b) in source.iter().zip(&shifted) {
            assert_eq!(a.len(), b.len(), "{name}");
            let wrong = a.iter().zip(b).find(|(a, b)| {
                // ffmpeg rounds the times of frames inside of a PES packet.
                (a.0 + muxer.delay() - b.0).abs() > 1 || (a.1 + muxer.delay() - b.1).abs() > 1
            });
            assert_eq!(wrong, None, "{name}: PTS and DTS, then what they became");
        }
    }
    let counted: Vec<_> =
        tracks.iter().map(|track| frames.iter().filter(|f| f.track == track.id).count()).collect();
    let probed: Vec<_> = source.iter().map(Vec::len).collect();
    let sorted = |mut counts: Vec<usize>| {
        counts.sort_unstable();
        counts
    };
    assert_eq!(sorted(counted), sorted(probed), "{name}");
}

fn demux(data: &[u8]) -> (Vec<Track>, Vec<Frame>) {
    let mut demuxer = Demuxer::new(None);
    let (mut tracks, mut frames) = (Vec::new(), Vec::new());
    let mut each = |event| match event {
        Event::Track(track) => tracks.push(track),
        Event::Frame(frame) => frames.push(frame),
        _ => {}
    };
    data.chunks(1316).for_each(|part| demuxer.push(part, &mut each));
    demuxer.finish(&mut each);
    let counters = demuxer.counters();
    assert_eq!((counters.lost, counters.dropped, counters.skipped), (0, 0, counters.skipped.min(4)));
    // As they were sent, for the writer.
    frames.sort_by_key(|frame| frame.dts);
    (tracks, frames)
}

/// PTS and DTS of all packets, by kind: video first.
fn packets(file: &Path, streams: usize) -> Vec<Vec<(i64, i64)>> {
    let kinds: &[&str] = if streams == 2 { &["v", "a"] } else { &["a"] };
    let of = |kind: &&str| {
        let entries =
            ["-v", "error", "-select_streams", kind, "-show_entries", "packet=pts,dts", "-of", "csv=p=0"];
        run(Command::new("ffprobe").args(entries).arg(file))
            .lines()
            .filter_map(|line| {
                let mut values = line.split(',').map(str::parse);
                Some((values.next()?.ok()?, values.next()?.ok()?))
            })
            .collect()
    };
    kinds.iter().map(of).collect()
}

/// What the decoder gives.
fn hashes(file: &Path, map: &str) -> Vec<String> {
    let text = run(Command::new("ffmpeg")
        .args(["-v", "error", "-i"])
        .arg(file)
        .args(["-map", map, "-f", "framemd5", "-"]));
    text.lines()
        .filter(|line| !line.starts_with('#'))
        .filter_map(|l| Some(l.rsplit(',').next()?.trim().to_owned()))
        .collect()
}

/// What a program wrote to both its outputs.
fn run(command: &mut Command) -> String {
    let output = command.output().expect("ffmpeg and ffprobe are installed");
    let text =
        String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {text}");
    text
}
