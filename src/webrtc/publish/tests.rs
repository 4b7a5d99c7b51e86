use super::*;
use crate::config::Shared;
use crate::format::rtp::rtcp::{Rtcp, Writer, packets};
use crate::format::rtp::{Format, Header, HeaderBytes, Packetise, Payload, packetiser, write_header};
use crate::hub::{Client, ClientKind, Frames, Hub, Item};
use crate::media::nal::put_nal;
use crate::media::test::hex;
use crate::media::{Codec, Frame, Kind, Track, TrackId};
use crate::webrtc::dtls::Certificate;
use crate::webrtc::endpoint::EndpointOptions;
use crate::webrtc::fanout::Fanouts;
use crate::webrtc::negotiated::{Extensions, Feedback, Flow, Layer, Media, Payload as Agreed, Source};

const MS: Duration = Duration::from_millis(1);

fn media(kind: Kind, codec: Codec, number: u8, layers: &[&str]) -> Media {
    let clock_rate = if kind == Kind::Video { 90_000 } else { 48_000 };
    let rtx = (kind == Kind::Video).then_some(number + 1);
    Media {
        mid: if kind == Kind::Video { "1" } else { "0" }.to_owned(),
        kind,
        payloads: vec![Agreed { codec, number, rtx, clock_rate, channels: 2, format: Default::default() }],
        sources: Vec::new(),
        layers: layers.iter().map(|rid| Layer { rid: (*rid).to_owned(), paused: false }).collect(),
        ours: Source { ssrc: 1, rtx: None },
        extensions: Extensions { mid: Some(4), rid: Some(5), transport_cc: Some(6), ..Extensions::default() },
        feedback: Feedback { nack: true, pli: true, transport_cc: true, ..Feedback::default() },
    }
}

/// A publisher of picture and sound that sends to a receiver, by a made-up clock.
struct Scene {
    receiver: Receiver,
    frames: Frames,
    video: Box<dyn Packetise>,
    sequence: [u16; 4],
    transport: u16,
    /// Counts sources that took the place of others.
    ssrc: u32,
    start: Instant,
    now: Instant,
    #[cfg_attr(not(feature = "transcode-audio"), expect(dead_code, reason = "asked for readers"))]
    hub: Hub,
    _endpoint: Endpoint,
}

impl Scene {
    fn new(layers: &[&str]) -> Self {
        let hub = Hub::new(Shared::default());
        let certificate = Certificate::generate().unwrap();
        let local = [([127, 0, 0, 1], 0).into()];
        let endpoint = Endpoint::bind(&local, &[], EndpointOptions::new(certificate)).unwrap();
        let name = hub.name("", "live", "demo").unwrap();
        let now = Instant::now();
        let client = Client::new(SessionId::next(), ClientKind::FmlePublish, ([127, 0, 0, 1], 1).into());
        let publisher = hub.publish_now(&name, client, now).unwrap();
        let frames = hub.frames(&name, 1 << 20).unwrap();
        let passage = Fanouts::new(hub.clone(), endpoint.clone()).passage(&name);
        let media =
            vec![media(Kind::Audio, Codec::Opus, 111, &[]), media(Kind::Video, Codec::H264, 96, layers)];
        let negotiated = Negotiated { flow: Flow::Publish, media, cname: "box".to_owned() };
        let options = PublishOptions {
            to_others: true,
            key_frame_interval: Duration::from_secs(6),
            nack: true,
            timeout: Duration::from_secs(30),
        };
        let receiver = Receiver::new(negotiated, publisher, passage, SessionId::next(), options, now);
        let video = packetiser(Codec::H264, &Format::new(90_000)).unwrap();
        Self {
            receiver,
            frames,
            video,
            sequence: [65_530, 100, 200, 300],
            transport: 0,
            ssrc: 0,
            start: now,
            now,
            hub,
            _endpoint: endpoint,
        }
    }

    fn at(&mut self, ms: u64) {
        self.now = self.start + Duration::from_millis(ms);
        self.receiver.poll(self.now).unwrap();
    }

    fn packets(&mut self, source: usize, rid: &str, timestamp: u32, payloads: &[Payload]) -> Vec<Bytes> {
        let mut all = Vec::new();
        for payload in payloads {
            let payload_type = if source == 0 { 111 } else { 96 };
            let sequence = self.sequence[source];
            self.sequence[source] = sequence.wrapping_add(1);
            let header = Header {
                marker: payload.marker,
                payload_type,
                sequence,
                timestamp,
                ssrc: 10 + source as u32 + 4 * self.ssrc,
            };
            let mut out = HeaderBytes::new();
            let mid: &[u8] = if source == 0 { b"0" } else { b"1" };
            let transport = self.transport.to_be_bytes();
            self.transport = self.transport.wrapping_add(1);
            let rid = (if rid.is_empty() { 0 } else { 5 }, rid.as_bytes());
            write_header(&header, &[(4, mid), rid, (6, &transport)], &mut out);
            all.push([&out[..], &payload.head, &payload.body].concat().into());
        }
        all
    }

