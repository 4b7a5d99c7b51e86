//! WebRTC: its sockets, and its sessions over HTTP.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use super::{
    Config, ConnectionLimit, Door, Listener, NetError, Opened, Probe, Room, Security, Serve, Shared,
};
use crate::webrtc::dtls::Certificate;
use crate::webrtc::endpoint::{Endpoint, EndpointOptions};
use crate::webrtc::server::Server;

/// The sockets of WebRTC: all of them are one endpoint, opened with the first of its doors and closed with the last.
pub(super) struct WebRtcRoom {
    config: Shared,
    server: Server,
    bound: Mutex<Weak<Bound>>,
}

/// What listens.
struct Bound {
    server: Server,
    /// Addresses that are configured, and as the system gave them; those whose doors are still to be opened.
    waiting: Mutex<Vec<(SocketAddr, SocketAddr)>>,
}

impl Drop for Bound {
    fn drop(&mut self) {
        self.server.close();
    }
}

impl WebRtcRoom {
    pub fn new(config: &Shared, server: &Server) -> Self {
        Self { config: config.clone(), server: server.clone(), bound: Mutex::default() }
    }

    fn bind(&self, address: SocketAddr, limit: &ConnectionLimit) -> Result<Arc<Bound>, NetError> {
        let config = self.config.current();
        let failed = |source| NetError::Bind { addr: address, source };
        let certificate = Certificate::generate().map_err(|error| failed(std::io::Error::other(error)))?;
        let options = EndpointOptions {
            max_sessions: usize::try_from(config.server.max_connections).unwrap_or(usize::MAX),
            connect_timeout: config.webrtc.connect_timeout,
            consent_timeout: config.webrtc.idle_timeout,
            ..EndpointOptions::new(certificate)
        };
        let (udp, tcp) = (&config.webrtc.listen, &config.webrtc.tcp_listen);
        let endpoint = Endpoint::bind(udp, tcp, options).map_err(failed)?;
        let locals = endpoint.local_addrs();
        let wanted = udp.iter().chain(tcp).copied();
        let waiting = wanted.zip(locals.udp.into_iter().chain(locals.tcp)).collect();
        self.server.listen(endpoint, limit.clone());
        Ok(Arc::new(Bound { server: self.server.clone(), waiting: Mutex::new(waiting) }))
    }
}

impl Room for WebRtcRoom {
    fn doors(&self, config: &Config) -> Vec<Door> {
        let webrtc = &config.webrtc;
        if !webrtc.enabled {
            return Vec::new();
        }
        let door =
            |name, key, address: &SocketAddr| Door { name, key, address: *address, tls: None, udp: true };
        let udp = webrtc.listen.iter().map(|address| door("WebRTC", "webrtc.listen", address));
        let tcp = webrtc.tcp_listen.iter();
        udp.chain(tcp.map(|address| door("WebRTC over TCP", "webrtc.tcp_listen", address))).collect()
    }

    fn serve(&self, _: Listener, _: Security) -> Serve {
        Box::pin(std::future::pending())
    }

    fn open(&self, address: SocketAddr, limit: &ConnectionLimit) -> Result<Opened, NetError> {
        let mut bound = self.bound.lock().unwrap_or_else(PoisonError::into_inner);
        let open = match bound.upgrade() {
            Some(open) => open,
            None => self.bind(address, limit)?,
        };
        *bound = Arc::downgrade(&open);
        // Doors are opened in the order in which they were asked for: UDP comes first where TCP has the same address.
        let mut waiting = open.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        let place = waiting.iter().position(|(wanted, _)| *wanted == address);
        let local = place.map_or(address, |place| waiting.remove(place).1);
        drop(waiting);
        let probe = Probe::default();
        let answering = probe.clone();
        let serve = Box::pin(async move {
            let _open = open;
            answering.answer().await;
        });
        Ok(Opened { local, probe, serve })
    }
}
