use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use super::line::{CLOCK, Line};
use super::mpd::{self, Terms};
use crate::config;
use crate::media::test::hex;
use crate::media::{Codec, Kind, Track, TrackId};
use crate::segments::{Bandwidth, Data, Form, Growing, Init, Part, Rendition, Segment, State};

/// 2024-02-29T12:34:56.007Z
const START: i64 = 1_709_210_096_007;

fn tracks() -> [Track; 2] {
    let avcc =
        "0164001fffe1001a6764001facd9405005bb0110000003001000000303c0f1831960010006 68ebe3cb22c0 fdf8f800";
    let mut audio = Track::with_config(TrackId(1), Codec::Aac, Bytes::from_static(&[0x11, 0x90])).unwrap();
    audio.language = *b"deu";
    [Track::with_config(TrackId(0), Codec::H264, hex(avcc).into()).unwrap(), audio]
}

fn init(name: &str) -> Arc<Init> {
    Arc::new(Init { name: name.into(), data: Data::of(Vec::new()) })
}

/// Segments by start and length in seconds; each with its discontinuity sequence.
fn rendition(track: Track, segments: &[(u64, f64, f64, u64)], timescale: u32) -> Rendition {
    let id = if track.kind() == Kind::Video { "v0" } else { "a1" };
    let ticks = |seconds: f64| (seconds * f64::from(timescale)).round() as u64;
    let segments: Vec<_> = segments
        .iter()
        .map(|&(number, start, length, sequence)| {
            Arc::new(Segment {
                number,
                discontinuity: false,
                discontinuity_sequence: sequence,
                independent: true,
                gap: false,
                start: ticks(start) as i64,
                ticks: ticks(length),
                timescale,
                duration: Duration::from_secs_f64(length),
                wall_ms: START + (start * 1000.0) as i64,
                name: format!("live/demo-{number}-{id}.m4s").into(),
                parts: Arc::new([]),
                init: Some(init(&format!("live/demo-{id}-{sequence}.mp4"))),
                key: None,
                data: Data::of(Vec::new()),
            })
        })
        .collect();
    Rendition {
        id: id.into(),
        kind: track.kind(),
        codecs: track.facts.rfc6381.as_str().into(),
        language: track.language,
        bandwidth: Bandwidth { average: 1000, peak: 2000 },
        frame_rate: (track.kind() == Kind::Video).then_some(29_970),
        timescale,
        segments: segments.into(),
        growing: None,
        discontinuity_sequence: 0,
        tracks: Arc::new([track]),
    }
}

fn state(renditions: Vec<Rendition>) -> State {
    State {
        version: 1,
        form: Form::Fmp4,
        renditions,
        target: Duration::from_secs(2),
        part_target: None,
        clock_ms: START,
        run: 1,
        ended: false,
    }
}

fn write(state: &State, line: &mut Line, config: &config::Dash) -> String {
    let terms = Terms {
        config,
        base: "demo/",
        query: "?dash_ctx=x&a=b",
        location: Some("demo.mpd?dash_ctx=x&a=b"),
        now_ms: START + 10_000,
        file: None,
    };
    mpd::write(state, line, &terms).unwrap()
}

const TWO: [(u64, f64, f64, u64); 3] = [(7, 100.0, 2.0, 0), (8, 102.0, 2.0, 0), (9, 104.0, 1.5, 0)];

