//! The cryptography of DTLS, by ring: what `dimpl` asks for, and nothing that WebRTC doesn't use.
//!
//! Curves: X25519, P-256, P-384. Ciphers: AES-128-GCM with SHA-256, AES-256-GCM with SHA-384. Certificates: ECDSA on P-256 and
//! P-384, as browsers make them.

use aes::cipher::{Array, BlockCipherEncrypt, KeyInit};
use aes::{Aes128, Aes256};
use dimpl::crypto::{
    Aad, ActiveKeyExchange, Buf, Cipher, CryptoProvider, Dtls12CipherSuite, Dtls13CipherSuite, HashAlgorithm,
    HashContext, HashProvider, HmacProvider, KeyProvider, NamedGroup, Nonce, SecureRandom,
    SignatureAlgorithm, SignatureVerifier, SigningKey, SupportedDtls12CipherSuite,
    SupportedDtls13CipherSuite, SupportedKxGroup, TmpBuf, check_verify_scheme,
};
use dimpl::{CryptoError, CryptoOperation};
use ring::rand::{SecureRandom as _, SystemRandom};
use ring::signature::{
    ECDSA_P256_SHA256_ASN1, ECDSA_P256_SHA256_ASN1_SIGNING, ECDSA_P256_SHA384_ASN1, ECDSA_P384_SHA256_ASN1,
    ECDSA_P384_SHA384_ASN1, EcdsaKeyPair, UnparsedPublicKey, VerificationAlgorithm,
};
use ring::{aead, agreement, digest, hmac};

use super::certificate::{Curve, public_key};
use super::choice::restore;

/// What `dimpl` gets.
pub(super) fn provider() -> CryptoProvider {
    CryptoProvider {
        kx_groups: &[&Group::X25519, &Group::P256, &Group::P384],
        signature_verification: &Ring,
        key_provider: &Ring,
        secure_random: &Ring,
        hash_provider: &Ring,
        hmac_provider: &Ring,
        cipher_suites: &[&Suite::Aes128GcmSha256, &Suite::Aes256GcmSha384],
        // We speak 1.2 alone; dimpl wants one of these nevertheless.
        dtls13_cipher_suites: &[&Suite::Aes128GcmSha256],
    }
}

fn failed(operation: CryptoOperation) -> CryptoError {
    CryptoError::OperationFailed(operation)
}

#[derive(Debug)]
struct Ring;

impl SecureRandom for Ring {
    fn fill(&self, buf: &mut [u8]) -> Result<(), CryptoError> {
        SystemRandom::new().fill(buf).map_err(|_| failed(CryptoOperation::FillRandom))
    }
}

impl HmacProvider for Ring {
    fn hmac(
        &self,
        hash: HashAlgorithm,
        key: &[u8],
        data: &[u8],
        out: &mut [u8],
    ) -> Result<usize, CryptoError> {
        let algorithm = match hash {
            HashAlgorithm::SHA256 => hmac::HMAC_SHA256,
            HashAlgorithm::SHA384 => hmac::HMAC_SHA384,
            _ => return Err(CryptoError::UnsupportedHmacHash(hash)),
        };
        let tag = hmac::sign(&hmac::Key::new(algorithm, key), data);
        let tag = tag.as_ref();
        let place = out.get_mut(..tag.len()).ok_or(failed(CryptoOperation::ComputeHmac))?;
        place.copy_from_slice(tag);
        Ok(tag.len())
    }
}

struct Hash(digest::Context);

impl std::fmt::Debug for Hash {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Hash").finish_non_exhaustive()
    }
}

impl HashProvider for Ring {
    fn create_hash(&self, algorithm: HashAlgorithm) -> Box<dyn HashContext> {
        // The suites that we have know these two.
        let algorithm = if algorithm == HashAlgorithm::SHA384 { &digest::SHA384 } else { &digest::SHA256 };
        Box::new(Hash(digest::Context::new(algorithm)))
    }
}

impl HashContext for Hash {
    fn update(&mut self, data: &[u8]) {
        // Of the whole handshake, always at once.
        self.0.update(&restore(data));
    }

    fn clone_and_finalize(&self, out: &mut Buf) {
        out.clear();
        out.extend_from_slice(self.0.clone().finish().as_ref());
    }
}

