//! What is given out, by name: one table for all streams.

use std::collections::HashMap;
use std::collections::hash_map::Entry as Place;
use std::sync::{Arc, PoisonError, RwLock, Weak};
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::Presentation;
use super::state::{Data, Growing, State};

/// How long a request may wait for what was promised, beyond the time it takes to be made.
const GRACE: Duration = Duration::from_secs(3);

/// Something that is given out.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Resource {
    /// Its bytes.
    pub data: Data,
    /// Its media type.
    pub content_type: &'static str,
}

/// What a name leads to.
#[derive(Debug)]
pub enum Lookup {
    /// It is there.
    Ready(Resource),
    /// A part or segment that was announced and is being made.
    Soon(Pending),
}

/// What is done to the table, in order.
#[derive(Debug, Clone)]
pub(super) enum Change {
    /// This is there now.
    Put(Arc<str>, Resource, Sort),
    /// This is being made.
    Promise(Arc<str>, Promised),
    /// This is no more, or will not be.
    Drop(Arc<str>),
}

/// What is given out.
#[derive(Debug, Clone)]
pub(super) enum Sort {
    Init,
    Key,
    Part,
    /// Of a rendition, by number.
    Segment(Arc<str>, u64),
}

/// Which thing it is that is being made.
#[derive(Debug, Clone)]
pub(super) struct Promised {
    pub rendition: Arc<str>,
    pub number: u64,
    /// The part's place in the segment; `None`: the segment.
    pub part: Option<u32>,
}

#[derive(Debug)]
struct Entry {
    owner: Weak<Presentation>,
    what: What,
}

#[derive(Debug, Clone)]
enum What {
    Here(Resource),
    Promised(Promised),
}

/// All that is given out.
#[derive(Debug, Default)]
pub(super) struct Index {
    /// By vhost and name, with a slash in between.
    entries: RwLock<HashMap<String, Entry>>,
}

fn key(vhost: &str, name: &str) -> String {
    format!("{vhost}/{name}")
}

impl Index {
    /// Does all that to the table, on behalf of `owner`. What belongs to another stream stays as it is.
    pub(super) fn apply(&self, owner: &Arc<Presentation>, changes: Vec<Change>) {
        let vhost = &owner.name().vhost;
        let mut entries = self.entries.write().unwrap_or_else(PoisonError::into_inner);
        for change in changes {
            let (name, what) = match change {
                Change::Put(name, resource, _) => (name, Some(What::Here(resource))),
                Change::Promise(name, promised) => (name, Some(What::Promised(promised))),
                Change::Drop(name) => (name, None),
            };
            match (entries.entry(key(vhost, &name)), what) {
                (Place::Occupied(place), _) if !place.get().is_of(owner) => {
                    log::warn!("{}: {name} is the name of something of another stream", owner.name());
                }
                (Place::Occupied(mut place), Some(what)) => place.get_mut().what = what,
                (Place::Occupied(place), None) => {
                    place.remove();
                }
                (Place::Vacant(place), Some(what)) => {
                    place.insert(Entry { owner: Arc::downgrade(owner), what });
                }
                (Place::Vacant(_), None) => {}
            }
        }
    }

    /// Forgets all of `owner`.
    pub(super) fn forget(&self, owner: &Arc<Presentation>) {
        let mut entries = self.entries.write().unwrap_or_else(PoisonError::into_inner);
        entries.retain(|_, entry| entry.owner.strong_count() > 0 && !entry.is_of(owner));
        if entries.len() * 4 < entries.capacity() {
            entries.shrink_to_fit();
        }
    }

    /// Whose this is.
    pub(super) fn owner(&self, vhost: &str, name: &str) -> Option<Arc<Presentation>> {
        let entries = self.entries.read().unwrap_or_else(PoisonError::into_inner);
        entries.get(&key(vhost, name))?.owner.upgrade()
    }

    pub(super) fn find(self: &Arc<Self>, vhost: &str, name: &str) -> Option<Lookup> {
        let key = key(vhost, name);
        let (owner, what) = {
            let entries = self.entries.read().unwrap_or_else(PoisonError::into_inner);
            let entry = entries.get(&key)?;
            (entry.owner.upgrade()?, entry.what.clone())
        };
        owner.touch();
        Some(match what {
            What::Here(resource) => Lookup::Ready(resource),
            What::Promised(promised) => {
                Lookup::Soon(Pending { index: Arc::clone(self), key, owner, promised, parts: 0, given: 0 })
            }
        })
    }

