//! How long parts of segments are (RFC 8216bis 4.4.4.9): none longer than the target that playlists tell, and none but a
//! segment's last shorter than 85 % of it.

use std::time::Duration;

/// In so many segments, with few others in between, frames did not fit into parts: those have to be longer.
const OFTEN: u32 = 3;
/// So many segments in a row were right: what was before them is forgotten.
const FORGIVEN: u32 = 10;

/// The parts of one stream.
#[derive(Debug)]
pub(super) struct Parts {
    /// As configured; `None`: there are none.
    wanted: Option<Duration>,
    most: Duration,
    target: Option<Duration>,
    /// The segment that grows is given out in parts.
    on: bool,
    /// Frames of it did not fit, into parts which should be so long.
    misfit: Option<Duration>,
    /// In how many segments they did not, how long parts should have been there, and how many segments since were right.
    misfits: (u32, Duration, u32),
}

impl Parts {
    /// About as long as `wanted`, never longer than `most`.
    pub(super) fn new(wanted: Option<Duration>, most: Duration) -> Self {
        Self { wanted, most, target: None, on: false, misfit: None, misfits: (0, Duration::ZERO, 0) }
    }

    /// What no part is longer than, once that is known.
    pub(super) fn target(&self) -> Option<Duration> {
        self.target
    }

    /// A segment begins; whether it is given out in parts.
    pub(super) fn begin(&mut self) -> bool {
        self.on = self.target.is_some();
        self.on
    }

    /// The target, where the segment that grows is given out in parts.
    pub(super) fn of_growing(&self) -> Option<Duration> {
        self.target.filter(|_| self.on)
    }

    /// A frame did not fit: its part should have been so long. No more parts are told of that segment.
    pub(super) fn misfit(&mut self, wanted: Option<Duration>) {
        self.misfit = self.misfit.max(wanted);
    }

    /// A segment has ended whose frames, of each rendition, were so long, the main one's first. Whether parts are longer
    /// from now on: those of before would be too short then.
    ///
    /// Encoders that are in trouble drop frames now and then: one misfit changes nothing.
    pub(super) fn finished(&mut self, frames: &[Duration]) -> bool {
        let Some(wanted) = self.wanted else { return false };
        let Some(old) = self.target else {
            self.target = length(wanted, frames, self.most);
            self.misfit = None;
            return false;
        };
        match self.misfit.take() {
            Some(wanted) => self.misfits = (self.misfits.0 + 1, wanted.max(self.misfits.1), 0),
            None if self.misfits.2 >= FORGIVEN => self.misfits = (0, Duration::ZERO, 0),
            None => self.misfits.2 += 1,
        }
        let (count, wanted, _) = self.misfits;
        if count < OFTEN {
            return false;
        }
        self.target = Some(up_to_ms(wanted.max(old * 5 / 4).min(self.most.max(old))));
        self.misfits = (0, Duration::ZERO, 0);
        true
    }
}

/// About `wanted`, so that whole frames of all renditions fill enough of it.
fn length(wanted: Duration, frames: &[Duration], most: Duration) -> Option<Duration> {
    let frames: Vec<Duration> = frames.iter().copied().filter(|time| !time.is_zero()).collect();
    let main = *frames.first()?;
    let count = |part: Duration, frame: Duration| part.as_nanos() / frame.as_nanos().max(1);
    let fits = |part: Duration| {
        let filled = |frame: &Duration| frame.as_nanos() * count(part, *frame);
        frames.iter().all(|frame| filled(frame) * 100 >= part.as_nanos() * 85)
    };
    let first = count(wanted + main / 2, main).max(1);
    let sizes = (0..20).filter_map(|more| u32::try_from(first + more).ok());
    // A millisecond more, since times are rounded to that.
    let mut sizes = sizes.map(|frames| up_to_ms(main.saturating_mul(frames)) + Duration::from_millis(1));
    let part = sizes.clone().find(|part| fits(*part)).or_else(|| sizes.next())?;
    Some(part.min(most.max(main)))
}

/// To the next millisecond.
fn up_to_ms(time: Duration) -> Duration {
    Duration::from_millis(u64::try_from(time.as_nanos().div_ceil(1_000_000)).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn parts_hold_whole_frames() {
        let aac = Duration::from_nanos(21_333_333);
        let part = |frames: &[Duration]| length(200 * MS, frames, 4200 * MS).unwrap();
        assert_eq!(part(&[40 * MS, aac]), 201 * MS);
        assert_eq!(part(&[Duration::from_nanos(33_366_666), aac]), 202 * MS);
        assert_eq!(part(&[Duration::from_nanos(41_666_666), aac]), 210 * MS, "four of them are too short");
        assert_eq!(part(&[500 * MS]), 501 * MS);
        // FLAC: two of 85.3 ms don't fill 85 % of 201 ms.
        assert_eq!(part(&[40 * MS, Duration::from_nanos(85_333_333)]), 281 * MS);
        assert_eq!(length(200 * MS, &[], 4200 * MS), None);
    }

    #[test]
    fn parts_become_longer_when_frames_do_not_fit_again_and_again() {
        let mut parts = Parts::new(Some(200 * MS), 4200 * MS);
        assert!(!parts.begin());
        assert!(!parts.finished(&[40 * MS]) && parts.begin());
        for n in 0..36 {
            parts.misfit((n % 20 == 0).then_some(400 * MS));
            assert!(!parts.finished(&[40 * MS]), "now and then");
        }
        for n in 0..3 {
            parts.misfit(Some(400 * MS));
            assert_eq!(parts.finished(&[40 * MS]), n == 2);
        }
        assert_eq!(parts.target(), Some(400 * MS));
        for _ in 0..300 {
            parts.misfit(Some(Duration::MAX));
            parts.finished(&[40 * MS]);
        }
        assert_eq!(parts.target(), Some(4200 * MS));
    }
}
