//! JSON: written in the order of its declaration, and the schema of the same declaration.
//!
//! `shape!` declares an object once: a plain struct, how it is written, and its JSON Schema.

use std::fmt::Write;
use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::{Map, Value, json};

/// What can be written as JSON.
pub trait Json {
    /// Appends it to `out`.
    fn json(&self, out: &mut String);

    /// It alone.
    fn to_json(&self) -> String {
        let mut out = String::new();
        self.json(&mut out);
        out
    }
}

/// What can be written as JSON and be described.
pub trait Shape: Json {
    /// Its JSON Schema (2020-12). Objects are put into `known` by name, and referred to.
    fn schema(known: &mut Schemas) -> Value;
}

/// Schemas by name, as `#/components/schemas` of an OpenAPI document.
pub type Schemas = Map<String, Value>;

impl<T: Json + ?Sized> Json for &T {
    fn json(&self, out: &mut String) {
        (**self).json(out);
    }
}

impl Json for bool {
    fn json(&self, out: &mut String) {
        out.push_str(if *self { "true" } else { "false" });
    }
}

impl Shape for bool {
    fn schema(_: &mut Schemas) -> Value {
        json!({"type": "boolean"})
    }
}

macro_rules! integers {
    ($($type:ty),+) => { $(
        impl Json for $type {
            fn json(&self, out: &mut String) {
                // Writing to a string can't fail.
                let _ = write!(out, "{self}");
            }
        }

        impl Shape for $type {
            fn schema(_: &mut Schemas) -> Value {
                if <$type>::MIN == 0 { json!({"type": "integer", "minimum": 0}) } else { json!({"type": "integer"}) }
            }
        }
    )+ };
}

integers!(i32, i64, u8, u16, u32, u64, usize);

impl Json for str {
    fn json(&self, out: &mut String) {
        out.push('"');
        for c in self.chars() {
            match c {
                '"' | '\\' => {
                    out.push('\\');
                    out.push(c);
                }
                // The last two end lines in JavaScript, which reads JSONP.
                c if c.is_control() || matches!(c, '\u{2028}' | '\u{2029}') => {
                    let _ = write!(out, "\\u{:04x}", u32::from(c));
                }
                c => out.push(c),
            }
        }
        out.push('"');
    }
}

impl Json for String {
    fn json(&self, out: &mut String) {
        self.as_str().json(out);
    }
}

impl Shape for String {
    fn schema(_: &mut Schemas) -> Value {
        json!({"type": "string"})
    }
}

impl Shape for &str {
    fn schema(_: &mut Schemas) -> Value {
        json!({"type": "string"})
    }
}

impl<T: Json> Json for Option<T> {
    fn json(&self, out: &mut String) {
        match self {
            Some(value) => value.json(out),
            None => out.push_str("null"),
        }
    }
}

impl<T: Shape> Shape for Option<T> {
    fn schema(known: &mut Schemas) -> Value {
        json!({"anyOf": [T::schema(known), {"type": "null"}]})
    }
}

impl<T: Json> Json for [T] {
    fn json(&self, out: &mut String) {
        out.push('[');
        for (n, value) in self.iter().enumerate() {
            if n > 0 {
                out.push(',');
            }
            value.json(out);
        }
        out.push(']');
    }
}

impl<T: Json> Json for Vec<T> {
    fn json(&self, out: &mut String) {
        self.as_slice().json(out);
    }
}

impl<T: Shape> Shape for Vec<T> {
    fn schema(known: &mut Schemas) -> Value {
        json!({"type": "array", "items": T::schema(known)})
    }
}

impl Json for Value {
    fn json(&self, out: &mut String) {
        let _ = write!(out, "{self}");
    }
}

impl Shape for Value {
    fn schema(_: &mut Schemas) -> Value {
        json!({})
    }
}

/// A number with two decimals, as SRS writes all that are no integers.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Cents(pub f64);

