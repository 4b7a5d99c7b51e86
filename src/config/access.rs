//! What the keys of access control look like: users, networks, patterns of names, secrets.

use std::fmt;
use std::net::IpAddr;

use super::item::{Item, Kind};
#[cfg(feature = "api")]
use super::value::Shape;
use super::value::{Value, quote};
use super::vhost::matches;

/// What stands for a secret wherever values are shown. It is no secret itself, and refused as one.
const HIDDEN: &str = "***";

/// A text that no log and no answer shows.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Secret(String);

impl Secret {
    /// The text.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// Whether none is set.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn of(text: &str) -> Option<Self> {
        (text != HIDDEN).then(|| Self(text.to_owned()))
    }

    fn shown(&self) -> &'static str {
        if self.is_empty() { "" } else { HIDDEN }
    }
}

impl From<&str> for Secret {
    fn from(text: &str) -> Self {
        Self(text.to_owned())
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.shown())
    }
}

impl Value for Secret {
    const SECRET: bool = true;
    const EXPECTED: &'static str = "a secret text in quotes (\"\" for none)";

    fn parse(item: &Item) -> Option<Self> {
        Self::of(item.word()?)
    }

    fn text(&self) -> String {
        quote(self.shown())
    }
}

/// Secrets of which the first is in use and the others are still good.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Secrets(Vec<Secret>);

impl Secrets {
    /// The least bytes of one: what can be guessed at leisure has to be long.
    const LEAST: usize = 16;
    /// The most of them: each is tried.
    const MOST: usize = 8;

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// All of them, the one in use first.
    pub fn iter(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(Secret::expose)
    }
}

impl Value for Secrets {
    #[cfg(feature = "api")]
    const SHAPE: Shape = Shape::Texts;
    const SECRET: bool = true;
    const EXPECTED: &'static str = "up to 8 secrets of 16 characters or more ([] for none)";

    fn parse(item: &Item) -> Option<Self> {
        let all: Vec<&str> = match &item.kind {
            Kind::List(items) => items.iter().map(Item::word).collect::<Option<_>>()?,
            Kind::Env(text) => text.split_whitespace().collect(),
            _ => vec![item.word()?],
        };
        let fit = all.len() <= Self::MOST && all.iter().all(|text| text.len() >= Self::LEAST);
        fit.then(|| all.into_iter().map(Secret::of).collect::<Option<_>>().map(Self))?
    }

    fn text(&self) -> String {
        let all: Vec<String> = self.0.iter().map(Value::text).collect();
        format!("[{}]", all.join(", "))
    }
}

/// What a user may do: each role all that those before it may.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Role {
    /// Plays streams, reads what the API and metrics tell.
    Viewer,
    /// Publishes streams.
    Publisher,
    /// Ends sessions, starts and deletes recordings, has the configuration read again.
    Operator,
    /// Changes the configuration.
    Admin,
}

impl Role {
    /// All of them, the least first.
    pub const ALL: [Self; 4] = [Self::Viewer, Self::Publisher, Self::Operator, Self::Admin];

    /// The role's name.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Viewer => "viewer",
            Self::Publisher => "publisher",
            Self::Operator => "operator",
            Self::Admin => "admin",
        }
    }

    /// The role of a name.
    #[must_use]
    pub fn of(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|role| role.as_str() == name)
    }
}

/// Which streams: `vhost/app/stream` with `*` (any characters) and `?` (one); the vhost ends at the first slash. `*`: all.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pattern(String);

impl Pattern {
    /// The pattern for all streams.
    #[must_use]
    pub fn all() -> Self {
        Self("*".to_owned())
    }

    /// Reads a pattern.
    #[must_use]
    pub fn of(text: &str) -> Option<Self> {
        const LONGEST: usize = 512;
        let names = || {
            let (vhost, rest) = text.split_once('/')?;
            // With one slash it would be app/stream, and mean another stream than who wrote it thinks.
            Some(!vhost.is_empty() && (rest.contains('/') || rest == "*"))
        };
        (text.len() <= LONGEST && (text == "*" || names() == Some(true))).then(|| Self(text.to_owned()))
    }

    /// Whether a stream is meant.
    #[must_use]
    pub fn matches(&self, vhost: &str, app: &str, stream: &str) -> bool {
        match self.0.split_once('/') {
            Some((pattern, rest)) => {
                let vhost = vhost.to_ascii_lowercase();
                // `matches` is of two texts with a slash between.
                matches(&format!("/{}", pattern.to_ascii_lowercase()), "", &vhost)
                    && matches(rest, app, stream)
            }
            None => true,
        }
    }

