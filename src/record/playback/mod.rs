//! Recordings by HTTP; the room's page has the requests.
//!
//! Paths name streams and times, never files: what a request asks for is looked up among the recordings that there are, and
//! nothing else is ever opened.

mod admit;
mod ask;
mod movie;
mod playlist;
mod source;

use std::collections::VecDeque;
use std::fmt::Write;
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bytes::Bytes;
use hyper::header;
use hyper::{Method, Response, StatusCode};
use tokio::io::AsyncSeekExt;
use tokio::sync::{Semaphore, mpsc};

use self::admit::{about, is_of, query_for};
use self::ask::Ask;
use self::movie::Movie;
use self::source::{Shared as SharedSource, Source};
use super::catalog::{self, Entry};
use super::template::rfc3339;
use super::{Inner, Records, format_name, lock, retention};
use crate::hub::{Action, DEFAULT_VHOST, RecordedFile};
use crate::net::http::{
    Body, Boxed, Head, Outcome, Peer, Reply, Request, Service, mime, put, reply_range, text_reply,
};

/// How old a list of recordings may be.
const FRESH: Duration = Duration::from_secs(1);
/// How long the tables of a time that still grows are kept: a player has to find the file that it began with.
const KEEP: Duration = Duration::from_secs(300);
/// Memory for tables.
const TABLES: usize = 16 << 20;
/// Recordings that are kept open.
const SOURCES: usize = 16;
/// Requests that look through files at a time: each takes memory, and the disk is needed for writing.
const AT_ONCE: usize = 2;
/// The most pieces of a segment: our playlists have some ten.
const MAX_SEGMENT: usize = 4096;

/// Serves recordings.
pub struct Playback {
    shared: Arc<Inner>,
    state: Arc<State>,
    #[cfg(feature = "access")]
    access: Option<Arc<crate::access::Access>>,
}

struct State {
    listing: Mutex<Option<(Instant, Arc<Vec<Entry>>)>>,
    sources: Mutex<VecDeque<(PathBuf, u64, SharedSource)>>,
    movies: Mutex<VecDeque<(String, Instant, Arc<Movie>)>>,
    turns: Arc<Semaphore>,
}

/// What a request gets, before it is sent.
enum Answer {
    /// Something in memory, and its type.
    Bytes(Bytes, &'static str),
    Deleted,
    File(Box<Entry>),
    Movie(Arc<Movie>, String),
    Pieces(Arc<[Bytes]>),
    Refused(StatusCode, String),
    Unknown,
}

impl Playback {
    /// Serves what `records` has.
    #[must_use]
    pub fn new(records: &Records) -> Self {
        let state = State {
            listing: Mutex::default(),
            sources: Mutex::default(),
            movies: Mutex::default(),
            turns: Arc::new(Semaphore::new(AT_ONCE)),
        };
        Self {
            shared: Arc::clone(&records.inner),
            state: Arc::new(state),
            #[cfg(feature = "access")]
            access: None,
        }
    }
}

impl Service for Playback {
    fn call<'a>(&'a self, request: Request) -> Boxed<'a, Outcome> {
        if !ask::is_ours(&request.head.path) {
            return Box::pin(async move { request.into() });
        }
        Box::pin(async move {
            let Ok(turn) = Arc::clone(&self.state.turns).acquire_owned().await else { return request.into() };
            let (shared, state) = (Arc::clone(&self.shared), Arc::clone(&self.state));
            let head = request.head.clone();
            let about = tokio::task::spawn_blocking(move || {
                let all = state.list(&shared, false);
                (about(&shared, &head, &all), all)
            });
            // What is answered is what was admitted, whatever comes meanwhile: it is found in the same list.
            let Ok((about, all)) = about.await else { return failed().into() };
            let who = match self.admit(&request, about).await {
                Ok(who) => who,
                Err(reply) => return reply.into(),
            };
            let (shared, state) = (Arc::clone(&self.shared), Arc::clone(&self.state));
            let (head, peer) = (request.head.clone(), request.peer);
            let answer = tokio::task::spawn_blocking(move || {
                let answer = state.answer(&shared, &head, &peer, &all);
                drop(turn);
                answer
            });
            match answer.await {
                Ok(Ok(Answer::Unknown)) => request.into(),
                Ok(Ok(answer)) => {
                    if matches!(answer, Answer::Deleted) {
                        self.deleted(&who, &request.head.path);
                    }
                    reply(answer, &request.head).await.into()
                }
                Ok(Err(error)) if error.kind() == io::ErrorKind::FileTooLarge => {
                    text_reply(StatusCode::PAYLOAD_TOO_LARGE, format_args!("413: {error}")).into()
                }
                Ok(Err(error)) => {
                    log::warn!(session:% = request.peer.id; "{:?}: {error}", request.head);
                    text_reply(StatusCode::NOT_FOUND, "404: the recording can't be read (any more)").into()
                }
                Err(_) => failed().into(),
            }
        })
    }
}

