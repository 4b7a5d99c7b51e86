use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;

use super::*;
use crate::config::{Config, Duplicate, Shared};
use crate::media::{Codec, Flags, MetaValue, TrackId};

/// Writes frames as lines of text, so that tests can read what a reader got.
struct Lines;

impl Package for Lines {
    fn start(&mut self, info: &StreamInfo<'_>, out: &mut Parts) {
        out.put(format!("start v={} a={}\n", info.has_video(), info.has_audio()).as_bytes());
    }
    fn config(&mut self, info: &StreamInfo<'_>, at_ms: i64, out: &mut Parts) {
        out.put(format!("config {} at {at_ms}\n", info.tracks.len()).as_bytes());
    }
    fn words(&mut self, _: &StreamInfo<'_>, out: &mut Parts) {
        out.put(b"words\n");
    }
    fn frame(&mut self, info: &StreamInfo<'_>, track: &Track, frame: &Frame, out: &mut Parts) -> Join {
        out.put(format!("{} {} ", track.codec, frame.dts).as_bytes());
        out.share(frame.data.clone());
        out.put(b"\n");
        let video = track.codec == Codec::H264;
        if frame.is_key() && (video || !info.has_video()) { Join::Here } else { Join::No }
    }
    fn end(&mut self, _: &StreamInfo<'_>, out: &mut Parts) {
        out.put(b"end\n");
    }
}

struct NoControl;

impl Control for NoControl {
    fn input(&mut self, _: &[u8], _: &mut Vec<u8>) -> Flow {
        Flow::Go
    }
}

const KEY: FeedKey = FeedKey { format: "lines", variant: 0 };

pub(super) fn client(kind: ClientKind) -> Client {
    Client::new(SessionId::next(), kind, "127.0.0.1:1".parse().unwrap())
}

pub(super) fn hub() -> Hub {
    Hub::new(Shared::default())
}

fn hub_with(change: impl FnOnce(&mut Config)) -> Hub {
    let mut config = Config::default();
    change(&mut config);
    Hub::new(Shared::new(config))
}

pub(super) struct Source {
    publisher: Publisher,
    now: Instant,
}

impl Source {
    pub(super) fn new(hub: &Hub, name: &str, now: Instant) -> Self {
        let name = hub.name("box", "live", name).unwrap();
        let mut publisher = hub.publish_now(&name, client(ClientKind::FmlePublish), now).unwrap();
        publisher.set_track(Track::new(TrackId(0), Codec::H264)).unwrap();
        publisher.set_track(Track::new(TrackId(1), Codec::Aac)).unwrap();
        Self { publisher, now }
    }

    /// One that may be replaced at once.
    pub(super) fn new_or_replaced(hub: &Hub, name: &str) -> Self {
        let (name, now) = (hub.name("box", "live", name).unwrap(), Instant::now());
        let mut publisher = hub.publish_now(&name, client(ClientKind::FmlePublish), now).unwrap();
        for (id, codec) in [(0, Codec::H264), (1, Codec::Aac)] {
            let _ = publisher.set_track(Track::new(TrackId(id), codec));
        }
        Self { publisher, now }
    }

    pub(super) fn frame(&mut self, track: u8, ms: i64, key: bool, size: usize) -> Result<(), Ended> {
        let flags = if key { Flags::KEY } else { Flags::NONE };
        let data = Bytes::from(vec![b'x'; size]);
        let frame = Frame { track: TrackId(track), flags, dts: ms, cts: 0, wall_ms: None, data };
        self.publisher.frame(frame, self.now + Duration::from_millis(u64::try_from(ms).unwrap()))
    }

    /// A group of pictures a second from `from` seconds on: a key frame, then four frames, each with audio.
    fn groups(&mut self, seconds: std::ops::Range<i64>) {
        for n in seconds {
            for i in 0..5 {
                self.frame(0, n * 1000 + i * 200, i == 0, 3).unwrap();
                self.frame(1, n * 1000 + i * 200 + 1, true, 2).unwrap();
            }
        }
    }
}

pub(super) fn subscribe(hub: &Hub, name: &str, wait: Wait) -> Result<Subscription, HubError> {
    let name = hub.name("box", "live", name).unwrap();
    let options = SubscribeOptions { key: KEY, wait };
    hub.subscribe(
        hub.admit_now(Action::Play, &name, client(ClientKind::RtmpPlay))?,
        options,
        || Box::new(Lines),
        Instant::now(),
    )
}

