use std::borrow::Cow;
use std::fmt;

use hyper::header::{self, HeaderMap, HeaderName, HeaderValue};
use hyper::http::request::Parts;
use hyper::{Method, StatusCode, Uri, Version};

use crate::net::masked_query;

/// The most header lines of a request. Browsers behind two proxies send about 40.
pub(super) const MAX_HEADERS: usize = 100;

/// The head of a request: everything but its body, checked and decoded.
#[derive(Clone)]
pub struct Head {
    /// `GET` and the like.
    pub method: Method,
    /// HTTP/1.0 or HTTP/1.1.
    pub version: Version,
    /// The path, percent-decoded, starting with `/`; `*` for `OPTIONS *`. It has no control characters, but
    /// may well have `..`, `//` and anything else that UTF-8 allows.
    pub path: String,
    /// What stood after `?`, as it was sent, without the `?`.
    pub query: String,
    /// The host that the client asked, in lower case without port; of the request line if it is there,
    /// otherwise of `Host`; empty if the client said nothing.
    pub host: String,
    /// All header lines. Values may be empty and need not be UTF-8.
    pub headers: HeaderMap,
}

impl Head {
    /// Reads a head from the start of `bytes` (RFC 9112 2 and 3): the head and its length in bytes, or
    /// `None` while it is not whole.
    ///
    /// # Errors
    /// [`HeadError`] as soon as the bytes can't become a head that we serve.
    pub fn parse(bytes: &[u8]) -> Result<Option<(Self, usize)>, HeadError> {
        let mut lines = [httparse::EMPTY_HEADER; MAX_HEADERS];
        let mut request = httparse::Request::new(&mut lines);
        let len = match request.parse(bytes) {
            Ok(httparse::Status::Complete(len)) => len,
            Ok(httparse::Status::Partial) => return Ok(None),
            Err(httparse::Error::TooManyHeaders) => return Err(HeadError::TooLarge),
            Err(httparse::Error::Version) => return Err(HeadError::Version),
            Err(error) => return Err(HeadError::Malformed(error.to_string())),
        };
        let malformed = |what: &str| HeadError::Malformed(what.to_owned());
        let method = request.method.and_then(|m| Method::from_bytes(m.as_bytes()).ok());
        let uri = request.path.and_then(|p| Uri::try_from(p.as_bytes()).ok());
        let version = if request.version == Some(0) { Version::HTTP_10 } else { Version::HTTP_11 };
        let mut headers = HeaderMap::with_capacity(request.headers.len());
        for line in &*request.headers {
            let name = HeaderName::from_bytes(line.name.as_bytes()).map_err(|_| malformed("header name"))?;
            let value = HeaderValue::from_bytes(line.value).map_err(|_| malformed("header value"))?;
            headers.append(name, value);
        }
        let method = method.ok_or_else(|| malformed("method"))?;
        let uri = uri.ok_or_else(|| malformed("request target"))?;
        Self::new(method, &uri, version, headers).map(|head| Some((head, len)))
    }

    /// The head of a request that hyper has read.
    ///
    /// # Errors
    /// As [`parse`](Self::parse).
    pub(super) fn of(parts: Parts) -> Result<Self, HeadError> {
        Self::new(parts.method, &parts.uri, parts.version, parts.headers)
    }

    fn new(method: Method, uri: &Uri, version: Version, headers: HeaderMap) -> Result<Self, HeadError> {
        if method == Method::CONNECT {
            return Err(HeadError::Method);
        }
        let path = percent_decode(uri.path()).ok_or_else(|| HeadError::Malformed("path".to_owned()))?;
        if !path.starts_with('/') && path != "*" {
            return Err(HeadError::Malformed("request target".to_owned()));
        }
        let mut hosts = headers.get_all(header::HOST).iter();
        let host = match (uri.authority(), hosts.next(), hosts.next()) {
            (_, _, Some(_)) => return Err(HeadError::Malformed("two Host headers".to_owned())),
            (Some(authority), ..) => authority.host().to_owned(),
            (None, Some(value), None) => value.to_str().unwrap_or("\0").to_owned(),
            // RFC 9112 3.2 wants 400 for HTTP/1.1, but simple players leave it out and mean the default vhost.
            (None, None, None) => String::new(),
        };
        let host = host_name(&host).ok_or_else(|| HeadError::Malformed("Host".to_owned()))?;
        Ok(Self { method, version, path, query: uri.query().unwrap_or_default().to_owned(), host, headers })
    }

