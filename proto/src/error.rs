//! Error codes: one vocabulary for commands, queries, REST and realtime.
//!
//! Owns: for every code its HTTP status, whether a retry may help, and whether it may have had effects.
//! Must not know: how an error is rendered.
//! Invariants: the matches are exhaustive, so a new code cannot go without its answers; codes are never reused.

use crate::envelope::DeviceMismatch;
use crate::model::Message;

crate::wire_code! {
    /// Why a request was not carried out.
    pub enum ErrorCode {
        1 => InvalidRequest = "invalid_request",
        2 => InvalidCursor = "invalid_cursor",
        3 => Unauthenticated = "unauthenticated",
        4 => TokenExpired = "token_expired",
        5 => MissingScope = "missing_scope",
        6 => Forbidden = "forbidden",
        7 => NotAMember = "not_a_member",
        8 => NotFound = "not_found",
        9 => MethodNotAllowed = "method_not_allowed",
        10 => NotAGroup = "not_a_group",
        11 => ThreadFull = "thread_full",
        12 => DuplicateClientSeq = "duplicate_client_seq",
        13 => IdempotencyKeyReused = "idempotency_key_reused",
        14 => IdempotencyKeyRequired = "idempotency_key_required",
        15 => BodyTooLarge = "body_too_large",
        16 => CiphertextTooLarge = "ciphertext_too_large",
        17 => UnsupportedMediaType = "unsupported_media_type",
        18 => UpgradeRequired = "upgrade_required",
        19 => RateLimited = "rate_limited",
        20 => Overloaded = "overloaded",
        21 => Unavailable = "unavailable",
        22 => OutcomeUnknown = "outcome_unknown",
        23 => Internal = "internal",
        24 => HeadersTooLarge = "headers_too_large",
        25 => Conflict = "conflict",
        26 => ChangeWindowClosed = "change_window_closed",
        27 => MessageDeleted = "message_deleted",
        28 => TooManyReactions = "too_many_reactions",
        29 => TooManyPins = "too_many_pins",
        40 => PrekeysExhausted = "prekeys_exhausted",
        41 => KeyConflict = "key_conflict",
        42 => TooManyDevices = "too_many_devices",
        43 => StaleRegistration = "stale_registration",
        44 => TooManyPrekeys = "too_many_prekeys",
        45 => DeviceRevoked = "device_revoked",
        46 => DeviceMismatch = "device_mismatch",
        50 => PresenceHidden = "presence_hidden",
        60 => TooManyBlocks = "too_many_blocks",
        70 => Suspended = "suspended",
    }
}

impl ErrorCode {
    /// The HTTP status.
    #[must_use]
    pub fn status(self) -> u16 {
        match self {
            Self::InvalidRequest | Self::InvalidCursor | Self::IdempotencyKeyRequired => 400,
            Self::Unauthenticated | Self::TokenExpired | Self::DeviceRevoked | Self::Suspended => 401,
            Self::MissingScope
            | Self::Forbidden
            | Self::NotAMember
            | Self::ChangeWindowClosed
            | Self::PresenceHidden => 403,
            Self::NotFound => 404,
            Self::MethodNotAllowed => 405,
            Self::NotAGroup
            | Self::ThreadFull
            | Self::DuplicateClientSeq
            | Self::Conflict
            | Self::MessageDeleted
            | Self::TooManyReactions
            | Self::TooManyPins
            | Self::KeyConflict
            | Self::TooManyDevices
            | Self::StaleRegistration
            | Self::TooManyPrekeys
            | Self::DeviceMismatch
            | Self::TooManyBlocks => 409,
            Self::BodyTooLarge | Self::CiphertextTooLarge => 413,
            Self::UnsupportedMediaType => 415,
            Self::IdempotencyKeyReused => 422,
            Self::UpgradeRequired => 426,
            Self::RateLimited => 429,
            Self::HeadersTooLarge => 431,
            Self::Internal => 500,
            Self::Overloaded | Self::Unavailable | Self::OutcomeUnknown | Self::PrekeysExhausted => 503,
        }
    }

    /// Whether the same request may succeed when it is sent again.
    #[must_use]
    pub fn retryable(self) -> bool {
        match self {
            Self::RateLimited | Self::Overloaded | Self::Unavailable | Self::OutcomeUnknown | Self::Internal => true,
            Self::InvalidRequest
            | Self::InvalidCursor
            | Self::IdempotencyKeyRequired
            | Self::Unauthenticated
            | Self::TokenExpired
            | Self::MissingScope
            | Self::Forbidden
            | Self::NotAMember
            | Self::NotFound
            | Self::MethodNotAllowed
            | Self::NotAGroup
            | Self::ThreadFull
            | Self::DuplicateClientSeq
            | Self::Conflict
            | Self::ChangeWindowClosed
            | Self::MessageDeleted
            | Self::TooManyReactions
            | Self::TooManyPins
            | Self::PresenceHidden
            | Self::PrekeysExhausted
            | Self::KeyConflict
            | Self::TooManyDevices
            | Self::StaleRegistration
            | Self::TooManyPrekeys
            | Self::TooManyBlocks
            | Self::DeviceRevoked
            | Self::DeviceMismatch
            | Self::Suspended
            | Self::BodyTooLarge
            | Self::CiphertextTooLarge
            | Self::UnsupportedMediaType
            | Self::IdempotencyKeyReused
            | Self::UpgradeRequired
            | Self::HeadersTooLarge => false,
        }
    }

