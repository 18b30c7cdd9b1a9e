//! `messenger config`.
//!
//! Owns: saying all that is wrong with a configuration, and what is in force by it.
//! Must not know: what a value is for.
//! Invariants: what is printed holds no secret; nothing is made, listened on or connected to.

use super::exit::CliError;
use crate::auth;
use crate::boot::{first_record, tls_problem};
use crate::config::{Config, ConfigError, Overrides};
use clap::{Args, Subcommand};
use std::io::Write;
use std::path::PathBuf;

const CHECK_EXAMPLES: &str = "\
Examples:
  messenger config check --config node.toml
  MESSENGER_HOST=messenger-0.messenger messenger config check --config node.toml

Each problem has a line on standard error; with any, the exit status is 3. The file of the keys and those of [tls] are read as well.";

const PRINT_EXAMPLES: &str = "\
Examples:
  messenger config print --config node.toml
  messenger config print --config node.toml > all.toml && messenger serve --config all.toml

Printed is what is in force after defaults, the file, MESSENGER_* variables and flags, as a file that says the same.
Secrets are not in it: they stay in the files that it names.";

/// Check a node's configuration, or show it
#[derive(Debug, Args)]
pub struct ConfigArgs {
    #[command(subcommand)]
    command: ConfigCommand,
}

#[derive(Debug, Subcommand)]
enum ConfigCommand {
    /// Say all that is wrong with a configuration
    #[command(after_help = CHECK_EXAMPLES)]
    Check(FileArgs),
    /// Print the configuration that is in force
    #[command(after_help = PRINT_EXAMPLES)]
    Print(FileArgs),
}

#[derive(Debug, Args)]
struct FileArgs {
    /// The node's configuration file
    #[arg(long, env = "MESSENGER_CONFIG", value_name = "FILE", default_value = "node.toml")]
    config: PathBuf,
    #[command(flatten)]
    overrides: Overrides,
}

/// Runs the command.
///
/// # Errors
/// [`CliError::Config`] when the configuration is wrong.
pub fn run(args: &ConfigArgs) -> Result<(), CliError> {
    match &args.command {
        ConfigCommand::Check(file) => check(file),
        ConfigCommand::Print(file) => print(file),
    }
}

/// All that is wrong, one line each.
fn problems(config: &Config) -> Vec<String> {
    let mut found: Vec<String> = config.problems().iter().map(ConfigError::to_string).collect();
    if let Err(error) = auth::load_keys(&config.auth.keys) {
        found.push(format!("auth.keys: {error}"));
    }
    found.extend(tls_problem(config));
    // Where the nodes are listed wrongly, the record says no more than that.
    if found.is_empty() && config.cluster.bootstrap {
        let made = config.cluster_id().map(|cluster| first_record(config, cluster));
        found.extend(made.ok().and_then(Result::err).map(|error| format!("cluster: {error}")));
    }
    found.iter().map(|line| line.replace('\n', " ")).collect()
}

fn check(file: &FileArgs) -> Result<(), CliError> {
    let config = Config::read(&file.config, &file.overrides).map_err(|error| CliError::Config(error.to_string()))?;
    let found = problems(&config);
    for line in &found {
        eprintln!("{}: {line}", file.config.display());
    }
    match found.len() {
        0 => Ok(writeln!(std::io::stdout(), "{}: good", file.config.display())?),
        1 => Err(CliError::Config("the configuration has a problem".into())),
        some => Err(CliError::Config(format!("the configuration has {some} problems"))),
    }
}

fn print(file: &FileArgs) -> Result<(), CliError> {
    let config = Config::load(&file.config, &file.overrides).map_err(|error| CliError::Config(error.to_string()))?;
    let shown = config.shown().map_err(|error| CliError::Config(error.to_string()))?;
    Ok(std::io::stdout().write_all(shown.as_bytes())?)
}
