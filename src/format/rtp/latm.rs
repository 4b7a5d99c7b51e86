//! AAC as LATM (RFC 6416 6): `MP4A-LATM`, the config in band or in the session description.

use bytes::Bytes;

use super::assembly::Assembly;
use super::{Depacketise, Packetise, Payload, Piece, Unit, pieces};
use crate::format::mpegts::latm::Reader;

/// Access units to packets, for a config in the session description (`cpresent=0`).
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
        // PayloadLengthInfo: bytes of 255, then the rest.
        let (full, rest) = (data.len() / 255, data.len() % 255);
        let mut head = super::Head::new();
        if data.is_empty() || head.resize(full, 255).is_err() || head.push(rest as u8).is_err() {
            return; // 4 KiB is more than an access unit of AAC can have
        }
        out.extend(pieces(data.len(), self.max - head.len()).map(|range| {
            let head = if range.start == 0 { &head[..] } else { &[] };
            Payload::new(head, data.slice(range))
        }));
        if let Some(last) = out.get_mut(begin..).and_then(<[Payload]>::last_mut) {
            last.marker = true;
        }
    }
}

/// Packets to access units.
pub(super) struct Depacketiser {
    frame: Assembly,
    reader: Reader,
    in_band: bool,
    /// An AudioSpecificConfig that nobody was told of.
    config: Option<Bytes>,
}

impl Depacketiser {
    /// `config`: a StreamMuxConfig; empty: it comes in band.
    pub(super) fn new(config: &[u8]) -> Self {
        let mut reader = Reader::default();
        let told = reader.set_mux(config);
        Self { frame: Assembly::default(), reader, in_band: config.is_empty(), config: told }
    }
}

impl Depacketise for Depacketiser {
    fn push(&mut self, piece: &Piece<'_>, each: &mut dyn FnMut(Unit)) {
        let Self { frame, reader, in_band, config } = self;
        let mut read = |unit: Unit| {
            if let Some(element) = reader.bare(&unit.data, *in_band) {
                let config = element.config.or_else(|| config.take());
                each(Unit { data: element.payload, config, ..unit });
            }
        };
        // Nothing in a packet says that an element begins: one that stands after a marker does.
        let begins = !piece.lost;
        frame.begin(piece, begins, &mut read);
        frame.put(piece.payload);
        if piece.marker {
            frame.finish(&mut read);
        }
    }
}
