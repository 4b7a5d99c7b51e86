//! How a key is declared: once, with its name, type, default, range and words.

use super::item::{Item, Kind, Problems};
#[cfg(feature = "api")]
use super::value::Shape;
use super::value::Value;

/// One key, as shown in `conf/full.toml`, by `rillbox check` and to whoever compares two configurations.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Key {
    /// Its place, e.g. `rtmp.listen` or `vhost.default.http_live.wait`.
    pub path: String,
    /// What a value looks like, e.g. ``duration such as "10s"``.
    pub expected: &'static str,
    /// The value as TOML. In the table of defaults: the default.
    pub value: String,
    /// Smallest and largest value as TOML, where there are bounds.
    pub range: Option<(String, String)>,
    /// What it is for. Several lines; none in builds that tell it to nobody.
    pub doc: &'static [&'static str],
    /// What a reload does with it.
    pub reload: Reload,
    /// What it is in JSON.
    #[cfg(feature = "api")]
    pub(super) shape: Shape,
    /// Whether its value is never shown.
    #[cfg(any(feature = "api", feature = "srs-conf"))]
    pub(super) secret: bool,
}

/// What a walk comes by.
pub(super) enum Entry {
    /// A section with its words; its keys follow.
    #[cfg_attr(not(any(test, feature = "api")), expect(dead_code, reason = "for those who tell of all keys"))]
    Section(String, &'static [&'static str]),
    /// A key.
    Key(Key),
}

/// What a reload (SIGHUP) does with a changed key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reload {
    /// Takes effect at once, or for the next connection; nobody is dropped.
    Live,
    /// Takes effect with the next start.
    Restart,
}

/// What a section says of one of its keys.
pub(super) struct About {
    pub doc: &'static [&'static str],
    pub range: Option<(String, String)>,
    pub reload: Reload,
}

/// The top has no words of its own.
pub(super) const TOP: About = About { doc: &[], range: None, reload: Reload::Live };

/// A key that has not the same value in two configurations.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Difference {
    /// Its place, as in [`Key`].
    pub path: String,
    /// The value as TOML in the older one; `None` if that has no such section.
    pub old: Option<String>,
    /// The same in the newer one.
    pub new: Option<String>,
    /// What a reload does with it.
    pub reload: Reload,
    /// Whether the key is one of [`Key::is_local`].
    #[cfg(feature = "api")]
    local: bool,
}

impl Difference {
    pub(super) fn of(key: &Key, old: Option<String>, new: Option<String>) -> Self {
        Self {
            path: key.path.clone(),
            old,
            new,
            reload: key.reload,
            #[cfg(feature = "api")]
            local: key.is_local(),
        }
    }

    /// Of a key that says so, whose value isn't shown or is the same but for its order.
    #[must_use]
    pub(super) fn hidden(path: &str) -> Self {
        Self {
            path: path.to_owned(),
            old: None,
            new: None,
            reload: Reload::Live,
            #[cfg(feature = "api")]
            local: false,
        }
    }

    /// Whether the key is left to those who can write the file.
    #[cfg(feature = "api")]
    #[must_use]
    pub fn is_local(&self) -> bool {
        self.local
    }
}

/// What a reload did with the keys that changed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Changes {
    /// In force now, e.g. `log.level = "debug"`.
    pub applied: Vec<String>,
    /// Waiting for a restart.
    pub restart: Vec<String>,
}

/// A value or a section: something that can be read from an [`Item`], walked, and replaced by a newer one.
pub(super) trait Node {
    /// Takes over what `item` sets; what it doesn't set stays. What is wrong is noted and left as it was.
    fn read(&mut self, item: &Item, path: &str, problems: &mut Problems);
    /// Visits each section and key.
    fn walk(&self, path: &str, about: &About, visit: &mut dyn FnMut(Entry));
    /// Takes over what may change while running.
    fn adopt(&mut self, newer: &Self, path: &str, about: &About, changes: &mut Changes);
}

