//! MP4: fragments as they come, so that a crash costs one at most.
//!
//! ```text
//! fmp4             ftyp free moov (moof mdat)*
//! mp4, written     ftyp free free.................. moov (moof mdat)*
//! mp4, closed      ftyp free MOOV free mdat[        moov (moof mdat)* ]
//! ```
//!
//! The first `free` says whose it is. When an `mp4` is closed, a `moov` with tables of all samples is written into the free space in front, together with the
//! head of an `mdat` that takes in all that follows. That is one box until its first eight bytes are changed, in one write:
//! whatever happens, the file is the one or the other. Nothing is copied, unless the tables need more than the space there
//! was: then the file is written anew, if there is room, and is left as a fragmented one if not.

use std::fs::{self, File};
use std::io::{self, Seek, SeekFrom, Write};
use std::os::unix::fs::FileExt;
use std::path::Path;

use super::fragments;
use super::ident::{BOX_HEAD, Ident};
use super::output::{Output, rename};
use super::writer::{Contents, Writer};
use crate::config::RecordFormat;
use crate::format::mp4::{self, Entry, Mp4Track, Run, Sample, SampleTable};
use crate::media::{Codec, Frame, Kind, Track, ac3, mp3, opus, rescale};

/// The least free space in front: tables of a minute or two.
const LEAST_SPARE: u64 = 64 * 1024;
/// The free space where it is not known how long the file will be: tables of about an hour.
const SPARE: u64 = 1 << 20;
/// The most.
const MOST_SPARE: u64 = 16 << 20;
/// What tables take for a second of one video and one audio track, generously.
const TABLES_A_SECOND: u64 = 1024;
/// Bytes of the head of the `mdat` in front of the fragments.
const MDAT_HEAD: u64 = 16;
/// Audio that is not further than this from where its samples say it is stays there, in milliseconds: the clocks of FLV and
/// RTMP count milliseconds.
const SNAP_MS: i64 = 3;
/// Fragments are cut whatever they hold beyond this.
const MAX_FRAGMENT: usize = 64 << 20;

/// An MP4 file.
#[derive(Debug)]
pub(super) struct Mp4File {
    tracks: Vec<Source>,
    ident: Ident,
    /// Where the line of [`Ident`] begins.
    line_at: u64,
    sequence: u32,
    fragment_ms: i64,
    /// The place in `tracks` of the one that says when a fragment ends: the first of video, or the first.
    lead: usize,
    /// When the fragment began, by the lead's clock.
    since: Option<i64>,
    bytes: usize,
}

/// A track with what waits of it.
#[derive(Debug)]
struct Source {
    id: u32,
    track: Track,
    timescale: u32,
    samples: Vec<Sample>,
    /// The last one: how long it lasts is known when the next one comes.
    held: Option<Sample>,
    last_duration: u32,
}

impl Mp4File {
    pub(super) fn begin(contents: &Contents<'_>, out: &mut Output) -> io::Result<Self> {
        let tracks: Vec<Source> =
            contents.tracks.iter().zip(1..).map(|(track, id)| Source::new(id, track)).collect();
        let heads: Vec<Mp4Track<'_>> = tracks.iter().map(Source::head).collect();
        let init = mp4::init_segment(&heads).map_err(io::Error::other)?;
        let ftyp = init.first_chunk().map_or(0, |len| u32::from_be_bytes(*len) as usize);
        let (ftyp, moov) = init.split_at_checked(ftyp).unwrap_or((&init, &[]));

        let mut ident = contents.ident.clone();
        let front = (ftyp.len() + ident.mp4_box().len()) as u64;
        let spare = match (ident.format, contents.expected_ms) {
            (RecordFormat::Mp4, Some(ms)) => {
                let seconds = u64::try_from(ms / 1000).unwrap_or(0).saturating_add(1);
                seconds.saturating_mul(TABLES_A_SECOND).clamp(LEAST_SPARE, MOST_SPARE)
            }
            (RecordFormat::Mp4, None) => SPARE,
            _ => 0,
        };
        ident.body = front + spare;
        out.put(ftyp)?;
        let line_at = out.len() + BOX_HEAD;
        out.put(&ident.mp4_box())?;
        if spare > 0 {
            out.put(&u32::try_from(spare).unwrap_or(u32::MAX).to_be_bytes())?;
            out.put(b"free")?;
            // Written, not left as a hole: closing the file must not need space.
            let zeros = [0; 8192];
            let mut left = usize::try_from(spare - 8).unwrap_or(0);
            while let Some(part) = zeros.get(..left.min(zeros.len())).filter(|part| !part.is_empty()) {
                out.put(part)?;
                left -= part.len();
            }
        }
        out.put(moov)?;
        let lead = tracks.iter().position(|source| source.track.kind() == Kind::Video).unwrap_or(0);
        let fragment_ms = contents.fragment_ms;
        Ok(Self { tracks, ident, line_at, sequence: 0, fragment_ms, lead, since: None, bytes: 0 })
    }

