//! XML that is written: elements, attributes, times.

use std::fmt::{Display, Write};

/// Writes elements; what stands in attributes is escaped.
#[derive(Default)]
pub(super) struct Xml {
    text: String,
    depth: usize,
}

/// An element whose start tag is open for attributes.
pub(super) struct Element<'a> {
    xml: &'a mut Xml,
    name: &'static str,
}

impl Xml {
    pub(super) fn new() -> Self {
        Self { text: "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n".to_owned(), depth: 0 }
    }

    /// Begins an element.
    pub(super) fn element(&mut self, name: &'static str) -> Element<'_> {
        for _ in 0..self.depth {
            self.text.push_str("  ");
        }
        let _ = write!(self.text, "<{name}");
        Element { xml: self, name }
    }

    /// What was written.
    pub(super) fn finish(self) -> String {
        self.text
    }
}

impl Element<'_> {
    pub(super) fn with(self, name: &str, value: impl Display) -> Self {
        let _ = write!(self.xml.text, " {name}=\"");
        let _ = write!(Escaped(&mut self.xml.text), "{value}");
        self.xml.text.push('"');
        self
    }

    pub(super) fn with_some(self, name: &str, value: Option<impl Display>) -> Self {
        match value {
            Some(value) => self.with(name, value),
            None => self,
        }
    }

    /// Ends it without content.
    pub(super) fn empty(self) {
        self.xml.text.push_str("/>\n");
    }

    /// Ends it with text.
    pub(super) fn text(self, text: impl Display) {
        self.xml.text.push('>');
        let _ = write!(Escaped(&mut self.xml.text), "{text}");
        let _ = writeln!(self.xml.text, "</{}>", self.name);
    }

    /// Ends it with what `content` writes.
    pub(super) fn around(self, content: impl FnOnce(&mut Xml)) {
        let Self { xml, name } = self;
        xml.text.push_str(">\n");
        xml.depth += 1;
        content(xml);
        xml.depth -= 1;
        for _ in 0..xml.depth {
            xml.text.push_str("  ");
        }
        let _ = writeln!(xml.text, "</{name}>");
    }
}

/// Writes into a text what may stand there; characters that XML has no place for are left out.
struct Escaped<'a>(&'a mut String);

impl Write for Escaped<'_> {
    fn write_str(&mut self, text: &str) -> std::fmt::Result {
        for c in text.chars() {
            match c {
                '&' => self.0.push_str("&amp;"),
                '<' => self.0.push_str("&lt;"),
                '>' => self.0.push_str("&gt;"),
                '"' => self.0.push_str("&quot;"),
                c if c.is_control() || matches!(c, '\u{FFFE}' | '\u{FFFF}') => {}
                c => self.0.push(c),
            }
        }
        Ok(())
    }
}

/// Milliseconds since 1970 as `xs:dateTime` in UTC.
pub(super) fn date_time(ms: i64) -> String {
    let (days, of_day) = (ms.div_euclid(86_400_000), ms.rem_euclid(86_400_000));
    // The Gregorian calendar from 0000-03-01 on, in its cycles of 400 years.
    let days = days.saturating_add(719_468);
    let (cycle, day) = (days.div_euclid(146_097), days.rem_euclid(146_097));
    let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let (day, month) = (day - (153 * month + 2) / 5 + 1, if month < 10 { month + 3 } else { month - 9 });
    let year = cycle.saturating_mul(400).saturating_add(year + i64::from(month <= 2));
    let (seconds, ms) = (of_day / 1000, of_day % 1000);
    let (hours, minutes, seconds) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    format!("{year:04}-{month:02}-{day:02}T{hours:02}:{minutes:02}:{seconds:02}.{ms:03}Z")
}

/// Microseconds as `xs:duration`.
pub(super) fn duration(us: u64) -> String {
    format!("PT{}S", seconds(us))
}

/// Microseconds as seconds, without needless digits.
pub(super) fn seconds(us: u64) -> String {
    let (whole, rest) = (us / 1_000_000, us % 1_000_000);
    if rest == 0 {
        return whole.to_string();
    }
    let text = format!("{whole}.{rest:06}");
    text.trim_end_matches('0').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn elements() {
        let mut xml = Xml::new();
        xml.element("A").with("x", "<\"&\u{1}ü>").with_some("y", None::<u8>).around(|xml| {
            xml.element("B").with("n", 1).empty();
            xml.element("C").text("a&b");
        });
        let expected = "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<A x=\"&lt;&quot;&amp;ü&gt;\">\n  <B n=\"1\"/>\n  <C>a&amp;b</C>\n</A>\n";
        assert_eq!(xml.finish(), expected);
    }

    #[test]
    fn times() {
        assert_eq!(date_time(0), "1970-01-01T00:00:00.000Z");
        assert_eq!(date_time(1_709_210_096_007), "2024-02-29T12:34:56.007Z");
        assert_eq!(date_time(-1), "1969-12-31T23:59:59.999Z");
        assert!(date_time(i64::MIN).ends_with('Z') && date_time(i64::MAX).ends_with('Z'));
        assert_eq!(
            [0, 1, 1_500_000, 60_000_000, u64::MAX].map(duration),
            ["PT0S", "PT0.000001S", "PT1.5S", "PT60S", "PT18446744073709.551615S"]
        );
    }
}
