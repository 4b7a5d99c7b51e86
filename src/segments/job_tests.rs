//! Jobs with files, on demand, and with those who wait for what is being made.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::tests::{Source, house, wait};
use super::*;
use crate::config::{Encryption, OnError, Variant};
use crate::hub::Event;

/// A directory of its own.
fn directory(name: &str) -> PathBuf {
    let dir = std::env::temp_dir().join(format!("rillbox-{name}-{}", std::process::id()));
    let _ = std::fs::remove_dir_all(&dir);
    std::fs::create_dir_all(&dir).unwrap();
    dir
}

/// The files below a directory, without it.
fn files(dir: &Path) -> Vec<String> {
    let mut all = Vec::new();
    let mut dirs = vec![dir.to_owned()];
    while let Some(next) = dirs.pop() {
        for entry in std::fs::read_dir(next).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                dirs.push(path);
            } else {
                all.push(path.strip_prefix(dir).unwrap().to_str().unwrap().to_owned());
            }
        }
    }
    all.sort();
    all
}

async fn until(what: &str, ok: impl Fn() -> bool) {
    let start = Instant::now();
    while !ok() {
        assert!(start.elapsed() < Duration::from_secs(30), "{what} never happened");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Names of segments, one a line.
fn playlists(name: &crate::hub::StreamName, state: &Arc<State>) -> Vec<(String, String)> {
    let line = |s: &Arc<Segment>| format!("{}{}\n", if s.gap { "gap " } else { "" }, s.name);
    let lines = state.main().map(|main| main.segments.iter().map(line).collect());
    vec![(format!("{}/{}.m3u8", name.app, name.stream), lines.unwrap_or_default())]
}

#[tokio::test]
async fn files_come_and_go() {
    let dir = directory("files");
    let (hub, segments) = house(|hls| {
        hls.variant = Variant::Ts;
        hls.path = Some(dir.clone());
        hls.window = Duration::from_secs(6);
        hls.dispose = Duration::from_millis(300);
        hls.encryption = Encryption::Aes128;
    });
    segments.set_playlists(Arc::new(playlists));
    let mut events = hub.events();
    let mut source = Source::new(&hub, "disk");
    let presentation = segments.open(&source.name, Want::Hls).unwrap();
    let is_file = |segment: &Arc<Segment>| matches!(segment.data, Data::File { .. });
    for n in 0..20 {
        source.send(n * 2000, n * 2000 + 2000);
        wait(&presentation, |state| {
            let number = state.main().and_then(|main| main.segments.last()).map(|s| (s.number, is_file(s)));
            n == 0 || number == Some((n.unsigned_abs() - 1, true))
        })
        .await;
    }
    until("a playlist", || {
        std::fs::read_to_string(dir.join("live/disk.m3u8"))
            .is_ok_and(|text| text == "live/disk-16.ts\nlive/disk-17.ts\nlive/disk-18.ts\n")
    })
    .await;
    // Three in the playlist, three that linger; keys of 10 and 15.
    until("old files to go", || files(&dir).len() == 9).await;
    let names = files(&dir);
    assert_eq!((names[0].as_str(), names[1].as_str()), ("live/disk-10.key", "live/disk-13.ts"));
    let Some(Lookup::Ready(found)) = segments.resource(&source.name.vhost, "live/disk-18.ts") else {
        panic!("not there");
    };
    let Data::File { path, len } = found.data else { panic!("not a file") };
    assert_eq!(std::fs::metadata(&path).unwrap().len(), len);
    let mut told = 0;
    while let Ok(event) = events.try_recv() {
        if let Event::Segment(made) = event {
            assert_eq!(made.file, Some(dir.join(format!("live/disk-{told}.ts"))));
            assert_eq!(made.playlist, Some(dir.join("live/disk.m3u8")));
            told += 1;
        }
    }
    assert_eq!(told, 19);

    // The last one is written, too; then all of it goes.
    drop(source);
    hub.stop();
    until("the end", || segments.is_idle()).await;
    assert!(std::fs::read_to_string(dir.join("live/disk.m3u8")).unwrap().ends_with("disk-19.ts\n"));
    until("nothing to be left", || files(&dir).is_empty()).await;
    assert!(segments.resource("__defaultVhost__", "live/disk-19.ts").is_none());
    std::fs::remove_dir_all(&dir).unwrap();
}

#[tokio::test]
async fn a_disk_that_fails_harms_nobody() {
    let dir = directory("fails");
    // A file is where the directory should be: as good as read-only, also for root.
    std::fs::write(dir.join("live"), b"in the way").unwrap();
    for on_error in [OnError::Continue, OnError::Ignore, OnError::Disconnect] {
        let (hub, segments) = house(|hls| {
            hls.variant = Variant::Fmp4;
            hls.path = Some(dir.clone());
            hls.on_error = on_error;
        });
        segments.set_playlists(Arc::new(playlists));
        let mut source = Source::new(&hub, "fails");
        let presentation = segments.open(&source.name, Want::Hls).unwrap();
        source.send(0, 5000);
        until("an error", || presentation.error().is_some()).await;
        let text = presentation.error().unwrap();
        assert!(text.starts_with(&format!("can't be written below {}", dir.display())), "{text}");
        // What is in memory can be watched.
        wait(&presentation, |state| state.main().is_some_and(|main| main.segments.len() == 2)).await;
        match on_error {
            OnError::Disconnect => {
                let why = tokio::time::timeout(Duration::from_secs(10), source.publisher.ended()).await;
                assert_eq!(why.unwrap(), crate::hub::Ended::Kicked);
            }
            OnError::Ignore => {
                source.send(5000, 9000);
                tokio::time::sleep(Duration::from_millis(200)).await;
                assert_eq!(presentation.state().main().unwrap().segments.len(), 2);
            }
            OnError::Continue => {
                std::fs::remove_file(dir.join("live")).unwrap();
                source.send(5000, 9000);
                until("it to recover", || presentation.error().is_none()).await;
                // Sound of the one before may come first, which is the end of the trouble.
                let written = || files(&dir).contains(&"live/fails-3-v0.m4s".to_owned());
                until("a file", written).await;
                // Playlists on disk have gaps for what could not be written.
                let text = || std::fs::read_to_string(dir.join("live/fails.m3u8")).unwrap_or_default();
                until("a playlist", || text().contains("\nlive/fails-3-v0.m4s\n")).await;
                for (line, number) in text().lines().zip(0..) {
                    assert_eq!(line.trim_start_matches("gap "), format!("live/fails-{number}-v0.m4s"));
                }
                std::fs::remove_dir_all(dir.join("live")).unwrap();
                std::fs::write(dir.join("live"), b"in the way").unwrap();
            }
        }
        segments.stop();
        hub.stop();
        until("the end", || segments.is_idle()).await;
    }
    std::fs::remove_dir_all(&dir).unwrap();
}

#[tokio::test]
async fn on_demand_begins_and_stops_with_viewers() {
    let (hub, segments) = house(|hls| {
        hls.variant = Variant::Ts;
        hls.on_demand = true;
        hls.window = Duration::from_millis(400);
    });
    let running = tokio::spawn(segments.clone().run());
    let mut source = Source::new(&hub, "demand");
    source.send(0, 3000);
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert!(segments.is_idle(), "nobody has asked");
    let presentation = segments.open(&source.name, Want::Hls).unwrap();
    assert!(!segments.is_idle());
    source.send(3000, 6000);
    let state = wait(&presentation, |state| state.main().is_some_and(|main| main.segments.len() == 1)).await;
    assert_eq!(state.main().unwrap().segments[0].number, 0);
    until("it to stop", || segments.is_idle()).await;
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert!(segments.resource(&source.name.vhost, "live/demand-0.ts").is_none());
    // Another viewer: names are not given twice.
    let presentation = segments.open(&source.name, Want::Hls).unwrap();
    source.send(6000, 9000);
    let state = wait(&presentation, |state| state.main().is_some_and(|main| !main.segments.is_empty())).await;
    assert!(state.main().unwrap().segments[0].number > 0);
    running.abort();
}

#[tokio::test]
async fn growing_segments_and_hinted_parts_can_be_waited_for() {
    let (hub, segments) = house(|hls| hls.variant = Variant::LowLatency);
    let mut source = Source::new(&hub, "ll");
    let presentation = segments.open(&source.name, Want::Hls).unwrap();
    let vhost = source.name.vhost.clone();
    source.send(0, 2500);
    let growing = |state: &State| state.main().and_then(|main| main.growing.clone());
    let state = wait(&presentation, |state| growing(state).is_some_and(|g| g.parts.len() == 2)).await;
    let (part, segment) =
        (growing(&state).unwrap().next_part.unwrap(), growing(&state).unwrap().name.unwrap());
    assert_eq!((&*part, &*segment), ("live/ll-1-v0.2.m4s", "live/ll-1-v0.m4s"));
    let Some(Lookup::Soon(hinted)) = segments.resource(&vhost, &part) else { panic!("not hinted") };
    let Some(Lookup::Soon(mut whole)) = segments.resource(&vhost, &segment) else { panic!("not hinted") };
    let Some(Lookup::Ready(_)) = segments.resource(&vhost, "live/ll-1-v0.1.m4s") else { panic!("no part") };
    assert!(segments.resource(&vhost, "live/ll-1-v0.7.m4s").is_none(), "not hinted yet");
    let waiting = tokio::spawn(async move { hinted.ready().await });
    let reading = tokio::spawn(async move {
        let (mut bytes, mut times) = (Vec::new(), 0);
        while let Some(chunks) = whole.next().await {
            bytes.extend(chunks.concat());
            times += 1;
        }
        (bytes, times)
    });
    tokio::task::yield_now().await;
    source.send(2500, 3200);
    let found = waiting.await.unwrap().unwrap();
    assert_eq!(found.content_type, "video/iso.segment");
    source.send(3200, 5000);
    let (bytes, times) = reading.await.unwrap();
    assert!(times > 1, "it came in pieces");
    let Some(Lookup::Ready(resource)) = segments.resource(&vhost, &segment) else { panic!("not there") };
    assert_eq!(resource.data.chunks().concat(), bytes);
    let state = presentation.state();
    let second = &state.main().unwrap().segments[1];
    assert_eq!((second.parts.len(), state.part_target), (10, Some(Duration::from_millis(201))));
    // A part that will not be: the segment ended before it.
    let growing = growing(&state).unwrap();
    let Some(Lookup::Soon(never)) = segments.resource(&vhost, growing.next_part.as_deref().unwrap()) else {
        panic!("not hinted")
    };
    let waiting = tokio::spawn(async move { never.ready().await });
    tokio::task::yield_now().await;
    drop(source);
    hub.stop();
    wait(&presentation, |state| state.ended).await;
    // What there was of it came, or it did not: nobody hangs.
    let _ = tokio::time::timeout(Duration::from_secs(5), waiting).await.unwrap();
}

#[tokio::test]
async fn another_publisher_goes_on_with_the_numbers() {
    let (hub, segments) = house(|hls| hls.variant = Variant::Auto);
    let mut source = Source::new(&hub, "again");
    let presentation = segments.open(&source.name, Want::Hls).unwrap();
    source.send(0, 5000);
    wait(&presentation, |state| state.main().is_some_and(|main| main.segments.len() == 2)).await;
    let name = source.name.clone();
    drop(source);
    let state = wait(&presentation, |state| state.main().is_some_and(|main| main.segments.len() == 3)).await;
    assert!(!state.ended, "another may come");
    let mut source = Source::new(&hub, "again");
    source.send(0, 3000);
    let state = wait(&presentation, |state| state.main().is_some_and(|main| main.segments.len() == 4)).await;
    let main = state.main().unwrap();
    assert_eq!(main.segments[3].number, 3);
    assert!(main.segments[3].discontinuity && main.segments[3].discontinuity_sequence == 1);
    assert!(!main.segments[2].discontinuity && main.segments[2].duration == Duration::from_secs(1));
    assert_eq!(segments.open(&name, Want::Hls).unwrap().state().run, 1);
}

#[tokio::test]
async fn streams_that_come_again_leave_nothing_behind() {
    let (hub, segments) = house(|hls| {
        hls.variant = Variant::Fmp4;
        hls.encryption = Encryption::Cbcs;
    });
    let mut most = 0;
    for n in 0..6u64 {
        let mut source = Source::new(&hub, "often");
        let presentation = segments.open(&source.name, Want::Hls).unwrap();
        source.send(0, 9000);
        let state = wait(&presentation, |state| {
            state.run == n + 1 && state.main().is_some_and(|main| main.segments.len() == 4)
        })
        .await;
        let main = state.main().unwrap();
        assert_eq!((main.segments[0].number, main.segments[0].discontinuity_sequence), (n * 5, 0));
        drop(source);
        // Past the grace period.
        hub.tick(Instant::now() + Duration::from_secs(11));
        wait(&presentation, |state| state.ended).await;
        until("it to end", || segments.is_idle()).await;
        if n > 1 {
            assert!(most == 0 || segments.names() <= most, "{} names, {most} before", segments.names());
            most = segments.names();
        }
    }
    assert!(most < 60, "{most}");
}
