//! A stream's frames to segments: bytes and times in, states and changes of the index out. No I/O, no clock.

use std::collections::VecDeque;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use super::Form;
use super::cutter::{Cutter, Role, Rules, Verdict};
use super::fmp4::Fmp4Maker;
use super::index::{Change, Resource, Sort};
use super::lane::{Begin, Lane};
use super::mixer::Mixer;
use super::names::Vars;
use super::parts::Parts;
use super::settings::{CLOCK, Settings};
use super::state::{Data, Key, KeyMethod, Segment, State};
use super::ts::TsMaker;
use crate::config::Encryption;
use crate::hub::StreamName;
use crate::media::{Flags, Frame, Kind, Track, TrackId, rescale};

/// The most segments of a rendition, whatever `window` says: two days of two seconds.
const MAX_SEGMENTS: usize = 86_400;
/// The least bytes of a stream, however many there are.
pub(super) const LEAST_MEMORY: usize = 1024 * 1024;
/// Frames wait so long for those of other tracks, as a part of a segment and of a low-latency part.
const PATIENCE: (Duration, u32) = (Duration::from_millis(1000), 2);

/// Makes the segments of one stream in one form.
#[derive(Debug)]
pub(super) struct Builder {
    settings: Arc<Settings>,
    name: StreamName,
    form: Form,
    /// The tracks that segments can have, as they were told.
    all: Vec<Track>,
    /// Those that are in segments at present.
    tracks: Vec<Track>,
    /// The main video, while nothing comes of it.
    absent: Option<TrackId>,
    /// Who is told of by one log line, once.
    left_out: Vec<TrackId>,
    main: Option<TrackId>,
    lanes: Vec<Lane>,
    mixer: Mixer,
    cutter: Cutter,
    epoch: Option<u64>,
    /// The number of the next segment.
    number: u64,
    /// The next segment does not go on where the last one ended.
    broken: bool,
    began: bool,
    /// The newest time of a frame in a segment, and how long that frame may be.
    newest: Option<i64>,
    step: i64,
    clock_ms: Option<i64>,
    clock_fixed: bool,
    limit: usize,
    target: Duration,
    parts: Parts,
    /// What the segments at present are encrypted with, and for how many more.
    key: Option<(Arc<Key>, u32)>,
    /// The names of keys that are given out, with the number of the first segment of each.
    keys: VecDeque<(u64, Arc<str>)>,
    /// There is no key: nothing is made, rather than something that all can read.
    keyless: bool,
    /// `[timestamp]` of the next segment, where that counts segments.
    floor: Option<i64>,
    run: u64,
    version: u64,
    ended: bool,
    dirty: bool,
    changes: Vec<Change>,
    made: Vec<Arc<Segment>>,
}

impl Builder {
    /// `number` is that of the first segment, `run` counts how often the stream has begun, `version` is that of its last
    /// state.
    pub(super) fn new(
        settings: Arc<Settings>,
        name: StreamName,
        number: u64,
        run: u64,
        version: u64,
    ) -> Self {
        let parts = Parts::new(settings.part, settings.overflow);
        let rules = Rules { segment: 1, overflow: 1, video: false, wait_keyframe: false };
        Self {
            target: whole_seconds(settings.target),
            limit: settings.memory,
            form: settings.form.unwrap_or(Form::Ts),
            settings,
            name,
            all: Vec::new(),
            tracks: Vec::new(),
            absent: None,
            left_out: Vec::new(),
            main: None,
            lanes: Vec::new(),
            mixer: Mixer::new(&[], 0),
            cutter: Cutter::new(rules),
            epoch: None,
            number,
            broken: false,
            began: false,
            newest: None,
            step: 0,
            clock_ms: None,
            clock_fixed: false,
            parts,
            key: None,
            keys: VecDeque::new(),
            keyless: false,
            floor: None,
            run,
            version,
            ended: false,
            dirty: true,
            changes: Vec::new(),
            made: Vec::new(),
        }
    }

