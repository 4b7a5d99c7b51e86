//! What one viewer is sent of the shared packets: its own numbers, and again what it missed.

use std::time::{Duration, Instant};

use super::history::{Entry, History};
use super::negotiated::{Extensions, Media, Negotiated, Payload as Agreed};
use crate::format::rtp::rtcp::Writer;
use crate::format::rtp::{Header, HeaderBytes, write_header};
use crate::media::{Codec, Kind};

/// The numbers of a viewer's packets begin here: low, so that one whose first packet is lost knows that the counter did not
/// wrap (RFC 3711 3.3.1).
const FIRST: u64 = 1;
/// Packets that carry the name of their m-line; by then the peer knows whose they are.
const NAMED: u64 = 100;
/// Frames of the past that a viewer begins with are this far apart, in ticks: it decodes them as fast as it can, and shows
/// the newest.
const HASTE: u32 = 90;
/// Packets of the past that a viewer is sent in one go.
const BURST: usize = 40;

/// How much a viewer may be sent again: a share of what it is sent, and some at once.
#[derive(Debug)]
pub(super) struct Budget {
    bytes: f64,
    at: Instant,
    /// Bytes per second.
    rate: f64,
}

/// Bytes that may be sent again at once.
const BUDGET_BURST: f64 = 120_000.0;
/// The least that may be sent again, in bytes per second.
const BUDGET_LEAST: f64 = 40_000.0;
/// The part of what is sent that may be sent again.
const BUDGET_SHARE: f64 = 0.3;

impl Budget {
    fn new(now: Instant) -> Self {
        Self { bytes: BUDGET_BURST, at: now, rate: BUDGET_LEAST }
    }

    /// Notes what was sent, smoothed over some seconds.
    fn sent(&mut self, bytes: usize, now: Instant) {
        let passed = now.saturating_duration_since(self.at).as_secs_f64();
        self.at = now;
        self.bytes = (self.bytes + passed * self.rate).min(BUDGET_BURST);
        let decay = (-passed / 4.0).exp();
        self.rate = (self.rate * decay + bytes as f64 * BUDGET_SHARE / 4.0).max(BUDGET_LEAST);
    }

    fn take(&mut self, bytes: usize, now: Instant) -> bool {
        self.sent(0, now);
        let enough = self.bytes >= bytes as f64;
        if enough {
            self.bytes -= bytes as f64;
        }
        enough
    }
}

/// Where the live edge was when a viewer came: what is older, it gets in haste.
#[derive(Debug, Clone, Copy)]
struct Edge {
    frame: u64,
    timestamp: u32,
}

/// One m-line of a viewer.
#[derive(Debug)]
pub(super) struct ViewerTrack {
    pub(super) kind: Kind,
    pub(super) ssrc: u32,
    rtx_ssrc: Option<u32>,
    payloads: Vec<Agreed>,
    extensions: Extensions,
    mid: String,
    /// The shared number of what is sent next; `None`: it waits for a place to begin.
    next: Option<u64>,
    /// The viewer's number of what is sent next.
    number: u64,
    /// By so much numbers differ, and the first of the viewer's for which that is so.
    difference: (u64, u64),
    edge: Option<Edge>,
    rtx_number: u16,
    packets: u32,
    octets: u32,
}

impl ViewerTrack {
    fn new(media: &Media) -> Self {
        Self {
            kind: media.kind,
            ssrc: media.ours.ssrc,
            rtx_ssrc: media.ours.rtx,
            payloads: media.payloads.clone(),
            extensions: media.extensions,
            mid: media.mid.clone(),
            next: None,
            number: FIRST,
            difference: (0, FIRST),
            edge: None,
            rtx_number: 1,
            packets: 0,
            octets: 0,
        }
    }

    fn agreed(&self, codec: Codec) -> Option<&Agreed> {
        self.payloads.iter().find(|payload| payload.codec == codec)
    }

    /// Whether it takes this codec.
    pub(super) fn takes(&self, codec: Codec) -> bool {
        self.agreed(codec).is_some()
    }

    /// What came before is of no use any more: it begins anew.
    pub(super) fn restart(&mut self) {
        self.next = None;
        // Nor is it sent again: it would be under the new codec's payload type, another packet with the same number.
        self.difference.1 = self.number;
    }

