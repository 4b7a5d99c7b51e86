//! Signed URLs: a publisher or player is let in by what the URL itself carries.
//!
//! ```text
//! http://host:8080/live/demo.flv?expires=1790000000&sign=SIGNATURE
//! rtmp://host/live/demo?expires=1790000000&ip=192.0.2.7&sign=SIGNATURE
//! ```
//!
//! | parameter | is |
//! |---|---|
//! | `expires` | the second (since 1970, UTC) from which on it lets nobody in any more |
//! | `ip` | if there: the only address that it lets in |
//! | `sign` | base64url without padding of HMAC-SHA256 over the text below |
//!
//! Signed are these lines, each with a line feed at its end: `rillbox-url-1`, `play` or `publish`, the vhost
//! (`__defaultVhost__` where none is configured), app, stream, `expires`, `ip` (empty without). The key is the secret of
//! `access.token_secrets`. Who is in stays when the time is over.

use std::net::IpAddr;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::hmac;

use crate::hub::{Action, StreamName};

/// What is signed.
pub(super) struct Grant<'a> {
    pub action: Action,
    pub name: &'a StreamName,
    pub expires: &'a str,
    pub ip: Option<&'a str>,
}

impl Grant<'_> {
    fn text(&self) -> String {
        let action = self.action.as_str();
        let StreamName { vhost, app, stream, .. } = self.name;
        let (expires, ip) = (self.expires, self.ip.unwrap_or_default());
        // None of these holds a line feed: names can't, the others are looked at before they count.
        format!("rillbox-url-1\n{action}\n{vhost}\n{app}\n{stream}\n{expires}\n{ip}\n")
    }

    /// The signature.
    pub fn sign(&self, secret: &str) -> String {
        URL_SAFE_NO_PAD.encode(hmac::sign(&key(secret), self.text().as_bytes()))
    }

    /// Whether it lets a client at `address` in, at a time in seconds since 1970; if not, why.
    pub fn check<'s>(
        &self,
        sign: &str,
        secrets: impl Iterator<Item = &'s str>,
        address: IpAddr,
        now: u64,
    ) -> Result<(), &'static str> {
        let digits = !self.expires.is_empty() && self.expires.bytes().all(|c| c.is_ascii_digit());
        let Some(expires) = self.expires.parse::<u64>().ok().filter(|_| digits) else {
            return Err("the signed URL has no good expires");
        };
        let bound = match self.ip.map(str::parse::<IpAddr>) {
            None => None,
            Some(Ok(ip)) => Some(ip.to_canonical()),
            Some(Err(_)) => return Err("the signed URL has no good ip"),
        };
        let Ok(sign) = URL_SAFE_NO_PAD.decode(sign) else { return Err("the URL's signature is malformed") };
        let text = self.text();
        // The signature first: what else the URL says counts only with it.
        let mut good = false;
        for secret in secrets {
            good |= hmac::verify(&key(secret), text.as_bytes(), &sign).is_ok();
        }
        if !good {
            return Err("the URL's signature is wrong, or for something else");
        }
        if now >= expires {
            return Err("the signed URL has expired");
        }
        match bound {
            Some(ip) if ip != address.to_canonical() => Err("the signed URL is for another address"),
            _ => Ok(()),
        }
    }
}

fn key(secret: &str) -> hmac::Key {
    hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECRETS: [&str; 2] = ["the-secret-of-today", "the-secret-of-yesterday"];

    fn name(stream: &str) -> StreamName {
        StreamName::new("__defaultVhost__", "live", stream).unwrap()
    }

    #[test]
    fn a_known_answer() {
        // printf 'rillbox-url-1\nplay\n__defaultVhost__\nlive\ndemo\n1790000000\n\n' |
        //   openssl dgst -sha256 -hmac the-secret-of-today -binary | basenc --base64url
        let name = name("demo");
        let grant = Grant { action: Action::Play, name: &name, expires: "1790000000", ip: None };
        assert_eq!(grant.sign(SECRETS[0]), "Gh61DILNmsKUEay9EM5TsQhO97zBPuuGG80yQ_u6XwA");
    }

    #[test]
    fn only_what_was_signed_is_let_in() {
        let (demo, other) = (name("demo"), name("other"));
        let address: IpAddr = "192.0.2.7".parse().unwrap();
        let grant = |ip| Grant { action: Action::Play, name: &demo, expires: "1000", ip };
        let (free, bound) = (grant(None).sign(SECRETS[1]), grant(Some("192.0.2.7")).sign(SECRETS[0]));
        let check = |grant: &Grant<'_>, sign: &str, address, now| {
            grant.check(sign, SECRETS.into_iter(), address, now)
        };
        assert_eq!(check(&grant(None), &free, address, 999), Ok(()));
        assert_eq!(check(&grant(Some("192.0.2.7")), &bound, address, 0), Ok(()));
        assert_eq!(check(&grant(Some("192.0.2.7")), &bound, "::ffff:192.0.2.7".parse().unwrap(), 0), Ok(()));
        let elsewhere = check(&grant(Some("192.0.2.7")), &bound, [192, 0, 2, 8].into(), 0);
        assert_eq!(elsewhere, Err("the signed URL is for another address"));
        assert_eq!(check(&grant(None), &free, address, 1000), Err("the signed URL has expired"));
        let wrong = Err("the URL's signature is wrong, or for something else");
        assert_eq!(check(&grant(None), &bound, address, 0), wrong, "an address can't be left out");
        assert_eq!(check(&Grant { action: Action::Publish, ..grant(None) }, &free, address, 0), wrong);
        assert_eq!(check(&Grant { name: &other, ..grant(None) }, &free, address, 0), wrong);
        assert_eq!(check(&Grant { expires: "1001", ..grant(None) }, &free, address, 0), wrong);
        assert_eq!(check(&Grant { expires: "01000", ..grant(None) }, &free, address, 0), wrong);
        assert_eq!(check(&grant(None), &free[2..], address, 0), Err("the URL's signature is malformed"));
        assert_eq!(grant(None).check(&free, ["a-third-secret-text"].into_iter(), address, 0), wrong);
        assert_eq!(grant(None).check(&free, std::iter::empty(), address, 0), wrong);
        for expires in ["", "-1", "+1000", "1e9", "99999999999999999999", "1000\n"] {
            assert!(check(&Grant { expires, ..grant(None) }, &free, address, 0).is_err(), "{expires:?}");
        }
        assert!(check(&grant(Some("x\ny")), &free, address, 0).is_err());
    }
}
