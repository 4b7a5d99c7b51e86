//! The sending side: what is kept until the peer has it, what is sent again, what is given up, and how fast.
//!
//! Payloads are shared with whoever else sends them; encryption happens when a packet leaves, so nothing but the
//! plain payload is kept.

use std::collections::VecDeque;

use bytes::Bytes;

use super::options::Bandwidth;
use super::packet::{DataHeader, HEADER, MAX_RANGES, Seq, ranges};
use super::receive::ACK_PERIOD;
use super::rtt::Rtt;

/// A packet is sent again no sooner than this after it was sent, whatever is reported: a storm of reports must not
/// make a storm of packets.
const AGAIN_MIN: u64 = 5_000;
/// Late packets are given up no sooner (libsrt: 1 s, plus two acknowledgement periods).
const DROP_MIN: u64 = 1_000_000;
const DROP_MARGIN: u64 = 20_000;
/// What a pause lets go out at once, in ns.
const BURST: u64 = 2_000_000;
/// The rate of what goes in is measured over this.
const RATE_PERIOD: u64 = 500_000;
/// Bytes of IP and UDP headers, which count for the pace.
const WIRE: usize = 28;

/// A packet that is kept.
#[derive(Debug)]
struct Kept {
    payload: Bytes,
    /// When it was handed in: its timestamp.
    time: u64,
    message: u32,
    /// When it was last sent.
    sent: u64,
    /// It waits to be sent again.
    lost: bool,
    /// It was sent so often.
    times: u32,
    /// It is sent a second time at once.
    copy: bool,
}

/// A packet to send.
#[derive(Debug)]
pub(super) struct ToSend {
    pub(super) seq: Seq,
    pub(super) message: u32,
    pub(super) time: u64,
    pub(super) again: bool,
    pub(super) payload: Bytes,
}

/// What was counted.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct SendCount {
    pub(super) packets: u64,
    pub(super) bytes: u64,
    pub(super) again: u64,
    pub(super) again_bytes: u64,
    pub(super) reported: u64,
    pub(super) dropped: u64,
    pub(super) dropped_bytes: u64,
}

#[derive(Debug)]
pub(super) struct Sender {
    kept: VecDeque<Kept>,
    /// Number of the first that is kept.
    first: Seq,
    /// How many of the kept were sent.
    sent: usize,
    bytes: usize,
    max: usize,
    message: u32,
    /// When the last payload came.
    newest: Option<u64>,
    /// Packets to send again.
    lost: VecDeque<Seq>,
    /// Packets that may still be sent again: grows with those sent for the first time.
    credit: usize,
    /// Packets that the peer has room for, and the most that we let be on the way.
    window: usize,
    own_window: usize,
    /// When the peer last acknowledged something new, or something was sent to an idle peer.
    progress: u64,
    probes: u32,
    /// Given up after this time (µs); `None`: never.
    late: Option<u64>,
    peer_reports: bool,
    bandwidth: Bandwidth,
    /// When the pace lets the next packet go, in ns.
    pace: u64,
    input: InputRate,
    /// Given up since the last look: first and last.
    given_up: Option<(Seq, Seq)>,
    pub(super) count: SendCount,
}

/// How fast payloads come in.
#[derive(Debug, Default)]
struct InputRate {
    since: u64,
    bytes: u64,
    /// Bytes a second.
    rate: u64,
}

pub(super) struct SenderOptions {
    pub(super) initial: Seq,
    pub(super) max: usize,
    pub(super) window: u32,
    /// Latency of the peer's receiving side, in µs, with what we add to it; `None`: nothing is given up.
    pub(super) late: Option<u64>,
    pub(super) peer_reports: bool,
    pub(super) bandwidth: Bandwidth,
}

impl Sender {
    pub(super) fn new(options: &SenderOptions) -> Self {
        // Fewer than libsrt takes would be none.
        let window = (options.window as usize).clamp(32, 1 << 20);
        Self {
            kept: VecDeque::new(),
            first: options.initial,
            sent: 0,
            bytes: 0,
            max: options.max.max(16),
            message: 1,
            newest: None,
            lost: VecDeque::new(),
            credit: options.max,
            window,
            own_window: window,
            progress: 0,
            probes: 0,
            late: options.late.map(|late| late.max(DROP_MIN) + DROP_MARGIN),
            peer_reports: options.peer_reports,
            bandwidth: options.bandwidth,
            pace: 0,
            input: InputRate::default(),
            given_up: None,
            count: SendCount::default(),
        }
    }

