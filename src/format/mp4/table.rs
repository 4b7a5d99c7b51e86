//! Progressive files: a movie box with a table of all samples (ISO/IEC 14496-12 8.6, 8.7).

use bytes::Bytes;

use super::boxes::{Out, fits};
use super::entry::{Rate, stsd};
use super::init::{Edit, MOVIE_TIMESCALE, ftyp, moov, trak};
use super::{Mp4Error, Mp4Track};
use crate::media::{Codec, rescale};

/// The most samples of a track: 98 hours of AAC at 48 kHz, 155 of video at 30 frames a second.
pub const MAX_SAMPLES: usize = 1 << 24;

/// Where a sample is in a file, and when. Times in ticks of the track's timescale in the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Entry {
    /// Place of its first byte: in the file when read, from the start of the media data when written.
    pub offset: u64,
    /// Bytes.
    pub size: u32,
    /// Until the next sample is decoded. Written for the last one only: the next one's `dts` says it of all others.
    pub duration: u32,
    /// Decoding time.
    pub dts: i64,
    /// Presentation time minus `dts`.
    pub cts: i32,
    /// Whether a decoder can start here.
    pub key: bool,
}

/// The samples of a track, in little memory: about 4 bytes of audio, 12 of video with B-frames each.
#[derive(Debug, Clone, Default)]
pub struct SampleTable {
    /// Runs of one value: how often, which.
    durations: Vec<(u32, u32)>,
    offsets: Vec<(u32, i32)>,
    sizes: Vec<u32>,
    /// Numbers of key frames, from 1; kept once there is one that isn't.
    keys: Vec<u32>,
    deltas: bool,
    /// First byte and number of samples of what lies in one piece.
    chunks: Vec<(u64, u32)>,
    /// Where the last chunk ends.
    end: u64,
    first_dts: i64,
    /// Of the last sample.
    last: (i64, u32),
    min_pts: i64,
    end_pts: i64,
    bytes: u64,
    /// Bytes of the second that begins at this time, and the most that a second had.
    second: (i64, u64),
    peak: u64,
}

impl SampleTable {
    /// Adds a sample, in decoding order. `timescale` is that of the track. A time that runs back counts as the one before; a
    /// pause beyond 2^32 ticks is shortened to that.
    ///
    /// # Errors
    /// Beyond [`MAX_SAMPLES`].
    pub fn push(&mut self, sample: &Entry, timescale: u32) -> Result<(), Mp4Error> {
        fits("the number of samples of a track", self.sizes.len() as u64 + 1, MAX_SAMPLES as u64)?;
        let pts = sample.dts.saturating_add(i64::from(sample.cts));
        if self.sizes.is_empty() {
            self.first_dts = sample.dts;
            (self.min_pts, self.end_pts) = (pts, pts);
            self.second.0 = sample.dts;
        } else {
            let lasted = u64::try_from(sample.dts.saturating_sub(self.last.0)).unwrap_or(0);
            add_run(&mut self.durations, u32::try_from(lasted).unwrap_or(u32::MAX));
        }
        self.last = (sample.dts.max(self.last.0), sample.duration);
        self.min_pts = self.min_pts.min(pts);
        self.end_pts = self.end_pts.max(pts.saturating_add(i64::from(sample.duration)));

        if sample.dts.saturating_sub(self.second.0) >= i64::from(timescale) {
            self.second = (sample.dts, 0);
        }
        self.second.1 = self.second.1.saturating_add(u64::from(sample.size));
        self.peak = self.peak.max(self.second.1);
        self.bytes = self.bytes.saturating_add(u64::from(sample.size));

        add_run(&mut self.offsets, sample.cts);
        self.sizes.push(sample.size);
        self.deltas |= !sample.key;
        if sample.key {
            self.keys.push(self.sizes.len() as u32);
        }
        match self.chunks.last_mut() {
            Some((_, count)) if self.end == sample.offset => *count += 1,
            _ => self.chunks.push((sample.offset, 1)),
        }
        self.end = sample.offset.saturating_add(u64::from(sample.size));
        Ok(())
    }

