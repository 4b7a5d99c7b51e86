//! Virtual hosts: `[vhost.default]`, what `[vhost."name"]` overrides, and what a pattern narrows.

use std::collections::HashSet;
use std::sync::Arc;

use super::Vhost;
use super::item::{Item, Kind, Problems};
use super::keys::{About, Changes, Entry, Node, join};

/// The section that unknown vhosts and all other sections start from.
const DEFAULT: &str = "default";

/// What holds for each vhost and stream.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Vhosts {
    default: Rules,
    /// Names in lower case.
    named: Vec<(String, Rules)>,
}

/// One vhost with its patterns.
#[derive(Debug, Clone, PartialEq, Default)]
struct Rules {
    all: Arc<Vhost>,
    matches: Vec<(String, Arc<Vhost>)>,
}

impl Vhosts {
    /// What holds for a stream: that of the first pattern of its vhost that matches `app/stream`, else that
    /// of its vhost, else (for a vhost without section) the same of `[vhost.default]`.
    #[must_use]
    pub fn resolve(&self, vhost: &str, app: &str, stream: &str) -> &Arc<Vhost> {
        let named = self.named.iter().find(|(name, _)| name.eq_ignore_ascii_case(vhost));
        let rules = named.map_or(&self.default, |(_, rules)| rules);
        let matched = rules.matches.iter().find(|(pattern, _)| matches(pattern, app, stream));
        matched.map_or(&rules.all, |(_, vhost)| vhost)
    }

    /// Changes what holds for all.
    #[cfg(test)]
    pub(crate) fn set_default(&mut self, change: impl FnOnce(&mut Vhost)) {
        change(Arc::make_mut(&mut self.default.all));
    }

    /// What holds for any stream: the rules of all vhosts and patterns.
    pub fn all(&self) -> impl Iterator<Item = &Arc<Vhost>> {
        let rules = std::iter::once(&self.default).chain(self.named.iter().map(|(_, rules)| rules));
        rules
            .flat_map(|rules| std::iter::once(&rules.all).chain(rules.matches.iter().map(|(_, vhost)| vhost)))
    }

    /// What holds for the streams that patterns name without `*` and `?`, with their names: vhost (`""`: any without a section),
    /// app, stream.
    #[cfg(feature = "relay")]
    pub fn streams(&self) -> impl Iterator<Item = (&str, &str, &str, &Arc<Vhost>)> {
        let rules = self.named.iter().map(|(name, rules)| (name.as_str(), rules));
        std::iter::once(("", &self.default)).chain(rules).flat_map(|(vhost, rules)| {
            rules.matches.iter().filter(|(pattern, _)| !pattern.contains(['*', '?'])).filter_map(
                move |(pattern, all)| pattern.rsplit_once('/').map(|(app, stream)| (vhost, app, stream, all)),
            )
        })
    }

    /// The names that have a section, in lower case, without "default".
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.named.iter().map(|(name, _)| name.as_str())
    }
}

impl Rules {
    fn read(&mut self, item: &Item, path: &str, problems: &mut Problems) {
        let mut item = item.clone();
        let patterns = item.take("match");
        Arc::make_mut(&mut self.all).read(&item, path, problems);
        let Some(patterns) = patterns else { return };
        let path = join(path, "match");
        let Kind::List(patterns) = patterns.kind else {
            let text = format!("expected [[{path}]] with stream = \"live/cam*\", found {patterns}");
            problems.add(&patterns, &path, text);
            return;
        };
        for (i, mut item) in patterns.into_iter().enumerate() {
            let path = format!("{path}[{}]", i + 1);
            let pattern = item.take("stream");
            let mut vhost = Vhost::clone(&self.all);
            vhost.read(&item, &path, problems);
            match pattern.as_ref().and_then(Item::word) {
                Some(text) if !text.is_empty() => self.matches.push((text.to_owned(), Arc::new(vhost))),
                _ => {
                    let text = "expected stream = \"live/cam*\", the streams this is for".to_owned();
                    problems.add(pattern.as_ref().unwrap_or(&item), &path, text);
                }
            }
        }
    }

    fn walk(&self, path: &str, about: &About, visit: &mut dyn FnMut(Entry)) {
        self.all.walk(path, about, visit);
        for (pattern, vhost) in &self.matches {
            vhost.walk(&format!("{path}.match[{pattern:?}]"), about, visit);
        }
    }
}

