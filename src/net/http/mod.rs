//! The HTTP/1.1 front (RFC 9110, RFC 9112): one for live bodies, files and the API.
//!
//! The first head of a connection is read here. If it asks for a live body, the plain socket leaves at once
//! for whoever writes that body ([`LiveBody::deliver`]); everything else, and later requests of the
//! connection, is hyper's. Live bodies on encrypted connections, or asked for later on a connection, are
//! written by a task of their own ([`LiveBody::next`]).
//!
//! What requests are about, [`Service`]s know; the front asks them in order and knows none of them. It
//! answers `OPTIONS`, adds CORS (only where there is an `Origin`) and `Server`, and refuses what is
//! malformed, too large or too slow.
//!
//! Not here: HTTP/2, compression, `Expect` beyond what hyper does, ranges in several parts.

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
pub mod mime;
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
pub use player::{play_refused, player};
pub use range::reply_range;
pub use reply::{Reply, SERVER, not_allowed, put, text_reply, unauthorized};
pub use service::{Begin, Boxed, Framing, Live, LiveBody, LiveRequest, Outcome, Peer, Request, Service};
