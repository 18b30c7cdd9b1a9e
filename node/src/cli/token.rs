//! `messenger token`.
//!
//! Owns: its arguments; prints a bearer token alone on its line.
//! Must not know: how tokens are signed or checked.

use super::{CliError, DataArgs};
use crate::auth::Scopes;
use crate::dev_key::{DevKey, Grant};
use clap::Args;
use messenger_proto::ids::{DeviceId, UserId};
use std::time::Duration;

const EXAMPLES: &str = "\
Examples:
  messenger token alice
  messenger token alice --device phone --ttl 1h
  messenger token bob --scope chat.read
  curl -H \"Authorization: Bearer $(messenger token alice)\" http://127.0.0.1:7401/v1/threads";

/// Print a bearer token for a user of the local cluster
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct TokenArgs {
    /// Whom the token speaks for
    user: UserId,
    /// The user's device
    #[arg(long, default_value = "cli")]
    device: DeviceId,
    /// What it allows, separated by spaces
    #[arg(long, default_value = "chat.read chat.write", value_parser = scope)]
    scope: Scopes,
    /// How long it lasts: a number and its unit, one of s, m, h and d, as 90s, 15m, 24h or 7d
    #[arg(long, default_value = "24h", value_parser = ttl)]
    ttl: Duration,
    #[command(flatten)]
    data: DataArgs,
}

fn scope(text: &str) -> Result<Scopes, String> {
    let known = |name: &&str| matches!(*name, "chat.read" | "chat.write");
    match text.split_whitespace().find(|name| !known(name)) {
        Some(name) => Err(format!("{name:?} is neither chat.read nor chat.write")),
        None => Ok(Scopes::parse(text)),
    }
}

/// Reads `90s`, `15m`, `24h` or `7d`. A bare number is refused: who writes it may mean any unit.
fn ttl(text: &str) -> Result<Duration, String> {
    if text.ends_with(|last: char| last.is_ascii_digit()) {
        return Err(format!("{text:?} has no unit: write 90s, 15m, 24h or 7d"));
    }
    duration(text)
}

/// Reads `90`, `90s`, `15m`, `24h` or `7d`; a bare number counts seconds, for flags that are named so.
pub(super) fn duration(text: &str) -> Result<Duration, String> {
    let invalid = || format!("{text:?} is no duration: write 90s, 15m, 24h or 7d");
    let digits = text.trim_end_matches(['s', 'm', 'h', 'd']);
    let unit = match &text[digits.len()..] {
        "" | "s" => 1,
        "m" => 60,
        "h" => 3600,
        "d" => 86_400,
        _ => return Err(invalid()),
    };
    let number: u64 = digits.parse().map_err(|_| invalid())?;
    number
        .checked_mul(unit)
        .filter(|seconds| *seconds <= 10 * 365 * 86_400)
        .map(Duration::from_secs)
        .ok_or_else(invalid)
}

/// Prints the token.
///
/// # Errors
/// [`CliError::Token`] when there is no key.
pub fn run(args: &TokenArgs) -> Result<(), CliError> {
    let grant = Grant { user: args.user.clone(), device: args.device.clone(), scopes: args.scope, lifetime: args.ttl };
    println!("{}", DevKey::load(&args.data.data)?.mint(&grant)?);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read() {
        for (text, seconds) in [("90", 90), ("90s", 90), ("15m", 900), ("24h", 86_400), ("7d", 604_800), ("0s", 0)] {
            assert_eq!(duration(text), Ok(Duration::from_secs(seconds)), "{text}");
        }
        for text in ["", "h", "1w", "1hh", "-1s", "1.5h", "99999999999999999999d", "9999999d"] {
            assert!(duration(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn a_token_lasts_as_long_as_a_number_and_a_unit_say() {
        assert_eq!(ttl("5m"), Ok(Duration::from_mins(5)));
        for text in ["5", "0", "90"] {
            let said = ttl(text).unwrap_err();
            assert!(said.contains("no unit") && said.contains("90s, 15m, 24h or 7d"), "{said}");
        }
        for text in ["", "h", "5 m", "five"] {
            assert!(ttl(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn scopes_are_checked() {
        assert_eq!(scope(" chat.read  chat.write"), Ok(Scopes::ALL));
        assert_eq!(scope(""), Ok(Scopes::default()));
        assert!(scope("chat.read admin").unwrap_err().contains("admin"));
    }
}
