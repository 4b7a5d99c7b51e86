//! Streams as they shouldn't be, and for a very long time: what is promised holds.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use proptest::prelude::*;

use super::builder::{Builder, LEAST_MEMORY};
use super::index::{Change, Sort};
use super::settings::{Settings, Slot};
use super::state::{Data, Segment, State};
use super::tests::{frame, track};
use super::*;
use crate::config::{self, Config, Encryption, Size, Variant};
use crate::format::mpegts::{Demuxer, Event};
use crate::hub::StreamName;
use crate::media::{Codec, Flags, Frame, Track};

/// Looks at each segment and its rendition.
type Each = Box<dyn FnMut(&Segment, &str)>;

/// A builder that is watched: whatever it tells has to hold.
struct Watched {
    builder: Builder,
    settings: Arc<Settings>,
    /// What can be asked for, with its size.
    names: BTreeMap<Arc<str>, u64>,
    promised: HashSet<Arc<str>>,
    /// Segments that were complete, by rendition: the last.
    last: BTreeMap<Arc<str>, Arc<Segment>>,
    state: Option<Arc<State>>,
    segments: u64,
    parts: u64,
    /// Bytes of the largest frame.
    largest: usize,
    /// Looks at one of so many states only.
    thin: u64,
    each: Each,
}

fn settings(change: impl FnOnce(&mut config::Hls)) -> Arc<Settings> {
    let mut config = Config::default();
    config.vhost.set_default(|vhost| change(&mut vhost.hls));
    let vhost = config.vhost("", "live", "x");
    Arc::new(Settings::new(vhost, Slot::of(Want::Hls, vhost)))
}

impl Watched {
    fn new(settings: Arc<Settings>) -> Self {
        let name = StreamName::new("v", "live", "x").unwrap();
        Self {
            builder: Builder::new(settings.clone(), name, 0, 1, 0),
            settings,
            names: BTreeMap::new(),
            promised: HashSet::new(),
            last: BTreeMap::new(),
            state: None,
            segments: 0,
            parts: 0,
            largest: 0,
            thin: 1,
            each: Box::new(|_, _| {}),
        }
    }

    fn tracks(&mut self, tracks: &[Track], epoch: u64) {
        self.builder.tracks(tracks, epoch);
        self.check();
    }

    fn frame(&mut self, frame: Frame) {
        self.largest = self.largest.max(frame.data.len());
        let wall = 1_000_000 + frame.dts;
        self.builder.frame(frame, wall);
        self.check();
    }

    fn check(&mut self) {
        for change in self.builder.take_changes() {
            match change {
                Change::Put(name, resource, sort) => {
                    self.promised.remove(&name);
                    assert!(resource.data.len() > 0, "{name}");
                    assert!(self.names.insert(name.clone(), resource.data.len()).is_none(), "{name} twice");
                    self.parts += u64::from(matches!(sort, Sort::Part));
                }
                Change::Promise(name, _) => {
                    assert!(!self.names.contains_key(&name), "{name} is there already");
                    assert!(self.promised.insert(name));
                }
                Change::Drop(name) => {
                    // A gap's name leads nowhere already.
                    self.names.remove(&name);
                    self.promised.remove(&name);
                }
            }
        }
        let memory = self.settings.memory;
        // A frame may come when there is no room for it: at most that, and its packets.
        let most = memory + self.largest + self.largest / 8 + 4096;
        assert!(self.builder.bytes() <= most, "{} bytes of {memory}", self.builder.bytes());
        let Some(state) = self.builder.state() else { return };
        if let Some(old) = &self.state {
            assert!(state.version > old.version && state.target >= old.target);
        }
        if state.version % self.thin == 0 || state.ended {
            for rendition in &state.renditions {
                self.rendition(&state, rendition);
            }
        }
        self.state = Some(state);
    }

