//! How peers ask for sessions over HTTP: WHIP (RFC 9725), WHEP (draft-ietf-wish-whep), and SRS's own JSON.
//!
//! | path | is |
//! |---|---|
//! | `POST /APP/STREAM/whip`, `/APP/STREAM/whep` | an offer: 201 with the answer, and where the session is (`Location`) |
//! | `POST /rtc/v1/whip/?app=&stream=`, `/rtc/v1/whep/`, `/rtc/v1/whip-play/` | the same at SRS's places |
//! | `PATCH`, `DELETE` of a session | trickle ICE and ICE restarts; its end |
//! | `POST /rtc/v1/publish/`, `/rtc/v1/play/` | JSON in and out: `streamurl`, `sdp` |
//!
//! Parameters: `vhost`; `eip` or `candidate`, another place where this server is; `codec`, what a publisher would like to
//! send; `ice-ufrag` and `ice-pwd`, what this server is to be called.

use std::time::Duration;

use hyper::header::{self, HeaderName};
use hyper::{Method, Response, StatusCode};
use serde_json::{Value, json};

use super::negotiated::Flow;
use super::sdp::MAX_BYTES;
use super::server::{Opened, Refusal, Server, Wanted, asked};
use crate::hub::{CREDENTIALS, ClientKind, HubError, StreamName};
use crate::id::{Instance, SessionId};
use crate::media::Codec;
use crate::net::http::{
    Body, Boxed, Head, Outcome, Peer, Reply, Request, RequestBody, Service, param, percent_decode, player,
    put, text_reply, unauthorized,
};

/// How long a body may take.
const PATIENCE: Duration = Duration::from_secs(10);
/// The longest query that stands in a session's place.
const SDP: &str = "application/sdp";
const FRAGMENT: &str = "application/trickle-ice-sdpfrag";

/// Answers those who ask for sessions.
pub struct Signal(Server);

impl Signal {
    /// Opens sessions of `server`.
    #[must_use]
    pub fn new(server: Server) -> Self {
        Self(server)
    }
}

/// What a path is about.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Target {
    /// Where sessions are asked for.
    Endpoint { flow: Flow, form: Form, app: String, stream: String },
    /// A session.
    Session(String),
    /// SRS's JSON.
    Json(Flow),
}

/// How its session's place looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    /// `/APP/STREAM/whip/TOKEN`
    Path,
    /// SRS's.
    Query,
}

impl Target {
    fn of(head: &Head) -> Option<Self> {
        if let Some(rest) = head.path.strip_prefix("/rtc/v1/") {
            let name = rest.trim_end_matches('/');
            let text = |name: &str| head.param(name).unwrap_or_default().into_owned();
            let flow = match name {
                "whip" if text("action") == "play" => Flow::Play,
                "whip" => Flow::Publish,
                "whep" | "whip-play" => Flow::Play,
                "publish" => return Some(Self::Json(Flow::Publish)),
                "play" => return Some(Self::Json(Flow::Play)),
                _ => return None,
            };
            let about = text("action") == "delete" || matches!(head.method, Method::DELETE | Method::PATCH);
            if about {
                return Some(Self::Session(text("token")));
            }
            return Some(Self::Endpoint {
                flow,
                form: Form::Query,
                app: text("app"),
                stream: text("stream"),
            });
        }
        let path = head.path.trim_matches('/');
        let (rest, last) = path.rsplit_once('/')?;
        let flow = |name: &str| match name {
            "whip" => Some(Flow::Publish),
            "whep" => Some(Flow::Play),
            _ => None,
        };
        if let Some(flow) = flow(last) {
            let (app, stream) = rest.rsplit_once('/')?;
            let (app, stream) = (app.to_owned(), stream.to_owned());
            return Some(Self::Endpoint { flow, form: Form::Path, app, stream });
        }
        let (stream, name) = rest.rsplit_once('/')?;
        (flow(name).is_some() && stream.contains('/') && is_token(last))
            .then(|| Self::Session(last.to_owned()))
    }
}

