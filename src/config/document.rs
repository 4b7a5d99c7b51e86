//! A configuration file as a person wrote it, to be changed without losing a word of theirs.

use serde_json::Value as Json;
use toml_edit::{Array, ArrayOfTables, DocumentMut, InlineTable, Item, Table, TableLike, Value};

use super::item::{Place, Problems};
use super::load::ConfigError;

/// Tables within tables that a change may have: vhosts and patterns need four.
const DEEPEST: usize = 16;

/// A configuration file in TOML.
#[derive(Debug, Clone)]
pub struct Document {
    name: String,
    toml: DocumentMut,
}

impl Document {
    /// Reads a text; `name` is what the user calls it. Whether its keys are known is not looked at.
    ///
    /// # Errors
    ///
    /// It is no TOML.
    pub fn parse(name: &str, text: &str) -> Result<Self, ConfigError> {
        let toml = text.parse::<DocumentMut>().map_err(|error| {
            let before = error.span().and_then(|span| text.get(..span.start)).unwrap_or_default();
            let line = 1 + before.bytes().filter(|c| *c == b'\n').count();
            invalid(name, &Place::Line(line), "", format!("not TOML: {}", error.message()))
        })?;
        Ok(Self { name: name.to_owned(), toml })
    }

    /// The document with `patch` (RFC 7396) in it: objects are sections, `null` takes a key or section away, so that what it
    /// inherits or its default holds. All else of the text stays as it is; comments of a key that is taken away stay where it
    /// was, or at the end.
    ///
    /// # Errors
    ///
    /// The patch is no object, or has what TOML can't say.
    pub fn patch(&self, patch: &Json) -> Result<Self, ConfigError> {
        let Json::Object(_) = patch else {
            let text = "expected an object such as {\"log\": {\"level\": \"debug\"}}".to_owned();
            return Err(invalid(&self.name, &Place::Unknown, "", text));
        };
        let mut new = self.clone();
        merge(new.toml.as_table_mut(), patch, "", 0)
            .map_err(|(path, text)| invalid(&self.name, &Place::Unknown, &path, text))?;
        new.keep_comments(&self.text());
        Ok(new)
    }

    /// The text.
    #[must_use]
    pub fn text(&self) -> String {
        self.toml.to_string()
    }

    /// Puts the comments of `old` that are nowhere now at the end.
    fn keep_comments(&mut self, old: &str) {
        let now = self.text();
        let mut left = comments(&now);
        let lost: Vec<&str> = comments(old)
            .into_iter()
            .filter(|comment| match left.iter().position(|other| other == comment) {
                Some(at) => {
                    left.swap_remove(at);
                    false
                }
                None => true,
            })
            .collect();
        if !lost.is_empty() {
            let end = self.toml.trailing().as_str().unwrap_or_default().to_owned();
            let line = if now.is_empty() || now.ends_with('\n') { "" } else { "\n" };
            self.toml.set_trailing(format!("{end}{line}{}\n", lost.join("\n")));
        }
    }
}

fn invalid(name: &str, place: &Place, key: &str, text: String) -> ConfigError {
    let mut problems = Problems::of(name);
    problems.add_at(place, key, text);
    ConfigError::Invalid(problems.sorted())
}

/// Each comment of a text, without what is around it.
fn comments(text: &str) -> Vec<&str> {
    use toml_parser::lexer::TokenKind;
    let source = toml_parser::Source::new(text);
    let of = |token: toml_parser::lexer::Token| text.get(token.span().start()..token.span().end());
    let tokens = source.lex().filter(|token| token.kind() == TokenKind::Comment);
    tokens.filter_map(of).map(str::trim_end).collect()
}

/// A path in the patch, and what is wrong there.
type Wrong = (String, String);

