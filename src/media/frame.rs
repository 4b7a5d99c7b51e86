use std::fmt;
use std::ops::BitOr;

use bytes::Bytes;

use super::TrackId;

/// What is special about a frame.
#[derive(Clone, Copy, PartialEq, Eq, Default)]
pub struct Flags(u8);

impl Flags {
    /// Nothing.
    pub const NONE: Self = Self(0);
    /// A decoder can start here (IDR, IRAP, AV1 key frame; set on every audio frame).
    pub const KEY: Self = Self(1);
    /// No other frame refers to it: it may be dropped alone.
    pub const DISPOSABLE: Self = Self(2);
    /// The timeline or the source changed before this frame.
    pub const DISCONTINUITY: Self = Self(4);
    /// The track's config changed before this frame.
    pub const NEW_CONFIG: Self = Self(8);

    /// Whether all of `other` is set.
    #[must_use]
    pub const fn has(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// With `other` set too.
    #[must_use]
    pub const fn with(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

impl BitOr for Flags {
    type Output = Self;
    fn bitor(self, other: Self) -> Self {
        self.with(other)
    }
}

impl fmt::Debug for Flags {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = [
            (Self::KEY, "key"),
            (Self::DISPOSABLE, "disposable"),
            (Self::DISCONTINUITY, "discontinuity"),
            (Self::NEW_CONFIG, "new-config"),
        ];
        f.debug_set().entries(names.iter().filter(|(flag, _)| self.has(*flag)).map(|(_, name)| name)).finish()
    }
}

/// One access unit of a video track, or one packet of an audio or data track.
#[derive(Clone, PartialEq, Eq)]
pub struct Frame {
    /// Which track of the stream.
    pub track: TrackId,
    /// Key frame and the like.
    pub flags: Flags,
    /// Decoding time, in ticks of the track's timescale. 64 bits: never wraps.
    pub dts: i64,
    /// Presentation time minus `dts`, in the same ticks.
    pub cts: i32,
    /// When the picture was taken, where the source says so: milliseconds since 1970, UTC.
    pub wall_ms: Option<i64>,
    /// The payload, in the form that the [module](super) page gives for the codec.
    pub data: Bytes,
}

impl Frame {
    /// Presentation time in ticks of the track's timescale.
    #[must_use]
    pub fn pts(&self) -> i64 {
        self.dts.saturating_add(i64::from(self.cts))
    }

    /// Whether a decoder can start here.
    #[must_use]
    pub fn is_key(&self) -> bool {
        self.flags.has(Flags::KEY)
    }
}

impl fmt::Debug for Frame {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Frame({} {}+{} {:?} {} B)", self.track.0, self.dts, self.cts, self.flags, self.data.len())
    }
}
