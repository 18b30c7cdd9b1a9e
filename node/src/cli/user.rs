//! `messenger user`.
//!
//! Owns: asking an admin listener to suspend a user or a device, to lift that, and how a user stands.
//! Must not know: what follows from it.

use super::operators::AdminArgs;
use super::{CliError, Output};
use clap::{Args, Subcommand};
use http::Method;
use messenger_client::Call;
use messenger_proto::ids::{DeviceId, UserId};
use serde_json::Value;
use std::fmt::Write;

const SUSPEND_EXAMPLES: &str = "\
Examples:
  messenger user suspend mallory
  messenger user suspend mallory --device phone --operator dana";

const UNSUSPEND_EXAMPLES: &str = "\
Examples:
  messenger user unsuspend mallory
  messenger user unsuspend mallory --device phone";

const SHOW_EXAMPLES: &str = "\
Examples:
  messenger user show mallory
  messenger user show mallory --output json";

/// Suspend users and devices, and lift that
#[derive(Debug, Args)]
pub struct UserArgs {
    #[command(subcommand)]
    command: UserCommand,
}

#[derive(Debug, Subcommand)]
enum UserCommand {
    /// Close a user's sockets and refuse its requests, on all nodes, until it is lifted
    #[command(after_help = SUSPEND_EXAMPLES)]
    Suspend(SwitchArgs),
    /// Let a user in again; devices that were suspended by themselves stay so
    #[command(after_help = UNSUSPEND_EXAMPLES)]
    Unsuspend(SwitchArgs),
    /// Show what of a user is suspended, and since when
    #[command(after_help = SHOW_EXAMPLES)]
    Show(ShowArgs),
}

#[derive(Debug, Args)]
struct SwitchArgs {
    /// The user
    user: UserId,
    /// Only this device of the user
    #[arg(long)]
    device: Option<DeviceId>,
    /// Print for people or for programs
    #[arg(long, value_enum, default_value_t)]
    output: Output,
    #[command(flatten)]
    admin: AdminArgs,
}

#[derive(Debug, Args)]
struct ShowArgs {
    /// The user
    user: UserId,
    /// Print for people or for programs
    #[arg(long, value_enum, default_value_t)]
    output: Output,
    #[command(flatten)]
    admin: AdminArgs,
}

/// Runs the command.
///
/// # Errors
/// [`CliError`] when no admin listener answers, or the cluster refuses.
pub async fn run(args: UserArgs) -> Result<(), CliError> {
    match args.command {
        UserCommand::Suspend(args) => switch(&args, "suspend").await,
        UserCommand::Unsuspend(args) => switch(&args, "unsuspend").await,
        UserCommand::Show(args) => {
            let call = Call::new(Method::GET, format!("/admin/users/{}", args.user));
            show(&args.admin.ask(&call).await?, args.output);
            Ok(())
        }
    }
}

async fn switch(args: &SwitchArgs, what: &str) -> Result<(), CliError> {
    let device = args.device.as_ref().map(|device| format!("/devices/{device}")).unwrap_or_default();
    let call = Call::new(Method::POST, format!("/admin/users/{}{device}/{what}", args.user));
    show(&args.admin.ask(&call).await?, args.output);
    Ok(())
}

fn show(state: &Value, output: Output) {
    match output {
        Output::Json => println!("{state}"),
        Output::Text => print!("{}", render(state)),
    }
}

fn render(state: &Value) -> String {
    let user = state["user_id"].as_str().unwrap_or("-");
    let mut text = match state["since"].as_str() {
        Some(since) => format!("{user} is suspended since {since}\n"),
        None => format!("{user} is not suspended\n"),
    };
    if state["known"] == false {
        let _ = writeln!(text, "  the cluster knows no thread and no device of {user}: is that the name?");
    }
    for device in state["devices"].as_array().into_iter().flatten() {
        let (name, since) = (device["device_id"].as_str().unwrap_or("-"), device["since"].as_str().unwrap_or("-"));
        // Writing to a String cannot fail.
        let _ = writeln!(text, "  device {name} is suspended since {since}");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_user_s_state_is_shown() {
        let state = json!({"user_id": "eve", "suspended": false, "since": null,
            "devices": [{"device_id": "phone", "since": "2026-05-30T17:42:11.000Z"}]});
        assert_eq!(
            render(&state),
            "eve is not suspended\n  device phone is suspended since 2026-05-30T17:42:11.000Z\n"
        );
        assert_eq!(render(&json!({"user_id": "eve", "since": "now"})), "eve is suspended since now\n");
        let slip = render(&json!({"user_id": "eev", "known": false, "since": "now"}));
        assert!(slip.starts_with("eev is suspended since now\n") && slip.contains("no thread and no device"), "{slip}");
    }
}
