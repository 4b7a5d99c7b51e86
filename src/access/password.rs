//! Passwords: argon2id (RFC 9106), verified one at a time, and a memory of what was right.
//!
//! A verification takes 9 MiB for some tenths of a second, up to two seconds on a slow board. So only one runs at a
//! time, a few wait, and who showed the right password once is recognised by a keyed hash of it from then on.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use argon2::{Algorithm, Argon2, Params, Version};
use base64::Engine;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use ring::hmac;
use tokio::sync::Semaphore;

use crate::config::PasswordHash;

/// Memory in KiB and passes for new hashes: what OWASP's table gives for 9 MiB, which a board with 64 MB can spare.
const MEMORY: u32 = 9 * 1024;
const PASSES: u32 = 4;
const SALT_BYTES: usize = 16;
const HASH_BYTES: usize = 32;

/// The longest password that is looked at, in bytes.
pub(super) const LONGEST: usize = 256;

/// How many may wait for their verification; more are told to come back.
const WAITING: usize = 8;

/// How many right credentials are remembered.
const REMEMBERED: usize = 64;

/// Why no hash could be made.
#[derive(Debug, thiserror::Error)]
pub(super) enum HashError {
    #[error("the system gives no randomness: {0}")]
    Random(getrandom::Error),
    #[error("the password can't be hashed: {0}")]
    Argon2(argon2::Error),
}

/// The hash of a new password, with a salt of its own.
pub(super) fn hash(password: &str) -> Result<String, HashError> {
    let mut salt = [0; SALT_BYTES];
    getrandom::getrandom(&mut salt).map_err(HashError::Random)?;
    hash_at(password, &salt, (MEMORY, PASSES, 1)).map_err(HashError::Argon2)
}

fn hash_at(password: &str, salt: &[u8], costs: (u32, u32, u32)) -> Result<String, argon2::Error> {
    let made = derive(password.as_bytes(), salt, costs, HASH_BYTES)?;
    let (salt, made) = (STANDARD_NO_PAD.encode(salt), STANDARD_NO_PAD.encode(made));
    let (memory, passes, lanes) = costs;
    Ok(format!("$argon2id$v=19$m={memory},t={passes},p={lanes}${salt}${made}"))
}

/// A hash that costs nothing, for tests that are not about the cost.
#[cfg(test)]
pub(super) fn cheap_hash(password: &str) -> PasswordHash {
    PasswordHash::of(&hash_at(password, b"somesalt", (8, 1, 1)).unwrap()).unwrap()
}

fn derive(
    password: &[u8],
    salt: &[u8],
    (memory, passes, lanes): (u32, u32, u32),
    len: usize,
) -> Result<Vec<u8>, argon2::Error> {
    let params = Params::new(memory, passes, lanes, Some(len))?;
    let mut out = vec![0; len];
    Argon2::new(Algorithm::Argon2id, Version::V0x13, params).hash_password_into(password, salt, &mut out)?;
    Ok(out)
}

/// Whether `password` is the one that `hash` was made of. Takes its time.
fn is_right(hash: &PasswordHash, password: &str) -> bool {
    let decode = |text: &str| STANDARD_NO_PAD.decode(text).ok();
    let Some((Some(salt), Some(known))) = hash.parts().map(|(salt, known)| (decode(salt), decode(known)))
    else {
        return false;
    };
    let made = derive(password.as_bytes(), &salt, hash.costs(), known.len());
    made.is_ok_and(|made| same(&made, &known))
}

/// Whether two texts are the same, in a time that does not tell where they differ.
pub(super) fn same(a: &[u8], b: &[u8]) -> bool {
    a.len() == b.len()
        && a.iter().zip(b).fold(0, |differ, (a, b)| std::hint::black_box(differ | (a ^ b))) == 0
}

/// What came of a verification.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    Right,
    Wrong,
    /// Too many wait: nothing was looked at.
    Busy,
}

/// Verifies passwords.
pub(super) struct Passwords {
    /// Of this process alone: what is remembered says nothing about passwords to anyone else.
    key: hmac::Key,
    right: Mutex<VecDeque<hmac::Tag>>,
    turn: Arc<Semaphore>,
    waiting: Semaphore,
}

impl Passwords {
    pub fn new() -> Self {
        let mut key = [0; 32];
        // Without randomness nothing is remembered (see `recall`), so that nothing can be made up.
        let good = getrandom::getrandom(&mut key).is_ok();
        Self {
            key: hmac::Key::new(hmac::HMAC_SHA256, &key),
            right: Mutex::default(),
            turn: Arc::new(Semaphore::new(if good { 1 } else { 0 })),
            waiting: Semaphore::new(WAITING),
        }
    }

    /// Whether two secrets are the same, in a time that tells neither where they differ nor how long they are.
    pub fn equal(&self, a: &str, b: &str) -> bool {
        let (a, b) = (hmac::sign(&self.key, a.as_bytes()), hmac::sign(&self.key, b.as_bytes()));
        same(a.as_ref(), b.as_ref())
    }

    /// Whether `password` is the one of `user`, whose `hash` is given; without one the answer takes as long, and is no.
    pub async fn verify(&self, user: &str, hash: Option<&PasswordHash>, password: &str) -> Verdict {
        if password.len() > LONGEST {
            return Verdict::Wrong;
        }
        let tag = hash.map(|hash| self.tag(user, hash, password));
        if tag.as_ref().is_some_and(|tag| self.recall(tag)) {
            return Verdict::Right;
        }
        let Ok(_waiting) = self.waiting.try_acquire() else { return Verdict::Busy };
        let Ok(turn) = Arc::clone(&self.turn).acquire_owned().await else { return Verdict::Busy };
        let known = hash.cloned().or_else(nobody);
        let tried = password.to_owned();
        let verify = move || {
            // Held until it is done, also for a client that goes away meanwhile: its memory is taken till then.
            let _turn = turn;
            known.is_some_and(|hash| is_right(&hash, &tried))
        };
        let right = tokio::task::spawn_blocking(verify).await;
        match tag {
            Some(tag) if right.unwrap_or(false) => {
                self.remember(tag);
                Verdict::Right
            }
            _ => Verdict::Wrong,
        }
    }

