//! ⑤ The pure machines behind the store's door.
//!
//! Owns: the decoding of a pack on its way to the rules.
//! Must not know: what the rules are.
//! Invariants: a pack that can't be decoded was never proposed by this program: it stops the node rather than letting
//! replicas differ.

use crate::machine;
use crate::machine::tables::{Overlay, TableError};
use crate::store::{GroupRows, LogPosition, Machine, Outcome};
use bytes::Bytes;
use messenger_proto::command::{Op, Pack};
use messenger_proto::wire::Wire;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

fn decode(pack: &Bytes, position: LogPosition) -> Result<Pack, TableError> {
    Pack::decode_from(pack.clone())
        .map_err(|error| TableError(format!("log entry {} is not a pack: {error}", position.index)))
}

/// The rules of a shard.
#[derive(Default)]
pub(super) struct ShardRules {
    /// Set when a pack takes rows out of the outbox, for the hook that runs once they are gone.
    pub(super) outbox_shrinks: Arc<AtomicBool>,
}

impl Machine for ShardRules {
    fn apply(
        &self,
        tables: &mut Overlay<'_, GroupRows<'_>>,
        position: LogPosition,
        pack: &Bytes,
    ) -> Result<Outcome, TableError> {
        let pack = decode(pack, position)?;
        if pack.commands.iter().any(|command| matches!(command.op, Op::OutboxDelivered(_))) {
            self.outbox_shrinks.store(true, Ordering::Relaxed);
        }
        let applied = machine::apply(tables, position.index, &pack)?;
        Ok(Outcome { results: applied.results, events: applied.events })
    }
}

/// The rules of the meta group.
pub(super) struct MetaRules;

impl Machine for MetaRules {
    fn apply(
        &self,
        tables: &mut Overlay<'_, GroupRows<'_>>,
        position: LogPosition,
        pack: &Bytes,
    ) -> Result<Outcome, TableError> {
        let applied = machine::meta::apply(tables, position.index, &decode(pack, position)?)?;
        Ok(Outcome { results: applied.results, events: applied.events })
    }
}
