//! Coming and going: bob was there for m1, away for m2, and is back for m3; cat went before m2 and stays away.

use super::{Check, oracle};
use messenger_chaos::history::changes::{Event, What};
use messenger_chaos::history::members::{Members, Seen, Sight, Turn};
use messenger_chaos::history::{Fate, Origin, Outcome, Record, Send, Tick};
use messenger_chaos::oracle::members;

fn send(id: &str, seq: u64, began: u64) -> Send {
    Send {
        thread: "t".into(),
        origin: Origin { user: "ann".into(), device: "pen".into(), client_seq: seq },
        body: id.into(),
        began: Tick(began),
        ended: Tick(began + 5),
        outcome: Outcome::Accepted { id: id.into(), seq },
    }
}

fn turn(user: &str, add: bool, began: u64) -> Turn {
    Turn { user: user.into(), add, began: Tick(began), ended: Tick(began + 5), fate: Fate::Acknowledged }
}

fn sight(user: &str, began: u64, listed: bool) -> Sight {
    Sight { user: user.into(), began: Tick(began), listed }
}

fn seen(history: Option<&[&str]>) -> Seen {
    let history = history.map(|ids| ids.iter().map(|id| (*id).to_owned()).collect());
    Seen { listed: history.is_some(), history }
}

fn heard(messages: &[(&str, u64)]) -> Vec<Event> {
    let what = |id: &str| What::Message { id: id.into(), body: None, deleted: false };
    messages.iter().map(|(id, seq)| Event { connection: 1, seq: *seq, what: what(id) }).collect()
}

fn everywhere(seen: &Seen) -> std::collections::BTreeMap<u16, Seen> {
    (1..=3).map(|node| (node, seen.clone())).collect()
}

fn sound() -> Record {
    let members = Members {
        users: vec!["bob".into(), "cat".into()],
        turns: vec![turn("bob", false, 20), turn("cat", false, 20), turn("bob", true, 40)],
        sights: vec![sight("bob", 10, true), sight("bob", 26, false), sight("bob", 46, true), sight("cat", 30, false)],
        sends: vec![send("m1", 2, 10), send("m2", 5, 30), send("m3", 7, 50)],
        participants: (1..=3).map(|node| (node, vec!["ann".into(), "bob".into()])).collect(),
        told: [("bob".to_owned(), everywhere(&seen(Some(&["m1", "m3"])))), ("cat".to_owned(), everywhere(&seen(None)))]
            .into(),
        heard: [("bob".to_owned(), heard(&[("m1", 2), ("m3", 7)])), ("cat".to_owned(), Vec::new())].into(),
    };
    Record { members, ..Record::default() }
}

/// Doctors a sound record and asserts that the check finds it.
#[track_caller]
fn caught(doctor: impl FnOnce(&mut Members)) {
    let check: Check = members::check;
    let mut record = sound();
    doctor(&mut record.members);
    assert!(!check(&record).is_empty());
    assert!(!oracle::judge(&record).is_empty());
}

fn tell(record: &mut Members, user: &str, seen: &Seen) {
    record.told.insert(user.to_owned(), everywhere(seen));
}

fn take_part(record: &mut Members, users: &[&str]) {
    for participants in record.participants.values_mut() {
        *participants = users.iter().map(|user| (*user).to_owned()).collect();
    }
}

#[test]
fn a_sound_record_passes() {
    assert_eq!(oracle::judge(&sound()), []);
}

#[test]
fn a_turn_of_unknown_outcome_may_as_well_not_have_been() {
    for is_in in [false, true] {
        let mut record = sound();
        record.members.turns[1].fate = Fate::Unknown;
        if is_in {
            take_part(&mut record.members, &["ann", "bob", "cat"]);
            tell(&mut record.members, "cat", &seen(Some(&["m1", "m2"])));
        }
        assert_eq!(oracle::judge(&record), []);
    }
}

#[test]
fn a_membership_that_was_lost_or_came_back_is_caught() {
    caught(|record| take_part(record, &["ann"]));
    caught(|record| {
        take_part(record, &["ann", "bob", "cat"]);
        tell(record, "cat", &seen(Some(&["m1"])));
    });
    caught(|record| drop(record.participants.insert(2, vec!["ann".into()])));
    caught(|record| record.turns[2].fate = Fate::Refused("unavailable".into()));
    caught(|record| record.turns.push(Turn { fate: Fate::Refused("not_found".into()), ..turn("bob", false, 70) }));
    caught(|record| record.participants.clear());
}

#[test]
fn a_list_that_does_not_agree_is_caught() {
    caught(|record| tell(record, "cat", &Seen { listed: true, history: None }));
    caught(|record| {
        let history = Some(vec!["m1".to_owned(), "m3".to_owned()]);
        tell(record, "bob", &Seen { listed: false, history });
    });
    caught(|record| drop(record.told.remove("cat")));
    for (place, listed) in [(0, false), (1, true), (2, false), (3, true)] {
        caught(|record| record.sights[place].listed = listed);
    }
}

#[test]
fn a_history_with_too_much_or_too_little_is_caught() {
    caught(|record| tell(record, "bob", &seen(Some(&["m1", "m2", "m3"]))));
    caught(|record| tell(record, "bob", &seen(Some(&["m3"]))));
    caught(|record| tell(record, "bob", &seen(Some(&["m1"]))));
    caught(|record| tell(record, "bob", &seen(None)));
    caught(|record| tell(record, "cat", &seen(Some(&["m1"]))));
    caught(|record| {
        let nodes = record.told.get_mut("bob").expect("bob is told");
        nodes.insert(3, seen(Some(&["m1", "m3", "m4"])));
    });
}

#[test]
fn a_device_that_heard_too_much_or_too_little_is_caught() {
    let hear = |record: &mut Members, user: &str, messages: &[(&str, u64)]| {
        record.heard.insert(user.to_owned(), heard(messages));
    };
    caught(|record| hear(record, "bob", &[("m1", 2), ("m2", 5), ("m3", 7)]));
    caught(|record| hear(record, "bob", &[("m1", 2)]));
    caught(|record| hear(record, "bob", &[("m3", 7), ("m1", 2)]));
    caught(|record| hear(record, "cat", &[("m1", 2), ("m2", 5)]));
    // What was missed of an earlier stay is told to no device that was not there.
    let mut record = sound();
    hear(&mut record.members, "bob", &[("m3", 7)]);
    assert!(members::check(&record).is_empty());
}
