//! Reporting abuse.
//!
//! Owns: `POST /v1/reports`: what may be reported by whom, and what the cluster adds to it.
//! Must not know: who reads reports, how they are kept; the reporter's shard does.
//! Invariants: who reports a thing can see it at that moment; nothing of what a message says is taken along.

use super::GatewayState;
use super::audited::Told;
use super::extract::{Writer, idempotency_key, json_body};
use super::idempotency::{BodyHash, Origin, PostPath};
use super::input::{Object, text};
use super::presence::share_a_thread;
use super::respond::{json_done, replayed, unexpected};
use super::send::{message_id, thread_id};
use super::threads::{bounded, user_id};
use crate::api::error::ApiError;
use crate::api::view::Text;
use crate::auth::Identity;
use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::response::Response;
use messenger_proto::command::{Command, Op, ReplyBody};
use messenger_proto::error::ErrorCode;
use messenger_proto::ids::{MessageId, ReportId, ThreadId, UserId};
use messenger_proto::limits::REPORT_NOTE_MAX;
use messenger_proto::moderation::{
    FileReport, ReportReason, ReportSubject, ReportedMessage, ReportedThread, ReportedUser,
};
use messenger_proto::query::{Answer, MessageQuery, Query, ThreadQuery};
use messenger_proto::slot::Slot;
use serde::Serialize;
use tokio::time::Instant;

/// What a client names.
enum Named {
    Message(MessageId),
    Thread(ThreadId),
    User(UserId),
}

/// The body of a report.
struct NewReport {
    named: Named,
    reason: ReportReason,
    note: Option<String>,
}

#[derive(Serialize)]
struct View {
    report_id: Text<ReportId>,
}

const SIZE: usize = 48;

impl NewReport {
    fn take(object: &mut Object<'_>, reporter: &UserId) -> Option<Self> {
        let errors_before = object.complaints();
        let message = object.optional("message_id", message_id);
        let thread = object.optional("thread_id", thread_id);
        let user = object.optional("user_id", user_id);
        let all_read = object.complaints() == errors_before;
        let reason = object.required("reason", |value| {
            ReportReason::parse(&text(value)?).ok_or_else(|| "must be spam, abuse, illegal or other".into())
        });
        let note = object.optional("note", |value| bounded(value, REPORT_NOTE_MAX));
        let named = match (message, thread, user) {
            (Some(message), None, None) => Some(Named::Message(message)),
            (None, Some(thread), None) => Some(Named::Thread(thread)),
            (None, None, Some(user)) if user == *reporter => {
                object.complain("user_id", "must be another's");
                None
            }
            (None, None, Some(user)) => Some(Named::User(user)),
            _ if all_read => {
                object.complain("message_id", "exactly one of message_id, thread_id and user_id must be given");
                None
            }
            _ => None,
        };
        Some(Self { named: named?, reason: reason?, note })
    }

    fn body_hash(&self) -> u64 {
        let mut hash = BodyHash::new("report");
        match &self.named {
            Named::Message(id) => hash.bytes(&id.0.to_be_bytes()),
            Named::Thread(id) => hash.bytes(&[&b"thread"[..], &id.0].concat()),
            Named::User(id) => hash.bytes(format!("user {id}").as_bytes()),
        }
        hash.bytes(self.reason.as_str().as_bytes());
        hash.optional(self.note.as_deref());
        hash.finish()
    }
}

/// What is named, if the reporter can see it, with what the cluster knows of it.
async fn seen(
    state: &GatewayState,
    viewer: &Identity,
    named: Named,
    deadline: Instant,
) -> Result<ReportSubject, ApiError> {
    let (slot, query) = match named {
        Named::Message(id) => {
            let (viewer, device) = (viewer.user.clone(), viewer.device.clone());
            (id.slot(), Query::Message(MessageQuery { id, viewer, device }))
        }
        Named::Thread(thread) => {
            (Slot::of_thread(thread), Query::Thread(ThreadQuery { thread, viewer: viewer.user.clone() }))
        }
        Named::User(user) if share_a_thread(state, &viewer.user, &user, deadline).await? => {
            return Ok(ReportSubject::User(ReportedUser { user }));
        }
        Named::User(_) => {
            let detail = "Only those who share a thread with a user may report it.";
            return Err(ApiError::new(ErrorCode::Forbidden, detail));
        }
    };
    match state.router().query(slot, query, deadline).await? {
        Answer::Message(message) => Ok(ReportSubject::Message(ReportedMessage {
            message: message.id,
            thread: message.thread,
            seq: message.seq,
            sender: message.sender,
            sender_device: message.device,
            sent_at: message.id.created_at(),
        })),
        Answer::Thread(thread) => {
            Ok(ReportSubject::Thread(ReportedThread { thread: thread.id, created_by: thread.created_by }))
        }
        other => Err(unexpected(&other)),
    }
}

/// `POST /v1/reports`
pub(super) async fn file(
    State(state): State<GatewayState>,
    Writer(reporter): Writer,
    request: Request,
) -> Result<Response, ApiError> {
    let key = idempotency_key(request.headers());
    let body = json_body(&state, request).await?;
    let mut object = Object::parse(&body)?;
    let asked = NewReport::take(&mut object, &reporter.user);
    let key = object.beside(key).flatten();
    object.finish()?;
    let asked = asked.ok_or_else(|| ApiError::internal("a body without errors was not read"))?;
    let (body_hash, deadline) = (asked.body_hash(), state.deadline());
    let NewReport { named, reason, note } = asked;
    let subject = seen(&state, &reporter, named, deadline).await?;
    let origin = Origin::of(&reporter.user, PostPath::Reports, key.as_ref());
    let (user, device) = (reporter.user.clone(), reporter.device.clone());
    let op = Op::FileReport(FileReport { reporter: user.clone(), device, reason, note, subject });
    let command = Command { id: origin.id, retention: origin.retention, body_hash, op };
    let reply = state.router().command(Slot::of_user(&user), command, deadline).await?;
    let ReplyBody::Report(report) = reply.body else {
        return Err(ApiError::internal("a report was answered with something else"));
    };
    let mut response = json_done(&state, StatusCode::ACCEPTED, &View { report_id: Text(report.id) }, SIZE)?;
    response.extensions_mut().insert(Told { report: Some(report.id), ..Told::default() });
    Ok(replayed(response, reply.replayed))
}
