//! Frames of one track in, frames of another out.

use super::decoder::Decoder;
use super::encoder::Encoder;
use super::mix::mix;
use super::resample::Resampler;
use super::{Pcm, RATE, Result, SoundError};
use crate::media::opus::packet_samples;
use crate::media::{Codec, Flags, Frame, Track, TrackId, rescale};

/// Milliseconds of a hole that are filled; after a longer one the timeline begins anew, so that a source that was away for
/// an hour costs no hour of silence.
pub const MAX_FILL_MS: i64 = 1000;

const MAX_FILL: i64 = MAX_FILL_MS * RATE as i64 / 1000;
/// Packets may come with times that are off by so much: those of encoders that number their packets by the clock on the
/// wall, in milliseconds and late.
const TOLERANCE: i64 = 80 * RATE as i64 / 1000;
/// Times off by less than this are no drift but rounding.
const EXACT: i64 = 3 * RATE as i64 / 1000;
/// The most that sound is stretched, in millionths: 4 cents.
const MAX_STRETCH: i64 = 2500;
/// A drift is made up for within so many seconds.
const CATCH_UP: i64 = 20;
/// What is lost of AAC is made up for so long; then it is silence, as the library's noise becomes none.
const MAX_NOISE: i64 = 120 * RATE as i64 / 1000;

/// What sound is turned into.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Target {
    /// AAC-LC of 48 kHz.
    Aac {
        /// Bits per second.
        bitrate: u32,
    },
    /// Opus.
    Opus {
        /// Bits per second.
        bitrate: u32,
    },
}

impl Target {
    /// Its codec.
    #[must_use]
    pub fn codec(self) -> Codec {
        match self {
            Self::Aac { .. } => Codec::Aac,
            Self::Opus { .. } => Codec::Opus,
        }
    }
}

/// Whether sound of the one codec can be turned into the other.
#[must_use]
pub fn can(from: Codec, to: Codec) -> bool {
    let read = matches!(from, Codec::Aac | Codec::G711A | Codec::G711U | Codec::Mp3 | Codec::Opus);
    read && from != to && matches!(to, Codec::Aac | Codec::Opus)
}

/// What a transcoder has seen.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Statistics {
    /// Packets that came.
    pub packets: u64,
    /// Packets that were damaged; the decoder made something up.
    pub damaged: u64,
    /// Samples of 48 kHz that were missing and made up, or silence.
    pub filled: u64,
    /// Packets that were left out since there was sound for their time already.
    pub dropped: u64,
    /// How often the timeline began anew.
    pub restarts: u64,
}

/// Turns the frames of an audio track into another codec's.
#[derive(Debug)]
pub struct Transcoder {
    decoder: Decoder,
    encoder: Encoder,
    resampler: Resampler,
    source: Codec,
    timescale: u32,
    track: Track,
    channels: u8,
    /// What was decoded last.
    pcm: Pcm,
    mixed: Vec<i16>,
    /// What does not fill a packet yet.
    waiting: Vec<i16>,
    /// When the first sample of that is, in samples; `None` until there is a timeline.
    at: Option<i64>,
    /// When this timeline begins. What the encoder looks ahead lies before it and is not given out.
    begin: i64,
    /// What the next frame has to tell.
    flags: Flags,
    /// How much later than the source says its sound is, on average, in 64ths of samples.
    drift: i64,
    /// Wall clock minus presentation time, in milliseconds.
    wall: Option<i64>,
    statistics: Statistics,
}