    /// Takes a payload. `false`: there is no room.
    pub(super) fn push(&mut self, payload: Bytes, now: u64) -> bool {
        self.input.count(payload.len() + HEADER + WIRE, now);
        self.drop_late(now);
        if self.kept.len() >= self.max {
            self.count.dropped += 1;
            self.count.dropped_bytes += payload.len() as u64;
            return false;
        }
        self.bytes += payload.len();
        self.newest = Some(now);
        let message = self.message;
        self.message = if message == DataHeader::MESSAGE { 1 } else { message + 1 };
        self.kept.push_back(Kept {
            payload,
            time: now,
            message,
            sent: 0,
            lost: false,
            times: 0,
            copy: false,
        });
        true
    }

    /// The peer has all before `next`. What it has no room for is not sent.
    pub(super) fn acknowledged(&mut self, next: Seq, room: Option<u32>, rtt: &Rtt, now: u64) {
        let count = next.since(self.first);
        let plausible = count >= 0 && count as usize <= self.sent;
        if plausible && count > 0 {
            for _ in 0..count {
                self.forget();
            }
            self.progress = now;
            self.probes = 0;
        }
        if let Some(room) = room.filter(|_| plausible) {
            // A window that is shut would never be told open to who sends nothing.
            self.window = (room as usize).clamp(2, self.own_window);
        }
        // It waits for this one, which was sent so long ago that it would have it: reports of that got lost.
        let wait = rtt.smoothed() + 2 * rtt.variance() + ACK_PERIOD;
        if self.sent > 0
            && let Some(kept) = self.kept.front_mut().filter(|kept| !kept.lost && kept.sent + wait < now)
        {
            kept.lost = true;
            self.lost.push_back(self.first);
        }
    }

    fn forget(&mut self) -> Option<Kept> {
        let kept = self.kept.pop_front()?;
        self.first = self.first.plus(1);
        self.sent = self.sent.saturating_sub(1);
        self.bytes -= kept.payload.len();
        Some(kept)
    }

    /// The peer misses these. What of them is gone is told by `gone` (first, last).
    pub(super) fn reported(&mut self, body: &[u8], rtt: &Rtt, now: u64, mut gone: impl FnMut(Seq, Seq)) {
        let wait = rtt.smoothed().saturating_sub(rtt.variance()).max(AGAIN_MIN);
        let end = self.sent as i32;
        // No honest report names a packet twice.
        let mut budget = self.sent;
        for (first, last) in ranges(body).take(MAX_RANGES * 2) {
            let (from, to) = (first.since(self.first), last.since(self.first));
            if from > to || to >= end {
                continue;
            }
            if from < 0 && from > -(1 << 16) {
                gone(first, self.first.plus(to.min(-1).cast_unsigned()));
            }
            for index in from.max(0)..=to {
                budget = match budget.checked_sub(1) {
                    Some(budget) => budget,
                    None => return,
                };
                let Some(kept) = self.kept.get_mut(index as usize) else { break };
                if kept.lost || kept.sent + wait > now {
                    continue;
                }
                kept.lost = true;
                self.count.reported += 1;
                self.lost.push_back(self.first.plus(index as u32));
            }
        }
    }

    /// Gives up what is too late.
    fn drop_late(&mut self, now: u64) {
        let Some(late) = self.late else { return };
        while self.kept.front().is_some_and(|kept| kept.time + late < now) {
            let seq = self.first;
            let Some(kept) = self.forget() else { return };
            self.count.dropped += 1;
            self.count.dropped_bytes += kept.payload.len() as u64;
            self.given_up = Some((self.given_up.map_or(seq, |(first, _)| first), seq));
        }
    }

    /// What was given up since it was last asked: first and last.
    pub(super) fn given_up(&mut self, now: u64) -> Option<(Seq, Seq)> {
        self.drop_late(now);
        self.given_up.take()
    }

    /// The next packet that may go now.
    pub(super) fn next(&mut self, now: u64) -> Option<ToSend> {
        self.drop_late(now);
        if self.pace > now * 1000 {
            return None;
        }
        while let Some(seq) = self.lost.front().copied() {
            let index = seq.since(self.first);
            let kept = usize::try_from(index).ok().and_then(|index| self.kept.get_mut(index));
            let Some(kept) = kept.filter(|kept| kept.lost) else {
                self.lost.pop_front();
                continue;
            };
            if self.credit == 0 {
                break;
            }
            self.lost.pop_front();
            // What got lost again is sent twice: there may be no time for one more report.
            kept.copy = kept.times >= 2 && !kept.copy;
            kept.lost = kept.copy;
            if kept.lost {
                self.lost.push_front(seq);
            }
            kept.times += 1;
            kept.sent = now;
            self.credit -= 1;
            self.count.again += 1;
            self.count.again_bytes += (kept.payload.len() + HEADER) as u64;
            let (message, time, payload) = (kept.message, kept.time, kept.payload.clone());
            self.step(payload.len(), now);
            return Some(ToSend { seq, message, time, again: true, payload });
        }
        if self.sent >= self.window {
            return None;
        }
        let kept = self.kept.get_mut(self.sent)?;
        if self.sent == 0 {
            self.progress = now;
        }
        let seq = self.first.plus(self.sent as u32);
        kept.sent = now;
        kept.times = 1;
        self.sent += 1;
        self.credit = (self.credit + 2).min(self.max);
        self.count.packets += 1;
        self.count.bytes += (kept.payload.len() + HEADER) as u64;
        let (message, time, payload) = (kept.message, kept.time, kept.payload.clone());
        self.step(payload.len(), now);
        Some(ToSend { seq, message, time, again: false, payload })
    }

