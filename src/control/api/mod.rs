//! The HTTP API: `/api/v1` as SRS answers it, `/api/v2` our own, and health.
//!
//! | path | what |
//! |---|---|
//! | `/`, `/api/`, `/api/v1/` | what there is |
//! | `/api/v1/…` | SRS's endpoints, with its names, order, codes and paging ([`v1`]) |
//!
//! It has a door of its own (`api.listen`), or shares the HTTP server's where an address of `api.listen` is one of
//! `http.listen`, too. Whoever asks from another machine, or through a proxy, is refused: there are no credentials yet. Nor
//! may a page of another site change anything.
//!
//! Bounds: bodies of 1 MiB, read within 10 s; lists are paged.
//!
//! Keys: `[api]`.

mod guard;
mod reply;
mod v1;

use std::sync::Arc;
use std::time::Instant;

use super::system::{Sampler, Served};
use crate::config::Shared;
use crate::hub::Hub;
use crate::net::http::{Boxed, Outcome, Request, Service, text_reply};

/// The API. A clone is another handle to the same.
#[derive(Clone)]
pub struct Api {
    inner: Arc<Inner>,
}

/// What handlers have.
struct Inner {
    hub: Hub,
    config: Shared,
    sampler: Sampler,
    started: Instant,
}

impl Api {
    /// An API of what `hub` has.
    #[must_use]
    pub fn new(hub: Hub, config: Shared) -> Self {
        let inner = Inner { hub, config, sampler: Sampler::default(), started: Instant::now() };
        Self { inner: Arc::new(inner) }
    }

    /// Whether a path is the API's where it shares a door with others.
    #[must_use]
    pub fn owns(path: &str) -> bool {
        path == "/api" || path.starts_with("/api/")
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
            let Request { head, peer, .. } = request;
            if let Err(denied) = guard::admit(&head, &peer) {
                return text_reply(denied.status(), denied).into();
            }
            v1::answer(&inner, &head, &peer).await.into()
        })
    }
}
