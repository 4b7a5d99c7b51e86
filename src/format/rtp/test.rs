//! Tests of all payload formats alike: there and back, with loss, and what nobody sends.

use bytes::Bytes;
use proptest::prelude::*;

use super::*;
use crate::media::nal::{nals, put_nal};
use crate::media::test::hex;
use crate::media::{Codec, TrackId};

/// A track with the parameter sets of a small picture.
fn h264_track() -> Track {
    let mut track = Track::new(TrackId(0), Codec::H264);
    let sets = crate::media::nal::ParamSets {
        sps: vec![hex("67 42C01E D9 00A0 47 FE C8").into()],
        pps: vec![hex("68 CE3C80").into()],
        ..Default::default()
    };
    // Whether they make sense is not ours to ask.
    let config = crate::media::h264::AvcConfig::new(sets).and_then(|config| config.build());
    track.config = config.unwrap_or_default();
    track
}

fn frame_of(nals: &[&[u8]]) -> Bytes {
    let mut data = Vec::new();
    nals.iter().for_each(|nal| put_nal(&mut data, nal));
    data.into()
}

/// A NAL unit of this length: head, then bytes that differ.
fn nal(head: &[u8], len: usize) -> Vec<u8> {
    let rest = (head.len()..len).map(|n| (n * 7 % 251) as u8 | 1);
    head.iter().copied().chain(rest).collect()
}

struct Line {
    sender: Box<dyn Packetise>,
    receiver: Box<dyn Depacketise>,
    timestamp: i64,
}

impl Line {
    fn new(codec: Codec, format: &Format) -> Self {
        let (sender, receiver) = (packetiser(codec, format).unwrap(), depacketiser(codec, format).unwrap());
        Self { sender, receiver, timestamp: 0 }
    }

    fn packets(&mut self, frame: &Bytes, key: bool) -> Vec<Payload> {
        let mut out = Vec::new();
        self.sender.frame(frame, key, &mut out);
        out
    }

    /// Sends a frame, without the packets of these places.
    fn send(&mut self, frame: &Bytes, key: bool, without: &[usize]) -> Vec<Unit> {
        let packets = self.packets(frame, key);
        self.give(&packets, without, false)
    }

    fn give(&mut self, packets: &[Payload], without: &[usize], mut lost: bool) -> Vec<Unit> {
        self.timestamp += 3000;
        let mut units = Vec::new();
        for (n, packet) in packets.iter().enumerate() {
            if without.contains(&n) {
                lost = true;
                continue;
            }
            let payload = Bytes::from([&packet.head[..], &packet.body].concat());
            let timestamp = self.timestamp + i64::from(packet.later);
            let piece = Piece {
                payload: &payload,
                marker: packet.marker,
                timestamp,
                lost: std::mem::take(&mut lost),
            };
            self.receiver.push(&piece, &mut |unit| units.push(unit));
        }
        units
    }
}

/// A frame of a codec of about this length.
fn sample(codec: Codec, len: usize) -> Bytes {
    match codec {
        Codec::H264 => frame_of(&[&nal(&[0x06, 5], 30), &nal(&[0x65, 0x88], len), &nal(&[0x65, 0x08], 60)]),
        Codec::H265 => frame_of(&[&nal(&[0x26, 1, 0x80], len), &nal(&[0x26, 1, 0x00], 100)]),
        // A sequence header, then a frame.
        Codec::Av1 => {
            let mut data = vec![0x0A, 3, 1, 2, 3, 0x32];
            let mut size = len;
            while size >= 0x80 {
                data.push(size as u8 | 0x80);
                size >>= 7;
            }
            data.push(size as u8);
            data.extend(nal(&[], len));
            data.into()
        }
        Codec::Ac3 | Codec::Eac3 => nal(&[0x0B, 0x77], len).into(),
        Codec::Klv => nal(&[0x06, 0x0E, 0x2B, 0x34], len).into(),
        // MPEG-1 layer III, 128 kbit/s, 44.1 kHz: 417 bytes.
        Codec::Mp3 => nal(&[0xFF, 0xFB, 0x90, 0x00], 417).into(),
        _ => nal(&[0x10, 2], len).into(),
    }
}

const ALL: [Codec; 13] = [
    Codec::Aac,
    Codec::Ac3,
    Codec::Av1,
    Codec::Eac3,
    Codec::G711A,
    Codec::G711U,
    Codec::H264,
    Codec::H265,
    Codec::Klv,
    Codec::Mp3,
    Codec::Opus,
    Codec::Vp8,
    Codec::Vp9,
];

fn format(codec: Codec) -> Format {
    Format { max_payload: 500, ..Format::new(if codec == Codec::Mp3 { 44_100 } else { 48_000 }) }
}

