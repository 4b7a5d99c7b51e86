//! Offers as browsers and encoders make them, and what they get.

use super::answer::{Ours, answer};
use super::candidates::Candidate;
use super::negotiated::{Flow, Negotiated};
use super::offer::{Offer, Setup, Terms};
use super::sdp::Description;
use crate::media::{Codec, Facts, Kind, Track, TrackId};
use proptest::prelude::*;

const CHROMIUM_PLAY: &str = include_str!("offers/chromium_play.sdp");
const CHROMIUM_PUBLISH: &str = include_str!("offers/chromium_publish.sdp");
const FFMPEG: &str = include_str!("offers/ffmpeg_publish.sdp");
const FIREFOX_PLAY: &str = include_str!("offers/firefox_play.sdp");
const LARIX: &str = include_str!("offers/larix_publish.sdp");
const OBS: &str = include_str!("offers/obs_publish.sdp");
const SAFARI_PLAY: &str = include_str!("offers/safari_play.sdp");
const ALL: [&str; 7] = [CHROMIUM_PLAY, CHROMIUM_PUBLISH, FFMPEG, FIREFOX_PLAY, LARIX, OBS, SAFARI_PLAY];

fn terms(flow: Flow, tracks: &[Track]) -> Terms<'_> {
    Terms { flow, tracks, wishes: &[], nack: true, transport_cc: true, cname: "cname" }
}

fn track(id: u8, codec: Codec) -> Track {
    Track::new(TrackId(id), codec)
}

/// Numbers that are made up.
fn numbers() -> impl FnMut() -> u32 {
    let mut n = 1000;
    move || {
        n += 1;
        n
    }
}

fn agree(text: &str, terms: &Terms<'_>) -> (Offer, Negotiated, String) {
    let offer = Offer::parse(text).unwrap_or_else(|error| panic!("{error}\n{text}"));
    let negotiated = offer.agree(terms, numbers()).unwrap_or_else(|error| panic!("{error}"));
    let candidates = [
        Candidate { host: "192.0.2.1".to_owned(), port: 8000, tcp: false },
        Candidate { host: "192.0.2.1".to_owned(), port: 8000, tcp: true },
    ];
    let ours = Ours {
        ufrag: "ours",
        pwd: "oursoursoursoursoursours",
        fingerprint: "sha-256 AA",
        active: offer.setup == Setup::Passive,
        candidates: &candidates,
        number: 77,
    };
    let text = answer(&offer, &negotiated, &ours);
    (offer, negotiated, text)
}

/// What has to be so of each answer.
fn check(offer: &str, answer: &str) {
    let (offer, answer) = (Description::parse(offer).unwrap(), Description::parse(answer).unwrap());
    assert_eq!(offer.sections.len(), answer.sections.len());
    let bundle = answer.attribute("group").unwrap_or_default();
    for (theirs, ours) in offer.sections.iter().zip(&answer.sections) {
        assert_eq!((&theirs.kind, &theirs.protocol), (&ours.kind, &ours.protocol));
        assert_eq!(theirs.attribute("mid"), ours.attribute("mid"));
        assert!(ours.formats.iter().all(|format| theirs.formats.contains(format)), "{ours:?}");
        if ours.port == 0 {
            continue;
        }
        let mid = ours.attribute("mid").unwrap_or_default();
        assert!(bundle.split(' ').any(|name| name == mid), "{bundle}");
        for extension in ours.all("extmap") {
            let same = |known: &str| known.replace("/recvonly", "") == extension;
            assert!(theirs.all("extmap").any(same), "{extension}");
        }
        for map in ours.all("rtpmap") {
            assert!(theirs.all("rtpmap").any(|known| known == map), "{map}");
        }
        for fb in ours.all("rtcp-fb") {
            assert!(theirs.all("rtcp-fb").any(|known| known == fb), "{fb}");
        }
    }
}

