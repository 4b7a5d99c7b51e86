//! What a session's offer and answer come to: all that sending and receiving has to know of them.

use crate::media::{Codec, Kind};

/// What was agreed with one peer. There is something to carry: `media` is never empty.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Negotiated {
    /// Who sends.
    pub flow: Flow,
    /// What is carried, in the order of the offer; what was declined is not here. All of it is bundled: one transport,
    /// RTCP on the same port as RTP.
    pub media: Vec<Media>,
    /// The name that our sources share (RTCP SDES CNAME, RFC 3550 6.5.1): the peer plays in step what has the same.
    pub cname: String,
}

/// Who sends media in a session; what the other side sends there is dropped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flow {
    /// The peer publishes (WHIP): it sends.
    Publish,
    /// The peer plays (WHEP): we send.
    Play,
}

/// One m-line that was accepted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Media {
    /// Its name in the descriptions (`a=mid`, RFC 9143); up to 16 bytes. What the header extension [`Extensions::mid`] carries.
    pub mid: String,
    /// Audio or video.
    pub kind: Kind,
    /// What may be carried, the best first; never empty, at most one of each codec. A publisher sends any of these; of a
    /// stream for a player, that whose codec is the track's is sent.
    pub payloads: Vec<Payload>,
    /// The peer's sources, as far as its offer names them (`a=ssrc`); others are known by extensions ([`Extensions::mid`],
    /// [`Extensions::rid`]) or, where it is unmistakable, by payload type.
    pub sources: Vec<Source>,
    /// Layers that a publisher sends of one picture (`a=simulcast`, RFC 8853), the first is the one it likes best; empty
    /// where it sends one.
    pub layers: Vec<Layer>,
    /// What we call our own source here.
    pub ours: Source,
    /// Header extensions that both sides know.
    pub extensions: Extensions,
    /// What may be said back over RTCP.
    pub feedback: Feedback,
}

/// One payload type.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Payload {
    /// What it carries.
    pub codec: Codec,
    /// Its number, 0 to 127.
    pub number: u8,
    /// The number under which its packets are sent again (RTX, RFC 4588), if that was agreed.
    pub rtx: Option<u8>,
    /// Ticks of RTP timestamps per second; never 0.
    pub clock_rate: u32,
    /// Channels, of audio; 0 of video.
    pub channels: u8,
    /// What was agreed of its form.
    pub format: Format,
}

/// The parameters of a codec (`a=fmtp`) that change what is on the wire, or what may be sent.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Format {
    /// H.264 (RFC 6184): `packetization-mode`; 0 knows single NAL units only.
    pub packetization_mode: u8,
    /// H.264: `profile-level-id`, 3 bytes; `None` where it wasn't told.
    pub profile_level_id: Option<[u8; 3]>,
    /// Parameter sets without start codes that stand in the description (`sprop-parameter-sets`, `sprop-vps`, `sprop-sps`,
    /// `sprop-pps`), in the order of VPS, SPS, PPS.
    pub parameter_sets: Vec<Vec<u8>>,
    /// VP9: `profile-id`; AV1: `profile`.
    pub profile: u8,
    /// Opus: whether the peer takes two channels (`stereo=1`); of a publisher, whether it sends them (`sprop-stereo=1`).
    pub stereo: bool,
    /// Opus: whether packets carry what helps after a loss (`useinbandfec=1`).
    pub in_band_fec: bool,
    /// AAC (RFC 3640): what the decoder needs (`config`), the AudioSpecificConfig; RFC 6416: the StreamMuxConfig.
    pub config: Vec<u8>,
    /// AAC: bits of the size field of each access unit's header (`sizelength`); 0 where packets are LATM (RFC 6416).
    pub size_length: u8,
    /// AAC: bits of the index field of the first access unit's header (`indexlength`).
    pub index_length: u8,
    /// AAC: the same of those after it (`indexdeltalength`).
    pub index_delta_length: u8,
}

/// A source of RTP packets (SSRC) and that of its retransmissions.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Source {
    /// The packets' own.
    pub ssrc: u32,
    /// Of packets that are sent again under a payload type of their own ([`Payload::rtx`]).
    pub rtx: Option<u32>,
}

/// One layer of a picture that comes in several sizes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layer {
    /// Its name (`a=rid`, RFC 8851); up to 16 bytes. What the header extension [`Extensions::rid`] carries.
    pub rid: String,
    /// Whether it begins paused.
    pub paused: bool,
}

/// Numbers of header extensions (RFC 8285), each 1 to 14 or, where the peer takes two-byte headers, to 255; `None`: not agreed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Extensions {
    /// `urn:ietf:params:rtp-hdrext:sdes:mid`: whose m-line a packet is of.
    pub mid: Option<u8>,
    /// `urn:ietf:params:rtp-hdrext:sdes:rtp-stream-id`: which layer.
    pub rid: Option<u8>,
    /// `urn:ietf:params:rtp-hdrext:sdes:repaired-rtp-stream-id`: which layer a retransmission is of.
    pub repaired_rid: Option<u8>,
    /// `http://www.ietf.org/id/draft-holmer-rmcat-transport-wide-cc-extensions-01`: a number for all packets of the transport.
    pub transport_cc: Option<u8>,
    /// `http://www.webrtc.org/experiments/rtp-hdrext/abs-send-time`: 24 bits of when it was sent.
    pub abs_send_time: Option<u8>,
    /// `http://www.webrtc.org/experiments/rtp-hdrext/abs-capture-time`: when it was captured.
    pub abs_capture_time: Option<u8>,
    /// The dependency descriptor of AV1: what a packet needs.
    pub dependency: Option<u8>,
    /// `http://www.webrtc.org/experiments/rtp-hdrext/playout-delay`: how long the player may hold it back.
    pub playout_delay: Option<u8>,
}

/// What may be said back of packets (RFC 4585, RFC 5104), by either side.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Feedback {
    /// `nack`: which are missing.
    pub nack: bool,
    /// `nack pli`: a picture can't be shown.
    pub pli: bool,
    /// `ccm fir`: a key frame is wanted.
    pub fir: bool,
    /// `transport-cc`: when each came.
    pub transport_cc: bool,
    /// `goog-remb`: the bit rate that the way seems to bear.
    pub remb: bool,
}

impl Negotiated {
    /// The m-line that carries `kind`, if one does.
    #[must_use]
    pub fn first(&self, kind: Kind) -> Option<&Media> {
        self.media.iter().find(|media| media.kind == kind)
    }
}

impl Media {
    /// The payload type that carries `codec`.
    #[must_use]
    pub fn payload_of(&self, codec: Codec) -> Option<&Payload> {
        self.payloads.iter().find(|payload| payload.codec == codec)
    }

    /// What the payload type `number` is: what it carries, and whether as a retransmission.
    #[must_use]
    pub fn payload(&self, number: u8) -> Option<(&Payload, bool)> {
        let is = |payload: &&Payload| payload.number == number || payload.rtx == Some(number);
        self.payloads.iter().find(is).map(|payload| (payload, payload.number != number))
    }
}
