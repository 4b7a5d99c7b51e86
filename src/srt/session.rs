//! A connection once it stands: datagrams and a time in, datagrams and payloads out. No socket, no clock.
//!
//! The owner calls [`Session::input`] with what came, [`Session::poll`] when [`Session::deadline`] has passed or
//! something was sent or received, and sends what both put into `out`.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::crypto::{Crypto, KeyMessage};
use super::handshake::{Capabilities, Handshake, Kind, flag};
use super::options::Options;
use super::packet::{
    Control, DataHeader, HEADER, KeyFlag, MAX_DATAGRAM, Packet, Seq, control, full_ack, kind,
};
use super::receive::{Arrival, Payload, Receiver, ReceiverOptions};
use super::rtt::Rtt;
use super::send::{Sender, SenderOptions};
use super::statistics::Statistics;

/// Something is sent at least this often, so that the peer knows that we are there.
const KEEP_ALIVE: u64 = 1_000_000;
/// Packets that one poll sends: others have their turn.
const BUDGET: usize = 256;
/// How often a new key is told to a peer that does not confirm it.
const KEY_TRIES: u32 = 10;
/// The peer may make us derive a key so often at most.
const DERIVE: u64 = 1_000_000;
/// How much longer than the peer's latency a session that is closed waits: libsrt throws away what it has not
/// delivered when it is told of the end.
const LINGER: u64 = 20_000;

/// A datagram to send: the body is shared.
#[derive(Debug, Clone)]
pub struct Datagram {
    /// Where to.
    pub to: SocketAddr,
    /// The header.
    pub head: [u8; HEADER],
    /// What follows it.
    pub body: Bytes,
}

/// Why a session is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// We closed it.
    Closed,
    /// The peer was silent for too long.
    Idle,
    /// The peer closed it.
    Shutdown,
}

impl End {
    /// In words, for logs.
    #[must_use]
    pub fn text(self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::Idle => "the peer fell silent",
            Self::Shutdown => "closed by the peer",
        }
    }
}

/// Why a payload is not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SendError {
    /// The session is over.
    #[error("the SRT session is over")]
    Ended,
    /// What was sent before fills the send buffer: the peer, or the link, is too slow.
    #[error("the SRT send buffer is full: the link is too slow for the stream")]
    Full,
    /// It does not fit in a packet.
    #[error("an SRT payload of {0} bytes: at most {1} fit in a packet")]
    TooLong(usize, usize),
}

/// What a handshake agreed on.
pub(super) struct Agreed<'a> {
    /// Our time 0.
    pub(super) begin: Instant,
    pub(super) peer: SocketAddr,
    pub(super) local_id: u32,
    pub(super) peer_id: u32,
    /// Number of our first packet, and of the peer's.
    pub(super) initial: (Seq, Seq),
    /// When the peer's handshake came, and its timestamp.
    pub(super) arrival: (Instant, u32),
    pub(super) capabilities: Capabilities,
    pub(super) mtu: u32,
    pub(super) window: u32,
    pub(super) crypto: Option<Crypto>,
    pub(super) options: &'a Options,
    /// The last packet of the handshake, repeated when the peer repeats its own.
    pub(super) answer: Option<Bytes>,
}

/// A session. See the [module](self).
#[derive(Debug)]
pub struct Session {
    begin: Instant,
    peer: SocketAddr,
    local_id: u32,
    peer_id: u32,
    peer_version: u32,
    sender: Sender,
    receiver: Receiver,
    crypto: Option<Crypto>,
    rtt: Rtt,
    answer: Option<Bytes>,
    answer_due: bool,
    rekey: Option<Rekey>,
    /// When a key was last derived from the passphrase.
    derived: u64,
    heard: u64,
    spoke: u64,
    idle: u64,
    mss: u32,
    max_payload: usize,
    peer_latency: u64,
    /// Asked to close: until when what was sent may still arrive.
    closing: Option<u64>,
    ended: Option<End>,
    acks: (u64, u64),
    naks: (u64, u64),
    bandwidth: u32,
}

#[derive(Debug)]
struct Rekey {
    message: Bytes,
    at: u64,
    tries: u32,
}