impl State {
    fn answer(&self, shared: &Inner, head: &Head, peer: &Peer, all: &[Entry]) -> io::Result<Answer> {
        let asked =
            ["vhost", "domain"].iter().find_map(|key| head.param(key).filter(|value| !value.is_empty()));
        let vhost = match shared.hub.name(asked.as_deref().unwrap_or(&head.host), "a", "b") {
            Ok(name) => name.vhost,
            Err(_) => return Ok(Answer::Unknown),
        };
        let of = |entry: &Entry, stream: &str| is_of(entry, &vhost, stream);
        let known = |stream: &str| all.iter().any(|entry| of(entry, stream));
        let Some(ask) = Ask::read(&head.path, known) else { return Ok(Answer::Unknown) };
        let refuse = |text: String| Ok(Answer::Refused(StatusCode::BAD_REQUEST, format!("400: {text}")));
        let reads = matches!(head.method, Method::GET | Method::HEAD);
        let deletes = head.method == Method::DELETE && matches!(ask, Ask::File { .. });
        if !reads && !deletes {
            return Ok(Answer::Refused(
                StatusCode::METHOD_NOT_ALLOWED,
                "405: this can only be read".to_owned(),
            ));
        }
        let find = |stream: &str, start_ms: i64| {
            let found = all.iter().find(|e| e.ident.start_ms == start_ms && of(e, stream));
            found.cloned()
        };
        // A player's copy of a playlist may ask for what is in it under the same vhost.
        let query = query_for(head, asked.as_deref());
        let gone = || {
            Answer::Refused(StatusCode::NOT_FOUND, "404: there is no such recording (any more)".to_owned())
        };
        match ask {
            Ask::Streams => match ask::page(head) {
                Ok((limit, after)) => {
                    // Names of streams that not everybody may play are not for everybody.
                    let mut open = all.to_vec();
                    open.retain(|entry| !shared.hub.guards(Action::Play, &entry.ident.name));
                    Ok(json(streams(&open, &vhost, limit, after.as_deref())))
                }
                Err(text) => refuse(text),
            },
            Ask::List { stream } => match (ask::span(head), ask::page(head)) {
                (Ok(span), Ok((limit, after))) => {
                    let after = match after.as_deref().map(str::parse::<i64>) {
                        None => i64::MIN,
                        Some(Ok(after)) => after,
                        Some(Err(_)) => return refuse("after: expected what \"next\" said".to_owned()),
                    };
                    let entries: Vec<&Entry> = all.iter().filter(|entry| of(entry, &stream)).collect();
                    Ok(json(list(&entries, &stream, &query, span, limit, after)))
                }
                (Err(text), _) | (_, Err(text)) => refuse(text),
            },
            Ask::Movie { stream } => match ask::span(head) {
                Ok(span) => {
                    let key = format!("{vhost} {stream} {span:?}");
                    let entries: Vec<&Entry> = all.iter().filter(|entry| of(entry, &stream)).collect();
                    Ok(self.movie(&key, &entries, span)?.map_or_else(gone, |movie| {
                        let name = stream.rsplit('/').next().unwrap_or_default();
                        Answer::Movie(movie, encode(name))
                    }))
                }
                Err(text) => refuse(text),
            },
            Ask::Playlist { stream } => match ask::span(head) {
                Ok(span) => {
                    let entries: Vec<&Entry> = all.iter().filter(|entry| of(entry, &stream)).collect();
                    let sources = self.sources(&within(&entries, span))?;
                    let live = entries.last().is_some_and(|entry| entry.growing.is_some());
                    let grows = live && span.1 > super::unix_ms();
                    let name = encode(stream.rsplit('/').next().unwrap_or_default());
                    let text = playlist::playlist(&sources, &name, &query, span, grows);
                    Ok(text.map_or_else(gone, |text| {
                        Answer::Bytes(text.into(), "application/vnd.apple.mpegurl")
                    }))
                }
                Err(text) => refuse(text),
            },
            Ask::Init { stream, start_ms } => match find(&stream, start_ms) {
                Some(entry) => {
                    let init = self.source(&entry, 0)?.init()?;
                    Ok(Answer::Bytes(init, "video/mp4"))
                }
                None => Ok(gone()),
            },
            Ask::Segment { stream, start_ms, from, to } => match find(&stream, start_ms) {
                Some(entry) => {
                    let source = self.source(&entry, to)?;
                    if from >= to || to > source.pieces.len() || to - from > MAX_SEGMENT {
                        return Ok(gone());
                    }
                    Ok(Answer::Pieces(source.fragments(from, to)?.into()))
                }
                None => Ok(gone()),
            },
            Ask::File { stream, start_ms, extension } => {
                let Some(entry) = find(&stream, start_ms).filter(|entry| ends(entry) == extension) else {
                    return Ok(gone());
                };
                if !deletes {
                    return Ok(Answer::File(Box::new(entry)));
                }
                if entry.growing.is_some() {
                    return Ok(Answer::Refused(StatusCode::CONFLICT, "409: it is being written".to_owned()));
                }
                match retention::delete(&entry) {
                    Ok(()) => {
                        log::info!(session:% = peer.id; "{} deleted recording {}", peer.addr, entry.path.display());
                        self.list(shared, true);
                        Ok(Answer::Deleted)
                    }
                    Err(text) => Ok(Answer::Refused(StatusCode::CONFLICT, format!("409: {text}"))),
                }
            }
        }
    }

