//! Files that a crash left behind: what is whole of them is kept.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;

use super::catalog::{Entry, is_tmp};
use super::ident::{HEAD, Ident};
use super::registry::Registry;
use super::{flv, fragments, mp4, output};
use crate::config::RecordFormat;
use crate::format::mp4::{Found, Mp4Track, Reader};
use crate::hub::{Event, Hub, RecordingMade};
use crate::media::rescale;

/// Bytes before its fragments that a file may have without anybody missing it.
const NOTHING: u64 = 64 * 1024;

/// Mends a file, and gives it its last name. Whether it is another one now. `tell`: of what can't be mended, too.
pub(super) fn recover(entry: &Entry, registry: &Registry, hub: &Hub, tell: bool) -> bool {
    let path = &entry.path;
    if registry.growing(path).is_some() {
        return false;
    }
    let mended = mend(entry);
    match mended {
        Ok(Some((to, duration_ms))) => {
            log::info!("recording mended after a crash: {} ({} ms)", to.display(), duration_ms);
            let bytes = fs::metadata(&to).map_or(0, |facts| facts.len());
            let duration = Duration::from_millis(u64::try_from(duration_ms).unwrap_or(0));
            let made = RecordingMade::new(entry.ident.name.clone(), to, duration, bytes);
            hub.tell(Event::Recorded(Box::new(made)));
            true
        }
        Ok(None) => {
            log::info!("recording without a whole fragment removed: {}", path.display());
            true
        }
        Err(error) => {
            let level = if tell { log::Level::Warn } else { log::Level::Debug };
            log::log!(level, "recording {} can't be mended: {error}", path.display());
            false
        }
    }
}

/// The file's last name and duration; `None` if there was nothing to keep.
fn mend(entry: &Entry) -> io::Result<Option<(PathBuf, i64)>> {
    let path = &entry.path;
    let file = OpenOptions::new().read(true).write(true).open(path)?;
    match file.try_lock() {
        Err(fs::TryLockError::WouldBlock) => return Err(io::Error::other("another process writes it")),
        Err(fs::TryLockError::Error(_)) | Ok(()) => {}
    }
    if path.to_string_lossy().ends_with(".copy.tmp") {
        // The original is there.
        fs::remove_file(path)?;
        return Ok(None);
    }
    let mut head = vec![0; HEAD];
    let got = file.read_at(&mut head, 0)?;
    head.truncate(got);
    let (ident, line_at) = Ident::find(&head).ok_or_else(|| io::Error::other("it is another file by now"))?;
    let len = file.metadata()?.len();
    let duration_ms = match ident.format {
        RecordFormat::Flv => flv::recover(&file, ident.clone(), len)?,
        RecordFormat::Ts => super::ts::recover(&file, len)?,
        RecordFormat::Fmp4 | RecordFormat::Mp4 => recover_mp4(&file, path, &ident, len)?,
    };
    let Some(duration_ms) = duration_ms else {
        fs::remove_file(path)?;
        return Ok(None);
    };
    if ident.format != RecordFormat::Flv {
        let (at, digits) = Ident::duration_patch(duration_ms);
        file.write_all_at(&digits, line_at + at)?;
        file.sync_all()?;
    }
    let to = if is_tmp(path) { free_name(&path.with_extension(""))? } else { path.clone() };
    // Its tables are put in front last: that may make it another file.
    if ident.format == RecordFormat::Mp4 {
        let tracks = tracks_of(&file, len)?;
        let heads: Vec<_> = tracks.iter().map(|(id, scale, track)| head_of(*id, *scale, track)).collect();
        let len = file.metadata()?.len();
        mp4::finalise(&file, path, ident.body, len, &heads)?;
    }
    if &to != path {
        output::rename(path, &to)?;
    }
    Ok(Some((to, duration_ms)))
}

/// A name that nobody has.
fn free_name(path: &Path) -> io::Result<PathBuf> {
    if !path.exists() {
        return Ok(path.to_owned());
    }
    let end = path.extension().unwrap_or_default().to_string_lossy().into_owned();
    (1..1000)
        .map(|n| path.with_extension(format!("{n}.{end}")))
        .find(|path| !path.exists())
        .ok_or_else(|| io::Error::other("its name is taken"))
}

/// Cuts off what is no whole fragment. How long the rest plays.
fn recover_mp4(file: &File, path: &Path, ident: &Ident, len: u64) -> io::Result<Option<i64>> {
    let tracks = match tracks_of(file, len) {
        // It was cut off before its first fragment.
        Err(_) if len < ident.body.saturating_add(NOTHING) => return Ok(None),
        tracks => tracks?,
    };
    let (mut end_ms, mut start_ms) = (0, i64::MAX);
    let whole = fragments::walk(file, ident.body, len, &mut |fragment| {
        for run in &fragment.runs {
            let Some((_, scale, _)) = tracks.iter().find(|(id, ..)| *id == run.track_id) else { continue };
            let ms = |ticks| rescale(ticks, *scale, 1000);
            if let (Some(first), Some(last)) = (run.samples.first(), run.samples.last()) {
                start_ms = start_ms.min(ms(first.dts));
                end_ms = end_ms.max(ms(last.dts.saturating_add(i64::from(last.duration))));
            }
        }
        true
    })?;
    if end_ms == 0 {
        return Ok(None);
    }
    if whole < len {
        log::debug!("{}: {} bytes are no whole fragment", path.display(), len - whole);
        file.set_len(whole)?;
    }
    Ok(Some(end_ms.saturating_sub(start_ms)))
}

fn head_of(id: u32, timescale: u32, track: &crate::media::Track) -> Mp4Track<'_> {
    Mp4Track { timescale, ..Mp4Track::new(id, track) }
}

/// The tracks of an MP4 file: number, timescale, and the track.
pub(super) fn tracks_of(file: &File, len: u64) -> io::Result<Vec<(u32, u32, crate::media::Track)>> {
    let mut reader = Reader::new(len);
    while let Some((at, wanted)) = reader.wants() {
        let mut bytes = vec![0; wanted];
        file.read_exact_at(&mut bytes, at)?;
        if let Some(Found::Movie(movie)) = reader.give(&Bytes::from(bytes)).map_err(io::Error::other)? {
            return Ok(movie.tracks.into_iter().map(|t| (t.id, t.track.timescale, t.track)).collect());
        }
    }
    Err(io::Error::other("there is no moov box"))
}
