//! From a TOML file and the environment to a [`Config`], or to all that is wrong with them.

use std::fs::File;
use std::io::{self, Read};
use std::net::SocketAddr;
use std::ops::Range;
use std::path::{Path, PathBuf};

use toml::de::{DeTable, DeValue};

use super::item::{Item, Kind, Place, Problem, Problems, closest};
use super::keys::{Entry, Node, TOP};
#[cfg(feature = "srs-conf")]
use super::srs;
use super::{Config, Vhost};

/// No configuration is this long; a path that names something else shall not fill the memory.
const LONGEST_FILE: u64 = 1 << 20;

/// What environment variables for keys begin with.
const PREFIX: &str = "RILLBOX_";

/// The environment variable that names the file when the command line doesn't.
pub const FILE_VARIABLE: &str = "RILLBOX_CONFIG";

/// Why there is no configuration.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// Standard input can't be read.
    #[error("cannot read a configuration from standard input: {0}")]
    Input(io::Error),
    /// The file can't be read.
    #[error("cannot read configuration file {path}: {source}", path = path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The file, or the environment, is wrong. By line.
    #[error("{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))]
    Invalid(Vec<Problem>),
}

/// A configuration and what is odd about it.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct Loaded {
    /// The configuration.
    pub config: Config,
    /// What was ignored.
    pub warnings: Vec<Problem>,
    /// What SRS's configuration says that needs no key here, and why.
    pub notes: Vec<Problem>,
}

/// What SRS's environment alone configures.
#[cfg(feature = "srs-conf")]
const ENV_ONLY: (&str, &str) = ("environment.conf", "vhost __defaultVhost__ { }");

/// Whether a file is one of SRS's, by its name.
#[must_use]
pub fn is_srs(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "conf")
}

/// Reads `file` (none: only defaults; SRS's grammar if its name ends in `.conf`) and applies `env` (name and value of each
/// variable) on top. With `SRS_ENV_ONLY=on` SRS's variables are all there is, as for SRS.
///
/// # Errors
///
/// The file can't be read, or holds no TOML, or sets what no key takes. All mistakes are told at once.
pub fn load(
    file: Option<&Path>,
    env: impl IntoIterator<Item = (String, String)>,
) -> Result<Loaded, ConfigError> {
    let text = file.map_or_else(|| Ok(String::new()), read)?;
    load_text(file, &text, env)
}

/// As [`load`], where the file's text is known already.
///
/// # Errors
///
/// As [`load`].
pub fn load_text(
    file: Option<&Path>,
    text: &str,
    env: impl IntoIterator<Item = (String, String)>,
) -> Result<Loaded, ConfigError> {
    let env: Vec<(String, String)> = env.into_iter().collect();
    #[cfg(feature = "srs-conf")]
    if file.is_none_or(is_srs) && srs::env_only(&env) {
        return parse(ENV_ONLY.0, ENV_ONLY.1, env);
    }
    parse(&file.map_or(String::new(), |file| file.display().to_string()), text, env)
}

/// The keys that the environment sets in the place of a text in TOML, each with its variable.
#[cfg(feature = "api")]
#[must_use]
pub fn by_environment(
    text: &str,
    env: impl IntoIterator<Item = (String, String)>,
) -> Vec<(Vec<String>, String)> {
    let Some(root) = toml_item(text, &mut Problems::default()) else { return Vec::new() };
    let set: Vec<String> =
        env.into_iter().map(|(name, _)| name).filter(|name| name.starts_with(PREFIX)).collect();
    let set = |name: &String| set.iter().find(|variable| variable.eq_ignore_ascii_case(name)).cloned();
    variables(&root).into_iter().filter_map(|(name, path)| Some((path, set(&name)?))).collect()
}

/// The text of the configuration in the file `path`.
///
/// # Errors
///
/// It can't be read, or is too long.
pub fn read(path: &Path) -> Result<String, ConfigError> {
    let text = File::open(path).and_then(bounded);
    text.map_err(|source| ConfigError::Read { path: path.to_owned(), source })
}

/// The text of the configuration that comes by standard input.
///
/// # Errors
///
/// As [`read`].
pub fn read_input() -> Result<String, ConfigError> {
    bounded(io::stdin().lock()).map_err(ConfigError::Input)
}

