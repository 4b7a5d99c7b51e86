//! The fragments of our own MP4 files, found one by one without holding the file (ISO/IEC 14496-12 8.8).
//!
//! A file with its tables in front has them, too: inside its `mdat`.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

/// The longest `moof`: a fragment of a minute at 240 frames a second and three audio tracks has 400 kB.
const MAX_MOOF: u64 = 4 << 20;

/// A sample and its place in the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) at: u64,
    pub(super) size: u32,
    pub(super) dts: i64,
    pub(super) duration: u32,
    pub(super) cts: i32,
    pub(super) key: bool,
}

/// The samples of a track in a fragment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Run {
    pub(super) track_id: u32,
    pub(super) samples: Vec<Place>,
}

/// A whole fragment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Fragment {
    /// Its first byte and its length, with everything from `moof` to the end of `mdat`.
    pub(super) at: u64,
    pub(super) len: u64,
    pub(super) runs: Vec<Run>,
}

/// The head of a box: its type, where its content begins after its first byte, and its length.
pub(super) fn head(file: &File, at: u64, limit: u64) -> Option<([u8; 4], u64, u64)> {
    let mut bytes = [0; 16];
    if limit.saturating_sub(at) < 8 {
        return None;
    }
    let (first, rest) = bytes.split_at_mut(8);
    file.read_exact_at(first, at).ok()?;
    let [a, b, c, d, kind @ ..] = *first.first_chunk::<8>()?;
    let (skip, len) = match u32::from_be_bytes([a, b, c, d]) {
        0 => (8, limit - at),
        1 => {
            file.read_exact_at(rest, at + 8).ok()?;
            (16, u64::from_be_bytes(*rest.first_chunk()?))
        }
        len => (8, u64::from(len)),
    };
    (len >= skip).then_some((kind, skip, len))
}

/// Tells of each whole fragment from byte `from` on, until `each` says no. Where the last whole box ends.
pub(super) fn walk(
    file: &File,
    from: u64,
    limit: u64,
    each: &mut dyn FnMut(Fragment) -> bool,
) -> io::Result<u64> {
    let mut at = from;
    let mut moof: Option<(u64, u64, Vec<Run>)> = None;
    // Where what is whole ends: a moof without its mdat isn't.
    let mut whole = from;
    while let Some((kind, skip, len)) = head(file, at, limit) {
        let Some(end) = at.checked_add(len).filter(|end| *end <= limit) else { break };
        match &kind {
            b"moof" => {
                if len > MAX_MOOF {
                    break;
                }
                let mut content = vec![0; usize::try_from(len - skip).unwrap_or(0)];
                file.read_exact_at(&mut content, at + skip)?;
                let Some(runs) = runs(&content, at) else { break };
                moof = Some((at, len, runs));
            }
            b"mdat" => {
                whole = end;
                if let Some((from, head_len, runs)) = moof.take() {
                    let fits = |place: &Place| {
                        place.at >= at
                            && place.at.checked_add(u64::from(place.size)).is_some_and(|to| to <= end)
                    };
                    if !runs.iter().flat_map(|run| &run.samples).all(fits) {
                        break;
                    }
                    if !each(Fragment { at: from, len: head_len + len, runs }) {
                        return Ok(whole);
                    }
                }
            }
            b"moov" | b"free" | b"skip" | b"styp" | b"sidx" | b"uuid" | b"prft" | b"emsg" => {
                if moof.is_none() {
                    whole = end;
                }
            }
            _ => break,
        }
        at = end;
    }
    Ok(whole)
}

/// Reads numbers from the front.
struct In<'a>(&'a [u8]);

