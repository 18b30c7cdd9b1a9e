//! `messenger bench read` and `messenger bench reconnect`.
//!
//! Owns: their arguments, progress while they run, and printing what they gave.
//! Must not know: how load is made.

use super::{clients, print_json, ready};
use crate::bench::{self, Latencies, Progress, Reads, Reconnect};
use crate::cli::terminal::spinner;
use crate::cli::{CliError, DataArgs, Output, ServerArgs};
use crate::dev_key::DevKey;
use clap::Args;
use std::time::Duration;

const READ_EXAMPLES: &str = "\
Examples:
  messenger bench read --messages 1000000 --threads 1000";

const RECONNECT_EXAMPLES: &str = "\
Examples:
  messenger bench reconnect --devices 5000 --missed 10 --pids 1234,1235,1236";

/// Pages of a long thread beside a short one, and of a long list of threads
#[derive(Debug, Args)]
#[command(after_help = READ_EXAMPLES)]
pub struct ReadArgs {
    /// Messages of the long thread, which are stored first
    #[arg(long, default_value_t = 100_000, value_parser = clap::value_parser!(u64).range(1..=100_000_000))]
    messages: u64,
    /// Threads of the user whose list is read
    #[arg(long, default_value_t = 1_000, value_parser = clap::value_parser!(u16).range(1..=10_000))]
    threads: u16,
    /// Reads of each kind
    #[arg(long, default_value_t = 1_000)]
    reads: u32,
    /// Print for people or for programs
    #[arg(long, value_enum, default_value_t)]
    output: Output,
    #[command(flatten)]
    server: ServerArgs,
    #[command(flatten)]
    data: DataArgs,
}

/// Devices that come back at once, each with messages that it missed
#[derive(Debug, Args)]
#[command(after_help = RECONNECT_EXAMPLES)]
pub struct ReconnectArgs {
    /// How many
    #[arg(long, default_value = "1000", value_parser = clients)]
    devices: usize,
    /// Messages that each misses
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..=1_000))]
    missed: u64,
    /// Server processes on this machine whose memory is watched
    #[arg(long, value_delimiter = ',')]
    pids: Vec<u32>,
    /// Print for people or for programs
    #[arg(long, value_enum, default_value_t)]
    output: Output,
    #[command(flatten)]
    server: ServerArgs,
    #[command(flatten)]
    data: DataArgs,
}

/// Runs `bench read`.
pub(super) async fn read(args: ReadArgs) -> Result<(), CliError> {
    let servers = args.server.servers()?;
    let key = DevKey::load(&args.data.data)?;
    ready(&servers, Duration::from_secs(30)).await?;
    let spinner = spinner("storing messages");
    let shown = spinner.clone();
    let progress: Progress = Box::new(move |_, stored| shown.set_message(format!("{stored} messages are stored")));
    let (messages, threads, reads) = (args.messages, usize::from(args.threads), args.reads);
    let report = bench::reads(Reads { servers, key, messages, threads, reads }, progress).await;
    spinner.finish_and_clear();
    let report = report?;
    if args.output == Output::Json {
        return print_json(&report);
    }
    let line = |what: &str, took: Latencies| {
        println!("{what}: p50 {:.2} ms, p99 {:.2} ms, max {:.2} ms", took.p50_ms, took.p99_ms, took.max_ms);
    };
    line("newest 50 of 1000 messages", report.newest_of_short);
    line(&format!("newest 50 of {messages} messages"), report.newest_of_long);
    line(&format!("50 somewhere in {messages} messages"), report.middle_of_long);
    line(&format!("50 of {threads} threads"), report.list);
    Ok(())
}

/// Runs `bench reconnect`.
pub(super) async fn reconnect(args: ReconnectArgs) -> Result<(), CliError> {
    let servers = args.server.servers()?;
    let key = DevKey::load(&args.data.data)?;
    bench::raise_file_limit(args.devices)?;
    ready(&servers, Duration::from_secs(30)).await?;
    let spinner = spinner("setting up");
    let shown = spinner.clone();
    let progress: Progress = Box::new(move |_, done| shown.set_message(format!("{done} devices have caught up")));
    let config = Reconnect { servers, key, devices: args.devices, missed: args.missed, pids: args.pids };
    let report = bench::reconnect(config, progress).await;
    spinner.finish_and_clear();
    let report = report?;
    if args.output == Output::Json {
        return print_json(&report);
    }
    println!(
        "{} devices, {} messages missed by each, {} still behind\n\
         all had caught up after {:.2} s (p50 {:.0} ms, p99 {:.0} ms)\n\
         at most {} presence frames to a device",
        report.devices,
        report.missed,
        report.behind,
        report.all_caught_up_in_s,
        report.latencies.p50_ms,
        report.latencies.p99_ms,
        report.presence_frames_most
    );
    if let (Some(before), Some(peak)) = (report.resident_before_kib, report.resident_peak_kib) {
        println!("the servers' memory: {} MiB with all online, at most {} MiB", before / 1024, peak / 1024);
    }
    Ok(())
}
