//! Tests of what threads know of their members.

use super::properties::family;
use super::*;
use crate::machine::rows::member_blocks::MemberBlocksKey;
use crate::machine::rows::member_devices::MemberDevicesKey;
use crate::machine::{outbox_pending, profile_of, profiles_due};
use messenger_proto::command::{IndexMembership, OutboxBarrier, OutboxDelivered, ProfileBarrier};
use messenger_proto::ids::{KeyId, RegistrationId};
use messenger_proto::keys::{DeleteDevice, MemberDevices, Prekey, PublishKeys, PublishedKeys};
use messenger_proto::profile::{NewMember, Profile, ProfileDevice, ProfileTold, UpdateProfile};
use proptest::prelude::*;

fn publish(name: &str, registration: u64) -> Op {
    let key = Prekey { id: KeyId(1), public_key: Bytes::from_static(b"key"), signature: None };
    let keys = PublishedKeys {
        registration: RegistrationId(registration),
        identity_key: Bytes::from(registration.to_be_bytes().to_vec()),
        signed_prekey: key,
        one_time: Vec::new(),
        pq_one_time: Vec::new(),
        last_resort: None,
        pq_last_resort: None,
    };
    Op::PublishKeys(PublishKeys {
        user: user("bob"),
        device: device(name),
        issued_at: Millis(u64::MAX),
        keys: Box::new(keys),
    })
}

fn member_of(thread: ThreadId, source_seq: u64, present: bool) -> Op {
    Op::IndexMembership(IndexMembership { user: user("bob"), thread, source_seq: Seq(source_seq), present })
}

fn told(version: u64) -> Op {
    Op::ProfileTold(ProfileTold { user: user("bob"), version })
}

fn profile(version: u64, devices_version: u64, names: &[&str], blocks: &[&str]) -> Profile {
    let device = |name: &&str| ProfileDevice { device: device(name), registration: RegistrationId(1) };
    Profile { version, devices_version, devices: names.iter().map(device).collect(), blocks: users(blocks) }
}

fn update(name: &str, profile: &Profile) -> Op {
    Op::UpdateProfile(UpdateProfile { user: user(name), profile: profile.clone(), threads: vec![GROUP, PAIR] })
}

/// The names of the devices that the group knows of bob.
fn known(shard: &Shard) -> Option<Vec<String>> {
    let rows = family::<MemberDevicesKey>(&shard.tables);
    let row = rows.into_iter().find(|(key, _)| *key == MemberDevicesKey { thread: GROUP, user: user("bob") })?.1;
    Some(row.devices.into_iter().map(|known| known.device.to_string()).collect())
}

fn barrier(result: CommandResult) -> Option<OutboxBarrier> {
    result.unwrap().barrier
}

fn pending(shard: &Shard, version: u64) -> bool {
    let barrier = OutboxBarrier::Profile(ProfileBarrier { user: user("bob"), version });
    outbox_pending(&shard.tables, &barrier).unwrap()
}

#[test]
fn a_change_waits_until_the_users_threads_were_told() {
    let mut shard = Shard::new();
    assert_eq!(barrier(shard.run(publish("phone", 1))), None, "there is no thread to tell");
    assert_eq!(profiles_due(&shard.tables, None, 9).unwrap(), []);
    shard.run(member_of(GROUP, 1, true)).unwrap();
    let expected = |version| Some(OutboxBarrier::Profile(ProfileBarrier { user: user("bob"), version }));
    assert_eq!(barrier(shard.run(publish("tablet", 1))), expected(2));
    assert_eq!(profiles_due(&shard.tables, None, 9).unwrap(), [user("bob")]);
    assert_eq!(profiles_due(&shard.tables, Some(user("bob")), 9).unwrap(), []);
    assert_eq!(barrier(shard.run(publish("tablet", 1))), expected(2), "whoever tries again waits, too");
    let delete = Op::DeleteDevice(DeleteDevice { user: user("bob"), device: device("phone") });
    assert_eq!(barrier(shard.run(delete.clone())), expected(3));
    assert_eq!(barrier(shard.run(delete)), expected(3));
    shard.run(told(2)).unwrap();
    assert!(!pending(&shard, 2) && pending(&shard, 3));
    shard.run(told(1)).unwrap();
    assert!(!pending(&shard, 2) && pending(&shard, 3), "an older one says nothing");
    shard.run(told(3)).unwrap();
    assert!(!pending(&shard, 3));
    assert_eq!(profiles_due(&shard.tables, None, 9).unwrap(), []);
    assert_eq!(barrier(shard.run(publish("tablet", 1))), None, "nothing changes, and nothing is due");
}

#[test]
fn a_profile_names_devices_and_whether_they_changed() {
    let mut shard = Shard::new();
    assert!(profile_of(&shard.tables, &user("bob")).unwrap().is_blank());
    shard.run(publish("tablet", 7)).unwrap();
    shard.run(publish("phone", 1)).unwrap();
    shard.run(publish("phone", 2)).unwrap();
    let Profile { version, devices_version, devices, blocks } = profile_of(&shard.tables, &user("bob")).unwrap();
    let devices: Vec<_> = devices.iter().map(|known| (known.device.as_str(), known.registration.0)).collect();
    assert_eq!((version, devices_version, &devices[..]), (3, 3, [("phone", 2), ("tablet", 7)].as_slice()));
    assert!(blocks.is_empty());
}

