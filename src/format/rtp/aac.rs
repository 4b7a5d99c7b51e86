//! AAC (RFC 3640 3.3): access units after their sizes.

use bytes::{Buf, Bytes};

use super::{Depacketise, MAX_FRAME, Packetise, Payload, Piece, Unit, pieces};

/// Sizes of the fields of access unit headers, and what an access unit is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AacFormat {
    /// Bits of the size (`sizelength`).
    pub size_bits: u8,
    /// Bits of the index (`indexlength`), and of the difference of indices (`indexdeltalength`).
    pub index_bits: (u8, u8),
    /// Samples of an access unit: ticks between those of one packet.
    pub samples: u32,
}

impl AacFormat {
    /// High bit rate (3.3.6): what everybody uses.
    pub const HBR: Self = Self { size_bits: 13, index_bits: (3, 3), samples: 1024 };
    /// Low bit rate (3.3.5).
    pub const LBR: Self = Self { size_bits: 6, index_bits: (2, 2), samples: 1024 };
}

/// Access units to packets.
pub(super) struct Packetiser {
    format: AacFormat,
    max: usize,
}

impl Packetiser {
    pub(super) fn new(format: AacFormat, max: usize) -> Self {
        Self { format, max }
    }
}

impl Packetise for Packetiser {
    fn frame(&mut self, data: &Bytes, _key: bool, out: &mut Vec<Payload>) {
        let begin = out.len();
        let bits = u16::from(self.format.size_bits) + u16::from(self.format.index_bits.0);
        if data.len() >= 1 << self.format.size_bits.min(16) || bits > 16 {
            return; // has no form
        }
        let [l0, l1] = bits.to_be_bytes();
        let header = (data.len() as u16) << (16 - u16::from(self.format.size_bits).min(16));
        let header = header.to_be_bytes();
        let mut head = vec![l0, l1];
        head.extend_from_slice(header.get(..usize::from(bits.div_ceil(8))).unwrap_or_default());
        out.extend(
            pieces(data.len(), self.max - head.len()).map(|range| Payload::new(&head, data.slice(range))),
        );
        if let Some(last) = out.get_mut(begin..).and_then(<[Payload]>::last_mut) {
            last.marker = true;
        }
    }
}

/// Packets to access units.
pub(super) struct Depacketiser {
    format: AacFormat,
    /// An access unit in pieces: its time, its size, what there is.
    open: Option<(i64, usize, Vec<u8>)>,
    lost: bool,
}

impl Depacketiser {
    pub(super) fn new(format: AacFormat) -> Self {
        Self { format, open: None, lost: false }
    }

    fn read(&mut self, piece: &Piece<'_>, each: &mut dyn FnMut(Unit)) -> Option<()> {
        let mut rest = piece.payload.clone();
        let bits = usize::from(u16::from_be_bytes(*rest.first_chunk::<2>()?));
        rest.advance(2);
        if rest.len() < bits.div_ceil(8) {
            return None;
        }
        let headers = rest.split_to(bits.div_ceil(8));
        let (mut at, mut index) = (0usize, 0);
        let mut timestamp = piece.timestamp;
        loop {
            let index_bits = if index == 0 { self.format.index_bits.0 } else { self.format.index_bits.1 };
            let size_bits = usize::from(self.format.size_bits);
            if at + size_bits + usize::from(index_bits) > bits {
                break;
            }
            let size = number(&headers, at, size_bits)? as usize;
            let ahead = number(&headers, at + size_bits, index_bits.into())?;
            at += size_bits + usize::from(index_bits);
            if index > 0 {
                let step = i64::from(self.format.samples) * (1 + i64::from(ahead));
                timestamp = timestamp.saturating_add(step);
            }
            index += 1;
            if rest.len() < size {
                // A piece of one: it is alone in its packets.
                return self.part(piece, timestamp, size, &rest, each);
            }
            self.lost |= self.open.take().is_some();
            let data = rest.split_to(size);
            if !data.is_empty() {
                each(Unit { timestamp, data, lost: std::mem::take(&mut self.lost), config: None });
            }
        }
        Some(())
    }

    fn part(
        &mut self,
        piece: &Piece<'_>,
        timestamp: i64,
        size: usize,
        part: &[u8],
        each: &mut dyn FnMut(Unit),
    ) -> Option<()> {
        if self.open.as_ref().is_some_and(|(at, _, _)| piece.lost || *at != timestamp) {
            self.open = None;
            self.lost = true;
        }
        let (_, wanted, data) = self.open.get_or_insert((timestamp, size, Vec::new()));
        if data.len() + part.len() > (*wanted).min(MAX_FRAME) {
            return None;
        }
        data.extend_from_slice(part);
        if data.len() == *wanted
            && let Some((timestamp, _, data)) = self.open.take()
        {
            each(Unit { timestamp, data: data.into(), lost: std::mem::take(&mut self.lost), config: None });
        } else if piece.marker {
            return None; // its first piece was lost
        }
        Some(())
    }
}

impl Depacketise for Depacketiser {
    fn push(&mut self, piece: &Piece<'_>, each: &mut dyn FnMut(Unit)) {
        self.lost |= piece.lost;
        if piece.payload.is_empty() {
            return;
        }
        if self.read(piece, each).is_none() {
            self.open = None;
            self.lost = true;
        }
    }
}

/// `len` bits (at most 24) from `at`.
fn number(data: &[u8], at: usize, len: usize) -> Option<u32> {
    let bytes = data.get(at / 8..(at + len).div_ceil(8))?;
    let sum = bytes.iter().fold(0u64, |sum, &byte| sum << 8 | u64::from(byte));
    let below = 8 * (at + len).div_ceil(8) - at - len;
    Some((sum >> below & ((1 << len) - 1)) as u32)
}
