//! All that a publisher sends, sorted; and what goes back. Time is an argument.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use bytes::{Buf, Bytes};

use super::PublishOptions;
use super::incoming::{Incoming, Made};
use super::reception::Reception;
use crate::format::rtp::clock::ntp_to_unix_us;
use crate::format::rtp::rtcp::{self, Rtcp, TwccWriter, Writer};
use crate::format::rtp::{Packet, starts_key};
use crate::hub::{Ended, Publisher};
use crate::id::SessionId;
use crate::media::{Codec, Kind, Track, TrackId};
use crate::webrtc::fanout::Passage;
use crate::webrtc::negotiated::{Media, Negotiated};
use crate::webrtc::sound::Sound;

/// A source that took over keeps its place so long: late packets of the one before change nothing.
const STEADY: Duration = Duration::from_secs(1);
/// Time between reports.
const REPORT: Duration = Duration::from_secs(1);
/// Time between reports of when each packet came.
const FEEDBACK: Duration = Duration::from_millis(50);
/// No track is so much out of step with another, in microseconds: the publisher's clock was set.
const CLOCK_SET: u64 = 5_000_000;
/// Time between two requests for a key frame.
const KEY_AGAIN: Duration = Duration::from_millis(500);
/// Time between two looks at which layer is best.
const CHOICE: Duration = Duration::from_millis(1500);
/// How often a missing packet is looked for.
const ASK: Duration = Duration::from_millis(10);
/// There and back, until it is known.
const ROUND_TRIP: Duration = Duration::from_millis(50);
/// What a publisher that knows nothing better may send, in bits per second.
const BITRATE: u64 = 20_000_000;
/// Changes of tracks that are logged.
const MAX_TOLD: u32 = 20;

/// One layer of a picture, or a sound.
struct Layer {
    rid: String,
    ssrc: Option<u32>,
    /// When it took over from another.
    since: Option<Instant>,
    incoming: Incoming,
    reception: Reception,
    /// Bytes since the last look.
    bytes: usize,
    key_asked: Option<Instant>,
}

impl Layer {
    /// Another source sends it now: its numbers, timestamps and clock have nothing to do with those of the one before,
    /// but its frames go on where that one's ended.
    fn begin_anew(&mut self, now: Instant) {
        let last_dts = self.incoming.last_dts;
        self.incoming = self.incoming.another();
        self.incoming.take_over(last_dts);
        self.reception = Reception::default();
        self.since = Some(now);
    }
}

/// One m-line.
struct Line {
    media: Media,
    layers: Vec<Layer>,
    /// The layer that is passed on.
    chosen: usize,
    /// The layer that will be, from its next key frame on.
    wanted: usize,
    key_at: Option<Instant>,
}

/// Where packets of a source belong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Origin {
    line: usize,
    layer: usize,
    /// It sends again what was lost.
    rtx: bool,
}

/// All that a publisher sends.
pub(super) struct Receiver {
    lines: Vec<Line>,
    sources: HashMap<u32, Origin>,
    publisher: Publisher,
    passage: Passage,
    session: SessionId,
    options: PublishOptions,
    begin: Instant,
    /// By how much the publisher's wall clock is ahead of the timeline, in microseconds.
    ahead: Option<i64>,
    twcc: TwccWriter,
    twcc_at: Instant,
    report_at: Instant,
    choice_at: Instant,
    ours: u32,
    cname: String,
    out: Writer,
    fir: u8,
    told: u32,
    /// What players by other protocols don't take becomes what they do.
    sound: Sound,
}

