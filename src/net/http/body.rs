use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Bytes, BytesMut};
use hyper::body::{Frame, SizeHint};
use tokio::fs::File;
use tokio::io::{AsyncRead, ReadBuf};
use tokio::sync::mpsc;

/// How much of a file is in memory for one of its readers.
const FILE_PIECE: usize = 64 * 1024;

/// What a reply carries.
#[derive(Debug, Default)]
pub struct Body(Inner);

#[derive(Debug, Default)]
enum Inner {
    #[default]
    Empty,
    Bytes(Bytes),
    File {
        file: File,
        left: u64,
        buffer: BytesMut,
    },
    Live(mpsc::Receiver<Bytes>),
}

impl Body {
    /// The next `len` bytes of `file`.
    #[must_use]
    pub fn file(file: File, len: u64) -> Self {
        if len == 0 {
            return Self::default();
        }
        Self(Inner::File { file, left: len, buffer: BytesMut::new() })
    }

    /// What comes through a channel, until it is closed.
    pub(super) fn live(pieces: mpsc::Receiver<Bytes>) -> Self {
        Self(Inner::Live(pieces))
    }

    /// The bytes of a body that is in memory; nothing of other bodies.
    #[must_use]
    pub(super) fn in_memory(&self) -> &[u8] {
        match &self.0 {
            Inner::Bytes(bytes) => bytes,
            _ => &[],
        }
    }
}

impl<T: Into<Bytes>> From<T> for Body {
    fn from(bytes: T) -> Self {
        let bytes = bytes.into();
        Self(if bytes.is_empty() { Inner::Empty } else { Inner::Bytes(bytes) })
    }
}

impl hyper::body::Body for Body {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        let piece = match &mut self.0 {
            Inner::Empty => return Poll::Ready(None),
            Inner::Bytes(bytes) => {
                let bytes = std::mem::take(bytes);
                self.0 = Inner::Empty;
                bytes
            }
            Inner::File { left: 0, .. } => return Poll::Ready(None),
            Inner::File { file, left, buffer } => {
                let want = usize::try_from(*left).unwrap_or(usize::MAX).min(FILE_PIECE);
                buffer.resize(want, 0);
                let mut into = ReadBuf::new(buffer);
                ready!(Pin::new(file).poll_read(cx, &mut into))?;
                let got = into.filled().len();
                if got == 0 {
                    let why = "the file became shorter while it was sent";
                    return Poll::Ready(Some(Err(io::Error::new(io::ErrorKind::UnexpectedEof, why))));
                }
                *left = left.saturating_sub(u64::try_from(got).unwrap_or(u64::MAX));
                buffer.split_to(got).freeze()
            }
            Inner::Live(pieces) => match ready!(pieces.poll_recv(cx)) {
                Some(piece) => piece,
                None => return Poll::Ready(None),
            },
        };
        Poll::Ready(Some(Ok(Frame::data(piece))))
    }

    fn is_end_stream(&self) -> bool {
        matches!(self.0, Inner::Empty | Inner::File { left: 0, .. })
    }

    fn size_hint(&self) -> SizeHint {
        match &self.0 {
            Inner::Empty => SizeHint::with_exact(0),
            Inner::Bytes(bytes) => SizeHint::with_exact(u64::try_from(bytes.len()).unwrap_or(u64::MAX)),
            Inner::File { left, .. } => SizeHint::with_exact(*left),
            Inner::Live(_) => SizeHint::default(),
        }
    }
}
