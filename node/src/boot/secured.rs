//! What a node's listeners show.
//!
//! Owns: the certificates in force, and putting new ones in force all together.
//! Must not know: how connections are made.
//! Invariants: either all that the configuration names is put in force, or nothing changes; a listener that was plain stays
//! so, and one that was not stays encrypted, until the node starts again.

use super::BootError;
use crate::config::{CertifiedFiles, ClientTls, Config, TlsConfig};
use crate::metric_names;
use crate::tls::{Fresh, ListenerTls, TlsFileError, credentials, good_until};
use messenger_proto::ids::StoreId;
use messenger_raft::transport::PeerTls;
use messenger_raft::types::Identity;
use std::time::{SystemTime, UNIX_EPOCH};

/// An end that is so near is worth a warning.
const SOON_S: i64 = 14 * 86_400;

/// What of the files that `[tls]` names a start would refuse, as far as is known before a node has an id.
#[must_use]
pub fn tls_problem(config: &Config) -> Option<String> {
    let cluster = config.cluster_id().ok()?;
    let read = Secured::read(&config.tls).and_then(|secured| {
        let identity = Identity { cluster, node: config.node_id(), store: StoreId([0; 16]) };
        if config.joins() { Ok(secured) } else { secured.with_peers(&config.tls, identity) }
    });
    read.err().map(|error| error.to_string())
}

/// Certificates in force; clones share them.
#[derive(Debug, Clone)]
pub struct Secured {
    /// For clients.
    pub client: Option<ListenerTls>,
    /// For operators.
    pub admin: Option<ListenerTls>,
    /// Between nodes.
    pub peer: Option<PeerTls>,
}

impl From<TlsFileError> for BootError {
    fn from(error: TlsFileError) -> Self {
        Self::Config(format!("tls: {error}"))
    }
}

fn fresh(files: Option<&CertifiedFiles>) -> Result<Option<Fresh>, TlsFileError> {
    files.map(Fresh::read).transpose()
}

impl Secured {
    /// Reads what listeners show, before anything else is made.
    ///
    /// # Errors
    /// [`BootError::Config`], naming the file.
    pub fn read(config: &TlsConfig) -> Result<Self, BootError> {
        let client = fresh(config.client.as_ref().map(ClientTls::files).as_ref())?;
        let admin = fresh(config.admin.as_ref())?;
        Ok(Self {
            client: client.as_ref().map(ListenerTls::new),
            admin: admin.as_ref().map(ListenerTls::new),
            peer: None,
        })
    }

    /// The same with what this node shows to others, now that it is known which it is.
    ///
    /// # Errors
    /// [`BootError::Config`], naming the file.
    pub fn with_peers(self, config: &TlsConfig, identity: Identity) -> Result<Self, BootError> {
        let Some(files) = &config.peer else { return Ok(self) };
        let made = PeerTls::new(identity.cluster, identity.node, credentials(files)?);
        let peer = made.map_err(|error| TlsFileError::refused(files, &error))?;
        Ok(Self { peer: Some(peer), ..self })
    }

    /// Puts what the files hold now in force, for connections from now on.
    ///
    /// # Errors
    /// [`TlsFileError`]; then nothing has changed.
    pub fn renew(&self, config: &TlsConfig) -> Result<(), TlsFileError> {
        let client = fresh(config.client.as_ref().map(ClientTls::files).as_ref())?;
        let admin = fresh(config.admin.as_ref())?;
        // The last that can fail, and so the first to change.
        if let (Some(peer), Some(files)) = (&self.peer, &config.peer) {
            peer.replace(credentials(files)?).map_err(|error| TlsFileError::refused(files, &error))?;
        }
        for (listener, fresh) in [(&self.client, &client), (&self.admin, &admin)] {
            if let (Some(listener), Some(fresh)) = (listener, fresh) {
                listener.replace(fresh);
            }
        }
        for (name, now, configured) in [
            ("client", self.client.is_some(), config.client.is_some()),
            ("admin", self.admin.is_some(), config.admin.is_some()),
            ("peer", self.peer.is_some(), config.peer.is_some()),
        ] {
            if now != configured {
                tracing::warn!(listener = name, "whether it is encrypted changes with a restart only");
            }
        }
        Ok(())
    }

    /// Says until when certificates are good, and warns of an end that is near. Files that can't be read any more say
    /// nothing: what is in force was read before.
    pub fn tell(config: &TlsConfig) {
        let client = config.client.as_ref().map(|files| ("client", &files.cert));
        let admin = config.admin.as_ref().map(|files| ("admin", &files.cert));
        let peer = config.peer.as_ref().map(|files| ("peer", &files.cert));
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs().cast_signed());
        for (listener, path) in [client, admin, peer].into_iter().flatten() {
            let Ok(until) = good_until(path) else { continue };
            // Exact up to the year 280 million.
            #[allow(clippy::cast_precision_loss)]
            metrics::gauge!(metric_names::CERTIFICATE_EXPIRES, metric_names::LISTENER => listener).set(until as f64);
            let (path, hours) = (path.display(), (until - now) / 3_600);
            if until <= now {
                tracing::error!(listener, %path, "the certificate has expired");
            } else if until - now < SOON_S {
                tracing::warn!(listener, %path, hours, "the certificate expires soon");
            }
        }
    }
}
