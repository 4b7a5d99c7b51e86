//! STUN messages as ICE uses them: connectivity checks, their answers, consent (RFC 8489, RFC 8445 section 7).
//!
//! Only bindings. Messages are read in place, without allocation, so that who knows nobody's name costs nothing.

use std::net::{IpAddr, SocketAddr};

use ring::hmac;

/// Length of a message's header.
pub const HEADER: usize = 20;
/// What each message carries (RFC 8489, section 5).
const COOKIE: u32 = 0x2112_a442;
/// What a fingerprint is XORed with (section 14.7).
const FINGERPRINT_XOR: u32 = 0x5354_554e;
/// Attributes that are looked at in one message; more make it malformed.
const MAX_ATTRIBUTES: usize = 32;

const MAPPED_ADDRESS: u16 = 0x0001;
const USERNAME: u16 = 0x0006;
const MESSAGE_INTEGRITY: u16 = 0x0008;
const ERROR_CODE: u16 = 0x0009;
const UNKNOWN_ATTRIBUTES: u16 = 0x000a;
const REALM: u16 = 0x0014;
const NONCE: u16 = 0x0015;
const XOR_MAPPED_ADDRESS: u16 = 0x0020;
const PRIORITY: u16 = 0x0024;
const USE_CANDIDATE: u16 = 0x0025;
const FINGERPRINT: u16 = 0x8028;
const ICE_CONTROLLED: u16 = 0x8029;
const ICE_CONTROLLING: u16 = 0x802a;

/// Bytes that these attributes take in a message, with their heads.
const INTEGRITY_BYTES: usize = 24;
const FINGERPRINT_BYTES: usize = 8;

/// Why bytes are no STUN message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum StunError {
    /// An attribute is longer than what is left, or doesn't have its length.
    #[error("an attribute of {length} bytes at byte {at} does not fit")]
    Attribute {
        /// Where it begins.
        at: usize,
        /// Its length, as it says.
        length: usize,
    },
    /// The fingerprint is another's.
    #[error("the fingerprint is wrong")]
    Fingerprint,
    /// It has no header of STUN's, or not the length that it says.
    #[error("no STUN message")]
    Header,
    /// More attributes than any client sends.
    #[error("more than {MAX_ATTRIBUTES} attributes")]
    TooMany,
}

/// What a message is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Class {
    /// It asks for an answer.
    Request,
    /// It wants none.
    Indication,
    /// The answer to what was understood.
    Success,
    /// The answer to what was not.
    Error,
}

/// Who of two ICE agents decides; with the number that settles a dispute.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AgentRole {
    /// The one that nominates.
    Controlling(u64),
    /// The other.
    Controlled(u64),
}

/// Number of a request and its answer.
pub type Transaction = [u8; 12];

/// A binding message, read in place.
#[derive(Debug, Clone, Copy)]
pub struct Message<'a> {
    bytes: &'a [u8],
    /// What it is.
    pub class: Class,
    /// Its number.
    pub transaction: Transaction,
    /// Both names, as `theirs:ours` seen from the sender.
    pub username: Option<&'a str>,
    /// Where the attribute that signs it begins.
    integrity: Option<usize>,
    /// The sender's address, as the answerer sees it.
    pub mapped: Option<SocketAddr>,
    /// `PRIORITY` of a check.
    pub priority: Option<u32>,
    /// The sender chooses this path.
    pub use_candidate: bool,
    /// Who the sender thinks it is.
    pub role: Option<AgentRole>,
    /// Code of an error, 300 to 699.
    pub error: Option<u16>,
    /// A first attribute that must be understood and isn't.
    pub unknown: Option<u16>,
}

/// Whether a datagram may be STUN (RFC 7983, section 7).
#[must_use]
pub fn is_stun(datagram: &[u8]) -> bool {
    matches!(datagram.first(), Some(0..=3)) && u32_at(datagram, 4) == Some(COOKIE)
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    bytes.get(at..)?.first_chunk().map(|b| u16::from_be_bytes(*b))
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..)?.first_chunk().map(|b| u32::from_be_bytes(*b))
}

fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    bytes.get(at..)?.first_chunk().map(|b| u64::from_be_bytes(*b))
}

