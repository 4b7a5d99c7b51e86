//! The certificate that our descriptions name by its fingerprint (RFC 8122), and what is read of a peer's.

use std::fmt;
use std::sync::Arc;

use ring::digest;

use super::DtlsError;

/// Our certificate and its key: ECDSA on P-256, signed by itself, another at each start. Clones are the same.
#[derive(Clone)]
pub struct Certificate(Arc<Inner>);

struct Inner {
    der: Vec<u8>,
    /// PKCS #8.
    key: Vec<u8>,
    fingerprint: Fingerprint,
}

impl fmt::Debug for Certificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Certificate").field("fingerprint", &self.0.fingerprint).finish_non_exhaustive()
    }
}

impl Certificate {
    /// A new one. Its serial number is random: Firefox refuses a second certificate with the number of the first.
    ///
    /// # Errors
    /// [`DtlsError::Certificate`]: the system has no randomness.
    pub fn generate() -> Result<Self, DtlsError> {
        let no = |_| DtlsError::Certificate;
        let key = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).map_err(no)?;
        let mut params = rcgen::CertificateParams::new(Vec::new()).map_err(no)?;
        let mut serial = [0; 16];
        getrandom::getrandom(&mut serial).map_err(|_| DtlsError::Certificate)?;
        if let Some(first) = serial.first_mut() {
            // Positive, and no shorter than it looks.
            *first = *first & 0x3f | 0x40;
        }
        params.serial_number = Some(serial.to_vec().into());
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(rcgen::DnType::CommonName, "WebRTC");
        let certificate = params.self_signed(&key).map_err(no)?;
        let der = certificate.der().to_vec();
        let fingerprint = Fingerprint::of(&der);
        Ok(Self(Arc::new(Inner { der, key: key.serialize_der(), fingerprint })))
    }

    /// What a description calls it.
    #[must_use]
    pub fn fingerprint(&self) -> &Fingerprint {
        &self.0.fingerprint
    }

    pub(super) fn for_dtls(&self) -> dimpl::DtlsCertificate {
        dimpl::DtlsCertificate { certificate: self.0.der.clone(), private_key: self.0.key.clone() }
    }
}

/// A hash of a certificate (`a=fingerprint`).
#[derive(Clone, PartialEq, Eq)]
pub struct Fingerprint {
    algorithm: Algorithm,
    hash: heapless::Vec<u8, 64>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Algorithm {
    Sha256,
    Sha384,
    Sha512,
}

impl Algorithm {
    fn hash(self, bytes: &[u8]) -> digest::Digest {
        let algorithm = match self {
            Self::Sha256 => &digest::SHA256,
            Self::Sha384 => &digest::SHA384,
            Self::Sha512 => &digest::SHA512,
        };
        digest::digest(algorithm, bytes)
    }

    fn name(self) -> &'static str {
        match self {
            Self::Sha256 => "sha-256",
            Self::Sha384 => "sha-384",
            Self::Sha512 => "sha-512",
        }
    }
}

impl Fingerprint {
    fn of(der: &[u8]) -> Self {
        let hash = Algorithm::Sha256.hash(der);
        Self {
            algorithm: Algorithm::Sha256,
            hash: heapless::Vec::from_slice(hash.as_ref()).unwrap_or_default(),
        }
    }

    /// Reads what stands behind `a=fingerprint:`, like `sha-256 AB:CD:…`. `None`: it isn't one, or by a hash that is none of
    /// SHA-256, SHA-384 and SHA-512.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (name, digits) = text.trim().split_once(' ')?;
        let algorithms = [Algorithm::Sha256, Algorithm::Sha384, Algorithm::Sha512];
        let algorithm = algorithms.into_iter().find(|a| a.name().eq_ignore_ascii_case(name))?;
        let mut hash = heapless::Vec::new();
        for pair in digits.trim().split(':') {
            let pair = Some(pair).filter(|pair| pair.len() == 2 && !pair.starts_with('+'))?;
            hash.push(u8::from_str_radix(pair, 16).ok()?).ok()?;
        }
        (hash.len() == algorithm.hash(&[]).as_ref().len()).then_some(Self { algorithm, hash })
    }

    /// Whether it is that of this certificate.
    #[must_use]
    pub fn matches(&self, der: &[u8]) -> bool {
        self.algorithm.hash(der).as_ref() == self.hash.as_slice()
    }
}

/// As descriptions have it.
impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.algorithm.name())?;
        for (index, byte) in self.hash.iter().enumerate() {
            write!(f, "{}{byte:02X}", if index == 0 { ' ' } else { ':' })?;
        }
        Ok(())
    }
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Curves of keys in certificates.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Curve {
    P256,
    P384,
}

