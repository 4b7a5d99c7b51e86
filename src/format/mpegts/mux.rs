//! Frames to transport packets.

use std::time::Duration;

use bytes::BytesMut;

use super::form::{Form, carries, descriptors, stream_id, stream_type};
use super::packet::{Adaptation, NULL_PID, PesWriter, put_adaptation, put_section};
use super::psi::{self, Entry};
use super::{PAT_PID, TIME_MASK, TIMESCALE, TsError};
use crate::media::nal::nals;
use crate::media::{Codec, Flags, Frame, Kind, MediaError, Track, TrackId, rescale};

/// The most tracks of one program. All their entries fit one PMT section; streams have two or three.
pub const MAX_TRACKS: usize = 32;

const PROGRAM: u16 = 1;
const PMT_PID: u16 = 0x1000;
/// A track's PID is this and its id.
const FIRST_PID: u16 = 0x100;

/// A longer step of the clock is a gap or another timeline: it is marked, and not filled with PCRs.
const JUMP: i64 = 10 * TIMESCALE as i64;
/// The longest time an option can ask for, in milliseconds.
const MAX_OPTION: i64 = 10_000;
/// Bytes of gathered audio that are sent whatever their time.
const MAX_GATHERED: usize = 32 * 1024;

const START_CODE: &[u8] = &[0, 0, 0, 1];

/// How a [`Muxer`] writes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MuxOptions {
    /// How far DTS and PTS are ahead of PCR. It must cover how much later one track's frames come than the
    /// other's: a frame that is overtaken by more has its DTS before the PCR. All times on the wire are this
    /// much after those of the frames, so that the PCR of a stream which begins at 0 is not negative.
    pub delay: Duration,
    /// PAT and PMT come at least this often (DVB demands 500 ms), and before each key frame of video.
    pub tables_every: Duration,
    /// PCR comes at least this often (13818-1 demands 100 ms), in packets of its own where no frame is due.
    pub pcr_every: Duration,
    /// Audio of up to this long goes into one PES packet; zero: each frame has its own. A frame of its own costs
    /// half a packet of stuffing on average (20 to 40 % of 128 kbit/s AAC) but waits for nothing: right for live.
    /// 100 ms suits segments and recordings.
    pub gather: Duration,
}

impl Default for MuxOptions {
    fn default() -> Self {
        Self {
            delay: Duration::from_millis(500),
            tables_every: Duration::from_millis(400),
            pcr_every: Duration::from_millis(80),
            gather: Duration::ZERO,
        }
    }
}

/// Puts frames of some tracks into one transport stream of one program.
///
/// The stream can be shared: [`Muxer::frame`] tells where a new reader can start, which is where PAT and PMT stand
/// before a key frame. The work is one copy of each payload.
#[derive(Debug)]
pub struct Muxer {
    delay: i64,
    tables_every: i64,
    pcr_every: i64,
    gather: i64,
    streams: Vec<Stream>,
    pat: Vec<u8>,
    pmt: Vec<u8>,
    /// The PMT as it would be with version 0: tells whether tracks changed.
    layout: Vec<u8>,
    version: u8,
    pat_cc: u8,
    pmt_cc: u8,
    clock: Clock,
}

/// Where the program's time stands, in ticks of the frames.
#[derive(Debug)]
struct Clock {
    /// The PID that carries it: the first of video, else of audio, else of data.
    pid: u16,
    now: Option<i64>,
    /// Where the carrying track was.
    base: i64,
    /// The last that was written.
    pcr: Option<i64>,
    /// When PAT and PMT were written.
    tables: Option<i64>,
}

#[derive(Debug)]
struct Stream {
    id: TrackId,
    codec: Codec,
    timescale: u32,
    stream_type: u8,
    descriptors: Vec<u8>,
    pid: u16,
    cc: u8,
    form: Result<Form, MediaError>,
    /// Where this track was when the carrying track was last heard of: it moves the clock by what it gained since.
    since: Option<i64>,
    gathered: Gathered,
}

/// Audio frames that wait for more, in the form of the wire.
#[derive(Debug, Default)]
struct Gathered {
    data: BytesMut,
    first: i64,
    last: i64,
    discontinuity: bool,
}

/// What goes into one PES packet, but its payload.
#[derive(Debug, Clone, Copy)]
struct Unit {
    pts: i64,
    dts: i64,
    /// A video frame that a decoder can start at.
    key: bool,
    /// Whether parameter sets go before it.
    sets: bool,
    discontinuity: bool,
}

