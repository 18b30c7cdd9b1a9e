//! Some devices and what a cluster would keep for them.

use super::super::vault::{News, Vault};
use super::super::{Received, rows};
use crate::devices::{Bundle, Device, DeviceRef, Envelope, PublishKeys};
use crate::model::{Content, Draft, Message};
use crate::store::Store;
use messenger_proto::ids::{ClientSeq, DeviceId, MessageId, ThreadId, UserId};
use redb::StorageBackend;
use std::io;
use std::sync::{Arc, Mutex};

const KEY: [u8; 32] = [3; 32];

/// A disk in memory that remembers what was on it after each write.
#[derive(Debug, Clone, Default)]
pub(super) struct Disk {
    image: Arc<Mutex<Vec<u8>>>,
    pub(super) past: Arc<Mutex<Option<Vec<Vec<u8>>>>>,
}

impl Disk {
    pub(super) fn of(image: Vec<u8>) -> Self {
        Self { image: Arc::new(Mutex::new(image)), past: Arc::default() }
    }

    /// What is on it now.
    pub(super) fn image(&self) -> Vec<u8> {
        self.image.lock().unwrap().clone()
    }

    /// Remembers from here on.
    pub(super) fn record(&self) {
        *self.past.lock().unwrap() = Some(vec![self.image()]);
    }

    /// What was on it after each write since.
    pub(super) fn recorded(&self) -> Vec<Vec<u8>> {
        self.past.lock().unwrap().take().unwrap_or_default()
    }

    fn change(&self, change: impl FnOnce(&mut Vec<u8>)) {
        let mut image = self.image.lock().unwrap();
        change(&mut image);
        if let Some(past) = self.past.lock().unwrap().as_mut() {
            past.push(image.clone());
        }
    }
}

impl StorageBackend for Disk {
    fn len(&self) -> io::Result<u64> {
        Ok(self.image.lock().unwrap().len() as u64)
    }
    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let at = offset as usize;
        let image = self.image.lock().unwrap();
        out.copy_from_slice(image.get(at..at + out.len()).ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }
    fn set_len(&self, len: u64) -> io::Result<()> {
        self.change(|image| image.resize(len as usize, 0));
        Ok(())
    }
    fn sync_data(&self) -> io::Result<()> {
        Ok(())
    }
    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let at = offset as usize;
        self.change(|image| image[at..at + data.len()].copy_from_slice(data));
        Ok(())
    }
}

pub(super) fn user(name: &str) -> UserId {
    UserId::new(name).unwrap()
}

pub(super) fn open(disk: &Disk, user: &UserId, device: &DeviceId) -> Vault {
    let store = Store::over(disk.clone(), &KEY, &rows::ALL).unwrap();
    Vault::over(store, user.clone(), device.clone()).unwrap()
}

/// A message as the cluster has it: with all its envelopes.
#[derive(Debug, Clone)]
pub(super) struct Sent {
    pub(super) message: Message,
    pub(super) envelopes: Vec<Envelope>,
    plain: bool,
}

pub(super) struct World {
    pub(super) vaults: Vec<Vault>,
    pub(super) disks: Vec<Disk>,
    names: Vec<DeviceRef>,
    published: Vec<Option<PublishKeys>>,
    pub(super) news: Vec<News>,
    last_id: u128,
}

pub(super) fn envelopes(draft: &Draft) -> Vec<Envelope> {
    match &draft.content {
        Content::Envelopes(envelopes) => envelopes.clone(),
        Content::Ciphertext(_) => panic!("not encrypted"),
    }
}

impl World {
    pub(super) fn new(devices: &[(&str, &str)]) -> Self {
        let mut world = Self {
            vaults: Vec::new(),
            disks: Vec::new(),
            names: Vec::new(),
            published: Vec::new(),
            news: Vec::new(),
            last_id: 0,
        };
        for (user, device) in devices {
            world.join(user, device);
        }
        world
    }

    pub(super) fn whose(&self, at: usize) -> DeviceRef {
        self.names[at].clone()
    }

    pub(super) fn join(&mut self, name: &str, device: &str) {
        let whose = DeviceRef { user_id: user(name), device_id: DeviceId::new(device).unwrap() };
        let disk = Disk::default();
        self.vaults.push(open(&disk, &whose.user_id, &whose.device_id));
        self.disks.push(disk);
        self.names.push(whose);
        self.published.push(None);
        self.publish(self.vaults.len() - 1);
    }

    fn publish(&mut self, at: usize) {
        let keys = self.vaults[at].publication(0).unwrap();
        self.vaults[at].published(&keys).unwrap();
        self.published[at] = Some(keys);
    }

    /// The device is put away and taken up again.
    pub(super) fn restart(&mut self, at: usize) {
        self.reopen(at, self.disks[at].clone());
    }

    pub(super) fn reopen(&mut self, at: usize, disk: Disk) {
        let whose = self.whose(at);
        // The one before is closed first.
        self.vaults[at] = open(&Disk::default(), &whose.user_id, &whose.device_id);
        self.vaults[at] = open(&disk, &whose.user_id, &whose.device_id);
        self.disks[at] = disk;
    }

