//! Segments of MPEG-TS.

use std::time::Duration;

use bytes::{Bytes, BytesMut};

use super::times::{AudioClock, Samples};
use crate::format::mpegts::{MuxOptions, Muxer, PACKET, carries};
use crate::media::{Flags, Frame, Kind, Track, TrackId, rescale};

/// Bytes of a piece of a segment.
const PIECE: usize = 64 * 1024;

/// Muxes one rendition.
#[derive(Debug)]
pub(super) struct TsMaker {
    muxer: Muxer,
    buffer: BytesMut,
    pieces: Vec<Bytes>,
    len: usize,
    /// Counts the samples of audio tracks, where times are taken from that.
    clocks: Vec<Counter>,
    counted: bool,
    /// A frame that could not be muxed was told of.
    told: bool,
}

#[derive(Debug)]
struct Counter {
    track: TrackId,
    rate: u32,
    timescale: u32,
    samples: Samples,
    clock: AudioClock,
}

impl TsMaker {
    pub(super) fn new(tracks: &[Track], counted: bool) -> Self {
        let options = MuxOptions { gather: Duration::from_millis(100), ..MuxOptions::default() };
        let mut maker = Self {
            muxer: Muxer::new(&options),
            buffer: BytesMut::new(),
            pieces: Vec::new(),
            len: 0,
            clocks: Vec::new(),
            counted,
            told: false,
        };
        maker.set_tracks(tracks);
        maker
    }

    /// The same rendition goes on with other tracks: its packet counters go on, too.
    pub(super) fn set_tracks(&mut self, tracks: &[Track]) {
        self.muxer.set_tracks(tracks);
        let audio = tracks.iter().filter(|track| track.kind() == Kind::Audio && self.counted);
        let counter = |track: &Track| {
            let rate = track.facts.sample_rate;
            (rate > 0).then(|| Counter {
                track: track.id,
                rate,
                timescale: track.timescale,
                samples: Samples::of(track),
                clock: AudioClock::new(rate, true),
            })
        };
        self.clocks = audio.filter_map(counter).collect();
    }

    /// Which of the tracks this can carry.
    pub(super) fn carries(track: &Track) -> bool {
        carries(track.codec)
    }

    /// A segment begins with `frame`, which is to come next.
    pub(super) fn begin(&mut self, frame: &Frame, kind: Kind) {
        // Before a key frame of video the muxer puts them itself.
        if !(kind == Kind::Video && frame.is_key()) {
            self.room(2 * PACKET);
            self.muxer.tables(&mut self.buffer);
        }
    }

    pub(super) fn frame(&mut self, frame: &Frame) {
        // Payload in packets with their heads, parameter sets, tables.
        self.room(frame.data.len() / 184 * PACKET + 8 * PACKET);
        let counted = self.counted(frame);
        if let Err(error) = self.muxer.frame(counted.as_ref().unwrap_or(frame), &mut self.buffer)
            && !std::mem::replace(&mut self.told, true)
        {
            log::warn!("segments leave out a frame: {error}");
        }
    }

    /// The frame at the time that its track's samples give.
    fn counted(&mut self, frame: &Frame) -> Option<Frame> {
        let counter = self.clocks.iter_mut().find(|counter| counter.track == frame.track)?;
        let time = rescale(frame.dts, counter.timescale, counter.rate);
        if frame.flags.has(Flags::DISCONTINUITY) {
            counter.clock.restart();
        }
        let placed = counter.clock.place(time, counter.samples.count(&frame.data), i64::MIN);
        Some(Frame { dts: rescale(placed, counter.rate, counter.timescale), ..frame.clone() })
    }

    /// Bytes of the segment so far.
    pub(super) fn len(&self) -> usize {
        self.len + self.buffer.len()
    }

    /// The segment ends.
    pub(super) fn finish(&mut self) -> Vec<Bytes> {
        self.muxer.flush(&mut self.buffer);
        self.piece();
        self.len = 0;
        std::mem::take(&mut self.pieces)
    }

    /// Makes room without copying what is there.
    fn room(&mut self, len: usize) {
        if self.buffer.capacity() - self.buffer.len() < len {
            self.piece();
            self.buffer = BytesMut::with_capacity(len.max(PIECE));
        }
    }

    fn piece(&mut self) {
        let piece = self.buffer.split().freeze();
        if !piece.is_empty() {
            self.len += piece.len();
            self.pieces.push(piece);
        }
    }
}
