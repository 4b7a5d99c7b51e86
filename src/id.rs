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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_do_not_repeat() {
        let ids: std::collections::HashSet<_> = (0..100_000).map(|_| SessionId::next()).collect();
        assert_eq!(ids.len(), 100_000);
        assert!(ids.iter().all(|i| i.as_str().bytes().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit())));
    }
}
