//! SRS's configuration files, its environment variables, and what they are here.
//!
//! Each directive has a rule (`rules`): the key it becomes, or why it becomes none. What SRS knows nothing of is a mistake, as
//! it is for SRS; what it knows and we don't do is a warning with its place. A vhost of SRS's starts from SRS's defaults, not
//! from `__defaultVhost__`: an import says so where ours would inherit.

mod convert;
mod map;
mod parse;
mod rules;
#[cfg(test)]
mod tests;

use std::path::Path;

pub(super) use self::convert::toml;
pub(super) use self::map::Said;
use self::parse::Directive;
use super::item::{Item, Place, Problems};

/// What SRS's environment variables begin with.
const PREFIX: &str = "SRS_";

/// The environment variable that makes SRS do without a file.
const ENV_ONLY: &str = "SRS_ENV_ONLY";

/// Whether the environment is all there is.
pub(super) fn env_only(env: &[(String, String)]) -> bool {
    env.iter().any(|(name, value)| name == ENV_ONLY && matches!(value.as_str(), "on" | "1" | "true"))
}

/// Reads SRS's configuration as ours.
pub(super) fn import(name: &str, text: &str, env: &[(String, String)], said: Said<'_>) -> Item {
    let mut reader = |path: &Path| super::load::read(path).map_err(|error| error.to_string());
    let directives = parse::parse(name, text, &mut reader, said.problems);
    let mut directives = map::moved(&directives, rules::MOVED_TOP);
    for srt in directives.iter_mut().filter(|directive| directive.name == "srt_server") {
        srt.block = map::moved(&srt.block, rules::MOVED_SRT);
    }
    overlay(&mut directives, env, said.warnings);
    map::map(&directives, said)
}

/// Puts what the environment says in the place of what the file says, as SRS does: for all vhosts alike.
fn overlay(directives: &mut Vec<Directive>, env: &[(String, String)], warnings: &mut Problems) {
    let variables = env.iter().filter(|(name, _)| name.starts_with(PREFIX) && name != ENV_ONLY);
    for (name, value) in variables {
        let place = Place::Env(name.clone());
        // SRS's own names for these leave out a part.
        let long = match name.as_str() {
            "SRS_LOG_TANK" | "SRS_LOG_LEVEL" | "SRS_LOG_FILE" | "SRS_LOG_LEVEL_V2" => format!("SRS_{name}"),
            "SRS_VHOST_CHUNK_SIZE" => "SRS_CHUNK_SIZE".to_owned(),
            "SRS_VHOST_SRT_TO_RTMP" => "SRS_VHOST_SRT_SRT_TO_RTMP".to_owned(),
            "SRS_DEVICE_IP" => "SRS_HEARTBEAT_DEVICE_IP".to_owned(),
            _ => name.clone(),
        };
        let is = |prefix: &str, path: &str| {
            let rest = long.strip_prefix(prefix).unwrap_or_default();
            rest.eq_ignore_ascii_case(&path.replace('.', "_"))
        };
        let (top, vhost) = (rules::TOP, rules::VHOST);
        // A block has no value.
        let named = |rules: &[(&'static str, rules::Rule)], prefix: &str| {
            let mut keys =
                rules.iter().filter(|(path, rule)| !matches!(rule, rules::Rule::Block) && *path != "vhost");
            keys.find(|(path, _)| is(prefix, path)).map(|(path, _)| *path)
        };
        if let Some(path) = named(top, PREFIX) {
            set(directives, path, value, &place);
        } else if let Some(path) = named(vhost, "SRS_VHOST_") {
            for directive in directives.iter_mut().filter(|directive| directive.name == "vhost") {
                set(&mut directive.block, path, value, &place);
            }
        } else if matches!(name.as_str(), "SRS_CONFIG_FILE" | "SRS_PLATFORM" | "SRS_REGION" | "SRS_SOURCE") {
            // Not of directives.
        } else if let Some(path) = lacking(top, PREFIX, &long) {
            set(directives, &path, value, &place);
        } else if let Some(path) = lacking(vhost, "SRS_VHOST_", &long) {
            for directive in directives.iter_mut().filter(|directive| directive.name == "vhost") {
                set(&mut directive.block, &path, value, &place);
            }
        } else {
            warnings.add_at(&place, "", "no directive of SRS's has this name, ignored".to_owned());
        }
    }
}

/// The path of a directive in a block that we know only as a whole.
fn lacking(rules: &[(&str, rules::Rule)], prefix: &str, variable: &str) -> Option<String> {
    let rest = variable.strip_prefix(prefix)?.to_ascii_lowercase();
    let mut blocks = rules.iter().filter(|(_, rule)| !matches!(rule, rules::Rule::Block));
    let (block, _) = blocks.find(|(path, _)| rest.strip_prefix(path).is_some_and(|r| r.starts_with('_')))?;
    Some(format!("{block}.{}", rest.strip_prefix(block)?.strip_prefix('_')?))
}

/// Sets the directive at `path`, making blocks on the way.
fn set(block: &mut Vec<Directive>, path: &str, value: &str, place: &Place) {
    let (name, rest) = path.split_once('.').map_or((path, None), |(name, rest)| (name, Some(rest)));
    let at = block.iter().position(|directive| directive.name == name);
    match (rest, at) {
        (None, _) => {
            block.retain(|directive| directive.name != name);
            let args = value.split_whitespace().map(str::to_owned).collect();
            block.push(Directive { name: name.to_owned(), args, block: Vec::new(), place: place.clone() });
        }
        (Some(rest), Some(at)) => {
            if let Some(directive) = block.get_mut(at) {
                set(&mut directive.block, rest, value, place);
            }
        }
        (Some(rest), None) => {
            let mut inner = Vec::new();
            set(&mut inner, rest, value, place);
            block.push(Directive {
                name: name.to_owned(),
                args: Vec::new(),
                block: inner,
                place: place.clone(),
            });
        }
    }
}
