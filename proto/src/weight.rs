//! What an event takes in memory, about.
//!
//! Owns: the estimate by which rings and queues of events are bounded: what a client chooses the size of is counted, the
//! rest is a constant.
//! Must not know: limits.

use crate::envelope::Envelope;
use crate::event::{Event, ThreadEventBody};
use crate::model::{Message, TextChange, Thread};
use bytes::Bytes;

/// Structs, ids and names that any value has.
pub const BASE: usize = 256;
/// One name or id in a list.
pub const ITEM: usize = 64;

/// Bytes of an event.
#[must_use]
pub fn of_event(event: &Event) -> usize {
    BASE + match event {
        Event::Thread(event) => {
            event.hidden_from.len() * ITEM
                + of_envelopes(&event.envelopes)
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
                    | ThreadEventBody::Pinned(_)
                    | ThreadEventBody::Resent(_) => 0,
                }
        }
        Event::User(_) | Event::Device(_) | Event::PrekeysLow(_) | Event::MemberDevices(_) | Event::Suspension(_) => 0,
    }
}

fn of_message(message: &Message) -> usize {
    let reactions: usize = message.reactions.iter().map(|reaction| (1 + reaction.by.len()) * ITEM).sum();
    message.ciphertext.as_ref().map_or(0, Bytes::len) + of_texts(&message.attachments) + reactions
}

fn of_thread(thread: &Thread) -> usize {
    thread.participants.len() * ITEM + of_text(thread.title.as_ref()) + of_text(thread.description.as_ref())
}

/// Bytes of envelopes.
#[must_use]
pub fn of_envelopes(envelopes: &[Envelope]) -> usize {
    envelopes.iter().map(|envelope| 2 * ITEM + envelope.ciphertext.len()).sum()
}

/// Bytes of a text that may be missing.
#[must_use]
pub fn of_text(text: Option<&String>) -> usize {
    text.map_or(0, String::len)
}

/// Bytes of a text that is replaced, or not.
#[must_use]
pub fn of_change(change: Option<&TextChange>) -> usize {
    of_text(change.and_then(|change| change.to.as_ref()))
}

/// Bytes of several texts.
#[must_use]
pub fn of_texts(texts: &[String]) -> usize {
    texts.iter().map(String::len).sum()
}
