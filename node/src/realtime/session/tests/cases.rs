//! What a session does, case by case.

use super::super::*;
use super::world::*;
use messenger_proto::ids::{MessageId, Rev};
use messenger_proto::query::Gap;

fn message(thread: ThreadId, n: u64) -> Arc<SharedEvent> {
    let kind = EventKind::Message { sender: user("other"), hidden_from: Vec::new() };
    let (body, for_sender) = (Bytes::new(), Bytes::new());
    Arc::new(SharedEvent { thread, rev: Rev(n), seq: Some(Seq(n)), kind, body, for_sender, for_device: Bytes::new() })
}

fn at(n: u64) -> Position {
    Position { seq: Seq(n), rev: Rev(n) }
}

/// A session with one thread whose storage is being asked.
fn resuming() -> (Session, ThreadId) {
    let thread = thread_id(1);
    let mut session = Session::new(user("me-1"));
    session.index(&[(thread, Seq(1))], &[]);
    assert_eq!(session.take_listen(), [thread]);
    session.listening(thread);
    assert_eq!(session.take_behind(9), [ResumeFrom { thread, position: None, unless_new: false }]);
    (session, thread)
}

#[test]
fn a_user_without_threads_is_caught_up_at_once() {
    let mut session = Session::new(user("me-1"));
    assert_eq!(session.pending(), 0, "not before the index is known");
    session.index(&[], &[]);
    assert_eq!(session.next_frame().map(|frame| frame.body), Some(FrameBody::CaughtUp));
    session.index(&[], &[]);
    assert_eq!(session.pending(), 0, "and only once");
}

#[test]
fn a_thread_that_the_stream_tells_of_before_the_index_is_waited_for() {
    let (mut session, thread) = (Session::new(user("alice")), thread_id(1));
    session.joined(thread, Seq(1));
    session.index(&[(thread, Seq(1))], &[]);
    assert_eq!(session.pending(), 0, "it was not replayed yet");
    session.listening(thread);
    session.take_behind(1);
    session.resumed(&Resumed {
        thread,
        events: vec![message(thread, 1)],
        position: at(1),
        more: false,
        gap: None,
        left: false,
    });
    let kinds: Vec<_> = std::iter::from_fn(|| session.next_frame()).map(|frame| frame.body).collect();
    assert!(matches!(kinds[..], [FrameBody::Event { .. }, FrameBody::CaughtUp]), "{kinds:?}");
}

#[test]
fn a_thread_that_was_left_is_asked_for_without_listening() {
    let (mut session, thread) = (Session::new(user("me-1")), thread_id(1));
    session.index(&[], &[(thread, Seq(3))]);
    assert_eq!(session.pending(), 0, "it was not replayed yet");
    assert!(session.take_listen().is_empty());
    assert_eq!(session.take_behind(9), [ResumeFrom { thread, position: None, unless_new: true }]);
    let events = vec![message(thread, 2), message(thread, 3)];
    session.resumed(&Resumed { thread, events, position: at(3), more: false, gap: None, left: true });
    let kinds: Vec<_> = std::iter::from_fn(|| session.next_frame()).map(|frame| frame.body).collect();
    assert!(matches!(kinds[..], [FrameBody::Event { .. }, FrameBody::Event { .. }, FrameBody::CaughtUp]), "{kinds:?}");
    assert!(session.take_heard().is_empty(), "nobody listens to it");
    assert!(session.known().eq([thread]), "its acknowledgement is to be written when the connection ends");
    let progress = session.ack(FrameSeq(2)).unwrap();
    assert_eq!(progress, [Progress { thread, delivered: Seq(3), position: Some(at(3)) }]);
}

#[test]
fn a_user_that_comes_back_to_a_thread_it_had_left_hears_it_again() {
    // The index says so before storage does, or after it.
    for told_by_storage in [false, true] {
        let (mut session, thread) = (Session::new(user("me-1")), thread_id(1));
        session.index(&[], &[(thread, Seq(2))]);
        assert_eq!(session.take_behind(9).len(), 1);
        let resumed = |n, left| {
            let events = vec![message(thread, n)];
            Resumed { thread, events, position: at(n), more: false, gap: None, left }
        };
        if told_by_storage {
            session.resumed(&resumed(3, false));
        } else {
            session.joined(thread, Seq(3));
            assert!(session.take_listen().is_empty(), "an answer is on its way, which would be taken for a later one");
            session.resumed(&resumed(2, true));
        }
        assert_eq!(session.take_listen(), [thread]);
        session.joined(thread, Seq(3));
        session.listening(thread);
        let position = Some(at(if told_by_storage { 3 } else { 2 }));
        assert_eq!(session.take_behind(9), [ResumeFrom { thread, position, unless_new: false }]);
        session.resumed(&resumed(3, false));
        session.live(&message(thread, 4));
        let told = std::iter::from_fn(|| session.next_frame()).filter_map(|frame| match frame.body {
            FrameBody::Event { event, .. } => event.seq,
            _ => None,
        });
        let first = if told_by_storage { 3 } else { 2 };
        assert!(told.eq((first..=4).map(Seq)));
    }
}

