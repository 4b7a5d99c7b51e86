//! The manifest as a text: a pure function of the segments, what the configuration says, and the time.

use std::sync::Arc;
use std::time::Duration;

use super::ask::encode;
use super::line::{self, CLOCK, Line, Period};
use super::xml::{Xml, date_time, duration, seconds};
use crate::config;
use crate::media::{Kind, rescale};
use crate::segments::{KeyMethod, Rendition, State};

/// How often a manifest is asked for at most, whatever the configuration and the stream say.
const SOONEST_UPDATE: Duration = Duration::from_millis(500);

/// How far behind the publisher players are to stay, with low latency.
const LOW_LATENCY: Duration = Duration::from_millis(2500);

/// What a manifest depends on beside the segments.
#[derive(Debug, Clone, Copy)]
pub(super) struct Terms<'a> {
    pub config: &'a config::Dash,
    /// What stands before names, e.g. `demo/`; fit for a URL.
    pub base: &'a str,
    /// What stands behind them, with its `?`; fit for a URL.
    pub query: &'a str,
    /// Where to ask for the manifest from now on.
    pub location: Option<&'a str>,
    /// Milliseconds since 1970.
    pub now_ms: i64,
    /// Segments are told by the names of their files, seen from this one: where the manifest is below their root.
    pub file: Option<&'a str>,
}

/// The manifest; `None` while there is nothing to tell.
pub(super) fn write(state: &State, line: &mut Line, terms: &Terms<'_>) -> Option<String> {
    let main = state.main()?;
    let low_latency = terms.config.low_latency && state.part_target.is_some() && !state.ended;
    let window = main.window(terms.config.timeshift);
    let window = match usize::try_from(terms.config.window_size) {
        Ok(most @ 1..) => window.get(window.len().saturating_sub(most)..).unwrap_or(window),
        _ => window,
    };
    let open = main.growing.as_ref().filter(|_| low_latency);
    let from = window.first().map(|s| s.number).or(open.map(|open| open.number))?;
    let periods = line.periods(state, from, low_latency);
    let longest = window.iter().map(|s| s.duration).max().unwrap_or(terms.config.segment);
    let manifest = Manifest { state, line, terms, low_latency, longest };
    let mut xml = Xml::new();
    manifest.write(&mut xml, &periods);
    Some(xml.finish())
}

struct Manifest<'a> {
    state: &'a State,
    line: &'a Line,
    terms: &'a Terms<'a>,
    low_latency: bool,
    longest: Duration,
}

