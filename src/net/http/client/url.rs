//! URLs to ask (RFC 3986, RFC 9110 4.2).

use std::fmt;

use hyper::Uri;
use hyper::header::HeaderValue;
use hyper::http::uri::PathAndQuery;

use crate::net::http::percent_decode;

/// A URL that can be asked: http or https, a host, perhaps credentials.
#[derive(Clone, PartialEq, Eq)]
pub struct Url {
    secure: bool,
    /// Without the brackets of IPv6.
    host: String,
    port: u16,
    target: Uri,
    authority: HeaderValue,
    credentials: Option<HeaderValue>,
}

/// Why a text is no URL to ask.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("expected a URL such as \"http://127.0.0.1:8085/hook\": {why}")]
#[non_exhaustive]
pub struct UrlError {
    /// What is wrong with it.
    pub why: &'static str,
}

/// A text that names nobody's password.
const fn wrong(why: &'static str) -> UrlError {
    UrlError { why }
}

impl Url {
    /// Reads a URL. Characters that must not stand in one (blanks, quotes, all beyond ASCII) are percent-encoded, so that what
    /// people write and names of streams come through.
    ///
    /// # Errors
    /// It is none, or none of a web server.
    pub fn parse(text: &str) -> Result<Self, UrlError> {
        const LONGEST: usize = 8 * 1024;
        if text.len() > LONGEST {
            return Err(wrong("it is longer than 8 KiB"));
        }
        let text = encode(text.split('#').next().unwrap_or_default().trim());
        let uri = Uri::try_from(text).map_err(|_| wrong("it is malformed"))?;
        let secure = match uri.scheme_str() {
            Some("http") => false,
            Some("https") => true,
            Some(_) => return Err(wrong("it begins with neither http:// nor https://")),
            None => return Err(wrong("it does not begin with http:// or https://")),
        };
        let host = uri.host().unwrap_or_default();
        let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
        if bare.is_empty() {
            return Err(wrong("it names no host"));
        }
        let authority = uri.authority().map_or("", |authority| authority.as_str());
        let (user, place) = authority.rsplit_once('@').map_or((None, authority), |(u, p)| (Some(u), p));
        // Uri takes "host:" and "host:99999" for hosts without port.
        let colon = place.strip_prefix(host).ok_or_else(|| wrong("its host is malformed"))?;
        if !colon.is_empty() && uri.port_u16().is_none_or(|port| port == 0) {
            return Err(wrong("its port is none"));
        }
        let port = uri.port_u16().unwrap_or(if secure { 443 } else { 80 });
        let credentials = user.map(basic).transpose()?;
        let target = uri.path_and_query().cloned().unwrap_or_else(|| PathAndQuery::from_static("/"));
        let authority = HeaderValue::from_str(place).map_err(|_| wrong("its host is malformed"))?;
        Ok(Self { secure, host: bare.to_owned(), port, target: target.into(), authority, credentials })
    }

    /// Whether TLS is spoken.
    #[must_use]
    pub fn is_secure(&self) -> bool {
        self.secure
    }

    /// Name or address of the server, without brackets.
    #[must_use]
    pub fn host(&self) -> &str {
        &self.host
    }

    /// Its port.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// `host:port`, for logs.
    #[must_use]
    pub fn server(&self) -> String {
        if self.host.contains(':') {
            format!("[{}]:{}", self.host, self.port)
        } else {
            format!("{}:{}", self.host, self.port)
        }
    }

    pub(super) fn target(&self) -> Uri {
        self.target.clone()
    }

    pub(super) fn authority(&self) -> HeaderValue {
        self.authority.clone()
    }

    pub(super) fn credentials(&self) -> Option<HeaderValue> {
        self.credentials.clone()
    }
}

/// Tells no credentials, and no query, which may hold some.
impl fmt::Debug for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.secure { "https" } else { "http" };
        write!(f, "{scheme}://{}{}", self.server(), self.target.path())
    }
}

/// As [`Debug`](fmt::Debug).
impl fmt::Display for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

