//! Known answers of every cipher, computed by another implementation (those of 128 bits also stand in libsrtp's own tests, the
//! key derivation in RFC 3711, appendix B.3, GCM itself in RFC 7714, section 16); rollovers, replays, hostile bytes.

use proptest::prelude::*;

use super::*;

struct Answers {
    profile: Profile,
    /// Of [`RTP`], [`RTCP`] with index 1, and [`ROLLED`] after three rollovers.
    rtp: &'static str,
    rtcp: &'static str,
    rolled: &'static str,
}

const RTP: &str = "800f1234decafbadcafebabeabababababababababababababababab";
const RTCP: &str = "81c8000bcafebabeabababababababababababababababab";
/// With two sources and an extension.
const ROLLED: &str = "92e0000200000001000000070000abcd0000ef01bede000110ff0000";
const ROLLED_PAYLOAD: &[u8] = b"payload with sources and an extension";

const ANSWERS: [Answers; 4] = [
    Answers {
        profile: Profile::Aes128CmSha1_80,
        rtp: "800f1234decafbadcafebabe4e55dc4ce79978d88ca4d215949d2402b78d6acc99ea179b8dbb",
        rtcp: "81c8000bcafebabe7128035be487b9bdbef89041f977a5a880000001993e08cd54d6c1230798",
        rolled: concat!(
            "92e0000200000001000000070000abcd0000ef01bede000110ff00003db8ee8689a3f8e1bded6df00c0b",
            "3d4b2fb8f37a3cf9045c662fa9c646df486568f5c79a1a0b72424cd0b89e65e5ba"
        ),
    },
    Answers {
        profile: Profile::Aes128CmSha1_32,
        rtp: "800f1234decafbadcafebabe4e55dc4ce79978d88ca4d215949d2402b78d6acc",
        rtcp: "81c8000bcafebabe7128035be487b9bdbef89041f977a5a880000001993e08cd54d6c1230798",
        rolled: concat!(
            "92e0000200000001000000070000abcd0000ef01bede000110ff00003db8ee8689a3f8e1bded6df00c0b",
            "3d4b2fb8f37a3cf9045c662fa9c646df486568f5c79a1a0b72424c"
        ),
    },
    Answers {
        profile: Profile::Aes128Gcm,
        rtp: concat!(
            "800f1234decafbadcafebabec5002ede04cfdd2eb91159e0880aa06ed2976826f796b201df3131a127e8",
            "a392"
        ),
        rtcp: concat!(
            "81c8000bcafebabec98b8b5df0392a55852b6c21ac8e7025c52c6fbea2b3b446ea31123ba88ce61e8000",
            "0001"
        ),
        rolled: concat!(
            "92e0000200000001000000070000abcd0000ef01bede000110ff00001b506e1dd502aed1a5890f287451",
            "570ecda9d869b547c208f60f72bae472e36cab8cbdcae739fcc3baad472d554015d4015f95b22a"
        ),
    },
    Answers {
        profile: Profile::Aes256Gcm,
        rtp: concat!(
            "800f1234decafbadcafebabe0af7f21e8a90bdad7a425c9c31ed4bb1d90238917e7390a2793500e1681a",
            "caea"
        ),
        rtcp: concat!(
            "81c8000bcafebabe8abfafa780070a90e80f9161cf4aac081ed93aaa53c15b0f3ed1a3b984167b038000",
            "0001"
        ),
        rolled: concat!(
            "92e0000200000001000000070000abcd0000ef01bede000110ff000077aac2727e6578e35b6d40b6f966",
            "76e34097adc798fb30cd784b54d86421360c89bcf2b7eed7c2187a8da47a2289a3543761159f01"
        ),
    },
];

const ALL: [Profile; 4] =
    [Profile::Aes128CmSha1_80, Profile::Aes128CmSha1_32, Profile::Aes128Gcm, Profile::Aes256Gcm];

fn hex(text: &str) -> Vec<u8> {
    text.as_bytes()
        .chunks(2)
        .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap())
        .collect()
}

/// That of RFC 3711 for counter mode, counting bytes for GCM, as libsrtp's tests have them.
fn master(profile: Profile) -> Key {
    let (key, salt) = if profile.is_gcm() {
        ((0..32).collect::<Vec<u8>>()[..profile.key()].to_vec(), (0xa0..0xac).collect())
    } else {
        (hex("e1f97a0d3e018be0d64fa32c06de4139"), hex("0ec675ad498afeebb6960b3aabe6"))
    };
    Key { key: heapless::Vec::from_slice(&key).unwrap(), salt: heapless::Vec::from_slice(&salt).unwrap() }
}

fn pair(profile: Profile) -> (Sender, Receiver) {
    let key = master(profile);
    (Sender::new(profile, &key).unwrap(), Receiver::new(profile, &key).unwrap())
}