    fn is_cut(&self, index: usize, ms: i64, key: bool) -> bool {
        if index != self.lead {
            return self.bytes > MAX_FRAGMENT;
        }
        let passed = ms.saturating_sub(self.since.unwrap_or(ms));
        let video = self.tracks.get(self.lead).is_some_and(|lead| lead.track.kind() == Kind::Video);
        match (video, key) {
            // Key frames begin fragments, so that one can start at each; but not each picture of a stream of nothing else.
            (true, true) => passed >= self.fragment_ms / 4,
            (true, false) => passed >= self.fragment_ms + self.fragment_ms / 2,
            _ => passed >= self.fragment_ms,
        }
    }

    /// Writes what is complete as a fragment. Whether there was something.
    fn cut(&mut self, out: &mut Output) -> io::Result<bool> {
        self.bytes = 0;
        let runs: Vec<Run<'_>> =
            self.tracks.iter().map(|source| Run::new(source.id, &source.samples)).collect();
        if runs.iter().all(|run| run.samples.is_empty()) {
            return Ok(false);
        }
        self.sequence += 1;
        for part in mp4::fragment(self.sequence, &runs).map_err(io::Error::other)? {
            out.put(&part)?;
        }
        self.tracks.iter_mut().for_each(|source| source.samples.clear());
        Ok(true)
    }
}

impl Source {
    fn new(id: u32, track: &Track) -> Self {
        let (track, timescale) = (track.clone(), mp4::timescale(track));
        Self { id, track, timescale, samples: Vec::new(), held: None, last_duration: timescale / 50 }
    }

    fn head(&self) -> Mp4Track<'_> {
        Mp4Track::new(self.id, &self.track)
    }

    fn push(&mut self, frame: &Frame) {
        let pts = rescale(frame.pts(), self.track.timescale, self.timescale);
        let mut dts = rescale(frame.dts, self.track.timescale, self.timescale).max(0);
        if let Some(held) = &self.held {
            let expected = packet_samples(&self.track, &held.data, self.timescale)
                .map(|samples| held.dts.saturating_add(i64::from(samples)));
            let snap = i64::from(self.timescale) * SNAP_MS / 1000;
            dts = match expected {
                Some(expected) if dts.abs_diff(expected) <= snap.unsigned_abs() => expected,
                _ => dts.max(held.dts),
            };
        }
        let audio = self.track.kind() == Kind::Audio;
        let cts = if audio { 0 } else { i32::try_from(pts.saturating_sub(dts)).unwrap_or(0) };
        let sample = Sample { dts, duration: 0, cts, key: audio || frame.is_key(), data: frame.data.clone() };
        if let Some(mut held) = self.held.replace(sample) {
            held.duration = u32::try_from(dts.saturating_sub(held.dts)).unwrap_or(u32::MAX);
            self.last_duration = held.duration;
            self.samples.push(held);
        }
    }

    /// Nothing comes after the one that is held.
    fn end(&mut self) {
        if let Some(mut held) = self.held.take() {
            let known = packet_samples(&self.track, &held.data, self.timescale);
            held.duration = known.unwrap_or(self.last_duration);
            self.samples.push(held);
        }
    }
}

