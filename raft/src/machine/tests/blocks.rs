//! Tests of keeping others away.

use super::properties::family;
use super::*;
use crate::machine::rows::block::BlockKey;
use crate::machine::rows::blocker::BlockerKey;
use crate::machine::{answerable, outbox_scan, profile_of, profiles_due};
use messenger_proto::command::{IndexMembership, OutboxBarrier, OutboxDelivered, ProfileBarrier, SetBlock};
use messenger_proto::event::{Receipt, ThreadEventBody};
use messenger_proto::limits::USER_BLOCKS_MAX;
use messenger_proto::model::{DeliveryState, ReceiptCounts};
use messenger_proto::profile::{NewMember, Profile, UpdateProfile};
use messenger_proto::query::{
    ActivityQuery, BlocksAnswer, BlocksQuery, IdBound, MessageQuery, PrivacyAnswer, PrivacyQuery, SummariesQuery,
};

pub(super) fn block(name: &str, other: &str, present: bool) -> Op {
    Op::SetBlock(SetBlock { user: user(name), other: user(other), present })
}

pub(super) fn list(version: u64, blocks: &[&str]) -> Profile {
    Profile { version, devices_version: 0, devices: Vec::new(), blocks: users(blocks) }
}

/// The group's shard is told whom a member keeps away.
pub(super) fn tell(name: &str, version: u64, blocks: &[&str]) -> Op {
    Op::UpdateProfile(UpdateProfile { user: user(name), profile: list(version, blocks), threads: vec![GROUP] })
}

impl Shard {
    /// Likewise, as the answer to its joining; nothing of one that never had anything to tell.
    pub(super) fn bring(&mut self, name: &str, version: u64, blocks: &[&str]) {
        let rows = outbox_scan(&self.tables, None, 99).unwrap().into_iter().map(|(row, _)| row);
        let rows = rows.filter(|row| row.user == user(name)).collect();
        let new = NewMember { thread: GROUP, user: user(name), profile: list(version, blocks) };
        let members = if version == 0 { Vec::new() } else { vec![new] };
        self.run(Op::OutboxDelivered(OutboxDelivered { rows, members })).unwrap();
    }

    /// A group of these, whose shards have answered.
    pub(super) fn settled(names: &[&str]) -> Self {
        let mut shard = Self::with_group(names);
        for name in names {
            shard.bring(name, 0, &[]);
        }
        shard
    }

    pub(super) fn state_of(&self, id: MessageId, viewer: &str, of: &str) -> DeliveryState {
        let recipients = self.recipients(id, viewer).unwrap();
        recipients.into_iter().find(|one| one.user == user(of)).unwrap().state
    }

    pub(super) fn by_id(&self, id: MessageId, viewer: &str) -> Result<Message, Refusal> {
        let query = MessageQuery { id, viewer: user(viewer), device: device("phone") };
        match self.ask(&Query::Message(query))? {
            Answer::Message(message) => Ok(message),
            other => panic!("{other:?}"),
        }
    }

    pub(super) fn ids(&self, viewer: &str) -> Vec<MessageId> {
        self.history(GROUP, viewer).unwrap().into_iter().map(|message| message.id).collect()
    }

    fn backwards(&self, viewer: &str) -> Vec<MessageId> {
        let range = HistoryRange::NewestBefore(SeqBound { seq: Seq(0) });
        self.page(GROUP, viewer, range, 100).unwrap().messages.into_iter().map(|message| message.id).collect()
    }

    fn missed(&self, viewer: &str) -> Vec<ThreadEvent> {
        self.resume_one(GROUP, viewer, None, None).events
    }

