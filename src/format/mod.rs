//! Containers and packets: bytes to [`media`](crate::media) frames and back.
//!
//! Pure functions and small machines: no I/O, no clock, and nothing of the rooms above (hub, protocols).
//!
//! | format | what it is | who uses it |
//! |---|---|---|
//! | [`amf`] | Action Message Format 0 and 3: RTMP commands, FLV script data | rtmp, flv |
//! | [`flv`] | Flash Video tags, legacy and Enhanced RTMP | rtmp (message bodies), HTTP-FLV, DVR |
//! | [`mpegts`] | MPEG transport stream | HTTP-TS; later HLS, SRT, UDP |

pub mod amf;
pub mod flv;
pub mod mpegts;