    fn rendition(&mut self, state: &State, rendition: &Rendition) {
        let segments = &rendition.segments;
        for pair in segments.windows(2) {
            assert_eq!(pair[0].number + 1, pair[1].number, "contiguous numbers");
            let steps = pair[1].discontinuity_sequence - pair[0].discontinuity_sequence;
            assert_eq!(steps, u64::from(pair[1].discontinuity));
            if pair[0].timescale == pair[1].timescale {
                let end = pair[0].start + i64::try_from(pair[0].ticks).unwrap();
                assert!(pair[1].start >= end, "{} < {end} in {}", pair[1].start, pair[1].name);
            }
        }
        for segment in segments.iter() {
            assert!(segment.ticks > 0 && segment.duration > Duration::ZERO);
            let rounded = (segment.duration + Duration::from_millis(500)).as_secs();
            assert!(rounded <= state.target.as_secs(), "{:?} of {:?}", segment.duration, state.target);
            assert_eq!(segment.gap, !self.names.contains_key(&segment.name), "{}", segment.name);
            assert_eq!(segment.gap, segment.data.len() == 0);
            if let Some(init) = segment.init.as_ref().filter(|_| !segment.gap) {
                assert!(self.names.contains_key(&init.name), "{}", init.name);
            }
            if let Some(key) = segment.key.as_ref().filter(|key| key.ours) {
                assert!(self.names.contains_key(&key.uri), "{}", key.uri);
            }
            self.check_parts(state, &segment.parts, true);
            if !segment.parts.is_empty() {
                assert_eq!(segment.parts.iter().map(|part| part.ticks).sum::<u64>(), segment.ticks);
                let bytes: u64 = segment.parts.iter().map(|part| part.data.len()).sum();
                assert_eq!(bytes, segment.data.len(), "a segment is its parts");
            }
        }
        if let Some(growing) = &rendition.growing {
            if let Some(last) = segments.last() {
                assert_eq!(last.number + 1, growing.number);
            }
            self.check_parts(state, &growing.parts, false);
            if let Some(next) = &growing.next_part {
                assert!(self.promised.contains(next), "{next}");
            }
        }
        if let Some(newest) = segments.last()
            && self.last.get(&rendition.id).is_none_or(|last| last.number != newest.number)
        {
            (self.each)(newest, &rendition.id);
            self.segments += 1;
            self.last.insert(rendition.id.clone(), newest.clone());
        }
    }

    fn check_parts(&self, state: &State, parts: &[Arc<Part>], complete: bool) {
        let Some(target) = state.part_target else {
            assert!(parts.is_empty());
            return;
        };
        for (at, part) in parts.iter().enumerate() {
            assert!(part.ticks > 0 && part.duration <= target, "{:?} of {target:?}", part.duration);
            assert_eq!(part.number as usize, at);
            assert!(self.names.contains_key(&part.name), "{}", part.name);
            if !complete || at + 1 < parts.len() {
                assert!(part.duration * 100 >= target * 85, "{:?} of {target:?} {at}", part.duration);
            }
        }
    }

    fn end(&mut self) {
        self.builder.end();
        self.check();
    }
}

fn bytes(segment: &Segment) -> Vec<u8> {
    segment.data.chunks().concat()
}

/// How long a day is: an emulated CPU gets the wrap of RTMP's clock, and an hour after it.
fn hours() -> i64 {
    if std::env::var_os("RILLBOX_TEST_EMULATED").is_some() { 2 } else { 24 }
}

/// The number of the last segment of 2 s of a day; the one after it has not ended.
fn last_of_day() -> i64 {
    hours() * 1800 - 2
}

