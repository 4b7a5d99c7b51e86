//! The text of a multivariant playlist (RFC 8216 4.3.4): what there is to choose from.

use super::text::{Base, Link, Text};
use crate::media::{Codec, Kind, Track};
use crate::segments::{self, Rendition, State};

/// Whether a stream has but one playlist, which then needs no other that leads to it.
pub(super) fn is_single(state: &State) -> bool {
    state.form == segments::Form::Ts && state.renditions.len() == 1
}

/// The playlist of playlists. `stem` is the stream's name with its app: renditions have their playlists below it.
/// With `single` the link is to the stream's own name, as SRS has it.
pub(super) fn playlist(state: &State, stem: &str, single: bool) -> Text {
    let mut text = Text::new();
    text.line("#EXTM3U");
    let base = Base { playlist: stem, prefix: "" };
    let groups = groups(state);
    let version = if state.form == segments::Form::Ts { 3 } else { 6 };
    text.write(format_args!("#EXT-X-VERSION:{version}\n"));
    for group in &groups {
        for (place, rendition) in group.renditions.iter().enumerate() {
            let Some(track) = audio(rendition) else { continue };
            text.write(format_args!("#EXT-X-MEDIA:TYPE=AUDIO,GROUP-ID=\"{}\",NAME=\"", group.id));
            text.put(&name(&group.renditions, place));
            text.put("\"");
            if let Some(language) = language(&track.language) {
                text.write(format_args!(",LANGUAGE=\"{language}\""));
            }
            text.put(if place == 0 { ",DEFAULT=YES,AUTOSELECT=YES" } else { ",DEFAULT=NO,AUTOSELECT=YES" });
            if track.facts.channels > 0 {
                text.write(format_args!(",CHANNELS=\"{}\"", track.facts.channels));
            }
            // What is muxed with the picture has no playlist of its own.
            if rendition.kind == Kind::Audio && !(groups_are_main(state) && place == 0) {
                text.put(",URI=\"");
                text.link(&base.link(&format!("{stem}/{}.m3u8", rendition.id)), Link::Playlist);
                text.put("\"");
            }
            text.line("");
        }
    }
    for main in mains(state) {
        let with: Vec<Option<&Group<'_>>> = match groups.len() {
            0 => vec![None],
            _ => groups.iter().map(Some).collect(),
        };
        for group in with {
            // Without a picture each group has its own first sound.
            let main =
                match group.filter(|_| groups_are_main(state)).and_then(|group| group.renditions.first()) {
                    Some(first) => first,
                    None => main,
                };
            variant(&mut text, state, main, group);
            let link = if single {
                base.link(&format!("{stem}.m3u8"))
            } else {
                base.link(&format!("{stem}/{}.m3u8", main.id))
            };
            text.link(&link, Link::Playlist);
            text.line("");
        }
    }
    text
}

/// Renditions of sound in one coding, the preferred one first.
struct Group<'a> {
    id: &'static str,
    renditions: Vec<&'a Rendition>,
}

/// Whether there is no picture, so that the variants are of sound.
fn groups_are_main(state: &State) -> bool {
    !state.renditions.iter().any(|rendition| rendition.kind == Kind::Video)
}

/// What a variant is of, each for itself: pictures, or all sound if there are none.
fn mains(state: &State) -> Vec<&Rendition> {
    if groups_are_main(state) {
        return state.renditions.first().into_iter().collect();
    }
    match state.form {
        // Further pictures lack the sound that is muxed with the first.
        segments::Form::Ts => state.main().into_iter().collect(),
        segments::Form::Fmp4 => {
            state.renditions.iter().filter(|rendition| rendition.kind == Kind::Video).collect()
        }
    }
}

/// Sound by coding: a player that can't decode one takes another group.
fn groups(state: &State) -> Vec<Group<'_>> {
    let mut groups: Vec<Group<'_>> = Vec::new();
    for rendition in &state.renditions {
        let muxed = rendition.kind == Kind::Video;
        let Some(track) = audio(rendition) else { continue };
        if muxed && !state.renditions.iter().any(|other| other.kind == Kind::Audio) {
            continue;
        }
        let id = group_id(track.codec);
        match groups.iter_mut().find(|group| group.id == id || state.form == segments::Form::Ts) {
            Some(group) => group.renditions.push(rendition),
            None => groups.push(Group { id, renditions: vec![rendition] }),
        }
    }
    // One sound that is all there is needs no group.
    if groups_are_main(state) {
        groups.retain(|group| group.renditions.len() > 1 || state.renditions.len() > 1);
    }
    groups
}

fn audio(rendition: &Rendition) -> Option<&Track> {
    rendition.tracks.iter().find(|track| track.kind() == Kind::Audio)
}

const fn group_id(codec: Codec) -> &'static str {
    match codec {
        Codec::Aac => "aac",
        Codec::Ac3 => "ac3",
        Codec::Eac3 => "eac3",
        Codec::Flac => "flac",
        Codec::Mp3 => "mp3",
        Codec::Opus => "opus",
        _ => "audio",
    }
}

