//! One stream's job: reads its frames, tells what came of them, and has it written.

use std::collections::HashSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use tokio::sync::mpsc;

use super::PlaylistFiles;
use super::builder::Builder;
use super::disk::{Work, Writer, Written};
use super::index::{Change, Index, Sort};
use super::names::Vars;
use super::presentation::Presentation;
use super::service::{Budget, Share};
use super::settings::Settings;
use super::state::{Data, Segment};
use crate::config::OnError;
use crate::hub::{Event, Frames, Hub, Item, SegmentMade};

/// How often a job looks around while nothing comes.
const TICK: Duration = Duration::from_secs(1);
/// The most items between two states.
const BATCH: usize = 256;

/// What a job works with.
pub(super) struct Job {
    pub hub: Hub,
    pub index: Arc<Index>,
    pub budget: Arc<Budget>,
    pub settings: Arc<Settings>,
    pub presentation: Arc<Presentation>,
    /// The number of the first segment.
    pub number: u64,
    pub playlists: Option<Arc<PlaylistFiles>>,
    /// What the run before has left, to go when what this one makes is there.
    pub old: Left,
}

/// What a run leaves behind.
#[derive(Default)]
pub(super) struct Left {
    /// Forgets what was given out.
    pub names: Vec<Change>,
    /// Files, where files are deleted at all.
    pub files: Vec<PathBuf>,
    /// Its memory is in use as long as that.
    pub share: Option<Share>,
}

/// How a job ended.
pub(super) struct End {
    /// Nobody watched; else the stream has ended.
    pub unwatched: bool,
    /// The number of the next segment.
    pub number: u64,
    /// What is still there.
    pub left: Left,
}

/// What a job has at hand while it runs.
struct Running {
    builder: Builder,
    disk: Option<Disk>,
    /// Nothing is made of this publisher any more.
    given_up: bool,
    epoch: u64,
}

/// Where files go.
struct Disk {
    writer: Writer,
    /// Files that are there, or about to be.
    files: HashSet<PathBuf>,
    /// The last one could not be written: told once.
    failing: bool,
}

impl Job {
    /// Runs until the stream ends or nobody watches; then all is told.
    pub(super) async fn run(mut self, mut frames: Frames) -> End {
        let before = self.presentation.state();
        let name = self.presentation.name().clone();
        let builder = Builder::new(self.settings.clone(), name, self.number, before.run + 1, before.version);
        let writes = self.settings.path.is_some() || self.settings.key_path.is_some();
        let (disk, mut written) = match writes.then(Writer::start) {
            Some((writer, written)) => {
                (Some(Disk { writer, files: HashSet::new(), failing: false }), Some(written))
            }
            None => (None, None),
        };
        let mut running = Running { builder, disk, given_up: false, epoch: 0 };
        let share = self.budget.enter();
        let begun = Instant::now();
        let mut tick = tokio::time::interval(TICK);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let unwatched = loop {
            tokio::select! {
                item = frames.next() => {
                    let Some(item) = item else { break false };
                    running.take(item);
                    for _ in 0..BATCH {
                        let Some(item) = frames.ready() else { break };
                        running.take(item);
                    }
                    self.tell(&mut running);
                }
                Some(written) = next(&mut written) => {
                    self.written(&mut running, written);
                    self.tell(&mut running);
                }
                _ = tick.tick() => {
                    running.builder.limit(share.bytes());
                    let now = Instant::now();
                    if now.saturating_duration_since(begun) > self.settings.window {
                        self.forget_old();
                        self.delete_old(&running);
                    }
                    let idle = self.presentation.viewed().idle(now);
                    if self.settings.on_demand && idle > self.settings.window * 2 {
                        break true;
                    }
                }
            }
        };
        running.builder.end();
        self.tell(&mut running);
        let number = running.builder.number();
        // Runs that are short must not heap up what they leave.
        self.forget_old();
        let (mut files, mut builder) = self.flush(running, written).await;
        files.append(&mut self.old.files);
        builder.dispose();
        let left = Left { names: builder.take_changes(), files, share: Some(share) };
        End { unwatched, number, left }
    }

