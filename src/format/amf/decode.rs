use super::amf3::Tables;
use super::{AmfError, MAX_DEPTH, MAX_ITEMS, MAX_TEXT, Value};

/// AMF0 type markers (section 2.1).
pub(super) mod marker {
    pub(crate) const NUMBER: u8 = 0x00;
    pub(crate) const BOOLEAN: u8 = 0x01;
    pub(crate) const STRING: u8 = 0x02;
    pub(crate) const OBJECT: u8 = 0x03;
    pub(crate) const MOVIE_CLIP: u8 = 0x04;
    pub(crate) const NULL: u8 = 0x05;
    pub(crate) const UNDEFINED: u8 = 0x06;
    pub(crate) const REFERENCE: u8 = 0x07;
    pub(crate) const ECMA_ARRAY: u8 = 0x08;
    pub(crate) const OBJECT_END: u8 = 0x09;
    pub(crate) const STRICT_ARRAY: u8 = 0x0A;
    pub(crate) const DATE: u8 = 0x0B;
    pub(crate) const LONG_STRING: u8 = 0x0C;
    pub(crate) const UNSUPPORTED: u8 = 0x0D;
    pub(crate) const RECORD_SET: u8 = 0x0E;
    pub(crate) const XML: u8 = 0x0F;
    pub(crate) const TYPED_OBJECT: u8 = 0x10;
    pub(crate) const AVMPLUS: u8 = 0x11;
}

/// All values of a message.
///
/// # Errors
/// [`AmfError`], for the first value that can't be read.
pub fn decode_all(bytes: &[u8]) -> Result<Vec<Value>, AmfError> {
    let mut decoder = Decoder::new(bytes);
    let mut values = Vec::new();
    while !decoder.is_empty() {
        values.push(decoder.value()?);
    }
    Ok(values)
}

/// Reads the values of one message, one after another; they share references and bounds.
#[derive(Debug)]
pub struct Decoder<'a> {
    pub(super) bytes: &'a [u8],
    pub(super) at: usize,
    items: u32,
    text: usize,
    /// Where the contents of each object stand that a reference can point at.
    objects: Vec<Complex>,
    /// While a referred object is read again, tables don't grow.
    pub(super) replay: bool,
    pub(super) amf3: Tables,
}

#[derive(Debug, Clone, Copy)]
struct Complex {
    marker: u8,
    at: usize,
}

