//! Tag bodies: what stands before a payload, and whole bodies of configs and metadata.

use bytes::{BufMut, Bytes, BytesMut};

use super::{TagKind, fourcc, needs_enhanced, wire};
use crate::format::amf::Value;
use crate::media::{Codec, Flags, Frame, Kind, Meta, Track};

/// What of a tag's body precedes the payload: 1 to 8 bytes.
pub type Prefix = heapless::Vec<u8, 8>;

/// The version and flags of a `vpcC` box, which Enhanced RTMP sends along and [`Track::config`] leaves out.
const VPCC_HEAD: [u8; 4] = [1, 0, 0, 0];

/// Items of `onMetaData` that tell of a file's end; in a live stream they are wrong and make players seek.
const OF_FILES: [&str; 11] = [
    "audiosize",
    "canSeekToEnd",
    "datasize",
    "duration",
    "filesize",
    "hasKeyframes",
    "lastkeyframelocation",
    "lastkeyframetimestamp",
    "lasttimestamp",
    "totalframes",
    "videosize",
];

/// The track of this kind that a tag without track number means: the first that FLV carries.
#[must_use]
pub fn default_track(tracks: &[Track], kind: Kind) -> Option<&Track> {
    tracks.iter().find(|track| track.kind() == kind && TagKind::of(track.codec).is_some())
}

/// The part of a tag's body that precedes [`Frame::data`]; the tag's time is the frame's `dts` in
/// milliseconds. `None` where FLV doesn't carry the codec.
///
/// Codecs with a legacy form have that, the others the one of Enhanced RTMP. Composition times are rounded so
/// that `pts` is as exact as milliseconds can be, and held within their 24 bits.
#[must_use]
pub fn frame_prefix(track: &Track, frame: &Frame) -> Option<Prefix> {
    let mut out = Prefix::new();
    match TagKind::of(track.codec)? {
        TagKind::Video => video_prefix(track, frame, &mut out),
        _ => audio_prefix(track, wire::CODED_FRAMES, &mut out),
    }
    .ok()?;
    Some(out)
}

/// The body of the tag that gives a decoder the track's config (the "sequence header"). `None` where the
/// codec needs none, the config isn't known yet, or FLV doesn't carry it.
///
/// FLAC's is the bare STREAMINFO that FFmpeg writes and wants, not the specification's with its marker.
#[must_use]
pub fn config_body(track: &Track) -> Option<Bytes> {
    let mut out = BytesMut::with_capacity(16 + track.config.len());
    let first_key = wire::FRAME_KEY << 4;
    match track.codec {
        // Nothing to tell, yet their sequences start like any other.
        Codec::Ac3 | Codec::Eac3 => {}
        _ if track.config.is_empty() => return None,
        _ => {}
    }
    match track.codec {
        Codec::H264 => out.put_slice(&[first_key | wire::VIDEO_AVC, wire::SEQUENCE_START, 0, 0, 0]),
        Codec::Av1 | Codec::H265 | Codec::Vp9 => {
            out.put_u8(wire::EX_VIDEO | first_key | wire::SEQUENCE_START);
            out.put_slice(&fourcc(track.codec)?);
            if track.codec == Codec::Vp9 {
                out.put_slice(&VPCC_HEAD);
            }
        }
        Codec::Aac | Codec::Ac3 | Codec::Eac3 | Codec::Flac | Codec::Opus => {
            let mut prefix = Prefix::new();
            audio_prefix(track, wire::SEQUENCE_START, &mut prefix).ok()?;
            out.put_slice(&prefix);
        }
        _ => return None,
    }
    out.put_slice(&track.config);
    Some(out.freeze())
}

