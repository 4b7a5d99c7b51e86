//! Bits of a bitstream, most significant first, with the variable-length codes of ITU-T H.264 clause 9.1.

use std::borrow::Cow;

use super::{MediaError, Result};

/// Reads bits and never past the end; each error names the structure and the element.
pub(crate) struct Bits<'a> {
    what: &'static str,
    data: &'a [u8],
    /// Bits read so far.
    pos: usize,
}

impl<'a> Bits<'a> {
    /// Reads `data`, which errors call `what`.
    pub(crate) fn new(what: &'static str, data: &'a [u8]) -> Self {
        // So that a position in bits fits `usize` on 32-bit machines too.
        let len = data.len().min(usize::MAX / 8);
        Self { what, data: data.get(..len).unwrap_or(data), pos: 0 }
    }

    /// The next `n` bits (at most 32).
    pub(crate) fn u(&mut self, n: u32, field: &'static str) -> Result<u32> {
        debug_assert!(n <= 32);
        let end = self.pos.saturating_add(n as usize);
        let last = end.div_ceil(8);
        let bytes = self.data.get(self.pos / 8..last).ok_or_else(|| self.truncated(field))?;
        // At most five bytes: 32 bits that start inside one.
        let sum = bytes.iter().fold(0u64, |sum, &b| sum << 8 | u64::from(b));
        let value = sum >> (last * 8 - end) & ((1u64 << n) - 1);
        self.pos = end;
        Ok(value as u32)
    }

    /// The next `n` bits (at most 8).
    pub(crate) fn u8(&mut self, n: u32, field: &'static str) -> Result<u8> {
        debug_assert!(n <= 8);
        Ok(self.u(n, field)? as u8)
    }

    /// The next bit.
    pub(crate) fn flag(&mut self, field: &'static str) -> Result<bool> {
        Ok(self.u(1, field)? == 1)
    }

    /// Passes over `n` bits.
    pub(crate) fn skip(&mut self, n: usize, field: &'static str) -> Result<()> {
        if n > self.left() {
            return Err(self.truncated(field));
        }
        self.pos += n;
        Ok(())
    }

    /// Passes over the rest of a byte that was begun.
    pub(crate) fn align(&mut self) {
        self.pos = self.pos.next_multiple_of(8);
    }

    /// An unsigned Exp-Golomb code, `ue(v)`.
    pub(crate) fn ue(&mut self, field: &'static str) -> Result<u32> {
        let mut zeros = 0;
        while !self.flag(field)? {
            zeros += 1;
            if zeros > 31 {
                // The largest code of the specifications is 2^32 - 2.
                return Err(self.invalid(
                    field,
                    u64::from(u32::MAX),
                    "an Exp-Golomb code of more than 32 bits",
                ));
            }
        }
        Ok((1u32 << zeros) - 1 + self.u(zeros, field)?)
    }

    /// An `ue(v)` of at most `max`.
    pub(crate) fn ue_max(&mut self, max: u32, field: &'static str) -> Result<u32> {
        let value = self.ue(field)?;
        if value > max {
            return Err(self.invalid(field, u64::from(value), "more than its specification allows"));
        }
        Ok(value)
    }

    /// A signed Exp-Golomb code, `se(v)`.
    pub(crate) fn se(&mut self, field: &'static str) -> Result<i32> {
        let code = i64::from(self.ue(field)?);
        let value = if code & 1 == 1 { (code + 1) / 2 } else { -(code / 2) };
        Ok(i32::try_from(value).unwrap_or(i32::MIN))
    }

    /// Bits that are left.
    pub(crate) fn left(&self) -> usize {
        (self.data.len() * 8).saturating_sub(self.pos)
    }

    pub(crate) fn truncated(&self, field: &'static str) -> MediaError {
        MediaError::Truncated { what: self.what, field, len: self.data.len() }
    }

    pub(crate) fn invalid(&self, field: &'static str, value: u64, why: &'static str) -> MediaError {
        MediaError::Invalid { what: self.what, field, value, why }
    }
}

/// Writes bits, most significant first.
#[derive(Default)]
pub(crate) struct BitWriter {
    out: Vec<u8>,
    /// Bits of the last byte that are used; 0: it is full.
    used: u32,
}

