//! TLS 1.2 and 1.3 on accepted connections (feature `tls`).

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use tokio::net::TcpStream;
use tokio_rustls::rustls::crypto::{CryptoProvider, ring};
use tokio_rustls::rustls::pki_types::pem::{self, PemObject};
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::server::{ClientHello, ResolvesServerCert};
use tokio_rustls::rustls::sign::CertifiedKey;
use tokio_rustls::rustls::{self, ServerConfig};

use super::NetError;

/// An encrypted connection that a client opened to us.
pub type TlsStream = tokio_rustls::server::TlsStream<TcpStream>;

/// A certificate chain with its key, from two PEM files. Clones are one certificate: after
/// [`reload`](Self::reload) every acceptor that has a clone uses the new one.
#[derive(Clone)]
pub struct Certificate(Arc<Resolver>);

struct Resolver {
    cert_file: PathBuf,
    key_file: PathBuf,
    current: RwLock<Arc<CertifiedKey>>,
}

impl Certificate {
    /// Reads the chain (the server's certificate first) and the key (PKCS#8, PKCS#1 or SEC1).
    ///
    /// # Errors
    /// [`NetError::Certificate`] with the file's name when one can't be read, holds no certificate or key, or
    /// when the two do not belong together.
    pub fn load(cert_file: &Path, key_file: &Path) -> Result<Self, NetError> {
        let current = RwLock::new(Arc::new(read_pair(cert_file, key_file)?));
        Ok(Self(Arc::new(Resolver { cert_file: cert_file.into(), key_file: key_file.into(), current })))
    }

    /// Reads both files again. Connections that are open keep what they have.
    ///
    /// # Errors
    /// As [`load`](Self::load); the certificate that was in use then stays in use.
    pub fn reload(&self) -> Result<(), NetError> {
        let pair = Arc::new(read_pair(&self.0.cert_file, &self.0.key_file)?);
        *self.0.current.write().unwrap_or_else(PoisonError::into_inner) = pair;
        Ok(())
    }

    /// Takes over what `newer` has, also for all clones.
    pub fn replace(&self, newer: &Self) {
        let pair = Arc::clone(&newer.0.current.read().unwrap_or_else(PoisonError::into_inner));
        *self.0.current.write().unwrap_or_else(PoisonError::into_inner) = pair;
    }
}

impl fmt::Debug for Certificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Certificate({})", self.0.cert_file.display())
    }
}

impl fmt::Debug for Resolver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Resolver")
    }
}

impl ResolvesServerCert for Resolver {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.current.read().unwrap_or_else(PoisonError::into_inner).clone())
    }
}

/// Does the server's side of TLS handshakes.
#[derive(Clone)]
pub struct TlsAcceptor {
    config: Arc<ServerConfig>,
    timeout: Duration,
}

impl TlsAcceptor {
    /// An acceptor that shows `certificate`. `alpn`: the protocols offered in the handshake,
    /// none for RTMPS. `timeout`: how long a handshake may take.
    ///
    /// # Errors
    /// [`NetError::Tls`] when the crypto library refuses its own defaults.
    pub fn new(certificate: &Certificate, alpn: &[&[u8]], timeout: Duration) -> Result<Self, NetError> {
        let mut config = ServerConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .map_err(|source| NetError::Tls { source })?
            .with_no_client_auth()
            .with_cert_resolver(Arc::clone(&certificate.0) as _);
        config.alpn_protocols = alpn.iter().map(|name| name.to_vec()).collect();
        Ok(Self { config: Arc::new(config), timeout })
    }

    /// Shakes hands.
    ///
    /// # Errors
    /// [`NetError::Handshake`] when the peer speaks something else, refuses the certificate, or is too slow.
    pub async fn accept(&self, stream: TcpStream) -> Result<TlsStream, NetError> {
        let handshake = tokio_rustls::TlsAcceptor::from(Arc::clone(&self.config)).accept(stream);
        match tokio::time::timeout(self.timeout, handshake).await {
            Ok(Ok(stream)) => Ok(stream),
            Ok(Err(source)) => Err(NetError::Handshake { source }),
            Err(_) => Err(NetError::Handshake {
                source: io::Error::new(io::ErrorKind::TimedOut, format!("not done after {:?}", self.timeout)),
            }),
        }
    }
}

impl fmt::Debug for TlsAcceptor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TlsAcceptor(timeout {:?})", self.timeout)
    }
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(ring::default_provider())
}

