//! The service other nodes call.
//!
//! Owns: the listener, and who gets past the handshake to which part of the transport.
//! Must not know: what calls do.
//! Invariants: every stream is checked for the caller's identity before a byte of it is read; a refusal is logged once
//! per reason; everything ends when the server does.

use super::config::{MESSAGE_MAX, TransportConfig};
use super::identity::{Mismatch, Peers};
use super::inbound::{Answers, Inbound};
use super::listen::incoming;
use super::port::{Groups, LinkHandler};
use super::refusals::Refusals;
use super::snapshot_in;
use super::subscribe;
use super::tls::Caller;
use crate::clock::HybridClock;
use crate::types::Identity;
use futures_util::stream::BoxStream;
use futures_util::{Stream, StreamExt};
use messenger_proto::ids::{Millis, NodeId, ShardId};
use messenger_proto::rpc::pb;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::runtime::Handle;
use tokio::sync::{Semaphore, mpsc, watch};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status, Streaming};

/// Streams of one connection: the lanes, a subscription per shard, a snapshot.
const STREAMS_MAX: u32 = 20_000;
/// How long open streams may take to wind down.
const WIND_DOWN: Duration = Duration::from_secs(2);
/// A subscriber names its shard within this.
const FIRST_REQUEST: Duration = Duration::from_secs(5);

/// Serving failed.
#[derive(Debug, thiserror::Error)]
#[error("the peer listener failed: {0}")]
pub struct ServeError(String);

/// Answers other nodes.
pub struct PeerServer<G: Groups, H: LinkHandler> {
    identity: Identity,
    clock: HybridClock,
    peers: watch::Receiver<Arc<Peers>>,
    groups: Arc<G>,
    handler: Arc<H>,
    config: TransportConfig,
    snapshots: Semaphore,
    refused: Arc<Refusals>,
    stop: CancellationToken,
}

impl<G: Groups, H: LinkHandler> std::fmt::Debug for PeerServer<G, H> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PeerServer").field("identity", &self.identity).finish_non_exhaustive()
    }
}

impl<G: Groups, H: LinkHandler> PeerServer<G, H> {
    /// A server for these groups, and this handler for everything else.
    #[must_use]
    pub fn new(
        identity: Identity,
        clock: HybridClock,
        peers: watch::Receiver<Arc<Peers>>,
        groups: Arc<G>,
        handler: Arc<H>,
        config: TransportConfig,
    ) -> Self {
        Self {
            identity,
            clock,
            peers,
            groups,
            handler,
            config,
            snapshots: Semaphore::new(1),
            refused: Arc::default(),
            stop: CancellationToken::new(),
        }
    }

    /// Serves until `stop` is set, then winds down within two seconds.
    ///
    /// # Errors
    /// [`ServeError`] when the listener fails.
    pub async fn serve(mut self, listener: TcpListener, stop: CancellationToken) -> Result<(), ServeError> {
        self.stop = stop.clone();
        let (config, refused) = (self.config.clone(), Arc::clone(&self.refused));
        let service = pb::peer_server::PeerServer::new(self)
            .max_decoding_message_size(MESSAGE_MAX)
            .max_encoding_message_size(MESSAGE_MAX);
        let serving = tonic::transport::Server::builder()
            .initial_stream_window_size(config.lane_window)
            .initial_connection_window_size(config.connection_window)
            .max_concurrent_streams(STREAMS_MAX)
            .http2_keepalive_interval(Some(config.keepalive_interval))
            .http2_keepalive_timeout(Some(config.keepalive_timeout))
            .serve_with_incoming_shutdown(
                service,
                incoming(listener, &config, refused),
                stop.clone().cancelled_owned(),
            );
        let overdue = async {
            stop.cancelled().await;
            tokio::time::sleep(WIND_DOWN).await;
        };
        tokio::select! {
            served = serving => served.map_err(|error| ServeError(error.to_string())),
            () = overdue => Ok(()),
        }
    }

    fn admit<T>(&self, request: &Request<T>) -> Result<NodeId, Status> {
        let peers = self.peers.borrow().clone();
        let checked = self.identity.verify(request.metadata(), &peers);
        checked.and_then(|node| self.certified(request, node)).map_err(|mismatch| self.refuse(&mismatch))
    }

