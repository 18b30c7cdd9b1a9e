//! What operators' routes take and answer, as JSON.
//!
//! Owns: the shapes, once for who answers and who asks.
//! Must not know: HTTP, how an answer is made or shown.
//! Invariants: who shows an answer as JSON shows it as it came; these are for reading it, and a member that is not known is
//! passed over.

mod audit;
mod moves;
mod nodes;
mod reports;
mod senders;
mod status;
mod users;

pub use audit::{AuditEnd, AuditRecords};
pub use moves::{MoveRow, MoveState, MoveStep, MovesChanged, MovesPlan, MovesRow, PlannedMove, ShardChanged};
pub use nodes::{JoinAnswer, JoinPeer, JoinRequest, NodeChanged};
pub use reports::{ReportRow, Reports};
pub use senders::{FanOut, SenderRow, Senders};
pub use status::{ClusterStatus, MetaRow, NodeRow, NodeStanding, ReplicaRow, Role, ShardRow};
pub use users::{SuspendedDevice, UserState};
