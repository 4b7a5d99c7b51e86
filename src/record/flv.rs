//! FLV: what stands in front (how long it is, where its key frames are) is written when the file is closed.

use std::fs::File;
use std::io::{self, BufReader, Read, Seek};
use std::os::unix::fs::FileExt;

use bytes::BytesMut;

use super::ident::Ident;
use super::output::Output;
use super::writer::{Beat, Contents, Writer};
use crate::format::amf::{Decoder, Value};
use crate::format::flv::{self, FILE_HEADER, TAG_HEADER, TAG_TRAILER, TagKind};
use crate::media::{Frame, Kind, Meta, Track};

/// Bytes kept free in front for the places of key frames. There are fewer of them than key frames in a long file.
const SPARE: usize = 16 * 1024;
/// What one of them takes: two numbers.
const PLACE: usize = 18;
/// Key frames whose places are kept while writing. With more, every other one is forgotten.
const MAX_PLACES: usize = 4096;

/// The item of `onMetaData` that holds the [`Ident`].
const ITEM: &str = "recording";
const SPACER: &str = "spacer";

/// Key frames: time in milliseconds, and byte of the file.
#[derive(Debug, Default)]
struct Places {
    all: Vec<(i64, u64)>,
    /// One in so many is kept.
    step: usize,
    seen: usize,
}

impl Places {
    fn add(&mut self, ms: i64, at: u64) {
        self.step = self.step.max(1);
        if self.seen.is_multiple_of(self.step) {
            self.all.push((ms, at));
        }
        self.seen += 1;
        if self.all.len() > MAX_PLACES {
            let mut n = 0;
            self.all.retain(|_| {
                n += 1;
                n % 2 == 1
            });
            self.step *= 2;
        }
    }
}

/// An FLV file.
#[derive(Debug)]
pub(super) struct FlvFile {
    tracks: Vec<Track>,
    /// The body of `onMetaData` as it stands in the file.
    words: Vec<u8>,
    ident: Ident,
    places: Places,
    beat: Beat,
    last_ms: i64,
    told: bool,
}

impl FlvFile {
    pub(super) fn begin(contents: &Contents<'_>, out: &mut Output) -> io::Result<Self> {
        let has = |kind| contents.tracks.iter().any(|track| track.kind() == kind);
        out.put(&flv::file_header(has(Kind::Audio), has(Kind::Video)))?;
        let ident = contents.ident.clone();
        let words = words_of(&flv::metadata_body(contents.meta, contents.tracks, &Meta::default()));
        let least = body(&words, &ident, &Facts::default(), 0).len();
        let words = body(&words, &ident, &Facts::default(), least + SPARE);
        tag(TagKind::Script, 0, &[], &words, out)?;
        let mut file = Self {
            tracks: Vec::new(),
            words,
            ident,
            places: Places::default(),
            beat: Beat::new(contents.fragment_ms),
            last_ms: 0,
            told: false,
        };
        file.configs(contents.tracks, out)?;
        file.tracks = contents.tracks.to_vec();
        Ok(file)
    }

    /// Writes the configs that are not the same as before.
    fn configs(&mut self, tracks: &[Track], out: &mut Output) -> io::Result<()> {
        for track in tracks {
            let same = |old: &Track| old.codec == track.codec && old.config == track.config;
            if self.tracks.iter().any(|old| old.id == track.id && same(old)) {
                continue;
            }
            if let (Some(kind), Some(body)) = (TagKind::of(track.codec), flv::config_body(track)) {
                tag(kind, self.last_ms, &[], &body, out)?;
            }
        }
        Ok(())
    }
}

impl Writer for FlvFile {
    fn frame(&mut self, frame: &Frame, out: &mut Output) -> io::Result<bool> {
        let Some(track) = self.tracks.iter().find(|track| track.id == frame.track) else { return Ok(false) };
        let (Some(kind), Some(prefix)) = (TagKind::of(track.codec), flv::frame_prefix(track, frame)) else {
            return Ok(false);
        };
        let ms = track.ticks_to_ms(frame.dts);
        if kind == TagKind::Video && frame.is_key() {
            self.places.add(ms, out.len());
        }
        if prefix.len() + frame.data.len() > flv::MAX_BODY {
            if !std::mem::replace(&mut self.told, true) {
                log::warn!(
                    "{}: a frame of {} bytes does not fit FLV",
                    out.path().display(),
                    frame.data.len()
                );
            }
            return Ok(false);
        }
        tag(kind, ms, &prefix, &frame.data, out)?;
        self.last_ms = self.last_ms.max(ms);
        Ok(self.beat.due(ms))
    }

