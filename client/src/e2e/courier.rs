//! Between a vault and the cluster.
//!
//! Owns: publishing keys, finding out who has which devices, beginning sessions, and sending a message until it is in.
//! Must not know: what is inside a vault, and how anything looks.
//! Invariants: every loop is bounded; a message whose envelopes did not fit is sealed anew and sent under another key,
//! since the cluster says that the first try had no effect.

use super::outbox::SealError;
use super::vault::{News, Vault};
use crate::devices::{Device, DeviceRef, Mismatch};
use crate::error::ClientError;
use crate::live::LiveSender;
use crate::model::{Content, Message};
use crate::rest::Rest;
use crate::store::StoreError;
use messenger_proto::ids::{ClientSeq, MessageId, ThreadId, UserId};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// So often a message is sealed anew before it is given back: devices do not change that fast.
const SEALS_MAX: usize = 8;

/// Why a courier did not do it.
#[derive(Debug, thiserror::Error)]
pub enum CourierError {
    /// The cluster did not.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// The message cannot be sealed, or the store failed.
    #[error(transparent)]
    Seal(#[from] SealError),
    /// Nobody but this device could read it.
    #[error("nobody else has a device yet")]
    Nobody,
    /// The devices changed at every try.
    #[error("the devices of the conversation keep changing")]
    Changing,
}

impl From<StoreError> for CourierError {
    fn from(error: StoreError) -> Self {
        Self::Seal(SealError::Store(error))
    }
}

impl CourierError {
    /// Whether the message may be in all the same.
    #[must_use]
    pub fn may_have_had_effects(&self) -> bool {
        match self {
            Self::Client(error) => error.may_have_had_effects(),
            Self::Seal(_) | Self::Nobody | Self::Changing => false,
        }
    }

    /// Whether it is worth trying the same again later.
    #[must_use]
    pub fn passes(&self) -> bool {
        match self {
            Self::Client(error) => error.retryable() || matches!(error, ClientError::Closed(_)),
            Self::Nobody | Self::Changing => true,
            Self::Seal(_) => false,
        }
    }
}

/// Who has which devices, as far as it was asked and has not changed since.
#[derive(Debug, Default)]
pub struct Directory {
    known: BTreeMap<UserId, Vec<Device>>,
    /// Those whose keys were not believed.
    left_out: BTreeSet<DeviceRef>,
}

impl Directory {
    /// A user's devices, if they are known.
    #[must_use]
    pub fn of(&self, user: &UserId) -> Option<&[Device]> {
        self.known.get(user).map(Vec::as_slice)
    }
}

/// What a courier has to tell besides its answer.
pub type Told = Arc<dyn Fn(News) + Send + Sync>;

/// Carries between a vault and the cluster; clones share everything.
#[derive(Clone)]
pub struct Courier {
    rest: Rest,
    vault: Arc<Vault>,
    directory: Arc<Mutex<Directory>>,
    told: Told,
}

impl Courier {
    /// A courier; what it learns about devices goes to `told`.
    #[must_use]
    pub fn new(rest: Rest, vault: Arc<Vault>, told: Told) -> Self {
        Self { rest, vault, directory: Arc::default(), told }
    }

    fn directory(&self) -> MutexGuard<'_, Directory> {
        self.directory.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn tell(&self, news: Vec<News>) {
        for news in news {
            (self.told)(news);
        }
    }

    /// Publishes this device's keys, and as many one-time keys as are missing. A registration that the cluster takes no
    /// more is replaced, once.
    ///
    /// # Errors
    /// [`CourierError`].
    pub async fn publish(&self) -> Result<(), CourierError> {
        let device = self.vault.device().clone();
        let in_store = match self.rest.key_counts(&device).await {
            Ok(counts) => counts.one_time,
            Err(ClientError::Refused(problem)) if problem.status == 404 => 0,
            Err(error) => return Err(error.into()),
        };
        for _ in 0..2 {
            let keys = self.vault.publication(in_store)?;
            match self.rest.publish_keys(&device, &keys).await {
                Ok(_) => return Ok(self.vault.published(&keys)?),
                Err(ClientError::Refused(problem))
                    if matches!(problem.code.as_str(), "stale_registration" | "key_conflict") =>
                {
                    self.vault.renew_keys()?;
                }
                Err(error) => return Err(error.into()),
            }
        }
        Err(CourierError::Changing)
    }

    /// A user's devices changed.
    pub fn forget(&self, user: &UserId) {
        self.directory().known.remove(user);
    }

    /// Nothing is known any more: it may have changed unheard.
    pub fn forget_all(&self) {
        self.directory().known.clear();
    }

    /// Who of these users is known to have no device.
    #[must_use]
    pub fn without_devices(&self, users: &[UserId]) -> Vec<UserId> {
        let directory = self.directory();
        let has_none = |user: &&UserId| directory.of(user).is_some_and(<[Device]>::is_empty);
        users.iter().filter(has_none).cloned().collect()
    }

    /// The present devices of these users, each with a session; those whose keys are not believed are left out.
    ///
    /// # Errors
    /// [`CourierError::Client`], or the store failed.
    pub async fn devices_of(&self, users: &[UserId]) -> Result<Vec<(UserId, Device)>, CourierError> {
        let mut found = Vec::new();
        for user in users {
            let known = self.directory().of(user).map(<[Device]>::to_vec);
            let devices = match known {
                Some(devices) => devices,
                None => self.find_out(user).await?,
            };
            found.extend(devices.into_iter().map(|device| (user.clone(), device)));
        }
        Ok(found)
    }

