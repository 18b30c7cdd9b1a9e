//! What the consensus library sends through the links.
//!
//! Owns: which call travels on which lane with which deadline, and what a failed one means to the library.
//! Must not know: sockets, frames, storage.
//! Invariants: replication never delays a heartbeat or a vote; a call that was surely not sent, or was refused, is
//! retried after a pause, one that was lost at once.

use super::codec::{
    Append, AppendResult, decode_append_result, decode_transfer_answer, decode_vote_response, encode_parts,
    encode_transfer, encode_vote_request,
};
use super::lane::LinkError;
use super::links::Links;
use super::method::{Lane, Method};
use super::pipeline::{Pipeline, PipelineError};
use super::snapshot::{self, SendError, SnapshotStore};
use crate::types::{GroupId, TypeConfig, Vote};
use bytes::Bytes;
use futures_util::{FutureExt, Stream, StreamExt, stream};
use messenger_proto::ids::NodeId;
use messenger_proto::wire::WireError;
use openraft::base::{BoxFuture, BoxStream};
use openraft::errors::{NetworkError, RPCError, ReplicationClosed, StreamingError, Timeout, Unreachable};
use openraft::network::{Backoff, RPCOption, RPCTypes, RaftNetworkFactory, RaftNetworkV2};
use openraft::raft::{
    AppendEntriesResponse, SnapshotResponse, StreamAppendError, TransferLeaderRequest, TransferLeaderResponse,
    VoteRequest, VoteResponse,
};
use openraft::storage::Snapshot;
use openraft::type_config::alias::SnapshotOf;
use openraft::{BasicNode, OptionalSend};
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

type RpcError = RPCError<TypeConfig>;

/// Pauses after a peer could not be reached; a peer that is back is found within the last.
const PAUSES_MS: [u64; 3] = [50, 100, 200];

/// Makes the clients of one group; clones are the same.
#[derive(Debug)]
pub struct GroupNetwork<S> {
    links: Links,
    group: GroupId,
    snapshots: Arc<S>,
}

impl<S> Clone for GroupNetwork<S> {
    fn clone(&self) -> Self {
        Self { links: self.links.clone(), group: self.group, snapshots: self.snapshots.clone() }
    }
}

impl<S> GroupNetwork<S> {
    /// The network of `group`, over these links; `snapshots` turns the group's snapshots into chunks.
    #[must_use]
    pub fn new(links: Links, group: GroupId, snapshots: Arc<S>) -> Self {
        Self { links, group, snapshots }
    }

    fn client(&self, target: u64, lane: Lane) -> Network<S> {
        Network {
            links: self.links.clone(),
            group: self.group,
            snapshots: self.snapshots.clone(),
            target: NodeId(target),
            lane,
        }
    }
}

impl<S: SnapshotStore> RaftNetworkFactory<TypeConfig> for GroupNetwork<S> {
    type Network = Network<S>;

    async fn new_client(&mut self, target: u64, _: &BasicNode) -> Network<S> {
        self.client(target, Lane::Bulk)
    }

    async fn new_heartbeat_client(&mut self, target: u64, _: &BasicNode) -> Network<S> {
        self.client(target, Lane::Priority)
    }
}

/// One group's client of one peer.
#[derive(Debug)]
pub struct Network<S> {
    links: Links,
    group: GroupId,
    snapshots: Arc<S>,
    target: NodeId,
    /// Where appends travel; votes always take the priority lane.
    lane: Lane,
}

impl<S> Network<S> {
    async fn urgent(&self, method: Method, body: Bytes, kind: RPCTypes, time: Duration) -> Result<Bytes, RpcError> {
        let deadline = Instant::now() + time;
        let result = self.links.call(self.target, Lane::Priority, method, self.group, body, deadline).await;
        result.map_err(|error| match error {
            LinkError::Lost(_) if Instant::now() >= deadline => RPCError::Timeout(Timeout {
                action: kind,
                id: self.links.local().0,
                target: self.target.0,
                timeout: time,
            }),
            error => rpc_error(&error),
        })
    }

    /// One append by itself: a heartbeat, or what would be the only one of its stream.
    async fn lone_append(&self, request: &Append, time: Duration) -> Result<(AppendResult, bool), RpcError> {
        let mut parts = encode_parts(0, request, self.links.config().append_bytes);
        let whole = parts.len() == 1;
        let first = parts.swap_remove(0);
        let body = self.urgent(Method::Heartbeat, first, RPCTypes::AppendEntries, time).await?;
        Ok((decode_append_result(body).map_err(|error| malformed(&error))?, whole))
    }
}

fn rpc_error(error: &LinkError) -> RpcError {
    match error {
        LinkError::NotSent(_) | LinkError::Busy(_) | LinkError::Refused(_) => Unreachable::from_string(error).into(),
        LinkError::Lost(_) => NetworkError::from_string(error).into(),
    }
}

fn malformed(error: &WireError) -> RpcError {
    NetworkError::from_string(error).into()
}

impl<S: SnapshotStore> RaftNetworkV2<TypeConfig> for Network<S> {
    type SnapshotData = S::Data;

