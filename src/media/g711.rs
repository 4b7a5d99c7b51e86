//! G.711 (ITU-T G.711): a byte is a sample, nothing else is in the stream.

use super::Facts;

/// Samples per second, where nothing else is said.
pub const SAMPLE_RATE: u32 = 8000;

/// Samples per channel in `len` bytes of this many channels.
#[must_use]
pub fn packet_samples(len: usize, channels: u8) -> usize {
    len / usize::from(channels.max(1))
}

/// 8 kHz mono; browsers and MP4 have no codec string that they agree on.
pub(crate) fn facts() -> Facts {
    Facts { sample_rate: SAMPLE_RATE, channels: 1, ..Facts::default() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_byte_is_a_sample() {
        assert_eq!(packet_samples(160, 1), 160);
        assert_eq!(packet_samples(320, 2), 160);
        assert_eq!(packet_samples(5, 0), 5);
        assert_eq!((facts().sample_rate, facts().channels), (8000, 1));
    }
}