#[test]
fn a_manifest_line_by_line() {
    let [video, audio] = tracks();
    let sound = [(7, 100.0, 2.0, 0), (8, 102.0, 2.0, 0), (9, 104.0, 1.5, 0)];
    let state = state(vec![rendition(video, &TWO, 90_000), rendition(audio, &sound, 48_000)]);
    let text = write(&state, &mut Line::default(), &config::Dash::default());
    let expected = r#"<?xml version="1.0" encoding="UTF-8"?>
<MPD xmlns="urn:mpeg:dash:schema:mpd:2011" profiles="urn:mpeg:dash:profile:isoff-live:2011" type="dynamic" availabilityStartTime="2024-02-29T12:34:56.007Z" publishTime="2024-02-29T12:36:41.507Z" minBufferTime="PT2S" maxSegmentDuration="PT2S" minimumUpdatePeriod="PT2S" timeShiftBufferDepth="PT30S" suggestedPresentationDelay="PT6S">
  <Location>demo.mpd?dash_ctx=x&amp;a=b</Location>
  <Period id="0-INITV" start="PT100S">
    <BaseURL>demo/</BaseURL>
    <AdaptationSet id="0" contentType="video" mimeType="video/mp4" segmentAlignment="true" startWithSAP="1">
      <Role schemeIdUri="urn:mpeg:dash:role:2011" value="main"/>
      <Representation id="v0" bandwidth="2000" codecs="avc1.64001F" width="1280" height="720" frameRate="30000/1001">
        <SegmentTemplate timescale="90000" presentationTimeOffset="9000000" initialization="$RepresentationID$-init-INITV.mp4?dash_ctx=x&amp;a=b" media="$RepresentationID$-$Number$.m4s?dash_ctx=x&amp;a=b" startNumber="7">
          <SegmentTimeline>
            <S t="9000000" d="180000" r="1"/>
            <S d="135000"/>
          </SegmentTimeline>
        </SegmentTemplate>
      </Representation>
    </AdaptationSet>
    <AdaptationSet id="1" contentType="audio" mimeType="audio/mp4" lang="deu" segmentAlignment="true" startWithSAP="1">
      <Role schemeIdUri="urn:mpeg:dash:role:2011" value="main"/>
      <Representation id="a1" bandwidth="2000" codecs="mp4a.40.2" audioSamplingRate="48000">
        <AudioChannelConfiguration schemeIdUri="urn:mpeg:dash:23003:3:audio_channel_configuration:2011" value="2"/>
        <SegmentTemplate timescale="48000" presentationTimeOffset="4800000" initialization="$RepresentationID$-init-INITA.mp4?dash_ctx=x&amp;a=b" media="$RepresentationID$-$Number$.m4s?dash_ctx=x&amp;a=b" startNumber="7">
          <SegmentTimeline>
            <S t="4800000" d="96000" r="1"/>
            <S d="72000"/>
          </SegmentTimeline>
        </SegmentTemplate>
      </Representation>
    </AdaptationSet>
  </Period>
  <UTCTiming schemeIdUri="urn:mpeg:dash:utc:direct:2014" value="2024-02-29T12:35:06.007Z"/>
</MPD>
"#;
    let mark = |name| format!("{:08x}", super::ask::mark(name));
    let expected =
        expected.replace("INITV", &mark("live/demo-v0-0.mp4")).replace("INITA", &mark("live/demo-a1-0.mp4"));
    assert_eq!(text, expected);
}

#[test]
fn periods_stay_what_they_were() {
    let [video, _] = tracks();
    let mut line = Line::default();
    let segments =
        [(1, 0.0, 2.0, 0), (2, 2.0, 2.0, 0), (3, 10.0, 2.0, 1), (4, 12.0, 2.0, 1), (5, 14.0, 2.0, 1)];
    let of = |range: std::ops::Range<usize>| state(vec![rendition(video.clone(), &segments[range], 90_000)]);
    let periods = line.periods(&of(0..5), 0, false);
    let told: Vec<_> = periods.iter().map(|p| (p.at, p.numbers)).collect();
    assert_eq!(told, [(0, (1, 3)), (10 * i64::from(CLOCK), (3, 6))]);
    // The first of the second is gone: the Period has begun where it began.
    let later = line.periods(&of(3..5), 0, false);
    assert_eq!((later.len(), later[0].at, later[0].numbers), (1, periods[1].at, (4, 6)));
    assert_eq!(later[0].id, periods[1].id);
    // Who comes late knows only what is there.
    assert_eq!(Line::default().periods(&of(3..5), 0, false)[0].at, 12 * i64::from(CLOCK));
    // The clock is that of the first manifest, until the stream begins anew.
    let mut moved = of(3..5);
    moved.clock_ms -= 50;
    line.periods(&moved, 0, false);
    assert_eq!(line.start_ms, START);
    moved.run += 1;
    line.periods(&moved, 0, false);
    assert_eq!(line.start_ms, START - 50);
}

