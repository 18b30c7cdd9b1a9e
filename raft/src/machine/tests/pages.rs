//! Tests of pages of history and lists.

use super::*;
use messenger_proto::model::ThreadSummary;
use messenger_proto::query::{ActivityQuery, IdBound, MessageQuery, SummariesQuery, TimeBound};
use proptest::prelude::*;

/// A group in which messages and other events alternate at random, and time passes at random.
fn conversation(steps: &[(u8, u64)]) -> Shard {
    let mut shard = Shard::with_group(&["ann", "bob"]);
    for (number, (kind, pause)) in (0u64..).zip(steps) {
        shard.now += pause;
        let present = shard.thread(GROUP, "cid").is_ok();
        match kind {
            0 => drop(shard.run(if present { remove("ann", "cid") } else { add("ann", &["cid"]) }).unwrap()),
            1 => drop(shard.send(GROUP, "bob", number)),
            _ => drop(shard.send(GROUP, "ann", number)),
        }
    }
    shard
}

fn ids(messages: &[Message]) -> Vec<MessageId> {
    messages.iter().map(|message| message.id).collect()
}

/// Every page of a range, followed to its end.
fn all_pages(shard: &Shard, viewer: &str, first: HistoryRange, limit: u32) -> Vec<MessageId> {
    let (mut all, mut range) = (Vec::new(), first);
    let backward = matches!(range, HistoryRange::NewestBefore(_) | HistoryRange::NewestBeforeMessage(_));
    loop {
        let page = shard.page(GROUP, viewer, range, limit).unwrap();
        assert!(page.messages.len() <= limit as usize);
        assert!(page.next.is_none() || page.messages.len() == limit as usize);
        all.extend(ids(&page.messages));
        let Some(seq) = page.next else { return all };
        let bound = SeqBound { seq };
        range = if backward { HistoryRange::NewestBefore(bound) } else { HistoryRange::OldestAfter(bound) };
    }
}

proptest! {
    #[test]
    fn every_range_is_what_filtering_the_whole_gives(
        steps in proptest::collection::vec((0u8..4, prop_oneof![Just(0u64), 1u64..5]), 1..60),
        pick in any::<prop::sample::Index>(),
        limit in 1u32..6,
        shift in -1i64..=1,
    ) {
        let mut shard = conversation(&steps);
        let viewer = if shard.thread(GROUP, "cid").is_ok() { "cid" } else { "ann" };
        shard.send(GROUP, "ann", 1_000);
        let whole = shard.history(GROUP, viewer).unwrap();
        let one = pick.get(&whole).clone();
        let (seq, at) = (one.seq.0, one.id.created_at());
        // The bound need not be a message's id: its neighbours have no message.
        let bound = MessageId(one.id.0.wrapping_add_signed(i128::from(shift)));
        let select = |keep: &dyn Fn(&Message) -> bool| {
            let kept: Vec<_> = whole.iter().filter(|message| keep(message)).cloned().collect();
            ids(&kept)
        };
        let reversed = |mut ids: Vec<MessageId>| {
            ids.reverse();
            ids
        };
        let pages = |range| all_pages(&shard, viewer, range, limit);
        let by_seq = SeqBound { seq: Seq(seq) };
        prop_assert_eq!(pages(HistoryRange::OldestAfter(by_seq.clone())), select(&|m| m.seq.0 > seq));
        prop_assert_eq!(pages(HistoryRange::ChangedAfter(by_seq.clone())), select(&|m| m.seq.0 > seq));
        prop_assert_eq!(pages(HistoryRange::NewestBefore(by_seq)), reversed(select(&|m| m.seq.0 < seq)));
        prop_assert_eq!(pages(HistoryRange::NewestBefore(SeqBound { seq: Seq(0) })), reversed(ids(&whole)));
        let by_id = IdBound { id: bound };
        prop_assert_eq!(pages(HistoryRange::OldestAfterMessage(by_id.clone())), select(&|m| m.id > bound));
        prop_assert_eq!(pages(HistoryRange::NewestBeforeMessage(by_id)), reversed(select(&|m| m.id < bound)));
        let by_time = HistoryRange::OldestAfterTime(TimeBound { at });
        prop_assert_eq!(pages(by_time), select(&|m| m.id.created_at() > at));
    }
}

#[test]
fn an_id_of_another_thread_is_no_bound() {
    let mut shard = Shard::with_group(&["ann", "bob"]);
    let id = shard.send(GROUP, "ann", 1).id;
    let other = MessageId(id.0 ^ (1 << 66));
    for range in [
        HistoryRange::NewestBeforeMessage(IdBound { id: other }),
        HistoryRange::OldestAfterMessage(IdBound { id: other }),
    ] {
        assert_eq!(shard.page(GROUP, "ann", range, 5).unwrap_err().code, ErrorCode::InvalidRequest);
    }
}