    fn forget_old(&mut self) {
        let names = std::mem::take(&mut self.old.names);
        if !names.is_empty() {
            self.index.apply(&self.presentation, names);
        }
        self.old.share = None;
    }

    /// Waits until all is written.
    async fn flush(
        &self,
        running: Running,
        written: Option<mpsc::Receiver<Written>>,
    ) -> (Vec<PathBuf>, Builder) {
        let Running { mut builder, disk, epoch, .. } = running;
        let (Some(Disk { writer, files, failing }), Some(mut written)) = (disk, written) else {
            return (Vec::new(), builder);
        };
        // Without it, the queue ends. Playlists of what comes now need it again.
        drop(writer);
        let mut last = Vec::new();
        while let Some(done) = written.recv().await {
            last.push(done);
        }
        let (writer, mut written) = Writer::start();
        let mut running = Running {
            disk: Some(Disk { writer, files, failing }),
            builder: {
                builder.touch();
                builder
            },
            given_up: true,
            epoch,
        };
        for done in last {
            self.written(&mut running, done);
        }
        self.tell(&mut running);
        self.write_playlists(&mut running);
        let Running { builder, disk, .. } = running;
        let Some(Disk { writer, files, .. }) = disk else { return (Vec::new(), builder) };
        drop(writer);
        while written.recv().await.is_some() {}
        (if self.settings.cleanup { files.into_iter().collect() } else { Vec::new() }, builder)
    }

    fn tell(&self, running: &mut Running) {
        let changes = running.builder.take_changes();
        if let Some(disk) = &mut running.disk {
            let failed = self.write(disk, &changes);
            if let Some(error) = failed {
                self.failed(running, &error);
            }
        }
        // Keys that another server gives out are not for everybody here.
        let elsewhere = !self.settings.key_url.is_empty();
        let secret = |change: &Change| elsewhere && matches!(change, Change::Put(_, _, Sort::Key));
        let changes: Vec<Change> = changes.into_iter().filter(|change| !secret(change)).collect();
        if !changes.is_empty() {
            self.index.apply(&self.presentation, changes);
        }
        if let Some(state) = running.builder.state() {
            self.presentation.set(state);
        }
        for segment in running.builder.take_made() {
            if self.settings.path.is_none() {
                self.made(&segment, None);
            }
        }
    }

    /// Has files written and deleted.
    fn write(&self, disk: &mut Disk, changes: &[Change]) -> Option<std::io::Error> {
        let mut failed = None;
        for change in changes {
            let work = match change {
                Change::Put(name, resource, sort) => {
                    let (Some(file), Data::Memory { chunks, .. }) = (self.file(name, sort), &resource.data)
                    else {
                        continue;
                    };
                    disk.files.insert(file.clone());
                    let segment =
                        if let Sort::Segment(id, number) = sort { Some((id.clone(), *number)) } else { None };
                    Work::Write { file, chunks: chunks.clone(), segment }
                }
                Change::Drop(name) => {
                    let roots = [&self.settings.path, &self.settings.key_path];
                    let file = roots.into_iter().flatten().map(|root| root.join(&**name));
                    let Some(file) = file.into_iter().find(|file| disk.files.remove(file)) else { continue };
                    if !self.settings.cleanup {
                        continue;
                    }
                    Work::Delete(file)
                }
                Change::Promise(..) => continue,
            };
            if let Err(error) = disk.writer.push(work) {
                failed = Some(error);
            }
        }
        failed
    }

    /// Where something is to be written.
    fn file(&self, name: &str, sort: &Sort) -> Option<PathBuf> {
        let root = match sort {
            Sort::Segment(..) | Sort::Init => self.settings.path.as_ref(),
            Sort::Key => self.settings.key_path.as_ref().or(self.settings.path.as_ref()),
            Sort::Part => None,
        }?;
        // Names have neither `..` nor a root of their own.
        Some(root.join(name))
    }

