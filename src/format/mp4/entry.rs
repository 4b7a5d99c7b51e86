//! Sample entries: what a decoder needs to start, codec by codec.

use super::boxes::Out;
use super::{Mp4Error, Mp4Track, Protection};
use crate::media::ac3;
use crate::media::flac::StreamInfo;
use crate::media::opus::OpusHead;
use crate::media::{Codec, Kind, Track};

/// Average and peak bits per second; 0 where unknown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Rate {
    /// Bits per second over all.
    pub average: u32,
    /// Bits in the second that has most.
    pub peak: u32,
    /// Bytes of the largest sample.
    pub largest: u32,
}

/// `stsd` (14496-12 8.5.2) with the one entry of this track.
pub(super) fn stsd(w: &mut Out, of: &Mp4Track<'_>, rate: Rate) -> Result<(), Mp4Error> {
    let mut result = Ok(());
    w.full(b"stsd", 0, 0, |w| {
        w.u32(1);
        result = entry(w, of, rate);
    });
    result
}

fn entry(w: &mut Out, of: &Mp4Track<'_>, rate: Rate) -> Result<(), Mp4Error> {
    let track = of.track;
    let format = match track.codec {
        Codec::Aac | Codec::Mp3 => b"mp4a",
        Codec::Ac3 => b"ac-3",
        Codec::Av1 => b"av01",
        Codec::Eac3 => b"ec-3",
        Codec::Flac => b"fLaC",
        Codec::H264 => b"avc1",
        Codec::H265 => b"hvc1",
        Codec::Opus => b"Opus",
        Codec::Vp8 => b"vp08",
        Codec::Vp9 => b"vp09",
        other => return Err(Mp4Error::Codec(other)),
    };
    if track.config.is_empty()
        && (track.codec.needs_config() || matches!(track.codec, Codec::Av1 | Codec::Vp9))
    {
        return Err(no_config(track, "it is empty"));
    }
    let audio = track.kind() == Kind::Audio;
    let kind = match (&of.protection, audio) {
        (None, _) => format,
        (Some(_), true) => b"enca",
        (Some(_), false) => b"encv",
    };
    w.try_boxed(kind, |w| {
        w.zeros(6);
        w.u16(1); // data_reference_index
        if audio {
            sound(w, track);
        } else {
            picture(w, track);
        }
        config(w, of, rate)?;
        // `esds` has the rates already.
        if rate != Rate::default() && !matches!(track.codec, Codec::Aac | Codec::Mp3) {
            w.boxed(b"btrt", |w| {
                w.u32(rate.largest);
                w.u32(rate.peak);
                w.u32(rate.average);
            });
        }
        if let Some(protection) = &of.protection {
            sinf(w, format, protection, audio);
        }
        Ok(())
    })
}

/// `VisualSampleEntry` (12.1.3) after its first eight bytes.
fn picture(w: &mut Out, track: &Track) {
    let clamp = |side: u32| u16::try_from(side).unwrap_or(u16::MAX);
    w.zeros(16);
    w.u16(clamp(track.facts.width));
    w.u16(clamp(track.facts.height));
    w.u32(0x0048_0000); // 72 dpi
    w.u32(0x0048_0000);
    w.u32(0);
    w.u16(1); // frames in a sample
    w.zeros(32); // compressorname
    w.u16(0x18); // colour without alpha
    w.u16(0xFFFF);
}

/// `AudioSampleEntry` (12.2.3) after its first eight bytes.
fn sound(w: &mut Out, track: &Track) {
    let depth = match track.codec {
        Codec::Flac => StreamInfo::parse(&track.config).map_or(16, |info| info.depth),
        _ => 16,
    };
    w.zeros(8);
    w.u16(u16::from(track.facts.channels.max(1)));
    w.u16(u16::from(depth));
    w.zeros(4);
    // A rate that has no room is said by the config alone.
    w.u16(u16::try_from(super::timescale(track)).unwrap_or(0));
    w.u16(0);
}

