//! How a request is declared, and what its handler gets.

use std::future::poll_fn;
use std::pin::pin;
use std::time::Duration;

use bytes::Buf;
use hyper::body::Body as _;
use hyper::{StatusCode, header};
use serde_json::{Value, json};

use super::problem::Problem;
use crate::control::api::Inner;
use crate::control::api::guard::{Need, Who};
use crate::control::json::Schemas;
use crate::net::http::{Boxed, Head, Reply, RequestBody};

/// A method.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::control::api) enum Verb {
    Delete,
    Get,
    Patch,
    Post,
}

impl Verb {
    /// As it stands in a request.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Delete => "DELETE",
            Self::Get => "GET",
            Self::Patch => "PATCH",
            Self::Post => "POST",
        }
    }
}

/// A request that can be made.
#[derive(Clone, Copy)]
pub(in crate::control::api) struct Route {
    /// The method; `HEAD` comes with `GET`.
    pub method: Verb,
    /// The path; at most one of its parts is `{id}`.
    pub path: &'static str,
    /// Its name for programs.
    pub name: &'static str,
    /// What it does.
    pub about: &'static str,
    /// What it takes; `None`: anybody may, since it says nothing.
    pub need: Option<Need>,
    /// Parameters of the query.
    pub query: &'static [Query],
    /// The schema of the body, if it takes one.
    pub body: Option<fn(&mut Schemas) -> Value>,
    /// What comes back when all is well.
    pub gives: Gives,
    /// Who answers.
    pub run: Run,
}

/// A good answer's form.
#[derive(Clone, Copy)]
pub(in crate::control::api) enum Gives {
    /// 200 with JSON.
    Json(fn(&mut Schemas) -> Value),
    /// 204
    Nothing,
    /// 200 with Server-Sent Events.
    Events,
}

/// A handler.
#[derive(Clone, Copy)]
pub(in crate::control::api) enum Run {
    /// One that answers at once.
    Now(for<'a> fn(&Call<'a>) -> Result<Answer, Problem>),
    /// One that has to wait for something.
    Later(for<'a> fn(&'a Call<'a>) -> Boxed<'a, Result<Answer, Problem>>),
}

/// A parameter of the query.
pub(in crate::control::api) struct Query {
    /// Its name.
    pub name: &'static str,
    /// What it is for.
    pub about: &'static str,
    /// What it may be.
    pub kind: Kind,
}

/// What a parameter may be.
pub(in crate::control::api) enum Kind {
    /// Any text.
    Text,
    /// `true` or `false`.
    Flag,
    /// An integer from 1 to this.
    Count(usize),
    /// Some of these, with commas between.
    Words(&'static [&'static str]),
}

/// How many items a page has when the request doesn't say.
const PAGE: usize = 100;
/// The most items of a page.
const MOST: usize = 1000;

/// Parameters of lists.
pub(in crate::control::api) const LIMIT: Query =
    Query { name: "limit", about: "How many items a page has (100).", kind: Kind::Count(MOST) };
/// Where a page begins.
pub(in crate::control::api) const AFTER: Query = Query {
    name: "after",
    about: "The page behind another one: what that said as \"next\".",
    kind: Kind::Text,
};

/// A good answer.
pub(in crate::control::api) enum Answer {
    /// 200 with this JSON.
    Json(String),
    /// 204
    Nothing,
    /// Something else.
    Reply(Box<Reply>),
}

/// A request to a route.
pub(in crate::control::api) struct Call<'a> {
    pub api: &'a Inner,
    pub head: &'a Head,
    /// Who asks, if that was to be known.
    pub who: Option<&'a Who>,
    pub route: &'static Route,
    /// What stands for `{id}`.
    pub id: &'a str,
    /// The body, if the route takes one.
    pub body: &'a [u8],
}

impl Route {
    /// What stands for `{id}` (`""` without one), if this is a path of it.
    pub fn matches<'p>(&self, path: &'p str) -> Option<&'p str> {
        let Some((before, after)) = self.path.split_once("{id}") else {
            return (path == self.path).then_some("");
        };
        let id = path.strip_prefix(before)?.strip_suffix(after)?;
        (!id.is_empty() && !id.contains('/')).then_some(id)
    }
}

impl Query {
    /// Its schema.
    pub fn schema(&self) -> Value {
        match self.kind {
            // No control characters, as in all that is percent-encoded.
            Kind::Text => json!({"type": "string", "pattern": r"^[^\u0000-\u001f\u007f-\u009f]*$"}),
            Kind::Flag => json!({"type": "boolean"}),
            Kind::Count(most) => json!({"type": "integer", "minimum": 1, "maximum": most}),
            Kind::Words(words) => json!({"type": "array", "items": {"type": "string", "enum": words}}),
        }
    }

