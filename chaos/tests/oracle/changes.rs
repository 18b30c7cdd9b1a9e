//! What is changed after it was sent: messages a, b and c; a was edited, for sure and perhaps, b was deleted.

use super::{Check, oracle};
use messenger_chaos::history::changes::{Change, Changes, Deed, Event, Reacting, Standing, Told, What};
use messenger_chaos::history::{Ear, Fate, Origin, Outcome, Record, Send, Tick};
use messenger_chaos::oracle::{changes, events, reactions};
use std::collections::BTreeMap;

const REFERENCE: u16 = 1;

fn origin(n: u64) -> Origin {
    Origin { user: "ann".into(), device: "pen".into(), client_seq: n }
}

fn body(text: &str) -> String {
    text.to_owned()
}

fn edit(id: &str, body: &str, fate: Fate) -> Change {
    Change { id: id.into(), deed: Deed::Edit(body.into()), fate }
}

fn reacting(id: &str, emoji: &str, present: bool, fate: Fate) -> Reacting {
    Reacting { id: id.into(), by: "bob".into(), emoji: emoji.into(), present, fate }
}

fn message(id: &str, now: &str) -> What {
    What::Message { id: id.into(), body: Some(body(now)), deleted: false }
}

fn edited(now: Option<&str>) -> What {
    What::Edit { id: "a".into(), body: now.map(str::to_owned) }
}

fn reaction(id: &str, emoji: &str, present: bool) -> What {
    What::Reaction { id: id.into(), emoji: emoji.into(), by: "bob".into(), present }
}

fn told() -> Told {
    let standing = |n: u64, id: &str, seq: u64| Standing {
        id: id.into(),
        seq,
        origin: origin(n),
        body: Some(body(id)),
        edited: false,
        deleted: false,
        reactions: Vec::new(),
    };
    let a = Standing {
        body: Some(body("a2")),
        edited: true,
        reactions: vec![("+".into(), "bob".into())],
        ..standing(1, "a", 2)
    };
    let b = Standing { body: None, deleted: true, ..standing(2, "b", 3) };
    Told { last_seq: 11, messages: vec![a, b, standing(3, "c", 8)] }
}

/// What was heard live, one after the other.
fn live() -> Vec<What> {
    vec![
        message("a", "a"),
        message("b", "b"),
        edited(Some("a1")),
        reaction("b", "+", true),
        edited(Some("a2")),
        What::Delete { id: "b".into() },
        message("c", "c"),
        reaction("c", "+", true),
        reaction("c", "+", false),
        reaction("a", "+", true),
    ]
}

fn numbered(connection: u32, first: u64, whats: Vec<What>) -> Vec<Event> {
    (first..).zip(whats).map(|(seq, what)| Event { connection, seq, what }).collect()
}

fn sound() -> Record {
    let send = |n: u64, id: &str, seq: u64| Send {
        thread: "t".into(),
        origin: origin(n),
        body: id.into(),
        began: Tick(n * 10),
        ended: Tick(n * 10 + 5),
        outcome: Outcome::Accepted { id: id.into(), seq },
    };
    let ear = |user: &str| (Ear { user: user.into(), device: "ear".into() }, "t".to_owned());
    // The other one was cut off after the first edit, and is told again, as things are by then.
    let gone = What::Message { id: "b".into(), body: None, deleted: true };
    let replayed = [vec![message("a", "a2"), gone, edited(Some("a2"))], live().split_off(3)].concat();
    let mut broken_off = numbered(1, 2, live());
    broken_off.truncate(3);
    broken_off.extend(numbered(2, 2, replayed));
    let changes = Changes {
        threads: BTreeMap::from([("t".to_owned(), 1)]),
        sends: vec![send(1, "a", 2), send(2, "b", 3), send(3, "c", 8)],
        changes: vec![
            edit("a", "a1", Fate::Acknowledged),
            edit("a", "a2", Fate::Unknown),
            edit("c", "c1", Fate::Refused("unavailable".into())),
            Change { id: "b".into(), deed: Deed::Delete, fate: Fate::Acknowledged },
        ],
        reactions: vec![
            reacting("b", "+", true, Fate::Acknowledged),
            reacting("b", "-", true, Fate::Refused("message_deleted".into())),
            reacting("c", "+", true, Fate::Acknowledged),
            reacting("c", "+", false, Fate::Acknowledged),
            reacting("a", "+", true, Fate::Unknown),
        ],
        told: BTreeMap::from([("t".to_owned(), (1..=3).map(|node| (node, told())).collect())]),
        heard: BTreeMap::from([(ear("bob"), numbered(1, 2, live())), (ear("cat"), broken_off)]),
    };
    Record { changes, ..Record::default() }
}

/// Doctors a sound record and asserts that `check` finds it.
#[track_caller]
fn caught(check: Check, doctor: impl FnOnce(&mut Changes)) {
    let mut record = sound();
    doctor(&mut record.changes);
    assert!(!check(&record).is_empty());
    assert!(!oracle::judge(&record).is_empty());
}

fn everywhere(changes: &mut Changes, change: impl Fn(&mut Vec<Standing>)) {
    for told in changes.told.values_mut().flat_map(BTreeMap::values_mut) {
        change(&mut told.messages);
    }
}

fn on_node(changes: &mut Changes, node: u16) -> &mut Told {
    changes.told.get_mut("t").and_then(|nodes| nodes.get_mut(&node)).expect("the record holds it")
}

