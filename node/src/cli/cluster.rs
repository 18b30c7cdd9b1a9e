//! `messenger cluster`.
//!
//! Owns: asking for the cluster's status, and showing it.
//! Must not know: how the status is made.

use super::operators::AdminArgs;
use super::{CliError, Output};
use clap::{Args, Subcommand};
use messenger_client::Call;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::BTreeMap;
use std::fmt::Write;

const EXAMPLES: &str = "\
Examples:
  messenger cluster status
  messenger cluster status --admin http://127.0.0.1:7602 --output json";

/// Look after a cluster
#[derive(Debug, Args)]
pub struct ClusterArgs {
    #[command(subcommand)]
    command: ClusterCommand,
}

#[derive(Debug, Subcommand)]
enum ClusterCommand {
    Status(StatusArgs),
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
    /// Every shard, by id.
    pub shards: Vec<ShardStatus>,
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
    }
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
