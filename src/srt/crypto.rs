//! Encryption: keys from a passphrase, keys in messages, payloads (draft-sharabayko-srt-01, sections 3.2.2 and 6).
//!
//! A random *stream key* encrypts payloads; it travels wrapped (RFC 3394) under a key that PBKDF2 makes of the
//! passphrase and a salt. Two stream keys, even and odd, take turns, so that a new one is known before it is used.
//! Payloads: AES in counter mode, or GCM as libsrt 1.5.4 and later have it (nonce and header as on the wire;
//! 1.5.2 and 1.5.3 made weaker nonces and are refused).

use aes::cipher::{
    Array, BlockCipherDecrypt, BlockCipherEncrypt, InnerIvInit, KeyInit, StreamCipher,
    StreamCipherCoreWrapper,
};
use aes::{Aes128, Aes192, Aes256};
use aes_gcm::AesGcm;
use aes_gcm::aead::AeadInOut;
use aes_gcm::aead::consts::U12;
use bytes::{Bytes, BytesMut};
use ctr::CtrCore;
use ctr::flavors::Ctr64BE;
use hmac::{Hmac, Mac};
use sha1::Sha1;

use super::packet::{DataHeader, HEADER, KeyFlag, Seq};

/// Bytes that GCM adds to a payload.
pub const TAG: usize = 16;
/// Shortest and longest passphrase, in bytes (libsrt's limits).
pub const PASSPHRASE: std::ops::RangeInclusive<usize> = 10..=79;

/// Rounds of PBKDF2, as the specification has it.
const ROUNDS: u32 = 2048;
const SALT: usize = 16;
/// Bytes of a key message before its wrapped keys.
const MESSAGE: usize = 16 + SALT;
/// What wrapping adds, and begins with (RFC 3394, section 2.2.3.1).
const WRAP: usize = 8;
const WRAP_BEGIN: [u8; WRAP] = [0xa6; WRAP];

/// Why keys can't be had.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum KeyError {
    /// The wrapped keys don't open: the passphrase differs.
    #[error("the passphrases differ")]
    BadSecret,
    /// It can't be read.
    #[error("a key message that can't be read")]
    Malformed,
    /// CTR on one side, GCM on the other, or GCM of libsrt 1.5.3 and older.
    #[error("the sides want different ciphers (srt cryptomode)")]
    Mode,
    /// The system has no randomness.
    #[error("the system gives no random numbers")]
    Random,
}

/// How payloads are encrypted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CipherMode {
    /// AES in counter mode: what all versions know.
    Ctr,
    /// AES-GCM: what is changed on the way is noticed.
    Gcm,
}

/// Length of stream keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum KeyLength {
    /// AES-128.
    #[default]
    Aes128,
    /// AES-192.
    Aes192,
    /// AES-256.
    Aes256,
}

impl KeyLength {
    /// In bytes: 16, 24 or 32.
    #[must_use]
    pub fn bytes(self) -> usize {
        match self {
            Self::Aes128 => 16,
            Self::Aes192 => 24,
            Self::Aes256 => 32,
        }
    }

    /// Of a length in bytes.
    #[must_use]
    pub fn of(bytes: usize) -> Option<Self> {
        Some(match bytes {
            16 => Self::Aes128,
            24 => Self::Aes192,
            32 => Self::Aes256,
            _ => return None,
        })
    }
}

/// What is used to encrypt, of one length.
#[derive(Clone)]
enum Aes {
    A128(Box<Aes128>),
    A192(Box<Aes192>),
    A256(Box<Aes256>),
}

macro_rules! with {
    ($aes:expr, $cipher:ident => $do:expr) => {
        match $aes {
            Aes::A128($cipher) => $do,
            Aes::A192($cipher) => $do,
            Aes::A256($cipher) => $do,
        }
    };
}

impl Aes {
    fn new(key: &[u8]) -> Option<Self> {
        Some(match key.len() {
            16 => Self::A128(Box::new(Aes128::new_from_slice(key).ok()?)),
            24 => Self::A192(Box::new(Aes192::new_from_slice(key).ok()?)),
            32 => Self::A256(Box::new(Aes256::new_from_slice(key).ok()?)),
            _ => return None,
        })
    }

    fn counter_mode(&self, nonce: [u8; 16], data: &mut [u8]) {
        with!(self, cipher => {
            let core = CtrCore::<_, Ctr64BE>::inner_iv_init(&**cipher, &Array(nonce));
            StreamCipherCoreWrapper::from_core(core).apply_keystream(data);
        });
    }

