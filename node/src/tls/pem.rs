//! Certificates and keys in files.
//!
//! Owns: reading them, and until when a certificate is good.
//! Must not know: what they are used for.
//! Invariants: an error names the file, and nothing that is in it.

use crate::config::{CertifiedFiles, PeerTlsFiles};
use messenger_raft::transport::{Credentials, TlsError};
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use std::path::{Path, PathBuf};

/// Why certificates can't be used.
#[derive(Debug, thiserror::Error)]
pub enum TlsFileError {
    /// A file can't be read.
    #[error("{}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// It holds something else.
    #[error("{}: {problem}", path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        problem: &'static str,
    },
    /// The certificate can't be used, or does not belong to the key.
    #[error("{}: {reason}", path.display())]
    Unusable {
        /// The certificate.
        path: PathBuf,
        /// Why.
        reason: String,
    },
}

impl TlsFileError {
    fn malformed(path: &Path, problem: &'static str) -> Self {
        Self::Malformed { path: path.to_owned(), problem }
    }

    /// Credentials that the wire between nodes refuses.
    #[must_use]
    pub fn refused(files: &PeerTlsFiles, error: &TlsError) -> Self {
        let path =
            if matches!(error, TlsError::NoAuthority | TlsError::Authority(_)) { &files.ca } else { &files.cert };
        Self::Unusable { path: path.clone(), reason: error.to_string() }
    }
}

fn read(path: &Path) -> Result<Vec<u8>, TlsFileError> {
    std::fs::read(path).map_err(|source| TlsFileError::Read { path: path.to_owned(), source })
}

pub(super) fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsFileError> {
    let text = read(path)?;
    let found: Result<Vec<_>, pem::Error> = CertificateDer::pem_slice_iter(&text).collect();
    let found = found.map_err(|_| TlsFileError::malformed(path, "is not PEM"))?;
    if found.is_empty() {
        return Err(TlsFileError::malformed(path, "holds no certificate in PEM"));
    }
    Ok(found)
}

pub(super) fn private_key(path: &Path) -> Result<PrivateKeyDer<'static>, TlsFileError> {
    PrivateKeyDer::from_pem_slice(&read(path)?)
        .map_err(|_| TlsFileError::malformed(path, "holds no private key in PEM"))
}

pub(super) type Certified = (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>);

pub(super) fn certified(files: &CertifiedFiles) -> Result<Certified, TlsFileError> {
    Ok((certificates(&files.cert)?, private_key(&files.key)?))
}

/// What a node shows to other nodes, and whom it believes.
///
/// # Errors
/// [`TlsFileError`].
pub fn credentials(files: &PeerTlsFiles) -> Result<Credentials, TlsFileError> {
    Ok(Credentials {
        authorities: certificates(&files.ca)?,
        chain: certificates(&files.cert)?,
        key: private_key(&files.key)?,
    })
}

/// Until when the first certificate of a file is good: seconds since the Unix epoch.
///
/// # Errors
/// [`TlsFileError`].
pub fn good_until(path: &Path) -> Result<i64, TlsFileError> {
    let chain = certificates(path)?;
    let first = chain.first().and_then(|first| x509_parser::parse_x509_certificate(first).ok());
    let (_, parsed) = first.ok_or_else(|| TlsFileError::malformed(path, "holds no certificate that can be read"))?;
    Ok(parsed.validity().not_after.timestamp())
}