#[test]
fn reads_that_were_held_back_are_told_before_the_removal_and_acknowledged_with_it() {
    let (mut session, thread) = resuming();
    session.resumed(&Resumed { thread, events: vec![], position: at(1), more: false, gap: None, left: false });
    let kind = EventKind::Read { by: user("other"), deferred: true };
    let read = Arc::new(SharedEvent { rev: Rev(2), seq: None, kind, ..(*message(thread, 2)).clone() });
    session.live(&read);
    let (kind, position) = (EventKind::Thread { removed: Some(user("me-1")) }, Position { seq: Seq(2), rev: Rev(3) });
    let removal = Arc::new(SharedEvent { rev: Rev(3), seq: Some(Seq(2)), kind, ..(*message(thread, 2)).clone() });
    session.live(&removal);
    assert_eq!(session.take_behind(9), [ResumeFrom { thread, position: Some(at(1)), unless_new: false }]);
    session.resumed(&Resumed { thread, events: vec![read, removal], position, more: false, gap: None, left: true });
    let told = std::iter::from_fn(|| session.next_frame()).filter(|frame| frame.body != FrameBody::CaughtUp);
    let last = told.map(|frame| frame.seq).last().unwrap();
    assert_eq!(session.ack(last).unwrap()[0].position, Some(position));
}

#[test]
fn a_departure_without_news_is_forgotten() {
    let (mut session, thread) = (Session::new(user("me-1")), thread_id(1));
    session.index(&[], &[(thread, Seq(3))]);
    session.take_behind(9);
    let position = Position::default();
    session.resumed(&Resumed { thread, events: vec![], position, more: false, gap: None, left: true });
    assert_eq!(session.next_frame().map(|frame| frame.body), Some(FrameBody::CaughtUp));
    assert_eq!(session.known().count(), 0);
    // A new stay begins where storage says.
    session.joined(thread, Seq(5));
    session.take_listen();
    session.listening(thread);
    assert_eq!(session.take_behind(9), [ResumeFrom { thread, position: None, unless_new: false }]);
}

#[test]
fn an_index_older_than_the_stream_takes_no_muted_thread_away() {
    let (mut session, thread) = (Session::new(user("me-1")), thread_id(1));
    session.index(&[], &[]);
    session.narrow(BTreeSet::new());
    session.joined(thread, Seq(5));
    session.index(&[], &[]);
    session.narrow([thread].into());
    assert_eq!(session.take_listen(), [thread]);
    session.narrow(BTreeSet::new());
    session.listening(thread);
    session.left(thread, Seq(4));
    assert_eq!(session.threads().count(), 1, "that was an earlier stay");
    session.left(thread, Seq(6));
    session.narrow(BTreeSet::new());
    assert_eq!(session.threads().count(), 1, "storage says what it may still see");
}

#[test]
fn acknowledging_a_gap_delivers_what_it_covers_and_moves_no_position() {
    let (mut session, thread) = resuming();
    let gap = Gap { after_seq: Seq(0), after_id: None, before_id: MessageId(12_000) };
    let events = vec![message(thread, 11_001), message(thread, 11_002)];
    session.resumed(&Resumed { thread, events, position: at(11_002), more: false, gap: Some(gap), left: false });
    let bodies: Vec<_> = std::iter::from_fn(|| session.next_frame()).map(|frame| frame.body).collect();
    assert!(matches!(bodies[0], FrameBody::Gap { .. }));
    assert_eq!(bodies.len(), 4, "two messages and caught_up");
    let progress = session.ack(FrameSeq(1)).unwrap();
    assert_eq!(progress, [Progress { thread, delivered: Seq(11_000), position: None }]);
    let progress = session.ack(FrameSeq(3)).unwrap();
    assert_eq!(progress, [Progress { thread, delivered: Seq(11_002), position: Some(at(11_002)) }]);
}

#[test]
fn a_thread_busier_than_the_stash_is_asked_for_again_rather_than_held_in_memory() {
    let (mut session, thread) = resuming();
    for n in 1..=stash::EVENTS_MAX as u64 + 1 {
        session.live(&message(thread, n));
    }
    session.resumed(&Resumed { thread, events: vec![], position: at(0), more: false, gap: None, left: false });
    assert_eq!(session.take_behind(9), [ResumeFrom { thread, position: Some(at(0)), unless_new: false }]);
}

#[test]
fn large_events_fill_the_stash_sooner_and_none_behind_them_is_kept_alone() {
    let large = |thread, n| Arc::new(SharedEvent { body: vec![0; 90_000].into(), ..(*message(thread, n)).clone() });
    let ask = |more: &[Arc<SharedEvent>]| {
        let (mut session, thread) = resuming();
        session.live(&large(thread, 1));
        for event in more {
            session.live(event);
        }
        session.resumed(&Resumed { thread, events: vec![], position: at(0), more: false, gap: None, left: false });
        session.take_behind(9).len()
    };
    let (_, thread) = resuming();
    assert_eq!(ask(&[message(thread, 2)]), 0, "one large one and a small one are kept");
    assert_eq!(ask(&[large(thread, 2)]), 1, "two large ones are not");
    assert_eq!(ask(&[large(thread, 2), message(thread, 3)]), 1, "nor is what comes behind them");
}

#[test]
fn an_acknowledgement_of_the_last_frame_takes_what_was_stepped_over_too() {
    let (mut session, thread) = resuming();
    let events = vec![message(thread, 1)];
    session.resumed(&Resumed { thread, events, position: at(1), more: false, gap: None, left: false });
    let kind = EventKind::Delivered { by: user("me-1"), senders: None };
    let receipt = SharedEvent { rev: Rev(2), seq: None, kind, ..(*message(thread, 1)).clone() };
    session.live(&Arc::new(receipt));
    let progress = session.ack(FrameSeq(2)).unwrap();
    assert_eq!(progress[0].position, Some(Position { seq: Seq(1), rev: Rev(2) }));
}

#[test]
fn a_thread_that_was_removed_last_is_still_to_be_forgotten_when_the_connection_ends() {
    let (mut session, thread) = resuming();
    session.resumed(&Resumed { thread, events: vec![], position: at(1), more: false, gap: None, left: true });
    assert_eq!(session.threads().count(), 0);
    assert_eq!(session.take_heard(), [thread]);
}
