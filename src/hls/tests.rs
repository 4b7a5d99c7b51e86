//! Playlists of made-up states keep the rules, and stay what they were while the stream goes on.

use std::sync::Arc;
use std::time::Duration;

use super::media::{self, Form};
use super::multivariant;
use super::rules::{Media, Multivariant};
use super::text::Base;
use crate::config::{self, PlaylistType};
use crate::media::{Codec, Facts, Kind, Track, TrackId};
use crate::segments::{Bandwidth, Data, Growing, Init, Part, Rendition, Segment, State};

const SECOND: Duration = Duration::from_secs(1);

fn track(id: u8, codec: Codec) -> Track {
    let facts = match codec.kind() {
        Kind::Video => {
            Facts { width: 640, height: 360, rfc6381: "avc1.64001F".to_owned(), ..Facts::default() }
        }
        _ => Facts { channels: 2, sample_rate: 48_000, rfc6381: "mp4a.40.2".to_owned(), ..Facts::default() },
    };
    Track { facts, ..Track::new(TrackId(id), codec) }
}

fn rendition(id: &str, tracks: &[Track]) -> Rendition {
    let codecs: Vec<_> = tracks.iter().map(|track| track.facts.rfc6381.as_str()).collect();
    Rendition {
        id: id.into(),
        kind: tracks[0].kind(),
        tracks: tracks.into(),
        codecs: codecs.join(",").into(),
        language: tracks[0].language,
        bandwidth: Bandwidth { average: 900_000, peak: 1_000_000 },
        frame_rate: (tracks[0].kind() == Kind::Video).then_some(29_970),
        timescale: 90_000,
        segments: Arc::new([]),
        growing: None,
        discontinuity_sequence: 0,
    }
}

/// A stream of one picture and one sound, cut each second, with a break each seventh.
pub(super) struct Scene {
    fmp4: bool,
    parts: bool,
    keep: usize,
    pub(super) state: State,
    next: u64,
    discontinuities: u64,
}

impl Scene {
    pub(super) fn new(fmp4: bool, parts: bool) -> Self {
        let (video, audio) = (track(0, Codec::H264), track(1, Codec::Aac));
        let renditions = if fmp4 {
            vec![rendition("v0", &[video]), rendition("a1", &[audio])]
        } else {
            vec![rendition("main", &[video, audio])]
        };
        let state = State {
            version: 0,
            form: if fmp4 { crate::segments::Form::Fmp4 } else { crate::segments::Form::Ts },
            renditions,
            target: SECOND,
            part_target: parts.then_some(Duration::from_millis(200)),
            clock_ms: 0,
            run: 0,
            ended: false,
        };
        Self { fmp4, parts, keep: 40, state, next: 0, discontinuities: 0 }
    }

    fn name(&self, id: &str, number: u64, part: Option<u32>) -> Arc<str> {
        let part = part.map(|part| format!(".{part}")).unwrap_or_default();
        let track = if self.fmp4 { format!("-{id}") } else { String::new() };
        format!("live/demo-{number}{track}{part}.{}", if self.fmp4 { "m4s" } else { "ts" }).into()
    }

    fn parts(&self, id: &str, number: u64, count: u32) -> Arc<[Arc<Part>]> {
        let part = |n: u32| Part {
            number: n,
            start: 0,
            ticks: 18_000,
            duration: Duration::from_millis(200),
            independent: n == 0,
            name: self.name(id, number, Some(n)),
            data: Data::of(Vec::new()),
        };
        (0..count).map(|n| Arc::new(part(n))).collect()
    }

    fn init(&self, id: &str) -> Option<Arc<Init>> {
        let name = format!("live/demo-{id}-{}.mp4", self.discontinuities);
        self.fmp4.then(|| Arc::new(Init { name: name.into(), data: Data::of(Vec::new()) }))
    }

