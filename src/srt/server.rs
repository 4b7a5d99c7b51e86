//! The server's skin: connections of an [`Endpoint`](super::endpoint::Endpoint) to the hub.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::sync::Semaphore;

use super::crypto::KeyLength;
use super::endpoint::{Connection, Incoming, Request};
use super::payloads::Payloads;
use super::publish::Sink;
use super::stream_id::{Mode, StreamId, StreamIdError};
use super::{Bandwidth, Options, Payload, Reject, SendError, SrtError};
use crate::config::{self, Config, Vhost};
use crate::format::mpegts::PACKET as PACKET_OF_TS;
use crate::hub::{
    Action, CREDENTIALS, Client, ClientKind, Hub, HubError, StreamName, SubscribeOptions, Subscription,
};
use crate::id::SessionId;
use crate::net::{ConnectionLimit, Permit};

/// Callers that are being asked about (access, callbacks) at a time. More are told to come again.
const MAX_ASKED: usize = 256;
/// What comes within so long goes to a player together: a tenth of the least latency in use, and a third of the work.
const MERGE: Duration = Duration::from_millis(10);
/// The log is told of a caller that was refused this often, at most.
const TELL: Duration = Duration::from_secs(1);
/// Payloads that are taken at once.
const BATCH: usize = 64;
/// Bytes that one packet of a buffer counts for, as in libsrt: a packet without IP and UDP.
const PACKET: usize = 1500 - 28;

/// What every connection needs.
#[derive(Clone)]
pub struct Context {
    /// The configuration as it stands.
    pub config: config::Shared,
    /// Where streams meet.
    pub hub: Hub,
    /// How many may be there.
    pub limit: ConnectionLimit,
}

/// Lets callers in until the endpoint is stopped; each then has a task of its own.
pub async fn serve(mut incoming: Incoming, context: Context) {
    let asked = Arc::new(Semaphore::new(MAX_ASKED));
    let refusals = Arc::new(Refusals::default());
    // Keys are made of passphrases one at a time, since that is made to take a while.
    let keys = Arc::new(Semaphore::new(1));
    while let Some(request) = incoming.next().await {
        match asked.clone().try_acquire_owned() {
            Ok(place) => {
                let (context, refusals, keys) = (context.clone(), refusals.clone(), keys.clone());
                tokio::spawn(async move {
                    let mut guest = Guest { id: SessionId::next(), context, refusals, keys };
                    if let Some(role) = guest.admit(request).await {
                        drop(place);
                        guest.run(role).await;
                    }
                });
            }
            Err(_) => request.reject(Reject::OVERLOAD),
        }
    }
}

/// A caller.
struct Guest {
    id: SessionId,
    context: Context,
    refusals: Arc<Refusals>,
    keys: Arc<Semaphore>,
}

/// What the log was told of callers that were refused: one packet is all that it takes to be one.
#[derive(Default)]
struct Refusals(Mutex<(Option<Instant>, u64)>);

impl Refusals {
    /// Whether to tell of one more, and how many were passed over since the last.
    fn tell(&self, now: Instant) -> Option<u64> {
        let mut told = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if told.0.is_some_and(|at| now < at + TELL) {
            told.1 += 1;
            return None;
        }
        let silent = told.1;
        *told = (Some(now), 0);
        Some(silent)
    }
}

/// What a caller was let in for.
enum Role {
    Play { connection: Connection, subscription: Box<Subscription>, permit: Permit },
    Publish { connection: Connection, sink: Box<Sink>, name: StreamName, timeout: Duration, permit: Permit },
}

/// Why a caller was not let in, for it and for the log.
struct Refusal(Reject, String);

impl From<StreamIdError> for Refusal {
    fn from(error: StreamIdError) -> Self {
        let reason = match error {
            StreamIdError::Mode(_) => Reject::BAD_MODE,
            _ => Reject::BAD_REQUEST,
        };
        Self(reason, error.to_string())
    }
}

