//! Where HTTP meets the hub: who a request makes a player, and what it is told when the hub refuses.

use hyper::StatusCode;
use hyper::header;

use super::service::Peer;
use super::{Head, Reply, text_reply, unauthorized};
use crate::hub::{CREDENTIALS, Client, ClientKind, HubError, Secret, StreamName};
use crate::id::SessionId;

/// Who asks with `head` for the stream `name`.
#[must_use]
pub fn player(head: &Head, peer: &Peer, id: SessionId, kind: ClientKind, name: &StreamName) -> Client {
    let scheme = if peer.secure { "https" } else { "http" };
    let text = |name| head.header(name).unwrap_or_default().to_owned();
    Client {
        forwarded_for: peer.forwarded_for,
        asked: head.path.rsplit('/').next().unwrap_or_default().to_owned(),
        params: head.query.clone(),
        tc_url: format!("{scheme}://{}/{}", head.host, name.app),
        page_url: text(header::REFERER),
        authorization: Secret(text(header::AUTHORIZATION)),
        ..Client::new(id, kind, peer.addr)
    }
}

/// The reply to a player that the hub refuses.
#[must_use]
pub fn play_refused(error: &HubError) -> Reply {
    if matches!(error, HubError::Denied(denied) if denied.by == CREDENTIALS) {
        return unauthorized(format_args!("401: {error}"));
    }
    let status = match error {
        HubError::NotLive(_) => StatusCode::NOT_FOUND,
        HubError::Denied(_) | HubError::Disabled(_) => StatusCode::FORBIDDEN,
        _ => StatusCode::SERVICE_UNAVAILABLE,
    };
    text_reply(status, format_args!("{}: {error}", status.as_u16()))
}
