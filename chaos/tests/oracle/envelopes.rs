//! Envelopes: 1 goes to both devices, 2 is refused once for b's new registration and then matches it, 3 is perhaps there.

use super::{Check, oracle};
use messenger_chaos::history::changes::{Event, What};
use messenger_chaos::history::envelopes::{Envelopes, Letter, Opened, Registration, Sealed};
use messenger_chaos::history::{Fate, Outcome, Record, Tick};
use messenger_chaos::oracle::envelopes;
use std::collections::BTreeMap;

fn sealed(client_seq: u64, attempt: u64, registration: u64, began: u64, outcome: Outcome) -> Sealed {
    let letter = |device: &str, registration| {
        let body = format!("{client_seq} {attempt} {device}");
        (device.to_owned(), Letter { registration, body })
    };
    let letters = BTreeMap::from([letter("a", 1), letter("b", registration)]);
    Sealed { client_seq, letters, began: Tick(began), ended: Tick(began + 5), outcome }
}

fn accepted(id: &str, seq: u64) -> Outcome {
    Outcome::Accepted { id: id.into(), seq }
}

fn told(device: &str) -> Vec<Opened> {
    let opened = |(id, body): (&str, &str)| Opened { id: id.into(), body: Some(format!("{body} {device}")) };
    [("m1", "1 0"), ("m2", "2 2"), ("m3", "3 3")].map(opened).to_vec()
}

fn heard(told: &[Opened]) -> Vec<Event> {
    let message = |(seq, opened): (u64, &Opened)| {
        let Opened { id, body } = opened.clone();
        Event { connection: 1, seq, what: What::Message { id, body, deleted: false } }
    };
    (2..).zip(told).map(message).collect()
}

fn sound() -> Record {
    let registration =
        |id, began, fate| Registration { device: "b".into(), id, began: Tick(began), ended: Tick(began + 5), fate };
    let everywhere = |device: &str| (device.to_owned(), (1..=3).map(|node| (node, told(device))).collect());
    let envelopes = Envelopes {
        sends: vec![
            sealed(1, 0, 1, 10, accepted("m1", 2)),
            sealed(2, 1, 1, 30, Outcome::Refused),
            sealed(2, 2, 2, 40, accepted("m2", 3)),
            sealed(3, 3, 2, 50, Outcome::Unknown),
        ],
        registrations: vec![registration(2, 20, Fate::Acknowledged), registration(3, 60, Fate::Unknown)],
        told: BTreeMap::from([everywhere("a"), everywhere("b")]),
        heard: ["a", "b"].map(|device| (device.to_owned(), heard(&told(device)))).into(),
    };
    Record { envelopes, ..Record::default() }
}

/// Doctors a sound record and asserts that the check finds it.
#[track_caller]
fn caught(doctor: impl FnOnce(&mut Envelopes)) {
    let check: Check = envelopes::check;
    let mut record = sound();
    doctor(&mut record.envelopes);
    assert!(!check(&record).is_empty());
    assert!(!oracle::judge(&record).is_empty());
}

/// Lets a device be told something else, by every node and every frame.
fn tell(record: &mut Envelopes, device: &str, change: impl Fn(&mut Vec<Opened>)) {
    let mut told = told(device);
    change(&mut told);
    record.heard.insert(device.to_owned(), heard(&told));
    record.told.insert(device.to_owned(), (1..=3).map(|node| (node, told.clone())).collect());
}

#[test]
fn a_sound_record_passes() {
    assert_eq!(oracle::judge(&sound()), []);
    let mut record = sound();
    tell(&mut record.envelopes, "a", |told| drop(told.pop()));
    assert_eq!(oracle::judge(&record), [], "what is unknown may as well be absent");
}

#[test]
fn a_letter_that_went_astray_is_caught() {
    caught(|record| tell(record, "a", |told| told[0].body = Some("1 0 b".into())));
    caught(|record| tell(record, "a", |told| told[0].body = None));
    caught(|record| tell(record, "a", |told| told[0].body = Some("something else".into())));
    caught(|record| tell(record, "a", |told| told[0].id = "m9".into()));
    caught(|record| record.heard.get_mut("a").expect("it listens")[0].what = record_of("m1", None));
}

fn record_of(id: &str, body: Option<String>) -> What {
    What::Message { id: id.into(), body, deleted: false }
}

#[test]
fn a_message_that_was_lost_doubled_or_refused_is_caught() {
    caught(|record| tell(record, "a", |told| drop(told.remove(1))));
    caught(|record| tell(record, "a", |told| told.push(told[1].clone())));
    // What was refused is seen: instead of the other, and beside it.
    caught(|record| tell(record, "a", |told| told[2].body = Some("2 1 a".into())));
    caught(|record| {
        record.sends[1].outcome = Outcome::Unknown;
        tell(record, "a", |told| told[2].body = Some("2 1 a".into()));
    });
    caught(|record| drop(record.heard.get_mut("b").expect("it listens").pop()));
    caught(|record| record.heard.get_mut("b").expect("it listens").swap(0, 1));
    caught(|record| drop(record.told.get_mut("b").expect("it is told").insert(2, told("a"))));
    caught(|record| record.told.clear());
}

#[test]
fn a_false_match_or_mismatch_is_caught() {
    // An old registration was taken after the new one had been acknowledged, and one that nobody tried.
    caught(|record| (record.registrations[0].began, record.registrations[0].ended) = (Tick(2), Tick(4)));
    caught(|record| record.sends[2] = sealed(2, 2, 1, 40, accepted("m2", 3)));
    caught(|record| record.sends[2] = sealed(2, 2, 4, 40, accepted("m2", 3)));
    // What matches is refused.
    caught(|record| record.sends[1] = sealed(2, 1, 2, 30, Outcome::Refused));
    // Meanwhile either may be.
    for outcome in [Outcome::Refused, accepted("m1", 2)] {
        let mut record = sound();
        let refused = outcome == Outcome::Refused;
        record.envelopes.sends[0] = sealed(1, 0, 1, 18, outcome);
        for device in ["a", "b"].into_iter().filter(|_| refused) {
            tell(&mut record.envelopes, device, |told| drop(told.remove(0)));
        }
        assert_eq!(oracle::judge(&record), []);
    }
}
