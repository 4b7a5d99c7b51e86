//! Errors as problem details (RFC 9457).

use hyper::StatusCode;
use hyper::header::HeaderName;
use serde_json::{Value, json};

use crate::control::api::guard::Denied;
use crate::control::api::reply::reply;
use crate::control::json::{Json, Schemas, object};
use crate::net::http::{Reply, put};

/// Why there is no answer.
#[derive(Debug, Clone)]
pub(in crate::control::api) struct Problem {
    status: StatusCode,
    detail: String,
    header: Option<(HeaderName, String)>,
    more: Vec<(&'static str, Value)>,
}

impl Problem {
    /// A status, and what is wrong and what to do in a sentence.
    pub fn new(status: StatusCode, detail: impl Into<String>) -> Self {
        Self { status, detail: detail.into(), header: None, more: Vec::new() }
    }

    /// 400: the request is wrong.
    pub fn bad(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, detail)
    }

    /// 404
    pub fn not_found(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, detail)
    }

    /// With a header line.
    pub fn with_header(mut self, name: HeaderName, value: &str) -> Self {
        self.header = Some((name, value.to_owned()));
        self
    }

    /// With another field (section 3.2).
    #[allow(dead_code, reason = "for whoever has more to say")]
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
        if let Some((name, value)) = self.header {
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

impl From<Denied> for Problem {
    fn from(denied: Denied) -> Self {
        let text = denied.to_string();
        Self::new(denied.status(), text.split_once(": ").map_or(text.as_str(), |(_, text)| text))
    }
}
