//! The shapes of what users report.
//!
//! Owns: the schemas of a report and of its answer.
//! Must not know: what becomes of a report.

use super::{body, codes, object, or_null, to};
use messenger_proto::limits::REPORT_NOTE_MAX;
use messenger_proto::moderation::ReportReason;
use serde_json::{Value, json};

pub(super) fn reports() -> Value {
    json!({
        "ReportId": {
            "type": "string", "pattern": "^[0-7][0-9A-HJKMNP-TV-Z]{25}$", "description": "A report, as a ULID.",
        },
        "NewReport": body("What is reported: exactly one of a message, a thread and a user.", json!({
            "message_id": or_null(to("MessageId")),
            "thread_id": or_null(to("ThreadId")),
            "user_id": or_null(to("UserId")),
            "reason": codes(ReportReason::ALL, |it| it.as_str()),
            "note": or_null(json!({
                "type": "string", "description": format!("In the reporter's words, at most {REPORT_NOTE_MAX} bytes."),
            })),
        }), &["message_id", "thread_id", "user_id", "note"]),
        "Report": object("A report that is kept.", json!({ "report_id": to("ReportId") }), &[]),
    })
}