impl Muxer {
    /// A muxer without tracks.
    #[must_use]
    pub fn new(options: &MuxOptions) -> Self {
        let ticks =
            |time: Duration| i64::try_from(time.as_millis()).map_or(MAX_OPTION, |ms| ms.min(MAX_OPTION)) * 90;
        Self {
            delay: ticks(options.delay),
            tables_every: ticks(options.tables_every),
            pcr_every: ticks(options.pcr_every.max(Duration::from_millis(1))),
            gather: ticks(options.gather),
            streams: Vec::new(),
            pat: psi::pat(0, PROGRAM, PMT_PID),
            pmt: Vec::new(),
            layout: Vec::new(),
            version: 31,
            pat_cc: 0,
            pmt_cc: 0,
            clock: Clock { pid: NULL_PID, now: None, base: 0, pcr: None, tables: None },
        }
    }

    /// How far times on the wire are after those of the frames, in ticks of 90 kHz: [`MuxOptions::delay`].
    #[must_use]
    pub fn delay(&self) -> i64 {
        self.delay
    }

    /// Sets the tracks, or takes over new configs of theirs: before the first frame, and whenever they change.
    ///
    /// Those that can't be [carried](carries), and those beyond [`MAX_TRACKS`], are left out. Where that makes
    /// another PMT, its version is counted up, and it comes before the next frame.
    pub fn set_tracks(&mut self, tracks: &[Track]) {
        let mut old = std::mem::take(&mut self.streams);
        for track in tracks.iter().filter(|track| carries(track.codec)).take(MAX_TRACKS) {
            let mut stream = Stream::new(track);
            if let Some(same) = old.iter_mut().find(|same| same.id == track.id) {
                stream.cc = same.cc;
                if same.codec == track.codec {
                    stream.gathered = std::mem::take(&mut same.gathered);
                }
            }
            self.streams.push(stream);
        }

        let carrier = [Kind::Video, Kind::Audio, Kind::Data]
            .iter()
            .find_map(|&kind| self.streams.iter().find(|stream| stream.codec.kind() == kind));
        let pcr_pid = carrier.map_or(NULL_PID, |stream| stream.pid);
        let entries: Vec<_> = self.streams.iter().map(Stream::entry).collect();
        let layout = psi::pmt(0, PROGRAM, pcr_pid, &entries);
        if layout != self.layout {
            self.version = (self.version + 1) & 31;
            self.pmt = psi::pmt(self.version, PROGRAM, pcr_pid, &entries);
            self.layout = layout;
            self.clock.pid = pcr_pid;
            self.clock.tables = None;
        }
    }

    /// Appends PAT and PMT. [`frame`](Self::frame) does so where it is needed.
    pub fn tables(&mut self, out: &mut BytesMut) {
        put_section(PAT_PID, &mut self.pat_cc, &self.pat, out);
        put_section(PMT_PID, &mut self.pmt_cc, &self.pmt, out);
        self.clock.tables = self.clock.now;
    }

    /// Appends the packets of a frame. Frames are to come in the order of their DTS, more or less.
    ///
    /// Tells whether a reader can start with what was appended: it begins with PAT and PMT, and a key frame follows
    /// (without video: any frame). With [`MuxOptions::gather`] audio may be kept for a later call.
    ///
    /// # Errors
    /// When its track isn't there or isn't ready, or it is too long; then nothing was appended.
    pub fn frame(&mut self, frame: &Frame, out: &mut BytesMut) -> Result<bool, TsError> {
        let at = self.streams.iter().position(|stream| stream.id == frame.track);
        let Some((at, stream)) = at.and_then(|at| Some((at, self.streams.get(at)?))) else {
            return Err(TsError::UnknownTrack(frame.track));
        };
        let prefix = match &stream.form {
            Ok(form) => form.prefix(frame)?,
            Err(why) => return Err(TsError::NoConfig { track: frame.track, why: why.to_string() }),
        };
        let kind = stream.codec.kind();
        let unit = Unit {
            dts: rescale(frame.dts, stream.timescale, TIMESCALE),
            pts: rescale(frame.pts(), stream.timescale, TIMESCALE),
            key: kind == Kind::Video && frame.is_key(),
            sets: frame.is_key() || frame.flags.has(Flags::NEW_CONFIG),
            discontinuity: frame.flags.has(Flags::DISCONTINUITY),
        };
        Ok(if kind == Kind::Audio && self.gather > 0 {
            self.gather(at, unit, &prefix, &frame.data, out)
        } else {
            self.unit(at, unit, &prefix, &frame.data, out)
        })
    }

