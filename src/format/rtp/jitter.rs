//! Puts packets in order: waits for those that are missing, not for too long.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::Packet;
use super::clock::Sequence;

/// The most packets that wait behind a missing one: half a second at 40 Mbit/s.
const MAX_PACKETS: usize = 2048;
/// The most bytes of them.
const MAX_BYTES: usize = 3 << 20;
/// Packets in a row that are much too old: the sender began anew.
const MAX_LATE: u32 = 50;
/// How long a packet may be late before it is asked for: paths put packets out of order.
const REORDER: Duration = Duration::from_millis(5);
/// How long a packet that was given up is looked out for.
const GIVEN_UP: Duration = Duration::from_secs(2);
/// How often a packet is asked for at most.
const MAX_ASKED: u8 = 10;

/// A packet in its order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ordered {
    /// The packet.
    pub packet: Packet,
    /// Its number, unwrapped.
    pub sequence: u64,
    /// How many packets before it are missing and won't come.
    pub lost: u64,
}

#[derive(Debug)]
enum Slot {
    Missing { since: Instant, asked: u8, first: Option<Instant>, last: Option<Instant> },
    Here(Packet),
}

/// Packets of one source on their way into order.
#[derive(Debug)]
pub struct JitterBuffer {
    sequence: Sequence,
    /// The number of the first slot: what is given next.
    next: u64,
    slots: VecDeque<Slot>,
    bytes: usize,
    patience: Duration,
    /// Packets that were given up before the first slot.
    lost: u64,
    late: u32,
    started: bool,
    missing: usize,
    /// From asking for a packet until it comes, smoothed.
    answer: Option<Duration>,
    /// A packet that was asked for and given up: if it comes after all, that shows how long to wait.
    given_up: Option<(u64, Instant)>,
}

impl JitterBuffer {
    /// An empty one that waits so long for a missing packet.
    #[must_use]
    pub fn new(patience: Duration) -> Self {
        Self {
            sequence: Sequence::default(),
            next: 0,
            slots: VecDeque::new(),
            bytes: 0,
            patience,
            lost: 0,
            late: 0,
            started: false,
            missing: 0,
            answer: None,
            given_up: None,
        }
    }

    /// Waits so long from now on.
    pub fn set_patience(&mut self, patience: Duration) {
        self.patience = patience;
    }

    /// Takes a packet that came. Whether it is of use: neither a copy, nor too late.
    pub fn push(&mut self, packet: Packet, now: Instant) -> bool {
        if !std::mem::replace(&mut self.started, true) {
            self.next = self.sequence.unwrap(packet.header.sequence);
        }
        let full = match self.sequence.look(packet.header.sequence) {
            Some(full) if full < self.next => {
                if let Some((_, asked)) = self.given_up.take_if(|(other, _)| *other == full) {
                    self.answered(asked, now);
                }
                self.late += 1;
                if self.late <= MAX_LATE {
                    return false;
                }
                self.restart(&packet)
            }
            Some(full) if full - self.next >= MAX_PACKETS as u64 => self.restart(&packet),
            _ => self.sequence.unwrap(packet.header.sequence),
        };
        self.late = 0;
        let place = usize::try_from(full - self.next).unwrap_or(usize::MAX);
        while self.slots.len() <= place.min(MAX_PACKETS) {
            self.slots.push_back(Slot::Missing { since: now, asked: 0, first: None, last: None });
            self.missing += 1;
        }
        let Some(slot) = self.slots.get_mut(place) else { return false };
        let Slot::Missing { first, .. } = *slot else { return false };
        self.missing -= 1;
        self.bytes += size(&packet);
        *slot = Slot::Here(packet);
        if let Some(asked) = first {
            self.answered(asked, now);
        }
        true
    }

    /// A packet came that was first asked for at `asked`.
    fn answered(&mut self, asked: Instant, now: Instant) {
        let took = now.saturating_duration_since(asked);
        self.answer = Some(self.answer.map_or(took, |before| (before * 7 + took) / 8));
    }

