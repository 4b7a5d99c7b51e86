//! The hub's question: whether a client may publish or play a stream.

use std::net::IpAddr;

use super::credential::Credential;
use super::jwt::Streams;
use super::rules::{refused_address, refused_page};
use super::token::Grant;
use super::{Access, Refusal, unix_now};
use crate::config::{Admission, Config, VhostAccess};
use crate::hub::{Action, Ask, CREDENTIALS, Client, Denied, Gate, StreamName, Verdict};
use crate::id::SessionId;

/// What is shown, and by whom.
struct Shown<'a> {
    action: Action,
    name: &'a StreamName,
    params: &'a str,
    authorization: &'a str,
    from: IpAddr,
    session: SessionId,
}

impl Gate for Access {
    fn admit<'a>(&'a self, ask: &'a Ask) -> Verdict<'a> {
        let Client { params, authorization, page_url, id, .. } = &ask.client;
        let (action, name, from, session) = (ask.action, &ask.name, ask.client.ip(), *id);
        let shown = Shown { action, name, params, authorization: &authorization.0, from, session };
        Box::pin(self.may(shown, page_url))
    }

    fn guards(&self, action: Action, name: &StreamName) -> bool {
        let config = self.config.current();
        let access = &config.vhost(&name.vhost, &name.app, &name.stream).access;
        access.check_ip || access.check_refer || admission(access, action) != Admission::Anyone
    }
}

impl Access {
    async fn may(&self, shown: Shown<'_>, page: &str) -> Result<(), Denied> {
        let config = self.config.current();
        let StreamName { vhost, app, stream, .. } = shown.name;
        let access = &config.vhost(vhost, app, stream).access;
        let refused = refused_address(access, shown.action, shown.from);
        if let Some(why) = refused.or_else(|| refused_page(access, shown.action, page)) {
            return Err(Denied { why, by: "access" });
        }
        let verb = shown.action.as_str();
        match admission(access, shown.action) {
            Admission::Anyone => Ok(()),
            Admission::Nobody => Err(Denied { why: format!("nobody may {verb} here"), by: "access" }),
            Admission::Credential => match self.shows_a_credential(&config, &shown).await {
                Ok(()) => Ok(()),
                Err(why) => Err(Denied { why: text(&why, verb), by: CREDENTIALS }),
            },
        }
    }

    /// Whether a client shows what lets it in. Of several things the URL's counts: browsers add headers by themselves.
    async fn shows_a_credential(&self, config: &Config, shown: &Shown<'_>) -> Result<(), Refusal> {
        let Shown { action, name, from, session, .. } = *shown;
        let of_header = || Credential::of_header(shown.authorization);
        let credential = Credential::of_params(shown.params).or_else(of_header).ok_or(Refusal::Missing)?;
        if let Credential::Signed { expires, ip, sign } = &credential {
            let grant = Grant { action, name, expires, ip: ip.as_deref() };
            let secrets = config.access.token_secrets.iter();
            return grant.check(sign, secrets, from, unix_now()).map_err(Refusal::Wrong);
        }
        let bearer = self.bearer(config, credential, from, session).await?;
        let streams = if action == Action::Publish { &bearer.publish } else { &bearer.play };
        let has = |streams: &Streams| streams.has(name);
        if streams.iter().any(has) {
            Ok(())
        } else {
            Err(Refusal::Wrong("this stream is not among those allowed"))
        }
    }
}

fn admission(access: &VhostAccess, action: Action) -> Admission {
    if action == Action::Publish { access.publish } else { access.play }
}

/// Why, for the peer.
fn text(why: &Refusal, verb: &str) -> String {
    match why {
        Refusal::Missing => {
            format!("a credential is needed to {verb} this: a signed URL, a JWT, or user and pass")
        }
        Refusal::Wrong(why) => (*why).to_owned(),
        Refusal::Locked(time) => {
            format!("too many wrong passwords, wait {} s", time.as_secs().saturating_add(1))
        }
        Refusal::Busy => "too many passwords are being verified, try again".to_owned(),
    }
}

#[cfg(test)]
#[path = "gate_tests.rs"]
mod tests;
