//! Devices that write to each other, without a cluster between them.

mod crash;
mod schedules;
mod world;

use super::*;
use crate::frames::{DeleteFrame, EditFrame, ReactionFrame};
use messenger_proto::ids::{MessageId, ThreadId};
use world::{World, user};

const THREAD: ThreadId = ThreadId([7; 16]);
const ELSEWHERE: ThreadId = ThreadId([8; 16]);

#[test]
fn every_device_reads_what_any_writes_and_the_writer_keeps_its_own() {
    let mut world = World::new(&[("alice", "phone"), ("alice", "laptop"), ("bob", "phone"), ("bob", "tablet")]);
    for (round, writer) in [0, 2, 3, 1, 0, 2].into_iter().enumerate() {
        let text = format!("message {round}");
        let message = world.send(writer, THREAD, &text);
        for reader in 0..4 {
            let received = world.deliver(reader, &message);
            assert!(received.is_new && received.news.is_empty(), "{received:?}");
            assert_eq!((received.record.kind, received.record.text.as_str()), (RecordKind::Encrypted, text.as_str()));
            assert!(!world.deliver(reader, &message).is_new, "once");
        }
        assert!(world.vaults[writer].waiting().unwrap().is_empty());
    }
    let history = world.vaults[3].history(THREAD, 4).unwrap();
    let texts: Vec<_> = history.iter().map(|record| record.text.as_str()).collect();
    assert_eq!(texts, ["message 2", "message 3", "message 4", "message 5"]);
}

#[test]
fn messages_survive_disorder_loss_and_repetition() {
    let mut world = World::new(&[("alice", "phone"), ("bob", "phone")]);
    let sent: Vec<_> = (0..20).map(|n| world.send(0, THREAD, &n.to_string())).collect();
    for at in [5, 0, 19, 3, 3, 18, 1, 5] {
        let received = world.deliver(1, &sent[at]);
        assert_eq!((received.record.kind, received.record.text), (RecordKind::Encrypted, at.to_string()));
    }
    // Both wrote first, each beginning a session of its own.
    let (from_a, from_b) = (world.send(0, THREAD, "a"), world.send(1, THREAD, "b"));
    assert_eq!(world.deliver(1, &from_a).record.text, "a");
    assert_eq!(world.deliver(0, &from_b).record.text, "b");
}

#[test]
fn an_envelope_counts_only_where_it_was_meant_to() {
    let mut world = World::new(&[("alice", "phone"), ("bob", "phone"), ("carol", "phone")]);
    let unreadable = |received: Received, why: &str| {
        assert_eq!((received.record.kind, received.record.text.as_str()), (RecordKind::Unreadable, why));
    };
    let replaced = |message: &crate::model::Message, id: u128| crate::model::Message {
        id: MessageId(id << 64),
        ..message.clone()
    };

    let mut moved = world.send(0, THREAD, "for this thread alone");
    moved.message.thread_id = ELSEWHERE;
    unreadable(world.deliver(1, &moved), "it was written for another conversation");

    let mut renumbered = world.send(0, THREAD, "number one");
    renumbered.message.client_seq += 1;
    unreadable(world.deliver(1, &renumbered), "it was written as another message");

    let mut forged = world.send(0, THREAD, "by alice");
    forged.message.sender_id = user("carol");
    unreadable(world.deliver(1, &forged), "this device has no key for it");

    let mut misdelivered = world.send(0, THREAD, "for carol's eyes");
    let carols = misdelivered.envelopes.iter().position(|e| e.user_id == user("carol")).unwrap();
    misdelivered.envelopes[carols].user_id = user("bob");
    misdelivered.envelopes.swap(0, carols);
    unreadable(world.deliver(1, &misdelivered), "this device has no key for it");

    let good = world.send(0, THREAD, "once");
    assert_eq!(world.deliver(1, &good).record.text, "once");
    let mut again = good.clone();
    again.message = replaced(&good.message, 999);
    unreadable(world.deliver(1, &again), "it was read before");

    let mut broken = world.send(0, THREAD, "to be broken");
    let bytes = broken.envelopes[0].ciphertext.to_vec();
    broken.envelopes[0].ciphertext = bytes[..bytes.len() - 3].to_vec().into();
    assert_eq!(world.deliver(1, &broken).record.kind, RecordKind::Unreadable);

    // None of that stops the conversation.
    let after = world.send(0, THREAD, "and on");
    assert_eq!(world.deliver(1, &after).record.text, "and on");
}

