//! The receiving side: what is missing, what is reported, when it is delivered, when it is given up.
//!
//! ```text
//! slots:  [ 7 ][ - ][ 9 ][ - ][ - ][12 ]        losses: 8, 10–11
//!           ↑ base: next to be delivered   ↑ end: next expected from the wire
//! ```

use std::collections::VecDeque;

use bytes::Bytes;

use super::drift::Clock;
use super::packet::{Ack, DataHeader, FullAck, HEADER, MAX_RANGES, Seq, put_range};
use super::rtt::Rtt;

/// Losses are reported again no sooner.
const NAK_MIN: u64 = 20_000;
/// Full acknowledgements are this far apart.
pub(super) const ACK_PERIOD: u64 = 10_000;
/// A light acknowledgement after this many packets.
const LIGHT: u32 = 64;
/// Acknowledgements whose answer is waited for.
const ASKED: usize = 64;

/// What a receiver gives.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Payload {
    /// The bytes.
    pub data: Bytes,
    /// When the sender got them, in µs on its clock since it began; goes on past 2^32.
    pub time: i64,
}

#[derive(Debug)]
enum Slot {
    /// Not there (yet).
    Missing,
    /// Given up.
    Gone,
    Here(Payload),
}

/// Packets that are missing.
#[derive(Debug, Clone, Copy)]
struct Loss {
    first: Seq,
    last: Seq,
    /// When it was noticed.
    since: u64,
    /// When it is to be reported (again).
    report: u64,
    /// It may only be late: it is reported when so many came after it.
    fresh: bool,
}

/// What was counted.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct ReceiveCount {
    pub(super) packets: u64,
    pub(super) bytes: u64,
    pub(super) unique: u64,
    pub(super) unique_bytes: u64,
    pub(super) again: u64,
    pub(super) lost: u64,
    pub(super) dropped: u64,
    pub(super) belated: u64,
    pub(super) undecrypted: u64,
    pub(super) undecrypted_bytes: u64,
    pub(super) reorder: u32,
}

pub(super) struct ReceiverOptions {
    pub(super) initial: Seq,
    pub(super) max: usize,
    /// In µs; `None`: delivered as it comes.
    pub(super) latency: Option<u64>,
    pub(super) drop_late: bool,
    pub(super) nak_report: bool,
    pub(super) loss_max_ttl: u32,
    /// When the handshake came, and its timestamp.
    pub(super) begin: (u64, u32),
}

#[derive(Debug)]
pub(super) struct Receiver {
    slots: VecDeque<Slot>,
    base: Seq,
    max: usize,
    bytes: usize,
    /// The last packet that was further ahead than can be kept.
    far: Option<Seq>,
    losses: VecDeque<Loss>,
    latency: Option<u64>,
    drop_late: bool,
    nak_report: bool,
    /// Packets that one may be late by, as learnt; and at most.
    tolerance: u32,
    tolerance_max: u32,
    in_order: u32,
    pub(super) clock: Clock,
    /// Acknowledgements sent: number, when, next.
    asked: VecDeque<(u32, u64, Seq)>,
    number: u32,
    acked: Seq,
    /// What the peer is known to know as acknowledged.
    confirmed: Seq,
    acked_at: u64,
    acked_room: u32,
    unacked: u32,
    rate: Rate,
    pub(super) count: ReceiveCount,
}

#[derive(Debug, Default)]
struct Rate {
    since: u64,
    packets: u32,
    bytes: u32,
    packet_rate: u32,
    byte_rate: u32,
}

/// What to do about a packet.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Arrival {
    /// Keep it: [`Receiver::put`].
    New,
    /// It is of no use: there already, too late, or there is no room.
    Useless,
}

impl Receiver {
    pub(super) fn new(options: &ReceiverOptions) -> Self {
        let (arrival, timestamp) = options.begin;
        Self {
            slots: VecDeque::new(),
            base: options.initial,
            max: options.max.clamp(32, 1 << 20),
            bytes: 0,
            far: None,
            losses: VecDeque::new(),
            latency: options.latency,
            drop_late: options.drop_late,
            nak_report: options.nak_report,
            tolerance: 0,
            tolerance_max: options.loss_max_ttl,
            in_order: 0,
            clock: Clock::new(arrival, timestamp),
            asked: VecDeque::new(),
            number: 0,
            acked: options.initial,
            confirmed: options.initial,
            acked_at: 0,
            acked_room: 0,
            unacked: 0,
            rate: Rate::default(),
            count: ReceiveCount::default(),
        }
    }