#[test]
fn keys_are_derived_as_in_rfc_3711() {
    let key = master(Profile::Aes128CmSha1_80);
    assert_eq!(derive::<16>(&key, Label::RtpKey).unwrap()[..], hex("c61e7a93744f39ee10734afe3ff7a087"));
    assert_eq!(
        derive::<20>(&key, Label::RtpAuth).unwrap()[..],
        hex("cebe321f6ff7716b6fd4ab49af256a156d38baa4")
    );
    assert_eq!(derive::<14>(&key, Label::RtpSalt).unwrap()[..], hex("30cbbc08863d8c85d49db34a9ae1"));
}

#[test]
fn gcm_gives_what_rfc_7714_says() {
    let keys: [(&'static ring::aead::Algorithm, usize, &str); 2] = [
        (
            &AES_128_GCM,
            16,
            concat!(
                "f24de3a3fb34de6cacba861c9d7e4bcabe633bd50d294e6f42a5f47a51c7d19b36de3adf8833899d7f27",
                "beb16a9152cf765ee4390cce"
            ),
        ),
        (
            &AES_256_GCM,
            32,
            concat!(
                "32b1de78a822fe12ef9f78fa332e33aab18012389a58e2f3b50b2a0276ffae0f1ba63799b87b7aa3db36",
                "dfffd6b0f9bb7878d7a76c13"
            ),
        ),
    ];
    let salt: [u8; 12] = hex("517569642070726f2071756f").try_into().unwrap();
    for (algorithm, length, answer) in keys {
        let key: Vec<u8> = (0..length as u8).collect();
        let key = LessSafeKey::new(UnboundKey::new(algorithm, &key).unwrap());
        let header = hex("8040f17b8041f8d35501a0b2");
        let mut data = b"Gallia est omnis divisa in partes tres".to_vec();
        key.seal_in_place_append_tag(nonce(salt, 0x5501_a0b2, 0, 0xf17b), Aad::from(&header), &mut data)
            .unwrap();
        assert_eq!(data, hex(answer));
    }
}

#[test]
fn every_cipher_gives_its_known_answers() {
    for Answers { profile, rtp, rtcp, rolled } in ANSWERS {
        let (mut sender, mut receiver) = pair(profile);
        let mut packet = hex(RTP);
        sender.rtp(&mut packet, 0).unwrap();
        assert_eq!(packet, hex(rtp), "{profile:?}");
        let length = receiver.rtp(&mut packet).unwrap();
        assert_eq!(packet[..length], hex(RTP));

        let mut packet = hex(RTCP);
        sender.rtcp(&mut packet, 0).unwrap();
        assert_eq!(packet, hex(rtcp), "{profile:?}");
        let length = receiver.rtcp(&mut packet).unwrap();
        assert_eq!(packet[..length], hex(RTCP));

        let plain = [hex(ROLLED), ROLLED_PAYLOAD.to_vec()].concat();
        sender.sources.push_back((7, 3, 1));
        receiver.sources.push(Source { ssrc: 7, newest: 3 << 16 | 1, seen: 1 });
        // In a buffer that has another packet already.
        let mut buffer = [b"before".to_vec(), plain.clone()].concat();
        sender.rtp(&mut buffer, 6).unwrap();
        assert_eq!(buffer[6..], hex(rolled), "{profile:?}");
        let length = receiver.rtp(&mut buffer[6..]).unwrap();
        assert_eq!(buffer[6..6 + length], plain);
    }
}

fn packet(ssrc: u32, seq: u16) -> Vec<u8> {
    let mut packet = vec![0x80, 96];
    packet.extend(seq.to_be_bytes());
    packet.extend([0; 4]);
    packet.extend(ssrc.to_be_bytes());
    packet.extend([9; 20]);
    packet
}

fn sealed(sender: &mut Sender, ssrc: u32, seq: u16) -> Vec<u8> {
    let mut packet = packet(ssrc, seq);
    sender.rtp(&mut packet, 0).unwrap();
    packet
}

#[test]
fn rollovers_are_followed_through_losses_and_disorder() {
    for profile in ALL {
        let (mut sender, mut receiver) = pair(profile);
        let mut wire = Vec::new();
        for number in 0..200_000u32 {
            // Three of a hundred come, in pairs that are swapped.
            if number % 100 < 3 {
                wire.push((number, sealed(&mut sender, 5, number as u16)));
            }
        }
        for two in wire.chunks_mut(2) {
            two.reverse();
            for (number, packet) in two {
                let length = receiver.rtp(packet).unwrap_or_else(|e| panic!("{number}: {e}"));
                assert_eq!(packet[..length], super::tests::packet(5, *number as u16));
            }
        }
        assert_eq!(receiver.sources[0].newest >> 16, 3);
    }
}

#[test]
fn a_packet_from_before_a_rollover_can_be_sent_again() {
    let (mut sender, mut receiver) = pair(Profile::Aes128Gcm);
    for seq in [65_533, 65_534, 65_535, 0, 1] {
        receiver.rtp(&mut sealed(&mut sender, 5, seq)).unwrap();
    }
    assert_eq!(receiver.rtp(&mut sealed(&mut sender, 5, 65_534)), Err(SrtpError::Replayed));
    let (mut sender, mut receiver) = pair(Profile::Aes128Gcm);
    for seq in [65_533, 65_534, 65_535, 0, 1] {
        let mut packet = sealed(&mut sender, 5, seq);
        if seq != 65_534 {
            receiver.rtp(&mut packet).unwrap();
        }
    }
    receiver.rtp(&mut sealed(&mut sender, 5, 65_534)).unwrap();
}

#[test]
fn nothing_is_taken_twice() {
    for profile in ALL {
        let (mut sender, mut receiver) = pair(profile);
        let wire: Vec<_> = (0..300).map(|seq| sealed(&mut sender, 5, seq)).collect();
        for packet in &wire {
            receiver.rtp(&mut packet.clone()).unwrap();
        }
        for packet in &wire {
            assert_eq!(receiver.rtp(&mut packet.clone()), Err(SrtpError::Replayed));
        }
        let mut control = hex(RTCP);
        sender.rtcp(&mut control, 0).unwrap();
        receiver.rtcp(&mut control.clone()).unwrap();
        assert_eq!(receiver.rtcp(&mut control), Err(SrtpError::Replayed));
    }
}

#[test]
fn what_was_changed_is_refused_and_forgotten() {
    for profile in ALL {
        let (mut sender, mut receiver) = pair(profile);
        let good = sealed(&mut sender, 5, 1);
        for at in 0..good.len() {
            let mut bad = good.clone();
            bad[at] ^= 4;
            assert!(receiver.rtp(&mut bad).is_err(), "{profile:?}, byte {at}");
        }
        assert!(receiver.sources.is_empty());
        receiver.rtp(&mut good.clone()).unwrap();
        let mut good = hex(RTCP);
        sender.rtcp(&mut good, 0).unwrap();
        for at in 0..good.len() {
            let mut bad = good.clone();
            bad[at] ^= 4;
            assert!(receiver.rtcp(&mut bad).is_err(), "{profile:?}, byte {at} of RTCP");
        }
        receiver.rtcp(&mut good).unwrap();
    }
}

#[test]
fn sources_are_bounded() {
    let (mut sender, mut receiver) = pair(Profile::Aes128Gcm);
    for ssrc in 0..1000 {
        receiver.rtp(&mut sealed(&mut sender, ssrc, 7)).unwrap();
    }
    assert_eq!((sender.sources.len(), receiver.sources.len()), (MAX_SOURCES, MAX_SOURCES));
}

#[test]
fn the_source_that_is_heard_is_kept() {
    let (mut sender, mut receiver) = pair(Profile::Aes128Gcm);
    let first = sealed(&mut sender, 5000, 1);
    receiver.rtp(&mut first.clone()).unwrap();
    for ssrc in 0..100 {
        receiver.rtp(&mut sealed(&mut sender, ssrc, 7)).unwrap();
        receiver.rtp(&mut sealed(&mut sender, 5000, ssrc as u16 + 2)).unwrap();
    }
    assert_eq!(receiver.rtp(&mut first.clone()), Err(SrtpError::Replayed));
}

#[test]
fn keys_of_other_lengths_are_refused() {
    for profile in ALL {
        for length in 0..100 {
            let keys = Keys::from_exported(profile, &vec![1; length]);
            assert_eq!(keys.is_ok(), length == profile.exported());
        }
    }
}

proptest! {
    #[test]
    fn any_bytes_are_refused(which in 0..4usize, bytes in proptest::collection::vec(any::<u8>(), 0..120), dress: bool) {
        let (mut sender, mut receiver) = pair(ALL[which]);
        let mut bytes = bytes;
        if dress && let Some(first) = bytes.first_mut() {
            *first = *first & 0x1f | 0x80;
        }
        prop_assert!(receiver.rtp(&mut bytes.clone()).is_err());
        prop_assert!(receiver.rtcp(&mut bytes.clone()).is_err());
        let _ = sender.rtp(&mut bytes.clone(), 0);
        let _ = sender.rtp(&mut bytes.clone(), 50);
        let _ = sender.rtcp(&mut bytes, 0);
    }

    #[test]
    fn what_is_sealed_can_be_opened(which in 0..4usize, csrcs in 0..16usize, words in 0..20usize, extended: bool, payload in proptest::collection::vec(any::<u8>(), 0..1200)) {
        let (mut sender, mut receiver) = pair(ALL[which]);
        let mut plain = packet(8, 3)[..12].to_vec();
        plain[0] |= csrcs as u8;
        plain.resize(12 + csrcs * 4, 1);
        if extended {
            plain[0] |= 0x10;
            plain.extend([0xbe, 0xde, 0, words as u8]);
            plain.resize(plain.len() + words * 4, 2);
        }
        plain.extend(payload);
        let mut sealed = plain.clone();
        sender.rtp(&mut sealed, 0).unwrap();
        let length = receiver.rtp(&mut sealed).unwrap();
        prop_assert_eq!(&sealed[..length], &plain[..]);
    }
}
