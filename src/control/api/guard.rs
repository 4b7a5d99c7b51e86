//! Who may ask.

use std::net::IpAddr;

use hyper::StatusCode;
use hyper::header;

use crate::net::http::{Head, Peer};

/// Why a request is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum Denied {
    /// It does not come from this machine itself.
    #[error(
        "403: without credentials the API answers this machine alone, not a proxy on it, and not under other names"
    )]
    Remote,
    /// A page of another site would change something.
    #[error("403: without credentials pages of other sites may change nothing")]
    Site,
}

impl Denied {
    pub fn status(self) -> StatusCode {
        StatusCode::FORBIDDEN
    }
}

/// Whether a request without credentials may read.
pub(super) fn admit(head: &Head, peer: &Peer) -> Result<(), Denied> {
    const BY_PROXIES: [&str; 5] = ["forwarded", "via", "x-forwarded-for", "x-forwarded-host", "x-real-ip"];
    let local = peer.addr.ip().to_canonical().is_loopback()
        && peer.forwarded_for.is_none()
        && !BY_PROXIES.iter().any(|name| head.headers.contains_key(*name));
    if local && is_own_name(&head.host) { Ok(()) } else { Err(Denied::Remote) }
}

/// Whether a request without credentials may change something, too: not when a browser sent it for a page of another site.
pub(super) fn may_change(head: &Head) -> Result<(), Denied> {
    let other_site =
        head.header("sec-fetch-site").is_some_and(|site| !matches!(site, "same-origin" | "none"));
    let origin =
        head.header(header::ORIGIN).map(|origin| origin.split_once("://").map_or(origin, |(_, host)| host));
    let other_origin = origin.is_some_and(|origin| head.header(header::HOST) != Some(origin));
    if other_site || other_origin { Err(Denied::Site) } else { Ok(()) }
}

/// Whether a name is one that only this machine's own network gives: a page of another site could make any other name lead
/// here, and then read what we say (DNS rebinding).
fn is_own_name(host: &str) -> bool {
    // SRS's name of a host that only fails.
    host == "error.srs.com"
        || !host.contains('.')
        || host.parse::<IpAddr>().is_ok()
        || host.ends_with(".localhost")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::SessionId;

    fn head(text: &str) -> Head {
        Head::parse(format!("GET / HTTP/1.1\r\n{text}\r\n").as_bytes()).unwrap().unwrap().0
    }

    fn peer(addr: &str) -> Peer {
        let addr = addr.parse().unwrap();
        Peer { id: SessionId::next(), addr, door: addr, forwarded_for: None, secure: false }
    }

    #[test]
    fn only_this_machine_itself() {
        let own = peer("127.0.0.1:5000");
        for host in ["127.0.0.1:1985", "localhost:1985", "[::1]:1985", "box", "error.srs.com"] {
            assert_eq!(admit(&head(&format!("Host: {host}\r\n")), &own), Ok(()), "{host}");
        }
        for bad in
            ["Host: evil.example\r\n", "Host: box\r\nX-Forwarded-For: 1.2.3.4\r\n", "Host: box\r\nVia: x\r\n"]
        {
            assert_eq!(admit(&head(bad), &own), Err(Denied::Remote), "{bad}");
        }
        assert_eq!(admit(&head(""), &peer("192.0.2.1:5000")), Err(Denied::Remote));
        assert_eq!(admit(&head(""), &peer("[::ffff:127.0.0.1]:5000")), Ok(()));
    }

    #[test]
    fn other_sites_change_nothing() {
        assert_eq!(may_change(&head("Host: a:1\r\n")), Ok(()));
        assert_eq!(
            may_change(&head("Host: a:1\r\nOrigin: http://a:1\r\nSec-Fetch-Site: same-origin\r\n")),
            Ok(())
        );
        for bad in [
            "Host: a:1\r\nOrigin: http://b\r\n",
            "Host: a:1\r\nOrigin: null\r\n",
            "Sec-Fetch-Site: cross-site\r\n",
        ] {
            assert_eq!(may_change(&head(bad)), Err(Denied::Site), "{bad}");
        }
    }
}
