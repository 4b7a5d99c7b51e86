//! The id of a session: what a log line, the API and a callback call it by.

use std::fmt;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

/// Names one session (a connection, a publisher, a reader) for as long as the process runs.
///
/// Eight characters of `[0-9a-z]`, as SRS's context ids are. Ids don't repeat within 2^32 sessions; they
/// start at a place that differs from run to run, so that ids of two runs in one log are told apart.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SessionId([u8; 8]);

impl SessionId {
    /// The next unused id.
    #[must_use]
    pub fn next() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        static SEED: OnceLock<u64> = OnceLock::new();
        let seed = *SEED.get_or_init(|| {
            use std::hash::{BuildHasher, RandomState};
            RandomState::new().hash_one(0u8)
        });
        // An odd multiplier is a bijection on 2^41 > 2^32: distinct counts give distinct ids.
        const BITS: u32 = 41; // 36^8 is a little more than 2^41
        let n = u64::from(COUNT.fetch_add(1, Ordering::Relaxed)).wrapping_add(seed);
        let mut n = n.wrapping_mul(0x9E37_79B9_7F4A_7C15) & ((1 << BITS) - 1);
        let mut text = [b'0'; 8];
        for c in &mut text {
            let digit = u8::try_from(n % 36).unwrap_or(0);
            *c = if digit < 10 { b'0' + digit } else { b'a' + digit - 10 };
            n /= 36;
        }
        Self(text)
    }

    /// The id that `text` is, if it has the form of one.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let id: [u8; 8] = text.as_bytes().try_into().ok()?;
        id.iter().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit()).then_some(Self(id))
    }

    /// The id as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).unwrap_or("--------")
    }
}

impl fmt::Debug for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Display for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Names this run of this server, as SRS's API and callbacks do.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Instance {
    /// The server, the same from run to run: `server.id`, or made of the machine's id.
    pub server: String,
    /// This run.
    pub service: String,
    /// The process.
    pub pid: u32,
}

static INSTANCE: OnceLock<Instance> = OnceLock::new();

impl Instance {
    /// The server's name for itself. Before [`name`](Self::name) was called, one that is made up.
    pub fn get() -> &'static Self {
        INSTANCE.get_or_init(|| Self::of(""))
    }

    /// Names the server: once, at its start. `""`: by the machine's id.
    pub fn name(server: &str) {
        let _ = INSTANCE.set(Self::of(server));
    }

    fn of(server: &str) -> Self {
        use std::hash::{BuildHasher, RandomState};
        let random = RandomState::new().hash_one(1u8);
        let server = if server.is_empty() {
            // Machines that were never given an id get another name at each start.
            let machine = std::fs::read("/etc/machine-id").unwrap_or_default();
            tag(if machine.len() < 32 { random } else { fnv(&machine) })
        } else {
            server.to_owned()
        };
        Self { server, service: SessionId::next().to_string(), pid: std::process::id() }
    }
}

/// A name as SRS makes them for servers, vhosts and streams: `vid-` and seven characters of `[0-9a-z]`.
#[must_use]
pub fn tag(mut n: u64) -> String {
    let mut text = String::from("vid-");
    for _ in 0..7 {
        text.extend(char::from_digit(u32::try_from(n % 36).unwrap_or(0), 36));
        n /= 36;
    }
    text
}

/// FNV-1a: the same on all machines and in all versions, as a name that stays has to be.
fn fnv(bytes: &[u8]) -> u64 {
    let step = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(0x100_0000_01B3);
    bytes.iter().fold(0xCBF2_9CE4_8422_2325, step)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_servers() {
        assert_eq!(tag(0), "vid-0000000");
        assert_eq!(tag(35 + 36), "vid-z100000");
        assert_eq!(fnv(b"a"), 0xAF63_DC4C_8601_EC8C);
        assert_eq!(Instance::of("box-1").server, "box-1");
        assert_eq!(Instance::of("").server.len(), 11);
        let id = SessionId::next();
        assert_eq!(SessionId::parse(id.as_str()), Some(id));
        assert_eq!(SessionId::parse("../../.."), None);
    }

    #[test]
    fn ids_do_not_repeat() {
        let ids: std::collections::HashSet<_> = (0..100_000).map(|_| SessionId::next()).collect();
        assert_eq!(ids.len(), 100_000);
        assert!(ids.iter().all(|i| i.as_str().bytes().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit())));
    }
}
