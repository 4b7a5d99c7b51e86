//! Sessions by their tokens: what a peer that asks for one meets here, from its offer to its end.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::{Duration, Instant};

use tokio::sync::Semaphore;

use super::WebRtcError;
use super::answer::{Ours, answer, fragment};
use super::candidates::{Asked, Candidate, Doors, candidates};
use super::dtls::{Fingerprint, Role};
use super::endpoint::{Endpoint, Peer};
use super::fanout::{FanoutOptions, Fanouts};
use super::ice::Credentials;
use super::negotiated::{Flow, Negotiated};
use super::offer::{Disagreement, Offer, Setup, Terms, is_ice};
use super::play::{PlayOptions, play};
use super::publish::{PublishOptions, publish};
use super::sdp::{Description, SdpError};
use super::session::Remote;
use crate::config::{self, Config, DtlsRole, Vhost, Wait};
use crate::hub::{Action, Admission, Attendance, Client, ClientKind, Hub, HubError, StreamName};
use crate::media::{Codec, Track};
use crate::net::{ConnectionLimit, Permit};

/// Players, and publishers, whose requests wait for somebody (access, callbacks, a publisher) at a time.
const MAX_ASKED: usize = 512;
/// The longest that a request waits for a publisher, whatever the configuration says: HTTP has patience, too.
const LONGEST_WAIT: Duration = Duration::from_secs(60);
/// How long is waited until a stream's tracks are known.
const TRACKS: Duration = Duration::from_secs(2);
/// How often a stream that is waited for is looked at.
const LOOK: Duration = Duration::from_millis(50);