    /// Whether all streams are meant.
    #[must_use]
    pub fn is_all(&self) -> bool {
        self.0 == "*"
    }
}

/// What was made of a password: an argon2id hash in the PHC string format.
#[derive(Clone, PartialEq, Eq)]
pub struct PasswordHash {
    text: String,
    /// Memory in KiB, passes, lanes.
    costs: (u32, u32, u32),
}

impl PasswordHash {
    /// The most memory that a verification may take, in KiB: it has to be there on the smallest board that is to take it.
    pub const MOST_MEMORY: u32 = 64 * 1024;
    /// The most passes and lanes.
    pub const MOST_PASSES: u32 = 16;
    /// The most lanes.
    pub const MOST_LANES: u32 = 4;

    /// Reads `$argon2id$v=19$m=9216,t=4,p=1$SALT$HASH`.
    #[must_use]
    pub fn of(text: &str) -> Option<Self> {
        let mut fields = text.strip_prefix("$argon2id$v=19$")?.split('$');
        let (costs, salt, hash) = (fields.next()?, fields.next()?, fields.next()?);
        let base64 = |text: &str| text.bytes().all(|c| c.is_ascii_alphanumeric() || c == b'+' || c == b'/');
        let sizes = (11..=64).contains(&salt.len()) && (22..=86).contains(&hash.len());
        if fields.next().is_some() || !sizes || !base64(salt) || !base64(hash) {
            return None;
        }
        let mut costs = costs.split(',');
        let mut cost = |name, most| {
            let n = costs.next()?.strip_prefix(name)?.parse().ok()?;
            (1..=most).contains(&n).then_some(n)
        };
        let costs_of =
            (cost("m=", Self::MOST_MEMORY)?, cost("t=", Self::MOST_PASSES)?, cost("p=", Self::MOST_LANES)?);
        let enough = costs_of.0 >= 8 * costs_of.2;
        (costs.next().is_none() && enough).then(|| Self { text: text.to_owned(), costs: costs_of })
    }

    /// The whole text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Memory in KiB, passes, lanes.
    #[must_use]
    pub const fn costs(&self) -> (u32, u32, u32) {
        self.costs
    }

    /// Salt and hash, both in base64 without padding.
    #[must_use]
    pub fn parts(&self) -> Option<(&str, &str)> {
        let (rest, hash) = self.text.rsplit_once('$')?;
        Some((rest.rsplit_once('$')?.1, hash))
    }
}

impl fmt::Debug for PasswordHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(HIDDEN)
    }
}

/// Someone who has a password.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct User {
    /// The name.
    pub name: String,
    /// What they may do.
    pub role: Role,
    /// What was made of the password.
    pub hash: PasswordHash,
    /// Which streams they may play.
    pub play: Vec<Pattern>,
    /// Which streams they may publish; none of a viewer.
    pub publish: Vec<Pattern>,
}

impl User {
    /// The most bytes of a name.
    pub const LONGEST_NAME: usize = 64;

    /// A user who may do with all streams what the role says.
    #[must_use]
    pub fn new(name: &str, role: Role, hash: PasswordHash) -> Option<Self> {
        // A colon ends the name in Basic credentials (RFC 7617 2), and all of these stand in lines of the log.
        let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | '@' | '+');
        if name.is_empty() || name.len() > Self::LONGEST_NAME || !name.chars().all(fits) {
            return None;
        }
        let publish = if role >= Role::Publisher { vec![Pattern::all()] } else { Vec::new() };
        Some(Self { name: name.to_owned(), role, hash, play: vec![Pattern::all()], publish })
    }
}

/// All who have a password.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Users(Vec<User>);

impl Users {
    const MOST: usize = 1000;

    /// Each of them.
    pub fn iter(&self) -> impl Iterator<Item = &User> {
        self.0.iter()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The user of a name.
    #[must_use]
    pub fn find(&self, name: &str) -> Option<&User> {
        self.0.iter().find(|user| user.name == name)
    }
}

impl FromIterator<User> for Users {
    fn from_iter<T: IntoIterator<Item = User>>(users: T) -> Self {
        Self(users.into_iter().collect())
    }
}

impl Value for Users {
    #[cfg(feature = "api")]
    const SHAPE: Shape = Shape::Users;
    const SECRET: bool = true;
    const EXPECTED: &'static str = "users, each with its own name, a role (\"viewer\", \"publisher\", \"operator\", \"admin\"), the \
                                    hash that \"rillbox passwd\" makes, and, where it is not for all streams, play and publish \
                                    such as [\"*/live/cam*\"]";