    /// The device loses its keys and makes new ones.
    pub(super) fn lose(&mut self, at: usize) {
        self.reopen(at, Disk::default());
        self.publish(at);
    }

    pub(super) fn leave(&mut self, at: usize) {
        self.published[at] = None;
    }

    /// The device has no one-time keys left.
    pub(super) fn exhaust(&mut self, at: usize) {
        self.published[at].as_mut().unwrap().one_time_prekeys.clear();
    }

    fn bundle(&mut self, at: usize) -> Bundle {
        let device_id = self.names[at].device_id.clone();
        let keys = self.published[at].as_mut().unwrap();
        let one_time_prekey =
            if keys.one_time_prekeys.is_empty() { keys.last_resort.clone() } else { keys.one_time_prekeys.pop() };
        let (registration_id, identity_key) = (keys.registration_id, keys.identity_key.clone());
        Bundle { device_id, registration_id, identity_key, signed_prekey: keys.signed_prekey.clone(), one_time_prekey }
    }

    /// A session where there is one already.
    pub(super) fn begin_anew(&mut self, writer: usize, reader: usize) {
        let bundle = self.bundle(reader);
        let news = self.vaults[writer].learn(&self.names[reader].user_id, &bundle).unwrap();
        self.news.extend(news);
    }

    /// Every device with keys, each ready to be written to.
    fn directory(&mut self, writer: usize) -> Vec<(UserId, Device)> {
        let mut users: Vec<_> = self.names.iter().map(|whose| whose.user_id.clone()).collect();
        users.sort();
        users.dedup();
        let mut all = Vec::new();
        for user in users {
            let present = |at: &usize| self.names[*at].user_id == user && self.published[*at].is_some();
            let places: Vec<usize> = (0..self.names.len()).filter(present).collect();
            let device = |at: &usize| Device {
                device_id: self.names[*at].device_id.clone(),
                registration_id: self.published[*at].as_ref().unwrap().registration_id,
                updated_at: String::new(),
            };
            let devices: Vec<_> = places.iter().map(device).collect();
            let (news, needed) = self.vaults[writer].compare(&user, &devices).unwrap();
            self.news.extend(news);
            for at in places {
                if needed.contains(&self.names[at].device_id) {
                    self.begin_anew(writer, at);
                }
            }
            self.vaults[writer].met(&user).unwrap();
            all.extend(devices.into_iter().map(|device| (user.clone(), device)));
        }
        all
    }

    pub(super) fn seal(&mut self, writer: usize, number: ClientSeq) -> Draft {
        let devices = self.directory(writer);
        self.vaults[writer].seal(number, &devices, false).unwrap()
    }

    pub(super) fn edit(&mut self, writer: usize, thread: ThreadId, id: MessageId, text: &str) -> Vec<Envelope> {
        let devices = self.directory(writer);
        match self.vaults[writer].seal_edit(thread, id, text, &devices).unwrap() {
            Content::Envelopes(envelopes) => envelopes,
            Content::Ciphertext(_) => panic!("not encrypted"),
        }
    }

    pub(super) fn send(&mut self, writer: usize, thread: ThreadId, text: &str) -> Sent {
        let number = self.vaults[writer].queue(thread, text).unwrap();
        let draft = self.seal(writer, number);
        self.commit(writer, thread, &draft)
    }

    pub(super) fn commit(&mut self, writer: usize, thread: ThreadId, draft: &Draft) -> Sent {
        let whose = self.whose(writer);
        let message = self.message(whose.user_id, whose.device_id, thread, draft.client_seq);
        Sent { message, envelopes: envelopes(draft), plain: false }
    }

    pub(super) fn plain(&mut self, sender: &str, device: &str, thread: ThreadId, bytes: &[u8]) -> Sent {
        let mut message = self.message(user(sender), DeviceId::new(device).unwrap(), thread, ClientSeq(1));
        message.ciphertext = Some(bytes.to_vec().into());
        Sent { message, envelopes: Vec::new(), plain: true }
    }

    fn message(&mut self, sender_id: UserId, sender_device_id: DeviceId, thread: ThreadId, seq: ClientSeq) -> Message {
        self.last_id += 1;
        Message {
            id: MessageId(self.last_id << 64),
            thread_id: thread,
            seq: self.last_id as u64,
            sender_id,
            sender_device_id,
            client_seq: seq.0,
            ciphertext: None,
            content_type: "text".into(),
            reply_to_msg_id: None,
            created_at: "2030-01-01T10:00:00.000Z".into(),
            deleted: false,
            edited_at: None,
            reactions: Vec::new(),
            receipts: None,
        }
    }

    /// What a device is shown of a message.
    pub(super) fn shown_to(&self, reader: usize, sent: &Sent) -> Message {
        let whose = self.whose(reader);
        let own = |e: &&Envelope| e.user_id == whose.user_id && e.device_id == whose.device_id;
        let mut message = sent.message.clone();
        if !sent.plain {
            message.ciphertext = sent.envelopes.iter().find(own).map(|envelope| envelope.ciphertext.clone());
        }
        message
    }

    pub(super) fn deliver(&mut self, reader: usize, sent: &Sent) -> Received {
        let message = self.shown_to(reader, sent);
        self.vaults[reader].take(&message).unwrap()
    }
}
