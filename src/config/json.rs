//! The configuration as JSON: the values in force, and the schema that the API and its users' forms go by.

use serde_json::{Map, Value as Json, json};

use super::item::{Item, Kind, Problems};
use super::keys::{Entry, Key, Node, Reload, TOP};
use super::load::{toml_item, variable_of};
use super::value::Shape;
use super::{Config, Role};

impl Config {
    /// The values in force, as the file has them; of secrets only whether they are set (`"***"`).
    #[must_use]
    pub fn to_json(&self) -> Json {
        let mut all = Map::new();
        for key in self.keys() {
            insert(&mut all, &parts(&key.path), literal(&key.value));
        }
        Json::Object(all)
    }
}

impl Key {
    /// Whether this key is left to those who can write the file: it names a place on this machine.
    #[must_use]
    pub fn is_local(&self) -> bool {
        is_local(&self.path, self.shape)
    }
}

fn is_local(path: &str, shape: Shape) -> bool {
    let name = path.rsplit('.').next().unwrap_or_default();
    shape == Shape::Path
        || matches!(name, "path" | "jwt_keys")
        || name.ends_with("_file")
        || name.ends_with("_path")
}

/// The JSON Schema (2020-12) of a whole configuration file.
#[must_use]
pub fn schema() -> Json {
    let mut root = object("");
    let mut vhost = object("");
    Config::default().walk("", &TOP, &mut |entry| {
        let (path, schema) = match entry {
            Entry::Section(path, doc) => (path, object(&words(doc))),
            Entry::Key(key) => (key.path.clone(), key_schema(&key)),
        };
        let parts = parts(&path);
        let names: Vec<&str> = parts.iter().map(Part::name).collect();
        match &names[..] {
            ["vhost"] => {}
            ["vhost", _] => {
                if let (Some(of), Some(words)) = (vhost.as_object_mut(), schema.get("description")) {
                    of.insert("description".to_owned(), words.clone());
                }
            }
            ["vhost", _, rest @ ..] => put(&mut vhost, rest, schema),
            names => put(&mut root, names, schema),
        }
    });
    let mut pattern = vhost.clone();
    let streams = "Which streams: app/stream, with * (any characters) and ? (one).";
    put(&mut pattern, &["stream"], json!({ "type": "string", "minLength": 1, "description": streams }));
    if let Some(pattern) = pattern.as_object_mut() {
        pattern.insert("required".to_owned(), json!(["stream"]));
        pattern.insert(
            "description".to_owned(),
            json!("What holds for the streams of a pattern; the first that matches counts."),
        );
    }
    put(&mut vhost, &["match"], json!({ "type": "array", "items": { "$ref": "#/$defs/match" } }));
    let one = json!({ "$ref": "#/$defs/vhost" });
    let vhosts = json!({
        "type": "object",
        "description": "What holds for streams, by vhost; \"default\" is what others start from.",
        "properties": { "default": one },
        "additionalProperties": one,
    });
    put(&mut root, &["vhost"], vhosts);
    if let Some(root) = root.as_object_mut() {
        root.insert("$schema".to_owned(), json!("https://json-schema.org/draft/2020-12/schema"));
        root.insert("title".to_owned(), json!("Rillbox's configuration"));
        root.insert("$defs".to_owned(), json!({ "vhost": vhost, "match": pattern }));
    }
    root
}

fn words(doc: &[&str]) -> String {
    doc.iter().map(|line| line.trim()).collect::<Vec<_>>().join(" ")
}

fn object(words: &str) -> Json {
    let mut schema = json!({ "type": "object", "properties": {}, "additionalProperties": false });
    if !words.is_empty() {
        set(&mut schema, "description", words.into());
    }
    schema
}

fn set(object: &mut Json, name: &str, value: Json) {
    if let Some(object) = object.as_object_mut() {
        object.insert(name.to_owned(), value);
    }
}

/// Puts the schema of a key or section where its path leads.
fn put(schema: &mut Json, path: &[&str], new: Json) {
    let Some((name, rest)) = path.split_first() else { return };
    let Some(Json::Object(properties)) = schema.get_mut("properties") else { return };
    if rest.is_empty() {
        properties.insert((*name).to_owned(), new);
    } else {
        put(properties.entry((*name).to_owned()).or_insert_with(|| object("")), rest, new);
    }
}

