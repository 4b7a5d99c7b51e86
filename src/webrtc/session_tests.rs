//! Sessions with a foreign client in one process, on a made-up clock, with losses.

// The client is there only on machines like those that tests are written on.
#![cfg(all(target_arch = "x86_64", target_env = "gnu"))]

use std::collections::VecDeque;
use std::net::SocketAddr;

use str0m::crypto::Fingerprint as TheirFingerprint;
use str0m::format::Codec;
use str0m::media::{MediaKind, Mid, Pt};
use str0m::net::{Protocol, Receive};
use str0m::rtp::{ExtensionValues, RtpWrite, Ssrc};
use str0m::{Candidate, Event, IceConnectionState, IceCreds, Input, Output, Rtc};

use super::super::dtls::{Certificate, Preference};
use super::*;

const MINE: &str = "192.0.2.1:8000";
const THEIRS: &str = "198.51.100.7:5000";

struct Pair {
    now: Instant,
    session: Session,
    rtc: Rtc,
    /// Where the client is.
    at: SocketAddr,
    to_us: VecDeque<(SocketAddr, Vec<u8>)>,
    to_them: VecDeque<Vec<u8>>,
    connected: bool,
    end: Option<End>,
    /// Decrypted.
    got: Vec<Vec<u8>>,
    got_control: usize,
    heard: Vec<(u64, Vec<u8>)>,
    ice: Option<IceConnectionState>,
    datagrams: usize,
    /// One of so many is lost.
    loss: usize,
    /// That we begin is forgotten.
    forgetful: bool,
}

impl Pair {
    fn new(role: Role) -> Self {
        Self::preferring(role, Preference::of_processor())
    }

    fn preferring(role: Role, preference: Preference) -> Self {
        let now = Instant::now();
        let mut rtc = Rtc::builder().set_rtp_mode(true).build(now);
        let at: SocketAddr = THEIRS.parse().unwrap();
        rtc.add_local_candidate(Candidate::host(at, "udp").unwrap());
        rtc.add_remote_candidate(Candidate::host(MINE.parse().unwrap(), "udp").unwrap());
        let config = DtlsConfig::new(Certificate::generate().unwrap()).unwrap().preferring(preference);
        let local = Credentials::generate().unwrap();
        let mut api = rtc.direct_api();
        api.set_ice_controlling(true);
        let creds = api.local_ice_credentials();
        api.set_remote_ice_credentials(IceCreds { ufrag: local.ufrag.clone(), pass: local.pwd.clone() });
        let ours: TheirFingerprint = config.certificate().fingerprint().to_string().parse().unwrap();
        api.set_remote_fingerprint(ours);
        let fingerprint = Fingerprint::parse(&api.local_dtls_fingerprint().to_string()).unwrap();
        let mid: Mid = "0".into();
        api.declare_media(mid, MediaKind::Video);
        api.declare_stream_tx(Ssrc::from(77), None, mid, None);
        api.expect_stream_rx(Ssrc::from(99), None, mid, None);
        api.start_dtls(role == Role::Server).unwrap();
        let remote = Remote { ufrag: creds.ufrag, pwd: creds.pass, fingerprint, role };
        let timeouts = Timeouts { connect: Duration::from_secs(30), consent: Duration::from_secs(30) };
        Self {
            now,
            session: Session::new(&config, local, remote, timeouts, now),
            rtc,
            at,
            to_us: VecDeque::new(),
            to_them: VecDeque::new(),
            connected: false,
            end: None,
            got: Vec::new(),
            got_control: 0,
            heard: Vec::new(),
            ice: None,
            datagrams: 0,
            loss: usize::MAX,
            forgetful: false,
        }
    }

    fn lost(&mut self) -> bool {
        self.datagrams += 1;
        self.datagrams.is_multiple_of(self.loss)
    }

    fn send(&mut self, out: Vec<Vec<u8>>) {
        for datagram in out {
            if !self.lost() {
                self.to_them.push_back(datagram);
            }
        }
    }

    fn changed(&mut self, change: Option<Change>) {
        match change {
            Some(Change::Connected) => self.connected = true,
            Some(Change::Ended(end)) => self.end = Some(end),
            None => {}
        }
    }

