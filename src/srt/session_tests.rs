//! Two sessions in one process, with a made-up clock and a bad network between them.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use bytes::Bytes;
use proptest::prelude::*;

use super::caller::Caller;
use super::crypto::{CipherMode, KeyLength};
use super::listener::{Heard, Listener};
use super::packet::{Control, DataHeader, KeyFlag, Packet, Seq, control, kind};
use super::session::{Datagram, End, Session};
use super::{Bandwidth, Options, Payload, Reject, SrtError};

const MS: Duration = Duration::from_millis(1);

/// Numbers that look random, the same each time.
struct Dice(u64);

impl Dice {
    fn below(&mut self, end: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) % end.max(1)
    }
}

/// What happens to packets on their way.
#[derive(Clone, Copy, Default)]
struct Weather {
    /// Of 1000 packets so many are lost.
    loss: u64,
    delay: Duration,
    /// Added to the delay at most, without changing the order.
    jitter: Duration,
    /// Of 1000 packets so many take longer, and are overtaken.
    late: u64,
    /// Of 1000 packets so many come twice.
    twice: u64,
    cut: bool,
}

/// A packet on its way: when it arrives, its number, to the caller, its bytes.
type OnTheWay = Reverse<(Instant, u64, bool, Vec<u8>)>;

struct World {
    now: Instant,
    weather: Weather,
    dice: Dice,
    way: BinaryHeap<OnTheWay>,
    count: u64,
    /// When the last packet in each direction arrives: order is kept.
    last: [Instant; 2],
    caller: Session,
    listener: Session,
    /// How much slower the listener's clock is, in parts of a million.
    slow: u32,
    begin: Instant,
    received: Vec<(Instant, Payload)>,
}

fn address(port: u16) -> SocketAddr {
    ([127, 0, 0, 1], port).into()
}

fn wire(datagram: &Datagram) -> Vec<u8> {
    [&datagram.head[..], &datagram.body].concat()
}

/// A handshake without any trouble on the way.
fn handshake(
    caller: &Options,
    listener: &Options,
    initial: u32,
    now: Instant,
) -> Result<[Session; 2], SrtError> {
    slow_handshake(caller, listener, initial, now, Duration::ZERO).map(|(sessions, _)| sessions)
}

/// The same with a delay on each way; and when it was over.
fn slow_handshake(
    caller: &Options,
    listener: &Options,
    initial: u32,
    mut now: Instant,
    delay: Duration,
) -> Result<([Session; 2], Instant), SrtError> {
    let mut call = Caller::new(address(1), caller, 10, initial, now)?;
    let desk = Listener::new(now);
    let mut accepted = None;
    for _ in 0..4 {
        let mut out = Vec::new();
        call.poll(now, &mut out)?;
        now += delay;
        for datagram in std::mem::take(&mut out) {
            let bytes = wire(&datagram);
            let Ok(Packet::Control(Control::Handshake(body), timestamp, 0)) = Packet::parse(&bytes) else {
                panic!("a caller sends handshakes for no session");
            };
            match desk.handshake(body, timestamp, address(2), now) {
                Heard::Reply(reply) => out.push(reply),
                Heard::Silence => panic!("an honest caller is answered"),
                Heard::Caller(conclusion) => match conclusion.accept(20, listener, now) {
                    Ok(mut session) => {
                        session.poll(now, &mut out);
                        accepted = Some(session);
                    }
                    Err(reason) => out.push(conclusion.reject(reason)),
                },
            }
        }
        now += delay;
        for datagram in out {
            if let Some(session) = call.input(&wire(&datagram), now)? {
                return Ok(([session, accepted.unwrap()], now));
            }
        }
    }
    panic!("no session after four rounds");
}

impl World {
    fn new(caller: &Options, listener: &Options, weather: Weather, initial: u32) -> Self {
        let begin = Instant::now();
        let ([caller, listener], now) =
            slow_handshake(caller, listener, initial, begin, weather.delay + weather.jitter / 2).unwrap();
        Self {
            now,
            weather,
            dice: Dice(0x2545_f491_4f6c_dd1d),
            way: BinaryHeap::new(),
            count: 0,
            last: [now; 2],
            caller,
            listener,
            slow: 0,
            begin,
            received: Vec::new(),
        }
    }

