//! Whether a packet begins a key frame, for who passes packets on and doesn't put frames together.

use crate::media::Codec;

/// Whether a decoder can start at the frame that this packet's payload belongs to, as far as the packet shows it: one of the
/// frame's first packets does. H.264 and H.265: a parameter set, or a slice of an IDR or IRAP picture. Always, for sound.
#[must_use]
pub fn starts_key(codec: Codec, payload: &[u8]) -> bool {
    match codec {
        Codec::H264 => h264(payload),
        Codec::H265 => h265(payload),
        Codec::Av1 => payload.first().is_some_and(|flags| flags & 0x08 != 0),
        Codec::Vp8 => super::vp8::body(payload)
            .is_some_and(|(body, begins)| begins && body.first().is_some_and(|head| head & 1 == 0)),
        Codec::Vp9 => super::vp9::is_key(payload),
        _ => true,
    }
}

fn h264(payload: &[u8]) -> bool {
    let key = |head: u8| matches!(head & 0x1F, 5 | 7);
    match payload {
        [head, rest @ ..] if head & 0x1F == 24 => {
            let mut rest = rest;
            while let Some((len, after)) = rest.split_first_chunk::<2>() {
                let Some((nal, after)) = after.split_at_checked(u16::from_be_bytes(*len).into()) else {
                    break;
                };
                if nal.first().is_some_and(|head| key(*head)) {
                    return true;
                }
                rest = after;
            }
            false
        }
        [head, fu, ..] if head & 0x1F == 28 => fu & 0x80 != 0 && key(*fu),
        [head, ..] => key(*head),
        [] => false,
    }
}

fn h265(payload: &[u8]) -> bool {
    let key = |kind: u8| matches!(kind, 16..=21 | 32..=34);
    match payload {
        [head, _, rest @ ..] if head >> 1 & 0x3F == 48 => {
            let mut rest = rest;
            while let Some((len, after)) = rest.split_first_chunk::<2>() {
                let Some((nal, after)) = after.split_at_checked(u16::from_be_bytes(*len).into()) else {
                    break;
                };
                if nal.first().is_some_and(|head| key(head >> 1 & 0x3F)) {
                    return true;
                }
                rest = after;
            }
            false
        }
        [head, _, fu, ..] if head >> 1 & 0x3F == 49 => fu & 0x80 != 0 && key(fu & 0x3F),
        [head, ..] => key(head >> 1 & 0x3F),
        [] => false,
    }
}
