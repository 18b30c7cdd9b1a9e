//! Tests of what a device missed.

use super::properties::family;
use super::*;
use crate::machine::rows::position::PositionKey;
use messenger_proto::event::ThreadEventBody;
use messenger_proto::ids::Rev;
use messenger_proto::limits::{GAP_TAIL, RESUME_EVENTS_MAX};
use messenger_proto::model::{DeliveryState, ReceiptKind};

fn position(seq: u64, rev: u64) -> Position {
    Position { seq: Seq(seq), rev: Rev(rev) }
}

fn seqs(resumed: &ResumedThread) -> Vec<u64> {
    resumed.events.iter().filter_map(|event| event.seq).map(|seq| seq.0).collect()
}

fn receipts(resumed: &ResumedThread) -> Vec<(ReceiptKind, String, u64)> {
    let receipt = |event: &ThreadEvent| match &event.body {
        ThreadEventBody::Receipt(receipt) => Some((receipt.kind, receipt.by.to_string(), receipt.up_to_seq.0)),
        _ => None,
    };
    resumed.events.iter().filter_map(receipt).collect()
}

/// Sends without being remembered, many at once.
fn flood(shard: &mut Shard, count: u64) {
    let command = |number: u64| Command {
        id: CommandId(u128::from(number).to_be_bytes()),
        retention: Retention::None,
        body_hash: 0,
        op: send(GROUP, "ann", 1_000_000 + number),
    };
    shard.pack((0..count).map(command).collect());
}

#[test]
fn a_new_device_starts_at_its_users_join() {
    let mut shard = Shard::with_group(&["ann", "bob"]);
    shard.send(GROUP, "ann", 1);
    shard.run(add("ann", &["cid"])).unwrap();
    let last = shard.send(GROUP, "ann", 2);
    assert_eq!(seqs(&shard.resume_one(GROUP, "bob", None, None)), [1, 2, 3, 4]);
    let resumed = shard.resume_one(GROUP, "cid", None, None);
    assert_eq!(seqs(&resumed), [3, 4]);
    assert_eq!(resumed.position, position(4, 4));
    assert!(!resumed.more && !resumed.left && resumed.gap.is_none());
    let claimed = shard.resume_one(GROUP, "cid", None, Some(last.id));
    assert_eq!(seqs(&claimed), [3, 4], "what no device acknowledged is replayed, whatever it says");
}

#[test]
fn a_device_resumes_at_the_earlier_of_what_it_acked_and_saw() {
    let mut shard = Shard::with_group(&["ann", "bob"]);
    let sent: Vec<_> = (0..4).map(|number| shard.send(GROUP, "ann", number).id).collect();
    shard.run(ack("bob", 4, Some(position(4, 4)))).unwrap();
    assert_eq!(seqs(&shard.resume_one(GROUP, "bob", None, None)), [5]);
    assert_eq!(seqs(&shard.resume_one(GROUP, "bob", None, Some(sent[0]))), [3, 4, 5]);
    assert_eq!(seqs(&shard.resume_one(GROUP, "bob", None, Some(sent[3]))), [5]);
    shard.run(ack("bob", 0, Some(position(2, 2)))).unwrap();
    assert_eq!(seqs(&shard.resume_one(GROUP, "bob", None, None)), [5], "a position never moves back");
    assert_eq!(seqs(&shard.resume_one(GROUP, "bob", Some(position(2, 2)), Some(sent[3]))), [3, 4, 5]);
}

#[test]
fn a_message_of_another_thread_is_placed_with_overlap() {
    let mut shard = Shard::with_group(&["ann", "bob"]);
    shard.run(create(PAIR, ThreadKind::OneToOne, "ann", &["bob"])).unwrap();
    for number in 0..6 {
        shard.now += 2_000;
        shard.send(GROUP, "ann", number);
    }
    let seen = shard.send(PAIR, "ann", 1).id;
    shard.run(ack("bob", 7, Some(position(7, 7)))).unwrap();
    // The last was sent with `seen`, the others 2, 4, 6, … seconds before it.
    assert_eq!(seqs(&shard.resume_one(GROUP, "bob", None, Some(seen))), [5, 6, 7]);
    let elsewhere = MessageId::new(Millis(shard.now - 2_500), seen.slot(), 1, 1);
    assert_eq!(seqs(&shard.resume_one(GROUP, "bob", None, Some(elsewhere))), [4, 5, 6, 7]);
    let future = MessageId::new(Millis(shard.now + 60_000), seen.slot(), 1, 1);
    assert!(shard.resume_one(GROUP, "bob", None, Some(future)).events.is_empty());
}

