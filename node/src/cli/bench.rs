//! `messenger bench`.
//!
//! Owns: the arguments of each measurement, progress while it runs, and printing what it gave.
//! Must not know: how load is made.

mod reading;
mod receipts;

use self::reading::{ReadArgs, ReconnectArgs};
use self::receipts::ReceiptsArgs;
use super::terminal::{bar, spinner};
use super::token::duration;
use super::{CliError, DataArgs, Output, ServerArgs};
use crate::bench::{
    self, Deliver, DeliverReport, EtcdLoad, Fleet, FleetConfig, IdleSockets, Machine, Plan, Progress, SendReport,
};
use crate::dev_key::DevKey;
use clap::{Args, Subcommand, ValueEnum};
use indicatif::ProgressBar;
use messenger_client::Servers;
use serde::Serialize;
use std::io::Read;
use std::path::PathBuf;
use std::time::Duration;

const SEND_EXAMPLES: &str = "\
Examples:
  messenger bench send
  messenger bench send --clients 16,64,256 --transport rest,socket --seconds 20
  messenger bench send --server http://127.0.0.1:7401 --clients 256 --output json";

const DELIVER_EXAMPLES: &str = "\
Examples:
  messenger bench deliver --rate 1000 --seconds 20
  messenger bench deliver --transport rest --pairs 128 --output json";

const IDLE_EXAMPLES: &str = "\
Examples:
  messenger bench idle-sockets --count 10000 --seconds 30 --pids 1234,1235,1236";

const ETCD_EXAMPLES: &str = "\
Examples:
  messenger bench etcd
  messenger bench etcd --endpoint http://127.0.0.1:2379 --clients 16,64,256 --output json";

const COMPARE_EXAMPLES: &str = "\
Examples:
  messenger bench send --clients 64 --output json > runs.jsonl
  messenger bench etcd --clients 64 --output json >> runs.jsonl
  messenger bench compare runs.jsonl";

/// Measure a running cluster
#[derive(Debug, Args)]
pub struct BenchArgs {
    #[command(subcommand)]
    command: BenchCommand,
}

#[derive(Debug, Subcommand)]
enum BenchCommand {
    Send(SendArgs),
    Deliver(DeliverArgs),
    IdleSockets(IdleArgs),
    Read(ReadArgs),
    Receipts(ReceiptsArgs),
    Reconnect(ReconnectArgs),
    Etcd(EtcdArgs),
    Compare(CompareArgs),
}

/// How a load reaches the cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Transport {
    /// One keep-alive connection per client
    Rest,
    /// One realtime socket per client
    Socket,
}

#[derive(Debug, Args)]
struct Window {
    /// How long to measure: a number of s, m or h
    #[arg(long, default_value = "10s", value_parser = duration)]
    seconds: Duration,
    /// How long to run before that
    #[arg(long, default_value = "2s", value_parser = duration)]
    warmup: Duration,
    /// How long to wait until every node is ready
    #[arg(long, default_value = "30s", value_parser = duration)]
    wait: Duration,
    /// Print for people or, one object a line, for programs
    #[arg(long, value_enum, default_value_t)]
    output: Output,
}

impl Window {
    fn plan(&self) -> Plan {
        Plan { warmup: self.warmup, measured: self.seconds }
    }
}

/// Closed-loop senders: acked messages a second, and how long each takes
#[derive(Debug, Args)]
#[command(after_help = SEND_EXAMPLES)]
pub struct SendArgs {
    /// Senders, each waiting for its ack; a list with commas runs one after the other
    #[arg(long, default_value = "64", value_delimiter = ',', value_parser = clients)]
    clients: Vec<usize>,
    /// Threads they write to, spread over the shards [default: one per client]
    #[arg(long)]
    threads: Option<usize>,
    /// Bytes of a message
    #[arg(long, default_value_t = 256, value_parser = payload)]
    payload: usize,
    /// How they send; a list with commas runs one after the other
    #[arg(long, value_enum, default_value = "rest", value_delimiter = ',')]
    transport: Vec<Transport>,
    #[command(flatten)]
    server: ServerArgs,
    #[command(flatten)]
    data: DataArgs,
    #[command(flatten)]
    window: Window,
}

/// From the begin of a send until an online device has the message
#[derive(Debug, Args)]
#[command(after_help = DELIVER_EXAMPLES)]
pub struct DeliverArgs {
    /// Messages a second in all
    #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    rate: u32,
    /// Sender and receiver pairs, each with its thread, on different nodes
    #[arg(long, default_value = "64", value_parser = clients)]
    pairs: usize,
    /// Bytes of a message, at least 8
    #[arg(long, default_value_t = 256, value_parser = payload)]
    payload: usize,
    /// How senders send
    #[arg(long, value_enum, default_value = "socket")]
    transport: Transport,
    #[command(flatten)]
    server: ServerArgs,
    #[command(flatten)]
    data: DataArgs,
    #[command(flatten)]
    window: Window,
}