/// A day of 25 pictures a second and sound of 20 ms, from a time on at which RTMP's clock wraps soon after (the hub
/// counts on, without a wrap), and MPEG-TS's 33 bits wrap in between.
fn a_day(settings: Arc<Settings>) -> Watched {
    let mut watched = Watched::new(settings);
    watched.thin = 997;
    watched.tracks(&[track(0, Codec::H264), track(1, Codec::Aac)], 1);
    let start = (1i64 << 32) - 3_600_000;
    let (mut low, mut high) = (usize::MAX, 0);
    for n in 0..hours() * 3600 * 25 {
        let ms = start + n * 40;
        watched.frame(frame(0, Codec::H264, ms, n % 50 == 0, 40));
        watched.frame(frame(1, Codec::Aac, ms, true, 16));
        watched.frame(frame(1, Codec::Aac, ms + 20, true, 16));
        if n > 10 * 60 * 25 && n % 5000 == 0 {
            low = low.min(watched.builder.bytes());
            high = high.max(watched.builder.bytes());
        }
    }
    assert!(high < low * 3 / 2, "memory is flat: {low} to {high} bytes");
    assert!(watched.names.len() + watched.promised.len() < 700, "{} names", watched.names.len());
    watched
}

#[test]
fn a_day_of_transport_streams() {
    let watched = a_day(settings(|hls| hls.variant = Variant::Ts));
    let state = watched.state.unwrap();
    let last = state.main().unwrap().segments.last().unwrap().clone();
    let number = last_of_day();
    assert_eq!((last.number as i64, last.duration), (number, Duration::from_secs(2)));
    assert_eq!(last.start, ((1i64 << 32) - 3_600_000 + number * 2000) * 90);
    assert_eq!(last.wall_ms, 1_000_000 + (1i64 << 32) - 3_600_000 + number * 2000);
}

#[test]
fn a_day_of_low_latency() {
    let watched = a_day(settings(|hls| hls.variant = Variant::LowLatency));
    // Ten a segment; of the first there are none.
    let an_hour = watched.parts as i64 / hours();
    assert!((36_000..=40_000).contains(&an_hour), "{an_hour}");
    let number = last_of_day();
    let state = watched.state.unwrap();
    for rendition in &state.renditions {
        let last = rendition.segments.last().unwrap();
        assert_eq!(last.number as i64, number);
        let scale = i64::from(rendition.timescale);
        let start = ((1i64 << 32) - 3_600_000 + number * 2000) * scale / 1000;
        assert!((last.start - start).abs() < scale / 20, "{}: {} {start}", rendition.id, last.start);
    }
}

#[test]
fn transport_streams_wrap_in_the_middle() {
    // 33 bits at 90 kHz end at 95443717.69 ms.
    let wrap = (1i64 << 33) / 90;
    let all = std::rc::Rc::new(std::cell::RefCell::new(Vec::new()));
    let mut watched = Watched::new(settings(|hls| hls.variant = Variant::Ts));
    let into = all.clone();
    watched.each = Box::new(move |segment, _| into.borrow_mut().push(bytes(segment)));
    watched.tracks(&[track(0, Codec::H264), track(1, Codec::Aac)], 1);
    let start = wrap - 10_000;
    for n in 0..1000i64 {
        watched.frame(frame(0, Codec::H264, start + n * 40, n % 25 == 0, 500));
        watched.frame(frame(1, Codec::Aac, start + n * 40, true, 100));
        watched.frame(frame(1, Codec::Aac, start + n * 40 + 20, true, 100));
    }
    watched.end();
    let mut demuxer = Demuxer::new(None);
    let mut times: BTreeMap<u8, Vec<i64>> = BTreeMap::new();
    let mut each = |event| {
        if let Event::Frame(frame) = event {
            times.entry(frame.track.0).or_default().push(frame.dts);
        }
    };
    for segment in all.borrow().iter() {
        check_ts(segment, true);
        demuxer.push(segment, &mut each);
    }
    demuxer.finish(&mut each);
    let counters = demuxer.counters();
    assert_eq!(format!("{counters:?}").matches("lost: 0").count(), 1, "{counters:?}");
    let counts: Vec<usize> = times.values().map(Vec::len).collect();
    assert_eq!(counts, [1000, 2000], "no frame is lost");
    for (track, times) in times {
        assert!(times.windows(2).all(|pair| pair[0] < pair[1]), "track {track}");
    }
}

