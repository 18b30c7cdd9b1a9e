//! One source of a subscription, from its opening to its end.
//!
//! Owns: the exchange with the source: interest out, events in, and what is owed to the consumer.
//! Must not know: which source comes next.
//! Invariants: one event at most waits outside the bounded queue; a consumer that takes none for [`STALL_MAX`], or
//! keeps interest from coming into force for so long, is owed a `Reset`, and events are dropped until it has taken that;
//! after a re-opening the `Reset` comes when the interest is in force, so that nothing falls between storage and stream.

use crate::interest::UnderWay;
use crate::metric_names as names;
use crate::subscribe::{Service, SubscriptionItem};
use crate::transport::ShardStream;
use messenger_proto::event::Event;
use messenger_proto::ids::NodeId;
use messenger_proto::rpc::{InForce, StreamItem};
use messenger_proto::weight;
use std::time::Duration;
use tokio::time::{Instant, sleep_until};

/// How long an event waits for a consumer without room before the consumer is sent to storage instead.
const STALL_MAX: Duration = Duration::from_secs(1);
/// A source that has not put a change in force for so long is given up.
const IN_FORCE_MAX: Duration = Duration::from_secs(10);

/// What the consumer has to get next.
#[allow(clippy::large_enum_variant)] // a value is moved once or twice, never kept in number
enum Owed {
    Nothing,
    Event { event: Event, weight: usize, until: Instant },
    Reset,
}

impl Owed {
    fn weight(&self) -> usize {
        match self {
            Self::Event { weight, .. } => *weight,
            Self::Nothing | Self::Reset => 0,
        }
    }

    fn is_event(&self) -> bool {
        matches!(self, Self::Event { .. })
    }

    /// When to give up on the consumer: also when what it delays is interest that others wait for.
    fn until(&self, under_way: &UnderWay) -> Option<Instant> {
        match self {
            Self::Event { until, .. } => Some(under_way.oldest().map_or(*until, |then| (then + STALL_MAX).min(*until))),
            Self::Nothing | Self::Reset => None,
        }
    }

    fn reset(&mut self, reason: &'static str) {
        metrics::counter!(names::SUBSCRIPTION_RESETS, names::REASON => reason).increment(1);
        *self = Self::Reset;
    }
}

/// Why a source is left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    /// It closed the stream.
    Closed,
    /// It did not put a change in force.
    Silent,
    /// The placement has it no more.
    Moved,
    /// Nobody listens any more.
    Unsubscribed,
}

/// Waits until then, or for ever.
async fn until(then: Option<Instant>) {
    match then {
        Some(then) => sleep_until(then).await,
        None => std::future::pending().await,
    }
}

/// Serves the subscription from this source until it ends or should not be used any more.
pub(crate) async fn follow(service: &Service, node: NodeId, stream: ShardStream, reopened: bool) -> End {
    let (changes, mut items) = stream;
    let mut cluster = service.shared.directory.watch();
    let mut under_way = UnderWay::default();
    let mut owed = Owed::Nothing;
    // Until the interest is in force, a resumption from storage could miss what comes right after it.
    let mut reset_due = reopened;
    service.desk.wanted().start_over();
    loop {
        let has_news = service.desk.wanted().has_news() && under_way.has_room();
        tokio::select! {
            biased;
            slot = changes.reserve(), if has_news => match slot {
                Ok(slot) => {
                    let change = under_way.send(&mut service.desk.wanted(), Instant::now());
                    slot.send(change);
                }
                Err(_) => return End::Closed,
            },
            // A wish that comes between the look above and this is kept for here.
            () = service.desk.news.notified() => {}
            () = until(under_way.oldest().map(|sent_at| sent_at + IN_FORCE_MAX)) => return End::Silent,
            room = service.outlet.room(owed.weight()), if !matches!(owed, Owed::Nothing) => {
                let Some(room) = room else { return End::Unsubscribed };
                match std::mem::replace(&mut owed, Owed::Nothing) {
                    Owed::Event { event, .. } => room.fill(SubscriptionItem::Event(event)),
                    Owed::Reset => room.fill(SubscriptionItem::Reset),
                    Owed::Nothing => {}
                }
            }
            () = until(owed.until(&under_way)) => owed.reset("slow_consumer"),
            item = items.recv(), if !owed.is_event() => match item {
                Some(StreamItem::Event(event)) => {
                    // What is dropped behind an owed reset is found in storage.
                    if matches!(owed, Owed::Nothing) {
                        let weight = weight::of_event(&event);
                        owed = Owed::Event { event, weight, until: Instant::now() + STALL_MAX };
                    }
                }
                Some(StreamItem::InForce(InForce { version })) => {
                    if let Some(stamp) = under_way.in_force(version) {
                        service.covered.send_replace(stamp);
                        if std::mem::take(&mut reset_due) {
                            owed.reset("reopened");
                        }
                    }
                }
                Some(StreamItem::Reset(_)) => owed.reset("source"),
                None => return End::Closed,
            },
            moved = cluster.changed(), if cluster.has_changed().is_ok() => {
                if moved.is_ok() && !service.shared.directory.replicas(service.shard).contains(&node) {
                    return End::Moved;
                }
            }
        }
    }
}
