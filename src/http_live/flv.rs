use bytes::Bytes;

use crate::format::flv::{self, TagKind};
use crate::hub::{Join, Package, Parts, StreamInfo};
use crate::media::{Frame, Kind, Meta, Track};

/// A stream as an FLV file without end.
pub(super) struct Flv {
    audio: bool,
    video: bool,
    /// A frame too large for a tag was told of.
    told: bool,
}

impl Flv {
    /// With or without a kind of track.
    pub(super) fn new(audio: bool, video: bool) -> Self {
        Self { audio, video, told: false }
    }

    /// The track of a kind that is in the file.
    fn track<'a>(&self, info: &StreamInfo<'a>, kind: Kind) -> Option<&'a Track> {
        let wanted = match kind {
            Kind::Audio => self.audio,
            Kind::Data => false,
            Kind::Video => self.video,
        };
        if wanted { flv::default_track(info.tracks, kind) } else { None }
    }

    /// All tracks that are in the file.
    fn tracks(&self, info: &StreamInfo<'_>) -> Vec<Track> {
        let tracks = [self.track(info, Kind::Video), self.track(info, Kind::Audio)];
        tracks.into_iter().flatten().cloned().collect()
    }

    fn tag(&mut self, kind: TagKind, at_ms: i64, prefix: &[u8], data: &Bytes, out: &mut Parts) {
        let len = prefix.len() + data.len();
        match flv::tag_header(kind, len, at_ms) {
            Ok(header) => {
                out.put(&header);
                out.put(prefix);
                out.share(data.clone());
                out.put(&flv::tag_trailer(len));
            }
            Err(error) => {
                if !std::mem::replace(&mut self.told, true) {
                    log::warn!("HTTP-FLV leaves out a frame: {error}");
                }
            }
        }
    }
}

impl Package for Flv {
    fn start(&mut self, info: &StreamInfo<'_>, out: &mut Parts) {
        let has = |kind| self.track(info, kind).is_some();
        out.put(&flv::file_header(has(Kind::Audio), has(Kind::Video)));
    }

    fn config(&mut self, info: &StreamInfo<'_>, at_ms: i64, out: &mut Parts) {
        self.words(info, out);
        for track in &self.tracks(info) {
            if let (Some(kind), Some(body)) = (TagKind::of(track.codec), flv::config_body(track)) {
                self.tag(kind, at_ms, &[], &body, out);
            }
        }
    }

    fn words(&mut self, info: &StreamInfo<'_>, out: &mut Parts) {
        let body = flv::metadata_body(info.meta, &self.tracks(info), &Meta::default());
        // At 0 wherever it stands: ffmpeg takes metadata at any other time for subtitles.
        self.tag(TagKind::Script, 0, &[], &body, out);
    }

    fn frame(&mut self, info: &StreamInfo<'_>, track: &Track, frame: &Frame, out: &mut Parts) -> Join {
        if self.track(info, track.kind()).is_none_or(|chosen| chosen.id != track.id) {
            return Join::No;
        }
        let (Some(kind), Some(prefix)) = (TagKind::of(track.codec), flv::frame_prefix(track, frame)) else {
            return Join::No;
        };
        self.tag(kind, track.ticks_to_ms(frame.dts), &prefix, &frame.data, out);
        let leads = track.kind() == Kind::Video || self.track(info, Kind::Video).is_none();
        if leads && frame.is_key() { Join::Here } else { Join::No }
    }

    fn end(&mut self, _: &StreamInfo<'_>, _: &mut Parts) {}
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::media::{Codec, Flags, TrackId};

    fn tracks() -> [Track; 3] {
        let mut avc = Track::new(TrackId(0), Codec::H264);
        avc.config = Bytes::from_static(b"avcC");
        let mut aac = Track::new(TrackId(1), Codec::Aac);
        aac.config = Bytes::from_static(&[0x12, 0x10]);
        [avc, aac, Track::new(TrackId(2), Codec::Aac)]
    }

    fn frame(track: u8) -> Frame {
        let data = Bytes::from_static(b"payload");
        Frame { track: TrackId(track), flags: Flags::KEY, dts: 70_000, cts: 0, wall_ms: None, data }
    }

    /// Kind and time of each tag.
    fn tags(mut bytes: &[u8]) -> Vec<(u8, u32)> {
        let number = |bytes: &[u8]| bytes.iter().fold(0, |n, b| n << 8 | u32::from(*b));
        let mut found = Vec::new();
        while let Some((header, rest)) = bytes.split_first_chunk::<11>() {
            let len = usize::try_from(number(&header[1..4])).unwrap();
            found.push((header[0], number(&[header[7], header[4], header[5], header[6]])));
            assert_eq!(number(&rest[len..len + 4]) as usize, len + 11);
            bytes = &rest[len + 4..];
        }
        found
    }

    #[test]
    fn header_and_tags_are_those_of_the_chosen_tracks() {
        let (tracks, meta) = (tracks(), Meta::default());
        let info = StreamInfo { tracks: &tracks, meta: &meta };
        for (audio, video, flags, kinds) in
            [(true, true, 5, vec![18, 9, 8]), (false, true, 1, vec![18, 9]), (true, false, 4, vec![18, 8])]
        {
            let (mut package, mut out) = (Flv::new(audio, video), Parts::default());
            package.start(&info, &mut out);
            assert_eq!(out.to_vec()[4], flags);
            let mut out = Parts::default();
            package.config(&info, 70_000, &mut out);
            let found: Vec<_> = tags(&out.to_vec()).into_iter().map(|(kind, _)| kind).collect();
            assert_eq!(found, kinds);
            let mut out = Parts::default();
            let picture = package.frame(&info, &tracks[0], &frame(0), &mut out);
            let sound = package.frame(&info, &tracks[1], &frame(1), &mut out);
            let expected = if video { (Join::Here, Join::No) } else { (Join::No, Join::Here) };
            assert_eq!((picture, sound), expected);
            assert_eq!(package.frame(&info, &tracks[2], &frame(2), &mut out), Join::No);
            let found = tags(&out.to_vec());
            assert_eq!(
                found.len(),
                usize::from(audio) + usize::from(video),
                "the first track of a kind only"
            );
            assert!(found.iter().all(|(_, at)| *at == 70_000));
        }
    }

    #[test]
    fn what_no_tag_holds_is_left_out() {
        let (tracks, meta) = (tracks(), Meta::default());
        let info = StreamInfo { tracks: &tracks, meta: &meta };
        let huge = Frame { data: Bytes::from(vec![0; flv::MAX_BODY]), ..frame(0) };
        let mut out = Parts::default();
        Flv::new(true, true).frame(&info, &tracks[0], &huge, &mut out);
        assert!(out.is_empty());
    }
}