    /// Bytes a second that may be sent.
    pub(super) fn limit(&self) -> Option<u64> {
        match self.bandwidth {
            Bandwidth::Fixed(rate) => Some(rate),
            Bandwidth::Input { rate, overhead } => {
                let input = rate.unwrap_or(self.input.rate);
                (input > 0).then(|| input + input * u64::from(overhead) / 100)
            }
            Bandwidth::Unlimited => None,
        }
    }

    fn step(&mut self, payload: usize, now: u64) {
        if let Some(limit) = self.limit() {
            let gap = (payload + HEADER + WIRE) as u64 * 1_000_000_000 / limit.max(1);
            self.pace = self.pace.max((now * 1000).saturating_sub(BURST)) + gap;
        }
    }

    /// When the peer is silent about the last packets, they may be lost with nothing after them to show it.
    fn probe_at(&self, rtt: &Rtt) -> Option<u64> {
        let newest = self.kept.get(self.sent.checked_sub(1)?)?;
        let wait = (rtt.timeout() + 20_000) << self.probes.min(6);
        // While packets flow, the peer finds losses by itself, if it reports them again and again.
        let since = if self.peer_reports { newest.sent.max(self.progress) } else { self.progress };
        Some(since + wait)
    }

    /// Sends again what is not acknowledged, when it is time.
    pub(super) fn probe(&mut self, rtt: &Rtt, now: u64) {
        if self.probe_at(rtt).is_none_or(|at| at > now) {
            return;
        }
        self.probes += 1;
        self.progress = now;
        for (index, kept) in (0..).zip(self.kept.iter_mut().take(self.sent)) {
            if !kept.lost {
                kept.lost = true;
                self.lost.push_back(self.first.plus(index));
            }
        }
    }

    /// When to look again.
    pub(super) fn deadline(&self, rtt: &Rtt) -> Option<u64> {
        let late = self.late.and_then(|late| Some(self.kept.front()?.time + late + 1));
        let can_send = (!self.lost.is_empty() && self.credit > 0)
            || (self.sent < self.kept.len() && self.sent < self.window);
        let pace = can_send.then_some(self.pace / 1000 + 1);
        [late, pace, self.probe_at(rtt)].into_iter().flatten().min()
    }

    /// When the last payload came, if any did.
    pub(super) fn newest(&self) -> Option<u64> {
        self.newest
    }

    /// Packets kept, bytes kept, µs from the oldest to the newest.
    pub(super) fn kept(&self) -> (usize, usize, u64) {
        let time = |kept: Option<&Kept>| kept.map_or(0, |kept| kept.time);
        (self.kept.len(), self.bytes, time(self.kept.back()).saturating_sub(time(self.kept.front())))
    }

    /// Packets on their way, and how many may be.
    pub(super) fn flight(&self) -> (usize, usize) {
        (self.sent, self.window)
    }
}

