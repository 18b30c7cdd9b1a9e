//! Keys that are handed out: "bare" published 1 to 4 and has no last resort, "spare" published 1 and has 99 to stand in.

use super::{Check, oracle};
use messenger_chaos::history::keys::{Answer, Key, Keys, Publication, Taking};
use messenger_chaos::history::{Fate, Record, Tick};
use messenger_chaos::oracle::keys;
use std::collections::BTreeMap;

fn key(device: &str, id: u64) -> Key {
    (id, format!("{device} {id}").into_bytes())
}

fn publication(device: &str, ids: &[u64], ended: u64, fate: Fate) -> Publication {
    let keys = ids.iter().map(|id| key(device, *id)).collect();
    Publication { device: device.into(), keys, ended: Tick(ended), fate }
}

fn given(bare: Option<u64>, spare: Option<u64>) -> Answer {
    let keys = [("bare", bare), ("spare", spare)];
    let of = |(device, id): (&str, Option<u64>)| Some((device.to_owned(), key(device, id?)));
    let exhausted = if bare.is_none() { vec!["bare".to_owned()] } else { Vec::new() };
    Answer::Given { keys: keys.into_iter().filter_map(of).collect(), exhausted }
}

fn taking(n: u64, device: Option<&str>, answer: Answer) -> Taking {
    Taking {
        by: "ann".into(),
        under: n.to_string(),
        device: device.map(str::to_owned),
        began: Tick(n * 10),
        ended: Tick(n * 10 + 5),
        doubted: answer == Answer::Unknown,
        answer,
    }
}

/// Two are taken, one perhaps, then there is nothing; a fourth is published and counted, and taken in the end.
fn sound() -> Record {
    let alone = |id| Answer::Given { keys: [("bare".to_owned(), key("bare", id))].into(), exhausted: Vec::new() };
    let keys = Keys {
        devices: BTreeMap::from([("bare".into(), None), ("spare".into(), Some(99))]),
        publications: vec![
            publication("bare", &[1, 2, 3], 1, Fate::Acknowledged),
            publication("spare", &[1], 2, Fate::Acknowledged),
            publication("bare", &[3, 4], 75, Fate::Acknowledged),
        ],
        takings: vec![
            taking(1, None, given(Some(1), Some(1))),
            taking(2, Some("bare"), alone(2)),
            taking(3, Some("bare"), Answer::Unknown),
            taking(4, Some("bare"), Answer::Exhausted),
            taking(5, None, given(None, Some(99))),
            taking(9, Some("bare"), alone(4)),
            taking(10, Some("bare"), Answer::Exhausted),
        ],
        repeats: vec![taking(1, None, given(Some(1), Some(1))), taking(2, Some("bare"), Answer::Unknown)],
        counted: Tick(80),
        left: BTreeMap::from([
            ("bare".into(), (1..=3).map(|node| (node, 1)).collect()),
            ("spare".into(), (1..=3).map(|node| (node, 0)).collect()),
        ]),
    };
    Record { keys, ..Record::default() }
}

/// Doctors a sound record and asserts that the check finds it.
#[track_caller]
fn caught(doctor: impl FnOnce(&mut Keys)) {
    let check: Check = keys::check;
    let mut record = sound();
    doctor(&mut record.keys);
    assert!(!check(&record).is_empty());
    assert!(!oracle::judge(&record).is_empty());
}

#[test]
fn a_sound_record_passes() {
    assert_eq!(oracle::judge(&sound()), []);
}

#[test]
fn a_key_that_was_handed_out_twice_is_caught() {
    caught(|record| record.takings[1].answer = given(Some(1), Some(99)));
    caught(|record| record.takings.push(taking(11, None, given(Some(2), Some(99)))));
    caught(|record| record.takings[4].answer = given(None, Some(1)));
}

#[test]
fn a_key_that_was_never_published_or_came_from_elsewhere_is_caught() {
    caught(|record| record.publications[0].keys[0].1.push(b'!'));
    caught(|record| drop(record.publications[0].keys.remove(1)));
    caught(|record| record.publications[2].fate = Fate::Refused("unavailable".into()));
    caught(|record| record.takings[1].answer = given(Some(2), Some(99)));
    caught(|record| record.takings[0].answer = given(Some(1), None));
}

#[test]
fn a_repeat_that_was_given_something_else_is_caught() {
    caught(|record| record.repeats[0].answer = given(Some(3), Some(1)));
    caught(|record| record.repeats[0].answer = Answer::Exhausted);
    caught(|record| record.repeats[0].by = "bob".into());
}

#[test]
fn a_device_that_is_falsely_said_to_be_out_of_keys_is_caught() {
    // Without the request of unknown outcome, the third is there.
    caught(|record| drop(record.takings.remove(2)));
    caught(|record| record.takings[0].answer = given(None, Some(1)));
    caught(|record| record.takings[0].answer = given(Some(1), Some(99)));
    caught(|record| record.publications[2].ended = Tick(35));
    // What has a last resort is never out of keys.
    caught(|record| record.takings[4].answer = given(None, None));
}

#[test]
fn keys_that_are_miscounted_are_caught() {
    for count in [0, 3] {
        caught(|record| record.left.values_mut().next().expect("of bare").values_mut().for_each(|left| *left = count));
    }
    caught(|record| record.left.values_mut().next().expect("of bare").extend([(2, 2)]));
    caught(|record| record.left.clear());
}
