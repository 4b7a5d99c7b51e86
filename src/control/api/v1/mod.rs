//! `/api/v1` with the names, order of fields, envelope, codes and paging of SRS 7, so that its dashboards and scripts go on.
//!
//! `{"code":0,"server":…,"service":…,"pid":…,…}`; an error is HTTP 200 with `{"code":N}` alone. A path that doesn't exist is
//! answered with the index. Beyond SRS, lists of streams take `vhost`, `app` and `name`, lists of clients `vhost`, `stream`,
//! `ip` and `type`; vhosts and streams by id or name. `?callback=NAME` wraps the answer (JSONP), and `&method=DELETE` then stands for the method.

mod clients;
mod index;
mod machine;
mod raw;
mod streams;

use hyper::{Method, StatusCode};

use super::Inner;
use super::guard::{self, Need, Who};
use super::reply::reply;
use crate::control::json::{Json, Object, object};
use crate::id::Instance;
use crate::net::http::{Head, Peer, Reply, put, text_reply};

/// Error codes of SRS.
mod code {
    /// A call under `raw` that does not exist.
    pub const RAW: u32 = 1060;
    /// A call under `raw` that is switched off.
    pub const RAW_DISABLED: u32 = 1061;
    /// The configuration can't be read anew.
    pub const RELOAD_FAILED: u32 = 1023;
    /// No such vhost.
    pub const NO_VHOST: u32 = 2014;
    /// No such stream.
    pub const NO_STREAM: u32 = 2048;
    /// No such publisher or reader.
    pub const NO_CLIENT: u32 = 2049;
}

/// What came of a request.
enum Answer {
    /// A good answer: JSON.
    Good(String),
    /// An error of SRS's numbers.
    Code(u32),
    /// The method can't be used here.
    Method,
    /// Somewhere else.
    Moved(&'static str),
}

/// A request.
struct Call<'a> {
    api: &'a Inner,
    head: &'a Head,
    peer: &'a Peer,
    who: Who,
    method: Method,
}

impl Call<'_> {
    /// A good answer: the envelope, and this.
    fn good(&self, fields: &[(&str, &dyn Json)]) -> Answer {
        let mut all: Vec<(&str, &dyn Json)> = Vec::with_capacity(fields.len() + 4);
        let us = Instance::get();
        let pid = us.pid.to_string();
        all.extend([
            ("code", &0_u8 as &dyn Json),
            ("server", &us.server),
            ("service", &us.service),
            ("pid", &pid),
        ]);
        all.extend(fields.iter().copied());
        Answer::Good(Object(&all).to_json())
    }

    /// From which item on, and how many: `start` and `count`, the least count being 10.
    fn page(&self) -> (usize, usize) {
        // As C's atoi reads a number: what stands after its digits doesn't matter.
        let number = |name| {
            let text = self.param(name);
            let text = text.trim_start();
            let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
            text.get(..end).and_then(|digits| digits.parse::<usize>().ok()).unwrap_or(0)
        };
        (number("start"), number("count").max(10))
    }

    /// Whether what a list holds is what the query wants: each parameter that is there is one of these texts.
    fn wants(&self, name: &str, texts: &[&str]) -> bool {
        self.head.param(name).is_none_or(|wanted| wanted.is_empty() || texts.contains(&&*wanted))
    }

    fn param(&self, name: &str) -> String {
        self.head.param(name).unwrap_or_default().into_owned()
    }
}

/// Answers a request below `/api`, or for `/`.
pub(super) async fn answer(api: &Inner, head: &Head, peer: &Peer) -> Reply {
    let callback = head.param("callback").filter(|name| !name.is_empty());
    if let Some(name) = &callback {
        let fits = |c: u8| c.is_ascii_alphanumeric() || matches!(c, b'_' | b'.' | b'-' | b'$');
        if name.len() > 128 || !name.bytes().all(fits) || !api.config.current().api.crossdomain {
            return reply(StatusCode::OK, JSON, r#"{"code":400}"#.to_owned());
        }
    }
    let method = match (&callback, head.param("method").as_deref()) {
        (Some(_), Some("DELETE")) => Method::DELETE,
        (Some(_), Some("POST")) => Method::POST,
        (Some(_), Some("PUT")) => Method::PUT,
        _ if head.method == Method::HEAD => Method::GET,
        _ => head.method.clone(),
    };
    let reloads = is_reload(head);
    let (need, judged) = match method {
        _ if reloads => (Need::Control, Method::POST),
        // The only one that changes anything.
        Method::DELETE => (Need::Control, Method::DELETE),
        _ => (Need::Read, head.method.clone()),
    };
    let who = match guard::admit(api, head, peer, &judged, need).await {
        Ok(who) => who,
        Err(reply) => return reply,
    };
    let call = Call { api, head, peer, who, method };
    let body = match route(&call).await {
        Answer::Good(json) => json,
        Answer::Code(code) => Object(&[("code", &code)]).to_json(),
        Answer::Method => return text_reply(StatusCode::METHOD_NOT_ALLOWED, "Method Not Allowed"),
        Answer::Moved(to) => {
            let mut moved = text_reply(StatusCode::MOVED_PERMANENTLY, format_args!("Redirect to {to}"));
            put(&mut moved, hyper::header::LOCATION, to);
            return moved;
        }
    };
    match callback {
        Some(name) => reply(StatusCode::OK, "text/javascript", format!("{name}({body})")),
        None => reply(StatusCode::OK, JSON, body),
    }
}

/// `kbps` of whatever has it.
struct Kbps {
    received: u64,
    sent: u64,
}

impl Json for Kbps {
    fn json(&self, out: &mut String) {
        object(out, &[("recv_30s", &self.received), ("send_30s", &self.sent)]);
    }
}

pub(super) use self::raw::Reload;
use self::raw::is_reload;

const JSON: &str = "application/json";

async fn route(call: &Call<'_>) -> Answer {
    let path = call.head.path.trim_matches('/');
    let Some(rest) = path.strip_prefix("api") else { return index::root(call) };
    let Some(rest) = rest.trim_start_matches('/').strip_prefix("v1") else { return index::api(call) };
    let rest = rest.trim_start_matches('/');
    let (name, id) = rest.split_once('/').unwrap_or((rest, ""));
    match (name, id) {
        ("authors", _) => index::authors(call),
        ("clients", id) => clients::clients(call, id),
        ("clusters", _) => index::clusters(call),
        ("features", _) => index::features(call),
        ("meminfos", _) => machine::meminfos(call).await,
        ("raw", _) => raw::raw(call).await,
        ("rusages", _) => machine::rusages(call).await,
        ("self_proc_stats", _) => machine::self_proc_stats(call).await,
        ("summaries", _) => machine::summaries(call).await,
        ("streams", id) => streams::streams(call, id),
        ("system_proc_stats", _) => machine::system_proc_stats(call).await,
        ("tests", "errors") => Answer::Code(100),
        ("tests", "redirects") => Answer::Moved("/api/v1/tests/errors"),
        ("tests", "requests") => index::requests(call),
        ("versions", _) => index::versions(call),
        ("vhosts", id) => streams::vhosts(call, id),
        _ => index::v1(call),
    }
}
