//! Whoever records, as others see it.

use std::path::PathBuf;

use super::StreamName;

/// Records streams.
pub trait Recorder: Send + Sync {
    /// All recordings, the oldest first. Looks through folders: to be called where that may block.
    fn list(&self) -> Vec<RecordedFile>;

    /// How the recordings of streams that are live now stand, by name.
    fn status(&self) -> Vec<RecordStatus>;

    /// Starts recording `name`, or goes on with it: at once, or when someone publishes it. Until [`stop`](Self::stop).
    ///
    /// # Errors
    /// The configuration has recording switched off for it.
    fn start(&self, name: &StreamName) -> Result<(), RecordError>;

    /// Stops recording `name`, and closes its file. What the configuration records by itself is recorded again when its next
    /// stream begins, or by [`start`](Self::start).
    fn stop(&self, name: &StreamName);
}

/// Why a recording can't be begun.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RecordError {
    /// The configuration has it switched off.
    #[error(
        "{0} is not to be recorded: set vhost.*.record.enabled = true for it (and plan = \"api\", if only on demand)"
    )]
    Disabled(StreamName),
}

/// What becomes of a stream's recording.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RecordState {
    /// It can't be written; the text says why and what to do. It is tried again.
    Failed(String),
    /// To this file (which may have `.tmp` at its end until it is closed).
    Recording(PathBuf),
    /// Nothing is written: nothing to begin a file with has come yet.
    Waiting,
}

/// How a stream's recording stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecordStatus {
    /// The stream.
    pub name: StreamName,
    /// What becomes of it.
    pub state: RecordState,
    /// Files closed since the recording began.
    pub files: u64,
    /// Frames that are in no file since they could not be written in time, or at all.
    pub lost: u64,
}

/// A recording, as it is now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecordedFile {
    /// The stream.
    pub name: StreamName,
    /// When it begins, in milliseconds since 1970.
    pub start_ms: i64,
    /// How many milliseconds it plays.
    pub duration_ms: i64,
    /// Bytes of it that are whole.
    pub bytes: u64,
    /// `flv`, `fmp4`, `mp4` or `ts`.
    pub format: &'static str,
    /// Whether it is being written.
    pub growing: bool,
    /// Its path on the HTTP port.
    pub url: String,
}
