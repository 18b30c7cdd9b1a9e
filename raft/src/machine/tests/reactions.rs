//! Tests of reactions.

use super::*;
use messenger_proto::event::{Reacted, Subject, ThreadEventBody};
use messenger_proto::limits::{MESSAGE_REACTIONS_MAX, USER_REACTIONS_MAX};

fn reactions(message: &Message) -> Vec<(&str, Vec<&str>)> {
    message
        .reactions
        .iter()
        .map(|reaction| (reaction.emoji.as_str(), reaction.by.iter().map(UserId::as_str).collect()))
        .collect()
}

#[test]
fn reactions_are_kept_told_and_answered() {
    let mut shard = Shard::with_group(&["ann", "bob"]);
    let sent = shard.send(GROUP, "ann", 1);
    let first = message(shard.run(react("bob", sent.id, "+", true)));
    assert_eq!((reactions(&first), first.receipts.clone()), (vec![("+", vec!["bob"])], None));
    shard.run(react("ann", sent.id, "-", true)).unwrap();
    let both = message(shard.run(react("ann", sent.id, "+", true)));
    assert_eq!(reactions(&both), [("+", vec!["bob", "ann"]), ("-", vec!["ann"])]);
    assert!(both.receipts.is_some(), "its sender sees receipts");
    shard.run(react("bob", sent.id, "+", false)).unwrap();
    shard.run(react("ann", sent.id, "-", false)).unwrap();
    assert_eq!(reactions(&shard.history(GROUP, "bob").unwrap()[0]), [("+", vec!["ann"])]);
    let of = || Subject { id: sent.id, seq: sent.seq };
    let reacted = |by: &str, emoji: &str, present| {
        let emoji = Emoji::new(emoji).unwrap();
        ThreadEventBody::Reacted(Reacted { of: of(), emoji, by: user(by), present })
    };
    let expected = [
        reacted("bob", "+", true),
        reacted("ann", "-", true),
        reacted("ann", "+", true),
        reacted("bob", "+", false),
        reacted("ann", "-", false),
    ];
    let told: Vec<_> = shard.thread_events(GROUP).into_iter().skip(2).collect();
    assert_eq!(told.iter().map(|event| event.body.clone()).collect::<Vec<_>>(), expected);
    assert_eq!(shard.resume_one(GROUP, "bob", None, None).events[2..], told);
    assert_eq!(shard.changed(GROUP, "bob", 6).unwrap().len(), 1, "a reaction is a change of the message");
}

#[test]
fn the_same_again_is_no_event() {
    let mut shard = Shard::with_group(&["ann", "bob"]);
    let sent = shard.send(GROUP, "ann", 1);
    shard.run(react("bob", sent.id, "+", false)).unwrap();
    let first = message(shard.run(react("bob", sent.id, "+", true)));
    assert_eq!(message(shard.run(react("bob", sent.id, "+", true))), first);
    shard.run(react("bob", sent.id, "-", false)).unwrap();
    shard.run(react("ann", sent.id, "+", false)).unwrap();
    assert_eq!(shard.thread_events(GROUP).len(), 3);
}

#[test]
fn reactions_are_bounded() {
    let names: Vec<String> = (0..100).map(|number| format!("u{number}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let mut shard = Shard::with_group(&names);
    let sent = shard.send(GROUP, "u0", 1);
    let mut count = 0;
    for name in &names[..MESSAGE_REACTIONS_MAX / USER_REACTIONS_MAX] {
        for number in 0..USER_REACTIONS_MAX {
            shard.run(react(name, sent.id, &number.to_string(), true)).unwrap();
            count += 1;
        }
        let more = react(name, sent.id, "more", true);
        assert_eq!(shard.refused(more), ErrorCode::TooManyReactions, "{name}");
    }
    assert_eq!(count, MESSAGE_REACTIONS_MAX);
    assert_eq!(shard.refused(react("u99", sent.id, "0", true)), ErrorCode::TooManyReactions);
    shard.run(react("u0", sent.id, "0", true)).unwrap();
    shard.run(react("u0", sent.id, "0", false)).unwrap();
    shard.run(react("u99", sent.id, "0", true)).unwrap();
}

#[test]
fn reactions_are_to_messages_in_sight_that_are_there() {
    let mut shard = Shard::with_group(&["ann", "bob"]);
    let (old, gone) = (shard.send(GROUP, "ann", 1), shard.send(GROUP, "ann", 2));
    shard.run(add("ann", &["cid"])).unwrap();
    shard.run(react("bob", gone.id, "+", true)).unwrap();
    shard.run(delete("ann", gone.id)).unwrap();
    assert!(shard.history(GROUP, "bob").unwrap()[1].reactions.is_empty(), "a deleted message has none");
    assert_eq!(shard.refused(react("bob", gone.id, "+", true)), ErrorCode::MessageDeleted);
    let events = shard.events.len();
    shard.run(react("bob", gone.id, "+", false)).unwrap();
    assert_eq!(shard.events.len(), events);
    for present in [true, false] {
        assert_eq!(shard.refused(react("cid", old.id, "+", present)), ErrorCode::Forbidden);
        assert_eq!(shard.refused(react("eve", old.id, "+", present)), ErrorCode::NotAMember);
        assert_eq!(shard.refused(react("ann", MessageId(1), "+", present)), ErrorCode::NotFound);
    }
    shard.run(react("bob", old.id, "+", true)).unwrap();
    assert_eq!(shard.thread_events(GROUP).pop().unwrap().hidden_from, users(&["cid"]));
}

#[test]
fn a_repeat_puts_nothing_on_again() {
    let mut shard = Shard::with_group(&["ann", "bob"]);
    let sent = shard.send(GROUP, "ann", 1);
    let op = react("bob", sent.id, "+", true);
    let command = Command { id: CommandId([1; 16]), retention: Retention::Keyed, body_hash: 0, op };
    shard.command(command.clone()).unwrap();
    shard.run(react("bob", sent.id, "+", false)).unwrap();
    let again = shard.command(command.clone()).unwrap();
    assert!(again.replayed && message(Ok(again)).reactions.is_empty());
    let other = Command { body_hash: 1, ..command };
    assert_eq!(shard.command(other).unwrap_err().code, ErrorCode::IdempotencyKeyReused);
}
