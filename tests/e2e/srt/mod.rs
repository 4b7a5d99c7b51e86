//! SRT: publishers and players of other people's making, in both directions, and on bad networks.

mod admission;
mod clients;
mod network;
mod sync;

use crate::support::frames::Form;
use crate::support::{Clip, Dir, Frames, Program};

/// A clip as a transport stream, as an encoder would send it.
fn transport_stream(clip: Clip, dir: &Dir) -> std::path::PathBuf {
    let file = dir.path("clip.ts");
    let remux = format!("-i {} -c copy -f mpegts {}", clip.file().display(), file.display());
    Program::ffmpeg(&remux).end().clean();
    file
}

/// FFmpeg that publishes a clip in real time.
fn publisher(ffmpeg: fn(&str) -> Program, clip: Clip, url: &str) -> Program {
    ffmpeg(&format!("-re -i {} -c copy -f mpegts {url}&pkt_size=1316", clip.file().display()))
}

/// Demands that all these frames are of the source, in order and none left out in between; a sender's end may cost the last
/// ones, which wait for their time when it goes. The index of the first video frame.
#[track_caller]
fn are_most_of(frames: &Frames, clip: Clip, least: usize) -> usize {
    are_most_of_form(frames, clip, Form::FlvAsTs, least)
}

/// The same of frames in another form.
#[track_caller]
fn are_most_of_form(frames: &Frames, clip: Clip, form: Form, least: usize) -> usize {
    let source = Frames::of_clip(clip, form);
    let mut start = 0;
    for (got, all) in [(&frames.audio, &source.audio), (&frames.video, &source.video)] {
        assert!(!got.is_empty() || all.is_empty(), "nothing of one kind");
        let Some(head) = got.first() else { continue };
        let first = all.iter().position(|frame| frame.hash == head.hash).expect("a frame of the source");
        // The last one may have been cut off.
        let whole = &got[..got.len() - 1];
        let strange = whole.iter().enumerate().filter(|(_, frame)| !all.iter().any(|a| a.hash == frame.hash));
        let strange: Vec<usize> = strange.map(|(n, _)| n).collect();
        assert!(strange.is_empty(), "frames {strange:?} of {} are none of the source's", got.len());
        for (n, (a, b)) in whole.iter().zip(&all[first..]).enumerate() {
            assert_eq!(a.hash, b.hash, "frame {n} of {}, {first} + {n} of the source", got.len());
        }
        start = first;
    }
    assert!(frames.video.len() >= least, "{} of {} frames", frames.video.len(), source.video.len());
    start
}