    /// RFC 3394, section 2.2.1.
    fn wrap(&self, keys: &[u8]) -> Vec<u8> {
        let mut check = WRAP_BEGIN;
        let mut all = keys.to_vec();
        let count = all.len() / WRAP;
        for round in 0..6 {
            for (index, part) in all.chunks_exact_mut(WRAP).enumerate() {
                let mut block = [0; 16];
                let (front, back) = block.split_at_mut(WRAP);
                front.copy_from_slice(&check);
                back.copy_from_slice(part);
                let mut block = Array(block);
                with!(self, cipher => cipher.encrypt_block(&mut block));
                let (front, back) = block.split_at(WRAP);
                let step = (count * round + index + 1) as u64;
                check.copy_from_slice(front);
                check = (u64::from_be_bytes(check) ^ step).to_be_bytes();
                part.copy_from_slice(back);
            }
        }
        [check.to_vec(), all].concat()
    }

    /// RFC 3394, section 2.2.2. `None`: the key is not the one that it was wrapped with.
    fn unwrap(&self, wrapped: &[u8]) -> Option<Vec<u8>> {
        let (first, rest) = wrapped.split_first_chunk::<WRAP>()?;
        let mut check = *first;
        let mut all = rest.to_vec();
        let count = all.len() / WRAP;
        for round in (0..6).rev() {
            for (index, part) in all.chunks_exact_mut(WRAP).enumerate().rev() {
                let step = (count * round + index + 1) as u64;
                let mut block = [0; 16];
                let (front, back) = block.split_at_mut(WRAP);
                front.copy_from_slice(&(u64::from_be_bytes(check) ^ step).to_be_bytes());
                back.copy_from_slice(part);
                let mut block = Array(block);
                with!(self, cipher => cipher.decrypt_block(&mut block));
                let (front, back) = block.split_at(WRAP);
                check.copy_from_slice(front);
                part.copy_from_slice(back);
            }
        }
        (check == WRAP_BEGIN).then_some(all)
    }
}

/// A GCM cipher of one length.
#[derive(Clone)]
enum Gcm {
    A128(Box<AesGcm<Aes128, U12>>),
    A192(Box<AesGcm<Aes192, U12>>),
    A256(Box<AesGcm<Aes256, U12>>),
}

macro_rules! with_gcm {
    ($gcm:expr, $cipher:ident => $do:expr) => {
        match $gcm {
            Gcm::A128($cipher) => $do,
            Gcm::A192($cipher) => $do,
            Gcm::A256($cipher) => $do,
        }
    };
}

impl Gcm {
    fn new(key: &[u8]) -> Option<Self> {
        Some(match key.len() {
            16 => Self::A128(Box::new(AesGcm::new_from_slice(key).ok()?)),
            24 => Self::A192(Box::new(AesGcm::new_from_slice(key).ok()?)),
            32 => Self::A256(Box::new(AesGcm::new_from_slice(key).ok()?)),
            _ => return None,
        })
    }
}

#[derive(Clone)]
enum Cipher {
    Ctr(Aes),
    Gcm(Gcm),
}

/// A stream key.
#[derive(Clone)]
struct StreamKey {
    bytes: Vec<u8>,
    cipher: Cipher,
}

impl StreamKey {
    fn new(mode: CipherMode, bytes: &[u8]) -> Option<Self> {
        let cipher = match mode {
            CipherMode::Ctr => Cipher::Ctr(Aes::new(bytes)?),
            CipherMode::Gcm => Cipher::Gcm(Gcm::new(bytes)?),
        };
        Some(Self { bytes: bytes.to_vec(), cipher })
    }

    fn random(mode: CipherMode, length: KeyLength) -> Result<Self, KeyError> {
        let mut bytes = vec![0; length.bytes()];
        getrandom::getrandom(&mut bytes).map_err(|_| KeyError::Random)?;
        Self::new(mode, &bytes).ok_or(KeyError::Random)
    }
}

/// A KMREQ, or the KMRSP that confirms it: wrapped keys and how to use them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyMessage {
    even: bool,
    odd: bool,
    mode: CipherMode,
    length: KeyLength,
    salt: [u8; SALT],
    wrapped: Vec<u8>,
}

