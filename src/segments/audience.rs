//! Who fetches segments, for all rooms that give them out: lets viewers in, counts them by the id that their links carry,
//! holds their requests until what they ask for is made, and answers with it.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use hyper::{Response, StatusCode, header};

use super::{Data, Presentation, State};
use crate::hub::{Action, ClientKind, Ended, Hub, Standing, StreamName, ViewerId, Viewers};
use crate::id::SessionId;
use crate::net::http::{Body, Head, Peer, Reply, play_refused, player, put, reply_range, text_reply};

/// How long a stream's first segment is waited for, beyond the time it takes by configuration.
pub const FIRST_SEGMENT: Duration = Duration::from_secs(10);

/// The most requests of a room that wait for something at once. Each holds a connection, or a stream of one.
const MOST_WAITING: usize = 16_384;

/// The viewers of a room.
pub struct Audience {
    hub: Hub,
    viewers: Arc<Viewers>,
    room: Room,
    waiting: Arc<AtomicUsize>,
}

/// What a room calls its viewers.
#[derive(Debug, Clone, Copy)]
pub struct Room {
    /// For the log, e.g. "HLS".
    pub name: &'static str,
    /// What they are to the hub.
    pub kind: ClientKind,
    /// The parameter of the query that has a viewer's id, e.g. `hls_ctx`.
    pub id: &'static str,
}

/// One of the requests that wait.
pub struct Waiting(Arc<AtomicUsize>);

impl Drop for Waiting {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Audience {
    /// Of streams of `hub`.
    #[must_use]
    pub fn new(hub: Hub, room: Room) -> Self {
        let viewers = hub.viewers();
        Self { hub, viewers, room, waiting: Arc::default() }
    }

    /// The id that a request comes with.
    #[must_use]
    pub fn id(&self, head: &Head) -> Option<ViewerId> {
        head.param(self.room.id).and_then(|text| ViewerId::parse(&text))
    }

    /// An id that nobody has.
    #[must_use]
    pub fn new_id(&self) -> ViewerId {
        self.viewers.new_id()
    }

    /// Whether this viewer is counted at present.
    #[must_use]
    pub fn knows(&self, id: ViewerId) -> bool {
        self.viewers.knows(id)
    }

    /// A viewer was sent so many bytes.
    pub fn sent(&self, id: ViewerId, bytes: u64) {
        self.viewers.sent(id, bytes, Instant::now());
    }

    /// Whether a viewer may watch; counts it if it has an id, until it has asked for nothing during `patience`.
    ///
    /// # Errors
    /// The answer to one who may not.
    pub async fn admit(
        &self,
        id: Option<ViewerId>,
        name: &StreamName,
        patience: Duration,
        (head, peer): (&Head, &Peer),
    ) -> Result<(), Reply> {
        let now = Instant::now();
        match id.map(|id| self.viewers.seen(id, name, now)) {
            Some(Standing::Known) => return Ok(()),
            Some(Standing::Ended) => return Err(ended()),
            Some(Standing::New) => {}
            // Who has no id is asked about each time, where there is something to ask.
            None if !self.hub.guards(Action::Play, name) => return Ok(()),
            None => {}
        }
        let client = player(head, peer, SessionId::next(), self.room.kind, name);
        let admission = self.hub.admit(Action::Play, name, client).await.map_err(|e| play_refused(&e))?;
        let Some(id) = id else { return Ok(()) };
        let session = admission.client().id;
        let Ok(attendance) = self.hub.attend(admission, now) else { return Ok(()) };
        let by = peer.forwarded_for.map(|client| format!(" for {client}")).unwrap_or_default();
        let Room { name: room, id: key, .. } = self.room;
        log::info!(session:% = session; "{} watches {name} as {room} ({key} {}){by}", peer.addr, id.as_str());
        self.viewers.enter(id, attendance, patience, now);
        Ok(())
    }

    /// Whether the segments of a stream may be given to whoever asks with this head.
    ///
    /// # Errors
    /// The answer to one who may not.
    pub async fn admit_to_segments(&self, name: &StreamName, head: &Head, peer: &Peer) -> Result<(), Reply> {
        match self.id(head).map(|id| self.viewers.seen(id, name, Instant::now())) {
            Some(Standing::Ended) => Err(ended()),
            Some(Standing::Known) => Ok(()),
            _ if !self.hub.guards(Action::Play, name) => Ok(()),
            _ => {
                let client = player(head, peer, SessionId::next(), self.room.kind, name);
                self.hub.admit(Action::Play, name, client).await.map(drop).map_err(|e| play_refused(&e))
            }
        }
    }

    /// A place among those who wait.
    ///
    /// # Errors
    /// 503: there is none.
    #[allow(clippy::result_large_err, reason = "as the replies of the front are")]
    pub fn wait(&self) -> Result<Waiting, Reply> {
        let waiting = Waiting(Arc::clone(&self.waiting));
        if self.waiting.fetch_add(1, Ordering::Relaxed) >= MOST_WAITING {
            return Err(later("too many requests wait for streams"));
        }
        Ok(waiting)
    }

    /// Waits until a stream has a segment of each rendition, for as long as these take and [`FIRST_SEGMENT`].
    ///
    /// # Errors
    /// 503: it is not there in time, or there will be none.
    pub async fn begun(&self, presentation: &Presentation, takes: Duration) -> Result<Arc<State>, Reply> {
        let has_begun = |state: &State| {
            let renditions = &state.renditions;
            let complete = || renditions.iter().all(|rendition| !rendition.segments.is_empty());
            !renditions.is_empty() && (state.ended || complete())
        };
        let mut state = presentation.state();
        if has_begun(&state) {
            return Ok(state);
        }
        let _waiting = self.wait()?;
        let deadline = Instant::now() + FIRST_SEGMENT + takes;
        while !has_begun(&state) {
            let change = tokio::time::timeout_at(deadline.into(), presentation.changed(state.version)).await;
            state = change.map_err(|_| later("the stream's first segment is not there yet"))?;
            if state.ended && state.renditions.is_empty() {
                return Err(later("the stream has no segments"));
            }
        }
        Ok(state)
    }

    /// Something whole, or the range of it that is asked for; counted as sent to who asks.
    pub async fn reply(&self, head: &Head, data: &Data, content_type: &str, cache_control: &str) -> Reply {
        let mut reply = Response::new(Body::default());
        let (first, count) = match reply_range(&mut reply, head.header(header::RANGE), data.len()) {
            Ok(range) => range,
            Err(refused) => return *refused,
        };
        *reply.body_mut() = match data.body(first, count).await {
            Ok(body) => body,
            Err(_) => return text_reply(StatusCode::NOT_FOUND, "404: the file cannot be read"),
        };
        put(&mut reply, header::CONTENT_TYPE, content_type);
        put(&mut reply, header::CACHE_CONTROL, cache_control);
        if let Some(id) = self.id(head) {
            self.sent(id, count);
        }
        reply
    }
}

fn ended() -> Reply {
    text_reply(StatusCode::FORBIDDEN, format_args!("403: {}", Ended::Kicked))
}

/// 503: why; to be tried again in a second.
#[must_use]
pub fn later(why: &str) -> Reply {
    let mut reply = text_reply(StatusCode::SERVICE_UNAVAILABLE, format_args!("503: {why}"));
    put(&mut reply, header::RETRY_AFTER, "1");
    reply
}
