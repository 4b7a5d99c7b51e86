//! What is received of one source, as its sender is told (RFC 3550 6.4.1, A.3, A.8).

use std::time::Instant;

use crate::format::rtp::Header;
use crate::format::rtp::clock::{Sequence, ntp_middle};
use crate::format::rtp::rtcp::Report;
use crate::media::rescale;

/// Counts packets of a source.
#[derive(Debug, Default)]
pub(super) struct Reception {
    sequence: Sequence,
    first: Option<u64>,
    highest: u64,
    received: u64,
    told: (u64, u64),
    /// In 16ths of a tick.
    jitter: i64,
    transit: Option<i64>,
    report: Option<(u32, Instant)>,
}

impl Reception {
    /// A packet came, `at` microseconds on our clock.
    pub(super) fn note(&mut self, header: &Header, clock_rate: u32, at: i64) {
        let full = self.sequence.unwrap(header.sequence);
        self.first.get_or_insert(full);
        self.highest = self.highest.max(full);
        self.received += 1;
        let arrival = rescale(at, 1_000_000, clock_rate) as u32;
        let transit = i64::from(arrival.wrapping_sub(header.timestamp) as i32);
        if let Some(before) = self.transit.replace(transit) {
            let difference = transit.saturating_sub(before).abs();
            // A jump is no jitter.
            if difference < i64::from(clock_rate) * 5 {
                self.jitter += difference - ((self.jitter + 8) >> 4);
            }
        }
    }

    /// Its sender's report came.
    pub(super) fn reported(&mut self, ntp: u64, now: Instant) {
        self.report = Some((ntp_middle(ntp), now));
    }

    /// What to tell the sender; `None`: nothing came yet.
    pub(super) fn report(&mut self, ssrc: u32, now: Instant) -> Option<Report> {
        let first = self.first?;
        let expected = self.highest.saturating_sub(first) + 1;
        let lost = expected as i64 - self.received as i64;
        let (expected_now, received_now) = (expected - self.told.0, self.received - self.told.1);
        self.told = (expected, self.received);
        let missed = expected_now.saturating_sub(received_now);
        let fraction = (missed * 256).checked_div(expected_now).unwrap_or(0).min(255);
        let (last_report, delay) = self.report.map_or((0, 0), |(middle, at)| {
            let gone = now.saturating_duration_since(at).as_micros() as u64;
            (middle, ((gone << 16) / 1_000_000).min(u64::from(u32::MAX)) as u32)
        });
        Some(Report {
            ssrc,
            fraction_lost: fraction as u8,
            lost: lost.clamp(-0x80_0000, 0x7F_FFFF) as i32,
            // Our count begins in the second round.
            highest: (self.highest.wrapping_sub(1 << 16)) as u32,
            jitter: (self.jitter >> 4).clamp(0, i64::from(u32::MAX)) as u32,
            last_report,
            delay,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn losses_and_jitter_are_counted() {
        let (mut reception, now) = (Reception::default(), Instant::now());
        assert_eq!(reception.report(1, now), None);
        for n in (0..100u16).filter(|n| n % 4 != 1) {
            let header = Header {
                sequence: 65_500u16.wrapping_add(n),
                timestamp: u32::from(n) * 3000,
                ..Header::default()
            };
            // Each second frame is 10 ms late.
            let late = if n % 4 == 2 { 10_000 } else { 0 };
            reception.note(&header, 90_000, i64::from(n) * 33_333 + late);
        }
        let report = reception.report(1, now).unwrap();
        assert_eq!((report.lost, report.fraction_lost, report.highest), (25, 64, 0x1_003F));
        assert!((400..900).contains(&report.jitter), "{}", report.jitter);
        reception.reported(0x1234_5678_9ABC_DEF0, now);
        let report = reception.report(1, now + std::time::Duration::from_millis(500)).unwrap();
        assert_eq!((report.fraction_lost, report.last_report, report.delay), (0, 0x5678_9ABC, 0x8000));
    }
}