impl KeyMessage {
    /// Reads one.
    ///
    /// # Errors
    /// [`KeyError::Malformed`], or [`KeyError::Mode`] for ciphers that are neither CTR nor GCM.
    pub fn parse(bytes: &[u8]) -> Result<Self, KeyError> {
        let malformed = KeyError::Malformed;
        let (head, wrapped) = bytes.split_at_checked(MESSAGE).ok_or(malformed)?;
        let (fixed, salt) = head.split_first_chunk::<16>().ok_or(malformed)?;
        let [what, sign1, sign2, keys, _, _, _, _, cipher, auth, _, _, _, _, salt_len, key_len] = *fixed;
        if (what, sign1, sign2) != (0x12, 0x20, 0x29) || salt_len != 4 {
            return Err(malformed);
        }
        let mode = match (cipher, auth) {
            (2, 0) => CipherMode::Ctr,
            (4, 1) => CipherMode::Gcm,
            _ => return Err(KeyError::Mode),
        };
        let length = KeyLength::of(usize::from(key_len) * 4).ok_or(malformed)?;
        let (even, odd) = (keys & 1 == 1, keys & 2 == 2);
        let count = usize::from(even) + usize::from(odd);
        if count == 0 || wrapped.len() != WRAP + count * length.bytes() {
            return Err(malformed);
        }
        let salt = salt.try_into().map_err(|_| malformed)?;
        Ok(Self { even, odd, mode, length, salt, wrapped: wrapped.to_vec() })
    }

    /// As it stands on the wire.
    #[must_use]
    pub fn bytes(&self) -> Vec<u8> {
        let (cipher, auth) = match self.mode {
            CipherMode::Ctr => (2, 0),
            CipherMode::Gcm => (4, 1),
        };
        let keys = u8::from(self.even) | u8::from(self.odd) << 1;
        let key_len = (self.length.bytes() / 4) as u8;
        let mut bytes = vec![0x12, 0x20, 0x29, keys, 0, 0, 0, 0, cipher, auth, 2, 0, 0, 0, 4, key_len];
        bytes.extend_from_slice(&self.salt);
        bytes.extend_from_slice(&self.wrapped);
        bytes
    }
}

/// Keys of one direction.
#[derive(Clone)]
struct Keys {
    mode: CipherMode,
    length: KeyLength,
    salt: [u8; SALT],
    /// Wraps stream keys.
    wrapping: Aes,
    even: Option<StreamKey>,
    odd: Option<StreamKey>,
}

impl Keys {
    fn random(passphrase: &str, length: KeyLength, mode: CipherMode) -> Result<Self, KeyError> {
        let mut salt = [0; SALT];
        getrandom::getrandom(&mut salt).map_err(|_| KeyError::Random)?;
        let wrapping = wrapping_key(passphrase, &salt, length).ok_or(KeyError::Random)?;
        let even = Some(StreamKey::random(mode, length)?);
        Ok(Self { mode, length, salt, wrapping, even, odd: None })
    }

    fn open(passphrase: &str, message: &KeyMessage) -> Result<Self, KeyError> {
        let KeyMessage { mode, length, salt, .. } = *message;
        let wrapping = wrapping_key(passphrase, &salt, length).ok_or(KeyError::Malformed)?;
        let mut keys = Self { mode, length, salt, wrapping, even: None, odd: None };
        keys.take(message)?;
        Ok(keys)
    }

    /// Takes the keys of a message with our salt.
    fn take(&mut self, message: &KeyMessage) -> Result<(), KeyError> {
        let open = self.wrapping.unwrap(&message.wrapped).ok_or(KeyError::BadSecret)?;
        let mut parts = open.chunks_exact(message.length.bytes());
        for (there, place) in [(message.even, &mut self.even), (message.odd, &mut self.odd)] {
            if there {
                let bytes = parts.next().ok_or(KeyError::Malformed)?;
                *place = Some(StreamKey::new(message.mode, bytes).ok_or(KeyError::Malformed)?);
            }
        }
        Ok(())
    }

    fn message(&self) -> KeyMessage {
        let both = [&self.even, &self.odd].into_iter().flatten();
        let plain: Vec<u8> = both.flat_map(|key| key.bytes.iter().copied()).collect();
        KeyMessage {
            even: self.even.is_some(),
            odd: self.odd.is_some(),
            mode: self.mode,
            length: self.length,
            salt: self.salt,
            wrapped: self.wrapping.wrap(&plain),
        }
    }