    /// The first value of a header, without surrounding blanks, if it is text; it may be empty.
    pub fn header(&self, name: impl header::AsHeaderName) -> Option<&str> {
        self.headers.get(name)?.to_str().ok().map(str::trim)
    }

    /// Whether a header that is a list of words (`Connection`, `Upgrade`) has `word`, in any case.
    pub fn has_word(&self, name: impl header::AsHeaderName, word: &str) -> bool {
        let lines = self.headers.get_all(name).iter().filter_map(|value| value.to_str().ok());
        lines.flat_map(|line| line.split(',')).any(|item| item.trim().eq_ignore_ascii_case(word))
    }

    /// The first value of a parameter of the query, percent-decoded; empty if it stands without `=`.
    #[must_use]
    pub fn param(&self, name: &str) -> Option<Cow<'_, str>> {
        param(&self.query, name)
    }

    /// What the client asks of us is done, or it wants no more.
    #[must_use]
    pub fn wants_close(&self) -> bool {
        self.has_word(header::CONNECTION, "close")
            || (self.version == Version::HTTP_10 && !self.has_word(header::CONNECTION, "keep-alive"))
    }
}

impl fmt::Debug for Head {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.method, self.path)?;
        // Credentials may be in it.
        if self.query.is_empty() { Ok(()) } else { write!(f, "?{}", masked_query(&self.query)) }
    }
}

/// Why a request can't be served.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum HeadError {
    /// It breaks the grammar.
    #[error("malformed request: {0}")]
    Malformed(String),
    /// A method that this server has for no path.
    #[error("method not served")]
    Method,
    /// The head came too slowly.
    #[error("the request head did not come in time")]
    Timeout,
    /// A TLS client on a plain port.
    #[error("this port speaks HTTP, not HTTPS")]
    Tls,
    /// More bytes or more lines than the limit.
    #[error("request head too large")]
    TooLarge,
    /// Not HTTP/1.
    #[error("only HTTP/1.0 and HTTP/1.1 are served")]
    Version,
}

impl HeadError {
    /// The status that tells the client.
    #[must_use]
    pub fn status(&self) -> StatusCode {
        match self {
            Self::Malformed(_) | Self::Tls => StatusCode::BAD_REQUEST,
            Self::Method => StatusCode::METHOD_NOT_ALLOWED,
            Self::Timeout => StatusCode::REQUEST_TIMEOUT,
            Self::TooLarge => StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
            Self::Version => StatusCode::HTTP_VERSION_NOT_SUPPORTED,
        }
    }
}

/// The first value of `name` in a query string, percent-decoded; empty if it stands without `=`. A value
/// that can't be decoded counts as not there.
#[must_use]
pub fn param<'a>(query: &'a str, name: &str) -> Option<Cow<'a, str>> {
    let mut pairs = query.split('&').map(|pair| pair.split_once('=').unwrap_or((pair, "")));
    let (_, value) = pairs.find(|(key, _)| *key == name)?;
    if value.contains(['%', '+']) {
        percent_decode(&value.replace('+', " ")).map(Cow::Owned)
    } else {
        Some(Cow::Borrowed(value))
    }
}

/// Undoes percent-encoding (RFC 3986 2.1). `None` for a `%` without two hex digits, for bytes that are not
/// UTF-8, and for control characters, which no name of ours has and which would forge log lines.
#[must_use]
pub fn percent_decode(text: &str) -> Option<String> {
    let hex = |c: u8| char::from(c).to_digit(16).and_then(|d| u8::try_from(d).ok());
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(c) = rest.next() {
        if c == b'%' {
            let (high, low) = (hex(rest.next()?)?, hex(rest.next()?)?);
            bytes.push(high << 4 | low);
        } else {
            bytes.push(c);
        }
    }
    String::from_utf8(bytes).ok().filter(|text| !text.contains(char::is_control))
}

