//! `/api/v2`: our own API, described by itself at `/api/v2/openapi.json`.
//!
//! Each request is declared once, in [`routes`]: method, path, parameters, who may, what comes back. The document is made
//! of that, and so are the answers to what is asked wrongly. Ids are texts, times RFC 3339, sizes bytes, rates kilobits a
//! second over 30 s. Lists come in pages of `limit`; `next` is what to give as `after` for the page behind. Errors are
//! problem details (RFC 9457).

mod config;
mod events;
mod health;
mod openapi;
pub(super) mod problem;
#[cfg(feature = "record")]
mod recordings;
#[cfg(feature = "relay")]
mod relays;
pub(super) mod route;
mod routes;
mod server;
mod sessions;
mod streams;

use std::time::Duration;

use hyper::header::{self, HeaderValue};
use hyper::{Method, Response, StatusCode};

pub(super) use self::openapi::Document;
use self::problem::Problem;
use self::route::{Answer, Call, Route, Run};
use super::reply::reply;
use super::{Inner, guard};
use crate::net::http::{Body, Head, Reply, Request, put};

/// The most bytes of a request's body.
const MAX_BODY: usize = 1 << 20;
/// How long a body may take.
const BODY_TIME: Duration = Duration::from_secs(10);

/// Whether a path is ours.
pub(super) fn owns(path: &str) -> bool {
    matches!(path, "/api/v2" | "/healthz" | "/readyz") || path.starts_with("/api/v2/")
}

/// Answers a request of ours.
pub(super) async fn answer(api: &Inner, request: Request) -> Reply {
    match outcome(api, request).await {
        Ok(Answer::Json(json)) => reply(StatusCode::OK, "application/json", json),
        Ok(Answer::Nothing) => {
            let mut reply = Response::new(Body::default());
            *reply.status_mut() = StatusCode::NO_CONTENT;
            reply
        }
        Ok(Answer::Reply(reply)) => *reply,
        Err(problem) => problem.reply(),
    }
}

async fn outcome(api: &Inner, request: Request) -> Result<Answer, Problem> {
    let Request { head, peer, body } = request;
    let (route, id) = find(&head)?;
    let who = match route.need {
        None => None,
        Some(need) => Some(
            guard::admit(api, &head, &peer, &head.method, need).await.map_err(|reply| Problem::of(&reply))?,
        ),
    };
    let body = if route.body.is_some() {
        route::read_json(&head, body, MAX_BODY, BODY_TIME).await?
    } else {
        Vec::new()
    };
    let call = Call { api, head: &head, who: who.as_ref(), route, id: &id, body: &body };
    call.check()?;
    match route.run {
        Run::Now(run) => run(&call),
        Run::Later(run) => run(&call).await,
    }
}

/// The route of a request, and what stands for `{id}` in its path.
fn find(head: &Head) -> Result<(&'static Route, String), Problem> {
    let path = head.path.strip_suffix('/').unwrap_or(&head.path);
    let here: Vec<(&Route, &str)> =
        routes::ROUTES.iter().filter_map(|route| Some((route, route.matches(path)?))).collect();
    let method = if head.method == Method::HEAD { "GET" } else { head.method.as_str() };
    if let Some((route, id)) = here.iter().find(|(route, _)| route.method.as_str() == method) {
        return Ok((*route, (*id).to_owned()));
    }
    if here.is_empty() {
        return Err(Problem::not_found(format!(
            "there is nothing at {path}; /api/v2/openapi.json says what there is"
        )));
    }
    let methods: Vec<&str> = here.iter().map(|(route, _)| route.method.as_str()).collect();
    let allow = methods.join(", ");
    let problem = Problem::new(StatusCode::METHOD_NOT_ALLOWED, format!("here is only {allow}"));
    Err(problem.with_header(header::ALLOW, &format!("{allow}, OPTIONS")))
}

/// A document that says when it is another one (RFC 9110 8.8.3), and nothing if the client has it.
fn tagged(head: &Head, document: &Document) -> Reply {
    let known = head.header(header::IF_NONE_MATCH).is_some_and(|tags| {
        tags.split(',').map(str::trim).any(|tag| tag == "*" || tag.trim_start_matches("W/") == document.tag)
    });
    let mut reply = if known {
        let mut reply = Response::new(Body::default());
        *reply.status_mut() = StatusCode::NOT_MODIFIED;
        reply
    } else {
        reply(StatusCode::OK, "application/json", document.text.clone())
    };
    put(&mut reply, header::ETAG, &document.tag);
    reply.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    reply
}
