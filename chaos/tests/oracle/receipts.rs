//! Reading: ann sent m1 to m3; bob surely read m1 and perhaps m2, cat has what was delivered and reads nothing.

use super::{Check, oracle};
use messenger_chaos::history::receipts::{Look, Marking, Place, Receipt, Receipts, Stand};
use messenger_chaos::history::{Ear, Fate, Origin, Outcome, Record, Send, Stored, Tick};
use messenger_chaos::oracle::receipts;
use std::collections::BTreeMap;

fn marking(up_to: &str, began: u64, fate: Fate) -> Marking {
    let (by, thread, up_to) = ("bob".into(), "t".into(), up_to.into());
    Marking { by, thread, up_to, began: Tick(began), ended: Tick(began + 5), fate }
}

fn stand(recipient: &str, delivered: Option<u64>, read: Option<u64>) -> Stand {
    let state = match (delivered, read) {
        (_, Some(_)) => "READ",
        (Some(_), None) => "DELIVERED",
        (None, None) => "SENT",
    };
    let at = |time: Option<u64>| time.map(|time| format!("at {time:04}"));
    Stand { recipient: recipient.into(), state: state.into(), delivered_at: at(delivered), read_at: at(read) }
}

fn look(message: &str, began: u64, bob: Stand, cat: Stand) -> Look {
    let (thread, message) = ("t".into(), message.into());
    Look { thread, message, began: Tick(began), ended: Tick(began + 5), stands: vec![bob, cat] }
}

fn place(last_read: Option<&str>, unread: u32) -> BTreeMap<u16, Place> {
    (1..=3).map(|node| (node, Place { last_read: last_read.map(str::to_owned), unread })).collect()
}

fn sound() -> Record {
    let send = |n: u64| Send {
        thread: "t".into(),
        origin: Origin { user: "ann".into(), device: "hand".into(), client_seq: n },
        body: n.to_string(),
        began: Tick(n),
        ended: Tick(n),
        outcome: Outcome::Accepted { id: format!("m{n}"), seq: n },
    };
    let stored = |send: &Send| {
        let n = send.origin.client_seq;
        Stored { id: format!("m{n}"), seq: n, origin: send.origin.clone(), body: send.body.clone() }
    };
    let sends: Vec<Send> = (1..=3).map(send).collect();
    let history: Vec<Stored> = sends.iter().map(stored).collect();
    let receipt = |connection: u32, read: bool, up_to: &str| Receipt {
        connection,
        thread: "t".into(),
        read,
        by: "bob".into(),
        up_to: up_to.into(),
    };
    let heard = vec![receipt(1, false, "m2"), receipt(1, true, "m1"), receipt(1, true, "m2"), receipt(2, true, "m1")];
    let receipts = Receipts {
        markings: vec![
            marking("m1", 20, Fate::Acknowledged),
            marking("m2", 40, Fate::Unknown),
            marking("m3", 50, Fate::Refused("unavailable".into())),
        ],
        looks: vec![
            look("m1", 10, stand("bob", None, None), stand("cat", None, None)),
            look("m1", 22, stand("bob", Some(1), Some(2)), stand("cat", None, None)),
            look("m1", 30, stand("bob", Some(1), Some(2)), stand("cat", Some(3), None)),
            look("m2", 60, stand("bob", Some(4), Some(4)), stand("cat", Some(5), None)),
            look("m3", 60, stand("bob", Some(4), None), stand("cat", None, None)),
        ],
        heard: BTreeMap::from([(Ear { user: "ann".into(), device: "ear".into() }, heard)]),
        places: BTreeMap::from([
            (("ann".into(), "t".into()), place(None, 0)),
            (("bob".into(), "t".into()), place(Some("m2"), 1)),
            (("cat".into(), "t".into()), place(None, 3)),
        ]),
    };
    let told = BTreeMap::from([("t".to_owned(), (1..=3).map(|node| (node, history.clone())).collect())]);
    Record { sends, told, receipts, ..Record::default() }
}

/// Doctors a sound record and asserts that the check finds it.
#[track_caller]
fn caught(doctor: impl FnOnce(&mut Receipts)) {
    let check: Check = receipts::check;
    let mut record = sound();
    doctor(&mut record.receipts);
    assert!(!check(&record).is_empty());
    assert!(!oracle::judge(&record).is_empty());
}

fn bob(record: &mut Receipts, look: usize) -> &mut Stand {
    &mut record.looks[look].stands[0]
}

fn bobs_place(record: &mut Receipts, node: u16) -> &mut Place {
    let nodes = record.places.get_mut(&("bob".to_owned(), "t".to_owned())).expect("bob has a place");
    nodes.get_mut(&node).expect("on every node")
}

#[test]
fn a_sound_record_passes() {
    assert_eq!(oracle::judge(&sound()), []);
}

#[test]
fn a_state_that_does_not_fit_its_times_is_caught() {
    caught(|record| bob(record, 2).delivered_at = None);
    caught(|record| bob(record, 2).read_at = Some("at 0000".into()));
    caught(|record| bob(record, 2).state = "DELIVERED".into());
    caught(|record| bob(record, 0).state = "FAILED".into());
    caught(|record| bob(record, 4).delivered_at = None);
}

#[test]
fn a_receipt_that_went_back_or_changed_its_time_is_caught() {
    caught(|record| record.looks[2].stands[0] = stand("bob", Some(1), None));
    caught(|record| record.looks.push(look("m1", 90, stand("bob", Some(1), Some(2)), stand("cat", None, None))));
    caught(|record| bob(record, 2).delivered_at = Some("at 0002".into()));
    caught(|record| bob(record, 2).read_at = Some("at 0003".into()));
    caught(|record| {
        let ear = record.heard.values_mut().next().expect("a device listens");
        ear.swap(1, 2);
    });
}

#[test]
fn a_look_that_overlaps_a_later_one_may_show_less() {
    let mut record = sound();
    let early = Look { ended: Tick(31), ..look("m1", 24, stand("bob", None, None), stand("cat", None, None)) };
    record.receipts.looks.push(early);
    assert!(receipts::check(&record).is_empty());
}

#[test]
fn a_mark_that_was_acknowledged_and_lost_is_caught() {
    caught(|record| record.looks[2].stands[0] = stand("bob", None, None));
    caught(|record| (1..=3).for_each(|node| *bobs_place(record, node) = Place { last_read: None, unread: 3 }));
    caught(|record| record.markings[1].fate = Fate::Refused("unavailable".into()));
    caught(|record| drop(record.places.remove(&("bob".to_owned(), "t".to_owned()))));
    caught(|record| *bobs_place(record, 2) = Place { last_read: Some("m1".into()), unread: 2 });
}

#[test]
fn what_nobody_read_is_caught() {
    caught(|record| record.looks[4].stands[0] = stand("bob", Some(4), Some(4)));
    caught(|record| record.looks[4].stands[1] = stand("cat", Some(4), Some(4)));
    caught(|record| record.looks[0].stands[0] = stand("bob", Some(1), Some(2)));
    caught(|record| {
        (1..=3).for_each(|node| *bobs_place(record, node) = Place { last_read: Some("m3".into()), unread: 0 });
    });
}

#[test]
fn unread_messages_that_are_miscounted_are_caught() {
    caught(|record| (1..=3).for_each(|node| bobs_place(record, node).unread = 2));
    caught(|record| drop(record.places.insert(("ann".into(), "t".into()), place(None, 3))));
}