fn merge(table: &mut dyn TableLike, patch: &Json, path: &str, depth: usize) -> Result<(), Wrong> {
    let Json::Object(patch) = patch else { return Ok(()) };
    if depth > DEEPEST {
        return Err((path.to_owned(), format!("sections are nested more than {DEEPEST} deep")));
    }
    for (name, new) in patch {
        let full = super::keys::join(path, name);
        // Names of vhosts differ in more than their case.
        let known = table
            .iter()
            .map(|(key, _)| key.to_owned())
            .find(|key| key == name || (path == "vhost" && key.eq_ignore_ascii_case(name)));
        let name = known.as_deref().unwrap_or(name);
        match new {
            Json::Null => remove(table, name),
            Json::Object(_) => {
                if !table.get(name).is_some_and(Item::is_table_like) {
                    if !has_values(new) {
                        // Nothing but what isn't there to be taken away.
                        continue;
                    }
                    remove(table, name);
                    table.insert(name, section(new));
                }
                if let Some(inner) = table.get_mut(name).and_then(Item::as_table_like_mut) {
                    merge(inner, new, &full, depth + 1)?;
                }
            }
            _ => set(table, name, item(new, &full, depth)?),
        }
    }
    Ok(())
}

/// Whether a patch sets anything.
fn has_values(patch: &Json) -> bool {
    match patch {
        Json::Null => false,
        Json::Object(entries) => entries.is_empty() || entries.values().any(has_values),
        _ => true,
    }
}

/// A new section, of which only the last name is written: `[vhost.default.hls]`.
fn section(patch: &Json) -> Item {
    let mut table = Table::new();
    let only_sections = patch.as_object().is_some_and(|entries| {
        !entries.is_empty() && entries.values().all(|value| value.is_object() || value.is_null())
    });
    table.set_implicit(only_sections);
    table.decor_mut().set_prefix("\n");
    Item::Table(table)
}

/// Puts a value in the place of another, whose comments stay.
fn set(table: &mut dyn TableLike, name: &str, mut new: Item) {
    if let (Some(Item::Value(old)), Item::Value(value)) = (table.get(name), &mut new) {
        if old.to_string().trim() == value.to_string().trim() {
            return;
        }
        *value.decor_mut() = old.decor().clone();
    }
    match table.get_mut(name) {
        Some(old) => {
            // In a section on one line there is no place for others.
            if matches!(old, Item::Value(_)) {
                new = new.into_value().map_or_else(|item| item, Item::Value);
            }
            *old = new;
        }
        None => {
            table.insert(name, new);
        }
    }
}

/// Takes a key away, and leaves what was said of it to the one before.
fn remove(table: &mut dyn TableLike, name: &str) {
    let before = table.iter().take_while(|(key, _)| *key != name).map(|(key, _)| key.to_owned()).last();
    let mut words = String::new();
    if let Some(text) = table.key(name).and_then(|key| key.leaf_decor().prefix()?.as_str()) {
        words.push_str(text);
    }
    if let Some(Item::Value(value)) = table.get(name)
        && let Some(text) = value.decor().suffix().and_then(|text| text.as_str())
        && text.contains('#')
    {
        words.push_str(text.trim_start());
    }
    table.remove(name);
    let words: Vec<&str> = words.lines().map(str::trim).filter(|line| line.starts_with('#')).collect();
    // Only where the key had a line of its own; what is lost elsewhere goes to the end of the file.
    if words.is_empty() {
        return;
    }
    if let Some(Item::Value(value)) = before.and_then(|name| table.get_mut(&name))
        && !value.is_inline_table()
    {
        let decor = value.decor_mut();
        let end = decor.suffix().and_then(|text| text.as_str()).unwrap_or_default().trim_end().to_owned();
        decor.set_suffix(format!("{end}\n{}", words.join("\n")));
    }
}

/// A value as TOML: a list of objects is a list of sections.
fn item(json: &Json, path: &str, depth: usize) -> Result<Item, Wrong> {
    if let Json::Array(all) = json
        && !all.is_empty()
        && all.iter().all(Json::is_object)
    {
        let mut tables = ArrayOfTables::new();
        for one in all {
            let mut table = Table::new();
            table.decor_mut().set_prefix("\n");
            merge(&mut table, one, path, depth + 1)?;
            tables.push(table);
        }
        return Ok(Item::ArrayOfTables(tables));
    }
    value(json, path, depth).map(Item::Value)
}

