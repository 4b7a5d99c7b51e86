//! What the server asks of a protocol's room, and the rooms that are built in.

use std::net::SocketAddr;
use std::pin::Pin;
use std::time::Duration;

use crate::config::{Config, Shared};
use crate::hub::Hub;
#[cfg(feature = "tls")]
use crate::net::TlsAcceptor;
use crate::net::{ConnectionLimit, Listener, NetError, Probe};

#[cfg(feature = "webrtc")]
mod webrtc;

/// A protocol, as the server sees it.
pub(super) trait Room: Send + Sync {
    /// Where it shall listen by `config`.
    fn doors(&self, config: &Config) -> Vec<Door>;

    /// Takes connections until the future is dropped.
    fn serve(&self, listener: Listener, security: Security) -> Serve;

    /// Opens a door of UDP. Nobody is let in before what is given is run.
    fn open(&self, address: SocketAddr, _limit: &ConnectionLimit) -> Result<Opened, NetError> {
        Err(NetError::Bind { addr: address, source: std::io::ErrorKind::Unsupported.into() })
    }

    /// `config` is in force now.
    fn reloaded(&self, _config: &Config) {}

    /// The server stops: ends what the hub doesn't know of.
    fn stop(&self) {}

    /// Whether there is something to finish before the process may end.
    fn busy(&self) -> bool {
        false
    }
}

/// Takes connections.
pub(super) type Serve = Pin<Box<dyn Future<Output = ()> + Send>>;

/// A door of UDP that is open.
pub(super) struct Opened {
    /// As the system gave it.
    pub local: SocketAddr,
    pub probe: Probe,
    pub serve: Serve,
}

/// A place to listen at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Door {
    /// What is spoken there, e.g. "RTMPS".
    pub name: &'static str,
    /// The key that names the address.
    pub key: &'static str,
    /// The address; its port may be 0.
    pub address: SocketAddr,
    /// How, if TLS is spoken.
    pub tls: Option<TlsTerms>,
    /// Whether it is a port of UDP, which its room [opens](Room::open).
    pub udp: bool,
}

/// What differs between protocols over TLS.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct TlsTerms {
    /// Protocols offered (RFC 7301).
    pub alpn: &'static [&'static [u8]],
    /// How long the handshake may take.
    pub timeout: Duration,
}

/// What lies between TCP and the protocol.
pub(super) enum Security {
    Plain,
    #[cfg(feature = "tls")]
    #[cfg_attr(
        not(any(feature = "http", feature = "rtmp")),
        expect(dead_code, reason = "a build without protocols has nobody to take it")
    )]
    Tls(TlsAcceptor),
}

