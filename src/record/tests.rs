//! Recorders on made-up streams and clocks, and what becomes of their files when they are damaged.

use std::fs;
use std::path::PathBuf;

use bytes::Bytes;
use proptest::prelude::*;

use super::playback::test as playback;
use super::*;
use crate::config::Config;
use crate::hub::{Client, ClientKind, Publisher, Recorder as _};
use crate::id::SessionId;
use crate::media::{Codec, Flags, Frame, Meta, Track, TrackId};

/// A directory, gone with it.
struct Dir(PathBuf);

impl Dir {
    fn new(name: &str) -> Self {
        let dir = std::env::temp_dir().join(format!("rillbox-record-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&dir);
        fs::create_dir_all(&dir).unwrap();
        Self(dir.canonicalize().unwrap())
    }

    fn files(&self) -> Vec<PathBuf> {
        let mut files: Vec<_> = fs::read_dir(&self.0)
            .unwrap()
            .map(|file| file.unwrap().path())
            .filter(|path| path.is_file())
            .collect();
        files.sort();
        files
    }
}

impl Drop for Dir {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn settings(
    dir: &Dir,
    format: RecordFormat,
    change: impl FnOnce(&mut config::Record),
) -> Arc<config::Record> {
    let path = format!("{}/[stream].[timestamp].ts", dir.0.display());
    let mut settings = config::Record { enabled: true, format, path, ..config::Record::default() };
    change(&mut settings);
    Arc::new(settings)
}

/// A track of pictures, and one of sound.
fn tracks() -> Arc<[Track]> {
    let mut vp8 = Track::new(TrackId(0), Codec::Vp8);
    (vp8.facts.width, vp8.facts.height) = (64, 48);
    let mut mp3 = Track::new(TrackId(1), Codec::Mp3);
    (mp3.facts.sample_rate, mp3.facts.channels) = (48_000, 2);
    [vp8, mp3].into()
}

fn frame(track: u8, ms: i64, key: bool) -> Frame {
    let flags = if key || track == 1 { Flags::KEY } else { Flags::NONE };
    let data = Bytes::from(vec![track + 1; 100 + usize::try_from(ms % 50).unwrap()]);
    Frame { track: TrackId(track), flags, dts: ms, cts: 0, wall_ms: None, data }
}

/// A recorder by itself: no thread, no clock.
struct Bench {
    recorder: Recorder,
    registry: Arc<Registry>,
    start: Instant,
}

impl Bench {
    fn new(settings: Arc<config::Record>) -> Self {
        let hub = Hub::new(Shared::default());
        let name = hub.name("", "live", "demo").unwrap();
        let registry = Arc::new(Registry::default());
        let recorder = Recorder::new(name, hub, Arc::clone(&registry), settings);
        let mut bench = Self { recorder, registry, start: Instant::now() };
        bench.tracks();
        bench
    }

    fn tracks(&mut self) {
        let item = Item::Tracks { tracks: tracks(), meta: Arc::new(Meta::default()), epoch: 1, at_ms: 0 };
        self.recorder.item(item, self.start, 0);
    }

    /// Frames of this time, 25 pictures and 40 sounds a second, with a key frame each `gop`.
    fn play(&mut self, from: i64, to: i64, gop: i64) {
        for ms in (from..to).step_by(5) {
            let now = self.start + Duration::from_millis(u64::try_from(ms).unwrap());
            let wall = 1_700_000_000_000 + ms;
            if ms % 40 == 0 {
                self.recorder.item(Item::Frame(frame(0, ms, ms % gop == 0)), now, wall);
            }
            if ms % 25 == 0 {
                self.recorder.item(Item::Frame(frame(1, ms, true)), now, wall);
            }
        }
    }

    fn end(mut self) {
        self.recorder.close(self.start);
        assert!(self.registry.all().iter().all(|status| !matches!(status.state, RecordState::Failed(_))));
    }
}

fn entries(dir: &Dir) -> Vec<catalog::Entry> {
    Catalog::default().scan(std::slice::from_ref(&dir.0), &Registry::default())
}

const FORMATS: [RecordFormat; 3] = [RecordFormat::Flv, RecordFormat::Fmp4, RecordFormat::Mp4];

#[test]
fn files_are_named_by_the_time_of_day_and_follow_each_other() {
    for format in FORMATS {
        let dir = Dir::new("segments");
        let mut bench = Bench::new(settings(&dir, format, |settings| {
            settings.plan = RecordPlan::Segment;
            settings.duration = Duration::from_secs(4);
        }));
        bench.play(0, 10_000, 1000);
        bench.end();
        let found = entries(&dir);
        let starts: Vec<i64> = found.iter().map(|entry| entry.ident.start_ms - 1_700_000_000_000).collect();
        assert_eq!(starts.len(), 3, "{format:?}");
        assert!(
            starts[0] == 0 && starts[1].abs_diff(4000) < 50 && starts[2].abs_diff(8000) < 50,
            "{starts:?}"
        );
        for two in found.windows(2) {
            assert_eq!(two[0].end_ms(), two[1].ident.start_ms, "no gap");
        }
        assert!(found.iter().all(|entry| !entry.is_broken()));
    }
}

#[test]
fn tables_that_outgrow_their_space_make_the_file_anew() {
    let dir = Dir::new("anew");
    let mut bench = Bench::new(settings(&dir, RecordFormat::Mp4, |settings| {
        settings.plan = RecordPlan::Segment;
        settings.duration = Duration::from_secs(1);
        settings.write_size = config::Size::kib(64);
    }));
    // No second key frame comes: the file gets far longer than was asked for.
    bench.play(0, 1_200_000, 10_000_000);
    bench.end();
    let found = entries(&dir);
    assert_eq!(found.len(), 1, "{:?}", dir.files());
    assert_eq!(found[0].duration_ms(), 1_200_000);
    assert!(found[0].ident.body > 64 * 1024 + 200, "its fragments moved");
    let (pieces, frames) = playback::read_all(&found[0]).unwrap();
    assert!(pieces > 500 && frames == 30_000 + 48_000, "{pieces} pieces, {frames} frames");
    // As others read it.
    let tracks = recover::tracks_of(&fs::File::open(&found[0].path).unwrap(), found[0].bytes).unwrap();
    assert_eq!(tracks.len(), 2);
}

#[test]
fn cut_anywhere_a_file_is_mended() {
    for format in FORMATS {
        let dir = Dir::new("cut");
        let mut bench = Bench::new(settings(&dir, format, |settings| {
            settings.plan = RecordPlan::Segment;
            settings.duration = Duration::from_secs(60);
        }));
        bench.play(0, 8000, 1000);
        // The machine dies: nothing is closed.
        let left = dir.files();
        let [file] = &left[..] else { panic!("{left:?}") };
        let bytes = fs::read(file).unwrap();
        drop(bench);
        let front = if format == RecordFormat::Mp4 { 66_000 } else { 1500 };
        for cut in (front..bytes.len()).step_by(bytes.len() / 23).chain([bytes.len()]) {
            fs::remove_dir_all(&dir.0).unwrap();
            fs::create_dir_all(&dir.0).unwrap();
            fs::write(file, &bytes[..cut]).unwrap();
            let broken = entries(&dir);
            assert!(broken[0].is_broken());
            assert!(recover::recover(&broken[0], &Registry::default(), &Hub::new(Shared::default()), true));
            let mended = entries(&dir);
            let Some(entry) = mended.first() else { continue };
            assert!(!entry.is_broken());
            let (pieces, frames) = playback::read_all(entry).unwrap();
            println!("{format:?} cut at {cut}: {} ms, {pieces} pieces, {frames} frames", entry.duration_ms());
            // A second has 65 frames.
            let least = (entry.duration_ms() / 1000) as usize * 60;
            assert!(
                frames >= least,
                "{format:?} cut at {cut}: {frames} frames of {} ms",
                entry.duration_ms()
            );
            // Done once, it is done.
            assert!(!mended[0].is_broken());
        }
        let last = entries(&dir);
        assert!(last[0].duration_ms() >= 6000, "{format:?}: {} ms", last[0].duration_ms());
    }
}

#[test]
fn a_slow_disk_is_told_once_and_counted() {
    let dir = Dir::new("slow");
    let mut bench = Bench::new(settings(&dir, RecordFormat::Fmp4, |_| ()));
    bench.play(0, 2000, 1000);
    let now = bench.start;
    bench.recorder.item(Item::Lagged(30), now, 0);
    bench.recorder.item(Item::Lagged(12), now, 0);
    bench.play(4000, 6000, 1000);
    assert_eq!(bench.registry.all()[0].lost, 42);
    bench.end();
    let found = entries(&dir);
    assert_eq!(found[0].duration_ms(), 6000, "times are the stream's: the gap stays");
}

#[test]
fn what_cannot_be_written_is_told_and_tried_again() {
    let dir = Dir::new("refused");
    let blocked = dir.0.join("blocked");
    fs::write(&blocked, "a file where a directory has to be").unwrap();
    let mut bench = Bench::new(settings(&dir, RecordFormat::Fmp4, |settings| {
        settings.path = format!("{}/[stream].mp4", blocked.display());
        settings.retry = Duration::from_secs(3);
    }));
    bench.play(0, 2500, 1000);
    let status = &bench.registry.all()[0];
    assert!(matches!(&status.state, RecordState::Failed(_)) && status.lost > 0, "{status:?}");
    fs::remove_file(&blocked).unwrap();
    bench.play(2500, 6500, 1000);
    assert!(
        matches!(&bench.registry.all()[0].state, RecordState::Recording(path) if path.starts_with(&blocked))
    );
    bench.end();
    assert_eq!(fs::read_dir(&blocked).unwrap().count(), 1);
}

fn publish(hub: &Hub, stream: &str) -> Publisher {
    let name = hub.name("", "live", stream).unwrap();
    let client = Client::new(SessionId::next(), ClientKind::FmlePublish, "127.0.0.1:1".parse().unwrap());
    let mut publisher = hub.publish_now(&name, client, Instant::now()).unwrap();
    for track in tracks().iter() {
        publisher.set_track(track.clone()).unwrap();
    }
    publisher
}

async fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    for _ in 0..1000 {
        if is_so() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("waited in vain: {what}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn recordings_are_started_and_stopped_by_name() {
    let dir = Dir::new("api");
    let mut config = Config::default();
    let record = settings(&dir, RecordFormat::Fmp4, |settings| settings.plan = RecordPlan::Api);
    config.vhost.set_default(|vhost| vhost.record = config::Record::clone(&record));
    let config = Shared::new(config);
    let hub = Hub::new(config.clone());
    let records = Records::new(hub.clone(), config.clone());
    let mut events = hub.events();
    tokio::spawn(records.clone().run());
    let mut publisher = publish(&hub, "demo");
    let name = hub.name("", "live", "demo").unwrap();
    let mut ms = 0;
    let mut play = |publisher: &mut Publisher| {
        for _ in 0..50 {
            publisher.frame(frame(0, ms, ms % 400 == 0), Instant::now()).unwrap();
            publisher.frame(frame(1, ms, true), Instant::now()).unwrap();
            ms += 40;
        }
    };
    play(&mut publisher);
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert!(dir.files().is_empty() && records.status().is_empty(), "nobody asked");

    records.start(&name).unwrap();
    until("a file", || dir.files().len() == 1).await;
    play(&mut publisher);
    until("it being told", || {
        records.status().first().is_some_and(|status| matches!(status.state, RecordState::Recording(_)))
    })
    .await;
    records.stop(&name);
    until("its end", || !records.busy()).await;
    let made = loop {
        if let Event::Recorded(made) = events.recv().await.unwrap() {
            break made;
        }
    };
    assert_eq!((&made.name, &made.file), (&name, &dir.files()[0]));
    assert!(made.bytes > 5000 && made.duration > Duration::from_secs(1) && made.client.is_some(), "{made:?}");
    play(&mut publisher);
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert_eq!(dir.files().len(), 1, "stopped");

    records.start(&name).unwrap();
    until("another file", || dir.files().len() == 2).await;
    // The server stops: the file is closed.
    records.shut_down();
    hub.stop();
    until("its end", || !records.busy()).await;
    assert!(entries(&dir).iter().all(|entry| !entry.is_broken()));

    let mut other = Config::clone(&config.current());
    other.vhost.set_default(|vhost| vhost.record.enabled = false);
    config.replace(other);
    assert_eq!(records.start(&name), Err(RecordError::Disabled(name)));
}

/// A recording of a format, with a byte or some of it made others.
fn damaged(format: RecordFormat, damage: &[(usize, u8)], cut: usize) {
    let dir = Dir::new(&format!("damaged-{}-{:?}", format_name(format), std::thread::current().id()));
    let mut bench = Bench::new(settings(&dir, format, |settings| {
        settings.plan = RecordPlan::Segment;
        settings.duration = Duration::from_secs(1);
    }));
    bench.play(0, 1000, 500);
    bench.end();
    let [file]: [PathBuf; 1] = dir.files().try_into().unwrap();
    let mut bytes = fs::read(&file).unwrap();
    // Most of it is free space.
    let skip = if format == RecordFormat::Mp4 { 60_000 } else { 0 };
    for (at, value) in damage {
        let at = if at % 2 == 0 { at / 2 % 2000 } else { skip + at % (bytes.len() - skip) };
        if let Some(byte) = bytes.get_mut(at) {
            *byte = *value;
        }
    }
    bytes.truncate(bytes.len().saturating_sub(cut));
    fs::write(&file, &bytes).unwrap();
    for entry in entries(&dir) {
        let _ = playback::read_all(&entry);
        let _ = playback::movie(&entry);
        let broken =
            catalog::Entry { ident: ident::Ident { duration_ms: None, ..entry.ident.clone() }, ..entry };
        recover::recover(&broken, &Registry::default(), &Hub::new(Shared::default()), true);
    }
    for entry in entries(&dir) {
        let _ = playback::read_all(&entry);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn damaged_files_do_no_harm(
        which in 0..FORMATS.len(),
        damage in proptest::collection::vec((any::<usize>(), any::<u8>()), 0..12),
        cut in 0..3000_usize,
    ) {
        damaged(FORMATS[which], &damage, cut);
    }
}