impl Receiver {
    pub(super) fn new(
        negotiated: Negotiated,
        publisher: Publisher,
        passage: Passage,
        session: SessionId,
        options: PublishOptions,
        now: Instant,
    ) -> Self {
        let mut sources = HashMap::new();
        let mut lines = Vec::new();
        let ours = negotiated.media.first().map_or(1, |media| media.ours.ssrc);
        for (number, media) in negotiated.media.into_iter().enumerate() {
            let id = TrackId(u8::try_from(number).unwrap_or(u8::MAX));
            let layer = |rid: &str| Layer {
                rid: rid.to_owned(),
                ssrc: None,
                since: None,
                incoming: Incoming::new(id),
                reception: Reception::default(),
                bytes: 0,
                key_asked: None,
            };
            let mut layers: Vec<_> = media.layers.iter().take(4).map(|l| layer(&l.rid)).collect();
            if layers.is_empty() {
                layers.push(layer(""));
            }
            if layers.len() == 1 {
                for source in media.sources.iter().take(1) {
                    sources.insert(source.ssrc, Origin { line: number, layer: 0, rtx: false });
                    if let Some(rtx) = source.rtx {
                        sources.insert(rtx, Origin { line: number, layer: 0, rtx: true });
                    }
                }
            }
            lines.push(Line { media, layers, chosen: 0, wanted: 0, key_at: None });
        }
        Self {
            lines,
            sources,
            publisher,
            passage,
            session,
            options,
            begin: now,
            ahead: None,
            twcc: TwccWriter::default(),
            twcc_at: now,
            report_at: now,
            choice_at: now,
            ours,
            cname: negotiated.cname,
            out: Writer::default(),
            fir: 0,
            told: 0,
            sound: Sound::default(),
        }
    }

    fn us(&self, now: Instant) -> i64 {
        i64::try_from(now.saturating_duration_since(self.begin).as_micros()).unwrap_or(i64::MAX)
    }

    /// Whose packet this is; what was not seen before is learnt, and takes the place of what was there.
    fn origin(&mut self, packet: &Packet, now: Instant) -> Option<Origin> {
        let ssrc = packet.header.ssrc;
        if let Some(origin) = self.sources.get(&ssrc) {
            return Some(*origin);
        }
        let value = |id: Option<u8>| {
            let bytes = packet.extensions.find(id?)?;
            std::str::from_utf8(bytes).ok()
        };
        let number = packet.header.payload_type;
        let named = self
            .lines
            .iter()
            .position(|line| value(line.media.extensions.mid).is_some_and(|mid| mid == line.media.mid));
        let by_type = || {
            let mut takes = self.lines.iter().enumerate().filter(|(_, l)| l.media.payload(number).is_some());
            let (first, _) = takes.next()?;
            takes.next().is_none().then_some(first)
        };
        let line = named.or_else(by_type)?;
        let Line { media, layers, .. } = self.lines.get(line)?;
        let (_, is_rtx) = media.payload(number)?;
        let layer = match (value(media.extensions.rid), value(media.extensions.repaired_rid)) {
            (_, Some(rid)) | (Some(rid), None) => layers.iter().position(|layer| layer.rid == rid),
            (None, None) => (layers.len() == 1).then_some(0),
        }?;
        let is_new = |since| now.saturating_duration_since(since) < STEADY;
        if !is_rtx && layers.get(layer)?.since.is_some_and(is_new) {
            return None;
        }
        let origin = Origin { line, layer, rtx: is_rtx };
        // One of a kind: so there are never many, and none is left that nobody sends any more.
        self.sources.retain(|_, old| *old != origin);
        self.sources.insert(ssrc, origin);
        Some(origin)
    }

