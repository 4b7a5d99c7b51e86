//! Targets of RTP.

use std::time::{Duration, Instant};

use bytes::Bytes;
use rillbox::format::rtp::jitter::JitterBuffer;
use rillbox::format::rtp::rtcp::{self, Rtcp};
use rillbox::format::rtp::{self, Format, MAX_FRAME, Packet, Piece};
use rillbox::media::Codec;

const CODECS: [Codec; 13] = [
    Codec::Aac,
    Codec::Ac3,
    Codec::Av1,
    Codec::Eac3,
    Codec::G711A,
    Codec::H264,
    Codec::H265,
    Codec::Klv,
    Codec::Mp3,
    Codec::Opus,
    Codec::Vp8,
    Codec::Vp9,
    // With its config in band.
    Codec::Aac,
];

/// Packets of a codec that the first byte names, each after its length, into order and then into frames; whole packets, and
/// payloads in packets of ours.
pub fn rtp(data: &[u8]) {
    let Some((&choice, mut rest)) = data.split_first() else { return };
    let choice = usize::from(choice);
    let Some(&codec) = CODECS.get(choice % CODECS.len()) else { return };
    let latm = (choice % CODECS.len() == 12).then(Bytes::new);
    let format = Format { latm, ..Format::new(90_000) };
    let Some(mut frames) = rtp::depacketiser(codec, &format) else { return };
    let mut buffer = JitterBuffer::new(Duration::from_millis(50));
    let mut now = Instant::now();
    let mut number = 0u16;
    while let Some((&len, after)) = rest.split_first() {
        let (bytes, after) = after.split_at(after.len().min(len.into()));
        rest = after;
        now += Duration::from_millis(u64::from(len));
        let packet = if choice < 128 {
            let Some((&flags, payload)) = bytes.split_first() else { continue };
            number = number.wrapping_add(1 + u16::from(flags & 2 != 0));
            let [high, low] = number.to_be_bytes();
            let head = [0x80, flags & 0x80 | 96, high, low, 0, 0, 0, flags & 1, 0, 0, 0, 1];
            Packet::parse(&[&head, payload].concat().into())
        } else {
            Packet::parse(&Bytes::copy_from_slice(bytes))
        };
        let Ok(packet) = packet else { continue };
        let _ = (packet.extensions.iter().count(), rtp::starts_key(codec, &packet.payload));
        buffer.push(packet, now);
        buffer.ask(now, Duration::from_millis(20), &mut Vec::new());
        while let Some(ordered) = buffer.pop(now) {
            let Packet { header, payload, .. } = &ordered.packet;
            let lost = ordered.lost > 0;
            let piece = Piece { payload, marker: header.marker, timestamp: header.timestamp.into(), lost };
            frames.push(&piece, &mut |unit| assert!(!unit.data.is_empty() && unit.data.len() <= MAX_FRAME));
        }
    }
}

/// A compound of reports and feedback.
pub fn rtcp(data: &[u8]) {
    for packet in rtcp::packets(data).flatten() {
        match packet {
            Rtcp::SenderReport { reports, .. } | Rtcp::ReceiverReport { reports, .. } => {
                let _ = reports.iter().filter_map(|report| report.round_trip_us(1 << 40)).count();
            }
            Rtcp::Bye(ssrcs) => drop(ssrcs.iter().count()),
            Rtcp::Nack { lost, .. } => assert!(lost.iter().count() <= data.len() * 5),
            Rtcp::Fir { items, .. } => drop(items.iter().count()),
            Rtcp::Twcc(received) => assert!(received.iter().count() <= 65_535),
            _ => {}
        }
    }
}
