//! Packets: a header of 16 bytes, and what follows it (draft-sharabayko-srt-01, section 3).
//!
//! ```text
//! data:    0|sequence:31  place:2 order:1 key:2 again:1 message:26  timestamp:32  socket:32  payload
//! control: 1|type:15 subtype:16  information:32                     timestamp:32  socket:32  body
//! ```

use std::fmt;

/// Bytes of every packet's header.
pub const HEADER: usize = 16;
/// Largest datagram that is read or written: an Ethernet frame's worth (MSS 1500 less IP and UDP headers).
pub const MAX_DATAGRAM: usize = 1472;
/// Largest payload of a data packet: [`MAX_DATAGRAM`] less the header.
pub const MAX_PAYLOAD: usize = MAX_DATAGRAM - HEADER;
/// Ranges that one loss report carries at most, so that it fits in a datagram.
pub const MAX_RANGES: usize = MAX_PAYLOAD / 8;

/// Types of control packets.
pub mod kind {
    /// Handshake.
    pub const HANDSHAKE: u16 = 0;
    /// Keep-alive: the sender has nothing else to send.
    pub const KEEP_ALIVE: u16 = 1;
    /// Acknowledgement.
    pub const ACK: u16 = 2;
    /// Loss report.
    pub const NAK: u16 = 3;
    /// The end.
    pub const SHUTDOWN: u16 = 5;
    /// Acknowledgement of an acknowledgement.
    pub const ACKACK: u16 = 6;
    /// Packets that won't come any more.
    pub const DROP_REQUEST: u16 = 7;
    /// The peer's application failed (file mode).
    pub const PEER_ERROR: u16 = 8;
    /// What SRT adds to UDT; the subtype says what.
    pub const EXTENSION: u16 = 0x7fff;
}

/// A sequence number of data packets: 31 bits, wraps.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Seq(u32);

impl Seq {
    /// The bits that count.
    pub const MASK: u32 = 0x7fff_ffff;

    /// Of a number's lower 31 bits.
    #[must_use]
    pub fn new(value: u32) -> Self {
        Self(value & Self::MASK)
    }

    /// The number.
    #[must_use]
    pub fn value(self) -> u32 {
        self.0
    }

    /// `count` further on.
    #[must_use]
    pub fn plus(self, count: u32) -> Self {
        Self::new(self.0.wrapping_add(count))
    }

    /// `count` before.
    #[must_use]
    pub fn minus(self, count: u32) -> Self {
        Self::new(self.0.wrapping_sub(count))
    }

    /// How far this is after `other`: within half the circle; negative when before it.
    #[must_use]
    pub fn since(self, other: Self) -> i32 {
        // Shifted up by one, 31 bits wrap as 32 do.
        (self.0.wrapping_sub(other.0) << 1).cast_signed() >> 1
    }
}

impl fmt::Debug for Seq {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "%{}", self.0)
    }
}

/// Why a datagram is not a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PacketError {
    /// Its body is shorter than its type says.
    #[error("control packet of type {kind} with a body of {len} bytes")]
    Body {
        /// Its type.
        kind: u16,
        /// What is there.
        len: usize,
    },
    /// There is no room for a header.
    #[error("packet of {0} bytes: a header has 16")]
    Short(usize),
}

/// Which key a payload is encrypted with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyFlag {
    /// Not encrypted.
    None,
    /// With the even key.
    Even,
    /// With the odd key.
    Odd,
}

impl KeyFlag {
    /// The bits of the header.
    #[must_use]
    pub fn bits(self) -> u32 {
        match self {
            Self::None => 0,
            Self::Even => 1,
            Self::Odd => 2,
        }
    }

    /// The other key.
    #[must_use]
    pub fn other(self) -> Self {
        if self == Self::Even { Self::Odd } else { Self::Even }
    }
}

/// Header of a data packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DataHeader {
    /// Its number.
    pub seq: Seq,
    /// Place in its message: 3 alone, 2 first, 0 in the middle, 1 last. Live mode has 3 only.
    pub place: u8,
    /// Encrypted, and how.
    pub key: KeyFlag,
    /// Was sent before.
    pub again: bool,
    /// Number of its message, 26 bits, never 0 but for packets of a filter.
    pub message: u32,
    /// Microseconds on the sender's clock since its socket began; wraps after 71 minutes.
    pub timestamp: u32,
    /// Socket that it is for.
    pub to: u32,
}

impl DataHeader {
    /// Bits of a message number.
    pub const MESSAGE: u32 = 0x03ff_ffff;

    /// As it stands on the wire.
    #[must_use]
    pub fn bytes(&self) -> [u8; HEADER] {
        let second = u32::from(self.place & 3) << 30
            | self.key.bits() << 27
            | u32::from(self.again) << 26
            | self.message & Self::MESSAGE;
        words([self.seq.value(), second, self.timestamp, self.to])
    }
}