    /// A hash that goes with the password: when that is changed, what was remembered is no longer found.
    fn tag(&self, user: &str, hash: &PasswordHash, password: &str) -> hmac::Tag {
        let mut context = hmac::Context::with_key(&self.key);
        for part in [user, hash.as_str(), password] {
            context.update(&(part.len() as u64).to_be_bytes());
            context.update(part.as_bytes());
        }
        context.sign()
    }

    fn recall(&self, tag: &hmac::Tag) -> bool {
        let mut right = self.right.lock().unwrap_or_else(PoisonError::into_inner);
        let found = right.iter().position(|known| same(known.as_ref(), tag.as_ref()));
        // The last used stays longest.
        if let Some(tag) = found.and_then(|at| right.remove(at)) {
            right.push_back(tag);
        }
        found.is_some()
    }

    fn remember(&self, tag: hmac::Tag) {
        let mut right = self.right.lock().unwrap_or_else(PoisonError::into_inner);
        if right.len() >= REMEMBERED {
            right.pop_front();
        }
        right.push_back(tag);
    }
}

/// A hash of the usual costs that no password has, for users that are not there.
fn nobody() -> Option<PasswordHash> {
    let (salt, hash) = ("A".repeat(22), "A".repeat(43));
    PasswordHash::of(&format!("$argon2id$v=19$m={MEMORY},t={PASSES},p=1${salt}${hash}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_known_answer() {
        // RFC 9106's reference program: echo -n password | argon2 somesalt -id -t 2 -m 16 -p 1 -l 32 (m = 64 MiB)
        let hash = "$argon2id$v=19$m=65536,t=2,p=1$c29tZXNhbHQ$CTFhFdXPJO1aFaMaO6Mm5c8y7cJHAph8ArZWb2GRPPc";
        let hash = PasswordHash::of(hash).unwrap();
        assert!(is_right(&hash, "password") && !is_right(&hash, "Password"));
    }

    #[test]
    fn each_hash_has_its_own_salt() {
        let (a, b) = (hash("geheim").unwrap(), hash("geheim").unwrap());
        assert_ne!(a, b);
        for text in [&a, &b] {
            let hash = PasswordHash::of(text).unwrap();
            assert!(is_right(&hash, "geheim") && !is_right(&hash, ""));
        }
        assert!(!is_right(&nobody().unwrap(), ""));
    }

    #[tokio::test]
    async fn what_was_right_is_known_and_nothing_else() {
        let passwords = Passwords::new();
        let first = PasswordHash::of(&hash("one").unwrap()).unwrap();
        assert_eq!(passwords.verify("a", Some(&first), "one").await, Verdict::Right);
        assert!(passwords.recall(&passwords.tag("a", &first, "one")));
        for (user, password) in [("b", "one"), ("a", "two"), ("ao", "ne")] {
            assert!(!passwords.recall(&passwords.tag(user, &first, password)));
        }
        let second = PasswordHash::of(&hash("one").unwrap()).unwrap();
        assert!(!passwords.recall(&passwords.tag("a", &second, "one")), "another hash");
        assert_eq!(passwords.verify("a", None, "one").await, Verdict::Wrong);
        assert_eq!(passwords.verify("a", Some(&first), &"x".repeat(LONGEST + 1)).await, Verdict::Wrong);
        for n in 0..REMEMBERED + 5 {
            passwords.remember(passwords.tag("x", &first, &n.to_string()));
        }
        assert_eq!(passwords.right.lock().unwrap().len(), REMEMBERED);
    }

    #[tokio::test]
    async fn few_wait() {
        let passwords = Passwords::new();
        let known = PasswordHash::of(&hash("one").unwrap()).unwrap();
        let all = (0..WAITING + 4).map(|n| {
            let (passwords, known) = (&passwords, &known);
            async move { passwords.verify("a", Some(known), &n.to_string()).await }
        });
        let mut all: Vec<_> = all.map(Box::pin).collect();
        let mut busy = 0;
        // Each gets as far as it can, in turn.
        for future in &mut all {
            let mut context = std::task::Context::from_waker(std::task::Waker::noop());
            if let std::task::Poll::Ready(Verdict::Busy) = future.as_mut().poll(&mut context) {
                busy += 1;
            }
        }
        assert_eq!(busy, 4);
    }

    #[tokio::test]
    async fn who_goes_away_makes_no_room_for_others() {
        let passwords = Passwords::new();
        let known = PasswordHash::of(&hash("one").unwrap()).unwrap();
        for n in 0..5 {
            let tried = n.to_string();
            let mut verification = Box::pin(passwords.verify("a", Some(&known), &tried));
            let mut context = std::task::Context::from_waker(std::task::Waker::noop());
            assert!(verification.as_mut().poll(&mut context).is_pending());
        }
        assert_eq!(passwords.turn.available_permits(), 0, "the first is still being verified");
        assert_eq!(passwords.verify("a", Some(&known), "one").await, Verdict::Right);
    }

    #[test]
    fn equality() {
        let passwords = Passwords::new();
        assert!(passwords.equal("a", "a") && !passwords.equal("a", "b") && !passwords.equal("a", "aa"));
        assert!(same(b"", b"") && !same(b"a", b"") && !same(b"ab", b"aa"));
    }
}
