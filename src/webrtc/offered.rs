//! Codecs that an m-line offers: `a=rtpmap`, `a=fmtp`, `a=rtcp-fb`.

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD};

use super::negotiated::{Feedback, Format, Payload};
use super::sdp::{SdpError, Section};
use crate::media::{Codec, Kind};

/// The longest `a=fmtp` that is repeated.
const MAX_FORMAT: usize = 1024;
/// The most bytes of parameter sets and configs in a description.
const MAX_SET: usize = 1024;
/// The most names that are told of codecs nobody here knows.
const MAX_NAMES: usize = 32;

/// One way of coding that is offered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Coding {
    /// What it is.
    pub payload: Payload,
    /// Its name, rate and channels, as they were written.
    pub map: String,
    /// Its parameters, as they were written; may be empty.
    pub parameters: String,
    /// What may be said back of it.
    pub feedback: Feedback,
}

impl Coding {
    /// How well it fits a stream of `profile`: the less the better.
    pub(super) fn distance(&self, profile: Option<u32>) -> u32 {
        let format = &self.payload.format;
        match self.payload.codec {
            Codec::H264 => {
                let own = format.profile_level_id.map(|[profile, ..]| u32::from(profile));
                // Whole frames in one packet each are too long for networks.
                let single = u32::from(format.packetization_mode != 1) * 10;
                single + u32::from(profile.is_some() && own != profile)
            }
            Codec::Av1 | Codec::Vp9 => u32::from(format.profile).abs_diff(profile.unwrap_or(0)),
            _ => 0,
        }
    }
}

/// What an m-line offers that we know, in its order, and all names.
pub(super) fn codings(section: &Section, kind: Kind) -> Result<(Vec<Coding>, Vec<String>), SdpError> {
    let mut codings: Vec<Coding> = Vec::new();
    let mut names: Vec<String> = Vec::new();
    let mut again: Vec<(u8, u8)> = Vec::new();
    for word in &section.formats {
        let number: u8 = word.parse().ok().filter(|number| *number < 128).ok_or_else(|| {
            SdpError::Offer(format!("has the payload type {:?}", word.chars().take(20).collect::<String>()))
        })?;
        if codings.iter().any(|coding| coding.payload.number == number) {
            continue;
        }
        let of = |name: &'static str| {
            section.all(name).find_map(|value| {
                let (first, rest) = value.split_once(char::is_whitespace)?;
                (first == word.as_str()).then(|| rest.trim())
            })
        };
        let Some(map) = of("rtpmap").or(match number {
            0 => Some("PCMU/8000"),
            8 => Some("PCMA/8000"),
            14 => Some("MPA/90000"),
            _ => None,
        }) else {
            continue;
        };
        let mut parts = map.split('/');
        let name = parts.next().unwrap_or_default();
        let clock_rate: u32 = parts.next().and_then(|rate| rate.parse().ok()).unwrap_or(0);
        let channels: u8 = parts.next().and_then(|n| n.parse().ok()).unwrap_or(1);
        let parameters = of("fmtp").filter(|text| text.len() <= MAX_FORMAT).unwrap_or_default();
        if name.eq_ignore_ascii_case("rtx") {
            if let Some(of) = value(parameters, "apt").and_then(|apt| apt.parse().ok()) {
                again.push((of, number));
            }
            continue;
        }
        let Some(codec) = codec(name, clock_rate, channels, kind) else {
            let help = ["red", "ulpfec", "flexfec-03", "telephone-event", "CN"];
            if names.len() < MAX_NAMES && !help.iter().any(|known| known.eq_ignore_ascii_case(name)) {
                names.push(name.chars().filter(|c| !c.is_control()).take(24).collect());
            }
            continue;
        };
        if names.len() < MAX_NAMES && !names.iter().any(|known| known == codec.name()) {
            names.push(codec.name().to_owned());
        }
        let payload = Payload {
            codec,
            number,
            rtx: None,
            clock_rate,
            channels: if kind == Kind::Audio { channels } else { 0 },
            format: format(codec, parameters),
        };
        codings.push(Coding {
            payload,
            map: map.to_owned(),
            parameters: parameters.to_owned(),
            feedback: feedback(section, word),
        });
    }
    for (of, number) in again {
        // A number can't be both.
        if !codings.iter().any(|coding| coding.payload.number == number)
            && let Some(coding) = codings.iter_mut().find(|coding| coding.payload.number == of)
        {
            coding.payload.rtx = Some(number);
        }
    }
    Ok((codings, names))
}