#[test]
fn bounds_at_the_ends_of_their_types_are_fine() {
    let mut shard = Shard::with_group(&["ann", "bob"]);
    let id = shard.send(GROUP, "ann", 1).id;
    let count = |range| shard.page(GROUP, "ann", range, u32::MAX).unwrap().messages.len();
    assert_eq!(count(HistoryRange::OldestAfterTime(TimeBound { at: Millis(u64::MAX) })), 0);
    assert_eq!(count(HistoryRange::OldestAfterTime(TimeBound { at: Millis(0) })), 1);
    assert_eq!(count(HistoryRange::OldestAfter(SeqBound { seq: Seq(u64::MAX) })), 0);
    assert_eq!(count(HistoryRange::NewestBefore(SeqBound { seq: Seq(u64::MAX) })), 1);
    let highest = MessageId(id.0 | !((1u128 << 80) - 1));
    assert_eq!(count(HistoryRange::OldestAfterMessage(IdBound { id: highest })), 0);
    assert_eq!(count(HistoryRange::NewestBeforeMessage(IdBound { id: highest })), 1);
}

#[test]
fn one_message_by_its_id() {
    let mut shard = Shard::with_group(&["ann", "bob"]);
    let sent = shard.send(GROUP, "ann", 1);
    let ask = |id, name| shard.ask(&Query::Message(MessageQuery { id, viewer: user(name), device: device("phone") }));
    assert_eq!(ask(sent.id, "ann"), Ok(Answer::Message(sent.clone())));
    assert_eq!(ask(sent.id, "bob"), Ok(Answer::Message(Message { receipts: None, ..sent.clone() })));
    assert_eq!(ask(sent.id, "eve").unwrap_err().code, ErrorCode::NotAMember);
    assert_eq!(ask(MessageId(sent.id.0 + 1), "ann").unwrap_err().code, ErrorCode::NotFound);
}

fn summary(shard: &Shard, name: &str) -> ThreadSummary {
    let threads = vec![ThreadId([1; 16]), GROUP];
    let query = SummariesQuery { viewer: user(name), device: device("phone"), threads };
    match shard.ask(&Query::Summaries(query)).unwrap() {
        Answer::Summaries(mut answer) => answer.summaries.remove(0),
        other => panic!("{other:?}"),
    }
}

#[test]
fn unread_are_others_messages_after_the_mark() {
    let mut shard = Shard::with_group(&["ann", "bob"]);
    assert_eq!((summary(&shard, "ann").unread, summary(&shard, "ann").last_message), (0, None));
    let first = shard.send(GROUP, "ann", 1);
    shard.send(GROUP, "bob", 1);
    let last = shard.send(GROUP, "ann", 2);
    shard.run(add("ann", &["cid"])).unwrap();
    let row = summary(&shard, "bob");
    assert_eq!((row.unread, row.last_read), (2, None));
    assert_eq!(row.last_message, Some(Message { receipts: None, ..last.clone() }));
    assert_eq!(summary(&shard, "ann").unread, 1);
    assert_eq!(summary(&shard, "ann").last_message, Some(last), "with receipts for its sender");
    assert_eq!((summary(&shard, "cid").unread, summary(&shard, "cid").last_message), (0, None));
    shard.run(read("bob", first.id)).unwrap();
    assert_eq!((summary(&shard, "bob").unread, summary(&shard, "bob").last_read), (1, Some(first.id)));
}

#[test]
fn unread_counts_no_further_than_999() {
    let mut shard = Shard::with_group(&["ann", "bob"]);
    let commands = |from: u64| {
        let command = |number: u64| Command {
            id: CommandId(u128::from(number).to_be_bytes()),
            retention: Retention::None,
            body_hash: 0,
            op: send(GROUP, "ann", number),
        };
        (from..from + 1_000).map(command).collect::<Vec<_>>()
    };
    shard.pack(commands(0));
    assert_eq!(summary(&shard, "bob").unread, 999);
    assert_eq!(summary(&shard, "ann").unread, 0);
}

#[test]
fn activity_is_as_of_an_instant() {
    let mut shard = Shard::with_group(&["ann", "bob"]);
    let activity = |shard: &Shard, name: &str, as_of| {
        let query = ActivityQuery { viewer: user(name), threads: vec![GROUP, PAIR], as_of: Millis(as_of) };
        match shard.ask(&Query::Activity(query)).unwrap() {
            Answer::Activity(answer) => answer.threads.into_iter().map(|one| one.at.0).collect::<Vec<_>>(),
            other => panic!("{other:?}"),
        }
    };
    let made = shard.now;
    assert_eq!(activity(&shard, "ann", u64::MAX), [made]);
    for number in 1..=5 {
        shard.now += 10;
        shard.send(GROUP, "ann", number);
    }
    assert_eq!(activity(&shard, "ann", u64::MAX), [made + 50]);
    for (as_of, at) in [(made + 50, 50), (made + 49, 40), (made + 10, 10), (made + 9, 0), (0, 0)] {
        assert_eq!(activity(&shard, "ann", as_of), [made + at], "{as_of}");
    }
    shard.now += 10;
    shard.run(add("ann", &["cid"])).unwrap();
    assert_eq!(activity(&shard, "cid", u64::MAX), [made + 60]);
    assert!(activity(&shard, "eve", u64::MAX).is_empty());
}