    fn with(options: &Options, weather: Weather) -> Self {
        Self::new(options, options, weather, 0x7fff_ff00)
    }

    /// The listener's time.
    fn listener_now(&self) -> Instant {
        let passed = self.now - self.begin;
        self.begin + (passed - passed / 1_000_000 * self.slow)
    }

    fn put_on_the_way(&mut self, out: Vec<Datagram>, to_caller: bool) {
        for datagram in out {
            let Weather { loss, delay, jitter, late, twice, cut } = self.weather;
            let copies = 1 + u64::from(self.dice.below(1000) < twice);
            for _ in 0..copies {
                if cut || self.dice.below(1000) < loss {
                    continue;
                }
                let jitter = Duration::from_micros(self.dice.below(jitter.as_micros() as u64 + 1));
                let mut at = self.now + delay + jitter;
                let last = &mut self.last[usize::from(to_caller)];
                if self.dice.below(1000) < late {
                    at += 5 * MS;
                } else {
                    at = at.max(*last);
                    *last = at;
                }
                self.count += 1;
                self.way.push(Reverse((at, self.count, to_caller, wire(&datagram))));
            }
        }
    }

    /// Lets time pass, until `until`.
    fn run(&mut self, until: Instant) {
        loop {
            let mut out = Vec::new();
            self.caller.poll(self.now, &mut out);
            self.put_on_the_way(out, false);
            let mut out = Vec::new();
            let there = self.listener_now();
            self.listener.poll(there, &mut out);
            self.put_on_the_way(out, true);
            while let Some(payload) = self.listener.receive(there) {
                self.received.push((self.now, payload));
            }
            let arrival = self.way.peek().map(|Reverse((at, ..))| *at);
            let lead = self.now - there;
            let wake = |at: Instant| at + lead;
            let next = [
                Some(self.caller.deadline()).filter(|_| self.caller.ended().is_none()),
                Some(wake(self.listener.deadline())).filter(|_| self.listener.ended().is_none()),
                self.listener.readable_at().map(wake),
                arrival,
            ];
            // A timer fires a millisecond late at most.
            let next = next.into_iter().flatten().min().unwrap_or(until).max(self.now + MS / 50);
            if next >= until {
                self.now = until;
                return;
            }
            self.now = next;
            while let Some(Reverse((at, ..))) = self.way.peek() {
                if *at > self.now {
                    break;
                }
                let Some(Reverse((_, _, to_caller, bytes))) = self.way.pop() else { break };
                let mut out = Vec::new();
                if to_caller {
                    self.caller.input(&bytes, self.now, &mut out);
                } else {
                    let there = self.listener_now();
                    self.listener.input(&bytes, there, &mut out);
                }
                self.put_on_the_way(out, !to_caller);
            }
        }
    }

    /// Sends so many payloads with their numbers in them, one each `gap`.
    fn send(&mut self, numbers: std::ops::Range<u32>, gap: Duration) {
        for number in numbers {
            let mut data = number.to_be_bytes().to_vec();
            data.resize(1316, 7);
            let _ = self.caller.send(data.into(), self.now);
            self.run(self.now + gap);
        }
    }

    fn settle(&mut self) {
        self.run(self.now + 3 * Duration::from_secs(1));
    }

    fn numbers(&self) -> Vec<u32> {
        let number = |payload: &Payload| u32::from_be_bytes(payload.data[..4].try_into().unwrap());
        self.received.iter().map(|(_, payload)| number(payload)).collect()
    }

