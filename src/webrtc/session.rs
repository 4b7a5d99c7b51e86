//! One peer's transport: ICE, then DTLS, then SRTP. Datagrams and a time go in; datagrams, and what became of the session, come
//! out. No socket, no clock, no await.
//!
//! Its parts are locked each for itself, so that who sends media, who receives it and a handshake that computes don't wait for
//! one another.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::dtls::{Dtls, DtlsConfig, DtlsError, DtlsEvent, Fingerprint, Role};
use super::ice::{Agent, Checked, Credentials, Path, Via};
use super::srtp::{Receiver, Sender, SrtpError};
use super::stun::Message;

/// What a peer's description says of its transport.
#[derive(Debug, Clone)]
pub struct Remote {
    /// `a=ice-ufrag`.
    pub ufrag: String,
    /// `a=ice-pwd`.
    pub pwd: String,
    /// `a=fingerprint`.
    pub fingerprint: Fingerprint,
    /// What *we* do in DTLS, as our answer says by `a=setup`.
    pub role: Role,
}

/// Why a session is over.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum End {
    /// We closed it.
    #[error("closed")]
    Closed,
    /// Nothing was heard of the peer for so long that it is taken as gone.
    #[error("nothing was heard of the peer for {} s", .0.as_secs())]
    Consent(Duration),
    /// DTLS could not be agreed.
    #[error("{0}")]
    Failed(#[from] DtlsError),
    /// The peer did not come, or not through.
    #[error(
        "the peer did not connect within {} s: is the UDP port of [webrtc] open, and the address of its candidate the one that \
         the peer can reach?",
        .0.as_secs()
    )]
    NotConnected(Duration),
    /// The peer closed it.
    #[error("closed by the peer")]
    PeerClosed,
    /// The server stops.
    #[error("the server stops")]
    Stopped,
}

/// What went through a session, all told: packets of media and their control, with what protects them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Traffic {
    /// Packets to the peer.
    pub sent: u64,
    /// Their bytes.
    pub sent_bytes: u64,
    /// Packets of the peer that were genuine and new.
    pub received: u64,
    /// Their bytes.
    pub received_bytes: u64,
    /// Packets of the peer that were not.
    pub refused: u64,
}

/// How long is waited for what.
#[derive(Debug, Clone, Copy)]
pub struct Timeouts {
    /// Until the peer is connected.
    pub connect: Duration,
    /// Until a peer of which nothing is heard is taken as gone.
    pub consent: Duration,
}

/// What a datagram of DTLS, or the time, changed.
#[derive(Debug, PartialEq, Eq)]
pub enum Change {
    /// Media can flow.
    Connected,
    /// It is over.
    Ended(End),
}

/// What sends.
#[derive(Debug, Default)]
pub struct Outgoing {
    sender: Option<Sender>,
    path: Option<Path>,
    packets: u64,
    bytes: u64,
}

#[derive(Debug, Default)]
struct Incoming {
    receiver: Option<Receiver>,
    packets: u64,
    bytes: u64,
    refused: u64,
}

/// One peer's transport.
#[derive(Debug)]
pub struct Session {
    role: Role,
    timeouts: Timeouts,
    opened: Instant,
    agent: Mutex<Agent>,
    dtls: Mutex<Dtls>,
    outgoing: Mutex<Outgoing>,
    incoming: Mutex<Incoming>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Outgoing {
    /// Where it goes; `None`: nothing can be sent yet.
    #[must_use]
    pub fn path(&self) -> Option<Path> {
        self.path.filter(|_| self.sender.is_some())
    }

    /// Seals the packet that `buffer` holds from `start` on. Tells whether it did; if not, `buffer` is as short as it was.
    pub fn seal(&mut self, buffer: &mut Vec<u8>, start: usize, control: bool) -> bool {
        let Some(sender) = &mut self.sender else {
            buffer.truncate(start);
            return false;
        };
        let sealed = if control { sender.rtcp(buffer, start) } else { sender.rtp(buffer, start) };
        if sealed.is_err() {
            buffer.truncate(start);
            return false;
        }
        self.packets += 1;
        self.bytes += (buffer.len() - start) as u64;
        true
    }
}

impl Session {
    /// A session of these two sides.
    #[must_use]
    pub fn new(
        config: &DtlsConfig,
        local: Credentials,
        remote: Remote,
        timeouts: Timeouts,
        now: Instant,
    ) -> Self {
        let Remote { ufrag, pwd, fingerprint, role } = remote;
        Self {
            role,
            timeouts,
            opened: now,
            agent: Mutex::new(Agent::new(local, Credentials { ufrag, pwd }, now)),
            dtls: Mutex::new(Dtls::new(config, role, fingerprint, now)),
            outgoing: Mutex::default(),
            incoming: Mutex::default(),
        }
    }

    /// A STUN message came on `path`. When its path is the first of a session in which we begin ([`Role::Client`]),
    /// [`dtls`](Self::dtls) is to be called.
    pub fn stun(&self, message: &Message<'_>, path: Path, now: Instant) -> Checked {
        let mut agent = lock(&self.agent);
        let checked = agent.input(message, path, now);
        if checked.moved {
            lock(&self.outgoing).path = agent.selected();
        }
        checked
    }

    /// We are the one that begins with DTLS.
    #[must_use]
    pub fn begins(&self) -> bool {
        self.role == Role::Client
    }