impl<'a> Message<'a> {
    /// Reads a message, which fills `bytes`. A fingerprint is checked where there is one; integrity is not:
    /// [`verify`](Self::verify). What follows the integrity is not covered by it, and ignored (RFC 8489, section 14.5).
    ///
    /// # Errors
    /// [`StunError`]: it is none.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, StunError> {
        let kind = u16_at(bytes, 0).ok_or(StunError::Header)?;
        let length = usize::from(u16_at(bytes, 2).ok_or(StunError::Header)?);
        if !is_stun(bytes) || length % 4 != 0 || length + HEADER != bytes.len() {
            return Err(StunError::Header);
        }
        let class = match kind {
            0x0001 => Class::Request,
            0x0011 => Class::Indication,
            0x0101 => Class::Success,
            0x0111 => Class::Error,
            _ => return Err(StunError::Header),
        };
        let transaction = bytes.get(8..HEADER).and_then(|b| b.try_into().ok()).ok_or(StunError::Header)?;
        let mut message = Message {
            bytes,
            class,
            transaction,
            username: None,
            integrity: None,
            mapped: None,
            priority: None,
            use_candidate: false,
            role: None,
            error: None,
            unknown: None,
        };
        let mut at = HEADER;
        for count in 0.. {
            if at == bytes.len() {
                break;
            }
            if count == MAX_ATTRIBUTES {
                return Err(StunError::TooMany);
            }
            at = message.attribute(at)?;
        }
        Ok(message)
    }

    /// Takes the attribute at `at`; tells where the next is.
    fn attribute(&mut self, at: usize) -> Result<usize, StunError> {
        let kind = u16_at(self.bytes, at).ok_or(StunError::Attribute { at, length: 0 })?;
        let length = usize::from(u16_at(self.bytes, at + 2).ok_or(StunError::Attribute { at, length: 0 })?);
        let wrong = StunError::Attribute { at, length };
        let value = self.bytes.get(at + 4..at + 4 + length).ok_or(wrong)?;
        let next = at + 4 + length.next_multiple_of(4);
        if next > self.bytes.len() {
            return Err(wrong);
        }
        if kind == FINGERPRINT {
            let told = u32_at(value, 0).filter(|_| length == 4).ok_or(wrong)?;
            let covered = self.bytes.get(..at).unwrap_or_default();
            if next != self.bytes.len() || crc32(covered) ^ FINGERPRINT_XOR != told {
                return Err(StunError::Fingerprint);
            }
            return Ok(next);
        }
        if self.integrity.is_some() {
            return Ok(next);
        }
        match kind {
            USERNAME => self.username = Some(std::str::from_utf8(value).map_err(|_| wrong)?),
            MESSAGE_INTEGRITY if length == 20 => self.integrity = Some(at),
            MESSAGE_INTEGRITY => return Err(wrong),
            XOR_MAPPED_ADDRESS => self.mapped = Some(self.address(value).ok_or(wrong)?),
            PRIORITY => self.priority = Some(u32_at(value, 0).ok_or(wrong)?),
            USE_CANDIDATE => self.use_candidate = true,
            ICE_CONTROLLING => {
                self.role = Some(AgentRole::Controlling(u64_at(value, 0).ok_or(wrong)?));
            }
            ICE_CONTROLLED => {
                self.role = Some(AgentRole::Controlled(u64_at(value, 0).ok_or(wrong)?));
            }
            ERROR_CODE => {
                let [_, _, class, number, ..] = value else { return Err(wrong) };
                self.error = Some(u16::from(class & 7) * 100 + u16::from((*number).min(99)));
            }
            MAPPED_ADDRESS | UNKNOWN_ATTRIBUTES | REALM | NONCE => {}
            // Below this a receiver must understand it.
            0..0x8000 => self.unknown = self.unknown.or(Some(kind)),
            _ => {}
        }
        Ok(next)
    }

    fn address(&self, value: &[u8]) -> Option<SocketAddr> {
        let port = u16_at(value, 2)? ^ (COOKIE >> 16) as u16;
        let ip = match value.get(1)? {
            1 => IpAddr::V4((u32_at(value, 4)? ^ COOKIE).into()),
            2 => {
                let hidden = u128::from_be_bytes(*value.get(4..)?.first_chunk()?);
                IpAddr::V6((hidden ^ mask(self.transaction)).into())
            }
            _ => return None,
        };
        Some((ip, port).into())
    }

    /// The name of ours that a request of the peer carries: what stands before the colon.
    #[must_use]
    pub fn local_name(&self) -> Option<&'a str> {
        self.username?.split_once(':').map(|(ours, _)| ours)
    }

    /// Whether it is signed with this password.
    #[must_use]
    pub fn verify(&self, password: &str) -> bool {
        let Some(at) = self.integrity else { return false };
        let Some((covered, tag)) = self.bytes.get(..at).zip(self.bytes.get(at + 4..at + INTEGRITY_BYTES))
        else {
            return false;
        };
        let Some((head, rest)) = covered.split_first_chunk::<4>() else { return false };
        let [kind_high, kind_low, _, _] = *head;
        // What is signed has the length of a message that ends with the signature.
        let [length_high, length_low] = ((at + INTEGRITY_BYTES - HEADER) as u16).to_be_bytes();
        let key = hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, password.as_bytes());
        let mut mac = hmac::Context::with_key(&key);
        mac.update(&[kind_high, kind_low, length_high, length_low]);
        mac.update(rest);
        equal(mac.sign().as_ref(), tag)
    }
}

