//! The HTTP skin: what a request asks for, and its answer.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use hyper::header;
use hyper::{Method, Response, StatusCode};

use super::ask::{Ask, AskError, Block, Playlist};
use super::cache::{Cache, Key};
use super::media::{self, Form};
use super::multivariant;
use super::text::Base;
use crate::config::{self, Shared};
use crate::hub::{Action, ClientKind, Hub, Standing, StreamName, ViewerId, Viewers};
use crate::id::SessionId;
use crate::net::http::{
    Body, Boxed, Head, Outcome, Peer, Reply, Request, Service, mime, not_allowed, play_refused, player, put,
    reply_range, text_reply,
};
use crate::segments::{Lookup, Presentation, Resource, Segments, State, Want};

/// How long a stream's first segment is waited for, beyond the time it takes by configuration.
const FIRST_SEGMENT: Duration = Duration::from_secs(10);

/// The most requests that wait for something at once. Each holds a connection, or a stream of one.
const MOST_WAITING: usize = 16_384;

/// Gives live streams as HLS.
pub struct Hls {
    hub: Hub,
    config: Shared,
    segments: Arc<Segments>,
    cache: Cache,
    viewers: Arc<Viewers>,
    waiting: AtomicUsize,
}

/// One of the requests that wait.
struct Waiting<'a>(&'a AtomicUsize);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Hls {
    /// Gives what `segments` makes of the streams of `hub`.
    #[must_use]
    pub fn new(hub: Hub, config: Shared, segments: Arc<Segments>) -> Self {
        segments.set_playlists(super::files::writer(config.clone()));
        let (cache, viewers, waiting) = (Cache::default(), hub.viewers(), AtomicUsize::new(0));
        Self { hub, config, segments, cache, viewers, waiting }
    }

    /// The vhost whose streams a request is about.
    fn vhost(&self, head: &Head) -> Option<String> {
        Some(self.hub.name(&Ask::vhost(head), "-", "-").ok()?.vhost)
    }