    /// All recordings.
    fn list(&self, shared: &Inner, anew: bool) -> Arc<Vec<Entry>> {
        let mut listing = lock(&self.listing);
        let now = Instant::now();
        if let Some((at, all)) = &*listing
            && !anew
            && now.saturating_duration_since(*at) < FRESH
        {
            return Arc::clone(all);
        }
        let roots = catalog::roots(&shared.config.current());
        let mut all = shared.catalog.scan(&roots, &shared.registry);
        // What a crash left behind is shown when it is mended.
        all.retain(|entry| !entry.is_broken());
        let all = Arc::new(all);
        *listing = Some((now, Arc::clone(&all)));
        all
    }

    /// An opened recording with at least so many pieces, if it has as many; 0: whatever was opened before will do.
    fn source(&self, entry: &Entry, pieces: usize) -> io::Result<SharedSource> {
        let bytes = entry.growing.as_ref().map_or(entry.bytes, |growing| growing.bytes());
        let mut sources = lock(&self.sources);
        let same = |(path, known, source): &&(PathBuf, u64, SharedSource)| {
            *path == entry.path && (*known == bytes || source.pieces.len() >= pieces)
        };
        if let Some((_, _, source)) = sources.iter().find(same) {
            return Ok(Arc::clone(source));
        }
        drop(sources);
        let source = Arc::new(Source::open(entry)?);
        sources = lock(&self.sources);
        sources.retain(|(path, ..)| *path != entry.path);
        if sources.len() >= SOURCES {
            sources.pop_front();
        }
        sources.push_back((entry.path.clone(), bytes, Arc::clone(&source)));
        Ok(source)
    }

