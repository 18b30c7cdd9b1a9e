//! One configuration for all nodes of a cluster, each of which is told no more than its host's name.
//!
//! Owns: what a node is by `node.host`: one of those that its cluster starts with, or one that joins.
//! Must not know: where the name came from.
//! Invariants: what comes out is a configuration like any other, and comes out of itself again; of all nodes that share a
//! file only the first of `cluster.nodes` makes the cluster.

use super::{Address, Config, ConfigError};

/// Ports of a node that joins and names none: for clients, for other nodes, for operators.
const PORTS: [u16; 3] = [7401, 7501, 7601];

impl Config {
    /// Says what `node.host` implies.
    pub(super) fn settle_host(&mut self) -> Result<(), ConfigError> {
        let Some(host) = self.node.host.clone() else { return Ok(()) };
        let not_a_host =
            |problem: super::NotAnAddress| ConfigError::invalid("node.host", format!("{host:?} {problem}"));
        let [client, peer, admin] = PORTS.map(|port| Address::of(&host, port).map_err(not_a_host));
        let (client, peer, admin) = (client?, peer?, admin?);
        let found = self.cluster.nodes.iter().position(|node| node.peer_addr.is_of(&host));
        let Some(index) = found else {
            self.cluster.nodes.clear();
            self.cluster.bootstrap = false;
            self.node.client_addr.get_or_insert(client);
            self.node.peer_addr.get_or_insert(peer);
            self.node.admin_addr.get_or_insert(admin);
            return Ok(());
        };
        let id = self.cluster.nodes[index].id;
        if self.node.id != 0 && self.node.id != id {
            let problem = format!("is {}, but cluster.nodes has {host} as node {id}: leave it out", self.node.id);
            return Err(ConfigError::invalid("node.id", problem));
        }
        self.node.id = id;
        self.cluster.bootstrap &= index == 0;
        // The list says where it fails, and the shared file or the environment what the others do.
        self.node.zone.clear();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use crate::config::{Config, Overrides};
    use std::io::Write;

    const SHARED: &str = r#"
[node]
data_dir = "/data"
listen_ip = "0.0.0.0"
[cluster]
id = "000102030405060708090a0b0c0d0e0f"
bootstrap = true
nodes = [
    { id = 1, zone = "a", client_addr = "m-0.m:7401", peer_addr = "m-0.m:7501", admin_addr = "m-0.m:7601" },
    { id = 2, zone = "b", client_addr = "m-1.m:7401", peer_addr = "m-1.m:7501", admin_addr = "m-1.m:7601" },
    { id = 3, zone = "c", client_addr = "m-2.m:7401", peer_addr = "m-2.m:7501", admin_addr = "m-2.m:7601" },
]
[auth]
keys = "/keys.json"
"#;

    fn load(text: &str, host: &str) -> Result<Config, String> {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(text.as_bytes()).unwrap();
        let overrides = Overrides { host: Some(host.into()), zone: Some("z".into()), ..Overrides::default() };
        Config::load(file.path(), &overrides).map_err(|error| error.to_string())
    }

    #[test]
    fn nodes_that_share_a_file_are_told_apart_by_their_names() {
        let (first, second) = (load(SHARED, "m-0.m").unwrap(), load(SHARED, "M-1.m").unwrap());
        assert_eq!((first.node.id, first.cluster.bootstrap), (1, true));
        assert_eq!((second.node.id, second.cluster.bootstrap, second.joins()), (2, false, false));
        let fourth = load(SHARED, "m-3.m").unwrap();
        let this = fourth.this_node().unwrap();
        assert!(fourth.joins() && !fourth.cluster.bootstrap);
        assert_eq!((this.peer_addr.to_string().as_str(), this.zone.as_str()), ("m-3.m:7501", "z"));
        for config in [first, second, fourth] {
            let written = toml::to_string(&config).unwrap();
            assert_eq!(load(&written, config.node.host.as_deref().unwrap()), Ok(config), "{written}");
        }
    }

    #[test]
    fn a_name_that_is_none_or_another_node_s_is_refused() {
        assert!(load(SHARED, "m 0").unwrap_err().contains("node.host"));
        let other = SHARED.replace("[node]", "[node]\nid = 2");
        assert!(load(&other, "m-0.m").unwrap_err().contains("node.id"));
    }
}
