//! The bytes between a client and a server.
//!
//! Owns: opening a connection, plain or by TLS, and whom a client believes.
//! Must not know: what is said over it.
//! Invariants: over `https` nothing is said before the server has shown a certificate for the host of its address, by an
//! authority that is believed; there is no way to do without.

use crate::address::ServerUrl;
use crate::http1::TransportError;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use std::fmt;
use std::io;
use std::sync::{Arc, LazyLock};
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_util::either::Either;

/// Authorities that can't be believed as they are.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not certificates of authorities: {0}")]
pub struct InvalidTrust(String);

/// Which authorities' word counts when a server says who it is.
#[derive(Clone, Default)]
pub enum Trust {
    /// Those of the operating system.
    #[default]
    Platform,
    /// These alone.
    Only(Arc<ClientConfig>),
}

impl fmt::Debug for Trust {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Platform => "Platform",
            Self::Only(_) => "Only",
        })
    }
}

impl PartialEq for Trust {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Platform, Self::Platform) => true,
            (Self::Only(one), Self::Only(other)) => Arc::ptr_eq(one, other),
            _ => false,
        }
    }
}

impl Eq for Trust {}

impl Trust {
    /// Believes these authorities alone: one or more certificates in PEM (RFC 7468).
    ///
    /// # Errors
    /// [`InvalidTrust`] when there is none, or one is no certificate.
    pub fn only(pem: &[u8]) -> Result<Self, InvalidTrust> {
        let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
        let certificates = certificates.map_err(|error| InvalidTrust(error.to_string()))?;
        let mut roots = RootCertStore::empty();
        for certificate in certificates {
            roots.add(certificate).map_err(|error| InvalidTrust(error.to_string()))?;
        }
        if roots.is_empty() {
            return Err(InvalidTrust("there is none".into()));
        }
        config(roots).map(Self::Only).map_err(InvalidTrust)
    }

    fn config(&self) -> Result<Arc<ClientConfig>, String> {
        static PLATFORM: LazyLock<Result<Arc<ClientConfig>, String>> = LazyLock::new(|| {
            let mut roots = RootCertStore::empty();
            roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
            if roots.is_empty() {
                return Err("the system has no authorities to believe; name one with a CA file".into());
            }
            config(roots)
        });
        match self {
            Self::Platform => PLATFORM.clone(),
            Self::Only(config) => Ok(Arc::clone(config)),
        }
    }
}

fn config(roots: RootCertStore) -> Result<Arc<ClientConfig>, String> {
    let builder = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()));
    let builder = builder.with_safe_default_protocol_versions().map_err(|error| error.to_string())?;
    Ok(Arc::new(builder.with_root_certificates(roots).with_no_client_auth()))
}

/// A connection, as it is or encrypted.
pub(crate) type Wire = Either<TcpStream, Box<TlsStream<TcpStream>>>;

/// Connects within `limit`.
///
/// # Errors
/// [`TransportError::NotSent`].
pub(crate) async fn open(server: &ServerUrl, limit: Duration) -> Result<Wire, TransportError> {
    let late = |_| TransportError::NotSent(format!("no connection within {} s", limit.as_secs_f32()));
    timeout(limit, dial(server)).await.map_err(late)?
}

async fn dial(server: &ServerUrl) -> Result<Wire, TransportError> {
    let not_sent = |e: io::Error| TransportError::NotSent(e.to_string());
    let stream = TcpStream::connect(server.authority()).await.map_err(not_sent)?;
    // Without Nagle's delay.
    stream.set_nodelay(true).map_err(not_sent)?;
    let Some(trust) = server.trust() else { return Ok(Wire::Left(stream)) };
    let config = trust.config().map_err(TransportError::NotSent)?;
    let name = ServerName::try_from(server.host().to_owned()).map_err(|e| TransportError::NotSent(e.to_string()))?;
    let stream = TlsConnector::from(config).connect(name, stream).await;
    stream.map(|stream| Wire::Right(Box::new(stream))).map_err(|e| TransportError::NotSent(format!("TLS: {e}")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use rcgen::{CertifiedKey, generate_simple_self_signed};
    use rustls::ServerConfig;
    use rustls::pki_types::PrivatePkcs8KeyDer;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;
    use tokio_rustls::TlsAcceptor;

    const LIMIT: Duration = Duration::from_secs(10);

    /// A server that answers every connection with a word; its address and its certificate in PEM.
    async fn server(name: &str) -> (u16, String) {
        let CertifiedKey { cert, signing_key } = generate_simple_self_signed(vec![name.to_owned()]).unwrap();
        let key = PrivatePkcs8KeyDer::from(signing_key.serialize_der());
        let config = ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()));
        let config = config.with_safe_default_protocol_versions().unwrap().with_no_client_auth();
        let config = config.with_single_cert(vec![cert.der().clone()], key.into()).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        tokio::spawn(async move {
            let acceptor = TlsAcceptor::from(Arc::new(config));
            while let Ok((stream, _)) = listener.accept().await {
                let acceptor = acceptor.clone();
                tokio::spawn(async move {
                    if let Ok(mut stream) = acceptor.accept(stream).await {
                        let _ = stream.write_all(b"well").await;
                        let _ = stream.shutdown().await;
                    }
                });
            }
        });
        (port, cert.pem())
    }

    fn url(port: u16) -> ServerUrl {
        format!("https://127.0.0.1:{port}").parse().unwrap()
    }

    #[tokio::test]
    async fn a_server_is_believed_by_its_authority_and_for_its_own_name_alone() {
        let (port, pem) = server("127.0.0.1").await;
        let trust = Trust::only(pem.as_bytes()).unwrap();
        let mut wire = open(&url(port).trusting(&trust), LIMIT).await.unwrap();
        let mut said = String::new();
        wire.read_to_string(&mut said).await.unwrap();
        assert_eq!(said, "well");
        let (other, other_pem) = server("elsewhere.example").await;
        let name = open(&url(other).trusting(&Trust::only(other_pem.as_bytes()).unwrap()), LIMIT).await;
        let authority = open(&url(other).trusting(&trust), LIMIT).await;
        let platform = open(&url(port), LIMIT).await;
        for refused in [name, authority, platform] {
            assert!(matches!(refused, Err(TransportError::NotSent(_))), "{refused:?}");
        }
    }

    #[test]
    fn what_is_no_authority_is_refused() {
        for pem in ["", "text", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"] {
            assert!(Trust::only(pem.as_bytes()).is_err(), "{pem:?}");
        }
    }
}