/// A segment begins with PAT, PMT and, with video, a key frame whose parameter sets stand before SEI.
fn check_ts(segment: &[u8], video: bool) {
    let pid = |packet: &[u8]| u16::from_be_bytes([packet[1], packet[2]]) & 0x1FFF;
    let packets: Vec<&[u8]> = segment.chunks(188).collect();
    assert!(packets.iter().all(|packet| packet.len() == 188 && packet[0] == 0x47));
    assert_eq!((pid(packets[0]), pid(packets[1])), (0, 0x1000));
    if video {
        let first = packets.iter().skip(2).find(|packet| packet[1] & 0x40 != 0).unwrap();
        let payload = &first[4 + 1 + usize::from(first[4])..];
        let nals: Vec<u8> =
            payload.windows(5).filter(|w| w[..4] == [0, 0, 0, 1]).map(|w| w[4] & 31).collect();
        assert_eq!(nals, [9, 7, 8, 6, 5], "delimiter, parameter sets, SEI, slice");
    }
}

#[test]
fn packet_counters_go_on_over_segments_and_breaks() {
    let mut watched = Watched::new(settings(|hls| hls.variant = Variant::Ts));
    let all = std::rc::Rc::new(std::cell::RefCell::new(Vec::new()));
    let into = all.clone();
    watched.each = Box::new(move |segment, _| into.borrow_mut().push(bytes(segment)));
    for epoch in 1..=3i64 {
        watched.tracks(&[track(0, Codec::H264), track(1, Codec::Aac)], epoch as u64);
        for n in 0..120i64 {
            let ms = epoch * 20_000 + n * 40;
            watched.frame(frame(0, Codec::H264, ms, n % 25 == 0, 500));
            watched.frame(frame(1, Codec::Aac, ms, true, 100));
        }
    }
    watched.end();
    let state = watched.state.clone().unwrap();
    let main = state.main().unwrap();
    let breaks: Vec<u64> = main.segments.iter().filter(|s| s.discontinuity).map(|s| s.number).collect();
    assert_eq!(breaks, [3, 6]);
    let mut counters: BTreeMap<u16, u8> = BTreeMap::new();
    for segment in all.borrow().iter() {
        check_ts(segment, true);
        for packet in segment.chunks(188) {
            let pid = u16::from_be_bytes([packet[1], packet[2]]) & 0x1FFF;
            let (cc, payload) = (packet[3] & 15, packet[3] & 0x10 != 0);
            if let Some(old) = counters.insert(pid, cc) {
                assert_eq!(cc, if payload { (old + 1) & 15 } else { old }, "PID {pid}");
            }
        }
    }
}

#[test]
fn sound_comes_before_pictures_are_known_and_the_camera_goes_off() {
    for variant in [Variant::Ts, Variant::Fmp4, Variant::LowLatency] {
        let mut watched = Watched::new(settings(|hls| hls.variant = variant));
        let (video, audio) = (track(0, Codec::H264), track(1, Codec::Aac));
        watched.tracks(std::slice::from_ref(&audio), 1);
        for ms in (0..6000).step_by(20) {
            watched.frame(frame(1, Codec::Aac, ms, true, 50));
        }
        watched.tracks(&[video, audio], 1);
        let pictures = |ms: i64| !(16_000..40_000).contains(&ms);
        for ms in (6000..60_000i64).step_by(20) {
            if ms % 40 == 0 && pictures(ms) {
                watched.frame(frame(0, Codec::H264, ms, ms % 1000 == 0, 300));
            }
            watched.frame(frame(1, Codec::Aac, ms, true, 50));
        }
        watched.end();
        let state = watched.state.clone().unwrap();
        let main = state.main().unwrap();
        assert!(main.segments.iter().all(|segment| !segment.gap), "{variant:?}");
        assert_eq!(main.kind, crate::media::Kind::Video);
        let last = main.segments.last().unwrap();
        let end = last.start + i64::try_from(last.ticks).unwrap();
        assert_eq!(end / i64::from(last.timescale), 60, "{variant:?}");
    }
}

