//! The server's skin: a socket to a [`Session`], a session to the hub.

use std::hash::{BuildHasher, RandomState};
use std::io;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use bytes::BytesMut;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;

use super::RtmpError;
use super::connect::{CodecSet, Connect};
use super::play::{Player, RtmpPackage};
use super::session::{Event, PublishKind, Reject, Session, Tag};
use super::url::StreamUrl;
use crate::config;
use crate::format::flv::{self, TagKind, TagReader};
use crate::hub::{
    Action, Admission, Client, ClientKind, Control, Ended, Flow, Hub, HubError, Publisher, StreamName,
    SubscribeOptions, Subscription,
};
use crate::id::SessionId;
use crate::media::{Kind, Track};
use crate::net::masked;

/// Read buffer of a publisher's connection, bytes.
const READ: usize = 32 * 1024;
/// Read buffer until it is known what a connection wants, bytes: handshake and commands are small, and a crowd
/// that comes at once must not leave holes in memory.
const SETUP_READ: usize = 4 * 1024;
/// A buffer with less room than this is left for a new one, bytes. Not sooner: frames share what they were
/// read into and hold on to it, so buffers have to be filled.
const MIN_READ: usize = 4 * 1024;
/// How long a peer may leave an answer unread before media flows.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);
/// Unreadable tags of a publisher that are logged; the rest is counted.
const MAX_PROBLEMS: u32 = 5;
/// Tracks of a publisher that are logged, changes included: some encoders change with each key frame.
const MAX_TOLD: u32 = 20;

/// What every connection needs.
#[derive(Clone)]
pub struct Context {
    /// The configuration as it stands.
    pub config: config::Shared,
    /// Where streams meet.
    pub hub: Hub,
}

/// Serves a plain TCP connection to its end; a player's is handed to a delivery worker. `permit` is kept as
/// long as the connection.
pub async fn serve_tcp<P: Send + 'static>(
    mut socket: TcpStream,
    peer: SocketAddr,
    permit: P,
    context: Context,
) {
    let mut connection = Connection::new(peer, context);
    let Some(play) = connection.run(&mut socket, acknowledge_now).await else { return };
    match socket.into_std() {
        Ok(socket) => {
            let control = Delivered { id: connection.id, player: play.player, _permit: permit };
            play.subscription.deliver(socket, play.first.into(), Box::new(control));
        }
        Err(e) => play.subscription.finish(&format!("can't hand its socket on: {e}")),
    }
}

/// Has the system acknowledge at once what was read. ffmpeg's and librtmp's sockets hold a small packet back
/// until the one before is acknowledged, which the system otherwise delays: 40 ms for each step of the setup.
#[cfg(target_os = "linux")]
fn acknowledge_now(socket: &TcpStream) {
    // It only saves time: where it can't be set, nothing is lost.
    let _ = socket2::SockRef::from(socket).set_tcp_quickack(true);
}

#[cfg(not(target_os = "linux"))]
fn acknowledge_now(_: &TcpStream) {}

/// Serves any other connection (TLS) to its end.
pub async fn serve<S, P>(mut socket: S, peer: SocketAddr, permit: P, context: Context)
where
    S: AsyncRead + AsyncWrite + Unpin,
    P: Send + 'static,
{
    let mut connection = Connection::new(peer, context);
    if let Some(play) = connection.run(&mut socket, |_| ()).await {
        let timeout = connection.context.config.current().delivery.send_timeout;
        let Play { mut subscription, player, first } = play;
        let why = pull(&mut socket, &mut subscription, player, first, timeout).await;
        subscription.finish(&why.unwrap_or_else(|e| e.to_string()));
        let _ = socket.shutdown().await;
    }
    drop(permit);
}