    fn sources(&self, entries: &[&Entry]) -> io::Result<Vec<SharedSource>> {
        let mut sources = Vec::new();
        for entry in entries {
            match self.source(entry, usize::MAX) {
                Ok(source) => sources.push(source),
                // Deleted by hand since.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => log::warn!("recording {} can't be played: {error}", entry.path.display()),
            }
        }
        Ok(sources)
    }

    /// The tables of a time.
    fn movie(&self, key: &str, entries: &[&Entry], span: (i64, i64)) -> io::Result<Option<Arc<Movie>>> {
        let now = Instant::now();
        let entries = within(entries, span);
        // What is closed stays as it is; of what grows players keep what they began with, for a while.
        let state = entries.iter().map(|e| (e.ident.start_ms, e.growing.is_none().then_some(e.bytes)));
        let key = format!("{key} {:?}", state.collect::<Vec<_>>());
        let mut movies = lock(&self.movies);
        movies.retain(|(_, at, _)| now.saturating_duration_since(*at) < KEEP);
        if let Some((_, _, movie)) = movies.iter().find(|(known, ..)| *known == key) {
            return Ok(Some(Arc::clone(movie)));
        }
        drop(movies);
        let Some(movie) = Movie::build(self.sources(&entries)?, span.0, span.1)? else { return Ok(None) };
        let movie = Arc::new(movie);
        movies = lock(&self.movies);
        movies.push_back((key, now, Arc::clone(&movie)));
        while movies.len() > 1 && movies.iter().map(|(_, _, movie)| movie.weight()).sum::<usize>() > TABLES {
            movies.pop_front();
        }
        Ok(Some(movie))
    }
}

/// Those of a time.
fn within<'a>(entries: &[&'a Entry], (from_ms, to_ms): (i64, i64)) -> Vec<&'a Entry> {
    let overlaps = |e: &&&Entry| e.ident.start_ms < to_ms && e.end_ms() > from_ms;
    entries.iter().filter(overlaps).copied().collect()
}

fn failed() -> Reply {
    text_reply(StatusCode::INTERNAL_SERVER_ERROR, "500: this failed")
}

/// A recording for those who look from outside.
pub(super) fn file(entry: &Entry) -> RecordedFile {
    let (name, start_ms) = (entry.ident.name.clone(), entry.ident.start_ms);
    let place: Vec<String> = name.app.split('/').chain(name.stream.split('/')).map(encode).collect();
    let vhost =
        if name.vhost == DEFAULT_VHOST { String::new() } else { format!("?vhost={}", encode(&name.vhost)) };
    RecordedFile {
        url: format!("/recordings/{}/{start_ms}.{}{vhost}", place.join("/"), ends(entry)),
        name,
        start_ms,
        duration_ms: entry.duration_ms(),
        bytes: entry.bytes,
        format: format_name(entry.ident.format),
        growing: entry.growing.is_some(),
    }
}

/// The end of a recording's name.
fn ends(entry: &Entry) -> &'static str {
    super::template::extension(entry.ident.format)
}

fn json(text: String) -> Answer {
    Answer::Bytes(text.into(), "application/json")
}