impl Transcoder {
    /// From `track` to a track `id` of the same language and group.
    ///
    /// # Errors
    /// When nothing here reads or writes the codecs, or this form of them.
    pub fn new(track: &Track, id: TrackId, target: Target) -> Result<Self> {
        let (from, to) = (track.codec, target.codec());
        if !can(from, to) {
            return Err(SoundError::Unsupported { from, to });
        }
        let channels = if track.facts.channels == 1 { 1 } else { 2 };
        let encoder = Encoder::new(target, channels)?;
        Ok(Self {
            decoder: Decoder::new(track, to)?,
            track: encoder.track(track, id, channels),
            encoder,
            resampler: Resampler::new(channels, RATE, RATE),
            source: from,
            timescale: track.timescale.max(1),
            channels,
            pcm: Pcm { rate: RATE, channels, samples: Vec::new() },
            mixed: Vec::new(),
            waiting: Vec::new(),
            at: None,
            begin: 0,
            flags: Flags::KEY,
            drift: 0,
            wall: None,
            statistics: Statistics::default(),
        })
    }

    /// The track that comes out, in ticks of 48 kHz. Never changes.
    #[must_use]
    pub fn track(&self) -> &Track {
        &self.track
    }

    /// What it has seen.
    #[must_use]
    pub fn statistics(&self) -> Statistics {
        self.statistics
    }

    /// The source has another config, or even another codec, from now on; what comes out stays what it is.
    ///
    /// # Errors
    /// When nothing here reads that; the old one is kept.
    pub fn change(&mut self, track: &Track) -> Result<()> {
        let to = self.track.codec;
        // What has the target's codec already is read, too: the track that was told stays alive.
        if !can(track.codec, to) && track.codec != to {
            return Err(SoundError::Unsupported { from: track.codec, to });
        }
        self.decoder = Decoder::new(track, to)?;
        self.source = track.codec;
        self.timescale = track.timescale.max(1);
        Ok(())
    }

    /// Takes a frame of the source and appends what it makes. Damaged ones are made up for, never an error.
    pub fn push(&mut self, frame: &Frame, out: &mut Vec<Frame>) {
        self.statistics.packets += 1;
        if let Some(wall) = frame.wall_ms {
            self.wall = Some(wall.saturating_sub(rescale(frame.pts(), self.timescale, 1000)));
        }
        if frame.flags.has(Flags::DISCONTINUITY) {
            self.end();
        }
        let late = rescale(self.decoder.delay().into(), self.pcm.rate, RATE);
        let at = rescale(frame.pts(), self.timescale, RATE).saturating_sub(late);
        let mut leave_out = false;
        if let Some(expected) = self.expected() {
            let off = at.saturating_sub(expected);
            if off.saturating_abs() > MAX_FILL {
                self.end();
            } else if off > self.tolerance(&frame.data) {
                self.fill(off, Some(&frame.data), out);
            } else if off < -TOLERANCE {
                leave_out = true;
            } else {
                self.stretch(off);
            }
        }
        if self.decoder.decode(&frame.data, &mut self.pcm).is_err() {
            self.statistics.damaged += 1;
            let len = self.pcm.len();
            if self.decoder.conceal(len, None, &mut self.pcm).is_err() {
                self.pcm.silence(len);
            }
        }
        if leave_out {
            // Decoded all the same: what follows refers to it.
            self.statistics.dropped += 1;
            return;
        }
        if self.pcm.len() == 0 {
            return;
        }
        if self.at.is_none() {
            (self.at, self.begin, self.drift) = (Some(at), at, 0);
        }
        self.take(out);
    }

    /// Makes up what the source did not send up to `pts` (ticks of its track), if that is more than `patience_ms` milliseconds:
    /// sources of Opus send nothing while they are silent. What comes for that time afterwards is left out.
    pub fn wait_no_more(&mut self, pts: i64, patience_ms: i64, out: &mut Vec<Frame>) {
        let Some(expected) = self.expected() else { return };
        let off = rescale(pts, self.timescale, RATE).saturating_sub(expected);
        let patience = rescale(patience_ms, 1000, RATE);
        if off > patience && off <= MAX_FILL {
            self.fill(off - patience, None, out);
        }
    }

    /// When the next packet should be, in samples.
    fn expected(&self) -> Option<i64> {
        let waiting = (self.waiting.len() / usize::from(self.channels)) as i64;
        self.at.map(|at| at.saturating_add(waiting).saturating_add(self.resampler.pending()))
    }

