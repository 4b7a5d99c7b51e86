//! Who may ask, and for what.
//!
//! With the feature `access` that room decides: this machine alone while there is no credential, credentials everywhere from
//! then on. Without it, this machine alone.

use hyper::Method;

use super::Inner;
use crate::net::http::{Head, Peer, Reply};

/// What a request needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(dead_code, reason = "a build may have nothing to configure")]
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
    use std::net::IpAddr;

    use hyper::{Method, StatusCode, header};

    use super::{Head, Inner, Need, Peer, Reply};
    use crate::net::http::text_reply;

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

    /// Whether a request comes from this machine itself: not by a proxy on it, not for a page of another site, and not under
    /// a name that such a page could lead here (DNS rebinding).
    fn is_local(head: &Head, peer: &Peer) -> bool {
        const BY_PROXIES: [&str; 5] =
            ["forwarded", "via", "x-forwarded-for", "x-forwarded-host", "x-real-ip"];
        let (host, reads) = (&head.host, matches!(head.method, Method::GET | Method::HEAD));
        let site = head.header("sec-fetch-site").is_some_and(|site| !matches!(site, "same-origin" | "none"));
        let follows = reads && head.header("sec-fetch-mode") == Some("navigate");
        let origin = head
            .header(header::ORIGIN)
            .map(|origin| origin.split_once("://").map_or(origin, |(_, host)| host));
        peer.addr.ip().to_canonical().is_loopback()
            && peer.forwarded_for.is_none()
            && !BY_PROXIES.iter().any(|name| head.headers.contains_key(*name))
            && (!host.contains('.') || host.ends_with(".localhost") || host.parse::<IpAddr>().is_ok())
            && (!site || follows)
            && origin.is_none_or(|origin| head.header(header::HOST) == Some(origin))
    }

    #[cfg(test)]
    mod tests {
        use super::*;
        use crate::id::SessionId;

        #[test]
        fn only_this_machine_itself() {
            let local = |text: &str, addr: &str| {
                let head =
                    Head::parse(format!("GET / HTTP/1.1\r\n{text}\r\n").as_bytes()).unwrap().unwrap().0;
                let addr = addr.parse().unwrap();
                is_local(
                    &head,
                    &Peer { id: SessionId::next(), addr, door: addr, forwarded_for: None, secure: false },
                )
            };
            for good in [
                "Host: 127.0.0.1:1985\r\n",
                "Host: [::1]:1985\r\n",
                "Host: box\r\nOrigin: http://box\r\n",
                "",
            ] {
                assert!(local(good, "127.0.0.1:5000") && local(good, "[::ffff:127.0.0.1]:5000"), "{good}");
                assert!(!local(good, "192.0.2.1:5000"), "{good}");
            }
            for bad in [
                "Host: evil.example\r\n",
                "Host: box\r\nX-Forwarded-For: 1.2.3.4\r\n",
                "Host: box\r\nOrigin: http://b\r\n",
                "Host: box\r\nSec-Fetch-Site: cross-site\r\n",
            ] {
                assert!(!local(bad, "127.0.0.1:5000"), "{bad}");
            }
        }
    }
}