fn streams(all: &[Entry], vhost: &str, limit: usize, after: Option<&str>) -> String {
    let mut names: Vec<_> =
        all.iter().filter(|entry| entry.ident.name.vhost == vhost).map(|entry| &entry.ident.name).collect();
    names.sort_unstable();
    names.dedup();
    let path = |name: &crate::hub::StreamName| format!("{}/{}", name.app, name.stream);
    let mut out = format!("{{\"vhost\":{},\"streams\":[", quote(vhost));
    let mut shown = 0;
    let mut next = None;
    let mut last = String::new();
    for name in names {
        if after.is_some_and(|after| path(name).as_str() <= after) {
            continue;
        }
        if shown == limit {
            next = Some(last);
            break;
        }
        last = path(name);
        let of = || all.iter().filter(|entry| entry.ident.name == *name);
        let (first_ms, end_ms) = (
            of().map(|entry| entry.ident.start_ms).min().unwrap_or(0),
            of().map(Entry::end_ms).max().unwrap_or(0),
        );
        let _ = write!(
            out,
            "{}{{\"app\":{},\"stream\":{},\"recordings\":{},\"bytes\":{},\"start\":\"{}\",\"end\":\"{}\",\"recording\":{}}}",
            if shown == 0 { "" } else { "," },
            quote(&name.app),
            quote(&name.stream),
            of().count(),
            of().map(|entry| entry.bytes).sum::<u64>(),
            rfc3339(first_ms),
            rfc3339(end_ms),
            of().any(|entry| entry.growing.is_some()),
        );
        shown += 1;
    }
    let _ = writeln!(out, "],\"next\":{}}}", next.map_or("null".to_owned(), |next| quote(&next)));
    out
}

fn list(entries: &[&Entry], stream: &str, query: &str, span: (i64, i64), limit: usize, after: i64) -> String {
    let mut out = format!("{{\"stream\":{},\"recordings\":[", quote(stream));
    let wanted: Vec<&Entry> =
        within(entries, span).into_iter().filter(|entry| entry.ident.start_ms > after).collect();
    let place: Vec<String> = stream.split('/').map(encode).collect();
    for (n, entry) in wanted.iter().take(limit).enumerate() {
        let (start, duration) = (entry.ident.start_ms, entry.duration_ms());
        let _ = write!(
            out,
            "{}{{\"start\":\"{}\",\"start_ms\":{start},\"end\":\"{}\",\"duration\":{}.{:03},\"bytes\":{},\
             \"format\":\"{}\",\"recording\":{},\"url\":\"/recordings/{}/{start}.{}{query}\"}}",
            if n == 0 { "" } else { "," },
            rfc3339(start),
            rfc3339(entry.end_ms()),
            duration / 1000,
            duration % 1000,
            entry.bytes,
            format_name(entry.ident.format),
            entry.growing.is_some(),
            place.join("/"),
            ends(entry),
        );
    }
    let last = wanted.get(limit.saturating_sub(1)).filter(|_| wanted.len() > limit);
    let next = last.map_or("null".to_owned(), |entry| format!("\"{}\"", entry.ident.start_ms));
    let _ = writeln!(out, "],\"next\":{next}}}");
    out
}