    /// How much later than expected a packet may be without that something is missing. Opus counts samples: there it is known.
    fn tolerance(&self, packet: &[u8]) -> i64 {
        match (self.source, packet_samples(packet)) {
            (Codec::Opus, Ok(samples)) => (i64::from(samples) * 3 / 4).clamp(RATE as i64 / 100, TOLERANCE),
            _ => TOLERANCE,
        }
    }

    /// The timeline is over; the next frame begins another.
    fn end(&mut self) {
        if self.at.take().is_some() {
            self.statistics.restarts += 1;
            self.flags = self.flags.with(Flags::DISCONTINUITY);
        }
        self.waiting.clear();
        self.resampler.restart();
        self.resampler.stretch(0);
    }

    /// `off`: how much later than expected a packet was.
    fn stretch(&mut self, off: i64) {
        // An average over the last packets, about a second.
        self.drift += off - self.drift / 64;
        let average = self.drift / 64;
        let wrong = if average.abs() > EXACT { average } else { 0 };
        let millionths = wrong * 1_000_000 / (CATCH_UP * i64::from(RATE));
        self.resampler.stretch(millionths.clamp(-MAX_STRETCH, MAX_STRETCH) as i32);
    }

    /// `missing` samples of 48 kHz, before the packet `next`.
    fn fill(&mut self, missing: i64, next: Option<&[u8]>, out: &mut Vec<Frame>) {
        let mut missing = missing.clamp(0, MAX_FILL);
        self.statistics.filled += missing.cast_unsigned();
        let mut noise = if self.source == Codec::Aac { MAX_NOISE } else { MAX_FILL };
        while missing > 0 {
            let made = noise > 0 && self.decoder.conceal(missing as usize, next, &mut self.pcm).is_ok();
            let mut len = if made { rescale(self.pcm.len() as i64, self.pcm.rate, RATE) } else { 0 };
            if len == 0 || len > missing + i64::from(RATE) / 100 {
                // At its rate, so that the resampler goes on.
                self.pcm.silence(rescale(missing, RATE, self.pcm.rate).max(1) as usize);
                len = missing;
            }
            missing -= len;
            noise -= len;
            self.take(out);
        }
    }

    /// What was decoded goes on: two channels, 48 kHz, packets.
    fn take(&mut self, out: &mut Vec<Frame>) {
        if self.pcm.rate != self.resampler.from() {
            self.waiting.extend(std::iter::repeat_n(0, self.lost_by_change()));
            self.resampler = Resampler::new(self.channels, self.pcm.rate, RATE);
        }
        self.mixed.clear();
        mix(&self.pcm.samples, self.pcm.channels, self.channels, &mut self.mixed);
        self.resampler.run(&self.mixed, &mut self.waiting);
        self.encode(out);
    }

    /// Samples that the resampler still holds.
    fn lost_by_change(&self) -> usize {
        usize::try_from(self.resampler.pending()).unwrap_or(0) * usize::from(self.channels)
    }

    fn encode(&mut self, out: &mut Vec<Frame>) {
        let frame = self.encoder.frame();
        let len = frame * usize::from(self.channels);
        let mut done = 0;
        while let (Some(at), Some(samples)) = (self.at, self.waiting.get(done..done + len)) {
            // An encoder that was made has nothing to refuse.
            let packet = self.encoder.encode(samples).unwrap_or_default();
            done += len;
            self.at = Some(at.saturating_add(frame as i64));
            let dts = at.saturating_sub(self.encoder.delay().into());
            if packet.is_empty() || dts < self.begin {
                continue;
            }
            let wall_ms = self.wall.map(|wall| wall.saturating_add(rescale(dts, RATE, 1000)));
            let flags = std::mem::replace(&mut self.flags, Flags::KEY);
            out.push(Frame { track: self.track.id, flags, dts, cts: 0, wall_ms, data: packet.into() });
        }
        self.waiting.drain(..done);
    }
}
