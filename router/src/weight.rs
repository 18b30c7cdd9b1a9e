//! What a call takes in memory, about.
//!
//! Owns: estimates for admission by bytes; what a client chooses the size of is counted, the rest is a constant.
//! Must not know: limits.

use bytes::Bytes;
use messenger_proto::command::Op;
use messenger_proto::envelope::Envelopes;
use messenger_proto::ephemeral::PresenceCall;
use messenger_proto::keys::{Prekey, PublishedKeys};
use messenger_proto::profile::Profile;
use messenger_proto::query::Query;
use messenger_proto::rpc::ShardCall;
use messenger_proto::weight::{BASE, ITEM, of_change, of_envelopes, of_text, of_texts};

/// Bytes of a call.
pub(crate) fn of_call(call: &ShardCall) -> usize {
    match call {
        ShardCall::Command(command) => BASE + of_op(&command.op),
        ShardCall::Query(query) => of_query(query),
        ShardCall::Session(_) => BASE,
        ShardCall::Presence(PresenceCall::Ask(ask)) => BASE + ask.users.len() * ITEM,
        ShardCall::Presence(PresenceCall::Shown(shown)) => BASE + shown.users.len() * ITEM,
    }
}

/// Bytes of a query.
pub(crate) fn of_query(query: &Query) -> usize {
    BASE + match query {
        Query::Activity(query) => query.threads.len() * ITEM,
        Query::Summaries(query) => query.threads.len() * ITEM,
        Query::Resume(query) => query.threads.len() * ITEM,
        Query::Room(query) => query.users.len() * ITEM,
        Query::Privacy(query) => query.users.len() * ITEM,
        Query::Thread(_)
        | Query::Message(_)
        | Query::Pins(_)
        | Query::Recipients(_)
        | Query::History(_)
        | Query::UserThreads(_)
        | Query::Devices(_)
        | Query::KeyCounts(_)
        | Query::DeviceStatus(_)
        | Query::Suspension(_)
        | Query::Reports(_)
        | Query::Blocks(_)
        | Query::ClusterState(_) => 0,
    }
}

fn of_op(op: &Op) -> usize {
    match op {
        Op::SendMessage(send) => {
            send.ciphertext.len() + of_texts(&send.attachments) + of_sealed(send.envelopes.as_ref())
        }
        Op::CreateThread(create) => {
            create.others.len() * ITEM + of_text(create.title.as_ref()) + of_text(create.description.as_ref())
        }
        Op::EditMessage(edit) => edit.ciphertext.len() + of_sealed(edit.envelopes.as_ref()),
        Op::UpdateThread(update) => of_change(update.title.as_ref()) + of_change(update.description.as_ref()),
        Op::PublishKeys(publish) => of_keys(&publish.keys),
        Op::UpdateProfile(update) => update.threads.len() * ITEM + of_profile(&update.profile),
        Op::AddParticipants(add) => add.users.len() * ITEM,
        Op::Acknowledge(acknowledge) => acknowledge.items.len() * (ITEM + BASE),
        Op::OutboxDelivered(delivered) => {
            delivered.rows.len() * (ITEM + BASE)
                + delivered.members.iter().map(|new| ITEM + BASE + of_profile(&new.profile)).sum::<usize>()
        }
        Op::ExpireMessages(expire) => expire.due.len() * ITEM,
        Op::FileReport(report) => of_text(report.note.as_ref()),
        // The cluster's record does not come through here.
        Op::RemoveParticipant(_)
        | Op::DeleteMessage(_)
        | Op::React(_)
        | Op::Pin(_)
        | Op::SetPrivacy(_)
        | Op::SetBlock(_)
        | Op::ProfileTold(_)
        | Op::MarkRead(_)
        | Op::TakePrekeys(_)
        | Op::DeleteDevice(_)
        | Op::IndexMembership(_)
        | Op::ClaimKey(_)
        | Op::Suspend(_)
        | Op::Meta(_) => 0,
    }
}

fn of_sealed(envelopes: Option<&Envelopes>) -> usize {
    envelopes.map_or(0, |envelopes| of_envelopes(&envelopes.list))
}

fn of_profile(profile: &Profile) -> usize {
    (profile.devices.len() + profile.blocks.len()) * ITEM
}

fn of_keys(publish: &PublishedKeys) -> usize {
    let lists = publish.one_time.iter().chain(&publish.pq_one_time);
    let single = publish.last_resort.iter().chain(&publish.pq_last_resort).chain([&publish.signed_prekey]);
    let key = |key: &Prekey| ITEM + key.public_key.len() + key.signature.as_ref().map_or(0, Bytes::len);
    publish.identity_key.len() + lists.chain(single).map(key).sum::<usize>()
}
