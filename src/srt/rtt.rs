//! The round trip, smoothed (draft-sharabayko-srt-01, section 4.10).

/// A round trip and how it varies, in µs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Rtt {
    smoothed: u32,
    variance: u32,
    measured: bool,
}

/// Longest that is believed.
const MAX: u32 = 10_000_000;

impl Rtt {
    /// Before anything is known: 100 ms ± 50 ms.
    pub(super) const START: Self = Self { smoothed: 100_000, variance: 50_000, measured: false };

    /// Takes a measurement.
    pub(super) fn update(&mut self, sample: u32) {
        let sample = sample.min(MAX);
        if self.measured {
            let change = self.smoothed.abs_diff(sample);
            self.variance = (self.variance * 3 + change) / 4;
            self.smoothed = (self.smoothed * 7 + sample) / 8;
        } else {
            *self = Self { smoothed: sample, variance: sample / 2, measured: true };
        }
    }

    pub(super) fn smoothed(&self) -> u64 {
        self.smoothed.into()
    }

    pub(super) fn variance(&self) -> u64 {
        self.variance.into()
    }

    /// After this an answer is not expected any more.
    pub(super) fn timeout(&self) -> u64 {
        self.smoothed() + 4 * self.variance()
    }
}
