//! What values look like: durations `"10s"`, sizes `"64KiB"`, addresses, choices.

use std::net::{Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use super::item::{Item, Kind};

/// A type that a key may have.
pub(super) trait Value: Clone + PartialEq {
    /// Completes "expected …".
    const EXPECTED: &'static str;
    /// Whether what it holds is never shown, not even when it is wrong.
    const SECRET: bool = false;
    /// What it is in JSON.
    #[cfg(feature = "api")]
    const SHAPE: Shape = Shape::Text;
    /// The value, if `item` is one.
    fn parse(item: &Item) -> Option<Self>;
    /// The value as TOML.
    fn text(&self) -> String;
}

/// What a value is in JSON.
#[cfg(feature = "api")]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Shape {
    Addresses,
    Bool,
    Duration,
    Number,
    /// A place on this machine.
    Path,
    Ratio,
    Size,
    Text,
    Texts,
    Users,
    Words(&'static [&'static str]),
}

/// A number of bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Size(u64);

impl Size {
    /// `n` bytes.
    #[must_use]
    pub const fn new(n: u64) -> Self {
        Self(n)
    }

    /// `n` times 1024 bytes.
    #[must_use]
    pub const fn kib(n: u32) -> Self {
        Self(n as u64 * 1024)
    }

    /// `n` times 1024 × 1024 bytes.
    #[must_use]
    pub const fn mib(n: u32) -> Self {
        Self(n as u64 * 1024 * 1024)
    }

    /// The number of bytes; what doesn't fit into this machine's `usize` becomes its largest.
    #[must_use]
    pub fn bytes(self) -> usize {
        usize::try_from(self.0).unwrap_or(usize::MAX)
    }

    /// The number of bytes, of things that need not fit into memory.
    #[must_use]
    pub const fn count(self) -> u64 {
        self.0
    }
}

/// How long what is new may wait, so that one write carries more of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum MergeWindow {
    /// Chosen by load: none for few readers, up to 350 ms for thousands.
    Auto,
    /// This long, whatever the load.
    Fixed(Duration),
}

/// How much a session may send.
#[cfg(feature = "srt")]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bandwidth {
    /// As much as there is.
    Unlimited,
    /// What comes in, and some more.
    Input,
    /// So many bytes a second.
    Fixed(Size),
}

/// What to do with a reader of a stream that nobody publishes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wait {
    /// Refuse it.
    No,
    /// Let it wait this long.
    For(Duration),
    /// Let it wait.
    Forever,
}