/// All rooms that are built in.
#[cfg_attr(
    not(any(feature = "http", feature = "rtmp", feature = "segments", feature = "srt")),
    expect(unused_mut, unused_variables, reason = "a build without protocols has no rooms")
)]
#[allow(clippy::vec_init_then_push, reason = "features say what is pushed")]
pub(super) fn rooms(
    config: &Shared,
    hub: &Hub,
    #[cfg(feature = "access")] access: &std::sync::Arc<crate::access::Access>,
    #[cfg(feature = "api")] commands: &crate::control::command::Commands,
    #[cfg(all(feature = "api", feature = "metrics"))] metrics: &crate::control::metrics::Metrics,
    #[cfg(all(feature = "api", feature = "relay"))] relays: &std::sync::Arc<crate::relay::Relays>,
) -> Vec<Box<dyn Room>> {
    let mut rooms: Vec<Box<dyn Room>> = Vec::new();
    #[cfg(feature = "segments")]
    let segments = crate::segments::Segments::new(hub.clone(), config.clone());
    #[cfg(feature = "segments")]
    rooms.push(Box::new(segments::SegmentsRoom::new(&segments, &config.current())));
    #[cfg(feature = "record")]
    let records = crate::record::Records::new(hub.clone(), config.clone());
    #[cfg(feature = "record")]
    tokio::spawn(records.clone().run());
    #[cfg(feature = "api")]
    let api = crate::control::api::Api::new(crate::control::api::Parts {
        hub: hub.clone(),
        config: config.clone(),
        #[cfg(feature = "access")]
        access: access.clone(),
        commands: commands.clone(),
        #[cfg(feature = "record")]
        recorder: std::sync::Arc::new(records.clone()),
        #[cfg(feature = "relay")]
        relay: relays.clone(),
    });
    #[cfg(feature = "webrtc")]
    let webrtc = crate::webrtc::server::Server::new(config.clone(), hub.clone());
    #[cfg(feature = "webrtc")]
    rooms.push(Box::new(webrtc::WebRtcRoom::new(config, &webrtc)));
    #[cfg(feature = "api")]
    rooms.push(Box::new(api::ApiRoom::new(
        config,
        &api,
        #[cfg(feature = "webrtc")]
        &webrtc,
        #[cfg(feature = "metrics")]
        metrics,
    )));
    #[cfg(feature = "http")]
    rooms.push(Box::new(http::HttpRoom::new(
        config,
        hub,
        #[cfg(feature = "access")]
        access,
        #[cfg(feature = "api")]
        &api,
        #[cfg(all(feature = "api", feature = "metrics"))]
        metrics,
        #[cfg(feature = "record")]
        records,
        #[cfg(feature = "segments")]
        &segments,
        #[cfg(feature = "webrtc")]
        &webrtc,
    )));
    #[cfg(feature = "rtmp")]
    rooms.push(Box::new(rtmp::RtmpRoom::new(config, hub)));
    #[cfg(feature = "srt")]
    rooms.push(Box::new(srt::SrtRoom::new(config, hub)));
    rooms
}

/// The doors for the addresses of two keys.
#[cfg(any(feature = "http", feature = "rtmp"))]
fn doors(
    (name, key, addresses): (&'static str, &'static str, &[SocketAddr]),
    (tls_name, tls_key, tls_addresses): (&'static str, &'static str, &[SocketAddr]),
    terms: TlsTerms,
) -> Vec<Door> {
    let plain = addresses.iter().map(|address| Door { name, key, address: *address, tls: None, udp: false });
    let tls = tls_addresses.iter().map(|address| Door {
        name: tls_name,
        key: tls_key,
        address: *address,
        tls: Some(terms),
        udp: false,
    });
    plain.chain(tls).collect()
}

/// What HTTPS offers (RFC 7301 6): HTTP/2 first, as LL-HLS wants it.
#[cfg(feature = "http")]
const HTTP_PROTOCOLS: &[&[u8]] = &[b"h2", b"http/1.1"];

#[cfg(feature = "hooks")]
pub(super) mod hooks {
    use std::sync::Arc;

    use super::{Config, Door, Listener, Room, Security, Serve};
    use crate::control::hooks::Hooks;

    /// Callbacks.
    pub(in crate::server) struct HooksRoom(Arc<Hooks>);

    impl HooksRoom {
        pub fn new(hooks: Arc<Hooks>) -> Self {
            tokio::spawn(hooks.clone().run());
            Self(hooks)
        }
    }

    impl Room for HooksRoom {
        fn doors(&self, _: &Config) -> Vec<Door> {
            Vec::new()
        }

        fn serve(&self, _: Listener, _: Security) -> Serve {
            Box::pin(std::future::pending())
        }

        fn reloaded(&self, _: &Config) {
            self.0.reloaded();
        }

        fn stop(&self) {
            self.0.stop();
        }

        fn busy(&self) -> bool {
            self.0.busy()
        }
    }
}

#[cfg(feature = "relay")]
pub(super) mod relay {
    use std::sync::Arc;

    use super::{Config, Door, Listener, Room, Security, Serve};
    use crate::relay::Relays;

    /// Streams to and from other servers.
    pub(in crate::server) struct RelayRoom(Arc<Relays>);

    impl RelayRoom {
        pub fn new(relays: Arc<Relays>) -> Self {
            tokio::spawn(relays.clone().run());
            Self(relays)
        }
    }

    impl Room for RelayRoom {
        fn doors(&self, _: &Config) -> Vec<Door> {
            Vec::new()
        }

