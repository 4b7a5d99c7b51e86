//! Answers on plain HTTP/1 connections, one after the other. Requests without a body, that is nearly all, are answered
//! from here, and from files in memory without a copy: a thousand viewers of segments cost half of what they cost by way
//! of hyper, which has the rest (bodies, `Expect`, upgrades, TLS).

use std::fmt::Write as _;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::time::{Duration, SystemTime};

use bytes::{Buf, Bytes};
use hyper::body::Body as _;
use hyper::header::{self, HeaderValue};
use hyper::{Method, StatusCode, Version};
use tokio::io::{AsyncWriteExt, Interest};

use super::body::{Chunk, Whole};
use super::io::Io;
use super::reply::head_bytes;
use super::{Body, Head, Reply};

/// I/O vectors of one write.
const VECTORS: usize = 64;

/// Whether a request is one that is answered from here.
pub(super) fn is_plain(head: &Head) -> bool {
    let says = |name| head.headers.contains_key(name);
    matches!(head.method, Method::GET | Method::HEAD)
        && !says(header::TRANSFER_ENCODING)
        && !says(header::EXPECT)
        && !says(header::UPGRADE)
        && head.headers.get_all(header::CONTENT_LENGTH).iter().all(|len| len.as_bytes() == b"0")
}

/// How a body lies on the connection.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Lay {
    /// There is none.
    Nothing,
    /// As long as `Content-Length` says.
    Counted,
    Chunked,
    /// As long as the connection.
    Open,
}

/// Sends `reply` to the request of `head`. Whether the connection may go on.
pub(super) async fn send(io: &mut Io, head: &Head, mut reply: Reply) -> io::Result<bool> {
    let status = reply.status();
    let bodiless = matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED);
    let len = reply.body().size_hint().exact();
    let lay = match len {
        _ if bodiless => Lay::Nothing,
        Some(_) => Lay::Counted,
        None if head.version == Version::HTTP_10 => Lay::Open,
        None => Lay::Chunked,
    };
    let says_close = reply
        .headers()
        .get(header::CONNECTION)
        .is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"close"));
    let close = head.wants_close() || lay == Lay::Open || says_close;
    let headers = reply.headers_mut();
    if let Ok(date) = HeaderValue::try_from(httpdate::fmt_http_date(SystemTime::now())) {
        headers.insert(header::DATE, date);
    }
    match lay {
        Lay::Nothing | Lay::Open => {}
        // What a `GET` would get is not known here.
        Lay::Counted if head.method == Method::HEAD && len == Some(0) => {}
        Lay::Counted => drop(headers.insert(header::CONTENT_LENGTH, HeaderValue::from(len.unwrap_or(0)))),
        Lay::Chunked => drop(headers.insert(header::TRANSFER_ENCODING, HeaderValue::from_static("chunked"))),
    }
    if close {
        headers.insert(header::CONNECTION, HeaderValue::from_static("Close"));
    } else if head.version == Version::HTTP_10 {
        headers.insert(header::CONNECTION, HeaderValue::from_static("Keep-Alive"));
    }
    let start = Bytes::from(head_bytes(status, reply.headers()));
    let body = std::mem::take(reply.body_mut());
    if lay == Lay::Nothing || head.method == Method::HEAD {
        write(io, start, Chunk::One(Bytes::new())).await?;
    } else {
        send_body(io, start, body, lay == Lay::Chunked).await?;
    }
    Ok(!close)
}

async fn send_body(io: &mut Io, start: Bytes, body: Body, chunked: bool) -> io::Result<()> {
    let mut body = match body.whole() {
        Whole::Memory(chunk) => return write(io, start, chunk).await,
        #[cfg(target_os = "linux")]
        Whole::File { file, mut offset, mut left } if io.plain().is_some() => {
            send_head(io, start).await?;
            while left > 0 {
                let sent = io.send_file(&file, offset, left).await?;
                offset = offset.saturating_add(sent);
                left = left.saturating_sub(sent);
            }
            return Ok(());
        }
        #[cfg(not(target_os = "linux"))]
        Whole::File { .. } => Body::default(),
        #[cfg(target_os = "linux")]
        Whole::File { file, offset, left } => Body::in_memory_file(file, offset, left),
        Whole::Parts(body) => body,
    };
    // The head goes with the first piece.
    let mut start = start;
    while let Some(frame) = std::future::poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)).await {
        let Ok(chunk) = frame?.into_data() else { continue };
        if !chunk.has_remaining() {
            continue;
        }
        let mut before = String::new();
        if chunked {
            let _ = write!(before, "{:x}\r\n", chunk.remaining());
        }
        let before = [std::mem::take(&mut start), before.into()].concat();
        write(io, before.into(), chunk).await?;
        if chunked {
            start = Bytes::from_static(b"\r\n");
        }
    }
    if chunked {
        start = [start, Bytes::from_static(b"0\r\n\r\n")].concat().into();
    }
    write(io, start, Chunk::One(Bytes::new())).await
}

/// Writes `start` and `rest` in as few calls as they need.
async fn write(io: &mut Io, mut start: Bytes, mut rest: Chunk) -> io::Result<()> {
    while start.has_remaining() || rest.has_remaining() {
        let sent = {
            let mut slices = [IoSlice::new(&[]); VECTORS];
            let [first, others @ ..] = &mut slices;
            *first = IoSlice::new(&start);
            let count = 1 + rest.chunks_vectored(others);
            io.write_vectored(slices.get(..count).unwrap_or_default()).await?
        };
        if sent == 0 {
            return Err(io::ErrorKind::WriteZero.into());
        }
        let of_start = sent.min(start.len());
        start.advance(of_start);
        rest.advance(sent - of_start);
    }
    Ok(())
}

/// Writes a head after which a file follows at once, so that both can share a packet.
#[cfg(target_os = "linux")]
async fn send_head(io: &mut Io, start: Bytes) -> io::Result<()> {
    let Some(socket) = io.plain() else { return Ok(()) };
    let flags = libc::MSG_MORE | libc::MSG_NOSIGNAL | libc::MSG_DONTWAIT;
    let send = || socket2::SockRef::from(socket).send_with_flags(&start, flags);
    let sent = socket.try_io(Interest::WRITABLE, send).or_else(|error| match error.kind() {
        io::ErrorKind::WouldBlock => Ok(0),
        _ => Err(error),
    })?;
    io.count(sent);
    write(io, start.slice(sent.min(start.len())..), Chunk::One(Bytes::new())).await
}

/// How long a request may take before it is looked whether the client still waits for it.
pub(super) const LOOK: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_that_could_hide_a_request_are_not_for_here() {
        for (headers, expected) in [
            ("", true),
            ("Content-Length: 0\r\n", true),
            ("Content-Length: 0\r\nContent-Length: 60\r\n", false),
            ("Content-Length: 60\r\n", false),
            ("Content-Length: 5\u{80}\r\n", false),
            ("Transfer-Encoding: chunked\r\n", false),
        ] {
            let head = Head::parse(format!("GET / HTTP/1.1\r\nHost: a\r\n{headers}\r\n").as_bytes());
            assert_eq!(head.is_ok_and(|head| is_plain(&head.unwrap().0)), expected, "{headers:?}");
        }
    }
}
