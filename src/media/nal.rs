//! NAL units: their two framings (ISO/IEC 14496-15 lengths, Annex B start codes) and the one form that
//! [`Frame::data`](super::Frame::data) has.

use bytes::{BufMut, Bytes};

use super::{Codec, MediaError, Result, h264, h265};

/// The longest parameter set: `avcC` and `hvcC` give its length 16 bits.
pub const MAX_SET: usize = u16::MAX as usize;
/// The most video or sequence parameter sets kept; H.264 has ids 0 to 31, H.265 0 to 15.
pub const MAX_SPS: usize = 31;
/// The most picture parameter sets kept; H.264 has ids 0 to 255, encoders use one to three.
pub const MAX_PPS: usize = 64;

const WHAT: &str = "access unit of NAL units";

/// Parameter sets, each a NAL unit with its header and emulation prevention, in the order they came.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ParamSets {
    /// Video parameter sets; H.265 only.
    pub vps: Vec<Bytes>,
    /// Sequence parameter sets.
    pub sps: Vec<Bytes>,
    /// Picture parameter sets.
    pub pps: Vec<Bytes>,
}

impl ParamSets {
    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.vps.is_empty() && self.sps.is_empty() && self.pps.is_empty()
    }

    /// Sorts `nal` in; repeated, oversized and surplus sets are left out.
    pub(crate) fn push(&mut self, role: Role, nal: &[u8]) {
        let (list, max) = match role {
            Role::Vps => (&mut self.vps, MAX_SPS),
            Role::Sps => (&mut self.sps, MAX_SPS),
            Role::Pps => (&mut self.pps, MAX_PPS),
            _ => return,
        };
        if nal.len() <= MAX_SET && list.len() < max && !list.iter().any(|old| old == nal) {
            // Copied: a set outlives the frame it came in, and must not keep all of that alive.
            list.push(Bytes::copy_from_slice(nal));
        }
    }

    /// Takes `new` over: a set replaces the one of its id, or is added. Tells whether anything changed.
    pub(crate) fn merge(&mut self, codec: Codec, new: &Self) -> bool {
        let mut changed = false;
        for (old, new, max) in [
            (&mut self.vps, &new.vps, MAX_SPS),
            (&mut self.sps, &new.sps, MAX_SPS),
            (&mut self.pps, &new.pps, MAX_PPS),
        ] {
            for set in new {
                if old.contains(set) {
                    continue;
                }
                let id = set_id(codec, set);
                if let Some(same) = old.iter_mut().find(|s| id.is_some() && set_id(codec, s) == id) {
                    *same = set.clone();
                } else if old.len() < max {
                    old.push(set.clone());
                } else {
                    continue;
                }
                changed = true;
            }
        }
        changed
    }
}

fn set_id(codec: Codec, nal: &[u8]) -> Option<u32> {
    match codec {
        Codec::H265 => h265::set_id(nal),
        _ => h264::set_id(nal),
    }
}

/// What a NAL unit is to us.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    /// A coded slice that a decoder can't start at.
    Slice,
    /// A coded slice of an IDR or IRAP picture.
    KeySlice,
    /// Supplemental enhancement information before the picture.
    Sei,
    Vps,
    Sps,
    Pps,
    /// Access unit delimiter or filler: carries nothing.
    Stuffing,
    /// Anything else; kept.
    Other,
}

impl Role {
    pub(crate) fn of(codec: Codec, nal: &[u8]) -> Self {
        let Some(&first) = nal.first() else { return Self::Stuffing };
        match codec {
            Codec::H265 => h265::role(nal),
            _ => h264::role(first),
        }
    }

    fn is_stripped(self) -> bool {
        matches!(self, Self::Vps | Self::Sps | Self::Pps | Self::Stuffing)
    }
}

/// An access unit in the form of [`Frame::data`](super::Frame::data).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Normalised {
    /// NAL units after 4-byte lengths. Empty when nothing was left: then there is no frame.
    pub data: Bytes,
    /// Parameter sets that stood in it; give them to [`Track::update_sets`](super::Track::update_sets).
    pub sets: ParamSets,
    /// Whether a decoder can start here; see [`is_key`](super::is_key).
    pub key: bool,
}

