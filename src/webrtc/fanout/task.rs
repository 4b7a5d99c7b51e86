//! The task of a stream with viewers.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use super::super::endpoint::{Batch, Peer};
use super::super::sound::Sound;
use super::super::viewer::{Out, Sending, Shared, ViewerTrack};
use super::lane::{Fate, Lane, Timeline, Wall};
use super::passage::{Passed, Passing};
use super::{Command, Fanout, Fanouts, HEAR, KINDS, Viewer, lock};
use crate::hub::{Frames, Item};
use crate::media::{Codec, Direction, Frame, Kind, Track};

/// Frames that wait while the task is busy, in bytes.
const WAITING: usize = 4 << 20;
/// How long the task stays without viewers.
const LINGER: Duration = Duration::from_secs(3);
/// How often it looks whether there is something else to do.
const LOOK: Duration = Duration::from_millis(200);
/// Viewers that are behind get more after so long.
const MORE: Duration = Duration::from_millis(5);
/// A key frame that comes so soon after it was asked for is the answer.
const ANSWER: Duration = Duration::from_millis(400);
/// Time between two requests for a key frame.
const KEY_AGAIN: Duration = Duration::from_millis(500);
/// Frames taken in one go: all that a stream keeps for those who come, as a viewer begins at the newest.
const DRAIN: usize = 8192;
/// A viewer that comes when the newest key frame is older has the publisher asked for another.
const OLD_KEY: Duration = Duration::from_secs(3);
/// Packets that one viewer is sent again in one go.
const AGAIN: usize = 64;

/// Codecs that are sent, the best sound first.
fn is_sent(codec: Codec) -> bool {
    matches!(
        codec,
        Codec::H264
            | Codec::H265
            | Codec::Av1
            | Codec::Vp8
            | Codec::Vp9
            | Codec::Opus
            | Codec::G711A
            | Codec::G711U
    )
}

pub(super) struct Task {
    fanouts: Fanouts,
    fanout: Arc<Fanout>,
    viewers: Vec<Viewer>,
    lanes: [Lane; 2],
    timeline: Timeline,
    wall: Wall,
    frames: Option<Frames>,
    tracks: Arc<[Track]>,
    passing: Option<Arc<Passing>>,
    batch: Batch,
    key_asked: Option<Instant>,
    /// When a viewer last had something to say.
    heard: Option<Instant>,
    /// The publisher makes key frames when it is asked.
    answers: bool,
    alone_since: Option<Instant>,
    dropped: u64,
    /// What players don't take becomes what they do.
    sound: Sound,
}

/// What the task was woken by.
enum Woken {
    Item(Option<Item>),
    Called,
}

impl Task {
    pub(super) fn new(fanouts: Fanouts, fanout: Arc<Fanout>) -> Self {
        let unix = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let wall = Wall { at: Instant::now(), unix_us: i64::try_from(unix.as_micros()).unwrap_or(i64::MAX) };
        let batch = fanouts.inner.endpoint.batch();
        Self {
            fanouts,
            fanout,
            viewers: Vec::new(),
            lanes: KINDS.map(Lane::new),
            timeline: Timeline::default(),
            wall,
            frames: None,
            tracks: Arc::default(),
            passing: None,
            batch,
            key_asked: None,
            heard: None,
            answers: false,
            alone_since: None,
            dropped: 0,
            sound: Sound::default(),
        }
    }

    pub(super) async fn run(mut self) {
        let mut behind = false;
        loop {
            let now = Instant::now();
            if !self.commands(now).await {
                return;
            }
            self.sources();
            if self.frames.is_none() {
                self.dismiss();
            }
            self.pass(now);
            let wait = if behind { MORE } else { LOOK };
            let woken = {
                let fanout = self.fanout.clone();
                let called = fanout.wake.notified();
                match &mut self.frames {
                    _ if self.passing.as_ref().is_some_and(|passing| !passing.is_empty()) => Woken::Called,
                    Some(frames) => tokio::select! {
                        item = frames.next() => Woken::Item(item),
                        () = called => Woken::Called,
                        () = tokio::time::sleep(wait) => Woken::Called,
                    },
                    None => tokio::select! {
                        () = called => Woken::Called,
                        () = tokio::time::sleep(wait) => Woken::Called,
                    },
                }
            };
            let now = Instant::now();
            match woken {
                Woken::Item(Some(item)) => {
                    self.item(item, now);
                    // What else is there goes along.
                    for _ in 0..DRAIN {
                        let Some(item) = self.frames.as_mut().and_then(Frames::ready) else { break };
                        self.item(item, now);
                    }
                }
                Woken::Item(None) => {
                    self.frames = None;
                    self.dismiss();
                }
                Woken::Called => {}
            }
            self.pass(now);
            behind = self.send(now).await;
            tokio::task::yield_now().await;
        }
    }

