use std::net::SocketAddr;

use crate::id::SessionId;

/// Who publishes or reads: what statistics, logs, access rules and callbacks say of a session.
#[derive(Debug, Clone)]
pub struct Client {
    /// The session.
    pub id: SessionId,
    /// Protocol and role.
    pub kind: ClientKind,
    /// The peer's address.
    pub peer: SocketAddr,
    /// The query of the URL, without `?`.
    pub params: String,
    /// RTMP `tcUrl`, or the request's URL up to the stream.
    pub tc_url: String,
    /// The page that the player stands on, if it says so.
    pub page_url: String,
}

impl Client {
    /// A client that gave no query and no page.
    #[must_use]
    pub fn new(id: SessionId, kind: ClientKind, peer: SocketAddr) -> Self {
        Self { id, kind, peer, params: String::new(), tc_url: String::new(), page_url: String::new() }
    }
}

/// Protocol and role of a client.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum ClientKind {
    /// HTTP reader of `.aac`.
    AacPlay,
    /// Viewer of DASH segments.
    DashPlay,
    /// RTMP publisher that publishes without FMLE's preliminaries.
    FlashPublish,
    /// HTTP or WebSocket reader of `.flv`.
    FlvPlay,
    /// RTMP publisher as FMLE, FFmpeg and OBS do.
    FmlePublish,
    /// RTMP publisher as Haivision encoders do.
    HaivisionPublish,
    /// Viewer of HLS segments.
    HlsPlay,
    /// HTTP reader of `.mp3`.
    Mp3Play,
    /// RTMP player.
    RtmpPlay,
    /// HTTP reader of `.ts`.
    TsPlay,
}

impl ClientKind {
    /// All kinds, for tables by kind.
    pub const ALL: [Self; 10] = [
        Self::AacPlay,
        Self::DashPlay,
        Self::FlashPublish,
        Self::FlvPlay,
        Self::FmlePublish,
        Self::HaivisionPublish,
        Self::HlsPlay,
        Self::Mp3Play,
        Self::RtmpPlay,
        Self::TsPlay,
    ];

    /// The name in the API, in SRS's words where it has one.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::AacPlay => "aac-play",
            Self::DashPlay => "dash-play",
            Self::FlashPublish => "flash-publish",
            Self::FlvPlay => "flv-play",
            Self::FmlePublish => "fmle-publish",
            Self::HaivisionPublish => "haivision-publish",
            Self::HlsPlay => "hls-play",
            Self::Mp3Play => "mp3-play",
            Self::RtmpPlay => "rtmp-play",
            Self::TsPlay => "ts-play",
        }
    }

    /// Whether it is a reader's.
    #[must_use]
    pub const fn reads(self) -> bool {
        !matches!(self, Self::FlashPublish | Self::FmlePublish | Self::HaivisionPublish)
    }

    /// Place in [`ClientKind::ALL`].
    pub(crate) const fn index(self) -> usize {
        self as usize
    }
}
