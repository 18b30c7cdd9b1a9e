//! `messenger reports` and `messenger senders`.
//!
//! Owns: asking what users reported and who sends the most, and showing both.
//! Must not know: how either is kept.

use super::operators::{AdminArgs, PARTIAL, Query, warn_of_silence, when};
use super::{CliError, Output};
use crate::operator_api::{ReportRow, Reports, SenderRow, Senders};
use clap::{Args, ValueEnum};
use messenger_client::Call;
use messenger_proto::ids::UserId;
use serde_json::value::RawValue;

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
        let said = args.admin.ask(&Call::new(http::Method::GET, query.of("/admin/reports"))).await?;
        let page: Reports<Box<RawValue>> = said.read()?;
        left = left.saturating_sub(page.reports.len() as u64);
        for report in &page.reports {
            match args.output {
                Output::Json => println!("{report}"),
                Output::Text => println!("{}", line(&read(report)?)),
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

fn read(report: &RawValue) -> Result<ReportRow, CliError> {
    serde_json::from_str(report.get()).map_err(|e| CliError::Failed(format!("not a report: {e}")))
}

/// A report for people; the note is shown as JSON, so that nothing in it acts on the terminal.
fn line(report: &ReportRow) -> String {
    fn or_dash(text: Option<&String>) -> &str {
        text.map_or("-", String::as_str)
    }
    let ReportRow { report_id, reporter, reason, sender_id, thread_created_by, user_id, .. } = report;
    let subject = match (&report.message_id, &report.thread_id) {
        (Some(id), thread) => {
            format!("message {id} of {} in {}", or_dash(sender_id.as_ref()), or_dash(thread.as_ref()))
        }
        (None, Some(id)) => format!("thread {id} of {}", or_dash(thread_created_by.as_ref())),
        (None, None) => format!("user {}", or_dash(user_id.as_ref())),
    };
    let note = report.note.as_ref().map(|note| format!("  {}", note.escape_debug())).unwrap_or_default();
    let at = report.at.map_or_else(|| "-".to_owned(), |at| at.to_string());
    format!("{at}  {report_id}  {reason:<8} by {reporter}: {subject}{note}")
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
    let said = args.admin.ask(&Call::new(http::Method::GET, query.of("/admin/senders"))).await?;
    if args.output == Output::Json {
        println!("{said}");
        return Ok(());
    }
    let answer: Senders = said.read()?;
    print!("{}", table(&answer.senders));
    warn_of_silence("nodes", &answer.unanswered);
    Ok(())
}

/// Senders for people; a column is as wide as what is in it.
fn table(senders: &[SenderRow]) -> String {
    const HEAD: [&str; 7] = ["user", "sends", "peak/min of 10", "recipients", "largest", "threads", "refused"];
    let row = |sender: &SenderRow| {
        vec![
            sender.user_id.clone(),
            sender.sends.to_string(),
            format!("{:?}", sender.peak_sends_per_minute),
            sender.recipients.to_string(),
            sender.recipients_max.to_string(),
            sender.new_threads.to_string(),
            sender.refused.to_string(),
        ]
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
    use crate::operator_api::FanOut;

    #[test]
    fn columns_line_up_however_long_a_name_is() {
        let sender = |user: String, peak_sends_per_minute: f64| SenderRow {
            user_id: user,
            sends: 7,
            peak_sends_per_minute,
            recipients: 14,
            recipients_max: 2,
            fan_out: FanOut { one: 0, few: 7, many: 0, most: 0 },
            new_threads: 0,
            refused: 1_000_000_000,
        };
        let text = table(&[sender("eve".into(), 0.7), sender("x".repeat(64), 12_345.6)]);
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
        let told = r#"{"report_id":"01","at":"2026-05-30T17:42:11.000Z","reporter":"ann","reporter_device":"pc",
            "reason":"spam","note":"x\u001b[31m","message_id":"02","thread_id":"t","sender_id":"eve","later":1}"#;
        let report: ReportRow = serde_json::from_str(told).unwrap();
        let text = line(&report);
        assert!(text.starts_with("2026-05-30T17:42:11.000Z  01  spam"), "{text}");
        assert!(text.contains("message 02 of eve in t") && text.contains("by ann"), "{text}");
        assert!(!text.contains('\u{1b}'), "{text}");
        assert!(line(&ReportRow { user_id: Some("eve".into()), ..ReportRow::default() }).contains("user eve"));
    }
}