    fn parse(item: &Item) -> Option<Self> {
        let all: Vec<User> = match &item.kind {
            Kind::List(items) => items.iter().map(user).collect::<Option<_>>()?,
            // NAME:ROLE:HASH, which has no blanks.
            Kind::Env(text) => text.split_whitespace().map(user_word).collect::<Option<_>>()?,
            _ => return None,
        };
        let twice =
            all.iter().enumerate().any(|(i, user)| all.iter().take(i).any(|other| other.name == user.name));
        (all.len() <= Self::MOST && !twice).then_some(Self(all))
    }

    fn text(&self) -> String {
        let patterns = |name: &str, all: &[Pattern]| {
            let all: Vec<String> = all.iter().map(|pattern| quote(&pattern.0)).collect();
            format!(", {name} = [{}]", all.join(", "))
        };
        let all = self.0.iter().map(|user| {
            let name = quote(&user.name);
            let (play, publish) = (patterns("play", &user.play), patterns("publish", &user.publish));
            format!(
                "{{ name = {name}, role = \"{}\", hash = \"{HIDDEN}\"{play}{publish} }}",
                user.role.as_str()
            )
        });
        format!("[{}]", all.collect::<Vec<_>>().join(", "))
    }
}

fn user_word(word: &str) -> Option<User> {
    let (name, rest) = word.split_once(':')?;
    let (role, hash) = rest.split_once(':')?;
    User::new(name, Role::of(role)?, PasswordHash::of(hash)?)
}

fn user(item: &Item) -> Option<User> {
    let Kind::Table(entries) = &item.kind else { return None };
    let word = |name| item.find(&[name]).and_then(Item::word);
    let known = |name: &str| matches!(name, "name" | "role" | "hash" | "play" | "publish");
    if !entries.iter().all(|(name, _)| known(name)) {
        return None;
    }
    let mut user = User::new(word("name")?, Role::of(word("role")?)?, PasswordHash::of(word("hash")?)?)?;
    for (name, patterns) in [("play", &mut user.play), ("publish", &mut user.publish)] {
        if let Some(item) = item.find(&[name]) {
            *patterns = Vec::parse(item)?;
        }
    }
    (user.role >= Role::Publisher || user.publish.is_empty()).then_some(user)
}

impl Value for Vec<Pattern> {
    #[cfg(feature = "api")]
    const SHAPE: Shape = Shape::Texts;
    const EXPECTED: &'static str = "patterns of vhost/app/stream such as [\"*/live/cam*\"], or [\"*\"]";

    fn parse(item: &Item) -> Option<Self> {
        match &item.kind {
            Kind::List(items) => items.iter().map(|item| Pattern::of(item.word()?)).collect(),
            _ => Some(vec![Pattern::of(item.word()?)?]),
        }
    }

    fn text(&self) -> String {
        let all: Vec<String> = self.iter().map(|pattern| quote(&pattern.0)).collect();
        format!("[{}]", all.join(", "))
    }
}

/// Addresses: all of them, or those that begin with the same bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Network {
    /// Each address.
    All,
    /// Those whose first bits are those of the address.
    Prefix(IpAddr, u8),
}

impl Network {
    /// Reads `all`, `10.0.0.1`, `10.0.0.0/8`, `fd00::/8`.
    #[must_use]
    pub fn of(text: &str) -> Option<Self> {
        if text == "all" {
            return Some(Self::All);
        }
        let (address, bits) =
            text.split_once('/').map_or((text, None), |(address, bits)| (address, Some(bits)));
        let address: IpAddr = address.parse().ok()?;
        let most = if address.is_ipv4() { 32 } else { 128 };
        let bits: u8 = match bits {
            None => most,
            Some(bits) if bits.bytes().all(|c| c.is_ascii_digit()) => {
                bits.parse().ok().filter(|bits| *bits <= most)?
            }
            Some(_) => return None,
        };
        // ::ffff:10.0.0.0/104 is how others write 10.0.0.0/8.
        match address.to_canonical() {
            v4 @ IpAddr::V4(_) if most == 128 => Some(Self::Prefix(v4, bits.checked_sub(96)?)),
            _ => Some(Self::Prefix(address, bits)),
        }
    }

