//! SRT: encoders publish and players play over networks that lose packets (`srt://`, UDP port 10080).
//!
//! Specification: *The SRT Protocol* (draft-sharabayko-srt-01), and what libsrt does where that is silent.
//!
//! - **URLs**: `srt://host:10080?streamid=#!::r=app/stream,m=publish`, and the other forms of [`stream_id`].
//! - **Config**: `[srt]`, `[vhost.*.srt]`; passphrases also in `[vhost.*.access]`.
//! - **Done**: handshake version 5 as caller, listener and in rendezvous, stream ids, live mode with timestamps
//!   (TSBPD), too-late packet drop, loss reports, acknowledgements, drift, pace, encryption with AES-128, -192 and
//!   -256 in CTR and GCM with keys that take turns.
//! - **Limits**, so that a peer can't make us grow: nothing is kept before a caller has shown its address by a
//!   cookie; packets that a session keeps ([`Options::send_buffer`], [`Options::receive_buffer`]); requests and
//!   sessions of an [`endpoint`].
//! - **Not done**, and refused with SRT's own reasons: handshake version 4 (SRT before 1.3), file and stream mode,
//!   packet filters (FEC), bonding.
//!
//! From the wire up: [`packet`], [`handshake`], [`crypto`]; what is sent and what is received; [`session`] puts
//! these together, [`listener`], [`caller`] and [`rendezvous`] are how one begins; [`endpoint`] puts them on a socket; [`server`] lets
//! callers into the hub.

mod attempt;
pub mod caller;
#[cfg(feature = "relay")]
pub mod connector;
pub mod crypto;
mod drift;
pub mod endpoint;
pub mod handshake;
pub mod listener;
mod options;
pub mod packet;
mod payloads;
mod publish;
mod receive;
pub mod rendezvous;
mod rtt;
mod send;
pub mod server;
pub mod session;
#[cfg(test)]
mod session_tests;
mod statistics;
pub mod stream_id;
pub mod url;

use std::net::SocketAddr;

pub use handshake::Reject;
pub use options::{Bandwidth, Options};
pub use receive::Payload;
pub use session::{End, SendError};
pub use statistics::Statistics;

/// Why an SRT connection could not be made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SrtError {
    /// Keys could not be made.
    #[error("SRT encryption: {0}")]
    Key(#[from] crypto::KeyError),
    /// Nobody answered.
    #[error("no SRT server answers at {0}")]
    NoAnswer(SocketAddr),
    /// The options make no sense.
    #[error("{0}")]
    Options(&'static str),
    /// The other side said no, or we did.
    #[error("SRT connection refused: {0}")]
    Refused(Reject),
    /// The endpoint was stopped.
    #[error("the SRT endpoint is stopped")]
    Stopped,
    /// There are as many sessions as there may be.
    #[error("{0} SRT sessions are open, and no more are taken: see srt.max_connections")]
    TooMany(usize),
}