#[test]
fn frames_of_each_codec_come_back_whole() {
    for codec in ALL {
        for len in [10, 400, 495, 500, 501, 1000, 5000] {
            let mut line = Line::new(codec, &format(codec));
            for key in [true, false, false] {
                let frame = sample(codec, len);
                let packets = line.packets(&frame, key);
                assert!(packets.iter().all(|packet| packet.len() <= 500 || codec == Codec::Opus), "{codec}");
                let units = line.give(&packets, &[], false);
                let got: Vec<u8> = units.iter().flat_map(|unit| unit.data.clone()).collect();
                assert_eq!(got, frame, "{codec} of {len}");
                assert!(units.iter().all(|unit| !unit.lost));
                assert_eq!(units[0].timestamp, line.timestamp);
            }
        }
    }
}

#[test]
fn what_is_sent_together_is_of_one_length() {
    for codec in [Codec::H265, Codec::Vp8, Codec::Vp9] {
        let packets = Line::new(codec, &format(codec)).packets(&sample(codec, 5003), false);
        let lens: Vec<_> = packets.iter().map(Payload::len).collect();
        let same = lens.iter().filter(|len| **len == lens[0]).count();
        assert!(same + 2 >= lens.len() && lens.len() <= 13, "{codec}: {lens:?}");
    }
}

#[test]
fn a_frame_that_lost_a_packet_is_dropped_and_told() {
    for codec in [Codec::Av1, Codec::H264, Codec::H265, Codec::Klv, Codec::Vp8, Codec::Vp9] {
        let frame = sample(codec, 3000);
        let count = Line::new(codec, &format(codec)).packets(&frame, true).len();
        assert!(count > 5, "{codec}");
        // What H.264 sends before its first slice is no loss to the picture.
        for without in usize::from(codec == Codec::H264)..count {
            let mut line = Line::new(codec, &format(codec));
            assert_eq!(line.send(&frame, true, &[]).len(), 1);
            let mut units = line.send(&frame, true, &[without]);
            let packets = line.packets(&frame, true);
            // The last of a frame is missing: noticed only by the next.
            units.extend(line.give(&packets, &[], without + 1 == count));
            assert_eq!(units.len(), 1, "{codec} without {without}");
            assert_eq!((&units[0].data, units[0].timestamp), (&frame, line.timestamp));
            assert!(units[0].lost, "{codec} without {without}");
            let after = line.send(&frame, false, &[]);
            assert!(after.len() == 1 && !after[0].lost);
        }
    }
}

#[test]
fn h264_key_frames_come_after_their_parameter_sets() {
    let mut line = Line::new(Codec::H264, &Format::new(90_000));
    let track = h264_track();
    assert!(!track.config.is_empty());
    line.sender.set_track(&track);
    let frame = frame_of(&[&nal(&[0x65, 0x88], 5000)]);
    let packets = line.packets(&frame, true);
    assert_eq!(packets[0].head[0] & 31, 24, "STAP-A");
    assert!(packets[1..].iter().all(|packet| packet.head[0] & 31 == 28), "FU-A");
    assert_eq!(packets.iter().filter(|packet| packet.marker).count(), 1);
    let units = line.give(&packets, &[], false);
    let kinds: Vec<_> = nals(&units[0].data).map(|nal| nal[0] & 31).collect();
    assert_eq!(kinds, [7, 8, 5]);
    assert_eq!(line.packets(&frame, false).len(), packets.len() - 1);
    // Mode 0 has single units only.
    let mut line = Line::new(Codec::H264, &Format { fragments: false, ..Format::new(90_000) });
    line.sender.set_track(&track);
    let packets = line.packets(&frame_of(&[&nal(&[0x65, 0x88], 50)]), true);
    assert!(packets.len() == 3 && packets.iter().all(|packet| packet.head.is_empty()));
}

#[test]
fn the_first_packets_of_key_frames_are_known() {
    for codec in [Codec::Av1, Codec::H264, Codec::H265, Codec::Vp8, Codec::Vp9] {
        let mut line = Line::new(codec, &format(codec));
        line.sender.set_track(&h264_track());
        let shows = |packets: &[Payload]| -> Vec<bool> {
            packets.iter().map(|p| starts_key(codec, &[&p.head[..], &p.body].concat())).collect()
        };
        let (key, other) = match codec {
            Codec::Vp8 => (sample(codec, 2000), nal(&[0x11, 2], 2000).into()),
            Codec::H264 => (sample(codec, 2000), frame_of(&[&nal(&[0x61, 0x88], 2000)])),
            Codec::H265 => (sample(codec, 2000), frame_of(&[&nal(&[0x02, 1, 0x80], 2000)])),
            _ => (sample(codec, 2000), sample(codec, 2000)),
        };
        let packets = shows(&line.packets(&key, true));
        assert!(packets[..2].contains(&true) && !packets[2..packets.len() - 1].contains(&true), "{codec}");
        assert!(!shows(&line.packets(&other, false)).contains(&true), "{codec}");
    }
}

