//! What makes a configuration consistent.
//!
//! Owns: the bounds of every value.
//! Must not know: where values came from.

use super::{Address, Config, ConfigError, PeerConfig};
use messenger_proto::limits::ZONE_MAX;
use std::collections::BTreeSet;
use std::ops::RangeInclusive;

const MIB: u64 = 1 << 20;

pub(super) fn within(field: &str, value: u64, bounds: RangeInclusive<u64>) -> Result<(), ConfigError> {
    if bounds.contains(&value) {
        return Ok(());
    }
    Err(ConfigError::invalid(field, format!("{value} is not within {} to {}", bounds.start(), bounds.end())))
}

/// An origin is compared as browsers spell it: a scheme and a host, without path, default port or capital letters.
fn check_origin(origin: &str) -> Result<(), ConfigError> {
    let (scheme, authority) = origin.split_once("://").unwrap_or_default();
    let default_port =
        matches!((scheme, authority.rsplit_once(':')), ("http", Some((_, "80"))) | ("https", Some((_, "443"))));
    let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b".-:[]+".contains(&byte);
    if !scheme.is_empty() && !authority.is_empty() && !default_port && origin.replace("://", "").bytes().all(plain) {
        return Ok(());
    }
    let problem = format!("{origin:?} is not an origin as browsers send it, like https://chat.example");
    Err(ConfigError::invalid("auth.allowed_origins", problem))
}

/// What was found wrong so far.
#[derive(Default)]
pub(super) struct Problems(Vec<ConfigError>);

impl Problems {
    /// Takes note of what a check found.
    pub(super) fn add<T>(&mut self, checked: Result<T, ConfigError>) -> Option<T> {
        checked.map_err(|error| self.0.push(error)).ok()
    }