fn key_schema(key: &Key) -> Json {
    let string = |pattern: &str| json!({ "type": "string", "pattern": pattern });
    let address =
        json!({ "anyOf": [{ "type": "string" }, { "type": "integer", "minimum": 0, "maximum": 65_535 }] });
    let list = |items: Json| json!({ "anyOf": [items, { "type": "array", "items": items }] });
    let mut schema = match key.shape {
        Shape::Addresses => list(address),
        Shape::Bool => json!({ "type": "boolean" }),
        Shape::Duration => string("^\\s*([0-9]+(ms|s|m|min|h|d))+\\s*$"),
        Shape::Number => json!({ "type": "integer", "minimum": 0, "maximum": u32::MAX }),
        Shape::Path | Shape::Text => json!({ "type": "string" }),
        Shape::Ratio => json!({ "type": "number", "exclusiveMinimum": 0 }),
        Shape::Size => json!({ "anyOf": [
            { "type": "integer", "minimum": 0 },
            { "type": "string", "pattern": "^\\s*[0-9]+ *(B|KiB|MiB|GiB)?$" },
        ] }),
        Shape::Texts => list(json!({ "type": "string" })),
        Shape::Users => json!({ "type": "array", "items": {
            "type": "object",
            "properties": {
                "name": { "type": "string", "minLength": 1, "maxLength": 64, "pattern": "^[A-Za-z0-9._@+-]+$" },
                "role": { "type": "string", "enum": Role::ALL.map(Role::as_str) },
                "hash": { "type": "string", "writeOnly": true },
                "play": list(json!({ "type": "string" })),
                "publish": list(json!({ "type": "string" })),
            },
            "required": ["name", "role", "hash"],
            "additionalProperties": false,
        } }),
        Shape::Words(words) => json!({ "type": "string", "enum": words }),
    };
    set(&mut schema, "description", words(key.doc).into());
    set(&mut schema, "default", literal(&key.value));
    if let Some((least, most)) = &key.range {
        let (least, most) = (literal(least), literal(most));
        let numbers = matches!(key.shape, Shape::Number | Shape::Ratio);
        let (low, high) = if numbers { ("minimum", "maximum") } else { ("x-minimum", "x-maximum") };
        set(&mut schema, low, least);
        set(&mut schema, high, most);
    }
    let reload = if key.reload == Reload::Live { "live" } else { "restart" };
    set(&mut schema, "x-reload", reload.into());
    set(&mut schema, "x-expected", key.expected.into());
    set(&mut schema, "x-env", variable_of(&key.path).into());
    if key.secret {
        set(&mut schema, "writeOnly", true.into());
    }
    if is_local(&key.path, key.shape) {
        set(&mut schema, "x-local", true.into());
    }
    schema
}

/// A value in TOML as JSON.
fn literal(toml: &str) -> Json {
    let item = toml_item(&format!("value = {toml}"), &mut Problems::default());
    item.as_ref().and_then(|item| item.find(&["value"])).map_or(Json::Null, to_json)
}

fn to_json(item: &Item) -> Json {
    match &item.kind {
        Kind::Bool(value) => (*value).into(),
        Kind::Int(value) => (*value).into(),
        Kind::Text(text) | Kind::Env(text) => text.as_str().into(),
        Kind::List(items) => items.iter().map(to_json).collect(),
        Kind::Table(entries) => entries.iter().map(|(name, item)| (name.clone(), to_json(item))).collect(),
        // Floats; JSON has no dates.
        Kind::Other(text) => text.parse::<f64>().map_or_else(|_| text.as_str().into(), Json::from),
    }
}

/// A step on the way to a key.
#[derive(Debug, PartialEq)]
enum Part {
    Name(String),
    /// The section of a pattern.
    Match(String),
}

impl Part {
    fn name(&self) -> &str {
        match self {
            Self::Name(name) => name,
            Self::Match(_) => "match",
        }
    }
}

/// The steps of a key's path: `vhost."a.b".match["live/*"].grace`.
fn parts(path: &str) -> Vec<Part> {
    let mut parts = Vec::new();
    let (mut word, mut pattern) = (String::new(), None);
    let mut chars = path.chars();
    while let Some(c) = chars.next() {
        match c {
            '.' => parts.push(finished(&mut word, &mut pattern)),
            '[' => {
                word.clear();
                pattern = Some(String::new());
            }
            ']' => {}
            '"' => {
                let text = quoted(&mut chars);
                match &mut pattern {
                    Some(pattern) => *pattern = text,
                    None => word = text,
                }
            }
            c => word.push(c),
        }
    }
    if !path.is_empty() {
        parts.push(finished(&mut word, &mut pattern));
    }
    parts
}

fn finished(word: &mut String, pattern: &mut Option<String>) -> Part {
    match pattern.take() {
        Some(pattern) => Part::Match(pattern),
        None => Part::Name(std::mem::take(word)),
    }
}

