//! Answers as HTTP has them.

use hyper::header::{self, HeaderValue};
use hyper::{Response, StatusCode};

use crate::net::http::{Body, Reply};

/// An answer with a body of this type, which is not to be kept.
pub(super) fn reply(status: StatusCode, content_type: &'static str, body: String) -> Reply {
    let mut reply = Response::new(Body::from(body));
    *reply.status_mut() = status;
    let headers = reply.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    reply
}