/// Declares a value that is one of some words.
macro_rules! choice {
    ($(#[doc = $about:literal])+ pub enum $Name:ident($expected:literal) {
        $( $(#[doc = $doc:literal])+ $Variant:ident = $word:literal, )+
    }) => {
        $(#[doc = $about])+
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum $Name {
            $( $(#[doc = $doc])+ $Variant, )+
        }

        impl Value for $Name {
            const EXPECTED: &'static str = $expected;
            #[cfg(feature = "api")]
            const SHAPE: Shape = Shape::Words(&[$( $word ),+]);

            fn parse(item: &Item) -> Option<Self> {
                match item.word()? {
                    $( $word => Some(Self::$Variant), )+
                    _ => None,
                }
            }

            fn text(&self) -> String {
                match self {
                    $( Self::$Variant => concat!("\"", $word, "\"").to_owned(), )+
                }
            }
        }
    };
}

choice! {
    /// What to do with a second publisher of a stream.
    pub enum Duplicate("\"refuse\" or \"takeover\"") {
        /// The first keeps the stream.
        Refuse = "refuse",
        /// The second gets it.
        Takeover = "takeover",
    }
}

choice! {
    /// What HLS segments are.
    pub enum Variant("\"auto\", \"ts\", \"fmp4\" or \"low-latency\"") {
        /// MPEG-TS where it carries what the stream has, else fMP4.
        Auto = "auto",
        /// MPEG-TS.
        Ts = "ts",
        /// Fragmented MP4 (CMAF).
        Fmp4 = "fmp4",
        /// Fragmented MP4 whose segments are given out in parts while they grow (LL-HLS).
        LowLatency = "low-latency",
    }
}

choice! {
    /// What to do with a stream whose segments can't be written.
    pub enum OnError("\"continue\", \"ignore\" or \"disconnect\"") {
        /// Go on with the next segment.
        Continue = "continue",
        /// Make no more segments of this publisher.
        Ignore = "ignore",
        /// End the publisher.
        Disconnect = "disconnect",
    }
}

choice! {
    /// What a playlist does with its past.
    pub enum PlaylistType("\"live\" or \"event\"") {
        /// Segments leave it.
        Live = "live",
        /// It keeps all, as far as memory or disk allow.
        Event = "event",
    }
}

choice! {
    /// How segments are encrypted.
    pub enum Encryption("\"none\", \"aes-128\" or \"cbcs\"") {
        /// Not at all.
        None = "none",
        /// Whole segments, AES-128-CBC.
        Aes128 = "aes-128",
        /// The samples in fMP4 (ISO/IEC 23001-7, scheme cbcs).
        Cbcs = "cbcs",
    }
}

choice! {
    /// By what transports WebRTC peers are invited to come.
    pub enum Transports("\"udp\", \"tcp\" or \"all\"") {
        /// UDP and TCP.
        All = "all",
        /// TCP alone (RFC 6544).
        Tcp = "tcp",
        /// UDP alone.
        Udp = "udp",
    }
}

choice! {
    /// Addresses of which kind WebRTC peers are told.
    pub enum IpFamily("\"ipv4\", \"ipv6\" or \"all\"") {
        /// Both.
        All = "all",
        /// IPv4.
        V4 = "ipv4",
        /// IPv6.
        V6 = "ipv6",
    }
}

choice! {
    /// Who begins DTLS with a WebRTC peer that leaves it to us.
    pub enum DtlsRole("\"passive\" or \"active\"") {
        /// We begin.
        Active = "active",
        /// The peer begins.
        Passive = "passive",
    }
}

/// A factor such as 2.1, in thousandths.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Ratio(u32);

impl Ratio {
    /// `thousandths` of one.
    #[must_use]
    pub const fn thousandths(thousandths: u32) -> Self {
        Self(thousandths)
    }

    /// So many times `time`.
    #[must_use]
    pub fn of(self, time: Duration) -> Duration {
        time.saturating_mul(self.0) / 1000
    }
}

choice! {
    /// Who is let in.
    pub enum Admission("\"anyone\", \"credential\" or \"nobody\"") {
        /// Whoever comes.
        Anyone = "anyone",
        /// Who shows a signed URL, a JWT, or a user's password.
        Credential = "credential",
        /// Nobody.
        Nobody = "nobody",
    }
}

choice! {
    /// When a recording begins and ends.
    pub enum RecordPlan("\"session\", \"segment\" or \"api\"") {
        /// Only when asked for.
        Api = "api",
        /// A new file after a time.
        Segment = "segment",
        /// One for each publisher.
        Session = "session",
    }
}

choice! {
    /// The container of a recording.
    pub enum RecordFormat("\"fmp4\", \"mp4\", \"flv\" or \"ts\"") {
        /// FLV.
        Flv = "flv",
        /// Fragmented MP4.
        Fmp4 = "fmp4",
        /// MP4 with its tables in front.
        Mp4 = "mp4",
        /// MPEG transport stream.
        Ts = "ts",
    }
}

choice! {
    /// The times in a recording.
    pub enum TimeJitter("\"full\", \"zero\" or \"off\"") {
        /// From 0, each later than the one before.
        Full = "full",
        /// The stream's.
        Off = "off",
        /// From 0.
        Zero = "zero",
    }
}

choice! {
    /// When what was written is put on the medium.
    pub enum Fsync("\"never\", \"fragment\" or \"interval\"") {
        /// With each fragment.
        Fragment = "fragment",
        /// After a time.
        Interval = "interval",
        /// When the system likes to.
        Never = "never",
    }
}

/// How much of a file system is kept free.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Free {
    /// So many bytes.
    Bytes(Size),
    /// So many hundredths of it, 0 to 100.
    Percent(u8),
}

impl Free {
    /// In bytes, of a file system of `total` bytes.
    #[must_use]
    pub fn of(self, total: u64) -> u64 {
        match self {
            Self::Bytes(size) => size.0,
            Self::Percent(percent) => total / 100 * u64::from(percent),
        }
    }
}

impl Value for Free {
    const EXPECTED: &'static str = "a size such as \"512MiB\", or a part such as \"5%\"";

    fn parse(item: &Item) -> Option<Self> {
        match item.word().and_then(|text| text.trim().strip_suffix('%')) {
            Some(percent) => percent.parse().ok().filter(|percent| *percent <= 100).map(Self::Percent),
            None => Size::parse(item).map(Self::Bytes),
        }
    }

    fn text(&self) -> String {
        match self {
            Self::Bytes(size) => size.text(),
            Self::Percent(percent) => format!("\"{percent}%\""),
        }
    }
}

/// Where log lines go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LogTarget {
    /// Standard error; with priorities when journald reads it.
    Stderr,
    /// `/dev/log`.
    Syslog,
    /// A file, opened anew on SIGUSR1.
    File(PathBuf),
}

impl Value for bool {
    #[cfg(feature = "api")]
    const SHAPE: Shape = Shape::Bool;
    const EXPECTED: &'static str = "true or false";

    fn parse(item: &Item) -> Option<Self> {
        match &item.kind {
            Kind::Bool(value) => Some(*value),
            Kind::Env(text) => match text.to_ascii_lowercase().as_str() {
                "true" | "on" | "yes" | "1" => Some(true),
                "false" | "off" | "no" | "0" => Some(false),
                _ => None,
            },
            _ => None,
        }
    }

    fn text(&self) -> String {
        self.to_string()
    }
}

impl Value for u32 {
    #[cfg(feature = "api")]
    const SHAPE: Shape = Shape::Number;
    const EXPECTED: &'static str = "a number";

    fn parse(item: &Item) -> Option<Self> {
        match &item.kind {
            Kind::Int(value) => Self::try_from(*value).ok(),
            Kind::Env(text) => text.trim().parse().ok(),
            _ => None,
        }
    }

    fn text(&self) -> String {
        self.to_string()
    }
}

impl Value for String {
    const EXPECTED: &'static str = "a text in quotes";

    fn parse(item: &Item) -> Option<Self> {
        item.word().map(str::to_owned)
    }

    fn text(&self) -> String {
        quote(self)
    }
}

impl Value for Vec<String> {
    #[cfg(feature = "api")]
    const SHAPE: Shape = Shape::Texts;
    const EXPECTED: &'static str = "texts such as [\"live/*\", \"cam/front\"] ([] for none)";

    fn parse(item: &Item) -> Option<Self> {
        match &item.kind {
            Kind::List(items) => items.iter().map(|item| item.word().map(str::to_owned)).collect(),
            Kind::Env(text) => {
                Some(text.split([' ', ',']).filter(|word| !word.is_empty()).map(str::to_owned).collect())
            }
            _ => Some(vec![item.word()?.to_owned()]),
        }
    }

    fn text(&self) -> String {
        let all: Vec<String> = self.iter().map(|text| quote(text)).collect();
        format!("[{}]", all.join(", "))
    }
}

impl Value for Ratio {
    #[cfg(feature = "api")]
    const SHAPE: Shape = Shape::Ratio;
    const EXPECTED: &'static str = "a factor such as 2.1";

    fn parse(item: &Item) -> Option<Self> {
        if let Kind::Int(n) = item.kind {
            return u32::try_from(n).ok()?.checked_mul(1000).map(Self);
        }
        let text = match &item.kind {
            Kind::Other(text) | Kind::Env(text) => text.trim(),
            _ => return None,
        };
        let (whole, rest) = text.split_once('.').unwrap_or((text, ""));
        let digits = |text: &str| text.bytes().all(|c| c.is_ascii_digit());
        if whole.is_empty() || rest.len() > 3 || !digits(whole) || !digits(rest) {
            return None;
        }
        let rest = format!("{rest:0<3}").parse::<u32>().ok()?;
        whole.parse::<u32>().ok()?.checked_mul(1000)?.checked_add(rest).map(Self)
    }

    fn text(&self) -> String {
        let text = format!("{}.{:03}", self.0 / 1000, self.0 % 1000);
        let short = text.trim_end_matches('0');
        if short.ends_with('.') { format!("{short}0") } else { short.to_owned() }
    }
}

impl Value for Duration {
    #[cfg(feature = "api")]
    const SHAPE: Shape = Shape::Duration;
    const EXPECTED: &'static str = "a duration such as \"10s\", \"350ms\" or \"5m\"";

    fn parse(item: &Item) -> Option<Self> {
        duration(item.word()?)
    }

    fn text(&self) -> String {
        const UNITS: [(u128, &str); 4] = [(86_400_000, "d"), (3_600_000, "h"), (60_000, "m"), (1000, "s")];
        let ms = self.as_millis();
        match UNITS.iter().find(|(unit, _)| ms != 0 && ms.is_multiple_of(*unit)) {
            Some((unit, name)) => format!("\"{}{name}\"", ms / unit),
            None if ms == 0 => "\"0s\"".to_owned(),
            None => format!("\"{ms}ms\""),
        }
    }
}

/// Reads "10s", "350ms", "1m30s". Whole numbers with a unit each.
#[must_use]
pub fn duration(text: &str) -> Option<Duration> {
    let mut rest = text.trim();
    let mut total = Duration::ZERO;
    if rest.is_empty() {
        return None;
    }
    while !rest.is_empty() {
        let (number, after) = split(rest, |c| c.is_ascii_digit())?;
        let (unit, after) = split(after, |c| c.is_ascii_alphabetic())?;
        let ms = match unit {
            "ms" => 1,
            "s" => 1000,
            "m" | "min" => 60_000,
            "h" => 3_600_000,
            "d" => 86_400_000,
            _ => return None,
        };
        total = total.checked_add(Duration::from_millis(number.parse::<u64>().ok()?.checked_mul(ms)?))?;
        rest = after;
    }
    Some(total)
}

/// The longest front of `text` whose characters are `wanted` (not empty), and what follows.
fn split(text: &str, wanted: impl Fn(char) -> bool) -> Option<(&str, &str)> {
    let at = text.find(|c| !wanted(c)).unwrap_or(text.len());
    if at == 0 { None } else { text.split_at_checked(at) }
}

impl Value for Size {
    #[cfg(feature = "api")]
    const SHAPE: Shape = Shape::Size;
    const EXPECTED: &'static str = "a size such as \"64KiB\" or \"16MiB\", or a number of bytes";

    fn parse(item: &Item) -> Option<Self> {
        if let Kind::Int(n) = item.kind {
            return u64::try_from(n).ok().map(Self);
        }
        let (number, unit) = split(item.word()?.trim(), |c| c.is_ascii_digit())?;
        let unit: u64 = match unit.trim_start() {
            "" | "B" => 1,
            "KiB" => 1 << 10,
            "MiB" => 1 << 20,
            "GiB" => 1 << 30,
            _ => return None,
        };
        number.parse::<u64>().ok()?.checked_mul(unit).map(Self)
    }

    fn text(&self) -> String {
        const UNITS: [(u64, &str); 3] = [(1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")];
        match UNITS.iter().find(|(unit, _)| self.0 != 0 && self.0.is_multiple_of(*unit)) {
            Some((unit, name)) => format!("\"{}{name}\"", self.0 / unit),
            None => self.0.to_string(),
        }
    }
}

impl Value for Option<PathBuf> {
    #[cfg(feature = "api")]
    const SHAPE: Shape = Shape::Path;
    const EXPECTED: &'static str = "a path (\"\" for none)";

    fn parse(item: &Item) -> Option<Self> {
        let text = item.word()?;
        Some((!text.is_empty()).then(|| PathBuf::from(text)))
    }

    fn text(&self) -> String {
        match self {
            Some(path) => quote(&path.to_string_lossy()),
            None => "\"\"".to_owned(),
        }
    }
}

impl Value for Vec<SocketAddr> {
    #[cfg(feature = "api")]
    const SHAPE: Shape = Shape::Addresses;
    const EXPECTED: &'static str =
        "addresses such as [\"[::]:1935\", \"127.0.0.1:1935\"] or a port for all addresses ([] for none)";

    fn parse(item: &Item) -> Option<Self> {
        match &item.kind {
            Kind::List(items) => items.iter().map(address).collect(),
            Kind::Env(text) => {
                text.split([' ', ',']).filter(|word| !word.is_empty()).map(address_text).collect()
            }
            _ => Some(vec![address(item)?]),
        }
    }

    fn text(&self) -> String {
        let all: Vec<String> = self.iter().map(|address| format!("\"{address}\"")).collect();
        format!("[{}]", all.join(", "))
    }
}

fn address(item: &Item) -> Option<SocketAddr> {
    match &item.kind {
        Kind::Int(port) => Some((Ipv6Addr::UNSPECIFIED, u16::try_from(*port).ok()?).into()),
        Kind::Text(text) => address_text(text),
        _ => None,
    }
}

/// `[::]:1935`, `10.0.0.1:1935`, `:1935` or `1935`.
fn address_text(text: &str) -> Option<SocketAddr> {
    let port = text.strip_prefix(':').unwrap_or(text);
    match port.parse::<u16>() {
        Ok(port) => Some((Ipv6Addr::UNSPECIFIED, port).into()),
        Err(_) => text.parse().ok(),
    }
}

impl Value for MergeWindow {
    const EXPECTED: &'static str = "\"auto\" or a duration such as \"0s\" or \"350ms\"";

    fn parse(item: &Item) -> Option<Self> {
        match item.word()? {
            "auto" => Some(Self::Auto),
            text => duration(text).map(Self::Fixed),
        }
    }

    fn text(&self) -> String {
        match self {
            Self::Auto => "\"auto\"".to_owned(),
            Self::Fixed(window) => window.text(),
        }
    }
}

#[cfg(feature = "srt")]
impl Value for Bandwidth {
    const EXPECTED: &'static str = "\"unlimited\", \"input\" or a size a second such as \"1MiB\"";

    fn parse(item: &Item) -> Option<Self> {
        match item.word() {
            Some("unlimited") => Some(Self::Unlimited),
            Some("input") => Some(Self::Input),
            _ => Size::parse(item).filter(|size| size.count() > 0).map(Self::Fixed),
        }
    }

    fn text(&self) -> String {
        match self {
            Self::Unlimited => "\"unlimited\"".to_owned(),
            Self::Input => "\"input\"".to_owned(),
            Self::Fixed(size) => size.text(),
        }
    }
}

impl Value for Wait {
    const EXPECTED: &'static str = "\"no\", \"forever\" or a duration such as \"10s\"";

    fn parse(item: &Item) -> Option<Self> {
        match item.word()? {
            "no" => Some(Self::No),
            "forever" => Some(Self::Forever),
            text => duration(text).map(|wait| if wait.is_zero() { Self::No } else { Self::For(wait) }),
        }
    }

    fn text(&self) -> String {
        match self {
            Self::No => "\"no\"".to_owned(),
            Self::Forever => "\"forever\"".to_owned(),
            Self::For(wait) => wait.text(),
        }
    }
}

impl Value for log::LevelFilter {
    #[cfg(feature = "api")]
    const SHAPE: Shape = Shape::Words(&["off", "error", "warn", "info", "debug", "trace"]);
    const EXPECTED: &'static str = "\"off\", \"error\", \"warn\", \"info\", \"debug\" or \"trace\"";

    fn parse(item: &Item) -> Option<Self> {
        item.word()?.parse().ok()
    }

    fn text(&self) -> String {
        format!("\"{}\"", self.as_str().to_ascii_lowercase())
    }
}

impl Value for LogTarget {
    #[cfg(feature = "api")]
    const SHAPE: Shape = Shape::Path;
    const EXPECTED: &'static str = "\"stderr\", \"syslog\" or a file's path";

    fn parse(item: &Item) -> Option<Self> {
        match item.word()? {
            "" => None,
            "stderr" => Some(Self::Stderr),
            "syslog" => Some(Self::Syslog),
            path => Some(Self::File(path.into())),
        }
    }

    fn text(&self) -> String {
        match self {
            Self::Stderr => "\"stderr\"".to_owned(),
            Self::Syslog => "\"syslog\"".to_owned(),
            Self::File(path) => quote(&path.to_string_lossy()),
        }
    }
}

/// A TOML basic string.
pub(super) fn quote(text: &str) -> String {
    let mut out = String::from('"');
    for c in text.chars() {
        match c {
            '"' | '\\' => out.extend(['\\', c]),
            c if c.is_control() => out.push_str(&format!("\\u{:04X}", u32::from(c))),
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::item::Place;

    #[test]
    fn ratios() {
        let parse = |kind| Ratio::parse(&Item { place: Place::Unknown, kind });
        for (text, thousandths, back) in
            [("2.1", 2100, "2.1"), ("1", 1000, "1.0"), ("0.125", 125, "0.125"), ("10.0", 10_000, "10.0")]
        {
            assert_eq!(parse(Kind::Other(text.into())), Some(Ratio(thousandths)), "{text}");
            assert_eq!(Ratio(thousandths).text(), back);
        }
        assert_eq!(parse(Kind::Int(3)), Some(Ratio(3000)));
        for bad in ["", ".5", "-1.0", "1e3", "1.2345", "99999999", "nan"] {
            assert_eq!(parse(Kind::Other(bad.into())), None, "{bad}");
        }
        assert_eq!(Ratio(2100).of(Duration::from_secs(10)), Duration::from_secs(21));
    }
}
