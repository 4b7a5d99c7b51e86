//! What a request wants of recordings.

use crate::net::http::Head;
use crate::record::template::parse_time;

/// Where all of it is.
const PREFIX: &str = "/recordings";
/// Recordings in one answer, unless asked for otherwise, and at most.
const LIMIT: usize = 100;
const MOST: usize = 1000;

/// What of recordings a path names. Streams are APP/STREAM.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Ask {
    /// A file as it is.
    File { stream: String, start_ms: i64, extension: String },
    /// What stands before the segments of a file.
    Init { stream: String, start_ms: i64 },
    /// The recordings of a stream.
    List { stream: String },
    /// A time as one MP4.
    Movie { stream: String },
    /// A time as HLS.
    Playlist { stream: String },
    /// Pieces of a file.
    Segment { stream: String, start_ms: i64, from: usize, to: usize },
    /// All streams.
    Streams,
}

/// Whether a path is about recordings.
pub(super) fn is_ours(path: &str) -> bool {
    path.strip_prefix(PREFIX).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

impl Ask {
    /// What a path names, of the streams that `known` knows.
    pub(super) fn read(path: &str, known: impl Fn(&str) -> bool) -> Option<Self> {
        let rest = path.strip_prefix(PREFIX)?;
        let rest = rest.strip_prefix('/').unwrap_or(rest);
        if rest.is_empty() {
            return Some(Self::Streams);
        }
        // Names of streams may hold slashes and dots: the longest that is known counts.
        if known(rest) {
            return Some(Self::List { stream: rest.to_owned() });
        }
        let of = |end: &str| rest.strip_suffix(end).filter(|stream| known(stream)).map(str::to_owned);
        if let Some(stream) = of(".mp4") {
            return Some(Self::Movie { stream });
        }
        if let Some(stream) = of(".m3u8") {
            return Some(Self::Playlist { stream });
        }
        let (above, file) = rest.rsplit_once('/')?;
        if known(above) {
            let (start, extension) = file.split_once('.')?;
            let (stream, extension) = (above.to_owned(), extension.to_owned());
            return Some(Self::File { stream, start_ms: number(start)?, extension });
        }
        let (stream, start) = above.rsplit_once('/')?;
        let (stream, start_ms) = (known(stream).then(|| stream.to_owned())?, number(start)?);
        if file == "init.mp4" {
            return Some(Self::Init { stream, start_ms });
        }
        let (from, to) = file.strip_suffix(".m4s")?.split_once('-')?;
        let part = |text| number(text).and_then(|n| usize::try_from(n).ok());
        Some(Self::Segment { stream, start_ms, from: part(from)?, to: part(to)? })
    }
}

fn number(text: &str) -> Option<i64> {
    let digits = !text.is_empty() && text.len() <= 15 && text.bytes().all(|c| c.is_ascii_digit());
    digits.then(|| text.parse().ok()).flatten()
}

/// The time that a query asks for, in milliseconds since 1970: from, and up to.
pub(super) fn span(head: &Head) -> Result<(i64, i64), String> {
    let time = |name: &str| match head.param(name).filter(|text| !text.is_empty()) {
        None => Ok(None),
        Some(text) => parse_time(&text).map(Some).ok_or_else(|| {
            format!("{name}: expected Unix seconds, or RFC 3339 such as 2026-11-21T15:04:05Z")
        }),
    };
    let from = time("from")?;
    let to = time("to")?;
    let duration = match head.param("duration").filter(|text| !text.is_empty()) {
        None => None,
        Some(text) if !text.contains(['-', ':']) => {
            Some(parse_time(&text).ok_or("duration: expected seconds, such as 90 or 12.5")?)
        }
        Some(_) => return Err("duration: expected seconds, such as 90 or 12.5".to_owned()),
    };
    let span = match (from, to, duration) {
        (_, Some(_), Some(_)) => return Err("to and duration say the same: one of them, please".to_owned()),
        (None, _, Some(_)) => return Err("duration needs from".to_owned()),
        (Some(from), None, Some(duration)) => (from, from.saturating_add(duration)),
        (from, to, None) => (from.unwrap_or(0), to.unwrap_or(i64::MAX)),
    };
    if span.0 < span.1 { Ok(span) } else { Err("this time ends before it begins".to_owned()) }
}

/// How many, and after which.
pub(super) fn page(head: &Head) -> Result<(usize, Option<String>), String> {
    let limit = match head.param("limit").filter(|text| !text.is_empty()) {
        None => LIMIT,
        Some(text) => number(&text)
            .and_then(|n| usize::try_from(n).ok())
            .filter(|n| (1..=MOST).contains(n))
            .ok_or_else(|| format!("limit: expected 1 to {MOST}"))?,
    };
    Ok((limit, head.param("after").filter(|text| !text.is_empty()).map(std::borrow::Cow::into_owned)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn ask(path: &str) -> Option<Ask> {
        Ask::read(path, |stream| ["live/demo", "a/b/cam.1", "live/demo.mp4"].contains(&stream))
    }

    #[test]
    fn paths() {
        let stream = || "live/demo".to_owned();
        assert_eq!(ask("/recordings"), Some(Ask::Streams));
        assert_eq!(ask("/recordings/"), Some(Ask::Streams));
        assert_eq!(ask("/recordings/live/demo"), Some(Ask::List { stream: stream() }));
        assert_eq!(ask("/recordings/live/demo.m3u8"), Some(Ask::Playlist { stream: stream() }));
        assert_eq!(ask("/recordings/a/b/cam.1.mp4"), Some(Ask::Movie { stream: "a/b/cam.1".into() }));
        let file = Ask::File { stream: stream(), start_ms: 1_732_203_640_007, extension: "flv".into() };
        assert_eq!(ask("/recordings/live/demo/1732203640007.flv"), Some(file));
        let segment = Ask::Segment { stream: stream(), start_ms: 17, from: 3, to: 9 };
        assert_eq!(ask("/recordings/live/demo/17/3-9.m4s"), Some(segment));
        assert_eq!(
            ask("/recordings/live/demo/17/init.mp4"),
            Some(Ask::Init { stream: stream(), start_ms: 17 })
        );
        for path in [
            "/recordings/live/other",
            "/recordings/../etc/passwd",
            "/recordings/live/demo/../../secret.mp4",
            "/recordings/live/demo/99999999999999999999.mp4",
            "/recordings/live/demo/-1.mp4",
            "/recordings/live/demo/17/3-99999999999999999999.m4s",
            "/recordings/live/demo/17/..m4s",
            "/recordings//live/demo",
        ] {
            assert_eq!(ask(path), None, "{path}");
        }
        assert!(is_ours("/recordings/x") && !is_ours("/recordingsx") && !is_ours("/live/recordings"));
    }

    fn head(query: &str) -> Head {
        let text = format!("GET /recordings?{query} HTTP/1.1\r\nHost: a\r\n\r\n");
        Head::parse(text.as_bytes()).unwrap().unwrap().0
    }

    #[test]
    fn queries() {
        assert_eq!(span(&head("")), Ok((0, i64::MAX)));
        assert_eq!(span(&head("from=100&to=200.5")), Ok((100_000, 200_500)));
        assert_eq!(
            span(&head("from=2001-09-09T01:46:40Z&duration=2.5")),
            Ok((1_000_000_000_000, 1_000_000_002_500))
        );
        for bad in [
            "from=x",
            "from=200&to=100",
            "duration=5",
            "from=1&to=2&duration=1",
            "from=1&duration=0",
            "to=-1",
            "from=1&duration=1:00",
        ] {
            assert!(span(&head(bad)).is_err(), "{bad}");
        }
        assert_eq!(page(&head("limit=7&after=3")), Ok((7, Some("3".to_owned()))));
        for bad in ["limit=0", "limit=1001", "limit=x", "limit=-1"] {
            assert!(page(&head(bad)).is_err(), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn hostile_paths_do_not_panic(path in "/recordings[a-z0-9./%-]{0,40}") {
            let _ = ask(&path);
        }
    }
}
