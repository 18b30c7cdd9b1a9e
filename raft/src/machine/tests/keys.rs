//! Tests of devices and their keys.

use super::properties::{family, run_packs};
use super::*;
use crate::machine::profile_of;
use crate::machine::rows::bundles::BundlesKey;
use crate::machine::rows::device::DeviceKey;
use crate::machine::rows::device_past::DevicePastKey;
use crate::machine::rows::devices::DevicesKey;
use crate::machine::rows::prekey::PrekeyKey;
use messenger_proto::ids::{KeyId, RegistrationId};
use messenger_proto::keys::{
    Bundles, DeleteDevice, DeviceEvent, DeviceStatus, DeviceStatusQuery, DevicesQuery, KeyCounts, KeyCountsQuery,
    KeyKind, OfferedKey, Prekey, PrekeysLow, PublishKeys, PublishedKeys, TakePrekeys,
};
use messenger_proto::limits::{
    DELETED_DEVICES_MAX, PREKEYS_LOW, PREKEYS_PER_PUT, PREKEYS_STORED_MAX, USER_DEVICES_MAX,
};
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};

/// A key whose bytes say whose it is.
fn prekey(device: &str, registration: u64, kind: &str, id: u64) -> Prekey {
    let public_key = Bytes::from(format!("{device} {registration} {kind} {id}"));
    let signature = (kind == "pq").then(|| Bytes::from_static(b"signature"));
    Prekey { id: KeyId(id), public_key, signature }
}

fn publication(device: &str, registration: u64, ids: impl IntoIterator<Item = u64>) -> PublishedKeys {
    PublishedKeys {
        registration: RegistrationId(registration),
        identity_key: Bytes::from(format!("identity {device} {registration}")),
        signed_prekey: prekey(device, registration, "signed", 1),
        one_time: ids.into_iter().map(|id| prekey(device, registration, "one", id)).collect(),
        pq_one_time: Vec::new(),
        last_resort: None,
        pq_last_resort: None,
    }
}

/// Publishes with a token that outlives every deletion.
fn put(device: &str, keys: PublishedKeys) -> Op {
    put_with(device, u64::MAX, keys)
}

fn put_with(device: &str, issued_at: u64, keys: PublishedKeys) -> Op {
    let (user, device) = (user("bob"), super::device(device));
    Op::PublishKeys(PublishKeys { user, device, issued_at: Millis(issued_at), keys: Box::new(keys) })
}

fn publish(device: &str, registration: u64, ids: impl IntoIterator<Item = u64>) -> Op {
    put(device, publication(device, registration, ids))
}

fn take() -> Op {
    take_as("ann", "phone", None)
}

fn take_as(taker: &str, taker_device: &str, device: Option<&str>) -> Op {
    let device = device.map(super::device);
    let taker_device = super::device(taker_device);
    Op::TakePrekeys(TakePrekeys { user: user("bob"), device, taker: user(taker), taker_device })
}

fn delete_device(device: &str) -> Op {
    Op::DeleteDevice(DeleteDevice { user: user("bob"), device: super::device(device) })
}

fn counts_of(result: CommandResult) -> KeyCounts {
    match result.unwrap().body {
        ReplyBody::KeyCounts(counts) => counts,
        other => panic!("{other:?}"),
    }
}

fn bundles(result: CommandResult) -> Bundles {
    match result.unwrap().body {
        ReplyBody::Bundles(bundles) => bundles,
        other => panic!("{other:?}"),
    }
}

fn taken(result: CommandResult) -> Vec<(String, Option<u64>)> {
    let id = |offered: Option<OfferedKey>| offered.map(|offered| offered.key.id.0);
    bundles(result).devices.into_iter().map(|bundle| (bundle.device.to_string(), id(bundle.one_time))).collect()
}

fn one(device: &str, id: u64) -> (String, Option<u64>) {
    (device.to_owned(), Some(id))
}

