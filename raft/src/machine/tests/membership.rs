//! Tests of joining, leaving and who may.

use super::*;
use crate::machine::{outbox_pending, outbox_scan};
use messenger_proto::command::{OutboxBarrier, OutboxDelivered, OutboxKey, ThreadBarrier};
use messenger_proto::event::ThreadEventBody;
use messenger_proto::model::Role;

fn roles(shard: &Shard, viewer: &str) -> Vec<(String, Role)> {
    let thread = shard.thread(GROUP, viewer).unwrap();
    thread.participants.into_iter().map(|one| (one.user.to_string(), one.role)).collect()
}

fn outbox(shard: &Shard) -> Vec<(u64, String, bool)> {
    let rows = outbox_scan(&shard.tables, None, 1000).unwrap();
    rows.into_iter().map(|(key, change)| (key.seq.0, change.user.to_string(), change.present)).collect()
}

fn named(name: &str, role: Role) -> (String, Role) {
    (name.into(), role)
}

#[test]
fn a_pair_has_one_thread_whoever_makes_it() {
    let mut shard = Shard::new();
    assert_eq!(shard.refused(create(PAIR, ThreadKind::OneToOne, "ann", &["ann"])), ErrorCode::InvalidRequest);
    assert_eq!(shard.refused(create(PAIR, ThreadKind::OneToOne, "ann", &["bob", "cid"])), ErrorCode::InvalidRequest);
    let first = shard.run(create(PAIR, ThreadKind::OneToOne, "ann", &["bob", "ann", "bob"])).unwrap();
    let second = shard.run(create(PAIR, ThreadKind::OneToOne, "bob", &["ann"])).unwrap();
    assert_eq!((thread_of(&first).1, thread_of(&second).1), (true, false));
    assert_eq!(thread_of(&first).0, thread_of(&second).0);
    assert!(thread_of(&first).0.participants.iter().all(|one| one.role == Role::Member));
    assert_eq!(first.barrier, second.barrier, "both answers wait for the members' indexes");
    assert_eq!(shard.thread_events(PAIR).len(), 1);
}

#[test]
fn a_group_that_is_made_again_is_the_same_one() {
    let mut shard = Shard::new();
    let op = create(GROUP, ThreadKind::Group, "ann", &["cid", "bob"]);
    let first = shard.run(op.clone()).unwrap();
    shard.now += 5;
    let second = shard.run(op).unwrap();
    assert!(thread_of(&first).1 && thread_of(&second).1);
    assert_eq!(thread_of(&first).0, thread_of(&second).0);
    assert_eq!(
        roles(&shard, "ann"),
        [named("ann", Role::Admin), named("bob", Role::Member), named("cid", Role::Member)]
    );
    let events = shard.thread_events(GROUP);
    assert_eq!(events.len(), 1);
    let ThreadEventBody::Created(created) = &events[0].body else { panic!() };
    assert_eq!(&created.thread, thread_of(&first).0);
    assert_eq!(shard.refused(create(GROUP, ThreadKind::Group, "eve", &[])), ErrorCode::Conflict);
}

