//! Tests of watermarks and the times they tell.

use super::*;
use messenger_proto::event::{Receipt, ThreadEventBody};
use messenger_proto::model::{DeliveryState, ReceiptCounts, ReceiptKind};

fn receipts(shard: &Shard) -> Vec<(u64, Receipt)> {
    let receipt = |event: ThreadEvent| match event.body {
        ThreadEventBody::Receipt(receipt) => Some((event.rev.0, receipt)),
        _ => None,
    };
    shard.thread_events(GROUP).into_iter().filter_map(receipt).collect()
}

fn state(shard: &Shard, id: MessageId, name: &str) -> (DeliveryState, Option<u64>, Option<u64>) {
    let found = shard.recipients(id, "ann").unwrap().into_iter().find(|one| one.user == user(name)).unwrap();
    (found.state, found.delivered_at.map(|at| at.0), found.read_at.map(|at| at.0))
}

#[test]
fn one_acknowledgement_covers_many_messages_and_each_keeps_its_time() {
    let mut shard = Shard::with_group(&["ann", "bob"]);
    let sent: Vec<_> = (0..6).map(|number| shard.send(GROUP, "ann", number)).collect();
    let start = shard.now;
    for (later, up_to) in [(10, 2), (20, 5), (30, 4), (40, 6)] {
        shard.now = start + later;
        shard.run(ack("bob", up_to, None)).unwrap();
    }
    shard.now = start + 50;
    shard.run(read("bob", sent[2].id)).unwrap();
    let times: Vec<_> = sent.iter().map(|message| state(&shard, message.id, "bob")).collect();
    let at = |later| Some(start + later);
    assert_eq!(times[0], (DeliveryState::Read, at(10), at(50)));
    assert_eq!(times[1], (DeliveryState::Read, at(20), at(50)));
    assert_eq!(times[3], (DeliveryState::Delivered, at(20), None));
    assert_eq!(times[4], (DeliveryState::Delivered, at(40), None));
    assert_eq!(times[5], (DeliveryState::Sent, None, None));
    let revs: Vec<_> = receipts(&shard).iter().map(|(rev, receipt)| (*rev, receipt.up_to_seq.0)).collect();
    assert_eq!(revs, [(8, 2), (9, 5), (10, 6), (11, 4)], "the step back gave none");
    let counts = shard.history(GROUP, "ann").unwrap().into_iter().map(|message| message.receipts.unwrap());
    let counts: Vec<_> = counts.map(|ReceiptCounts { of, delivered, read }| (of, delivered, read)).collect();
    assert_eq!(counts, [(1, 1, 1), (1, 1, 1), (1, 1, 1), (1, 1, 0), (1, 1, 0), (1, 0, 0)]);
}

#[test]
fn a_read_ahead_of_delivery_moves_both_at_once() {
    let mut shard = Shard::with_group(&["ann", "bob"]);
    let sent = shard.send(GROUP, "ann", 1);
    shard.now += 5;
    shard.run(read("bob", sent.id)).unwrap();
    assert_eq!(state(&shard, sent.id, "bob"), (DeliveryState::Read, Some(shard.now), Some(shard.now)));
    let told = receipts(&shard);
    assert_eq!(told.len(), 1);
    assert_eq!((told[0].1.kind, told[0].1.senders.clone()), (ReceiptKind::Read, Some(users(&["ann"]))));
    let rows = shard.tables.clone();
    shard.run(ack("bob", 2, None)).unwrap();
    assert_eq!(receipts(&shard).len(), 1, "it was delivered with the read");
    shard.run(read("bob", sent.id)).unwrap();
    assert_eq!(receipts(&shard).len(), 1);
    assert_eq!(shard.tables.0.len(), rows.0.len() + 4, "but for two remembered commands");
}

#[test]
fn own_messages_are_not_delivered_to_oneself() {
    let mut shard = Shard::with_group(&["ann", "bob"]);
    let own = shard.send(GROUP, "ann", 1);
    shard.run(ack("ann", 2, None)).unwrap();
    assert!(receipts(&shard).is_empty());
    shard.send(GROUP, "bob", 1);
    shard.send(GROUP, "ann", 2);
    shard.run(ack("ann", 4, None)).unwrap();
    assert_eq!(receipts(&shard).iter().map(|(_, receipt)| receipt.up_to_seq.0).collect::<Vec<_>>(), [3]);
    shard.run(read("ann", own.id)).unwrap();
    assert_eq!(receipts(&shard).len(), 2, "but a sender may mark its own as read");
}

#[test]
fn a_receipt_names_those_it_concerns() {
    let mut shard = Shard::with_group(&["ann", "bob", "cid", "dan"]);
    for (name, number) in [("ann", 1), ("bob", 1), ("cid", 1)] {
        shard.send(GROUP, name, number);
    }
    shard.run(ack("cid", 3, None)).unwrap();
    shard.run(ack("cid", 4, None)).unwrap();
    let told = receipts(&shard);
    assert_eq!(told.len(), 1);
    assert_eq!(told[0].1.senders, Some(users(&["ann", "bob"])));
    let event = shard.thread_events(GROUP).pop().unwrap();
    let concerned: Vec<_> = ["ann", "bob", "cid", "dan"].map(|name| event.concerns(&user(name))).into();
    assert_eq!(concerned, [true, true, false, false]);
}

#[test]
fn too_many_messages_to_look_at_concern_everyone() {
    let mut shard = Shard::with_group(&["ann", "bob"]);
    for number in 0..256 {
        shard.send(GROUP, "ann", number);
    }
    let mut many = shard.clone();
    shard.run(ack("bob", 257, None)).unwrap();
    assert_eq!(receipts(&shard)[0].1.senders, Some(users(&["ann"])));
    many.send(GROUP, "ann", 256);
    many.run(ack("ann", 258, None)).unwrap();
    assert_eq!(receipts(&many)[0].1.up_to_seq, Seq(258), "so that looking at one's own ends");
    many.run(ack("bob", 258, None)).unwrap();
    assert_eq!(receipts(&many)[1].1.senders, None);
}

#[test]
fn what_makes_no_sense_is_left_out() {
    let mut shard = Shard::with_group(&["ann", "bob"]);
    let sent = shard.send(GROUP, "ann", 1);
    let position = |seq, rev| Some(Position { seq: Seq(seq), rev: messenger_proto::ids::Rev(rev) });
    let events = shard.events.len();
    shard.run(ack("eve", 2, position(2, 2))).unwrap();
    let Op::Acknowledge(mut op) = ack("bob", 2, None) else { panic!() };
    op.items[0].thread = ThreadId([1; 16]);
    shard.run(Op::Acknowledge(op)).unwrap();
    assert_eq!(shard.events.len(), events);
    shard.run(ack("bob", u64::MAX, position(u64::MAX, u64::MAX))).unwrap();
    assert_eq!(receipts(&shard)[0].1.up_to_seq, Seq(2), "no further than the thread");
    shard.send(GROUP, "ann", 2);
    let resumed = shard.resume_one(GROUP, "bob", None, None);
    assert_eq!(resumed.events.len(), 1, "the position was cut to the thread as it was");
    assert_eq!(shard.refused(read("bob", MessageId(7))), ErrorCode::NotFound);
    assert_eq!(shard.refused(read("eve", sent.id)), ErrorCode::NotAMember);
}