    async fn find_out(&self, user: &UserId) -> Result<Vec<Device>, CourierError> {
        let mut devices = self.rest.devices(user).await?;
        let (news, needed) = self.vault.compare(user, &devices)?;
        self.tell(news);
        let mut ready = BTreeSet::new();
        for device in &needed {
            let bundles = match self.rest.take_keys(user, Some(device), &crate::fresh_key()).await {
                Ok(bundles) => bundles,
                // It is gone, or nothing is left of its keys: the cluster will say so when the message comes.
                Err(ClientError::Refused(problem))
                    if matches!(problem.code.as_str(), "not_found" | "prekeys_exhausted") =>
                {
                    continue;
                }
                Err(error) => return Err(error.into()),
            };
            for bundle in bundles.devices.iter().filter(|bundle| bundle.device_id == *device) {
                let whose = DeviceRef { user_id: user.clone(), device_id: device.clone() };
                let news = self.vault.learn(user, bundle)?;
                if news.iter().any(|news| matches!(news, News::NotBelieved(..))) {
                    if !self.directory().left_out.insert(whose) {
                        continue;
                    }
                } else {
                    ready.insert((device.clone(), bundle.registration_id));
                    self.directory().left_out.remove(&whose);
                }
                self.tell(news);
            }
        }
        if !devices.is_empty() {
            self.vault.met(user)?;
        }
        devices.retain(|device| {
            !needed.contains(&device.device_id) || ready.contains(&(device.device_id.clone(), device.registration_id))
        });
        self.directory().known.insert(user.clone(), devices.clone());
        Ok(devices)
    }

    /// Sends a message that waits, and comes back when it is committed and kept.
    ///
    /// # Errors
    /// [`CourierError`]; the message goes on waiting.
    pub async fn deliver(
        &self,
        live: &LiveSender,
        thread: ThreadId,
        number: ClientSeq,
        mut members: Vec<UserId>,
    ) -> Result<Option<Message>, CourierError> {
        for _ in 0..SEALS_MAX {
            let Some(waiting) = self.vault.outgoing(number)? else { return Ok(None) };
            // What was sealed before may be in already: it is asked about as it was.
            let draft = match waiting.draft {
                Some(draft) => draft,
                None => self.vault.seal(number, &self.recipients(&members).await?, false)?,
            };
            match live.begin(thread, draft).await?.committed().await {
                Ok(sent) => return self.keep(sent.message).map(Some),
                Err(ClientError::Refused(problem)) => match (&problem.existing, &problem.mismatch) {
                    (Some(existing), _) => return self.keep(existing.as_ref().clone()).map(Some),
                    (None, Some(mismatch)) => {
                        members = self.members(thread, mismatch).await?;
                        let devices = self.recipients(&members).await?;
                        self.vault.seal(number, &devices, self.is_left_out(mismatch))?;
                    }
                    (None, None) => return Err(ClientError::Refused(problem).into()),
                },
                Err(error) => return Err(error.into()),
            }
        }
        Err(CourierError::Changing)
    }

    /// Edits a message of this device's.
    ///
    /// # Errors
    /// [`CourierError`].
    pub async fn edit(
        &self,
        thread: ThreadId,
        message: MessageId,
        text: &str,
        mut members: Vec<UserId>,
    ) -> Result<(), CourierError> {
        for _ in 0..SEALS_MAX {
            let devices = self.recipients(&members).await?;
            let content: Content = self.vault.seal_edit(thread, message, text, &devices)?;
            match self.rest.edit(message, &content).await {
                Ok(_) => {
                    self.vault.edited_here(thread, message, text)?;
                    return Ok(());
                }
                Err(ClientError::Refused(problem)) => match &problem.mismatch {
                    Some(mismatch) => members = self.members(thread, mismatch).await?,
                    None => return Err(ClientError::Refused(problem).into()),
                },
                Err(error) => return Err(error.into()),
            }
        }
        Err(CourierError::Changing)
    }

    async fn recipients(&self, members: &[UserId]) -> Result<Vec<(UserId, Device)>, CourierError> {
        let devices = self.devices_of(members).await?;
        if devices.iter().any(|(user, _)| user != self.vault.user()) {
            return Ok(devices);
        }
        // Perhaps somebody came in the meantime.
        self.forget_all();
        Err(CourierError::Nobody)
    }

    /// Whose devices did not fit is asked anew, and who is in the thread.
    async fn members(&self, thread: ThreadId, mismatch: &Mismatch) -> Result<Vec<UserId>, CourierError> {
        let Mismatch { missing_devices, extra_devices, stale_devices } = mismatch;
        for device in missing_devices.iter().chain(extra_devices).chain(stale_devices) {
            self.forget(&device.user_id);
        }
        Ok(self.rest.thread(thread).await?.participants.into_iter().map(|member| member.user_id).collect())
    }

    /// Whether all that did not fit are devices that are not written to because their keys are not believed: one device
    /// with bad keys must not silence everybody.
    fn is_left_out(&self, mismatch: &Mismatch) -> bool {
        let left_out = &self.directory().left_out;
        let Mismatch { missing_devices, extra_devices, stale_devices } = mismatch;
        let fits = extra_devices.is_empty() && stale_devices.is_empty();
        fits && missing_devices.iter().all(|device| left_out.contains(device))
    }

    fn keep(&self, message: Message) -> Result<Message, CourierError> {
        let received = self.vault.take(&message)?;
        self.tell(received.news);
        Ok(message)
    }
}