        fn serve(&self, _: Listener, _: Security) -> Serve {
            Box::pin(std::future::pending())
        }

        fn reloaded(&self, _: &Config) {
            self.0.reloaded();
        }

        fn stop(&self) {
            self.0.stop();
        }

        fn busy(&self) -> bool {
            self.0.busy()
        }
    }
}

#[cfg(feature = "metrics")]
pub(super) mod metrics {
    use std::sync::Arc;

    use super::{Config, Door, Listener, Room, Security, Serve, Shared, http};
    use crate::control::metrics::Metrics;
    use crate::net::http::{Front, Options};

    /// Figures at doors of their own.
    pub(in crate::server) struct MetricsRoom(Arc<Front>);

    impl MetricsRoom {
        pub fn new(config: &Shared, metrics: &Metrics) -> Self {
            Self(Front::new(options(&config.current()), vec![Box::new(metrics.service(true))]))
        }
    }

    impl Room for MetricsRoom {
        fn doors(&self, config: &Config) -> Vec<Door> {
            let door = |address: &_| Door {
                name: "Metrics",
                key: "metrics.listen",
                address: *address,
                tls: None,
                udp: false,
            };
            let listen = config.metrics.listen.iter().filter(|_| config.metrics.enabled);
            listen.map(door).collect()
        }

        fn serve(&self, listener: Listener, security: Security) -> Serve {
            http::serve(&self.0, listener, security)
        }

        fn reloaded(&self, config: &Config) {
            self.0.set_options(options(config));
        }

        fn stop(&self) {
            self.0.stop();
        }
    }

    fn options(config: &Config) -> Options {
        Options { crossdomain: false, ..http::options(config) }
    }
}

#[cfg(feature = "segments")]
mod segments {
    use std::sync::Arc;

    use super::{Config, Door, Listener, Room, Security, Serve};
    use crate::segments::Segments;
    use crate::server::memory;

    /// Cuts streams into segments, which others give out.
    pub(super) struct SegmentsRoom(Arc<Segments>);

    impl SegmentsRoom {
        pub fn new(segments: &Arc<Segments>, config: &Config) -> Self {
            segments.limit_memory(memory::for_segments(&config.server));
            tokio::spawn(segments.clone().run());
            Self(segments.clone())
        }
    }

    impl Room for SegmentsRoom {
        fn doors(&self, _: &Config) -> Vec<Door> {
            Vec::new()
        }

        fn serve(&self, _: Listener, _: Security) -> Serve {
            Box::pin(std::future::pending())
        }

        fn reloaded(&self, config: &Config) {
            self.0.limit_memory(memory::for_segments(&config.server));
            self.0.reload();
        }

        fn stop(&self) {
            self.0.stop();
        }

        fn busy(&self) -> bool {
            !self.0.is_idle()
        }
    }
}

#[cfg(feature = "api")]
mod api {
    use std::net::SocketAddr;
    use std::sync::Arc;

    use super::{
        Config, Door, HTTP_PROTOCOLS, Listener, Room, Security, Serve, Shared, TlsTerms, doors, http,
    };
    use crate::control::api::Api;
    use crate::net::http::{Boxed, Front, Options, Outcome, Request, Service};

    /// The API at doors of its own.
    pub(super) struct ApiRoom {
        api: Api,
        front: Arc<Front>,
    }

    impl ApiRoom {
        pub fn new(
            config: &Shared,
            api: &Api,
            #[cfg(feature = "webrtc")] webrtc: &crate::webrtc::server::Server,
            #[cfg(feature = "metrics")] metrics: &crate::control::metrics::Metrics,
        ) -> Self {
            let services: Vec<Box<dyn Service>> = vec![
                // Where SRS has it.
                #[cfg(feature = "webrtc")]
                Box::new(crate::webrtc::signal::Signal::new(webrtc.clone())),
                #[cfg(feature = "metrics")]
                Box::new(metrics.service(false)),
                Box::new(api.clone()),
            ];
            let front = Front::new(options(&config.current()), services);
            Self { api: api.clone(), front }
        }
    }