/// All that a reader can have without waiting, as lines.
fn drain(subscription: &mut Subscription) -> Vec<String> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    let mut all = Vec::new();
    runtime.block_on(async {
        while let Ok(Some(batch)) = tokio::time::timeout(Duration::from_millis(20), subscription.next()).await
        {
            all.extend(batch.iter().flatten().copied());
        }
    });
    String::from_utf8(all).unwrap().lines().map(str::to_owned).collect()
}

fn sockets() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let player = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let (server, _) = listener.accept().unwrap();
    server.set_nonblocking(true).unwrap();
    (server, player)
}

#[test]
fn a_reader_in_the_middle_starts_at_the_newest_key_frame() {
    let hub = hub();
    let mut source = Source::new(&hub, "a", Instant::now());
    source.groups(0..3);
    let mut reader = subscribe(&hub, "a", Wait::No).unwrap();
    let got = drain(&mut reader);
    assert_eq!(got[..3], ["start v=true a=true", "config 2 at 2000", "H264 2000 xxx"]);
    assert_eq!(got.len(), 12);
    source.frame(0, 3000, true, 3).unwrap();
    assert_eq!(drain(&mut reader), ["H264 3000 xxx"]);
}

#[test]
fn a_feed_is_made_once_for_all_its_readers() {
    let hub = hub();
    let mut source = Source::new(&hub, "a", Instant::now());
    source.groups(0..1);
    let made = AtomicUsize::new(0);
    let name = hub.name("", "live", "a").unwrap();
    let subscribe = || {
        let options = SubscribeOptions { key: KEY, wait: Wait::No };
        let package = || -> Box<dyn Package> {
            made.fetch_add(1, Ordering::SeqCst);
            Box::new(Lines)
        };
        hub.subscribe(
            hub.admit_now(Action::Play, &name, client(ClientKind::FlvPlay)).unwrap(),
            options,
            package,
            Instant::now(),
        )
        .unwrap()
    };
    let readers: Vec<_> = (0..5).map(|_| subscribe()).collect();
    assert_eq!(made.load(Ordering::SeqCst), 1);
    assert_eq!(hub.stats(Instant::now())[0].readers, [(ClientKind::FlvPlay, 5)]);
    drop(readers);
    assert_eq!(hub.stats(Instant::now())[0].reader_count(), 0);
    subscribe();
    assert_eq!(made.load(Ordering::SeqCst), 2, "dropped with its last reader");
}

#[test]
fn readers_wait_until_it_is_known_which_tracks_there_are() {
    let hub = hub();
    let name = hub.name("", "live", "a").unwrap();
    let mut publisher = hub.publish_now(&name, client(ClientKind::FmlePublish), Instant::now()).unwrap();
    let mut reader = subscribe(&hub, "a", Wait::No).unwrap();
    publisher.set_track(Track::new(TrackId(0), Codec::H264)).unwrap();
    let mut source = Source { publisher, now: Instant::now() };
    source.frame(0, 0, true, 3).unwrap();
    assert_eq!(drain(&mut reader), [""; 0], "audio may still come");
    source.publisher.set_track(Track::new(TrackId(1), Codec::Aac)).unwrap();
    source.frame(1, 20, true, 2).unwrap();
    let got = drain(&mut reader);
    assert_eq!(got[..3], ["start v=true a=true", "config 2 at 0", "H264 0 xxx"]);
    // A stream of one track starts when its publisher says so, or after a second.
    let name = hub.name("", "live", "b").unwrap();
    let mut publisher = hub.publish_now(&name, client(ClientKind::FmlePublish), Instant::now()).unwrap();
    publisher.set_track(Track::new(TrackId(1), Codec::Aac)).unwrap();
    let mut meta = Meta::default();
    meta.set("audiocodecid", crate::media::MetaValue::Number(10.0));
    publisher.set_meta(meta).unwrap();
    let mut reader = subscribe(&hub, "b", Wait::No).unwrap();
    let mut source = Source { publisher, now: Instant::now() };
    source.frame(1, 0, true, 2).unwrap();
    assert_eq!(drain(&mut reader)[0], "start v=false a=true");
}

