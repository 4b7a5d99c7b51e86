//! One elementary stream of a program that is read.

use bytes::Bytes;

use super::audio::{Framing, Splitter, Unit};
use super::demux::{Counters, Event};
use super::packet::{Continuity, Order, Packet};
use super::pes::{Assembler, Header, Progress};
use super::psi::{Entry, descriptors};
use super::{TIME_MASK, TIMESCALE, latm};
use crate::media::nal::normalise;
use crate::media::opus::{Mapping, OpusHead};
use crate::media::{Codec, Flags, Frame, Kind, Track, TrackId};

/// All PES packets of a program that are being put together, in bytes. A key frame of 4K at 40 Mbit/s has 1 to 3 MB.
pub(super) const MAX_HELD: usize = 8 * 1024 * 1024;
/// The longest PES packet that isn't video; by their length field they end at 64 KiB.
const MAX_SMALL: usize = 128 * 1024;
/// Encoders that can't leave the length of video open cut large frames into PES packets of about this.
const MAX_BOUNDED: usize = 60_000;

/// How an elementary stream is carried.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Carriage {
    /// H.264 or H.265 with start codes.
    AnnexB(Codec),
    Adts,
    Latm,
    Mp3,
    Ac3(Codec),
    /// With its `channel_config_code`.
    Opus(u8),
    /// A PES packet is a frame; this many bytes of each are a header.
    Whole(Codec, usize),
}

impl Carriage {
    /// What the PMT says of a stream; `None` where it isn't read.
    pub(super) fn of(entry: &Entry<'_>, program_descriptors: &[u8]) -> Option<Self> {
        let registered = |name: &[u8]| {
            descriptors(entry.descriptors).any(|(tag, body)| tag == 5 && body.starts_with(name))
        };
        let has = |wanted: u8| descriptors(entry.descriptors).any(|(tag, _)| tag == wanted);
        let is_bluray =
            || descriptors(program_descriptors).any(|(tag, body)| tag == 5 && body.starts_with(b"HDMV"));
        Some(match entry.stream_type {
            0x03 | 0x04 => Self::Mp3,
            0x0F => Self::Adts,
            0x11 => Self::Latm,
            // Metadata in PES: its access units have a header of 5 bytes (13818-1 2.12.4.2).
            0x15 => {
                let is_klv =
                    |(tag, body): (u8, &[u8])| tag == 0x26 && body.windows(4).any(|name| name == b"KLVA");
                let codec = if registered(b"KLVA") || descriptors(entry.descriptors).any(is_klv) {
                    Codec::Klv
                } else {
                    Codec::Data
                };
                Self::Whole(codec, 5)
            }
            0x1B => Self::AnnexB(Codec::H264),
            0x24 => Self::AnnexB(Codec::H265),
            0x81 => Self::Ac3(Codec::Ac3),
            0x87 => Self::Ac3(Codec::Eac3),
            0x84 if is_bluray() => Self::Ac3(Codec::Eac3),
            0x06 if registered(b"Opus") => Self::Opus(opus_channels(entry.descriptors)),
            0x06 if registered(b"HEVC") => Self::AnnexB(Codec::H265),
            0x06 if registered(b"KLVA") => Self::Whole(Codec::Klv, 0),
            0x06 if registered(b"AC-3") || has(0x6A) => Self::Ac3(Codec::Ac3),
            0x06 if registered(b"EAC3") || has(0x7A) => Self::Ac3(Codec::Eac3),
            // VBI, teletext and subtitles are nothing without their descriptors; AV1 and others aren't data.
            0x06 if [0x45, 0x46, 0x56, 0x59, 5].into_iter().any(has) => return None,
            0x06 => Self::Whole(Codec::Data, 0),
            _ => return None,
        })
    }

    pub(super) fn codec(self) -> Codec {
        match self {
            Self::AnnexB(codec) | Self::Ac3(codec) | Self::Whole(codec, _) => codec,
            Self::Adts | Self::Latm => Codec::Aac,
            Self::Mp3 => Codec::Mp3,
            Self::Opus(_) => Codec::Opus,
        }
    }