/// The codec of a name (RFC 6184, 7798, 7741, 9628, AV1 RTP 1.0; RFC 7587, 3551, 3640, 6416).
fn codec(name: &str, clock_rate: u32, channels: u8, kind: Kind) -> Option<Codec> {
    const VIDEO: [(&str, Codec); 6] = [
        ("AV1", Codec::Av1),
        ("H264", Codec::H264),
        ("H265", Codec::H265),
        ("HEVC", Codec::H265),
        ("VP8", Codec::Vp8),
        ("VP9", Codec::Vp9),
    ];
    let is = |known: &str| known.eq_ignore_ascii_case(name);
    if kind == Kind::Video {
        return VIDEO.iter().find(|(known, _)| is(known) && clock_rate == 90_000).map(|(_, codec)| *codec);
    }
    if is("opus") {
        return (clock_rate == 48_000 && channels == 2).then_some(Codec::Opus);
    }
    let codec = [
        ("AC3", Codec::Ac3),
        ("EAC3", Codec::Eac3),
        ("MP4A-LATM", Codec::Aac),
        ("MPA", Codec::Mp3),
        ("MPEG4-GENERIC", Codec::Aac),
        ("PCMA", Codec::G711A),
        ("PCMU", Codec::G711U),
    ]
    .iter()
    .find(|(known, _)| is(known))
    .map(|(_, codec)| *codec)?;
    let fits = match codec {
        Codec::G711A | Codec::G711U => clock_rate == 8000 && channels == 1,
        Codec::Mp3 => clock_rate == 90_000,
        _ => (8000..=192_000).contains(&clock_rate) && (1..=8).contains(&channels),
    };
    fits.then_some(codec)
}

/// The value of a parameter.
fn value<'a>(parameters: &'a str, name: &str) -> Option<&'a str> {
    parameters.split(';').find_map(|pair| {
        let (key, value) = pair.split_once('=')?;
        key.trim().eq_ignore_ascii_case(name).then(|| value.trim())
    })
}

fn format(codec: Codec, parameters: &str) -> Format {
    let number = |name| value(parameters, name).and_then(|value| value.parse::<u8>().ok()).unwrap_or(0);
    let is_on = |name| value(parameters, name) == Some("1");
    let sets = |name| {
        let texts = value(parameters, name).unwrap_or_default().split(',');
        texts.filter_map(base64).filter(|set| !set.is_empty()).take(4).collect::<Vec<_>>()
    };
    match codec {
        Codec::H264 => Format {
            packetization_mode: number("packetization-mode"),
            profile_level_id: value(parameters, "profile-level-id")
                .and_then(|text| hex(text)?.try_into().ok()),
            parameter_sets: sets("sprop-parameter-sets"),
            ..Format::default()
        },
        Codec::H265 => Format {
            parameter_sets: ["sprop-vps", "sprop-sps", "sprop-pps"].into_iter().flat_map(sets).collect(),
            ..Format::default()
        },
        Codec::Av1 => Format { profile: number("profile"), ..Format::default() },
        Codec::Vp9 => Format { profile: number("profile-id"), ..Format::default() },
        Codec::Opus => Format {
            stereo: is_on("stereo") || is_on("sprop-stereo"),
            in_band_fec: is_on("useinbandfec"),
            ..Format::default()
        },
        Codec::Aac => Format {
            config: value(parameters, "config").and_then(hex).unwrap_or_default(),
            size_length: number("sizelength").min(32),
            index_length: number("indexlength").min(32),
            index_delta_length: number("indexdeltalength").min(32),
            ..Format::default()
        },
        _ => Format::default(),
    }
}

fn base64(text: &str) -> Option<Vec<u8>> {
    let text = text.trim();
    (text.len() <= MAX_SET).then(|| STANDARD.decode(text).or_else(|_| STANDARD_NO_PAD.decode(text)).ok())?
}

fn hex(text: &str) -> Option<Vec<u8>> {
    let digit = |c: u8| char::from(c).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    let pair = |pair: &[u8]| match pair {
        [high, low] => Some(digit(*high)? << 4 | digit(*low)?),
        _ => None,
    };
    (text.len() <= MAX_SET * 2).then(|| text.as_bytes().chunks(2).map(pair).collect())?
}

/// `a=rtcp-fb` of a payload type, and of all (`*`).
fn feedback(section: &Section, number: &str) -> Feedback {
    let mut feedback = Feedback::default();
    for line in section.all("rtcp-fb") {
        let Some((of, what)) = line.split_once(char::is_whitespace) else { continue };
        if of != number && of != "*" {
            continue;
        }
        match what.trim() {
            "nack" => feedback.nack = true,
            "nack pli" => feedback.pli = true,
            "ccm fir" => feedback.fir = true,
            "transport-cc" => feedback.transport_cc = true,
            "goog-remb" => feedback.remb = true,
            _ => {}
        }
    }
    feedback
}
