//! SRTP and SRTCP: what protects media on the wire (RFC 3711; RFC 7714 for GCM).
//!
//! Keys come from DTLS ([`Keys::from_exported`], RFC 5764 section 4.2). [`Sender`] seals, [`Receiver`] opens; each counts the
//! rollovers of sequence numbers per source, and a receiver takes no packet twice.

use std::collections::VecDeque;

use aes::cipher::{Array, InnerIvInit, KeyInit, StreamCipher, StreamCipherCoreWrapper};
use aes::{Aes128, Aes256};
use ctr::CtrCore;
use ctr::flavors::Ctr128BE;
use hmac::{Hmac, Mac};
use ring::aead::{AES_128_GCM, AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use sha1::Sha1;

/// Sources that one side has at once; of more, the oldest is forgotten.
pub const MAX_SOURCES: usize = 32;
/// What sealing adds to a packet at most: a tag, and the index of SRTCP.
pub const MAX_OVERHEAD: usize = 16 + 4;

/// The header of RTP without extensions, and that of RTCP with its first source.
const RTP_HEADER: usize = 12;
const RTCP_HEADER: usize = 8;
/// The index that SRTCP packets carry.
const INDEX: usize = 4;
/// That the packet is encrypted (RFC 3711, section 3.4).
const ENCRYPTED: u32 = 1 << 31;
/// Packets that may come behind the newest one.
const WINDOW: u64 = 128;

const GCM_TAG: usize = 16;
const RTCP_SHA1_TAG: usize = 10;

/// Ways of protection (RFC 5764 section 4.1.2, RFC 7714 section 14.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Profile {
    /// AES-128 in counter mode, HMAC-SHA1 of 80 bits: what everybody knows.
    Aes128CmSha1_80,
    /// The same, of 32 bits for RTP.
    Aes128CmSha1_32,
    /// AES-128-GCM.
    Aes128Gcm,
    /// AES-256-GCM.
    Aes256Gcm,
}

impl Profile {
    /// Bytes of the master key.
    #[must_use]
    pub fn key(self) -> usize {
        if self == Self::Aes256Gcm { 32 } else { 16 }
    }

    /// Bytes of the master salt.
    #[must_use]
    pub fn salt(self) -> usize {
        if self.is_gcm() { 12 } else { 14 }
    }

    /// Bytes that sealing adds to an RTP packet.
    #[must_use]
    pub fn rtp_tag(self) -> usize {
        match self {
            Self::Aes128CmSha1_80 => 10,
            Self::Aes128CmSha1_32 => 4,
            Self::Aes128Gcm | Self::Aes256Gcm => GCM_TAG,
        }
    }

    /// Bytes that both sides' keys and salts have together.
    #[must_use]
    pub fn exported(self) -> usize {
        2 * (self.key() + self.salt())
    }

    fn is_gcm(self) -> bool {
        matches!(self, Self::Aes128Gcm | Self::Aes256Gcm)
    }
}

/// Why a packet is dropped, or keys can't be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SrtpError {
    /// It was changed on the way, or sealed with another key.
    #[error("the packet is not genuine")]
    Forged,
    /// Keys have not the length that their profile wants.
    #[error("{0} bytes of key material do not fit the SRTP profile")]
    Keys(usize),
    /// It has no header, or not what its header says.
    #[error("no RTP or RTCP packet")]
    Malformed,
    /// It came before, or is too old to tell.
    #[error("the packet came before")]
    Replayed,
}

/// A master key and its salt.
#[derive(Clone)]
pub struct Key {
    key: heapless::Vec<u8, 32>,
    salt: heapless::Vec<u8, 14>,
}

/// The keys of both sides of a DTLS session.
#[derive(Clone)]
pub struct Keys {
    /// What they protect with.
    pub profile: Profile,
    /// With which the DTLS client seals.
    pub client: Key,
    /// With which the DTLS server seals.
    pub server: Key,
}

