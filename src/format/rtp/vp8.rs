//! VP8 (RFC 7741).

use bytes::Bytes;

use super::assembly::Assembly;
use super::{Depacketise, Packetise, Payload, Piece, Unit, pieces};

/// Frames to packets. Each frame has a picture id of 15 bits, by which receivers see that one is missing.
pub(super) struct Packetiser {
    max: usize,
    picture: u16,
}

impl Packetiser {
    pub(super) fn new(max: usize) -> Self {
        Self { max, picture: 0 }
    }
}

impl Packetise for Packetiser {
    fn frame(&mut self, data: &Bytes, _key: bool, out: &mut Vec<Payload>) {
        let [high, low] = (self.picture | 0x8000).to_be_bytes();
        self.picture = self.picture.wrapping_add(1);
        let begin = out.len();
        // X; S on the first.
        let mut first = 0x90;
        for range in pieces(data.len(), self.max - 4) {
            out.push(Payload::new(&[first, 0x80, high, low], data.slice(range)));
            first = 0x80;
        }
        if let Some(last) = out.get_mut(begin..).and_then(<[Payload]>::last_mut) {
            last.marker = true;
        }
    }
}

/// Packets to frames.
#[derive(Default)]
pub(super) struct Depacketiser {
    frame: Assembly,
}

/// What stands behind the descriptor (4.2), and whether it begins a frame.
pub(super) fn body(payload: &[u8]) -> Option<(&[u8], bool)> {
    let (&first, mut rest) = payload.split_first()?;
    if first & 0x80 != 0 {
        let (&flags, after) = rest.split_first()?;
        rest = after;
        let mut skip = 0;
        if flags & 0x80 != 0 {
            skip += if rest.first()? & 0x80 != 0 { 2 } else { 1 };
        }
        skip += usize::from(flags & 0x40 != 0);
        skip += usize::from(flags & 0x30 != 0);
        rest = rest.get(skip..)?;
    }
    Some((rest, first & 0x17 == 0x10))
}

impl Depacketise for Depacketiser {
    fn push(&mut self, piece: &Piece<'_>, each: &mut dyn FnMut(Unit)) {
        if piece.payload.is_empty() {
            return;
        }
        let body = body(piece.payload);
        let begins = body.is_some_and(|(_, begins)| begins);
        let goes_on = self.frame.goes_on(piece);
        self.frame.begin(piece, begins, each);
        match body {
            Some((body, _)) if begins || goes_on => self.frame.put(body),
            // Not the first, but nothing came before.
            _ => self.frame.damage(),
        }
        if piece.marker {
            self.frame.finish(each);
        }
    }
}
