//! Sockets that every protocol shares: TCP listeners under one connection limit.
//!
//! [`Listener`] binds (dual stack, `SO_REUSEADDR`) and accepts for ever: no error of the network or the
//! process's limits ends its loop. Each accepted connection holds a [`Permit`] of the [`ConnectionLimit`]
//! that all listeners share, and has the server's [`TcpOptions`] set.

mod listen;

use std::io;
use std::net::SocketAddr;

pub use listen::{Connection, ConnectionLimit, Listener, Permit, TcpOptions};

/// Why the network could not be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum NetError {
    /// A listening socket could not be opened.
    #[error("cannot listen on {addr}: {}", listen::bind_advice(.source))]
    Bind {
        /// The address from the configuration.
        addr: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
}
