//! Transport packets to frames.

use bytes::Bytes;

use super::packet::{NULL_PID, Packet};
use super::psi::{Pat, Pmt, Sections, Table, Unusable};
use super::stream::{Carriage, MAX_HELD, Shared, Stream};
use super::sync::Sync;
use super::{PACKET, PAT_PID};
use crate::media::{Frame, Track, TrackId};

/// The most elementary streams of a program that are read; real ones have two to ten.
pub const MAX_STREAMS: usize = 16;

/// What a [`Demuxer`] found.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum Event {
    /// A track appeared, or its config or codec changed. Its timescale is [`TIMESCALE`](super::TIMESCALE).
    Track(Track),
    /// A frame of a track that was told before.
    Frame(Frame),
    /// The next frame begins in what was [marked](Demuxer::push_marked) so.
    Begins(u64),
}

/// What a [`Demuxer`] counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Counters {
    /// Packets of 188 bytes.
    pub packets: u64,
    /// Bytes passed over in search of packets.
    pub skipped: u64,
    /// Packets that were flagged as damaged, or whose header can't be.
    pub damaged: u64,
    /// Packets passed over since they are scrambled.
    pub scrambled: u64,
    /// How often packets were missing by the continuity counter.
    pub lost: u64,
    /// Sections whose CRC was wrong.
    pub sections: u64,
    /// Frames dropped: incomplete, unreadable, beyond the bounds, without a time, or before the track's config.
    pub dropped: u64,
}

/// Reads one program of a transport stream.
///
/// It is fed bytes in any cut, by [`push`](Self::push). It keeps no more than the PES packets that are being put
/// together, 8 MiB of them in all. Damage costs the frames it hits: the next of that track is flagged
/// [`DISCONTINUITY`](crate::media::Flags::DISCONTINUITY), as is the first after a `discontinuity_indicator`. A
/// track is told once its config is known, and frames before that are dropped. Times wrap as on the wire at 2^33
/// ticks, and are unwrapped by what is nearest to the time before.
///
/// Whoever wants to pass the transport stream on unchanged has the bytes.
#[derive(Debug)]
pub struct Demuxer {
    sync: Sync,
    program: Program,
    /// The mark of what waits in `sync`.
    waiting: u64,
}

/// The tables and streams, apart from the search for packets.
#[derive(Debug)]
struct Program {
    /// The number asked for.
    wanted: Option<u16>,
    pat: Sections,
    pat_continuity: super::packet::Continuity,
    /// The program read, and the PID of its PMT.
    chosen: Option<(u16, u16)>,
    pmt: Sections,
    pmt_continuity: super::packet::Continuity,
    /// CRC of the PMT in force.
    pmt_crc: Option<u32>,
    /// Packets of the PAT and the PMT that are being read.
    pat_packets: Vec<u8>,
    pmt_packets: Vec<u8>,
    /// The packets of those in force, until they are asked for.
    tables: Option<Bytes>,
    streams: Vec<Stream>,
    shared: Shared,
}

impl Demuxer {
    /// Reads the program of this number, or the first there is.
    #[must_use]
    pub fn new(program: Option<u16>) -> Self {
        Self {
            sync: Sync::default(),
            program: Program {
                wanted: program,
                pat: Sections::default(),
                pat_continuity: super::packet::Continuity::default(),
                chosen: None,
                pmt: Sections::default(),
                pmt_continuity: super::packet::Continuity::default(),
                pmt_crc: None,
                pat_packets: Vec::new(),
                pmt_packets: Vec::new(),
                tables: None,
                streams: Vec::new(),
                shared: Shared::default(),
            },
            waiting: 0,
        }
    }

    /// Takes bytes of the stream; calls `each` with what they complete.
    pub fn push(&mut self, data: &[u8], each: &mut dyn FnMut(Event)) {
        self.sync.push(data, &mut |packet| self.program.packet(packet, each));
    }

    /// The same, and tells before each frame in which of the pieces that were pushed it begins, or in the one before. `mark` is
    /// the number of this piece.
    pub fn push_marked(&mut self, data: &[u8], mark: u64, each: &mut dyn FnMut(Event)) {
        let waited = self.sync.waiting() > 0;
        self.program.shared.mark = Some(if waited { self.waiting } else { mark });
        self.push(data, each);
        if self.sync.waiting() <= data.len() {
            self.waiting = mark;
        }
    }

    /// The packets of PAT and PMT as they came, when they are others than those that were given last: what a reader needs before
    /// anything else.
    pub fn take_tables(&mut self) -> Option<Bytes> {
        self.program.tables.take()
    }

    /// The end of the stream: gives the frames that had nothing after them to be ended by. Then another may begin.
    pub fn finish(&mut self, each: &mut dyn FnMut(Event)) {
        self.sync.finish(&mut |packet| self.program.packet(packet, each));
        for stream in &mut self.program.streams {
            stream.flush(&mut self.program.shared, each);
        }
    }

    /// What was counted so far.
    #[must_use]
    pub fn counters(&self) -> Counters {
        Counters { skipped: self.sync.skipped, ..self.program.shared.counters }
    }

    /// The number of the program read, once the PAT told of it.
    #[must_use]
    pub fn program(&self) -> Option<u16> {
        self.program.chosen.map(|(number, _)| number)
    }
}