fn is_token(text: &str) -> bool {
    text.len() == 32 && text.bytes().all(|c| c.is_ascii_hexdigit())
}

impl Service for Signal {
    fn options(&self, head: &Head) -> Option<Reply> {
        let target = Target::of(head).filter(|_| self.0.config().webrtc.enabled)?;
        let mut reply = Response::new(Body::default());
        *reply.status_mut() = StatusCode::NO_CONTENT;
        let (allow, post) = match target {
            Target::Endpoint { .. } => ("POST, OPTIONS", SDP),
            Target::Json(_) => ("POST, OPTIONS", "application/json"),
            Target::Session(_) => ("PATCH, DELETE, OPTIONS", ""),
        };
        put(&mut reply, header::ALLOW, allow);
        if !post.is_empty() {
            put(&mut reply, HeaderName::from_static("accept-post"), post);
        } else {
            put(&mut reply, HeaderName::from_static("accept-patch"), FRAGMENT);
        }
        cors(&mut reply);
        Some(reply)
    }

    fn call<'a>(&'a self, request: Request) -> Boxed<'a, Outcome> {
        Box::pin(async move {
            let reads = matches!(request.head.method, Method::GET | Method::HEAD);
            // A file may be called as a session is.
            let target = Target::of(&request.head)
                .filter(|_| !reads || request.head.path.starts_with("/rtc/v1/"))
                .filter(|_| self.0.config().webrtc.enabled);
            let Some(target) = target else { return request.into() };
            let Request { head, peer, body } = request;
            let mut reply = self.answer(target, &head, &peer, body).await;
            put(&mut reply, header::CACHE_CONTROL, "no-store");
            cors(&mut reply);
            reply.into()
        })
    }
}

impl Signal {
    async fn answer(&self, target: Target, head: &Head, peer: &Peer, body: RequestBody) -> Reply {
        match (target, head.method.clone()) {
            (Target::Json(flow), Method::POST) => self.json(flow, head, peer, body).await,
            (Target::Endpoint { flow, form, app, stream }, Method::POST) => {
                match self.open(flow, (&app, &stream), head, peer, body).await {
                    Ok(opened) => self.created(flow, form, (&app, &stream), &opened),
                    Err(refusal) => refused(&refusal),
                }
            }
            (Target::Session(token), Method::DELETE) => ended(self.0.end(&token)),
            // SRS's players say so in the query.
            (Target::Session(token), Method::POST) => ended(self.0.end(&token)),
            (Target::Session(token), Method::PATCH) => match self.patch(&token, head, body).await {
                Ok(reply) => reply,
                Err(refusal) => refused(&refusal),
            },
            (target, _) => {
                let allow = if matches!(target, Target::Session(_)) {
                    "PATCH, DELETE, OPTIONS"
                } else {
                    "POST, OPTIONS"
                };
                let mut reply =
                    text_reply(StatusCode::METHOD_NOT_ALLOWED, format_args!("405: here one can {allow}"));
                put(&mut reply, header::ALLOW, allow);
                reply
            }
        }
    }

    async fn open(
        &self,
        flow: Flow,
        (app, stream): (&str, &str),
        head: &Head,
        peer: &Peer,
        body: RequestBody,
    ) -> Result<Opened, Refusal> {
        let vhost = head.param("vhost").filter(|vhost| !vhost.is_empty());
        let vhost = vhost.as_deref().unwrap_or(&head.host);
        let name = self.0.hub().name(vhost, app, stream).map_err(|error| Refusal::Bad(error.to_string()))?;
        let offer = read(body, MAX_BYTES).await?;
        let mut client = player(head, peer, SessionId::next(), ClientKind::RtcPlay, &name);
        client.asked = stream.to_owned();
        client.tc_url = format!("webrtc://{}/{}", head.host, name.app);
        self.0.open(wanted(flow, name, client, offer, head, peer, &head.query)?).await
    }

