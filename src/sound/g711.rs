//! G.711 (ITU-T G.711): bytes to samples.

/// A sample of A-law.
pub(super) const fn a_law(byte: u8) -> i16 {
    let byte = byte ^ 0x55;
    let mantissa = ((byte & 0x0F) as i16) << 4;
    let magnitude = match (byte >> 4) & 7 {
        0 => mantissa + 8,
        segment => (mantissa + 0x108) << (segment - 1),
    };
    if byte & 0x80 == 0 { -magnitude } else { magnitude }
}

/// A sample of µ-law.
pub(super) const fn mu_law(byte: u8) -> i16 {
    const BIAS: i16 = 0x84;
    let byte = !byte;
    let magnitude = ((((byte & 0x0F) as i16) << 3) + BIAS) << ((byte >> 4) & 7);
    if byte & 0x80 == 0 { magnitude - BIAS } else { BIAS - magnitude }
}

#[cfg(test)]
mod tests {
    use super::*;

    // G.711, tables 1a to 2b: the ends of the segments, in 16 bits.
    #[test]
    fn samples_are_those_of_the_recommendation() {
        let a =
            [(0xD5, 8), (0x55, -8), (0xAA, 32_256), (0x2A, -32_256), (0xC5, 264), (0xF5, 528), (0x80, 5_504)];
        for (byte, sample) in a {
            assert_eq!(a_law(byte), sample, "A-law {byte:#x}");
        }
        let mu =
            [(0xFF, 0), (0x7F, 0), (0x80, 32_124), (0x00, -32_124), (0xFE, 8), (0xEF, 132), (0x8F, 16_764)];
        for (byte, sample) in mu {
            assert_eq!(mu_law(byte), sample, "µ-law {byte:#x}");
        }
    }

    #[test]
    fn both_laws_are_symmetric() {
        for byte in 0..128 {
            assert_eq!(a_law(byte), -a_law(byte | 0x80));
            assert_eq!(mu_law(byte), -mu_law(byte | 0x80));
        }
    }
}