/// `EXT-X-STREAM-INF` of `main` with one of `group`.
fn variant(text: &mut Text, state: &State, main: &Rendition, group: Option<&Group<'_>>) {
    let others = || group.into_iter().flat_map(|group| &group.renditions).filter(|other| other.id != main.id);
    // With the heaviest sound (RFC 8216 4.3.4.2).
    let peak =
        others().map(|other| other.bandwidth.peak).max().filter(|_| !groups_are_main(state)).unwrap_or(0);
    let average =
        others().map(|other| other.bandwidth.average).max().filter(|_| !groups_are_main(state)).unwrap_or(0);
    let peak = main.bandwidth.peak.saturating_add(peak).max(1);
    let average = main.bandwidth.average.saturating_add(average).clamp(1, peak);
    text.write(format_args!("#EXT-X-STREAM-INF:BANDWIDTH={peak},AVERAGE-BANDWIDTH={average}"));
    let mut codecs: Vec<&str> = Vec::new();
    for list in std::iter::once(&*main.codecs).chain(others().map(|other| &*other.codecs)) {
        for codec in list.split(',').filter(|codec| !codec.is_empty()) {
            if !codecs.contains(&codec) {
                codecs.push(codec);
            }
        }
    }
    if !codecs.is_empty() {
        text.write(format_args!(",CODECS=\"{}\"", codecs.join(",")));
    }
    if let Some((width, height)) = main.resolution() {
        text.write(format_args!(",RESOLUTION={width}x{height}"));
    }
    if let Some(rate) = main.frame_rate.filter(|_| main.kind == Kind::Video) {
        text.write(format_args!(",FRAME-RATE={}.{:03}", rate / 1000, rate % 1000));
    }
    if let Some(group) = group {
        text.write(format_args!(",AUDIO=\"{}\"", group.id));
    }
    text.line("");
}

/// What a viewer is shown of a rendition; each of a group its own.
fn name(renditions: &[&Rendition], place: usize) -> String {
    fn known(rendition: &Rendition) -> Option<&str> {
        audio(rendition).and_then(|track| language(&track.language))
    }
    let own = renditions.get(place).and_then(|rendition| known(rendition));
    let same = |language| renditions.iter().filter(|other| known(other) == Some(language)).count();
    match own {
        Some(language) if same(language) == 1 => language.to_owned(),
        Some(language) => format!("{language} {}", place + 1),
        None => format!("Audio {}", place + 1),
    }
}

/// A language as RFC 5646 wants it: in two letters where there are two, `None` where unknown.
fn language(code: &[u8; 3]) -> Option<&str> {
    let text = std::str::from_utf8(code).ok().filter(|text| text.bytes().all(|c| c.is_ascii_lowercase()))?;
    if matches!(text, "und" | "mis" | "zxx") {
        return None;
    }
    let short = LANGUAGES.iter().find(|(long, _)| long.split('/').any(|long| long == text));
    Some(short.map_or(text, |(_, short)| *short))
}

/// ISO 639-2 (both forms where there are two) and ISO 639-1 of languages that streams come in.
const LANGUAGES: [(&str, &str); 60] = [
    ("afr", "af"),
    ("alb/sqi", "sq"),
    ("ara", "ar"),
    ("arm/hye", "hy"),
    ("aze", "az"),
    ("baq/eus", "eu"),
    ("bel", "be"),
    ("ben", "bn"),
    ("bul", "bg"),
    ("bur/mya", "my"),
    ("cat", "ca"),
    ("chi/zho", "zh"),
    ("cze/ces", "cs"),
    ("dan", "da"),
    ("dut/nld", "nl"),
    ("eng", "en"),
    ("est", "et"),
    ("fin", "fi"),
    ("fre/fra", "fr"),
    ("geo/kat", "ka"),
    ("ger/deu", "de"),
    ("gle", "ga"),
    ("glg", "gl"),
    ("gre/ell", "el"),
    ("heb", "he"),
    ("hin", "hi"),
    ("hrv", "hr"),
    ("hun", "hu"),
    ("ice/isl", "is"),
    ("ind", "id"),
    ("ita", "it"),
    ("jpn", "ja"),
    ("kaz", "kk"),
    ("khm", "km"),
    ("kor", "ko"),
    ("lao", "lo"),
    ("lav", "lv"),
    ("lit", "lt"),
    ("mac/mkd", "mk"),
    ("may/msa", "ms"),
    ("mon", "mn"),
    ("nor", "no"),
    ("per/fas", "fa"),
    ("pol", "pl"),
    ("por", "pt"),
    ("rum/ron", "ro"),
    ("rus", "ru"),
    ("slo/slk", "sk"),
    ("slv", "sl"),
    ("spa", "es"),
    ("srp", "sr"),
    ("swa", "sw"),
    ("swe", "sv"),
    ("tam", "ta"),
    ("tel", "te"),
    ("tha", "th"),
    ("tur", "tr"),
    ("ukr", "uk"),
    ("urd", "ur"),
    ("vie", "vi"),
];
