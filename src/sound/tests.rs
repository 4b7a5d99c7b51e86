use std::f64::consts::TAU;

use bytes::Bytes;
use proptest::prelude::*;

use super::decoder::Decoder;
use super::encoder::Encoder;
use super::*;
use crate::media::aac::AudioSpecificConfig;
use crate::media::opus::{OpusHead, packet_samples};
use crate::media::{Flags, Frame, Track, TrackId};

const HERTZ: f64 = 440.0;
const OPUS: Target = Target::Opus { bitrate: 64_000 };
const AAC: Target = Target::Aac { bitrate: 64_000 };

fn tone(from: usize, len: usize, channels: u8) -> Vec<i16> {
    let sample = |n: usize| (10_000.0 * (TAU * HERTZ * n as f64 / f64::from(RATE)).sin()) as i16;
    (from..from + len).flat_map(|n| std::iter::repeat_n(sample(n), channels.into())).collect()
}

/// A track of `codec` and its packets, of a tone of so many seconds that begins at time 0.
fn source(target: Target, channels: u8, seconds: usize) -> (Track, Vec<Frame>) {
    let mut encoder = Encoder::new(target, channels).unwrap();
    let track = encoder.track(&Track::new(TrackId(1), Codec::Aac), TrackId(1), channels);
    let mut frames = Vec::new();
    let len = encoder.frame();
    for n in 0..seconds * RATE as usize / len {
        let data = encoder.encode(&tone(n * len, len, channels)).unwrap();
        let dts = (n * len) as i64 - i64::from(encoder.delay());
        if !data.is_empty() {
            frames.push(frame(dts, data.into()));
        }
    }
    (track, frames)
}

fn frame(dts: i64, data: Bytes) -> Frame {
    Frame { track: TrackId(1), flags: Flags::KEY, dts, cts: 0, wall_ms: None, data }
}

fn run(transcoder: &mut Transcoder, frames: &[Frame]) -> Vec<Frame> {
    let mut out = Vec::new();
    for frame in frames {
        transcoder.push(frame, &mut out);
    }
    out
}

/// What a player hears of frames that follow each other: one channel, and when it begins.
fn heard(track: &Track, frames: &[Frame]) -> (i64, Vec<i16>) {
    let mut decoder = Decoder::new(track, Codec::Opus).unwrap();
    let mut pcm = Pcm::default();
    let mut samples = Vec::new();
    for frame in frames {
        decoder.decode(&frame.data, &mut pcm).unwrap();
        mix::mix(&pcm.samples, pcm.channels, 1, &mut samples);
    }
    (frames[0].dts, samples)
}

/// How much of the sound is the tone, and where in its wave sample 0 is, in samples of it.
fn analyse(samples: &[i16]) -> (f64, f64, f64) {
    let (mut re, mut im, mut all) = (0.0, 0.0, 0.0);
    for (n, &sample) in samples.iter().enumerate() {
        let (sin, cos) = (TAU * HERTZ * n as f64 / f64::from(RATE)).sin_cos();
        let sample = f64::from(sample);
        re += sample * sin;
        im += sample * cos;
        all += sample * sample;
    }
    let len = samples.len() as f64;
    let amplitude = 2.0 * re.hypot(im) / len;
    let share = amplitude * amplitude / 2.0 / (all / len).max(1.0);
    (amplitude, share, im.atan2(re) / TAU * f64::from(RATE) / HERTZ)
}

/// Asserts that it is the tone, loud and clear, and that its time is right within `within` samples.
#[track_caller]
fn assert_tone(track: &Track, frames: &[Frame], within: f64) {
    let (at, samples) = heard(track, frames);
    let skip = 9600;
    let (amplitude, share, phase) = analyse(&samples[skip..]);
    assert!((8000.0..12_000.0).contains(&amplitude), "amplitude {amplitude:.0}");
    assert!(share > 0.98, "{:.1} % of it is the tone", share * 100.0);
    let period = f64::from(RATE) / HERTZ;
    let ideal = (at + skip as i64) as f64;
    // The decoder of Opus is late by what the encoder says: that is what the time was corrected by.
    let off = (phase - ideal).rem_euclid(period);
    let off = off.min(period - off);
    assert!(off < within, "{off:.1} samples off");
}

