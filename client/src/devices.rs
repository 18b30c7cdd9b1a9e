//! Devices and their keys, in types.
//!
//! Owns: the JSON shapes of device lists, published keys, bundles and envelopes, as the client contract has them.
//! Must not know: what a key is for.
//! Invariants: unknown members are ignored, so that a newer cluster can be talked to.

use crate::text::{base64_bytes, base64_option, shown};
use bytes::Bytes;
use messenger_proto::ids::{DeviceId, UserId};
use serde::{Deserialize, Serialize};

/// A device that has keys published.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Device {
    /// Its id.
    #[serde(with = "shown")]
    pub device_id: DeviceId,
    /// Names its set of keys.
    pub registration_id: u64,
    /// RFC 3339.
    #[serde(default)]
    pub updated_at: String,
}

#[derive(Debug, Deserialize)]
pub(crate) struct DeviceList {
    pub(crate) devices: Vec<Device>,
}

/// Which device of whom.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct DeviceRef {
    /// Whose.
    #[serde(with = "shown")]
    pub user_id: UserId,
    /// Which.
    #[serde(with = "shown")]
    pub device_id: DeviceId,
}

/// Why a message's envelopes were refused: with `device_mismatch`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
pub struct Mismatch {
    /// Devices without an envelope.
    #[serde(default)]
    pub missing_devices: Vec<DeviceRef>,
    /// Envelopes without a device.
    #[serde(default)]
    pub extra_devices: Vec<DeviceRef>,
    /// Devices that have another set of keys now.
    #[serde(default)]
    pub stale_devices: Vec<DeviceRef>,
}

/// What one device is sent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Envelope {
    /// Whose device.
    #[serde(with = "shown")]
    pub user_id: UserId,
    /// Which.
    #[serde(with = "shown")]
    pub device_id: DeviceId,
    /// The set of keys it was made for.
    pub registration_id: u64,
    /// For that device alone.
    #[serde(with = "base64_bytes")]
    pub ciphertext: Bytes,
}

/// A public key with its number.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Prekey {
    /// Unique within the set of keys.
    pub key_id: u64,
    /// Opaque to the cluster.
    #[serde(with = "base64_bytes")]
    pub public_key: Bytes,
    /// Where the kind has one.
    #[serde(default, skip_serializing_if = "Option::is_none", with = "base64_option")]
    pub signature: Option<Bytes>,
}

/// What a device publishes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PublishKeys {
    /// Names the set of keys.
    pub registration_id: u64,
    /// The device's own.
    #[serde(with = "base64_bytes")]
    pub identity_key: Bytes,
    /// Signed by the identity.
    pub signed_prekey: Prekey,
    /// Each given out once.
    pub one_time_prekeys: Vec<Prekey>,
    /// Given out when there is no other.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_resort: Option<Prekey>,
}

/// How many one-time keys a device has left.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub struct KeyCounts {
    /// Of the usual kind.
    pub one_time: u32,
}

/// What it takes to write to one device for the first time.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Bundle {
    /// Which.
    #[serde(with = "shown")]
    pub device_id: DeviceId,
    /// Names its set of keys.
    pub registration_id: u64,
    /// The device's own.
    #[serde(with = "base64_bytes")]
    pub identity_key: Bytes,
    /// Signed by the identity.
    pub signed_prekey: Prekey,
    /// Given to nobody else, unless it is the last resort.
    #[serde(default)]
    pub one_time_prekey: Option<Prekey>,
}

/// What it takes to write to a user's devices.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Bundles {
    /// One per device.
    pub devices: Vec<Bundle>,
    /// Devices that have nothing left to give.
    #[serde(default)]
    pub exhausted: Vec<String>,
}
