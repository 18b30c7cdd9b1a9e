//! The metrics of this crate.
//!
//! Owns: names, labels and descriptions; only what is out of the ordinary is counted, so the common path pays nothing.
//! Must not know: who records them.

use metrics::{Unit, describe_counter};

/// Attempts that were followed by another one. Label: [`REASON`].
pub const RETRIES: &str = "messenger_router_retries_total";
/// Calls the router itself refused. Label: [`CODE`].
pub const REFUSALS: &str = "messenger_router_refusals_total";
/// Subscriptions opened at a source, or not. Label: [`RESULT`].
pub const SUBSCRIPTION_OPENS: &str = "messenger_router_subscription_opens_total";
/// Times a subscriber was sent back to storage. Label: [`REASON`].
pub const SUBSCRIPTION_RESETS: &str = "messenger_router_subscription_resets_total";

/// Why it happened.
pub const REASON: &str = "reason";
/// An error code of the client contract.
pub const CODE: &str = "code";
/// `ok` or `failed`.
pub const RESULT: &str = "result";

/// Describes the metrics to the recorder; once per process.
pub fn describe() {
    describe_counter!(RETRIES, Unit::Count, "Attempts at a shard call that were followed by another one, by reason");
    describe_counter!(REFUSALS, Unit::Count, "Shard calls refused by the router itself, by error code");
    describe_counter!(SUBSCRIPTION_OPENS, Unit::Count, "Attempts to open a shard's stream, by result");
    describe_counter!(SUBSCRIPTION_RESETS, Unit::Count, "Times a shard's subscriber was sent to storage, by reason");
}
