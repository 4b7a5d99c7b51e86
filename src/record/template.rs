//! Names of files: SRS's path templates.

use std::path::PathBuf;

use crate::config::RecordFormat;
use crate::hub::StreamName;

/// What a template without a file name gets.
const NAME: &str = "[stream].[timestamp]";

/// The end of the names of a format's files.
pub(super) const fn extension(format: RecordFormat) -> &'static str {
    match format {
        RecordFormat::Flv => "flv",
        RecordFormat::Fmp4 | RecordFormat::Mp4 => "mp4",
        RecordFormat::Ts => "ts",
    }
}

/// A template without its end, e.g. `rec/[app]/[stream].[timestamp]` of `rec/[app]/` and of `rec/[app]/[stream].[timestamp].flv`.
fn stem(template: &str) -> String {
    for known in ["flv", "mp4", "ts"] {
        if let Some(stem) = template.strip_suffix(known).and_then(|stem| stem.strip_suffix('.'))
            && !stem.is_empty()
            && !stem.ends_with('/')
        {
            return stem.to_owned();
        }
    }
    let slash = if template.is_empty() || template.ends_with('/') { "" } else { "/" };
    format!("{template}{slash}{NAME}")
}

/// The directory that all files of a template lie in, at whatever depth; `None` if that is everything there is.
pub(super) fn root(template: &str) -> Option<PathBuf> {
    let stem = stem(template);
    let fixed = stem.split('[').next().unwrap_or_default();
    let dir = match fixed.rfind('/') {
        Some(0) => return None,
        Some(at) => fixed.get(..at).unwrap_or_default(),
        None => ".",
    };
    let root = PathBuf::from(dir);
    let names = |c: &std::path::Component<'_>| matches!(c, std::path::Component::Normal(_));
    (dir == "." || root.components().any(|c| names(&c))).then_some(root)
}

/// The path of a recording that begins at `start_ms` (milliseconds since 1970, UTC). `copy` above 0 makes another one of it.
pub(super) fn expand(
    template: &str,
    format: RecordFormat,
    name: &StreamName,
    start_ms: i64,
    copy: u32,
) -> PathBuf {
    let time = Civil::of(start_ms);
    let stem = stem(template);
    let mut out = String::with_capacity(stem.len() + 64);
    let mut rest = stem.as_str();
    while let Some((before, after)) = rest.split_once('[') {
        out.push_str(before);
        let Some((word, next)) = after.split_once(']') else {
            out.push('[');
            rest = after;
            continue;
        };
        match word {
            "vhost" => out.push_str(&name.vhost),
            "app" => out.push_str(&name.app),
            "stream" => out.push_str(&name.stream),
            "timestamp" => out.push_str(&start_ms.to_string()),
            "2006" => out.push_str(&format!("{:04}", time.year)),
            "01" => out.push_str(&format!("{:02}", time.month)),
            "02" => out.push_str(&format!("{:02}", time.day)),
            "15" => out.push_str(&format!("{:02}", time.hour)),
            "04" => out.push_str(&format!("{:02}", time.minute)),
            "05" => out.push_str(&format!("{:02}", time.second)),
            "999" => out.push_str(&format!("{:03}", time.ms)),
            _ => {
                out.push('[');
                out.push_str(word);
                out.push(']');
            }
        }
        rest = next;
    }
    out.push_str(rest);
    if copy > 0 {
        out.push_str(&format!("-{copy}"));
    }
    out.push('.');
    out.push_str(extension(format));
    PathBuf::from(out)
}

/// A moment as people write it, in UTC.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Civil {
    year: i64,
    month: u32,
    day: u32,
    hour: u32,
    minute: u32,
    second: u32,
    ms: u32,
}

impl Civil {
    pub(super) fn of(unix_ms: i64) -> Self {
        let (days, ms) = (unix_ms.div_euclid(86_400_000), unix_ms.rem_euclid(86_400_000));
        // Years begin in March here, so that the day that comes and goes is the last of one.
        let since = days.saturating_add(719_468);
        let (era, day) = (since.div_euclid(146_097), since.rem_euclid(146_097));
        let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
        let day = day - (365 * year + year / 4 - year / 100);
        let month = (5 * day + 2) / 153;
        let part = |value: i64| u32::try_from(value).unwrap_or(0);
        let (of_month, number) =
            (day - (153 * month + 2) / 5 + 1, if month < 10 { month + 3 } else { month - 9 });
        Self {
            year: year + era * 400 + i64::from(number <= 2),
            month: part(number),
            day: part(of_month),
            hour: part(ms / 3_600_000),
            minute: part(ms / 60_000 % 60),
            second: part(ms / 1000 % 60),
            ms: part(ms % 1000),
        }
    }
}

/// RFC 3339 with milliseconds: `2026-11-21T15:47:20.123Z`.
pub(super) fn rfc3339(unix_ms: i64) -> String {
    let t = Civil::of(unix_ms);
    format!(
        "{:04}-{:02}-{:02}T{:02}:{:02}:{:02}.{:03}Z",
        t.year, t.month, t.day, t.hour, t.minute, t.second, t.ms
    )
}

