//! The directory of a local cluster.
//!
//! Owns: its files, ports and what is printed about them.
//! Must not know: processes.
//! Invariants: a directory made for one shape of cluster is never reused for another.

use crate::auth;
use crate::cli::exit::CliError;
use crate::config::{
    AuditConfig, AuthConfig, ClusterConfig, Config, LimitsConfig, LogConfig, NodeConfig, PeerConfig, ProxiesConfig,
    RateLimitsConfig, TlsConfig,
};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};

/// Where browsers may come from in development.
const DEV_ORIGIN: &str = "http://localhost:5173";

/// A local cluster's directory.
#[derive(Debug)]
pub struct Layout {
    root: PathBuf,
    /// The nodes' configurations, in order of id.
    pub nodes: Vec<Config>,
}

fn failed(path: &Path, error: impl std::fmt::Display) -> CliError {
    CliError::WrongData(format!("{}: {error}", path.display()))
}

impl Layout {
    /// Makes the directory, or checks that it holds a cluster of this shape.
    ///
    /// # Errors
    /// [`CliError`] when it holds another cluster or can't be written.
    pub fn prepare(root: &Path, nodes: u16, shards: u32, base_port: u16) -> Result<Self, CliError> {
        std::fs::create_dir_all(root).map_err(|error| failed(root, error))?;
        let root = root.canonicalize().map_err(|error| failed(root, error))?;
        let keys = auth::dev_keys_path(&root);
        auth::ensure_dev_keys(&keys).map_err(|error| failed(&keys, error))?;
        let id = cluster_id(&root)?;
        let peers: Vec<PeerConfig> = (1..=nodes).map(|node| peer(node, base_port)).collect();
        let replication = if nodes >= 3 { 3 } else { 1 };
        let configs = (1..=nodes).map(|node| Config {
            node: NodeConfig {
                id: node.into(),
                data_dir: "data".into(),
                host: None,
                listen_ip: None,
                zone: String::new(),
                client_addr: None,
                peer_addr: None,
                admin_addr: None,
            },
            cluster: ClusterConfig {
                id: id.clone(),
                bootstrap: node == 1,
                shards,
                replication,
                replace_after_seconds: ClusterConfig::REPLACE_AFTER_SECONDS,
                nodes: peers.clone(),
            },
            auth: AuthConfig { keys: keys.clone(), allowed_origins: vec![DEV_ORIGIN.into()] },
            limits: LimitsConfig::default(),
            rate_limits: RateLimitsConfig::never_met(),
            proxies: ProxiesConfig::default(),
            tls: TlsConfig::default(),
            audit: AuditConfig::default(),
            log: LogConfig::default(),
        });
        let layout = Self { root, nodes: configs.collect() };
        layout.write()?;
        Ok(layout)
    }

    fn write(&self) -> Result<(), CliError> {
        for config in &self.nodes {
            let dir = self.node_dir(config.node.id);
            std::fs::create_dir_all(&dir).map_err(|error| failed(&dir, error))?;
            let path = self.config_path(config.node.id);
            let text = toml::to_string_pretty(config).map_err(|error| failed(&path, error))?;
            let existing = std::fs::read_to_string(&path).ok();
            match existing {
                None => std::fs::write(&path, text).map_err(|error| failed(&path, error))?,
                Some(existing) if fits(&existing, config) => {}
                Some(existing) => return Err(failed(&self.root, another_shape(&existing))),
            }
        }
        let beyond = self.config_path(self.nodes.len() as u64 + 1);
        if beyond.exists() {
            let existing = std::fs::read_to_string(&beyond).unwrap_or_default();
            return Err(failed(&self.root, another_shape(&existing)));
        }
        Ok(())
    }

    fn node_dir(&self, node: u64) -> PathBuf {
        self.root.join(format!("node-{node}"))
    }

    /// A node's configuration file.
    #[must_use]
    pub fn config_path(&self, node: u64) -> PathBuf {
        self.node_dir(node).join("node.toml")
    }

    /// A node's log file.
    #[must_use]
    pub fn log_path(&self, node: u64) -> PathBuf {
        self.node_dir(node).join("log")
    }

    /// The command that starts a node by itself.
    #[must_use]
    pub fn how_to_start(&self, node: u64) -> String {
        format!("{} serve --config {}", program(), self.config_path(node).display())
    }