fn config(w: &mut Out, of: &Mp4Track<'_>, rate: Rate) -> Result<(), Mp4Error> {
    let track = of.track;
    let config = &track.config[..];
    match track.codec {
        Codec::H264 => w.boxed(b"avcC", |w| w.put(config)),
        Codec::H265 => w.boxed(b"hvcC", |w| w.put(config)),
        Codec::Av1 => w.boxed(b"av1C", |w| w.put(config)),
        Codec::Vp9 => w.full(b"vpcC", 1, 0, |w| w.put(config)),
        // Profile 0, 8 bits, 4:2:0, colours unspecified; VP8 has no levels.
        Codec::Vp8 => w.full(b"vpcC", 1, 0, |w| w.put(&[0, 10, 0x82, 2, 2, 2, 0, 0])),
        Codec::Aac => esds(w, 0x40, config, rate),
        Codec::Mp3 => {
            esds(w, if (1..=24_000).contains(&track.facts.sample_rate) { 0x69 } else { 0x6B }, &[], rate);
        }
        Codec::Opus => {
            let head = if config.is_empty() {
                OpusHead::new(track.facts.channels)
            } else {
                OpusHead::parse(config).map_err(|e| no_config(track, &e.to_string()))?
            };
            w.boxed(b"dOps", |w| dops(w, &head));
        }
        Codec::Flac => w.full(b"dfLa", 0, 0, |w| {
            w.u32(0x8000_0000 | StreamInfo::LEN as u32); // the last block, STREAMINFO
            w.put(config.get(..StreamInfo::LEN).unwrap_or(config));
        }),
        Codec::Ac3 => w.boxed(b"dac3", |w| w.u24(dac3(&Dolby::of(of)))),
        Codec::Eac3 => w.boxed(b"dec3", |w| {
            let d = Dolby::of(of);
            // data_rate, one independent substream.
            w.u16((d.kbits.min(0x1FFF) as u16) << 3);
            // fscod, bsid, reserved, asvc, bsmod, acmod, lfeon, reserved, no dependent substream, reserved.
            w.u24(d.fscod << 22 | d.bsid << 17 | d.bsmod << 12 | d.acmod << 9 | d.lfe << 8);
        }),
        other => return Err(Mp4Error::Codec(other)),
    }
    Ok(())
}

fn no_config(track: &Track, why: &str) -> Mp4Error {
    Mp4Error::NoConfig { codec: track.codec, why: why.to_owned() }
}

/// `esds` (14496-14 5.6): descriptors of 14496-1 7.2.6, whose lengths we always write in four bytes.
fn esds(w: &mut Out, object_type: u8, specific: &[u8], rate: Rate) {
    let head = |w: &mut Out, tag: u8, len: usize| {
        w.u8(tag);
        for shift in [21, 14, 7] {
            w.u8((len >> shift) as u8 & 0x7F | 0x80);
        }
        w.u8(len as u8 & 0x7F);
    };
    let specific_len = if specific.is_empty() { 0 } else { 5 + specific.len() };
    w.full(b"esds", 0, 0, |w| {
        head(w, 3, 3 + 5 + 13 + specific_len + 5 + 1); // ES_Descriptor
        w.u16(0);
        w.u8(0);
        head(w, 4, 13 + specific_len); // DecoderConfigDescriptor
        w.u8(object_type);
        w.u8(0x15); // audio, not upstream
        w.u24(rate.largest);
        w.u32(rate.peak);
        w.u32(rate.average);
        if !specific.is_empty() {
            head(w, 5, specific.len()); // DecoderSpecificInfo
            w.put(specific);
        }
        head(w, 6, 1); // SLConfigDescriptor
        w.u8(2);
    });
}

/// `OpusSpecificBox`: as `OpusHead`, but big-endian and with a version of its own.
fn dops(w: &mut Out, head: &OpusHead) {
    w.u8(0);
    w.u8(head.channels);
    w.u16(head.pre_skip);
    w.u32(head.input_rate);
    w.put(&head.gain.to_be_bytes());
    match &head.mapping {
        None => w.u8(0),
        Some(mapping) => {
            w.u8(mapping.family);
            w.u8(mapping.streams);
            w.u8(mapping.coupled);
            w.put(&mapping.channels);
        }
    }
}