    /// Next expected from the wire.
    fn end(&self) -> Seq {
        self.base.plus(self.slots.len() as u32)
    }

    /// Notes a packet that came, and what it shows to be missing; `wire`: bytes of its payload.
    pub(super) fn arrived(&mut self, header: &DataHeader, wire: usize, now: u64) -> Arrival {
        self.count.packets += 1;
        self.count.bytes += (wire + HEADER) as u64;
        self.count.again += u64::from(header.again);
        self.rate.count(wire + HEADER, now);
        let at = header.seq.since(self.base);
        let Ok(at) = usize::try_from(at) else {
            self.count.belated += 1;
            return Arrival::Useless;
        };
        if at >= self.max && !self.jumps(header.seq) {
            return Arrival::Useless;
        }
        let at = header.seq.since(self.base).unsigned_abs() as usize;
        let end = self.end();
        match self.slots.get(at) {
            Some(Slot::Missing) => {
                self.found(header.seq);
                if !header.again {
                    self.came_late(end.since(header.seq).unsigned_abs());
                }
            }
            Some(_) => return Arrival::Useless,
            None => {
                if at > self.slots.len() {
                    let last = header.seq.minus(1);
                    self.count.lost += last.since(end).unsigned_abs() as u64 + 1;
                    let report = if self.tolerance > 0 { now + NAK_MIN } else { now };
                    let fresh = self.tolerance > 0;
                    self.losses.push_back(Loss { first: end, last, since: now, report, fresh });
                }
                self.slots.resize_with(at + 1, || Slot::Missing);
                self.clock.advance(header.timestamp);
                self.in_order = self.in_order.saturating_add(1);
                if self.in_order >= 50 && self.tolerance > 0 {
                    (self.in_order, self.tolerance) = (0, self.tolerance - 1);
                }
            }
        }
        self.count.unique += 1;
        self.count.unique_bytes += (wire + HEADER) as u64;
        self.unacked += 1;
        Arrival::New
    }

    /// Keeps a packet that [`Receiver::arrived`]; `None`: it can't be decrypted, and counts as given up.
    pub(super) fn put(&mut self, header: &DataHeader, data: Option<Bytes>, now: u64) {
        let time = self.clock.believable(self.clock.unwrap(header.timestamp), now);
        let index = usize::try_from(header.seq.since(self.base)).ok();
        if let Some(slot) = index.and_then(|index| self.slots.get_mut(index)) {
            *slot = match data {
                Some(data) => {
                    self.bytes += data.len();
                    Slot::Here(Payload { data, time })
                }
                None => Slot::Gone,
            };
        }
    }

    /// A packet is further ahead than can be kept: after a cut, what is between was given up while nobody could tell
    /// us. We go on there, once a second packet says the same and there is nothing left to deliver.
    fn jumps(&mut self, seq: Seq) -> bool {
        let again =
            self.far.replace(seq).is_some_and(|far| (seq.since(far).unsigned_abs() as usize) < self.max);
        if !self.drop_late || !again || self.slots.iter().any(|slot| matches!(slot, Slot::Here(_))) {
            return false;
        }
        let known = self.slots.iter().filter(|slot| matches!(slot, Slot::Gone)).count();
        self.count.dropped += u64::from(seq.since(self.base).unsigned_abs()) - known as u64;
        self.slots.clear();
        self.losses.clear();
        self.base = seq;
        self.far = None;
        true
    }

    /// It came without having been sent again: packets overtake each other by so many.
    fn came_late(&mut self, by: u32) {
        self.count.reorder = self.count.reorder.max(by);
        self.in_order = 0;
        if self.tolerance_max > 0 {
            self.tolerance = self.tolerance.max(by).min(self.tolerance_max);
        }
    }

