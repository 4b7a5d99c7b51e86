//! The HTTP skin: what a request asks for, and its answer.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::{Instant, SystemTime};

use bytes::Bytes;
use hyper::header;
use hyper::{Method, Response, StatusCode};
use tokio::sync::mpsc;

use super::ask::{Ask, What, encode};
use super::line::{self, Line};
use super::mpd::{self, Terms};
use crate::config::{self, Shared};
use crate::format::mp4;
use crate::hub::{ClientKind, Hub, StreamName, ViewerId};
use crate::net::http::{
    Body, Boxed, Head, Outcome, Peer, Reply, Request, Service, not_allowed, put, text_reply,
};
use crate::segments::audience::{Audience, FIRST_SEGMENT, Room, Waiting, later};
use crate::segments::{Data, Form, Growing, KeyMethod, Lookup, Presentation, Segments, State, Want};

const ROOM: Room = Room { name: "DASH", kind: ClientKind::DashPlay, id: "dash_ctx" };

const SEGMENT: &str = "video/iso.segment";

/// Of what never changes.
const CACHE: &str = "public, max-age=30, immutable";

/// Pieces of a growing segment that wait for one client.
const PIECES: usize = 8;

/// Gives live streams as DASH.
pub struct Dash {
    hub: Hub,
    config: Shared,
    segments: Arc<Segments>,
    audience: Arc<Audience>,
    lines: Mutex<HashMap<StreamName, (Weak<Presentation>, Line)>>,
    /// Who asked for a manifest and was given an id, but does not use it when asking again: by stream, address and program.
    strangers: Mutex<HashMap<Stranger, ViewerId>>,
}

type Stranger = (StreamName, std::net::IpAddr, String);

/// The most viewers of whom it is remembered that they don't use their id for manifests.
const MOST_STRANGERS: usize = 4096;

impl Dash {
    /// Gives what `segments` makes of the streams of `hub`.
    #[must_use]
    pub fn new(hub: Hub, config: Shared, segments: Arc<Segments>) -> Self {
        segments.set_manifests(super::files::writer(config.clone()));
        let audience = Arc::new(Audience::new(hub.clone(), ROOM));
        Self { hub, config, segments, audience, lines: Mutex::default(), strangers: Mutex::default() }
    }

    /// `None`: it is about something else.
    async fn answer(&self, head: &Head, peer: &Peer) -> Option<Reply> {
        let ask = Ask::read(head)?;
        let name = self.hub.name(&ask.vhost, &ask.app, &ask.stream).ok()?;
        let config = self.config.current();
        let vhost = config.vhost(&name.vhost, &name.app, &name.stream);
        let config = &vhost.dash;
        if config.enabled && vhost.hls.enabled && vhost.hls.encryption == config::Encryption::Aes128 {
            // Not in the clear what is encrypted elsewhere.
            return self
                .hub
                .is_live(&name)
                .then(|| text_reply(StatusCode::FORBIDDEN, format_args!("403: {WHOLE}")));
        }
        let mut presentation = self.segments.open(&name, Want::Dash)?;
        let state = presentation.state();
        if state.renditions.is_empty() && !state.ended {
            // What HLS makes of the stream is not known yet; it is as soon as there are tracks.
            let known = tokio::time::timeout(FIRST_SEGMENT, async {
                let mut state = state;
                while state.renditions.is_empty() && !state.ended {
                    state = presentation.changed(state.version).await;
                }
            });
            let _waiting = match self.audience.wait() {
                Ok(waiting) => waiting,
                Err(reply) => return Some(reply),
            };
            if known.await.is_err() {
                return Some(later("it is not known yet what the stream is"));
            }
            presentation = self.segments.open(&name, Want::Dash)?;
        }
        if !matches!(ask.what, What::Manifest)
            && let Err(reply) = self.audience.admit_to_segments(&name, head, peer).await
        {
            return Some(reply);
        }
        let reply = match &ask.what {
            _ if !matches!(head.method, Method::GET | Method::HEAD) => Ok(not_allowed()),
            What::Manifest => self.manifest(head, peer, &ask, &presentation, config).await,
            What::Init { rendition, mark } => Ok(self.init(head, &presentation, rendition, *mark).await),
            What::Segment { rendition, number } => {
                self.segment(head, &ask, &presentation, rendition, *number).await
            }
        };
        Some(reply.unwrap_or_else(|reply| reply))
    }