    fn created(&self, flow: Flow, form: Form, (app, stream): (&str, &str), opened: &Opened) -> Reply {
        let name = if flow == Flow::Publish { "whip" } else { "whep" };
        let (token, app, stream) = (&opened.token, encode(app), encode(stream));
        let location = match form {
            Form::Path => format!("/{app}/{stream}/{name}/{token}"),
            Form::Query => format!(
                "/rtc/v1/{name}/?action=delete&token={token}&app={app}&stream={stream}&session={}",
                opened.id
            ),
        };
        let mut reply = Response::new(Body::from(opened.answer.clone()));
        *reply.status_mut() = StatusCode::CREATED;
        put(&mut reply, header::CONTENT_TYPE, SDP);
        put(&mut reply, header::LOCATION, &location);
        put(&mut reply, header::ETAG, &format!("\"{}\"", opened.etag));
        put(&mut reply, HeaderName::from_static("accept-patch"), FRAGMENT);
        let servers: Vec<String> = self
            .0
            .config()
            .webrtc
            .ice_servers
            .iter()
            .map(|url| format!("<{url}>; rel=\"ice-server\""))
            .collect();
        if !servers.is_empty() {
            put(&mut reply, header::LINK, &servers.join(", "));
        }
        reply
    }

    async fn patch(&self, token: &str, head: &Head, body: RequestBody) -> Result<Reply, Refusal> {
        let text = read(body, MAX_BYTES).await?;
        let of =
            head.header(header::IF_MATCH).filter(|of| *of != "*").map(|of| of.trim_matches('"').to_owned());
        let mut reply = Response::new(Body::default());
        match self.0.patch(token, of.as_deref(), &text)? {
            None => *reply.status_mut() = StatusCode::NO_CONTENT,
            Some((fragment, etag)) => {
                reply = Response::new(Body::from(fragment));
                put(&mut reply, header::CONTENT_TYPE, FRAGMENT);
                put(&mut reply, header::ETAG, &format!("\"{etag}\""));
            }
        }
        Ok(reply)
    }

    /// SRS's own way: 200 whatever happens, and a code in JSON.
    async fn json(&self, flow: Flow, head: &Head, peer: &Peer, body: RequestBody) -> Reply {
        let value = match self.open_json(flow, head, peer, body).await {
            Ok(opened) => {
                let us = Instance::get();
                json!({
                    "code": 0, "server": us.server, "service": us.service, "pid": us.pid.to_string(),
                    "sdp": opened.answer, "sessionid": opened.id,
                })
            }
            Err(refusal) => {
                log::warn!(session:% = peer.id; "WebRTC session for {} refused: {refusal}", peer.addr);
                json!({"code": 400})
            }
        };
        let mut reply = Response::new(Body::from(value.to_string()));
        put(&mut reply, header::CONTENT_TYPE, "application/json");
        reply
    }