#[test]
fn receipts_come_as_state_to_whom_they_concern() {
    let mut shard = Shard::with_group(&["ann", "bob", "cid"]);
    let sent: Vec<_> = (0..3).map(|number| shard.send(GROUP, "ann", number).id).collect();
    shard.run(ack("bob", 2, None)).unwrap();
    shard.run(ack("bob", 3, None)).unwrap();
    shard.run(read("bob", sent[0])).unwrap();
    shard.run(read("cid", sent[2])).unwrap();
    let all = shard.resume_one(GROUP, "ann", Some(position(4, 4)), None);
    let (delivered, read_kind) = (ReceiptKind::Delivered, ReceiptKind::Read);
    let expected = [(delivered, "bob".to_string(), 3), (read_kind, "bob".into(), 2), (read_kind, "cid".into(), 4)];
    assert_eq!(receipts(&all), expected);
    assert_eq!(all.position, position(4, 8));
    let later = shard.resume_one(GROUP, "ann", Some(position(4, 7)), None);
    assert_eq!(receipts(&later), expected[2..]);
    let silent = shard.resume_one(GROUP, "cid", Some(position(4, 4)), None);
    assert_eq!(receipts(&silent), expected[1..2], "it sent nothing, so no delivery is news to it");
    assert!(shard.resume_one(GROUP, "ann", Some(position(4, 8)), None).events.is_empty());
}

#[test]
fn a_removed_user_gets_what_led_to_its_removal() {
    let mut shard = Shard::with_group(&["ann", "bob"]);
    shard.send(GROUP, "ann", 1);
    shard.run(remove("ann", "bob")).unwrap();
    let sent = shard.send(GROUP, "ann", 2);
    shard.run(read("ann", sent.id)).unwrap();
    let resumed = shard.resume_one(GROUP, "bob", None, None);
    assert_eq!((seqs(&resumed), resumed.left), (vec![1, 2, 3], true));
    assert_eq!(resumed.position, position(3, 3));
    assert!(receipts(&resumed).is_empty());
    assert!(shard.resume_one(GROUP, "bob", Some(resumed.position), None).events.is_empty());
    for (thread, name) in [(GROUP, "eve"), (PAIR, "ann")] {
        let unknown = shard.resume_one(thread, name, None, None);
        assert!(unknown.left && unknown.events.is_empty());
    }
}

/// As [`Shard::resume_one`], of a thread that the user's index says it left.
fn resume_former(shard: &Shard, name: &str, phone: &str, last_seen: Option<MessageId>) -> ResumedThread {
    let threads = vec![ResumeFrom { thread: GROUP, position: None, unless_new: true }];
    shard
        .resume(ResumeQuery { user: user(name), device: device(phone), threads, last_seen, max_bytes: 1 << 30 })
        .remove(0)
}

#[test]
fn a_device_that_was_away_hears_of_its_users_removal_until_it_takes_it() {
    let mut shard = Shard::with_group(&["ann", "bob"]);
    let seen = shard.send(GROUP, "ann", 1);
    shard.run(ack("bob", 2, Some(position(2, 2)))).unwrap();
    let missed = shard.send(GROUP, "ann", 2);
    shard.run(remove("ann", "bob")).unwrap();
    let after = shard.send(GROUP, "ann", 3);
    let resumed = resume_former(&shard, "bob", "phone", None);
    assert_eq!((seqs(&resumed), resumed.left), (vec![3, 4], true));
    assert!(matches!(&resumed.events[1].body, ThreadEventBody::ParticipantRemoved(event) if event.user == user("bob")));
    let fresh = resume_former(&shard, "bob", "tablet", None);
    assert_eq!((seqs(&fresh), fresh.left, fresh.position), (vec![], true, Position::default()), "it is new here");
    assert_eq!(seqs(&resume_former(&shard, "bob", "tablet", Some(seen.id))), [1, 2, 3, 4], "it says that it is not");
    assert!(resume_former(&shard, "eve", "phone", Some(seen.id)).events.is_empty());

    // Taking it moves the place, no further than the removal, and delivers what it covers.
    shard.run(ack("bob", u64::MAX, Some(position(u64::MAX, u64::MAX)))).unwrap();
    let places: Vec<_> = family::<PositionKey>(&shard.tables).into_iter().map(|(_, row)| row.position).collect();
    assert_eq!(places, [resumed.position]);
    assert!(resume_former(&shard, "bob", "phone", None).events.is_empty());
    let state = |id| shard.recipients(id, "ann").unwrap().into_iter().map(|one| one.state).collect::<Vec<_>>();
    assert_eq!(state(missed.id), [DeliveryState::Delivered]);
    assert_eq!(state(after.id), [], "it was not meant for bob");
    assert_eq!(shard.thread(GROUP, "bob").unwrap_err().code, ErrorCode::NotAMember);
    assert_eq!(shard.history(GROUP, "bob").unwrap_err().code, ErrorCode::NotAMember);

    // Back again, it goes on from there.
    shard.run(add("ann", &["bob"])).unwrap();
    let back = resume_former(&shard, "bob", "phone", None);
    assert_eq!((seqs(&back), back.left), (vec![6], false));
    assert!(!seqs(&resume_former(&shard, "bob", "tablet", None)).is_empty(), "a member's new device is told");
    shard.run(remove("ann", "bob")).unwrap();
    assert_eq!(seqs(&resume_former(&shard, "bob", "phone", None)), [6, 7]);
}