/// Packets follow each other without a hole.
#[track_caller]
fn assert_whole(frames: &[Frame], each: i64) {
    for pair in frames.windows(2) {
        assert_eq!(pair[1].dts - pair[0].dts, each, "after {}", pair[0].dts);
    }
}

#[test]
fn aac_becomes_opus_and_keeps_its_time() {
    for channels in [1, 2] {
        let (track, frames) = source(AAC, channels, 3);
        let mut transcoder = Transcoder::new(&track, TrackId(5), OPUS).unwrap();
        let out = run(&mut transcoder, &frames);
        assert_eq!(transcoder.track().codec, Codec::Opus);
        assert_eq!(OpusHead::parse(&transcoder.track().config).unwrap().channels, channels);
        assert!(out.iter().all(|frame| frame.track == TrackId(5) && frame.is_key()));
        assert!(out.iter().all(|frame| packet_samples(&frame.data) == Ok(960)));
        assert_whole(&out, 960);
        assert_tone(transcoder.track(), &out, 3.0);
        let bits: usize = out.iter().map(|frame| frame.data.len() * 8).sum();
        assert!((40_000..90_000).contains(&(bits / 3)), "{bits} bits in 3 s");
        assert_eq!(
            transcoder.statistics(),
            Statistics { packets: frames.len() as u64, ..Statistics::default() }
        );
    }
}

#[test]
fn opus_becomes_aac_and_keeps_its_time() {
    for channels in [1, 2] {
        let (track, frames) = source(OPUS, channels, 3);
        let mut transcoder = Transcoder::new(&track, TrackId(5), AAC).unwrap();
        let out = run(&mut transcoder, &frames);
        let config = AudioSpecificConfig::parse(&transcoder.track().config).unwrap();
        assert_eq!((config.object_type, config.sample_rate, config.channels), (2, 48_000, channels));
        assert_eq!(transcoder.track().facts.rfc6381, "mp4a.40.2");
        assert_whole(&out, 1024);
        assert_tone(transcoder.track(), &out, 3.0);
        assert!(out[0].dts >= frames[0].dts, "nothing before the first");
    }
}

#[test]
fn the_delay_that_is_added_stays_below_60_ms() {
    for (from, to) in [(AAC, OPUS), (OPUS, AAC)] {
        let (track, frames) = source(from, 2, 2);
        let mut transcoder = Transcoder::new(&track, TrackId(0), to).unwrap();
        let each = frames[1].dts - frames[0].dts;
        let mut out = Vec::new();
        let mut worst = 0;
        for frame in &frames {
            transcoder.push(frame, &mut out);
            // Of the sound that has come, up to where has it gone out?
            if let Some(last) = out.last() {
                let len = if to == OPUS { 960 } else { 1024 };
                worst = worst.max(frame.dts + each - (last.dts + len));
            }
        }
        let ms = worst * 1000 / i64::from(RATE);
        assert!(ms < 60, "{} to {}: {ms} ms", from.codec(), to.codec());
    }
}

#[test]
fn g711_becomes_both() {
    for codec in [Codec::G711A, Codec::G711U] {
        let law = if codec == Codec::G711A { g711::a_law } else { g711::mu_law };
        let nearest = |sample: i16| (0..=255).min_by_key(|&byte| law(byte).abs_diff(sample)).unwrap();
        let mut track = Track::new(TrackId(1), codec);
        track.timescale = 8000;
        (track.facts.sample_rate, track.facts.channels) = (8000, 1);
        let sample = |n: i64| 10_000.0 * (TAU * HERTZ * n as f64 / 8000.0).sin();
        let frames: Vec<Frame> = (0..100)
            .map(|n| frame(n * 160, (n * 160..n * 160 + 160).map(|n| nearest(sample(n) as i16)).collect()))
            .collect();
        for target in [OPUS, AAC] {
            let mut transcoder = Transcoder::new(&track, TrackId(5), target).unwrap();
            let out = run(&mut transcoder, &frames);
            assert_whole(&out, if target == OPUS { 960 } else { 1024 });
            assert_tone(transcoder.track(), &out, 3.0);
        }
    }
}