fn in_store(shard: &Shard, device: &str) -> Result<KeyCounts, ErrorCode> {
    let query = KeyCountsQuery { user: user("bob"), device: super::device(device) };
    match shard.ask(&Query::KeyCounts(query)) {
        Ok(Answer::KeyCounts(counts)) => Ok(counts),
        Err(refusal) => Err(refusal.code),
        other => panic!("{other:?}"),
    }
}

fn status(shard: &Shard, device: &str) -> DeviceStatus {
    let query = DeviceStatusQuery { user: user("bob"), device: super::device(device) };
    match shard.ask(&Query::DeviceStatus(query)) {
        Ok(Answer::DeviceStatus(status)) => status,
        other => panic!("{other:?}"),
    }
}

fn listed(shard: &Shard) -> Vec<(String, u64)> {
    match shard.ask(&Query::Devices(DevicesQuery { user: user("bob") })) {
        Ok(Answer::Devices(answer)) => {
            answer.devices.into_iter().map(|info| (info.device.to_string(), info.registration.0)).collect()
        }
        other => panic!("{other:?}"),
    }
}

fn device_events(shard: &Shard) -> Vec<(String, bool)> {
    let told = |event: &Event| match event {
        Event::Device(DeviceEvent { device, deleted, .. }) => Some((device.to_string(), *deleted)),
        _ => None,
    };
    shard.events.iter().filter_map(told).collect()
}

#[test]
fn each_device_gives_one_key_of_each_kind_once() {
    let mut shard = Shard::new();
    let mut phone = publication("phone", 1, [7, 5]);
    phone.pq_one_time = vec![prekey("phone", 1, "pq", 3)];
    shard.run(put("phone", phone.clone())).unwrap();
    shard.run(publish("tablet", 9, [1, 2, 3])).unwrap();
    let first = bundles(shard.run(take()));
    assert!(first.exhausted.is_empty());
    let bundle = &first.devices[0];
    assert_eq!((&bundle.identity_key, &bundle.signed_prekey), (&phone.identity_key, &phone.signed_prekey));
    assert_eq!(bundle.registration, RegistrationId(1));
    let offered = |key: Prekey| Some(OfferedKey { key, last_resort: false });
    assert_eq!(bundle.one_time, offered(prekey("phone", 1, "one", 5)), "the lowest first");
    assert_eq!(bundle.pq, offered(prekey("phone", 1, "pq", 3)));
    assert_eq!(first.devices[1].one_time, offered(prekey("tablet", 9, "one", 1)));
    let second = bundles(shard.run(take_as("ann", "phone", Some("phone"))));
    assert_eq!(second.devices.len(), 1);
    assert_eq!((&second.devices[0].one_time, &second.devices[0].pq), (&offered(prekey("phone", 1, "one", 7)), &None));
    assert_eq!(in_store(&shard, "tablet").unwrap().one_time, 2, "its keys were not asked for");
    let third = bundles(shard.run(take()));
    assert_eq!((third.devices.len(), third.exhausted), (1, vec![device("phone")]));
    assert_eq!(listed(&shard), [("phone".into(), 1), ("tablet".into(), 9)]);
}

#[test]
fn nobody_takes_the_keys_of_the_device_it_asks_from() {
    let mut shard = Shard::new();
    shard.run(publish("phone", 1, [1])).unwrap();
    shard.run(publish("tablet", 1, [1])).unwrap();
    assert_eq!(taken(shard.run(take_as("bob", "phone", None))), [one("tablet", 1)]);
    assert_eq!(in_store(&shard, "phone").unwrap().one_time, 1);
    assert_eq!(taken(shard.run(take_as("ann", "phone", Some("phone")))), [one("phone", 1)], "another's of that name");
    let own = bundles(shard.run(take_as("bob", "phone", Some("phone"))));
    assert_eq!((own.devices.len(), own.exhausted.len()), (0, 0));
}

