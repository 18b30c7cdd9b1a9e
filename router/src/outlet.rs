//! The queue between a subscription's task and its consumer.
//!
//! Owns: its bounds, by count and by bytes.
//! Must not know: where items come from.
//! Invariants: neither bound is exceeded but by a single item larger than all of the bytes; a place is free again once
//! its item is taken.

use crate::admission::Limits;
use crate::subscribe::SubscriptionItem;
use std::sync::Arc;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};

/// An item and the room it takes.
#[derive(Debug)]
pub(crate) struct Parcel {
    item: SubscriptionItem,
    _bytes: Option<OwnedSemaphorePermit>,
}

impl Parcel {
    /// The item; its room is free again.
    pub(crate) fn unpack(self) -> SubscriptionItem {
        self.item
    }
}

/// The producer's side.
#[derive(Debug)]
pub(crate) struct Outlet {
    parcels: mpsc::Sender<Parcel>,
    bytes: Arc<Semaphore>,
    bytes_max: usize,
}

/// Room for one item.
pub(crate) struct Room<'a> {
    slot: mpsc::Permit<'a, Parcel>,
    bytes: Option<OwnedSemaphorePermit>,
}

impl Room<'_> {
    /// Puts the item there.
    pub(crate) fn fill(self, item: SubscriptionItem) {
        self.slot.send(Parcel { item, _bytes: self.bytes });
    }
}

impl Outlet {
    pub(crate) fn new(limits: Limits) -> (Self, mpsc::Receiver<Parcel>) {
        let (parcels, receiver) = mpsc::channel(limits.subscription_events.max(1));
        let bytes_max = limits.subscription_bytes.clamp(1, Semaphore::MAX_PERMITS).min(u32::MAX as usize);
        (Self { parcels, bytes: Arc::new(Semaphore::new(bytes_max)), bytes_max }, receiver)
    }

    /// Waits for room; `None` when the consumer is gone. Cancel-safe.
    pub(crate) async fn room(&self, weight: usize) -> Option<Room<'_>> {
        // At most `bytes_max`, which fits.
        let weight = weight.min(self.bytes_max) as u32;
        let bytes = Arc::clone(&self.bytes).acquire_many_owned(weight).await.ok();
        let slot = self.parcels.reserve().await.ok()?;
        Some(Room { slot, bytes })
    }

    /// Waits until the consumer is gone.
    pub(crate) async fn closed(&self) {
        self.parcels.closed().await;
    }
}
