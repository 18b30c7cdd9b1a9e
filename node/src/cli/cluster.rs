//! `messenger cluster`.
//!
//! Owns: asking for the cluster's status, and showing it, once or again and again; having nodes go.
//! Must not know: how the status is made, or when a node may go; what operators say of moves (see [`super::moves`]).

use super::moves;
use super::operators::{AdminArgs, Query};
use super::{CliError, Output};
use crate::operator_api::{
    ClusterStatus, MetaRow, MovesChanged, NodeChanged, NodeRow, NodeStanding, ReplicaRow, Role, ShardRow,
};
use clap::{Args, Subcommand};
use http::Method;
use messenger_client::Call;
use serde::de::DeserializeOwned;
use std::collections::BTreeMap;
use std::fmt::Write;
use std::io::{IsTerminal, Write as _};
use std::time::Duration;

/// Between two looks.
const WATCH_EVERY: Duration = Duration::from_secs(2);
/// Has a terminal begin anew.
const CLEAR: &str = "\x1b[2J\x1b[H";

const EXAMPLES: &str = "\
Examples:
  messenger cluster status
  messenger cluster status --watch
  messenger cluster status --admin http://127.0.0.1:7602 --output json";

const REPLACE_EXAMPLES: &str = "\
Examples:
  messenger cluster replace 3
  messenger cluster replace 3 --with 6

What node 3 holds, dead or alive, is made anew on other nodes, node 6 if it is named and holds the least, as one that just
joined does; `cluster status` says how much is left. Then it can be removed. A node that is silent for
`cluster.replace_after_seconds` (600) is replaced without being asked for, and is one of the cluster again once it is back.";

const DRAIN_EXAMPLES: &str = "\
Examples:
  messenger cluster drain 4
  messenger cluster drain 4 --undo
  messenger cluster drain 3 --fewer-replicas

Its replicas and leaders move to the other nodes, and none comes to it; `cluster status` says how many are left.
Then it can be removed.";

const REMOVE_EXAMPLES: &str = "\
Examples:
  messenger cluster remove 4

A node is removed once it has drained and nothing counts on it; otherwise this says what does. A node that is gone
for good is drained and removed like any other. Its id is not given again.";

const PAUSE_EXAMPLES: &str = "\
Examples:
  messenger cluster pause

Shards that are on the move arrive; no other begins to move.";

const RESUME_EXAMPLES: &str = "\
Examples:
  messenger cluster resume";

/// Look after a cluster
#[derive(Debug, Args)]
pub struct ClusterArgs {
    #[command(subcommand)]
    command: ClusterCommand,
}

#[derive(Debug, Subcommand)]
enum ClusterCommand {
    Status(StatusArgs),
    /// Have a node's replicas and leaders move away
    #[command(after_help = DRAIN_EXAMPLES)]
    Drain(DrainArgs),
    /// Have what a node holds made anew on others, be it dead or alive
    #[command(after_help = REPLACE_EXAMPLES)]
    Replace(ReplaceArgs),
    /// Remove a node that has drained
    #[command(after_help = REMOVE_EXAMPLES)]
    Remove(RemoveArgs),
    /// Let no shard begin to move
    #[command(after_help = PAUSE_EXAMPLES)]
    Pause(ChangeArgs),
    /// Let shards move again
    #[command(after_help = RESUME_EXAMPLES)]
    Resume(ChangeArgs),
    /// Plan all moves anew, cancelled ones too, and say which there are
    #[command(after_help = moves::REBALANCE_EXAMPLES)]
    Rebalance(moves::RebalanceArgs),
    /// Leave a shard that is on the move where it is
    #[command(after_help = moves::CANCEL_EXAMPLES)]
    Cancel(moves::CancelArgs),
    /// Have another replica lead a shard
    #[command(after_help = moves::TRANSFER_EXAMPLES)]
    Transfer(moves::TransferArgs),
}

#[derive(Debug, Args)]
pub(super) struct ChangeArgs {
    /// Print for people or for programs
    #[arg(long, value_enum, default_value_t)]
    output: Output,
    #[command(flatten)]
    admin: AdminArgs,
}

