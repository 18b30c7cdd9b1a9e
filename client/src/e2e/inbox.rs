//! What comes from the cluster, and what this device keeps of it.
//!
//! Owns: reading messages and edits, each once; deletions and reactions.
//! Must not know: connections, and who is shown what.
//! Invariants: a text and the ratchet that gave it are one write; what is known already is not opened again; a message
//! counts only as what its writer made it: in its thread, by its sender, under its number, for this device.

use super::identity::Identity;
use super::payload::{Opened, Payload, open};
use super::rows::{
    ACCOUNT, HISTORY, NUMBERS, NumberRow, ONLY, OUTBOX, OutgoingRow, PEERS, PeerRow, Record, RecordKind,
    RecordReaction, message_key, number_key, outgoing_key, peer_key, peer_of, peers_of,
};
use super::sessions;
use super::vault::{News, Vault, account, meet, own_identity};
use crate::devices::DeviceRef;
use crate::frames::{DeleteFrame, EditFrame, ReactionFrame};
use crate::model::Message;
use crate::store::{StoreError, Tx};
use bytes::Bytes;
use messenger_proto::ids::{ClientSeq, DeviceId, MessageId, ThreadId, UserId};
use sha2::{Digest, Sha256};
use vodozemac::olm::OlmMessage;

/// Reactions kept with a message; the contract's own bound is the same.
const REACTIONS_MAX: usize = messenger_proto::limits::MESSAGE_REACTIONS_MAX;

/// What became of something that came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Received {
    /// The message as it is kept now.
    pub record: Record,
    /// Whether it was not there before.
    pub is_new: bool,
    /// What was learned on the way.
    pub news: Vec<News>,
}

/// What an envelope comes to.
struct Read {
    kind: RecordKind,
    text: String,
    news: Vec<News>,
}

/// Where an envelope stands: what its payload must say.
struct Place<'a> {
    thread: ThreadId,
    id: MessageId,
    sender: &'a UserId,
    device: &'a DeviceId,
    number: ClientSeq,
    /// It may be an edit: it is one, or the message was edited since it was sent.
    edited: bool,
    /// It may be the message itself.
    original: bool,
}

impl Read {
    fn unreadable(why: &str, news: Vec<News>) -> Self {
        Self { kind: RecordKind::Unreadable, text: why.to_owned(), news }
    }
}

