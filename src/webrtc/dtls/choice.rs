//! Which SRTP profile is chosen when we are the DTLS server: the cheapest that this processor can do and the client offers.
//!
//! `dimpl`'s server takes the strongest, AES-256-GCM, and has no switch. So it is shown a ClientHello in which profiles that we
//! don't want have numbers that nobody knows ([`hide`]). What was really said is put back where it counts, in the hashes and
//! signatures over the handshake ([`restore`]), so that both sides agree on it; the choice is one that the client offered.

use std::borrow::Cow;

/// `SRTP_AES128_CM_HMAC_SHA1_80` (RFC 5764, section 4.1.2).
const AES128_CM_SHA1_80: u16 = 0x0001;
/// `SRTP_AEAD_AES_128_GCM` and `SRTP_AEAD_AES_256_GCM` (RFC 7714, section 14.2).
const AES_128_GCM: u16 = 0x0007;
const AES_256_GCM: u16 = 0x0008;
/// What makes a number one that nobody knows: these are not assigned.
const HIDDEN: u16 = 0x5a00;

const RECORD_HEADER: usize = 13;
const HANDSHAKE_RECORD: u8 = 22;
const HANDSHAKE_HEADER: usize = 12;
const CLIENT_HELLO: u8 = 1;
const USE_SRTP: u16 = 14;

/// Which profiles we'd rather not have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::webrtc) enum Preference {
    /// AES-128 in counter mode with HMAC-SHA1: without AES instructions it costs least.
    CounterMode,
    /// AES-128-GCM, where the processor has instructions for it.
    Gcm,
}

impl Preference {
    /// Of this processor.
    pub(in crate::webrtc) fn of_processor() -> Self {
        #[cfg(target_arch = "x86_64")]
        let has_aes =
            std::arch::is_x86_feature_detected!("aes") && std::arch::is_x86_feature_detected!("pclmulqdq");
        #[cfg(target_arch = "aarch64")]
        let has_aes = std::arch::is_aarch64_feature_detected!("aes")
            && std::arch::is_aarch64_feature_detected!("pmull");
        #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
        let has_aes = false;
        if has_aes { Self::Gcm } else { Self::CounterMode }
    }

    fn unwanted(self, offered: &[u16]) -> &'static [u16] {
        match self {
            Self::CounterMode if offered.contains(&AES128_CM_SHA1_80) => &[AES_128_GCM, AES_256_GCM],
            _ if offered.contains(&AES_128_GCM) => &[AES_256_GCM],
            _ => &[],
        }
    }
}

fn u16_at(bytes: &[u8], at: usize) -> Option<usize> {
    bytes.get(at..)?.first_chunk().map(|b| usize::from(u16::from_be_bytes(*b)))
}

fn u24_at(bytes: &[u8], at: usize) -> Option<usize> {
    let [high, low @ ..]: [u8; 3] = *bytes.get(at..)?.first_chunk()?;
    Some(usize::from(high) << 16 | usize::from(u16::from_be_bytes(low)))
}

/// Where profiles stand in a ClientHello that begins at `at` and is whole.
fn profiles(bytes: &[u8], at: usize) -> Option<std::ops::Range<usize>> {
    let length = u24_at(bytes, at + 1)?;
    if *bytes.get(at)? != CLIENT_HELLO || u24_at(bytes, at + 6)? != 0 || u24_at(bytes, at + 9)? != length {
        return None;
    }
    let begin = at + HANDSHAKE_HEADER;
    // Nothing behind its end is read.
    let bytes = bytes.get(..begin + length)?;
    // Version and random; then session, cookie, ciphers, compression, each with its length.
    let mut at = begin + 34;
    at += 1 + usize::from(*bytes.get(at)?);
    at += 1 + usize::from(*bytes.get(at)?);
    at += 2 + u16_at(bytes, at)?;
    at += 1 + usize::from(*bytes.get(at)?);
    // Extensions.
    at += 2;
    loop {
        let (kind, length) = (u16_at(bytes, at)?, u16_at(bytes, at + 2)?);
        at += 4;
        if kind == usize::from(USE_SRTP) {
            let list = u16_at(bytes, at)?;
            return (list + 2 <= length && at + length <= bytes.len()).then_some(at + 2..at + 2 + list);
        }
        at += length;
    }
}

fn numbers(list: &[u8]) -> impl Iterator<Item = u16> {
    list.as_chunks().0.iter().map(|number| u16::from_be_bytes(*number))
}

fn replace(bytes: &mut [u8], other: impl Fn(u16) -> u16) {
    for number in bytes.as_chunks_mut().0 {
        *number = other(u16::from_be_bytes(*number)).to_be_bytes();
    }
}

