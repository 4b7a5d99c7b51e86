//! PES packets put together (ISO/IEC 13818-1 2.4.3.6).

use bytes::{Bytes, BytesMut};

/// The longest header: 9 bytes and what one byte can say.
const MAX_HEADER: usize = 9 + 255;

/// A PES header.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Header {
    /// 33 bits.
    pub(super) pts: Option<u64>,
    /// 33 bits; absent where it equals `pts`.
    pub(super) dts: Option<u64>,
    /// Bytes of the header.
    len: usize,
    /// Bytes of the payload; `None`: up to the next PES packet.
    payload: Option<usize>,
}

#[derive(Debug, PartialEq, Eq)]
enum Parsed {
    Whole(Header),
    /// The header is not there yet.
    Short,
    /// Not a PES packet, or of a kind without media.
    Other,
}

impl Header {
    fn parse(data: &[u8]) -> Parsed {
        let Some((&[0, 0, 1, stream_id, high, low], rest)) = data.split_first_chunk::<6>() else {
            return if data.len() < 6 { Parsed::Short } else { Parsed::Other };
        };
        // Stream map, padding, private 2, ECM, EMM, DSM-CC, H.222.1 type E, directory: they have no such header.
        if matches!(stream_id, 0xBC | 0xBE | 0xBF | 0xF0..=0xF2 | 0xF8 | 0xFF) || stream_id < 0xBC {
            return Parsed::Other;
        }
        let Some((&[marks, flags, len], rest)) = rest.split_first_chunk::<3>() else { return Parsed::Short };
        // Either '10', or it isn't one; or scrambled.
        if marks & 0xF0 != 0x80 {
            return Parsed::Other;
        }
        let Some(fields) = rest.get(..usize::from(len)) else { return Parsed::Short };
        let (pts, rest) = match flags & 0x80 {
            0 => (None, fields),
            _ => match fields.split_first_chunk::<5>() {
                Some((bytes, rest)) => (Some(timestamp(*bytes)), rest),
                None => return Parsed::Other,
            },
        };
        let dts =
            if flags & 0xC0 == 0xC0 { rest.first_chunk::<5>().map(|bytes| timestamp(*bytes)) } else { None };
        let payload = match usize::from(u16::from_be_bytes([high, low])) {
            0 => None,
            total => match total.checked_sub(3 + fields.len()) {
                Some(payload) => Some(payload),
                None => return Parsed::Other,
            },
        };
        Parsed::Whole(Self { pts, dts, len: 9 + fields.len(), payload })
    }
}

/// Marker bits aren't looked at: they say nothing that the rest doesn't.
fn timestamp([a, b, c, d, e]: [u8; 5]) -> u64 {
    u64::from(a >> 1 & 7) << 30
        | u64::from(u16::from_be_bytes([b, c]) >> 1) << 15
        | u64::from(u16::from_be_bytes([d, e]) >> 1)
}

/// What came of some bytes.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Progress {
    /// Nothing yet.
    More,
    /// A header is whole. What was held before is to be [taken](Assembler::take), then this is to be begun with
    /// [`Assembler::body`], or the rest of it appended by [`Assembler::append`].
    Header(Header),
    /// All of the payload is there.
    Full,
}

/// Puts the PES packets of one PID together. What it holds is bounded by its maker, who asks [`held`](Self::held).
#[derive(Debug, Default)]
pub(super) struct Assembler {
    state: State,
    head: heapless::Vec<u8, MAX_HEADER>,
    body: BytesMut,
    /// Bytes that `body` still lacks.
    left: Option<usize>,
}

#[derive(Debug, Default, PartialEq, Eq)]
enum State {
    /// Waits for the start of a PES packet.
    #[default]
    Idle,
    Head,
    Body,
}

impl Assembler {
    /// Bytes of payload held.
    pub(super) fn held(&self) -> usize {
        self.body.len()
    }

    /// Whether a payload was begun, or is waiting to be taken.
    pub(super) fn is_begun(&self) -> bool {
        !self.body.is_empty()
    }

    /// Whether the payload is known to be whole.
    pub(super) fn is_full(&self) -> bool {
        self.left == Some(0)
    }