    /// Whether the connection's certificate lets its caller be who it says.
    fn certified<T>(&self, request: &Request<T>, node: NodeId) -> Result<NodeId, Mismatch> {
        let caller = request.extensions().get::<Caller>();
        let may = caller.is_some_and(|caller| caller.may_be(self.identity.cluster, node));
        may.then_some(node).ok_or(Mismatch::Certificate(node))
    }

    fn refuse(&self, mismatch: &Mismatch) -> Status {
        self.refused.note("hello", &mismatch.to_string());
        mismatch.status()
    }

    /// A token that is set when the stream's response is dropped or the server stops.
    fn tie<S: Stream + Send + 'static>(&self, stream: S) -> (BoxStream<'static, S::Item>, CancellationToken) {
        let closed = self.stop.child_token();
        let guard = closed.clone().drop_guard();
        let tied = stream.take_until(closed.clone().cancelled_owned()).map(move |item| {
            let _alive = &guard;
            item
        });
        (tied.boxed(), closed)
    }
}

#[tonic::async_trait]
impl<G: Groups, H: LinkHandler> pb::peer_server::Peer for PeerServer<G, H> {
    type LinkStream = BoxStream<'static, Result<pb::Frames, Status>>;
    type SubscribeStream = BoxStream<'static, Result<pb::StreamItems, Status>>;

    async fn handshake(&self, request: Request<pb::Hello>) -> Result<Response<pb::Hello>, Status> {
        let peers = self.peers.borrow().clone();
        let checked = self.identity.check(request.get_ref(), &peers, None);
        let node = checked.and_then(|(node, _)| self.certified(&request, node));
        let node = node.map_err(|mismatch| self.refuse(&mismatch))?;
        let hello = request.into_inner();
        self.clock.observe(node, Millis(hello.clock_ms), Millis(hello.wall_ms));
        Ok(Response::new(self.identity.hello(&self.clock)))
    }

    async fn link(&self, request: Request<Streaming<pb::Frames>>) -> Result<Response<Self::LinkStream>, Status> {
        let from = self.admit(&request)?;
        let (answers, messages) = Answers::new(&self.config, self.clock.clone());
        let (messages, closed) = self.tie(messages.map(Ok));
        let inbound = Inbound::new(
            from,
            self.groups.clone(),
            self.handler.clone(),
            self.clock.clone(),
            answers,
            Handle::current(),
            &self.config,
        );
        tokio::spawn(inbound.run(request.into_inner(), closed));
        Ok(Response::new(messages))
    }

    async fn snapshot(
        &self,
        request: Request<Streaming<pb::SnapshotChunk>>,
    ) -> Result<Response<pb::SnapshotDone>, Status> {
        self.admit(&request)?;
        let busy = |_| Status::resource_exhausted("another snapshot is under way");
        let _turn = self.snapshots.try_acquire().map_err(busy)?;
        let received = snapshot_in::receive(&*self.groups, request.into_inner(), self.config.snapshot_stall);
        let stopped = || Status::unavailable("the node is stopping");
        let done = self.stop.run_until_cancelled(received).await.ok_or_else(stopped)??;
        Ok(Response::new(done))
    }

    async fn subscribe(
        &self,
        request: Request<Streaming<pb::SubscribeRequest>>,
    ) -> Result<Response<Self::SubscribeStream>, Status> {
        let from = self.admit(&request)?;
        let mut requests = request.into_inner();
        let late = |_| Status::deadline_exceeded("no shard was named");
        let first = timeout(FIRST_REQUEST, requests.message()).await.map_err(late)??;
        let first = first.ok_or_else(|| Status::invalid_argument("no shard was named"))?;
        let (changes, wanted) = mpsc::channel(subscribe::CHANGES);
        let items = self.handler.subscribe(from, ShardId(first.shard), wanted).map_err(Status::failed_precondition)?;
        let (messages, closed) = self.tie(subscribe::messages(items, &self.config));
        tokio::spawn(subscribe::take_changes(first.interest, requests, changes, closed));
        Ok(Response::new(messages))
    }
}
