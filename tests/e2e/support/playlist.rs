//! Reads HLS playlists strictly, and knows the rules that they have to keep (RFC 8216, RFC 8216bis): what a player may
//! forgive, and another one not.

use std::collections::HashMap;
use std::fmt;

/// A media playlist.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Media {
    pub version: u32,
    /// `EXT-X-TARGETDURATION` in seconds.
    pub target: u32,
    /// `EXT-X-PART-INF`, milliseconds.
    pub part_target: Option<u32>,
    pub control: Option<Attributes>,
    /// Number of the first segment that counts, skipped ones included.
    pub first: u64,
    pub discontinuity_sequence: u64,
    pub kind: Option<String>,
    pub independent: bool,
    /// How many segments are left out after the first number.
    pub skipped: u64,
    pub segments: Vec<Segment>,
    /// Parts of the segment that grows.
    pub open: Vec<Part>,
    pub hints: Vec<Attributes>,
    pub reports: Vec<Attributes>,
    pub ended: bool,
}

/// A segment.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Segment {
    pub number: u64,
    /// Milliseconds.
    pub duration: u32,
    pub uri: String,
    pub discontinuity: bool,
    /// Counted from the playlist's first segment on.
    pub discontinuity_sequence: u64,
    /// `EXT-X-PROGRAM-DATE-TIME`, milliseconds since 1970.
    pub date: Option<i64>,
    pub map: Option<Attributes>,
    pub keys: Vec<Attributes>,
    pub parts: Vec<Part>,
}

/// A part of a segment.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Part {
    /// Milliseconds.
    pub duration: u32,
    pub uri: String,
    pub independent: bool,
}

/// A multivariant playlist.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Multivariant {
    /// Attributes and address.
    pub variants: Vec<(Attributes, String)>,
    pub media: Vec<Attributes>,
}

/// An attribute list; texts without their quotes.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Attributes(Vec<(String, String)>);

/// What is wrong with a playlist.
#[derive(Debug)]
pub struct Wrong(pub String);

impl fmt::Display for Wrong {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

type Result<T> = std::result::Result<T, Wrong>;

fn demand(is_so: bool, what: impl FnOnce() -> String) -> Result<()> {
    if is_so { Ok(()) } else { Err(Wrong(what())) }
}

impl Attributes {
    fn parse(text: &str) -> Result<Self> {
        let mut list: Vec<(String, String)> = Vec::new();
        let mut rest = text;
        while !rest.is_empty() {
            let Some((name, after)) = rest.split_once('=') else {
                return Err(Wrong(format!("attribute without value: {text}")));
            };
            let fits = |c: char| c.is_ascii_uppercase() || c.is_ascii_digit() || c == '-';
            demand(!name.is_empty() && name.chars().all(fits), || {
                format!("attribute name {name:?}: {text}")
            })?;
            let (value, after) = if let Some(quoted) = after.strip_prefix('"') {
                quoted.split_once('"').ok_or_else(|| Wrong(format!("no closing quote: {text}")))?
            } else {
                after.split_at(after.find(',').unwrap_or(after.len()))
            };
            demand(!list.iter().any(|(known, _)| known == name), || format!("{name} twice: {text}"))?;
            list.push((name.to_owned(), value.to_owned()));
            rest = match after.strip_prefix(',') {
                Some(rest) => rest,
                None if after.is_empty() => after,
                None => return Err(Wrong(format!("no comma after {name}: {text}"))),
            };
        }
        Ok(Self(list))
    }

