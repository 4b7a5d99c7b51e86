//! The handshake: three packets each way before the first chunk (RTMP 1.0 section 5.2), in its two kinds.
//!
//! *Simple*: 1536 random bytes, echoed. *Digest* (Flash Player 9 and later, FMLE, librtmp, ffmpeg): C1 and
//! S1 hide an HMAC-SHA256 of themselves at an offset that four of their bytes tell, in one of two layouts
//! (schema 0: the offset stands in the packet's second half; schema 1: in its first); C2 and S2 end in an
//! HMAC keyed by the peer's digest. A server takes a C1 without a valid digest as simple. The keys are no
//! secret: the digest tells Flash that H.264 may be played, and nothing else.
//!
//! RTMPE (version 6, 8) is refused: its encryption is broken and no living client needs it; TLS does it.

use bytes::{Buf, BytesMut};
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

use super::RtmpError;

/// Bytes of each of C1, C2, S1, S2.
pub const PACKET: usize = 1536;
const VERSION: u8 = 3;
const DIGEST: usize = 32;
/// Range of a digest's offset: 764 (half a packet) - 4 (offset) - 32 (digest).
const OFFSETS: usize = 728;
/// Where a digest's offset bytes stand, by schema.
const OFFSET_AT: [usize; 2] = [772, 8];
const PLAYER_KEY: &[u8; 30] = b"Genuine Adobe Flash Player 001";
const SERVER_KEY: &[u8; 36] = b"Genuine Adobe Flash Media Server 001";
/// What follows either name in the key of the second packets.
const KEY_TAIL: [u8; 32] = [
    0xF0, 0xEE, 0xC2, 0x4A, 0x80, 0x68, 0xBE, 0xE8, 0x2E, 0x00, 0xD0, 0xD1, 0x02, 0x9E, 0x7E, 0x57, 0x6E,
    0xEC, 0x5D, 0x2D, 0x29, 0x80, 0x6F, 0xAB, 0x93, 0xB8, 0xE6, 0x36, 0xCF, 0xEB, 0x31, 0xAE,
];
/// The version in S1: a Flash Media Server that signs (3.0 or later).
const SERVER_VERSION: [u8; 4] = [4, 5, 0, 1];
/// The version in C1: a Flash Player that signs (9.0.115 or later); old servers look at it.
const CLIENT_VERSION: [u8; 4] = [0x80, 0, 7, 2];

/// Which handshake was done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Random bytes echoed.
    Simple,
    /// Signed, with the digest in layout 0 or 1.
    Digest(u8),
}

/// The server's side: takes C0, C1, C2; gives S0, S1, S2.
#[derive(Debug)]
pub struct ServerHandshake {
    seed: u64,
    answered: Option<Kind>,
}

impl ServerHandshake {
    /// `seed` makes the random bytes differ from connection to connection; it need not be secret.
    #[must_use]
    pub const fn new(seed: u64) -> Self {
        Self { seed, answered: None }
    }

    /// Takes what it can from `input` and appends answers to `out`; `Some` once the peer's last packet is
    /// taken. What follows in `input` is chunks.
    ///
    /// # Errors
    /// [`RtmpError::Handshake`] when the peer does not speak plain RTMP.
    pub fn input(&mut self, input: &mut BytesMut, out: &mut Vec<u8>) -> Result<Option<Kind>, RtmpError> {
        if self.answered.is_none() {
            let Some(&version) = input.first() else { return Ok(None) };
            check_version(version)?;
            let Some(c1) = input.get(1..).and_then(|rest| rest.first_chunk::<PACKET>()) else {
                return Ok(None);
            };
            self.answered = Some(self.answer(c1, out));
            input.advance(1 + PACKET);
        }
        if input.len() < PACKET {
            return Ok(None);
        }
        // Nobody gains by checking C2: clients in use send zeros, echoes, or sign with other keys.
        input.advance(PACKET);
        Ok(self.answered)
    }

    fn answer(&self, c1: &[u8; PACKET], out: &mut Vec<u8>) -> Kind {
        let mut s1 = noise(self.seed);
        let mut s2 = *c1;
        let kind = match find_digest(c1, PLAYER_KEY) {
            Some((schema, digest)) => {
                put(&mut s1, 0, &c1_time(c1));
                put(&mut s1, 4, &SERVER_VERSION);
                sign_first(&mut s1, schema, SERVER_KEY);
                s2 = noise(self.seed ^ u64::from(schema) ^ 0x5_2);
                sign_second(&mut s2, &digest, SERVER_KEY);
                Kind::Digest(schema)
            }
            None => {
                put(&mut s1, 0, &[0; 8]);
                Kind::Simple
            }
        };
        out.push(VERSION);
        out.extend_from_slice(&s1);
        out.extend_from_slice(&s2);
        kind
    }
}

