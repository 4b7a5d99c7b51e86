//! Finds packets in a stream of bytes, also those of 192 (Blu-ray) and 204 bytes (with Reed-Solomon parity).

use bytes::{Bytes, BytesMut};

use super::PACKET;
use super::packet::SYNC;

/// From one sync byte to the next.
const STRIDES: [usize; 3] = [PACKET, 192, 204];
/// Bytes needed to see three sync bytes in a row, whatever the stride.
const WINDOW: usize = 2 * 204 + 1;

/// Cuts a stream of bytes into packets. Keeps less than [`WINDOW`] bytes.
#[derive(Debug, Default)]
pub(super) struct Sync {
    stride: Option<usize>,
    /// The begin of a packet, or what is too short to find one in.
    stash: Vec<u8>,
    /// Bytes passed over in search of packets.
    pub(super) skipped: u64,
}

impl Sync {
    /// How many bytes wait for more.
    pub(super) fn waiting(&self) -> usize {
        self.stash.len()
    }

    /// Calls `each` with the 188 bytes of every packet.
    pub(super) fn push(&mut self, mut data: &[u8], each: &mut dyn FnMut(&[u8])) {
        while !data.is_empty() {
            if self.stash.is_empty() {
                let used = self.run(data, each);
                self.stash.extend_from_slice(data.get(used..).unwrap_or_default());
                return;
            }
            // No more than it takes: what follows is then used where it is.
            let wanted = self.stride.unwrap_or(WINDOW).saturating_sub(self.stash.len()).max(1);
            let (now, later) = data.split_at(wanted.min(data.len()));
            data = later;
            self.stash.extend_from_slice(now);
            let mut stash = std::mem::take(&mut self.stash);
            let used = self.run(&stash, each);
            stash.drain(..used.min(stash.len()));
            self.stash = stash;
        }
    }

    /// The end: packets that had nothing after them to be found by.
    pub(super) fn finish(&mut self, each: &mut dyn FnMut(&[u8])) {
        let stash = std::mem::take(&mut self.stash);
        for bytes in stash.chunks(self.stride.take().unwrap_or(PACKET)) {
            match bytes.get(..PACKET) {
                Some(packet) if packet.first() == Some(&SYNC) => each(packet),
                _ => break,
            }
        }
    }

    /// Takes packets off the front; tells how many bytes that were.
    fn run(&mut self, data: &[u8], each: &mut dyn FnMut(&[u8])) -> usize {
        let mut at = 0;
        loop {
            let rest = data.get(at..).unwrap_or_default();
            if let Some(stride) = self.stride {
                let Some(packet) = rest.get(..stride).and_then(|whole| whole.get(..PACKET)) else {
                    return at;
                };
                if packet.first() == Some(&SYNC) {
                    each(packet);
                    at += stride;
                } else {
                    self.stride = None;
                }
                continue;
            }
            if rest.len() < WINDOW {
                return at;
            }
            let is_sync = |place: usize| rest.get(place) == Some(&SYNC);
            self.stride =
                STRIDES.into_iter().find(|&stride| is_sync(0) && is_sync(stride) && is_sync(2 * stride));
            if self.stride.is_none() {
                let next = rest.iter().skip(1).position(|&byte| byte == SYNC).map_or(rest.len(), |n| n + 1);
                at += next;
                self.skipped += next as u64;
            }
        }
    }
}

/// Puts a stream of bytes, cut in any way, into whole packets of 188 bytes.
#[derive(Debug, Default)]
pub struct Aligner {
    sync: Sync,
}

impl Aligner {
    /// The whole packets that there are with `data`. What has nothing but whole packets is given as it is.
    pub fn push(&mut self, data: &Bytes) -> Bytes {
        let whole = |data: &[u8]| {
            data.len().is_multiple_of(PACKET)
                && data.chunks(PACKET).all(|packet| packet.first() == Some(&SYNC))
        };
        if self.sync.stash.is_empty() && whole(data) {
            return data.clone();
        }
        let mut packets = BytesMut::with_capacity(data.len() + PACKET);
        self.sync.push(data, &mut |packet| packets.extend_from_slice(packet));
        packets.freeze()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packets(data: &[u8], cut: usize) -> (Vec<u8>, u64) {
        let mut sync = Sync::default();
        let mut got = Vec::new();
        for part in data.chunks(cut) {
            sync.push(part, &mut |packet| {
                assert_eq!(packet.len(), PACKET);
                got.push(packet[1]);
            });
            assert!(sync.stash.len() < WINDOW);
        }
        sync.finish(&mut |packet| got.push(packet[1]));
        (got, sync.skipped)
    }

    #[test]
    fn any_cut_and_any_stride() {
        for stride in STRIDES {
            let mut data = Vec::new();
            for n in 0..12 {
                data.push(SYNC);
                data.resize(data.len() + stride - 1, n);
            }
            for cut in [1, 2, 7, 100, 187, 188, 189, 192, 204, 500, 5000] {
                assert_eq!(packets(&data, cut), ((0..12).collect(), 0), "stride {stride}, cut {cut}");
            }
        }
    }

    #[test]
    fn garbage_costs_the_packets_it_hits() {
        let mut data = vec![SYNC, 1, 2];
        for n in 0..12 {
            data.push(SYNC);
            data.resize(data.len() + PACKET - 1, n);
            if n == 5 {
                data.extend_from_slice(&[0x55; 33]);
            }
        }
        for cut in [1, 188, 1000] {
            assert_eq!(packets(&data, cut), ((0..12).collect(), 36));
        }
        assert_eq!(packets(&[SYNC; 100], 9), (vec![], 0));
        assert!(packets(&[0; 5000], 9).0.is_empty());
    }

    #[test]
    fn packets_are_made_whole() {
        let mut data = Vec::new();
        for n in 0..40 {
            data.push(SYNC);
            data.resize(data.len() + PACKET - 1, n);
        }
        for cut in [1, 100, 188, 1316, 1456] {
            let mut aligner = Aligner::default();
            let mut all = Vec::new();
            for part in data.chunks(cut) {
                let whole = aligner.push(&Bytes::copy_from_slice(part));
                assert_eq!(whole.len() % PACKET, 0);
                all.extend_from_slice(&whole);
            }
            assert!(data.starts_with(&all) && all.len() + 3 * PACKET > data.len(), "cut {cut}");
            // A lost part costs its packets.
            let mut aligner = Aligner::default();
            let parts = data.chunks(cut).enumerate().filter(|(n, _)| *n != 3).map(|(_, part)| part);
            for whole in parts.map(|part| aligner.push(&Bytes::copy_from_slice(part))) {
                assert!(whole.chunks(PACKET).all(|packet| packet[0] == SYNC));
            }
        }
        let whole = Bytes::from(data);
        assert_eq!(Aligner::default().push(&whole).as_ptr(), whole.as_ptr(), "not copied");
    }

    #[test]
    fn one_packet_alone() {
        let mut data = [9; PACKET];
        data[0] = SYNC;
        assert_eq!(packets(&data, 50).0, [9]);
        assert!(packets(&data[1..], 50).0.is_empty());
    }
}