    #[cfg(test)]
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl Config {
    /// All that contradicts itself or is out of bounds; nothing if the configuration can be used.
    #[must_use]
    pub fn problems(&self) -> Vec<ConfigError> {
        let mut found = Problems::default();
        found.add(self.cluster_id());
        if self.joins() {
            self.check_newcomer(&mut found);
        } else {
            self.check_first(&mut found);
        }
        found.add(within("cluster.shards", self.cluster.shards.into(), 1..=4096));
        let replace_after = self.cluster.replace_after_seconds.into();
        found.add(within("cluster.replace_after_seconds", replace_after, 0..=30 * 86_400));
        self.check_limits(&mut found);
        self.rate_limits.check(&mut found);
        self.audit.check(&mut found);
        found.add(self.tls.check());
        for origin in &self.auth.allowed_origins {
            found.add(check_origin(origin));
        }
        let filter = tracing_subscriber::EnvFilter::try_new(&self.log.filter);
        found.add(filter.map_err(|error| ConfigError::invalid("log.filter", error.to_string())));
        found.0
    }

    /// A node that its cluster starts with: the list says where it listens.
    fn check_first(&self, found: &mut Problems) {
        self.check_nodes(found);
        let this = found.add(self.this_node());
        let node = &self.node;
        if !node.zone.is_empty() || [&node.client_addr, &node.peer_addr, &node.admin_addr].iter().any(|at| at.is_some())
        {
            let problem = "has a zone or addresses, which cluster.nodes has too: leave out one or the other";
            found.add::<()>(Err(ConfigError::invalid("node", problem)));
        }
        if let Some(this) = this {
            self.check_ports(found, &this);
        }
        found.add(within("cluster.replication", self.cluster.replication.into(), 1..=9));
        if self.cluster.replication.is_multiple_of(2) {
            let problem = "must be odd: an even number survives no more";
            found.add::<()>(Err(ConfigError::invalid("cluster.replication", problem)));
        }
    }

    /// A node that joins: it speaks for itself alone.
    fn check_newcomer(&self, found: &mut Problems) {
        if self.node.id != 0 {
            let problem =
                "is given by the cluster to a node that joins: leave it out, or list the nodes in cluster.nodes";
            found.add::<()>(Err(ConfigError::invalid("node.id", problem)));
        }
        if self.cluster.bootstrap {
            let problem = "needs cluster.nodes, the nodes to begin with";
            found.add::<()>(Err(ConfigError::invalid("cluster.bootstrap", problem)));
        }
        let Some(this) = found.add(self.this_node()) else { return };
        found.add(within("node.zone, in bytes,", this.zone.len() as u64, 0..=ZONE_MAX as u64));
        self.check_ports(found, &this);
        let mut known = BTreeSet::new();
        let listens =
            [("client_addr", this.client_addr), ("peer_addr", this.peer_addr), ("admin_addr", this.admin_addr)];
        for (field, address) in listens {
            if address.port() == 0 || address.ip().is_some_and(|ip| ip.is_unspecified()) {
                let problem = format!("{address} is not where others can reach it");
                found.add::<()>(Err(ConfigError::invalid(format!("node.{field}"), problem)));
            }
            if !known.insert(address.clone()) {
                let problem = format!("{address} stands twice");
                found.add::<()>(Err(ConfigError::invalid(format!("node.{field}"), problem)));
            }
        }
    }

    /// At one IP address three listeners need three ports.
    fn check_ports(&self, found: &mut Problems, this: &PeerConfig) {
        let Some(ip) = self.node.listen_ip else { return };
        let ports = [&this.client_addr, &this.peer_addr, &this.admin_addr].map(Address::port);
        if BTreeSet::from(ports).len() < ports.len() {
            let problem = format!("is {ip}, where the node's three addresses need three ports");
            found.add::<()>(Err(ConfigError::invalid("node.listen_ip", problem)));
        }
    }

    fn check_nodes(&self, found: &mut Problems) {
        found.add(within("cluster.nodes", self.cluster.nodes.len() as u64, 1..=9));
        let (mut ids, mut addresses) = (BTreeSet::new(), BTreeSet::new());
        for peer in &self.cluster.nodes {
            found.add(within("cluster.nodes.id", peer.id, 1..=u64::from(u32::MAX)));
            if !ids.insert(peer.id) {
                let problem = format!("id {} stands twice", peer.id);
                found.add::<()>(Err(ConfigError::invalid("cluster.nodes", problem)));
            }
            for address in [&peer.client_addr, &peer.peer_addr, &peer.admin_addr] {
                if !addresses.insert(address) {
                    let problem = format!("address {address} stands twice");
                    found.add::<()>(Err(ConfigError::invalid("cluster.nodes", problem)));
                }
            }
        }
    }

    fn check_limits(&self, found: &mut Problems) {
        let limits = &self.limits;
        let bounds = [
            ("limits.proposal_bytes", limits.proposal_bytes.into(), MIB..=u64::from(u32::MAX)),
            ("limits.request_bytes", limits.request_bytes.into(), MIB..=u64::from(u32::MAX)),
            ("limits.requests", limits.requests.into(), 1..=1_000_000),
            ("limits.connections", limits.connections.into(), 1..=10_000_000),
            ("limits.tail_bytes", limits.tail_bytes.into(), 64 * 1024..=1 << 30),
            ("limits.moves", limits.moves.into(), 1..=1_000),
            ("limits.moves_per_node", limits.moves_per_node.into(), 1..=1_000),
            ("limits.move_bytes_per_second", limits.move_bytes_per_second, 64 << 10..=16 << 30),
            ("limits.erase_every_seconds", limits.erase_every_seconds.into(), 1..=86_400),
            ("limits.store_bytes", limits.store_bytes, 32 * MIB..=1 << 40),
        ];
        for (field, value, bounds) in bounds {
            found.add(within(field, value, bounds));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Config, Overrides};
    use std::io::Write;

    const GOOD: &str = r#"
[node]
id = 1
data_dir = "data"
[cluster]
id = "000102030405060708090a0b0c0d0e0f"
replication = 1
nodes = [{ id = 1, client_addr = "127.0.0.1:1", peer_addr = "127.0.0.1:2", admin_addr = "127.0.0.1:3" }]
[auth]
keys = "keys.json"
"#;

    fn load(text: &str) -> Result<Config, String> {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(text.as_bytes()).unwrap();
        Config::load(file.path(), &Overrides::default()).map_err(|error| error.to_string())
    }

    #[test]
    fn a_good_file_loads_with_defaults_and_paths_beside_it() {
        let config = load(GOOD).unwrap();
        assert_eq!(config.cluster.shards, 64);
        assert!(config.node.data_dir.is_absolute());
    }

    #[test]
    fn origins_are_taken_as_browsers_send_them() {
        let origins = r#"["https://chat.example", "http://localhost:5173", "http://[::1]:8080", "tauri://localhost"]"#;
        let config = load(&GOOD.replace("[auth]", &format!("[auth]\nallowed_origins = {origins}"))).unwrap();
        assert_eq!(config.auth.allowed_origins.len(), 4);
    }

    const NEWCOMER: &str = r#"
[node]
data_dir = "data"
zone = "b"
client_addr = "10.0.0.4:1"
peer_addr = "10.0.0.4:2"
admin_addr = "10.0.0.4:3"
[cluster]
id = "000102030405060708090a0b0c0d0e0f"
[auth]
keys = "keys.json"
"#;

    #[test]
    fn a_node_that_joins_speaks_for_itself_alone() {
        let config = load(NEWCOMER).unwrap();
        let this = config.this_node().unwrap();
        assert!(config.joins() && this.zone == "b" && this.peer_addr.port() == 2);
        assert!(config.first_nodes().is_empty());
        let cases = [
            ("[node]", "[node]\nid = 4", "node.id"),
            ("[cluster]", "[cluster]\nbootstrap = true", "cluster.bootstrap"),
            ("peer_addr = \"10.0.0.4:2\"\n", "", "node.peer_addr"),
            ("10.0.0.4:2", "10.0.0.4:1", "stands twice"),
            ("10.0.0.4:2", "0.0.0.0:2", "node.peer_addr"),
            ("10.0.0.4:3", "10.0.0.4:0", "node.admin_addr"),
            ("zone = \"b\"", &format!("zone = \"{}\"", "z".repeat(65)), "node.zone"),
        ];
        for (from, to, expected) in cases {
            let error = load(&NEWCOMER.replacen(from, to, 1)).unwrap_err();
            assert!(error.contains(expected) && !error.contains('\n'), "{error}");
        }
    }

    #[test]
    fn all_mistakes_are_named_at_once() {
        let bad = GOOD.replace("replication = 1", "replication = 4\nshards = 0").replace("0e0f", "0e");
        let bad = bad.replace("[auth]", "[limits]\nrequests = 0\nmoves = 0\n[audit]\nkeep_days = 0\n[auth]");
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(bad.as_bytes()).unwrap();
        let config = Config::read(file.path(), &Overrides::default()).unwrap();
        let found: Vec<String> = config.problems().iter().map(ToString::to_string).collect();
        let fields =
            ["cluster.id", "cluster.replication", "cluster.shards", "limits.requests", "limits.moves", "audit.keep"];
        assert_eq!(found.len(), fields.len(), "{found:?}");
        for (found, field) in found.iter().zip(fields) {
            assert!(found.starts_with(field), "{found}");
        }
    }

    #[test]
    fn three_listeners_of_one_address_need_three_ports() {
        let ports = |admin: &str| {
            let at = format!(
                "listen_ip = \"0.0.0.0\"\nclient_addr = \"a:1\"\npeer_addr = \"b:2\"\nadmin_addr = \"c:{admin}\""
            );
            let own = NEWCOMER
                .replace("client_addr = \"10.0.0.4:1\"\npeer_addr = \"10.0.0.4:2\"\nadmin_addr = \"10.0.0.4:3\"", &at);
            load(&own)
        };
        assert!(ports("3").is_ok());
        assert!(ports("2").unwrap_err().contains("node.listen_ip"));
    }

    #[test]
    fn each_mistake_is_named_on_one_line() {
        let cases = [
            ("id = 1\ndata_dir", "id = 1\nzone = \"a\"\ndata_dir", "node"),
            ("id = 1\ndata_dir", "id = 1\nclient_addr = \"127.0.0.1:1\"\ndata_dir", "cluster.nodes"),
            ("id = 1\ndata_dir", "id = 2\ndata_dir", "node.id"),
            ("replication = 1", "replication = 2", "cluster.replication"),
            ("replication = 1", "replication = 11", "cluster.replication"),
            ("[auth]", "[limits]\nmoves = 0\n[auth]", "limits.moves"),
            ("[auth]", "[limits]\nmove_bytes_per_second = 1\n[auth]", "limits.move_bytes_per_second"),
            ("replication = 1", "replication = 1\nreplace_after_seconds = 9999999", "cluster.replace_after_seconds"),
            ("0e0f", "0e", "cluster.id"),
            ("127.0.0.1:3", "127.0.0.1:2", "stands twice"),
            ("127.0.0.1:3", "127.0.0:3", "a host and a port"),
            ("[auth]", "[log]\nfilter = \"=x=\"\n[auth]", "log.filter"),
            ("[auth]", "[limits]\nrequests = 0\n[auth]", "limits.requests"),
            ("[auth]", "[auth]\nallowed_origins = [\"*\"]", "auth.allowed_origins"),
            ("[auth]", "[auth]\nallowed_origins = [\"https://a.example/\"]", "auth.allowed_origins"),
            ("[auth]", "[auth]\nallowed_origins = [\"https://A.example\"]", "auth.allowed_origins"),
            ("[auth]", "[auth]\nallowed_origins = [\"https://a.example:443\"]", "auth.allowed_origins"),
            ("[auth]", "[rate_limits]\nremembered_keys = 1\n[auth]", "rate_limits.remembered_keys"),
            ("[auth]", "[rate_limits.sends]\nwindow_s = 60\n[auth]", "per_user"),
            (
                "[auth]",
                "[rate_limits.failed_auth]\nwindow_s = 0\nper_address = 1\n[auth]",
                "rate_limits.failed_auth.window_s",
            ),
            (
                "[auth]",
                "[rate_limits.failed_auth]\nwindow_s = 1\nper_address = 10000001\n[auth]",
                "failed_auth.per_address",
            ),
            ("[auth]", "[proxies]\ntrusted = [\"10.0.0.0/33\"]\n[auth]", "10.0.0.7"),
            ("[auth]", "[proxies]\nheader = \"x-real-ip\"\n[auth]", "x-real-ip"),
            ("[auth]", "[auth]\nsurprise = 1", "surprise"),
            ("id = 1\n", "id = \"one\"\n", "line 3"),
            ("id = 1\n", "id = 1\nsurprise = 1\n", "line 4"),
        ];
        for (from, to, expected) in cases {
            let error = load(&GOOD.replacen(from, to, 1)).unwrap_err();
            assert!(error.contains(expected), "{error}");
            assert!(!error.contains('\n'), "{error}");
        }
    }
}