/// A text of JSON.
fn quote(text: &str) -> String {
    let mut out = String::from("\"");
    for c in text.chars() {
        match c {
            '"' | '\\' => {
                out.push('\\');
                out.push(c);
            }
            c if c.is_control() => {
                let _ = write!(out, "\\u{:04x}", u32::from(c));
            }
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

/// A part of a path, percent-encoded.
fn encode(text: &str) -> String {
    let mut out = String::new();
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~') {
            out.push(char::from(byte));
        } else {
            let _ = write!(out, "%{byte:02X}");
        }
    }
    out
}

async fn reply(answer: Answer, head: &Head) -> Reply {
    let mut reply = Response::new(Body::default());
    match answer {
        Answer::Unknown => text_reply(StatusCode::NOT_FOUND, "404: there is no such recording"),
        Answer::Refused(status, text) => text_reply(status, text),
        Answer::Deleted => {
            *reply.status_mut() = StatusCode::NO_CONTENT;
            reply
        }
        Answer::Bytes(bytes, kind) => {
            put(&mut reply, header::CONTENT_TYPE, kind);
            put(&mut reply, header::CACHE_CONTROL, "no-cache");
            *reply.body_mut() = Body::from(bytes);
            reply
        }
        Answer::Pieces(pieces) => {
            put(&mut reply, header::CONTENT_TYPE, "video/iso.segment");
            *reply.body_mut() = Body::shared(pieces, 0, u64::MAX);
            reply
        }
        Answer::File(entry) => {
            let len = entry.growing.as_ref().map_or(entry.bytes, |growing| growing.bytes());
            let name = entry.path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            let kind = mime::of_name(name.trim_end_matches(".tmp"));
            let etag = format!("\"{:x}-{len:x}\"", entry.ident.start_ms);
            let (first, count) = match ranged(&mut reply, head, &etag, len, kind) {
                Ok(range) => range,
                Err(refused) => return *refused,
            };
            let Ok(mut file) = tokio::fs::File::open(&entry.path).await else {
                return text_reply(StatusCode::NOT_FOUND, "404: there is no such recording any more");
            };
            if file.seek(io::SeekFrom::Start(first)).await.is_err() {
                return text_reply(StatusCode::NOT_FOUND, "404: the recording can't be read");
            }
            *reply.body_mut() = Body::file(file, count);
            reply
        }
        Answer::Movie(movie, name) => {
            let etag = format!("\"{:x}-{:x}-{:x}\"", movie.start_ms, movie.duration_ms, movie.len);
            let (first, count) = match ranged(&mut reply, head, &etag, movie.len, "video/mp4") {
                Ok(range) => range,
                Err(refused) => return *refused,
            };
            let file = format!("inline; filename=\"{name}.{}.mp4\"", movie.start_ms);
            put(&mut reply, header::CONTENT_DISPOSITION, &file);
            *reply.body_mut() = match head.method {
                // Its length is all that is wanted.
                Method::HEAD => Body::sized(mpsc::channel(1).1, count),
                _ => send(movie, first, count),
            };
            reply
        }
    }
}

/// Reads the range that is asked for, and fills the head: the first byte, and how many.
fn ranged(
    reply: &mut Reply,
    head: &Head,
    etag: &str,
    len: u64,
    kind: &'static str,
) -> Result<(u64, u64), Box<Reply>> {
    put(reply, header::ETAG, etag);
    put(reply, header::CONTENT_TYPE, kind);
    let counts = head.header(header::IF_RANGE).is_none_or(|known| known == etag);
    reply_range(reply, head.header(header::RANGE).filter(|_| counts), len)
}

/// `count` bytes of a movie, read as they are sent: one piece is on its way while the next one is read.
fn send(movie: Arc<Movie>, first: u64, count: u64) -> Body {
    let (sender, receiver) = mpsc::channel(1);
    tokio::spawn(async move {
        let end = first.saturating_add(count);
        let mut at = first;
        while at < end {
            let from = Arc::clone(&movie);
            let read = tokio::task::spawn_blocking(move || from.read(at, end));
            let pieces = match read.await {
                Ok(Ok(pieces)) if !pieces.is_empty() => pieces,
                Ok(Err(error)) => {
                    let _ = sender.send(Err(error)).await;
                    return;
                }
                _ => return,
            };
            for piece in pieces {
                at = at.saturating_add(piece.len() as u64);
                if sender.send(Ok(piece)).await.is_err() {
                    return;
                }
            }
        }
    });
    Body::sized(receiver, count)
}

#[cfg(test)]
pub(super) mod test {
    use super::*;

    /// How many pieces a recording has, and frames in them.
    pub(in crate::record) fn read_all(entry: &Entry) -> io::Result<(usize, usize)> {
        let source = Source::open(entry)?;
        let mut frames = 0;
        for piece in &source.pieces {
            let parts = source.parts(*piece)?;
            frames += parts.iter().map(|part| part.samples.len()).sum::<usize>();
        }
        Ok((source.pieces.len(), frames))
    }

    /// All of a recording as a movie, read to its end.
    pub(in crate::record) fn movie(entry: &Entry) -> io::Result<u64> {
        let source = Arc::new(Source::open(entry)?);
        let Some(movie) = Movie::build(vec![source], 0, i64::MAX)? else { return Ok(0) };
        let mut at = 0;
        while at < movie.len {
            let pieces = movie.read(at, movie.len)?;
            let len: usize = pieces.iter().map(Bytes::len).sum();
            if len == 0 {
                break;
            }
            at += len as u64;
        }
        Ok(at)
    }
}