/// Why a session is not opened, or not changed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Refusal {
    /// What came makes no sense.
    #[error("{0}")]
    Bad(String),
    /// Too many wait already.
    #[error("too many sessions are being opened at this moment; try again")]
    Busy,
    /// There are as many connections as there may be.
    #[error("{0}")]
    Full(String),
    /// There is nothing that both can carry.
    #[error("{0}")]
    Disagreement(Disagreement),
    /// The hub says no.
    #[error(transparent)]
    Hub(#[from] HubError),
    /// It is not there by WebRTC.
    #[error("{0}")]
    Off(String),
    /// There is no such session.
    #[error("there is no such session (any more)")]
    Gone,
    /// Its description is another one by now.
    #[error("the session has changed: its ETag is another one now")]
    Changed,
    /// The endpoint says no.
    #[error(transparent)]
    Endpoint(#[from] WebRtcError),
}

impl From<SdpError> for Refusal {
    fn from(error: SdpError) -> Self {
        Self::Bad(error.to_string())
    }
}

/// What a peer asks for.
pub struct Wanted {
    /// To publish or to play.
    pub flow: Flow,
    /// The stream.
    pub name: StreamName,
    /// Who it is.
    pub client: Client,
    /// Its offer.
    pub offer: String,
    /// How it reaches us.
    pub asked: Asked,
    /// Codecs that it would like.
    pub wishes: Vec<Codec>,
    /// Names that it wants us to have in ICE.
    pub ice: Option<(String, String)>,
}

/// What it gets.
pub struct Opened {
    /// By which it names the session from now on.
    pub token: String,
    /// The hub's id of it.
    pub id: String,
    /// Our answer.
    pub answer: String,
    /// Which description of the session it is.
    pub etag: String,
}

/// All sessions of WebRTC. A clone is another handle to the same.
#[derive(Clone)]
pub struct Server(Arc<Inner>);

struct Inner {
    config: config::Shared,
    hub: Hub,
    /// While it listens.
    open: RwLock<Option<Open>>,
    sessions: Mutex<HashMap<String, Arc<Session>>>,
    players_asked: Arc<Semaphore>,
    publishers_asked: Arc<Semaphore>,
}

#[derive(Clone)]
struct Open {
    endpoint: Endpoint,
    fanouts: Fanouts,
    limit: ConnectionLimit,
}

/// A session, as requests about it see it.
struct Session {
    name: StreamName,
    peer: Peer,
    negotiated: Negotiated,
    fingerprint: String,
    candidates: Vec<Candidate>,
    active: bool,
    etag: Mutex<String>,
}

impl Server {
    /// A server that doesn't listen yet.
    #[must_use]
    pub fn new(config: config::Shared, hub: Hub) -> Self {
        let asked = || Arc::new(Semaphore::new(MAX_ASKED));
        let (players_asked, publishers_asked) = (asked(), asked());
        let (open, sessions) = (RwLock::default(), Mutex::default());
        Self(Arc::new(Inner { config, hub, open, sessions, players_asked, publishers_asked }))
    }

    /// It listens from now on: sessions are on `endpoint`.
    pub fn listen(&self, endpoint: Endpoint, limit: ConnectionLimit) {
        let fanouts = Fanouts::new(self.0.hub.clone(), endpoint.clone());
        let open = Open { endpoint, fanouts, limit };
        *self.0.open.write().unwrap_or_else(PoisonError::into_inner) = Some(open);
    }

    /// It listens no more, and all sessions end.
    pub fn close(&self) {
        let open = self.0.open.write().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(open) = open {
            open.endpoint.stop();
        }
    }

    /// Sessions there are.
    #[must_use]
    pub fn sessions(&self) -> usize {
        self.0.sessions().len()
    }

    /// The configuration in force.
    #[must_use]
    pub fn config(&self) -> Arc<Config> {
        self.0.config.current()
    }

    /// Where streams meet.
    #[must_use]
    pub fn hub(&self) -> &Hub {
        &self.0.hub
    }

    /// Opens a session.
    ///
    /// # Errors
    /// [`Refusal`].
    pub async fn open(&self, wanted: Wanted) -> Result<Opened, Refusal> {
        let inner = &self.0;
        let open = inner.open.read().unwrap_or_else(PoisonError::into_inner).clone();
        let open = open.ok_or_else(|| Refusal::Off("WebRTC is switched off (webrtc.enabled)".to_owned()))?;
        let Wanted { flow, name, mut client, offer, asked, wishes, ice } = wanted;
        let config = inner.config.current();
        let vhost = config.vhost(&name.vhost, &name.app, &name.stream).clone();
        if !vhost.webrtc.enabled {
            return Err(Refusal::Off(format!("{name} is not there by WebRTC (vhost.*.webrtc.enabled)")));
        }
        let offer = Offer::parse(&offer)?;
        // Players who wait for a publisher must not keep it out.
        let places = if flow == Flow::Play { &inner.players_asked } else { &inner.publishers_asked };
        let place = places.clone().try_acquire_owned().map_err(|_| Refusal::Busy)?;
        let permit = open.limit.permit(client.ip()).map_err(|full| Refusal::Full(full.to_string()))?;
        let (action, kind) = match flow {
            Flow::Play => (Action::Play, ClientKind::RtcPlay),
            Flow::Publish => (Action::Publish, ClientKind::RtcPublish),
        };
        client.kind = kind;
        let admission = inner.hub.admit(action, &name, client).await?;
        let id = admission.client().id;
        let now = Instant::now();
        let (entry, tracks) = match flow {
            Flow::Publish => {
                // Before it is answered, so that it learns why not; it takes nobody's place before it is there.
                inner.hub.may_publish(&admission, now)?;
                (Entry::Publish(admission), Vec::new())
            }
            Flow::Play => {
                let tracks = inner.tracks(&name, &vhost).await?;
                (Entry::Play(inner.hub.attend(admission, Instant::now())?), tracks)
            }
        };
        drop(place);

        let cname = random_text::<8>()?;
        let terms = Terms {
            flow,
            tracks: &tracks,
            wishes: &wishes,
            nack: vhost.webrtc.nack,
            transport_cc: vhost.webrtc.transport_cc,
            cname: &cname,
        };
        let mut numbers = Numbers::new()?;
        let negotiated = offer.agree(&terms, || numbers.next()).map_err(Refusal::Disagreement)?;
        let active = match offer.setup {
            Setup::Active => false,
            Setup::Passive => true,
            Setup::ActPass => vhost.webrtc.dtls_role == DtlsRole::Active,
        };
        let doors = open.endpoint.local_addrs();
        let candidates = candidates(&config.webrtc, &asked, Doors { udp: &doors.udp, tcp: &doors.tcp }).await;
        let mut credentials = Endpoint::credentials()?;
        if let Some((ufrag, pwd)) = ice
            && is_ice(&ufrag, 4)
            && is_ice(&pwd, 22)
            && ufrag.len() <= 32
            && pwd.len() <= 32
        {
            credentials = Credentials { ufrag, pwd };
        }
        let remote = Remote {
            ufrag: offer.ufrag.clone(),
            pwd: offer.pwd.clone(),
            fingerprint: Fingerprint::parse(&offer.fingerprint)
                .ok_or_else(|| Refusal::Bad("the offer's a=fingerprint can't be one".to_owned()))?,
            role: if active { Role::Client } else { Role::Server },
        };
        let fingerprint = open.endpoint.certificate().fingerprint().to_string();
        let ours = Ours {
            ufrag: &credentials.ufrag,
            pwd: &credentials.pwd,
            fingerprint: &fingerprint,
            active,
            candidates: &candidates,
            number: u64::from(numbers.next()) << 16 | u64::from(numbers.next() >> 16),
        };
        let text = answer(&offer, &negotiated, &ours);
        let peer = open.endpoint.open(credentials.clone(), remote)?;
        let (token, etag) = (random_text::<16>()?, random_text::<8>()?);
        let session = Arc::new(Session {
            name: name.clone(),
            peer: peer.clone(),
            negotiated: negotiated.clone(),
            fingerprint,
            candidates,
            active,
            etag: Mutex::new(etag.clone()),
        });
        inner.sessions().insert(token.clone(), session);
        let fanouts = open.fanouts;
        let run = Run {
            server: self.clone(),
            token: token.clone(),
            name,
            peer,
            negotiated,
            permit,
            fanouts,
            vhost,
            endpoint: open.endpoint,
        };
        tokio::spawn(run.run(entry));
        Ok(Opened { token, id: id.to_string(), answer: text, etag })
    }

    /// Ends a session.
    ///
    /// # Errors
    /// [`Refusal::Gone`].
    pub fn end(&self, token: &str) -> Result<(), Refusal> {
        let session = self.0.sessions().remove(token).ok_or(Refusal::Gone)?;
        session.peer.close();
        Ok(())
    }

    /// Takes a fragment (RFC 9725 4.3): candidates of the peer, which we don't need, or the beginning of ICE anew, which gives
    /// our fragment and the session's new tag. `of` is the tag that the peer takes the session to have; `None`: any.
    ///
    /// # Errors
    /// [`Refusal::Gone`], [`Refusal::Changed`], [`Refusal::Bad`].
    pub fn patch(
        &self,
        token: &str,
        of: Option<&str>,
        text: &str,
    ) -> Result<Option<(String, String)>, Refusal> {
        let session = self.0.sessions().get(token).cloned().ok_or(Refusal::Gone)?;
        let description = Description::parse_fragment(text)?;
        let first = description.sections.first();
        let find = |name: &str| {
            description.attribute(name).or_else(|| first.and_then(|section| section.attribute(name)))
        };
        let mut etag = session.etag.lock().unwrap_or_else(PoisonError::into_inner);
        if of.is_some_and(|of| of != etag.as_str()) {
            return Err(Refusal::Changed);
        }
        let (Some(ufrag), Some(pwd)) = (find("ice-ufrag"), find("ice-pwd")) else { return Ok(None) };
        let known = session.peer.remote();
        if known.ufrag == ufrag && known.pwd == pwd {
            return Ok(None);
        }
        if !is_ice(ufrag, 4) || !is_ice(pwd, 22) {
            return Err(Refusal::Bad("the fragment's a=ice-ufrag or a=ice-pwd can't be one".to_owned()));
        }
        let credentials = session.peer.restart(ufrag.to_owned(), pwd.to_owned())?;
        let ours = Ours {
            ufrag: &credentials.ufrag,
            pwd: &credentials.pwd,
            fingerprint: &session.fingerprint,
            active: session.active,
            candidates: &session.candidates,
            number: 0,
        };
        *etag = random_text::<8>()?;
        log::debug!("ICE of {} begins anew", session.name);
        Ok(Some((fragment(&session.negotiated, &ours), etag.clone())))
    }
}

impl Inner {
    fn sessions(&self) -> MutexGuard<'_, HashMap<String, Arc<Session>>> {
        self.sessions.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The tracks of a stream that is live, waiting for it as far as the configuration allows. Empty: not known yet.
    async fn tracks(&self, name: &StreamName, vhost: &Vhost) -> Result<Vec<Track>, Refusal> {
        let wait = match vhost.webrtc.wait {
            Wait::No => Duration::ZERO,
            Wait::For(time) => time.min(LONGEST_WAIT),
            Wait::Forever => LONGEST_WAIT,
        };
        let fetched = if self.hub.is_live(name) { None } else { self.hub.want(name) };
        let deadline = Instant::now() + fetched.map_or(wait, |least| wait.max(least));
        while !self.hub.is_live(name) {
            if Instant::now() >= deadline {
                return Err(HubError::NotLive(name.clone()).into());
            }
            tokio::time::sleep(LOOK).await;
        }
        if !vhost.webrtc.from_others
            && self.hub.publisher(name).is_some_and(|client| client.kind != ClientKind::RtcPublish)
        {
            return Err(Refusal::Off(format!(
                "{name} is published by another protocol, and such streams are not played by WebRTC (vhost.*.webrtc.from_others)"
            )));
        }
        let deadline = Instant::now() + TRACKS;
        loop {
            let tracks = self.hub.tracks(name);
            if !tracks.is_empty() || Instant::now() >= deadline || !self.hub.is_live(name) {
                return Ok(tracks);
            }
            tokio::time::sleep(LOOK).await;
        }
    }
}

/// How a session stands with the hub.
enum Entry {
    Play(Attendance),
    Publish(Admission),
}

/// What a session's task has.
struct Run {
    server: Server,
    token: String,
    name: StreamName,
    peer: Peer,
    negotiated: Negotiated,
    permit: Permit,
    fanouts: Fanouts,
    vhost: Arc<Vhost>,
    endpoint: Endpoint,
}

impl Run {
    async fn run(self, entry: Entry) {
        let Self { server, token, name, peer, negotiated, permit, fanouts, vhost, endpoint } = self;
        let inner = &server.0;
        match entry {
            Entry::Play(attendance) => {
                let config = &vhost.webrtc;
                let fanout =
                    FanoutOptions { from_others: config.from_others, keep_b_frames: config.keep_b_frames };
                let options = PlayOptions { fanout, nack: config.nack };
                let id = attendance.client().id;
                let told = {
                    let (peer, name) = (peer.clone(), name.clone());
                    async move {
                        if peer.connected().await.is_ok() {
                            log::info!(session:% = id; "rtc-play of {name} from {} started", shown(&peer));
                        }
                    }
                };
                tokio::join!(told, play(&fanouts, peer, negotiated, attendance, options));
            }
            Entry::Publish(admission) => {
                let id = admission.client().id;
                let options = PublishOptions {
                    to_others: vhost.webrtc.to_others,
                    key_frame_interval: vhost.webrtc.key_frame_interval,
                    nack: vhost.webrtc.nack,
                    timeout: server.config().webrtc.publish_timeout,
                };
                let (since, there) = (Instant::now(), peer.clone());
                let begin = || {
                    let publisher = inner.hub.publish(admission, Instant::now())?;
                    log::info!(session:% = id; "rtc-publish of {name} from {} started", shown(&there));
                    Ok((publisher, fanouts.passage(&name)))
                };
                let why = publish(&endpoint, peer, negotiated, begin, id, options).await;
                log::info!(session:% = id;
                    "rtc-publish of {name} ended after {:.1} s: {why}; {} bytes received",
                    since.elapsed().as_secs_f64(), there.traffic().received_bytes);
            }
        }
        inner.sessions().remove(&token);
        drop(permit);
    }
}

/// Where a peer is.
fn shown(peer: &Peer) -> String {
    let by = if peer.is_tcp() { " by TCP" } else { "" };
    peer.address().map_or_else(|| "somewhere".to_owned(), |address| format!("{address}{by}"))
}

/// Random letters: `BYTES` bytes of chance.
fn random_text<const BYTES: usize>() -> Result<String, WebRtcError> {
    let mut bytes = [0; BYTES];
    getrandom::getrandom(&mut bytes).map_err(|_| WebRtcError::Random)?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

/// Random numbers, of which few are needed.
struct Numbers([u8; 32], u32);

impl Numbers {
    fn new() -> Result<Self, WebRtcError> {
        let mut seed = [0; 32];
        getrandom::getrandom(&mut seed).map_err(|_| WebRtcError::Random)?;
        Ok(Self(seed, 0))
    }

    fn next(&mut self) -> u32 {
        let at = usize::try_from(self.1).unwrap_or(0) % 8 * 4;
        let (bytes, round) = (self.0.get(at..at + 4).unwrap_or_default(), self.1 / 8);
        self.1 = self.1.wrapping_add(1);
        let number = u32::from_be_bytes(bytes.try_into().unwrap_or_default());
        // Further rounds only have to differ.
        number.wrapping_add(round.wrapping_mul(0x9E37_79B9))
    }
}

/// Who asks, as candidates need it.
#[must_use]
pub fn asked(host: &str, peer: IpAddr, own: Vec<String>) -> Asked {
    Asked { host: host.to_owned(), peer: Some(peer), own }
}
