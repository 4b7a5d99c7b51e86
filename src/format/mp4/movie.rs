//! The movie box as it is read: tracks, and the tables of progressive files.

use bytes::Bytes;

use super::input::In;
use super::table::{Entry, MAX_SAMPLES};
use super::{MAX_TRACKS, Mp4Error};
use crate::media::opus::{Mapping, OpusHead};
use crate::media::{Codec, Track, TrackId, length_size, rescale};

/// What `moov` tells.
#[derive(Debug, Clone)]
pub struct Movie {
    /// The tracks that we know how to read, in the file's order.
    pub tracks: Vec<MovieTrack>,
    /// The sample entries of those that we don't: other codecs, encrypted ones, subtitles, …
    pub skipped: Vec<[u8; 4]>,
    /// Whether samples are (also) told by fragments.
    pub fragmented: bool,
}

/// A track of a file.
#[derive(Debug, Clone)]
pub struct MovieTrack {
    /// `track_ID`.
    pub id: u32,
    /// Codec, config, language, size; its id is its place among [`Movie::tracks`], its timescale that of the file.
    pub track: Track,
    /// How many bytes the lengths in its samples have (H.264, H.265): other than 4, samples are
    /// [brought into shape](crate::media::nal::normalise) before they are frames. The config already is.
    pub length_size: u8,
    /// Added to the times in tables and fragments: what the edit list says.
    pub(super) shift: i64,
    pub(super) defaults: Defaults,
    tables: Tables,
}

/// `trex` and `tfhd`: what holds for samples of which nothing else is said.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Defaults {
    pub duration: u32,
    pub size: u32,
    pub flags: u32,
}

impl MovieTrack {
    /// The samples of its table, in decoding order. Ends at the first one that isn't whole in a file of `file_len` bytes.
    #[must_use]
    pub fn samples(&self, file_len: u64) -> Samples<'_> {
        Samples::new(&self.tables, self.shift, file_len)
    }
}

impl Movie {
    /// Reads the content of `moov`; `at` is its place in the file.
    pub(super) fn read(content: &Bytes, at: u64) -> Result<Self, Mp4Error> {
        let moov = In::new(*b"moov", at, content);
        let mut movie = Self { tracks: Vec::new(), skipped: Vec::new(), fragmented: false };
        let mut mvhd = moov.demand(b"mvhd")?;
        let (version, _) = mvhd.full()?;
        mvhd.skip(if version == 0 { 8 } else { 16 })?;
        let timescale = mvhd.u32()?.max(1);
        let mut rest = moov;
        while let Some(child) = rest.child()? {
            match &child.kind {
                b"trak" if movie.tracks.len() + movie.skipped.len() >= MAX_TRACKS => {
                    return Err(child.invalid("number of tracks", MAX_TRACKS as u64 + 1, "more than 32"));
                }
                b"trak" => {
                    let id = TrackId(movie.tracks.len() as u8);
                    match MovieTrack::read(content, &child, id, timescale)? {
                        Ok(track) => movie.tracks.push(track),
                        Err(entry) => movie.skipped.push(entry),
                    }
                }
                b"mvex" => movie.fragmented = true,
                _ => {}
            }
        }
        if let Some(mut mvex) = moov.find(b"mvex")? {
            while let Some(mut trex) = mvex.child()? {
                if &trex.kind != b"trex" {
                    continue;
                }
                trex.full()?;
                let id = trex.u32()?;
                trex.skip(4)?;
                let defaults = Defaults { duration: trex.u32()?, size: trex.u32()?, flags: trex.u32()? };
                movie.tracks.iter_mut().filter(|t| t.id == id).for_each(|t| t.defaults = defaults);
            }
        }
        Ok(movie)
    }
}

impl MovieTrack {
    /// Reads `trak`. The inner error is the type of a sample entry that we don't know.
    fn read(
        moov: &Bytes,
        trak: &In<'_>,
        id: TrackId,
        movie_timescale: u32,
    ) -> Result<Result<Self, [u8; 4]>, Mp4Error> {
        let mut tkhd = trak.demand(b"tkhd")?;
        let (version, _) = tkhd.full()?;
        tkhd.skip(if version == 0 { 8 } else { 16 })?;
        let track_id = tkhd.u32()?;
        let mdia = trak.demand(b"mdia")?;
        let mut mdhd = mdia.demand(b"mdhd")?;
        let (version, _) = mdhd.full()?;
        mdhd.skip(if version == 0 { 8 } else { 16 })?;
        let timescale = mdhd.u32()?;
        if timescale == 0 {
            return Err(mdhd.invalid("timescale", 0, "no clock"));
        }
        mdhd.long(version)?;
        let language = mdhd.u16()?;
        let Some(minf) = mdia.find(b"minf")? else { return Ok(Err(*b"\0\0\0\0")) };
        let stbl = minf.demand(b"stbl")?;
        let (mut track, length_size) = match sample_entry(&stbl, id)? {
            Ok(known) => known,
            Err(entry) => return Ok(Err(entry)),
        };
        track.timescale = timescale;
        track.language = [10, 5, 0].map(|shift| (language >> shift & 31) as u8 + 0x60);
        if !track.language.iter().all(u8::is_ascii_lowercase) {
            track.language = *b"und";
        }
        Ok(Ok(Self {
            id: track_id,
            track,
            length_size,
            shift: edit(trak, movie_timescale, timescale)?,
            defaults: Defaults::default(),
            tables: Tables::read(moov, &stbl)?,
        }))
    }
}