    /// Appends what audio was kept: at the end, or where a segment ends.
    pub fn flush(&mut self, out: &mut BytesMut) {
        for at in 0..self.streams.len() {
            self.flush_stream(at, out);
        }
    }

    fn gather(&mut self, at: usize, unit: Unit, prefix: &[u8], data: &[u8], out: &mut BytesMut) -> bool {
        let limit = self.gather;
        let Some(Stream { gathered, .. }) = self.streams.get(at) else { return false };
        let step = unit.dts.saturating_sub(gathered.last);
        let fits = (0..=limit).contains(&step)
            && !unit.discontinuity
            && gathered.data.len() + prefix.len() + data.len() <= MAX_GATHERED;
        let mut join = !fits && self.flush_stream(at, out);

        let Some(Stream { gathered, .. }) = self.streams.get_mut(at) else { return join };
        if gathered.data.is_empty() {
            (gathered.first, gathered.discontinuity) = (unit.dts, unit.discontinuity);
        }
        gathered.last = unit.dts;
        gathered.data.extend_from_slice(prefix);
        gathered.data.extend_from_slice(data);
        // With one more that takes as long as this, it would be too much.
        if unit.dts - gathered.first + 2 * step.clamp(0, limit) > limit {
            join |= self.flush_stream(at, out);
        }
        join
    }

    fn flush_stream(&mut self, at: usize, out: &mut BytesMut) -> bool {
        self.take_gathered(at).is_some_and(|(unit, data)| self.unit(at, unit, &[], &data, out))
    }

    fn take_gathered(&mut self, at: usize) -> Option<(Unit, BytesMut)> {
        let gathered = &mut self.streams.get_mut(at)?.gathered;
        let (dts, discontinuity) = (gathered.first, gathered.discontinuity);
        let unit = Unit { pts: dts, dts, key: false, sets: false, discontinuity };
        let data = gathered.data.split();
        (!data.is_empty()).then_some((unit, data))
    }

    /// Moves the clock, and writes what is due by it, then the unit.
    fn unit(&mut self, at: usize, mut unit: Unit, prefix: &[u8], data: &[u8], out: &mut BytesMut) -> bool {
        let jump = self.advance(at, unit);
        unit.discontinuity |= jump;
        let carries_clock = self.streams.get(at).is_some_and(|stream| stream.pid == self.clock.pid);
        let has_video = self.streams.iter().any(|stream| stream.codec.kind() == Kind::Video);
        let now = self.clock.now.unwrap_or(unit.dts);

        let tables = unit.key || jump || self.tables_due(now);
        if tables {
            self.tables(out);
        }
        if !jump {
            self.fill(now, out);
        }
        if unit.key {
            // Audio of before goes in front of the key frame, so that a segment which ends here has it all.
            for other in 0..self.streams.len() {
                if let Some((unit, data)) = self.take_gathered(other) {
                    self.write(other, unit, &[], &data, None, out);
                }
            }
        }
        let pcr = (carries_clock && (jump || self.clock.pcr != Some(now))).then_some(now);
        self.write(at, unit, prefix, data, pcr, out);
        tables && (unit.key || !has_video)
    }

    /// Moves the clock to this unit. Tells whether it jumped, so that the time base is another.
    fn advance(&mut self, at: usize, unit: Unit) -> bool {
        let clock = &mut self.clock;
        let Some(stream) = self.streams.get_mut(at) else { return false };
        let Some(now) = clock.now else {
            (clock.now, clock.base) = (Some(unit.dts), unit.dts);
            return false;
        };
        if stream.pid != clock.pid {
            let gain = unit.dts.saturating_sub(*stream.since.get_or_insert(unit.dts));
            if (0..=JUMP).contains(&gain) {
                clock.now = Some(now.max(clock.base.saturating_add(gain)));
            } else {
                stream.since = Some(unit.dts);
            }
            return false;
        }
        let jump = unit.discontinuity || !(-self.delay..=JUMP).contains(&unit.dts.saturating_sub(now));
        clock.now = Some(if jump { unit.dts } else { now.max(unit.dts) });
        clock.base = unit.dts;
        self.streams.iter_mut().for_each(|stream| stream.since = None);
        jump
    }

    fn tables_due(&self, now: i64) -> bool {
        self.clock.tables.is_none_or(|at| !(0..self.tables_every).contains(&now.saturating_sub(at)))
    }

