//! Keys, and segments encrypted as a whole.

use std::sync::Arc;

use aes::Aes128;
use aes::cipher::{Array, BlockCipherEncrypt, KeyInit};
use bytes::Bytes;

use super::names::Vars;
use super::settings::Settings;
use super::state::{Key, KeyMethod};

/// Bytes of a block.
const BLOCK: usize = 16;

/// Bytes that nobody can guess; `None` where the system has none.
pub(super) fn random() -> Option<[u8; BLOCK]> {
    let mut bytes = [0; BLOCK];
    getrandom::getrandom(&mut bytes).ok()?;
    Some(bytes)
}

impl Key {
    /// Which key that is, to players of MP4.
    pub(super) fn id(&self) -> [u8; 16] {
        self.key_id
    }

    /// Another key for the segments from `vars.seq` on; its name, too.
    pub(super) fn make(settings: &Settings, method: KeyMethod, vars: &Vars<'_>) -> Option<(Self, Arc<str>)> {
        let name: Arc<str> = settings.key_file.name(vars).unwrap_or_default().into();
        let ours = settings.key_url.is_empty();
        let uri = if ours { name.clone() } else { format!("{}{name}", settings.key_url).into() };
        let key = Self { method, uri, ours, iv: random()?, key_id: random()?, secret: random()? };
        Some((key, name))
    }

    /// The same for the segment of this number: where whole segments are encrypted, each has its own vector, which is
    /// what players take where playlists say none (RFC 8216 5.2).
    pub(super) fn of_segment(&self, number: u64) -> Self {
        match self.method {
            KeyMethod::Aes128 => Self { iv: u128::from(number).to_be_bytes(), ..self.clone() },
            KeyMethod::Cbcs => self.clone(),
        }
    }

    /// The bytes of the key's file.
    pub(super) fn file(&self) -> Bytes {
        Bytes::copy_from_slice(&self.secret)
    }

    /// AES-128-CBC of all that, padded (PKCS #7).
    pub(super) fn encrypt(&self, chunks: &[Bytes]) -> Bytes {
        let len: usize = chunks.iter().map(Bytes::len).sum();
        let mut out = Vec::with_capacity(len + BLOCK);
        chunks.iter().for_each(|chunk| out.extend_from_slice(chunk));
        let pad = BLOCK - len % BLOCK;
        out.resize(len + pad, u8::try_from(pad).unwrap_or(0));
        let cipher = Aes128::new(&Array(self.secret));
        let mut chain = self.iv;
        for block in out.as_chunks_mut::<BLOCK>().0 {
            block.iter_mut().zip(chain).for_each(|(byte, before)| *byte ^= before);
            cipher.encrypt_block(block.into());
            chain = *block;
        }
        out.into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::media::test::hex;

    #[test]
    fn whole_segments_are_encrypted_as_the_standard_has_it() {
        // NIST SP 800-38A F.2.1, and a block of padding.
        let key = Key {
            method: KeyMethod::Aes128,
            uri: "".into(),
            ours: true,
            iv: hex("000102030405060708090a0b0c0d0e0f").try_into().unwrap(),
            key_id: [0; 16],
            secret: hex("2b7e151628aed2a6abf7158809cf4f3c").try_into().unwrap(),
        };
        let plain: Bytes = hex("6bc1bee22e409f96e93d7e117393172aae2d8a571e03ac9c9eb76fac45af8e51").into();
        let out = key.encrypt(&[plain.slice(..5), plain.slice(5..)]);
        assert_eq!(out[..32], hex("7649abac8119b246cee98e9b12e9197d5086cb9b507219ee95db113a917678b2")[..]);
        assert_eq!(out.len(), 48);
        assert_eq!(key.encrypt(&[plain.slice(..5)]).len(), 16);
        assert_eq!(key.of_segment(258).iv[14..], [1, 2]);
        assert_eq!(format!("{key:?}").matches("43").count(), 0, "no secrets in logs");
        assert_ne!(random(), random());
    }
}
