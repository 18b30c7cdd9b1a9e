//! Tests of changing messages.

use super::*;
use messenger_proto::event::{Deleted, Edited, Subject, ThreadEventBody};
use messenger_proto::ids::Rev;
use messenger_proto::limits::CHANGE_WINDOW;
use messenger_proto::model::{DeletionReason, DeliveryState};

fn text(message: &Message) -> Option<&str> {
    message.ciphertext.as_ref().map(|bytes| std::str::from_utf8(bytes).unwrap())
}

fn of(message: &Message) -> Subject {
    Subject { id: message.id, seq: message.seq }
}

fn edits(events: &[ThreadEvent]) -> Vec<Option<&[u8]>> {
    let edits = events.iter().filter_map(|event| match &event.body {
        ThreadEventBody::Edited(edited) => Some(edited.ciphertext.as_deref()),
        _ => None,
    });
    edits.collect()
}

fn window() -> u64 {
    u64::try_from(CHANGE_WINDOW.as_millis()).unwrap()
}

#[test]
fn an_edit_is_stored_told_and_answered() {
    let mut shard = Shard::with_group(&["ann", "bob"]);
    let sent = shard.send(GROUP, "ann", 1);
    shard.run(read("bob", sent.id)).unwrap();
    shard.now += 5;
    let edited = message(shard.run(edit("ann", sent.id, "new")));
    assert_eq!((text(&edited), edited.edited_at, edited.seq), (Some("new"), Some(Millis(shard.now)), sent.seq));
    assert_eq!(edited.receipts.as_ref().map(|counts| counts.read), Some(1));
    assert_eq!(shard.history(GROUP, "bob").unwrap(), [Message { receipts: None, ..edited }]);
    let told = shard.thread_events(GROUP).pop().unwrap();
    assert_eq!((told.seq, told.rev, told.at), (Some(Seq(3)), Rev(4), Millis(shard.now)));
    let body = ThreadEventBody::Edited(Edited { of: of(&sent), ciphertext: Some("new".into()), kind: None });
    assert_eq!(told.body, body);
    assert_eq!(shard.thread(GROUP, "bob").unwrap().last_message, Some(sent.id), "an edit is no message");
}

