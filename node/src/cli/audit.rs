//! `messenger audit`.
//!
//! Owns: asking for records of writes page by page, showing them, and checking a node's files.
//! Must not know: how records are kept.

use super::operators::{AdminArgs, PARTIAL, Query, warn_of_silence, when};
use super::{CliError, Output};
use crate::audit::record::{Chain, parse_chain};
use crate::audit::segment::Stream;
use crate::audit::verify::{Found, verify_with};
use crate::operator_api::AuditRecords;
use clap::{Args, Subcommand};
use messenger_client::Call;
use messenger_proto::ids::{DeviceId, MessageId, ThreadId, UserId};
use serde_json::Value;
use std::fmt::Write;
use std::path::PathBuf;

const EXAMPLES: &str = "\
Examples:
  messenger audit --since 15m
  messenger audit --user alice --since 2026-05-30T00:00:00Z --until 2026-05-31T00:00:00Z --output json
  messenger audit --address 203.0.113.9 --status 403 --limit 20
  messenger audit verify .messenger/node-1/data";

const VERIFY_EXAMPLES: &str = "\
Examples:
  messenger audit verify .messenger/node-1/data
  messenger audit verify /var/lib/messenger/audit --end writes:4711:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08";

/// Rows asked for at a time.
const PAGE: u64 = 200;

/// See who wrote what, when and from where; never what was said
#[derive(Debug, Args)]
#[command(after_help = format!("{EXAMPLES}\n\n{PARTIAL}"), args_conflicts_with_subcommands = true)]
pub struct AuditArgs {
    #[command(subcommand)]
    command: Option<AuditCommand>,
    #[command(flatten)]
    list: ListArgs,
}

#[derive(Debug, Subcommand)]
enum AuditCommand {
    Verify(VerifyArgs),
}

#[derive(Debug, Args)]
struct ListArgs {
    /// From when on: a time, or how long ago, as 15m, 24h or 7d
    #[arg(long, value_name = "TIME", value_parser = when)]
    since: Option<String>,
    /// Until when, exclusive
    #[arg(long, value_name = "TIME", value_parser = when)]
    until: Option<String>,
    /// Who wrote, or was written about
    #[arg(long)]
    user: Option<UserId>,
    /// By which device, or about which
    #[arg(long)]
    device: Option<DeviceId>,
    /// In which thread
    #[arg(long, value_name = "ID")]
    thread: Option<ThreadId>,
    /// About which message
    #[arg(long, value_name = "ID")]
    message: Option<MessageId>,
    /// From where
    #[arg(long)]
    address: Option<std::net::IpAddr>,
    /// With which HTTP status, as 403
    #[arg(long, value_name = "STATUS", value_parser = http_status)]
    status: Option<u16>,
    /// Under which trace id
    #[arg(long, value_name = "TRACE")]
    trace: Option<String>,
    /// How many at most, oldest first; at least 1
    #[arg(long, value_name = "N", default_value_t = 1_000, value_parser = clap::value_parser!(u64).range(1..))]
    limit: u64,
    /// Print for people, or one JSON object a line
    #[arg(long, value_enum, default_value_t)]
    output: Output,
    #[command(flatten)]
    admin: AdminArgs,
}

/// Check that a node's audit files are as they were written
#[derive(Debug, Args)]
#[command(after_help = VERIFY_EXAMPLES)]
struct VerifyArgs {
    /// The node's data directory, or `audit` within it
    dir: PathBuf,
    /// An end that was noted elsewhere, as `ends` of GET /admin/audit tells it: that record must be there unchanged
    #[arg(long, value_name = "LOG:N:CHAIN", value_parser = end)]
    end: Vec<(Stream, u64, Chain)>,
    /// Print for people or for programs
    #[arg(long, value_enum, default_value_t)]
    output: Output,
}

fn http_status(text: &str) -> Result<u16, String> {
    let status = text.parse().ok().filter(|status| (100..=599).contains(status));
    status.ok_or_else(|| "an HTTP status is expected: 100 to 599".to_owned())
}

fn end(text: &str) -> Result<(Stream, u64, Chain), String> {
    let mut parts = text.split(':');
    let (log, n, chain) = (parts.next(), parts.next(), parts.next());
    let stream = Stream::ALL.into_iter().find(|stream| Some(stream.name()) == log);
    let read = || Some((stream?, n?.parse().ok()?, parse_chain(chain?)?));
    read()
        .filter(|_| parts.next().is_none())
        .ok_or_else(|| format!("{text:?} is not like writes:4711:9f86…, or refused:…"))
}

/// Runs the command.
///
/// # Errors
/// [`CliError`] when no admin listener answers, or a file is not as it was written.
pub async fn run(args: AuditArgs) -> Result<(), CliError> {
    match args.command {
        None => list(&args.list).await,
        Some(AuditCommand::Verify(args)) => check(&args),
    }
}

