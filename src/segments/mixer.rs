//! Frames of several tracks, in the order of their times.

use std::collections::VecDeque;

use super::settings::CLOCK;
use crate::media::{Frame, Kind, Track, rescale};

/// The most frames that wait, and their bytes: 2 s of 8 tracks, or of 40 Mbit/s.
const MAX_FRAMES: usize = 1024;
const MAX_BYTES: usize = 10 * 1024 * 1024;

/// Puts frames in order. A frame waits for those of other tracks that may be earlier, but for no track that is behind by
/// more than the patience: then the others go on, and what still comes of it comes late.
#[derive(Debug)]
pub(super) struct Mixer {
    patience: i64,
    lines: Vec<Line>,
    /// The newest time of any track.
    newest: i64,
    frames: usize,
    bytes: usize,
}

#[derive(Debug)]
struct Line {
    id: u8,
    timescale: u32,
    /// Data comes when it comes: nothing waits for it.
    awaited: bool,
    last: Option<i64>,
    queue: VecDeque<(i64, Frame)>,
}

impl Mixer {
    /// For these tracks; `patience` in ticks of 90 kHz.
    pub(super) fn new(tracks: &[Track], patience: i64) -> Self {
        // Of frames of one time the picture comes first, since segments are cut before it.
        let order = [Kind::Video, Kind::Audio, Kind::Data];
        let tracks = order.iter().flat_map(|kind| tracks.iter().filter(move |track| track.kind() == *kind));
        let lines = tracks.map(|track| Line {
            id: track.id.0,
            timescale: track.timescale,
            awaited: track.kind() != Kind::Data,
            last: None,
            queue: VecDeque::new(),
        });
        Self { patience, lines: lines.collect(), newest: i64::MIN, frames: 0, bytes: 0 }
    }

    /// A frame; of another track than those it is ignored.
    pub(super) fn push(&mut self, frame: Frame) {
        let first = self.newest == i64::MIN;
        let Some(line) = self.lines.iter_mut().find(|line| line.id == frame.track.0) else { return };
        let time = rescale(frame.dts, line.timescale, CLOCK);
        line.last = Some(time);
        self.newest = self.newest.max(time);
        self.frames += 1;
        self.bytes += frame.data.len();
        line.queue.push_back((time, frame));
        if first {
            // Those that have sent nothing yet are waited for from here on.
            for line in &mut self.lines {
                line.last.get_or_insert(time.saturating_sub(1));
            }
        }
    }

    /// The next frame in order with its time in ticks of 90 kHz, if nothing has to come before it.
    pub(super) fn pop(&mut self) -> Option<(i64, Frame)> {
        let (time, at) = self.earliest()?;
        let full = self.frames > MAX_FRAMES || self.bytes > MAX_BYTES;
        let late = |line: &Line| {
            let last = line.last.unwrap_or(i64::MIN);
            // Gone for so long that it is not waited for any more, until it comes back.
            self.newest.saturating_sub(last) > self.patience
        };
        let free = |line: &Line| {
            // The next of a line comes after its last.
            !line.awaited
                || !line.queue.is_empty()
                || line.last.is_some_and(|last| last >= time)
                || late(line)
        };
        if full || self.lines.iter().all(free) { self.take(at, time) } else { None }
    }

    /// The next frame in order, whatever may come before it.
    pub(super) fn flush(&mut self) -> Option<(i64, Frame)> {
        let (time, at) = self.earliest()?;
        self.take(at, time)
    }

    fn earliest(&self) -> Option<(i64, usize)> {
        let heads = self.lines.iter().enumerate();
        heads.filter_map(|(at, line)| line.queue.front().map(|(time, _)| (*time, at))).min()
    }

    fn take(&mut self, at: usize, time: i64) -> Option<(i64, Frame)> {
        let (_, frame) = self.lines.get_mut(at)?.queue.pop_front()?;
        self.frames = self.frames.saturating_sub(1);
        self.bytes = self.bytes.saturating_sub(frame.data.len());
        Some((time, frame))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::media::{Codec, Flags, TrackId};
    use bytes::Bytes;

    fn frame(track: u8, ms: i64) -> Frame {
        let data = Bytes::from_static(&[0; 10]);
        Frame { track: TrackId(track), flags: Flags::NONE, dts: ms, cts: 0, wall_ms: None, data }
    }

    fn mixer() -> Mixer {
        let codecs = [Codec::H264, Codec::Aac, Codec::Klv];
        let tracks: Vec<_> =
            codecs.iter().zip(0..).map(|(codec, id)| Track::new(TrackId(id), *codec)).collect();
        Mixer::new(&tracks, 500 * 90)
    }

    fn ready(mixer: &mut Mixer) -> Vec<(u8, i64)> {
        std::iter::from_fn(|| mixer.pop().map(|(_, frame)| (frame.track.0, frame.dts))).collect()
    }

    #[test]
    fn badly_interleaved_frames_come_in_order() {
        let mut mixer = mixer();
        for ms in [0, 40, 80] {
            mixer.push(frame(0, ms));
        }
        assert_eq!(ready(&mut mixer), [], "sound may be earlier");
        for ms in [0, 21, 43] {
            mixer.push(frame(1, ms));
        }
        assert_eq!(ready(&mut mixer), [(0, 0), (1, 0), (1, 21), (0, 40), (1, 43)]);
        mixer.push(frame(2, 50));
        mixer.push(frame(1, 64));
        mixer.push(frame(1, 85));
        assert_eq!(ready(&mut mixer), [(2, 50), (1, 64), (0, 80)], "data is not waited for");
        assert_eq!(mixer.flush().map(|(time, _)| time), Some(85 * 90));
        assert!(mixer.flush().is_none());
    }

    #[test]
    fn a_track_that_is_gone_is_not_waited_for() {
        let mut mixer = mixer();
        mixer.push(frame(0, 0));
        for n in 1..=30 {
            mixer.push(frame(1, n * 20));
        }
        assert_eq!(ready(&mut mixer).len(), 31);
        mixer.push(frame(1, 620));
        assert_eq!(ready(&mut mixer), [(1, 620)]);
        mixer.push(frame(0, 640));
        assert_eq!(ready(&mut mixer), [], "back again");
        mixer.push(frame(1, 640));
        assert_eq!(ready(&mut mixer), [(0, 640), (1, 640)]);
    }

    #[test]
    fn what_waits_is_bounded() {
        let mut mixer = mixer();
        for _ in 0..5000 {
            mixer.push(frame(0, 0));
            ready(&mut mixer);
        }
        assert!(mixer.frames <= MAX_FRAMES);
    }
}
