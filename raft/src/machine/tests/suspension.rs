//! Tests of an operator's switch for users and devices.

use super::properties::{family, run_packs};
use super::*;
use crate::machine::rows::suspension::SuspensionKey;
use messenger_proto::keys::DeviceStatusQuery;
use messenger_proto::limits::SUSPENDED_DEVICES_MAX;
use messenger_proto::moderation::{Suspend, SuspensionEvent, SuspensionQuery, SuspensionState};
use proptest::prelude::*;
use std::collections::BTreeSet;

fn switch(name: &str, on: Option<&str>, suspended: bool) -> Op {
    Op::Suspend(Suspend { user: user(name), device: on.map(device), suspended })
}

fn state(shard: &Shard, name: &str) -> SuspensionState {
    match shard.ask(&Query::Suspension(SuspensionQuery { user: user(name) })).unwrap() {
        Answer::Suspension(state) => state,
        other => panic!("{other:?}"),
    }
}

fn suspended(shard: &Shard, name: &str, on: &str) -> bool {
    let query = DeviceStatusQuery { user: user(name), device: device(on) };
    match shard.ask(&Query::DeviceStatus(query)).unwrap() {
        Answer::DeviceStatus(status) => status.suspended,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_user_is_suspended_with_all_devices_until_that_is_lifted() {
    let mut shard = Shard::new();
    shard.run(switch("ann", None, true)).unwrap();
    let first = state(&shard, "ann");
    assert_eq!(first.since, Some(Millis(shard.now)));
    shard.now += 5;
    shard.run(switch("ann", None, true)).unwrap();
    assert_eq!(state(&shard, "ann"), first, "since when it was first");
    assert!(suspended(&shard, "ann", "phone") && !suspended(&shard, "bob", "phone"));
    let told = Event::Suspension(SuspensionEvent { user: user("ann"), device: None });
    assert_eq!(shard.events, [told.clone(), told], "who missed the first hears the second");
    shard.run(switch("ann", None, false)).unwrap();
    assert!(!suspended(&shard, "ann", "phone"));
    assert!(family::<SuspensionKey>(&shard.tables).is_empty());
    assert_eq!(shard.events.len(), 2, "nobody who is connected need hear of that");
}

#[test]
fn a_device_is_suspended_by_itself_and_stays_so_when_its_user_comes_back() {
    let mut shard = Shard::new();
    for on in ["phone", "desk", "phone"] {
        shard.run(switch("ann", Some(on), true)).unwrap();
    }
    shard.run(switch("ann", None, true)).unwrap();
    shard.run(switch("ann", None, false)).unwrap();
    let devices: Vec<_> = state(&shard, "ann").devices.into_iter().map(|it| it.device).collect();
    assert_eq!(devices, [device("desk"), device("phone")]);
    assert!(suspended(&shard, "ann", "phone") && !suspended(&shard, "ann", "tablet"));
    shard.run(switch("ann", Some("phone"), false)).unwrap();
    shard.run(switch("ann", Some("desk"), false)).unwrap();
    assert!(family::<SuspensionKey>(&shard.tables).is_empty());
}

#[test]
fn as_many_devices_are_suspended_as_fit_in_a_row() {
    let mut shard = Shard::new();
    for n in 0..SUSPENDED_DEVICES_MAX {
        shard.run(switch("ann", Some(&format!("d{n}")), true)).unwrap();
    }
    assert_eq!(shard.refused(switch("ann", Some("more"), true)), ErrorCode::Conflict);
    shard.run(switch("ann", Some("d7"), true)).unwrap();
}

proptest! {
    #[test]
    fn the_last_throw_counts(throws in prop::collection::vec((0_usize..2, 0_usize..3, any::<bool>()), 0..30)) {
        let (names, devices) = (["ann", "bob"], [None, Some("phone"), Some("desk")]);
        let (mut shard, mut expected) = (Shard::new(), BTreeSet::new());
        for (name, on, is_on) in throws {
            shard.now += 1;
            shard.run(switch(names[name], devices[on], is_on)).unwrap();
            if is_on { expected.insert((name, on)) } else { expected.remove(&(name, on)) };
        }
        for (n, name) in names.iter().enumerate() {
            for (d, on) in ["", "phone", "desk"].iter().enumerate().skip(1) {
                let expected = expected.contains(&(n, 0)) || expected.contains(&(n, d));
                prop_assert_eq!(suspended(&shard, name, on), expected);
            }
        }
        let stamp = Millis(shard.now);
        let together = Pack { stamp, commands: shard.log.iter().flat_map(|pack| pack.commands.clone()).collect() };
        let alone: Vec<Pack> = together.commands.iter().map(|it| Pack { stamp, commands: vec![it.clone()] }).collect();
        let rows = |packs: &[Pack]| family::<SuspensionKey>(&run_packs(packs).0);
        prop_assert_eq!(rows(&[together]), rows(&alone), "however they are packed");
    }
}