impl<T: Value> Node for T {
    fn read(&mut self, item: &Item, path: &str, problems: &mut Problems) {
        match T::parse(item) {
            Some(value) => *self = value,
            None if T::SECRET => problems.add(item, path, format!("expected {}", T::EXPECTED)),
            None => problems.add(item, path, format!("expected {}, found {item}", T::EXPECTED)),
        }
    }

    fn walk(&self, path: &str, about: &About, visit: &mut dyn FnMut(Entry)) {
        visit(Entry::Key(Key {
            path: path.to_owned(),
            expected: T::EXPECTED,
            value: self.text(),
            range: about.range.clone(),
            doc: about.doc,
            reload: about.reload,
            #[cfg(feature = "api")]
            shape: T::SHAPE,
            #[cfg(any(feature = "api", feature = "srs-conf"))]
            secret: T::SECRET,
        }));
    }

    fn adopt(&mut self, newer: &Self, path: &str, about: &About, changes: &mut Changes) {
        if self == newer {
            return;
        }
        match about.reload {
            Reload::Live => {
                changes.applied.push(format!("{path} = {}", newer.text()));
                *self = newer.clone();
            }
            Reload::Restart => changes.restart.push(format!("{path} = {}", newer.text())),
        }
    }
}

/// Reads a section's table: `known` takes the keys it has; the others are noted with a suggestion.
pub(super) fn read_table(
    item: &Item,
    path: &str,
    names: &[(&'static str, Option<&'static str>)],
    problems: &mut Problems,
    mut known: impl FnMut(&str, &Item, &str, &mut Problems),
) {
    let Kind::Table(entries) = &item.kind else {
        problems.add(item, path, format!("expected a section, found {item}"));
        return;
    };
    for (name, value) in entries {
        let full = join(path, name);
        match names.iter().find(|(known, _)| known == name) {
            Some((_, None)) => known(name, value, &full, problems),
            Some(_) if matches!(&value.kind, Kind::Table(entries) if entries.is_empty()) => {}
            // Not passed over: it may be what keeps strangers out.
            Some((_, Some(with))) => {
                problems.add(value, &full, format!("this build has none (Cargo {with})"));
            }
            None => {
                let here = names.iter().filter(|(_, with)| with.is_none());
                let names: Vec<&str> = here.map(|(name, _)| *name).collect();
                problems.add_unknown(value, &full, name, &names);
            }
        }
    }
}

/// `rtmp` and `listen` give `rtmp.listen`; names that are not plain words are quoted.
pub(super) fn join(path: &str, name: &str) -> String {
    let plain = !name.is_empty() && name.bytes().all(|c| c.is_ascii_alphanumeric() || c == b'_' || c == b'-');
    match (path.is_empty(), plain) {
        (true, true) => name.to_owned(),
        (true, false) => format!("{name:?}"),
        (false, true) => format!("{path}.{name}"),
        (false, false) => format!("{path}.{name:?}"),
    }
}

/// Puts `value` back to `before` when it is outside `range`.
pub(super) fn hold<T: Value + PartialOrd>(
    value: &mut T,
    before: T,
    range: &std::ops::RangeInclusive<T>,
    item: &Item,
    path: &str,
    problems: &mut Problems,
) {
    if !range.contains(value) {
        let nearest = if *value < *range.start() { range.start() } else { range.end() };
        if problems.correct(item, path, &format!("{item} is out of range: it is {} here", nearest.text())) {
            *value = nearest.clone();
            return;
        }
        let text = format!("expected {} to {}, found {item}", range.start().text(), range.end().text());
        problems.add(item, path, text);
        *value = before;
    }
}

/// Both ends of a range as TOML.
pub(super) fn ends<T: Value>(range: &std::ops::RangeInclusive<T>) -> (String, String) {
    (range.start().text(), range.end().text())
}

