//! `messenger bench receipts`.
//!
//! Owns: its arguments, progress while it runs, and printing what it gave.
//! Must not know: how log entries are counted.

use super::{clients, print_json, ready};
use crate::bench::{self, Progress, Receipts};
use crate::cli::terminal::spinner;
use crate::cli::{CliError, DataArgs, Output, ServerArgs};
use crate::dev_key::DevKey;
use clap::Args;
use messenger_client::ServerUrl;
use messenger_proto::limits::THREAD_MEMBERS_MAX;
use std::time::Duration;

const EXAMPLES: &str = "\
Examples:
  messenger bench receipts --members 2,50,250 --rate 5";

/// Log entries by the message, in groups where every member acknowledges, and then reads, each message
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct ReceiptsArgs {
    /// Members of the group; a list with commas runs one after the other
    #[arg(long, default_value = "2,50,250", value_delimiter = ',', value_parser = members)]
    members: Vec<usize>,
    /// Messages of each run
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u64).range(1..=100_000))]
    messages: u64,
    /// Messages a second
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u32).range(1..=1_000))]
    rate: u32,
    /// Admin URL of a node, which says how far the logs are
    #[arg(long, value_name = "URL", env = "MESSENGER_ADMIN", default_value = "http://127.0.0.1:7601")]
    admin: ServerUrl,
    /// Print for people or, one object a line, for programs
    #[arg(long, value_enum, default_value_t)]
    output: Output,
    #[command(flatten)]
    server: ServerArgs,
    #[command(flatten)]
    data: DataArgs,
}

fn members(text: &str) -> Result<usize, String> {
    clients(text)
        .ok()
        .filter(|members| (2..=THREAD_MEMBERS_MAX).contains(members))
        .ok_or_else(|| format!("expected 2 to {THREAD_MEMBERS_MAX}"))
}

/// Runs the command.
pub(super) async fn receipts(args: ReceiptsArgs) -> Result<(), CliError> {
    let servers = args.server.servers()?;
    let key = DevKey::load(&args.data.data)?;
    bench::raise_file_limit(args.members.iter().copied().max().unwrap_or(0))?;
    ready(&servers, Duration::from_secs(30)).await?;
    for (members, read) in args.members.iter().flat_map(|members| [(*members, false), (*members, true)]) {
        let spinner = spinner(&format!("a group of {members}"));
        let shown = spinner.clone();
        let progress: Progress = Box::new(move |_, arrived| shown.set_message(format!("{arrived} have arrived")));
        let config = Receipts {
            servers: servers.clone(),
            key: key.clone(),
            admin: args.admin.clone(),
            members,
            messages: args.messages,
            every: Duration::from_secs(1) / args.rate,
            read,
        };
        let report = bench::receipts(config, progress).await;
        spinner.finish_and_clear();
        let report = report?;
        if args.output == Output::Json {
            print_json(&report)?;
            continue;
        }
        println!(
            "{members} members, {}: {:.2} log entries a message, {:.1} frames of receipts; {} of {} arrived",
            if read { "taken and read" } else { "taken" },
            report.entries_per_message,
            report.receipt_frames_per_message,
            report.arrived,
            report.messages * members as u64
        );
    }
    Ok(())
}