    /// Takes a number out of the losses.
    fn found(&mut self, seq: Seq) {
        let base = self.base;
        let place = seq.since(base);
        let Ok(index) = self.losses.binary_search_by(|loss| {
            if loss.last.since(base) < place {
                std::cmp::Ordering::Less
            } else if loss.first.since(base) > place {
                std::cmp::Ordering::Greater
            } else {
                std::cmp::Ordering::Equal
            }
        }) else {
            return;
        };
        let Some(loss) = self.losses.get_mut(index) else { return };
        let whole = *loss;
        if whole.first == whole.last {
            self.losses.remove(index);
        } else if whole.first == seq {
            loss.first = seq.plus(1);
        } else {
            loss.last = seq.minus(1);
            if whole.last != seq {
                self.losses.insert(index + 1, Loss { first: seq.plus(1), ..whole });
            }
        }
    }

    /// The sender gave these up.
    pub(super) fn drop_request(&mut self, first: Seq, last: Seq) {
        let (from, to) = (first.since(self.base), last.since(self.base));
        if from > to || to < 0 || to as usize >= self.max {
            return;
        }
        let (from, to) = (from.max(0) as usize, to as usize);
        // Those between are missing still.
        if from > self.slots.len() {
            let end = self.end();
            self.losses.push_back(Loss {
                first: end,
                last: self.base.plus(from as u32 - 1),
                since: 0,
                report: 0,
                fresh: false,
            });
            self.count.lost += (from - self.slots.len()) as u64;
        }
        // What is behind all that came is given up as it is made room for; the rest of what is missing stands in the losses.
        let len = self.slots.len();
        if to >= len {
            self.slots.resize_with(from.max(len), || Slot::Missing);
            self.slots.resize_with(to + 1, || Slot::Gone);
            self.count.dropped += (to + 1 - from.max(len)) as u64;
        }
        self.give_up(from, to);
    }

    /// What is missing between these places is given up. Costs nothing where nothing is: peers can ask for it as often as
    /// they like.
    fn give_up(&mut self, from: usize, to: usize) {
        let base = self.base;
        let (Ok(from), Ok(to)) = (i32::try_from(from), i32::try_from(to)) else { return };
        let start = self.losses.partition_point(|loss| loss.last.since(base) < from);
        let end = self.losses.partition_point(|loss| loss.first.since(base) <= to);
        if start >= end {
            return;
        }
        let gone: Vec<Loss> = self.losses.drain(start..end).collect();
        for loss in &gone {
            let (first, last) = (loss.first.since(base).max(from), loss.last.since(base).min(to));
            for index in first..=last {
                let slot = usize::try_from(index).ok().and_then(|index| self.slots.get_mut(index));
                if let Some(slot @ Slot::Missing) = slot {
                    *slot = Slot::Gone;
                    self.count.dropped += 1;
                }
            }
        }
        // Parts of the first and the last may be missing still.
        if let Some(loss) = gone.last().filter(|loss| loss.last.since(base) > to) {
            self.losses.insert(start, Loss { first: base.plus((to + 1).cast_unsigned()), ..*loss });
        }
        if let Some(loss) = gone.first().filter(|loss| loss.first.since(base) < from) {
            self.losses.insert(start, Loss { last: base.plus((from - 1).cast_unsigned()), ..*loss });
        }
    }

    /// When a payload with this time is to be delivered.
    fn due(&self, payload: &Payload) -> u64 {
        self.latency.map_or(0, |latency| self.clock.local(payload.time).saturating_add(latency))
    }

    /// The first packet after those missing at the front, if any are.
    fn after_front(&self) -> Option<(usize, &Payload)> {
        let loss = self.losses.front().filter(|loss| loss.first == self.base)?;
        let at = loss.last.since(self.base).unsigned_abs() as usize + 1;
        // What follows may have been given up, too.
        self.slots.iter().enumerate().skip(at).find_map(|(index, slot)| match slot {
            Slot::Here(payload) => Some((index, payload)),
            _ => None,
        })
    }

    /// The next payload whose time has come.
    pub(super) fn pop(&mut self, now: u64) -> Option<Payload> {
        loop {
            match self.slots.front()? {
                Slot::Gone => {
                    self.slots.pop_front();
                    self.base = self.base.plus(1);
                }
                Slot::Here(payload) => {
                    if self.due(payload) > now {
                        return None;
                    }
                    self.base = self.base.plus(1);
                    let Some(Slot::Here(payload)) = self.slots.pop_front() else { return None };
                    self.bytes -= payload.data.len();
                    return Some(payload);
                }
                Slot::Missing => {
                    let (count, payload) = self.after_front()?;
                    if !self.drop_late || self.latency.is_none() || self.due(payload) > now {
                        return None;
                    }
                    self.give_up(0, count - 1);
                }
            }
        }
    }