    async fn append_entries(
        &mut self,
        rpc: Append,
        option: RPCOption,
    ) -> Result<AppendEntriesResponse<TypeConfig>, RpcError> {
        Ok(match self.lone_append(&rpc, option.soft_ttl()).await? {
            (Ok(_), true) => AppendEntriesResponse::Success,
            (Ok(matched), false) => AppendEntriesResponse::PartialSuccess(matched),
            (Err(StreamAppendError::Conflict(_)), _) => AppendEntriesResponse::Conflict,
            (Err(StreamAppendError::HigherVote(vote)), _) => AppendEntriesResponse::HigherVote(vote),
        })
    }

    fn stream_append<'s, I>(
        &'s mut self,
        input: I,
        option: RPCOption,
    ) -> BoxFuture<'s, Result<BoxStream<'s, Result<AppendResult, RpcError>>, RpcError>>
    where
        I: Stream<Item = Append> + OptionalSend + Unpin + 'static,
    {
        let results: BoxStream<'s, _> = match self.lane {
            Lane::Bulk => {
                let (target, local) = (self.target, self.links.local());
                Pipeline::new(self.links.clone(), target, self.group, input)
                    .map(move |result| {
                        result.map_err(|error| match error {
                            PipelineError::Link(error) => rpc_error(&error),
                            PipelineError::Stalled(timeout) => RPCError::Timeout(Timeout {
                                action: RPCTypes::AppendEntries,
                                id: local.0,
                                target: target.0,
                                timeout,
                            }),
                        })
                    })
                    .boxed()
            }
            Lane::Priority | Lane::Calls => one_by_one(self, input, option.soft_ttl()).boxed(),
        };
        async move { Ok(results) }.boxed()
    }

    async fn vote(
        &mut self,
        rpc: VoteRequest<TypeConfig>,
        option: RPCOption,
    ) -> Result<VoteResponse<TypeConfig>, RpcError> {
        let body = encode_vote_request(&rpc);
        let answer = self.urgent(Method::Vote, body, RPCTypes::Vote, option.soft_ttl()).await?;
        decode_vote_response(answer).map_err(|error| malformed(&error))
    }

    async fn pre_vote(
        &mut self,
        rpc: VoteRequest<TypeConfig>,
        option: RPCOption,
    ) -> Result<VoteResponse<TypeConfig>, RpcError> {
        let body = encode_vote_request(&rpc);
        let answer = self.urgent(Method::PreVote, body, RPCTypes::Vote, option.soft_ttl()).await?;
        decode_vote_response(answer).map_err(|error| malformed(&error))
    }

    async fn full_snapshot(
        &mut self,
        vote: Vote,
        snapshot: SnapshotOf<TypeConfig, S::Data>,
        cancel: impl Future<Output = ReplicationClosed> + OptionalSend + 'static,
        _: RPCOption,
    ) -> Result<SnapshotResponse<TypeConfig>, StreamingError<TypeConfig>> {
        let Snapshot { snapshot, .. } = snapshot;
        let sending = snapshot::send(&self.links, self.target, self.group, vote, snapshot, &*self.snapshots);
        tokio::select! {
            closed = cancel => Err(closed.into()),
            sent = sending => match sent {
                Ok(vote) => Ok(SnapshotResponse::new(vote)),
                Err(error) => Err(self.streaming_error(error)),
            }
        }
    }

    async fn transfer_leader(
        &mut self,
        req: TransferLeaderRequest<TypeConfig>,
        option: RPCOption,
    ) -> Result<TransferLeaderResponse<TypeConfig>, RpcError> {
        let body = encode_transfer(&req);
        let answer = self.urgent(Method::TransferLeader, body, RPCTypes::TransferLeader, option.soft_ttl()).await?;
        decode_transfer_answer(answer).map_err(|error| malformed(&error))
    }

    fn backoff(&self) -> Option<Backoff> {
        let pauses = PAUSES_MS.into_iter().chain(std::iter::repeat(PAUSES_MS[PAUSES_MS.len() - 1]));
        Some(Backoff::new(pauses.map(|ms| Duration::from_millis(ms).mul_f64(rand::random_range(0.75..=1.0)))))
    }
}

impl<S> Network<S> {
    fn streaming_error(&self, error: SendError) -> StreamingError<TypeConfig> {
        match error {
            // Such as a change of leader; the store itself reports what is fatal.
            SendError::Source(error) => Unreachable::new(&error).into(),
            SendError::Link(error) => rpc_error(&error).into(),
            SendError::Stalled(timeout) => StreamingError::Timeout(Timeout {
                action: RPCTypes::InstallSnapshot,
                id: self.links.local().0,
                target: self.target.0,
                timeout,
            }),
        }
    }
}

/// Appends that wait for each other; the stream ends as the pipelined one does.
fn one_by_one<S, I>(
    network: &Network<S>,
    input: I,
    time: Duration,
) -> impl Stream<Item = Result<AppendResult, RpcError>> + Send + '_
where
    S: SnapshotStore,
    I: Stream<Item = Append> + Send + Unpin + 'static,
{
    stream::unfold(Some(input), move |input| async move {
        let mut input = input?;
        let request = input.next().await?;
        let result = network.lone_append(&request, time).await;
        let goes_on = matches!(result, Ok((Ok(_), true)));
        Some((result.map(|(result, _)| result), goes_on.then_some(input)))
    })
}
