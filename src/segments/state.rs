//! What a stream's segments are at one moment: immutable, shared, replaced whenever something is added.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use super::Form;
use super::heat::Heat;
use crate::media::{Kind, Track};
#[cfg(feature = "http")]
use crate::net::http::Body;

/// The segments of a stream in one form, as they are at one moment.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct State {
    /// Grows with each change.
    pub version: u64,
    /// What the segments are. With `variant = "auto"` another publisher may change it.
    pub form: Form,
    /// The renditions, the main one first; empty until it is known which tracks there are.
    pub renditions: Vec<Rendition>,
    /// Whole seconds that no segment is longer than (rounded to the nearest, RFC 8216 4.3.3.1). Only grows.
    pub target: Duration,
    /// Low latency: what no part is longer than. It is known when the first segment is complete, whose parts are not told.
    /// May grow with streams whose frames come irregularly; then no older parts are told.
    pub part_target: Option<Duration>,
    /// What is to be added to milliseconds on the stream's line to have UTC in milliseconds since 1970.
    pub clock_ms: i64,
    /// Counts how often the stream has begun: its line starts anew, and earlier segments are not told any more.
    pub run: u64,
    /// Whether the stream has ended: nothing will be added.
    pub ended: bool,
}

impl State {
    /// The rendition that players start with: the first of video, without video the first of audio.
    #[must_use]
    pub fn main(&self) -> Option<&Rendition> {
        self.renditions.first()
    }

    /// The rendition of an id.
    #[must_use]
    pub fn rendition(&self, id: &str) -> Option<&Rendition> {
        self.renditions.iter().find(|rendition| &*rendition.id == id)
    }
}

/// One track, or the main tracks muxed: what a media playlist (HLS) or a Representation (DASH) is of.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Rendition {
    /// `main` in [`Form::Ts`]; `v0`, `a1` by the track otherwise. Stays the same over publishers where the tracks do.
    pub id: Arc<str>,
    /// Video if there is any in it, else audio.
    pub kind: Kind,
    /// What is in it.
    pub tracks: Arc<[Track]>,
    /// RFC 6381 codec strings, with commas in between; tracks without one are left out.
    pub codecs: Arc<str>,
    /// ISO 639-2 language of its first track, `und` where unknown.
    pub language: [u8; 3],
    /// Bits per second, measured over the segments that are told. 0 before the first.
    pub bandwidth: Bandwidth,
    /// Pictures per second in thousandths: as the codec's config says, else measured.
    pub frame_rate: Option<u32>,
    /// Ticks per second of the times of its segments and parts.
    pub timescale: u32,
    /// Complete segments, the oldest first. Their numbers are contiguous.
    pub segments: Arc<[Arc<Segment>]>,
    /// The segment that grows.
    pub growing: Option<Growing>,
    /// The discontinuity sequence of the segment that grows, and of whatever comes next.
    pub discontinuity_sequence: u64,
}

impl Rendition {
    /// Width and height of the first video track, where known.
    #[must_use]
    pub fn resolution(&self) -> Option<(u32, u32)> {
        let track = self.tracks.iter().find(|track| track.kind() == Kind::Video)?;
        let (width, height) = (track.facts.width, track.facts.height);
        (width > 0 && height > 0).then_some((width, height))
    }

    /// The newest segments that together last `window` at least (all, if they don't).
    #[must_use]
    pub fn window(&self, window: Duration) -> &[Arc<Segment>] {
        let mut sum = Duration::ZERO;
        let older = self.segments.iter().rev().take_while(|segment| {
            let enough = sum >= window;
            sum += segment.duration;
            !enough
        });
        let start = self.segments.len() - older.count();
        self.segments.get(start..).unwrap_or_default()
    }
}

/// How many bits a second of a rendition has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Bandwidth {
    /// Over all its segments.
    pub average: u64,
    /// Of the segment with the most.
    pub peak: u64,
}

/// A complete segment.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Segment {
    /// Its media sequence number, the same in all renditions.
    pub number: u64,
    /// It does not go on where the one before ended: another publisher, clock or coding.
    pub discontinuity: bool,
    /// How many discontinuities came before it, with its own.
    pub discontinuity_sequence: u64,
    /// Whether a decoder can start with it.
    pub independent: bool,
    /// There is nothing in it: the rendition's track was silent. Its name leads nowhere.
    pub gap: bool,
    /// Where it begins on the stream's line, in ticks of `timescale`. In fMP4 this is its `tfdt`.
    pub start: i64,
    /// How long it is, in ticks; never 0.
    pub ticks: u64,
    /// Ticks per second.
    pub timescale: u32,
    /// How long it is.
    pub duration: Duration,
    /// When it begins, in milliseconds since 1970, UTC.
    pub wall_ms: i64,
    /// The name it is given out by, e.g. `live/demo-12.ts`: below the vhost's root, not percent-encoded.
    pub name: Arc<str>,
    /// The parts it was given out in, while clients may want them.
    pub parts: Arc<[Arc<Part>]>,
    /// What a decoder needs before it; `None` in [`Form::Ts`].
    pub init: Option<Arc<Init>>,
    /// What it is encrypted with.
    pub key: Option<Arc<Key>>,
    /// Its bytes.
    pub data: Data,
}