/// The client's side: gives C0, C1, then C2; takes S0, S1, S2.
#[derive(Debug)]
pub struct ClientHandshake {
    seed: u64,
    digest: Option<[u8; DIGEST]>,
}

impl ClientHandshake {
    /// Begins a handshake and appends C0 and C1 to `out`. `digest`: sign C1 (what every server of today
    /// takes), or send the plain kind.
    #[must_use]
    pub fn new(seed: u64, digest: bool, out: &mut Vec<u8>) -> Self {
        let mut c1 = noise(seed);
        put(&mut c1, 0, &[0; 8]);
        let mut own = None;
        if digest {
            put(&mut c1, 4, &CLIENT_VERSION);
            own = Some(sign_first(&mut c1, 1, PLAYER_KEY));
        }
        out.push(VERSION);
        out.extend_from_slice(&c1);
        Self { seed, digest: own }
    }

    /// Takes the server's three packets, appends C2 to `out`; `Some` when done.
    ///
    /// # Errors
    /// [`RtmpError::Handshake`] when the server answers with another protocol.
    pub fn input(&mut self, input: &mut BytesMut, out: &mut Vec<u8>) -> Result<Option<Kind>, RtmpError> {
        let Some(&version) = input.first() else { return Ok(None) };
        check_version(version)?;
        if input.len() < 1 + 2 * PACKET {
            return Ok(None);
        }
        let Some(s1) = input.get(1..).and_then(|rest| rest.first_chunk::<PACKET>()) else { return Ok(None) };
        // An old server answers a signed C1 with plain packets: then we echo.
        let found = self.digest.and_then(|_| find_digest(s1, SERVER_KEY));
        let kind = if let Some((schema, digest)) = found {
            let mut c2 = noise(self.seed ^ 0xC_2);
            sign_second(&mut c2, &digest, PLAYER_KEY);
            out.extend_from_slice(&c2);
            Kind::Digest(schema)
        } else {
            out.extend_from_slice(s1);
            Kind::Simple
        };
        input.advance(1 + 2 * PACKET);
        Ok(Some(kind))
    }
}

fn check_version(version: u8) -> Result<(), RtmpError> {
    match version {
        // RTMP 1.0 5.2.2: answer an unknown version below 32 with ours.
        6 | 8 | 9 => Err(RtmpError::Handshake("RTMPE encryption is not supported: use rtmp:// or rtmps://")),
        0x16 => Err(RtmpError::Handshake("a TLS hello on a plain RTMP port: use rtmp://, or the RTMPS port")),
        b'A'..=b'Z' => Err(RtmpError::Handshake("an HTTP request on the RTMP port")),
        0..32 => Ok(()),
        _ => Err(RtmpError::Handshake("the first byte is no RTMP version: not an RTMP peer")),
    }
}

fn hmac(key: &[&[u8]], data: &[&[u8]]) -> [u8; DIGEST] {
    let key = key.concat();
    // An HMAC takes keys of any length; the fallback can't be reached.
    let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(&key) else { return [0; DIGEST] };
    for part in data {
        mac.update(part);
    }
    mac.finalize().into_bytes().into()
}

/// Where schema `schema` puts the digest of `packet`.
fn digest_at(packet: &[u8; PACKET], schema: u8) -> usize {
    let at = if schema == 0 { OFFSET_AT[0] } else { OFFSET_AT[1] };
    let sum: usize = packet.iter().skip(at).take(4).map(|b| usize::from(*b)).sum();
    at + 4 + sum % OFFSETS
}

/// The digest that `packet` has to have at `at`.
fn digest_of(packet: &[u8; PACKET], at: usize, key: &[u8]) -> [u8; DIGEST] {
    let (head, rest) = packet.split_at_checked(at).unwrap_or((packet, &[]));
    hmac(&[key], &[head, rest.get(DIGEST..).unwrap_or(&[])])
}

fn find_digest(packet: &[u8; PACKET], key: &[u8]) -> Option<(u8, [u8; DIGEST])> {
    // A zero version says "simple" in so many words.
    if packet.get(4..8) == Some(&[0; 4]) {
        return None;
    }
    [1, 0].into_iter().find_map(|schema| {
        let at = digest_at(packet, schema);
        let digest = digest_of(packet, at, key);
        (packet.get(at..at + DIGEST) == Some(&digest[..])).then_some((schema, digest))
    })
}

fn sign_first(packet: &mut [u8; PACKET], schema: u8, key: &[u8]) -> [u8; DIGEST] {
    let at = digest_at(packet, schema);
    let digest = digest_of(packet, at, key);
    put(packet, at, &digest);
    digest
}

