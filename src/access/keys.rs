//! The keys that JWTs are verified with: read when the first token comes, and again when they are old, or a token is of a
//! key that isn't among them.

use std::io::Read;
use std::path::PathBuf;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, Instant};

use super::jwt::Keys;

/// The largest key set, in bytes.
const LONGEST: u64 = 64 * 1024;
/// How soon a set is read again at the earliest: tokens of unknown keys shall not make us ask without end.
const SOONEST: Duration = Duration::from_secs(10);

/// Where keys come from, and what came.
#[derive(Default)]
pub(super) struct KeyStore {
    state: RwLock<State>,
    /// Held by the one who reads.
    reading: tokio::sync::Mutex<()>,
}

#[derive(Default, Clone)]
struct State {
    source: String,
    read: Option<Instant>,
    keys: Arc<Keys>,
}

impl KeyStore {
    /// The keys of `source`, not older than `age` where they can be had.
    pub async fn keys(&self, source: &str, age: Duration) -> Arc<Keys> {
        let fresh = |state: &State, now| {
            let read = state.read.filter(|_| state.source == source);
            read.is_some_and(|read| now < read + age.max(SOONEST))
        };
        let state = self.state();
        if fresh(&state, Instant::now()) {
            return state.keys;
        }
        // Who has old keys goes on with them; who has none waits.
        let _reading = match self.reading.try_lock() {
            Ok(reading) => reading,
            Err(_) if state.source == source => return state.keys,
            Err(_) => self.reading.lock().await,
        };
        let state = self.state();
        if fresh(&state, Instant::now()) {
            return state.keys;
        }
        let old = if state.source == source { state.keys } else { Arc::default() };
        let keys = match read(source).await {
            Ok(keys) => {
                if keys != *old {
                    log::info!("access.jwt_keys: {} keys read from {}", keys.len(), shown(source));
                }
                Arc::new(keys)
            }
            Err(why) => {
                log::warn!("access.jwt_keys: {} can't be used: {why}", shown(source));
                old
            }
        };
        let state = State { source: source.to_owned(), read: Some(Instant::now()), keys: Arc::clone(&keys) };
        *self.state.write().unwrap_or_else(PoisonError::into_inner) = state;
        keys
    }

    fn state(&self) -> State {
        self.state.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// A source without what may be secret in a URL.
fn shown(source: &str) -> &str {
    source.split(['?', '#']).next().unwrap_or_default()
}

async fn read(source: &str) -> Result<Keys, String> {
    let text = if source.contains("://") { fetch(source).await? } else { file(source.into()).await? };
    Keys::parse(&text).map_err(|error| error.to_string())
}

async fn file(path: PathBuf) -> Result<Vec<u8>, String> {
    let read = move || {
        let mut text = Vec::new();
        std::fs::File::open(path)?.take(LONGEST + 1).read_to_end(&mut text)?;
        Ok::<_, std::io::Error>(text)
    };
    match tokio::task::spawn_blocking(read).await {
        Ok(Ok(text)) if text.len() as u64 > LONGEST => Err("it is larger than 64 KiB".to_owned()),
        Ok(Ok(text)) => Ok(text),
        Ok(Err(error)) => Err(error.to_string()),
        Err(error) => Err(error.to_string()),
    }
}

async fn fetch(_url: &str) -> Result<Vec<u8>, String> {
    Err("this build can't read URLs (Cargo feature \"http-client\")".to_owned())
}