#[test]
fn lost_packets_of_opus_leave_no_hole() {
    let (track, mut frames) = source(OPUS, 2, 4);
    let mut n = 0;
    frames.retain(|_| {
        n += 1;
        n % 25 != 0 && !(100..103).contains(&n)
    });
    let mut transcoder = Transcoder::new(&track, TrackId(0), AAC).unwrap();
    let out = run(&mut transcoder, &frames);
    assert_whole(&out, 1024);
    let statistics = transcoder.statistics();
    assert_eq!((statistics.restarts, statistics.dropped), (0, 0));
    assert_eq!(statistics.filled, 960 * (7 + 2));
    let (_, samples) = heard(transcoder.track(), &out);
    let (amplitude, share, _) = analyse(&samples[9600..]);
    assert!(amplitude > 7000.0 && share > 0.8, "{amplitude:.0} {share:.2}");
}

#[test]
fn holes_are_filled_and_long_ones_are_not() {
    let (track, frames) = source(AAC, 2, 8);
    let cut = |from: i64, to: i64| -> Vec<Frame> {
        frames.iter().filter(|frame| !(from * 48..to * 48).contains(&frame.dts)).cloned().collect()
    };
    let mut transcoder = Transcoder::new(&track, TrackId(0), OPUS).unwrap();
    assert_whole(&run(&mut transcoder, &cut(2000, 2900)), 960);
    assert_eq!(transcoder.statistics().restarts, 0);
    assert!((40_000..45_000).contains(&transcoder.statistics().filled), "{:?}", transcoder.statistics());

    let mut transcoder = Transcoder::new(&track, TrackId(0), OPUS).unwrap();
    let out = run(&mut transcoder, &cut(2000, 5000));
    assert_eq!((transcoder.statistics().restarts, transcoder.statistics().filled), (1, 0));
    let jumps: Vec<usize> = (1..out.len()).filter(|&n| out[n].dts - out[n - 1].dts != 960).collect();
    let [jump] = jumps[..] else { panic!("{jumps:?}") };
    assert!(out[jump].flags.has(Flags::DISCONTINUITY));
    assert!((out[jump].dts - 5000 * 48).abs() < 3000, "{}", out[jump].dts);
    assert_eq!(out.iter().filter(|frame| frame.flags.has(Flags::DISCONTINUITY)).count(), 1);
    // The source's own word for it.
    let mut told = frames.clone();
    told[100].flags = told[100].flags.with(Flags::DISCONTINUITY);
    let mut transcoder = Transcoder::new(&track, TrackId(0), OPUS).unwrap();
    run(&mut transcoder, &told);
    assert_eq!(transcoder.statistics().restarts, 1);
}

#[test]
fn a_clock_that_is_wrong_is_followed() {
    if std::env::var_os("RILLBOX_TEST_EMULATED").is_some() {
        // Two minutes of sound, encoded twice.
        return;
    }
    for (millionths, most_ms) in [(300, 10), (-300, 10), (0, 1)] {
        // RTMP's milliseconds, too.
        let (mut track, frames) = source(AAC, 2, 40);
        track.timescale = 1000;
        let skewed: Vec<Frame> = frames
            .iter()
            .map(|frame| Frame {
                dts: (frame.dts + 1600) * (1_000_000 + millionths) / 1_000_000 / 48,
                ..frame.clone()
            })
            .collect();
        let mut transcoder = Transcoder::new(&track, TrackId(0), OPUS).unwrap();
        let out = run(&mut transcoder, &skewed);
        assert_whole(&out, 960);
        let statistics = transcoder.statistics();
        assert_eq!((statistics.filled, statistics.dropped, statistics.restarts), (0, 0, 0));
        let end = out.last().unwrap().dts / 48 + 20;
        let off = skewed.last().unwrap().dts + 21 - end;
        assert!((0..=30 + most_ms).contains(&off), "{millionths}: {off} ms at the end");
    }
}

