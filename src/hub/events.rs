//! What happens to streams, for whoever acts on it: callbacks, recorders, whoever starts with a stream.

use std::path::PathBuf;
use std::time::Duration;

use super::{Client, StreamName};

/// How many events a slow listener may be behind before it loses some.
pub(super) const BACKLOG: usize = 1024;

/// Something that has happened.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum Event {
    /// Someone has begun to publish.
    Published {
        /// The stream.
        name: StreamName,
        /// Who publishes it.
        client: Client,
    },
    /// A publisher has left; another may come within the grace period.
    Unpublished {
        /// The stream.
        name: StreamName,
        /// Who published it.
        client: Client,
    },
    /// A stream has ended: no publisher came within the grace period.
    Ended {
        /// The stream.
        name: StreamName,
    },
    /// Someone wants to play a stream that nobody publishes, and that is to be fetched then (`vhost.*.pull`).
    Wanted {
        /// The stream.
        name: StreamName,
    },
    /// A segment of HLS is complete (SRS's `on_hls`, `on_hls_notify`).
    Segment(Box<SegmentMade>),
    /// A recording was closed (SRS's `on_dvr`).
    Recorded(Box<RecordingMade>),
}

/// A segment that was completed.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct SegmentMade {
    /// The stream.
    pub name: StreamName,
    /// Who publishes it, as far as it is known.
    pub client: Option<Client>,
    /// How long it plays.
    pub duration: Duration,
    /// Its file; `None`: it is in memory.
    pub file: Option<PathBuf>,
    /// Its place in the playlist's URLs, e.g. `live/demo-12.ts`.
    pub url: String,
    /// The playlist's file; `None`: it is in memory.
    pub playlist: Option<PathBuf>,
    /// The playlist's place, e.g. `live/demo.m3u8`.
    pub playlist_url: String,
    /// Its number in the playlist.
    pub number: u64,
}

impl SegmentMade {
    /// A segment in memory.
    #[must_use]
    pub fn new(name: StreamName, number: u64, duration: Duration, url: String, playlist_url: String) -> Self {
        Self { name, client: None, duration, file: None, url, playlist: None, playlist_url, number }
    }
}

/// A recording that was closed.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct RecordingMade {
    /// The stream.
    pub name: StreamName,
    /// Who published it, as far as it is known.
    pub client: Option<Client>,
    /// The file.
    pub file: PathBuf,
    /// How long it plays.
    pub duration: Duration,
    /// Its size in bytes.
    pub bytes: u64,
}

impl RecordingMade {
    /// A closed file.
    #[must_use]
    pub fn new(name: StreamName, file: PathBuf, duration: Duration, bytes: u64) -> Self {
        Self { name, client: None, file, duration, bytes }
    }
}
