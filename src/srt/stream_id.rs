//! What a stream id says: which stream, what for, and what else.
//!
//! All of these publish `live/demo`, the last where `live` is the default app:
//!
//! ```text
//! #!::r=live/demo,m=publish          libsrt's access control guidelines, and SRS
//! #!::h=live/demo,m=publish          SRS's older form
//! #!::h=v/live/demo,m=publish        the same, of the vhost v (as h=v,r=live/demo is)
//! #!::h=live/demo?k=v,m=publish      with parameters
//! publish:live/demo                  MediaMTX, also publish:PATH:USER:PASSWORD:k=v
//! live/demo?m=publish                bare; a bare name plays unless it says otherwise
//! demo?m=publish
//! ```
//!
//! Keys that mean nothing here (all but `r h m t`) become parameters, which access rules and callbacks get as those of
//! any other URL; the user `u` is called `user` there, too.

use std::fmt::Write as _;

/// The longest stream id (`SRTO_STREAMID`), bytes.
pub const MAX_STREAM_ID: usize = 512;

/// What stands before pairs of keys and values.
const PAIRS: &str = "#!::";

/// What a peer wants of a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// To receive it: `m=request`, or nothing said.
    Play,
    /// To send it: `m=publish`.
    Publish,
}

/// What a peer asked for, in parts, not yet looked up in the configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StreamId {
    /// `h=`, or `vhost=` as other URLs have it; empty where none was named.
    pub vhost: String,
    /// Application, e.g. `live`; may contain slashes.
    pub app: String,
    /// Stream.
    pub stream: String,
    /// What for.
    pub mode: Mode,
    /// Parameters, as `k=v&k=v`.
    pub params: String,
}

/// Why a stream id names no stream.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum StreamIdError {
    /// It asks for both directions, or for what nobody knows.
    #[error("the stream id asks for m={0:?}; use m=publish or m=request")]
    Mode(String),
    /// Nested keys, which nobody sends.
    #[error("the stream id has nested keys (#!:{{…); use #!::r=APP/STREAM,m=publish")]
    Nested,
    /// No stream in it.
    #[error("the stream id names no stream; use #!::r=APP/STREAM,m=publish")]
    NoStream,
    /// It is longer than SRT allows.
    #[error("a stream id of {0} bytes; the most is {MAX_STREAM_ID}")]
    TooLong(usize),
    /// A file, or a login without stream.
    #[error("the stream id asks for t={0:?}; only live streams (t=stream) are served here")]
    Type(String),
}

impl StreamId {
    /// Reads a stream id. One part alone is a stream of `default_app`.
    ///
    /// # Errors
    ///
    /// It names no stream, or asks for what is not served.
    pub fn parse(text: &str, default_app: &str) -> Result<Self, StreamIdError> {
        let text = text.trim_matches(|c: char| c.is_whitespace() || c == '\0');
        if text.len() > MAX_STREAM_ID {
            return Err(StreamIdError::TooLong(text.len()));
        }
        let mut asked = Asked::default();
        if let Some(pairs) = text.strip_prefix(PAIRS) {
            asked.pairs(pairs)?;
        } else if text.starts_with("#!:") {
            return Err(StreamIdError::Nested);
        } else if let Some((mode, rest)) = mediamtx(text) {
            asked.mode = mode;
            asked.colons(rest);
        } else {
            let (path, pairs) = text.split_once(['?', ',']).unwrap_or((text, ""));
            asked.path = Some(path.to_owned());
            asked.pairs(pairs)?;
        }
        asked.stream_id(default_app).ok_or(StreamIdError::NoStream)
    }
}

/// `publish:…` and `read:…`.
fn mediamtx(text: &str) -> Option<(Mode, &str)> {
    let (action, rest) = text.split_once(':')?;
    match action {
        "publish" => Some((Mode::Publish, rest)),
        "read" => Some((Mode::Play, rest)),
        _ => None,
    }
}

struct Asked {
    host: Option<String>,
    path: Option<String>,
    mode: Mode,
    params: String,
}

impl Default for Asked {
    fn default() -> Self {
        Self { host: None, path: None, mode: Mode::Play, params: String::new() }
    }
}

impl Asked {
    /// `k=v,k=v`. SRS's older clients have `?` before what they took from a URL, whose pairs `&` parts.
    fn pairs(&mut self, text: &str) -> Result<(), StreamIdError> {
        for pair in text.split([',', '?', '&']).filter(|pair| !pair.is_empty()) {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            match key {
                "h" => self.host = Some(value.to_owned()),
                "r" => self.path = Some(value.to_owned()),
                "m" => {
                    self.mode = match value {
                        "publish" => Mode::Publish,
                        "request" => Mode::Play,
                        other => return Err(StreamIdError::Mode(other.to_owned())),
                    }
                }
                "t" if value == "stream" => {}
                "t" => return Err(StreamIdError::Type(value.to_owned())),
                _ => self.add(key, value, false),
            }
        }
        if let Some(user) = param(&self.params, "u").map(ToOwned::to_owned)
            && param(&self.params, "user").is_none()
        {
            self.add("user", &user, false);
        }
        Ok(())
    }

    /// `PATH:USER:PASSWORD:k=v&k=v`.
    fn colons(&mut self, text: &str) {
        let mut parts = text.splitn(4, ':');
        let path = parts.next().unwrap_or_default();
        let (path, query) = path.split_once('?').unwrap_or((path, ""));
        self.path = Some(path.to_owned());
        for key in ["user", "pass"] {
            if let Some(value) = parts.next().filter(|value| !value.is_empty()) {
                self.add(key, value, true);
            }
        }
        for query in [query, parts.next().unwrap_or_default()] {
            for pair in query.split('&').filter(|pair| !pair.is_empty()) {
                let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
                self.add(key, value, false);
            }
        }
    }

