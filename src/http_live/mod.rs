//! Live streams over HTTP and WebSocket: `http://host:8080/live/demo.flv`, `.ts`, `.aac`, `.mp3`.
//!
//! | path ends in | content | `Content-Type` |
//! |---|---|---|
//! | `.flv` | FLV with Enhanced RTMP codecs; also `ws://` | `video/x-flv` |
//! | `.ts` | MPEG transport stream of all tracks it can carry; also `ws://` | `video/MP2T` |
//! | `.aac` | ADTS, the first AAC track | `audio/aac` |
//! | `.mp3` | MP3 frames, the first MP3 track | `audio/mpeg` |
//!
//! The vhost is that of `?vhost=` or `?domain=`, otherwise the host that the client asked. What stands before
//! the last slash is the app (`/a/b/cam.flv` is stream `cam` of app `a/b`). `?has_video=off` and
//! `?has_audio=off` leave a kind of track out of FLV and TS.
//!
//! Bodies are chunked as SRS's are, raw for HTTP/1.0, one message per entry on a WebSocket; each of the three is
//! a feed of its own, so that chunk and frame heads too are made once for all readers. A body begins when it is
//! known which tracks there are: FLV's header tells the truth, and `.mp3` of a stream without MP3 is 415, not an
//! endless silence. A stream nobody publishes is 404, or is waited for (`http_live.wait`). `HEAD` asks without
//! becoming a reader.
//!
//! Keys: `[vhost.*.http_live]`. Not here: publishing by `POST`.

mod ask;
mod audio;
mod flv;
mod framed;
mod reader;
#[cfg(test)]
mod tests;
mod ts;

use std::time::{Duration, Instant};

use hyper::header::{self, HeaderValue};
use hyper::{Method, Response, StatusCode};

use self::ask::{Ask, Form};
use self::reader::Reader;
use crate::config::{Shared, Wait};
use crate::hub::{Action, Hub, HubError, SubscribeOptions};
use crate::net::http::{
    Begin, Body, Boxed, Head, Live, LiveBody, LiveRequest, Outcome, Reply, Request, Service, not_allowed,
    play_refused, player, text_reply,
};

/// How long a reader of a live stream waits to be told its tracks before its body begins without: a
/// publisher may be connected and send nothing.
const TRACKS_WAIT: Duration = Duration::from_secs(10);

/// Gives live streams to HTTP clients.
pub struct HttpLive {
    hub: Hub,
    config: Shared,
}

impl HttpLive {
    /// Gives the streams of `hub`.
    #[must_use]
    pub fn new(hub: Hub, config: Shared) -> Self {
        Self { hub, config }
    }

    /// The stream that a path names, if its vhost gives it out in this form, and how long to wait for it.
    fn ask(&self, head: &Head) -> Option<(Ask, Wait)> {
        let ask = Ask::read(head, &self.hub)?;
        let config = self.config.current();
        let live = &config.vhost(&ask.name.vhost, &ask.name.app, &ask.name.stream).http_live;
        let form = match ask.form {
            Form::Aac => live.aac,
            Form::Flv => live.flv,
            Form::Mp3 => live.mp3,
            Form::Ts => live.ts,
        };
        (live.enabled && form).then_some((ask, live.wait))
    }

    fn begin(&self, request: &LiveRequest<'_>, ask: Ask, wait: Wait) -> Begin {
        let (hub, framing, peer) = (self.hub.clone(), request.framing, *request.peer);
        let client = player(request.head, &peer, peer.id, ask.form.kind(), &ask.name);
        Box::pin(async move {
            let key = ask.key(framing);
            let options = SubscribeOptions { key, wait };
            let admission = hub.admit(Action::Play, &ask.name, client).await.map_err(|e| play_refused(&e))?;
            let subscribed = hub.subscribe(admission, options, || ask.package(framing), Instant::now());
            let mut subscription = subscribed.map_err(|error| play_refused(&error))?;
            let patience = if let Wait::For(wait) = wait { wait.max(TRACKS_WAIT) } else { TRACKS_WAIT };
            match tokio::time::timeout(patience, subscription.tracks()).await {
                Ok(Some(tracks)) => {
                    if let Some(why) = ask.lack(&tracks) {
                        subscription.finish(&why);
                        return Err(text_reply(
                            StatusCode::UNSUPPORTED_MEDIA_TYPE,
                            format_args!("415: {why}"),
                        ));
                    }
                }
                Ok(None) => {
                    subscription.finish("nobody published the stream in time");
                    return Err(play_refused(&HubError::NotLive(ask.name)));
                }
                Err(_) => {}
            }
            let by = peer.forwarded_for.map(|client| format!(" for {client}")).unwrap_or_default();
            log::info!(session:% = peer.id; "{} reads {} as {}{by}", peer.addr, ask.name, key.format);
            Ok(Box::new(Reader::new(subscription, ask.form, framing)) as Box<dyn LiveBody>)
        })
    }
}

impl Service for HttpLive {
    fn live(&self, request: &LiveRequest<'_>) -> Live {
        let Some((ask, wait)) = self.ask(request.head) else { return Live::No };
        match wait {
            _ if self.hub.is_live(&ask.name) => Live::Now(self.begin(request, ask, Wait::No)),
            Wait::No => Live::No,
            wait => Live::Wait(self.begin(request, ask, wait)),
        }
    }

    fn call<'a>(&'a self, request: Request) -> Boxed<'a, Outcome> {
        let live = self.ask(&request.head).filter(|(ask, _)| self.hub.is_live(&ask.name));
        Box::pin(async move {
            match (live, &request.head.method) {
                // A `GET` that comes here asks for a stream that came to life this very moment.
                (None, _) | (Some(_), &Method::GET) => request.into(),
                (Some((ask, _)), &Method::HEAD) => head_reply(&ask).into(),
                (Some(_), _) => not_allowed().into(),
            }
        })
    }
}

/// The head that a `GET` would get, but for the framing, which hyper leaves out.
fn head_reply(ask: &Ask) -> Reply {
    let mut reply = Response::new(Body::default());
    reply.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(ask.form.content_type()));
    reply
}