#[test]
fn jitter_of_times_is_no_hole() {
    let (mut track, frames) = source(AAC, 2, 10);
    track.timescale = 1000;
    let shaken: Vec<Frame> = frames
        .iter()
        .enumerate()
        .map(|(n, frame)| Frame { dts: frame.dts / 48 + 40 + (n as i64 * 37 % 60), ..frame.clone() })
        .collect();
    let mut transcoder = Transcoder::new(&track, TrackId(0), OPUS).unwrap();
    assert_whole(&run(&mut transcoder, &shaken), 960);
    assert_eq!(transcoder.statistics().filled + transcoder.statistics().dropped, 0);
}

#[test]
fn what_comes_twice_is_left_out() {
    let (track, frames) = source(AAC, 2, 4);
    let again: Vec<Frame> = frames[..120].iter().chain(&frames[100..]).cloned().collect();
    let mut transcoder = Transcoder::new(&track, TrackId(0), OPUS).unwrap();
    let out = run(&mut transcoder, &again);
    assert_whole(&out, 960);
    let statistics = transcoder.statistics();
    assert!((14..=20).contains(&statistics.dropped), "{statistics:?}");
    assert_eq!((statistics.restarts, statistics.filled), (0, 0));
}

#[test]
fn silence_of_a_source_does_not_hold_up_the_rest() {
    let (track, frames) = source(OPUS, 2, 2);
    let mut transcoder = Transcoder::new(&track, TrackId(0), AAC).unwrap();
    let mut out = run(&mut transcoder, &frames[..50]);
    let before = out.last().unwrap().dts;
    // Pictures go on for 400 ms.
    for n in 1..=20 {
        transcoder.wait_no_more(frames[49].dts + n * 960, 100, &mut out);
    }
    let after = out.last().unwrap().dts;
    assert!((250..=300).contains(&((after - before) / 48)), "{}", (after - before) / 48);
    transcoder.push(&frames[70], &mut out);
    assert_whole(&out, 1024);
}

#[test]
fn another_config_in_the_middle_changes_nothing_of_what_comes_out() {
    let (stereo, frames) = source(AAC, 2, 2);
    let (mono, more) = source(AAC, 1, 2);
    let mut transcoder = Transcoder::new(&stereo, TrackId(0), OPUS).unwrap();
    let told = transcoder.track().clone();
    let mut out = run(&mut transcoder, &frames);
    transcoder.change(&mono).unwrap();
    let later = |frame: &Frame| Frame { dts: frame.dts + frames.len() as i64 * 1024, ..frame.clone() };
    out.extend(run(&mut transcoder, &more.iter().map(later).collect::<Vec<_>>()));
    assert_whole(&out, 960);
    assert_eq!(*transcoder.track(), told);
    assert_tone(&told, &out[out.len() / 2 + 10..], 200.0);
    // Even to the codec that comes out, and back to none.
    transcoder.change(&source(OPUS, 2, 1).0).unwrap();
    let flac = Track::new(TrackId(1), Codec::Flac);
    assert_eq!(
        transcoder.change(&flac).unwrap_err().to_string(),
        "FLAC can't be turned into Opus; publish AAC or Opus"
    );
}

#[test]
fn six_channels_of_opus_are_heard() {
    let mapping =
        crate::media::opus::Mapping { family: 1, streams: 4, coupled: 2, channels: vec![0, 4, 1, 2, 3, 5] };
    let head = OpusHead { channels: 6, mapping: Some(mapping), ..OpusHead::new(2) };
    let mut track = Track::new(TrackId(0), Codec::Opus);
    (track.config, track.facts.channels) = (head.build().into(), 6);
    let transcoder = Transcoder::new(&track, TrackId(0), AAC).unwrap();
    assert_eq!(transcoder.track().facts.channels, 2);
}

