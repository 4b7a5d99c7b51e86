//! Callbacks: HTTP requests to a server of the operator's, in SRS's words (SRS `http_hooks`, `heartbeat`).
//!
//! | callback | when | effect of a failure |
//! |---|---|---|
//! | `on_connect` | an RTMP session wants to publish or play | it is refused |
//! | `on_publish`, `on_play` | anybody wants to, by any protocol | it is refused |
//! | `on_forward` | someone publishes, with `relay` | the stream is forwarded nowhere, and it is asked again |
//! | `on_unpublish`, `on_stop` | who was let in has gone | none |
//! | `on_close` | an RTMP session that passed `on_connect` has gone | none |
//! | `on_dvr`, `on_hls`, `on_hls_notify` | a recording or a segment is complete | none |
//! | `heartbeat` | each `heartbeat.interval` | none |
//!
//! **Who asks** is a gate of the hub ([`Gate`]), so that it is the same for all protocols. Passed is what is answered with 200
//! or 201 and `0` or `{"code":0}`; all URLs of a callback are asked in order, and all have to pass. Who is refused, or goes
//! away before, does not get in; nothing else waits for that.
//!
//! **A server that hangs** costs each newcomer `timeout` and is then a no. So that thousands of newcomers cost little, at
//! most [`AT_ONCE`] requests go to one URL at a time, and the others wait for their turn, no longer than `timeout`, too.
//! There is no circuit breaker, on purpose: after some time-outs it would have to refuse people without asking, and a
//! server that is back a second later would have let them in. A no from us is always the outcome of a question, or of
//! having waited for one for the whole time that a question may take.
//!
//! **What nobody waits for** goes through a queue a URL (`queue`), is tried again (`retries`) when there
//! was no answer or the server said that it has trouble (429, 5xx), and comes in the order in which it happened. When the
//! server stops, what is queued is still tried once, within `server.shutdown_timeout`.
//!
//! **In pairs**: to each `on_publish` that passed there is one `on_unpublish`, to each `on_play` one `on_stop`, also
//! where a client goes away while the question is asked, or the stream turns out to be busy.

mod body;
mod call;
mod heartbeat;
mod queue;
mod stats;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use portable_atomic::Ordering;
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::{Notify, Semaphore};

use self::body::Who;
use self::call::{Call, Failure, MAX_ANSWER};
use self::queue::Queue;
pub use self::stats::{CLASSES_MS, Count, Hook, Stats};
use crate::config::{self, Config, Vhost};
use crate::hub::{
    Action, Ask, Client as Player, ClientKind, Denied, Event, Gate, Hub, StreamName, Traffic, Verdict,
};
use crate::net::http::{Client, Url};

/// The most requests to one URL at a time that someone waits for to get in.
pub const AT_ONCE: usize = 64;
/// How long a CDN may take to answer `on_hls_notify` (SRS's).
const NOTIFY_TIMEOUT: Duration = Duration::from_secs(10);

/// What makes the callbacks. One for the server.
pub struct Hooks {
    hub: Hub,
    config: config::Shared,
    client: Arc<Client>,
    stats: Arc<Stats>,
    queue: Arc<Queue>,
    /// Who asks a URL at the moment.
    turns: Mutex<HashMap<String, Arc<Semaphore>>>,
    /// The configuration has changed.
    changed: Notify,
    since: Instant,
}

impl Hooks {
    /// To be called within the runtime that is to make the callbacks. Needs [`run`](Self::run), and to be a gate of the hub.
    #[must_use]
    pub fn new(hub: Hub, config: config::Shared) -> Arc<Self> {
        let client = Arc::new(Client::new(config.current().tls.ca.clone()));
        let stats = Arc::<Stats>::default();
        let queue = Queue::new(client.clone(), stats.clone());
        let (turns, changed, since) = (Mutex::default(), Notify::new(), Instant::now());
        Arc::new(Self { hub, config, client, stats, queue, turns, changed, since })
    }

