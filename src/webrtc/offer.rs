//! What a peer offers (RFC 8829 5.8), and what comes of it.
//!
//! One transport carries all (RFC 9143): m-lines that aren't bundled, that want another protocol, or whose codecs nobody here
//! knows, are declined. Data channels are among them.

use super::negotiated::{Extensions, Feedback, Flow, Layer, Media, Negotiated, Payload, Source};
use super::offered::{Coding, codings};
use super::sdp::{Description, SdpError, Section};
use crate::media::{Codec, Kind, Track};

/// The most m-lines of one kind that a publisher sends.
const MAX_PUBLISHED: usize = 4;
/// The most layers of one picture.
const MAX_LAYERS: usize = 4;
/// The most sources that one m-line names.
const MAX_SOURCES: usize = 8;
/// The longest name of an m-line or a layer: a header extension carries 16 bytes.
const MAX_NAME: usize = 16;

/// Hashes of certificates that are known.
const FINGERPRINTS: [&str; 3] = ["sha-256 ", "sha-384 ", "sha-512 "];

/// Extensions by their names.
mod uri {
    pub const MID: &str = "urn:ietf:params:rtp-hdrext:sdes:mid";
    pub const RID: &str = "urn:ietf:params:rtp-hdrext:sdes:rtp-stream-id";
    pub const REPAIRED_RID: &str = "urn:ietf:params:rtp-hdrext:sdes:repaired-rtp-stream-id";
    pub const TRANSPORT_CC: &str =
        "http://www.ietf.org/id/draft-holmer-rmcat-transport-wide-cc-extensions-01";
    pub const ABS_SEND_TIME: &str = "http://www.webrtc.org/experiments/rtp-hdrext/abs-send-time";
    pub const PLAYOUT_DELAY: &str = "http://www.webrtc.org/experiments/rtp-hdrext/playout-delay";
}

/// Who begins DTLS (RFC 8842 5).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Setup {
    /// The peer does.
    Active,
    /// Whoever the answer says.
    ActPass,
    /// We do.
    Passive,
}

/// An offer that can be answered.
#[derive(Debug, Clone)]
pub struct Offer {
    /// The peer's name in ICE (RFC 8839 5.4).
    pub ufrag: String,
    /// Its password.
    pub pwd: String,
    /// The hash of its certificate, as `sha-256 AA:BB:…` (RFC 8122 5).
    pub fingerprint: String,
    /// Who begins DTLS.
    pub setup: Setup,
    /// Whether headers of one and two bytes may be mixed (RFC 8285 6).
    pub mixed: bool,
    /// Whether it bundles its m-lines: an answer does so only then (RFC 9143 7.3).
    pub bundled: bool,
    /// Its m-lines, all of them, in their order.
    pub parts: Vec<Part>,
}

/// An m-line of an offer.
#[derive(Debug, Clone)]
pub struct Part {
    /// `audio`, `video`, `application`, …
    pub kind: String,
    /// Its protocol.
    pub protocol: String,
    /// One of its payload types, since an answer that declines has to have one.
    pub format: String,
    /// Its name, or its number where it has none.
    pub mid: String,
    /// Whether it has a name.
    pub named: bool,
    /// What can be agreed on; `None` where it is declined whatever it has.
    pub open: Option<Open>,
}

/// What an m-line offers.
#[derive(Debug, Clone)]
pub struct Open {
    /// Audio or video.
    pub kind: Kind,
    /// The peer would send.
    pub sends: bool,
    /// The peer would take.
    pub takes: bool,
    /// Codecs that we know, in its order of preference.
    pub codings: Vec<Coding>,
    /// All that it names, for those who wonder.
    pub names: Vec<String>,
    /// Numbers and names of header extensions.
    pub extensions: Vec<(u8, String)>,
    /// Sources that it names.
    pub sources: Vec<Source>,
    /// Layers that it sends.
    pub layers: Vec<Layer>,
}

/// What an offer meets here.
#[derive(Debug, Clone)]
pub struct Terms<'a> {
    /// Who sends.
    pub flow: Flow,
    /// What the stream has, as far as that is known.
    pub tracks: &'a [Track],
    /// Codecs that the peer asked for in its URL.
    pub wishes: &'a [Codec],
    /// Whether what is lost is sent again.
    pub nack: bool,
    /// Whether it is told when each packet came.
    pub transport_cc: bool,
    /// What sources of ours share.
    pub cname: &'a str,
}

