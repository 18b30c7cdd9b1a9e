//! Nodes that come.
//!
//! Owns: `POST /admin/nodes`, by which a new node asks to be taken in.
//! Must not know: by which rules it is.
//! Invariants: any node takes the question, and the meta group's leader decides; asking again, through whichever node, is
//! answered as before. The cluster's secret is not in the answer: the new node has it from the meta group.

use super::Office;
use super::answer::{Problem, json};
use crate::api::error::{ApiError, FieldError};
use crate::config::Address;
use crate::operator_api::{JoinAnswer, JoinPeer, JoinRequest};
use axum::body::Bytes;
use axum::extract::State;
use axum::response::Response;
use messenger_proto::error::ErrorCode;
use messenger_proto::ids::StoreId;
use messenger_proto::meta::{ClusterState, JoinNode, MetaCommand, NodeInfo, NodeState};
use std::str::FromStr;
use std::sync::Arc;

/// Reads a field, or takes note of what is wrong with it.
fn read<T: FromStr>(errors: &mut Vec<FieldError>, field: &str, text: &str, must_be: &'static str) -> Option<T> {
    let value = text.parse().ok();
    if value.is_none() {
        errors.push(FieldError::new(field, must_be));
    }
    value
}

fn command(body: &[u8]) -> Result<JoinNode, Problem> {
    let malformed = |error: serde_json::Error| {
        ApiError::new(ErrorCode::InvalidRequest, format!("The body is not a node's request to join: {error}"))
    };
    let asked: JoinRequest = serde_json::from_slice(body).map_err(malformed)?;
    let mut errors = Vec::new();
    let id = "must be 32 hexadecimal digits";
    let cluster = read(&mut errors, "cluster_id", &asked.cluster_id, id);
    let store = read(&mut errors, "store_id", &asked.store_id, id);
    let mut address = |field: &str, text: &str| {
        let read: Option<Address> = read(&mut errors, field, text, "must be a host and a port");
        read.map(|address| address.to_string())
    };
    let client = address("client_addr", &asked.client_addr);
    let peer = address("peer_addr", &asked.peer_addr);
    let admin = address("admin_addr", &asked.admin_addr);
    match (cluster, store, client, peer, admin) {
        (Some(cluster), Some(store), Some(client_addr), Some(peer_addr), Some(admin_addr)) => {
            Ok(JoinNode { cluster, store, zone: asked.zone, client_addr, peer_addr, admin_addr })
        }
        _ => Err(ApiError::fields(errors).into()),
    }
}

fn view(state: &ClusterState, store: StoreId) -> Result<Response, Problem> {
    let this = state.node_on(store).ok_or_else(|| ApiError::internal("a node that joined is not in the record"))?;
    let peer = |node: &NodeInfo| JoinPeer {
        id: node.id.0,
        peer_addr: node.peer_addr.clone(),
        store_id: node.store.map(|store| store.to_string()),
    };
    let present = state.nodes.iter().filter(|node| node.state != NodeState::Removed);
    json(&JoinAnswer { node_id: this.id.0, nodes: present.map(peer).collect() })
}

/// `POST /admin/nodes`
pub(super) async fn join(State(office): State<Arc<Office>>, body: Bytes) -> Result<Response, Problem> {
    let command = command(&body)?;
    let (store, deadline) = (command.store, Office::deadline());
    office.meta.decide(MetaCommand::Join(command), deadline).await?;
    view(&office.meta.record(deadline).await?, store)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_that_is_wrong_with_a_request_is_named() {
        let good = serde_json::json!({
            "cluster_id": "01".repeat(16), "store_id": "02".repeat(16), "zone": "b",
            "client_addr": "node-4.example:1", "peer_addr": "[::1]:2", "admin_addr": "10.0.0.4:3",
        });
        let read = command(good.to_string().as_bytes()).unwrap();
        assert_eq!((read.store, read.addresses()), (StoreId([2; 16]), ["node-4.example:1", "[::1]:2", "10.0.0.4:3"]));
        let mut bad = good.clone();
        bad["store_id"] = "02".into();
        bad["peer_addr"] = "here".into();
        let error = command(bad.to_string().as_bytes()).unwrap_err().0;
        assert_eq!(error.code(), ErrorCode::InvalidRequest);
        let mut more = good;
        more["surprise"] = 1.into();
        assert!(command(more.to_string().as_bytes()).is_err() && command(b"{").is_err());
    }
}
