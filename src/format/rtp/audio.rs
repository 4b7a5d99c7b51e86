//! Sound whose packets are nearly its frames: Opus (RFC 7587), G.711 (RFC 3551), AC-3 (RFC 4184) and E-AC-3 (RFC 4598).

use bytes::Bytes;

use super::{Depacketise, MAX_FRAME, Packetise, Payload, Piece, Unit, pieces};
use crate::media::Codec;

/// A frame is a packet.
pub(super) struct WholePacketiser;

impl Packetise for WholePacketiser {
    fn frame(&mut self, data: &Bytes, _key: bool, out: &mut Vec<Payload>) {
        if !data.is_empty() {
            out.push(Payload::new(&[], data.clone()));
        }
    }
}

/// Samples of one byte, as many as come.
pub(super) struct SamplesPacketiser {
    max: usize,
}

impl SamplesPacketiser {
    pub(super) fn new(max: usize) -> Self {
        Self { max }
    }
}

impl Packetise for SamplesPacketiser {
    fn frame(&mut self, data: &Bytes, _key: bool, out: &mut Vec<Payload>) {
        out.extend(
            pieces(data.len(), self.max)
                .map(|range| Payload { later: range.start as u32, ..Payload::new(&[], data.slice(range)) }),
        );
    }
}

/// A packet is a frame.
pub(super) struct WholeDepacketiser;

impl Depacketise for WholeDepacketiser {
    fn push(&mut self, piece: &Piece<'_>, each: &mut dyn FnMut(Unit)) {
        if !piece.payload.is_empty() {
            let (timestamp, lost) = (piece.timestamp, piece.lost);
            each(Unit { timestamp, data: piece.payload.clone(), lost, config: None });
        }
    }
}

/// Frames of AC-3 and E-AC-3 to packets.
pub(super) struct Ac3Packetiser {
    codec: Codec,
    max: usize,
}

impl Ac3Packetiser {
    pub(super) fn new(codec: Codec, max: usize) -> Self {
        Self { codec, max }
    }
}

impl Packetise for Ac3Packetiser {
    fn frame(&mut self, data: &Bytes, _key: bool, out: &mut Vec<Payload>) {
        let begin = out.len();
        let count = data.len().div_ceil(self.max - 2);
        for range in pieces(data.len(), self.max - 2) {
            let head = match (self.codec, count) {
                (_, 1) => [0, 1],
                (Codec::Ac3, _) if range.start > 0 => [3, count as u8],
                // Whether the first piece has five eighths of the frame.
                (Codec::Ac3, _) => [if range.len() * 8 >= data.len() * 5 { 1 } else { 2 }, count as u8],
                _ => [1, count as u8],
            };
            out.push(Payload::new(&head, data.slice(range)));
        }
        if let Some(last) = out.get_mut(begin..).and_then(<[Payload]>::last_mut) {
            last.marker = true;
        }
    }
}

/// Packets of AC-3 and E-AC-3 to frames.
pub(super) struct Ac3Depacketiser {
    codec: Codec,
    open: Option<(i64, Vec<u8>)>,
    lost: bool,
}

impl Ac3Depacketiser {
    pub(super) fn new(codec: Codec) -> Self {
        Self { codec, open: None, lost: false }
    }
}

impl Depacketise for Ac3Depacketiser {
    fn push(&mut self, piece: &Piece<'_>, each: &mut dyn FnMut(Unit)) {
        self.lost |= piece.lost;
        let Some((&[kind, _count], _)) = piece.payload.split_first_chunk::<2>() else { return };
        let body = piece.payload.slice(2..);
        let fragment = match self.codec {
            Codec::Ac3 => kind & 3,
            _ => kind & 1,
        };
        let same = self.open.as_ref().is_some_and(|(timestamp, _)| *timestamp == piece.timestamp);
        if piece.lost || !same || fragment == 0 {
            self.lost |= self.open.take().is_some();
        }
        if fragment == 0 {
            // Several frames stay together: our form of a frame is what decoders take at once.
            if !body.is_empty() {
                let lost = std::mem::take(&mut self.lost);
                each(Unit { timestamp: piece.timestamp, data: body, lost, config: None });
            }
            return;
        }
        let (_, data) = match self.open.as_mut() {
            Some(open) => open,
            // E-AC-3 doesn't tell which is the first; the sync word does.
            None if body.starts_with(&[0x0B, 0x77]) => self.open.insert((piece.timestamp, Vec::new())),
            None => {
                self.lost = true;
                return;
            }
        };
        if data.len() + body.len() > MAX_FRAME {
            self.open = None;
            self.lost = true;
            return;
        }
        data.extend_from_slice(&body);
        if piece.marker
            && let Some((timestamp, data)) = self.open.take()
        {
            each(Unit { timestamp, data: data.into(), lost: std::mem::take(&mut self.lost), config: None });
        }
    }
}