#[test]
fn chromium_plays_what_there_is() {
    let mut video = track(0, Codec::H264);
    video.facts = Facts { profile: 0x4D, ..Facts::default() };
    let tracks = [video, track(1, Codec::Opus)];
    let (offer, negotiated, text) = agree(CHROMIUM_PLAY, &terms(Flow::Play, &tracks));
    check(CHROMIUM_PLAY, &text);
    assert_eq!(offer.setup, Setup::ActPass);
    let (audio, video) = (negotiated.first(Kind::Audio).unwrap(), negotiated.first(Kind::Video).unwrap());
    let first = &video.payloads[0];
    assert_eq!((first.codec, first.format.packetization_mode), (Codec::H264, 1));
    assert_eq!(first.format.profile_level_id.unwrap()[0], 0x4D, "the stream's profile");
    assert!(first.rtx.is_some() && video.ours.rtx.is_some() && audio.ours.rtx.is_none());
    assert_eq!((audio.payloads[0].codec, audio.payloads[0].channels), (Codec::Opus, 2));
    assert!(video.payload_of(Codec::Vp8).is_some() && video.payload_of(Codec::Av1).is_some());
    assert!(video.feedback.nack && video.feedback.pli && video.feedback.remb);
    assert!(video.extensions.mid.is_some() && video.extensions.abs_send_time.is_some());
    // Our packets don't carry these numbers.
    assert!(!video.feedback.transport_cc && video.extensions.transport_cc.is_none());
    assert!(text.contains("a=setup:passive\r\n") && text.contains("a=sendonly\r\n"), "{text}");
    assert!(text.contains("a=candidate:1 1 udp ") && text.contains(" tcptype passive\r\n"));
    assert_eq!(text.matches("a=end-of-candidates").count(), 1);
    let rtx = first.rtx.unwrap();
    assert_eq!(video.payload(rtx).map(|(payload, again)| (payload.codec, again)), Some((Codec::H264, true)));
    assert!(text.contains(&format!("a=ssrc-group:FID {} {}\r\n", video.ours.ssrc, video.ours.rtx.unwrap())));
}

#[test]
fn what_a_player_cannot_show_is_said() {
    let offer = Offer::parse(CHROMIUM_PLAY).unwrap();
    let tracks = [track(0, Codec::H265), track(1, Codec::Opus)];
    let why = offer.agree(&terms(Flow::Play, &tracks), numbers()).unwrap_err().to_string();
    assert!(
        why.starts_with("the stream's pictures are HEVC, and the player offers VP8, VP9, H264, AV1"),
        "{why}"
    );
    // Sound of another codec can be made what it takes.
    let tracks = [track(0, Codec::H264), track(1, Codec::Aac)];
    assert!(offer.agree(&terms(Flow::Play, &tracks), numbers()).is_ok());
    let (_, negotiated, _) = agree(SAFARI_PLAY, &terms(Flow::Play, &[track(0, Codec::H265)]));
    assert_eq!(negotiated.first(Kind::Video).unwrap().payloads[0].codec, Codec::H265);
}

#[test]
fn chromium_publishes_h264_unless_it_wishes_otherwise() {
    let (_, negotiated, text) = agree(CHROMIUM_PUBLISH, &terms(Flow::Publish, &[]));
    check(CHROMIUM_PUBLISH, &text);
    let video = negotiated.first(Kind::Video).unwrap();
    assert_eq!(video.payloads.len(), 1);
    assert_eq!(video.payloads[0].codec, Codec::H264);
    assert_eq!(video.sources.len(), 1);
    assert!(video.sources[0].rtx.is_some(), "{:?}", video.sources);
    assert!(!video.feedback.remb && video.feedback.transport_cc);
    assert!(text.contains("a=recvonly\r\n") && !text.contains("a=ssrc:"), "{text}");
    for (wish, codec) in [(Codec::Vp9, Codec::Vp9), (Codec::Av1, Codec::Av1), (Codec::H265, Codec::H264)] {
        let wishes = [wish];
        let terms = Terms { wishes: &wishes, ..terms(Flow::Publish, &[]) };
        let (_, negotiated, _) = agree(CHROMIUM_PUBLISH, &terms);
        assert_eq!(negotiated.first(Kind::Video).unwrap().payloads[0].codec, codec);
    }
}

