//! A time of a stream as a playlist of HLS (RFC 8216).

use std::fmt::Write;

use super::movie::select;
use super::source::{Piece, Shared};
use crate::record::template::rfc3339;

/// How long segments are at least, in milliseconds, where there is a key frame to end them.
const SEGMENT_MS: i64 = 6000;
/// Segments end here whatever comes: players hold one at a time.
const MAX_BYTES: u64 = 32 << 20;

/// The pieces of a segment, by number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Segment {
    from: usize,
    to: usize,
    ms: i64,
}

/// Cuts pieces into segments. The same start gives the same segments, however much is added later. `whole`: the last one is
/// as long as it gets.
fn segments(pieces: &[Piece], range: std::ops::Range<usize>, whole: bool) -> Vec<Segment> {
    let mut out = Vec::new();
    let mut open: Option<(usize, i64, u64)> = None;
    for (n, piece) in pieces.iter().enumerate().take(range.end).skip(range.start) {
        if let Some((from, start_ms, bytes)) = open {
            let ms = piece.start_ms.saturating_sub(start_ms);
            if (piece.key && ms >= SEGMENT_MS) || bytes > MAX_BYTES {
                out.push(Segment { from, to: n, ms });
                open = None;
            }
        }
        let (_, _, bytes) = open.get_or_insert((n, piece.start_ms, 0));
        *bytes = bytes.saturating_add(piece.len);
    }
    if let Some((from, start_ms, _)) = open.filter(|_| whole) {
        let end_ms = pieces.get(range.end.saturating_sub(1)).map_or(start_ms, |piece| piece.end_ms);
        out.push(Segment { from, to: range.end, ms: end_ms.saturating_sub(start_ms) });
    }
    out
}

/// The playlist; `stream`: the last part of the stream's name, percent-encoded, which URLs begin with. `grows`: the last
/// source is still being written, and what comes is wanted. `None`: there is nothing at that time.
pub(super) fn playlist(
    sources: &[Shared],
    stream: &str,
    query: &str,
    (from_ms, to_ms): (i64, i64),
    grows: bool,
) -> Option<String> {
    let mut body = String::new();
    let mut longest = 0;
    let mut count = 0;
    for (i, source) in sources.iter().enumerate() {
        let range = select(&source.pieces, source.start_ms, from_ms, to_ms);
        let last = i + 1 == sources.len();
        let segments = segments(&source.pieces, range, !(grows && last));
        let Some(first) = segments.first() else { continue };
        if count > 0 {
            body += "#EXT-X-DISCONTINUITY\n";
        }
        let start = source.start_ms;
        let base = source.pieces.first().map_or(0, |piece| piece.start_ms);
        let at = source.pieces.get(first.from).map_or(base, |piece| piece.start_ms);
        let _ = writeln!(body, "#EXT-X-MAP:URI=\"{stream}/{start}/init.mp4{query}\"");
        let _ = writeln!(body, "#EXT-X-PROGRAM-DATE-TIME:{}", rfc3339(start.saturating_add(at - base)));
        for Segment { from, to, ms } in segments {
            longest = longest.max(ms);
            count += 1;
            let _ = writeln!(body, "#EXTINF:{}.{:03},", ms / 1000, ms % 1000);
            let _ = writeln!(body, "{stream}/{start}/{from}-{to}.m4s{query}");
        }
    }
    if count == 0 && !grows {
        return None;
    }
    let kind = if grows { "EVENT" } else { "VOD" };
    // Rounded as players do it. It has to be true of what comes, too, and must not change when no more does (6.2.1).
    let target = ((longest + 500) / 1000).max(2 * SEGMENT_MS / 1000);
    let end = if grows { "" } else { "#EXT-X-ENDLIST\n" };
    Some(format!(
        "#EXTM3U\n#EXT-X-VERSION:7\n#EXT-X-TARGETDURATION:{target}\n#EXT-X-MEDIA-SEQUENCE:0\n\
         #EXT-X-PLAYLIST-TYPE:{kind}\n#EXT-X-INDEPENDENT-SEGMENTS\n{body}{end}"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn segments_do_not_change_when_more_comes() {
        let piece =
            |n: i64| Piece { at: 0, len: 1, start_ms: n * 1000, end_ms: n * 1000 + 1000, key: n % 4 == 0 };
        let pieces: Vec<Piece> = (0..40).map(piece).collect();
        let all = segments(&pieces, 0..40, true);
        let marks: Vec<_> = all.iter().map(|s| (s.from, s.to, s.ms)).collect();
        assert_eq!(marks, [(0, 8, 8000), (8, 16, 8000), (16, 24, 8000), (24, 32, 8000), (32, 40, 8000)]);
        for end in 0..40 {
            let some = segments(&pieces[..end], 0..end, false);
            assert_eq!(some[..], all[..some.len()]);
        }
        assert!(segments(&pieces, 3..3, true).is_empty());
    }
}
