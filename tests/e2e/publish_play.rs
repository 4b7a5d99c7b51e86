//! What is published is what is played: every codec, each way out, each frame.
//!
//! Players that were there before the publisher get all frames; one that comes later gets all from a key frame
//! on. FFmpeg hashes each frame as it is, so that a byte too many would be seen.

use crate::support::frames::{Form, Player};
use crate::support::{Clip, Frames, Kind, Program, Server};

/// One tick of a clock in milliseconds, in microseconds.
const MILLISECOND: i64 = 1000;

/// Sound alone begins at its newest packet, and FFmpeg begins with half a second at once: in packets.
pub const BURST: usize = 40;

/// FFmpeg that publishes a clip in real time.
pub fn publisher(ffmpeg: fn(&str) -> Program, clip: Clip, url: &str) -> Program {
    ffmpeg(&format!("-re -i {} -c copy -f flv {url}", clip.file().display()))
}

/// A way out of the server.
#[derive(Clone, Copy)]
enum Way {
    Rtmp,
    Flv,
    Ts,
    Aac,
    Mp3,
}

impl Way {
    fn url(self, server: &Server) -> String {
        match self {
            Self::Rtmp => server.rtmp("demo"),
            Self::Flv => server.http("demo.flv"),
            Self::Ts => server.http("demo.ts"),
            Self::Aac => server.http("demo.aac"),
            Self::Mp3 => server.http("demo.mp3"),
        }
    }

    /// In which form its frames are compared, and in which those of the source.
    fn forms(self) -> (Form, Form) {
        match self {
            Self::Rtmp | Self::Flv => (Form::Flv, Form::Flv),
            Self::Ts => (Form::Ts, Form::FlvAsTs),
            Self::Aac | Self::Mp3 => (Form::Raw, Form::Flv),
        }
    }

    /// How far times may move: MPEG-TS may place audio by its samples.
    fn tolerance(self) -> i64 {
        match self {
            Self::Rtmp | Self::Flv => 0,
            Self::Ts | Self::Aac | Self::Mp3 => MILLISECOND,
        }
    }
}

/// Publishes a clip, and plays it by all these ways, twice each.
#[track_caller]
fn all_frames_arrive(clip: Clip, ways: &[Way]) {
    let server = Server::start();
    let mut players: Vec<_> = ways
        .iter()
        .map(|way| (*way, true, Player::start(Program::ffmpeg, &way.url(&server), clip, way.forms().0)))
        .collect();
    server.players(ways.len());
    let publisher = publisher(Program::ffmpeg, clip, &server.rtmp("demo"));
    // In the third second.
    let (kind, frames) = if clip.video_frames() > 0 { (Kind::Video, 60) } else { (Kind::Audio, 80) };
    players[0].2.wait_for(kind, frames);
    for way in ways {
        let late = Player::start(Program::ffmpeg, &way.url(&server), clip, way.forms().0);
        players.push((*way, false, late));
    }
    publisher.end().clean();
    for (way, early, player) in players {
        let mut source = Frames::of_clip(clip, way.forms().1);
        let url = way.url(&server);
        println!("{url}, {}", if early { "early" } else { "late" });
        let frames = player.frames();
        if matches!(way, Way::Aac | Way::Mp3) {
            source.video.clear();
            // A file of audio has no times but those of its samples.
            assert!(frames.audio.len() > 10);
            let first = source.audio.iter().position(|frame| frame.hash == frames.audio[0].hash).unwrap();
            let hashes = |frames: &[crate::support::frames::Frame]| {
                frames.iter().map(|frame| frame.hash.clone()).collect::<Vec<_>>()
            };
            assert_eq!(hashes(&frames.audio), hashes(&source.audio[first..]));
            assert!(!early || first <= BURST, "an early player misses {first} frames");
            continue;
        }
        let first = frames.are_the_end_of(&source, way.tolerance());
        if early {
            let most = if kind == Kind::Audio { BURST } else { 0 };
            assert!(first <= most, "an early player misses {first} frames");
        } else {
            assert!(first > 0, "a late player gets what is long gone");
            assert!(kind == Kind::Audio || first % 25 == 0, "a late player does not start at a key frame");
        }
    }
}

const BOTH: &[Way] = &[Way::Rtmp, Way::Flv];
const ALL: &[Way] = &[Way::Rtmp, Way::Flv, Way::Ts];

#[test]
fn h264_aac() {
    all_frames_arrive(Clip::H264_AAC, &[Way::Rtmp, Way::Flv, Way::Ts, Way::Aac]);
}

#[test]
fn h264_with_b_frames_aac() {
    all_frames_arrive(Clip::H264_B_AAC, ALL);
}

#[test]
fn h264_mp3() {
    all_frames_arrive(Clip::H264_MP3, &[Way::Rtmp, Way::Flv, Way::Ts, Way::Mp3]);
}

#[test]
fn h264_ac3() {
    all_frames_arrive(Clip::H264_AC3, ALL);
}

#[test]
fn h264_flac() {
    all_frames_arrive(Clip::H264_FLAC, BOTH);
}

#[test]
fn h265_aac() {
    all_frames_arrive(Clip::H265_AAC, ALL);
}

#[test]
fn av1_opus() {
    all_frames_arrive(Clip::AV1_OPUS, BOTH);
}

#[test]
fn vp9_opus() {
    all_frames_arrive(Clip::VP9_OPUS, BOTH);
}

#[test]
fn aac_alone() {
    all_frames_arrive(Clip::AAC, &[Way::Rtmp, Way::Flv, Way::Ts, Way::Aac]);
}

#[test]
fn mp3_alone() {
    all_frames_arrive(Clip::MP3, &[Way::Rtmp, Way::Flv, Way::Ts, Way::Mp3]);
}

#[test]
fn video_alone() {
    all_frames_arrive(Clip::H264, ALL);
}
