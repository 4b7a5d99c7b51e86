//! Segments of fragmented MP4 (CMAF), whole or in parts. Payloads are shared, not copied.

use std::time::Duration;

use bytes::Bytes;

use super::settings::CLOCK;
use super::state::Key;
use super::times::{AudioClock, Samples};
use crate::format::mp4::{self, Mp4Error, Mp4Track, Protection, Run, Sample, Subsamples};
use crate::media::{Frame, Kind, Track, rescale};

/// A frame of video whose duration nobody knows is taken for this long.
const USUAL: i64 = 3600;

/// What a part of a segment is.
#[derive(Debug)]
pub(super) struct Piece {
    pub start: i64,
    pub ticks: u64,
    pub independent: bool,
    pub chunks: Vec<Bytes>,
}

/// What came of a frame.
#[derive(Debug, Default)]
pub(super) struct Pushed {
    /// A part was completed.
    pub part: Option<Piece>,
    /// A part can't be kept within its bounds: it should be so many ticks long.
    pub wanted: Option<u64>,
    /// The frame before was much longer than its samples: sound has paused.
    pub gap: bool,
}

/// Makes one rendition of one track.
#[derive(Debug)]
pub(super) struct Fmp4Maker {
    track: Track,
    timescale: u32,
    samples_of: Samples,
    clock: AudioClock,
    protection: Option<Protection>,
    /// The last frame, whose duration the next one tells.
    held: Option<Held>,
    /// Where that ends at the earliest, or the last one of the segment before ended.
    floor: i64,
    /// How long frames of video are.
    step: i64,
    samples: Vec<Sample>,
    subsamples: Vec<Subsamples>,
    /// Of the samples.
    ticks: u64,
    /// Of parts that were completed.
    pieces: Vec<Bytes>,
    len: usize,
    /// Where the segment's first sample is.
    start: Option<i64>,
    end: i64,
    sequence: u32,
    told: bool,
}

#[derive(Debug)]
struct Held {
    sample: Sample,
    subsamples: Subsamples,
    /// Samples of sound.
    nominal: u32,
}

impl Fmp4Maker {
    /// `counted`: times of sound are counted from its samples.
    pub(super) fn new(track: &Track, counted: bool) -> Self {
        let timescale = mp4::timescale(track).max(1);
        Self {
            track: track.clone(),
            timescale,
            samples_of: Samples::of(track),
            clock: AudioClock::new(timescale, counted),
            protection: None,
            held: None,
            floor: i64::MIN,
            step: USUAL,
            samples: Vec::new(),
            subsamples: Vec::new(),
            ticks: 0,
            pieces: Vec::new(),
            len: 0,
            start: None,
            end: 0,
            sequence: 0,
            told: false,
        }
    }

    /// Whether a track can be in it.
    pub(super) fn carries(track: &Track) -> bool {
        mp4::carries(track.codec)
    }

    pub(super) fn timescale(&self) -> u32 {
        self.timescale
    }

    /// What goes before segments, in which `frame` comes first.
    pub(super) fn init(&mut self, frame: &Frame, key: Option<&Key>) -> Result<Bytes, Mp4Error> {
        self.protection = key.map(|key| Protection { key: key.secret, key_id: key.id(), iv: key.iv });
        let track = Mp4Track {
            id: 1,
            track: &self.track,
            timescale: self.timescale,
            sample: Some(&frame.data),
            protection: self.protection.clone(),
        };
        mp4::init_segment(&[track])
    }

    /// The track goes on where its line was broken.
    pub(super) fn restart(&mut self) {
        self.clock.restart();
    }

    /// Nothing comes before this.
    pub(super) fn skip(&mut self, to: i64) {
        self.floor = self.floor.max(to);
    }

    /// Bytes of the segment so far.
    pub(super) fn len(&self) -> usize {
        self.len + self.held.as_ref().map_or(0, |held| held.sample.data.len())
    }

    /// Adds a frame. `part`: ticks that parts have at most, where there are parts.
    pub(super) fn frame(&mut self, frame: &Frame, part: Option<u64>) -> Pushed {
        let source = self.track.timescale;
        let audio = self.track.kind() == Kind::Audio;
        let time = rescale(frame.dts, source, self.timescale);
        let nominal = if audio { self.samples_of.count(&frame.data) } else { 0 };
        let dts = if audio { self.clock.place(time, nominal, self.floor) } else { time.max(self.floor) };
        let pts = if audio { dts } else { rescale(frame.pts(), source, self.timescale) };
        let pushed = self.release(dts, part);

        let (data, subsamples) = match &self.protection {
            Some(protection) => protection.encrypt(self.track.codec, &frame.data),
            None => (frame.data.clone(), Subsamples::default()),
        };
        self.start.get_or_insert(dts);
        self.floor = dts.saturating_add(1);
        let cts = i32::try_from(pts.saturating_sub(dts)).unwrap_or(0);
        let sample = Sample { dts, duration: 0, cts, key: frame.is_key(), data };
        self.held = Some(Held { sample, subsamples, nominal });
        pushed
    }

