//! Targets of WebRTC's transport.

#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "to panic is how a target says that we are wrong"
)]

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use rillbox::webrtc::answer::{Ours, answer};
use rillbox::webrtc::dtls::{Certificate, Dtls, DtlsConfig, Role};
use rillbox::webrtc::ice::{Agent, Credentials, Path, Via};
use rillbox::webrtc::negotiated::Flow;
use rillbox::webrtc::offer::{Offer, Terms};
use rillbox::webrtc::sdp::Description;
use rillbox::webrtc::srtp::{Keys, Profile, Receiver, Sender};
use rillbox::webrtc::stun::{AgentRole, Class, Message, Writer};

fn credentials(name: &str) -> Credentials {
    Credentials { ufrag: name.into(), pwd: "a password of many letters".into() }
}

/// An offer, and our answers to it, which can be read again; a fragment.
pub fn offer(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let _ = Description::parse_fragment(&text);
    let Ok(offer) = Offer::parse(&text) else { return };
    for flow in [Flow::Play, Flow::Publish] {
        let terms = Terms { flow, tracks: &[], wishes: &[], nack: true, transport_cc: true, cname: "c" };
        let mut number = 0_u32;
        let random = || {
            number += 1;
            number
        };
        let Ok(negotiated) = offer.agree(&terms, random) else { continue };
        let (ufrag, pwd, fingerprint) = ("u", "p", "f");
        let ours = Ours { ufrag, pwd, fingerprint, active: false, candidates: &[], number: 1 };
        assert!(Description::parse(&answer(&offer, &negotiated, &ours)).is_ok());
    }
}

/// A STUN message, as it is; then its attributes, signed as the peer would.
pub fn stun(data: &[u8]) {
    let now = Instant::now();
    let mut agent = Agent::new(credentials("us"), credentials("them"), now);
    let mut port = 1;
    for bytes in [data.to_vec(), signed(data)] {
        let Ok(message) = Message::parse(&bytes) else { continue };
        let remote = SocketAddr::from(([192, 0, 2, 1], port));
        port += 1;
        let checked = agent.input(&message, Path { via: Via::Udp(0), remote }, now);
        if let Some(answer) = checked.answer {
            let answer = Message::parse(&answer).expect("what we write, we can read");
            assert!(answer.verify("a password of many letters"));
        }
        assert!(!checked.proved || agent.paths().contains(&Path { via: Via::Udp(0), remote }));
    }
}

/// A check whose name, priority and role are of these bytes.
fn signed(data: &[u8]) -> Vec<u8> {
    let (flags, rest) = data.split_first().map_or((0, data), |(first, rest)| (*first, rest));
    let number = rest.iter().fold(0, |all, byte| all << 8 | u64::from(*byte));
    let role = if flags & 1 == 0 { AgentRole::Controlling(number) } else { AgentRole::Controlled(number) };
    let class = if flags & 2 == 0 { Class::Request } else { Class::Success };
    let name = String::from_utf8_lossy(rest.get(..rest.len().min(200)).unwrap_or_default()).into_owned();
    let ours = if flags & 4 == 0 { "us" } else { name.as_str() };
    Writer::new(class, [flags; 12])
        .username(ours, &name)
        .check(number as u32, role, flags & 8 != 0)
        .finish("a password of many letters")
}

/// Packets of SRTP and SRTCP, and what comes of sealing any bytes.
pub fn srtp(data: &[u8]) {
    let Some((&[kind, start], packet)) = data.split_first_chunk() else { return };
    let profile = match kind & 3 {
        0 => Profile::Aes128CmSha1_80,
        1 => Profile::Aes128CmSha1_32,
        2 => Profile::Aes128Gcm,
        _ => Profile::Aes256Gcm,
    };
    let keys = Keys::from_exported(profile, &vec![7; profile.exported()]).expect("as many as it wants");
    let mut sender = Sender::new(profile, &keys.client).expect("keys that fit");
    let mut receiver = Receiver::new(profile, &keys.client).expect("keys that fit");
    let _ = receiver.rtp(&mut packet.to_vec());
    let _ = receiver.rtcp(&mut packet.to_vec());
    let mut buffer = packet.to_vec();
    let start = usize::from(start).min(buffer.len());
    if sender.rtp(&mut buffer, start).is_ok() {
        let length = receiver.rtp(&mut buffer[start..]).expect("what we seal, we can open");
        assert_eq!(&buffer[start..start + length], &packet[start..]);
        assert!(receiver.rtp(&mut buffer[start..]).is_err());
    }
    let mut buffer = packet.to_vec();
    if sender.rtcp(&mut buffer, start).is_ok() {
        let length = receiver.rtcp(&mut buffer[start..]).expect("what we seal, we can open");
        assert_eq!(&buffer[start..start + length], &packet[start..]);
    }
}

/// Datagrams for a DTLS server that waits for its client.
pub fn dtls(data: &[u8]) {
    let certificate = Certificate::generate().expect("randomness");
    let config = DtlsConfig::new(certificate).expect("ciphers that work");
    let fingerprint = config.certificate().fingerprint().clone();
    let mut now = Instant::now();
    let mut server = Dtls::new(&config, Role::Server, fingerprint, now);
    let mut out = Vec::new();
    let mut rest = data;
    // Two bytes for the length of each.
    while let Some((len, more)) = rest.split_first_chunk() {
        let (datagram, more) = more.split_at(more.len().min(usize::from(u16::from_be_bytes(*len))));
        rest = more;
        now += Duration::from_millis(100);
        if server.input(Some(datagram), now, &mut out).is_err() {
            return;
        }
        assert!(out.len() < 100, "a datagram makes few others");
        out.clear();
    }
}