impl Session {
    pub(super) fn new(agreed: Agreed<'_>) -> Self {
        let Agreed { begin, options, capabilities, .. } = agreed;
        let since = |at: Instant| at.saturating_duration_since(begin).as_micros() as u64;
        let latency = |own: Duration, peer: u16| (own.as_micros() as u64).max(u64::from(peer) * 1000);
        let has = |bit| capabilities.flags & bit == bit;
        let receive_latency = latency(options.receive_latency, capabilities.send_latency);
        let peer_latency = latency(options.peer_latency, capabilities.receive_latency);
        let late = options.drop_late && has(flag::TLPKTDROP) && has(flag::TSBPD_RECEIVE);
        let arrival = since(agreed.arrival.0);
        let receiver = ReceiverOptions {
            initial: agreed.initial.1,
            max: options.receive_buffer,
            latency: (options.tsbpd && has(flag::TSBPD_SEND)).then_some(receive_latency),
            drop_late: options.drop_late,
            nak_report: options.nak_report,
            loss_max_ttl: options.loss_max_ttl,
            begin: (arrival, agreed.arrival.1),
        };
        let sender = SenderOptions {
            initial: agreed.initial.0,
            max: options.send_buffer,
            window: agreed.window.min(options.flow_window),
            late: late.then(|| peer_latency + options.send_drop_delay.as_micros() as u64),
            peer_reports: has(flag::NAK_REPORT),
            bandwidth: options.bandwidth,
        };
        let mss = agreed.mtu.clamp(76, (MAX_DATAGRAM + 28) as u32);
        let mut crypto = agreed.crypto;
        if let Some(crypto) = &mut crypto {
            crypto.set_refresh(options.key_refresh, options.key_announce);
        }
        let overhead = crypto.as_ref().map_or(0, Crypto::overhead);
        Self {
            begin,
            peer: agreed.peer,
            local_id: agreed.local_id,
            peer_id: agreed.peer_id,
            peer_version: capabilities.version,
            sender: Sender::new(&sender),
            receiver: Receiver::new(&receiver),
            crypto,
            rtt: Rtt::START,
            answer_due: agreed.answer.is_some(),
            answer: agreed.answer,
            rekey: None,
            derived: 0,
            heard: arrival,
            spoke: arrival,
            idle: options.idle_timeout.as_micros() as u64,
            mss,
            max_payload: (mss as usize).saturating_sub(28 + HEADER + overhead),
            peer_latency,
            closing: None,
            ended: None,
            acks: (0, 0),
            naks: (0, 0),
            bandwidth: 0,
        }
    }

    /// µs since our begin.
    fn at(&self, now: Instant) -> u64 {
        now.saturating_duration_since(self.begin).as_micros() as u64
    }

    /// Where the peer is.
    #[must_use]
    pub fn peer(&self) -> SocketAddr {
        self.peer
    }

    /// Our socket's number, which the peer's packets are for.
    #[must_use]
    pub fn local_id(&self) -> u32 {
        self.local_id
    }

    /// The peer's socket's number.
    #[must_use]
    pub fn peer_id(&self) -> u32 {
        self.peer_id
    }

    /// The peer's version of SRT, e.g. `0x010501`.
    #[must_use]
    pub fn peer_version(&self) -> u32 {
        self.peer_version
    }

    /// Payloads are encrypted.
    #[must_use]
    pub fn is_encrypted(&self) -> bool {
        self.crypto.is_some()
    }

    /// Longest payload that [`Session::send`] takes.
    #[must_use]
    pub fn max_payload(&self) -> usize {
        self.max_payload
    }

    /// Why it is over, if it is.
    #[must_use]
    pub fn ended(&self) -> Option<End> {
        self.ended
    }

    /// Takes a payload to send at `now`.
    ///
    /// # Errors
    /// [`SendError`].
    pub fn send(&mut self, payload: Bytes, now: Instant) -> Result<(), SendError> {
        if self.ended.is_some() || self.closing.is_some() {
            return Err(SendError::Ended);
        }
        if payload.len() > self.max_payload {
            return Err(SendError::TooLong(payload.len(), self.max_payload));
        }
        if self.sender.push(payload, self.at(now)) { Ok(()) } else { Err(SendError::Full) }
    }

