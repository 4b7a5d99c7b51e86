use bytes::{Bytes, BytesMut};

use crate::format::mpegts::{MuxOptions, Muxer, carries};
use crate::hub::{Join, Package, Parts, StreamInfo};
use crate::media::{Frame, Kind, Track};

/// A stream as an MPEG transport stream of all tracks that can be in one.
pub(super) struct Ts {
    audio: bool,
    video: bool,
    muxer: Muxer,
    /// What the muxer was told of last.
    tracks: Vec<Track>,
    buffer: BytesMut,
    /// A frame that could not be packed was told of.
    told: bool,
}

impl Ts {
    /// With or without a kind of track.
    pub(super) fn new(audio: bool, video: bool) -> Self {
        let muxer = Muxer::new(&MuxOptions::default());
        Self { audio, video, muxer, tracks: Vec::new(), buffer: BytesMut::new(), told: false }
    }
}

/// Whether a track is in a transport stream with or without a kind of track.
pub(super) fn has(track: &Track, audio: bool, video: bool) -> bool {
    let wanted = match track.kind() {
        Kind::Audio => audio,
        Kind::Data => true,
        Kind::Video => video,
    };
    wanted && carries(track.codec)
}

impl Package for Ts {
    fn start(&mut self, _: &StreamInfo<'_>, _: &mut Parts) {}

    /// PAT and PMT stand before each frame that a reader can start at.
    fn config(&mut self, info: &StreamInfo<'_>, _: i64, _: &mut Parts) {
        let (audio, video) = (self.audio, self.video);
        let tracks = || info.tracks.iter().filter(|track| has(track, audio, video));
        if !tracks().eq(&self.tracks) {
            self.tracks = tracks().cloned().collect();
            self.muxer.set_tracks(&self.tracks);
        }
    }

    fn frame(&mut self, _: &StreamInfo<'_>, track: &Track, frame: &Frame, out: &mut Parts) -> Join {
        if !self.tracks.iter().any(|known| known.id == track.id) {
            return Join::No;
        }
        let joins = self.muxer.frame(frame, &mut self.buffer);
        out.share(self.buffer.split().freeze());
        match joins {
            Ok(true) => Join::Here,
            Ok(false) => Join::No,
            Err(error) => {
                if !std::mem::replace(&mut self.told, true) {
                    log::warn!("HTTP-TS leaves out a frame: {error}");
                }
                Join::No
            }
        }
    }

    fn passes(&self) -> bool {
        self.audio && self.video
    }

    fn pass(&mut self, pieces: &[Bytes], out: &mut Parts) {
        pieces.iter().for_each(|piece| out.share(piece.clone()));
    }

    fn end(&mut self, _: &StreamInfo<'_>, out: &mut Parts) {
        self.muxer.flush(&mut self.buffer);
        out.share(self.buffer.split().freeze());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::media::aac::AudioSpecificConfig;
    use crate::media::{Codec, Flags, Meta, TrackId};

    #[test]
    fn sound_only_starts_where_the_tables_are() {
        let mut aac = Track::new(TrackId(1), Codec::Aac);
        aac.config = AudioSpecificConfig::lc(44_100, 2).unwrap().build().into();
        let (tracks, meta) = (
            [Track::new(TrackId(0), Codec::H264), aac, Track::new(TrackId(2), Codec::G711A)],
            Meta::default(),
        );
        assert!(
            !has(&tracks[0], true, false) && has(&tracks[1], true, false) && !has(&tracks[2], true, true)
        );
        let info = StreamInfo { tracks: &tracks, meta: &meta };
        let mut package = Ts::new(true, false);
        package.config(&info, 0, &mut Parts::default());
        let mut joins = 0;
        for n in 0..100u8 {
            let data = Bytes::from(vec![n; 300]);
            let dts = i64::from(n) * 23;
            let frame =
                |track| Frame { track, flags: Flags::KEY, dts, cts: 0, wall_ms: None, data: data.clone() };
            let mut out = Parts::default();
            package.frame(&info, &tracks[0], &frame(TrackId(0)), &mut out);
            package.frame(&info, &tracks[2], &frame(TrackId(2)), &mut out);
            assert!(out.is_empty(), "neither picture nor what TS can't carry");
            let join = package.frame(&info, &tracks[1], &frame(TrackId(1)), &mut out);
            let bytes = out.to_vec();
            assert!(bytes.len() % 188 == 0 && bytes.chunks(188).all(|packet| packet[0] == 0x47));
            if join == Join::Here {
                joins += 1;
                assert_eq!(bytes[1..3], [0x40, 0], "starts with the PAT");
            }
            // A reader that joins asks for the config again: nothing changes.
            package.config(&info, dts, &mut Parts::default());
        }
        assert!((5..8).contains(&joins), "{joins} in 2.3 s");
    }
}