    fn key(&self, flag: KeyFlag) -> Option<&StreamKey> {
        match flag {
            KeyFlag::None => None,
            KeyFlag::Even => self.even.as_ref(),
            KeyFlag::Odd => self.odd.as_ref(),
        }
    }

    /// What differs from packet to packet, at `at` in the nonce, over the salt.
    fn nonce<const N: usize>(&self, seq: Seq, at: usize, salted: usize) -> [u8; N] {
        let mut nonce = [0; N];
        for (byte, salt) in nonce.iter_mut().zip(self.salt.iter().take(salted)) {
            *byte = *salt;
        }
        for (byte, index) in nonce.iter_mut().skip(at).zip(seq.value().to_be_bytes()) {
            *byte ^= index;
        }
        nonce
    }
}

/// A session's encryption.
pub struct Crypto {
    passphrase: String,
    send: Keys,
    receive: Keys,
    /// The key that we encrypt with.
    active: KeyFlag,
    /// Packets since it is active.
    used: u32,
    /// After how many it is another's turn.
    refresh: u32,
    /// How many packets before that the other is told.
    announce: u32,
    announced: bool,
}

impl std::fmt::Debug for Crypto {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Crypto")
            .field("mode", &self.send.mode)
            .field("length", &self.send.length)
            .finish_non_exhaustive()
    }
}

impl Crypto {
    /// Of the side that asks: makes keys.
    ///
    /// # Errors
    /// [`KeyError::Random`].
    pub fn initiate(passphrase: &str, length: KeyLength, mode: CipherMode) -> Result<Self, KeyError> {
        let keys = Keys::random(passphrase, length, mode)?;
        Ok(Self::of(passphrase, keys, KeyFlag::Even))
    }

    /// Of the side that is asked: opens the keys of a KMREQ, which then are for both directions.
    ///
    /// # Errors
    /// [`KeyError`]; [`KeyError::BadSecret`] when the passphrase is another.
    pub fn respond(passphrase: &str, message: &KeyMessage) -> Result<Self, KeyError> {
        let keys = Keys::open(passphrase, message)?;
        let active = if message.even { KeyFlag::Even } else { KeyFlag::Odd };
        Ok(Self::of(passphrase, keys, active))
    }

    fn of(passphrase: &str, keys: Keys, active: KeyFlag) -> Self {
        Self {
            passphrase: passphrase.to_owned(),
            receive: keys.clone(),
            send: keys,
            active,
            used: 0,
            refresh: 1 << 24,
            announce: 1 << 12,
            announced: false,
        }
    }

    /// Sets after how many packets keys take turns, and how many packets earlier the next is told (at most half of
    /// it): libsrt's `kmrefreshrate` and `kmpreannounce`.
    pub fn set_refresh(&mut self, refresh: u32, announce: u32) {
        self.refresh = refresh.max(2);
        self.announce = announce.clamp(1, self.refresh / 2);
    }

    /// The message that tells our keys: KMREQ.
    #[must_use]
    pub fn message(&self) -> Vec<u8> {
        self.send.message().bytes()
    }

    /// CTR or GCM.
    #[must_use]
    pub fn mode(&self) -> CipherMode {
        self.send.mode
    }

    /// Bytes that a payload grows by.
    #[must_use]
    pub fn overhead(&self) -> usize {
        if self.send.mode == CipherMode::Gcm { TAG } else { 0 }
    }

    /// These keys are wrapped with a key that is still to be derived, which takes a millisecond or more.
    #[must_use]
    pub fn is_costly(&self, message: &KeyMessage) -> bool {
        message.salt != self.receive.salt || message.length != self.receive.length
    }

    /// Takes keys that the peer tells us in the middle of a session.
    ///
    /// # Errors
    /// As [`Crypto::respond`].
    pub fn take(&mut self, message: &KeyMessage) -> Result<(), KeyError> {
        if message.mode != self.receive.mode {
            return Err(KeyError::Mode);
        }
        if !self.is_costly(message) {
            return self.receive.take(message);
        }
        let fresh = Keys::open(&self.passphrase, message)?;
        let Keys { even, odd, .. } = std::mem::replace(&mut self.receive, fresh);
        self.receive.even = self.receive.even.take().or(even);
        self.receive.odd = self.receive.odd.take().or(odd);
        Ok(())
    }

