//! How a new node becomes one of a cluster.
//!
//! Owns: asking any node of the cluster for an id, from a data directory that is nobody's yet.
//! Must not know: by which rules nodes are taken in, or what this one will hold.
//! Invariants: the data directory's own id is on disk before anyone is asked, and the answer depends on it alone: a node
//! that is killed at any moment asks again and is given what it was given, and a directory that was wiped gets another id.
//! The directory becomes the node's only after the cluster has taken note of it.

use super::BootError;
use crate::config::{Config, PeerConfig};
use crate::operator_api::{JoinAnswer, JoinPeer, JoinRequest};
use bytes::Bytes;
use messenger_client::{Answer, Call, Connection, Problem, ServerUrl, Trust};
use messenger_proto::ids::{NodeId, StoreId};
use messenger_raft::transport::{Peer, Peers};
use std::time::Duration;
use tokio::time::{Instant, sleep, timeout};

/// How long a node goes on asking while nobody answers.
const JOIN_WITHIN: Duration = Duration::from_mins(1);
/// One try.
const TRY_WITHIN: Duration = Duration::from_secs(8);
/// Between two tries.
const PAUSE: Duration = Duration::from_millis(250);

/// Asks until there is an answer; the node's id, and who else there is.
///
/// # Errors
/// [`BootError::Refused`] when the cluster takes no such node, [`BootError::Unreachable`] when nobody answers in time.
pub(super) async fn ask(
    admin: &ServerUrl,
    config: &Config,
    this: &PeerConfig,
    store: StoreId,
) -> Result<(NodeId, Peers), BootError> {
    let request = JoinRequest {
        cluster_id: config.cluster_id()?.to_string(),
        store_id: store.to_string(),
        zone: this.zone.clone(),
        client_addr: this.client_addr.to_string(),
        peer_addr: this.peer_addr.to_string(),
        admin_addr: this.admin_addr.to_string(),
    };
    let admin = &believed(admin, config)?;
    let body = serde_json::to_vec(&request).map_err(|error| BootError::Runtime(error.to_string()))?;
    let call = Call::new(http::Method::POST, "/admin/nodes").body(body);
    tracing::info!(%admin, "asking to join the cluster");
    let deadline = Instant::now() + JOIN_WITHIN;
    loop {
        let why = match attempt(admin, &call).await {
            Ok(answer) => match read(&answer)? {
                Ok(joined) => return Ok(joined),
                Err(why) => why,
            },
            Err(why) => why,
        };
        if Instant::now() >= deadline {
            return Err(BootError::Unreachable(format!("cannot join the cluster: {admin}: {why}")));
        }
        tracing::info!(%admin, why, "no answer yet");
        sleep(PAUSE).await;
    }
}

/// The nodes' own authorities are believed, if there are any: who has them vouch for nodes has them do so for operators'
/// listeners too.
fn believed(admin: &ServerUrl, config: &Config) -> Result<ServerUrl, BootError> {
    let Some(files) = &config.tls.peer else { return Ok(admin.clone()) };
    let unusable = |why: String| BootError::Config(format!("tls: {}: {why}", files.ca.display()));
    let pem = std::fs::read(&files.ca).map_err(|error| unusable(error.to_string()))?;
    Ok(admin.clone().trusting(&Trust::only(&pem).map_err(|error| unusable(error.to_string()))?))
}

async fn attempt(admin: &ServerUrl, call: &Call) -> Result<Answer, String> {
    let exchange = async {
        let mut connection = Connection::open(admin, TRY_WITHIN).await?;
        connection.exchange(call).await
    };
    let answer = timeout(TRY_WITHIN, exchange).await;
    answer.map_err(|_| format!("nothing within {} s", TRY_WITHIN.as_secs()))?.map_err(|error| error.to_string())
}

/// What an answer says: an id; or that it may be another one later.
fn read(answer: &Answer) -> Result<Result<(NodeId, Peers), String>, BootError> {
    if answer.is_success() {
        return joined(&answer.body).map(Ok);
    }
    if answer.status == http::StatusCode::NOT_FOUND.as_u16() {
        let advice = "it answers, but takes in no nodes: name a node's admin_addr with --join, not its client_addr";
        return Err(BootError::Refused(advice.into()));
    }
    let problem = Problem::from_answer(answer.status, None, &answer.body);
    if problem.retryable() {
        return Ok(Err(problem.to_string()));
    }
    let fields = problem.errors.iter().map(|error| format!("; {}: {}", error.field, error.message));
    let said = if problem.detail.is_empty() { &problem.title } else { &problem.detail };
    Err(BootError::Refused(format!("{said}{}", fields.collect::<String>()).replace('\n', " ")))
}

fn joined(body: &Bytes) -> Result<(NodeId, Peers), BootError> {
    let unreadable = || BootError::Refused("it answers something else: is it a node's admin_addr?".into());
    let answer: JoinAnswer = serde_json::from_slice(body).map_err(|_| unreadable())?;
    let peer = |peer: JoinPeer| {
        let store = peer.store_id.map(|id| id.parse()).transpose().map_err(|_| unreadable())?;
        Ok((NodeId(peer.id), Peer { addr: peer.peer_addr, store }))
    };
    let peers = answer.nodes.into_iter().map(peer).collect::<Result<_, BootError>>()?;
    if answer.node_id == 0 {
        return Err(unreadable());
    }
    Ok((NodeId(answer.node_id), peers))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(status: u16, body: &str) -> Answer {
        Answer { status, headers: http::HeaderMap::new(), body: Bytes::copy_from_slice(body.as_bytes()) }
    }

    #[test]
    fn an_answer_gives_an_id_or_says_why_not_or_when() {
        let store = "0a".repeat(16);
        let good = format!(
            r#"{{"node_id":4,"nodes":[{{"id":1,"peer_addr":"h:1","store_id":"{store}"}},{{"id":4,"peer_addr":"h:4","store_id":null}}]}}"#
        );
        let (node, peers) = read(&answer(200, &good)).unwrap().unwrap();
        assert_eq!((node, peers[&NodeId(1)].store, peers.len()), (NodeId(4), Some(StoreId([10; 16])), 2));
        let later = answer(503, r#"{"code":"unavailable","title":"Unavailable","detail":"no leader"}"#);
        assert!(read(&later).unwrap().unwrap_err().contains("no leader"));
        for (status, body) in [
            (409, r#"{"code":"conflict","title":"Conflict","detail":"address h:1\nis taken"}"#),
            (400, r#"{"code":"invalid_request","title":"Bad"}"#),
            (404, ""),
            (200, "{}"),
            (200, r#"{"node_id":0,"nodes":[]}"#),
        ] {
            let refused = read(&answer(status, body)).unwrap_err();
            assert!(matches!(&refused, BootError::Refused(line) if !line.contains('\n')), "{refused}");
        }
    }
}
