//! `rillbox passwd` and `rillbox token`: what users and signed URLs are made with.

use std::io::{self, BufRead, IsTerminal, Write};
use std::path::{Path, PathBuf};

use rustix::termios::{LocalModes, OptionalActions, tcgetattr, tcsetattr};
use toml_edit::{Array, ArrayOfTables, DocumentMut, InlineTable, Item, Table, Value, value};

use super::password::{self, LONGEST};
use super::token::Grant;
use super::unix_now;
use crate::config::{self, Config, ConfigError, PasswordHash, Role, StoreError, User};
use crate::hub::{Action, DEFAULT_VHOST, StreamName};

/// The fewest characters of a password.
const SHORTEST: usize = 8;

/// Why a command did nothing.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CommandError {
    /// The command line is not understood.
    #[error("{0}; see rillbox --help")]
    Usage(String),
    /// There is no such password.
    #[error("{0}")]
    Password(String),
    /// The terminal, or standard input, can't be read.
    #[error("cannot read the password: {0}")]
    Input(#[from] io::Error),
    /// The configuration is wrong.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The configuration can't be changed.
    #[error("{0}")]
    File(String),
    /// The configuration can't be written.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Where a user is put, and how the whole is checked before it is written.
pub struct Store<'a> {
    /// The configuration file; none: the user is printed.
    pub file: Option<PathBuf>,
    /// Says whether a text would be right as the configuration of this name.
    pub check: &'a dyn Fn(&str, &str) -> Result<(), ConfigError>,
}

/// The options of a command: `--name VALUE` or `--name=VALUE`, and what stands alone.
struct Options {
    named: Vec<(String, String)>,
    alone: Vec<String>,
}

impl Options {
    fn read(args: Vec<String>, known: &[&str]) -> Result<Self, CommandError> {
        let (mut named, mut alone) = (Vec::new(), Vec::new());
        let mut args = args.into_iter();
        while let Some(arg) = args.next() {
            let Some(option) = arg.strip_prefix("--").or((arg == "-c").then_some("config")) else {
                alone.push(arg);
                continue;
            };
            let (name, value) = match option.split_once('=') {
                Some((name, value)) => (name.to_owned(), Some(value.to_owned())),
                None => (option.to_owned(), args.next()),
            };
            if !known.contains(&name.as_str()) {
                return Err(CommandError::Usage(format!("unknown option {arg:?}")));
            }
            let value = value.filter(|value| !value.is_empty());
            let value = value.ok_or_else(|| CommandError::Usage(format!("--{name} needs a value")))?;
            named.push((name, value));
        }
        Ok(Self { named, alone })
    }

    fn get(&self, name: &str) -> Option<&str> {
        self.named.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }
}

/// `rillbox passwd --user NAME [--role ROLE] [-c FILE]`: asks for a password and stores the user, or says what to store.
///
/// # Errors
/// [`CommandError`]; the file is as it was.
pub fn passwd(args: Vec<String>, store: Store<'_>) -> Result<String, CommandError> {
    let options = Options::read(args, &["user", "role", "config"])?;
    if let Some(word) = options.alone.first() {
        return Err(CommandError::Usage(format!(
            "unexpected {word:?}: passwords are not given on the command line"
        )));
    }
    let name =
        options.get("user").ok_or_else(|| CommandError::Usage("passwd needs --user NAME".to_owned()))?;
    let role = match options.get("role").map(|text| (text, Role::of(text))) {
        None => None,
        Some((_, Some(role))) => Some(role),
        Some((text, None)) => {
            let text = format!("role {text:?}: expected viewer, publisher, operator or admin");
            return Err(CommandError::Usage(text));
        }
    };
    let file = options.get("config").map(PathBuf::from).or(store.file);
    let mut document = match &file {
        Some(file) => Some(read(file)?),
        None => None,
    };
    let known = document.as_ref().and_then(|document| role_in(document, name));
    let role =
        role.or(known).ok_or_else(|| CommandError::Usage("a new user needs --role ROLE".to_owned()))?;
    let hash = password::hash(&ask(name)?).map_err(|error| CommandError::Password(error.to_string()))?;
    let good = PasswordHash::of(&hash).and_then(|hash| User::new(name, role, hash));
    if good.is_none() {
        let text = format!("user {name:?}: expected up to 64 letters, digits and . _ - @ +");
        return Err(CommandError::Usage(text));
    }
    let (Some(file), Some(document)) = (file, &mut document) else {
        let mut document = DocumentMut::new();
        put(&mut document, name, role, &hash)?;
        return Ok(document.to_string());
    };
    put(document, name, role, &hash)?;
    let text = document.to_string();
    if text.parse::<DocumentMut>().ok().and_then(|document| role_in(&document, name)) != Some(role) {
        return Err(CommandError::File(
            "access.users is written in a way that takes no more users".to_owned(),
        ));
    }
    let shown = file.display().to_string();
    (store.check)(&shown, &text)?;
    config::store(&file, &text)?;
    let did = if known.is_some() { "has a new password" } else { "is a user now" };
    Ok(format!("{name} ({}) {did} in {shown}; SIGHUP puts it in force\n", role.as_str()))
}

