//! The operator's listener.
//!
//! Owns: cluster status, metrics and probes for operators, the audit log, who sends how much, reports, suspending users,
//! and taking nodes in and letting them go; never reachable through the client listener.
//! Must not know: client routes or tokens.
//! Invariants: what an operator changes or looks at is in the audit log, with where the request came from and the name
//! its operator goes by; the listener asks for no credential, so that name is only what it says (see README: a private
//! network).

mod answer;
mod audit;
mod leaving;
mod moves;
mod nodes;
mod progress;
mod recorded;
mod reports;
mod senders;
pub mod status;
mod users;

use crate::audit::Audit;
use crate::auth::Clock;
use crate::gateway::Revocations;
use crate::rpc::meta::MetaClient;
use crate::rpc::transport::NodeTransport;
use axum::extract::{DefaultBodyLimit, State};
use axum::http::{StatusCode, header};
use axum::middleware::from_fn_with_state;
use axum::response::IntoResponse;
use axum::routing::{get, post};
use futures_util::future::join_all;
use messenger_proto::ids::{Millis, NodeId};
use messenger_proto::meta::{ClusterState, NodeState};
use messenger_proto::rpc::NodeCall;
use messenger_proto::wire::Wire;
use messenger_router::Router;
use metrics_exporter_prometheus::PrometheusHandle;
use status::StatusSource;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::{Instant, timeout};

/// How long what an operator asks for may take.
const DEADLINE: Duration = Duration::from_secs(5);
/// How long a node may take to answer.
const NODE_WITHIN: Duration = Duration::from_millis(1_900);

/// Bytes of a request's body at most.
const BODY_MAX: usize = 16 << 10;

/// What the operator's routes need.
#[derive(Clone)]
pub struct AdminState {
    /// Where cluster status comes from.
    pub status: Arc<StatusSource>,
    /// Renders this node's metrics.
    pub metrics: PrometheusHandle,
    /// The way to everything else.
    pub office: Arc<Office>,
}

/// The way to what nodes and shards know.
pub struct Office {
    /// To every node.
    pub transport: NodeTransport,
    /// Which nodes and shards there are.
    pub record: watch::Receiver<Arc<ClusterState>>,
    /// To every shard.
    pub router: Router,
    /// To the cluster's record.
    pub meta: MetaClient,
    /// What this node believes of users, and the way to have all nodes ask again.
    pub revocations: Revocations,
    /// Where what operators do is recorded.
    pub audit: Audit,
    /// What time it is.
    pub clock: Clock,
}

impl Office {
    fn now(&self) -> Millis {
        (self.clock)()
    }

    fn deadline() -> Instant {
        Instant::now() + DEADLINE
    }

    /// Asks every node of the cluster at once; those that did not answer beside the answers, both in order of id.
    async fn ask_all<T: Wire>(&self, call: impl Fn(NodeId) -> NodeCall) -> (Vec<(NodeId, T)>, Vec<NodeId>) {
        let nodes: Vec<NodeId> = {
            let record = self.record.borrow();
            record.nodes.iter().filter(|node| node.state != NodeState::Removed).map(|node| node.id).collect()
        };
        let ask = |node: NodeId| {
            let call = call(node);
            async move { timeout(NODE_WITHIN, self.transport.tell(node, call)).await.ok()?.ok() }
        };
        let answers = join_all(nodes.iter().copied().map(ask)).await;
        let (mut answered, mut silent) = (Vec::new(), Vec::new());
        for (node, answer) in nodes.into_iter().zip(answers) {
            match answer.and_then(|bytes| T::decode_from(bytes).ok()) {
                Some(answer) => answered.push((node, answer)),
                None => silent.push(node),
            }
        }
        (answered, silent)
    }
}

/// The operator's routes.
pub fn routes(state: AdminState) -> axum::Router {
    let office = axum::Router::new()
        .route("/admin/audit", get(audit::page))
        .route("/admin/nodes", post(nodes::join).layer(DefaultBodyLimit::max(BODY_MAX)))
        .route("/admin/nodes/{node_id}/drain", post(leaving::drain))
        .route("/admin/nodes/{node_id}/undrain", post(leaving::undrain))
        .route("/admin/nodes/{node_id}/remove", post(leaving::remove))
        .route("/admin/nodes/{node_id}/replace", post(leaving::replace))
        .route("/admin/moves", get(moves::planned))
        .route("/admin/moves/pause", post(moves::pause))
        .route("/admin/moves/resume", post(moves::resume))
        .route("/admin/moves/rebalance", post(moves::rebalance))
        .route("/admin/shards/{shard_id}/cancel", post(moves::cancel))
        .route("/admin/shards/{shard_id}/transfer", post(moves::transfer))
        .route("/admin/senders", get(senders::top))
        .route("/admin/reports", get(reports::page))
        .route("/admin/users/{user_id}", get(users::show))
        .route("/admin/users/{user_id}/suspend", post(users::suspend))
        .route("/admin/users/{user_id}/unsuspend", post(users::unsuspend))
        .route("/admin/users/{user_id}/devices/{device_id}/suspend", post(users::suspend))
        .route("/admin/users/{user_id}/devices/{device_id}/unsuspend", post(users::unsuspend))
        .route_layer(from_fn_with_state(Arc::clone(&state.office), recorded::record))
        .with_state(Arc::clone(&state.office));
    axum::Router::new()
        .route("/v1/cluster/status", get(cluster_status))
        .route("/metrics", get(metrics))
        .route("/livez", get(|| async { StatusCode::OK }))
        .route("/readyz", get(ready))
        .with_state(state)
        .merge(office)
}

async fn cluster_status(State(state): State<AdminState>) -> impl IntoResponse {
    axum::Json(state.status.collect().await)
}

async fn metrics(State(state): State<AdminState>) -> impl IntoResponse {
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], state.metrics.render())
}

async fn ready(State(state): State<AdminState>) -> impl IntoResponse {
    match state.status.why_not_ready() {
        None => (StatusCode::OK, "ready\n".to_owned()),
        Some(why) => (StatusCode::SERVICE_UNAVAILABLE, format!("{why}\n")),
    }
}
