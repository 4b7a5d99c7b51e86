//! Transport-wide feedback: when each packet of a transport came, by numbers that all its streams share.

use std::collections::VecDeque;

use super::{TRANSPORT_FEEDBACK, Writer};

/// The unit of deltas, in microseconds.
const DELTA_US: i64 = 250;
/// The unit of the reference time: 64 ms.
const REFERENCE_US: i64 = 64_000;
/// The most packets that one report tells of; more wait for the next.
const MOST: usize = 400;
/// The most packets that a report is read of. A few bytes may claim 65535 of them, each of which is a step of work.
const MOST_READ: u16 = 1024;
/// Packets that no report told of yet, at most.
const MAX_WAITING: usize = 2000;

/// A report that was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Received<'a> {
    /// The number of the first packet.
    pub base: u16,
    /// How many packets it tells of.
    pub count: u16,
    /// In units of 64 ms.
    pub reference: i32,
    /// Counts reports.
    pub number: u8,
    chunks: &'a [u8],
}

impl<'a> Received<'a> {
    pub(super) fn read(data: &'a [u8]) -> Option<Self> {
        let (&[b0, b1, c0, c1, r0, r1, r2, number], chunks) = data.split_first_chunk::<8>()?;
        let count = u16::from_be_bytes([c0, c1]);
        (count <= MOST_READ).then_some(Self {
            base: u16::from_be_bytes([b0, b1]),
            count,
            reference: i32::from_be_bytes([r0, r1, r2, 0]) >> 8,
            number,
            chunks,
        })
    }

    /// Each packet's number, and when it came, in microseconds on the receiver's clock; `None`: it did not. Ends early
    /// where the report is cut.
    #[must_use]
    pub fn iter(&self) -> Arrivals<'a> {
        Arrivals {
            sequence: self.base,
            left: self.count,
            time: i64::from(self.reference) * REFERENCE_US,
            symbols: Symbols::new(self.chunks),
            deltas: self.chunks.get(chunk_bytes(self.chunks, self.count)..).unwrap_or_default(),
        }
    }
}

/// How many bytes the chunks have that tell of `count` packets.
fn chunk_bytes(data: &[u8], count: u16) -> usize {
    let mut symbols = Symbols::new(data);
    (0..count).take_while(|_| symbols.next().is_some()).count();
    data.len() - symbols.rest.len()
}

/// Iterator of [`Received::iter`].
#[derive(Debug, Clone)]
pub struct Arrivals<'a> {
    sequence: u16,
    left: u16,
    time: i64,
    symbols: Symbols<'a>,
    deltas: &'a [u8],
}

impl Iterator for Arrivals<'_> {
    type Item = (u16, Option<i64>);

    fn next(&mut self) -> Option<Self::Item> {
        self.left = self.left.checked_sub(1)?;
        let sequence = self.sequence;
        self.sequence = sequence.wrapping_add(1);
        let delta = match self.symbols.next()? {
            1 => {
                let (delta, rest) = self.deltas.split_first()?;
                self.deltas = rest;
                i64::from(*delta)
            }
            2 => {
                let (delta, rest) = self.deltas.split_first_chunk::<2>()?;
                self.deltas = rest;
                i64::from(i16::from_be_bytes(*delta))
            }
            _ => return Some((sequence, None)),
        };
        self.time += delta * DELTA_US;
        Some((sequence, Some(self.time)))
    }
}

/// Status symbols of packets, chunk by chunk (3.1.3, 3.1.4).
#[derive(Debug, Clone)]
struct Symbols<'a> {
    rest: &'a [u8],
    chunk: u16,
    left: u16,
}

impl<'a> Symbols<'a> {
    fn new(rest: &'a [u8]) -> Self {
        Self { rest, chunk: 0, left: 0 }
    }
}

impl Iterator for Symbols<'_> {
    type Item = u8;

    fn next(&mut self) -> Option<u8> {
        while self.left == 0 {
            let (chunk, rest) = self.rest.split_first_chunk::<2>()?;
            self.rest = rest;
            self.chunk = u16::from_be_bytes(*chunk);
            self.left = match self.chunk >> 14 {
                0 | 1 => self.chunk & 0x1FFF,
                2 => 14,
                _ => 7,
            };
        }
        self.left -= 1;
        Some(match self.chunk >> 14 {
            0 | 1 => (self.chunk >> 13 & 3) as u8,
            2 => (self.chunk >> self.left & 1) as u8,
            _ => (self.chunk >> (2 * self.left) & 3) as u8,
        })
    }
}

/// Notes when packets come, and tells.
#[derive(Debug, Default)]
pub struct TwccWriter {
    /// Numbers, unwrapped, and times in microseconds; in order of numbers.
    waiting: VecDeque<(u64, i64)>,
    sequence: crate::format::rtp::clock::Sequence,
    /// The first that no report told of.
    next: Option<u64>,
    number: u8,
}

impl TwccWriter {
    /// A packet came, `at` microseconds on a clock of ours that never goes back and began near 0.
    pub fn note(&mut self, sequence: u16, at: i64) {
        let full = self.sequence.unwrap(sequence);
        if self.next.is_some_and(|next| full < next && next - full > 500) {
            return; // much too late
        }
        let place = self.waiting.iter().rposition(|(other, _)| *other <= full);
        match place {
            Some(place) if self.waiting.get(place).is_some_and(|(other, _)| *other == full) => {}
            Some(place) => self.waiting.insert(place + 1, (full, at)),
            None => self.waiting.push_front((full, at)),
        }
        if self.waiting.len() > MAX_WAITING {
            self.waiting.pop_front();
        }
    }

