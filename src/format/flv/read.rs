//! From tags to tracks, frames and metadata.

use std::collections::VecDeque;

use bytes::Bytes;

use super::packet::{Packet, Role, packets};
use super::{FlvError, TagKind};
use crate::format::amf::{Decoder, Value};
use crate::media::{self, Codec, Flags, Frame, Meta, Track, TrackId, av1, nal};

/// The most tracks of one stream; real ones have two, multitrack encoders up to six.
pub const MAX_TRACKS: usize = 16;
/// How many kinds of unsupported codecs a reader tells of before it falls silent.
const MAX_TOLD: usize = 8;

/// What a tag holds.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// A track is new, or its config or facts are: stands before the first frame it is true for.
    Track(Track),
    /// A frame of a track that was told before.
    Frame(Frame),
    /// The publisher's metadata, whole.
    Meta(Meta),
}

/// Reads the bodies of FLV tags or RTMP media messages, in the order they come.
///
/// * Tracks get their [`TrackId`] in the order in which they first appear; one is known by its kind and its
///   Enhanced RTMP track number (0 for all others). A sequence header that repeats the one before is passed
///   over; what comes before the config that a codec [needs](Codec::needs_config) is left out.
/// * Frames are in milliseconds and in the payload form of [`media`]; they share the tag's bytes unless there
///   are parameter sets, delimiters or start codes to take out. Parameter sets in frames renew the config.
/// * [`Flags::KEY`] stands on audio and on video of frame type 1, whatever the pictures inside: the frame type
///   is what FLV has for it, and publishers mark recovery points by it that a look at the slices would miss.
///   [`Flags::DISPOSABLE`] is frame type 3.
///
/// After an error the next tag can be read as if the bad one had not come.
#[derive(Debug, Default)]
pub struct TagReader {
    slots: heapless::Vec<Slot, MAX_TRACKS>,
    events: VecDeque<Event>,
    told: heapless::Vec<String, MAX_TOLD>,
}

#[derive(Debug)]
struct Slot {
    kind: TagKind,
    number: u8,
    track: Track,
    /// The config as it came, to know it again.
    raw: Bytes,
    /// Of the lengths before NAL units, as the config has it.
    length_size: u8,
    /// Whether [`Event::Track`] was given.
    told: bool,
    /// Whether the next frame is [`Flags::NEW_CONFIG`].
    renewed: bool,
}

impl TagReader {
    /// A reader that knows no tracks.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The next of what the tag held that was pushed last.
    pub fn next_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// Reads a tag; take its events with [`next_event`](Self::next_event) before the next push, which drops
    /// them. `ts_ms`: the tag's time, unwrapped.
    ///
    /// # Errors
    /// When the body is malformed, or of a codec the server doesn't carry; the latter is told once.
    pub fn push(&mut self, kind: TagKind, ts_ms: i64, body: Bytes) -> Result<(), FlvError> {
        self.events.clear();
        match kind {
            TagKind::Audio | TagKind::Video => {
                self.media(kind, ts_ms, body).or_else(|error| self.tell(error))
            }
            TagKind::Script => self.script(&body),
            // A format byte, then AMF0 that may switch to AMF3.
            TagKind::ScriptAmf3 => self.script(body.get(1..).unwrap_or_default()),
        }
    }

    fn media(&mut self, kind: TagKind, ts_ms: i64, body: Bytes) -> Result<(), FlvError> {
        for packet in packets(kind, body)? {
            self.packet(kind, ts_ms, packet)?;
        }
        Ok(())
    }

    /// Lets each error of an unsupported codec through once.
    fn tell(&mut self, error: FlvError) -> Result<(), FlvError> {
        if let FlvError::Unsupported { why, .. } = &error
            && (self.told.contains(why) || self.told.push(why.clone()).is_err())
        {
            return Ok(());
        }
        Err(error)
    }

    fn script(&mut self, body: &[u8]) -> Result<(), FlvError> {
        let mut decoder = Decoder::new(body);
        while !decoder.is_empty() {
            match decoder.value()?.as_str() {
                // RTMP publishers wrap it; a file has it bare.
                Some("@setDataFrame") => {}
                Some("onMetaData") => {
                    let meta = if decoder.is_empty() { Value::Null } else { decoder.value()? };
                    if !meta.pairs().is_empty() {
                        self.events.push_back(Event::Meta(meta.to_meta()));
                    }
                    return Ok(());
                }
                _ => return Ok(()),
            }
        }
        Ok(())
    }