/// Writes a stream to a player from here. Gives the reason of its end.
async fn pull<S: AsyncRead + AsyncWrite + Unpin>(
    socket: &mut S,
    subscription: &mut Subscription,
    mut player: Player,
    first: Vec<u8>,
    timeout: Duration,
) -> Result<String, RtmpError> {
    let mut reply = first;
    let mut input = BytesMut::new();
    let mut paused = false;
    loop {
        if !reply.is_empty() {
            write(socket, &reply, timeout).await?;
            reply.clear();
        }
        tokio::select! {
            batch = subscription.next(), if !paused => {
                let Some(batch) = batch else { return Ok("the stream ended".to_owned()) };
                for part in batch {
                    tokio::time::timeout(timeout, socket.write_all(&part)).await.map_err(|_| unread(timeout))??;
                }
                socket.flush().await?;
            }
            read = read(socket, &mut input) => {
                if read? == 0 {
                    return Ok("the player closed the connection".to_owned());
                }
                match player.input(&input.split(), &mut reply)? {
                    Flow::End(why) => return Ok(why.to_owned()),
                    Flow::Go => {}
                    Flow::Pause => paused = true,
                    Flow::Resume => paused = false,
                }
            }
        }
    }
}

/// Reads what is there; 0 at the end. Most TLS clients just close the socket, which is an end as good as any.
async fn read<S: AsyncRead + Unpin>(socket: &mut S, input: &mut BytesMut) -> io::Result<usize> {
    match socket.read_buf(input).await {
        Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => Ok(0),
        read => read,
    }
}

async fn write<S: AsyncWrite + Unpin>(
    socket: &mut S,
    bytes: &[u8],
    within: Duration,
) -> Result<(), RtmpError> {
    let write = async {
        socket.write_all(bytes).await?;
        socket.flush().await
    };
    tokio::time::timeout(within, write).await.map_err(|_| unread(within))??;
    Ok(())
}

fn unread(after: Duration) -> RtmpError {
    RtmpError::Timeout { what: "read what it was sent", after }
}

/// A player whose socket a delivery worker has.
struct Delivered<P> {
    id: SessionId,
    player: Player,
    _permit: P,
}

impl<P: Send> Control for Delivered<P> {
    fn input(&mut self, bytes: &[u8], reply: &mut Vec<u8>) -> Flow {
        self.player.input(bytes, reply).unwrap_or_else(|e| {
            log::warn!(session:% = self.id; "{e}");
            Flow::End("the player broke the protocol")
        })
    }
}

/// A player that may begin.
struct Play {
    subscription: Subscription,
    player: Player,
    /// What it gets before the stream.
    first: Vec<u8>,
}

/// A connection until it ends or plays.
struct Connection {
    id: SessionId,
    peer: SocketAddr,
    context: Context,
    session: Option<Session>,
    connect: Option<Connect>,
    /// Boxed, so that the many who play don't carry room for it.
    publishing: Option<Box<Publishing>>,
    since: Instant,
    received: u64,
}

impl Connection {
    fn new(peer: SocketAddr, context: Context) -> Self {
        let (id, since) = (SessionId::next(), Instant::now());
        let seed = RandomState::new().hash_one(id.as_str());
        let session = Session::new(&context.config.current().rtmp, seed, since);
        log::debug!(session:% = id; "RTMP connection from {peer} accepted");
        Self {
            id,
            peer,
            context,
            session: Some(session),
            connect: None,
            publishing: None,
            since,
            received: 0,
        }
    }