impl Node for Vhosts {
    fn read(&mut self, item: &Item, path: &str, problems: &mut Problems) {
        let Kind::Table(entries) = &item.kind else {
            problems.add(item, path, format!("expected a section such as [{path}.{DEFAULT}], found {item}"));
            return;
        };
        // The default first, wherever it stands: the others start from it.
        for (_, item) in entries.iter().filter(|(name, _)| name == DEFAULT) {
            self.default.read(item, &join(path, DEFAULT), problems);
        }
        for (name, item) in entries.iter().filter(|(name, _)| name != DEFAULT) {
            let path = join(path, name);
            if !matches!(item.kind, Kind::Table(_)) {
                problems.add(
                    item,
                    &path,
                    format!("expected a section such as [vhost.{DEFAULT}], found {item}"),
                );
                continue;
            }
            let mut rules = Rules { all: Arc::clone(&self.default.all), matches: Vec::new() };
            rules.read(item, &path, problems);
            self.named.push((name.to_ascii_lowercase(), rules));
        }
        // Which of them a source has first says nothing.
        self.named.sort_by(|(a, _), (b, _)| a.cmp(b));
    }

    fn walk(&self, path: &str, about: &About, visit: &mut dyn FnMut(Entry)) {
        self.default.walk(&join(path, DEFAULT), about, visit);
        for (name, rules) in &self.named {
            rules.walk(&join(path, name), about, visit);
        }
    }

    fn adopt(&mut self, newer: &Self, path: &str, about: &About, changes: &mut Changes) {
        if self == newer {
            return;
        }
        let list = |vhosts: &Self| {
            let mut keys = Vec::new();
            vhosts.walk(path, about, &mut |entry| {
                if let Entry::Key(key) = entry {
                    keys.push(format!("{} = {}", key.path, key.value));
                }
            });
            keys
        };
        let old: HashSet<String> = list(self).into_iter().collect();
        let count = changes.applied.len();
        changes.applied.extend(list(newer).into_iter().filter(|key| !old.contains(key)));
        if changes.applied.len() == count {
            changes.applied.push(format!("{path}: sections or patterns removed or in another order"));
        }
        *self = newer.clone();
    }
}

/// The key that gives the one at `path` its value unless it is set itself.
pub(super) fn inherited(path: &str) -> Option<String> {
    // After the vhost's name, and the pattern; both may hold dots, but only within quotes.
    let mut quoted = false;
    let ends = |c: char| {
        quoted ^= c == '"';
        c == '.' && !quoted
    };
    let mut parts = path.strip_prefix("vhost.")?.split(ends);
    parts.next()?;
    let mut key: Vec<&str> = parts.collect();
    if key.first()?.starts_with("match[") {
        key.remove(0);
    }
    Some(format!("vhost.{DEFAULT}.{}", key.join(".")))
}

/// Whether `pattern` (`*` any characters, `?` one) matches `app/stream`.
#[must_use]
pub fn matches(pattern: &str, app: &str, stream: &str) -> bool {
    let pattern = pattern.as_bytes();
    let text: Vec<u8> = app.bytes().chain([b'/']).chain(stream.bytes()).collect();
    let (mut p, mut t) = (0, 0);
    // Where to go on when a mismatch makes the last star take one more character.
    let mut star = None;
    while let Some(c) = text.get(t) {
        match pattern.get(p) {
            Some(b'*') => {
                star = Some((p, t));
                p += 1;
            }
            Some(b'?') => {
                p += 1;
                t += 1;
            }
            Some(d) if d == c => {
                p += 1;
                t += 1;
            }
            _ => {
                let Some((at, from)) = star else { return false };
                p = at + 1;
                t = from + 1;
                star = Some((at, t));
            }
        }
    }
    pattern.iter().skip(p).all(|c| *c == b'*')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_keys_inherit_from() {
        for (path, expected) in [
            ("server.workers", None),
            ("vhost.default.grace", Some("vhost.default.grace")),
            ("vhost.cam.http_live.wait", Some("vhost.default.http_live.wait")),
            ("vhost.\"cam.example\".grace", Some("vhost.default.grace")),
            ("vhost.\"a.b\".match[\"live/x.*\"].play.wait", Some("vhost.default.play.wait")),
            ("vhost.default.match[\"*\"].grace", Some("vhost.default.grace")),
        ] {
            assert_eq!(inherited(path).as_deref(), expected, "{path}");
        }
    }

    #[test]
    fn patterns() {
        for (pattern, app, stream, expected) in [
            ("live/cam*", "live", "cam1", true),
            ("live/cam*", "live", "cam", true),
            ("live/cam*", "live", "dome", false),
            ("*/cam?", "a/b", "cam7", true),
            ("*/cam?", "a", "cam", false),
            ("*", "a", "b", true),
            ("live/demo", "live", "demo", true),
            ("live/demo", "live", "demo2", false),
            ("*a*b*c", "xa", "bbc", true),
            ("*a*b*c", "xa", "bbd", false),
            ("", "a", "b", false),
        ] {
            assert_eq!(matches(pattern, app, stream), expected, "{pattern} {app}/{stream}");
        }
    }
}
