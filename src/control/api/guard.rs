//! Who may ask, and for what.
//!
//! With the feature `access` that room decides: this machine alone while there is no credential, credentials everywhere from
//! then on. Without it, this machine alone.

use hyper::Method;

use super::Inner;
use crate::net::http::{Head, Peer, Reply};

/// What a request needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Need {
    /// To see streams, sessions and figures.
    Read,
    /// To end sessions, to start and stop recordings, to have the configuration read again.
    Control,
    /// To see and change the configuration.
    Configure,
}

/// Someone who is let in.
pub(super) struct Who(inner::Who);

impl Who {
    /// Notes what they did; completes "NAME (ROLE, from ADDRESS)".
    pub fn audit(&self, what: &str) {
        self.0.audit(what);
    }
}

/// Lets someone in who may do this, or gives the answer to the others. `method`: what the request comes to, whatever its own
/// method is.
pub(super) async fn admit(
    api: &Inner,
    head: &Head,
    peer: &Peer,
    method: &Method,
    need: Need,
) -> Result<Who, Reply> {
    // What changes something is judged as such, also where it is asked for by GET.
    let same = head.method == *method;
    let judged = (!same).then(|| Head { method: method.clone(), ..head.clone() });
    inner::admit(api, judged.as_ref().unwrap_or(head), peer, need).await.map(Who)
}

#[cfg(feature = "access")]
mod inner {
    use std::sync::Arc;

    use super::{Head, Inner, Need, Peer, Reply};
    use crate::access::{Access, Identity, Permission};

    pub struct Who(Arc<Access>, Identity);

    impl Who {
        pub fn audit(&self, what: &str) {
            self.0.audit(&self.1, what);
        }
    }

    pub async fn admit(api: &Inner, head: &Head, peer: &Peer, need: Need) -> Result<Who, Reply> {
        let identity = api.access.authenticate(head, peer).await?;
        let permission = match need {
            Need::Read => Permission::Read,
            Need::Control => Permission::Control,
            Need::Configure => Permission::Configure,
        };
        if identity.may(permission) {
            Ok(Who(Arc::clone(&api.access), identity))
        } else {
            Err(Access::forbidden())
        }
    }
}

#[cfg(not(feature = "access"))]
mod inner {
    use hyper::StatusCode;

    use super::{Head, Inner, Need, Peer, Reply};
    use crate::net::http::{is_local, text_reply};

    pub struct Who(Peer);

    impl Who {
        pub fn audit(&self, what: &str) {
            log::info!(target: "audit", session:% = self.0.id; "audit: this machine (from {}) {what}", self.0.addr.ip());
        }
    }

    pub async fn admit(_: &Inner, head: &Head, peer: &Peer, _: Need) -> Result<Who, Reply> {
        if is_local(head, peer) {
            return Ok(Who(*peer));
        }
        let why = "403: this answers to the machine itself only (this build has no credentials), and to no page of another site";
        Err(text_reply(StatusCode::FORBIDDEN, why))
    }
}