#[derive(Debug, Args)]
struct DrainArgs {
    /// The node's id
    node: u64,
    /// Also if shards have fewer replicas without it
    #[arg(long, conflicts_with = "undo")]
    fewer_replicas: bool,
    /// Let it stay after all
    #[arg(long)]
    undo: bool,
    #[command(flatten)]
    change: ChangeArgs,
}

#[derive(Debug, Args)]
struct ReplaceArgs {
    /// The node's id
    node: u64,
    /// The node that takes its place
    #[arg(long, value_name = "NODE")]
    with: Option<u64>,
    #[command(flatten)]
    change: ChangeArgs,
}

#[derive(Debug, Args)]
struct RemoveArgs {
    /// The node's id
    node: u64,
    #[command(flatten)]
    change: ChangeArgs,
}

/// Show nodes, shards, leaders and how far replicas lag
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct StatusArgs {
    /// Show it again every 2 seconds, until Ctrl-C
    #[arg(long)]
    watch: bool,
    /// Print for people or for programs
    #[arg(long, value_enum, default_value_t)]
    output: Output,
    #[command(flatten)]
    admin: AdminArgs,
}

/// Runs the command.
///
/// # Errors
/// [`CliError`] when no admin listener answers.
pub async fn run(args: ClusterArgs) -> Result<(), CliError> {
    match args.command {
        ClusterCommand::Status(args) if args.watch => watch(&args).await,
        ClusterCommand::Status(args) => status(&args).await,
        ClusterCommand::Drain(args) => {
            let what = match (args.undo, args.fewer_replicas) {
                (true, _) => "undrain",
                (false, true) => "drain?fewer_replicas=true",
                (false, false) => "drain",
            };
            change_node(&args.change, &format!("/admin/nodes/{}/{what}", args.node)).await
        }
        ClusterCommand::Remove(args) => change_node(&args.change, &format!("/admin/nodes/{}/remove", args.node)).await,
        ClusterCommand::Replace(args) => {
            let with = Query::default().with("with", args.with);
            change_node(&args.change, &with.of(&format!("/admin/nodes/{}/replace", args.node))).await
        }
        ClusterCommand::Rebalance(args) => moves::rebalance(&args).await,
        ClusterCommand::Cancel(args) => moves::cancel(&args).await,
        ClusterCommand::Transfer(args) => moves::transfer(&args).await,
        ClusterCommand::Pause(args) => change_moves(&args, "/admin/moves/pause").await,
        ClusterCommand::Resume(args) => change_moves(&args, "/admin/moves/resume").await,
    }
}

impl ChangeArgs {
    /// Asks for something, and shows what is answered.
    pub(super) async fn ask<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        text: impl FnOnce(&T) -> String,
    ) -> Result<(), CliError> {
        let said = self.admin.ask(&Call::new(method, path)).await?;
        match self.output {
            Output::Json => println!("{said}"),
            Output::Text => println!("{}", text(&said.read()?)),
        }
        Ok(())
    }
}

async fn change_node(args: &ChangeArgs, path: &str) -> Result<(), CliError> {
    args.ask(Method::POST, path, node_text).await
}

async fn change_moves(args: &ChangeArgs, path: &str) -> Result<(), CliError> {
    args.ask(Method::POST, path, |changed| paused_text(changed).to_owned()).await
}

fn node_text(changed: &NodeChanged) -> String {
    let NodeChanged { node_id, state, shards } = changed;
    match state {
        NodeStanding::Draining => {
            format!("node {node_id} drains; {shards} of its shards are still to move away: see `cluster status`")
        }
        _ => format!("node {node_id} is {}", state.as_str()),
    }
}

fn paused_text(changed: &MovesChanged) -> &'static str {
    if changed.paused { "moves are paused" } else { "shards may move" }
}

async fn look(args: &StatusArgs) -> Result<String, CliError> {
    let said = args.admin.ask(&Call::new(Method::GET, "/v1/cluster/status")).await?;
    match args.output {
        Output::Text => Ok(render(&said.read()?)),
        Output::Json => Ok(said.laid_out() + "\n"),
    }
}