    /// A second more, or a part of it.
    pub(super) fn grow(&mut self, part: u32) {
        self.state.version += 1;
        let breaks = self.next > 0 && self.next.is_multiple_of(7);
        if part == 0 && breaks {
            self.discontinuities += 1;
        }
        let wall_ms = 1_700_000_000_000 + self.next as i64 * 1000 + self.discontinuities as i64 * 5000;
        let complete = part == 4;
        for n in 0..self.state.renditions.len() {
            let id = self.state.renditions[n].id.clone();
            let (next, parts) = (self.next, self.parts);
            let list = if parts { self.parts(&id, next, part + 1) } else { Arc::new([]) as Arc<[_]> };
            let growing = Growing {
                number: next,
                discontinuity: breaks,
                start: 0,
                wall_ms,
                name: Some(self.name(&id, next, None)),
                init: self.init(&id),
                key: None,
                parts: list.clone(),
                next_part: parts.then(|| self.name(&id, next, Some(part + 1))),
            };
            let segment = Segment {
                number: next,
                discontinuity: breaks,
                discontinuity_sequence: self.discontinuities,
                independent: true,
                gap: false,
                start: 0,
                ticks: 90_000,
                timescale: 90_000,
                duration: SECOND,
                wall_ms,
                name: self.name(&id, next, None),
                parts: list,
                init: self.init(&id),
                key: None,
                data: Data::of(Vec::new()),
            };
            let next_part = parts.then(|| self.name(&id, next + 1, Some(0)));
            let keep = self.keep;
            let rendition = &mut self.state.renditions[n];
            rendition.discontinuity_sequence = self.discontinuities;
            if !complete {
                rendition.growing = Some(growing);
                continue;
            }
            let mut all = rendition.segments.to_vec();
            all.push(Arc::new(segment));
            // Parts of older segments are not told any more.
            let old = all.len().saturating_sub(4);
            for segment in &mut all[..old] {
                *segment = Arc::new(Segment { parts: Arc::new([]), ..Segment::clone(segment) });
            }
            let gone = all.len().saturating_sub(keep);
            rendition.segments = all[gone..].into();
            rendition.growing = Some(Growing {
                number: next + 1,
                parts: Arc::new([]),
                next_part,
                discontinuity: false,
                ..growing
            });
        }
        if complete {
            self.next += 1;
        }
    }

    fn text(&self, id: &str, config: &config::Hls, skip: bool) -> String {
        let playlist = format!("live/demo/{id}.m3u8");
        let base = Base { playlist: &playlist, prefix: "" };
        let rendition = self.state.rendition(id).unwrap();
        media::playlist(&self.state, rendition, &Form { base, config, skip }).as_str().to_owned()
    }
}

fn read(text: &str) -> Media {
    Media::parse(text).unwrap_or_else(|wrong| panic!("{wrong}:\n{text}"))
}

#[test]
fn playlists_keep_the_rules_while_the_stream_goes_on() {
    for (fmp4, parts) in [(false, false), (true, false), (true, true)] {
        for keep in [3, 40] {
            let mut scene = Scene::new(fmp4, parts);
            scene.keep = keep;
            let config = config::Hls { window: 20 * SECOND, ..config::Hls::default() };
            let ids: &[&str] = if fmp4 { &["v0", "a1"] } else { &["main"] };
            let mut known: Vec<Media> = Vec::new();
            for step in 0..300 {
                scene.grow(step % 5);
                if scene.next == 0 {
                    continue;
                }
                for (n, id) in ids.iter().enumerate() {
                    let text = scene.text(id, &config, false);
                    let now = read(&text);
                    if let Some(known) = known.get(n)
                        && let Err(wrong) = now.follows(known)
                    {
                        panic!("{wrong}:\n{known:#?}\n{text}");
                    }
                    let delta = read(&scene.text(id, &config, true));
                    let before = known.get(n).unwrap_or(&now);
                    if delta.skipped > 0 {
                        let whole = delta.on(before).unwrap();
                        assert_eq!((&whole.segments, &whole.open), (&now.segments, &now.open));
                    } else {
                        assert_eq!(delta, now);
                    }
                    assert!(now.segments.len() <= 20.min(keep.max(3)));
                    if n < known.len() { known[n] = now } else { known.push(now) }
                }
            }
            for list in known {
                assert_eq!(list.first, 60 - list.segments.len() as u64);
                assert!(list.discontinuity_sequence > 0);
                assert!(keep == 3 || list.segments.iter().any(|segment| segment.discontinuity));
            }
        }
    }
}

