//! From one sample rate to another, and a little faster or slower: a windowed sinc in fixed point.

/// How finely the filter is tabulated between two samples; in between it is interpolated.
const PHASES: usize = 128;
/// Samples that one is made of, where the rate does not fall.
const TAPS: usize = 24;
/// One, in the fixed point of the table: with one bit left for sums that overshoot.
const ONE: f64 = 16_384.0;
/// Where the filter begins to fall, of the lower rate: what is above would come back as another tone.
const CUT: f64 = 0.92;
/// One sample, in the fixed point of positions.
const SAMPLE: u64 = 1 << 32;

/// Turns one or two channels of a rate into as many of another. What comes first comes out as the first: its delay is only
/// that some samples are waited for.
#[derive(Debug)]
pub(super) struct Resampler {
    channels: usize,
    from: u32,
    to: u32,
    taps: usize,
    /// `PHASES + 1` filters of `taps` coefficients.
    table: Vec<i16>,
    /// Samples that are still needed, channels in turn.
    held: Vec<i16>,
    /// Where the next filter begins among them, in parts of a [`SAMPLE`].
    place: u64,
    step: u64,
}

impl Resampler {
    /// Of 1 or 2 channels. Rates are from 4 kHz to 192 kHz; others are taken for the nearest of these.
    pub(super) fn new(channels: u8, from: u32, to: u32) -> Self {
        let [from, to] = [from, to].map(|rate| rate.clamp(4000, 192_000));
        let channels = usize::from(channels.clamp(1, 2));
        let fall = (f64::from(to) / f64::from(from)).min(1.0);
        let taps = (TAPS as f64 / fall / 2.0).ceil() as usize * 2;
        let mut resampler = Self {
            channels,
            from,
            to,
            taps,
            table: table(taps, fall * CUT),
            held: Vec::new(),
            place: 0,
            step: 0,
        };
        resampler.restart();
        resampler.stretch(0);
        resampler
    }

    /// Samples per second that go in.
    pub(super) fn from(&self) -> u32 {
        self.from
    }

    /// Forgets what was put in.
    pub(super) fn restart(&mut self) {
        self.held.clear();
        self.held.resize((self.taps / 2 - 1) * self.channels, 0);
        self.place = 0;
    }

    /// Gives `millionths` more than the rates say (less, where negative).
    pub(super) fn stretch(&mut self, millionths: i32) {
        let exact = (u64::from(self.from) << 32) / u64::from(self.to);
        let change = exact.cast_signed() / 1_000_000 * i64::from(millionths);
        self.step = exact.saturating_add_signed(-change);
        if self.step == SAMPLE && self.place & (SAMPLE / 2) != 0 {
            self.place += SAMPLE;
        }
        if self.step == SAMPLE {
            // Back to what needs no filter: less than half a sample is skipped or heard twice.
            self.place &= !(SAMPLE - 1);
        }
    }

    /// How many samples of the new rate and each channel are still to come of what was put in.
    pub(super) fn pending(&self) -> i64 {
        let held = ((self.held.len() / self.channels) as u64) << 32;
        let before = ((self.taps as u64 / 2 - 1) << 32) + self.place;
        let left = (held.cast_signed() - before.cast_signed()) >> 16;
        ((left * i64::from(self.to) / i64::from(self.from)) + (1 << 15)) >> 16
    }

    /// Puts `samples` in and appends to `out` what they make.
    pub(super) fn run(&mut self, samples: &[i16], out: &mut Vec<i16>) {
        self.held.extend_from_slice(samples);
        let len = self.held.len() / self.channels;
        if self.step == SAMPLE && self.place.is_multiple_of(SAMPLE) {
            self.copy(len, out);
        } else {
            self.filter(len, out);
        }
        let done = ((self.place >> 32) as usize).min(len);
        self.held.drain(..done * self.channels);
        self.place -= (done as u64) << 32;
    }

    /// The rates are equal: the middle of the filter.
    fn copy(&mut self, len: usize, out: &mut Vec<i16>) {
        let first = (self.place >> 32) as usize;
        let count = (len + 1).saturating_sub(first + self.taps);
        let from = (first + self.taps / 2 - 1) * self.channels;
        out.extend(self.held.iter().skip(from).take(count * self.channels));
        self.place += (count as u64) << 32;
    }

    fn filter(&mut self, len: usize, out: &mut Vec<i16>) {
        const FINE: u32 = 32 - PHASES.ilog2();
        let width = self.taps * self.channels;
        loop {
            let first = (self.place >> 32) as usize;
            let fraction = self.place as u32;
            if first + self.taps > len {
                return;
            }
            let phase = (fraction >> FINE) as usize;
            let between = ((fraction << (32 - FINE)) >> 17) as i32;
            let window = self.held.get(first * self.channels..first * self.channels + width);
            let near = self.table.get(phase * self.taps..(phase + 1) * self.taps);
            let next = self.table.get((phase + 1) * self.taps..(phase + 2) * self.taps);
            let (Some(window), Some(near), Some(next)) = (window, near, next) else { return };
            let weights = near.iter().zip(next).map(|(&near, &next)| {
                i32::from(near) + (((i32::from(next) - i32::from(near)) * between) >> 15)
            });
            if self.channels == 2 {
                let (mut left, mut right) = (0_i32, 0_i32);
                for (weight, &[l, r]) in weights.zip(window.as_chunks().0) {
                    left = left.wrapping_add(weight * i32::from(l));
                    right = right.wrapping_add(weight * i32::from(r));
                }
                out.extend([rounded(left), rounded(right)]);
            } else {
                let sum = weights
                    .zip(window)
                    .fold(0_i32, |sum, (weight, &sample)| sum.wrapping_add(weight * i32::from(sample)));
                out.push(rounded(sum));
            }
            self.place += self.step;
        }
    }
}