async fn status(args: &StatusArgs) -> Result<(), CliError> {
    print!("{}", look(args).await?);
    Ok(())
}

/// Shows the status again and again; that nobody answers is shown, too, as it may be what one waits to see the end of.
async fn watch(args: &StatusArgs) -> Result<(), CliError> {
    let mut out = std::io::stdout();
    let clear = if out.is_terminal() && args.output == Output::Text { CLEAR } else { "" };
    loop {
        let text = look(args).await.unwrap_or_else(|error| format!("{error}\n"));
        // Whoever reads may be gone.
        if write!(out, "{clear}{text}").and_then(|()| out.flush()).is_err() {
            return Ok(());
        }
        tokio::select! {
            () = tokio::time::sleep(WATCH_EVERY) => {}
            _ = tokio::signal::ctrl_c() => return Ok(()),
        }
    }
}

/// The status as tables.
#[must_use]
pub fn render(status: &ClusterStatus) -> String {
    let mut text = String::new();
    // Writing to a String cannot fail.
    let _ = writeln!(
        text,
        "{:>4}  {:<11} {:<10} {:<21} {:<21} {:>7} {:>8}",
        "node", "state", "zone", "clients", "admin", "leads", "replicas"
    );
    let mut leads: BTreeMap<u64, usize> = BTreeMap::new();
    let mut holds: BTreeMap<u64, usize> = BTreeMap::new();
    for shard in &status.shards {
        if let Some(leader) = shard.leader {
            *leads.entry(leader).or_default() += 1;
        }
        for replica in &shard.replicas {
            *holds.entry(replica.node).or_default() += 1;
        }
    }
    let count = |of: &BTreeMap<u64, usize>, node| of.get(&node).copied().unwrap_or(0);
    for node in &status.nodes {
        let NodeRow { id, zone, client_addr, admin_addr, state, short_of_disk, .. } = node;
        let (leads, holds, state) = (count(&leads, *id), count(&holds, *id), state.as_str());
        let disk = if *short_of_disk { "  short of disk" } else { "" };
        let _ = writeln!(
            text,
            "{id:>4}  {state:<11} {zone:<10} {client_addr:<21} {admin_addr:<21} {leads:>7} {holds:>8}{disk}"
        );
    }
    let _ = writeln!(text, "\n{}", meta_text(&status.meta));
    text.push_str(&moves::text(&status.moves));
    let _ = writeln!(text, "\n{:>5}  {:<12} {:>6}  replicas (node: applied, behind)", "shard", "slots", "leader");
    for shard in &status.shards {
        let leader = shard.leader.map_or_else(|| "none".into(), |id| id.to_string());
        let replicas: Vec<_> = shard.replicas.iter().map(|replica| replica_text(shard, replica)).collect();
        let slots = format!("{}-{}", shard.slots[0], shard.slots[1]);
        let _ = writeln!(text, "{:>5}  {slots:<12} {leader:>6}  {}", shard.id, replicas.join("  "));
    }
    let _ = writeln!(text, "\n{}", summary(status));
    text
}

fn meta_text(meta: &MetaRow) -> String {
    let leader = meta.leader.map_or_else(|| "none".into(), |id| id.to_string());
    let deciding = meta.replicas.iter().filter(|replica| replica.role != Role::Learner);
    let deciding: Vec<String> = deciding.map(|replica| replica.node.to_string()).collect();
    format!("the record: leader {leader}, decided by nodes {}", deciding.join(", "))
}

/// The furthest any replica of a shard has applied.
fn furthest(shard: &ShardRow) -> u64 {
    shard.replicas.iter().filter_map(|replica| replica.applied).max().unwrap_or(0)
}

