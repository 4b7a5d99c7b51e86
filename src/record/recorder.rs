//! One stream being recorded: from its frames to files.
//!
//! A thread of its own reads the stream's frames and writes, so that a slow card holds up nobody: what it can't take waits
//! in the hub's queue for it, and is lost beyond its bound.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::ident::Ident;
use super::output::{self, Output, Terms};
use super::plan::{DayTime, Line, Plan, Step};
use super::registry::{Growing, Registry};
use super::template;
use super::writer::{self, Contents, Writer};
use crate::config::{self, RecordPlan};
use crate::hub::{Client, Event, Hub, Item, RecordState, RecordingMade, StreamName};
use crate::media::{Frame, Kind, Meta, Track};

/// How many files of one name are looked through for one that is free.
const MAX_COPIES: u32 = 1000;

/// Writes the files of a stream. Told of time, it has no clock of its own.
pub(super) struct Recorder {
    name: StreamName,
    hub: Hub,
    registry: Arc<Registry>,
    settings: Arc<config::Record>,
    tracks: Vec<Track>,
    meta: Arc<Meta>,
    client: Option<Client>,
    day: DayTime,
    open: Option<Open>,
    /// Nothing is tried before.
    retry_at: Option<Instant>,
    /// What was told of, so that it is told once.
    told_failure: bool,
    told_lag: bool,
    told_codecs: Vec<&'static str>,
    /// When the last file ended, by the time of day, if the next one follows at once.
    end_ms: Option<i64>,
}

/// A file that is being written.
struct Open {
    output: Output,
    writer: Box<dyn Writer>,
    line: Line,
    start_ms: i64,
    /// What it is called when it is closed.
    path: PathBuf,
    growing: Arc<Growing>,
}

impl Recorder {
    pub(super) fn new(
        name: StreamName,
        hub: Hub,
        registry: Arc<Registry>,
        settings: Arc<config::Record>,
    ) -> Self {
        Self {
            name,
            hub,
            registry,
            settings,
            tracks: Vec::new(),
            meta: Arc::default(),
            client: None,
            day: DayTime::default(),
            open: None,
            retry_at: None,
            told_failure: false,
            told_lag: false,
            told_codecs: Vec::new(),
            end_ms: None,
        }
    }

    /// Other settings: what they mean for files holds from the next one, which begins at once.
    pub(super) fn set(&mut self, settings: Arc<config::Record>, now: Instant) {
        if same_files(&self.settings, &settings) {
            self.settings = settings;
            return;
        }
        self.close(now);
        self.settings = settings;
        self.retry_at = None;
        self.told_codecs.clear();
    }

    /// Frames up to this time of the stream are waiting: it is now.
    pub(super) fn prime(&mut self, newest: &Frame, wall_ms: i64) {
        if let Some(track) = self.tracks.iter().find(|track| track.id == newest.track) {
            self.day.see(track.ticks_to_ms(newest.dts), wall_ms);
        }
    }

    /// Takes what the stream tells. `wall_ms`: milliseconds since 1970.
    pub(super) fn item(&mut self, item: Item, now: Instant, wall_ms: i64) {
        match item {
            Item::Tracks { tracks, meta, .. } => self.set_tracks(&tracks, meta, now),
            Item::Frame(frame) => self.frame(&frame, now, wall_ms),
            Item::Lagged(lost) => {
                self.registry.status(&self.name, |status| status.lost += lost);
                if !std::mem::replace(&mut self.told_lag, true) {
                    log::warn!(
                        "recording of {}: the disk is too slow, {lost} frames are left out; more will be counted",
                        self.name
                    );
                }
            }
            Item::Left => {
                if !self.settings.append {
                    self.close(now);
                }
                self.end_ms = None;
                self.day = DayTime::default();
            }
        }
    }

    fn set_tracks(&mut self, tracks: &[Track], meta: Arc<Meta>, now: Instant) {
        let (taken, lost) = writer::select(self.settings.format, tracks);
        if !lost.is_empty() && lost != self.told_codecs {
            log::warn!(
                "recording of {}: {} has no place in {}, and is left out; record.format can be another",
                self.name,
                lost.join(" and "),
                super::format_name(self.settings.format)
            );
            self.told_codecs = lost;
        }
        self.meta = meta;
        self.client = self.hub.publisher(&self.name).or_else(|| self.client.take());
        if let Some(open) = &mut self.open {
            match open.writer.retrack(&taken, &mut open.output) {
                Ok(true) => {}
                Ok(false) => {
                    log::info!("recording of {}: other tracks or codecs, another file", self.name);
                    self.close(now);
                }
                Err(error) => self.fail(&error, now),
            }
        }
        if taken.is_empty() && !tracks.is_empty() {
            let format = super::format_name(self.settings.format);
            self.state(RecordState::Failed(format!("nothing of the stream has a place in {format}")));
        }
        self.tracks = taken;
    }

