//! Publishers and readers.

use std::time::{Instant, SystemTime};

use super::problem::Problem;
use super::route::{Answer, Call};
use super::streams::StreamRef;
use crate::control::json::{Json as _, Time, choices, shape};
use crate::hub::{Action, ClientStats};
use crate::net::masked;

shape! {
    /// A page of sessions.
    pub struct Sessions {
        /// The sessions.
        items: Vec<Session>,
        /// What to give as "after" for the page behind; null: this is the last.
        next: Option<String>,
    }
}

choices! {
    /// What a session does.
    pub enum Role {
        /// It publishes.
        Publisher = "publisher",
        /// It reads.
        Reader = "reader",
    }
}

shape! {
    /// A publisher or reader.
    pub struct Session {
        /// Its id, as in the log.
        id: String,
        /// What it does.
        role: Role,
        /// Protocol and role, e.g. flv-play.
        kind: String,
        /// Its stream.
        stream: StreamRef,
        /// Its address; behind a proxy on this machine, what that says.
        ip: String,
        /// Since when.
        since: Time,
        /// Received from it.
        received_bytes: u64,
        /// Sent to it.
        sent_bytes: u64,
        /// Received from it.
        received_kbps: u64,
        /// Sent to it.
        sent_kbps: u64,
        /// Where it connected to, without its query.
        url: String,
        /// The page that its player stands on, without what its URL may hide; null: it didn't say.
        page: Option<String>,
    }
}

impl Session {
    fn of(stats: ClientStats, now: SystemTime) -> Self {
        let (client, name) = (stats.client, stats.name);
        let url = masked(&client.tc_url);
        let url = url.split('?').next().unwrap_or_default();
        Self {
            id: client.id.to_string(),
            role: if stats.action == Action::Publish { Role::Publisher } else { Role::Reader },
            kind: client.kind.as_str().to_owned(),
            ip: client.ip().to_string(),
            stream: StreamRef { id: stats.stream_id, vhost: name.vhost, app: name.app, name: name.stream },
            since: Time(now.checked_sub(stats.age).unwrap_or(now)),
            received_bytes: stats.received,
            sent_bytes: stats.sent,
            received_kbps: stats.kbps_in,
            sent_kbps: stats.kbps_out,
            url: url.to_owned(),
            page: (!client.page_url.is_empty()).then(|| masked(&client.page_url)),
        }
    }
}

fn list(call: &Call<'_>, action: Option<Action>) -> Result<Answer, Problem> {
    let wanted = ["vhost", "app", "stream", "kind"].map(|name| call.text(name));
    let is =
        |n: usize, text: &str| wanted.get(n).and_then(Option::as_ref).is_none_or(|wanted| wanted == text);
    let mut all = call.api.hub.clients(Instant::now());
    all.retain(|stats| {
        action.is_none_or(|action| stats.action == action)
            && is(0, &stats.name.vhost)
            && is(1, &stats.name.app)
            && is(2, &stats.stream_id)
            && is(3, stats.client.kind.as_str())
    });
    let (items, next) = call.page(all, |stats| stats.client.id.to_string());
    let now = SystemTime::now();
    let items = items.into_iter().map(|stats| Session::of(stats, now)).collect();
    Ok(Answer::Json(Sessions { items, next }.to_json()))
}

fn find(call: &Call<'_>, action: Option<Action>) -> Result<ClientStats, Problem> {
    let found = call.api.hub.client(call.id, Instant::now());
    let found = found.filter(|stats| action.is_none_or(|action| stats.action == action));
    found.ok_or_else(|| Problem::not_found("there is no such session (any more)"))
}

fn one(call: &Call<'_>, action: Option<Action>) -> Result<Answer, Problem> {
    Ok(Answer::Json(Session::of(find(call, action)?, SystemTime::now()).to_json()))
}

fn end(call: &Call<'_>, action: Option<Action>) -> Result<Answer, Problem> {
    let stats = find(call, action)?;
    if !call.api.hub.kick_client(call.id) {
        return Err(Problem::not_found("there is no such session any more"));
    }
    let (kind, name) = (stats.client.kind.as_str(), stats.name);
    call.audit(&format!("ended session {} ({kind} of {name})", call.id));
    Ok(Answer::Nothing)
}

pub(super) fn all(call: &Call<'_>) -> Result<Answer, Problem> {
    list(call, None)
}

pub(super) fn publishers(call: &Call<'_>) -> Result<Answer, Problem> {
    list(call, Some(Action::Publish))
}

pub(super) fn readers(call: &Call<'_>) -> Result<Answer, Problem> {
    list(call, Some(Action::Play))
}

pub(super) fn any(call: &Call<'_>) -> Result<Answer, Problem> {
    one(call, None)
}

pub(super) fn publisher(call: &Call<'_>) -> Result<Answer, Problem> {
    one(call, Some(Action::Publish))
}

pub(super) fn reader(call: &Call<'_>) -> Result<Answer, Problem> {
    one(call, Some(Action::Play))
}

pub(super) fn end_any(call: &Call<'_>) -> Result<Answer, Problem> {
    end(call, None)
}

pub(super) fn end_publisher(call: &Call<'_>) -> Result<Answer, Problem> {
    end(call, Some(Action::Publish))
}

pub(super) fn end_reader(call: &Call<'_>) -> Result<Answer, Problem> {
    end(call, Some(Action::Play))
}