fn bounded(source: impl Read) -> io::Result<String> {
    let mut text = String::new();
    let len = source.take(LONGEST_FILE + 1).read_to_string(&mut text)?;
    if len as u64 > LONGEST_FILE {
        return Err(io::Error::other("it is longer than 1 MiB, so it can't be a configuration"));
    }
    Ok(text)
}

/// As [`load`], of a text; `name` is what the user calls it.
///
/// # Errors
///
/// As [`load`].
pub fn parse(
    name: &str,
    text: &str,
    env: impl IntoIterator<Item = (String, String)>,
) -> Result<Loaded, ConfigError> {
    let env: Vec<(String, String)> = env.into_iter().collect();
    let mut source = Source::of(name);
    let root = source.root(text, &env);
    source.read(root, env)
}

/// SRS's configuration `text` as TOML, with comments on what was not taken over.
///
/// # Errors
///
/// As [`load`].
#[cfg(feature = "srs-conf")]
pub fn convert(
    name: &str,
    text: &str,
    env: impl IntoIterator<Item = (String, String)>,
) -> Result<String, ConfigError> {
    let env: Vec<(String, String)> = env.into_iter().filter(|(name, _)| !name.starts_with(PREFIX)).collect();
    let mut source = Source::of(name);
    let said = srs::Said {
        problems: &mut source.problems,
        warnings: &mut source.warnings,
        notes: &mut source.notes,
    };
    let root = srs::import(name, text, &env, said);
    source.problems.bring_into_range();
    let loaded = source.read(Some(root.clone()), Vec::new())?;
    Ok(srs::toml(name, &root, &loaded))
}

/// A text that is read, and what there is to say of it.
struct Source<'a> {
    name: &'a str,
    problems: Problems,
    warnings: Problems,
    notes: Problems,
}

impl<'a> Source<'a> {
    fn of(name: &'a str) -> Self {
        let [problems, warnings, notes] = [Problems::of(name), Problems::of(name), Problems::of(name)];
        Self { name, problems, warnings, notes }
    }

    /// What the text says, in whichever grammar; `None` when it is none.
    #[cfg_attr(
        not(feature = "srs-conf"),
        expect(unused_variables, reason = "SRS's grammar alone has variables of its own")
    )]
    fn root(&mut self, text: &str, env: &[(String, String)]) -> Option<Item> {
        if !is_srs(Path::new(self.name)) {
            return toml_item(text, &mut self.problems);
        }
        #[cfg(feature = "srs-conf")]
        {
            // SRS starts with most of what we would refuse.
            self.problems.bring_into_range();
            let said = srs::Said {
                problems: &mut self.problems,
                warnings: &mut self.warnings,
                notes: &mut self.notes,
            };
            Some(srs::import(self.name, text, env, said))
        }
        #[cfg(not(feature = "srs-conf"))]
        {
            let text = "this build doesn't read SRS's configurations (Cargo feature \"srs-conf\")";
            self.problems.add_at(&Place::Unknown, "", text.to_owned());
            None
        }
    }

    /// The configuration that `root` and the environment make.
    fn read(mut self, root: Option<Item>, env: Vec<(String, String)>) -> Result<Loaded, ConfigError> {
        let mut config = Config::default();
        if let Some(mut root) = root {
            overlay(&mut root, env, &mut self.warnings);
            config.read(&root, "", &mut self.problems);
            check_together(&config, &root, &mut self.problems);
        }
        self.problems.move_corrected(&mut self.warnings);
        if self.problems.is_empty() {
            Ok(Loaded { config, warnings: self.warnings.sorted(), notes: self.notes.sorted() })
        } else {
            Err(ConfigError::Invalid(self.problems.sorted()))
        }
    }
}

/// What a text in TOML says; `None` when it is none.
pub(super) fn toml_item(text: &str, problems: &mut Problems) -> Option<Item> {
    let lines = Lines::of(text);
    match DeTable::parse(text) {
        Ok(table) => Some(table_item(&lines, table.get_ref(), Place::Unknown)),
        Err(error) => {
            let place = error.span().map_or(Place::Unknown, |span| lines.place(&span));
            problems.add_at(&place, "", format!("not TOML: {}", error.message()));
            None
        }
    }
}