    fn fits(&self, text: &str) -> bool {
        match self.kind {
            Kind::Text => true,
            Kind::Flag => matches!(text, "true" | "false"),
            Kind::Count(most) => {
                text.bytes().all(|c| c.is_ascii_digit())
                    && text.parse().is_ok_and(|n: usize| (1..=most).contains(&n))
            }
            Kind::Words(words) => text.split(',').all(|word| words.contains(&word)),
        }
    }

    fn expected(&self) -> String {
        match self.kind {
            Kind::Text => "a text".to_owned(),
            Kind::Flag => "true or false".to_owned(),
            Kind::Count(most) => format!("1 to {most}"),
            Kind::Words(words) => format!("some of {}, with commas between", words.join(", ")),
        }
    }
}

impl Call<'_> {
    /// Notes what was done; completes "NAME (ROLE, from ADDRESS)".
    pub fn audit(&self, what: &str) {
        if let Some(who) = self.who {
            who.audit(what);
        }
    }

    /// Whether all parameters are what they may be.
    pub fn check(&self) -> Result<(), Problem> {
        for query in self.route.query {
            let Some(text) = self.head.query.split('&').find_map(|pair| {
                let (name, text) = pair.split_once('=').unwrap_or((pair, ""));
                (name == query.name).then_some(text)
            }) else {
                continue;
            };
            // What stands there but can't be decoded is no text at all.
            let fits = self.head.param(query.name).is_some_and(|text| query.fits(&text));
            if !fits {
                return Err(Problem::bad(format!(
                    "{}: expected {}, found {text:?}",
                    query.name,
                    query.expected()
                )));
            }
        }
        Ok(())
    }

    /// A text, if it is there.
    pub fn text(&self, name: &str) -> Option<String> {
        self.head.param(name).map(std::borrow::Cow::into_owned)
    }

    /// A yes or no, if it is there.
    pub fn flag(&self, name: &str) -> Option<bool> {
        self.head.param(name).map(|text| text == "true")
    }

    /// The page that is asked for, of items with their ids: the items, and what to ask next.
    pub fn page<T>(&self, mut all: Vec<T>, id: impl Fn(&T) -> String) -> (Vec<T>, Option<String>) {
        let limit = self.head.param("limit").and_then(|text| text.parse().ok()).unwrap_or(PAGE).min(MOST);
        if let Some(after) = self.text("after") {
            all.retain(|item| id(item) > after);
        }
        all.sort_by_cached_key(&id);
        let more = all.len() > limit;
        all.truncate(limit);
        let next = all.last().filter(|_| more).map(id);
        (all, next)
    }
}

/// Reads a body of JSON.
pub(super) async fn read_json(
    head: &Head,
    body: RequestBody,
    most: usize,
    time: Duration,
) -> Result<Vec<u8>, Problem> {
    let content_type = head.header(header::CONTENT_TYPE).unwrap_or_default();
    let media = content_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    if media != "application/json" && !(media.starts_with("application/") && media.ends_with("+json")) {
        let detail = format!("Content-Type: expected application/json, found {content_type:?}");
        return Err(Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, detail));
    }
    let too_large = || {
        Problem::new(
            StatusCode::PAYLOAD_TOO_LARGE,
            format!("the body is larger than {most} bytes, which is the most"),
        )
    };
    if body.size_hint().lower() > u64::try_from(most).unwrap_or(u64::MAX) {
        return Err(too_large());
    }
    let reading = async {
        let mut body = pin!(body);
        let mut bytes = Vec::new();
        while let Some(frame) = poll_fn(|cx| body.as_mut().poll_frame(cx)).await {
            let frame = frame.map_err(|error| Problem::bad(format!("the body ended too early: {error}")))?;
            let Ok(mut data) = frame.into_data() else { continue };
            if data.remaining() > most.saturating_sub(bytes.len()) {
                return Err(too_large());
            }
            while data.has_remaining() {
                bytes.extend_from_slice(data.chunk());
                data.advance(data.chunk().len());
            }
        }
        Ok(bytes)
    };
    let late = || {
        Problem::new(StatusCode::REQUEST_TIMEOUT, format!("the body took longer than {} s", time.as_secs()))
    };
    tokio::time::timeout(time, reading).await.unwrap_or_else(|_| Err(late()))
}
