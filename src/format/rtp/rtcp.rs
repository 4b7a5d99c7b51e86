//! RTCP: reports (RFC 3550 6), feedback (RFC 4585, RFC 5104), REMB (draft-alvestrand-rmcat-remb-03) and transport-wide
//! feedback (draft-holmer-rmcat-transport-wide-cc-extensions-01).

mod twcc;

pub use self::twcc::{Arrivals, Received, TwccWriter};
use super::RtpError;

const SENDER_REPORT: u8 = 200;
const RECEIVER_REPORT: u8 = 201;
const DESCRIPTION: u8 = 202;
const BYE: u8 = 203;
const TRANSPORT_FEEDBACK: u8 = 205;
const PAYLOAD_FEEDBACK: u8 = 206;

/// The most bytes of a compound; a single packet may be longer.
const MAX_COMPOUND: usize = 1200;

/// A packet of a compound. Lists are read as they are asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Rtcp<'a> {
    /// What a sender has sent, and how its clock stands.
    SenderReport {
        /// Whose.
        ssrc: u32,
        /// Wall clock, 32.32 bits of seconds since 1900.
        ntp: u64,
        /// The same instant in ticks of the RTP clock.
        rtp: u32,
        /// Packets since the start.
        packets: u32,
        /// Bytes of their payloads.
        octets: u32,
        /// What it receives itself.
        reports: Reports<'a>,
    },
    /// What someone receives.
    ReceiverReport {
        /// Whose.
        ssrc: u32,
        /// Of each sender.
        reports: Reports<'a>,
    },
    /// These sources end.
    Bye(Ssrcs<'a>),
    /// These packets are missing.
    Nack {
        /// Who misses them.
        sender: u32,
        /// Whose packets.
        media: u32,
        /// Which.
        lost: Lost<'a>,
    },
    /// The picture is broken: a key frame is wanted.
    Pli {
        /// Who wants it.
        sender: u32,
        /// From whom.
        media: u32,
    },
    /// A key frame is wanted.
    Fir {
        /// Who wants it.
        sender: u32,
        /// From whom: of each item the first four bytes, then its number.
        items: FirItems<'a>,
    },
    /// So many bits per second seem possible.
    Remb {
        /// Who says it.
        sender: u32,
        /// Bits per second.
        bitrate: u64,
    },
    /// When packets came, by their transport-wide numbers.
    Twcc(Received<'a>),
    /// Anything else.
    Other {
        /// RTCP's packet type.
        packet_type: u8,
        /// Report count or feedback type.
        count: u8,
    },
}

/// The packets of a compound; ends after the first that can't be read, which is an error.
#[must_use]
pub fn packets(compound: &[u8]) -> Packets<'_> {
    Packets { rest: compound }
}

/// Iterator of [`packets`].
#[derive(Debug, Clone)]
pub struct Packets<'a> {
    rest: &'a [u8],
}

impl<'a> Iterator for Packets<'a> {
    type Item = Result<Rtcp<'a>, RtpError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let read = self.read();
        if read.is_err() {
            self.rest = &[];
        }
        Some(read)
    }
}

impl<'a> Packets<'a> {
    fn read(&mut self) -> Result<Rtcp<'a>, RtpError> {
        let len = self.rest.len();
        let truncated = |field| RtpError::Truncated { what: "RTCP packet", field, len };
        let &[first, packet_type, l0, l1] =
            self.rest.first_chunk::<4>().ok_or_else(|| truncated("header"))?;
        if first >> 6 != 2 {
            return Err(RtpError::Version(first >> 6));
        }
        let words = usize::from(u16::from_be_bytes([l0, l1]));
        let (packet, rest) = self.rest.split_at_checked(4 + 4 * words).ok_or_else(|| truncated("packet"))?;
        self.rest = rest;
        let mut body = packet.get(4..).unwrap_or_default();
        if first & 0x20 != 0 {
            let padding = usize::from(body.last().copied().unwrap_or(0));
            let end = body.len().checked_sub(padding).ok_or_else(|| truncated("padding"))?;
            body = body.get(..end).unwrap_or_default();
        }
        let count = first & 31;
        let other = Rtcp::Other { packet_type, count };
        let read = match (packet_type, count) {
            (SENDER_REPORT, _) => sender_report(body),
            (RECEIVER_REPORT, _) => {
                number(body).map(|(ssrc, rest)| Rtcp::ReceiverReport { ssrc, reports: Reports(rest) })
            }
            (BYE, count) => Some(Rtcp::Bye(Ssrcs(body.get(..4 * usize::from(count)).unwrap_or(body)))),
            (TRANSPORT_FEEDBACK, 1) => {
                feedback(body).map(|(sender, media, rest)| Rtcp::Nack { sender, media, lost: Lost(rest) })
            }
            (TRANSPORT_FEEDBACK, 15) => {
                feedback(body).and_then(|(_, _, rest)| Received::read(rest)).map(Rtcp::Twcc)
            }
            (PAYLOAD_FEEDBACK, 1) => feedback(body).map(|(sender, media, _)| Rtcp::Pli { sender, media }),
            (PAYLOAD_FEEDBACK, 4) => {
                feedback(body).map(|(sender, _, rest)| Rtcp::Fir { sender, items: FirItems(rest) })
            }
            (PAYLOAD_FEEDBACK, 15) => feedback(body).map(|(sender, _, rest)| match remb(rest) {
                Some(bitrate) => Rtcp::Remb { sender, bitrate },
                None => other,
            }),
            _ => Some(other),
        };
        read.ok_or_else(|| truncated("body"))
    }
}

