//! What all containers have in common for whoever writes them.

use std::io;

use super::flv::FlvFile;
use super::ident::Ident;
use super::mp4::Mp4File;
use super::output::Output;
use super::ts::TsFile;
use crate::config::RecordFormat;
use crate::format::{flv, mp4, mpegts};
use crate::media::{Codec, Direction, Frame, Kind, Meta, Track};

/// A file of some container, written frame by frame.
pub(super) trait Writer: Send {
    /// Appends a frame, in the file's times. Tells whether the file is whole now: what was put into it up to here plays.
    fn frame(&mut self, frame: &Frame, out: &mut Output) -> io::Result<bool>;

    /// Takes over other tracks, if the container can. `false`: another file is needed.
    fn retrack(&mut self, tracks: &[Track], out: &mut Output) -> io::Result<bool>;

    /// Completes the file, which plays `duration_ms`. With a `limit` the file has just been cut off there, and must not
    /// grow.
    fn finish(&mut self, duration_ms: i64, limit: Option<u64>, out: &mut Output) -> io::Result<()>;
}

/// What a new file is of.
#[derive(Debug)]
pub(super) struct Contents<'a> {
    pub(super) ident: Ident,
    pub(super) tracks: &'a [Track],
    pub(super) meta: &'a Meta,
    /// How long fragments are, in milliseconds.
    pub(super) fragment_ms: i64,
    /// How long the file is going to be, as far as it is known.
    pub(super) expected_ms: Option<i64>,
}

/// Begins a file.
pub(super) fn begin(contents: &Contents<'_>, out: &mut Output) -> io::Result<Box<dyn Writer>> {
    Ok(match contents.ident.format {
        RecordFormat::Flv => Box::new(FlvFile::begin(contents, out)?),
        RecordFormat::Ts => Box::new(TsFile::begin(contents, out)?),
        RecordFormat::Fmp4 | RecordFormat::Mp4 => Box::new(Mp4File::begin(contents, out)?),
    })
}

/// Whether files of a format have another name until they are closed, since they don't play well before.
pub(super) const fn has_tmp(format: RecordFormat) -> bool {
    matches!(format, RecordFormat::Flv | RecordFormat::Mp4)
}

fn carries(format: RecordFormat, codec: Codec) -> bool {
    match format {
        RecordFormat::Flv => flv::TagKind::of(codec).is_some(),
        RecordFormat::Ts => mpegts::carries(codec),
        RecordFormat::Fmp4 | RecordFormat::Mp4 => mp4::carries(codec),
    }
}

/// The tracks that a file of this format gets, and the names of those it can't have.
pub(super) fn select(format: RecordFormat, tracks: &[Track]) -> (Vec<Track>, Vec<&'static str>) {
    let forward = || tracks.iter().filter(|track| track.direction == Direction::Forward);
    let lost =
        forward().filter(|track| !carries(format, track.codec)).map(|track| track.codec.name()).collect();
    let mut taken: Vec<Track> = forward().filter(|track| carries(format, track.codec)).cloned().collect();
    if format == RecordFormat::Flv {
        // One of a kind is all that players know of.
        let mut kinds = Vec::new();
        taken.retain(|track| {
            let is_new = !kinds.contains(&track.kind());
            kinds.push(track.kind());
            is_new
        });
    }
    // Where there is nothing but data there is nothing to play.
    if taken.iter().all(|track| track.kind() == Kind::Data) {
        taken.clear();
    }
    (taken, lost)
}

/// Says when a file without fragments is to be brought up to date.
#[derive(Debug)]
pub(super) struct Beat {
    every_ms: i64,
    last_ms: Option<i64>,
}

impl Beat {
    pub(super) fn new(every_ms: i64) -> Self {
        Self { every_ms, last_ms: None }
    }

    pub(super) fn due(&mut self, at_ms: i64) -> bool {
        let last = *self.last_ms.get_or_insert(at_ms);
        let due = at_ms.saturating_sub(last) >= self.every_ms;
        if due {
            self.last_ms = Some(at_ms);
        }
        due
    }
}