    impl Room for ApiRoom {
        fn doors(&self, config: &Config) -> Vec<Door> {
            let (api, http) = (&config.api, &config.http);
            if !api.enabled {
                return Vec::new();
            }
            // Where the HTTP server listens, its front serves both.
            let own = |of: &[SocketAddr], http_of: &[SocketAddr]| -> Vec<SocketAddr> {
                let shared = |a: &&SocketAddr| http.enabled && a.port() != 0 && http_of.contains(a);
                of.iter().filter(|address| !shared(address)).copied().collect()
            };
            doors(
                ("API", "api.listen", &own(&api.listen, &http.listen)),
                ("API over TLS", "api.tls_listen", &own(&api.tls_listen, &http.tls_listen)),
                TlsTerms { alpn: HTTP_PROTOCOLS, timeout: http.header_timeout },
            )
        }

        fn serve(&self, listener: Listener, security: Security) -> Serve {
            http::serve(&self.front, listener, security)
        }

        fn reloaded(&self, config: &Config) {
            self.front.set_options(options(config));
        }

        fn stop(&self) {
            self.api.stop();
            self.front.stop();
        }
    }

    fn options(config: &Config) -> Options {
        Options { crossdomain: config.api.crossdomain, ..http::options(config) }
    }

    /// The API at doors that it shares with the HTTP server.
    pub(super) struct Sharing {
        pub config: Shared,
        pub api: Api,
        #[cfg(feature = "metrics")]
        pub metrics: crate::control::metrics::Scrape,
    }

    impl Service for Sharing {
        fn call<'a>(&'a self, request: Request) -> Boxed<'a, Outcome> {
            let config = self.config.current();
            let door = &request.peer.door;
            let addresses = if request.peer.secure { &config.api.tls_listen } else { &config.api.listen };
            if !config.api.enabled || !addresses.contains(door) {
                return Box::pin(async move { request.into() });
            }
            if Api::owns(&request.head.path) {
                return self.api.call(request);
            }
            #[cfg(feature = "metrics")]
            return self.metrics.call(request);
            #[cfg(not(feature = "metrics"))]
            Box::pin(async move { request.into() })
        }
    }
}

#[cfg(feature = "http")]
mod http {
    use std::net::SocketAddr;
    use std::sync::Arc;

    use super::{
        Config, Door, HTTP_PROTOCOLS, Hub, Listener, Room, Security, Serve, Shared, TlsTerms, doors,
    };
    use crate::net::http::static_files::StaticFiles;
    use crate::net::http::{Front, Home, Options, Service};
    #[cfg(feature = "segments")]
    use crate::segments::Segments;

    /// Live streams, files, and the page at `/`.
    pub(super) struct HttpRoom {
        front: Arc<Front>,
        #[cfg(feature = "record")]
        records: crate::record::Records,
    }