fn number(data: &[u8]) -> Option<(u32, &[u8])> {
    let (number, rest) = data.split_first_chunk::<4>()?;
    Some((u32::from_be_bytes(*number), rest))
}

fn feedback(data: &[u8]) -> Option<(u32, u32, &[u8])> {
    let (sender, rest) = number(data)?;
    let (media, rest) = number(rest)?;
    Some((sender, media, rest))
}

fn sender_report(data: &[u8]) -> Option<Rtcp<'_>> {
    let (ssrc, rest) = number(data)?;
    let (high, rest) = number(rest)?;
    let (low, rest) = number(rest)?;
    let (rtp, rest) = number(rest)?;
    let (packets, rest) = number(rest)?;
    let (octets, rest) = number(rest)?;
    let ntp = u64::from(high) << 32 | u64::from(low);
    Some(Rtcp::SenderReport { ssrc, ntp, rtp, packets, octets, reports: Reports(rest) })
}

fn remb(data: &[u8]) -> Option<u64> {
    let rest = data.strip_prefix(b"REMB")?;
    let &[_count, a, b, c] = rest.first_chunk::<4>()?;
    let mantissa = u64::from(a & 3) << 16 | u64::from(b) << 8 | u64::from(c);
    Some(
        mantissa
            .checked_shl(u32::from(a >> 2))
            .filter(|rate| rate >> (a >> 2) == mantissa)
            .unwrap_or(u64::MAX),
    )
}

/// What is received of one sender (RFC 3550 6.4.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Report {
    /// The sender.
    pub ssrc: u32,
    /// Of 256 packets since the report before, so many were lost.
    pub fraction_lost: u8,
    /// Packets lost since the start; below zero where more came than were sent. 24 bits.
    pub lost: i32,
    /// The highest sequence number, and how often it went around.
    pub highest: u32,
    /// In ticks of the RTP clock.
    pub jitter: u32,
    /// The middle of the newest sender report's time; 0: there was none.
    pub last_report: u32,
    /// How long ago that came, in 1/65536 s.
    pub delay: u32,
}

impl Report {
    const LEN: usize = 24;

    fn read(bytes: &[u8]) -> Option<Self> {
        let (ssrc, rest) = number(bytes)?;
        let (lost, rest) = number(rest)?;
        let (highest, rest) = number(rest)?;
        let (jitter, rest) = number(rest)?;
        let (last_report, rest) = number(rest)?;
        let (delay, _) = number(rest)?;
        let fraction_lost = (lost >> 24) as u8;
        Some(Self { ssrc, fraction_lost, lost: (lost << 8) as i32 >> 8, highest, jitter, last_report, delay })
    }

    /// How long a packet takes there and back, in microseconds, when `now` (NTP) it came. `None`: it was not told.
    #[must_use]
    pub fn round_trip_us(&self, now: u64) -> Option<u64> {
        if self.last_report == 0 {
            return None;
        }
        let middle = super::clock::ntp_middle(now);
        let units = middle.wrapping_sub(self.last_report).wrapping_sub(self.delay);
        // Clocks that don't fit, and what was never true.
        (units < 60 << 16).then_some((u64::from(units) * 1_000_000) >> 16)
    }
}

macro_rules! list {
    ($name:ident, $item:ty, $len:expr, $doc:literal, $read:expr) => {
        #[doc = $doc]
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub struct $name<'a>(&'a [u8]);

        impl $name<'_> {
            /// Each of them.
            pub fn iter(&self) -> impl Iterator<Item = $item> {
                self.0.chunks_exact($len).filter_map($read)
            }
        }
    };
}