    fn send(&mut self, packets: &[Bytes]) {
        for packet in packets {
            self.receiver.rtp(packet, self.now).unwrap();
        }
    }

    /// A picture in five packets; a key frame with its parameter sets.
    fn picture(&mut self, source: usize, rid: &str, timestamp: u32, key: bool) -> Vec<Bytes> {
        let mut data = Vec::new();
        if key {
            put_nal(
                &mut data,
                &hex("67 64001F AC D9 40 50 05 BB 01 6A 02 02 02 80 00 00 03 00 80 00 00 1E 07 8C 18 CB"),
            );
            put_nal(&mut data, &hex("68 EB E3 CB 22 C0"));
        }
        let head = if key { [0x65, 0x88] } else { [0x61, 0x88] };
        put_nal(&mut data, &[&head[..], &[0x5A; 4000]].concat());
        let mut payloads = Vec::new();
        self.video.frame(&data.into(), key, &mut payloads);
        self.packets(source, rid, timestamp, &payloads)
    }

    fn sound(&mut self, timestamp: u32) {
        let body = Bytes::from_static(&[0xFC, 1, 2, 3]);
        let payload = Payload { head: Default::default(), body, marker: false, later: 0 };
        let packets = self.packets(0, "", timestamp, &[payload]);
        self.send(&packets);
    }

    fn report(&mut self, ssrc: u32, ntp_us: i64, timestamp: u32) {
        let mut out = Writer::default();
        out.sender_report(ssrc, crate::format::rtp::clock::unix_us_to_ntp(ntp_us), timestamp, 1, 1);
        self.receiver.rtcp(out.bytes(), self.now);
    }

    /// What readers got.
    fn got(&mut self) -> (Vec<Track>, Vec<Frame>) {
        let (mut all, mut frames) = (Vec::new(), Vec::new());
        while let Some(item) = self.frames.ready() {
            match item {
                Item::Tracks { tracks, .. } => all = tracks.to_vec(),
                Item::Frame(frame) => frames.push(frame),
                _ => {}
            }
        }
        (all, frames)
    }

    fn pictures(&mut self) -> Vec<Frame> {
        let (_, frames) = self.got();
        frames.into_iter().filter(|frame| frame.track == TrackId(1)).collect()
    }

    /// What the publisher was told.
    fn told(&mut self) -> (Vec<u16>, usize, usize) {
        let (mut missing, mut plis, mut reports) = (Vec::new(), 0, 0);
        let bytes = self.receiver.take_output();
        for packet in packets(bytes.bytes()).map(Result::unwrap) {
            match packet {
                Rtcp::Nack { lost, .. } => missing.extend(lost.iter()),
                Rtcp::Pli { .. } => plis += 1,
                Rtcp::Twcc(_) | Rtcp::ReceiverReport { .. } => reports += 1,
                _ => {}
            }
        }
        (missing, plis, reports)
    }
}

#[tokio::test]
async fn picture_and_sound_come_in_step() {
    let mut scene = Scene::new(&[]);
    // The picture's packets take 80 ms longer than the sound's, which the reports show.
    for n in 0..200u32 {
        scene.at(u64::from(n) * 20);
        scene.sound(5_000 + n * 960);
        if n % 2 == 0 && n >= 4 {
            let packets = scene.picture(1, "", 900_000 + (n - 4) * 1800, n % 50 == 4);
            scene.send(&packets);
        }
        if n % 50 == 10 {
            scene.report(10, 1_700_000_000_000_000 + i64::from(n) * 20_000, 5_000 + n * 960);
            scene.report(11, 1_700_000_000_000_000 + i64::from(n) * 20_000, 900_000 + n * 1800);
        }
    }
    let (tracks, frames) = scene.got();
    let made = cfg!(feature = "transcode-audio");
    let codec = if made { Codec::Aac } else { Codec::Opus };
    assert_eq!(tracks.iter().map(|track| track.codec).collect::<Vec<_>>(), [codec, Codec::H264]);
    assert_eq!((tracks[1].facts.width, tracks[1].facts.height), (1280, 720));
    let of = |id: u8| frames.iter().filter(move |frame| frame.track == TrackId(id));
    assert!(of(0).count() >= 180 && of(1).count() >= 95, "{} {}", of(0).count(), of(1).count());
    for (id, step) in [(0, if made { 1024 } else { 960 }), (1, 3600)] {
        let times: Vec<_> = of(id).map(|frame| frame.dts).collect();
        assert!(times.windows(2).all(|t| (t[1] - t[0] - step).abs() <= step / 50), "{times:?}");
    }
    let last = |id, rate| of(id).last().map(|frame| frame.dts * 1000 / rate).unwrap();
    // The last picture's time is that of the sound 80 ms before the end, less what is still owed.
    let (sound, picture) = (last(0, 48_000), last(1, 90_000));
    assert!(
        (95..=125).contains(&(sound - picture)) || (0..=125).contains(&(sound - picture)),
        "{sound} {picture}"
    );
    assert!(of(1).all(|frame| frame.cts == 0) && of(1).next().unwrap().is_key());
    let (missing, plis, reports) = scene.told();
    assert!(missing.is_empty() && plis <= 1 && reports > 10, "{plis} {reports}");
}