/// Brings an access unit of H.264 or H.265 into the form of [`Frame::data`](super::Frame::data).
///
/// `length_size` is how many bytes each length has (1 to 4, as `avcC`/`hvcC` says), or 0 for Annex B.
/// Start codes where lengths were promised are understood too, for the whole unit or inside of a length.
/// Delimiters, filler and parameter sets are taken out. Where that leaves one run of 4-byte lengths, which
/// is the usual case, `data` is the allocation that came in; only otherwise are bytes copied.
///
/// # Errors
/// A length beyond the end ([`MediaError::Truncated`]), or a `length_size` above 4.
pub fn normalise(codec: Codec, data: Bytes, length_size: u8) -> Result<Normalised> {
    let framing = match Framing::of(length_size)? {
        Framing::Length(n) => match units(&data, Framing::Length(n), &mut |_, _| ()) {
            // Start codes seldom make sense as lengths; lengths often look like start codes. So lengths first.
            Err(_) if starts_with_start_code(&data) => Framing::AnnexB,
            other => other.map(|()| Framing::Length(n))?,
        },
        Framing::AnnexB => Framing::AnnexB,
    };

    let mut sets = ParamSets::default();
    let mut key = false;
    let mut size = 0usize;
    // What is kept, as one run of the input that already has 4-byte lengths; `None`: it isn't that simple.
    let mut run = Some(0..0);
    units(&data, framing, &mut |nal, place| {
        let role = Role::of(codec, nal);
        if role.is_stripped() {
            sets.push(role, nal);
            return;
        }
        key |= role == Role::KeySlice
            || (role == Role::Sei && codec == Codec::H264 && h264::is_recovery_point(nal));
        size += 4 + nal.len();
        run = match (run.take(), place) {
            (Some(r), Some(at)) if r.is_empty() => Some(at..at + 4 + nal.len()),
            (Some(r), Some(at)) if r.end == at => Some(r.start..at + 4 + nal.len()),
            _ => None,
        };
    })?;

    let data = match run {
        Some(run) if run.len() == data.len() => data,
        Some(run) => data.slice(run),
        None => {
            let mut out = Vec::with_capacity(size);
            units(&data, framing, &mut |nal, _| {
                if !Role::of(codec, nal).is_stripped() {
                    put_nal(&mut out, nal);
                }
            })?;
            Bytes::from(out)
        }
    };
    Ok(Normalised { data, sets, key })
}

/// Appends `nal` after its 4-byte length.
pub fn put_nal(out: &mut Vec<u8>, nal: &[u8]) {
    // A unit of 4 GiB can't come: every transport bounds its messages far below.
    let Ok(len) = u32::try_from(nal.len()) else { return };
    out.put_u32(len);
    out.extend_from_slice(nal);
}

/// Appends an access unit of 4-byte lengths as Annex B: each length becomes `00 00 00 01`.
pub fn to_annex_b(data: &[u8], out: &mut Vec<u8>) {
    out.reserve(data.len());
    for nal in nals(data) {
        out.extend_from_slice(&[0, 0, 0, 1]);
        out.extend_from_slice(nal);
    }
}

/// The NAL units of [`Frame::data`](super::Frame::data): each after a 4-byte length. Ends at a length that is
/// beyond the end, which [`normalise`]d data doesn't have.
#[must_use]
pub fn nals(data: &[u8]) -> Nals<'_> {
    Nals { rest: data }
}

/// Iterator of [`nals`].
#[derive(Debug, Clone)]
pub struct Nals<'a> {
    rest: &'a [u8],
}

impl<'a> Iterator for Nals<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        let (len, rest) = self.rest.split_first_chunk::<4>()?;
        let (nal, rest) = rest.split_at_checked(usize::try_from(u32::from_be_bytes(*len)).ok()?)?;
        self.rest = rest;
        Some(nal)
    }
}

/// The NAL units of an Annex B byte stream, without start codes and trailing zeros. Bytes before the first
/// start code are passed over; empty units are left out.
#[must_use]
pub fn annex_b(data: &[u8]) -> AnnexB<'_> {
    AnnexB { rest: find_start_code(data).map_or(&[], |(_, after)| after) }
}

/// Iterator of [`annex_b`].
#[derive(Debug, Clone)]
pub struct AnnexB<'a> {
    rest: &'a [u8],
}

impl<'a> Iterator for AnnexB<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        while !self.rest.is_empty() {
            let (nal, rest) = find_start_code(self.rest).unwrap_or((self.rest, &[]));
            self.rest = rest;
            // The fourth byte of a long start code, or padding: a NAL unit never ends in a zero.
            let nal = trim_zeros(nal);
            if !nal.is_empty() {
                return Some(nal);
            }
        }
        None
    }
}