    /// The next payload whose time has come. Goes on after the end, until all are given out.
    pub fn receive(&mut self, now: Instant) -> Option<Payload> {
        let now = self.at(now);
        self.receiver.pop(now)
    }

    /// [`Session::receive`] has something.
    #[must_use]
    pub fn is_readable(&self, now: Instant) -> bool {
        self.receiver.delivery().is_some_and(|at| at <= self.at(now))
    }

    /// When [`Session::receive`] will have something, as things are.
    #[must_use]
    pub fn readable_at(&self) -> Option<Instant> {
        self.receiver.delivery().map(|at| self.begin + Duration::from_micros(at))
    }

    /// Ends it once the peer has what was sent, or can't use it any more.
    pub fn close(&mut self, now: Instant) {
        let now = self.at(now);
        let delivered = self.sender.newest().map(|at| at + self.peer_latency + self.rtt.timeout() + LINGER);
        self.closing.get_or_insert(delivered.unwrap_or(0).max(now));
    }

    /// Ends it now, and tells the peer.
    pub fn abort(&mut self, now: Instant, out: &mut Vec<Datagram>) {
        if self.ended.is_none() {
            let now = self.at(now);
            // libsrt wants a body.
            self.control(kind::SHUTDOWN, 0, 0, &[0; 4], now, out);
            self.ended = Some(End::Closed);
        }
    }

    /// The peer repeats its handshake: our answer was lost.
    pub fn handshake_again(&mut self) {
        self.answer_due = self.answer.is_some();
    }

    fn control(
        &mut self,
        kind: u16,
        subtype: u16,
        information: u32,
        body: &[u8],
        now: u64,
        out: &mut Vec<Datagram>,
    ) {
        let head = control(kind, subtype, information, now as u32, self.peer_id);
        out.push(Datagram { to: self.peer, head, body: Bytes::copy_from_slice(body) });
        self.spoke = now;
    }

    /// Takes a datagram for this session that came from its peer.
    pub fn input(&mut self, datagram: &[u8], now: Instant, out: &mut Vec<Datagram>) {
        let now = self.at(now);
        let Ok(packet) = Packet::parse(datagram) else { return };
        if self.ended.is_some() {
            return;
        }
        self.heard = now;
        match packet {
            Packet::Data(header, payload) => self.data(&header, payload, now),
            Packet::Control(control, timestamp, _) => self.take_control(control, timestamp, now, out),
        }
    }

    fn data(&mut self, header: &DataHeader, payload: &[u8], now: u64) {
        if self.receiver.arrived(header, payload.len(), now) == Arrival::Useless {
            return;
        }
        let data = match (&self.crypto, header.key) {
            (None, KeyFlag::None) => Some(Bytes::copy_from_slice(payload)),
            (Some(crypto), KeyFlag::Even | KeyFlag::Odd) => crypto.decrypt(header, payload),
            // What anybody could have sent, or what nobody here can read.
            _ => None,
        };
        if data.is_none() {
            self.receiver.count.undecrypted += 1;
            self.receiver.count.undecrypted_bytes += payload.len() as u64;
        }
        self.receiver.put(header, data, now);
    }

