use std::future::Future;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf, Bytes};
use portable_atomic::{AtomicU64, Ordering};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::Sleep;

/// A client's connection, plain or encrypted.
#[derive(Debug)]
pub enum Stream {
    /// Plain TCP.
    Plain(TcpStream),
    /// TLS on TCP.
    #[cfg(feature = "tls")]
    Tls(Box<crate::net::TlsStream>),
}

/// How many bytes a connection has carried.
#[derive(Debug, Default)]
pub(super) struct Traffic {
    received: AtomicU64,
    sent: AtomicU64,
}

impl Traffic {
    pub(super) fn received(&self) -> u64 {
        self.received.load(Ordering::Relaxed)
    }

    pub(super) fn sent(&self) -> u64 {
        self.sent.load(Ordering::Relaxed)
    }
}

/// A connection that counts its bytes, can be given back bytes that were read ahead, and ends when the peer
/// does not read for too long.
#[derive(Debug)]
pub(super) struct Io {
    stream: Stream,
    ahead: Bytes,
    traffic: Arc<Traffic>,
    send_timeout: Duration,
    /// Runs while the peer reads nothing of what we have for it.
    stalled: Option<Pin<Box<Sleep>>>,
}

impl Io {
    pub(super) fn new(stream: Stream, send_timeout: Duration) -> Self {
        Self { stream, ahead: Bytes::new(), traffic: Arc::default(), send_timeout, stalled: None }
    }

    pub(super) fn traffic(&self) -> Arc<Traffic> {
        Arc::clone(&self.traffic)
    }

    /// Gives bytes back: they will be read again, first.
    pub(super) fn unread(&mut self, bytes: Bytes) {
        self.ahead = bytes;
    }

    /// The plain socket itself, if there is one.
    pub(super) fn into_plain(self) -> Result<TcpStream, Self> {
        match self.stream {
            Stream::Plain(socket) => Ok(socket),
            #[cfg(feature = "tls")]
            Stream::Tls(_) => Err(self),
        }
    }

    /// The socket, if the connection is not encrypted.
    pub(super) fn plain(&self) -> Option<&TcpStream> {
        match &self.stream {
            Stream::Plain(socket) => Some(socket),
            #[cfg(feature = "tls")]
            Stream::Tls(_) => None,
        }
    }

    /// Counts what was sent past us.
    pub(super) fn count(&self, sent: usize) {
        self.traffic.sent.fetch_add(u64::try_from(sent).unwrap_or(0), Ordering::Relaxed);
    }

    /// Sends some of a file, at most `left` bytes from `offset` on. How many that were.
    #[cfg(target_os = "linux")]
    pub(super) async fn send_file(
        &mut self,
        file: &std::fs::File,
        offset: u64,
        left: u64,
    ) -> io::Result<u64> {
        let Some(socket) = self.plain() else { return Err(io::ErrorKind::Unsupported.into()) };
        let timeout = self.send_timeout;
        let late = |_| io::Error::new(io::ErrorKind::TimedOut, format!("read nothing for {timeout:?}"));
        let sending = super::memfile::send_file(socket, file, offset, left);
        let sent = tokio::time::timeout(timeout, sending).await.map_err(late)??;
        self.traffic.sent.fetch_add(sent, Ordering::Relaxed);
        Ok(sent)
    }

    /// Whether the client has chosen HTTP/2 in the TLS handshake (RFC 9113 3.2).
    #[cfg(feature = "tls")]
    pub(super) fn is_http2(&self) -> bool {
        match &self.stream {
            Stream::Plain(_) => false,
            Stream::Tls(stream) => stream.get_ref().1.alpn_protocol() == Some(b"h2"),
        }
    }

    /// Completes when a plain peer has gone; never for one that is encrypted or has sent more than it was
    /// asked for.
    pub(super) async fn gone(&self) {
        match &self.stream {
            Stream::Plain(socket) => {
                if matches!(socket.peek(&mut [0; 1]).await, Ok(1)) {
                    std::future::pending::<()>().await;
                }
            }
            #[cfg(feature = "tls")]
            Stream::Tls(_) => std::future::pending().await,
        }
    }

