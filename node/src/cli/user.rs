//! `messenger user`.
//!
//! Owns: asking an admin listener to suspend a user or a device, to lift that, and how a user stands.
//! Must not know: what follows from it.

use super::operators::{AdminArgs, Said};
use super::{CliError, Output};
use crate::operator_api::{SuspendedDevice, UserState};
use clap::{Args, Subcommand};
use http::Method;
use messenger_client::Call;
use messenger_proto::ids::{DeviceId, UserId};
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
            show(&args.admin.ask(&call).await?, args.output)
        }
    }
}

async fn switch(args: &SwitchArgs, what: &str) -> Result<(), CliError> {
    let device = args.device.as_ref().map(|device| format!("/devices/{device}")).unwrap_or_default();
    let call = Call::new(Method::POST, format!("/admin/users/{}{device}/{what}", args.user));
    show(&args.admin.ask(&call).await?, args.output)
}

fn show(said: &Said, output: Output) -> Result<(), CliError> {
    match output {
        Output::Json => println!("{said}"),
        Output::Text => print!("{}", render(&said.read()?)),
    }
    Ok(())
}

fn render(state: &UserState) -> String {
    let user = &state.user_id;
    let mut text = match state.since {
        Some(since) => format!("{user} is suspended since {since}\n"),
        None => format!("{user} is not suspended\n"),
    };
    if !state.known {
        let _ = writeln!(text, "  the cluster knows no thread and no device of {user}: is that the name?");
    }
    for SuspendedDevice { device_id, since } in &state.devices {
        // Writing to a String cannot fail.
        let _ = writeln!(text, "  device {device_id} is suspended since {since}");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_s_state_is_shown() {
        let told = r#"{"user_id":"eve","known":true,"suspended":false,"since":null,
            "devices":[{"device_id":"phone","since":"2026-05-30T17:42:11.000Z"}]}"#;
        let state: UserState = serde_json::from_str(told).unwrap();
        assert_eq!(
            render(&state),
            "eve is not suspended\n  device phone is suspended since 2026-05-30T17:42:11.000Z\n"
        );
        let since = Some(state.devices[0].since);
        let slip = UserState { user_id: "eev".into(), known: false, suspended: true, since, devices: Vec::new() };
        let slip = render(&slip);
        assert!(slip.starts_with("eev is suspended since 2026-05-30T17:42:11.000Z\n"), "{slip}");
        assert!(slip.contains("no thread and no device"), "{slip}");
    }
}