    /// How long it takes from asking for a packet until it comes, there and back; `None`: none has come so far.
    #[must_use]
    pub fn answer(&self) -> Option<Duration> {
        self.answer
    }

    /// Forgets all: what comes next is the beginning of something else.
    fn restart(&mut self, packet: &Packet) -> u64 {
        self.lost += self.slots.len() as u64 + 1;
        self.slots.clear();
        (self.bytes, self.missing, self.given_up) = (0, 0, None);
        self.sequence = Sequence::default();
        self.next = self.sequence.unwrap(packet.header.sequence);
        self.next
    }

    /// The next packet, if it is there, or nothing before it is waited for any more.
    pub fn pop(&mut self, now: Instant) -> Option<Ordered> {
        let full = self.bytes > MAX_BYTES || self.slots.len() >= MAX_PACKETS;
        loop {
            match self.slots.pop_front()? {
                Slot::Here(packet) => {
                    self.bytes -= size(&packet);
                    let (sequence, lost) = (self.next, std::mem::take(&mut self.lost));
                    self.next += 1;
                    return Some(Ordered { packet, sequence, lost });
                }
                Slot::Missing { since, first, .. }
                    if full || now.saturating_duration_since(since) >= self.patience =>
                {
                    let is_old = |(_, at): (u64, Instant)| now.saturating_duration_since(at) > GIVEN_UP;
                    if self.given_up.is_none_or(is_old) {
                        self.given_up = first.map(|first| (self.next, first));
                    }
                    self.next += 1;
                    self.lost += 1;
                    self.missing -= 1;
                }
                missing => {
                    self.slots.push_front(missing);
                    return None;
                }
            }
        }
    }

    /// Appends the numbers of packets to ask for now. `round_trip`: after about so long an answer can be there.
    pub fn ask(&mut self, now: Instant, round_trip: Duration, out: &mut Vec<u16>) {
        if self.missing == 0 {
            return;
        }
        let again = round_trip.clamp(Duration::from_millis(20), Duration::from_millis(500));
        for (sequence, slot) in (self.next..).zip(&mut self.slots) {
            let Slot::Missing { since, asked, first, last } = slot else { continue };
            let due = match last {
                Some(last) => now.saturating_duration_since(*last) >= again,
                None => now.saturating_duration_since(*since) >= REORDER,
            };
            if due && *asked < MAX_ASKED {
                *asked += 1;
                first.get_or_insert(now);
                *last = Some(now);
                out.push(sequence as u16);
            }
        }
    }

    /// Whether packets are missing that may still come: then ask again some milliseconds from now.
    #[must_use]
    pub fn is_waiting(&self) -> bool {
        self.missing > 0
    }
}

