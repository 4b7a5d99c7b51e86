//! What runs: the hub, and a listener for each address of each protocol that is built in and switched on.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use tokio::task::JoinHandle;

use super::room::{Door, Opened, Room, Security, Serve, rooms};
use super::sockets::Sockets;
use super::{ServerError, memory, report};
use crate::config::{Config, Shared};
use crate::hub::Hub;
#[cfg(feature = "tls")]
use crate::net::{Certificate, TlsAcceptor};
use crate::net::{ConnectionLimit, Listener, Probe, TcpOptions};

/// Whether what the configuration names outside itself can be used.
pub(super) fn usable(config: &Config) -> Result<(), ServerError> {
    if let Some(root) = config.http.root.as_deref().filter(|root| !root.is_dir()) {
        return Err(ServerError::Unusable(format!("http.root: {} is no directory", root.display())));
    }
    #[cfg(feature = "hooks")]
    crate::control::hooks::check(config).map_err(ServerError::Unusable)?;
    #[cfg(feature = "tls")]
    certificate(config)?;
    #[cfg(not(feature = "tls"))]
    for (key, addresses) in
        config.clone().listening().into_iter().filter(|(key, _)| key.ends_with("tls_listen"))
    {
        if !addresses.is_empty() {
            let text = format!("{key}: this build has no TLS (Cargo feature \"tls\")");
            return Err(ServerError::Unusable(text));
        }
    }
    Ok(())
}

/// The hub, the rooms and their listeners.
pub(super) struct Services {
    limit: ConnectionLimit,
    sockets: Sockets,
    hub: Hub,
    rooms: Vec<Box<dyn Room>>,
    open: Vec<OpenDoor>,
    /// What TLS listeners show; they follow when it is replaced.
    #[cfg(feature = "tls")]
    certificate: Option<Certificate>,
}

