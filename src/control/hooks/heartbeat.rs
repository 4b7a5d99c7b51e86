//! That we are alive, told to a server each so often (SRS `heartbeat`).

use std::net::SocketAddr;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use tokio::time::Instant;

use super::call::{self, Call, MAX_ANSWER};
use super::{Hook, Hooks};
use crate::config::{self, Config};
use crate::control::json::{Json, Object, Time};
use crate::control::system::{Sampler, Served, summary};
use crate::id::Instance;
use crate::net::own_address;

impl Hooks {
    /// Beats while the configuration says so.
    pub(super) async fn beat(&self) {
        let sampler = Sampler::default();
        let mut told = false;
        let mut last = Instant::now();
        loop {
            let config = self.config.current();
            if !config.heartbeat.enabled {
                self.changed.notified().await;
                last = Instant::now();
                continue;
            }
            tokio::select! {
                () = tokio::time::sleep_until(last + config.heartbeat.interval) => last = Instant::now(),
                () = self.changed.notified() => continue,
            }
            let call = Call {
                hook: Hook::Heartbeat,
                url: config.heartbeat.url.clone(),
                body: Bytes::from(self.heartbeat(&config, &sampler).await),
                timeout: config.heartbeat.interval.max(Duration::from_secs(1)),
                most: MAX_ANSWER,
            };
            match call::make(&self.client, &self.stats, &call).await {
                Ok(()) => told = false,
                // Once until it is well again.
                Err(failure) if !std::mem::replace(&mut told, true) => {
                    log::warn!("heartbeat: {}", failure.text());
                }
                Err(failure) => log::debug!("heartbeat: {}", failure.text()),
            }
        }
    }

    async fn heartbeat(&self, config: &Config, sampler: &Sampler) -> String {
        let config::Heartbeat { device_id, summaries, ports, .. } = &config.heartbeat;
        let instance = Instance::get();
        let data = if *summaries { Some(self.summaries(sampler).await) } else { None };
        let ip = Some(config.heartbeat.ip.clone()).filter(|ip| !ip.is_empty());
        let (ip, pid) = (ip.unwrap_or_else(|| own_address().to_string()), instance.pid.to_string());
        let data = data.map(|data| format!("{{\"data\":{data}}}"));
        let data = data.as_deref().map(Raw);
        let list = |enabled: bool, addresses: &[SocketAddr]| -> Option<Vec<String>> {
            (*ports && enabled).then(|| addresses.iter().map(listener).collect())
        };
        let rtmp = list(config.rtmp.enabled, &config.rtmp.listen);
        let http = list(config.http.enabled, &config.http.listen);
        let api = list(config.api.enabled, &config.api.listen);
        #[cfg(feature = "srt")]
        let srt: Option<Vec<String>> =
            (*ports && config.srt.enabled).then(|| config.srt.listen.iter().map(datagrams).collect());
        #[cfg(not(feature = "srt"))]
        let srt = None;
        #[cfg(feature = "webrtc")]
        let rtc: Option<Vec<String>> =
            (*ports && config.webrtc.enabled).then(|| config.webrtc.listen.iter().map(datagrams).collect());
        #[cfg(not(feature = "webrtc"))]
        let rtc = None;
        let mut fields: Vec<(&str, &dyn Json)> = vec![
            ("device_id", device_id),
            ("ip", &ip),
            ("server", &instance.server),
            ("service", &instance.service),
            ("pid", &pid),
        ];
        if let Some(data) = &data {
            fields.push(("summaries", data));
        }
        for (name, addresses) in
            [("rtmp", &rtmp), ("http", &http), ("api", &api), ("srt", &srt), ("rtc", &rtc)]
        {
            if let Some(addresses) = addresses {
                fields.push((name, addresses));
            }
        }
        Object(&fields).to_json()
    }

    /// What `/api/v1/summaries` says, too.
    async fn summaries(&self, sampler: &Sampler) -> String {
        let sample = sampler.sample().await;
        let totals = self.hub.totals();
        let served = Served {
            uptime: self.since.elapsed().as_secs(),
            received: totals.received,
            sent: totals.sent,
            sessions: totals.clients,
        };
        summary(&sample, &served, Time(SystemTime::now()).unix_ms())
    }
}

/// JSON as it is.
struct Raw<'a>(&'a str);

impl Json for Raw<'_> {
    fn json(&self, out: &mut String) {
        out.push_str(self.0);
    }
}

/// As SRS's configuration has it, which its proxy reads: the port alone where all addresses are meant.
fn listener(address: &SocketAddr) -> String {
    if address.ip().is_unspecified() { address.port().to_string() } else { address.to_string() }
}

/// As SRS tells of what takes datagrams.
#[cfg(any(feature = "srt", feature = "webrtc"))]
fn datagrams(address: &SocketAddr) -> String {
    if address.ip().is_unspecified() {
        format!("udp://0.0.0.0:{}", address.port())
    } else {
        format!("udp://{address}")
    }
}