fn heard(changes: &mut Changes) -> &mut Vec<Event> {
    changes.heard.values_mut().next_back().expect("a device listens")
}

#[test]
fn a_sound_record_passes() {
    assert_eq!(oracle::judge(&sound()), []);
}

#[test]
fn what_is_unknown_may_as_well_not_have_been() {
    let mut record = sound();
    everywhere(&mut record.changes, |messages| {
        messages[0].body = Some(body("a1"));
        messages[0].reactions.clear();
    });
    assert!(changes::check(&record).is_empty() && reactions::check(&record).is_empty());
}

#[test]
fn an_edit_that_was_lost_or_came_back_is_caught() {
    caught(changes::check, |record| everywhere(record, |messages| messages[0].body = Some(body("a"))));
    caught(changes::check, |record| everywhere(record, |messages| messages[2].body = Some(body("c1"))));
    caught(changes::check, |record| everywhere(record, |messages| messages[0].body = None));
    caught(changes::check, |record| record.changes[1].fate = Fate::Refused("unavailable".into()));
    caught(changes::check, |record| record.changes.push(edit("a", "a3", Fate::Acknowledged)));
    caught(changes::check, |record| on_node(record, 3).messages[0].body = Some(body("a1")));
}

#[test]
fn a_deletion_that_was_undone_or_invented_is_caught() {
    caught(changes::check, |record| everywhere(record, |messages| messages[1].body = Some(body("b"))));
    caught(changes::check, |record| {
        everywhere(record, |messages| (messages[1].body, messages[1].deleted) = (Some(body("b")), false));
    });
    caught(changes::check, |record| everywhere(record, |messages| messages[1].deleted = false));
    caught(changes::check, |record| {
        everywhere(record, |messages| (messages[2].body, messages[2].deleted) = (None, true));
    });
}

#[test]
fn a_message_that_was_lost_doubled_or_invented_is_caught() {
    caught(changes::check, |record| everywhere(record, |messages| drop(messages.pop())));
    caught(changes::check, |record| everywhere(record, |messages| messages.push(messages[2].clone())));
    caught(changes::check, |record| everywhere(record, |messages| messages[2].origin = origin(9)));
    caught(changes::check, |record| everywhere(record, |messages| messages[2].seq += 1));
    caught(changes::check, |record| record.sends[2].outcome = Outcome::Refused);
    caught(changes::check, |record| drop(on_node(record, 2).messages.pop()));
    caught(changes::check, |record| record.told.clear());
}

#[test]
fn a_reaction_that_was_lost_doubled_or_came_back_is_caught() {
    let plus = || ("+".to_owned(), "bob".to_owned());
    caught(reactions::check, |record| record.reactions[4].present = false);
    caught(reactions::check, |record| everywhere(record, |messages| messages[0].reactions.push(plus())));
    caught(reactions::check, |record| everywhere(record, |messages| messages[1].reactions.push(plus())));
    caught(reactions::check, |record| everywhere(record, |messages| messages[2].reactions.push(plus())));
    caught(reactions::check, |record| {
        everywhere(record, |messages| messages[2].reactions.push(("-".into(), "cat".into())));
    });
    caught(reactions::check, |record| drop(record.reactions.remove(3)));
    // Refused because the message was gone, when it is not.
    caught(reactions::check, |record| record.reactions[1].id = "c".into());
}

#[test]
fn an_event_that_was_not_told_or_told_out_of_order_is_caught() {
    // A hole on one connection, between two, and at the end.
    caught(events::check, |record| drop(heard(record).remove(5)));
    caught(events::check, |record| drop(heard(record).drain(1..7)));
    caught(events::check, |record| drop(heard(record).pop()));
    caught(events::check, |record| heard(record).clear());
    caught(events::check, |record| heard(record).swap(9, 10));
    // More than there is, and another event than others were told of.
    caught(events::check, |record| heard(record).extend(numbered(2, 12, vec![message("d", "d")])));
    caught(events::check, |record| heard(record)[12].what = reaction("a", "-", true));
    caught(events::check, |record| on_node(record, REFERENCE).last_seq += 1);
}

#[test]
fn a_device_that_was_left_with_something_else_is_caught() {
    caught(events::check, |record| heard(record)[7].what = edited(Some("a1")));
    caught(events::check, |record| heard(record)[7].what = edited(None));
    caught(events::check, |record| heard(record)[9].what = message("c", "c!"));
}

#[test]
fn events_that_do_not_add_up_are_caught() {
    // Every device is told the same, and it can't be.
    let told = |record: &mut Changes, seq: u64, what: &What| {
        for event in record.heard.values_mut().flatten().filter(|event| event.seq == seq) {
            event.what = what.clone();
        }
    };
    caught(events::check, |record| told(record, 10, &reaction("c", "+", true)));
    caught(events::check, |record| told(record, 10, &What::Delete { id: "b".into() }));
    caught(events::check, |record| told(record, 9, &reaction("b", "+", true)));
    caught(events::check, |record| told(record, 11, &What::Thread("updated".into())));
    caught(events::check, |record| told(record, 11, &edited(Some("a2"))));
    caught(events::check, |record| drop(record.changes.remove(1)));
    caught(events::check, |record| record.changes.push(edit("c", "c", Fate::Acknowledged)));
    caught(events::check, |record| on_node(record, REFERENCE).messages[0].reactions.clear());
    caught(events::check, |record| on_node(record, REFERENCE).messages[0].edited = false);
}
