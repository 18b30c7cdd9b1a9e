//! What a connection has under way.
//!
//! Owns: the futures a connection's one task drives beside its socket, and what comes of them.
//! Must not know: what is done about it.

use super::inbound::RequestId;
use super::replay::Answered;
use crate::api::error::ApiError;
use crate::realtime::presence::greeting::Found;
use futures_util::stream::FuturesUnordered;
use messenger_proto::command::CommandResult;
use messenger_proto::ids::ThreadId;
use messenger_proto::query::QueryResult;
use std::future::Future;
use std::pin::Pin;
use tokio::sync::OwnedSemaphorePermit;

/// The futures; each is boxed, so that an idle connection holds none of their state.
pub(super) type Work = FuturesUnordered<Pin<Box<dyn Future<Output = Done> + Send>>>;

/// What a user's shard answered when it was asked for the user's index, how its device stands, and whom the user keeps away.
pub(super) struct Indexed {
    pub(super) index: QueryResult,
    pub(super) status: QueryResult,
    pub(super) blocks: QueryResult,
}

/// What came of one.
pub(super) enum Done {
    /// The connection is registered, or will be tried again elsewhere.
    Registered,
    /// The user's shard was asked.
    Indexed(Box<Indexed>),
    /// The streams carry these threads.
    Listening(Vec<ThreadId>),
    /// Storage was asked.
    Resumed(Answered),
    /// Storage may be asked.
    Turn(Option<OwnedSemaphorePermit>),
    /// A send has ended.
    Sent { thread: ThreadId, bytes: usize, request_id: RequestId, outcome: CommandResult },
    /// Who is there was found out for the so manieth time.
    Greeted(u32, Found),
    /// A read or a delivery was noted, or not.
    Noted { request_id: RequestId, outcome: Result<(), ApiError> },
}
