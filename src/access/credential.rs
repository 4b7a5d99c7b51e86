//! What a client shows: Basic and Bearer credentials (RFC 7617, RFC 6750), and parameters of URLs.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

/// The longest `Authorization` header and the longest JWT that are looked at, in bytes.
pub(super) const LONGEST: usize = 8192;

/// What a client shows to be let in.
#[derive(Clone, PartialEq, Eq)]
pub(super) enum Credential {
    /// A user's name and password.
    Password(String, String),
    /// A JWT.
    Jwt(String),
    /// A signed URL: when it ends (unix seconds), for whom, and the signature.
    Signed { expires: String, ip: Option<String>, sign: String },
}

impl Credential {
    /// What an `Authorization` header says; `None` if it is neither Basic nor Bearer, or malformed.
    pub fn of_header(value: &str) -> Option<Self> {
        if value.len() > LONGEST {
            return None;
        }
        let (scheme, rest) = value.trim().split_once(' ')?;
        let rest = rest.trim();
        if scheme.eq_ignore_ascii_case("bearer") {
            return Some(Self::Jwt(rest.to_owned()));
        }
        if !scheme.eq_ignore_ascii_case("basic") {
            return None;
        }
        let text = String::from_utf8(STANDARD.decode(rest).ok()?).ok()?;
        let (user, password) = text.split_once(':')?;
        Some(Self::Password(user.to_owned(), password.to_owned()))
    }

    /// What the parameters of a URL say, a query without its `?`: `sign`, `expires`, `ip`; `jwt` or `token`; `user`, `pass`.
    pub fn of_params(params: &str) -> Option<Self> {
        let param = |name| param(params, name);
        if let Some(sign) = param("sign") {
            return Some(Self::Signed { expires: param("expires")?, ip: param("ip"), sign });
        }
        if let Some(jwt) = param("jwt").or_else(|| param("token")) {
            return (jwt.len() <= LONGEST).then_some(Self::Jwt(jwt));
        }
        Some(Self::Password(param("user")?, param("pass")?))
    }
}

/// The first value of a parameter, percent-decoded (RFC 3986 2.1; a `+` is a plus). `None` if it is not there, or no text.
pub(super) fn param(params: &str, name: &str) -> Option<String> {
    let mut pairs = params.split('&').filter_map(|pair| pair.split_once('='));
    let (_, value) = pairs.find(|(key, _)| *key == name)?;
    let mut bytes = Vec::with_capacity(value.len());
    let mut rest = value.bytes();
    let hex = |c: u8| char::from(c).to_digit(16).and_then(|d| u8::try_from(d).ok());
    while let Some(c) = rest.next() {
        bytes.push(if c == b'%' { hex(rest.next()?)? << 4 | hex(rest.next()?)? } else { c });
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn password(user: &str, password: &str) -> Option<Credential> {
        Some(Credential::Password(user.to_owned(), password.to_owned()))
    }

    #[test]
    fn headers() {
        assert!(
            Credential::of_header("Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==") == password("Aladdin", "open sesame")
        );
        assert!(Credential::of_header("basic  YTpiOmM=") == password("a", "b:c"));
        assert!(Credential::of_header("BEARER x.y.z") == Some(Credential::Jwt("x.y.z".to_owned())));
        for bad in [
            "",
            "Basic",
            "Basic !",
            "Basic YQ==",
            "Basic /zo=",
            "Digest x",
            &format!("Bearer {}", "x".repeat(LONGEST)),
        ] {
            assert!(Credential::of_header(bad).is_none(), "{bad}");
        }
    }

    #[test]
    fn parameters() {
        assert!(Credential::of_params("a=b&user=u%40x&pass=a+b%20c&user=other") == password("u@x", "a+b c"));
        assert!(
            Credential::of_params("token=x.y.z&user=a&pass=b") == Some(Credential::Jwt("x.y.z".to_owned()))
        );
        let signed = Credential::Signed { expires: "7".to_owned(), ip: None, sign: "s".to_owned() };
        assert!(Credential::of_params("jwt=x&expires=7&sign=s") == Some(signed));
        for bad in [
            "",
            "user=a",
            "pass=b",
            "sign=x",
            "user=%zz&pass=a",
            "user=%ff&pass=a",
            "users=a&pass=b",
            "user=a&pass=%4",
        ] {
            assert!(Credential::of_params(bad).is_none(), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn nothing_panics(text in "\\PC*", bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            let _ = (Credential::of_header(&text), Credential::of_params(&text), Credential::of_params(&format!("user={text}&pass=")));
            let _ = Credential::of_header(&format!("Basic {}", STANDARD.encode(bytes)));
        }
    }
}
