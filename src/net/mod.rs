//! Sockets that every protocol shares: TCP listeners under one connection limit, and TLS.
//!
//! [`Listener`] binds (dual stack, `SO_REUSEADDR`) or takes what the service manager has bound, and accepts for ever: no error of the network or the
//! process's limits ends its loop. Each accepted connection holds a [`Permit`] of the [`ConnectionLimit`]
//! that all listeners share, and has the server's [`TcpOptions`] set.

#[cfg(any(feature = "http-client", feature = "relay"))]
mod dial;
#[cfg(feature = "http")]
pub mod http;
#[cfg(test)]
#[cfg(all(feature = "http", feature = "rtmp", feature = "tls"))]
mod known_answers;
mod limit;
mod listen;
mod mask;
mod passed;
#[cfg(feature = "tls")]
mod tls;
#[cfg(any(feature = "srt", feature = "webrtc"))]
pub mod udp;

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};

#[cfg(any(feature = "http-client", feature = "relay"))]
pub use dial::dial;
pub use limit::{ConnectionLimit, Permit};
pub use listen::{Connection, Listener, Probe, TcpOptions};
pub use mask::{masked, masked_query};
pub use passed::{PassedSocket, passed_sockets};
#[cfg(feature = "tls")]
pub use tls::{Certificate, TlsAcceptor, TlsStream};

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
    /// A certificate or key file is not usable.
    #[cfg(feature = "tls")]
    #[error("{} {why}", file.display())]
    Certificate {
        /// The file.
        file: std::path::PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// A TLS handshake failed.
    #[cfg(feature = "tls")]
    #[error("TLS handshake: {source}")]
    Handshake {
        /// What went wrong.
        source: io::Error,
    },
    /// TLS could not be set up.
    #[cfg(feature = "tls")]
    #[error("cannot set up TLS: {source}")]
    Tls {
        /// What the library said.
        source: tokio_rustls::rustls::Error,
    },
}

/// The address of this machine that who is at `peer` sees. Nothing is sent.
#[cfg(feature = "webrtc")]
#[must_use]
pub fn address_towards(peer: IpAddr) -> Option<IpAddr> {
    let any: SocketAddr = match peer.to_canonical() {
        IpAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
        IpAddr::V6(_) => (std::net::Ipv6Addr::UNSPECIFIED, 0).into(),
    };
    let probe = UdpSocket::bind(any).ok()?;
    probe.connect((peer.to_canonical(), 9)).ok()?;
    Some(probe.local_addr().ok()?.ip())
}

/// The address that this machine would go to the net with. Nothing is sent.
#[must_use]
pub fn own_address() -> IpAddr {
    // TEST-NET-1, RFC 5737: routed as any other address, and nobody's.
    let probe = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).and_then(|socket| {
        socket.connect((Ipv4Addr::new(192, 0, 2, 1), 9))?;
        socket.local_addr()
    });
    probe.map_or(Ipv4Addr::LOCALHOST.into(), |address| address.ip())
}
