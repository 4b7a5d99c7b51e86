//! Reading files: what to read next, and what was found.

use bytes::Bytes;

use super::Mp4Error;
use super::input::{Head, In};
use super::movie::{Defaults, Movie};
use super::table::Entry;

/// The longest `moov`: tables of 16 million samples.
const MAX_MOOV: u64 = 256 << 20;
/// The longest `moof`.
const MAX_MOOF: u64 = 16 << 20;
/// The most samples of a fragment.
const MAX_FRAGMENT: usize = 1 << 16;
/// The most boxes on the top level: a fragment has two or three; years of them.
const MAX_BOXES: u32 = 1 << 28;

/// What a [`Reader`] came upon.
#[derive(Debug, Clone)]
pub enum Found {
    /// The movie box: tracks, and of progressive files the tables.
    Movie(Movie),
    /// A fragment that is there with all its data.
    Fragment(Fragment),
}

/// A fragment of a file.
#[derive(Debug, Clone)]
pub struct Fragment {
    /// Where its `moof` begins in the file.
    pub start: u64,
    /// Where its `mdat` ends.
    pub end: u64,
    /// `sequence_number` of `mfhd`.
    pub sequence: u32,
    /// Samples by track: the place among [`Movie::tracks`], and what is of it, in decoding order.
    pub runs: Vec<(usize, Vec<Entry>)>,
}

/// How a file ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct End {
    /// Up to here everything is whole: boxes, and fragments with their data.
    pub whole: u64,
    /// Whether there is more behind that, cut short or damaged.
    pub truncated: bool,
}

/// Reads a file without touching it: asks for bytes, and tells what they were.
///
/// [`wants`](Self::wants) says which bytes, [`give`](Self::give) takes them, until nothing more is wanted;
/// [`end`](Self::end) says how far the file is whole. Media data is never asked for. A fragmented file that was cut, as by
/// a power failure, gives all fragments up to the cut.
#[derive(Debug)]
pub struct Reader {
    file_len: u64,
    /// Where the next box begins.
    at: u64,
    boxes: u32,
    /// A `moov` or `moof` whose content is wanted.
    body: Option<Head>,
    /// Of the last `moov`: what fragments need of its tracks.
    tracks: Option<Vec<(u32, i64, Defaults)>>,
    /// Where each track's next fragment begins, should it not say so.
    next_dts: Vec<i64>,
    /// A fragment whose `mdat` is still to come.
    pending: Option<Fragment>,
    whole: u64,
    done: bool,
}

impl Reader {
    /// Reads a file of `file_len` bytes.
    #[must_use]
    pub fn new(file_len: u64) -> Self {
        Self {
            file_len,
            at: 0,
            boxes: 0,
            body: None,
            tracks: None,
            next_dts: Vec::new(),
            pending: None,
            whole: 0,
            done: false,
        }
    }

    /// Which bytes it needs next: their place in the file and their number. `None`: it is done.
    #[must_use]
    pub fn wants(&self) -> Option<(u64, usize)> {
        let left = self.file_len.saturating_sub(self.at);
        if self.done || left == 0 {
            return None;
        }
        match self.body.and_then(|head| Some((head, head.size?))) {
            Some((head, size)) => {
                Some((self.at.saturating_add(head.len), usize::try_from(size - head.len).ok()?))
            }
            None => Some((self.at, usize::try_from(left).unwrap_or(usize::MAX).min(Head::MAX))),
        }
    }

    /// Gives it the bytes that it wants; fewer mean that the file ends there.
    ///
    /// # Errors
    /// When the movie box can't be read. What is wrong in or behind fragments is the end of the file.
    pub fn give(&mut self, data: &Bytes) -> Result<Option<Found>, Mp4Error> {
        if let Some((head, size)) = self.body.take().and_then(|head| Some((head, head.size?))) {
            if data.len() as u64 != size - head.len {
                self.done = true;
                return Ok(None);
            }
            let (start, content_at) = (self.at, self.at.saturating_add(head.len));
            self.at = start.saturating_add(size);
            if &head.kind == b"moov" {
                let movie = Movie::read(data, content_at).inspect_err(|_| self.done = true)?;
                self.tracks = Some(movie.tracks.iter().map(|t| (t.id, t.shift, t.defaults)).collect());
                self.next_dts = vec![0; movie.tracks.len()];
                self.whole = self.at;
                return Ok(Some(Found::Movie(movie)));
            }
            match self.read_fragment(start, content_at, data) {
                Ok(fragment) => self.pending = Some(fragment),
                Err(_) => self.done = true,
            }
            return Ok(None);
        }
        self.head(data)
    }

