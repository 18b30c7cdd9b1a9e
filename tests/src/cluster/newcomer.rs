//! Nodes that join a cluster that runs.
//!
//! Owns: their configurations and how they are started for the first time.
//! Must not know: how a node joins.

use super::{Cluster, Size};
use std::sync::atomic::Ordering;

impl Cluster {
    /// Starts a cluster of one node that wishes for more replicas than it can have yet.
    ///
    /// # Panics
    /// When it does not come up.
    #[must_use]
    pub fn start_alone(shards: u32, replication: u32) -> Self {
        let cluster = Self::start(Size { nodes: 1, shards });
        // What is to be known of the cluster's key and addresses is there now; the wish is made anew.
        cluster.kill(1);
        let _ended = cluster.wait_dev();
        std::fs::remove_dir_all(cluster.node_directory(1).join("data")).expect("the node had a directory");
        let config = std::fs::read_to_string(cluster.config(1)).expect("it has a configuration");
        let wishing = config.replace("replication = 1", &format!("replication = {replication}"));
        assert_ne!(wishing, config, "the configuration names no replication");
        std::fs::write(cluster.config(1), wishing).expect("the directory is writable");
        cluster.restart(1);
        cluster
    }

    /// Prepares one more node, with a directory and addresses of its own, and says its number. The cluster may give it
    /// another id, if several join at once.
    ///
    /// # Panics
    /// When its directory can't be written.
    #[must_use]
    pub fn add(&self, zone: &str) -> u16 {
        let node = self.size.nodes + self.added.fetch_add(1, Ordering::Relaxed) + 1;
        std::fs::create_dir_all(self.node_directory(node)).expect("the directory is writable");
        std::fs::write(self.config(node), self.newcomer(node, zone)).expect("the directory is writable");
        node
    }

    fn newcomer(&self, node: u16, zone: &str) -> String {
        let first = std::fs::read_to_string(self.config(1)).expect("the first node has a configuration");
        let first: toml::Table = first.parse().expect("it is TOML");
        let mut own = toml::Table::new();
        own.insert("data_dir".into(), "data".into());
        own.insert("zone".into(), zone.into());
        own.insert("client_addr".into(), self.client_addr(node).to_string().into());
        own.insert("peer_addr".into(), self.peer_addr(node).to_string().into());
        own.insert("admin_addr".into(), self.admin_addr(node).to_string().into());
        let mut cluster = toml::Table::new();
        cluster.insert("id".into(), first["cluster"]["id"].clone());
        let mut config = toml::Table::new();
        config.insert("node".into(), own.into());
        config.insert("cluster".into(), cluster.into());
        config.insert("auth".into(), first["auth"].clone());
        config.insert("rate_limits".into(), first["rate_limits"].clone());
        config.to_string()
    }

    /// Starts a node that was added, to join through another one; without waiting until it is ready.
    pub fn start_joining(&self, node: u16, via: u16) {
        self.start_node_with(node, &["--join", &format!("http://{}", self.admin_addr(via))]);
    }

    /// Adds a node, has it join and waits until it is ready.
    #[must_use]
    pub fn join(&self, zone: &str, via: u16) -> u16 {
        let node = self.add(zone);
        self.start_joining(node, via);
        self.wait_node_ready(node);
        node
    }

    /// What a node has logged so far.
    #[must_use]
    pub fn log(&self, node: u16) -> String {
        std::fs::read_to_string(self.node_directory(node).join("log")).unwrap_or_default()
    }
}