fn us(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

/// Ticks from 0 on as microseconds.
fn ticks_us(ticks: i64, timescale: u32) -> u64 {
    u64::try_from(rescale(ticks, timescale, 1_000_000)).unwrap_or(0)
}

impl Manifest<'_> {
    fn write(&self, xml: &mut Xml, periods: &[Period]) {
        let (config, state) = (self.terms.config, self.state);
        let profiles = if self.low_latency {
            "urn:mpeg:dash:profile:isoff-live:2011,http://www.dashif.org/guidelines/low-latency-live-v5"
        } else {
            "urn:mpeg:dash:profile:isoff-live:2011"
        };
        let ends = state.renditions.iter().filter_map(|rendition| rendition.segments.last());
        let end = ends.map(|s| ticks_us(s.start.saturating_add_unsigned(s.ticks), s.timescale)).max();
        let end = end.unwrap_or(0);
        let published = self.line.start_ms.saturating_add(i64::try_from(end / 1000).unwrap_or(i64::MAX));
        let root = xml
            .element("MPD")
            .with("xmlns", "urn:mpeg:dash:schema:mpd:2011")
            .with("profiles", profiles)
            .with("type", if state.ended { "static" } else { "dynamic" })
            .with("availabilityStartTime", date_time(self.line.start_ms))
            .with("publishTime", date_time(published))
            .with("minBufferTime", duration(us(self.longest)))
            .with("maxSegmentDuration", duration(us(self.longest)));
        let root = if state.ended {
            root.with("mediaPresentationDuration", duration(end))
        } else {
            root.with("minimumUpdatePeriod", duration(us(self.update_period())))
                .with("timeShiftBufferDepth", duration(us(config.timeshift.max(self.longest * 2))))
                .with("suggestedPresentationDelay", duration(us(self.delay())))
        };
        root.around(|xml| {
            if self.low_latency {
                self.service_description(xml);
            }
            if let Some(location) = self.terms.location.filter(|_| !state.ended) {
                xml.element("Location").text(location);
            }
            for period in periods {
                self.period(xml, period);
            }
            if !state.ended {
                xml.element("UTCTiming")
                    .with("schemeIdUri", "urn:mpeg:dash:utc:direct:2014")
                    .with("value", date_time(self.terms.now_ms))
                    .empty();
            }
        });
    }

    fn update_period(&self) -> Duration {
        let period = match self.terms.config.update_period {
            // What is told of a segment that grows is out of date sooner.
            Duration::ZERO if self.low_latency => self.longest / 2,
            Duration::ZERO => self.longest,
            period => period,
        };
        period.max(SOONEST_UPDATE)
    }

    fn delay(&self) -> Duration {
        match self.terms.config.delay {
            Duration::ZERO if self.low_latency => LOW_LATENCY,
            Duration::ZERO => self.longest * 3,
            delay => delay,
        }
    }

    fn service_description(&self, xml: &mut Xml) {
        let target = self.delay().as_millis();
        xml.element("ServiceDescription").with("id", 0).around(|xml| {
            xml.element("Latency")
                .with("referenceId", 0)
                .with("target", target)
                .with("min", target / 2)
                .with("max", target * 3)
                .empty();
            xml.element("PlaybackRate").with("min", "0.96").with("max", "1.04").empty();
        });
    }

    fn period(&self, xml: &mut Xml, period: &Period) {
        let start = duration(ticks_us(period.at, CLOCK));
        xml.element("Period").with("id", &period.id).with("start", start).around(|xml| {
            if !self.terms.base.is_empty() {
                xml.element("BaseURL").text(self.terms.base);
            }
            let mut told = [false; 2];
            for (id, rendition) in self.state.renditions.iter().enumerate() {
                let first = usize::from(rendition.kind == Kind::Audio);
                let is_main = told.get_mut(first).is_some_and(|told| !std::mem::replace(told, true));
                self.adaptation_set(xml, period, id, rendition, is_main);
            }
        });
    }

    fn adaptation_set(&self, xml: &mut Xml, period: &Period, id: usize, rendition: &Rendition, main: bool) {
        let Some(rows) = self.rows(period, rendition) else { return };
        let video = rendition.kind == Kind::Video;
        let kind = if video { "video" } else { "audio" };
        let lang = Some(rendition.language).filter(|l| l != b"und" && l.iter().all(u8::is_ascii_lowercase));
        let lang = lang.map(|l| l.iter().map(|&c| char::from(c)).collect::<String>());
        let facts = rendition.tracks.first().map(|track| &track.facts);
        xml.element("AdaptationSet")
            .with("id", id)
            .with("contentType", kind)
            .with("mimeType", format_args!("{kind}/mp4"))
            .with_some("lang", lang)
            .with("segmentAlignment", "true")
            .with_some("startWithSAP", rows.independent.then_some(1))
            .around(|xml| {
                if rows.encrypted {
                    xml.element("ContentProtection")
                        .with("schemeIdUri", "urn:mpeg:dash:mp4protection:2011")
                        .with("value", "cbcs")
                        .empty();
                }
                xml.element("Role")
                    .with("schemeIdUri", "urn:mpeg:dash:role:2011")
                    .with("value", if main { "main" } else { "alternate" })
                    .empty();
                if self.low_latency {
                    self.reference_time(xml, period, rendition);
                }
                let size = rendition.resolution().filter(|_| video);
                xml.element("Representation")
                    .with("id", &rendition.id)
                    .with("bandwidth", bandwidth(rendition))
                    .with("codecs", &rendition.codecs)
                    .with_some("width", size.map(|(width, _)| width))
                    .with_some("height", size.map(|(_, height)| height))
                    .with_some("frameRate", rendition.frame_rate.filter(|_| video).map(frame_rate))
                    .with_some("audioSamplingRate", facts.map(|f| f.sample_rate).filter(|r| !video && *r > 0))
                    .around(|xml| {
                        if let Some(channels) = facts.map(|f| f.channels).filter(|n| !video && *n > 0) {
                            xml.element("AudioChannelConfiguration")
                                .with("schemeIdUri", "urn:mpeg:dash:23003:3:audio_channel_configuration:2011")
                                .with("value", channels)
                                .empty();
                        }
                        self.template(xml, period, rendition, &rows);
                    });
            });
    }

    /// When what was taken in (ISO/IEC 23009-1 5.12): media time 0 is the stream's line at 0.
    fn reference_time(&self, xml: &mut Xml, period: &Period, rendition: &Rendition) {
        let at = period.at;
        let wall = self.line.start_ms.saturating_add(rescale(at, CLOCK, 1000));
        xml.element("ProducerReferenceTime")
            .with("id", 0)
            .with("type", "encoder")
            .with("wallClockTime", date_time(wall))
            .with("presentationTime", rescale(at, CLOCK, rendition.timescale).max(0))
            .around(|xml| {
                xml.element("UTCTiming")
                    .with("schemeIdUri", "urn:mpeg:dash:utc:direct:2014")
                    .with("value", date_time(self.terms.now_ms))
                    .empty();
            });
    }

    fn template(&self, xml: &mut Xml, period: &Period, rendition: &Rendition, rows: &Rows) {
        let query = self.terms.query;
        let offset = match self.state.part_target {
            Some(part) if self.low_latency => {
                Some(us(rows.predicted.saturating_sub(part))).filter(|offset| *offset > 0)
            }
            _ => None,
        };
        let begun = rescale(period.at, CLOCK, rendition.timescale).max(0);
        let Some(file) = self.terms.file else {
            xml.element("SegmentTemplate")
                .with("timescale", rendition.timescale)
                .with("presentationTimeOffset", begun)
                .with(
                    "initialization",
                    format_args!("$RepresentationID$-init-{:08x}.mp4{query}", rows.init.0),
                )
                .with("media", format_args!("$RepresentationID$-$Number$.m4s{query}"))
                .with("startNumber", rows.first)
                .with_some("availabilityTimeOffset", offset.map(seconds))
                .with_some("availabilityTimeComplete", offset.map(|_| "false"))
                .around(|xml| timeline(xml, &rows.rows));
            return;
        };
        xml.element("SegmentList")
            .with("timescale", rendition.timescale)
            .with("presentationTimeOffset", begun)
            .with("startNumber", rows.first)
            .around(|xml| {
                xml.element("Initialization").with("sourceURL", relative(file, &rows.init.1)).empty();
                timeline(xml, &rows.rows);
                for name in &rows.names {
                    xml.element("SegmentURL").with("media", relative(file, name)).empty();
                }
            });
    }

    /// What a rendition has in a Period; `None`: nothing.
    fn rows(&self, period: &Period, rendition: &Rendition) -> Option<Rows> {
        let (from, to) = period.numbers;
        let first = rendition.segments.first().map_or(u64::MAX, |s| s.number);
        let within = |number: &u64| (from..to).contains(number);
        let skip = usize::try_from(from.saturating_sub(first)).unwrap_or(usize::MAX);
        let mut segments: Vec<_> =
            rendition.segments.iter().skip(skip).take_while(|s| within(&s.number)).collect();
        // Before the first and behind the last with something in it there is nothing to tell.
        while segments.last().is_some_and(|s| s.gap) {
            segments.pop();
        }
        let filled = segments.iter().position(|s| !s.gap).unwrap_or(segments.len());
        let segments = segments.get(filled..).unwrap_or_default();

        let open = rendition.growing.as_ref().filter(|open| self.low_latency && within(&open.number));
        let before = segments.last().map(|s| s.number);
        let open = open.filter(|open| open.init.is_some() && before.is_none_or(|n| n + 1 == open.number));
        let ready = segments.first();
        let init = ready.and_then(|s| s.init.as_ref()).or(open.and_then(|open| open.init.as_ref()))?;
        let key = ready.map_or_else(|| open.and_then(|open| open.key.as_ref()), |s| s.key.as_ref());
        let timescale = rendition.timescale;
        let usual = rescale(i64::try_from(us(self.terms.config.segment)).unwrap_or(0), 1_000_000, timescale);
        let last = segments.last().map_or(usual.unsigned_abs().max(1), |s| s.ticks);
        let mut rows: Vec<_> = segments.iter().map(|s| (s.start, s.ticks)).collect();
        // How long it will be: as the one before, unless it is longer already.
        rows.extend(open.map(|open| {
            let so_far = open.parts.iter().map(|part| part.ticks).sum::<u64>();
            (open.start, last.max(so_far))
        }));
        Some(Rows {
            first: ready.map(|s| s.number).or(open.map(|open| open.number))?,
            init: (line::mark(init), init.name.clone()),
            names: segments.iter().map(|s| s.name.clone()).collect(),
            independent: segments.iter().all(|s| s.independent || s.gap),
            encrypted: key.is_some_and(|key| key.method == KeyMethod::Cbcs),
            predicted: Duration::from_micros(ticks_us(i64::try_from(last).unwrap_or(i64::MAX), timescale)),
            rows,
        })
    }
}

