//! Recordings as pieces that can be read one by one, whatever their container.
//!
//! A piece begins where its container has a place to begin: a fragment of MP4, a key frame of FLV, the tables before a key
//! frame of MPEG-TS. It is a second or a few of all tracks, so that hours are never in memory.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use bytes::Bytes;

use crate::config::RecordFormat;
use crate::format::flv::{self, Demuxer, Event, TagReader};
use crate::format::mp4::{self, Run, Sample};
use crate::format::mpegts;
use crate::media::{Codec, Frame, Kind, Track, rescale};
use crate::record::catalog::Entry;
use crate::record::fragments::{self, Fragment};
use crate::record::{flv as flv_file, recover, ts};

/// The longest piece that is read at once: 5 s of 100 Mbit/s.
const MAX_PIECE: u64 = 64 << 20;
/// The most pieces of a file: a week of seconds.
const MAX_PIECES: usize = 7 * 86_400;
/// Pieces of FLV and MPEG-TS without video are this long, in milliseconds.
const AUDIO_PIECE: i64 = 1000;
/// Pieces of FLV end here without a key frame, too.
const LONG_PIECE: i64 = 4000;
/// How many pieces of an MPEG-TS file are looked through for its tracks.
const PROBE: usize = 3;

/// A piece of a recording. Times in milliseconds of the file's clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Piece {
    pub(super) at: u64,
    pub(super) len: u64,
    pub(super) start_ms: i64,
    pub(super) end_ms: i64,
    /// Whether playing can begin with it.
    pub(super) key: bool,
}

/// A track as it is given out.
#[derive(Debug, Clone)]
pub(super) struct SourceTrack {
    /// Its number in the source: `track_ID` of MP4, the frame's track otherwise.
    id: u32,
    /// Ticks per second of what is given out.
    pub(super) timescale: u32,
    pub(super) track: Track,
    /// A payload, for codecs that say in it what their box has.
    pub(super) sample: Option<Bytes>,
}

/// An opened recording.
#[derive(Debug)]
pub(super) struct Source {
    file: File,
    format: RecordFormat,
    pub(super) start_ms: i64,
    pub(super) tracks: Vec<SourceTrack>,
    pub(super) pieces: Vec<Piece>,
    /// What stands before the first frame of FLV.
    front: Bytes,
}

/// The samples of one track in a piece.
#[derive(Debug, Clone)]
pub(super) struct Part {
    /// Its place in [`Source::tracks`].
    pub(super) track: usize,
    pub(super) samples: Vec<Sample>,
}

impl Source {
    /// Opens a recording, up to what is whole of it now.
    pub(super) fn open(entry: &Entry) -> io::Result<Self> {
        let file = File::open(&entry.path)?;
        // A file that is being written is whole up to there; of others the length may have changed.
        let limit = match &entry.growing {
            Some(growing) => growing.bytes(),
            None => file.metadata()?.len(),
        };
        let (format, start_ms) = (entry.ident.format, entry.ident.start_ms);
        let mut source =
            Self { file, format, start_ms, tracks: Vec::new(), pieces: Vec::new(), front: Bytes::new() };
        match format {
            RecordFormat::Flv => source.open_flv(limit)?,
            RecordFormat::Ts => source.open_ts(limit)?,
            RecordFormat::Fmp4 | RecordFormat::Mp4 => source.open_mp4(entry.ident.body, limit)?,
        }
        // FLV and MPEG-TS don't say how long their last frame lasts.
        let start = source.pieces.first().map_or(0, |piece| piece.start_ms);
        if let Some(last) = source.pieces.last_mut() {
            last.end_ms = last.end_ms.max(start.saturating_add(entry.duration_ms()));
        }
        Ok(source)
    }

    fn lead(&self) -> usize {
        self.tracks.iter().position(|track| track.track.kind() == Kind::Video).unwrap_or(0)
    }