    /// What follows is of these tracks.
    pub(super) fn tracks(&mut self, tracks: &[Track], epoch: u64) {
        let other_epoch = self.epoch.replace(epoch).is_some_and(|old| old != epoch);
        let wanted: Vec<&Track> = tracks.iter().filter(|track| self.settings.wants(track)).collect();
        let form = self.settings.form(tracks);
        let (carried, left): (Vec<&Track>, Vec<&Track>) =
            wanted.into_iter().partition(|track| carries(form, track));
        for track in left {
            if !self.left_out.contains(&track.id) {
                self.left_out.push(track.id);
                log::warn!(
                    "segments of {}: {:?} can't carry track {} ({}), which is left out",
                    self.name,
                    form,
                    track.id.0,
                    track.codec
                );
            }
        }
        let carried: Vec<Track> = carried.into_iter().cloned().collect();
        let same = form == self.form
            && carried.len() == self.all.len()
            && carried.iter().zip(&self.all).all(|(new, old)| alike(new, old));
        if same && !other_epoch {
            return;
        }
        self.stop();
        self.break_off(true);
        if !same || self.absent.take().is_some() {
            self.all.clone_from(&carried);
            self.lay_out(carried, form);
        }
        self.dirty = true;
    }

    /// A frame of one of the tracks, that came when it was `wall_ms` (milliseconds since 1970).
    pub(super) fn frame(&mut self, frame: Frame, wall_ms: i64) {
        let Some(track) = self.all.iter().find(|track| track.id == frame.track) else { return };
        let ms = track.ticks_to_ms(frame.dts);
        if !self.clock_fixed {
            // Frames of the past come at once: the least delay is the true one.
            let clock = wall_ms.saturating_sub(ms);
            self.clock_ms = Some(self.clock_ms.map_or(clock, |old| old.min(clock)));
        }
        if frame.flags.has(Flags::DISCONTINUITY) && self.newest.is_some() {
            // The frames that wait are of the clock that was.
            self.stop();
            self.break_off(false);
        }
        if self.absent == Some(frame.track) {
            if !frame.is_key() {
                return;
            }
            // The camera is on again.
            self.absent = None;
            self.stop();
            self.break_off(true);
            self.lay_out(self.all.clone(), self.form);
        }
        self.mixer.push(frame);
        while let Some((time, frame)) = self.mixer.pop() {
            self.ordered(time, &frame);
        }
    }

    /// In MP4 a rendition without frames has nothing but gaps, and players wait for its end. So where the camera is off,
    /// sound goes on alone. In transport streams they are in one anyway.
    fn camera_off(&mut self, time: i64) {
        let main = self.lanes.first().filter(|lane| lane.kind == Kind::Video && self.form == Form::Fmp4);
        let gap = |lane: &Lane| lane.segments.back().is_some_and(|segment| segment.gap);
        let sound = self.lanes.iter().any(|lane| lane.kind == Kind::Audio && !gap(lane));
        if !main.is_some_and(gap) || !sound {
            return;
        }
        self.absent = self.main;
        let others = self.all.iter().filter(|track| Some(track.id) != self.absent).cloned().collect();
        self.broken = true;
        self.lay_out(others, self.form);
        let rules = self.rules();
        self.cutter.resume(rules, time);
    }

    /// Frames are missing before the next one.
    pub(super) fn lagged(&mut self, frames: u64) {
        log::warn!("segments of {}: too slow, {frames} frames are missing", self.name);
        self.stop();
        self.break_off(false);
    }

    /// The publisher has left: what there is of its last segment is given out.
    pub(super) fn left(&mut self) {
        self.stop();
        self.break_off(true);
    }

    /// Nothing will follow.
    pub(super) fn end(&mut self) {
        self.stop();
        self.ended = true;
        self.dirty = true;
    }

    /// Bytes that there may be at present, whatever the settings say.
    pub(super) fn limit(&mut self, bytes: usize) {
        self.limit = self.settings.memory.min(bytes.max(LEAST_MEMORY));
    }

