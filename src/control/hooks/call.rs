//! One callback: a request, and what its answer means.

use std::time::{Duration, Instant};

use bytes::Bytes;
use hyper::Method;
use hyper::header::{self, HeaderValue};
use portable_atomic::Ordering;
use serde_json::Value;

use super::stats::{Hook, Stats};
use crate::net::http::{Answer, Client, ClientError, Limits, Url};

/// The most of an answer that is read. SRS's have a code and a few words.
pub(super) const MAX_ANSWER: usize = 64 * 1024;

/// A callback that is to be made.
#[derive(Debug, Clone)]
pub(super) struct Call {
    pub hook: Hook,
    pub url: String,
    /// JSON; empty for `on_hls_notify`, which is a GET.
    pub body: Bytes,
    pub timeout: Duration,
    /// The most of its answer that is read.
    pub most: usize,
}

/// Why a callback did not pass.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Failure {
    /// The server has said no.
    Refused(String),
    /// The server gave no answer that says anything: asking again may help.
    NoAnswer(String),
}

impl Failure {
    pub(super) fn text(&self) -> &str {
        match self {
            Self::Refused(text) | Self::NoAnswer(text) => text,
        }
    }
}

/// Makes a callback once, and counts it.
pub(super) async fn make(client: &Client, stats: &Stats, call: &Call) -> Result<(), Failure> {
    let begun = Instant::now();
    let result = ask(client, call).await;
    stats.took(call.hook, begun.elapsed());
    let count = stats.of(call.hook);
    let counter = match &result {
        Ok(()) => &count.passed,
        Err(Failure::Refused(_)) => &count.refused,
        Err(Failure::NoAnswer(_)) => &count.failed,
    };
    counter.fetch_add(1, Ordering::Relaxed);
    result
}

/// Makes a callback that is answered with URLs (SRS's `on_forward`), and counts it.
#[cfg(feature = "relay")]
pub(super) async fn destinations(
    client: &Client,
    stats: &Stats,
    call: &Call,
) -> Result<Vec<String>, Failure> {
    let begun = Instant::now();
    let answer = post(client, call).await;
    let result = answer.and_then(|(server, answer)| {
        judge(&server, &answer)?;
        let answer = serde_json::from_slice::<Value>(&answer.body).unwrap_or_default();
        let Some(urls) = answer.pointer("/data/urls").and_then(Value::as_array) else {
            return Err(Failure::Refused(format!("{server} answered without data.urls")));
        };
        let texts = urls.iter().filter_map(Value::as_str).filter(|url| !url.is_empty());
        Ok(texts.map(str::to_owned).collect())
    });
    stats.took(call.hook, begun.elapsed());
    let count = stats.of(call.hook);
    let counter = match &result {
        Ok(_) => &count.passed,
        Err(Failure::Refused(_)) => &count.refused,
        Err(Failure::NoAnswer(_)) => &count.failed,
    };
    counter.fetch_add(1, Ordering::Relaxed);
    result
}

/// Posts a body of JSON; the server's name and its answer.
#[cfg(feature = "relay")]
async fn post(client: &Client, call: &Call) -> Result<(String, Answer), Failure> {
    let url = Url::parse(&call.url).map_err(|error| Failure::Refused(error.to_string()))?;
    let limits = Limits { timeout: call.timeout, max_body: call.most };
    let headers = [(header::CONTENT_TYPE, HeaderValue::from_static("application/json"))];
    let answer = client.request(Method::POST, &url, &headers, call.body.clone(), limits).await;
    answer.map(|answer| (url.server(), answer)).map_err(|error| Failure::NoAnswer(error.to_string()))
}