    /// Whether there is something to tell.
    #[must_use]
    pub fn is_due(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// Appends a report of what came since the one before.
    pub fn write(&mut self, sender: u32, media: u32, out: &mut Writer) {
        let Some(&(first, first_at)) = self.waiting.front() else { return };
        // What came late begins the report; else it goes on where the one before ended, to tell what was lost.
        let base = self.next.filter(|next| *next <= first && first - next < MOST as u64).unwrap_or(first);
        let reference = first_at.div_euclid(REFERENCE_US);
        let mut time = reference * REFERENCE_US;
        let mut symbols: heapless::Vec<u8, MOST> = heapless::Vec::new();
        let mut deltas: heapless::Vec<u8, { 2 * MOST }> = heapless::Vec::new();
        let mut next = base;
        while let Some(&(sequence, at)) = self.waiting.front() {
            let missing = sequence.saturating_sub(next) as usize;
            if symbols.len() + missing + 1 > MOST {
                break;
            }
            let delta = (at - time).div_euclid(DELTA_US);
            let Ok(short) = i16::try_from(delta) else { break };
            let _ = symbols.resize(symbols.len() + missing, 0);
            let pushed = match u8::try_from(short) {
                Ok(byte) => symbols.push(1).is_ok() && deltas.push(byte).is_ok(),
                Err(_) => symbols.push(2).is_ok() && deltas.extend_from_slice(&short.to_be_bytes()).is_ok(),
            };
            if !pushed {
                break;
            }
            time += delta * DELTA_US;
            next = sequence + 1;
            self.waiting.pop_front();
        }
        self.next = Some(self.next.map_or(next, |before| before.max(next)));
        let number = self.number;
        self.number = number.wrapping_add(1);
        out.feedback(TRANSPORT_FEEDBACK, 15, sender, media, |out| {
            out.extend_from_slice(&(base as u16).to_be_bytes());
            out.extend_from_slice(&(symbols.len() as u16).to_be_bytes());
            let reference = (reference as u32 & 0xFF_FFFF) << 8 | u32::from(number);
            out.extend_from_slice(&reference.to_be_bytes());
            let mut rest = &symbols[..];
            while let Some(&symbol) = rest.first() {
                let run = rest.iter().take_while(|&&other| other == symbol).count();
                let (chunk, used) = if run > 7 {
                    (u16::from(symbol) << 13 | run as u16, run)
                } else {
                    let used = rest.len().min(7);
                    let two_bits = |sum, n| sum << 2 | u16::from(rest.get(n).copied().unwrap_or(0));
                    (0xC000 | (0..7).fold(0, two_bits), used)
                };
                out.extend_from_slice(&chunk.to_be_bytes());
                rest = rest.get(used..).unwrap_or_default();
            }
            out.extend_from_slice(&deltas);
        });
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Rtcp, packets};
    use super::*;

    fn report(notes: &mut TwccWriter) -> Vec<(u16, Option<i64>)> {
        let mut out = Writer::default();
        notes.write(1, 2, &mut out);
        let Some(Ok(Rtcp::Twcc(received))) = packets(out.bytes()).next() else { panic!("{out:?}") };
        assert_eq!(received.iter().count(), usize::from(received.count));
        received.iter().collect()
    }

    #[test]
    fn what_came_and_what_did_not() {
        let mut notes = TwccWriter::default();
        let start = 1_000_000;
        for n in (0..100u16).filter(|n| n % 10 != 3) {
            notes.note(65_500u16.wrapping_add(n), start + i64::from(n) * 1500);
        }
        let told = report(&mut notes);
        assert_eq!(told.len(), 100);
        for (n, (sequence, at)) in told.iter().enumerate() {
            assert_eq!(*sequence, 65_500u16.wrapping_add(n as u16));
            match at {
                Some(at) => assert!((at - start - n as i64 * 1500).abs() <= 250, "{n}: {at}"),
                None => assert_eq!(n % 10, 3),
            }
        }
        assert!(!notes.is_due());
        // The gap between two reports is told by the second; what comes late is told, too.
        notes.note(66, start + 400_000);
        assert_eq!(
            report(&mut notes).iter().map(|(s, at)| (*s, at.is_some())).collect::<Vec<_>>(),
            [(64, false), (65, false), (66, true)]
        );
        notes.note(65, start + 500_000);
        assert_eq!(report(&mut notes).len(), 1);
    }

    #[test]
    fn few_bytes_that_claim_many_packets_are_not_read() {
        let read = |count: u16| {
            let head = [&[0, 1], &count.to_be_bytes()[..], &[0, 0, 0, 7]].concat();
            Received::read(&[head, [0x1F, 0xFF].repeat(8)].concat()).map(|received| received.iter().count())
        };
        assert_eq!((read(MOST_READ), read(MOST_READ + 1), read(u16::MAX)), (Some(1024), None, None));
    }

    #[test]
    fn long_times_and_many_packets_are_cut() {
        let mut notes = TwccWriter::default();
        for n in 0..5000u16 {
            notes.note(n, i64::from(n) * 10);
        }
        let mut told = 0;
        while notes.is_due() {
            told += report(&mut notes).len();
        }
        assert_eq!(told, MAX_WAITING);
        notes.note(5000, 0);
        notes.note(5001, 3_600_000_000);
        assert_eq!(report(&mut notes).len(), 1);
        assert_eq!(report(&mut notes).len(), 1);
    }
}