    /// The frame that is held lasts until `end`.
    fn release(&mut self, end: i64, part: Option<u64>) -> Pushed {
        let mut pushed = Pushed::default();
        let Some(mut held) = self.held.take() else { return pushed };
        let ticks = end.saturating_sub(held.sample.dts).max(1);
        pushed.gap = held.nominal > 0 && ticks > 2 * i64::from(held.nominal);
        if self.track.kind() == Kind::Video && ticks < i64::from(self.timescale) {
            self.step = ticks;
        }
        held.sample.duration = u32::try_from(ticks).unwrap_or(u32::MAX);
        let ticks = u64::from(held.sample.duration);
        if let Some(most) = part
            && !self.samples.is_empty()
            && self.ticks.saturating_add(ticks) > most
        {
            // 85 % at least (RFC 8216bis 4.4.4.9).
            if self.ticks.saturating_mul(100) >= most.saturating_mul(85) {
                pushed.part = self.piece();
            } else {
                pushed.wanted = Some(self.ticks.saturating_add(ticks));
            }
        }
        if part.is_some_and(|most| ticks > most) {
            pushed.wanted = pushed.wanted.max(Some(ticks));
        }
        self.end = held.sample.dts.saturating_add(i64::from(held.sample.duration));
        self.len += held.sample.data.len();
        self.ticks = self.ticks.saturating_add(ticks);
        self.samples.push(held.sample);
        self.subsamples.push(held.subsamples);
        pushed
    }

    /// The segment ends; `end`: where the next one begins (ticks of the track), where this track's last frame lasts until
    /// then. Gives its start, ticks, last part and all bytes; `None`: there is nothing in it.
    pub(super) fn finish(&mut self, end: Option<i64>, part: Option<u64>) -> Option<Finished> {
        let mut parts = Vec::new();
        let mut wanted = None;
        if let Some(held) = &self.held {
            let nominal = match held.nominal {
                0 => self.step,
                samples => i64::from(samples),
            };
            let until = held.sample.dts.saturating_add(nominal.max(1));
            // A picture that stays for long is no part.
            let most = part.and_then(|part| i64::try_from(part).ok()).unwrap_or(i64::MAX);
            let fits = |end: &i64| (1..=most).contains(&end.saturating_sub(held.sample.dts));
            let end = end.filter(fits).unwrap_or(until);
            let pushed = self.release(end, part);
            parts.extend(pushed.part);
            wanted = pushed.wanted;
        }
        self.floor = self.floor.max(self.end);
        parts.extend(self.piece());
        let start = self.start.take()?;
        let ticks = u64::try_from(self.end.saturating_sub(start)).unwrap_or(0).max(1);
        self.len = 0;
        Some(Finished { start, ticks, parts, wanted, chunks: std::mem::take(&mut self.pieces) })
    }

    /// What was gathered, as a fragment.
    fn piece(&mut self) -> Option<Piece> {
        let first = self.samples.first()?;
        let (start, independent) = (first.dts, first.key || self.track.kind() == Kind::Audio);
        self.sequence = self.sequence.wrapping_add(1);
        let encrypted = self.protection.is_some();
        let subsamples = if encrypted { self.subsamples.as_slice() } else { &[] };
        let run = Run { track_id: 1, samples: &self.samples, subsamples };
        let chunks = mp4::fragment(self.sequence, &[run]).unwrap_or_else(|error| {
            if !std::mem::replace(&mut self.told, true) {
                log::warn!("segments leave out a fragment: {error}");
            }
            Vec::new()
        });
        let ticks = std::mem::take(&mut self.ticks);
        self.samples.clear();
        self.subsamples.clear();
        self.pieces.extend(chunks.iter().cloned());
        Some(Piece { start, ticks, independent, chunks })
    }

    /// How long one frame is, as far as that is known.
    pub(super) fn frame_time(&self, frames: u64, ticks: u64) -> Duration {
        let ticks = match (self.samples_of, frames) {
            (Samples::Fixed(samples), _) if samples > 0 => u64::from(samples),
            (_, 0) => 0,
            _ => ticks.div_ceil(frames),
        };
        super::state::duration(ticks, self.timescale)
    }

    /// `time` (90 kHz) in ticks of the track.
    pub(super) fn ticks(&self, time: i64) -> i64 {
        rescale(time, CLOCK, self.timescale)
    }
}

/// A segment as it was completed.
#[derive(Debug)]
pub(super) struct Finished {
    pub start: i64,
    pub ticks: u64,
    /// Its last parts.
    pub parts: Vec<Piece>,
    /// One of those is out of bounds: it should be so many ticks long.
    pub wanted: Option<u64>,
    pub chunks: Vec<Bytes>,
}