    /// Whether it has `address`; an IPv4 address that is written as an IPv6 one is an IPv4 address.
    #[must_use]
    pub fn has(&self, address: IpAddr) -> bool {
        let Self::Prefix(network, bits) = *self else { return true };
        match (network, address.to_canonical()) {
            (IpAddr::V4(a), IpAddr::V4(b)) => {
                let differ = u32::from(a) ^ u32::from(b);
                differ.checked_shr(32 - u32::from(bits.min(32))).unwrap_or(0) == 0
            }
            (IpAddr::V6(a), IpAddr::V6(b)) => {
                let differ = u128::from(a) ^ u128::from(b);
                differ.checked_shr(128 - u32::from(bits.min(128))).unwrap_or(0) == 0
            }
            _ => false,
        }
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::All => f.write_str("all"),
            Self::Prefix(address, 32) if address.is_ipv4() => write!(f, "{address}"),
            Self::Prefix(address, 128) => write!(f, "{address}"),
            Self::Prefix(address, bits) => write!(f, "{address}/{bits}"),
        }
    }
}

/// Whether addresses may play or publish, in SRS's words: `allow publish 10.0.0.0/8`, `deny play all`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct IpRule {
    /// It allows; otherwise it denies.
    pub allow: bool,
    /// It is about publishing; otherwise about playing.
    pub publish: bool,
    /// Whose address.
    pub network: Network,
}

impl IpRule {
    /// Reads a rule.
    #[must_use]
    pub fn of(text: &str) -> Option<Self> {
        let mut words = text.split_whitespace();
        let allow = match words.next()? {
            "allow" => true,
            "deny" => false,
            _ => return None,
        };
        let publish = match words.next()? {
            "publish" => true,
            "play" => false,
            _ => return None,
        };
        let network = Network::of(words.next()?)?;
        words.next().is_none().then_some(Self { allow, publish, network })
    }
}

impl fmt::Display for IpRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { allow, publish, network } = self;
        let verb = if *allow { "allow" } else { "deny" };
        write!(f, "{verb} {} {network}", if *publish { "publish" } else { "play" })
    }
}

impl Value for Vec<IpRule> {
    #[cfg(feature = "api")]
    const SHAPE: Shape = Shape::Texts;
    const EXPECTED: &'static str =
        "rules such as [\"allow publish 10.0.0.0/8\", \"deny play 192.0.2.7\", \"allow play all\"]";

    fn parse(item: &Item) -> Option<Self> {
        match &item.kind {
            Kind::List(items) => items.iter().map(|item| IpRule::of(item.word()?)).collect(),
            Kind::Env(text) => {
                text.split(',').filter(|rule| !rule.trim().is_empty()).map(IpRule::of).collect()
            }
            _ => Some(vec![IpRule::of(item.word()?)?]),
        }
    }

    fn text(&self) -> String {
        let all: Vec<String> = self.iter().map(|rule| quote(&rule.to_string())).collect();
        format!("[{}]", all.join(", "))
    }
}

#[cfg(all(test, feature = "access"))]
mod tests {
    use super::*;

    const HASH: &str =
        "$argon2id$v=19$m=9216,t=4,p=1$c29tZXNhbHRzb21lc2FsdA$b21lYW55dGhpbmd0aGF0aXMzMmJ5dGVzbG9uZw";

    #[test]
    fn networks() {
        for (network, address, has) in [
            ("all", "::1", true),
            ("10.0.0.1", "10.0.0.1", true),
            ("10.0.0.1", "10.0.0.2", false),
            ("10.0.0.0/8", "10.255.1.2", true),
            ("10.0.0.0/8", "11.0.0.0", false),
            ("10.9.9.9/8", "10.0.0.0", true),
            ("0.0.0.0/0", "255.255.255.255", true),
            ("0.0.0.0/0", "::1", false),
            ("10.0.0.0/8", "::ffff:10.1.1.1", true),
            ("::ffff:10.0.0.0/104", "10.1.1.1", true),
            ("::ffff:10.0.0.1", "10.0.0.1", true),
            ("fd00::/8", "fd12::1", true),
            ("fd00::/8", "fe80::1", false),
            ("::/0", "fe80::1", true),
            ("::/0", "1.2.3.4", false),
            ("2001:db8::1", "2001:db8::1", true),
        ] {
            assert_eq!(
                Network::of(network).unwrap().has(address.parse().unwrap()),
                has,
                "{network} {address}"
            );
        }
        for bad in
            ["", "10.0.0.0/33", "10.0.0/8", "10.0.0.0/", "10.0.0.0/+8", "::/129", "any", "::ffff:1.2.3.4/95"]
        {
            assert_eq!(Network::of(bad), None, "{bad}");
        }
    }

