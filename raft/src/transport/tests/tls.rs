//! Who is believed over TLS, and who is not.

use super::fixture::*;
use crate::transport::*;
use messenger_proto::ids::{ClusterId, NodeId};
use messenger_proto::rpc::pb;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, ExtendedKeyUsagePurpose, IsCa, KeyPair};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::Instant;

type Authority = CertifiedIssuer<'static, KeyPair>;

fn authority() -> Authority {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
}

fn signed(by: &Authority, name: String, until: Option<i32>) -> (CertificateDer<'static>, PrivateKeyDer<'static>) {
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(vec![name]).unwrap();
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
    if let Some(year) = until {
        params.not_after = rcgen::date_time_ymd(year, 1, 1);
    }
    let certificate = params.signed_by(&key, by).unwrap();
    (certificate.der().clone(), PrivatePkcs8KeyDer::from(key.serialize_der()).into())
}

fn credentials(by: &Authority, believed: &[&Authority], name: String, until: Option<i32>) -> Credentials {
    let (certificate, key) = signed(by, name, until);
    Credentials {
        authorities: believed.iter().map(|authority| authority.der().clone()).collect(),
        chain: vec![certificate],
        key,
    }
}

fn cluster() -> ClusterId {
    identity(1).cluster
}

fn own(by: &Authority, node: u64) -> Credentials {
    credentials(by, &[by], node_name(cluster(), NodeId(node)), None)
}

fn with(tls: &PeerTls) -> TransportConfig {
    TransportConfig { tls: Some(tls.clone()), ..TransportConfig::default() }
}

fn tls(node: u64, credentials: Credentials) -> PeerTls {
    PeerTls::new(cluster(), NodeId(node), credentials).unwrap()
}

async fn node(id: u64, tls: &PeerTls) -> Node {
    Node::start(identity(id), with(tls)).await
}

/// Whether node 1 comes to be linked with `two`.
async fn links(one: &Node, two: &Node) -> bool {
    one.list(2, &two.addr);
    one.links.wait_connected(NodeId(2), true, Instant::now() + Duration::from_millis(700)).await
}

#[tokio::test]
async fn nodes_of_one_authority_link_and_go_on_when_it_is_replaced() {
    let (old, new) = (authority(), authority());
    let (tls_1, tls_2) = (tls(1, own(&old, 1)), tls(2, own(&old, 2)));
    let (one, two) = (node(1, &tls_1).await, node(2, &tls_2).await);
    one.list(2, &two.addr);
    assert!(one.links.wait_connected(NodeId(2), true, soon()).await);
    assert_eq!(one.call(Lane::Calls, "who").await.unwrap(), "1 0");
    // First all believe both, then all show the new one's.
    let both = |node: u64, by: &Authority| credentials(by, &[&old, &new], node_name(cluster(), NodeId(node)), None);
    tls_1.replace(both(1, &old)).unwrap();
    tls_2.replace(both(2, &new)).unwrap();
    tls_1.replace(both(1, &new)).unwrap();
    assert_eq!(one.call(Lane::Calls, "who").await.unwrap(), "1 0", "what is open stays");
    one.list(2, "127.0.0.1:1");
    assert!(one.links.wait_connected(NodeId(2), false, soon()).await);
    one.list(2, &two.addr);
    assert!(one.links.wait_connected(NodeId(2), true, soon()).await);
    assert_eq!(one.call(Lane::Calls, "who").await.unwrap(), "1 0");
}

#[tokio::test]
async fn a_peer_of_another_authority_another_name_or_another_time_is_not_believed() {
    let (ours, theirs) = (authority(), authority());
    let one = node(1, &tls(1, own(&ours, 1))).await;
    let stranger = node(2, &tls(2, own(&theirs, 2))).await;
    assert!(!links(&one, &stranger).await, "another authority");
    let expired = credentials(&ours, &[&ours], node_name(cluster(), NodeId(2)), Some(2020));
    let expired = node(2, &tls(2, expired)).await;
    assert!(!links(&one, &expired).await, "expired");
    let other = node(3, &tls(3, own(&ours, 3))).await;
    assert!(!links(&one, &other).await, "another node");
    let plain = Node::start(identity(2), TransportConfig::default()).await;
    assert!(!links(&one, &plain).await, "none at all");
    let good = node(2, &tls(2, own(&ours, 2))).await;
    assert!(links(&one, &good).await);
}

#[tokio::test]
async fn a_caller_is_only_who_its_certificate_says() {
    let ours = authority();
    let two = node(2, &tls(2, own(&ours, 2))).await;
    // Believed by its authority, but it claims to be node 1 with the certificate of node 3.
    let liar = tls(3, own(&ours, 3));
    let wire = tls::Wire::dial(&two.addr, NodeId(2), Some(&liar)).await.unwrap();
    let mut wire = Some(hyper_util::rt::TokioIo::new(wire));
    let connector = tower::service_fn(move |_: tonic::transport::Uri| {
        let wire = wire.take().ok_or(std::io::Error::other("once"));
        async move { wire }
    });
    let endpoint = tonic::transport::Endpoint::from_static("http://node");
    let mut client = pb::peer_client::PeerClient::new(endpoint.connect_with_connector(connector).await.unwrap());
    let refused = client.handshake(identity(1).hello(&two.clock)).await.unwrap_err();
    assert!(refused.message().contains("certificate"), "{refused}");
    assert!(client.handshake(identity(3).hello(&two.clock)).await.is_ok(), "and otherwise it is taken");
}

#[tokio::test]
async fn who_shows_nothing_or_speaks_no_tls_is_turned_away_and_disturbs_nobody() {
    let ours = authority();
    let (one, two) = (node(1, &tls(1, own(&ours, 1))).await, node(2, &tls(2, own(&ours, 2))).await);
    for garbage in [&b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"[..], b"GET / HTTP/1.1\r\n\r\n", &[0xff; 64]] {
        let mut socket = TcpStream::connect(&two.addr).await.unwrap();
        socket.write_all(garbage).await.unwrap();
        let mut answer = Vec::new();
        let ended = tokio::time::timeout(Duration::from_secs(20), socket.read_to_end(&mut answer)).await;
        assert!(ended.is_ok(), "closed at once or after the patience");
    }
    assert!(links(&one, &two).await);
}

#[test]
fn credentials_that_are_not_this_node_s_are_refused_at_once() {
    let ours = authority();
    let refused = |credentials| PeerTls::new(cluster(), NodeId(1), credentials).unwrap_err();
    assert!(matches!(refused(own(&ours, 2)), TlsError::NotMine(name) if name.starts_with("node-1.")));
    let elsewhere = credentials(&ours, &[&ours], node_name(ClusterId([9; 16]), NodeId(1)), None);
    assert!(matches!(refused(elsewhere), TlsError::NotMine(_)));
    assert!(matches!(refused(Credentials { authorities: Vec::new(), ..own(&ours, 1) }), TlsError::NoAuthority));
    assert!(matches!(refused(Credentials { chain: Vec::new(), ..own(&ours, 1) }), TlsError::NoCertificate));
    let mixed = Credentials { key: own(&ours, 1).key, ..own(&ours, 1) };
    assert!(matches!(refused(mixed), TlsError::Unusable(_)));
    let usable = tls(1, own(&ours, 1));
    assert!(usable.replace(own(&ours, 2)).is_err() && usable.replace(own(&ours, 1)).is_ok());
}
