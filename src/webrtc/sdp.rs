//! Session descriptions (RFC 8866): what they say, line by line. What that means is [`offer`](super::offer)'s.

use std::str::FromStr;

/// The most bytes of a description. Chromium's, with all its codecs, take 8 KB; three layers of a picture add one.
pub const MAX_BYTES: usize = 64 * 1024;
/// The most m-lines.
const MAX_SECTIONS: usize = 32;
/// The most attributes of a section; Chromium gives a picture about 130.
const MAX_ATTRIBUTES: usize = 512;

/// Why a text is no description that can be answered. The words are for who wrote it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SdpError {
    /// A line breaks the grammar.
    #[error("line {line} of the description: {what}")]
    Line {
        /// Which, from 1.
        line: usize,
        /// What is wrong.
        what: &'static str,
    },
    /// It is no description.
    #[error("this is no session description: it has to begin with v=0")]
    NotSdp,
    /// Something that is needed isn't there, or can't be.
    #[error("the offer {0}")]
    Offer(String),
    /// There is too much of something.
    #[error("the description has more than {1} {0}")]
    TooMany(&'static str, usize),
}

/// A description.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Description {
    /// `a=` lines before the first m-line: name and value, which is empty for flags.
    pub attributes: Vec<(String, String)>,
    /// What each m-line begins.
    pub sections: Vec<Section>,
}

/// An m-line and what follows it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Section {
    /// `audio`, `video`, `application`, …
    pub kind: String,
    /// 0: not wanted.
    pub port: u16,
    /// Such as `UDP/TLS/RTP/SAVPF`.
    pub protocol: String,
    /// Payload types, in the order of preference.
    pub formats: Vec<String>,
    /// `a=` lines: name and value, which is empty for flags.
    pub attributes: Vec<(String, String)>,
}

impl Description {
    /// Reads a description. Lines end with CR LF or LF; lines other than `v`, `m` and `a` are passed over.
    ///
    /// # Errors
    /// [`SdpError`], but for [`SdpError::Offer`].
    pub fn parse(text: &str) -> Result<Self, SdpError> {
        if text.len() > MAX_BYTES {
            return Err(SdpError::TooMany("bytes", MAX_BYTES));
        }
        let mut lines = text.lines().map(str::trim_end).enumerate().filter(|(_, line)| !line.is_empty());
        if lines.next().is_none_or(|(_, line)| line != "v=0") {
            return Err(SdpError::NotSdp);
        }
        let mut description = Self::default();
        for (n, line) in lines {
            description.line(line).map_err(|error| match error {
                SdpError::Line { what, .. } => SdpError::Line { line: n + 1, what },
                error => error,
            })?;
        }
        Ok(description)
    }

    /// Reads a fragment (RFC 8840), which has neither `v=` nor all of its m-lines.
    ///
    /// # Errors
    /// As [`Self::parse`].
    pub fn parse_fragment(text: &str) -> Result<Self, SdpError> {
        if text.len() > MAX_BYTES {
            return Err(SdpError::TooMany("bytes", MAX_BYTES));
        }
        let mut description = Self::default();
        for (n, line) in text.lines().map(str::trim_end).enumerate().filter(|(_, line)| !line.is_empty()) {
            description.line(line).map_err(|error| match error {
                SdpError::Line { what, .. } => SdpError::Line { line: n + 1, what },
                error => error,
            })?;
        }
        Ok(description)
    }

    fn line(&mut self, line: &str) -> Result<(), SdpError> {
        let wrong = |what| SdpError::Line { line: 0, what };
        if line.contains(char::is_control) {
            return Err(wrong("it has control characters"));
        }
        let (kind, rest) = line.split_once('=').ok_or_else(|| wrong("it has no ="))?;
        match kind {
            "m" => {
                if self.sections.len() >= MAX_SECTIONS {
                    return Err(SdpError::TooMany("m-lines", MAX_SECTIONS));
                }
                let section = Section::parse(rest).ok_or_else(|| wrong("it is no m-line"))?;
                self.sections.push(section);
            }
            "a" => {
                let attributes = match self.sections.last_mut() {
                    Some(section) => &mut section.attributes,
                    None => &mut self.attributes,
                };
                if attributes.len() >= MAX_ATTRIBUTES {
                    return Err(SdpError::TooMany("attributes in one place", MAX_ATTRIBUTES));
                }
                let (name, value) = rest.split_once(':').unwrap_or((rest, ""));
                attributes.push((name.to_owned(), value.trim().to_owned()));
            }
            _ if kind.len() != 1 => return Err(wrong("it is no line of a description")),
            _ => {}
        }
        Ok(())
    }

