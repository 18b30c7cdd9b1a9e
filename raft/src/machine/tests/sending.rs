//! Tests of sending once, twice and wrongly.

use super::*;
use messenger_proto::command::{ClaimKey, MessageReply};
use messenger_proto::limits::{KEYED_RETENTION, MINTED_RETENTION};
use messenger_proto::model::ReceiptCounts;
use messenger_proto::slot::Slot;

fn keyed(key: u8, body_hash: u64, op: Op) -> Command {
    Command { id: CommandId([key; 16]), retention: Retention::Keyed, body_hash, op }
}

fn reply(result: CommandResult) -> (Reply, MessageReply) {
    let reply = result.unwrap();
    match reply.body.clone() {
        ReplyBody::Message(message) => (reply, message),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_message_is_stored_told_and_answered() {
    let mut shard = Shard::with_group(&["ann", "bob", "cid"]);
    let sent = shard.send(GROUP, "ann", 5);
    assert_eq!((sent.seq, sent.client_seq, sent.sender.as_str()), (Seq(2), ClientSeq(5), "ann"));
    assert_eq!(sent.receipts, Some(ReceiptCounts { of: 2, delivered: 0, read: 0 }));
    assert_eq!(sent.id.slot(), Slot::of_thread(GROUP));
    assert_eq!(sent.id.created_at(), Millis(shard.now));
    let events = shard.thread_events(GROUP);
    let messenger_proto::event::ThreadEventBody::Message(told) = &events[1].body else { panic!() };
    assert_eq!(Message { receipts: None, ..told.clone() }, Message { receipts: None, ..sent.clone() });
    assert_eq!(shard.history(GROUP, "bob").unwrap(), [Message { receipts: None, ..sent.clone() }]);
    assert_eq!(shard.history(GROUP, "ann").unwrap(), [sent]);
}

#[test]
fn the_whole_table_of_sending_twice() {
    let mut shard = Shard::with_group(&["ann", "bob"]);
    let first = reply(shard.command(keyed(1, 10, send(GROUP, "ann", 5))));
    assert!(!first.0.replayed && !first.1.duplicate);
    let rows = shard.tables.clone();
    // Key seen, same body: the first answer again.
    let again = reply(shard.command(keyed(1, 10, send(GROUP, "ann", 5))));
    assert!(again.0.replayed && again.1 == first.1);
    // Key seen, another body: refused, whatever the number.
    for number in [5, 6] {
        let refusal = shard.command(keyed(1, 11, send(GROUP, "ann", number))).unwrap_err();
        assert_eq!(refusal.code, ErrorCode::IdempotencyKeyReused);
    }
    // Key new, number seen, same body: the same message, marked as a duplicate, and not remembered under the key.
    for _ in 0..2 {
        let duplicate = reply(shard.command(keyed(2, 10, send(GROUP, "ann", 5))));
        assert!(!duplicate.0.replayed && duplicate.1.duplicate);
        assert_eq!(duplicate.1.message, first.1.message);
    }
    // Key new, number seen, another body: refused with the message that is there.
    let refusal = shard.command(keyed(3, 12, send(GROUP, "ann", 5))).unwrap_err();
    assert_eq!(refusal.code, ErrorCode::DuplicateClientSeq);
    assert_eq!(refusal.existing.as_deref(), Some(&first.1.message));
    assert_eq!(shard.tables, rows, "none of these did anything");
    // A refused key is free.
    let other = reply(shard.command(keyed(3, 12, send(GROUP, "ann", 6))));
    assert!(!other.0.replayed && other.1.message.seq == Seq(3));
}

#[test]
fn the_number_is_of_a_device_in_a_thread() {
    let mut shard = Shard::with_group(&["ann", "bob"]);
    shard.run(create(PAIR, ThreadKind::OneToOne, "ann", &["bob"])).unwrap();
    let mut ids = vec![shard.send(GROUP, "ann", 5).id, shard.send(GROUP, "bob", 5).id, shard.send(PAIR, "ann", 5).id];
    let Op::SendMessage(mut other) = send(GROUP, "ann", 5) else { panic!() };
    other.device = device("tablet");
    ids.push(message(shard.run(Op::SendMessage(other))).id);
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), 4);
}

#[test]
fn a_number_outlives_every_key_and_a_key_its_time() {
    for (retention, lasts) in [(Retention::Keyed, KEYED_RETENTION), (Retention::Minted, MINTED_RETENTION)] {
        let mut shard = Shard::with_group(&["ann", "bob"]);
        let command = Command { retention, ..keyed(1, 10, send(GROUP, "ann", 5)) };
        let first = message(shard.command(command.clone()));
        shard.now += u64::try_from(lasts.as_millis()).unwrap() - 1;
        assert!(reply(shard.command(command.clone())).0.replayed);
        shard.now += 1;
        let later = reply(shard.command(command));
        assert!(!later.0.replayed && later.1.duplicate && later.1.message == first);
        let reused = shard.command(keyed(1, 99, send(GROUP, "ann", 6)));
        assert_eq!(message(reused).seq, Seq(3), "the key is free again");
    }
}