impl From<HubError> for Refusal {
    fn from(error: HubError) -> Self {
        let reason = match &error {
            HubError::Busy { .. } => Reject::CONFLICT,
            HubError::Denied(denied) if denied.by == CREDENTIALS => Reject::UNAUTHORIZED,
            HubError::Denied(_) | HubError::Disabled(_) => Reject::FORBIDDEN,
            HubError::NotLive(_) => Reject::NOT_FOUND,
            HubError::Stopping => Reject::DOWN,
            HubError::TooManyStreams(_) => Reject::OVERLOAD,
        };
        Self(reason, error.to_string())
    }
}

impl Guest {
    async fn admit(&mut self, request: Request) -> Option<Role> {
        let (peer, version) = (request.peer(), request.version());
        let version = format!("{}.{}.{}", version >> 16 & 0xFF, version >> 8 & 0xFF, version & 0xFF);
        log::debug!(session:% = self.id; "SRT caller {peer}, version {version}");
        match self.ask(request).await {
            Ok(role) => Some(role),
            Err((request, Refusal(reason, why))) => {
                match self.refusals.tell(Instant::now()) {
                    None => log::debug!(session:% = self.id; "SRT caller {peer} refused: {why}"),
                    Some(0) => log::warn!(session:% = self.id; "SRT caller {peer} refused: {why}"),
                    Some(n) => {
                        log::warn!(session:% = self.id; "SRT caller {peer} refused: {why}; and {n} more before");
                    }
                }
                if let Some(request) = request {
                    request.reject(reason);
                }
                None
            }
        }
    }

    async fn ask(&mut self, request: Request) -> Result<Role, (Option<Request>, Refusal)> {
        let peer = request.peer();
        let permit = match self.context.limit.permit(peer.ip()) {
            Ok(permit) => permit,
            Err(full) => return Err((Some(request), Refusal(Reject::OVERLOAD, full.to_string()))),
        };
        let (hub, config) = (self.context.hub.clone(), self.context.config.current());
        let wanted = wanted(&config, request.stream_id()).and_then(|id| {
            let name = hub.name(&id.vhost, &id.app, &id.stream);
            let name = name.map_err(|error| Refusal(Reject::BAD_REQUEST, error.to_string()))?;
            let vhost = config.vhost(&name.vhost, &name.app, &name.stream).clone();
            if !vhost.srt.enabled {
                return Err(Refusal(Reject::FORBIDDEN, format!("{name} is not there by SRT (srt.enabled)")));
            }
            Ok((id, name, vhost))
        });
        let (id, name, vhost) = match wanted {
            Ok(wanted) => wanted,
            Err(refusal) => return Err((Some(request), refusal)),
        };
        let (action, kind) = match id.mode {
            Mode::Play => (Action::Play, ClientKind::SrtPlay),
            Mode::Publish => (Action::Publish, ClientKind::SrtPublish),
        };
        let mut client = Client::new(self.id, kind, peer);
        client.asked.clone_from(&id.stream);
        client.params.clone_from(&id.params);
        client.tc_url = format!("srt://{}/{}", name.vhost, name.app);
        let admission = match hub.admit(action, &name, client).await {
            Ok(admission) => admission,
            Err(error) => return Err((Some(request), error.into())),
        };

        let options = options(&config, &vhost, id.mode);
        let now = Instant::now();
        let srt = &config.srt;
        match id.mode {
            Mode::Play => {
                let payloads = Payloads::new(srt.payload_size, srt.mss, vhost.srt.pass_through);
                let wanted = SubscribeOptions { key: payloads.key(), wait: vhost.srt.wait };
                let subscription = hub.subscribe(admission, wanted, || Box::new(payloads), now);
                let subscription = match subscription {
                    Ok(subscription) => Box::new(subscription),
                    Err(error) => return Err((Some(request), error.into())),
                };
                let connection = self.accept(request, options).await?;
                log::info!(session:% = self.id; "srt-play of {name} from {peer} started{}", secured(&connection));
                Ok(Role::Play { connection, subscription, permit })
            }
            Mode::Publish => {
                // Before it is let in, so that it learns why not; it takes nobody's place before its passphrase is right.
                if let Err(error) = hub.may_publish(&admission, now) {
                    return Err((Some(request), error.into()));
                }
                let connection = self.accept(request, options).await?;
                let publisher = hub.publish(admission, now).map_err(|error| (None, error.into()))?;
                let sink = Sink::new(publisher, self.id, vhost.srt.pass_through, srt.sei_filter);
                log::info!(session:% = self.id; "srt-publish of {name} from {peer} started{}", secured(&connection));
                Ok(Role::Publish {
                    connection,
                    sink: Box::new(sink),
                    name,
                    timeout: srt.publish_timeout,
                    permit,
                })
            }
        }
    }

