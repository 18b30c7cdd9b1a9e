//! What this node does when another asks.
//!
//! Owns: the decoding of calls and their way to the groups, the session registry and the sockets.
//! Must not know: how calls travel.
//! Invariants: bytes that are no call get an error and nothing else happens.

use crate::readiness::Readiness;
use bytes::Bytes;
use messenger_proto::audit::{AuditPage, AuditQuery, SendersAnswer, SendersQuery};
use messenger_proto::ephemeral::{EphemeralItems, PresenceAnswer, PresenceCall};
use messenger_proto::error::{ErrorCode, Refusal};
use messenger_proto::ids::{NodeId, ShardId, Term};
use messenger_proto::rpc::{
    ForgetDevice, ForgetUser, InterestChange, NodeCall, NodeStatus, Redirect, RegisterSession, SessionCall,
    SessionOutcome, ShardCall, ShardOutcome, ShardRequest, StreamItem,
};
use messenger_proto::wire::Wire;
use messenger_raft::group::host::Host;
use messenger_raft::group::outcome::Lost;
use messenger_raft::group::replica::Replica;
use messenger_raft::transport::{LinkHandler, Method};
use messenger_raft::types::{GroupId, META_GROUP};
use std::sync::Arc;
use tokio::runtime::Handle;
use tokio::sync::mpsc;

/// No message at all.
const UNREADABLE: &[u8] = &[0xff];

/// What the node does with calls that no group answers.
pub trait Sessions: Send + Sync + 'static {
    /// Registers or unregisters a connection; this node leads its user's shard, in this term.
    fn session(&self, shard: ShardId, term: Term, call: SessionCall) -> SessionOutcome;
    /// Says who is there; this node leads the shard, in this term.
    fn presence(&self, shard: ShardId, term: Term, call: PresenceCall) -> PresenceAnswer;
    /// Closes a connection that a newer one of its device replaced.
    fn close_replaced(&self, session: RegisterSession);
    /// Shows what another node tells to whom it concerns here.
    fn hear(&self, items: EphemeralItems);
    /// What is known of a device is out of date.
    fn forget_device(&self, device: ForgetDevice);
    /// What is known of a user's devices is out of date.
    fn forget_user(&self, user: ForgetUser);
    /// Records of writes that this node took, unless they can't be read. Reads files.
    fn audit(&self, query: &AuditQuery) -> Option<AuditPage>;
    /// Who sends the most through this node.
    fn senders(&self, query: &SendersQuery) -> SendersAnswer;
}

/// The handler of a node; cheap to clone.
#[derive(Clone)]
pub struct NodeHandler {
    host: Host,
    sessions: Arc<dyn Sessions>,
    readiness: Readiness,
    /// Where queries from other nodes run.
    queries: Handle,
}

impl NodeHandler {
    /// A handler over the node's groups and sessions. Queries from other nodes run on `queries`: they read storage, which
    /// the few threads of consensus have no time for.
    #[must_use]
    pub fn new(host: Host, sessions: Arc<dyn Sessions>, readiness: Readiness, queries: Handle) -> Self {
        Self { host, sessions, readiness, queries }
    }

    /// The node's groups.
    #[must_use]
    pub fn host(&self) -> &Host {
        &self.host
    }

    /// Carries out a call to a shard.
    pub async fn shard_call(&self, request: ShardRequest) -> ShardOutcome {
        let shard = request.shard;
        if !matches!(request.call, ShardCall::Session(_) | ShardCall::Presence(_)) {
            return self.group_call(GroupId::of_shard(shard), &request).await;
        }
        let Some(replica) = self.host.shard(shard) else {
            return ShardOutcome::Redirect(Redirect { leader: None });
        };
        match (request.call, replica.leading_term()) {
            (ShardCall::Session(call), Some(term)) => ShardOutcome::Session(self.sessions.session(shard, term, call)),
            (ShardCall::Presence(call), Some(term)) => {
                ShardOutcome::Presence(self.sessions.presence(shard, term, call))
            }
            _ => ShardOutcome::Redirect(Redirect { leader: replica.leader() }),
        }
    }

    async fn group_call(&self, group: GroupId, request: &ShardRequest) -> ShardOutcome {
        let unknown = |Lost(why)| ShardOutcome::Refused(Refusal::new(ErrorCode::OutcomeUnknown, why));
        self.host.call(group, request).await.unwrap_or_else(unknown)
    }

    /// Carries out a call to the node itself and says what there is to say.
    pub async fn node_call(&self, call: NodeCall) -> Bytes {
        match call {
            NodeCall::CloseReplaced(session) => {
                self.sessions.close_replaced(session);
                Bytes::new()
            }
            NodeCall::Ephemeral(items) => {
                self.sessions.hear(items);
                Bytes::new()
            }
            NodeCall::ForgetDevice(device) => {
                self.sessions.forget_device(device);
                Bytes::new()
            }
            NodeCall::ForgetUser(user) => {
                self.sessions.forget_user(user);
                Bytes::new()
            }
            NodeCall::Audit(query) => {
                let sessions = Arc::clone(&self.sessions);
                let page = self.queries.spawn_blocking(move || sessions.audit(&query)).await.ok().flatten();
                // What nobody takes for a page counts as no answer.
                page.map_or(Bytes::from_static(UNREADABLE), |page| page.to_wire().into())
            }
            NodeCall::Senders(query) => self.sessions.senders(&query).to_wire().into(),
            NodeCall::Members(query) => {
                let Some(replica) = self.host.shard(query.shard) else { return Bytes::from_static(UNREADABLE) };
                let members = replica.confirmed_members().await;
                members.map_or(Bytes::from_static(UNREADABLE), |members| members.to_wire().into())
            }
            NodeCall::Status(_) => {
                let replicas = self.host.replicas().iter().map(Replica::status).collect();
                let status = NodeStatus {
                    node: self.host.node(),
                    ready: self.readiness.why_not().is_none(),
                    replicas,
                    short_of_disk: self.host.short_of_disk(),
                    draining: self.readiness.is_draining(),
                    sending: self.host.sending(),
                };
                status.to_wire().into()
            }
        }
    }
}

impl LinkHandler for NodeHandler {
    async fn handle(&self, from: NodeId, method: Method, group: GroupId, body: Bytes) -> Result<Bytes, String> {
        let unreadable = |error: messenger_proto::wire::WireError| format!("unreadable call from node {from}: {error}");
        match method {
            Method::Shard => {
                let request = ShardRequest::decode_from(body).map_err(unreadable)?;
                if !matches!(request.call, ShardCall::Query(_)) {
                    return Ok(self.shard_call(request).await.to_wire().into());
                }
                let handler = self.clone();
                let answer = self.queries.spawn(async move { handler.shard_call(request).await.to_wire().into() });
                answer.await.map_err(|error| format!("the query was not answered: {error}"))
            }
            Method::Admin => {
                let request = ShardRequest::decode_from(body).map_err(unreadable)?;
                Ok(self.group_call(META_GROUP, &request).await.to_wire().into())
            }
            Method::Node => {
                let call = NodeCall::decode_from(body).map_err(unreadable)?;
                Ok(self.node_call(call).await)
            }
            other => Err(format!("{other:?} for group {group} is not a call to a node")),
        }
    }

    fn subscribe(
        &self,
        _from: NodeId,
        shard: ShardId,
        changes: mpsc::Receiver<InterestChange>,
    ) -> Result<mpsc::Receiver<StreamItem>, String> {
        self.host.follow(shard, changes).ok_or_else(|| format!("shard {shard} has no replica here"))
    }
}
