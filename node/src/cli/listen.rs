//! `messenger listen`.
//!
//! Owns: its arguments, and a connection whose frames are shown as they come.
//! Must not know: what a frame means, but for the ping.

use super::chat::identity;
use super::{CliError, DataArgs, ServerArgs};
use clap::Args;
use messenger_client::{ClientFrame, CloseReason, Socket, SocketConfig};
use messenger_proto::ids::{DeviceId, MessageId, UserId};
use serde::Deserialize;
use std::borrow::Cow;
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, BufReader, stdin};

/// Of the handshake.
const LIMIT: Duration = Duration::from_secs(10);

const EXAMPLES: &str = "\
Examples:
  messenger listen --as bob
  messenger listen --as bob --device tablet --server http://127.0.0.1:7403 | jq .
  echo '{\"t\":\"subscribe\",\"request_id\":1,\"thread_ids\":[]}' | messenger listen --as bob

Frames are shown as they come, one a line; /v1/asyncapi.json says what is in them. Pings are answered, and nothing else is:
what is not acknowledged is shown again the next time. Lines of standard input are sent as they are, for example
{\"t\":\"client_ack\",\"frame_seq\":3}. Ctrl-C ends it; so does the node, and then the close code is told.";

/// Show the realtime frames of a device as they come, for those who write clients
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct ListenArgs {
    /// Whose device; with --token, whoever that names
    #[arg(long = "as", value_name = "USER", required_unless_present = "token")]
    user: Option<UserId>,
    /// The name of the device; one connection at a time
    #[arg(long, default_value = "listener")]
    device: DeviceId,
    /// A message that the device has: each thread is replayed from its place, or from what the device last acknowledged there
    /// if that is earlier, so that nothing is skipped
    #[arg(long, value_name = "ID")]
    last_seen: Option<MessageId>,
    /// A bearer token, instead of one signed with the local cluster's key
    #[arg(long, env = "MESSENGER_TOKEN", hide_env_values = true)]
    token: Option<String>,
    #[command(flatten)]
    server: ServerArgs,
    #[command(flatten)]
    data: DataArgs,
}

#[derive(Deserialize)]
struct Kind<'a> {
    #[serde(borrow)]
    t: Cow<'a, str>,
}

/// Listens.
///
/// # Errors
/// [`CliError`]: the node refused, or ended the connection.
pub async fn run(args: ListenArgs) -> Result<(), CliError> {
    let (_, device, token) = identity(args.user.as_ref(), &args.device, args.token.as_deref(), &args.data)?;
    let token = token.token().map_err(|error| CliError::Token(error.to_string()))?;
    let server = args.server.servers()?.at(0).clone();
    let settings = SocketConfig { server, token, device, last_seen: args.last_seen, limit: LIMIT };
    let mut socket = Socket::connect(&settings).await?;
    let (mut lines, mut typing) = (BufReader::new(stdin()).lines(), true);
    // One for all rounds: what comes between two of them is not lost.
    let mut interrupt = std::pin::pin!(tokio::signal::ctrl_c());
    let ended = |reason: CloseReason| CliError::Refused(format!("the connection is over: {reason}"));
    loop {
        tokio::select! {
            text = socket.next_text() => {
                let text = text.map_err(ended)?;
                if serde_json::from_str::<Kind<'_>>(&text).is_ok_and(|kind| kind.t == "ping") {
                    socket.send(&ClientFrame::Pong).await.map_err(ended)?;
                } else {
                    println!("{text}");
                }
            }
            line = lines.next_line(), if typing => match line {
                Ok(Some(line)) if line.trim().is_empty() => {}
                Ok(Some(line)) => socket.send_text(line).await.map_err(ended)?,
                Ok(None) | Err(_) => typing = false,
            },
            _ = &mut interrupt => {
                socket.close().await;
                return Ok(());
            }
        }
    }
}