    /// Counts a packet; a message to tell the peer when it is time for that.
    ///
    /// # Errors
    /// [`KeyError::Random`]: the old key stays.
    pub fn turn(&mut self) -> Result<Option<Vec<u8>>, KeyError> {
        self.used = self.used.saturating_add(1);
        if !self.announced && self.used >= self.refresh - self.announce {
            let fresh = StreamKey::random(self.send.mode, self.send.length)?;
            match self.active {
                KeyFlag::Even => self.send.odd = Some(fresh),
                _ => self.send.even = Some(fresh),
            }
            self.announced = true;
            return Ok(Some(self.message()));
        }
        if self.announced && self.used >= self.refresh {
            self.active = self.active.other();
            self.used = 0;
            self.announced = false;
        }
        Ok(None)
    }

    /// Encrypts a payload, and sets the header's key.
    #[must_use]
    pub fn encrypt(&self, header: &mut DataHeader, payload: &[u8]) -> Option<Bytes> {
        header.key = self.active;
        let mut data = BytesMut::with_capacity(payload.len() + self.overhead());
        data.extend_from_slice(payload);
        match &self.send.key(self.active)?.cipher {
            Cipher::Ctr(aes) => aes.counter_mode(self.send.nonce(header.seq, 10, 14), &mut data),
            Cipher::Gcm(gcm) => {
                let nonce = Array(self.send.nonce::<12>(header.seq, 8, 12));
                let aad = authenticated(header);
                let tag = with_gcm!(gcm, cipher =>
                    cipher.encrypt_inout_detached(&nonce, &aad, data.as_mut().into()).ok()?);
                data.extend_from_slice(&tag);
            }
        }
        Some(data.freeze())
    }

    /// Decrypts a payload; `None` when its key is not known, or what came was changed on the way (GCM).
    #[must_use]
    pub fn decrypt(&self, header: &DataHeader, payload: &[u8]) -> Option<Bytes> {
        match &self.receive.key(header.key)?.cipher {
            Cipher::Ctr(aes) => {
                let mut data = BytesMut::from(payload);
                aes.counter_mode(self.receive.nonce(header.seq, 10, 14), &mut data);
                Some(data.freeze())
            }
            Cipher::Gcm(gcm) => {
                let (payload, tag) = payload.split_at_checked(payload.len().checked_sub(TAG)?)?;
                let mut data = BytesMut::from(payload);
                let nonce = Array(self.receive.nonce::<12>(header.seq, 8, 12));
                let tag = Array(<[u8; TAG]>::try_from(tag).ok()?);
                let aad = authenticated(header);
                with_gcm!(gcm, cipher =>
                    cipher.decrypt_inout_detached(&nonce, &aad, data.as_mut().into(), &tag).ok()?);
                Some(data.freeze())
            }
        }
    }
}

/// What of a header GCM vouches for: all but whether it is sent again, since a packet is encrypted once.
fn authenticated(header: &DataHeader) -> [u8; HEADER] {
    DataHeader { again: false, ..*header }.bytes()
}