    #[test]
    fn rules_read_as_they_are_written() {
        for text in
            ["allow publish all", "deny play 10.0.0.0/8", "deny publish fd00::1", "allow play 1.2.3.4"]
        {
            assert_eq!(IpRule::of(text).unwrap().to_string(), text);
        }
        for bad in [
            "",
            "allow",
            "allow all",
            "allow record all",
            "permit play all",
            "allow play all x",
            "deny play 1.2.3",
        ] {
            assert_eq!(IpRule::of(bad), None, "{bad}");
        }
    }

    #[test]
    fn patterns_have_a_vhost() {
        for (pattern, vhost, app, stream, expected) in [
            ("*", "v", "live", "a", true),
            ("*/live/cam*", "v", "live", "cam1", true),
            ("*/live/cam*", "v", "live", "dome", false),
            ("cam.example/live/*", "Cam.Example", "live", "x", true),
            ("cam.example/live/*", "other", "live", "x", false),
            ("live/*", "live", "a", "b", true),
            ("live/*", "v", "live", "b", false),
            ("v/*", "v", "a/b", "c", true),
        ] {
            assert_eq!(Pattern::of(pattern).unwrap().matches(vhost, app, stream), expected, "{pattern}");
        }
        for bad in ["", "live/cam1", "/live/x", "cam"] {
            assert_eq!(Pattern::of(bad), None, "{bad}");
        }
    }

    #[test]
    fn hashes_have_bounds() {
        assert_eq!(PasswordHash::of(HASH).unwrap().costs(), (9216, 4, 1));
        for (from, to) in [
            ("m=9216", "m=65537"),
            ("m=9216", "m=7"),
            ("m=9216", "m=-1"),
            ("t=4", "t=17"),
            ("t=4", "t=0"),
            ("p=1", "p=5"),
            ("p=1", "p=1,x=1"),
            ("argon2id", "argon2i"),
            ("v=19", "v=16"),
            ("$c29t", "$c2 9t"),
            ("$c29t", "$$c29t"),
        ] {
            assert_eq!(PasswordHash::of(&HASH.replace(from, to)), None, "{to}");
        }
        assert_eq!(PasswordHash::of("***"), None);
    }

    fn config(text: &str) -> Result<crate::config::Config, String> {
        crate::config::parse("r.toml", text, []).map(|l| l.config).map_err(|error| error.to_string())
    }

    #[test]
    fn users_are_read_and_never_shown() {
        let user = |more: &str| {
            format!("[[access.users]]\nname = \"a\"\nrole = \"publisher\"\nhash = \"{HASH}\"\n{more}")
        };
        let config = config(&user(
            "publish = \"*/live/a\"\n[[access.users]]\nname = \"b\"\nrole = \"admin\"\nhash = \"x\"",
        ));
        assert!(config.is_err(), "a hash that is none");
        let good = self::config(&user("publish = \"*/live/a\"")).unwrap();
        let a = good.access.users.find("a").unwrap();
        assert!(a.publish[0].matches("v", "live", "a") && !a.publish[0].matches("v", "live", "b"));
        assert!(a.play[0].is_all());
        let shown = format!("{good:?}{:?}", good.keys());
        assert!(!shown.contains("argon2id$") && !shown.contains("c29tZXNhbHRz"), "{shown}");
        for bad in ["publish = \"live/a\"", "colour = 1", &user("")] {
            assert!(self::config(&user(bad)).is_err(), "{bad}");
        }
        assert!(self::config(&user("").replace("\"a\"", "\"a:b\"")).is_err());
        let viewer = user("publish = [\"*\"]").replace("publisher", "viewer");
        assert!(self::config(&viewer).is_err(), "viewers do not publish");
    }

    #[test]
    fn what_hides_a_secret_is_none() {
        let with = |text: &str| config(&format!("[access]\ntoken_secrets = {text}"));
        let good = with("[\"0123456789abcdef\"]").unwrap();
        assert!(!format!("{good:?}{:?}", good.keys()).contains("0123456789abcdef"));
        assert!(with("[\"short\"]").is_err() && with("[\"***\"]").is_err());
        let error = with("[\"not-so-long\", 1]").unwrap_err();
        assert!(config("[vhost.default.access]\nsrt_play_passphrase = \"***\"").is_err());
        assert!(!error.contains("not-so-long"), "{error}");
    }

    #[test]
    fn the_environment_can_name_users() {
        let env = [("RILLBOX_ACCESS_USERS".to_owned(), format!("a:viewer:{HASH} b:admin:{HASH}"))];
        let config = crate::config::parse("", "", env).unwrap().config;
        assert_eq!(
            config.access.users.iter().map(|user| user.role).collect::<Vec<_>>(),
            [Role::Viewer, Role::Admin]
        );
    }
}
