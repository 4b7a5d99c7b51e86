//! The body of handshake packets: 48 bytes and extensions (draft-sharabayko-srt-01, section 3.2.1).
//!
//! Bytes and values only; who says what when is in [`super::listener`] and [`super::caller`].

use super::packet::{Seq, word};

/// Version of the handshake that SRT 1.3 and later speak.
pub const VERSION: u32 = 5;
/// In the extension field of a listener's first answer: it speaks version 5.
pub const MAGIC: u16 = 0x4a17;
/// In the extension field of a caller's first packet: datagrams, as UDT says it.
pub const DATAGRAM: u16 = 2;
/// SRT's version that we say we are: what of it we speak is 1.5's.
pub const SRT_VERSION: u32 = 0x0001_0504;
/// Longest stream id (libsrt's limit).
pub const MAX_STREAM_ID: usize = 512;
/// Bytes before extensions.
pub const BODY: usize = 48;

/// Bits of the extension field in a conclusion.
pub mod field {
    /// There is an HSREQ or HSRSP.
    pub const HS: u16 = 1;
    /// There is a KMREQ or KMRSP.
    pub const KM: u16 = 2;
    /// There are others.
    pub const CONFIG: u16 = 4;
}

/// What a peer can do: bits of HSREQ and HSRSP.
pub mod flag {
    /// Sends with timestamps to deliver by.
    pub const TSBPD_SEND: u32 = 1;
    /// Delivers by timestamps.
    pub const TSBPD_RECEIVE: u32 = 2;
    /// Knows encryption.
    pub const CRYPT: u32 = 4;
    /// Gives up what is too late.
    pub const TLPKTDROP: u32 = 8;
    /// Reports losses again and again.
    pub const NAK_REPORT: u32 = 0x10;
    /// Marks what is sent again.
    pub const REXMIT: u32 = 0x20;
    /// Stream mode, as TCP has it: not live.
    pub const STREAM: u32 = 0x40;
    /// Knows packet filters.
    pub const FILTER: u32 = 0x80;
}

/// What kind of handshake packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Rendezvous: done.
    Agreement,
    /// The second round of caller and listener.
    Conclusion,
    /// The first round of caller and listener.
    Induction,
    /// What is not known.
    Other(u32),
    /// No.
    Rejection(Reject),
    /// Rendezvous: are you there?
    Wave,
}

impl Kind {
    fn from_word(word: u32) -> Self {
        match word {
            0 => Self::Wave,
            1 => Self::Induction,
            0xffff_ffff => Self::Conclusion,
            0xffff_fffe => Self::Agreement,
            1000..0x8000_0000 => Self::Rejection(Reject(word - 1000)),
            other => Self::Other(other),
        }
    }

    fn word(self) -> u32 {
        match self {
            Self::Agreement => 0xffff_fffe,
            Self::Conclusion => 0xffff_ffff,
            Self::Induction => 1,
            Self::Other(other) => other,
            Self::Rejection(Reject(code)) => code.saturating_add(1000),
            Self::Wave => 0,
        }
    }
}

/// Why a connection is refused: libsrt's `SRT_REJ_*` (below 1000) and `SRT_REJX_*` (1000 and more, like HTTP's).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Reject(pub u32);

