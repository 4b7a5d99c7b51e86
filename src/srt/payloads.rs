//! A stream as payloads of SRT packets, made once for all its players.

use bytes::{Bytes, BytesMut};

use crate::format::mpegts::{MuxOptions, Muxer, PACKET, carries};
use crate::hub::{FeedKey, Join, Package, Parts, StreamInfo};
use crate::media::{Frame, Kind, Track};

/// What comes before and after a payload in an IP packet: IPv4, UDP, SRT.
const HEADERS: usize = 20 + 8 + 16;

/// Each part of an entry is a payload: whole transport packets.
pub(super) struct Payloads {
    /// Bytes of a payload.
    size: usize,
    /// Bytes up to which a publisher's own payloads go on as they are.
    largest: usize,
    /// Whether a publisher's own transport stream is given as it came.
    pass: bool,
    muxer: Muxer,
    /// What the muxer was told of last.
    tracks: Vec<Track>,
    /// Transport packets that wait until they fill a payload.
    buffer: BytesMut,
    /// A frame that could not be packed was told of.
    told: bool,
}

impl Payloads {
    /// Payloads of up to `size` bytes, in packets of up to `mss` bytes.
    pub(super) fn new(size: u32, mss: u32, pass: bool) -> Self {
        let fits = |bytes: u32| usize::try_from(bytes).unwrap_or(usize::MAX);
        let room = fits(mss).saturating_sub(HEADERS);
        let size = (fits(size).min(room) / PACKET).max(1) * PACKET;
        Self {
            size,
            largest: LARGEST.min(room).max(size),
            pass,
            muxer: Muxer::new(&MuxOptions::default()),
            tracks: Vec::new(),
            buffer: BytesMut::new(),
            told: false,
        }
    }

    /// Players of equal payloads share them.
    pub(super) fn key(&self) -> FeedKey {
        FeedKey { format: "srt", variant: self.size as u32 | u32::from(self.pass) << 16 }
    }

    /// Gives payloads that are full; with `rest` also the last one.
    fn cut(&mut self, rest: bool, out: &mut Parts) {
        while self.buffer.len() >= self.size {
            out.packet(self.buffer.split_to(self.size).freeze());
        }
        if rest && !self.buffer.is_empty() {
            out.packet(self.buffer.split().freeze());
        }
    }
}

impl Package for Payloads {
    fn start(&mut self, _: &StreamInfo<'_>, _: &mut Parts) {}

    /// PAT and PMT stand before each frame that a reader can start at.
    fn config(&mut self, info: &StreamInfo<'_>, _: i64, _: &mut Parts) {
        let tracks = || info.tracks.iter().filter(|track| carries(track.codec));
        if !tracks().eq(&self.tracks) {
            self.tracks = tracks().cloned().collect();
            self.muxer.set_tracks(&self.tracks);
        }
    }

    fn frame(&mut self, _: &StreamInfo<'_>, track: &Track, frame: &Frame, out: &mut Parts) -> Join {
        if !self.tracks.iter().any(|known| known.id == track.id) {
            return Join::No;
        }
        let video = track.kind() == Kind::Video;
        if video && frame.is_key() {
            // What players start at begins with its tables.
            self.cut(true, out);
        }
        let joins = match self.muxer.frame(frame, &mut self.buffer) {
            Ok(joins) => joins,
            Err(error) => {
                if !std::mem::replace(&mut self.told, true) {
                    log::warn!("SRT leaves out a frame: {error}");
                }
                false
            }
        };
        // A picture waits for nothing; sound waits for a picture, or for as much sound as fills a payload.
        self.cut(video, out);
        if joins { Join::Here } else { Join::No }
    }

    fn end(&mut self, _: &StreamInfo<'_>, out: &mut Parts) {
        self.muxer.flush(&mut self.buffer);
        self.cut(true, out);
    }

    fn passes(&self) -> bool {
        self.pass
    }

    fn pass(&mut self, pieces: &[Bytes], out: &mut Parts) {
        for piece in pieces {
            let mut rest = piece.clone();
            while rest.len() > self.largest {
                out.packet(rest.split_to(self.size));
            }
            if !rest.is_empty() {
                out.packet(rest);
            }
        }
    }
}

/// Payloads of a publisher go on as they are up to this: seven transport packets.
const LARGEST: usize = 7 * PACKET;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::media::aac::AudioSpecificConfig;
    use crate::media::{Codec, Flags, Meta, TrackId};

    fn aac() -> Track {
        let mut aac = Track::new(TrackId(1), Codec::Aac);
        aac.config = AudioSpecificConfig::lc(44_100, 2).unwrap().build().into();
        aac
    }

    #[test]
    fn sound_fills_payloads() {
        let (tracks, meta) = ([aac()], Meta::default());
        let info = StreamInfo { tracks: &tracks, meta: &meta };
        let mut payloads = Payloads::new(1316, 1500, true);
        assert_eq!(payloads.key().variant, 1316 | 1 << 16);
        payloads.config(&info, 0, &mut Parts::default());
        let (mut full, mut bytes) = (0, 0);
        for n in 0..200 {
            let data = Bytes::from(vec![7; 400]);
            let frame =
                Frame { track: TrackId(1), flags: Flags::KEY, dts: n * 23, cts: 0, wall_ms: None, data };
            let mut out = Parts::default();
            payloads.frame(&info, &tracks[0], &frame, &mut out);
            assert_eq!(out.len() % 1316, 0);
            full += out.len() / 1316;
            bytes += out.len();
            let all = out.to_vec();
            assert!(all.chunks(188).all(|packet| packet[0] == 0x47));
        }
        assert!(full > 80 && bytes > 200 * 400);
        let mut out = Parts::default();
        payloads.end(&info, &mut out);
        assert!(out.len() < 1316 && out.len() % 188 == 0);
    }

    #[test]
    fn sizes_are_whole_packets_and_fit() {
        let size = |size, mss| Payloads::new(size, mss, false).size;
        assert_eq!((size(1316, 1500), size(1400, 1500), size(188, 1500)), (1316, 1316, 188));
        assert_eq!((size(1316, 1200), size(1456, 1500), size(0, 0)), (1128, 1316, 188));
    }

    #[test]
    fn what_is_too_large_for_a_packet_is_cut() {
        let mut payloads = Payloads::new(1128, 1500, true);
        let mut out = Parts::default();
        payloads.pass(&[Bytes::from(vec![1; 1316]), Bytes::from(vec![2; 4000]), Bytes::new()], &mut out);
        assert_eq!(out.len(), 5316);
    }
}
