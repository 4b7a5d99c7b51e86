//! What all depacketisers of video share: a frame that grows, and may be damaged.

use bytes::Bytes;

use super::{MAX_FRAME, Piece, Unit};

/// A frame on its way: pieces of one timestamp, up to the marker.
#[derive(Debug, Default)]
pub(super) struct Assembly {
    pub(super) data: Vec<u8>,
    timestamp: Option<i64>,
    /// Something of this frame is missing: it is dropped as a whole.
    damaged: bool,
    /// Something before this frame is missing.
    lost: bool,
    /// Its end was seen: what follows with the same timestamp is another frame's, or nothing's.
    ended: bool,
    /// The size of the frame before: about what this one takes.
    usual: usize,
}

impl Assembly {
    /// Whether a piece is of the frame that was begun.
    pub(super) fn goes_on(&self, piece: &Piece<'_>) -> bool {
        self.timestamp == Some(piece.timestamp) && !self.ended
    }

    /// Begins with a piece; where it is of another frame, gives the one before. `begins`: no piece of its frame comes before
    /// this one.
    pub(super) fn begin(&mut self, piece: &Piece<'_>, begins: bool, each: &mut dyn FnMut(Unit)) {
        let same = self.goes_on(piece);
        if piece.lost {
            if same {
                self.damaged = true;
            } else {
                // The end of the frame before may be what is missing.
                self.damaged |= !self.ended && self.timestamp.is_some();
            }
        }
        if same {
            return;
        }
        self.finish(each);
        self.timestamp = Some(piece.timestamp);
        self.ended = false;
        self.lost |= piece.lost;
        self.damaged = piece.lost && !begins;
        self.data.reserve(self.usual.min(MAX_FRAME));
    }

    /// Appends bytes to the frame.
    pub(super) fn put(&mut self, bytes: &[u8]) {
        if self.damaged {
            return;
        }
        if self.data.len() + bytes.len() > MAX_FRAME {
            self.damage();
            return;
        }
        self.data.extend_from_slice(bytes);
    }

    /// The frame can't be put together.
    pub(super) fn damage(&mut self) {
        self.damaged = true;
        self.data = Vec::new();
    }

    /// The marker was seen, or another frame begins: gives what there is.
    pub(super) fn finish(&mut self, each: &mut dyn FnMut(Unit)) {
        self.ended = true;
        let Some(timestamp) = self.timestamp else { return };
        let data = std::mem::take(&mut self.data);
        if std::mem::take(&mut self.damaged) {
            self.lost = true;
            return;
        }
        if data.is_empty() {
            return;
        }
        self.usual = data.len();
        let lost = std::mem::take(&mut self.lost);
        each(Unit { timestamp, data: Bytes::from(data), lost, config: None });
    }
}
