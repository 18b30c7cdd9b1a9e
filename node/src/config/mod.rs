//! A node's configuration.
//!
//! Owns: the file's shape, defaults, bounds and checks; flags win over `MESSENGER_*`, which win over the file.
//! Must not know: how a value is used.
//! Invariants: no value is a secret: those are in files that it names; a loaded [`Config`] is consistent: addresses parse, ids are unique, R is odd;
//! it is of a node that its cluster starts with, or of one that joins, and nothing between.

mod address;
mod audit;
mod check;
mod host;
mod rates;
mod shown;
mod tls;

pub use address::{Address, NotAnAddress};
pub use audit::AuditConfig;
pub use rates::{
    ClassLimits, FailedAuthLimits, ForwardedHeader, KeyFetchLimits, Network, ProxiesConfig, RateLimitsConfig,
    TOKENS_MAX, WINDOW_S_MAX,
};

pub use tls::{CertifiedFiles, ClientTls, PeerTlsFiles, TlsConfig};

use messenger_proto::ids::{ClusterId, NodeId};
use messenger_proto::meta::{NodeInfo, NodeState};
use serde::{Deserialize, Serialize};
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Why a configuration can't be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file can't be read.
    #[error("cannot read {path}: {source}")]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The file isn't TOML of the right shape.
    #[error("{path}: {message}")]
    Parse {
        /// The file.
        path: PathBuf,
        /// Where and why, on one line.
        message: String,
    },
    /// A value is out of bounds or contradicts another.
    #[error("{field}: {problem}")]
    Invalid {
        /// Dotted name of the field.
        field: String,
        /// What is wrong with it.
        problem: String,
    },
}

impl ConfigError {
    fn invalid(field: impl Into<String>, problem: impl Into<String>) -> Self {
        Self::Invalid { field: field.into(), problem: problem.into() }
    }
}

/// One node's configuration.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// This node.
    pub node: NodeConfig,
    /// The cluster it belongs to.
    pub cluster: ClusterConfig,
    /// Who may come in.
    pub auth: AuthConfig,
    /// Bounds of what it takes on.
    #[serde(default)]
    pub limits: LimitsConfig,
    /// How much clients may ask of it.
    #[serde(default)]
    pub rate_limits: RateLimitsConfig,
    /// What stands between it and its clients.
    #[serde(default)]
    pub proxies: ProxiesConfig,
    /// What it encrypts.
    #[serde(default, skip_serializing_if = "TlsConfig::is_none")]
    pub tls: TlsConfig,
    /// What it records of writes.
    #[serde(default, skip_serializing_if = "AuditConfig::is_default")]
    pub audit: AuditConfig,
    /// What it says.
    #[serde(default)]
    pub log: LogConfig,
}

/// This node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NodeConfig {
    /// Its id, one of `cluster.nodes`; from 1, never used again once its disk is gone. Left out at a node that joins: the
    /// cluster gives it one.
    #[serde(default, skip_serializing_if = "is_unset")]
    pub id: u64,
    /// Where it keeps everything.
    pub data_dir: PathBuf,
    /// The name or IP address by which others reach this node's host, where nodes share one file: the node is the one of
    /// `cluster.nodes` whose `peer_addr` is there, and joins if there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
    /// The IP address to listen at, if others reach the node at another one or by a name; `0.0.0.0` or `::` for all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub listen_ip: Option<IpAddr>,
    /// At a node that joins, what fails together with it; at the others `cluster.nodes` says so.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub zone: String,
    /// At a node that joins, where it listens for clients.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_addr: Option<Address>,
    /// At a node that joins, where it listens for other nodes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub peer_addr: Option<Address>,
    /// At a node that joins, where it listens for operators.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub admin_addr: Option<Address>,
}

#[allow(clippy::trivially_copy_pass_by_ref)] // as serde calls it
fn is_unset(id: &u64) -> bool {
    *id == 0
}