    /// What became of the callbacks so far.
    #[must_use]
    pub fn stats(&self) -> Arc<Stats> {
        self.stats.clone()
    }

    /// Makes callbacks of what happens to streams, and heartbeats, for ever.
    pub async fn run(self: Arc<Self>) {
        tokio::join!(self.follow(), self.beat());
    }

    /// The configuration in the shared place is another one.
    pub fn reloaded(&self) {
        let config = self.config.current();
        self.client.set_ca(config.tls.ca.clone());
        let used: Vec<&String> = config.vhost.all().flat_map(|vhost| asked(&vhost.hooks)).collect();
        let mut turns = self.turns.lock().unwrap_or_else(PoisonError::into_inner);
        turns.retain(|url, _| used.contains(&url));
        drop(turns);
        self.changed.notify_one();
    }

    /// The server stops: what is queued is tried once.
    pub fn stop(&self) {
        self.queue.stop();
    }

    /// Whether there are callbacks to be made yet.
    #[must_use]
    pub fn busy(&self) -> bool {
        self.queue.busy()
    }

    async fn follow(&self) {
        let mut events = self.hub.events();
        loop {
            match events.recv().await {
                Ok(event) => self.event(&event),
                Err(RecvError::Lagged(lost)) => log::warn!("callbacks: {lost} events of streams were lost"),
                Err(RecvError::Closed) => return,
            }
        }
    }

    fn event(&self, event: &Event) {
        match event {
            Event::Recorded(made) => {
                self.tell(&made.name, made.client.as_ref(), |vhost, who| {
                    self.queue_all(vhost, Hook::OnDvr, &vhost.hooks.on_dvr, || who.on_dvr(made));
                });
            }
            Event::Segment(made) => {
                self.tell(&made.name, made.client.as_ref(), |vhost, who| {
                    self.queue_all(vhost, Hook::OnHls, &vhost.hooks.on_hls, || who.on_hls(made));
                    for template in &vhost.hooks.on_hls_notify {
                        let call = Call {
                            hook: Hook::OnHlsNotify,
                            url: who.on_hls_notify(template, made),
                            body: Bytes::new(),
                            timeout: NOTIFY_TIMEOUT,
                            most: vhost.hls.notify_bytes as usize,
                        };
                        self.queue.push(template, call, vhost.hooks.retries, vhost.hooks.queue as usize);
                    }
                });
            }
            _ => {}
        }
    }

