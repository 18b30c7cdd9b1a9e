//! `messenger health`.
//!
//! Owns: asking one node whether it lives and takes requests, for containers and scripts without a shell.
//! Must not know: what makes a node ready.

use super::cert::TrustArgs;
use super::exit::CliError;
use clap::Args;
use messenger_client::{Call, Connection, ServerUrl};
use std::time::Duration;
use tokio::time::timeout;

/// How long the node may take, if nothing else is said.
const WITHIN_S: u64 = 3;

/// Ask a node whether it takes requests
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  messenger health\n  messenger health --live --url http://127.0.0.1:7602\n\nThe exit status is 0 if it does, and 8 if it does not, or does not answer; then standard error says why."
)]
pub struct HealthArgs {
    /// The node's address for operators or for clients
    #[arg(long, value_name = "URL", env = "MESSENGER_HEALTH", default_value = "http://127.0.0.1:7601")]
    url: ServerUrl,
    #[command(flatten)]
    trust: TrustArgs,
    /// Only whether it answers, ready or not
    #[arg(long)]
    live: bool,
    /// Seconds that it may take
    #[arg(long, default_value_t = WITHIN_S, value_parser = clap::value_parser!(u64).range(1..=60))]
    timeout: u64,
}

/// Asks.
///
/// # Errors
/// [`CliError::Unreachable`] unless the node says yes.
pub async fn run(args: HealthArgs) -> Result<(), CliError> {
    let url = &args.url.trusting(&args.trust.trust()?);
    let limit = Duration::from_secs(args.timeout);
    let call = Call::new(http::Method::GET, if args.live { "/livez" } else { "/readyz" });
    let exchange = async {
        let mut connection = Connection::open(url, limit).await?;
        connection.exchange(&call).await
    };
    let silent = |why: String| CliError::Unreachable(format!("{url} does not answer: {why}"));
    let answer = timeout(limit, exchange).await.map_err(|_| silent(format!("nothing within {} s", args.timeout)))?;
    let answer = answer.map_err(|error| silent(error.to_string()))?;
    if answer.is_success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&answer.body).trim().replace('\n', " ");
    Err(CliError::Unreachable(format!("{url} is not ready: {} {said}", answer.status)))
}