/// `user:password` of a URL as RFC 7617 wants it.
fn basic(user: &str) -> Result<HeaderValue, UrlError> {
    let (name, password) = user.split_once(':').unwrap_or((user, ""));
    let decode = |text| percent_decode(text).ok_or_else(|| wrong("its credentials are malformed"));
    let (name, password) = (decode(name)?, decode(password)?);
    if name.contains(':') {
        return Err(wrong("its user's name has a colon, which Basic authentication can't carry"));
    }
    let text = format!("Basic {}", base64(format!("{name}:{password}").as_bytes()));
    let mut value = HeaderValue::from_str(&text).map_err(|_| wrong("its credentials are malformed"))?;
    value.set_sensitive(true);
    Ok(value)
}

/// RFC 4648 4.
fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut out = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for three in bytes.chunks(3) {
        let byte = |i: usize| three.get(i).copied().map_or(0, u32::from);
        let bits = byte(0) << 16 | byte(1) << 8 | byte(2);
        for place in 0..4 {
            let digit = DIGITS.get((bits >> (18 - 6 * place) & 63) as usize).copied().unwrap_or(b'=');
            out.push(if place <= three.len() { digit.into() } else { '=' });
        }
    }
    out
}

/// Percent-encodes what can't stand in a URL. `%` stays: what is encoded already is not encoded twice.
fn encode(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            0..=b' ' | 0x7F.. | b'"' | b'<' | b'>' | b'\\' | b'^' | b'`' | b'{' | b'|' | b'}' => {
                // Writing to a String doesn't fail.
                let _ = fmt::Write::write_fmt(&mut out, format_args!("%{byte:02X}"));
            }
            _ => out.push(byte.into()),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn parse(text: &str) -> Url {
        Url::parse(text).unwrap_or_else(|error| panic!("{text}: {error}"))
    }

    #[test]
    fn urls() {
        for (text, server, host, target) in [
            ("http://a.example/x?y=z", "a.example:80", "a.example", "/x?y=z"),
            ("https://a.example", "a.example:443", "a.example", "/"),
            ("HTTP://127.0.0.1:8085/hook#part", "127.0.0.1:8085", "127.0.0.1:8085", "/hook"),
            ("http://[::1]:8085/", "[::1]:8085", "[::1]:8085", "/"),
            ("http://a/Ка м?\"x\"=%20", "a:80", "a", "/%D0%9A%D0%B0%20%D0%BC?%22x%22=%20"),
        ] {
            let url = parse(text);
            assert_eq!((url.server().as_str(), url.authority()), (server, HeaderValue::from_static(host)));
            assert_eq!(url.target().to_string(), target, "{text}");
        }
        assert_eq!(parse("http://[::1]/").host(), "::1");
        for bad in [
            "",
            "a",
            "/x",
            "ftp://a/",
            "http://",
            "http:///x",
            "http://a:/",
            "http://a:0/",
            "http://a:70000/",
            "http://a:b/",
            "rtmp://a/b",
            "http://:80/",
            "http://[::1/",
        ] {
            assert!(Url::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn credentials_are_sent_and_not_told() {
        let url = parse("https://user:p%40ss@a.example:8443/x?token=secret");
        assert_eq!(url.credentials().unwrap(), "Basic dXNlcjpwQHNz");
        assert_eq!(url.authority(), "a.example:8443");
        assert_eq!(format!("{url} {url:?}"), "https://a.example:8443/x https://a.example:8443/x");
        assert_eq!(parse("http://u@a/").credentials().unwrap(), "Basic dTo=");
        for (text, expected) in
            [("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foobar", "Zm9vYmFy")]
        {
            assert_eq!(base64(text.as_bytes()), expected);
        }
    }

    proptest! {
        #[test]
        fn any_text_is_a_url_or_not(text in "(https?://)?\\PC{0,60}") {
            if let Ok(url) = Url::parse(&text) {
                prop_assert!(!url.host().is_empty() && url.port() > 0);
            }
        }
    }
}
