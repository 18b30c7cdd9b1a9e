//! Keeping connected to one peer.
//!
//! Owns: dialling, the handshake, opening the lanes, noticing the end, and the wait before the next attempt.
//! Must not know: what is called.
//! Invariants: a connection is published only after both ends know each other, and withdrawn before anything else
//! happens to it; attempts never stop while the peer is listed, and never come faster than the backoff.

use super::batch::{BatchLimits, batches};
use super::config::{MESSAGE_MAX, TransportConfig};
use super::identity::{Mismatch, Peer, Peers};
use super::lane::{LaneSender, Outgoing, Pending, lane};
use super::method::Lane;
use super::tls::Wire;
use crate::clock::HybridClock;
use crate::types::Identity;
use hyper_util::rt::TokioIo;
use messenger_proto::ids::{Millis, NodeId, StoreId};
use messenger_proto::rpc::pb;
use messenger_proto::rpc::pb::peer_client::PeerClient;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, watch};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tonic::transport::{Channel, Endpoint, Uri};

/// A connection to a peer, open and identified.
#[derive(Debug)]
pub(crate) struct Connection {
    lanes: [LaneSender; Lane::ALL.len()],
    /// Snapshots and subscriptions travel on a second connection, made when first needed: what is left lying there
    /// fills its window, and must not keep a heartbeat's answer from fitting into this one's.
    pub(crate) streams: PeerClient<Channel>,
    /// Set when the connection has ended.
    pub(crate) ended: CancellationToken,
}

impl Connection {
    pub(crate) fn lane(&self, lane: Lane) -> &LaneSender {
        &self.lanes[lane.index()]
    }
}

/// Where a peer's connection is found while there is one.
pub(crate) type Slot = watch::Sender<Option<Arc<Connection>>>;

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConnectError {
    #[error("the address is not host:port")]
    Address,
    #[error("{0}")]
    Dial(String),
    #[error("TLS: {0}")]
    Tls(String),
    #[error("the peer refuses: {0}")]
    Refused(String),
    #[error(transparent)]
    Mismatch(#[from] Mismatch),
    #[error("no connection in {0:?}")]
    Timeout(Duration),
}

/// What every peer's task shares.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) identity: Identity,
    pub(crate) clock: HybridClock,
    pub(crate) config: TransportConfig,
    pub(crate) peers: watch::Receiver<Arc<Peers>>,
}

/// The task that keeps one peer's connection.
pub(crate) struct Keeper {
    pub(crate) shared: Arc<Shared>,
    pub(crate) node: NodeId,
    pub(crate) peer: watch::Receiver<Peer>,
    pub(crate) slot: Arc<Slot>,
    pub(crate) stop: CancellationToken,
}

/// Withdraws a connection, however its task ends.
struct Published<'a> {
    slot: &'a Slot,
    connection: Arc<Connection>,
    pending: Vec<Arc<Pending>>,
}

impl Drop for Published<'_> {
    fn drop(&mut self) {
        self.slot.send_replace(None);
        self.connection.ended.cancel();
        for lane in &self.connection.lanes {
            lane.close();
        }
        for pending in &self.pending {
            pending.close();
        }
    }
}

impl Keeper {
    pub(crate) async fn run(mut self) {
        let mut failures = 0_u32;
        let mut said = String::new();
        loop {
            let peer = self.peer.borrow_and_update().clone();
            let failed = tokio::select! {
                // First: what else ends with it, as the list of peers does, is no news then.
                biased;
                () = self.stop.cancelled() => return,
                result = self.connect_and_serve(&peer) => result.err(),
            };
            if self.peer.has_changed().is_err() {
                return;
            }
            failures = if failed.is_some() { failures.saturating_add(1) } else { 0 };
            self.report(&peer, failed.as_ref(), &mut said);
            let pause = backoff(failures, self.shared.config.backoff_min, self.shared.config.backoff_max);
            tokio::select! {
                () = self.stop.cancelled() => return,
                changed = self.peer.changed() => if changed.is_err() { return },
                () = tokio::time::sleep(pause) => {}
            }
        }
    }

    /// Says why there is no connection, but not again and again.
    fn report(&self, peer: &Peer, failed: Option<&ConnectError>, said: &mut String) {
        let Some(error) = failed else {
            said.clear();
            return;
        };
        let text = error.to_string();
        if *said == text {
            return;
        }
        let (node, addr) = (self.node, &peer.addr);
        match error {
            ConnectError::Dial(_) | ConnectError::Timeout(_) => {
                tracing::info!(%node, addr, %error, "no connection to the peer");
            }
            ConnectError::Address | ConnectError::Tls(_) | ConnectError::Refused(_) | ConnectError::Mismatch(_) => {
                tracing::error!(%node, addr, %error, "no link with the peer");
            }
        }
        *said = text;
    }