    /// The number of the next segment.
    pub(super) fn number(&self) -> u64 {
        self.number
    }

    /// What is to be done to the index; before the state is told.
    pub(super) fn take_changes(&mut self) -> Vec<Change> {
        std::mem::take(&mut self.changes)
    }

    /// Segments of the main rendition that were completed.
    pub(super) fn take_made(&mut self) -> Vec<Arc<Segment>> {
        std::mem::take(&mut self.made)
    }

    /// A segment is in this file now; gives it, and whether it is of the main rendition.
    pub(super) fn written(&mut self, id: &str, number: u64, file: &Path) -> Option<(Arc<Segment>, bool)> {
        let at = self.lanes.iter().position(|lane| *lane.id == *id)?;
        let segment = self.lanes.get_mut(at)?.written(number, file, &mut self.changes)?;
        self.dirty = true;
        Some((segment, at == 0))
    }

    /// What of the segments is on disk: that is what playlists there can name.
    pub(super) fn on_disk(&mut self) -> State {
        let mut state = self.snapshot();
        for rendition in &mut state.renditions {
            rendition.growing = None;
            let there = |s: &Arc<Segment>| s.gap || matches!(s.data, Data::File { .. });
            let count = rendition.segments.iter().rposition(there).map_or(0, |last| last + 1);
            // Their numbers are those of their places: what could not be written leaves a gap.
            let listed = rendition.segments.iter().take(count).map(|segment| {
                if there(segment) {
                    segment.clone()
                } else {
                    let (data, parts) = (Data::of(Vec::new()), Arc::new([]));
                    Arc::new(Segment { gap: true, data, parts, ..Segment::clone(segment) })
                }
            });
            rendition.segments = listed.collect();
        }
        state.part_target = None;
        state
    }

    /// The state is to be told again.
    pub(super) fn touch(&mut self) {
        self.dirty = true;
    }

    /// The segments as they are, if that is new.
    pub(super) fn state(&mut self) -> Option<Arc<State>> {
        if !std::mem::take(&mut self.dirty) {
            return None;
        }
        self.version += 1;
        Some(Arc::new(self.snapshot()))
    }

    fn snapshot(&mut self) -> State {
        State {
            version: self.version,
            form: self.form,
            renditions: self.lanes.iter_mut().map(Lane::rendition).collect(),
            target: self.target,
            part_target: self.parts.target(),
            clock_ms: self.clock_ms.unwrap_or(0),
            run: self.run,
            ended: self.ended,
        }
    }

    /// Gives up all that there is.
    pub(super) fn dispose(&mut self) {
        for lane in &mut self.lanes {
            lane.dispose(&mut self.changes);
        }
        self.changes.extend(self.keys.drain(..).map(|(_, name)| Change::Drop(name)));
    }

    /// Bytes of all that is kept and grows.
    pub(super) fn bytes(&self) -> usize {
        self.lanes.iter().map(|lane| lane.kept + lane.growing()).sum()
    }

    fn rules(&self) -> Rules {
        let ticks = |time: Duration| i64::try_from(time.as_millis()).unwrap_or(i64::MAX).saturating_mul(90);
        Rules {
            segment: ticks(self.settings.segment),
            overflow: ticks(self.settings.overflow),
            video: self.tracks.iter().any(|track| track.kind() == Kind::Video),
            wait_keyframe: self.settings.wait_keyframe,
        }
    }

