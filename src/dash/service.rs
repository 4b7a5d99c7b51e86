//! The HTTP skin: what a request asks for, and its answer.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::{Duration, Instant, SystemTime};

use bytes::Bytes;
use hyper::header;
use hyper::{Method, Response, StatusCode};
use tokio::sync::mpsc;

use super::ask::{Ask, What, encode};
use super::line::{self, Line};
use super::mpd::{self, Terms};
use crate::config::{self, Shared};
use crate::format::mp4;
use crate::hub::{Action, ClientKind, Hub, Standing, StreamName, ViewerId, Viewers};
use crate::id::SessionId;
use crate::net::http::{
    Body, Boxed, Head, Outcome, Peer, Reply, Request, Service, not_allowed, play_refused, player, put,
    reply_range, text_reply,
};
use crate::segments::{
    Data, Form, Growing, KeyMethod, Lookup, Presentation, Rendition, Segments, State, Want,
};

/// How long a stream's first segment is waited for, beyond the time it takes by configuration.
const FIRST_SEGMENT: Duration = Duration::from_secs(10);

/// The most requests that wait for something at once. Each holds a connection, or a stream of one.
const MOST_WAITING: usize = 16_384;

/// Pieces of a growing segment that wait for one client.
const PIECES: usize = 8;

/// Gives live streams as DASH.
pub struct Dash {
    hub: Hub,
    config: Shared,
    segments: Arc<Segments>,
    viewers: Arc<Viewers>,
    waiting: Arc<AtomicUsize>,
    lines: Mutex<HashMap<StreamName, (Weak<Presentation>, Line)>>,
    /// Who asked for a manifest and was given an id, but does not use it when asking again: by stream, address and program.
    strangers: Mutex<HashMap<Stranger, ViewerId>>,
}

type Stranger = (StreamName, std::net::IpAddr, String);

/// The most viewers of whom it is remembered that they don't use their id for manifests.
const MOST_STRANGERS: usize = 4096;

/// One of the requests that wait.
struct Waiting(Arc<AtomicUsize>);

impl Drop for Waiting {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Dash {
    /// Gives what `segments` makes of the streams of `hub`.
    #[must_use]
    pub fn new(hub: Hub, config: Shared, segments: Arc<Segments>) -> Self {
        segments.set_manifests(super::files::writer(config.clone()));
        let viewers = hub.viewers();
        Self {
            hub,
            config,
            segments,
            viewers,
            waiting: Arc::default(),
            lines: Mutex::default(),
            strangers: Mutex::default(),
        }
    }

    #[allow(clippy::result_large_err, reason = "as the replies of the front are")]
    fn wait(&self) -> Result<Waiting, Reply> {
        let waiting = Waiting(Arc::clone(&self.waiting));
        if self.waiting.fetch_add(1, Ordering::Relaxed) >= MOST_WAITING {
            return Err(later("too many requests wait for streams"));
        }
        Ok(waiting)
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
            let _waiting = match self.wait() {
                Ok(waiting) => waiting,
                Err(reply) => return Some(reply),
            };
            if known.await.is_err() {
                return Some(later("it is not known yet what the stream is"));
            }
            presentation = self.segments.open(&name, Want::Dash)?;
        }
        if !matches!(ask.what, What::Manifest)
            && let Err(reply) = self.admit_to_segments(&ask, &name, head, peer).await
        {
            return Some(reply);
        }
        let reply = match &ask.what {
            _ if !matches!(head.method, Method::GET | Method::HEAD) => Ok(not_allowed()),
            What::Manifest => self.manifest(head, peer, &ask, &presentation, config).await,
            What::Init { rendition, mark } => {
                Ok(self.init(head, &ask, &presentation, rendition, *mark).await)
            }
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
        let state = self.begun(presentation, config).await?;
        if let Some(why) = unfit(&state) {
            return Err(text_reply(StatusCode::FORBIDDEN, format_args!("403: {why}")));
        }
        let id = config.sessions.then(|| self.viewer(head, peer, ask, presentation.name()));
        self.admit(id, presentation.name(), config, head, peer).await?;
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
            self.viewers.sent(id, text.len() as u64, Instant::now());
        }
        let mut reply = Response::new(Body::from(text));
        put(&mut reply, header::CONTENT_TYPE, "application/dash+xml");
        put(&mut reply, header::CACHE_CONTROL, if id.is_some() { "private, no-cache" } else { "no-cache" });
        Ok(reply)
    }

