//! What a device that was killed finds when it comes back: after every single write to its disk.

use super::super::RecordKind;
use super::THREAD;
use super::world::{Disk, World};

#[test]
fn killed_while_reading_it_reads_each_message_once() {
    let mut world = World::new(&[("alice", "phone"), ("bob", "phone")]);
    // The first message begins the session, which takes a one-time key; the second turns the ratchet.
    for text in ["first", "second"] {
        let (message, next) = (world.send(0, THREAD, text), world.send(0, THREAD, "next"));
        let disk = world.disks[1].clone();
        disk.record();
        world.deliver(1, &message);
        let images = disk.recorded();
        assert!(images.len() > 3, "nothing was written");
        let mut read_before = 0;
        for image in images {
            let mut after = Vec::new();
            world.reopen(1, Disk::of(image));
            let known =
                !world.vaults[1].history(THREAD, 10).unwrap().iter().all(|record| record.id != message.message.id);
            read_before += usize::from(known);
            let received = world.deliver(1, &message);
            assert_eq!(received.is_new, !known);
            after.push(received.record);
            after.push(world.deliver(1, &next).record);
            for (record, text) in after.iter().zip([text, "next"]) {
                assert_eq!((record.kind, record.text.as_str()), (RecordKind::Encrypted, text));
            }
        }
        assert!(read_before > 0, "the last write made it known");
        world.reopen(1, disk);
        world.deliver(1, &next);
        let answer = world.send(1, THREAD, "answer");
        world.deliver(0, &answer);
    }
}

#[test]
fn killed_while_writing_it_sends_one_message_that_can_be_read() {
    let mut world = World::new(&[("alice", "phone"), ("bob", "phone")]);
    let hello = world.send(0, THREAD, "hello");
    world.deliver(0, &hello);
    world.deliver(1, &hello);
    let disk = world.disks[0].clone();
    disk.record();
    let number = world.vaults[0].queue(THREAD, "text").unwrap();
    let draft = world.seal(0, number);
    let images = disk.recorded();
    let (mut unknown, mut waiting, mut sealed) = (0, 0, 0);
    for image in images {
        world.reopen(0, Disk::of(image));
        let outgoing = world.vaults[0].outgoing(number).unwrap();
        let (left, text) = match outgoing {
            None => {
                unknown += 1;
                continue;
            }
            // What was sealed may have been sent: it is what is sent again, to the byte.
            Some(outgoing) if outgoing.draft.is_some() => {
                sealed += 1;
                let again = outgoing.draft.unwrap();
                assert_eq!(serde_json::to_string(&again).unwrap(), serde_json::to_string(&draft).unwrap());
                assert_eq!(again.key, draft.key);
                (again, outgoing.text)
            }
            Some(outgoing) => {
                waiting += 1;
                (world.seal(0, number), outgoing.text)
            }
        };
        assert_eq!(text, "text");
        let bob = world.disks[1].image();
        let sent = world.commit(0, THREAD, &left);
        assert_eq!(world.deliver(1, &sent).record.text, "text");
        assert!(world.deliver(0, &sent).is_new);
        assert!(world.vaults[0].waiting().unwrap().is_empty());
        world.reopen(1, Disk::of(bob));
    }
    assert!(unknown > 0 && waiting > 0 && sealed > 0, "{unknown} {waiting} {sealed}");
}

#[test]
fn killed_while_its_keys_are_made_it_has_one_set_of_them() {
    let disk = Disk::default();
    disk.record();
    let (user, device) = (super::user("alice"), messenger_proto::ids::DeviceId::new("phone").unwrap());
    let vault = super::world::open(&disk, &user, &device);
    let keys = vault.publication(0).unwrap();
    drop(vault);
    let mut seen = std::collections::BTreeSet::new();
    for image in disk.recorded() {
        // What a cut creation leaves is never opened: the file gets its name when it is whole.
        if image.len() < disk.image().len() {
            continue;
        }
        let disk = Disk::of(image);
        let Ok(store) = crate::store::Store::over(disk, &[3; 32], &super::super::rows::ALL) else { continue };
        let vault = super::super::Vault::over(store, user.clone(), device.clone()).unwrap();
        let again = vault.publication(0).unwrap();
        assert_eq!(again.one_time_prekeys.len(), keys.one_time_prekeys.len());
        seen.insert(again.identity_key == keys.identity_key);
    }
    assert!(seen.contains(&true));
}