    fn tell(&self, name: &StreamName, client: Option<&Player>, tell: impl FnOnce(&Vhost, &Who<'_>)) {
        let config = self.config.current();
        let vhost = config.vhost(&name.vhost, &name.app, &name.stream);
        if vhost.hooks.enabled {
            tell(vhost, &Who { name, stream_id: &self.hub.stream_id(name), client });
        }
    }

    /// Has a callback made that nobody waits for.
    fn queue_all(&self, vhost: &Vhost, hook: Hook, urls: &[String], body: impl FnOnce() -> String) {
        if urls.is_empty() {
            return;
        }
        let body = Bytes::from(body());
        for url in urls {
            let call = Call {
                hook,
                url: url.clone(),
                body: body.clone(),
                timeout: vhost.hooks.timeout,
                most: MAX_ANSWER,
            };
            self.queue.push(url, call, vhost.hooks.retries, vhost.hooks.queue as usize);
        }
    }

    /// Asks all URLs; the first no is the answer.
    async fn ask_all(
        &self,
        hook: Hook,
        urls: &[String],
        timeout: Duration,
        ask: &Ask,
        body: impl FnOnce() -> String,
    ) -> Result<(), Denied> {
        if urls.is_empty() {
            return Ok(());
        }
        let body = Bytes::from(body());
        for url in urls {
            let call = Call { hook, url: url.clone(), body: body.clone(), timeout, most: MAX_ANSWER };
            let Err(failure) = self.ask_one(&call).await else { continue };
            // Whom we ask is for the log alone.
            log::warn!(session:% = ask.client.id; "{} for {}: {}", hook.as_str(), ask.name, failure.text());
            let why = match failure {
                Failure::Refused(_) => "not let in",
                Failure::NoAnswer(_) => "nobody could say whether it may",
            };
            return Err(Denied { why: why.to_owned(), by: hook.as_str() });
        }
        Ok(())
    }

    async fn ask_one(&self, call: &Call) -> Result<(), Failure> {
        let turn = self.turn(&call.url);
        let Ok(turn) = tokio::time::timeout(call.timeout, turn.acquire()).await else {
            self.stats.of(call.hook).failed.fetch_add(1, Ordering::Relaxed);
            let server = Url::parse(&call.url).map(|url| url.server()).unwrap_or_default();
            let text = format!(
                "{server} has {AT_ONCE} questions to answer, and answered none for {:?}",
                call.timeout
            );
            return Err(Failure::NoAnswer(text));
        };
        let result = call::make(&self.client, &self.stats, call).await;
        drop(turn);
        result
    }

    fn turn(&self, url: &str) -> Arc<Semaphore> {
        let mut turns = self.turns.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(turn) = turns.get(url) {
            return turn.clone();
        }
        let turn = Arc::new(Semaphore::new(AT_ONCE));
        turns.insert(url.to_owned(), turn.clone());
        turn
    }

    async fn decide(&self, ask: &Ask) -> Result<(), Denied> {
        let name = &ask.name;
        let config = self.config.current();
        let hooks = &config.vhost(&name.vhost, &name.app, &name.stream).hooks;
        if !hooks.enabled {
            return Ok(());
        }
        let who = who(ask);
        // Tells that it is gone, if it doesn't get in.
        let mut entering = Entering { hooks: self, ask, connected: false, asked: false };
        if connects(ask.client.kind) {
            self.ask_all(Hook::OnConnect, &hooks.on_connect, hooks.timeout, ask, || who.on_connect()).await?;
            entering.connected = true;
        }
        // Whoever goes away while the answer is on its way may have been let in.
        entering.asked = true;
        let verdict = match ask.action {
            Action::Play => {
                self.ask_all(Hook::OnPlay, &hooks.on_play, hooks.timeout, ask, || who.on_play()).await
            }
            _ => {
                let body = || who.on_stream("on_publish");
                self.ask_all(Hook::OnPublish, &hooks.on_publish, hooks.timeout, ask, body).await
            }
        };
        entering.asked = false;
        entering.connected &= verdict.is_err();
        verdict
    }

    /// `on_unpublish` or `on_stop`.
    fn queue_gone(&self, ask: &Ask) {
        self.tell(&ask.name, Some(&ask.client), |vhost, who| match ask.action {
            Action::Play => {
                self.queue_all(vhost, Hook::OnStop, &vhost.hooks.on_stop, || who.on_stream("on_stop"));
            }
            _ => {
                let body = || who.on_stream("on_unpublish");
                self.queue_all(vhost, Hook::OnUnpublish, &vhost.hooks.on_unpublish, body);
            }
        });
    }

    fn queue_close(&self, ask: &Ask, traffic: Traffic) {
        if connects(ask.client.kind) {
            self.tell(&ask.name, Some(&ask.client), |vhost, who| {
                self.queue_all(vhost, Hook::OnClose, &vhost.hooks.on_close, || who.on_close(traffic));
            });
        }
    }
}

#[cfg(feature = "relay")]
impl crate::hub::Destinations for Hooks {
    fn ask(&self, name: &StreamName, client: &Player) -> Option<crate::hub::Asking> {
        let config = self.config.current();
        let vhost = config.vhost(&name.vhost, &name.app, &name.stream);
        let url = vhost.forward.backend.clone();
        if url.is_empty() {
            return None;
        }
        let stream_id = self.hub.stream_id(name);
        let body = Who { name, stream_id: &stream_id, client: Some(client) }.on_forward();
        let call = Call {
            hook: Hook::OnForward,
            url,
            body: body.into(),
            timeout: vhost.hooks.timeout,
            most: MAX_ANSWER,
        };
        let (client, stats) = (self.client.clone(), self.stats.clone());
        Some(Box::pin(async move {
            call::destinations(&client, &stats, &call).await.map_err(|failure| failure.text().to_owned())
        }))
    }
}

impl Gate for Hooks {
    fn admit<'a>(&'a self, ask: &'a Ask) -> Verdict<'a> {
        Box::pin(self.decide(ask))
    }

