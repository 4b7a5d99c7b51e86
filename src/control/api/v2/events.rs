//! What happens, as Server-Sent Events (WHATWG HTML 9.2).

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use hyper::header::{self, HeaderValue};
use hyper::{Method, Response, StatusCode};
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::mpsc;

use super::problem::Problem;
use super::route::{Answer, Call};
use super::streams::StreamRef;
use crate::control::json::{Json, Object, Time};
use crate::hub::{Client, Event, Hub};
use crate::net::http::Body;

/// What can be asked for.
pub(super) const TYPES: &[&str] = &["ended", "published", "recorded", "segment", "unpublished"];

/// How often a listener is told that it is still connected, and we learn whether it is.
const BREATH: Duration = Duration::from_secs(15);

/// `/api/v2/events`
pub(super) fn listen(call: &Call<'_>) -> Result<Answer, Problem> {
    let events = call.api.hub.events();
    let most = usize::try_from(call.api.config.current().api.max_listeners).unwrap_or(usize::MAX);
    let place = Arc::clone(&call.api.listeners);
    // One of the references is the API's own; each listener has another.
    if Arc::strong_count(&place) > most.saturating_add(1) {
        let detail = format!("there are {most} listeners, which is the most (api.max_listeners)");
        let problem = Problem::new(StatusCode::SERVICE_UNAVAILABLE, detail);
        return Err(problem.with_header(header::RETRY_AFTER, "10"));
    }
    let (sender, receiver) = mpsc::channel(1);
    let mut reply = Response::new(Body::live(receiver));
    let headers = reply.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    if call.head.method == Method::HEAD {
        return Ok(Answer::Reply(Box::new(reply)));
    }
    let types = call.text("types").map(|types| types.split(',').map(str::to_owned).collect::<Vec<_>>());
    let (hub, mut stopping) = (call.api.hub.clone(), call.api.stopping.subscribe());
    tokio::spawn(async move {
        let mut events = events;
        // So that a client knows that it is heard of everything from now on.
        let mut text = ": events from here on\n\n".to_owned();
        loop {
            // A full channel is a slow listener: what it misses meanwhile is counted for us.
            if !text.is_empty() && sender.send(Bytes::from(std::mem::take(&mut text))).await.is_err() {
                break;
            }
            tokio::select! {
                event = events.recv() => match event {
                    Ok(event) => {
                        if let Some((kind, data)) = tell(&hub, &event)
                            && types.as_ref().is_none_or(|types| types.iter().any(|wanted| wanted == kind))
                        {
                            text = format!("event: {kind}\ndata: {data}\n\n");
                        }
                    }
                    Err(RecvError::Lagged(count)) => {
                        text = format!("event: lost\ndata: {}\n\n", Object(&[("count", &count)]).to_json());
                    }
                    Err(RecvError::Closed) => break,
                },
                () = tokio::time::sleep(BREATH) => text = ":\n\n".to_owned(),
                () = sender.closed() => break,
                _ = stopping.wait_for(|stop| *stop) => break,
            }
        }
        drop(place);
    });
    Ok(Answer::Reply(Box::new(reply)))
}

/// An event's type, and its data as JSON in one line.
fn tell(hub: &Hub, event: &Event) -> Option<(&'static str, String)> {
    let time = Time(SystemTime::now());
    let with = |kind: &'static str, name, client: Option<&Client>, more: &[(&str, &dyn Json)]| {
        let stream = StreamRef::of(hub, name);
        let session = client.map(Session);
        let mut fields: Vec<(&str, &dyn Json)> = vec![("time", &time), ("stream", &stream)];
        if session.is_some() {
            fields.push(("session", &session));
        }
        fields.extend(more.iter().copied());
        Some((kind, Object(&fields).to_json()))
    };
    let ms = |duration: Duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    match event {
        Event::Published { name, client } => with("published", name, Some(client), &[]),
        Event::Unpublished { name, client } => with("unpublished", name, Some(client), &[]),
        Event::Ended { name } => with("ended", name, None, &[]),
        // A question, nothing that has happened.
        Event::Wanted { .. } => None,
        Event::Segment(made) => with(
            "segment",
            &made.name,
            made.client.as_ref(),
            &[
                ("number", &made.number),
                ("duration_ms", &ms(made.duration)),
                ("url", &made.url),
                ("playlist", &made.playlist_url),
            ],
        ),
        Event::Recorded(made) => {
            let file = made.file.display().to_string();
            let more: [(&str, &dyn Json); 3] =
                [("file", &file), ("duration_ms", &ms(made.duration)), ("bytes", &made.bytes)];
            with("recorded", &made.name, made.client.as_ref(), &more)
        }
    }
}

struct Session<'a>(&'a Client);

impl Json for Session<'_> {
    fn json(&self, out: &mut String) {
        let client = self.0;
        let fields: [(&str, &dyn Json); 3] =
            [("id", &client.id.as_str()), ("kind", &client.kind.as_str()), ("ip", &client.ip().to_string())];
        crate::control::json::object(out, &fields);
    }
}