    fn frame(&mut self, frame: &Frame, now: Instant, wall_ms: i64) {
        let Some(track) = self.tracks.iter().find(|track| track.id == frame.track).cloned() else { return };
        let at_ms = track.ticks_to_ms(frame.dts);
        self.day.see(at_ms, wall_ms);
        let plan = Plan {
            plan: self.settings.plan,
            duration_ms: i64::try_from(self.settings.duration.as_millis()).unwrap_or(i64::MAX),
            wait_keyframe: self.settings.wait_keyframe,
        };
        let since = self.open.as_ref().map(|open| open.line.base_ms());
        let has_video = self.tracks.iter().any(|track| track.kind() == Kind::Video);
        let is_video = track.kind() == Kind::Video;
        match plan.step(since, at_ms, has_video, is_video, frame.is_key()) {
            Step::Skip => return,
            Step::Write => {}
            Step::Begin => {
                if self.retry_at.is_some_and(|at| now < at) {
                    self.registry.status(&self.name, |status| status.lost += 1);
                    return;
                }
                self.close(now);
                if let Err(error) = self.begin(at_ms, now, wall_ms) {
                    self.fail(&error, now);
                    return;
                }
            }
        }
        let Some(open) = &mut self.open else { return };
        let placed = open.line.place(&track, frame);
        let whole = open.writer.frame(&placed, &mut open.output);
        let written = match whole {
            Ok(true) => open.output.flush(now).map(|()| {
                open.growing.grow(open.output.len(), open.line.duration_ms());
            }),
            Ok(false) => Ok(()),
            Err(error) => Err(error),
        };
        if let Err(error) = written {
            self.fail(&error, now);
        }
    }

    fn begin(&mut self, at_ms: i64, now: Instant, wall_ms: i64) -> io::Result<()> {
        let settings = Arc::clone(&self.settings);
        if let Some(mount) = &settings.mount
            && !is_mount(mount)
        {
            let text = format!("{} is no mount point (record.mount): is the card in?", mount.display());
            return Err(io::Error::other(text));
        }
        let start_ms = self.day.begin(at_ms, wall_ms, self.end_ms);
        let format = settings.format;
        let ident = Ident { format, start_ms, duration_ms: None, body: 0, name: self.name.clone() };
        let terms = Terms {
            write_size: settings.write_size.count(),
            fsync: settings.fsync,
            fsync_interval: settings.fsync_interval,
        };
        let (mut output, path, growing) = self.create(&ident, terms, now)?;
        let ms = |time: Duration| i64::try_from(time.as_millis()).unwrap_or(i64::MAX);
        let contents = Contents {
            ident,
            tracks: &self.tracks,
            meta: &self.meta,
            fragment_ms: ms(settings.fragment),
            expected_ms: (settings.plan == RecordPlan::Segment).then(|| ms(settings.duration)),
        };
        let writer =
            writer::begin(&contents, &mut output).and_then(|writer| output.flush(now).map(|()| writer));
        let writer = match writer {
            Ok(writer) => writer,
            Err(error) => {
                self.registry.closed(output.path());
                let _ = fs::remove_file(output.path());
                return Err(error);
            }
        };
        growing.grow(output.len(), 0);
        let line = Line::new(settings.time_jitter, at_ms);
        if std::mem::take(&mut self.told_failure) {
            log::info!("recording of {} goes on: {}", self.name, path.display());
        } else {
            log::info!("recording of {}: {}", self.name, path.display());
        }
        self.retry_at = None;
        self.state(RecordState::Recording(path.clone()));
        self.open = Some(Open { output, writer, line, start_ms, path, growing });
        Ok(())
    }

    /// Makes a file whose name nobody has.
    fn create(
        &self,
        ident: &Ident,
        terms: Terms,
        now: Instant,
    ) -> io::Result<(Output, PathBuf, Arc<Growing>)> {
        for copy in 0..MAX_COPIES {
            let template = &self.settings.path;
            let path = template::expand(template, ident.format, &self.name, ident.start_ms, copy);
            let path = absolute(&path)?;
            let tmp = super::tmp_of(&path);
            if tmp.exists() || path.exists() {
                continue;
            }
            let first = if writer::has_tmp(ident.format) { tmp } else { path.clone() };
            // Known before it is there, so that nobody takes it for one that was left behind.
            let growing = self.registry.opened(&first);
            match Output::create(&first, terms, now) {
                Ok(output) => return Ok((output, path, growing)),
                Err(error) => {
                    self.registry.closed(&first);
                    if error.kind() != io::ErrorKind::AlreadyExists {
                        return Err(error);
                    }
                }
            }
        }
        Err(io::Error::other("all names that record.path can make are taken"))
    }