#[test]
fn silent_renditions_have_gaps() {
    let mut watched = Watched::new(settings(|hls| hls.variant = Variant::Fmp4));
    watched.tracks(&[track(0, Codec::H264), track(1, Codec::Aac)], 1);
    for ms in (0..20_000i64).step_by(20) {
        if ms % 40 == 0 {
            watched.frame(frame(0, Codec::H264, ms, ms % 1000 == 0, 300));
        }
        if !(5000..11_000).contains(&ms) {
            watched.frame(frame(1, Codec::Aac, ms, true, 50));
        }
    }
    watched.end();
    let state = watched.state.clone().unwrap();
    let gaps = |id: &str| -> Vec<u64> {
        let rendition = state.rendition(id).unwrap();
        assert_eq!(rendition.segments.len(), 10);
        rendition.segments.iter().filter(|s| s.gap).map(|s| s.number).collect()
    };
    assert_eq!((gaps("v0"), gaps("a1")), (vec![], vec![3, 4]));
}

#[test]
fn parts_follow_the_frames() {
    // Frames a second, and how long parts are to be.
    for (fps, millis) in [
        (25.0, 201),
        (30.0, 201),
        (24.0, 210),
        (29.97, 202),
        (50.0, 201),
        (60.0, 201),
        (5.0, 201),
        (2.0, 501),
    ] {
        let mut watched = Watched::new(settings(|hls| hls.variant = Variant::LowLatency));
        watched.tracks(&[track(0, Codec::H264), track(1, Codec::Aac)], 1);
        let mut sound = 0i64;
        for n in 0..(fps * 30.0) as i64 {
            let ms = (n as f64 * 1000.0 / fps) as i64;
            while sound * 1024 / 48 <= ms {
                watched.frame(frame(1, Codec::Aac, sound * 1024 / 48, true, 50));
                sound += 1;
            }
            watched.frame(frame(0, Codec::H264, ms, n % (fps.ceil() as i64) == 0, 300));
        }
        watched.end();
        let state = watched.state.clone().unwrap();
        let target = u64::try_from(state.part_target.unwrap().as_millis()).unwrap();
        assert!(target.abs_diff(millis) <= 1, "{fps}: {target}");
        assert!(watched.parts > 40, "{fps}: {}", watched.parts);
    }
}

#[test]
fn budgets_hold_for_streams_that_are_too_large() {
    for variant in [Variant::Ts, Variant::LowLatency] {
        let mut watched = Watched::new(settings(|hls| {
            hls.variant = variant;
            hls.memory = Size::mib(2);
        }));
        watched.tracks(&[track(0, Codec::H264), track(1, Codec::Aac)], 1);
        // 20 Mbit/s with a key frame each 10 s.
        for n in 0..1500i64 {
            watched.frame(frame(0, Codec::H264, n * 40, n % 250 == 0, 100_000));
            watched.frame(frame(1, Codec::Aac, n * 40, true, 300));
        }
        watched.end();
        let state = watched.state.clone().unwrap();
        let main = state.main().unwrap();
        assert!(main.segments.len() >= 2, "{}", main.segments.len());
        assert!(main.segments.iter().all(|segment| segment.data.len() < 1024 * 1024));
    }
    // A share that is smaller than what there is takes effect.
    let mut watched = Watched::new(settings(|hls| hls.variant = Variant::Ts));
    watched.tracks(&[track(0, Codec::H264)], 1);
    for n in 0..1000i64 {
        watched.frame(frame(0, Codec::H264, n * 40, n % 25 == 0, 10_000));
    }
    assert!(watched.builder.bytes() > 2 * LEAST_MEMORY);
    watched.builder.limit(1);
    watched.frame(frame(0, Codec::H264, 40_000, true, 10_000));
    assert!(watched.builder.bytes() < LEAST_MEMORY + 20_000);
}

