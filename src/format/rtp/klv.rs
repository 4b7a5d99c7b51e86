//! SMPTE 336M metadata (RFC 6597): units cut into packets, the marker on the last.

use bytes::Bytes;

use super::assembly::Assembly;
use super::{Depacketise, Packetise, Payload, Piece, Unit, pieces};

/// Units to packets.
pub(super) struct Packetiser {
    max: usize,
}

impl Packetiser {
    pub(super) fn new(max: usize) -> Self {
        Self { max }
    }
}

impl Packetise for Packetiser {
    fn frame(&mut self, data: &Bytes, _key: bool, out: &mut Vec<Payload>) {
        let begin = out.len();
        out.extend(pieces(data.len(), self.max).map(|range| Payload::new(&[], data.slice(range))));
        if let Some(last) = out.get_mut(begin..).and_then(<[Payload]>::last_mut) {
            last.marker = true;
        }
    }
}

/// Packets to units.
#[derive(Default)]
pub(super) struct Depacketiser {
    frame: Assembly,
}

impl Depacketise for Depacketiser {
    fn push(&mut self, piece: &Piece<'_>, each: &mut dyn FnMut(Unit)) {
        // A universal label begins each unit.
        self.frame.begin(piece, piece.payload.starts_with(&[0x06, 0x0E, 0x2B, 0x34]), each);
        self.frame.put(piece.payload);
        if piece.marker {
            self.frame.finish(each);
        }
    }
}