    /// Closes the open file.
    pub(super) fn close(&mut self, now: Instant) {
        let Some(mut open) = self.open.take() else { return };
        if let Err(error) = self.complete(&mut open, None) {
            self.open = Some(open);
            self.fail(&error, now);
        } else {
            self.state(RecordState::Waiting);
        }
    }

    /// `limit`: the file has just been cut off there, and must not grow.
    fn complete(&mut self, open: &mut Open, limit: Option<u64>) -> io::Result<()> {
        let duration_ms = match limit {
            Some(_) => open.growing.duration_ms(),
            None => open.line.duration_ms(),
        };
        let (from, to) = (open.output.path().to_owned(), open.path.clone());
        open.writer.finish(duration_ms, limit, &mut open.output)?;
        open.output.sync()?;
        if from != to {
            output::rename(&from, &to)?;
        }
        self.end_ms = Some(open.start_ms.saturating_add(duration_ms)).filter(|_| limit.is_none());
        let bytes = fs::metadata(&to).map_or_else(|_| open.output.len(), |facts| facts.len());
        self.registry.closed(&from);
        let duration = Duration::from_millis(u64::try_from(duration_ms).unwrap_or(0));
        log::info!(
            "recorded {}: {} with {} s, {bytes} bytes",
            self.name,
            to.display(),
            duration.as_secs_f32()
        );
        let mut made = RecordingMade::new(self.name.clone(), to, duration, bytes);
        made.client.clone_from(&self.client);
        self.registry.status(&self.name, |status| status.files += 1);
        self.hub.tell(Event::Recorded(Box::new(made)));
        Ok(())
    }

    /// Something can't be written: saves what is whole of the file, and waits.
    fn fail(&mut self, error: &io::Error, now: Instant) {
        let text = describe(error);
        if !std::mem::replace(&mut self.told_failure, true) {
            log::error!(
                "recording of {} stops: {text}; tried again every {:?}, the live stream goes on",
                self.name,
                self.settings.retry
            );
        }
        if let Some(mut open) = self.open.take() {
            let whole = open.growing.bytes();
            let path = open.output.path().to_owned();
            let saved = if open.growing.duration_ms() > 0 {
                open.output.revert(whole).and_then(|()| self.complete(&mut open, Some(whole)))
            } else {
                // Nothing in it plays.
                let _ = fs::remove_file(&path);
                Ok(())
            };
            if let Err(error) = saved {
                log::debug!(
                    "{} could not be closed, and is mended at the next start: {error}",
                    path.display()
                );
            }
            self.registry.closed(&path);
        }
        self.end_ms = None;
        self.retry_at = now.checked_add(self.settings.retry);
        self.state(RecordState::Failed(text));
        self.registry.tidy.notify_one();
    }

    fn state(&self, state: RecordState) {
        self.registry.status(&self.name, |status| status.state = state);
    }
}

/// Whether files are written the same way.
fn same_files(a: &config::Record, b: &config::Record) -> bool {
    let mut same = b.clone();
    same.enabled = a.enabled;
    same.streams.clone_from(&a.streams);
    same.max_age = a.max_age;
    (same.quota, same.total_quota, same.min_free, same.retry) = (a.quota, a.total_quota, a.min_free, a.retry);
    *a == same
}

/// A path as it is found when one looks through directories: without links in it. Makes the directories.
fn absolute(path: &Path) -> io::Result<PathBuf> {
    let (Some(dir), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(io::Error::other("record.path names no file"));
    };
    let dir = if dir.as_os_str().is_empty() { Path::new(".") } else { dir };
    fs::create_dir_all(dir)?;
    Ok(dir.canonicalize()?.join(name))
}

/// Whether a directory lies on another file system than the one above it.
fn is_mount(dir: &Path) -> bool {
    use std::os::unix::fs::MetadataExt;
    let device = |path: &Path| fs::metadata(path).map(|facts| (facts.dev(), facts.ino()));
    match (device(dir), device(&dir.join(".."))) {
        (Ok(own), Ok(above)) => own.0 != above.0 || own == above,
        _ => false,
    }
}

/// What happened, and what to do.
fn describe(error: &io::Error) -> String {
    use io::ErrorKind::{NotFound, PermissionDenied, QuotaExceeded, ReadOnlyFilesystem, StorageFull};
    let advice = match error.kind() {
        StorageFull | QuotaExceeded => "; delete something, or let record.min_free or a quota do it",
        ReadOnlyFilesystem => "; mount it for writing: a card with errors gets read-only",
        PermissionDenied => "; record.path has to be writable for the user that the server runs as",
        NotFound => "; is it mounted?",
        _ => "",
    };
    format!("{error}{advice}")
}
