//! What a request asks for.

use std::borrow::Cow;
use std::fmt::Write;

use crate::hub::ViewerId;
use crate::net::http::Head;

/// The app of a path that names none, as in RTMP.
const DEFAULT_APP: &str = "__defaultApp__";

/// The longest query: it goes into each link of a manifest.
const MOST_QUERY: usize = 2048;

/// The parameter that links carry a viewer's id in.
pub(super) const SESSION: &str = "dash_ctx";

/// A request for something of a stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Ask {
    pub vhost: String,
    pub app: String,
    pub stream: String,
    pub what: What,
    pub session: Option<ViewerId>,
}

/// Of a stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum What {
    Manifest,
    /// What a decoder needs before segments of a Representation, by the [mark](mark) of its name.
    Init {
        rendition: String,
        mark: u32,
    },
    Segment {
        rendition: String,
        number: u64,
    },
}

impl Ask {
    /// `None` if it can't be about something of ours.
    pub(super) fn read(head: &Head) -> Option<Self> {
        let (path, kind) = head.path.rsplit_once('.')?;
        if !matches!(kind, "mpd" | "m4s" | "mp4") || path.ends_with('/') {
            return None;
        }
        let parts: Vec<_> = path.split('/').filter(|part| !part.is_empty() && *part != "_definst_").collect();
        let (last, rest) = parts.split_last()?;
        let (what, stream, app) = match kind {
            "mpd" => (What::Manifest, last, rest),
            _ => {
                let (stream, app) = rest.split_last()?;
                (What::piece(last, kind)?, stream, app)
            }
        };
        let vhost = ["vhost", "domain"].iter().find_map(|key| head.param(key));
        let vhost = vhost.filter(|value| !value.is_empty()).unwrap_or(Cow::Borrowed(&head.host));
        Some(Self {
            vhost: vhost.into_owned(),
            app: if app.is_empty() { DEFAULT_APP.to_owned() } else { app.join("/") },
            stream: (*stream).to_owned(),
            what,
            session: head.param(SESSION).and_then(|text| ViewerId::parse(&text)),
        })
    }

    /// The query of a manifest's links: the viewer, and what the client came with, such as tokens. `None`: it is too
    /// long.
    pub(super) fn query(head: &Head, session: Option<ViewerId>) -> Option<String> {
        if head.query.len() > MOST_QUERY {
            return None;
        }
        let own = session.map(|id| format!("{SESSION}={}", id.as_str()));
        let carried = head.query.split('&').filter(|pair| {
            let name = pair.split_once('=').map_or(*pair, |(name, _)| name);
            !name.is_empty() && name != SESSION
        });
        // In templates `$` begins the name of a variable.
        let carried = carried.map(|pair| pair.replace('$', "%24"));
        let all: Vec<String> = own.into_iter().chain(carried).collect();
        Some(if all.is_empty() { String::new() } else { format!("?{}", all.join("&")) })
    }
}

impl What {
    /// `v0-12` or `v0-init-89abcdef`.
    fn piece(name: &str, kind: &str) -> Option<Self> {
        let (rendition, rest) = name.split_once('-')?;
        // Those that are made for DASH alone are marked.
        let digits = rendition.strip_prefix(['a', 'v'])?;
        let digits = digits.strip_suffix('d').unwrap_or(digits);
        if !(1..=3).contains(&digits.len()) || !digits.bytes().all(|c| c.is_ascii_digit()) {
            return None;
        }
        let rendition = rendition.to_owned();
        match kind {
            "mp4" => {
                let mark = rest.strip_prefix("init-")?;
                let is_mark =
                    mark.len() == 8 && mark.bytes().all(|c| c.is_ascii_digit() || (b'a'..=b'f').contains(&c));
                let mark = u32::from_str_radix(mark, 16).ok().filter(|_| is_mark)?;
                Some(Self::Init { rendition, mark })
            }
            _ => {
                let number = rest.parse().ok().filter(|_| rest.bytes().all(|c| c.is_ascii_digit()))?;
                Some(Self::Segment { rendition, number })
            }
        }
    }
}

