//! One track on its way out: frames, or a publisher's packets, into the shared history.

use std::time::Instant;

use bytes::Bytes;

use super::super::history::History;
use crate::format::rtp::{self, Format, Head, Packet, Packetise, Payload, clock, starts_key};
use crate::media::nal::nals;
use crate::media::{Codec, Frame, Kind, Track, rescale};

/// How far time may jump before our idea of it is made anew, in microseconds.
const JUMP_US: i64 = 2_000_000;

/// How far a frame may come before its time.
const EARLY_US: i64 = 50_000;

/// Our wall clock: an instant, and what it was in microseconds since 1970. It never jumps.
#[derive(Debug, Clone, Copy)]
pub(super) struct Wall {
    pub(super) at: Instant,
    pub(super) unix_us: i64,
}

impl Wall {
    pub(super) fn us(&self, now: Instant) -> i64 {
        let gone = i64::try_from(now.saturating_duration_since(self.at).as_micros()).unwrap_or(i64::MAX);
        self.unix_us.saturating_add(gone)
    }
}

/// The stream's timeline on our wall clock, common to all its tracks.
#[derive(Debug, Default)]
pub(super) struct Timeline {
    /// By how much the wall clock is ahead, in microseconds.
    ahead: Option<i64>,
}

impl Timeline {
    fn wall_us(&mut self, stream_us: i64, now_us: i64) -> i64 {
        let ahead = now_us.saturating_sub(stream_us);
        let kept = *self.ahead.get_or_insert(ahead);
        // Frames of the past come first, all at once: what comes later was not made in the future.
        if kept.saturating_sub(ahead) > EARLY_US || ahead.saturating_sub(kept) > JUMP_US {
            self.ahead = Some(ahead);
            return now_us;
        }
        stream_us.saturating_add(kept)
    }
}

/// A moment on a track's clock.
#[derive(Debug, Clone, Copy)]
struct Moment {
    ntp: u64,
    timestamp: u32,
    at: Instant,
}

/// One track.
pub(super) struct Lane {
    pub(super) kind: Kind,
    pub(super) codec: Option<Codec>,
    pub(super) history: History,
    clock_rate: u32,
    packetiser: Option<Box<dyn Packetise>>,
    track: Option<Track>,
    moment: Option<Moment>,
    /// What a publisher's timestamps are moved by; `None`: it isn't passed through.
    moved: Option<u32>,
    /// They are others than before.
    switched: bool,
    /// The newest timestamp, and when it was.
    newest: Option<(u32, Instant)>,
    /// What frames' timestamps are moved by.
    base: u32,
    /// The next frame's goes on from what was before.
    rebase: bool,
    scratch: Vec<Payload>,
}

/// What became of a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fate {
    Sent,
    /// A B-frame that nothing depends on.
    Dropped,
    /// A B-frame that others depend on: sent, and shown late.
    SentB,
}

impl Lane {
    pub(super) fn new(kind: Kind) -> Self {
        Self {
            kind,
            codec: None,
            history: History::default(),
            clock_rate: 90_000,
            packetiser: None,
            track: None,
            moment: None,
            moved: None,
            switched: false,
            newest: None,
            base: 0,
            rebase: false,
            scratch: Vec::new(),
        }
    }

    /// The publisher's packets come no more.
    pub(super) fn end_passing(&mut self) {
        if self.moved.take().is_some() {
            self.history.forget_key();
            self.moment = None;
        }
    }

    /// The publisher's timestamps are others from now on.
    pub(super) fn switch(&mut self) {
        if self.moved.is_some() {
            self.switched = true;
            self.moment = None;
        }
    }

    pub(super) fn track(&self) -> Option<&Track> {
        self.track.as_ref()
    }

    /// Frames are of this track from now on. Whether viewers have to begin anew.
    pub(super) fn set_track(&mut self, track: Option<&Track>) -> bool {
        let Some(track) = track else {
            self.track = None;
            return false;
        };
        let anew = self.codec != Some(track.codec);
        if self.packetiser.is_none() || anew {
            let clock_rate = clock_rate(track);
            self.rebase = true;
            self.clock_rate = clock_rate;
            self.packetiser = rtp::packetiser(track.codec, &Format::new(clock_rate));
            self.codec = Some(track.codec);
        }
        if anew {
            self.history.forget_key();
        }
        if let Some(packetiser) = &mut self.packetiser {
            packetiser.set_track(track);
        }
        self.track = Some(track.clone());
        anew
    }

    /// A timestamp that goes on from what was before.
    fn next_timestamp(&self, now: Instant) -> u32 {
        let Some((timestamp, at)) = self.newest else { return self.base };
        let gone = now.saturating_duration_since(at).as_micros().min(1_000_000_000) as i64;
        timestamp.wrapping_add(rescale(gone, 1_000_000, self.clock_rate).max(1) as u32)
    }