/// All defaults, as if someone had written them into a file.
#[cfg(feature = "srs-conf")]
pub(super) fn defaults() -> Item {
    let mut root = Item { place: Place::Unknown, kind: Kind::Table(Vec::new()) };
    for key in Config::default().keys() {
        let text = format!("value = {}", key.value);
        if let Some(item) = toml_item(&text, &mut Problems::default())
            && let Some(value) = item.find(&["value"])
        {
            let path: Vec<&str> = key.path.split('.').collect();
            root.set(&path, Item { place: Place::Unknown, kind: value.kind.clone() });
        }
    }
    root
}

/// Where the lines of a text begin.
struct Lines(Vec<usize>);

impl Lines {
    fn of(text: &str) -> Self {
        Self(text.bytes().enumerate().filter(|(_, c)| *c == b'\n').map(|(at, _)| at + 1).collect())
    }

    /// The place of the line that holds the first byte of `span`.
    fn place(&self, span: &Range<usize>) -> Place {
        Place::Line(1 + self.0.partition_point(|start| *start <= span.start))
    }
}

fn table_item(lines: &Lines, table: &DeTable<'_>, place: Place) -> Item {
    let entries = table.iter().map(|(key, value)| {
        // A section's place is its heading, a value's the line of its key.
        let place = lines.place(&key.span());
        (key.get_ref().to_string(), value_item(lines, value.get_ref(), place))
    });
    Item { kind: Kind::Table(entries.collect()), place }
}

fn value_item(lines: &Lines, value: &DeValue<'_>, place: Place) -> Item {
    let kind = match value {
        DeValue::Boolean(value) => Kind::Bool(*value),
        DeValue::Integer(number) => match i64::from_str_radix(number.as_str(), number.radix()) {
            Ok(value) => Kind::Int(value),
            Err(_) => Kind::Other(number.to_string()),
        },
        DeValue::String(value) => Kind::Text(value.to_string()),
        DeValue::Array(values) => Kind::List(
            values
                .iter()
                .map(|value| value_item(lines, value.get_ref(), lines.place(&value.span())))
                .collect(),
        ),
        DeValue::Table(table) => return table_item(lines, table, place),
        DeValue::Float(value) => Kind::Other(value.to_string()),
        DeValue::Datetime(value) => Kind::Other(value.to_string()),
    };
    Item { place, kind }
}

/// Puts what the environment sets in the place of what the file sets.
///
/// Unknown names are only worth a warning: container platforms invent variables after a service's name.
fn overlay(root: &mut Item, env: impl IntoIterator<Item = (String, String)>, warnings: &mut Problems) {
    let mut env: Vec<(String, String)> =
        env.into_iter().filter(|(name, _)| name.starts_with(PREFIX) && name != FILE_VARIABLE).collect();
    if env.is_empty() {
        return;
    }
    env.sort();
    let names = variables(root);
    for (name, value) in env {
        let place = Place::Env(name);
        let Place::Env(name) = &place else { continue };
        match names.iter().find(|(known, _)| known.eq_ignore_ascii_case(name)) {
            Some((_, path)) => {
                let path: Vec<&str> = path.iter().map(String::as_str).collect();
                root.set(&path, Item { place, kind: Kind::Env(value) });
            }
            None => {
                let known: Vec<&str> = names.iter().map(|(name, _)| name.as_str()).collect();
                let hint =
                    closest(name, &known).map_or(String::new(), |name| format!("; did you mean {name}?"));
                warnings.add_at(&place, "", format!("no key has this name, ignored{hint}"));
            }
        }
    }
}

/// The environment variable of each key, with the key's path.
fn variables(root: &Item) -> Vec<(String, Vec<String>)> {
    let mut names = Vec::new();
    for key in Config::default().keys() {
        if !key.path.starts_with("vhost.") {
            names.push((variable(&key.path), key.path.split('.').map(str::to_owned).collect()));
        }
    }
    let mut keys = Vec::new();
    Vhost::default().walk("", &TOP, &mut |entry| {
        if let Entry::Key(key) = entry {
            keys.push(key.path);
        }
    });
    let mut vhosts = vec!["default"];
    if let Some(Item { kind: Kind::Table(entries), .. }) = root.find(&["vhost"]) {
        vhosts.extend(entries.iter().map(|(name, _)| name.as_str()).filter(|name| *name != "default"));
    }
    for vhost in vhosts {
        for key in &keys {
            let path = ["vhost", vhost].into_iter().chain(key.split('.')).map(str::to_owned);
            names.push((vhost_variable(vhost, key), path.collect()));
        }
    }
    names
}

