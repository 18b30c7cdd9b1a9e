//! `messenger dev`: a local cluster of real processes.
//!
//! Owns: the layout of its directory, its children and what it prints.
//! Must not know: what a node does inside; it only starts `messenger serve` and asks `/readyz`.
//! Invariants: it restarts no child and does not outlive them; no child outlives it (each watches a pipe it holds); the
//! directory, once made, starts the same cluster again.

mod children;
mod layout;

use super::exit::CliError;
use children::{Children, addresses_are_free};
pub use layout::Layout;
use std::path::PathBuf;
use std::time::Duration;

/// How long the nodes may take until they are ready.
const READY_WITHIN: Duration = Duration::from_mins(1);
/// How long a drain may take before the children are killed.
const DRAIN_WITHIN: Duration = Duration::from_secs(20);

/// Runs a local cluster on 127.0.0.1 until interrupted.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  messenger dev\n  messenger dev --nodes 5 --shards 64 --data /tmp/cluster --base-port 9000"
)]
pub struct DevArgs {
    /// How many nodes: 1 to 9.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u16).range(1..=9))]
    nodes: u16,
    /// How many shards; fixed once the cluster is made.
    #[arg(long, default_value_t = 16, value_parser = clap::value_parser!(u32).range(1..=4096))]
    shards: u32,
    /// Where the cluster keeps everything.
    #[arg(long, env = "MESSENGER_DATA", default_value = ".messenger")]
    data: PathBuf,
    /// Client port of the first node; peer ports are 100 above, admin ports 200 above.
    #[arg(long, default_value_t = 7401, value_parser = clap::value_parser!(u16).range(1024..=65000))]
    base_port: u16,
}

/// Starts the cluster, prints how to try it, and waits for a signal or for the last node to end.
///
/// # Errors
/// [`CliError`] when the directory can't be used, a node can't start or isn't ready in time.
pub async fn run(args: DevArgs) -> Result<(), CliError> {
    let mut interrupts = Interrupts::new()?;
    let layout = Layout::prepare(&args.data, args.nodes, args.shards, args.base_port)?;
    addresses_are_free(&layout)?;
    let mut children = Children::start(&layout)?;
    let ready = tokio::select! {
        ready = children.ready(&layout, READY_WITHIN) => ready,
        () = interrupts.next() => { stop(&mut children, &mut interrupts).await; return Ok(()) }
    };
    if let Err(error) = ready {
        stop(&mut children, &mut interrupts).await;
        return Err(error);
    }
    println!("{}", layout.how_to_try());
    loop {
        tokio::select! {
            left = children.next_death(&layout) => if left == 0 {
                return Err(CliError::Failed("every node has ended".into()));
            },
            () = interrupts.next() => break,
        }
    }
    stop(&mut children, &mut interrupts).await;
    Ok(())
}

/// Tells the terminal, if it is still there: one that was closed must not end the cluster.
fn say(line: &str) {
    use std::io::Write;
    let _ = writeln!(std::io::stderr(), "{line}");
}

async fn stop(children: &mut Children, interrupts: &mut Interrupts) {
    say("stopping; once more to stop at once");
    children.terminate();
    tokio::select! {
        () = children.all_ended() => {}
        () = tokio::time::sleep(DRAIN_WITHIN) => say(&format!("killing what has not drained within {DRAIN_WITHIN:?}")),
        () = interrupts.next() => {}
    }
    children.kill().await;
}

struct Interrupts {
    interrupt: tokio::signal::unix::Signal,
    terminate: tokio::signal::unix::Signal,
}

impl Interrupts {
    fn new() -> Result<Self, CliError> {
        use tokio::signal::unix::{SignalKind, signal};
        let failed = |error: std::io::Error| CliError::Failed(format!("cannot listen for signals: {error}"));
        Ok(Self {
            interrupt: signal(SignalKind::interrupt()).map_err(failed)?,
            terminate: signal(SignalKind::terminate()).map_err(failed)?,
        })
    }

    async fn next(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}