impl Reject {
    /// `SRT_REJ_SYSTEM`.
    pub const SYSTEM: Self = Self(1);
    /// `SRT_REJ_PEER`.
    pub const PEER: Self = Self(2);
    /// `SRT_REJ_RESOURCE`: no room.
    pub const RESOURCE: Self = Self(3);
    /// `SRT_REJ_ROGUE`: what came makes no sense.
    pub const ROGUE: Self = Self(4);
    /// `SRT_REJ_BACKLOG`: too many wait already.
    pub const BACKLOG: Self = Self(5);
    /// `SRT_REJ_CLOSE`: the server stops.
    pub const CLOSE: Self = Self(7);
    /// `SRT_REJ_VERSION`: too old.
    pub const VERSION: Self = Self(8);
    /// `SRT_REJ_RDVCOOKIE`: both drew the same cookie.
    pub const COOKIE: Self = Self(9);
    /// `SRT_REJ_BADSECRET`: wrong passphrase.
    pub const BAD_SECRET: Self = Self(10);
    /// `SRT_REJ_UNSECURE`: a passphrase here, none there.
    pub const UNSECURE: Self = Self(11);
    /// `SRT_REJ_MESSAGEAPI`: stream mode.
    pub const MESSAGE_API: Self = Self(12);
    /// `SRT_REJ_CONGESTION`: not live mode.
    pub const CONGESTION: Self = Self(13);
    /// `SRT_REJ_FILTER`: a packet filter is asked for.
    pub const FILTER: Self = Self(14);
    /// `SRT_REJ_GROUP`: a bonded connection is asked for.
    pub const GROUP: Self = Self(15);
    /// `SRT_REJ_TIMEOUT`: no answer.
    pub const TIMEOUT: Self = Self(16);
    /// `SRT_REJ_CRYPTO`: CTR here, GCM there.
    pub const CRYPTO: Self = Self(17);
    /// `SRT_REJX_BAD_REQUEST`: the stream id can't be read.
    pub const BAD_REQUEST: Self = Self(1400);
    /// `SRT_REJX_UNAUTHORIZED`.
    pub const UNAUTHORIZED: Self = Self(1401);
    /// `SRT_REJX_OVERLOAD`.
    pub const OVERLOAD: Self = Self(1402);
    /// `SRT_REJX_FORBIDDEN`.
    pub const FORBIDDEN: Self = Self(1403);
    /// `SRT_REJX_NOTFOUND`.
    pub const NOT_FOUND: Self = Self(1404);
    /// `SRT_REJX_BAD_MODE`: the stream id's `m` is not for this.
    pub const BAD_MODE: Self = Self(1405);
    /// `SRT_REJX_UNACCEPTABLE`.
    pub const UNACCEPTABLE: Self = Self(1406);
    /// `SRT_REJX_CONFLICT`: somebody publishes it already.
    pub const CONFLICT: Self = Self(1409);
    /// `SRT_REJX_LOCKED`.
    pub const LOCKED: Self = Self(1423);
    /// `SRT_REJX_ISE`.
    pub const INTERNAL: Self = Self(1500);
    /// `SRT_REJX_DOWN`.
    pub const DOWN: Self = Self(1503);

    /// In words, for logs.
    #[must_use]
    pub fn text(self) -> &'static str {
        match self {
            Self::SYSTEM => "a system call failed",
            Self::PEER => "the peer refuses",
            Self::RESOURCE => "no room",
            Self::ROGUE => "the handshake makes no sense",
            Self::BACKLOG => "too many wait to be let in",
            Self::CLOSE => "it is closing",
            Self::VERSION => "SRT older than 1.3 (handshake version 4)",
            Self::COOKIE => "both sides of a rendezvous drew the same cookie",
            Self::BAD_SECRET => "wrong passphrase",
            Self::UNSECURE => "one side has a passphrase, the other has none",
            Self::MESSAGE_API => "stream mode, where live (message) mode is wanted",
            Self::CONGESTION => "another congestion control than \"live\"",
            Self::FILTER => "packet filters (FEC) are not supported: leave out packetfilter",
            Self::GROUP => "connection bonding (groups) is not supported: connect one socket",
            Self::TIMEOUT => "no answer in time",
            Self::CRYPTO => "AES-CTR on one side, AES-GCM on the other",
            Self::BAD_REQUEST => "the stream id can't be read",
            Self::UNAUTHORIZED => "not authorized",
            Self::OVERLOAD => "overloaded",
            Self::FORBIDDEN => "forbidden",
            Self::NOT_FOUND => "there is no such stream",
            Self::BAD_MODE => "the stream id's mode is not for this",
            Self::UNACCEPTABLE => "what is asked for can't be given",
            Self::CONFLICT => "somebody publishes it already",
            Self::LOCKED => "locked",
            Self::INTERNAL => "internal error",
            Self::DOWN => "out of service",
            _ => "for a reason of its own",
        }
    }
}

impl std::fmt::Display for Reject {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} (SRT reject reason {})", self.text(), self.0)
    }
}

/// Why a body is not a handshake.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum HandshakeError {
    /// An extension that makes no sense.
    #[error("handshake extension of type {0}: its length or content is wrong")]
    Extension(u16),
    /// There are not 48 bytes.
    #[error("handshake of {0} bytes: it has at least 48")]
    Short(usize),
}

/// The fixed part.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Handshake {
    /// 4 or 5.
    pub version: u32,
    /// Length of keys that its sender wants, in bytes / 8; 0: says nothing.
    pub encryption: u16,
    /// Version 5: [`MAGIC`] or bits of [`field`]; 4: the type of socket.
    pub extension: u16,
    /// Number of the first data packet.
    pub initial: Seq,
    /// Largest IP packet, 1500.
    pub mtu: u32,
    /// Packets that may be on their way at once.
    pub window: u32,
    /// Which of the packets of a handshake it is.
    pub kind: Kind,
    /// Socket of its sender.
    pub id: u32,
    /// The listener's proof that the caller gets what is sent to it.
    pub cookie: u32,
    /// Address of the receiver as its sender sees it; IPv4 in the first four bytes, words little-endian.
    pub address: [u8; 16],
}

