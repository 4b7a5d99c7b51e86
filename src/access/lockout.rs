//! Who has guessed too often waits: per address and per user, in tables that nobody can make grow.

use std::collections::{HashMap, VecDeque};
use std::hash::Hash;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// The most addresses, and the most users, whose failures are remembered.
const ENTRIES: usize = 1024;
/// The most pairs of users and addresses that have been seen to belong together.
const FRIENDS: usize = 256;
/// Who fails no more for so long starts anew.
const FORGIVEN: Duration = Duration::from_secs(3600);
/// The longest lock-out.
const LONGEST: Duration = Duration::from_secs(3600);
/// How many times more failures a user takes than an address: many may stand behind one name.
const USER_FACTOR: u32 = 4;

/// How many failures lock out, and for how long at first.
#[derive(Debug, Clone, Copy)]
pub(super) struct Terms {
    pub failures: u32,
    pub lockout: Duration,
}

/// Failures so far.
#[derive(Default)]
pub(super) struct Lockout {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    addresses: Table<IpAddr>,
    users: Table<String>,
    friends: VecDeque<(IpAddr, String)>,
}

struct Table<K>(HashMap<K, Entry>);

struct Entry {
    failures: u32,
    last: Instant,
    until: Option<Instant>,
    /// The one user that was tried; `None`: several.
    user: Option<String>,
}

impl<K> Default for Table<K> {
    fn default() -> Self {
        Self(HashMap::new())
    }
}

impl Lockout {
    /// How long `user` at `address` has to wait before the next attempt; zero: not at all.
    pub fn wait(&self, address: IpAddr, user: &str, now: Instant) -> Duration {
        let address = network(address);
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let by_address = state.addresses.wait(&address, now);
        // An attacker elsewhere shall not lock out whoever logs in from where they always do.
        let friend = state.friends.iter().any(|(known, name)| *known == address && name == user);
        let by_user = if friend { Duration::ZERO } else { state.users.wait(user, now) };
        by_address.max(by_user)
    }

    /// A password was wrong. Says whether this one locks someone out, and for how long.
    pub fn failed(&self, address: IpAddr, user: &str, terms: Terms, now: Instant) -> Option<Duration> {
        let address = network(address);
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let by_address = state.addresses.failed(address, user, terms, now);
        let terms = Terms { failures: terms.failures.saturating_mul(USER_FACTOR), ..terms };
        let by_user = state.users.failed(user.to_owned(), user, terms, now);
        by_address.max(by_user)
    }

    /// A password was right.
    pub fn passed(&self, address: IpAddr, user: &str) {
        let address = network(address);
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        // What was guessed for others is not forgiven: else an own user would buy further guesses.
        if state.addresses.0.get(&address).is_some_and(|entry| entry.user.as_deref() == Some(user)) {
            state.addresses.0.remove(&address);
        }
        let pair = (address, user.to_owned());
        match state.friends.iter().position(|known| *known == pair) {
            Some(at) => drop(state.friends.remove(at)),
            None if state.friends.len() >= FRIENDS => drop(state.friends.pop_front()),
            None => {}
        }
        state.friends.push_back(pair);
    }
}

impl<K: Hash + Eq + Clone> Table<K> {
    fn wait<Q: Hash + Eq + ?Sized>(&self, key: &Q, now: Instant) -> Duration
    where
        K: std::borrow::Borrow<Q>,
    {
        let until = self.0.get(key).and_then(|entry| entry.until);
        until.map_or(Duration::ZERO, |until| until.saturating_duration_since(now))
    }

    fn failed(&mut self, key: K, user: &str, terms: Terms, now: Instant) -> Option<Duration> {
        self.0.retain(|_, entry| now.saturating_duration_since(entry.last) < FORGIVEN);
        if self.0.len() >= ENTRIES && !self.0.contains_key(&key) {
            self.make_room();
        }
        let entry = self.0.entry(key).or_insert_with(|| Entry {
            failures: 0,
            last: now,
            until: None,
            user: Some(user.to_owned()),
        });
        entry.failures = entry.failures.saturating_add(1);
        entry.last = now;
        if entry.user.as_deref() != Some(user) {
            entry.user = None;
        }
        let beyond = entry.failures.checked_sub(terms.failures)?;
        let lockout = terms.lockout.saturating_mul(1 << beyond.min(12)).min(LONGEST);
        entry.until = Some(now + lockout);
        Some(lockout)
    }

