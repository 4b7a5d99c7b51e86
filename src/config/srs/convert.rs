//! An imported configuration as a TOML file.

use std::collections::HashMap;
use std::fmt::Write;

use crate::config::item::{Item, Kind};
use crate::config::keys::join;
use crate::config::value::quote;
use crate::config::{Loaded, Problem};

/// The text of what was `loaded` from `root`, with what was not taken over as comments before it.
pub(in crate::config) fn toml(name: &str, root: &Item, loaded: &Loaded) -> String {
    let mut text = format!("# Made from {}.\n", one_line(name));
    comments(&mut text, "Not taken over, or not as it was:", &loaded.warnings);
    comments(&mut text, "Needs no key:", &loaded.notes);
    // Secrets are as the import has them: elsewhere they are not shown.
    let shown = loaded.config.keys().into_iter().filter(|key| !key.secret);
    let values = shown.map(|key| (key.path, key.value)).collect();
    section(&mut text, &values, "", root);
    text
}

fn comments(text: &mut String, head: &str, problems: &[Problem]) {
    if !problems.is_empty() {
        let _ = writeln!(text, "#\n# {head}");
    }
    for problem in problems {
        let _ = writeln!(text, "#   {}", one_line(&problem.to_string()));
    }
}

/// A place or value may hold line breaks; a comment must not.
fn one_line(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

fn section(text: &mut String, read: &HashMap<String, String>, path: &str, item: &Item) {
    let Kind::Table(entries) = &item.kind else { return };
    let is_table = |item: &Item| matches!(item.kind, Kind::Table(_));
    let values: Vec<_> = entries.iter().filter(|(_, item)| !is_table(item)).collect();
    if !values.is_empty() {
        if !path.is_empty() {
            let _ = writeln!(text, "\n[{path}]");
        }
        for (name, item) in values {
            // As it was read: a number that was out of range isn't any more.
            let value = read.get(&join(path, name)).cloned().unwrap_or_else(|| value(item));
            let _ = writeln!(text, "{} = {value}", join("", name));
        }
    }
    for (name, item) in entries.iter().filter(|(_, item)| is_table(item)) {
        section(text, read, &join(path, name), item);
    }
}

fn value(item: &Item) -> String {
    match &item.kind {
        Kind::Bool(value) => value.to_string(),
        Kind::Int(value) => value.to_string(),
        Kind::Text(text) | Kind::Env(text) => quote(text),
        Kind::List(items) => format!("[{}]", items.iter().map(value).collect::<Vec<_>>().join(", ")),
        Kind::Other(text) => text.clone(),
        Kind::Table(_) => String::new(),
    }
}
