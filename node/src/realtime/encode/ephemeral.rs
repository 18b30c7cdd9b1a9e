//! The JSON of frames that are told once.
//!
//! Owns: what their members are called.
//! Must not know: who is shown what.

use super::members;
use crate::api::view::{PresenceView, Text};
use crate::realtime::event::{EphemeralFrame, EphemeralKind};
use messenger_proto::ephemeral::{Presence, Typing};
use messenger_proto::ids::ThreadId;
use messenger_proto::limits::TYPING_TTL;
use serde::Serialize;

/// A member types, or stopped.
#[must_use]
pub fn typing(typing: &Typing) -> EphemeralFrame {
    #[derive(Serialize)]
    struct Members<'a> {
        t: &'static str,
        thread_id: Text<ThreadId>,
        user_id: &'a str,
        ttl_s: u64,
    }
    let Typing { thread, user, stop, away, version: _ } = typing;
    let ttl_s = if *stop { 0 } else { TYPING_TTL.as_secs() };
    let body = members(&Members { t: "typing", thread_id: Text(*thread), user_id: user.as_str(), ttl_s });
    EphemeralFrame { from: user.clone(), kind: EphemeralKind::Typing(*thread), body, away: away.clone(), version: 0 }
}

/// How a user is; for those that it does not keep away.
#[must_use]
pub fn presence(presence: &Presence) -> EphemeralFrame {
    #[derive(Serialize)]
    struct Members<'a> {
        t: &'static str,
        user_id: &'a str,
        #[serde(flatten)]
        presence: PresenceView,
    }
    let body =
        members(&Members { t: "presence", user_id: presence.user.as_str(), presence: PresenceView::of(presence) });
    EphemeralFrame { from: presence.user.clone(), kind: EphemeralKind::Presence, body, away: Vec::new(), version: 0 }
}
