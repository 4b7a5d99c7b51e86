//! The HTTP skin: what a request asks for, and its answer.

use std::sync::Arc;
use std::time::Instant;

use hyper::header;
use hyper::{Method, Response, StatusCode};

use super::ask::{Ask, AskError, Block, Playlist};
use super::cache::{Cache, Key};
use super::media::{self, Form};
use super::multivariant;
use super::text::Base;
use crate::config::Shared;
use crate::hub::{ClientKind, Hub};
use crate::net::http::{
    Body, Boxed, Head, Outcome, Peer, Reply, Request, Service, mime, not_allowed, put, text_reply,
};
use crate::segments::audience::{Audience, Room, later};
use crate::segments::{Lookup, Presentation, Segments, State, Want};

const ROOM: Room = Room { name: "HLS", kind: ClientKind::HlsPlay, id: "hls_ctx" };

/// Gives live streams as HLS.
pub struct Hls {
    hub: Hub,
    config: Shared,
    segments: Arc<Segments>,
    cache: Cache,
    audience: Audience,
}

impl Hls {
    /// Gives what `segments` makes of the streams of `hub`.
    #[must_use]
    pub fn new(hub: Hub, config: Shared, segments: Arc<Segments>) -> Self {
        segments.set_playlists(super::files::writer(config.clone()));
        let audience = Audience::new(hub.clone(), ROOM);
        Self { hub, config, segments, cache: Cache::default(), audience }
    }

    /// The vhost whose streams a request is about.
    fn vhost(&self, head: &Head) -> Option<String> {
        Some(self.hub.name(&Ask::vhost(head), "-", "-").ok()?.vhost)
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
        let mut state = self.audience.begun(&presentation, config.overflow_ratio.of(config.segment)).await?;
        let (id, is_new) = match ask.session.filter(|_| config.sessions) {
            Some(id) => (Some(id), false),
            None if config.sessions && rendition.is_none() => (Some(self.audience.new_id()), true),
            None => (None, false),
        };
        self.audience.admit(id, name, config.window * 2, (head, peer)).await?;
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
            self.audience.sent(id, body.len() as u64);
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
        let _waiting = self.audience.wait()?;
        let deadline = Instant::now() + state.target * 3;
        while !is_there(&state) {
            let change = tokio::time::timeout_at(deadline.into(), presentation.changed(state.version)).await;
            state = change.map_err(|_| later("the stream does not go on"))?;
        }
        Ok(state)
    }

    async fn resource(&self, head: &Head, peer: &Peer) -> Option<Reply> {
        let path = Ask::below_root(&head.path)?;
        let vhost = self.vhost(head)?;
        let owner = self.segments.owner(&vhost, &path)?;
        if let Err(reply) = self.audience.admit_to_segments(owner.name(), head, peer).await {
            return Some(reply);
        }
        let resource = match self.segments.resource(&vhost, &path)? {
            Lookup::Ready(resource) => resource,
            Lookup::Soon(pending) => {
                let _waiting = match self.audience.wait() {
                    Ok(waiting) => waiting,
                    Err(reply) => return Some(reply),
                };
                match pending.ready().await {
                    Some(resource) => resource,
                    None => {
                        return Some(text_reply(StatusCode::NOT_FOUND, "404: this was not made after all"));
                    }
                }
            }
        };
        let age = self.config.current().vhost(&vhost, "", "").hls.window.as_secs();
        let whose = if resource.content_type == OPAQUE { "private" } else { "public" };
        let cache = format!("{whose}, max-age={age}, immutable");
        Some(self.audience.reply(head, &resource.data, resource.content_type, &cache).await)
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

fn refusal(error: &AskError) -> Reply {
    text_reply(error.status(), format_args!("{}: {error}", error.status().as_u16()))
}

fn redirect(place: &str) -> Reply {
    let mut reply = text_reply(StatusCode::FOUND, place);
    put(&mut reply, header::LOCATION, place);
    reply
}