/// Where segments begin and how long they are.
fn timeline(xml: &mut Xml, rows: &[(i64, u64)]) {
    xml.element("SegmentTimeline").around(|xml| {
        let mut rows = rows.iter().peekable();
        let mut end = None;
        while let Some(&(start, ticks)) = rows.next() {
            let told = (end != Some(start)).then_some(start.max(0));
            let mut next = start.saturating_add_unsigned(ticks);
            let mut repeats = 0u32;
            while rows.next_if(|row| **row == (next, ticks)).is_some() {
                next = next.saturating_add_unsigned(ticks);
                repeats += 1;
            }
            end = Some(next);
            let repeats = (repeats > 0).then_some(repeats);
            xml.element("S").with_some("t", told).with("d", ticks).with_some("r", repeats).empty();
        }
    });
}

/// A file's name as a link in another one, both below one root.
fn relative(from: &str, to: &str) -> String {
    let up = from.matches('/').count();
    let (mut from, mut to) = (from, to);
    let mut same = 0;
    while let (Some((a, rest_from)), Some((b, rest_to))) = (from.split_once('/'), to.split_once('/'))
        && a == b
    {
        (from, to, same) = (rest_from, rest_to, same + 1);
    }
    let path: Vec<_> = to.split('/').map(encode).collect();
    "../".repeat(up - same) + &path.join("/")
}

