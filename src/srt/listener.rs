//! The side that is called: answers handshakes without keeping anything until a caller has shown that it gets what is
//! sent to its address (draft-sharabayko-srt-01, section 4.3.1).

use std::hash::{BuildHasher, RandomState};
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::crypto::{Crypto, KeyError, KeyMessage};
use super::handshake::{
    Capabilities, Extensions, Handshake, Kind, MAGIC, Reject, SRT_VERSION, VERSION, flag,
};
use super::options::{Options, millis};
use super::packet::{HEADER, Seq, control, kind};
use super::session::{Agreed, Datagram, Session};

/// A cookie is good for this long, and for as long again.
const COOKIE_PERIOD: Duration = Duration::from_secs(60);

/// Answers handshakes that are for no session yet.
#[derive(Debug)]
pub struct Listener {
    secret: RandomState,
    begin: Instant,
}

/// What came of a handshake.
#[derive(Debug)]
pub enum Heard {
    /// A caller that wants in, and has shown its address.
    Caller(Box<Conclusion>),
    /// Send this.
    Reply(Datagram),
    /// Not for us, or forged: no answer.
    Silence,
}

/// A caller that wants in: the second round of its handshake.
#[derive(Debug, Clone)]
pub struct Conclusion {
    /// Where it is.
    pub peer: SocketAddr,
    pub(super) handshake: Handshake,
    pub(super) extensions: Extensions,
    pub(super) arrival: Instant,
    pub(super) timestamp: u32,
}

impl Listener {
    /// `now` is where its times count from.
    #[must_use]
    pub fn new(now: Instant) -> Self {
        Self { secret: RandomState::new(), begin: now }
    }

    fn cookie(&self, peer: SocketAddr, period: u64) -> u32 {
        self.secret.hash_one((peer, period)) as u32
    }

    /// Takes a handshake for no session: the body of its packet.
    #[must_use]
    pub fn handshake(&self, body: &[u8], timestamp: u32, peer: SocketAddr, now: Instant) -> Heard {
        let period = now.saturating_duration_since(self.begin).as_secs() / COOKIE_PERIOD.as_secs();
        let Ok((handshake, extensions)) = Handshake::parse(body) else { return Heard::Silence };
        match handshake.kind {
            // Nobody is there to answer to.
            _ if handshake.id == 0 => Heard::Silence,
            // An answer, not a question: two servers would answer each other for ever.
            Kind::Induction if handshake.extension == MAGIC || handshake.cookie != 0 => Heard::Silence,
            Kind::Induction => {
                let reply = Handshake {
                    version: VERSION,
                    encryption: 0,
                    extension: MAGIC,
                    cookie: self.cookie(peer, period),
                    address: wire_address(peer.ip()),
                    ..handshake
                };
                Heard::Reply(datagram(peer, handshake.id, reply.body(None, false)))
            }
            Kind::Conclusion => {
                let good = |period| handshake.cookie == self.cookie(peer, period);
                if !(good(period) || period.checked_sub(1).is_some_and(good)) {
                    return Heard::Silence;
                }
                let arrival = now;
                let caller = Conclusion { peer, handshake, extensions, arrival, timestamp };
                match caller.unacceptable() {
                    Some(reason) => Heard::Reply(caller.reject(reason)),
                    None => Heard::Caller(Box::new(caller)),
                }
            }
            _ => Heard::Silence,
        }
    }
}

impl Conclusion {
    /// Why we can't talk to it at all.
    pub(super) fn unacceptable(&self) -> Option<Reject> {
        if self.handshake.version != VERSION {
            return Some(Reject::VERSION);
        }
        if self.extensions.group {
            return Some(Reject::GROUP);
        }
        let Some(capabilities) = &self.extensions.capabilities else { return Some(Reject::ROGUE) };
        if capabilities.flags & flag::STREAM != 0 {
            return Some(Reject::MESSAGE_API);
        }
        if self.extensions.congestion.as_ref().is_some_and(|name| !name.is_empty() && name != "live") {
            return Some(Reject::CONGESTION);
        }
        if self.extensions.filter.as_ref().is_some_and(|filter| !filter.is_empty()) {
            return Some(Reject::FILTER);
        }
        None
    }

    /// The peer's socket.
    #[must_use]
    pub fn peer_id(&self) -> u32 {
        self.handshake.id
    }

    /// What it asks for; empty when it says nothing.
    #[must_use]
    pub fn stream_id(&self) -> &str {
        self.extensions.stream_id.as_deref().unwrap_or_default()
    }

    /// It sends keys: it has a passphrase.
    #[must_use]
    pub fn is_encrypted(&self) -> bool {
        self.extensions.key.is_some()
    }

    /// Its version of SRT, e.g. `0x010501`.
    #[must_use]
    pub fn version(&self) -> u32 {
        self.extensions.capabilities.map_or(0, |capabilities| capabilities.version)
    }

    /// The packet that refuses it.
    #[must_use]
    pub fn reject(&self, reason: Reject) -> Datagram {
        let reply = Handshake { kind: Kind::Rejection(reason), extension: 0, ..self.handshake };
        datagram(self.peer, self.handshake.id, reply.body(None, false))
    }

    /// A session with it. `id` is the number of our socket.
    ///
    /// # Errors
    /// Why not: to be sent by [`Conclusion::reject`].
    pub fn accept(&self, id: u32, options: &Options, now: Instant) -> Result<Session, Reject> {
        self.agree(id, self.handshake.initial, self.handshake.cookie, options, now)
    }

