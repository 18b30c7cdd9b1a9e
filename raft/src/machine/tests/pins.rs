//! Tests of pins.

use super::*;
use messenger_proto::event::{Pinned, Subject, ThreadEventBody};
use messenger_proto::limits::PINS_MAX;

fn pinned(result: CommandResult) -> Vec<MessageId> {
    match result.unwrap().body {
        ReplyBody::Pins(reply) => reply.pins.iter().map(|pin| pin.message).collect(),
        other => panic!("{other:?}"),
    }
}

fn seen(shard: &Shard, viewer: &str) -> Vec<MessageId> {
    shard.pins(GROUP, viewer).unwrap().iter().map(|pin| pin.message).collect()
}

#[test]
fn pins_are_kept_told_and_answered() {
    let mut shard = Shard::with_group(&["ann", "bob"]);
    let (one, two) = (shard.send(GROUP, "ann", 1), shard.send(GROUP, "ann", 2));
    shard.now += 5;
    assert_eq!(pinned(shard.run(pin("bob", two.id, true))), [two.id]);
    let expected = [Pin { message: two.id, by: user("bob"), at: Millis(shard.now) }];
    assert_eq!(shard.pins(GROUP, "ann").unwrap(), expected);
    assert_eq!(pinned(shard.run(pin("ann", one.id, true))), [two.id, one.id]);
    shard.run(pin("ann", two.id, false)).unwrap();
    assert_eq!(seen(&shard, "bob"), [one.id]);
    let told: Vec<_> = shard.thread_events(GROUP).into_iter().skip(3).collect();
    let event = |of: &Message, by: &str, present| {
        let of = Subject { id: of.id, seq: of.seq };
        ThreadEventBody::Pinned(Pinned { of, by: user(by), present })
    };
    let expected = [event(&two, "bob", true), event(&one, "ann", true), event(&two, "ann", false)];
    assert_eq!(told.iter().map(|event| event.body.clone()).collect::<Vec<_>>(), expected);
    assert_eq!(shard.resume_one(GROUP, "bob", None, None).events[3..], told);
    let changed = shard.changed(GROUP, "bob", 3).unwrap();
    assert!(changed.is_empty(), "a pin is a change of the thread, not of the message");
}

#[test]
fn the_same_again_is_no_event() {
    let mut shard = Shard::with_group(&["ann", "bob"]);
    let sent = shard.send(GROUP, "ann", 1);
    shard.run(pin("bob", sent.id, false)).unwrap();
    shard.run(pin("bob", sent.id, true)).unwrap();
    let pins = shard.pins(GROUP, "bob").unwrap();
    shard.now += 5;
    assert_eq!(pinned(shard.run(pin("ann", sent.id, true))), [sent.id]);
    assert_eq!(shard.pins(GROUP, "bob").unwrap(), pins, "it is the pin of who pinned it first");
    assert_eq!(shard.thread_events(GROUP).len(), 3);
}

#[test]
fn a_thread_has_so_many_pins_and_no_more() {
    let mut shard = Shard::with_group(&["ann", "bob"]);
    let sent: Vec<_> = (0..=PINS_MAX as u64).map(|number| shard.send(GROUP, "ann", number).id).collect();
    for id in &sent[..PINS_MAX] {
        shard.run(pin("bob", *id, true)).unwrap();
    }
    assert_eq!(shard.refused(pin("ann", sent[PINS_MAX], true)), ErrorCode::TooManyPins);
    shard.run(pin("ann", sent[0], true)).unwrap();
    shard.run(delete("ann", sent[1])).unwrap();
    shard.run(pin("ann", sent[PINS_MAX], true)).unwrap();
    assert_eq!(seen(&shard, "bob"), [sent[0], sent[2], sent[PINS_MAX]]);
}

#[test]
fn a_deleted_message_is_not_pinned() {
    let mut shard = Shard::with_group(&["ann", "bob"]);
    let sent = shard.send(GROUP, "ann", 1);
    shard.run(pin("bob", sent.id, true)).unwrap();
    let events = shard.events.len();
    shard.run(delete("ann", sent.id)).unwrap();
    assert!(seen(&shard, "bob").is_empty());
    assert_eq!(shard.events.len(), events + 1, "the deletion says it all");
    assert_eq!(shard.refused(pin("bob", sent.id, true)), ErrorCode::MessageDeleted);
    shard.run(pin("bob", sent.id, false)).unwrap();
    assert_eq!(shard.events.len(), events + 1);
}

#[test]
fn pins_are_of_the_thread_and_seen_by_those_who_see_the_message() {
    let mut shard = Shard::with_group(&["ann", "bob"]);
    shard.run(create(PAIR, ThreadKind::OneToOne, "ann", &["bob"])).unwrap();
    let (old, elsewhere) = (shard.send(GROUP, "ann", 1), shard.send(PAIR, "ann", 1));
    shard.run(add("ann", &["cid"])).unwrap();
    shard.run(pin("ann", old.id, true)).unwrap();
    assert_eq!(shard.thread_events(GROUP).pop().unwrap().hidden_from, users(&["cid"]));
    assert!(seen(&shard, "cid").is_empty());
    let new = shard.send(GROUP, "ann", 2);
    assert_eq!(pinned(shard.run(pin("cid", new.id, true))), [new.id], "what is answered is what is in sight");
    for present in [true, false] {
        assert_eq!(shard.refused(pin("cid", old.id, present)), ErrorCode::Forbidden);
        assert_eq!(shard.refused(pin("eve", new.id, present)), ErrorCode::NotAMember);
        assert_eq!(shard.refused(pin("ann", elsewhere.id, present)), ErrorCode::NotFound);
        assert_eq!(shard.refused(pin("ann", MessageId(1), present)), ErrorCode::NotFound);
    }
    assert_eq!(shard.pins(GROUP, "eve").unwrap_err().code, ErrorCode::NotAMember);
    assert_eq!(shard.pins(ThreadId([1; 16]), "ann").unwrap_err().code, ErrorCode::NotFound);
}

#[test]
fn a_repeat_pins_nothing_again() {
    let mut shard = Shard::with_group(&["ann", "bob"]);
    let sent = shard.send(GROUP, "ann", 1);
    let op = pin("bob", sent.id, true);
    let command = Command { id: CommandId([1; 16]), retention: Retention::Keyed, body_hash: 0, op };
    shard.command(command.clone()).unwrap();
    shard.run(pin("bob", sent.id, false)).unwrap();
    let again = shard.command(command).unwrap();
    assert!(again.replayed && pinned(Ok(again)).is_empty());
}