    fn framing(self) -> Option<Framing> {
        Some(match self {
            Self::Adts => Framing::Adts(None),
            Self::Latm => Framing::Latm(latm::Reader::default()),
            Self::Mp3 => Framing::Mpeg,
            Self::Ac3(_) => Framing::Ac3,
            Self::Opus(_) => Framing::Opus,
            Self::AnnexB(_) | Self::Whole(..) => return None,
        })
    }
}

/// `channel_config_code` of the extension descriptor 0x80.
fn opus_channels(data: &[u8]) -> u8 {
    let code = descriptors(data).find_map(|(tag, body)| match (tag, body) {
        (0x7F, &[0x80, code, ..]) => Some(code),
        _ => None,
    });
    // 0 is dual mono, and beyond 8 a layout that no one uses in live streams: both begin with two channels.
    code.filter(|code| (1..=8).contains(code)).unwrap_or(2)
}

/// Up to two channels in family 0, more in the layouts of family 1 (RFC 7845 5.1.1.2).
fn opus_head(channels: u8) -> OpusHead {
    // Streams, how many of them are coupled, and where each channel is.
    let (streams, coupled, places): (u8, u8, &[u8]) = match channels {
        3 => (2, 1, &[0, 2, 1]),
        4 => (2, 2, &[0, 1, 2, 3]),
        5 => (3, 2, &[0, 4, 1, 2, 3]),
        6 => (4, 2, &[0, 4, 1, 2, 3, 5]),
        7 => (4, 3, &[0, 4, 1, 2, 3, 5, 6]),
        8 => (5, 3, &[0, 6, 1, 2, 3, 4, 5, 7]),
        _ => return OpusHead::new(channels),
    };
    let mapping = Mapping { family: 1, streams, coupled, channels: places.to_vec() };
    OpusHead { channels, mapping: Some(mapping), ..OpusHead::new(2) }
}

/// What all streams of a program share.
#[derive(Debug, Default)]
pub(super) struct Shared {
    pub(super) counters: Counters,
    /// Bytes that the streams hold together, at most [`MAX_HELD`].
    pub(super) held: usize,
    /// The last DTS of any stream, unwrapped: where the next is looked for.
    last: Option<i64>,
    /// The mark of what is being read.
    pub(super) mark: Option<u64>,
}

impl Shared {
    fn unwrap_time(&mut self, time: u64) -> i64 {
        let time = time as i64;
        let time = self.last.map_or(time, |last| last.saturating_add(difference(time, last)));
        self.last = Some(time);
        time
    }
}

/// `a` - `b` by their low 33 bits: the shorter way round.
fn difference(a: i64, b: i64) -> i64 {
    let forward = a.wrapping_sub(b) & TIME_MASK as i64;
    if forward > TIME_MASK as i64 / 2 { forward - TIME_MASK as i64 - 1 } else { forward }
}

/// One elementary stream.
#[derive(Debug)]
pub(super) struct Stream {
    pub(super) pid: u16,
    pub(super) carriage: Carriage,
    track: Track,
    /// Whether the track was told as it is now.
    told: bool,
    /// Whether the next frame comes with another config.
    new_config: bool,
    continuity: Continuity,
    pes: Assembler,
    /// The mark of where the PES packet in `pes` begins, and of where a header began that is not whole yet.
    mark: Option<u64>,
    next_mark: Option<u64>,
    /// DTS and CTS of the PES packet in `pes`.
    time: Option<(i64, i32)>,
    /// Something is missing before the PES packet in `pes`, or the source says that another timeline begins.
    discontinuity: bool,
    /// The same of the next one.
    next_discontinuity: bool,
    /// Drop all up to the next PES packet.
    dropping: bool,
    /// Whether frames were seen to go over several PES packets that tell their length.
    cut: bool,
    splitter: Option<Splitter>,
    /// DTS of the last video frame and the step to it, for those without a time.
    last: Option<i64>,
    step: i64,
}

impl Stream {
    /// `moved`: the track was on another PID, or had another codec.
    pub(super) fn new(id: TrackId, entry: &Entry<'_>, carriage: Carriage, moved: bool) -> Self {
        let mut track = Track::new(id, carriage.codec());
        track.timescale = TIMESCALE;
        if let Some((_, &[a, b, c, ..])) = descriptors(entry.descriptors).find(|(tag, _)| *tag == 0x0A) {
            track.language = [a, b, c];
        }
        if let Carriage::Opus(channels) = carriage {
            // Can't fail; without it the track would get a config by its first frame.
            let _ = track.set_config(opus_head(channels).build().into());
        }
        Self {
            pid: entry.pid,
            carriage,
            track,
            told: false,
            new_config: moved,
            continuity: Continuity::default(),
            pes: Assembler::default(),
            mark: None,
            next_mark: None,
            time: None,
            discontinuity: false,
            next_discontinuity: false,
            dropping: false,
            cut: false,
            splitter: carriage.framing().map(Splitter::new),
            last: None,
            step: 0,
        }
    }