/// What stands before and after the first `00 00 01`.
fn find_start_code(data: &[u8]) -> Option<(&[u8], &[u8])> {
    let mut i = 2;
    while let Some(&b) = data.get(i) {
        // Three bytes at a time through what can't be the end of a start code.
        i += match b {
            0 => 1,
            1 if data.get(i - 2..i) == Some(&[0, 0]) => {
                return Some((data.get(..i - 2)?, data.get(i + 1..)?));
            }
            _ => 3,
        };
    }
    None
}

fn trim_zeros(nal: &[u8]) -> &[u8] {
    let len = nal.iter().rposition(|&b| b != 0).map_or(0, |last| last + 1);
    nal.get(..len).unwrap_or(nal)
}

/// Whether `data` begins as Annex B does.
pub(crate) fn starts_with_start_code(data: &[u8]) -> bool {
    let zeros = data.iter().take_while(|&&b| b == 0).count();
    zeros >= 2 && data.get(zeros) == Some(&1)
}

#[derive(Clone, Copy)]
enum Framing {
    Length(usize),
    AnnexB,
}

impl Framing {
    fn of(length_size: u8) -> Result<Self> {
        match length_size {
            0 => Ok(Self::AnnexB),
            1..=4 => Ok(Self::Length(usize::from(length_size))),
            _ => Err(MediaError::Invalid {
                what: WHAT,
                field: "length size",
                value: u64::from(length_size),
                why: "out of range (0 to 4)",
            }),
        }
    }
}