/// Open sockets and hold them, so that their cost in the server can be read
#[derive(Debug, Args)]
#[command(after_help = IDLE_EXAMPLES)]
pub struct IdleArgs {
    /// How many
    #[arg(long, default_value_t = 1000)]
    count: usize,
    /// How long to hold them
    #[arg(long, default_value = "10s", value_parser = duration)]
    seconds: Duration,
    /// Server processes on this machine whose memory is read before and after
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

/// The same closed loop against etcd: puts of a value under a new key each
#[derive(Debug, Args)]
#[command(after_help = ETCD_EXAMPLES)]
pub struct EtcdArgs {
    /// Client URL of a member; several, or a list with commas
    #[arg(
        long = "endpoint",
        value_delimiter = ',',
        default_value = "http://127.0.0.1:23791,http://127.0.0.1:23792,http://127.0.0.1:23793"
    )]
    endpoints: Vec<String>,
    /// HTTP/2 connections per member, shared by the clients
    #[arg(long, default_value_t = 1)]
    connections: usize,
    /// Closed-loop clients; a list with commas runs one after the other
    #[arg(long, default_value = "64", value_delimiter = ',', value_parser = clients)]
    clients: Vec<usize>,
    /// Bytes of a value
    #[arg(long, default_value_t = 256, value_parser = payload)]
    payload: usize,
    #[command(flatten)]
    window: Window,
}

/// Put runs of `bench send` and `bench etcd` side by side, as Markdown
#[derive(Debug, Args)]
#[command(after_help = COMPARE_EXAMPLES)]
pub struct CompareArgs {
    /// Their JSON lines [default: standard input]
    file: Option<PathBuf>,
}

fn clients(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(number @ 1..=100_000) => Ok(number),
        _ => Err("expected 1 to 100000".into()),
    }
}

fn payload(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(size @ 0..=65_536) => Ok(size),
        _ => Err("expected 0 to 65536 bytes".into()),
    }
}

/// Runs the command.
///
/// # Errors
/// [`CliError`].
pub async fn run(args: BenchArgs) -> Result<(), CliError> {
    match args.command {
        BenchCommand::Send(args) => send(args).await,
        BenchCommand::Deliver(args) => deliver(args).await,
        BenchCommand::IdleSockets(args) => idle(args).await,
        BenchCommand::Read(args) => reading::read(args).await,
        BenchCommand::Receipts(args) => receipts::receipts(args).await,
        BenchCommand::Reconnect(args) => reading::reconnect(args).await,
        BenchCommand::Etcd(args) => etcd(args).await,
        BenchCommand::Compare(args) => compare(&args),
    }
}

/// A bar that follows a run.
#[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
fn follow(title: &str, plan: Plan) -> (ProgressBar, Progress) {
    let bar = bar(title, plan.warmup + plan.measured);
    let shown = bar.clone();
    let follow = move |since: std::time::Duration, done: u64| {
        shown.set_position(since.as_millis() as u64);
        let window = since.saturating_sub(plan.warmup).as_secs_f64();
        shown.set_prefix(if window > 0.0 { format!("{:.0}/s", done as f64 / window) } else { "warming up".into() });
    };
    (bar, Box::new(follow))
}

fn print_json<T: Serialize>(value: &T) -> Result<(), CliError> {
    println!("{}", serde_json::to_string(value).map_err(|e| CliError::Failed(e.to_string()))?);
    Ok(())
}

fn print_runs(output: Output, reports: &[SendReport]) -> Result<(), CliError> {
    match output {
        Output::Json => reports.iter().try_for_each(print_json),
        Output::Text => {
            print!("{}", bench::table(reports));
            Ok(())
        }
    }
}

async fn ready(servers: &Servers, wait: Duration) -> Result<(), CliError> {
    let spinner = spinner("waiting for the cluster");
    let outcome = bench::wait_ready(servers, wait).await;
    spinner.finish_and_clear();
    Ok(outcome?)
}