async fn ask(client: &Client, call: &Call) -> Result<(), Failure> {
    let refused = |text: &dyn std::fmt::Display| Failure::Refused(text.to_string());
    let url = Url::parse(&call.url).map_err(|error| refused(&error))?;
    let limits = Limits { timeout: call.timeout, max_body: call.most };
    let notify = call.hook == Hook::OnHlsNotify;
    let method = if notify { Method::GET } else { Method::POST };
    let headers = [(header::CONTENT_TYPE, HeaderValue::from_static("application/json"))];
    let answer = client.request(method, &url, &headers, call.body.clone(), limits).await;
    match answer {
        Ok(answer) if notify => good_status(&url.server(), answer.status),
        Ok(answer) => judge(&url.server(), &answer),
        // Of a CDN's answer only so much is wanted.
        Err(ClientError::Long { status, .. }) if notify => good_status(&url.server(), status),
        Err(error) => Err(Failure::NoAnswer(error.to_string())),
    }
}

fn good_status(server: &str, status: u16) -> Result<(), Failure> {
    match status {
        200 | 201 => Ok(()),
        // The server's own trouble passes; what it says of our request doesn't.
        429 | 500.. => Err(Failure::NoAnswer(format!("{server} answered {status}"))),
        _ => Err(Failure::Refused(format!("{server} answered {status}"))),
    }
}

/// SRS's rule: 200 or 201, and `0` or an object with the integer 0 as its `code`.
fn judge(server: &str, answer: &Answer) -> Result<(), Failure> {
    good_status(server, answer.status)?;
    let refused = |what: &str| Err(Failure::Refused(format!("{server} answered {what}")));
    if answer.body.trim_ascii().is_empty() {
        return refused("nothing, where 0 or {\"code\":0} means yes");
    }
    match serde_json::from_slice::<Value>(&answer.body) {
        Ok(Value::Number(code)) if code.as_i64() == Some(0) => Ok(()),
        Ok(Value::Number(code)) => refused(&format!("{code}")),
        Ok(Value::Object(fields)) => match fields.get("code").map(Value::as_i64) {
            Some(Some(0)) => Ok(()),
            Some(Some(code)) => refused(&format!("code {code}")),
            Some(None) => refused("a code that is no integer"),
            None => refused("an object without code"),
        },
        Ok(_) => refused("JSON that is neither 0 nor an object with a code"),
        Err(_) => refused("what is no JSON, where 0 or {\"code\":0} means yes"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn judge_text(status: u16, body: &str) -> Result<(), Failure> {
        // `Answer` can't be made outside its room but by a server.
        judge("server", &Answer::new(status, Bytes::copy_from_slice(body.as_bytes())))
    }

    #[test]
    fn srs_rule_of_success() {
        for (status, body) in [
            (200, "0"),
            (201, "0"),
            (200, "0\n"),
            (200, "{\"code\":0}"),
            (200, "{\"code\": 0, \"msg\": \"ok\", \"data\": {\"a\": [1]}}"),
            (201, " {\"data\":null,\"code\":0} "),
        ] {
            assert_eq!(judge_text(status, body), Ok(()), "{status} {body}");
        }
        for (status, body) in [
            (200, ""),
            (200, " "),
            (200, "1"),
            (200, "ok"),
            (200, "00"),
            (200, "\"0\""),
            (200, "[0]"),
            (200, "null"),
            (200, "0.5"),
            (200, "{}"),
            (200, "{\"code\":1}"),
            (200, "{\"code\":\"0\"}"),
            (200, "{\"code\":0.0}"),
            (200, "{\"code\":0"),
            (202, "0"),
            (204, "0"),
            (302, "0"),
            (403, "{\"code\":0}"),
        ] {
            let result = judge_text(status, body);
            assert!(matches!(result, Err(Failure::Refused(_))), "{status} {body}: {result:?}");
        }
        for status in [429, 500, 502, 503, 504] {
            assert!(matches!(judge_text(status, "0"), Err(Failure::NoAnswer(_))), "{status}");
        }
    }

    proptest! {
        #[test]
        fn any_answer_is_yes_or_no(status in 100_u16..1000, body: Vec<u8>) {
            let answer = Answer::new(status, body.into());
            let _ = judge("server", &answer);
        }
    }
}
