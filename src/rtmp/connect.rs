//! The `connect` command and its answer, with what Enhanced RTMP adds to both.

use super::message::{Command, status};
use crate::format::amf::Value;
use crate::format::flv::fourcc;
use crate::media::{Codec, Kind};

/// The codecs of Enhanced RTMP; a codec's place is its bit in a [`CodecSet`].
const CODECS: [Codec; 11] = [
    Codec::H264,
    Codec::H265,
    Codec::Av1,
    Codec::Vp9,
    Codec::Vp8,
    Codec::Aac,
    Codec::Mp3,
    Codec::Opus,
    Codec::Flac,
    Codec::Ac3,
    Codec::Eac3,
];
/// `FourCcInfoMask`: can decode, can forward.
const CAN_TAKE: u32 = 1 | 4;
/// What we say of each codec: we forward it.
const CAN_FORWARD: u32 = 4;
/// `capsEx`: multitrack and ModEx are read.
const CAPS_EX: u32 = 2 | 4;

/// A set of codecs, in 11 bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CodecSet(u16);

impl CodecSet {
    /// Every codec there is.
    pub const ALL: Self = Self(0x7FF);
    /// What every RTMP player takes in the old form: H.264, AAC, MP3 (and G.711).
    pub const LEGACY: Self = Self(1 | 1 << 5 | 1 << 6);

    /// Whether a player with this set takes a codec. Data and codecs without a FourCC pass.
    #[must_use]
    pub fn has(self, codec: Codec) -> bool {
        bit(|c| c == codec).is_none_or(|bit| self.0 & bit != 0)
    }

    /// As a number below 2048.
    #[must_use]
    pub const fn bits(self) -> u16 {
        self.0
    }

    fn add(&mut self, fourcc: &str) {
        match fourcc {
            "*" => *self = Self::ALL,
            _ => self.0 |= bit(|c| name(c) == fourcc).unwrap_or(0),
        }
    }
}

fn bit(is: impl Fn(Codec) -> bool) -> Option<u16> {
    CODECS.iter().position(|codec| is(*codec)).map(|n| 1 << n)
}

fn name(codec: Codec) -> String {
    String::from_utf8_lossy(&fourcc(codec).unwrap_or_default()).into_owned()
}

/// What a client says of itself when it connects.
#[derive(Debug, Clone, PartialEq)]
pub struct Connect {
    /// Application, with parameters if the URL has them there.
    pub app: String,
    /// URL up to the application.
    pub tc_url: String,
    /// Program and version, e.g. `FMLE/3.0 (compatible; FMSc/1.0)`.
    pub flash_version: String,
    /// Page that the player stands on.
    pub page_url: String,
    /// The Flash player's own URL.
    pub swf_url: String,
    /// AMF version of its commands: 0 or 3.
    pub object_encoding: f64,
    /// Codecs that it can take; all when it doesn't say.
    pub codecs: CodecSet,
}

/// Longest text kept of a connect, bytes.
const MAX_TEXT: usize = super::url::MAX_URL;

impl Connect {
    pub(super) fn parse(command: &Command) -> Self {
        let object = command.args.first().unwrap_or(&Value::Null);
        let text = |name| {
            let text = object.find(name).and_then(Value::as_str).unwrap_or("");
            text.chars().take(MAX_TEXT / 4).filter(|c| !c.is_control()).collect()
        };
        Self {
            app: text("app"),
            tc_url: text("tcUrl"),
            flash_version: text("flashVer"),
            page_url: text("pageUrl"),
            swf_url: text("swfUrl"),
            object_encoding: object.find("objectEncoding").and_then(Value::as_f64).unwrap_or(0.0),
            codecs: codecs(object),
        }
    }

    /// Command object and information of the `_result`.
    pub(super) fn answer(&self) -> [Value; 2] {
        let mut properties =
            vec![("fmsVer", "FMS/4,5,0,1".into()), ("capabilities", 127.0.into()), ("mode", 1.0.into())];
        properties.extend(our_codecs());
        let properties = Value::object(properties);
        let mut information = status("status", "NetConnection.Connect.Success", "Connection succeeded");
        if let Value::Object(pairs) = &mut information {
            pairs.push(("objectEncoding".to_owned(), self.object_encoding.into()));
            let server = Value::object([("version", env!("CARGO_PKG_VERSION").into())]);
            pairs.push(("data".to_owned(), server));
        }
        [properties, information]
    }
}

