//! Fragments (ISO/IEC 14496-12 8.8) and what may stand before them.

use bytes::Bytes;

use super::boxes::{Out, fits};
use super::init::ftyp;
use super::{Mp4Error, Subsamples};

/// Flags of a sample that decoders can start at: it depends on no other (8.8.3.1).
const KEY: u32 = 0x0200_0000;
/// Flags of all others: it depends on others, and is no sync sample.
const DELTA: u32 = 0x0101_0000;

/// One frame in a fragment. Times in ticks of the track's timescale in the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sample {
    /// Decoding time. Of a run only the first one's is written; the durations say the rest.
    pub dts: i64,
    /// Until the next sample is decoded.
    pub duration: u32,
    /// Presentation time minus `dts`.
    pub cts: i32,
    /// Whether a decoder can start here.
    pub key: bool,
    /// The payload, shared.
    pub data: Bytes,
}

/// What a fragment has of one track.
#[derive(Debug, Clone, Copy)]
pub struct Run<'a> {
    /// `track_ID`.
    pub track_id: u32,
    /// In decoding order. A run without samples is left out.
    pub samples: &'a [Sample],
    /// Which bytes of each sample are encrypted, where the track is protected and that isn't all of them: as
    /// [`Protection::encrypt`](super::Protection::encrypt) gave them; as many as there are samples, or none.
    pub subsamples: &'a [Subsamples],
}

impl<'a> Run<'a> {
    /// A run in the clear.
    #[must_use]
    pub fn new(track_id: u32, samples: &'a [Sample]) -> Self {
        Self { track_id, samples, subsamples: &[] }
    }
}

