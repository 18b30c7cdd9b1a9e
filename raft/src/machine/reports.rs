//! What users report.
//!
//! Owns: keeping reports, in the shard of whoever files them, and for how long.
//! Must not know: whether the reporter may see what it reports; whoever proposes has asked.
//! Invariants: a user has at most so many, the newest, so that nobody pushes out the reports of others; a report that is too
//! old is shown to nobody from that instant, and each one that is filed takes away a few of the shard's oldest.

use super::apply::Outcome;
use super::rows::dedupe::{Reference, ReportRef};
use super::rows::key::KeyWriter;
use super::rows::report::ReportKey;
use super::rows::user_report::UserReportKey;
use super::rows::{self, Nothing};
use super::step::{Step, Stop, refuse};
use super::tables::{Direction, TableError, Tables};
use messenger_proto::command::{Command, Reply, ReplyBody};
use messenger_proto::error::ErrorCode;
use messenger_proto::ids::{Millis, ReportId, UserId};
use messenger_proto::limits::{REPORT_NOTE_MAX, REPORT_RETENTION, REPORTS_PAGE_MAX, USER_REPORTS_MAX};
use messenger_proto::moderation::{FileReport, KeptReport, ReportReply, ReportsAnswer, ReportsQuery};

/// Old reports that filing one takes away at most: more than one, so that it catches up.
const SWEPT: usize = 4;

/// Keeps a report.
pub(crate) fn file<T: Tables>(step: &mut Step<'_, T>, op: &FileReport, command: &Command) -> Result<Outcome, Stop> {
    if op.note.as_ref().is_some_and(|note| note.len() > REPORT_NOTE_MAX) {
        return refuse(ErrorCode::InvalidRequest, "the note is too long");
    }
    let id = ReportId::new(step.now, command.id);
    step.put(&ReportKey { report: id }, op);
    step.put(&UserReportKey { user: op.reporter.clone(), report: id }, &Nothing {});
    make_room(step, &op.reporter)?;
    sweep(step)?;
    Ok(Outcome {
        reply: Reply { replayed: false, body: ReplyBody::Report(ReportReply { id }), barrier: None },
        reference: Some(Reference::Report(ReportRef { id })),
    })
}

/// Takes away the oldest reports of a user beyond those that are kept.
fn make_room<T: Tables>(step: &mut Step<'_, T>, user: &UserId) -> Result<(), Stop> {
    let mut all = KeyWriter::of::<UserReportKey>();
    let range = all.slotted_user(user).range();
    let own = rows::collect::<UserReportKey>(&step.rows, &range, Direction::Forward, USER_REPORTS_MAX + SWEPT)?;
    for (key, _) in own.iter().take(own.len().saturating_sub(USER_REPORTS_MAX)) {
        step.delete(key);
        step.delete(&ReportKey { report: key.report });
    }
    Ok(())
}

/// Takes away some of the shard's reports that are too old.
fn sweep<T: Tables>(step: &mut Step<'_, T>) -> Result<(), Stop> {
    let range = ReportKey::between(ReportId(0), kept_from(step.now));
    for (key, report) in rows::collect::<ReportKey>(&step.rows, &range, Direction::Forward, SWEPT)? {
        step.delete(&key);
        step.delete(&UserReportKey { user: report.reporter, report: key.report });
    }
    Ok(())
}

/// The lowest id of a report that is not too old.
fn kept_from(now: Millis) -> ReportId {
    let retention = u64::try_from(REPORT_RETENTION.as_millis()).unwrap_or(u64::MAX);
    ReportId::floor(Millis(now.0.saturating_sub(retention)))
}

/// Lists the shard's reports, oldest first.
pub(crate) fn list(tables: &impl Tables, query: &ReportsQuery, now: Millis) -> Result<ReportsAnswer, TableError> {
    let oldest = ReportId(kept_from(now).0.saturating_sub(1));
    let range = ReportKey::between(query.after.max(oldest), query.before);
    let limit = query.limit.min(REPORTS_PAGE_MAX) as usize;
    let rows = rows::collect::<ReportKey>(tables, &range, Direction::Forward, limit)?;
    let reports = rows.into_iter().map(|(key, report)| KeptReport { id: key.report, report });
    Ok(ReportsAnswer { reports: reports.collect() })
}
