//! Live streams cut into segments, once for all rooms that give them out (HLS, DASH).
//!
//! [`Segments`] follows the hub: for each live stream that is to have segments (`[vhost.*.hls]`) a job reads its frames,
//! and keeps what came of it in a [`Presentation`]. A room asks for that with [`Segments::open`], reads its [`State`]
//! (an immutable snapshot, replaced at each part and segment), waits for the next one with [`Presentation::changed`],
//! and serves what the names in it lead to: [`Segments::resource`].
//!
//! | [`Form`] | renditions | names (by default) |
//! |---|---|---|
//! | [`Ts`](Form::Ts) | `main`: first video, first audio and data, muxed; `a2`… each further audio track; `v3`… each further video track | `live/demo-12.ts`, `live/demo-12-a2.ts` |
//! | [`Fmp4`](Form::Fmp4) | each track its own (CMAF): `v0`, `a1` | `live/demo-12-v0.m4s`, parts `live/demo-12-v0.3.m4s`, init `live/demo-v0-0.mp4` |
//!
//! Renditions are cut at the same places, and segments of one number belong together. Where a track was silent for a
//! whole segment, its rendition has a gap there. Frames of different tracks are first put in the order of their times,
//! so that what comes late because of interleaving still gets into the segment where it belongs; nothing waits for a
//! track that is behind by more than some hundred milliseconds.
//!
//! A segment ends at the first key frame of the main video once it is as long as it should be (`segment`), or at any frame
//! when it has `overflow_ratio` times that length; without video at the latter. It ends at once where the stream breaks:
//! another publisher, other codec configs, another clock, frames lost on the way.
//!
//! Keys: `[vhost.*.hls]`, `server.segment_memory`. Below the skin (`job`, `service`) time is an argument, and
//! nothing does I/O.

#[cfg(any(feature = "hls", feature = "dash"))]
pub mod audience;
mod builder;
mod cutter;
mod disk;
mod fmp4;
#[cfg(test)]
mod hard_tests;
mod heat;
mod index;
mod job;
#[cfg(test)]
mod job_tests;
mod keys;
mod lane;
mod measure;
mod mixer;
mod names;
mod parts;
mod presentation;
mod service;
mod settings;
mod state;
#[cfg(test)]
mod tests;
mod times;
mod ts;

pub use self::index::{Lookup, Pending, Resource};
pub use self::presentation::Presentation;
pub use self::service::Segments;
pub use self::state::{Bandwidth, Data, Growing, Init, Key, KeyMethod, Part, Rendition, Segment, State};

use std::sync::Arc;

use crate::hub::StreamName;

/// Makes the playlist files of a stream whose segments are on disk: name below the root, and text. What it is given
/// has only segments that are there.
pub type PlaylistFiles = dyn Fn(&StreamName, &Arc<State>) -> Vec<(String, String)> + Send + Sync;

/// The name of a stream's playlist by a template (`hls.playlist_file`).
#[must_use]
pub fn playlist_name(stream: &StreamName, template: &str) -> String {
    let vars = names::Vars { stream, track: None, seq: 0, wall_ms: 0, timestamp: 0, duration_ms: None };
    names::Template::once(template).name(&vars).unwrap_or_default()
}

/// What segments are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Form {
    /// MPEG transport stream, the main tracks muxed.
    Ts,
    /// Fragmented MP4 (CMAF), each track for itself.
    Fmp4,
}

/// What segments are wanted for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Want {
    /// HLS: what `hls.variant` says.
    Hls,
    /// DASH: fragmented MP4, shared with HLS where that is so, too.
    Dash,
}
