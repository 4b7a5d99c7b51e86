//! RTMP: encoders publish, players play, over TCP (`rtmp://`, port 1935) or TLS (`rtmps://`).
//!
//! Specifications: *Adobe RTMP 1.0* (2012), *Enhanced RTMP v1 and v2* (Veovera), the digest handshake as
//! Flash Player 9 and later speak it (written down nowhere by Adobe).
//!
//! - **URLs**: `rtmp://host[:port]/app/stream[?vhost=v&k=v]` and the older forms of [`url`].
//! - **Config**: `[rtmp]`: `listen`, `tls_listen`, `chunk_size`, `handshake_timeout`, `first_packet_timeout`,
//!   `publish_timeout`, `max_message`, `in_ack_size`, `out_ack_size`.
//! - **Limits**, so that a peer can't make us grow: messages of 64 KiB, of `max_message` once it may publish;
//!   twice that for all unfinished ones of a session, [`chunk::MAX_CHUNK_STREAMS`] chunk streams, [`url::MAX_URL`] bytes of a
//!   URL; times for the handshake, for the first packet, and for a publisher that falls silent.
//! - **Not done**: RTMPE and RTMPT (HTTP tunnel), shared objects, recorded streams (`play` with a start,
//!   `seek`, `play2`), more than one stream on a connection.
//!
//! From the wire up: [`handshake`], [`chunk`], [`message`], [`connect`]; [`session`] and [`client_session`] are the
//! two sides as machines of bytes, [`play`] is what a player gets; [`server`] and [`client`] put them on sockets, and
//! `connector` (with the feature `relay`) brings streams to and from other servers.

pub mod chunk;
pub mod client;
pub mod client_session;
pub mod connect;
#[cfg(feature = "relay")]
pub mod connector;
pub mod handshake;
pub mod message;
pub mod play;
pub mod server;
pub mod session;
pub mod url;

use std::time::Duration;

use crate::format::amf::AmfError;

/// Why an RTMP session ended badly.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RtmpError {
    /// A command's values can't be read.
    #[error("RTMP command: {0}")]
    Amf(#[from] AmfError),
    /// The chunk stream can't be read.
    #[error("RTMP chunks: the peer {0}")]
    Chunk(&'static str),
    /// A command that makes no sense.
    #[error("RTMP: the peer sends a command {0}")]
    Command(&'static str),
    /// The peer does not speak RTMP as we do.
    #[error("RTMP handshake: {0}")]
    Handshake(&'static str),
    /// The server that we are a client of says no.
    #[error("the RTMP server refuses: {code} {text}")]
    Refused {
        /// Its `onStatus` code, e.g. `NetStream.Publish.BadName`.
        code: String,
        /// Its words.
        text: String,
    },
    /// The peer was silent for too long.
    #[error("the RTMP peer did not {what} within {} s", after.as_secs())]
    Timeout {
        /// What was waited for.
        what: &'static str,
        /// For how long.
        after: Duration,
    },
    /// The connection broke.
    #[error("{0}")]
    Io(#[from] std::io::Error),
    /// A message is longer than allowed.
    #[error("RTMP message of {len} bytes: at most {max} are taken here (a publisher's: rtmp.max_message)")]
    TooLong {
        /// Its length.
        len: usize,
        /// The limit.
        max: usize,
    },
    /// Unfinished messages declare more than allowed.
    #[error("RTMP: unfinished messages of {declared} bytes at once, more than twice rtmp.max_message")]
    TooMuch {
        /// What they declare together.
        declared: usize,
    },
    /// Not the URL of an RTMP stream.
    #[error("{url:?} {why}")]
    Url {
        /// What was given.
        url: String,
        /// What is wrong with it.
        why: &'static str,
    },
}