    /// Waits until there is something to tell.
    async fn begun(&self, presentation: &Presentation, config: &config::Dash) -> Result<Arc<State>, Reply> {
        let has_begun = |state: &State| {
            let complete = |rendition: &Rendition| !rendition.segments.is_empty();
            !state.renditions.is_empty() && (state.ended || state.renditions.iter().all(complete))
        };
        let mut state = presentation.state();
        if has_begun(&state) {
            return Ok(state);
        }
        let _waiting = self.wait()?;
        let deadline = Instant::now() + FIRST_SEGMENT + config.segment * 2;
        while !has_begun(&state) {
            let change = tokio::time::timeout_at(deadline.into(), presentation.changed(state.version)).await;
            state = change.map_err(|_| later("the stream's first segment is not there yet"))?;
            if state.ended && state.renditions.is_empty() {
                return Err(later("the stream has no segments"));
            }
        }
        Ok(state)
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

    async fn init(
        &self,
        head: &Head,
        ask: &Ask,
        presentation: &Presentation,
        rendition: &str,
        mark: u32,
    ) -> Reply {
        let state = presentation.state();
        let Some(rendition) = state.rendition(rendition) else { return missing("no such Representation") };
        let complete = rendition.segments.iter().rev().filter_map(|s| s.init.as_ref());
        let growing = rendition.growing.as_ref().and_then(|growing| growing.init.as_ref());
        let init = growing.into_iter().chain(complete).find(|init| line::mark(init) == mark);
        let Some(init) = init else { return missing("it is of segments that are gone") };
        let kind = if rendition.kind == crate::media::Kind::Video { "video/mp4" } else { "audio/mp4" };
        self.data(head, ask, &init.data, kind).await
    }

    async fn segment(
        &self,
        head: &Head,
        ask: &Ask,
        presentation: &Arc<Presentation>,
        id: &str,
        number: u64,
    ) -> Result<Reply, Reply> {
        const KIND: &str = "video/iso.segment";
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
                    return Ok(self.data(head, ask, &nothing, KIND).await);
                }
                return Ok(self.data(head, ask, &segment.data, KIND).await);
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
                waiting = Some(self.wait()?);
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
        let (viewers, session) = (Arc::clone(&self.viewers), ask.session);
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
                        viewers.sent(id, piece.len() as u64, Instant::now());
                    }
                    if sender.send(piece).await.is_err() {
                        return;
                    }
                }
            }
        });
        let mut reply = Response::new(Body::live(receiver));
        put(&mut reply, header::CONTENT_TYPE, "video/iso.segment");
        put(&mut reply, header::CACHE_CONTROL, "public, max-age=30, immutable");
        Some(reply)
    }

    /// Something whole, or the range of it that is asked for.
    async fn data(&self, head: &Head, ask: &Ask, data: &Data, kind: &str) -> Reply {
        let mut reply = Response::new(Body::default());
        let range = reply_range(&mut reply, head.header(header::RANGE), data.len());
        let (first, count) = match range {
            Ok(range) => range,
            Err(refused) => return *refused,
        };
        *reply.body_mut() = match data.body(first, count).await {
            Ok(body) => body,
            Err(_) => return missing("the file cannot be read"),
        };
        put(&mut reply, header::CONTENT_TYPE, kind);
        put(&mut reply, header::CACHE_CONTROL, "public, max-age=30, immutable");
        if let Some(id) = ask.session {
            self.viewers.sent(id, count, Instant::now());
        }
        reply
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
        if let Some(id) = strangers.get(&who).filter(|id| self.viewers.knows(**id)) {
            return *id;
        }
        let id = self.viewers.new_id();
        if strangers.len() >= MOST_STRANGERS {
            strangers.retain(|_, id| self.viewers.knows(*id));
            if strangers.len() >= MOST_STRANGERS {
                strangers.clear();
            }
        }
        strangers.insert(who, id);
        id
    }

    /// Whether a viewer may have a manifest; counts it if it has an id.
    async fn admit(
        &self,
        id: Option<ViewerId>,
        name: &StreamName,
        config: &config::Dash,
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
        let client = player(head, peer, SessionId::next(), ClientKind::DashPlay, name);
        let admission = self.hub.admit(Action::Play, name, client).await.map_err(|e| play_refused(&e))?;
        let Some(id) = id else { return Ok(()) };
        let session = admission.client().id;
        let Ok(attendance) = self.hub.attend(admission, now) else { return Ok(()) };
        let by = peer.forwarded_for.map(|client| format!(" for {client}")).unwrap_or_default();
        log::info!(session:% = session; "{} watches {name} as DASH (dash_ctx {}){by}", peer.addr, id.as_str());
        self.viewers.enter(id, attendance, config.timeshift * 2, now);
        Ok(())
    }

    /// Whether the segments of a stream may be given to whoever asks with this head.
    async fn admit_to_segments(
        &self,
        ask: &Ask,
        name: &StreamName,
        head: &Head,
        peer: &Peer,
    ) -> Result<(), Reply> {
        match ask.session.map(|id| self.viewers.seen(id, name, Instant::now())) {
            Some(Standing::Ended) => Err(ended()),
            Some(Standing::Known) => Ok(()),
            _ if !self.hub.guards(Action::Play, name) => Ok(()),
            _ => {
                let client = player(head, peer, SessionId::next(), ClientKind::DashPlay, name);
                self.hub.admit(Action::Play, name, client).await.map(drop).map_err(|e| play_refused(&e))
            }
        }
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

fn ended() -> Reply {
    text_reply(StatusCode::FORBIDDEN, format_args!("403: {}", crate::hub::Ended::Kicked))
}

fn later(why: &str) -> Reply {
    let mut reply = text_reply(StatusCode::SERVICE_UNAVAILABLE, format_args!("503: {why}"));
    put(&mut reply, header::RETRY_AFTER, "1");
    reply
}

fn missing(why: &str) -> Reply {
    text_reply(StatusCode::NOT_FOUND, format_args!("404: {why}"))
}
