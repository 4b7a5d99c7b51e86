//! One rendition while it is made: the segment that grows, and those that are kept.

use std::collections::VecDeque;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use super::Form;
use super::fmp4::{Fmp4Maker, Piece};
use super::index::{Change, Promised, Resource, Sort};
use super::measure::{Pace, bandwidth};
use super::names::{self, Template, Vars};
use super::settings::{CLOCK, Settings};
use super::state::{Bandwidth, Data, Growing, Init, Key, KeyMethod, Part, Rendition, Segment, duration};
use super::ts::TsMaker;
use crate::hub::StreamName;
use crate::media::{Frame, Kind, Track, rescale};

/// Segments that have left the playlist are kept so long, counted in segments: for who is about to ask for them.
pub(super) const LINGER: usize = 3;

/// The media type of a segment or part.
pub(super) fn segment_type(form: Form) -> &'static str {
    match form {
        Form::Ts => "video/MP2T",
        Form::Fmp4 => "video/iso.segment",
    }
}

/// A rendition.
#[derive(Debug)]
pub(super) struct Lane {
    pub id: Arc<str>,
    pub kind: Kind,
    pub tracks: Arc<[Track]>,
    codecs: Arc<str>,
    maker: Maker,
    /// What goes before its segments, once there was a frame.
    init: Option<Arc<Init>>,
    /// The key that it tells of.
    init_key: Option<Arc<str>>,
    pub open: Option<Open>,
    pub segments: VecDeque<Arc<Segment>>,
    /// Those that left the playlist.
    lingering: VecDeque<Arc<Segment>>,
    /// Bytes of all those.
    pub kept: usize,
    pub discontinuity_sequence: u64,
    /// Where the last segment ended, in ticks.
    end: i64,
    /// How long frames of the last segment were.
    frame_time: Duration,
    /// Times of frames of the first track, to measure their rate.
    pace: Pace,
    /// The segments as they were last told, while nothing of them has changed.
    list: Option<(Arc<[Arc<Segment>]>, Bandwidth)>,
    told: bool,
}

#[derive(Debug)]
enum Maker {
    Ts(Box<TsMaker>),
    Fmp4(Box<Fmp4Maker>),
}

/// The key that an initialization tells of: that of samples. Whole segments are encrypted without their knowing.
fn told_key(key: Option<&Arc<Key>>) -> Option<&Arc<Key>> {
    key.filter(|key| key.method == KeyMethod::Cbcs)
}

/// How a segment begins.
#[derive(Debug, Clone)]
pub(super) struct Begin {
    pub number: u64,
    pub discontinuity: bool,
    /// Ticks of 90 kHz on the stream's line.
    pub time: i64,
    pub wall_ms: i64,
    /// As names have it.
    pub timestamp: i64,
    /// Without the segment's duration in it.
    pub name: Option<Arc<str>>,
    pub key: Option<Arc<Key>>,
    /// Whether it is given out in parts.
    pub parts: bool,
}

/// The segment that grows.
#[derive(Debug)]
pub(super) struct Open {
    pub begin: Begin,
    init: Option<Arc<Init>>,
    start: i64,
    independent: bool,
    frames: u64,
    parts: Vec<Arc<Part>>,
    next_part: Option<Arc<str>>,
    /// A frame did not fit into a part: no more are told.
    misfit: bool,
}

impl Open {
    fn in_parts(&self) -> bool {
        self.begin.parts && !self.misfit && self.begin.name.is_some()
    }
}

impl Lane {
    pub(super) fn new(id: Arc<str>, tracks: &[Track], form: Form, settings: &Settings) -> Self {
        let maker = match (form, tracks.first()) {
            (Form::Fmp4, Some(track)) => {
                Maker::Fmp4(Box::new(Fmp4Maker::new(track, settings.rebuild_audio_times)))
            }
            _ => Maker::Ts(Box::new(TsMaker::new(tracks, settings.rebuild_audio_times))),
        };
        let mut lane = Self {
            id,
            kind: Kind::Data,
            codecs: "".into(),
            tracks: Arc::new([]),
            maker,
            init: None,
            init_key: None,
            open: None,
            segments: VecDeque::new(),
            lingering: VecDeque::new(),
            kept: 0,
            discontinuity_sequence: 0,
            end: i64::MIN,
            frame_time: Duration::ZERO,
            pace: Pace::default(),
            list: None,
            told: false,
        };
        lane.describe(tracks);
        lane
    }