/// What Enhanced RTMP has both sides say in their command objects: that we carry all of its codecs.
pub(super) fn our_codecs() -> [(&'static str, Value); 4] {
    let map = |kind| {
        let codecs = CODECS.iter().filter(|codec| codec.kind() == kind);
        Value::Object(codecs.map(|codec| (name(*codec), CAN_FORWARD.into())).collect())
    };
    [
        ("capsEx", CAPS_EX.into()),
        ("fourCcList", Value::StrictArray(CODECS.iter().map(|codec| name(*codec).into()).collect())),
        ("videoFourCcInfoMap", map(Kind::Video)),
        ("audioFourCcInfoMap", map(Kind::Audio)),
    ]
}

/// What `fourCcList` (v1) or the info maps (v2) say. A client that says nothing of video or of audio gets all of
/// it: ffmpeg's player takes everything; it lists nothing unless told to, and then only video, as in v1.
fn codecs(object: &Value) -> CodecSet {
    let mut set = CodecSet::LEGACY;
    let mut said = Vec::new();
    let mut say = |fourcc: &str, takes: bool| {
        said.extend(CODECS.iter().find(|codec| name(**codec) == fourcc).map(|codec| codec.kind()));
        if takes {
            set.add(fourcc);
        }
    };
    if let Some(list) = object.find("fourCcList") {
        let items = list.items().iter().chain(list.pairs().iter().map(|(_, value)| value));
        for fourcc in items.filter_map(Value::as_str) {
            say(fourcc, true);
        }
    }
    for map in ["videoFourCcInfoMap", "audioFourCcInfoMap"] {
        for (fourcc, flags) in object.find(map).map(Value::pairs).unwrap_or_default() {
            let flags = flags.as_f64().unwrap_or(0.0);
            say(fourcc, (0.0..65536.0).contains(&flags) && to_bits(flags) & CAN_TAKE != 0);
        }
    }
    for codec in CODECS.iter().filter(|codec| !said.contains(&codec.kind())) {
        set.add(&name(*codec));
    }
    set
}

/// A number known to lie in 0 to 65535.
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "the range was checked")]
fn to_bits(flags: f64) -> u32 {
    flags as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    fn connect(pairs: Vec<(&str, Value)>) -> Connect {
        Connect::parse(&Command { name: "connect".into(), txn: 1.0, args: vec![Value::object(pairs)] })
    }

    #[test]
    fn a_client_that_lists_nothing_takes_all() {
        let c = connect(vec![("app", "live".into()), ("tcUrl", "rtmp://h/live".into())]);
        assert_eq!((&*c.app, &*c.tc_url, c.codecs), ("live", "rtmp://h/live", CodecSet::ALL));
        let c = Connect::parse(&Command { name: "connect".into(), txn: 1.0, args: vec![] });
        assert_eq!(c.app, "");
    }

    #[test]
    fn lists_and_maps_say_what_it_takes() {
        let list = Value::StrictArray(vec!["hvc1".into(), "Opus".into(), "ec-3".into(), "wxyz".into()]);
        let set = connect(vec![("fourCcList", list)]).codecs;
        for (codec, takes) in [
            (Codec::H264, true),
            (Codec::Aac, true),
            (Codec::H265, true),
            (Codec::Opus, true),
            (Codec::Eac3, true),
            (Codec::Av1, false),
            (Codec::Flac, false),
            (Codec::G711A, true),
            (Codec::Data, true),
        ] {
            assert_eq!(set.has(codec), takes, "{codec}");
        }
        let map = Value::object([("av01", 1.0.into()), ("vp09", 2.0.into()), ("hvc1", f64::NAN.into())]);
        let set = connect(vec![("videoFourCcInfoMap", map)]).codecs;
        assert!(set.has(Codec::Av1) && !set.has(Codec::Vp9) && !set.has(Codec::H265));
        assert!(set.has(Codec::Opus) && set.has(Codec::Flac), "nothing was said of audio");
        let any = Value::object([("*", 4.0.into())]);
        assert_eq!(connect(vec![("audioFourCcInfoMap", any)]).codecs, CodecSet::ALL);
    }

    #[test]
    fn the_sets_are_what_they_say() {
        for codec in &CODECS {
            assert!(CodecSet::ALL.has(*codec));
            assert_eq!(
                CodecSet::LEGACY.has(*codec),
                matches!(codec, Codec::H264 | Codec::Aac | Codec::Mp3),
                "{codec}"
            );
        }
    }
}