    /// Which track is in which rendition.
    fn lay_out(&mut self, tracks: Vec<Track>, form: Form) {
        self.form = form;
        self.tracks = tracks;
        let main = [Kind::Video, Kind::Audio]
            .iter()
            .find_map(|kind| self.tracks.iter().find(|track| track.kind() == *kind));
        self.main = main.map(|track| track.id);
        let patience = match self.settings.part {
            Some(part) => part * PATIENCE.1,
            None => PATIENCE.0.min(self.settings.segment),
        };
        let patience = i64::try_from(patience.as_millis()).unwrap_or(0) * 90;
        let mut waiting = std::mem::replace(&mut self.mixer, Mixer::new(&self.tracks, patience));
        while let Some((_, frame)) = waiting.flush() {
            self.mixer.push(frame);
        }
        let mut old: VecDeque<Lane> = std::mem::take(&mut self.lanes).into();
        for (id, tracks) in plan(&self.tracks, form, self.settings.mark) {
            let same = old.iter().position(|lane| *lane.id == *id && lane.is(form));
            match same.and_then(|at| old.remove(at)) {
                Some(mut lane) => {
                    lane.set_tracks(&tracks, &self.settings);
                    self.lanes.push(lane);
                }
                None => self.lanes.push(Lane::new(id.into(), &tracks, form, &self.settings)),
            }
        }
        // What was in a rendition that is no more can't be played with the others.
        for mut lane in old {
            lane.dispose(&mut self.changes);
        }
        let rules = self.rules();
        self.cutter.restart(rules, true);
    }

    /// The next segment begins anew; `key`: where decoders can start.
    fn break_off(&mut self, key: bool) {
        self.broken |= self.began;
        let rules = self.rules();
        self.cutter.restart(rules, key);
    }

    /// Ends the segment that grows, with all that waits.
    fn stop(&mut self) {
        while let Some((time, frame)) = self.mixer.flush() {
            self.ordered(time, &frame);
        }
        if let Some(newest) = self.newest.take() {
            self.finish(newest.saturating_add(self.step.max(1)));
        }
    }

    fn ordered(&mut self, time: i64, frame: &Frame) {
        let Some(track) = self.tracks.iter().find(|track| track.id == frame.track) else { return };
        let kind = track.kind();
        let main = self.main == Some(frame.track);
        let role = if main && kind == Kind::Video { Role::Main { key: frame.is_key() } } else { Role::Other };
        let shown = time.saturating_add(rescale(i64::from(frame.cts), track.timescale, CLOCK));
        match self.cutter.frame(time, shown, role) {
            Verdict::Drop => return,
            Verdict::Keep => {}
            Verdict::Begin { .. } => self.begin(time),
        }
        if self.keyless {
            return;
        }
        if main && let Some(newest) = self.newest.filter(|newest| *newest < time) {
            self.step = (time - newest).min(i64::from(CLOCK));
        }
        if main || self.newest.is_none() {
            self.newest = Some(self.newest.map_or(time, |newest| newest.max(time)));
        }
        let part = self.parts.of_growing();
        let mut wanted = None;
        for lane in self.lanes.iter_mut().filter(|lane| lane.has(frame)) {
            let changes = &mut self.changes;
            let before = changes.len();
            wanted = lane.frame(frame, kind, part, &self.settings, &self.name, changes).max(wanted);
            self.dirty |= changes.len() > before;
        }
        self.parts.misfit(wanted);
        if self.bytes() > self.limit {
            self.trim();
        }
        if self.lanes.iter().map(Lane::growing).sum::<usize>() > self.limit / 3 {
            self.cutter.force();
        }
    }

    /// A segment begins at `time`; one that grows ends there.
    fn begin(&mut self, time: i64) {
        self.finish(time);
        self.camera_off(time);
        let number = self.number;
        self.number += 1;
        let discontinuity = std::mem::take(&mut self.broken);
        self.began = true;
        self.newest = Some(time);
        let wall_ms = self.wall(time);
        let timestamp = self.timestamp(wall_ms);
        let key = self.key(number, wall_ms, timestamp);
        self.keyless = key.is_none() && self.settings.encryption != Encryption::None;
        let parts = self.parts.begin();
        for lane in &mut self.lanes {
            let vars = Vars {
                stream: &self.name,
                track: (&*lane.id != "main").then_some(&*lane.id),
                seq: number,
                wall_ms,
                timestamp,
                duration_ms: None,
            };
            let name = lane.template(&self.settings).name(&vars).map(Into::into);
            let key = key.clone();
            lane.begin(
                Begin { number, discontinuity, time, wall_ms, timestamp, name, key, parts },
                &mut self.changes,
            );
        }
        self.dirty = true;
    }

