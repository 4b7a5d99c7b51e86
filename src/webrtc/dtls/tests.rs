//! Both roles of ours with each other, on a made-up clock; the foreign client is in the tests of sessions.

use std::collections::VecDeque;

use super::*;

struct Side {
    dtls: Dtls,
    inbox: VecDeque<Vec<u8>>,
    keys: Option<Keys>,
    ended: Option<Result<(), DtlsError>>,
}

impl Side {
    fn new(role: Role, own: &Certificate, other: &Fingerprint, now: Instant) -> Self {
        let config = DtlsConfig::new(own.clone()).unwrap();
        Self {
            dtls: Dtls::new(&config, role, other.clone(), now),
            inbox: VecDeque::new(),
            keys: None,
            ended: None,
        }
    }

    fn step(&mut self, now: Instant, out: &mut Vec<Vec<u8>>) {
        loop {
            let datagram = self.inbox.pop_front();
            match self.dtls.input(datagram.as_deref(), now, out) {
                Ok(Some(DtlsEvent::Keys(keys))) => self.keys = Some(keys),
                Ok(Some(DtlsEvent::Closed)) => self.ended = Some(Ok(())),
                Ok(None) => {}
                Err(e) => self.ended = Some(Err(e)),
            }
            if self.inbox.is_empty() || matches!(self.ended, Some(Err(_))) {
                return;
            }
        }
    }
}

fn pair() -> (Certificate, Certificate) {
    (Certificate::generate().unwrap(), Certificate::generate().unwrap())
}

/// Lets them talk; `lost` tells by its number which datagram is. Gives back what time it took.
fn talk(
    client: &mut Side,
    server: &mut Side,
    start: Instant,
    mut lost: impl FnMut(usize) -> bool,
) -> Duration {
    let mut now = start;
    let mut count = 0;
    for _ in 0..400 {
        for forth in [true, false] {
            let (from, to) = if forth { (&mut *client, &mut *server) } else { (&mut *server, &mut *client) };
            let mut out = Vec::new();
            from.step(now, &mut out);
            for datagram in out {
                assert!(datagram.len() <= MTU && (20..64).contains(&datagram[0]));
                count += 1;
                if !lost(count) {
                    to.inbox.push_back(datagram);
                }
            }
        }
        let done = |side: &Side| side.keys.is_some() || side.ended.is_some();
        if done(client) && done(server) && client.inbox.is_empty() && server.inbox.is_empty() {
            break;
        }
        if client.inbox.is_empty() && server.inbox.is_empty() {
            now += Duration::from_millis(50);
        }
    }
    now - start
}

#[test]
fn both_roles_agree_on_keys_and_close() {
    let (a, b) = pair();
    let now = Instant::now();
    let mut client = Side::new(Role::Client, &a, b.fingerprint(), now);
    let mut server = Side::new(Role::Server, &b, a.fingerprint(), now);
    talk(&mut client, &mut server, now, |_| false);
    let (ours, theirs) = (client.keys.take().unwrap(), server.keys.take().unwrap());
    assert_eq!(ours.profile, theirs.profile);
    // What one seals the other opens.
    let mut sender = super::super::srtp::Sender::new(ours.profile, &ours.client).unwrap();
    let mut receiver = super::super::srtp::Receiver::new(theirs.profile, &theirs.client).unwrap();
    let mut packet = vec![0x80, 96, 0, 1, 0, 0, 0, 1, 0, 0, 0, 7, 1, 2, 3];
    let plain = packet.clone();
    sender.rtp(&mut packet, 0).unwrap();
    assert_eq!(receiver.rtp(&mut packet).unwrap(), plain.len());
    assert_eq!(packet[..plain.len()], plain);
    let mut out = Vec::new();
    client.dtls.close(&mut out);
    assert!(!out.is_empty());
    server.inbox.extend(out);
    server.step(now, &mut Vec::new());
    assert_eq!(server.ended, Some(Ok(())));
}

#[test]
fn losses_are_repaired() {
    for pattern in 3..9 {
        let (a, b) = pair();
        let now = Instant::now();
        let mut client = Side::new(Role::Client, &a, b.fingerprint(), now);
        let mut server = Side::new(Role::Server, &b, a.fingerprint(), now);
        let took = talk(&mut client, &mut server, now, |count| count % pattern == 0 && count < 40);
        assert!(client.keys.is_some() && server.keys.is_some(), "one of {pattern} lost, {took:?}");
    }
}

