use std::fmt;

/// The vhost of all streams whose URL names no configured one; SRS's name, which its API shows.
pub const DEFAULT_VHOST: &str = "__defaultVhost__";

/// Where a stream lives: virtual host, application, stream. Three texts that any protocol's URL gives.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub struct StreamName {
    /// Virtual host; `__defaultVhost__` where the client named none that is configured.
    pub vhost: String,
    /// Application; may hold slashes (`a/b`).
    pub app: String,
    /// Stream, without extension or query.
    pub stream: String,
}

/// Why a name can't be a stream's.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NameError {
    /// A part is empty.
    #[error("the {0} name is empty; a stream is addressed as APP/STREAM")]
    Empty(&'static str),
    /// A part is too long.
    #[error("the {0} name is {1} bytes long; the most is {max}", max = StreamName::MAX_PART)]
    Long(&'static str, usize),
    /// A part holds what a name must not hold.
    #[error("the {0} name holds {1:?}, which a name can't hold")]
    Forbidden(&'static str, char),
    /// A path segment that would climb or vanish in a file name.
    #[error("the {0} name holds the path segment {1:?}")]
    Segment(&'static str, String),
}

impl StreamName {
    /// The most bytes of one part: it becomes a file name where it is recorded.
    pub const MAX_PART: usize = 200;

    /// A name of checked parts. Parts become paths of recordings and segments later, so `..`, empty path
    /// segments, control characters, quotes and back-slashes are refused here, once for all.
    pub fn new(vhost: &str, app: &str, stream: &str) -> Result<Self, NameError> {
        for (what, part) in [("vhost", vhost), ("app", app), ("stream", stream)] {
            check(what, part)?;
        }
        Ok(Self { vhost: vhost.to_owned(), app: app.to_owned(), stream: stream.to_owned() })
    }
}

fn check(what: &'static str, part: &str) -> Result<(), NameError> {
    if part.is_empty() {
        return Err(NameError::Empty(what));
    }
    if part.len() > StreamName::MAX_PART {
        return Err(NameError::Long(what, part.len()));
    }
    if let Some(c) =
        part.chars().find(|c| c.is_control() || matches!(c, '\\' | '"' | '\'' | '<' | '>' | '?' | '#'))
    {
        return Err(NameError::Forbidden(what, c));
    }
    if let Some(segment) = part.split('/').find(|s| matches!(*s, "" | "." | "..")) {
        return Err(NameError::Segment(what, segment.to_owned()));
    }
    Ok(())
}

impl fmt::Display for StreamName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.vhost != DEFAULT_VHOST {
            write!(f, "{}/", self.vhost)?;
        }
        write!(f, "{}/{}", self.app, self.stream)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_could_climb_or_confuse_are_refused() {
        for bad in ["", "..", "a/../b", "a//b", "/a", "a/", "a\nb", "a\\b", "a\"b", "a?b", &"x".repeat(201)] {
            assert!(StreamName::new("v", "live", bad).is_err(), "{bad:?}");
        }
        for good in ["demo", "a/b/c", "камера", "a b", "cam.1", "..a", "x=1&y"] {
            assert!(StreamName::new("v", good, good).is_ok(), "{good:?}");
        }
    }
}
