//! Errors as problem details (RFC 9457).

use hyper::StatusCode;
use hyper::header::{self, HeaderName};
use serde_json::{Value, json};

use crate::control::api::reply::reply;
use crate::control::json::{Json, Schemas, object};
use crate::net::http::{Reply, put};

/// Why there is no answer.
#[derive(Debug, Clone)]
pub(in crate::control::api) struct Problem {
    status: StatusCode,
    detail: String,
    headers: Vec<(HeaderName, String)>,
    more: Vec<(&'static str, Value)>,
}

impl Problem {
    /// A status, and what is wrong and what to do in a sentence.
    pub fn new(status: StatusCode, detail: impl Into<String>) -> Self {
        Self { status, detail: detail.into(), headers: Vec::new(), more: Vec::new() }
    }

    /// 400: the request is wrong.
    pub fn bad(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, detail)
    }

    /// 404
    pub fn not_found(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, detail)
    }

    /// What a reply of one line of text says.
    pub fn of(text: &Reply) -> Self {
        let detail = String::from_utf8_lossy(text.body().in_memory());
        let detail = detail.split_once(": ").map_or(&*detail, |(_, detail)| detail).trim();
        let mut problem = Self::new(text.status(), detail);
        for name in [header::RETRY_AFTER, header::WWW_AUTHENTICATE] {
            if let Some(value) = text.headers().get(&name).and_then(|value| value.to_str().ok()) {
                problem = problem.with_header(name, value);
            }
        }
        problem
    }

    /// With a header line.
    pub fn with_header(mut self, name: HeaderName, value: &str) -> Self {
        self.headers.push((name, value.to_owned()));
        self
    }

    /// With another field (section 3.2).
    pub fn with(mut self, name: &'static str, value: Value) -> Self {
        self.more.push((name, value));
        self
    }

    pub fn reply(self) -> Reply {
        let status = self.status.as_u16();
        let mut fields: Vec<(&str, &dyn Json)> = vec![("type", &"about:blank")];
        let title = self.status.canonical_reason().unwrap_or("Error");
        fields.extend([("title", &title as &dyn Json), ("status", &status), ("detail", &self.detail)]);
        fields.extend(self.more.iter().map(|(name, value)| (*name, value as &dyn Json)));
        let mut body = String::new();
        object(&mut body, &fields);
        let mut reply = reply(self.status, "application/problem+json", body);
        for (name, value) in self.headers {
            put(&mut reply, name, &value);
        }
        reply
    }

    /// The schema of what [`reply`](Self::reply) writes.
    pub fn schema(known: &mut Schemas) -> Value {
        let schema = json!({
            "type": "object",
            "description": "What went wrong (RFC 9457).",
            "properties": {
                "type": {"type": "string", "description": "What kind of problem it is: about:blank, the status says it."},
                "title": {"type": "string", "description": "The status in words."},
                "status": {"type": "integer", "description": "The status."},
                "detail": {"type": "string", "description": "What is wrong, and what to do."},
            },
            "required": ["type", "title", "status", "detail"],
        });
        known.insert("Problem".to_owned(), schema);
        json!({"$ref": "#/components/schemas/Problem"})
    }
}