    fn open_mp4(&mut self, body: u64, limit: u64) -> io::Result<()> {
        let tracks = recover::tracks_of(&self.file, limit)?;
        self.tracks = tracks
            .into_iter()
            .map(|(id, timescale, track)| SourceTrack { id, timescale, track, sample: None })
            .collect();
        let lead = self.lead();
        let (tracks, mut pieces) = (&self.tracks, Vec::new());
        let mut first = None;
        fragments::walk(&self.file, body, limit, &mut |fragment| {
            pieces.extend(piece_of(tracks, lead, &fragment));
            first.get_or_insert(fragment);
            pieces.len() < MAX_PIECES
        })?;
        self.pieces = pieces;
        // What AC-3 says of itself stands in its frames.
        if let Some(first) = first.filter(|_| self.tracks.iter().any(|t| needs_sample(t.track.codec))) {
            for part in self.mp4_parts(&first, true)? {
                if let Some(track) = self.tracks.get_mut(part.track) {
                    track.sample = part.samples.first().map(|sample| sample.data.clone());
                }
            }
        }
        Ok(())
    }

    fn open_flv(&mut self, limit: u64) -> io::Result<()> {
        let mut marks: Vec<flv_file::Place> = Vec::new();
        let mut front_end = flv::FILE_HEADER as u64;
        let (mut in_front, mut ended, mut has_video) = (true, false, false);
        let mut last_ms = 0;
        let mut last_at = None;
        let header = read(&self.file, 0, flv::FILE_HEADER as u64)?;
        let promised = header.get(4).is_some_and(|flags| flags & 1 != 0);
        let end = flv_file::scan(&self.file, flv::FILE_HEADER as u64, limit, &mut |place| {
            if ended || place.kind == flv::TagKind::Script {
                if in_front {
                    front_end = place.at + place.len;
                }
                return;
            }
            if place.config {
                if in_front {
                    front_end = place.at + place.len;
                } else {
                    // What follows has other tracks.
                    ended = true;
                    last_at = Some(place.at);
                }
                return;
            }
            in_front = false;
            has_video |= place.kind == flv::TagKind::Video;
            let begins = match marks.last() {
                None => true,
                Some(last) if promised => {
                    let far = place.ms.saturating_sub(last.ms) >= LONG_PIECE;
                    place.key || (far && place.kind == flv::TagKind::Video)
                }
                Some(last) => place.ms.saturating_sub(last.ms) >= AUDIO_PIECE,
            };
            if begins && marks.len() < MAX_PIECES {
                marks.push(flv_file::Place { key: place.key || !promised, ..place });
            }
            last_ms = last_ms.max(place.ms);
        })?;
        self.front = read(&self.file, 0, front_end.min(MAX_PIECE))?;
        let end = last_at.unwrap_or(end);
        let ends = marks.iter().skip(1).map(|mark| (mark.at, mark.ms)).chain([(end, last_ms)]);
        self.pieces = marks
            .iter()
            .zip(ends)
            .map(|(mark, (to, end_ms))| {
                let (at, len, key) = (mark.at, to.saturating_sub(mark.at), mark.key);
                Piece { at, len, start_ms: mark.ms, end_ms: end_ms.max(mark.ms), key }
            })
            .collect();
        // Tracks that say in frames what they are need some.
        let mut tracks = Vec::new();
        if let Some(piece) = self.pieces.first().copied() {
            self.flv_frames(piece, &mut |event| note(&mut tracks, &event))?;
        }
        self.tracks = tracks;
        Ok(())
    }

    fn open_ts(&mut self, limit: u64) -> io::Result<()> {
        let mut marks: Vec<ts::Mark> = Vec::new();
        let (mut last, mut video) = (0, false);
        let mut first = None;
        let end = ts::scan(&self.file, limit, &mut |mark| {
            video |= mark.video;
            first.get_or_insert(mark.ticks);
            let far = |last: &ts::Mark| mark.ticks - last.ticks >= AUDIO_PIECE * 90;
            let begins = mark.join && (mark.video || !video) && (mark.video || marks.last().is_none_or(far));
            if begins && marks.len() < MAX_PIECES {
                marks.push(mark);
            }
            last = mark.ticks.max(last);
        })?;
        let ends = marks.iter().skip(1).map(|mark| (mark.at, mark.ticks)).chain([(end, last)]);
        self.pieces = marks
            .iter()
            .zip(ends)
            .map(|(mark, (to, end_ticks))| {
                let (at, len) = (mark.at, to.saturating_sub(mark.at));
                let start_ms = mark.ticks / 90;
                Piece { at, len, start_ms, end_ms: (end_ticks / 90).max(start_ms), key: true }
            })
            .collect();
        let mut tracks = Vec::new();
        for piece in self.pieces.iter().take(PROBE) {
            self.ts_frames(*piece, &mut |event| note(&mut tracks, &event))?;
        }
        self.tracks = tracks;
        Ok(())
    }