fn bad(what: impl Into<String>) -> SdpError {
    SdpError::Offer(what.into())
}

impl Offer {
    /// Reads an offer.
    ///
    /// # Errors
    /// [`SdpError`], in words for who made it.
    pub fn parse(text: &str) -> Result<Self, SdpError> {
        let description = Description::parse(text)?;
        if description.attribute("ice-lite").is_some() {
            return Err(bad("is ICE-lite, as this server is: one side has to do ICE in full"));
        }
        let group = description.attributes.iter().filter(|(name, _)| name == "group");
        let mut bundle: Option<Vec<&str>> = None;
        for (_, value) in group {
            let mut words = value.split_ascii_whitespace();
            if words.next() == Some("BUNDLE") {
                bundle = Some(words.collect());
                break;
            }
        }
        let wanted = |section: &&Section| matches!(section.kind.as_str(), "audio" | "video");
        if bundle.is_none() && description.sections.iter().filter(wanted).count() > 1 {
            return Err(bad("does not bundle its m-lines (a=group:BUNDLE)"));
        }
        let mut first = None;
        let mut parts: Vec<Part> = Vec::with_capacity(description.sections.len());
        for (n, section) in description.sections.iter().enumerate() {
            let mid = section.attribute("mid");
            if mid.is_some_and(|mid| mid.len() > MAX_NAME || !is_token(mid)) {
                return Err(bad(format!("has an m-line whose a=mid is no name of up to {MAX_NAME} letters")));
            }
            let name = mid.map_or_else(|| n.to_string(), str::to_owned);
            if parts.iter().any(|part| part.mid == name) {
                return Err(bad(format!("has two m-lines that are called {name}")));
            }
            let bundled = match (&bundle, mid) {
                (Some(bundle), Some(mid)) => bundle.contains(&mid),
                (Some(_), None) => false,
                (None, _) => true,
            };
            let there = section.port != 0 || section.has("bundle-only");
            let open = if bundled && there { open(&description, section)? } else { None };
            if open.is_some() {
                first.get_or_insert(section);
            }
            parts.push(Part {
                kind: section.kind.clone(),
                protocol: section.protocol.clone(),
                format: section.formats.first().cloned().unwrap_or_default(),
                mid: name,
                named: mid.is_some(),
                open,
            });
        }
        let first = first.ok_or_else(|| bad("has no audio or video over UDP/TLS/RTP/SAVPF"))?;
        // Where all is bundled the first says how to get there; some say it for the whole description.
        let of = |name: &str| description.of(first, name);
        let ufrag =
            of("ice-ufrag").filter(|text| is_ice(text, 4)).ok_or_else(|| bad("has no a=ice-ufrag"))?;
        let pwd = of("ice-pwd").filter(|text| is_ice(text, 22)).ok_or_else(|| bad("has no a=ice-pwd"))?;
        let fingerprints = first.all("fingerprint").chain(description.attribute("fingerprint"));
        let known = |text: &&str| {
            let start = text.get(..8).unwrap_or_default();
            text.len() <= 8 + 64 * 3 && FINGERPRINTS.iter().any(|name| start.eq_ignore_ascii_case(name))
        };
        let fingerprint = fingerprints
            .filter(known)
            .min_by_key(|text| text.get(4..8))
            .ok_or_else(|| bad("has no a=fingerprint:sha-256, without which nobody knows who it is"))?;
        let setup = match of("setup") {
            Some("active") => Setup::Active,
            Some("passive") => Setup::Passive,
            Some("actpass") | None => Setup::ActPass,
            Some(other) => {
                return Err(bad(format!("wants a=setup:{}", other.chars().take(20).collect::<String>())));
            }
        };
        Ok(Self {
            ufrag: ufrag.to_owned(),
            pwd: pwd.to_owned(),
            fingerprint: fingerprint.to_owned(),
            setup,
            mixed: of("extmap-allow-mixed").is_some(),
            bundled: bundle.is_some(),
            parts,
        })
    }

