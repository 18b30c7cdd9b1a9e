//! The oracle catches what it is for: a sound record passes, and each doctored one fails by its own invariant.

#[path = "oracle/blocks.rs"]
mod blocks;
#[path = "oracle/changes.rs"]
mod changes;
#[path = "oracle/envelopes.rs"]
mod envelopes;
#[path = "oracle/keys.rs"]
mod keys;
#[path = "oracle/members.rs"]
mod members;
#[path = "oracle/receipts.rs"]
mod receipts;

use messenger_chaos::history::{Ear, Glance, Heard, Origin, Outcome, Record, Replica, Send, Stored, Tick};
use messenger_chaos::oracle::{self, Check, delivery, durable, order, reads, replicas, sequence, unknown};
use std::collections::BTreeMap;

const COUNT: u64 = 6;

fn origin(n: u64) -> Origin {
    Origin { user: "ann".into(), device: "phone".into(), client_seq: n }
}

fn id(n: u64) -> String {
    format!("id-{n:03}")
}

/// Six sends one after the other; all but the fourth (unknown, and stored) are acknowledged, a seventh was refused.
fn sound() -> Record {
    let send = |n: u64| Send {
        thread: "t".into(),
        origin: origin(n),
        body: format!("body {n}"),
        began: Tick(n * 10),
        ended: Tick(n * 10 + 5),
        outcome: match n {
            4 => Outcome::Unknown,
            7 => Outcome::Refused,
            _ => Outcome::Accepted { id: id(n), seq: n + 1 },
        },
    };
    let stored = |n: u64| Stored { id: id(n), seq: n + 1, origin: origin(n), body: format!("body {n}") };
    let history: Vec<Stored> = (1..=COUNT).map(stored).collect();
    let told = BTreeMap::from([("t".to_owned(), (1..=3).map(|node| (node, history.clone())).collect())]);
    let frame = |connection: u32, n: u64| Heard { connection, id: id(n), seq: n + 1 };
    // Cut off after the third; the second connection replays from the second.
    let heard = [(1, 1), (1, 2), (1, 3), (2, 2), (2, 3), (2, 4), (2, 5), (2, 6)].map(|(c, n)| frame(c, n));
    let ear = Ear { user: "bob".into(), device: "phone".into() };
    Record {
        sends: (1..=COUNT + 1).map(send).collect(),
        glances: vec![Glance { thread: "t".into(), began: Tick(36), newest: 4 }],
        heard: BTreeMap::from([((ear, "t".to_owned()), heard.to_vec())]),
        told,
        replicas: vec![replica(0, 1, 9), replica(0, 2, 8), replica(0, 2, 9), replica(1, 1, 9), replica(1, 3, 4)],
        ..Record::default()
    }
}

fn replica(shard: u64, node: u16, applied: u64) -> Replica {
    Replica { shard, node, applied, digest: format!("{shard} {applied}") }
}

/// Doctors a sound record and asserts that `check` finds it, for every way it can be found.
#[track_caller]
fn caught(check: Check, doctor: impl FnOnce(&mut Record)) {
    let mut record = sound();
    doctor(&mut record);
    assert!(!check(&record).is_empty());
    assert!(!oracle::judge(&record).is_empty());
}

fn everywhere(record: &mut Record, change: impl Fn(&mut Vec<Stored>)) {
    for history in record.told.values_mut().flat_map(BTreeMap::values_mut) {
        change(history);
    }
}

fn on_node(record: &mut Record, node: u16) -> &mut Vec<Stored> {
    record.told.get_mut("t").and_then(|nodes| nodes.get_mut(&node)).expect("the record holds it")
}

fn heard(record: &mut Record) -> &mut Vec<Heard> {
    record.heard.values_mut().next().expect("one device listens")
}

#[test]
fn a_sound_record_passes() {
    assert_eq!(oracle::judge(&sound()), []);
}