/// A segment that is not complete yet.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Growing {
    /// As of [`Segment`].
    pub number: u64,
    /// As of [`Segment`].
    pub discontinuity: bool,
    /// As of [`Segment`].
    pub start: i64,
    /// As of [`Segment`].
    pub wall_ms: i64,
    /// As of [`Segment`]; `None` where its name tells what is not known yet (its duration).
    pub name: Option<Arc<str>>,
    /// As of [`Segment`].
    pub init: Option<Arc<Init>>,
    /// As of [`Segment`].
    pub key: Option<Arc<Key>>,
    /// Its parts so far; none unless the variant is low-latency.
    pub parts: Arc<[Arc<Part>]>,
    /// Low latency: the name of the next part, which can be asked for already.
    pub next_part: Option<Arc<str>>,
}

/// A piece of a segment, given out before the segment is complete.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Part {
    /// Its place in the segment, from 0.
    pub number: u32,
    /// Where it begins, in ticks of the rendition.
    pub start: i64,
    /// How long it is, in ticks; never 0.
    pub ticks: u64,
    /// How long it is: at most [`State::part_target`], and at least 85 % of that unless it is the segment's last.
    pub duration: Duration,
    /// Whether a decoder can start with it.
    pub independent: bool,
    /// The name it is given out by, e.g. `live/demo-12-v0.3.m4s`.
    pub name: Arc<str>,
    /// Its bytes; always in memory.
    pub data: Data,
}

/// What a decoder needs before segments of fMP4.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Init {
    /// The name it is given out by, e.g. `live/demo-v0-0.mp4`. Another content has another name.
    pub name: Arc<str>,
    /// `ftyp` and `moov`.
    pub data: Data,
}

/// What segments are encrypted with.
#[derive(Clone)]
#[non_exhaustive]
pub struct Key {
    /// How.
    pub method: KeyMethod,
    /// What playlists say: a name as those of segments, or what `key_url` makes of it.
    pub uri: Arc<str>,
    /// Whether `uri` is a name that this server gives out.
    pub ours: bool,
    /// The initialisation vector of the first block.
    pub iv: [u8; 16],
    /// Which key it is, to players of MP4.
    pub(super) key_id: [u8; 16],
    /// The key.
    pub(super) secret: [u8; 16],
}

impl std::fmt::Debug for Key {
    // Logs don't tell secrets.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Key").field("method", &self.method).field("uri", &self.uri).finish_non_exhaustive()
    }
}

/// How segments are encrypted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum KeyMethod {
    /// Whole segments: `METHOD=AES-128`.
    Aes128,
    /// Samples of fMP4 by scheme cbcs: `METHOD=SAMPLE-AES`.
    Cbcs,
}

/// The bytes of something that is given out. A clone shares them.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum Data {
    /// In memory, in pieces.
    Memory {
        /// The pieces, in order.
        chunks: Arc<[Bytes]>,
        /// Bytes of all of them.
        len: u64,
        /// How many want it.
        heat: Arc<Heat>,
    },
    /// A file.
    File {
        /// Where it is.
        path: Arc<Path>,
        /// Bytes of it.
        len: u64,
    },
}

impl Data {
    /// Of pieces.
    #[must_use]
    pub fn of(chunks: Vec<Bytes>) -> Self {
        let len = chunks.iter().map(|chunk| chunk.len() as u64).sum();
        Self::Memory { chunks: chunks.into(), len, heat: Arc::default() }
    }

    /// How many bytes there are.
    #[must_use]
    #[allow(clippy::len_without_is_empty, reason = "nobody asks")]
    pub fn len(&self) -> u64 {
        match self {
            Self::Memory { len, .. } | Self::File { len, .. } => *len,
        }
    }

    /// `count` bytes from `first` on, for a client.
    ///
    /// # Errors
    /// The file can't be read; the log says why.
    #[cfg(feature = "http")]
    pub async fn body(&self, first: u64, count: u64) -> Result<Body, std::io::Error> {
        match self {
            #[cfg(target_os = "linux")]
            Self::Memory { chunks, len, heat } => Ok(match heat.file(chunks, *len) {
                Some(file) => Body::in_memory_file(file, first, count),
                None => Body::shared(Arc::clone(chunks), first, count),
            }),
            #[cfg(not(target_os = "linux"))]
            Self::Memory { chunks, .. } => Ok(Body::shared(Arc::clone(chunks), first, count)),
            Self::File { path, .. } => {
                let body = Body::file_at(path, first, count).await;
                body.inspect_err(|error| log::warn!("{}: {error}", path.display()))
            }
        }
    }

    /// The pieces in memory; none of a file.
    #[must_use]
    pub fn chunks(&self) -> &[Bytes] {
        match self {
            Self::Memory { chunks, .. } => chunks,
            Self::File { .. } => &[],
        }
    }
}

/// `ticks` of a clock as a duration, to the nanosecond.
pub(super) fn duration(ticks: u64, timescale: u32) -> Duration {
    let scale = u64::from(timescale.max(1));
    let nanos = (ticks % scale) * 1_000_000_000 / scale;
    Duration::new(ticks / scale, u32::try_from(nanos).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_exact() {
        assert_eq!(duration(180_000, 90_000), Duration::from_secs(2));
        assert_eq!(duration(1024, 48_000), Duration::from_nanos(21_333_333));
        assert_eq!(duration(u64::MAX, 1).as_secs(), u64::MAX);
    }
}
