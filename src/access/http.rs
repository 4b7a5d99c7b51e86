//! Administration by HTTP: who sends a request, and whether a page made a browser send it.

use std::net::IpAddr;
use std::time::Duration;

use hyper::{StatusCode, header};

use super::{Access, Bearer, Credential, Identity, Proof, Refusal, Role, has_credentials};
use crate::net::http::{Head, Peer, Reply, is_from_other_site, is_local, put, text_reply, unauthorized};

impl Access {
    /// Finds out who sends a request to administer. What they may do, [`Identity::may`] says; [`forbidden`](Self::forbidden)
    /// is the answer if they may not. Ask this before the request's body is read.
    ///
    /// # Errors
    /// The answer for somebody who is not let in: 401 without a right credential, 403 from elsewhere while there is none
    /// and for pages of other sites, 429 after too many wrong ones, 503 while too many are being verified.
    pub async fn authenticate(&self, head: &Head, peer: &Peer) -> Result<Identity, Reply> {
        let config = self.config.current();
        let from = from(peer);
        if !has_credentials(&config) {
            if is_local(head, peer) {
                let (name, by) = ("this machine".to_owned(), Proof::Local);
                return Ok(Identity { name, by, from, session: peer.id, role: Role::Admin, sees_all: true });
            }
            let why = "403: this answers to the machine itself only, until there is a user (rillbox passwd --help), and to no \
                       page of another site";
            return Err(text_reply(StatusCode::FORBIDDEN, why));
        }
        let shown = head.header(header::AUTHORIZATION).and_then(Credential::of_header);
        let Some(shown) = shown else { return Err(refusal(&Refusal::Missing)) };
        // A browser adds passwords by itself, JWTs it doesn't.
        if matches!(shown, Credential::Password(..)) && is_from_other_site(head) {
            let why = "403: a page of another site may not do this with a password that the browser knows";
            return Err(text_reply(StatusCode::FORBIDDEN, why));
        }
        let bearer = self.bearer(&config, shown, from, peer.id).await;
        let Bearer { name, proof, role, play, .. } = bearer.map_err(|why| refusal(&why))?;
        let Some(role) = role else { return Err(Self::forbidden()) };
        let sees_all = play.iter().any(super::Streams::is_all);
        Ok(Identity { name, by: proof, from, session: peer.id, role, sees_all })
    }

    /// The answer to someone who may not do what they ask for.
    #[must_use]
    pub fn forbidden() -> Reply {
        text_reply(StatusCode::FORBIDDEN, "403: your role does not allow this")
    }
}

/// Where a request comes from: a proxy is believed only on this machine itself.
fn from(peer: &Peer) -> IpAddr {
    peer.forwarded_for.unwrap_or(peer.addr.ip()).to_canonical()
}

fn refusal(why: &Refusal) -> Reply {
    let retry = |mut reply: Reply, time: Duration| {
        put(&mut reply, header::RETRY_AFTER, &time.as_secs().saturating_add(1).to_string());
        reply
    };
    match why {
        Refusal::Missing => unauthorized("401: a user's password, or a JWT, is needed"),
        Refusal::Wrong(why) => unauthorized(format_args!("401: {why}")),
        Refusal::Locked(time) => {
            let text = "429: too many wrong passwords; try again later";
            retry(text_reply(StatusCode::TOO_MANY_REQUESTS, text), *time)
        }
        Refusal::Busy => {
            let text = "503: too many passwords are being verified; try again";
            retry(text_reply(StatusCode::SERVICE_UNAVAILABLE, text), Duration::ZERO)
        }
    }
}

#[cfg(test)]
#[path = "http_tests.rs"]
mod tests;