/// In a time that says nothing of where they differ.
fn equal(ours: &[u8], theirs: &[u8]) -> bool {
    ours.len() == theirs.len() && ours.iter().zip(theirs).fold(0, |all, (a, b)| all | (a ^ b)) == 0
}

fn mask(transaction: Transaction) -> u128 {
    let mut bytes = [0; 16];
    let (cookie, rest) = bytes.split_at_mut(4);
    cookie.copy_from_slice(&COOKIE.to_be_bytes());
    rest.copy_from_slice(&transaction);
    u128::from_be_bytes(bytes)
}

/// A message that is written; each step adds one attribute.
#[derive(Debug)]
pub struct Writer {
    bytes: Vec<u8>,
    transaction: Transaction,
}

impl Writer {
    /// Begins a message.
    #[must_use]
    pub fn new(class: Class, transaction: Transaction) -> Self {
        let kind: u16 = match class {
            Class::Request => 0x0001,
            Class::Indication => 0x0011,
            Class::Success => 0x0101,
            Class::Error => 0x0111,
        };
        let mut bytes = Vec::with_capacity(128);
        bytes.extend(kind.to_be_bytes());
        bytes.extend([0; 2]);
        bytes.extend(COOKIE.to_be_bytes());
        bytes.extend(transaction);
        Self { bytes, transaction }
    }

    fn add(&mut self, kind: u16, value: &[u8]) {
        self.bytes.extend(kind.to_be_bytes());
        self.bytes.extend((value.len() as u16).to_be_bytes());
        self.bytes.extend(value);
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }

    fn set_length(&mut self, length: usize) {
        if let Some(place) = self.bytes.get_mut(2..4) {
            place.copy_from_slice(&(length as u16).to_be_bytes());
        }
    }

    /// Both names, `theirs:ours`, up to 513 bytes.
    #[must_use]
    pub fn username(mut self, theirs: &str, ours: &str) -> Self {
        self.add(USERNAME, format!("{theirs}:{ours}").as_bytes());
        self
    }

    /// The address that a request came from.
    #[must_use]
    pub fn mapped(mut self, address: SocketAddr) -> Self {
        let port = address.port() ^ (COOKIE >> 16) as u16;
        let mut value = vec![0, 0];
        value.extend(port.to_be_bytes());
        let family = match unmapped(address.ip()) {
            IpAddr::V4(ip) => {
                value.extend((u32::from(ip) ^ COOKIE).to_be_bytes());
                1
            }
            IpAddr::V6(ip) => {
                value.extend((u128::from(ip) ^ mask(self.transaction)).to_be_bytes());
                2
            }
        };
        if let Some(place) = value.get_mut(1) {
            *place = family;
        }
        self.add(XOR_MAPPED_ADDRESS, &value);
        self
    }

    /// What a check says of its sender.
    #[must_use]
    pub fn check(mut self, priority: u32, role: AgentRole, use_candidate: bool) -> Self {
        self.add(PRIORITY, &priority.to_be_bytes());
        let (kind, number) = match role {
            AgentRole::Controlling(number) => (ICE_CONTROLLING, number),
            AgentRole::Controlled(number) => (ICE_CONTROLLED, number),
        };
        self.add(kind, &number.to_be_bytes());
        if use_candidate {
            self.add(USE_CANDIDATE, &[]);
        }
        self
    }

    /// Why it is an error.
    #[must_use]
    pub fn error(mut self, code: u16, reason: &str) -> Self {
        let mut value = vec![0, 0, (code / 100) as u8, (code % 100) as u8];
        value.extend(reason.as_bytes());
        self.add(ERROR_CODE, &value);
        self
    }

    /// Which attributes were not understood.
    #[must_use]
    pub fn unknown(mut self, kind: u16) -> Self {
        self.add(UNKNOWN_ATTRIBUTES, &kind.to_be_bytes());
        self
    }

