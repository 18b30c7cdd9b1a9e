//! A device's keys and sessions, and what it has read and is to send: the state, and its changes as single writes.
//!
//! Owns: opening the store, the device's own keys and what it publishes of them, what is known of other devices.
//! Must not know: the network.
//! Invariants: each method is one atomic write or one read; what it answers is on disk. Nothing is kept in memory but
//! whose vault it is.

use super::identity::{BadBundle, Identity, KeyUse, Owner, believe, publish};
use super::rows::{
    ACCOUNT, ALL, AccountRow, HISTORY, KeyRow, ONLY, PEERS, PeerRow, Record, THREADS, ThreadRow, USERS, UserRow,
    peer_key, peer_of, peers_of,
};
use super::sessions;
use crate::devices::{Bundle, Device, DeviceRef, Prekey, PublishKeys};
use crate::model::Thread;
use crate::store::{Store, StoreError, Tx};
use bytes::Bytes;
use messenger_proto::ids::{ClientSeq, DeviceId, MessageId, Millis, ThreadId, UserId};
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use vodozemac::olm::Account;

/// One-time keys that a device means to have published.
const KEYS_WANTED: u32 = 50;
/// The key that stands in for one-time keys is replaced after this.
const FALLBACK_AGE: Duration = Duration::from_hours(7 * 24);
/// Registration ids are this large at most: other clients keep them in 31 bits.
const REGISTRATION_MAX: u64 = 0x7fff_ffff;

/// What the person should hear about devices.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum News {
    /// A user whose devices were known has another one.
    NewDevice(DeviceRef),
    /// A device has other keys than before.
    NewKeys(DeviceRef),
    /// A device is gone.
    Gone(DeviceRef),
    /// What a device published is not believed, and it is not written to.
    NotBelieved(DeviceRef, BadBundle),
}

/// A device's own state.
pub struct Vault {
    pub(super) store: Store,
    pub(super) user: UserId,
    pub(super) device: DeviceId,
}