/// PBKDF2 with HMAC-SHA1 (RFC 8018, section 5.2) over the last half of the salt.
fn wrapping_key(passphrase: &str, salt: &[u8; SALT], length: KeyLength) -> Option<Aes> {
    let mut key = vec![0; length.bytes()];
    let begin = Hmac::<Sha1>::new_from_slice(passphrase.as_bytes()).ok()?;
    for (block, number) in key.chunks_mut(20).zip(1u32..) {
        let mut first = begin.clone();
        first.update(salt.get(SALT / 2..)?);
        first.update(&number.to_be_bytes());
        let mut last = first.finalize().into_bytes();
        let mut sum = last;
        for _ in 1..ROUNDS {
            let mut next = begin.clone();
            next.update(&last);
            last = next.finalize().into_bytes();
            for (to, from) in sum.iter_mut().zip(&last) {
                *to ^= from;
            }
        }
        for (to, from) in block.iter_mut().zip(&sum) {
            *to = *from;
        }
    }
    Aes::new(&key)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const LENGTHS: [KeyLength; 3] = [KeyLength::Aes128, KeyLength::Aes192, KeyLength::Aes256];

    fn hex(text: &str) -> Vec<u8> {
        (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap()).collect()
    }

    fn header(seq: u32) -> DataHeader {
        DataHeader {
            seq: Seq::new(seq),
            place: 3,
            key: KeyFlag::None,
            again: false,
            message: 1,
            timestamp: 5,
            to: 6,
        }
    }

    #[test]
    fn wrapping_as_in_rfc_3394() {
        // Sections 4.1, 4.3 and 4.6.
        let key = hex("000102030405060708090A0B0C0D0E0F101112131415161718191A1B1C1D1E1F");
        let data = hex("00112233445566778899AABBCCDDEEFF000102030405060708090A0B0C0D0E0F");
        for (key_len, data_len, wrapped) in [
            (16, 16, "1FA68B0A8112B447AEF34BD8FB5A7B829D3E862371D2CFE5"),
            (24, 16, "96778B25AE6CA435F92B5B97C050AED2468AB8A17AD84E5D"),
            (32, 32, "28C9F404C4B810F4CBCCB35CFB87F8263F5786E2D80ED326CBC7F0E71A99F43BFB988B9B7A02DD21"),
        ] {
            let aes = Aes::new(&key[..key_len]).unwrap();
            assert_eq!(aes.wrap(&data[..data_len]), hex(wrapped));
            assert_eq!(aes.unwrap(&hex(wrapped)).unwrap(), &data[..data_len]);
            let mut wrong = hex(wrapped);
            wrong[3] ^= 1;
            assert_eq!(aes.unwrap(&wrong), None);
        }
    }

    #[test]
    fn a_payload_comes_through_and_nobody_else_reads_it() {
        for length in LENGTHS {
            for mode in [CipherMode::Ctr, CipherMode::Gcm] {
                let caller = Crypto::initiate("correct horse", length, mode).unwrap();
                let message = KeyMessage::parse(&caller.message()).unwrap();
                assert_eq!(Crypto::respond("wrong horse", &message).err(), Some(KeyError::BadSecret));
                let listener = Crypto::respond("correct horse", &message).unwrap();
                for (from, to) in [(&caller, &listener), (&listener, &caller)] {
                    let mut header = header(0x7fff_ffff);
                    let sent = from.encrypt(&mut header, b"some payload of a packet").unwrap();
                    assert_ne!(&sent[..24], b"some payload of a packet");
                    assert_eq!(sent.len(), 24 + from.overhead());
                    assert_eq!(to.decrypt(&header, &sent).unwrap(), &b"some payload of a packet"[..]);
                    // Sent again it is the same, as for libsrt.
                    let again = DataHeader { again: true, ..header };
                    assert_eq!(to.decrypt(&again, &sent).unwrap(), &b"some payload of a packet"[..]);
                    let changed = DataHeader { timestamp: 6, ..header };
                    assert_eq!(to.decrypt(&changed, &sent).is_some(), mode == CipherMode::Ctr);
                }
            }
        }
    }

    #[test]
    fn keys_take_turns() {
        let mut sender = Crypto::initiate("correct horse", KeyLength::Aes192, CipherMode::Ctr).unwrap();
        sender.set_refresh(10, 4);
        let message = KeyMessage::parse(&sender.message()).unwrap();
        let mut receiver = Crypto::respond("correct horse", &message).unwrap();
        let mut flags = Vec::new();
        for seq in 0..40 {
            if let Some(message) = sender.turn().unwrap() {
                receiver.take(&KeyMessage::parse(&message).unwrap()).unwrap();
            }
            let mut header = header(seq);
            let sent = sender.encrypt(&mut header, b"payload").unwrap();
            assert_eq!(receiver.decrypt(&header, &sent).unwrap(), &b"payload"[..], "packet {seq}");
            flags.push(header.key);
        }
        flags.dedup();
        assert_eq!(flags[..4], [KeyFlag::Even, KeyFlag::Odd, KeyFlag::Even, KeyFlag::Odd]);
    }

    proptest! {
        #[test]
        fn hostile_messages(mut bytes in proptest::collection::vec(any::<u8>(), 0..120), real: bool) {
            if real && bytes.len() > 16 {
                bytes[..3].copy_from_slice(&[0x12, 0x20, 0x29]);
                bytes[8..10].copy_from_slice(&[2, 0]);
                bytes[14..16].copy_from_slice(&[4, 4]);
            }
            if let Ok(message) = KeyMessage::parse(&bytes) {
                prop_assert_eq!(KeyMessage::parse(&message.bytes()), Ok(message));
            }
        }
    }
}
