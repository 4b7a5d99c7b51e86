//! WebRTC: browsers publish and play (WHIP, WHEP; UDP and TCP port 8000).
//!
//! Specifications: RFC 9725 (WHIP), draft-ietf-wish-whep, RFC 8829 (JSEP) for the descriptions, RFC 8445 (ICE, as the lite
//! side), RFC 5764 (DTLS-SRTP), RFC 3711 and RFC 7714 (SRTP), RFC 3550 and RFC 4585 (RTP and what goes back).
//!
//! From what is agreed to what flows: [`negotiated`] is what a session's two descriptions come to.

pub mod answer;
pub mod candidates;
pub mod negotiated;
pub mod offer;
mod offered;
pub mod sdp;
#[cfg(test)]
mod sdp_tests;