    async fn open_json(
        &self,
        flow: Flow,
        head: &Head,
        peer: &Peer,
        body: RequestBody,
    ) -> Result<Opened, Refusal> {
        let bad = |what: &str| Refusal::Bad(what.to_owned());
        // JSON writes line ends as two letters.
        let text = read(body, 2 * MAX_BYTES).await?;
        let value: Value =
            serde_json::from_str(&text).map_err(|error| Refusal::Bad(format!("no JSON: {error}")))?;
        let field = |name: &str| value.get(name).and_then(Value::as_str).unwrap_or_default();
        let url = field("streamurl");
        let (scheme, rest) = url.split_once("://").ok_or_else(|| bad("streamurl is no URL"))?;
        let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
        let (host, path) = rest.split_once('/').ok_or_else(|| bad("streamurl names no stream"))?;
        let decode = |text: &str| percent_decode(text).ok_or_else(|| bad("streamurl can't be decoded"));
        let path = decode(path.trim_matches('/'))?;
        let (app, stream) = path.rsplit_once('/').ok_or_else(|| bad("streamurl names no stream"))?;
        let host = host
            .rsplit_once(':')
            .filter(|(_, port)| port.bytes().all(|c| c.is_ascii_digit()))
            .map_or(host, |(host, _)| host);
        let vhost = param(query, "vhost").filter(|vhost| !vhost.is_empty());
        let vhost = vhost.as_deref().unwrap_or(host);
        let name = self.0.hub().name(vhost, app, stream).map_err(|error| Refusal::Bad(error.to_string()))?;
        let mut client = player(head, peer, SessionId::next(), ClientKind::RtcPlay, &name);
        client.asked = stream.to_owned();
        client.tc_url = format!("{scheme}://{host}/{app}");
        client.params = match flow {
            // As SRS marks what came this way.
            Flow::Publish if query.is_empty() => "upstream=rtc".to_owned(),
            Flow::Publish => format!("{query}&upstream=rtc"),
            Flow::Play => query.to_owned(),
        };
        // What is said of the session may stand in either query.
        let both = if head.query.is_empty() { query.to_owned() } else { format!("{}&{query}", head.query) };
        let offer = field("sdp").to_owned();
        self.0.open(wanted(flow, name, client, offer, head, peer, &both)?).await
    }
}

/// What a request wants.
fn wanted(
    flow: Flow,
    name: StreamName,
    client: crate::hub::Client,
    offer: String,
    head: &Head,
    peer: &Peer,
    query: &str,
) -> Result<Wanted, Refusal> {
    let text = |name: &str| param(query, name).unwrap_or_default().into_owned();
    if text("encrypt") == "false" || text("dtls") == "false" {
        return Err(Refusal::Bad("media is always encrypted here (encrypt=false, dtls=false)".to_owned()));
    }
    let own: Vec<String> =
        ["eip", "candidate"].iter().map(|name| text(name)).filter(|text| !text.is_empty()).collect();
    let mut wishes = Vec::new();
    for list in ["codec", "vcodec", "acodec"].map(text) {
        wishes.extend(list.split(',').filter_map(codec).take(4));
    }
    let ice = (text("ice-ufrag"), text("ice-pwd"));
    let seen = peer.forwarded_for.unwrap_or(peer.addr.ip());
    Ok(Wanted {
        flow,
        name,
        client,
        offer,
        asked: asked(&head.host, seen, own),
        wishes,
        ice: (!ice.0.is_empty() && !ice.1.is_empty()).then_some(ice),
    })
}

/// A codec by what people call it.
fn codec(name: &str) -> Option<Codec> {
    Some(match name.trim().to_ascii_lowercase().as_str() {
        "aac" => Codec::Aac,
        "av1" => Codec::Av1,
        "avc" | "h264" => Codec::H264,
        "h265" | "hevc" => Codec::H265,
        "opus" => Codec::Opus,
        "pcma" => Codec::G711A,
        "pcmu" => Codec::G711U,
        "vp8" => Codec::Vp8,
        "vp9" => Codec::Vp9,
        _ => return None,
    })
}

async fn read(body: RequestBody, most: usize) -> Result<String, Refusal> {
    let bytes = body.read(most, PATIENCE).await.map_err(|error| Refusal::Bad(error.to_string()))?;
    String::from_utf8(bytes).map_err(|_| Refusal::Bad("the body is no text (UTF-8)".to_owned()))
}

fn ended(result: Result<(), Refusal>) -> Reply {
    match result {
        Ok(()) => text_reply(StatusCode::OK, "the session has ended"),
        Err(refusal) => refused(&refusal),
    }
}

