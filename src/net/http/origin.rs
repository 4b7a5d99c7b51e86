//! Whether a request comes from this machine itself, and whether a page of another site had a browser send it.

use std::net::IpAddr;

use hyper::{Method, header};

use super::{Head, Peer};

/// Whether a request comes from this machine itself: not through a proxy on it, nor from a page that a browser on it shows.
#[must_use]
pub fn is_local(head: &Head, peer: &Peer) -> bool {
    const BY_OTHERS: [&str; 5] = ["forwarded", "via", "x-forwarded-for", "x-forwarded-host", "x-real-ip"];
    peer.addr.ip().to_canonical().is_loopback()
        && peer.forwarded_for.is_none()
        && !BY_OTHERS.iter().any(|name| head.headers.contains_key(*name))
        && names_this_machine(&head.host)
        && !is_from_other_site(head)
}

/// Whether a host that was asked for is no domain: who has one can point it at 127.0.0.1 under the feet of a browser.
fn names_this_machine(host: &str) -> bool {
    !host.contains('.') || host.ends_with(".localhost") || host.parse::<IpAddr>().is_ok()
}

/// Whether a page of another site had a browser send this, as far as browsers say: all do with what changes something.
#[must_use]
pub fn is_from_other_site(head: &Head) -> bool {
    let reads = matches!(head.method, Method::GET | Method::HEAD);
    match head.header("sec-fetch-site") {
        Some("same-origin" | "none") => return false,
        // To follow a link is no harm; to include it as a script or an image could be.
        Some(_) => return !(reads && head.header("sec-fetch-mode") == Some("navigate")),
        None => {}
    }
    let Some(origin) = head.header(header::ORIGIN) else { return head.headers.contains_key(header::ORIGIN) };
    let Some(("http" | "https", host)) = origin.split_once("://") else { return true };
    match head.header(header::HOST) {
        Some(own) => !host.eq_ignore_ascii_case(own),
        // HTTP/2 has it elsewhere, and the port is not told us.
        None => host.rsplit_once(':').map_or(host, |(host, _)| host).trim_matches(['[', ']']) != head.host,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::SessionId;

    #[test]
    fn this_machine_itself() {
        for (addr, method, headers, expected) in [
            ("127.0.0.1:9", "GET", "Host: 127.0.0.1:1985\r\n", true),
            ("127.0.0.1:9", "GET", "", true),
            ("[::1]:9", "GET", "Host: localhost:1985\r\n", true),
            ("[::ffff:127.0.0.1]:9", "DELETE", "Host: [::1]:1985\r\n", true),
            ("192.0.2.1:9", "GET", "Host: 127.0.0.1:1985\r\n", false),
            ("[fd00::1]:9", "GET", "Host: localhost\r\n", false),
            // Through a proxy here, or from who says that there is one.
            ("127.0.0.1:9", "GET", "X-Forwarded-For: 127.0.0.1\r\n", false),
            ("127.0.0.1:9", "GET", "X-Real-IP: 127.0.0.1\r\n", false),
            ("127.0.0.1:9", "GET", "Forwarded: for=127.0.0.1\r\n", false),
            ("127.0.0.1:9", "GET", "Via: 1.1 x\r\n", false),
            ("192.0.2.1:9", "GET", "X-Forwarded-For: 127.0.0.1\r\n", false),
            // A name that somebody pointed here.
            ("127.0.0.1:9", "GET", "Host: evil.example:1985\r\n", false),
            // Pages in a browser on this machine.
            (
                "127.0.0.1:9",
                "GET",
                "Host: localhost\r\nSec-Fetch-Site: cross-site\r\nSec-Fetch-Mode: no-cors\r\n",
                false,
            ),
            (
                "127.0.0.1:9",
                "GET",
                "Host: localhost\r\nSec-Fetch-Site: cross-site\r\nSec-Fetch-Mode: navigate\r\n",
                true,
            ),
            (
                "127.0.0.1:9",
                "POST",
                "Host: localhost\r\nSec-Fetch-Site: cross-site\r\nSec-Fetch-Mode: navigate\r\n",
                false,
            ),
            ("127.0.0.1:9", "POST", "Host: localhost\r\nSec-Fetch-Site: same-site\r\n", false),
            ("127.0.0.1:9", "POST", "Host: localhost\r\nSec-Fetch-Site: same-origin\r\n", true),
            ("127.0.0.1:9", "POST", "Host: localhost:1985\r\nOrigin: http://evil.example\r\n", false),
            ("127.0.0.1:9", "POST", "Host: localhost:1985\r\nOrigin: null\r\n", false),
            ("127.0.0.1:9", "POST", "Host: localhost:1985\r\nOrigin: http://localhost:8080\r\n", false),
            ("127.0.0.1:9", "POST", "Host: localhost:1985\r\nOrigin: http://localhost:1985\r\n", true),
            ("127.0.0.1:9", "POST", "Origin: http://evil.example\r\n", false),
        ] {
            let text = format!("{method} / HTTP/1.1\r\n{headers}\r\n");
            let head = Head::parse(text.as_bytes()).unwrap().unwrap().0;
            let from = addr.parse().unwrap();
            let peer =
                Peer { id: SessionId::next(), addr: from, door: from, forwarded_for: None, secure: false };
            assert_eq!(is_local(&head, &peer), expected, "{addr} {method} {headers:?}");
            let proxied = Peer { forwarded_for: Some([127, 0, 0, 1].into()), ..peer };
            assert!(!is_local(&head, &proxied), "{addr} {method} {headers:?}");
        }
    }
}