    /// A frame of the track.
    pub(super) fn frame(
        &mut self,
        frame: &Frame,
        keep_b_frames: bool,
        timeline: &mut Timeline,
        wall: Wall,
        now: Instant,
    ) -> Fate {
        let next = self.next_timestamp(now);
        let (Some(track), Some(packetiser)) = (&self.track, &mut self.packetiser) else { return Fate::Sent };
        let b_frame = track.is_b_frame(&frame.data);
        if b_frame && !keep_b_frames && is_disposable(track.codec, &frame.data) {
            return Fate::Dropped;
        }
        let ticks = rescale(frame.pts(), track.timescale, self.clock_rate);
        if self.rebase {
            self.base = next.wrapping_sub(ticks as u32);
            self.rebase = false;
        }
        let timestamp = self.base.wrapping_add(ticks as u32);
        let stream_us = rescale(frame.pts(), track.timescale, 1_000_000);
        let wall_us = timeline.wall_us(stream_us, wall.us(now));
        self.moment = Some(Moment { ntp: clock::unix_us_to_ntp(wall_us), timestamp, at: now });
        self.newest = Some((timestamp, now));
        packetiser.frame(&frame.data, frame.is_key(), &mut self.scratch);
        let key = frame.is_key() && self.kind == Kind::Video;
        for payload in self.scratch.drain(..) {
            let timestamp = timestamp.wrapping_add(payload.later);
            self.history.push(payload, timestamp, key, now);
        }
        if b_frame && !keep_b_frames { Fate::SentB } else { Fate::Sent }
    }

    /// A publisher's packet. Whether viewers have to begin anew.
    pub(super) fn pass(
        &mut self,
        codec: Codec,
        clock_rate: u32,
        packet: Packet,
        lost: u64,
        now: Instant,
    ) -> bool {
        let anew = self.codec != Some(codec);
        if self.moved.is_none() || anew || std::mem::take(&mut self.switched) {
            let next = self.next_timestamp(now);
            self.moved = Some(next.wrapping_sub(packet.header.timestamp));
            self.history.forget_key();
            (self.codec, self.clock_rate, self.packetiser, self.moment) =
                (Some(codec), clock_rate, None, None);
        }
        if lost > 0 {
            self.history.skip(lost, now);
        }
        if packet.payload.is_empty() {
            return anew;
        }
        let timestamp = packet.header.timestamp.wrapping_add(self.moved.unwrap_or(0));
        self.newest = Some((timestamp, now));
        let key = self.kind == Kind::Video && starts_key(codec, &packet.payload);
        let payload =
            Payload { head: Head::new(), body: packet.payload, marker: packet.header.marker, later: 0 };
        self.history.push(payload, timestamp, key, now);
        anew
    }

    /// The publisher's clock.
    pub(super) fn set_clock(&mut self, ntp: u64, timestamp: u32, now: Instant) {
        if let Some(moved) = self.moved {
            self.moment = Some(Moment { ntp, timestamp: timestamp.wrapping_add(moved), at: now });
        }
    }

    /// What time it is.
    pub(super) fn clock(&self, now: Instant) -> Option<(u64, u32)> {
        let moment = self.moment?;
        let gone = now.saturating_duration_since(moment.at).as_micros().min(1 << 40) as i64;
        let ntp = moment.ntp.wrapping_add(((gone as u64) << 32) / 1_000_000);
        Some((ntp, moment.timestamp.wrapping_add(rescale(gone, 1_000_000, self.clock_rate) as u32)))
    }
}

/// Ticks of RTP's clock for a codec (RFC 3551, RFC 7587 and the others').
fn clock_rate(track: &Track) -> u32 {
    match track.codec {
        Codec::Opus => 48_000,
        Codec::G711A | Codec::G711U => 8000,
        codec if codec.kind() == Kind::Audio && track.facts.sample_rate > 0 => track.facts.sample_rate,
        _ => 90_000,
    }
}

/// Whether no other picture refers to this one.
fn is_disposable(codec: Codec, data: &Bytes) -> bool {
    let mut slices = 0;
    let free = nals(data).all(|nal| match (codec, nal.first()) {
        // nal_ref_idc 0
        (Codec::H264, Some(head)) if matches!(head & 0x1F, 1..=5) => {
            slices += 1;
            head & 0x60 == 0
        }
        // Even types below 16: of no use to pictures of the same sub-layer.
        (Codec::H265, Some(head)) if head >> 1 & 0x3F < 32 => {
            slices += 1;
            let kind = head >> 1 & 0x3F;
            kind < 16 && kind.is_multiple_of(2)
        }
        _ => true,
    });
    free && slices > 0
}
