//! Making threads, looking at one, and what it is called.
//!
//! Owns: `POST /v1/threads`, `GET /v1/threads/{id}` and its PATCH.
//! Must not know: who may see a thread; its shard does.
//! Invariants: a pair has one thread id, a retried creation the id of its first try; an Idempotency-Key is good for one
//! body, whichever shard that body leads to.

use super::GatewayState;
use super::extract::{Reader, ThreadPath, Writer, idempotency_key, json_body};
use super::idempotency::{BodyHash, Origin, PostPath};
use super::input::{Complaint, Object, text};
use super::respond::{json_done, json_tagged, located, replayed, thread_of, unexpected};
use crate::api::error::ApiError;
use crate::api::view::ThreadView;
use crate::auth::Identity;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;
use messenger_proto::command::{ClaimKey, Command, CreateThread, Op, Retention, UpdateThread};
use messenger_proto::error::ErrorCode;
use messenger_proto::ids::{ShardId, ThreadId, UserId};
use messenger_proto::limits::{DESCRIPTION_MAX, THREAD_MEMBERS_MAX, TITLE_MAX, USER_THREADS_MAX};
use messenger_proto::model::{TextChange, Thread, ThreadKind};
use messenger_proto::query::{Answer, Query, RoomQuery, ThreadQuery};
use messenger_proto::slot::Slot;
use serde_json::value::RawValue;
use std::collections::BTreeMap;
use tokio::time::Instant;

/// Elements of a list of users at most: room for everyone, some twice.
pub(super) const USER_LIST_MAX: usize = 4 * THREAD_MEMBERS_MAX;

/// `POST /v1/threads`
pub(super) async fn create(
    State(state): State<GatewayState>,
    Writer(creator): Writer,
    request: Request,
) -> Result<Response, ApiError> {
    let key = idempotency_key(request.headers());
    let body = json_body(&state, request).await?;
    let mut object = Object::parse(&body)?;
    let asked = NewThread::take(&mut object, &creator.user);
    let key = object.beside(key).flatten();
    object.finish()?;
    let asked = asked.ok_or_else(|| ApiError::internal("a body without errors was not read"))?;
    let origin = Origin::of(&creator.user, PostPath::Threads, key.as_ref());
    asked.create(&state, &creator, origin).await
}

/// `GET /v1/threads/{id}`
pub(super) async fn one(
    State(state): State<GatewayState>,
    Reader(viewer): Reader,
    path: ThreadPath,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let thread = path.id()?;
    let query = Query::Thread(ThreadQuery { thread, viewer: viewer.user.clone() });
    match state.router().query(Slot::of_thread(thread), query, state.deadline()).await? {
        Answer::Thread(thread) => json_tagged(&state, &headers, &ThreadView::of(&thread), size_hint(&thread)),
        other => Err(unexpected(&other)),
    }
}

/// `PATCH /v1/threads/{id}`: members that are left out stay as they are, null takes them away.
pub(super) async fn update(
    State(state): State<GatewayState>,
    Writer(actor): Writer,
    path: ThreadPath,
    request: Request,
) -> Result<Response, ApiError> {
    let body = json_body(&state, request).await?;
    let mut object = Object::parse(&body)?;
    let thread = path.beside(&mut object);
    let title = take_change(&mut object, "title", TITLE_MAX);
    let description = take_change(&mut object, "description", DESCRIPTION_MAX);
    object.finish()?;
    let thread = thread.ok_or_else(|| ApiError::internal("a path without errors was not read"))?;
    let origin = Origin::minted();
    let op = Op::UpdateThread(UpdateThread { thread, actor: actor.user.clone(), title, description });
    let command = Command { id: origin.id, retention: origin.retention, body_hash: 0, op };
    let reply = state.router().command(Slot::of_thread(thread), command, state.deadline()).await?;
    answer_done(&state, StatusCode::OK, &thread_of(reply)?.thread)
}

fn take_change(object: &mut Object<'_>, name: &'static str, max: usize) -> Option<TextChange> {
    let value = object.take_or_null(name)?;
    if value.get() == "null" {
        return Some(TextChange { to: None });
    }
    match bounded(value, max) {
        Ok(text) => Some(TextChange { to: Some(text) }),
        Err(complaint) => {
            object.complain(name, complaint);
            None
        }
    }
}

/// The body of a creation.
struct NewThread {
    kind: ThreadKind,
    /// As given, repeats and the creator included: what bodies are compared by.
    named: Vec<UserId>,
    /// Without the creator, without repeats.
    others: Vec<UserId>,
    title: Option<String>,
    description: Option<String>,
}

impl NewThread {
    fn take(object: &mut Object<'_>, creator: &UserId) -> Option<Self> {
        let kind = object
            .required("type", |value| ThreadKind::parse(&text(value)?).ok_or_else(|| "must be 1_TO_1 or GROUP".into()));
        let errors_before = object.complaints();
        let named = object.required_list("participants", USER_LIST_MAX, user_id);
        let all_read = object.complaints() == errors_before;
        let title = object.optional("title", |value| bounded(value, TITLE_MAX));
        let description = object.optional("description", |value| bounded(value, DESCRIPTION_MAX));
        let (kind, named) = (kind?, named?);
        let others = without_repeats(&named, Some(creator));
        if all_read && let Err(complaint) = check_count(kind, others.len()) {
            object.complain("participants", complaint);
        }
        Some(Self { kind, named, others, title, description })
    }

