//! JSON Web Tokens (RFC 7519) signed by RS256, ES256 or EdDSA (RFC 7518, RFC 8037), and the key sets that they are verified
//! with (RFC 7517).
//!
//! Each token needs `exp`; `nbf`, `iss`, `aud` count where they are, or where the configuration wants them. What it allows
//! stands in the claim `rillbox`, in the words of `[[access.users]]`:
//!
//! ```json
//! {"sub": "cam1", "exp": 1790000000, "rillbox": {"publish": ["*/live/cam1"], "play": ["*"], "role": "viewer"}}
//! ```
//!
//! `role` opens the API; what is not there allows nothing. MediaMTX's `mediamtx_permissions` is taken, too: its `publish`,
//! `read` and `playback` are of streams of the default vhost, `api` is an operator, `metrics` a viewer; regular expressions
//! (`~`) allow nothing.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::signature::{
    ECDSA_P256_SHA256_FIXED, ED25519, RSA_PKCS1_2048_8192_SHA256, RsaPublicKeyComponents, UnparsedPublicKey,
};
use serde_json::Value;

use super::credential::LONGEST;
use crate::config::{Pattern, Role};
use crate::hub::{DEFAULT_VHOST, StreamName};

/// By how many seconds clocks may differ.
const LEEWAY: u64 = 30;
/// The most keys of a set, and the most entries of a list in a token.
const MOST: usize = 64;
/// The largest RSA modulus in bytes, and the largest exponent: what costs more than a millisecond nobody uses.
const RSA_BYTES: (usize, usize) = (512, 8);

/// Why a token is not believed that is of a key which isn't among those that are known.
pub(super) const UNKNOWN_KEY: &str = "the JWT's signature is of no known key";

/// Why a set of keys can't be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub(super) enum KeysError {
    #[error("it is no JSON: {0}")]
    Json(serde_json::Error),
    #[error("it has no list \"keys\"")]
    List,
    #[error("it has none that signs by RS256, ES256 or EdDSA")]
    None,
}

/// Public keys.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Keys(Vec<Key>);

#[derive(Debug, PartialEq, Eq)]
struct Key {
    id: Option<String>,
    public: Public,
}

#[derive(Debug, PartialEq, Eq)]
enum Public {
    Ed25519(Vec<u8>),
    P256(Vec<u8>),
    Rsa { n: Vec<u8>, e: Vec<u8> },
}

impl Keys {
    /// Reads a JSON Web Key Set. Keys of other kinds, and those that are not for signatures, are left out.
    pub fn parse(text: &[u8]) -> Result<Self, KeysError> {
        let set: Value = serde_json::from_slice(text).map_err(KeysError::Json)?;
        let list = set.get("keys").and_then(Value::as_array).ok_or(KeysError::List)?;
        let keys: Vec<Key> = list.iter().filter_map(Key::of).take(MOST).collect();
        if keys.is_empty() { Err(KeysError::None) } else { Ok(Self(keys)) }
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }
}

impl Key {
    fn of(value: &Value) -> Option<Self> {
        let text = |name| value.get(name).and_then(Value::as_str);
        let bytes = |name| URL_SAFE_NO_PAD.decode(text(name)?).ok();
        if text("use").is_some_and(|purpose| purpose != "sig") {
            return None;
        }
        let (public, alg) = match (text("kty")?, text("crv")) {
            ("RSA", _) => {
                let (n, e) = (bytes("n")?, bytes("e")?);
                if n.len() > RSA_BYTES.0 || e.len() > RSA_BYTES.1 {
                    return None;
                }
                (Public::Rsa { n, e }, "RS256")
            }
            ("EC", Some("P-256")) => {
                let (x, y) = (bytes("x")?, bytes("y")?);
                let fits = x.len() == 32 && y.len() == 32;
                fits.then(|| (Public::P256([&[4], x.as_slice(), y.as_slice()].concat()), "ES256"))?
            }
            ("OKP", Some("Ed25519")) => (Public::Ed25519(bytes("x").filter(|x| x.len() == 32)?), "EdDSA"),
            _ => return None,
        };
        if text("alg").is_some_and(|known| known != alg) {
            return None;
        }
        Some(Self { id: text("kid").map(str::to_owned), public })
    }

    /// Whether a signature by `alg` is this key's.
    fn verifies(&self, alg: &str, signed: &[u8], signature: &[u8]) -> bool {
        // The key says which algorithm is right, never the token.
        match (&self.public, alg) {
            (Public::Rsa { n, e }, "RS256") => {
                RsaPublicKeyComponents { n, e }.verify(&RSA_PKCS1_2048_8192_SHA256, signed, signature).is_ok()
            }
            (Public::P256(point), "ES256") => {
                UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, point).verify(signed, signature).is_ok()
            }
            (Public::Ed25519(point), "EdDSA") => {
                UnparsedPublicKey::new(&ED25519, point).verify(signed, signature).is_ok()
            }
            _ => false,
        }
    }
}

/// What the configuration wants of tokens.
#[derive(Debug, Clone, Copy)]
pub(super) struct Demands<'a> {
    /// `iss`; empty: any.
    pub issuer: &'a str,
    /// `aud`; empty: any.
    pub audience: &'a str,
}

/// What a token says, once it is believed.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Claims {
    /// Whose it is, as far as it says; fit for the log.
    pub subject: String,
    /// What it may do with the API.
    pub role: Option<Role>,
    pub play: Vec<Streams>,
    pub publish: Vec<Streams>,
}