#[test]
fn who_has_nothing_published_is_not_found() {
    let mut shard = Shard::new();
    assert_eq!(shard.refused(take()), ErrorCode::NotFound);
    shard.run(publish("phone", 1, [1])).unwrap();
    assert_eq!(shard.refused(take_as("ann", "phone", Some("tablet"))), ErrorCode::NotFound);
    assert_eq!(in_store(&shard, "tablet"), Err(ErrorCode::NotFound));
}

#[test]
fn a_last_resort_stands_in_as_often_as_needed_and_stays_until_replaced() {
    let mut shard = Shard::new();
    let last = |id| Some(prekey("phone", 1, "last", id));
    shard.run(put("phone", PublishedKeys { last_resort: last(50), ..publication("phone", 1, [1]) })).unwrap();
    assert_eq!(taken(shard.run(take())), [one("phone", 1)]);
    shard.run(publish("phone", 1, [])).unwrap();
    for _ in 0..2 {
        let stood_in = Some(OfferedKey { key: last(50).unwrap(), last_resort: true });
        assert_eq!(bundles(shard.run(take())).devices[0].one_time, stood_in, "left out, it stays");
    }
    shard.run(put("phone", PublishedKeys { last_resort: last(51), ..publication("phone", 1, [2]) })).unwrap();
    assert_eq!(taken(shard.run(take())), [one("phone", 2)]);
    assert_eq!(taken(shard.run(take())), [one("phone", 51)]);
    let pq = prekey("phone", 2, "pq", 1);
    shard.run(put("phone", PublishedKeys { pq_last_resort: Some(pq.clone()), ..publication("phone", 2, []) })).unwrap();
    let bundle = bundles(shard.run(take())).devices.remove(0);
    assert_eq!(bundle.one_time, None, "another registration's");
    assert_eq!(bundle.pq, Some(OfferedKey { key: pq, last_resort: true }));
}

#[test]
fn when_all_are_exhausted_nothing_happens() {
    let mut shard = Shard::new();
    shard.run(publish("phone", 1, [])).unwrap();
    let (tables, events) = (shard.tables.clone(), shard.events.len());
    let command = Command { id: CommandId([1; 16]), retention: Retention::Keyed, body_hash: 0, op: take() };
    assert_eq!(shard.command(command.clone()).unwrap_err().code, ErrorCode::PrekeysExhausted);
    assert_eq!((shard.tables.clone(), shard.events.len()), (tables, events));
    shard.run(publish("phone", 1, [4])).unwrap();
    assert_eq!(taken(shard.command(command)), [one("phone", 4)], "it was not remembered");
}

#[test]
fn keys_merge_and_those_handed_out_never_come_back() {
    let mut shard = Shard::new();
    shard.run(publish("phone", 1, [1, 2])).unwrap();
    assert_eq!(taken(shard.run(take())), [one("phone", 1)]);
    let counts = counts_of(shard.run(publish("phone", 1, [1, 2, 3])));
    assert_eq!(counts.one_time, 2);
    assert_eq!(profile_of(&shard.tables, &user("bob")).unwrap().version, 1, "the list did not change");
    let mut other = publication("phone", 1, [4, 3]);
    other.one_time[1].public_key = Bytes::from_static(b"another");
    other.identity_key = Bytes::from_static(b"another");
    let before = shard.tables.clone();
    assert_eq!(shard.refused(put("phone", other)), ErrorCode::KeyConflict);
    assert_eq!(shard.tables, before, "refused as a whole");
    assert_eq!(taken(shard.run(take())), [one("phone", 2)]);
    assert_eq!(taken(shard.run(take())), [one("phone", 3)]);
    assert_eq!(shard.refused(take()), ErrorCode::PrekeysExhausted);
    shard.run(publish("phone", 1, [3, 0])).unwrap();
    assert_eq!(taken(shard.run(take())), [one("phone", 0)]);
    assert_eq!(shard.refused(take()), ErrorCode::PrekeysExhausted);
}