#[test]
fn readers_stay_when_the_publisher_comes_back() {
    let hub = hub();
    let start = Instant::now();
    let mut source = Source::new(&hub, "a", start);
    source.groups(0..2);
    let mut reader = subscribe(&hub, "a", Wait::No).unwrap();
    drain(&mut reader);
    drop(source);
    hub.tick(start + Duration::from_secs(4));
    let mut source = Source::new(&hub, "a", start + Duration::from_millis(4800));
    source.frame(1, 0, true, 2).unwrap();
    source.frame(0, 10, false, 3).unwrap();
    assert_eq!(drain(&mut reader), [""; 0], "no sound before the picture is back");
    source.frame(0, 20, true, 3).unwrap();
    source.frame(1, 30, true, 2).unwrap();
    let got = drain(&mut reader);
    let times: Vec<&str> = got.iter().map(|l| l.trim_end_matches('x')).collect();
    // The last frame was sent at 1801 ms, 2999 ms before the publisher was back.
    assert_eq!(times, ["config 2 at 4820", "H264 4820 ", "AAC 4830 "]);
}

#[test]
fn after_the_grace_period_readers_get_the_trailer() {
    let hub = hub();
    let mut source = Source::new(&hub, "a", Instant::now());
    source.groups(0..1);
    let mut reader = subscribe(&hub, "a", Wait::No).unwrap();
    drain(&mut reader);
    drop(source);
    hub.tick(Instant::now() + Duration::from_secs(9));
    assert_eq!(drain(&mut reader), [""; 0]);
    assert!(hub.is_live(&hub.name("", "live", "a").unwrap()));
    hub.tick(Instant::now() + Duration::from_secs(11));
    assert_eq!(drain(&mut reader), ["end"]);
    assert!(!hub.is_live(&hub.name("", "live", "a").unwrap()));
    assert!(matches!(subscribe(&hub, "a", Wait::No), Err(HubError::NotLive(_))));
    drop(reader);
    hub.tick(Instant::now() + Duration::from_secs(60));
    assert!(hub.stats(Instant::now()).is_empty(), "forgotten when nobody needs it");
}

#[test]
fn the_second_publisher_is_refused_or_takes_over() {
    let hub = hub();
    let source = Source::new(&hub, "a", Instant::now());
    let name = hub.name("", "live", "a").unwrap();
    let second = hub.publish_now(&name, client(ClientKind::FmlePublish), Instant::now());
    assert!(matches!(second, Err(HubError::Busy { .. })));
    drop(source);
    assert!(hub.publish_now(&name, client(ClientKind::FmlePublish), Instant::now()).is_ok(), "free at once");

    let hub = hub_with(|config| {
        let text = "[vhost.default]\nduplicate = \"takeover\"\n";
        *config = config::parse("test", text, []).unwrap().config;
        assert_eq!(config.vhost("", "live", "a").duplicate, Duplicate::Takeover);
    });
    let mut first = Source::new(&hub, "a", Instant::now());
    first.groups(0..1);
    let mut second = Source::new(&hub, "a", Instant::now());
    assert_eq!(first.frame(0, 1000, true, 3), Err(Ended::Replaced));
    drop(first);
    second.groups(0..1);
    assert_eq!(hub.stats(Instant::now())[0].epochs, 2);
}

#[test]
fn streams_are_bounded_and_vhosts_can_be_off() {
    let hub = hub_with(|c| c.server.max_streams = 2);
    let _one = Source::new(&hub, "a", Instant::now());
    let two = Source::new(&hub, "b", Instant::now());
    let name = hub.name("", "live", "c").unwrap();
    assert_eq!(
        hub.publish_now(&name, client(ClientKind::FmlePublish), Instant::now()).err(),
        Some(HubError::TooManyStreams(2))
    );
    drop(two);
    drop(hub.publish_now(&name, client(ClientKind::FmlePublish), Instant::now()).unwrap());
    hub.stop();
    assert_eq!(
        hub.publish_now(&name, client(ClientKind::FmlePublish), Instant::now()).err(),
        Some(HubError::Stopping)
    );
}

