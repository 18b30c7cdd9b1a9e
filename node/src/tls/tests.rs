//! Certificates in files, what listeners show, and an authority of one's own.

use super::*;
use crate::config::{CertifiedFiles, PeerTlsFiles};
use messenger_client::{Call, Connection, ServerUrl, Trust};
use messenger_proto::ids::{ClusterId, NodeId};
use messenger_raft::transport::PeerTls;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpListener;

const DAY: Validity = Validity { days: 1 };
const CLUSTER: ClusterId = ClusterId([7; 16]);

struct Made {
    dir: tempfile::TempDir,
    ca: String,
}

impl Made {
    fn new() -> (Self, Authority) {
        let issued = Authority::create("test", DAY).unwrap();
        let authority = Authority::from_pem(&issued.certificate, &issued.key).unwrap();
        let made = Self { dir: tempfile::tempdir().unwrap(), ca: issued.certificate };
        std::fs::write(made.path("ca.pem"), &made.ca).unwrap();
        (made, authority)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn issue(&self, by: &Authority, node: u64) -> CertifiedFiles {
        let names = NodeNames { cluster: CLUSTER, node: NodeId(node), hosts: vec!["127.0.0.1".into()] };
        let issued = by.issue(&names, DAY).unwrap();
        let files = CertifiedFiles { cert: self.path("node.pem"), key: self.path("node.key") };
        std::fs::write(&files.cert, issued.certificate).unwrap();
        std::fs::write(&files.key, issued.key).unwrap();
        files
    }
}

async fn shows(tls: ListenerTls) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let tls = tls.clone();
            tokio::spawn(async move {
                if let Ok(mut stream) = tls.accept(stream).await {
                    let _ = stream.write_all(b"HTTP/1.1 204 No Content\r\n\r\n").await;
                }
            });
        }
    });
    port
}

async fn believed(port: u16, ca: &str) -> bool {
    let server: ServerUrl = format!("https://127.0.0.1:{port}").parse().unwrap();
    let server = server.trusting(&Trust::only(ca.as_bytes()).unwrap());
    let Ok(mut connection) = Connection::open(&server, Duration::from_secs(10)).await else { return false };
    connection.exchange(&Call::new(http::Method::GET, "/")).await.is_ok_and(|answer| answer.status == 204)
}

#[tokio::test]
async fn a_listener_shows_what_was_put_in_force_last() {
    let (old, by_old) = Made::new();
    let (new, by_new) = Made::new();
    let tls = ListenerTls::new(&Fresh::read(&old.issue(&by_old, 1)).unwrap());
    let port = shows(tls.clone()).await;
    assert!(believed(port, &old.ca).await && !believed(port, &new.ca).await);
    tls.replace(&Fresh::read(&new.issue(&by_new, 1)).unwrap());
    assert!(!believed(port, &old.ca).await && believed(port, &new.ca).await);
}

#[test]
fn one_s_own_authority_makes_what_nodes_believe() {
    let (made, authority) = Made::new();
    let CertifiedFiles { cert, key } = made.issue(&authority, 3);
    let files = PeerTlsFiles { ca: made.path("ca.pem"), cert, key };
    assert!(PeerTls::new(CLUSTER, NodeId(3), credentials(&files).unwrap()).is_ok());
    let other = PeerTls::new(CLUSTER, NodeId(4), credentials(&files).unwrap()).unwrap_err();
    let told = TlsFileError::refused(&files, &other).to_string();
    assert!(told.contains("node.pem") && told.contains("node-4."), "{told}");
}

#[test]
fn a_certificate_ends_when_it_was_to() {
    let (made, authority) = Made::new();
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs().cast_signed();
    let left = good_until(&made.issue(&authority, 1).cert).unwrap() - now;
    assert!((86_340..=86_400).contains(&left), "{left}");
}

#[test]
fn files_that_are_something_else_are_named() {
    let (made, authority) = Made::new();
    let good = made.issue(&authority, 1);
    let text = made.path("text");
    std::fs::write(&text, "no PEM here").unwrap();
    let other = authority.issue(&NodeNames { cluster: CLUSTER, node: NodeId(1), hosts: Vec::new() }, DAY).unwrap();
    let other_key = made.path("other.key");
    std::fs::write(&other_key, other.key).unwrap();
    let read = |cert: &Path, key: &Path| {
        let files = CertifiedFiles { cert: cert.to_owned(), key: key.to_owned() };
        Fresh::read(&files).err().map(|error| error.to_string()).unwrap_or_default()
    };
    assert_eq!(read(&good.cert, &good.key), "");
    assert!(read(&made.path("none"), &good.key).contains("none: "));
    assert!(read(&text, &good.key).contains("text: holds no certificate"));
    assert!(read(&good.cert, &text).contains("text: holds no private key"));
    assert!(read(&good.key, &good.key).contains("node.key: holds no certificate"));
    assert!(read(&good.cert, &other_key).contains("node.pem: "));
    assert!(Authority::from_pem("text", "text").is_err());
    let bad = NodeNames { cluster: CLUSTER, node: NodeId(1), hosts: vec!["no host".into()] };
    assert!(authority.issue(&bad, DAY).is_err());
}
