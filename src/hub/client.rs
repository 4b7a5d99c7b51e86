use std::net::{IpAddr, SocketAddr};

use crate::id::SessionId;

/// Who publishes or reads: what statistics, logs, access rules and callbacks say of a session.
#[derive(Debug, Clone)]
pub struct Client {
    /// The session.
    pub id: SessionId,
    /// Protocol and role.
    pub kind: ClientKind,
    /// The other end of the connection.
    pub peer: SocketAddr,
    /// The client behind a proxy on this machine, as the proxy says.
    pub forwarded_for: Option<IpAddr>,
    /// What it named in its URL: the stream, with the ending that says in which form (`demo.flv`).
    pub asked: String,
    /// The query of the URL, without `?`.
    pub params: String,
    /// RTMP `tcUrl`, or the request's URL up to the stream.
    pub tc_url: String,
    /// The page that the player stands on, if it says so.
    pub page_url: String,
    /// The Flash player's own URL, if it says so.
    pub swf_url: String,
    /// What the client gave to prove who it is, beside its query: an `Authorization` header.
    pub authorization: Secret,
}

/// What must not be seen in logs.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Secret(pub String);

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(if self.0.is_empty() { "none" } else { "***" })
    }
}

impl Client {
    /// A client that gave no query and no page.
    #[must_use]
    pub fn new(id: SessionId, kind: ClientKind, peer: SocketAddr) -> Self {
        Self {
            id,
            kind,
            peer,
            forwarded_for: None,
            asked: String::new(),
            params: String::new(),
            tc_url: String::new(),
            page_url: String::new(),
            swf_url: String::new(),
            authorization: Secret::default(),
        }
    }

    /// Where the client is: behind a proxy on this machine, what that says.
    #[must_use]
    pub fn ip(&self) -> IpAddr {
        self.forwarded_for.unwrap_or(self.peer.ip()).to_canonical()
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
    /// A stream that we fetch from another server.
    Pull,
    /// WebRTC player.
    RtcPlay,
    /// WebRTC publisher.
    RtcPublish,
    /// RTMP player.
    RtmpPlay,
    /// SRT player.
    SrtPlay,
    /// SRT publisher.
    SrtPublish,
    /// HTTP reader of `.ts`.
    TsPlay,
}

impl ClientKind {
    /// All kinds, for tables by kind.
    pub const ALL: [Self; 15] = [
        Self::AacPlay,
        Self::DashPlay,
        Self::FlashPublish,
        Self::FlvPlay,
        Self::FmlePublish,
        Self::HaivisionPublish,
        Self::HlsPlay,
        Self::Mp3Play,
        Self::Pull,
        Self::RtcPlay,
        Self::RtcPublish,
        Self::RtmpPlay,
        Self::SrtPlay,
        Self::SrtPublish,
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
            Self::Pull => "pull",
            Self::RtcPlay => "rtc-play",
            Self::RtcPublish => "rtc-publish",
            Self::RtmpPlay => "rtmp-play",
            Self::SrtPlay => "srt-play",
            Self::SrtPublish => "srt-publish",
            Self::TsPlay => "ts-play",
        }
    }

    /// Whether it is a reader's.
    #[must_use]
    pub const fn reads(self) -> bool {
        !matches!(
            self,
            Self::FlashPublish
                | Self::FmlePublish
                | Self::HaivisionPublish
                | Self::Pull
                | Self::RtcPublish
                | Self::SrtPublish
        )
    }

    /// Place in [`ClientKind::ALL`].
    pub(crate) const fn index(self) -> usize {
        self as usize
    }
}