/// Calls `visit` for each unit that isn't empty, with the place of its length where that has 4 bytes.
fn units<'a>(data: &'a [u8], framing: Framing, visit: &mut dyn FnMut(&'a [u8], Option<usize>)) -> Result<()> {
    let Framing::Length(size) = framing else {
        annex_b(data).for_each(|nal| visit(nal, None));
        return Ok(());
    };
    let mut rest = data;
    while !rest.is_empty() {
        let place = data.len() - rest.len();
        let Some((len, after)) = rest.split_at_checked(size) else {
            if rest.iter().all(|&b| b == 0) {
                break; // padding
            }
            return Err(MediaError::Truncated { what: WHAT, field: "NAL unit length", len: data.len() });
        };
        let len = len.iter().fold(0u32, |sum, &b| sum << 8 | u32::from(b));
        let Some((nal, after)) = usize::try_from(len).ok().and_then(|len| after.split_at_checked(len)) else {
            return Err(MediaError::Truncated { what: WHAT, field: "NAL unit", len: data.len() });
        };
        rest = after;
        // No NAL unit begins with two zeros: these are start codes that an encoder left inside.
        if nal.starts_with(&[0, 0]) && starts_with_start_code(nal) {
            annex_b(nal).for_each(|nal| visit(nal, None));
        } else if !nal.is_empty() {
            visit(nal, (size == 4).then_some(place));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const AUD: &[u8] = &[9, 0xF0];
    const SPS: &[u8] = &[0x67, 66, 0, 30, 1];
    const PPS: &[u8] = &[0x68, 0xCE, 1];
    const IDR: &[u8] = &[0x65, 0x88, 0x80, 0x10];
    const P: &[u8] = &[0x41, 0x9A, 2];

    fn lengths(size: usize, nals: &[&[u8]]) -> Bytes {
        let mut out = Vec::new();
        for nal in nals {
            out.extend_from_slice(&(nal.len() as u32).to_be_bytes()[4 - size..]);
            out.extend_from_slice(nal);
        }
        out.into()
    }

    fn h264(data: &Bytes, size: u8) -> Normalised {
        normalise(Codec::H264, data.clone(), size).unwrap()
    }

    #[test]
    fn what_needs_no_change_is_not_copied() {
        let data = lengths(4, &[IDR, IDR]);
        let n = h264(&data, 4);
        assert_eq!((n.data.as_ptr(), n.data.len()), (data.as_ptr(), data.len()));
        assert!(n.key && n.sets.is_empty());
        assert!(!h264(&lengths(4, &[P]), 4).key);
    }

    #[test]
    fn sets_in_front_are_cut_off_without_a_copy() {
        let data = lengths(4, &[AUD, SPS, PPS, IDR, IDR]);
        let n = h264(&data, 4);
        assert_eq!(n.data, lengths(4, &[IDR, IDR]));
        assert!(data.as_ptr_range().contains(&n.data.as_ptr()));
        assert_eq!((n.sets.sps.as_slice(), n.sets.pps.as_slice()), (&[SPS.into()][..], &[PPS.into()][..]));
        assert!(n.key);
    }

    #[test]
    fn sets_between_are_taken_out() {
        let n = h264(&lengths(4, &[IDR, PPS, &[], IDR, &[12, 255, 128]]), 4);
        assert_eq!(n.data, lengths(4, &[IDR, IDR]));
    }

    #[test]
    fn any_framing_gives_the_same() {
        let want = h264(&lengths(4, &[SPS, PPS, IDR, P]), 4);
        for size in 1..=4u8 {
            assert_eq!(h264(&lengths(usize::from(size), &[SPS, PPS, IDR, P]), size), want, "{size}");
        }
        // Annex B, announced and not, with short and long start codes and padding.
        let mut annex_b = vec![0];
        for (i, nal) in [SPS, PPS, IDR, P].into_iter().enumerate() {
            annex_b.extend_from_slice(&[0, 0, 0, 1][i % 2..]);
            annex_b.extend_from_slice(nal);
        }
        annex_b.extend_from_slice(&[0, 0, 0]);
        let annex_b = Bytes::from(annex_b);
        for size in [0, 1, 2, 4] {
            assert_eq!(h264(&annex_b, size), want, "{size}");
        }
        // Annex B inside of lengths.
        assert_eq!(h264(&lengths(4, &[&annex_b]), 4), want);
    }

    #[test]
    fn nothing_left_is_empty() {
        let n = h264(&lengths(4, &[AUD, SPS, PPS]), 4);
        assert!(n.data.is_empty() && !n.key && n.sets.sps.len() == 1);
        assert!(h264(&Bytes::new(), 4).data.is_empty());
        assert!(h264(&Bytes::from_static(&[0; 7]), 4).data.is_empty());
    }

    #[test]
    fn a_length_beyond_the_end_is_an_error() {
        let whole = lengths(4, &[P, IDR]);
        let bounds = [0, 4 + P.len(), whole.len()];
        for len in 0..whole.len() {
            let n = normalise(Codec::H264, whole.slice(..len), 4);
            // The cut length of the second unit is zeros for its first three bytes: padding, as far as we know.
            let padded = (bounds[1]..bounds[1] + 4).contains(&len) || len < 4;
            assert_eq!(n.is_ok(), bounds.contains(&len) || padded, "{len}: {n:?}");
        }
        assert!(normalise(Codec::H264, whole, 5).is_err());
    }

    #[test]
    fn sets_can_not_pile_up() {
        let many: Vec<[u8; 3]> = (0..=255).map(|i| [0x68, i, i]).collect();
        let many: Vec<&[u8]> = many.iter().map(|n| &n[..]).collect();
        assert_eq!(h264(&lengths(4, &many), 4).sets.pps.len(), MAX_PPS);
        let long = vec![0x67; MAX_SET + 1];
        assert!(h264(&lengths(4, &[&long]), 4).sets.is_empty());
        assert_eq!(h264(&lengths(4, &[SPS, SPS]), 4).sets.sps.len(), 1);
    }

    #[test]
    fn annex_b_there_and_back() {
        let data = lengths(4, &[P, IDR]);
        let mut out = Vec::new();
        to_annex_b(&data, &mut out);
        assert_eq!(annex_b(&out).collect::<Vec<_>>(), [P, IDR]);
        assert_eq!(nals(&data).collect::<Vec<_>>(), [P, IDR]);
    }

    proptest! {
        #[test]
        fn any_bytes(data: Vec<u8>, size in 0u8..6, h265: bool) {
            let codec = if h265 { Codec::H265 } else { Codec::H264 };
            if let Ok(n) = normalise(codec, data.into(), size) {
                let again = normalise(codec, n.data.clone(), 4).unwrap();
                prop_assert_eq!(&again.data, &n.data);
                prop_assert!(again.sets.is_empty());
            }
        }

        #[test]
        fn start_codes_are_found_as_by_the_slow_way(data in proptest::collection::vec(0u8..3, 0..64)) {
            let slow = data.windows(3).position(|w| w == [0, 0, 1]);
            prop_assert_eq!(find_start_code(&data).map(|(before, _)| before.len()), slow);
        }
    }
}