    pub(super) fn id(&self) -> TrackId {
        self.track.id
    }

    /// Takes a packet of this PID.
    pub(super) fn packet(&mut self, packet: &Packet<'_>, shared: &mut Shared, each: &mut dyn FnMut(Event)) {
        let Some(payload) = packet.payload else {
            self.next_discontinuity |= packet.discontinuity;
            return;
        };
        if packet.scrambled {
            shared.counters.scrambled += 1;
            self.continuity.forget();
            self.lost(shared, each);
            return;
        }
        match self.continuity.check(packet) {
            Order::Duplicate => return,
            Order::Lost => {
                // Announced: another source goes on here. What came is whole as far as anyone knows.
                if packet.discontinuity && packet.start {
                    self.flush(shared, each);
                } else {
                    shared.counters.lost += u64::from(!packet.discontinuity);
                    self.lost(shared, each);
                }
            }
            Order::Next => {}
        }
        self.next_discontinuity |= packet.discontinuity;
        if packet.start {
            self.dropping = false;
            self.pes.start();
            self.next_mark = shared.mark;
        }
        if self.dropping {
            return;
        }

        let before = self.pes.held();
        let (mut progress, rest) = self.pes.push(payload);
        if let Progress::Header(header) = progress {
            progress = self.begin(header, rest, shared, each);
        } else {
            shared.held += self.pes.held() - before;
        }
        let is_video = self.track.kind() == Kind::Video;
        let may_go_on = is_video && (self.cut || self.pes.held() >= MAX_BOUNDED);
        if shared.held > MAX_HELD || (!is_video && self.pes.held() > MAX_SMALL) {
            self.lost(shared, each);
        } else if progress == Progress::Full && !may_go_on {
            self.flush(shared, each);
        }
    }

    /// A header is whole, and the payload begins with `rest`.
    fn begin(
        &mut self,
        header: Header,
        rest: &[u8],
        shared: &mut Shared,
        each: &mut dyn FnMut(Event),
    ) -> Progress {
        if header.pts.is_none()
            && let Carriage::AnnexB(codec) = self.carriage
            && !begins_access_unit(codec, rest)
        {
            // The frame before goes on. Next time it is waited for.
            self.cut = true;
            if self.pes.is_begun() {
                let before = self.pes.held();
                let progress = self.pes.continued(header, rest);
                shared.held += self.pes.held() - before;
                return progress;
            }
            self.lost(shared, each);
            return Progress::More;
        }
        self.flush(shared, each);
        self.mark = self.next_mark;
        self.discontinuity |= std::mem::take(&mut self.next_discontinuity);
        self.time = header.pts.map(|pts| {
            let dts = header.dts.unwrap_or(pts);
            let cts = i32::try_from(difference(pts as i64, dts as i64)).unwrap_or(0);
            (shared.unwrap_time(dts), cts)
        });
        let progress = self.pes.body(header, rest);
        shared.held += self.pes.held();
        progress
    }

    /// Packets are missing, or of no use: drops what was begun.
    fn lost(&mut self, shared: &mut Shared, each: &mut dyn FnMut(Event)) {
        if self.pes.is_full() {
            self.flush(shared, each);
        }
        shared.counters.dropped += u64::from(self.pes.is_begun());
        self.forget(shared);
        self.dropping = true;
        self.next_discontinuity = true;
        if let Some(splitter) = &mut self.splitter {
            splitter.lost();
        }
    }

    /// Forgets the PES packet that was begun.
    pub(super) fn forget(&mut self, shared: &mut Shared) {
        shared.held = shared.held.saturating_sub(self.pes.held());
        self.pes.clear();
    }