    /// Lets it in, if its passphrase is right.
    async fn accept(
        &self,
        request: Request,
        options: Options,
    ) -> Result<Connection, (Option<Request>, Refusal)> {
        if !request.is_encrypted() {
            return request.accept(&options).map_err(|error| refused(&error));
        }
        let turn = self.keys.clone().acquire_owned().await;
        let accept = move || {
            let _turn = turn;
            request.accept(&options)
        };
        match tokio::task::spawn_blocking(accept).await {
            Ok(accepted) => accepted.map_err(|error| refused(&error)),
            Err(_) => Err((None, Refusal(Reject::SYSTEM, "its passphrase could not be verified".to_owned()))),
        }
    }

    async fn run(self, role: Role) {
        match role {
            Role::Play { connection, subscription, permit } => {
                self.play(connection, *subscription).await;
                drop(permit);
            }
            Role::Publish { connection, sink, name, timeout, permit } => {
                self.publish(connection, *sink, &name, timeout).await;
                drop(permit);
            }
        }
    }

    async fn play(&self, mut connection: Connection, mut subscription: Subscription) {
        let mut given_up = 0_u64;
        let merge = match self.context.config.current().delivery.merge_window {
            config::MergeWindow::Auto => MERGE,
            config::MergeWindow::Fixed(window) => window.min(MERGE),
        };
        let mut ready = tokio::time::Instant::now();
        // Whole transport packets.
        let most = connection.max_payload() / PACKET_OF_TS * PACKET_OF_TS;
        let why = loop {
            if most == 0 {
                break "its packets (mss) are too small for a transport stream";
            }
            let next = async {
                tokio::time::sleep_until(ready).await;
                subscription.next().await
            };
            tokio::select! {
                batch = next => {
                    ready = tokio::time::Instant::now() + merge;
                    let Some(mut batch) = batch else { break "the stream ended" };
                    if batch.iter().any(|payload| payload.len() > most) {
                        batch = batch.iter().flat_map(|payload| pieces(payload, most)).collect();
                    }
                    match connection.send_many(&batch, Instant::now()) {
                        Ok(()) => {}
                        Err(SendError::Ended) => break connection.ended().map_or("closed", |end| end.text()),
                        Err(_) => given_up += 1,
                    }
                }
                end = connection.wait_end() => break end.text(),
            }
        };
        let figures = connection.statistics();
        log::debug!(session:% = self.id;
            "sent {} packets, {} of them again, {} given up as too late, {given_up} times the buffer was full; round trip {:.1} ms",
            figures.pkt_sent_total, figures.pkt_retrans_total, figures.pkt_snd_drop_total, figures.ms_rtt);
        connection.close();
        subscription.finish(why);
    }

