//! What a call and a meeting have in common: whom they try to reach, until when, and the session that comes of it.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::SrtError;
use super::crypto::{CipherMode, Crypto};
use super::handshake::{Capabilities, Extensions, Handshake, Kind, Reject, SRT_VERSION, VERSION};
use super::listener::{own_flags, wire_address};
use super::options::{Options, millis};
use super::packet::{Seq, control, kind};
use super::session::{Agreed, Datagram, Session};

/// What is not answered is said again after this.
const AGAIN: Duration = Duration::from_millis(250);

/// A session that is wanted.
#[derive(Debug)]
pub struct Attempt {
    options: Options,
    to: SocketAddr,
    id: u32,
    initial: Seq,
    begin: Instant,
    next: Instant,
    crypto: Option<Crypto>,
}

impl Attempt {
    /// `id`: our socket's number; `initial`: the number of our first packet.
    ///
    /// # Errors
    /// [`SrtError::Options`]; [`SrtError::Key`] when the system has no random numbers.
    pub(super) fn new(
        to: SocketAddr,
        options: &Options,
        id: u32,
        initial: u32,
        now: Instant,
    ) -> Result<Self, SrtError> {
        if let Some(wrong) = options.wrong() {
            return Err(SrtError::Options(wrong));
        }
        let crypto = match &options.passphrase {
            None => None,
            Some(passphrase) => {
                let mode = options.cipher.unwrap_or(CipherMode::Ctr);
                Some(Crypto::initiate(passphrase, options.key_length.unwrap_or_default(), mode)?)
            }
        };
        let (options, initial) = (options.clone(), Seq::new(initial));
        Ok(Self { options, to, id, initial, begin: now, next: now, crypto })
    }

    /// Who is to be reached.
    pub(super) fn peer(&self) -> SocketAddr {
        self.to
    }

    /// Our socket's number.
    pub(super) fn local_id(&self) -> u32 {
        self.id
    }

    pub(super) fn options(&self) -> &Options {
        &self.options
    }

    pub(super) fn initial(&self) -> Seq {
        self.initial
    }

    /// When there is something to say, or it is given up.
    pub(super) fn deadline(&self) -> Instant {
        self.next.min(self.begin + self.options.connect_timeout)
    }

    /// Whether there is something to say now.
    ///
    /// # Errors
    /// [`SrtError::NoAnswer`] when nobody answered in time.
    pub(super) fn is_due(&mut self, now: Instant) -> Result<bool, SrtError> {
        if now >= self.begin + self.options.connect_timeout {
            return Err(SrtError::NoAnswer(self.to));
        }
        let is_due = now >= self.next;
        if is_due {
            self.next = now + AGAIN;
        }
        Ok(is_due)
    }

    /// There is something new to say.
    pub(super) fn hurry(&mut self, now: Instant) {
        self.next = now;
    }

    /// A handshake of ours, of version 5.
    pub(super) fn handshake(&self, kind: Kind) -> Handshake {
        let length = || (self.options.key_length.unwrap_or_default().bytes() / 8) as u16;
        Handshake {
            version: VERSION,
            encryption: self.crypto.as_ref().map_or(0, |_| length()),
            extension: 0,
            initial: self.initial,
            mtu: self.options.mss,
            window: self.options.flow_window,
            kind,
            id: self.id,
            cookie: 0,
            address: wire_address(self.to.ip()),
        }
    }

    /// What who asks has to say.
    pub(super) fn request(&self) -> Extensions {
        let own = Capabilities {
            version: SRT_VERSION,
            flags: own_flags(&self.options),
            receive_latency: millis(self.options.receive_latency),
            send_latency: millis(self.options.peer_latency),
        };
        let stream_id = &self.options.stream_id;
        Extensions {
            capabilities: Some(own),
            key: self.crypto.as_ref().map(Crypto::message),
            stream_id: (!stream_id.is_empty()).then(|| stream_id.clone()),
            ..Extensions::default()
        }
    }

    /// The packet that says so to the peer's socket `id`, 0 while that is not known.
    pub(super) fn datagram(&self, id: u32, body: Vec<u8>, now: Instant) -> Datagram {
        let timestamp = now.saturating_duration_since(self.begin).as_micros() as u32;
        Datagram { to: self.to, head: control(kind::HANDSHAKE, 0, 0, timestamp, id), body: body.into() }
    }

    /// The session that the answer to [`Attempt::request`] makes. It came at `arrival`, with this timestamp; `last`: what to
    /// say to it.
    ///
    /// # Errors
    /// [`SrtError::Refused`]: what it says can't be lived with.
    pub(super) fn session(
        &mut self,
        handshake: &Handshake,
        extensions: &Extensions,
        arrival: (Instant, u32),
        last: Option<Bytes>,
    ) -> Result<Session, SrtError> {
        let crypto = self.crypto.take();
        let capabilities = answered(handshake, extensions, crypto.as_ref())?;
        Ok(Session::new(Agreed {
            begin: self.begin,
            peer: self.to,
            local_id: self.id,
            peer_id: handshake.id,
            initial: (self.initial, handshake.initial),
            arrival,
            capabilities,
            mtu: handshake.mtu.min(self.options.mss),
            window: handshake.window,
            crypto,
            options: &self.options,
            answer: last,
        }))
    }
}

/// What the answer to what was asked says, if it can be lived with.
fn answered(
    handshake: &Handshake,
    extensions: &Extensions,
    crypto: Option<&Crypto>,
) -> Result<Capabilities, SrtError> {
    if handshake.version != VERSION {
        return Err(SrtError::Refused(Reject::VERSION));
    }
    let capabilities = extensions.capabilities.ok_or(SrtError::Refused(Reject::ROGUE))?;
    match (crypto, extensions.key.as_deref()) {
        (None, None) => {}
        (Some(crypto), Some(key)) => {
            // It repeats our message, or says in one word what is wrong.
            if key != crypto.message() {
                return Err(SrtError::Refused(Reject::BAD_SECRET));
            }
            if !crypto.fits(capabilities.version) {
                return Err(SrtError::Refused(Reject::CRYPTO));
            }
        }
        _ => return Err(SrtError::Refused(Reject::UNSECURE)),
    }
    Ok(capabilities)
}
