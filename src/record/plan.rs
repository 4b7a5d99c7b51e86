//! When a file begins and ends, and what its times are. No clock, no file.

use crate::config::{RecordPlan, TimeJitter};
use crate::media::{Flags, Frame, Track};

/// When a file begins and ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Plan {
    pub(super) plan: RecordPlan,
    pub(super) duration_ms: i64,
    pub(super) wait_keyframe: bool,
}

/// What to do with a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    /// A file begins with it; the one before, if any, is closed first.
    Begin,
    /// It is before what a file can begin with.
    Skip,
    /// It goes into the file.
    Write,
}

impl Plan {
    /// `since_ms`: when the open file began. `video`: whether the stream has some; `is_video`, `key`: of this frame.
    pub(super) fn step(
        self,
        since_ms: Option<i64>,
        at_ms: i64,
        video: bool,
        is_video: bool,
        key: bool,
    ) -> Step {
        let can_begin = !self.wait_keyframe || !video || (is_video && key);
        match since_ms {
            None if can_begin => Step::Begin,
            None => Step::Skip,
            Some(since)
                if self.plan == RecordPlan::Segment
                    && can_begin
                    && at_ms.saturating_sub(since) >= self.duration_ms =>
            {
                Step::Begin
            }
            Some(_) => Step::Write,
        }
    }
}

/// Puts frames on the times of a file.
#[derive(Debug)]
pub(super) struct Line {
    jitter: TimeJitter,
    base_ms: i64,
    /// The last decoding time by track, in its ticks.
    last: Vec<(u8, i64)>,
    /// Where the file ends so far, in milliseconds from its base.
    end_ms: i64,
}

impl Line {
    /// A file whose first frame has this time of the stream.
    pub(super) fn new(jitter: TimeJitter, first_ms: i64) -> Self {
        Self { jitter, base_ms: first_ms, last: Vec::new(), end_ms: 0 }
    }

    /// The frame with the file's times.
    pub(super) fn place(&mut self, track: &Track, frame: &Frame) -> Frame {
        let mut placed = frame.clone();
        let base = track.ms_to_ticks(self.base_ms);
        let since = frame.dts.saturating_sub(base);
        let last = self.last.iter_mut().find(|(id, _)| *id == track.id.0);
        let step = last.as_ref().map(|(_, last)| since.saturating_sub(*last));
        let mut dts = since;
        if self.jitter != TimeJitter::Off {
            // What belongs before the file's first key frame is moved to its start.
            dts = dts.max(0);
        }
        if self.jitter == TimeJitter::Full
            && let Some((_, last)) = &last
        {
            dts = dts.max(last.saturating_add(1));
        }
        match last {
            Some((_, last)) => *last = dts,
            None => self.last.push((track.id.0, dts)),
        }
        let late = dts.saturating_sub(since);
        placed.cts = i32::try_from(i64::from(frame.cts).saturating_sub(late)).unwrap_or(0);
        let step_ms = track.ticks_to_ms(step.unwrap_or(0)).clamp(0, 1000);
        self.end_ms = self.end_ms.max(track.ticks_to_ms(dts).saturating_add(step_ms));
        placed.dts = if self.jitter == TimeJitter::Off { dts.saturating_add(base) } else { dts };
        // It counted in the stream; the file is of one piece.
        if self.last.len() == 1 && placed.flags.has(Flags::DISCONTINUITY) && since <= 0 {
            placed.flags = if frame.is_key() { Flags::KEY } else { Flags::NONE };
        }
        placed
    }

    /// How long the file is so far, in milliseconds.
    pub(super) fn duration_ms(&self) -> i64 {
        self.end_ms
    }

    /// The stream's time at the file's start, in milliseconds.
    pub(super) fn base_ms(&self) -> i64 {
        self.base_ms
    }
}

/// What the time of day is on a stream's line, whose frames come late and in bursts.
#[derive(Debug, Default)]
pub(super) struct DayTime {
    /// Milliseconds to add, as small as was seen since the last file: frames may come late, and never early.
    offset: Option<i64>,
}

impl DayTime {
    /// A frame of this time was received at this time of day.
    pub(super) fn see(&mut self, at_ms: i64, wall_ms: i64) {
        let offset = wall_ms.saturating_sub(at_ms);
        self.offset = Some(self.offset.map_or(offset, |known| known.min(offset)));
    }