/// HSREQ or HSRSP.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Capabilities {
    /// SRT's version, e.g. `0x010501`.
    pub version: u32,
    /// Bits of [`flag`].
    pub flags: u32,
    /// Milliseconds that its sender keeps what it receives.
    pub receive_latency: u16,
    /// Milliseconds that its sender wants the other to keep at least.
    pub send_latency: u16,
}

/// What follows the fixed part.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Extensions {
    /// HSREQ or HSRSP.
    pub capabilities: Option<Capabilities>,
    /// KMREQ or KMRSP, as [`super::crypto`] reads it.
    pub key: Option<Vec<u8>>,
    /// SID.
    pub stream_id: Option<String>,
    /// Congestion control other than the default.
    pub congestion: Option<String>,
    /// Packet filter asked for.
    pub filter: Option<String>,
    /// Bonding is asked for.
    pub group: bool,
}

const HSREQ: u16 = 1;
const HSRSP: u16 = 2;
const KMREQ: u16 = 3;
const KMRSP: u16 = 4;
const SID: u16 = 5;
const CONGESTION: u16 = 6;
const FILTER: u16 = 7;
const GROUP: u16 = 8;

impl Handshake {
    /// Reads the fixed part, and what follows it of version 5.
    ///
    /// # Errors
    /// [`HandshakeError`] when it is too short, or an extension is wrong.
    pub fn parse(body: &[u8]) -> Result<(Self, Extensions), HandshakeError> {
        let (fixed, rest) = body.split_at_checked(BODY).ok_or(HandshakeError::Short(body.len()))?;
        let at = |place| word(fixed, place).unwrap_or_default();
        let mut address = [0; 16];
        address.copy_from_slice(fixed.get(32..BODY).unwrap_or(&[0; 16]));
        let handshake = Self {
            version: at(0),
            encryption: (at(4) >> 16) as u16,
            extension: (at(4) & 0xffff) as u16,
            initial: Seq::new(at(8)),
            mtu: at(12),
            window: at(16),
            kind: Kind::from_word(at(20)),
            id: at(24),
            cookie: at(28),
            address,
        };
        let concluding = handshake.version == VERSION && handshake.kind != Kind::Induction;
        let extensions = if concluding { Extensions::parse(rest)? } else { Extensions::default() };
        Ok((handshake, extensions))
    }

    /// Body of the packet, with these extensions; `request`: they ask (HSREQ, KMREQ), and don't answer. Sets the
    /// bits of the extension field in a conclusion.
    #[must_use]
    pub fn body(&self, extensions: Option<&Extensions>, request: bool) -> Vec<u8> {
        let mut body = Vec::with_capacity(128);
        let extension = extensions.map_or(self.extension, Extensions::field);
        for word in [
            self.version,
            u32::from(self.encryption) << 16 | u32::from(extension),
            self.initial.value(),
            self.mtu,
            self.window,
            self.kind.word(),
            self.id,
            self.cookie,
        ] {
            body.extend_from_slice(&word.to_be_bytes());
        }
        body.extend_from_slice(&self.address);
        if let Some(extensions) = extensions {
            extensions.put(&mut body, request);
        }
        body
    }
}

impl Extensions {
    fn parse(mut rest: &[u8]) -> Result<Self, HandshakeError> {
        let mut all = Self::default();
        while let Some(head) = word(rest, 0) {
            let (kind, len) = ((head >> 16) as u16, (head & 0xffff) as usize * 4);
            let wrong = HandshakeError::Extension(kind);
            let content = rest.get(4..4 + len).ok_or(wrong)?;
            rest = rest.get(4 + len..).unwrap_or_default();
            match kind {
                HSREQ | HSRSP => {
                    let (Some(version), Some(flags), Some(latency)) =
                        (word(content, 0), word(content, 4), word(content, 8))
                    else {
                        return Err(wrong);
                    };
                    all.capabilities = Some(Capabilities {
                        version,
                        flags,
                        receive_latency: (latency >> 16) as u16,
                        send_latency: (latency & 0xffff) as u16,
                    });
                }
                KMREQ | KMRSP => all.key = Some(content.to_vec()),
                SID => all.stream_id = Some(text(content, MAX_STREAM_ID).ok_or(wrong)?),
                CONGESTION => all.congestion = Some(text(content, 32).ok_or(wrong)?),
                FILTER => all.filter = Some(text(content, MAX_STREAM_ID).ok_or(wrong)?),
                GROUP => all.group = true,
                // Padding, and what later versions may add.
                _ => {}
            }
        }
        Ok(all)
    }

    fn field(&self) -> u16 {
        let config = self.stream_id.is_some() || self.congestion.is_some() || self.filter.is_some();
        let bits = [
            (self.capabilities.is_some(), field::HS),
            (self.key.is_some(), field::KM),
            (config, field::CONFIG),
        ];
        bits.into_iter().filter(|(there, _)| *there).fold(0, |all, (_, bit)| all | bit)
    }