    /// A place among those who wait, if there is one.
    fn wait(&self) -> Option<Waiting<'_>> {
        let waiting = Waiting(&self.waiting);
        (self.waiting.fetch_add(1, Ordering::Relaxed) < MOST_WAITING).then_some(waiting)
    }

    async fn playlist(&self, head: &Head, peer: &Peer) -> Result<Option<Reply>, Reply> {
        let ask = match Ask::read(head) {
            Ok(Some(ask)) => ask,
            Ok(None) => return Ok(None),
            Err(error) => return Err(refusal(&error)),
        };
        let Some((presentation, rendition, playlist)) = self.open(&ask) else { return Ok(None) };
        let name = presentation.name();
        let config = self.config.current();
        let config = &config.vhost(&name.vhost, &name.app, &name.stream).hls;
        if let Some(place) = &ask.redirect {
            return Ok(Some(redirect(place)));
        }
        let mut state = self.begun(&presentation, config).await?;
        let (id, is_new) = match ask.session.filter(|_| config.sessions) {
            Some(id) => (Some(id), false),
            None if config.sessions && rendition.is_none() => (Some(self.viewers.new_id()), true),
            None => (None, false),
        };
        self.admit(id, name, config, head, peer).await?;
        // A viewer is sent to a playlist with its own links first, then asks for that.
        let single = multivariant::is_single(&state);
        let rendition = match rendition {
            None if single && !is_new => Some(state.main().map(|main| main.id.clone()).unwrap_or_default()),
            rendition => rendition,
        };
        if let (Some(block), Some(rendition)) = (ask.block, &rendition) {
            state = self.block(&presentation, state, rendition, block).await?;
        }
        let skip = ask.skip && rendition.is_some();
        let key =
            Key { rendition: rendition.clone().unwrap_or_default(), playlist: playlist.to_owned(), skip };
        let written = match &rendition {
            None => {
                let stem = playlist.strip_suffix(".m3u8").unwrap_or(playlist);
                let write = || multivariant::playlist(&state, stem, single);
                self.cache.find(&presentation, state.version, key, write)
            }
            Some(rendition) => {
                let Some(rendition) = state.rendition(rendition) else { return Ok(None) };
                let base = Base { playlist, prefix: &config.url_prefix };
                let form = Form { base, config, skip };
                let write = || media::playlist(&state, rendition, &form);
                self.cache.find(&presentation, state.version, key, write)
            }
        };
        let (playlists, segments) = ask.queries(id, config.sessions_in_segments);
        let body = written.body(&playlists, &segments);
        if let Some(id) = id {
            self.viewers.sent(id, body.len() as u64, Instant::now());
        }
        let cache = if id.is_some() { "private, no-cache" } else { "no-cache" };
        let mut reply = Response::new(Body::from(body));
        put(&mut reply, header::CONTENT_TYPE, mime::of_name(".m3u8"));
        put(&mut reply, header::CACHE_CONTROL, cache);
        Ok(Some(reply))
    }

    /// What is asked for, which rendition of it, and where links start from.
    #[allow(clippy::type_complexity, reason = "for one caller")]
    fn open<'a>(&self, ask: &'a Ask) -> Option<(Arc<Presentation>, Option<Arc<str>>, &'a str)> {
        let open = |place: &Playlist| {
            let name = self.hub.name(&ask.vhost, &place.app, &place.stream).ok()?;
            self.segments.open(&name, Want::Hls)
        };
        if let Some((place, rendition)) = &ask.rendition
            && let Some(presentation) = open(place)
        {
            return Some((presentation, Some(rendition.as_str().into()), &ask.playlist));
        }
        open(&ask.stream).map(|presentation| (presentation, None, ask.playlist.as_str()))
    }

    /// Waits for a stream's first segment.
    async fn begun(&self, presentation: &Presentation, config: &config::Hls) -> Result<Arc<State>, Reply> {
        let has_begun = |state: &State| {
            let complete = |rendition: &crate::segments::Rendition| !rendition.segments.is_empty();
            !state.renditions.is_empty() && (state.ended || state.renditions.iter().all(complete))
        };
        let mut state = presentation.state();
        if has_begun(&state) {
            return Ok(state);
        }
        let _waiting = self.wait().ok_or_else(crowded)?;
        let longest = config.overflow_ratio.of(config.segment);
        let deadline = Instant::now() + FIRST_SEGMENT + longest;
        while !has_begun(&state) {
            let change = tokio::time::timeout_at(deadline.into(), presentation.changed(state.version)).await;
            state = change.map_err(|_| later("the stream's first segment is not there yet"))?;
            if state.ended && state.renditions.is_empty() {
                return Err(later("the stream has no segments"));
            }
        }
        Ok(state)
    }

    /// Holds the request until the playlist has what it asks for (8216bis 6.2.5.2).
    async fn block(
        &self,
        presentation: &Presentation,
        mut state: Arc<State>,
        rendition: &str,
        block: Block,
    ) -> Result<Arc<State>, Reply> {
        let Some(part_target) = state.part_target else { return Ok(state) };
        let Some(known) = state.rendition(rendition) else { return Ok(state) };
        block.check(known, part_target).map_err(|error| refusal(&error))?;
        let is_there = |state: &State| {
            state.ended || state.rendition(rendition).is_none_or(|rendition| block.is_in(rendition))
        };
        if is_there(&state) {
            return Ok(state);
        }
        let _waiting = self.wait().ok_or_else(crowded)?;
        let deadline = Instant::now() + state.target * 3;
        while !is_there(&state) {
            let change = tokio::time::timeout_at(deadline.into(), presentation.changed(state.version)).await;
            state = change.map_err(|_| later("the stream does not go on"))?;
        }
        Ok(state)
    }

    /// Whether a viewer may watch; counts it if it has an id.
    async fn admit(
        &self,
        id: Option<ViewerId>,
        name: &StreamName,
        config: &config::Hls,
        head: &Head,
        peer: &Peer,
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
        let client = player(head, peer, SessionId::next(), ClientKind::HlsPlay, name);
        let admission = self.hub.admit(Action::Play, name, client).await.map_err(|e| play_refused(&e))?;
        let Some(id) = id else { return Ok(()) };
        let session = admission.client().id;
        let Ok(attendance) = self.hub.attend(admission, now) else { return Ok(()) };
        let by = peer.forwarded_for.map(|client| format!(" for {client}")).unwrap_or_default();
        log::info!(session:% = session; "{} watches {name} as HLS (hls_ctx {}){by}", peer.addr, id.as_str());
        self.viewers.enter(id, attendance, config.window * 2, now);
        Ok(())
    }

    /// Whether the segments of a stream may be given to whoever asks with this head.
    async fn admit_to_segments(&self, name: &StreamName, head: &Head, peer: &Peer) -> Result<(), Reply> {
        let id = head.param("hls_ctx").and_then(|text| ViewerId::parse(&text));
        match id.map(|id| self.viewers.seen(id, name, Instant::now())) {
            Some(Standing::Ended) => Err(ended()),
            Some(Standing::Known) => Ok(()),
            _ if !self.hub.guards(Action::Play, name) => Ok(()),
            _ => {
                let client = player(head, peer, SessionId::next(), ClientKind::HlsPlay, name);
                self.hub.admit(Action::Play, name, client).await.map(drop).map_err(|e| play_refused(&e))
            }
        }
    }

    async fn resource(&self, head: &Head, peer: &Peer) -> Option<Reply> {
        let path = Ask::below_root(&head.path)?;
        let vhost = self.vhost(head)?;
        let owner = self.segments.owner(&vhost, &path)?;
        if let Err(reply) = self.admit_to_segments(owner.name(), head, peer).await {
            return Some(reply);
        }
        let resource = match self.segments.resource(&vhost, &path)? {
            Lookup::Ready(resource) => resource,
            Lookup::Soon(pending) => {
                let Some(_waiting) = self.wait() else { return Some(crowded()) };
                match pending.ready().await {
                    Some(resource) => resource,
                    None => {
                        return Some(text_reply(StatusCode::NOT_FOUND, "404: this was not made after all"));
                    }
                }
            }
        };
        let mut reply = data_reply(head, &resource).await;
        if reply.status().is_success() {
            let config = self.config.current();
            let age = config.vhost(&vhost, "", "").hls.window.as_secs();
            let whose = if resource.content_type == OPAQUE { "private" } else { "public" };
            put(&mut reply, header::CACHE_CONTROL, &format!("{whose}, max-age={age}, immutable"));
            if let Some(id) = head.param("hls_ctx").and_then(|text| ViewerId::parse(&text)) {
                let sent = hyper::body::Body::size_hint(reply.body()).exact().unwrap_or(0);
                self.viewers.sent(id, sent, Instant::now());
            }
        }
        Some(reply)
    }
}