    /// What comes of it. `random` gives numbers for our sources.
    ///
    /// # Errors
    /// There is nothing that both sides can carry.
    pub fn agree(
        &self,
        terms: &Terms<'_>,
        mut random: impl FnMut() -> u32,
    ) -> Result<Negotiated, Disagreement> {
        let mut media: Vec<Media> = Vec::new();
        let mut why: Option<Disagreement> = None;
        let most = if terms.flow == Flow::Play { 1 } else { MAX_PUBLISHED };
        for part in &self.parts {
            let Some(open) = &part.open else { continue };
            let flows = if terms.flow == Flow::Play { open.takes } else { open.sends };
            if !flows || media.iter().filter(|media| media.kind == open.kind).count() >= most {
                continue;
            }
            match open.agree(terms) {
                Ok(payloads) => {
                    let mut taken: Vec<u32> = media
                        .iter()
                        .flat_map(|media| [media.ours.ssrc].into_iter().chain(media.ours.rtx))
                        .collect();
                    let mut unused = || loop {
                        let ssrc = random();
                        if ssrc != 0 && !taken.contains(&ssrc) {
                            taken.push(ssrc);
                            return ssrc;
                        }
                    };
                    let ours = Source {
                        ssrc: unused(),
                        rtx: payloads.iter().any(|payload| payload.rtx.is_some()).then(&mut unused),
                    };
                    let feedback = open.feedback(&payloads, terms);
                    media.push(Media {
                        mid: part.mid.clone(),
                        kind: open.kind,
                        payloads,
                        sources: open.sources.clone(),
                        layers: if terms.flow == Flow::Publish { open.layers.clone() } else { Vec::new() },
                        ours,
                        extensions: open.numbers(feedback, terms, part.named),
                        feedback,
                    });
                }
                // Pictures are what is missed first.
                Err(disagreement) if disagreement.kind == Kind::Video => why = Some(disagreement),
                Err(disagreement) => why = why.or(Some(disagreement)),
            }
        }
        // Pictures that can't be shown are not made up for by their sound.
        let has = |kind: Kind| media.iter().any(|media| media.kind == kind);
        match why {
            Some(why) if why.kind == Kind::Video && !has(Kind::Video) => Err(why),
            Some(why) if media.is_empty() => Err(why),
            None if media.is_empty() => Err(Disagreement {
                kind: Kind::Data,
                wanted: Vec::new(),
                offered: Vec::new(),
                flow: terms.flow,
            }),
            _ => Ok(Negotiated { flow: terms.flow, media, cname: terms.cname.to_owned() }),
        }
    }
}

/// Why there is nothing to carry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Disagreement {
    kind: Kind,
    /// Codecs of the stream, or those that are taken.
    wanted: Vec<&'static str>,
    offered: Vec<String>,
    flow: Flow,
}

impl std::fmt::Display for Disagreement {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (what, is) = if self.kind == Kind::Video { ("pictures", "are") } else { ("sound", "is") };
        let offered: Vec<&str> = self.offered.iter().map(String::as_str).take(16).collect();
        match self.flow {
            _ if self.kind == Kind::Data && self.flow == Flow::Play => {
                f.write_str("the offer takes neither sound nor pictures (a=recvonly)")
            }
            _ if self.kind == Kind::Data => {
                f.write_str("the offer sends neither sound nor pictures (a=sendonly)")
            }
            Flow::Play => write!(
                f,
                "the stream's {what} {is} {}, and the player offers {}",
                self.wanted.join(", "),
                offered.join(", ")
            ),
            Flow::Publish => {
                write!(
                    f,
                    "its {what} {is} offered as {}; taken {is} {}",
                    offered.join(", "),
                    self.wanted.join(", ")
                )
            }
        }
    }
}