list!(Reports, Report, Report::LEN, "Reports of a packet.", Report::read);
list!(Ssrcs, u32, 4, "Sources that end.", |bytes| number(bytes).map(|(ssrc, _)| ssrc));
list!(FirItems, (u32, u8), 8, "Of whom key frames are wanted, and the number of each command.", |bytes| {
    let (ssrc, rest) = number(bytes)?;
    Some((ssrc, *rest.first()?))
});

/// Sequence numbers of packets that are missing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lost<'a>(&'a [u8]);

impl Lost<'_> {
    /// Each of them (RFC 4585 6.2.1): one, and a mask of the 16 that follow.
    pub fn iter(&self) -> impl Iterator<Item = u16> {
        let entries = self.0.chunks_exact(4).filter_map(|entry| {
            let &[p0, p1, m0, m1] = entry.first_chunk::<4>()?;
            Some((u16::from_be_bytes([p0, p1]), u16::from_be_bytes([m0, m1])))
        });
        entries.flat_map(|(first, mask)| {
            let rest = (0..16u16).filter(move |bit| mask >> bit & 1 == 1);
            std::iter::once(first).chain(rest.map(move |bit| first.wrapping_add(bit + 1)))
        })
    }
}

/// Writes compounds.
#[derive(Debug, Default)]
pub struct Writer {
    out: Vec<u8>,
}

