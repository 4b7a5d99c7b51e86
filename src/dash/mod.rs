//! DASH (ISO/IEC 23009-1): `http://host:8080/live/demo.mpd` over the fMP4 segments that [`segments`](crate::segments) makes.
//!
//! | path | what |
//! |---|---|
//! | `/app/stream.mpd` | the manifest, profile `isoff-live`; `dynamic`, and `static` when the stream has ended |
//! | `/app/stream/v0-init-89abcdef.mp4` | what a decoder needs first; another content has another name |
//! | `/app/stream/v0-12.m4s` | segment 12 of Representation `v0`: the same bytes as in HLS |
//!
//! The vhost is that of `?vhost=` or `?domain=`, otherwise the host that the client asked. Each track is an AdaptationSet of
//! its own with one Representation, so that players choose a language. Segments are numbered (`$Number$`) and their times
//! told one by one (`SegmentTimeline`), as they are cut at key frames, wherever these are. A new Period begins where codecs
//! change or the timeline breaks; times are those of the stream's line through all Periods, and `availabilityStartTime`
//! is when that line was at 0. Clocks are compared by `UTCTiming` in the manifest itself.
//!
//! With `low_latency` the segment that grows is told, too, and given out in chunks as it is made
//! (`availabilityTimeOffset`, `ServiceDescription`, `ProducerReferenceTime`; ISO/IEC 23009-1 5.3.9.5.3, annex K).
//!
//! With `path` the manifest is a file, too (`mpd_file`), whose links are the names of segments' files.
//!
//! A viewer is who asks with the `dash_ctx` that its manifest's links carry; it is gone when it has asked for nothing for
//! two windows.
//!
//! Keys: `[vhost.*.dash]`, and those of `[vhost.*.hls]` where segments are shared. Limits: requests that wait, viewers
//! counted at once, bytes of a query. Not here: DRM beyond the default key id of `cbcs`, whole segments encrypted by
//! AES-128 (a thing of HLS), `$Time$`, trick modes.

mod ask;
mod files;
mod line;
mod mpd;
mod service;
#[cfg(test)]
mod tests;
mod xml;

pub use service::Dash;