/// `moof` and `mdat`: their heads, then the payloads of all runs, shared. `sequence` counts fragments from 1.
///
/// A time before 0 is written as 0: there is no other way to say it.
///
/// # Errors
/// A fragment of 4 GiB and more.
pub fn fragment(sequence: u32, runs: &[Run<'_>]) -> Result<Vec<Bytes>, Mp4Error> {
    let runs: Vec<&Run<'_>> = runs.iter().filter(|run| !run.samples.is_empty()).collect();
    let count: usize = runs.iter().map(|run| run.samples.len()).sum();
    let mut w = Out::with_capacity(128 + 128 * runs.len() + 16 * count);
    // Where each run's data_offset stands, and how far its payload is from the first byte of the mdat's.
    let mut places = Vec::with_capacity(runs.len());
    let mut len = 0u64;
    w.boxed(b"moof", |w| {
        w.full(b"mfhd", 0, 0, |w| w.u32(sequence));
        for run in &runs {
            w.boxed(b"traf", |w| places.push((traf(w, run), len)));
            len = run.samples.iter().fold(len, |sum, s| sum.saturating_add(s.data.len() as u64));
        }
    });
    // Offsets are signed.
    fits("a fragment", len.saturating_add(w.len() as u64 + 8), i32::MAX as u64)?;
    let moof = w.len();
    for (place, offset) in places {
        w.set_u32(place, u32::try_from(offset.saturating_add(moof as u64 + 8)).unwrap_or(u32::MAX));
    }
    w.u32(u32::try_from(len.saturating_add(8)).unwrap_or(u32::MAX));
    w.put(b"mdat");

    let mut out = Vec::with_capacity(1 + count);
    out.push(w.finish("a fragment")?.into());
    out.extend(runs.iter().flat_map(|run| run.samples).map(|sample| sample.data.clone()));
    Ok(out)
}

/// What a `traf` holds; gives the place of its `data_offset`.
fn traf(w: &mut Out, run: &Run<'_>) -> usize {
    let samples = run.samples;
    let moof = 0; // the fragment begins with it
    let first = samples.first();
    let same = |of: &dyn Fn(&Sample) -> u64| {
        let value = first.map(of);
        samples.iter().all(|s| Some(of(s)) == value)
    };
    let same_duration = same(&|s| u64::from(s.duration));
    let same_size = same(&|s| s.data.len() as u64);
    let any_cts = samples.iter().any(|s| s.cts != 0);
    let rest_key = samples.get(1).or(first).is_some_and(|s| s.key);
    let same_rest = samples.iter().skip(1).all(|s| s.key == rest_key);
    let first_differs = same_rest && first.is_some_and(|s| s.key != rest_key);
    let flags_of = |key: bool| if key { KEY } else { DELTA };

    // Offsets from the moof; defaults for what is the same in all samples.
    let flags = 0x02_0020 | if same_duration { 8 } else { 0 } | if same_size { 0x10 } else { 0 };
    w.full(b"tfhd", 0, flags, |w| {
        w.u32(run.track_id);
        if let Some(first) = first {
            if same_duration {
                w.u32(first.duration);
            }
            if same_size {
                w.u32(size_of(first));
            }
        }
        w.u32(flags_of(rest_key));
    });
    w.full(b"tfdt", 1, 0, |w| w.u64(first.map_or(0, |s| u64::try_from(s.dts).unwrap_or(0))));
    let mut place = 0;
    let flags = 1
        | if first_differs { 4 } else { 0 }
        | if same_duration { 0 } else { 0x100 }
        | if same_size { 0 } else { 0x200 }
        | if same_rest { 0 } else { 0x400 }
        | if any_cts { 0x800 } else { 0 };
    w.full(b"trun", 1, flags, |w| {
        w.u32(u32::try_from(samples.len()).unwrap_or(u32::MAX));
        place = w.len();
        w.u32(0);
        if first_differs {
            w.u32(flags_of(!rest_key));
        }
        for sample in samples {
            if !same_duration {
                w.u32(sample.duration);
            }
            if !same_size {
                w.u32(size_of(sample));
            }
            if !same_rest {
                w.u32(flags_of(sample.key));
            }
            if any_cts {
                w.i32(sample.cts);
            }
        }
    });
    if run.subsamples.len() == samples.len() {
        protection(w, run.subsamples, moof);
    }
    place
}

/// `senc`, `saiz`, `saio` (ISO/IEC 23001-7 7.2; 14496-12 8.7.8, 8.7.9). The IV is the track's, so a sample's information
/// is its subsamples alone.
fn protection(w: &mut Out, all: &[Subsamples], moof: usize) {
    let count = u32::try_from(all.len()).unwrap_or(u32::MAX);
    let mut first = 0;
    w.full(b"senc", 0, 2, |w| {
        w.u32(count);
        first = w.len() - moof;
        for subsamples in all {
            w.u16(subsamples.len() as u16);
            for &(clear, protected) in subsamples.iter() {
                w.u16(clear);
                w.u32(protected);
            }
        }
    });
    w.full(b"saiz", 0, 0, |w| {
        w.u8(0); // they differ
        w.u32(count);
        all.iter().for_each(|subsamples| w.u8((2 + 6 * subsamples.len()) as u8));
    });
    w.full(b"saio", 0, 0, |w| {
        w.u32(1);
        w.u32(u32::try_from(first).unwrap_or(u32::MAX));
    });
}

fn size_of(sample: &Sample) -> u32 {
    u32::try_from(sample.data.len()).unwrap_or(u32::MAX)
}

/// `styp` (8.16.2) of a CMAF segment; to stand before the first fragment of each. `last`: it is the stream's last one
/// (brand `lmsg`, ISO/IEC 23009-1 7.3.2).
#[must_use]
pub fn styp(last: bool) -> Bytes {
    let mut w = Out::default();
    let brands: &[&[u8; 4]] = &[b"msdh", b"msix", b"cmfs", b"lmsg"];
    ftyp(&mut w, b"styp", b"msdh", brands.get(..if last { 4 } else { 3 }).unwrap_or(brands));
    w.finish("styp").unwrap_or_default().into()
}

/// The producer's clock at a media time, for `prft` (8.16.5): milliseconds since 1970 UTC, when the frame of this
/// `media_time` (ticks, as in `tfdt`) was taken in by this server. It stands before the `moof` it is of.
#[must_use]
pub fn prft(track_id: u32, wall_ms: i64, media_time: i64) -> Bytes {
    // NTP counts from 1900, in 2^-32 s; its seconds run over in 2036, as the format has it.
    const EPOCH: i64 = 2_208_988_800;
    let seconds = wall_ms.div_euclid(1000).saturating_add(EPOCH) as u64 & 0xFFFF_FFFF;
    let fraction = (wall_ms.rem_euclid(1000) as u64) * (1 << 32) / 1000;
    let mut w = Out::default();
    // Flags 24: the time is that of the output of the encoder, as near as a server can tell.
    w.full(b"prft", 1, 24, |w| {
        w.u32(track_id);
        w.u64(seconds << 32 | fraction);
        w.u64(u64::try_from(media_time).unwrap_or(0));
    });
    w.finish("prft").unwrap_or_default().into()
}

/// An event message (ISO/IEC 23009-1 5.10.3.3).
#[derive(Debug, Clone, Copy)]
pub struct Emsg<'a> {
    /// Ticks per second of what follows.
    pub timescale: u32,
    /// When it happens, on the presentation's timeline.
    pub time: u64,
    /// How long; `u32::MAX` where unknown.
    pub duration: u32,
    /// Messages of one scheme and value with the same id are the same.
    pub id: u32,
    /// What kind of message, a URI; cut at a NUL.
    pub scheme: &'a str,
    /// Which of its kind; cut at a NUL.
    pub value: &'a str,
    /// The message.
    pub data: &'a [u8],
}