/// `host` of `host:port`, in lower case; an IPv6 address without brackets. `None` if it is no host name.
fn host_name(host: &str) -> Option<String> {
    let name = match host.strip_prefix('[') {
        Some(rest) => rest.split_once(']')?.0,
        None => host.split_once(':').map_or(host, |(name, _)| name),
    };
    let fits = |c: u8| c.is_ascii_alphanumeric() || matches!(c, b'-' | b'.' | b'_' | b':' | b'~' | b'%');
    name.bytes().all(fits).then(|| name.to_ascii_lowercase())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn head(text: &str) -> Head {
        let (head, len) = Head::parse(text.as_bytes()).unwrap().unwrap();
        assert_eq!(len, text.len());
        head
    }

    #[test]
    fn reads_a_players_request() {
        let head = head(concat!(
            "GET /live/d%C3%A9mo.flv?vhost=a.b&k=x%20y+z&flag HTTP/1.1\r\nHost: Example.com:8080\r\n",
            "Range:\r\nConnection: keep-alive, Upgrade\r\nUser-Agent: Lavf/59\r\n\r\n"
        ));
        assert_eq!((head.path.as_str(), head.host.as_str()), ("/live/démo.flv", "example.com"));
        assert_eq!(head.param("vhost").unwrap(), "a.b");
        assert_eq!(head.param("k").unwrap(), "x y z");
        assert_eq!(head.param("flag").unwrap(), "");
        assert_eq!(head.param("none"), None);
        assert_eq!(head.header("range"), Some(""), "an empty value is a value");
        assert!(head.has_word(header::CONNECTION, "upgrade") && !head.wants_close());
    }

    #[test]
    fn forms_of_the_target() {
        let absolute = head("GET http://a.example:80/x?y HTTP/1.1\r\nHost: b\r\n\r\n");
        assert_eq!(
            (absolute.host.as_str(), absolute.path.as_str(), absolute.query.as_str()),
            ("a.example", "/x", "y")
        );
        assert_eq!(head("OPTIONS * HTTP/1.1\r\n\r\n").path, "*");
        assert_eq!(head("GET http://a HTTP/1.0\r\n\r\n").path, "/");
        assert_eq!(head("GET / HTTP/1.1\r\nHost: [fd00::2]:8080\r\n\r\n").host, "fd00::2");
        assert_eq!(head("GET /ü HTTP/1.1\r\n\r\n").path, "/ü", "unencoded UTF-8 as curl sends it");
        assert!(head("GET / HTTP/1.0\r\n\r\n").wants_close());
        assert!(!head("GET / HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\n").wants_close());
    }

    #[test]
    fn refuses_what_is_no_request() {
        let status = |text: &[u8]| Head::parse(text).unwrap_err().status().as_u16();
        assert_eq!(status(b"\x03\x00\x00\x00 RTMP"), 400);
        assert_eq!(status(b"GET /a%00b HTTP/1.1\r\n\r\n"), 400);
        assert_eq!(status(b"GET /a%0d%0aX:y HTTP/1.1\r\n\r\n"), 400);
        assert_eq!(status(b"GET /a%f HTTP/1.1\r\n\r\n"), 400);
        assert_eq!(status(b"GET /%ff HTTP/1.1\r\n\r\n"), 400);
        assert_eq!(status(b"GET x HTTP/1.1\r\n\r\n"), 400);
        assert_eq!(status(b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n"), 400);
        assert_eq!(status(b"GET / HTTP/1.1\r\nHost: <script>\r\n\r\n"), 400);
        assert_eq!(status(b"GET / HTTP/1.1\r\nNo Colon\r\n\r\n"), 400);
        assert_eq!(status(b"CONNECT a:80 HTTP/1.1\r\n\r\n"), 405);
        assert_eq!(status(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"), 505);
        let many = format!("GET / HTTP/1.1\r\n{}\r\n", "a: b\r\n".repeat(MAX_HEADERS + 1));
        assert_eq!(status(many.as_bytes()), 431);
    }

    #[test]
    fn hostile_bytes_never_panic() {
        let good = b"GET http://h:1/a%20b?c=%41&d HTTP/1.1\r\nHost: h\r\nConnection: a, b\r\nX:\r\n\r\n";
        for end in 0..good.len() {
            assert!(matches!(Head::parse(&good[..end]), Ok(None)), "cut at {end}");
        }
        for at in 0..good.len() {
            for value in 0..=u8::MAX {
                let mut bad = good.to_vec();
                bad[at] = value;
                if let Ok(Some((head, _))) = Head::parse(&bad) {
                    let _ = (head.param("c"), head.wants_close(), format!("{head:?}"));
                }
            }
        }
    }

    proptest! {
        #[test]
        fn decoding_never_panics(text in "\\PC*") {
            let _ = (percent_decode(&text), param(&text, "a"), host_name(&text));
        }
    }
}