#[cfg(feature = "transcode-audio")]
#[tokio::test]
async fn sound_is_made_for_others_only_while_there_are_some() {
    let mut scene = Scene::new(&[]);
    let name = scene.hub.name("", "live", "demo").unwrap();
    let aside = |scene: &Scene| scene.hub.frames(&name, 1 << 20).unwrap().aside();
    scene.frames = aside(&scene);
    let key = scene.picture(1, "", 0, true);
    scene.send(&key);
    let send = |scene: &mut Scene, from: u32| {
        for n in from..from + 50 {
            scene.at(u64::from(n) * 20);
            scene.sound(n * 960);
        }
        let picture = scene.picture(1, "", (from + 50) * 1800, false);
        scene.send(&picture);
        let (tracks, frames) = scene.got();
        (tracks, frames.into_iter().filter(|frame| frame.track == TrackId(0)).count())
    };
    let (tracks, count) = send(&mut scene, 0);
    assert!(tracks.iter().any(|track| track.codec == Codec::Aac), "said at once: {tracks:?}");
    assert_eq!(count, 0);
    scene.frames = scene.hub.frames(&name, 1 << 20).unwrap();
    let (_, count) = send(&mut scene, 50);
    assert!((40..50).contains(&count), "{count} packets of a second");
    scene.frames = aside(&scene);
    scene.got();
    assert_eq!(send(&mut scene, 100).1, 0);
}

#[tokio::test]
async fn losses_are_asked_for_and_made_good() {
    let mut scene = Scene::new(&[]);
    scene.sound(0);
    let key = scene.picture(1, "", 0, true);
    scene.send(&key);
    scene.told();
    let next = scene.picture(1, "", 3000, false);
    scene.send(&[next[0].clone(), next[2].clone(), next[3].clone()]);
    scene.at(10);
    let missing = u16::from_be_bytes([next[1][2], next[1][3]]);
    assert_eq!(scene.told().0, [missing]);
    // It comes by RTX: another source and number, the old number before the payload.
    let packet = crate::format::rtp::Packet::parse(&next[1]).unwrap();
    let header = Header { payload_type: 97, sequence: 9, ssrc: 99, ..packet.header };
    let mut out = HeaderBytes::new();
    write_header(&header, &[(4, b"1")], &mut out);
    let again: Bytes = [&out[..], &missing.to_be_bytes(), &packet.payload].concat().into();
    scene.send(&[again]);
    scene.at(20);
    assert_eq!(scene.pictures().len(), 2);
    assert!(scene.told().0.is_empty());
}

#[tokio::test]
async fn what_is_lost_for_good_is_told_and_a_key_frame_asked_for() {
    let mut scene = Scene::new(&[]);
    scene.sound(0);
    let key = scene.picture(1, "", 0, true);
    scene.send(&key);
    scene.at(1);
    scene.told();
    let broken = scene.picture(1, "", 3000, false);
    scene.send(&broken[1..]);
    let next = scene.picture(1, "", 6000, false);
    scene.send(&next);
    scene.at(600);
    assert_eq!(scene.pictures().len(), 1, "what follows refers to what is missing");
    assert_eq!(scene.told().1, 1);
    let key = scene.picture(1, "", 54_000, true);
    scene.send(&key);
    let frames = scene.pictures();
    assert!(frames.len() == 1 && frames[0].is_key());
}

