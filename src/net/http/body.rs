use std::io::{self, IoSlice};
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes, BytesMut};
use hyper::body::{Frame, SizeHint};
use tokio::fs::File;
use tokio::io::{AsyncRead, AsyncSeekExt, ReadBuf};
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
    Sized {
        pieces: mpsc::Receiver<io::Result<Bytes>>,
        left: u64,
    },
    Shared(Pieces),
    /// Bytes of a file in memory, which never have to be waited for.
    #[cfg(target_os = "linux")]
    Ready {
        file: Arc<std::fs::File>,
        offset: u64,
        left: u64,
    },
}

/// A body in the form that costs least to send.
pub(super) enum Whole {
    /// All of it is in our memory.
    Memory(Chunk),
    /// It is a piece of a file in memory.
    #[cfg_attr(not(target_os = "linux"), expect(dead_code, reason = "there are none"))]
    File {
        /// The file.
        file: Arc<std::fs::File>,
        /// Where it begins.
        offset: u64,
        /// How long it is.
        left: u64,
    },
    /// It comes piece by piece.
    Parts(Body),
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

    /// `len` bytes of the file at `path`, after the first `skip`.
    ///
    /// # Errors
    /// The file can't be opened.
    pub async fn file_at(path: &Path, skip: u64, len: u64) -> io::Result<Self> {
        let mut file = File::open(path).await?;
        if skip > 0 {
            file.seek(io::SeekFrom::Start(skip)).await?;
        }
        Ok(Self::file(file, len))
    }

    /// `len` bytes of these pieces together, after the first `skip`: what is in memory once, for all who ask for it.
    #[must_use]
    pub fn shared(pieces: Arc<[Bytes]>, skip: u64, len: u64) -> Self {
        let size = |piece: &Bytes| u64::try_from(piece.len()).unwrap_or(u64::MAX);
        let (mut next, mut skip) = (0, skip);
        let mut there = 0_u64;
        for piece in pieces.iter() {
            if there == 0 && skip >= size(piece) {
                skip -= size(piece);
                next += 1;
            } else {
                there = there.saturating_add(size(piece));
            }
        }
        let left = usize::try_from(len.min(there.saturating_sub(skip))).unwrap_or(usize::MAX);
        if left == 0 {
            return Self::default();
        }
        let skip = usize::try_from(skip).unwrap_or(usize::MAX);
        Self(Inner::Shared(Pieces { pieces, next, skip, left }))
    }

    /// `len` bytes of a file that is in memory ([`in_memory`](super::in_memory)), after the first `offset`.
    #[cfg(target_os = "linux")]
    #[must_use]
    pub fn in_memory_file(file: Arc<std::fs::File>, offset: u64, len: u64) -> Self {
        if len == 0 { Self::default() } else { Self(Inner::Ready { file, offset, left: len }) }
    }

    /// The body in the form that costs least to send.
    pub(super) fn whole(self) -> Whole {
        match self.0 {
            Inner::Empty => Whole::Memory(Chunk::One(Bytes::new())),
            Inner::Bytes(bytes) => Whole::Memory(Chunk::One(bytes)),
            Inner::Shared(pieces) => Whole::Memory(Chunk::Many(pieces)),
            #[cfg(target_os = "linux")]
            Inner::Ready { file, offset, left } => Whole::File { file, offset, left },
            inner => Whole::Parts(Self(inner)),
        }
    }

    /// `len` bytes that come through a channel, made as they are sent. When it is closed before, the connection is, too.
    #[must_use]
    pub fn sized(pieces: mpsc::Receiver<io::Result<Bytes>>, len: u64) -> Self {
        if len == 0 { Self::default() } else { Self(Inner::Sized { pieces, left: len }) }
    }

    /// What comes through a channel, until it is closed.
    #[must_use]
    pub fn live(pieces: mpsc::Receiver<Bytes>) -> Self {
        Self(Inner::Live(pieces))
    }

    /// The bytes of a body that is in memory; nothing of other bodies.
    #[must_use]
    pub fn in_memory(&self) -> &[u8] {
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
    type Data = Chunk;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Chunk>, io::Error>>> {
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
            Inner::Shared(_) => {
                // All at once: so hyper writes many of them in one go, however small they are.
                if let Inner::Shared(pieces) = std::mem::take(&mut self.0) {
                    return Poll::Ready(Some(Ok(Frame::data(Chunk::Many(pieces)))));
                }
                return Poll::Ready(None);
            }
            #[cfg(target_os = "linux")]
            Inner::Ready { left: 0, .. } => return Poll::Ready(None),
            #[cfg(target_os = "linux")]
            Inner::Ready { file, offset, left } => {
                use std::os::unix::fs::FileExt;
                let want = usize::try_from(*left).unwrap_or(usize::MAX).min(FILE_PIECE);
                let mut piece = vec![0; want];
                file.read_exact_at(&mut piece, *offset)?;
                let got = u64::try_from(want).unwrap_or(u64::MAX);
                (*offset, *left) = (offset.saturating_add(got), left.saturating_sub(got));
                piece.into()
            }
            Inner::Sized { left: 0, .. } => return Poll::Ready(None),
            Inner::Sized { pieces, left } => {
                let ended =
                    || io::Error::new(io::ErrorKind::UnexpectedEof, "there is less than was promised");
                let mut piece = ready!(pieces.poll_recv(cx)).unwrap_or_else(|| Err(ended()))?;
                piece.truncate(usize::try_from(*left).unwrap_or(usize::MAX));
                *left = left.saturating_sub(u64::try_from(piece.len()).unwrap_or(u64::MAX));
                piece
            }
            Inner::Live(pieces) => match ready!(pieces.poll_recv(cx)) {
                Some(piece) => piece,
                None => return Poll::Ready(None),
            },
        };
        Poll::Ready(Some(Ok(Frame::data(Chunk::One(piece)))))
    }