/// What the edit list adds to media times: the pause before the first edit that is one, less where that starts.
fn edit(trak: &In<'_>, movie_timescale: u32, timescale: u32) -> Result<i64, Mp4Error> {
    let Some(edts) = trak.find(b"edts")? else { return Ok(0) };
    let Some(mut elst) = edts.find(b"elst")? else { return Ok(0) };
    let (version, _) = elst.full()?;
    let count = elst.u32()?;
    let mut pause = 0i64;
    for _ in 0..count {
        let duration = elst.long(version)?;
        let media_time = elst.long(version)?;
        elst.skip(4)?;
        let media_time = if version == 0 { i64::from(media_time as u32 as i32) } else { media_time as i64 };
        if media_time >= 0 {
            return Ok(rescale(pause, movie_timescale, timescale).saturating_sub(media_time));
        }
        pause = pause.saturating_add(i64::try_from(duration).unwrap_or(i64::MAX));
    }
    Ok(0)
}

/// The first entry of `stsd` as a track, with its length size; the inner error is its type where we don't know it.
fn sample_entry(stbl: &In<'_>, id: TrackId) -> Result<Result<(Track, u8), [u8; 4]>, Mp4Error> {
    let mut stsd = stbl.demand(b"stsd")?;
    stsd.full()?;
    stsd.u32()?;
    let mut entry = stsd.child()?.ok_or_else(|| stsd.truncated())?;
    let kind = entry.kind;
    let own = |child: Option<In<'_>>, skip: usize| {
        let bytes = child.and_then(|c| c.data.get(skip..)).unwrap_or_default();
        Bytes::copy_from_slice(bytes)
    };
    let (width, height, channels, rate);
    let video = matches!(
        &kind,
        b"avc1" | b"avc3" | b"hvc1" | b"hev1" | b"av01" | b"vp08" | b"vp09" | b"mp4v" | b"s263"
    );
    if video {
        entry.skip(24)?;
        (width, height) = (u32::from(entry.u16()?), u32::from(entry.u16()?));
        entry.skip(50)?;
        (channels, rate) = (0, 0);
    } else {
        entry.skip(8)?;
        let version = entry.u16()?; // of QuickTime
        entry.skip(6)?;
        channels = u8::try_from(entry.u16()?).unwrap_or(0);
        entry.skip(6)?;
        rate = entry.u32()? >> 16;
        entry.skip(if version == 1 { 16 } else { 0 })?;
        (width, height) = (0, 0);
    }
    let (codec, config) = match &kind {
        b"avc1" | b"avc3" => (Codec::H264, own(entry.find(b"avcC")?, 0)),
        b"hvc1" | b"hev1" => (Codec::H265, own(entry.find(b"hvcC")?, 0)),
        b"av01" => (Codec::Av1, own(entry.find(b"av1C")?, 0)),
        b"vp08" => (Codec::Vp8, Bytes::new()),
        b"vp09" => (Codec::Vp9, own(entry.find(b"vpcC")?, 4)),
        b"Opus" => match entry.find(b"dOps")? {
            Some(dops) => (Codec::Opus, dops_head(dops)?.build().into()),
            None => (Codec::Opus, Bytes::new()),
        },
        b"fLaC" => (Codec::Flac, own(entry.find(b"dfLa")?, 8)),
        b"ac-3" => (Codec::Ac3, Bytes::new()),
        b"ec-3" => (Codec::Eac3, Bytes::new()),
        b".mp3" => (Codec::Mp3, Bytes::new()),
        b"mp4a" => {
            let esds = match entry.find(b"esds")? {
                Some(esds) => Some(esds),
                // QuickTime has it in a box of its own.
                None => entry.find(b"wave")?.map(|wave| wave.find(b"esds")).transpose()?.flatten(),
            };
            match esds.map(read_esds).transpose()? {
                Some((0x40 | 0x66..=0x68, config)) => (Codec::Aac, Bytes::copy_from_slice(config)),
                Some((0x69 | 0x6B, _)) => (Codec::Mp3, Bytes::new()),
                _ => return Ok(Err(kind)),
            }
        }
        _ => return Ok(Err(kind)),
    };
    let length_size = length_size(codec, &config).unwrap_or(4);
    let mut track = Track::with_config(id, codec, config)?;
    let facts = &mut track.facts;
    if facts.width == 0 {
        (facts.width, facts.height) = (width, height);
    }
    if facts.sample_rate == 0 {
        (facts.sample_rate, facts.channels) = (rate, channels);
    }
    Ok(Ok((track, length_size)))
}

