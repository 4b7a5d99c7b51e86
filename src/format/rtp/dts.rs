//! Decoding times of pictures whose packets tell only when they are shown.
//!
//! RTP carries presentation times, in decoding order. Without B-frames these are the decoding times, too. With them the
//! decoding times are the same instants in order, earlier by as many frames as a decoder holds back.

/// The most frames a decoder can hold back.
const MAX_REORDER: usize = 16;

/// Finds decoding times: never going back, and not after the picture is shown where the frames' order makes sense.
#[derive(Debug, Clone, Default)]
pub struct DecodingTimes {
    /// Presentation times of the newest frames, in order; as many as are held back, and one.
    window: heapless::Vec<i64, { MAX_REORDER + 1 }>,
    /// How many frames are held back: none, until one came that is shown before another that came earlier. Many encoders say
    /// that there may be such, and make none.
    reorder: usize,
    /// How many may be, as the config says.
    may: usize,
    last: Option<i64>,
    newest: Option<i64>,
    /// The usual distance of frames.
    step: i64,
}

impl DecodingTimes {
    /// How many frames a decoder holds back at most, as the config says.
    pub fn set_reorder(&mut self, reorder: u8) {
        self.may = usize::from(reorder).min(MAX_REORDER);
    }

    /// The decoding time of the next frame in decoding order, which is shown at `pts`.
    pub fn next(&mut self, pts: i64) -> i64 {
        let gap = pts.saturating_sub(self.newest.unwrap_or(pts));
        if gap.abs() > i64::from(u32::MAX) {
            // Another timeline.
            self.window.clear();
            self.last = None;
        }
        if gap > 0 {
            self.step = if self.step == 0 { gap } else { self.step.min(gap) };
        } else if gap < 0 && self.reorder == 0 {
            self.reorder = if self.may == 0 { 2 } else { self.may };
        }
        self.newest = Some(self.newest.map_or(pts, |newest| newest.max(pts)));
        let place = self.window.partition_point(|&other| other <= pts);
        if self.window.insert(place, pts).is_err() {
            self.window.clear();
        }
        let dts = if self.window.len() > self.reorder {
            let first = self.window.first().copied().unwrap_or(pts);
            self.window.remove(0);
            first
        } else {
            // The beginning: as many steps before the first as there will be frames held back.
            let first = self.window.first().copied().unwrap_or(pts);
            let missing = (self.reorder + 1 - self.window.len()) as i64;
            first.saturating_sub(self.step.max(1).saturating_mul(missing))
        };
        let dts = self.last.map_or(dts, |last| dts.max(last.saturating_add(1)));
        self.last = Some(dts);
        dts
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(reorder: u8, pts: &[i64]) -> Vec<i64> {
        let mut times = DecodingTimes::default();
        times.set_reorder(reorder);
        pts.iter().map(|&pts| times.next(pts)).collect()
    }

    #[test]
    fn without_b_frames_both_times_are_the_same() {
        let pts: Vec<_> = (0..50).map(|n| n * 3000).collect();
        assert_eq!(all(0, &pts), pts);
    }

    #[test]
    fn with_b_frames_times_are_in_order_and_before_they_are_shown() {
        // I P B B P B B …
        let shown: Vec<i64> = [0, 3, 1, 2, 6, 4, 5, 9, 7, 8, 12, 10, 11].map(|n| n * 3000).into();
        for reorder in [0, 1, 2, 4] {
            let dts = all(reorder, &shown);
            assert!(dts.is_sorted_by(|a, b| a < b), "{reorder}: {dts:?}");
            // The first that are out of order come as a surprise.
            assert!(dts.iter().zip(&shown).skip(6).all(|(d, p)| d <= p), "{reorder}: {dts:?}");
        }
        assert_eq!(all(1, &shown)[6..], [15_000, 18_000, 21_000, 24_000, 27_000, 30_000, 33_000]);
        assert_eq!(all(3, &[0, 3000, 6000, 9000]), [0, 3000, 6000, 9000], "what may be is not what is");
    }
}
