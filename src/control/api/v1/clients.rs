//! Publishers and readers.

use std::time::Instant;

use hyper::Method;

use super::streams::url;
use super::{Answer, Call, Kbps, code};
use crate::control::json::{Cents, Json, object};
use crate::hub::{Action, ClientStats};
use crate::net::masked;

/// `/api/v1/clients/[id]`: reads, or with DELETE ends one.
pub(super) fn clients(call: &Call<'_>, id: &str) -> Answer {
    let hub = &call.api.hub;
    let found = hub.client(id, Instant::now());
    if !id.is_empty() && found.is_none() {
        return Answer::Code(code::NO_CLIENT);
    }
    let client = |stats: ClientStats| Client { vhost: hub.vhost_id(&stats.name.vhost), stats };
    match (&call.method, found) {
        (&Method::GET, Some(found)) => call.good(&[("client", &client(found))]),
        (&Method::GET, None) => {
            let mut all = hub.clients(Instant::now());
            all.retain(|stats| {
                let (client, name) = (&stats.client, &stats.name);
                call.wants("vhost", &[&name.vhost, &hub.vhost_id(&name.vhost)])
                    && call.wants("stream", &[&stats.stream_id, &name.stream])
                    && call.wants("ip", &[&client.ip().to_string()])
                    && call.wants("type", &[client.kind.as_str()])
            });
            all.sort_unstable_by_key(|stats| stats.client.id);
            let (start, count) = call.page();
            let page: Vec<Client> = all.into_iter().skip(start).take(count).map(client).collect();
            call.good(&[("clients", &page)])
        }
        (&Method::DELETE, Some(_)) if hub.kick_client(id) => {
            call.who.audit(&format!("ended session {id}"));
            call.good(&[])
        }
        (&Method::DELETE, _) => Answer::Code(code::NO_CLIENT),
        _ => Answer::Method,
    }
}

struct Client {
    stats: ClientStats,
    vhost: String,
}

impl Json for Client {
    fn json(&self, out: &mut String) {
        let Self { stats, vhost } = self;
        let client = &stats.client;
        let name = if client.asked.is_empty() { &stats.name.stream } else { &client.asked };
        object(
            out,
            &[
                ("id", &client.id.as_str()),
                ("vhost", vhost),
                ("stream", &stats.stream_id),
                ("ip", &client.ip().to_string()),
                ("pageUrl", &masked(&client.page_url)),
                ("swfUrl", &masked(&client.swf_url)),
                ("tcUrl", &masked(&client.tc_url)),
                ("url", &url(&stats.name)),
                ("name", name),
                ("type", &client.kind.as_str()),
                ("publish", &(stats.action == Action::Publish)),
                ("alive", &Cents(stats.age.as_secs_f64())),
                ("send_bytes", &stats.sent),
                ("recv_bytes", &stats.received),
                ("kbps", &Kbps { received: stats.kbps_in, sent: stats.kbps_out }),
            ],
        );
    }
}