/// The cluster a node belongs to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClusterConfig {
    /// 32 hexadecimal digits; the same on every node. Nodes of different clusters refuse each other.
    pub id: String,
    /// Whether this node makes the cluster if it does not exist yet; on exactly one node.
    #[serde(default)]
    pub bootstrap: bool,
    /// Shards made at bootstrap: 1-4096; fixed from then on.
    #[serde(default = "default_shards")]
    pub shards: u32,
    /// Replicas that each shard should have: odd, 1-9; with fewer nodes as many as there can be, and more as nodes join.
    /// Set at bootstrap.
    #[serde(default = "default_replication")]
    pub replication: u32,
    /// What a node held that was silent for so long is made anew on others, if enough are left, when this node leads the
    /// meta group: 1 to 2,592,000, or 0 for never.
    #[serde(default = "default_replace_after", skip_serializing_if = "is_default_replace_after")]
    pub replace_after_seconds: u32,
    /// The nodes the cluster starts with: 1-9. Left out at a node that joins one that runs.
    #[serde(default)]
    pub nodes: Vec<PeerConfig>,
}

/// One node of the cluster.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PeerConfig {
    /// Its id.
    pub id: u64,
    /// What fails together with it, as a rack or an availability zone.
    #[serde(default)]
    pub zone: String,
    /// For clients.
    pub client_addr: Address,
    /// For other nodes.
    pub peer_addr: Address,
    /// For operators.
    pub admin_addr: Address,
}

/// Who may come in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AuthConfig {
    /// A JSON file that names the issuer, the audience and the keys of tokens.
    pub keys: PathBuf,
    /// Origins that browsers may come from, exactly; none by default.
    #[serde(default)]
    pub allowed_origins: Vec<String>,
}

/// Bounds of what a node takes on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LimitsConfig {
    /// Bytes of commands that may wait or be in flight at this node's shards: 1 MiB to 4 GiB.
    pub proposal_bytes: u32,
    /// Bytes of request bodies being handled at once: 1 MiB to 4 GiB.
    pub request_bytes: u32,
    /// Requests being handled at once: 1 to 1,000,000.
    pub requests: u32,
    /// Client connections: 1 to 10,000,000.
    pub connections: u32,
    /// Bytes of recent events each shard keeps for its live followers: 64 KiB to 1 GiB.
    pub tail_bytes: u32,
    /// Bytes of memory the store uses for write buffers and cache together: 32 MiB to 1 TiB.
    pub store_bytes: u64,
    /// Bytes of disk to keep free: with less the node takes no commands, and hands its leaders over. 0 for none.
    #[serde(skip_serializing_if = "is_default_reserve")]
    pub disk_reserve_bytes: u64,
    /// What a message said that was deleted, edited or has disappeared leaves the disk after once to twice so long: 1 to
    /// 86,400.
    #[serde(skip_serializing_if = "is_default_erase")]
    pub erase_every_seconds: u32,
    /// Shards on the move at once, when this node leads the meta group: 1 to 1,000.
    #[serde(skip_serializing_if = "is_default_moves")]
    pub moves: u32,
    /// The same of those that come to a node or leave it: 1 to 1,000.
    #[serde(skip_serializing_if = "is_default_moves_per_node")]
    pub moves_per_node: u32,
    /// Bytes of snapshots that this node sends in a second, most of what a move takes: 64 KiB to 16 GiB.
    #[serde(skip_serializing_if = "is_default_move_bytes")]
    pub move_bytes_per_second: u64,
}

#[allow(clippy::trivially_copy_pass_by_ref)] // as serde calls it
fn is_default_move_bytes(bytes: &u64) -> bool {
    *bytes == LimitsConfig::default().move_bytes_per_second
}

#[allow(clippy::trivially_copy_pass_by_ref)] // as serde calls it
fn is_default_moves(moves: &u32) -> bool {
    *moves == LimitsConfig::default().moves
}

#[allow(clippy::trivially_copy_pass_by_ref)] // as serde calls it
fn is_default_moves_per_node(moves: &u32) -> bool {
    *moves == LimitsConfig::default().moves_per_node
}