#[test]
fn a_long_absence_leaves_a_gap_that_is_named() {
    let mut shard = Shard::with_group(&["ann", "bob"]);
    let seen = shard.send(GROUP, "ann", 1);
    flood(&mut shard, RESUME_EVENTS_MAX);
    let exact = shard.resume_one(GROUP, "bob", Some(position(2, 2)), None);
    assert!(exact.gap.is_none());
    assert_eq!(exact.events.len() as u64, RESUME_EVENTS_MAX);
    shard.send(GROUP, "ann", 2);
    let resumed = shard.resume_one(GROUP, "bob", Some(position(2, 2)), None);
    assert_eq!(resumed.events.len() as u64, GAP_TAIL);
    let gap = resumed.gap.unwrap();
    let ThreadEventBody::Message(first) = &resumed.events[0].body else { panic!() };
    assert_eq!((gap.after_seq, gap.after_id, gap.before_id), (Seq(2), Some(seen.id), first.id));
    assert_eq!(seqs(&shard.resume_one(GROUP, "bob", Some(resumed.position), None)), Vec::<u64>::new());
    let fresh = shard.resume_one(GROUP, "bob", None, None).gap.unwrap();
    assert_eq!((fresh.after_seq, fresh.after_id), (Seq(0), None));
}

#[test]
fn a_gap_is_named_once_however_small_the_answers() {
    let mut shard = Shard::with_group(&["ann", "bob"]);
    flood(&mut shard, RESUME_EVENTS_MAX + 5);
    let (mut from, mut gaps, mut got) = (None, 0, Vec::new());
    loop {
        let query = ResumeQuery {
            user: user("bob"),
            device: device("phone"),
            threads: vec![ResumeFrom { thread: GROUP, position: from, unless_new: false }],
            last_seen: None,
            max_bytes: 20_000,
        };
        let one = shard.resume(query).remove(0);
        gaps += u32::from(one.gap.is_some());
        got.extend(seqs(&one));
        from = Some(one.position);
        if !one.more {
            break;
        }
    }
    let last = RESUME_EVENTS_MAX + 6;
    assert_eq!((gaps, got), (1, (last - GAP_TAIL + 1..=last).collect()));
}

#[test]
fn an_answer_that_is_full_names_where_every_thread_goes_on() {
    let mut shard = Shard::with_group(&["ann", "bob"]);
    shard.run(create(PAIR, ThreadKind::OneToOne, "ann", &["bob"])).unwrap();
    for number in 0..5 {
        shard.send(GROUP, "ann", number);
        shard.send(PAIR, "ann", number);
    }
    let mut from = vec![
        ResumeFrom { thread: GROUP, position: None, unless_new: false },
        ResumeFrom { thread: PAIR, position: None, unless_new: false },
    ];
    let (mut got, mut rounds) = ([Vec::new(), Vec::new()], 0);
    while !from.is_empty() {
        let query = ResumeQuery {
            user: user("bob"),
            device: device("phone"),
            threads: std::mem::take(&mut from),
            last_seen: None,
            max_bytes: 0,
        };
        let threads = shard.resume(query);
        assert_eq!(threads.iter().map(|one| one.events.len()).sum::<usize>(), 1, "one event always fits");
        for one in threads {
            got[usize::from(one.thread == PAIR)].extend(seqs(&one));
            if one.more {
                from.push(ResumeFrom { thread: one.thread, position: Some(one.position), unless_new: false });
            }
        }
        rounds += 1;
    }
    assert_eq!(got, [vec![1, 2, 3, 4, 5, 6], vec![1, 2, 3, 4, 5, 6]]);
    assert_eq!(rounds, 12);
}