    impl HttpRoom {
        #[allow(unused_variables, reason = "files need neither hub nor segments")]
        #[allow(clippy::vec_init_then_push, reason = "features say what is pushed")]
        #[allow(clippy::too_many_arguments, reason = "each is another room's")]
        pub fn new(
            config: &Shared,
            hub: &Hub,
            #[cfg(feature = "access")] access: &Arc<crate::access::Access>,
            #[cfg(feature = "api")] api: &crate::control::api::Api,
            #[cfg(all(feature = "api", feature = "metrics"))] metrics: &crate::control::metrics::Metrics,
            #[cfg(feature = "record")] records: crate::record::Records,
            #[cfg(feature = "segments")] segments: &Arc<Segments>,
            #[cfg(feature = "webrtc")] webrtc: &crate::webrtc::server::Server,
        ) -> Self {
            let current = config.current();
            let mut services: Vec<Box<dyn Service>> = Vec::new();
            // Before all others: /api/ is no app where the API is.
            #[cfg(feature = "api")]
            services.push(Box::new(super::api::Sharing {
                config: config.clone(),
                api: api.clone(),
                #[cfg(feature = "metrics")]
                metrics: metrics.service(false),
            }));
            #[cfg(feature = "webrtc")]
            services.push(Box::new(crate::webrtc::signal::Signal::new(webrtc.clone())));
            // Before all others: it takes only what there is under /recordings/.
            #[cfg(feature = "record")]
            {
                let playback = crate::record::Playback::new(&records);
                #[cfg(feature = "access")]
                let playback = playback.with_access(Arc::clone(access));
                services.push(Box::new(playback));
            }
            // Before live bodies: /live/demo-12.ts may be a segment.
            #[cfg(feature = "hls")]
            services.push(Box::new(crate::hls::Hls::new(hub.clone(), config.clone(), Arc::clone(segments))));
            #[cfg(feature = "dash")]
            services.push(Box::new(crate::dash::Dash::new(
                hub.clone(),
                config.clone(),
                Arc::clone(segments),
            )));
            #[cfg(feature = "http-live")]
            services.push(Box::new(crate::http_live::HttpLive::new(hub.clone(), config.clone())));
            if let Some(root) = &current.http.root {
                services.push(Box::new(StaticFiles::new(root.clone())));
            }
            #[cfg(feature = "console")]
            services.push(Box::new(crate::console::Pages::default()));
            // With port 0 the page can't know it, nor can anyone who has not read the log.
            let rtmp_port = current.rtmp.listen.first().map_or(1935, SocketAddr::port);
            #[cfg(feature = "srt")]
            let srt_port = current.srt.listen.first().filter(|_| current.srt.enabled).map(SocketAddr::port);
            #[cfg(not(feature = "srt"))]
            let srt_port = None;
            services.push(Box::new(Home::new(rtmp_port, srt_port)));
            Self {
                front: Front::new(options(&current), services),
                #[cfg(feature = "record")]
                records,
            }
        }
    }

    impl Room for HttpRoom {
        fn doors(&self, config: &Config) -> Vec<Door> {
            let http = &config.http;
            if !http.enabled {
                return Vec::new();
            }
            doors(
                ("HTTP", "http.listen", &http.listen),
                ("HTTPS", "http.tls_listen", &http.tls_listen),
                TlsTerms { alpn: HTTP_PROTOCOLS, timeout: http.header_timeout },
            )
        }

        fn serve(&self, listener: Listener, security: Security) -> Serve {
            serve(&self.front, listener, security)
        }

        fn reloaded(&self, config: &Config) {
            self.front.set_options(options(config));
            #[cfg(feature = "record")]
            self.records.reloaded();
        }

        fn stop(&self) {
            self.front.stop();
            #[cfg(feature = "record")]
            self.records.shut_down();
        }

        #[cfg(feature = "record")]
        fn busy(&self) -> bool {
            self.records.busy()
        }
    }

    #[cfg_attr(not(feature = "tls"), expect(clippy::needless_pass_by_value, reason = "TLS takes it"))]
    pub(super) fn serve(front: &Arc<Front>, listener: Listener, security: Security) -> Serve {
        let front = Arc::clone(front);
        match security {
            Security::Plain => Box::pin(front.run(listener)),
            #[cfg(feature = "tls")]
            Security::Tls(acceptor) => Box::pin(front.run_tls(listener, acceptor)),
        }
    }

    pub(super) fn options(config: &Config) -> Options {
        Options {
            header_timeout: config.http.header_timeout,
            idle_timeout: config.http.idle_timeout,
            send_timeout: config.delivery.send_timeout,
            max_header: config.http.max_header.bytes(),
            crossdomain: config.http.crossdomain,
        }
    }
}

#[cfg(feature = "rtmp")]
mod rtmp {
    use super::{Config, Door, Hub, Listener, Room, Security, Serve, Shared, TlsTerms, doors};
    use crate::rtmp::server::{self, Context};

    /// RTMP publishers and players.
    pub(super) struct RtmpRoom(Context);

    impl RtmpRoom {
        pub fn new(config: &Shared, hub: &Hub) -> Self {
            Self(Context { config: config.clone(), hub: hub.clone() })
        }
    }

    impl Room for RtmpRoom {
        fn doors(&self, config: &Config) -> Vec<Door> {
            let rtmp = &config.rtmp;
            if !rtmp.enabled {
                return Vec::new();
            }
            doors(
                ("RTMP", "rtmp.listen", &rtmp.listen),
                ("RTMPS", "rtmp.tls_listen", &rtmp.tls_listen),
                TlsTerms { alpn: &[], timeout: rtmp.handshake_timeout },
            )
        }