/// How long a packet of audio plays, in ticks of `timescale`; `None` where only its times say it.
fn packet_samples(track: &Track, data: &[u8], timescale: u32) -> Option<u32> {
    let rate = track.facts.sample_rate;
    let (samples, of) = match track.codec {
        Codec::Aac => {
            let config = crate::media::aac::AudioSpecificConfig::parse(&track.config).ok()?;
            (config.output_samples(), config.output_rate())
        }
        Codec::Opus => (opus::packet_samples(data).ok()?, 48_000),
        Codec::Mp3 => (mp3::Header::parse(data).ok()?.samples, rate),
        Codec::Ac3 | Codec::Eac3 => (ac3::Header::parse(data).ok()?.samples, rate),
        _ => return None,
    };
    let ticks = u64::from(samples) * u64::from(timescale) / u64::from(of.max(1));
    u32::try_from(ticks).ok().filter(|ticks| *ticks > 0)
}

impl Writer for Mp4File {
    fn frame(&mut self, frame: &Frame, out: &mut Output) -> io::Result<bool> {
        let index = self.tracks.iter().position(|source| source.track.id == frame.track);
        let Some((index, source)) = index.and_then(|i| Some((i, self.tracks.get_mut(i)?))) else {
            return Ok(false);
        };
        let ms = source.track.ticks_to_ms(frame.dts);
        source.push(frame);
        let cut = self.is_cut(index, ms, frame.is_key()) && self.cut(out)?;
        if (cut || self.since.is_none()) && index == self.lead {
            self.since = Some(ms);
        }
        self.bytes += frame.data.len();
        Ok(cut)
    }

    fn retrack(&mut self, tracks: &[Track], _: &mut Output) -> io::Result<bool> {
        let shape = |track: &Track| (track.id, track.codec, track.config.clone(), track.timescale);
        let old: Vec<_> = self.tracks.iter().map(|source| shape(&source.track)).collect();
        Ok(tracks.iter().map(shape).collect::<Vec<_>>() == old)
    }

    fn finish(&mut self, duration_ms: i64, limit: Option<u64>, out: &mut Output) -> io::Result<()> {
        if limit.is_none() {
            self.tracks.iter_mut().for_each(Source::end);
            self.cut(out)?;
        }
        let (at, digits) = Ident::duration_patch(duration_ms);
        out.patch(self.line_at + at, &digits)?;
        if self.ident.format == RecordFormat::Mp4 {
            let heads: Vec<_> = self.tracks.iter().map(Source::head).collect();
            out.sync()?;
            finalise(out.file(), out.path(), self.ident.body, out.len(), &heads)?;
        }
        Ok(())
    }
}