#[derive(Debug)]
enum Suite {
    Aes128GcmSha256,
    Aes256GcmSha384,
}

impl SupportedDtls12CipherSuite for Suite {
    fn suite(&self) -> Dtls12CipherSuite {
        match self {
            Self::Aes128GcmSha256 => Dtls12CipherSuite::ECDHE_ECDSA_AES128_GCM_SHA256,
            Self::Aes256GcmSha384 => Dtls12CipherSuite::ECDHE_ECDSA_AES256_GCM_SHA384,
        }
    }

    fn hash_algorithm(&self) -> HashAlgorithm {
        match self {
            Self::Aes128GcmSha256 => HashAlgorithm::SHA256,
            Self::Aes256GcmSha384 => HashAlgorithm::SHA384,
        }
    }

    fn key_lengths(&self) -> (usize, usize, usize) {
        match self {
            Self::Aes128GcmSha256 => (0, 16, 4),
            Self::Aes256GcmSha384 => (0, 32, 4),
        }
    }

    fn explicit_nonce_len(&self) -> usize {
        8
    }

    fn tag_len(&self) -> usize {
        16
    }

    fn create_cipher(&self, key: &[u8]) -> Result<Box<dyn Cipher>, CryptoError> {
        let algorithm = match self {
            Self::Aes128GcmSha256 => &aead::AES_128_GCM,
            Self::Aes256GcmSha384 => &aead::AES_256_GCM,
        };
        let key = aead::UnboundKey::new(algorithm, key).map_err(|_| failed(CryptoOperation::CreateCipher))?;
        Ok(Box::new(Gcm(aead::LessSafeKey::new(key))))
    }
}

impl SupportedDtls13CipherSuite for Suite {
    fn suite(&self) -> Dtls13CipherSuite {
        match self {
            Self::Aes128GcmSha256 => Dtls13CipherSuite::AES_128_GCM_SHA256,
            Self::Aes256GcmSha384 => Dtls13CipherSuite::AES_256_GCM_SHA384,
        }
    }

    fn hash_algorithm(&self) -> HashAlgorithm {
        SupportedDtls12CipherSuite::hash_algorithm(self)
    }

    fn key_len(&self) -> usize {
        self.key_lengths().1
    }

    fn iv_len(&self) -> usize {
        12
    }

    fn tag_len(&self) -> usize {
        16
    }

    fn create_cipher(&self, key: &[u8]) -> Result<Box<dyn Cipher>, CryptoError> {
        SupportedDtls12CipherSuite::create_cipher(self, key)
    }

    fn encrypt_sn(&self, sn_key: &[u8], sample: &[u8; 16]) -> [u8; 16] {
        let mut block = Array(*sample);
        if let Ok(aes) = Aes128::new_from_slice(sn_key) {
            aes.encrypt_block(&mut block);
        } else if let Ok(aes) = Aes256::new_from_slice(sn_key) {
            aes.encrypt_block(&mut block);
        }
        block.0
    }
}

#[derive(Debug)]
struct Gcm(aead::LessSafeKey);

impl Cipher for Gcm {
    fn encrypt(&mut self, plaintext: &mut Buf, aad: Aad, nonce: Nonce) -> Result<(), CryptoError> {
        let nonce = aead::Nonce::assume_unique_for_key(nonce.0);
        self.0
            .seal_in_place_append_tag(nonce, aead::Aad::from(&*aad), plaintext)
            .map_err(|_| failed(CryptoOperation::Encrypt))
    }

    fn decrypt(&mut self, ciphertext: &mut TmpBuf<'_>, aad: Aad, nonce: Nonce) -> Result<(), CryptoError> {
        let nonce = aead::Nonce::assume_unique_for_key(nonce.0);
        let length = self
            .0
            .open_in_place(nonce, aead::Aad::from(&*aad), ciphertext.as_mut())
            .map_err(|_| failed(CryptoOperation::Decrypt))?
            .len();
        ciphertext.truncate(length);
        Ok(())
    }
}

#[derive(Debug, Clone, Copy)]
enum Group {
    X25519,
    P256,
    P384,
}

impl Group {
    fn algorithm(self) -> &'static agreement::Algorithm {
        match self {
            Self::X25519 => &agreement::X25519,
            Self::P256 => &agreement::ECDH_P256,
            Self::P384 => &agreement::ECDH_P384,
        }
    }
}