    /// Whether the request may have been carried out all the same.
    #[must_use]
    pub fn may_have_had_effects(self) -> bool {
        match self {
            Self::OutcomeUnknown | Self::Internal => true,
            Self::InvalidRequest
            | Self::InvalidCursor
            | Self::Unauthenticated
            | Self::TokenExpired
            | Self::MissingScope
            | Self::Forbidden
            | Self::NotAMember
            | Self::NotFound
            | Self::MethodNotAllowed
            | Self::NotAGroup
            | Self::ThreadFull
            | Self::DuplicateClientSeq
            | Self::IdempotencyKeyReused
            | Self::IdempotencyKeyRequired
            | Self::BodyTooLarge
            | Self::CiphertextTooLarge
            | Self::UnsupportedMediaType
            | Self::UpgradeRequired
            | Self::RateLimited
            | Self::Overloaded
            | Self::Unavailable
            | Self::HeadersTooLarge
            | Self::Conflict
            | Self::ChangeWindowClosed
            | Self::MessageDeleted
            | Self::TooManyReactions
            | Self::TooManyPins
            | Self::PrekeysExhausted
            | Self::KeyConflict
            | Self::TooManyDevices
            | Self::StaleRegistration
            | Self::TooManyPrekeys
            | Self::DeviceRevoked
            | Self::DeviceMismatch
            | Self::PresenceHidden
            | Self::TooManyBlocks
            | Self::Suspended => false,
        }
    }

    /// A short title, the same for every occurrence.
    #[must_use]
    pub fn title(self) -> &'static str {
        match self {
            Self::InvalidRequest => "The request is not valid",
            Self::InvalidCursor => "The cursor is not one of this list",
            Self::IdempotencyKeyRequired => "An Idempotency-Key header is required",
            Self::Unauthenticated => "A valid bearer token is required",
            Self::TokenExpired => "The token has expired",
            Self::MissingScope => "The token lacks a scope",
            Self::Forbidden => "Not allowed",
            Self::NotAMember => "Not a participant of the thread",
            Self::NotFound => "Not found",
            Self::MethodNotAllowed => "The method is not allowed here",
            Self::NotAGroup => "The thread is not a group",
            Self::ThreadFull => "The thread has no room for more participants",
            Self::DuplicateClientSeq => "This client_seq was used before",
            Self::Conflict => "The request conflicts with the current state",
            Self::ChangeWindowClosed => "The message is too old to be changed",
            Self::MessageDeleted => "The message was deleted",
            Self::TooManyReactions => "There are too many reactions",
            Self::PresenceHidden => "Presence is hidden",
            Self::TooManyPins => "There are too many pinned messages",
            Self::PrekeysExhausted => "No device has prekeys left",
            Self::KeyConflict => "Another key has this key_id",
            Self::TooManyDevices => "The user has too many devices",
            Self::StaleRegistration => "The registration was given up before",
            Self::TooManyPrekeys => "The device has too many one-time keys in store",
            Self::DeviceRevoked => "The device was deleted",
            Self::DeviceMismatch => "The envelopes are not for the devices there are",
            Self::Suspended => "The user or device is suspended",
            Self::TooManyBlocks => "The user blocks too many users",
            Self::BodyTooLarge => "The request body is too large",
            Self::CiphertextTooLarge => "The ciphertext is too large",
            Self::UnsupportedMediaType => "The content type is not supported",
            Self::IdempotencyKeyReused => "The Idempotency-Key was used with another request",
            Self::UpgradeRequired => "A WebSocket upgrade is required",
            Self::RateLimited => "Too many requests",
            Self::HeadersTooLarge => "The request headers are too large",
            Self::Internal => "Internal error",
            Self::Overloaded => "The server is overloaded",
            Self::Unavailable => "The request was not accepted",
            Self::OutcomeUnknown => "The outcome is unknown",
        }
    }
}

crate::wire_struct! {
    /// A refusal: a code, what exactly, for a duplicate the message that is there, which member of the request is bad if it
    /// is one, and how envelopes differ from the devices there are.
    pub struct Refusal {
        1 => code: ErrorCode,
        2 => detail: String,
        3 => existing: Option<Box<Message>>,
        4 => field: Option<String>,
        5 => mismatch: Option<Box<DeviceMismatch>>,
    }
}

impl std::fmt::Display for Refusal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.code.as_str(), self.detail)
    }
}

impl std::error::Error for Refusal {}

impl Refusal {
    /// A refusal with a code and what exactly is wrong.
    #[must_use]
    pub fn new(code: ErrorCode, detail: impl Into<String>) -> Self {
        Self { code, detail: detail.into(), existing: None, field: None, mismatch: None }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::{Field, read_key, read_varint};
    use bytes::Bytes;

    #[test]
    fn codes_are_listed_in_order_and_never_twice() {
        let number = |code: &ErrorCode| {
            let mut bytes = Vec::new();
            code.write(1, &mut bytes);
            let mut bytes = Bytes::from(bytes);
            let (_, wire_type) = read_key(&mut bytes).unwrap().unwrap();
            read_varint(wire_type, &mut bytes).unwrap()
        };
        let numbers: Vec<u64> = ErrorCode::ALL.iter().map(number).collect();
        assert!(numbers.is_sorted_by(|a, b| a < b), "{numbers:?}");
    }
}
