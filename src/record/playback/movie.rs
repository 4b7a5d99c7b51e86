//! A time of a stream as one MP4, with its tables in front, that is never there as a whole.
//!
//! The tables are made once for each time that is asked for, and kept for the requests that follow (players come back for
//! other parts of the file). Media is read piece by piece as it is sent.

use std::io;

use bytes::Bytes;

use super::source::{Piece, Shared};
use crate::format::mp4::{self, Entry, SampleTable};
use crate::media::rescale;

/// The longest time that one file may have: its tables are in memory, about 2 MiB an hour. There is no such limit to HLS.
pub(super) const LONGEST_MS: i64 = 24 * 3_600_000;

/// A time of a stream, as a file.
#[derive(Debug)]
pub(super) struct Movie {
    head: Bytes,
    sources: Vec<Shared>,
    /// Which source, which of its pieces, and where it ends in the media data.
    places: Vec<(u32, u32, u64)>,
    pub(super) len: u64,
    pub(super) start_ms: i64,
    pub(super) duration_ms: i64,
}

/// The pieces of a source that are wanted: from the key frame before `from_ms` on (by the time of day), to `to_ms`.
pub(super) fn select(pieces: &[Piece], start_ms: i64, from_ms: i64, to_ms: i64) -> std::ops::Range<usize> {
    let base = pieces.first().map_or(0, |piece| piece.start_ms);
    let day = |ms: i64| start_ms.saturating_add(ms.saturating_sub(base));
    let begins = |piece: &Piece| piece.key;
    let first = pieces.iter().enumerate().filter(|(_, piece)| begins(piece));
    let before = first.clone().take_while(|(_, piece)| day(piece.start_ms) <= from_ms).last();
    let Some((first, _)) = before.or_else(|| first.clone().next()) else { return 0..0 };
    let end = pieces.iter().position(|piece| day(piece.start_ms) >= to_ms).unwrap_or(pieces.len());
    // Who asks for what was before gets nothing.
    let over = pieces.last().is_none_or(|last| day(last.end_ms) <= from_ms);
    if over || end <= first { 0..0 } else { first..end }
}

impl Movie {
    /// Makes the tables for the time of `sources`, which follow each other; those whose tracks differ from the first one's
    /// end it. `None`: there is nothing at that time.
    pub(super) fn build(sources: Vec<Shared>, from_ms: i64, to_ms: i64) -> io::Result<Option<Self>> {
        let mut taken: Vec<Shared> = Vec::new();
        let mut places = Vec::new();
        let mut tables: Vec<SampleTable> = Vec::new();
        let (mut offset, mut done_ms, mut begins) = (0_u64, 0_i64, None);
        for source in sources {
            let range = select(&source.pieces, source.start_ms, from_ms, to_ms);
            let Some(first) = source.pieces.get(range.start).filter(|_| !range.is_empty()).copied() else {
                continue;
            };
            match taken.first() {
                Some(known) if !known.continues(&source) => break,
                Some(_) => {}
                None => tables = vec![SampleTable::default(); source.tracks.len()],
            }
            let base = source.pieces.first().map_or(0, |piece| piece.start_ms);
            begins.get_or_insert(source.start_ms.saturating_add(first.start_ms - base));
            let which = u32::try_from(taken.len()).map_err(io::Error::other)?;
            let mut end_ms = first.start_ms;
            for (n, piece) in source.pieces.iter().enumerate().take(range.end).skip(range.start) {
                if done_ms.saturating_add(piece.end_ms - first.start_ms) > LONGEST_MS {
                    let text = "this is more than 24 hours: ask for less, or use .m3u8";
                    return Err(io::Error::new(io::ErrorKind::FileTooLarge, text));
                }
                for (track, samples) in source.sizes(*piece)? {
                    let (Some(of), Some(table)) = (source.tracks.get(track), tables.get_mut(track)) else {
                        continue;
                    };
                    let shift = rescale(done_ms.saturating_sub(first.start_ms), 1000, of.timescale);
                    for s in samples {
                        let dts = s.dts.saturating_add(shift);
                        let (size, duration, cts, key) = (s.size, s.duration, s.cts, s.key);
                        table
                            .push(&Entry { offset, size, duration, dts, cts, key }, of.timescale)
                            .map_err(io::Error::other)?;
                        offset = offset.saturating_add(u64::from(size));
                    }
                }
                places.push((which, u32::try_from(n).map_err(io::Error::other)?, offset));
                end_ms = end_ms.max(piece.end_ms);
            }
            done_ms = done_ms.saturating_add(end_ms - first.start_ms);
            taken.push(source);
        }
        let (Some(first), Some(start_ms)) = (taken.first(), begins) else { return Ok(None) };
        let heads: Vec<_> = first
            .tracks
            .iter()
            .zip(1..)
            .zip(&tables)
            .filter(|(_, table)| !table.is_empty())
            .map(|((track, id), table)| (track.head(id), table))
            .collect();
        let head = mp4::file_head(&heads, offset).map_err(io::Error::other)?;
        let len = offset.saturating_add(head.len() as u64);
        Ok(Some(Self { head, sources: taken, places, len, start_ms, duration_ms: done_ms }))
    }