    /// Runs until the end, which is logged, or until a player may begin. `read_some` is called after each read
    /// until media flows.
    async fn run<S>(&mut self, socket: &mut S, read_some: fn(&S)) -> Option<Play>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let (why, warn) = match self.serve(socket, read_some).await {
            Ok(End::Play(play)) => return Some(*play),
            Ok(End::Closed(why)) => (why, false),
            // A broken connection is how most sessions end.
            Err(e) => (e.to_string(), !matches!(e, RtmpError::Io(_))),
        };
        let now = Instant::now();
        let seconds = now.saturating_duration_since(self.since).as_secs_f64();
        let (id, peer, received) = (self.id, self.peer, self.received);
        let published = self.publishing.take().map(|publishing| publishing.end(id, now, &why)).is_some();
        let level = match () {
            // A load balancer or port scan that says nothing is no news.
            () if received == 0 => log::Level::Debug,
            () if warn => log::Level::Warn,
            () if published => log::Level::Debug,
            () => log::Level::Info,
        };
        log::log!(level, session:% = id;
            "RTMP connection from {peer} ended after {seconds:.1} s, {received} bytes received: {why}");
        None
    }

    async fn serve<S>(&mut self, socket: &mut S, read_some: fn(&S)) -> Result<End, RtmpError>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let mut input = BytesMut::new();
        let timer = tokio::time::sleep(Duration::ZERO);
        tokio::pin!(timer);
        loop {
            let told = self.handle(&mut input).await;
            // Gone only when it was turned into a player.
            let Some(session) = &mut self.session else {
                return Ok(told?.unwrap_or(End::Closed(String::new())));
            };
            let out = session.take_output();
            if !out.is_empty() {
                write(socket, &out, ANSWER_TIMEOUT).await?;
            }
            if let Some(end) = told? {
                return Ok(end);
            }
            let deadline = session.deadline().unwrap_or_else(|| Instant::now() + ANSWER_TIMEOUT);
            // Each packet moves the deadline: the timer is only touched when it has to go off earlier.
            if timer.is_elapsed() || timer.deadline() > deadline.into() {
                timer.as_mut().reset(deadline.into());
            }
            let (room, size) =
                if self.publishing.is_some() { (MIN_READ, READ) } else { (SETUP_READ / 2, SETUP_READ) };
            if input.capacity() - input.len() < room {
                input.reserve(size);
            }
            tokio::select! {
                read = read(socket, &mut input) => match read? {
                    0 => return Ok(End::Closed("the peer closed the connection".to_owned())),
                    n => {
                        self.received = self.received.saturating_add(n as u64);
                        if self.publishing.is_none() {
                            read_some(socket);
                        }
                    }
                },
                () = &mut timer => session.timeout(Instant::now())?,
                why = ended(self.publishing.as_deref()) => {
                    session.end_publish(&why.to_string());
                    let out = session.take_output();
                    write(socket, &out, ANSWER_TIMEOUT).await?;
                    let _ = socket.shutdown().await;
                    return Ok(End::Closed(why.to_string()));
                }
            }
        }
    }

    /// Handles all that the input holds.
    async fn handle(&mut self, input: &mut BytesMut) -> Result<Option<End>, RtmpError> {
        let now = Instant::now();
        while let Some(session) = &mut self.session
            && let Some(event) = session.input(input, now)?
        {
            match event {
                Event::Closed(why) => {
                    if let Some(publishing) = self.publishing.take() {
                        publishing.end(self.id, now, why);
                    }
                }
                Event::Connected(connect) => {
                    log::info!(session:% = self.id; "RTMP connect from {}: app {:?}, tcUrl {:?}, by {:?}",
                        self.peer, masked(&connect.app), masked(&connect.tc_url), connect.flash_version);
                    self.connect = Some(connect);
                }
                Event::Play { url, codecs } => {
                    if let Some(end) = self.play(&url, codecs, input).await? {
                        return Ok(Some(end));
                    }
                }
                Event::Publish { url, kind } => self.publish(&url, kind).await,
                Event::Tag(tag) => {
                    if let Some(publishing) = &mut self.publishing
                        && let Err(why) = publishing.push(self.id, tag, now)
                    {
                        session.end_publish(&why.to_string());
                        return Ok(Some(End::Closed(why.to_string())));
                    }
                }
            }
        }
        Ok(None)
    }

    async fn publish(&mut self, url: &StreamUrl, kind: PublishKind) {
        let kind = match kind {
            PublishKind::Flash => ClientKind::FlashPublish,
            PublishKind::Fmle => ClientKind::FmlePublish,
            PublishKind::Haivision => ClientKind::HaivisionPublish,
        };
        let admission = self.admit(Action::Publish, url, kind).await;
        let now = Instant::now();
        let publisher = admission.and_then(|admission| {
            let name = admission.name().clone();
            let publisher = self.context.hub.publish(admission, now).map_err(|e| refuse(&e))?;
            Ok((name, publisher))
        });
        let Some(session) = &mut self.session else { return };
        match publisher {
            Ok((name, publisher)) => {
                log::info!(session:% = self.id; "{} of {name} from {} started", kind.as_str(), self.peer);
                session.accept_publish();
                self.publishing = Some(Box::new(Publishing::new(name, publisher, kind, now)));
            }
            Err((why, text)) => {
                log::warn!(session:% = self.id; "{} from {} refused: {text}", kind.as_str(), self.peer);
                // Who the other one is, is for the log alone.
                let busy = matches!(why, Reject::BadName).then(|| text.split(" by session").next()).flatten();
                session.reject(why, busy.unwrap_or(&text));
            }
        }
    }

    async fn play(
        &mut self,
        url: &StreamUrl,
        codecs: CodecSet,
        input: &mut BytesMut,
    ) -> Result<Option<End>, RtmpError> {
        let Some(chunk_size) = self.session.as_ref().map(Session::chunk_size) else { return Ok(None) };
        let admission = self.admit(Action::Play, url, ClientKind::RtmpPlay).await;
        let now = Instant::now();
        let subscription = admission.and_then(|admission| {
            let name = admission.name().clone();
            let config = self.context.config.current();
            let wait = config.vhost(&name.vhost, &name.app, &name.stream).play.wait;
            let package = RtmpPackage::new(codecs, chunk_size);
            let options = SubscribeOptions { key: package.key(), wait };
            let hub = &self.context.hub;
            let subscription =
                hub.subscribe(admission, options, || Box::new(package), now).map_err(|e| refuse(&e))?;
            Ok((name, subscription))
        });
        match subscription {
            Ok((name, subscription)) => {
                let Some(session) = self.session.take() else { return Ok(None) };
                log::info!(session:% = self.id; "rtmp-play of {name} from {} started", self.peer);
                let (mut player, mut first) = session.accept_play();
                if let Flow::End(why) = player.input(&input.split(), &mut first)? {
                    subscription.finish(why);
                    return Ok(Some(End::Closed(why.to_owned())));
                }
                Ok(Some(End::Play(Box::new(Play { subscription, player, first }))))
            }
            Err((why, text)) => {
                log::info!(session:% = self.id; "rtmp-play from {} refused: {text}", self.peer);
                if let Some(session) = &mut self.session {
                    session.reject(why, &text);
                }
                Ok(None)
            }
        }
    }

    /// Asks whether the peer may do this. Nothing is read from it meanwhile.
    async fn admit(
        &self,
        action: Action,
        url: &StreamUrl,
        kind: ClientKind,
    ) -> Result<Admission, (Reject, String)> {
        let hub = &self.context.hub;
        let name = hub.name(&url.vhost, &url.app, &url.stream);
        let name = name.map_err(|e| (Reject::BadName, e.to_string()))?;
        hub.admit(action, &name, self.client(url, kind)).await.map_err(|e| refuse(&e))
    }

    fn client(&self, url: &StreamUrl, kind: ClientKind) -> Client {
        let mut client = Client::new(self.id, kind, self.peer);
        client.asked.clone_from(&url.stream);
        client.params.clone_from(&url.params);
        if let Some(connect) = &self.connect {
            client.tc_url.clone_from(&connect.tc_url);
            client.page_url.clone_from(&connect.page_url);
            client.swf_url.clone_from(&connect.swf_url);
        }
        client
    }
}