    /// A datagram of DTLS came, or it is time for one of ours. What is to be sent goes into `out`; it goes by
    /// [`path`](Self::path).
    pub fn dtls(&self, datagram: Option<&[u8]>, now: Instant, out: &mut Vec<Vec<u8>>) -> Option<Change> {
        let mut dtls = lock(&self.dtls);
        let keys = match dtls.input(datagram, now, out) {
            Ok(None) => return None,
            Ok(Some(DtlsEvent::Closed)) => return Some(Change::Ended(End::PeerClosed)),
            Ok(Some(DtlsEvent::Keys(keys))) => keys,
            Err(e) => return Some(Change::Ended(End::Failed(e))),
        };
        let (ours, theirs) = match self.role {
            Role::Client => (&keys.client, &keys.server),
            Role::Server => (&keys.server, &keys.client),
        };
        let both =
            Sender::new(keys.profile, ours).and_then(|ours| Ok((ours, Receiver::new(keys.profile, theirs)?)));
        let Ok((sender, receiver)) = both else {
            return Some(Change::Ended(End::Failed(DtlsError::Profile)));
        };
        lock(&self.incoming).receiver = Some(receiver);
        lock(&self.outgoing).sender = Some(sender);
        Some(Change::Connected)
    }

    /// A packet of media, or of its control, came on `path`: it is opened in place, what is told is its length then.
    ///
    /// # Errors
    /// [`SrtpError`]: drop it.
    pub fn media(
        &self,
        packet: &mut [u8],
        control: bool,
        path: Path,
        now: Instant,
    ) -> Result<usize, SrtpError> {
        let mut incoming = lock(&self.incoming);
        let bytes = packet.len() as u64;
        let opened = match &mut incoming.receiver {
            None => Err(SrtpError::Forged),
            Some(receiver) if control => receiver.rtcp(packet),
            Some(receiver) => receiver.rtp(packet),
        };
        if opened.is_ok() {
            incoming.packets += 1;
            incoming.bytes += bytes;
            drop(incoming);
            lock(&self.agent).hear(path, now);
        } else {
            incoming.refused += 1;
        }
        opened
    }

    /// Does what is due; to be called every tenth of a second while it connects, each second then.
    pub fn tick(&self, now: Instant, out: &mut Vec<Vec<u8>>) -> Option<Change> {
        // Who computes at this moment does what is due anyway. While there is no deadline it hasn't begun.
        let due = self
            .dtls
            .try_lock()
            .is_ok_and(|dtls| !dtls.is_connected() && dtls.deadline().map_or(self.begins(), |at| at <= now));
        if due
            && self.path().is_some()
            && let Some(change) = self.dtls(None, now, out)
        {
            return Some(change);
        }
        let heard = self.heard();
        let Timeouts { connect, consent } = self.timeouts;
        if !self.is_connected() {
            return (now >= self.opened + connect).then(|| {
                let doubt = lock(&self.dtls).doubt().cloned();
                Change::Ended(doubt.map_or(End::NotConnected(connect), End::Failed))
            });
        }
        (now >= heard + consent).then_some(Change::Ended(End::Consent(consent)))
    }

    /// Media can flow.
    #[must_use]
    pub fn is_connected(&self) -> bool {
        lock(&self.outgoing).sender.is_some()
    }

    /// When the peer proved itself last.
    #[must_use]
    pub fn heard(&self) -> Instant {
        lock(&self.agent).heard()
    }

    /// Where to send.
    #[must_use]
    pub fn path(&self) -> Option<Path> {
        lock(&self.outgoing).path
    }

    /// What sends media.
    pub fn outgoing(&self) -> MutexGuard<'_, Outgoing> {
        lock(&self.outgoing)
    }

    /// The peer begins anew with other credentials: tells the name of ours that is not good any more.
    pub fn restart(&self, local: Credentials, remote: Credentials) -> Option<String> {
        lock(&self.agent).restart(local, remote)
    }

    /// The credentials of the peer.
    #[must_use]
    pub fn remote(&self) -> Credentials {
        lock(&self.agent).remote().clone()
    }

    /// A connection is gone.
    pub fn lost(&self, via: Via) {
        let mut agent = lock(&self.agent);
        if agent.lost(via) {
            lock(&self.outgoing).path = agent.selected();
        }
    }

    /// Our names and the peer's paths, to be forgotten by who hands it datagrams.
    pub fn known_as(&self, mut name: impl FnMut(&str), mut path: impl FnMut(Path)) {
        let agent = lock(&self.agent);
        agent.names().for_each(&mut name);
        agent.paths().iter().copied().for_each(&mut path);
    }

    /// Tells the peer that it is over.
    pub fn close(&self, out: &mut Vec<Vec<u8>>) {
        lock(&self.dtls).close(out);
    }

    /// Figures.
    #[must_use]
    pub fn traffic(&self) -> Traffic {
        let mut traffic = Traffic::default();
        {
            let outgoing = lock(&self.outgoing);
            (traffic.sent, traffic.sent_bytes) = (outgoing.packets, outgoing.bytes);
        }
        let incoming = lock(&self.incoming);
        (traffic.received, traffic.received_bytes, traffic.refused) =
            (incoming.packets, incoming.bytes, incoming.refused);
        traffic
    }
}

#[cfg(test)]
#[path = "session_tests.rs"]
mod tests;
