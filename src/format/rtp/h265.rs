//! H.265 (RFC 7798): single NAL units, AP and FU, without decoding order numbers.

use bytes::{Bytes, BytesMut};

use super::assembly::Assembly;
use super::{Depacketise, Packetise, Payload, Piece, Unit, pieces};
use crate::media::Track;
use crate::media::h265::HvcConfig;
use crate::media::nal::nals;

const AP: u8 = 48;
const FU: u8 = 49;

/// Frames to packets.
pub(super) struct Packetiser {
    max: usize,
    sets: Vec<Bytes>,
}

impl Packetiser {
    pub(super) fn new(max: usize) -> Self {
        Self { max, sets: Vec::new() }
    }

    fn nal(&self, nal: Bytes, out: &mut Vec<Payload>) {
        let Some((&[first, second], body)) = nal.split_first_chunk::<2>() else { return };
        if nal.len() <= self.max {
            out.push(Payload::new(&[], nal));
            return;
        }
        let kind = first >> 1 & 0x3F;
        let body = nal.slice_ref(body);
        let mut ranges = pieces(body.len(), self.max - 3).peekable();
        let mut start = 0x80;
        while let Some(range) = ranges.next() {
            let end = if ranges.peek().is_none() { 0x40 } else { 0 };
            let head = [first & 0x81 | FU << 1, second, start | end | kind];
            out.push(Payload::new(&head, body.slice(range)));
            start = 0;
        }
    }

    fn together(&self, group: &mut Vec<Bytes>, out: &mut Vec<Payload>) {
        if group.len() < 2 {
            group.drain(..).for_each(|nal| self.nal(nal, out));
            return;
        }
        // The lowest layer and temporal id of those in it (4.4.2); all of ours are of layer 0.
        let temporal = group.iter().filter_map(|nal| nal.get(1)).map(|second| second & 7).min().unwrap_or(1);
        let mut body = BytesMut::with_capacity(group.iter().map(|nal| 2 + nal.len()).sum());
        for nal in group.drain(..) {
            body.extend_from_slice(&(nal.len() as u16).to_be_bytes());
            body.extend_from_slice(&nal);
        }
        out.push(Payload::new(&[AP << 1, temporal], body.freeze()));
    }
}

impl Packetise for Packetiser {
    fn set_track(&mut self, track: &Track) {
        if let Ok(config) = HvcConfig::parse(&track.config) {
            let sets = config.sets;
            self.sets = sets.vps.iter().chain(&sets.sps).chain(&sets.pps).cloned().collect();
        }
    }

    fn frame(&mut self, data: &Bytes, key: bool, out: &mut Vec<Payload>) {
        let begin = out.len();
        let sets = self.sets.iter().filter(|_| key).cloned();
        let mut group: Vec<Bytes> = Vec::new();
        // The header, and two bytes of length each.
        let mut size = 2;
        for nal in sets.chain(nals(data).filter(|nal| nal.len() > 2).map(|nal| data.slice_ref(nal))) {
            if size + 2 + nal.len() > self.max {
                self.together(&mut group, out);
                size = 2;
            }
            if 4 + nal.len() > self.max {
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
        if nal.len() < 2 {
            return;
        }
        self.frame.put(&(nal.len() as u32).to_be_bytes());
        self.frame.put(nal);
    }

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

    fn fragment(&mut self, [first, second]: [u8; 2], head: u8, body: &[u8]) {
        if head & 0x80 != 0 {
            self.close();
            self.open = Some(self.frame.data.len());
            self.frame.put(&[0, 0, 0, 0, first & 0x81 | (head & 0x3F) << 1, second]);
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

/// Whether a NAL unit of this type is the first of its picture; `first`: the byte behind its header.
fn begins_picture(kind: u8, first: Option<&u8>) -> bool {
    match kind {
        // first_slice_segment_in_pic_flag
        0..=31 => first.is_some_and(|first| first & 0x80 != 0),
        32..=35 | 39 => true,
        _ => false,
    }
}

fn begins(payload: &[u8]) -> bool {
    let kind = |head: &u8| head >> 1 & 0x3F;
    match payload {
        [head, _, _, _, inner, _, rest @ ..] if kind(head) == AP => begins_picture(kind(inner), rest.first()),
        [head, _, fu, rest @ ..] if kind(head) == FU => {
            fu & 0x80 != 0 && begins_picture(fu & 0x3F, rest.first())
        }
        [head, _, rest @ ..] => begins_picture(kind(head), rest.first()),
        _ => false,
    }
}

impl Depacketise for Depacketiser {
    fn push(&mut self, piece: &Piece<'_>, each: &mut dyn FnMut(Unit)) {
        let Some(&[first, second]) = piece.payload.first_chunk::<2>() else { return };
        if self.open.is_some() && (piece.lost || !self.frame.goes_on(piece)) {
            // The unit that was begun has no end.
            self.close();
        }
        self.frame.begin(piece, begins(piece.payload), each);
        match (first >> 1 & 0x3F, &piece.payload[..]) {
            (0..=47, nal) => self.nal(nal),
            (AP, [_, _, rest @ ..]) => self.aggregate(rest),
            (FU, [_, _, head, body @ ..]) => self.fragment([first, second], *head, body),
            _ => self.frame.damage(),
        }
        if piece.marker {
            self.close();
            self.frame.finish(each);
        }
    }
}