/// The configuration in a file that need not be there.
fn read(file: &Path) -> Result<DocumentMut, CommandError> {
    let text = match config::read(file) {
        Err(ConfigError::Read { source, .. }) if source.kind() == io::ErrorKind::NotFound => String::new(),
        text => text?,
    };
    let parsed = text.parse::<DocumentMut>();
    parsed
        .map_err(|error| CommandError::File(format!("{}: {}", file.display(), error.to_string().trim_end())))
}

/// The tables of users, in either of the two forms that TOML has for them.
fn users(document: &DocumentMut) -> Option<&Item> {
    document.get("access")?.get("users")
}

fn role_in(document: &DocumentMut, name: &str) -> Option<Role> {
    let role = match users(document)? {
        Item::ArrayOfTables(tables) => {
            let table = tables.iter().find(|table| table.get("name").and_then(Item::as_str) == Some(name))?;
            table.get("role")?.as_str()?
        }
        Item::Value(Value::Array(array)) => {
            let mut tables = array.iter().filter_map(Value::as_inline_table);
            let table = tables.find(|table| table.get("name").and_then(Value::as_str) == Some(name))?;
            table.get("role")?.as_str()?
        }
        _ => return None,
    };
    Role::of(role)
}

/// Puts a user in, and leaves all else of the file as it is.
fn put(document: &mut DocumentMut, name: &str, role: Role, hash: &str) -> Result<(), CommandError> {
    let wrong = || CommandError::File("access.users is no list of users".to_owned());
    let last = document.trailing().as_str().unwrap_or_default().to_owned();
    let empty = document.is_empty();
    if users(document).is_none() {
        document.set_trailing("");
    }
    let access = document.entry("access").or_insert_with(|| {
        let mut table = Table::new();
        // [[access.users]] says it all.
        table.set_implicit(true);
        Item::Table(table)
    });
    // In a section on one line there is no place for others.
    let inline = access.is_inline_table();
    let access = access.as_table_like_mut().ok_or_else(wrong)?;
    let users = access.entry("users").or_insert_with(|| match inline {
        true => value(Array::new()),
        false => Item::ArrayOfTables(ArrayOfTables::new()),
    });
    let pairs = [("name", name), ("role", role.as_str()), ("hash", hash)];
    match users {
        // What stands at the end of the file is of the section before: a heading in between would take it over.
        Item::ArrayOfTables(tables) if tables.is_empty() => {
            let mut table = Table::new();
            pairs.iter().for_each(|(key, text)| set(&mut table, key, text));
            table.decor_mut().set_prefix(if empty && last.is_empty() { last } else { last + "\n" });
            tables.push(table);
        }
        Item::ArrayOfTables(tables) => {
            let known =
                tables.iter_mut().find(|table| table.get("name").and_then(Item::as_str) == Some(name));
            if let Some(table) = known {
                pairs.iter().for_each(|(key, text)| set(table, key, text));
            } else {
                let mut table = Table::new();
                pairs.iter().for_each(|(key, text)| set(&mut table, key, text));
                tables.push(table);
            }
        }
        Item::Value(Value::Array(array)) => {
            let named =
                |value: &Value| value.as_inline_table()?.get("name")?.as_str().map(|known| known == name);
            let known = array.iter().position(|value| named(value) == Some(true));
            if let Some(table) = known.and_then(|at| array.get_mut(at)?.as_inline_table_mut()) {
                pairs.iter().for_each(|(key, text)| drop(table.insert(*key, (*text).into())));
            } else {
                let table: InlineTable = pairs.iter().map(|(key, text)| (*key, Value::from(*text))).collect();
                array.push(table);
            }
        }
        _ => return Err(wrong()),
    }
    Ok(())
}

