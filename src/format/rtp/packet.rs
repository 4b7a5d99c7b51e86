//! RTP packets (RFC 3550 5.1) and their header extensions (RFC 8285).

use bytes::Bytes;

use super::RtpError;

/// Bytes of a header without sources and extensions.
pub const HEADER: usize = 12;
/// The longest header we write: 12 bytes, and extensions of up to 52.
pub const MAX_HEADER: usize = 64;

/// Profile of one-byte extension headers (RFC 8285 4.2).
const ONE_BYTE: u16 = 0xBEDE;
/// Profile of two-byte extension headers, without its 4 application bits (RFC 8285 4.3).
const TWO_BYTE: u16 = 0x1000;

/// The fixed part of a header.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Header {
    /// What that means is the payload format's; of most video: the last packet of a frame.
    pub marker: bool,
    /// 0 to 127, as the session description maps it.
    pub payload_type: u8,
    /// Counts packets.
    pub sequence: u16,
    /// In ticks of the payload type's clock.
    pub timestamp: u32,
    /// Whose packet it is.
    pub ssrc: u32,
}

/// A packet as it was read. Payload and extensions share the datagram's memory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Packet {
    /// The fixed part of its header.
    pub header: Header,
    /// Its header extensions.
    pub extensions: Extensions,
    /// The payload, without padding; empty in packets that only probe the bandwidth.
    pub payload: Bytes,
}

impl Packet {
    /// Reads a packet. Contributing sources are passed over.
    ///
    /// # Errors
    /// [`RtpError`]: it is cut, of another version, or its padding is longer than itself.
    pub fn parse(data: &Bytes) -> Result<Self, RtpError> {
        let truncated = |field| RtpError::Truncated { what: "RTP packet", field, len: data.len() };
        let &[first, second, s0, s1, t0, t1, t2, t3, i0, i1, i2, i3] =
            data.first_chunk::<HEADER>().ok_or_else(|| truncated("header"))?;
        if first >> 6 != 2 {
            return Err(RtpError::Version(first >> 6));
        }
        let header = Header {
            marker: second & 0x80 != 0,
            payload_type: second & 0x7F,
            sequence: u16::from_be_bytes([s0, s1]),
            timestamp: u32::from_be_bytes([t0, t1, t2, t3]),
            ssrc: u32::from_be_bytes([i0, i1, i2, i3]),
        };
        let mut at = HEADER + 4 * usize::from(first & 0x0F);
        let mut extensions = Extensions::default();
        if first & 0x10 != 0 {
            let &[p0, p1, l0, l1] = data
                .get(at..)
                .and_then(|rest| rest.first_chunk::<4>())
                .ok_or_else(|| truncated("extension header"))?;
            let len = 4 * usize::from(u16::from_be_bytes([l0, l1]));
            let place = at + 4..at + 4 + len;
            at = place.end;
            if data.len() < at {
                return Err(truncated("extensions"));
            }
            extensions = Extensions { profile: u16::from_be_bytes([p0, p1]), data: data.slice(place) };
        }
        let mut end = data.len();
        if first & 0x20 != 0 {
            let padding = usize::from(data.last().copied().unwrap_or(0));
            end = end.checked_sub(padding).filter(|_| padding > 0).ok_or_else(|| truncated("padding"))?;
        }
        if end < at {
            return Err(truncated("payload"));
        }
        Ok(Self { header, extensions, payload: data.slice(at..end) })
    }
}

/// The header extensions of a packet.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Extensions {
    profile: u16,
    data: Bytes,
}

impl Extensions {
    /// Each with its id. Ends where they make no sense.
    pub fn iter(&self) -> impl Iterator<Item = (u8, &[u8])> {
        let mut rest = &self.data[..];
        let one_byte = self.profile == ONE_BYTE;
        let known = one_byte || self.profile & 0xFFF0 == TWO_BYTE;
        std::iter::from_fn(move || {
            loop {
                let (&first, after) = rest.split_first().filter(|_| known)?;
                if first == 0 {
                    rest = after; // padding
                    continue;
                }
                let (id, len, after) = if one_byte {
                    (first >> 4, usize::from(first & 15) + 1, after)
                } else {
                    let (&len, after) = after.split_first()?;
                    (first, usize::from(len), after)
                };
                if one_byte && id == 15 {
                    return None; // reserved: processing stops (RFC 8285 4.2)
                }
                let (value, after) = after.split_at_checked(len)?;
                rest = after;
                return Some((id, value));
            }
        })
    }

    /// The value of an id.
    #[must_use]
    pub fn find(&self, id: u8) -> Option<&[u8]> {
        self.iter().find(|(other, _)| *other == id).map(|(_, value)| value)
    }
}

/// A header as we write it: fixed part and extensions.
pub type HeaderBytes = heapless::Vec<u8, MAX_HEADER>;