#[test]
fn keys_change_and_segments_can_be_decrypted() {
    use aes::cipher::{Array, BlockCipherDecrypt, KeyInit};
    let mut watched = Watched::new(settings(|hls| {
        hls.variant = Variant::Ts;
        hls.encryption = Encryption::Aes128;
        hls.segments_per_key = 2;
    }));
    watched.each = Box::new(|segment, _| {
        let key = segment.key.as_ref().unwrap();
        assert_eq!((key.method, key.iv[15]), (KeyMethod::Aes128, segment.number as u8));
        assert_eq!(&*key.uri, format!("live/x-{}.key", segment.number / 2 * 2));
        let mut plain = bytes(segment);
        let cipher = aes::Aes128::new(&Array(key.secret));
        let mut chain = key.iv;
        for block in plain.as_chunks_mut::<16>().0 {
            let next = *block;
            cipher.decrypt_block(block.into());
            block.iter_mut().zip(chain).for_each(|(byte, before)| *byte ^= before);
            chain = next;
        }
        let pad = usize::from(*plain.last().unwrap());
        plain.truncate(plain.len() - pad);
        check_ts(&plain, true);
    });
    watched.tracks(&[track(0, Codec::H264), track(1, Codec::Aac)], 1);
    for n in 0..2500i64 {
        watched.frame(frame(0, Codec::H264, n * 40, n % 25 == 0, 500));
        watched.frame(frame(1, Codec::Aac, n * 40, true, 100));
    }
    watched.end();
    assert_eq!(watched.segments, 50);
    let keys = watched.names.keys().filter(|name| name.ends_with(".key")).count();
    assert!((8..=12).contains(&keys), "old keys go: {keys}");
}

#[test]
fn samples_are_encrypted_with_an_init_segment_a_key() {
    let mut watched = Watched::new(settings(|hls| {
        hls.variant = Variant::LowLatency;
        hls.encryption = Encryption::Cbcs;
        hls.segments_per_key = 3;
    }));
    watched.tracks(&[track(0, Codec::H264), track(1, Codec::Aac)], 1);
    for n in 0..500i64 {
        watched.frame(frame(0, Codec::H264, n * 40, n % 25 == 0, 500));
        watched.frame(frame(1, Codec::Aac, n * 40, true, 100));
    }
    watched.end();
    let state = watched.state.clone().unwrap();
    let main = state.main().unwrap();
    let inits: HashSet<&str> = main.segments.iter().filter_map(|s| Some(&*s.init.as_ref()?.name)).collect();
    let keys: HashSet<&str> = main.segments.iter().filter_map(|s| Some(&*s.key.as_ref()?.uri)).collect();
    assert_eq!((main.segments.len(), inits.len(), keys.len()), (10, 4, 4));
    let init = main.segments[0].init.as_ref().unwrap().data.chunks().concat();
    assert!(init.windows(4).any(|w| w == b"cbcs") && init.windows(4).any(|w| w == b"encv"));
    assert!(bytes(&main.segments[0]).windows(4).any(|w| w == b"senc"));
}

#[test]
fn redundant_encoders_give_the_same_names() {
    let names = |late: i64| {
        let mut watched = Watched::new(settings(|hls| {
            hls.variant = Variant::Ts;
            hls.ts_floor = true;
            hls.ts_file = "[app]/[stream]-[timestamp].ts".to_owned();
        }));
        watched.tracks(&[track(0, Codec::H264)], 1);
        for n in late..1000i64 {
            watched.builder.frame(frame(0, Codec::H264, n * 40, n % 50 == 0, 50), 1_700_000_000_500 + n * 40);
            watched.check();
        }
        watched
            .state
            .clone()
            .unwrap()
            .main()
            .unwrap()
            .segments
            .iter()
            .map(|s| s.name.to_string())
            .collect::<Vec<_>>()
    };
    let (first, second) = (names(0), names(120));
    assert_eq!(first[first.len() - 5..], second[second.len() - 5..]);
    assert!(second[0].starts_with("live/x-850000"), "{}", second[0]);
}

/// One thing that happens to a stream.
#[derive(Debug, Clone)]
enum Step {
    Frame { track: u8, step: i64, key: bool, len: usize, cts: i32, flag: bool },
    Tracks(u8),
    Lagged,
    Left,
    Limit(usize),
}

