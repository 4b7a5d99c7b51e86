//! What a request for a playlist says.

use std::borrow::Cow;
use std::time::Duration;

use hyper::StatusCode;

use super::media;
use super::text::encode;
use crate::hub::ViewerId;
use crate::net::http::Head;
use crate::segments::Rendition;

/// The app of a path that names none, as in RTMP.
const DEFAULT_APP: &str = "__defaultApp__";

/// The longest query: it goes into each link of a playlist.
const MOST_QUERY: usize = 2048;

/// A request for a playlist.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Ask {
    pub vhost: String,
    /// If it is a stream's own playlist.
    pub stream: Playlist,
    /// If it is that of a rendition, as its name allows.
    pub rendition: Option<(Playlist, String)>,
    /// Its path below the vhost's root.
    pub playlist: String,
    /// Where it should rather be asked for: there relative links lead where they should.
    pub redirect: Option<String>,
    pub session: Option<ViewerId>,
    pub block: Option<Block>,
    pub skip: bool,
    /// What of the query goes into links.
    carried: String,
}

/// Whose playlist it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Playlist {
    pub app: String,
    pub stream: String,
}

/// `_HLS_msn` and `_HLS_part` (8216bis 6.2.5.2): not to be answered before that is in the playlist.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Block {
    number: u64,
    part: Option<u64>,
}

/// Why a request for a playlist is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum AskError {
    #[error("{0} is no number")]
    Number(&'static str),
    #[error("_HLS_part needs _HLS_msn")]
    PartAlone,
    #[error("_HLS_msn={asked} is too far ahead: the last segment is {last}")]
    SegmentAhead { asked: u64, last: u64 },
    #[error("_HLS_part={asked} is too far ahead")]
    PartAhead { asked: u64 },
    #[error("the query is longer than {MOST_QUERY} bytes")]
    TooLong,
}

impl AskError {
    pub(super) fn status(&self) -> StatusCode {
        match self {
            Self::TooLong => StatusCode::URI_TOO_LONG,
            _ => StatusCode::BAD_REQUEST,
        }
    }
}

impl Ask {
    /// The vhost as the client names it.
    pub(super) fn vhost(head: &Head) -> Cow<'_, str> {
        let asked = ["vhost", "domain"].iter().find_map(|key| head.param(key));
        asked.filter(|value| !value.is_empty()).unwrap_or(Cow::Borrowed(&head.host))
    }

    /// A path without the slashes that don't count. `None`: it can't be the name of something we have.
    pub(super) fn below_root(path: &str) -> Option<Cow<'_, str>> {
        let path = path.strip_prefix('/')?;
        if !path.starts_with('/') && !path.contains("//") {
            return Some(Cow::Borrowed(path));
        }
        let parts: Vec<_> = path.split('/').filter(|part| !part.is_empty()).collect();
        Some(Cow::Owned(parts.join("/")))
    }

    /// What a request asks for; `None` if it can't be a playlist.
    pub(super) fn read(head: &Head) -> Result<Option<Self>, AskError> {
        let Some(path) = head.path.strip_suffix(".m3u8") else { return Ok(None) };
        let parts: Vec<_> = path.split('/').filter(|part| !part.is_empty() && *part != "_definst_").collect();
        let Some((last, rest)) = parts.split_last().filter(|_| !path.ends_with('/')) else { return Ok(None) };
        if head.query.len() > MOST_QUERY {
            return Err(AskError::TooLong);
        }
        let place = |stream: &str, app: &[&str]| Playlist {
            app: if app.is_empty() { DEFAULT_APP.to_owned() } else { app.join("/") },
            stream: stream.to_owned(),
        };
        let rendition = rest.split_last().filter(|_| is_rendition(last));
        let playlist = format!("{}.m3u8", parts.join("/"));
        let clean = head.path.strip_prefix('/') == Some(&playlist);
        let query = if head.query.is_empty() { String::new() } else { format!("?{}", head.query) };
        Ok(Some(Self {
            vhost: Self::vhost(head).into_owned(),
            stream: place(last, rest),
            rendition: rendition.map(|(stream, app)| (place(stream, app), (*last).to_owned())),
            redirect: (!clean).then(|| format!("/{}{query}", encode(&playlist))),
            playlist,
            session: head.param("hls_ctx").and_then(|text| ViewerId::parse(&text)),
            block: Block::read(head)?,
            skip: matches!(head.param("_HLS_skip").as_deref(), Some("YES" | "v2")),
            carried: carried(&head.query),
        }))
    }

    /// The queries of links to playlists and to segments: the session, and what the client came with, such as tokens.
    pub(super) fn queries(&self, session: Option<ViewerId>, in_segments: bool) -> (String, String) {
        let with = |id: ViewerId| match self.carried.as_str() {
            "" => format!("hls_ctx={}", id.as_str()),
            carried => format!("hls_ctx={}&{carried}", id.as_str()),
        };
        let playlists = session.map_or_else(|| self.carried.clone(), with);
        let segments = if in_segments { playlists.clone() } else { self.carried.clone() };
        (playlists, segments)
    }
}