const SEQUENCE: u8 = 0x30;
const INTEGER: u8 = 0x02;
const BIT_STRING: u8 = 0x03;
const OBJECT: u8 = 0x06;
/// Of the version, which certificates of version 1 don't have.
const VERSION: u8 = 0xa0;
const EC_PUBLIC_KEY: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01];
const P256: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07];
const P384: &[u8] = &[0x2b, 0x81, 0x04, 0x00, 0x22];

/// The key of a certificate (RFC 5280 section 4.1, RFC 5480), as a point on its curve. `None`: it is none that we know.
pub(super) fn public_key(certificate: &[u8]) -> Option<(Curve, &[u8])> {
    let (certificate, _) = tagged(certificate, SEQUENCE)?;
    let (mut body, _) = tagged(certificate, SEQUENCE)?;
    if body.first() == Some(&VERSION) {
        body = tagged(body, VERSION)?.1;
    }
    body = tagged(body, INTEGER)?.1;
    // Signature, issuer, validity, subject.
    for _ in 0..4 {
        body = tagged(body, SEQUENCE)?.1;
    }
    let (info, _) = tagged(body, SEQUENCE)?;
    let (algorithm, bits) = tagged(info, SEQUENCE)?;
    let (kind, parameters) = tagged(algorithm, OBJECT)?;
    let (curve, _) = tagged(parameters, OBJECT)?;
    let (bits, _) = tagged(bits, BIT_STRING)?;
    let (&0, point) = bits.split_first()? else { return None };
    let curve = match curve {
        P256 => Curve::P256,
        P384 => Curve::P384,
        _ => return None,
    };
    (kind == EC_PUBLIC_KEY).then_some((curve, point))
}

/// What is in a value of DER with this tag, and what follows it.
fn tagged(bytes: &[u8], tag: u8) -> Option<(&[u8], &[u8])> {
    let (first, rest) = bytes.split_first()?;
    if *first != tag {
        return None;
    }
    let (&length, mut rest) = rest.split_first()?;
    let length = if length < 0x80 {
        usize::from(length)
    } else {
        // Lengths of up to 64 KiB.
        let count = usize::from(length & 0x7f);
        let (digits, behind) = rest.split_at_checked(count).filter(|_| (1..=2).contains(&count))?;
        rest = behind;
        digits.iter().fold(0, |all, digit| all << 8 | usize::from(*digit))
    };
    rest.split_at_checked(length)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn certificates_say_who_they_are() {
        let [a, b] = [0; 2].map(|_| Certificate::generate().unwrap());
        assert_ne!(a.fingerprint(), b.fingerprint());
        let text = a.fingerprint().to_string();
        let read = Fingerprint::parse(&text.replace("sha", "SHA").to_lowercase()).unwrap();
        assert!(&read == a.fingerprint() && read.matches(&a.0.der) && !read.matches(&b.0.der));
        let (curve, point) = public_key(&a.0.der).unwrap();
        assert_eq!((curve, point.len(), point[0]), (Curve::P256, 65, 4));
        let p384 = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P384_SHA384).unwrap();
        let params = rcgen::CertificateParams::new(vec!["a name that makes it long".repeat(10)]).unwrap();
        let der = params.self_signed(&p384).unwrap().der().to_vec();
        assert_eq!(public_key(&der).unwrap().0, Curve::P384);
    }

    #[test]
    fn fingerprints_are_read_or_refused() {
        let good = format!("sha-512 {}", ["0a"; 64].join(":"));
        assert!(Fingerprint::parse(&good).is_some());
        let short = format!("sha-256 {}", ["0a"; 31].join(":"));
        let long = format!("sha-256 {}", ["0a"; 65].join(":"));
        let weak = format!("sha-1 {}", ["0a"; 20].join(":"));
        let signs = format!("sha-256 {}", ["+a"; 32].join(":"));
        for bad in [&short, &long, &weak, &signs, "", "sha-256", "sha-256 :", "sha-256 ä:é"] {
            assert!(Fingerprint::parse(bad).is_none(), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn certificates_of_any_bytes_are_read_or_refused(
            at in 0..300usize, value: u8, bytes in proptest::collection::vec(any::<u8>(), 0..200)
        ) {
            let _ = public_key(&bytes);
            let mut der = Certificate::generate().unwrap().0.der.clone();
            if let Some(byte) = der.get_mut(at) {
                *byte = value;
            }
            let _ = public_key(&der);
            der.truncate(at);
            prop_assert!(public_key(&der).is_none() || at > 100);
        }

        #[test]
        fn fingerprints_of_any_text_are_read_or_refused(text in ".{0,80}") {
            let _ = Fingerprint::parse(&text);
        }
    }
}