impl Vault {
    /// Takes a message: reads it, once, and keeps it. When this comes back it may be acknowledged.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn take(&self, message: &Message) -> Result<Received, StoreError> {
        self.store.write(|tx| {
            let key = message_key(message.thread_id, message.id);
            if let Some(record) = tx.get::<Record>(HISTORY, &key)? {
                return self.seen_again(tx, record, message);
            }
            let (record, news) = self.first_seen(tx, message)?;
            tx.put(HISTORY, &key, &record)?;
            Ok(Received { record, is_new: true, news })
        })
    }

    fn seen_again(&self, tx: &mut Tx<'_>, mut record: Record, message: &Message) -> Result<Received, StoreError> {
        let edited = message.edited_at.as_deref().unwrap_or_default();
        let reactions = reactions_of(message);
        if record.reactions != reactions {
            record.reactions = reactions;
            tx.put(HISTORY, &message_key(record.thread, record.id), &record)?;
        }
        if message.deleted {
            return put(tx, gone(record, RecordKind::Deleted), Vec::new());
        }
        if !edited.is_empty() && edited != record.edited_at {
            return self.apply_edit(tx, record, message.ciphertext.as_ref(), edited);
        }
        Ok(Received { record, is_new: false, news: Vec::new() })
    }

    fn first_seen(&self, tx: &mut Tx<'_>, message: &Message) -> Result<(Record, Vec<News>), StoreError> {
        let number = ClientSeq(message.client_seq);
        let place = Place {
            thread: message.thread_id,
            id: message.id,
            sender: &message.sender_id,
            device: &message.sender_device_id,
            number,
            edited: message.edited_at.is_some(),
            original: true,
        };
        let own = message.sender_id == self.user && message.sender_device_id == self.device;
        let read = match &message.ciphertext {
            _ if message.deleted => Read { kind: RecordKind::Deleted, text: String::new(), news: Vec::new() },
            None if own => own_text(tx, message.thread_id, number)?,
            None => Read { kind: RecordKind::Absent, text: String::new(), news: Vec::new() },
            Some(ciphertext) => self.read(tx, ciphertext, &place)?,
        };
        if own {
            tx.delete(OUTBOX, &outgoing_key(number))?;
        }
        let record = Record {
            id: message.id,
            thread: message.thread_id,
            seq: message.seq,
            sender: message.sender_id.clone(),
            sender_device: message.sender_device_id.clone(),
            number,
            created_at: message.created_at.clone(),
            kind: read.kind,
            text: read.text,
            edited_at: message.edited_at.clone().unwrap_or_default(),
            reactions: reactions_of(message),
            hash: hash_of(message.ciphertext.as_ref()),
        };
        Ok((record, read.news))
    }

    fn read(&self, tx: &mut Tx<'_>, ciphertext: &Bytes, place: &Place<'_>) -> Result<Read, StoreError> {
        let message = match open(ciphertext) {
            Opened::Plain => {
                let text = std::str::from_utf8(ciphertext)
                    .map_or_else(|_| format!("({} bytes that are no text)", ciphertext.len()), str::to_owned);
                return Ok(Read { kind: RecordKind::Plain, text, news: Vec::new() });
            }
            Opened::Broken => return Ok(Read::unreadable("the envelope is broken", Vec::new())),
            Opened::Olm(message) => message,
        };
        let (plaintext, whose, news) = match decrypt(tx, &message, place)? {
            Ok(decrypted) => decrypted,
            Err(why) => return Ok(Read::unreadable(why, Vec::new())),
        };
        let payload = match Payload::open(&plaintext) {
            Ok(payload) => payload,
            Err(why) => return Ok(Read::unreadable(&why.to_string(), news)),
        };
        if let Some(why) = self.objection(tx, &payload, &whose, place)? {
            return Ok(Read::unreadable(why, news));
        }
        let key = number_key(payload.thread, &payload.sender, &payload.sender_device, payload.client_seq);
        tx.put(NUMBERS, &key, &NumberRow { id: place.id })?;
        Ok(Read { kind: RecordKind::Encrypted, text: payload.text, news })
    }

    /// What speaks against a payload, if anything does.
    fn objection(
        &self,
        tx: &Tx<'_>,
        payload: &Payload,
        whose: &DeviceRef,
        place: &Place<'_>,
    ) -> Result<Option<&'static str>, StoreError> {
        let peer: Option<PeerRow> = tx.get(PEERS, &peer_key(&whose.user_id, &whose.device_id))?;
        let edit_fits = place.edited && payload.edits == Some(place.id);
        let message_fits = place.original && payload.edits.is_none() && payload.client_seq == place.number;
        let number = number_key(payload.thread, &payload.sender, &payload.sender_device, payload.client_seq);
        let before: Option<NumberRow> = tx.get(NUMBERS, &number)?;
        Ok(if payload.thread != place.thread {
            Some("it was written for another conversation")
        } else if payload.sender != *place.sender || payload.sender_device != whose.device_id {
            Some("it was written by somebody else")
        } else if peer.is_none_or(|peer| peer.identity != payload.sender_identity) {
            Some("its writer is not who the session is with")
        } else if payload.recipient != self.user
            || payload.recipient_device != self.device
            || payload.recipient_identity != own_identity(tx)?.as_bytes()
        {
            Some("it was written for another device")
        } else if before.is_some_and(|row| row.id != place.id || !edit_fits) {
            Some("it repeats an earlier message")
        } else if edit_fits || message_fits {
            None
        } else {
            Some("it was written as another message")
        })
    }

    /// Takes an edit; `None` when the message is not known here.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn edited(&self, frame: &EditFrame) -> Result<Option<Received>, StoreError> {
        self.store.write(|tx| match tx.get::<Record>(HISTORY, &message_key(frame.thread_id, frame.id))? {
            Some(record) => self.apply_edit(tx, record, frame.ciphertext.as_ref(), &frame.edited_at).map(Some),
            None => Ok(None),
        })
    }

    fn apply_edit(
        &self,
        tx: &mut Tx<'_>,
        mut record: Record,
        ciphertext: Option<&Bytes>,
        edited_at: &str,
    ) -> Result<Received, StoreError> {
        let hash = hash_of(ciphertext);
        let is_gone = matches!(record.kind, RecordKind::Deleted | RecordKind::Expired);
        if is_gone || (record.hash == hash && record.edited_at == edited_at) {
            return Ok(Received { record, is_new: false, news: Vec::new() });
        }
        let own = record.sender == self.user && record.sender_device == self.device;
        let read = match ciphertext {
            // This device edited it itself, and kept what it says.
            None if own => Read { kind: record.kind, text: record.text.clone(), news: Vec::new() },
            None => Read { kind: RecordKind::Absent, text: String::new(), news: Vec::new() },
            Some(_) if record.hash == hash => Read { kind: record.kind, text: record.text.clone(), news: Vec::new() },
            Some(ciphertext) => {
                let (sender, device) = (record.sender.clone(), record.sender_device.clone());
                let place = Place {
                    thread: record.thread,
                    id: record.id,
                    sender: &sender,
                    device: &device,
                    number: record.number,
                    edited: true,
                    original: false,
                };
                self.read(tx, ciphertext, &place)?
            }
        };
        (record.kind, record.text, record.hash) = (read.kind, read.text, hash);
        edited_at.clone_into(&mut record.edited_at);
        put(tx, record, read.news)
    }

    /// This device edited a message of its own.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn edited_here(&self, thread: ThreadId, id: MessageId, text: &str) -> Result<Option<Record>, StoreError> {
        self.store.write(|tx| {
            let key = message_key(thread, id);
            let Some(mut record) = tx.get::<Record>(HISTORY, &key)? else { return Ok(None) };
            (record.kind, record.text) = (RecordKind::Encrypted, text.to_owned());
            tx.put(HISTORY, &key, &record)?;
            Ok(Some(record))
        })
    }

    /// Takes a deletion; what the message said is gone here too. `None` when the message is not known.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn deleted(&self, frame: &DeleteFrame) -> Result<Option<Received>, StoreError> {
        let kind = if frame.reason == "expired" { RecordKind::Expired } else { RecordKind::Deleted };
        self.store.write(|tx| match tx.get::<Record>(HISTORY, &message_key(frame.thread_id, frame.id))? {
            Some(record) => put(tx, gone(record, kind), Vec::new()).map(Some),
            None => Ok(None),
        })
    }

    /// Takes a reaction; `None` when the message is not known, or nothing changes.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn reacted(&self, frame: &ReactionFrame) -> Result<Option<Received>, StoreError> {
        self.store.write(|tx| {
            let Some(mut record) = tx.get::<Record>(HISTORY, &message_key(frame.thread_id, frame.id))? else {
                return Ok(None);
            };
            let reaction = RecordReaction { emoji: frame.emoji.clone(), by: frame.by.clone() };
            let place = record.reactions.iter().position(|known| *known == reaction);
            match (frame.op == "added", place) {
                (true, None) if record.reactions.len() < REACTIONS_MAX => record.reactions.push(reaction),
                (false, Some(at)) => drop(record.reactions.remove(at)),
                _ => return Ok(None),
            }
            put(tx, record, Vec::new()).map(Some)
        })
    }
}

