//! AV1 ("RTP Payload Format For AV1", 1.0.0): OBUs without their sizes, in pieces where they are long.

use bytes::Bytes;

use super::assembly::Assembly;
use super::{Depacketise, MAX_FRAME, Packetise, Payload, Piece, Unit, pieces};
use crate::media::av1::{obus, put_obu};

/// Aggregation header: the first element goes on from the packet before.
const Z: u8 = 0x80;
/// The last element goes on in the next packet.
const Y: u8 = 0x40;
/// A coded video sequence begins.
const N: u8 = 0x08;
/// One element, without a length.
const ONE: u8 = 0x10;

const TEMPORAL_DELIMITER: u8 = 2;
const TILE_LIST: u8 = 8;

/// Frames to packets.
pub(super) struct Packetiser {
    max: usize,
}

impl Packetiser {
    pub(super) fn new(max: usize) -> Self {
        Self { max }
    }

    /// One OBU alone, in as many packets as it takes.
    fn alone(&self, header: &[u8], payload: &Bytes, out: &mut Vec<Payload>) {
        let mut ranges = pieces(payload.len(), self.max - 3).peekable();
        let mut flags = ONE;
        let Some(&first) = header.first() else { return };
        let mut element = [first & !2, header.get(1).copied().unwrap_or(0)];
        let mut header: &[u8] = element.get_mut(..header.len().min(2)).unwrap_or_default();
        if ranges.peek().is_none() {
            out.push(Payload::new(&[&[flags], header].concat(), Bytes::new()));
        }
        while let Some(range) = ranges.next() {
            let more = if ranges.peek().is_some() { Y } else { 0 };
            out.push(Payload::new(&[&[flags | more], header].concat(), payload.slice(range)));
            (flags, header) = (ONE | Z, &[]);
        }
    }
}

/// The bytes of a number of 7 bits each.
fn put_leb128(mut value: usize, out: &mut Vec<u8>) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

impl Packetise for Packetiser {
    fn frame(&mut self, data: &Bytes, key: bool, out: &mut Vec<Payload>) {
        let begin = out.len();
        // Short ones that go together, each after its length.
        let mut group: Vec<u8> = Vec::new();
        let flush = |group: &mut Vec<u8>, out: &mut Vec<Payload>| {
            if !group.is_empty() {
                out.push(Payload::new(&[0], std::mem::take(group).into()));
            }
        };
        for obu in obus(data).map_while(Result::ok) {
            if matches!(obu.obu_type, TEMPORAL_DELIMITER | TILE_LIST) {
                continue;
            }
            let size = obu.header.len() + obu.payload.len();
            if group.len() + size + 4 > self.max {
                flush(&mut group, out);
            }
            if size + 4 > self.max {
                self.alone(obu.header, &data.slice_ref(obu.payload), out);
            } else {
                put_leb128(size, &mut group);
                group.extend(obu.header.iter().enumerate().map(|(n, b)| if n == 0 { b & !2 } else { *b }));
                group.extend_from_slice(obu.payload);
            }
        }
        flush(&mut group, out);
        let Some(packets) = out.get_mut(begin..) else { return };
        if let Some(flags) = packets.first_mut().filter(|_| key).and_then(|first| first.head.first_mut()) {
            *flags |= N;
        }
        if let Some(last) = packets.last_mut() {
            last.marker = true;
        }
    }
}

/// Packets to frames.
#[derive(Default)]
pub(super) struct Depacketiser {
    frame: Assembly,
    /// An OBU whose end is in a packet to come.
    open: Option<Vec<u8>>,
}

impl Depacketiser {
    fn element(&mut self, element: &[u8]) {
        match obus(element).next() {
            _ if element.is_empty() => {}
            Some(Ok(obu)) if matches!(obu.obu_type, TEMPORAL_DELIMITER | TILE_LIST | 15) => {}
            Some(Ok(obu)) => {
                let mut bytes = Vec::with_capacity(element.len() + 8);
                put_obu(&mut bytes, &obu);
                self.frame.put(&bytes);
            }
            _ => self.frame.damage(),
        }
    }

    fn read(&mut self, flags: u8, mut rest: &[u8]) -> Option<()> {
        let count = flags >> 4 & 3;
        let mut index = 0;
        let mut goes_on = flags & Z != 0;
        if !goes_on && self.open.take().is_some() {
            self.frame.damage();
        }
        while !rest.is_empty() {
            index += 1;
            let element = if index == count {
                std::mem::take(&mut rest)
            } else {
                let (len, after) = leb128(rest)?;
                let (element, after) = after.split_at_checked(len)?;
                rest = after;
                element
            };
            let open = flags & Y != 0 && rest.is_empty();
            match (std::mem::take(&mut goes_on), open) {
                (false, false) => self.element(element),
                (false, true) => self.open = Some(element.to_vec()),
                (true, open) => {
                    // Its beginning was lost.
                    let mut begun = self.open.take()?;
                    if begun.len() + element.len() > MAX_FRAME {
                        return None;
                    }
                    begun.extend_from_slice(element);
                    if open {
                        self.open = Some(begun);
                    } else {
                        self.element(&begun);
                    }
                }
            }
        }
        Some(())
    }
}

fn leb128(data: &[u8]) -> Option<(usize, &[u8])> {
    let mut value = 0;
    for (n, &byte) in data.iter().enumerate().take(4) {
        value |= usize::from(byte & 0x7F) << (7 * n);
        if byte & 0x80 == 0 {
            return Some((value, data.get(n + 1..)?));
        }
    }
    None
}

impl Depacketise for Depacketiser {
    fn push(&mut self, piece: &Piece<'_>, each: &mut dyn FnMut(Unit)) {
        let Some((&flags, rest)) = piece.payload.split_first() else { return };
        if self.open.is_some() && (piece.lost || !self.frame.goes_on(piece)) {
            self.open = None;
            self.frame.damage();
        }
        // Which packet is the first of its frame is told only where a sequence begins.
        self.frame.begin(piece, flags & N != 0, each);
        if self.read(flags, rest).is_none() {
            self.open = None;
            self.frame.damage();
        }
        if piece.marker {
            if self.open.take().is_some() {
                self.frame.damage();
            }
            self.frame.finish(each);
        }
    }
}