#[test]
fn a_slow_reader_skips_to_a_key_frame_and_is_counted() {
    let hub = hub_with(|c| {
        *c = config::parse("test", "[vhost.default]\nring_bytes = \"256KiB\"\n", []).unwrap().config;
    });
    let mut source = Source::new(&hub, "a", Instant::now());
    source.frame(0, 0, true, 1000).unwrap();
    source.frame(1, 1, true, 10).unwrap();
    let mut reader = subscribe(&hub, "a", Wait::No).unwrap();
    drain(&mut reader);
    for n in 1..2000 {
        source.frame(0, n * 40, n % 50 == 0, 1000).unwrap();
    }
    let stats = &hub.stats(Instant::now())[0];
    assert!(stats.ring_bytes <= 256 * 1024);
    let got = drain(&mut reader);
    assert!(got[0].starts_with("config 2 at 78000"), "{}", got[0]);
    assert!(got[1].starts_with("H264 78000"));
    assert_eq!(got.len(), 51);
    let stats = &hub.stats(Instant::now())[0];
    assert_eq!(stats.lag_events, 1);
    assert!(stats.reader_drops > 1500);
}

#[test]
fn a_worker_delivers_a_stream_from_header_to_trailer() {
    let hub = hub();
    let mut source = Source::new(&hub, "a", Instant::now());
    source.groups(0..2);
    let players: Vec<_> = (0..5)
        .map(|_| {
            let (server, player) = sockets();
            let reader = subscribe(&hub, "a", Wait::No).unwrap();
            reader.deliver(server, Bytes::from_static(b"hello\n"), Box::new(NoControl));
            player
        })
        .collect();
    // Each reads the group that was there before more comes.
    let mut got: Vec<Vec<u8>> = Vec::new();
    for mut player in &players {
        player.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        let mut text = Vec::new();
        while !text.ends_with(b"AAC 1801 xx\n") {
            let mut buffer = [0; 4096];
            let n = player.read(&mut buffer).unwrap();
            text.extend_from_slice(&buffer[..n]);
        }
        got.push(text);
    }
    source.groups(2..4);
    drop(source);
    hub.tick(Instant::now() + Duration::from_secs(11));
    for (mut player, mut text) in players.iter().zip(got) {
        player.read_to_end(&mut text).unwrap();
        let text = String::from_utf8(text).unwrap();
        let lines: Vec<_> = text.lines().collect();
        assert_eq!(lines[..4], ["hello", "start v=true a=true", "config 2 at 1000", "H264 1000 xxx"]);
        assert_eq!(lines.last(), Some(&"end"));
        assert_eq!(lines.len(), 3 + 30 + 1);
    }
    let stats = &hub.stats(Instant::now())[0];
    assert!(stats.bytes_out > 5 * 300);
    wait_for(|| hub.sessions() == 0);
}