impl Keys {
    /// Of what DTLS exports: keys of client and server, then their salts.
    ///
    /// # Errors
    /// [`SrtpError::Keys`]: not [`Profile::exported`] bytes.
    pub fn from_exported(profile: Profile, bytes: &[u8]) -> Result<Self, SrtpError> {
        let wrong = SrtpError::Keys(bytes.len());
        if bytes.len() != profile.exported() {
            return Err(wrong);
        }
        let (keys, salts) = bytes.split_at_checked(profile.key() * 2).ok_or(wrong)?;
        let (client, server) = keys.split_at_checked(profile.key()).ok_or(wrong)?;
        let (client_salt, server_salt) = salts.split_at_checked(profile.salt()).ok_or(wrong)?;
        let key = |key, salt| {
            let key = heapless::Vec::from_slice(key).map_err(|_| wrong)?;
            Ok(Key { key, salt: heapless::Vec::from_slice(salt).map_err(|_| wrong)? })
        };
        Ok(Self { profile, client: key(client, client_salt)?, server: key(server, server_salt)? })
    }
}

impl std::fmt::Debug for Keys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Keys").field("profile", &self.profile).finish_non_exhaustive()
    }
}

/// What session keys are for (RFC 3711, section 4.3.2).
#[derive(Clone, Copy)]
enum Label {
    RtpKey = 0,
    RtpAuth = 1,
    RtpSalt = 2,
    RtcpKey = 3,
    RtcpAuth = 4,
    RtcpSalt = 5,
}

enum Block {
    Aes128(Aes128),
    Aes256(Aes256),
}

/// The key stream of AES in counter mode that begins with `start`, over `data`.
fn counter_mode(block: &Block, start: [u8; 16], data: &mut [u8]) {
    match block {
        Block::Aes128(aes) => {
            let core = CtrCore::<_, Ctr128BE>::inner_iv_init(aes, &Array(start));
            StreamCipherCoreWrapper::from_core(core).apply_keystream(data);
        }
        Block::Aes256(aes) => {
            let core = CtrCore::<_, Ctr128BE>::inner_iv_init(aes, &Array(start));
            StreamCipherCoreWrapper::from_core(core).apply_keystream(data);
        }
    }
}

/// A session key of `N` bytes (RFC 3711, section 4.3.3; the rate is 0, so that there is one of each kind).
fn derive<const N: usize>(master: &Key, label: Label) -> Result<[u8; N], SrtpError> {
    let wrong = SrtpError::Keys(master.key.len());
    let block = match master.key.len() {
        16 => Block::Aes128(Aes128::new_from_slice(&master.key).map_err(|_| wrong)?),
        32 => Block::Aes256(Aes256::new_from_slice(&master.key).map_err(|_| wrong)?),
        _ => return Err(wrong),
    };
    // Salts of 96 bits are filled up at their end (RFC 7714, section 11).
    let mut start = [0; 16];
    for (to, from) in start.iter_mut().zip(&master.salt) {
        *to = *from;
    }
    if let Some(byte) = start.get_mut(7) {
        *byte ^= label as u8;
    }
    let mut key = [0; N];
    counter_mode(&block, start, &mut key);
    Ok(key)
}

/// The session keys of one direction, of RTP or of RTCP.
enum Cipher {
    Gcm { key: Box<LessSafeKey>, salt: [u8; 12] },
    CmSha1 { block: Box<Aes128>, salt: [u8; 14], mac: Box<Hmac<Sha1>>, tag: usize },
}

