//! Rillbox: a live-media server in a box.
//!
//! Streams come in by one protocol and go out by all others, without re-encoding. The house, from the
//! ground up; a room never knows the rooms above it, nor its neighbours on the same floor:
//!
//! | floor | rooms |
//! |---|---|
//! | top | [`server`]: assembly, listeners, signals, limits |
//! | protocols | `rtmp` `srt` `webrtc` `http_live` `hls` `dash`: one protocol, one folder, one feature · `record`: files, and their playback · `relay`: streams to and from other servers · `control`: the HTTP API, callbacks, metrics · `console`: pages |
//! | built once | `segments`: a live stream cut into segments, for HLS and DASH |
//! | access | `access`: who may publish, play and administer |
//! | shared | [`net`]: sockets and the HTTP front, which knows players |
//! | heart | [`hub`]: live streams by name, fan-out, who is there and who may come |
//! | containers | [`mod@format`]: bytes to frames and back, no I/O, no clock |
//! | tools | `sound`: AAC, Opus, MP3 and G.711 into each other |
//! | ground | [`media`]: [`Frame`](media::Frame), [`Track`](media::Track), codecs |
//! | cellar | [`config`]: plain structs with defaults, anyone reads its own section · [`id`]: session ids · [`pulse`]: who must not hang |
//!
//! What flows: bytes → a protocol's session → [`Frame`](media::Frame) → a stream's ring in the hub →
//! a feed (the serialised form, made once) → its readers, each only a cursor.

#[cfg(feature = "access")]
pub mod access;
#[cfg(feature = "bench")]
pub mod bench;
pub mod config;
#[cfg(feature = "console")]
pub mod console;
#[cfg(any(feature = "api", feature = "hooks", feature = "metrics"))]
pub mod control;
#[cfg(feature = "dash")]
pub mod dash;
pub mod format;
#[cfg(feature = "hls")]
pub mod hls;
#[cfg(feature = "http-live")]
pub mod http_live;
pub mod hub;
pub mod id;
pub mod media;
pub mod net;
pub mod pulse;
#[cfg(feature = "record")]
pub mod record;
#[cfg(feature = "relay")]
pub mod relay;
#[cfg(feature = "rtmp")]
pub mod rtmp;
#[cfg(feature = "segments")]
pub mod segments;
pub mod server;
#[cfg(feature = "transcode-audio")]
pub mod sound;
#[cfg(feature = "srt")]
pub mod srt;
#[cfg(feature = "webrtc")]
pub mod webrtc;