    fn guard<T>(&mut self, cx: &mut Context<'_>, result: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if result.is_ready() {
            self.stalled = None;
            return result;
        }
        let timeout = self.send_timeout;
        let timer = self.stalled.get_or_insert_with(|| Box::pin(tokio::time::sleep(timeout)));
        ready!(timer.as_mut().poll(cx));
        Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, format!("read nothing for {timeout:?}"))))
    }

    fn count_sent(&self, result: &Poll<io::Result<usize>>) {
        if let Poll::Ready(Ok(n)) = result {
            self.traffic.sent.fetch_add(u64::try_from(*n).unwrap_or(0), Ordering::Relaxed);
        }
    }
}

macro_rules! on_stream {
    ($io:expr, $stream:ident => $call:expr) => {
        match &mut $io.stream {
            Stream::Plain($stream) => $call,
            #[cfg(feature = "tls")]
            Stream::Tls($stream) => $call,
        }
    };
}

impl AsyncRead for Io {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.ahead.has_remaining() {
            let len = self.ahead.len().min(buffer.remaining());
            buffer.put_slice(&self.ahead.split_to(len));
            return Poll::Ready(Ok(()));
        }
        let before = buffer.filled().len();
        let result = on_stream!(self, s => Pin::new(s).poll_read(cx, buffer));
        let got = buffer.filled().len().saturating_sub(before);
        self.traffic.received.fetch_add(u64::try_from(got).unwrap_or(0), Ordering::Relaxed);
        match result {
            // Browsers leave without TLS's goodbye. What HTTP needs to know of a message's end, it says itself.
            Poll::Ready(Err(error)) if error.kind() == io::ErrorKind::UnexpectedEof => Poll::Ready(Ok(())),
            result => result,
        }
    }
}

impl AsyncWrite for Io {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let result = on_stream!(self, s => Pin::new(s).poll_write(cx, bytes));
        self.count_sent(&result);
        self.guard(cx, result)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let result = on_stream!(self, s => Pin::new(s).poll_flush(cx));
        self.guard(cx, result)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let result = on_stream!(self, s => Pin::new(s).poll_shutdown(cx));
        self.guard(cx, result)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let result = on_stream!(self, s => Pin::new(s).poll_write_vectored(cx, slices));
        self.count_sent(&result);
        self.guard(cx, result)
    }

    fn is_write_vectored(&self) -> bool {
        match &self.stream {
            Stream::Plain(s) => s.is_write_vectored(),
            #[cfg(feature = "tls")]
            Stream::Tls(s) => s.is_write_vectored(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    async fn pair(send_timeout: Duration) -> (Io, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        (Io::new(Stream::Plain(listener.accept().await.unwrap().0), send_timeout), client)
    }

    #[tokio::test]
    async fn bytes_given_back_come_first_and_count_once() {
        let (mut io, mut client) = pair(Duration::from_secs(9)).await;
        client.write_all(b"hello world").await.unwrap();
        let mut head = [0; 6];
        io.read_exact(&mut head).await.unwrap();
        io.unread(Bytes::copy_from_slice(&head));
        let mut all = [0; 11];
        io.read_exact(&mut all).await.unwrap();
        assert_eq!(&all, b"hello world");
        io.write_all(b"bye").await.unwrap();
        assert_eq!((io.traffic().received(), io.traffic().sent()), (11, 3));
        drop(client);
        io.gone().await;
    }

    #[tokio::test]
    async fn a_peer_that_does_not_read_is_given_up() {
        let (mut io, _client) = pair(Duration::from_millis(50)).await;
        let error = loop {
            if let Err(error) = io.write_all(&[0; 65536]).await {
                break error;
            }
        };
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
    }
}
