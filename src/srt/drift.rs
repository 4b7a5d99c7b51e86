//! The sender's clock as we see it: 32-bit timestamps made whole, and its drift (draft-sharabayko-srt-01, section 4.7).

/// Measurements that a correction is made of: ten seconds of acknowledgements.
const SAMPLES: u32 = 1000;
/// Where acknowledgements are rare, fewer are enough after so long (µs).
const FEW: u32 = 20;
const PERIOD: u64 = 10_000_000;
/// A correction up to this stays one; what is more moves the base for good (µs).
const MAX_DRIFT: i64 = 5_000;
/// A packet can't be from further in the future than this: its sender's clock jumped.
const AHEAD: u64 = 1_000_000;

/// Maps the sender's time to ours.
#[derive(Debug)]
pub(super) struct Clock {
    /// Our time when the sender's was 0, in µs; before our begin it is negative.
    base: i64,
    /// The newest timestamp, whole.
    newest: i64,
    drift: i64,
    sum: i64,
    samples: u32,
    /// When the first of these came.
    since: u64,
    first_rtt: Option<i64>,
}

impl Clock {
    /// Of a handshake with this timestamp that came at `arrival`.
    pub(super) fn new(arrival: u64, timestamp: u32) -> Self {
        let newest = i64::from(timestamp);
        Self {
            base: arrival.cast_signed() - newest,
            newest,
            drift: 0,
            sum: 0,
            samples: 0,
            since: 0,
            first_rtt: None,
        }
    }

    /// A timestamp made whole: the nearest to the newest one.
    pub(super) fn unwrap(&self, timestamp: u32) -> i64 {
        let change = timestamp.wrapping_sub(self.newest as u32).cast_signed();
        self.newest + i64::from(change)
    }

    /// A time, or that of now when it lies so far ahead that delivery would come to a halt.
    pub(super) fn believable(&self, time: i64, now: u64) -> i64 {
        if self.local(time) > now + AHEAD { now.cast_signed() - self.base - self.drift } else { time }
    }

    /// Notes the timestamp of the newest packet.
    pub(super) fn advance(&mut self, timestamp: u32) {
        self.newest = self.newest.max(self.unwrap(timestamp));
    }

    /// Our time (µs since our begin) of the sender's whole one.
    pub(super) fn local(&self, time: i64) -> u64 {
        (self.base + self.drift + time).max(0).cast_unsigned()
    }

    /// An answer to an acknowledgement with this timestamp came now, after a round trip of `rtt` µs.
    pub(super) fn sample(&mut self, timestamp: u32, rtt: u32, now: u64) {
        let rtt = i64::from(rtt);
        // The base holds half a round trip of the begin.
        let first = *self.first_rtt.get_or_insert(rtt);
        let time = self.unwrap(timestamp);
        self.sum += now.cast_signed() - (self.base + time) - (rtt - first) / 2;
        self.samples += 1;
        if self.samples == 1 {
            self.since = now;
        }
        if self.samples < SAMPLES && (self.samples < FEW || now < self.since + PERIOD) {
            return;
        }
        self.drift = self.sum / i64::from(self.samples);
        (self.sum, self.samples) = (0, 0);
        if self.drift.abs() > MAX_DRIFT {
            let over = self.drift.signum() * MAX_DRIFT;
            self.base += self.drift - over;
            self.drift = over;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_goes_on_after_71_minutes() {
        let mut clock = Clock::new(1_000, u32::MAX - 5);
        assert_eq!(clock.unwrap(10), i64::from(u32::MAX) + 11);
        clock.advance(10);
        assert_eq!(clock.unwrap(u32::MAX), i64::from(u32::MAX), "one sent again");
        assert_eq!(clock.local(clock.unwrap(11)), 1_017);
    }

    #[test]
    fn a_clock_that_goes_slow_is_followed() {
        let mut clock = Clock::new(0, 0);
        // 100 parts in a million, for a hundred seconds: 10 ms.
        for step in 1..=10_000u32 {
            let now = u64::from(step) * 10_000;
            clock.sample((now - now / 10_000) as u32, 1_000, now);
            clock.advance((now - now / 10_000) as u32);
        }
        let now = 100_000_000 - 10_000;
        let local = clock.local(now);
        assert!((99_998_000..=100_000_100).contains(&local), "{local}");
    }
}