    fn add(&mut self, key: &str, value: &str, encode: bool) {
        if !self.params.is_empty() {
            self.params.push('&');
        }
        self.params.push_str(key);
        self.params.push('=');
        if !encode {
            self.params.push_str(value);
            return;
        }
        for byte in value.bytes() {
            if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
                self.params.push(char::from(byte));
            } else {
                let _ = write!(self.params, "%{byte:02X}"); // a String takes everything
            }
        }
    }

    fn stream_id(self, default_app: &str) -> Option<StreamId> {
        let (mut host, mut path) = (self.host, self.path);
        if path.is_none()
            && let Some(text) = host.take()
        {
            // SRS's older form: [vhost/]app/stream.
            let text = text.trim_matches('/');
            path = Some(match text.split_once('/') {
                Some((vhost, rest)) if rest.contains('/') => {
                    host = Some(vhost.to_owned());
                    rest.to_owned()
                }
                _ => text.to_owned(),
            });
        }
        let path = path?;
        let parts: Vec<&str> =
            path.split('/').filter(|part| !part.is_empty() && *part != "_definst_").collect();
        let (stream, app) = parts.split_last()?;
        let asked = param(&self.params, "vhost").or_else(|| param(&self.params, "domain"));
        Some(StreamId {
            vhost: asked.map(ToOwned::to_owned).or(host).unwrap_or_default(),
            app: if app.is_empty() { default_app.to_owned() } else { app.join("/") },
            stream: (*stream).to_owned(),
            mode: self.mode,
            params: self.params,
        })
    }
}

/// The value of `name` in `k=v&k=v`, if it isn't empty.
fn param<'a>(params: &'a str, name: &str) -> Option<&'a str> {
    let mut pairs = params.split('&').filter_map(|pair| pair.split_once('='));
    pairs.find(|(key, value)| *key == name && !value.is_empty()).map(|(_, value)| value)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn read(text: &str) -> (String, Mode, String) {
        let id = StreamId::parse(text, "live").unwrap_or_else(|error| panic!("{error}"));
        (format!("{}|{}|{}", id.vhost, id.app, id.stream), id.mode, id.params)
    }

    #[test]
    fn all_forms() {
        use Mode::{Play, Publish};
        for (text, name, mode, params) in [
            ("#!::r=live/demo,m=publish", "|live|demo", Publish, ""),
            ("#!::r=live/demo,m=request", "|live|demo", Play, ""),
            ("#!::r=live/demo", "|live|demo", Play, ""),
            ("#!::m=publish,r=/a/b/demo", "|a/b|demo", Publish, ""),
            ("#!::h=v.example,r=live/demo,m=publish", "v.example|live|demo", Publish, ""),
            ("#!::h=live/demo,m=publish", "|live|demo", Publish, ""),
            ("#!::h=v/live/demo,m=publish", "v|live|demo", Publish, ""),
            ("#!::h=demo", "|live|demo", Play, ""),
            ("#!::h=live/demo?secret=x&k=v,m=publish", "|live|demo", Publish, "secret=x&k=v"),
            ("#!::r=live/demo,m=publish,token=a.b=c", "|live|demo", Publish, "token=a.b=c"),
            ("#!::u=bob,pass=x,r=live/demo,s=7,t=stream", "|live|demo", Play, "u=bob&pass=x&s=7&user=bob"),
            ("#!::r=live/demo,vhost=w", "w|live|demo", Play, "vhost=w"),
            ("live/demo", "|live|demo", Play, ""),
            ("demo", "|live|demo", Play, ""),
            (" demo\0", "|live|demo", Play, ""),
            ("a/_definst_/demo?k=v", "|a|demo", Play, "k=v"),
            ("demo?m=publish&k=v", "|live|demo", Publish, "k=v"),
            ("publish:live/demo", "|live|demo", Publish, ""),
            ("read:demo", "|live|demo", Play, ""),
            ("publish:demo:bob:p&x%", "|live|demo", Publish, "user=bob&pass=p%26x%25"),
            ("read:a/b/c:::k=v&l=w", "|a/b|c", Play, "k=v&l=w"),
            ("publish:demo?k=v", "|live|demo", Publish, "k=v"),
        ] {
            assert_eq!(read(text), (name.to_owned(), mode, params.to_owned()), "{text}");
        }
    }

    #[test]
    fn what_is_not_served_is_told() {
        for (text, error) in [
            ("", StreamIdError::NoStream),
            ("#!::", StreamIdError::NoStream),
            ("#!::r=/,m=publish", StreamIdError::NoStream),
            ("#!::m=publish", StreamIdError::NoStream),
            ("#!::r=a/b,m=bidirectional", StreamIdError::Mode("bidirectional".to_owned())),
            ("#!::r=a/b,t=file", StreamIdError::Type("file".to_owned())),
            ("#!:{r=a/b}", StreamIdError::Nested),
        ] {
            assert_eq!(StreamId::parse(text, "live"), Err(error));
        }
        assert_eq!(StreamId::parse(&"x".repeat(513), "live"), Err(StreamIdError::TooLong(513)));
    }

    proptest! {
        #[test]
        fn nothing_panics(text in "(#!::|publish:|)([a-z/=,?&:%]{0,40}|\\PC{0,80})") {
            if let Ok(id) = StreamId::parse(&text, "live") {
                prop_assert!(!id.stream.is_empty() && !id.stream.contains('/') && !id.app.is_empty());
            }
        }
    }
}