    /// The samples of a piece, by track. Without `payload` only their sizes matter: they are zeros where that is cheaper.
    pub(super) fn parts(&self, piece: Piece) -> io::Result<Vec<Part>> {
        if piece.len > MAX_PIECE {
            return Err(io::Error::other("a fragment is too large to be played"));
        }
        match self.format {
            RecordFormat::Fmp4 | RecordFormat::Mp4 => self.mp4_parts(&self.fragment(piece)?, true),
            RecordFormat::Flv => {
                let mut frames = Vec::new();
                self.flv_frames(piece, &mut |event| frames.extend(frame_of(event)))?;
                Ok(self.gather(frames))
            }
            RecordFormat::Ts => {
                let mut frames = Vec::new();
                self.ts_frames(piece, &mut |event| frames.extend(frame_of(event)))?;
                Ok(self.gather(frames))
            }
        }
    }

    /// The samples of a piece with payloads that are as long as the real ones.
    pub(super) fn sizes(&self, piece: Piece) -> io::Result<Vec<(usize, Vec<Size>)>> {
        let of = |s: &Sample| Size {
            dts: s.dts,
            duration: s.duration,
            cts: s.cts,
            key: s.key,
            size: s.data.len() as u32,
        };
        match self.format {
            RecordFormat::Fmp4 | RecordFormat::Mp4 => {
                let fragment = self.fragment(piece)?;
                let place = |id| self.tracks.iter().position(|track| track.id == id);
                Ok(fragment
                    .runs
                    .iter()
                    .filter_map(|run| {
                        let of = |s: &fragments::Place| Size {
                            dts: s.dts,
                            duration: s.duration,
                            cts: s.cts,
                            key: s.key,
                            size: s.size,
                        };
                        Some((place(run.track_id)?, run.samples.iter().map(of).collect()))
                    })
                    .collect())
            }
            _ => Ok(self
                .parts(piece)?
                .iter()
                .map(|part| (part.track, part.samples.iter().map(of).collect()))
                .collect()),
        }
    }

    fn fragment(&self, piece: Piece) -> io::Result<Fragment> {
        let mut found = None;
        fragments::walk(&self.file, piece.at, piece.at.saturating_add(piece.len), &mut |fragment| {
            found = Some(fragment);
            false
        })?;
        found.ok_or_else(|| io::Error::other("a fragment is not there any more"))
    }

    fn mp4_parts(&self, fragment: &Fragment, whole: bool) -> io::Result<Vec<Part>> {
        let data =
            if whole { read(&self.file, fragment.at, fragment.len.min(MAX_PIECE))? } else { Bytes::new() };
        let mut parts = Vec::new();
        for run in &fragment.runs {
            let Some(track) = self.tracks.iter().position(|track| track.id == run.track_id) else { continue };
            let samples = run.samples.iter().map(|s| {
                let from = usize::try_from(s.at.saturating_sub(fragment.at)).ok()?;
                let to = from.checked_add(usize::try_from(s.size).ok()?)?;
                let data = (to <= data.len()).then(|| data.slice(from..to))?;
                Some(Sample { dts: s.dts, duration: s.duration, cts: s.cts, key: s.key, data })
            });
            let samples: Option<Vec<Sample>> = samples.collect();
            let samples = samples.ok_or_else(|| io::Error::other("a sample lies outside its fragment"))?;
            parts.push(Part { track, samples });
        }
        Ok(parts)
    }

