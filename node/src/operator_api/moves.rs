//! Moves of replicas and leaders.
//!
//! Owns: how far moves are, within the status; what is to move; what changes of moves and of shards are answered with.
//! Must not know: how moves are planned, carried out or shown.

use serde::{Deserialize, Serialize};

/// What is to be moved.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MovesRow {
    /// No shard begins to move until an operator says so.
    pub paused: bool,
    /// Shards whose group is not, or not known to be, what the record says.
    pub in_flight: usize,
    /// Replicas that should be where none is yet.
    pub to_move: usize,
    /// Shards that are on the move and whose leaders answered; nodes of an earlier version tell of none.
    #[serde(default)]
    pub shards: Vec<MoveRow>,
    /// Shards whose replicas stand in fewer zones than they could.
    #[serde(default)]
    pub not_spread: Vec<u32>,
}

/// A shard on the move.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MoveRow {
    /// Which.
    pub shard: u32,
    /// Nodes whose replicas go.
    pub from: Vec<u64>,
    /// Nodes that replicas come to.
    pub to: Vec<u64>,
    /// What is being done.
    pub step: MoveStep,
    /// Entries that the furthest behind of those that come lacks.
    pub entries_left: Option<u64>,
    /// Bytes of the snapshot still to be sent, about.
    pub bytes_left: Option<u64>,
    /// Seconds until it has caught up, about.
    pub estimate_s: Option<u64>,
}

/// What is being done for a shard on the move, in this order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MoveStep {
    /// Nothing has come yet.
    Begins,
    /// A snapshot is sent.
    Copies,
    /// What came since is sent.
    CatchesUp,
    /// The old members and the new ones decide together.
    Switches,
    /// Those that go are let go.
    Ends,
    /// Something that a later version says.
    #[serde(other)]
    Unknown,
}

/// What is to move: of `GET /admin/moves` and `POST /admin/moves/rebalance`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MovesPlan {
    /// No shard begins to move until an operator says so.
    pub paused: bool,
    /// In order of shard.
    pub moves: Vec<PlannedMove>,
}

/// A shard that is to move.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlannedMove {
    /// Which.
    pub shard: u32,
    /// The nodes its replicas are on.
    pub from: Vec<u64>,
    /// And should be on.
    pub to: Vec<u64>,
    /// Whether it moves.
    pub state: MoveState,
}

/// Whether a shard moves that is to move.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MoveState {
    /// It does.
    UnderWay,
    /// It will.
    Waiting,
    /// Not before an operator says so, or a node it is on goes.
    Cancelled,
    /// Something that a later version says.
    #[serde(other)]
    Unknown,
}

/// Where a shard is meant to be after an operator's change.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShardChanged {
    /// Which.
    pub shard: u32,
    /// In order of preference; the first is to lead.
    pub replicas: Vec<u64>,
}

/// Whether shards may begin to move.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MovesChanged {
    /// They may not.
    pub paused: bool,
}

impl MoveStep {
    /// The words for it, for people.
    #[must_use]
    pub fn as_words(self) -> &'static str {
        match self {
            Self::Begins => "begins",
            Self::Copies => "copies",
            Self::CatchesUp => "catches up",
            Self::Switches => "switches",
            Self::Ends => "ends",
            Self::Unknown => "unknown",
        }
    }
}

impl MoveState {
    /// The words for it, for people.
    #[must_use]
    pub fn as_words(self) -> &'static str {
        match self {
            Self::UnderWay => "under way",
            Self::Waiting => "waiting",
            Self::Cancelled => "cancelled",
            Self::Unknown => "unknown",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    #[test]
    fn words_are_as_they_are_written_and_later_ones_harm_nothing() {
        use MoveState::{Cancelled, UnderWay, Waiting};
        use MoveStep::{Begins, CatchesUp, Copies, Ends, Switches};
        let written = |words: &str| Value::from(words.replace(' ', "_"));
        for step in [Begins, Copies, CatchesUp, Switches, Ends, MoveStep::Unknown] {
            assert_eq!(serde_json::to_value(step).unwrap(), written(step.as_words()));
        }
        for state in [UnderWay, Waiting, Cancelled, MoveState::Unknown] {
            assert_eq!(serde_json::to_value(state).unwrap(), written(state.as_words()));
        }
        assert_eq!(serde_json::from_value::<MoveStep>(json!("thinks")).unwrap(), MoveStep::Unknown);
        assert_eq!(serde_json::from_value::<MoveState>(json!("doubtful")).unwrap(), MoveState::Unknown);
    }

    #[test]
    fn what_is_said_of_moves_reads_back_and_earlier_versions_say_less() {
        let moves = json!({"paused": true, "in_flight": 1, "to_move": 2, "shards": [{"shard": 3, "from": [1], "to": [2, 4],
            "step": "catches_up", "entries_left": 9, "bytes_left": null, "estimate_s": 7}], "not_spread": [5]});
        let read: MovesRow = serde_json::from_value(moves.clone()).unwrap();
        assert_eq!(serde_json::to_value(&read).unwrap(), moves);
        let earlier = serde_json::from_value(json!({"paused": false, "in_flight": 0, "to_move": 0})).unwrap();
        assert!(matches!(earlier, MovesRow { shards, not_spread, .. } if shards.is_empty() && not_spread.is_empty()));
        let plan =
            json!({"paused": false, "moves": [{"shard": 2, "from": [1, 2], "to": [1, 3], "state": "under_way"}]});
        let read: MovesPlan = serde_json::from_value(plan.clone()).unwrap();
        assert_eq!(serde_json::to_value(&read).unwrap(), plan);
    }
}