    /// `[timestamp]`: when a segment begins, or where segments are counted, which it is since 1970. Of encoders that began
    /// at different times the counts are the same; one that is off by too much begins anew.
    fn timestamp(&mut self, wall_ms: i64) -> i64 {
        const OFF: i64 = 20;
        if !self.settings.ts_floor {
            return wall_ms;
        }
        let segment = i64::try_from(self.settings.segment.as_millis()).unwrap_or(i64::MAX).max(1);
        let now = wall_ms.div_euclid(segment);
        let count = match self.floor {
            Some(last) if (last + 1 - now).abs() <= OFF => last + 1,
            _ => now,
        };
        self.floor = Some(count);
        count
    }

    /// The key of a segment, another one when it is time.
    fn key(&mut self, number: u64, wall_ms: i64, timestamp: i64) -> Option<Arc<Key>> {
        let method = match (self.settings.encryption, self.form) {
            (Encryption::None, _) => return None,
            // There is nothing else for transport streams.
            (Encryption::Aes128, _) | (Encryption::Cbcs, Form::Ts) => KeyMethod::Aes128,
            (Encryption::Cbcs, Form::Fmp4) => KeyMethod::Cbcs,
        };
        if self.key.as_ref().is_none_or(|(key, left)| *left == 0 || key.method != method) {
            let track = (!self.settings.mark.is_empty()).then_some(self.settings.mark);
            let vars =
                Vars { stream: &self.name, track, seq: number, wall_ms, timestamp, duration_ms: Some(0) };
            let Some((key, name)) = Key::make(&self.settings, method, &vars) else {
                log::error!("segments of {}: the system has no random numbers for a key", self.name);
                return None;
            };
            let data = Data::of(vec![key.file()]);
            let content_type = "application/octet-stream";
            let resource = Resource { data, content_type };
            self.changes.push(Change::Put(name.clone(), resource, Sort::Key));
            self.keys.push_back((number, name));
            self.key = Some((Arc::new(key), self.settings.segments_per_key));
        }
        let (key, left) = self.key.as_mut()?;
        *left = left.saturating_sub(1);
        Some(Arc::new(key.of_segment(number)))
    }

    fn finish(&mut self, end: i64) {
        let part = self.parts.of_growing();
        let mut misfit = None;
        // Of the first segment it is known only now.
        let clock = self.clock_ms.filter(|_| !self.clock_fixed);
        for (at, lane) in self.lanes.iter_mut().enumerate() {
            let Some(open) = &mut lane.open else { continue };
            if let Some(clock) = clock {
                open.begin.wall_ms = clock.saturating_add(rescale(open.begin.time, CLOCK, 1000));
            }
            let (number, wall_ms, timestamp) = (open.begin.number, open.begin.wall_ms, open.begin.timestamp);
            let template = lane.template(&self.settings).clone();
            let track = (&*lane.id != "main").then(|| lane.id.clone());
            let name = |ms: u64| {
                let vars = Vars {
                    stream: &self.name,
                    track: track.as_deref(),
                    seq: number,
                    wall_ms,
                    timestamp,
                    duration_ms: Some(ms),
                };
                template.name(&vars).unwrap_or_default().into()
            };
            let Some((segment, wanted)) = lane.finish(end, at == 0, part, name, &mut self.changes) else {
                continue;
            };
            misfit = misfit.max(wanted);
            self.target = self.target.max(rounded(segment.duration));
            if at == 0 {
                self.made.push(segment);
            }
            self.clock_fixed = true;
        }
        self.newest = None;
        self.drop_keys();
        if self.form == Form::Fmp4 {
            self.parts.misfit(misfit);
            let frames: Vec<Duration> = self.lanes.iter().map(Lane::frame_time).collect();
            let keep = if self.parts.finished(&frames) { Duration::ZERO } else { self.target * 4 };
            for lane in &mut self.lanes {
                lane.drop_parts(keep, &mut self.changes);
            }
        }
        self.trim();
        self.dirty = true;
    }

