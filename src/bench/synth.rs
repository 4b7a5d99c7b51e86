//! A stream that is shaped like H.264 and AAC: true parameter sets, slices full of noise, paced by a clock.

use bytes::Bytes;

use super::{Args, BenchError, Result};
use crate::rtmp::chunk::kind;

/// 1280x720, Constrained Baseline, level 3.1.
const SPS: [u8; 9] = [0x67, 0x42, 0xC0, 0x1F, 0xDA, 0x01, 0x40, 0x16, 0xE4];
const PPS: [u8; 4] = [0x68, 0xCE, 0x38, 0x80];
/// AAC-LC, 44100 Hz, stereo.
const ASC: [u8; 2] = [0x12, 0x10];
/// A key frame is so many times as large as another.
const KEY: usize = 6;
const AUDIO_RATE: u32 = 96_000;
const SAMPLE_RATE: u64 = 44_100;
const SAMPLES: u64 = 1024;
/// Frames are cut from so much noise, each at another place.
const NOISE: usize = 256 * 1024;

/// What the stream is like.
#[derive(Debug, Clone, Copy)]
pub(super) struct Shape {
    /// Of video and audio together, bits a second.
    pub(super) bitrate: u32,
    pub(super) fps: u32,
    /// Frames from one key frame to the next.
    pub(super) gop: u32,
    pub(super) audio: bool,
}

impl Shape {
    pub(super) const OPTIONS: [&str; 3] = ["bitrate", "fps", "gop"];

    pub(super) fn of(args: &Args) -> Result<Self> {
        let shape = Self {
            bitrate: args.rate("bitrate")?.unwrap_or(1_100_000),
            fps: args.number("fps")?.unwrap_or(25),
            gop: args.number("gop")?.unwrap_or(50),
            audio: args.switch("audio"),
        };
        if !(1..=240).contains(&shape.fps) || shape.gop == 0 || (shape.audio && shape.bitrate <= AUDIO_RATE) {
            return Err(BenchError::Usage(
                "1 to 240 frames a second, a GOP of 1 or more, and a bit rate above the 96k of audio".into(),
            ));
        }
        Ok(shape)
    }
}

/// One FLV tag's worth.
#[derive(Debug, Clone)]
pub(super) struct Unit {
    /// [`kind::VIDEO`] or [`kind::AUDIO`].
    pub(super) kind: u8,
    pub(super) ms: i64,
    pub(super) body: Bytes,
}

/// Makes the stream.
pub(super) struct Synth {
    shape: Shape,
    noise: Vec<u8>,
    /// Place in the noise of the next frame.
    at: usize,
    /// Bytes of a frame that is not a key frame.
    small: usize,
    videos: u64,
    audios: u64,
}

impl Synth {
    pub(super) fn new(shape: Shape) -> Self {
        let video = shape.bitrate - if shape.audio { AUDIO_RATE } else { 0 };
        let gop = u64::from(video) / 8 * u64::from(shape.gop) / u64::from(shape.fps);
        let small = gop as usize / (shape.gop as usize - 1 + KEY);
        let mut state = 0x2545_F491_4F6C_DD1D_u64;
        let noise = (0..NOISE.max(small * KEY * 2)).map(|_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            // Never 0: nothing in it looks like a start code.
            (state >> 32) as u8 | 1
        });
        Self { shape, noise: noise.collect(), at: 0, small, videos: 0, audios: 0 }
    }

    /// What a decoder needs first.
    pub(super) fn config(&self) -> Vec<Unit> {
        let mut video = vec![0x17, 0, 0, 0, 0, 1, 0x42, 0xC0, 0x1F, 0xFF, 0xE1, 0, SPS.len() as u8];
        video.extend_from_slice(&SPS);
        video.extend_from_slice(&[1, 0, PPS.len() as u8]);
        video.extend_from_slice(&PPS);
        let mut units = vec![Unit { kind: kind::VIDEO, ms: 0, body: video.into() }];
        if self.shape.audio {
            let [a, b] = ASC;
            units.push(Unit { kind: kind::AUDIO, ms: 0, body: vec![0xAF, 0, a, b].into() });
        }
        units
    }

    /// When the next unit is due, in milliseconds from the start.
    pub(super) fn next_ms(&self) -> u64 {
        if self.shape.audio { self.video_ms().min(self.audio_ms()) } else { self.video_ms() }
    }

    /// The next unit.
    pub(super) fn next(&mut self) -> Unit {
        if self.shape.audio && self.audio_ms() < self.video_ms() { self.audio() } else { self.video() }
    }

    fn video_ms(&self) -> u64 {
        self.videos * 1000 / u64::from(self.shape.fps)
    }

    fn audio_ms(&self) -> u64 {
        self.audios * SAMPLES * 1000 / SAMPLE_RATE
    }

    fn video(&mut self) -> Unit {
        let ms = self.video_ms() as i64;
        let key = self.videos.is_multiple_of(u64::from(self.shape.gop));
        self.videos += 1;
        let len = if key { self.small * KEY } else { self.small }.max(16);
        // Slice header: first macroblock 0, slice type I or P, parameter set 0.
        let (tag, nal, slice) = if key { (0x17, 0x65, 0x88) } else { (0x27, 0x41, 0x9A) };
        let mut body = vec![tag, 1, 0, 0, 0];
        body.extend_from_slice(&(len as u32).to_be_bytes());
        body.extend_from_slice(&[nal, slice]);
        body.extend_from_slice(self.take_noise(len - 2));
        Unit { kind: kind::VIDEO, ms, body: body.into() }
    }

    fn audio(&mut self) -> Unit {
        let ms = self.audio_ms() as i64;
        self.audios += 1;
        let len = u64::from(AUDIO_RATE) / 8 * SAMPLES / SAMPLE_RATE;
        let mut body = vec![0xAF, 1];
        body.extend_from_slice(self.take_noise(len as usize));
        Unit { kind: kind::AUDIO, ms, body: body.into() }
    }

    fn take_noise(&mut self, len: usize) -> &[u8] {
        if self.at + len > self.noise.len() {
            self.at %= 61;
        }
        self.at += len;
        self.noise.get(self.at - len..self.at).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::media::h264::{AvcConfig, Pps};

    const SHAPE: Shape = Shape { bitrate: 1_100_000, fps: 25, gop: 50, audio: true };

    #[test]
    fn configs_are_true() {
        let config = Synth::new(SHAPE).config();
        let avc = AvcConfig::parse(&config[0].body[5..]).unwrap();
        let sps = avc.sps().unwrap();
        assert_eq!((sps.width, sps.height, sps.profile, sps.level), (1280, 720, 66, 31));
        Pps::parse(&PPS).unwrap();
        let asc = crate::media::aac::AudioSpecificConfig::parse(&config[1].body[2..]).unwrap();
        assert_eq!((asc.sample_rate, asc.channels), (44_100, 2));
    }

    #[test]
    fn the_rate_is_kept_and_times_rise() {
        let mut synth = Synth::new(SHAPE);
        let (mut bytes, mut keys, mut last) = (0, 0, 0);
        while synth.next_ms() < 20_000 {
            let due = synth.next_ms() as i64;
            let unit = synth.next();
            assert!(unit.ms == due && unit.ms >= last);
            last = unit.ms;
            bytes += unit.body.len();
            keys += usize::from(unit.body[0] == 0x17);
        }
        assert_eq!(keys, 10);
        let rate = bytes as f64 * 8.0 / 20.0;
        assert!((1.08e6..1.12e6).contains(&rate), "{rate}");
    }
}
