//! One timeline a stream, whatever its publishers' clocks do.

use std::time::Instant;

use crate::media::{Flags, Frame, Track};

/// A track's step back of more than this is a new clock; less is disorder, which is clamped.
const BACK_MS: i64 = 1000;
/// Tracks further apart than this are on different clocks; less is bad interleaving, and stays.
const APART_MS: i64 = 10_000;
/// A step ahead of more than this beyond the time that passed is a new clock: encoders that slept through
/// a network loss, and 32-bit wraps that a protocol did not undo.
const AHEAD_MS: i64 = 10_000;

/// Puts the frames of successive publishers on one line that never runs backwards.
///
/// The first publisher's times are kept, unless they are of a kind that players can't count from: below 0 (also
/// as 32 bits without sign) or beyond 2^31 ms. A later one (or one whose clock jumps) is moved so that its first
/// frame comes after the last one sent, by the time that passed in between.
#[derive(Debug, Default)]
pub(super) struct Timeline {
    offset_ms: i64,
    anchored: bool,
    /// The newest time sent, on any track, and when.
    newest: Option<(i64, Instant)>,
    /// The newest time sent by track id, in its ticks.
    tracks: heapless::index_map::FnvIndexMap<u8, i64, { super::MAX_TRACKS }>,
    /// Nothing of this publisher may come before this.
    floor_ms: i64,
}

impl Timeline {
    /// A new publisher: its clock is unknown.
    pub(super) fn new_epoch(&mut self) {
        self.anchored = false;
        self.tracks.clear();
        self.floor_ms = self.newest.map_or(0, |(ms, _)| ms);
    }