#[allow(clippy::trivially_copy_pass_by_ref)] // as serde calls it
fn is_default_erase(seconds: &u32) -> bool {
    *seconds == LimitsConfig::default().erase_every_seconds
}

/// Files made before there was a choice name none.
#[allow(clippy::trivially_copy_pass_by_ref)] // as serde calls it
fn is_default_reserve(bytes: &u64) -> bool {
    *bytes == LimitsConfig::default().disk_reserve_bytes
}

impl Default for LimitsConfig {
    fn default() -> Self {
        Self {
            proposal_bytes: 64 << 20,
            request_bytes: 128 << 20,
            requests: 8192,
            connections: 100_000,
            tail_bytes: 4 << 20,
            store_bytes: 512 << 20,
            disk_reserve_bytes: 512 << 20,
            erase_every_seconds: 600,
            moves: 8,
            moves_per_node: 4,
            move_bytes_per_second: 64 << 20,
        }
    }
}

/// What a node says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LogConfig {
    /// A `tracing` filter.
    pub filter: String,
    /// `text` or `json`.
    pub format: LogFormat,
}

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

impl Default for LogConfig {
    fn default() -> Self {
        Self { filter: "info,openraft=error".into(), format: LogFormat::Text }
    }
}

fn default_shards() -> u32 {
    64
}

fn default_replication() -> u32 {
    3
}

fn default_replace_after() -> u32 {
    ClusterConfig::REPLACE_AFTER_SECONDS
}

#[allow(clippy::trivially_copy_pass_by_ref)] // as serde calls it
fn is_default_replace_after(seconds: &u32) -> bool {
    *seconds == default_replace_after()
}

impl ClusterConfig {
    /// How long a node may be silent that says nothing about it.
    pub const REPLACE_AFTER_SECONDS: u32 = 600;

    /// After how long of silence a node is given up; never without.
    #[must_use]
    pub fn replace_after(&self) -> Option<Duration> {
        let seconds = u64::from(self.replace_after_seconds);
        (seconds > 0).then(|| Duration::from_secs(seconds))
    }
}

/// Values given on the command line or in the environment; each wins over the file's.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct Overrides {
    /// Where the node keeps everything.
    #[arg(long = "data", env = "MESSENGER_DATA", value_name = "DIR")]
    pub data_dir: Option<PathBuf>,
    /// The file with the keys of tokens.
    #[arg(long, env = "MESSENGER_KEYS", value_name = "FILE")]
    pub keys: Option<PathBuf>,
    /// The name or IP address by which others reach this host, where nodes share one file.
    #[arg(long, env = "MESSENGER_HOST", value_name = "HOST")]
    pub host: Option<String>,
    /// The IP address to listen at, if it is not the one that others reach.
    #[arg(long, env = "MESSENGER_LISTEN_IP", value_name = "IP")]
    pub listen_ip: Option<IpAddr>,
    /// At a node that joins, what fails together with it.
    #[arg(long, env = "MESSENGER_ZONE", value_name = "ZONE")]
    pub zone: Option<String>,
    /// A log filter, as `info` or `info,messenger_raft=debug`.
    #[arg(long, env = "MESSENGER_LOG", value_name = "FILTER")]
    pub log: Option<String>,
    /// How log lines look.
    #[arg(long, env = "MESSENGER_LOG_FORMAT", value_name = "FORMAT")]
    pub log_format: Option<LogFormat>,
}

impl Config {
    /// Reads a file, lays the overrides over it and checks the result.
    ///
    /// # Errors
    /// [`ConfigError`], each naming the file or field.
    pub fn load(path: &Path, overrides: &Overrides) -> Result<Self, ConfigError> {
        let config = Self::read(path, overrides)?;
        match config.problems().into_iter().next() {
            None => Ok(config),
            Some(problem) => Err(problem),
        }
    }