fn rounded(sum: i32) -> i16 {
    (sum.saturating_add(ONE as i32 / 2) >> 14).clamp(i16::MIN.into(), i16::MAX.into()) as i16
}

/// The filters for each place between two samples, that pass frequencies up to `cut` of half the rate.
fn table(taps: usize, cut: f64) -> Vec<i16> {
    use std::f64::consts::PI;
    let half = taps as f64 / 2.0;
    let mut table = Vec::with_capacity((PHASES + 1) * taps);
    for phase in 0..=PHASES {
        let middle = half - 1.0 + phase as f64 / PHASES as f64;
        let weights: Vec<f64> = (0..taps)
            .map(|tap| {
                let x = tap as f64 - middle;
                let sinc = if x.abs() < 1e-9 { cut } else { (PI * x * cut).sin() / (PI * x) };
                // Blackman's window.
                let w = (PI * x / half).cos();
                let window = if x.abs() > half { 0.0 } else { 0.34 + 0.5 * w + 0.16 * w * w };
                sinc * window
            })
            .collect();
        let sum: f64 = weights.iter().sum();
        table.extend(weights.iter().map(|weight| (weight / sum * ONE).round() as i16));
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::f64::consts::TAU;

    fn tone(rate: u32, hertz: f64, channels: usize, len: usize) -> Vec<i16> {
        let sample = |n: usize| (12_000.0 * (TAU * hertz * n as f64 / f64::from(rate)).sin()) as i16;
        (0..len).flat_map(|n| std::iter::repeat_n(sample(n), channels)).collect()
    }

    /// Signal to noise against the tone that should come out, in dB.
    fn quality(out: &[i16], rate: u32, hertz: f64, channels: usize) -> f64 {
        let ideal = tone(rate, hertz, channels, out.len() / channels);
        let skip = 100 * channels;
        let (mut signal, mut noise) = (0.0, 0.0);
        for (&got, &want) in out.iter().zip(&ideal).skip(skip) {
            signal += f64::from(want).powi(2);
            noise += (f64::from(got) - f64::from(want)).powi(2);
        }
        10.0 * (signal / noise.max(1.0)).log10()
    }

    #[test]
    fn tones_stay_what_and_where_they_are() {
        for (from, to) in
            [(44_100, 48_000), (8000, 48_000), (96_000, 48_000), (22_050, 48_000), (32_000, 48_000)]
        {
            for channels in [1, 2] {
                let mut resampler = Resampler::new(channels as u8, from, to);
                let input = tone(from, 1000.0, channels, from as usize / 2);
                let mut out = Vec::new();
                for piece in input.chunks(1024 * channels) {
                    resampler.run(piece, &mut out);
                }
                let made = (out.len() / channels) as i64 + resampler.pending();
                assert!((made - i64::from(to) / 2).abs() <= 1, "{from}: {made}");
                let quality = quality(&out, to, 1000.0, channels);
                assert!(quality > 55.0, "{from} to {to}, {channels} channels: {quality:.1} dB");
            }
        }
    }

    #[test]
    fn what_the_new_rate_can_not_carry_is_gone() {
        let mut resampler = Resampler::new(1, 96_000, 48_000);
        let mut out = Vec::new();
        resampler.run(&tone(96_000, 30_000.0, 1, 48_000), &mut out);
        let loudest = out.iter().skip(100).map(|sample| sample.unsigned_abs()).max().unwrap();
        assert!(loudest < 40, "{loudest} of 12000");
    }

    #[test]
    fn equal_rates_change_nothing() {
        let mut resampler = Resampler::new(2, 48_000, 48_000);
        let input = tone(48_000, 440.0, 2, 5000);
        let mut out = Vec::new();
        for piece in input.chunks(74) {
            resampler.run(piece, &mut out);
        }
        assert_eq!(out, input[..out.len()]);
        assert_eq!(out.len() / 2 + TAPS / 2, 5000);
        assert_eq!(resampler.pending(), TAPS as i64 / 2);
    }

    #[test]
    fn stretched_by_millionths() {
        let mut resampler = Resampler::new(1, 48_000, 48_000);
        resampler.stretch(2000);
        let mut out = Vec::new();
        resampler.run(&tone(48_000, 440.0, 1, 100_000), &mut out);
        assert!((out.len() as i64 - 100_200 + 12).abs() < 3, "{}", out.len());
        resampler.stretch(0);
        let before = out.len();
        resampler.run(&tone(48_000, 440.0, 1, 1000), &mut out);
        assert!((out.len() as i64 - before as i64 - 1000).abs() <= 1);
    }

    #[test]
    fn loud_noise_is_cut_and_does_not_wrap() {
        let mut resampler = Resampler::new(1, 44_100, 48_000);
        let square: Vec<i16> = (0..4410).map(|n| if n / 20 % 2 == 0 { i16::MAX } else { i16::MIN }).collect();
        let mut out = Vec::new();
        resampler.run(&square, &mut out);
        // The middle of each half wave keeps its sign.
        for n in (0..200).map(|half| half * 20 + 10) {
            let at = n * 48_000 / 44_100;
            assert_eq!(out[at] > 0, square[n] > 0, "{n}");
        }
    }
}