/// Streams that someone may play or publish.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Streams {
    Pattern(Pattern),
    /// `app/stream` of the default vhost.
    Path(String),
}

impl Streams {
    pub fn has(&self, StreamName { vhost, app, stream, .. }: &StreamName) -> bool {
        match self {
            Self::Pattern(pattern) => pattern.matches(vhost, app, stream),
            Self::Path(path) => vhost == DEFAULT_VHOST && *path == format!("{app}/{stream}"),
        }
    }

    pub fn is_all(&self) -> bool {
        matches!(self, Self::Pattern(pattern) if pattern.is_all())
    }
}

/// Believes a token, or says why not. `now` is in seconds since 1970.
pub(super) fn verify(
    token: &str,
    keys: &Keys,
    demands: Demands<'_>,
    now: u64,
) -> Result<Claims, &'static str> {
    const MALFORMED: &str = "the JWT is malformed";
    if token.len() > LONGEST {
        return Err("the JWT is too long");
    }
    let (signed, signature) = token.rsplit_once('.').ok_or(MALFORMED)?;
    let (header, payload) = signed.split_once('.').ok_or(MALFORMED)?;
    let decode = |part: &str| URL_SAFE_NO_PAD.decode(part).map_err(|_| MALFORMED);
    let signature = decode(signature)?;
    let header: Value = serde_json::from_slice(&decode(header)?).map_err(|_| MALFORMED)?;
    let alg = header.get("alg").and_then(Value::as_str).ok_or(MALFORMED)?;
    if header.get("crit").is_some() {
        return Err("the JWT has critical extensions, which are not understood");
    }
    let id = header.get("kid").and_then(Value::as_str);
    // A key without an id may be any; a token without one may be of any key.
    let fits = |key: &&Key| id.is_none() || key.id.is_none() || key.id.as_deref() == id;
    if !keys.0.iter().filter(fits).any(|key| key.verifies(alg, signed.as_bytes(), &signature)) {
        return Err(UNKNOWN_KEY);
    }
    let claims: Value = serde_json::from_slice(&decode(payload)?).map_err(|_| MALFORMED)?;
    check(&claims, demands, now)?;
    Ok(Claims::of(&claims))
}

/// Times, issuer and audience.
fn check(claims: &Value, demands: Demands<'_>, now: u64) -> Result<(), &'static str> {
    // NumericDate may have a fraction (RFC 7519 2).
    let time = |name| match claims.get(name) {
        None => Ok(None),
        Some(value) => value
            .as_f64()
            .filter(|secs| secs.is_finite() && *secs >= 0.0)
            .map(Some)
            .ok_or("the JWT's times are no numbers"),
    };
    let now = now as f64;
    let leeway = LEEWAY as f64;
    match time("exp")? {
        None => return Err("the JWT has no exp"),
        Some(exp) if now >= exp + leeway => return Err("the JWT has expired"),
        Some(_) => {}
    }
    if time("nbf")?.is_some_and(|nbf| now + leeway < nbf) {
        return Err("the JWT is not valid yet");
    }
    let text = |name| claims.get(name).and_then(Value::as_str);
    if !demands.issuer.is_empty() && text("iss") != Some(demands.issuer) {
        return Err("the JWT is of another issuer");
    }
    let audiences = claims.get("aud").and_then(Value::as_array);
    let listed = audiences.is_some_and(|all| all.iter().any(|aud| aud.as_str() == Some(demands.audience)));
    if !demands.audience.is_empty() && !listed && text("aud") != Some(demands.audience) {
        return Err("the JWT is for another audience");
    }
    Ok(())
}

impl Claims {
    fn of(claims: &Value) -> Self {
        let subject = claims.get("sub").and_then(Value::as_str).unwrap_or("without sub");
        let subject = subject.chars().filter(|c| !c.is_control()).take(64).collect();
        let mut all = Self { subject, role: None, play: Vec::new(), publish: Vec::new() };
        if let Some(own) = claims.get("rillbox") {
            all.role = own.get("role").and_then(Value::as_str).and_then(Role::of);
            let list = |name| {
                let words = own.get(name).and_then(Value::as_array).into_iter().flatten().take(MOST);
                words.filter_map(|word| Pattern::of(word.as_str()?)).map(Streams::Pattern).collect()
            };
            (all.play, all.publish) = (list("play"), list("publish"));
        }
        // MediaMTX 1.x takes the list as JSON within a text, too.
        let theirs = match claims.get("mediamtx_permissions") {
            Some(Value::String(text)) => serde_json::from_str(text).unwrap_or(Value::Null),
            Some(list) => list.clone(),
            None => Value::Null,
        };
        for permission in theirs.as_array().into_iter().flatten().take(MOST) {
            all.add(permission);
        }
        all
    }

    /// Takes one of MediaMTX's permissions over.
    fn add(&mut self, permission: &Value) {
        let streams = match permission.get("path").and_then(Value::as_str).unwrap_or_default() {
            "" => Streams::Pattern(Pattern::all()),
            path if path.starts_with('~') => return,
            path => Streams::Path(path.to_owned()),
        };
        match permission.get("action").and_then(Value::as_str) {
            Some("publish") => self.publish.push(streams),
            Some("read" | "playback") => self.play.push(streams),
            Some("api") => self.role = self.role.max(Some(Role::Operator)),
            Some("metrics") => self.role = self.role.max(Some(Role::Viewer)),
            _ => {}
        }
    }
}

#[cfg(test)]
#[path = "jwt_tests.rs"]
mod tests;
