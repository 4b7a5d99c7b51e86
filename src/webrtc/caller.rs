//! The other side of a [`session`](super::session): what a player or publisher does to reach a server that is an ICE-lite agent
//! with one address. Tests and the load generator are such clients. Datagrams and a time go in, datagrams come out.

use std::time::{Duration, Instant};

use super::dtls::{Dtls, DtlsConfig, DtlsEvent, Role};
use super::ice::Credentials;
use super::session::{End, Remote};
use super::srtp::{Receiver, Sender};
use super::stun::{AgentRole, Class, Message, Transaction, Writer};

/// A check is repeated after this until it is answered, then again and again as consent.
const CHECK: Duration = Duration::from_millis(200);
const CONSENT: Duration = Duration::from_secs(5);
/// Without an answer for this long the server is gone.
const GONE: Duration = Duration::from_secs(30);
/// Of a host candidate (RFC 8445, section 5.1.2.1).
const PRIORITY: u32 = 126 << 24 | 0xffff << 8 | 255;

/// What a datagram was.
#[derive(Debug, PartialEq, Eq)]
pub enum Heard {
    /// Media can flow from now on.
    Connected,
    /// It is over.
    Ended(End),
    /// Nothing to act on.
    Nothing,
    /// An RTCP packet of this length, opened in place.
    Rtcp(usize),
    /// An RTP packet of this length, opened in place.
    Rtp(usize),
}

/// One client.
#[derive(Debug)]
pub struct Caller {
    local: Credentials,
    remote: Credentials,
    role: Role,
    dtls: Dtls,
    transaction: Transaction,
    next_check: Instant,
    answered: Option<Instant>,
    sender: Option<Sender>,
    receiver: Option<Receiver>,
}

impl Caller {
    /// A client that told `local` in its description and has heard `remote` of the server, whose [`role`](Remote::role) is what
    /// *we* do.
    #[must_use]
    pub fn new(config: &DtlsConfig, local: Credentials, remote: Remote, now: Instant) -> Self {
        let Remote { ufrag, pwd, fingerprint, role } = remote;
        let mut transaction = [0; 12];
        // Where the system has none, numbers are only easier to guess.
        let _ = getrandom::getrandom(&mut transaction);
        Self {
            local,
            remote: Credentials { ufrag, pwd },
            role,
            dtls: Dtls::new(config, role, fingerprint, now),
            transaction,
            next_check: now,
            answered: None,
            sender: None,
            receiver: None,
        }
    }

    /// Does what is due.
    pub fn poll(&mut self, now: Instant, out: &mut Vec<Vec<u8>>) -> Heard {
        if now >= self.next_check {
            self.next_check = now + if self.answered.is_some() { CONSENT } else { CHECK };
            let check = Writer::new(Class::Request, self.transaction)
                .username(&self.remote.ufrag, &self.local.ufrag)
                .check(PRIORITY, AgentRole::Controlling(1), true);
            out.push(check.finish(&self.remote.pwd));
        }
        if self.answered.is_some_and(|at| now >= at + GONE) {
            return Heard::Ended(End::Consent(GONE));
        }
        let due = self.answered.is_some()
            && !self.dtls.is_connected()
            && self.dtls.deadline().is_some_and(|at| at <= now);
        if due { self.dtls(None, now, out) } else { Heard::Nothing }
    }

    /// When to call [`poll`](Self::poll).
    #[must_use]
    pub fn deadline(&self) -> Instant {
        let dtls = self.dtls.deadline().filter(|_| self.answered.is_some() && !self.dtls.is_connected());
        dtls.map_or(self.next_check, |at| at.min(self.next_check))
    }

    /// A datagram came.
    pub fn input(&mut self, datagram: &mut [u8], now: Instant, out: &mut Vec<Vec<u8>>) -> Heard {
        match datagram.first() {
            Some(0..=3) => self.answer(datagram, now, out),
            Some(20..=63) => self.dtls(Some(datagram), now, out),
            Some(128..=191) => {
                let control = matches!(datagram.get(1), Some(192..=223));
                let opened = self.receiver.as_mut().map(|receiver| {
                    if control {
                        receiver.rtcp(datagram).map(Heard::Rtcp)
                    } else {
                        receiver.rtp(datagram).map(Heard::Rtp)
                    }
                });
                opened.and_then(Result::ok).unwrap_or(Heard::Nothing)
            }
            _ => Heard::Nothing,
        }
    }

    fn answer(&mut self, datagram: &[u8], now: Instant, out: &mut Vec<Vec<u8>>) -> Heard {
        let ours = Message::parse(datagram).is_ok_and(|message| {
            message.class == Class::Success
                && message.transaction == self.transaction
                && message.verify(&self.remote.pwd)
        });
        if !ours {
            return Heard::Nothing;
        }
        if self.answered.replace(now).is_none() {
            self.next_check = now + CONSENT;
            if self.role == Role::Client {
                return self.dtls(None, now, out);
            }
        }
        Heard::Nothing
    }

    fn dtls(&mut self, datagram: Option<&[u8]>, now: Instant, out: &mut Vec<Vec<u8>>) -> Heard {
        let keys = match self.dtls.input(datagram, now, out) {
            Ok(None) => return Heard::Nothing,
            Ok(Some(DtlsEvent::Closed)) => return Heard::Ended(End::PeerClosed),
            Ok(Some(DtlsEvent::Keys(keys))) => keys,
            Err(e) => return Heard::Ended(End::Failed(e)),
        };
        let (ours, theirs) = match self.role {
            Role::Client => (&keys.client, &keys.server),
            Role::Server => (&keys.server, &keys.client),
        };
        self.sender = Sender::new(keys.profile, ours).ok();
        self.receiver = Receiver::new(keys.profile, theirs).ok();
        Heard::Connected
    }

    /// Seals the packet that `buffer` holds. `false`: it is not connected, or there is none.
    pub fn seal(&mut self, buffer: &mut Vec<u8>, control: bool) -> bool {
        let Some(sender) = &mut self.sender else { return false };
        if control { sender.rtcp(buffer, 0).is_ok() } else { sender.rtp(buffer, 0).is_ok() }
    }

    /// Begins ICE anew with these credentials, after the server has told its own.
    pub fn restart(&mut self, local: Credentials, remote: Credentials, now: Instant) {
        (self.local, self.remote) = (local, remote);
        // Checks at once; what was agreed by DTLS stays.
        self.next_check = now;
    }

    #[cfg(test)]
    pub(super) fn names(&self) -> (Credentials, Credentials) {
        (self.local.clone(), self.remote.clone())
    }

    #[cfg(test)]
    pub(super) fn impersonate(&mut self, dtls: Dtls) {
        self.dtls = dtls;
    }

    /// Tells the server that it is over.
    pub fn close(&mut self, out: &mut Vec<Vec<u8>>) {
        self.dtls.close(out);
    }
}
