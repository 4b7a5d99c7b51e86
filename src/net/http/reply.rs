use std::fmt::Display;

use bytes::Bytes;
use hyper::header::{self, HeaderMap, HeaderName, HeaderValue};
use hyper::{Response, StatusCode};

use super::{Body, Framing, Head, websocket};

/// What the server calls itself.
pub const SERVER: &str =
    concat!("Rillbox/", env!("CARGO_PKG_VERSION_MAJOR"), ".", env!("CARGO_PKG_VERSION_MINOR"));

/// An answer to a request.
pub type Reply = Response<Body>;

/// A reply of one line of text.
#[must_use]
pub fn text_reply(status: StatusCode, text: impl Display) -> Reply {
    let mut reply = Response::new(Body::from(format!("{text}\n")));
    *reply.status_mut() = status;
    let plain = HeaderValue::from_static("text/plain; charset=utf-8");
    reply.headers_mut().insert(header::CONTENT_TYPE, plain);
    reply
}

/// Sets a header, unless the value can't stand in one.
pub fn put(reply: &mut Reply, name: HeaderName, value: &str) {
    if let Ok(value) = HeaderValue::from_str(value) {
        reply.headers_mut().insert(name, value);
    }
}

/// The reply that asks for a password (RFC 7617 2).
#[must_use]
pub fn unauthorized(text: impl Display) -> Reply {
    let mut reply = text_reply(StatusCode::UNAUTHORIZED, text);
    let basic = HeaderValue::from_static("Basic realm=\"Rillbox\", charset=\"UTF-8\"");
    reply.headers_mut().insert(header::WWW_AUTHENTICATE, basic);
    reply
}

/// The reply to a method that can't be used at a path that can be read.
#[must_use]
pub fn not_allowed() -> Reply {
    let mut reply = text_reply(StatusCode::METHOD_NOT_ALLOWED, "405: this can only be read");
    reply.headers_mut().insert(header::ALLOW, HeaderValue::from_static("GET, HEAD, OPTIONS"));
    reply
}

/// The reply to `OPTIONS` at any path.
pub(super) fn options_reply() -> Reply {
    let mut reply = Response::new(Body::default());
    *reply.status_mut() = StatusCode::NO_CONTENT;
    reply.headers_mut().insert(header::ALLOW, HeaderValue::from_static(METHODS));
    reply
}

/// What every reply says, whoever made it. `cors`: what it says to pages of other origins too.
pub(super) fn finish(headers: &mut HeaderMap, cors: bool) {
    headers.insert(header::SERVER, HeaderValue::from_static(SERVER));
    if cors {
        for (name, value) in CORS {
            // Who answers may have said more.
            headers.entry(HeaderName::from_static(name)).or_insert(HeaderValue::from_static(value));
        }
    } else {
        for (name, _) in CORS {
            headers.remove(name);
        }
    }
}

/// A whole reply that is in memory, as the last on its connection.
pub(super) fn last_reply(reply: &Reply) -> Vec<u8> {
    let body = reply.body().in_memory();
    let mut headers = reply.headers().clone();
    headers.insert(header::CONNECTION, HeaderValue::from_static("Close"));
    headers.insert(header::CONTENT_LENGTH, HeaderValue::from(body.len()));
    let mut bytes = head_bytes(reply.status(), &headers);
    bytes.extend_from_slice(body);
    bytes
}

/// The head before a live body. Its lines are those of SRS.
pub(super) fn live_head(head: &Head, framing: Framing, content_type: &'static str, cors: bool) -> Bytes {
    let mut headers = HeaderMap::new();
    finish(&mut headers, cors);
    let status = if framing == Framing::WebSocket {
        switch_headers(head, &mut headers);
        StatusCode::SWITCHING_PROTOCOLS
    } else {
        headers.insert(header::CONNECTION, HeaderValue::from_static("Close"));
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
        if framing == Framing::Chunked {
            headers.insert(header::TRANSFER_ENCODING, HeaderValue::from_static("chunked"));
        }
        StatusCode::OK
    };
    head_bytes(status, &headers).into()
}

/// Whether a request asks to become a WebSocket.
pub(super) fn asks_websocket(head: &Head) -> bool {
    head.has_word(header::CONNECTION, "upgrade") && head.has_word(header::UPGRADE, "websocket")
}

/// What is wrong with a request to become a WebSocket (RFC 6455 4.2.1), if anything is.
pub(super) fn websocket_fault(head: &Head) -> Option<Reply> {
    if head.header(header::SEC_WEBSOCKET_VERSION) != Some("13") {
        let mut reply = text_reply(StatusCode::UPGRADE_REQUIRED, "426: only WebSocket version 13 is served");
        reply.headers_mut().insert(header::SEC_WEBSOCKET_VERSION, HeaderValue::from_static("13"));
        return Some(reply);
    }
    if !head.header(header::SEC_WEBSOCKET_KEY).is_some_and(websocket::is_key) {
        return Some(text_reply(StatusCode::BAD_REQUEST, "400: Sec-WebSocket-Key is missing or malformed"));
    }
    None
}

