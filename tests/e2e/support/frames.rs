//! Frames as FFmpeg sees them, to compare what players get with what was published.

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::client::Ended;
use super::{Clip, Dir, Program};

/// Of a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Audio,
    Video,
}

/// How the frames of a container are brought into a form that can be compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// As in FLV and RTMP.
    Flv,
    /// From FLV, in the form of [`Form::Ts`]: start codes, no parameter sets in the stream.
    FlvAsTs,
    /// As in MPEG-TS, less what its muxer adds.
    Ts,
    /// Audio in a file of its own.
    Raw,
}

impl Form {
    /// FFmpeg's bitstream filters for a clip.
    fn filters(self, clip: Clip) -> String {
        let (annexb, sets) = match () {
            () if clip.name.starts_with("h264") => ("h264_mp4toannexb,", "7|8|9"),
            () if clip.name.starts_with("h265") => ("hevc_mp4toannexb,", "32-35"),
            () => ("", ""),
        };
        let video = |annexb| match sets {
            "" => String::new(),
            _ => format!("-bsf:v {annexb}filter_units=remove_types={sets}"),
        };
        let aac = if clip.name.ends_with("aac") { "-bsf:a aac_adtstoasc" } else { "" };
        match self {
            // Rillbox leaves out temporal delimiters.
            Self::Flv if clip.name.starts_with("av1") => "-bsf:v filter_units=remove_types=2".to_owned(),
            Self::Flv => String::new(),
            Self::FlvAsTs => video(annexb),
            Self::Ts => format!("{} {aac}", video("")),
            Self::Raw => aac.to_owned(),
        }
    }
}

/// One frame. Times in microseconds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    pub dts: i64,
    pub pts: i64,
    pub hash: String,
}

/// All frames that a player got, or that a clip has.
#[derive(Debug, Default)]
pub struct Frames {
    pub audio: Vec<Frame>,
    pub video: Vec<Frame>,
}

impl Frames {
    /// Those of a clip.
    #[track_caller]
    pub fn of_clip(clip: Clip, form: Form) -> Self {
        Self::of_file(&clip.file(), clip, form)
    }

    /// Those of a file with a clip's codecs.
    #[track_caller]
    pub fn of_file(file: &Path, clip: Clip, form: Form) -> Self {
        Player::start(Program::ffmpeg, &file.display().to_string(), clip, form).frames()
    }

    /// Those of one kind.
    pub fn of(&self, kind: Kind) -> &[Frame] {
        match kind {
            Kind::Audio => &self.audio,
            Kind::Video => &self.video,
        }
    }

    /// Reads what FFmpeg's `framemd5` wrote; the last line may still be incomplete.
    fn parse(text: &str) -> Self {
        let mut frames = Self::default();
        let mut streams = Vec::new();
        for line in text.split_inclusive('\n').filter_map(|line| line.strip_suffix('\n')) {
            if let Some(tb) = line.strip_prefix("#tb ") {
                let (_, tb) = tb.split_once(": ").unwrap();
                let (num, den) = tb.split_once('/').unwrap();
                streams.push((Kind::Video, num.parse::<i64>().unwrap(), den.parse::<i64>().unwrap()));
            } else if let Some(kind) = line.strip_prefix("#media_type ") {
                let (index, kind) = kind.split_once(": ").unwrap();
                if kind == "audio" {
                    streams[index.parse::<usize>().unwrap()].0 = Kind::Audio;
                }
            } else if !line.starts_with('#') {
                let fields: Vec<_> = line.split(',').map(str::trim).collect();
                let [stream, dts, pts, _, _, hash, ..] = fields[..] else { panic!("{line}") };
                let (kind, num, den) = streams[stream.parse::<usize>().unwrap()];
                let time = |ticks: &str| ticks.parse::<i64>().unwrap() * num * 1_000_000 / den;
                let frame = Frame { dts: time(dts), pts: time(pts), hash: hash.to_owned() };
                match kind {
                    Kind::Audio => frames.audio.push(frame),
                    Kind::Video => frames.video.push(frame),
                }
            }
        }
        frames
    }

