//! `messenger reports` and `messenger senders`.
//!
//! Owns: asking what users reported and who sends the most, and showing both.
//! Must not know: how either is kept.

use super::operators::{AdminArgs, PARTIAL, Query, warn_of_silence, when};
use super::{CliError, Output};
use clap::{Args, ValueEnum};
use messenger_client::Call;
use messenger_proto::ids::UserId;
use serde::Deserialize;
use serde_json::Value;

const EXAMPLES: &str = "\
Examples:
  messenger reports --since 24h
  messenger reports --since 2026-05-30T00:00:00Z --output json";

/// What the columns of the table of senders are.
const COLUMNS: &str = "\
Columns, of the last hour: sends, messages sent; peak/min, messages a minute, on average over the busiest ten minutes (the
clock's, as from 17:40 to 17:50); recipients, members that they went to, added up; largest, the most members that one went to;
threads, threads made; refused, writes that were refused.";

const SENDERS_EXAMPLES: &str = "\
Examples:
  messenger senders
  messenger senders --by refused --limit 5 --output json
  messenger senders --user alice";

/// Rows asked for at a time.
const PAGE: u64 = 200;

/// See what users reported
#[derive(Debug, Args)]
#[command(after_help = format!("{EXAMPLES}\n\n{PARTIAL}"))]
pub struct ReportsArgs {
    /// From when on: a time, or how long ago, as 15m, 24h or 7d
    #[arg(long, value_name = "TIME", value_parser = when)]
    since: Option<String>,
    /// Until when, exclusive
    #[arg(long, value_name = "TIME", value_parser = when)]
    until: Option<String>,
    /// How many at most, oldest first; at least 1
    #[arg(long, value_name = "N", default_value_t = 1_000, value_parser = clap::value_parser!(u64).range(1..))]
    limit: u64,
    /// Print for people, or one JSON object a line
    #[arg(long, value_enum, default_value_t)]
    output: Output,
    #[command(flatten)]
    admin: AdminArgs,
}

/// What senders are compared by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum By {
    /// Messages.
    Sends,
    /// Members that messages went to.
    Recipients,
    /// Threads made.
    NewThreads,
    /// Writes that were refused.
    Refused,
}

impl By {
    fn name(self) -> &'static str {
        match self {
            Self::Sends => "sends",
            Self::Recipients => "recipients",
            Self::NewThreads => "new_threads",
            Self::Refused => "refused",
        }
    }
}

/// See who sent the most within the last hour, and to how many
#[derive(Debug, Args)]
#[command(after_help = format!("{COLUMNS}\n\n{SENDERS_EXAMPLES}\n\n{PARTIAL}"))]
pub struct SendersArgs {
    /// What they are compared by
    #[arg(long, value_enum, default_value_t = By::Sends)]
    by: By,
    /// Only this user
    #[arg(long)]
    user: Option<UserId>,
    /// How many at most: 1 to 200
    #[arg(long, value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=200))]
    limit: u32,
    /// Print for people or for programs
    #[arg(long, value_enum, default_value_t)]
    output: Output,
    #[command(flatten)]
    admin: AdminArgs,
}

#[derive(Deserialize)]
struct Page {
    reports: Vec<Value>,
    next_cursor: Option<String>,
    unanswered_shards: Vec<u64>,
}

/// Runs `messenger reports`.
///
/// # Errors
/// [`CliError`] when no admin listener answers.
pub async fn run(args: ReportsArgs) -> Result<(), CliError> {
    let (mut cursor, mut left): (Option<String>, u64) = (None, args.limit);
    while left > 0 {
        let query = Query::default()
            .with("since", args.since.as_ref())
            .with("until", args.until.as_ref())
            .with("page_size", Some(left.min(PAGE)))
            .with("cursor", cursor.as_ref());
        let page: Page = args.admin.ask(&Call::new(http::Method::GET, query.of("/admin/reports"))).await?;
        left = left.saturating_sub(page.reports.len() as u64);
        for report in &page.reports {
            match args.output {
                Output::Json => println!("{report}"),
                Output::Text => println!("{}", line(report)),
            }
        }
        warn_of_silence("shards", &page.unanswered_shards);
        cursor = page.next_cursor;
        if cursor.is_none() {
            break;
        }
    }
    if cursor.is_some() {
        eprintln!("messenger: there is more; see --limit");
    }
    Ok(())
}

fn text<'a>(value: &'a Value, name: &str) -> &'a str {
    value[name].as_str().unwrap_or("-")
}

