//! Action Message Format: the values in RTMP commands and FLV script data.
//!
//! AMF0 whole (Adobe, "Action Message Format – AMF 0", 2007); AMF3 (2013) as far as encoders use it, that
//! is behind AMF0's `avmplus` switch: everything but vectors and dictionaries.
//!
//! [`Decoder`] reads value after value, [`decode_all`] a whole message; [`Value::encode`] writes AMF0.
//! References are resolved (a referred object is read again where it stands), so a [`Value`] is a plain
//! tree. What a peer can make us do is bounded by [`MAX_DEPTH`], [`MAX_ITEMS`] and [`MAX_TEXT`] over one
//! message. Errors name the byte they stand at.
//!
//! ```
//! use rillbox::format::amf::{self, Value};
//!
//! let mut message = bytes::BytesMut::new();
//! Value::from("connect").encode(&mut message);
//! Value::from(1.0).encode(&mut message);
//! Value::object([("app", "live".into()), ("audioCodecs", 4071.0.into())]).encode(&mut message);
//!
//! let values = amf::decode_all(&message)?;
//! assert_eq!(values[0].as_str(), Some("connect"));
//! assert_eq!(values[2].find("app").and_then(Value::as_str), Some("live"));
//! # Ok::<(), amf::AmfError>(())
//! ```

mod amf3;
mod decode;
mod encode;

pub use decode::{Decoder, decode_all};
pub use encode::encode_all;

use crate::media::{Meta, MetaValue};

/// How deep values may nest; real messages reach 4.
pub const MAX_DEPTH: u8 = 16;
/// How many values, names and references one message may hold. The largest seen in the field are the
/// key frame tables of recorded files, some thousands.
pub const MAX_ITEMS: u32 = 32_768;
/// How many bytes of text and byte arrays one message may unfold to, references counted each time.
pub const MAX_TEXT: usize = 1 << 20;
/// Texts and names longer than this don't enter a stream's [`Meta`], which lives as long as the stream.
pub const MAX_META_TEXT: usize = 1024;

/// Why bytes are not AMF that this server takes. `at` is counted from the start of the message.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AmfError {
    /// A reference points at an object that was not there before it.
    #[error("AMF at byte {at}: reference to {what} {index}, of which there are only {count}")]
    BadReference {
        /// `"object"`, `"string"` or `"traits"`.
        what: &'static str,
        /// The index that was referred to.
        index: usize,
        /// How many there are.
        count: usize,
        /// Where the reference stands.
        at: usize,
    },
    /// Values nest deeper than [`MAX_DEPTH`]; an object that refers to itself does, too.
    #[error("AMF at byte {at}: values nest deeper than {MAX_DEPTH}")]
    TooDeep {
        /// Where the innermost value stands.
        at: usize,
    },
    /// More than [`MAX_ITEMS`] values or [`MAX_TEXT`] bytes of text.
    #[error("AMF at byte {at}: message holds more than {MAX_ITEMS} values or {MAX_TEXT} bytes of text")]
    TooLarge {
        /// Where the bound was passed.
        at: usize,
    },
    /// The bytes end inside a value.
    #[error("AMF at byte {at}: ends inside {what}")]
    Truncated {
        /// The element that is not whole.
        what: &'static str,
        /// Where that element stands.
        at: usize,
    },
    /// A type marker that AMF doesn't define.
    #[error("AMF at byte {at}: unknown AMF{version} type marker {marker:#04x}")]
    UnknownMarker {
        /// 0 or 3.
        version: u8,
        /// The marker.
        marker: u8,
        /// Where it stands.
        at: usize,
    },
    /// Defined, but of a kind that no encoder sends and this server doesn't read.
    #[error("AMF at byte {at}: {what} is not supported")]
    Unsupported {
        /// What it is.
        what: &'static str,
        /// Where it stands.
        at: usize,
    },
}