    /// Takes a packet.
    pub(super) fn rtp(&mut self, bytes: &Bytes, now: Instant) -> Result<(), Ended> {
        let Ok(mut packet) = Packet::parse(bytes) else { return Ok(()) };
        let at = self.us(now);
        let Some(origin) = self.origin(&packet, now) else { return Ok(()) };
        let Some(line) = self.lines.get_mut(origin.line) else { return Ok(()) };
        if let Some(number) = line.media.extensions.transport_cc.and_then(|id| packet.extensions.find(id))
            && let Some(number) = number.first_chunk::<2>()
        {
            self.twcc.note(u16::from_be_bytes(*number), at);
        }
        let Some((agreed, is_rtx)) = line.media.payload(packet.header.payload_type) else { return Ok(()) };
        let Some(layer) = line.layers.get_mut(origin.layer) else { return Ok(()) };
        if is_rtx || origin.rtx {
            // RFC 4588 4: the number that it had stands first.
            let Some(number) = packet.payload.first_chunk::<2>() else { return Ok(()) };
            packet.header.sequence = u16::from_be_bytes(*number);
            packet.header.payload_type = agreed.number;
            packet.payload.advance(2);
            packet.header.ssrc = layer.ssrc.unwrap_or(packet.header.ssrc);
        } else {
            let ssrc = packet.header.ssrc;
            if layer.ssrc.replace(ssrc).is_some_and(|before| before != ssrc) {
                layer.begin_anew(now);
                // What the old one would send again has numbers of the old one.
                self.sources
                    .retain(|_, old| (old.line, old.layer, old.rtx) != (origin.line, origin.layer, true));
                if origin.layer == line.chosen {
                    self.passage.switch(agreed.codec);
                }
            }
            layer.reception.note(&packet.header, agreed.clock_rate, at);
            layer.bytes += packet.payload.len();
        }
        layer.incoming.jitter.push(packet, now);
        self.drain(origin, now)
    }

    /// Gives on what is in order.
    fn drain(&mut self, origin: Origin, now: Instant) -> Result<(), Ended> {
        let arrived = self.us(now);
        let mut result = Ok(());
        let mut wants_key = false;
        let Some(line) = self.lines.get_mut(origin.line) else { return Ok(()) };
        while let Some(ordered) =
            line.layers.get_mut(origin.layer).and_then(|layer| layer.incoming.jitter.pop(now))
        {
            let packet = &ordered.packet;
            let Some((agreed, _)) = line.media.payload(packet.header.payload_type) else { continue };
            if origin.layer != line.chosen {
                if origin.layer != line.wanted || !starts_key(agreed.codec, &packet.payload) {
                    continue;
                }
                let last_dts = line.layers.get(line.chosen).and_then(|layer| layer.incoming.last_dts);
                line.chosen = origin.layer;
                self.passage.switch(agreed.codec);
                if let Some(layer) = line.layers.get_mut(origin.layer) {
                    layer.incoming.take_over(last_dts);
                    log::info!(session:% = self.session; "the picture comes from layer {} now", layer.rid);
                }
            }
            let Some(layer) = line.layers.get_mut(origin.layer) else { continue };
            self.passage.packet(agreed.codec, agreed.clock_rate, packet, ordered.lost);
            let Self { publisher, session, told, options, sound, .. } = self;
            layer.incoming.take(&ordered, agreed, arrived, now, &mut |made| {
                if result.is_err() {
                    return;
                }
                result = match made {
                    Made::WantsKey => {
                        wants_key = true;
                        Ok(())
                    }
                    Made::Track(track) => {
                        *told += 1;
                        if *told <= MAX_TOLD {
                            log::info!(session:% = session; "{}", description(&track));
                        }
                        publisher.set_track(for_others(sound, publisher, *options, *track))
                    }
                    Made::Frame(_) if !options.to_others => Ok(()),
                    Made::Frame(frame) if !sound.takes(frame.track) => publisher.frame(frame, now),
                    Made::Frame(frame) if publisher.is_read() => {
                        sound.push(&frame).try_for_each(|frame| publisher.frame(frame, now))
                    }
                    Made::Frame(_) => {
                        sound.rest();
                        Ok(())
                    }
                };
            });
        }
        if wants_key {
            self.ask_key(origin.line, now);
        }
        result
    }

    /// All that came was taken: viewers get it now.
    pub(super) fn flush(&self) {
        self.passage.flush();
    }

    /// Takes what the publisher reports.
    pub(super) fn rtcp(&mut self, compound: &[u8], now: Instant) {
        for packet in rtcp::packets(compound).map_while(Result::ok) {
            match packet {
                Rtcp::SenderReport { ssrc, ntp, rtp, .. } => self.sender_report(ssrc, ntp, rtp, now),
                Rtcp::Bye(ssrcs) => {
                    for ssrc in ssrcs.iter() {
                        self.sources.remove(&ssrc);
                    }
                }
                _ => {}
            }
        }
    }