/// The environment variable of a key outside `vhost`, e.g. `RILLBOX_RTMP_LISTEN` for `rtmp.listen`.
fn variable(path: &str) -> String {
    format!("{PREFIX}{}", shout(path))
}

/// The same within a vhost, e.g. `RILLBOX_VHOST__DEFAULT__HTTP_LIVE__WAIT`. What is neither letter nor digit
/// in the vhost's name becomes `_`.
fn vhost_variable(vhost: &str, key: &str) -> String {
    format!("{PREFIX}VHOST__{}__{}", shout(vhost), shout(&key.replace('.', "__")))
}

/// The environment variable of the key at `path`, which is in `vhost.default` or in no vhost.
#[cfg(any(test, feature = "api"))]
pub(super) fn variable_of(path: &str) -> String {
    match path.strip_prefix("vhost.default.") {
        Some(key) => vhost_variable("default", key),
        None => variable(path),
    }
}

fn shout(text: &str) -> String {
    text.chars().map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_uppercase() } else { '_' }).collect()
}

/// Rules that more than one key makes.
fn check_together(config: &Config, root: &Item, problems: &mut Problems) {
    let mut wrong = |path: [&str; 2], text: String| {
        let place = root.find(&path).map_or(Place::Unknown, |item| item.place.clone());
        problems.add_at(&place, &path.join("."), text);
    };
    match (&config.tls.cert, &config.tls.key) {
        (Some(_), None) => {
            wrong(["tls", "cert"], "expected tls.key beside it: the certificate's private key".into());
        }
        (None, Some(_)) => wrong(["tls", "key"], "expected tls.cert beside it: the key's certificate".into()),
        _ => {}
    }
    let mut taken: Vec<(SocketAddr, String)> = Vec::new();
    for (path, enabled, addresses) in [
        (["rtmp", "listen"], config.rtmp.enabled, &config.rtmp.listen),
        (["rtmp", "tls_listen"], config.rtmp.enabled, &config.rtmp.tls_listen),
        (["http", "listen"], config.http.enabled, &config.http.listen),
        (["http", "tls_listen"], config.http.enabled, &config.http.tls_listen),
    ] {
        if !enabled {
            continue;
        }
        if path.contains(&"tls_listen") && !addresses.is_empty() && config.tls.cert.is_none() {
            wrong(path, "expected tls.cert and tls.key to be set, too".into());
        }
        for address in addresses.iter().filter(|address| address.port() != 0) {
            match taken.iter().find(|(other, _)| other == address) {
                Some((_, other)) => wrong(path, format!("{address} is in {other}, too")),
                None => taken.push((*address, path.join("."))),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::config::{Duplicate, MergeWindow, Size, Wait};

    fn config(text: &str) -> Config {
        parse("r.toml", text, []).unwrap().config
    }

    fn wrong(text: &str) -> String {
        parse("r.toml", text, []).unwrap_err().to_string()
    }

    fn with_env(text: &str, env: &[(&str, &str)]) -> Result<Loaded, ConfigError> {
        parse("r.toml", text, env.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())))
    }

    #[test]
    fn nothing_gives_defaults() {
        assert_eq!(config(""), Config::default());
        assert_eq!(load(None, []).unwrap().config, Config::default());
    }

    #[test]
    fn values_of_all_types() {
        let c = config(
            "[server]\nworkers = 3\npid_file = \"/run/r.pid\"\n[rtmp]\nlisten = [\"127.0.0.1:1935\", 1936, \":1937\"]\n\
             tls_listen = []\nhandshake_timeout = \"1m30s\"\nmax_message = \"1MiB\"\n[http]\nlisten = 80\n\
             [delivery]\nmerge_window = \"350ms\"\nnotsent_lowat = 65536\n[vhost.default]\nduplicate = \"takeover\"\n\
             [vhost.default.http_live]\nwait = \"5s\"\nts = false\n",
        );
        assert_eq!(c.server.workers, 3);
        assert_eq!(c.server.pid_file.as_deref(), Some(Path::new("/run/r.pid")));
        let listen: Vec<String> = c.rtmp.listen.iter().map(ToString::to_string).collect();
        assert_eq!(listen, ["127.0.0.1:1935", "[::]:1936", "[::]:1937"]);
        assert_eq!(c.rtmp.handshake_timeout, Duration::from_secs(90));
        assert_eq!(c.rtmp.max_message, Size::mib(1));
        assert_eq!(c.http.listen, ["[::]:80".parse().unwrap()]);
        assert_eq!(c.delivery.merge_window, MergeWindow::Fixed(Duration::from_millis(350)));
        assert_eq!(c.delivery.notsent_lowat.bytes(), 65536);
        let vhost = c.vhost("any", "live", "demo");
        assert_eq!(vhost.duplicate, Duplicate::Takeover);
        assert_eq!(vhost.http_live.wait, Wait::For(Duration::from_secs(5)));
        assert!(!vhost.http_live.ts && vhost.http_live.flv);
    }

    #[test]
    fn vhosts_start_from_default_and_patterns_from_vhosts() {
        let c = config(
            "[vhost.\"Cam.Example\"]\ngrace = \"1s\"\n[[vhost.\"Cam.Example\".match]]\nstream = \"live/cam*\"\n\
             duplicate = \"takeover\"\n[[vhost.\"Cam.Example\".match]]\nstream = \"*\"\ngrace = \"2s\"\n\
             [vhost.default]\ngrace = \"3s\"\nring_time = \"4s\"\n[vhost.other]\nenabled = false\n\
             [[vhost.default.match]]\nstream = \"x/*\"\ngrace = \"9s\"\n",
        );
        let secs = |vhost, app, stream| c.vhost(vhost, app, stream).grace.as_secs();
        assert_eq!(secs("cam.example", "live", "cam1"), 1);
        assert_eq!(c.vhost("CAM.example", "live", "cam1").duplicate, Duplicate::Takeover);
        assert_eq!(secs("cam.example", "live", "demo"), 2);
        assert_eq!(c.vhost("cam.example", "live", "demo").ring_time.as_secs(), 4);
        assert_eq!(secs("unknown", "live", "demo"), 3);
        assert_eq!(secs("unknown", "x", "demo"), 9);
        assert_eq!(secs("other", "x", "demo"), 3);
        assert!(!c.vhost("other", "a", "b").enabled);
        assert_eq!(c.vhost.names().collect::<Vec<_>>(), ["cam.example", "other"]);
    }

    #[test]
    fn every_mistake_says_where_and_what_was_expected() {
        for (text, expected) in [
            ("[rtmp]\nlisen = 1", "r.toml:2: rtmp.lisen: unknown key; did you mean \"listen\"?"),
            (
                "[play]\nx = 1",
                "r.toml:1: play: unknown key; expected one of: access, api, server, log, tls, rtmp, http, delivery, heartbeat, metrics, srt, webrtc, vhost",
            ),
            ("[rmtp]\nx = 1", "r.toml:1: rmtp: unknown key; did you mean \"rtmp\"?"),
            ("rtmp = 1", "r.toml:1: rtmp: expected a section, found 1"),
            (
                "[rtmp]\n\nlisten = \"abc\"",
                "r.toml:3: rtmp.listen: expected addresses such as [\"[::]:1935\", \"127.0.0.1:1935\"] or a port for all addresses ([] for none), found \"abc\"",
            ),
            (
                "[rtmp]\nlisten = [1935, 70000]",
                "r.toml:2: rtmp.listen: expected addresses such as [\"[::]:1935\", \"127.0.0.1:1935\"] or a port for all addresses ([] for none), found [1935, 70000]",
            ),
            ("[rtmp]\nenabled = \"on\"", "r.toml:2: rtmp.enabled: expected true or false, found \"on\""),
            ("[rtmp]\nchunk_size = 127", "r.toml:2: rtmp.chunk_size: expected 128 to 65536, found 127"),
            ("[rtmp]\nchunk_size = -1", "r.toml:2: rtmp.chunk_size: expected a number, found -1"),
            ("[rtmp]\nchunk_size = 1.5", "r.toml:2: rtmp.chunk_size: expected a number, found 1.5"),
            (
                "[rtmp]\nhandshake_timeout = 10",
                "r.toml:2: rtmp.handshake_timeout: expected a duration such as \"10s\", \"350ms\" or \"5m\", found 10",
            ),
            (
                "[rtmp]\nhandshake_timeout = \"10m\"",
                "r.toml:2: rtmp.handshake_timeout: expected \"1s\" to \"5m\", found \"10m\"",
            ),
            (
                "[rtmp]\nmax_message = \"16MB\"",
                "r.toml:2: rtmp.max_message: expected a size such as \"64KiB\" or \"16MiB\", or a number of bytes, found \"16MB\"",
            ),
            (
                "[delivery]\nmerge_window = \"fast\"",
                "r.toml:2: delivery.merge_window: expected \"auto\" or a duration such as \"0s\" or \"350ms\", found \"fast\"",
            ),
            (
                "[delivery]\nmerge_window = \"5s\"",
                "r.toml:2: delivery.merge_window: expected \"auto\" to \"2s\", found \"5s\"",
            ),
            (
                "[log]\nlevel = \"loud\"",
                "r.toml:2: log.level: expected \"off\", \"error\", \"warn\", \"info\", \"debug\" or \"trace\", found \"loud\"",
            ),
            (
                "[vhost.default]\nduplicate = true",
                "r.toml:2: vhost.default.duplicate: expected \"refuse\" or \"takeover\", found true",
            ),
            (
                "[vhost.\"a.b\".play]\nwait = 3",
                "r.toml:2: vhost.\"a.b\".play.wait: expected \"no\", \"forever\" or a duration such as \"10s\", found 3",
            ),
            (
                "[vhost]\ngrace = \"1s\"",
                "r.toml:2: vhost.grace: expected a section such as [vhost.default], found \"1s\"",
            ),
            (
                "[[vhost.default.match]]\ngrace = \"1s\"",
                "r.toml:1: vhost.default.match[1]: expected stream = \"live/cam*\", the streams this is for",
            ),
            (
                "[vhost.default]\nmatch = 1",
                "r.toml:2: vhost.default.match: expected [[vhost.default.match]] with stream = \"live/cam*\", found 1",
            ),
            (
                "[tls]\ncert = \"a.pem\"",
                "r.toml:2: tls.cert: expected tls.key beside it: the certificate's private key",
            ),
            (
                "[tls]\nkey = \"a.pem\"",
                "r.toml:2: tls.key: expected tls.cert beside it: the key's certificate",
            ),
            (
                "[http]\ntls_listen = 443",
                "r.toml:2: http.tls_listen: expected tls.cert and tls.key to be set, too",
            ),
            ("[http]\nlisten = 1935", "r.toml:2: http.listen: [::]:1935 is in rtmp.listen, too"),
            (
                "[rtmp]\nlisten = \n",
                "r.toml:2: not TOML: string values must be quoted, expected literal string",
            ),
            ("[rtmp]\n[rtmp]", "r.toml:2: not TOML: duplicate key"),
        ] {
            assert_eq!(wrong(text), expected, "{text}");
        }
    }

    #[test]
    fn all_mistakes_are_told_at_once_by_line() {
        let text = wrong("[rtmp]\nenabled = 1\n[log]\nlevel = 2\n[http]\nx = 3");
        let lines: Vec<&str> = text.lines().map(|line| line.split(": ").nth(1).unwrap()).collect();
        assert_eq!(lines, ["rtmp.enabled", "log.level", "http.x"]);
    }

    #[test]
    fn the_environment_wins_over_the_file() {
        let c = with_env(
            "[rtmp]\nlisten = 1\n[vhost.\"cam.example\"]\ngrace = \"1s\"",
            &[
                ("RILLBOX_RTMP_LISTEN", "127.0.0.1:5 [::1]:6"),
                ("RILLBOX_RTMP_CHUNK_SIZE", "4096"),
                ("RILLBOX_HTTP_ENABLED", "off"),
                ("RILLBOX_VHOST__DEFAULT__HTTP_LIVE__WAIT", "7s"),
                ("RILLBOX_VHOST__CAM_EXAMPLE__GRACE", "8s"),
                ("RILLBOX_CONFIG", "ignored"),
                ("HOME", "/"),
            ],
        )
        .unwrap();
        assert_eq!(c.warnings, []);
        let c = c.config;
        assert_eq!(c.rtmp.listen, ["127.0.0.1:5".parse().unwrap(), "[::1]:6".parse().unwrap()]);
        assert_eq!(c.rtmp.chunk_size, 4096);
        assert!(!c.http.enabled);
        assert_eq!(c.vhost("cam.example", "a", "b").grace.as_secs(), 8);
        assert_eq!(c.vhost("cam.example", "a", "b").http_live.wait, Wait::For(Duration::from_secs(7)));
    }

    #[test]
    fn the_environments_mistakes() {
        let error = with_env("", &[("RILLBOX_RTMP_CHUNK_SIZE", "many")]).unwrap_err().to_string();
        assert_eq!(error, "RILLBOX_RTMP_CHUNK_SIZE: rtmp.chunk_size: expected a number, found \"many\"");
        let loaded = with_env("", &[("RILLBOX_RTMP_LISEN", "1"), ("RILLBOX_SERVICE_HOST", "x")]).unwrap();
        let texts: Vec<String> = loaded.warnings.iter().map(ToString::to_string).collect();
        assert_eq!(
            texts,
            [
                "RILLBOX_RTMP_LISEN: no key has this name, ignored; did you mean RILLBOX_RTMP_LISTEN?",
                "RILLBOX_SERVICE_HOST: no key has this name, ignored",
            ]
        );
    }

    #[test]
    fn a_reload_takes_what_it_can() {
        let mut running = config("");
        let newer =
            config("[log]\nlevel = \"debug\"\n[server]\nworkers = 7\n[vhost.default]\ngrace = \"1s\"");
        let changes = running.adopt(&newer);
        assert_eq!(changes.applied, ["log.level = \"debug\"", "vhost.default.grace = \"1s\""]);
        assert_eq!(changes.restart, ["server.workers = 7"]);
        assert_eq!(running.server.workers, 0);
        assert_eq!(running.vhost("a", "b", "c").grace.as_secs(), 1);
        assert_eq!(running.adopt(&running.clone()), crate::config::Changes::default());
        // Back to the defaults: what a vhost's section set is undone.
        let changes = running.adopt(&config("[log]\nlevel = \"debug\""));
        assert_eq!(changes.applied, ["vhost.default.grace = \"10s\""]);
    }

    #[test]
    fn files_that_cannot_be_read() {
        let error = load(Some(Path::new("/nowhere/r.toml")), []).unwrap_err().to_string();
        assert_eq!(
            error,
            "cannot read configuration file /nowhere/r.toml: No such file or directory (os error 2)"
        );
        let error = load(Some(Path::new("/dev/zero")), []).unwrap_err().to_string();
        assert!(error.starts_with("cannot read configuration file /dev/zero: it is longer"), "{error}");
    }

    #[test]
    fn any_text_is_a_configuration_or_an_error() {
        let text = "[rtmp]\nlisten = [1935, \"[::1]:1\"]\nmax_message = \"1MiB\"\n[vhost.\"a.b\"]\ngrace = \"1s\"\n\
                    [[vhost.\"a.b\".match]]\nstream = \"x*\"\nhttp_live = { wait = 'no' }\n";
        parse("", text, []).unwrap();
        for at in 0..text.len() {
            let _ = parse("", &text[..at], []);
            for byte in 0..=127 {
                let mut bytes = text.as_bytes().to_vec();
                bytes[at] = byte;
                let _ = parse("", &String::from_utf8(bytes).unwrap(), []);
            }
        }
        // Depth that would be the stack's end if it were followed.
        for deep in [format!("a = {}", "[".repeat(200_000)), format!("a{} = 1", ".a".repeat(200_000))] {
            assert!(parse("", &deep, []).is_err());
        }
        assert!(parse("", &"a = 1\n".repeat(100_000), []).is_err());
        let many: String = (0..20_000).map(|i| format!("[vhost.a{i}]\n")).collect();
        let mut config = parse("", &many, []).unwrap().config;
        let newer = parse("", &(many + "[vhost.default]\ngrace = \"1s\"\n"), []).unwrap().config;
        config.adopt(&newer);
    }
}
