use std::fmt;

/// What a track is to a viewer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    /// Sound.
    Audio,
    /// Timed metadata.
    Data,
    /// Picture.
    Video,
}

/// The coding of a track's payload.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Codec {
    /// AAC: LC, HE v1, HE v2 (ISO/IEC 14496-3).
    Aac,
    /// AC-3 (ETSI TS 102 366).
    Ac3,
    /// AOMedia Video 1.
    Av1,
    /// Timed data that is carried, not understood.
    Data,
    /// E-AC-3 (ETSI TS 102 366 annex E).
    Eac3,
    /// FLAC (RFC 9639).
    Flac,
    /// G.711 A-law.
    G711A,
    /// G.711 µ-law.
    G711U,
    /// H.264 / AVC.
    H264,
    /// H.265 / HEVC.
    H265,
    /// SMPTE 336M key-length-value metadata.
    Klv,
    /// MPEG-1/2 audio layer III (and II, I where a container carries them under one name).
    Mp3,
    /// Opus (RFC 6716).
    Opus,
    /// VP8 (RFC 6386).
    Vp8,
    /// VP9.
    Vp9,
}

impl Codec {
    /// Audio, video or data.
    #[must_use]
    pub const fn kind(self) -> Kind {
        match self {
            Self::Aac
            | Self::Ac3
            | Self::Eac3
            | Self::Flac
            | Self::G711A
            | Self::G711U
            | Self::Mp3
            | Self::Opus => Kind::Audio,
            Self::Av1 | Self::H264 | Self::H265 | Self::Vp8 | Self::Vp9 => Kind::Video,
            Self::Data | Self::Klv => Kind::Data,
        }
    }

    /// Whether payloads are length-prefixed NAL units.
    #[must_use]
    pub const fn has_nals(self) -> bool {
        matches!(self, Self::H264 | Self::H265)
    }

    /// Whether a decoder needs [`Track::config`](super::Track::config) before the first frame.
    #[must_use]
    pub const fn needs_config(self) -> bool {
        matches!(self, Self::Aac | Self::Flac | Self::H264 | Self::H265)
    }

    /// The name that SRS's API and players' info panels use, e.g. `"H264"`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Aac => "AAC",
            Self::Ac3 => "AC3",
            Self::Av1 => "AV1",
            Self::Data => "data",
            Self::Eac3 => "EAC3",
            Self::Flac => "FLAC",
            Self::G711A => "PCMA",
            Self::G711U => "PCMU",
            Self::H264 => "H264",
            Self::H265 => "HEVC",
            Self::Klv => "KLV",
            Self::Mp3 => "MP3",
            Self::Opus => "Opus",
            Self::Vp8 => "VP8",
            Self::Vp9 => "VP9",
        }
    }
}

impl fmt::Display for Codec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