fn size(packet: &Packet) -> usize {
    // With what a slot takes.
    packet.payload.len() + 128
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use proptest::prelude::*;

    use super::super::{Extensions, Header};
    use super::*;

    const PATIENCE: Duration = Duration::from_millis(100);

    fn packet(sequence: u16) -> Packet {
        let header = Header { sequence, ..Header::default() };
        Packet { header, extensions: Extensions::default(), payload: Bytes::from_static(b"x") }
    }

    fn popped(buffer: &mut JitterBuffer, now: Instant) -> Vec<(u16, u64)> {
        std::iter::from_fn(|| buffer.pop(now)).map(|o| (o.packet.header.sequence, o.lost)).collect()
    }

    #[test]
    fn what_is_in_order_goes_through_at_once() {
        let (mut buffer, now) = (JitterBuffer::new(PATIENCE), Instant::now());
        for sequence in [65_534, 65_535, 0, 1] {
            assert!(buffer.push(packet(sequence), now));
            assert_eq!(popped(&mut buffer, now), [(sequence, 0)]);
        }
        assert!(!buffer.push(packet(0), now), "a copy");
        assert!(!buffer.is_waiting());
    }

    #[test]
    fn a_missing_packet_is_asked_for_and_waited_for() {
        let (mut buffer, start) = (JitterBuffer::new(PATIENCE), Instant::now());
        let at = |ms| start + Duration::from_millis(ms);
        let ask = |buffer: &mut JitterBuffer, ms| {
            let mut out = Vec::new();
            buffer.ask(at(ms), Duration::from_millis(30), &mut out);
            out
        };
        for sequence in [1, 2, 4, 5, 8] {
            buffer.push(packet(sequence), start);
        }
        assert_eq!(popped(&mut buffer, start), [(1, 0), (2, 0)]);
        assert!(ask(&mut buffer, 0).is_empty());
        assert_eq!(ask(&mut buffer, 5), [3, 6, 7]);
        assert!(ask(&mut buffer, 20).is_empty());
        assert_eq!(ask(&mut buffer, 35), [3, 6, 7]);
        assert!(buffer.push(packet(3), at(40)));
        assert_eq!(popped(&mut buffer, at(40)), [(3, 0), (4, 0), (5, 0)]);
        assert_eq!(popped(&mut buffer, at(99)), []);
        assert_eq!(popped(&mut buffer, at(100)), [(8, 2)]);
        assert!(!buffer.push(packet(7), at(101)), "too late");
    }

    #[test]
    fn how_long_answers_take_is_learnt() {
        let (mut buffer, start) = (JitterBuffer::new(PATIENCE), Instant::now());
        let at = |ms| start + Duration::from_millis(ms);
        let miss = |buffer: &mut JitterBuffer, sequence: u16, ms: u64, took: u64| {
            buffer.push(packet(sequence), at(ms));
            buffer.push(packet(sequence + 2), at(ms));
            popped(buffer, at(ms));
            buffer.ask(at(ms + 10), PATIENCE, &mut Vec::new());
            popped(buffer, at(ms + 10 + took));
            buffer.push(packet(sequence + 1), at(ms + 10 + took));
            popped(buffer, at(ms + 10 + took));
            buffer.answer().unwrap().as_millis()
        };
        assert_eq!(miss(&mut buffer, 0, 0, 60), 60);
        assert_eq!(miss(&mut buffer, 3, 1000, 76), 62);
        // One that comes too late tells it, too.
        assert_eq!(miss(&mut buffer, 6, 2000, 302), 92);
    }

    #[test]
    fn a_sender_that_begins_anew_is_followed() {
        let (mut buffer, now) = (JitterBuffer::new(PATIENCE), Instant::now());
        buffer.push(packet(40_000), now);
        popped(&mut buffer, now);
        for sequence in 30_000..30_200 {
            buffer.push(packet(sequence), now);
        }
        let got = popped(&mut buffer, now);
        assert_eq!((got.len(), got[0]), (150, (30_050, 1)));
        buffer.push(packet(60_000), now);
        assert_eq!(popped(&mut buffer, now), [(60_000, 1)]);
    }

    #[test]
    fn only_so_much_waits() {
        let (mut buffer, now) = (JitterBuffer::new(Duration::from_secs(3600)), Instant::now());
        buffer.push(packet(0), now);
        let mut got = popped(&mut buffer, now).len();
        for sequence in 2..10_000 {
            buffer.push(packet(sequence), now);
            got += popped(&mut buffer, now).len();
            assert!(buffer.slots.len() <= MAX_PACKETS + 1);
        }
        assert_eq!(got, 9999);
    }

    proptest! {
        #[test]
        fn order_holds_whatever_comes(sequences in proptest::collection::vec((any::<u16>(), 0..60u64), 0..300)) {
            let (mut buffer, mut now) = (JitterBuffer::new(PATIENCE), Instant::now());
            let mut all = Vec::new();
            for (sequence, wait) in sequences {
                now += Duration::from_millis(wait);
                buffer.push(packet(sequence % 64), now);
                while let Some(ordered) = buffer.pop(now) {
                    all.push(ordered.sequence);
                }
                buffer.ask(now, PATIENCE, &mut Vec::new());
            }
            prop_assert!(buffer.slots.len() <= MAX_PACKETS + 1);
        }
    }
}
