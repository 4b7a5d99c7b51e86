//! Which recordings there are: what the files say of themselves, and nothing else.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use super::ident::{HEAD, Ident};
use super::registry::{Growing, Registry};
use super::template;
use crate::config::Config;

/// How deep below a root files are looked for: apps and streams may hold slashes.
const MAX_DEPTH: usize = 24;
/// The most files that are looked at.
const MAX_FILES: usize = 200_000;
/// The end of the names of files that are not closed.
pub(super) const TMP: &str = "tmp";

/// A recording.
#[derive(Debug, Clone)]
pub(super) struct Entry {
    pub(super) path: PathBuf,
    /// The directory that it was found below.
    pub(super) root: PathBuf,
    pub(super) ident: Ident,
    /// Bytes of it that are whole.
    pub(super) bytes: u64,
    pub(super) modified: SystemTime,
    /// While it is being written.
    pub(super) growing: Option<Arc<Growing>>,
}

impl Entry {
    /// How long it plays, as far as that is known.
    pub(super) fn duration_ms(&self) -> i64 {
        self.growing.as_ref().map_or(self.ident.duration_ms.unwrap_or(0), |growing| growing.duration_ms())
    }

    pub(super) fn end_ms(&self) -> i64 {
        self.ident.start_ms.saturating_add(self.duration_ms())
    }

    /// Whether it was left behind by a crash.
    pub(super) fn is_broken(&self) -> bool {
        self.growing.is_none() && (self.ident.duration_ms.is_none() || is_tmp(&self.path))
    }
}

pub(super) fn is_tmp(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == TMP)
}

/// The directories that recordings of a configuration lie below; none of them is in another. Those of vhosts that record no
/// more count: what they recorded stays.
pub(super) fn roots(config: &Config) -> Vec<PathBuf> {
    let mut roots: Vec<PathBuf> = Vec::new();
    for root in config.vhost.all().filter_map(|vhost| template::root(&vhost.record.path)) {
        let Ok(root) = root.canonicalize() else { continue };
        if root.parent().is_some() && !roots.iter().any(|known| root.starts_with(known)) {
            roots.retain(|known| !known.starts_with(&root));
            roots.push(root);
        }
    }
    roots
}

/// A file that was looked at: what it said then.
#[derive(Debug, Clone)]
struct Known {
    len: u64,
    modified: SystemTime,
    ident: Option<Ident>,
}

/// Finds recordings, and remembers what files said.
#[derive(Debug, Default)]
pub(super) struct Catalog {
    known: Mutex<HashMap<PathBuf, Known>>,
}

impl Catalog {
    /// All recordings below `roots`, the oldest first.
    pub(super) fn scan(&self, roots: &[PathBuf], registry: &Registry) -> Vec<Entry> {
        let mut entries = Vec::new();
        let mut before = std::mem::take(&mut *self.known.lock().unwrap_or_else(PoisonError::into_inner));
        let mut known = HashMap::new();
        for root in roots {
            let mut dirs = vec![(root.clone(), 0)];
            while let Some((dir, depth)) = dirs.pop() {
                let Ok(files) = fs::read_dir(&dir) else { continue };
                for file in files.filter_map(Result::ok) {
                    // Of the link itself: none is followed.
                    let (path, Ok(kind)) = (file.path(), file.file_type()) else { continue };
                    if kind.is_dir() && depth < MAX_DEPTH {
                        dirs.push((path, depth + 1));
                    } else if kind.is_file() && is_media(&path) && known.len() < MAX_FILES {
                        let Ok(facts) = file.metadata() else { continue };
                        let modified = facts.modified().unwrap_or(UNIX_EPOCH);
                        let same = |k: &Known| k.len == facts.len() && k.modified == modified;
                        let now = before.remove(&path).filter(same).unwrap_or_else(|| Known {
                            len: facts.len(),
                            modified,
                            ident: read_ident(&path),
                        });
                        if let Some(ident) = now.ident.clone() {
                            let growing = registry.growing(&path);
                            let bytes = growing.as_ref().map_or(now.len, |growing| growing.bytes());
                            let root = root.clone();
                            entries.push(Entry { path: path.clone(), root, ident, bytes, modified, growing });
                        }
                        known.insert(path, now);
                    }
                }
            }
        }
        *self.known.lock().unwrap_or_else(PoisonError::into_inner) = known;
        entries.sort_by(|a, b| (a.ident.start_ms, &a.path).cmp(&(b.ident.start_ms, &b.path)));
        entries
    }
}

fn is_media(path: &Path) -> bool {
    let ends = |name: &Path, known: &[&str]| {
        name.extension().and_then(|end| end.to_str()).is_some_and(|end| known.contains(&end))
    };
    let media = ["flv", "mp4", "ts"];
    ends(path, &media)
        || (is_tmp(path)
            && path.file_stem().is_some_and(|stem| ends(Path::new(stem), &["flv", "mp4", "ts", "copy"])))
}

/// What a file says of itself, if it is a recording.
pub(super) fn read_ident(path: &Path) -> Option<Ident> {
    let mut head = Vec::with_capacity(HEAD);
    File::open(path).ok()?.take(HEAD as u64).read_to_end(&mut head).ok()?;
    Ident::find(&head).map(|(ident, _)| ident)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_files_that_could_be_ours_are_opened() {
        for (name, expected) in [
            ("a/b.mp4", true),
            ("a/b.ts", true),
            ("a/b.flv.tmp", true),
            ("a/b.mp4.copy.tmp", true),
            ("a/b.tmp", false),
            ("a/b.txt", false),
            ("a/b", false),
        ] {
            assert_eq!(is_media(Path::new(name)), expected, "{name}");
        }
    }
}