/// A datagram whose ClientHello offers what we want, if it has a whole one that offers other things, too. One in fragments
/// stays as it is: then the choice is dimpl's.
pub(super) fn hide(datagram: &[u8], preference: Preference) -> Cow<'_, [u8]> {
    let list = Some(datagram)
        .filter(|datagram| datagram.first() == Some(&HANDSHAKE_RECORD))
        .and_then(|datagram| profiles(datagram, RECORD_HEADER));
    let Some(list) = list else { return datagram.into() };
    let offered: heapless::Vec<u16, 16> =
        numbers(datagram.get(list.clone()).unwrap_or_default()).take(16).collect();
    let unwanted = preference.unwanted(&offered);
    if unwanted.is_empty() {
        return datagram.into();
    }
    let mut changed = datagram.to_vec();
    replace(changed.get_mut(list).unwrap_or_default(), |number| {
        if unwanted.contains(&number) { number | HIDDEN } else { number }
    });
    changed.into()
}

/// What was really said: messages of a handshake from its beginning, with the numbers that [`hide`] has changed.
pub(super) fn restore(messages: &[u8]) -> Cow<'_, [u8]> {
    let is_hidden = |number: u16| [AES_128_GCM, AES_256_GCM].contains(&(number ^ HIDDEN));
    let list = profiles(messages, 0);
    let Some(list) =
        list.filter(|list| numbers(messages.get(list.clone()).unwrap_or_default()).any(is_hidden))
    else {
        return messages.into();
    };
    let mut changed = messages.to_vec();
    replace(changed.get_mut(list).unwrap_or_default(), |number| {
        if is_hidden(number) { number ^ HIDDEN } else { number }
    });
    changed.into()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn hello(offered: &[u16]) -> Vec<u8> {
        let mut body = vec![254, 253];
        body.extend([7; 32]);
        body.extend([1, 9]);
        body.extend([2, 8, 8]);
        body.extend([0, 4, 0xc0, 0x2b, 0xc0, 0x2c]);
        body.extend([1, 0]);
        let list = offered.len() as u8 * 2;
        let mut extensions = vec![0, 23, 0, 0, 0, 14, 0, list + 3, 0, list];
        offered.iter().for_each(|number| extensions.extend(number.to_be_bytes()));
        extensions.extend([0, 0, 10, 0, 2, 0, 29]);
        body.extend((extensions.len() as u16).to_be_bytes());
        body.extend(extensions);
        let mut message = vec![1, 0, 0, body.len() as u8, 0, 0, 0, 0, 0, 0, 0, body.len() as u8];
        message.extend(body);
        let mut record = vec![22, 254, 253, 0, 0, 0, 0, 0, 0, 0, 0, 0, message.len() as u8];
        record.extend(message);
        record
    }

    #[test]
    fn unwanted_profiles_are_hidden_and_restored() {
        let all = [AES_256_GCM, AES_128_GCM, AES128_CM_SHA1_80, 2];
        for (offered, preference, seen) in [
            (&all[..], Preference::Gcm, &[AES_256_GCM | HIDDEN, AES_128_GCM, AES128_CM_SHA1_80, 2][..]),
            (
                &all,
                Preference::CounterMode,
                &[AES_256_GCM | HIDDEN, AES_128_GCM | HIDDEN, AES128_CM_SHA1_80, 2],
            ),
            (&[AES_256_GCM, AES128_CM_SHA1_80], Preference::Gcm, &[AES_256_GCM, AES128_CM_SHA1_80]),
            (&[AES_256_GCM, AES_128_GCM], Preference::CounterMode, &[AES_256_GCM | HIDDEN, AES_128_GCM]),
            (&[AES128_CM_SHA1_80], Preference::Gcm, &[AES128_CM_SHA1_80]),
        ] {
            let said = hello(offered);
            let shown = hide(&said, preference);
            assert_eq!(shown[..], hello(seen), "{offered:?}");
            assert_eq!(restore(&shown[RECORD_HEADER..])[..], said[RECORD_HEADER..]);
        }
    }

    #[test]
    fn a_fragment_stays_as_it_is() {
        let mut said = hello(&[AES_256_GCM, AES_128_GCM]);
        said[RECORD_HEADER + 11] -= 1;
        assert_eq!(hide(&said, Preference::Gcm)[..], said);
    }

    proptest! {
        #[test]
        fn any_bytes_are_survived(at in 0..200usize, value: u8, cut in 0..200usize, bytes in proptest::collection::vec(any::<u8>(), 0..120)) {
            let _ = restore(&hide(&bytes, Preference::Gcm));
            let mut said = hello(&[AES_256_GCM, AES_128_GCM, 1]);
            if let Some(byte) = said.get_mut(at) {
                *byte = value;
            }
            said.truncate(cut.max(1));
            let shown = hide(&said, Preference::CounterMode);
            prop_assert_eq!(shown.len(), said.len());
            let _ = restore(shown.get(RECORD_HEADER..).unwrap_or_default());
        }
    }
}