impl Open {
    /// Which payload types to use, the best first.
    fn agree(&self, terms: &Terms<'_>) -> Result<Vec<Payload>, Disagreement> {
        let tracks: Vec<&Track> = terms.tracks.iter().filter(|track| track.kind() == self.kind).collect();
        let mut codecs: Vec<Codec> = Vec::new();
        // What arrives of other sounds could not be taken apart, or reach nobody.
        let is_taken = |codec| {
            terms.flow == Flow::Play
                || self.kind == Kind::Video
                || matches!(codec, Codec::Opus | Codec::G711A | Codec::G711U)
        };
        for coding in self.codings.iter().filter(|coding| is_taken(coding.payload.codec)) {
            if !codecs.contains(&coding.payload.codec) {
                codecs.push(coding.payload.codec);
            }
        }
        // Sorting is stable: among equals the peer's order stays.
        match terms.flow {
            Flow::Play => codecs.sort_by_key(|codec| !tracks.iter().any(|track| track.codec == *codec)),
            Flow::Publish => {
                codecs.sort_by_key(|codec| {
                    let wished = terms.wishes.iter().position(|wish| wish == codec);
                    // What all other protocols can carry, if it doesn't matter to the publisher.
                    (wished.unwrap_or(usize::MAX), !matches!(codec, Codec::H264 | Codec::Opus))
                });
                codecs.truncate(1);
            }
        }
        let plays = |codec: &Codec| tracks.iter().any(|track| track.codec == *codec);
        let lacks = terms.flow == Flow::Play
            && self.kind == Kind::Video
            && !tracks.is_empty()
            && !codecs.first().is_some_and(plays);
        if codecs.is_empty() || lacks {
            let wanted = match terms.flow {
                Flow::Play => tracks.iter().map(|track| track.codec.name()).collect(),
                Flow::Publish if self.kind == Kind::Video => vec!["H264", "H265", "AV1", "VP9", "VP8"],
                Flow::Publish => vec!["Opus", "PCMU", "PCMA"],
            };
            let mut offered = self.names.clone();
            offered.dedup();
            return Err(Disagreement { kind: self.kind, wanted, offered, flow: terms.flow });
        }
        let best = |codec: &Codec| {
            let profile = tracks.iter().find(|track| track.codec == *codec).map(|track| track.facts.profile);
            let of_codec = self.codings.iter().filter(|coding| coding.payload.codec == *codec);
            of_codec.min_by_key(|coding| coding.distance(profile)).map(|coding| coding.payload.clone())
        };
        let mut payloads: Vec<Payload> = codecs.iter().filter_map(best).collect();
        if !terms.nack {
            payloads.iter_mut().for_each(|payload| payload.rtx = None);
        }
        Ok(payloads)
    }

    /// What may be said back of all of these.
    fn feedback(&self, payloads: &[Payload], terms: &Terms<'_>) -> Feedback {
        let first = payloads.first().and_then(|payload| self.coding(payload.number));
        let offered = first.map(|coding| coding.feedback).unwrap_or_default();
        let has_twcc = self.extensions.iter().any(|(_, name)| name == uri::TRANSPORT_CC);
        // Packets to players carry no numbers of the transport: a player that counts on them would say nothing at all.
        let transport_cc =
            offered.transport_cc && terms.transport_cc && has_twcc && terms.flow == Flow::Publish;
        Feedback {
            nack: offered.nack && terms.nack,
            transport_cc,
            // One of both says how much the way bears; a publisher gets the better one.
            remb: offered.remb && terms.flow == Flow::Play,
            ..offered
        }
    }

    /// What a payload type is offered as.
    #[must_use]
    pub fn coding(&self, number: u8) -> Option<&Coding> {
        self.codings.iter().find(|coding| coding.payload.number == number)
    }

    fn numbers(&self, feedback: Feedback, terms: &Terms<'_>, named: bool) -> Extensions {
        let number =
            |name: &str| self.extensions.iter().find(|(_, known)| known == name).map(|(number, _)| *number);
        let layered = terms.flow == Flow::Publish && !self.layers.is_empty();
        Extensions {
            mid: number(uri::MID).filter(|_| named),
            rid: number(uri::RID).filter(|_| layered),
            repaired_rid: number(uri::REPAIRED_RID).filter(|_| layered),
            transport_cc: number(uri::TRANSPORT_CC).filter(|_| feedback.transport_cc),
            abs_send_time: number(uri::ABS_SEND_TIME).filter(|_| feedback.remb && !feedback.transport_cc),
            playout_delay: number(uri::PLAYOUT_DELAY).filter(|_| terms.flow == Flow::Play),
            ..Extensions::default()
        }
    }
}

/// Extensions that were agreed on, with their names.
pub(super) fn extensions(numbers: &Extensions) -> impl Iterator<Item = (u8, &'static str)> {
    let all = [
        (numbers.mid, uri::MID),
        (numbers.rid, uri::RID),
        (numbers.repaired_rid, uri::REPAIRED_RID),
        (numbers.transport_cc, uri::TRANSPORT_CC),
        (numbers.abs_send_time, uri::ABS_SEND_TIME),
        (numbers.playout_delay, uri::PLAYOUT_DELAY),
    ];
    all.into_iter().filter_map(|(number, name)| number.map(|number| (number, name)))
}

