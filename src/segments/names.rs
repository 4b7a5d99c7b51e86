//! Names by template: `[app]/[stream]-[seq].ts`.

use std::fmt::Write;

use crate::hub::StreamName;

/// What a name is made of.
#[derive(Debug, Clone, Copy)]
pub(super) struct Vars<'a> {
    pub stream: &'a StreamName,
    /// The rendition, where its name is not that of the main one.
    pub track: Option<&'a str>,
    pub seq: u64,
    /// When the segment begins, in milliseconds since 1970.
    pub wall_ms: i64,
    /// `[timestamp]`.
    pub timestamp: i64,
    /// In milliseconds; `None` while it is not known.
    pub duration_ms: Option<u64>,
}

/// A template for names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Template(String);

impl Template {
    /// A template for names of which each segment has its own: one that doesn't tell them apart gets `-[seq]`.
    pub(super) fn unique(text: &str) -> Self {
        if text.contains("[seq]") || text.contains("[timestamp]") {
            return Self(text.to_owned());
        }
        let (stem, extension) = split(text);
        Self(format!("{stem}-[seq]{extension}"))
    }

    /// A template for a name that a stream has once.
    pub(super) fn once(text: &str) -> Self {
        Self(text.to_owned())
    }

    /// The name: a path below some root, whatever the template and the stream are. `None` while something of it is not
    /// known yet.
    pub(super) fn name(&self, vars: &Vars<'_>) -> Option<String> {
        let mut out = String::with_capacity(self.0.len() + 64);
        let mut rest = self.0.as_str();
        // In one pass: what a stream is called is not a template.
        while let Some((before, after)) = rest.split_once('[') {
            out.push_str(before);
            let Some((word, next)) = after.split_once(']') else {
                out.push('[');
                rest = after;
                continue;
            };
            if word == "duration" && vars.duration_ms.is_none() {
                return None;
            }
            if !put(&mut out, word, vars) {
                out.push('[');
                rest = after;
                continue;
            }
            rest = next;
        }
        out.push_str(rest);
        if let Some(track) = vars.track.filter(|_| !self.0.contains("[track]")) {
            let (stem, extension) = split(&out);
            out = format!("{stem}-{track}{extension}");
        }
        Some(below(&out))
    }
}

/// The name of a segment's part.
pub(super) fn part(segment: &str, number: u32) -> String {
    let (stem, extension) = split(segment);
    format!("{stem}.{number}{extension}")
}

/// A name of someone else's, as a path below a root.
pub(super) fn relative(name: &str) -> Option<String> {
    Some(below(name)).filter(|name| !name.is_empty())
}

/// Before the extension, and the extension with its dot.
fn split(name: &str) -> (&str, &str) {
    let file = name.rfind('/').map_or(0, |at| at + 1);
    match name.get(file..).and_then(|name| name.rfind('.')).filter(|at| *at > 0) {
        Some(at) => name.split_at_checked(file + at).unwrap_or((name, "")),
        None => (name, ""),
    }
}

/// Without what would climb out of a directory, or make two names of one.
fn below(name: &str) -> String {
    let mut out = String::with_capacity(name.len());
    for segment in name.split(['/', '\\']).filter(|segment| !matches!(*segment, "" | "." | "..")) {
        if !out.is_empty() {
            out.push('/');
        }
        out.extend(segment.chars().filter(|c| !c.is_control()));
    }
    out
}

fn put(out: &mut String, word: &str, vars: &Vars<'_>) -> bool {
    let time = Time::of(vars.wall_ms);
    // Writing to a String doesn't fail.
    let _ = match word {
        "vhost" => write!(out, "{}", vars.stream.vhost),
        "app" => write!(out, "{}", vars.stream.app),
        "stream" => write!(out, "{}", vars.stream.stream),
        "track" => write!(out, "{}", vars.track.unwrap_or("main")),
        "seq" => write!(out, "{}", vars.seq),
        "timestamp" => write!(out, "{}", vars.timestamp),
        "duration" => write!(out, "{}", vars.duration_ms.unwrap_or(0)),
        "2006" => write!(out, "{:04}", time.year),
        "01" => write!(out, "{:02}", time.month),
        "02" => write!(out, "{:02}", time.day),
        "15" => write!(out, "{:02}", time.seconds / 3600),
        "04" => write!(out, "{:02}", time.seconds / 60 % 60),
        "05" => write!(out, "{:02}", time.seconds % 60),
        "999" => write!(out, "{:03}", time.ms),
        _ => return false,
    };
    true
}