    fn assert_whole(&self, count: u32) {
        let numbers = self.numbers();
        let missing: Vec<_> =
            (0..count).filter(|number| numbers.binary_search(number).is_err()).take(10).collect();
        assert!(
            numbers.is_sorted() && numbers.len() == count as usize,
            "{} of {count}, not {missing:?}",
            numbers.len()
        );
        let statistics = self.listener.statistics(self.now);
        assert_eq!((statistics.pkt_rcv_drop_total, statistics.pkt_rcv_undecrypt_total), (0, 0));
        assert_eq!(statistics.pkt_recv_unique_total, u64::from(count));
    }
}

fn latency(ms: u32) -> Options {
    Options { receive_latency: ms * MS, ..Options::default() }
}

const FIELD: Weather = Weather {
    loss: 50,
    delay: Duration::from_millis(40),
    jitter: Duration::from_millis(20),
    late: 20,
    twice: 5,
    cut: false,
};

#[test]
fn what_comes_is_delivered_in_time_and_order() {
    let mut world = World::with(&latency(120), Weather { delay: 10 * MS, ..Weather::default() });
    let begin = world.now;
    world.send(0..1000, 3 * MS);
    world.settle();
    world.assert_whole(1000);
    for (number, (at, payload)) in (0..).zip(&world.received) {
        // On the way for ten milliseconds, which count as none, as the handshake was on the way as long.
        let kept = at.duration_since(begin + number * 3 * MS);
        assert!((125 * MS..=135 * MS).contains(&kept), "packet {number} after {kept:?}");
        assert_eq!(payload.time, 40_000 + i64::from(number) * 3_000);
    }
    assert_eq!(world.caller.statistics(world.now).pkt_retrans_total, 0);
    assert!((19.0..22.0).contains(&world.caller.statistics(world.now).ms_rtt));
}

#[test]
fn nothing_is_missing_after_loss_jitter_and_reordering() {
    for (passphrase, cipher) in
        [(None, None), (Some(()), Some(CipherMode::Ctr)), (Some(()), Some(CipherMode::Gcm))]
    {
        let options = Options {
            passphrase: passphrase.map(|()| "correct horse".to_owned()),
            cipher,
            key_length: Some(KeyLength::Aes256),
            key_refresh: 500,
            key_announce: 200,
            ..latency(400)
        };
        let mut world = World::with(&options, FIELD);
        world.send(0..5000, 2 * MS);
        world.settle();
        world.assert_whole(5000);
        let sent = world.caller.statistics(world.now);
        assert!((200..1000).contains(&sent.pkt_retrans_total), "{} sent again", sent.pkt_retrans_total);
    }
}

#[test]
fn five_minutes_on_a_bad_network_are_whole() {
    let mut world = World::with(&latency(400), FIELD);
    // 4 Mbit/s.
    world.send(0..114_000, Duration::from_micros(2632));
    world.settle();
    world.assert_whole(114_000);
    let sent = world.caller.statistics(world.now);
    let again = sent.pkt_retrans_total * 100 / sent.pkt_sent_unique_total;
    assert!((5..12).contains(&again), "{again} percent were sent again");
}

