//! Who is at the other end.
//!
//! Owns: the hello two nodes exchange, its place in the metadata of every stream, and when it is refused.
//! Must not know: sockets.
//! Invariants: nothing a stranger sends is looked at before its hello was checked.

use crate::clock::HybridClock;
use crate::types::Identity;
use bytes::Bytes;
use messenger_proto::ids::{ClusterId, NodeId, StoreId};
use messenger_proto::rpc::pb;
use prost::Message;
use std::collections::BTreeMap;
use tonic::metadata::{MetadataMap, MetadataValue};

/// Nodes of different versions refuse each other; raised only when frames stop being understood.
pub const PROTOCOL_VERSION: u32 = 3;
/// Where a stream's request carries the caller's hello.
const HELLO_KEY: &str = "messenger-hello-bin";

/// What is known of another node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Peer {
    /// `host:port` of its peer listener.
    pub addr: String,
    /// The data directory it was registered with; `None` until then.
    pub store: Option<StoreId>,
}

/// The nodes to keep links with; this node itself may be among them and is passed over.
pub type Peers = BTreeMap<NodeId, Peer>;

/// Why a hello is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Mismatch {
    /// The hello is missing or not well-formed.
    #[error("no well-formed hello: {0}")]
    Malformed(&'static str),
    /// Another protocol version.
    #[error("protocol version {theirs}, not {PROTOCOL_VERSION}")]
    Version {
        /// What the other end speaks.
        theirs: u32,
    },
    /// A node of another cluster.
    #[error("node {node} belongs to cluster {theirs}, not to this one")]
    Cluster {
        /// Who it says it is.
        node: NodeId,
        /// Where it belongs.
        theirs: ClusterId,
    },
    /// Another node than the one that should live at the address.
    #[error("node {theirs} answers where node {expected} should")]
    Node {
        /// Who was called.
        expected: NodeId,
        /// Who answered.
        theirs: NodeId,
    },
    /// Its certificate speaks for another node, or for none.
    #[error("the certificate of who claims to be node {0} says something else")]
    Certificate(NodeId),
    /// A node under this node's own id.
    #[error("the other end claims to be node {0}, as this one is")]
    Myself(NodeId),
    /// A known node on another data directory than it was registered with.
    #[error("node {node} runs on store {theirs}, but was registered with {registered}")]
    Store {
        /// The node.
        node: NodeId,
        /// Where it runs.
        theirs: StoreId,
        /// Where it should.
        registered: StoreId,
    },
}

impl Mismatch {
    /// What a stranger may be told: not who we are.
    pub(crate) fn status(&self) -> tonic::Status {
        match self {
            Self::Malformed(_) => tonic::Status::unauthenticated("a hello is required"),
            Self::Version { .. } => {
                tonic::Status::failed_precondition(format!("version {PROTOCOL_VERSION} is required"))
            }
            Self::Cluster { .. } => tonic::Status::permission_denied("not a node of this cluster"),
            Self::Node { .. } | Self::Certificate(_) | Self::Myself(_) | Self::Store { .. } => {
                tonic::Status::permission_denied(self.to_string())
            }
        }
    }
}

impl Identity {
    /// What this node says of itself.
    pub(crate) fn hello(&self, clock: &HybridClock) -> pb::Hello {
        pb::Hello {
            cluster_id: Bytes::copy_from_slice(&self.cluster.0),
            node_id: self.node.0,
            store_id: Bytes::copy_from_slice(&self.store.0),
            protocol_version: PROTOCOL_VERSION,
            clock_ms: clock.now().0,
            wall_ms: clock.wall().0,
        }
    }

    /// Checks the other end's hello and says who runs on what; `expected` names the node that was called.
    ///
    /// A node that `peers` does not know yet is let in: a cluster's newest member may be news to this one.
    pub(crate) fn check(
        &self,
        theirs: &pb::Hello,
        peers: &Peers,
        expected: Option<NodeId>,
    ) -> Result<(NodeId, StoreId), Mismatch> {
        if theirs.protocol_version != PROTOCOL_VERSION {
            return Err(Mismatch::Version { theirs: theirs.protocol_version });
        }
        let sixteen = |bytes: &[u8], what| <[u8; 16]>::try_from(bytes).map_err(|_| Mismatch::Malformed(what));
        let cluster = ClusterId(sixteen(&theirs.cluster_id, "cluster id")?);
        let store = StoreId(sixteen(&theirs.store_id, "store id")?);
        let node = NodeId(theirs.node_id);
        if cluster != self.cluster {
            return Err(Mismatch::Cluster { node, theirs: cluster });
        }
        if node.0 == 0 {
            return Err(Mismatch::Malformed("node id"));
        }
        if let Some(expected) = expected.filter(|expected| *expected != node) {
            return Err(Mismatch::Node { expected, theirs: node });
        }
        if node == self.node {
            return Err(Mismatch::Myself(node));
        }
        match peers.get(&node).and_then(|peer| peer.store) {
            Some(registered) if registered != store => Err(Mismatch::Store { node, theirs: store, registered }),
            _ => Ok((node, store)),
        }
    }

