//! Audio in PES packets: several frames in one, or one that goes on in the next.

use bytes::Bytes;

use super::{TIMESCALE, latm};
use crate::media::aac::Adts;
use crate::media::{ac3, mp3, opus};

/// The longest Opus access unit with its header; packets have at most 61 kB by 48 frames of 1275 bytes.
const MAX_OPUS: usize = 64 * 1024;
/// Substreams that may follow an E-AC-3 frame and belong to it: 8 independent ones have 8 dependent each.
const MAX_SUBSTREAMS: usize = 8;

/// How frames are found.
#[derive(Debug)]
pub(super) enum Framing {
    /// AAC with ADTS headers; profile, rate and channels as last seen.
    Adts(Option<(u8, u32, u8)>),
    Latm(latm::Reader),
    Mpeg,
    Ac3,
    Opus,
}

/// One frame.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Unit {
    /// In the form of [`Frame::data`](crate::media::Frame::data).
    pub(super) payload: Bytes,
    /// At 90 kHz.
    pub(super) dts: i64,
    /// The track's config, where it is not the one of before.
    pub(super) config: Option<Bytes>,
}

/// Cuts the payloads of one PID into frames, and counts their time.
#[derive(Debug)]
pub(super) struct Splitter {
    framing: Framing,
    /// The begin of a frame that goes on in the next PES packet.
    carry: Vec<u8>,
    /// The time that a PES packet gave, and what came since: samples at a rate. So rounding doesn't sum up.
    base: Option<i64>,
    samples: u64,
    rate: u32,
    /// Whether the next byte is known to begin a frame.
    aligned: bool,
    /// Bytes that belonged to no frame.
    pub(super) skipped: u64,
}

enum Found {
    /// It may become a frame with more bytes.
    Short,
    No,
    Whole(Whole),
}

struct Whole {
    /// Bytes with all headers.
    len: usize,
    /// `None`: passed over.
    payload: Option<Bytes>,
    samples: u32,
    rate: u32,
    config: Option<Bytes>,
}

impl Splitter {
    pub(super) fn new(framing: Framing) -> Self {
        Self { framing, carry: Vec::new(), base: None, samples: 0, rate: 0, aligned: false, skipped: 0 }
    }

    /// Bytes are missing before what comes next.
    pub(super) fn lost(&mut self) {
        self.carry.clear();
        self.base = None;
        self.aligned = false;
    }

    /// Takes the payload of a PES packet. `pts` is the time of the first frame that begins in it.
    pub(super) fn push(&mut self, data: &[u8], mut pts: Option<i64>, each: &mut dyn FnMut(Unit)) {
        let carried = self.carry.len();
        let joined;
        let data = if carried == 0 {
            data
        } else {
            self.carry.extend_from_slice(data);
            joined = std::mem::take(&mut self.carry);
            &joined
        };
        let mut at = 0;
        while let Some(rest) = data.get(at..).filter(|rest| !rest.is_empty()) {
            let whole = match self.framing.find(rest) {
                Found::Short => {
                    self.carry = rest.to_vec();
                    if at >= carried {
                        self.start(&mut pts);
                    }
                    break;
                }
                Found::No => None,
                Found::Whole(whole) => {
                    // A sync word alone can be chance; where no frame ended before it, the next must follow.
                    let next = rest.get(whole.len..).unwrap_or_default();
                    (self.aligned || self.framing.may_begin(next)).then_some(whole)
                }
            };
            let Some(whole) = whole else {
                self.aligned = false;
                let next = rest.iter().skip(1).position(|&byte| byte == self.framing.first_byte());
                let skip = next.map_or(rest.len(), |n| n + 1);
                at += skip;
                self.skipped += skip as u64;
                continue;
            };
            self.aligned = true;
            if at >= carried {
                self.start(&mut pts);
            }
            self.whole(whole, &mut at, each);
        }
    }

    /// A frame begins in the PES packet of this time: its first one has that time.
    fn start(&mut self, pts: &mut Option<i64>) {
        if let Some(pts) = pts.take() {
            (self.base, self.samples) = (Some(pts), 0);
        }
    }

    fn whole(&mut self, whole: Whole, at: &mut usize, each: &mut dyn FnMut(Unit)) {
        *at += whole.len;
        if self.rate != whole.rate {
            (self.base, self.samples) = (self.now(), 0);
            self.rate = whole.rate;
        }
        if let (Some(dts), Some(payload)) = (self.now(), whole.payload) {
            each(Unit { payload, dts, config: whole.config });
        }
        self.samples += u64::from(whole.samples);
    }