    fn take(&mut self, from: SocketAddr, mut datagram: Vec<u8>) {
        let path = Path { via: Via::Udp(0), remote: from };
        let mut out = Vec::new();
        match datagram[0] {
            0..=3 => {
                let first = self.session.path().is_none();
                let checked = self.session.stun(&Message::parse(&datagram).unwrap(), path, self.now);
                out.extend(checked.answer);
                if first && checked.moved && self.session.begins() && !self.forgetful {
                    let change = self.session.dtls(None, self.now, &mut out);
                    self.changed(change);
                }
            }
            20..=63 => {
                let change = self.session.dtls(Some(&datagram), self.now, &mut out);
                self.changed(change);
            }
            _ => {
                let control = (192..=223).contains(&datagram[1]);
                if let Ok(length) = self.session.media(&mut datagram, control, path, self.now) {
                    datagram.truncate(length);
                    if control {
                        self.got_control += 1;
                    } else {
                        self.got.push(datagram);
                    }
                }
            }
        }
        self.send(out);
    }

    fn poll_them(&mut self) {
        loop {
            match self.rtc.poll_output().unwrap() {
                Output::Timeout(_) => return,
                Output::Transmit(sent) => {
                    let (from, bytes) = (self.at, sent.contents.to_vec());
                    if !self.lost() {
                        self.to_us.push_back((from, bytes));
                    }
                }
                Output::Event(Event::RtpPacket(packet)) => {
                    self.heard.push((*packet.seq_no, packet.payload.to_vec()));
                }
                Output::Event(Event::IceConnectionStateChange(state)) => self.ice = Some(state),
                Output::Event(_) => {}
            }
        }
    }

    /// Lets a tenth of a second pass.
    fn step(&mut self) {
        self.now += Duration::from_millis(100);
        self.rtc.handle_input(Input::Timeout(self.now)).unwrap();
        self.poll_them();
        while !self.to_us.is_empty() || !self.to_them.is_empty() {
            if let Some((from, datagram)) = self.to_us.pop_front() {
                self.take(from, datagram);
            }
            if let Some(datagram) = self.to_them.pop_front() {
                let destination: SocketAddr = THEIRS.parse().unwrap();
                let source = MINE.parse().unwrap();
                let input = Receive::new(Protocol::Udp, source, destination, &datagram).unwrap();
                self.rtc.handle_input(Input::Receive(self.now, input)).unwrap();
                self.poll_them();
            }
        }
        let mut out = Vec::new();
        let change = self.session.tick(self.now, &mut out);
        self.changed(change);
        self.send(out);
    }

    fn until(&mut self, seconds: u64, mut what: impl FnMut(&Self) -> bool) {
        let end = self.now + Duration::from_secs(seconds);
        while !what(self) {
            assert!(self.now < end, "{:?} {:?}", self.session, self.end);
            self.step();
        }
    }

    fn they_send(&mut self, seq: u64) {
        let pt: Pt = self.rtc.codec_config().iter().find(|p| p.spec().codec == Codec::Vp8).unwrap().pt();
        let mut api = self.rtc.direct_api();
        let stream = api.stream_tx(&Ssrc::from(77)).unwrap();
        let payload = vec![seq as u8; 1000];
        stream.write_rtp(
            RtpWrite::new(pt, seq.into(), seq as u32 * 3000, self.now, payload)
                .ext_vals(ExtensionValues::default()),
        );
        self.poll_them();
    }

    fn we_send(&mut self, seq: u16) {
        let pt = *self.rtc.codec_config().iter().find(|p| p.spec().codec == Codec::Vp8).unwrap().pt();
        let mut packet = vec![0x80, pt];
        packet.extend(seq.to_be_bytes());
        packet.extend((u32::from(seq) * 3000).to_be_bytes());
        packet.extend(99u32.to_be_bytes());
        packet.extend([seq as u8; 1000]);
        assert!(self.session.outgoing().seal(&mut packet, 0, false));
        self.send(vec![packet]);
    }
}

fn media_flows_both_ways(pair: &mut Pair) {
    for seq in 1..=20 {
        pair.they_send(seq);
        pair.we_send(seq as u16);
        pair.step();
    }
    pair.until(5, |pair| pair.got.len() >= 20 && pair.heard.len() >= 20);
    assert!(pair.got.iter().all(|packet| packet.len() > 1000));
    assert!(pair.heard.iter().all(|(seq, payload)| payload[..] == [*seq as u8; 1000]));
    pair.until(10, |pair| pair.got_control > 0);
    let traffic = pair.session.traffic();
    assert_eq!((traffic.sent, traffic.refused), (20, 0));
    assert!(traffic.received > 20 && traffic.sent_bytes > 20_000);
}