    pub fn find(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// Seconds as milliseconds.
    fn ms(&self, name: &str) -> Result<Option<u32>> {
        self.find(name).map(milliseconds).transpose()
    }

    fn need(&self, name: &str) -> Result<&str> {
        self.find(name).ok_or_else(|| Wrong(format!("{name} is missing: {self:?}")))
    }
}

/// Decimal seconds.
fn milliseconds(text: &str) -> Result<u32> {
    let (whole, rest) = text.split_once('.').unwrap_or((text, ""));
    let digits = |text: &str| text.bytes().all(|c| c.is_ascii_digit());
    demand(!whole.is_empty() && digits(whole) && digits(rest) && rest.len() <= 5, || {
        format!("{text} is no duration")
    })?;
    let seconds: f64 = text.parse().map_err(|_| Wrong(format!("{text} is no duration")))?;
    Ok((seconds * 1000.0).round() as u32)
}

/// ISO 8601 with milliseconds in UTC.
fn date(text: &str) -> Result<i64> {
    let wrong = || Wrong(format!("{text} is no date"));
    let number = |range: std::ops::Range<usize>| {
        text.get(range).and_then(|digits| digits.parse::<i64>().ok()).ok_or_else(wrong)
    };
    demand(text.len() == 24 && text.ends_with('Z') && text.as_bytes()[10] == b'T', || {
        format!("{text} is no date")
    })?;
    let (year, month, day) = (number(0..4)?, number(5..7)?, number(8..10)?);
    // Days since 1970 of the civil calendar.
    let (y, m) = if month <= 2 { (year - 1, month + 9) } else { (year, month - 3) };
    let days = 365 * y + y / 4 - y / 100 + y / 400 + (153 * m + 2) / 5 + day - 1 - 719_468;
    let seconds = days * 86_400 + number(11..13)? * 3600 + number(14..16)? * 60 + number(17..19)?;
    Ok(seconds * 1000 + number(20..23)?)
}

fn number<T: std::str::FromStr>(text: &str) -> Result<T> {
    text.parse().map_err(|_| Wrong(format!("{text:?} is no number")))
}

/// The lines of a playlist, tags apart from their values.
fn lines(text: &str) -> Result<impl Iterator<Item = (&str, &str)>> {
    demand(text.starts_with("#EXTM3U\n"), || "it does not begin with #EXTM3U".to_owned())?;
    demand(text.ends_with('\n'), || "the last line has no end".to_owned())?;
    demand(!text.contains('\r'), || "carriage returns".to_owned())?;
    demand(!text.contains("\n\n"), || "empty lines".to_owned())?;
    Ok(text.lines().skip(1).map(|line| match line.strip_prefix('#') {
        None => ("", line),
        Some(tag) => tag.split_once(':').unwrap_or((tag, "")),
    }))
}

impl Multivariant {
    /// Reads and checks one.
    pub fn parse(text: &str) -> Result<Self> {
        let mut list = Self::default();
        let mut stream = None;
        for (tag, value) in lines(text)? {
            match tag {
                "" => {
                    let attributes =
                        stream.take().ok_or_else(|| Wrong(format!("a stray address: {value}")))?;
                    list.variants.push((attributes, value.to_owned()));
                }
                "EXT-X-STREAM-INF" => stream = Some(Attributes::parse(value)?),
                "EXT-X-MEDIA" => list.media.push(Attributes::parse(value)?),
                "EXT-X-VERSION" | "EXT-X-INDEPENDENT-SEGMENTS" => {}
                _ => return Err(Wrong(format!("#{tag} in a multivariant playlist"))),
            }
        }
        demand(stream.is_none() && !list.variants.is_empty(), || "no variant".to_owned())?;
        for (attributes, _) in &list.variants {
            let peak: u64 = number(attributes.need("BANDWIDTH")?)?;
            let mean = attributes.find("AVERAGE-BANDWIDTH").map_or(Ok(0), number::<u64>)?;
            demand(peak > 0 && mean <= peak, || format!("bandwidths: {attributes:?}"))?;
            if let Some(group) = attributes.find("AUDIO") {
                let has = list
                    .media
                    .iter()
                    .any(|m| m.find("GROUP-ID") == Some(group) && m.find("TYPE") == Some("AUDIO"));
                demand(has, || format!("there is no group {group}"))?;
            }
        }
        let mut names = HashMap::new();
        for media in &list.media {
            let key = (media.need("TYPE")?, media.need("GROUP-ID")?, media.need("NAME")?);
            demand(names.insert(key, ()).is_none(), || format!("two renditions are {key:?}"))?;
            demand(media.find("DEFAULT") != Some("YES") || media.find("AUTOSELECT") != Some("NO"), || {
                "a default that is not selected".to_owned()
            })?;
        }
        Ok(list)
    }
}

impl Media {
    /// Reads and checks one: whole, or a delta update.
    pub fn parse(text: &str) -> Result<Self> {
        let list = Self::read(text)?;
        list.check()?;
        Ok(list)
    }