    /// Signs it, and adds the fingerprint.
    #[must_use]
    pub fn finish(mut self, password: &str) -> Vec<u8> {
        self.set_length(self.bytes.len() - HEADER + INTEGRITY_BYTES);
        let key = hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, password.as_bytes());
        let tag = hmac::sign(&key, &self.bytes);
        self.add(MESSAGE_INTEGRITY, tag.as_ref());
        self.set_length(self.bytes.len() - HEADER + FINGERPRINT_BYTES);
        let print = crc32(&self.bytes) ^ FINGERPRINT_XOR;
        self.add(FINGERPRINT, &print.to_be_bytes());
        self.bytes
    }
}

/// IPv4 where it hides within IPv6.
#[must_use]
pub fn unmapped(ip: IpAddr) -> IpAddr {
    match ip {
        IpAddr::V6(v6) => v6.to_ipv4_mapped().map_or(ip, IpAddr::V4),
        IpAddr::V4(_) => ip,
    }
}

/// The CRC of ISO 3309, as Ethernet and ZIP have it.
fn crc32(bytes: &[u8]) -> u32 {
    // Of what four bits come to, the lowest first.
    const TABLE: [u32; 16] = [
        0x0000_0000,
        0x1db7_1064,
        0x3b6e_20c8,
        0x26d9_30ac,
        0x76dc_4190,
        0x6b6b_51f4,
        0x4db2_6158,
        0x5005_713c,
        0xedb8_8320,
        0xf00f_9344,
        0xd6d6_a3e8,
        0xcb61_b38c,
        0x9b64_c2b0,
        0x86d3_d2d4,
        0xa00a_e278,
        0xbdbd_f21c,
    ];
    let step = |crc: u32, nibble: u8| {
        crc >> 4 ^ TABLE.get(((crc ^ u32::from(nibble)) & 15) as usize).copied().unwrap_or_default()
    };
    !bytes.iter().fold(!0, |crc, byte| step(step(crc, byte & 15), byte >> 4))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// RFC 5769, section 2.1: a request with everything in it.
    const REQUEST: [u8; 108] = [
        0x00, 0x01, 0x00, 0x58, 0x21, 0x12, 0xa4, 0x42, 0xb7, 0xe7, 0xa7, 0x01, 0xbc, 0x34, 0xd6, 0x86, 0xfa,
        0x87, 0xdf, 0xae, 0x80, 0x22, 0x00, 0x10, 0x53, 0x54, 0x55, 0x4e, 0x20, 0x74, 0x65, 0x73, 0x74, 0x20,
        0x63, 0x6c, 0x69, 0x65, 0x6e, 0x74, 0x00, 0x24, 0x00, 0x04, 0x6e, 0x00, 0x01, 0xff, 0x80, 0x29, 0x00,
        0x08, 0x93, 0x2f, 0xf9, 0xb1, 0x51, 0x26, 0x3b, 0x36, 0x00, 0x06, 0x00, 0x09, 0x65, 0x76, 0x74, 0x6a,
        0x3a, 0x68, 0x36, 0x76, 0x59, 0x20, 0x20, 0x20, 0x00, 0x08, 0x00, 0x14, 0x9a, 0xea, 0xa7, 0x0c, 0xbf,
        0xd8, 0xcb, 0x56, 0x78, 0x1e, 0xf2, 0xb5, 0xb2, 0xd3, 0xf2, 0x49, 0xc1, 0xb5, 0x71, 0xa2, 0x80, 0x28,
        0x00, 0x04, 0xe5, 0x7a, 0x3b, 0xcf,
    ];
    /// RFC 5769, section 2.2: the answer, of IPv4.
    const ANSWER: [u8; 80] = [
        0x01, 0x01, 0x00, 0x3c, 0x21, 0x12, 0xa4, 0x42, 0xb7, 0xe7, 0xa7, 0x01, 0xbc, 0x34, 0xd6, 0x86, 0xfa,
        0x87, 0xdf, 0xae, 0x80, 0x22, 0x00, 0x0b, 0x74, 0x65, 0x73, 0x74, 0x20, 0x76, 0x65, 0x63, 0x74, 0x6f,
        0x72, 0x20, 0x00, 0x20, 0x00, 0x08, 0x00, 0x01, 0xa1, 0x47, 0xe1, 0x12, 0xa6, 0x43, 0x00, 0x08, 0x00,
        0x14, 0x2b, 0x91, 0xf5, 0x99, 0xfd, 0x9e, 0x90, 0xc3, 0x8c, 0x74, 0x89, 0xf9, 0x2a, 0xf9, 0xba, 0x53,
        0xf0, 0x6b, 0xe7, 0xd7, 0x80, 0x28, 0x00, 0x04, 0xc0, 0x7d, 0x4c, 0x96,
    ];
    const PASSWORD: &str = "VOkJxbRl1RmTxUk/WvJxBt";

    #[test]
    fn reads_the_vectors_of_rfc_5769() {
        let request = Message::parse(&REQUEST).unwrap();
        assert_eq!((request.class, request.username), (Class::Request, Some("evtj:h6vY")));
        assert_eq!(request.local_name(), Some("evtj"));
        assert_eq!(request.priority, Some(0x6e00_01ff));
        assert_eq!(request.role, Some(AgentRole::Controlled(0x932f_f9b1_5126_3b36)));
        assert!(request.verify(PASSWORD));
        assert!(!request.verify("VOkJxbRl1RmTxUk/WvJxBu"));
        let answer = Message::parse(&ANSWER).unwrap();
        assert_eq!(answer.mapped, Some("192.0.2.1:32853".parse().unwrap()));
        assert!(answer.verify(PASSWORD));
    }

    #[test]
    fn what_is_written_can_be_read() {
        for (text, seen) in [
            ("1.2.3.4:5", "1.2.3.4:5"),
            ("[2001:db8::7]:65535", "[2001:db8::7]:65535"),
            ("[::ffff:1.2.3.4]:5", "1.2.3.4:5"),
        ] {
            let bytes = Writer::new(Class::Success, [7; 12]).mapped(text.parse().unwrap()).finish("secret");
            let message = Message::parse(&bytes).unwrap();
            assert_eq!(message.mapped, Some(seen.parse().unwrap()));
            assert!(message.verify("secret"));
        }
        let bytes = Writer::new(Class::Request, [1; 12])
            .username("server", "me")
            .check(77, AgentRole::Controlling(9), true)
            .finish("password of the server");
        let message = Message::parse(&bytes).unwrap();
        assert_eq!(message.username, Some("server:me"));
        assert!(message.use_candidate && message.verify("password of the server"));
        assert_eq!(message.role, Some(AgentRole::Controlling(9)));
        let bytes = Writer::new(Class::Error, [1; 12]).error(487, "Role Conflict").finish("p");
        assert_eq!(Message::parse(&bytes).unwrap().error, Some(487));
    }

    #[test]
    fn what_was_changed_is_noticed() {
        for at in 0..REQUEST.len() {
            let mut bytes = REQUEST;
            bytes[at] ^= 1;
            // Of the fingerprint's own kind: it isn't there then, and what counts is signed still.
            let harmless = (100..102).contains(&at);
            assert_eq!(Message::parse(&bytes).is_ok_and(|m| m.verify(PASSWORD)), harmless, "byte {at}");
        }
    }

    #[test]
    fn what_stands_behind_the_signature_says_nothing() {
        let mut writer = Writer::new(Class::Request, [1; 12]).username("a", "b");
        writer.set_length(writer.bytes.len() - HEADER + INTEGRITY_BYTES);
        let key = hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, b"p");
        let tag = hmac::sign(&key, &writer.bytes);
        writer.add(MESSAGE_INTEGRITY, tag.as_ref());
        writer.add(USE_CANDIDATE, &[]);
        writer.set_length(writer.bytes.len() - HEADER);
        let message = Message::parse(&writer.bytes).unwrap();
        assert!(message.verify("p") && !message.use_candidate);
    }

    #[test]
    fn a_signature_is_needed() {
        let mut writer = Writer::new(Class::Request, [1; 12]).username("a", "b");
        writer.set_length(writer.bytes.len() - HEADER);
        assert!(!Message::parse(&writer.bytes).unwrap().verify(""));
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(mut bytes in proptest::collection::vec(any::<u8>(), 0..300), dress: bool) {
            if dress && bytes.len() >= HEADER {
                bytes.truncate(HEADER + (bytes.len() - HEADER) / 4 * 4);
                let length = (bytes.len() - HEADER) as u16;
                bytes[..2].copy_from_slice(&[0, 1]);
                bytes[2..4].copy_from_slice(&length.to_be_bytes());
                bytes[4..8].copy_from_slice(&COOKIE.to_be_bytes());
            }
            if let Ok(message) = Message::parse(&bytes) {
                prop_assert!(!message.verify("any"));
            }
        }

        #[test]
        fn almost_messages_are_read_or_refused(at in 0..REQUEST.len(), value: u8) {
            let mut bytes = REQUEST;
            bytes[at] = value;
            let _ = Message::parse(&bytes);
        }
    }
}
