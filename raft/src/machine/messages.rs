//! Sending.
//!
//! Owns: storing a message, and telling a new one from one sent before.
//! Must not know: what the ciphertext says.
//! Invariants: ids grow along a thread's order; one number of one device is one message for as long as it lives.

use super::apply::Outcome;
use super::blocks;
use super::blocks::veil::Veil;
use super::disappear;
use super::envelopes::{self, Viewer};
use super::membership;
use super::query::receipts;
use super::resend;
use super::rows::client_seq::{ClientSeqKey, ClientSeqRow};
use super::rows::dedupe::{MessageRef, Reference};
use super::rows::head::{HeadKey, LastMessage};
use super::rows::member::{MemberKey, MemberRow};
use super::rows::message::{MessageKey, MessageMeta, MessageRow};
use super::rows::message_id::{MessageIdKey, MessageIdRow};
use super::rows::{self};
use super::step::{Step, Stop, refuse, refuse_field};
use super::tables::{TableError, Tables};
use messenger_proto::command::{Command, MessageReply, Reply, ReplyBody, Retention, SendMessage};
use messenger_proto::error::{ErrorCode, Refusal};
use messenger_proto::event::{Event, ThreadEvent, ThreadEventBody};
use messenger_proto::ids::{ClientSeq, MessageId, Millis, Seq, ThreadId, UserId};
use messenger_proto::limits::{CIPHERTEXT_MAX, MINTED_RETENTION, TTL_MAX};
use messenger_proto::model::{Message, ReceiptCounts};
use messenger_proto::slot::Slot;

/// Stores a message.
pub(crate) fn send<T: Tables>(step: &mut Step<'_, T>, op: &SendMessage, command: &Command) -> Result<Outcome, Stop> {
    let mut head = step.head(op.thread)?;
    let number = ClientSeqKey {
        thread: op.thread,
        user: op.sender.clone(),
        device: op.device.clone(),
        client_seq: op.client_seq,
    };
    let earlier = step.get(&number)?;
    if let Some(row) = &earlier
        && is_same_command(step, op, command, row)?
    {
        return duplicate(step, op, row, command.body_hash);
    }
    let sender = membership::present(step, op.thread, &op.sender)?;
    if let Some(row) = earlier {
        if row.body_hash == command.body_hash && resend::attempt(step, op, command, row.seq)? {
            return again(step, op, row.seq);
        }
        return duplicate(step, op, &row, command.body_hash);
    }
    validate(step, op, &sender)?;
    let device = Viewer { user: &op.sender, device: Some(&op.device) };
    let sealed = match &op.envelopes {
        Some(sent) => Some(envelopes::check(step, op.thread, device, sent)?),
        None => None,
    };
    let id = step.next_message_id(Slot::of_thread(op.thread), command.id)?;
    let (seq, rev) = head.next_event()?;
    let key = MessageKey { thread: op.thread, seq };
    let row = MessageRow {
        meta: MessageMeta { id, rev, sender: op.sender.clone(), deleted: false, changed: Seq(0) },
        device: op.device.clone(),
        client_seq: op.client_seq,
        content_type: op.content_type,
        attachments: op.attachments.clone(),
        reply_to: op.reply_to,
        edited_at: None,
        expires_at: op.ttl_s.map(|ttl| Millis(id.created_at().0.saturating_add(u64::from(ttl) * 1_000))),
        ciphertext: sealed.is_none().then(|| op.ciphertext.clone()),
        reactions: Vec::new(),
        enveloped: sealed.is_some(),
    };
    head.last = Some(LastMessage { id, seq });
    let sealed = sealed.unwrap_or_default();
    step.put(&key, &row);
    envelopes::put(step, key, &sealed);
    disappear::schedule(step, key, &row);
    step.put(&MessageIdKey { id }, &MessageIdRow { thread: op.thread, seq });
    step.put(&number, &ClientSeqRow { seq, body_hash: command.body_hash });
    step.put(&HeadKey { thread: op.thread }, &head);
    let receipts = ReceiptCounts { of: head.members.saturating_sub(1), delivered: 0, read: 0 };
    let message = Message { receipts: Some(receipts), ..row.into_message(key) };
    step.emit_event(Event::Thread(ThreadEvent {
        thread: op.thread,
        rev,
        seq: Some(seq),
        at: id.created_at(),
        body: ThreadEventBody::Message(message.clone()),
        hidden_from: blocks::keeping_away(&step.rows, &head, op.thread, &op.sender)?,
        envelopes: sealed,
    }));
    Ok(Outcome {
        reply: reply(message, false),
        reference: Some(Reference::Message(MessageRef { thread: op.thread, seq })),
    })
}