impl<'a> Decoder<'a> {
    /// A decoder at the start of `bytes`.
    #[must_use]
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0, items: 0, text: 0, objects: Vec::new(), replay: false, amf3: Tables::default() }
    }

    /// Whether all bytes are read.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.at >= self.bytes.len()
    }

    /// How many bytes are read.
    #[must_use]
    pub fn position(&self) -> usize {
        self.at
    }

    /// The next value.
    ///
    /// An object or ECMA array whose end marker is missing because the message is over counts as whole:
    /// some encoders cut it off.
    ///
    /// # Errors
    /// [`AmfError`]; the decoder is of no more use then.
    pub fn value(&mut self) -> Result<Value, AmfError> {
        self.value_in(0)
    }

    fn value_in(&mut self, depth: u8) -> Result<Value, AmfError> {
        let at = self.at;
        let marker = self.u8("a type marker")?;
        self.enter(depth, at)?;
        match marker {
            marker::NUMBER => Ok(Value::Number(self.f64("a number")?)),
            marker::BOOLEAN => Ok(Value::Boolean(self.u8("a boolean")? != 0)),
            marker::STRING => Ok(Value::String(self.short_text("a string")?)),
            marker::NULL => Ok(Value::Null),
            marker::UNDEFINED => Ok(Value::Undefined),
            marker::REFERENCE => self.reference(depth),
            marker::DATE => {
                let ms = self.f64("a date")?;
                let zone = i16::from_be_bytes(self.array("a date's time zone")?);
                Ok(Value::Date { ms, zone })
            }
            marker::LONG_STRING => Ok(Value::String(self.long_text("a long string")?)),
            marker::XML => Ok(Value::Xml(self.long_text("an XML document")?)),
            // Reserved by the specification, without contents.
            marker::UNSUPPORTED | marker::MOVIE_CLIP | marker::RECORD_SET => Ok(Value::Unsupported),
            marker::OBJECT | marker::ECMA_ARRAY | marker::STRICT_ARRAY | marker::TYPED_OBJECT => {
                if !self.replay {
                    self.objects.push(Complex { marker, at: self.at });
                }
                self.complex(marker, depth)
            }
            marker::AVMPLUS => self.amf3_value(depth),
            marker => Err(AmfError::UnknownMarker { version: 0, marker, at }),
        }
    }

    fn complex(&mut self, marker: u8, depth: u8) -> Result<Value, AmfError> {
        match marker {
            marker::ECMA_ARRAY => {
                // Encoders put 0 or a wrong count: the end marker decides.
                let _count = self.u32("an ECMA array's count")?;
                Ok(Value::EcmaArray(self.pairs(depth)?))
            }
            marker::STRICT_ARRAY => {
                let count = self.u32("an array's count")?;
                let mut items = Vec::new();
                for _ in 0..count {
                    items.push(self.value_in(depth + 1)?);
                }
                Ok(Value::StrictArray(items))
            }
            marker::TYPED_OBJECT => {
                let class = self.short_text("a class name")?;
                Ok(Value::TypedObject { class, pairs: self.pairs(depth)? })
            }
            _ => Ok(Value::Object(self.pairs(depth)?)),
        }
    }

    fn pairs(&mut self, depth: u8) -> Result<Vec<(String, Value)>, AmfError> {
        let mut pairs = Vec::new();
        while !self.is_empty() {
            let name = self.short_text("a property name")?;
            if name.is_empty() && self.bytes.get(self.at) == Some(&marker::OBJECT_END) {
                self.at += 1;
                break;
            }
            pairs.push((name, self.value_in(depth + 1)?));
        }
        Ok(pairs)
    }

    fn reference(&mut self, depth: u8) -> Result<Value, AmfError> {
        let at = self.at;
        let index = usize::from(u16::from_be_bytes(self.array("a reference")?));
        let count = self.objects.len();
        let Some(&object) = self.objects.get(index) else {
            return Err(AmfError::BadReference { what: "object", index, count, at });
        };
        self.replay_at(object.at, |d| d.complex(object.marker, depth + 1))
    }

    /// Reads again what stands at `at`, then goes on here. Work and depth count as if it stood here, so
    /// neither a chain nor a ring of references can run away.
    pub(super) fn replay_at<T>(
        &mut self,
        at: usize,
        read: impl FnOnce(&mut Self) -> Result<T, AmfError>,
    ) -> Result<T, AmfError> {
        let (here, replay) = (self.at, self.replay);
        (self.at, self.replay) = (at, true);
        let value = read(self);
        (self.at, self.replay) = (here, replay);
        value
    }

    /// Counts one value against the bounds.
    pub(super) fn enter(&mut self, depth: u8, at: usize) -> Result<(), AmfError> {
        if depth >= MAX_DEPTH {
            return Err(AmfError::TooDeep { at });
        }
        self.count_item(at)
    }

    pub(super) fn count_item(&mut self, at: usize) -> Result<(), AmfError> {
        self.items = self.items.saturating_add(1);
        if self.items > MAX_ITEMS { Err(AmfError::TooLarge { at }) } else { Ok(()) }
    }

    pub(super) fn count_text(&mut self, len: usize) -> Result<(), AmfError> {
        self.text = self.text.saturating_add(len);
        if self.text > MAX_TEXT { Err(AmfError::TooLarge { at: self.at }) } else { Ok(()) }
    }

    fn short_text(&mut self, what: &'static str) -> Result<String, AmfError> {
        let len = u16::from_be_bytes(self.array(what)?);
        self.text(usize::from(len), what)
    }

    fn long_text(&mut self, what: &'static str) -> Result<String, AmfError> {
        let len = self.u32(what)?;
        self.text(usize::try_from(len).unwrap_or(usize::MAX), what)
    }

    pub(super) fn text(&mut self, len: usize, what: &'static str) -> Result<String, AmfError> {
        self.count_text(len)?;
        Ok(String::from_utf8_lossy(self.take(len, what)?).into_owned())
    }

    pub(super) fn u8(&mut self, what: &'static str) -> Result<u8, AmfError> {
        let [byte] = self.array(what)?;
        Ok(byte)
    }

    fn u32(&mut self, what: &'static str) -> Result<u32, AmfError> {
        Ok(u32::from_be_bytes(self.array(what)?))
    }

    pub(super) fn f64(&mut self, what: &'static str) -> Result<f64, AmfError> {
        Ok(f64::from_be_bytes(self.array(what)?))
    }

    fn array<const N: usize>(&mut self, what: &'static str) -> Result<[u8; N], AmfError> {
        let bytes = self.take(N, what)?;
        bytes.first_chunk().copied().ok_or(AmfError::Truncated { what, at: self.at })
    }

    pub(super) fn take(&mut self, len: usize, what: &'static str) -> Result<&'a [u8], AmfError> {
        let at = self.at;
        let rest = self.bytes.get(at..).unwrap_or_default();
        let bytes = rest.get(..len).ok_or(AmfError::Truncated { what, at })?;
        self.at += len;
        Ok(bytes)
    }
}
