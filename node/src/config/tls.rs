//! What a node encrypts.
//!
//! Owns: where certificates and keys lie, for each listener.
//! Must not know: what is in them.

use super::{ConfigError, check::within};
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};

/// TLS, listener by listener; one that has no section is plain.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TlsConfig {
    /// For clients.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client: Option<ClientTls>,
    /// For operators.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub admin: Option<CertifiedFiles>,
    /// Between nodes, both ways; on all nodes of a cluster or on none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub peer: Option<PeerTlsFiles>,
}

/// A certificate and its key, both in PEM.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CertifiedFiles {
    /// The certificate, and behind it those that lead to an authority.
    pub cert: PathBuf,
    /// Its private key.
    pub key: PathBuf,
}

/// What clients are shown.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClientTls {
    /// The certificate, and behind it those that lead to an authority.
    pub cert: PathBuf,
    /// Its private key.
    pub key: PathBuf,
    /// For how long browsers shall insist on TLS (RFC 6797): at most two years; 0 says nothing of it.
    #[serde(default = "one_year")]
    pub hsts_seconds: u32,
}

impl ClientTls {
    /// The files.
    #[must_use]
    pub fn files(&self) -> CertifiedFiles {
        CertifiedFiles { cert: self.cert.clone(), key: self.key.clone() }
    }
}

/// What other nodes are shown, and who is believed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PeerTlsFiles {
    /// The authorities that nodes' certificates come from; several while one takes over from another.
    pub ca: PathBuf,
    /// This node's certificate: it says `node-ID.CLUSTER.messenger.internal`.
    pub cert: PathBuf,
    /// Its private key.
    pub key: PathBuf,
}

fn one_year() -> u32 {
    31_536_000
}

const TWO_YEARS: u64 = 2 * 31_536_000;

impl TlsConfig {
    /// Whether nothing is encrypted.
    #[must_use]
    pub fn is_none(&self) -> bool {
        *self == Self::default()
    }

    /// Paths are relative to the configuration's own place.
    pub(super) fn lie_in(&mut self, base: &Path) {
        self.paths().for_each(|path| *path = base.join(&*path));
    }

    /// All files that it names.
    pub(super) fn paths(&mut self) -> impl Iterator<Item = &mut PathBuf> {
        let client = self.client.iter_mut().flat_map(|it| [&mut it.cert, &mut it.key]);
        let admin = self.admin.iter_mut().flat_map(|it| [&mut it.cert, &mut it.key]);
        let peer = self.peer.iter_mut().flat_map(|it| [&mut it.ca, &mut it.cert, &mut it.key]);
        client.chain(admin).chain(peer)
    }

    pub(super) fn check(&self) -> Result<(), ConfigError> {
        let hsts = self.client.as_ref().map_or(0, |client| client.hsts_seconds);
        within("tls.client.hsts_seconds", hsts.into(), 0..=TWO_YEARS)
    }
}