    /// Gives the frames of the PES packet that was put together.
    pub(super) fn flush(&mut self, shared: &mut Shared, each: &mut dyn FnMut(Event)) {
        let data = self.pes.take();
        shared.held = shared.held.saturating_sub(data.len());
        if data.is_empty() {
            return;
        }
        let time = self.time.take();
        match self.carriage {
            Carriage::AnnexB(codec) => self.video(codec, data, time, shared, each),
            Carriage::Whole(_, header) => {
                // Asynchronous data may have no time: it belongs to where the program is.
                let dts = time.map(|(dts, _)| dts).or(shared.last);
                match (dts, data.get(header..)) {
                    (Some(dts), Some(payload)) => {
                        self.tell(each);
                        self.frame(dts, 0, Flags::KEY, data.slice_ref(payload), each);
                    }
                    _ => shared.counters.dropped += 1,
                }
            }
            _ => {
                let Some(mut splitter) = self.splitter.take() else { return };
                splitter.push(&data, time.map(|(dts, _)| dts), &mut |unit| self.audio(unit, shared, each));
                self.splitter = Some(splitter);
            }
        }
    }

    fn video(
        &mut self,
        codec: Codec,
        data: Bytes,
        time: Option<(i64, i32)>,
        shared: &mut Shared,
        each: &mut dyn FnMut(Event),
    ) {
        let time = time.or_else(|| Some((self.last.filter(|_| self.step > 0)? + self.step, 0)));
        let (Some((dts, cts)), Ok(unit)) = (time, normalise(codec, data, 0)) else {
            shared.counters.dropped += 1;
            return;
        };
        if self.track.update_sets(&unit.sets).unwrap_or(false) {
            self.new_config |= self.told;
            self.told = false;
        }
        if unit.data.is_empty() {
            return;
        }
        if self.track.config.is_empty() {
            shared.counters.dropped += 1;
            return;
        }
        // Steps of up to a second are frame durations.
        let step = dts.saturating_sub(self.last.unwrap_or(dts));
        self.step = if (1..=i64::from(TIMESCALE)).contains(&step) { step } else { self.step };
        self.last = Some(dts);
        self.tell(each);
        self.frame(dts, cts, if unit.key { Flags::KEY } else { Flags::NONE }, unit.data, each);
    }

    fn audio(&mut self, unit: Unit, shared: &mut Shared, each: &mut dyn FnMut(Event)) {
        let changed = match unit.config {
            Some(config) if config != self.track.config => self.track.set_config(config).is_ok(),
            Some(_) => false,
            None => self.track.learn(&unit.payload),
        };
        if changed {
            self.new_config |= self.told;
            self.told = false;
        }
        if self.track.codec.needs_config() && self.track.config.is_empty() {
            shared.counters.dropped += 1;
            return;
        }
        self.tell(each);
        self.frame(unit.dts, 0, Flags::KEY, unit.payload, each);
    }

    fn tell(&mut self, each: &mut dyn FnMut(Event)) {
        if !std::mem::replace(&mut self.told, true) {
            each(Event::Track(self.track.clone()));
        }
    }

    fn frame(&mut self, dts: i64, cts: i32, mut flags: Flags, data: Bytes, each: &mut dyn FnMut(Event)) {
        if std::mem::take(&mut self.discontinuity) {
            flags = flags.with(Flags::DISCONTINUITY);
        }
        if std::mem::take(&mut self.new_config) {
            flags = flags.with(Flags::NEW_CONFIG);
        }
        if let Some(mark) = self.mark {
            each(Event::Begins(mark));
        }
        each(Event::Frame(Frame { track: self.track.id, flags, dts, cts, wall_ms: None, data }));
    }
}

/// Whether these bytes are the first of an access unit: a delimiter, a parameter set, SEI, or the first slice.
fn begins_access_unit(codec: Codec, data: &[u8]) -> bool {
    let zeros = data.iter().take_while(|&&byte| byte == 0).count();
    let Some(&[1, a, b, c]) =
        data.get(zeros..).and_then(|rest| rest.first_chunk::<4>()).filter(|_| zeros >= 2)
    else {
        return false;
    };
    match codec {
        Codec::H265 => match a >> 1 & 0x3F {
            0..=31 => c & 0x80 != 0,
            32..=35 | 39 => true,
            _ => false,
        },
        _ => match a & 0x1F {
            1..=5 => b & 0x80 != 0,
            6..=9 => true,
            _ => false,
        },
    }
}