#[test]
fn a_thread_has_at_most_250_members() {
    let names: Vec<String> = (0..251).map(|number| format!("user{number}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let mut shard = Shard::new();
    assert_eq!(shard.refused(create(GROUP, ThreadKind::Group, names[0], &names[1..])), ErrorCode::InvalidRequest);
    shard.run(create(GROUP, ThreadKind::Group, names[0], &names[1..249])).unwrap();
    assert_eq!(shard.refused(add(names[0], &names[249..251])), ErrorCode::ThreadFull);
    assert_eq!(shard.thread(GROUP, names[0]).unwrap().participants.len(), 249, "nobody was added");
    shard.run(add(names[0], &names[240..250])).unwrap();
    assert_eq!(shard.refused(add(names[0], &names[250..])), ErrorCode::ThreadFull);
    shard.run(remove(names[0], names[3])).unwrap();
    shard.run(add(names[0], &names[250..])).unwrap();
    assert_eq!(shard.send(GROUP, names[0], 1).receipts.unwrap().of, 249);
}

#[test]
fn who_may_change_whom() {
    let mut shard = Shard::with_group(&["ann", "bob", "cid"]);
    shard.run(create(PAIR, ThreadKind::OneToOne, "ann", &["bob"])).unwrap();
    let pair =
        |actor: &str| Op::AddParticipants(AddParticipants { thread: PAIR, actor: user(actor), users: users(&["cid"]) });
    assert_eq!(shard.refused(pair("ann")), ErrorCode::NotAGroup);
    assert_eq!(shard.refused(pair("cid")), ErrorCode::NotAMember);
    let leave = Op::RemoveParticipant(RemoveParticipant { thread: PAIR, actor: user("ann"), user: user("ann") });
    assert_eq!(shard.refused(leave), ErrorCode::NotAGroup);
    assert_eq!(shard.refused(add("bob", &["dan"])), ErrorCode::Forbidden);
    assert_eq!(shard.refused(add("eve", &["dan"])), ErrorCode::NotAMember);
    assert_eq!(shard.refused(remove("bob", "cid")), ErrorCode::Forbidden);
    assert_eq!(shard.refused(remove("ann", "eve")), ErrorCode::NotFound);
    shard.run(remove("bob", "bob")).unwrap();
    assert_eq!(shard.refused(remove("bob", "bob")), ErrorCode::NotAMember);
    assert_eq!(shard.refused(remove("ann", "bob")), ErrorCode::NotFound);
}

#[test]
fn each_addition_is_an_event_and_those_present_stay_as_they_are() {
    let mut shard = Shard::with_group(&["ann", "bob"]);
    let before = shard.thread_events(GROUP).len();
    let reply = shard.run(add("ann", &["eve", "bob", "dan", "eve"])).unwrap();
    assert!(!thread_of(&reply).1);
    let added: Vec<_> = shard.thread_events(GROUP)[before..]
        .iter()
        .map(|event| match &event.body {
            ThreadEventBody::ParticipantAdded(added) => (event.seq.unwrap().0, added.participant.user.to_string()),
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(added, [(2, "dan".into()), (3, "eve".into())]);
    let names: Vec<_> = roles(&shard, "eve").into_iter().map(|(name, _)| name).collect();
    assert_eq!(names, ["ann", "bob", "dan", "eve"]);
    let rows = shard.tables.0.len();
    let again = shard.run(add("ann", &["dan"])).unwrap();
    assert_eq!(again.barrier, reply.barrier, "also an answer that added nobody waits for the index");
    assert_eq!(shard.tables.0.len(), rows + 2, "a dedupe row and its expiry alone");
}

#[test]
fn the_longest_standing_member_follows_the_last_admin() {
    let mut shard = Shard::with_group(&["zoe"]);
    shard.now += 1;
    shard.run(add("zoe", &["eve", "dan"])).unwrap();
    shard.run(remove("zoe", "zoe")).unwrap();
    let ThreadEventBody::ParticipantRemoved(event) = shard.thread_events(GROUP).pop().unwrap().body else { panic!() };
    assert_eq!((event.by, event.user, event.promoted), (user("zoe"), user("zoe"), Some(user("dan"))));
    assert_eq!(roles(&shard, "eve"), [named("dan", Role::Admin), named("eve", Role::Member)]);
    shard.run(add("dan", &["zoe"])).unwrap();
    assert_eq!(roles(&shard, "zoe")[2], named("zoe", Role::Member), "an admin that returns is a member");
    shard.run(remove("dan", "eve")).unwrap();
    let ThreadEventBody::ParticipantRemoved(event) = shard.thread_events(GROUP).pop().unwrap().body else { panic!() };
    assert_eq!(event.promoted, None);
    shard.run(remove("dan", "dan")).unwrap();
    shard.run(remove("zoe", "zoe")).unwrap();
    assert_eq!(shard.thread(GROUP, "zoe").unwrap_err().code, ErrorCode::NotAMember);
}

#[test]
fn a_member_sees_what_happened_while_it_was_there() {
    let mut shard = Shard::with_group(&["ann", "bob"]);
    let mut sent = vec![shard.send(GROUP, "ann", 1)];
    shard.run(add("ann", &["cid"])).unwrap();
    sent.push(shard.send(GROUP, "ann", 2));
    shard.run(remove("ann", "cid")).unwrap();
    for refusal in [
        shard.history(GROUP, "cid").unwrap_err(),
        shard.thread(GROUP, "cid").unwrap_err(),
        shard.recipients(sent[1].id, "cid").unwrap_err(),
        shard.run(read("cid", sent[1].id)).unwrap_err(),
    ] {
        assert_eq!(refusal.code, ErrorCode::NotAMember);
    }
    sent.push(shard.send(GROUP, "ann", 3));
    shard.run(add("ann", &["cid"])).unwrap();
    let seen = |shard: &Shard| shard.history(GROUP, "cid").unwrap().iter().map(|m| m.client_seq.0).collect::<Vec<_>>();
    assert_eq!(seen(&shard), [2]);
    assert_eq!(shard.thread(GROUP, "cid").unwrap().last_message, Some(sent[1].id));
    sent.push(shard.send(GROUP, "ann", 4));
    assert_eq!(seen(&shard), [2, 4]);
    assert_eq!(shard.recipients(sent[2].id, "cid").unwrap_err().code, ErrorCode::Forbidden);
    assert_eq!(shard.run(read("cid", sent[2].id)).unwrap_err().code, ErrorCode::Forbidden);
    let of = |message: &Message| shard.recipients(message.id, "ann").unwrap().len();
    assert_eq!(sent.iter().map(of).collect::<Vec<_>>(), [1, 2, 1, 2]);
    assert_eq!(shard.thread(ThreadId([1; 16]), "ann").unwrap_err().code, ErrorCode::NotFound);
}

#[test]
fn the_outbox_holds_every_change_until_it_arrived() {
    let mut shard = Shard::with_group(&["ann", "bob"]);
    shard.run(add("ann", &["cid"])).unwrap();
    let reply = shard.run(remove("ann", "bob")).unwrap();
    let expected = [(1, "ann", true), (1, "bob", true), (2, "cid", true), (3, "bob", false)];
    let expected: Vec<_> = expected.iter().map(|(seq, name, present)| (*seq, (*name).to_string(), *present)).collect();
    assert_eq!(outbox(&shard), expected);
    let pages = |limit| {
        let (mut all, mut after) = (Vec::new(), None);
        loop {
            let rows = outbox_scan(&shard.tables, after.take(), limit).unwrap();
            let Some((last, _)) = rows.last() else { return all };
            after = Some(last.clone());
            all.extend(rows);
        }
    };
    assert_eq!(pages(1), pages(100));
    let barrier = reply.barrier.unwrap();
    let up_to = |thread, seq| OutboxBarrier::Thread(ThreadBarrier { thread, seq: Seq(seq) });
    assert_eq!(barrier, up_to(GROUP, 3));
    let pending = |shard: &Shard, seq| outbox_pending(&shard.tables, &up_to(GROUP, seq)).unwrap();
    let arrived = |seq, name: &str| {
        Op::OutboxDelivered(OutboxDelivered {
            rows: vec![OutboxKey { thread: GROUP, seq: Seq(seq), user: user(name) }],
            members: Vec::new(),
        })
    };
    for (seq, name) in [(1, "ann"), (2, "cid"), (2, "cid"), (3, "bob")] {
        shard.run(arrived(seq, name)).unwrap();
        assert!(pending(&shard, 1) && pending(&shard, 3), "the first event's row is left");
    }
    assert!(!outbox_pending(&shard.tables, &up_to(PAIR, 9)).unwrap());
    shard.run(arrived(1, "bob")).unwrap();
    assert!(!pending(&shard, 3));
}

#[test]
fn a_repeat_of_one_who_left_is_told_nothing() {
    let mut shard = Shard::with_group(&["ann", "bob"]);
    let command =
        Command { id: CommandId([1; 16]), retention: Retention::Keyed, body_hash: 1, op: add("ann", &["cid"]) };
    shard.command(command.clone()).unwrap();
    let leave = Command { id: CommandId([2; 16]), retention: Retention::Keyed, body_hash: 1, op: remove("ann", "ann") };
    let left = shard.command(leave.clone()).unwrap();
    assert_eq!(shard.command(command).unwrap_err().code, ErrorCode::NotAMember);
    let again = shard.command(leave).unwrap();
    assert_eq!(again, Reply { replayed: true, ..left });
}
