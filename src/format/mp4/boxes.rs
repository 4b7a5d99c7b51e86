//! Boxes (ISO/IEC 14496-12 4.2) as bytes: big-endian numbers, and lengths that are filled in when a box is closed.

use super::Mp4Error;

/// Writes boxes.
#[derive(Default)]
pub(super) struct Out {
    bytes: Vec<u8>,
}

impl Out {
    pub(super) fn with_capacity(capacity: usize) -> Self {
        Self { bytes: Vec::with_capacity(capacity) }
    }

    pub(super) fn u8(&mut self, value: u8) {
        self.bytes.push(value);
    }

    pub(super) fn u16(&mut self, value: u16) {
        self.put(&value.to_be_bytes());
    }

    /// The low 24 bits.
    pub(super) fn u24(&mut self, value: u32) {
        let [_, rest @ ..] = value.to_be_bytes();
        self.put(&rest);
    }

    pub(super) fn u32(&mut self, value: u32) {
        self.put(&value.to_be_bytes());
    }

    pub(super) fn i32(&mut self, value: i32) {
        self.put(&value.to_be_bytes());
    }

    pub(super) fn u64(&mut self, value: u64) {
        self.put(&value.to_be_bytes());
    }

    pub(super) fn put(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    pub(super) fn zeros(&mut self, n: usize) {
        self.bytes.resize(self.bytes.len() + n, 0);
    }

    /// Bytes so far.
    pub(super) fn len(&self) -> usize {
        self.bytes.len()
    }

    /// A box with what `content` writes.
    pub(super) fn boxed(&mut self, kind: &[u8; 4], content: impl FnOnce(&mut Self)) {
        let at = self.len();
        self.zeros(4);
        self.put(kind);
        content(self);
        // `finish` refuses what is too long for that.
        self.set_u32(at, u32::try_from(self.len() - at).unwrap_or(u32::MAX));
    }

    /// A full box (4.2): version and flags come first.
    pub(super) fn full(&mut self, kind: &[u8; 4], version: u8, flags: u32, content: impl FnOnce(&mut Self)) {
        self.boxed(kind, |w| {
            w.u8(version);
            w.u24(flags);
            content(w);
        });
    }

    /// A box that can fail; what of it was written must be thrown away then.
    pub(super) fn try_boxed(
        &mut self,
        kind: &[u8; 4],
        content: impl FnOnce(&mut Self) -> Result<(), Mp4Error>,
    ) -> Result<(), Mp4Error> {
        let mut result = Ok(());
        self.boxed(kind, |w| result = content(w));
        result
    }

    /// Writes over four bytes at `at`.
    pub(super) fn set_u32(&mut self, at: usize, value: u32) {
        if let Some(place) = self.bytes.get_mut(at..).and_then(|b| b.first_chunk_mut()) {
            *place = value.to_be_bytes();
        }
    }

    /// What was written.
    pub(super) fn finish(self, what: &'static str) -> Result<Vec<u8>, Mp4Error> {
        fits(what, self.bytes.len() as u64, u64::from(u32::MAX))?;
        Ok(self.bytes)
    }
}

/// Refuses a `value` above `max`.
pub(super) fn fits(what: &'static str, value: u64, max: u64) -> Result<(), Mp4Error> {
    if value > max { Err(Mp4Error::TooLarge { what, value, max }) } else { Ok(()) }
}