#[test]
fn a_first_message_cannot_be_replayed_when_its_session_is_forgotten() {
    let mut world = World::new(&[("alice", "phone"), ("bob", "phone")]);
    world.exhaust(1);
    let first = world.send(0, THREAD, "pay me");
    assert_eq!(world.deliver(1, &first).record.text, "pay me");
    // Enough new sessions to push the first one out; the stand-in key that began it is still good.
    for n in 0..6 {
        world.begin_anew(0, 1);
        let message = world.send(0, THREAD, &n.to_string());
        assert_eq!(world.deliver(1, &message).record.text, n.to_string());
    }
    let mut again = first.clone();
    again.message.id = MessageId(999 << 64);
    let replayed = world.deliver(1, &again).record;
    assert_eq!((replayed.kind, replayed.text.as_str()), (RecordKind::Unreadable, "it repeats an earlier message"));
}

#[test]
fn what_was_not_encrypted_or_not_for_this_device_is_kept_as_such() {
    let mut world = World::new(&[("alice", "phone"), ("bob", "phone")]);
    let plain = world.plain("alice", "curl", THREAD, b"hello");
    let received = world.deliver(1, &plain);
    assert_eq!((received.record.kind, received.record.text.as_str()), (RecordKind::Plain, "hello"));
    let binary = world.plain("alice", "curl", THREAD, &[0xff]);
    assert_eq!(world.deliver(1, &binary).record.text, "(1 bytes that are no text)");
    let mut absent = world.send(0, THREAD, "x");
    absent.envelopes.clear();
    assert_eq!(world.deliver(1, &absent).record.kind, RecordKind::Absent);
}

#[test]
fn new_devices_and_new_keys_are_told() {
    let mut world = World::new(&[("alice", "phone"), ("bob", "phone")]);
    let first = world.send(0, THREAD, "hi");
    assert!(world.news.is_empty(), "the first keys are trusted: {:?}", world.news);
    world.deliver(1, &first);

    world.join("bob", "tablet");
    let second = world.send(0, THREAD, "hi both");
    assert_eq!(world.news, [News::NewDevice(world.whose(2))]);
    assert_eq!(world.deliver(2, &second).record.text, "hi both");

    // Bob's phone lost its keys: the session is begun anew, and alice is told.
    world.lose(1);
    let third = world.send(0, THREAD, "again");
    assert_eq!(world.news[1..], [News::NewKeys(world.whose(1))]);
    assert_eq!(world.deliver(1, &third).record.text, "again");

    // One who lost its keys and writes first is recognised by what it writes.
    world.lose(0);
    let fourth = world.send(0, THREAD, "new me");
    assert_eq!(world.deliver(2, &fourth).news, [News::NewKeys(world.whose(0))]);

    world.leave(2);
    world.send(1, THREAD, "to the rest");
    assert!(
        world.news.contains(&News::Gone(world.whose(2)))
            || world.vaults[1].identities(&user("bob")).unwrap().len() == 1
    );
}

#[test]
fn safety_numbers_agree_once_all_devices_met() {
    let mut world = World::new(&[("alice", "phone"), ("alice", "laptop"), ("bob", "phone")]);
    for writer in 0..3 {
        let message = world.send(writer, THREAD, "hi");
        (0..3).for_each(|reader| drop(world.deliver(reader, &message)));
    }
    let number = |at: usize| {
        let of = |name: &str| -> Vec<_> {
            world.vaults[at].identities(&user(name)).unwrap().into_iter().map(|(_, identity)| identity).collect()
        };
        safety_number((&user("alice"), &of("alice")), (&user("bob"), &of("bob")))
    };
    assert_eq!(number(0), number(1));
    assert_eq!(number(0), number(2));
}

#[test]
fn edits_deletions_and_reactions_change_what_is_kept() {
    let mut world = World::new(&[("alice", "phone"), ("bob", "phone")]);
    let sent = world.send(0, THREAD, "helo");
    let id = sent.message.id;
    world.deliver(0, &sent);
    world.deliver(1, &sent);
    let edit = |world: &mut World, text: &str, at: &str| {
        let envelopes = world.edit(0, THREAD, id, text);
        let ciphertext = envelopes.into_iter().find(|e| e.user_id == user("bob")).map(|e| e.ciphertext);
        EditFrame { thread_id: THREAD, id, ciphertext, edited_at: at.into() }
    };
    let first = edit(&mut world, "hello", "1");
    let kept = world.vaults[1].edited(&first).unwrap().unwrap().record;
    assert_eq!((kept.kind, kept.text.as_str()), (RecordKind::Encrypted, "hello"));
    assert_eq!(world.vaults[1].edited(&first).unwrap().unwrap().record, kept, "heard again");

    // An edit of one message does not pass for one of another, or for a message.
    let other = world.send(0, THREAD, "other");
    world.deliver(1, &other);
    let misplaced = EditFrame { id: other.message.id, ..edit(&mut world, "evil", "2") };
    let kept = world.vaults[1].edited(&misplaced).unwrap().unwrap().record;
    assert_eq!(kept.kind, RecordKind::Unreadable);
    let replayed = EditFrame { id: other.message.id, edited_at: "3".into(), ..first.clone() };
    assert_eq!(world.vaults[1].edited(&replayed).unwrap().unwrap().record.kind, RecordKind::Unreadable);

    let reaction =
        |op: &str| ReactionFrame { thread_id: THREAD, id, emoji: "+".into(), by: user("bob"), op: op.into() };
    assert_eq!(world.vaults[1].reacted(&reaction("added")).unwrap().unwrap().record.reactions.len(), 1);
    assert_eq!(world.vaults[1].reacted(&reaction("added")).unwrap(), None);
    assert!(world.vaults[1].reacted(&reaction("removed")).unwrap().unwrap().record.reactions.is_empty());

    let deletion = |reason: &str| DeleteFrame { thread_id: THREAD, id, reason: reason.into() };
    let kept = world.vaults[1].deleted(&deletion("sender")).unwrap().unwrap().record;
    assert_eq!((kept.kind, kept.text.as_str()), (RecordKind::Deleted, ""));
    let late = edit(&mut world, "back again", "4");
    assert_eq!(world.vaults[1].edited(&late).unwrap().unwrap().record.kind, RecordKind::Deleted);
}