#[test]
fn a_send_without_a_key_that_comes_again_is_answered_as_it_was_though_its_sender_left() {
    let mut shard = Shard::with_group(&["ann", "bob"]);
    let command = Command { retention: Retention::None, ..keyed(1, 10, send(GROUP, "bob", 5)) };
    let first = message(shard.command(command.clone()));
    shard.run(remove("bob", "bob")).unwrap();
    shard.run(react("ann", first.id, "+", true)).unwrap();
    shard.run(ack("ann", 9, None)).unwrap();
    let again = reply(shard.command(command.clone()));
    assert!(again.1.duplicate && again.1.message.id == first.id);
    assert!(again.1.message.reactions.is_empty() && again.1.message.receipts.is_none(), "that is for those who stayed");
    let refused = |shard: &mut Shard, command: Command| shard.command(command).unwrap_err().code;
    let other = Command { body_hash: 11, ..command.clone() };
    assert_eq!(refused(&mut shard, other), ErrorCode::NotAMember, "another body is another send");
    let next = Command { op: send(GROUP, "bob", 6), ..command.clone() };
    assert_eq!(refused(&mut shard, next), ErrorCode::NotAMember);
    shard.now += u64::try_from(MINTED_RETENTION.as_millis()).unwrap();
    assert_eq!(refused(&mut shard, command), ErrorCode::NotAMember, "no answer is awaited for so long");
}

#[test]
fn one_pack_of_identical_sends_makes_one_message() {
    let mut shard = Shard::with_group(&["ann", "bob"]);
    let applied = shard.pack(vec![keyed(1, 10, send(GROUP, "ann", 5)); 50]);
    assert_eq!(applied.events.len(), 1);
    let replies: Vec<_> = applied.results.into_iter().map(reply).collect();
    assert_eq!(replies.iter().filter(|(reply, _)| !reply.replayed).count(), 1);
    assert!(replies.iter().all(|(_, message)| message.message == replies[0].1.message));
}

#[test]
fn a_refusal_does_not_touch_its_neighbours() {
    let mut shard = Shard::with_group(&["ann", "bob"]);
    let commands = vec![
        keyed(1, 1, send(GROUP, "ann", 1)),
        keyed(2, 1, send(GROUP, "eve", 1)),
        keyed(3, 1, send(ThreadId([1; 16]), "ann", 1)),
        keyed(4, 1, send(GROUP, "ann", 2)),
    ];
    let codes: Vec<_> =
        shard.pack(commands).results.iter().map(|result| result.as_ref().err().map(|e| e.code)).collect();
    assert_eq!(codes, [None, Some(ErrorCode::NotAMember), Some(ErrorCode::NotFound), None]);
    let seqs: Vec<_> = shard.history(GROUP, "bob").unwrap().iter().map(|message| message.seq.0).collect();
    assert_eq!(seqs, [2, 3]);
}

#[test]
fn a_reply_is_to_a_visible_message_of_the_thread() {
    let mut shard = Shard::with_group(&["ann", "bob"]);
    shard.run(create(PAIR, ThreadKind::OneToOne, "ann", &["bob"])).unwrap();
    let (old, elsewhere) = (shard.send(GROUP, "ann", 1).id, shard.send(PAIR, "ann", 1).id);
    shard.run(add("ann", &["cid"])).unwrap();
    let mut reply_to = |sender: &str, number, id| {
        let Op::SendMessage(op) = send(GROUP, sender, number) else { panic!() };
        shard.run(Op::SendMessage(SendMessage { reply_to: Some(id), ..op }))
    };
    assert_eq!(message(reply_to("bob", 1, old)).reply_to, Some(old));
    assert_eq!(reply_to("cid", 1, old).unwrap_err().code, ErrorCode::InvalidRequest, "before its time");
    assert_eq!(reply_to("bob", 2, elsewhere).unwrap_err().code, ErrorCode::InvalidRequest);
    assert_eq!(reply_to("bob", 2, MessageId(5)).unwrap_err().code, ErrorCode::InvalidRequest);
}

