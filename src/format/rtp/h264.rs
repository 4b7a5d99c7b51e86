//! H.264 (RFC 6184): single NAL units, STAP-A and FU-A both ways; STAP-B and FU-B are read, too.

use bytes::{Bytes, BytesMut};

use super::assembly::Assembly;
use super::{Depacketise, Packetise, Payload, Piece, Unit, pieces};
use crate::media::Track;
use crate::media::h264::AvcConfig;
use crate::media::nal::nals;

const STAP_A: u8 = 24;
const STAP_B: u8 = 25;
const FU_A: u8 = 28;
const FU_B: u8 = 29;

/// Frames to packets.
pub(super) struct Packetiser {
    max: usize,
    /// Mode 1: aggregates and fragments. In mode 0 each NAL unit is a packet, however long.
    fragments: bool,
    sets: Vec<Bytes>,
}

impl Packetiser {
    pub(super) fn new(max: usize, fragments: bool) -> Self {
        Self { max, fragments, sets: Vec::new() }
    }

    fn nal(&self, nal: Bytes, out: &mut Vec<Payload>) {
        let Some((&head, body)) = nal.split_first() else { return };
        if nal.len() <= self.max || !self.fragments {
            out.push(Payload::new(&[], nal));
            return;
        }
        let body = nal.slice_ref(body);
        let mut ranges = pieces(body.len(), self.max - 2).peekable();
        let mut first = 0x80;
        while let Some(range) = ranges.next() {
            let last = if ranges.peek().is_none() { 0x40 } else { 0 };
            out.push(Payload::new(&[head & 0xE0 | FU_A, first | last | head & 0x1F], body.slice(range)));
            first = 0;
        }
    }

    /// Short NAL units that have room in one packet.
    fn together(&self, group: &mut Vec<Bytes>, out: &mut Vec<Payload>) {
        if group.len() < 2 {
            group.drain(..).for_each(|nal| self.nal(nal, out));
            return;
        }
        let importance = group.iter().filter_map(|nal| nal.first()).map(|head| head & 0x60).max();
        let mut body = BytesMut::with_capacity(group.iter().map(|nal| 2 + nal.len()).sum());
        for nal in group.drain(..) {
            body.extend_from_slice(&(nal.len() as u16).to_be_bytes());
            body.extend_from_slice(&nal);
        }
        out.push(Payload::new(&[importance.unwrap_or(0) | STAP_A], body.freeze()));
    }
}

impl Packetise for Packetiser {
    fn set_track(&mut self, track: &Track) {
        if let Ok(config) = AvcConfig::parse(&track.config) {
            self.sets = config.sets.sps.iter().chain(&config.sets.pps).cloned().collect();
        }
    }

    fn frame(&mut self, data: &Bytes, key: bool, out: &mut Vec<Payload>) {
        let begin = out.len();
        let sets = self.sets.iter().filter(|_| key).cloned();
        let mut group: Vec<Bytes> = Vec::new();
        // A header byte, and two bytes of length each.
        let mut size = 1;
        for nal in sets.chain(nals(data).filter(|nal| !nal.is_empty()).map(|nal| data.slice_ref(nal))) {
            if size + 2 + nal.len() > self.max || !self.fragments {
                self.together(&mut group, out);
                size = 1;
            }
            if 3 + nal.len() > self.max {
                self.nal(nal, out);
            } else {
                size += 2 + nal.len();
                group.push(nal);
            }
        }
        self.together(&mut group, out);
        if let Some(last) = out.get_mut(begin..).and_then(<[Payload]>::last_mut) {
            last.marker = true;
        }
    }
}

/// Packets to frames.
#[derive(Default)]
pub(super) struct Depacketiser {
    frame: Assembly,
    /// Where in the frame the NAL unit begins that comes in pieces.
    open: Option<usize>,
}

impl Depacketiser {
    fn nal(&mut self, nal: &[u8]) {
        self.close();
        if nal.is_empty() {
            return;
        }
        self.frame.put(&(nal.len() as u32).to_be_bytes());
        self.frame.put(nal);
    }

    /// A unit in pieces without an end: something is missing that nobody noticed.
    fn close(&mut self) {
        if self.open.take().is_some() {
            self.frame.damage();
        }
    }

    fn aggregate(&mut self, mut rest: &[u8]) {
        while let Some((len, after)) = rest.split_first_chunk::<2>() {
            let Some((nal, after)) = after.split_at_checked(usize::from(u16::from_be_bytes(*len))) else {
                self.frame.damage();
                return;
            };
            self.nal(nal);
            rest = after;
        }
    }

    fn fragment(&mut self, indicator: u8, head: u8, body: &[u8]) {
        if head & 0x80 != 0 {
            self.close();
            self.open = Some(self.frame.data.len());
            self.frame.put(&[0, 0, 0, 0, indicator & 0xE0 | head & 0x1F]);
        }
        let Some(begin) = self.open else {
            self.frame.damage();
            return;
        };
        self.frame.put(body);
        if head & 0x40 != 0 {
            self.open = None;
            let len = self.frame.data.len().saturating_sub(begin + 4) as u32;
            if let Some(place) = self.frame.data.get_mut(begin..begin + 4) {
                place.copy_from_slice(&len.to_be_bytes());
            }
        }
    }
}

/// Whether a NAL unit, of which only the beginning is needed, is the first of its picture.
fn begins_picture(nal: &[u8]) -> bool {
    match nal {
        // first_mb_in_slice is 0
        [head, first, ..] if matches!(head & 0x1F, 1 | 5) => first & 0x80 != 0,
        [head, ..] => matches!(head & 0x1F, 6..=9),
        [] => false,
    }
}

/// Whether a packet is the first of its picture.
fn begins(payload: &[u8]) -> bool {
    match payload {
        [head, _, _, rest @ ..] if head & 0x1F == STAP_A => begins_picture(rest),
        [head, fu, rest @ ..] if head & 0x1F == FU_A => {
            fu & 0x80 != 0
                && match fu & 0x1F {
                    1 | 5 => rest.first().is_some_and(|first| first & 0x80 != 0),
                    kind => matches!(kind, 6..=9),
                }
        }
        other => begins_picture(other),
    }
}

impl Depacketise for Depacketiser {
    fn push(&mut self, piece: &Piece<'_>, each: &mut dyn FnMut(Unit)) {
        let Some(&head) = piece.payload.first() else { return };
        if self.open.is_some() && (piece.lost || !self.frame.goes_on(piece)) {
            // The unit that was begun has no end.
            self.close();
        }
        self.frame.begin(piece, begins(piece.payload), each);
        match (head & 0x1F, &piece.payload[..]) {
            (1..=23, nal) => self.nal(nal),
            (STAP_A, [_, rest @ ..]) => self.aggregate(rest),
            (STAP_B, [_, _, _, rest @ ..]) => self.aggregate(rest),
            (FU_A, [indicator, head, body @ ..]) => self.fragment(*indicator, *head, body),
            // The first has a decoding order number.
            (FU_B, [indicator, head, _, _, body @ ..]) => self.fragment(*indicator, *head, body),
            _ => self.frame.damage(),
        }
        if piece.marker {
            self.close();
            self.frame.finish(each);
        }
    }
}