impl<'a> In<'a> {
    fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (first, rest) = self.0.split_first_chunk::<N>()?;
        self.0 = rest;
        Some(*first)
    }

    fn u32(&mut self) -> Option<u32> {
        self.take().map(u32::from_be_bytes)
    }

    fn u64(&mut self) -> Option<u64> {
        self.take().map(u64::from_be_bytes)
    }

    /// The next box within: its type and content.
    fn child(&mut self) -> Option<([u8; 4], In<'a>)> {
        let len = usize::try_from(self.u32()?).ok()?;
        let kind = self.take()?;
        let (content, rest) = self.0.split_at_checked(len.checked_sub(8)?)?;
        self.0 = rest;
        Some((kind, In(content)))
    }
}

fn runs(content: &[u8], moof_at: u64) -> Option<Vec<Run>> {
    let mut boxes = In(content);
    let mut all = Vec::new();
    while !boxes.0.is_empty() {
        let (kind, inner) = boxes.child()?;
        if &kind == b"traf" {
            all.push(run(inner, moof_at)?);
        }
    }
    Some(all)
}

#[derive(Default)]
struct Defaults {
    duration: u32,
    size: u32,
    flags: u32,
}

fn run(mut traf: In<'_>, moof_at: u64) -> Option<Run> {
    let mut defaults = Defaults::default();
    let (mut track_id, mut base, mut dts) = (0, moof_at, 0_i64);
    let mut samples = Vec::new();
    let mut next = None;
    while !traf.0.is_empty() {
        let (kind, mut b) = traf.child()?;
        match &kind {
            b"tfhd" => {
                let flags = b.u32()?;
                track_id = b.u32()?;
                if flags & 1 != 0 {
                    base = b.u64()?;
                }
                if flags & 2 != 0 {
                    b.u32()?;
                }
                if flags & 8 != 0 {
                    defaults.duration = b.u32()?;
                }
                if flags & 0x10 != 0 {
                    defaults.size = b.u32()?;
                }
                if flags & 0x20 != 0 {
                    defaults.flags = b.u32()?;
                }
            }
            b"tfdt" => {
                let version = b.u32()? >> 24;
                let time = if version == 1 { b.u64()? } else { u64::from(b.u32()?) };
                dts = i64::try_from(time).ok()?;
            }
            b"trun" => {
                let flags = b.u32()? & 0xFF_FFFF;
                let count = b.u32()?;
                let mut at = match flags & 1 {
                    1 => base.checked_add_signed(i64::from(b.u32()? as i32))?,
                    _ => next.unwrap_or(base),
                };
                let mut first = if flags & 4 != 0 { Some(b.u32()?) } else { None };
                let each = [0x100, 0x200, 0x400, 0x800].iter().filter(|bit| flags & **bit != 0).count() * 4;
                // Nothing is set aside for samples that aren't there.
                let there = b.0.len().checked_div(each).unwrap_or(1 << 16);
                if usize::try_from(count).ok()? > there {
                    return None;
                }
                for _ in 0..count {
                    let duration = if flags & 0x100 != 0 { b.u32()? } else { defaults.duration };
                    let size = if flags & 0x200 != 0 { b.u32()? } else { defaults.size };
                    let own = if flags & 0x400 != 0 { b.u32()? } else { defaults.flags };
                    let cts = if flags & 0x800 != 0 { b.u32()? as i32 } else { 0 };
                    let own = first.take().unwrap_or(own);
                    let key = own & 0x1_0000 == 0;
                    samples.push(Place { at, size, dts, duration, cts, key });
                    at = at.checked_add(u64::from(size))?;
                    dts = dts.checked_add(i64::from(duration))?;
                }
                next = Some(at);
            }
            _ => {}
        }
    }
    Some(Run { track_id, samples })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn hostile_bytes_do_not_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300), kind in 0..4_usize) {
            let kinds: [&[u8; 4]; 4] = [b"traf", b"trun", b"tfhd", b"tfdt"];
            let wrap = |kind: &[u8; 4], content: &[u8]| {
                [&(content.len() as u32 + 8).to_be_bytes(), &kind[..], content].concat()
            };
            let _ = runs(&bytes, 0);
            let _ = runs(&wrap(b"traf", &wrap(kinds[kind], &bytes)), u64::MAX);
        }
    }
}