impl Json for Cents {
    fn json(&self, out: &mut String) {
        // JSON has no infinity.
        let value = if self.0.is_finite() { self.0 } else { 0.0 };
        let _ = write!(out, "{value:.2}");
    }
}

impl Shape for Cents {
    fn schema(_: &mut Schemas) -> Value {
        json!({"type": "number"})
    }
}

/// A moment: RFC 3339, UTC, to the millisecond.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Time(pub SystemTime);

impl Time {
    /// Milliseconds since 1970.
    #[must_use]
    pub fn unix_ms(self) -> u64 {
        let since = self.0.duration_since(UNIX_EPOCH).unwrap_or_default();
        u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
    }
}

impl Json for Time {
    fn json(&self, out: &mut String) {
        let ms = self.unix_ms();
        // Days since 1970 to a date: the calendar repeats every 400 years, which begin in March here so that the leap day is
        // the last of its year.
        let (days, ms_of_day) = (ms / 86_400_000, ms % 86_400_000);
        let days = days + 719_468;
        let (era, day_of_era) = (days / 146_097, days % 146_097);
        let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
        let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        let shifted = (5 * day_of_year + 2) / 153;
        let day = day_of_year - (153 * shifted + 2) / 5 + 1;
        let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
        let year = year_of_era + era * 400 + u64::from(month <= 2);
        let (s, ms) = (ms_of_day / 1000, ms_of_day % 1000);
        let (h, m, s) = (s / 3600, s / 60 % 60, s % 60);
        let _ = write!(out, "\"{year:04}-{month:02}-{day:02}T{h:02}:{m:02}:{s:02}.{ms:03}Z\"");
    }
}

impl Shape for Time {
    fn schema(_: &mut Schemas) -> Value {
        json!({"type": "string", "format": "date-time"})
    }
}

/// An object made on the spot: names and values.
pub struct Object<'a>(pub &'a [(&'a str, &'a dyn Json)]);

impl Json for Object<'_> {
    fn json(&self, out: &mut String) {
        object(out, self.0);
    }
}

/// Writes an object.
pub fn object(out: &mut String, fields: &[(&str, &dyn Json)]) {
    out.push('{');
    for (n, (name, value)) in fields.iter().enumerate() {
        if n > 0 {
            out.push(',');
        }
        name.json(out);
        out.push(':');
        value.json(out);
    }
    out.push('}');
}