impl Writer {
    /// What was written.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.out
    }

    /// What was written, in compounds that fit into a datagram each: cut between packets, where both sides agreed to
    /// compounds that begin with no report (RFC 5506).
    pub fn compounds(&self) -> impl Iterator<Item = &[u8]> {
        let mut rest = self.bytes();
        std::iter::from_fn(move || {
            let mut end = 0;
            while let Some(&[_, _, l0, l1]) = rest.get(end..).and_then(<[u8]>::first_chunk) {
                let next = end + 4 + 4 * usize::from(u16::from_be_bytes([l0, l1]));
                if end > 0 && next > MAX_COMPOUND {
                    break;
                }
                end = next;
            }
            let (compound, after) = rest.split_at_checked(end).filter(|_| end > 0)?;
            rest = after;
            Some(compound)
        })
    }

    /// Whether nothing was written.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.out.is_empty()
    }

    /// Begins anew.
    pub fn clear(&mut self) {
        self.out.clear();
    }

    fn packet(&mut self, packet_type: u8, count: u8, write: impl FnOnce(&mut Vec<u8>)) {
        let start = self.out.len();
        self.out.extend_from_slice(&[0x80 | count & 31, packet_type, 0, 0]);
        write(&mut self.out);
        let end = self.out.len().next_multiple_of(4);
        self.out.resize(end, 0);
        let words = ((end - start) / 4 - 1) as u16;
        if let Some(length) = self.out.get_mut(start + 2..start + 4) {
            length.copy_from_slice(&words.to_be_bytes());
        }
    }

    fn feedback(&mut self, kind: u8, count: u8, sender: u32, media: u32, write: impl FnOnce(&mut Vec<u8>)) {
        self.packet(kind, count, |out| {
            out.extend_from_slice(&sender.to_be_bytes());
            out.extend_from_slice(&media.to_be_bytes());
            write(out);
        });
    }

    /// What we have sent: wall clock `ntp` and the same instant `rtp` in ticks; packets and bytes so far.
    pub fn sender_report(&mut self, ssrc: u32, ntp: u64, rtp: u32, packets: u32, octets: u32) {
        self.packet(SENDER_REPORT, 0, |out| {
            out.extend_from_slice(&ssrc.to_be_bytes());
            out.extend_from_slice(&ntp.to_be_bytes());
            for number in [rtp, packets, octets] {
                out.extend_from_slice(&number.to_be_bytes());
            }
        });
    }

    /// What we receive, of up to 31 senders.
    pub fn receiver_report(&mut self, ssrc: u32, reports: &[Report]) {
        let reports = reports.get(..31).unwrap_or(reports);
        self.packet(RECEIVER_REPORT, reports.len() as u8, |out| {
            out.extend_from_slice(&ssrc.to_be_bytes());
            for report in reports {
                let lost = u32::from(report.fraction_lost) << 24
                    | report.lost.clamp(-0x80_0000, 0x7F_FFFF) as u32 & 0xFF_FFFF;
                let numbers =
                    [report.ssrc, lost, report.highest, report.jitter, report.last_report, report.delay];
                numbers.iter().for_each(|number| out.extend_from_slice(&number.to_be_bytes()));
            }
        });
    }

    /// The canonical name of a source, which it has in common with the sender's others (RFC 3550 6.5.1).
    pub fn description(&mut self, ssrc: u32, cname: &str) {
        let cname = cname.as_bytes().get(..cname.len().min(255)).unwrap_or_default();
        self.packet(DESCRIPTION, 1, |out| {
            out.extend_from_slice(&ssrc.to_be_bytes());
            out.extend_from_slice(&[1, cname.len() as u8]);
            out.extend_from_slice(cname);
            // The end of the list.
            out.push(0);
        });
    }

    /// A source ends.
    pub fn bye(&mut self, ssrc: u32) {
        self.packet(BYE, 1, |out| out.extend_from_slice(&ssrc.to_be_bytes()));
    }

    /// These packets are missing; in rising order, at most as many as a datagram has room for.
    pub fn nack(&mut self, sender: u32, media: u32, lost: impl IntoIterator<Item = u16>) {
        const MOST: usize = 250;
        let mut entries: heapless::Vec<(u16, u16), MOST> = heapless::Vec::new();
        for sequence in lost {
            if let Some((first, mask)) = entries.last_mut() {
                match sequence.wrapping_sub(*first) {
                    0 => continue,
                    ahead @ 1..=16 => {
                        *mask |= 1 << (ahead - 1);
                        continue;
                    }
                    _ => {}
                }
            }
            if entries.push((sequence, 0)).is_err() {
                break;
            }
        }
        if entries.is_empty() {
            return;
        }
        self.feedback(TRANSPORT_FEEDBACK, 1, sender, media, |out| {
            for (first, mask) in &entries {
                out.extend_from_slice(&first.to_be_bytes());
                out.extend_from_slice(&mask.to_be_bytes());
            }
        });
    }

    /// A key frame is wanted.
    pub fn pli(&mut self, sender: u32, media: u32) {
        self.feedback(PAYLOAD_FEEDBACK, 1, sender, media, |_| ());
    }

    /// A key frame is wanted; `number` counts the commands.
    pub fn fir(&mut self, sender: u32, media: u32, number: u8) {
        self.feedback(PAYLOAD_FEEDBACK, 4, sender, 0, |out| {
            out.extend_from_slice(&media.to_be_bytes());
            out.extend_from_slice(&[number, 0, 0, 0]);
        });
    }

    /// So many bits per second seem possible for these together.
    pub fn remb(&mut self, sender: u32, bitrate: u64, media: &[u32]) {
        let exponent = (64 - bitrate.leading_zeros()).saturating_sub(18);
        let mantissa = (bitrate >> exponent) as u32;
        self.feedback(PAYLOAD_FEEDBACK, 15, sender, 0, |out| {
            out.extend_from_slice(b"REMB");
            let number = (media.len() as u32 & 0xFF) << 24 | exponent << 18 | mantissa;
            out.extend_from_slice(&number.to_be_bytes());
            media.iter().for_each(|ssrc| out.extend_from_slice(&ssrc.to_be_bytes()));
        });
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(writer: &Writer) -> Vec<Rtcp<'_>> {
        packets(writer.bytes()).map(Result::unwrap).collect()
    }

    #[test]
    fn a_compound_is_read_as_it_was_written() {
        let mut writer = Writer::default();
        writer.sender_report(1, 0x1234_5678_9ABC_DEF0, 77, 8, 9);
        writer.description(1, "box");
        writer.bye(1);
        let report = Report {
            ssrc: 5,
            fraction_lost: 12,
            lost: -3,
            highest: 0x1_0005,
            jitter: 6,
            last_report: 7,
            delay: 8,
        };
        writer.receiver_report(2, &[report, report]);
        writer.pli(3, 4);
        writer.fir(3, 4, 200);
        let all = read(&writer);
        let Rtcp::SenderReport {
            ssrc: 1, ntp: 0x1234_5678_9ABC_DEF0, rtp: 77, packets: 8, octets: 9, ..
        } = all[0]
        else {
            panic!("{:?}", all[0]);
        };
        assert_eq!(all[1], Rtcp::Other { packet_type: DESCRIPTION, count: 1 });
        let Rtcp::Bye(ssrcs) = all[2] else { panic!() };
        assert_eq!(ssrcs.iter().collect::<Vec<_>>(), [1]);
        let Rtcp::ReceiverReport { ssrc: 2, reports } = all[3] else { panic!() };
        assert_eq!(reports.iter().collect::<Vec<_>>(), [report, report]);
        assert_eq!(all[4], Rtcp::Pli { sender: 3, media: 4 });
        let Rtcp::Fir { sender: 3, items } = all[5] else { panic!() };
        assert_eq!(items.iter().collect::<Vec<_>>(), [(4, 200)]);
    }

    // SRS encoded the mask wrong twice: the lowest bit is the packet after the first.
    #[test]
    fn the_mask_of_a_nack_counts_from_the_packet_after() {
        let mut writer = Writer::default();
        writer.nack(1, 2, [10, 11, 26, 27, 65535, 0, 15]);
        assert_eq!(writer.bytes()[12..], [0, 10, 0x80, 1, 0, 27, 0, 0, 0xFF, 0xFF, 0x80, 1]);
        let Rtcp::Nack { sender: 1, media: 2, lost } = read(&writer)[0] else { panic!() };
        assert_eq!(lost.iter().collect::<Vec<_>>(), [10, 11, 26, 27, 65535, 0, 15]);
        writer.clear();
        writer.nack(1, 2, []);
        assert!(writer.is_empty());
        writer.nack(1, 2, (0..10_000).map(|n| n * 20));
        assert!(writer.bytes().len() < 1100);
    }

    #[test]
    fn much_is_cut_between_packets() {
        let mut writer = Writer::default();
        assert_eq!(writer.compounds().count(), 0);
        for media in 0..50 {
            writer.nack(1, media, (0..media as u16).map(|n| n * 20));
            writer.pli(1, media);
        }
        let compounds: Vec<_> = writer.compounds().collect();
        assert!(compounds.len() > 4 && compounds.iter().all(|compound| compound.len() <= MAX_COMPOUND));
        assert!(compounds.iter().flat_map(|compound| packets(compound)).all(|packet| packet.is_ok()));
        assert_eq!(compounds.concat(), writer.bytes());
    }

    #[test]
    fn remb_has_an_exponent() {
        for bitrate in [0, 1, 262_143, 262_144, 5_000_000, 40_000_000_000] {
            let mut writer = Writer::default();
            writer.remb(1, bitrate, &[2, 3]);
            let Rtcp::Remb { sender: 1, bitrate: got } = read(&writer)[0] else { panic!() };
            assert!(got <= bitrate && got >= bitrate - bitrate / 100_000, "{bitrate}: {got}");
        }
        // Beyond what numbers have: that is much.
        let mut writer = Writer::default();
        writer.remb(1, 1, &[]);
        let mut bytes = writer.bytes().to_vec();
        bytes[17..20].fill(0xFF);
        assert_eq!(packets(&bytes).next(), Some(Ok(Rtcp::Remb { sender: 1, bitrate: u64::MAX })));
    }

    #[test]
    fn the_way_there_and_back() {
        let report = Report { last_report: 0x1_0000, delay: 0x8000, ..Report::default() };
        assert_eq!(report.round_trip_us(0x0000_0001_9000_0000 + 0x1_0000_0000 - 0x1_0000_0000), Some(62_500));
        assert_eq!(report.round_trip_us(0), None);
        assert_eq!(Report::default().round_trip_us(5 << 32), None);
    }

    #[test]
    fn what_is_cut_is_an_error() {
        let mut writer = Writer::default();
        writer.nack(1, 2, [3]);
        writer.sender_report(1, 2, 3, 4, 5);
        for len in 1..writer.bytes().len() {
            let cut = &writer.bytes()[..len];
            assert!(packets(cut).any(|packet| packet.is_err()) || len == 16);
        }
    }

    proptest! {
        #[test]
        fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..120), kind in 200..208u8) {
            let mut bytes = bytes;
            if let Some([first, second, l0, l1]) = bytes.first_chunk_mut::<4>() {
                (*first, *second, *l0) = (*first & 0x3F | 0x80, kind, 0);
                *l1 %= 30;
            }
            for packet in packets(&bytes).flatten() {
                match packet {
                    Rtcp::SenderReport { reports, .. } | Rtcp::ReceiverReport { reports, .. } => {
                        let _ = reports.iter().filter_map(|report| report.round_trip_us(1)).count();
                    }
                    Rtcp::Bye(ssrcs) => { ssrcs.iter().count(); }
                    Rtcp::Nack { lost, .. } => { lost.iter().count(); }
                    Rtcp::Fir { items, .. } => { items.iter().count(); }
                    Rtcp::Twcc(received) => { received.iter().count(); }
                    _ => {}
                }
            }
        }
    }
}
