//! From frames to segments, with made-up streams and clocks.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::*;
use crate::config::{Config, Shared, Variant};
use crate::hub::{Client, ClientKind, Event, Hub, Publisher, StreamName};
use crate::id::SessionId;
use crate::media::{Codec, Flags, Frame, Track, TrackId};

const AVCC: &str =
    "0164001fffe1001a6764001facd9405005bb0110000003001000000303c0f183196001000668ebe3cb22c0fdf8f800";

/// A track of H.264 or AAC, in milliseconds.
pub(super) fn track(id: u8, codec: Codec) -> Track {
    let config: Bytes = match codec {
        Codec::H264 => crate::media::test::hex(AVCC).into(),
        Codec::Aac => crate::media::test::hex("1190").into(),
        _ => Bytes::new(),
    };
    Track::with_config(TrackId(id), codec, config).unwrap()
}

/// A frame that its codec's reader takes for one.
pub(super) fn frame(track: u8, codec: Codec, ms: i64, key: bool, len: usize) -> Frame {
    let mut data = Vec::new();
    if codec == Codec::H264 {
        crate::media::nal::put_nal(&mut data, &[6, 5, 1, 7, 0x80]); // SEI
        let mut slice = vec![if key { 0x65 } else { 0x41 }, 0x9A];
        slice.resize(len.max(8), 0x55);
        crate::media::nal::put_nal(&mut data, &slice);
    } else {
        data.resize(len.max(8), 0x21);
    }
    let flags = if key { Flags::KEY } else { Flags::NONE };
    Frame { track: TrackId(track), flags, dts: ms, cts: 0, wall_ms: None, data: data.into() }
}

pub(super) struct Source {
    pub publisher: Publisher,
    pub name: StreamName,
}

impl Source {
    pub(super) fn new(hub: &Hub, stream: &str) -> Self {
        let name = hub.name("box", "live", stream).unwrap();
        let client = Client::new(SessionId::next(), ClientKind::FmlePublish, "127.0.0.1:1".parse().unwrap());
        let mut publisher = hub.publish_now(&name, client, Instant::now()).unwrap();
        publisher.set_track(track(0, Codec::H264)).unwrap();
        publisher.set_track(track(1, Codec::Aac)).unwrap();
        Self { publisher, name }
    }

    /// Pictures of 40 ms with a key frame each second, and sound.
    pub(super) fn send(&mut self, from_ms: i64, to_ms: i64) {
        for ms in (from_ms..to_ms).step_by(20) {
            if ms % 40 == 0 {
                let key = ms % 1000 == 0;
                let len = if key { 20_000 } else { 2000 };
                self.publisher.frame(frame(0, Codec::H264, ms, key, len), Instant::now()).unwrap();
            }
            self.publisher.frame(frame(1, Codec::Aac, ms, true, 300), Instant::now()).unwrap();
        }
    }
}

pub(super) fn house(change: impl FnOnce(&mut crate::config::Hls)) -> (Hub, Arc<Segments>) {
    let mut config = Config::default();
    config.vhost.set_default(|vhost| change(&mut vhost.hls));
    let shared = Shared::new(config);
    let hub = Hub::new(shared.clone());
    (hub.clone(), Segments::new(hub, shared))
}

pub(super) async fn wait(presentation: &Presentation, ok: impl Fn(&State) -> bool) -> Arc<State> {
    let mut state = presentation.state();
    while !ok(&state) {
        let changed = presentation.changed(state.version);
        state = tokio::time::timeout(Duration::from_secs(20), changed).await.expect("a new state");
    }
    state
}

#[tokio::test]
async fn a_live_stream_has_segments() {
    let (hub, segments) = house(|hls| hls.variant = Variant::Ts);
    let mut events = hub.events();
    let running = tokio::spawn(segments.clone().run());
    tokio::task::yield_now().await;
    let mut source = Source::new(&hub, "demo");
    assert!(segments.open(&hub.name("box", "live", "other").unwrap(), Want::Hls).is_none());
    let presentation = segments.open(&source.name, Want::Hls).unwrap();
    source.send(0, 7000);
    let state = wait(&presentation, |state| state.main().is_some_and(|main| main.segments.len() == 3)).await;
    let main = state.main().unwrap();
    assert_eq!((state.target, &*main.id, main.tracks.len()), (Duration::from_secs(2), "main", 2));
    assert_eq!(&*main.codecs, "avc1.64001F,mp4a.40.2");
    let names: Vec<&str> = main.segments.iter().map(|segment| &*segment.name).collect();
    assert_eq!(names, ["live/demo-0.ts", "live/demo-1.ts", "live/demo-2.ts"]);
    assert!(main.segments.iter().all(|s| s.duration == Duration::from_secs(2) && s.independent));
    assert_eq!(main.resolution(), Some((1280, 720)));
    assert!(main.bandwidth.average > 100_000 && main.bandwidth.peak >= main.bandwidth.average);

    let vhost = &source.name.vhost;
    let Some(Lookup::Ready(resource)) = segments.resource(vhost, "live/demo-1.ts") else { panic!("missing") };
    let bytes = resource.data.chunks().concat();
    assert_eq!((resource.content_type, bytes.len() as u64), ("video/MP2T", resource.data.len()));
    assert!(bytes.chunks(188).all(|packet| packet[0] == 0x47));
    assert_eq!(bytes[1..3], [0x40, 0], "begins with the PAT");
    assert!(segments.resource(vhost, "live/demo-9.ts").is_none());

    // The segment that grows can be waited for.
    let Some(Lookup::Soon(pending)) = segments.resource(vhost, "live/demo-3.ts") else { panic!("missing") };
    let waiting = tokio::spawn(async move { pending.ready().await });
    source.send(7000, 8040);
    assert!(waiting.await.unwrap().is_some());
    let (name, publisher) = (source.name, source.publisher);
    drop(publisher);
    hub.stop();
    let state = wait(&presentation, |state| state.ended).await;
    let last = state.main().unwrap().segments.last().unwrap().clone();
    assert_eq!((last.number, last.duration), (4, Duration::from_millis(40)), "the last one is not lost");
    let mut told = Vec::new();
    while let Ok(event) = events.try_recv() {
        if let Event::Segment(made) = event {
            assert_eq!((&made.name, &*made.playlist_url), (&name, "live/demo.m3u8"));
            told.push(made.number);
        }
    }
    assert_eq!(told, [0, 1, 2, 3, 4]);
    running.abort();
}
