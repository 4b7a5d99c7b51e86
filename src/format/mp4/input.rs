//! Boxes as they are read: never past their end.

use super::Mp4Error;

/// The head of a box (ISO/IEC 14496-12 4.2.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Head {
    pub kind: [u8; 4],
    /// Bytes of the whole box; `None`: it reaches to the end of the file.
    pub size: Option<u64>,
    /// Bytes of the head.
    pub len: u64,
}

impl Head {
    /// The longest: size, type, large size.
    pub(super) const MAX: usize = 16;

    /// `None` where `data` is too short to tell, or the size smaller than the head.
    pub(super) fn parse(data: &[u8]) -> Option<Self> {
        let (size, rest) = data.split_first_chunk::<4>()?;
        let (kind, rest) = rest.split_first_chunk::<4>()?;
        let (size, len) = match u32::from_be_bytes(*size) {
            0 => (None, 8),
            1 => (Some(u64::from_be_bytes(*rest.first_chunk()?)), 16),
            size => (Some(u64::from(size)), 8),
        };
        (size.is_none_or(|size| size >= len)).then_some(Self { kind: *kind, size, len })
    }

    /// Whether its type is letters: what was never written, or is damaged, mostly isn't.
    pub(super) fn is_plausible(&self) -> bool {
        self.kind.iter().all(|b| b.is_ascii_graphic() || *b == b' ' || *b == 0xA9)
    }
}

/// What is left of a box's content.
#[derive(Debug, Clone, Copy)]
pub(super) struct In<'a> {
    pub kind: [u8; 4],
    /// Where `data` begins in the file.
    pub at: u64,
    pub data: &'a [u8],
}

impl<'a> In<'a> {
    pub(super) fn new(kind: [u8; 4], at: u64, data: &'a [u8]) -> Self {
        Self { kind, at, data }
    }

    pub(super) fn truncated(&self) -> Mp4Error {
        Mp4Error::Truncated { kind: self.kind, at: self.at }
    }

    pub(super) fn invalid(&self, what: &'static str, value: u64, why: &'static str) -> Mp4Error {
        Mp4Error::Invalid { kind: self.kind, what, value, why }
    }

    pub(super) fn take(&mut self, n: usize) -> Result<&'a [u8], Mp4Error> {
        let (taken, rest) = self.data.split_at_checked(n).ok_or_else(|| self.truncated())?;
        self.data = rest;
        self.at = self.at.saturating_add(n as u64);
        Ok(taken)
    }

    pub(super) fn skip(&mut self, n: usize) -> Result<(), Mp4Error> {
        self.take(n).map(drop)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Mp4Error> {
        self.take(N)?.first_chunk().copied().ok_or_else(|| self.truncated())
    }

    pub(super) fn u8(&mut self) -> Result<u8, Mp4Error> {
        self.array().map(u8::from_be_bytes)
    }

    pub(super) fn u16(&mut self) -> Result<u16, Mp4Error> {
        self.array().map(u16::from_be_bytes)
    }

    pub(super) fn u32(&mut self) -> Result<u32, Mp4Error> {
        self.array().map(u32::from_be_bytes)
    }

    pub(super) fn i32(&mut self) -> Result<i32, Mp4Error> {
        self.array().map(i32::from_be_bytes)
    }

    pub(super) fn u64(&mut self) -> Result<u64, Mp4Error> {
        self.array().map(u64::from_be_bytes)
    }

    /// A number of 64 bits, or of 32 in version 0.
    pub(super) fn long(&mut self, version: u8) -> Result<u64, Mp4Error> {
        if version == 0 { self.u32().map(u64::from) } else { self.u64() }
    }

    /// Version and flags of a full box.
    pub(super) fn full(&mut self) -> Result<(u8, u32), Mp4Error> {
        let word = self.u32()?;
        Ok(((word >> 24) as u8, word & 0xFF_FFFF))
    }

    /// The next box of those that are in here; `None` at the end. Up to seven bytes that are left over, as some writers
    /// leave them, are passed over.
    pub(super) fn child(&mut self) -> Result<Option<In<'a>>, Mp4Error> {
        if self.data.len() < 8 {
            return Ok(None);
        }
        let head = Head::parse(self.data).ok_or_else(|| self.truncated())?;
        let size = head.size.unwrap_or(self.data.len() as u64);
        let at = self.at;
        let size = usize::try_from(size).map_err(|_| Mp4Error::Truncated { kind: head.kind, at })?;
        let whole = self.take(size).map_err(|_| Mp4Error::Truncated { kind: head.kind, at })?;
        let content = whole.get(head.len as usize..).ok_or_else(|| self.truncated())?;
        Ok(Some(In::new(head.kind, at.saturating_add(head.len), content)))
    }

    /// The first box of this type in here.
    pub(super) fn find(&self, kind: &[u8; 4]) -> Result<Option<In<'a>>, Mp4Error> {
        let mut rest = *self;
        while let Some(child) = rest.child()? {
            if &child.kind == kind {
                return Ok(Some(child));
            }
        }
        Ok(None)
    }

    /// The first box of this type, which has to be there.
    pub(super) fn demand(&self, kind: &[u8; 4]) -> Result<In<'a>, Mp4Error> {
        self.find(kind)?.ok_or(Mp4Error::Truncated { kind: self.kind, at: self.at })
    }
}