    fn now(&self) -> Option<i64> {
        let since = (self.samples * u64::from(TIMESCALE)).checked_div(u64::from(self.rate)).unwrap_or(0);
        Some(self.base?.saturating_add_unsigned(since))
    }
}

impl Framing {
    /// Every frame begins with it.
    fn first_byte(&self) -> u8 {
        match self {
            Self::Adts(_) | Self::Mpeg => 0xFF,
            Self::Latm(_) => 0x56,
            Self::Ac3 => 0x0B,
            Self::Opus => 0x7F,
        }
    }

    /// Whether a frame may begin so. Nothing may.
    fn may_begin(&self, data: &[u8]) -> bool {
        let mask = match self {
            Self::Adts(_) => 0xF6,
            Self::Mpeg | Self::Latm(_) | Self::Opus => 0xE0,
            Self::Ac3 => 0xFF,
        };
        let second = match self {
            Self::Adts(_) => 0xF0,
            Self::Ac3 => 0x77,
            Self::Mpeg | Self::Latm(_) | Self::Opus => 0xE0,
        };
        data.first().is_none_or(|&byte| byte == self.first_byte())
            && data.get(1).is_none_or(|&byte| byte & mask == second)
    }

    fn find(&mut self, data: &[u8]) -> Found {
        if !self.may_begin(data) {
            return Found::No;
        }
        match self {
            Self::Adts(last) => adts(last, data),
            Self::Latm(reader) => latm(reader, data),
            Self::Mpeg => match mp3::Header::parse(data) {
                _ if data.len() < mp3::Header::LEN => Found::Short,
                Ok(header) => whole(data, header.frame_len, header.samples, header.sample_rate),
                Err(_) => Found::No,
            },
            Self::Ac3 => ac3(data),
            Self::Opus => opus(data),
        }
    }
}

/// A frame of `len` bytes, if they are there.
fn whole(data: &[u8], len: usize, samples: u32, rate: u32) -> Found {
    match data.get(..len) {
        Some([]) => Found::No,
        Some(frame) => {
            let payload = Some(Bytes::copy_from_slice(frame));
            Found::Whole(Whole { len, payload, samples, rate, config: None })
        }
        None => Found::Short,
    }
}

fn adts(last: &mut Option<(u8, u32, u8)>, data: &[u8]) -> Found {
    if data.len() < Adts::LEN {
        return Found::Short;
    }
    let Ok(header) = Adts::parse(data) else { return Found::No };
    let len = header.frame_len;
    let Some(packet) = data.get(..len) else { return Found::Short };
    let packet = packet.get(header.header_len..).unwrap_or_default();
    let mut config = None;
    let kind = (header.object_type, header.sample_rate, header.channel_config);
    // Several blocks in one frame can't be told apart without decoding them, and nobody sends that.
    let mut carried = header.blocks == 1 && !packet.is_empty();
    if carried && *last != Some(kind) {
        match header.config(packet) {
            Ok(new) => {
                config = Some(new.build().into());
                *last = Some(kind);
            }
            Err(_) => carried = false,
        }
    }
    let payload = carried.then(|| Bytes::copy_from_slice(packet));
    let samples = 1024 * u32::from(header.blocks);
    Found::Whole(Whole { len, payload, samples, rate: header.sample_rate, config })
}

fn latm(reader: &mut latm::Reader, data: &[u8]) -> Found {
    let Some(header) = data.first_chunk() else { return Found::Short };
    let Some(len) = latm::frame_len(*header) else { return Found::No };
    let Some(frame) = data.get(..len) else { return Found::Short };
    match reader.element(frame) {
        Some(e) => Found::Whole(Whole {
            len,
            payload: Some(e.payload).filter(|payload| !payload.is_empty()),
            samples: e.samples,
            rate: e.sample_rate,
            config: e.config,
        }),
        None => Found::Whole(Whole { len, payload: None, samples: 0, rate: 0, config: None }),
    }
}

fn ac3(data: &[u8]) -> Found {
    if data.len() < ac3::Header::LEN {
        return Found::Short;
    }
    let Ok(header) = ac3::Header::parse(data) else { return Found::No };
    let mut len = header.frame_len;
    for _ in 0..MAX_SUBSTREAMS {
        let rest = data.get(len..).unwrap_or_default();
        match ac3::Header::parse(rest) {
            Ok(next) if next.dependent => len += next.frame_len,
            _ if !rest.is_empty() && rest.len() < ac3::Header::LEN => return Found::Short,
            _ => break,
        }
    }
    match whole(data, len, header.samples, header.sample_rate) {
        // The frame it belongs to is lost.
        Found::Whole(orphan) if header.dependent => {
            Found::Whole(Whole { payload: None, samples: 0, ..orphan })
        }
        found => found,
    }
}