    fn read(text: &str) -> Result<Self> {
        let mut list = Self::default();
        let (mut map, mut keys) = (None, Vec::new());
        let (mut next, mut discontinuities) = (0, 0);
        let mut parts = Vec::new();
        let mut segment = Segment::default();
        let mut duration = None;
        for (tag, value) in lines(text)? {
            demand(!list.ended || matches!(tag, "EXT-X-RENDITION-REPORT"), || {
                format!("#{tag} after the end")
            })?;
            match tag {
                "" => {
                    let duration = duration.take().ok_or_else(|| Wrong(format!("no EXTINF: {value}")))?;
                    segment.number = list.first + list.skipped + next;
                    segment.discontinuity_sequence = list.discontinuity_sequence + discontinuities;
                    (segment.duration, segment.uri) = (duration, value.to_owned());
                    (segment.map, segment.keys) = (map.clone(), keys.clone());
                    segment.parts = std::mem::take(&mut parts);
                    list.segments.push(std::mem::take(&mut segment));
                    next += 1;
                }
                "EXT-X-VERSION" => list.version = number(value)?,
                "EXT-X-TARGETDURATION" => list.target = number(value)?,
                "EXT-X-MEDIA-SEQUENCE" => list.first = number(value)?,
                "EXT-X-DISCONTINUITY-SEQUENCE" => list.discontinuity_sequence = number(value)?,
                "EXT-X-PLAYLIST-TYPE" => list.kind = Some(value.to_owned()),
                "EXT-X-INDEPENDENT-SEGMENTS" => list.independent = true,
                "EXT-X-SERVER-CONTROL" => list.control = Some(Attributes::parse(value)?),
                "EXT-X-PART-INF" => list.part_target = Attributes::parse(value)?.ms("PART-TARGET")?,
                "EXT-X-SKIP" => list.skipped = number(Attributes::parse(value)?.need("SKIPPED-SEGMENTS")?)?,
                "EXT-X-MAP" => map = Some(Attributes::parse(value)?),
                "EXT-X-KEY" => {
                    let key = Attributes::parse(value)?;
                    let format = |key: &Attributes| key.find("KEYFORMAT").unwrap_or("identity").to_owned();
                    keys.retain(|old| format(old) != format(&key));
                    if key.need("METHOD")? != "NONE" {
                        keys.push(key);
                    }
                }
                "EXT-X-DISCONTINUITY" => {
                    demand(parts.is_empty(), || "a discontinuity within a segment".to_owned())?;
                    segment.discontinuity = true;
                    discontinuities += 1;
                }
                "EXT-X-PROGRAM-DATE-TIME" => segment.date = Some(date(value)?),
                "EXT-X-PART" => {
                    let part = Attributes::parse(value)?;
                    parts.push(Part {
                        duration: part
                            .ms("DURATION")?
                            .ok_or_else(|| Wrong("a part without duration".to_owned()))?,
                        uri: part.need("URI")?.to_owned(),
                        independent: part.find("INDEPENDENT") == Some("YES"),
                    });
                }
                "EXT-X-PRELOAD-HINT" => list.hints.push(Attributes::parse(value)?),
                "EXT-X-RENDITION-REPORT" => list.reports.push(Attributes::parse(value)?),
                "EXTINF" => {
                    let (seconds, _) =
                        value.split_once(',').ok_or_else(|| Wrong("EXTINF without comma".to_owned()))?;
                    duration = Some(milliseconds(seconds)?);
                }
                "EXT-X-ENDLIST" => list.ended = true,
                _ => return Err(Wrong(format!("#{tag} in a media playlist"))),
            }
        }
        demand(duration.is_none(), || "EXTINF without address".to_owned())?;
        list.open = parts;
        Ok(list)
    }

