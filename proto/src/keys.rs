//! Devices and the public keys they publish.
//!
//! Owns: what a device publishes, what is handed out of it, and the commands, questions and events about both.
//! Must not know: what a key means; its bytes are opaque here.
//! Invariants: a one-time key is known by its device, the device's registration, its kind and its `key_id`.

use crate::ids::{DeviceId, KeyId, Millis, RegistrationId, ThreadId, UserId};
use bytes::Bytes;

crate::wire_code! {
    /// The kinds of one-time keys.
    pub enum KeyKind {
        1 => OneTime = "one_time",
        2 => PqOneTime = "pq_one_time",
    }
}

crate::wire_struct! {
    /// One public key.
    pub struct Prekey {
        1 => id: KeyId,
        2 => public_key: Bytes,
        /// By the identity key, of those that have one.
        3 => signature: Option<Bytes>,
    }
}

crate::wire_struct! {
    /// What a device publishes about itself.
    pub struct PublishKeys {
        1 => user: UserId,
        2 => device: DeviceId,
        /// When the token was issued that it came with: a device that was deleted since is refused.
        3 => issued_at: Millis,
        4 => keys: Box<PublishedKeys>,
    }
}

crate::wire_struct! {
    /// The keys of a publication.
    pub struct PublishedKeys {
        1 => registration: RegistrationId,
        2 => identity_key: Bytes,
        3 => signed_prekey: Prekey,
        /// To be added; those that were handed out are passed over.
        4 => one_time: Vec<Prekey>,
        5 => pq_one_time: Vec<Prekey>,
        /// `None` leaves the one there is.
        6 => last_resort: Option<Prekey>,
        7 => pq_last_resort: Option<Prekey>,
    }
}

crate::wire_struct! {
    /// Takes one one-time key of each kind of each device of a user, or of one device; never of the taker itself.
    pub struct TakePrekeys {
        1 => user: UserId,
        2 => device: Option<DeviceId>,
        3 => taker: UserId,
        4 => taker_device: DeviceId,
    }
}

crate::wire_struct! {
    /// Deletes a device: its keys are gone, and its tokens issued so far are worth nothing.
    pub struct DeleteDevice { 1 => user: UserId, 2 => device: DeviceId }
}

crate::wire_struct! {
    /// What a device has in store.
    pub struct KeyCounts {
        1 => one_time: u32,
        2 => pq_one_time: u32,
        3 => updated_at: Millis,
    }
}

crate::wire_struct! {
    /// What it takes to write to a device for the first time.
    pub struct Bundle {
        1 => device: DeviceId,
        2 => registration: RegistrationId,
        3 => identity_key: Bytes,
        4 => signed_prekey: Prekey,
        5 => one_time: Option<OfferedKey>,
        6 => pq: Option<OfferedKey>,
    }
}

crate::wire_struct! {
    /// A key that was handed out.
    pub struct OfferedKey {
        1 => key: Prekey,
        /// It is no one-time key, but the one that stands in when there are none.
        2 => last_resort: bool,
    }
}

crate::wire_struct! {
    /// What was taken, in order of device.
    pub struct Bundles {
        1 => devices: Vec<Bundle>,
        /// Devices that had nothing left.
        2 => exhausted: Vec<DeviceId>,
    }
}

crate::wire_struct! {
    /// A user's devices that published keys. Answer: [`DevicesAnswer`].
    pub struct DevicesQuery { 1 => user: UserId }
}

crate::wire_struct! {
    /// In order of name.
    pub struct DevicesAnswer { 1 => devices: Vec<DeviceInfo> }
}

crate::wire_struct! {
    /// One device.
    pub struct DeviceInfo { 1 => device: DeviceId, 2 => registration: RegistrationId, 3 => updated_at: Millis }
}

crate::wire_struct! {
    /// What a device has in store. Answer: [`KeyCounts`].
    pub struct KeyCountsQuery { 1 => user: UserId, 2 => device: DeviceId }
}

crate::wire_struct! {
    /// Whether a device may speak, and whether it runs out of keys. Answer: [`DeviceStatus`].
    pub struct DeviceStatusQuery { 1 => user: UserId, 2 => device: DeviceId }
}

crate::wire_struct! {
    /// See [`DeviceStatusQuery`].
    pub struct DeviceStatus {
        /// Tokens issued up to then are worth nothing.
        1 => revoked_at: Option<Millis>,
        /// One-time keys left, when they are fewer than [`crate::limits::PREKEYS_LOW`].
        2 => low: Option<u32>,
        /// An operator suspended it, or its user.
        70 => suspended: bool,
    }
}

crate::wire_struct! {
    /// A user's device came, was deleted, or is another one under the same name.
    pub struct DeviceEvent { 1 => user: UserId, 2 => device: DeviceId, 3 => at: Millis, 4 => deleted: bool }
}

crate::wire_struct! {
    /// A device has few one-time keys left of some kind.
    pub struct PrekeysLow { 1 => user: UserId, 2 => device: DeviceId, 3 => remaining: u32 }
}

crate::wire_struct! {
    /// A member's devices changed.
    pub struct MemberDevices {
        1 => thread: ThreadId,
        2 => user: UserId,
        /// [`crate::profile::Profile::devices_version`]: tells one change from another, whichever thread it is told in.
        3 => version: u64,
    }
}
