//! DTLS 1.2 of one peer, from which the keys of SRTP come (RFC 5764). The protocol is `dimpl`'s; here are its cryptography
//! (`provider`, by ring), certificates, and what WebRTC asks of it: the peer's certificate is the one that its description names.

use std::sync::Arc;
use std::time::{Duration, Instant};

use dimpl::{CertificateError, CryptoError, CryptoOperation, Error, Output, SecurityError, SrtpProfile};

use super::srtp::{Keys, Profile};

mod certificate;
mod choice;
mod provider;

pub(in crate::webrtc) use choice::Preference;

pub use certificate::{Certificate, Fingerprint};

/// A flight is sent again after this, then after twice as long.
const RETRANSMIT: Duration = Duration::from_millis(500);
const RETRIES: usize = 6;
/// The whole handshake.
const HANDSHAKE: Duration = Duration::from_secs(30);
/// Datagrams of a handshake, so that they pass everywhere.
const MTU: usize = 1150;
/// Room for what dimpl gives out; it asks for more where that isn't enough, up to this.
const OUTPUT: usize = 2048;
const MAX_OUTPUT: usize = 32 << 10;
/// The alert of who finds nothing that both sides can do (RFC 5246, section 7.2.2).
const HANDSHAKE_FAILURE: u8 = 40;

/// What we do in a handshake (`a=setup`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// We begin: `a=setup:active` in our answer.
    Client,
    /// The peer begins: `a=setup:passive` in our answer.
    Server,
}

/// Why a DTLS session is over before it began.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DtlsError {
    /// There is no certificate of ours.
    #[error("no certificate for WebRTC can be made: the system gives no random numbers")]
    Certificate,
    /// The peer's certificate is not the one that its description names.
    #[error("the peer's certificate has not the fingerprint that its description tells")]
    Fingerprint,
    /// The handshake failed.
    #[error("DTLS: {0}")]
    Handshake(String),
    /// The peer has no certificate of a kind that is known here.
    #[error(
        "DTLS: the peer showed no certificate with an ECDSA key on P-256 or P-384: one of RSA, as GStreamer's webrtcbin makes, \
         is not taken here"
    )]
    Key,
    /// The sides have no SRTP profile in common.
    #[error("the peer offers no SRTP profile that is known here")]
    Profile,
}

/// What happened.
#[derive(Debug)]
pub enum DtlsEvent {
    /// The peer closed the session.
    Closed,
    /// The handshake is done: these protect media.
    Keys(Keys),
}

/// How handshakes go, shared by all of an endpoint's.
#[derive(Clone)]
pub struct DtlsConfig {
    certificate: Certificate,
    config: Arc<dimpl::Config>,
    preference: Preference,
}

impl std::fmt::Debug for DtlsConfig {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("DtlsConfig").field("certificate", &self.certificate).finish_non_exhaustive()
    }
}

impl DtlsConfig {
    /// With this certificate.
    ///
    /// # Errors
    /// [`DtlsError::Handshake`]: a cipher does not do here what it must.
    pub fn new(certificate: Certificate) -> Result<Self, DtlsError> {
        let config = dimpl::Config::builder()
            .with_crypto_provider(provider::provider())
            .mtu(MTU)
            .flight_start_rto(RETRANSMIT)
            .flight_retries(RETRIES)
            .handshake_timeout(HANDSHAKE)
            // ICE has shown who the peer is, so that a cookie would only cost a round trip.
            .use_server_cookie(false)
            .build()
            .map_err(|e| DtlsError::Handshake(e.to_string()))?;
        Ok(Self { certificate, config: Arc::new(config), preference: Preference::of_processor() })
    }

    #[cfg(test)]
    pub(super) fn preferring(self, preference: Preference) -> Self {
        Self { preference, ..self }
    }

    /// Our certificate.
    #[must_use]
    pub fn certificate(&self) -> &Certificate {
        &self.certificate
    }
}

/// One session.
pub struct Dtls {
    dtls: dimpl::Dtls,
    role: Role,
    preference: Preference,
    fingerprint: Fingerprint,
    verified: bool,
    keys: Option<Keys>,
    connected: bool,
    /// The keys were told.
    given: bool,
    deadline: Option<Instant>,
    doubt: Option<DtlsError>,
}

impl std::fmt::Debug for Dtls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Dtls").field("connected", &self.connected).finish_non_exhaustive()
    }
}

impl Dtls {
    /// A session with the peer whose certificate has this fingerprint.
    #[must_use]
    pub fn new(config: &DtlsConfig, role: Role, fingerprint: Fingerprint, now: Instant) -> Self {
        let mut dtls = dimpl::Dtls::new_12(config.config.clone(), config.certificate.for_dtls(), now);
        dtls.set_active(role == Role::Client);
        let preference = config.preference;
        Self {
            dtls,
            role,
            preference,
            fingerprint,
            verified: false,
            keys: None,
            connected: false,
            given: false,
            deadline: None,
            doubt: None,
        }
    }

