use proptest::prelude::*;
use ring::signature::{Ed25519KeyPair, KeyPair};
use serde_json::json;

use super::*;

/// Made by OpenSSL 3: a key each for RS256, ES256, EdDSA.
const KEYS: &str = include_str!("jwt_test_keys.json");
/// The same claims signed with each of them; the last one has `crit`.
const TOKENS: &str = include_str!("jwt_test_tokens.txt");
const ANY: Demands<'static> = Demands { issuer: "", audience: "" };

fn keys() -> Keys {
    Keys::parse(KEYS.as_bytes()).unwrap()
}

fn encode(value: &Value) -> String {
    URL_SAFE_NO_PAD.encode(value.to_string())
}

/// A key of ours, and a token of it.
fn signed(header: &Value, claims: &Value) -> (Keys, String) {
    let pair = Ed25519KeyPair::from_seed_unchecked(&[7; 32]).unwrap();
    let x = URL_SAFE_NO_PAD.encode(pair.public_key());
    let keys = json!({"keys": [{"kty": "OKP", "crv": "Ed25519", "x": x}]}).to_string();
    let text = format!("{}.{}", encode(header), encode(claims));
    let signature = URL_SAFE_NO_PAD.encode(pair.sign(text.as_bytes()));
    (Keys::parse(keys.as_bytes()).unwrap(), format!("{text}.{signature}"))
}

