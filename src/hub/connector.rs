//! Clients of other servers, by URL scheme: protocols give them, whoever relays streams uses them.

use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Instant;

use portable_atomic::{AtomicBool, AtomicU64, Ordering};
use tokio::sync::Notify;

use super::{Client, ClientKind, Frames, Hub, HubError, Publisher, StreamName};
use crate::id::SessionId;

/// What a connector does: over when the stream has ended on the side where it comes from. The text says what went wrong, and
/// names no secret.
pub type Relaying = Pin<Box<dyn Future<Output = Result<(), String>> + Send>>;

/// The client side of a protocol.
pub trait Connector: Send + Sync {
    /// Of which URLs, e.g. `["rtmp"]`.
    fn schemes(&self) -> &'static [&'static str];

    /// Whether a URL of such a scheme can be called.
    ///
    /// # Errors
    /// What is wrong with it.
    fn check(&self, url: &str) -> Result<(), String>;

    /// Brings a stream to `url`.
    fn push(&self, url: &str, frames: Frames, progress: Arc<Progress>) -> Relaying;

    /// Gets the stream at `url`, and publishes it by `opening` once the server has agreed.
    fn pull(&self, url: &str, opening: Opening, progress: Arc<Progress>) -> Relaying;
}

/// How far a connector has come.
#[derive(Debug, Default)]
pub struct Progress {
    connected: AtomicBool,
    bytes: AtomicU64,
    agreed: Notify,
}

impl Progress {
    /// The server has agreed.
    pub fn set_connected(&self) {
        self.connected.store(true, Ordering::Release);
        self.agreed.notify_one();
    }

    /// Completes when the server has agreed; for one who waits.
    pub async fn agreed(&self) {
        while !self.is_connected() {
            self.agreed.notified().await;
        }
    }

    /// Whether the server has agreed.
    #[must_use]
    pub fn is_connected(&self) -> bool {
        self.connected.load(Ordering::Acquire)
    }

    /// So many bytes of media went through.
    pub fn add(&self, bytes: usize) {
        self.bytes.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    /// Bytes of media that went through.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }
}

/// The leave to publish what is pulled.
pub struct Opening {
    hub: Hub,
    name: StreamName,
    id: SessionId,
}

impl Opening {
    /// For a stream that the configuration says is to be pulled: nobody is asked.
    #[must_use]
    pub fn new(hub: Hub, name: StreamName, id: SessionId) -> Self {
        Self { hub, name, id }
    }

    /// The session, for the log.
    #[must_use]
    pub fn id(&self) -> SessionId {
        self.id
    }

    /// The stream.
    #[must_use]
    pub fn name(&self) -> &StreamName {
        &self.name
    }

    /// Begins to publish what comes of `peer`.
    ///
    /// # Errors
    /// [`HubError`]: somebody else publishes it, or it may not be.
    pub fn open(self, peer: SocketAddr, now: Instant) -> Result<Publisher, HubError> {
        let mut client = Client::new(self.id, ClientKind::Pull, peer);
        client.asked.clone_from(&self.name.stream);
        let admission = self.hub.admit_own(&self.name, client)?;
        self.hub.publish(admission, now)
    }
}

/// Says where streams are brought to, beside what the configuration says.
pub trait Destinations: Send + Sync {
    /// The URLs for a stream that `client` has begun to publish. `None`: there is nobody to be asked about it.
    fn ask(&self, name: &StreamName, client: &Client) -> Option<Asking>;
}

/// The URLs, or why there was no answer.
pub type Asking = Pin<Box<dyn Future<Output = Result<Vec<String>, String>> + Send>>;

/// What is relayed, as others see it.
pub trait Relay: Send + Sync {
    /// Streams that are brought to other servers, and streams that come from there.
    fn relays(&self) -> Vec<RelayStatus>;
}

/// One stream on its way to or from another server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RelayStatus {
    /// What the log calls it.
    pub id: SessionId,
    /// The stream.
    pub name: StreamName,
    /// Whether it comes from there.
    pub pulled: bool,
    /// The other server, without what a URL has of secrets: `rtmp://host:1935`.
    pub server: String,
    /// Whether the other server has agreed.
    pub connected: bool,
    /// Bytes of media that went through, over all connections.
    pub bytes: u64,
    /// How often a connection was begun.
    pub attempts: u64,
    /// Why the last connection ended or did not come about; empty: none has.
    pub error: String,
}
