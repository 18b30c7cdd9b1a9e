//! Tests of sending a message again that failed.

use super::blocks::tell;
use super::*;
use crate::machine::due_messages;
use messenger_proto::command::MessageReply;
use messenger_proto::envelope::{Envelope, Envelopes};
use messenger_proto::event::ThreadEventBody;
use messenger_proto::ids::RegistrationId;
use messenger_proto::model::{DeliveryState, ReceiptCounts};
use messenger_proto::profile::{Profile, ProfileDevice, UpdateProfile};

const HOUR: u64 = 3_600_000;

/// Sends under a key.
fn keyed(shard: &mut Shard, key: u8, op: Op) -> Result<(Message, bool, bool), Refusal> {
    let command = Command { id: CommandId([key; 16]), retention: Retention::Keyed, body_hash: 5, op };
    let Reply { replayed, body, .. } = shard.command(command)?;
    match body {
        ReplyBody::Message(MessageReply { message, duplicate }) => Ok((message, replayed, duplicate)),
        other => panic!("{other:?}"),
    }
}

fn tick(shard: &mut Shard) {
    let now = shard.now;
    let due = due_messages(&shard.tables, 99).unwrap().into_iter().filter(|due| due.at.0 <= now).collect();
    shard.run(expire(due)).unwrap();
}

fn text(message: &Message) -> Option<&[u8]> {
    message.ciphertext.as_deref()
}

/// A group in which bob kept ann away, and what she said then.
fn failed() -> (Shard, Message) {
    let mut shard = Shard::settled(&["ann", "bob", "cy"]);
    shard.run(tell("bob", 1, &["ann"])).unwrap();
    let (sent, ..) = keyed(&mut shard, 1, send(GROUP, "ann", 1)).unwrap();
    shard.run(ack("cy", 9, None)).unwrap();
    (shard, sent)
}

#[test]
fn those_who_block_no_longer_have_it_as_if_it_were_new() {
    let (mut shard, sent) = failed();
    shard.run(tell("bob", 2, &[])).unwrap();
    let later = shard.send(GROUP, "cy", 1);
    let (again, replayed, duplicate) = keyed(&mut shard, 2, send(GROUP, "ann", 1)).unwrap();
    assert_eq!((again.id, again.seq, replayed, duplicate), (sent.id, sent.seq, false, false));
    assert_eq!(again.receipts, Some(ReceiptCounts { of: 2, delivered: 1, read: 0 }));
    assert_eq!(shard.state_of(sent.id, "ann", "bob"), DeliveryState::Sent);
    assert_eq!(shard.state_of(sent.id, "ann", "cy"), DeliveryState::Delivered, "who has it keeps it");
    // A live event for bob alone, and a hole for all others.
    let event = shard.thread_events(GROUP).pop().unwrap();
    assert_eq!((event.seq, &event.hidden_from), (Some(Seq(4)), &users(&["ann", "cy"])));
    let ThreadEventBody::Message(told) = &event.body else { panic!("{event:?}") };
    assert_eq!((told.id, told.seq, text(told)), (sent.id, sent.seq, Some(b"ann 1".as_slice())));
    let resumed = |shard: &Shard, name| {
        let events = shard.resume_one(GROUP, name, None, None).events.into_iter();
        events.filter_map(|event| event.seq.map(|seq| seq.0)).collect::<Vec<_>>()
    };
    assert_eq!(resumed(&shard, "bob"), [1, 2, 3, 4]);
    assert_eq!(resumed(&shard, "cy"), [1, 2, 3]);
    assert_eq!(shard.ids("bob"), [sent.id, later.id]);
    assert_eq!(shard.changed(GROUP, "bob", 3).unwrap()[0].id, sent.id);
    // What his marks passed before says nothing of it: it takes the new event.
    let events = shard.events.len();
    shard.now += 7;
    shard.run(ack("bob", 3, None)).unwrap();
    assert_eq!(shard.state_of(sent.id, "ann", "bob"), DeliveryState::Sent);
    shard.now += 7;
    shard.run(ack("bob", 4, None)).unwrap();
    let one = shard.recipients(sent.id, "ann").unwrap().remove(0);
    assert_eq!((one.state, one.delivered_at), (DeliveryState::Delivered, Some(Millis(shard.now))));
    let told = |event: &ThreadEvent| match &event.body {
        ThreadEventBody::Receipt(receipt) => (receipt.up_to, receipt.senders.clone()),
        other => panic!("{other:?}"),
    };
    let told: Vec<_> = thread_events(&shard.events[events..], GROUP).iter().map(told).collect();
    assert_eq!(told, [(later.id, Some(users(&["cy"]))), (sent.id, Some(users(&["ann"])))]);
    shard.run(ack("bob", 4, None)).unwrap();
    assert_eq!(shard.thread_events(GROUP).len(), 7, "taken once");
    shard.now += 7;
    shard.run(read("bob", sent.id)).unwrap();
    let one = shard.recipients(sent.id, "ann").unwrap().remove(0);
    assert_eq!((one.state, one.read_at), (DeliveryState::Read, Some(Millis(shard.now))));
    // And it is remembered under the new key.
    let (same, replayed, _) = keyed(&mut shard, 2, send(GROUP, "ann", 1)).unwrap();
    assert_eq!((same.id, replayed), (sent.id, true));
    let (_, _, duplicate) = keyed(&mut shard, 3, send(GROUP, "ann", 1)).unwrap();
    assert!(duplicate, "nobody is left for whom it failed");
}

