//! One picture or sound of a publisher: packets into order, then into frames on the timeline.

use std::time::{Duration, Instant};

use bytes::Bytes;

use super::super::negotiated::Payload as Agreed;
use crate::format::rtp::clock::{Place, Timestamps};
use crate::format::rtp::dts::DecodingTimes;
use crate::format::rtp::jitter::{JitterBuffer, Ordered};
use crate::format::rtp::{Depacketise, Format, Packet, Piece, Unit, depacketiser};
use crate::media::nal::{ParamSets, normalise};
use crate::media::opus::OpusHead;
use crate::media::{Codec, Flags, Frame, Kind, Track, TrackId, is_key};

/// How long a missing packet is waited for.
const PATIENCE: Duration = Duration::from_millis(250);
/// And at most, where the way is long.
const MAX_PATIENCE: Duration = Duration::from_millis(800);
/// How long frames that refer to a lost one are held back while a key frame is on its way.
const HOLD: Duration = Duration::from_secs(1);

/// What came of packets.
#[derive(Debug)]
pub(super) enum Made {
    /// The track is this, from now on.
    Track(Box<Track>),
    /// A frame of it.
    Frame(Frame),
    /// A key frame is needed.
    WantsKey,
}

/// The packets of one codec on their way into frames.
struct Coding {
    payload_type: u8,
    codec: Codec,
    clock_rate: u32,
    depacketiser: Box<dyn Depacketise>,
    track: Track,
    told: bool,
    new_config: bool,
}

/// One source.
pub(super) struct Incoming {
    id: TrackId,
    pub(super) jitter: JitterBuffer,
    timestamps: Timestamps,
    pub(super) place: Option<Place>,
    times: DecodingTimes,
    coding: Option<Coding>,
    /// Something is missing since: frames may refer to it.
    broken: Option<Instant>,
    /// A key frame was seen.
    begun: bool,
    discontinuity: bool,
    /// The decoding time of the frame before; of another source's, where this one has taken over.
    pub(super) last_dts: Option<i64>,
}

impl Incoming {
    pub(super) fn new(id: TrackId) -> Self {
        Self {
            id,
            jitter: JitterBuffer::new(PATIENCE),
            timestamps: Timestamps::default(),
            place: None,
            times: DecodingTimes::default(),
            coding: None,
            broken: None,
            begun: false,
            discontinuity: false,
            last_dts: None,
        }
    }

    /// An empty one of the same track.
    pub(super) fn another(&self) -> Self {
        Self::new(self.id)
    }

    /// There and back takes so long.
    pub(super) fn set_round_trip(&mut self, round_trip: Duration) {
        self.jitter.set_patience((round_trip * 3).clamp(PATIENCE, MAX_PATIENCE));
    }

    /// A timestamp of its clock in full.
    pub(super) fn unwrapped(&self, timestamp: u32) -> i64 {
        self.timestamps.look(timestamp)
    }

    /// It goes on where another ended.
    pub(super) fn take_over(&mut self, last_dts: Option<i64>) {
        self.last_dts = last_dts;
        self.discontinuity = true;
        self.begun = false;
        if let Some(coding) = &mut self.coding {
            coding.told = false;
        }
    }

    fn coding(&mut self, agreed: &Agreed) -> Option<&mut Coding> {
        if self.coding.as_ref().is_none_or(|coding| coding.payload_type != agreed.number) {
            let format = Format::new(agreed.clock_rate);
            let same_codec = self.coding.as_ref().is_some_and(|coding| coding.codec == agreed.codec);
            let track = match self.coding.take() {
                Some(coding) if same_codec => coding.track,
                _ => track(self.id, agreed),
            };
            if self.place.is_none() || !same_codec {
                self.place = Some(Place::new(agreed.clock_rate));
                self.begun = false;
            }
            self.coding = Some(Coding {
                payload_type: agreed.number,
                codec: agreed.codec,
                clock_rate: agreed.clock_rate,
                depacketiser: depacketiser(agreed.codec, &format)?,
                track,
                told: false,
                new_config: false,
            });
        }
        self.coding.as_mut()
    }

    /// Takes the next packet in order. `arrived`: now, in microseconds on the timeline.
    pub(super) fn take(
        &mut self,
        ordered: &Ordered,
        agreed: &Agreed,
        arrived: i64,
        now: Instant,
        each: &mut dyn FnMut(Made),
    ) {
        let Packet { header, payload, .. } = &ordered.packet;
        let timestamp = self.timestamps.unwrap(header.timestamp);
        let mut units = Vec::new();
        let Some(coding) = self.coding(agreed) else { return };
        let piece = Piece { payload, marker: header.marker, timestamp, lost: ordered.lost > 0 };
        coding.depacketiser.push(&piece, &mut |unit| units.push(unit));
        if ordered.lost > 0 && agreed.codec.kind() == Kind::Video {
            self.lose(now, each);
        }
        for unit in units {
            self.unit(unit, arrived, now, each);
        }
    }