    /// The time of day of a file that begins at `at_ms` of the stream; `end_ms`: where the file before ended, by the time of
    /// day, if they are of one piece. What was learnt is looked at anew from here on, since clocks are set and drift.
    pub(super) fn begin(&mut self, at_ms: i64, wall_ms: i64, end_ms: Option<i64>) -> i64 {
        const SAME: u64 = 2000;
        self.see(at_ms, wall_ms);
        let start = at_ms.saturating_add(self.offset.take().unwrap_or(0));
        match end_ms {
            Some(end) if end.abs_diff(start) < SAME => end,
            _ => start,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::media::{Codec, TrackId};
    use bytes::Bytes;

    const SEGMENT: Plan = Plan { plan: RecordPlan::Segment, duration_ms: 10_000, wait_keyframe: true };

    #[test]
    fn files_begin_at_key_frames() {
        assert_eq!(SEGMENT.step(None, 0, true, false, true), Step::Skip, "audio before the first key frame");
        assert_eq!(SEGMENT.step(None, 0, true, true, false), Step::Skip);
        assert_eq!(SEGMENT.step(None, 0, true, true, true), Step::Begin);
        assert_eq!(SEGMENT.step(Some(0), 9_999, true, true, true), Step::Write);
        assert_eq!(SEGMENT.step(Some(0), 10_500, true, true, false), Step::Write, "a long GOP");
        assert_eq!(SEGMENT.step(Some(0), 10_600, true, false, true), Step::Write);
        assert_eq!(SEGMENT.step(Some(0), 12_000, true, true, true), Step::Begin);
        assert_eq!(SEGMENT.step(Some(0), 10_000, false, false, true), Step::Begin, "audio alone");
        let anywhere = Plan { wait_keyframe: false, ..SEGMENT };
        assert_eq!(anywhere.step(None, 0, true, true, false), Step::Begin);
        assert_eq!(anywhere.step(Some(0), 10_000, true, true, false), Step::Begin);
        let session = Plan { plan: RecordPlan::Session, ..SEGMENT };
        assert_eq!(session.step(Some(0), 1 << 40, true, true, true), Step::Write);
    }

    fn frame(track: u8, dts: i64, cts: i32) -> Frame {
        Frame { track: TrackId(track), flags: Flags::NONE, dts, cts, wall_ms: None, data: Bytes::new() }
    }

    #[test]
    fn times_begin_at_zero_or_stay() {
        let video = Track { timescale: 90_000, ..Track::new(TrackId(0), Codec::H264) };
        let audio = Track::new(TrackId(1), Codec::Aac);
        let mut line = Line::new(TimeJitter::Full, 5_000_000_000);
        assert_eq!(line.place(&video, &frame(0, 450_000_000_000, 3600)).dts, 0);
        let early = line.place(&audio, &frame(1, 4_999_999_990, 0));
        assert_eq!((early.dts, early.cts), (0, -10));
        assert_eq!(line.place(&audio, &frame(1, 4_999_999_999, 0)).dts, 1, "never twice the same");
        assert_eq!(line.place(&audio, &frame(1, 5_000_000_012, 0)).dts, 12);
        let next = line.place(&video, &frame(0, 450_000_003_600, 3600));
        assert_eq!((next.dts, next.cts), (3600, 3600));
        assert_eq!(line.duration_ms(), 80);
        let mut zero = Line::new(TimeJitter::Zero, 1000);
        let times: Vec<i64> = [1000, 1010, 1010].map(|dts| zero.place(&audio, &frame(1, dts, 0)).dts).into();
        assert_eq!(times, [0, 10, 10]);
        let mut off = Line::new(TimeJitter::Off, 1000);
        assert_eq!(off.place(&audio, &frame(1, 990, 0)).dts, 990);
        assert_eq!(off.place(&audio, &frame(1, 1040, 0)).dts, 1040);
        assert_eq!(off.duration_ms(), 90);
    }

    #[test]
    fn the_time_of_day_survives_bursts_and_clocks_that_are_set() {
        let mut day = DayTime::default();
        // The past of two seconds comes at once.
        day.see(0, 1_000_000);
        day.see(2000, 1_000_000);
        assert_eq!(day.begin(0, 1_000_000, None), 998_000);
        for ms in (2000..10_000).step_by(100) {
            day.see(ms, 998_000 + ms + ms % 700);
        }
        assert_eq!(day.begin(10_000, 1_008_300, Some(1_007_990)), 1_007_990, "no gap between files");
        // Someone sets the clock.
        day.see(10_100, 5_000_000);
        assert_eq!(day.begin(20_000, 5_009_900, Some(1_018_000)), 5_009_900);
    }
}