/// A short word for a name, the same each time (FNV-1a).
pub(super) fn mark(name: &str) -> u32 {
    name.bytes().fold(0x811C_9DC5, |sum, byte| (sum ^ u32::from(byte)).wrapping_mul(0x0100_0193))
}

/// A name as it stands in a URL's path.
pub(super) fn encode(name: &str) -> String {
    let mut out = String::with_capacity(name.len());
    for byte in name.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~') {
            out.push(char::from(byte));
        } else {
            let _ = write!(out, "%{byte:02X}");
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(target: &str) -> Head {
        let text = format!("GET {target} HTTP/1.1\r\nHost: h\r\n\r\n");
        Head::parse(text.as_bytes()).unwrap().unwrap().0
    }

    fn read(target: &str) -> Option<(String, String, What)> {
        Ask::read(&head(target)).map(|ask| (ask.app, ask.stream, ask.what))
    }

    #[test]
    fn paths() {
        let is = |target, app: &str, stream: &str, what| {
            assert_eq!(read(target), Some((app.to_owned(), stream.to_owned(), what)), "{target}");
        };
        is("/live/demo.mpd", "live", "demo", What::Manifest);
        is("/demo.mpd", DEFAULT_APP, "demo", What::Manifest);
        is("/a/b/_definst_//c%20d.mpd?x", "a/b", "c d", What::Manifest);
        is("/live/demo/v0-12.m4s", "live", "demo", What::Segment { rendition: "v0".to_owned(), number: 12 });
        is("/live/demo/a1d-0.m4s", "live", "demo", What::Segment { rendition: "a1d".to_owned(), number: 0 });
        let init = What::Init { rendition: "a12".to_owned(), mark: 0x0089_ABCD };
        is("/demo/a12-init-0089abcd.mp4", DEFAULT_APP, "demo", init);
        for target in [
            "/live/demo.m3u8",
            "/live/demo/v0-12.ts",
            "/live/demo/.mpd",
            "/.mpd",
            "/v0-1.m4s",
            "/live/demo/x0-1.m4s",
            "/live/demo/v-1.m4s",
            "/live/demo/v0000-1.m4s",
            "/live/demo/v0--1.m4s",
            "/live/demo/v0-+1.m4s",
            "/live/demo/v0-18446744073709551616.m4s",
            "/live/demo/v0-.m4s",
            "/live/demo/v0-init-89ABCDEF.mp4",
            "/live/demo/v0-init-+9abcdef.mp4",
            "/live/demo/v0-init-9abcdef.mp4",
        ] {
            assert_eq!(read(target), None, "{target}");
        }
    }

    #[test]
    fn queries() {
        let id = ViewerId::parse("0123456789abcdef").unwrap();
        let of = |query, id| Ask::query(&head(&format!("/live/x.mpd?{query}")), id).unwrap();
        assert_eq!(of("", None), "");
        assert_eq!(of("", Some(id)), "?dash_ctx=0123456789abcdef");
        assert_eq!(
            of("dash_ctx=y&vhost=v&&t=$a%26", Some(id)),
            "?dash_ctx=0123456789abcdef&vhost=v&t=%24a%26"
        );
        assert_eq!(Ask::query(&head(&format!("/live/x.mpd?{}", "a".repeat(3000))), None), None);
        assert_eq!(Ask::read(&head("/live/x.mpd?dash_ctx=0123456789abcdef")).unwrap().session, Some(id));
    }

    #[test]
    fn names() {
        assert_eq!(encode("a b/ü%.x"), "a%20b%2F%C3%BC%25.x");
        assert_eq!((mark(""), mark("a")), (0x811C_9DC5, 0xE40C_292C));
    }
}
