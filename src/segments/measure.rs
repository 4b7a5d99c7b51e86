//! What is measured of a rendition: its bits and its frames a second.

use std::collections::VecDeque;
use std::sync::Arc;

use super::state::{Bandwidth, Segment};

/// Bits a second of all that, and of the segment with the most.
pub(super) fn bandwidth(segments: &VecDeque<Arc<Segment>>) -> Bandwidth {
    let mut sum = (0u64, 0u64);
    let mut peak = 0;
    for segment in segments {
        let micros = u64::try_from(segment.duration.as_micros()).unwrap_or(u64::MAX).max(1);
        let bits = segment.data.len().saturating_mul(8);
        sum = (sum.0.saturating_add(bits), sum.1.saturating_add(micros));
        // What is cut short says nothing: its key frame alone would be the peak.
        if micros >= 500_000 || segments.len() == 1 {
            peak = peak.max(per_second(bits, micros));
        }
    }
    let average = if sum.1 == 0 { 0 } else { per_second(sum.0, sum.1) };
    Bandwidth { average, peak: peak.max(average) }
}

fn per_second(bits: u64, micros: u64) -> u64 {
    u64::try_from(u128::from(bits) * 1_000_000 / u128::from(micros)).unwrap_or(u64::MAX)
}

/// The time between frames.
#[derive(Debug, Default)]
pub(super) struct Pace {
    first: Option<i64>,
    last: i64,
    count: i64,
}

impl Pace {
    /// So many frames are enough to know it.
    const ENOUGH: i64 = 250;

    pub(super) fn frame(&mut self, dts: i64) {
        if self.count < Self::ENOUGH {
            self.first.get_or_insert(dts);
            self.last = dts;
            self.count += 1;
        }
    }

    /// Frames per second in thousandths.
    pub(super) fn rate(&self, timescale: u32) -> Option<u32> {
        let time = self.last.saturating_sub(self.first?);
        let frames = self.count - 1;
        if time <= 0 || frames < 10 {
            return None;
        }
        u32::try_from(i128::from(frames) * 1000 * i128::from(timescale) / i128::from(time)).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_a_second() {
        let mut pace = Pace::default();
        assert_eq!(pace.rate(1000), None);
        (0..100).for_each(|n| pace.frame(n * 1001 / 30));
        assert!(pace.rate(1000).unwrap().abs_diff(29_970) < 20);
    }
}
