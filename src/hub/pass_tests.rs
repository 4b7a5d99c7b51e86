//! A publisher's own transport stream goes through as it is.

use std::time::Duration;

use super::tests::{client, hub};
use super::*;
use crate::media::{Codec, Flags, TrackId};

/// Takes what is passed as it is; of other publishers it gives frames in brackets.
struct Raw;

impl Package for Raw {
    fn start(&mut self, _: &StreamInfo<'_>, _: &mut Parts) {}
    fn config(&mut self, _: &StreamInfo<'_>, _: i64, out: &mut Parts) {
        out.put(b"(config)");
    }
    fn frame(&mut self, _: &StreamInfo<'_>, _: &Track, frame: &Frame, out: &mut Parts) -> Join {
        out.put(format!("({})", frame.dts).as_bytes());
        if frame.is_key() { Join::Here } else { Join::No }
    }
    fn end(&mut self, _: &StreamInfo<'_>, out: &mut Parts) {
        out.put(b"end");
    }
    fn passes(&self) -> bool {
        true
    }
    fn pass(&mut self, pieces: &[Bytes], out: &mut Parts) {
        pieces.iter().for_each(|piece| out.packet(piece.clone()));
    }
}

fn read(hub: &Hub) -> Subscription {
    let name = hub.name("", "live", "a").unwrap();
    let options = SubscribeOptions { key: FeedKey { format: "raw", variant: 0 }, wait: Wait::Forever };
    let admission = hub.admit_now(Action::Play, &name, client(ClientKind::SrtPlay)).unwrap();
    hub.subscribe(admission, options, || Box::new(Raw), Instant::now()).unwrap()
}

fn text(reader: &mut Subscription) -> String {
    let mut text = String::new();
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    loop {
        let mut next = std::pin::pin!(reader.next());
        match next.as_mut().poll(&mut context) {
            std::task::Poll::Ready(Some(parts)) => {
                for part in parts {
                    text += std::str::from_utf8(&part).unwrap();
                }
            }
            _ => return text,
        }
    }
}

struct Encoder {
    publisher: Publisher,
    start: Instant,
}

impl Encoder {
    fn new(hub: &Hub, start: Instant) -> Self {
        let name = hub.name("", "live", "a").unwrap();
        Self { publisher: hub.publish_now(&name, client(ClientKind::SrtPublish), start).unwrap(), start }
    }

    fn at(&self, ms: i64) -> Instant {
        self.start + Duration::from_millis(ms.unsigned_abs())
    }

    fn tracks(&mut self) {
        self.pass("-", 0);
        for (id, codec) in [(0, Codec::H264), (1, Codec::Aac)] {
            self.publisher.set_track(Track::new(TrackId(id), codec)).unwrap();
        }
        self.publisher.set_tables(Bytes::from_static(b"<tables>")).unwrap();
    }

    fn pass(&mut self, text: &str, ms: i64) -> u64 {
        self.publisher.pass(vec![Bytes::copy_from_slice(text.as_bytes())], self.at(ms)).unwrap()
    }

    /// A frame that turned out to begin in piece `begins`.
    fn frame(&mut self, track: u8, ms: i64, key: bool, begins: u64) {
        let flags = if key { Flags::KEY } else { Flags::NONE };
        let data = Bytes::from_static(b"x");
        let frame = Frame { track: TrackId(track), flags, dts: ms, cts: 0, wall_ms: None, data };
        self.publisher.passed_frame(frame, begins, self.at(ms)).unwrap();
    }

    /// Four pieces a group; a frame is known when the next one begins.
    fn group(&mut self, number: i64) {
        let ms = number * 1000;
        let key = self.pass(&format!("K{number}"), ms);
        self.frame(1, ms, true, key);
        self.pass("a", ms + 100);
        self.pass("b", ms + 200);
        self.frame(0, ms, true, key);
        self.pass("c", ms + 300);
        self.frame(0, ms + 300, false, key + 3);
    }
}

#[test]
fn readers_begin_with_tables_and_a_key_frame_and_get_what_came() {
    let hub = hub();
    let mut encoder = Encoder::new(&hub, Instant::now());
    let mut early = read(&hub);
    encoder.tracks();
    encoder.pass("mid-GOP", 0);
    encoder.frame(1, 0, true, 1);
    assert_eq!(text(&mut early), "", "no picture yet");
    encoder.group(1);
    assert_eq!(text(&mut early), "<tables>K1abc");
    encoder.group(2);
    assert_eq!(text(&mut early), "K2abc", "no config in between");
    let mut late = read(&hub);
    assert_eq!(text(&mut late), "<tables>K2abc");
    drop(late);
    drop(early);
    let mut alone = read(&hub);
    assert_eq!(text(&mut alone), "<tables>K2abc", "a feed made anew is seeded");
    encoder.pass("K3", 3000);
    assert_eq!(text(&mut alone), "K3");
    let stats = hub.stats(Instant::now());
    assert_eq!(stats[0].bytes_in, 8 + 2 * 5 + 2, "frames are not counted again");
}

#[test]
fn the_next_publisher_goes_on_with_a_key_frame_whatever_it_sends() {
    let (hub, start) = (hub(), Instant::now());
    let mut encoder = Encoder::new(&hub, start);
    let mut reader = read(&hub);
    encoder.tracks();
    encoder.group(1);
    assert_eq!(text(&mut reader), "<tables>K1abc");
    drop(encoder);
    let mut encoder = Encoder::new(&hub, start + Duration::from_secs(2));
    encoder.tracks();
    encoder.pass("rest of a group", 100);
    encoder.frame(0, 100, false, 1);
    assert_eq!(text(&mut reader), "", "not without a picture");
    encoder.group(1);
    assert_eq!(text(&mut reader), "K1abc");
    drop(encoder);

    let name = hub.name("", "live", "a").unwrap();
    let now = start + Duration::from_secs(5);
    let mut publisher = hub.publish_now(&name, client(ClientKind::FmlePublish), now).unwrap();
    publisher.set_track(Track::new(TrackId(0), Codec::H264)).unwrap();
    publisher.set_track(Track::new(TrackId(1), Codec::Aac)).unwrap();
    let data = Bytes::from_static(b"x");
    let frame = Frame { track: TrackId(0), flags: Flags::KEY, dts: 5, cts: 0, wall_ms: None, data };
    publisher.frame(frame, now).unwrap();
    let got = text(&mut reader);
    assert!(got.starts_with("(config)(") && !got.contains('K'), "{got}");
    drop(publisher);

    let mut encoder = Encoder::new(&hub, start + Duration::from_secs(8));
    encoder.tracks();
    encoder.group(1);
    assert_eq!(text(&mut reader), "K1abc", "and back");
}

#[test]
fn what_nobody_knows_is_passed_after_a_while() {
    let hub = hub();
    let mut encoder = Encoder::new(&hub, Instant::now());
    let mut reader = read(&hub);
    for n in 0..40 {
        encoder.pass(&format!("{n} "), n * 100);
    }
    let got = text(&mut reader);
    assert!(got.starts_with("39 ") || got.starts_with("30 "), "{got}");
}