#[test]
fn a_device_that_begins_anew_has_new_keys_and_no_way_back() {
    let mut shard = Shard::new();
    let mut old = publication("phone", 1, [1, 2]);
    old.pq_one_time = vec![prekey("phone", 1, "pq", 1)];
    old.last_resort = Some(prekey("phone", 1, "last", 9));
    shard.run(put("phone", old.clone())).unwrap();
    assert_eq!(taken(shard.run(take())), [one("phone", 1)]);
    let counts = counts_of(shard.run(publish("phone", 2, [1])));
    assert_eq!((counts.one_time, counts.pq_one_time), (1, 0));
    assert_eq!(profile_of(&shard.tables, &user("bob")).unwrap().devices_version, 2);
    assert_eq!(bundles(shard.run(take())).devices[0].one_time.as_ref().unwrap().key, prekey("phone", 2, "one", 1));
    assert_eq!(shard.refused(take()), ErrorCode::PrekeysExhausted);
    assert_eq!(shard.refused(put("phone", old)), ErrorCode::StaleRegistration);
    assert!(family::<PrekeyKey>(&shard.tables).is_empty());
    assert_eq!(device_events(&shard), [("phone".into(), false), ("phone".into(), false)]);
}

#[test]
fn a_deleted_device_is_gone_and_may_come_back_with_a_newer_token() {
    let mut shard = Shard::new();
    shard.run(publish("phone", 1, [1, 2])).unwrap();
    shard.now += 5;
    shard.run(delete_device("phone")).unwrap();
    assert!(family::<PrekeyKey>(&shard.tables).is_empty() && listed(&shard).is_empty());
    assert_eq!(status(&shard, "phone").revoked_at, Some(Millis(shard.now)));
    assert_eq!(shard.refused(take()), ErrorCode::NotFound);
    let again = |issued_at, registration| put_with("phone", issued_at, publication("phone", registration, [1]));
    assert_eq!(shard.refused(again(shard.now, 2)), ErrorCode::DeviceRevoked);
    assert_eq!(shard.refused(again(shard.now + 1, 1)), ErrorCode::StaleRegistration);
    shard.run(again(shard.now + 1, 2)).unwrap();
    assert_eq!(status(&shard, "phone").revoked_at, Some(Millis(shard.now)), "its old tokens stay what they are");
    let expected = [("phone".into(), false), ("phone".into(), true), ("phone".into(), false)];
    assert_eq!(device_events(&shard), expected);
    shard.run(delete_device("unheard-of")).unwrap();
    assert_eq!(status(&shard, "unheard-of").revoked_at, Some(Millis(shard.now)), "it may have a token all the same");
}

#[test]
fn a_device_that_runs_low_is_told_once() {
    let mut shard = Shard::new();
    let low = |shard: &Shard| -> Vec<u32> {
        let told = |event: &Event| match event {
            Event::PrekeysLow(PrekeysLow { remaining, .. }) => Some(*remaining),
            _ => None,
        };
        shard.events.iter().filter_map(told).collect()
    };
    shard.run(publish("phone", 1, 0..=u64::from(PREKEYS_LOW))).unwrap();
    assert_eq!((shard.run(take()).is_ok(), status(&shard, "phone").low), (true, None));
    assert!(low(&shard).is_empty());
    shard.run(take()).unwrap();
    shard.run(take()).unwrap();
    assert_eq!((low(&shard), status(&shard, "phone").low), (vec![PREKEYS_LOW - 1], Some(PREKEYS_LOW - 2)));
    let mut more = publication("phone", 1, 50..80);
    more.pq_one_time = (0..u64::from(PREKEYS_LOW)).map(|id| prekey("phone", 1, "pq", id)).collect();
    shard.run(put("phone", more)).unwrap();
    assert_eq!(status(&shard, "phone").low, None);
    shard.run(take()).unwrap();
    assert_eq!(low(&shard), [PREKEYS_LOW - 1, PREKEYS_LOW - 1], "of whichever kind");
}