fn wait_for(mut done: impl FnMut() -> bool) {
    for _ in 0..20_000 {
        if done() {
            return;
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    panic!("it never happened");
}

#[test]
fn a_stalled_player_costs_nothing_and_disturbs_nobody() {
    let hub = hub_with(|c| {
        *c = config::parse("test", "[vhost.default]\nring_bytes = \"1MiB\"\n", []).unwrap().config;
    });
    let mut source = Source::new(&hub, "a", Instant::now());
    source.frame(0, 0, true, 10_000).unwrap();
    source.frame(1, 1, true, 10).unwrap();
    let (server, stalled) = sockets();
    subscribe(&hub, "a", Wait::No).unwrap().deliver(server, Bytes::new(), Box::new(NoControl));
    let (server, mut player) = sockets();
    subscribe(&hub, "a", Wait::No).unwrap().deliver(server, Bytes::new(), Box::new(NoControl));
    let read = std::sync::Arc::new(AtomicUsize::new(0));
    let counted = read.clone();
    let reading = std::thread::spawn(move || {
        let (mut text, mut buffer) = (Vec::new(), vec![0; 64 * 1024]);
        loop {
            let n = player.read(&mut buffer).unwrap();
            if n == 0 {
                return text;
            }
            text.extend_from_slice(&buffer[..n]);
            counted.store(text.len(), Ordering::SeqCst);
        }
    });
    wait_for(|| read.load(Ordering::SeqCst) > 0);
    for n in 1..3000 {
        source.frame(0, n * 40, n % 25 == 0, 10_000).unwrap();
        // As fast as the good player is given time to read: it never falls out of the ring.
        let sent = usize::try_from(n).unwrap() * 10_000;
        wait_for(|| read.load(Ordering::SeqCst) + 400_000 > sent);
    }
    let stats = &hub.stats(Instant::now())[0];
    assert!(stats.ring_bytes <= 1024 * 1024);
    hub.stop();
    let text = reading.join().unwrap();
    assert!(text.ends_with(b"end\n"));
    let frames = text.windows(5).filter(|w| w == b"H264 ").count();
    assert_eq!(frames, 3000, "the good player missed nothing");
    drop((stalled, source));
    wait_for(|| hub.sessions() == 0);
}

#[test]
fn readers_are_told_of_what_matters_to_a_decoder_only() {
    let hub = hub();
    let mut source = Source::new(&hub, "a", Instant::now());
    source.groups(0..1);
    let mut reader = subscribe(&hub, "a", Wait::No).unwrap();
    drain(&mut reader);
    let mut track = Track::new(TrackId(0), Codec::H264);
    track.facts.width = 640;
    source.publisher.set_track(track.clone()).unwrap();
    source.frame(0, 1000, true, 3).unwrap();
    assert_eq!(drain(&mut reader), ["H264 1000 xxx"], "a size that was learnt");
    assert_eq!(hub.stats(Instant::now())[0].tracks[0].facts.width, 640);
    track.config = Bytes::from_static(b"new");
    source.publisher.set_track(track).unwrap();
    source.frame(0, 2000, true, 3).unwrap();
    assert_eq!(drain(&mut reader), ["config 2 at 2000", "H264 2000 xxx"]);
    // GStreamer sends new metadata with each new estimate of its bit rate.
    let mut meta = Meta::default();
    meta.set("videodatarate", MetaValue::Number(800.0));
    source.publisher.set_meta(meta).unwrap();
    source.frame(0, 2040, false, 3).unwrap();
    assert_eq!(drain(&mut reader), ["words", "H264 2040 xxx"]);
    // Who comes now starts as ever.
    let start = drain(&mut subscribe(&hub, "a", Wait::No).unwrap());
    assert_eq!(start[1..], ["config 2 at 2000", "H264 2000 xxx", "words", "H264 2040 xxx"]);
}

fn from(peer: &str) -> Client {
    Client::new(SessionId::next(), ClientKind::FmlePublish, peer.parse().unwrap())
}

#[test]
fn a_silent_publisher_makes_room_for_the_same_encoder() {
    let hub = hub();
    let start = Instant::now();
    let at = |ms| start + Duration::from_millis(ms);
    let mut first = Source::new(&hub, "a", start);
    first.groups(0..2);
    let name = hub.name("", "live", "a").unwrap();
    let publish = |peer, ms| hub.publish_now(&name, from(peer), at(ms));
    assert!(matches!(publish("127.0.0.1:2", 4000), Err(HubError::Busy { .. })), "silent for 2.2 s only");
    assert!(matches!(publish("127.0.0.2:2", 9000), Err(HubError::Busy { .. })), "somebody else");
    let second = publish("127.0.0.1:2", 9000).unwrap();
    assert_eq!(first.frame(0, 9040, true, 3), Err(Ended::Replaced));
    drop(first);
    assert!(
        matches!(publish("127.0.0.1:3", 9100), Err(HubError::Busy { .. })),
        "the new one counts from now"
    );
    drop(second);
}

#[test]
fn a_publisher_that_came_without_a_frame_changes_nothing_for_readers() {
    let hub = hub();
    let start = Instant::now();
    Source::new(&hub, "a", start).groups(0..1);
    let mut reader = subscribe(&hub, "a", Wait::No).unwrap();
    drain(&mut reader);
    drop(Source::new(&hub, "a", start + Duration::from_secs(2)));
    let mut source = Source::new(&hub, "a", start + Duration::from_secs(3));
    source.frame(1, 0, true, 2).unwrap();
    assert_eq!(drain(&mut reader), [""; 0], "no sound before the picture is back");
    source.frame(0, 20, true, 3).unwrap();
    assert!(drain(&mut reader)[0].starts_with("config"));
}

#[test]
fn readers_who_wait_do_not_lock_publishers_out() {
    let hub = hub_with(|c| c.server.max_streams = 2);
    let _waiting = ["a", "b"].map(|name| subscribe(&hub, name, Wait::Forever).unwrap());
    assert!(matches!(subscribe(&hub, "c", Wait::Forever), Err(HubError::TooManyStreams(2))));
    let _live = ["c", "d"].map(|name| Source::new(&hub, name, Instant::now()));
    let name = hub.name("", "live", "e").unwrap();
    let third = hub.publish_now(&name, client(ClientKind::FmlePublish), Instant::now());
    assert!(matches!(third, Err(HubError::TooManyStreams(2))));
}

/// Where a new reader starts.
fn start_of(hub: &Hub) -> String {
    drain(&mut subscribe(hub, "a", Wait::No).unwrap()).get(2).cloned().unwrap_or_default()
}

#[test]
fn long_groups_start_at_their_key_frame_and_intra_refresh_anywhere() {
    let hub = hub();
    let mut source = Source::new(&hub, "a", Instant::now());
    // 12.5 s between key frames, as x264's default is at 20 fps.
    for n in 0..60 {
        source.frame(0, n * 500, n % 25 == 0, 3).unwrap();
        source.frame(1, n * 500 + 1, true, 2).unwrap();
        if n == 24 {
            assert_eq!(start_of(&hub), "H264 0 xxx");
        }
    }
    assert_eq!(start_of(&hub), "H264 25000 xxx");
    for n in 60..120 {
        source.frame(0, n * 500, false, 3).unwrap();
    }
    assert_eq!(start_of(&hub), "H264 59500 xxx", "no key frame for 34.5 s");
}

#[test]
fn when_the_camera_is_off_readers_start_at_the_newest_sound() {
    let hub = hub();
    let mut source = Source::new(&hub, "a", Instant::now());
    source.groups(0..1);
    for n in 1..40 {
        source.frame(1, n * 500, true, 2).unwrap();
    }
    assert_eq!(start_of(&hub), "AAC 19500 xx");
    source.frame(0, 20_000, true, 3).unwrap();
    source.frame(1, 20_001, true, 2).unwrap();
    assert_eq!(start_of(&hub), "H264 20000 xxx");
}

#[test]
fn a_reload_shrinks_what_is_kept() {
    let config = Shared::default();
    let hub = Hub::new(config.clone());
    let mut source = Source::new(&hub, "a", Instant::now());
    let mut reader = subscribe(&hub, "a", Wait::Forever).unwrap();
    for n in 0..100 {
        source.frame(0, n * 40, n == 0, 10_000).unwrap();
    }
    let text = "[vhost.default]\nring_bytes = \"256KiB\"\n";
    config.replace(config::parse("test", text, []).unwrap().config);
    hub.reload();
    source.frame(0, 4000, false, 10_000).unwrap();
    assert!(hub.stats(Instant::now())[0].ring_bytes <= 256 * 1024);
    assert!(reader.feed.lock().ring.bytes() <= 256 * 1024);
    drain(&mut reader);
}

/// Subscribes, takes what there is, leaves.
fn drain_now(hub: &Hub) {
    let mut reader = subscribe(hub, "a", Wait::Forever).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    runtime.block_on(async {
        let _ = tokio::time::timeout(Duration::from_millis(1), reader.next()).await;
    });
}

/// Publishers that take over and leave, streams that end, readers that come and go, all at once.
#[test]
fn everyone_may_come_and_go_at_any_moment() {
    let hub = hub_with(|c| {
        let text = "[vhost.default]\nduplicate = \"takeover\"\n";
        *c = config::parse("test", text, []).unwrap().config;
    });
    let stop = AtomicBool::new(false);
    let going = || !stop.load(Ordering::Relaxed);
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while going() {
                    let mut source = Source::new_or_replaced(&hub, "a");
                    for n in 0..20 {
                        let _ = source.frame(0, n * 40, n % 5 == 0, 900);
                        let _ = source.frame(1, n * 40 + 1, true, 9);
                    }
                }
            });
            scope.spawn(|| {
                let mut read = [0; 300];
                while going() {
                    let (server, mut player) = sockets();
                    let reader = subscribe(&hub, "a", Wait::Forever).unwrap();
                    reader.deliver(server, Bytes::from_static(b"hello"), Box::new(NoControl));
                    let _ = player.read(&mut read);
                }
            });
        }
        scope.spawn(|| {
            while going() {
                drain_now(&hub);
                let _ = hub.stats(Instant::now());
            }
        });
        scope.spawn(|| {
            while going() {
                // As if the grace period were over: streams end whenever nobody publishes.
                hub.tick(Instant::now() + Duration::from_secs(100));
                std::thread::sleep(Duration::from_micros(200));
            }
        });
        std::thread::sleep(Duration::from_millis(1500));
        stop.store(true, Ordering::Relaxed);
    });
    hub.tick(Instant::now() + Duration::from_secs(100));
    wait_for(|| hub.sessions() == 0);
    hub.tick(Instant::now() + Duration::from_secs(200));
    assert!(hub.stats(Instant::now()).is_empty(), "nobody is counted who is gone");
}