    /// Ends with `Ok` when a connection was there and went.
    async fn connect_and_serve(&self, peer: &Peer) -> Result<(), ConnectError> {
        let limit = self.shared.config.connect_timeout;
        let opened = tokio::select! {
            _ = moved(self.peer.clone(), peer, None) => return Ok(()),
            opened = timeout(limit, self.open(peer)) => opened.map_err(|_| ConnectError::Timeout(limit))??,
        };
        let (published, incoming, store) = opened;
        tracing::debug!(node = %self.node, addr = peer.addr, "connected to the peer");
        let [priority, bulk, calls] = incoming;
        let (clock, node) = (&self.shared.clock, self.node);
        let [first, second, third] = [0, 1, 2].map(|lane: usize| published.pending[lane].clone());
        let why = tokio::select! {
            why = answers(clock, node, priority, &first) => why,
            why = answers(clock, node, bulk, &second) => why,
            why = answers(clock, node, calls, &third) => why,
            why = moved(self.peer.clone(), peer, Some(store)) => why.into(),
        };
        tracing::info!(node = %self.node, addr = peer.addr, why, "the connection to the peer has ended");
        Ok(())
    }

    async fn open(
        &self,
        peer: &Peer,
    ) -> Result<(Published<'_>, [tonic::Streaming<pb::Frames>; Lane::ALL.len()], StoreId), ConnectError> {
        let config = &self.shared.config;
        let channel = self
            .endpoint(&peer.addr, config.lane_window)?
            .connect_with_connector(self.dialer(peer))
            .await
            .map_err(|error| dial_error(&error))?;
        let mut client =
            PeerClient::new(channel).max_decoding_message_size(MESSAGE_MAX).max_encoding_message_size(MESSAGE_MAX);
        let store = self.handshake(&mut client).await?;
        let streams =
            self.endpoint(&peer.addr, config.subscription_window)?.connect_with_connector_lazy(self.dialer(peer));
        let streams =
            PeerClient::new(streams).max_decoding_message_size(MESSAGE_MAX).max_encoding_message_size(MESSAGE_MAX);

        let (senders, queues, pending) = self.lanes();
        let [first, second, third] = queues;
        let incoming = [
            self.open_lane(&mut client, first).await?,
            self.open_lane(&mut client, second).await?,
            self.open_lane(&mut client, third).await?,
        ];
        let connection = Arc::new(Connection { lanes: senders, streams, ended: CancellationToken::new() });
        self.slot.send_replace(Some(connection.clone()));
        Ok((Published { slot: &self.slot, connection, pending }, incoming, store))
    }

    #[allow(clippy::type_complexity)] // three arrays of one thing each, taken apart at once
    fn lanes(&self) -> ([LaneSender; 3], [mpsc::Receiver<Outgoing>; 3], Vec<Arc<Pending>>) {
        let [(a, a_queue, a_pending), (b, b_queue, b_pending), (c, c_queue, c_pending)] =
            Lane::ALL.map(|_| lane(&self.shared.config));
        ([a, b, c], [a_queue, b_queue, c_queue], vec![a_pending, b_pending, c_pending])
    }

    fn endpoint(&self, addr: &str, window: u32) -> Result<Endpoint, ConnectError> {
        let config = &self.shared.config;
        let endpoint = Endpoint::from_shared(format!("http://{addr}")).map_err(|_| ConnectError::Address)?;
        Ok(endpoint
            .connect_timeout(config.connect_timeout)
            .http2_keep_alive_interval(config.keepalive_interval)
            .keep_alive_timeout(config.keepalive_timeout)
            .keep_alive_while_idle(true)
            .initial_stream_window_size(window)
            .initial_connection_window_size(config.connection_window))
    }

    /// Opens connections to the peer, and to nobody else where certificates say who is who.
    fn dialer(
        &self,
        peer: &Peer,
    ) -> impl tower::Service<Uri, Response = TokioIo<Wire>, Error = std::io::Error, Future: Send> + Send + use<> {
        let (addr, node, tls) = (peer.addr.clone(), self.node, self.shared.config.tls.clone());
        tower::service_fn(move |_| {
            let (addr, tls) = (addr.clone(), tls.clone());
            async move { Wire::dial(&addr, node, tls.as_ref()).await.map(TokioIo::new) }
        })
    }

