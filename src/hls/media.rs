//! The text of a media playlist (RFC 8216 4.3, RFC 8216bis 4.4), a pure function of a stream's segments.

use std::sync::Arc;
use std::time::Duration;

use super::text::{Base, Link, Text, encode};
use crate::config;
use crate::segments::{Growing, Init, Key, KeyMethod, Part, Rendition, Segment, State};

/// Players stay so many parts behind the end (8216bis 4.4.3.8 wants two at least, and advises three),
const PART_HOLD_BACK: u32 = 3;
/// and no less than that: the way of a part through a busy player and network takes its time, however short the part is.
const LEAST_HOLD_BACK: Duration = Duration::from_secs(1);
/// And so many target durations without parts (4.4.3.8: three at least).
const HOLD_BACK: u32 = 3;
/// A delta update leaves out what is further than so many target durations from the end (4.4.3.8: six at least).
const SKIP_UNTIL: u32 = 6;

/// Which playlist it is to be.
#[derive(Debug, Clone, Copy)]
pub(super) struct Form<'a> {
    /// Where it is, and where links lead.
    pub base: Base<'a>,
    /// Configuration of the stream.
    pub config: &'a config::Hls,
    /// Whether it is to be a delta update (8216bis 6.2.5.1). What can't be one is whole.
    pub skip: bool,
}

/// The segments that a rendition's playlist tells: those within the window, and never less than three targets.
pub(super) fn told<'a>(state: &State, rendition: &'a Rendition, config: &config::Hls) -> &'a [Arc<Segment>] {
    match config.playlist_type {
        config::PlaylistType::Event => &rendition.segments,
        config::PlaylistType::Live => rendition.window(config.window.max(state.target * HOLD_BACK)),
    }
}

/// The playlist of `rendition`.
pub(super) fn playlist(state: &State, rendition: &Rendition, form: &Form<'_>) -> Text {
    let segments = told(state, rendition, form.config);
    let parts = state.part_target.filter(|_| !state.ended || segments.iter().any(|s| !s.parts.is_empty()));
    let growing = rendition.growing.as_ref().filter(|_| parts.is_some() && !state.ended);
    let skipped = if form.skip && parts.is_some() { skippable(state, segments) } else { 0 };

    let mut text = Text::new();
    text.line("#EXTM3U");
    text.write(format_args!("#EXT-X-VERSION:{}\n", version(segments, parts.is_some())));
    text.write(format_args!("#EXT-X-TARGETDURATION:{}\n", state.target.as_secs().max(1)));
    if let Some(part) = parts {
        text.put("#EXT-X-SERVER-CONTROL:CAN-BLOCK-RELOAD=YES,CAN-SKIP-UNTIL=");
        text.seconds(state.target * SKIP_UNTIL);
        text.put(",PART-HOLD-BACK=");
        text.seconds((part * PART_HOLD_BACK).max(LEAST_HOLD_BACK));
        text.put(",HOLD-BACK=");
        text.seconds(state.target * HOLD_BACK);
        text.put("\n#EXT-X-PART-INF:PART-TARGET=");
        text.seconds(part);
        text.line("");
    }
    if form.config.playlist_type == config::PlaylistType::Event {
        text.line("#EXT-X-PLAYLIST-TYPE:EVENT");
    }
    let first = segments.first();
    let number =
        first.map(|s| s.number).or_else(|| rendition.growing.as_ref().map(|g| g.number)).unwrap_or(0);
    text.write(format_args!("#EXT-X-MEDIA-SEQUENCE:{number}\n"));
    // The tag of the first segment, if it has one, counts once it is gone (RFC 8216 6.2.2).
    let before = match first {
        Some(first) => first.discontinuity_sequence.saturating_sub(u64::from(first.discontinuity)),
        None => rendition.discontinuity_sequence,
    };
    if before > 0 {
        text.write(format_args!("#EXT-X-DISCONTINUITY-SEQUENCE:{before}\n"));
    }
    if !segments.is_empty() && segments.iter().all(|segment| segment.independent || segment.gap) {
        text.line("#EXT-X-INDEPENDENT-SEGMENTS");
    }
    if skipped > 0 {
        text.write(format_args!("#EXT-X-SKIP:SKIPPED-SEGMENTS={skipped}\n"));
    }

    let mut body =
        Body { text, base: form.base, init: None, key: None, dated: false, every: parts.is_some() };
    for segment in segments.iter().skip(skipped) {
        body.segment(segment, parts);
    }
    if let Some(growing) = growing {
        body.growing(growing, rendition);
    }
    let mut text = body.text;
    if parts.is_some() && !state.ended {
        reports(&mut text, state, rendition);
    }
    if state.ended && form.config.endlist {
        text.line("#EXT-X-ENDLIST");
    }
    text
}

/// How many segments a delta update may leave out.
fn skippable(state: &State, segments: &[Arc<Segment>]) -> usize {
    let until = state.target * SKIP_UNTIL;
    let mut to_end = Duration::ZERO;
    // Of those within the boundary the oldest may reach over it: it stays.
    let kept = segments.iter().rev().take_while(|segment| {
        let within = to_end < until;
        to_end += segment.duration;
        within
    });
    segments.len() - kept.count()
}

/// The least version that has what is in it (RFC 8216 7, 8216bis 8).
fn version(segments: &[Arc<Segment>], parts: bool) -> u32 {
    let any = |what: fn(&Segment) -> bool| segments.iter().any(|segment| what(segment));
    match () {
        () if parts => 9,
        () if any(|segment| segment.gap) => 8,
        () if any(|segment| segment.init.is_some()) => 6,
        () if any(|segment| segment.key.as_ref().is_some_and(|key| key.method == KeyMethod::Cbcs)) => 5,
        () => 3,
    }
}

