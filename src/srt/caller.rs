//! The side that calls (draft-sharabayko-srt-01, section 4.3.1).

use std::net::SocketAddr;
use std::time::Instant;

use super::SrtError;
use super::attempt::Attempt;
use super::handshake::{DATAGRAM, Handshake, Kind, MAGIC, Reject, VERSION};
use super::options::Options;
use super::packet::{Control, Packet};
use super::session::{Datagram, Session};

/// A call that is on its way: sans-IO like [`Session`], which it becomes.
#[derive(Debug)]
pub struct Caller {
    attempt: Attempt,
    /// The listener's cookie: there once it answered.
    cookie: Option<u32>,
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
        Ok(Self { attempt: Attempt::new(to, options, id, initial, now)?, cookie: None })
    }

    pub(super) fn attempt(&self) -> &Attempt {
        &self.attempt
    }

    /// Sends what is due.
    ///
    /// # Errors
    /// [`SrtError::NoAnswer`] when nobody answered in time.
    pub fn poll(&mut self, now: Instant, out: &mut Vec<Datagram>) -> Result<(), SrtError> {
        if self.attempt.is_due(now)? {
            out.push(self.attempt.datagram(0, self.body(), now));
        }
        Ok(())
    }

    fn body(&self) -> Vec<u8> {
        match self.cookie {
            None => {
                let question = self.attempt.handshake(Kind::Induction);
                Handshake { version: 4, encryption: 0, extension: DATAGRAM, ..question }.body(None, true)
            }
            Some(cookie) => {
                let conclusion = Handshake { cookie, ..self.attempt.handshake(Kind::Conclusion) };
                conclusion.body(Some(&self.attempt.request()), true)
            }
        }
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
                self.attempt.hurry(now);
                Ok(None)
            }
            Kind::Conclusion if self.cookie.is_some() => {
                self.attempt.session(&handshake, &extensions, (now, timestamp), None).map(Some)
            }
            Kind::Rejection(reason) => Err(SrtError::Refused(reason)),
            _ => Ok(None),
        }
    }
}
