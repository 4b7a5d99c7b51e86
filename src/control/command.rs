//! What the API asks of the server: to read its configuration anew, or to change it.
//!
//! The server's main loop does one of them after the other, so that two who change the configuration at the same time never
//! lose one of the changes. What is asked while eight wait is refused.

use serde_json::Value;
use tokio::sync::{mpsc, oneshot};

use crate::config::{Difference, Problem};

/// How many may wait.
const QUEUE: usize = 8;

/// One thing to do.
#[derive(Debug)]
#[non_exhaustive]
pub enum Command {
    /// Change the configuration by a merge patch (RFC 7396).
    Patch {
        /// What to change.
        patch: Value,
        /// Only say what would happen.
        validate_only: bool,
        /// Where the answer goes.
        reply: oneshot::Sender<Answer>,
    },
    /// Read the configuration anew.
    Reload {
        /// Where the answer goes.
        reply: oneshot::Sender<Answer>,
    },
}

/// What became of it.
pub type Answer = Result<Applied, Refused>;

/// It is done.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Applied {
    /// The keys that are others now. Values of secrets are not shown.
    pub differences: Vec<Difference>,
    /// Of these, what waits for a restart, e.g. `server.workers = 4`.
    pub needs_restart: Vec<String>,
    /// What is odd about the configuration, or this change.
    pub warnings: Vec<String>,
    /// Whether it is on the disk, and outlives a restart and a power cut.
    pub written: bool,
}

/// It is not done; all is as it was.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Refused {
    /// Too much waits, or the server stops.
    #[error("the server has too much to do, or stops; try it again")]
    Busy,
    /// The configuration as it is now can't be changed this way.
    #[error("{0}")]
    Conflict(String),
    /// This is never done for those who ask by network.
    #[error("{0}")]
    Forbidden(String),
    /// The configuration would be wrong.
    #[error("{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))]
    Invalid(Vec<Problem>),
    /// What the configuration names can't be used: a port, a file.
    #[error("{0}")]
    Unusable(String),
    /// The file can't be written.
    #[error("{0}")]
    NotWritten(String),
}

/// Takes commands to the server.
#[derive(Debug, Clone)]
pub struct Commands(mpsc::Sender<Command>);

impl Commands {
    /// A way to the server, and where it ends.
    #[must_use]
    pub fn channel() -> (Self, mpsc::Receiver<Command>) {
        let (sender, receiver) = mpsc::channel(QUEUE);
        (Self(sender), receiver)
    }

    /// Has the configuration read anew.
    ///
    /// # Errors
    ///
    /// It is wrong or can't be used; what was in force still is.
    pub async fn reload(&self) -> Answer {
        self.ask(|reply| Command::Reload { reply }).await
    }

    /// Has the configuration changed by a merge patch (RFC 7396), and the change kept; `validate_only`: only says what would
    /// happen.
    ///
    /// # Errors
    ///
    /// Nothing was changed, and why.
    pub async fn patch(&self, patch: Value, validate_only: bool) -> Answer {
        self.ask(|reply| Command::Patch { patch, validate_only, reply }).await
    }

    async fn ask(&self, command: impl FnOnce(oneshot::Sender<Answer>) -> Command) -> Answer {
        let (reply, answer) = oneshot::channel();
        self.0.try_send(command(reply)).map_err(|_| Refused::Busy)?;
        answer.await.unwrap_or(Err(Refused::Busy))
    }
}