#[test]
fn an_unknown_send_may_as_well_be_absent() {
    let mut record = sound();
    record.sends.push(Send { origin: origin(8), outcome: Outcome::Unknown, ..record.sends[3].clone() });
    assert_eq!(oracle::judge(&record), []);
}

#[test]
fn a_lost_acknowledged_message_is_caught() {
    caught(durable::check, |record| everywhere(record, |history| drop(history.pop())));
    caught(durable::check, |record| drop(on_node(record, 2).pop()));
    caught(durable::check, |record| record.told.clear());
}

#[test]
fn an_acknowledged_message_stored_twice_or_changed_is_caught() {
    caught(durable::check, |record| everywhere(record, |history| history.push(history[0].clone())));
    caught(durable::check, |record| everywhere(record, |history| history[0].body.push('!')));
    caught(durable::check, |record| everywhere(record, |history| history[0].seq += 1));
    caught(durable::check, |record| everywhere(record, |history| history[0].origin.device.push('!')));
}

#[test]
fn a_gap_or_a_difference_between_nodes_is_caught() {
    caught(sequence::check, |record| everywhere(record, |history| drop(history.remove(3))));
    caught(sequence::check, |record| everywhere(record, |history| history.swap(2, 3)));
    caught(sequence::check, |record| everywhere(record, |history| history[3].id = id(0)));
    caught(sequence::check, |record| drop(on_node(record, 3).pop()));
    caught(sequence::check, |record| on_node(record, 3)[3].body.push('!'));
}

#[test]
fn a_reordering_is_caught() {
    caught(order::check, |record| {
        everywhere(record, |history| {
            // The second and the fifth change places, each with the other's number.
            history.swap(1, 4);
            let (a, b) = (history[1].seq, history[4].seq);
            (history[1].seq, history[4].seq) = (b, a);
        });
    });
    // Those that overlap in time may stand either way.
    let mut record = sound();
    for send in &mut record.sends {
        send.ended = Tick(1_000);
    }
    everywhere(&mut record, |history| history.swap(1, 4));
    assert!(order::check(&record).is_empty());
}

#[test]
fn a_doubled_refused_or_invented_message_is_caught() {
    caught(unknown::check, |record| {
        everywhere(record, |history| {
            let again = Stored { id: id(9), seq: 8, ..history[3].clone() };
            history.push(again);
        });
    });
    let seventh = || Stored { id: id(7), seq: 8, origin: origin(7), body: "body 7".into() };
    caught(unknown::check, |record| everywhere(record, |history| history.push(seventh())));
    let invented = || Stored { origin: origin(99), ..seventh() };
    caught(unknown::check, |record| everywhere(record, |history| history.push(invented())));
    caught(unknown::check, |record| everywhere(record, |history| history[3].body.push('!')));
}

#[test]
fn a_replica_that_drifted_is_caught_and_one_that_lags_is_not() {
    assert_eq!(replicas::compared(&sound()), 1, "the other shard's were never at one entry");
    caught(replicas::check, |record| record.replicas[2].digest.push('!'));
    caught(replicas::check, |record| record.replicas.push(Replica { digest: "!".into(), ..replica(1, 2, 4) }));
}

#[test]
fn a_stale_read_is_caught() {
    caught(reads::check, |record| record.glances[0].newest = 3);
    caught(reads::check, |record| record.glances[0].began = Tick(56));
}

#[test]
fn a_hole_a_jump_back_or_an_unheard_end_is_caught() {
    // A hole on one connection, and one between two.
    caught(delivery::check, |record| drop(heard(record).remove(1)));
    caught(delivery::check, |record| drop(heard(record).drain(2..5)));
    // Backwards on one connection.
    caught(delivery::check, |record| heard(record).swap(5, 6));
    // The end never came.
    caught(delivery::check, |record| drop(heard(record).pop()));
    caught(delivery::check, |record| heard(record).clear());
    // Another message than the one stored there.
    caught(delivery::check, |record| heard(record)[2].id = id(42));
    caught(delivery::check, |record| {
        heard(record).push(Heard { connection: 2, id: id(7), seq: 8 });
    });
}