    /// The value of a session's attribute.
    #[must_use]
    pub fn attribute(&self, name: &str) -> Option<&str> {
        self.attributes.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// The value of an attribute that stands in a section, or for all of them.
    #[must_use]
    pub fn of<'a>(&'a self, section: &'a Section, name: &str) -> Option<&'a str> {
        section.attribute(name).or_else(|| self.attribute(name))
    }
}

impl Section {
    fn parse(line: &str) -> Option<Self> {
        let mut words = line.split_ascii_whitespace();
        let kind = words.next()?.to_owned();
        let (port, _) = words.next().map(|port| port.split_once('/').unwrap_or((port, "")))?;
        let port = u16::from_str(port).ok()?;
        let protocol = words.next()?.to_owned();
        let formats: Vec<String> = words.take(MAX_ATTRIBUTES).map(str::to_owned).collect();
        (!formats.is_empty()).then_some(Self { kind, port, protocol, formats, attributes: Vec::new() })
    }

    /// The value of the first attribute of a name; empty for a flag.
    #[must_use]
    pub fn attribute(&self, name: &str) -> Option<&str> {
        self.all(name).next()
    }

    /// The values of all attributes of a name.
    pub fn all<'a>(&'a self, name: &str) -> impl Iterator<Item = &'a str> {
        self.attributes.iter().filter(move |(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// Whether there is an attribute of a name.
    #[must_use]
    pub fn has(&self, name: &str) -> bool {
        self.attribute(name).is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn lines_in_their_places() {
        let text = "v=0\no=- 1 2 IN IP4 127.0.0.1\r\ns=-\r\na=group:BUNDLE 0\r\na=ice-lite\r\n\r\n\
                    m=audio 9/2 UDP/TLS/RTP/SAVPF 111 0\r\nc=IN IP4 0.0.0.0\r\na=mid: 0 \r\na=rtcp-mux\r\na=rtcp-fb:111 nack\r\n\
                    a=rtcp-fb:111 transport-cc\r\nm=application 0 UDP/DTLS/SCTP webrtc-datachannel\r\na=mid:1\r\n";
        let description = Description::parse(text).unwrap();
        assert_eq!(description.attribute("group"), Some("BUNDLE 0"));
        assert_eq!(description.attribute("ice-lite"), Some(""));
        let [audio, data] = &description.sections[..] else { panic!("{description:?}") };
        assert_eq!((audio.kind.as_str(), audio.port, audio.formats.len()), ("audio", 9, 2));
        assert_eq!(
            (audio.attribute("mid"), audio.has("rtcp-mux"), audio.all("rtcp-fb").count()),
            (Some("0"), true, 2)
        );
        assert_eq!((data.port, description.of(data, "ice-lite")), (0, Some("")));
    }

    #[test]
    fn what_is_wrong_is_said_with_its_line() {
        let text = |text: &str| Description::parse(text).unwrap_err().to_string();
        assert_eq!(text("{}"), "this is no session description: it has to begin with v=0");
        assert_eq!(text(""), "this is no session description: it has to begin with v=0");
        assert_eq!(text("v=0\r\ns=-\r\nm=audio x UDP 1\r\n"), "line 3 of the description: it is no m-line");
        assert_eq!(text("v=0\r\nhello"), "line 2 of the description: it has no =");
        assert_eq!(text("v=0\r\nxy=1"), "line 2 of the description: it is no line of a description");
        assert!(text(&format!("v=0\n{}", "m=audio 9 X 0\n".repeat(33))).contains("more than 32 m-lines"));
        assert!(text(&format!("v=0\n{}", "a=x\n".repeat(513))).contains("more than 512 attributes"));
        assert!(text(&format!("v=0\n{}", "s=x\n".repeat(20_000))).contains("more than 65536 bytes"));
    }

    proptest! {
        #[test]
        fn hostile_text_never_panics(text in "\\PC*", lines in proptest::collection::vec("[vmao]=[a-z0-9:/ ]{0,30}", 0..40)) {
            let _ = Description::parse(&text);
            let _ = Description::parse(&format!("v=0\r\n{}", lines.join("\r\n")));
            let _ = Description::parse_fragment(&lines.join("\n"));
        }
    }
}
