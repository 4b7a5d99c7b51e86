//! What the keys of relays look like: streams on other servers.

use super::access::Secret;
use super::item::{Item, Kind};
#[cfg(feature = "api")]
use super::value::Shape;
use super::value::Value;

/// URLs of streams on other servers. They hold keys and passphrases, so that nothing shows them.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Remotes(Vec<Secret>);

impl Remotes {
    /// The most of them.
    const MOST: usize = 32;

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The URLs as they were given.
    pub fn iter(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(Secret::expose)
    }
}

impl<'a> FromIterator<&'a str> for Remotes {
    fn from_iter<T: IntoIterator<Item = &'a str>>(urls: T) -> Self {
        Self(urls.into_iter().map(Secret::from).collect())
    }
}

impl Value for Remotes {
    #[cfg(feature = "api")]
    const SHAPE: Shape = Shape::Texts;
    const SECRET: bool = true;
    const EXPECTED: &'static str =
        "up to 32 URLs such as [\"rtmp://host/app/[stream]\", \"srt://host:10080?streamid=…\"] ([] for none)";

    fn parse(item: &Item) -> Option<Self> {
        let all: Vec<&str> = match &item.kind {
            Kind::List(items) => items.iter().map(Item::word).collect::<Option<_>>()?,
            Kind::Env(text) => text.split_whitespace().collect(),
            _ => vec![item.word()?],
        };
        let is_url =
            |text: &&str| !text.is_empty() && text.len() <= 2048 && !text.contains(char::is_whitespace);
        let fit = all.len() <= Self::MOST && all.iter().all(is_url);
        fit.then(|| all.into_iter().map(Secret::of).collect::<Option<_>>().map(Self))?
    }

    fn text(&self) -> String {
        let all: Vec<String> = self.0.iter().map(Value::text).collect();
        format!("[{}]", all.join(", "))
    }
}