/// Doors that are open and not yet served, and which of all shall be.
pub(super) struct Ready {
    wanted: Vec<(&'static str, SocketAddr)>,
    new: Vec<(Door, SocketAddr, Probe, Serve)>,
    #[cfg(feature = "tls")]
    certificate: Option<Certificate>,
}

struct OpenDoor {
    door: Door,
    /// As the system gave it.
    local: SocketAddr,
    accepting: JoinHandle<()>,
    probe: Probe,
}

impl Services {
    pub fn new(
        config: &Shared,
        limit: ConnectionLimit,
        sockets: Sockets,
        #[cfg(feature = "api")] commands: &crate::control::command::Commands,
    ) -> Self {
        let hub = Hub::new(config.clone());
        hub.limit_memory(memory::for_rings(&config.current().server));
        #[cfg(feature = "access")]
        let access = crate::access::Access::new(config.clone());
        #[cfg(feature = "hooks")]
        let hooks = crate::control::hooks::Hooks::new(hub.clone(), config.clone());
        #[cfg(feature = "metrics")]
        let metrics = crate::control::metrics::Metrics::new(
            hub.clone(),
            config.clone(),
            #[cfg(feature = "access")]
            access.clone(),
            #[cfg(feature = "hooks")]
            hooks.stats(),
        );
        // In the order in which they are asked: nobody else is asked of those who may not come anyway.
        hub.set_gates(vec![
            #[cfg(feature = "access")]
            access.clone(),
            #[cfg(feature = "hooks")]
            hooks.clone(),
            #[cfg(feature = "metrics")]
            metrics.gate(),
        ]);
        #[cfg(feature = "relay")]
        let relays = crate::relay::Relays::new(
            hub.clone(),
            config.clone(),
            vec![
                #[cfg(feature = "rtmp")]
                std::sync::Arc::new(crate::rtmp::connector::RtmpConnector),
                #[cfg(feature = "srt")]
                std::sync::Arc::new(crate::srt::connector::SrtConnector),
            ],
            #[cfg(feature = "hooks")]
            Some(hooks.clone()),
            #[cfg(not(feature = "hooks"))]
            None,
        );
        #[cfg_attr(
            not(any(feature = "hooks", feature = "metrics", feature = "relay")),
            expect(unused_mut, reason = "those of no protocol come last")
        )]
        let mut rooms = rooms(
            config,
            &hub,
            #[cfg(feature = "access")]
            &access,
            #[cfg(feature = "api")]
            commands,
            #[cfg(all(feature = "api", feature = "metrics"))]
            &metrics,
            #[cfg(all(feature = "api", feature = "relay"))]
            &relays,
        );
        #[cfg(feature = "relay")]
        rooms.push(Box::new(super::room::relay::RelayRoom::new(relays)));
        #[cfg(feature = "metrics")]
        rooms.push(Box::new(super::room::metrics::MetricsRoom::new(config, &metrics)));
        #[cfg(feature = "hooks")]
        rooms.push(Box::new(super::room::hooks::HooksRoom::new(hooks)));
        Self {
            limit,
            sockets,
            hub,
            rooms,
            open: Vec::new(),
            #[cfg(feature = "tls")]
            certificate: None,
        }
    }

    /// Lets `config` say where the sockets listen that the service manager passed to us.
    pub fn put_sockets_in(&self, config: &mut Config) {
        self.sockets.put_in(config);
    }

    /// Opens what `config` wants beyond what there is. Nothing changes yet; what was opened is closed when it is dropped.
    pub fn prepare(&self, config: &Config) -> Result<Ready, ServerError> {
        #[cfg(feature = "tls")]
        let certificate = certificate(config)?;
        #[cfg(feature = "tls")]
        let shown = self.certificate.as_ref().or(certificate.as_ref());
        let options = TcpOptions {
            notsent_lowat: u32::try_from(config.delivery.notsent_lowat.bytes()).ok(),
            keepalive: Some(config.server.tcp_keepalive).filter(|time| !time.is_zero()),
            // Later than delivery, which can say what was wrong; this is for those that nothing else watches.
            user_timeout: Some(config.delivery.send_timeout.saturating_mul(2)),
        };
        let mut wanted = Vec::new();
        let mut new = Vec::new();
        for room in &self.rooms {
            for door in room.doors(config) {
                let known =
                    wanted.contains(&same(&door)) || self.open.iter().any(|o| same(&o.door) == same(&door));
                wanted.push(same(&door));
                if known {
                    continue;
                }
                let Opened { local, probe, serve } = self.open_door(
                    room.as_ref(),
                    &door,
                    options,
                    #[cfg(feature = "tls")]
                    shown,
                )?;
                new.push((door, local, probe, serve));
            }
        }
        Ok(Ready {
            wanted,
            new,
            #[cfg(feature = "tls")]
            certificate,
        })
    }

    /// Opens one door.
    fn open_door(
        &self,
        room: &dyn Room,
        door: &Door,
        options: TcpOptions,
        #[cfg(feature = "tls")] certificate: Option<&Certificate>,
    ) -> Result<Opened, ServerError> {
        if door.udp {
            return room
                .open(door.address, &self.limit)
                .map_err(|source| ServerError::Net { key: door.key, source });
        }
        #[cfg(feature = "tls")]
        let security = security(door, certificate)?;
        #[cfg(not(feature = "tls"))]
        let security = Security::Plain;
        let listener = match self.sockets.find(door.key, door.address) {
            Some(socket) => Listener::passed(socket, door.address, self.limit.clone(), options),
            None => Listener::bind(door.address, self.limit.clone(), options),
        };
        let listener = listener.map_err(|source| {
            // What listens is closed when all else is done, which is too late for another address of its port.
            let port = door.address.port();
            match self.open.iter().find(|open| !open.door.udp && port != 0 && open.local.port() == port) {
                Some(open) => ServerError::Unusable(format!(
                    "{}: {source}; it is {} of this server that listens on {}: that changes with a restart, or in two steps by \
                     way of another port",
                    door.key, open.door.name, open.local
                )),
                None => ServerError::Net { key: door.key, source },
            }
        })?;
        let (local, probe) = (listener.local_addr(), listener.probe());
        Ok(Opened { local, probe, serve: room.serve(listener, security) })
    }

    /// Listens where it was prepared to, and only there.
    pub fn open(&mut self, ready: Ready) {
        #[cfg(feature = "tls")]
        self.certify(ready.certificate);
        self.open.retain(|open| {
            let stays = ready.wanted.contains(&same(&open.door));
            if !stays {
                open.accepting.abort();
                log::info!("{} no longer listens on {}", open.door.name, open.local);
            }
            stays
        });
        for (door, local, probe, serve) in ready.new {
            log::info!("{} listens on {local}", door.name);
            self.open.push(OpenDoor { door, local, accepting: tokio::spawn(serve), probe });
        }
    }

    /// `config` is in force now.
    pub fn reloaded(&self, config: &Config) {
        self.hub.limit_memory(memory::for_rings(&config.server));
        self.hub.reload();
        for room in &self.rooms {
            room.reloaded(config);
        }
    }

    /// To be called each second; `tell`: writes a line on each busy stream.
    pub fn tick(&self, now: Instant, tell: bool) {
        self.hub.tick(now);
        if tell {
            for text in self.hub.stats(now).iter().filter_map(report::line) {
                log::info!("{text}");
            }
        }
    }

    /// Asks whatever must not hang for a sign of life. Who has left most such questions unanswered, and how many.
    pub fn ask(&self) -> (&'static str, u32) {
        let doors = self.open.iter().map(|open| (open.door.name, open.probe.ask()));
        let parts = doors.chain([("delivery", self.hub.ask())]);
        parts.max_by_key(|(_, silent)| *silent).unwrap_or_default()
    }

    /// Closes the ports, and begins to see publishers and readers off.
    pub fn stop(&mut self) {
        for open in self.open.drain(..) {
            open.accepting.abort();
        }
        for room in &self.rooms {
            room.stop();
        }
        self.hub.stop();
    }

    /// Waits until all publishers and readers are gone, until `deadline` at most, and says whether they are.
    pub async fn ended(&self, deadline: Instant) -> bool {
        const PAUSE: Duration = Duration::from_millis(20);
        // A connection outlives its stream while it says good-bye; one that has nothing to say (no handshake
        // yet) is not waited for longer than that.
        const FLUSH: Duration = Duration::from_millis(300);
        let mut flushed = None;
        let busy = || self.rooms.iter().any(|room| room.busy());
        while self.limit.open() > 0 || busy() {
            let now = Instant::now();
            if self.hub.sessions() == 0 && !busy() && now >= *flushed.get_or_insert(now + FLUSH) {
                return true;
            }
            if now >= deadline {
                return false;
            }
            tokio::time::sleep(PAUSE).await;
        }
        true
    }

    /// What a newcomer has to know: where to publish and where to play.
    pub fn greeting(&self) -> String {
        let listening: Vec<_> = self.open.iter().map(|open| (open.door.name, open.local)).collect();
        report::greeting(&listening)
    }

    /// Shows what was read of the certificate, which may be another one now.
    #[cfg(feature = "tls")]
    fn certify(&mut self, read: Option<Certificate>) {
        match (read, &self.certificate) {
            (Some(newer), Some(certificate)) => {
                certificate.replace(&newer);
                log::info!("certificate read again: {newer:?}");
            }
            (Some(newer), None) => self.certificate = Some(newer),
            (None, _) => {}
        }
    }
}

/// What lies before a door.
#[cfg(feature = "tls")]
fn security(door: &Door, certificate: Option<&Certificate>) -> Result<Security, ServerError> {
    let Some(terms) = door.tls else { return Ok(Security::Plain) };
    let none =
        || ServerError::Unusable(format!("{}: expected tls.cert and tls.key to be set, too", door.key));
    let acceptor = TlsAcceptor::new(certificate.ok_or_else(none)?, terms.alpn, terms.timeout);
    acceptor.map(Security::Tls).map_err(|source| ServerError::Net { key: door.key, source })
}

/// What makes a door the same after a reload.
fn same(door: &Door) -> (&'static str, SocketAddr) {
    (door.key, door.address)
}

/// Reads the certificate, if one is configured.
#[cfg(feature = "tls")]
fn certificate(config: &Config) -> Result<Option<Certificate>, ServerError> {
    let (Some(cert), Some(key)) = (&config.tls.cert, &config.tls.key) else { return Ok(None) };
    let certificate = Certificate::load(cert, key);
    certificate.map(Some).map_err(|source| ServerError::Net { key: "tls", source })
}
