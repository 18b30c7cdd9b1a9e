//! What `messenger cluster` says of moves.
//!
//! Owns: having moves planned anew, cancelled, and leaders handed over; the words for them.
//! Must not know: how moves are planned or carried out.

use super::CliError;
use super::cluster::ChangeArgs;
use crate::operator_api::{MoveRow, MovesPlan, MovesRow, PlannedMove, ShardChanged};
use clap::Args;
use http::Method;
use std::fmt::Write;

pub(super) const REBALANCE_EXAMPLES: &str = "\
Examples:
  messenger cluster rebalance --dry-run
  messenger cluster rebalance

Moves are planned by themselves whenever nodes come or go; this has those planned again that were cancelled. With
--dry-run nothing changes.";

pub(super) const CANCEL_EXAMPLES: &str = "\
Examples:
  messenger cluster cancel 12

The shard stays on the nodes it is on until `cluster rebalance`, or until one of them goes. One that is about to arrive
can't be held back.";

pub(super) const TRANSFER_EXAMPLES: &str = "\
Examples:
  messenger cluster transfer 12 3

Node 3 needs a replica of shard 12. If it leads its share already, one of its shards is led by the other node in exchange.";

#[derive(Debug, Args)]
pub(super) struct RebalanceArgs {
    /// Only say what would move
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    change: ChangeArgs,
}

#[derive(Debug, Args)]
pub(super) struct CancelArgs {
    /// The shard
    shard: u32,
    #[command(flatten)]
    change: ChangeArgs,
}

#[derive(Debug, Args)]
pub(super) struct TransferArgs {
    /// The shard
    shard: u32,
    /// The node that is to lead it
    node: u64,
    #[command(flatten)]
    change: ChangeArgs,
}

pub(super) async fn rebalance(args: &RebalanceArgs) -> Result<(), CliError> {
    let (method, path) =
        if args.dry_run { (Method::GET, "/admin/moves") } else { (Method::POST, "/admin/moves/rebalance") };
    args.change.ask(method, path, plan_text).await
}

pub(super) async fn cancel(args: &CancelArgs) -> Result<(), CliError> {
    let text = |changed: &ShardChanged| format!("shard {} stays on nodes {}", args.shard, nodes(&changed.replicas));
    args.change.ask(Method::POST, &format!("/admin/shards/{}/cancel", args.shard), text).await
}

pub(super) async fn transfer(args: &TransferArgs) -> Result<(), CliError> {
    let text = |_: &ShardChanged| format!("node {} takes over shard {}: see `cluster status`", args.node, args.shard);
    let path = format!("/admin/shards/{}/transfer?to={}", args.shard, args.node);
    args.change.ask(Method::POST, &path, text).await
}

fn nodes(ids: &[u64]) -> String {
    if ids.is_empty() { "none".into() } else { listed(ids) }
}

fn listed(ids: &[impl ToString]) -> String {
    ids.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

fn plan_text(plan: &MovesPlan) -> String {
    let line = |planned: &PlannedMove| {
        let PlannedMove { shard, from, to, state } = planned;
        format!("shard {shard:>5}: nodes {} -> {} ({})\n", nodes(from), nodes(to), state.as_words())
    };
    let lines: String = plan.moves.iter().map(line).collect();
    let paused = if plan.paused { "; moves are paused" } else { "" };
    match plan.moves.len() {
        0 => format!("all replicas are where they should be{paused}"),
        1 => format!("{lines}1 shard to move{paused}"),
        some => format!("{lines}{some} shards to move{paused}"),
    }
}

/// The moves of a status, and what is wrong with where replicas are.
pub(super) fn text(moves: &MovesRow) -> String {
    let paused = if moves.paused { " (paused)" } else { "" };
    let mut text =
        format!("moves{paused}: {} shards under way, {} replicas still to move\n", moves.in_flight, moves.to_move);
    moves.shards.iter().for_each(|row| text.push_str(&row_text(row)));
    if !moves.not_spread.is_empty() {
        let shards = listed(&moves.not_spread);
        // Writing to a String cannot fail.
        let _ = writeln!(text, "in fewer zones than they could be: shards {shards}");
    }
    text
}

fn row_text(row: &MoveRow) -> String {
    let step = row.step.as_words();
    let mut text = format!("  shard {:>5}: from {} to {}, {step}", row.shard, nodes(&row.from), nodes(&row.to));
    if let Some(bytes) = row.bytes_left {
        let _ = write!(text, ", {} MiB left", bytes.div_ceil(1 << 20));
    }
    if let Some(entries) = row.entries_left {
        let _ = write!(text, ", {entries} entries behind");
    }
    if let Some(seconds) = row.estimate_s {
        let _ = write!(text, ", about {seconds} s");
    }
    text + "\n"
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::operator_api::{MoveState, MoveStep};

    #[test]
    fn moves_are_told_with_what_is_left() {
        let row = MoveRow {
            shard: 3,
            from: vec![1],
            to: vec![4, 5],
            step: MoveStep::CatchesUp,
            entries_left: Some(900),
            bytes_left: Some(3 << 20),
            estimate_s: Some(12),
        };
        let moves = MovesRow { paused: true, in_flight: 1, to_move: 5, shards: vec![row], not_spread: vec![7, 9] };
        let text = text(&moves);
        assert!(text.contains("moves (paused): 1 shards under way, 5 replicas still to move\n"), "{text}");
        let told = "shard     3: from 1 to 4, 5, catches up, 3 MiB left, 900 entries behind, about 12 s\n";
        assert!(text.contains(told) && text.ends_with("shards 7, 9\n"), "{text}");
    }

    #[test]
    fn a_plan_is_told_shard_by_shard() {
        let planned = PlannedMove { shard: 2, from: vec![1, 2], to: vec![1, 3], state: MoveState::UnderWay };
        let text = plan_text(&MovesPlan { paused: false, moves: vec![planned] });
        assert_eq!(text, "shard     2: nodes 1, 2 -> 1, 3 (under way)\n1 shard to move");
        let none = plan_text(&MovesPlan { paused: true, moves: vec![] });
        assert_eq!(none, "all replicas are where they should be; moves are paused");
    }
}