/// What a rendition has in a Period.
struct Rows {
    /// The number of the first.
    first: u64,
    /// The mark of its name, and that.
    init: (u32, Arc<str>),
    independent: bool,
    /// By `cbcs`.
    encrypted: bool,
    /// How long the next one is expected to be.
    predicted: Duration,
    /// Where they begin and how long they are, in ticks.
    rows: Vec<(i64, u64)>,
    /// The names of those that are complete.
    names: Vec<Arc<str>>,
}

/// What has to come through for a player not to stall: as the segment with the most has.
fn bandwidth(rendition: &Rendition) -> u64 {
    match rendition.bandwidth.peak {
        // Not measured yet.
        0 if rendition.kind == Kind::Video => 2_000_000,
        0 => 128_000,
        peak => peak,
    }
}

/// Thousandths as a number or a fraction.
fn frame_rate(thousandths: u32) -> String {
    let ntsc =
        [24, 30, 48, 60, 120].into_iter().find(|n| (n * 1_000_000_u32 / 1001).abs_diff(thousandths) <= 1);
    match (thousandths % 1000, ntsc) {
        (0, _) => (thousandths / 1000).to_string(),
        (_, Some(n)) => format!("{}/1001", n * 1000),
        _ => format!("{thousandths}/1000"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_between_files() {
        assert_eq!(relative("live/demo.mpd", "live/demo-1-v0.m4s"), "demo-1-v0.m4s");
        assert_eq!(relative("a/b/demo.mpd", "a/c d/x.m4s"), "../c%20d/x.m4s");
        assert_eq!(relative("demo.mpd", "live/x.m4s"), "live/x.m4s");
        assert_eq!(relative("a/b/demo.mpd", "x.m4s"), "../../x.m4s");
    }

    #[test]
    fn frame_rates() {
        assert_eq!(
            [25_000, 29_970, 23_976, 59_940, 12_500].map(frame_rate),
            ["25", "30000/1001", "24000/1001", "60000/1001", "12500/1000"]
        );
    }
}
