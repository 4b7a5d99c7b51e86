//! Streams.

use std::time::{Instant, SystemTime};

use super::problem::Problem;
use super::route::{Answer, Call};
use crate::control::json::{Cents, Json as _, Time, choices, shape};
use crate::hub::{StreamName, StreamStats};
use crate::media;

shape! {
    /// A page of streams.
    pub struct Streams {
        /// The streams.
        items: Vec<Stream>,
        /// What to give as "after" for the page behind; null: this is the last.
        next: Option<String>,
    }
}

shape! {
    /// A stream.
    pub struct Stream {
        /// Its id.
        id: String,
        /// Virtual host.
        vhost: String,
        /// Application.
        app: String,
        /// Name.
        name: String,
        /// Whether someone publishes it.
        live: bool,
        /// Since when, without a break; null: nobody does.
        live_since: Option<Time>,
        /// The publisher's session.
        publisher: Option<String>,
        /// How many publishers it had.
        publishers: u64,
        /// How many readers there are.
        readers: u32,
        /// The same by protocol.
        readers_by_kind: Vec<Readers>,
        /// Its tracks.
        tracks: Vec<Track>,
        /// Media received.
        received_bytes: u64,
        /// Given to readers.
        sent_bytes: u64,
        /// Received.
        received_kbps: u64,
        /// Given to readers.
        sent_kbps: u64,
        /// Video frames received.
        video_frames: u64,
        /// Audio frames received.
        audio_frames: u64,
        /// Frames left out: of unknown tracks, or before the first key frame of a returning publisher.
        dropped_frames: u64,
        /// Frames that readers missed because they were too slow.
        missed_frames: u64,
        /// How often a reader was too slow and went on at a key frame.
        lags: u64,
        /// Milliseconds from one key frame to the next.
        key_frame_interval_ms: u32,
        /// Whether it has B-frames, which disturb WebRTC viewers.
        b_frames: bool,
        /// Memory for its past.
        ring_bytes: usize,
    }
}

shape! {
    /// Readers of one protocol.
    pub struct Readers {
        /// The protocol, e.g. flv-play.
        kind: String,
        /// How many.
        count: u32,
    }
}

choices! {
    /// What a track is to a viewer.
    pub enum TrackKind {
        /// Sound.
        Audio = "audio",
        /// Timed metadata.
        Data = "data",
        /// Pictures.
        Video = "video",
    }
}

shape! {
    /// A track. What isn't known, or isn't of its kind, is null.
    pub struct Track {
        /// Its number in the stream.
        id: u8,
        /// What it is to a viewer.
        kind: TrackKind,
        /// Its codec, e.g. H264.
        codec: String,
        /// RFC 6381, e.g. avc1.64001F.
        mime_codec: Option<String>,
        /// Its profile, e.g. High.
        profile: Option<String>,
        /// Width in pixels.
        width: Option<u32>,
        /// Height in pixels.
        height: Option<u32>,
        /// Pictures a second.
        fps: Option<Cents>,
        /// Samples a second.
        sample_rate: Option<u32>,
        /// Channels of sound.
        channels: Option<u8>,
        /// Language, ISO 639-2.
        language: Option<String>,
    }
}

shape! {
    /// Where a stream is.
    pub struct StreamRef {
        /// Its id.
        id: String,
        /// Virtual host.
        vhost: String,
        /// Application.
        app: String,
        /// Name.
        name: String,
    }
}

impl StreamRef {
    pub fn of(call: &crate::hub::Hub, name: &StreamName) -> Self {
        Self {
            id: call.stream_id(name),
            vhost: name.vhost.clone(),
            app: name.app.clone(),
            name: name.stream.clone(),
        }
    }
}

impl Track {
    fn of(track: &media::Track) -> Self {
        let facts = &track.facts;
        let text = |text: &str| (!text.is_empty()).then(|| text.to_owned());
        let language = std::str::from_utf8(&track.language).unwrap_or_default();
        Self {
            id: track.id.0,
            kind: match track.kind() {
                media::Kind::Audio => TrackKind::Audio,
                media::Kind::Data => TrackKind::Data,
                media::Kind::Video => TrackKind::Video,
            },
            codec: track.codec.name().to_owned(),
            mime_codec: text(&facts.rfc6381),
            profile: text(facts.profile_name),
            width: Some(facts.width).filter(|n| *n > 0),
            height: Some(facts.height).filter(|n| *n > 0),
            fps: facts.fps.filter(|(_, of)| *of > 0).map(|(n, of)| Cents(f64::from(n) / f64::from(of))),
            sample_rate: Some(facts.sample_rate).filter(|n| *n > 0),
            channels: Some(facts.channels).filter(|n| *n > 0),
            language: text(language).filter(|language| language != "und"),
        }
    }
}

impl Stream {
    fn of(stats: StreamStats, now: SystemTime) -> Self {
        let live = stats.publisher.is_some();
        Self {
            live,
            live_since: live.then(|| Time(now.checked_sub(stats.live).unwrap_or(now))),
            publisher: stats.publisher.as_ref().map(|client| client.id.to_string()),
            publishers: stats.epochs,
            readers: stats.reader_count(),
            readers_by_kind: stats
                .readers
                .iter()
                .filter(|(_, count)| *count > 0)
                .map(|(kind, count)| Readers { kind: kind.as_str().to_owned(), count: *count })
                .collect(),
            tracks: stats.tracks.iter().map(Track::of).collect(),
            received_bytes: stats.bytes_in,
            sent_bytes: stats.bytes_out,
            received_kbps: stats.kbps_in,
            sent_kbps: stats.kbps_out,
            video_frames: stats.video_frames,
            audio_frames: stats.audio_frames,
            dropped_frames: stats.frames_dropped,
            missed_frames: stats.reader_drops,
            lags: stats.lag_events,
            key_frame_interval_ms: stats.gop_ms,
            b_frames: stats.b_frames,
            ring_bytes: stats.ring_bytes,
            id: stats.id,
            vhost: stats.name.vhost,
            app: stats.name.app,
            name: stats.name.stream,
        }
    }
}

/// `/api/v2/streams`
pub(super) fn list(call: &Call<'_>) -> Result<Answer, Problem> {
    let (vhost, app, live) = (call.text("vhost"), call.text("app"), call.flag("live"));
    let mut all = call.api.hub.stats(Instant::now());
    all.retain(|stream| {
        vhost.as_ref().is_none_or(|vhost| stream.name.vhost == *vhost)
            && app.as_ref().is_none_or(|app| stream.name.app == *app)
            && live.is_none_or(|live| stream.publisher.is_some() == live)
    });
    let (items, next) = call.page(all, |stream| stream.id.clone());
    let now = SystemTime::now();
    let items = items.into_iter().map(|stats| Stream::of(stats, now)).collect();
    Ok(Answer::Json(Streams { items, next }.to_json()))
}

/// The stream with the id of the path.
pub(super) fn find(call: &Call<'_>) -> Result<StreamStats, Problem> {
    let found = call.api.hub.stats(Instant::now()).into_iter().find(|stream| stream.id == call.id);
    found.ok_or_else(|| Problem::not_found("there is no stream with this id (any more)"))
}

/// `/api/v2/streams/{id}`
pub(super) fn one(call: &Call<'_>) -> Result<Answer, Problem> {
    Ok(Answer::Json(Stream::of(find(call)?, SystemTime::now()).to_json()))
}