/// A moment in UTC.
#[derive(Debug, PartialEq, Eq)]
struct Time {
    year: i64,
    month: i64,
    day: i64,
    /// Since midnight.
    seconds: i64,
    ms: i64,
}

impl Time {
    fn of(wall_ms: i64) -> Self {
        let (day, ms) = (wall_ms.div_euclid(86_400_000), wall_ms.rem_euclid(86_400_000));
        // Days to a date of the proleptic Gregorian calendar, whose eras have 400 years and begin in March.
        let z = day + 719_468;
        let (era, doe) = (z.div_euclid(146_097), z.rem_euclid(146_097));
        let yoe = (doe - doe / 1460 + doe / 36_524 - doe / 146_096) / 365;
        let doy = doe - (365 * yoe + yoe / 4 - yoe / 100);
        let mp = (5 * doy + 2) / 153;
        let month = if mp < 10 { mp + 3 } else { mp - 9 };
        Self {
            year: yoe + era * 400 + i64::from(month <= 2),
            month,
            day: doy - (153 * mp + 2) / 5 + 1,
            seconds: ms / 1000,
            ms: ms % 1000,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(
        template: &Template,
        app: &str,
        stream: &str,
        track: Option<&str>,
        duration: Option<u64>,
    ) -> String {
        let stream = StreamName::new("v", app, stream).unwrap();
        let wall_ms = 1_709_210_096_007; // 2024-02-29 12:34:56.007
        let vars =
            Vars { stream: &stream, track, seq: 12, wall_ms, timestamp: wall_ms, duration_ms: duration };
        template.name(&vars).unwrap_or_default()
    }

    #[test]
    fn names_follow_their_template() {
        let all = Template::unique("[vhost]/[app]/[stream].[2006]-[01]-[02]_[15].[04].[05].[999]-[seq].ts");
        assert_eq!(name(&all, "live", "x", None, None), "v/live/x.2024-02-29_12.34.56.007-12.ts");
        let plain = Template::unique("[app]/[stream]");
        assert_eq!(name(&plain, "a/b", "x.y", None, None), "a/b/x.y-12");
        let short = Template::unique("[app]/[stream]-[seq].ts");
        assert_eq!(name(&short, "live", "x", Some("a1"), None), "live/x-12-a1.ts");
        let track = Template::unique("[track]/[seq].m4s");
        assert_eq!(name(&track, "live", "x", Some("v0"), None), "v0/12.m4s");
        let long = Template::unique("[timestamp]-[duration].ts");
        assert_eq!(name(&long, "live", "x", None, Some(2000)), "1709210096007-2000.ts");
        assert_eq!(name(&long, "live", "x", None, None), "", "not known yet");
        assert_eq!(part("live/x.y-12-v0.m4s", 3), "live/x.y-12-v0.3.m4s");
        assert_eq!(part("live.d/x", 3), "live.d/x.3");
    }

    #[test]
    fn no_name_leaves_its_root() {
        let climbing = Template::unique("/../[app]//./[stream]/..\\[seq].ts");
        assert_eq!(name(&climbing, "live", "x", None, None), "live/x/12.ts");
        let odd = Template::unique("[[seq]-[nonsense]-[stream][.ts");
        assert_eq!(name(&odd, "live", "[seq]", None, None), "[12-[nonsense]-[seq][.ts");
        assert_eq!(
            Template::once("[app]/[stream].m3u8")
                .name(&Vars {
                    stream: &StreamName::new("v", "live", "..x").unwrap(),
                    track: None,
                    seq: 0,
                    wall_ms: i64::MIN,
                    timestamp: 0,
                    duration_ms: None,
                })
                .unwrap(),
            "live/..x.m3u8"
        );
    }

    #[test]
    fn dates() {
        let date = |ms| {
            let t = Time::of(ms);
            (t.year, t.month, t.day)
        };
        assert_eq!(date(0), (1970, 1, 1));
        assert_eq!(date(951_782_400_000), (2000, 2, 29));
        assert_eq!(date(4_102_444_800_000), (2100, 1, 1));
        assert_eq!(date(-1), (1969, 12, 31));
    }
}
