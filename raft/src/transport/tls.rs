//! The security of the wire between nodes: mutual TLS.
//!
//! Owns: what this node shows and whom it believes, and which certificate speaks for which node.
//! Must not know: files, and when they are read again.
//! Invariants: with TLS there is no connection without a certificate of a trusted authority at both ends; a certificate
//! speaks for the one node of the one cluster that its name says, and for no other; what is replaced counts for every
//! connection made from then on.

use super::refusals::Refusals;
use arc_swap::ArcSwap;
use messenger_proto::ids::{ClusterId, NodeId};
use rustls::client::verify_server_name;
use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::server::{ParsedCertificate, WebPkiClientVerifier};
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use std::fmt;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, ready};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::{Accept, TlsAcceptor, TlsConnector, TlsStream};

/// What is agreed on within TLS (RFC 7301): HTTP/2, and nothing else.
const ALPN: &[u8] = b"h2";

/// The name that a node's certificate carries, as a DNS name among its subject alternative names (RFC 5280, 4.2.1.6).
#[must_use]
pub fn node_name(cluster: ClusterId, node: NodeId) -> String {
    format!("node-{node}.{cluster}.messenger.internal")
}

/// Whether a certificate carries a node's name.
#[must_use]
pub fn speaks_for(certificate: &CertificateDer<'_>, cluster: ClusterId, node: NodeId) -> bool {
    let (Ok(parsed), Ok(name)) =
        (ParsedCertificate::try_from(certificate), ServerName::try_from(node_name(cluster, node)))
    else {
        return false;
    };
    verify_server_name(&parsed, &name).is_ok()
}

/// Why TLS can't be spoken with what is there.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// No certificate of an authority.
    #[error("no certificate of an authority to believe")]
    NoAuthority,
    /// No certificate of this node.
    #[error("no certificate to show")]
    NoCertificate,
    /// The certificate is another node's.
    #[error("the certificate does not say {0}, which is this node's name")]
    NotMine(String),
    /// A certificate or key is not what it should be, or they don't belong together.
    #[error("{0}")]
    Unusable(#[from] rustls::Error),
    /// The authorities can't be used.
    #[error("the authorities: {0}")]
    Authority(#[from] rustls::server::VerifierBuilderError),
}

/// What a node shows, and whom it believes.
pub struct Credentials {
    /// Authorities whose word counts; several while one takes over from another.
    pub authorities: Vec<CertificateDer<'static>>,
    /// This node's certificate, and what leads from there to an authority.
    pub chain: Vec<CertificateDer<'static>>,
    /// Its private key.
    pub key: PrivateKeyDer<'static>,
}

struct Configs {
    accepting: Arc<ServerConfig>,
    connecting: Arc<ClientConfig>,
}

/// Mutual TLS of a node; clones share what is replaced.
#[derive(Clone)]
pub struct PeerTls {
    cluster: ClusterId,
    node: NodeId,
    configs: Arc<ArcSwap<Configs>>,
}

impl fmt::Debug for PeerTls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PeerTls").field("node", &self.node).finish_non_exhaustive()
    }
}

impl PeerTls {
    /// TLS of a node with these credentials.
    ///
    /// # Errors
    /// [`TlsError`] when they are not this node's, or can't be used.
    pub fn new(cluster: ClusterId, node: NodeId, credentials: Credentials) -> Result<Self, TlsError> {
        let configs = configs(cluster, node, credentials)?;
        Ok(Self { cluster, node, configs: Arc::new(ArcSwap::from_pointee(configs)) })
    }

    /// Shows and believes something else from now on; connections that are open stay.
    ///
    /// # Errors
    /// [`TlsError`] when that can't be used; then nothing changes.
    pub fn replace(&self, credentials: Credentials) -> Result<(), TlsError> {
        self.configs.store(Arc::new(configs(self.cluster, self.node, credentials)?));
        Ok(())
    }

    /// The name that the other end has to carry.
    pub(super) fn name_of(&self, node: NodeId) -> String {
        node_name(self.cluster, node)
    }

    fn acceptor(&self) -> TlsAcceptor {
        TlsAcceptor::from(Arc::clone(&self.configs.load().accepting))
    }

    async fn connect(&self, node: NodeId, stream: TcpStream) -> io::Result<Wire> {
        let name = ServerName::try_from(self.name_of(node)).map_err(io::Error::other)?;
        let connector = TlsConnector::from(Arc::clone(&self.configs.load().connecting));
        let stream = connector.connect(name, stream).await?;
        Ok(Wire::Secure(Box::new(stream.into())))
    }
}