/// Object type and `DecoderSpecificInfo` of `esds`.
fn read_esds(mut esds: In<'_>) -> Result<(u8, &[u8]), Mp4Error> {
    fn descriptor<'a>(from: &mut In<'a>) -> Result<(u8, In<'a>), Mp4Error> {
        let tag = from.u8()?;
        let mut len = 0usize;
        for _ in 0..4 {
            let byte = from.u8()?;
            len = len << 7 | usize::from(byte & 0x7F);
            if byte & 0x80 == 0 {
                break;
            }
        }
        // Some writers count the rest wrongly.
        let len = len.min(from.data.len());
        let at = from.at;
        Ok((tag, In::new(from.kind, at, from.take(len)?)))
    }
    esds.full()?;
    let (tag, mut es) = descriptor(&mut esds)?;
    if tag != 3 {
        return Err(esds.invalid("descriptor", u64::from(tag), "not an ES_Descriptor (3)"));
    }
    es.skip(2)?;
    let flags = es.u8()?;
    es.skip(if flags & 0x80 != 0 { 2 } else { 0 })?;
    if flags & 0x40 != 0 {
        let url = es.u8()?;
        es.skip(usize::from(url))?;
    }
    es.skip(if flags & 0x20 != 0 { 2 } else { 0 })?;
    let (tag, mut config) = descriptor(&mut es)?;
    if tag != 4 {
        return Err(esds.invalid("descriptor", u64::from(tag), "not a DecoderConfigDescriptor (4)"));
    }
    let object_type = config.u8()?;
    config.skip(12)?;
    let specific = if config.data.is_empty() { &[] } else { descriptor(&mut config)?.1.data };
    Ok((object_type, specific))
}

fn dops_head(mut dops: In<'_>) -> Result<OpusHead, Mp4Error> {
    dops.u8()?;
    let (channels, pre_skip, input_rate) = (dops.u8()?, dops.u16()?, dops.u32()?);
    let gain = dops.u16()? as i16;
    let family = dops.u8()?;
    let mapping = if family == 0 {
        None
    } else {
        let (streams, coupled) = (dops.u8()?, dops.u8()?);
        Some(Mapping { family, streams, coupled, channels: dops.take(usize::from(channels))?.to_vec() })
    };
    Ok(OpusHead { channels, pre_skip, input_rate, gain, mapping })
}

/// The tables of `stbl` as they stand there, behind their counts.
#[derive(Debug, Clone, Default)]
struct Tables {
    /// Rows of two numbers: how many samples, how long.
    durations: Bytes,
    /// Rows of two numbers: how many samples, offset.
    offsets: Bytes,
    /// Of one number: sample. `None`: all samples are key frames.
    keys: Option<Bytes>,
    /// Of three numbers: first chunk, samples in each, description.
    chunk_runs: Bytes,
    /// Of one number.
    sizes: Bytes,
    /// The size of all samples, where it is one.
    size: u32,
    count: u32,
    places: Bytes,
    wide: bool,
}

impl Tables {
    fn read(moov: &Bytes, stbl: &In<'_>) -> Result<Self, Mp4Error> {
        // The rows that are there of those that are promised.
        let rows = |child: Option<In<'_>>, width: usize| -> Result<Bytes, Mp4Error> {
            let Some(mut table) = child else { return Ok(Bytes::new()) };
            table.full()?;
            let len = usize::try_from(table.u32()?).unwrap_or(usize::MAX).saturating_mul(width);
            let whole = table.data.get(..len).ok_or_else(|| table.truncated())?;
            Ok(moov.slice_ref(whole))
        };
        let mut tables = Self {
            durations: rows(stbl.find(b"stts")?, 8)?,
            offsets: rows(stbl.find(b"ctts")?, 8)?,
            keys: stbl.find(b"stss")?.map(|stss| rows(Some(stss), 4)).transpose()?,
            chunk_runs: rows(stbl.find(b"stsc")?, 12)?,
            ..Self::default()
        };
        if let Some(mut stsz) = stbl.find(b"stsz")? {
            stsz.full()?;
            tables.size = stsz.u32()?;
            tables.count = stsz.u32()?;
            if tables.size == 0 {
                let len = usize::try_from(tables.count).unwrap_or(usize::MAX).saturating_mul(4);
                tables.sizes = moov.slice_ref(stsz.data.get(..len).ok_or_else(|| stsz.truncated())?);
            }
        }
        (tables.places, tables.wide) = match stbl.find(b"co64")? {
            Some(co64) => (rows(Some(co64), 8)?, true),
            None => (rows(stbl.find(b"stco")?, 4)?, false),
        };
        Ok(tables)
    }
}