    fn retrack(&mut self, tracks: &[Track], out: &mut Output) -> io::Result<bool> {
        let shape = |tracks: &[Track]| tracks.iter().map(|t| (t.id, t.codec)).collect::<Vec<_>>();
        if shape(tracks) != shape(&self.tracks) {
            return Ok(false);
        }
        self.configs(tracks, out)?;
        self.tracks = tracks.to_vec();
        Ok(true)
    }

    fn finish(&mut self, duration_ms: i64, limit: Option<u64>, out: &mut Output) -> io::Result<()> {
        if let Some(limit) = limit {
            self.places.all.retain(|(_, at)| *at < limit);
        }
        self.ident.duration_ms = Some(duration_ms);
        let facts = Facts {
            duration_ms,
            bytes: out.len(),
            last_ms: self.last_ms.min(duration_ms),
            places: &self.places.all,
        };
        let words = body(&words_of(&self.words), &self.ident, &facts, self.words.len());
        // Never longer, unless the words themselves changed.
        if words.len() == self.words.len() {
            out.patch((FILE_HEADER + TAG_HEADER) as u64, &words)?;
        }
        Ok(())
    }
}

fn tag(kind: TagKind, ms: i64, prefix: &[u8], data: &[u8], out: &mut Output) -> io::Result<()> {
    let len = prefix.len() + data.len();
    let header = flv::tag_header(kind, len, ms).map_err(io::Error::other)?;
    out.put(&header)?;
    out.put(prefix)?;
    out.put(data)?;
    out.put(&flv::tag_trailer(len))
}

/// What is known of a file when it is closed.
#[derive(Debug, Default)]
struct Facts<'a> {
    duration_ms: i64,
    bytes: u64,
    last_ms: i64,
    places: &'a [(i64, u64)],
}

/// The items of a body of `onMetaData`.
fn words_of(body: &[u8]) -> Vec<(String, Value)> {
    let mut decoder = Decoder::new(body);
    let _ = decoder.value();
    decoder.value().map(|value| value.pairs().to_vec()).unwrap_or_default()
}

/// A body of `onMetaData` that is `len` bytes long, or as long as it has to be.
fn body(words: &[(String, Value)], ident: &Ident, facts: &Facts<'_>, len: usize) -> Vec<u8> {
    let number = |n: f64| Value::Number(n);
    let seconds = |ms: i64| number(ms as f64 / 1000.0);
    let ours =
        [ITEM, "duration", "filesize", "lasttimestamp", "hasKeyframes", "canSeekToEnd", "keyframes", SPACER];
    let build = |places: &[(i64, u64)], spare: usize| {
        let mut pairs = vec![
            (ITEM.to_owned(), Value::String(ident.line())),
            ("duration".to_owned(), seconds(facts.duration_ms)),
            ("filesize".to_owned(), number(facts.bytes as f64)),
            ("lasttimestamp".to_owned(), seconds(facts.last_ms)),
            ("hasKeyframes".to_owned(), (!places.is_empty()).into()),
            ("canSeekToEnd".to_owned(), (!places.is_empty()).into()),
        ];
        pairs.extend(words.iter().filter(|(name, _)| !ours.contains(&name.as_str())).cloned());
        let times = places.iter().map(|(ms, _)| seconds(*ms)).collect();
        let bytes = places.iter().map(|(_, at)| number(*at as f64)).collect();
        let arrays = [("filepositions", Value::StrictArray(bytes)), ("times", Value::StrictArray(times))];
        pairs.push(("keyframes".to_owned(), Value::object(arrays)));
        pairs.push((SPACER.to_owned(), Value::StrictArray(vec![Value::Null; spare])));
        let mut out = BytesMut::new();
        Value::from("onMetaData").encode(&mut out);
        Value::EcmaArray(pairs).encode(&mut out);
        out.to_vec()
    };
    let least = build(&[], 0).len();
    // As many places as fit, evenly.
    let fit = len.saturating_sub(least) / PLACE;
    let step = facts.places.len().div_ceil(fit.max(1)).max(1);
    let kept: Vec<_> =
        if fit == 0 { Vec::new() } else { facts.places.iter().copied().step_by(step).collect() };
    let used = build(&kept, 0).len();
    build(&kept, len.saturating_sub(used))
}

