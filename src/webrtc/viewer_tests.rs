// Methods have one lifetime each, where these closures have any.
#![allow(clippy::redundant_closure_for_method_calls)]

use bytes::Bytes;

use super::*;
use crate::format::rtp::rtcp::{Rtcp, packets};
use crate::format::rtp::{Head, Packet, Payload};
use crate::webrtc::negotiated::{Feedback, Flow, Format, Source};

const MS: Duration = Duration::from_millis(1);

/// What a viewer got.
#[derive(Default)]
struct Got {
    rtp: Vec<Bytes>,
    rtcp: Vec<Vec<u8>>,
}

impl Out for Got {
    fn rtp(&mut self, header: &[u8], payload: &[&[u8]]) {
        self.rtp.push([header, &payload.concat()].concat().into());
    }

    fn rtcp(&mut self, compound: &[u8]) {
        self.rtcp.push(compound.to_vec());
    }
}

impl Got {
    fn packets(&self) -> Vec<Packet> {
        self.rtp.iter().map(|bytes| Packet::parse(bytes).unwrap()).collect()
    }
}

fn negotiated(rtx: bool) -> Negotiated {
    let media = Media {
        mid: "1".to_owned(),
        kind: Kind::Video,
        payloads: vec![Agreed {
            codec: Codec::H264,
            number: 102,
            rtx: rtx.then_some(103),
            clock_rate: 90_000,
            channels: 0,
            format: Format::default(),
        }],
        sources: Vec::new(),
        layers: Vec::new(),
        ours: Source { ssrc: 1000, rtx: rtx.then_some(2000) },
        extensions: Extensions { mid: Some(4), abs_send_time: Some(3), ..Extensions::default() },
        feedback: Feedback { nack: true, ..Feedback::default() },
    };
    Negotiated { flow: Flow::Play, media: vec![media], cname: "box".to_owned() }
}

/// A picture of three packets a frame, 25 a second, and its viewer.
struct Scene {
    history: History,
    tracks: Tracks,
    now: Instant,
    frame: u32,
}

impl Scene {
    fn new(rtx: bool) -> Self {
        let now = Instant::now();
        Self { history: History::default(), tracks: Tracks::new(&negotiated(rtx), now), now, frame: 0 }
    }

    fn frame(&mut self, key: bool) {
        self.now += 40 * MS;
        for part in 0..3u8 {
            let body = vec![self.frame as u8, part].into();
            let payload = Payload { head: Head::new(), body, marker: part == 2, later: 0 };
            self.history.push(payload, self.frame.wrapping_mul(3600), key && part == 0, self.now);
        }
        self.frame += 1;
    }