impl BitWriter {
    /// The low `n` bits of `value` (at most 32).
    pub(crate) fn put(&mut self, value: u32, n: u32) {
        for i in (0..n).rev() {
            if self.used == 0 {
                self.out.push(0);
            }
            if let Some(last) = self.out.last_mut() {
                *last |= ((value >> i & 1) as u8) << (7 - self.used);
            }
            self.used = (self.used + 1) % 8;
        }
    }

    /// Fills up the last byte with zeros.
    pub(crate) fn align(&mut self) {
        self.used = 0;
    }

    /// What was written.
    pub(crate) fn finish(self) -> Vec<u8> {
        self.out
    }
}

/// The bytes of a NAL unit without emulation prevention (each `00 00 03` becomes `00 00`); borrowed when there is none.
pub(crate) fn rbsp(nal: &[u8]) -> Cow<'_, [u8]> {
    if !nal.windows(3).any(|w| w == [0, 0, 3]) {
        return Cow::Borrowed(nal);
    }
    let mut out = Vec::with_capacity(nal.len());
    unescape(nal, |b| {
        out.push(b);
        true
    });
    Cow::Owned(out)
}

/// The first `N` bytes of a NAL unit without emulation prevention, for readers of slice headers.
pub(crate) fn rbsp_start<const N: usize>(nal: &[u8]) -> heapless::Vec<u8, N> {
    let mut out = heapless::Vec::new();
    unescape(nal, |b| out.push(b).is_ok());
    out
}

fn unescape(nal: &[u8], mut push: impl FnMut(u8) -> bool) {
    let mut zeros = 0;
    for &b in nal {
        if zeros >= 2 && b == 3 {
            zeros = 0;
            continue;
        }
        zeros = if b == 0 { zeros + 1 } else { 0 };
        if !push(b) {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn codes_of_table_9_2() {
        // 1 | 010 | 011 | 00100 | 00101 | 00110 | 00111 | 0001000, ue = 0..=7
        let mut w = BitWriter::default();
        for code in 1..=8u32 {
            let len = 32 - code.leading_zeros();
            w.put(0, len - 1);
            w.put(code, len);
        }
        let data = w.finish();
        let mut bits = Bits::new("test", &data);
        for n in 0..8 {
            assert_eq!(bits.ue("n").unwrap(), n);
        }
        let mut bits = Bits::new("test", &data);
        for n in [0, 1, -1, 2, -2, 3, -3, 4] {
            assert_eq!(bits.se("n").unwrap(), n);
        }
    }

    #[test]
    fn the_largest_code_and_one_more() {
        let largest = [0, 0, 0, 1, 0xFF, 0xFF, 0xFF, 0xFE];
        assert_eq!(Bits::new("test", &largest).ue("n").unwrap(), u32::MAX - 1);
        assert_eq!(Bits::new("test", &largest).se("n").unwrap(), -i32::MAX);
        assert!(matches!(Bits::new("test", &[0; 9]).ue("n"), Err(MediaError::Invalid { .. })));
        assert!(matches!(Bits::new("test", &[0; 3]).ue("n"), Err(MediaError::Truncated { len: 3, .. })));
    }

    #[test]
    fn emulation_prevention_goes() {
        assert_eq!(*rbsp(&[1, 0, 0, 3, 1, 0, 0, 3, 0, 0, 3]), [1, 0, 0, 1, 0, 0, 0, 0]);
        assert_eq!(*rbsp(&[0, 0, 3, 3]), [0, 0, 3]);
        assert!(matches!(rbsp(&[1, 2, 3]), Cow::Borrowed(_)));
        assert_eq!(rbsp_start::<3>(&[9, 0, 0, 3, 4]).as_slice(), [9, 0, 0]);
    }

    proptest! {
        #[test]
        fn written_bits_are_read(values: Vec<(u32, u8)>) {
            let mut w = BitWriter::default();
            for (value, n) in &values {
                w.put(*value, u32::from(n % 33));
            }
            let data = w.finish();
            let mut bits = Bits::new("test", &data);
            for (value, n) in values {
                let n = u32::from(n % 33);
                let mask = ((1u64 << n) - 1) as u32;
                prop_assert_eq!(bits.u(n, "v").unwrap(), value & mask);
            }
            prop_assert!(bits.left() < 8);
        }
    }
}