    /// When [`Receiver::pop`] has something.
    pub(super) fn delivery(&self) -> Option<u64> {
        match self.slots.front()? {
            Slot::Gone => Some(0),
            Slot::Here(payload) => Some(self.due(payload)),
            Slot::Missing if self.drop_late && self.latency.is_some() => {
                self.after_front().map(|(_, payload)| self.due(payload))
            }
            Slot::Missing => None,
        }
    }

    /// After what time a loss that was noticed at `since` is reported again: half a round trip, for reports get lost as
    /// well; and as often as may be when there is hardly time for two more tries.
    fn again(&self, since: u64, rtt: &Rtt, now: u64) -> u64 {
        let calm = (rtt.timeout() / 2).max(NAK_MIN);
        let urgent = |latency| now + rtt.smoothed() * 5 / 2 > since + latency;
        match self.latency {
            Some(latency) if urgent(latency) => NAK_MIN,
            Some(latency) => calm.min(latency / 8).max(NAK_MIN),
            None => calm,
        }
    }

    /// Body of a loss report, when there is something to report.
    pub(super) fn report(&mut self, rtt: &Rtt, now: u64) -> Option<Vec<u8>> {
        let (end, tolerance) = (self.end(), self.tolerance as i32);
        let mut body = Vec::new();
        let mut losses = std::mem::take(&mut self.losses);
        for loss in &mut losses {
            let is_late = loss.fresh && end.since(loss.last) > tolerance;
            if loss.report > now && !is_late {
                continue;
            }
            if body.len() + 8 > MAX_RANGES * 8 {
                // One report at a time.
                loss.report = loss.report.max(now + NAK_MIN);
                loss.fresh = false;
                continue;
            }
            put_range(&mut body, loss.first, loss.last);
            loss.fresh = false;
            loss.report = if self.nak_report { now + self.again(loss.since, rtt, now) } else { u64::MAX };
        }
        self.losses = losses;
        (!body.is_empty()).then_some(body)
    }

    /// All before this have come or are given up.
    fn acknowledgeable(&self) -> Seq {
        self.losses.front().map_or_else(|| self.end(), |loss| loss.first)
    }

    /// Packets that there is room for behind the one that is acknowledged: whoever sends counts from there, too.
    fn room(&self, next: Seq) -> u32 {
        let kept = usize::try_from(next.since(self.base)).unwrap_or(0);
        (self.max - kept.min(self.max)) as u32
    }

    /// An acknowledgement that is due: a full one each [`ACK_PERIOD`], a light one when many packets came before.
    pub(super) fn ack(&mut self, rtt: &Rtt, now: u64) -> Option<Ack> {
        let next = self.acknowledgeable();
        let due = now >= self.acked_at + ACK_PERIOD;
        let moved = next != self.acked;
        let unheard = self.confirmed != next && now >= self.acked_at + rtt.timeout().max(ACK_PERIOD);
        // Its window was shut.
        let opened = self.acked_room < 64 && self.room(next) > self.acked_room;
        if due && (moved || unheard || opened) {
            self.number = self.number.wrapping_add(1).max(1);
            (self.acked, self.acked_at, self.acked_room) = (next, now, self.room(next));
            self.unacked = 0;
            if self.asked.len() >= ASKED {
                self.asked.pop_front();
            }
            self.asked.push_back((self.number, now, next));
            let full = FullAck {
                rtt: rtt.smoothed() as u32,
                rtt_var: rtt.variance() as u32,
                room: self.room(next).max(2),
                packet_rate: self.rate.packet_rate,
                bandwidth: self.rate.packet_rate,
                byte_rate: self.rate.byte_rate,
            };
            return Some(Ack { number: self.number, next, full: Some(full) });
        }
        if self.unacked >= LIGHT && moved {
            self.unacked = 0;
            return Some(Ack { number: 0, next, full: None });
        }
        None
    }

    /// The peer has our acknowledgement: the time that took, in µs.
    pub(super) fn ack_heard(&mut self, number: u32, now: u64) -> Option<u32> {
        let index = self.asked.iter().position(|asked| asked.0 == number)?;
        let (_, at, next) = self.asked.get(index).copied()?;
        self.asked.drain(..=index);
        self.confirmed = next;
        u32::try_from(now.saturating_sub(at)).ok()
    }