    fn with<T>(&mut self, act: impl FnOnce(&mut Tracks, &[Shared<'_>], &mut Sending<'_>) -> T) -> (Got, T) {
        let mut got = Got::default();
        let clock = Some((1 << 32, 77));
        let shared = [Shared { kind: Kind::Video, codec: Codec::H264, history: &self.history, clock }];
        let send_time = [(self.frame >> 8) as u8, self.frame as u8, 0];
        let mut sending = Sending { out: &mut got, now: self.now, send_time };
        let result = act(&mut self.tracks, &shared, &mut sending);
        (got, result)
    }

    fn send(&mut self) -> Vec<Packet> {
        self.with(|tracks, shared, sending| tracks.send(shared, sending)).0.packets()
    }

    fn again(&mut self, missing: u16) -> Got {
        self.with(|tracks, shared, sending| tracks.again(1000, missing, shared, sending)).0
    }
}

#[test]
fn a_viewer_begins_at_a_key_frame_with_low_numbers() {
    let mut scene = Scene::new(true);
    scene.frame(false);
    assert!(scene.send().is_empty(), "no decoder can start here");
    for n in 0..10 {
        scene.frame(n == 4);
    }
    let packets = scene.send();
    assert_eq!(packets.len(), 18);
    let numbers: Vec<_> = packets.iter().map(|packet| packet.header.sequence).collect();
    assert_eq!(numbers, (1..19).collect::<Vec<u16>>());
    assert_eq!(&packets[0].payload[..], &[5, 0]);
    // What is old comes in haste: a millisecond a frame, and ends at the live edge.
    let edge = 10 * 3600;
    for (n, packet) in packets.iter().enumerate() {
        assert_eq!(packet.header.timestamp, edge - (5 - n as u32 / 3) * 90);
        assert_eq!((packet.header.ssrc, packet.header.payload_type), (1000, 102));
        assert_eq!(packet.header.marker, n % 3 == 2);
        assert_eq!(packet.extensions.find(4), Some(&b"1"[..]));
        assert!(packet.extensions.find(3).is_some());
    }
    scene.frame(false);
    let packets = scene.send();
    assert_eq!((packets.len(), packets[0].header.timestamp), (3, 11 * 3600));
    assert_eq!(packets[0].header.sequence, 19);
}

#[test]
fn a_long_past_is_sent_in_parts() {
    let mut scene = Scene::new(true);
    for n in 0..100 {
        scene.frame(n == 0);
    }
    let mut all = 0;
    loop {
        let (got, (_, more)) = scene.with(|tracks, shared, sending| tracks.send(shared, sending));
        all += got.rtp.len();
        assert!(got.rtp.len() <= BURST);
        if !more {
            break;
        }
    }
    assert_eq!(all, 300);
}

#[test]
fn what_is_missing_is_sent_again_by_rtx() {
    let mut scene = Scene::new(true);
    for n in 0..10 {
        scene.frame(n == 3);
    }
    let sent = scene.send();
    for (count, missing) in [2, 21].into_iter().enumerate() {
        let packets = scene.again(missing).packets();
        let original = &sent[usize::from(missing) - 1];
        let header = packets[0].header;
        assert_eq!((header.ssrc, header.payload_type, header.sequence), (2000, 103, count as u16 + 1));
        assert_eq!((header.timestamp, header.marker), (original.header.timestamp, original.header.marker));
        assert_eq!(packets[0].payload[..], [&missing.to_be_bytes()[..], &original.payload].concat());
    }
    for never_sent in [0, 22, 1000, 40_000] {
        assert!(scene.again(never_sent).rtp.is_empty(), "{never_sent}");
    }
}

// Two packets that differ, sealed with one nonce, would give the key of GCM away.
#[test]
fn without_rtx_a_packet_is_sent_again_as_it_was() {
    let mut scene = Scene::new(false);
    scene.frame(true);
    let (first, _) = scene.with(|tracks, shared, sending| tracks.send(shared, sending));
    for _ in 0..30 {
        scene.frame(false);
        scene.send();
    }
    let again = scene.again(2);
    assert_eq!(again.rtp, [first.rtp[1].clone()]);
}

// It would be sent as one of the codec that comes now.
#[test]
fn what_came_before_another_codec_is_not_sent_again() {
    let mut scene = Scene::new(false);
    scene.frame(true);
    assert_eq!(scene.send().len(), 3);
    assert_eq!(scene.again(2).rtp.len(), 1);
    scene.tracks.tracks[0].restart();
    assert!(scene.again(2).rtp.is_empty());
    scene.frame(true);
    assert_eq!(scene.send()[0].header.sequence, 4);
    assert!(scene.again(2).rtp.is_empty() && scene.again(5).rtp.len() == 1);
}

#[test]
fn who_asks_for_everything_gets_a_part() {
    let mut scene = Scene::new(true);
    let body = Bytes::from(vec![0; 1000]);
    let (mut sent, mut again) = (0, 0);
    for n in 0..1000u32 {
        scene.now += 10 * MS;
        let payload = Payload { head: Head::new(), body: body.clone(), marker: true, later: 0 };
        scene.history.push(payload, n * 900, n == 0, scene.now);
        let packets = scene.send();
        sent += packets.len();
        let newest = packets[0].header.sequence;
        for back in 0..50 {
            again += scene.again(newest.wrapping_sub(back)).rtp.len();
        }
    }
    assert_eq!(sent, 1000);
    // 120 KB at once, then 40 KB/s for 10 s.
    assert!((400..600).contains(&again), "{again}");
}

#[test]
fn numbers_go_on_where_a_viewer_fell_behind() {
    let mut scene = Scene::new(true);
    scene.frame(true);
    assert_eq!(scene.send().len(), 3);
    // All of what it should get next is gone.
    for n in 0..500 {
        scene.frame(n == 450);
    }
    assert!(scene.history.first() > 3);
    let packets = scene.send();
    assert_eq!((packets[0].header.sequence, packets[0].payload[0]), (4, (451u32 % 256) as u8));
    assert!(scene.again(2).rtp.is_empty());
}

#[test]
fn holes_stay_holes() {
    let mut scene = Scene::new(true);
    scene.frame(true);
    scene.send();
    scene.history.skip(2, scene.now);
    scene.frame(false);
    assert_eq!(scene.send()[0].header.sequence, 6);
    assert!(scene.again(4).rtp.is_empty());
    assert_eq!(scene.again(6).rtp.len(), 1);
}

#[test]
fn reports_tell_our_clock_each_second() {
    let mut scene = Scene::new(true);
    let report =
        |scene: &mut Scene| scene.with(|tracks, shared, sending| tracks.report(shared, sending)).0.rtcp;
    assert!(report(&mut scene).is_empty(), "nothing was sent yet");
    scene.frame(true);
    scene.send();
    let first = report(&mut scene);
    let all: Vec<_> = packets(&first[0]).map(Result::unwrap).collect();
    let Rtcp::SenderReport { ssrc: 1000, ntp, rtp: 77, packets: 3, octets: 6, .. } = all[0] else {
        panic!("{all:?}");
    };
    assert_eq!((ntp, all.len()), (1 << 32, 2));
    assert!(report(&mut scene).is_empty());
    scene.now += 1000 * MS;
    assert_eq!(report(&mut scene).len(), 1);
}