#[test]
fn an_edit_that_was_missed_comes_with_the_message() {
    let mut world = World::new(&[("alice", "phone"), ("bob", "phone")]);
    let mut sent = world.send(0, THREAD, "helo");
    world.deliver(0, &sent);
    sent.envelopes = world.edit(0, THREAD, sent.message.id, "hello");
    sent.message.edited_at = Some("1".into());
    let received = world.deliver(1, &sent);
    assert_eq!((received.record.kind, received.record.text.as_str()), (RecordKind::Encrypted, "hello"));
    let ciphertext = sent.envelopes.first().map(|e| e.ciphertext.clone());
    let frame = EditFrame { thread_id: THREAD, id: sent.message.id, ciphertext, edited_at: "1".into() };
    assert_eq!(world.vaults[1].edited(&frame).unwrap().unwrap().record.text, "hello");
}

#[test]
fn a_message_is_sealed_again_only_for_whom_it_must() {
    let mut world = World::new(&[("alice", "phone"), ("bob", "phone")]);
    let number = world.vaults[0].queue(THREAD, "hi").unwrap();
    let first = world.seal(0, number);
    world.join("bob", "tablet");
    let second = world.seal(0, number);
    assert_ne!(first.key, second.key, "another body, another key");
    let (first, second) = (world::envelopes(&first), world::envelopes(&second));
    assert_eq!((first.len(), second.len()), (1, 2));
    assert_eq!(first[0], second.iter().find(|e| e.device_id == first[0].device_id).unwrap().clone());
}

#[test]
fn keys_are_published_until_they_arrived_and_then_refilled() {
    let world = World::new(&[("alice", "phone")]);
    let vault = &world.vaults[0];
    let first = vault.publication(0).unwrap();
    assert_eq!(first.one_time_prekeys.len(), 50, "what the world published was taken note of");
    vault.published(&first).unwrap();
    let refill = vault.publication(45).unwrap();
    assert_eq!(refill.one_time_prekeys.len(), 5);
    assert_eq!(vault.publication(45).unwrap(), refill, "until it arrived");
    vault.published(&refill).unwrap();
    assert!(vault.publication(50).unwrap().one_time_prekeys.is_empty());
    let before = vault.registration().unwrap();
    vault.renew_keys().unwrap();
    assert_ne!(vault.registration().unwrap(), before);
    assert_ne!(vault.publication(0).unwrap().identity_key, refill.identity_key);
}

#[test]
fn a_text_beyond_the_bound_is_refused() {
    let world = World::new(&[("alice", "phone"), ("bob", "phone")]);
    assert!(world.vaults[0].queue(THREAD, &"x".repeat(TEXT_MAX)).is_ok());
    assert!(matches!(world.vaults[0].queue(THREAD, &"x".repeat(TEXT_MAX + 1)), Err(SealError::TooLong(_))));
}

#[test]
fn a_device_that_was_set_back_is_heard_again_through_a_new_session() {
    let mut world = World::new(&[("alice", "phone"), ("bob", "phone")]);
    let first = world.send(0, THREAD, "first");
    world.deliver(1, &first);
    let old = world.disks[1].image();
    for text in ["one", "two"] {
        let his = world.send(1, THREAD, text);
        assert_eq!(world.deliver(0, &his).record.text, text);
        let hers = world.send(0, THREAD, text);
        assert_eq!(world.deliver(1, &hers).record.text, text);
    }
    world.reopen(1, world::Disk::of(old));
    let lost = world.send(1, THREAD, "lost");
    assert_eq!(world.deliver(0, &lost).record.kind, RecordKind::Unreadable);
    let pardon = world.send(0, THREAD, "pardon?");
    assert_eq!(world.deliver(1, &pardon).record.text, "pardon?");
    let again = world.send(1, THREAD, "again");
    assert_eq!(world.deliver(0, &again).record.text, "again");
}
