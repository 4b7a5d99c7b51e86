use hyper::StatusCode;
use hyper::header;

use super::reply::{Reply, put, text_reply};

/// Makes `reply` one of `len` bytes, or of the range of them that the `Range` header `wanted` asks for: the first byte, and
/// how many. The caller leaves the header out where it doesn't count (`If-Range`).
///
/// # Errors
/// The reply that says that there is no such range.
pub fn reply_range(reply: &mut Reply, wanted: Option<&str>, len: u64) -> Result<(u64, u64), Box<Reply>> {
    put(reply, header::ACCEPT_RANGES, "bytes");
    match wanted.map_or(Range::Whole, |text| Range::parse(text, len)) {
        Range::Whole => Ok((0, len)),
        Range::Part { first, last } => {
            *reply.status_mut() = StatusCode::PARTIAL_CONTENT;
            put(reply, header::CONTENT_RANGE, &format!("bytes {first}-{last}/{len}"));
            Ok((first, last.saturating_sub(first).saturating_add(1)))
        }
        Range::Beyond => {
            let text = format_args!("416: it has {len} bytes");
            let mut refused = text_reply(StatusCode::RANGE_NOT_SATISFIABLE, text);
            put(&mut refused, header::CONTENT_RANGE, &format!("bytes */{len}"));
            Err(Box::new(refused))
        }
    }
}

/// What a `Range` header asks of something that has so many bytes (RFC 9110 14.1.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Range {
    /// From byte `first` to byte `last`, both within it.
    Part {
        /// Counted from 0.
        first: u64,
        /// Included.
        last: u64,
    },
    /// Nothing that is there.
    Beyond,
    /// All of it: the header is not understood, or asks for several parts, which one may ignore.
    Whole,
}

impl Range {
    /// Reads the header's value, for a thing of `len` bytes.
    fn parse(text: &str, len: u64) -> Self {
        let Some((unit, set)) = text.split_once('=') else { return Self::Whole };
        let Some((first, last)) = set.trim().split_once('-') else { return Self::Whole };
        let number = |text: &str| match text {
            "" => Some(None),
            _ if text.bytes().all(|c| c.is_ascii_digit()) => Some(Some(text.parse().unwrap_or(u64::MAX))),
            _ => None,
        };
        let (Some(first), Some(last)) = (number(first.trim()), number(last.trim())) else {
            return Self::Whole;
        };
        if !unit.trim().eq_ignore_ascii_case("bytes") {
            return Self::Whole;
        }
        match (first, last) {
            (None, None) => Self::Whole,
            (Some(first), Some(last)) if last < first => Self::Whole,
            (Some(first), _) if first >= len => Self::Beyond,
            (Some(first), last) => {
                Self::Part { first, last: last.unwrap_or(u64::MAX).min(len.saturating_sub(1)) }
            }
            (None, Some(0)) => Self::Beyond,
            (None, Some(_)) if len == 0 => Self::Beyond,
            (None, Some(suffix)) => {
                Self::Part { first: len.saturating_sub(suffix), last: len.saturating_sub(1) }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges() {
        let part = |first, last| Range::Part { first, last };
        for (text, expected) in [
            ("bytes=0-0", part(0, 0)),
            ("bytes=2-", part(2, 9)),
            ("bytes=2-99", part(2, 9)),
            ("Bytes = 2 - 5", part(2, 5)),
            ("bytes=-3", part(7, 9)),
            ("bytes=-99", part(0, 9)),
            ("bytes=5-99999999999999999999999", part(5, 9)),
            ("bytes=10-", Range::Beyond),
            ("bytes=99999999999999999999999-", Range::Beyond),
            ("bytes=-0", Range::Beyond),
            ("bytes=5-4", Range::Whole),
            ("bytes=0-1,3-4", Range::Whole),
            ("bytes=-", Range::Whole),
            ("bytes=+1-2", Range::Whole),
            ("bytes=1--2", Range::Whole),
            ("items=0-1", Range::Whole),
            ("", Range::Whole),
        ] {
            assert_eq!(Range::parse(text, 10), expected, "{text}");
        }
        assert_eq!(Range::parse("bytes=0-", 0), Range::Beyond);
        assert_eq!(Range::parse("bytes=-1", 0), Range::Beyond);
    }
}
