//! Keeping away: before the block m1, while it is in force m2, after it m3; m4 while it is lifted, f by somebody else.

use super::{Check, oracle};
use messenger_chaos::history::blocks::{Blocks, Shown, Turn};
use messenger_chaos::history::changes::{Event, What};
use messenger_chaos::history::{Fate, Origin, Outcome, Record, Send, Tick};
use messenger_chaos::oracle::blocks;

fn send(user: &str, id: &str, seq: u64, began: u64) -> Send {
    Send {
        thread: "t".into(),
        origin: Origin { user: user.into(), device: "pen".into(), client_seq: seq },
        body: id.into(),
        began: Tick(began),
        ended: Tick(began + 5),
        outcome: Outcome::Accepted { id: id.into(), seq },
    }
}

fn turn(on: bool, began: u64) -> Turn {
    Turn { on, began: Tick(began), ended: Tick(began + 5), fate: Fate::Acknowledged }
}

fn shown(messages: &[(&str, u64)]) -> Shown {
    let told: Vec<String> = messages.iter().map(|(id, _)| (*id).to_owned()).collect();
    let what = |id: &str| What::Message { id: id.into(), body: None, deleted: false };
    let heard = messages.iter().map(|(id, seq)| Event { connection: 1, seq: *seq, what: what(id) }).collect();
    Shown { told: (1..=3).map(|node| (node, told.clone())).collect(), heard }
}

fn sound() -> Record {
    let state = |(id, state): (&str, &str)| (id.to_owned(), state.to_owned());
    let blocks = Blocks {
        talker: "bob".into(),
        turns: vec![turn(true, 20), turn(false, 40)],
        sends: vec![
            send("bob", "m1", 2, 10),
            send("bob", "m2", 3, 30),
            send("cat", "f", 4, 31),
            send("bob", "m4", 5, 38),
            send("bob", "m3", 6, 50),
        ],
        blocker: shown(&[("m1", 2), ("f", 4), ("m3", 6)]),
        witness: shown(&[("m1", 2), ("m2", 3), ("f", 4), ("m4", 5), ("m3", 6)]),
        states: [("m1", "READ"), ("m2", "FAILED"), ("m4", "FAILED"), ("m3", "SENT")].map(state).into(),
        lists: (1..=3).map(|node| (node, Vec::new())).collect(),
    };
    Record { blocks, ..Record::default() }
}

/// Doctors a sound record and asserts that the check finds it.
#[track_caller]
fn caught(doctor: impl FnOnce(&mut Blocks)) {
    let check: Check = blocks::check;
    let mut record = sound();
    doctor(&mut record.blocks);
    assert!(!check(&record).is_empty());
    assert!(!oracle::judge(&record).is_empty());
}

fn state(record: &mut Blocks, id: &str, state: &str) {
    record.states.insert(id.to_owned(), state.to_owned());
}

#[test]
fn a_sound_record_passes() {
    assert_eq!(oracle::judge(&sound()), []);
}

#[test]
fn what_overlaps_a_change_may_be_on_either_side_of_it() {
    let mut record = sound();
    record.blocks.blocker = shown(&[("m1", 2), ("f", 4), ("m4", 5), ("m3", 6)]);
    state(&mut record.blocks, "m4", "SENT");
    assert_eq!(oracle::judge(&record), []);
    // So may all that came while nobody knows whether the block is in force.
    for fate in [Fate::Unknown, Fate::Acknowledged] {
        let mut record = sound();
        record.blocks.turns = vec![Turn { fate: Fate::Unknown, ..turn(true, 20) }, Turn { fate, ..turn(false, 60) }];
        assert_eq!(oracle::judge(&record), []);
    }
}

#[test]
fn what_a_block_failed_to_keep_away_is_caught() {
    let all = [("m1", 2), ("m2", 3), ("f", 4), ("m3", 6)];
    caught(|record| {
        record.blocker = shown(&all);
        state(record, "m2", "SENT");
    });
    caught(|record| record.blocker.heard = shown(&all).heard);
    caught(|record| drop(record.blocker.told.insert(2, vec!["m1".into(), "m2".into(), "f".into(), "m3".into()])));
    caught(|record| state(record, "m2", "SENT"));
    caught(|record| drop(record.states.remove("m2")));
}

#[test]
fn what_a_block_kept_away_and_should_not_have_is_caught() {
    caught(|record| {
        record.blocker = shown(&[("f", 4), ("m3", 6)]);
        state(record, "m1", "FAILED");
    });
    caught(|record| {
        record.blocker = shown(&[("m1", 2), ("f", 4)]);
        state(record, "m3", "FAILED");
    });
    caught(|record| record.blocker = shown(&[("m1", 2), ("m3", 6)]));
    caught(|record| state(record, "m1", "FAILED"));
    caught(|record| drop(record.blocker.heard.remove(1)));
    caught(|record| record.witness = shown(&[("m1", 2), ("f", 4), ("m4", 5), ("m3", 6)]));
    caught(|record| record.blocker.heard.swap(0, 1));
    caught(|record| record.witness.told.clear());
}

#[test]
fn a_list_that_is_not_what_the_last_change_made_of_it_is_caught() {
    caught(|record| drop(record.lists.insert(2, vec!["bob".into()])));
    caught(|record| drop(record.lists.insert(2, vec!["cat".into()])));
    caught(|record| record.turns.push(turn(true, 70)));
}