#[test]
fn those_who_still_block_stay_as_they_are_and_so_does_everything() {
    let (mut shard, sent) = failed();
    let events = shard.events.len();
    let (again, replayed, duplicate) = keyed(&mut shard, 2, send(GROUP, "ann", 1)).unwrap();
    assert_eq!((again.id, replayed, duplicate), (sent.id, false, false), "it is accepted all the same");
    assert_eq!(shard.events.len(), events);
    assert_eq!(shard.state_of(sent.id, "ann", "bob"), DeliveryState::Failed);
    assert_eq!(shard.ids("bob"), []);
}

#[test]
fn a_read_of_what_came_later_reads_it_and_one_of_what_came_before_does_not() {
    let (mut shard, sent) = failed();
    shard.run(tell("bob", 2, &[])).unwrap();
    let before = shard.send(GROUP, "cy", 1);
    keyed(&mut shard, 2, send(GROUP, "ann", 1)).unwrap();
    shard.run(read("bob", before.id)).unwrap();
    assert_eq!(shard.state_of(sent.id, "ann", "bob"), DeliveryState::Sent);
    let later = shard.send(GROUP, "cy", 2);
    shard.run(read("bob", later.id)).unwrap();
    assert_eq!(shard.state_of(sent.id, "ann", "bob"), DeliveryState::Read);
}

#[test]
fn only_under_a_new_key_with_the_same_body_and_within_a_day() {
    let (mut shard, sent) = failed();
    shard.run(tell("bob", 2, &[])).unwrap();
    let (_, replayed, _) = keyed(&mut shard, 1, send(GROUP, "ann", 1)).unwrap();
    assert!(replayed, "the old key has its old answer");
    let other =
        Command { id: CommandId([3; 16]), retention: Retention::Keyed, body_hash: 6, op: send(GROUP, "ann", 1) };
    assert_eq!(shard.command(other).unwrap_err().code, ErrorCode::DuplicateClientSeq);
    let unkeyed =
        Command { id: CommandId([4; 16]), retention: Retention::None, body_hash: 5, op: send(GROUP, "ann", 1) };
    let ReplyBody::Message(reply) = shard.command(unkeyed).unwrap().body else { panic!() };
    assert!(reply.duplicate, "a device that repeats itself means the same send");
    assert_eq!(shard.state_of(sent.id, "ann", "bob"), DeliveryState::Failed);
    shard.now = sent.id.created_at().0 + 24 * HOUR;
    let (_, _, duplicate) = keyed(&mut shard, 5, send(GROUP, "ann", 1)).unwrap();
    assert!(duplicate && shard.state_of(sent.id, "ann", "bob") == DeliveryState::Failed, "too late");
    shard.now -= 1;
}