impl SupportedKxGroup for Group {
    fn name(&self) -> NamedGroup {
        match self {
            Self::X25519 => NamedGroup::X25519,
            Self::P256 => NamedGroup::Secp256r1,
            Self::P384 => NamedGroup::Secp384r1,
        }
    }

    fn start_exchange(&self, mut buf: Buf) -> Result<Box<dyn ActiveKeyExchange>, CryptoError> {
        let private = agreement::EphemeralPrivateKey::generate(self.algorithm(), &SystemRandom::new())
            .map_err(|_| failed(CryptoOperation::GenerateEphemeralKey))?;
        let public = private.compute_public_key().map_err(|_| failed(CryptoOperation::ComputePublicKey))?;
        buf.clear();
        buf.extend_from_slice(public.as_ref());
        Ok(Box::new(Exchange { group: *self, private, public: buf }))
    }
}

#[derive(Debug)]
struct Exchange {
    group: Group,
    private: agreement::EphemeralPrivateKey,
    public: Buf,
}

impl ActiveKeyExchange for Exchange {
    fn pub_key(&self) -> &[u8] {
        &self.public
    }

    fn complete(self: Box<Self>, peer_pub: &[u8], out: &mut Buf) -> Result<(), CryptoError> {
        let peer = agreement::UnparsedPublicKey::new(self.group.algorithm(), peer_pub);
        agreement::agree_ephemeral(self.private, &peer, |secret| {
            out.clear();
            out.extend_from_slice(secret);
        })
        .map_err(|_| failed(CryptoOperation::CompleteKeyExchange))
    }

    fn group(&self) -> NamedGroup {
        self.group.name()
    }
}

#[derive(Debug)]
struct PrivateKey(EcdsaKeyPair);

impl KeyProvider for Ring {
    fn load_private_key(&self, key_der: &[u8]) -> Result<Box<dyn SigningKey>, CryptoError> {
        let key = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, key_der, &SystemRandom::new())
            .map_err(|_| CryptoError::InvalidPrivateKey)?;
        Ok(Box::new(PrivateKey(key)))
    }
}

impl SigningKey for PrivateKey {
    fn sign(&mut self, data: &[u8], hash_alg: HashAlgorithm, out: &mut Buf) -> Result<(), CryptoError> {
        if hash_alg != HashAlgorithm::SHA256 {
            return Err(failed(CryptoOperation::Sign));
        }
        let signature = self.0.sign(&SystemRandom::new(), data).map_err(|_| failed(CryptoOperation::Sign))?;
        out.clear();
        out.extend_from_slice(signature.as_ref());
        Ok(())
    }

    fn algorithm(&self) -> SignatureAlgorithm {
        SignatureAlgorithm::ECDSA
    }

    fn hash_algorithm(&self) -> HashAlgorithm {
        HashAlgorithm::SHA256
    }

    fn supported_hash_algorithms(&self) -> &[HashAlgorithm] {
        &[HashAlgorithm::SHA256]
    }
}

impl SignatureVerifier for Ring {
    fn verify_signature(
        &self,
        cert_der: &[u8],
        data: &[u8],
        signature: &[u8],
        hash_alg: HashAlgorithm,
        sig_alg: SignatureAlgorithm,
    ) -> Result<(), CryptoError> {
        let (curve, point) = public_key(cert_der).ok_or(CryptoError::UnsupportedPublicKeyAlgorithm)?;
        let group = match curve {
            Curve::P256 => NamedGroup::Secp256r1,
            Curve::P384 => NamedGroup::Secp384r1,
        };
        check_verify_scheme(sig_alg, hash_alg, group)?;
        let algorithm: &dyn VerificationAlgorithm = match (curve, hash_alg == HashAlgorithm::SHA384) {
            (Curve::P256, false) => &ECDSA_P256_SHA256_ASN1,
            (Curve::P256, true) => &ECDSA_P256_SHA384_ASN1,
            (Curve::P384, false) => &ECDSA_P384_SHA256_ASN1,
            (Curve::P384, true) => &ECDSA_P384_SHA384_ASN1,
        };
        UnparsedPublicKey::new(algorithm, point)
            .verify(&restore(data), signature)
            .map_err(|_| failed(CryptoOperation::VerifySignature))
    }
}
