//! What a publisher sends in a form that readers take as it is: its own transport stream, beside the frames that were read
//! of it.

use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::{EndSignal, Inner, Stream};
use crate::hub::Ended;
use crate::hub::feed::{Announce, Feed};
use crate::hub::ring::{Item, Ring};
use crate::hub::stats::Counters;

/// A transport stream in which nothing was found that we know (MPEG-2 video, scrambled) is given out from anywhere after so
/// long.
const BLIND: Duration = Duration::from_secs(3);

/// What came at once.
#[derive(Debug)]
struct Piece {
    parts: Box<[Bytes]>,
    len: usize,
    /// Of the newest frame before it.
    at_ms: i64,
}

impl Piece {
    fn new(parts: Vec<Bytes>, at_ms: i64) -> Self {
        Self { len: parts.iter().map(Bytes::len).sum(), parts: parts.into_boxed_slice(), at_ms }
    }
}

impl Item for Piece {
    fn size(&self) -> usize {
        self.len
    }
    fn at_ms(&self) -> i64 {
        self.at_ms
    }
    /// Known only later, when what begins in it was read.
    fn join(&self) -> bool {
        false
    }
}

/// A publisher's transport stream, as far back as the stream's ring goes.
#[derive(Debug)]
pub(super) struct Wire {
    ring: Ring<Piece>,
    /// Packets of PAT and PMT.
    tables: Bytes,
    /// Readers were given all before this.
    given: u64,
    since: Instant,
}

impl Wire {
    fn new(now: Instant) -> Self {
        Self { ring: Ring::new(), tables: Bytes::new(), given: 0, since: now }
    }

    pub(super) fn bytes(&self) -> usize {
        self.ring.bytes()
    }

    /// A reader can start at a piece.
    pub(super) fn mark(&mut self, number: u64) {
        self.ring.mark(number);
    }

    pub(super) fn forget_join(&mut self) {
        self.ring.forget_join();
    }

    /// Readers are not given what is before piece `number`; `None`: what there is.
    pub(super) fn skip_to(&mut self, number: Option<u64>) {
        self.given = self.given.max(number.unwrap_or(self.ring.end()));
    }
}

impl Stream {
    /// Takes pieces of the publisher's own transport stream; frames that were read of it follow. The number of what came.
    pub(in crate::hub) fn pass(
        &self,
        signal: &Arc<EndSignal>,
        parts: Vec<Bytes>,
        now: Instant,
    ) -> Result<u64, Ended> {
        let mut inner = self.current(signal)?;
        let inner = &mut *inner;
        if let Some(live) = &mut inner.live {
            live.heard = now;
        }
        if inner.wire.is_none() {
            inner.wire = Some(Wire::new(now));
            inner.feeds().for_each(|feed| _ = feed.set_passing(true));
        }
        let limits = self.limits(&inner.config);
        let piece = Piece::new(parts, inner.newest_ms);
        Counters::add(&self.counters.bytes_in, piece.size());
        let Some(wire) = &mut inner.wire else { return Ok(0) };
        let number = wire.ring.end();
        wire.ring.push(piece, &limits);
        let blind = inner.tracks.is_empty() && now.saturating_duration_since(wire.since) >= BLIND;
        if blind {
            wire.ring.mark(number);
            inner.resuming = false;
        }
        if !inner.resuming {
            inner.give();
        }
        if blind {
            for feed in inner.feeds() {
                feed.mark(number);
                feed.open(true);
            }
        }
        Ok(number)
    }

    /// The packets of PAT and PMT of that transport stream.
    pub(in crate::hub) fn set_tables(&self, signal: &Arc<EndSignal>, tables: Bytes) -> Result<(), Ended> {
        let mut inner = self.current(signal)?;
        inner.feeds().for_each(|feed| feed.set_tables(&tables));
        if let Some(wire) = &mut inner.wire {
            wire.tables = tables;
        }
        Ok(())
    }
}

impl Inner {
    /// Gives readers what has come of the publisher's transport stream.
    pub(super) fn give(&mut self) {
        let Some(wire) = &self.wire else { return };
        let end = wire.ring.end();
        let feeds = || self.feeds.iter().filter_map(Weak::upgrade);
        for (number, piece) in (wire.given..end).filter_map(|n| Some((n, wire.ring.item(n)?))) {
            feeds().for_each(|feed| feed.pass(number, &piece.parts, piece.at_ms));
        }
        if let Some(wire) = &mut self.wire {
            wire.given = end;
        }
    }

    /// Seeds a new feed with what has come of the publisher's transport stream, if the feed takes that; whether it does.
    pub(super) fn seed(&self, feed: &Feed) -> bool {
        let Some(wire) = self.wire.as_ref().filter(|_| feed.set_passing(true)) else { return false };
        feed.set_tables(&wire.tables);
        feed.tracks(&self.told, &self.meta, 0, true, Announce::All);
        let join = wire.ring.join().filter(|join| *join < wire.given);
        let past = join.unwrap_or(wire.given)..wire.given;
        for (number, piece) in past.filter_map(|number| Some((number, wire.ring.item(number)?))) {
            feed.pass(number, &piece.parts, piece.at_ms);
        }
        join.into_iter().for_each(|join| feed.mark(join));
        true
    }
}