#[test]
fn one_that_disappeared_untaken_says_again_what_it_said() {
    let mut shard = Shard::settled(&["ann", "bob", "cy"]);
    let (sent, ..) = keyed(&mut shard, 1, send_for("ann", 1, 60)).unwrap();
    shard.run(edit("ann", sent.id, "another")).unwrap();
    shard.run(ack("cy", 2, None)).unwrap();
    shard.now = sent.expires_at.unwrap().0;
    tick(&mut shard);
    shard.run(ack("bob", 4, None)).unwrap();
    let states = |shard: &Shard| ["bob", "cy"].map(|name| shard.state_of(sent.id, "ann", name));
    assert_eq!(states(&shard), [DeliveryState::Failed, DeliveryState::Delivered]);
    shard.now += HOUR;
    let (again, _, duplicate) = keyed(&mut shard, 2, send_for("ann", 1, 60)).unwrap();
    assert_eq!((again.id, duplicate, again.deleted, again.edited_at), (sent.id, false, false, None));
    assert_eq!(text(&again), Some(b"ann 1".as_slice()), "what its sender said under this number");
    assert_eq!(again.expires_at, Some(Millis(shard.now + 60_000)));
    assert_eq!(states(&shard), [DeliveryState::Sent, DeliveryState::Delivered]);
    let [due] = &due_messages(&shard.tables, 9).unwrap()[..] else { panic!("one time, the new one") };
    assert_eq!(due.at, again.expires_at.unwrap());
    // Untaken again, it fails again, and may be sent a third time.
    shard.now += 60_000;
    assert_eq!(states(&shard), [DeliveryState::Failed, DeliveryState::Delivered]);
    assert_eq!(shard.by_id(sent.id, "bob").unwrap().ciphertext, None, "whether or not it was taken away");
    keyed(&mut shard, 3, send_for("ann", 1, 60)).unwrap();
    let event = shard.thread_events(GROUP).pop().unwrap();
    shard.run(ack("bob", event.seq.unwrap().0, None)).unwrap();
    shard.now += 60_000;
    tick(&mut shard);
    assert_eq!(states(&shard), [DeliveryState::Delivered; 2]);
    let (_, _, duplicate) = keyed(&mut shard, 4, send_for("ann", 1, 60)).unwrap();
    assert!(duplicate && shard.by_id(sent.id, "ann").unwrap().deleted);
}

#[test]
fn whoever_it_is_not_sent_to_again_stays_failed_whatever_its_marks_say() {
    let mut shard = Shard::settled(&["ann", "bob", "cy", "dee"]);
    let (sent, ..) = keyed(&mut shard, 1, send_for("ann", 1, 60)).unwrap();
    shard.now = sent.expires_at.unwrap().0;
    tick(&mut shard);
    for name in ["bob", "cy", "dee"] {
        shard.run(ack(name, 3, None)).unwrap();
    }
    shard.run(remove("ann", "cy")).unwrap();
    shard.run(tell("dee", 1, &["ann"])).unwrap();
    shard.now += 1_000;
    keyed(&mut shard, 2, send_for("ann", 1, 60)).unwrap();
    let states = |shard: &Shard| ["bob", "cy", "dee"].map(|name| shard.state_of(sent.id, "ann", name));
    assert_eq!(states(&shard), [DeliveryState::Sent, DeliveryState::Failed, DeliveryState::Failed]);
    assert_eq!(shard.by_id(sent.id, "dee").unwrap_err().code, ErrorCode::NotFound, "what it says again is not for her");
    shard.run(edit("ann", sent.id, "more")).unwrap();
    assert_eq!(shard.thread_events(GROUP).pop().unwrap().hidden_from, users(&["dee"]));
    // She thinks better of it.
    shard.run(tell("dee", 2, &[])).unwrap();
    keyed(&mut shard, 3, send_for("ann", 1, 60)).unwrap();
    assert_eq!(states(&shard), [DeliveryState::Sent, DeliveryState::Failed, DeliveryState::Sent]);
    assert_eq!(
        text(&shard.by_id(sent.id, "dee").unwrap()),
        Some(b"more".as_slice()),
        "it had not disappeared meanwhile"
    );
}