    fn head(&mut self, data: &[u8]) -> Result<Option<Found>, Mp4Error> {
        self.boxes += 1;
        let end_of = |head: &Head| self.at.saturating_add(head.size.unwrap_or(self.file_len - self.at));
        let head = Head::parse(data).filter(Head::is_plausible);
        let Some((head, end)) = head.map(|head| (head, end_of(&head))) else {
            self.done = true;
            return Ok(None);
        };
        if end > self.file_len || end <= self.at || self.boxes > MAX_BOXES {
            self.done = true;
            return Ok(None);
        }
        let size = end - self.at;
        match &head.kind {
            b"moov" if self.tracks.is_none() => {
                if size > MAX_MOOV {
                    self.done = true;
                    let (what, why) = ("length", "more than the 256 MiB that are read");
                    return Err(Mp4Error::Invalid { kind: head.kind, what, value: size, why });
                }
                self.body = Some(Head { size: Some(size), ..head });
                return Ok(None);
            }
            b"moof" if self.tracks.is_some() => {
                if size > MAX_MOOF {
                    self.done = true;
                    return Ok(None);
                }
                self.pending = None;
                self.body = Some(Head { size: Some(size), ..head });
                return Ok(None);
            }
            b"mdat" if self.pending.is_some() => {
                self.at = end;
                self.whole = end;
                return Ok(self.pending.take().map(|fragment| Found::Fragment(Fragment { end, ..fragment })));
            }
            _ => {
                self.at = end;
                if self.pending.is_none() {
                    self.whole = end;
                }
            }
        }
        Ok(None)
    }

    /// How the file ended; to be asked when nothing more is wanted.
    ///
    /// # Errors
    /// When there was no movie box.
    pub fn end(&self) -> Result<End, Mp4Error> {
        if self.tracks.is_none() {
            return Err(Mp4Error::NoMovie);
        }
        Ok(End { whole: self.whole, truncated: self.whole < self.file_len })
    }

    /// Reads the content of `moof`, which begins at `start`.
    fn read_fragment(&mut self, start: u64, content_at: u64, data: &[u8]) -> Result<Fragment, Mp4Error> {
        let mut moof = In::new(*b"moof", content_at, data);
        let mut fragment = Fragment { start, end: self.at, sequence: 0, runs: Vec::new() };
        // Where the data of the runs before ended; the first begins with the fragment.
        let mut data_end = start;
        let mut count = 0;
        while let Some(mut child) = moof.child()? {
            match &child.kind {
                b"mfhd" => {
                    child.full()?;
                    fragment.sequence = child.u32()?;
                }
                b"traf" => self.traf(&child, start, &mut data_end, &mut count, &mut fragment)?,
                _ => {}
            }
        }
        Ok(fragment)
    }

    fn traf(
        &mut self,
        traf: &In<'_>,
        moof: u64,
        data_end: &mut u64,
        count: &mut usize,
        fragment: &mut Fragment,
    ) -> Result<(), Mp4Error> {
        let mut tfhd = traf.demand(b"tfhd")?;
        let (_, flags) = tfhd.full()?;
        let id = tfhd.u32()?;
        let tracks = self.tracks.iter().flatten();
        let known = tracks.enumerate().find(|(_, (known, ..))| *known == id);
        let Some((index, &(_, shift, mut defaults))) = known else { return Ok(()) };
        // Places count from what is said, from the moof, or from the end of the data before.
        let base = match flags {
            f if f & 1 != 0 => tfhd.u64()?,
            f if f & 0x2_0000 != 0 => moof,
            _ => *data_end,
        };
        tfhd.skip(if flags & 2 != 0 { 4 } else { 0 })?;
        for (bit, value) in
            [(8, &mut defaults.duration), (0x10, &mut defaults.size), (0x20, &mut defaults.flags)]
        {
            if flags & bit != 0 {
                *value = tfhd.u32()?;
            }
        }
        let mut dts = match traf.find(b"tfdt")? {
            Some(mut tfdt) => {
                let (version, _) = tfdt.full()?;
                i64::try_from(tfdt.long(version)?).unwrap_or(i64::MAX)
            }
            None => self.next_dts.get(index).copied().unwrap_or(0),
        };
        let mut run = Vec::new();
        let mut offset = base;
        let mut rest = *traf;
        while let Some(mut trun) = rest.child()? {
            if &trun.kind != b"trun" {
                continue;
            }
            let (_, flags) = trun.full()?;
            let samples = usize::try_from(trun.u32()?).unwrap_or(usize::MAX);
            *count = count.saturating_add(samples);
            if *count > MAX_FRAGMENT {
                return Err(trun.invalid(
                    "number of samples",
                    samples as u64,
                    "more than 65536 in a fragment",
                ));
            }
            if flags & 1 != 0 {
                let relative = i64::from(trun.i32()?);
                offset = base.checked_add_signed(relative).ok_or_else(|| {
                    trun.invalid("data_offset", relative.unsigned_abs(), "before the start of the file")
                })?;
            }
            let first_flags = if flags & 4 != 0 { Some(trun.u32()?) } else { None };
            for n in 0..samples {
                let mut or = |bit: u32, default: u32| if flags & bit != 0 { trun.u32() } else { Ok(default) };
                let duration = or(0x100, defaults.duration)?;
                let size = or(0x200, defaults.size)?;
                let default = first_flags.filter(|_| n == 0).unwrap_or(defaults.flags);
                let sample_flags = or(0x400, default)?;
                let cts = or(0x800, 0)? as i32;
                let end = offset.saturating_add(u64::from(size));
                if end > self.file_len {
                    return Err(trun.truncated());
                }
                let key = sample_flags & 0x1_0000 == 0;
                run.push(Entry { offset, size, duration, dts: dts.saturating_add(shift), cts, key });
                offset = end;
                dts = dts.saturating_add(i64::from(duration));
            }
        }
        *data_end = offset;
        if let Some(next) = self.next_dts.get_mut(index) {
            *next = dts;
        }
        fragment.runs.push((index, run));
        Ok(())
    }
}