#[test]
fn what_is_too_large_is_refused() {
    let mut shard = Shard::with_group(&["ann", "bob"]);
    let Op::SendMessage(op) = send(GROUP, "ann", 1) else { panic!() };
    let large = SendMessage { ciphertext: Bytes::from(vec![0; 64 * 1024 + 1]), ..op.clone() };
    assert_eq!(shard.refused(Op::SendMessage(large)), ErrorCode::CiphertextTooLarge);
    let number = SendMessage { client_seq: ClientSeq(ClientSeq::MAX + 1), ..op };
    assert_eq!(shard.refused(Op::SendMessage(number)), ErrorCode::InvalidRequest);
}

#[test]
fn time_never_goes_back_and_ids_grow_within_a_millisecond() {
    let mut shard = Shard::with_group(&["ann", "bob"]);
    let mut last = shard.send(GROUP, "ann", 0).id;
    for number in 1..20 {
        shard.now -= 7;
        let id = shard.send(GROUP, "ann", number).id;
        assert!(id > last);
        assert_eq!(id.created_at(), last.created_at());
        last = id;
    }
}

#[test]
fn a_used_up_millisecond_moves_the_clock_on() {
    use crate::machine::rows::{self, shard::ShardKey};
    let mut shard = Shard::with_group(&["ann", "bob"]);
    shard.send(GROUP, "ann", 0);
    let mut row = rows::get(&shard.tables, &ShardKey).unwrap().unwrap();
    row.counter = MessageId::COUNTER_MAX - 1;
    let tables = shard.tables.clone();
    let mut overlay = Overlay::new(&tables);
    rows::put(&mut overlay, &ShardKey, &row);
    shard.tables.absorb(overlay.into_writes());
    let ids: Vec<_> = (1..4).map(|number| shard.send(GROUP, "ann", number).id).collect();
    let times: Vec<_> = ids.iter().map(|id| id.created_at().0 - shard.now).collect();
    assert_eq!(times, [0, 1, 1]);
    assert!(ids.is_sorted());
}

#[test]
fn a_stamp_beyond_what_ids_can_carry_is_the_end_of_time() {
    let mut shard = Shard::with_group(&["ann", "bob"]);
    shard.now = u64::MAX;
    assert_eq!(shard.send(GROUP, "ann", 1).id.created_at(), Millis(MessageId::MS_MAX));
}

#[test]
fn a_claimed_key_keeps_its_body_and_leaves_the_command_to_come() {
    let mut shard = Shard::new();
    let claim = || Op::ClaimKey(ClaimKey {});
    assert!(!shard.command(keyed(1, 10, claim())).unwrap().replayed);
    assert!(shard.command(keyed(1, 10, claim())).unwrap().replayed);
    assert_eq!(shard.command(keyed(1, 11, claim())).unwrap_err().code, ErrorCode::IdempotencyKeyReused);
    let make = || create(GROUP, ThreadKind::Group, "ann", &["bob"]);
    assert_eq!(shard.command(keyed(1, 11, make())).unwrap_err().code, ErrorCode::IdempotencyKeyReused);
    let first = shard.command(keyed(1, 10, make())).unwrap();
    assert!(!first.replayed && thread_of(&first).1);
    let again = shard.command(keyed(1, 10, make())).unwrap();
    assert!(again.replayed && thread_of(&again).1);
    assert!(shard.command(keyed(1, 10, claim())).unwrap().replayed);
    assert_eq!(shard.command(keyed(1, 10, send(GROUP, "ann", 1))).unwrap_err().code, ErrorCode::IdempotencyKeyReused);
}

#[test]
fn corrupt_rows_fail_and_never_panic() {
    use crate::machine::rows::{head::HeadKey, key::Key};
    let mut shard = Shard::with_group(&["ann", "bob"]);
    shard.send(GROUP, "ann", 1);
    let keys: Vec<_> = shard.tables.0.keys().cloned().collect();
    for key in keys {
        let mut broken = shard.clone();
        broken.tables.0.insert(key.clone(), Bytes::from_static(&[0x0f]));
        let mut overlay = Overlay::new(&broken.tables);
        let commands = vec![keyed(1, 1, send(GROUP, "ann", 2)), keyed(2, 1, add("ann", &["cid"]))];
        let applied = apply(&mut overlay, messenger_proto::ids::LogIndex(1), &Pack { stamp: Millis(0), commands });
        let resumed = answer(
            &broken.tables,
            &Query::Resume(ResumeQuery {
                user: user("bob"),
                device: device("phone"),
                threads: vec![ResumeFrom { thread: GROUP, position: None, unless_new: false }],
                last_seen: None,
                max_bytes: 1000,
            }),
            Millis(broken.now),
        );
        if key == (HeadKey { thread: GROUP }).encode() {
            assert!(applied.is_err() && resumed.is_err());
        }
    }
}