/// The header lines of a 101 that begins a WebSocket.
pub(super) fn switch_headers(head: &Head, headers: &mut HeaderMap) {
    headers.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
    let accept = websocket::accept_key(head.header(header::SEC_WEBSOCKET_KEY).unwrap_or_default());
    if let Ok(accept) = HeaderValue::from_str(&accept) {
        headers.insert(header::SEC_WEBSOCKET_ACCEPT, accept);
    }
}

const METHODS: &str = "GET, POST, HEAD, PUT, DELETE, OPTIONS";

/// To pages of other origins. The last lets public pages reach a server in a private network.
const CORS: [(&str, &str); 5] = [
    (
        "access-control-allow-headers",
        "origin,range,accept-encoding,referer,Cache-Control,X-Proxy-Authorization,X-Requested-With,Content-Type",
    ),
    ("access-control-allow-methods", METHODS),
    ("access-control-allow-origin", "*"),
    ("access-control-allow-private-network", "true"),
    ("access-control-expose-headers", "Server,range,Content-Length,Content-Range"),
];

/// Status line and header lines, sorted and in `Title-Case`: there are players that compare names byte by byte.
pub(super) fn head_bytes(status: StatusCode, headers: &HeaderMap) -> Vec<u8> {
    let reason = status.canonical_reason().unwrap_or("Unknown");
    let mut bytes = format!("HTTP/1.1 {} {reason}\r\n", status.as_str()).into_bytes();
    let mut lines: Vec<_> = headers.iter().map(|(name, value)| (name.as_str(), value.as_bytes())).collect();
    lines.sort_unstable();
    for (name, value) in lines {
        if name == "sec-websocket-accept" {
            bytes.extend_from_slice(b"Sec-WebSocket-Accept");
        } else {
            let mut start = true;
            for c in name.bytes() {
                bytes.push(if start { c.to_ascii_uppercase() } else { c });
                start = c == b'-';
            }
        }
        bytes.extend_from_slice(b": ");
        bytes.extend_from_slice(value);
        bytes.extend_from_slice(b"\r\n");
    }
    bytes.extend_from_slice(b"\r\n");
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(headers: &str) -> Head {
        Head::parse(format!("GET /a HTTP/1.1\r\n{headers}\r\n").as_bytes()).unwrap().unwrap().0
    }

    #[test]
    fn the_live_head_is_that_of_srs() {
        let text = live_head(&head(""), Framing::Chunked, "video/x-flv", false);
        let expected = format!(
            "HTTP/1.1 200 OK\r\nConnection: Close\r\nContent-Type: video/x-flv\r\nServer: {SERVER}\r\n\
             Transfer-Encoding: chunked\r\n\r\n"
        );
        assert_eq!(text, expected);
        let raw = live_head(&head(""), Framing::Raw, "video/x-flv", true);
        let raw = std::str::from_utf8(&raw).unwrap();
        assert!(raw.contains("Access-Control-Allow-Origin: *\r\n") && !raw.contains("chunked"));
    }

    #[test]
    fn websocket_handshake() {
        let asks = "Connection: keep-alive, Upgrade\r\nUpgrade: WebSocket\r\n";
        let key = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
        let good = head(&format!("{asks}{key}Sec-WebSocket-Version: 13\r\n"));
        assert!(asks_websocket(&good) && websocket_fault(&good).is_none());
        let text = live_head(&good, Framing::WebSocket, "", false);
        let text = std::str::from_utf8(&text).unwrap();
        assert!(text.starts_with("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\n"));
        assert!(text.contains("Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n"));
        assert!(!asks_websocket(&head("Upgrade: websocket\r\n")));
        let old = websocket_fault(&head(&format!("{asks}{key}Sec-WebSocket-Version: 8\r\n"))).unwrap();
        assert_eq!(old.status(), StatusCode::UPGRADE_REQUIRED);
        let keyless = websocket_fault(&head(&format!("{asks}Sec-WebSocket-Version: 13\r\n"))).unwrap();
        assert_eq!(keyless.status(), StatusCode::BAD_REQUEST);
    }

    #[test]
    fn a_last_reply_is_whole() {
        let text = String::from_utf8(last_reply(&text_reply(StatusCode::NOT_FOUND, "gone"))).unwrap();
        assert!(text.starts_with("HTTP/1.1 404 Not Found\r\nConnection: Close\r\nContent-Length: 5\r\n"));
        assert!(text.ends_with("\r\n\r\ngone\n"));
    }
}