/// What `dac3` and `dec3` say: as a frame does, or as the facts would have it.
#[derive(Debug, Clone, Copy)]
struct Dolby {
    fscod: u32,
    bsid: u32,
    bsmod: u32,
    acmod: u32,
    lfe: u32,
    /// `bit_rate_code` of AC-3.
    code: u32,
    kbits: u32,
}

impl Dolby {
    fn of(of: &Mp4Track<'_>) -> Self {
        let facts = &of.track.facts;
        // From the most usual layout of so many channels.
        let (acmod, lfe) = match facts.channels {
            1 => (1, 0),
            0 | 2 => (2, 0),
            3 => (3, 0),
            4 => (6, 0),
            5 => (7, 0),
            _ => (7, 1),
        };
        let fscod = match facts.sample_rate {
            44_100 => 1,
            32_000 => 2,
            _ => 0,
        };
        let guess = if of.track.codec == Codec::Eac3 {
            Self { fscod, bsid: 16, bsmod: 0, acmod, lfe, code: 0, kbits: 0 }
        } else {
            Self { fscod, bsid: 8, bsmod: 0, acmod, lfe, code: 15, kbits: 448 }
        };
        of.sample.and_then(Self::read).unwrap_or(guess)
    }

    /// From a frame (ETSI TS 102 366 4.3, E.1.2).
    fn read(frame: &[u8]) -> Option<Self> {
        let header = ac3::Header::parse(frame).ok()?;
        let &[_, _, b2, b3, b4, b5, b6, ..] = frame else { return None };
        let [b2, b3, b4, b5, b6] = [b2, b3, b4, b5, b6].map(u32::from);
        let bsid = b5 >> 3;
        if header.enhanced {
            let bits = header.frame_len as u64 * 8 * u64::from(header.sample_rate);
            let kbits = bits.checked_div(u64::from(header.samples) * 1000)?;
            let (acmod, lfe) = (b4 >> 1 & 7, b4 & 1);
            let _ = (b2, b3);
            return Some(Self {
                fscod: b4 >> 6,
                bsid,
                bsmod: 0,
                acmod,
                lfe,
                code: 0,
                kbits: u32::try_from(kbits).ok()?,
            });
        }
        let acmod = b6 >> 5;
        let layout_bits = u32::from(acmod & 1 != 0 && acmod != 1) * 2
            + u32::from(acmod & 4 != 0) * 2
            + u32::from(acmod == 2) * 2;
        let lfe = b6 >> (4 - layout_bits.min(4)) & 1;
        Some(Self { fscod: b4 >> 6, bsid, bsmod: b5 & 7, acmod, lfe, code: (b4 & 0x3F) >> 1, kbits: 0 })
    }
}

/// `AC3SpecificBox`: fscod, bsid, bsmod, acmod, lfeon, `bit_rate_code`, reserved.
fn dac3(d: &Dolby) -> u32 {
    d.fscod << 22 | d.bsid << 17 | d.bsmod << 14 | d.acmod << 11 | d.lfe << 10 | d.code << 5
}

/// `sinf` (8.12.1) of scheme `cbcs`, with its `tenc` (ISO/IEC 23001-7 8.2).
fn sinf(w: &mut Out, format: &[u8; 4], protection: &Protection, audio: bool) {
    w.boxed(b"sinf", |w| {
        w.boxed(b"frma", |w| w.put(format));
        w.full(b"schm", 0, 0, |w| {
            w.put(b"cbcs");
            w.u32(0x0001_0000);
        });
        w.boxed(b"schi", |w| {
            w.full(b"tenc", 1, 0, |w| {
                w.u8(0);
                // One block in ten of video, all blocks of audio.
                w.u8(if audio { 0 } else { 0x19 });
                w.u8(1); // protected
                w.u8(0); // no IV of each sample: the one below
                w.put(&protection.key_id);
                w.u8(16);
                w.put(&protection.iv);
            });
        });
    });
}