    fn check(&self) -> Result<()> {
        demand(self.target > 0, || "no target duration".to_owned())?;
        for segment in &self.segments {
            let rounded = (segment.duration + 500) / 1000;
            demand(rounded <= self.target, || {
                format!("segment {} of {} ms, target {} s", segment.number, segment.duration, self.target)
            })?;
            demand(segment.duration > 0, || format!("segment {} of no duration", segment.number))?;
            demand(!segment.uri.contains(' '), || format!("address {:?}", segment.uri))?;
        }
        let fragmented = self.segments.iter().any(|segment| segment.map.is_some());
        let needed = if self.skipped > 0 {
            9
        } else if fragmented {
            6
        } else {
            3
        };
        demand(self.version >= needed, || format!("version {} where {needed} is needed", self.version))?;
        for pair in self.segments.windows(2) {
            // Without a discontinuity the dates of two segments are as far apart as the first is long.
            if let (Some(a), Some(b), false) = (pair[0].date, pair[1].date, pair[1].discontinuity) {
                let gap = b - a - i64::from(pair[0].duration);
                demand(gap.abs() <= 100, || {
                    format!("segment {}: its date is off by {gap} ms", pair[1].number)
                })?;
            }
            // Another key of samples is told of there.
            let same = pair[0].map == pair[1].map || pair[0].keys != pair[1].keys;
            demand(same || pair[1].discontinuity, || {
                format!("segment {}: another initialization without discontinuity", pair[1].number)
            })?;
        }
        self.check_parts()
    }

    fn check_parts(&self) -> Result<()> {
        let parts = self.segments.iter().flat_map(|segment| &segment.parts).chain(&self.open);
        let Some(target) = self.part_target else {
            return demand(parts.count() == 0 && self.hints.is_empty(), || {
                "parts without EXT-X-PART-INF".to_owned()
            });
        };
        let control =
            self.control.as_ref().ok_or_else(|| Wrong("parts without EXT-X-SERVER-CONTROL".to_owned()))?;
        let back = control.ms("PART-HOLD-BACK")?.unwrap_or(0);
        demand(back >= 2 * target, || format!("PART-HOLD-BACK {back} ms, part target {target} ms"))?;
        if let Some(hold) = control.ms("HOLD-BACK")? {
            demand(hold >= 3000 * self.target, || format!("HOLD-BACK {hold} ms, target {} s", self.target))?;
        }
        if let Some(skip) = control.ms("CAN-SKIP-UNTIL")? {
            demand(skip >= 6000 * self.target, || {
                format!("CAN-SKIP-UNTIL {skip} ms, target {} s", self.target)
            })?;
        }
        for part in parts {
            demand(part.duration <= target, || format!("{part:?} is longer than {target} ms"))?;
            demand(part.duration > 0, || format!("{part:?} has no duration"))?;
        }
        for segment in &self.segments {
            // 8216bis 4.4.4.9: 85 % of the target, but for the last part of a segment, and before a discontinuity.
            for part in segment.parts.split_last().map_or(&[][..], |(_, parts)| parts) {
                demand(u64::from(part.duration) * 100 >= u64::from(target) * 85, || {
                    format!("segment {}: {part:?} is shorter than 85 % of {target} ms", segment.number)
                })?;
            }
            if !segment.parts.is_empty() {
                let sum: u32 = segment.parts.iter().map(|part| part.duration).sum();
                demand(sum.abs_diff(segment.duration) <= 1 + segment.parts.len() as u32, || {
                    format!("segment {} of {} ms has parts of {sum} ms", segment.number, segment.duration)
                })?;
            }
        }
        // Parts leave the playlist from the front only (6.2.2), no later than three targets from the end.
        let with: Vec<_> = self.segments.iter().map(|segment| !segment.parts.is_empty()).collect();
        demand(with.is_sorted(), || "segments without parts after some with".to_owned())?;
        demand(self.ended || !self.hints.is_empty(), || "no EXT-X-PRELOAD-HINT".to_owned())?;
        Ok(())
    }

