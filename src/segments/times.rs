//! Times of sound, counted in samples.

use crate::media::aac::AudioSpecificConfig;
use crate::media::{Codec, Track, ac3, flac, mp3, opus};

/// How many samples a frame of a track gives, at the track's sample rate.
#[derive(Debug, Clone, Copy)]
pub(super) enum Samples {
    /// As the config says.
    Fixed(u32),
    /// As each frame says.
    Told(Codec),
}

impl Samples {
    pub(super) fn of(track: &Track) -> Self {
        match track.codec {
            Codec::Aac => {
                Self::Fixed(AudioSpecificConfig::parse(&track.config).map_or(0, |asc| asc.output_samples()))
            }
            codec => Self::Told(codec),
        }
    }

    /// Of this frame; 0 where that can't be told.
    pub(super) fn count(self, data: &[u8]) -> u32 {
        match self {
            Self::Fixed(samples) => samples,
            Self::Told(Codec::Ac3 | Codec::Eac3) => ac3::Header::parse(data).map_or(0, |h| h.samples),
            Self::Told(Codec::Flac) => flac::FrameHeader::parse(data).map_or(0, |h| h.samples),
            Self::Told(Codec::Mp3) => mp3::Header::parse(data).map_or(0, |h| h.samples),
            Self::Told(Codec::Opus) => opus::packet_samples(data).unwrap_or(0),
            Self::Told(_) => 0,
        }
    }
}

/// Frames between two times that the count and the stream's times were too far apart, so that the count can be believed.
const BELIEVED: u32 = 500;
/// So often it was not: the frames don't have as many samples as they say.
const DOUBTS: u32 = 3;

/// Puts frames of sound one after the other, by their samples.
///
/// A stream's times are mostly rounded to milliseconds, so that durations taken from them would change from frame to
/// frame, and players would hear gaps. So samples are counted; where the count and the stream's times drift apart, because
/// clocks do, it is drawn near, by at most 0.5 % of a frame's length. A true gap is left as it is.
#[derive(Debug)]
pub(super) struct AudioClock {
    /// Ticks that the count may be away from the stream's times.
    tolerance: i64,
    /// Whether it is not drawn near.
    counted: bool,
    /// Where the next frame is due.
    due: Option<i64>,
    /// How far the stream's times are ahead of the count, on average; in 1/64 ticks.
    drift: i64,
    since: u32,
    doubts: u32,
}

impl AudioClock {
    /// `counted`: only a gap of a second and more is taken from the stream's times.
    pub(super) fn new(timescale: u32, counted: bool) -> Self {
        let tolerance = i64::from(timescale) / if counted { 1 } else { 10 };
        Self { tolerance, counted, due: None, drift: 0, since: 0, doubts: 0 }
    }

    /// The time of a frame that is `time` by the stream, and gives `samples`. Not before `floor`.
    pub(super) fn place(&mut self, time: i64, samples: u32, floor: i64) -> i64 {
        let placed = match self.due {
            Some(due) if samples > 0 && self.doubts < DOUBTS => {
                let ahead = time.saturating_sub(due);
                self.since = self.since.saturating_add(1);
                if ahead.unsigned_abs() > self.tolerance.unsigned_abs() {
                    self.doubts = if self.since < BELIEVED { self.doubts + 1 } else { 0 };
                    (self.since, self.drift) = (0, 0);
                    time
                } else if self.counted {
                    due
                } else {
                    self.drift += ahead - self.drift / 64;
                    let most = i64::from(samples / 200).max(1);
                    due + (self.drift / 64 / 128).clamp(-most, most)
                }
            }
            _ => time,
        };
        let placed = placed.max(floor);
        self.due = Some(placed.saturating_add(i64::from(samples)));
        placed
    }

    /// The next frame is where the stream says.
    pub(super) fn restart(&mut self) {
        self.due = None;
        self.drift = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Frames of 1024 samples at 48 kHz, of a clock that runs `ppm` fast, rounded to milliseconds: the most that placed
    /// times are away from true ones, and the shortest and longest step.
    fn run(ppm: i64, frames: i64, counted: bool) -> (i64, i64, i64) {
        let mut clock = AudioClock::new(48_000, counted);
        let (mut worst, mut last) = (0, None);
        let (mut least, mut most) = (i64::MAX, 0);
        for n in 0..frames {
            let truth = i128::from(n) * 1024 * (1_000_000 + i128::from(ppm)) / 1_000_000;
            let ms = i64::try_from(truth / 48).unwrap();
            let placed = clock.place(ms * 48, 1024, i64::MIN);
            worst = worst.max((placed - i64::try_from(truth).unwrap()).abs());
            if let Some(last) = last.replace(placed) {
                (least, most) = (least.min(placed - last), most.max(placed - last));
            }
        }
        (worst, least, most)
    }

    #[test]
    fn rounded_times_become_even() {
        let (worst, least, most) = run(0, 100_000, false);
        assert!(worst < 96, "2 ms: {worst}");
        assert!((1023..=1025).contains(&least) && most <= 1025, "{least} {most}");
        assert_eq!(run(0, 100_000, true), (0, 1024, 1024));
    }

    #[test]
    fn clocks_that_drift_are_followed() {
        for ppm in [-1000, -50, 50, 1000] {
            // 24 hours.
            let (worst, least, most) = run(ppm, 4_050_000, false);
            assert!(worst < 48 * 20, "{ppm}: within 20 ms: {worst}");
            assert!(least >= 1019 && most <= 1029, "{ppm}: {least} {most}");
        }
    }

    #[test]
    fn gaps_stay() {
        let mut clock = AudioClock::new(48_000, false);
        assert_eq!(clock.place(0, 1024, 0), 0);
        assert_eq!(clock.place(1000, 1024, 0), 1024);
        assert_eq!(clock.place(50_000, 1024, 0), 50_000);
        assert_eq!(clock.place(30_000, 1024, 51_024), 51_024, "never back");
    }

    #[test]
    fn frames_that_lie_are_not_believed() {
        // Half as long as they say.
        let mut clock = AudioClock::new(48_000, false);
        let mut floor = 0;
        for n in 0..2000 {
            let placed = clock.place(n * 512, 1024, floor);
            floor = placed + 1;
            assert!((placed - n * 512).abs() <= 4800 + 1024, "{n}: {placed}");
        }
        assert_eq!(clock.place(2000 * 512, 1024, 0), 2000 * 512);
    }
}