    fn sender_report(&mut self, ssrc: u32, ntp: u64, timestamp: u32, now: Instant) {
        let Some(origin) = self.sources.get(&ssrc).copied() else { return };
        let Some(line) = self.lines.get_mut(origin.line) else { return };
        let is_chosen = origin.layer == line.chosen;
        let Some(layer) = line.layers.get_mut(origin.layer) else { return };
        layer.reception.reported(ntp, now);
        let Some((codec, _)) = layer.incoming.codec().filter(|_| is_chosen) else { return };
        self.passage.clock(codec, ntp, timestamp, now);
        let full = layer.incoming.unwrapped(timestamp);
        let wall = ntp_to_unix_us(ntp);
        let Some(place) = &mut layer.incoming.place else { return };
        let Some(at) = place.look(full) else { return };
        // The first to tell stays where it is; the others move to where they belong beside it. So it is again when the
        // publisher's clock was set: its media goes on as before.
        let ahead = wall.saturating_sub(at);
        match self.ahead {
            Some(before) if before.saturating_sub(ahead).unsigned_abs() <= CLOCK_SET => {
                place.correct(full, wall.saturating_sub(before));
            }
            _ => self.ahead = Some(ahead),
        }
    }

    /// A key frame is needed to go on, of the layer that is passed on or of the one that is to be.
    fn ask_key(&mut self, number: usize, now: Instant) {
        let Some(&Line { chosen, wanted, .. }) = self.lines.get(number) else { return };
        self.ask_layer(number, chosen, now);
        if wanted != chosen {
            self.ask_layer(number, wanted, now);
        }
    }

    fn ask_layer(&mut self, line: usize, layer: usize, now: Instant) {
        let Some(line) = self.lines.get_mut(line).filter(|line| line.media.kind == Kind::Video) else {
            return;
        };
        let feedback = line.media.feedback;
        let Some(layer) = line.layers.get_mut(layer) else { return };
        let Some(ssrc) = layer.ssrc else { return };
        if layer.key_asked.is_some_and(|at| now.saturating_duration_since(at) < KEY_AGAIN) {
            return;
        }
        layer.key_asked = Some(now);
        line.key_at = Some(now);
        if feedback.pli || !feedback.fir {
            self.out.pli(self.ours, ssrc);
        } else {
            self.fir = self.fir.wrapping_add(1);
            self.out.fir(self.ours, ssrc, self.fir);
        }
    }

    /// A viewer needs a key frame.
    pub(super) fn want_key(&mut self) {
        let now = Instant::now();
        (0..self.lines.len()).for_each(|line| self.ask_key(line, now));
    }

    /// Does what is due.
    pub(super) fn poll(&mut self, now: Instant) -> Result<(), Ended> {
        for line in 0..self.lines.len() {
            for layer in 0..self.lines.get(line).map_or(0, |line| line.layers.len()) {
                let waiting = self
                    .lines
                    .get(line)
                    .and_then(|line| line.layers.get(layer))
                    .is_some_and(|layer| layer.incoming.jitter.is_waiting());
                if waiting {
                    self.drain(Origin { line, layer, rtx: false }, now)?;
                }
            }
        }
        self.ask_missing(now);
        if self.twcc.is_due() && now.saturating_duration_since(self.twcc_at) >= FEEDBACK {
            self.twcc_at = now;
            let media = self.lines.iter().flat_map(|l| &l.layers).find_map(|layer| layer.ssrc).unwrap_or(0);
            self.twcc.write(self.ours, media, &mut self.out);
        }
        if now.saturating_duration_since(self.choice_at) >= CHOICE {
            self.choice_at = now;
            self.choose(now);
        }
        let interval = self.options.key_frame_interval;
        for line in 0..self.lines.len() {
            let due = self.lines.get(line).is_some_and(|line| {
                line.key_at.is_none_or(|at| now.saturating_duration_since(at) >= interval)
            });
            if due && self.options.to_others {
                self.ask_key(line, now);
            }
        }
        if now.saturating_duration_since(self.report_at) >= REPORT {
            self.report_at = now;
            self.report(now);
        }
        Ok(())
    }

