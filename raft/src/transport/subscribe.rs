//! A shard's live events, from the node that has them to the node that wants them.
//!
//! Owns: the two ends of a subscription's stream.
//! Must not know: what the events are, or which are wanted.
//! Invariants: both ends hold a bounded number of items, and a slow reader holds the source back; when either end goes,
//! the other hears of it.

use super::config::TransportConfig;
use super::lane::LinkError;
use super::links::Links;
use bytes::Bytes;
use futures_util::{Stream, StreamExt, stream};
use messenger_proto::ids::{NodeId, ShardId};
use messenger_proto::rpc::pb::{StreamItems, SubscribeRequest};
use messenger_proto::rpc::{InterestChange, StreamItem};
use messenger_proto::wire::Wire;
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout_at};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::{Status, Streaming};

/// Changes of interest that wait to be sent or taken.
pub(crate) const CHANGES: usize = 64;

/// Opens a subscription at another node.
pub(crate) async fn open(
    links: &Links,
    node: NodeId,
    shard: ShardId,
    deadline: Instant,
) -> Result<(mpsc::Sender<InterestChange>, mpsc::Receiver<StreamItem>), LinkError> {
    let (mut client, closed) = links.client_and_end(node)?;
    let (changes, wanted) = mpsc::channel::<InterestChange>(CHANGES);
    let first = SubscribeRequest { shard: shard.0, interest: Bytes::new() };
    let rest =
        ReceiverStream::new(wanted).map(|change| SubscribeRequest { shard: 0, interest: change.to_wire().into() });
    let mut request = tonic::Request::new(stream::once(async { first }).chain(rest));
    links.stamp(request.metadata_mut());
    let response = timeout_at(deadline, client.subscribe(request))
        .await
        .map_err(|_| LinkError::Lost("the deadline has passed".into()))?
        .map_err(|status| LinkError::Refused(status.message().into()))?;
    let (items, subscription) = mpsc::channel(links.config().subscription_items);
    tokio::spawn(pass_on(response.into_inner(), items, closed));
    Ok((changes, subscription))
}

async fn pass_on(mut source: Streaming<StreamItems>, items: mpsc::Sender<StreamItem>, closed: CancellationToken) {
    let reading = async {
        while let Ok(Some(message)) = source.message().await {
            for item in message.items {
                let Ok(item) = StreamItem::decode_from(item) else {
                    tracing::warn!("a malformed stream item; the subscription ends");
                    return;
                };
                if items.send(item).await.is_err() {
                    return;
                }
            }
        }
    };
    tokio::select! {
        () = reading => {}
        () = items.closed() => {}
        () = closed.cancelled() => {}
    }
}

/// Passes the changes a subscriber asks for to the source of its stream.
pub(crate) async fn take_changes(
    first: Bytes,
    mut requests: Streaming<SubscribeRequest>,
    changes: mpsc::Sender<InterestChange>,
    closed: CancellationToken,
) {
    let reading = async {
        let mut interest = first;
        loop {
            if !interest.is_empty() {
                let Ok(change) = InterestChange::decode_from(interest) else { return };
                if changes.send(change).await.is_err() {
                    return;
                }
            }
            match requests.message().await {
                Ok(Some(request)) => interest = request.interest,
                _ => return,
            }
        }
    };
    tokio::select! {
        () = reading => {}
        () = closed.cancelled() => {}
    }
}

/// The messages of a stream: what waits goes together.
pub(crate) fn messages(
    items: mpsc::Receiver<StreamItem>,
    config: &TransportConfig,
) -> impl Stream<Item = Result<StreamItems, Status>> + Send + 'static {
    let (count_max, bytes_max) = (config.batch_frames, config.batch_bytes);
    stream::unfold(items, move |mut items| async move {
        let mut batch: Vec<Bytes> = vec![items.recv().await?.to_wire().into()];
        let mut bytes = batch.iter().map(Bytes::len).sum::<usize>();
        while batch.len() < count_max && bytes < bytes_max {
            let Ok(item) = items.try_recv() else { break };
            let item = Bytes::from(item.to_wire());
            bytes += item.len();
            batch.push(item);
        }
        Some((Ok(StreamItems { items: batch }), items))
    })
}