/// Row `index` of a table of numbers.
fn row<const N: usize>(table: &[u8], index: usize) -> Option<[u32; N]> {
    let at = index.checked_mul(4 * N)?;
    let bytes = table.get(at..at.checked_add(4 * N)?)?;
    let mut numbers = bytes.chunks_exact(4).filter_map(|b| b.first_chunk()).map(|b| u32::from_be_bytes(*b));
    Some([(); N].map(|()| numbers.next().unwrap_or(0)))
}

/// A place in a table of runs: rows of how many, and what.
#[derive(Debug, Clone)]
struct Runs<'a> {
    table: &'a [u8],
    next: usize,
    left: u32,
    value: u32,
}

impl<'a> Runs<'a> {
    fn new(table: &'a [u8]) -> Self {
        Self { table, next: 0, left: 0, value: 0 }
    }

    fn step(&mut self) -> Option<u32> {
        while self.left == 0 {
            [self.left, self.value] = row(self.table, self.next)?;
            self.next += 1;
        }
        self.left -= 1;
        Some(self.value)
    }
}

/// Iterator of [`MovieTrack::samples`].
#[derive(Debug, Clone)]
pub struct Samples<'a> {
    tables: &'a Tables,
    file_len: u64,
    index: u32,
    dts: i64,
    durations: Runs<'a>,
    offsets: Runs<'a>,
    next_key: usize,
    /// The next chunk, from 0, and how many samples the one before has left.
    chunk: usize,
    in_chunk: u32,
    /// The next row of `chunk_runs`, and what the one before says.
    chunk_run: usize,
    per_chunk: u32,
    offset: u64,
}

impl<'a> Samples<'a> {
    fn new(tables: &'a Tables, shift: i64, file_len: u64) -> Self {
        Self {
            tables,
            file_len,
            index: 0,
            dts: shift,
            durations: Runs::new(&tables.durations),
            offsets: Runs::new(&tables.offsets),
            next_key: 0,
            chunk: 0,
            in_chunk: 0,
            chunk_run: 0,
            per_chunk: 0,
            offset: 0,
        }
    }

    /// To the chunk of the next sample.
    fn next_chunk(&mut self) -> Option<()> {
        while self.in_chunk == 0 {
            while let Some([first, samples, _]) = row(&self.tables.chunk_runs, self.chunk_run)
                && usize::try_from(first).is_ok_and(|first| first <= self.chunk.saturating_add(1))
            {
                self.per_chunk = samples;
                self.chunk_run += 1;
            }
            self.offset = if self.tables.wide {
                let [high, low] = row(&self.tables.places, self.chunk)?;
                u64::from(high) << 32 | u64::from(low)
            } else {
                row::<1>(&self.tables.places, self.chunk).map(|[place]| u64::from(place))?
            };
            self.chunk += 1;
            self.in_chunk = self.per_chunk;
        }
        self.in_chunk -= 1;
        Some(())
    }
}

impl Iterator for Samples<'_> {
    type Item = Entry;

    fn next(&mut self) -> Option<Entry> {
        if self.index >= self.tables.count || self.index as usize >= MAX_SAMPLES {
            return None;
        }
        self.next_chunk()?;
        let size = match self.tables.size {
            0 => row::<1>(&self.tables.sizes, usize::try_from(self.index).ok()?).map(|[size]| size)?,
            size => size,
        };
        let duration = self.durations.step()?;
        // Without a table, and behind its end, frames are shown as they are decoded.
        let cts = self.offsets.step().unwrap_or(0) as i32;
        self.index += 1;
        let key = match &self.tables.keys {
            None => true,
            Some(keys) => {
                let is = row::<1>(keys, self.next_key) == Some([self.index]);
                self.next_key += usize::from(is);
                is
            }
        };
        let entry = Entry { offset: self.offset, size, duration, dts: self.dts, cts, key };
        self.offset = self.offset.checked_add(u64::from(size)).filter(|end| *end <= self.file_len)?;
        self.dts = self.dts.saturating_add(i64::from(duration));
        Some(entry)
    }
}