    /// Demands that these are the frames of `source` from some frame of it to its last one: each once, in
    /// order, with its distances in time kept up to `tolerance` microseconds. Gives the index of the first video
    /// frame in the source; of the first audio frame where there is no video.
    #[track_caller]
    pub fn are_the_end_of(&self, source: &Self, tolerance: i64) -> usize {
        let mut shifts = Vec::new();
        let mut start: Option<(usize, i64)> = None;
        for kind in [Kind::Video, Kind::Audio] {
            let (got, all) = (self.of(kind), source.of(kind));
            assert_eq!(got.is_empty(), all.is_empty(), "{kind:?}: {} of {} frames", got.len(), all.len());
            let Some(head) = got.first() else { continue };
            let first = all.iter().position(|frame| frame.hash == head.hash);
            let first = first.unwrap_or_else(|| panic!("{kind:?}: the first frame is none of the source's"));
            let rest = &all[first..];
            for (n, (a, b)) in got.iter().zip(rest).enumerate() {
                assert_eq!(
                    a.hash,
                    b.hash,
                    "{kind:?}: frame {n} of {}, {first} + {n} of the source",
                    got.len()
                );
            }
            assert_eq!(got.len(), rest.len(), "{kind:?}: how many from {first} of {}", all.len());
            for (a, b) in got.iter().zip(rest) {
                shifts.extend([a.dts - b.dts, a.pts - b.pts]);
            }
            if let Some((_, since)) = start {
                // What is before the picture may be left out, and no more.
                const INTERLEAVED: i64 = 50_000;
                let due = all.iter().position(|frame| frame.dts >= since + INTERLEAVED).unwrap_or(0);
                assert!(first <= due, "the picture begins with audio {due}, audio begins with {first}");
            } else {
                start = Some((first, all[first].dts));
            }
        }
        let (low, high) = (shifts.iter().min().unwrap(), shifts.iter().max().unwrap());
        assert!(high - low <= tolerance, "the times of the source are shifted by {low} to {high} µs");
        start.unwrap().0
    }
}

/// An FFmpeg that plays without decoding, and writes down the hash of each frame.
pub struct Player {
    program: Program,
    out: PathBuf,
    _dir: Dir,
}

impl Player {
    /// Gives it another time limit, from now.
    pub fn limit(self, limit: Duration) -> Self {
        Self { program: self.program.limit(limit), ..self }
    }

    /// Plays `url`, or `OPTIONS -i url`.
    #[track_caller]
    pub fn start(ffmpeg: fn(&str) -> Program, url: &str, clip: Clip, form: Form) -> Self {
        let dir = Dir::new();
        let out = dir.path("frames");
        let input = if url.contains("-i ") { url.to_owned() } else { format!("-i {url}") };
        let program = ffmpeg(&format!(
            "{input} -map 0:v? -map 0:a? -c copy -copyinkf {} -flush_packets 1 -f framemd5 {}",
            form.filters(clip),
            out.display()
        ));
        Self { program, out, _dir: dir }
    }

    /// What it has got up to now.
    pub fn so_far(&self) -> Frames {
        Frames::parse(&std::fs::read_to_string(&self.out).unwrap_or_default())
    }

    /// Waits until it has so many frames.
    #[track_caller]
    pub fn wait_for(&self, kind: Kind, frames: usize) {
        super::wait_until(&format!("{frames} {kind:?} frames; {}", self.program.said()), || {
            self.so_far().of(kind).len() >= frames
        });
    }

    /// Waits for the stream's end, which has to come without complaints.
    #[track_caller]
    pub fn frames(self) -> Frames {
        let (frames, mut ended) = self.end();
        // FFmpeg 9 says so at the end of each HTTP body of unknown length, whoever sends it.
        let only = "Error during demuxing: Input/output error\n";
        if ended.status.success() && ended.said.ends_with(only) && ended.said.lines().count() == 1 {
            ended.said.clear();
        }
        ended.clean();
        frames
    }

    /// Waits for the stream's end.
    #[track_caller]
    pub fn end(self) -> (Frames, Ended) {
        let ended = self.program.end();
        let text = std::fs::read_to_string(&self.out)
            .unwrap_or_else(|error| panic!("nothing was played: {error}: {ended:#?}"));
        (Frames::parse(&text), ended)
    }
}