#[test]
fn a_repeat_is_given_the_same_again_for_as_long_as_it_is_remembered() {
    let mut shard = Shard::new();
    shard.run(publish("phone", 1, [1, 2, 3])).unwrap();
    let command = Command { id: CommandId([1; 16]), retention: Retention::Keyed, body_hash: 0, op: take() };
    let first = bundles(shard.command(command.clone()));
    shard.run(publish("phone", 2, [1])).unwrap();
    shard.run(delete_device("phone")).unwrap();
    shard.now += 23 * 3_600_000;
    let again = shard.command(command.clone()).unwrap();
    assert!(again.replayed);
    assert_eq!(bundles(Ok(again)), first, "whatever became of the device");
    assert_eq!(family::<BundlesKey>(&shard.tables).len(), 1);
    shard.now += 2 * 3_600_000;
    for _ in 0..3 {
        shard.run(delete_device("phone")).unwrap();
    }
    assert!(family::<BundlesKey>(&shard.tables).is_empty(), "it goes with the memory of the command");
    let other = Command { body_hash: 1, ..command };
    assert_eq!(shard.command(other).unwrap_err().code, ErrorCode::NotFound);
}

#[test]
fn everything_is_bounded() {
    let mut shard = Shard::new();
    let all = PREKEYS_STORED_MAX as u64;
    for from in (0..all).step_by(PREKEYS_PER_PUT) {
        shard.run(publish("d0", 1, from..from + PREKEYS_PER_PUT as u64)).unwrap();
    }
    assert_eq!(shard.refused(publish("d0", 1, [all])), ErrorCode::TooManyPrekeys);
    assert_eq!(shard.refused(publish("d0", 1, 0..=PREKEYS_PER_PUT as u64)), ErrorCode::InvalidRequest);
    for number in 1..USER_DEVICES_MAX {
        shard.run(publish(&format!("d{number}"), 1, [])).unwrap();
    }
    assert_eq!(shard.refused(publish("one-more", 1, [])), ErrorCode::TooManyDevices);
    shard.run(delete_device("d0")).unwrap();
    shard.run(publish("one-more", 1, [])).unwrap();
    for number in 0..DELETED_DEVICES_MAX {
        shard.now += 1;
        shard.run(delete_device(&format!("gone-{number}"))).unwrap();
    }
    assert_eq!(status(&shard, "d0").revoked_at, None, "the first is forgotten");
    assert!(status(&shard, "gone-0").revoked_at.is_some());
    check_counts(&shard.tables);
}

fn check_counts(tables: &MemoryTables) {
    let (devices, keys) = (family::<DeviceKey>(tables), family::<PrekeyKey>(tables));
    for (key, row) in &devices {
        for (kind, pool) in [(KeyKind::OneTime, &row.one_time), (KeyKind::PqOneTime, &row.pq_one_time)] {
            let own = keys.iter().filter(|(place, _)| (&place.device, place.kind) == (&key.device, kind));
            assert_eq!(own.count(), pool.stored as usize, "{key:?}");
        }
    }
    let present: BTreeSet<_> = devices.iter().map(|(key, _)| key.clone()).collect();
    let gone = family::<DevicePastKey>(tables);
    let gone = gone
        .iter()
        .filter(|(key, _)| !present.contains(&DeviceKey { user: key.user.clone(), device: key.device.clone() }));
    let counted = family::<DevicesKey>(tables).pop().map_or((0, 0), |(_, row)| (row.devices, row.deleted));
    assert_eq!(counted, (devices.len() as u32, gone.count() as u32));
}

/// Something that someone does with Bob's devices.
#[derive(Debug, Clone)]
enum Action {
    Publish {
        device: usize,
        registration: u64,
        ids: Vec<u64>,
        pq: Vec<u64>,
        last_resort: bool,
    },
    Take {
        device: Option<usize>,
        own: Option<usize>,
    },
    Delete {
        device: usize,
    },
    /// An earlier command once more.
    Again(prop::sample::Index),
}

const DEVICES: [&str; 3] = ["phone", "tablet", "web"];

