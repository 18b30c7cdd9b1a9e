//! The members of frames that tell what happened in a thread.
//!
//! Owns: what each is called, in which order.
//! Must not know: who is told.

use super::members;
use crate::api::time::Rfc3339;
use crate::api::view::{Base64, KindView, ParticipantView, Text, ThreadView, Told};
use bytes::Bytes;
use messenger_proto::event::{
    Created, Deleted, Edited, ParticipantAdded, ParticipantRemoved, Pinned, Reacted, Receipt, Updated,
};
use messenger_proto::ids::{MessageId, ThreadId, UserId};
use messenger_proto::model::ReceiptKind;
use serde::Serialize;

/// What every frame of a thread event begins with.
#[derive(Serialize)]
pub(super) struct Head {
    pub(super) thread_id: Text<ThreadId>,
    pub(super) seq: Option<u64>,
    pub(super) at: Rfc3339,
}

#[derive(Serialize)]
struct CreatedFrame<'a> {
    t: &'static str,
    op: &'static str,
    #[serde(flatten)]
    head: Head,
    by: &'a str,
    thread: ThreadView<'a>,
}

#[derive(Serialize)]
struct AddedFrame<'a> {
    t: &'static str,
    op: &'static str,
    #[serde(flatten)]
    head: Head,
    by: &'a str,
    participant: ParticipantView<'a>,
}

#[derive(Serialize)]
struct RemovedFrame<'a> {
    t: &'static str,
    op: &'static str,
    #[serde(flatten)]
    head: Head,
    by: &'a str,
    user_id: &'a str,
    promoted: Option<&'a str>,
}

/// Members that did not change are left out; null is one that was taken away.
#[derive(Serialize)]
struct UpdatedFrame<'a> {
    t: &'static str,
    op: &'static str,
    #[serde(flatten)]
    head: Head,
    by: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    title: Option<ChangeView<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    description: Option<ChangeView<'a>>,
}

#[derive(Serialize)]
#[serde(transparent)]
struct ChangeView<'a> {
    to: Option<&'a str>,
}

#[derive(Serialize)]
struct EditFrame<'a> {
    t: &'static str,
    id: Text<MessageId>,
    thread_id: Text<ThreadId>,
    seq: Option<u64>,
    #[serde(skip_serializing_if = "Told::is_apart")]
    ciphertext: Told<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    envelope_type: Option<KindView<'a>>,
    edited_at: Rfc3339,
}

#[derive(Serialize)]
struct DelFrame {
    t: &'static str,
    id: Text<MessageId>,
    #[serde(flatten)]
    head: Head,
    reason: &'static str,
}

#[derive(Serialize)]
struct ReactionFrame<'a> {
    t: &'static str,
    id: Text<MessageId>,
    #[serde(flatten)]
    head: Head,
    emoji: &'a str,
    by: &'a str,
    op: &'static str,
}

#[derive(Serialize)]
struct PinFrame<'a> {
    t: &'static str,
    op: &'static str,
    #[serde(flatten)]
    head: Head,
    by: &'a str,
    message_id: Text<MessageId>,
}

#[derive(Serialize)]
struct DeliveredFrame<'a> {
    t: &'static str,
    thread_id: Text<ThreadId>,
    id: Text<MessageId>,
    by: &'a str,
    at: Rfc3339,
}

#[derive(Serialize)]
struct ReadFrame<'a> {
    t: &'static str,
    thread_id: Text<ThreadId>,
    up_to: Text<MessageId>,
    by: &'a str,
    at: Rfc3339,
}

pub(super) fn created(head: Head, created: &Created) -> Bytes {
    let (by, thread) = (created.thread.created_by.as_str(), ThreadView::of(&created.thread));
    members(&CreatedFrame { t: "thread", op: "created", head, by, thread })
}

pub(super) fn joined(head: Head, added: &ParticipantAdded) -> Bytes {
    let (by, participant) = (added.by.as_str(), ParticipantView::of(&added.participant));
    members(&AddedFrame { t: "thread", op: "participant_added", head, by, participant })
}

pub(super) fn left(head: Head, removed: &ParticipantRemoved) -> Bytes {
    members(&RemovedFrame {
        t: "thread",
        op: "participant_removed",
        head,
        by: removed.by.as_str(),
        user_id: removed.user.as_str(),
        promoted: removed.promoted.as_ref().map(UserId::as_str),
    })
}

pub(super) fn updated(head: Head, updated: &Updated) -> Bytes {
    let change = |change| ChangeView { to: change };
    members(&UpdatedFrame {
        t: "thread",
        op: "updated",
        head,
        by: updated.by.as_str(),
        title: updated.title.as_ref().map(|title| change(title.to.as_deref())),
        description: updated.description.as_ref().map(|description| change(description.to.as_deref())),
    })
}

/// What an edited message says now is left out of what devices with envelopes share.
pub(super) fn edited(head: &Head, edited: &Edited, sealed: bool) -> Bytes {
    let common = || Told::Here(edited.ciphertext.as_deref().map(Base64));
    let ciphertext = if sealed { Told::Apart } else { common() };
    let envelope_type = edited.kind.as_ref().map(KindView);
    let (id, thread_id, edited_at) = (Text(edited.of.id), head.thread_id, head.at);
    members(&EditFrame { t: "edit", id, thread_id, seq: head.seq, ciphertext, envelope_type, edited_at })
}

pub(super) fn deleted(head: Head, deleted: &Deleted) -> Bytes {
    members(&DelFrame { t: "del", id: Text(deleted.of.id), head, reason: deleted.reason.as_str() })
}

pub(super) fn reacted(head: Head, reacted: &Reacted) -> Bytes {
    members(&ReactionFrame {
        t: "reaction",
        id: Text(reacted.of.id),
        head,
        emoji: reacted.emoji.as_str(),
        by: reacted.by.as_str(),
        op: if reacted.present { "added" } else { "removed" },
    })
}

pub(super) fn pinned(head: Head, pinned: &Pinned) -> Bytes {
    let op = if pinned.present { "pinned" } else { "unpinned" };
    members(&PinFrame { t: "thread", op, head, by: pinned.by.as_str(), message_id: Text(pinned.of.id) })
}

pub(super) fn receipt(head: &Head, receipt: &Receipt) -> Bytes {
    let (by, up_to) = (receipt.by.as_str(), Text(receipt.up_to));
    let Head { thread_id, at, .. } = *head;
    match receipt.kind {
        ReceiptKind::Delivered => members(&DeliveredFrame { t: "delivered", thread_id, id: up_to, by, at }),
        ReceiptKind::Read => members(&ReadFrame { t: "read", thread_id, up_to, by, at }),
    }
}