    /// Where frames are far apart, writes the clock for the time in between.
    fn fill(&mut self, now: i64, out: &mut BytesMut) {
        let cc =
            self.streams.iter().find(|stream| stream.pid == self.clock.pid).map_or(0, |stream| stream.cc);
        while let Some(last) = self.clock.pcr.filter(|last| now.saturating_sub(*last) > self.pcr_every) {
            let pcr = last + self.pcr_every;
            self.clock.pcr = Some(pcr);
            if self.tables_due(pcr) {
                self.tables(out);
                self.clock.tables = Some(pcr);
            }
            let adaptation = Adaptation { pcr: Some(wire(pcr)), ..Adaptation::default() };
            put_adaptation(self.clock.pid, cc, adaptation, out);
        }
    }

    /// Writes one PES packet.
    fn write(
        &mut self,
        at: usize,
        unit: Unit,
        prefix: &[u8],
        data: &[u8],
        pcr: Option<i64>,
        out: &mut BytesMut,
    ) {
        let Some(stream) = self.streams.get_mut(at) else { return };
        let (aud, sets) = match &stream.form {
            Ok(Form::AnnexB { aud, sets }) => (*aud, if unit.sets { sets.as_slice() } else { &[] }),
            _ => (&[][..], &[][..]),
        };
        let has_nals = stream.codec.has_nals();
        let units = || nals(data).filter(|nal| !nal.is_empty());
        let payload = if has_nals {
            aud.len() + sets.len() + units().map(|nal| START_CODE.len() + nal.len()).sum::<usize>()
        } else {
            prefix.len() + data.len()
        };

        let header = pes_header(stream_id(stream.codec), unit, self.delay, payload);
        let random_access = unit.key || (stream.pid == self.clock.pid && stream.codec.kind() != Kind::Video);
        let adaptation = Adaptation { pcr: pcr.map(wire), random_access, discontinuity: unit.discontinuity };
        if pcr.is_some() {
            self.clock.pcr = pcr;
        }
        let mut pes = PesWriter::new(stream.pid, &mut stream.cc, header.len() + payload, adaptation, out);
        pes.put(&header);
        if has_nals {
            // H.264 7.4.1.2.3, H.265 7.4.2.4.4: delimiter, parameter sets, then SEI and slices.
            pes.put(aud);
            pes.put(sets);
            for nal in units() {
                pes.put(START_CODE);
                pes.put(nal);
            }
        } else {
            pes.put(prefix);
            pes.put(data);
        }
    }
}

impl Stream {
    fn new(track: &Track) -> Self {
        Self {
            id: track.id,
            codec: track.codec,
            timescale: track.timescale,
            stream_type: stream_type(track),
            descriptors: descriptors(track),
            pid: FIRST_PID + u16::from(track.id.0),
            cc: 0,
            form: Form::of(track),
            since: None,
            gathered: Gathered::default(),
        }
    }

    fn entry(&self) -> Entry<'_> {
        Entry { stream_type: self.stream_type, pid: self.pid, descriptors: &self.descriptors }
    }
}

/// A time as 33 bits.
fn wire(ticks: i64) -> u64 {
    ticks as u64 & TIME_MASK
}

/// The header of a PES packet (2.4.3.6).
fn pes_header(stream_id: u8, unit: Unit, delay: i64, payload: usize) -> heapless::Vec<u8, 19> {
    let (pts, dts) = (wire(unit.pts.wrapping_add(delay)), wire(unit.dts.wrapping_add(delay)));
    let both = pts != dts;
    let (flags, times) = if both { (0xC0, 10) } else { (0x80, 5) };
    // 0 where it doesn't fit, which is allowed for video; other frames are bounded before.
    let len = u16::try_from(payload + 3 + usize::from(times)).unwrap_or(0);
    let [high, low] = len.to_be_bytes();
    let mut header = heapless::Vec::new();
    // 0x84: data_alignment_indicator, since each PES packet begins with a frame.
    header.extend([0, 0, 1, stream_id, high, low, 0x84, flags, times]);
    if both {
        header.extend(timestamp(3, pts));
        header.extend(timestamp(1, dts));
    } else {
        header.extend(timestamp(2, pts));
    }
    header
}

fn timestamp(mark: u8, time: u64) -> [u8; 5] {
    let part = |shift: u32| ((time >> shift) as u16 & 0x7FFF) << 1 | 1;
    let [a, b] = part(15).to_be_bytes();
    let [c, d] = part(0).to_be_bytes();
    [mark << 4 | ((time >> 30) as u8 & 7) << 1 | 1, a, b, c, d]
}