fn action() -> impl Strategy<Value = Action> {
    let which = || 0..DEVICES.len();
    let ids = || proptest::collection::vec(0u64..12, 0..6);
    prop_oneof![
        4 => (which(), 0u64..3, ids(), ids(), any::<bool>()).prop_map(|(device, registration, ids, pq, last_resort)| {
            Action::Publish { device, registration, ids, pq, last_resort }
        }),
        8 => (proptest::option::weighted(0.3, which()), proptest::option::weighted(0.2, which()))
            .prop_map(|(device, own)| Action::Take { device, own }),
        1 => which().prop_map(|device| Action::Delete { device }),
        3 => any::<prop::sample::Index>().prop_map(Action::Again),
    ]
}

fn commands(actions: &[Action]) -> Vec<Command> {
    let mut commands: Vec<Command> = Vec::new();
    for (number, action) in actions.iter().enumerate() {
        let op = match action {
            Action::Publish { device, registration, ids, pq, last_resort } => {
                let name = DEVICES[*device];
                let mut op = publication(name, *registration, ids.iter().copied());
                op.pq_one_time = pq.iter().map(|id| prekey(name, *registration, "pq", *id)).collect();
                op.last_resort = last_resort.then(|| prekey(name, *registration, "last", 0));
                put(name, op)
            }
            Action::Take { device, own } => {
                let taker = own.map_or(("ann", "phone"), |own| ("bob", DEVICES[own]));
                take_as(taker.0, taker.1, device.map(|device| DEVICES[device]))
            }
            Action::Delete { device } => delete_device(DEVICES[*device]),
            Action::Again(which) if commands.is_empty() => {
                let _ = which;
                continue;
            }
            Action::Again(which) => {
                commands.push(commands[which.index(commands.len())].clone());
                continue;
            }
        };
        let id = CommandId((number as u128 + 1).to_be_bytes());
        let retention = if number % 2 == 0 { Retention::Keyed } else { Retention::Minted };
        commands.push(Command { id, retention, body_hash: 0, op });
    }
    commands
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn each_key_is_handed_out_once_and_a_repeat_is_given_the_same(
        actions in proptest::collection::vec(action(), 1..80),
        pauses in proptest::collection::vec(0u64..100_000, 80),
    ) {
        let mut shard = Shard::new();
        let (mut handed, mut first): (BTreeSet<Bytes>, BTreeMap<CommandId, Bundles>) = Default::default();
        for (command, pause) in commands(&actions).into_iter().zip(pauses) {
            shard.now += pause;
            let Ok(Reply { replayed, body: ReplyBody::Bundles(bundles), .. }) = shard.command(command.clone()) else {
                check_counts(&shard.tables);
                continue;
            };
            let known = first.get(&command.id).filter(|_| replayed);
            prop_assert!(known.is_none_or(|known| *known == bundles));
            prop_assert_eq!(known.is_some(), replayed);
            if !replayed {
                let offered = bundles.devices.iter().flat_map(|bundle| bundle.one_time.iter().chain(&bundle.pq));
                for key in offered.filter(|offered| !offered.last_resort).map(|offered| &offered.key.public_key) {
                    prop_assert!(handed.insert(key.clone()), "{key:?} was handed out before");
                }
                first.insert(command.id, bundles);
            }
            check_counts(&shard.tables);
        }
    }

    #[test]
    fn what_becomes_of_keys_does_not_depend_on_packs(
        actions in proptest::collection::vec(action(), 1..60),
        lengths in proptest::collection::vec(1usize..8, 60),
    ) {
        let mut commands = commands(&actions).into_iter();
        let (mut packed, mut single, mut stamp) = (Vec::new(), Vec::new(), Millis(1_000_000));
        for length in lengths {
            stamp = Millis(stamp.0 + 100_000);
            let commands: Vec<_> = commands.by_ref().take(length).collect();
            single.extend(commands.iter().map(|command| Pack { stamp, commands: vec![command.clone()] }));
            packed.push(Pack { stamp, commands });
        }
        prop_assert_eq!(run_packs(&packed), run_packs(&single));
    }
}