/// What the tags so far say.
struct Body<'a> {
    text: Text,
    base: Base<'a>,
    init: Option<Arc<Init>>,
    key: Option<Arc<Key>>,
    dated: bool,
    /// Whether each segment has a date: those of low latency, which players keep to.
    every: bool,
}

impl Body<'_> {
    fn segment(&mut self, segment: &Segment, parts: Option<Duration>) {
        self.head(segment.discontinuity, segment.wall_ms, segment.init.as_ref(), segment.key.as_ref());
        if parts.is_some() {
            for part in segment.parts.iter() {
                self.part(part);
            }
        }
        if segment.gap {
            self.text.line("#EXT-X-GAP");
        }
        self.text.put("#EXTINF:");
        self.text.seconds(segment.duration.max(Duration::from_millis(1)));
        self.text.line(",");
        let link = self.base.link(&segment.name);
        self.text.link(&link, Link::Segment);
        self.text.line("");
    }

    fn growing(&mut self, growing: &Growing, rendition: &Rendition) {
        if growing.parts.is_empty() && growing.next_part.is_none() {
            return;
        }
        if !growing.parts.is_empty() {
            // Until there is something of it, nobody knows whether it will come.
            self.head(growing.discontinuity, growing.wall_ms, growing.init.as_ref(), growing.key.as_ref());
        }
        for part in growing.parts.iter() {
            self.part(part);
        }
        if let Some(next) = growing.next_part.as_ref().filter(|_| !rendition.segments.is_empty()) {
            self.text.put("#EXT-X-PRELOAD-HINT:TYPE=PART,URI=\"");
            let link = self.base.link(next);
            self.text.link(&link, Link::Segment);
            self.text.line("\"");
        }
    }

    /// What holds for a segment and those after it.
    fn head(&mut self, discontinuity: bool, wall_ms: i64, init: Option<&Arc<Init>>, key: Option<&Arc<Key>>) {
        if discontinuity {
            self.text.line("#EXT-X-DISCONTINUITY");
        }
        if self.every || !self.dated || discontinuity {
            self.text.put("#EXT-X-PROGRAM-DATE-TIME:");
            self.text.date(wall_ms);
            self.text.line("");
            self.dated = true;
        }
        let same = |a: Option<&Arc<Init>>, b: &Init| a.is_some_and(|a| a.name == b.name);
        if let Some(init) = init.filter(|init| !same(self.init.as_ref(), init)) {
            if self.key.take().is_some() {
                // A key before EXT-X-MAP would be the key of that, too; it is never encrypted.
                self.text.line("#EXT-X-KEY:METHOD=NONE");
            }
            self.text.put("#EXT-X-MAP:URI=\"");
            let link = self.base.link(&init.name);
            self.text.link(&link, Link::Segment);
            self.text.line("\"");
            self.init = Some(init.clone());
        }
        let same = match (&self.key, key) {
            (None, None) => true,
            (Some(a), Some(b)) => (a.method, &a.uri, a.iv) == (b.method, &b.uri, b.iv),
            _ => false,
        };
        if !same {
            self.key(key.map(std::convert::AsRef::as_ref));
            self.key = key.cloned();
        }
    }

    fn key(&mut self, key: Option<&Key>) {
        let Some(key) = key else {
            self.text.line("#EXT-X-KEY:METHOD=NONE");
            return;
        };
        let (method, format) = match key.method {
            KeyMethod::Cbcs => ("SAMPLE-AES", ",KEYFORMAT=\"identity\",KEYFORMATVERSIONS=\"1\""),
            _ => ("AES-128", ""),
        };
        self.text.write(format_args!("#EXT-X-KEY:METHOD={method},URI=\""));
        if key.ours {
            let link = self.base.link(&key.uri);
            self.text.link(&link, Link::Segment);
        } else {
            // What was configured as a URL is one; quotes and line ends it can't have.
            let clean: String = key.uri.chars().filter(|c| !c.is_control() && *c != '"').collect();
            self.text.put(&clean);
        }
        self.text.put("\",IV=0x");
        for byte in key.iv {
            self.text.write(format_args!("{byte:02x}"));
        }
        self.text.line(format);
    }

    fn part(&mut self, part: &Part) {
        self.text.put("#EXT-X-PART:DURATION=");
        self.text.seconds(part.duration.max(Duration::from_millis(1)));
        self.text.put(",URI=\"");
        let link = self.base.link(&part.name);
        self.text.link(&link, Link::Segment);
        self.text.line(if part.independent { "\",INDEPENDENT=YES" } else { "\"" });
    }
}

/// How far the other renditions are (8216bis 4.4.5.4).
fn reports(text: &mut Text, state: &State, own: &Rendition) {
    for other in state.renditions.iter().filter(|other| other.id != own.id) {
        // What has parts has to tell which: one that has none yet is left out.
        let Some((number, Some(part))) = last(other) else { continue };
        // Playlists of renditions lie side by side.
        text.put("#EXT-X-RENDITION-REPORT:URI=\"");
        text.link(&format!("{}.m3u8", encode(&other.id)), Link::Playlist);
        text.write(format_args!("\",LAST-MSN={number},LAST-PART={part}\n"));
    }
}

/// The newest segment that a rendition's playlist tells, with the newest part of it.
pub(super) fn last(rendition: &Rendition) -> Option<(u64, Option<u64>)> {
    let newest = |parts: &[Arc<Part>]| (parts.len() as u64).checked_sub(1);
    if let Some(growing) = rendition.growing.as_ref().filter(|growing| !growing.parts.is_empty()) {
        return Some((growing.number, newest(&growing.parts)));
    }
    rendition.segments.last().map(|segment| (segment.number, newest(&segment.parts)))
}
