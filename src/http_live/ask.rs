use super::audio::{self, Adts, Mp3};
use super::flv::Flv;
use super::framed::Framed;
use super::ts::{self, Ts};
use crate::format::flv::default_track;
use crate::hub::{ClientKind, FeedKey, Hub, Package, StreamName};
use crate::media::{Codec, Kind, Track};
use crate::net::http::{Framing, Head};

/// The app of a path that names none, as in RTMP.
const DEFAULT_APP: &str = "__defaultApp__";

/// What a request wants of a live stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Ask {
    pub(super) name: StreamName,
    pub(super) form: Form,
    pub(super) audio: bool,
    pub(super) video: bool,
}

/// In which form.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    Aac,
    Flv,
    Mp3,
    Ts,
}

impl Ask {
    /// What a path asks for; `None` if it can't be a live stream.
    pub(super) fn read(head: &Head, hub: &Hub) -> Option<Self> {
        let (path, extension) = head.path.rsplit_once('.')?;
        let form = Form::of(extension)?;
        if path.ends_with('/') {
            return None;
        }
        let parts: Vec<_> = path.split('/').filter(|part| !part.is_empty() && *part != "_definst_").collect();
        let (stream, app) = parts.split_last()?;
        let app = if app.is_empty() { DEFAULT_APP.to_owned() } else { app.join("/") };
        let asked =
            ["vhost", "domain"].iter().find_map(|key| head.param(key).filter(|value| !value.is_empty()));
        let name = hub.name(asked.as_deref().unwrap_or(&head.host), &app, stream).ok()?;
        let on = |key| !matches!(head.param(key).as_deref(), Some("off" | "0" | "false" | "no"));
        Some(Self { name, form, audio: on("has_audio"), video: on("has_video") })
    }

    pub(super) fn key(&self, framing: Framing) -> FeedKey {
        let variant = match self.form {
            Form::Flv | Form::Ts => u32::from(self.audio) | u32::from(self.video) << 1,
            Form::Aac | Form::Mp3 => 0,
        };
        FeedKey { format: self.form.name(framing), variant }
    }

    pub(super) fn package(&self, framing: Framing) -> Box<dyn Package> {
        match self.form {
            Form::Aac => Box::new(Framed::new(Adts::default(), framing)),
            Form::Flv => Box::new(Framed::new(Flv::new(self.audio, self.video), framing)),
            Form::Mp3 => Box::new(Framed::new(Mp3, framing)),
            Form::Ts => Box::new(Framed::new(Ts::new(self.audio, self.video), framing)),
        }
    }

    /// What is wrong with a stream of these tracks, if it has nothing for this request.
    pub(super) fn lack(&self, tracks: &[Track]) -> Option<String> {
        let has = |wanted: bool, kind| wanted && default_track(tracks, kind).is_some();
        let enough = match self.form {
            Form::Aac => audio::first(tracks, Codec::Aac).is_some(),
            Form::Flv => has(self.audio, Kind::Audio) || has(self.video, Kind::Video),
            Form::Mp3 => audio::first(tracks, Codec::Mp3).is_some(),
            Form::Ts => tracks.iter().any(|track| ts::has(track, self.audio, self.video)),
        };
        if enough {
            return None;
        }
        let codecs: Vec<_> = tracks.iter().map(|track| track.codec.name()).collect();
        Some(format!("{} carries {}, and this URL asks for none of that", self.name, codecs.join(" and ")))
    }
}

impl Form {
    fn of(extension: &str) -> Option<Self> {
        match extension {
            "aac" => Some(Self::Aac),
            "flv" => Some(Self::Flv),
            "mp3" => Some(Self::Mp3),
            "ts" => Some(Self::Ts),
            _ => None,
        }
    }

    pub(super) const fn content_type(self) -> &'static str {
        match self {
            Self::Aac => "audio/aac",
            Self::Flv => "video/x-flv",
            Self::Mp3 => "audio/mpeg",
            Self::Ts => "video/MP2T",
        }
    }

    pub(super) const fn kind(self) -> ClientKind {
        match self {
            Self::Aac => ClientKind::AacPlay,
            Self::Flv => ClientKind::FlvPlay,
            Self::Mp3 => ClientKind::Mp3Play,
            Self::Ts => ClientKind::TsPlay,
        }
    }

    const fn name(self, framing: Framing) -> &'static str {
        match (self, framing) {
            (Self::Aac, Framing::Chunked) => "aac-chunked",
            (Self::Aac, Framing::Raw) => "aac-raw",
            (Self::Aac, Framing::WebSocket) => "aac-websocket",
            (Self::Flv, Framing::Chunked) => "flv-chunked",
            (Self::Flv, Framing::Raw) => "flv-raw",
            (Self::Flv, Framing::WebSocket) => "flv-websocket",
            (Self::Mp3, Framing::Chunked) => "mp3-chunked",
            (Self::Mp3, Framing::Raw) => "mp3-raw",
            (Self::Mp3, Framing::WebSocket) => "mp3-websocket",
            (Self::Ts, Framing::Chunked) => "ts-chunked",
            (Self::Ts, Framing::Raw) => "ts-raw",
            (Self::Ts, Framing::WebSocket) => "ts-websocket",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Shared;
    use crate::media::TrackId;

    fn ask(target: &str) -> Option<Ask> {
        let text = format!("GET {target} HTTP/1.1\r\nHost: a\r\n\r\n");
        Ask::read(&Head::parse(text.as_bytes()).unwrap().unwrap().0, &Hub::new(Shared::default()))
    }

    #[test]
    fn paths_name_streams() {
        for (target, app, stream, form) in [
            ("/live/demo.flv", "live", "demo", Form::Flv),
            ("//live/cam.1.ts?x=y", "live", "cam.1", Form::Ts),
            ("/a/b/demo.aac", "a/b", "demo", Form::Aac),
            ("/live/_definst_/demo.mp3", "live", "demo", Form::Mp3),
            ("/demo.flv", DEFAULT_APP, "demo", Form::Flv),
            ("/live/%D0%BA.flv", "live", "к", Form::Flv),
        ] {
            let ask = ask(target).unwrap();
            assert_eq!((ask.name.app.as_str(), ask.name.stream.as_str(), ask.form), (app, stream, form));
        }
        for target in
            ["/", "/live/demo", "/live/.flv", "/live/demo.mp4", "/live/../demo.flv", "/live/a%22.flv"]
        {
            assert_eq!(ask(target), None, "{target}");
        }
    }

    #[test]
    fn kinds_can_be_left_out() {
        let sound = ask("/live/demo.flv?has_video=off").unwrap();
        assert!(sound.audio && !sound.video);
        assert_ne!(sound.key(Framing::Raw), ask("/live/demo.flv").unwrap().key(Framing::Raw));
        let (h264, aac) = (Track::new(TrackId(0), Codec::H264), Track::new(TrackId(1), Codec::Aac));
        assert!(sound.lack(&[h264.clone(), aac.clone()]).is_none());
        assert!(sound.lack(std::slice::from_ref(&h264)).is_some());
        assert!(
            ask("/a/b.flv?has_video=off&has_audio=off").unwrap().lack(std::slice::from_ref(&h264)).is_some()
        );
        let why = ask("/live/demo.mp3").unwrap().lack(&[h264, aac]).unwrap();
        assert_eq!(why, "live/demo carries H264 and AAC, and this URL asks for none of that");
    }
}
