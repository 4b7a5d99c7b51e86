//! Connections that wait for the next request.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use hyper::client::conn::http1::SendRequest;
use tokio::time::Instant;

use super::Url;
use crate::net::http::Body;

/// The most connections that wait: each holds a socket and up to 32 KiB.
const MOST: usize = 16;
/// Of these, to one server.
const MOST_OF_ONE: usize = 4;
/// Servers close idle connections after 5 s (Node.js) to 75 s (nginx). Shorter than the shortest, we seldom meet one that is
/// just being closed.
const LONGEST: Duration = Duration::from_secs(4);

/// Kept connections, the oldest first.
#[derive(Default)]
pub(super) struct Pool(Mutex<Vec<Kept>>);

struct Kept {
    key: (bool, String, u16),
    sender: SendRequest<Body>,
    since: Instant,
}

impl Pool {
    fn lock(&self) -> MutexGuard<'_, Vec<Kept>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The youngest connection to that server, as far as it is known to be open.
    pub(super) fn take(&self, url: &Url) -> Option<SendRequest<Body>> {
        let mut kept = self.lock();
        tidy(&mut kept, Instant::now());
        let at = kept.iter().rposition(|kept| kept.key == key(url))?;
        Some(kept.remove(at).sender)
    }

    /// Keeps a connection that has carried its answer.
    pub(super) fn put(&self, url: &Url, sender: SendRequest<Body>, now: Instant) {
        let key = key(url);
        let mut kept = self.lock();
        tidy(&mut kept, now);
        if kept.iter().filter(|kept| kept.key == key).count() >= MOST_OF_ONE {
            return;
        }
        if kept.len() >= MOST {
            kept.remove(0);
        }
        kept.push(Kept { key, sender, since: now });
    }

    /// Closes all.
    pub(super) fn clear(&self) {
        self.lock().clear();
    }
}

fn tidy(kept: &mut Vec<Kept>, now: Instant) {
    kept.retain(|kept| !kept.sender.is_closed() && now.saturating_duration_since(kept.since) < LONGEST);
}

fn key(url: &Url) -> (bool, String, u16) {
    (url.is_secure(), url.host().to_owned(), url.port())
}