    fn take_control(&mut self, packet: Control<'_>, timestamp: u32, now: u64, out: &mut Vec<Datagram>) {
        match packet {
            Control::Ack(ack) => {
                self.acks.1 += 1;
                if let Some(full) = &ack.full {
                    self.rtt.update(full.rtt);
                    self.bandwidth = full.bandwidth;
                    self.control(kind::ACKACK, 0, ack.number, &[0; 4], now, out);
                }
                self.sender.acknowledged(ack.next, ack.full.map(|full| full.room), &self.rtt, now);
            }
            Control::AckAck(number) => {
                if let Some(rtt) = self.receiver.ack_heard(number, now) {
                    self.rtt.update(rtt);
                    self.receiver.clock.sample(timestamp, rtt, now);
                }
            }
            Control::DropRequest { first, last } => self.receiver.drop_request(first, last),
            Control::Nak(body) => {
                self.naks.1 += 1;
                let mut gone = None;
                self.sender.reported(body, &self.rtt, now, |first, last| {
                    let (from, _) = gone.unwrap_or((first, last));
                    gone = Some((from, last));
                });
                if let Some((first, last)) = gone {
                    self.request_drop(first, last, now, out);
                }
            }
            Control::Shutdown => self.ended = Some(End::Shutdown),
            Control::KeyRequest(body) => {
                let (Some(crypto), Ok(message)) = (&mut self.crypto, KeyMessage::parse(body)) else { return };
                if crypto.is_costly(&message) {
                    if now < self.derived + DERIVE {
                        return;
                    }
                    self.derived = now;
                }
                // Status 4: SRT_KM_S_BADSECRET.
                let bad = 4u32.to_be_bytes();
                let answer = if crypto.take(&message).is_ok() { body } else { &bad };
                self.control(kind::EXTENSION, 4, 0, answer, now, out);
            }
            Control::KeyResponse(_) => self.rekey = None,
            // The last word of a rendezvous is no question.
            Control::Handshake(body) => {
                if Handshake::parse(body).is_ok_and(|(handshake, _)| handshake.kind == Kind::Conclusion) {
                    self.handshake_again();
                }
            }
            Control::KeepAlive | Control::Other(_) => {}
        }
    }

    /// Tells the peer not to wait for these.
    fn request_drop(&mut self, first: Seq, last: Seq, now: u64, out: &mut Vec<Datagram>) {
        let body = [first.value().to_be_bytes(), last.value().to_be_bytes()].concat();
        self.control(kind::DROP_REQUEST, 0, 0, &body, now, out);
    }

    /// Sends what is due.
    pub fn poll(&mut self, now: Instant, out: &mut Vec<Datagram>) {
        let instant = now;
        let now = self.at(now);
        if self.ended.is_some() {
            return;
        }
        if now >= self.heard + self.idle {
            self.ended = Some(End::Idle);
            return;
        }
        if std::mem::take(&mut self.answer_due)
            && let Some(answer) = self.answer.clone()
        {
            let head = control(kind::HANDSHAKE, 0, 0, now as u32, self.peer_id);
            out.push(Datagram { to: self.peer, head, body: answer });
            self.spoke = now;
        }
        if let Some(body) = self.receiver.report(&self.rtt, now) {
            self.naks.0 += 1;
            self.control(kind::NAK, 0, 0, &body, now, out);
        }
        if let Some(ack) = self.receiver.ack(&self.rtt, now) {
            self.acks.0 += 1;
            match &ack.full {
                Some(full) => self.control(kind::ACK, 0, ack.number, &full_ack(ack.next, full), now, out),
                None => self.control(kind::ACK, 0, 0, &ack.next.value().to_be_bytes(), now, out),
            }
        }
        if let Some((first, last)) = self.sender.given_up(now) {
            self.request_drop(first, last, now, out);
        }
        self.sender.probe(&self.rtt, now);
        for _ in 0..BUDGET {
            let Some(packet) = self.sender.next(now) else { break };
            let mut header = DataHeader {
                seq: packet.seq,
                place: 3,
                key: KeyFlag::None,
                again: packet.again,
                message: packet.message,
                timestamp: packet.time as u32,
                to: self.peer_id,
            };
            let mut body = packet.payload;
            if let Some(crypto) = &mut self.crypto {
                if !packet.again
                    && let Ok(Some(message)) = crypto.turn()
                {
                    self.rekey = Some(Rekey { message: message.into(), at: now, tries: KEY_TRIES });
                }
                // A key that we have ourselves made is there.
                let Some(encrypted) = crypto.encrypt(&mut header, &body) else { continue };
                body = encrypted;
            }
            out.push(Datagram { to: self.peer, head: header.bytes(), body });
            self.spoke = now;
        }
        self.tell_key(now, out);
        if now >= self.spoke + KEEP_ALIVE {
            self.control(kind::KEEP_ALIVE, 0, 0, &[0; 4], now, out);
        }
        if self.closing.is_some_and(|until| now >= until) {
            self.abort(instant, out);
        }
    }