    fn flv_frames(&self, piece: Piece, each: &mut dyn FnMut(Ours)) -> io::Result<()> {
        let (mut demuxer, mut reader) = (Demuxer::new(flv::MAX_TAG), TagReader::new());
        let data = read(&self.file, piece.at, piece.len.min(MAX_PIECE))?;
        let mut first = true;
        for mut input in [&self.front[..], &data[..]] {
            while let Some(tag) = demuxer.next_tag(&mut input).map_err(io::Error::other)? {
                // Times in the front are those of the file's start; those after it are of the piece.
                let _ = reader.push(tag.kind, tag.ts_ms, tag.body);
                while let Some(event) = reader.next_event() {
                    match event {
                        Event::Track(track) => each(Ours::Track(track)),
                        Event::Frame(frame) => each(Ours::Frame(frame)),
                        Event::Meta(_) => {}
                    }
                }
            }
            if std::mem::take(&mut first) && data.is_empty() {
                break;
            }
        }
        Ok(())
    }

    fn ts_frames(&self, piece: Piece, each: &mut dyn FnMut(Ours)) -> io::Result<()> {
        let mut demuxer = mpegts::Demuxer::new(None);
        let data = read(&self.file, piece.at, piece.len.min(MAX_PIECE))?;
        // Its clock has 33 bits, and is half a second ahead: the piece knows better.
        let mut shift: Option<i64> = None;
        let mut give = |event| match event {
            mpegts::Event::Track(track) => each(Ours::Track(track)),
            mpegts::Event::Frame(mut frame) => {
                let wire = frame.dts;
                let shift = *shift.get_or_insert_with(|| {
                    let near = piece.start_ms.saturating_mul(90);
                    let off = near.saturating_sub(wire);
                    // Whole wraps, and the muxer's delay.
                    (off + ts::DELAY + (1 << 32)).div_euclid(1 << 33) * (1 << 33) - ts::DELAY
                });
                frame.dts = wire.saturating_add(shift);
                each(Ours::Frame(frame));
            }
            mpegts::Event::Begins(_) => {}
        };
        demuxer.push(&data, &mut give);
        demuxer.finish(&mut give);
        Ok(())
    }

    /// Frames as samples of their tracks.
    fn gather(&self, frames: Vec<Frame>) -> Vec<Part> {
        let mut parts: Vec<Part> =
            (0..self.tracks.len()).map(|track| Part { track, samples: Vec::new() }).collect();
        for frame in frames {
            let place = self.tracks.iter().position(|track| track.id == u32::from(frame.track.0));
            let Some((source, part)) = place.and_then(|i| Some((self.tracks.get(i)?, parts.get_mut(i)?)))
            else {
                continue;
            };
            let (from, to) = (source.track.timescale, source.timescale);
            let (dts, pts) = (rescale(frame.dts, from, to), rescale(frame.pts(), from, to));
            let audio = source.track.kind() == Kind::Audio;
            let cts = if audio { 0 } else { i32::try_from(pts.saturating_sub(dts)).unwrap_or(0) };
            let duration = to / 50;
            if let Some(last) = part.samples.last_mut() {
                last.duration = u32::try_from(dts.saturating_sub(last.dts)).unwrap_or(0);
            }
            let before = part.samples.len().checked_sub(2).and_then(|i| part.samples.get(i));
            let duration = part.samples.last().or(before).map_or(duration, |last| last.duration);
            part.samples.push(Sample { dts, duration, cts, key: audio || frame.is_key(), data: frame.data });
        }
        parts.retain(|part| !part.samples.is_empty());
        parts
    }

    /// What a player needs before the first fragment.
    pub(super) fn init(&self) -> io::Result<Bytes> {
        let heads: Vec<_> = self.tracks.iter().zip(1..).map(|(track, id)| track.head(id)).collect();
        mp4::init_segment(&heads).map_err(io::Error::other)
    }

