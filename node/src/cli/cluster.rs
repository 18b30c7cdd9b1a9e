//! `messenger cluster`.
//!
//! Owns: asking for the cluster's status, and showing it; having nodes go, and pausing moves.
//! Must not know: how the status is made, or when a node may go.

use super::operators::AdminArgs;
use super::{CliError, Output};
use clap::{Args, Subcommand};
use http::{HeaderName, HeaderValue};
use messenger_client::Call;
use messenger_proto::ids::UserId;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::BTreeMap;
use std::fmt::Write;

const EXAMPLES: &str = "\
Examples:
  messenger cluster status
  messenger cluster status --admin http://127.0.0.1:7602 --output json";

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
    /// Remove a node that has drained
    #[command(after_help = REMOVE_EXAMPLES)]
    Remove(RemoveArgs),
    /// Let no shard begin to move
    #[command(after_help = PAUSE_EXAMPLES)]
    Pause(ChangeArgs),
    /// Let shards move again
    #[command(after_help = RESUME_EXAMPLES)]
    Resume(ChangeArgs),
}

#[derive(Debug, Args)]
struct ChangeArgs {
    /// Who you are, for the audit log
    #[arg(long, env = "USER", default_value = "operator")]
    operator: UserId,
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
    /// Print for people or for programs
    #[arg(long, value_enum, default_value_t)]
    output: Output,
    #[command(flatten)]
    admin: AdminArgs,
}

/// What `GET /v1/cluster/status` on an admin listener answers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ClusterStatus {
    /// Every node, by id.
    pub nodes: Vec<NodeStatus>,
    /// The group that keeps the cluster's record, if the node says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub meta: Option<MetaStatus>,
    /// What is to be moved, if the node says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub moves: Option<MovesStatus>,
    /// Every shard, by id.
    pub shards: Vec<ShardStatus>,
}

/// What is to be moved.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct MovesStatus {
    /// No shard begins to move.
    pub paused: bool,
    /// Shards on the move.
    pub in_flight: usize,
    /// Replicas still to be made.
    pub to_move: usize,
}

/// The meta group.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct MetaStatus {
    /// The node that leads it, if one does.
    pub leader: Option<u64>,
    /// Where it lives: on every node.
    pub replicas: Vec<ReplicaStatus>,
}

/// A node.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct NodeStatus {
    /// From 1.
    pub id: u64,
    /// Its failure domain.
    pub zone: String,
    /// `host:port` for clients.
    pub client_addr: String,
    /// `host:port` for nodes.
    pub peer_addr: String,
    /// `host:port` for operators.
    pub admin_addr: String,
    /// `active`, `draining`, …
    pub state: String,
    /// Its disk is almost full.
    #[serde(default)]
    pub short_of_disk: bool,
}

/// A shard.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ShardStatus {
    /// Its number.
    pub id: u64,
    /// Which slots: a text, or the first and last.
    pub slots: Value,
    /// The node that leads it, if one does.
    pub leader: Option<u64>,
    /// Where it lives.
    pub replicas: Vec<ReplicaStatus>,
}

/// A replica of a shard.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ReplicaStatus {
    /// On which node.
    pub node: u64,
    /// `leader`, `follower`, `learner`, or `unreachable`.
    pub role: String,
    /// The last log index it applied, if it could be asked.
    pub applied: Option<u64>,
    /// What it has applied, as one number: equal wherever the same index is applied.
    #[serde(default)]
    pub digest: Option<String>,
}

/// Runs the command.
///
/// # Errors
/// [`CliError`] when no admin listener answers.
pub async fn run(args: ClusterArgs) -> Result<(), CliError> {
    match args.command {
        ClusterCommand::Status(args) => status(&args).await,
        ClusterCommand::Drain(args) => {
            let what = match (args.undo, args.fewer_replicas) {
                (true, _) => "undrain",
                (false, true) => "drain?fewer_replicas=true",
                (false, false) => "drain",
            };
            change(&args.change, &format!("/admin/nodes/{}/{what}", args.node)).await
        }
        ClusterCommand::Remove(args) => change(&args.change, &format!("/admin/nodes/{}/remove", args.node)).await,
        ClusterCommand::Pause(args) => change(&args, "/admin/moves/pause").await,
        ClusterCommand::Resume(args) => change(&args, "/admin/moves/resume").await,
    }
}

async fn change(args: &ChangeArgs, path: &str) -> Result<(), CliError> {
    let operator = HeaderValue::from_str(args.operator.as_str()).map_err(|e| CliError::Usage(e.to_string()))?;
    let call = Call::new(http::Method::POST, path).header(HeaderName::from_static("x-operator"), operator);
    let state: Value = args.admin.ask(&call).await?;
    match args.output {
        Output::Json => println!("{state}"),
        Output::Text => println!("{}", changed(&state)),
    }
    Ok(())
}

fn changed(state: &Value) -> String {
    match (state["node_id"].as_u64(), state["state"].as_str()) {
        (Some(node), Some("draining")) => {
            format!(
                "node {node} drains; {} of its shards are still to move away: see `cluster status`",
                state["shards"]
            )
        }
        (Some(node), Some(stands)) => format!("node {node} is {stands}"),
        _ if state["paused"] == true => "moves are paused".into(),
        _ => "shards may move".into(),
    }
}

fn moves_text(moves: &MovesStatus) -> String {
    let paused = if moves.paused { " (paused)" } else { "" };
    format!("moves{paused}: {} shards under way, {} replicas still to move", moves.in_flight, moves.to_move)
}