fn sign_second(packet: &mut [u8; PACKET], peer_digest: &[u8], key: &[u8]) {
    let key = hmac(&[key, &KEY_TAIL], &[peer_digest]);
    let (body, _) = packet.split_at(PACKET - DIGEST);
    let digest = hmac(&[&key], &[body]);
    put(packet, PACKET - DIGEST, &digest);
}

fn c1_time(c1: &[u8; PACKET]) -> [u8; 4] {
    c1.first_chunk().copied().unwrap_or_default()
}

fn put(packet: &mut [u8; PACKET], at: usize, bytes: &[u8]) {
    if let Some(place) = packet.get_mut(at..at + bytes.len()) {
        place.copy_from_slice(bytes);
    }
}

/// 1536 bytes that look random (splitmix64).
fn noise(seed: u64) -> [u8; PACKET] {
    let mut packet = [0; PACKET];
    let mut state = seed;
    for eight in packet.as_chunks_mut::<8>().0 {
        state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = state;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        *eight = (z ^ (z >> 31)).to_be_bytes();
    }
    packet
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(server: &mut ServerHandshake, c: &[u8], step: usize) -> (Vec<u8>, Option<Kind>) {
        let (mut input, mut out, mut done) = (BytesMut::new(), Vec::new(), None);
        for part in c.chunks(step) {
            input.extend_from_slice(part);
            done = server.input(&mut input, &mut out).unwrap();
        }
        (out, done)
    }

    #[test]
    fn both_sides_agree_on_each_kind() {
        for (digest, kind) in [(true, Kind::Digest(1)), (false, Kind::Simple)] {
            for step in [1, 1000, 5000] {
                let mut wire = Vec::new();
                let mut client = ClientHandshake::new(7, digest, &mut wire);
                let mut server = ServerHandshake::new(9);
                let (answer, done) = run(&mut server, &wire, step);
                assert_eq!((answer.len(), done), (1 + 2 * PACKET, None));
                let (mut input, mut c2) = (BytesMut::from(&answer[..]), Vec::new());
                assert_eq!(client.input(&mut input, &mut c2).unwrap(), Some(kind));
                assert_eq!(c2.len(), PACKET);
                c2.push(42);
                let mut input = BytesMut::from(&c2[..]);
                assert_eq!(server.input(&mut input, &mut Vec::new()).unwrap(), Some(kind));
                assert_eq!(&input[..], [42]);
                if kind == Kind::Simple {
                    assert_eq!(answer[1 + PACKET..], wire[1..]);
                }
            }
        }
    }

    #[test]
    fn server_reads_schema_0_and_signs_s2_by_it() {
        let mut c1 = noise(3);
        put(&mut c1, 4, &CLIENT_VERSION);
        let digest = sign_first(&mut c1, 0, PLAYER_KEY);
        let mut out = Vec::new();
        assert_eq!(ServerHandshake::new(1).answer(&c1, &mut out), Kind::Digest(0));
        let s1: &[u8; PACKET] = out[1..].first_chunk().unwrap();
        assert_eq!(find_digest(s1, SERVER_KEY).unwrap().0, 0);
        let s2 = &out[1 + PACKET..];
        let key = hmac(&[SERVER_KEY, &KEY_TAIL], &[&digest]);
        assert_eq!(s2[PACKET - DIGEST..], hmac(&[&key], &[&s2[..PACKET - DIGEST]]));
    }

    #[test]
    fn a_broken_digest_falls_back_to_simple() {
        let mut c1 = noise(3);
        put(&mut c1, 4, &CLIENT_VERSION);
        sign_first(&mut c1, 1, PLAYER_KEY);
        c1[1000] ^= 1;
        let mut out = Vec::new();
        assert_eq!(ServerHandshake::new(1).answer(&c1, &mut out), Kind::Simple);
        assert_eq!(out[1 + PACKET..], c1);
    }

    #[test]
    fn other_protocols_are_refused_at_the_first_byte() {
        for (byte, word) in [(6, "RTMPE"), (8, "RTMPE"), (b'G', "HTTP"), (0x16, "TLS"), (0xFF, "not an RTMP")]
        {
            let mut input = BytesMut::from(&[byte][..]);
            let error = ServerHandshake::new(0).input(&mut input, &mut Vec::new()).unwrap_err();
            assert!(error.to_string().contains(word), "{error}");
        }
    }

    #[test]
    fn digest_offset_reaches_its_ends() {
        for fill in 0..=255 {
            let mut c1 = [fill; PACKET];
            for schema in [0, 1] {
                let digest = sign_first(&mut c1, schema, PLAYER_KEY);
                let at = digest_at(&c1, schema);
                assert_eq!(c1[at..at + DIGEST], digest);
            }
        }
    }
}