#[test]
fn h264_is_read_as_others_write_it() {
    let mut line = Line::new(Codec::H264, &Format::new(90_000));
    let packet = |bytes: &str, marker| Payload { marker, ..Payload::new(&[], hex(bytes).into()) };
    // STAP-B, an FU-B that an FU-A ends, and an empty unit in an aggregate.
    let units = line.give(
        &[
            packet("79 0000 0002 67AA 0000 0001 68", false),
            packet("7D 85 0001 88AA", false),
            packet("7C 45 BB", true),
        ],
        &[],
        false,
    );
    assert_eq!(units[0].data, hex("00000002 67AA 00000001 68 00000004 65 88AA BB")[..]);
    // No marker: the next timestamp ends the frame.
    assert!(line.give(&[packet("6188", false)], &[], false).is_empty());
    let units = line.give(&[packet("6199", true)], &[], false);
    assert_eq!(units.iter().map(|unit| unit.data[5]).collect::<Vec<_>>(), [0x88, 0x99]);
    // A unit without end, one without beginning, and aggregates that are cut.
    for broken in ["7C 85 88", "7C 05 88", "78 0009 68", "7F 00"] {
        assert!(line.give(&[packet(broken, true)], &[], false).is_empty(), "{broken}");
        let units = line.give(&[packet("6188", true)], &[], false);
        assert!(units.len() == 1 && units[0].lost, "{broken}");
    }
}

#[test]
fn aac_is_read_as_others_write_it() {
    let mut line = Line::new(Codec::Aac, &Format::new(48_000));
    // Three units in a packet.
    let packet =
        Payload { marker: true, ..Payload::new(&[], hex("0030 0010 0008 0018 AABB CC DDEEFF").into()) };
    let units = line.give(&[packet], &[], false);
    let got: Vec<_> = units.iter().map(|unit| (unit.timestamp - line.timestamp, unit.data.len())).collect();
    assert_eq!(got, [(0, 2), (1024, 1), (2048, 3)]);
    // Low bit rate: one byte a header.
    let mut line = Line::new(Codec::Aac, &Format { aac: AacFormat::LBR, ..Format::new(48_000) });
    assert_eq!(line.packets(&Bytes::from_static(b"abc"), true)[0].head, [0, 8, 12]);
    let units = line.send(&Bytes::from_static(b"abc"), true, &[]);
    assert_eq!(units[0].data, b"abc"[..]);
}

#[test]
fn latm_with_its_config_elsewhere() {
    // LC, 48 kHz, stereo.
    let config = Bytes::from(hex("40002320 3FC0"));
    let mut line = Line::new(Codec::Aac, &Format { latm: Some(config), ..Format::new(48_000) });
    let frame = Bytes::from(nal(&[], 1500));
    let units = line.send(&frame, true, &[]);
    assert_eq!(units[0].data, frame);
    assert_eq!(units[0].config.as_deref(), Some(&[0x11, 0x90][..]));
    assert_eq!(line.send(&frame, true, &[])[0].config, None);
}

#[test]
fn mpeg_audio_with_several_frames_in_a_packet() {
    let mut line = Line::new(Codec::Mp3, &Format::new(90_000));
    let frame = sample(Codec::Mp3, 0);
    let both = Bytes::from([&frame[..], &frame].concat());
    let units = line.send(&both, true, &[]);
    let got: Vec<_> = units.iter().map(|unit| (unit.timestamp - line.timestamp, unit.data.clone())).collect();
    assert_eq!(got, [(0, frame.clone()), (2351, frame)]);
}

#[test]
fn vp9_with_layers_and_references_is_read() {
    let mut line = Line::new(Codec::Vp9, &Format::new(90_000));
    let packet = |bytes: &str, marker| Payload { marker, ..Payload::new(&[], hex(bytes).into()) };
    let units = line.give(
        &[
            // I, L, B, V: a scalability structure of two layers with resolutions and a picture group.
            packet("AA 8001 00 00 38 0140 00B4 0280 0168 01 04 01 AABB", false),
            packet("A4 8001 03 00 CC", true),
        ],
        &[],
        false,
    );
    assert!(units.len() <= 1);
    let units = line.give(&[packet("DC 8002 03 02 DD", true)], &[], false);
    assert_eq!(units[0].data, hex("DD")[..], "flexible, two references");
}

proptest! {
    #[test]
    fn no_bytes_panic(
        packets in proptest::collection::vec(
            (proptest::collection::vec(any::<u8>(), 0..60), any::<bool>(), 0..3i64, any::<bool>()), 0..12)
    ) {
        for codec in ALL {
            for latm in [None, Some(Bytes::new())] {
                let format = Format { latm, ..Format::new(90_000) };
                let mut receiver = depacketiser(codec, &format).unwrap();
                let mut timestamp = 0;
                for (payload, marker, step, lost) in &packets {
                    timestamp += step;
                    let payload = Bytes::from(payload.clone());
                    let piece = Piece { payload: &payload, marker: *marker, timestamp, lost: *lost };
                    receiver.push(&piece, &mut |unit| assert!(!unit.data.is_empty()));
                    let _ = starts_key(codec, &payload);
                }
            }
        }
    }

    #[test]
    fn any_frame_is_laid_into_packets(data in proptest::collection::vec(any::<u8>(), 0..3000), key: bool) {
        let data = Bytes::from(data);
        for codec in ALL {
            let mut out = Vec::new();
            packetiser(codec, &format(codec)).unwrap().frame(&data, key, &mut out);
            prop_assert!(out.iter().all(|payload| !payload.is_empty()));
        }
    }
}
