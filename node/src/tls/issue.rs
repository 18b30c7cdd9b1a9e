//! A small authority.
//!
//! Owns: making one, and certificates by it that nodes use for each other, for clients and for operators.
//! Must not know: where they are kept.
//! Invariants: a certificate speaks for one node and for the hosts that are named; private keys come from the system's
//! randomness and leave this module as PEM alone.

use messenger_proto::ids::{ClusterId, NodeId};
use messenger_raft::transport::node_name;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};
use rustls::pki_types::ServerName;
use std::time::{Duration, SystemTime};

/// Clocks of nodes may be so far behind the one of who makes a certificate.
const BACKDATED: Duration = Duration::from_hours(1);

/// Why there is no certificate.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct IssueError(String);

impl From<rcgen::Error> for IssueError {
    fn from(error: rcgen::Error) -> Self {
        Self(error.to_string())
    }
}

/// For how many days something is good.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Validity {
    /// From now on.
    pub days: u32,
}

/// What a node's certificate says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeNames {
    /// The cluster.
    pub cluster: ClusterId,
    /// The node.
    pub node: NodeId,
    /// DNS names and addresses by which clients and operators reach it.
    pub hosts: Vec<String>,
}

/// A certificate and its private key, in PEM.
pub struct Issued {
    /// The certificate.
    pub certificate: String,
    /// The key.
    pub key: String,
}

/// Who vouches for nodes.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
}

fn params(names: Vec<String>, common: String, validity: Validity) -> Result<CertificateParams, IssueError> {
    let mut params = CertificateParams::new(names)?;
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, common);
    let now = SystemTime::now();
    params.not_before = (now - BACKDATED).into();
    params.not_after = (now + Duration::from_secs(u64::from(validity.days) * 86_400)).into();
    params.use_authority_key_identifier_extension = true;
    Ok(params)
}

impl Authority {
    /// A new one, and what is to be kept of it.
    ///
    /// # Errors
    /// [`IssueError`].
    pub fn create(name: &str, validity: Validity) -> Result<Issued, IssueError> {
        let key = KeyPair::generate()?;
        let mut params = params(Vec::new(), name.to_owned(), validity)?;
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        Ok(Issued { certificate: params.self_signed(&key)?.pem(), key: key.serialize_pem() })
    }

    /// One that was made before.
    ///
    /// # Errors
    /// [`IssueError`] when this is no authority's certificate and key.
    pub fn from_pem(certificate: &str, key: &str) -> Result<Self, IssueError> {
        Ok(Self { issuer: Issuer::from_ca_cert_pem(certificate, KeyPair::from_pem(key)?)? })
    }

    /// A certificate for a node.
    ///
    /// # Errors
    /// [`IssueError`] when a host is no name and no address.
    pub fn issue(&self, names: &NodeNames, validity: Validity) -> Result<Issued, IssueError> {
        if let Some(bad) = names.hosts.iter().find(|host| ServerName::try_from(host.as_str()).is_err()) {
            return Err(IssueError(format!("{bad:?} is no name of a host and no address")));
        }
        let name = node_name(names.cluster, names.node);
        let key = KeyPair::generate()?;
        let all = std::iter::once(name).chain(names.hosts.iter().cloned()).collect();
        let mut params = params(all, format!("messenger node {}", names.node), validity)?;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        Ok(Issued { certificate: params.signed_by(&key, &self.issuer)?.pem(), key: key.serialize_pem() })
    }
}