enum End {
    Closed(String),
    Play(Box<Play>),
}

fn refuse(error: &HubError) -> (Reject, String) {
    let why = match error {
        HubError::Busy { .. } => Reject::BadName,
        HubError::NotLive(_) => Reject::NotFound,
        _ => Reject::Failed,
    };
    (why, error.to_string())
}

async fn ended(publishing: Option<&Publishing>) -> Ended {
    match publishing {
        Some(publishing) => publishing.publisher.ended().await,
        None => std::future::pending().await,
    }
}

/// A stream that is being published.
pub(super) struct Publishing {
    name: StreamName,
    publisher: Publisher,
    kind: ClientKind,
    reader: TagReader,
    tracks: Vec<Track>,
    since: Instant,
    tags: u64,
    bytes: u64,
    problems: u32,
    told: u32,
}

impl Publishing {
    pub(super) fn new(name: StreamName, publisher: Publisher, kind: ClientKind, now: Instant) -> Self {
        let (reader, tracks) = (TagReader::new(), Vec::new());
        Self { name, publisher, kind, reader, tracks, since: now, tags: 0, bytes: 0, problems: 0, told: 0 }
    }

    pub(super) fn push(&mut self, id: SessionId, tag: Tag, now: Instant) -> Result<(), Ended> {
        let Some(kind) = TagKind::from_u8(tag.kind) else { return Ok(()) };
        self.tags += 1;
        self.bytes = self.bytes.saturating_add(tag.body.len() as u64);
        if let Err(e) = self.reader.push(kind, tag.time, tag.body) {
            self.problems = self.problems.saturating_add(1);
            if self.problems <= MAX_PROBLEMS {
                let more =
                    if self.problems == MAX_PROBLEMS { "; more of this kind is only counted" } else { "" };
                log::warn!(session:% = id; "{} sends what can't be read: {e}{more}", self.name);
            }
        }
        while let Some(event) = self.reader.next_event() {
            match event {
                flv::Event::Frame(frame) => self.publisher.frame(frame, now)?,
                flv::Event::Meta(meta) => self.publisher.set_meta(meta)?,
                flv::Event::Track(track) => {
                    self.tell(id, &track);
                    self.publisher.set_track(track)?;
                }
            }
        }
        Ok(())
    }