/// `emsg`, version 1; stands before the `moof`.
///
/// # Errors
/// A message of 4 GiB and more.
pub fn emsg(event: &Emsg<'_>) -> Result<Bytes, Mp4Error> {
    let text = |w: &mut Out, text: &str| {
        w.put(text.split('\0').next().unwrap_or_default().as_bytes());
        w.u8(0);
    };
    let mut w = Out::default();
    w.full(b"emsg", 1, 0, |w| {
        w.u32(event.timescale);
        w.u64(event.time);
        w.u32(event.duration);
        w.u32(event.id);
        text(w, event.scheme);
        text(w, event.value);
        w.put(event.data);
    });
    w.finish("an event message").map(Bytes::from)
}

/// A segment index (8.16.3) of one track.
#[derive(Debug, Clone)]
pub struct Sidx {
    /// `track_ID`.
    pub track_id: u32,
    /// Ticks per second.
    pub timescale: u32,
    /// Presentation time of the first frame.
    pub time: u64,
    /// Bytes between the end of this box and the first fragment.
    pub gap: u64,
    /// What follows, one after the other.
    pub references: Vec<Reference>,
}

/// A piece that a segment index tells of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reference {
    /// Bytes, below 2^31.
    pub size: u32,
    /// Ticks.
    pub duration: u32,
    /// Whether it begins with a key frame.
    pub key: bool,
}

/// `sidx`, version 1.
///
/// # Errors
/// More than 65535 references, or one of 2 GiB and more.
pub fn sidx(index: &Sidx) -> Result<Bytes, Mp4Error> {
    fits("the number of references", index.references.len() as u64, u64::from(u16::MAX))?;
    for reference in &index.references {
        fits("a referenced piece", u64::from(reference.size), i32::MAX as u64)?;
    }
    let mut w = Out::with_capacity(48 + 12 * index.references.len());
    w.full(b"sidx", 1, 0, |w| {
        w.u32(index.track_id);
        w.u32(index.timescale);
        w.u64(index.time);
        w.u64(index.gap);
        w.u16(0);
        w.u16(index.references.len() as u16);
        for reference in &index.references {
            w.u32(reference.size);
            w.u32(reference.duration);
            // starts_with_SAP and its type 1, no delta.
            w.u32(if reference.key { 0x9000_0000 } else { 0 });
        }
    });
    w.finish("a segment index").map(Bytes::from)
}