    async fn handshake(&self, client: &mut PeerClient<Channel>) -> Result<StoreId, ConnectError> {
        let shared = &self.shared;
        let theirs = client
            .handshake(shared.identity.hello(&shared.clock))
            .await
            .map_err(|status| ConnectError::Refused(status.message().into()))?
            .into_inner();
        let peers = shared.peers.borrow().clone();
        let (_, store) = shared.identity.check(&theirs, &peers, Some(self.node))?;
        shared.clock.observe(self.node, Millis(theirs.clock_ms), Millis(theirs.wall_ms));
        Ok(store)
    }

    async fn open_lane(
        &self,
        client: &mut PeerClient<Channel>,
        queue: mpsc::Receiver<Outgoing>,
    ) -> Result<tonic::Streaming<pb::Frames>, ConnectError> {
        let shared = &self.shared;
        let messages = batches(queue, shared.clock.clone(), BatchLimits::from(&shared.config));
        let mut request = tonic::Request::new(messages);
        shared.identity.stamp(&shared.clock, request.metadata_mut());
        let response = client.link(request).await.map_err(|status| ConnectError::Refused(status.message().into()))?;
        Ok(response.into_inner())
    }
}

/// Resolves when the peer is listed with another address than it was `then`, with another store than the `connected`
/// one, or not at all any more; says which.
async fn moved(mut listed: watch::Receiver<Peer>, then: &Peer, connected: Option<StoreId>) -> &'static str {
    let moved = listed.wait_for(|now| {
        let same_store = now.store.is_none() || connected.is_none() || now.store == connected;
        now.addr != then.addr || !same_store
    });
    match moved.await {
        Ok(_) => "it has another address or store now",
        Err(_) => "it is not listed any more",
    }
}

/// Hands answers to their callers until the lane ends; says why it did.
async fn answers(
    clock: &HybridClock,
    node: NodeId,
    mut messages: tonic::Streaming<pb::Frames>,
    pending: &Pending,
) -> String {
    loop {
        match messages.message().await {
            Ok(Some(message)) => {
                clock.observe(node, Millis(message.clock_ms), Millis(message.wall_ms));
                for frame in message.frames {
                    pending.complete(frame);
                }
            }
            Ok(None) => return "closed by the peer".into(),
            Err(status) => return status.message().into(),
        }
    }
}

/// The wait before the attempt after `failures`: doubling up to a bound, and less by up to half, at random.
fn backoff(failures: u32, min: Duration, max: Duration) -> Duration {
    let longest = min.saturating_mul(1 << failures.saturating_sub(1).min(16)).min(max);
    longest.mul_f64(rand::random_range(0.5..=1.0))
}

fn of_tls(cause: &(dyn std::error::Error + 'static)) -> bool {
    let inner = cause.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref);
    cause.is::<rustls::Error>() || inner.and_then(|inner| inner.downcast_ref::<rustls::Error>()).is_some()
}

/// A peer that is not there is told from one that is not believed, or does not believe.
fn dial_error(error: &tonic::transport::Error) -> ConnectError {
    let mut causes = std::iter::successors(Some(error as &(dyn std::error::Error + 'static)), |error| error.source());
    if causes.any(of_tls) { ConnectError::Tls(chain(error)) } else { ConnectError::Dial(chain(error)) }
}

/// An error with all its causes, on one line.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_peer_that_moved_is_told_from_one_that_is_gone() {
        let peer = Peer { addr: "here:1".into(), store: Some(StoreId([1; 16])) };
        let (list, listed) = watch::channel(peer.clone());
        let watching = |connected| moved(listed.clone(), &peer, connected);
        list.send_replace(Peer { store: None, ..peer.clone() });
        assert!(futures_util::poll!(std::pin::pin!(watching(peer.store))).is_pending(), "nothing has changed");
        list.send_replace(Peer { addr: "there:1".into(), ..peer.clone() });
        assert!(watching(peer.store).await.contains("another address"));
        list.send_replace(Peer { store: Some(StoreId([2; 16])), ..peer.clone() });
        assert!(watching(peer.store).await.contains("another address"));
        list.send_replace(peer.clone());
        drop(list);
        assert!(watching(peer.store).await.contains("not listed"));
    }

    #[test]
    fn the_backoff_doubles_within_its_bounds() {
        let (min, max) = (Duration::from_millis(20), Duration::from_millis(500));
        for (failures, longest) in [(0, 20), (1, 20), (2, 40), (3, 80), (5, 320), (6, 500), (100, 500)] {
            for _ in 0..50 {
                let wait = backoff(failures, min, max).as_millis();
                assert!((longest / 2..=longest).contains(&wait), "{wait} after {failures}");
            }
        }
    }
}