async fn send(args: SendArgs) -> Result<(), CliError> {
    let servers = args.server.servers()?;
    let most = args.clients.iter().copied().max().unwrap_or(0);
    bench::raise_file_limit(most)?;
    ready(&servers, args.window.wait).await?;
    // A cluster that has just been made has its key by now.
    let key = DevKey::load(&args.data.data)?;
    let mut reports = Vec::new();
    for clients in args.clients {
        for transport in &args.transport {
            let threads = args.threads.unwrap_or(clients).max(1);
            let config = FleetConfig { servers: servers.clone(), key: key.clone(), clients, threads };
            let setting_up = spinner(&format!("creating {threads} threads"));
            let fleet = Fleet::set_up(&config).await;
            setting_up.finish_and_clear();
            let (bar, progress) = follow(&format!("{clients} clients"), args.window.plan());
            let report = match transport {
                Transport::Rest => bench::send_rest(fleet?, args.payload, args.window.plan(), progress).await,
                Transport::Socket => bench::send_socket(fleet?, args.payload, args.window.plan(), progress).await,
            };
            bar.finish_and_clear();
            reports.push(report?);
        }
    }
    print_runs(args.window.output, &reports)
}

async fn etcd(args: EtcdArgs) -> Result<(), CliError> {
    let mut reports = Vec::new();
    for clients in args.clients {
        let load = EtcdLoad {
            endpoints: args.endpoints.clone(),
            clients,
            connections: args.connections,
            payload: args.payload,
            plan: args.window.plan(),
            wait: args.window.wait,
        };
        let (bar, progress) = follow(&format!("etcd, {clients} clients"), args.window.plan());
        let report = bench::etcd_put(load, progress).await;
        bar.finish_and_clear();
        reports.push(report.map_err(CliError::Unreachable)?);
    }
    print_runs(args.window.output, &reports)
}

async fn deliver(args: DeliverArgs) -> Result<(), CliError> {
    let servers = args.server.servers()?;
    let key = DevKey::load(&args.data.data)?;
    bench::raise_file_limit(2 * args.pairs)?;
    ready(&servers, args.window.wait).await?;
    let config = Deliver {
        servers,
        key,
        rate: args.rate,
        pairs: args.pairs,
        payload: args.payload,
        rest: args.transport == Transport::Rest,
        warmup: args.window.warmup,
        measured: args.window.seconds,
    };
    let (bar, progress) = follow("delivering", args.window.plan());
    let report = bench::deliver(config, progress).await;
    bar.finish_and_clear();
    let report = report?;
    match args.window.output {
        Output::Json => print_json(&report),
        Output::Text => {
            print!("{}", deliver_text(&report));
            Ok(())
        }
    }
}

fn deliver_text(report: &DeliverReport) -> String {
    let latencies = report.latencies;
    format!(
        "{} pairs over {}, {} messages/s asked for, {:.0} s\n\
         sent {}, received {}, missing {}, errors {:?}\n\
         send began to device has it: p50 {:.2} ms, p95 {:.2} ms, p99 {:.2} ms, max {:.2} ms\n\
         the generator itself was late by at most {:.2} ms (p99)\n",
        report.pairs,
        report.transport,
        report.rate,
        report.seconds,
        report.sent,
        report.received,
        report.missing,
        report.errors,
        latencies.p50_ms,
        latencies.p95_ms,
        latencies.p99_ms,
        latencies.max_ms,
        report.lag_p99_ms
    )
}

async fn idle(args: IdleArgs) -> Result<(), CliError> {
    let servers = args.server.servers()?;
    let key = DevKey::load(&args.data.data)?;
    bench::raise_file_limit(args.count)?;
    ready(&servers, Duration::from_secs(30)).await?;
    let spinner = spinner("opening sockets");
    let shown = spinner.clone();
    let progress: Progress = Box::new(move |_, open| shown.set_message(format!("{open} sockets are open")));
    let config = IdleSockets { servers, key, count: args.count, hold: args.seconds, pids: args.pids };
    let report = bench::idle_sockets(config, progress).await;
    spinner.finish_and_clear();
    let report = report?;
    if args.output == Output::Json {
        return print_json(&report);
    }
    println!("{} sockets open, {} lost, opened in {:.1} s", report.open, report.lost, report.opened_in_s);
    if let Some(bytes) = report.bytes_per_socket {
        println!("the servers' memory grew by {bytes:.0} bytes per socket");
    }
    Ok(())
}

fn compare(args: &CompareArgs) -> Result<(), CliError> {
    let mut text = String::new();
    match &args.file {
        Some(path) => {
            text = std::fs::read_to_string(path).map_err(|e| CliError::Failed(format!("{}: {e}", path.display())))?;
        }
        None => drop(std::io::stdin().read_to_string(&mut text)?),
    }
    let lines = text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty());
    let runs = lines.map(|(number, line)| {
        serde_json::from_str(line).map_err(|e| CliError::Failed(format!("line {} is no run: {e}", number + 1)))
    });
    let runs: Vec<SendReport> = runs.collect::<Result<_, _>>()?;
    print!("{}", bench::compare(&runs, &Machine::this()));
    Ok(())
}