    fn guards(&self, action: Action, name: &StreamName) -> bool {
        let config = self.config.current();
        let hooks = &config.vhost(&name.vhost, &name.app, &name.stream).hooks;
        let urls = if action == Action::Play { &hooks.on_play } else { &hooks.on_publish };
        hooks.enabled && !urls.is_empty()
    }

    fn left(&self, ask: &Ask, traffic: Traffic) {
        self.queue_gone(ask);
        self.queue_close(ask, traffic);
    }
}

/// Someone of whom is asked. What was said of it is taken back if it goes away or is refused.
struct Entering<'a> {
    hooks: &'a Hooks,
    ask: &'a Ask,
    connected: bool,
    asked: bool,
}

impl Drop for Entering<'_> {
    fn drop(&mut self) {
        if self.asked {
            self.hooks.queue_gone(self.ask);
        }
        if self.connected {
            self.hooks.queue_close(self.ask, Traffic::default());
        }
    }
}

impl std::fmt::Debug for Hooks {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Hooks")
    }
}

fn who(ask: &Ask) -> Who<'_> {
    Who { name: &ask.name, stream_id: &ask.stream_id, client: Some(&ask.client) }
}

/// Whether SRS tells of the connections of this kind, too.
fn connects(kind: ClientKind) -> bool {
    use ClientKind::{FlashPublish, FmlePublish, HaivisionPublish, RtmpPlay};
    matches!(kind, FlashPublish | FmlePublish | HaivisionPublish | RtmpPlay)
}

/// The URLs that newcomers wait for.
fn asked(hooks: &config::Hooks) -> impl Iterator<Item = &String> {
    hooks.on_connect.iter().chain(&hooks.on_publish).chain(&hooks.on_play)
}

/// What is wrong with the URLs of a configuration, if anything is: key and reason.
///
/// # Errors
///
/// The key, the URL and what is wrong with it.
pub fn check(config: &Config) -> Result<(), String> {
    let parse = |key: &str, url: &str| Url::parse(url).map(drop).map_err(|error| format!("{key}: {error}"));
    for vhost in config.vhost.all().filter(|vhost| vhost.hooks.enabled) {
        let hooks = &vhost.hooks;
        let lists = [
            ("on_connect", &hooks.on_connect),
            ("on_close", &hooks.on_close),
            ("on_publish", &hooks.on_publish),
            ("on_unpublish", &hooks.on_unpublish),
            ("on_play", &hooks.on_play),
            ("on_stop", &hooks.on_stop),
            ("on_dvr", &hooks.on_dvr),
            ("on_hls", &hooks.on_hls),
        ];
        for (key, urls) in lists {
            urls.iter().try_for_each(|url| parse(&format!("vhost.*.hooks.{key}"), url))?;
        }
        let names = ["server_id", "service_id", "app", "stream", "ts_url", "param"].map(|name| (name, "x"));
        for url in &hooks.on_hls_notify {
            parse("vhost.*.hooks.on_hls_notify", &body::fill(url, &names))?;
        }
    }
    #[cfg(feature = "relay")]
    for vhost in config.vhost.all().filter(|vhost| !vhost.forward.backend.is_empty()) {
        parse("vhost.*.forward.backend", &vhost.forward.backend)?;
    }
    if config.heartbeat.enabled { parse("heartbeat.url", &config.heartbeat.url) } else { Ok(()) }
}