#[test]
fn a_deleted_message_says_nothing_anywhere_and_keeps_its_place() {
    let mut shard = Shard::with_group(&["ann", "bob"]);
    let Op::SendMessage(op) = send(GROUP, "ann", 1) else { panic!() };
    let secret = SendMessage { ciphertext: "secret".into(), attachments: vec![r#"{"id":"secret"}"#.into()], ..op };
    let sent = message(shard.run(Op::SendMessage(secret)));
    shard.run(edit("ann", sent.id, "secret too")).unwrap();
    shard.run(ack("bob", 2, None)).unwrap();
    let before = shard.recipients(sent.id, "ann").unwrap();
    assert_eq!(before[0].state, DeliveryState::Delivered);
    shard.run(delete("ann", sent.id)).unwrap();
    let told = shard.thread_events(GROUP).pop().unwrap();
    assert_eq!(told.body, ThreadEventBody::Deleted(Deleted { of: of(&sent), reason: DeletionReason::Sender }));
    assert_eq!(shard.recipients(sent.id, "ann").unwrap(), before);
    shard.run(read("bob", sent.id)).unwrap();
    assert_eq!(shard.recipients(sent.id, "ann").unwrap()[0].state, DeliveryState::Read, "receipts go on");
    let seen = shard.history(GROUP, "bob").unwrap().remove(0);
    assert_eq!((seen.id, seen.seq, text(&seen), seen.deleted), (sent.id, sent.seq, None, true));
    assert!(seen.attachments.is_empty());
    for (key, row) in &shard.tables.0 {
        assert!(!row.windows(6).any(|bytes| bytes == b"secret"), "{key:?}");
    }
    let rows = shard.tables.clone();
    assert_eq!(edits(&shard.resume_one(GROUP, "bob", None, None).events), [None], "nor when it is replayed");
    assert_eq!(shard.refused(edit("ann", sent.id, "back")), ErrorCode::MessageDeleted);
    assert_eq!(shard.tables, rows);
    let events = shard.events.len();
    shard.now += window() * 2;
    shard.run(delete("ann", sent.id)).unwrap();
    assert_eq!(shard.events.len(), events, "again, and late, is as good as done");
}

#[test]
fn what_is_replayed_says_what_the_message_says_now() {
    let mut shard = Shard::with_group(&["ann", "bob"]);
    let sent = shard.send(GROUP, "ann", 1);
    shard.run(edit("ann", sent.id, "one")).unwrap();
    shard.run(edit("ann", sent.id, "two")).unwrap();
    assert_eq!(edits(&shard.thread_events(GROUP)), [Some(&b"one"[..]), Some(b"two")]);
    let missed = shard.resume_one(GROUP, "bob", None, None).events;
    assert_eq!(edits(&missed), [Some(&b"two"[..]), Some(b"two")]);
    let ThreadEventBody::Message(replayed) = &missed[1].body else { panic!() };
    assert_eq!(text(replayed), Some("two"));
}

#[test]
fn only_its_sender_changes_a_message_and_only_for_a_while() {
    let mut shard = Shard::with_group(&["ann", "bob"]);
    let sent = shard.send(GROUP, "ann", 1);
    let gone = shard.send(GROUP, "ann", 2);
    shard.run(add("ann", &["cid"])).unwrap();
    let unknown = MessageId(sent.id.0 + 1);
    let refusals = [
        ("bob", sent.id, ErrorCode::Forbidden),
        ("cid", sent.id, ErrorCode::Forbidden),
        ("eve", sent.id, ErrorCode::NotAMember),
        ("ann", unknown, ErrorCode::NotFound),
    ];
    for (name, id, code) in refusals {
        assert_eq!((shard.refused(edit(name, id, "x")), shard.refused(delete(name, id))), (code, code), "{name}");
    }
    assert_eq!(shard.refused(edit("ann", sent.id, &"x".repeat(64 * 1024 + 1))), ErrorCode::CiphertextTooLarge);
    shard.now = sent.id.created_at().0 + window();
    shard.run(edit("ann", sent.id, "in time")).unwrap();
    shard.now += 1;
    for op in [edit("ann", sent.id, "late"), edit("ann", gone.id, "ann 2"), delete("ann", sent.id)] {
        assert_eq!(shard.refused(op), ErrorCode::ChangeWindowClosed);
    }
    let events = shard.events.len();
    let late = message(shard.run(edit("ann", sent.id, "in time")));
    assert_eq!((text(&late), shard.events.len()), (Some("in time"), events), "a retry that comes late");
}

#[test]
fn the_same_text_again_is_no_edit() {
    let mut shard = Shard::with_group(&["ann", "bob"]);
    let sent = shard.send(GROUP, "ann", 1);
    shard.now += 5;
    assert_eq!(message(shard.run(edit("ann", sent.id, "ann 1"))), sent);
    let edited = message(shard.run(edit("ann", sent.id, "new")));
    shard.now += 5;
    assert_eq!(message(shard.run(edit("ann", sent.id, "new"))), edited);
    assert_eq!(shard.thread_events(GROUP).len(), 3);
}

#[test]
fn whoever_may_not_see_a_message_is_not_told_of_its_changes() {
    let mut shard = Shard::with_group(&["ann", "bob", "dan"]);
    let old = shard.send(GROUP, "ann", 1);
    shard.run(remove("ann", "dan")).unwrap();
    let missed = shard.send(GROUP, "ann", 2);
    shard.run(add("ann", &["cid", "dan"])).unwrap();
    let new = shard.send(GROUP, "ann", 3);
    let mut hidden = Vec::new();
    for id in [old.id, missed.id, new.id] {
        shard.run(edit("ann", id, "x")).unwrap();
        hidden.push(shard.thread_events(GROUP).pop().unwrap().hidden_from);
    }
    assert_eq!(hidden, [users(&["cid"]), users(&["cid", "dan"]), vec![]]);
    shard.run(delete("ann", old.id)).unwrap();
    assert_eq!(shard.thread_events(GROUP).pop().unwrap().hidden_from, users(&["cid"]));
    let told = |name: &str| {
        let missed = shard.resume_one(GROUP, name, None, None);
        assert_eq!(missed.position, Position { seq: Seq(11), rev: Rev(11) });
        missed.events.iter().filter_map(|event| event.body.subject()).map(|of| of.seq.0).collect::<Vec<_>>()
    };
    assert_eq!(told("cid"), [7]);
    assert_eq!(told("dan"), [2, 7, 2]);
    assert_eq!(told("bob"), [2, 4, 7, 2]);
    let changed = |name: &str| shard.changed(GROUP, name, 0).unwrap().iter().map(|one| one.seq.0).collect::<Vec<_>>();
    assert_eq!((changed("cid"), changed("dan"), changed("bob")), (vec![7], vec![7, 2], vec![4, 7, 2]));
}

#[test]
fn a_repeat_edits_nothing_and_is_for_members() {
    let mut shard = Shard::with_group(&["ann", "bob"]);
    let sent = shard.send(GROUP, "bob", 1);
    let op = edit("bob", sent.id, "one");
    let command = Command { id: CommandId([1; 16]), retention: Retention::Minted, body_hash: 0, op };
    shard.command(command.clone()).unwrap();
    let last = message(shard.run(edit("bob", sent.id, "two")));
    let again = shard.command(command.clone()).unwrap();
    assert!(again.replayed);
    assert_eq!(message(Ok(again)), last, "a late repeat takes nothing back");
    shard.run(remove("ann", "bob")).unwrap();
    assert_eq!(shard.command(command).unwrap_err().code, ErrorCode::NotAMember);
}

#[test]
fn a_page_of_changes_looks_at_a_bounded_number_of_rows() {
    let mut shard = Shard::with_group(&["ann", "bob"]);
    let sent = shard.send(GROUP, "ann", 1);
    let edits = (0..5_000u64).map(|number| Command {
        id: CommandId(u128::from(number).to_be_bytes()),
        retention: Retention::None,
        body_hash: 0,
        op: edit("ann", sent.id, &number.to_string()),
    });
    shard.pack(edits.collect());
    let other = shard.send(GROUP, "ann", 2);
    let first = shard.page(GROUP, "bob", HistoryRange::ChangedAfter(SeqBound { seq: Seq(0) }), 5).unwrap();
    assert!(first.messages.is_empty() && first.next.is_some_and(|next| next > Seq(1_000)), "{:?}", first.next);
    let all = shard.changed(GROUP, "bob", 0).unwrap();
    assert_eq!(all.iter().map(|message| message.id).collect::<Vec<_>>(), [sent.id, other.id]);
    assert_eq!(text(&all[0]), Some("4999"));
}