/// Milliseconds since 1970 of a time as RFC 3339 or in Unix seconds (with a fraction, if one likes). `None` for everything else.
pub(super) fn parse_time(text: &str) -> Option<i64> {
    let digits = |text: &str| {
        (!text.is_empty() && text.len() <= 12 && text.bytes().all(|c| c.is_ascii_digit()))
            .then(|| text.parse::<i64>().ok())
            .flatten()
    };
    let fraction = |text: &str| {
        let text: String = text.chars().chain("000".chars()).take(3).collect();
        digits(&text)
    };
    if !text.contains('-') && !text.contains(':') {
        let (seconds, rest) = text.split_once('.').unwrap_or((text, "0"));
        digits(rest)?;
        return digits(seconds)?.checked_mul(1000)?.checked_add(fraction(rest)?);
    }
    let number = |from: usize, to: usize| text.get(from..to).and_then(digits);
    let is = |at: usize, of: &[u8]| text.as_bytes().get(at).is_some_and(|c| of.contains(c));
    if !(is(4, b"-") && is(7, b"-") && is(10, b"Tt ") && is(13, b":") && is(16, b":")) {
        return None;
    }
    let (year, month, day) = (number(0, 4)?, number(5, 7)?, number(8, 10)?);
    let (hour, minute, second) = (number(11, 13)?, number(14, 16)?, number(17, 19)?);
    if !(1..=12).contains(&month) || !(1..=31).contains(&day) || hour > 23 || minute > 59 || second > 60 {
        return None;
    }
    let mut rest = text.get(19..)?;
    let mut ms = 0;
    if let Some(after) = rest.strip_prefix('.') {
        let end = after.find(|c: char| !c.is_ascii_digit())?;
        let (part, next) = after.split_at_checked(end)?;
        ms = fraction(part).filter(|_| !part.is_empty() && part.len() <= 12)?;
        rest = next;
    }
    let offset = match rest.as_bytes() {
        [b'Z' | b'z'] => 0,
        [sign @ (b'+' | b'-' | b' '), ..] if rest.len() == 6 && rest.get(3..4) == Some(":") => {
            let (hours, minutes) = (rest.get(1..3).and_then(digits)?, rest.get(4..6).and_then(digits)?);
            // A plus sign in a query is read as a blank.
            (hours * 60 + minutes) * if *sign == b'-' { -1 } else { 1 }
        }
        _ => return None,
    };
    let years = if month <= 2 { year - 1 } else { year };
    let (era, of_era) = (years.div_euclid(400), years.rem_euclid(400));
    let of_year = (153 * (month + if month > 2 { -3 } else { 9 }) + 2) / 5 + day - 1;
    let days = era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468;
    Some((((days * 24 + hour) * 60 + minute - offset) * 60 + second) * 1000 + ms)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn name() -> StreamName {
        StreamName::new("v.example", "live/a", "cam").unwrap()
    }

    #[test]
    fn variables_are_srs_ones() {
        let path = |template| expand(template, RecordFormat::Flv, &name(), 1_732_203_640_007, 0);
        assert_eq!(path("rec/[app]/"), PathBuf::from("rec/live/a/cam.1732203640007.flv"));
        assert_eq!(path("rec"), PathBuf::from("rec/cam.1732203640007.flv"));
        assert_eq!(
            path("/d/[vhost]/[2006]/[01]/[02]/[15].[04].[05].[999].mp4"),
            PathBuf::from("/d/v.example/2024/11/21/15.40.40.007.flv"),
            "the format says how it ends"
        );
        assert_eq!(path("x/[what]/[stream].flv"), PathBuf::from("x/[what]/cam.flv"));
        assert_eq!(path("x/[stream.flv"), PathBuf::from("x/[stream.flv"));
        assert_eq!(expand("x/[stream].ts", RecordFormat::Ts, &name(), 0, 2), PathBuf::from("x/cam-2.ts"));
    }

    #[test]
    fn roots_are_what_stands_before_the_first_variable() {
        for (template, expected) in [
            ("recordings/[app]/", Some("recordings")),
            ("/mnt/sd/[stream].mp4", Some("/mnt/sd")),
            ("/mnt/sd/x[stream].mp4", Some("/mnt/sd")),
            ("./objs/nginx/html/[app]/[stream].[timestamp].flv", Some("./objs/nginx/html")),
            ("rec", Some("rec")),
            ("[app]/[stream].ts", Some(".")),
            ("/[app]/[stream].ts", None),
            ("//[app]/", None),
        ] {
            assert_eq!(root(template), expected.map(PathBuf::from), "{template}");
        }
    }

    #[test]
    fn times_are_read_and_written() {
        assert_eq!(rfc3339(0), "1970-01-01T00:00:00.000Z");
        assert_eq!(rfc3339(951_782_400_123), "2000-02-29T00:00:00.123Z");
        assert_eq!(rfc3339(4_102_444_799_999), "2099-12-31T23:59:59.999Z");
        for (text, expected) in [
            ("1732203640", Some(1_732_203_640_000)),
            ("1732203640.5", Some(1_732_203_640_500)),
            ("2024-11-21T15:40:40Z", Some(1_732_203_640_000)),
            ("2024-11-21T16:40:40.25+01:00", Some(1_732_203_640_250)),
            ("2024-11-21T16:40:40 01:00", Some(1_732_203_640_000)),
            ("2024-11-21T10:10:40-05:30", Some(1_732_203_640_000)),
            ("", None),
            ("-5", None),
            ("99999999999999999999", None),
            ("2024-13-21T15:40:40Z", None),
            ("2024-11-21", None),
            ("2024-11-21T15:40:40", None),
            ("1e9", None),
            ("NaN", None),
        ] {
            assert_eq!(parse_time(text), expected, "{text}");
        }
    }

    proptest! {
        #[test]
        fn times_come_back(ms in 0..4_102_444_800_000_i64) {
            prop_assert_eq!(parse_time(&rfc3339(ms)), Some(ms));
        }

        #[test]
        fn hostile_times_do_not_panic(text in "\\PC*") {
            let _ = parse_time(&text);
        }

        #[test]
        fn hostile_templates_stay_files(text in "[a-z\\[\\]./]{0,30}") {
            let _ = (root(&text), expand(&text, RecordFormat::Ts, &name(), -1, 1));
        }
    }
}