/// The reply that says why not.
fn refused(refusal: &Refusal) -> Reply {
    let status = match refusal {
        Refusal::Bad(_) => StatusCode::BAD_REQUEST,
        Refusal::Changed => StatusCode::PRECONDITION_FAILED,
        Refusal::Disagreement(_) => StatusCode::NOT_ACCEPTABLE,
        Refusal::Gone => StatusCode::NOT_FOUND,
        Refusal::Off(_) => StatusCode::FORBIDDEN,
        Refusal::Hub(HubError::Denied(denied)) if denied.by == CREDENTIALS => {
            return unauthorized(format_args!("401: {refusal}"));
        }
        Refusal::Hub(HubError::Busy { .. }) => StatusCode::CONFLICT,
        Refusal::Hub(HubError::Denied(_) | HubError::Disabled(_)) => StatusCode::FORBIDDEN,
        Refusal::Hub(HubError::NotLive(_)) => StatusCode::NOT_FOUND,
        Refusal::Busy | Refusal::Endpoint(_) | Refusal::Full(_) | Refusal::Hub(_) => {
            StatusCode::SERVICE_UNAVAILABLE
        }
    };
    let mut reply = text_reply(status, format_args!("{}: {refusal}", status.as_u16()));
    if matches!(refusal, Refusal::Hub(HubError::NotLive(_)) | Refusal::Busy | Refusal::Full(_)) {
        put(&mut reply, header::RETRY_AFTER, "2");
    }
    reply
}

/// What pages of other origins may send and see here, beyond what they may elsewhere.
fn cors(reply: &mut Reply) {
    for (name, value) in [
        ("access-control-allow-headers", "Authorization, Content-Type, If-Match"),
        ("access-control-allow-methods", "POST, PATCH, DELETE, OPTIONS"),
        (
            "access-control-expose-headers",
            "Accept-Patch, ETag, Link, Location, Retry-After, WWW-Authenticate",
        ),
    ] {
        put(reply, HeaderName::from_static(name), value);
    }
}

/// As it stands in a path or a query.
fn encode(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~' | b'/') {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(request: &str) -> Option<Target> {
        Target::of(&Head::parse(format!("{request} HTTP/1.1\r\n\r\n").as_bytes()).unwrap().unwrap().0)
    }

    #[test]
    fn places() {
        let at = |flow, form, app: &str, stream: &str| {
            Some(Target::Endpoint { flow, form, app: app.to_owned(), stream: stream.to_owned() })
        };
        let token = "0123456789abcdef0123456789abcdef";
        assert_eq!(target("POST /live/demo/whip"), at(Flow::Publish, Form::Path, "live", "demo"));
        assert_eq!(target("POST /a/b/demo/whep/"), at(Flow::Play, Form::Path, "a/b", "demo"));
        assert_eq!(
            target("POST /rtc/v1/whip/?app=live&stream=d%20x"),
            at(Flow::Publish, Form::Query, "live", "d x")
        );
        assert_eq!(
            target("POST /rtc/v1/whip?app=live&stream=d&action=play"),
            at(Flow::Play, Form::Query, "live", "d")
        );
        assert_eq!(target("POST /rtc/v1/whip-play/?app=a&stream=b"), at(Flow::Play, Form::Query, "a", "b"));
        assert_eq!(target("POST /rtc/v1/play/"), Some(Target::Json(Flow::Play)));
        let session = Some(Target::Session(token.to_owned()));
        assert_eq!(target(&format!("DELETE /live/demo/whip/{token}")), session);
        assert_eq!(target(&format!("DELETE /rtc/v1/whip/?action=delete&token={token}&app=a")), session);
        assert_eq!(target(&format!("PATCH /rtc/v1/whep/?token={token}")), session);
        for other in [
            "POST /whip",
            "POST /demo/whip",
            "GET /live/demo.flv",
            "POST /rtc/v1/nack/",
            "DELETE /live/demo/whip/x",
        ] {
            assert_eq!(target(other), None, "{other}");
        }
    }

    #[test]
    fn names_in_places() {
        assert_eq!(encode("a/b c\"ü"), "a/b%20c%22%C3%BC");
    }
}
