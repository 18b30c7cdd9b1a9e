//! A configuration as it is in force.
//!
//! Owns: writing it out, with every default.
//! Must not know: who reads it.
//! Invariants: what is written is read as the same configuration, from any directory; no secret is in it, as none is in a
//! [`Config`].

use super::Config;
use std::path::{Path, PathBuf, absolute};
use toml::{Table, Value};

fn anywhere(path: &Path) -> PathBuf {
    // Only an empty path, or no working directory, has none.
    absolute(path).unwrap_or_else(|_| path.to_owned())
}

impl Config {
    /// The file that says all that is in force.
    ///
    /// # Errors
    /// When a path is no text.
    pub fn shown(&self) -> Result<String, toml::ser::Error> {
        let mut config = self.clone();
        config.node.data_dir = anywhere(&config.node.data_dir);
        config.auth.keys = anywhere(&config.auth.keys);
        config.tls.paths().for_each(|path| *path = anywhere(path));
        let mut table = Table::try_from(&config)?;
        // What is left out of files that are made, where it is the default.
        table.insert("audit".into(), Value::try_from(&config.audit)?);
        if let Some(cluster) = table.get_mut("cluster").and_then(Value::as_table_mut) {
            let replace_after = Value::try_from(config.cluster.replace_after_seconds)?;
            cluster.insert("replace_after_seconds".into(), replace_after);
        }
        let limits = &config.limits;
        let left_out = [
            ("disk_reserve_bytes", limits.disk_reserve_bytes),
            ("erase_every_seconds", limits.erase_every_seconds.into()),
            ("moves", limits.moves.into()),
            ("moves_per_node", limits.moves_per_node.into()),
            ("move_bytes_per_second", limits.move_bytes_per_second),
        ];
        if let Some(limits) = table.get_mut("limits").and_then(Value::as_table_mut) {
            for (name, value) in left_out {
                limits.insert(name.into(), Value::try_from(value)?);
            }
        }
        toml::to_string(&table)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Overrides;

    /// Every name of a table, with those of the tables in it.
    fn names(table: &Table, into: &mut Vec<String>) {
        for (name, value) in table {
            into.push(name.clone());
            let inner = value.as_array().into_iter().flatten().chain([value]);
            inner.filter_map(Value::as_table).for_each(|inner| names(inner, into));
        }
    }

    #[test]
    fn what_is_shown_names_every_field_and_reads_as_the_same() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("node.toml");
        let text = "[node]\nid = 1\ndata_dir = \"data\"\nlisten_ip = \"::\"\n[cluster]\nid = \"000102030405060708090a0b0c0d0e0f\"\n\
                    nodes = [{ id = 1, client_addr = \"a:1\", peer_addr = \"a:2\", admin_addr = \"a:3\" }]\n\
                    [auth]\nkeys = \"keys.json\"\n";
        std::fs::write(&path, text).unwrap();
        let config = Config::load(&path, &Overrides::default()).unwrap();
        let shown = config.shown().unwrap();
        let other = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(other.path(), &shown).unwrap();
        assert_eq!(Config::load(other.path(), &Overrides::default()).unwrap(), config, "{shown}");
        let table: Table = shown.parse().unwrap();
        let mut all = Vec::new();
        names(&table, &mut all);
        for name in [
            "shards",
            "replace_after_seconds",
            "moves",
            "moves_per_node",
            "erase_every_seconds",
            "disk_reserve_bytes",
            "keep_days",
            "filter",
        ] {
            assert!(all.iter().any(|known| known == name), "{name} in {shown}");
        }
        assert_eq!(table["limits"].as_table().unwrap().len(), 11, "a limit that is not shown");
        // A secret has no place in the configuration itself: it would be shown.
        for name in all {
            let secret = ["secret", "password", "token", "private", "credential"];
            assert!(!secret.iter().any(|word| name.contains(word)), "{name}");
        }
    }
}