    /// Drops who failed least, and of those the one that failed longest ago.
    fn make_room(&mut self) {
        let least = self.0.iter().min_by_key(|(_, entry)| (entry.failures, entry.last));
        if let Some(key) = least.map(|(key, _)| key.clone()) {
            self.0.remove(&key);
        }
    }
}

/// What one attacker has of addresses: all of an IPv6 network.
fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() & !u128::from(u64::MAX)).into(),
        v4 @ IpAddr::V4(_) => v4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TERMS: Terms = Terms { failures: 3, lockout: Duration::from_secs(10) };

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn an_address_waits_longer_each_time() {
        let (all, now, a) = (Lockout::default(), Instant::now(), ip("10.0.0.1"));
        let secs = Duration::from_secs;
        assert_eq!(all.failed(a, "x", TERMS, now), None);
        assert_eq!(all.failed(a, "y", TERMS, now), None);
        assert_eq!(all.wait(a, "x", now), secs(0));
        assert_eq!(all.failed(a, "x", TERMS, now), Some(secs(10)));
        assert_eq!(all.wait(a, "anyone", now), secs(10));
        assert_eq!(all.wait(ip("::ffff:10.0.0.1"), "x", now + secs(4)), secs(6));
        assert_eq!(all.wait(ip("10.0.0.2"), "anyone", now), secs(0), "others don't wait");
        assert_eq!(all.wait(a, "x", now + secs(10)), secs(0));
        assert_eq!(all.failed(a, "x", TERMS, now + secs(10)), Some(secs(20)));
        for _ in 0..40 {
            all.failed(a, "x", TERMS, now + secs(11));
        }
        assert_eq!(all.wait(a, "x", now + secs(11)), LONGEST);
        assert_eq!(
            all.failed(a, "z", TERMS, now + secs(11) + FORGIVEN),
            None,
            "an hour later all begins anew"
        );
    }

    #[test]
    fn a_user_is_locked_for_strangers_only() {
        let (all, now) = (Lockout::default(), Instant::now());
        all.passed(ip("192.0.2.1"), "admin");
        for n in 0..12 {
            all.failed(ip(&format!("10.0.{n}.1")), "admin", TERMS, now);
        }
        assert_eq!(all.wait(ip("198.51.100.1"), "admin", now), TERMS.lockout);
        assert_eq!(all.wait(ip("192.0.2.1"), "admin", now), Duration::ZERO);
        assert_eq!(all.wait(ip("198.51.100.1"), "other", now), Duration::ZERO);
    }

    #[test]
    fn an_own_password_buys_no_guesses() {
        let (all, now, a) = (Lockout::default(), Instant::now(), ip("10.0.0.1"));
        for _ in 0..2 {
            all.failed(a, "admin", TERMS, now);
        }
        all.passed(a, "me");
        assert_eq!(all.failed(a, "admin", TERMS, now), Some(TERMS.lockout));
        // Who mistyped the own password starts anew after the right one.
        let b = ip("10.0.0.2");
        all.failed(b, "me", TERMS, now);
        all.failed(b, "me", TERMS, now);
        all.passed(b, "me");
        assert_eq!(all.failed(b, "me", TERMS, now), None);
    }

    #[test]
    fn tables_do_not_grow_and_networks_are_one() {
        let (all, now) = (Lockout::default(), Instant::now());
        for n in 0..3 {
            all.failed(ip("2001:db8::1"), "x", TERMS, now);
            all.failed(ip(&format!("2001:db8:0:1::{n}")), &format!("user{n}"), TERMS, now);
        }
        assert_eq!(all.wait(ip("2001:db8::ffff"), "x", now), TERMS.lockout);
        assert_eq!(all.wait(ip("2001:db8:0:1:5::"), "x", now), TERMS.lockout);
        for n in 0..3000u32 {
            let address = IpAddr::from((0x0A00_0000 + n).to_be_bytes());
            all.failed(address, &n.to_string(), TERMS, now);
            all.passed(address, &n.to_string());
        }
        let state = all.state.lock().unwrap();
        assert!(state.addresses.0.len() <= ENTRIES && state.users.0.len() <= ENTRIES);
        assert!(state.friends.len() <= FRIENDS);
        drop(state);
        assert_eq!(all.wait(ip("2001:db8::1"), "x", now), TERMS.lockout, "who is locked out stays so");
    }
}