#[test]
fn a_worker_that_hangs_is_known() {
    /// Waits for the other end before it takes what a player sent.
    struct Stuck(std::sync::mpsc::Receiver<()>);
    impl Control for Stuck {
        fn input(&mut self, _: &[u8], _: &mut Vec<u8>) -> Flow {
            let _ = self.0.recv();
            Flow::Go
        }
    }
    let hub = hub_with(|config| config.delivery.workers = 2);
    assert_eq!((hub.ask(), hub.ask()), (0, 0), "no reader, no worker");
    let _source = Source::new(&hub, "a", Instant::now());
    let (sender, receiver) = std::sync::mpsc::channel();
    let (server, mut player) = sockets();
    subscribe(&hub, "a", Wait::No).unwrap().deliver(server, Bytes::new(), Box::new(Stuck(receiver)));
    for _ in 0..3 {
        wait_for(|| hub.ask() == 0);
    }
    player.write_all(b"x").unwrap();
    // Nobody answers any more at some time; the other worker still does.
    wait_for(|| hub.ask() >= 5);
    drop(sender);
    wait_for(|| hub.ask() == 0);
}

#[test]
fn all_streams_together_keep_no_more_than_they_may() {
    let hub = hub();
    hub.limit_memory(1024 * 1024);
    let now = Instant::now();
    let mut sources: Vec<_> = (0..2).map(|n| Source::new(&hub, &format!("s{n}"), now)).collect();
    let kept = |hub: &Hub| -> Vec<usize> { hub.stats(now).iter().map(|s| s.ring_bytes / 1024).collect() };
    let fill = |sources: &mut Vec<Source>, second: i64| {
        for source in sources {
            (0..100).for_each(|n| source.frame(0, second * 1000 + n * 10, n == 0, 10_000).unwrap());
        }
    };
    hub.tick(now);
    fill(&mut sources, 0);
    assert_eq!(kept(&hub), [507, 507], "half each");
    sources.truncate(1);
    hub.tick(now);
    fill(&mut sources, 1);
    assert_eq!(kept(&hub)[0], 1015, "one has it all");
}