    fn what(&self, key: &str) -> Option<What> {
        let entries = self.entries.read().unwrap_or_else(PoisonError::into_inner);
        entries.get(key).map(|entry| entry.what.clone())
    }
}

#[cfg(test)]
impl Index {
    pub(super) fn len(&self) -> usize {
        self.entries.read().unwrap().len()
    }
}

impl Entry {
    fn is_of(&self, owner: &Arc<Presentation>) -> bool {
        std::ptr::eq(self.owner.as_ptr(), Arc::as_ptr(owner)) || self.owner.strong_count() == 0
    }
}

/// A part or segment that is being made.
#[derive(Debug)]
pub struct Pending {
    index: Arc<Index>,
    key: String,
    owner: Arc<Presentation>,
    promised: Promised,
    /// Parts and bytes that [`next`](Self::next) gave.
    parts: usize,
    given: u64,
}

impl Pending {
    /// Its media type.
    #[must_use]
    pub fn content_type(&self) -> &'static str {
        super::lane::segment_type(self.owner.state().form)
    }

    /// Waits until it is complete. `None`: it will not be, or not in time. Safe to cancel.
    pub async fn ready(&self) -> Option<Resource> {
        let deadline = self.deadline(&self.owner.state());
        loop {
            let version = self.owner.state().version;
            match self.index.what(&self.key)? {
                What::Here(resource) => return Some(resource),
                What::Promised(_) => {}
            }
            tokio::time::timeout_at(deadline.into(), self.owner.changed(version)).await.ok()?;
        }
    }

    /// What of a growing segment is new: waits for its next part. `None`: it is complete, or will not be. Without parts
    /// it comes whole. Safe to cancel.
    pub async fn next(&mut self) -> Option<Vec<Bytes>> {
        if self.promised.part.is_some() {
            let resource = if self.given == 0 { self.ready().await } else { None }?;
            self.given = resource.data.len().max(1);
            return Some(resource.data.chunks().to_vec());
        }
        let deadline = self.deadline(&self.owner.state());
        loop {
            let state = self.owner.state();
            let rendition = state.rendition(&self.promised.rendition)?;
            let growing = rendition.growing.as_ref().filter(|growing| growing.number == self.promised.number);
            match growing {
                Some(growing) => {
                    if let Some(chunks) = self.new_parts(growing) {
                        return Some(chunks);
                    }
                }
                None => return self.rest().await,
            }
            tokio::time::timeout_at(deadline.into(), self.owner.changed(state.version)).await.ok()?;
        }
    }

    fn new_parts(&mut self, growing: &Growing) -> Option<Vec<Bytes>> {
        let new = growing.parts.get(self.parts..).filter(|new| !new.is_empty())?;
        self.parts = growing.parts.len();
        self.given += new.iter().map(|part| part.data.len()).sum::<u64>();
        Some(new.iter().flat_map(|part| part.data.chunks().iter().cloned()).collect())
    }

    /// What of the complete segment was not given yet.
    async fn rest(&mut self) -> Option<Vec<Bytes>> {
        let What::Here(resource) = self.index.what(&self.key)? else { return None };
        let all = match &resource.data {
            Data::Memory { chunks, .. } => chunks.to_vec(),
            Data::File { path, .. } => vec![tokio::fs::read(path).await.ok()?.into()],
        };
        let mut skip = self.given;
        let mut chunks = Vec::new();
        for chunk in all {
            let from = usize::try_from(skip).unwrap_or(usize::MAX).min(chunk.len());
            skip -= from as u64;
            if from < chunk.len() {
                chunks.push(chunk.slice(from..));
            }
        }
        self.given = resource.data.len();
        (!chunks.is_empty()).then_some(chunks)
    }

    fn deadline(&self, state: &State) -> Instant {
        let due = match (self.promised.part, state.part_target) {
            (Some(_), Some(part)) => part * 2,
            _ => state.target * 2,
        };
        Instant::now() + due + GRACE
    }
}
