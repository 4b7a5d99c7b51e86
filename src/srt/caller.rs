//! The side that calls (draft-sharabayko-srt-01, section 4.3.1).

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use super::SrtError;
use super::crypto::{CipherMode, Crypto};
use super::handshake::{
    Capabilities, DATAGRAM, Extensions, Handshake, Kind, MAGIC, Reject, SRT_VERSION, VERSION,
};
use super::listener::{own_flags, wire_address};
use super::options::{Options, millis};
use super::packet::{Control, Packet, Seq, control, kind};
use super::session::{Agreed, Datagram, Session};

/// What is not answered is said again after this.
const AGAIN: Duration = Duration::from_millis(250);

/// A call that is on its way: sans-IO like [`Session`], which it becomes.
#[derive(Debug)]
pub struct Caller {
    options: Options,
    to: SocketAddr,
    id: u32,
    initial: Seq,
    begin: Instant,
    next: Instant,
    /// The listener's cookie, and its socket's answer to be given: there once it answered.
    cookie: Option<u32>,
    crypto: Option<Crypto>,
}

impl Caller {
    /// A call with our socket's number `id` and the number of our first packet.
    ///
    /// # Errors
    /// [`SrtError::Options`]; [`SrtError::Key`] when the system has no random numbers.
    pub fn new(
        to: SocketAddr,
        options: &Options,
        id: u32,
        initial: u32,
        now: Instant,
    ) -> Result<Self, SrtError> {
        if let Some(wrong) = options.wrong() {
            return Err(SrtError::Options(wrong));
        }
        let crypto = own_crypto(options)?;
        let initial = Seq::new(initial);
        Ok(Self { options: options.clone(), to, id, initial, begin: now, next: now, cookie: None, crypto })
    }

    /// Who is called.
    #[must_use]
    pub fn peer(&self) -> SocketAddr {
        self.to
    }

    /// Our socket's number.
    #[must_use]
    pub fn local_id(&self) -> u32 {
        self.id
    }

    /// When [`Caller::poll`] has something to do.
    #[must_use]
    pub fn deadline(&self) -> Instant {
        self.next.min(self.begin + self.options.connect_timeout)
    }

    /// Sends what is due.
    ///
    /// # Errors
    /// [`SrtError::NoAnswer`] when nobody answered in time.
    pub fn poll(&mut self, now: Instant, out: &mut Vec<Datagram>) -> Result<(), SrtError> {
        if now >= self.begin + self.options.connect_timeout {
            return Err(SrtError::NoAnswer(self.to));
        }
        if now >= self.next {
            self.next = now + AGAIN;
            out.push(self.packet(now));
        }
        Ok(())
    }

    fn packet(&self, now: Instant) -> Datagram {
        let options = &self.options;
        let mut handshake = Handshake {
            version: 4,
            encryption: 0,
            extension: DATAGRAM,
            initial: self.initial,
            mtu: 1500,
            window: options.flow_window,
            kind: Kind::Induction,
            id: self.id,
            cookie: 0,
            address: wire_address(self.to.ip()),
        };
        let body = match self.cookie {
            None => handshake.body(None, true),
            Some(cookie) => {
                handshake.version = VERSION;
                handshake.kind = Kind::Conclusion;
                handshake.cookie = cookie;
                handshake.encryption = key_field(options, self.crypto.as_ref());
                let extensions = request(options, self.crypto.as_ref());
                handshake.body(Some(&extensions), true)
            }
        };
        let timestamp = now.saturating_duration_since(self.begin).as_micros() as u32;
        let head = control(kind::HANDSHAKE, 0, 0, timestamp, 0);
        Datagram { to: self.to, head, body: body.into() }
    }

    /// Takes a datagram from who is called; the session, once it stands.
    ///
    /// # Errors
    /// [`SrtError::Refused`] and why.
    pub fn input(&mut self, datagram: &[u8], now: Instant) -> Result<Option<Session>, SrtError> {
        let Ok(Packet::Control(Control::Handshake(body), timestamp, _)) = Packet::parse(datagram) else {
            return Ok(None);
        };
        let Ok((handshake, extensions)) = Handshake::parse(body) else { return Ok(None) };
        match handshake.kind {
            Kind::Induction if self.cookie.is_none() => {
                if handshake.version != VERSION || handshake.extension != MAGIC {
                    return Err(SrtError::Refused(Reject::VERSION));
                }
                self.cookie = Some(handshake.cookie);
                self.next = now;
                Ok(None)
            }
            Kind::Conclusion if self.cookie.is_some() => {
                self.agree(&handshake, &extensions, timestamp, now).map(Some)
            }
            Kind::Rejection(reason) => Err(SrtError::Refused(reason)),
            _ => Ok(None),
        }
    }

    fn agree(
        &mut self,
        handshake: &Handshake,
        extensions: &Extensions,
        timestamp: u32,
        now: Instant,
    ) -> Result<Session, SrtError> {
        let crypto = self.crypto.take();
        let capabilities = answered(handshake, extensions, crypto.as_ref())?;
        Ok(Session::new(Agreed {
            begin: self.begin,
            peer: self.to,
            local_id: self.id,
            peer_id: handshake.id,
            initial: (self.initial, handshake.initial),
            arrival: (now, timestamp),
            capabilities,
            mtu: handshake.mtu.min(1500),
            window: handshake.window,
            crypto,
            options: &self.options,
            answer: None,
        }))
    }
}

/// Keys for who asks, when there is a passphrase.
pub(super) fn own_crypto(options: &Options) -> Result<Option<Crypto>, SrtError> {
    let Some(passphrase) = &options.passphrase else { return Ok(None) };
    let mode = options.cipher.unwrap_or(CipherMode::Ctr);
    Ok(Some(Crypto::initiate(passphrase, options.key_length.unwrap_or_default(), mode)?))
}

/// What a conclusion says of the length of keys.
pub(super) fn key_field(options: &Options, crypto: Option<&Crypto>) -> u16 {
    crypto.map_or(0, |_| (options.key_length.unwrap_or_default().bytes() / 8) as u16)
}

/// What who asks has to say.
pub(super) fn request(options: &Options, crypto: Option<&Crypto>) -> Extensions {
    let own = Capabilities {
        version: SRT_VERSION,
        flags: own_flags(options),
        receive_latency: millis(options.receive_latency),
        send_latency: millis(options.peer_latency),
    };
    Extensions {
        capabilities: Some(own),
        key: crypto.map(Crypto::message),
        stream_id: (!options.stream_id.is_empty()).then(|| options.stream_id.clone()),
        ..Extensions::default()
    }
}

/// What the answer to that says, if it can be lived with.
pub(super) fn answered(
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
