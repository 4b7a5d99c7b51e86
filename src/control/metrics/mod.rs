//! Figures for Prometheus: SRS's ten by their names, and our own.
//!
//! `/metrics` where the API listens, and where `metrics.listen` says (SRS's exporter: 9972), in Prometheus' text form, or that
//! of OpenMetrics 1.0 to whoever prefers it. Who may administer may read it; where `metrics.anonymous` says so, everybody who
//! reaches `metrics.listen`.
//!
//! | of | figures |
//! |---|---|
//! | SRS | `srs_…`, as its exporter has them |
//! | streams | `rillbox_stream_…{vhost,app,stream}`, of `metrics.max_streams`; the others together are `other` |
//! | sessions | by protocol: how many, bytes, how long |
//! | callbacks | by callback: outcome, how long, what waits |
//! | the process | `process_…`, delivery, memory |
//!
//! A page is made when someone asks, in one go: nothing runs for it. It is bounded: labels other than streams have few
//! values, streams are bounded by number and by bytes.

mod page;
mod process;
mod streams;
#[cfg(test)]
mod tests;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use hyper::header::{self, HeaderValue};
use hyper::{Method, Response};
use portable_atomic::{AtomicU64, Ordering};

use self::page::{Kind, Page, labels};
use self::process::Process;
use self::streams::Others;
use crate::config::{self, Config};
#[cfg(feature = "hooks")]
use crate::control::hooks::{self, Hook};
use crate::control::system::resident_kib;
use crate::hub::{Action, Ask, ClientKind, Gate, Hub, StreamName, StreamStats, Traffic, Verdict};
use crate::id::Instance;
use crate::net::http::{Body, Boxed, Head, Outcome, Peer, Reply, Request, Service, not_allowed};

/// Where it is.
const PATH: &str = "/metrics";
/// Upper ends of the classes of how long sessions last, in seconds.
const SESSION_ENDS: [u64; 8] = [1, 10, 60, 300, 1800, 3600, 21_600, 86_400];

/// What gathers figures. A clone is another handle to the same.
#[derive(Clone)]
pub struct Metrics(Arc<Inner>);

struct Inner {
    hub: Hub,
    config: config::Shared,
    #[cfg(feature = "access")]
    access: Arc<crate::access::Access>,
    #[cfg(feature = "hooks")]
    callbacks: Arc<hooks::Stats>,
    process: Process,
    /// Of sessions that have ended, by kind.
    ended: [Ended; ClientKind::ALL.len()],
    /// What was said before, of what must not fall.
    said: Mutex<Said>,
}

#[derive(Default)]
struct Ended {
    classes: [AtomicU64; SESSION_ENDS.len() + 1],
    total_ms: AtomicU64,
    sent: AtomicU64,
    received: AtomicU64,
}

#[derive(Default)]
struct Said {
    others: Others,
    /// Sent and received, by kind.
    traffic: [Traffic; ClientKind::ALL.len()],
}

impl Metrics {
    /// Figures of what `hub` has. It is to be one of the hub's gates, and refuses nobody.
    #[must_use]
    pub fn new(
        hub: Hub,
        config: config::Shared,
        #[cfg(feature = "access")] access: Arc<crate::access::Access>,
        #[cfg(feature = "hooks")] callbacks: Arc<hooks::Stats>,
    ) -> Self {
        Self(Arc::new(Inner {
            hub,
            config,
            #[cfg(feature = "access")]
            access,
            #[cfg(feature = "hooks")]
            callbacks,
            process: Process::default(),
            ended: Default::default(),
            said: Mutex::default(),
        }))
    }

    /// What answers requests. `own`: at the doors of `metrics.listen`.
    #[must_use]
    pub fn service(&self, own: bool) -> Scrape {
        Scrape { metrics: self.clone(), own }
    }

    /// The gate that sees sessions end.
    #[must_use]
    pub fn gate(&self) -> Arc<dyn Gate> {
        Arc::new(self.clone())
    }

    /// The page.
    fn page(&self, open_metrics: bool, now: Instant) -> String {
        let inner = &*self.0;
        let config = inner.config.current();
        let streams = inner.hub.stats(now);
        let mut said = inner.said.lock().unwrap_or_else(PoisonError::into_inner);
        // Streams take most of it.
        let most = config.metrics.max_streams as usize;
        let mut page = Page::new(open_metrics, 16 * 1024 + streams.len().min(most) * 2048);
        self.srs(&mut page, &config, &streams);
        let ring_bytes: usize = streams.iter().map(|stream| stream.ring_bytes).sum();
        self.sessions(&mut page, &mut said, &streams);
        streams::write(&mut page, streams, most, &mut said.others);
        drop(said);
        #[cfg(feature = "hooks")]
        self.callbacks(&mut page);
        let about = "Memory that the past of all streams takes.";
        page.single("rillbox_ring_bytes", Kind::Gauge, about, ring_bytes);
        let about =
            "How long what is new may wait now before it is written to readers; the longest of all threads.";
        let window = inner.hub.delivery_window();
        page.single("rillbox_delivery_window_seconds", Kind::Gauge, about, window.as_secs_f64());
        inner.process.write(&mut page);
        page.finish()
    }