#[test]
fn encoders() {
    for (text, setup, profile) in
        [(FFMPEG, Setup::Passive, 0x42), (OBS, Setup::ActPass, 0x42), (LARIX, Setup::ActPass, 0x42)]
    {
        let (offer, negotiated, answer) = agree(text, &terms(Flow::Publish, &[]));
        check(text, &answer);
        assert_eq!(offer.setup, setup);
        let video = negotiated.first(Kind::Video).unwrap();
        let payload = &video.payloads[0];
        assert_eq!((payload.codec, payload.format.packetization_mode), (Codec::H264, 1));
        assert_eq!(payload.format.profile_level_id.unwrap()[0], profile);
        assert_eq!(negotiated.first(Kind::Audio).unwrap().payloads[0].codec, Codec::Opus);
        assert!(!video.sources.is_empty(), "{text}");
        let expected = if setup == Setup::Passive { "a=setup:active\r\n" } else { "a=setup:passive\r\n" };
        assert!(answer.contains(expected), "{answer}");
    }
}

#[test]
fn sounds_that_cannot_be_taken_apart_are_declined() {
    for name in ["MPEG4-GENERIC/48000/2", "MP4A-LATM/48000/2", "AC3/48000/2", "MPA/90000"] {
        let text = OBS.replace("opus/48000/2", name);
        assert_ne!(text, OBS);
        let (_, negotiated, answer) = agree(&text, &terms(Flow::Publish, &[]));
        assert!(negotiated.first(Kind::Audio).is_none() && answer.contains("m=audio 0 "), "{answer}");
    }
}

#[test]
fn firefox_and_safari_play() {
    for text in [FIREFOX_PLAY, SAFARI_PLAY] {
        let tracks = [track(0, Codec::H264), track(1, Codec::Opus)];
        let (_, negotiated, answer) = agree(text, &terms(Flow::Play, &tracks));
        check(text, &answer);
        assert_eq!(negotiated.media.len(), 2);
        assert_eq!(negotiated.first(Kind::Video).unwrap().payloads[0].codec, Codec::H264);
    }
}

#[test]
fn data_channels_and_second_pictures_are_declined() {
    let more = "m=application 9 UDP/DTLS/SCTP webrtc-datachannel\r\na=mid:7\r\na=sctp-port:5000\r\n\
                m=video 9 UDP/TLS/RTP/SAVPF 96\r\na=mid:8\r\na=recvonly\r\na=rtcp-mux\r\na=rtpmap:96 VP8/90000\r\n\
                m=video 9 UDP/TLS/RTP/SAVPF 96\r\na=mid:9\r\na=recvonly\r\na=rtcp-mux\r\na=rtpmap:96 VP8/90000\r\n";
    let text = CHROMIUM_PLAY.replacen("BUNDLE 0 1", "BUNDLE 0 1 7 8", 1) + more;
    let (_, negotiated, answer) = agree(&text, &terms(Flow::Play, &[]));
    check(&text, &answer);
    assert_eq!(negotiated.media.len(), 2);
    assert!(answer.contains("m=application 0 UDP/DTLS/SCTP webrtc-datachannel\r\n"), "{answer}");
    assert!(answer.contains("a=group:BUNDLE 0 1\r\n"));
    assert_eq!(answer.matches("m=video 0 ").count(), 2);
}

#[test]
fn layers() {
    let text = CHROMIUM_PUBLISH.to_owned()
        + "a=rid:h send\r\na=rid:m send\r\na=rid:l send\r\na=simulcast:send h;~m,x;l\r\n";
    let (_, negotiated, answer) = agree(&text, &terms(Flow::Publish, &[]));
    let video = negotiated.first(Kind::Video).unwrap();
    let names: Vec<_> = video.layers.iter().map(|layer| (layer.rid.as_str(), layer.paused)).collect();
    assert_eq!(names, [("h", false), ("m", true), ("l", false)]);
    assert!(video.extensions.rid.is_some() && video.extensions.repaired_rid.is_some());
    assert!(answer.contains("a=simulcast:recv h;m;l\r\n") && answer.contains("a=rid:m recv\r\n"));
}