    async fn manifest(
        &self,
        head: &Head,
        peer: &Peer,
        ask: &Ask,
        presentation: &Arc<Presentation>,
        config: &config::Dash,
    ) -> Result<Reply, Reply> {
        let state = self.audience.begun(presentation, config.segment * 2).await?;
        if let Some(why) = unfit(&state) {
            return Err(text_reply(StatusCode::FORBIDDEN, format_args!("403: {why}")));
        }
        let id = config.sessions.then(|| self.viewer(head, peer, ask, presentation.name()));
        self.audience.admit(id, presentation.name(), config.timeshift * 2, (head, peer)).await?;
        let too_long = || text_reply(StatusCode::URI_TOO_LONG, "414: the query is longer than 2048 bytes");
        let query = Ask::query(head, id).ok_or_else(too_long)?;
        let file = encode(&ask.stream);
        let location = id.map(|_| format!("{file}.mpd{query}"));
        let now_ms = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |t| t.as_millis());
        let terms = Terms {
            config,
            base: &format!("{file}/"),
            query: &query,
            location: location.as_deref(),
            now_ms: i64::try_from(now_ms).unwrap_or(i64::MAX),
            file: None,
        };
        let text = self.with_line(presentation, |line| mpd::write(&state, line, &terms));
        let text = text.ok_or_else(|| later("the stream's first segment is not there yet"))?;
        if let Some(id) = id {
            self.audience.sent(id, text.len() as u64);
        }
        let mut reply = Response::new(Body::from(text));
        put(&mut reply, header::CONTENT_TYPE, "application/dash+xml");
        put(&mut reply, header::CACHE_CONTROL, if id.is_some() { "private, no-cache" } else { "no-cache" });
        Ok(reply)
    }

    /// The line of a presentation, which is forgotten with it.
    fn with_line<T>(&self, presentation: &Arc<Presentation>, work: impl FnOnce(&mut Line) -> T) -> T {
        let mut lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        let known = lines.get(presentation.name());
        if !known.is_some_and(|(of, _)| std::ptr::eq(of.as_ptr(), Arc::as_ptr(presentation))) {
            lines.retain(|_, (of, _)| of.strong_count() > 0);
            lines.insert(presentation.name().clone(), (Arc::downgrade(presentation), Line::default()));
        }
        match lines.get_mut(presentation.name()) {
            Some((_, line)) => work(line),
            None => work(&mut Line::default()),
        }
    }

    async fn init(&self, head: &Head, presentation: &Presentation, rendition: &str, mark: u32) -> Reply {
        let state = presentation.state();
        let Some(rendition) = state.rendition(rendition) else { return missing("no such Representation") };
        let complete = rendition.segments.iter().rev().filter_map(|s| s.init.as_ref());
        let growing = rendition.growing.as_ref().and_then(|growing| growing.init.as_ref());
        let init = growing.into_iter().chain(complete).find(|init| line::mark(init) == mark);
        let Some(init) = init else { return missing("it is of segments that are gone") };
        let kind = if rendition.kind == crate::media::Kind::Video { "video/mp4" } else { "audio/mp4" };
        self.audience.reply(head, &init.data, kind, CACHE).await
    }

    async fn segment(
        &self,
        head: &Head,
        ask: &Ask,
        presentation: &Arc<Presentation>,
        id: &str,
        number: u64,
    ) -> Result<Reply, Reply> {
        let mut state = presentation.state();
        let mut deadline = None;
        let mut waiting = None;
        loop {
            if unfit(&state).is_some() {
                return Err(missing("the stream's segments are not for DASH"));
            }
            let rendition = state.rendition(id).ok_or_else(|| missing("no such Representation"))?;
            if let Some(segment) = line::segment(rendition, number) {
                if segment.gap {
                    // Players want something under each number: a segment with nothing in it.
                    let nothing = Data::of(vec![mp4::styp(false)]);
                    return Ok(self.audience.reply(head, &nothing, SEGMENT, CACHE).await);
                }
                return Ok(self.audience.reply(head, &segment.data, SEGMENT, CACHE).await);
            }
            let next = rendition.growing.as_ref().map(|growing| growing.number);
            let next = next.or(rendition.segments.last().map(|s| s.number + 1)).unwrap_or(0);
            if number < next {
                return Err(missing("this segment is gone"));
            }
            // The one that grows, and one more: a player's clock may be a little ahead.
            if number > next.saturating_add(1) || state.ended {
                return Err(missing("there is no such segment yet"));
            }
            if waiting.is_none() {
                waiting = Some(self.audience.wait()?);
            }
            let growing = rendition.growing.as_ref().filter(|growing| growing.number == number);
            if let Some(growing) = growing
                && state.part_target.is_some()
                && head.method == Method::GET
                && let Some(reply) = self.grow(ask, presentation, growing, waiting.take())
            {
                return Ok(reply);
            }
            let until =
                *deadline.get_or_insert_with(|| Instant::now() + state.target * 2 + FIRST_SEGMENT / 3);
            let change = tokio::time::timeout_at(until.into(), presentation.changed(state.version)).await;
            state = change.map_err(|_| missing("this segment was not made after all"))?;
        }
    }

    /// A segment that grows, as it does.
    fn grow(
        &self,
        ask: &Ask,
        presentation: &Arc<Presentation>,
        growing: &Growing,
        waiting: Option<Waiting>,
    ) -> Option<Reply> {
        let lookup = self.segments.resource(&presentation.name().vhost, growing.name.as_deref()?)?;
        let Lookup::Soon(mut pending) = lookup else { return None };
        let (sender, receiver) = mpsc::channel::<Bytes>(PIECES);
        let (audience, session) = (Arc::clone(&self.audience), ask.session);
        tokio::spawn(async move {
            let _waiting = waiting;
            loop {
                let pieces = tokio::select! {
                    pieces = pending.next() => pieces,
                    () = sender.closed() => return,
                };
                let Some(pieces) = pieces else { return };
                for piece in pieces {
                    if let Some(id) = session {
                        audience.sent(id, piece.len() as u64);
                    }
                    if sender.send(piece).await.is_err() {
                        return;
                    }
                }
            }
        });
        let mut reply = Response::new(Body::live(receiver));
        put(&mut reply, header::CONTENT_TYPE, SEGMENT);
        put(&mut reply, header::CACHE_CONTROL, CACHE);
        Some(reply)
    }

    /// The id of who asks for a manifest: the one it was given, or a new one.
    fn viewer(&self, head: &Head, peer: &Peer, ask: &Ask, name: &StreamName) -> ViewerId {
        let agent = head.header(header::USER_AGENT).unwrap_or_default();
        let agent: String = agent.chars().take(100).collect();
        let who = (name.clone(), peer.forwarded_for.unwrap_or(peer.addr.ip()), agent);
        let mut strangers = self.strangers.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(id) = ask.session {
            // It follows `Location`: who asks without is someone else.
            if strangers.get(&who) == Some(&id) {
                strangers.remove(&who);
            }
            return id;
        }
        // The same program at the same address, that does not: it is taken for one viewer.
        if let Some(id) = strangers.get(&who).filter(|id| self.audience.knows(**id)) {
            return *id;
        }
        let id = self.audience.new_id();
        if strangers.len() >= MOST_STRANGERS {
            strangers.retain(|_, id| self.audience.knows(*id));
            if strangers.len() >= MOST_STRANGERS {
                strangers.clear();
            }
        }
        strangers.insert(who, id);
        id
    }
}

impl Service for Dash {
    fn call<'a>(&'a self, request: Request) -> Boxed<'a, Outcome> {
        Box::pin(async move {
            match self.answer(&request.head, &request.peer).await {
                None => request.into(),
                Some(reply) => reply.into(),
            }
        })
    }
}

/// Why segments can't be given out as DASH.
fn unfit(state: &State) -> Option<&'static str> {
    if state.form != Form::Fmp4 {
        return Some("the stream's segments are MPEG-TS; set hls.variant to \"fmp4\"");
    }
    let key = state.main().and_then(|main| main.segments.last()).and_then(|s| s.key.as_ref());
    key.filter(|key| key.method != KeyMethod::Cbcs).map(|_| WHOLE)
}

const WHOLE: &str =
    "segments are encrypted as a whole, which DASH has no word for; set hls.encryption to \"cbcs\"";

fn missing(why: &str) -> Reply {
    text_reply(StatusCode::NOT_FOUND, format_args!("404: {why}"))
}