/// The body of an `onMetaData` tag (or RTMP data message): what the publisher said, completed by what we know
/// of the [default tracks](default_track), `server`, and `extra`.
///
/// The publisher's values win. Items that are true of files only (`duration`, `filesize`, …) are left out.
#[must_use]
pub fn metadata_body(meta: &Meta, tracks: &[Track], extra: &Meta) -> Bytes {
    let mut pairs: Vec<(String, Value)> = meta
        .iter()
        .filter(|(name, _)| !OF_FILES.contains(name))
        .map(|(name, value)| (name.to_owned(), value.into()))
        .collect();
    let mut add = |name: &str, value: Value| {
        if !pairs.iter().any(|(n, _)| n == name) {
            pairs.push((name.to_owned(), value));
        }
    };

    extra.iter().for_each(|(name, value)| add(name, value.into()));
    if let Some(video) = default_track(tracks, Kind::Video) {
        let facts = &video.facts;
        if facts.width != 0 && facts.height != 0 {
            add("width", facts.width.into());
            add("height", facts.height.into());
        }
        if let Some((n, d)) = facts.fps.filter(|(_, d)| *d != 0) {
            add("framerate", (f64::from(n) / f64::from(d)).into());
        }
        add("videocodecid", codec_id(video).into());
    }
    if let Some(audio) = default_track(tracks, Kind::Audio) {
        let facts = &audio.facts;
        if facts.sample_rate != 0 {
            add("audiosamplerate", facts.sample_rate.into());
        }
        if facts.channels != 0 {
            add("audiochannels", u32::from(facts.channels).into());
            add("stereo", (facts.channels == 2).into());
        }
        add("audiocodecid", codec_id(audio).into());
    }
    add("server", concat!("Rillbox/", env!("CARGO_PKG_VERSION")).into());

    let mut out = BytesMut::with_capacity(512);
    Value::from("onMetaData").encode(&mut out);
    Value::EcmaArray(pairs).encode(&mut out);
    out.freeze()
}

fn video_prefix(track: &Track, frame: &Frame, out: &mut Prefix) -> Result<(), heapless::CapacityError> {
    let frame_type = match () {
        () if frame.is_key() => wire::FRAME_KEY,
        () if frame.flags.has(Flags::DISPOSABLE) => wire::FRAME_DISPOSABLE,
        () => wire::FRAME_INTER,
    } << 4;
    let cts = composition_time(track, frame);
    let [_, c2, c1, c0] = cts.to_be_bytes();
    if track.codec == Codec::H264 {
        return out.extend_from_slice(&[frame_type | wire::VIDEO_AVC, wire::CODED_FRAMES, c2, c1, c0]);
    }
    let with_cts = track.codec.has_nals() && cts != 0;
    let packet_type = match track.codec {
        codec if codec.has_nals() && !with_cts => wire::CODED_FRAMES_X,
        _ => wire::CODED_FRAMES,
    };
    out.extend_from_slice(&[wire::EX_VIDEO | frame_type | packet_type])?;
    out.extend_from_slice(&fourcc(track.codec).unwrap_or_default())?;
    if with_cts { out.extend_from_slice(&[c2, c1, c0]) } else { Ok(()) }
}

fn composition_time(track: &Track, frame: &Frame) -> i32 {
    const MAX: i64 = 0x7F_FFFF;
    let ms = track.ticks_to_ms(frame.pts()).saturating_sub(track.ticks_to_ms(frame.dts));
    i32::try_from(ms.clamp(-MAX, MAX)).unwrap_or(0)
}

fn audio_prefix(track: &Track, packet_type: u8, out: &mut Prefix) -> Result<(), heapless::CapacityError> {
    /// 16 bits a sample: what the specification wants for all compressed sound.
    const SIZE_16: u8 = 2;
    const RATE_44K: u8 = 3;
    if needs_enhanced(track.codec) {
        out.extend_from_slice(&[wire::SOUND_EX << 4 | packet_type])?;
        return out.extend_from_slice(&fourcc(track.codec).unwrap_or_default());
    }
    let facts = &track.facts;
    let stereo = u8::from(facts.channels > 1);
    match track.codec {
        // Constant by specification: the config tells the truth.
        Codec::Aac => {
            out.extend_from_slice(&[wire::SOUND_AAC << 4 | RATE_44K << 2 | SIZE_16 | 1, packet_type])
        }
        Codec::Mp3 if facts.sample_rate == 8000 => {
            out.extend_from_slice(&[wire::SOUND_MP3_8K << 4 | SIZE_16 | stereo])
        }
        Codec::Mp3 => {
            // There is no number for all rates: decoders look at the frame's own header.
            let rate = match facts.sample_rate {
                1..=8000 => 0,
                8001..=12_000 => 1,
                12_001..=24_000 => 2,
                _ => RATE_44K,
            };
            out.extend_from_slice(&[wire::SOUND_MP3 << 4 | rate << 2 | SIZE_16 | stereo])
        }
        Codec::G711A => out.extend_from_slice(&[wire::SOUND_G711A << 4 | SIZE_16 | stereo]),
        _ => out.extend_from_slice(&[wire::SOUND_G711U << 4 | SIZE_16 | stereo]),
    }
}

