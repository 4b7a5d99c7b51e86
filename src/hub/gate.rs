//! Who may publish and play: rooms above the hub decide, the hub asks them, for all protocols alike.

use std::pin::Pin;
use std::time::Duration;

use super::{Client, StreamName};

/// What a session wants of a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Action {
    /// To read it.
    Play,
    /// To publish it.
    Publish,
}

impl Action {
    /// In one word.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Play => "play",
            Self::Publish => "publish",
        }
    }
}

/// Who wants what.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Ask {
    /// What it wants.
    pub action: Action,
    /// Of which stream: the very name that is served then.
    pub name: StreamName,
    /// Who it is.
    pub client: Client,
    /// The stream's id in the API, known before the stream is.
    pub stream_id: String,
}

/// A refusal.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("refused by {by}: {why}")]
pub struct Denied {
    /// Why, for the peer and the log; names no secret.
    pub why: String,
    /// Who refuses, e.g. `access` or `on_publish`.
    pub by: &'static str,
}

/// The one who refuses when a credential is missing or wrong: players that can show another one are asked for it.
pub const CREDENTIALS: &str = "access (credentials)";

/// What a session carried, in bytes, and how long it was there.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Traffic {
    /// To the peer.
    pub sent: u64,
    /// From the peer.
    pub received: u64,
    /// How long it was there; `None`: it never was, since a later gate refused it.
    pub time: Option<Duration>,
}

/// What a gate says, in a box, as trait objects need it.
pub type Verdict<'a> = Pin<Box<dyn Future<Output = Result<(), Denied>> + Send + 'a>>;

/// Decides who may publish and play. Gates are asked in order, and all have to agree.
pub trait Gate: Send + Sync {
    /// Whether `ask` may be. May take its time (an HTTP callback): nobody else waits.
    fn admit<'a>(&'a self, ask: &'a Ask) -> Verdict<'a>;

    /// Whether this gate might refuse someone who wants to do this. Where nobody would, what was built of a stream
    /// (segments) is given to anybody without being asked for each piece.
    fn guards(&self, action: Action, name: &StreamName) -> bool;

    /// A session that this gate admitted has ended, or a gate after it refused. Must not block.
    fn left(&self, _ask: &Ask, _traffic: Traffic) {}
}