fn reply(message: Message, duplicate: bool) -> Reply {
    Reply { replayed: false, body: ReplyBody::Message(MessageReply { message, duplicate }), barrier: None }
}

/// Whether a command that nothing remembers was carried out a while ago, and comes again because its answer was lost:
/// then it is answered as it was, though its sender may have left since.
fn is_same_command<T: Tables>(
    step: &Step<'_, T>,
    op: &SendMessage,
    command: &Command,
    row: &ClientSeqRow,
) -> Result<bool, TableError> {
    if command.retention != Retention::None || command.body_hash != row.body_hash {
        return Ok(false);
    }
    let sent = rows::expect(&step.rows, &MessageKey { thread: op.thread, seq: row.seq })?.meta.id.created_at();
    let retention = u64::try_from(MINTED_RETENTION.as_millis()).unwrap_or(u64::MAX);
    Ok(step.now.0 < sent.0.saturating_add(retention))
}

/// It failed for somebody, and was sent again.
fn again<T: Tables>(step: &Step<'_, T>, op: &SendMessage, seq: Seq) -> Result<Outcome, Stop> {
    Ok(Outcome {
        reply: reply(sent(step, op, MessageKey { thread: op.thread, seq })?, false),
        reference: Some(Reference::Message(MessageRef { thread: op.thread, seq })),
    })
}

/// The number was used: with the same body that is the same message, with another one a mistake. Neither is remembered
/// under the new command's id, since nothing was done.
fn duplicate<T: Tables>(
    step: &Step<'_, T>,
    op: &SendMessage,
    row: &ClientSeqRow,
    body_hash: u64,
) -> Result<Outcome, Stop> {
    let message = sent(step, op, MessageKey { thread: op.thread, seq: row.seq })?;
    if row.body_hash == body_hash {
        return Ok(Outcome { reply: reply(message, true), reference: None });
    }
    let detail = "the device used this client_seq for another message of the thread";
    let refusal = Refusal::new(ErrorCode::DuplicateClientSeq, detail);
    Err(Stop::Refused(Refusal { existing: Some(Box::new(message)), ..refusal }))
}

/// A message that was sent before, as the device that sent it sees it; without what others did to it, once the sender left.
pub(crate) fn sent<T: Tables>(step: &Step<'_, T>, op: &SendMessage, key: MessageKey) -> Result<Message, TableError> {
    let mut message = [rows::expect(&step.rows, &key)?.into_message(key)];
    let member = step.get(&MemberKey { thread: key.thread, user: op.sender.clone() })?;
    if member.is_some_and(|member| member.present()) {
        receipts::count_own(&step.rows, &op.sender, &mut message)?;
    } else {
        // What others did since is told to those who are in the thread.
        message[0].reactions = Vec::new();
    }
    envelopes::open(&step.rows, Viewer { user: &op.sender, device: Some(&op.device) }, &mut message)?;
    let [message] = message;
    Ok(message)
}

fn validate<T: Tables>(step: &Step<'_, T>, op: &SendMessage, sender: &MemberRow) -> Result<(), Stop> {
    if op.ciphertext.len() > CIPHERTEXT_MAX {
        return refuse(ErrorCode::CiphertextTooLarge, "a ciphertext has at most 65536 bytes");
    }
    if op.client_seq.0 > ClientSeq::MAX {
        return refuse_field("client_seq", "is at most 2^53 - 1");
    }
    if op.ttl_s.is_some_and(|ttl| ttl == 0 || u64::from(ttl) > TTL_MAX.as_secs()) {
        return refuse_field("ttl_seconds", "is between 1 and 31536000, a year");
    }
    match op.reply_to {
        Some(id) if !visible(step, (op.thread, &op.sender), sender, id)? => {
            refuse_field("reply_to_msg_id", "is no message of the thread that the sender can see")
        }
        _ => Ok(()),
    }
}

fn visible<T: Tables>(
    step: &Step<'_, T>,
    (thread, viewer): (ThreadId, &UserId),
    member: &MemberRow,
    id: MessageId,
) -> Result<bool, Stop> {
    let place = step.get(&MessageIdKey { id })?;
    let Some(place) = place.filter(|place| place.thread == thread && member.sees(place.seq)) else { return Ok(false) };
    Ok(!Veil::of(&step.rows, thread, &step.head(thread)?, viewer)?.hides_at(&step.rows, place.seq)?)
}
