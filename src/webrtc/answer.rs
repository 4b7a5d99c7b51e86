//! Our answers (RFC 8829 5.9): what was agreed on, where we are, and who we are.

use std::fmt::Write;

use super::candidates::Candidate;
use super::negotiated::{Feedback, Flow, Media, Negotiated, Payload};
use super::offer::{Offer, Part, extensions};
use crate::media::{Codec, Kind};

/// How we are reached, and known.
#[derive(Debug, Clone)]
pub struct Ours<'a> {
    /// Our name in ICE.
    pub ufrag: &'a str,
    /// Our password.
    pub pwd: &'a str,
    /// The hash of our certificate, as `sha-256 AA:BB:…`.
    pub fingerprint: &'a str,
    /// Whether we begin DTLS.
    pub active: bool,
    /// Where we are.
    pub candidates: &'a [Candidate],
    /// A number for this description.
    pub number: u64,
}

/// Writes the answer to `offer` that says what was `negotiated`.
#[must_use]
pub fn answer(offer: &Offer, negotiated: &Negotiated, ours: &Ours<'_>) -> String {
    let mut text = String::with_capacity(4096);
    let name = |part: &&Part| negotiated.media.iter().any(|media| media.mid == part.mid);
    let taken: Vec<&Part> = offer.parts.iter().filter(name).collect();
    line(&mut text, format_args!("v=0"));
    line(&mut text, format_args!("o=- {} 1 IN IP4 0.0.0.0", ours.number >> 2));
    line(&mut text, format_args!("s=-"));
    line(&mut text, format_args!("t=0 0"));
    line(&mut text, format_args!("a=ice-lite"));
    if offer.bundled {
        let mids: Vec<&str> = taken.iter().map(|part| part.mid.as_str()).collect();
        line(&mut text, format_args!("a=group:BUNDLE {}", mids.join(" ")));
    }
    line(&mut text, format_args!("a=msid-semantic: WMS *"));
    if offer.mixed {
        line(&mut text, format_args!("a=extmap-allow-mixed"));
    }
    let mut first = true;
    for part in &offer.parts {
        match negotiated.media.iter().find(|media| media.mid == part.mid) {
            Some(media) => {
                accept(&mut text, part, media, negotiated, ours);
                if std::mem::take(&mut first) {
                    candidates(&mut text, ours.candidates);
                }
            }
            None => decline(&mut text, part),
        }
    }
    text
}

/// Writes what a fragment (RFC 8840) says after ICE was begun anew.
#[must_use]
pub fn fragment(negotiated: &Negotiated, ours: &Ours<'_>) -> String {
    let mut text = String::new();
    line(&mut text, format_args!("a=ice-lite"));
    line(&mut text, format_args!("a=ice-ufrag:{}", ours.ufrag));
    line(&mut text, format_args!("a=ice-pwd:{}", ours.pwd));
    if let Some(media) = negotiated.media.first() {
        let kind = if media.kind == Kind::Video { "video" } else { "audio" };
        let number = media.payloads.first().map_or(0, |payload| payload.number);
        line(&mut text, format_args!("m={kind} 9 UDP/TLS/RTP/SAVPF {number}"));
        line(&mut text, format_args!("a=mid:{}", media.mid));
        candidates(&mut text, ours.candidates);
    }
    text
}

fn line(text: &mut String, words: std::fmt::Arguments<'_>) {
    // Nothing can go wrong with a text in memory.
    let _ = write!(text, "{words}\r\n");
}

fn decline(text: &mut String, part: &Part) {
    line(text, format_args!("m={} 0 {} {}", part.kind, part.protocol, part.format));
    line(text, format_args!("c=IN IP4 0.0.0.0"));
    if part.named {
        line(text, format_args!("a=mid:{}", part.mid));
    }
    line(text, format_args!("a=inactive"));
}