fn read_pair(cert_file: &Path, key_file: &Path) -> Result<CertifiedKey, NetError> {
    let pem_error = |file: &Path, what: &str, error: pem::Error| {
        let why = match error {
            pem::Error::Io(io) => format!("cannot be read: {io}"),
            pem::Error::NoItemsFound => format!("holds no {what} in PEM form"),
            other => format!("is no PEM file: {other}"),
        };
        NetError::Certificate { file: file.into(), why }
    };
    let chain = CertificateDer::pem_file_iter(cert_file)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(|e| pem_error(cert_file, "certificate", e))?;
    if chain.is_empty() {
        return Err(pem_error(cert_file, "certificate", pem::Error::NoItemsFound));
    }
    let key = PrivateKeyDer::from_pem_file(key_file).map_err(|e| pem_error(key_file, "private key", e))?;
    let wrong_key = |why| NetError::Certificate { file: key_file.into(), why };
    let key = provider().key_provider.load_private_key(key);
    let key = key.map_err(|error| wrong_key(format!("holds no usable private key: {error}")))?;
    let pair = CertifiedKey::new(chain, key);
    match pair.keys_match() {
        Ok(()) | Err(rustls::Error::InconsistentKeys(rustls::InconsistentKeys::Unknown)) => {}
        Err(rustls::Error::InconsistentKeys(_)) => {
            return Err(wrong_key(format!("is not the key of the certificate in {}", cert_file.display())));
        }
        Err(error) if is_of_version_1(&error) => {
            // As SRS has one, and old guides tell to make: who does not verify it takes it.
            let name = cert_file.display();
            log::warn!(
                "the certificate in {name} is of X.509 version 1: clients that verify refuse it, and whether \
                 the key belongs to it is not known; make another (openssl req -x509)"
            );
        }
        Err(error) => {
            let why = format!("does not work with the certificate in {}: {error}", cert_file.display());
            return Err(wrong_key(why));
        }
    }
    Ok(pair)
}

fn is_of_version_1(error: &rustls::Error) -> bool {
    let rustls::Error::InvalidCertificate(rustls::CertificateError::Other(other)) = error else {
        return false;
    };
    other.to_string().contains("UnsupportedCertVersion")
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    struct Files {
        dir: PathBuf,
        ca: CertificateDer<'static>,
    }

    impl Files {
        fn new(name: &str) -> Self {
            let dir = std::env::temp_dir().join(format!("rillbox-tls-{name}-{}", std::process::id()));
            std::fs::create_dir_all(&dir).unwrap();
            let mut files = Self { dir, ca: CertificateDer::from(Vec::new()) };
            files.write("cert.pem", "key.pem");
            files
        }

        fn write(&mut self, cert: &str, key: &str) {
            let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
            std::fs::write(self.path(cert), made.cert.pem()).unwrap();
            std::fs::write(self.path(key), made.signing_key.serialize_pem()).unwrap();
            self.ca = made.cert.der().clone();
        }

        fn path(&self, name: &str) -> PathBuf {
            self.dir.join(name)
        }

        fn client(&self) -> tokio_rustls::TlsConnector {
            let mut roots = rustls::RootCertStore::empty();
            roots.add(self.ca.clone()).unwrap();
            let config = rustls::ClientConfig::builder_with_provider(provider())
                .with_safe_default_protocol_versions()
                .unwrap()
                .with_root_certificates(roots)
                .with_no_client_auth();
            Arc::new(config).into()
        }
    }

    impl Drop for Files {
        fn drop(&mut self) {
            let _ = std::fs::remove_dir_all(&self.dir);
        }
    }

    async fn talk(files: &Files, acceptor: &TlsAcceptor) -> io::Result<()> {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let client = async {
            let socket = TcpStream::connect(addr).await.unwrap();
            let mut stream = files.client().connect("localhost".try_into().unwrap(), socket).await?;
            let mut text = [0; 5];
            stream.read_exact(&mut text).await?;
            assert_eq!(&text, b"hello");
            Ok(())
        };
        let server = async {
            let mut stream =
                acceptor.accept(listener.accept().await.unwrap().0).await.map_err(io::Error::other)?;
            stream.write_all(b"hello").await
        };
        tokio::try_join!(client, server).map(|_| ())
    }

    #[tokio::test]
    async fn shakes_hands_and_reloads() {
        let mut files = Files::new("reload");
        let certificate = Certificate::load(&files.path("cert.pem"), &files.path("key.pem")).unwrap();
        let acceptor = TlsAcceptor::new(&certificate, &[], Duration::from_secs(5)).unwrap();
        talk(&files, &acceptor).await.unwrap();
        files.write("cert.pem", "key.pem");
        assert!(talk(&files, &acceptor).await.is_err(), "the client knows only the new certificate");
        certificate.reload().unwrap();
        talk(&files, &acceptor).await.unwrap();
        std::fs::write(files.path("key.pem"), "garbage").unwrap();
        certificate.reload().unwrap_err();
        talk(&files, &acceptor).await.unwrap();
    }

    #[test]
    fn wrong_files_are_told_clearly() {
        let mut files = Files::new("wrong");
        let load = |cert: &str, key: &str| {
            let loaded = Certificate::load(&files.path(cert), &files.path(key));
            loaded.unwrap_err().to_string()
        };
        assert!(load("none.pem", "key.pem").contains("none.pem cannot be read"));
        assert!(load("key.pem", "key.pem").contains("key.pem holds no certificate"));
        assert!(load("cert.pem", "cert.pem").contains("cert.pem holds no private key"));
        files.write("other.pem", "other-key.pem");
        let error = Certificate::load(&files.path("cert.pem"), &files.path("other-key.pem")).unwrap_err();
        assert!(error.to_string().contains("other-key.pem is not the key of the certificate"), "{error}");
    }

    #[tokio::test]
    async fn a_silent_peer_is_given_up() {
        let files = Files::new("silent");
        let certificate = Certificate::load(&files.path("cert.pem"), &files.path("key.pem")).unwrap();
        let acceptor = TlsAcceptor::new(&certificate, &[b"http/1.1"], Duration::from_millis(50)).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let _client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let error = acceptor.accept(listener.accept().await.unwrap().0).await.unwrap_err();
        assert!(matches!(error, NetError::Handshake { .. }));
    }
}