    fn body_hash(&self) -> u64 {
        let mut hash = BodyHash::new("thread");
        hash.bytes(self.kind.as_str().as_bytes());
        hash.list(self.named.iter().map(UserId::as_str));
        hash.optional(self.title.as_deref());
        hash.optional(self.description.as_deref());
        hash.finish()
    }

    async fn create(self, state: &GatewayState, creator: &Identity, origin: Origin) -> Result<Response, ApiError> {
        let (secret, deadline, body_hash) = (state.secret()?, state.deadline(), self.body_hash());
        let group = secret.group(&creator.user, origin.id);
        let (thread, origin) = match (self.kind, self.others.first()) {
            (ThreadKind::OneToOne, Some(other)) => {
                let thread = secret.one_to_one(&creator.user, other);
                (thread, claim_key(state, Slot::of_thread(group), origin, body_hash, deadline).await?)
            }
            _ => (group, origin),
        };
        let everyone = self.others.iter().chain([&creator.user]);
        check_room(state, everyone, thread, true, deadline).await?;
        let op = Op::CreateThread(CreateThread {
            thread,
            kind: self.kind,
            creator: creator.user.clone(),
            others: self.others,
            title: self.title,
            description: self.description,
        });
        let command = Command { id: origin.id, retention: origin.retention, body_hash, op };
        let reply = state.router().command(Slot::of_thread(thread), command, deadline).await?;
        let was_replayed = reply.replayed;
        let reply = thread_of(reply)?;
        let status = if reply.created { StatusCode::CREATED } else { StatusCode::OK };
        let mut response = replayed(answer_done(state, status, &reply.thread)?, was_replayed);
        if reply.created {
            response = located(response, &format!("/v1/threads/{}", reply.thread.id));
        }
        Ok(response)
    }
}

/// Asks the users' shards whether they can be in one more thread.
///
/// # Errors
/// [`ErrorCode::Conflict`] that names who cannot; a shard's refusal, before anything was done.
pub(super) async fn check_room(
    state: &GatewayState,
    users: impl Iterator<Item = &UserId>,
    thread: ThreadId,
    creates: bool,
    deadline: Instant,
) -> Result<(), ApiError> {
    let mut parts: BTreeMap<ShardId, Vec<UserId>> = BTreeMap::new();
    for user in users {
        parts.entry(state.router().shard_of(Slot::of_user(user))).or_default().push(user.clone());
    }
    let query = |(shard, users)| (shard, Query::Room(RoomQuery { users, thread, creates }));
    let mut full = Vec::new();
    for answer in state.router().scatter(parts.into_iter().map(query).collect(), deadline).await {
        match answer? {
            Answer::Room(answer) => full.extend(answer.full),
            other => return Err(unexpected(&other)),
        }
    }
    if full.is_empty() {
        return Ok(());
    }
    let names: Vec<_> = full.iter().map(UserId::as_str).collect();
    let detail = format!("In {USER_THREADS_MAX} threads already, the most there may be: {}.", names.join(", "));
    Err(ApiError::new(ErrorCode::Conflict, detail))
}

/// Before a keyed creation of a pair's thread, whose shard depends on the pair: remembers the key where a group made
/// under it would be, so that the key meets any other body there. Gives the id of the creation itself.
async fn claim_key(
    state: &GatewayState,
    slot: Slot,
    origin: Origin,
    body_hash: u64,
    deadline: Instant,
) -> Result<Origin, ApiError> {
    if origin.retention != Retention::Keyed {
        return Ok(origin);
    }
    let op = Op::ClaimKey(ClaimKey {});
    let command = Command { id: origin.id, retention: origin.retention, body_hash, op };
    state.router().command(slot, command, deadline).await?;
    Ok(origin.second_step())
}

/// A user's id.
pub(super) fn user_id(value: &RawValue) -> Result<UserId, Complaint> {
    let complaint = || "must be 1-64 of A-Z a-z 0-9 _ . ~ - and not \".\", \"..\" or \"me\"".into();
    UserId::new(&text(value)?).map_err(|_| complaint())
}

/// The users in their order, each once, perhaps less one of them.
pub(super) fn without_repeats(users: &[UserId], but: Option<&UserId>) -> Vec<UserId> {
    let mut seen = std::collections::HashSet::with_capacity(users.len());
    users.iter().filter(|user| Some(*user) != but && seen.insert(*user)).cloned().collect()
}

/// A text of at most so many bytes.
pub(super) fn bounded(value: &RawValue, max: usize) -> Result<String, Complaint> {
    let text = text(value)?;
    if text.len() > max { Err(format!("must be at most {max} bytes").into()) } else { Ok(text.into_owned()) }
}

fn check_count(kind: ThreadKind, others: usize) -> Result<(), Complaint> {
    match (kind, others) {
        (_, 0) => Err("must name someone besides the creator".into()),
        (ThreadKind::OneToOne, 2..) => Err("must name exactly one other user in a 1_TO_1".into()),
        (ThreadKind::Group, THREAD_MEMBERS_MAX..) => {
            Err(format!("must make at most {THREAD_MEMBERS_MAX} in all").into())
        }
        _ => Ok(()),
    }
}

/// The thread that a command answers with.
pub(super) fn answer_done(state: &GatewayState, status: StatusCode, thread: &Thread) -> Result<Response, ApiError> {
    json_done(state, status, &ThreadView::of(thread), size_hint(thread))
}

fn size_hint(thread: &Thread) -> usize {
    640 + 128 * thread.participants.len()
}