/// What an acknowledgement says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Ack {
    /// Its number, which its acknowledgement repeats; 0 when it is a light one.
    pub number: u32,
    /// All before this one have arrived (or are given up).
    pub next: Seq,
    /// What a full one says besides.
    pub full: Option<FullAck>,
}

/// The rest of a full acknowledgement.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct FullAck {
    /// Round trip in µs.
    pub rtt: u32,
    /// Its variance in µs.
    pub rtt_var: u32,
    /// Packets that the receiver has room for.
    pub room: u32,
    /// Packets received a second.
    pub packet_rate: u32,
    /// Packets a second that the link may carry, as estimated.
    pub bandwidth: u32,
    /// Bytes received a second.
    pub byte_rate: u32,
}

/// A control packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Control<'a> {
    /// Acknowledgement.
    Ack(Ack),
    /// Acknowledgement of the full acknowledgement of this number.
    AckAck(u32),
    /// These don't come any more.
    DropRequest {
        /// First of them.
        first: Seq,
        /// Last of them.
        last: Seq,
    },
    /// Handshake; its body is for [`super::handshake`].
    Handshake(&'a [u8]),
    /// Nothing, but alive.
    KeepAlive,
    /// Keys; the body is for [`super::crypto`].
    KeyRequest(&'a [u8]),
    /// What came of keys that we sent.
    KeyResponse(&'a [u8]),
    /// Loss report: see [`ranges`].
    Nak(&'a [u8]),
    /// A type that we don't know, or that means nothing in live mode.
    Other(u16),
    /// The end.
    Shutdown,
}

/// A packet of either sort.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Packet<'a> {
    /// Control, its timestamp and the socket it is for.
    Control(Control<'a>, u32, u32),
    /// Data and its payload.
    Data(DataHeader, &'a [u8]),
}

impl<'a> Packet<'a> {
    /// Reads a datagram.
    ///
    /// # Errors
    /// [`PacketError`] when it is too short for what it says to be.
    pub fn parse(datagram: &'a [u8]) -> Result<Self, PacketError> {
        let (header, body) = datagram.split_at_checked(HEADER).ok_or(PacketError::Short(datagram.len()))?;
        let [first, second, timestamp, to] = [0, 4, 8, 12].map(|at| word(header, at).unwrap_or_default());
        if first >> 31 == 0 {
            let key = match second >> 27 & 3 {
                0 => KeyFlag::None,
                1 => KeyFlag::Even,
                _ => KeyFlag::Odd,
            };
            let header = DataHeader {
                seq: Seq::new(first),
                place: (second >> 30) as u8,
                key,
                again: second >> 26 & 1 == 1,
                message: second & DataHeader::MESSAGE,
                timestamp,
                to,
            };
            return Ok(Self::Data(header, body));
        }
        let kind = (first >> 16 & 0x7fff) as u16;
        let short = PacketError::Body { kind, len: body.len() };
        let control = match kind {
            kind::HANDSHAKE => Control::Handshake(body),
            kind::KEEP_ALIVE => Control::KeepAlive,
            kind::ACK => {
                let next = Seq::new(word(body, 0).ok_or(short)?);
                let full = match (word(body, 4), word(body, 8), word(body, 12)) {
                    (Some(rtt), Some(rtt_var), Some(room)) => {
                        let [packet_rate, bandwidth, byte_rate] =
                            [16, 20, 24].map(|at| word(body, at).unwrap_or_default());
                        Some(FullAck { rtt, rtt_var, room, packet_rate, bandwidth, byte_rate })
                    }
                    _ => None,
                };
                Control::Ack(Ack { number: second, next, full })
            }
            kind::NAK => Control::Nak(body),
            kind::SHUTDOWN => Control::Shutdown,
            kind::ACKACK => Control::AckAck(second),
            kind::DROP_REQUEST => Control::DropRequest {
                first: Seq::new(word(body, 0).ok_or(short)?),
                last: Seq::new(word(body, 4).ok_or(short)?),
            },
            kind::EXTENSION => match first & 0xffff {
                3 => Control::KeyRequest(body),
                4 => Control::KeyResponse(body),
                _ => Control::Other(kind),
            },
            _ => Control::Other(kind),
        };
        Ok(Self::Control(control, timestamp, to))
    }
}

/// Socket that a datagram is for, without reading the rest.
#[must_use]
pub fn destination(datagram: &[u8]) -> Option<u32> {
    word(datagram, 12)
}

/// Header of a control packet.
#[must_use]
pub fn control(kind: u16, subtype: u16, information: u32, timestamp: u32, to: u32) -> [u8; HEADER] {
    words([1 << 31 | u32::from(kind) << 16 | u32::from(subtype), information, timestamp, to])
}

/// Body of a full acknowledgement.
#[must_use]
pub fn full_ack(next: Seq, full: &FullAck) -> [u8; 28] {
    words([next.value(), full.rtt, full.rtt_var, full.room, full.packet_rate, full.bandwidth, full.byte_rate])
}

/// Appends a range to the body of a loss report.
pub fn put_range(body: &mut Vec<u8>, first: Seq, last: Seq) {
    if first == last {
        body.extend_from_slice(&first.value().to_be_bytes());
    } else {
        body.extend_from_slice(&(first.value() | 1 << 31).to_be_bytes());
        body.extend_from_slice(&last.value().to_be_bytes());
    }
}

/// The ranges (first, last) of a loss report, in its order; a range without its end is left out.
pub fn ranges(body: &[u8]) -> impl Iterator<Item = (Seq, Seq)> {
    let mut at = 0;
    std::iter::from_fn(move || {
        let first = word(body, at)?;
        at += 4;
        if first >> 31 == 0 {
            return Some((Seq::new(first), Seq::new(first)));
        }
        let last = word(body, at)?;
        at += 4;
        Some((Seq::new(first), Seq::new(last)))
    })
}

/// The big-endian word at `at`.
pub(super) fn word(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..)?.first_chunk().copied().map(u32::from_be_bytes)
}

/// Words as big-endian bytes. `N` is four times `W`.
fn words<const W: usize, const N: usize>(words: [u32; W]) -> [u8; N] {
    let mut bytes = [0; N];
    for (to, word) in bytes.chunks_exact_mut(4).zip(words) {
        to.copy_from_slice(&word.to_be_bytes());
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn sequence_numbers_wrap() {
        let last = Seq::new(0x7fff_ffff);
        assert_eq!(last.plus(1), Seq::new(0));
        assert_eq!(Seq::new(0).minus(1), last);
        assert_eq!(Seq::new(5).since(last), 6);
        assert_eq!(last.since(Seq::new(5)), -6);
        assert_eq!(Seq::new(7).since(Seq::new(7)), 0);
    }

    #[test]
    fn data_headers_are_read_as_written() {
        let header = DataHeader {
            seq: Seq::new(0x7fff_fffe),
            place: 3,
            key: KeyFlag::Odd,
            again: true,
            message: 0x03ff_ffff,
            timestamp: 0xffff_fff0,
            to: 0x1234_5678,
        };
        let mut datagram = header.bytes().to_vec();
        datagram.extend_from_slice(b"payload");
        assert_eq!(Packet::parse(&datagram), Ok(Packet::Data(header, b"payload")));
        assert_eq!(destination(&datagram), Some(0x1234_5678));
    }

    #[test]
    fn acknowledgements_are_read_as_written() {
        let full = FullAck { rtt: 1, rtt_var: 2, room: 3, packet_rate: 4, bandwidth: 5, byte_rate: 6 };
        let mut datagram = control(kind::ACK, 0, 9, 77, 8).to_vec();
        datagram.extend_from_slice(&full_ack(Seq::new(42), &full));
        let ack = Ack { number: 9, next: Seq::new(42), full: Some(full) };
        assert_eq!(Packet::parse(&datagram), Ok(Packet::Control(Control::Ack(ack), 77, 8)));
        let light = Ack { number: 9, next: Seq::new(42), full: None };
        assert_eq!(Packet::parse(&datagram[..20]), Ok(Packet::Control(Control::Ack(light), 77, 8)));
        assert_eq!(Packet::parse(&datagram[..16]), Err(PacketError::Body { kind: 2, len: 0 }));
        assert_eq!(Packet::parse(&datagram[..15]), Err(PacketError::Short(15)));
    }

    #[test]
    fn loss_reports_are_read_as_written() {
        let mut body = Vec::new();
        let losses = [(Seq::new(5), Seq::new(5)), (Seq::new(0x7fff_ffff), Seq::new(3))];
        for (first, last) in losses {
            put_range(&mut body, first, last);
        }
        assert_eq!(body.len(), 12);
        assert_eq!(ranges(&body).collect::<Vec<_>>(), losses);
        assert_eq!(ranges(&body[..8]).count(), 1, "a range without its end");
    }

    proptest! {
        #[test]
        fn hostile_bytes(datagram in proptest::collection::vec(any::<u8>(), 0..64)) {
            if let Ok(Packet::Control(Control::Nak(body), ..)) = Packet::parse(&datagram) {
                prop_assert!(ranges(body).count() <= body.len() / 4);
            }
        }

        #[test]
        fn distances(a: u32, b in -0x3fff_ffff..0x3fff_ffffi32) {
            let a = Seq::new(a);
            let other = if b < 0 { a.minus(b.unsigned_abs()) } else { a.plus(b.unsigned_abs()) };
            prop_assert_eq!(other.since(a), b);
        }
    }
}