/// What Rust has put in quotes, after the first of them.
fn quoted(chars: &mut std::str::Chars<'_>) -> String {
    let mut text = String::new();
    while let Some(c) = chars.next() {
        match c {
            '"' => break,
            '\\' => match chars.next() {
                Some('n') => text.push('\n'),
                Some('r') => text.push('\r'),
                Some('t') => text.push('\t'),
                Some('0') => text.push('\0'),
                Some('u') => {
                    let code: String = chars.by_ref().skip(1).take_while(|c| *c != '}').collect();
                    text.extend(u32::from_str_radix(&code, 16).ok().and_then(char::from_u32));
                }
                Some(c) => text.push(c),
                None => break,
            },
            c => text.push(c),
        }
    }
    text
}

fn insert(map: &mut Map<String, Json>, path: &[Part], value: Json) {
    let Some((first, rest)) = path.split_first() else { return };
    let name = first.name().to_owned();
    if rest.is_empty() {
        map.insert(name, value);
        return;
    }
    match first {
        Part::Name(_) => {
            if let Json::Object(inner) = map.entry(name).or_insert_with(|| json!({})) {
                insert(inner, rest, value);
            }
        }
        Part::Match(pattern) => {
            let Json::Array(all) = map.entry(name).or_insert_with(|| json!([])) else { return };
            if all.last().and_then(|last| last.get("stream")).and_then(Json::as_str) != Some(pattern) {
                all.push(json!({ "stream": pattern }));
            }
            if let Some(Json::Object(inner)) = all.last_mut() {
                insert(inner, rest, value);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Document, parse};

    #[test]
    fn paths_are_taken_apart() {
        let name = |text: &str| Part::Name(text.to_owned());
        assert_eq!(parts(""), []);
        assert_eq!(parts("log.level"), [name("log"), name("level")]);
        let odd = "a.\"b\\\n\u{7f}";
        let path = format!("vhost.{odd:?}.match[{odd:?}].hls.window");
        let expected = [name("vhost"), name(odd), Part::Match(odd.to_owned()), name("hls"), name("window")];
        assert_eq!(parts(&path), expected);
    }

    #[test]
    fn values_in_force_are_a_patch_that_changes_nothing() {
        let text = "[log]\nlevel = \"debug\"\n[vhost.\"cam.example\".hls]\nsegment = \"3s\"\noverflow_ratio = 2.5\n\
                    [[vhost.\"cam.example\".match]]\nstream = \"live/door*\"\ngrace = \"1s\"\n[vhost.\"cam.example\".match.hls]\naudio = false\n";
        let config = parse("r.toml", text, []).unwrap().config;
        let json = config.to_json();
        assert_eq!(json["log"]["level"], "debug");
        let cam = &json["vhost"]["cam.example"];
        assert_eq!((&cam["hls"]["segment"], &cam["hls"]["overflow_ratio"]), (&json!("3s"), &json!(2.5)));
        assert_eq!(cam["match"][0]["stream"], "live/door*");
        assert_eq!(cam["match"][0]["hls"]["audio"], false);
        assert_eq!(cam["match"][0]["hls"]["segment"], "3s");
        let full = Document::parse("r.toml", "").unwrap().patch(&json).unwrap().text();
        let again = parse("r.toml", &full, []).unwrap_or_else(|error| panic!("{error}\n{full}")).config;
        assert_eq!(again.differences(&config), []);
    }

    #[test]
    fn each_key_has_a_schema() {
        let schema = schema();
        for key in Config::default().keys() {
            let (of, path) = match key.path.strip_prefix("vhost.default.") {
                Some(path) => (&schema["$defs"]["vhost"], path),
                None => (&schema, &*key.path),
            };
            let found = path.split('.').fold(of, |schema, name| &schema["properties"][name]);
            assert!(found["description"].as_str().is_some_and(|words| words.len() > 3), "{}", key.path);
            assert_eq!(found["default"], literal(&key.value), "{}", key.path);
            let kind = match &found["default"] {
                Json::Bool(_) => "boolean",
                Json::Number(number) if number.is_f64() => "number",
                Json::Number(_) => "integer",
                Json::String(_) => "string",
                Json::Array(_) => "array",
                other => panic!("{}: {other}", key.path),
            };
            let types = |schema: &Json| schema["type"] == kind;
            let any = found["anyOf"].as_array().is_some_and(|all| all.iter().any(types));
            assert!(types(found) || any, "{}: {found}", key.path);
        }
        let level = &schema["properties"]["log"]["properties"]["level"];
        assert_eq!((&level["x-reload"], &level["x-env"]), (&json!("live"), &json!("RILLBOX_LOG_LEVEL")));
        assert!(level["enum"].as_array().unwrap().contains(&json!("debug")), "{level}");
        let key = &schema["properties"]["tls"]["properties"]["key"];
        assert_eq!(key["x-local"], true);
        assert_eq!(schema["$defs"]["match"]["required"], json!(["stream"]));
    }
}