    fn tell_key(&mut self, now: u64, out: &mut Vec<Datagram>) {
        let Some(rekey) = &mut self.rekey else { return };
        if rekey.at > now {
            return;
        }
        rekey.at = now + self.rtt.timeout().max(20_000);
        let message = rekey.message.clone();
        rekey.tries = rekey.tries.saturating_sub(1);
        if rekey.tries == 0 {
            self.rekey = None;
        }
        self.control(kind::EXTENSION, 3, 0, &message, now, out);
    }

    /// When [`Session::poll`] has something to do.
    #[must_use]
    pub fn deadline(&self) -> Instant {
        let rekey = self.rekey.as_ref().map(|rekey| rekey.at);
        let at = [self.sender.deadline(&self.rtt), self.receiver.deadline(&self.rtt), self.closing, rekey]
            .into_iter()
            .flatten()
            .fold((self.heard + self.idle).min(self.spoke + KEEP_ALIVE), u64::min);
        self.begin + Duration::from_micros(if self.answer_due { 0 } else { at })
    }

    /// Figures of now.
    #[must_use]
    pub fn statistics(&self, now: Instant) -> Statistics {
        let elapsed = self.at(now).max(1);
        let (sent, received) = (&self.sender.count, &self.receiver.count);
        let mbps = |bytes: u64| bytes as f64 * 8.0 / elapsed as f64;
        let (packets_kept, bytes_kept, sender_span) = self.sender.kept();
        let (waiting, waiting_bytes, receiver_span) = self.receiver.kept();
        let (flight, window) = self.sender.flight();
        let limit = self.sender.limit();
        let average = received.unique_bytes.checked_div(received.unique).unwrap_or(0);
        Statistics {
            ms_time_stamp: elapsed / 1000,
            pkt_sent_total: sent.packets + sent.again,
            pkt_recv_total: received.packets,
            pkt_sent_unique_total: sent.packets,
            pkt_recv_unique_total: received.unique,
            pkt_snd_loss_total: sent.reported,
            pkt_rcv_loss_total: received.lost,
            pkt_retrans_total: sent.again,
            pkt_rcv_retrans_total: received.again,
            pkt_sent_ack_total: self.acks.0,
            pkt_recv_ack_total: self.acks.1,
            pkt_sent_nak_total: self.naks.0,
            pkt_recv_nak_total: self.naks.1,
            pkt_snd_drop_total: sent.dropped,
            pkt_rcv_drop_total: received.dropped,
            pkt_rcv_belated_total: received.belated,
            pkt_rcv_undecrypt_total: received.undecrypted,
            byte_sent_total: sent.bytes + sent.again_bytes,
            byte_recv_total: received.bytes,
            byte_sent_unique_total: sent.bytes,
            byte_recv_unique_total: received.unique_bytes,
            byte_retrans_total: sent.again_bytes,
            byte_snd_drop_total: sent.dropped_bytes,
            byte_rcv_drop_total: received.dropped * average,
            byte_rcv_undecrypt_total: received.undecrypted_bytes,
            us_pkt_snd_period: limit.map_or(0.0, |limit| self.mss as f64 * 1e6 / limit.max(1) as f64),
            pkt_flow_window: window as u32,
            pkt_flight_size: flight as u32,
            ms_rtt: self.rtt.smoothed() as f64 / 1000.0,
            mbps_send_rate: mbps(sent.bytes + sent.again_bytes),
            mbps_recv_rate: mbps(received.bytes),
            mbps_bandwidth: f64::from(self.bandwidth) * f64::from(self.mss) * 8e-6,
            mbps_max_bw: limit.map_or(-1.0, |limit| limit as f64 * 8e-6),
            byte_mss: self.mss,
            pkt_snd_buf: packets_kept as u32,
            byte_snd_buf: bytes_kept as u32,
            ms_snd_buf: (sender_span / 1000) as u32,
            ms_snd_tsb_pd_delay: (self.peer_latency / 1000) as u32,
            pkt_rcv_buf: waiting as u32,
            byte_rcv_buf: waiting_bytes as u32,
            ms_rcv_buf: (receiver_span / 1000) as u32,
            ms_rcv_tsb_pd_delay: (self.receiver.latency() / 1000) as u32,
            pkt_reorder_distance: received.reorder,
            pkt_reorder_tolerance: self.receiver.tolerance(),
        }
    }
}