    pub(super) fn has(&self, frame: &Frame) -> bool {
        self.tracks.iter().any(|track| track.id == frame.track)
    }

    fn timescale(&self) -> u32 {
        match &self.maker {
            Maker::Ts(_) => CLOCK,
            Maker::Fmp4(maker) => maker.timescale(),
        }
    }

    /// A segment begins.
    pub(super) fn begin(&mut self, begin: Begin, changes: &mut Vec<Change>) {
        if let Some(name) = &begin.name {
            changes.push(self.promise(name.clone(), begin.number, None));
        }
        let start = rescale(begin.time, CLOCK, self.timescale()).max(self.end);
        self.discontinuity_sequence += u64::from(begin.discontinuity);
        if let Maker::Fmp4(maker) = &mut self.maker {
            maker.skip(self.end);
            if begin.discontinuity {
                maker.restart();
            }
        }
        if told_key(begin.key.as_ref()).map(|key| &key.uri) != self.init_key.as_ref() {
            self.init = None;
        }
        let mut open = Open {
            init: self.init.clone(),
            start,
            independent: false,
            frames: 0,
            parts: Vec::new(),
            next_part: None,
            misfit: false,
            begin,
        };
        self.promise_part(&mut open, changes);
        self.open = Some(open);
    }

    fn promise(&self, name: Arc<str>, number: u64, part: Option<u32>) -> Change {
        Change::Promise(name, Promised { rendition: self.id.clone(), number, part })
    }

    fn promise_part(&self, open: &mut Open, changes: &mut Vec<Change>) {
        let Some(segment) = open.begin.name.as_ref().filter(|_| open.in_parts()) else { return };
        let number = u32::try_from(open.parts.len()).unwrap_or(u32::MAX);
        let name: Arc<str> = names::part(segment, number).into();
        changes.push(self.promise(name.clone(), open.begin.number, Some(number)));
        open.next_part = Some(name);
    }

    /// Adds a frame. `part`: how long parts are at most, where there are any. Gives what that should rather be.
    pub(super) fn frame(
        &mut self,
        frame: &Frame,
        kind: Kind,
        part: Option<Duration>,
        settings: &Settings,
        stream: &StreamName,
        changes: &mut Vec<Change>,
    ) -> Option<Duration> {
        let mut open = self.open.take()?;
        let timescale = self.timescale();
        if self.tracks.first().is_some_and(|track| track.id == frame.track) {
            self.pace.frame(frame.dts);
        }
        if open.init.is_none() && matches!(self.maker, Maker::Fmp4(_)) {
            self.make_init(&open, frame, settings, stream, changes);
            open.init = self.init.clone();
            if open.init.is_none() {
                self.open = Some(open);
                return None;
            }
        }
        let first = open.frames == 0;
        open.frames += 1;
        let (mut wanted, mut misfit) = (None, false);
        let mut piece = None;
        match &mut self.maker {
            Maker::Ts(maker) => {
                if first {
                    open.independent = if self.kind == Kind::Video {
                        kind == Kind::Video && frame.is_key()
                    } else {
                        kind == Kind::Audio
                    };
                    maker.begin(frame, kind);
                }
                maker.frame(frame);
            }
            Maker::Fmp4(maker) => {
                if first {
                    open.independent = frame.is_key() || kind == Kind::Audio;
                }
                let part = part.filter(|_| open.in_parts());
                let pushed = maker.frame(frame, part.map(|part| ticks_of(part, timescale)));
                // Sound that pauses says nothing of how long its frames are.
                wanted = pushed.wanted.map(|ticks| duration(ticks, timescale));
                misfit = wanted.is_some();
                wanted = wanted.filter(|_| self.kind == Kind::Video || !pushed.gap);
                piece = pushed.part;
            }
        }
        if let Some(piece) = piece {
            self.add_part(&mut open, piece, changes);
            self.promise_part(&mut open, changes);
        }
        if misfit {
            open.misfit = true;
            changes.extend(open.next_part.take().map(Change::Drop));
        }
        self.open = Some(open);
        wanted
    }