fn accept(text: &mut String, part: &Part, media: &Media, negotiated: &Negotiated, ours: &Ours<'_>) {
    let mut numbers: Vec<String> = media.payloads.iter().map(|payload| payload.number.to_string()).collect();
    numbers.extend(media.payloads.iter().filter_map(|payload| payload.rtx).map(|number| number.to_string()));
    line(text, format_args!("m={} 9 {} {}", part.kind, part.protocol, numbers.join(" ")));
    line(text, format_args!("c=IN IP4 0.0.0.0"));
    line(text, format_args!("a=rtcp:9 IN IP4 0.0.0.0"));
    line(text, format_args!("a=ice-ufrag:{}", ours.ufrag));
    line(text, format_args!("a=ice-pwd:{}", ours.pwd));
    line(text, format_args!("a=fingerprint:{}", ours.fingerprint));
    line(text, format_args!("a=setup:{}", if ours.active { "active" } else { "passive" }));
    if part.named {
        line(text, format_args!("a=mid:{}", part.mid));
    }
    for (number, name) in extensions(&media.extensions) {
        line(text, format_args!("a=extmap:{number} {name}"));
    }
    let plays = negotiated.flow == Flow::Play;
    line(text, format_args!("a={}", if plays { "sendonly" } else { "recvonly" }));
    if plays {
        line(text, format_args!("a=msid:{} {}-{}", negotiated.cname, part.kind, part.mid));
    }
    line(text, format_args!("a=rtcp-mux"));
    line(text, format_args!("a=rtcp-rsize"));
    for payload in &media.payloads {
        coding(text, part, media, payload, plays);
    }
    for (payload, rtx) in media.payloads.iter().filter_map(|payload| Some((payload, payload.rtx?))) {
        line(text, format_args!("a=rtpmap:{rtx} rtx/{}", payload.clock_rate));
        line(text, format_args!("a=fmtp:{rtx} apt={}", payload.number));
    }
    if plays {
        let (ssrc, cname) = (media.ours.ssrc, &negotiated.cname);
        if let Some(rtx) = media.ours.rtx {
            line(text, format_args!("a=ssrc-group:FID {ssrc} {rtx}"));
        }
        for ssrc in [Some(ssrc), media.ours.rtx].into_iter().flatten() {
            line(text, format_args!("a=ssrc:{ssrc} cname:{cname}"));
        }
    }
    if !media.layers.is_empty() {
        for layer in &media.layers {
            line(text, format_args!("a=rid:{} recv", layer.rid));
        }
        let names: Vec<&str> = media.layers.iter().map(|layer| layer.rid.as_str()).collect();
        line(text, format_args!("a=simulcast:recv {}", names.join(";")));
    }
}

fn coding(text: &mut String, part: &Part, media: &Media, payload: &Payload, plays: bool) {
    let number = payload.number;
    let Some(coding) = part.open.as_ref().and_then(|open| open.coding(number)) else { return };
    line(text, format_args!("a=rtpmap:{number} {}", coding.map));
    let Feedback { nack, pli, fir, transport_cc, remb } = media.feedback;
    let offered = coding.feedback;
    for (both, name) in [
        (nack && offered.nack, "nack"),
        (pli && offered.pli, "nack pli"),
        (fir && offered.fir, "ccm fir"),
        (transport_cc && offered.transport_cc, "transport-cc"),
        (remb && offered.remb, "goog-remb"),
    ] {
        if both {
            line(text, format_args!("a=rtcp-fb:{number} {name}"));
        }
    }
    // What a publisher says of its own stream (sprop-…) is not for us to repeat.
    let repeated: Vec<&str> = coding
        .parameters
        .split(';')
        .map(str::trim)
        .filter(|pair| {
            !pair.is_empty() && !pair.starts_with("sprop-") && pair.chars().all(|c| c.is_ascii_graphic())
        })
        .collect();
    let parameters = match payload.codec {
        Codec::Opus if plays => "minptime=10;stereo=1;sprop-stereo=1;useinbandfec=1".to_owned(),
        Codec::Opus => "minptime=10;stereo=1;useinbandfec=1".to_owned(),
        _ => repeated.join(";"),
    };
    if !parameters.is_empty() {
        line(text, format_args!("a=fmtp:{number} {parameters}"));
    }
}

fn candidates(text: &mut String, candidates: &[Candidate]) {
    for (n, candidate) in candidates.iter().enumerate() {
        line(text, format_args!("a={}", candidate.line(n)));
    }
    line(text, format_args!("a=end-of-candidates"));
}