impl Cipher {
    fn new(
        profile: Profile,
        master: &Key,
        [key, auth, salt]: [Label; 3],
        tag: usize,
    ) -> Result<Self, SrtpError> {
        let wrong = SrtpError::Keys(master.key.len());
        let gcm = |unbound: Result<UnboundKey, _>| {
            let key = Box::new(LessSafeKey::new(unbound.map_err(|_| wrong)?));
            Ok(Self::Gcm { key, salt: derive(master, salt)? })
        };
        match profile {
            Profile::Aes128Gcm => gcm(UnboundKey::new(&AES_128_GCM, &derive::<16>(master, key)?)),
            Profile::Aes256Gcm => gcm(UnboundKey::new(&AES_256_GCM, &derive::<32>(master, key)?)),
            Profile::Aes128CmSha1_80 | Profile::Aes128CmSha1_32 => {
                let block = Aes128::new_from_slice(&derive::<16>(master, key)?).map_err(|_| wrong)?;
                let mac = Hmac::new_from_slice(&derive::<20>(master, auth)?).map_err(|_| wrong)?;
                Ok(Self::CmSha1 {
                    block: Box::new(block),
                    salt: derive(master, salt)?,
                    mac: Box::new(mac),
                    tag,
                })
            }
        }
    }

    fn rtp(profile: Profile, master: &Key) -> Result<Self, SrtpError> {
        Self::new(profile, master, [Label::RtpKey, Label::RtpAuth, Label::RtpSalt], profile.rtp_tag())
    }

    fn rtcp(profile: Profile, master: &Key) -> Result<Self, SrtpError> {
        Self::new(profile, master, [Label::RtcpKey, Label::RtcpAuth, Label::RtcpSalt], RTCP_SHA1_TAG)
    }

    fn tag(&self) -> usize {
        match self {
            Self::Gcm { .. } => GCM_TAG,
            Self::CmSha1 { tag, .. } => *tag,
        }
    }
}

/// Of GCM, for RTP: source, rollovers and sequence number are its last 10 bytes; for RTCP there are zeros for the rollovers.
fn nonce(salt: [u8; 12], ssrc: u32, high: u16, low: u32) -> Nonce {
    let mut bytes = [0; 12];
    let number = u128::from(ssrc) << 48 | u128::from(high) << 32 | u128::from(low);
    for ((to, from), salt) in bytes.iter_mut().zip(number.to_be_bytes().iter().skip(4)).zip(salt) {
        *to = from ^ salt;
    }
    Nonce::assume_unique_for_key(bytes)
}

/// Where the key stream begins (RFC 3711, section 4.1.1).
fn stream_start(salt: [u8; 14], ssrc: u32, index: u64) -> [u8; 16] {
    let mut bytes = (u128::from(ssrc) << 64 | u128::from(index) << 16).to_be_bytes();
    for (to, from) in bytes.iter_mut().zip(salt) {
        *to ^= from;
    }
    bytes
}

/// Of an RTP packet: the length of its header with sources and extensions, sequence number and source.
fn rtp_header(packet: &[u8]) -> Option<(usize, u16, u32)> {
    let (first, _) = packet.split_first()?;
    if first >> 6 != 2 {
        return None;
    }
    let mut length = RTP_HEADER + usize::from(first & 15) * 4;
    if first & 0x10 != 0 {
        let words = packet.get(length + 2..)?.first_chunk().map(|b| u16::from_be_bytes(*b))?;
        length += 4 + usize::from(words) * 4;
    }
    if length > packet.len() {
        return None;
    }
    let seq = packet.get(2..)?.first_chunk().map(|b| u16::from_be_bytes(*b))?;
    let ssrc = packet.get(8..)?.first_chunk().map(|b| u32::from_be_bytes(*b))?;
    Some((length, seq, ssrc))
}

fn rtcp_source(packet: &[u8]) -> Option<u32> {
    let first = packet.first()?;
    if first >> 6 != 2 {
        return None;
    }
    packet.get(4..)?.first_chunk().map(|b| u32::from_be_bytes(*b))
}

/// Seals what is sent.
pub struct Sender {
    rtp: Cipher,
    rtcp: Cipher,
    sources: VecDeque<(u32, u32, u16)>,
    /// Of RTCP packets of all sources.
    index: u32,
}

impl std::fmt::Debug for Sender {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sender").field("sources", &self.sources).finish_non_exhaustive()
    }
}