/// Sets a key, and keeps what stands around its old value.
fn set(table: &mut Table, key: &str, text: &str) {
    match table.get_mut(key).and_then(Item::as_value_mut) {
        Some(old) => {
            let decor = old.decor().clone();
            *old = text.into();
            *old.decor_mut() = decor;
        }
        None => drop(table.insert(key, value(text))),
    }
}

/// A password: asked for twice where there is a terminal, otherwise the first line of standard input.
fn ask(name: &str) -> Result<String, CommandError> {
    let stdin = io::stdin();
    let password = if stdin.is_terminal() {
        let first = silently(&format!("Password of {name}: "))?;
        if silently("Once more: ")? != first {
            return Err(CommandError::Password("these are two passwords".to_owned()));
        }
        first
    } else {
        line(stdin.lock())?
    };
    let wrong = |text: String| Err(CommandError::Password(text));
    if password.chars().count() < SHORTEST {
        return wrong(format!("a password needs {SHORTEST} characters or more"));
    }
    if password.len() > LONGEST {
        return wrong(format!("a password has {LONGEST} bytes at most"));
    }
    if password.contains(char::is_control) {
        return wrong("a password has no control characters".to_owned());
    }
    Ok(password)
}

/// The first line, without its end.
fn line(input: impl BufRead) -> io::Result<String> {
    let mut text = String::new();
    input.take(LONGEST as u64 * 4).read_line(&mut text)?;
    text.truncate(text.trim_end_matches(['\r', '\n']).len());
    Ok(text)
}

/// Asks at the terminal, which does not show what is typed.
fn silently(question: &str) -> io::Result<String> {
    let stdin = io::stdin();
    let before = tcgetattr(&stdin)?;
    let mut mute = before.clone();
    mute.local_modes.remove(LocalModes::ECHO);
    eprint!("{question}");
    io::stderr().flush()?;
    tcsetattr(&stdin, OptionalActions::Flush, &mute)?;
    let text = line(stdin.lock());
    tcsetattr(&stdin, OptionalActions::Flush, &before)?;
    eprintln!();
    text
}