    async fn publish(
        &self,
        mut connection: Connection,
        mut sink: Sink,
        name: &StreamName,
        timeout: Duration,
    ) {
        let since = Instant::now();
        let mut heard = since;
        let timer = tokio::time::sleep(timeout);
        tokio::pin!(timer);
        let mut payloads: Vec<Payload> = Vec::with_capacity(BATCH);
        let why = loop {
            tokio::select! {
                count = connection.receive_many(&mut payloads, BATCH) => {
                    if count == 0 {
                        break connection.ended().map_or("closed", |end| end.text()).to_owned();
                    }
                    heard = Instant::now();
                    let batch: Vec<Bytes> =
                        payloads.drain(..).map(|payload| payload.data).filter(|data| !data.is_empty()).collect();
                    if !batch.is_empty() && let Err(why) = sink.push(batch, heard) {
                        break why.to_string();
                    }
                }
                why = sink.ended() => break why.to_string(),
                () = &mut timer => {
                    let due = heard + timeout;
                    if due <= Instant::now() {
                        break format!("it sent nothing for {} s", timeout.as_secs());
                    }
                    timer.as_mut().reset(due.into());
                }
            }
        };
        let now = Instant::now();
        let (figures, counters) = (connection.statistics(), sink.counters());
        log::info!(session:% = self.id;
            "srt-publish of {name} ended after {:.1} s: {why}; {} bytes received, {} packets lost, {} of them for good, {} gaps in \
             the transport stream",
            now.saturating_duration_since(since).as_secs_f64(), sink.received(), figures.pkt_rcv_loss_total,
            figures.pkt_rcv_drop_total, counters.lost);
        sink.finish(now);
        connection.close();
    }
}

/// A payload in parts of up to `most` bytes.
fn pieces(payload: &Bytes, most: usize) -> impl Iterator<Item = Bytes> {
    let parts = (0..payload.len()).step_by(most.max(1));
    parts.map(move |at| payload.slice(at..payload.len().min(at.saturating_add(most))))
}

/// What was told to the peer already.
fn refused(error: &SrtError) -> (Option<Request>, Refusal) {
    let reason = if let SrtError::Refused(reason) = error { *reason } else { Reject::RESOURCE };
    (None, Refusal(reason, error.to_string()))
}

fn secured(connection: &Connection) -> &'static str {
    if connection.is_encrypted() { ", encrypted" } else { "" }
}

/// The stream that a caller wants.
fn wanted(config: &Config, text: &str) -> Result<StreamId, Refusal> {
    let text = if text.is_empty() { &config.srt.empty_stream_id } else { text };
    Ok(StreamId::parse(text, &config.srt.default_app)?)
}

/// How a session is to be.
fn options(config: &Config, vhost: &Vhost, mode: Mode) -> Options {
    let srt = &config.srt;
    let passphrase = passphrase(config, vhost, mode);
    let packets = |size: config::Size| (size.bytes() / PACKET).max(32);
    Options {
        passphrase: (!passphrase.is_empty()).then(|| passphrase.to_owned()),
        key_length: usize::try_from(srt.key_length).ok().and_then(KeyLength::of),
        receive_latency: srt.latency,
        peer_latency: srt.peer_latency,
        tsbpd: srt.tsbpd,
        drop_late: srt.too_late_drop,
        loss_max_ttl: srt.reorder_tolerance,
        bandwidth: match srt.max_bandwidth {
            config::Bandwidth::Fixed(size) => Bandwidth::Fixed(size.count()),
            config::Bandwidth::Input => Bandwidth::Input { rate: None, overhead: srt.overhead },
            config::Bandwidth::Unlimited => Bandwidth::Unlimited,
        },
        connect_timeout: srt.connect_timeout,
        idle_timeout: srt.peer_idle_timeout,
        send_buffer: packets(srt.send_buffer),
        receive_buffer: packets(srt.receive_buffer),
        mss: srt.mss,
        ..Options::default()
    }
}

#[cfg_attr(not(feature = "access"), allow(unused_variables, reason = "one passphrase for all"))]
fn passphrase<'a>(config: &'a Config, vhost: &'a Vhost, mode: Mode) -> &'a str {
    #[cfg(feature = "access")]
    {
        let own = match mode {
            Mode::Play => &vhost.access.srt_play_passphrase,
            Mode::Publish => &vhost.access.srt_publish_passphrase,
        };
        if !own.is_empty() {
            return own.expose();
        }
    }
    config.srt.passphrase.expose()
}