#[test]
fn a_thread_that_takes_a_user_in_is_answered_with_the_profile() {
    let mut shard = Shard::new();
    let body = |result: CommandResult| result.unwrap().body;
    assert!(matches!(body(shard.run(member_of(GROUP, 1, true))), ReplyBody::Done(_)), "there is nothing to say");
    shard.run(publish("phone", 1)).unwrap();
    let expected = profile_of(&shard.tables, &user("bob")).unwrap();
    for source in [2, 2, 1] {
        let answered = body(shard.run(member_of(GROUP, source, true)));
        assert_eq!(answered, ReplyBody::Profile(expected.clone()), "repeats and late ones, too");
    }
    assert!(matches!(body(shard.run(member_of(GROUP, 3, false))), ReplyBody::Done(_)));
}

#[test]
fn members_here_are_known_and_others_told_when_their_devices_change() {
    let mut shard = Shard::with_group(&["ann", "bob"]);
    let events = shard.events.len();
    shard.run(update("eve", &profile(1, 1, &["phone"], &[]))).unwrap();
    assert_eq!(family::<MemberDevicesKey>(&shard.tables), [], "she is in neither");
    shard.run(update("bob", &profile(2, 2, &["phone"], &[]))).unwrap();
    shard.run(update("bob", &profile(3, 2, &["phone"], &["eve"]))).unwrap();
    shard.run(update("bob", &profile(2, 2, &[], &[]))).unwrap();
    shard.run(update("bob", &profile(3, 3, &[], &[]))).unwrap();
    assert_eq!(known(&shard), Some(vec!["phone".into()]), "the highest version counts");
    let event = Event::MemberDevices(MemberDevices { thread: GROUP, user: user("bob"), version: 2 });
    assert_eq!(shard.events[events..], [event], "only devices are told of");
    let blocks = family::<MemberBlocksKey>(&shard.tables);
    assert_eq!(blocks.into_iter().map(|(_, row)| row.users).collect::<Vec<_>>(), [users(&["eve"])]);
    shard.run(update("bob", &profile(4, 2, &["phone"], &[]))).unwrap();
    let blocks = family::<MemberBlocksKey>(&shard.tables);
    assert_eq!(blocks.into_iter().map(|(_, row)| (row.users, row.version)).collect::<Vec<_>>(), [(vec![], 4)]);
}

#[test]
fn what_a_new_member_brings_is_kept_without_a_word_and_goes_with_it() {
    let mut shard = Shard::with_group(&["ann", "bob"]);
    let events = shard.events.len();
    let new = NewMember { thread: GROUP, user: user("bob"), profile: profile(5, 5, &["phone"], &["eve"]) };
    let delivered = Op::OutboxDelivered(OutboxDelivered { rows: Vec::new(), members: vec![new] });
    shard.run(delivered.clone()).unwrap();
    assert_eq!((known(&shard), shard.events.len()), (Some(vec!["phone".into()]), events));
    let remove = RemoveParticipant { thread: GROUP, actor: user("ann"), user: user("bob") };
    shard.run(Op::RemoveParticipant(remove)).unwrap();
    assert_eq!(family::<MemberDevicesKey>(&shard.tables), []);
    shard.run(delivered.clone()).unwrap();
    assert_eq!(known(&shard), None, "bob is no member");
    let add = AddParticipants { thread: GROUP, actor: user("ann"), users: vec![user("bob")] };
    shard.run(Op::AddParticipants(add)).unwrap();
    shard.run(delivered).unwrap();
    assert_eq!(known(&shard), Some(vec!["phone".into()]));
}

proptest! {
    /// Whatever of a thread's messages and of those to it come when, often or late: in the end the thread knows the
    /// user's devices of now.
    #[test]
    fn in_the_end_a_thread_knows_its_member(steps in proptest::collection::vec((0..4u8, 0..3u64), 0..40)) {
        let (mut users, mut threads) = (Shard::new(), Shard::with_group(&["ann", "bob"]));
        // What was read to be told, and what was answered, neither yet applied by the thread.
        let mut on_their_way: Vec<Op> = Vec::new();
        let mut joined = false;
        for (step, which) in steps {
            match step {
                0 => drop(users.run(publish(["phone", "tablet", "web"][which as usize], which + 1))),
                1 => {
                    let result = users.run(member_of(GROUP, 1, true)).unwrap();
                    joined = true;
                    if let ReplyBody::Profile(profile) = result.body {
                        let members = vec![NewMember { thread: GROUP, user: user("bob"), profile }];
                        on_their_way.push(Op::OutboxDelivered(OutboxDelivered { rows: Vec::new(), members }));
                    }
                }
                2 if joined => on_their_way.push(update("bob", &profile_of(&users.tables, &user("bob")).unwrap())),
                _ if !on_their_way.is_empty() => {
                    let op = on_their_way[which as usize % on_their_way.len()].clone();
                    threads.run(op).unwrap();
                }
                _ => {}
            }
        }
        let now = profile_of(&users.tables, &user("bob")).unwrap();
        threads.run(update("bob", &now)).unwrap();
        for late in on_their_way {
            threads.run(late).unwrap();
        }
        let devices: Vec<_> = now.devices.iter().map(|known| known.device.to_string()).collect();
        prop_assert_eq!(known(&threads).unwrap_or_default(), devices);
    }
}