    fn blocks_of(&self, name: &str) -> Vec<UserId> {
        match self.ask(&Query::Blocks(BlocksQuery { user: user(name) })).unwrap() {
            Answer::Blocks(BlocksAnswer { users, version }) => {
                assert_eq!(version, profile_of(&self.tables, &user(name)).unwrap().version);
                users
            }
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn a_list_is_in_order_bounded_and_part_of_the_profile() {
    let mut shard = Shard::new();
    for name in ["zed", "bob", "amy", "bob"] {
        shard.run(block("ann", name, true)).unwrap();
    }
    assert_eq!(shard.blocks_of("ann"), users(&["amy", "bob", "zed"]));
    assert_eq!(profile_of(&shard.tables, &user("ann")).unwrap(), list(3, &["amy", "bob", "zed"]));
    shard.run(block("ann", "bob", false)).unwrap();
    shard.run(block("ann", "bob", false)).unwrap();
    assert_eq!(profile_of(&shard.tables, &user("ann")).unwrap(), list(4, &["amy", "zed"]));
    assert_eq!(shard.refused(block("ann", "ann", true)), ErrorCode::InvalidRequest);
    assert!(shard.blocks_of("bob").is_empty());
    for number in 2..USER_BLOCKS_MAX {
        shard.run(block("ann", &format!("u{number}"), true)).unwrap();
    }
    assert_eq!(shard.refused(block("ann", "one.more", true)), ErrorCode::TooManyBlocks);
    shard.run(block("ann", "zed", true)).unwrap();
}

#[test]
fn the_answer_waits_until_threads_were_told_and_so_does_a_repeat() {
    let mut shard = Shard::new();
    let op = IndexMembership { user: user("bob"), thread: GROUP, source_seq: Seq(1), present: true };
    shard.run(Op::IndexMembership(op)).unwrap();
    let expected = Some(OutboxBarrier::Profile(ProfileBarrier { user: user("bob"), version: 1 }));
    assert_eq!(shard.run(block("bob", "ann", true)).unwrap().barrier, expected);
    assert_eq!(shard.run(block("bob", "ann", true)).unwrap().barrier, expected);
    assert_eq!(profiles_due(&shard.tables, None, 9).unwrap(), [user("bob")]);
}

#[test]
fn who_is_kept_away_is_not_shown_how_a_user_is() {
    let mut shard = Shard::new();
    shard.run(block("ann", "bob", true)).unwrap();
    let hidden = |viewer: Option<&str>| {
        let query = PrivacyQuery { users: users(&["ann", "bob", "cy"]), viewer: viewer.map(user) };
        match shard.ask(&Query::Privacy(query)).unwrap() {
            Answer::Privacy(PrivacyAnswer { hidden }) => hidden,
            other => panic!("{other:?}"),
        }
    };
    assert_eq!((hidden(None), hidden(Some("bob")), hidden(Some("cy"))), (vec![], users(&["ann"]), vec![]));
}

/// A group in which bob keeps ann away, and what she and cy said: before, and then each.
fn a_group() -> (Shard, Message, [Message; 3]) {
    let mut shard = Shard::settled(&["ann", "bob", "cy"]);
    let before = shard.send(GROUP, "ann", 1);
    shard.run(tell("bob", 1, &["ann", "stranger"])).unwrap();
    let hers = [shard.send(GROUP, "ann", 2), shard.send(GROUP, "ann", 3)];
    let his = shard.send(GROUP, "cy", 1);
    let [first, second] = hers;
    (shard, before, [first, his, second])
}

#[test]
fn what_fails_for_a_member_is_never_shown_to_it() {
    let (mut shard, before, [first, his, second]) = a_group();
    assert_eq!(shard.ids("bob"), [before.id, his.id]);
    assert_eq!(shard.backwards("bob"), [his.id, before.id]);
    assert_eq!(shard.ids("cy").len(), 4, "it is bob's affair");
    let changed: Vec<_> = shard.changed(GROUP, "bob", 0).unwrap().into_iter().map(|message| message.id).collect();
    assert_eq!(changed, [before.id, his.id]);
    let told: Vec<_> = shard.missed("bob").into_iter().map(|event| event.seq.unwrap().0).collect();
    assert_eq!(told, [1, 2, 5]);
    for id in [first.id, second.id] {
        assert_eq!(shard.by_id(id, "bob").unwrap_err().code, ErrorCode::NotFound);
        assert_eq!(shard.recipients(id, "bob").unwrap_err().code, ErrorCode::NotFound);
        assert_eq!(shard.refused(react("bob", id, "+", true)), ErrorCode::NotFound);
        assert_eq!(shard.refused(pin("bob", id, true)), ErrorCode::NotFound);
        assert_eq!(shard.refused(read("bob", id)), ErrorCode::NotFound);
        let Op::SendMessage(reply) = send(GROUP, "bob", 1) else { panic!() };
        let reply = Op::SendMessage(SendMessage { reply_to: Some(id), ..reply });
        assert_eq!(shard.refused(reply), ErrorCode::InvalidRequest);
        assert!(shard.by_id(id, "cy").is_ok());
    }
    shard.run(pin("cy", first.id, true)).unwrap();
    assert_eq!((shard.pins(GROUP, "bob").unwrap().len(), shard.pins(GROUP, "ann").unwrap().len()), (0, 1));
    // What she said last of all is hers alone to see, and cy's.
    shard.run(read("bob", before.id)).unwrap();
    shard.send(GROUP, "ann", 4);
    let viewer = user("bob");
    let query = SummariesQuery { viewer: viewer.clone(), device: device("phone"), threads: vec![GROUP] };
    let Answer::Summaries(answer) = shard.ask(&Query::Summaries(query)).unwrap() else { panic!() };
    let summary = &answer.summaries[0];
    assert_eq!((summary.last_message.as_ref().unwrap().id, summary.unread), (his.id, 1));
    assert_eq!(summary.thread.last_message, Some(his.id));
    let query = ActivityQuery { viewer, threads: vec![GROUP], as_of: Millis(u64::MAX) };
    let Answer::Activity(answer) = shard.ask(&Query::Activity(query)).unwrap() else { panic!() };
    assert_eq!(answer.threads[0].at, his.id.created_at());
    let after = HistoryRange::OldestAfterMessage(IdBound { id: first.id });
    let page = shard.page(GROUP, "bob", after, 9).unwrap();
    assert_eq!(page.messages.iter().map(|message| message.id).collect::<Vec<_>>(), [his.id]);
}

#[test]
fn events_of_it_name_those_who_are_not_told() {
    let (mut shard, before, [first, ..]) = a_group();
    shard.run(edit("ann", before.id, "she saw this")).unwrap();
    shard.run(edit("ann", first.id, "she did not")).unwrap();
    shard.run(react("cy", first.id, "+", true)).unwrap();
    shard.run(delete("ann", first.id)).unwrap();
    let hidden: Vec<_> = shard.thread_events(GROUP).into_iter().map(|event| (event.seq, event.hidden_from)).collect();
    let bob = users(&["bob"]);
    let expected = [vec![], vec![], bob.clone(), bob.clone(), vec![], vec![], bob.clone(), bob.clone(), bob];
    for ((number, (seq, hidden)), expected) in (1..).zip(hidden).zip(expected) {
        assert_eq!((seq, hidden), (Some(Seq(number)), expected));
    }
    let told: Vec<_> = shard.missed("bob").into_iter().map(|event| event.seq.unwrap().0).collect();
    assert_eq!(told, [1, 2, 5, 6]);
}

#[test]
fn it_stays_failed_and_its_sender_is_told_nothing() {
    let (mut shard, before, [first, his, second]) = a_group();
    let events = shard.thread_events(GROUP).len();
    // Bob's device takes and reads all that it was told.
    shard.run(ack("bob", 3, None)).unwrap();
    let receipts = |shard: &Shard| {
        let receipts = shard.thread_events(GROUP).into_iter().skip(events).map(|event| match event.body {
            ThreadEventBody::Receipt(Receipt { senders, up_to, .. }) => (up_to, senders),
            other => panic!("{other:?}"),
        });
        receipts.collect::<Vec<_>>()
    };
    assert_eq!(receipts(&shard), [(before.id, Some(users(&["ann"])))]);
    shard.run(ack("bob", 6, None)).unwrap();
    assert_eq!(receipts(&shard)[1..], [(his.id, Some(users(&["cy"])))]);
    shard.run(read("bob", his.id)).unwrap();
    shard.run(ack("cy", 6, None)).unwrap();
    for message in [&first, &second] {
        assert_eq!(shard.state_of(message.id, "ann", "bob"), DeliveryState::Failed);
        assert_eq!(shard.state_of(message.id, "ann", "cy"), DeliveryState::Delivered);
        let counts = ReceiptCounts { of: 2, delivered: 1, read: 0 };
        assert_eq!(shard.by_id(message.id, "ann").unwrap().receipts, Some(counts));
    }
    assert_eq!(shard.state_of(before.id, "ann", "bob"), DeliveryState::Read);
    assert_eq!(shard.state_of(his.id, "cy", "bob"), DeliveryState::Read);
    assert_eq!(shard.state_of(his.id, "cy", "ann"), DeliveryState::Sent, "she is not kept away by cy");
    // Whatever is acknowledged beyond.
    shard.run(ack("bob", 1_000, None)).unwrap();
    assert_eq!(shard.state_of(second.id, "ann", "bob"), DeliveryState::Failed);
    // Nor is she when her device comes back, who never reached him with anything.
    let mut shard = Shard::settled(&["ann", "bob", "cy"]);
    shard.run(tell("bob", 1, &["ann"])).unwrap();
    shard.send(GROUP, "ann", 1);
    shard.send(GROUP, "cy", 1);
    shard.run(ack("bob", 9, None)).unwrap();
    let told = shard.missed("ann").into_iter().filter(|event| matches!(event.body, ThreadEventBody::Receipt(_)));
    assert_eq!(told.count(), 0);
}

#[test]
fn unblocking_revives_nothing_and_lets_later_ones_through() {
    let (mut shard, before, [first, his, _]) = a_group();
    shard.run(tell("bob", 2, &["stranger"])).unwrap();
    let after = shard.send(GROUP, "ann", 9);
    assert_eq!(shard.ids("bob"), [before.id, his.id, after.id]);
    shard.run(ack("bob", 99, None)).unwrap();
    assert_eq!(shard.state_of(after.id, "ann", "bob"), DeliveryState::Delivered);
    assert_eq!(shard.state_of(first.id, "ann", "bob"), DeliveryState::Failed);
    shard.run(tell("bob", 3, &["ann"])).unwrap();
    let again = shard.send(GROUP, "ann", 10);
    assert_eq!(shard.state_of(again.id, "ann", "bob"), DeliveryState::Failed);
    assert_eq!(shard.state_of(after.id, "ann", "bob"), DeliveryState::Delivered);
    shard.run(tell("bob", 2, &[])).unwrap();
    let late = shard.send(GROUP, "ann", 11);
    assert_eq!(shard.state_of(late.id, "ann", "bob"), DeliveryState::Failed, "what comes late says nothing");
}

#[test]
fn a_block_that_ends_before_anything_happened_leaves_no_trace() {
    let mut shard = Shard::settled(&["ann", "bob"]);
    shard.run(tell("bob", 1, &["ann"])).unwrap();
    shard.run(tell("bob", 2, &[])).unwrap();
    assert_eq!((family::<BlockKey>(&shard.tables).len(), family::<BlockerKey>(&shard.tables).len()), (0, 0));
    shard.run(tell("bob", 3, &["ann"])).unwrap();
    shard.send(GROUP, "bob", 1);
    shard.run(tell("bob", 4, &[])).unwrap();
    shard.run(tell("bob", 5, &["ann"])).unwrap();
    shard.run(tell("bob", 6, &[])).unwrap();
    assert_eq!((family::<BlockKey>(&shard.tables).len(), family::<BlockerKey>(&shard.tables).len()), (1, 1));
    let sent = shard.send(GROUP, "ann", 1);
    assert_eq!(shard.state_of(sent.id, "ann", "bob"), DeliveryState::Sent);
}

#[test]
fn a_first_block_says_nothing_of_what_was_before_it() {
    let mut shard = Shard::settled(&["ann", "bob"]);
    let before = shard.send(GROUP, "ann", 1);
    shard.run(tell("bob", 1, &["ann"])).unwrap();
    assert_eq!(shard.ids("bob"), [before.id]);
    // Unless he only came, and is told of before his own shard has answered.
    let mut shard = Shard::with_group(&["ann", "bob"]);
    let before = shard.send(GROUP, "ann", 1);
    shard.run(tell("bob", 1, &["ann"])).unwrap();
    assert_eq!(shard.state_of(before.id, "ann", "bob"), DeliveryState::Failed);
}

#[test]
fn a_list_that_comes_after_its_owner_counts_from_the_join() {
    let mut shard = Shard::settled(&["ann", "cy"]);
    let before = shard.send(GROUP, "ann", 1);
    shard.run(add("ann", &["bob"])).unwrap();
    let between = shard.send(GROUP, "ann", 2);
    shard.bring("bob", 7, &["ann"]);
    let after = shard.send(GROUP, "ann", 3);
    assert_eq!(shard.ids("bob"), []);
    for message in [&between, &after] {
        assert_eq!(shard.state_of(message.id, "ann", "bob"), DeliveryState::Failed);
    }
    assert_eq!(shard.recipients(before.id, "ann").unwrap().len(), 1, "which bob was none of");
    // He goes and comes again, and keeps her away no longer.
    shard.run(remove("ann", "bob")).unwrap();
    shard.run(add("ann", &["bob"])).unwrap();
    let third = shard.send(GROUP, "ann", 4);
    shard.bring("bob", 8, &[]);
    assert_eq!(shard.ids("bob"), [third.id]);
}

#[test]
fn a_stay_that_was_over_before_the_list_came_hides_the_same() {
    let mut shard = Shard::settled(&["ann", "cy"]);
    shard.run(add("ann", &["bob"])).unwrap();
    let hers = shard.send(GROUP, "ann", 1);
    let his = shard.send(GROUP, "cy", 1);
    shard.run(remove("ann", "bob")).unwrap();
    shard.run(add("ann", &["bob"])).unwrap();
    shard.bring("bob", 7, &["ann"]);
    assert_eq!(shard.ids("bob"), [his.id]);
    assert_eq!(shard.state_of(hers.id, "ann", "bob"), DeliveryState::Failed);
    shard.run(tell("bob", 8, &[])).unwrap();
    let after = shard.send(GROUP, "ann", 2);
    assert_eq!(shard.ids("bob"), [his.id, after.id]);
    // One who does not come back is shown the rest of that stay by its own list, too.
    shard.run(add("ann", &["dee"])).unwrap();
    shard.send(GROUP, "ann", 3);
    shard.run(remove("ann", "dee")).unwrap();
    shard.bring("dee", 1, &["ann"]);
    let told = |events: Vec<ThreadEvent>| {
        events.into_iter().filter(|event| matches!(event.body, ThreadEventBody::Message(_))).count()
    };
    assert_eq!(told(shard.missed("dee")), 0);
}

#[test]
fn nothing_is_answered_to_a_member_before_its_list_came() {
    let mut shard = Shard::settled(&["ann", "cy"]);
    shard.run(create(PAIR, ThreadKind::OneToOne, "bob", &["cy"])).unwrap();
    shard.bring("bob", 0, &[]);
    shard.run(add("ann", &["bob"])).unwrap();
    let sent = shard.send(GROUP, "ann", 1);
    let queries = |name: &str, threads: &[ThreadId]| {
        let (thread, viewer, device, id) = (GROUP, user(name), device("phone"), sent.id);
        let from = |thread: &ThreadId| ResumeFrom { thread: *thread, position: None, unless_new: false };
        let resume = ResumeQuery {
            user: user(name),
            device: device.clone(),
            threads: threads.iter().map(from).collect(),
            last_seen: None,
            max_bytes: 1 << 20,
        };
        let range = HistoryRange::NewestBefore(SeqBound { seq: Seq(0) });
        [
            Query::Thread(ThreadQuery { thread, viewer: viewer.clone() }),
            Query::Pins(PinsQuery { thread, viewer: viewer.clone() }),
            Query::Message(MessageQuery { id, viewer: viewer.clone(), device: device.clone() }),
            Query::Recipients(RecipientsQuery { id, viewer: viewer.clone() }),
            Query::History(HistoryQuery { thread, viewer: viewer.clone(), device, range, limit: 9 }),
            Query::Resume(resume),
        ]
    };
    let waits = |shard: &Shard, name: &str, threads: &[ThreadId]| {
        queries(name, threads).map(|query| answerable(&shard.tables, query).unwrap().is_none())
    };
    assert_eq!(waits(&shard, "bob", &[GROUP]), [true; 6]);
    assert_eq!(waits(&shard, "ann", &[GROUP]), [false; 6], "it is bob's affair");
    // Of several threads those are left out that are not to be shown yet.
    let some = |query: Query| answerable(&shard.tables, query).unwrap();
    let [.., resume] = queries("bob", &[GROUP, PAIR]);
    let Some(Query::Resume(resume)) = some(resume) else { panic!("it is to be answered") };
    assert_eq!(resume.threads.iter().map(|from| from.thread).collect::<Vec<_>>(), [PAIR]);
    let (viewer, threads) = (user("bob"), vec![GROUP, PAIR]);
    let summaries = SummariesQuery { viewer: viewer.clone(), device: device("phone"), threads: threads.clone() };
    let Some(Query::Summaries(query)) = some(Query::Summaries(summaries)) else { panic!("it is to be answered") };
    let activity = ActivityQuery { viewer, threads, as_of: Millis(0) };
    let Some(Query::Activity(activity)) = some(Query::Activity(activity)) else { panic!("it is to be answered") };
    assert_eq!((&query.threads[..], &activity.threads[..]), ([PAIR].as_slice(), [PAIR].as_slice()));
    // He goes and comes again, and it is the same until both are heard of.
    shard.run(remove("ann", "bob")).unwrap();
    shard.run(add("ann", &["bob"])).unwrap();
    assert_eq!(waits(&shard, "bob", &[GROUP]), [true; 6]);
    shard.bring("bob", 1, &["ann"]);
    assert_eq!(waits(&shard, "bob", &[GROUP]), [false; 6]);
    assert_eq!(shard.ids("bob"), []);
}

#[test]
fn whoever_joins_is_kept_away_by_those_who_are_there() {
    let mut shard = Shard::settled(&["ann", "bob"]);
    shard.run(tell("bob", 1, &["eve"])).unwrap();
    // More names than are looked up one by one.
    let many: Vec<String> = (0..60).map(|number| format!("a{number:02}")).collect();
    let mut names: Vec<&str> = many.iter().map(String::as_str).collect();
    names.extend(["eve", "zed"]);
    shard.run(tell("ann", 1, &names)).unwrap();
    shard.run(add("ann", &["eve", "cy"])).unwrap();
    let sent = shard.send(GROUP, "eve", 1);
    let states = ["ann", "bob", "cy"].map(|name| shard.state_of(sent.id, "eve", name));
    assert_eq!(states, [DeliveryState::Failed, DeliveryState::Failed, DeliveryState::Sent]);
    shard.run(tell("ann", 2, &[&names[..60], &["cy", "zed"]].concat())).unwrap();
    let (hers, theirs) = (shard.send(GROUP, "eve", 2), shard.send(GROUP, "cy", 1));
    assert_eq!(shard.state_of(hers.id, "eve", "ann"), DeliveryState::Sent);
    assert_eq!(shard.state_of(theirs.id, "cy", "ann"), DeliveryState::Failed);
    // Who left and comes back is on the list still.
    shard.run(remove("ann", "eve")).unwrap();
    shard.run(add("ann", &["eve"])).unwrap();
    let back = shard.send(GROUP, "eve", 3);
    assert_eq!(shard.state_of(back.id, "eve", "bob"), DeliveryState::Failed);
    assert_eq!(shard.state_of(back.id, "eve", "ann"), DeliveryState::Sent);
}

#[test]
fn an_outdated_list_of_one_who_was_here_before_does_not_count() {
    let mut shard = Shard::settled(&["ann", "bob"]);
    shard.run(tell("bob", 1, &["eve"])).unwrap();
    shard.run(remove("ann", "bob")).unwrap();
    shard.run(add("ann", &["bob"])).unwrap();
    shard.run(add("ann", &["eve"])).unwrap();
    let sent = shard.send(GROUP, "eve", 1);
    shard.bring("bob", 2, &[]);
    assert_eq!(shard.state_of(sent.id, "eve", "bob"), DeliveryState::Sent);
}

#[test]
fn a_page_of_hidden_messages_leads_on() {
    let mut shard = Shard::settled(&["ann", "bob"]);
    let first = shard.send(GROUP, "bob", 1);
    shard.run(tell("bob", 1, &["ann"])).unwrap();
    let commands = (0..2_100u64).map(|number| {
        let id = CommandId((u128::from(number) + 7).to_be_bytes());
        Command { id, retention: Retention::None, body_hash: 1, op: send(GROUP, "ann", number) }
    });
    shard.pack(commands.collect());
    let page = shard.page(GROUP, "bob", HistoryRange::NewestBefore(SeqBound { seq: Seq(0) }), 10).unwrap();
    assert!(page.messages.is_empty() && page.next.is_some());
    let range = HistoryRange::NewestBefore(SeqBound { seq: page.next.unwrap() });
    let page = shard.page(GROUP, "bob", range, 10).unwrap();
    assert_eq!((page.messages[0].id, page.next), (first.id, None));
    assert_eq!(shard.ids("bob"), [first.id]);
}

/// The pages of a list, followed to its end: each gets further, and none but the last says that it is.
fn pages(shard: &Shard, viewer: &str, first: HistoryRange) -> (Vec<MessageId>, usize) {
    let (mut all, mut count, mut range, mut last) = (Vec::new(), 0, first, None);
    loop {
        let page = shard.page(GROUP, viewer, range.clone(), 2).unwrap();
        all.extend(page.messages.into_iter().map(|message| message.id));
        count += 1;
        let Some(next) = page.next else { return (all, count) };
        let bound = SeqBound { seq: next };
        range = match range {
            HistoryRange::OldestAfter(_) | HistoryRange::OldestAfterMessage(_) => HistoryRange::OldestAfter(bound),
            HistoryRange::ChangedAfter(_) => HistoryRange::ChangedAfter(bound),
            _ => HistoryRange::NewestBefore(bound),
        };
        let backward = matches!(range, HistoryRange::NewestBefore(_));
        let further = last.is_none_or(|last| if backward { next < last } else { next > last });
        assert!(further, "{next} after {last:?}");
        last = Some(next);
    }
}

#[test]
fn lists_lead_past_thousands_of_hidden_messages() {
    let mut shard = Shard::settled(&["ann", "bob", "cy"]);
    let first = shard.send(GROUP, "cy", 1);
    shard.run(tell("bob", 1, &["ann"])).unwrap();
    let mut hidden = 0;
    let mut hide = |shard: &mut Shard, count: u64| {
        for _ in 0..count {
            hidden += 1;
            shard.send(GROUP, "ann", hidden);
        }
    };
    // One page steps over as many at most; on either side of that, and of twice that.
    hide(&mut shard, 1_999);
    let second = shard.send(GROUP, "cy", 2);
    hide(&mut shard, 2_000);
    let third = shard.send(GROUP, "cy", 3);
    hide(&mut shard, 4_001);
    let fourth = shard.send(GROUP, "cy", 4);
    hide(&mut shard, 1_500);
    shard.run(edit("cy", second.id, "again")).unwrap();
    let seen = [first.id, second.id, third.id, fourth.id];
    let bound = SeqBound { seq: Seq(0) };
    let (mut oldest, forward) = pages(&shard, "bob", HistoryRange::OldestAfter(bound.clone()));
    assert_eq!(oldest, seen);
    assert!(forward <= 8, "{forward} pages");
    let (newest, backward) = pages(&shard, "bob", HistoryRange::NewestBefore(bound.clone()));
    oldest.reverse();
    assert_eq!(newest, oldest);
    assert!(backward <= 8, "{backward} pages");
    let since = HistoryRange::OldestAfterMessage(IdBound { id: first.id });
    assert_eq!(pages(&shard, "bob", since).0, seen[1..]);
    let (changed, _) = pages(&shard, "bob", HistoryRange::ChangedAfter(bound));
    assert_eq!(changed, [first.id, third.id, fourth.id, second.id]);
    // A device that was away is told of them as well, and of what it may know of the rest: nothing.
    let told = shard.missed("bob").into_iter().filter_map(|event| match event.body {
        ThreadEventBody::Message(message) => Some(message.id),
        _ => None,
    });
    assert_eq!(told.collect::<Vec<_>>(), seen);
}