fn value(json: &Json, path: &str, depth: usize) -> Result<Value, Wrong> {
    let wrong = |text: &str| Err((path.to_owned(), text.to_owned()));
    Ok(match json {
        Json::Bool(value) => (*value).into(),
        Json::Number(number) => match (number.as_i64(), number.as_f64()) {
            (Some(number), _) => number.into(),
            (None, Some(number)) if number.is_finite() && !json.is_u64() => number.into(),
            _ => return wrong("expected a number that fits into 64 bits"),
        },
        Json::String(text) => text.as_str().into(),
        Json::Array(_) | Json::Object(_) if depth > DEEPEST => return wrong("lists are nested too deep"),
        Json::Array(all) => {
            let mut array = Array::new();
            for one in all {
                array.push(value(one, path, depth + 1)?);
            }
            array.into()
        }
        Json::Object(entries) => {
            let mut table = InlineTable::new();
            for (name, one) in entries.iter().filter(|(_, one)| !one.is_null()) {
                table.insert(name, value(one, &super::keys::join(path, name), depth + 1)?);
            }
            table.into()
        }
        Json::Null => return wrong("expected a value in the list, found null"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "\
# Ours, since 2019.

[log]
# Who reads that?
level = \"info\" # for now
stream_interval = \"30s\"

[vhost.default]  # all of them
grace = \"5s\"

[vhost.\"Cam.example\".hls]
# Short, for the doorbell.
segment = \"1s\"
window = \"9s\" # three of them
# End.
";

    fn patched(text: &str, patch: &str) -> String {
        let patch: Json = serde_json::from_str(patch).unwrap();
        Document::parse("r.toml", text).unwrap().patch(&patch).unwrap().text()
    }

    #[test]
    fn nothing_changes_nothing() {
        for patch in [
            "{}",
            "{\"log\": {}}",
            "{\"tls\": {\"cert\": null}}",
            "{\"log\": {\"level\": \"info\"}}",
            "{\"x\": null}",
        ] {
            assert_eq!(patched(TEXT, patch), TEXT, "{patch}");
        }
    }

    #[test]
    fn values_change_and_words_stay() {
        let patch = "{\"log\": {\"level\": \"debug\"}, \"vhost\": {\"default\": {\"grace\": \"7s\", \"record\": {\"enabled\": true}}, \
                     \"cam.example\": {\"hls\": {\"window\": \"12s\"}}}, \"rtmp\": {\"listen\": [\"[::]:1935\", 1936]}}";
        let expected = TEXT
            .replace("\"info\" #", "\"debug\" #")
            .replace("\"5s\"", "\"7s\"")
            .replace("\"9s\" #", "\"12s\" #")
            .replace("grace = \"7s\"\n", "grace = \"7s\"\n\n[vhost.default.record]\nenabled = true\n")
            .replace("# End.\n", "\n[rtmp]\nlisten = [\"[::]:1935\", 1936]\n# End.\n");
        assert_eq!(patched(TEXT, patch), expected);
    }

    #[test]
    fn a_section_on_one_line_takes_lists_of_objects() {
        let text = "access = { login_failures = 3, users = [{ name = \"a\" }] }\n";
        let users = "{\"access\": {\"users\": [{\"name\": \"a\"}, {\"name\": \"b\"}]}}";
        for text in [text, "access = { login_failures = 3 }\n", "[access]\nusers = [{ name = \"a\" }]\n"] {
            let patched = patched(text, users);
            let document = patched.parse::<DocumentMut>().unwrap();
            let users = &document["access"]["users"];
            let tables = users.as_array_of_tables().map_or(0, ArrayOfTables::len);
            let count = users.as_array().map_or(tables, toml_edit::Array::len);
            assert_eq!(count, 2, "{patched}");
        }
    }

    #[test]
    fn what_is_taken_away_leaves_its_words() {
        let text = patched(
            TEXT,
            "{\"log\": {\"level\": null}, \"vhost\": {\"cam.example\": {\"hls\": {\"window\": null}}}}",
        );
        assert_eq!(
            text,
            "# Ours, since 2019.\n\n[log]\nstream_interval = \"30s\"\n\n[vhost.default]  # all of them\ngrace = \"5s\"\n\n\
             [vhost.\"Cam.example\".hls]\n# Short, for the doorbell.\nsegment = \"1s\"\n# three of them\n# End.\n\
             # Who reads that?\n# for now\n"
        );
        let text = patched(TEXT, "{\"vhost\": null}");
        for comment in comments(TEXT) {
            assert!(text.contains(comment), "{comment}: {text}");
        }
    }

    #[test]
    fn forms_of_sections() {
        assert_eq!(patched("", "{\"a\": {\"b\": {\"c\": 1}}}"), "\n[a.b]\nc = 1\n");
        assert_eq!(patched("a.b = 1 # x\n", "{\"a\": {\"b\": 2, \"c\": 3}}"), "a.b = 2 # x\na.c = 3\n");
        assert_eq!(patched("a = { b = 1 }\n", "{\"a\": {\"b\": 2, \"c\": 3}}"), "a = { b = 2 , c = 3 }\n");
        assert_eq!(
            patched(
                "[v]\nx = 1\n[[v.match]] # one\ns = \"a\"\n",
                "{\"v\": {\"match\": [{\"s\": \"b\"}, {\"s\": \"c\", \"h\": {\"d\": 1.5}}]}}"
            ),
            "[v]\nx = 1\n\n[[v.match]]\ns = \"b\"\n\n[[v.match]]\ns = \"c\"\n\n[v.match.h]\nd = 1.5\n# one\n"
        );
        assert_eq!(patched("a = 1\n", "{\"a\": {\"b\": true}}"), "\n[a]\nb = true\n");
    }

    #[test]
    fn what_cannot_be_said() {
        let document = Document::parse("r.toml", "").unwrap();
        for (patch, expected) in [
            ("[]", "r.toml: expected an object such as {\"log\": {\"level\": \"debug\"}}"),
            ("{\"a\": {\"b\": [null]}}", "r.toml: a.b: expected a value in the list, found null"),
            ("{\"a\": 18446744073709551615}", "r.toml: a: expected a number that fits into 64 bits"),
        ] {
            let patch: Json = serde_json::from_str(patch).unwrap();
            assert_eq!(document.patch(&patch).unwrap_err().to_string(), expected);
        }
        let error = Document::parse("r.toml", "[a]\nb = \n").unwrap_err().to_string();
        assert!(error.starts_with("r.toml:2: not TOML: "), "{error}");
    }

    proptest::proptest! {
        #[test]
        fn any_patch_of_any_text_is_toml_with_all_words(
            keys in proptest::collection::vec(("[abc]", "[abc]", 0..3_i64), 0..6),
            patch in proptest::collection::vec(("[abc]", "[abcd]", 0..4_i64), 0..6),
        ) {
            let mut text = String::new();
            for section in ["a", "b", "c"] {
                text += &format!("# about {section}\n[{section}] # {section}\n");
                let mut seen = Vec::new();
                for (_, key, value) in keys.iter().filter(|(of, ..)| of == section) {
                    if !seen.contains(&key) {
                        text += &format!("# {section}.{key}\n{key} = {value} # v{value}\n\n");
                        seen.push(key);
                    }
                }
            }
            let mut json = serde_json::json!({});
            for (section, key, value) in &patch {
                let value = if *value == 3 { Json::Null } else { (*value).into() };
                json[section.as_str()][key.as_str()] = value;
            }
            let new = Document::parse("r.toml", &text).unwrap().patch(&json).unwrap().text();
            let again = new.parse::<DocumentMut>().unwrap();
            for (section, key, _) in &patch {
                let expected = json[section.as_str()][key.as_str()].as_i64();
                let got = again.get(section).and_then(|s| s.get(key)).and_then(Item::as_integer);
                proptest::prop_assert_eq!(got, expected, "{}", new);
            }
            for comment in comments(&text) {
                proptest::prop_assert!(comments(&new).contains(&comment), "{} is not in\n{}", comment, new);
            }
        }
    }
}