    fn is_end_stream(&self) -> bool {
        self.size_hint().exact() == Some(0)
    }

    fn size_hint(&self) -> SizeHint {
        match &self.0 {
            Inner::Empty => SizeHint::with_exact(0),
            Inner::Bytes(bytes) => SizeHint::with_exact(u64::try_from(bytes.len()).unwrap_or(u64::MAX)),
            Inner::File { left, .. } | Inner::Sized { left, .. } => SizeHint::with_exact(*left),
            #[cfg(target_os = "linux")]
            Inner::Ready { left, .. } => SizeHint::with_exact(*left),
            Inner::Shared(pieces) => SizeHint::with_exact(u64::try_from(pieces.left).unwrap_or(u64::MAX)),
            Inner::Live(_) => SizeHint::default(),
        }
    }
}

/// What a body gives at a time.
#[derive(Debug)]
pub enum Chunk {
    /// One piece of memory.
    One(Bytes),
    /// Several that lie apart.
    Many(Pieces),
}

/// Bytes in pieces that are shared. None is copied.
#[derive(Debug)]
pub struct Pieces {
    pieces: Arc<[Bytes]>,
    /// Which piece comes next.
    next: usize,
    /// How many bytes of it are not wanted (any more).
    skip: usize,
    /// How many bytes are still to come.
    left: usize,
}

impl Pieces {
    /// What is still to come, piece by piece.
    fn rest(&self) -> impl Iterator<Item = &[u8]> {
        let mut left = self.left;
        let pieces = self.pieces.get(self.next..).unwrap_or_default().iter().enumerate();
        let rest = pieces.map(move |(n, piece)| {
            let piece = piece.get(if n == 0 { self.skip } else { 0 }..).unwrap_or_default();
            let piece = piece.get(..piece.len().min(left)).unwrap_or_default();
            left -= piece.len();
            piece
        });
        rest.filter(|piece| !piece.is_empty())
    }
}

impl Buf for Chunk {
    fn remaining(&self) -> usize {
        match self {
            Self::One(piece) => piece.len(),
            Self::Many(pieces) => pieces.left,
        }
    }

    fn chunk(&self) -> &[u8] {
        match self {
            Self::One(piece) => piece,
            Self::Many(pieces) => pieces.rest().next().unwrap_or_default(),
        }
    }

    fn chunks_vectored<'a>(&'a self, slices: &mut [IoSlice<'a>]) -> usize {
        match self {
            Self::One(piece) => piece.chunks_vectored(slices),
            Self::Many(pieces) => {
                let filled = slices.iter_mut().zip(pieces.rest());
                filled.map(|(slice, piece)| *slice = IoSlice::new(piece)).count()
            }
        }
    }

    fn advance(&mut self, count: usize) {
        match self {
            Self::One(piece) => piece.advance(count),
            Self::Many(pieces) => {
                let mut count = count.min(pieces.left);
                pieces.left -= count;
                while let Some(piece) = pieces.pieces.get(pieces.next) {
                    let here = piece.len().saturating_sub(pieces.skip);
                    if count < here {
                        pieces.skip += count;
                        return;
                    }
                    count -= here;
                    (pieces.next, pieces.skip) = (pieces.next + 1, 0);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use hyper::body::Body as _;

    /// All that a body gives.
    fn all(mut body: Body) -> Vec<u8> {
        let mut all = Vec::new();
        let promised = body.size_hint().exact().unwrap();
        let mut cx = Context::from_waker(std::task::Waker::noop());
        while let Poll::Ready(Some(frame)) = Pin::new(&mut body).poll_frame(&mut cx) {
            assert!(!all.is_empty() || promised > 0);
            let mut chunk = frame.unwrap().into_data().unwrap();
            // By bytes, by slices, and by leaps over several pieces.
            let mut slices = [IoSlice::new(&[]); 2];
            let count = chunk.chunks_vectored(&mut slices);
            assert!(slices[..count].iter().map(|slice| slice.len()).sum::<usize>() <= chunk.remaining());
            let mut step = 1;
            while chunk.has_remaining() {
                let len = step.min(chunk.remaining());
                all.extend_from_slice(&chunk.copy_to_bytes(len));
                step += 1;
            }
        }
        assert!(body.is_end_stream() && promised == all.len() as u64);
        all
    }

    #[test]
    fn any_range_of_shared_pieces() {
        let pieces: Arc<[Bytes]> = [&b"abc"[..], b"", b"d", b"efgh"].map(Bytes::from_static).into();
        let whole = b"abcdefgh";
        for skip in 0..10 {
            for len in 0..10 {
                let expected: Vec<u8> = whole.iter().copied().skip(skip).take(len).collect();
                let body = Body::shared(Arc::clone(&pieces), skip as u64, len as u64);
                assert_eq!(all(body), expected, "{len} after {skip}");
            }
        }
        assert_eq!(all(Body::shared(pieces, 0, u64::MAX)), whole);
        assert_eq!(all(Body::shared(Arc::new([]), 0, 1)), b"");
    }
}
