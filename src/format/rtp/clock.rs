//! Counters that wrap, and senders' clocks.

/// Unwraps 16-bit sequence numbers (RFC 3550 A.1).
#[derive(Debug, Clone, Default)]
pub struct Sequence {
    newest: Option<u64>,
}

impl Sequence {
    /// The number in full, the nearest to the newest so far. Begins in the second round, so that what came before the
    /// first has a place, too.
    pub fn unwrap(&mut self, sequence: u16) -> u64 {
        let Some(newest) = self.newest else {
            let first = (1 << 16) + u64::from(sequence);
            self.newest = Some(first);
            return first;
        };
        let full = self.place(newest, sequence);
        self.newest = Some(newest.max(full));
        full
    }

    /// The number in full, and nothing changes. `None`: none was seen yet.
    #[must_use]
    pub fn look(&self, sequence: u16) -> Option<u64> {
        self.newest.map(|newest| self.place(newest, sequence))
    }

    fn place(&self, newest: u64, sequence: u16) -> u64 {
        let ahead = sequence.wrapping_sub(newest as u16) as i16;
        newest.saturating_add_signed(i64::from(ahead))
    }
}

/// Unwraps 32-bit timestamps.
#[derive(Debug, Clone, Default)]
pub struct Timestamps {
    last: Option<i64>,
}

impl Timestamps {
    /// The timestamp in full, the nearest to the one before.
    pub fn unwrap(&mut self, timestamp: u32) -> i64 {
        let full = self.look(timestamp);
        self.last = Some(full);
        full
    }

    /// The timestamp in full, and nothing changes.
    #[must_use]
    pub fn look(&self, timestamp: u32) -> i64 {
        match self.last {
            Some(last) => last.saturating_add(i64::from(timestamp.wrapping_sub(last as u32) as i32)),
            None => i64::from(timestamp),
        }
    }
}

/// Seconds from 1900 (NTP) to 1970 (Unix).
const NTP_TO_UNIX: u64 = 2_208_988_800;

/// An NTP timestamp (32.32 bits of seconds since 1900) in microseconds since 1970.
#[must_use]
pub fn ntp_to_unix_us(ntp: u64) -> i64 {
    let us = (ntp >> 32) as i64 * 1_000_000 + (((ntp & 0xFFFF_FFFF) * 1_000_000) >> 32) as i64;
    us - NTP_TO_UNIX as i64 * 1_000_000
}

/// Microseconds since 1970 as an NTP timestamp.
#[must_use]
pub fn unix_us_to_ntp(us: i64) -> u64 {
    let us = us.max(0) as u64;
    let (seconds, rest) = (us / 1_000_000, us % 1_000_000);
    (seconds.wrapping_add(NTP_TO_UNIX) << 32) | ((rest << 32) / 1_000_000)
}

/// The middle 32 bits of an NTP timestamp: what reports send back (`LSR`).
#[must_use]
pub fn ntp_middle(ntp: u64) -> u32 {
    (ntp >> 16) as u32
}

/// A jump of a track's place on the timeline that is made at once, in microseconds; smaller ones go slowly.
const JUMP: i64 = 500_000;
/// How much a place may move per microsecond that passes: a hundredth, which no one hears.
const SLEW: i64 = 100;

/// One sender's track on the timeline that all tracks of the sender share, in microseconds.
///
/// Until the sender tells its clock (RFC 3550 6.4.1), a track begins where it arrives. Then places follow what the
/// reports say: slowly, so that times never go back, unless they are far off.
#[derive(Debug, Clone)]
pub struct Place {
    clock_rate: u32,
    /// A timestamp, unwrapped, and where on the timeline it is; then the timestamps that follow are placed from there.
    anchor: Option<(i64, i64)>,
    /// By how much the anchor is to move, in microseconds.
    owed: i64,
    last: Option<i64>,
}

impl Place {
    /// A track whose timestamps have so many ticks a second.
    #[must_use]
    pub fn new(clock_rate: u32) -> Self {
        Self { clock_rate: clock_rate.max(1), anchor: None, owed: 0, last: None }
    }