    /// What it was asked for; `None`: nobody needs it any more.
    fn asked(&mut self, now: Instant) -> Option<Vec<Command>> {
        let mut inbox = lock(&self.fanout.inbox);
        let commands = std::mem::take(&mut inbox.commands);
        if inbox.users > 0 || !commands.is_empty() || !self.viewers.is_empty() {
            self.alone_since = None;
            return Some(commands);
        }
        if now.saturating_duration_since(*self.alone_since.get_or_insert(now)) < LINGER {
            return Some(commands);
        }
        // Before it is closed: then there may be another task at once, which takes what is passed.
        if let Some(passing) = self.passing.take() {
            passing.take(false);
        }
        inbox.closed = true;
        drop(inbox);
        let mut streams = lock(&self.fanouts.inner.streams);
        if streams.get(&self.fanout.name).is_some_and(|other| Arc::ptr_eq(other, &self.fanout)) {
            streams.remove(&self.fanout.name);
        }
        None
    }

    /// Does what it was asked for; `false`: nobody needs it any more.
    async fn commands(&mut self, now: Instant) -> bool {
        let Some(commands) = self.asked(now) else { return false };
        for command in commands {
            match command {
                Command::Join(viewer) => {
                    self.explain(&viewer);
                    self.viewers.push(*viewer);
                    // Whoever comes needs a key frame: at once, if there is none to begin with, or much after it.
                    let old = self.lane(Kind::Video).history.key_age(now).is_none_or(|age| age > OLD_KEY);
                    if old && self.passing.is_some() {
                        self.ask_key(now);
                        // Where one is sure to come, the way through the past is longer.
                        if self.answers {
                            self.lane_mut(Kind::Video).history.forget_key();
                        }
                    }
                }
                Command::Leave(id, why) => {
                    let place = self.viewers.iter().position(|viewer| viewer.id == id);
                    let Some(viewer) = place.map(|place| self.viewers.swap_remove(place)) else { continue };
                    let mut out = Addressed(&mut self.batch, &viewer.peer);
                    let send_time = send_time(self.wall.us(now));
                    viewer.tracks.bye(&mut Sending { out: &mut out, now, send_time });
                    self.batch.flush().await;
                    viewer.peer.close();
                    viewer.attendance.finish(&why, now);
                }
            }
        }
        self.fanout.figures.viewers.store(self.viewers.len(), Ordering::Relaxed);
        true
    }

    fn lane(&self, kind: Kind) -> &Lane {
        let [audio, video] = &self.lanes;
        if kind == Kind::Video { video } else { audio }
    }

    fn lane_mut(&mut self, kind: Kind) -> &mut Lane {
        let [audio, video] = &mut self.lanes;
        if kind == Kind::Video { video } else { audio }
    }

    /// Tells in words what a viewer won't get.
    fn explain(&self, viewer: &Viewer) {
        for track in &viewer.tracks.tracks {
            if let Some(codec) = self.lane(track.kind).codec.filter(|codec| !track.takes(*codec)) {
                let what = if track.kind == Kind::Video { "picture" } else { "sound" };
                self.fanout.tell(&format!("a player that doesn't take {codec} gets no {what}"));
            }
        }
    }

    /// Looks where the stream comes from.
    fn sources(&mut self) {
        let passing = self.fanouts.passing(&self.fanout.name);
        let same = match (&passing, &self.passing) {
            (Some(new), Some(old)) => Arc::ptr_eq(new, old),
            (None, None) => true,
            _ => false,
        };
        if !same {
            if let Some(old) = self.passing.take() {
                old.take(false);
            }
            self.lanes.iter_mut().for_each(Lane::end_passing);
            if let Some(new) = &passing {
                new.take(true);
            }
            self.passing = passing;
            (self.key_asked, self.answers) = (None, false);
            let now = Instant::now();
            self.set_tracks();
            if !self.viewers.is_empty() {
                self.ask_key(now);
            }
        }
        if self.frames.is_none() {
            self.frames = self.fanouts.inner.hub.frames(&self.fanout.name, WAITING).ok().map(Frames::aside);
        }
    }

