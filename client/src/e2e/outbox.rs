//! What this device is to send.
//!
//! Owns: messages that wait, their numbers, and sealing them: one envelope per device.
//! Must not know: connections, and which devices there are.
//! Invariants: a message that was taken is there until it is committed or refused for good, over restarts too; it is
//! sent again byte by byte under one key, and under another key once its envelopes are others; a ciphertext is on disk
//! with the ratchet that made it before anyone sees it.

use super::identity::Identity;
use super::payload::{Payload, TEXT_MAX, VERSION, envelope};
use super::rows::{
    ACCOUNT, AccountRow, EnvelopeRow, ONLY, OUTBOX, OutgoingRow, PEERS, PeerRow, outgoing_key, peer_key,
};
use super::sessions;
use super::vault::{Vault, account, now};
use crate::devices::{Device, Envelope};
use crate::model::{Content, Draft};
use crate::store::{StoreError, Tx};
use messenger_proto::ids::{ClientSeq, MessageId, ThreadId, UserId};

/// Bytes of all envelopes of a message at most, so that the request's body stays below the contract's 1 MiB in base64.
const ENVELOPES_MAX: usize = 700 * 1024;

/// A message that waits.
#[derive(Debug, Clone)]
pub struct Outgoing {
    /// Its number; those that were taken later have higher ones.
    pub number: ClientSeq,
    /// Where to.
    pub thread: ThreadId,
    /// What it says.
    pub text: String,
    /// As it was sealed, if it was.
    pub draft: Option<Draft>,
}

/// Why a message was not sealed.
#[derive(Debug, thiserror::Error)]
pub enum SealError {
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// It is too long for one message, or for so many devices.
    #[error("it is too long to send it, encrypted, to {0} devices")]
    TooLong(usize),
    /// There is no session with a device: it takes a bundle first.
    #[error("the keys of {0}'s {1} are missing")]
    NoSession(String, String),
    /// It does not wait any more.
    #[error("it was sent already")]
    NotWaiting,
}

fn read(number: ClientSeq, row: OutgoingRow) -> Outgoing {
    let draft = (!row.key.is_empty()).then(|| Draft {
        key: row.key.clone(),
        allow_mismatch: row.allow_mismatch,
        ..Draft::of_envelopes(number, row.envelopes.iter().map(Envelope::from).collect())
    });
    Outgoing { number, thread: row.thread, text: row.text, draft }
}

/// Numbers must differ within thread and device, also when the store was lost: the clock gives them, in microseconds.
fn next_number(tx: &mut Tx<'_>) -> Result<ClientSeq, StoreError> {
    let mut row = tx.get::<AccountRow>(ACCOUNT, ONLY)?.ok_or(StoreError::Damaged("the keys are missing"))?;
    let clock = now().0.saturating_mul(1_000).min(ClientSeq::MAX);
    row.last_number = ClientSeq(clock.max(row.last_number.0 + 1));
    tx.put(ACCOUNT, ONLY, &row)?;
    Ok(row.last_number)
}

impl Vault {
    /// Takes a message to be sent.
    ///
    /// # Errors
    /// [`SealError::TooLong`], or the store failed.
    pub fn queue(&self, thread: ThreadId, text: &str) -> Result<ClientSeq, SealError> {
        if text.len() > TEXT_MAX {
            return Err(SealError::TooLong(1));
        }
        self.store.write(|tx| {
            let number = next_number(tx)?;
            let (text, key, envelopes, allow_mismatch) = (text.to_owned(), String::new(), Vec::new(), false);
            let row = OutgoingRow { thread, text, key, envelopes, allow_mismatch };
            tx.put(OUTBOX, &outgoing_key(number), &row)?;
            Ok(number)
        })
    }