#[tokio::test]
async fn of_several_layers_the_best_is_taken_and_left_when_it_ends() {
    let mut scene = Scene::new(&["l", "h"]);
    let mut keys = 0;
    for n in 0..200u64 {
        scene.at(n * 40);
        let (_, plis, _) = scene.told();
        keys += plis;
        let key = n == 0 || plis > 0;
        // The good one has other timestamps, and half as many pictures again; it ends.
        let timestamp = n as u32 * 3600;
        let low = scene.picture(1, "l", timestamp, key);
        scene.send(&low);
        if n < 120 {
            let high = scene.picture(2, "h", timestamp.wrapping_add(0x9000_0000), key);
            scene.send(&high);
            let high = scene.picture(2, "h", timestamp.wrapping_add(0x9000_0000 + 1800), false);
            scene.send(&high);
        }
    }
    assert!(keys >= 2, "{keys}");
    let (_, frames) = scene.got();
    assert!(frames.windows(2).all(|pair| pair[1].dts > pair[0].dts));
    // One picture each 40 ms at both ends, twice as many between.
    assert!((250..330).contains(&frames.len()), "{}", frames.len());
}

#[tokio::test]
async fn a_clock_that_is_set_moves_nothing() {
    let mut scene = Scene::new(&[]);
    let (mut wall, mut pictures) = (1_700_000_000_000_000, Vec::new());
    for n in 0..300u32 {
        let ms = u64::from(n) * 20;
        scene.at(ms);
        scene.sound(n * 960);
        let packets = scene.picture(1, "", n * 1800, n == 0);
        scene.send(&packets);
        // An hour ahead, then two back.
        wall +=
            [(100, 3_600_000_000), (200, -7_200_000_000)].iter().find(|step| step.0 == n).map_or(0, |s| s.1);
        if n % 20 == 10 {
            scene.report(10, wall + ms as i64 * 1000, n * 960);
            scene.report(11, wall + ms as i64 * 1000, n * 1800);
        }
        pictures.extend(scene.pictures());
    }
    assert!(pictures.windows(2).all(|pair| (1780..=1820).contains(&(pair[1].dts - pair[0].dts))));
    assert_eq!(pictures.len(), 300);
}

#[tokio::test]
async fn a_source_that_begins_anew_goes_on_where_it_was() {
    let mut scene = Scene::new(&[]);
    let (mut late, mut frames) = (Vec::new(), Vec::new());
    // More of them than may be known at once; each has other numbers, timestamps and a clock of its own.
    for part in 0..30u32 {
        let source = 1 + part as usize % 3;
        scene.ssrc = part;
        scene.sequence[source] = (part as u16).wrapping_mul(20_000);
        let base = part.wrapping_mul(0x5000_0000);
        for n in 0..30u32 {
            scene.at(u64::from(part * 30 + n) * 40);
            let packets = scene.picture(source, "", base.wrapping_add(n * 3600), n == 0);
            scene.send(&packets);
            scene.send(&late);
            late.clear();
            if n == 29 {
                late = packets;
            }
        }
        frames.extend(scene.pictures());
    }
    assert_eq!(frames.len(), 900);
    assert!(frames.windows(2).all(|pair| (3500..3700).contains(&(pair[1].dts - pair[0].dts))));
    assert!(frames.iter().step_by(30).all(Frame::is_key));
}

#[tokio::test]
async fn a_layer_that_ends_before_it_is_passed_on_is_not_asked() {
    let mut scene = Scene::new(&["l", "h"]);
    let mut asked = Vec::new();
    for n in 0..250u64 {
        scene.at(n * 40);
        let told = scene.receiver.take_output();
        asked.extend(packets(told.bytes()).flatten().filter_map(|packet| match packet {
            Rtcp::Pli { media, .. } => Some((n, media)),
            _ => None,
        }));
        let low = scene.picture(1, "l", n as u32 * 3600, n == 0);
        // Nothing of the good one's first picture, and never another key frame.
        let high = scene.picture(2, "h", n as u32 * 3600, false);
        let high_too = scene.picture(2, "h", n as u32 * 3600 + 1800, false);
        // A picture is lost.
        scene.send(if n == 200 { &low[1..] } else { &low });
        if n < 80 {
            scene.send(&high);
            scene.send(&high_too);
        }
    }
    assert!(asked.iter().any(|(n, media)| *n < 80 && *media == 12), "{asked:?}");
    assert!(asked.iter().any(|(n, media)| *n > 200 && *media == 11), "{asked:?}");
    assert!(!asked.iter().any(|(n, media)| *n > 130 && *media == 12), "{asked:?}");
}

#[tokio::test]
async fn strangers_are_not_heard() {
    let mut scene = Scene::new(&["l", "h"]);
    let header = Header { payload_type: 96, ..Header::default() };
    for ssrc in 0..1000 {
        let mut out = HeaderBytes::new();
        write_header(&Header { ssrc, ..header }, &[(5, b"x")], &mut out);
        scene.send(&[Bytes::copy_from_slice(&out)]);
    }
    scene.send(&[Bytes::from_static(b"\x80"), Bytes::new()]);
    scene.at(1000 * MS.as_millis() as u64);
    assert!(scene.got().1.is_empty());
}
