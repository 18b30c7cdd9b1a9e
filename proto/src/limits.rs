//! Bounds that clients and operators can rely on.
//!
//! Owns: every size, count and time bound that more than one crate needs.
//! Must not know: how a bound is enforced.

use std::time::Duration;

/// Nodes a cluster's record lists at most, removed ones included: their ids are never given again.
pub const NODES_MAX: usize = 1_000;
/// Bytes of a zone's name at most.
pub const ZONE_MAX: usize = 64;
/// Bytes of a node's address at most.
pub const ADDRESS_MAX: usize = 64;
/// Members of a thread at most.
pub const THREAD_MEMBERS_MAX: usize = 250;
/// Decoded bytes of a message's ciphertext at most.
pub const CIPHERTEXT_MAX: usize = 64 * 1024;
/// Decoded bytes of all the envelopes of a message at most; what a request body can hold is less.
pub const ENVELOPES_BYTES_MAX: usize = 1024 * 1024;
/// Envelopes of a message at most.
pub const ENVELOPES_MAX: usize = THREAD_MEMBERS_MAX * USER_DEVICES_MAX;
/// The highest number that an envelope's kind can be.
pub const ENVELOPE_KIND_MAX: u32 = i32::MAX as u32;
/// Bytes of a name that an envelope's kind can be, UTF-8.
pub const ENVELOPE_KIND_NAME_MAX: usize = 32;
/// Bytes of a request body at most.
pub const BODY_MAX: usize = 1024 * 1024;
/// Bytes of a thread's title at most, UTF-8.
pub const TITLE_MAX: usize = 256;
/// Bytes of a thread's description at most, UTF-8.
pub const DESCRIPTION_MAX: usize = 2048;
/// Attachments of a message at most.
pub const ATTACHMENTS_MAX: usize = 32;
/// Bytes of one attachment's JSON at most.
pub const ATTACHMENT_MAX: usize = 1024;
/// Characters of an Idempotency-Key at most.
pub const IDEMPOTENCY_KEY_MAX: usize = 64;
/// How long after it was sent a message may be edited or deleted by its sender.
pub const CHANGE_WINDOW: Duration = Duration::from_mins(15);
/// The longest life of a disappearing message, a year.
pub const TTL_MAX: Duration = Duration::from_hours(365 * 24);
/// Bytes of an emoji at most, UTF-8.
pub const EMOJI_MAX: usize = 64;
/// Reactions of one user to one message at most.
pub const USER_REACTIONS_MAX: usize = 20;
/// Reactions to one message at most, of all users: they take about as much as the longest ciphertext.
pub const MESSAGE_REACTIONS_MAX: usize = 1_000;
/// Pinned messages of a thread at most.
pub const PINS_MAX: usize = 3;
/// Devices of a user that have keys published at most.
pub const USER_DEVICES_MAX: usize = 32;
/// Deleted devices of a user that are remembered; of more, those that were deleted last.
pub const DELETED_DEVICES_MAX: usize = 1_000;
/// Former registrations of a device that are remembered, so that none comes back; of more, the last.
pub const FORMER_REGISTRATIONS_MAX: usize = 64;
/// Bytes of an identity key, a curve's public key at most.
pub const CURVE_KEY_MAX: usize = 256;
/// Bytes of a post-quantum public key or of a signature at most.
pub const PQ_KEY_MAX: usize = 2048;
/// Devices of a user that are suspended by themselves at most.
pub const SUSPENDED_DEVICES_MAX: usize = 64;
/// Bytes of a report's note at most, UTF-8.
pub const REPORT_NOTE_MAX: usize = 2_000;
/// Reports of one user that are kept; of more, the newest.
pub const USER_REPORTS_MAX: usize = 100;
/// How long a report is kept; what is older is shown to nobody, and goes as others are filed.
pub const REPORT_RETENTION: Duration = Duration::from_hours(90 * 24);
/// Reports that one question to a shard is answered with at most.
pub const REPORTS_PAGE_MAX: u32 = 200;
/// One-time keys of a kind in one publication at most.
pub const PREKEYS_PER_PUT: usize = 100;
/// One-time keys of a kind that a device has in store at most.
pub const PREKEYS_STORED_MAX: usize = 1_000;
/// A device with fewer one-time keys of a kind is told so.
pub const PREKEYS_LOW: u32 = 20;
/// Ranges in which the numbers of keys that were handed out are kept; of more, those closest to each other become one.
pub const SPENT_RANGES_MAX: usize = 128;
/// Threads that one command takes a profile for at most.
pub const PROFILE_THREADS_MAX: usize = 500;
/// Users that one user blocks at most.
pub const USER_BLOCKS_MAX: usize = 1_000;
/// How long after it failed a message may be sent again.
pub const RESEND_WINDOW: Duration = Duration::from_hours(24);
/// Rows of a page at most.
pub const PAGE_MAX: u32 = 100;
/// Rows of a page when the client names no number.
pub const PAGE_DEFAULT: u32 = 50;
/// `unread_count` counts no further.
pub const UNREAD_MAX: u32 = 999;
/// Threads a user may be in; beyond it a gateway refuses creations and invitations, having asked the user's shard. Those
/// that pass the check at the same time may go a little over it.
pub const USER_THREADS_MAX: usize = 10_000;
/// How long a device that was away is told of a thread that its user left meanwhile.
pub const DEPARTURE_RETENTION: Duration = Duration::from_hours(30 * 24);
/// Departures of a user that its devices are told of; of more, the newest.
pub const DEPARTURES_MAX: usize = 1_000;
/// Events of one thread that resume replays at most; beyond it a `gap` frame stands for the older ones.
pub const RESUME_EVENTS_MAX: u64 = 10_000;
/// Events that follow a `gap` frame.
pub const GAP_TAIL: u64 = 1_000;
/// How long a typing is shown unless it is told again.
pub const TYPING_TTL: Duration = Duration::from_secs(5);
/// Between two typings of one sender in a thread that are passed on; a stop is passed on at once.
pub const TYPING_INTERVAL: Duration = Duration::from_secs(3);
/// Clock difference between shard leaders that resume by `last_seen_id` tolerates.
pub const CLOCK_OVERLAP: Duration = Duration::from_secs(5);
/// How long an Idempotency-Key is remembered.
pub const KEYED_RETENTION: Duration = Duration::from_hours(24);
/// How long an id minted by a gateway for its own retries is remembered.
pub const MINTED_RETENTION: Duration = Duration::from_mins(10);
/// Bytes of one packed log entry at most, unless a single command is larger.
pub const PACK_MAX: usize = 1024 * 1024;
/// A clock stamp this far ahead of a shard's own clock is refused, not replicated.
pub const CLOCK_SKEW_MAX: Duration = Duration::from_millis(500);
