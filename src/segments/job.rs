//! One stream's job: reads its frames, and tells what came of them.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use super::builder::Builder;
use super::index::Index;
use super::names::Vars;
use super::presentation::Presentation;
use super::service::Budget;
use super::settings::Settings;
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
}

/// How a job ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    /// The stream has ended.
    Stream,
    /// Nobody watched.
    Unwatched,
}

impl Job {
    /// Runs until the stream ends or nobody watches; then all is told, and the number of the next segment is returned.
    pub(super) async fn run(self, mut frames: Frames) -> (End, u64) {
        let before = self.presentation.state();
        let name = self.presentation.name().clone();
        let mut builder =
            Builder::new(self.settings.clone(), name, self.number, before.run + 1, before.version);
        let share = self.budget.enter();
        let mut tick = tokio::time::interval(TICK);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let end = loop {
            tokio::select! {
                item = frames.next() => {
                    let Some(item) = item else { break End::Stream };
                    take(&mut builder, item);
                    for _ in 0..BATCH {
                        let Some(item) = frames.ready() else { break };
                        take(&mut builder, item);
                    }
                    self.tell(&mut builder);
                }
                _ = tick.tick() => {
                    builder.limit(share.bytes());
                    let idle = self.presentation.viewed().idle(Instant::now());
                    if self.settings.on_demand && idle > self.settings.window * 2 {
                        break End::Unwatched;
                    }
                }
            }
        };
        builder.end();
        self.tell(&mut builder);
        (end, builder.number())
    }

    fn tell(&self, builder: &mut Builder) {
        let changes = builder.take_changes();
        if !changes.is_empty() {
            self.index.apply(&self.presentation, changes);
        }
        if let Some(state) = builder.state() {
            self.presentation.set(state);
        }
        let name = self.presentation.name();
        for segment in builder.take_made() {
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
            self.hub.tell(Event::Segment(Box::new(made)));
        }
    }
}

fn take(builder: &mut Builder, item: Item) {
    match item {
        Item::Tracks { tracks, epoch, .. } => builder.tracks(&tracks, epoch),
        Item::Frame(frame) => builder.frame(frame, wall_ms()),
        Item::Lagged(lost) => {
            log::warn!("segments: too slow, {lost} frames are lost");
            builder.lagged();
        }
        Item::Left => builder.left(),
    }
}

/// Milliseconds since 1970, UTC.
fn wall_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}
