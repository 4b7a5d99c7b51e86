//! Viewers: what they say, and when they come and go.

use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use tokio::sync::Notify;

use super::endpoint::{Peer, Sink};
use super::fanout::{Fanout, FanoutOptions, Fanouts, Feedback};
use super::negotiated::Negotiated;
use crate::format::rtp::clock::unix_us_to_ntp;
use crate::format::rtp::rtcp::{self, Rtcp};
use crate::hub::Attendance;

/// Hears what a viewer says over RTCP.
struct Ears {
    feedback: Arc<Feedback>,
    fanout: Arc<Fanout>,
    nack: bool,
    begin: Instant,
    begin_us: i64,
}

impl Sink for Ears {
    fn rtp(&self, _packet: Bytes, _now: Instant) {
        // Players have nothing to send.
    }

    fn rtcp(&self, compound: &[u8], now: Instant) {
        let mut wake = false;
        for packet in rtcp::packets(compound).map_while(Result::ok) {
            match packet {
                Rtcp::Nack { media, lost, .. } if self.nack => {
                    self.feedback.ask(media, lost.iter());
                    wake = true;
                }
                Rtcp::Pli { .. } | Rtcp::Fir { .. } => {
                    wake |= self.feedback.ask_key(now);
                }
                Rtcp::Remb { bitrate, .. } => self.feedback.note(|said| said.bitrate = Some(bitrate)),
                Rtcp::SenderReport { reports, .. } | Rtcp::ReceiverReport { reports, .. } => {
                    let gone = now.saturating_duration_since(self.begin).as_micros() as i64;
                    let ntp = unix_us_to_ntp(self.begin_us.saturating_add(gone));
                    for report in reports.iter() {
                        self.feedback.note(|said| {
                            said.fraction_lost = report.fraction_lost;
                            said.round_trip_us = report.round_trip_us(ntp).or(said.round_trip_us);
                        });
                    }
                }
                _ => {}
            }
        }
        if wake {
            self.fanout.hear(now);
        }
    }
}

/// How a viewer is served.
#[derive(Debug, Clone, Copy)]
pub struct PlayOptions {
    /// Of its stream; those of a stream's first viewer count.
    pub fanout: FanoutOptions,
    /// Whether packets that it misses are sent again.
    pub nack: bool,
}

/// Serves a viewer until it goes, its stream ends, or an operator ends it; then the peer is closed, and the attendance over.
/// Dropping the future ends it, too.
pub async fn play(
    fanouts: &Fanouts,
    peer: Peer,
    negotiated: Negotiated,
    attendance: Attendance,
    options: PlayOptions,
) {
    let mut seat = fanouts.seat(attendance.stream(), options.fanout);
    let feedback = Arc::new(Feedback::default());
    let unix = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    peer.set_sink(Arc::new(Ears {
        feedback: feedback.clone(),
        fanout: seat.fanout(),
        nack: options.nack,
        begin: Instant::now(),
        begin_us: i64::try_from(unix.as_micros()).unwrap_or(i64::MAX),
    }));
    let ending = attendance.ending();
    tokio::pin!(ending);
    let connected = tokio::select! {
        connected = peer.connected() => connected.map_err(|end| end.to_string()),
        ended = &mut ending => Err(ended.to_string()),
    };
    if let Err(why) = connected {
        peer.close();
        attendance.finish(&why, Instant::now());
        return;
    }
    let session = attendance.client().id;
    let gone = Arc::new(Notify::new());
    seat.join(peer.clone(), &negotiated, feedback.clone(), attendance, gone.clone());
    drop(negotiated);
    let why = tokio::select! {
        end = peer.ended() => end.to_string(),
        ended = &mut ending => ended.to_string(),
        () = gone.notified() => "the stream has ended".to_owned(),
    };
    let said = feedback.said();
    if let Some(us) = said.round_trip_us {
        log::debug!(session:% = session; "round trip {} ms, {} of 256 packets lost lately", us / 1000, said.fraction_lost);
    }
    seat.leave(why);
}