    /// Lets go of keys that no segment needs.
    fn drop_keys(&mut self) {
        let oldest = self.lanes.iter().filter_map(Lane::oldest).min().unwrap_or(self.number);
        while self.keys.get(1).is_some_and(|(first, _)| *first <= oldest) {
            self.changes.extend(self.keys.pop_front().map(|(_, name)| Change::Drop(name)));
        }
    }

    /// Lets go of what is too old, or too much.
    fn trim(&mut self) {
        loop {
            let Some(main) = self.lanes.first() else { return };
            let spans: Duration = main.segments.iter().skip(1).map(|segment| segment.duration).sum();
            let old = spans >= self.settings.window && !self.settings.event;
            if !old && main.segments.len() <= MAX_SEGMENTS {
                break;
            }
            self.retire();
        }
        while self.bytes() > self.limit {
            let mut any = false;
            for lane in &mut self.lanes {
                any |= lane.forget(&mut self.changes);
            }
            // The newest stays: without any there is nothing to play.
            if !any {
                if self.lanes.iter().all(|lane| lane.segments.len() <= 1) {
                    return;
                }
                self.retire();
            }
        }
    }

    /// Takes the oldest segment out of all renditions.
    fn retire(&mut self) {
        let oldest = self.lanes.iter().filter_map(|lane| lane.segments.front()).map(|s| s.number).min();
        for lane in &mut self.lanes {
            if lane.segments.front().map(|segment| segment.number) == oldest {
                lane.retire(&mut self.changes);
            }
        }
        self.dirty = true;
    }

    fn wall(&self, time: i64) -> i64 {
        self.clock_ms.unwrap_or(0).saturating_add(rescale(time, CLOCK, 1000))
    }
}

/// Whether segments can have this track.
fn carries(form: Form, track: &Track) -> bool {
    match form {
        Form::Ts => TsMaker::carries(track),
        Form::Fmp4 => Fmp4Maker::carries(track),
    }
}

/// Whether segments of one can go on with the other.
fn alike(a: &Track, b: &Track) -> bool {
    let known = |track: &Track| {
        let facts = &track.facts;
        (facts.width, facts.height, facts.sample_rate, facts.channels)
    };
    (a.id, a.codec, &a.config, a.timescale, known(a)) == (b.id, b.codec, &b.config, b.timescale, known(b))
}

/// The renditions' ids, and their tracks; the main one first.
fn plan(tracks: &[Track], form: Form, mark: &str) -> Vec<(String, Vec<Track>)> {
    let of = |kind: Kind| tracks.iter().filter(move |track| track.kind() == kind);
    let id = |track: &Track| {
        let letter = if track.kind() == Kind::Video { 'v' } else { 'a' };
        format!("{letter}{}{mark}", track.id.0)
    };
    let alone = |track: &Track| (id(track), vec![track.clone()]);
    match form {
        Form::Fmp4 => of(Kind::Video).chain(of(Kind::Audio)).map(alone).collect(),
        Form::Ts => {
            let main = of(Kind::Video).take(1).chain(of(Kind::Audio).take(1)).chain(of(Kind::Data));
            let main: Vec<Track> = main.cloned().collect();
            let mut all = Vec::new();
            if !main.is_empty() {
                all.push(("main".to_owned(), main));
            }
            all.extend(of(Kind::Video).skip(1).chain(of(Kind::Audio).skip(1)).map(alone));
            all
        }
    }
}

/// At least so many seconds, as playlists announce it.
fn whole_seconds(time: Duration) -> Duration {
    Duration::from_secs(time.as_secs() + u64::from(time.subsec_nanos() > 0)).max(Duration::from_secs(1))
}

/// To the nearest second.
fn rounded(time: Duration) -> Duration {
    Duration::from_secs(time.saturating_add(Duration::from_millis(500)).as_secs())
}