pub(super) fn now() -> Millis {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Millis(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}

impl Vault {
    /// Opens the vault in a directory, which is made if there is none, with new keys.
    ///
    /// # Errors
    /// [`StoreError`]: in use, damaged, or not to be read.
    pub fn open(directory: &Path, user: UserId, device: DeviceId) -> Result<Self, StoreError> {
        Self::over(Store::open(directory, &ALL)?, user, device)
    }

    /// A vault in an open store.
    pub(super) fn over(store: Store, user: UserId, device: DeviceId) -> Result<Self, StoreError> {
        let vault = Self { store, user, device };
        vault.store.write(|tx| match tx.get::<AccountRow>(ACCOUNT, ONLY)? {
            Some(_) => Ok(()),
            None => tx.put(ACCOUNT, ONLY, &new_account()?),
        })?;
        Ok(vault)
    }

    /// Whose it is.
    #[must_use]
    pub fn user(&self) -> &UserId {
        &self.user
    }

    /// Which device's.
    #[must_use]
    pub fn device(&self) -> &DeviceId {
        &self.device
    }

    fn account_row(&self) -> Result<AccountRow, StoreError> {
        let row = self.store.read(|view| view.get::<AccountRow>(ACCOUNT, ONLY))?;
        row.ok_or(StoreError::Damaged("the keys are missing"))
    }

    /// This device's identity.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn identity(&self) -> Result<Identity, StoreError> {
        Ok(Identity::of(&sessions::restore_account(&self.account_row()?.pickle)?))
    }

    /// Names this device's set of keys.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn registration(&self) -> Result<u64, StoreError> {
        Ok(self.account_row()?.registration)
    }

    /// What to publish when the cluster holds so many of this device's one-time keys. Until [`Vault::published`] says
    /// that it arrived, the same keys are answered again.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn publication(&self, in_store: u32) -> Result<PublishKeys, StoreError> {
        self.store.write(|tx| {
            let (mut row, mut own) = account(tx)?;
            if now().0.saturating_sub(row.fallback_made_at.0)
                > u64::try_from(FALLBACK_AGE.as_millis()).unwrap_or(u64::MAX)
            {
                replace_fallback(&mut row, &mut own)?;
            }
            let missing = KEYS_WANTED.saturating_sub(in_store);
            if row.unpublished.is_empty() && missing > 0 {
                own.generate_one_time_keys(missing as usize);
                for key in own.one_time_keys().into_values() {
                    row.last_key_id += 1;
                    row.unpublished.push(KeyRow { id: row.last_key_id, key: Bytes::copy_from_slice(key.as_bytes()) });
                }
                // From here on it is this row that knows which are to be published.
                own.mark_keys_as_published();
            }
            row.pickle = sessions::keep_account(&own)?;
            tx.put(ACCOUNT, ONLY, &row)?;
            Ok(self.shown(&row, &own))
        })
    }

    fn shown(&self, row: &AccountRow, account: &Account) -> PublishKeys {
        let owner = Owner { user: &self.user, device: &self.device, registration: row.registration };
        let signed = |key_use, key: &KeyRow| -> Prekey { publish(account, owner, key_use, key.id, &key.key) };
        PublishKeys {
            registration_id: row.registration,
            identity_key: Bytes::copy_from_slice(Identity::of(account).as_bytes()),
            signed_prekey: signed(KeyUse::Signed, &row.fallback),
            one_time_prekeys: row.unpublished.iter().map(|key| signed(KeyUse::OneTime, key)).collect(),
            last_resort: Some(signed(KeyUse::LastResort, &row.fallback)),
        }
    }

    /// A publication arrived.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn published(&self, keys: &PublishKeys) -> Result<(), StoreError> {
        self.store.write(|tx| {
            let (mut row, _) = account(tx)?;
            row.unpublished.retain(|key| !keys.one_time_prekeys.iter().any(|sent| sent.key_id == key.id));
            tx.put(ACCOUNT, ONLY, &row)
        })
    }

    /// The cluster does not take this registration any more: a new set of keys, under a new one. Sessions are of the old
    /// set and go with it; history stays.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn renew_keys(&self) -> Result<(), StoreError> {
        self.store.write(|tx| {
            let (old, _) = account(tx)?;
            let row = AccountRow { last_number: old.last_number, ..new_account()? };
            for (key, mut peer) in tx.with_prefix::<PeerRow>(PEERS, b"")? {
                peer.sessions.clear();
                tx.put(PEERS, &key, &peer)?;
            }
            tx.put(ACCOUNT, ONLY, &row)
        })
    }

    /// Compares a user's devices with those that are known; says which are gone, and which need a bundle before they
    /// can be written to.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn compare(&self, user: &UserId, devices: &[Device]) -> Result<(Vec<News>, Vec<DeviceId>), StoreError> {
        self.store.write(|tx| {
            let (mut news, mut needed) = (Vec::new(), Vec::new());
            for (key, mut peer) in tx.with_prefix::<PeerRow>(PEERS, &peers_of(user))? {
                let Some(whose) = peer_of(&key) else { continue };
                let listed = devices.iter().any(|device| device.device_id == whose.device_id);
                if !listed && !peer.gone {
                    peer.gone = true;
                    peer.sessions.clear();
                    tx.put(PEERS, &key, &peer)?;
                    news.push(News::Gone(whose));
                }
            }
            for device in devices {
                let own = *user == self.user && device.device_id == self.device;
                let peer: Option<PeerRow> = tx.get(PEERS, &peer_key(user, &device.device_id))?;
                let ready = peer.is_some_and(|peer| {
                    peer.registration == device.registration_id
                        && !peer.sessions.is_empty()
                        && !peer.renew
                        && !peer.gone
                });
                if !own && !ready {
                    needed.push(device.device_id.clone());
                }
            }
            Ok((news, needed))
        })
    }

    /// All devices of a user were met: from now on another one is news.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn met(&self, user: &UserId) -> Result<(), StoreError> {
        self.store.write(|tx| tx.put(USERS, user.as_str().as_bytes(), &UserRow { met: true }))
    }

    /// Begins a session by a bundle, if that is believed.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn learn(&self, user: &UserId, bundle: &Bundle) -> Result<Vec<News>, StoreError> {
        let whose = DeviceRef { user_id: user.clone(), device_id: bundle.device_id.clone() };
        let believed = match believe(user, bundle) {
            Ok(believed) => believed,
            Err(why) => return Ok(vec![News::NotBelieved(whose, why)]),
        };
        self.store.write(|tx| {
            let (_, own) = account(tx)?;
            let Some(session) = sessions::begin(&own, &believed)? else {
                return Ok(vec![News::NotBelieved(whose.clone(), BadBundle::Form)]);
            };
            let (mut peer, news) = meet(tx, &whose, &believed.identity, bundle.registration_id)?;
            peer.renew = false;
            sessions::add(&mut peer.sessions, session);
            tx.put(PEERS, &peer_key(user, &bundle.device_id), &peer)?;
            Ok(news.into_iter().collect())
        })
    }

    /// The identities of a user's present devices, as far as they are known; this device's own too.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn identities(&self, user: &UserId) -> Result<Vec<(DeviceId, Identity)>, StoreError> {
        let rows = self.store.read(|view| view.with_prefix::<PeerRow>(PEERS, &peers_of(user)))?;
        let mut found = Vec::new();
        for (key, peer) in rows.into_iter().filter(|(_, peer)| !peer.gone) {
            if let (Some(whose), Some(identity)) = (peer_of(&key), Identity::from_slice(&peer.identity)) {
                found.push((whose.device_id, identity));
            }
        }
        if *user == self.user {
            found.push((self.device.clone(), self.identity()?));
        }
        Ok(found)
    }

    /// The newest messages of a thread that this device has, oldest first.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn history(&self, thread: ThreadId, count: usize) -> Result<Vec<Record>, StoreError> {
        let rows = self.store.read(|view| view.last_with_prefix::<Record>(HISTORY, &thread.0, count))?;
        Ok(rows.into_iter().rev().map(|(_, record)| record).collect())
    }

    /// Keeps what a thread is, under the name it was asked for.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn remember(&self, name: &str, thread: &Thread) -> Result<(), StoreError> {
        let json = serde_json::to_vec(thread).map(Bytes::from).map_err(StoreError::database)?;
        self.store.write(|tx| tx.put(THREADS, name.as_bytes(), &ThreadRow { json }))
    }

    /// What a thread was when it was last entered.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn remembered(&self, name: &str) -> Result<Option<Thread>, StoreError> {
        let row: Option<ThreadRow> = self.store.read(|view| view.get(THREADS, name.as_bytes()))?;
        Ok(row.and_then(|row| serde_json::from_slice(&row.json).ok()))
    }

    /// One message.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn record(&self, thread: ThreadId, id: MessageId) -> Result<Option<Record>, StoreError> {
        self.store.read(|view| view.get(HISTORY, &super::rows::message_key(thread, id)))
    }
}