    /// Moves `frame` onto the line. Sets `DISCONTINUITY` where the source's clock was replaced.
    pub(super) fn place(&mut self, track: &Track, frame: &mut Frame, now: Instant) {
        let source_ms = track.ticks_to_ms(frame.dts);
        let expected = self.newest.map(|(ms, at)| {
            let passed = i64::try_from(now.saturating_duration_since(at).as_millis()).unwrap_or(i64::MAX);
            ms.saturating_add(passed)
        });
        let own = self.tracks.get(&track.id.0).copied();
        let own_ms = own.map_or(i64::MIN, |ticks| track.ticks_to_ms(ticks));
        let jumps = |placed: i64, newest: i64, expected: i64| {
            placed < own_ms.saturating_sub(BACK_MS)
                || placed < newest.saturating_sub(APART_MS)
                || placed > expected.saturating_add(AHEAD_MS)
        };
        match (self.newest, expected) {
            (Some((newest, _)), Some(expected)) => {
                let placed = source_ms.saturating_add(self.offset_ms);
                if !self.anchored || jumps(placed, newest, expected) {
                    self.offset_ms = expected.max(newest.saturating_add(1)).saturating_sub(source_ms);
                    frame.flags = frame.flags.with(Flags::DISCONTINUITY);
                }
            }
            _ if !(0..=i64::from(i32::MAX)).contains(&source_ms) => {
                self.offset_ms = source_ms.saturating_neg();
            }
            _ => self.offset_ms = 0,
        }
        self.anchored = true;

        let moved = frame.dts.saturating_add(track.ms_to_ticks(self.offset_ms));
        let last = own.unwrap_or(i64::MIN).max(track.ms_to_ticks(self.floor_ms));
        // Presentation time stays where it was: only the decoding time is put in order.
        let late = last.saturating_sub(moved).max(0);
        frame.dts = moved.saturating_add(late);
        frame.cts = i32::try_from(i64::from(frame.cts).saturating_sub(late)).unwrap_or(0);
        let _ = self.tracks.insert(track.id.0, frame.dts);
        let ms = track.ticks_to_ms(frame.dts);
        if self.newest.is_none_or(|(newest, _)| ms > newest) {
            self.newest = Some((ms, now));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::media::{Codec, TrackId};
    use bytes::Bytes;

    fn frame(track: &Track, ms: i64) -> Frame {
        let dts = track.ms_to_ticks(ms);
        Frame { track: track.id, flags: Flags::NONE, dts, cts: 40, wall_ms: None, data: Bytes::new() }
    }

    fn tracks() -> (Track, Track) {
        let video = Track::new(TrackId(0), Codec::H264);
        let mut audio = Track::new(TrackId(1), Codec::Opus);
        audio.timescale = 48_000;
        (video, audio)
    }

    #[test]
    fn a_publisher_that_comes_back_goes_on_after_the_gap() {
        let (video, audio) = tracks();
        let (mut line, start) = (Timeline::default(), Instant::now());
        let at = |ms| start + Duration::from_millis(ms);
        let mut place = |track: &Track, ms, now| {
            let mut frame = frame(track, ms);
            line.place(track, &mut frame, now);
            (track.ticks_to_ms(frame.dts), frame.flags.has(Flags::DISCONTINUITY))
        };
        assert_eq!(place(&video, 500, at(0)), (500, false), "the first publisher's clock is kept");
        assert_eq!(place(&video, 540, at(40)), (540, false));
        assert_eq!(place(&audio, 530, at(40)), (530, false));
        line.new_epoch();
        let mut place = |track: &Track, ms, now| {
            let mut frame = frame(track, ms);
            line.place(track, &mut frame, now);
            (track.ticks_to_ms(frame.dts), frame.flags.has(Flags::DISCONTINUITY))
        };
        assert_eq!(place(&audio, 0, at(3040)), (3540, true));
        assert_eq!(place(&video, 20, at(3060)), (3560, false));
    }

    #[test]
    fn badly_interleaved_tracks_keep_their_distance() {
        let (video, audio) = tracks();
        let (mut line, start) = (Timeline::default(), Instant::now());
        for n in 0..500 {
            let now = start + Duration::from_millis(n * 40);
            let at = i64::try_from(n * 40).unwrap();
            let (mut picture, mut sound) = (frame(&video, at + 4000), frame(&audio, at));
            line.place(&video, &mut picture, now);
            line.place(&audio, &mut sound, now);
            assert_eq!((picture.dts, audio.ticks_to_ms(sound.dts)), (at + 4000, at));
            assert!(!sound.flags.has(Flags::DISCONTINUITY));
        }
    }

    #[test]
    fn no_clock_starts_where_players_cannot_count() {
        // Below 0, below 0 in 32 bits (audio even before), up for a month, in 31 bits.
        let starts = [(-50, 0), ((1 << 32) - 50, 0), ((1 << 31) + 7, 0), ((1 << 31) - 1, (1 << 31) - 1)];
        for (source, placed) in starts {
            let (video, audio) = tracks();
            let (mut line, now) = (Timeline::default(), Instant::now());
            for (ms, expected) in [(0, placed), (40, placed + 40)] {
                let mut picture = frame(&video, source + ms);
                line.place(&video, &mut picture, now);
                assert_eq!(picture.dts, expected, "from {source}");
            }
            let mut sound = frame(&audio, source - 20);
            line.place(&audio, &mut sound, now);
            assert!(sound.dts >= 0, "from {source}");
        }
    }

    #[test]
    fn a_new_publisher_never_goes_back_behind_the_old_one() {
        let (video, audio) = tracks();
        let (mut line, now) = (Timeline::default(), Instant::now());
        for track in [&video, &audio] {
            line.place(track, &mut frame(track, 5000), now);
        }
        line.new_epoch();
        line.place(&video, &mut frame(&video, 800), now);
        let mut sound = frame(&audio, 0);
        line.place(&audio, &mut sound, now);
        assert_eq!(audio.ticks_to_ms(sound.dts), 5000);
    }

    #[test]
    fn clock_jumps_are_taken_out_and_disorder_is_clamped() {
        let (video, _) = tracks();
        let (mut line, start) = (Timeline::default(), Instant::now());
        let mut n = 0;
        let mut place = |ms| {
            n += 40;
            let mut frame = frame(&video, ms);
            line.place(&video, &mut frame, start + Duration::from_millis(n));
            (frame.dts, frame.cts)
        };
        assert_eq!(place(1000), (1000, 40));
        assert_eq!(place(1040), (1040, 40));
        assert_eq!(place(1030), (1040, 30), "a small step back keeps its presentation time");
        assert_eq!(place(1_000_000_000), (1120, 40), "a jump ahead continues the line");
        assert_eq!(place(1_000_000_040), (1160, 40));
        assert_eq!(place(0), (1200, 40), "a jump back too");
        assert_eq!(place(-(1 << 50)), (1240, 40));
        assert_eq!(place(1 << 50), (1280, 40));
    }
}
