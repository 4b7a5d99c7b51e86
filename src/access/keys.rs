//! The keys that JWTs are verified with: read when the first token comes, and again when they are old, or a token is of a
//! key that isn't among them.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, Instant};

#[cfg(feature = "http-client")]
use bytes::Bytes;
#[cfg(feature = "http-client")]
use hyper::Method;

use super::jwt::Keys;
#[cfg(feature = "http-client")]
use crate::net::http::{Client, Limits, Url};

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
    /// The keys of `source` (of an https server that the system or `ca` trusts), not older than `age` where they can be had.
    pub async fn keys(&self, source: &str, age: Duration, ca: Option<&Path>) -> Arc<Keys> {
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
        let keys = match read(source, ca.map(Path::to_owned)).await {
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

async fn read(source: &str, ca: Option<PathBuf>) -> Result<Keys, String> {
    let text = if source.contains("://") { fetch(source, ca).await? } else { file(source.into()).await? };
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

#[cfg(feature = "http-client")]
async fn fetch(url: &str, ca: Option<PathBuf>) -> Result<Vec<u8>, String> {
    const LIMITS: Limits = Limits { timeout: Duration::from_secs(10), max_body: LONGEST as usize };
    let parsed = Url::parse(url).map_err(|error| error.to_string())?;
    // Whoever can change the keys on their way is let in everywhere.
    let here = parsed.host() == "localhost"
        || parsed.host().parse().is_ok_and(|ip: std::net::IpAddr| ip.is_loopback());
    if !parsed.is_secure() && !here {
        return Err("keys are read by https:// only, but from this machine itself".to_owned());
    }
    // Made anew for so rare a request: nothing is kept of it.
    let answer = Client::new(ca).request(Method::GET, &parsed, &[], Bytes::new(), LIMITS).await;
    match answer {
        Ok(answer) if answer.status == 200 => Ok(answer.body.to_vec()),
        Ok(answer) => Err(format!("the server answers {}", answer.status)),
        Err(error) => Err(error.to_string()),
    }
}

#[cfg(not(feature = "http-client"))]
#[allow(clippy::unused_async, reason = "with a client it waits")]
async fn fetch(_: &str, _: Option<PathBuf>) -> Result<Vec<u8>, String> {
    Err("this build can't read URLs (Cargo feature \"http-client\")".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::access::jwt::UNKNOWN_KEY;

    const KEYS: &str = include_str!("jwt_test_keys.json");

    #[tokio::test]
    async fn a_file_is_read_again_when_it_is_old_and_bad_ones_change_nothing() {
        let name = format!("rillbox-keys-{}.json", std::process::id());
        let path = std::env::temp_dir().join(name);
        let source = path.to_str().unwrap();
        let store = KeyStore::default();
        assert_eq!(store.keys(source, SOONEST, None).await.len(), 0, "it is not there");
        std::fs::write(&path, KEYS).unwrap();
        assert_eq!(store.keys(source, SOONEST, None).await.len(), 0, "not asked for all the time");
        let age = |store: &KeyStore| store.state.write().unwrap().read = None;
        age(&store);
        assert_eq!(store.keys(source, SOONEST, None).await.len(), 3);
        std::fs::write(&path, "{}").unwrap();
        age(&store);
        assert_eq!(store.keys(source, SOONEST, None).await.len(), 3, "what was good stays");
        std::fs::write(&path, vec![b' '; 70_000]).unwrap();
        assert_eq!(file(path.clone()).await, Err("it is larger than 64 KiB".to_owned()));
        std::fs::remove_file(&path).unwrap();
        assert_eq!(store.keys("/elsewhere", SOONEST, None).await.len(), 0, "another source, other keys");
        assert!(UNKNOWN_KEY.contains("key"));
    }

    #[cfg(feature = "http-client")]
    #[tokio::test]
    async fn a_url_is_read_securely_or_from_here() {
        use tokio::io::{AsyncReadExt, AsyncWriteExt};
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/keys", listener.local_addr().unwrap());
        let serve = tokio::spawn(async move {
            for status in ["200 OK", "404 Not Found"] {
                let (mut socket, _) = listener.accept().await.unwrap();
                let _ = socket.read(&mut [0; 4096]).await.unwrap();
                let head = format!(
                    "HTTP/1.1 {status}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
                    KEYS.len()
                );
                socket.write_all((head + KEYS).as_bytes()).await.unwrap();
            }
        });
        assert_eq!(read(&url, None).await.unwrap().len(), 3);
        assert_eq!(read(&url, None).await.unwrap_err(), "the server answers 404");
        serve.await.unwrap();
        let plain = read("http://192.0.2.1/keys", None).await.unwrap_err();
        assert!(plain.starts_with("keys are read by https://"), "{plain}");
        assert!(read("ftp://a/b", None).await.is_err());
    }
}