    /// What waits, of every thread, in the order it was taken.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn waiting(&self) -> Result<Vec<Outgoing>, StoreError> {
        let rows = self.store.read(|view| view.with_prefix::<OutgoingRow>(OUTBOX, b""))?;
        let number = |key: &[u8]| key.try_into().map(u64::from_be_bytes).ok().map(ClientSeq);
        Ok(rows.into_iter().filter_map(|(key, row)| Some(read(number(&key)?, row))).collect())
    }

    /// A message that waits; `None` when it does not.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn outgoing(&self, number: ClientSeq) -> Result<Option<Outgoing>, StoreError> {
        let row: Option<OutgoingRow> = self.store.read(|view| view.get(OUTBOX, &outgoing_key(number)))?;
        Ok(row.map(|row| read(number, row)))
    }

    /// A message will not be sent.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn give_up(&self, number: ClientSeq) -> Result<(), StoreError> {
        self.store.write(|tx| tx.delete(OUTBOX, &outgoing_key(number)))
    }

    /// Seals a message for these devices, less this one. Envelopes that an earlier sealing made for a device, and that
    /// still are for its present keys, are kept. Only once the cluster refused the earlier ones may this be called again.
    /// With `allow_mismatch` the cluster is told that a device may be left out.
    ///
    /// # Errors
    /// [`SealError`].
    pub fn seal(
        &self,
        number: ClientSeq,
        devices: &[(UserId, Device)],
        allow_mismatch: bool,
    ) -> Result<Draft, SealError> {
        self.store.write(|tx| {
            let mut row: OutgoingRow = tx.get(OUTBOX, &outgoing_key(number))?.ok_or(SealError::NotWaiting)?;
            let (thread, text) = (row.thread, row.text.clone());
            let kept = std::mem::take(&mut row.envelopes);
            row.envelopes = self.envelopes(tx, devices, &kept, |payload| Payload {
                thread,
                client_seq: number,
                text: text.clone(),
                ..payload
            })?;
            row.key = crate::fresh_key();
            row.allow_mismatch = allow_mismatch;
            tx.put(OUTBOX, &outgoing_key(number), &row)?;
            read(number, row).draft.ok_or(SealError::NotWaiting)
        })
    }

    /// Seals what a message of this device's is to say instead.
    ///
    /// # Errors
    /// [`SealError`].
    pub fn seal_edit(
        &self,
        thread: ThreadId,
        message: MessageId,
        text: &str,
        devices: &[(UserId, Device)],
    ) -> Result<Content, SealError> {
        self.store.write(|tx| {
            let client_seq = next_number(tx)?;
            let rows = self.envelopes(tx, devices, &[], |payload| Payload {
                thread,
                client_seq,
                edits: Some(message),
                text: text.to_owned(),
                ..payload
            })?;
            Ok(Content::Envelopes(rows.iter().map(Envelope::from).collect()))
        })
    }

    fn envelopes(
        &self,
        tx: &mut Tx<'_>,
        devices: &[(UserId, Device)],
        kept: &[EnvelopeRow],
        say: impl Fn(Payload) -> Payload,
    ) -> Result<Vec<EnvelopeRow>, SealError> {
        let (own, account) = account(tx)?;
        let identity = Identity::of(&account);
        let mut made = Vec::with_capacity(devices.len());
        for (user, device) in devices {
            if *user == self.user && device.device_id == self.device {
                continue;
            }
            let key = peer_key(user, &device.device_id);
            let missing = || SealError::NoSession(user.to_string(), device.device_id.to_string());
            let mut peer: PeerRow = tx.get(PEERS, &key)?.ok_or_else(missing)?;
            if peer.registration != device.registration_id {
                return Err(missing());
            }
            let same = |row: &&EnvelopeRow| {
                row.user == *user && row.device == device.device_id && row.registration == device.registration_id
            };
            if let Some(row) = kept.iter().find(same) {
                made.push(row.clone());
                continue;
            }
            let payload = say(Payload {
                version: VERSION,
                thread: ThreadId([0; 16]),
                sender: self.user.clone(),
                sender_device: self.device.clone(),
                recipient: user.clone(),
                recipient_device: device.device_id.clone(),
                client_seq: ClientSeq(0),
                edits: None,
                text: String::new(),
                sender_identity: bytes::Bytes::copy_from_slice(identity.as_bytes()),
                sender_registration: own.registration,
                recipient_identity: peer.identity.clone(),
            });
            let plaintext = payload.seal().map_err(|_| SealError::TooLong(devices.len()))?;
            let message = sessions::encrypt(&mut peer.sessions, &plaintext)?.ok_or_else(missing)?;
            tx.put(PEERS, &key, &peer)?;
            let (user, device, registration) = (user.clone(), device.device_id.clone(), device.registration_id);
            made.push(EnvelopeRow { user, device, registration, ciphertext: envelope(&message) });
        }
        if made.iter().map(|row| row.ciphertext.len()).sum::<usize>() > ENVELOPES_MAX {
            return Err(SealError::TooLong(devices.len()));
        }
        Ok(made)
    }
}
