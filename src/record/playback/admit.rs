//! Who may read recordings, and who may delete them.

#[cfg(feature = "access")]
use std::sync::Arc;

use hyper::{Method, StatusCode};

use super::ask::Ask;
use super::{Entry, Inner, Playback, encode};
use crate::hub::{Action, ClientKind, StreamName};
use crate::id::SessionId;
use crate::net::http::{Head, Peer, Reply, Request, is_local, play_refused, player, text_reply};

/// What a request is about, as far as it takes to know whether it may be.
pub(super) enum About {
    /// Nothing that there is.
    Nothing,
    /// Which streams have recordings.
    Streams,
    /// Recordings of this stream.
    Stream(StreamName),
}

impl Playback {
    /// Asks `access` who may delete. Without it, only this machine itself may.
    #[cfg(feature = "access")]
    #[must_use]
    pub fn with_access(mut self, access: Arc<crate::access::Access>) -> Self {
        self.access = Some(access);
        self
    }

    /// Whether a request may be answered, and on whose behalf: for the log of what was deleted.
    pub(super) async fn admit(&self, request: &Request, about: About) -> Result<Deleter, Reply> {
        let Request { head, peer, .. } = request;
        if head.method == Method::DELETE {
            return self.may_delete(head, peer).await;
        }
        // Who may not play a stream may not play its past.
        if let About::Stream(name) = about
            && self.shared.hub.guards(Action::Play, &name)
        {
            let client = player(head, peer, SessionId::next(), ClientKind::HlsPlay, &name);
            self.shared.hub.admit(Action::Play, &name, client).await.map_err(|error| play_refused(&error))?;
        }
        Ok(Deleter::default())
    }

    #[cfg(feature = "access")]
    async fn may_delete(&self, head: &Head, peer: &Peer) -> Result<Deleter, Reply> {
        use crate::access::{Access, Permission};
        let Some(access) = &self.access else {
            return if is_local(head, peer) { Ok(Deleter::default()) } else { Err(elsewhere()) };
        };
        let who = access.authenticate(head, peer).await?;
        if who.may(Permission::Control) { Ok(Deleter { who: Some(who) }) } else { Err(Access::forbidden()) }
    }

    #[cfg(not(feature = "access"))]
    #[allow(clippy::unused_async, reason = "with access it waits")]
    async fn may_delete(&self, head: &Head, peer: &Peer) -> Result<Deleter, Reply> {
        if is_local(head, peer) { Ok(Deleter::default()) } else { Err(elsewhere()) }
    }

    #[cfg(feature = "access")]
    pub(super) fn deleted(&self, who: &Deleter, path: &str) {
        if let (Some(access), Some(who)) = (&self.access, &who.who) {
            access.audit(who, &format!("deleted {path:?}"));
        }
    }

    #[cfg(not(feature = "access"))]
    #[allow(clippy::unused_self, reason = "with access it is used")]
    pub(super) fn deleted(&self, _: &Deleter, _: &str) {}
}

/// Who deletes, as far as it is known.
#[derive(Default)]
pub(super) struct Deleter {
    #[cfg(feature = "access")]
    who: Option<crate::access::Identity>,
}

fn elsewhere() -> Reply {
    let text = "403: recordings are deleted from the machine itself, e.g. by curl there";
    text_reply(StatusCode::FORBIDDEN, text)
}

/// What a request is about.
pub(super) fn about(shared: &Inner, head: &Head, all: &[Entry]) -> About {
    let asked = ["vhost", "domain"].iter().find_map(|key| head.param(key).filter(|value| !value.is_empty()));
    let Ok(vhost) = shared.hub.name(asked.as_deref().unwrap_or(&head.host), "a", "b") else {
        return About::Nothing;
    };
    let known = |stream: &str| all.iter().find(|entry| is_of(entry, &vhost.vhost, stream));
    let stream = match Ask::read(&head.path, |stream| known(stream).is_some()) {
        None => return About::Nothing,
        Some(Ask::Streams) => return About::Streams,
        Some(
            Ask::File { stream, .. }
            | Ask::Init { stream, .. }
            | Ask::List { stream }
            | Ask::Movie { stream }
            | Ask::Playlist { stream }
            | Ask::Segment { stream, .. },
        ) => stream,
    };
    known(&stream).map_or(About::Nothing, |entry| About::Stream(entry.ident.name.clone()))
}

/// Whether a recording is of APP/STREAM in a vhost.
pub(super) fn is_of(entry: &Entry, vhost: &str, stream: &str) -> bool {
    let name = &entry.ident.name;
    name.vhost == vhost
        && stream.strip_prefix(name.app.as_str()).and_then(|rest| rest.strip_prefix('/'))
            == Some(&name.stream)
}

/// The query that what a playlist links to is asked for with: the vhost, and what let this request in.
pub(super) fn query_for(head: &Head, vhost: Option<&str>) -> String {
    const CREDENTIALS: [&str; 7] = ["expires", "ip", "jwt", "pass", "sign", "token", "user"];
    let vhost = vhost.map(|vhost| format!("vhost={}", encode(vhost)));
    let shown = head.query.split('&').filter(|pair| {
        let name = pair.split_once('=').map_or("", |(name, _)| name);
        // As they came, which is fit for a URL; a quote would end an attribute of the playlist.
        CREDENTIALS.contains(&name) && !pair.contains(['"', '\\'])
    });
    let all: Vec<String> = vhost.into_iter().chain(shown.map(str::to_owned)).collect();
    if all.is_empty() { String::new() } else { format!("?{}", all.join("&")) }
}
