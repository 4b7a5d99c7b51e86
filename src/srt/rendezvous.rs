//! Two sides that call each other, through firewalls that let answers in (draft-sharabayko-srt-01, section 4.3.2).
//!
//! Both wave. The cookies say who asks (as a caller does) and who answers (as a listener does); who asked closes with an
//! agreement. What gets lost is repeated by who waits.

use std::net::SocketAddr;
use std::time::Instant;

use bytes::Bytes;

use super::SrtError;
use super::attempt::Attempt;
use super::handshake::{Handshake, Kind, MAGIC, Reject, VERSION};
use super::listener::Conclusion;
use super::options::Options;
use super::packet::{Control, Packet};
use super::session::{Datagram, Session};

/// A rendezvous that is on its way: sans-IO like [`Session`], which it becomes.
#[derive(Debug)]
pub struct Meeting {
    attempt: Attempt,
    cookie: u32,
    /// The peer's socket, and whether we are who asks: known once it waved.
    peer: Option<(u32, bool)>,
}

/// Who asks: whose cookie is greater, round the circle.
fn asks(own: u32, peer: u32) -> Option<bool> {
    match own.wrapping_sub(peer).cast_signed() {
        0 => None,
        i32::MIN => Some(own.cast_signed() > peer.cast_signed()),
        difference => Some(difference > 0),
    }
}

impl Meeting {
    /// A meeting with who calls us as well. `id`: our socket's number; `initial`: number of our first packet;
    /// `cookie`: any number.
    ///
    /// # Errors
    /// As [`Caller::new`](super::caller::Caller::new).
    pub fn new(
        to: SocketAddr,
        options: &Options,
        id: u32,
        initial: u32,
        cookie: u32,
        now: Instant,
    ) -> Result<Self, SrtError> {
        let attempt = Attempt::new(to, options, id, initial, now)?;
        Ok(Self { attempt, cookie: cookie.max(1), peer: None })
    }

    pub(super) fn attempt(&self) -> &Attempt {
        &self.attempt
    }

    /// Sends what is due.
    ///
    /// # Errors
    /// [`SrtError::NoAnswer`] when nobody came in time.
    pub fn poll(&mut self, now: Instant, out: &mut Vec<Datagram>) -> Result<(), SrtError> {
        if self.attempt.is_due(now)? {
            out.push(self.attempt.datagram(self.peer.map_or(0, |(id, _)| id), self.body(), now));
        }
        Ok(())
    }

    fn handshake(&self, kind: Kind) -> Handshake {
        let extension = if kind == Kind::Wave { MAGIC } else { 0 };
        Handshake { extension, cookie: self.cookie, ..self.attempt.handshake(kind) }
    }

    fn body(&self) -> Vec<u8> {
        match self.peer {
            None => self.handshake(Kind::Wave).body(None, true),
            Some((_, true)) => self.handshake(Kind::Conclusion).body(Some(&self.attempt.request()), true),
            Some((_, false)) => self.handshake(Kind::Conclusion).body(None, false),
        }
    }

    /// Takes a datagram from who is met; the session, once it stands.
    ///
    /// # Errors
    /// [`SrtError::Refused`] and why; `out` has what the peer is to be told of that.
    pub fn input(
        &mut self,
        datagram: &[u8],
        now: Instant,
        out: &mut Vec<Datagram>,
    ) -> Result<Option<Session>, SrtError> {
        let Ok(Packet::Control(Control::Handshake(body), timestamp, _)) = Packet::parse(datagram) else {
            return Ok(None);
        };
        let Ok((handshake, extensions)) = Handshake::parse(body) else { return Ok(None) };
        match handshake.kind {
            Kind::Wave | Kind::Conclusion => {}
            Kind::Rejection(reason) => return Err(SrtError::Refused(reason)),
            _ => return Ok(None),
        }
        let peer = self.attempt.peer();
        let conclusion = Conclusion { peer, handshake, extensions, arrival: now, timestamp };
        let refuse = |reason, out: &mut Vec<Datagram>| {
            out.push(conclusion.reject(reason));
            SrtError::Refused(reason)
        };
        if handshake.version != VERSION {
            return Err(refuse(Reject::VERSION, out));
        }
        let asking = asks(self.cookie, handshake.cookie).ok_or_else(|| refuse(Reject::COOKIE, out))?;
        if self.peer.is_none() {
            self.attempt.hurry(now);
        }
        self.peer = Some((handshake.id, asking));
        if handshake.kind == Kind::Wave || conclusion.extensions.capabilities.is_none() {
            return Ok(None);
        }
        if asking {
            return self.agree(&conclusion).map(Some).inspect_err(|e| {
                if let SrtError::Refused(reason) = e {
                    out.push(conclusion.reject(*reason));
                }
            });
        }
        if let Some(reason) = conclusion.unacceptable() {
            return Err(refuse(reason, out));
        }
        let session = conclusion.agree(
            self.attempt.local_id(),
            self.attempt.initial(),
            self.cookie,
            self.attempt.options(),
            now,
        );
        session.map(Some).map_err(|reason| refuse(reason, out))
    }