    fn put(&self, body: &mut Vec<u8>, request: bool) {
        let mut put = |kind: u16, content: &[u8]| {
            let words = content.len().div_ceil(4);
            body.extend_from_slice(&kind.to_be_bytes());
            body.extend_from_slice(&(words as u16).to_be_bytes());
            body.extend_from_slice(content);
            body.resize(body.len() + words * 4 - content.len(), 0);
        };
        if let Some(own) = &self.capabilities {
            let mut content = [own.version.to_be_bytes(), own.flags.to_be_bytes()].concat();
            content.extend_from_slice(&own.receive_latency.to_be_bytes());
            content.extend_from_slice(&own.send_latency.to_be_bytes());
            put(if request { HSREQ } else { HSRSP }, &content);
        }
        if let Some(key) = &self.key {
            put(if request { KMREQ } else { KMRSP }, key);
        }
        for (kind, value) in [(SID, &self.stream_id), (CONGESTION, &self.congestion), (FILTER, &self.filter)]
        {
            if let Some(value) = value {
                put(kind, &swapped(value.as_bytes()));
            }
        }
    }
}

/// Texts stand in words whose bytes are turned round.
fn swapped(bytes: &[u8]) -> Vec<u8> {
    let mut all = bytes.to_vec();
    all.resize(bytes.len().next_multiple_of(4), 0);
    for word in all.chunks_exact_mut(4) {
        word.reverse();
    }
    all
}

fn text(content: &[u8], max: usize) -> Option<String> {
    if content.len() > max {
        return None;
    }
    let mut bytes = swapped(content);
    bytes.truncate(bytes.iter().position(|&byte| byte == 0).unwrap_or(bytes.len()));
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn conclusion() -> Handshake {
        Handshake {
            version: 5,
            encryption: 2,
            extension: 0,
            initial: Seq::new(123),
            mtu: 1500,
            window: 8192,
            kind: Kind::Conclusion,
            id: 77,
            cookie: 0xdead_beef,
            address: [1, 0, 0, 127, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
        }
    }

    #[test]
    fn what_is_written_is_read() {
        let extensions = Extensions {
            capabilities: Some(Capabilities {
                version: SRT_VERSION,
                flags: 0xbf,
                receive_latency: 120,
                send_latency: 20,
            }),
            key: Some(vec![7; 40]),
            stream_id: Some("#!::r=live/a,m=publish".into()),
            congestion: Some("live".into()),
            filter: None,
            group: false,
        };
        let body = conclusion().body(Some(&extensions), true);
        let (handshake, read) = Handshake::parse(&body).unwrap();
        assert_eq!(read, extensions);
        assert_eq!(handshake, Handshake { extension: 7, ..conclusion() });
        // As Wireshark shows it: "#!::" comes as "::!#".
        let at = body.windows(4).position(|four| four == b"::!#").unwrap();
        assert_eq!(body[at - 4..at], [0, 5, 0, 6]);
    }

    #[test]
    fn rejections_carry_their_code() {
        for reason in [Reject::BAD_SECRET, Reject::NOT_FOUND] {
            let rejection = Handshake { kind: Kind::Rejection(reason), ..conclusion() };
            let (read, _) = Handshake::parse(&rejection.body(None, false)).unwrap();
            assert_eq!(read.kind, Kind::Rejection(reason));
        }
        let word = |reason: Reject| Kind::Rejection(reason).word();
        assert_eq!((word(Reject::BAD_SECRET), word(Reject::NOT_FOUND)), (1010, 2404), "as libsrt sends them");
    }

    #[test]
    fn what_is_too_long_or_short_is_refused() {
        let long = Extensions { stream_id: Some("x".repeat(513)), ..Extensions::default() };
        let body = conclusion().body(Some(&long), true);
        assert_eq!(Handshake::parse(&body), Err(HandshakeError::Extension(5)));
        assert_eq!(Handshake::parse(&body[..100]), Err(HandshakeError::Extension(5)));
        assert_eq!(Handshake::parse(&body[..47]), Err(HandshakeError::Short(47)));
    }

    proptest! {
        #[test]
        fn hostile_bytes(mut body in proptest::collection::vec(any::<u8>(), 0..256), conclude: bool) {
            if conclude && body.len() >= 24 {
                body[..4].copy_from_slice(&5u32.to_be_bytes());
                body[20..24].copy_from_slice(&u32::MAX.to_be_bytes());
            }
            if let Ok((handshake, extensions)) = Handshake::parse(&body) {
                let again = handshake.body(Some(&extensions), true);
                prop_assert!(Handshake::parse(&again).is_ok());
            }
        }
    }
}
