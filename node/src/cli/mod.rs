//! The command line.
//!
//! Owns: the commands, the arguments they share, and how their errors are shown: one line, and an exit status that
//! says which kind.
//! Must not know: how a node or a client works inside.

pub mod audit;
pub mod bench;
pub mod cert;
pub mod chat;
pub mod cluster;
pub mod config;
pub mod dev;
pub mod exit;
pub mod health;
pub mod listen;
pub mod moves;
pub mod operators;
pub mod reports;
pub mod serve;
pub mod shell;
pub mod token;
pub mod user;

mod terminal;

pub use exit::CliError;

use clap::{Args, CommandFactory, FromArgMatches, Parser, Subcommand, ValueEnum};
use exit::EXIT_STATUS;
use messenger_client::{ServerUrl, Servers};
use std::path::PathBuf;
use std::process::ExitCode;

/// A self-hosted messenger backend: a cluster of identical nodes that store, order and deliver messages.
#[derive(Debug, Parser)]
#[command(name = "messenger", version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Dev(dev::DevArgs),
    Serve(serve::ServeArgs),
    Config(config::ConfigArgs),
    Health(health::HealthArgs),
    Token(token::TokenArgs),
    Cert(cert::CertArgs),
    Chat(chat::ChatArgs),
    Listen(listen::ListenArgs),
    Cluster(cluster::ClusterArgs),
    User(user::UserArgs),
    Audit(audit::AuditArgs),
    Reports(reports::ReportsArgs),
    Senders(reports::SendersArgs),
    Bench(bench::BenchArgs),
    Completions(shell::CompletionsArgs),
    Man(shell::ManArgs),
}

/// For whom to print.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub enum Output {
    /// People.
    #[default]
    Text,
    /// Programs.
    Json,
}

/// Which nodes to talk to.
#[derive(Debug, Clone, Args)]
pub struct ServerArgs {
    /// Base URL of a node; several, or a list with commas, to fail over between them
    #[arg(
        long = "server",
        value_name = "URL",
        env = "MESSENGER_SERVER",
        value_delimiter = ',',
        default_value = "http://127.0.0.1:7401,http://127.0.0.1:7402,http://127.0.0.1:7403"
    )]
    servers: Vec<ServerUrl>,
    #[command(flatten)]
    trust: cert::TrustArgs,
}

impl ServerArgs {
    /// The nodes.
    ///
    /// # Errors
    /// [`CliError::Usage`] when there is none.
    pub fn servers(&self) -> Result<Servers, CliError> {
        let trust = self.trust.trust()?;
        let believed = self.servers.iter().map(|server| server.clone().trusting(&trust));
        Ok(Servers::new(believed.collect())?)
    }
}

/// Where a local cluster keeps its data.
#[derive(Debug, Clone, Args)]
pub struct DataArgs {
    /// The local cluster's data directory, which holds the key that tokens are signed with
    #[arg(long, value_name = "DIR", env = "MESSENGER_DATA", default_value = ".messenger")]
    pub data: PathBuf,
}

/// Runs the command line of this process.
#[must_use]
pub fn main() -> ExitCode {
    let cli = Cli::from_arg_matches(&explained(Cli::command()).get_matches()).unwrap_or_else(|error| error.exit());
    match run(cli.command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("messenger: {error}");
            ExitCode::from(&error)
        }
    }
}

/// The command and those below it, each with the exit statuses in its help.
fn explained(command: clap::Command) -> clap::Command {
    let own = command.get_after_help().map(|own| format!("{own}\n\n")).unwrap_or_default();
    command.after_help(format!("{own}{EXIT_STATUS}")).mut_subcommands(explained)
}

fn run(command: Command) -> Result<(), CliError> {
    match command {
        // A node has runtimes of its own.
        Command::Serve(args) => serve::run(&args),
        Command::Config(args) => config::run(&args),
        Command::Completions(args) => shell::completions(&args, explained(Cli::command())),
        Command::Man(args) => shell::man(&args, explained(Cli::command())),
        Command::Token(args) => token::run(&args),
        Command::Health(args) => block_on(health::run(args)),
        Command::Cert(args) => cert::run(&args),
        Command::Dev(args) => block_on(dev::run(args)),
        Command::Chat(args) => block_on(chat::run(args)),
        Command::Listen(args) => block_on(listen::run(args)),
        Command::Cluster(args) => block_on(cluster::run(args)),
        Command::User(args) => block_on(user::run(args)),
        Command::Audit(args) => block_on(audit::run(args)),
        Command::Reports(args) => block_on(reports::run(args)),
        Command::Senders(args) => block_on(reports::senders(args)),
        Command::Bench(args) => block_on(bench::run(args)),
    }
}

fn block_on(command: impl Future<Output = Result<(), CliError>>) -> Result<(), CliError> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let runtime = runtime.map_err(|error| CliError::Failed(format!("cannot start the runtime: {error}")))?;
    let outcome = runtime.block_on(command);
    // A read of standard input may be under way for ever.
    runtime.shutdown_background();
    outcome
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(mut command: clap::Command) {
        let help = command.render_help().to_string();
        assert_eq!(help.matches(EXIT_STATUS).count(), 1, "{help}");
        let leaf = !command.has_subcommands();
        assert!(!leaf || help.contains("Examples:"), "{help}");
        for below in command.get_subcommands().filter(|below| below.get_name() != "help") {
            check(below.clone());
        }
    }

    #[test]
    fn every_command_shows_examples_and_exit_statuses() {
        check(explained(Cli::command()));
    }
}