    /// SRS's ten, in its order and with its words.
    fn srs(&self, page: &mut Page, config: &Config, streams: &[StreamStats]) {
        let totals = self.0.hub.totals();
        let uname = process::uname();
        let about = "Labeled system information as provided by the uname system call.";
        page.family("srs_node_uname_info", Kind::Gauge, about);
        let [sysname, nodename, release, version, machine] = &uname;
        let pairs = [
            ("sysname", sysname.as_str()),
            ("nodename", nodename),
            ("release", release),
            ("version", version),
            ("machine", machine),
        ];
        page.sample(&labels(&pairs), 1);
        let about =
            "A metric with a constant '1' value labeled by build_date, version from which SRS was built.";
        page.family("srs_build_info", Kind::Gauge, about);
        let instance = Instance::get();
        let pid = instance.pid.to_string();
        let mut pairs = vec![
            ("server", instance.server.as_str()),
            ("service", &instance.service),
            ("pid", &pid),
            ("build_date", option_env!("RILLBOX_BUILD_DATE").unwrap_or("unknown")),
            ("major", env!("CARGO_PKG_VERSION_MAJOR")),
            ("version", env!("CARGO_PKG_VERSION")),
            ("code", "Rillbox"),
        ];
        for (name, value) in [("label", &config.metrics.label), ("tag", &config.metrics.tag)] {
            if !value.is_empty() {
                pairs.push((name, value));
            }
        }
        page.sample(&labels(&pairs), 1);
        let published = streams.iter().filter(|stream| stream.publisher.is_some()).count();
        page.single("srs_cpu_percent", Kind::Gauge, "SRS cpu used percent.", self.0.process.cpu_percent());
        page.single("srs_memory", Kind::Gauge, "SRS memory used.", resident_kib());
        page.single("srs_send_bytes_total", Kind::Counter, "SRS total sent bytes.", totals.sent);
        page.single("srs_receive_bytes_total", Kind::Counter, "SRS total received bytes.", totals.received);
        page.single("srs_streams", Kind::Gauge, "The number of SRS concurrent streams.", published);
        page.single("srs_clients", Kind::Gauge, "The number of SRS concurrent clients.", totals.clients);
        let about = "The total counts of SRS clients.";
        page.single("srs_clients_total", Kind::LoneCounter, about, totals.admitted);
        let about = "The total errors of SRS clients.";
        page.single("srs_clients_errs_total", Kind::Counter, about, totals.denied);
    }

    /// By protocol.
    fn sessions(&self, page: &mut Page, said: &mut Said, streams: &[StreamStats]) {
        let kinds: Vec<String> =
            ClientKind::ALL.iter().map(|kind| labels(&[("protocol", kind.as_str())])).collect();
        let mut counts = [0_u64; ClientKind::ALL.len()];
        for stream in streams {
            let readers = stream.readers.iter().map(|(kind, count)| (*kind, u64::from(*count)));
            let publisher = stream.publisher.iter().map(|client| (client.kind, 1));
            for (kind, count) in readers.filter(|(kind, _)| kind.reads()).chain(publisher) {
                if let Some(sum) = counts.get_mut(kind as usize) {
                    *sum += count;
                }
            }
        }
        page.family("rillbox_sessions", Kind::Gauge, "Publishers and readers there now, by protocol.");
        kinds.iter().zip(counts).for_each(|(labels, count)| page.sample(labels, count));

        let load = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let mut traffic = self.0.ended.each_ref().map(|ended| (load(&ended.sent), load(&ended.received)));
        self.0.hub.each_client(|ask, now| {
            if let Some((sent, received)) = traffic.get_mut(ask.client.kind as usize) {
                *sent = sent.saturating_add(now.sent);
                *received = received.saturating_add(now.received);
            }
        });
        // Who ends between the two is missing for a moment; a counter must not fall for that.
        for (said, (sent, received)) in said.traffic.iter_mut().zip(traffic) {
            said.sent = said.sent.max(sent);
            said.received = said.received.max(received);
        }
        page.family(
            "rillbox_sessions_sent_bytes_total",
            Kind::Counter,
            "Bytes sent to readers, by protocol.",
        );
        kinds.iter().zip(&said.traffic).for_each(|(labels, traffic)| page.sample(labels, traffic.sent));
        let name = "rillbox_sessions_received_bytes_total";
        page.family(name, Kind::Counter, "Media bytes received from publishers, by protocol.");
        kinds.iter().zip(&said.traffic).for_each(|(labels, traffic)| page.sample(labels, traffic.received));

        let name = "rillbox_session_duration_seconds";
        page.family(name, Kind::Histogram, "How long sessions lasted that have ended, by protocol.");
        let ends: Vec<f64> = SESSION_ENDS.iter().map(|end| *end as f64).collect();
        for (labels, ended) in kinds.iter().zip(&self.0.ended) {
            let counts = ended.classes.each_ref().map(load);
            page.histogram(labels, &ends, &counts, load(&ended.total_ms) as f64 / 1000.0);
        }
    }

