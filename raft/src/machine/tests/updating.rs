//! Tests of what a group is called.

use super::*;
use messenger_proto::event::{ThreadEventBody, Updated};
use messenger_proto::limits::{DESCRIPTION_MAX, TITLE_MAX};

fn to(text: &str) -> TextChange {
    TextChange { to: Some(text.to_owned()) }
}

fn update(title: Option<TextChange>, description: Option<TextChange>) -> Op {
    Op::UpdateThread(UpdateThread { thread: GROUP, actor: user("ann"), title, description })
}

#[test]
fn what_changed_is_stored_told_and_answered() {
    let mut shard = Shard::with_group(&["ann", "bob"]);
    shard.now += 5;
    let reply = shard.run(update(None, Some(to("about")))).unwrap();
    let (thread, created) = thread_of(&reply);
    assert_eq!((thread.title.as_deref(), thread.description.as_deref(), created), (Some("T"), Some("about"), false));
    assert_eq!((thread.last_seq, thread.updated_at), (Seq(2), Millis(shard.now)));
    assert_eq!(&shard.thread(GROUP, "bob").unwrap(), thread);
    shard.run(title("ann", None)).unwrap();
    assert_eq!(shard.thread(GROUP, "bob").unwrap().title, None);
    let told: Vec<_> = shard.thread_events(GROUP).into_iter().skip(1).map(|event| event.body).collect();
    let by = || user("ann");
    let expected = [
        Updated { by: by(), title: None, description: Some(to("about")) },
        Updated { by: by(), title: Some(TextChange { to: None }), description: None },
    ];
    assert_eq!(told, expected.map(ThreadEventBody::Updated));
    let missed: Vec<_> = shard.resume_one(GROUP, "bob", None, None).events.into_iter().skip(1).collect();
    assert_eq!(missed, shard.thread_events(GROUP)[1..]);
}

#[test]
fn a_change_to_what_is_there_is_no_event() {
    let mut shard = Shard::with_group(&["ann", "bob"]);
    let thread = shard.thread(GROUP, "ann").unwrap();
    shard.now += 5;
    for op in [update(None, None), title("ann", Some("T")), update(Some(to("T")), Some(TextChange { to: None }))] {
        assert_eq!(thread_of(&shard.run(op).unwrap()).0, &thread);
    }
    assert_eq!(shard.thread_events(GROUP).len(), 1);
    shard.run(update(Some(to("T")), Some(to("d")))).unwrap();
    let ThreadEventBody::Updated(told) = &shard.thread_events(GROUP)[1].body else { panic!() };
    assert_eq!((&told.title, &told.description), (&None, &Some(to("d"))), "only what changed is told");
}

#[test]
fn a_group_is_changed_by_its_admins_within_bounds() {
    let mut shard = Shard::with_group(&["ann", "bob"]);
    shard.run(create(PAIR, ThreadKind::OneToOne, "ann", &["bob"])).unwrap();
    assert_eq!(shard.refused(title("bob", None)), ErrorCode::Forbidden);
    assert_eq!(shard.refused(title("eve", None)), ErrorCode::NotAMember);
    let of =
        |thread| Op::UpdateThread(UpdateThread { thread, actor: user("ann"), title: Some(to("U")), description: None });
    assert_eq!(shard.refused(of(PAIR)), ErrorCode::NotAGroup);
    assert_eq!(shard.refused(of(ThreadId([1; 16]))), ErrorCode::NotFound);
    for (title, description, fits) in
        [(TITLE_MAX, DESCRIPTION_MAX, true), (TITLE_MAX + 1, 0, false), (0, DESCRIPTION_MAX + 1, false)]
    {
        let result = shard.run(update(Some(to(&"t".repeat(title))), Some(to(&"d".repeat(description)))));
        assert_eq!(result.err().map(|refusal| refusal.code), (!fits).then_some(ErrorCode::InvalidRequest));
    }
}

#[test]
fn a_repeat_is_answered_from_what_is_there() {
    let mut shard = Shard::with_group(&["ann", "bob"]);
    let op = title("ann", Some("U"));
    let command = Command { id: CommandId([1; 16]), retention: Retention::Minted, body_hash: 0, op };
    shard.command(command.clone()).unwrap();
    shard.run(title("ann", Some("V"))).unwrap();
    let again = shard.command(command).unwrap();
    assert!(again.replayed);
    assert_eq!(thread_of(&again).0.title.as_deref(), Some("V"), "a late repeat takes nothing back");
}