fn with(claims: &Value, demands: Demands<'_>, now: u64) -> Result<Claims, &'static str> {
    let (keys, token) = signed(&json!({"alg": "EdDSA"}), claims);
    verify(&token, &keys, demands, now)
}

fn name(vhost: &str, app: &str, stream: &str) -> StreamName {
    StreamName::new(vhost, app, stream).unwrap()
}

#[test]
fn tokens_of_openssl() {
    let demands = Demands { issuer: "https://issuer.example", audience: "rillbox" };
    for token in TOKENS.lines().take(3) {
        let claims = verify(token, &keys(), demands, 1500).unwrap();
        assert_eq!((claims.subject.as_str(), claims.role), ("cam1", Some(Role::Viewer)));
        assert!(claims.play[0].is_all() && claims.publish[0].has(&name("v", "live", "cam1")));
        assert!(!claims.publish[0].has(&name("v", "live", "cam2")));
        assert_eq!(verify(token, &keys(), demands, 2030), Err("the JWT has expired"));
        assert_eq!(verify(token, &keys(), demands, 969), Err("the JWT is not valid yet"));
        assert!(
            verify(token, &keys(), demands, 2029).is_ok() && verify(token, &keys(), demands, 970).is_ok()
        );
        let other = Demands { issuer: "https://other.example", ..demands };
        assert_eq!(verify(token, &keys(), other, 1500), Err("the JWT is of another issuer"));
        let other = Demands { audience: "rill", ..demands };
        assert_eq!(verify(token, &keys(), other, 1500), Err("the JWT is for another audience"));
        assert_eq!(verify(token, &Keys::default(), demands, 1500), Err(UNKNOWN_KEY));
    }
    let critical = TOKENS.lines().nth(3).unwrap();
    assert!(verify(critical, &keys(), ANY, 1500).unwrap_err().contains("critical"));
}

#[test]
fn no_token_is_believed_that_was_changed() {
    let keys = keys();
    for token in TOKENS.lines().take(3) {
        for at in 0..token.len() {
            let mut bytes = token.as_bytes().to_vec();
            bytes[at] = if bytes[at] == b'A' { b'B' } else { b'A' };
            let changed = String::from_utf8(bytes).unwrap();
            assert!(verify(&changed, &keys, ANY, 1500).is_err(), "byte {at} of {token}");
        }
    }
}

#[test]
fn the_key_chooses_the_algorithm() {
    let claims = json!({"exp": 2000});
    for alg in ["none", "None", "HS256", "RS256", "ES256", "EdDSA2", ""] {
        let (keys, token) = signed(&json!({"alg": alg}), &claims);
        assert_eq!(verify(&token, &keys, ANY, 1500), Err(UNKNOWN_KEY), "{alg}");
        let unsigned = format!("{}.{}.", encode(&json!({"alg": alg})), encode(&claims));
        assert_eq!(verify(&unsigned, &keys, ANY, 1500), Err(UNKNOWN_KEY), "{alg}");
    }
    let (keys, token) = signed(&json!({"alg": "EdDSA", "kid": "another"}), &claims);
    assert!(verify(&token, &keys, ANY, 1500).is_ok(), "our key has no id");
    assert_eq!(verify(&token, &self::keys(), ANY, 1500), Err(UNKNOWN_KEY));
}

#[test]
fn times_and_audiences() {
    for (claims, expected) in [
        (json!({}), Err("the JWT has no exp")),
        (json!({"exp": "2000"}), Err("the JWT's times are no numbers")),
        (json!({"exp": -1}), Err("the JWT's times are no numbers")),
        (json!({"exp": 1470}), Err("the JWT has expired")),
        (json!({"exp": 1470.5}), Ok(())),
        (json!({"exp": 1e300}), Ok(())),
        (json!({"exp": 2000, "nbf": 1531}), Err("the JWT is not valid yet")),
        (json!({"exp": 2000, "nbf": null}), Err("the JWT's times are no numbers")),
    ] {
        assert_eq!(with(&claims, ANY, 1500).map(drop), expected, "{claims}");
    }
    let demands = Demands { audience: "a", ..ANY };
    assert!(with(&json!({"exp": 2000, "aud": "a"}), demands, 0).is_ok());
    for aud in [json!("b"), json!(["b"]), json!([]), json!({"a": "a"}), Value::Null] {
        assert!(with(&json!({"exp": 2000, "aud": aud}), demands, 0).is_err(), "{aud}");
    }
    assert!(with(&json!({"exp": 2000}), demands, 0).is_err());
}

#[test]
fn what_is_allowed() {
    let claims = with(
        &json!({"exp": 9, "rillbox": {"role": "emperor", "play": ["live/x", 7, "*/live/*"], "publish": "*"}}),
        ANY,
        0,
    );
    let claims = claims.unwrap();
    assert_eq!((claims.role, claims.play.len(), claims.publish.len()), (None, 1, 0));
    let claims = with(&json!({"exp": 9, "sub": "a\nb"}), ANY, 0).unwrap();
    assert_eq!(
        (claims.role, claims.play, claims.publish, claims.subject.as_str()),
        (None, vec![], vec![], "ab")
    );

    let theirs = json!([
        {"action": "publish", "path": "live/cam*"}, {"action": "read", "path": ""}, {"action": "read", "path": "~^.*$"},
        {"action": "playback"}, {"action": "metrics"}, {"action": "pprof"}, 7
    ]);
    for permissions in [theirs.clone(), Value::String(theirs.to_string())] {
        let claims = with(&json!({"exp": 9, "mediamtx_permissions": permissions}), ANY, 0).unwrap();
        assert_eq!((claims.role, claims.play.len(), claims.publish.len()), (Some(Role::Viewer), 2, 1));
        // What is a pattern here is a name there.
        assert!(!claims.publish[0].has(&name(DEFAULT_VHOST, "live", "cam1")));
        assert!(claims.publish[0].has(&name(DEFAULT_VHOST, "live", "cam*")));
        assert!(!claims.publish[0].has(&name("other", "live", "cam*")));
    }
    let api = json!({"exp": 9, "mediamtx_permissions": [{"action": "api"}, {"action": "metrics"}]});
    assert_eq!(with(&api, ANY, 0).unwrap().role, Some(Role::Operator));
}

#[test]
fn key_sets() {
    let text = |error: Result<Keys, KeysError>| error.unwrap_err().to_string();
    assert!(text(Keys::parse(b"{")).starts_with("it is no JSON"));
    assert_eq!(text(Keys::parse(b"[]")), "it has no list \"keys\"");
    let none = [
        json!({"kty": "oct", "k": "c2VjcmV0"}),
        json!({"kty": "RSA", "n": "AQAB", "e": "AQAB", "use": "enc"}),
        json!({"kty": "RSA", "n": "AQAB", "e": "AQAB", "alg": "RS512"}),
        json!({"kty": "RSA", "n": "A".repeat(800), "e": "AQAB"}),
        json!({"kty": "EC", "crv": "P-384", "x": "AQAB", "y": "AQAB"}),
        json!({"kty": "EC", "crv": "P-256", "x": "AQAB", "y": "AQAB"}),
        json!({"kty": "OKP", "crv": "X25519", "x": "AQAB"}),
        json!(null),
    ];
    assert_eq!(
        text(Keys::parse(json!({ "keys": none }).to_string().as_bytes())),
        KeysError::None.to_string()
    );
    let key = &serde_json::from_str::<Value>(KEYS).unwrap()["keys"][0];
    let many = json!({"keys": vec![key; 1000]}).to_string();
    assert_eq!(Keys::parse(many.as_bytes()).unwrap().len(), MOST);
    assert!(Keys::parse("[".repeat(100_000).as_bytes()).is_err());
}

proptest! {
    #[test]
    fn any_text_is_refused(text in "[A-Za-z0-9_.-]{0,80}", bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        prop_assert!(verify(&text, &keys(), ANY, 0).is_err());
        let parts = [&bytes[..], &bytes[bytes.len() / 2..]].map(|part| URL_SAFE_NO_PAD.encode(part));
        let [head, rest] = parts;
        let token = format!("{head}.{rest}.{head}");
        prop_assert!(verify(&token, &keys(), ANY, 0).is_err());
        let _ = Keys::parse(&bytes);
    }
}