impl Sender {
    /// Of one side's key.
    ///
    /// # Errors
    /// [`SrtpError::Keys`]: it does not fit the profile.
    pub fn new(profile: Profile, master: &Key) -> Result<Self, SrtpError> {
        let (rtp, rtcp) = (Cipher::rtp(profile, master)?, Cipher::rtcp(profile, master)?);
        Ok(Self { rtp, rtcp, sources: VecDeque::new(), index: 0 })
    }

    /// Rollovers of a source, when its next packet is `seq`. Packets may be sent again.
    fn rollovers(&mut self, ssrc: u32, seq: u16) -> u32 {
        let Some((_, rollovers, newest)) = self.sources.iter_mut().find(|(known, ..)| *known == ssrc) else {
            if self.sources.len() >= MAX_SOURCES {
                self.sources.pop_front();
            }
            self.sources.push_back((ssrc, 0, seq));
            return 0;
        };
        if seq.wrapping_sub(*newest) < 0x8000 {
            if seq < *newest {
                *rollovers = rollovers.wrapping_add(1);
            }
            *newest = seq;
            *rollovers
        } else if seq > *newest {
            // From before the last rollover.
            rollovers.wrapping_sub(1)
        } else {
            *rollovers
        }
    }

    /// Seals the RTP packet that `buffer` holds from `start` to its end, in place; it grows by [`Profile::rtp_tag`].
    ///
    /// # Errors
    /// [`SrtpError::Malformed`]: there is none.
    pub fn rtp(&mut self, buffer: &mut Vec<u8>, start: usize) -> Result<(), SrtpError> {
        let packet = buffer.get_mut(start..).ok_or(SrtpError::Malformed)?;
        let (header, seq, ssrc) = rtp_header(packet).ok_or(SrtpError::Malformed)?;
        let rollovers = self.rollovers(ssrc, seq);
        let (header, payload) = packet.split_at_mut_checked(header).ok_or(SrtpError::Malformed)?;
        match &self.rtp {
            Cipher::Gcm { key, salt } => {
                let low = rollovers << 16 | u32::from(seq);
                let nonce = nonce(*salt, ssrc, (rollovers >> 16) as u16, low);
                let tag = key
                    .seal_in_place_separate_tag(nonce, Aad::from(header), payload)
                    .map_err(|_| SrtpError::Malformed)?;
                buffer.extend_from_slice(tag.as_ref());
            }
            Cipher::CmSha1 { block, salt, mac, tag } => {
                let index = u64::from(rollovers) << 16 | u64::from(seq);
                cm(block, stream_start(*salt, ssrc, index), payload);
                let mut mac = (**mac).clone();
                mac.update(header);
                mac.update(payload);
                mac.update(&rollovers.to_be_bytes());
                buffer.extend_from_slice(mac.finalize().into_bytes().get(..*tag).unwrap_or_default());
            }
        }
        Ok(())
    }

    /// Seals the compound RTCP packet that `buffer` holds from `start` to its end, in place.
    ///
    /// # Errors
    /// [`SrtpError::Malformed`]: there is none.
    pub fn rtcp(&mut self, buffer: &mut Vec<u8>, start: usize) -> Result<(), SrtpError> {
        let packet = buffer.get_mut(start..).ok_or(SrtpError::Malformed)?;
        let ssrc = rtcp_source(packet).ok_or(SrtpError::Malformed)?;
        let (header, payload) = packet.split_at_mut_checked(RTCP_HEADER).ok_or(SrtpError::Malformed)?;
        self.index = (self.index + 1) & !ENCRYPTED;
        let word = (self.index | ENCRYPTED).to_be_bytes();
        match &self.rtcp {
            Cipher::Gcm { key, salt } => {
                let aad = rtcp_aad(header, word);
                let tag = key
                    .seal_in_place_separate_tag(nonce(*salt, ssrc, 0, self.index), Aad::from(aad), payload)
                    .map_err(|_| SrtpError::Malformed)?;
                buffer.extend_from_slice(tag.as_ref());
                buffer.extend_from_slice(&word);
            }
            Cipher::CmSha1 { block, salt, mac, tag } => {
                cm(block, stream_start(*salt, ssrc, self.index.into()), payload);
                let mut mac = (**mac).clone();
                mac.update(header);
                mac.update(payload);
                mac.update(&word);
                buffer.extend_from_slice(&word);
                buffer.extend_from_slice(mac.finalize().into_bytes().get(..*tag).unwrap_or_default());
            }
        }
        Ok(())
    }
}