#[test]
fn what_can_not_be_done_is_said() {
    let track = Track::new(TrackId(0), Codec::Ac3);
    assert!(matches!(Transcoder::new(&track, TrackId(0), OPUS), Err(SoundError::Unsupported { .. })));
    let mut main = Track::new(TrackId(0), Codec::Aac);
    assert!(
        matches!(Transcoder::new(&main, TrackId(0), OPUS), Err(SoundError::Packet(Codec::Aac))),
        "no config"
    );
    // AAC Main, with its prediction.
    main.config = Bytes::from_static(&[0x0A, 0x10]);
    assert!(matches!(Transcoder::new(&main, TrackId(0), OPUS), Err(SoundError::Library { .. })));
    assert!(can(Codec::Mp3, Codec::Opus) && !can(Codec::Opus, Codec::Opus) && !can(Codec::Opus, Codec::H264));
}

#[test]
fn times_at_the_ends_of_their_range_are_survived() {
    let (track, frames) = source(AAC, 2, 1);
    let mut transcoder = Transcoder::new(&track, TrackId(0), OPUS).unwrap();
    let mut out = Vec::new();
    for (n, frame) in frames.iter().enumerate() {
        let dts = [i64::MIN, i64::MAX, 0, i64::MAX - 5, i64::MIN + 5, -1][n % 6];
        transcoder.push(&Frame { dts, cts: i32::MAX, ..frame.clone() }, &mut out);
        transcoder.wait_no_more(dts, i64::MAX, &mut out);
        assert!(out.len() < 10_000);
    }
}

fn codecs() -> impl Strategy<Value = (Track, Target)> {
    let aac = AudioSpecificConfig::lc(44_100, 2).unwrap().build();
    let opus = OpusHead::new(2).build();
    prop_oneof![
        Just((Codec::Aac, aac, OPUS)),
        Just((Codec::Mp3, Vec::new(), OPUS)),
        Just((Codec::Opus, opus, AAC)),
        Just((Codec::G711A, Vec::new(), AAC)),
    ]
    .prop_map(|(codec, config, target)| {
        let mut track = Track::new(TrackId(0), codec);
        track.config = config.into();
        (track, target)
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn hostile_packets_are_survived(
        (track, target) in codecs(),
        packets in prop::collection::vec((-50..200_i64, prop::collection::vec(any::<u8>(), 0..600)), 1..20),
    ) {
        let mut transcoder = Transcoder::new(&track, TrackId(0), target).unwrap();
        let (mut dts, mut out) = (0, Vec::new());
        for (step, data) in packets {
            dts += step;
            transcoder.push(&frame(dts, data.into()), &mut out);
        }
        prop_assert!(out.len() < 20 * 120);
    }

    #[test]
    fn hostile_configs_are_survived(config in prop::collection::vec(any::<u8>(), 0..64), opus: bool) {
        let mut track = Track::new(TrackId(0), if opus { Codec::Opus } else { Codec::Aac });
        let magic: &[u8] = if opus { b"OpusHead\x01" } else { b"" };
        track.config = [magic, &config].concat().into();
        if let Ok(mut transcoder) = Transcoder::new(&track, TrackId(0), if opus { AAC } else { OPUS }) {
            let mut out = Vec::new();
            for n in 0..3 {
                transcoder.push(&frame(n * 20, config.clone().into()), &mut out);
            }
        }
    }

    #[test]
    fn damaged_packets_are_made_up_for(at in 0..60_usize, byte in 0..100_usize, value: u8, to_opus: bool) {
        let (from, to) = if to_opus { (AAC, OPUS) } else { (OPUS, AAC) };
        let (track, mut frames) = source(from, 2, 2);
        let frame = &mut frames[at];
        let mut data = frame.data.to_vec();
        let byte = byte % data.len();
        data[byte] ^= value;
        frame.data = data.into();
        let mut transcoder = Transcoder::new(&track, TrackId(0), to).unwrap();
        let out = run(&mut transcoder, &frames);
        prop_assert!(out.len() > 80);
        for pair in out.windows(2) {
            // A damaged packet of Opus may be one of another length.
            prop_assert!(pair[1].dts > pair[0].dts);
        }
    }
}