/// Puts tables of all samples in front of the fragments that stand in a file from `body` to `len`. Returns whether they are
/// there.
pub(super) fn finalise(
    file: &File,
    path: &Path,
    body: u64,
    len: u64,
    tracks: &[Mp4Track<'_>],
) -> io::Result<bool> {
    let mut tables: Vec<SampleTable> = vec![SampleTable::default(); tracks.len()];
    let mut failed = None;
    fragments::walk(file, body, len, &mut |fragment| {
        for run in &fragment.runs {
            let place = tracks.iter().position(|track| track.id == run.track_id);
            let Some((track, table)) = place.and_then(|i| Some((tracks.get(i)?, tables.get_mut(i)?))) else {
                continue;
            };
            for s in &run.samples {
                let entry = Entry {
                    offset: s.at,
                    size: s.size,
                    duration: s.duration,
                    dts: s.dts,
                    cts: s.cts,
                    key: s.key,
                };
                if let Err(error) = table.push(&entry, track.timescale) {
                    failed = Some(error);
                    return false;
                }
            }
        }
        true
    })?;
    if let Some(error) = failed {
        log::warn!("{}: stays a fragmented MP4: {error}", path.display());
        return Ok(false);
    }
    let all: Vec<_> = tracks.iter().cloned().zip(&tables).filter(|(_, table)| !table.is_empty()).collect();
    if all.is_empty() {
        return Ok(false);
    }
    let movie = |shift| mp4::movie(&all, shift).map_err(io::Error::other);
    let Some((front, spare)) = spare(file, body) else {
        // It was done before, and a crash came in between.
        return Ok(true);
    };
    let moov = movie(0)?;
    let need = moov.len() as u64 + MDAT_HEAD;
    let rest = spare.checked_sub(need).filter(|rest| *rest == 0 || *rest >= 8);
    let Some(rest) = rest else {
        return anew(file, path, (front, body, len), &movie);
    };
    let mut bytes = moov.to_vec();
    if rest > 0 {
        // What stands in it is left: it is nothing.
        bytes.extend_from_slice(&u32::try_from(rest).unwrap_or(u32::MAX).to_be_bytes());
        bytes.extend_from_slice(b"free");
    }
    file.write_all_at(bytes.get(8..).unwrap_or_default(), front + 8)?;
    file.write_all_at(&mdat_head(len - body), body - MDAT_HEAD)?;
    file.sync_data()?;
    file.write_all_at(bytes.get(..8).unwrap_or_default(), front)?;
    file.sync_data()?;
    Ok(true)
}

/// The head of an `mdat` of so many bytes.
fn mdat_head(content: u64) -> [u8; 16] {
    let mut head = [0, 0, 0, 1, b'm', b'd', b'a', b't', 0, 0, 0, 0, 0, 0, 0, 0];
    if let Some(len) = head.get_mut(8..) {
        len.copy_from_slice(&(content + MDAT_HEAD).to_be_bytes());
    }
    head
}

/// Where the free space in front of the fragments begins, and how long it is.
fn spare(file: &File, body: u64) -> Option<(u64, u64)> {
    let mut at = 0;
    while at < body {
        let (kind, _, len) = fragments::head(file, at, body)?;
        if &kind == b"free" && at + len == body {
            return Some((at, len));
        }
        at = at.checked_add(len)?;
    }
    None
}

/// Writes the file anew, with more space in front.
fn anew(
    file: &File,
    path: &Path,
    (front, body, len): (u64, u64, u64),
    movie: &dyn Fn(u64) -> io::Result<bytes::Bytes>,
) -> io::Result<bool> {
    let room = rustix::fs::fstatvfs(file).map_or(u64::MAX, |fs| fs.f_bavail.saturating_mul(fs.f_frsize));
    // Wide offsets may make it longer.
    let reserve = movie(0)?.len() as u64 * 2 + 64;
    if room < len.saturating_add(reserve).saturating_add(4 << 20) {
        log::warn!(
            "{}: there is no room for tables in front; it stays a fragmented MP4, which plays as well",
            path.display()
        );
        return Ok(false);
    }
    let new_body = front + reserve;
    let moov = movie(new_body - body)?;
    let rest = reserve.saturating_sub(moov.len() as u64 + MDAT_HEAD);
    if rest < 8 {
        return Ok(false);
    }
    let copy = path.with_extension("copy.tmp");
    let made = (|| {
        let mut new = File::create(&copy)?;
        let mut head = vec![0; usize::try_from(front).unwrap_or(0)];
        file.read_exact_at(&mut head, 0)?;
        if let Some((ident, at)) = Ident::find(&head) {
            let line = Ident { body: new_body, ..ident }.line();
            let at = usize::try_from(at).unwrap_or(0);
            if let Some(old) = head.get_mut(at..at + line.len()) {
                old.copy_from_slice(line.as_bytes());
            }
        }
        new.write_all(&head)?;
        new.write_all(&moov)?;
        new.write_all(&u32::try_from(rest).unwrap_or(u32::MAX).to_be_bytes())?;
        new.write_all(b"free")?;
        new.set_len(new_body)?;
        new.seek(SeekFrom::Start(new_body - MDAT_HEAD))?;
        new.write_all(&mdat_head(len - body))?;
        let mut from = file;
        from.seek(SeekFrom::Start(body))?;
        io::copy(&mut io::Read::take(from, len - body), &mut new)?;
        new.sync_all()?;
        rename(&copy, path)
    })();
    if let Err(error) = made {
        let _ = fs::remove_file(&copy);
        log::warn!("{}: stays a fragmented MP4, tables in front can't be made: {error}", path.display());
        return Ok(false);
    }
    Ok(true)
}
