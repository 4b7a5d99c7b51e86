//! What a source of configuration says, with the place where it says it, whatever the source's grammar.

use std::fmt;
#[cfg(feature = "srs-conf")]
use std::sync::Arc;

/// A value with its place.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Item {
    pub place: Place,
    pub kind: Kind,
}

/// Where a value was set.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) enum Place {
    /// Nowhere in particular.
    #[default]
    Unknown,
    /// A line of the file, from 1.
    Line(usize),
    /// A line of another file, which the first one includes.
    #[cfg(feature = "srs-conf")]
    File(Arc<str>, usize),
    /// An environment variable.
    Env(String),
}

/// What was set.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Kind {
    Bool(bool),
    Int(i64),
    Text(String),
    /// The text of an environment variable, whose type is the key's.
    Env(String),
    List(Vec<Item>),
    Table(Vec<(String, Item)>),
    /// What no key takes (floats, dates): as written.
    Other(String),
}

impl Item {
    /// The text, if it is one.
    pub fn word(&self) -> Option<&str> {
        match &self.kind {
            Kind::Text(text) | Kind::Env(text) => Some(text),
            _ => None,
        }
    }

    /// Takes a key out of a table.
    pub fn take(&mut self, name: &str) -> Option<Item> {
        let Kind::Table(entries) = &mut self.kind else { return None };
        let at = entries.iter().position(|(key, _)| key == name)?;
        Some(entries.remove(at).1)
    }

    /// The value at `path`, through tables.
    pub fn find(&self, path: &[&str]) -> Option<&Item> {
        path.iter().try_fold(self, |item, name| {
            let Kind::Table(entries) = &item.kind else { return None };
            entries.iter().find(|(key, _)| key == name).map(|(_, item)| item)
        })
    }

    /// Sets the value at `path`, making tables on the way.
    pub fn set(&mut self, path: &[&str], value: Item) {
        let Some((name, rest)) = path.split_first() else {
            *self = value;
            return;
        };
        if !matches!(self.kind, Kind::Table(_)) {
            self.kind = Kind::Table(Vec::new());
        }
        let Kind::Table(entries) = &mut self.kind else { return };
        if let Some((_, item)) = entries.iter_mut().find(|(key, _)| key == name) {
            item.set(rest, value);
            return;
        }
        let mut item = Item { place: value.place.clone(), kind: Kind::Table(Vec::new()) };
        item.set(rest, value);
        entries.push(((*name).to_owned(), item));
    }
}

/// As it completes "found …".
impl fmt::Display for Item {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.kind {
            Kind::Bool(value) => write!(f, "{value}"),
            Kind::Int(value) => write!(f, "{value}"),
            Kind::Text(text) | Kind::Env(text) => write!(f, "{text:?}"),
            Kind::Other(text) => f.write_str(text),
            Kind::Table(_) => f.write_str("a section"),
            Kind::List(items) => {
                f.write_str("[")?;
                for (i, item) in items.iter().enumerate() {
                    if i > 0 {
                        f.write_str(", ")?;
                    }
                    item.fmt(f)?;
                }
                f.write_str("]")
            }
        }
    }
}

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// `file:line`, or the environment variable's name.
    pub place: String,
    /// The key, e.g. `rtmp.listen`; empty when the file is no TOML at all.
    pub key: String,
    /// What is wrong and what was expected.
    pub text: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.place.is_empty() {
            write!(f, "{}: ", self.place)?;
        }
        if !self.key.is_empty() {
            write!(f, "{}: ", self.key)?;
        }
        f.write_str(&self.text)
    }
}

/// All that is wrong with a configuration.
#[derive(Debug, Default)]
pub(super) struct Problems {
    /// What the user calls the file.
    file: String,
    /// With their lines.
    found: Vec<(usize, Problem)>,
    /// What was out of range and is as near now as it can be; `None` where that is a mistake.
    corrected: Option<Vec<(usize, Problem)>>,
}