    /// Puts this node's hello into a request's metadata.
    pub(crate) fn stamp(&self, clock: &HybridClock, metadata: &mut MetadataMap) {
        let hello = self.hello(clock).encode_to_vec();
        metadata.insert_bin(HELLO_KEY, MetadataValue::from_bytes(&hello));
    }

    /// Reads and checks the hello in a request's metadata.
    pub(crate) fn verify(&self, metadata: &MetadataMap, peers: &Peers) -> Result<NodeId, Mismatch> {
        let value = metadata.get_bin(HELLO_KEY).ok_or(Mismatch::Malformed("absent"))?;
        let bytes = value.to_bytes().map_err(|_| Mismatch::Malformed("base64"))?;
        let hello = pb::Hello::decode(bytes).map_err(|_| Mismatch::Malformed("protobuf"))?;
        self.check(&hello, peers, None).map(|(node, _)| node)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn identity(cluster: u8, node: u64, store: u8) -> Identity {
        Identity { cluster: ClusterId([cluster; 16]), node: NodeId(node), store: StoreId([store; 16]) }
    }

    fn check(theirs: &Identity, expected: Option<u64>) -> Result<NodeId, Mismatch> {
        let registered = Peer { addr: String::new(), store: Some(StoreId([2; 16])) };
        let peers = Peers::from([(NodeId(2), registered)]);
        identity(1, 1, 1)
            .check(&theirs.hello(&HybridClock::system()), &peers, expected.map(NodeId))
            .map(|(node, _)| node)
    }

    #[test]
    fn only_the_right_node_of_the_right_cluster_on_the_right_disk_passes() {
        assert_eq!(check(&identity(1, 2, 2), Some(2)), Ok(NodeId(2)));
        assert_eq!(check(&identity(1, 9, 7), None), Ok(NodeId(9)), "a newcomer");
        assert!(matches!(check(&identity(8, 2, 2), None), Err(Mismatch::Cluster { .. })));
        assert!(matches!(check(&identity(1, 2, 2), Some(3)), Err(Mismatch::Node { .. })));
        assert!(matches!(check(&identity(1, 2, 3), None), Err(Mismatch::Store { .. })));
        assert_eq!(check(&identity(1, 1, 1), None), Err(Mismatch::Myself(NodeId(1))));
        assert!(matches!(check(&identity(1, 0, 1), None), Err(Mismatch::Malformed(_))));
    }

    #[test]
    fn another_version_and_garbage_are_refused() {
        let ours = identity(1, 1, 1);
        let hello = identity(1, 2, 2).hello(&HybridClock::system());
        let other = pb::Hello { protocol_version: 2, ..hello.clone() };
        assert_eq!(ours.check(&other, &Peers::new(), None), Err(Mismatch::Version { theirs: 2 }));
        let short = pb::Hello { cluster_id: Bytes::from_static(b"short"), ..hello };
        assert!(matches!(ours.check(&short, &Peers::new(), None), Err(Mismatch::Malformed(_))));
    }

    #[test]
    fn metadata_carries_the_hello() {
        let mut metadata = MetadataMap::new();
        let ours = identity(1, 1, 1);
        assert_eq!(ours.verify(&metadata, &Peers::new()), Err(Mismatch::Malformed("absent")));
        identity(1, 2, 2).stamp(&HybridClock::system(), &mut metadata);
        assert_eq!(ours.verify(&metadata, &Peers::new()), Ok(NodeId(2)));
        metadata.insert_bin(HELLO_KEY, MetadataValue::from_bytes(b"\xff\xff\xff"));
        assert_eq!(ours.verify(&metadata, &Peers::new()), Err(Mismatch::Malformed("protobuf")));
    }

    #[test]
    fn a_stranger_is_not_told_who_we_are() {
        let status = check(&identity(8, 2, 2), None).unwrap_err().status();
        assert!(!status.message().contains("01010101"), "{status}");
    }
}