async fn status(args: &StatusArgs) -> Result<(), CliError> {
    let status: ClusterStatus = args.admin.ask(&Call::new(http::Method::GET, "/v1/cluster/status")).await?;
    let text = match args.output {
        Output::Text => render(&status),
        Output::Json => {
            let json = serde_json::to_string_pretty(&status);
            json.map_err(|e| CliError::Failed(e.to_string()))? + "\n"
        }
    };
    print!("{text}");
    Ok(())
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
        let NodeStatus { id, zone, client_addr, admin_addr, state, short_of_disk, .. } = node;
        let (leads, holds) = (count(&leads, *id), count(&holds, *id));
        let disk = if *short_of_disk { "  short of disk" } else { "" };
        let _ = writeln!(
            text,
            "{id:>4}  {state:<11} {zone:<10} {client_addr:<21} {admin_addr:<21} {leads:>7} {holds:>8}{disk}"
        );
    }
    if let Some(meta) = &status.meta {
        let _ = writeln!(text, "\n{}", meta_text(meta));
    }
    if let Some(moves) = &status.moves {
        let _ = writeln!(text, "{}", moves_text(moves));
    }
    let _ = writeln!(text, "\n{:>5}  {:<12} {:>6}  replicas (node: applied, behind)", "shard", "slots", "leader");
    for shard in &status.shards {
        let leader = shard.leader.map_or_else(|| "none".into(), |id| id.to_string());
        let replicas: Vec<_> = shard.replicas.iter().map(|replica| replica_text(shard, replica)).collect();
        let _ =
            writeln!(text, "{:>5}  {:<12} {leader:>6}  {}", shard.id, slots_text(&shard.slots), replicas.join("  "));
    }
    let _ = writeln!(text, "\n{}", summary(status));
    text
}

fn meta_text(meta: &MetaStatus) -> String {
    let leader = meta.leader.map_or_else(|| "none".into(), |id| id.to_string());
    let deciding = meta.replicas.iter().filter(|replica| replica.role != "learner");
    let deciding: Vec<String> = deciding.map(|replica| replica.node.to_string()).collect();
    format!("the record: leader {leader}, decided by nodes {}", deciding.join(", "))
}

fn slots_text(slots: &Value) -> String {
    match slots {
        Value::String(text) => text.clone(),
        Value::Array(ends) if ends.len() == 2 => format!("{}-{}", ends[0], ends[1]),
        other => other.to_string(),
    }
}

/// The furthest any replica of a shard has applied.
fn furthest(shard: &ShardStatus) -> u64 {
    shard.replicas.iter().filter_map(|replica| replica.applied).max().unwrap_or(0)
}

fn replica_text(shard: &ShardStatus, replica: &ReplicaStatus) -> String {
    let mark = match replica.role.as_str() {
        "leader" => "*",
        "learner" => "+",
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

    #[test]
    fn what_was_changed_is_said() {
        let drained: Value = serde_json::from_str(r#"{"node_id":4,"state":"draining","shards":7}"#).unwrap();
        assert!(changed(&drained).contains("node 4 drains; 7 of its shards"));
        let gone: Value = serde_json::from_str(r#"{"node_id":4,"state":"removed","shards":0}"#).unwrap();
        assert_eq!(changed(&gone), "node 4 is removed");
        assert_eq!(changed(&serde_json::from_str(r#"{"paused":true}"#).unwrap()), "moves are paused");
        assert_eq!(changed(&serde_json::from_str(r#"{"paused":false}"#).unwrap()), "shards may move");
        let moves = MovesStatus { paused: true, in_flight: 2, to_move: 5 };
        assert_eq!(moves_text(&moves), "moves (paused): 2 shards under way, 5 replicas still to move");
    }

    const STATUS: &str = r#"{"nodes":[
        {"id":1,"zone":"a","client_addr":"127.0.0.1:7401","peer_addr":"127.0.0.1:7501","admin_addr":"127.0.0.1:7601","state":"active","short_of_disk":false},
        {"id":2,"zone":"b","client_addr":"127.0.0.1:7402","peer_addr":"127.0.0.1:7502","admin_addr":"127.0.0.1:7602","state":"draining","short_of_disk":true}],
      "shards":[
        {"id":0,"slots":[0,8191],"leader":1,"replicas":[{"node":1,"role":"leader","applied":12,"digest":"00000000000000ab"},{"node":2,"role":"follower","applied":9,"digest":"000000000000000c"}]},
        {"id":1,"slots":"8192-16383","leader":null,"replicas":[{"node":1,"role":"follower","applied":4,"digest":null},{"node":2,"role":"unreachable","applied":null,"digest":null}]}]}"#;

    #[test]
    fn a_status_shows_leaders_lag_and_what_is_missing() {
        let status: ClusterStatus = serde_json::from_str(STATUS).unwrap();
        let text = render(&status);
        let lines: Vec<_> = text.lines().collect();
        assert!(lines[1].contains("active") && lines[1].ends_with("      1        2"), "{text}");
        assert!(lines[2].contains("draining") && lines[2].ends_with("      0        2  short of disk"), "{text}");
        assert!(lines[5].contains("0-8191") && lines[5].ends_with("1*: 12  2: 9 (-3)"), "{text}");
        assert!(lines[6].contains("8192-16383") && lines[6].ends_with("none  1: 4  2: unreachable"), "{text}");
        assert!(text.contains("2 shards, 1 without a leader, 1 of 4 replicas unreachable, largest lag 3"), "{text}");
    }

    #[test]
    fn json_goes_through_unchanged() {
        let status: ClusterStatus = serde_json::from_str(STATUS).unwrap();
        let again: Value = serde_json::from_str(&serde_json::to_string(&status).unwrap()).unwrap();
        assert_eq!(again, serde_json::from_str::<Value>(STATUS).unwrap());
    }
}