/// The most bytes of packets of one table that are kept: two sections of the longest kind.
const MAX_TABLE: usize = 12 * PACKET;

/// Keeps the packets of a table from its begin on.
fn collect(packets: &mut Vec<u8>, start: bool, packet: &[u8]) {
    if start {
        packets.clear();
    }
    if packets.len() < MAX_TABLE {
        packets.extend_from_slice(packet);
    }
}

impl Program {
    fn packet(&mut self, data: &[u8], each: &mut dyn FnMut(Event)) {
        let counters = &mut self.shared.counters;
        counters.packets += 1;
        let Some(packet) = Packet::parse(data).filter(|packet| !packet.error) else {
            counters.damaged += 1;
            return;
        };
        if packet.pid == NULL_PID {
            return;
        }
        if packet.pid == PAT_PID {
            collect(&mut self.pat_packets, packet.start, data);
            return self.tables(&packet, true, each);
        }
        if self.chosen.is_some_and(|(_, pid)| pid == packet.pid) {
            collect(&mut self.pmt_packets, packet.start, data);
            return self.tables(&packet, false, each);
        }
        if let Some(stream) = self.streams.iter_mut().find(|stream| stream.pid == packet.pid) {
            stream.packet(&packet, &mut self.shared, each);
        }
    }

    fn tables(&mut self, packet: &Packet<'_>, is_pat: bool, each: &mut dyn FnMut(Event)) {
        use super::packet::Order;

        let Some(payload) = packet.payload.filter(|_| !packet.scrambled) else { return };
        let (sections, continuity) = if is_pat {
            (&mut self.pat, &mut self.pat_continuity)
        } else {
            (&mut self.pmt, &mut self.pmt_continuity)
        };
        match continuity.check(packet) {
            Order::Duplicate => return,
            // Where packets lack the section that was begun is of no use. What starts here is.
            Order::Lost => sections.lost(),
            Order::Next => {}
        }
        // The section is taken out while it is used: it decides over the rest.
        let mut own = std::mem::take(sections);
        own.push(packet.start, payload, &mut |section| match Table::parse(section) {
            Ok(Table::Pat(pat)) if is_pat => self.pat(&pat),
            Ok(Table::Pmt(pmt)) if !is_pat => self.pmt(&pmt, each),
            Err(Unusable::Damaged) => self.shared.counters.sections += 1,
            Ok(_) | Err(Unusable::Other) => {}
        });
        if is_pat {
            self.pat = own;
        } else {
            self.pmt = own;
        }
    }

    fn pat(&mut self, pat: &Pat<'_>) {
        let mut programs =
            pat.programs().filter(|(number, _)| self.wanted.is_none_or(|wanted| wanted == *number));
        let same = |(number, _): &(u16, u16)| self.chosen.is_some_and(|(chosen, _)| chosen == *number);
        let first = pat.programs().find(|(number, _)| self.wanted.is_none_or(|wanted| wanted == *number));
        let new = match programs.find(same) {
            Some(same) => same,
            // In a PAT of several sections it may stand in another.
            None if self.chosen.is_some() && !pat.alone => return,
            None => match first {
                Some(first) => first,
                None => return,
            },
        };
        if self.chosen != Some(new) {
            self.chosen = Some(new);
            self.pmt = Sections::default();
            self.pmt_continuity.forget();
            self.pmt_crc = None;
        }
    }

    fn pmt(&mut self, pmt: &Pmt<'_>, each: &mut dyn FnMut(Event)) {
        if self.chosen.is_none_or(|(number, _)| number != pmt.program) || self.pmt_crc == Some(pmt.crc) {
            return;
        }
        self.pmt_crc = Some(pmt.crc);
        self.tables = Some([self.pat_packets.as_slice(), &self.pmt_packets].concat().into());
        let mut old = std::mem::take(&mut self.streams);
        let mut new = Vec::new();
        for entry in pmt.entries() {
            let Some(carriage) = Carriage::of(&entry, pmt.descriptors) else { continue };
            if self.streams.len() + new.len() >= MAX_STREAMS {
                break;
            }
            if let Some(at) = old.iter().position(|s| s.pid == entry.pid && s.carriage == carriage) {
                self.streams.push(old.swap_remove(at));
            } else {
                new.push((entry, carriage));
            }
        }
        for stream in &mut old {
            stream.flush(&mut self.shared, each);
            stream.forget(&mut self.shared);
        }
        for (entry, carriage) in new {
            // A track that moved, or changed its codec, stays the same to its readers.
            let place = old.iter().position(|gone| gone.carriage.codec().kind() == carriage.codec().kind());
            let moved = place.map(|at| old.swap_remove(at).id());
            let id = moved.or_else(|| {
                let is_free = |id: &TrackId| !self.streams.iter().any(|stream| stream.id() == *id);
                (0..=u8::MAX).map(TrackId).filter(|id| !old.iter().any(|gone| gone.id() == *id)).find(is_free)
            });
            if let Some(id) = id {
                self.streams.push(Stream::new(id, &entry, carriage, moved.is_some()));
            }
        }
        debug_assert!(self.shared.held <= MAX_HELD);
    }
}
