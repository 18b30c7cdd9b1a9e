//! Where other nodes are.
//!
//! Owns: the list the links follow: the configuration's, or what a node was told that joins, until the cluster's record is
//! known, then the record's. A joined node that starts again may have nothing until then: others call it, and so it hears
//! of the record.
//! Must not know: links.

use crate::config::Config;
use messenger_proto::ids::NodeId;
use messenger_proto::meta::{ClusterState, NodeState};
use messenger_raft::transport::{Peer, Peers};
use std::sync::Arc;
use tokio::sync::watch;

/// The nodes the configuration names.
#[must_use]
pub fn of_config(config: &Config) -> Peers {
    let peer =
        |peer: &crate::config::PeerConfig| (NodeId(peer.id), Peer { addr: peer.peer_addr.to_string(), store: None });
    config.cluster.nodes.iter().map(peer).collect()
}

fn of_record(state: &ClusterState) -> Peers {
    let present = state.nodes.iter().filter(|node| node.state != NodeState::Removed);
    present.map(|node| (node.id, Peer { addr: node.peer_addr.clone(), store: node.store })).collect()
}

/// Keeps the list as the record says, as long as there is one.
pub async fn follow(peers: watch::Sender<Arc<Peers>>, mut record: watch::Receiver<Arc<ClusterState>>) {
    loop {
        let state = Arc::clone(&record.borrow_and_update());
        if state.epoch > 0 {
            peers.send_replace(Arc::new(of_record(&state)));
        }
        if record.changed().await.is_err() {
            return;
        }
    }
}
