//! HLS (RFC 8216) and low-latency HLS (RFC 8216bis): `http://host:8080/live/demo.m3u8`.
//!
//! | path | content |
//! |---|---|
//! | `/app/stream.m3u8` | the stream: its media playlist where it has but one, otherwise the multivariant playlist |
//! | `/app/stream/v0.m3u8` | media playlist of a rendition (`main`, `v0`, `a1`, …) |
//! | `/app/stream-12.ts`, … | segments, parts, initialization, keys: whatever [`segments`](crate::segments) gives out |
//!
//! The vhost is that of `?vhost=` or `?domain=`, otherwise the host that the client asked. What segments are is up to
//! `[vhost.*.hls]`; playlists are pure functions of their [`State`](crate::segments::State), written once for all
//! viewers of it.
//!
//! With `low-latency`: `EXT-X-PART`, blocking reload (`_HLS_msn`, `_HLS_part`; values that no player would ask for are
//! 400), requests for parts that are still made, delta updates (`_HLS_skip`), rendition reports.
//!
//! A stream that is live but has no segment yet is waited for, for ten seconds at least; then it is 503. How many
//! requests wait at once is bounded.
//!
//! **Viewers** (`sessions`): who asks for a stream gets a multivariant playlist whose links carry `hls_ctx=ID`, as with SRS.
//! All requests under one id are one player (`hls-play`), which is gone when it has asked for nothing during two windows. An id
//! that isn't known, of another run or expired, is taken on again; what is no id is left out. Other parameters of the
//! query go into all links.
//!
//! Where segments are on disk (`path`), playlists are written beside them (`files`), without sessions; another server may
//! give them out.
//!
//! Not here: multivariant playlists over several streams, I-frame playlists, date ranges.

mod ask;
mod cache;
mod files;
mod media;
mod multivariant;
#[cfg(test)]
#[allow(dead_code, unreachable_pub, clippy::all, reason = "made for end-to-end tests")]
#[path = "../../tests/e2e/support/playlist.rs"]
mod rules;
mod service;
#[cfg(test)]
mod tests;
mod text;

pub use self::service::Hls;
