//! `conf/full.toml`: each key with its words and its default, written by the code.

use std::fmt::Write;

use super::Config;
use super::keys::{Entry, Key, Node, Reload, TOP};
use super::load::variable_of;

const HEAD: &str = "\
# Every key of Rillbox, with its default: what is not set is so.
#
# A key marked \"live\" takes effect on a reload (SIGHUP), for those who come next, and drops nobody;
# \"restart\" means it waits for one. The environment variable beside it wins over the file.
#
# This file is written by the code: RILLBOX_BLESS=1 cargo test --lib config::reference
";

const TAIL: &str = "
# A vhost, and within it the streams of a pattern (`*` any characters, `?` one; the first that matches
# counts), override keys of [vhost.default]. Streams of a vhost without a section are those of the default.
# In the variable's name, what is neither letter nor digit is `_`: RILLBOX_VHOST__CAM_EXAMPLE__GRACE
#
# [vhost.\"cam.example\"]
# grace = \"30s\"
#
# [[vhost.\"cam.example\".match]]
# stream = \"live/door*\"
# duplicate = \"takeover\"
";

/// The text of `conf/full.toml`.
fn reference() -> String {
    let mut out = String::from(HEAD);
    Config::default().walk("", &TOP, &mut |entry| match entry {
        Entry::Section(path, doc) => {
            out.push('\n');
            comment(&mut out, doc);
            line(&mut out, format_args!("[{path}]"));
        }
        Entry::Key(key) => write_key(&mut out, &key),
    });
    out.push_str(TAIL);
    out
}

fn write_key(out: &mut String, key: &Key) {
    out.push('\n');
    comment(out, key.doc);
    let range = key.range.as_ref().map_or(String::new(), |(low, high)| format!(", {low} to {high}"));
    let reload = match key.reload {
        Reload::Live => "live",
        Reload::Restart => "restart",
    };
    line(out, format_args!("# ({}{range}; {reload}; {})", key.expected, variable_of(&key.path)));
    let name = key.path.rsplit('.').next().unwrap_or_default();
    line(out, format_args!("{name} = {}", key.value));
}

fn comment(out: &mut String, doc: &[&str]) {
    for text in doc {
        line(out, format_args!("#{text}"));
    }
}

fn line(out: &mut String, text: std::fmt::Arguments<'_>) {
    // Writing to a String doesn't fail.
    let _ = writeln!(out, "{text}");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::parse;

    #[test]
    fn the_file_is_what_the_code_says() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/conf/full.toml");
        let expected = reference();
        if std::env::var_os("RILLBOX_BLESS").is_some() {
            std::fs::write(path, &expected).unwrap();
        }
        let file = std::fs::read_to_string(path).unwrap_or_default();
        assert_eq!(file, expected, "run again with RILLBOX_BLESS=1 to write conf/full.toml");
    }

    #[test]
    fn the_reference_is_the_defaults() {
        let loaded = parse("full.toml", &reference(), []).unwrap();
        assert_eq!(loaded.config, Config::default());
    }

    #[test]
    fn the_example_is_valid() {
        let example: String = TAIL
            .lines()
            .skip_while(|l| !l.starts_with("# ["))
            .map(|l| l.trim_start_matches("# ").to_owned() + "\n")
            .collect();
        let example = example.replace("#\n", "\n");
        let config = parse("tail", &example, []).unwrap().config;
        assert_eq!(config.vhost("cam.example", "live", "door1").grace.as_secs(), 30);
        assert_ne!(config.vhost("cam.example", "live", "door1"), config.vhost("cam.example", "live", "x"));
    }

    #[test]
    fn what_ships_is_valid_and_only_the_defaults() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/conf/rillbox.toml");
        let text = std::fs::read_to_string(path).unwrap();
        assert_eq!(parse("rillbox.toml", &text, []).unwrap().config, Config::default());
        // What is commented out must be as true as the rest.
        let all: String = text
            .lines()
            .map(|l| l.strip_prefix("#").filter(|l| !l.starts_with(' ')).unwrap_or(l).to_owned() + "\n")
            .collect();
        parse("rillbox.toml", &all, []).unwrap();
    }
}