    /// The same without the check: see [`Config::problems`].
    ///
    /// # Errors
    /// [`ConfigError`] when the file can't be read, or is not of the right shape.
    pub fn read(path: &Path, overrides: &Overrides) -> Result<Self, ConfigError> {
        let text =
            std::fs::read_to_string(path).map_err(|source| ConfigError::Read { path: path.to_owned(), source })?;
        let mut config: Self = toml::from_str(&text).map_err(|error| {
            let line = error.span().map_or(1, |span| 1 + text[..span.start].matches('\n').count());
            let message = format!("line {line}: {}", error.message().replace('\n', " "));
            ConfigError::Parse { path: path.to_owned(), message }
        })?;
        let base = path.parent().unwrap_or(Path::new("."));
        config.node.data_dir = base.join(&config.node.data_dir);
        config.auth.keys = base.join(&config.auth.keys);
        config.tls.lie_in(base);
        config.lay_over(overrides);
        config.settle_host()?;
        Ok(config)
    }

    fn lay_over(&mut self, overrides: &Overrides) {
        let Overrides { data_dir, keys, host, listen_ip, zone, log, log_format } = overrides.clone();
        let node = &mut self.node;
        node.data_dir = data_dir.unwrap_or(std::mem::take(&mut node.data_dir));
        node.host = host.or(node.host.take());
        node.listen_ip = listen_ip.or(node.listen_ip);
        node.zone = zone.unwrap_or(std::mem::take(&mut node.zone));
        self.auth.keys = keys.unwrap_or(std::mem::take(&mut self.auth.keys));
        self.log.filter = log.unwrap_or(std::mem::take(&mut self.log.filter));
        self.log.format = log_format.unwrap_or(self.log.format);
    }

    /// The cluster's id.
    ///
    /// # Errors
    /// [`ConfigError::Invalid`] when it is not 32 hexadecimal digits.
    pub fn cluster_id(&self) -> Result<ClusterId, ConfigError> {
        self.cluster.id.parse().map_err(|_| ConfigError::invalid("cluster.id", "must be 32 hexadecimal digits"))
    }

    /// Whether this node is none of those that its cluster started with: it has its id from the cluster.
    #[must_use]
    pub fn joins(&self) -> bool {
        self.cluster.nodes.is_empty()
    }

    /// This node's id; 0 at one that joins.
    #[must_use]
    pub fn node_id(&self) -> NodeId {
        NodeId(self.node.id)
    }

    /// This node's entry in the list, or what it says of itself if it joins.
    ///
    /// # Errors
    /// [`ConfigError::Invalid`] when it isn't listed, or says too little.
    pub fn this_node(&self) -> Result<PeerConfig, ConfigError> {
        if !self.joins() {
            let found = self.cluster.nodes.iter().find(|peer| peer.id == self.node.id);
            return found.cloned().ok_or_else(|| ConfigError::invalid("node.id", "is not one of cluster.nodes"));
        }
        let listens = |field: &str, address: Option<&Address>| {
            let problem =
                "is missing: without cluster.nodes this node joins a cluster, and says itself where it listens";
            address.cloned().ok_or_else(|| ConfigError::invalid(field, problem))
        };
        Ok(PeerConfig {
            id: self.node.id,
            zone: self.node.zone.clone(),
            client_addr: listens("node.client_addr", self.node.client_addr.as_ref())?,
            peer_addr: listens("node.peer_addr", self.node.peer_addr.as_ref())?,
            admin_addr: listens("node.admin_addr", self.node.admin_addr.as_ref())?,
        })
    }

    /// The nodes the cluster starts with, as its record will hold them.
    #[must_use]
    pub fn first_nodes(&self) -> Vec<NodeInfo> {
        let info = |peer: &PeerConfig| NodeInfo {
            id: NodeId(peer.id),
            zone: peer.zone.clone(),
            client_addr: peer.client_addr.to_string(),
            peer_addr: peer.peer_addr.to_string(),
            admin_addr: peer.admin_addr.to_string(),
            state: NodeState::Active,
            store: None,
        };
        self.cluster.nodes.iter().map(info).collect()
    }
}
