//! What a user's threads have to know of the user.
//!
//! Owns: the form in which a user's shard tells the shards of the user's threads which devices it has and whom it blocks.
//! Must not know: keys, threads' rules.
//! Invariants: a profile is whole, never a change to one, so the highest version is all there is to know.

use crate::ids::{DeviceId, RegistrationId, ThreadId, UserId};

crate::wire_struct! {
    /// A user as its threads know it.
    #[derive(Default)]
    pub struct Profile {
        /// Grows with every change; 0 when there never was anything to tell.
        1 => version: u64,
        /// The version in which a device came, went, or changed its registration or identity last.
        2 => devices_version: u64,
        /// Devices that have keys published, in order of name, at most [`crate::limits::USER_DEVICES_MAX`].
        3 => devices: Vec<ProfileDevice>,
        /// Whom the user blocks, in order of name, at most [`crate::limits::USER_BLOCKS_MAX`].
        4 => blocks: Vec<UserId>,
    }
}

crate::wire_struct! {
    /// One of a user's devices.
    pub struct ProfileDevice { 1 => device: DeviceId, 2 => registration: RegistrationId }
}

crate::wire_struct! {
    /// To a shard of threads: what it has to know of a user. Threads the user is not in now take no notice.
    pub struct UpdateProfile {
        1 => user: UserId,
        2 => profile: Profile,
        /// At most [`crate::limits::PROFILE_THREADS_MAX`].
        3 => threads: Vec<ThreadId>,
    }
}

crate::wire_struct! {
    /// To a user's own shard: all the threads that were the user's have the profile up to a version.
    pub struct ProfileTold { 1 => user: UserId, 2 => version: u64 }
}

crate::wire_struct! {
    /// What a user's shard answered when it was told that the user is a member of a thread.
    pub struct NewMember { 1 => thread: ThreadId, 2 => user: UserId, 3 => profile: Profile }
}

impl Profile {
    /// Whether there never was anything to tell.
    #[must_use]
    pub fn is_blank(&self) -> bool {
        self.version == 0
    }
}
