//! What of a user is suspended.
//!
//! Owns: the JSON of `GET /admin/users/{user_id}`, with which changes are answered too.
//! Must not know: what follows from it.

use crate::api::time::Rfc3339;
use serde::{Deserialize, Serialize};

/// A user.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UserState {
    /// The user.
    pub user_id: String,
    /// Whether it was ever in a thread, or has a device with keys; it may have a token all the same.
    pub known: bool,
    /// With all its devices.
    pub suspended: bool,
    /// Since when, if it is.
    pub since: Option<Rfc3339>,
    /// Those that are suspended by themselves.
    pub devices: Vec<SuspendedDevice>,
}

/// A device that is suspended by itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SuspendedDevice {
    /// The device.
    pub device_id: String,
    /// Since when.
    pub since: Rfc3339,
}
