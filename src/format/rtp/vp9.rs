//! VP9 (RFC 9628). Layers of a picture are put together in their order.

use bytes::Bytes;

use super::assembly::Assembly;
use super::{Depacketise, Packetise, Payload, Piece, Unit, pieces};

/// Frames to packets, without layers.
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
    fn frame(&mut self, data: &Bytes, key: bool, out: &mut Vec<Payload>) {
        let [high, low] = (self.picture | 0x8000).to_be_bytes();
        self.picture = self.picture.wrapping_add(1);
        let begin = out.len();
        // I; P where it refers to others; B on the first and E on the last.
        let mut first = if key { 0x88 } else { 0xC8 };
        for range in pieces(data.len(), self.max - 3) {
            out.push(Payload::new(&[first, high, low], data.slice(range)));
            first &= !0x08;
        }
        if let Some(last) = out.get_mut(begin..).and_then(<[Payload]>::last_mut) {
            last.marker = true;
            if let Some(flags) = last.head.first_mut() {
                *flags |= 0x04;
            }
        }
    }
}

/// Packets to frames.
#[derive(Default)]
pub(super) struct Depacketiser {
    frame: Assembly,
}

/// A descriptor that was read (4.2).
struct Descriptor<'a> {
    body: &'a [u8],
    /// The first packet of a frame of one layer.
    begins: bool,
    /// The first packet of the picture: of its lowest layer.
    first: bool,
}

impl<'a> Descriptor<'a> {
    fn read(payload: &'a [u8]) -> Option<Self> {
        let (&flags, mut rest) = payload.split_first()?;
        let has = |bit: u8| flags & bit != 0;
        if has(0x80) {
            let len = if rest.first()? & 0x80 != 0 { 2 } else { 1 };
            rest = rest.get(len..)?;
        }
        let mut spatial = 0;
        if has(0x20) {
            spatial = rest.first()? >> 1 & 7;
            // TL0PICIDX where the mode isn't flexible.
            rest = rest.get(if has(0x10) { 1 } else { 2 }..)?;
        }
        if has(0x10) && has(0x40) {
            // Up to three references, each saying whether there is another.
            for _ in 0..3 {
                let (&reference, after) = rest.split_first()?;
                rest = after;
                if reference & 1 == 0 {
                    break;
                }
            }
        }
        if has(0x02) {
            rest = scalability(rest)?;
        }
        Some(Self { body: rest, begins: has(0x08), first: has(0x08) && spatial == 0 })
    }
}

/// Whether a packet is the first of a picture that refers to no other.
pub(super) fn is_key(payload: &[u8]) -> bool {
    payload.first().is_some_and(|flags| flags & 0x40 == 0)
        && Descriptor::read(payload).is_some_and(|d| d.first)
}

/// What stands behind the scalability structure (4.2.1).
fn scalability(data: &[u8]) -> Option<&[u8]> {
    let (&head, mut rest) = data.split_first()?;
    if head & 0x10 != 0 {
        rest = rest.get(4 * (usize::from(head >> 5) + 1)..)?;
    }
    if head & 0x08 != 0 {
        let (&pictures, after) = rest.split_first()?;
        rest = after;
        for _ in 0..pictures {
            let (&picture, after) = rest.split_first()?;
            rest = after.get(usize::from(picture >> 2 & 3)..)?;
        }
    }
    Some(rest)
}

impl Depacketise for Depacketiser {
    fn push(&mut self, piece: &Piece<'_>, each: &mut dyn FnMut(Unit)) {
        if piece.payload.is_empty() {
            return;
        }
        let descriptor = Descriptor::read(piece.payload);
        let goes_on = self.frame.goes_on(piece);
        self.frame.begin(piece, descriptor.as_ref().is_some_and(|d| d.first), each);
        match descriptor {
            Some(descriptor) if descriptor.begins || goes_on => self.frame.put(descriptor.body),
            _ => self.frame.damage(),
        }
        if piece.marker {
            self.frame.finish(each);
        }
    }
}
