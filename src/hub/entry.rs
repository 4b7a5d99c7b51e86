use bytes::{Bytes, BytesMut};

use super::ring::Item;

/// One item of a feed: a frame as its readers get it, payload shared with the stream's ring.
#[derive(Debug)]
pub(crate) struct Entry {
    parts: Box<[Bytes]>,
    len: usize,
    at_ms: i64,
    join: bool,
}

impl Entry {
    /// An entry of bytes that belong to no frame: a head, a trailer, a reply.
    pub(super) fn of(bytes: Bytes) -> Self {
        Self { len: bytes.len(), parts: Box::new([bytes]), at_ms: 0, join: false }
    }

    pub(crate) fn parts(&self) -> &[Bytes] {
        &self.parts
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }
}

impl Item for std::sync::Arc<Entry> {
    fn size(&self) -> usize {
        self.len
    }
    fn at_ms(&self) -> i64 {
        self.at_ms
    }
    fn join(&self) -> bool {
        self.join
    }
}

/// Collects what a [`Package`](super::Package) writes: small pieces are gathered into one buffer, large
/// payloads are shared as they are.
#[derive(Debug, Default)]
pub struct Parts {
    parts: Vec<Bytes>,
    small: BytesMut,
    len: usize,
}

impl Parts {
    /// A payload below this many bytes is copied: a reference count and an I/O vector cost more.
    pub const SHARE_FROM: usize = 512;

    /// Adds a copy of `bytes`.
    pub fn put(&mut self, bytes: &[u8]) {
        self.small.extend_from_slice(bytes);
        self.len += bytes.len();
    }

    /// Adds `bytes`, shared with their owner if they are large.
    pub fn share(&mut self, bytes: Bytes) {
        if bytes.len() < Self::SHARE_FROM {
            self.put(&bytes);
            return;
        }
        self.cut();
        self.len += bytes.len();
        self.parts.push(bytes);
    }

    /// Adds `bytes` as a part of its own, which readers of packets send as one.
    pub fn packet(&mut self, bytes: Bytes) {
        self.cut();
        self.len += bytes.len();
        self.parts.push(bytes);
    }

    /// Adds all of `other`, without copying what is shared.
    pub fn append(&mut self, mut other: Self) {
        other.cut();
        other.parts.into_iter().for_each(|part| self.share(part));
    }

    /// Bytes added so far.
    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether nothing was added.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Everything added so far as one run of bytes; for tests.
    #[must_use]
    pub fn to_vec(&self) -> Vec<u8> {
        let mut all: Vec<u8> = self.parts.iter().flatten().copied().collect();
        all.extend_from_slice(&self.small);
        all
    }

    /// What was added, in parts.
    #[cfg(feature = "relay")]
    #[must_use]
    pub fn into_parts(mut self) -> Vec<Bytes> {
        self.cut();
        self.parts
    }

    pub(super) fn finish(mut self, at_ms: i64, join: bool) -> Entry {
        self.cut();
        Entry { parts: self.parts.into_boxed_slice(), len: self.len, at_ms, join }
    }

    fn cut(&mut self) {
        if !self.small.is_empty() {
            self.parts.push(Bytes::copy_from_slice(&self.small));
            self.small.clear();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_is_gathered_large_is_shared() {
        let large = Bytes::from(vec![7; Parts::SHARE_FROM]);
        let mut parts = Parts::default();
        parts.put(b"head");
        parts.share(Bytes::from_static(b"small"));
        parts.share(large.clone());
        let mut tail = Parts::default();
        tail.put(b"tail");
        parts.append(tail);
        assert_eq!(parts.to_vec().len(), parts.len());
        let entry = parts.finish(5, true);
        assert_eq!(entry.parts().len(), 3);
        assert_eq!(entry.parts()[0], "headsmall");
        assert_eq!(entry.parts()[1].as_ptr(), large.as_ptr());
        assert_eq!(entry.len(), 9 + Parts::SHARE_FROM + 4);
    }
}