    /// Takes a datagram, if one came, and whatever time it is. What is to be sent goes into `out`.
    ///
    /// # Errors
    /// [`DtlsError`]: it is over, and can only be dropped.
    pub fn input(
        &mut self,
        datagram: Option<&[u8]>,
        now: Instant,
        out: &mut Vec<Vec<u8>>,
    ) -> Result<Option<DtlsEvent>, DtlsError> {
        self.dtls
            .handle_timeout(now)
            .map_err(|e| self.doubt.take().unwrap_or_else(|| failed(&e, self.role)))?;
        let first = self.poll(out)?;
        let Some(datagram) = datagram else { return Ok(first) };
        let datagram = match self.role {
            Role::Server if !self.connected => choice::hide(datagram, self.preference),
            _ => datagram.into(),
        };
        match self.dtls.handle_packet(&datagram) {
            // dimpl has dropped the datagram, and is where it was.
            Err(e) if !self.connected && can_be_forged(&e) => {
                self.doubt.get_or_insert_with(|| failed(&e, self.role));
            }
            result => result.map_err(|e| failed(&e, self.role))?,
        }
        let second = self.poll(out)?;
        Ok(second.or(first))
    }

    fn poll(&mut self, out: &mut Vec<Vec<u8>>) -> Result<Option<DtlsEvent>, DtlsError> {
        let mut event = None;
        let mut small = [0; OUTPUT];
        let mut large = Vec::new();
        loop {
            let room = if large.is_empty() { &mut small[..] } else { &mut large[..] };
            match self.dtls.poll_output(room) {
                Output::Packet(packet) => out.push(packet.to_vec()),
                Output::BufferTooSmall { needed } if needed <= MAX_OUTPUT => large.resize(needed, 0),
                Output::BufferTooSmall { needed } => {
                    return Err(DtlsError::Handshake(format!("a message of {needed} bytes")));
                }
                Output::Timeout(at) => {
                    self.deadline = Some(at);
                    break;
                }
                Output::Connected => self.connected = true,
                Output::PeerCert(der) => {
                    if !self.fingerprint.matches(der) {
                        return Err(DtlsError::Fingerprint);
                    }
                    if certificate::public_key(der).is_none() {
                        return Err(DtlsError::Key);
                    }
                    self.verified = true;
                }
                Output::KeyingMaterial(bytes, profile) => {
                    let profile = match profile {
                        SrtpProfile::AES128_CM_SHA1_80 => Profile::Aes128CmSha1_80,
                        SrtpProfile::AEAD_AES_128_GCM => Profile::Aes128Gcm,
                        SrtpProfile::AEAD_AES_256_GCM => Profile::Aes256Gcm,
                        _ => return Err(DtlsError::Profile),
                    };
                    self.keys = Some(Keys::from_exported(profile, &bytes).map_err(|_| DtlsError::Profile)?);
                }
                Output::CloseNotify => event = Some(DtlsEvent::Closed),
                // Nobody of ours has data channels.
                _ => {}
            }
        }
        if self.connected && !self.given {
            if !self.verified {
                return Err(DtlsError::Fingerprint);
            }
            let keys = self.keys.take().ok_or(DtlsError::Profile)?;
            self.given = true;
            event = event.or(Some(DtlsEvent::Keys(keys)));
        }
        Ok(event)
    }

    /// When to call [`input`](Self::input) without a datagram. Once connected that is never urgent.
    #[must_use]
    pub fn deadline(&self) -> Option<Instant> {
        self.deadline
    }

    /// What somebody says against the handshake, the peer or not: the reason, if it comes to nothing.
    #[must_use]
    pub fn doubt(&self) -> Option<&DtlsError> {
        self.doubt.as_ref()
    }

    /// The handshake is done.
    #[must_use]
    pub fn is_connected(&self) -> bool {
        self.connected
    }

    /// Tells the peer that it is over.
    pub fn close(&mut self, out: &mut Vec<Vec<u8>>) {
        // Who has no keys yet gets no word.
        if self.dtls.close().is_ok() {
            let _ = self.poll(out);
        }
    }
}

/// Before there are keys anybody can write an alert in the peer's name, or what can't be decrypted: that ends nothing.
fn can_be_forged(error: &Error) -> bool {
    matches!(
        error,
        Error::SecurityError(SecurityError::FatalAlert { .. })
            | Error::CryptoError(CryptoError::OperationFailed(CryptoOperation::Decrypt))
    )
}

fn failed(error: &Error, role: Role) -> DtlsError {
    match error {
        // Who has a key of another kind shows nothing when it is asked for one of ours, and finds no cipher for us when we begin.
        Error::CertificateError(CertificateError::NoClientCertificateReceived)
        | Error::CryptoError(CryptoError::UnsupportedPublicKeyAlgorithm) => DtlsError::Key,
        Error::SecurityError(SecurityError::FatalAlert { description: HANDSHAKE_FAILURE })
            if role == Role::Client =>
        {
            DtlsError::Key
        }
        error => DtlsError::Handshake(error.to_string()),
    }
}

#[cfg(test)]
#[path = "dtls/tests.rs"]
mod tests;