    fn ask_missing(&mut self, now: Instant) {
        let mut missing = Vec::new();
        for line in &mut self.lines {
            let nack = self.options.nack && line.media.feedback.nack;
            for layer in &mut line.layers {
                let round_trip = layer.incoming.jitter.answer().unwrap_or(ROUND_TRIP);
                layer.incoming.set_round_trip(round_trip);
                if !nack || !layer.incoming.jitter.is_waiting() {
                    continue;
                }
                layer.incoming.jitter.ask(now, round_trip, &mut missing);
                if let Some(ssrc) = layer.ssrc.filter(|_| !missing.is_empty()) {
                    self.out.nack(self.ours, ssrc, missing.drain(..));
                }
                missing.clear();
            }
        }
    }

    /// Of several layers the one that has most to show.
    fn choose(&mut self, now: Instant) {
        for number in 0..self.lines.len() {
            let Some(line) = self.lines.get_mut(number).filter(|line| line.layers.len() > 1) else {
                continue;
            };
            let bytes: Vec<_> =
                line.layers.iter_mut().map(|layer| std::mem::take(&mut layer.bytes)).collect();
            let most = bytes.iter().copied().max().unwrap_or(0);
            let now_bytes = bytes.get(line.chosen).copied().unwrap_or(0);
            // A little more is no reason; and what ended before its key frame came is not waited for.
            let better = bytes.iter().position(|bytes| *bytes == most && most > now_bytes + now_bytes / 3);
            line.wanted = better.unwrap_or(line.chosen);
            let wanted = line.wanted;
            if wanted != line.chosen {
                self.ask_layer(number, wanted, now);
            }
        }
    }

    fn report(&mut self, now: Instant) {
        let mut reports = Vec::new();
        let mut sources = Vec::new();
        let mut remb = false;
        for line in &mut self.lines {
            remb |= line.media.feedback.remb && !line.media.feedback.transport_cc;
            for layer in &mut line.layers {
                if let Some(ssrc) = layer.ssrc {
                    reports.extend(layer.reception.report(ssrc, now));
                    sources.push(ssrc);
                }
            }
        }
        self.out.receiver_report(self.ours, &reports);
        self.out.description(self.ours, &self.cname);
        if remb && !sources.is_empty() {
            self.out.remb(self.ours, BITRATE, &sources);
        }
    }

    /// What to send to the publisher.
    pub(super) fn take_output(&mut self) -> Writer {
        std::mem::take(&mut self.out)
    }

    /// How long nothing is due.
    pub(super) fn patience(&self) -> Duration {
        let waiting =
            self.lines.iter().flat_map(|line| &line.layers).any(|layer| layer.incoming.jitter.is_waiting());
        if waiting {
            ASK
        } else if self.twcc.is_due() {
            FEEDBACK
        } else {
            Duration::from_millis(250)
        }
    }

    /// Completes when the publisher may not go on.
    pub(super) async fn ended(&self) -> Ended {
        self.publisher.ended().await
    }

    /// Completes when a viewer needs a key frame.
    pub(super) async fn key_wanted(&self) {
        self.passage.key_wanted().await;
    }

    /// The end: what to tell the peer. The stream is free then.
    pub(super) fn finish(mut self) -> Writer {
        self.out.bye(self.ours);
        self.take_output()
    }
}

/// The track as players by other protocols get it: they know AAC, and few of them what browsers send.
fn for_others(sound: &mut Sound, publisher: &Publisher, options: PublishOptions, track: Track) -> Track {
    if options.to_others && matches!(track.codec, Codec::G711A | Codec::G711U | Codec::Opus) {
        let bitrate = publisher.rules().webrtc.aac_bitrate;
        return sound.make(&track, Codec::Aac, bitrate).unwrap_or(track);
    }
    track
}

fn description(track: &Track) -> String {
    let facts = &track.facts;
    if facts.width > 0 {
        format!("track {}: {}, {}x{}", track.id.0, track.codec, facts.width, facts.height)
    } else {
        format!("track {}: {}", track.id.0, track.codec)
    }
}