/// `rillbox token play|publish APP/STREAM [--vhost V] [--time 1h] [--ip ADDRESS] [-c FILE]`: the parameters that let a
/// client in. `load` reads the configuration.
///
/// # Errors
/// [`CommandError`].
pub fn token<E: Into<Box<dyn std::error::Error>>>(
    args: Vec<String>,
    file: Option<PathBuf>,
    load: impl FnOnce(Option<&Path>) -> Result<Config, E>,
) -> Result<String, Box<dyn std::error::Error>> {
    let usage = |text: String| CommandError::Usage(text);
    let options = Options::read(args, &["vhost", "time", "ip", "config"])?;
    let action = match options.alone.first().map(String::as_str) {
        Some("play") => Action::Play,
        Some("publish") => Action::Publish,
        _ => return Err(usage("token needs play or publish, and APP/STREAM".to_owned()).into()),
    };
    let (Some(path), None) = (options.alone.get(1), options.alone.get(2)) else {
        return Err(usage("token needs one APP/STREAM".to_owned()).into());
    };
    let (app, stream) = path.rsplit_once('/').ok_or_else(|| usage(format!("{path:?} is not APP/STREAM")))?;
    let time = options.get("time").unwrap_or("1h");
    let time =
        config::duration_of(time).ok_or_else(|| usage(format!("--time {time}: expected e.g. 30m or 12h")))?;
    let ip = options.get("ip");
    if ip.is_some_and(|ip| ip.parse::<std::net::IpAddr>().is_err()) {
        return Err(usage("--ip needs an address".to_owned()).into());
    }
    let file = options.get("config").map(PathBuf::from).or(file);
    let config = load(file.as_deref()).map_err(Into::into)?;
    let asked = options.get("vhost").unwrap_or_default();
    let vhost = config.vhost.names().find(|name| name.eq_ignore_ascii_case(asked)).unwrap_or(DEFAULT_VHOST);
    let name = StreamName::new(vhost, app, stream)?;
    let secret = config.access.token_secrets.iter().next();
    let secret = secret.ok_or_else(|| usage("the configuration has no access.token_secrets".to_owned()))?;
    let expires = unix_now().saturating_add(time.as_secs()).to_string();
    let sign = Grant { action, name: &name, expires: &expires, ip }.sign(secret);
    let ip = ip.map_or(String::new(), |ip| format!("&ip={ip}"));
    Ok(format!("expires={expires}{ip}&sign={sign}\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_keeps_its_words() {
        let before = "# Mine\n[rtmp] # here\nlisten = [1935]\n\n[[access.users]] # the first\nname = \"a\" # Ann\nrole = \"admin\"\n\
                      hash = \"old\" # secret\nplay = [\"*\"]\n\n[log]\nlevel = \"info\"\n";
        let mut document: DocumentMut = before.parse().unwrap();
        assert_eq!(role_in(&document, "a"), Some(Role::Admin));
        put(&mut document, "a", Role::Viewer, "new").unwrap();
        let after = before.replace("old", "new").replace("\"admin\"", "\"viewer\"");
        assert_eq!(document.to_string(), after);
        put(&mut document, "b", Role::Admin, "other").unwrap();
        let text = document.to_string();
        assert!(
            text.contains("[[access.users]]\nname = \"b\"\nrole = \"admin\"\nhash = \"other\"\n"),
            "{text}"
        );
        assert!(
            text.starts_with("# Mine\n[rtmp] # here\n") && text.ends_with("[log]\nlevel = \"info\"\n"),
            "{text}"
        );
    }

    #[test]
    fn either_form_of_a_list_is_kept() {
        let before = "[access]\nusers = [{ name = \"a\", role = \"admin\", hash = \"old\" }]\n";
        let mut document: DocumentMut = before.parse().unwrap();
        assert_eq!(role_in(&document, "a"), Some(Role::Admin));
        put(&mut document, "a", Role::Admin, "new").unwrap();
        put(&mut document, "b", Role::Viewer, "h").unwrap();
        let text = document.to_string();
        assert!(
            text.contains("\"new\"")
                && text.contains("name = \"b\"")
                && !text.contains("[[")
                && !text.contains("old"),
            "{text}"
        );
        for wrong in ["access = 1\n", "[access]\nusers = 1\n"] {
            assert!(put(&mut wrong.parse().unwrap(), "a", Role::Viewer, "h").is_err(), "{wrong}");
        }
        let mut comments: DocumentMut = "[log]\n#level = \"debug\"\n".parse().unwrap();
        put(&mut comments, "a", Role::Viewer, "h").unwrap();
        let expected =
            "[log]\n#level = \"debug\"\n\n[[access.users]]\nname = \"a\"\nrole = \"viewer\"\nhash = \"h\"\n";
        assert_eq!(comments.to_string(), expected);
        let mut empty = DocumentMut::new();
        put(&mut empty, "a", Role::Viewer, "h").unwrap();
        assert_eq!(empty.to_string(), "[[access.users]]\nname = \"a\"\nrole = \"viewer\"\nhash = \"h\"\n");
    }

    #[test]
    fn lines_end_where_they_end() {
        assert_eq!(line(&b"pass word \r\nmore"[..]).unwrap(), "pass word ");
        assert_eq!(line(&b""[..]).unwrap(), "");
    }
}