    /// Viewers of a stream that has ended go, also those that came only now.
    fn dismiss(&self) {
        if !self.fanouts.inner.hub.is_live(&self.fanout.name) {
            self.viewers.iter().for_each(|viewer| viewer.gone.notify_one());
        }
    }

    fn ask_key(&mut self, now: Instant) {
        let Some(passing) = &self.passing else { return };
        if self.key_asked.is_none_or(|at| now.saturating_duration_since(at) >= KEY_AGAIN) {
            self.key_asked = Some(now);
            passing.ask_key();
        }
    }

    /// Takes what a publisher passes.
    fn pass(&mut self, now: Instant) {
        let Some(passing) = self.passing.clone() else { return };
        for passed in passing.drain() {
            match passed {
                Passed::Packet { codec, clock_rate, packet, lost } => {
                    let before = self.lane(Kind::Video).history.key();
                    let anew = self.lane_mut(codec.kind()).pass(codec, clock_rate, packet, lost, now);
                    let is_answer = |at: Instant| now.saturating_duration_since(at) < ANSWER;
                    if self.key_asked.is_some_and(is_answer) && self.lane(Kind::Video).history.key() != before
                    {
                        self.answers = true;
                    }
                    if anew {
                        self.restart(codec.kind());
                    }
                }
                Passed::Switch(codec) => self.lane_mut(codec.kind()).switch(),
                Passed::Clock { codec, ntp, timestamp, at } => {
                    self.lane_mut(codec.kind()).set_clock(ntp, timestamp, at);
                }
            }
        }
    }

    /// Viewers of this kind of track begin anew.
    fn restart(&mut self, kind: Kind) {
        for viewer in &mut self.viewers {
            viewer.tracks.tracks.iter_mut().filter(|track| track.kind == kind).for_each(ViewerTrack::restart);
        }
        self.viewers.iter().for_each(|viewer| self.explain(viewer));
    }

    fn item(&mut self, item: Item, now: Instant) {
        match item {
            Item::Tracks { tracks, .. } => {
                self.tracks = tracks;
                self.set_tracks();
            }
            // A publisher's own packets come instead.
            Item::Frame(_) if self.passing.is_some() => {}
            Item::Frame(frame) => self.frame(&frame, now),
            Item::Lagged(count) => {
                log::warn!(
                    "{} for WebRTC viewers: {count} frames were lost, the machine is too slow",
                    self.fanout.name
                );
            }
            Item::Left => {}
        }
    }

    fn set_tracks(&mut self) {
        if self.passing.is_some() {
            self.sound.end();
            return;
        }
        let tracks = self.tracks.clone();
        let from_others = self.fanout.options.from_others;
        for kind in KINDS {
            let of_kind = || {
                tracks.iter().filter(|track| {
                    from_others && track.kind() == kind && track.direction == Direction::Forward
                })
            };
            let chosen = of_kind().find(|track| is_sent(track.codec));
            let made = if chosen.is_none() && kind == Kind::Audio {
                let bitrate = self.fanouts.inner.hub.rules(&self.fanout.name).webrtc.opus_bitrate;
                of_kind().find_map(|track| self.sound.make(track, Codec::Opus, bitrate))
            } else {
                None
            };
            if kind == Kind::Audio && made.is_none() {
                self.sound.end();
            }
            let chosen = chosen.or(made.as_ref());
            if chosen.is_none()
                && let Some(other) = of_kind().next()
            {
                let (codec, what) = (other.codec, if kind == Kind::Video { "picture" } else { "sound" });
                self.fanout.tell(&format!("there is no {what}, since browsers don't take {codec} by WebRTC"));
            }
            if self.lane_mut(kind).set_track(chosen) {
                self.restart(kind);
            }
        }
    }

