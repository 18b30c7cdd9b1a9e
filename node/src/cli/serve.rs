//! `messenger serve`: one node.
//!
//! Owns: the command's flags and the mapping of start-up errors to lines and statuses.
//! Must not know: how a node is put together (see [`crate::boot`]).

use super::exit::CliError;
use crate::boot::{self, BootError};
use crate::config::{Config, Overrides};
use messenger_client::ServerUrl;
use std::path::PathBuf;

/// Runs one node until SIGTERM drains it.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  messenger serve --config node.toml\n  MESSENGER_LOG=debug messenger serve --config node.toml\n  messenger serve --config new.toml --join http://10.0.0.1:7601\n\nA configuration without cluster.nodes is one of a node that joins a cluster: it names the cluster's id and, under [node],\nzone, client_addr, peer_addr, admin_addr and data_dir; the cluster gives it its id. --join is needed for the first start\nonly, and counts for nothing later.\n\nNodes may share one file: --host (MESSENGER_HOST) says which of cluster.nodes this one is, by the host of its peer_addr, or\nthat it joins under ports 7401, 7501 and 7601 of that host. The first of the list makes the cluster.\n`messenger config check` says all that is wrong with a configuration, `config print` what is in force.\n\nFlags win over MESSENGER_* variables, which win over the file.\nSIGTERM or Ctrl-C drains the node, which ends with 0; a second one ends it at once, with 11.\nSIGHUP reads the file again and puts its [rate_limits], [proxies], the keys of tokens and certificates in force; if anything is\nwrong, nothing changes.\nUnder systemd (Type=notify) it says when it is ready, when it stops, and feeds the watchdog."
)]
pub struct ServeArgs {
    /// The node's configuration file.
    #[arg(long, env = "MESSENGER_CONFIG", value_name = "FILE")]
    config: PathBuf,
    /// Join a running cluster: the admin URL of any of its nodes
    #[arg(long, env = "MESSENGER_JOIN", value_name = "URL")]
    join: Option<ServerUrl>,
    #[command(flatten)]
    overrides: Overrides,
}

/// Runs the node.
///
/// # Errors
/// [`CliError`] when it can't start, or had to stop.
pub fn run(args: &ServeArgs) -> Result<(), CliError> {
    let config = Config::load(&args.config, &args.overrides).map_err(|error| CliError::Config(error.to_string()))?;
    let again = (args.config.clone(), args.overrides.clone());
    let reload = Box::new(move || Config::load(&again.0, &again.1));
    boot::run(config, args.join.clone(), reload).map_err(|error| {
        let line = error.to_string();
        match error {
            BootError::Config(_) => CliError::Config(line),
            BootError::Address { .. } => CliError::Address(line),
            BootError::WrongData(_) => CliError::WrongData(line),
            BootError::CorruptData(_) => CliError::CorruptData(line),
            BootError::Storage(_) => CliError::Storage(line),
            BootError::Refused(_) => CliError::Refused(line),
            BootError::Unreachable(_) => CliError::Unreachable(line),
            BootError::CutShort { .. } => CliError::CutShort(line),
            BootError::Runtime(_) => CliError::Failed(line),
        }
    })
}