    /// Checks that this is a later state of `old` (6.2.1, 6.2.2).
    pub fn follows(&self, old: &Self) -> Result<()> {
        demand(self.target == old.target, || {
            format!("the target went from {} to {}", old.target, self.target)
        })?;
        demand(self.part_target == old.part_target, || "the part target changed".to_owned())?;
        demand(self.first >= old.first, || {
            format!("the sequence went back from {} to {}", old.first, self.first)
        })?;
        demand(!old.ended || self == old, || "it changed after its end".to_owned())?;
        demand(self.kind.as_deref() != Some("EVENT") || self.first == old.first, || {
            "an EVENT lost segments".to_owned()
        })?;
        let end = |list: &Self| list.segments.last().map_or(list.first, |segment| segment.number + 1);
        demand(end(self) >= end(old), || format!("it ended before {}, now before {}", end(old), end(self)))?;
        for segment in &self.segments {
            let Some(known) = old.segments.iter().find(|known| known.number == segment.number) else {
                continue;
            };
            let same = (&known.uri, known.duration, known.discontinuity_sequence, &known.map, &known.keys)
                == (
                    &segment.uri,
                    segment.duration,
                    segment.discontinuity_sequence,
                    &segment.map,
                    &segment.keys,
                );
            demand(same, || format!("segment {} changed: {known:?}, now {segment:?}", segment.number))?;
            demand(
                known.parts.is_empty() || segment.parts.is_empty() || known.parts == segment.parts,
                || format!("the parts of segment {} changed", segment.number),
            )?;
        }
        let gone = self.first.saturating_sub(old.first);
        let lost =
            old.segments.iter().take(gone as usize).filter(|segment| segment.discontinuity).count() as u64;
        let base = old.discontinuity_sequence + lost;
        // A tag at the head of the list belongs to its first segment, and counts once that one is gone.
        demand(gone > old.segments.len() as u64 || self.discontinuity_sequence == base, || {
            format!("discontinuity sequence {} instead of {base}", self.discontinuity_sequence)
        })?;
        // What was announced in parts is what the segment became.
        if let (Some(part), Some(now)) =
            (old.open.first(), self.segments.iter().find(|s| s.number == end(old)))
            && !now.parts.is_empty()
        {
            demand(now.parts.starts_with(&old.open), || {
                format!("{part:?} and what follows is gone from {now:?}")
            })?;
        }
        Ok(())
    }

    /// The whole playlist that this delta update of `old` stands for.
    pub fn on(&self, old: &Self) -> Result<Self> {
        let mut whole = self.clone();
        whole.skipped = 0;
        let known = |number| old.segments.iter().find(|segment| segment.number == number).cloned();
        let mut segments = Vec::new();
        for number in self.first..self.first + self.skipped {
            segments.push(
                known(number).ok_or_else(|| Wrong(format!("skipped segment {number} was never there")))?,
            );
        }
        segments.append(&mut whole.segments);
        // What holds from before the gap, and sums over it.
        for at in self.skipped as usize..segments.len() {
            let before = at.checked_sub(1).map(|at| segments[at].clone());
            let segment = &mut segments[at];
            if let Some(before) = before {
                segment.map = segment.map.take().or(before.map);
                if segment.keys.is_empty() {
                    segment.keys = before.keys;
                }
                segment.discontinuity_sequence =
                    before.discontinuity_sequence + u64::from(segment.discontinuity);
            }
        }
        whole.segments = segments;
        Ok(whole)
    }
}
