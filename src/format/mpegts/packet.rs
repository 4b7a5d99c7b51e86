//! Transport packets (ISO/IEC 13818-1 2.4.3): headers, adaptation fields, and payloads cut into them.

use bytes::{BufMut, BytesMut};

use super::PACKET;

/// Every packet begins with it.
pub(super) const SYNC: u8 = 0x47;
/// The PID of packets that carry nothing.
pub(super) const NULL_PID: u16 = 0x1FFF;
/// Bytes of a packet after its header.
const BODY: usize = PACKET - 4;

/// A packet taken apart.
#[derive(Debug)]
pub(super) struct Packet<'a> {
    pub(super) pid: u16,
    /// `payload_unit_start_indicator`.
    pub(super) start: bool,
    /// `transport_error_indicator`: what brought the packet here knows that it is damaged.
    pub(super) error: bool,
    pub(super) scrambled: bool,
    /// `continuity_counter`.
    pub(super) cc: u8,
    /// `discontinuity_indicator`: the counter or the time base is allowed to jump.
    pub(super) discontinuity: bool,
    /// `None`: an adaptation field only.
    pub(super) payload: Option<&'a [u8]>,
}

impl<'a> Packet<'a> {
    /// Takes 188 bytes apart; `None` where they are no packet.
    pub(super) fn parse(data: &'a [u8]) -> Option<Self> {
        let (&[sync, b1, b2, b3], body) = data.get(..PACKET)?.split_first_chunk::<4>()?;
        if sync != SYNC {
            return None;
        }
        let mut discontinuity = false;
        let mut payload = body;
        if b3 & 0x20 != 0 {
            let (&len, rest) = body.split_first()?;
            let (adaptation, rest) = rest.split_at_checked(usize::from(len))?;
            discontinuity = adaptation.first().is_some_and(|flags| flags & 0x80 != 0);
            payload = rest;
        }
        Some(Self {
            pid: u16::from_be_bytes([b1, b2]) & 0x1FFF,
            start: b1 & 0x40 != 0,
            error: b1 & 0x80 != 0,
            scrambled: b3 & 0xC0 != 0,
            cc: b3 & 0x0F,
            discontinuity,
            payload: (b3 & 0x10 != 0).then_some(payload),
        })
    }
}

/// Watches the continuity counter of one PID (2.4.3.3).
#[derive(Debug, Default)]
pub(super) struct Continuity {
    last: Option<u8>,
    /// The last packet was a duplicate; only one is allowed.
    duplicate: bool,
}

/// What a packet's continuity counter says.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Order {
    Next,
    /// The packet before, sent again.
    Duplicate,
    /// Packets are missing before this one.
    Lost,
}

impl Continuity {
    /// To be asked for packets with payload.
    pub(super) fn check(&mut self, packet: &Packet<'_>) -> Order {
        let last = self.last.replace(packet.cc);
        let same = last == Some(packet.cc);
        let next = last.is_none_or(|last| packet.cc == (last + 1) & 0x0F);
        if packet.discontinuity || next {
            self.duplicate = false;
            return if next { Order::Next } else { Order::Lost };
        }
        if same && !self.duplicate {
            self.duplicate = true;
            return Order::Duplicate;
        }
        self.duplicate = false;
        Order::Lost
    }

    /// A packet could not be read.
    pub(super) fn forget(&mut self) {
        *self = Self::default();
    }
}

/// What the adaptation field of a written packet says.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Adaptation {
    /// `program_clock_reference_base`, 33 bits.
    pub(super) pcr: Option<u64>,
    pub(super) random_access: bool,
    pub(super) discontinuity: bool,
}

impl Adaptation {
    /// Bytes after `adaptation_field_length`, without stuffing.
    fn len(self) -> usize {
        match self {
            Self { pcr: Some(_), .. } => 7,
            Self { pcr: None, random_access: false, discontinuity: false } => 0,
            _ => 1,
        }
    }

    /// The field in `space` bytes, its length byte among them. `space` is 0, or more than [`len`](Self::len).
    fn put(self, space: usize, out: &mut BytesMut) {
        let Some(after_len) = space.checked_sub(1) else { return };
        out.put_u8(u8::try_from(after_len).unwrap_or(u8::MAX));
        if after_len == 0 {
            return;
        }
        let flag = |on: bool, bit: u8| if on { bit } else { 0 };
        out.put_u8(
            flag(self.discontinuity, 0x80) | flag(self.random_access, 0x40) | flag(self.pcr.is_some(), 0x10),
        );
        let mut stuffing = after_len - 1;
        if let Some(base) = self.pcr {
            // Six reserved bits of one, and an extension of 0: our clocks tick at 90 kHz.
            let bytes = (base << 15 | 0x7E00).to_be_bytes();
            out.extend_from_slice(bytes.get(2..).unwrap_or_default());
            stuffing = stuffing.saturating_sub(6);
        }
        out.put_bytes(0xFF, stuffing);
    }
}

fn put_header(pid: u16, start: bool, control: u8, cc: u8, out: &mut BytesMut) {
    let [high, low] = (pid & 0x1FFF).to_be_bytes();
    out.extend_from_slice(&[SYNC, high | u8::from(start) << 6, low, control | cc & 0x0F]);
}

