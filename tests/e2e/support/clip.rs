//! Media to publish, made once by FFmpeg and kept in the target directory.

use std::fs::{self, File};
use std::path::PathBuf;
use std::time::Duration;

use bytes::Buf;
use rillbox::rtmp::session::Tag;

use super::Program;

/// A clip: FLV with times in milliseconds, as RTMP has them. All frames of it differ.
#[derive(Debug, Clone, Copy)]
pub struct Clip {
    pub name: &'static str,
    video: &'static str,
    audio: &'static str,
    seconds: u32,
}

const X264: &str = "-c:v libx264 -preset veryfast -x264-params scenecut=0:keyint=25:min-keyint=25";
const AAC: &str = "-c:a aac -b:a 64k";

impl Clip {
    pub const H264_AAC: Self = Self::new("h264-aac", "-bf 0", AAC);
    /// With B-frames that others refer to.
    pub const H264_B_AAC: Self = Self::new("h264-b-aac", "-bf 3 -b_strategy 0", AAC);
    pub const H264_MP3: Self = Self::new("h264-mp3", "-bf 0", "-c:a libmp3lame -ar 44100 -b:a 64k");
    pub const H264_FLAC: Self = Self::new("h264-flac", "-bf 0", "-c:a flac -sample_fmt s16");
    pub const H264_AC3: Self = Self::new("h264-ac3", "-bf 0", "-c:a ac3 -b:a 96k");
    pub const H264_EAC3: Self = Self::new("h264-eac3", "-bf 0", "-c:a eac3 -b:a 96k");
    pub const H264: Self = Self::new("h264", "-bf 2", "");
    pub const AAC: Self = Self::new("aac", "", AAC);
    pub const MP3: Self = Self::new("mp3", "", "-c:a libmp3lame -ar 44100 -b:a 64k");
    pub const H265_AAC: Self = Self::new(
        "h265-aac",
        "-c:v libx265 -preset veryfast -x265-params \
         log-level=none:info=0:keyint=25:min-keyint=25:scenecut=0:open-gop=0:bframes=2",
        AAC,
    );
    pub const AV1_OPUS: Self = Self::new(
        "av1-opus",
        "-c:v libsvtav1 -preset 12 -g 25 -svtav1-params scd=0",
        "-c:a libopus -b:a 64k",
    );
    pub const VP9_OPUS: Self = Self::new(
        "vp9-opus",
        "-c:v libvpx-vp9 -deadline realtime -cpu-used 8 -g 25 -keyint_min 25 -lag-in-frames 0",
        "-c:a libopus -b:a 64k",
    );
    /// Long enough to be watched.
    pub const WATCHED: Self = Self::new("h264-watched-aac", "-bf 0", AAC).lasting(90);
    /// The same in H.265.
    pub const WATCHED_H265: Self = Self::new(
        "h265-watched-aac",
        "-c:v libx265 -preset ultrafast -x265-params \
         log-level=none:info=0:keyint=25:min-keyint=25:scenecut=0:open-gop=0:bframes=0",
        AAC,
    )
    .lasting(90);
    /// One key frame every four seconds: players that join have to be given one of the past.
    pub const LONG_GOP: Self = Self::new(
        "long-gop",
        "-c:v libx264 -preset veryfast -bf 0 -x264-params scenecut=0:keyint=100:min-keyint=100",
        AAC,
    )
    .lasting(12);
    /// 40 Mbit/s: noise.
    pub const HEAVY: Self = Self::new(
        "heavy",
        "-vf noise=alls=100:allf=t+u,scale=1280:720:flags=neighbor -c:v libx264 -preset ultrafast -bf 0 -g 25 \
         -b:v 40M -minrate 40M -maxrate 40M -bufsize 8M",
        AAC,
    );

    const fn new(name: &'static str, video: &'static str, audio: &'static str) -> Self {
        Self { name, video, audio, seconds: 6 }
    }

    /// The same, of another length.
    pub const fn lasting(self, seconds: u32) -> Self {
        Self { seconds, ..self }
    }

    /// How many video frames it has.
    pub fn video_frames(self) -> usize {
        if self.video.is_empty() { 0 } else { self.seconds as usize * 25 }
    }

    /// The file, made when it isn't there.
    #[track_caller]
    pub fn file(self) -> PathBuf {
        let dir = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("clips");
        fs::create_dir_all(&dir).unwrap();
        let args = self.args();
        // Another recipe is another file.
        let digest = args.bytes().fold(0_u32, |sum, byte| sum.wrapping_mul(31).wrapping_add(byte.into()));
        let file = dir.join(format!("{}-{digest:08x}.flv", self.name));
        let lock = File::create(file.with_extension("lock")).unwrap();
        lock.lock().unwrap();
        if !file.exists() {
            let part = file.with_extension("part");
            let program = Program::ffmpeg(&format!("{args} -f flv {}", part.display()));
            program.limit(Duration::from_secs(300)).end().good();
            fs::rename(part, &file).unwrap();
        }
        file
    }

    fn args(self) -> String {
        let mut inputs = String::new();
        let mut codecs = String::new();
        if !self.video.is_empty() {
            inputs += "-f lavfi -i testsrc2=size=320x180:rate=25 ";
            let x264 = if self.video.contains("-c:v") { "" } else { X264 };
            codecs += &format!("-pix_fmt yuv420p {x264} {} ", self.video);
        }
        if !self.audio.is_empty() {
            // A tone that rises: no two packets are the same.
            inputs += "-f lavfi -i aevalsrc=0.3*sin(2*PI*t*(300+50*t)):s=48000 ";
            codecs += &format!("-ac 2 {} ", self.audio);
        }
        format!("{inputs} -t {} {codecs} -bitexact -threads 2", self.seconds)
    }
}

/// The tags of a clip's file, to be published by ourselves.
pub struct Tags {
    file: bytes::Bytes,
}

impl Tags {
    pub fn of(clip: Clip) -> Self {
        let mut file = bytes::Bytes::from(fs::read(clip.file()).unwrap());
        // The header and the first PreviousTagSize.
        file.advance(13);
        Self { file }
    }
}

impl Iterator for Tags {
    type Item = Tag;

    fn next(&mut self) -> Option<Tag> {
        if self.file.is_empty() {
            return None;
        }
        let kind = self.file.get_u8();
        let len = self.file.get_uint(3) as usize;
        let time = self.file.get_uint(3) as i64;
        // High byte of the time, stream id.
        self.file.advance(4);
        let body = self.file.split_to(len);
        self.file.advance(4);
        Some(Tag { kind, time, body })
    }
}