fn cm(block: &Aes128, start: [u8; 16], data: &mut [u8]) {
    let core = CtrCore::<_, Ctr128BE>::inner_iv_init(block, &Array(start));
    StreamCipherCoreWrapper::from_core(core).apply_keystream(data);
}

fn rtcp_aad(header: &[u8], word: [u8; INDEX]) -> [u8; RTCP_HEADER + INDEX] {
    let mut aad = [0; RTCP_HEADER + INDEX];
    for (to, from) in aad.iter_mut().zip(header.iter().chain(&word)) {
        *to = *from;
    }
    aad
}

/// Which packets of one source came.
#[derive(Debug, Clone, Copy)]
struct Source {
    ssrc: u32,
    /// The newest.
    newest: u64,
    /// Bit 0 is the newest, bit 1 that before it.
    seen: u128,
}

impl Source {
    fn is_new(&self, index: u64) -> bool {
        match self.newest.checked_sub(index) {
            None => true,
            Some(age) => age < WINDOW && self.seen >> age & 1 == 0,
        }
    }

    fn note(&mut self, index: u64) {
        match index.checked_sub(self.newest) {
            Some(0) | None => self.seen |= 1u128.checked_shl((self.newest - index) as u32).unwrap_or(0),
            Some(ahead) => {
                let moved = u32::try_from(ahead).ok().and_then(|ahead| self.seen.checked_shl(ahead));
                self.seen = moved.unwrap_or(0) | 1;
                self.newest = index;
            }
        }
    }
}

/// Opens what is received.
pub struct Receiver {
    rtp: Cipher,
    rtcp: Cipher,
    /// The one heard last is at the end.
    sources: Vec<Source>,
    control: Option<Source>,
}

impl std::fmt::Debug for Receiver {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Receiver").field("sources", &self.sources).finish_non_exhaustive()
    }
}

impl Receiver {
    /// Of the other side's key.
    ///
    /// # Errors
    /// [`SrtpError::Keys`]: it does not fit the profile.
    pub fn new(profile: Profile, master: &Key) -> Result<Self, SrtpError> {
        let (rtp, rtcp) = (Cipher::rtp(profile, master)?, Cipher::rtcp(profile, master)?);
        Ok(Self { rtp, rtcp, sources: Vec::new(), control: None })
    }

    /// Opens an RTP packet in place; what it tells is its length then. Nothing is remembered of what is not genuine.
    ///
    /// # Errors
    /// [`SrtpError`]: drop it.
    pub fn rtp(&mut self, packet: &mut [u8]) -> Result<usize, SrtpError> {
        let length = packet.len().checked_sub(self.rtp.tag()).ok_or(SrtpError::Malformed)?;
        let plain = packet.get(..length).ok_or(SrtpError::Malformed)?;
        let (header_length, seq, ssrc) = rtp_header(plain).ok_or(SrtpError::Malformed)?;
        let at = self.sources.iter().position(|source| source.ssrc == ssrc);
        let known = at.and_then(|at| self.sources.get(at));
        let index = match known {
            None => u64::from(seq),
            Some(source) => nearest(source.newest, seq).ok_or(SrtpError::Replayed)?,
        };
        if known.is_some_and(|source| !source.is_new(index)) {
            return Err(SrtpError::Replayed);
        }
        let rollovers = (index >> 16) as u32;
        let (header, rest) = packet.split_at_mut_checked(header_length).ok_or(SrtpError::Malformed)?;
        match &self.rtp {
            Cipher::Gcm { key, salt } => {
                let nonce = nonce(*salt, ssrc, (index >> 32) as u16, index as u32);
                key.open_in_place(nonce, Aad::from(header), rest).map_err(|_| SrtpError::Forged)?;
            }
            Cipher::CmSha1 { block, salt, mac, tag } => {
                let (payload, told) =
                    rest.split_at_mut_checked(rest.len() - tag).ok_or(SrtpError::Malformed)?;
                let mut mac = (**mac).clone();
                mac.update(header);
                mac.update(payload);
                mac.update(&rollovers.to_be_bytes());
                mac.verify_truncated_left(told).map_err(|_| SrtpError::Forged)?;
                cm(block, stream_start(*salt, ssrc, index), payload);
            }
        }
        match at.and_then(|at| self.sources.get_mut(at..)) {
            Some(from) => {
                if let Some(source) = from.first_mut() {
                    source.note(index);
                }
                from.rotate_left(1);
            }
            None => {
                if self.sources.len() >= MAX_SOURCES {
                    self.sources.remove(0);
                }
                self.sources.push(Source { ssrc, newest: index, seen: 1 });
            }
        }
        Ok(length)
    }