/// Appends a packet that has an adaptation field only. `next_cc` is the counter of the PID's next payload.
pub(super) fn put_adaptation(pid: u16, next_cc: u8, adaptation: Adaptation, out: &mut BytesMut) {
    put_header(pid, false, 0x20, next_cc.wrapping_sub(1), out);
    adaptation.put(BODY, out);
}

/// Appends a section, in as many packets as it takes; the last is filled up with 0xFF (2.4.4).
pub(super) fn put_section(pid: u16, cc: &mut u8, section: &[u8], out: &mut BytesMut) {
    let mut start = true;
    let mut rest = section;
    while !rest.is_empty() {
        put_header(pid, start, 0x10, *cc, out);
        *cc = (*cc + 1) & 0x0F;
        let mut space = BODY;
        if start {
            out.put_u8(0); // pointer_field: the section begins right here
            space -= 1;
        }
        let (now, later) = rest.split_at(space.min(rest.len()));
        out.extend_from_slice(now);
        out.put_bytes(0xFF, space - now.len());
        rest = later;
        start = false;
    }
}

/// Cuts one PES packet, given in pieces, into transport packets.
#[derive(Debug)]
pub(super) struct PesWriter<'a> {
    out: &'a mut BytesMut,
    pid: u16,
    cc: &'a mut u8,
    /// Bytes of the PES packet still to come.
    left: usize,
    /// Bytes that the packet begun still takes.
    room: usize,
}

impl<'a> PesWriter<'a> {
    /// Begins a PES packet of `len` bytes; exactly that many must be [`put`](Self::put).
    pub(super) fn new(
        pid: u16,
        cc: &'a mut u8,
        len: usize,
        adaptation: Adaptation,
        out: &'a mut BytesMut,
    ) -> Self {
        out.reserve(((len + 8) / BODY + 1) * PACKET);
        let mut writer = Self { out, pid, cc, left: len, room: 0 };
        writer.packet(true, adaptation);
        writer
    }

    /// The next bytes of the PES packet.
    pub(super) fn put(&mut self, mut bytes: &[u8]) {
        loop {
            let (now, later) = bytes.split_at(self.room.min(bytes.len()));
            self.out.extend_from_slice(now);
            self.room -= now.len();
            self.left -= now.len();
            bytes = later;
            if bytes.is_empty() || self.left == 0 {
                return;
            }
            self.packet(false, Adaptation::default());
        }
    }

    fn packet(&mut self, start: bool, adaptation: Adaptation) {
        let least = match adaptation.len() {
            0 => 0,
            len => 1 + len,
        };
        self.room = self.left.min(BODY - least);
        // The last packet's adaptation field stretches to fill it.
        let space = BODY - self.room;
        put_header(self.pid, start, if space > 0 { 0x30 } else { 0x10 }, *self.cc, self.out);
        *self.cc = (*self.cc + 1) & 0x0F;
        adaptation.put(space, self.out);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_length_is_cut_and_comes_back() {
        let data: Vec<u8> = (0..600u32).map(|n| n as u8).collect();
        let pcr = Adaptation { pcr: Some(1 << 32 | 5), random_access: true, discontinuity: true };
        let mark = Adaptation { random_access: true, ..Adaptation::default() };
        for adaptation in [Adaptation::default(), mark, pcr] {
            for len in 1..data.len() {
                let (mut out, mut cc) = (BytesMut::new(), 14);
                let mut writer = PesWriter::new(0x123, &mut cc, len, adaptation, &mut out);
                let (a, b) = data[..len].split_at(len / 3);
                writer.put(a);
                writer.put(b);
                let mut back = Vec::new();
                for (n, bytes) in out.chunks(PACKET).enumerate() {
                    let packet = Packet::parse(bytes).unwrap();
                    assert_eq!((packet.pid, packet.start, packet.cc), (0x123, n == 0, (14 + n as u8) & 15));
                    assert_eq!(packet.discontinuity, n == 0 && adaptation.discontinuity);
                    back.extend_from_slice(packet.payload.unwrap());
                }
                assert_eq!(back, data[..len]);
                if adaptation.pcr.is_some() {
                    assert_eq!(out[5..12], [0xD0, 0x80, 0, 0, 2, 0xFE, 0]);
                }
            }
        }
    }

    #[test]
    fn counters_say_what_is_missing() {
        let packet = |cc, discontinuity| Packet {
            pid: 1,
            start: false,
            error: false,
            scrambled: false,
            cc,
            discontinuity,
            payload: Some(&[]),
        };
        let mut continuity = Continuity::default();
        let mut check = |cc, discontinuity| continuity.check(&packet(cc, discontinuity));
        assert_eq!(check(15, false), Order::Next);
        assert_eq!(check(0, false), Order::Next);
        assert_eq!(check(0, false), Order::Duplicate);
        assert_eq!(check(0, false), Order::Lost);
        assert_eq!(check(2, false), Order::Lost);
        assert_eq!(check(3, true), Order::Next);
        assert_eq!(check(3, true), Order::Lost);
    }

    #[test]
    fn a_field_beyond_the_packet_is_refused() {
        let mut bytes = [0xFF; PACKET];
        bytes[..5].copy_from_slice(&[SYNC, 1, 0, 0x30, 183]);
        assert_eq!(Packet::parse(&bytes).unwrap().payload, Some(&[][..]));
        bytes[4] = 184;
        assert!(Packet::parse(&bytes).is_none());
        assert!(Packet::parse(&bytes[..187]).is_none());
    }
}