    /// Memory that it takes.
    pub(super) fn weight(&self) -> usize {
        self.head.len() + self.places.len() * 16
    }

    /// The next bytes from `at` on, at most up to `end`: as many as are read at once. Empty: there are none.
    pub(super) fn read(&self, at: u64, end: u64) -> io::Result<Vec<Bytes>> {
        let clip = |from: u64, data: Bytes| -> Bytes {
            let len = data.len() as u64;
            let skip = at.saturating_sub(from).min(len);
            let to = end.saturating_sub(from).min(len).max(skip);
            data.slice(usize::try_from(skip).unwrap_or(0)..usize::try_from(to).unwrap_or(0))
        };
        let head = self.head.len() as u64;
        if at < head {
            return Ok(vec![clip(0, self.head.clone())]);
        }
        let wanted = self.places.partition_point(|(_, _, to)| to + head <= at);
        let Some((which, piece, to)) = self.places.get(wanted).copied() else { return Ok(Vec::new()) };
        let from = wanted.checked_sub(1).and_then(|i| self.places.get(i)).map_or(0, |(_, _, to)| *to);
        let gone = || io::Error::other("the recording changed while it was sent");
        let source = self.sources.get(which as usize).ok_or_else(gone)?;
        let piece = source.pieces.get(piece as usize).ok_or_else(gone)?;
        let mut place = from.saturating_add(head);
        let mut out = Vec::new();
        for part in source.parts(*piece)? {
            for sample in part.samples {
                let next = place.saturating_add(sample.data.len() as u64);
                if next > at && place < end {
                    out.push(clip(place, sample.data));
                }
                place = next;
            }
        }
        if place == to.saturating_add(head) { Ok(out) } else { Err(gone()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn piece(start_ms: i64, key: bool) -> Piece {
        Piece { at: 0, len: 1, start_ms, end_ms: start_ms + 1000, key }
    }

    #[test]
    fn playing_begins_at_key_frames() {
        let pieces =
            [piece(0, true), piece(1000, false), piece(2000, true), piece(3000, false), piece(4000, true)];
        let of = |from, to| select(&pieces, 100_000, from, to);
        assert_eq!(of(0, i64::MAX), 0..5);
        assert_eq!(of(101_500, 103_000), 0..3, "the key frame before");
        assert_eq!(of(102_000, 102_001), 2..3);
        assert_eq!(of(103_999, 104_000), 2..4);
        assert_eq!(of(104_999, i64::MAX), 4..5);
        assert!(of(105_000, i64::MAX).is_empty(), "after the end");
        assert!(of(0, 100_000).is_empty(), "before the start");
        assert!(of(102_500, 100_500).is_empty(), "the wrong way round");
        // A file whose first fragments lack a key frame, and one that has none.
        assert_eq!(select(&pieces[1..], 100_000, 0, i64::MAX), 1..4);
        assert!(select(&pieces[1..2], 0, 0, i64::MAX).is_empty());
        assert!(select(&[], 0, 0, 1).is_empty());
    }
}
