//! Playlists as text, written once for all viewers of a state.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use bytes::Bytes;

use super::text::{Link, Text};
use crate::segments::Presentation;

/// A playlist that was written.
#[derive(Debug, Clone)]
pub(super) struct Written {
    text: Arc<Text>,
    /// The same without queries, shared by all who have none.
    plain: Bytes,
}

impl Written {
    fn new(text: Text) -> Self {
        let plain = Bytes::copy_from_slice(text.as_str().as_bytes());
        Self { text: Arc::new(text), plain }
    }

    /// The text for a viewer with these queries, which are without `?`, at links to playlists and to segments.
    pub(super) fn body(&self, playlists: &str, segments: &str) -> Bytes {
        let differs = |query: &str, to| !query.is_empty() && self.text.links_to(to);
        if differs(playlists, Link::Playlist) || differs(segments, Link::Segment) {
            self.text.with(playlists, segments).into()
        } else {
            self.plain.clone()
        }
    }
}

/// Which playlist of a presentation.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Key {
    /// The rendition; empty: the multivariant one.
    pub rendition: Arc<str>,
    /// The playlist's name, where links start from.
    pub playlist: String,
    /// Whether it is a delta update.
    pub skip: bool,
}

/// The playlists of all presentations, as of their newest state that was asked for.
#[derive(Debug, Default)]
pub(super) struct Cache {
    of: Mutex<HashMap<usize, Entry>>,
}

#[derive(Debug)]
struct Entry {
    presentation: Weak<Presentation>,
    version: u64,
    written: HashMap<Key, Written>,
}

impl Cache {
    /// The playlist of `key` at `version`, written by `write` if it isn't there.
    pub(super) fn find(
        &self,
        presentation: &Arc<Presentation>,
        version: u64,
        key: Key,
        write: impl FnOnce() -> Text,
    ) -> Written {
        // No other lock is taken while this one is held, and nothing waits.
        let mut of = self.of.lock().unwrap_or_else(PoisonError::into_inner);
        let address = Arc::as_ptr(presentation).addr();
        if !of.contains_key(&address) {
            of.retain(|_, entry| entry.presentation.strong_count() > 0);
        }
        let entry = of.entry(address).or_insert_with(|| Entry {
            presentation: Arc::downgrade(presentation),
            version,
            written: HashMap::new(),
        });
        if entry.version > version && std::ptr::eq(entry.presentation.as_ptr(), Arc::as_ptr(presentation)) {
            // Someone who waited for a state that is past by now.
            drop(of);
            return Written::new(write());
        }
        if entry.version != version || entry.presentation.strong_count() == 0 {
            entry.presentation = Arc::downgrade(presentation);
            entry.version = version;
            entry.written.clear();
        }
        entry.written.entry(key).or_insert_with(|| Written::new(write())).clone()
    }
}
