//! What operators' routes take and answer, as JSON.
//!
//! Owns: the shapes, once for who answers and who asks.
//! Must not know: HTTP, how an answer is made or shown.

mod nodes;

pub use nodes::{JoinAnswer, JoinPeer, JoinRequest};