#[test]
fn a_delta_update_leaves_out_what_is_far_from_the_end() {
    let mut scene = Scene::new(true, true);
    for step in 0..100 {
        scene.grow(step % 5);
    }
    let config = config::Hls { window: 15 * SECOND, ..config::Hls::default() };
    let delta = read(&scene.text("v0", &config, true));
    assert_eq!((delta.skipped, delta.segments.len()), (9, 6));
    assert_eq!(delta.reports.len(), 1);
    assert_eq!(delta.reports[0].find("LAST-MSN"), Some("19"));
}

#[test]
fn the_plain_form_is_that_of_srs() {
    let mut scene = Scene::new(false, false);
    for step in 0..10 {
        scene.grow(step % 5);
    }
    let expected = "#EXTM3U\n#EXT-X-VERSION:3\n#EXT-X-TARGETDURATION:1\n#EXT-X-MEDIA-SEQUENCE:0\n\
        #EXT-X-INDEPENDENT-SEGMENTS\n#EXT-X-PROGRAM-DATE-TIME:2023-11-14T22:13:20.000Z\n\
        #EXTINF:1.000,\n../demo-0.ts\n#EXTINF:1.000,\n../demo-1.ts\n";
    assert_eq!(scene.text("main", &config::Hls::default(), false), expected);
}

#[test]
fn an_event_keeps_its_past_and_ends() {
    let mut scene = Scene::new(true, true);
    scene.keep = 1000;
    for step in 0..500 {
        scene.grow(step % 5);
    }
    let config = config::Hls { playlist_type: PlaylistType::Event, ..config::Hls::default() };
    let list = read(&scene.text("a1", &config, false));
    assert_eq!((list.kind.as_deref(), list.segments.len()), (Some("EVENT"), 100));
    scene.state.ended = true;
    let text = scene.text("a1", &config, false);
    let list = read(&text);
    assert!(list.ended && list.hints.is_empty() && list.reports.is_empty(), "{text}");
    assert!(!scene.text("a1", &config::Hls { endlist: false, ..config }, false).contains("ENDLIST"));
}

#[test]
fn links_lead_where_they_are_told() {
    let mut scene = Scene::new(true, false);
    (0..5).for_each(|part| scene.grow(part));
    let base = Base { playlist: "live/demo/v0.m3u8", prefix: "https://cdn.example/x/" };
    let form = Form { base, config: &config::Hls::default(), skip: false };
    let text = media::playlist(&scene.state, &scene.state.renditions[0], &form);
    assert!(text.as_str().contains("\nhttps://cdn.example/x/live/demo-0-v0.m4s\n"));
    assert!(text.as_str().contains("#EXT-X-MAP:URI=\"https://cdn.example/x/live/demo-v0-0.mp4\"\n"));
    assert!(text.with("p", "hls_ctx=y").contains("/live/demo-0-v0.m4s?hls_ctx=y\n"));
}

#[test]
fn a_silent_track_has_gaps() {
    let mut scene = Scene::new(true, false);
    (0..5).for_each(|part| scene.grow(part));
    let mut gap = Segment::clone(&scene.state.renditions[1].segments[0]);
    (gap.gap, gap.independent) = (true, false);
    scene.state.renditions[1].segments = Arc::new([Arc::new(gap)]);
    let text = scene.text("a1", &config::Hls::default(), false);
    assert!(text.contains("#EXT-X-VERSION:8\n") && text.contains("\n#EXT-X-GAP\n#EXTINF"), "{text}");
}