#[test]
fn another_certificate_is_refused() {
    let (a, b) = pair();
    let now = Instant::now();
    let stranger = Certificate::generate().unwrap();
    let mut client = Side::new(Role::Client, &stranger, b.fingerprint(), now);
    let mut server = Side::new(Role::Server, &b, a.fingerprint(), now);
    talk(&mut client, &mut server, now, |_| false);
    assert_eq!(server.ended, Some(Err(DtlsError::Fingerprint)));
    assert!(server.keys.is_none());
    let mut client = Side::new(Role::Client, &a, stranger.fingerprint(), now);
    let mut server = Side::new(Role::Server, &b, a.fingerprint(), now);
    talk(&mut client, &mut server, now, |_| false);
    assert_eq!(client.ended, Some(Err(DtlsError::Fingerprint)));
    assert!(client.keys.is_none());
}

// Whoever knows the addresses of both can send these.
#[test]
fn a_forged_word_ends_no_handshake() {
    let alert = [21, 254, 253, 0, 0, 0, 0, 0, 0, 0, 99, 0, 2, 2, HANDSHAKE_FAILURE];
    let mut sealed = vec![22, 254, 253, 0, 1, 0, 0, 0, 0, 0, 99, 0, 40];
    sealed.resize(13 + 40, 7);
    let (a, b) = pair();
    let now = Instant::now();
    let mut client = Side::new(Role::Client, &a, b.fingerprint(), now);
    let mut server = Side::new(Role::Server, &b, a.fingerprint(), now);
    let forge = |side: &mut Side| side.inbox.extend([alert.to_vec(), sealed.clone()]);
    for _ in 0..20 {
        for forth in [true, false] {
            let (from, to) = if forth { (&mut client, &mut server) } else { (&mut server, &mut client) };
            let mut out = Vec::new();
            from.step(now, &mut out);
            for datagram in out {
                // Each record for itself, so that there is room in between.
                let mut rest = &datagram[..];
                while rest.len() > 13 {
                    let length = 13 + usize::from(u16::from_be_bytes([rest[11], rest[12]]));
                    forge(to);
                    to.inbox.push_back(rest[..length].to_vec());
                    rest = &rest[length..];
                }
                forge(to);
            }
        }
    }
    for side in [&client, &server] {
        assert!(side.keys.is_some() && side.ended.is_none(), "{:?}", side.ended);
    }
    // Which of them doubts what is the reason if nothing comes of it.
    assert_eq!(client.dtls.doubt(), Some(&DtlsError::Key));
    assert!(matches!(server.dtls.doubt(), Some(DtlsError::Handshake(_))));
}

#[test]
fn a_peer_without_an_ecdsa_key_is_told_from_others() {
    let no_certificate = Error::CertificateError(CertificateError::NoClientCertificateReceived);
    assert_eq!(failed(&no_certificate, Role::Server), DtlsError::Key);
    let other = Error::CertificateError(CertificateError::ParseFailed);
    assert!(matches!(failed(&other, Role::Server), DtlsError::Handshake(_)));
    assert!(DtlsError::Key.to_string().contains("RSA"));
}

proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig::with_cases(64))]
    #[test]
    fn any_bytes_are_survived(datagrams in proptest::collection::vec(proptest::collection::vec(proptest::prelude::any::<u8>(), 0..200), 1..8)) {
        let (a, b) = pair();
        let now = Instant::now();
        let mut server = Side::new(Role::Server, &b, a.fingerprint(), now);
        let mut client = Side::new(Role::Client, &a, b.fingerprint(), now);
        let mut hello = Vec::new();
        client.step(now, &mut hello);
        for (index, mut datagram) in datagrams.into_iter().enumerate() {
            // Half of them begin as a hello does.
            if index % 2 == 0 && let Some(hello) = hello.first() {
                let keep = datagram.len().min(hello.len());
                let mut bytes = hello[..keep].to_vec();
                bytes.extend(&hello[keep..]);
                for (at, byte) in datagram.iter().enumerate() {
                    let place = (usize::from(*byte) + at * 7) % bytes.len();
                    bytes[place] ^= byte;
                }
                datagram = bytes;
            }
            server.inbox.push_back(datagram);
            server.step(now, &mut Vec::new());
        }
    }
}