/// The control header of Opus in MPEG-TS, and what follows it.
fn opus(data: &[u8]) -> Found {
    let mut rest = data;
    let mut take = |n: usize| -> Option<&[u8]> {
        let (bytes, after) = rest.split_at_checked(n)?;
        rest = after;
        Some(bytes)
    };
    let mut read = || -> Option<usize> {
        let flags = take(2)?.get(1).copied()?;
        let mut size = 0;
        loop {
            let part = take(1)?.first().copied()?;
            size += usize::from(part);
            if part < 255 || size > MAX_OPUS {
                break;
            }
        }
        // Trims at start and end: two bytes each. Decoders of live streams have no use for them.
        take(2 * usize::from(flags >> 4 & 1) + 2 * usize::from(flags >> 3 & 1))?;
        if flags & 4 != 0 {
            let extension = take(1)?.first().copied()?;
            take(usize::from(extension))?;
        }
        Some(size)
    };
    let Some(size) = read() else {
        return if data.len() < MAX_OPUS { Found::Short } else { Found::No };
    };
    if size == 0 || size > MAX_OPUS {
        return Found::No;
    }
    let Some(packet) = rest.get(..size) else { return Found::Short };
    let len = data.len() - rest.len() + size;
    let samples = opus::packet_samples(packet).unwrap_or(0);
    let payload = Some(Bytes::copy_from_slice(packet));
    Found::Whole(Whole { len, payload, samples, rate: opus::SAMPLE_RATE, config: None })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn opus_unit(packet: &[u8]) -> Vec<u8> {
        [&[0x7F, 0xE0, packet.len() as u8], packet].concat()
    }

    fn split(splitter: &mut Splitter, data: &[u8], pts: Option<i64>) -> Vec<(i64, Vec<u8>)> {
        let mut got = Vec::new();
        splitter.push(data, pts, &mut |unit| got.push((unit.dts, unit.payload.to_vec())));
        got
    }

    #[test]
    fn frames_over_pes_packets_keep_their_times() {
        // 20 ms: 0xFC, CELT stereo.
        let units: Vec<_> = (0..4u8).map(|n| opus_unit(&[0xFC, n, n])).collect();
        let stream = units.concat();
        for cut in 1..stream.len() {
            let mut splitter = Splitter::new(Framing::Opus);
            let (a, b) = stream.split_at(cut);
            let begins = cut.div_ceil(6) as i64; // frames that begin in the first PES packet
            let mut got = split(&mut splitter, a, Some(9000));
            got.extend(split(&mut splitter, b, Some(9000 + 1800 * begins)));
            let want: Vec<_> = (0..4u8).map(|n| (9000 + 1800 * i64::from(n), vec![0xFC, n, n])).collect();
            assert_eq!((got, splitter.skipped), (want, 0), "cut at {cut}");
        }
    }

    #[test]
    fn garbage_is_passed_over_and_no_time_is_made_up() {
        let mut splitter = Splitter::new(Framing::Opus);
        let data = [&[1, 0x7F, 2][..], &opus_unit(&[0xFC, 1]), &opus_unit(&[0xFC, 2])].concat();
        assert_eq!(split(&mut splitter, &data, None), []);
        assert_eq!(splitter.skipped, 3);
        assert_eq!(split(&mut splitter, &opus_unit(&[0xFC, 3]), Some(5)), [(5, vec![0xFC, 3])]);
        splitter.lost();
        assert_eq!(split(&mut splitter, &opus_unit(&[0xFC, 3]), None), []);
    }

    #[test]
    fn headers_of_opus_with_all_fields() {
        let unit = [&[0x7F, 0xFC, 3, 0, 9, 0, 9, 2, 7, 7], &[0xFC, 1, 2][..]].concat();
        let mut splitter = Splitter::new(Framing::Opus);
        assert_eq!(split(&mut splitter, &unit, Some(0)), [(0, vec![0xFC, 1, 2])]);
        for len in 0..unit.len() {
            assert!(matches!(opus(&unit[..len]), Found::Short));
        }
        assert!(matches!(opus(&[[0x7F, 0xE0].as_slice(), &[255; 300]].concat()), Found::No));
    }
}