#[test]
fn gaps_inside_count_and_those_at_the_ends_do_not() {
    let [video, audio] = tracks();
    let video = rendition(
        video,
        &[(1, 0.0, 2.0, 0), (2, 2.0, 2.0, 0), (3, 4.0, 2.0, 0), (4, 6.0, 2.0, 0), (5, 8.0, 2.0, 0)],
        90_000,
    );
    let mut audio = rendition(
        audio,
        &[(1, 0.0, 2.0, 0), (2, 2.0, 2.0, 0), (3, 4.0, 2.0, 0), (4, 6.0, 2.0, 0), (5, 8.0, 2.0, 0)],
        48_000,
    );
    let gaps = |rendition: &mut Rendition, silent: &[u64]| {
        let segments = rendition.segments.iter().map(|s| {
            let gap = silent.contains(&s.number);
            Arc::new(Segment { gap, init: s.init.clone().filter(|_| !gap), ..Segment::clone(s) })
        });
        rendition.segments = segments.collect();
    };
    gaps(&mut audio, &[1, 3, 5]);
    let text =
        write(&state(vec![video.clone(), audio.clone()]), &mut Line::default(), &config::Dash::default());
    let sound = text.split("contentType=\"audio\"").nth(1).unwrap();
    assert!(
        sound.contains("startNumber=\"2\"") && sound.contains("<S t=\"96000\" d=\"96000\" r=\"2\"/>"),
        "{text}"
    );
    assert_eq!(sound.matches("<S ").count(), 1);
    // Silent all the time: not told at all.
    gaps(&mut audio, &[1, 2, 3, 4, 5]);
    let text = write(&state(vec![video, audio]), &mut Line::default(), &config::Dash::default());
    assert!(!text.contains("audio"), "{text}");
}

#[test]
fn the_end_is_static() {
    let [video, _] = tracks();
    let ended = State { ended: true, ..state(vec![rendition(video, &TWO, 90_000)]) };
    let text = write(&ended, &mut Line::default(), &config::Dash::default());
    assert!(
        text.contains("type=\"static\"") && text.contains("mediaPresentationDuration=\"PT105.5S\""),
        "{text}"
    );
    for absent in ["minimumUpdatePeriod", "Location", "UTCTiming", "timeShiftBufferDepth"] {
        assert!(!text.contains(absent), "{absent} in {text}");
    }
}

#[test]
fn low_latency_tells_of_the_segment_that_grows() {
    let [video, _] = tracks();
    let mut rendition = rendition(video, &TWO[..2], 90_000);
    let part = |number: u32| {
        Arc::new(Part {
            number,
            start: 9_360_000 + i64::from(number) * 18_000,
            ticks: 18_000,
            duration: Duration::from_millis(200),
            independent: number == 0,
            name: "x".into(),
            data: Data::of(Vec::new()),
        })
    };
    rendition.growing = Some(Growing {
        number: 9,
        discontinuity: false,
        start: 9_360_000,
        wall_ms: START,
        name: None,
        init: Some(init("live/demo-v0-0.mp4")),
        key: None,
        parts: (0..3).map(part).collect(),
        next_part: None,
    });
    let state = State { part_target: Some(Duration::from_millis(200)), ..state(vec![rendition]) };
    let config = config::Dash { low_latency: true, ..config::Dash::default() };
    let text = write(&state, &mut Line::default(), &config);
    for part in [
        "<S t=\"9000000\" d=\"180000\" r=\"2\"/>",
        "availabilityTimeOffset=\"1.8\" availabilityTimeComplete=\"false\"",
        "<Latency referenceId=\"0\" target=\"2500\"",
        "<ProducerReferenceTime id=\"0\" type=\"encoder\" wallClockTime=\"2024-02-29T12:36:36.007Z\" presentationTime=\"9000000\">",
        "minimumUpdatePeriod=\"PT1S\"",
        "suggestedPresentationDelay=\"PT2.5S\"",
    ] {
        assert!(text.contains(part), "{part} is not in {text}");
    }
    // Without, it is as others are.
    let plain = write(&state, &mut Line::default(), &config::Dash::default());
    assert!(
        plain.contains("<S t=\"9000000\" d=\"180000\" r=\"1\"/>") && !plain.contains("Latency"),
        "{plain}"
    );
}

#[test]
fn the_window_is_as_configured_and_updates_are_never_too_often() {
    let [video, _] = tracks();
    let state = state(vec![rendition(video, &TWO, 90_000)]);
    let some =
        config::Dash { window_size: 2, update_period: Duration::from_millis(1), ..config::Dash::default() };
    let text = write(&state, &mut Line::default(), &some);
    assert!(text.contains("startNumber=\"8\"") && text.contains("minimumUpdatePeriod=\"PT0.5S\""), "{text}");
    let short = config::Dash { timeshift: Duration::from_secs(3), ..config::Dash::default() };
    assert!(write(&state, &mut Line::default(), &short).contains("startNumber=\"8\""));
    assert_eq!(
        mpd::write(
            &State { renditions: Vec::new(), ..state },
            &mut Line::default(),
            &Terms { config: &some, base: "", query: "", location: None, now_ms: 0, file: None }
        ),
        None
    );
}
