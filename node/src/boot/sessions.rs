//! Where the two halves of a session meet: the registry at a user's shard leader, and the sockets of this node.
//!
//! Owns: handing calls to either, also while the node is still being put together.
//! Must not know: what a registry or a socket does.

use crate::gateway::Peers;
use crate::realtime::{NodeCaller, Realtime, SessionRegistry};
use crate::rpc::handler::Sessions;
use crate::rpc::transport::NodeTransport;
use futures_util::future::join_all;
use messenger_proto::audit::{AuditPage, AuditQuery, SendersAnswer, SendersQuery};
use messenger_proto::ephemeral::{EphemeralItems, PresenceAnswer, PresenceCall};
use messenger_proto::ids::{NodeId, ShardId, Term};
use messenger_proto::meta::{ClusterState, NodeState};
use messenger_proto::rpc::{ForgetDevice, ForgetUser, NodeCall, RegisterSession, SessionCall, SessionOutcome};
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use tokio::sync::watch;
use tokio::time::{Instant, timeout_at};

/// The node's registry of sessions and the sockets it holds.
#[derive(Default)]
pub struct NodeSessions {
    registry: OnceLock<SessionRegistry>,
    realtime: OnceLock<Realtime>,
}

impl NodeSessions {
    /// Connects both; later calls change nothing.
    pub fn connect(&self, registry: SessionRegistry, realtime: Realtime) {
        let _ = self.registry.set(registry);
        let _ = self.realtime.set(realtime);
    }
}

impl Sessions for NodeSessions {
    fn session(&self, shard: ShardId, term: Term, call: SessionCall) -> SessionOutcome {
        // Before it is connected this node serves nobody, and a gateway elsewhere renews within seconds.
        let (Some(registry), Some(realtime)) = (self.registry.get(), self.realtime.get()) else {
            return SessionOutcome { replaced: false };
        };
        let outcome = registry.handle(shard, call.clone());
        // A connection that another one replaced is not there any more.
        if !outcome.replaced {
            realtime.note(shard, term, &call);
        }
        outcome
    }

    fn presence(&self, shard: ShardId, term: Term, call: PresenceCall) -> PresenceAnswer {
        let nothing = || PresenceAnswer { term, people: Vec::new() };
        self.realtime.get().map_or_else(nothing, |realtime| realtime.presence(shard, term, call))
    }

    fn close_replaced(&self, session: RegisterSession) {
        if let Some(realtime) = self.realtime.get() {
            realtime.close_replaced(&session);
        }
    }

    fn hear(&self, items: EphemeralItems) {
        if let Some(realtime) = self.realtime.get() {
            realtime.hear(items);
        }
    }

    fn forget_device(&self, device: ForgetDevice) {
        if let Some(realtime) = self.realtime.get() {
            realtime.forget_device(&device);
        }
    }

    fn forget_user(&self, user: ForgetUser) {
        if let Some(realtime) = self.realtime.get() {
            realtime.forget_user(&user.user);
        }
    }

    fn audit(&self, query: &AuditQuery) -> Option<AuditPage> {
        let page = self.realtime.get()?.audit().page(query);
        page.inspect_err(|error| tracing::warn!(%error, "the audit log can't be read")).ok()
    }

    fn senders(&self, query: &SendersQuery) -> SendersAnswer {
        self.realtime.get().map_or_else(|| SendersAnswer { senders: Vec::new() }, |realtime| realtime.senders(query))
    }
}

/// Tells the other nodes of the cluster.
pub struct Others {
    /// The way to them.
    pub transport: NodeTransport,
    /// Who they are.
    pub record: watch::Receiver<Arc<ClusterState>>,
    /// This node.
    pub this: NodeId,
}

impl Others {
    fn tell_all(&self, call: NodeCall) -> Pin<Box<dyn Future<Output = ()> + Send + '_>> {
        let nodes: Vec<NodeId> = {
            let record = self.record.borrow();
            let others = record.nodes.iter().filter(|node| node.id != self.this && node.state != NodeState::Removed);
            others.map(|node| node.id).collect()
        };
        Box::pin(async move {
            let tell = |node| self.transport.tell(node, call.clone());
            // Who is not reached asks by itself before long.
            join_all(nodes.into_iter().map(tell)).await;
        })
    }
}

impl Peers for Others {
    fn forget_device(&self, device: ForgetDevice) -> Pin<Box<dyn Future<Output = ()> + Send + '_>> {
        self.tell_all(NodeCall::ForgetDevice(device))
    }

    fn forget_user(&self, user: ForgetUser) -> Pin<Box<dyn Future<Output = ()> + Send + '_>> {
        self.tell_all(NodeCall::ForgetUser(user))
    }
}

/// Reaches other nodes' sockets.
pub struct Caller(pub NodeTransport);

impl NodeCaller for Caller {
    fn call(&self, node: NodeId, call: NodeCall, deadline: Instant) -> Pin<Box<dyn Future<Output = bool> + Send + '_>> {
        Box::pin(async move { matches!(timeout_at(deadline, self.0.tell(node, call)).await, Ok(Ok(_))) })
    }
}
