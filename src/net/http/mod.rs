//! The HTTP front (RFC 9110, 9112, 9113): one for live bodies, files and the API.
//!
//! On plain connections requests without a body are read and answered here (`plain`), one after the other, and what many
//! viewers fetch goes to their sockets without a copy ([`in_memory`]). If one asks for a live body, the socket leaves at
//! once for whoever writes that body ([`LiveBody::deliver`]). Everything else, and what comes after it on its connection, is
//! hyper's: requests with bodies, TLS, HTTP/2. Live bodies there are written by a task of their own ([`LiveBody::next`]).
//!
//! What requests are about, [`Service`]s know; the front asks them in order and knows none of them. It
//! answers `OPTIONS`, adds CORS (only where there is an `Origin`) and `Server`, and refuses what is
//! malformed, too large or too slow.
//!
//! Not here: compression, `Expect` beyond what hyper does, ranges in several parts.

mod body;
#[cfg(feature = "http-client")]
mod client;
mod connection;
mod front;
#[cfg(test)]
mod front_tests;
mod head;
mod home;
mod io;
mod memfile;
pub mod mime;
#[cfg(any(feature = "access", feature = "api", feature = "record"))]
mod origin;
mod plain;
mod player;
mod pump;
mod range;
mod reply;
mod service;
pub mod static_files;
pub mod websocket;

pub use body::{Body, Chunk, Pieces};
#[cfg(feature = "http-client")]
pub use client::{Answer, Client, ClientError, Limits, Url, UrlError};
pub use front::{Front, Options};
pub use head::{Head, HeadError, param, percent_decode};
pub use home::Home;
pub use io::Stream;
pub use memfile::in_memory;
#[cfg(feature = "access")]
pub use origin::is_from_other_site;
#[cfg(any(feature = "access", feature = "api", feature = "record"))]
pub use origin::is_local;
pub use player::{play_refused, player};
pub use range::reply_range;
pub use reply::{Reply, SERVER, not_allowed, put, text_reply, unauthorized};
#[cfg(feature = "webrtc")]
pub use service::BodyError;
pub use service::{
    Begin, Boxed, Framing, Live, LiveBody, LiveRequest, Outcome, Peer, Request, RequestBody, Service,
};