/// `videocodecid` and `audiocodecid`: the legacy number, or the FourCC as a number.
fn codec_id(track: &Track) -> u32 {
    match track.codec {
        Codec::Aac => wire::SOUND_AAC.into(),
        Codec::G711A => wire::SOUND_G711A.into(),
        Codec::G711U => wire::SOUND_G711U.into(),
        Codec::H264 => wire::VIDEO_AVC.into(),
        Codec::Mp3 if track.facts.sample_rate == 8000 => wire::SOUND_MP3_8K.into(),
        Codec::Mp3 => wire::SOUND_MP3.into(),
        codec => u32::from_be_bytes(fourcc(codec).unwrap_or_default()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::amf::decode_all;
    use crate::media::{MetaValue, TrackId};

    fn track(codec: Codec, config: &'static [u8]) -> Track {
        Track { config: Bytes::from_static(config), ..Track::new(TrackId(0), codec) }
    }

    fn prefix(track: &Track, flags: Flags, dts: i64, cts: i32) -> Vec<u8> {
        let frame = Frame { track: track.id, flags, dts, cts, wall_ms: None, data: Bytes::new() };
        frame_prefix(track, &frame).unwrap().to_vec()
    }

    #[test]
    fn video_prefixes() {
        let avc = track(Codec::H264, b"");
        assert_eq!(prefix(&avc, Flags::KEY, 0, 200), [0x17, 1, 0, 0, 200]);
        assert_eq!(prefix(&avc, Flags::NONE, 0, -2), [0x27, 1, 0xFF, 0xFF, 0xFE]);
        assert_eq!(prefix(&avc, Flags::DISPOSABLE, 0, i32::MAX), [0x37, 1, 0x7F, 0xFF, 0xFF]);
        let hevc = track(Codec::H265, b"");
        assert_eq!(prefix(&hevc, Flags::KEY, 0, 200), *b"\x91hvc1\x00\x00\xC8");
        assert_eq!(prefix(&hevc, Flags::NONE, 0, 0), *b"\xA3hvc1");
        assert_eq!(prefix(&track(Codec::Av1, b""), Flags::KEY, 0, 9), *b"\x91av01");
        assert_eq!(prefix(&track(Codec::Vp9, b""), Flags::NONE, 0, 0), *b"\xA1vp09");
    }

    #[test]
    fn composition_times_do_not_drift_with_the_clock() {
        // 90 kHz: dts 33.3 ms, pts 66.6 ms. 66 - 33, although cts alone is 33.3.
        let avc = Track { timescale: 90_000, ..track(Codec::H264, b"") };
        assert_eq!(prefix(&avc, Flags::NONE, 3000, 3000), [0x27, 1, 0, 0, 33]);
        assert_eq!(prefix(&avc, Flags::NONE, 3060, 3000), [0x27, 1, 0, 0, 33]);
        assert_eq!(prefix(&avc, Flags::NONE, 3030, 3000), [0x27, 1, 0, 0, 34]);
    }

    #[test]
    fn audio_prefixes() {
        assert_eq!(prefix(&track(Codec::Aac, b""), Flags::KEY, 0, 0), [0xAF, 1]);
        assert_eq!(prefix(&track(Codec::G711A, b""), Flags::KEY, 0, 0), [0x72]);
        assert_eq!(prefix(&track(Codec::G711U, b""), Flags::KEY, 0, 0), [0x82]);
        assert_eq!(prefix(&track(Codec::Opus, b""), Flags::KEY, 0, 0), *b"\x91Opus");
        let mut mp3 = track(Codec::Mp3, b"");
        mp3.facts.channels = 2;
        for (rate, byte) in [(8000, 0xE3), (11_025, 0x27), (22_050, 0x2B), (44_100, 0x2F), (48_000, 0x2F)] {
            mp3.facts.sample_rate = rate;
            assert_eq!(prefix(&mp3, Flags::KEY, 0, 0), [byte], "{rate}");
        }
    }

    #[test]
    fn data_tracks_have_no_place() {
        let klv = track(Codec::Klv, b"");
        let frame =
            Frame { track: klv.id, flags: Flags::KEY, dts: 0, cts: 0, wall_ms: None, data: Bytes::new() };
        assert_eq!(frame_prefix(&klv, &frame), None);
        assert_eq!(config_body(&klv), None);
        assert!(default_track(&[klv], Kind::Data).is_none());
    }

    #[test]
    fn config_bodies() {
        let body = |codec, config| config_body(&track(codec, config)).map(|b| b.to_vec());
        assert_eq!(body(Codec::H264, b"\x01..").unwrap(), *b"\x17\0\0\0\0\x01..");
        assert_eq!(body(Codec::H265, b"\x01..").unwrap(), *b"\x90hvc1\x01..");
        assert_eq!(body(Codec::Vp9, b"\0\x0A").unwrap(), *b"\x90vp09\x01\0\0\0\0\x0A");
        assert_eq!(body(Codec::Aac, b"\x12\x10").unwrap(), *b"\xAF\0\x12\x10");
        assert_eq!(body(Codec::Flac, b"\x10").unwrap(), *b"\x90fLaC\x10");
        assert_eq!(body(Codec::Ac3, b"").unwrap(), *b"\x90ac-3");
        for codec in [Codec::H264, Codec::Av1, Codec::Vp8, Codec::Mp3, Codec::G711A, Codec::Opus] {
            assert_eq!(body(codec, b""), None, "{codec}");
        }
    }

    #[test]
    fn metadata_is_completed_and_the_publisher_wins() {
        let mut meta = Meta::default();
        meta.set("width", MetaValue::Number(1920.0));
        meta.set("duration", MetaValue::Number(0.0));
        meta.set("encoder", MetaValue::Text("obs".into()));
        let mut extra = Meta::default();
        extra.set("server_id", MetaValue::Text("x".into()));
        let mut hevc = track(Codec::H265, b"");
        (hevc.facts.width, hevc.facts.height, hevc.facts.fps) = (1280, 720, Some((30_000, 1001)));
        let mut aac = track(Codec::Aac, b"");
        (aac.facts.sample_rate, aac.facts.channels) = (48_000, 2);

        let values = decode_all(&metadata_body(&meta, &[aac, hevc], &extra)).unwrap();
        assert_eq!(values[0].as_str(), Some("onMetaData"));
        let number = |name| values[1].find(name).and_then(Value::as_f64);
        assert_eq!((number("width"), number("height")), (Some(1920.0), Some(720.0)));
        assert_eq!(number("framerate"), Some(30_000.0 / 1001.0));
        assert_eq!(number("videocodecid"), Some(1_752_589_105.0), "hvc1");
        assert_eq!((number("audiocodecid"), number("audiosamplerate")), (Some(10.0), Some(48_000.0)));
        assert_eq!(values[1].find("stereo"), Some(&true.into()));
        assert_eq!(values[1].find("duration"), None);
        let text = |name| values[1].find(name).and_then(Value::as_str);
        assert_eq!((text("encoder"), text("server_id")), (Some("obs"), Some("x")));
        assert!(text("server").unwrap().starts_with("Rillbox/"));
    }

    #[test]
    fn metadata_of_no_tracks_claims_nothing() {
        let values = decode_all(&metadata_body(&Meta::default(), &[], &Meta::default())).unwrap();
        assert_eq!(values[1].pairs().len(), 1);
    }
}