/// One AMF value. The section numbers are those of the AMF0 specification.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// 2.3 A yes or no.
    Boolean(bool),
    /// AMF3 3.14: bytes. Written with the `avmplus` switch.
    ByteArray(Vec<u8>),
    /// 2.13 A date.
    Date {
        /// Milliseconds since 1970, UTC.
        ms: f64,
        /// Reserved by the specification; some encoders put minutes from UTC here.
        zone: i16,
    },
    /// 2.10 An array by name: what `onMetaData` mostly is.
    EcmaArray(Vec<(String, Value)>),
    /// 2.7 Null.
    Null,
    /// 2.2 A double; AMF3 integers become one, too.
    Number(f64),
    /// 2.5 An anonymous object; pairs in the order sent, names may repeat.
    Object(Vec<(String, Value)>),
    /// 2.12 An array by position.
    StrictArray(Vec<Value>),
    /// 2.4 and 2.14 A text, short or long; what is not UTF-8 became U+FFFD.
    String(String),
    /// 2.18 An object of a named class.
    TypedObject {
        /// Name of the class.
        class: String,
        /// Its fields.
        pairs: Vec<(String, Value)>,
    },
    /// 2.8 Undefined.
    Undefined,
    /// 2.15 A value that the sender could not express. Movie clips and record sets become this, too.
    Unsupported,
    /// 2.17 An XML document as text.
    Xml(String),
}

impl Value {
    /// An object from names and values.
    #[must_use]
    pub fn object<'a>(pairs: impl IntoIterator<Item = (&'a str, Self)>) -> Self {
        Self::Object(pairs.into_iter().map(|(name, value)| (name.to_owned(), value)).collect())
    }

    /// The yes or no, if it is one.
    #[must_use]
    pub fn as_bool(&self) -> Option<bool> {
        match self {
            Self::Boolean(b) => Some(*b),
            _ => None,
        }
    }

    /// The number, if it is one.
    #[must_use]
    pub fn as_f64(&self) -> Option<f64> {
        match self {
            Self::Number(n) => Some(*n),
            _ => None,
        }
    }

    /// The text, if it is one.
    #[must_use]
    pub fn as_str(&self) -> Option<&str> {
        match self {
            Self::String(s) | Self::Xml(s) => Some(s),
            _ => None,
        }
    }

    /// The names and values of an object or ECMA array; empty for everything else.
    #[must_use]
    pub fn pairs(&self) -> &[(String, Self)] {
        match self {
            Self::EcmaArray(pairs) | Self::Object(pairs) | Self::TypedObject { pairs, .. } => pairs,
            _ => &[],
        }
    }

    /// The elements of a strict array; empty for everything else.
    #[must_use]
    pub fn items(&self) -> &[Self] {
        match self {
            Self::StrictArray(items) => items,
            _ => &[],
        }
    }

    /// The first value of that name in an object or ECMA array.
    #[must_use]
    pub fn find(&self, name: &str) -> Option<&Self> {
        self.pairs().iter().find(|(n, _)| n == name).map(|(_, value)| value)
    }

    /// Whether it is null or undefined.
    #[must_use]
    pub fn is_null(&self) -> bool {
        matches!(self, Self::Null | Self::Undefined)
    }

    /// Its numbers, yeses and texts as a stream's metadata. Nested values, and names or texts above
    /// [`MAX_META_TEXT`], are left out.
    #[must_use]
    pub fn to_meta(&self) -> Meta {
        let mut meta = Meta::default();
        for (name, value) in self.pairs() {
            let value = match value {
                Self::Boolean(b) => MetaValue::Bool(*b),
                Self::Number(n) => MetaValue::Number(*n),
                Self::String(s) if s.len() <= MAX_META_TEXT => MetaValue::Text(s.clone()),
                _ => continue,
            };
            if name.len() <= MAX_META_TEXT {
                meta.set(name, value);
            }
        }
        meta
    }
}

impl From<bool> for Value {
    fn from(b: bool) -> Self {
        Self::Boolean(b)
    }
}

impl From<f64> for Value {
    fn from(n: f64) -> Self {
        Self::Number(n)
    }
}

impl From<u32> for Value {
    fn from(n: u32) -> Self {
        Self::Number(f64::from(n))
    }
}

impl From<&str> for Value {
    fn from(s: &str) -> Self {
        Self::String(s.to_owned())
    }
}

impl From<String> for Value {
    fn from(s: String) -> Self {
        Self::String(s)
    }
}

impl From<&MetaValue> for Value {
    fn from(value: &MetaValue) -> Self {
        match value {
            MetaValue::Bool(b) => Self::Boolean(*b),
            MetaValue::Number(n) => Self::Number(*n),
            MetaValue::Text(s) => Self::String(s.clone()),
        }
    }
}

/// An ECMA array, as `onMetaData` carries it.
impl From<&Meta> for Value {
    fn from(meta: &Meta) -> Self {
        Self::EcmaArray(meta.iter().map(|(name, value)| (name.to_owned(), value.into())).collect())
    }
}

#[cfg(test)]
mod tests;