    /// Where a timestamp is, in microseconds. `arrived`: where it would be, were it sent when it came; only the first
    /// one's is asked.
    pub fn at(&mut self, timestamp: i64, arrived: i64) -> i64 {
        let (from, at) = *self.anchor.get_or_insert((timestamp, arrived));
        let gone = self.ticks_to_us(timestamp.saturating_sub(from));
        let mut place = at.saturating_add(gone);
        if self.owed != 0 {
            let passed = place.saturating_sub(self.last.unwrap_or(place)).max(0);
            let step = if self.owed.abs() > JUMP { self.owed } else { self.owed.signum() * (passed / SLEW) };
            let step = if step.abs() > self.owed.abs() { self.owed } else { step };
            self.owed -= step;
            self.anchor = Some((from, at.saturating_add(step)));
            place = place.saturating_add(step);
        }
        self.last = Some(place);
        place
    }

    /// A report says where a timestamp is.
    pub fn correct(&mut self, timestamp: i64, place: i64) {
        let Some((from, at)) = self.anchor else {
            self.anchor = Some((timestamp, place));
            return;
        };
        let now = at.saturating_add(self.ticks_to_us(timestamp.saturating_sub(from)));
        self.owed = place.saturating_sub(now);
        // The anchor goes along, so that distances from it stay short.
        self.anchor = Some((timestamp, now));
    }

    /// Whether a timestamp was placed.
    #[must_use]
    pub fn is_placed(&self) -> bool {
        self.anchor.is_some()
    }

    /// Where a timestamp is as things stand; nothing changes.
    #[must_use]
    pub fn look(&self, timestamp: i64) -> Option<i64> {
        let (from, at) = self.anchor?;
        Some(at.saturating_add(self.ticks_to_us(timestamp.saturating_sub(from))))
    }

    fn ticks_to_us(&self, ticks: i64) -> i64 {
        crate::media::rescale(ticks, self.clock_rate, 1_000_000)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sequences_go_on_over_their_end() {
        let mut sequence = Sequence::default();
        let seen: Vec<_> = [0xFFFE, 0xFFFF, 1, 0, 2, 0xFFFD].map(|n| sequence.unwrap(n)).into();
        assert_eq!(seen, [0x1_FFFE, 0x1_FFFF, 0x2_0001, 0x2_0000, 0x2_0002, 0x1_FFFD]);
        assert_eq!(sequence.look(3), Some(0x2_0003));
        let mut sequence = Sequence::default();
        assert_eq!((sequence.unwrap(0), sequence.unwrap(0xFFFF)), (0x1_0000, 0xFFFF));
    }

    #[test]
    fn timestamps_go_on_over_their_end() {
        let mut timestamps = Timestamps::default();
        let seen: Vec<_> = [u32::MAX - 5, 10, u32::MAX].map(|t| timestamps.unwrap(t)).into();
        assert_eq!(seen, [i64::from(u32::MAX) - 5, (1 << 32) + 10, i64::from(u32::MAX)]);
    }

    #[test]
    fn ntp_there_and_back() {
        for us in [0, 1, 999_999, 1_700_000_000_123_456] {
            assert!((ntp_to_unix_us(unix_us_to_ntp(us)) - us).abs() <= 1, "{us}");
        }
        assert_eq!(unix_us_to_ntp(0) >> 32, NTP_TO_UNIX);
        assert_eq!(ntp_middle(0x1234_5678_9ABC_DEF0), 0x5678_9ABC);
    }

    #[test]
    fn a_report_moves_a_track_slowly() {
        let mut place = Place::new(90_000);
        assert_eq!(place.at(1000, 5_000_000), 5_000_000);
        assert_eq!(place.at(91_000, 0), 6_000_000);
        // 40 ms late.
        place.correct(91_000, 6_040_000);
        let mut last = 6_000_000;
        for n in 1..=200i64 {
            let at = place.at(91_000 + n * 3600, 0);
            assert!((40_000..=40_400).contains(&(at - last)), "{}", at - last);
            last = at;
        }
        assert_eq!(last, 6_000_000 + 200 * 40_000 + 40_000);
        // Early: never back.
        place.correct(91_000 + 200 * 3600, last - 100_000);
        for n in 201..=1000i64 {
            let at = place.at(91_000 + n * 3600, 0);
            assert!((39_600..=40_000).contains(&(at - last)), "{}", at - last);
            last = at;
        }
        assert_eq!(last, 6_040_000 - 100_000 + 1000 * 40_000);
    }

    #[test]
    fn what_is_far_off_jumps() {
        let mut place = Place::new(48_000);
        place.at(0, 0);
        place.correct(0, 10_000_000);
        assert_eq!(place.at(480, 0), 10_010_000);
    }
}
