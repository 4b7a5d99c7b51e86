//! One rendition while it is made: the segment that grows, and those that are kept.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;

use super::Form;
use super::index::{Change, Promised, Resource};
use super::names::Template;
use super::settings::{CLOCK, Settings};
use super::state::{Bandwidth, Data, Growing, Init, Key, Part, Rendition, Segment, duration};
use super::ts::TsMaker;
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
    pub open: Option<Open>,
    pub segments: VecDeque<Arc<Segment>>,
    /// Those that left the playlist.
    lingering: VecDeque<Arc<Segment>>,
    /// Bytes of all those.
    pub kept: usize,
    pub discontinuity_sequence: u64,
    /// Times of frames of the first track, to measure their rate.
    pace: Pace,
}

#[derive(Debug)]
enum Maker {
    Ts(TsMaker),
}

/// How a segment begins.
#[derive(Debug, Clone)]
pub(super) struct Begin {
    pub number: u64,
    pub discontinuity: bool,
    /// Ticks of 90 kHz on the stream's line.
    pub time: i64,
    pub wall_ms: i64,
    /// Without the segment's duration in it.
    pub name: Option<Arc<str>>,
    pub key: Option<Arc<Key>>,
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
}

impl Lane {
    pub(super) fn new(id: Arc<str>, tracks: &[Track], form: Form) -> Self {
        let maker = match form {
            Form::Ts | Form::Fmp4 => Maker::Ts(TsMaker::new(tracks)),
        };
        let mut lane = Self {
            id,
            kind: Kind::Data,
            codecs: "".into(),
            tracks: Arc::new([]),
            maker,
            open: None,
            segments: VecDeque::new(),
            lingering: VecDeque::new(),
            kept: 0,
            discontinuity_sequence: 0,
            pace: Pace::default(),
        };
        lane.set_tracks(tracks);
        lane
    }

    pub(super) fn has(&self, frame: &Frame) -> bool {
        self.tracks.iter().any(|track| track.id == frame.track)
    }

    fn timescale(&self) -> u32 {
        match &self.maker {
            Maker::Ts(_) => CLOCK,
        }
    }

    /// A segment begins.
    pub(super) fn begin(&mut self, begin: Begin, changes: &mut Vec<Change>) {
        if let Some(name) = &begin.name {
            let promised = Promised { rendition: self.id.clone(), number: begin.number, part: None };
            changes.push(Change::Promise(name.clone(), promised));
        }
        let start = rescale(begin.time, CLOCK, self.timescale());
        self.discontinuity_sequence += u64::from(begin.discontinuity);
        self.open = Some(Open { begin, init: None, start, independent: false, frames: 0, parts: Vec::new() });
    }

    pub(super) fn frame(&mut self, frame: &Frame, kind: Kind) {
        let Some(open) = &mut self.open else { return };
        if self.tracks.first().is_some_and(|track| track.id == frame.track) {
            self.pace.frame(frame.dts);
        }
        let first = open.frames == 0;
        open.frames += 1;
        match &mut self.maker {
            Maker::Ts(maker) => {
                if first {
                    open.independent = kind != Kind::Video && self.kind != Kind::Video
                        || kind == Kind::Video && frame.is_key();
                    maker.begin(frame, kind);
                }
                maker.frame(frame);
            }
        }
    }

    /// Bytes of the segment that grows.
    pub(super) fn growing(&self) -> usize {
        match &self.maker {
            Maker::Ts(maker) => maker.len(),
        }
    }