#[test]
fn frames_of_a_stream_go_to_whoever_builds_something_of_them() {
    let hub = hub();
    let mut events = hub.events();
    let start = Instant::now();
    let name = hub.name("box", "live", "demo").unwrap();
    assert!(matches!(hub.frames(&name, 1 << 20), Err(HubError::NotLive(_))));
    let mut source = Source::new(&hub, "demo", start);
    for n in 0..60 {
        source.frame(0, n * 40, n % 25 == 0, 1000).unwrap();
        source.frame(1, n * 40, true, 100).unwrap();
    }
    let mut frames = hub.frames(&name, 1 << 20).unwrap();
    let Some(Item::Tracks { tracks, epoch: 1, .. }) = frames.ready() else { panic!("tracks come first") };
    assert_eq!(tracks.len(), 2);
    let Some(Item::Frame(first)) = frames.ready() else { panic!("then frames") };
    assert_eq!((first.dts, first.is_key()), (2000, true), "from the newest key frame on");
    while frames.ready().is_some() {}
    drop(source);
    assert!(matches!(frames.ready(), Some(Item::Left)));
    assert!(attend(&hub, &name, start).is_ok());
    assert_eq!(hub.live(), std::slice::from_ref(&name));
    hub.tick(Instant::now() + Duration::from_secs(11));
    assert!(frames.ready().is_none() && hub.live().is_empty());
    assert!(attend(&hub, &name, start).is_err());
    let told = std::iter::from_fn(|| events.try_recv().ok());
    let told: Vec<_> = told.map(|e| format!("{e:?}").split([' ', '{']).next().unwrap().to_owned()).collect();
    assert_eq!(told, ["Published", "Unpublished", "Ended"]);
}

pub(super) fn attend(hub: &Hub, name: &StreamName, now: Instant) -> Result<Attendance, HubError> {
    hub.attend(hub.admit_now(Action::Play, name, client(ClientKind::HlsPlay))?, now)
}