impl InputRate {
    fn count(&mut self, bytes: usize, now: u64) {
        self.bytes += bytes as u64;
        let passed = now.saturating_sub(self.since);
        if passed >= RATE_PERIOD {
            let fresh = self.bytes * 1_000_000 / passed;
            // Up at once, down slowly: a key frame must not wait for the average.
            self.rate = fresh.max(self.rate - self.rate / 8);
            (self.since, self.bytes) = (now, 0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::srt::packet::put_range;

    const RTT: Rtt = Rtt::START;

    fn sender(bandwidth: Bandwidth) -> Sender {
        Sender::new(&SenderOptions {
            initial: Seq::new(0x7fff_fffe),
            max: 100,
            window: 50,
            late: Some(120_000),
            peer_reports: true,
            bandwidth,
        })
    }

    fn push(sender: &mut Sender, count: usize, now: u64) {
        for _ in 0..count {
            sender.push(Bytes::from_static(&[7; 1000]), now);
        }
    }

    fn drain(sender: &mut Sender, now: u64) -> Vec<(u32, bool)> {
        std::iter::from_fn(|| sender.next(now)).map(|packet| (packet.seq.value(), packet.again)).collect()
    }

    #[test]
    fn a_window_of_nothing_is_as_small_as_they_get() {
        for window in [0, 1, u32::MAX] {
            let mut sender = Sender::new(&SenderOptions {
                initial: Seq::new(7),
                max: 100,
                window,
                late: None,
                peer_reports: true,
                bandwidth: Bandwidth::Unlimited,
            });
            sender.acknowledged(Seq::new(7), Some(0), &RTT, 0);
            push(&mut sender, 40, 0);
            assert_eq!(drain(&mut sender, 0).len(), 2, "{window}");
        }
    }

    #[test]
    fn a_window_that_was_shut_opens_again() {
        let mut sender = sender(Bandwidth::Unlimited);
        sender.acknowledged(Seq::new(0x7fff_fffe), Some(2), &RTT, 0);
        push(&mut sender, 30, 0);
        assert_eq!(drain(&mut sender, 0).len(), 2);
        sender.acknowledged(Seq::new(0), Some(100), &RTT, 10_000);
        assert_eq!(drain(&mut sender, 10_000).len(), 28);
    }

    #[test]
    fn what_is_reported_is_sent_again_once_a_round_trip() {
        let mut sender = sender(Bandwidth::Unlimited);
        push(&mut sender, 4, 0);
        assert_eq!(
            drain(&mut sender, 0),
            [(0x7fff_fffe, false), (0x7fff_ffff, false), (0, false), (1, false)]
        );
        let mut report = Vec::new();
        put_range(&mut report, Seq::new(0x7fff_ffff), Seq::new(0));
        for now in [1_000, 60_000, 61_000, 90_000, 120_000] {
            sender.reported(&report, &RTT, now, |_, _| panic!("nothing is gone"));
        }
        assert_eq!(drain(&mut sender, 120_000), [(0x7fff_ffff, true), (0, true)]);
        sender.acknowledged(Seq::new(1), Some(10), &RTT, 130_000);
        sender.reported(&report, &RTT, 300_000, |first, last| {
            assert_eq!((first, last), (Seq::new(0x7fff_ffff), Seq::new(0)));
        });
        assert_eq!(drain(&mut sender, 300_000), []);
        assert_eq!(sender.kept().0, 1);
    }

    #[test]
    fn what_is_late_is_given_up() {
        let mut sender = sender(Bandwidth::Unlimited);
        push(&mut sender, 3, 0);
        drain(&mut sender, 0);
        push(&mut sender, 1, 500_000);
        assert_eq!(sender.given_up(1_020_000), None);
        assert_eq!(sender.given_up(1_020_001), Some((Seq::new(0x7fff_fffe), Seq::new(0))));
        assert_eq!(drain(&mut sender, 1_020_001), [(1, false)]);
        assert_eq!(sender.count.dropped, 3);
    }

    #[test]
    fn no_more_than_the_window_and_the_buffer_take() {
        let mut sender = sender(Bandwidth::Unlimited);
        push(&mut sender, 120, 0);
        assert_eq!(sender.count.dropped, 20);
        assert_eq!(drain(&mut sender, 0).len(), 50);
        sender.acknowledged(Seq::new(0x7fff_fffe).plus(10), Some(45), &RTT, 10);
        assert_eq!(drain(&mut sender, 10).len(), 5);
        sender.acknowledged(Seq::new(0x7fff_fffe).plus(56), Some(45), &RTT, 20);
        assert_eq!(sender.kept().0, 90, "more than was sent can't be acknowledged");
    }

    #[test]
    fn the_pace_is_kept() {
        // 1044 bytes each on the wire.
        let mut sender = sender(Bandwidth::Fixed(1_044_000));
        push(&mut sender, 40, 0);
        let mut sent = 0;
        for now in (10_000..30_000).step_by(100) {
            sent += drain(&mut sender, now).len();
        }
        assert!((20..=23).contains(&sent), "{sent} packets in 20 ms at 1 packet a ms");
        assert!(sender.deadline(&RTT).is_some_and(|at| at <= 32_000));
    }

    #[test]
    fn the_last_packets_are_sent_again_when_nothing_is_heard() {
        let mut sender = sender(Bandwidth::Unlimited);
        push(&mut sender, 2, 0);
        drain(&mut sender, 0);
        let at = sender.deadline(&RTT).unwrap();
        sender.probe(&RTT, at - 1);
        assert_eq!(drain(&mut sender, at - 1), []);
        sender.probe(&RTT, at);
        assert_eq!(drain(&mut sender, at), [(0x7fff_fffe, true), (0x7fff_ffff, true)]);
    }
}