    /// How many samples there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.sizes.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.sizes.is_empty()
    }

    /// Where the sample with the highest place ends, as far as samples were added in the order of their places.
    #[must_use]
    pub fn end(&self) -> u64 {
        self.end
    }

    /// Ticks from the first sample's decoding time to the end of the last one.
    #[must_use]
    pub fn duration(&self) -> u64 {
        let end = self.last.0.saturating_add(i64::from(self.last.1));
        u64::try_from(end.saturating_sub(self.first_dts)).unwrap_or(0)
    }

    fn rate(&self, timescale: u32) -> Rate {
        let bits = |bytes: u64| u32::try_from(bytes.saturating_mul(8)).unwrap_or(u32::MAX);
        let duration = u128::from(self.duration().max(1));
        let average = u128::from(self.bytes) * u128::from(timescale) / duration;
        Rate {
            average: bits(u64::try_from(average).unwrap_or(u64::MAX)),
            peak: bits(self.peak),
            // `esds` has 24 bits for it.
            largest: self.sizes.iter().copied().max().unwrap_or(0).min(0xFF_FFFF),
        }
    }

    fn write(&self, w: &mut Out, track: &Mp4Track<'_>, shift: u64, wide: bool) -> Result<(), Mp4Error> {
        let long = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
        stsd(w, track, self.rate(track.timescale))?;
        let mut durations = self.durations.clone();
        if !self.is_empty() {
            add_run(&mut durations, self.last.1);
        }
        w.full(b"stts", 0, 0, |w| {
            w.u32(long(durations.len()));
            for (count, duration) in &durations {
                w.u32(*count);
                w.u32(*duration);
            }
        });
        if self.offsets.iter().any(|(_, cts)| *cts != 0) {
            let version = u8::from(self.offsets.iter().any(|(_, cts)| *cts < 0));
            w.full(b"ctts", version, 0, |w| {
                w.u32(long(self.offsets.len()));
                for (count, cts) in &self.offsets {
                    w.u32(*count);
                    w.i32(*cts);
                }
            });
        }
        if self.deltas {
            w.full(b"stss", 0, 0, |w| {
                w.u32(long(self.keys.len()));
                self.keys.iter().for_each(|number| w.u32(*number));
            });
        }
        w.full(b"stsc", 0, 0, |w| {
            let at = w.len();
            w.u32(0);
            let (mut runs, mut before) = (0, None);
            for (i, (_, count)) in self.chunks.iter().enumerate() {
                if before != Some(count) {
                    w.u32(long(i + 1));
                    w.u32(*count);
                    w.u32(1); // sample_description_index
                    runs += 1;
                    before = Some(count);
                }
            }
            w.set_u32(at, runs);
        });
        w.full(b"stsz", 0, 0, |w| {
            w.u32(0); // they differ
            w.u32(long(self.sizes.len()));
            self.sizes.iter().for_each(|size| w.u32(*size));
        });
        w.full(if wide { b"co64" } else { b"stco" }, 0, 0, |w| {
            w.u32(long(self.chunks.len()));
            for (offset, _) in &self.chunks {
                let offset = offset.saturating_add(shift);
                if wide {
                    w.u64(offset);
                } else {
                    w.u32(u32::try_from(offset).unwrap_or(u32::MAX));
                }
            }
        });
        Ok(())
    }
}

fn add_run<T: PartialEq>(runs: &mut Vec<(u32, T)>, value: T) {
    match runs.last_mut() {
        Some((count, last)) if *last == value => *count += 1,
        _ => runs.push((1, value)),
    }
}