    /// Finds the place to go on from.
    fn place(&mut self, history: &History) -> Option<u64> {
        if let Some(next) = self.next.filter(|next| *next >= history.first()) {
            return Some(next);
        }
        let next = match self.kind {
            Kind::Video => history.key()?,
            _ => history.end(),
        };
        let edge = history.newest().map(|entry| Edge { frame: entry.frame, timestamp: entry.timestamp });
        self.edge = edge.filter(|_| self.kind == Kind::Video);
        self.difference = (next.wrapping_sub(self.number), self.number);
        self.next = Some(next);
        Some(next)
    }

    fn timestamp(&self, entry: &Entry) -> u32 {
        match self.edge {
            Some(edge) if entry.frame < edge.frame => {
                let behind = (edge.frame - entry.frame).min(u64::from(u32::MAX / HASTE)) as u32;
                edge.timestamp.wrapping_sub(behind * HASTE)
            }
            _ => entry.timestamp,
        }
    }

    /// Sends what is new; tells how many bytes, and whether there is more.
    fn send(&mut self, codec: Codec, history: &History, context: &mut Sending<'_>) -> (usize, bool) {
        let Some(agreed) = self.agreed(codec) else { return (0, false) };
        let (payload_type, has_rtx) = (agreed.number, agreed.rtx.is_some() && self.rtx_ssrc.is_some());
        let Some(mut next) = self.place(history) else { return (0, false) };
        let (mut bytes, mut count) = (0, 0);
        while let Some(entry) = history.get(next) {
            if count >= BURST {
                self.next = Some(next);
                return (bytes, true);
            }
            if let Some(payload) = &entry.payload {
                let header = self.header(entry, payload.marker, payload_type, self.number, has_rtx, context);
                context.out.rtp(&header, &[&payload.head, &payload.body]);
                self.packets = self.packets.wrapping_add(1);
                self.octets = self.octets.wrapping_add(payload.len() as u32);
                bytes += header.len() + payload.len();
                count += 1;
            }
            next += 1;
            self.number += 1;
        }
        self.next = Some(next);
        (bytes, false)
    }

    fn header(
        &self,
        entry: &Entry,
        marker: bool,
        payload_type: u8,
        number: u64,
        has_rtx: bool,
        context: &Sending<'_>,
    ) -> HeaderBytes {
        let header = Header {
            marker,
            payload_type,
            sequence: number as u16,
            timestamp: self.timestamp(entry),
            ssrc: self.ssrc,
        };
        let mut out = HeaderBytes::new();
        let name = self.extensions.mid.filter(|_| number < NAMED).unwrap_or(0);
        // A packet that is sent again under its own number has to be the same, bit for bit: two that differ would be sealed
        // with one nonce. So what changes each time stands only where there is another number for that.
        let time = self.extensions.abs_send_time.filter(|_| has_rtx).unwrap_or(0);
        write_header(&header, &[(name, self.mid.as_bytes()), (time, &context.send_time)], &mut out);
        out
    }

    /// Sends a packet again that the viewer misses, by the viewer's number. Bytes.
    fn again(
        &mut self,
        missing: u16,
        codec: Codec,
        history: &History,
        budget: &mut Budget,
        context: &mut Sending<'_>,
    ) -> usize {
        let behind = (self.number as u16).wrapping_sub(missing);
        let (difference, from) = self.difference;
        let Some(number) = self.number.checked_sub(u64::from(behind)).filter(|n| *n >= from && behind > 0)
        else {
            return 0;
        };
        let shared = number.wrapping_add(difference);
        let (Some(entry), Some(agreed)) = (history.get(shared), self.agreed(codec)) else { return 0 };
        let Some(payload) = &entry.payload else { return 0 };
        let rtx = agreed.rtx.zip(self.rtx_ssrc);
        let payload_type = agreed.number;
        let len = payload.len() + 30;
        if !budget.take(len, context.now) {
            return 0;
        }
        let mut header = self.header(entry, payload.marker, payload_type, number, rtx.is_some(), context);
        match rtx {
            Some((payload_type, ssrc)) => {
                let marker = if payload.marker { 0x80 } else { 0 };
                let sequence = self.rtx_number.to_be_bytes();
                self.rtx_number = self.rtx_number.wrapping_add(1);
                // RFC 4588 4: its own number and source; the original number before the payload.
                if let Some([_, second, s0, s1, _, _, _, _, i0, i1, i2, i3]) = header.first_chunk_mut::<12>()
                {
                    *second = payload_type & 0x7F | marker;
                    [*s0, *s1] = sequence;
                    [*i0, *i1, *i2, *i3] = ssrc.to_be_bytes();
                }
                let original = (number as u16).to_be_bytes();
                context.out.rtp(&header, &[&original, &payload.head, &payload.body]);
            }
            None => context.out.rtp(&header, &[&payload.head, &payload.body]),
        }
        len
    }