/// Whether it is what renditions are called.
fn is_rendition(name: &str) -> bool {
    let number = |digits: &str| (1..=2).contains(&digits.len()) && digits.bytes().all(|c| c.is_ascii_digit());
    name == "main" || name.strip_prefix(['a', 'v']).is_some_and(number)
}

/// A query without what is ours, fit to stand in a playlist.
fn carried(query: &str) -> String {
    let ours = |pair: &str| {
        let name = pair.split_once('=').map_or(pair, |(name, _)| name);
        name.starts_with("_HLS_") || name == "hls_ctx"
    };
    let mut out = String::new();
    for pair in query.split('&').filter(|pair| !pair.is_empty() && !ours(pair)) {
        if !out.is_empty() {
            out.push('&');
        }
        for byte in pair.bytes() {
            // RFC 3986 3.4, and percent signs, which are encodings already.
            if byte.is_ascii_alphanumeric() || b"-._~!$'()*+,;=:@/?%".contains(&byte) {
                out.push(char::from(byte));
            } else {
                out.push_str(&format!("%{byte:02X}"));
            }
        }
    }
    out
}

impl Block {
    fn read(head: &Head) -> Result<Option<Self>, AskError> {
        let is_there = |name| head.query.split('&').any(|pair| pair.split('=').next() == Some(name));
        let number = |name: &'static str| match head.param(name) {
            // What can't be decoded is there, too.
            None if is_there(name) => Err(AskError::Number(name)),
            None => Ok(None),
            Some(text) if !text.is_empty() && text.bytes().all(|c| c.is_ascii_digit()) => {
                // What is beyond 2^64 is as absurd as that.
                Ok(Some(text.parse().unwrap_or(u64::MAX)))
            }
            Some(_) => Err(AskError::Number(name)),
        };
        match (number("_HLS_msn")?, number("_HLS_part")?) {
            (None, None) => Ok(None),
            (None, Some(_)) => Err(AskError::PartAlone),
            (Some(number), part) => Ok(Some(Self { number, part })),
        }
    }

    /// Refuses what no player that keeps to the playlist would ask for (8216bis 6.2.5.2).
    pub(super) fn check(self, rendition: &Rendition, part_target: Duration) -> Result<(), AskError> {
        let Some((last, part)) = media::last(rendition) else { return Ok(()) };
        if self.number > last.saturating_add(2) {
            return Err(AskError::SegmentAhead { asked: self.number, last });
        }
        let target = part_target.as_millis().max(1);
        // The advance part limit.
        let limit = if target < 1000 { u64::try_from(3000_u128.div_ceil(target)).unwrap_or(3) } else { 3 };
        let ahead = match self.number.cmp(&last) {
            std::cmp::Ordering::Less => 0,
            std::cmp::Ordering::Equal => part.map_or(0, |part| part.saturating_add(limit)),
            std::cmp::Ordering::Greater => limit,
        };
        match self.part {
            Some(asked) if self.number >= last && asked > ahead => Err(AskError::PartAhead { asked }),
            _ => Ok(()),
        }
    }

    /// Whether the playlist has it.
    pub(super) fn is_in(self, rendition: &Rendition) -> bool {
        // A part beyond the end of its segment is the first of the next (8216bis 6.2.5.2).
        let complete = rendition.segments.last().map(|segment| segment.number);
        if let Some(complete) = complete.filter(|complete| *complete >= self.number) {
            let parts = rendition.segments.iter().rev().find(|segment| segment.number == self.number);
            let beyond = self.part.is_some_and(|part| {
                complete == self.number && parts.is_some_and(|segment| part >= segment.parts.len() as u64)
            });
            return !beyond || rendition.growing.as_ref().is_some_and(|growing| !growing.parts.is_empty());
        }
        let Some(growing) = rendition.growing.as_ref() else { return false };
        match self.part {
            Some(part) if growing.number == self.number => (growing.parts.len() as u64) > part,
            _ => growing.number > self.number && !growing.parts.is_empty(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn head(target: &str) -> Head {
        Head::parse(format!("GET {target} HTTP/1.1\r\nHost: a\r\n\r\n").as_bytes()).unwrap().unwrap().0
    }

    fn ask(target: &str) -> Ask {
        Ask::read(&head(target)).unwrap().unwrap()
    }

    #[test]
    fn paths_name_streams_and_renditions() {
        let of = |app: &str, stream: &str| Playlist { app: app.to_owned(), stream: stream.to_owned() };
        let stream = ask("/live/demo.m3u8");
        assert_eq!((&stream.stream, &stream.rendition), (&of("live", "demo"), &None));
        assert_eq!((stream.playlist.as_str(), &stream.redirect), ("live/demo.m3u8", &None));
        let rendition = ask("/a/b/cam.1/a12.m3u8").rendition.unwrap();
        assert_eq!(rendition, (of("a/b", "cam.1"), "a12".to_owned()));
        assert_eq!(ask("/live/demo/v0.m3u8").stream, of("live/demo", "v0"));
        assert_eq!(ask("/demo.m3u8").stream, of(DEFAULT_APP, "demo"));
        for name in ["/live/demo/v.m3u8", "/live/demo/v123.m3u8", "/live/demo/x1.m3u8", "/v0.m3u8"] {
            assert_eq!(ask(name).rendition, None, "{name}");
        }
        for name in ["/", "/.m3u8", "/live/.m3u8", "/live/demo.ts", "/live/demo.m3u8/"] {
            assert_eq!(Ask::read(&head(name)), Ok(None), "{name}");
        }
        let moved = ask("//live//_definst_/d%20%22x.m3u8?a=b").redirect.unwrap();
        assert_eq!(moved, "/live/d%20%22x.m3u8?a=b");
    }

    #[test]
    fn queries_are_carried_without_what_is_ours() {
        let ask = ask("/live/demo.m3u8?_HLS_msn=3&t=a%20b&&hls_ctx=0123456789abcdef&x=ü&_HLS_part=1&y");
        assert_eq!(ask.session.map(|id| id.as_str().to_owned()).as_deref(), Some("0123456789abcdef"));
        assert_eq!(ask.block, Some(Block { number: 3, part: Some(1) }));
        let carried = "t=a%20b&x=%C3%BC&y";
        let with = format!("hls_ctx=0123456789abcdef&{carried}");
        assert_eq!(ask.queries(ask.session, false), (with.clone(), carried.to_owned()));
        assert_eq!(ask.queries(ask.session, true), (with.clone(), with));
        assert_eq!(ask.queries(None, true), (carried.to_owned(), carried.to_owned()));
    }

    #[test]
    fn absurd_requests_are_refused() {
        let error = |query: &str| Ask::read(&head(&format!("/live/demo.m3u8?{query}"))).unwrap_err();
        assert_eq!(error("_HLS_part=1"), AskError::PartAlone);
        for query in
            ["_HLS_msn=", "_HLS_msn=-1", "_HLS_msn=+1", "_HLS_msn=1e3", "_HLS_msn=%201", "_HLS_msn=%31%00"]
        {
            assert_eq!(error(query).status(), StatusCode::BAD_REQUEST, "{query}");
        }
        assert_eq!(error(&format!("x={}", "y".repeat(MOST_QUERY))).status(), StatusCode::URI_TOO_LONG);
        let far = ask("/live/demo.m3u8?_HLS_msn=999999999999999999999999999").block.unwrap();
        assert_eq!(far.number, u64::MAX);
    }

    proptest! {
        #[test]
        fn what_is_carried_fits_into_a_playlist(query in "\\PC*") {
            let carried = carried(&query);
            prop_assert!(carried.bytes().all(|c| c.is_ascii_graphic() && !b"\"<>#\\".contains(&c)));
        }
    }
}