    /// When to look again.
    pub(super) fn deadline(&self, rtt: &Rtt) -> Option<u64> {
        let next = self.acknowledgeable();
        let ack = if next != self.acked {
            Some(self.acked_at + ACK_PERIOD)
        } else if self.confirmed != next {
            Some(self.acked_at + rtt.timeout().max(ACK_PERIOD))
        } else {
            None
        };
        let report = self.losses.iter().map(|loss| loss.report).min();
        [ack, report].into_iter().flatten().min()
    }

    /// Packets kept, bytes kept, µs from the oldest to the newest.
    pub(super) fn kept(&self) -> (usize, usize, u64) {
        let time = |slot: &Slot| match slot {
            Slot::Here(payload) => Some(payload.time),
            _ => None,
        };
        let oldest = self.slots.iter().find_map(time).unwrap_or(0);
        let newest = self.slots.iter().rev().find_map(time).unwrap_or(0);
        (self.slots.len(), self.bytes, newest.saturating_sub(oldest).max(0).cast_unsigned())
    }

    pub(super) fn latency(&self) -> u64 {
        self.latency.unwrap_or(0)
    }

    pub(super) fn tolerance(&self) -> u32 {
        self.tolerance
    }
}

impl Rate {
    fn count(&mut self, bytes: usize, now: u64) {
        self.packets = self.packets.saturating_add(1);
        self.bytes = self.bytes.saturating_add(bytes as u32);
        let passed = now.saturating_sub(self.since);
        if passed >= 500_000 {
            let per_second = |count: u32| (u64::from(count) * 1_000_000 / passed) as u32;
            (self.packet_rate, self.byte_rate) = (per_second(self.packets), per_second(self.bytes));
            (self.since, self.packets, self.bytes) = (now, 0, 0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::srt::packet::KeyFlag;

    const RTT: Rtt = Rtt::START;

    fn receiver() -> Receiver {
        Receiver::new(&ReceiverOptions {
            initial: Seq::new(0x7fff_fff0),
            max: 100,
            latency: Some(120_000),
            drop_late: true,
            nak_report: true,
            loss_max_ttl: 0,
            begin: (0, 0),
        })
    }

    fn take(receiver: &mut Receiver, place: u32) {
        let header = DataHeader {
            seq: Seq::new(0x7fff_fff0).plus(place),
            place: 3,
            key: KeyFlag::None,
            again: false,
            message: 1,
            timestamp: 0,
            to: 1,
        };
        assert_eq!(receiver.arrived(&header, 100, 0), Arrival::New, "{place}");
        receiver.put(&header, Some(Bytes::from_static(&[0; 100])), 0);
    }

    #[test]
    fn what_is_given_up_is_counted_once_and_the_rest_is_missing_still() {
        let mut receiver = receiver();
        take(&mut receiver, 0);
        take(&mut receiver, 20);
        take(&mut receiver, 30);
        let seq = |place| Seq::new(0x7fff_fff0).plus(place);
        for _ in 0..3 {
            receiver.drop_request(seq(5), seq(25));
            assert_eq!(receiver.count.dropped, 15 + 5);
        }
        let mut expected = Vec::new();
        put_range(&mut expected, seq(1), seq(4));
        put_range(&mut expected, seq(26), seq(29));
        assert_eq!(receiver.report(&RTT, 0), Some(expected));
        // And behind all that came.
        receiver.drop_request(seq(35), seq(40));
        assert_eq!((receiver.count.dropped, receiver.slots.len()), (26, 41));
        assert_eq!(receiver.acknowledgeable(), seq(1));
        receiver.drop_request(seq(0), seq(99));
        assert_eq!((receiver.count.dropped, receiver.losses.len()), (97, 0));
    }

    #[test]
    fn room_is_what_is_free_behind_the_acknowledged() {
        let mut receiver = receiver();
        take(&mut receiver, 0);
        take(&mut receiver, 60);
        let ack = receiver.ack(&RTT, 10_000).unwrap();
        assert_eq!((ack.next, ack.full.map(|full| full.room)), (Seq::new(0x7fff_fff1), Some(99)));
    }
}