    /// Pieces as fragments, each a few buffers.
    pub(super) fn fragments(&self, from: usize, to: usize) -> io::Result<Vec<Bytes>> {
        let mut out = Vec::new();
        for (n, piece) in self.pieces.iter().enumerate().take(to).skip(from) {
            let parts = self.parts(*piece)?;
            let runs: Vec<_> = parts
                .iter()
                .map(|part| Run::new(u32::try_from(part.track + 1).unwrap_or(1), &part.samples))
                .collect();
            let sequence = u32::try_from(n + 1).unwrap_or(1);
            out.extend(mp4::fragment(sequence, &runs).map_err(io::Error::other)?);
        }
        Ok(out)
    }

    /// Whether the tracks of another file continue those of this one.
    pub(super) fn continues(&self, other: &Self) -> bool {
        let shape = |source: &Self| -> Vec<_> {
            let of = |t: &SourceTrack| (t.track.codec, t.track.config.clone(), t.timescale);
            source.tracks.iter().map(of).collect()
        };
        shape(self) == shape(other)
    }
}

impl SourceTrack {
    /// Its place in a file that is made of it.
    pub(super) fn head(&self, id: u32) -> mp4::Mp4Track<'_> {
        let sample = self.sample.as_deref();
        mp4::Mp4Track { timescale: self.timescale, sample, ..mp4::Mp4Track::new(id, &self.track) }
    }
}

/// A sample without its payload.
#[derive(Debug, Clone, Copy)]
pub(super) struct Size {
    pub(super) dts: i64,
    pub(super) duration: u32,
    pub(super) cts: i32,
    pub(super) key: bool,
    pub(super) size: u32,
}

/// What FLV and MPEG-TS both hold.
enum Ours {
    Track(Track),
    Frame(Frame),
}

fn frame_of(event: Ours) -> Option<Frame> {
    match event {
        Ours::Frame(frame) => Some(frame),
        Ours::Track(_) => None,
    }
}

/// Takes down which tracks there are, as far as MP4 has a place for them.
fn note(tracks: &mut Vec<SourceTrack>, event: &Ours) {
    match event {
        Ours::Track(track) if mp4::carries(track.codec) => {
            let id = u32::from(track.id.0);
            let (timescale, track) = (mp4::timescale(track), track.clone());
            let new = SourceTrack { id, timescale, track, sample: None };
            match tracks.iter_mut().find(|old| old.id == id) {
                Some(old) => *old = SourceTrack { sample: old.sample.take(), ..new },
                None => tracks.push(new),
            }
        }
        Ours::Frame(frame) => {
            let track = tracks.iter_mut().find(|track| track.id == u32::from(frame.track.0));
            if let Some(track) = track.filter(|t| t.sample.is_none() && needs_sample(t.track.codec)) {
                track.sample = Some(frame.data.clone());
            }
        }
        Ours::Track(_) => {}
    }
}

const fn needs_sample(codec: Codec) -> bool {
    matches!(codec, Codec::Ac3 | Codec::Eac3)
}

fn piece_of(tracks: &[SourceTrack], lead: usize, fragment: &Fragment) -> Option<Piece> {
    let of = |i: usize| {
        let track = tracks.get(i)?;
        let run = fragment.runs.iter().find(|run| run.track_id == track.id && !run.samples.is_empty())?;
        Some((track, run))
    };
    // A fragment without a picture goes on from the one before.
    let (leads, (track, run)) = match of(lead) {
        Some(found) => (true, found),
        None => (false, (0..tracks.len()).find_map(of)?),
    };
    let (first, last) = (run.samples.first()?, run.samples.last()?);
    let ms = |ticks| rescale(ticks, track.timescale, 1000);
    let end = last.dts.saturating_add(i64::from(last.duration));
    let (at, len, key) = (fragment.at, fragment.len, leads && first.key);
    Some(Piece { at, len, start_ms: ms(first.dts), end_ms: ms(end), key })
}

fn read(file: &File, at: u64, len: u64) -> io::Result<Bytes> {
    let mut bytes = vec![0; usize::try_from(len).map_err(io::Error::other)?];
    file.read_exact_at(&mut bytes, at)?;
    Ok(bytes.into())
}

/// A source that may be shared by requests.
pub(super) type Shared = Arc<Source>;