    #[cfg(feature = "hooks")]
    fn callbacks(&self, page: &mut Page) {
        let stats = &self.0.callbacks;
        let load = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        page.family("rillbox_callbacks_total", Kind::Counter, "Callbacks that were made, by their outcome.");
        for hook in Hook::ALL {
            let count = stats.of(hook);
            for (result, value) in
                [("passed", &count.passed), ("refused", &count.refused), ("failed", &count.failed)]
            {
                page.sample(&labels(&[("callback", hook.as_str()), ("result", result)]), load(value));
            }
        }
        let about = "Callbacks that were given up: the queue was full, or all tries failed.";
        page.family("rillbox_callbacks_lost_total", Kind::Counter, about);
        for hook in Hook::ALL {
            page.sample(&labels(&[("callback", hook.as_str())]), load(&stats.of(hook).lost));
        }
        let about = "Callbacks that wait for their turn, or for an answer that nobody waits for.";
        page.single("rillbox_callbacks_waiting", Kind::Gauge, about, stats.waiting());
        let about = "How long callbacks took until there was an answer, or none.";
        page.family("rillbox_callback_duration_seconds", Kind::Histogram, about);
        let ends = hooks::CLASSES_MS.map(|ms| ms as f64 / 1000.0);
        for hook in Hook::ALL {
            let count = stats.of(hook);
            let counts = count.classes.each_ref().map(load);
            let sum = load(&count.total_ms) as f64 / 1000.0;
            page.histogram(&labels(&[("callback", hook.as_str())]), &ends, &counts, sum);
        }
    }

    async fn answer(&self, head: &Head, peer: &Peer, own: bool) -> Reply {
        if !matches!(head.method, Method::GET | Method::HEAD) {
            return not_allowed();
        }
        let anonymous = own && self.0.config.current().metrics.anonymous;
        if !anonymous && let Err(reply) = self.may_read(head, peer).await {
            return reply;
        }
        let open_metrics = page::wants_open_metrics(head.header(header::ACCEPT).unwrap_or_default());
        let mut reply = Response::new(Body::from(self.page(open_metrics, Instant::now())));
        let content_type = HeaderValue::from_static(Page::content_type(open_metrics));
        reply.headers_mut().insert(header::CONTENT_TYPE, content_type);
        reply
    }

    #[cfg(feature = "access")]
    async fn may_read(&self, head: &Head, peer: &Peer) -> Result<(), Reply> {
        use crate::access::{Access, Permission};
        let identity = self.0.access.authenticate(head, peer).await?;
        if identity.may(Permission::Read) { Ok(()) } else { Err(Access::forbidden()) }
    }

    /// Without users only this machine itself may.
    #[cfg(not(feature = "access"))]
    #[allow(clippy::unused_async, reason = "another build has to ask")]
    async fn may_read(&self, head: &Head, peer: &Peer) -> Result<(), Reply> {
        let by_proxy = ["forwarded", "via", "x-forwarded-for", "x-real-ip"];
        let local = peer.addr.ip().to_canonical().is_loopback()
            && peer.forwarded_for.is_none()
            && !by_proxy.iter().any(|name| head.headers.contains_key(*name));
        let refused = "403: this answers to the machine itself only";
        if local { Ok(()) } else { Err(crate::net::http::text_reply(hyper::StatusCode::FORBIDDEN, refused)) }
    }
}

impl Gate for Metrics {
    fn admit<'a>(&'a self, _: &'a Ask) -> Verdict<'a> {
        Box::pin(std::future::ready(Ok(())))
    }

    fn guards(&self, _: Action, _: &StreamName) -> bool {
        false
    }

    fn left(&self, ask: &Ask, traffic: Traffic) {
        let Some(ended) = self.0.ended.get(ask.client.kind as usize) else { return };
        ended.sent.fetch_add(traffic.sent, Ordering::Relaxed);
        ended.received.fetch_add(traffic.received, Ordering::Relaxed);
        // Who was let in by us and then refused was no session.
        let Some(time) = traffic.time else { return };
        let class = SESSION_ENDS.iter().position(|end| time <= Duration::from_secs(*end));
        if let Some(class) = ended.classes.get(class.unwrap_or(SESSION_ENDS.len())) {
            class.fetch_add(1, Ordering::Relaxed);
        }
        let ms = u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        ended.total_ms.fetch_add(ms, Ordering::Relaxed);
    }
}

/// Answers requests for the page.
pub struct Scrape {
    metrics: Metrics,
    own: bool,
}

impl Service for Scrape {
    fn call<'a>(&'a self, request: Request) -> Boxed<'a, Outcome> {
        let enabled = self.metrics.0.config.current().metrics.enabled;
        if request.head.path != PATH || !enabled {
            return Box::pin(async move { request.into() });
        }
        Box::pin(async move {
            let Request { head, peer, .. } = request;
            self.metrics.answer(&head, &peer, self.own).await.into()
        })
    }
}
