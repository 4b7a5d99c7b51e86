//! `rillbox apply`: a new configuration in the place of the old one, if it is right.

use std::path::Path;

use super::{ServerError, environment, services};
use crate::config::{self, Config, ConfigError, Difference, Loaded, Reload};

/// Checks the configuration in `new` (`-`: standard input) as [`load`](super::load) does, and puts it in the place
/// of `file`, where a power cut can't halve it. What changes, in words.
///
/// # Errors
///
/// It is wrong, or can't be written; `file` is as it was.
pub fn apply(new: &Path, file: &Path) -> Result<String, ServerError> {
    for path in [new, file] {
        if config::is_srs(path) {
            let path = path.display();
            let text =
                format!("{path} is SRS's; rillbox convert {path} makes TOML of it, which can be applied");
            return Err(ServerError::Unusable(text));
        }
    }
    let (name, text) = if new.as_os_str() == "-" {
        ("standard input".to_owned(), config::read_input()?)
    } else {
        (new.display().to_string(), config::read(new)?)
    };
    let Loaded { config, warnings, .. } = config::parse(&name, &text, environment())?;
    services::usable(&config)?;
    let old = current(file);
    config::store(file, &text)?;

    let (before, note) = match &old {
        Ok(old) => (old, String::new()),
        Err(error) => (&Config::default(), format!(" (compared with the defaults: {error})")),
    };
    let file = file.display();
    let differences = before.differences(&config);
    let mut out = match differences.len() {
        0 if *before == config => format!("{file}: nothing changes{note}\n"),
        0 => format!("{file}: sections of vhosts change, but no key{note}\n"),
        1 => format!("{file}: 1 key changes{note}:\n"),
        n => format!("{file}: {n} keys change{note}:\n"),
    };
    for difference in &differences {
        out += &line(difference);
    }
    for warning in warnings {
        out += &format!("warning: {warning}\n");
    }
    out += &format!("{file} is written; SIGHUP puts it in force\n");
    Ok(out)
}

/// SRS's configuration in `file` as TOML.
///
/// # Errors
///
/// It can't be read, or is wrong.
#[cfg(feature = "srs-conf")]
pub fn convert(file: &Path) -> Result<String, ServerError> {
    let text = config::read(file)?;
    Ok(config::convert(&file.display().to_string(), &text, environment())?)
}

/// The configuration that `file` holds; or why there is none, as far as it fits a line.
fn current(file: &Path) -> Result<Config, String> {
    match config::load(Some(file), environment()) {
        Ok(loaded) => Ok(loaded.config),
        Err(ConfigError::Read { source, .. }) => Err(format!("there was none: {source}")),
        Err(error) => {
            let text = error.to_string();
            Err(format!("it was wrong: {}", text.lines().next().unwrap_or_default()))
        }
    }
}

fn line(Difference { path, old, new, reload, .. }: &Difference) -> String {
    let value = |value: &Option<String>| value.clone().unwrap_or_else(|| "not set".into());
    let restart = match reload {
        Reload::Live => "",
        Reload::Restart => " (needs a restart)",
    };
    format!("  {path}: {} -> {}{restart}\n", value(old), value(new))
}
