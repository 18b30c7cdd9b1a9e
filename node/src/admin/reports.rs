//! What users report.
//!
//! Owns: `GET /admin/reports`: one page of what all shards keep.
//! Must not know: how reports are kept, who may file one.
//! Invariants: a page is in order of time; shards that did not answer are named, and what they keep is not on this page nor,
//! where it is older, on the following ones.

use super::Office;
use super::answer::{Asked, Problem, cursor, json};
use crate::api::error::ApiError;
use crate::api::time::Rfc3339;
use crate::operator_api::{ReportRow, Reports};
use axum::extract::State;
use axum::http::Uri;
use axum::response::Response;
use messenger_proto::ids::{ReportId, ShardId};
use messenger_proto::moderation::{KeptReport, ReportSubject, ReportsQuery};
use messenger_proto::query::{Answer, Query};
use std::sync::Arc;

fn row(kept: KeptReport) -> ReportRow {
    let KeptReport { id, report } = kept;
    let view = ReportRow {
        report_id: id.to_string(),
        at: Some(Rfc3339(id.filed_at())),
        reporter: report.reporter.to_string(),
        reporter_device: report.device.to_string(),
        reason: report.reason.as_str().to_owned(),
        note: report.note,
        ..ReportRow::default()
    };
    match report.subject {
        ReportSubject::Message(of) => ReportRow {
            message_id: Some(of.message.to_string()),
            seq: Some(of.seq.0),
            sender_id: Some(of.sender.to_string()),
            sender_device_id: Some(of.sender_device.to_string()),
            sent_at: Some(Rfc3339(of.sent_at)),
            thread_id: Some(of.thread.to_string()),
            ..view
        },
        ReportSubject::Thread(of) => ReportRow {
            thread_id: Some(of.thread.to_string()),
            thread_created_by: Some(of.created_by.to_string()),
            ..view
        },
        ReportSubject::User(of) => ReportRow { user_id: Some(of.user.to_string()), ..view },
    }
}

/// `GET /admin/reports`
pub(super) async fn page(State(office): State<Arc<Office>>, uri: Uri) -> Result<Response, Problem> {
    let mut asked = Asked::of(&uri)?;
    let since = asked.time("since").map(ReportId::floor);
    let until = asked.time("until").map(ReportId::floor);
    let limit = asked.page_size();
    let seen: Option<String> = asked.cursor();
    let seen = seen.map(|text| text.parse::<ReportId>());
    asked.finish()?;
    let seen = seen.transpose().map_err(|_| ApiError::field("cursor", "is not one of this list"))?;
    // The bound is exclusive, and a time's first report counts.
    let from = since.map_or(ReportId(0), |since| ReportId(since.0.saturating_sub(1)));
    let query =
        ReportsQuery { after: seen.unwrap_or_default().max(from), before: until.unwrap_or(ReportId(u128::MAX)), limit };
    let shards: Vec<ShardId> = office.record.borrow().shards.iter().map(|placed| placed.shard).collect();
    let queries = shards.iter().map(|shard| (*shard, Query::Reports(query.clone()))).collect();
    let answers = office.router.scatter(queries, Office::deadline()).await;
    let (mut reports, mut silent) = (Vec::new(), Vec::new());
    let mut more = false;
    for (shard, answer) in shards.into_iter().zip(answers) {
        match answer {
            Ok(Answer::Reports(answer)) => {
                more |= answer.reports.len() >= limit as usize;
                reports.extend(answer.reports);
            }
            _ => silent.push(u64::from(shard.0)),
        }
    }
    reports.sort_unstable_by_key(|kept| kept.id);
    more |= reports.len() > limit as usize;
    reports.truncate(limit as usize);
    let last = reports.last().map(|kept| kept.id.to_string());
    json(&Reports {
        reports: reports.into_iter().map(row).collect(),
        next_cursor: last.filter(|_| more).map(|last| cursor(&last)),
        unanswered_shards: silent,
    })
}
