//! What has to stay the same from one manifest to the next: when the stream's line was at 0, and where Periods began.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::segments::{Init, Rendition, State};

/// Ticks per second of the stream's line here.
pub(super) const CLOCK: u32 = 90_000;

/// The most Periods that are remembered. A stream that breaks more often within its window begins them anew.
const MOST: usize = 256;

/// What is known of a stream's line.
#[derive(Debug, Clone, Default)]
pub(super) struct Line {
    /// The run of the stream that this is of.
    run: Option<u64>,
    /// `availabilityStartTime`, in milliseconds since 1970.
    pub start_ms: i64,
    /// Where Periods began, the oldest first.
    begun: VecDeque<Begun>,
}

#[derive(Debug, Clone)]
struct Begun {
    id: PeriodId,
    /// In ticks of [`CLOCK`].
    at: i64,
}

/// What tells Periods apart.
#[derive(Debug, Clone, PartialEq, Eq)]
struct PeriodId {
    discontinuity: u64,
    /// The init of the main Representation.
    init: u32,
}

/// Segments that go on from one another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Period {
    /// Its id in the manifest.
    pub id: String,
    /// Where it begins on the stream's line, in ticks of [`CLOCK`].
    pub at: i64,
    /// Its segments by number: from the first to before the second.
    pub numbers: (u64, u64),
}

impl Line {
    /// The Periods of the newest `most` segments of `state`; `growing`: with the one that grows.
    pub(super) fn periods(&mut self, state: &State, from: u64, growing: bool) -> Vec<Period> {
        if self.run != Some(state.run) {
            *self = Self { run: Some(state.run), start_ms: state.clock_ms, begun: VecDeque::new() };
        }
        let Some(main) = state.main() else { return Vec::new() };
        let segments = main.segments.iter().filter(|segment| segment.number >= from);
        let complete =
            segments.map(|s| (s.number, s.discontinuity_sequence, s.init.as_ref(), s.start, s.timescale));
        let open = main.growing.as_ref().filter(|open| growing && open.number >= from).map(|open| {
            (open.number, main.discontinuity_sequence, open.init.as_ref(), open.start, main.timescale)
        });
        let mut periods: Vec<(PeriodId, Period)> = Vec::new();
        for (number, discontinuity, init, start, timescale) in complete.chain(open) {
            // A segment without anything in it has no init: it belongs to what was before.
            let known = periods.last().map(|(id, _)| id.init);
            let init = init.map(|init| mark(init)).or(known).unwrap_or(0);
            let id = PeriodId { discontinuity, init };
            match periods.last_mut().filter(|(last, _)| *last == id) {
                Some((_, period)) => period.numbers.1 = number + 1,
                None => {
                    let at = crate::media::rescale(start, timescale, CLOCK);
                    let at = self.begun_at(&id, at, periods.is_empty());
                    let text = format!("{discontinuity}-{init:08x}");
                    periods.push((id, Period { id: text, at, numbers: (number, number + 1) }));
                }
            }
        }
        if let Some((oldest, _)) = periods.first() {
            // What is not told any more need not be known.
            let keep = self.begun.iter().position(|begun| begun.id == *oldest).unwrap_or(0);
            self.begun.drain(..keep);
        }
        periods.into_iter().map(|(_, period)| period).collect()
    }

    /// Where a Period began, of which the oldest segment that is told begins at `at`.
    fn begun_at(&mut self, id: &PeriodId, at: i64, _oldest: bool) -> i64 {
        if let Some(known) = self.begun.iter().find(|begun| begun.id == *id) {
            return known.at;
        }
        let at = at.max(0);
        if self.begun.len() >= MOST {
            self.begun.pop_front();
        }
        self.begun.push_back(Begun { id: id.clone(), at });
        at
    }
}

/// The mark of an init's name.
pub(super) fn mark(init: &Init) -> u32 {
    super::ask::mark(&init.name)
}

/// The segment of a number.
pub(super) fn segment(rendition: &Rendition, number: u64) -> Option<&Arc<crate::segments::Segment>> {
    let first = rendition.segments.first()?.number;
    rendition.segments.get(usize::try_from(number.checked_sub(first)?).ok()?)
}