    /// The same with a number of our first packet, and a cookie, of our own.
    pub(super) fn agree(
        &self,
        id: u32,
        initial: Seq,
        cookie: u32,
        options: &Options,
        now: Instant,
    ) -> Result<Session, Reject> {
        let capabilities = self.extensions.capabilities.ok_or(Reject::ROGUE)?;
        let crypto = self.crypto(options)?;
        let own = Capabilities {
            version: SRT_VERSION,
            flags: own_flags(options),
            receive_latency: millis(options.receive_latency).max(capabilities.send_latency),
            send_latency: millis(options.peer_latency).max(capabilities.receive_latency),
        };
        let extensions = Extensions {
            capabilities: Some(own),
            key: crypto.as_ref().and(self.extensions.key.clone()),
            ..Extensions::default()
        };
        let answer = Handshake {
            encryption: 0,
            initial,
            cookie,
            mtu: self.handshake.mtu.min(options.mss),
            window: options.flow_window,
            kind: Kind::Conclusion,
            id,
            address: wire_address(self.peer.ip()),
            ..self.handshake
        };
        Ok(Session::new(Agreed {
            // What came before it stands before our time, in the arrival of the handshake.
            begin: self.arrival.min(now),
            peer: self.peer,
            local_id: id,
            peer_id: self.handshake.id,
            initial: (initial, self.handshake.initial),
            arrival: (self.arrival, self.timestamp),
            capabilities,
            mtu: answer.mtu,
            window: self.handshake.window,
            crypto,
            options,
            answer: Some(Bytes::from(answer.body(Some(&extensions), false))),
        }))
    }

    fn crypto(&self, options: &Options) -> Result<Option<Crypto>, Reject> {
        respond(self.extensions.key.as_deref(), self.version(), options)
    }
}

/// Opens the keys of a KMREQ in a handshake.
pub(super) fn respond(key: Option<&[u8]>, version: u32, options: &Options) -> Result<Option<Crypto>, Reject> {
    let (key, passphrase) = match (key, &options.passphrase) {
        (None, None) => return Ok(None),
        (Some(key), Some(passphrase)) => (key, passphrase),
        _ => return Err(Reject::UNSECURE),
    };
    let refuse = |error| match error {
        KeyError::BadSecret => Reject::BAD_SECRET,
        KeyError::Mode => Reject::CRYPTO,
        KeyError::Random => Reject::SYSTEM,
        KeyError::Malformed => Reject::ROGUE,
    };
    let message = KeyMessage::parse(key).map_err(refuse)?;
    let crypto = Crypto::respond(passphrase, &message).map_err(refuse)?;
    if options.cipher.is_some_and(|wanted| wanted != crypto.mode()) || !crypto.fits(version) {
        return Err(Reject::CRYPTO);
    }
    Ok(Some(crypto))
}

/// What we say that we can.
pub(super) fn own_flags(options: &Options) -> u32 {
    let mut flags = flag::CRYPT | flag::REXMIT;
    for (on, bits) in [
        (options.tsbpd, flag::TSBPD_SEND | flag::TSBPD_RECEIVE),
        (options.drop_late, flag::TLPKTDROP),
        (options.nak_report, flag::NAK_REPORT),
    ] {
        flags |= u32::from(on) * bits;
    }
    flags
}

/// A handshake packet before there is a session.
pub(super) fn datagram(to: SocketAddr, id: u32, body: Vec<u8>) -> Datagram {
    let head: [u8; HEADER] = control(kind::HANDSHAKE, 0, 0, 0, id);
    Datagram { to, head, body: body.into() }
}

/// An address as handshakes carry it: words turned round.
pub(super) fn wire_address(ip: IpAddr) -> [u8; 16] {
    let mut wire = [0; 16];
    match ip.to_canonical() {
        IpAddr::V4(v4) => {
            for (to, from) in wire.iter_mut().zip(v4.octets().iter().rev()) {
                *to = *from;
            }
        }
        IpAddr::V6(v6) => {
            wire = v6.octets();
            for word in wire.chunks_exact_mut(4) {
                word.reverse();
            }
        }
    }
    wire
}

impl Crypto {
    /// libsrt 1.5.2 and 1.5.3 made GCM's nonces otherwise.
    pub(super) fn fits(&self, version: u32) -> bool {
        self.mode() == super::crypto::CipherMode::Ctr || version > 0x0001_0503
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_servers_do_not_answer_each_other() {
        let (now, peer) = (Instant::now(), "192.0.2.1:10080".parse().unwrap());
        let desk = Listener::new(now);
        let question = Handshake {
            version: 4,
            encryption: 0,
            extension: 2,
            initial: Seq::new(1),
            mtu: 1500,
            window: 8192,
            kind: Kind::Induction,
            id: 7,
            cookie: 0,
            address: [0; 16],
        };
        let heard = |handshake: Handshake| desk.handshake(&handshake.body(None, false), 0, peer, now);
        let Heard::Reply(reply) = heard(question) else { panic!("a question") };
        let answer = Handshake::parse(&reply.body).unwrap().0;
        for silent in [answer, Handshake { id: 0, ..question }, Handshake { cookie: 1, ..question }] {
            assert!(matches!(heard(silent), Heard::Silence), "{silent:?}");
        }
    }
}