fn variants(state: &State, single: bool) -> (String, Multivariant) {
    let text = multivariant::playlist(state, "live/demo", single).as_str().to_owned();
    let list = Multivariant::parse(&text).unwrap_or_else(|wrong| panic!("{wrong}:\n{text}"));
    (text, list)
}

#[test]
fn variants_of_what_is_muxed() {
    let scene = Scene::new(false, false);
    assert!(multivariant::is_single(&scene.state));
    let (text, _) = variants(&scene.state, true);
    assert_eq!(
        text,
        "#EXTM3U\n#EXT-X-VERSION:3\n#EXT-X-STREAM-INF:BANDWIDTH=1000000,AVERAGE-BANDWIDTH=900000,\
         CODECS=\"avc1.64001F,mp4a.40.2\",RESOLUTION=640x360,FRAME-RATE=29.970\ndemo.m3u8\n"
    );
    // A second sound is a rendition beside the one that is muxed.
    let mut scene = scene;
    let mut french = track(2, Codec::Aac);
    french.language = *b"fra";
    scene.state.renditions.push(rendition("a2", &[french]));
    let (text, list) = variants(&scene.state, false);
    assert_eq!((list.variants.len(), list.media.len()), (1, 2), "{text}");
    assert_eq!(list.media[0].find("URI"), None, "it is in the variant");
    assert_eq!(list.media[1].find("URI"), Some("demo/a2.m3u8"));
    assert_eq!((list.media[1].find("LANGUAGE"), list.media[1].find("NAME")), (Some("fr"), Some("fr")));
}

#[test]
fn variants_of_tracks() {
    let mut scene = Scene::new(true, false);
    let (text, list) = variants(&scene.state, false);
    assert_eq!(list.variants[0].1, "demo/v0.m3u8");
    assert_eq!(list.variants[0].0.find("BANDWIDTH"), Some("2000000"), "with the sound");
    assert_eq!(list.variants[0].0.find("CODECS"), Some("avc1.64001F,mp4a.40.2"));
    assert_eq!(list.media[0].find("CHANNELS"), Some("2"), "{text}");
    // Another coding of the sound, and another picture: all pairs.
    let mut opus = track(2, Codec::Opus);
    opus.facts.rfc6381 = "opus".to_owned();
    scene.state.renditions.push(rendition("a2", &[opus]));
    scene.state.renditions.push(rendition("v3", &[track(3, Codec::H264)]));
    let (text, list) = variants(&scene.state, false);
    assert_eq!((list.variants.len(), list.media.len()), (4, 2), "{text}");
    // Two of one coding: one group, two names.
    let mut scene = Scene::new(true, false);
    scene.state.renditions.push(rendition("a2", &[track(2, Codec::Aac)]));
    let (text, list) = variants(&scene.state, false);
    assert_eq!((list.variants.len(), list.media.len()), (1, 2), "{text}");
    let default = |n: usize| list.media[n].find("DEFAULT");
    assert_eq!((default(0), default(1)), (Some("YES"), Some("NO")));
}

#[test]
fn variants_of_sound_alone() {
    let mut scene = Scene::new(true, false);
    scene.state.renditions.remove(0);
    let (text, list) = variants(&scene.state, false);
    assert_eq!((list.variants.len(), list.media.len()), (1, 0), "{text}");
    assert_eq!(list.variants[0].1, "demo/a1.m3u8");
    assert_eq!(list.variants[0].0.find("BANDWIDTH"), Some("1000000"));
    let mut opus = track(2, Codec::Opus);
    opus.facts.rfc6381 = "opus".to_owned();
    scene.state.renditions.push(rendition("a2", &[opus]));
    let (text, list) = variants(&scene.state, false);
    assert_eq!(
        list.variants.iter().map(|v| v.1.as_str()).collect::<Vec<_>>(),
        ["demo/a1.m3u8", "demo/a2.m3u8"],
        "{text}"
    );
    assert_eq!(list.variants[1].0.find("CODECS"), Some("opus"));
}