fn configs(cluster: ClusterId, node: NodeId, credentials: Credentials) -> Result<Configs, TlsError> {
    let Credentials { authorities, chain, key } = credentials;
    let Some(own) = chain.first() else { return Err(TlsError::NoCertificate) };
    if !speaks_for(own, cluster, node) {
        return Err(TlsError::NotMine(node_name(cluster, node)));
    }
    if authorities.is_empty() {
        return Err(TlsError::NoAuthority);
    }
    let mut roots = RootCertStore::empty();
    for authority in authorities {
        roots.add(authority)?;
    }
    let (roots, provider) = (Arc::new(roots), Arc::new(provider()));
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::clone(&roots), Arc::clone(&provider)).build()?;
    let mut accepting = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()?
        .with_client_cert_verifier(verifier)
        .with_single_cert(chain.clone(), key.clone_key())?;
    let mut connecting = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_client_auth_cert(chain, key)?;
    accepting.alpn_protocols = vec![ALPN.to_vec()];
    connecting.alpn_protocols = vec![ALPN.to_vec()];
    // A ticket would outlive the certificates that are replaced.
    accepting.send_tls13_tickets = 0;
    connecting.resumption = rustls::client::Resumption::disabled();
    Ok(Configs { accepting: Arc::new(accepting), connecting: Arc::new(connecting) })
}

fn provider() -> CryptoProvider {
    ring::default_provider()
}

/// Who is at the other end of an accepted connection, by the certificate it showed.
#[derive(Debug, Clone, Default)]
pub(crate) struct Caller {
    secure: bool,
    certificate: Arc<OnceLock<CertificateDer<'static>>>,
    refused: Arc<Refusals>,
}

impl Caller {
    /// Whether the caller may speak for a node.
    pub(super) fn may_be(&self, cluster: ClusterId, node: NodeId) -> bool {
        !self.secure || self.certificate.get().is_some_and(|shown| speaks_for(shown, cluster, node))
    }
}

/// A connection between two nodes.
pub(crate) enum Wire {
    /// As it is.
    Plain(TcpStream),
    /// Accepted, and not yet agreed on.
    Greeting(Box<Accept<TcpStream>>, Caller),
    /// Encrypted.
    Secure(Box<TlsStream<TcpStream>>),
    /// It came to nothing.
    Failed,
}

impl Wire {
    /// A connection that was accepted, and who is at its other end once that is known.
    pub(super) fn accepted(stream: TcpStream, tls: Option<&PeerTls>, refused: &Arc<Refusals>) -> (Self, Caller) {
        let Some(tls) = tls else { return (Self::Plain(stream), Caller::default()) };
        let caller = Caller { secure: true, certificate: Arc::default(), refused: Arc::clone(refused) };
        (Self::Greeting(Box::new(tls.acceptor().accept(stream)), caller.clone()), caller)
    }

    /// A connection to a node.
    pub(super) async fn dial(addr: &str, node: NodeId, tls: Option<&PeerTls>) -> io::Result<Self> {
        let stream = TcpStream::connect(addr).await?;
        stream.set_nodelay(true)?;
        match tls {
            Some(tls) => tls.connect(node, stream).await,
            None => Ok(Self::Plain(stream)),
        }
    }

    /// Ready once the other end has been agreed with.
    fn poll_agreed(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Self::Greeting(accept, caller) = self else { return Poll::Ready(Ok(())) };
        match ready!(Pin::new(accept.as_mut()).poll(context)) {
            Ok(stream) => {
                let shown = stream.get_ref().1.peer_certificates().and_then(|chain| chain.first());
                if let Some(shown) = shown {
                    // Set once, here.
                    let _ = caller.certificate.set(shown.clone().into_owned());
                }
                *self = Self::Secure(Box::new(stream.into()));
                Poll::Ready(Ok(()))
            }
            Err(error) => {
                caller.refused.note("TLS", &error.to_string());
                *self = Self::Failed;
                Poll::Ready(Err(error))
            }
        }
    }
}

fn failed<T>() -> Poll<io::Result<T>> {
    Poll::Ready(Err(io::ErrorKind::NotConnected.into()))
}

impl AsyncRead for Wire {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_agreed(context))?;
        match &mut *self {
            Self::Plain(stream) => Pin::new(stream).poll_read(context, buf),
            Self::Secure(stream) => Pin::new(stream).poll_read(context, buf),
            Self::Greeting(..) | Self::Failed => failed(),
        }
    }
}

impl AsyncWrite for Wire {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        ready!(self.poll_agreed(context))?;
        match &mut *self {
            Self::Plain(stream) => Pin::new(stream).poll_write(context, buf),
            Self::Secure(stream) => Pin::new(stream).poll_write(context, buf),
            Self::Greeting(..) | Self::Failed => failed(),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_agreed(context))?;
        match &mut *self {
            Self::Plain(stream) => Pin::new(stream).poll_flush(context),
            Self::Secure(stream) => Pin::new(stream).poll_flush(context),
            Self::Greeting(..) | Self::Failed => failed(),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut *self {
            Self::Plain(stream) => Pin::new(stream).poll_shutdown(context),
            Self::Secure(stream) => Pin::new(stream).poll_shutdown(context),
            // Nothing was said that would have to arrive.
            Self::Greeting(..) | Self::Failed => Poll::Ready(Ok(())),
        }
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        ready!(self.poll_agreed(context))?;
        match &mut *self {
            Self::Plain(stream) => Pin::new(stream).poll_write_vectored(context, bufs),
            Self::Secure(stream) => Pin::new(stream).poll_write_vectored(context, bufs),
            Self::Greeting(..) | Self::Failed => failed(),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match self {
            Self::Plain(stream) => stream.is_write_vectored(),
            Self::Secure(stream) => stream.is_write_vectored(),
            Self::Greeting(..) | Self::Failed => false,
        }
    }
}