/// A field of a `shape!`: name, doc lines, and its schema.
pub type Field = (&'static str, &'static [&'static str], fn(&mut Schemas) -> Value);

/// The schema of an object, put into `known` and referred to.
pub fn object_schema(known: &mut Schemas, name: &str, about: &[&str], fields: &[Field]) -> Value {
    let reference = json!({"$ref": format!("#/components/schemas/{name}")});
    if known.contains_key(name) {
        return reference;
    }
    // So that what refers to itself ends.
    known.insert(name.to_owned(), Value::Null);
    let mut properties = Map::new();
    for (field, doc, schema) in fields {
        let mut schema = schema(known);
        if let Value::Object(schema) = &mut schema {
            schema.insert("description".to_owned(), Value::String(words(doc)));
        }
        properties.insert((*field).to_owned(), schema);
    }
    let required: Vec<&str> = fields.iter().map(|(field, ..)| *field).collect();
    let schema = json!({
        "type": "object",
        "description": words(about),
        "properties": properties,
        "required": required,
        "additionalProperties": false,
    });
    known.insert(name.to_owned(), schema);
    reference
}

/// Doc lines as one text.
#[must_use]
pub fn words(lines: &[&str]) -> String {
    lines.iter().map(|line| line.trim()).collect::<Vec<_>>().join(" ")
}

/// Declares an object: each field with its doc line, name (`as "other"`: what it is called in JSON) and type.
#[cfg(any(feature = "api", test))]
macro_rules! shape {
    ($(#[doc = $about:literal])+ pub struct $Name:ident {
        $( $(#[doc = $doc:literal])+ $field:ident $(as $key:literal)? : $type:ty, )+
    }) => {
        $(#[doc = $about])+
        #[derive(Debug, Clone)]
        pub struct $Name {
            $( $(#[doc = $doc])+ pub $field: $type, )+
        }

        impl $crate::control::json::Json for $Name {
            fn json(&self, out: &mut String) {
                $crate::control::json::object(out, &[
                    $( ($crate::control::json::key!($field $($key)?), &self.$field), )+
                ]);
            }
        }

        impl $crate::control::json::Shape for $Name {
            fn schema(known: &mut $crate::control::json::Schemas) -> serde_json::Value {
                $crate::control::json::object_schema(known, stringify!($Name), &[$($about),+], &[
                    $( (
                        $crate::control::json::key!($field $($key)?),
                        &[$($doc),+],
                        <$type as $crate::control::json::Shape>::schema,
                    ), )+
                ])
            }
        }
    };
}

#[cfg(any(feature = "api", test))]
macro_rules! key {
    ($field:ident $key:literal) => {
        $key
    };
    ($field:ident) => {
        stringify!($field)
    };
}

/// Declares a value that is one of some words.
#[cfg(any(feature = "api", test))]
macro_rules! choices {
    ($(#[doc = $about:literal])+ pub enum $Name:ident { $( $(#[doc = $doc:literal])+ $Variant:ident = $word:literal, )+ }) => {
        $(#[doc = $about])+
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum $Name {
            $( $(#[doc = $doc])+ $Variant, )+
        }

        impl $crate::control::json::Json for $Name {
            fn json(&self, out: &mut String) {
                let word: &str = match self {
                    $( Self::$Variant => $word, )+
                };
                word.json(out);
            }
        }

        impl $crate::control::json::Shape for $Name {
            fn schema(_: &mut $crate::control::json::Schemas) -> serde_json::Value {
                serde_json::json!({"type": "string", "enum": [$($word),+]})
            }
        }
    };
}

#[cfg(any(feature = "api", test))]
pub(crate) use {choices, key, shape};

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use proptest::prelude::*;

    shape! {
        /// A thing.
        pub struct Thing {
            /// Its name.
            tc_url as "tcUrl": String,
            /// How many.
            count: u32,
            /// Others.
            parts: Vec<Option<u8>>,
        }
    }

    #[test]
    fn an_object_is_written_and_described_in_order() {
        let thing = Thing { tc_url: "a\"b\\\n".to_owned(), count: 3, parts: vec![None, Some(1)] };
        assert_eq!(thing.to_json(), r#"{"tcUrl":"a\"b\\\u000a","count":3,"parts":[null,1]}"#);
        let mut known = Schemas::new();
        assert_eq!(Thing::schema(&mut known), json!({"$ref": "#/components/schemas/Thing"}));
        let schema = known.get("Thing").unwrap();
        assert_eq!(
            schema["properties"]["count"],
            json!({"type": "integer", "minimum": 0, "description": "How many."})
        );
        assert_eq!(schema["required"], json!(["tcUrl", "count", "parts"]));
    }

    #[test]
    fn moments() {
        for (ms, expected) in [
            (0, "1970-01-01T00:00:00.000Z"),
            (951_782_400_000, "2000-02-29T00:00:00.000Z"),
            (1_795_250_310_525, "2026-11-21T08:38:30.525Z"),
            (4_107_542_399_999, "2100-02-28T23:59:59.999Z"),
            (4_107_542_400_000, "2100-03-01T00:00:00.000Z"),
        ] {
            let time = Time(UNIX_EPOCH + Duration::from_millis(ms));
            assert_eq!(time.to_json(), format!("\"{expected}\""));
        }
        assert_eq!(Cents(f64::NAN).to_json(), "0.00");
        assert_eq!(Cents(2.0).to_json(), "2.00");
    }

    proptest! {
        #[test]
        fn any_text_comes_back(text: String) {
            let read: Value = serde_json::from_str(&text.to_json()).unwrap();
            prop_assert_eq!(read, Value::String(text));
        }
    }
}
