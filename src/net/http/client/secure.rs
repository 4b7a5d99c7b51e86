//! TLS to servers, always verified.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName};
use tokio_rustls::rustls::{CertificateError, ClientConfig, Error, RootCertStore};

use super::{ClientError, Url};

/// Who may vouch for servers.
pub(super) struct Trust(Mutex<State>);

struct State {
    ca: Option<PathBuf>,
    /// Read when first needed.
    config: Option<Arc<ClientConfig>>,
}

impl Trust {
    pub(super) fn new(ca: Option<PathBuf>) -> Self {
        Self(Mutex::new(State { ca, config: None }))
    }

    pub(super) fn set(&self, ca: Option<PathBuf>) {
        *self.lock() = State { ca, config: None };
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) async fn connect(
        &self,
        url: &Url,
        socket: TcpStream,
    ) -> Result<TlsStream<TcpStream>, ClientError> {
        let failed = |source| ClientError::Tls { server: url.server(), source };
        let name = ServerName::try_from(url.host().to_owned()).map_err(|e| failed(io::Error::other(e)))?;
        let connector = TlsConnector::from(self.config().await?);
        connector.connect(name, socket).await.map_err(failed)
    }

    async fn config(&self) -> Result<Arc<ClientConfig>, ClientError> {
        let (known, ca) = {
            let state = self.lock();
            (state.config.clone(), state.ca.clone())
        };
        if let Some(config) = known {
            return Ok(config);
        }
        let file = ca.clone();
        // Hundreds of certificates from a disk that may be slow.
        let read = tokio::task::spawn_blocking(move || read(file.as_deref())).await;
        let config = read.map_err(|error| ClientError::Trust(error.to_string()))??;
        let mut state = self.lock();
        if state.ca == ca {
            state.config = Some(Arc::clone(&config));
        }
        Ok(config)
    }
}

/// What the system trusts, and the certificates in `ca`.
fn read(ca: Option<&Path>) -> Result<Arc<ClientConfig>, ClientError> {
    let mut roots = RootCertStore::empty();
    // A box may have none; what of them is malformed helps nobody.
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if let Some(file) = ca {
        let wrong = |why: String| ClientError::Trust(format!("tls.ca: {}: {why}", file.display()));
        let certificates = CertificateDer::pem_file_iter(file)
            .and_then(Iterator::collect::<Result<Vec<_>, _>>)
            .map_err(|error| wrong(format!("cannot be read: {error}")))?;
        if certificates.is_empty() {
            return Err(wrong("holds no certificate in PEM form".to_owned()));
        }
        for certificate in certificates {
            roots.add(certificate).map_err(|error| wrong(format!("no usable certificate: {error}")))?;
        }
    }
    if roots.is_empty() {
        let text = "the system has no certificates of those who vouch for servers: install ca-certificates, or set tls.ca";
        return Err(ClientError::Trust(text.to_owned()));
    }
    let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|error| ClientError::Trust(format!("cannot set up TLS: {error}")))?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(Arc::new(config))
}

/// What to do about a failed handshake, where that is known.
pub(super) fn advice(error: &io::Error) -> &'static str {
    let error = error.get_ref().and_then(|error| error.downcast_ref::<Error>());
    match error {
        // The second: an issuer of the same name is known, with another key.
        Some(Error::InvalidCertificate(CertificateError::UnknownIssuer | CertificateError::BadSignature)) => {
            " (put the certificate of who issued it into the file that tls.ca names)"
        }
        Some(Error::InvalidCertificate(
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
        )) => " (its certificate is for another name than the URL has)",
        Some(Error::InvalidCertificate(
            CertificateError::Expired | CertificateError::ExpiredContext { .. },
        )) => " (renew its certificate, or set the clock)",
        _ => "",
    }
}