/// Appends a header to `out`. Extensions without an id (0), and those for which there is no room, are left out.
pub fn write_header(header: &Header, extensions: &[(u8, &[u8])], out: &mut HeaderBytes) {
    let first = 0x80;
    let start = out.len();
    let marker = if header.marker { 0x80 } else { 0 };
    let fixed = [[first, header.payload_type & 0x7F | marker], header.sequence.to_be_bytes()];
    let rest = [header.timestamp.to_be_bytes(), header.ssrc.to_be_bytes()];
    if out.extend_from_slice(fixed.as_flattened()).is_err()
        || out.extend_from_slice(rest.as_flattened()).is_err()
    {
        return;
    }
    let wanted = || extensions.iter().filter(|(id, _)| *id != 0);
    if wanted().next().is_none() {
        return;
    }
    // An empty value, or a long one, or an id beyond 14, has no one-byte form.
    let one_byte = wanted().all(|(id, value)| *id <= 14 && (1..=16).contains(&value.len()));
    let place = out.len();
    let profile = if one_byte { ONE_BYTE } else { TWO_BYTE };
    if out.extend_from_slice(&profile.to_be_bytes()).is_err() || out.extend_from_slice(&[0, 0]).is_err() {
        out.truncate(place);
        return;
    }
    for (id, value) in wanted() {
        let head = if one_byte { 1 } else { 2 };
        let room = out.capacity() - out.len();
        // With three bytes of padding.
        if head + value.len() + 3 > room || value.len() > 255 {
            continue;
        }
        let pushed = if one_byte {
            out.push(id << 4 | (value.len() as u8).wrapping_sub(1) & 15)
        } else {
            out.push(*id).and_then(|()| out.push(value.len() as u8))
        };
        let _ = pushed.map(|()| out.extend_from_slice(value));
    }
    while !(out.len() - place).is_multiple_of(4) && out.push(0).is_ok() {}
    let words = ((out.len() - place) / 4 - 1) as u16;
    if let Some(length) = out.get_mut(place + 2..place + 4) {
        length.copy_from_slice(&words.to_be_bytes());
    }
    if let Some(byte) = out.get_mut(start) {
        *byte |= 0x10;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const HEAD: Header =
        Header { marker: true, payload_type: 96, sequence: 0xFFFE, timestamp: 0x8000_0001, ssrc: 7 };

    fn written(extensions: &[(u8, &[u8])], payload: &[u8]) -> Bytes {
        let mut out = HeaderBytes::new();
        write_header(&HEAD, extensions, &mut out);
        [&out[..], payload].concat().into()
    }

    #[test]
    fn what_is_written_is_read() {
        let long = [9; 17];
        let cases: [&[(u8, &[u8])]; 6] = [
            &[],
            &[(3, b"0")],
            &[(1, &[1, 2]), (14, &[3; 16])],
            &[(1, &[]), (2, b"abc")],
            &[(200, b"x"), (5, &long)],
            &[(0, b"no id"), (4, b"mid")],
        ];
        for extensions in cases {
            let packet = Packet::parse(&written(extensions, b"payload")).unwrap();
            assert_eq!((packet.header, &packet.payload[..]), (HEAD, &b"payload"[..]));
            let wanted: Vec<_> = extensions.iter().copied().filter(|(id, _)| *id != 0).collect();
            assert_eq!(packet.extensions.iter().collect::<Vec<_>>(), wanted);
        }
    }

    #[test]
    fn what_has_no_room_is_left_out() {
        let packet = Packet::parse(&written(&[(1, &[1; 40]), (2, &[2; 40]), (3, b"3")], b"p")).unwrap();
        assert_eq!(packet.extensions.find(1), Some(&[1; 40][..]));
        assert_eq!((packet.extensions.find(2), packet.extensions.find(3)), (None, Some(&b"3"[..])));
        assert_eq!(packet.payload, b"p"[..]);
    }

    #[test]
    fn padding_and_sources_are_passed_over() {
        let mut bytes = written(&[], b"").to_vec();
        bytes[0] |= 0x22;
        bytes.extend_from_slice(&[0; 8]);
        bytes.extend_from_slice(b"abc\0\0\x03");
        assert_eq!(Packet::parse(&bytes.clone().into()).unwrap().payload, b"abc"[..]);
        *bytes.last_mut().unwrap() = 6;
        assert_eq!(Packet::parse(&bytes.clone().into()).unwrap().payload, b""[..]);
        for padding in [0, 7, 200] {
            *bytes.last_mut().unwrap() = padding;
            assert!(Packet::parse(&bytes.clone().into()).is_err());
        }
    }

    #[test]
    fn the_reserved_id_ends_the_extensions() {
        let mut bytes = written(&[(2, b"ab"), (3, b"c")], b"").to_vec();
        bytes[16 + 3] = 0xF0;
        let packet = Packet::parse(&bytes.into()).unwrap();
        assert_eq!(packet.extensions.iter().collect::<Vec<_>>(), [(2, &b"ab"[..])]);
    }

    proptest! {
        #[test]
        fn no_bytes_panic(mut bytes in proptest::collection::vec(any::<u8>(), 0..80)) {
            if let Some(first) = bytes.first_mut() {
                *first = *first & 0x3F | 0x80;
            }
            if let Ok(packet) = Packet::parse(&bytes.into()) {
                let _ = packet.extensions.iter().count();
            }
        }
    }
}
