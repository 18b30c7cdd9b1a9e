//! What a listener shows.
//!
//! Owns: the certificate that those who connect are shown, and putting another in its place.
//! Must not know: who connects, what is served.
//! Invariants: a connection that is not agreed on within its time is given up.

use super::pem::{self, Certified, TlsFileError};
use crate::config::CertifiedFiles;
use arc_swap::ArcSwap;
use rustls::ServerConfig;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

/// What is agreed on within TLS (RFC 7301).
const ALPN: [&[u8]; 2] = [b"h2", b"http/1.1"];
/// How long agreeing may take.
const HANDSHAKE_WITHIN: Duration = Duration::from_secs(10);

/// TLS of a listener; clones share what is replaced.
#[derive(Clone)]
pub struct ListenerTls(Arc<ArcSwap<ServerConfig>>);

impl std::fmt::Debug for ListenerTls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ListenerTls").finish_non_exhaustive()
    }
}

/// A certificate that was read and found good, to be shown from now on.
pub struct Fresh(Arc<ServerConfig>);

impl Fresh {
    /// Reads a certificate and its key.
    ///
    /// # Errors
    /// [`TlsFileError`].
    pub fn read(files: &CertifiedFiles) -> Result<Self, TlsFileError> {
        Ok(Self(Arc::new(config(&files.cert, pem::certified(files)?)?)))
    }
}

fn config(path: &Path, (chain, key): Certified) -> Result<ServerConfig, TlsFileError> {
    let unusable = |error: rustls::Error| TlsFileError::Unusable { path: path.to_owned(), reason: error.to_string() };
    let builder = ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()));
    let builder = builder.with_safe_default_protocol_versions().map_err(unusable)?.with_no_client_auth();
    let mut config = builder.with_single_cert(chain, key).map_err(unusable)?;
    config.alpn_protocols = ALPN.map(<[u8]>::to_vec).to_vec();
    Ok(config)
}

impl ListenerTls {
    /// Shows this from now on.
    #[must_use]
    pub fn new(fresh: &Fresh) -> Self {
        Self(Arc::new(ArcSwap::new(Arc::clone(&fresh.0))))
    }

    /// Shows something else from now on; connections that are open stay.
    pub fn replace(&self, fresh: &Fresh) {
        self.0.store(Arc::clone(&fresh.0));
    }

    /// Agrees with who has connected.
    ///
    /// # Errors
    /// Whatever the other end did wrong, or that it took too long.
    pub async fn accept(&self, stream: TcpStream) -> io::Result<Box<TlsStream<TcpStream>>> {
        let agreed = timeout(HANDSHAKE_WITHIN, TlsAcceptor::from(self.0.load_full()).accept(stream)).await;
        agreed.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))?.map(Box::new)
    }
}
