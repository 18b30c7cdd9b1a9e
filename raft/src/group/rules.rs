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
use messenger_proto::command::{Command, Op, Pack};
use messenger_proto::wire::Wire;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

fn decode(pack: &Bytes, position: LogPosition) -> Result<Pack, TableError> {
    Pack::decode_from(pack.clone())
        .map_err(|error| TableError(format!("log entry {} is not a pack: {error}", position.index)))
}

/// What packs did to the outbox.
#[derive(Debug, Default)]
pub(super) struct OutboxNews {
    /// There may be new rows.
    pub(super) grows: AtomicBool,
    /// Rows are gone.
    pub(super) shrinks: AtomicBool,
}

/// The rules of a shard.
#[derive(Default)]
pub(super) struct ShardRules {
    /// For the hook that runs once the rows of a pack are there.
    pub(super) outbox: Arc<OutboxNews>,
}

impl Machine for ShardRules {
    fn apply(
        &self,
        tables: &mut Overlay<'_, GroupRows<'_>>,
        position: LogPosition,
        pack: &Bytes,
    ) -> Result<Outcome, TableError> {
        let pack = decode(pack, position)?;
        let shrinks = |command: &Command| matches!(command.op, Op::OutboxDelivered(_) | Op::ProfileTold(_));
        if pack.commands.iter().any(shrinks) {
            self.outbox.shrinks.store(true, Ordering::Relaxed);
        }
        let applied = machine::apply(tables, position.index, &pack)?;
        // Where an answer waits there are rows.
        if applied.results.iter().any(|result| result.as_ref().is_ok_and(|reply| reply.barrier.is_some())) {
            self.outbox.grows.store(true, Ordering::Relaxed);
        }
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