    /// What a newcomer needs to try the cluster.
    pub fn how_to_try(&self) -> String {
        let me = program();
        let data = self.root.display();
        let urls: Vec<String> = self
            .nodes
            .iter()
            .filter_map(|config| config.this_node().ok())
            .map(|peer| format!("http://{}", peer.client_addr))
            .collect();
        let first = urls.first().cloned().unwrap_or_default();
        // Each through another node, and through the rest when that one is gone.
        let from_first = urls.join(",");
        let from_last = urls.iter().rev().map(String::as_str).collect::<Vec<_>>().join(",");
        let rows: Vec<String> = self
            .nodes
            .iter()
            .filter_map(|config| config.this_node().ok().map(|peer| (config.node.id, peer)))
            .map(|(id, peer)| {
                let log = self.log_path(id);
                format!(
                    "  node {id}  http://{}  admin http://{}  log {}",
                    peer.client_addr,
                    peer.admin_addr,
                    log.display()
                )
            })
            .collect();
        format!(
            "{count} nodes are ready:\n{rows}\n\n\
             Say something (through node 1):\n  \
             TOKEN=$({me} token alice --data {data})\n  \
             curl -sS {first}/v1/threads -H \"Authorization: Bearer $TOKEN\" -H 'Content-Type: application/json' \\\n    \
             -d '{{\"type\":\"1_TO_1\",\"participants\":[\"bob\"]}}'\n\n\
             Or chat, each line in a terminal of its own, through different nodes:\n  \
             {me} chat --data {data} --server {from_first} --as alice --with bob\n  \
             {me} chat --data {data} --server {from_last} --as bob --with alice\n\n\
             See the cluster:\n  {me} cluster status --admin http://{admin}\n\n\
             Ctrl-C stops it; the data stays in {data}.",
            count = self.nodes.len(),
            rows = rows.join("\n"),
            admin = self
                .nodes
                .first()
                .and_then(|config| config.this_node().ok())
                .map_or(String::new(), |peer| peer.admin_addr.to_string()),
        )
    }
}

/// This program, as it is typed.
fn program() -> String {
    std::env::current_exe().map_or_else(|_| "messenger".into(), |path| path.display().to_string())
}

/// Whether a configuration file that is there is for a cluster of this shape; limits that someone tries out are its own.
fn fits(existing: &str, config: &Config) -> bool {
    let Ok(known) = toml::from_str::<Config>(existing) else { return false };
    let limits = (config.rate_limits.clone(), config.proxies.clone());
    Config { rate_limits: limits.0, proxies: limits.1, audit: config.audit.clone(), ..known } == *config
}

/// What a directory holds whose configuration files are for another cluster, and what to do.
fn another_shape(existing: &str) -> String {
    let Ok(Config { cluster, .. }) = toml::from_str::<Config>(existing) else {
        return "holds a configuration that can't be read; give another --data".into();
    };
    let port = cluster.nodes.first().map_or(0, |peer| peer.client_addr.port());
    format!(
        "holds a cluster of another shape: give --nodes {} --shards {} --base-port {port}, or another --data (or, if its \
         node.toml was changed, change it back)",
        cluster.nodes.len(),
        cluster.shards
    )
}

fn peer(node: u16, base_port: u16) -> PeerConfig {
    let address = |offset: u16| SocketAddr::from((Ipv4Addr::LOCALHOST, base_port + offset + node - 1)).into();
    PeerConfig {
        id: node.into(),
        zone: format!("zone-{node}"),
        client_addr: address(0),
        peer_addr: address(100),
        admin_addr: address(200),
    }
}

/// The id a directory's cluster was given when it was made.
fn cluster_id(root: &Path) -> Result<String, CliError> {
    let path = root.join("cluster-id");
    if let Ok(id) = std::fs::read_to_string(&path) {
        return Ok(id.trim().to_owned());
    }
    let id = format!("{:032x}", rand::random::<u128>());
    std::fs::write(&path, format!("{id}\n")).map_err(|error| failed(&path, error))?;
    Ok(id)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TRIED: &str = "[rate_limits.failed_auth]\nwindow_s = 5\nper_address = 7\n";

    #[test]
    fn a_directory_is_used_again_with_the_limits_it_has_and_for_no_other_shape() {
        let directory = tempfile::tempdir().unwrap();
        let prepare = |shards| Layout::prepare(directory.path(), 1, shards, 7401);
        let path = prepare(4).unwrap().config_path(1);
        let made = std::fs::read_to_string(&path).unwrap();
        let mut table: toml::Table = made.parse().unwrap();
        assert_eq!(toml::from_str::<Config>(&made).unwrap().rate_limits, RateLimitsConfig::never_met());
        let why = prepare(8).unwrap_err().to_string();
        assert!(why.contains("--nodes 1 --shards 4 --base-port 7401"), "{why}");
        let why = Layout::prepare(directory.path(), 3, 4, 7401).unwrap_err().to_string();
        assert!(why.contains("--nodes 1 --shards 4"), "{why}");

        // Whatever someone tries out stays.
        table.remove("rate_limits");
        table.remove("proxies");
        let tried = format!("{table}{TRIED}");
        std::fs::write(&path, &tried).unwrap();
        prepare(4).unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), tried);
        assert!(prepare(8).is_err());
    }
}