    /// The segment that grows ends where the next one will begin, in ticks of 90 kHz. `name` makes its name of its
    /// duration in milliseconds, where that was not known before.
    pub(super) fn finish(
        &mut self,
        end: i64,
        name: impl FnOnce(u64) -> Arc<str>,
        changes: &mut Vec<Change>,
    ) -> Option<Arc<Segment>> {
        let open = self.open.take()?;
        let timescale = self.timescale();
        let (chunks, ticks) = match &mut self.maker {
            Maker::Ts(maker) => {
                (maker.finish(), u64::try_from(end.saturating_sub(open.start)).unwrap_or(0).max(1))
            }
        };
        let duration = duration(ticks, timescale);
        let begin = open.begin;
        let name =
            begin.name.unwrap_or_else(|| name(u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)));
        let gap = open.frames == 0;
        let data = Data::of(if gap { Vec::<Bytes>::new() } else { chunks });
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
            Change::Put(name, Resource { data, content_type: segment_type(self.form()) })
        });
        self.segments.push_back(segment.clone());
        Some(segment)
    }

    fn form(&self) -> Form {
        match self.maker {
            Maker::Ts(_) => Form::Ts,
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

    /// It goes on with other tracks.
    pub(super) fn set_tracks(&mut self, tracks: &[Track]) {
        let codecs: Vec<&str> =
            tracks.iter().map(|track| track.facts.rfc6381.as_str()).filter(|text| !text.is_empty()).collect();
        self.codecs = codecs.join(",").into();
        self.kind = tracks.first().map_or(Kind::Data, Track::kind);
        self.tracks = tracks.into();
        self.pace = Pace::default();
        match &mut self.maker {
            Maker::Ts(maker) => maker.set_tracks(tracks),
        }
    }

    /// Takes the oldest segment out of the playlist. It lingers.
    pub(super) fn retire(&mut self, changes: &mut Vec<Change>) {
        let Some(segment) = self.segments.pop_front() else { return };
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
        self.kept = self.kept.saturating_sub(usize::try_from(segment.data.len()).unwrap_or(usize::MAX));
        changes.push(Change::Drop(segment.name.clone()));
        true
    }

    /// What rooms see of it.
    pub(super) fn rendition(&self) -> Rendition {
        let growing = self.open.as_ref().map(|open| Growing {
            number: open.begin.number,
            discontinuity: open.begin.discontinuity,
            start: open.start,
            wall_ms: open.begin.wall_ms,
            name: open.begin.name.clone(),
            init: open.init.clone(),
            key: open.begin.key.clone(),
            parts: open.parts.as_slice().into(),
            next_part: None,
        });
        Rendition {
            id: self.id.clone(),
            kind: self.kind,
            tracks: self.tracks.clone(),
            codecs: self.codecs.clone(),
            language: self.tracks.first().map_or(*b"und", |track| track.language),
            bandwidth: bandwidth(&self.segments),
            frame_rate: self.frame_rate(),
            timescale: self.timescale(),
            segments: self.segments.iter().cloned().collect(),
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

fn bandwidth(segments: &VecDeque<Arc<Segment>>) -> Bandwidth {
    let mut sum = (0u64, 0u64);
    let mut peak = 0;
    for segment in segments {
        let micros = u64::try_from(segment.duration.as_micros()).unwrap_or(u64::MAX).max(1);
        let bits = segment.data.len().saturating_mul(8);
        sum = (sum.0.saturating_add(bits), sum.1.saturating_add(micros));
        // What is cut short says nothing: its key frame alone would be the peak.
        if micros >= 500_000 || segments.len() == 1 {
            peak = peak.max(per_second(bits, micros));
        }
    }
    let average = if sum.1 == 0 { 0 } else { per_second(sum.0, sum.1) };
    Bandwidth { average, peak: peak.max(average) }
}

fn per_second(bits: u64, micros: u64) -> u64 {
    u64::try_from(u128::from(bits) * 1_000_000 / u128::from(micros)).unwrap_or(u64::MAX)
}

/// The time between frames.
#[derive(Debug, Default)]
pub(super) struct Pace {
    first: Option<i64>,
    last: i64,
    count: i64,
}

impl Pace {
    /// So many frames are enough to know it.
    const ENOUGH: i64 = 250;

    fn frame(&mut self, dts: i64) {
        if self.count < Self::ENOUGH {
            self.first.get_or_insert(dts);
            self.last = dts;
            self.count += 1;
        }
    }

    /// Frames per second in thousandths.
    fn rate(&self, timescale: u32) -> Option<u32> {
        let time = self.last.saturating_sub(self.first?);
        let frames = self.count - 1;
        if time <= 0 || frames < 10 {
            return None;
        }
        u32::try_from(i128::from(frames) * 1000 * i128::from(timescale) / i128::from(time)).ok()
    }
}
