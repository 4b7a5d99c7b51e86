//! Many channels to two or one, and one to two.

/// One, in the fixed point of the weights.
const ONE: i32 = 1 << 14;
/// 3 dB less: what stands in the middle goes to both sides.
const HALF_POWER: i32 = 11_585;

/// How much of a channel the left and the right one get.
type Weight = (i32, i32);

const LEFT: Weight = (ONE, 0);
const RIGHT: Weight = (0, ONE);
const CENTRE: Weight = (HALF_POWER, HALF_POWER);
const LEFT_BACK: Weight = (HALF_POWER, 0);
const RIGHT_BACK: Weight = (0, HALF_POWER);
const BACK: Weight = (HALF_POWER / 2, HALF_POWER / 2);
/// Low effects are left out, as ITU-R BS.775 does it.
const LOW: Weight = (0, 0);

/// Channels in the order of Vorbis (its specification, 4.3.9), as Opus has them.
const fn layout(channels: u8) -> &'static [Weight] {
    match channels {
        0 | 1 => &[CENTRE],
        2 => &[LEFT, RIGHT],
        3 => &[LEFT, CENTRE, RIGHT],
        4 => &[LEFT, RIGHT, LEFT_BACK, RIGHT_BACK],
        5 => &[LEFT, CENTRE, RIGHT, LEFT_BACK, RIGHT_BACK],
        6 => &[LEFT, CENTRE, RIGHT, LEFT_BACK, RIGHT_BACK, LOW],
        7 => &[LEFT, CENTRE, RIGHT, LEFT_BACK, RIGHT_BACK, BACK, LOW],
        8 => &[LEFT, CENTRE, RIGHT, LEFT_BACK, RIGHT_BACK, LEFT_BACK, RIGHT_BACK, LOW],
        // No order is known of more: the first two.
        _ => &[LEFT, RIGHT],
    }
}

/// Appends `samples` of `from` channels to `out` as `to` (1 or 2) channels. Never louder than it was, so that nothing is cut.
pub(super) fn mix(samples: &[i16], from: u8, to: u8, out: &mut Vec<i16>) {
    match (from, to) {
        (1, 1) | (2, 2) => out.extend_from_slice(samples),
        (1, _) => out.extend(samples.iter().flat_map(|&sample| [sample, sample])),
        (2, _) => out.extend(samples.as_chunks().0.iter().map(|&[l, r]| average(l, r))),
        _ => {
            let weights = layout(from);
            // Left and right get as much as each other.
            let sum: i32 = weights.iter().map(|weight| weight.0).sum::<i32>().max(ONE);
            for frame in samples.chunks_exact(usize::from(from.max(1))) {
                let (mut left, mut right) = (0, 0);
                for (&sample, weight) in frame.iter().zip(weights) {
                    left += i64::from(sample) * i64::from(weight.0);
                    right += i64::from(sample) * i64::from(weight.1);
                }
                let [left, right] = [left, right].map(|side| (side / i64::from(sum)) as i16);
                if to == 1 {
                    out.push(average(left, right));
                } else {
                    out.extend([left, right]);
                }
            }
        }
    }
}

fn average(left: i16, right: i16) -> i16 {
    i32::midpoint(left.into(), right.into()) as i16
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mixed(samples: &[i16], from: u8, to: u8) -> Vec<i16> {
        let mut out = Vec::new();
        mix(samples, from, to, &mut out);
        out
    }

    #[test]
    fn one_and_two_channels() {
        assert_eq!(mixed(&[1, -2], 1, 2), [1, 1, -2, -2]);
        assert_eq!(mixed(&[100, 200, -32_768, -32_768], 2, 1), [150, -32_768]);
        assert_eq!(mixed(&[1, 2, 3], 2, 2), [1, 2, 3]);
    }

    #[test]
    fn six_channels_keep_their_sides_and_are_not_cut() {
        let stereo = mixed(&[30_000, 0, 0, 0, 0, 0], 6, 2);
        assert!(stereo[0] > 10_000 && stereo[1] == 0, "{stereo:?}");
        let centre = mixed(&[0, 30_000, 0, 0, 0, 0], 6, 2);
        assert!(centre[0] == centre[1] && centre[0] > 7_000, "{centre:?}");
        assert_eq!(mixed(&[0, 0, 0, 0, 0, 30_000], 6, 2), [0, 0], "low effects");
        for channels in 3..=8 {
            let loud = mixed(&vec![i16::MAX; channels.into()], channels, 2);
            assert!(loud[0] > 20_000 && loud[0] == loud[1], "{channels}: {loud:?}");
            let low = mixed(&vec![i16::MIN; channels.into()], channels, 1);
            assert!(low[0] < -20_000, "{channels}: {low:?}");
        }
    }

    #[test]
    fn what_is_left_over_of_a_frame_is_dropped() {
        assert_eq!(mixed(&[1, 2, 3, 4, 5, 6, 7], 6, 1).len(), 1);
    }
}
