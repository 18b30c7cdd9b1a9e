//! Tests of messages that disappear.

use super::super::due_messages;
use super::*;
use messenger_proto::event::{Deleted, Subject, ThreadEventBody};
use messenger_proto::limits::TTL_MAX;
use messenger_proto::model::{DeletionReason, DeliveryState};
use messenger_proto::query::{MessageQuery, SummariesQuery};

impl Shard {
    fn due(&self) -> Vec<DueMessage> {
        due_messages(&self.tables, 100).unwrap()
    }

    /// The timer looks, and has everything that is due taken away.
    fn tick(&mut self) {
        let due = self.due().into_iter().filter(|message| message.at.0 <= self.now).collect();
        self.run(expire(due)).unwrap();
    }

    fn one(&self, id: MessageId, viewer: &str) -> Message {
        match self.ask(&Query::Message(MessageQuery { id, viewer: user(viewer), device: device("phone") })).unwrap() {
            Answer::Message(message) => message,
            other => panic!("{other:?}"),
        }
    }

    fn states(&self, id: MessageId) -> Vec<(String, DeliveryState)> {
        let recipients = self.recipients(id, "ann").unwrap();
        recipients.into_iter().map(|one| (one.user.as_str().to_owned(), one.state)).collect()
    }
}

fn is_gone(message: &Message) -> bool {
    message.deleted && message.ciphertext.is_none() && message.attachments.is_empty() && message.reactions.is_empty()
}

#[test]
fn a_message_is_taken_away_in_time_and_everyone_is_told() {
    let mut shard = Shard::with_group(&["ann", "bob"]);
    let sent = message(shard.run(send_for("ann", 1, 60)));
    assert_eq!(sent.expires_at, Some(Millis(sent.id.created_at().0 + 60_000)));
    let [due] = &shard.due()[..] else { panic!() };
    assert_eq!((due.at, due.thread, due.seq), (sent.expires_at.unwrap(), GROUP, sent.seq));
    shard.run(pin("bob", sent.id, true)).unwrap();
    shard.run(react("bob", sent.id, "+", true)).unwrap();
    // Too early.
    shard.run(expire(shard.due())).unwrap();
    assert!(!is_gone(&shard.one(sent.id, "bob")));
    shard.now = due.at.0;
    shard.tick();
    assert!(shard.due().is_empty());
    let told = shard.thread_events(GROUP).pop().unwrap();
    let of = Subject { id: sent.id, seq: sent.seq };
    assert_eq!(told.body, ThreadEventBody::Deleted(Deleted { of, reason: DeletionReason::Expired }));
    assert!(shard.pins(GROUP, "bob").unwrap().is_empty());
    let missed = shard.resume_one(GROUP, "bob", None, None).events;
    assert!(missed.iter().any(|event| event.body == told.body));
    // Again changes nothing, whatever it names.
    let events = shard.thread_events(GROUP).len();
    shard.run(expire(vec![due.clone(), DueMessage { seq: Seq(999), ..due.clone() }])).unwrap();
    assert_eq!(shard.thread_events(GROUP).len(), events);
    assert!(!shard.tables.0.values().any(|row| row.windows(5).any(|part| part == b"ann 1")), "it is nowhere");
}

