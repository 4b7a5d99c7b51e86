//! Containers and packets: bytes to [`media`](crate::media) frames and back.
//!
//! Pure functions and small machines: no I/O, no clock, and nothing of the rooms above (hub, protocols).
//!
//! | format | what it is | who uses it |
//! |---|---|---|
//! | [`amf`] | Action Message Format 0 and 3: RTMP commands, FLV script data | rtmp, flv |
//! | [`flv`] | Flash Video tags, legacy and Enhanced RTMP | rtmp (message bodies), HTTP-FLV, DVR |
//! | `mp4` (where segments or recordings are built) | MP4, progressive and fragmented; CMAF | HLS, DASH, recordings |
//! | [`mpegts`] | MPEG transport stream | HTTP-TS, HLS, SRT |
//! | `rtp` (where WebRTC is built) | RTP packets, RTCP, payload formats | WebRTC |

pub mod amf;
pub mod flv;
#[cfg(feature = "mp4")]
pub mod mp4;
pub mod mpegts;
#[cfg(feature = "webrtc")]
pub mod rtp;