    /// Opens a compound RTCP packet in place; what it tells is its length then.
    ///
    /// # Errors
    /// [`SrtpError`]: drop it.
    pub fn rtcp(&mut self, packet: &mut [u8]) -> Result<usize, SrtpError> {
        let ssrc = rtcp_source(packet).ok_or(SrtpError::Malformed)?;
        let length =
            packet.len().checked_sub(self.rtcp.tag() + INDEX).filter(|&length| length >= RTCP_HEADER);
        let length = length.ok_or(SrtpError::Malformed)?;
        // GCM has the index at the end, HMAC its tag.
        let place = length + if matches!(self.rtcp, Cipher::Gcm { .. }) { GCM_TAG } else { 0 };
        let word: [u8; INDEX] =
            packet.get(place..).and_then(<[u8]>::first_chunk).copied().ok_or(SrtpError::Malformed)?;
        let number = u32::from_be_bytes(word);
        let (index, encrypted) = (number & !ENCRYPTED, number & ENCRYPTED != 0);
        if self.control.is_some_and(|source| !source.is_new(index.into())) {
            return Err(SrtpError::Replayed);
        }
        let (header, rest) = packet.split_at_mut_checked(RTCP_HEADER).ok_or(SrtpError::Malformed)?;
        match &self.rtcp {
            Cipher::Gcm { key, salt } => {
                if !encrypted {
                    return Err(SrtpError::Forged);
                }
                let aad = rtcp_aad(header, word);
                let sealed = rest.get_mut(..length - RTCP_HEADER + GCM_TAG).ok_or(SrtpError::Malformed)?;
                key.open_in_place(nonce(*salt, ssrc, 0, index), Aad::from(aad), sealed)
                    .map_err(|_| SrtpError::Forged)?;
            }
            Cipher::CmSha1 { block, salt, mac, .. } => {
                let (payload, tail) =
                    rest.split_at_mut_checked(length - RTCP_HEADER).ok_or(SrtpError::Malformed)?;
                let mut mac = (**mac).clone();
                mac.update(header);
                mac.update(payload);
                mac.update(&word);
                mac.verify_truncated_left(tail.get(INDEX..).ok_or(SrtpError::Malformed)?)
                    .map_err(|_| SrtpError::Forged)?;
                if encrypted {
                    cm(block, stream_start(*salt, ssrc, index.into()), payload);
                }
            }
        }
        let control = self.control.get_or_insert(Source { ssrc: 0, newest: index.into(), seen: 1 });
        control.note(index.into());
        Ok(length)
    }
}

/// The full number of a packet that is `seq` on the wire: that which is nearest to the newest (RFC 3711, section 3.3.1).
/// `None`: before the first.
fn nearest(newest: u64, seq: u16) -> Option<u64> {
    let ahead = i64::from(seq.wrapping_sub(newest as u16).cast_signed());
    newest.checked_add_signed(ahead).filter(|index| index >> 48 == 0)
}

#[cfg(test)]
#[path = "srtp_tests.rs"]
mod tests;