#[test]
fn from_its_time_on_nobody_reads_it_though_the_timer_is_late() {
    let mut shard = Shard::with_group(&["ann", "bob"]);
    let first =
        Command { id: CommandId([5; 16]), retention: Retention::Keyed, body_hash: 1, op: send_for("ann", 1, 60) };
    let sent = message(shard.command(first.clone()));
    shard.run(edit("ann", sent.id, "other")).unwrap();
    shard.now = sent.expires_at.unwrap().0 - 1;
    assert!(!is_gone(&shard.one(sent.id, "bob")));
    shard.now += 1;
    assert!(is_gone(&shard.one(sent.id, "bob")));
    assert!(shard.history(GROUP, "ann").unwrap().iter().all(is_gone));
    assert!(shard.changed(GROUP, "bob", 0).unwrap().iter().all(is_gone));
    let summaries = SummariesQuery { threads: vec![GROUP], viewer: user("bob"), device: device("phone") };
    match shard.ask(&Query::Summaries(summaries)).unwrap() {
        Answer::Summaries(answer) => assert!(is_gone(answer.summaries[0].last_message.as_ref().unwrap())),
        other => panic!("{other:?}"),
    }
    for event in shard.resume_one(GROUP, "bob", None, None).events {
        match event.body {
            ThreadEventBody::Message(message) => assert!(is_gone(&message)),
            ThreadEventBody::Edited(edited) => assert_eq!(edited.ciphertext, None),
            _ => {}
        }
    }
    let again = shard.command(first).unwrap();
    assert!(again.replayed && is_gone(&message(Ok(again))));
    for op in [edit("ann", sent.id, "x"), react("bob", sent.id, "+", true), pin("bob", sent.id, true)] {
        assert_eq!(shard.refused(op), ErrorCode::MessageDeleted);
    }
    let events = shard.thread_events(GROUP).len();
    shard.run(delete("ann", sent.id)).unwrap();
    shard.tick();
    shard.run(delete("ann", sent.id)).unwrap();
    assert_eq!(shard.thread_events(GROUP).len(), events + 1, "it is taken away once, whoever comes first");
}

#[test]
fn who_did_not_take_it_in_time_has_missed_it() {
    let mut shard = Shard::with_group(&["ann", "bob", "cat", "dan", "eve"]);
    let sent = message(shard.run(send_for("ann", 1, 60)));
    shard.run(ack("bob", sent.seq.0, None)).unwrap();
    shard.run(read("cat", sent.id)).unwrap();
    shard.now = sent.expires_at.unwrap().0;
    // One acknowledges between the time and the timer, one after it.
    shard.run(ack("dan", sent.seq.0, None)).unwrap();
    let expected = |failed| {
        let states =
            [("bob", DeliveryState::Delivered), ("cat", DeliveryState::Read), ("dan", failed), ("eve", failed)];
        states.map(|(name, state)| (name.to_owned(), state)).to_vec()
    };
    assert_eq!(shard.states(sent.id), expected(DeliveryState::Failed));
    shard.tick();
    shard.run(ack("eve", shard.thread_events(GROUP).last().unwrap().seq.unwrap().0, None)).unwrap();
    assert_eq!(shard.states(sent.id), expected(DeliveryState::Failed));
    let eve = &shard.recipients(sent.id, "ann").unwrap()[3];
    assert_eq!((eve.delivered_at, eve.read_at), (None, None));
    let counts = shard.one(sent.id, "ann").receipts.unwrap();
    assert_eq!((counts.of, counts.delivered, counts.read), (4, 2, 1));
    let counts = shard.history(GROUP, "ann").unwrap()[0].receipts.clone().unwrap();
    assert_eq!((counts.of, counts.delivered, counts.read), (4, 2, 1));
}

#[test]
fn one_that_its_sender_deleted_has_no_time_left_to_come() {
    let mut shard = Shard::with_group(&["ann", "bob"]);
    let sent = message(shard.run(send_for("ann", 1, 60)));
    shard.run(delete("ann", sent.id)).unwrap();
    assert!(shard.due().is_empty());
}

#[test]
fn a_life_is_between_a_second_and_a_year() {
    let mut shard = Shard::with_group(&["ann", "bob"]);
    let longest = u32::try_from(TTL_MAX.as_secs()).unwrap();
    for ttl in [0, longest + 1, u32::MAX] {
        let refusal = shard.run(send_for("ann", 1, ttl)).unwrap_err();
        assert_eq!((refusal.code, refusal.field.as_deref()), (ErrorCode::InvalidRequest, Some("ttl_seconds")));
    }
    shard.run(send_for("ann", 1, 1)).unwrap();
    shard.run(send_for("ann", 2, longest)).unwrap();
}
