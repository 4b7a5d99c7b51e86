//! The HTTP API: `/api/v1` as SRS answers it, `/api/v2` our own, and health.
//!
//! | path | what |
//! |---|---|
//! | `/`, `/api/`, `/api/v1/` | what there is |
//! | `/api/v1/…` | SRS's endpoints, with its names, order, codes and paging (`v1`) |
//! | `/api/v2/…` | streams, publishers, readers, recordings, events; `/api/v2/openapi.json` describes it (`v2`) |
//! | `/healthz`, `/readyz` | whether the server lives, and takes publishers and readers; for anybody |
//!
//! It has a door of its own (`api.listen`), or shares the HTTP server's where an address of `api.listen` is one of
//! `http.listen`, too. While there is no credential, only this machine itself is answered, not through a proxy, and no page of
//! another site; from then on everybody needs one (`guard`). GET needs the right to read, what ends or changes something that
//! to control, the configuration that to configure.
//!
//! Bounds: bodies of 1 MiB, read within 10 s; lists are paged; `api.max_listeners` listen to events.
//!
//! Keys: `[api]`.

mod guard;
mod reply;
#[cfg(test)]
mod tests;
mod v1;
mod v2;

use std::sync::{Arc, OnceLock};
use std::time::Instant;

use tokio::sync::{Mutex, watch};

use super::command::Commands;
use super::system::{Sampler, Served};
use crate::config::Shared;
use crate::hub::Hub;
#[cfg(feature = "record")]
use crate::hub::Recorder;
#[cfg(feature = "relay")]
use crate::hub::Relay;
use crate::net::http::{Boxed, Outcome, Request, Service};

/// The API. A clone is another handle to the same.
#[derive(Clone)]
pub struct Api {
    inner: Arc<Inner>,
}

/// What an API tells of, and whom it asks.
pub struct Parts {
    /// Streams and sessions.
    pub hub: Hub,
    /// The configuration in force.
    pub config: Shared,
    /// Who may ask.
    #[cfg(feature = "access")]
    pub access: Arc<crate::access::Access>,
    /// Leads to the server.
    pub commands: Commands,
    /// Whoever records.
    #[cfg(feature = "record")]
    pub recorder: Arc<dyn Recorder>,
    /// Whoever relays.
    #[cfg(feature = "relay")]
    pub relay: Arc<dyn Relay>,
}

/// What handlers have.
struct Inner {
    hub: Hub,
    config: Shared,
    #[cfg(feature = "access")]
    access: Arc<crate::access::Access>,
    commands: Commands,
    sampler: Sampler,
    started: Instant,
    #[cfg(feature = "record")]
    recorder: Arc<dyn Recorder>,
    #[cfg(feature = "relay")]
    relay: Arc<dyn Relay>,
    /// To look through folders is done once at a time.
    #[cfg(feature = "record")]
    turn: Mutex<()>,
    /// What became of the last reload by `/api/v1/raw`.
    reload: Mutex<v1::Reload>,
    document: OnceLock<v2::Document>,
    /// Each listener to events holds a reference.
    listeners: Arc<()>,
    stopping: watch::Sender<bool>,
}

impl Api {
    /// An API of what all these have.
    #[must_use]
    pub fn new(parts: Parts) -> Self {
        let inner = Inner {
            hub: parts.hub,
            config: parts.config,
            #[cfg(feature = "access")]
            access: parts.access,
            commands: parts.commands,
            sampler: Sampler::default(),
            started: Instant::now(),
            #[cfg(feature = "record")]
            recorder: parts.recorder,
            #[cfg(feature = "relay")]
            relay: parts.relay,
            reload: Mutex::default(),
            #[cfg(feature = "record")]
            turn: Mutex::default(),
            document: OnceLock::new(),
            listeners: Arc::default(),
            stopping: watch::Sender::new(false),
        };
        Self { inner: Arc::new(inner) }
    }

    /// Whether a path is the API's where it shares a door with others.
    #[must_use]
    pub fn owns(path: &str) -> bool {
        path == "/api" || path.starts_with("/api/") || v2::owns(path)
    }

    /// The server stops: it is ready no more, and who listens to events is seen off.
    pub fn stop(&self) {
        self.inner.stopping.send_replace(true);
    }
}

impl Inner {
    fn served(&self) -> Served {
        let totals = self.hub.totals();
        Served {
            uptime: self.started.elapsed().as_secs(),
            received: totals.received,
            sent: totals.sent,
            sessions: totals.clients,
        }
    }
}

impl Service for Api {
    fn call<'a>(&'a self, request: Request) -> Boxed<'a, Outcome> {
        let path = request.head.path.as_str();
        if path != "/" && !Self::owns(path) {
            return Box::pin(async move { request.into() });
        }
        let inner = Arc::clone(&self.inner);
        Box::pin(async move {
            if v2::owns(&request.head.path) {
                return v2::answer(&inner, request).await.into();
            }
            let Request { head, peer, .. } = request;
            v1::answer(&inner, &head, &peer).await.into()
        })
    }
}