fn replica_text(shard: &ShardRow, replica: &ReplicaRow) -> String {
    let mark = match replica.role {
        Role::Leader => "*",
        Role::Learner => "+",
        _ => "",
    };
    match replica.applied {
        None => format!("{}{mark}: unreachable", replica.node),
        Some(applied) => match furthest(shard) - applied {
            0 => format!("{}{mark}: {applied}", replica.node),
            behind => format!("{}{mark}: {applied} (-{behind})", replica.node),
        },
    }
}

fn summary(status: &ClusterStatus) -> String {
    let leaderless = status.shards.iter().filter(|shard| shard.leader.is_none()).count();
    let replicas = || status.shards.iter().flat_map(|shard| &shard.replicas);
    let silent = replicas().filter(|replica| replica.applied.is_none()).count();
    let lag = status.shards.iter().flat_map(|shard| {
        let furthest = furthest(shard);
        shard.replicas.iter().filter_map(move |replica| replica.applied.map(|applied| furthest - applied))
    });
    format!(
        "{} nodes, {} shards, {} without a leader, {} of {} replicas unreachable, largest lag {} entries   (* leader, + learner)",
        status.nodes.len(),
        status.shards.len(),
        leaderless,
        silent,
        replicas().count(),
        lag.max().unwrap_or(0)
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::operator_api::MovesRow;

    #[test]
    fn what_was_changed_is_said() {
        let changed = |state, shards| node_text(&NodeChanged { node_id: 4, state, shards });
        assert!(changed(NodeStanding::Draining, 7).contains("node 4 drains; 7 of its shards"));
        assert_eq!(changed(NodeStanding::Removed, 0), "node 4 is removed");
        assert_eq!(paused_text(&MovesChanged { paused: true }), "moves are paused");
        assert_eq!(paused_text(&MovesChanged { paused: false }), "shards may move");
    }

    fn node(id: u64, state: NodeStanding, short_of_disk: bool) -> NodeRow {
        let address = |port: u64| format!("127.0.0.1:{}", port + id);
        let (client_addr, peer_addr, admin_addr) = (address(7_400), address(7_500), address(7_600));
        NodeRow { id, zone: "a".into(), client_addr, peer_addr, admin_addr, state, short_of_disk }
    }

    fn replica(node: u64, role: Role, applied: Option<u64>) -> ReplicaRow {
        ReplicaRow { node, role, applied, digest: applied.map(|applied| format!("{applied:016x}")) }
    }

    #[test]
    fn a_status_shows_leaders_lag_and_what_is_missing() {
        let first = vec![replica(1, Role::Leader, Some(12)), replica(2, Role::Follower, Some(9))];
        let second = vec![replica(1, Role::Follower, Some(4)), replica(2, Role::Unknown, None)];
        let status = ClusterStatus {
            nodes: vec![node(1, NodeStanding::Active, false), node(2, NodeStanding::Draining, true)],
            meta: MetaRow {
                leader: Some(1),
                replicas: vec![replica(1, Role::Leader, Some(3)), replica(2, Role::Learner, Some(3))],
            },
            moves: MovesRow { paused: false, in_flight: 0, to_move: 1, shards: vec![], not_spread: vec![] },
            shards: vec![
                ShardRow { id: 0, slots: [0, 8_191], leader: Some(1), replicas: first },
                ShardRow { id: 1, slots: [8_192, 16_383], leader: None, replicas: second },
            ],
        };
        let text = render(&status);
        let lines: Vec<_> = text.lines().collect();
        assert!(lines[1].contains("active") && lines[1].ends_with("      1        2"), "{text}");
        assert!(lines[2].contains("draining") && lines[2].ends_with("      0        2  short of disk"), "{text}");
        assert_eq!(lines[4], "the record: leader 1, decided by nodes 1");
        assert_eq!(lines[5], "moves: 0 shards under way, 1 replicas still to move");
        assert!(lines[8].contains("0-8191") && lines[8].ends_with("1*: 12  2: 9 (-3)"), "{text}");
        assert!(lines[9].contains("8192-16383") && lines[9].ends_with("none  1: 4  2: unreachable"), "{text}");
        assert!(text.contains("2 shards, 1 without a leader, 1 of 4 replicas unreachable, largest lag 3"), "{text}");
    }
}