    /// The answer to what we asked for.
    fn agree(&mut self, answer: &Conclusion) -> Result<Session, SrtError> {
        let agreement = Bytes::from(self.handshake(Kind::Agreement).body(None, false));
        let arrival = (answer.arrival, answer.timestamp);
        self.attempt.session(&answer.handshake, &answer.extensions, arrival, Some(agreement))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn wire(datagram: &Datagram) -> Vec<u8> {
        [&datagram.head[..], &datagram.body].concat()
    }

    /// Two that meet, where some of the packets are lost, as the bits of `lost` say; the sessions of both.
    fn meet(passphrases: [Option<&str>; 2], lost: u32) -> Result<[Session; 2], SrtError> {
        let begin = Instant::now();
        let address = |port| SocketAddr::from(([127, 0, 0, 1], port));
        let options = passphrases
            .map(|passphrase| Options { passphrase: passphrase.map(str::to_owned), ..Options::default() });
        let mut meetings = [
            Meeting::new(address(2), &options[0], 10, 100, 7, begin)?,
            Meeting::new(address(1), &options[1], 20, 200, 8, begin)?,
        ];
        let mut sessions = [None, None];
        let mut count = 0;
        for round in 0..400 {
            let now = begin + round * Duration::from_millis(5);
            for side in [0, 1] {
                let mut out = Vec::new();
                match &mut sessions[side] {
                    None => meetings[side].poll(now, &mut out)?,
                    Some(session) => Session::poll(session, now, &mut out),
                }
                let mut index = 0;
                // What comes is answered at once, and that too.
                while let Some(datagram) = out.get(index).cloned() {
                    index += 1;
                    count += 1;
                    let to = usize::from(datagram.to.port() == 2);
                    if count <= 32 && lost >> (count - 1) & 1 == 1 {
                        continue;
                    }
                    let mut answers = Vec::new();
                    match &mut sessions[to] {
                        None => sessions[to] = meetings[to].input(&wire(&datagram), now, &mut answers)?,
                        Some(session) => session.input(&wire(&datagram), now, &mut answers),
                    }
                    out.extend(answers);
                    assert!(out.len() < 50, "they talk without end");
                }
            }
            if let [Some(one), Some(other)] = &mut sessions {
                let (mut out, now) = (Vec::new(), now + Duration::from_secs(1));
                one.send(Bytes::from_static(b"hello"), now).unwrap();
                one.poll(now, &mut out);
                for datagram in &out {
                    other.input(&wire(datagram), now, &mut Vec::new());
                }
                let later = now + Duration::from_secs(1);
                assert_eq!(
                    other.receive(later).map(|payload| payload.data),
                    Some(Bytes::from_static(b"hello"))
                );
                let [Some(one), Some(other)] = sessions else { unreachable!() };
                return Ok([one, other]);
            }
        }
        Err(SrtError::NoAnswer(address(1)))
    }

    #[test]
    fn two_meet_whatever_packets_are_lost() {
        let passphrase = Some("correct horse");
        for lost in 0..256 {
            for passphrases in [[None; 2], [passphrase; 2]] {
                let met = meet(passphrases, lost);
                assert!(met.is_ok(), "{lost:b}: {met:?}");
            }
            if lost == 16 {
                let refused = meet([passphrase, Some("another horse")], 0);
                assert!(matches!(refused, Err(SrtError::Refused(Reject::BAD_SECRET))), "{refused:?}");
            }
        }
    }

    #[test]
    fn cookies_say_who_asks() {
        for (own, peer, wanted) in
            [(1, 1, None), (2, 1, Some(true)), (1, 2, Some(false)), (1, u32::MAX, Some(true))]
        {
            assert_eq!(asks(own, peer), wanted);
        }
        assert_ne!(asks(0, 1 << 31), asks(1 << 31, 0));
    }
}