/// What an m-line that is there and bundled offers, if it is of a kind that we carry.
fn open(description: &Description, section: &Section) -> Result<Option<Open>, SdpError> {
    let kind = match section.kind.as_str() {
        "audio" => Kind::Audio,
        "video" => Kind::Video,
        _ => return Ok(None),
    };
    if !matches!(
        section.protocol.as_str(),
        "UDP/TLS/RTP/SAVPF" | "TCP/TLS/RTP/SAVPF" | "UDP/TLS/RTP/SAVP" | "RTP/SAVPF"
    ) {
        return Ok(None);
    }
    if !section.has("rtcp-mux") && !section.has("bundle-only") {
        return Err(bad(format!("has an m-line of {} without a=rtcp-mux", section.kind)));
    }
    let directions = ["sendrecv", "sendonly", "recvonly", "inactive"];
    // What the m-line says comes before what is said of all.
    let own = directions.iter().find(|name| section.attribute(name).is_some());
    let direction = own.or_else(|| directions.iter().find(|name| description.attribute(name).is_some()));
    let direction = direction.copied().unwrap_or("sendrecv");
    let (codings, names) = codings(section, kind)?;
    Ok(Some(Open {
        kind,
        sends: matches!(direction, "sendrecv" | "sendonly"),
        takes: matches!(direction, "sendrecv" | "recvonly"),
        codings,
        names,
        extensions: section.all("extmap").filter_map(extension).collect(),
        sources: sources(section),
        layers: layers(section),
    }))
}

/// `3/sendonly urn:…`
fn extension(value: &str) -> Option<(u8, String)> {
    let mut words = value.split_ascii_whitespace();
    let number = words.next()?;
    let number = number.split_once('/').map_or(number, |(number, _)| number).parse().ok()?;
    let name = words.next()?;
    // 15 is reserved in headers of one byte.
    (!matches!(number, 0 | 15) && name.len() <= 128).then(|| (number, name.to_owned()))
}

/// `a=ssrc` and `a=ssrc-group:FID` (RFC 5576).
fn sources(section: &Section) -> Vec<Source> {
    let ssrc = |word: &str| word.parse::<u32>().ok();
    let pairs: Vec<(u32, u32)> = section
        .all("ssrc-group")
        .filter_map(|value| {
            let mut words = value.split_ascii_whitespace();
            (words.next()? == "FID").then_some(())?;
            Some((ssrc(words.next()?)?, ssrc(words.next()?)?))
        })
        .take(MAX_SOURCES)
        .collect();
    let mut all: Vec<Source> = Vec::new();
    for number in section.all("ssrc").filter_map(|value| ssrc(value.split_ascii_whitespace().next()?)) {
        let known = all.iter().any(|source| source.ssrc == number);
        if known || all.len() >= MAX_SOURCES || pairs.iter().any(|(_, rtx)| *rtx == number) {
            continue;
        }
        let rtx = pairs.iter().find(|(primary, _)| *primary == number).map(|(_, rtx)| *rtx);
        all.push(Source { ssrc: number, rtx });
    }
    all
}

/// `a=simulcast:send h;~m;l` (RFC 8853): of alternatives the first.
fn layers(section: &Section) -> Vec<Layer> {
    let Some(value) = section.attribute("simulcast") else { return Vec::new() };
    let words: Vec<&str> = value.split_ascii_whitespace().collect();
    let sent = words.windows(2).find_map(|pair| match pair {
        ["send", list] => Some(*list),
        _ => None,
    });
    let layer = |name: &str| {
        let name = name.split(',').next().unwrap_or_default();
        let (rid, paused) = name.strip_prefix('~').map_or((name, false), |rid| (rid, true));
        (!rid.is_empty() && rid.len() <= MAX_NAME && is_token(rid))
            .then(|| Layer { rid: rid.to_owned(), paused })
    };
    sent.unwrap_or_default().split(';').filter_map(layer).take(MAX_LAYERS).collect()
}

/// Whether a text is a name (RFC 8866 9, token) that fits into our answers.
fn is_token(text: &str) -> bool {
    let fits = |c: u8| c.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`{|}~".contains(&c);
    !text.is_empty() && text.bytes().all(fits)
}

/// Whether a text is one of ICE's (RFC 8839 5.4).
pub(super) fn is_ice(text: &str, least: usize) -> bool {
    let fits = |c: u8| c.is_ascii_alphanumeric() || matches!(c, b'+' | b'/' | b'-' | b'_' | b'=');
    (least..=256).contains(&text.len()) && text.bytes().all(fits)
}