    fn written(&self, running: &mut Running, written: Written) {
        let Some((id, number)) = written.segment else {
            if let Err(error) = written.result {
                self.failed(running, &error);
            }
            return;
        };
        match written.result {
            Ok(()) => {
                if let Some(disk) = &mut running.disk
                    && std::mem::take(&mut disk.failing)
                {
                    log::info!("segments of {}: they can be written again", self.presentation.name());
                }
                self.presentation.set_error(None);
                if let Some((segment, main)) = running.builder.written(&id, number, &written.file) {
                    self.write_playlists(running);
                    if main {
                        self.made(&segment, Some(written.file));
                    }
                }
            }
            Err(error) => self.failed(running, &error),
        }
    }

    /// Something can't be written.
    fn failed(&self, running: &mut Running, error: &std::io::Error) {
        let name = self.presentation.name();
        let Some(disk) = &mut running.disk else { return };
        let path = self.settings.path.as_ref().or(self.settings.key_path.as_ref());
        let path = path.map(|path| path.display().to_string()).unwrap_or_default();
        let text = format!("can't be written below {path}: {error}");
        if std::mem::replace(&mut disk.failing, true) {
            return;
        }
        self.presentation.set_error(Some(text.as_str().into()));
        match self.settings.on_error {
            OnError::Continue => log::error!("segments of {name} {text}; those to come are tried again"),
            OnError::Ignore => {
                log::error!("segments of {name} {text}; none are made until it is published again");
                running.given_up = true;
            }
            OnError::Disconnect => {
                log::error!("segments of {name} {text}; its publisher is disconnected");
                self.hub.kick(name);
            }
        }
    }

    /// Writes the playlists of what is on disk.
    fn write_playlists(&self, running: &mut Running) {
        let (Some(playlists), Some(root), Some(disk)) =
            (&self.playlists, &self.settings.path, &mut running.disk)
        else {
            return;
        };
        let state = Arc::new(running.builder.on_disk());
        for (name, text) in playlists(self.presentation.name(), &state) {
            let Some(name) = super::names::relative(&name) else { continue };
            let file = root.join(name);
            disk.files.insert(file.clone());
            let work = Work::Write { file, chunks: [Bytes::from(text)].into(), segment: None };
            // The next one says it all.
            let _ = disk.writer.push(work);
        }
    }

    fn delete_old(&mut self, running: &Running) {
        let Some(disk) = &running.disk else { return };
        while let Some(file) = self.old.files.pop() {
            if !disk.files.contains(&file) && disk.writer.push(Work::Delete(file.clone())).is_err() {
                self.old.files.push(file);
                return;
            }
        }
    }

    /// Tells that a segment of HLS is complete.
    fn made(&self, segment: &Segment, file: Option<PathBuf>) {
        if !self.settings.of_hls {
            return;
        }
        let name = self.presentation.name();
        let vars = Vars {
            stream: name,
            track: None,
            seq: segment.number,
            wall_ms: segment.wall_ms,
            timestamp: segment.wall_ms,
            duration_ms: None,
        };
        let playlist = self.settings.playlist_file.name(&vars).unwrap_or_default();
        let url = segment.name.to_string();
        let mut made = SegmentMade::new(name.clone(), segment.number, segment.duration, url, playlist);
        made.client = self.hub.publisher(name);
        if let (Some(root), true) = (&self.settings.path, file.is_some()) {
            made.playlist = Some(root.join(&made.playlist_url));
        }
        made.file = file;
        self.hub.tell(Event::Segment(Box::new(made)));
    }
}

impl Running {
    fn take(&mut self, item: Item) {
        if let Item::Tracks { epoch, .. } = &item
            && std::mem::replace(&mut self.epoch, *epoch) != *epoch
        {
            self.given_up = false;
        }
        if self.given_up {
            return;
        }
        match item {
            Item::Tracks { tracks, epoch, .. } => self.builder.tracks(&tracks, epoch),
            Item::Frame(frame) => self.builder.frame(frame, wall_ms()),
            Item::Lagged(lost) => self.builder.lagged(lost),
            Item::Left => self.builder.left(),
        }
    }
}

/// What was written next; never, where nothing is.
async fn next(written: &mut Option<mpsc::Receiver<Written>>) -> Option<Written> {
    match written {
        Some(written) => written.recv().await,
        None => std::future::pending().await,
    }
}

/// Milliseconds since 1970, UTC.
fn wall_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}
