//! Frames that change something, for the audit log.
//!
//! Owns: what is recorded of a frame: sends and reads, carried out, refused or abandoned, and frames that are none.
//! Must not know: how frames are carried out, how a record is kept.
//! Invariants: what only acknowledges (`client_ack`, `delivered`) is not recorded, since that would be a record per message
//! and device, and neither is what is told and never stored. A frame is found again under its connection's id.

use super::Connection;
use crate::api::trace::TraceId;
use crate::audit::{Ending, Kind, Payload, Pending, Record, Target};
use messenger_proto::command::{CommandResult, MessageReply, ReplyBody};
use messenger_proto::error::ErrorCode;
use messenger_proto::ids::{MessageId, ThreadId};
use std::sync::Arc;

impl Connection {
    fn record(&self, method: &'static str, payload: Option<Payload>, thread: Option<ThreadId>) -> Record {
        Record {
            at: self.node.now(),
            kind: Kind::Frame,
            who: Some(Arc::clone(&self.identity)),
            operator: None,
            address: self.address,
            method,
            route: "",
            trace: TraceId(self.id.0),
            payload,
            target: Target { thread, ..Target::default() },
            ending: Ending::default(),
        }
    }

    /// A frame is about to be carried out.
    pub(super) fn begin_record(&self, method: &'static str, payload: Payload, thread: ThreadId) -> Pending {
        Pending::new(self.node.audit(), self.record(method, Some(payload), Some(thread)))
    }

    /// A frame was refused before anything was done.
    pub(super) fn record_refused(
        &self,
        method: &'static str,
        payload: Option<Payload>,
        thread: Option<ThreadId>,
        code: ErrorCode,
    ) {
        let record = self.record(method, payload, thread);
        self.node.audit().note(Record { ending: Ending::refused(code), ..record });
    }
}

/// How a frame ended that is answered with `status` when it is carried out, and the message that it made.
pub(super) fn ending_of(status: u16, outcome: &CommandResult) -> (Ending, Option<MessageId>) {
    match outcome {
        Err(refusal) => (Ending::refused(refusal.code), None),
        Ok(reply) => match &reply.body {
            ReplyBody::Message(MessageReply { message, duplicate }) => {
                let recipients = message.receipts.as_ref().map(|receipts| receipts.of);
                let ending = Ending { replayed: reply.replayed || *duplicate, recipients, ..Ending::done(status) };
                (ending, Some(message.id))
            }
            _ => (Ending { replayed: reply.replayed, ..Ending::done(status) }, None),
        },
    }
}
