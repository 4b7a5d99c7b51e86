use bytes::{BufMut, BytesMut};

use super::Value;
use super::decode::marker;

/// Several values one after another, as a command or data message holds them.
#[must_use]
pub fn encode_all<'a>(values: impl IntoIterator<Item = &'a Value>) -> BytesMut {
    let mut out = BytesMut::with_capacity(256);
    values.into_iter().for_each(|value| value.encode(&mut out));
    out
}

impl Value {
    /// Appends the value in AMF0. Names above 65535 bytes are cut there, since AMF0 can't hold them.
    pub fn encode(&self, out: &mut BytesMut) {
        match self {
            Self::Boolean(b) => {
                out.put_u8(marker::BOOLEAN);
                out.put_u8(u8::from(*b));
            }
            Self::ByteArray(bytes) => {
                // AMF0 has no bytes: switch to AMF3 for this one value.
                const MAX_U28: usize = (1 << 28) - 1;
                let len = bytes.len().min(MAX_U28);
                out.put_slice(&[marker::AVMPLUS, super::amf3::BYTE_ARRAY]);
                put_u29(out, u32::try_from(len).unwrap_or(0) << 1 | 1);
                out.put_slice(bytes.get(..len).unwrap_or_default());
            }
            Self::Date { ms, zone } => {
                out.put_u8(marker::DATE);
                out.put_f64(*ms);
                out.put_i16(*zone);
            }
            Self::EcmaArray(pairs) => {
                out.put_u8(marker::ECMA_ARRAY);
                out.put_u32(count(pairs.len()));
                put_pairs(out, pairs);
            }
            Self::Null => out.put_u8(marker::NULL),
            Self::Number(n) => {
                out.put_u8(marker::NUMBER);
                out.put_f64(*n);
            }
            Self::Object(pairs) => {
                out.put_u8(marker::OBJECT);
                put_pairs(out, pairs);
            }
            Self::StrictArray(items) => {
                out.put_u8(marker::STRICT_ARRAY);
                out.put_u32(count(items.len()));
                items.iter().for_each(|item| item.encode(out));
            }
            Self::String(text) => match u16::try_from(text.len()) {
                Ok(len) => {
                    out.put_u8(marker::STRING);
                    out.put_u16(len);
                    out.put_slice(text.as_bytes());
                }
                Err(_) => put_long(out, marker::LONG_STRING, text),
            },
            Self::TypedObject { class, pairs } => {
                out.put_u8(marker::TYPED_OBJECT);
                put_name(out, class);
                put_pairs(out, pairs);
            }
            Self::Undefined => out.put_u8(marker::UNDEFINED),
            Self::Unsupported => out.put_u8(marker::UNSUPPORTED),
            Self::Xml(text) => put_long(out, marker::XML, text),
        }
    }
}

fn put_pairs(out: &mut BytesMut, pairs: &[(String, Value)]) {
    for (name, value) in pairs {
        put_name(out, name);
        value.encode(out);
    }
    out.put_slice(&[0, 0, marker::OBJECT_END]);
}

fn put_name(out: &mut BytesMut, name: &str) {
    let mut len = name.len().min(usize::from(u16::MAX));
    while !name.is_char_boundary(len) {
        len -= 1; // 0 is a boundary
    }
    out.put_u16(u16::try_from(len).unwrap_or(0));
    out.put_slice(name.get(..len).unwrap_or_default().as_bytes());
}

fn put_long(out: &mut BytesMut, marker: u8, text: &str) {
    out.put_u8(marker);
    out.put_u32(count(text.len()));
    out.put_slice(text.as_bytes());
}

/// AMF3 1.3.1: seven bits a byte, the top bit saying that more follow; the fourth byte holds eight.
fn put_u29(out: &mut BytesMut, n: u32) {
    let low7 = |shift: u32| u8::try_from(n >> shift & 0x7F).unwrap_or(0);
    match n {
        0..0x80 => out.put_u8(low7(0)),
        0x80..0x4000 => out.put_slice(&[low7(7) | 0x80, low7(0)]),
        0x4000..0x20_0000 => out.put_slice(&[low7(14) | 0x80, low7(7) | 0x80, low7(0)]),
        _ => out.put_slice(&[
            low7(22) | 0x80,
            low7(15) | 0x80,
            low7(8) | 0x80,
            u8::try_from(n & 0xFF).unwrap_or(0),
        ]),
    }
}

/// Our own trees never reach 2^32 elements or bytes.
fn count(len: usize) -> u32 {
    u32::try_from(len).unwrap_or(u32::MAX)
}