    fn add_part(&self, open: &mut Open, piece: Piece, changes: &mut Vec<Change>) {
        let Some(segment) = open.begin.name.as_ref().filter(|_| open.in_parts()) else { return };
        let number = u32::try_from(open.parts.len()).unwrap_or(u32::MAX);
        let name: Arc<str> = names::part(segment, number).into();
        let data = Data::of(piece.chunks);
        let resource = Resource { data: data.clone(), content_type: segment_type(self.form()) };
        changes.push(Change::Put(name.clone(), resource, Sort::Part));
        open.next_part = None;
        open.parts.push(Arc::new(Part {
            number,
            start: piece.start,
            ticks: piece.ticks,
            duration: duration(piece.ticks, self.timescale()),
            independent: piece.independent,
            name,
            data,
        }));
    }

    /// Makes what goes before the segments.
    fn make_init(
        &mut self,
        open: &Open,
        frame: &Frame,
        settings: &Settings,
        stream: &StreamName,
        changes: &mut Vec<Change>,
    ) {
        let Maker::Fmp4(maker) = &mut self.maker else { return };
        let key = told_key(open.begin.key.as_ref());
        match maker.init(frame, key.map(AsRef::as_ref)) {
            Ok(data) => {
                let vars = Vars {
                    stream,
                    track: Some(&self.id),
                    seq: open.begin.number,
                    wall_ms: open.begin.wall_ms,
                    timestamp: open.begin.timestamp,
                    duration_ms: None,
                };
                let name: Arc<str> = settings.init_file.name(&vars).unwrap_or_default().into();
                let data = Data::of(vec![data]);
                let content_type = if self.kind == Kind::Video { "video/mp4" } else { "audio/mp4" };
                let resource = Resource { data: data.clone(), content_type };
                changes.push(Change::Put(name.clone(), resource, Sort::Init));
                self.init_key = key.map(|key| key.uri.clone());
                self.init = Some(Arc::new(Init { name, data }));
            }
            Err(error) => {
                if !std::mem::replace(&mut self.told, true) {
                    log::warn!("segments of {stream}: rendition {} has to wait: {error}", self.id);
                }
            }
        }
    }

    /// Bytes of the segment that grows.
    pub(super) fn growing(&self) -> usize {
        match &self.maker {
            Maker::Ts(maker) => maker.len(),
            Maker::Fmp4(maker) => maker.len(),
        }
    }

