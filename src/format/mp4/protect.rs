//! Common encryption by the scheme `cbcs` (ISO/IEC 23001-7 10.4): AES-128 in CBC mode from a constant IV; of video only the
//! slices, and of those one block in ten.

use std::fmt;
use std::ops::Deref;

use aes::Aes128;
use aes::cipher::{Array, BlockCipherEncrypt, KeyInit};
use bytes::Bytes;

use crate::media::nal::{Role, nals};
use crate::media::{Codec, Kind};

/// Bytes of an AES block.
const BLOCK: usize = 16;
/// Of ten blocks of a slice one is encrypted.
const PATTERN: usize = 10;
/// Bytes at the start of a slice that stay clear, so that the slice's header does: decoders read it before anything is
/// decrypted. As much as SAMPLE-AES leaves of it in MPEG-TS, and twice that.
const LEAD: usize = 64;
/// `saiz` has a byte for 2 + 6 × their number.
const MAX_SUBSAMPLES: usize = 42;

/// Which bytes of a sample are encrypted: so many clear ones, then so many protected ones, and again.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Subsamples(heapless::Vec<(u16, u32), MAX_SUBSAMPLES>);

impl Deref for Subsamples {
    type Target = [(u16, u32)];

    fn deref(&self) -> &Self::Target {
        &self.0
    }
}

impl Subsamples {
    /// Adds what can be said in the places that are left; the last one is kept for [`rest`](Self::rest).
    fn push(&mut self, mut clear: usize, protected: usize) -> bool {
        let needed = clear / (usize::from(u16::MAX) + 1) + 1;
        if self.0.len() + needed >= MAX_SUBSAMPLES {
            return false;
        }
        while let Some(more) = clear.checked_sub(usize::from(u16::MAX)).filter(|more| *more > 0) {
            let _ = self.0.push((u16::MAX, 0));
            clear = more;
        }
        let clear = u16::try_from(clear).unwrap_or(u16::MAX);
        let _ = self.0.push((clear, u32::try_from(protected).unwrap_or(u32::MAX)));
        true
    }
}

/// How a track is encrypted.
#[derive(Clone, PartialEq, Eq)]
pub struct Protection {
    /// The key.
    pub key: [u8; 16],
    /// Which key that is, to a licence server or a player's configuration.
    pub key_id: [u8; 16],
    /// The IV of every sample.
    pub iv: [u8; 16],
}

impl fmt::Debug for Protection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Not the key: this may come into a log.
        write!(f, "Protection(key {:032x})", u128::from_be_bytes(self.key_id))
    }
}

impl Protection {
    /// Encrypts a frame: of H.264 and H.265 the slices, of other video the whole by the pattern, of audio every whole
    /// block. The subsamples are for [`Run`](super::Run); they are empty where all of the sample is protected.
    ///
    /// The result is a copy: the clear frame is shared with others.
    #[must_use]
    pub fn encrypt(&self, codec: Codec, data: &Bytes) -> (Bytes, Subsamples) {
        let cipher = Aes128::new(&Array(self.key));
        let mut out = data.to_vec();
        let mut subsamples = Subsamples::default();
        if codec.kind() == Kind::Audio {
            self.blocks(&cipher, &mut out, 1);
        } else if codec.has_nals() {
            self.slices(&cipher, codec, data, &mut out, &mut subsamples);
        } else {
            self.blocks(&cipher, &mut out, PATTERN);
        }
        (out.into(), subsamples)
    }

    fn slices(
        &self,
        cipher: &Aes128,
        codec: Codec,
        data: &[u8],
        out: &mut [u8],
        subsamples: &mut Subsamples,
    ) {
        // From `done` on nothing is told yet; `at` is where the next NAL unit's length stands.
        let (mut done, mut at) = (0usize, 0usize);
        for nal in nals(data) {
            let end = at + 4 + nal.len();
            let start = at + 4 + LEAD;
            at = end;
            if !matches!(Role::of(codec, nal), Role::Slice | Role::KeySlice) || start + BLOCK > end {
                continue;
            }
            if !subsamples.push(start - done, end - start) {
                // So many slices have no places: what is left counts as one.
                break;
            }
            if let Some(slice) = out.get_mut(start..end) {
                self.blocks(cipher, slice, PATTERN);
            }
            done = end;
        }
        if done < data.len() && !subsamples.push(data.len() - done, 0) {
            let clear = (data.len() - done).min(usize::from(u16::MAX));
            let rest = out.get_mut(done + clear..).unwrap_or_default();
            let _ = subsamples.0.push((clear as u16, u32::try_from(rest.len()).unwrap_or(u32::MAX)));
            self.blocks(cipher, rest, PATTERN);
        }
    }

    /// Encrypts the first of each `every` blocks; what is left behind the last whole block stays clear.
    fn blocks(&self, cipher: &Aes128, data: &mut [u8], every: usize) {
        let mut chain = self.iv;
        for group in data.chunks_mut(BLOCK * every) {
            let Some(block) = group.first_chunk_mut::<BLOCK>() else { break };
            block.iter_mut().zip(chain).for_each(|(byte, before)| *byte ^= before);
            cipher.encrypt_block(block.into());
            chain = *block;
        }
    }
}