async fn list(args: &ListArgs) -> Result<(), CliError> {
    let (mut cursor, mut left): (Option<String>, u64) = (None, args.limit);
    let mut silent = Vec::new();
    while left > 0 {
        let query = Query::default()
            .with("since", args.since.as_ref())
            .with("until", args.until.as_ref())
            .with("user", args.user.as_ref())
            .with("device", args.device.as_ref())
            .with("thread_id", args.thread.as_ref())
            .with("message_id", args.message.as_ref())
            .with("address", args.address)
            .with("status", args.status)
            .with("trace_id", args.trace.as_ref())
            .with("page_size", Some(left.min(PAGE)))
            .with("cursor", cursor.as_ref());
        let said = args.admin.ask(&Call::new(http::Method::GET, query.of("/admin/audit"))).await?;
        let page: AuditRecords = said.read()?;
        left = left.saturating_sub(page.records.len() as u64);
        for record in &page.records {
            match args.output {
                Output::Json => println!("{record}"),
                Output::Text => println!("{}", line(&serde_json::from_str(record.get()).unwrap_or_default())),
            }
        }
        silent.extend(page.unanswered);
        cursor = page.next_cursor;
        if cursor.is_none() {
            break;
        }
    }
    silent.sort_unstable();
    silent.dedup();
    warn_of_silence("nodes", &silent);
    if cursor.is_some() {
        eprintln!("messenger: there is more; see --limit");
    }
    Ok(())
}

/// A record for people.
fn line(record: &Value) -> String {
    let text = |name: &str| match &record[name] {
        Value::Null => None,
        Value::String(text) => Some(text.clone()),
        other => Some(other.to_string()),
    };
    let or_dash = |name: &str| text(name).unwrap_or_else(|| "-".into());
    let who = match (text("user"), text("device"), text("operator")) {
        (Some(user), Some(device), _) => format!("{user}/{device}"),
        (.., Some(operator)) => format!("operator {operator}"),
        _ => "-".into(),
    };
    let mut line = format!(
        "{}  {}  {:<21} {:<15} {} {} {}",
        or_dash("at"),
        or_dash("node"),
        who,
        or_dash("address"),
        or_dash("status"),
        text("method").or_else(|| text("kind")).unwrap_or_default(),
        text("route").unwrap_or_default(),
    );
    for name in ["code", "thread_id", "message_id", "target_user", "target_device", "report_id", "count", "trace_id"] {
        if let Some(value) = text(name) {
            // Writing to a String cannot fail.
            let _ = write!(line, "  {name}={value}");
        }
    }
    line
}

fn check(args: &VerifyArgs) -> Result<(), CliError> {
    let within = crate::audit::directory(&args.dir);
    let dir = if within.is_dir() { within } else { args.dir.clone() };
    let found = verify_with(&dir, &args.end).map_err(|e| CliError::Failed(format!("{}: {e}", dir.display())))?;
    if found.logs.is_empty() {
        return Err(CliError::Usage(format!("{} holds no audit log", dir.display())));
    }
    match args.output {
        Output::Text => print!("{}", render(&found)),
        Output::Json => println!("{}", serde_json::to_string(&found).map_err(|e| CliError::Failed(e.to_string()))?),
    }
    if found.problems.is_empty() {
        return Ok(());
    }
    Err(CliError::CorruptData(format!("{} is not as it was written", dir.display())))
}

fn render(found: &Found) -> String {
    let mut text = String::new();
    for log in &found.logs {
        let _ = writeln!(
            text,
            "{:<7}  {} segments, records {} to {}\n         end {}:{}:{}",
            log.log, log.segments, log.first, log.last, log.log, log.last, log.chain
        );
    }
    for (what, lines) in [("wrong", &found.problems), ("note", &found.remarks)] {
        for line in lines {
            let _ = writeln!(text, "{what}: {line}");
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_record_is_a_line() {
        let record = json!({"n": 7, "at": "2026-05-30T17:42:11.000Z", "node": 2, "kind": "request", "user": "alice",
            "device": "phone", "address": "127.0.0.1", "method": "POST", "route": "/v1/threads", "status": 403,
            "code": "not_a_member", "trace_id": "01"});
        let text = line(&record);
        assert!(text.contains("alice/phone") && text.contains("403 POST /v1/threads  code=not_a_member"), "{text}");
        let note = line(&json!({"n": 1, "at": "2026-05-30T17:42:11.000Z", "node": 2, "kind": "lost", "count": 3}));
        assert!(note.contains(" lost ") && note.ends_with("count=3"), "{note}");
    }

    #[test]
    fn an_end_is_read() {
        let chain = "ab".repeat(32);
        assert_eq!(end(&format!("writes:7:{chain}")), Ok((Stream::Writes, 7, [0xab; 32])));
        for text in ["", "writes:7", "reads:7:ab", &format!("writes:7:{chain}:")] {
            assert!(end(text).is_err(), "{text}");
        }
    }
}