#[test]
fn one_line_without_a_bundle() {
    let text = "v=0\r\no=- 1 1 IN IP4 0.0.0.0\r\ns=-\r\nt=0 0\r\na=ice-ufrag:abcd\r\na=ice-pwd:abcdefghijklmnopqrstuv\r\n\
                a=fingerprint:sha-256 AA:BB\r\nm=audio 9 UDP/TLS/RTP/SAVPF 8 0\r\na=rtcp-mux\r\na=recvonly\r\n";
    let (offer, negotiated, answer) = agree(text, &terms(Flow::Play, &[track(0, Codec::G711U)]));
    assert_eq!((offer.ufrag.as_str(), offer.fingerprint.as_str()), ("abcd", "sha-256 AA:BB"));
    assert_eq!(negotiated.media[0].payloads[0].number, 0);
    assert!(!answer.contains("a=mid") && !answer.contains("BUNDLE"), "{answer}");
}

#[test]
fn hostile_offers_get_reasons() {
    let why = |text: &str| Offer::parse(text).unwrap_err().to_string();
    let base = OBS;
    for (from, to, expected) in [
        ("v=0", "v=1", "this is no session description"),
        ("a=group:BUNDLE", "a=group:LS", "does not bundle"),
        ("a=ice-ufrag:", "a=ice-x:", "has no a=ice-ufrag"),
        ("a=ice-pwd:", "a=ice-pwd:short ", "has no a=ice-pwd"),
        ("a=fingerprint:sha-256 ", "a=fingerprint:sha-1 ", "has no a=fingerprint:sha-256"),
        ("a=rtcp-mux\r\n", "", "without a=rtcp-mux"),
        ("a=setup:actpass", "a=setup:holdconn", "wants a=setup:holdconn"),
        ("a=mid:0", "a=mid:a b", "whose a=mid"),
        ("a=mid:1", "a=mid:0", "two m-lines"),
        ("a=group", "a=ice-lite\r\na=group", "is ICE-lite"),
        ("UDP/TLS/RTP/SAVPF", "RTP/AVP", "has no audio or video"),
        ("SAVPF 111", "SAVPF x", "has the payload type"),
        ("SAVPF 111", "SAVPF 300", "has the payload type"),
    ] {
        let text = base.replace(from, to);
        assert_ne!(text, base, "{from}");
        let why = why(&text);
        assert!(why.contains(expected), "{from}: {why}");
    }
    let offer = Offer::parse(&base.replace("H264", "H263").replace("opus", "speex")).unwrap();
    let error = offer.agree(&terms(Flow::Publish, &[]), numbers()).unwrap_err().to_string();
    assert!(error.contains("H263"), "{error}");
    let offer = Offer::parse(CHROMIUM_PLAY).unwrap();
    let error = offer.agree(&terms(Flow::Publish, &[]), numbers()).unwrap_err().to_string();
    assert!(error.contains("sends neither"), "{error}");
}

proptest! {
    #[test]
    fn damaged_offers_never_panic(
        which in 0..ALL.len(),
        cuts in proptest::collection::vec((0.0..1.0f64, "[ -~\r\n]{0,12}"), 1..8),
    ) {
        let mut text = ALL[which].to_owned();
        for (at, with) in cuts {
            let at = (at * text.len() as f64) as usize;
            let end = (at + with.len() + 3).min(text.len());
            text.replace_range(at..end, &with);
        }
        if let Ok(offer) = Offer::parse(&text) {
            for flow in [Flow::Play, Flow::Publish] {
                if let Ok(negotiated) = offer.agree(&terms(flow, &[]), numbers()) {
                    let ours = Ours {
                        ufrag: "u", pwd: "p", fingerprint: "f", active: false, candidates: &[], number: 1,
                    };
                    let answer = answer(&offer, &negotiated, &ours);
                    prop_assert!(Description::parse(&answer).is_ok(), "{}", answer);
                }
            }
        }
    }
}