impl Problems {
    pub fn of(file: &str) -> Self {
        Self { file: file.to_owned(), found: Vec::new(), corrected: None }
    }

    /// From now on numbers that are out of range are no mistakes.
    #[cfg(feature = "srs-conf")]
    pub fn bring_into_range(&mut self) {
        self.corrected.get_or_insert_default();
    }

    /// Notes that a number which is out of range is another one now; `false` if that isn't allowed.
    pub fn correct(&mut self, item: &Item, key: &str, text: &str) -> bool {
        if self.corrected.is_none() {
            return false;
        }
        self.add(item, key, text.to_owned());
        if let (Some(corrected), Some(last)) = (&mut self.corrected, self.found.pop()) {
            corrected.push(last);
        }
        true
    }

    /// Gives what was corrected to those who only warn.
    pub fn move_corrected(&mut self, warnings: &mut Self) {
        warnings.found.extend(self.corrected.take().into_iter().flatten());
    }

    pub fn is_empty(&self) -> bool {
        self.found.is_empty()
    }

    pub fn add(&mut self, item: &Item, key: &str, text: String) {
        self.add_at(&item.place, key, text);
    }

    pub fn add_at(&mut self, place: &Place, key: &str, text: String) {
        let (line, place) = match place {
            Place::Unknown => (0, self.file.clone()),
            Place::Line(line) => (*line, format!("{}:{line}", self.file)),
            #[cfg(feature = "srs-conf")]
            Place::File(file, line) => (*line, format!("{file}:{line}")),
            Place::Env(name) => (usize::MAX, name.clone()),
        };
        self.found.push((line, Problem { place, key: key.to_owned(), text }));
    }

    /// In the order of the file's lines; what the environment did wrong comes last.
    pub fn sorted(mut self) -> Vec<Problem> {
        self.found.sort_by_key(|(line, _)| *line);
        self.found.into_iter().map(|(_, problem)| problem).collect()
    }

    /// Notes a key that doesn't exist.
    pub fn add_unknown(&mut self, item: &Item, path: &str, name: &str, names: &[&str]) {
        let text = match closest(name, names) {
            Some(close) => format!("unknown key; did you mean \"{close}\"?"),
            None => format!("unknown key; expected one of: {}", names.join(", ")),
        };
        self.add(item, path, text);
    }
}

/// The name that was probably meant.
pub(super) fn closest<'a>(name: &str, names: &[&'a str]) -> Option<&'a str> {
    let limit = (name.len() / 3).max(1);
    names
        .iter()
        .map(|known| (distance(name, known), *known))
        .filter(|(n, _)| *n <= limit)
        .min()
        .map(|(_, k)| k)
}

/// How many characters to insert, delete, replace or swap to make `b` of `a`.
fn distance(a: &str, b: &str) -> usize {
    // Names that no key comes near are not worth the square of their length.
    const LONGEST: usize = 64;
    if a.len() > LONGEST || b.len() > LONGEST {
        return usize::MAX;
    }
    let b: Vec<char> = b.chars().collect();
    let mut older: Vec<usize> = Vec::new();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    let mut before = None;
    for (i, c) in a.chars().enumerate() {
        let mut next = vec![i + 1];
        for (j, d) in b.iter().enumerate() {
            let at = |row: &[usize], k: usize| row.get(k).copied().unwrap_or(usize::MAX / 2);
            let mut best =
                (at(&row, j) + usize::from(c != *d)).min(at(&row, j + 1) + 1).min(at(&next, j) + 1);
            let swapped = j > 0 && b.get(j - 1) == Some(&c) && before == Some(*d);
            if swapped {
                best = best.min(at(&older, j - 1) + 1);
            }
            next.push(best);
        }
        older = std::mem::replace(&mut row, next);
        before = Some(c);
    }
    row.last().copied().unwrap_or(0)
}
