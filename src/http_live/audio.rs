use crate::hub::{Join, Package, Parts, StreamInfo};
use crate::media::aac::AudioSpecificConfig;
use crate::media::{Codec, Frame, Track};

/// The track of a sound-only body: the first of its codec.
pub(super) fn first(tracks: &[Track], codec: Codec) -> Option<&Track> {
    tracks.iter().find(|track| track.codec == codec)
}

/// A stream's AAC as ADTS (ISO/IEC 13818-7 annex A).
#[derive(Default)]
pub(super) struct Adts {
    config: Option<AudioSpecificConfig>,
    /// A packet that ADTS can't carry was told of.
    told: bool,
}

impl Package for Adts {
    fn start(&mut self, _: &StreamInfo<'_>, _: &mut Parts) {}

    fn config(&mut self, info: &StreamInfo<'_>, _: i64, _: &mut Parts) {
        let track = first(info.tracks, Codec::Aac);
        self.config = track.and_then(|track| AudioSpecificConfig::parse(&track.config).ok());
    }

    fn frame(&mut self, info: &StreamInfo<'_>, track: &Track, frame: &Frame, out: &mut Parts) -> Join {
        let is_chosen = first(info.tracks, Codec::Aac).is_some_and(|chosen| chosen.id == track.id);
        let Some(config) = self.config.as_ref().filter(|_| is_chosen) else { return Join::No };
        match config.adts(frame.data.len()) {
            Ok(header) => {
                out.put(&header);
                out.share(frame.data.clone());
            }
            Err(error) => {
                if !std::mem::replace(&mut self.told, true) {
                    log::warn!("a packet is left out of .aac: {error}");
                }
            }
        }
        Join::Here
    }

    fn end(&mut self, _: &StreamInfo<'_>, _: &mut Parts) {}
}

/// A stream's MP3, whose frames have their heads.
pub(super) struct Mp3;

impl Package for Mp3 {
    fn start(&mut self, _: &StreamInfo<'_>, _: &mut Parts) {}

    fn config(&mut self, _: &StreamInfo<'_>, _: i64, _: &mut Parts) {}

    fn frame(&mut self, info: &StreamInfo<'_>, track: &Track, frame: &Frame, out: &mut Parts) -> Join {
        if first(info.tracks, Codec::Mp3).is_some_and(|chosen| chosen.id == track.id) {
            out.share(frame.data.clone());
        }
        Join::Here
    }

    fn end(&mut self, _: &StreamInfo<'_>, _: &mut Parts) {}
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::media::{Flags, Meta, TrackId, aac};

    #[test]
    fn adts_heads_follow_the_config() {
        let mut track = Track::new(TrackId(1), Codec::Aac);
        track.config = AudioSpecificConfig::lc(44_100, 2).unwrap().build().into();
        let (tracks, meta) = ([Track::new(TrackId(0), Codec::H264), track], Meta::default());
        let info = StreamInfo { tracks: &tracks, meta: &meta };
        let data = Bytes::from_static(&[7; 100]);
        let frame = Frame { track: TrackId(1), flags: Flags::KEY, dts: 0, cts: 0, wall_ms: None, data };
        let (mut package, mut out) = (Adts::default(), Parts::default());
        assert_eq!(package.frame(&info, &tracks[1], &frame, &mut out), Join::No);
        package.config(&info, 0, &mut out);
        assert_eq!(package.frame(&info, &tracks[0], &frame, &mut out), Join::No);
        assert!(out.is_empty());
        assert_eq!(package.frame(&info, &tracks[1], &frame, &mut out), Join::Here);
        let bytes = out.to_vec();
        assert_eq!(bytes.len(), 107);
        assert!(aac::Adts::parse(&bytes).is_ok());
        let huge = Frame { data: Bytes::from(vec![0; 9000]), ..frame };
        let mut out = Parts::default();
        package.frame(&info, &tracks[1], &huge, &mut out);
        assert!(out.is_empty(), "longer than ADTS can say");
    }
}
