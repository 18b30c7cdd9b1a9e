//! What a call or an event takes in memory, about.
//!
//! Owns: estimates for admission by bytes; what a client chooses the size of is counted, the rest is a constant.
//! Must not know: limits.

use bytes::Bytes;
use messenger_proto::command::Op;
use messenger_proto::event::{Event, ThreadEventBody};
use messenger_proto::model::{Message, TextChange, Thread};
use messenger_proto::query::Query;
use messenger_proto::rpc::ShardCall;

/// Structs, ids and names that any value has.
const BASE: usize = 256;
/// One name or id in a list.
const ITEM: usize = 64;

/// Bytes of a call.
pub(crate) fn of_call(call: &ShardCall) -> usize {
    match call {
        ShardCall::Command(command) => BASE + of_op(&command.op),
        ShardCall::Query(query) => of_query(query),
        ShardCall::Session(_) => BASE,
    }
}

/// Bytes of a query.
pub(crate) fn of_query(query: &Query) -> usize {
    BASE + match query {
        Query::Activity(query) => query.threads.len() * ITEM,
        Query::Summaries(query) => query.threads.len() * ITEM,
        Query::Resume(query) => query.threads.len() * ITEM,
        Query::Room(query) => query.users.len() * ITEM,
        Query::Thread(_)
        | Query::Message(_)
        | Query::Pins(_)
        | Query::Recipients(_)
        | Query::History(_)
        | Query::UserThreads(_)
        | Query::ClusterState(_) => 0,
    }
}

fn of_op(op: &Op) -> usize {
    match op {
        Op::SendMessage(send) => send.ciphertext.len() + of_texts(&send.attachments),
        Op::CreateThread(create) => {
            create.others.len() * ITEM + of_text(create.title.as_ref()) + of_text(create.description.as_ref())
        }
        Op::EditMessage(edit) => edit.ciphertext.len(),
        Op::UpdateThread(update) => of_change(update.title.as_ref()) + of_change(update.description.as_ref()),
        Op::AddParticipants(add) => add.users.len() * ITEM,
        Op::Acknowledge(acknowledge) => acknowledge.items.len() * (ITEM + BASE),
        Op::OutboxDelivered(delivered) => delivered.rows.len() * (ITEM + BASE),
        Op::ExpireMessages(expire) => expire.due.len() * ITEM,
        // The cluster's record does not come through here.
        Op::RemoveParticipant(_)
        | Op::DeleteMessage(_)
        | Op::React(_)
        | Op::Pin(_)
        | Op::MarkRead(_)
        | Op::IndexMembership(_)
        | Op::ClaimKey(_)
        | Op::Meta(_) => 0,
    }
}

/// Bytes of an event.
pub(crate) fn of_event(event: &Event) -> usize {
    BASE + match event {
        Event::Thread(event) => {
            event.hidden_from.len() * ITEM
                + match &event.body {
                    ThreadEventBody::Message(message) => of_message(message),
                    ThreadEventBody::Created(created) => of_thread(&created.thread),
                    ThreadEventBody::Updated(updated) => {
                        of_change(updated.title.as_ref()) + of_change(updated.description.as_ref())
                    }
                    ThreadEventBody::Receipt(receipt) => {
                        receipt.senders.as_ref().map_or(0, |senders| senders.len() * ITEM)
                    }
                    ThreadEventBody::Edited(edited) => edited.ciphertext.as_ref().map_or(0, Bytes::len),
                    ThreadEventBody::ParticipantAdded(_)
                    | ThreadEventBody::ParticipantRemoved(_)
                    | ThreadEventBody::Deleted(_)
                    | ThreadEventBody::Reacted(_)
                    | ThreadEventBody::Pinned(_) => 0,
                }
        }
        Event::User(_) => 0,
    }
}

fn of_message(message: &Message) -> usize {
    let reactions: usize = message.reactions.iter().map(|reaction| (1 + reaction.by.len()) * ITEM).sum();
    message.ciphertext.as_ref().map_or(0, Bytes::len) + of_texts(&message.attachments) + reactions
}

fn of_thread(thread: &Thread) -> usize {
    thread.participants.len() * ITEM + of_text(thread.title.as_ref()) + of_text(thread.description.as_ref())
}

fn of_text(text: Option<&String>) -> usize {
    text.map_or(0, String::len)
}

fn of_change(change: Option<&TextChange>) -> usize {
    of_text(change.and_then(|change| change.to.as_ref()))
}

fn of_texts(texts: &[String]) -> usize {
    texts.iter().map(String::len).sum()
}