    fn lose(&mut self, now: Instant, each: &mut dyn FnMut(Made)) {
        if self.begun {
            self.broken.get_or_insert(now);
        }
        each(Made::WantsKey);
    }

    fn unit(&mut self, unit: Unit, arrived: i64, now: Instant, each: &mut dyn FnMut(Made)) {
        let lost = unit.lost;
        let Some(coding) = &mut self.coding else { return };
        let is_video = coding.codec.kind() == Kind::Video;
        let Some((data, key)) = coding.understand(unit.data) else {
            if is_video {
                each(Made::WantsKey);
            }
            return;
        };
        if lost && is_video && !key {
            self.lose(now, each);
        }
        let Some(coding) = &mut self.coding else { return };
        if key {
            self.broken = None;
            self.begun = true;
        }
        if !self.begun {
            each(Made::WantsKey);
            return;
        }
        if let Some(since) = self.broken {
            if now.saturating_duration_since(since) < HOLD {
                return;
            }
            // Nobody sends a key frame: a broken picture is better than none.
            self.broken = None;
        }
        let Some(place) = &mut self.place else { return };
        let us = place.at(unit.timestamp, arrived);
        let pts = to_ticks(us, coding.track.timescale);
        if !std::mem::replace(&mut coding.told, true) {
            self.times.set_reorder(coding.track.facts.reorder.unwrap_or(0));
            each(Made::Track(Box::new(coding.track.clone())));
        }
        let dts = if is_video { self.times.next(pts) } else { pts };
        let dts = self.last_dts.map_or(dts, |last| dts.max(last.saturating_add(1)));
        self.last_dts = Some(dts);
        let mut flags = if key { Flags::KEY } else { Flags::NONE };
        if std::mem::take(&mut coding.new_config) {
            flags = flags.with(Flags::NEW_CONFIG);
        }
        if std::mem::take(&mut self.discontinuity) {
            flags = flags.with(Flags::DISCONTINUITY);
        }
        let cts = i32::try_from(pts.saturating_sub(dts)).unwrap_or(0);
        each(Made::Frame(Frame { track: self.id, flags, dts, cts, wall_ms: None, data }));
    }

    /// What its packets are, and their clock.
    pub(super) fn codec(&self) -> Option<(Codec, u32)> {
        self.coding.as_ref().map(|coding| (coding.codec, coding.clock_rate))
    }
}

impl Coding {
    /// The frame in our form, and whether it is a key frame; what it tells of the track is taken over. `None`: of no use.
    fn understand(&mut self, data: Bytes) -> Option<(Bytes, bool)> {
        match self.codec {
            Codec::H264 | Codec::H265 => {
                let unit = normalise(self.codec, data, 4).ok()?;
                if self.track.update_sets(&unit.sets).unwrap_or(false) {
                    self.changed();
                }
                let usable = !unit.data.is_empty() && !self.track.config.is_empty();
                usable.then_some((unit.data, unit.key))
            }
            _ => {
                if self.track.learn(&data) {
                    self.changed();
                }
                let key = is_key(self.codec, &data);
                Some((data, key))
            }
        }
    }

    fn changed(&mut self) {
        self.new_config |= self.told;
        self.told = false;
    }
}

/// Microseconds in ticks, to the nearest.
fn to_ticks(us: i64, timescale: u32) -> i64 {
    let (seconds, rest) = (us.div_euclid(1_000_000), us.rem_euclid(1_000_000));
    seconds * i64::from(timescale) + (rest * i64::from(timescale) + 500_000) / 1_000_000
}

/// What is known of a track before its first frame.
fn track(id: TrackId, agreed: &Agreed) -> Track {
    let config = match agreed.codec {
        Codec::Opus => OpusHead::new(agreed.channels.clamp(1, 2)).build().into(),
        _ => Bytes::new(),
    };
    let mut track =
        Track::with_config(id, agreed.codec, config).unwrap_or_else(|_| Track::new(id, agreed.codec));
    track.timescale = agreed.clock_rate;
    let mut sets = ParamSets::default();
    for set in &agreed.format.parameter_sets {
        let mut data = Vec::new();
        crate::media::nal::put_nal(&mut data, set);
        if let Ok(unit) = normalise(agreed.codec, data.into(), 4) {
            sets.vps.extend(unit.sets.vps);
            sets.sps.extend(unit.sets.sps);
            sets.pps.extend(unit.sets.pps);
        }
    }
    let _ = track.update_sets(&sets);
    track
}