/// A report for people; the note is shown as JSON, so that nothing in it acts on the terminal.
fn line(report: &Value) -> String {
    let subject = match (report["message_id"].as_str(), report["thread_id"].as_str(), report["user_id"].as_str()) {
        (Some(id), ..) => format!("message {id} of {} in {}", text(report, "sender_id"), text(report, "thread_id")),
        (None, Some(id), _) => format!("thread {id} of {}", text(report, "thread_created_by")),
        (.., user) => format!("user {}", user.unwrap_or("-")),
    };
    let note = report["note"].as_str().map(|note| format!("  {}", note.escape_debug())).unwrap_or_default();
    let (at, id, reporter) = (text(report, "at"), text(report, "report_id"), text(report, "reporter"));
    format!("{at}  {id}  {:<8} by {reporter}: {subject}{note}", text(report, "reason"))
}

/// Runs `messenger senders`.
///
/// # Errors
/// [`CliError`] when no admin listener answers.
pub async fn senders(args: SendersArgs) -> Result<(), CliError> {
    let query = Query::default()
        .with("by", Some(args.by.name()))
        .with("user", args.user.as_ref())
        .with("page_size", Some(args.limit));
    let answer: Value = args.admin.ask(&Call::new(http::Method::GET, query.of("/admin/senders"))).await?;
    if args.output == Output::Json {
        println!("{answer}");
        return Ok(());
    }
    let senders: Vec<&Value> = answer["senders"].as_array().into_iter().flatten().collect();
    print!("{}", table(&senders));
    let silent: Vec<u64> = answer["unanswered"].as_array().into_iter().flatten().filter_map(Value::as_u64).collect();
    warn_of_silence("nodes", &silent);
    Ok(())
}

/// Senders for people; a column is as wide as what is in it.
fn table(senders: &[&Value]) -> String {
    const HEAD: [&str; 7] = ["user", "sends", "peak/min of 10", "recipients", "largest", "threads", "refused"];
    const MEMBERS: [&str; 6] =
        ["sends", "peak_sends_per_minute", "recipients", "recipients_max", "new_threads", "refused"];
    let row = |sender: &&Value| {
        let numbers = MEMBERS.iter().map(|name| sender[*name].to_string());
        std::iter::once(text(sender, "user_id").to_owned()).chain(numbers).collect::<Vec<String>>()
    };
    let head = HEAD.map(str::to_owned).to_vec();
    let rows: Vec<Vec<String>> = std::iter::once(head).chain(senders.iter().map(row)).collect();
    let width = |column: usize| rows.iter().filter_map(|row| row.get(column)).map(String::len).max().unwrap_or(0);
    let widths: Vec<usize> = (0..HEAD.len()).map(width).collect();
    let line = |row: &Vec<String>| {
        let cell = |(column, (text, width)): (usize, (&String, &usize))| match column {
            0 => format!("{text:<width$}"),
            _ => format!("  {text:>width$}"),
        };
        row.iter().zip(&widths).enumerate().map(cell).collect::<String>() + "\n"
    };
    rows.iter().map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn columns_line_up_however_long_a_name_is() {
        let sender = |user: String, peak: f64| {
            json!({"user_id": user, "sends": 7, "peak_sends_per_minute": peak, "recipients": 14, "recipients_max": 2,
                "new_threads": 0, "refused": 1_000_000_000})
        };
        let (short, long) = (sender("eve".into(), 0.7), sender("x".repeat(64), 12_345.6));
        let text = table(&[&short, &long]);
        let lines: Vec<&str> = text.lines().collect();
        let ends = |line: &str, word: &str| line.find(word).map(|at| at + word.len());
        for (head, of_short, of_long) in [("peak/min of 10", "0.7", "12345.6"), ("recipients", "14", "14")] {
            let end = ends(lines[0], head);
            assert_eq!([ends(lines[1], of_short), ends(lines[2], of_long)], [end, end], "{text}");
        }
        assert!(lines.iter().all(|line| line.len() == lines[0].len()), "{text}");
    }

    #[test]
    fn a_report_is_a_line_and_its_note_does_nothing_to_the_terminal() {
        let report = json!({"report_id": "01", "at": "2026-05-30T17:42:11.000Z", "reporter": "ann", "reason": "spam",
            "note": "x\u{1b}[31m", "message_id": "02", "thread_id": "t", "sender_id": "eve"});
        let text = line(&report);
        assert!(text.contains("message 02 of eve in t") && text.contains("by ann"), "{text}");
        assert!(!text.contains('\u{1b}'), "{text}");
        assert!(line(&json!({"user_id": "eve"})).contains("user eve"));
    }
}