impl Service for Hls {
    fn has(&self, head: &Head) -> bool {
        let find = || self.segments.resource(&self.vhost(head)?, &Ask::below_root(&head.path)?);
        find().is_some()
    }

    fn call<'a>(&'a self, request: Request) -> Boxed<'a, Outcome> {
        Box::pin(async move {
            let head = &request.head;
            let reply = if head.path.ends_with(".m3u8") {
                self.playlist(head, &request.peer).await.unwrap_or_else(Some)
            } else {
                self.resource(head, &request.peer).await
            };
            match reply {
                None => request.into(),
                Some(_) if !matches!(head.method, Method::GET | Method::HEAD) => not_allowed().into(),
                Some(reply) => reply.into(),
            }
        })
    }
}

/// The media type of keys.
const OPAQUE: &str = "application/octet-stream";

/// Something whole, or the range of it that is asked for.
async fn data_reply(head: &Head, resource: &Resource) -> Reply {
    let mut reply = Response::new(Body::default());
    let range = reply_range(&mut reply, head.header(header::RANGE), resource.data.len());
    let (first, count) = match range {
        Ok(range) => range,
        Err(refused) => return *refused,
    };
    *reply.body_mut() = match resource.data.body(first, count).await {
        Ok(body) => body,
        Err(_) => return text_reply(StatusCode::NOT_FOUND, "404: the file cannot be read"),
    };
    put(&mut reply, header::CONTENT_TYPE, resource.content_type);
    reply
}

fn ended() -> Reply {
    text_reply(StatusCode::FORBIDDEN, format_args!("403: {}", crate::hub::Ended::Kicked))
}

fn crowded() -> Reply {
    later("too many requests wait for streams")
}

fn later(why: &str) -> Reply {
    let mut reply = text_reply(StatusCode::SERVICE_UNAVAILABLE, format_args!("503: {why}"));
    put(&mut reply, header::RETRY_AFTER, "1");
    reply
}

fn refusal(error: &AskError) -> Reply {
    text_reply(error.status(), format_args!("{}: {error}", error.status().as_u16()))
}

fn redirect(place: &str) -> Reply {
    let mut reply = text_reply(StatusCode::FOUND, place);
    put(&mut reply, header::LOCATION, place);
    reply
}
