//! What a session is asked to be.

use std::time::Duration;

use super::crypto::{CipherMode, KeyLength, PASSPHRASE, TAG};
use super::handshake::MAX_STREAM_ID;
use super::packet::MAX_PAYLOAD;

/// How fast a session may send: libsrt's `maxbw`, `inputbw`, `oheadbw`. Bytes a second, with what is sent again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Bandwidth {
    /// At most this (`maxbw` > 0).
    Fixed(u64),
    /// What goes in, and `overhead` percent more for what is sent again (`maxbw` = 0).
    Input {
        /// Bytes a second that go in (`inputbw`); `None`: as measured.
        rate: Option<u64>,
        /// Percent (`oheadbw`), 25 as a rule.
        overhead: u32,
    },
    /// As it comes (`maxbw` = -1).
    #[default]
    Unlimited,
}

/// Options of a session, with libsrt's defaults.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// Sent by callers.
    pub stream_id: String,
    /// `None`: not encrypted. 10 to 79 bytes.
    pub passphrase: Option<String>,
    /// Of the keys that we make (`pbkeylen`); `None`: 16 bytes. Whoever answers takes what comes.
    pub key_length: Option<KeyLength>,
    /// `None`: CTR when we call, what comes when we answer.
    pub cipher: Option<CipherMode>,
    /// Packets until keys take turns (`kmrefreshrate`).
    pub key_refresh: u32,
    /// Packets that the next key is told ahead (`kmpreannounce`).
    pub key_announce: u32,
    /// How long what is received is kept, at least (`rcvlatency`). At most 65 s.
    pub receive_latency: Duration,
    /// How long the peer is asked to keep what it receives, at least (`peerlatency`). At most 65 s.
    pub peer_latency: Duration,
    /// Delivery by timestamps (`tsbpdmode`).
    pub tsbpd: bool,
    /// What is too late is given up (`tlpktdrop`).
    pub drop_late: bool,
    /// How much longer than the peer's latency we keep what may have to be sent again (`snddropdelay`).
    pub send_drop_delay: Duration,
    /// Losses are reported until they arrive (`nakreport`).
    pub nak_report: bool,
    /// Packets that a packet may be late by before it is reported as lost, at most (`lossmaxttl`).
    pub loss_max_ttl: u32,
    /// How fast to send.
    pub bandwidth: Bandwidth,
    /// Until a call is given up.
    pub connect_timeout: Duration,
    /// Silence of the peer after which the session ends (`peeridletimeo`).
    pub idle_timeout: Duration,
    /// Packets kept to be sent, or sent again (`sndbuf`).
    pub send_buffer: usize,
    /// Packets kept until delivered (`rcvbuf`).
    pub receive_buffer: usize,
    /// Packets on their way at once (`fc`).
    pub flow_window: u32,
    /// Bytes of an IP packet, at most (`mss`). At most 1500.
    pub mss: u32,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            stream_id: String::new(),
            passphrase: None,
            key_length: None,
            cipher: None,
            key_refresh: 1 << 24,
            key_announce: 1 << 12,
            receive_latency: Duration::from_millis(120),
            peer_latency: Duration::ZERO,
            tsbpd: true,
            drop_late: true,
            send_drop_delay: Duration::ZERO,
            nak_report: true,
            loss_max_ttl: 0,
            bandwidth: Bandwidth::Unlimited,
            connect_timeout: Duration::from_secs(3),
            idle_timeout: Duration::from_secs(5),
            send_buffer: 8192,
            receive_buffer: 8192,
            flow_window: 25_600,
            mss: 1500,
        }
    }
}

impl Options {
    /// What is wrong with them, if anything, in words.
    #[must_use]
    pub fn wrong(&self) -> Option<&'static str> {
        if self.stream_id.len() > MAX_STREAM_ID {
            return Some("an SRT stream id has at most 512 bytes");
        }
        let fits = |passphrase: &String| PASSPHRASE.contains(&passphrase.len());
        if !self.passphrase.as_ref().is_none_or(fits) {
            return Some("an SRT passphrase has 10 to 79 bytes");
        }
        None
    }

    /// Longest payload that can be sent with them.
    #[must_use]
    pub fn max_payload(&self) -> usize {
        if self.cipher == Some(CipherMode::Gcm) { MAX_PAYLOAD - TAG } else { MAX_PAYLOAD }
    }
}

/// Milliseconds as handshakes carry them.
pub(super) fn millis(duration: Duration) -> u16 {
    u16::try_from(duration.as_millis()).unwrap_or(u16::MAX)
}