    /// Logs a track that is new or changed.
    fn tell(&mut self, id: SessionId, track: &Track) {
        let old = self.tracks.iter().position(|t| t.id == track.id);
        let same = |old: &Track| old.codec == track.codec && old.facts == track.facts;
        if old.and_then(|place| self.tracks.get(place)).is_some_and(same) {
            return;
        }
        let facts = &track.facts;
        let what = match track.kind() {
            Kind::Video => format!("{} {} {}x{}", track.codec, facts.profile_name, facts.width, facts.height),
            Kind::Audio => {
                format!(
                    "{} {} {} Hz, {} channels",
                    track.codec, facts.profile_name, facts.sample_rate, facts.channels
                )
            }
            Kind::Data => track.codec.to_string(),
        };
        self.told = self.told.saturating_add(1);
        if self.told <= MAX_TOLD {
            let more = if self.told == MAX_TOLD { "; further changes are not told" } else { "" };
            log::info!(session:% = id; "{} track {}: {what}{more}", self.name, track.id.0);
        }
        match old.and_then(|place| self.tracks.get_mut(place)) {
            Some(place) => place.clone_from(track),
            None => self.tracks.push(track.clone()),
        }
    }

    /// Completes when the publisher may not go on.
    #[cfg(feature = "relay")]
    pub(super) async fn ended(&self) -> Ended {
        self.publisher.ended().await
    }

    /// Gives the stream back and logs what it was.
    pub(super) fn end(self, id: SessionId, now: Instant, why: &str) {
        let Self { name, kind, since, tags, bytes, problems, .. } = self;
        let seconds = now.saturating_duration_since(since).as_secs_f64();
        let unread = if problems > 0 { format!(", {problems} could not be read") } else { String::new() };
        log::info!(session:% = id;
            "{} of {name} ended after {seconds:.1} s: {why}; received {tags} packets of {bytes} bytes{unread}",
            kind.as_str());
    }
}

#[cfg(test)]
mod tests;