/// A tag as it stands in a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Place {
    /// Where it begins, and how many bytes it takes with its trailer.
    pub(super) at: u64,
    pub(super) len: u64,
    pub(super) kind: TagKind,
    /// Its time; goes on past the 32 bits.
    pub(super) ms: i64,
    /// Whether it is a key frame of video (or its config).
    pub(super) key: bool,
    /// Whether it holds a config.
    pub(super) config: bool,
}

/// Finds the whole tags of the first `limit` bytes of a file, from byte `from` on.
pub(super) fn scan(file: &File, from: u64, limit: u64, each: &mut dyn FnMut(Place)) -> io::Result<u64> {
    let mut reader = BufReader::with_capacity(256 * 1024, file);
    reader.seek(io::SeekFrom::Start(from))?;
    let mut at = from;
    let mut last_ms: Option<i64> = None;
    loop {
        let mut head = [0; TAG_HEADER];
        let least = (TAG_HEADER + TAG_TRAILER) as u64;
        if limit.saturating_sub(at) < least || reader.read_exact(&mut head).is_err() {
            return Ok(at);
        }
        let [kind, l2, l1, l0, t2, t1, t0, t3, ..] = head;
        let body = u64::from(u32::from_be_bytes([0, l2, l1, l0]));
        let len = body + least;
        let Some(kind) = TagKind::from_u8(kind) else { return Ok(at) };
        if limit - at < len {
            return Ok(at);
        }
        let mut first = [0; 5];
        let some = usize::try_from(body).unwrap_or(usize::MAX).min(first.len());
        if let Some(part) = first.get_mut(..some) {
            reader.read_exact(part)?;
        }
        let rest = body - some as u64 + TAG_TRAILER as u64;
        reader.seek_relative(i64::try_from(rest).unwrap_or(0))?;
        let wire = i64::from(u32::from_be_bytes([t3, t2, t1, t0]));
        let ms = last_ms.map_or(wire, |last| {
            // The nearest time with these 32 bits.
            let step = wire.wrapping_sub(last) as u32 as i32;
            last.saturating_add(i64::from(step))
        });
        if kind != TagKind::Script {
            last_ms = Some(ms);
        }
        let [a, b, ..] = first;
        let extended = a & 0x80 != 0;
        let config = match kind {
            TagKind::Video if extended => a & 0xF == 0,
            TagKind::Video => a & 0xF == 7 && b == 0,
            TagKind::Audio if a >> 4 == 9 => a & 0xF == 0,
            TagKind::Audio => a >> 4 == 10 && b == 0,
            _ => false,
        };
        let key = kind == TagKind::Video && a >> 4 & 7 == 1;
        each(Place { at, len, kind, ms, key, config });
        at += len;
    }
}

/// Mends a file that was not closed: cuts off what is not whole, and writes what stands in front. Its duration, or `None`
/// if there is nothing in it.
pub(super) fn recover(file: &File, mut ident: Ident, len: u64) -> io::Result<Option<i64>> {
    let mut places = Places::default();
    let (mut last, mut frames, mut words_len) = (0, 0_u64, None);
    let mut step = 0;
    let end = scan(file, FILE_HEADER as u64, len, &mut |place| match place.kind {
        TagKind::Script => {
            words_len.get_or_insert(place.len - (TAG_HEADER + TAG_TRAILER) as u64);
        }
        _ if place.config => {}
        _ => {
            frames += 1;
            if place.ms > last {
                (step, last) = (place.ms - last, place.ms);
            }
            if place.key {
                places.add(place.ms, place.at);
            }
        }
    })?;
    let Some(words_len) = words_len.and_then(|len| usize::try_from(len).ok()).filter(|_| frames > 0) else {
        return Ok(None);
    };
    let mut words = vec![0; words_len.min(flv::MAX_BODY)];
    file.read_exact_at(&mut words, (FILE_HEADER + TAG_HEADER) as u64)?;
    file.set_len(end)?;
    let duration_ms = last.saturating_add(step.min(1000));
    ident.duration_ms = Some(duration_ms);
    let facts = Facts { duration_ms, bytes: end, last_ms: last, places: &places.all };
    let new = body(&words_of(&words), &ident, &facts, words.len());
    if new.len() == words.len() {
        file.write_all_at(&new, (FILE_HEADER + TAG_HEADER) as u64)?;
    }
    file.sync_all()?;
    Ok(Some(duration_ms))
}