    /// Forgets all.
    pub(super) fn clear(&mut self) {
        self.state = State::Idle;
        self.head.clear();
        self.body.clear();
        self.left = None;
    }

    /// What was put together; empty if nothing was.
    pub(super) fn take(&mut self) -> Bytes {
        self.left = None;
        self.body.split().freeze()
    }

    /// A PES packet starts. What was held stays until its header is whole.
    pub(super) fn start(&mut self) {
        self.state = State::Head;
        self.head.clear();
    }

    /// Takes the payload of a transport packet; gives the progress, and bytes of it that are left to be used.
    pub(super) fn push<'a>(&mut self, bytes: &'a [u8]) -> (Progress, &'a [u8]) {
        match self.state {
            State::Idle => (Progress::More, &[]),
            State::Head => {
                let before = self.head.len();
                let room = MAX_HEADER - before;
                self.head.extend(bytes.iter().copied().take(room));
                match Header::parse(&self.head) {
                    Parsed::Whole(header) => {
                        self.state = State::Body;
                        let used = header.len.saturating_sub(before);
                        (Progress::Header(header), bytes.get(used..).unwrap_or_default())
                    }
                    Parsed::Short => (Progress::More, &[]),
                    Parsed::Other => {
                        self.state = State::Idle;
                        (Progress::More, &[])
                    }
                }
            }
            State::Body => (self.append(bytes), &[]),
        }
    }

    /// The payload of a header just met begins.
    pub(super) fn body(&mut self, header: Header, bytes: &[u8]) -> Progress {
        self.body.clear();
        self.continued(header, bytes)
    }

    /// The payload of a header just met goes on with what is held.
    pub(super) fn continued(&mut self, header: Header, bytes: &[u8]) -> Progress {
        self.left = header.payload;
        self.append(bytes)
    }

    fn append(&mut self, bytes: &[u8]) -> Progress {
        let Some(left) = self.left else {
            self.body.extend_from_slice(bytes);
            return Progress::More;
        };
        let now = bytes.get(..left).unwrap_or(bytes);
        self.body.extend_from_slice(now);
        self.left = Some(left - now.len());
        if left == now.len() {
            self.state = State::Idle;
            return Progress::Full;
        }
        Progress::More
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PTS_DTS: [u8; 10] = [0x3F, 0xFF, 0xFF, 0xFF, 0xFF, 0x11, 0x00, 0x01, 0x00, 0x03];

    fn pes(len: u16, payload: &[u8]) -> Vec<u8> {
        let [high, low] = len.to_be_bytes();
        [&[0, 0, 1, 0xE0, high, low, 0x80, 0xC0, 12], &PTS_DTS[..], &[0xFF, 0xFF], payload].concat()
    }

    #[test]
    fn headers_are_read_in_any_cut() {
        let data = pes(3 + 12 + 6, b"abcdefXYZ");
        for size in 1..data.len() {
            let mut assembler = Assembler::default();
            assembler.start();
            let mut full = 0;
            for part in data.chunks(size) {
                let (mut progress, rest) = assembler.push(part);
                if let Progress::Header(header) = progress {
                    assert_eq!((header.pts, header.dts), (Some((1 << 33) - 1), Some(1)));
                    progress = assembler.body(header, rest);
                }
                full += usize::from(progress == Progress::Full);
            }
            assert_eq!((full, &assembler.take()[..]), (1, &b"abcdef"[..]));
        }
    }

    #[test]
    fn what_is_no_pes_packet_is_left() {
        let good = pes(0, b"x");
        assert!(matches!(Header::parse(&good), Parsed::Whole(Header { payload: None, len: 21, .. })));
        for (at, value) in [(2, 2), (3, 0xBE), (3, 0xBF), (3, 0x10), (6, 0x40), (6, 0x90), (8, 3), (5, 10)] {
            let mut bad = good.clone();
            bad[at] = value;
            assert_eq!(Header::parse(&bad), Parsed::Other, "byte {at}");
        }
        for len in 0..21 {
            assert_eq!(Header::parse(&good[..len]), Parsed::Short);
        }
    }
}