    /// The segment that grows ends. `end` is where the next one will begin, in ticks of 90 kHz; `main`: of this rendition
    /// that is exact. `name` makes its name of its duration in milliseconds, where that was not known before.
    pub(super) fn finish(
        &mut self,
        end: i64,
        main: bool,
        part: Option<Duration>,
        name: impl FnOnce(u64) -> Arc<str>,
        changes: &mut Vec<Change>,
    ) -> Option<(Arc<Segment>, Option<Duration>)> {
        let mut open = self.open.take()?;
        let timescale = self.timescale();
        let until = rescale(end, CLOCK, timescale);
        let mut wanted = None;
        let mut gap = open.frames == 0;
        let (mut chunks, ticks) = match &mut self.maker {
            Maker::Ts(maker) => (maker.finish(), ticks_between(open.start, until)),
            Maker::Fmp4(maker) => {
                let exact = main.then(|| maker.ticks(end));
                let part = part.filter(|_| open.in_parts());
                match maker.finish(exact, part.map(|part| ticks_of(part, timescale))) {
                    Some(done) => {
                        open.start = done.start;
                        self.frame_time = maker.frame_time(open.frames, done.ticks);
                        wanted = done.wanted.map(|ticks| duration(ticks, timescale));
                        for piece in done.parts {
                            self.add_part(&mut open, piece, changes);
                        }
                        (done.chunks, done.ticks)
                    }
                    None => {
                        gap = true;
                        (Vec::new(), ticks_between(open.start, until))
                    }
                }
            }
        };
        // Nothing could be said of what there was.
        gap |= chunks.iter().all(Bytes::is_empty);
        if gap {
            chunks.clear();
        }
        if let Some(name) = open.next_part.take() {
            changes.push(Change::Drop(name));
        }
        if wanted.is_some() || open.misfit {
            changes.extend(open.parts.drain(..).map(|part| Change::Drop(part.name.clone())));
        }
        self.end = open.start.saturating_add(i64::try_from(ticks).unwrap_or(i64::MAX));
        let duration = duration(ticks, timescale);
        let begin = open.begin;
        let name =
            begin.name.unwrap_or_else(|| name(u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)));
        if let Some(key) = begin.key.as_ref().filter(|key| key.method == KeyMethod::Aes128 && !gap) {
            chunks = vec![key.encrypt(&chunks)];
        }
        let data = Data::of(chunks);
        self.kept += usize::try_from(data.len()).unwrap_or(usize::MAX);
        let segment = Arc::new(Segment {
            number: begin.number,
            discontinuity: begin.discontinuity,
            discontinuity_sequence: self.discontinuity_sequence,
            independent: open.independent,
            gap,
            start: open.start,
            ticks,
            timescale,
            duration,
            wall_ms: begin.wall_ms,
            name: name.clone(),
            parts: open.parts.into(),
            init: open.init,
            key: begin.key,
            data: data.clone(),
        });
        changes.push(if gap {
            Change::Drop(name)
        } else {
            Change::Put(
                name,
                Resource { data, content_type: segment_type(self.form()) },
                Sort::Segment(self.id.clone(), begin.number),
            )
        });
        self.segments.push_back(segment.clone());
        self.list = None;
        Some((segment, wanted))
    }

    fn form(&self) -> Form {
        match self.maker {
            Maker::Ts(_) => Form::Ts,
            Maker::Fmp4(_) => Form::Fmp4,
        }
    }

    /// Whether it is of this form.
    pub(super) fn is(&self, form: Form) -> bool {
        self.form() == form
    }

    /// What its segments are called.
    pub(super) fn template<'a>(&self, settings: &'a Settings) -> &'a Template {
        match self.form() {
            Form::Ts => &settings.ts_file,
            Form::Fmp4 => &settings.fmp4_file,
        }
    }

    /// How long a frame is, as of the last segment.
    pub(super) fn frame_time(&self) -> Duration {
        self.frame_time
    }

    /// It goes on with other tracks.
    pub(super) fn set_tracks(&mut self, tracks: &[Track], settings: &Settings) {
        self.describe(tracks);
        self.init = None;
        match (&mut self.maker, tracks.first()) {
            (Maker::Ts(maker), _) => maker.set_tracks(tracks),
            (Maker::Fmp4(maker), Some(track)) => {
                let old = maker.timescale();
                **maker = Fmp4Maker::new(track, settings.rebuild_audio_times);
                if self.end > i64::MIN {
                    self.end = rescale(self.end, old, maker.timescale()).saturating_add(1);
                }
            }
            (Maker::Fmp4(_), None) => {}
        }
    }

    fn describe(&mut self, tracks: &[Track]) {
        let codecs = tracks.iter().map(|track| track.facts.rfc6381.as_str()).filter(|text| !text.is_empty());
        self.codecs = codecs.collect::<Vec<&str>>().join(",").into();
        self.kind = tracks.first().map_or(Kind::Data, Track::kind);
        self.tracks = tracks.into();
        self.pace = Pace::default();
        self.told = false;
    }

    /// Tells no parts any more of segments further in the past than `keep`.
    pub(super) fn drop_parts(&mut self, keep: Duration, changes: &mut Vec<Change>) {
        let mut past = Duration::ZERO;
        for segment in self.segments.iter_mut().rev() {
            let recent = past < keep;
            past += segment.duration;
            if recent || segment.parts.is_empty() {
                continue;
            }
            changes.extend(segment.parts.iter().map(|part| Change::Drop(part.name.clone())));
            Arc::make_mut(segment).parts = Arc::new([]);
            self.list = None;
        }
    }

    /// Takes the oldest segment out of the playlist. It lingers.
    pub(super) fn retire(&mut self, changes: &mut Vec<Change>) {
        let Some(segment) = self.segments.pop_front() else { return };
        self.list = None;
        for part in segment.parts.iter() {
            changes.push(Change::Drop(part.name.clone()));
        }
        self.lingering.push_back(segment);
        while self.lingering.len() > LINGER {
            self.forget(changes);
        }
    }

    /// Forgets the oldest segment that lingers; whether there was one.
    pub(super) fn forget(&mut self, changes: &mut Vec<Change>) -> bool {
        let Some(segment) = self.lingering.pop_front() else { return false };
        self.kept = self.kept.saturating_sub(in_memory(&segment.data));
        changes.push(Change::Drop(segment.name.clone()));
        // What it needed goes when no later one needs it.
        let next = self.lingering.front().or(self.segments.front());
        let growing = self.open.as_ref();
        let init = next.map_or(growing.and_then(|open| open.init.as_ref()), |next| next.init.as_ref());
        if let Some(old) = &segment.init
            && init.or(self.init.as_ref()).is_none_or(|init| init.name != old.name)
        {
            changes.push(Change::Drop(old.name.clone()));
        }
        true
    }

    /// The number of the oldest segment there is.
    pub(super) fn oldest(&self) -> Option<u64> {
        let oldest = self.lingering.front().or(self.segments.front()).map(|segment| segment.number);
        oldest.or(self.open.as_ref().map(|open| open.begin.number))
    }

    /// A segment is in this file now; whether it is still there.
    pub(super) fn written(
        &mut self,
        number: u64,
        file: &Path,
        changes: &mut Vec<Change>,
    ) -> Option<Arc<Segment>> {
        let mut all = self.lingering.iter_mut().chain(&mut self.segments);
        let segment = all.find(|segment| segment.number == number)?;
        let data = Data::File { path: file.into(), len: segment.data.len() };
        self.kept = self.kept.saturating_sub(in_memory(&segment.data));
        Arc::make_mut(segment).data = data.clone();
        self.list = None;
        let segment = segment.clone();
        let resource = Resource { data, content_type: segment_type(self.form()) };
        changes.push(Change::Put(segment.name.clone(), resource, Sort::Segment(self.id.clone(), number)));
        Some(segment)
    }

    /// Forgets all; it is no more.
    pub(super) fn dispose(&mut self, changes: &mut Vec<Change>) {
        self.open = None;
        while !self.segments.is_empty() {
            self.retire(changes);
        }
        while self.forget(changes) {}
        changes.extend(self.init.take().map(|init| Change::Drop(init.name.clone())));
    }

    /// What rooms see of it.
    pub(super) fn rendition(&mut self) -> Rendition {
        let list = || (self.segments.iter().cloned().collect(), bandwidth(&self.segments));
        let (segments, bandwidth) = self.list.get_or_insert_with(list).clone();
        let growing = self.open.as_ref().map(|open| Growing {
            number: open.begin.number,
            discontinuity: open.begin.discontinuity,
            start: open.start,
            wall_ms: open.begin.wall_ms,
            name: open.begin.name.clone(),
            init: open.init.clone(),
            key: open.begin.key.clone(),
            parts: open.parts.as_slice().into(),
            next_part: open.next_part.clone(),
        });
        Rendition {
            id: self.id.clone(),
            kind: self.kind,
            tracks: self.tracks.clone(),
            codecs: self.codecs.clone(),
            language: self.tracks.first().map_or(*b"und", |track| track.language),
            bandwidth,
            frame_rate: self.frame_rate(),
            timescale: self.timescale(),
            segments,
            growing,
            discontinuity_sequence: self.discontinuity_sequence,
        }
    }

    fn frame_rate(&self) -> Option<u32> {
        let track = self.tracks.first().filter(|track| track.kind() == Kind::Video)?;
        let told = track.facts.fps.filter(|(n, d)| *n > 0 && *d > 0);
        let told = told.and_then(|(n, d)| u32::try_from(u64::from(n) * 1000 / u64::from(d)).ok());
        told.filter(|rate| (1..=1_000_000).contains(rate)).or_else(|| self.pace.rate(track.timescale))
    }
}

fn in_memory(data: &Data) -> usize {
    if let Data::Memory { len, .. } = data { usize::try_from(*len).unwrap_or(usize::MAX) } else { 0 }
}

fn ticks_between(start: i64, end: i64) -> u64 {
    u64::try_from(end.saturating_sub(start)).unwrap_or(0).max(1)
}

/// A time in ticks, rounded down.
fn ticks_of(time: Duration, timescale: u32) -> u64 {
    u64::try_from(time.as_nanos() * u128::from(timescale) / 1_000_000_000).unwrap_or(u64::MAX)
}