/// This device's own keys.
pub(super) fn account(tx: &Tx<'_>) -> Result<(AccountRow, Account), StoreError> {
    let row = tx.get::<AccountRow>(ACCOUNT, ONLY)?.ok_or(StoreError::Damaged("the keys are missing"))?;
    let account = sessions::restore_account(&row.pickle)?;
    Ok((row, account))
}

pub(super) fn own_identity(tx: &Tx<'_>) -> Result<Identity, StoreError> {
    Ok(Identity::of(&account(tx)?.1))
}

/// What is known of a device once these are its keys; and what is new about that.
pub(super) fn meet(
    tx: &Tx<'_>,
    whose: &DeviceRef,
    identity: &Identity,
    registration: u64,
) -> Result<(PeerRow, Option<News>), StoreError> {
    let key = peer_key(&whose.user_id, &whose.device_id);
    let fresh = PeerRow {
        identity: Bytes::copy_from_slice(identity.as_bytes()),
        registration,
        sessions: Vec::new(),
        renew: false,
        gone: false,
    };
    match tx.get::<PeerRow>(PEERS, &key)? {
        Some(known) if known.identity == fresh.identity && known.registration == registration => {
            Ok((PeerRow { gone: false, ..known }, None))
        }
        Some(_) => Ok((fresh, Some(News::NewKeys(whose.clone())))),
        // The devices a user has when they are first met are trusted; later ones are told.
        None => {
            let is_met = tx.get::<UserRow>(USERS, whose.user_id.as_str().as_bytes())?.is_some();
            Ok((fresh, is_met.then(|| News::NewDevice(whose.clone()))))
        }
    }
}

fn new_account() -> Result<AccountRow, StoreError> {
    let mut account = Account::new();
    let mut row = AccountRow {
        pickle: Bytes::new(),
        registration: rand::random_range(1..=REGISTRATION_MAX),
        last_key_id: 0,
        fallback: KeyRow { id: 0, key: Bytes::new() },
        fallback_made_at: Millis(0),
        unpublished: Vec::new(),
        last_number: ClientSeq(0),
    };
    replace_fallback(&mut row, &mut account)?;
    row.pickle = sessions::keep_account(&account)?;
    Ok(row)
}

/// A new stand-in for one-time keys; the one before stays good for what is under way.
fn replace_fallback(row: &mut AccountRow, account: &mut Account) -> Result<(), StoreError> {
    account.generate_fallback_key();
    let key = account.fallback_key().into_values().next().ok_or(StoreError::Damaged("no key was made"))?;
    account.mark_keys_as_published();
    row.last_key_id += 1;
    row.fallback = KeyRow { id: row.last_key_id, key: Bytes::copy_from_slice(key.as_bytes()) };
    row.fallback_made_at = now();
    Ok(())
}
