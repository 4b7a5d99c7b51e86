//! WebRTC: browsers publish and play (WHIP, WHEP; UDP and TCP port 8000).
//!
//! Specifications: RFC 9725 (WHIP), draft-ietf-wish-whep, RFC 8829 (JSEP) for the descriptions, RFC 8445 (ICE, as the lite
//! side), RFC 5764 (DTLS-SRTP), RFC 3711 and RFC 7714 (SRTP), RFC 3550 and RFC 4585 (RTP and what goes back).
//!
//! From what is agreed to what flows: [`negotiated`] is what a session's two descriptions come to; [`stun`], [`ice`], [`dtls`]
//! and [`srtp`] make the transport of one peer, a [`session`]; an [`endpoint`] has all of them on its port.
//! [`server`] has all sessions by their tokens, [`signal`] is how they are asked for over HTTP, and [`candidates`] where they are
//! told to come. [`publish`] makes frames of what a publisher sends; [`fanout`] lays a stream's frames into packets once, for all its viewers,
//! and [`play`] serves one of them. A publisher's own packets go through to viewers as they are.

pub mod answer;
pub mod caller;
pub mod candidates;
pub mod dtls;
pub mod endpoint;
pub mod fanout;
mod history;
pub mod ice;
pub mod negotiated;
pub mod offer;
mod offered;
pub mod play;
pub mod publish;
pub mod sdp;
#[cfg(test)]
mod sdp_tests;
pub mod server;
pub mod session;
pub mod signal;
mod sound;
pub mod srtp;
pub mod stun;
mod viewer;

/// Why a session can't be had.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum WebRtcError {
    /// There are as many as there may be.
    #[error("{0} WebRTC sessions are open, and no more are taken: see server.max_connections")]
    Full(usize),
    /// There are no names for it.
    #[error("the system gives no random numbers")]
    Random,
    /// The endpoint was stopped, or the session is over.
    #[error("the WebRTC endpoint is stopped")]
    Stopping,
}
