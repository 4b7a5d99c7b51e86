//! A publisher's own packets, on their way to viewers.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use tokio::sync::Notify;

use super::{Fanouts, lock};
use crate::format::rtp::{Packet, starts_key};
use crate::hub::StreamName;
use crate::media::{Codec, Kind};

/// Packets that wait for the task that sends them; more are lost. While there is none, those since the newest key frame
/// wait for whoever comes.
const MAX_WAITING: usize = 2048;

/// What a publisher passes on.
#[derive(Debug)]
pub(super) enum Passed {
    /// A packet, in order; so many before it are lost.
    Packet {
        /// What is in it.
        codec: Codec,
        /// Ticks of its timestamp in a second.
        clock_rate: u32,
        /// The packet.
        packet: Packet,
        /// Lost before it.
        lost: u64,
    },
    /// What follows has other timestamps: of another layer.
    Switch(Codec),
    /// The publisher's clock: NTP time, and the timestamp that the codec's packets had then.
    Clock {
        /// Of whose packets.
        codec: Codec,
        /// 32.32 bits of seconds since 1900.
        ntp: u64,
        /// In ticks.
        timestamp: u32,
        /// When that was told.
        at: Instant,
    },
}

/// What waits for the task.
#[derive(Debug, Default)]
struct Queue {
    passed: VecDeque<Passed>,
    /// Packets of sound and of picture that there was no room for, since the last for which there was.
    dropped: [u64; 2],
}

impl Queue {
    fn dropped(&mut self, codec: Codec) -> &mut u64 {
        let [sound, picture] = &mut self.dropped;
        if codec.kind() == Kind::Video { picture } else { sound }
    }
}

/// What a passage's two ends share.
#[derive(Debug, Default)]
pub(super) struct Passing {
    queue: Mutex<Queue>,
    /// There is a task that takes it.
    taken: AtomicBool,
    /// Someone needs a key frame.
    wants_key: AtomicBool,
    key_wanted: Notify,
}

impl Passing {
    /// What is there is taken from now on, or not.
    pub(super) fn take(&self, taken: bool) {
        self.taken.store(taken, Ordering::Release);
    }

    #[cfg(test)]
    pub(super) fn is_taken(&self) -> bool {
        self.taken.load(Ordering::Acquire)
    }

    pub(super) fn drain(&self) -> VecDeque<Passed> {
        std::mem::take(&mut lock(&self.queue).passed)
    }

    pub(super) fn is_empty(&self) -> bool {
        lock(&self.queue).passed.is_empty()
    }

    fn push(&self, mut passed: Passed) {
        let taken = self.taken.load(Ordering::Acquire);
        let mut queue = lock(&self.queue);
        if !taken && begins(&passed, &queue.passed) {
            *queue = Queue {
                passed: queue.passed.drain(..).filter(|old| matches!(old, Passed::Clock { .. })).collect(),
                ..Queue::default()
            };
            let surplus = queue.passed.len().saturating_sub(MAX_CLOCKS);
            queue.passed.drain(..surplus);
        }
        if queue.passed.len() >= MAX_WAITING {
            match &passed {
                _ if !taken => drop(queue.passed.pop_front()),
                // What viewers miss they have to see by the numbers.
                Passed::Packet { codec, lost, .. } => {
                    *queue.dropped(*codec) += lost + 1;
                    return;
                }
                Passed::Clock { .. } => return,
                // Seldom; without it, what follows would be of another time.
                Passed::Switch(_) => {}
            }
        }
        if let Passed::Packet { codec, lost, .. } = &mut passed {
            *lost += std::mem::take(queue.dropped(*codec));
        }
        queue.passed.push_back(passed);
    }

    pub(super) fn ask_key(&self) {
        if !self.wants_key.swap(true, Ordering::AcqRel) {
            self.key_wanted.notify_one();
        }
    }
}

/// The newest clocks that are kept: of picture and sound.
const MAX_CLOCKS: usize = 4;

/// Whether a packet is the first of a key frame: what was before is of no use to who comes now.
fn begins(passed: &Passed, queue: &VecDeque<Passed>) -> bool {
    let Passed::Packet { codec, packet, .. } = passed else { return false };
    let is_same = |old: &Passed| {
        matches!(old, Passed::Packet { codec: other, packet: old, .. }
        if other == codec && old.header.timestamp == packet.header.timestamp)
    };
    codec.kind() == Kind::Video
        && starts_key(*codec, &packet.payload)
        && !queue.iter().rev().take(64).any(is_same)
}

/// The publisher's end: while it is there, viewers get its packets as they are.
pub struct Passage {
    fanouts: Fanouts,
    name: StreamName,
    passing: Arc<Passing>,
}

impl Passage {
    pub(super) fn new(fanouts: Fanouts, name: StreamName, passing: Arc<Passing>) -> Self {
        Self { fanouts, name, passing }
    }

    /// Passes a packet on; `lost` before it are missing for good. Call [`flush`](Self::flush) after the last of several.
    pub fn packet(&self, codec: Codec, clock_rate: u32, packet: &Packet, lost: u64) {
        self.passing.push(Passed::Packet { codec, clock_rate, packet: packet.clone(), lost });
    }

    /// Tells how the publisher's clock stands.
    pub fn clock(&self, codec: Codec, ntp: u64, timestamp: u32, at: Instant) {
        self.passing.push(Passed::Clock { codec, ntp, timestamp, at });
    }

    /// Packets of this codec have other timestamps from now on.
    pub fn switch(&self, codec: Codec) {
        self.passing.push(Passed::Switch(codec));
    }

    /// What was passed is sent now.
    pub fn flush(&self) {
        if self.passing.taken.load(Ordering::Acquire) {
            self.fanouts.wake(&self.name);
        }
    }

    /// Waits until a viewer needs a key frame.
    pub async fn key_wanted(&self) {
        while !self.passing.wants_key.swap(false, Ordering::AcqRel) {
            self.passing.key_wanted.notified().await;
        }
    }
}

impl Drop for Passage {
    fn drop(&mut self) {
        self.fanouts.end_passage(&self.name, &self.passing);
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::format::rtp::{Extensions, Header};

    fn packet(codec: Codec) -> Passed {
        let payload = Bytes::from_static(&[0x41, 1]);
        let packet = Packet { header: Header::default(), extensions: Extensions::default(), payload };
        Passed::Packet { codec, clock_rate: 90_000, packet, lost: 1 }
    }

    #[test]
    fn packets_without_room_are_told_as_lost() {
        let passing = Passing::default();
        passing.take(true);
        let lost = |passing: &Passing| -> Vec<_> {
            let of_packet = |passed: &Passed| match passed {
                Passed::Packet { codec, lost, .. } => Some((*codec, *lost)),
                _ => None,
            };
            passing.drain().iter().filter_map(of_packet).collect()
        };
        for _ in 0..MAX_WAITING + 10 {
            passing.push(packet(Codec::H264));
        }
        passing.push(packet(Codec::Opus));
        passing.push(Passed::Switch(Codec::H264));
        assert!(passing.drain().iter().any(|passed| matches!(passed, Passed::Switch(_))));
        [Codec::H264, Codec::H264, Codec::Opus]
            .map(packet)
            .into_iter()
            .for_each(|packet| passing.push(packet));
        assert_eq!(lost(&passing), [(Codec::H264, 21), (Codec::H264, 1), (Codec::Opus, 3)]);
    }
}