        fn serve(&self, listener: Listener, security: Security) -> Serve {
            let context = self.0.clone();
            match security {
                Security::Plain => Box::pin(plain(listener, context)),
                #[cfg(feature = "tls")]
                Security::Tls(acceptor) => Box::pin(encrypted(listener, context, acceptor)),
            }
        }
    }

    async fn plain(mut listener: Listener, context: Context) {
        loop {
            let connection = listener.accept().await;
            let context = context.clone();
            tokio::spawn(server::serve_tcp(connection.stream, connection.peer, connection.permit, context));
        }
    }

    #[cfg(feature = "tls")]
    async fn encrypted(mut listener: Listener, context: Context, acceptor: crate::net::TlsAcceptor) {
        loop {
            let connection = listener.accept().await;
            let (context, acceptor) = (context.clone(), acceptor.clone());
            tokio::spawn(async move {
                let peer = connection.peer;
                match acceptor.accept(connection.stream).await {
                    Ok(stream) => server::serve(stream, peer, connection.permit, context).await,
                    Err(error) => log::info!("RTMPS connection from {peer} refused: {error}"),
                }
            });
        }
    }
}

#[cfg(feature = "srt")]
mod srt {
    use std::net::SocketAddr;
    use std::sync::{Mutex, PoisonError};
    use std::time::{Duration, Instant};

    use super::{
        Config, ConnectionLimit, Door, Hub, Listener, NetError, Opened, Probe, Room, Security, Serve, Shared,
    };
    use crate::srt::endpoint::{Endpoint, EndpointOptions};
    use crate::srt::server::{self, Context};

    /// How long a stop waits for the last packets, which say good-bye, to be sent.
    const GOOD_BYE: Duration = Duration::from_millis(150);

    /// SRT publishers and players.
    pub(super) struct SrtRoom {
        config: Shared,
        hub: Hub,
        stopped: Mutex<Option<Instant>>,
    }

    impl SrtRoom {
        pub fn new(config: &Shared, hub: &Hub) -> Self {
            Self { config: config.clone(), hub: hub.clone(), stopped: Mutex::new(None) }
        }
    }

    impl Room for SrtRoom {
        fn doors(&self, config: &Config) -> Vec<Door> {
            let door = |address: &_| Door {
                name: "SRT",
                key: "srt.listen",
                address: *address,
                tls: None,
                udp: true,
            };
            let listen = config.srt.listen.iter().filter(|_| config.srt.enabled);
            listen.map(door).collect()
        }

        fn serve(&self, _: Listener, _: Security) -> Serve {
            Box::pin(std::future::pending())
        }

        /// Sessions live on when the door is closed; no more callers are let in then.
        fn open(&self, address: SocketAddr, limit: &ConnectionLimit) -> Result<Opened, NetError> {
            let max_sessions =
                usize::try_from(self.config.current().server.max_connections).unwrap_or(usize::MAX);
            let options = EndpointOptions { max_sessions, ..EndpointOptions::default() };
            let (endpoint, incoming) = Endpoint::bind(address, options)
                .map_err(|source| NetError::Bind { addr: address, source })?;
            let (local, probe) = (endpoint.local_addr(), Probe::default());
            let context =
                Context { config: self.config.clone(), hub: self.hub.clone(), limit: limit.clone() };
            let answering = probe.clone();
            let serve = Box::pin(async move {
                tokio::select! {
                    () = server::serve(incoming, context) => log::error!("SRT on {local} has ended"),
                    () = answering.answer() => {}
                }
                drop(endpoint);
            });
            Ok(Opened { local, probe, serve })
        }

        fn stop(&self) {
            *self.stopped.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
        }

        fn busy(&self) -> bool {
            let stopped = self.stopped.lock().unwrap_or_else(PoisonError::into_inner);
            self.config.current().srt.enabled && stopped.is_some_and(|since| since.elapsed() < GOOD_BYE)
        }
    }
}