#[test]
fn a_foreign_client_connects_and_media_flows() {
    for role in [Role::Server, Role::Client] {
        let mut pair = Pair::new(role);
        pair.until(5, |pair| pair.connected && pair.rtc.is_connected());
        media_flows_both_ways(&mut pair);
    }
}

#[test]
fn losses_delay_but_do_not_break() {
    for role in [Role::Server, Role::Client] {
        for loss in 3..9 {
            let mut pair = Pair::new(role);
            pair.loss = loss;
            pair.until(25, |pair| pair.connected && pair.rtc.is_connected());
        }
    }
}

#[test]
fn a_start_that_was_forgotten_is_made_up_for() {
    let mut pair = Pair::new(Role::Client);
    pair.forgetful = true;
    pair.until(5, |pair| pair.connected && pair.rtc.is_connected());
}

#[test]
fn a_peer_that_goes_is_missed_and_one_that_says_so_is_known() {
    let mut pair = Pair::new(Role::Server);
    pair.until(5, |pair| pair.connected && pair.rtc.is_connected());
    pair.loss = 1;
    let gone = pair.now;
    pair.until(60, |pair| pair.end.is_some());
    assert_eq!(pair.end, Some(End::Consent(Duration::from_secs(30))));
    assert!(pair.now - gone >= Duration::from_secs(25));

    let mut pair = Pair::new(Role::Server);
    pair.until(5, |pair| pair.connected && pair.rtc.is_connected());
    for _ in 0..400 {
        pair.step();
    }
    assert_eq!(pair.end, None, "who sends nothing is still there");
    pair.rtc.close().unwrap();
    pair.until(5, |pair| pair.end == Some(End::PeerClosed));
}

#[test]
fn our_end_is_told() {
    let mut pair = Pair::new(Role::Server);
    pair.until(5, |pair| pair.connected && pair.rtc.is_connected());
    let mut out = Vec::new();
    pair.session.close(&mut out);
    pair.send(out);
    pair.until(5, |pair| !pair.rtc.is_alive());
}

#[test]
fn a_peer_that_never_comes_is_given_up() {
    let mut pair = Pair::new(Role::Server);
    pair.loss = 1;
    pair.until(40, |pair| pair.end.is_some());
    assert_eq!(pair.end, Some(End::NotConnected(Duration::from_secs(30))));
}

#[test]
fn a_peer_that_moves_is_followed() {
    let mut pair = Pair::new(Role::Server);
    pair.until(5, |pair| pair.connected && pair.rtc.is_connected());
    // Another address of its router's.
    pair.at = "203.0.113.9:6001".parse().unwrap();
    let at = pair.at;
    pair.until(30, |pair| pair.session.path().is_some_and(|path| path.remote == at));
    media_flows_both_ways(&mut pair);
}

#[test]
fn packets_of_strangers_change_nothing() {
    let mut pair = Pair::new(Role::Server);
    pair.until(5, |pair| pair.connected && pair.rtc.is_connected());
    let path = pair.session.path().unwrap();
    let mut forged = vec![0x80, 96, 0, 1, 0, 0, 0, 1, 0, 0, 0, 77];
    forged.resize(500, 7);
    assert!(pair.session.media(&mut forged.clone(), false, path, pair.now).is_err());
    forged[1] = 200;
    assert!(pair.session.media(&mut forged, true, path, pair.now).is_err());
    assert_eq!(pair.session.traffic().refused, 2);
    media_flows(&mut pair);
}

fn media_flows(pair: &mut Pair) {
    pair.they_send(1);
    pair.until(5, |pair| !pair.got.is_empty());
}

#[test]
fn the_cheapest_profile_is_chosen() {
    for (preference, tag) in [(Preference::Gcm, 16), (Preference::CounterMode, 10)] {
        let mut pair = Pair::preferring(Role::Server, preference);
        pair.until(5, |pair| pair.connected && pair.rtc.is_connected());
        media_flows_both_ways(&mut pair);
        let mut packet = vec![0x80; 12];
        assert!(pair.session.outgoing().seal(&mut packet, 0, false));
        assert_eq!(packet.len(), 12 + tag);
    }
}
