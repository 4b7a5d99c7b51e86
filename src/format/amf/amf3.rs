//! AMF3 behind AMF0's `avmplus` switch. Section numbers are those of the AMF3 specification.

use std::rc::Rc;

use super::{AmfError, Decoder, Value};

/// Type marker of a byte array, the one AMF3 value that we write.
pub(super) const BYTE_ARRAY: u8 = 0x0C;

/// Classes that are written by code, whose content is one value.
const WRAPPERS: [&str; 2] = ["flex.messaging.io.ArrayCollection", "flex.messaging.io.ObjectProxy"];

/// What references point at (2.2); one set for a message.
#[derive(Debug, Default)]
pub(super) struct Tables {
    strings: Vec<String>,
    traits: Vec<Rc<Traits>>,
    /// Where dates, arrays, objects, XML and byte arrays stand, at their marker.
    objects: Vec<usize>,
}

#[derive(Debug)]
struct Traits {
    class: String,
    names: Vec<String>,
    dynamic: bool,
    external: bool,
}

impl Decoder<'_> {
    pub(super) fn amf3_value(&mut self, depth: u8) -> Result<Value, AmfError> {
        let at = self.at;
        let marker = self.u8("an AMF3 type marker")?;
        self.enter(depth, at)?;
        match marker {
            0x00 => Ok(Value::Undefined),
            0x01 => Ok(Value::Null),
            0x02 => Ok(Value::Boolean(false)),
            0x03 => Ok(Value::Boolean(true)),
            // 3.6: 29 bits, two's complement.
            0x04 => Ok(Value::Number(f64::from((self.u29()? << 3).cast_signed() >> 3))),
            0x05 => Ok(Value::Number(self.f64("a double")?)),
            0x06 => Ok(Value::String(self.amf3_text()?)),
            0x07..=0x0C => {
                let head = self.u29()?;
                if head & 1 == 0 {
                    return self.amf3_reference(head, depth, at);
                }
                if !self.replay {
                    self.amf3.objects.push(at);
                }
                self.amf3_complex(marker, head >> 1, depth)
            }
            0x0D..=0x10 => Err(AmfError::Unsupported { what: "an AMF3 vector", at }),
            0x11 => Err(AmfError::Unsupported { what: "an AMF3 dictionary", at }),
            marker => Err(AmfError::UnknownMarker { version: 3, marker, at }),
        }
    }

    fn amf3_reference(&mut self, head: u32, depth: u8, at: usize) -> Result<Value, AmfError> {
        let (index, count) = (to_usize(head >> 1), self.amf3.objects.len());
        let Some(&object) = self.amf3.objects.get(index) else {
            return Err(AmfError::BadReference { what: "object", index, count, at });
        };
        self.replay_at(object, |d| d.amf3_value(depth + 1))
    }

    /// `head`: what the U29 after the marker holds, without its reference bit.
    fn amf3_complex(&mut self, marker: u8, head: u32, depth: u8) -> Result<Value, AmfError> {
        match marker {
            0x07 | 0x0B => Ok(Value::Xml(self.text(to_usize(head), "an XML document")?)),
            0x08 => Ok(Value::Date { ms: self.f64("a date")?, zone: 0 }),
            0x09 => self.amf3_array(head, depth),
            BYTE_ARRAY => {
                let len = to_usize(head);
                self.count_text(len)?;
                Ok(Value::ByteArray(self.take(len, "a byte array")?.to_vec()))
            }
            _ => self.amf3_object(head, depth),
        }
    }

    /// 3.11: named values up to an empty name, then `count` unnamed ones.
    fn amf3_array(&mut self, count: u32, depth: u8) -> Result<Value, AmfError> {
        let mut pairs = self.amf3_pairs(depth)?;
        let mut items = Vec::new();
        for _ in 0..count {
            items.push(self.amf3_value(depth + 1)?);
        }
        if pairs.is_empty() {
            return Ok(Value::StrictArray(items));
        }
        pairs.extend(items.into_iter().enumerate().map(|(i, item)| (i.to_string(), item)));
        Ok(Value::EcmaArray(pairs))
    }

    /// 3.12.
    fn amf3_object(&mut self, head: u32, depth: u8) -> Result<Value, AmfError> {
        let at = self.at;
        let traits = self.traits(head)?;
        if traits.external {
            if WRAPPERS.contains(&traits.class.as_str()) {
                return self.amf3_value(depth + 1);
            }
            return Err(AmfError::Unsupported { what: "an AMF3 object with a coding of its own", at });
        }
        let mut pairs = Vec::new();
        for name in &traits.names {
            self.count_text(name.len())?;
            pairs.push((name.clone(), self.amf3_value(depth + 1)?));
        }
        if traits.dynamic {
            pairs.append(&mut self.amf3_pairs(depth)?);
        }
        if traits.class.is_empty() {
            return Ok(Value::Object(pairs));
        }
        self.count_text(traits.class.len())?;
        Ok(Value::TypedObject { class: traits.class.clone(), pairs })
    }

    fn traits(&mut self, head: u32) -> Result<Rc<Traits>, AmfError> {
        if head & 1 == 0 {
            let (index, count) = (to_usize(head >> 1), self.amf3.traits.len());
            let bad = AmfError::BadReference { what: "traits", index, count, at: self.at };
            return self.amf3.traits.get(index).cloned().ok_or(bad);
        }
        let class = self.amf3_text()?;
        let mut names = Vec::new();
        for _ in 0..head >> 3 {
            self.count_item(self.at)?;
            names.push(self.amf3_text()?);
        }
        let traits = Rc::new(Traits { class, names, dynamic: head & 4 != 0, external: head & 2 != 0 });
        if !self.replay {
            self.amf3.traits.push(Rc::clone(&traits));
        }
        Ok(traits)
    }

    fn amf3_pairs(&mut self, depth: u8) -> Result<Vec<(String, Value)>, AmfError> {
        let mut pairs = Vec::new();
        loop {
            let name = self.amf3_text()?;
            if name.is_empty() {
                return Ok(pairs);
            }
            pairs.push((name, self.amf3_value(depth + 1)?));
        }
    }

    /// 1.3.2: a text, or a reference to one; the empty text is never referred to.
    fn amf3_text(&mut self) -> Result<String, AmfError> {
        let at = self.at;
        let head = self.u29()?;
        let n = to_usize(head >> 1);
        if head & 1 == 0 {
            let count = self.amf3.strings.len();
            let bad = AmfError::BadReference { what: "string", index: n, count, at };
            let text = self.amf3.strings.get(n).cloned().ok_or(bad)?;
            self.count_text(text.len())?;
            return Ok(text);
        }
        let text = self.text(n, "an AMF3 string")?;
        if !text.is_empty() && !self.replay {
            self.amf3.strings.push(text.clone());
        }
        Ok(text)
    }

    /// 1.3.1: one to four bytes.
    fn u29(&mut self) -> Result<u32, AmfError> {
        let mut n = 0;
        for _ in 0..3 {
            let byte = u32::from(self.u8("an AMF3 integer")?);
            n = n << 7 | byte & 0x7F;
            if byte & 0x80 == 0 {
                return Ok(n);
            }
        }
        Ok(n << 8 | u32::from(self.u8("an AMF3 integer")?))
    }
}

fn to_usize(n: u32) -> usize {
    usize::try_from(n).unwrap_or(usize::MAX)
}