    fn frame(&mut self, frame: &Frame, now: Instant) {
        if !self.sound.takes(frame.track) {
            self.packetise(frame, now);
            return;
        }
        let made: Vec<Frame> = self.sound.push(frame).collect();
        for frame in made {
            self.packetise(&frame, now);
        }
    }

    fn packetise(&mut self, frame: &Frame, now: Instant) {
        let keep = self.fanout.options.keep_b_frames;
        let Self { lanes, timeline, wall, fanout, dropped, .. } = self;
        let of_track = |lane: &&mut Lane| lane.track().is_some_and(|track| track.id == frame.track);
        let Some(lane) = lanes.iter_mut().find(of_track) else { return };
        match lane.frame(frame, keep, timeline, *wall, now) {
            Fate::Sent => {}
            Fate::Dropped => {
                *dropped += 1;
                fanout.figures.dropped_b_frames.store(*dropped, Ordering::Relaxed);
                fanout.tell(
                    "the encoder makes B-frames, which browsers can't show in time: they are left out, and the picture moves \
                     less smoothly; set the encoder to 0 B-frames",
                );
            }
            Fate::SentB => fanout.tell(
                "the encoder makes B-frames that other frames need, which browsers show late: the picture may stutter; set \
                 the encoder to 0 B-frames",
            ),
        }
    }

    /// Sends all viewers what is new to them; whether some are behind.
    async fn send(&mut self, now: Instant) -> bool {
        let Self { viewers, lanes, batch, wall, fanout, heard: heard_at, .. } = self;
        let mut shared = Vec::with_capacity(lanes.len());
        for lane in lanes.iter() {
            if let Some(codec) = lane.codec {
                shared.push(Shared {
                    kind: lane.kind,
                    codec,
                    history: &lane.history,
                    clock: lane.clock(now),
                });
            }
        }
        let (mut behind, mut wants_key) = (false, false);
        let mut resent = 0;
        for viewer in viewers.iter_mut() {
            let mut missing: heapless::Vec<(u32, u16), AGAIN> = heapless::Vec::new();
            {
                let mut heard = lock(&viewer.feedback.heard);
                if heard.wants_key || !heard.missing.is_empty() {
                    *heard_at = Some(now);
                }
                wants_key |= std::mem::take(&mut heard.wants_key);
                while !missing.is_full()
                    && let Some(number) = heard.missing.pop_front()
                {
                    let _ = missing.push(number);
                }
                behind |= !heard.missing.is_empty();
            }
            let Viewer { peer, tracks, attendance, .. } = viewer;
            {
                let mut out = Addressed(batch, peer);
                let mut sending = Sending { out: &mut out, now, send_time: send_time(wall.us(now)) };
                // What is new comes first: a viewer that asks for much doesn't get the new later for that.
                let (mut bytes, more) = tracks.send(&shared, &mut sending);
                behind |= more;
                for (ssrc, number) in missing {
                    let again = tracks.again(ssrc, number, &shared, &mut sending);
                    resent += u64::from(again > 0);
                    bytes += again;
                }
                bytes += tracks.report(&shared, &mut sending);
                if bytes > 0 {
                    attendance.add_sent(bytes);
                }
            }
            if batch.is_full() {
                batch.flush().await;
            }
        }
        batch.flush().await;
        // Who speaks right after another doesn't wake us.
        behind |= heard_at.is_some_and(|at| now.saturating_duration_since(at) < HEAR * 2);
        if resent > 0 {
            fanout.figures.resent.fetch_add(resent, Ordering::Relaxed);
        }
        if wants_key {
            self.ask_key(now);
        }
        behind
    }
}

/// 24 bits of a time, in 1/262144 s.
fn send_time(unix_us: i64) -> [u8; 3] {
    let ntp = crate::format::rtp::clock::unix_us_to_ntp(unix_us);
    let [_, time @ ..] = ((ntp >> 14) as u32).to_be_bytes();
    time
}

/// Packets for one peer.
struct Addressed<'a>(&'a mut Batch, &'a Peer);

impl Out for Addressed<'_> {
    fn rtp(&mut self, header: &[u8], payload: &[&[u8]]) {
        self.0.rtp(self.1, header, payload);
    }

    fn rtcp(&mut self, compound: &[u8]) {
        self.0.rtcp(self.1, compound);
    }
}
