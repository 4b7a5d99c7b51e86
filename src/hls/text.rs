//! Pieces of playlist text: numbers, dates, links.

use std::fmt::Write;
use std::time::Duration;

/// Playlist text that all viewers share, with places where a viewer's own query goes into links.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(super) struct Text {
    text: String,
    /// Ends of links, in order.
    links: Vec<(usize, Link)>,
}

/// Where a link leads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Link {
    /// To another playlist.
    Playlist,
    /// To a segment, or what belongs to it.
    Segment,
}

impl Text {
    pub(super) fn new() -> Self {
        Self { text: String::with_capacity(1024), links: Vec::new() }
    }

    /// A whole line.
    pub(super) fn line(&mut self, line: &str) {
        self.text.push_str(line);
        self.text.push('\n');
    }

    /// A piece of a line.
    pub(super) fn put(&mut self, piece: &str) {
        self.text.push_str(piece);
    }

    /// A piece of a line, formatted.
    pub(super) fn write(&mut self, piece: std::fmt::Arguments<'_>) {
        // Writing to a String doesn't fail.
        let _ = self.text.write_fmt(piece);
    }

    /// A link, which a viewer's query is to be added to.
    pub(super) fn link(&mut self, link: &str, to: Link) {
        self.text.push_str(link);
        self.links.push((self.text.len(), to));
    }

    /// Seconds to the millisecond.
    pub(super) fn seconds(&mut self, duration: Duration) {
        let ms = (duration.as_micros() + 500) / 1000;
        self.write(format_args!("{}.{:03}", ms / 1000, ms % 1000));
    }

    /// A time in milliseconds since 1970 as ISO 8601 has it, in UTC.
    pub(super) fn date(&mut self, wall_ms: i64) {
        let (day, ms) = (wall_ms.div_euclid(86_400_000), wall_ms.rem_euclid(86_400_000));
        let (year, month, day) = civil(day);
        let (hour, minute, second) = (ms / 3_600_000, ms / 60_000 % 60, ms / 1000 % 60);
        let ms = ms % 1000;
        self.write(format_args!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{ms:03}Z"));
    }

    /// The text without queries.
    pub(super) fn as_str(&self) -> &str {
        &self.text
    }

    /// The text with these queries, which are without `?`, at links to playlists and at links to segments.
    pub(super) fn with(&self, playlists: &str, segments: &str) -> String {
        let most = playlists.len().max(segments.len()) + 1;
        let mut out = String::with_capacity(self.text.len() + self.links.len() * most);
        let mut from = 0;
        for (end, to) in &self.links {
            out.push_str(self.text.get(from..*end).unwrap_or_default());
            from = *end;
            let query = if *to == Link::Playlist { playlists } else { segments };
            if !query.is_empty() {
                out.push('?');
                out.push_str(query);
            }
        }
        out.push_str(self.text.get(from..).unwrap_or_default());
        out
    }

    /// Whether there is a link of this kind.
    pub(super) fn links_to(&self, what: Link) -> bool {
        self.links.iter().any(|(_, to)| *to == what)
    }
}

/// Days since 1970 as year, month, day of the Gregorian calendar; its eras of 400 years begin in March.
fn civil(days: i64) -> (i64, i64, i64) {
    let z = days.saturating_add(719_468);
    let (era, day_of_era) = (z.div_euclid(146_097), z.rem_euclid(146_097));
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    (year_of_era + era * 400 + i64::from(month <= 2), month, day)
}

/// Where a playlist's links start from.
#[derive(Debug, Clone, Copy)]
pub(super) struct Base<'a> {
    /// The playlist's name below the vhost's root, e.g. `live/demo.m3u8`.
    pub playlist: &'a str,
    /// What stands before all names instead, if anything.
    pub prefix: &'a str,
}

impl Base<'_> {
    /// The link to what has this name below the vhost's root.
    pub(super) fn link(&self, name: &str) -> String {
        if !self.prefix.is_empty() {
            return format!("{}{}", self.prefix, encode(name));
        }
        // Relative, so that it holds behind a proxy that gives us a path of its own.
        let mut from: Vec<_> = self.playlist.split('/').collect();
        from.pop();
        let to: Vec<_> = name.split('/').collect();
        let folders = to.len().saturating_sub(1);
        let common = from.iter().zip(to.iter().take(folders)).take_while(|(a, b)| a == b).count();
        let mut link = "../".repeat(from.len() - common);
        link.push_str(&encode(&to.get(common..).unwrap_or_default().join("/")));
        link
    }
}

/// Percent-encodes what a link can't have as it is (RFC 3986 3.3); slashes stay.
pub(super) fn encode(name: &str) -> String {
    let mut out = String::with_capacity(name.len());
    for byte in name.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~' | b'/') {
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

    #[test]
    fn dates_and_seconds() {
        let text = |ms| {
            let mut text = Text::new();
            text.date(ms);
            text.text
        };
        assert_eq!(text(0), "1970-01-01T00:00:00.000Z");
        assert_eq!(text(1_709_210_096_007), "2024-02-29T12:34:56.007Z");
        assert_eq!(text(-1), "1969-12-31T23:59:59.999Z");
        let _ = (text(i64::MIN), text(i64::MAX));
        let mut seconds = Text::new();
        seconds.seconds(Duration::from_micros(1_999_600));
        assert_eq!(seconds.text, "2.000");
    }

    #[test]
    fn links_are_relative_and_encoded() {
        let link = |playlist, name| Base { playlist, prefix: "" }.link(name);
        assert_eq!(link("live/demo.m3u8", "live/demo-1.ts"), "demo-1.ts");
        assert_eq!(link("live/demo/v0.m3u8", "live/demo-1-v0.m4s"), "../demo-1-v0.m4s");
        assert_eq!(link("live/demo.m3u8", "live/demo/v0.m3u8"), "demo/v0.m3u8");
        assert_eq!(link("a/b/c.m3u8", "x/y.ts"), "../../x/y.ts");
        assert_eq!(link("demo.m3u8", "__defaultApp__/demo-1.ts"), "__defaultApp__/demo-1.ts");
        assert_eq!(link("live/x.m3u8", "live/a b:\"ü?.ts"), "a%20b%3A%22%C3%BC%3F.ts");
        assert_eq!(link("live/live.m3u8", "live"), "../live");
        let cdn = Base { playlist: "live/demo.m3u8", prefix: "https://cdn/x/" };
        assert_eq!(cdn.link("live/demo-1.ts"), "https://cdn/x/live/demo-1.ts");
    }

    #[test]
    fn a_query_goes_into_each_link() {
        let mut text = Text::new();
        text.put("a ");
        text.link("one", Link::Segment);
        text.put("\"\n");
        text.link("two", Link::Playlist);
        text.line("");
        assert_eq!(text.as_str(), "a one\"\ntwo\n");
        assert_eq!(text.with("k=v", "l"), "a one?l\"\ntwo?k=v\n");
        assert_eq!(text.with("k=v", ""), "a one\"\ntwo?k=v\n");
        assert!(text.links_to(Link::Segment) && !Text::new().links_to(Link::Segment));
    }
}
