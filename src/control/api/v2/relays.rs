//! Streams to and from other servers, as far as there is someone who relays.

use super::problem::Problem;
use super::route::{Answer, Call};
use crate::control::json::{Json as _, choices, shape};
use crate::hub::RelayStatus;

shape! {
    /// A page of relays.
    pub struct Relays {
        /// The relays.
        items: Vec<Relay>,
        /// What to give as "after" for the page behind; null: this is the last.
        next: Option<String>,
    }
}

choices! {
    /// Which way a stream goes.
    pub enum Way {
        /// To the other server.
        Forward = "forward",
        /// From the other server.
        Pull = "pull",
    }
}

shape! {
    /// A stream on its way to or from another server.
    pub struct Relay {
        /// Its id, as long as it is there.
        id: String,
        /// Which way it goes.
        way: Way,
        /// Virtual host.
        vhost: String,
        /// Application.
        app: String,
        /// The stream's name.
        name: String,
        /// The other server, without path and parameters, which may be secret.
        server: String,
        /// Whether the other server has agreed.
        connected: bool,
        /// Bytes of media that went through, over all connections.
        bytes: u64,
        /// How often a connection was begun.
        attempts: u64,
        /// Why the last connection ended or did not come about; null: none has.
        error: Option<String>,
    }
}

impl From<RelayStatus> for Relay {
    fn from(status: RelayStatus) -> Self {
        Self {
            id: status.id.to_string(),
            way: if status.pulled { Way::Pull } else { Way::Forward },
            vhost: status.name.vhost,
            app: status.name.app,
            name: status.name.stream,
            server: status.server,
            connected: status.connected,
            bytes: status.bytes,
            attempts: status.attempts,
            error: Some(status.error).filter(|text| !text.is_empty()),
        }
    }
}

/// `/api/v2/relays`
pub(super) fn list(call: &Call<'_>) -> Result<Answer, Problem> {
    let wanted = ["vhost", "app", "name"].map(|name| call.text(name));
    let is =
        |n: usize, text: &str| wanted.get(n).and_then(Option::as_ref).is_none_or(|wanted| wanted == text);
    let mut all = call.api.relay.relays();
    all.retain(|status| is(0, &status.name.vhost) && is(1, &status.name.app) && is(2, &status.name.stream));
    let (items, next) =
        call.page(all.into_iter().map(Relay::from).collect(), |relay: &Relay| relay.id.clone());
    Ok(Answer::Json(Relays { items, next }.to_json()))
}