fn step() -> impl Strategy<Value = Step> {
    let ms = prop_oneof![8 => 0i64..60, 2 => 0i64..700, 1 => 0i64..30_000];
    let frame = (0u8..3, ms, any::<bool>(), 0usize..3000, -500i32..500, 0u8..100).prop_map(
        |(track, step, key, len, cts, flag)| Step::Frame { track, step, key, len, cts, flag: flag == 0 },
    );
    prop_oneof![
        400 => frame,
        1 => (0u8..6).prop_map(Step::Tracks),
        1 => Just(Step::Lagged),
        1 => Just(Step::Left),
        1 => (0usize..4_000_000).prop_map(Step::Limit),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, ..ProptestConfig::default() })]
    #[test]
    fn whatever_comes(
        steps in proptest::collection::vec(step(), 1..1500),
        variant in prop_oneof![Just(Variant::Ts), Just(Variant::Fmp4), Just(Variant::LowLatency), Just(Variant::Auto)],
        encryption in prop_oneof![3 => Just(Encryption::None), 1 => Just(Encryption::Aes128), 1 => Just(Encryption::Cbcs)],
        rebuild in any::<bool>(), wait in any::<bool>(), start in prop_oneof![Just(0i64), Just((1 << 33) / 90 - 5000), any::<u32>().prop_map(i64::from)],
    ) {
        let mut watched = Watched::new(settings(|hls| {
            (hls.variant, hls.encryption) = (variant, encryption);
            (hls.rebuild_audio_times, hls.wait_keyframe) = (rebuild, wait);
            hls.memory = Size::mib(2);
        }));
        let layout = |n: u8| -> Vec<Track> {
            let (v, a, b) = (track(0, Codec::H264), track(1, Codec::Aac), track(2, Codec::Opus));
            match n {
                0 => vec![v, a],
                1 => vec![a],
                2 => vec![v],
                3 => vec![v, a, b],
                4 => vec![a, b],
                _ => vec![v, b],
            }
        };
        watched.tracks(&layout(0), 1);
        // As the hub's line has it: no track goes back.
        let (mut epoch, mut times) = (1, [start; 3]);
        for step in steps {
            match step {
                Step::Frame { track, step, key, len, cts, flag } => {
                    let codec = [Codec::H264, Codec::Aac, Codec::Opus][usize::from(track)];
                    let time = &mut times[usize::from(track)];
                    *time += step;
                    let mut frame = frame(track, codec, *time, key || track > 0, len);
                    if track == 0 { frame.cts = cts; }
                    if flag { frame.flags = frame.flags.with(Flags::DISCONTINUITY); }
                    watched.frame(frame);
                }
                Step::Tracks(n) => {
                    epoch += 1;
                    let floor = times.iter().copied().max().unwrap_or(0);
                    times = [floor; 3];
                    watched.tracks(&layout(n), epoch);
                }
                Step::Lagged => watched.builder.lagged(3),
                Step::Left => watched.builder.left(),
                Step::Limit(n) => watched.builder.limit(n),
            }
            watched.check();
        }
        watched.end();
        let state = watched.state.clone();
        prop_assert!(state.is_some_and(|state| state.ended));
        prop_assert!(watched.promised.is_empty(), "{:?}", watched.promised);
    }
}

#[test]
fn data_is_shared_not_copied() {
    let mut watched = Watched::new(settings(|hls| hls.variant = Variant::Fmp4));
    let mut sent: Vec<Bytes> = Vec::new();
    watched.tracks(&[track(0, Codec::H264)], 1);
    for n in 0..60i64 {
        let frame = frame(0, Codec::H264, n * 40, n % 50 == 0, 5000);
        sent.push(frame.data.clone());
        watched.frame(frame);
    }
    let state = watched.state.clone().unwrap();
    let segment = state.main().unwrap().segments[0].clone();
    let Data::Memory { chunks, .. } = &segment.data else { panic!("in memory") };
    assert_eq!(chunks.len(), 51);
    assert!(chunks[1..].iter().zip(&sent).all(|(chunk, sent)| chunk.as_ptr() == sent.as_ptr()));
}