    /// Appends what the viewer needs to play this in step with the others: our clock, and the name of all that belongs
    /// together.
    fn report(&self, ntp: u64, timestamp: u32, cname: &str, out: &mut Writer) {
        if self.packets > 0 {
            out.sender_report(self.ssrc, ntp, timestamp, self.packets, self.octets);
            out.description(self.ssrc, cname);
        }
    }
}

/// Takes packets for one viewer.
pub(super) trait Out {
    /// An RTP packet.
    fn rtp(&mut self, header: &[u8], payload: &[&[u8]]);
    /// A compound RTCP packet.
    fn rtcp(&mut self, compound: &[u8]);
}

/// What sending needs besides the packet.
pub(super) struct Sending<'a> {
    pub(super) out: &'a mut dyn Out,
    pub(super) now: Instant,
    /// 24 bits of when it is sent, in 1/262144 s.
    pub(super) send_time: [u8; 3],
}

/// A track as all viewers have it.
pub(super) struct Shared<'a> {
    pub(super) kind: Kind,
    pub(super) codec: Codec,
    pub(super) history: &'a History,
    /// What time it is: NTP, and the track's timestamp; `None` while nobody knows.
    pub(super) clock: Option<(u64, u32)>,
}

/// All tracks of a viewer.
#[derive(Debug)]
pub(super) struct Tracks {
    pub(super) tracks: Vec<ViewerTrack>,
    cname: String,
    budget: Budget,
    report_at: Instant,
}

/// Time between reports.
const REPORT: Duration = Duration::from_secs(1);

impl Tracks {
    pub(super) fn new(negotiated: &Negotiated, now: Instant) -> Self {
        let tracks = negotiated.media.iter().map(ViewerTrack::new).collect();
        // The first report goes as soon as there is something to report: until then sound and picture are not in step.
        Self { tracks, cname: negotiated.cname.clone(), budget: Budget::new(now), report_at: now }
    }

    /// Sends what is new. Bytes, and whether there is more.
    pub(super) fn send(&mut self, shared: &[Shared<'_>], context: &mut Sending<'_>) -> (usize, bool) {
        let (mut bytes, mut more) = (0, false);
        for track in &mut self.tracks {
            if let Some(shared) = shared.iter().find(|shared| shared.kind == track.kind) {
                let (sent, rest) = track.send(shared.codec, shared.history, context);
                bytes += sent;
                more |= rest;
            }
        }
        self.budget.sent(bytes, context.now);
        (bytes, more)
    }

    /// Sends again what is missing of a source. Bytes.
    pub(super) fn again(
        &mut self,
        ssrc: u32,
        missing: u16,
        shared: &[Shared<'_>],
        context: &mut Sending<'_>,
    ) -> usize {
        let Some(track) = self.tracks.iter_mut().find(|track| track.ssrc == ssrc) else { return 0 };
        let Some(shared) = shared.iter().find(|shared| shared.kind == track.kind) else { return 0 };
        track.again(missing, shared.codec, shared.history, &mut self.budget, context)
    }

    /// Sends reports, if they are due. Bytes.
    pub(super) fn report(&mut self, shared: &[Shared<'_>], context: &mut Sending<'_>) -> usize {
        if context.now < self.report_at {
            return 0;
        }
        let mut out = Writer::default();
        for track in &self.tracks {
            let found = shared.iter().find(|shared| shared.kind == track.kind);
            if let Some((ntp, timestamp)) = found.and_then(|shared| shared.clock) {
                track.report(ntp, timestamp, &self.cname, &mut out);
            }
        }
        if out.is_empty() {
            return 0;
        }
        self.report_at = context.now + REPORT;
        context.out.rtcp(out.bytes());
        out.bytes().len()
    }

    /// Says that all is over.
    pub(super) fn bye(&self, context: &mut Sending<'_>) {
        let mut out = Writer::default();
        if let Some(first) = self.tracks.first() {
            out.receiver_report(first.ssrc, &[]);
            out.description(first.ssrc, &self.cname);
        }
        self.tracks.iter().for_each(|track| out.bye(track.ssrc));
        context.out.rtcp(out.bytes());
    }
}

#[cfg(test)]
#[path = "viewer_tests.rs"]
mod tests;