#[test]
fn whatever_is_lost_on_a_bad_network_comes_in_time() {
    for seed in 1..80u64 {
        let mut world = World::with(&latency(400), FIELD);
        world.dice = Dice(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
        world.send(0..1500, Duration::from_micros(2632));
        world.settle();
        world.assert_whole(1500);
    }
}

#[test]
fn what_is_too_late_is_dropped_and_counted_and_the_rest_goes_on() {
    let weather = Weather { loss: 200, delay: 50 * MS, ..Weather::default() };
    let mut world = World::with(&latency(150), weather);
    world.send(0..5000, 2 * MS);
    world.settle();
    let numbers = world.numbers();
    assert!(numbers.is_sorted() && numbers.len() < 5000 && numbers.len() > 4500, "{} came", numbers.len());
    let statistics = world.listener.statistics(world.now);
    assert_eq!(statistics.pkt_rcv_drop_total, 5000 - numbers.len() as u64);
    assert_eq!(world.caller.ended(), None);
}

#[test]
fn a_cut_is_survived_or_ends_the_session_as_the_idle_timeout_says() {
    for (idle, end) in [(5, None), (2, Some(End::Idle))] {
        let options = Options { idle_timeout: Duration::from_secs(idle), ..latency(120) };
        let mut world = World::with(&options, Weather { delay: 10 * MS, ..Weather::default() });
        world.send(0..500, 2 * MS);
        world.weather.cut = true;
        world.send(500..2000, 2 * MS);
        world.weather.cut = false;
        world.send(2000..2500, 2 * MS);
        world.settle();
        assert_eq!((world.caller.ended(), world.listener.ended()), (end, end));
        let numbers = world.numbers();
        assert!(numbers.is_sorted());
        if end.is_none() {
            assert!((2000..2500).all(|number| numbers.binary_search(&number).is_ok()), "the stream goes on");
            assert!(world.listener.statistics(world.now).pkt_rcv_drop_total > 500);
            assert!(world.caller.statistics(world.now).pkt_snd_drop_total > 500);
        }
    }
}

#[test]
fn a_cut_in_which_more_was_sent_than_is_kept_is_survived() {
    let options = Options { passphrase: Some("correct horse".into()), send_buffer: 20_000, ..latency(120) };
    let mut world = World::with(&options, Weather { delay: 10 * MS, ..Weather::default() });
    world.send(0..500, MS / 10);
    world.weather.cut = true;
    world.send(500..20_000, MS / 10);
    world.weather.cut = false;
    world.send(20_000..25_000, MS / 10);
    world.settle();
    let numbers = world.numbers();
    assert!(numbers.is_sorted() && numbers.last() == Some(&24_999));
    let statistics = world.listener.statistics(world.now);
    assert_eq!(statistics.pkt_rcv_drop_total + numbers.len() as u64, 25_000);
    assert!(numbers.len() > 5000, "{}", numbers.len());
}

#[test]
fn time_stamps_wrap_and_clocks_drift() {
    let mut world = World::with(&latency(120), Weather { delay: 10 * MS, jitter: MS, ..Weather::default() });
    world.slow = 30;
    // 75 minutes: 32 bits of microseconds are 71.6.
    world.send(0..9000, 500 * MS);
    world.settle();
    world.assert_whole(9000);
    let mut before = None;
    for (number, (at, payload)) in (0..).zip(&world.received) {
        assert_eq!(payload.time, 42_000 + i64::from(number) * 500_000);
        if let Some(before) = before.replace(*at) {
            let gap = at.duration_since(before);
            assert!((490 * MS..=510 * MS).contains(&gap), "packet {number} after {gap:?}");
        }
    }
    // 75 minutes at 30 ppm are 135 ms, more than the latency: without following the clock nothing would be in time.
    let (at, payload) = world.received.last().unwrap();
    let kept = at.duration_since(world.begin + Duration::from_micros(payload.time.cast_unsigned()));
    assert!((110 * MS..=150 * MS).contains(&kept), "{kept:?}");
}

#[test]
fn what_is_only_late_is_not_sent_again_when_that_is_allowed() {
    let weather = Weather { delay: 20 * MS, late: 30, ..Weather::default() };
    let mut again = Vec::new();
    for loss_max_ttl in [0, 50] {
        let mut world = World::with(&Options { loss_max_ttl, ..latency(300) }, weather);
        world.send(0..5000, MS);
        world.settle();
        world.assert_whole(5000);
        again.push(world.caller.statistics(world.now).pkt_retrans_total);
    }
    assert!(again[0] > 100 && again[1] < again[0] / 4, "{again:?}");
}

#[test]
fn the_pace_is_kept_and_a_burst_goes_through() {
    let fixed = Options { bandwidth: Bandwidth::Fixed(1_000_000), ..latency(500) };
    let mut world = World::with(&fixed, Weather { delay: 5 * MS, ..Weather::default() });
    let begin = world.now;
    world.send(0..300, Duration::ZERO);
    world.settle();
    world.assert_whole(300);
    let sent = world.caller.statistics(world.now);
    // 300 packets of 1360 bytes at 1 MB/s: 408 ms, so the last is delivered when it was to be.
    let took = world.received.last().unwrap().0.duration_since(begin);
    assert!((500 * MS..=535 * MS).contains(&took), "{took:?}");
    assert!((sent.mbps_max_bw - 8.0).abs() < 0.1 && sent.us_pkt_snd_period > 1000.0);

    let input = Options { bandwidth: Bandwidth::Input { rate: None, overhead: 25 }, ..latency(400) };
    let mut world = World::with(&input, FIELD);
    world.send(0..5000, 2 * MS);
    world.settle();
    world.assert_whole(5000);
}

#[test]
fn the_last_packets_arrive_before_the_end_is_told() {
    let mut world = World::with(&latency(400), Weather { loss: 100, delay: 30 * MS, ..Weather::default() });
    world.send(0..200, 2 * MS);
    world.caller.close(world.now);
    world.settle();
    world.assert_whole(200);
    assert_eq!(world.caller.ended(), Some(End::Closed));
    world.run(world.now + Duration::from_secs(6));
    assert!(world.listener.ended().is_some());
    assert!(world.caller.send(Bytes::new(), world.now).is_err());
}

#[test]
fn an_idle_session_stays() {
    let mut world = World::with(&latency(120), Weather { delay: 10 * MS, ..Weather::default() });
    world.run(world.now + Duration::from_secs(3600));
    world.send(0..10, 10 * MS);
    world.settle();
    world.assert_whole(10);
}

#[test]
fn nothing_stays_missing_when_the_peer_does_not_report_again() {
    let options = Options { nak_report: false, ..latency(600) };
    let mut world = World::with(&options, Weather { loss: 50, delay: 20 * MS, ..Weather::default() });
    world.send(0..2000, 2 * MS);
    world.settle();
    world.assert_whole(2000);
}

#[test]
fn both_sides_take_the_longer_latency() {
    let caller = Options { receive_latency: 80 * MS, peer_latency: 300 * MS, ..Options::default() };
    let listener = Options { receive_latency: 200 * MS, peer_latency: 250 * MS, ..Options::default() };
    let [caller, listener] = handshake(&caller, &listener, 1, Instant::now()).unwrap();
    let [caller, listener] = [caller, listener].map(|session| session.statistics(Instant::now()));
    assert_eq!((caller.ms_rcv_tsb_pd_delay, caller.ms_snd_tsb_pd_delay), (250, 300));
    assert_eq!((listener.ms_rcv_tsb_pd_delay, listener.ms_snd_tsb_pd_delay), (300, 250));
}

#[test]
fn ciphers_must_agree() {
    let with = |cipher| Options { passphrase: Some("correct horse".into()), cipher, ..Options::default() };
    for (caller, listener, fits) in [
        (None, None, true),
        (Some(CipherMode::Gcm), None, true),
        (Some(CipherMode::Gcm), Some(CipherMode::Ctr), false),
        (None, Some(CipherMode::Gcm), false),
    ] {
        let result = handshake(&with(caller), &with(listener), 1, Instant::now());
        match result {
            Ok(_) => assert!(fits),
            Err(SrtError::Refused(reason)) => assert!(!fits && reason == Reject::CRYPTO),
            Err(e) => panic!("{e}"),
        }
    }
}

#[test]
fn a_storm_of_loss_reports_makes_no_storm_of_packets() {
    let [mut caller, _] = handshake(&latency(120), &latency(120), 5, Instant::now()).unwrap();
    let begin = Instant::now();
    let mut out = Vec::new();
    for _ in 0..1000 {
        caller.send(Bytes::from_static(&[1; 1316]), begin).unwrap();
    }
    for _ in 0..10 {
        caller.poll(begin, &mut out);
    }
    // What was not sent can't be reported, and the peer says that a round trip is nothing.
    let mut storm = control(kind::NAK, 0, 0, 0, 10).to_vec();
    for word in [5 | 1 << 31, 1004] {
        storm.extend_from_slice(&u32::to_be_bytes(word));
    }
    let mut again = 0;
    for ms in 0..900 {
        let now = begin + ms * MS;
        for _ in 0..100 {
            caller.input(&storm, now, &mut out);
        }
        out.clear();
        caller.poll(now, &mut out);
        again += out.len();
    }
    // It may use up what a sender has to spare for loss, and no more.
    assert!((1000..12_000).contains(&again), "{again} packets");
}

#[test]
fn who_sends_what_is_not_encrypted_is_not_heard_by_who_wants_it_encrypted() {
    let options = Options { passphrase: Some("correct horse".into()), ..latency(20) };
    let now = Instant::now();
    let [_, mut listener] = handshake(&options, &options, 5, now).unwrap();
    let header = DataHeader {
        seq: Seq::new(5),
        place: 3,
        key: KeyFlag::None,
        again: false,
        message: 1,
        timestamp: 0,
        to: 20,
    };
    let datagram = [&header.bytes()[..], b"forged"].concat();
    listener.input(&datagram, now + MS, &mut Vec::new());
    assert_eq!(listener.receive(now + 1000 * MS), None);
    assert_eq!(listener.statistics(now).pkt_rcv_undecrypt_total, 1);
}

#[test]
fn what_comes_again_or_from_elsewhere_in_the_circle_keeps_memory_small() {
    let now = Instant::now();
    let [_, mut listener] = handshake(&latency(8000), &latency(8000), 5, now).unwrap();
    let mut out = Vec::new();
    let mut dice = Dice(77);
    for step in 0..200_000u32 {
        let seq = match step % 3 {
            0 => Seq::new(dice.below(1 << 31) as u32),
            1 => Seq::new(5 + dice.below(9000) as u32),
            _ => Seq::new(5).minus(dice.below(9000) as u32),
        };
        let header =
            DataHeader { seq, place: 3, key: KeyFlag::None, again: false, message: 1, timestamp: 0, to: 20 };
        let datagram = [&header.bytes()[..], &[1; 100]].concat();
        listener.input(&datagram, now + MS, &mut out);
        if step % 1000 == 0 {
            listener.poll(now + MS, &mut out);
            assert!(out.iter().all(|datagram| datagram.body.len() <= 1456));
            out.clear();
        }
    }
    let statistics = listener.statistics(now);
    assert!(statistics.pkt_rcv_buf <= 8192 && statistics.byte_rcv_buf <= 8192 * 100, "{statistics:?}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn hostile_packets(
        packets in proptest::collection::vec((0..10u16, any::<u32>(), proptest::collection::vec(any::<u8>(), 0..64)), 1..60),
    ) {
        let now = Instant::now();
        let [mut caller, mut listener] = handshake(&latency(50), &latency(50), 0x7fff_fff0, now).unwrap();
        let mut out = Vec::new();
        for (step, (what, word, body)) in packets.into_iter().enumerate() {
            let now = now + step as u32 * 7 * MS;
            let _ = caller.send(Bytes::from_static(b"payload"), now);
            let head = match what {
                9 => DataHeader {
                    seq: Seq::new(0x7fff_fff0u32.wrapping_add(word % 64)),
                    place: 3,
                    key: KeyFlag::None,
                    again: word % 2 == 0,
                    message: 1,
                    timestamp: word,
                    to: 0,
                }
                .bytes(),
                4 => control(kind::EXTENSION, 3, word, word, 0),
                what => control(what, 0, word, word, 0),
            };
            let near = 0x7fff_fff0u32.wrapping_add(word % 64).to_be_bytes();
            let body = if word % 3 == 0 { [&near[..], &body].concat() } else { body };
            let datagram = [&head[..], &body].concat();
            for session in [&mut caller, &mut listener] {
                session.input(&datagram, now, &mut out);
                session.poll(now, &mut out);
                while session.receive(now).is_some() {}
                let _ = session.deadline();
                let _ = session.statistics(now).named().count();
            }
        }
        prop_assert!(out.len() < 20_000);
    }
}