fn reactions_of(message: &Message) -> Vec<RecordReaction> {
    let reactions = message.reactions.iter().flat_map(|reaction| {
        let by = reaction.by.iter().filter_map(|user| UserId::new(user).ok());
        by.map(|by| RecordReaction { emoji: reaction.emoji.clone(), by })
    });
    reactions.take(REACTIONS_MAX).collect()
}

/// What this device wrote itself is in no envelope: it kept it.
fn own_text(tx: &Tx<'_>, thread: ThreadId, number: ClientSeq) -> Result<Read, StoreError> {
    let waiting: Option<OutgoingRow> = tx.get(OUTBOX, &outgoing_key(number))?;
    Ok(match waiting.filter(|row| row.thread == thread) {
        Some(row) => Read { kind: RecordKind::Encrypted, text: row.text, news: Vec::new() },
        None => Read { kind: RecordKind::Absent, text: String::new(), news: Vec::new() },
    })
}

fn put(tx: &mut Tx<'_>, record: Record, news: Vec<News>) -> Result<Received, StoreError> {
    tx.put(HISTORY, &message_key(record.thread, record.id), &record)?;
    Ok(Received { record, is_new: false, news })
}

/// The plaintext, which device wrote it, and what is new about that; or why it cannot be read.
#[allow(clippy::type_complexity, reason = "one place makes it and one takes it apart")]
fn decrypt(
    tx: &mut Tx<'_>,
    message: &OlmMessage,
    place: &Place<'_>,
) -> Result<Result<(Vec<u8>, DeviceRef, Vec<News>), &'static str>, StoreError> {
    let mut known = tx.with_prefix::<PeerRow>(PEERS, &peers_of(place.sender))?;
    // An edit may come from another of the sender's devices; the one that is named is tried first.
    let named = peer_key(place.sender, place.device);
    known.sort_by_key(|(key, _)| *key != named);
    for (key, peer) in &mut known {
        let Some(whose) = peer_of(key).filter(|_| *key == named || place.edited) else { continue };
        if let Some(plaintext) = sessions::decrypt(&mut peer.sessions, message)? {
            tx.put(PEERS, key, peer)?;
            return Ok(Ok((plaintext, whose, Vec::new())));
        }
        if let OlmMessage::PreKey(first) = message
            && sessions::knows(&peer.sessions, first)
        {
            return Ok(Err("it was read before"));
        }
    }
    if let OlmMessage::PreKey(first) = message {
        let (mut row, mut own) = account(tx)?;
        if let Some((session, plaintext)) = sessions::accept(&mut own, first)? {
            // Whose it is stands inside; what is not even a payload begins nothing.
            let Ok(payload) = Payload::open(&plaintext) else { return Ok(Err("it holds no message")) };
            let identity = Identity::from_slice(&payload.sender_identity);
            let Some(identity) = identity.filter(|id| id.agreement() == first.identity_key()) else {
                return Ok(Err("its writer is not who the session is with"));
            };
            let whose = DeviceRef { user_id: place.sender.clone(), device_id: payload.sender_device.clone() };
            if payload.sender != whose.user_id || !(place.edited || whose.device_id == *place.device) {
                return Ok(Err("it was written by another device"));
            }
            let (mut peer, news) = meet(tx, &whose, &identity, payload.sender_registration)?;
            sessions::add(&mut peer.sessions, session);
            tx.put(PEERS, &peer_key(&whose.user_id, &whose.device_id), &peer)?;
            row.pickle = sessions::keep_account(&own)?;
            tx.put(ACCOUNT, ONLY, &row)?;
            return Ok(Ok((plaintext, whose, news.into_iter().collect())));
        }
    }
    // The session is lost on one side: the next message to that device begins a new one.
    if let Some((key, peer)) = known.iter_mut().find(|(key, _)| *key == named) {
        peer.renew = true;
        tx.put(PEERS, key, peer)?;
    }
    Ok(Err("this device has no key for it"))
}

fn gone(record: Record, kind: RecordKind) -> Record {
    Record { kind, text: String::new(), reactions: Vec::new(), hash: Bytes::new(), ..record }
}

fn hash_of(ciphertext: Option<&Bytes>) -> Bytes {
    ciphertext.map_or_else(Bytes::new, |ciphertext| Bytes::copy_from_slice(&Sha256::digest(ciphertext)))
}