/// `moov` of a progressive file. `shift` is added to all places: where the media data starts in the file. The earliest
/// presentation time of all tracks becomes 0.
///
/// # Errors
/// As [`init_segment`](super::init_segment); a table of 4 GiB and more.
pub fn movie(tracks: &[(Mp4Track<'_>, &SampleTable)], shift: u64) -> Result<Bytes, Mp4Error> {
    let end = tracks.iter().map(|(_, table)| table.end).max().unwrap_or(0);
    let mut w = Out::default();
    write_movie(&mut w, tracks, shift, end.saturating_add(shift) > u64::from(u32::MAX))?;
    w.finish("a movie box").map(Bytes::from)
}

/// What stands before `data_len` bytes of media data in a file whose table comes first ("faststart"): `ftyp`, `moov`
/// and the head of the `mdat`.
///
/// # Errors
/// As [`movie`].
pub fn file_head(tracks: &[(Mp4Track<'_>, &SampleTable)], data_len: u64) -> Result<Bytes, Mp4Error> {
    let mut brands: Vec<&[u8; 4]> = vec![b"isom", b"iso2", b"iso6", b"mp41"];
    let has = |codec| tracks.iter().any(|(t, _)| t.track.codec == codec);
    brands.extend(has(Codec::H264).then_some(b"avc1"));
    brands.extend(has(Codec::Av1).then_some(b"av01"));
    let mdat = if data_len > u64::from(u32::MAX) - 8 { 16 } else { 8 };
    let write = |shift: u64, wide: bool| {
        let mut w = Out::default();
        ftyp(&mut w, b"ftyp", b"isom", &brands);
        write_movie(&mut w, tracks, shift, wide).map(|()| w)
    };
    let narrow = write(0, false)?;
    let wide = (narrow.len() as u64 + mdat).saturating_add(data_len) > u64::from(u32::MAX);
    // The length is the same whatever the places are.
    let len = if wide { write(0, true)?.len() } else { narrow.len() };
    let mut w = write(len as u64 + mdat, wide)?;
    if mdat == 16 {
        w.u32(1);
        w.put(b"mdat");
        w.u64(data_len.saturating_add(16));
    } else {
        w.u32(u32::try_from(data_len + 8).unwrap_or(u32::MAX));
        w.put(b"mdat");
    }
    w.finish("a movie box").map(Bytes::from)
}

fn write_movie(
    w: &mut Out,
    tracks: &[(Mp4Track<'_>, &SampleTable)],
    shift: u64,
    wide: bool,
) -> Result<(), Mp4Error> {
    let in_movie = |ticks: i64, timescale: u32| rescale(ticks, timescale, MOVIE_TIMESCALE);
    let filled = || tracks.iter().filter(|(_, table)| !table.is_empty());
    let start = filled().map(|(t, table)| in_movie(table.min_pts, t.timescale)).min().unwrap_or(0);
    let end = filled().map(|(t, table)| in_movie(table.end_pts, t.timescale)).max().unwrap_or(0);
    let heads: Vec<Mp4Track<'_>> = tracks.iter().map(|(head, _)| head.clone()).collect();
    let mut tables = tracks.iter().map(|(_, table)| *table);
    let not_negative = |ticks: i64| u64::try_from(ticks).unwrap_or(0);
    moov(
        w,
        &heads,
        not_negative(end.saturating_sub(start)),
        |w, track| {
            let Some(table) = tables.next() else { return Ok(()) };
            let begins = in_movie(table.min_pts, track.timescale).saturating_sub(start);
            let shown = in_movie(table.end_pts.saturating_sub(table.min_pts), track.timescale);
            let media_time = table.min_pts.saturating_sub(table.first_dts);
            let edit = (!table.is_empty() && (begins != 0 || media_time != 0)).then_some(Edit {
                empty: not_negative(begins),
                duration: not_negative(shown),
                media_time,
            });
            trak(w, track, table.duration(), edit, |w| table.write(w, track, shift, wide))
        },
        |_| (),
    )
}
