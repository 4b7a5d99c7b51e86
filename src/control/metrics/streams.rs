//! Figures of streams: of each for the first `metrics.max_streams`, of the others together.

use std::collections::HashMap;

use super::page::{Kind, Page, labels};
use crate::hub::{ClientKind, StreamStats};
use crate::media::Kind as Media;

/// The most bytes that streams take on a page, whatever their names are.
const MOST_BYTES: usize = 8 * 1024 * 1024;
/// About what one stream takes beside its labels, and how often these stand there.
const PER_SAMPLE: usize = 50;
const SAMPLES: usize = 15;

/// What is summed up of streams, all counters.
const COUNTERS: usize = 7;
type Counters = [u64; COUNTERS];

/// What the streams without figures of their own have done since they lost them, and what they had done before. A sum of what is
/// there now would fall when one of them ends.
#[derive(Debug, Default)]
pub(super) struct Others {
    known: HashMap<u64, Counters>,
    sum: Counters,
}

impl Others {
    /// Adds what these have done since the last time.
    fn add(&mut self, streams: &[StreamStats]) {
        let before = std::mem::take(&mut self.known);
        for stream in streams {
            let now = counters(stream);
            let last = before.get(&stream.number).copied().unwrap_or_default();
            for ((sum, now), last) in self.sum.iter_mut().zip(now).zip(last) {
                *sum = sum.saturating_add(now.saturating_sub(last));
            }
            self.known.insert(stream.number, now);
        }
    }
}

fn counters(stream: &StreamStats) -> Counters {
    [
        stream.bytes_in,
        stream.bytes_out,
        stream.video_frames,
        stream.audio_frames,
        stream.frames_dropped,
        stream.reader_drops,
        stream.lag_events,
    ]
}

/// A line of the page: a stream, or all others.
struct Row {
    labels: String,
    counters: Counters,
    /// Of all others: how many of them there are.
    published: usize,
    live_seconds: u64,
    readers: Vec<(ClientKind, u32)>,
    gop_ms: u32,
    ring_bytes: usize,
    kbps: (u64, u64),
}

/// Writes them. `streams` come in any order; those that are known longest have figures of their own.
pub(super) fn write(page: &mut Page, mut streams: Vec<StreamStats>, most: usize, others: &mut Others) {
    streams.sort_by_key(|stream| stream.number);
    let names: Vec<String> = streams.iter().take(most).map(names).collect();
    let mut bytes = 0_usize;
    let fits = names.iter().take_while(|labels| {
        bytes = bytes.saturating_add((labels.len() + PER_SAMPLE) * SAMPLES);
        bytes <= MOST_BYTES
    });
    let count = fits.count();
    let rest = streams.split_off(count);
    others.add(&rest);
    let mut rows: Vec<Row> =
        streams.into_iter().zip(names).map(|(stream, labels)| row(stream, labels)).collect();
    if !rest.is_empty() || others.sum != [0; COUNTERS] {
        rows.push(together(&rest, others.sum));
    }
    gauge(page, &rows, "rillbox_stream_published", "Publishers of the stream.", |row| row.published as u64);
    let about = "Seconds for which the stream has been published without a break.";
    gauge(page, &rows, "rillbox_stream_live_seconds", about, |row| row.live_seconds);
    page.family("rillbox_stream_readers", Kind::Gauge, "Readers of the stream, by protocol.");
    for row in &rows {
        for (kind, count) in row.readers.iter().filter(|(_, count)| *count > 0) {
            page.sample(&format!("{},protocol=\"{}\"", row.labels, kind.as_str()), count);
        }
    }
    let mut counter = |name, about, place: usize| {
        page.family(name, Kind::Counter, about);
        for row in &rows {
            page.sample(&row.labels, row.counters.get(place).copied().unwrap_or(0));
        }
    };
    counter("rillbox_stream_received_bytes_total", "Media bytes from publishers.", 0);
    counter("rillbox_stream_sent_bytes_total", "Bytes given to readers.", 1);
    counter("rillbox_stream_video_frames_total", "Video frames from publishers.", 2);
    counter("rillbox_stream_audio_frames_total", "Audio frames from publishers.", 3);
    let about =
        "Frames left out: of unknown tracks, or before the first key frame of a publisher that came back.";
    counter("rillbox_stream_frames_dropped_total", about, 4);
    counter(
        "rillbox_stream_reader_drops_total",
        "Pieces that readers skipped because they were too slow.",
        5,
    );
    counter(
        "rillbox_stream_reader_lags_total",
        "How often a reader was too slow and skipped to a key frame.",
        6,
    );
    let name = "rillbox_stream_key_frame_interval_seconds";
    page.family(name, Kind::Gauge, "Time between the last two key frames.");
    for row in rows.iter().filter(|row| row.gop_ms > 0) {
        page.sample(&row.labels, f64::from(row.gop_ms) / 1000.0);
    }
    let about = "Memory that the stream's past takes, kept for new readers.";
    gauge(page, &rows, "rillbox_stream_ring_bytes", about, |row| row.ring_bytes as u64);
    let about = "Bytes received in a second, over 30 seconds.";
    gauge(page, &rows, "rillbox_stream_received_bytes_per_second", about, |row| row.kbps.0 * 125);
    let about = "Bytes given to readers in a second, over 30 seconds.";
    gauge(page, &rows, "rillbox_stream_sent_bytes_per_second", about, |row| row.kbps.1 * 125);
}

fn gauge(page: &mut Page, rows: &[Row], name: &'static str, about: &str, value: impl Fn(&Row) -> u64) {
    page.family(name, Kind::Gauge, about);
    for row in rows {
        page.sample(&row.labels, value(row));
    }
}

fn names(stream: &StreamStats) -> String {
    let name = &stream.name;
    labels(&[("vhost", &name.vhost), ("app", &name.app), ("stream", &name.stream)])
}

fn row(stream: StreamStats, labels: String) -> Row {
    let video = stream.tracks.iter().any(|track| track.codec.kind() == Media::Video);
    Row {
        labels,
        counters: counters(&stream),
        published: usize::from(stream.publisher.is_some()),
        live_seconds: if stream.publisher.is_some() { stream.live.as_secs() } else { 0 },
        gop_ms: if video { stream.gop_ms } else { 0 },
        ring_bytes: stream.ring_bytes,
        kbps: (stream.kbps_in, stream.kbps_out),
        readers: stream.readers,
    }
}

fn together(streams: &[StreamStats], counters: Counters) -> Row {
    let other = "other";
    let mut row = Row {
        labels: labels(&[("vhost", other), ("app", other), ("stream", other)]),
        counters,
        published: 0,
        live_seconds: 0,
        readers: ClientKind::ALL.iter().map(|kind| (*kind, 0)).collect(),
        gop_ms: 0,
        ring_bytes: 0,
        kbps: (0, 0),
    };
    for stream in streams {
        row.published += usize::from(stream.publisher.is_some());
        for (kind, count) in &stream.readers {
            if let Some((_, sum)) = row.readers.iter_mut().find(|(known, _)| known == kind) {
                *sum = sum.saturating_add(*count);
            }
        }
        row.ring_bytes = row.ring_bytes.saturating_add(stream.ring_bytes);
        row.kbps.0 = row.kbps.0.saturating_add(stream.kbps_in);
        row.kbps.1 = row.kbps.1.saturating_add(stream.kbps_out);
    }
    row
}
