//! Applying: rows, digests, hooks and views.
//!
//! Owns: checks through the state machine trait and the readers.
//! Must not know: the inside of the store.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod store_support;

use messenger_raft::entry::Entry;
use messenger_raft::machine::tables::{Direction, Tables};
use messenger_raft::store::{Store, StoreOptions};
use messenger_raft::types::GroupId;
use openraft::storage::{RaftLogStorage, RaftStateMachine};
use proptest::prelude::*;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use store_support::{Rig, at, blank, membership, open, options, pack, scratch};

const GROUP: GroupId = GroupId(1);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_applied_survives_a_restart() {
    let directory = scratch();
    let mut rig = Rig::new(&open(directory.path()), GROUP);
    let entries = [membership(1, 0, &[1, 2]), pack(1, 1, "a=1;b=2"), blank(2, 2), pack(2, 3, "a;c=3")];
    rig.append(entries.clone()).await;
    rig.apply(entries).await;
    let state = rig.machine.applied_state().await.unwrap();
    let rows = rig.rows();
    let digest = rig.store.reader(GROUP).unwrap().view().digest().unwrap();
    assert_eq!(*rig.heard.applied.lock().unwrap(), [1, 3]);
    drop(rig);
    let mut rig = Rig::new(&open(directory.path()), GROUP);
    assert_eq!(rig.machine.applied_state().await.unwrap(), state);
    assert_eq!(rig.rows(), rows);
    assert_eq!(rig.store.reader(GROUP).unwrap().view().digest().unwrap(), digest);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_group_whose_log_and_rows_do_not_meet_is_refused() {
    let refused = |store: &Store| {
        store.state_machine(GROUP, Arc::new(store_support::Toy), Arc::new(store_support::Heard::default())).is_err()
    };
    let directory = scratch();
    let mut rig = Rig::new(&open(directory.path()), GROUP);
    rig.append((0..8).map(|index| pack(1, index, "a=1"))).await;
    rig.apply((0..4).map(|index| pack(1, index, "a=1"))).await;
    assert!(!refused(&rig.store));
    // As if the rows of 4 and 5 had been lost: they are nowhere then.
    rig.log.purge(at(1, 5)).await.unwrap();
    rig.vote(1).await;
    drop(rig);
    assert!(refused(&open(directory.path())));

    let directory = scratch();
    let mut rig = Rig::new(&open(directory.path()), GROUP);
    // As if the log had lost its end.
    rig.append([pack(1, 0, "a=1")]).await;
    rig.apply((0..2).map(|index| pack(1, index, "a=1"))).await;
    drop(rig);
    assert!(refused(&open(directory.path())));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn batches_are_bounded_and_told_in_order() {
    let directory = scratch();
    let bounds = StoreOptions { apply_entries: 4, ..options() };
    let mut rig = Rig::new(&Store::open(directory.path(), bounds).unwrap(), GROUP);
    let entries: Vec<Entry> = (0..10).map(|index| pack(1, index, &format!("k{index}=v"))).collect();
    rig.append(entries.clone()).await;
    rig.apply(entries).await;
    assert_eq!(rig.heard.calls.load(Ordering::SeqCst), 3, "4 + 4 + 2");
    assert_eq!(*rig.heard.applied.lock().unwrap(), (0..10).collect::<Vec<_>>());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_view_is_frozen_and_sees_its_group_only() {
    let directory = scratch();
    let store = open(directory.path());
    let mut rig = Rig::new(&store, GROUP);
    let mut neighbours = [Rig::new(&store, GroupId(0)), Rig::new(&store, GroupId(2))];
    for neighbour in &mut neighbours {
        neighbour.apply([pack(1, 0, "a=other;zz=other")]).await;
    }
    rig.apply([pack(1, 0, "a=1;b=2;c=3")]).await;
    let reader = store.reader(GROUP).unwrap();
    let view = reader.view();
    rig.apply([pack(1, 1, "a;b=new;d=4")]).await;
    assert_eq!(view.applied().unwrap(), Some(at(1, 0)));
    assert_eq!(view.get(b"a").unwrap().as_deref(), Some(&b"1"[..]));
    assert_eq!(view.get(b"d").unwrap(), None);
    let scan = |from: &[u8], to: &[u8], direction, limit: usize| {
        let mut keys = Vec::new();
        let mut visit = |key: &[u8], _: &[u8]| {
            keys.push(String::from_utf8(key.to_vec()).unwrap());
            if keys.len() < limit { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
        };
        view.scan(from, to, direction, &mut visit).unwrap();
        keys
    };
    assert_eq!(scan(b"", b"z", Direction::Forward, 9), ["a", "b", "c"]);
    assert_eq!(scan(b"", b"z", Direction::Backward, 2), ["c", "b"]);
    assert_eq!(scan(b"a", b"c", Direction::Backward, 9), ["b", "a"], "the end is exclusive");
    assert!(scan(b"c", b"a", Direction::Forward, 9).is_empty());
    assert_eq!(reader.view().get(b"a").unwrap(), None);
}

fn commands() -> impl Strategy<Value = Vec<String>> {
    let command = ("[a-d]{1,2}", proptest::option::of("[x-z]{0,3}"));
    let command = command.prop_map(|(key, value)| value.map_or(key.clone(), |value| format!("{key}={value}")));
    proptest::collection::vec(proptest::collection::vec(command, 1..4).prop_map(|commands| commands.join(";")), 1..12)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn grouping_changes_nothing(packs in commands(), groups in proptest::collection::vec(1usize..5, 12), other in any::<u8>()) {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).build().unwrap();
        runtime.block_on(async {
            let directory = scratch();
            let store = open(directory.path());
            let entries: Vec<Entry> = (0..).zip(&packs).map(|(index, text)| pack(1, index, text)).collect();
            let (mut alone, mut together, mut differs) =
                (Rig::new(&store, GROUP), Rig::new(&store, GroupId(2)), Rig::new(&store, GroupId(3)));
            for entry in entries.clone() {
                alone.apply([entry]).await;
            }
            let mut rest = &entries[..];
            for group in groups {
                let (now, later) = rest.split_at(group.min(rest.len()));
                together.apply(now.to_vec()).await;
                rest = later;
            }
            together.apply(rest.to_vec()).await;
            let mut changed = entries.clone();
            let at = usize::from(other) % changed.len();
            changed[at] = pack(1, at as u64, &format!("{};q={other}", packs[at]));
            differs.apply(changed).await;
            let of = |group| {
                let reader = store.reader(group).unwrap();
                let view = reader.view();
                (view.digest().unwrap(), view.full_hash().unwrap())
            };
            assert_eq!(alone.rows(), together.rows());
            assert_eq!(of(GROUP), of(GroupId(2)));
            assert_ne!(of(GROUP).0, of(GroupId(3)).0, "another write, another digest");
            assert_ne!(of(GROUP).1, of(GroupId(3)).1, "another row, another hash");
        });
    }
}