#[test]
fn one_that_its_sender_deleted_stays_deleted() {
    let (mut shard, sent) = failed();
    shard.run(delete("ann", sent.id)).unwrap();
    shard.run(tell("bob", 2, &[])).unwrap();
    let (again, _, duplicate) = keyed(&mut shard, 2, send(GROUP, "ann", 1)).unwrap();
    assert!(duplicate && again.deleted);
}

#[test]
fn one_that_disappeared_and_that_its_sender_deleted_then_stays_deleted() {
    for timer_comes_first in [true, false] {
        let mut shard = Shard::settled(&["ann", "bob"]);
        let (sent, ..) = keyed(&mut shard, 1, send_for("ann", 1, 60)).unwrap();
        shard.now = sent.expires_at.unwrap().0;
        if timer_comes_first {
            tick(&mut shard);
        }
        shard.run(delete("ann", sent.id)).unwrap();
        tick(&mut shard);
        assert_eq!(shard.state_of(sent.id, "ann", "bob"), DeliveryState::Failed);
        let (again, _, duplicate) = keyed(&mut shard, 2, send_for("ann", 1, 60)).unwrap();
        assert!(duplicate && again.deleted, "{timer_comes_first}");
    }
    // After the time to delete it in, its sender has missed that.
    let mut shard = Shard::settled(&["ann", "bob"]);
    let (sent, ..) = keyed(&mut shard, 1, send_for("ann", 1, 60)).unwrap();
    shard.now += HOUR;
    shard.run(delete("ann", sent.id)).unwrap();
    assert!(!keyed(&mut shard, 2, send_for("ann", 1, 60)).unwrap().2);
}

#[test]
fn envelopes_come_again_with_it() {
    let mut shard = Shard::settled(&["ann", "bob"]);
    let known = ProfileDevice { device: device("phone"), registration: RegistrationId(1) };
    for name in ["ann", "bob"] {
        let profile = Profile { version: 1, devices_version: 1, devices: vec![known.clone()], blocks: Vec::new() };
        shard.run(Op::UpdateProfile(UpdateProfile { user: user(name), profile, threads: vec![GROUP] })).unwrap();
    }
    let envelope = Envelope {
        user: user("bob"),
        device: device("phone"),
        registration: Some(RegistrationId(1)),
        kind: None,
        ciphertext: Bytes::from_static(b"for bob"),
    };
    let Op::SendMessage(plain) = send_for("ann", 1, 60) else { panic!() };
    let envelopes = Some(Envelopes { list: vec![envelope], allow_mismatch: false });
    let sealed = Op::SendMessage(SendMessage { ciphertext: Bytes::new(), envelopes, ..plain });
    let (sent, ..) = keyed(&mut shard, 1, sealed.clone()).unwrap();
    assert_eq!(text(&shard.by_id(sent.id, "bob").unwrap()), Some(b"for bob".as_slice()));
    shard.now = sent.expires_at.unwrap().0;
    tick(&mut shard);
    assert_eq!(text(&shard.by_id(sent.id, "bob").unwrap()), None);
    // A device that came meanwhile has none, and is no reason to refuse what can't be sent in another way.
    let other = ProfileDevice { device: device("tablet"), registration: RegistrationId(1) };
    let profile = Profile { version: 2, devices_version: 2, devices: vec![known, other], blocks: Vec::new() };
    shard.run(Op::UpdateProfile(UpdateProfile { user: user("bob"), profile, threads: vec![GROUP] })).unwrap();
    keyed(&mut shard, 2, sealed).unwrap();
    let event = shard.thread_events(GROUP).pop().unwrap();
    assert_eq!(event.envelopes.iter().map(|one| one.ciphertext.clone()).collect::<Vec<_>>(), [&b"for bob"[..]]);
    let resumed = shard.resume_one(GROUP, "bob", None, None).events.pop().unwrap();
    let ThreadEventBody::Message(told) = resumed.body else { panic!("{resumed:?}") };
    assert_eq!((told.id, text(&told)), (sent.id, Some(b"for bob".as_slice())));
}
