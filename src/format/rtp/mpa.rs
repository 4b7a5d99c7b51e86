//! MPEG audio (RFC 2250 3.5): frames in packets, on a clock of 90 kHz.

use bytes::Bytes;

use super::{Depacketise, MAX_FRAME, Packetise, Payload, Piece, Unit, pieces};
use crate::media::mp3::Header;
use crate::media::rescale;

/// Frames to packets.
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
        out.extend(pieces(data.len(), self.max - 4).map(|range| {
            let [high, low] = (range.start as u16).to_be_bytes();
            Payload::new(&[0, 0, high, low], data.slice(range))
        }));
    }
}

/// Packets to frames.
pub(super) struct Depacketiser {
    clock_rate: u32,
    /// A frame on its way: its time, and how many bytes it will have.
    open: Option<(i64, usize, Vec<u8>)>,
    lost: bool,
}

impl Depacketiser {
    pub(super) fn new(clock_rate: u32) -> Self {
        Self { clock_rate, open: None, lost: false }
    }

    fn give(&mut self, timestamp: i64, data: Bytes, each: &mut dyn FnMut(Unit)) {
        each(Unit { timestamp, data, lost: std::mem::take(&mut self.lost), config: None });
    }
}

impl Depacketise for Depacketiser {
    fn push(&mut self, piece: &Piece<'_>, each: &mut dyn FnMut(Unit)) {
        self.lost |= piece.lost;
        let Some((&[_, _, high, low], _)) = piece.payload.split_first_chunk::<4>() else { return };
        let mut rest = piece.payload.slice(4..);
        let offset = usize::from(u16::from_be_bytes([high, low]));
        if offset > 0 {
            let Some((timestamp, len, mut data)) = self.open.take() else { return };
            if piece.lost || data.len() != offset || data.len() + rest.len() > MAX_FRAME.min(len) {
                self.lost = true;
                return;
            }
            data.extend_from_slice(&rest);
            if data.len() == len {
                self.give(timestamp, data.into(), each);
            } else {
                self.open = Some((timestamp, len, data));
            }
            return;
        }
        self.lost |= self.open.take().is_some();
        let mut samples = 0;
        while let Ok(header) = Header::parse(&rest) {
            let timestamp = piece.timestamp + rescale(samples, header.sample_rate, self.clock_rate);
            let len = header.frame_len.max(Header::LEN);
            if rest.len() < len {
                self.open = Some((timestamp, len, rest.to_vec()));
                return;
            }
            samples += i64::from(header.samples);
            let frame = rest.split_to(len);
            self.give(timestamp, frame, each);
        }
    }
}