/// Declares a section: a plain struct with defaults, and all that is known of its keys.
///
/// Each key: its doc lines, the feature that it is for if not every build has it, `live` or `restart` (what a reload
/// does), name, type, default, and a range.
macro_rules! section {
    ($(#[doc = $about:literal])+ pub struct $Name:ident {
        $( $(#[doc = $doc:literal])+ $(#[cfg($with:meta)])? $reload:ident $key:ident: $type:ty = $default:expr
            $(, $range:expr)?; )+
    }) => {
        $(#[doc = $about])+
        // Words are for people who configure: what stands in brackets there is no link.
        #[allow(rustdoc::bare_urls, rustdoc::broken_intra_doc_links, rustdoc::private_intra_doc_links)]
        #[derive(Debug, Clone, PartialEq)]
        #[non_exhaustive]
        pub struct $Name {
            $( $(#[doc = $doc])+ $(#[cfg($with)])? pub $key: $type, )+
        }

        impl Default for $Name {
            fn default() -> Self {
                Self { $( $(#[cfg($with)])? $key: $default, )+ }
            }
        }

        impl $Name {
            /// Its keys, and of those of other builds what they are built with.
            const NAMES: &[(&'static str, Option<&'static str>)] = &[$( (
                stringify!($key),
                $crate::config::keys::lacks!($($with)?),
            ) ),+];
        }

        impl $crate::config::keys::Node for $Name {
            fn read(
                &mut self,
                item: &$crate::config::item::Item,
                path: &str,
                problems: &mut $crate::config::item::Problems,
            ) {
                use $crate::config::keys;
                keys::read_table(item, path, Self::NAMES, problems, |name, item, path, problems| {
                    $( $(#[cfg($with)])? if name == stringify!($key) {
                        $( let before = (self.$key.clone(), $range); )?
                        self.$key.read(item, path, problems);
                        $( let _: &std::ops::RangeInclusive<$type> = &$range;
                           keys::hold(&mut self.$key, before.0, &before.1, item, path, problems); )?
                    } )+
                });
            }

            fn walk(
                &self,
                path: &str,
                about: &$crate::config::keys::About,
                visit: &mut dyn FnMut($crate::config::keys::Entry),
            ) {
                use $crate::config::keys;
                if !path.is_empty() {
                    visit(keys::Entry::Section(path.to_owned(), about.doc));
                }
                $( $(#[cfg($with)])? self.$key.walk(&keys::join(path, stringify!($key)), &keys::About {
                    doc: $crate::config::keys::words!($($doc),+),
                    range: None $( .or(Some(keys::ends(&$range))) )?,
                    reload: keys::reload!($reload),
                }, visit); )+
            }

            fn adopt(
                &mut self,
                newer: &Self,
                path: &str,
                _: &$crate::config::keys::About,
                changes: &mut $crate::config::keys::Changes,
            ) {
                use $crate::config::keys;
                $( $(#[cfg($with)])? self.$key.adopt(&newer.$key, &keys::join(path, stringify!($key)), &keys::About {
                    doc: $crate::config::keys::words!($($doc),+),
                    range: None,
                    reload: keys::reload!($reload),
                }, changes); )+
            }
        }
    };
}

/// What is said of a key, in builds that tell it to someone.
#[cfg(any(test, feature = "api"))]
macro_rules! words {
    ($($doc:literal),+) => {
        &[$($doc),+]
    };
}
#[cfg(not(any(test, feature = "api")))]
macro_rules! words {
    ($($doc:literal),+) => {
        &[]
    };
}

/// What a build lacks that has not what a key is for.
macro_rules! lacks {
    () => {
        None
    };
    ($with:meta) => {
        if cfg!($with) { None } else { Some(stringify!($with)) }
    };
}

macro_rules! reload {
    (live) => {
        $crate::config::keys::Reload::Live
    };
    (restart) => {
        $crate::config::keys::Reload::Restart
    };
}

pub(super) use {lacks, reload, section, words};