    fn packet(&mut self, kind: TagKind, ts_ms: i64, packet: Packet) -> Result<(), FlvError> {
        let what = kind.name();
        let media_error = |source| FlvError::Media { what, source };
        let found = self.slots.iter().position(|slot| slot.kind == kind && slot.number == packet.number);
        match packet.role {
            Role::Nothing => Ok(()),
            Role::Channels => {
                if let Some(slot) = found.and_then(|i| self.slots.get_mut(i)) {
                    slot.channels(&packet.payload, &mut self.events);
                }
                Ok(())
            }
            Role::Config => {
                if let Some(slot) = found.and_then(|i| self.slots.get_mut(i)) {
                    return slot.config(packet, &mut self.events).map_err(media_error);
                }
                let mut slot = self.new_slot(kind, &packet)?;
                slot.config(packet, &mut self.events).map_err(media_error)?;
                // One that needs no config first shows with a frame.
                if slot.told {
                    let _ = self.slots.push(slot); // new_slot saw that there is room
                }
                Ok(())
            }
            Role::Frame { cts, key, disposable } => {
                if packet.payload.is_empty() {
                    return Ok(());
                }
                let index = found.unwrap_or(self.slots.len());
                if found.is_none() {
                    let slot = self.new_slot(kind, &packet)?;
                    let _ = self.slots.push(slot);
                }
                let Some(slot) = self.slots.get_mut(index) else { return Ok(()) };
                let flags = match (key, disposable) {
                    (true, _) => Flags::KEY,
                    (false, true) => Flags::DISPOSABLE,
                    (false, false) => Flags::NONE,
                };
                slot.frame(packet, Timing { ts_ms, cts, flags }, &mut self.events).map_err(media_error)
            }
        }
    }

    fn new_slot(&self, kind: TagKind, packet: &Packet) -> Result<Slot, FlvError> {
        let (number, full) = (packet.number, self.slots.is_full());
        let id = u8::try_from(self.slots.len()).ok().filter(|_| !full);
        let id = id.ok_or(FlvError::TooManyTracks { what: kind.name(), number })?;
        Ok(Slot::new(kind, number, TrackId(id), packet.codec))
    }
}

#[derive(Clone, Copy)]
struct Timing {
    ts_ms: i64,
    cts: i32,
    flags: Flags,
}

impl Slot {
    fn new(kind: TagKind, number: u8, id: TrackId, codec: Codec) -> Self {
        // Some codecs have facts even so.
        let track = Track::with_config(id, codec, Bytes::new()).unwrap_or_else(|_| Track::new(id, codec));
        Self { kind, number, track, raw: Bytes::new(), length_size: 4, told: false, renewed: false }
    }

    fn config(&mut self, packet: Packet, events: &mut VecDeque<Event>) -> media::Result<()> {
        let Packet { codec, payload, .. } = packet;
        let known = self.told && codec == self.track.codec && payload == self.raw;
        // Empty: nothing to tell (AC-3), or the default (Opus). The first frame shows the track.
        if known || payload.is_empty() {
            return Ok(());
        }
        // Copied: it must not keep its message alive.
        let raw = Bytes::copy_from_slice(&payload);
        let length_size = media::length_size(codec, &raw)?;
        let track = Track::with_config(self.track.id, codec, raw.clone())?;
        (self.raw, self.length_size) = (raw, length_size);
        self.replace(track, events);
        Ok(())
    }

    /// MultichannelConfig: order, count, layout. The count fills what the codec doesn't tell.
    fn channels(&mut self, payload: &[u8], events: &mut VecDeque<Event>) {
        if let [_order, count, ..] = payload
            && self.told
            && self.track.facts.channels == 0
        {
            let mut track = self.track.clone();
            track.facts.channels = *count;
            self.replace(track, events);
        }
    }

    fn frame(&mut self, packet: Packet, time: Timing, events: &mut VecDeque<Event>) -> media::Result<()> {
        let Packet { codec, payload, number, .. } = packet;
        if codec != self.track.codec {
            // Another codec without a sequence header: nothing of the old one holds.
            *self = Self { renewed: self.told, ..Self::new(self.kind, number, self.track.id, codec) };
        }
        let data = match codec {
            Codec::Av1 => av1::normalise(payload)?,
            Codec::H264 | Codec::H265 => {
                let unit = nal::normalise(codec, payload, self.length_size)?;
                if !unit.sets.is_empty() {
                    let mut track = self.track.clone();
                    if track.update_sets(&unit.sets)? {
                        self.replace(track, events);
                    }
                }
                unit.data
            }
            _ => payload,
        };
        if data.is_empty() || (codec.needs_config() && self.track.config.is_empty()) {
            return Ok(());
        }
        let config = self.track.config.clone();
        if self.track.learn(&data) || !self.told {
            self.tell(self.track.config != config, events);
        }
        let mut flags = time.flags;
        if std::mem::take(&mut self.renewed) {
            flags = flags | Flags::NEW_CONFIG;
        }
        let (track, dts, cts) = (self.track.id, time.ts_ms, time.cts);
        events.push_back(Event::Frame(Frame { track, flags, dts, cts, wall_ms: None, data }));
        Ok(())
    }

    /// Takes the track over, and tells it if that is news.
    fn replace(&mut self, track: Track, events: &mut VecDeque<Event>) {
        if self.told && track == self.track {
            return;
        }
        let renewed = track.config != self.track.config || track.codec != self.track.codec;
        self.track = track;
        self.tell(renewed, events);
    }

    fn tell(&mut self, renewed: bool, events: &mut VecDeque<Event>) {
        self.renewed |= self.told && renewed;
        self.told = true;
        events.push_back(Event::Track(self.track.clone()));
    }
}
