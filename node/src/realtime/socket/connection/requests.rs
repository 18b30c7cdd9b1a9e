//! What a client asks for over its connection.
//!
//! Owns: carrying out client frames: what is charged, what is sent to which shard, and what waits for what.
//! Must not know: how frames are read, or when.
//! Invariants: nothing is done for a frame that its sender's scope or limits do not allow; sends of a thread begin in frame
//! order.

use super::super::inbound::RequestId;
use super::super::sends::Send;
use super::super::work::Done;
use super::Connection;
use super::Over;
use super::recorded::ending_of;
use crate::api::error::ApiError;
use crate::audit::Payload;
use crate::auth::Scope;
use crate::gateway::idempotency::{IdempotencyKey, Origin};
use crate::gateway::send::SendRequest;
use crate::rates::Class;
use crate::realtime::encode;
use crate::realtime::presence::greeting;
use crate::realtime::session::{FrameSeq, Progress};
use messenger_proto::command::{Command, MarkRead, Op, Retention};
use messenger_proto::error::{ErrorCode, Refusal};
use messenger_proto::ids::{MessageId, ThreadId};
use messenger_proto::query::{Answer, MessageQuery, Query};
use messenger_proto::slot::Slot;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

/// A send that has less time left when its turn comes is not begun: its outcome would hardly be known in time.
const LEAST: Duration = Duration::from_millis(50);

/// What a request is answered with that does the same as a send.
const ACCEPTED: u16 = 202;
/// And as a read.
const NO_CONTENT: u16 = 204;

impl Connection {
    pub(super) fn acknowledge(&mut self, request_id: &RequestId, frame: FrameSeq) -> Result<(), Over> {
        match self.session.ack(frame) {
            Ok(progress) => {
                if !progress.is_empty() {
                    self.node.acks().note(&self.identity.user, &self.identity.device, &progress);
                }
                Ok(())
            }
            Err(error) => self.strike(request_id, &ApiError::field("frame_seq", error.to_string())),
        }
    }

    pub(super) fn subscribe(&mut self, request_id: &RequestId, threads: BTreeSet<ThreadId>) {
        let subscribed = encode::subscribed(request_id.as_deref(), threads.iter());
        self.session.narrow(threads);
        self.session.push(subscribed);
    }

    fn may_write(&mut self, request_id: &RequestId, class: Class) -> Result<(), ErrorCode> {
        if !self.identity.scopes.contains(Scope::Write) {
            self.refuse(request_id, &ApiError::missing_scope(Scope::Write));
            return Err(ErrorCode::MissingScope);
        }
        self.may_ask(request_id, class)
    }

    /// Charges a frame to the same limits that requests are charged to.
    fn may_ask(&mut self, request_id: &RequestId, class: Class) -> Result<(), ErrorCode> {
        let outcome = self.node.rates().charge_identity(class, &self.identity).outcome;
        if let Err(error) = &outcome {
            self.refuse(request_id, error);
        }
        outcome.map_err(|error| error.code())
    }

    pub(super) fn send(
        &mut self,
        request_id: RequestId,
        thread: ThreadId,
        key: Option<&IdempotencyKey>,
        request: SendRequest,
        payload: Payload,
    ) {
        if let Err(code) = self.may_write(&request_id, Class::Sends) {
            self.record_refused("send", Some(payload), Some(thread), code);
            return;
        }
        let bytes = request.size();
        let origin = Origin::of_send(&self.identity.user, thread, key);
        let command = request.into_command(thread, &self.identity, origin);
        let until = self.until();
        if let Some(send) = self.sends.enter(Send { thread, request_id, command, payload, bytes, until }) {
            self.begin_send(send);
        }
    }

    pub(super) fn begin_send(&mut self, send: Send) {
        let Send { thread, request_id, command, payload, bytes, until } = send;
        let (node, pending) = (self.node.clone(), self.begin_record("send", payload, thread));
        self.work.push(Box::pin(async move {
            let outcome = if until < tokio::time::Instant::now() + LEAST {
                Err(Refusal::new(ErrorCode::Unavailable, "those before it took all of its time"))
            } else {
                node.router().command(Slot::of_thread(thread), command, until).await
            };
            let (ending, message) = ending_of(ACCEPTED, &outcome);
            pending.end(node.now(), ending, |record| record.target.message = message);
            Done::Sent { thread, bytes, request_id, outcome }
        }));
    }

    /// Finds out who is there, behind what the device missed.
    pub(super) fn greet(&mut self, greeting: u32) {
        let (node, user) = (self.node.clone(), self.identity.user.clone());
        let threads = self.session.heard_threads();
        self.work.push(Box::pin(async move { Done::Greeted(greeting, greeting::greet(node, user, threads).await) }));
    }

    pub(super) fn types(&mut self, request_id: &RequestId, thread: ThreadId, stop: bool) {
        if self.may_write(request_id, Class::Writes).is_err() {
            return;
        }
        match self.session.is_in(thread) {
            Some(true) => self.hints.typing(&self.node, &self.session, &self.identity.user, thread, stop),
            Some(false) => {
                let error = ApiError::new(ErrorCode::NotAMember, "Only participants are shown typing in a thread.");
                self.refuse(request_id, &error);
            }
            // It is not known yet, and by then it will be late.
            None => {}
        }
    }

    pub(super) fn read(&mut self, request_id: RequestId, thread: ThreadId, up_to: MessageId, payload: Payload) {
        if let Err(code) = self.may_write(&request_id, Class::Writes) {
            self.record_refused("read", Some(payload), Some(thread), code);
            return;
        }
        let op = Op::MarkRead(MarkRead { thread, user: self.identity.user.clone(), up_to });
        let id = Origin::minted().id;
        let command = Command { id, retention: Retention::None, body_hash: 0, op };
        let (node, until) = (self.node.clone(), self.until());
        let pending = self.begin_record("read", payload, thread);
        self.work.push(Box::pin(async move {
            let outcome = node.router().command(Slot::of_thread(thread), command, until).await;
            pending.end(node.now(), ending_of(NO_CONTENT, &outcome).0, |record| record.target.message = Some(up_to));
            Done::Noted { request_id, outcome: outcome.map(drop).map_err(ApiError::from) }
        }));
    }

    /// What came by another way counts as delivered, too.
    pub(super) fn deliver(&mut self, request_id: RequestId, thread: ThreadId, up_to: MessageId) {
        if self.may_ask(&request_id, Class::Writes).is_err() {
            return;
        }
        let (node, identity, until) = (self.node.clone(), Arc::clone(&self.identity), self.until());
        self.work.push(Box::pin(async move {
            let (user, device) = (identity.user.clone(), identity.device.clone());
            let query = Query::Message(MessageQuery { id: up_to, viewer: user, device });
            let outcome = match node.router().query(Slot::of_message(up_to), query, until).await {
                Ok(Answer::Message(message)) if message.thread == thread => {
                    let progress = Progress { thread, delivered: message.seq, position: None };
                    node.acks().note(&identity.user, &identity.device, &[progress]);
                    Ok(())
                }
                Ok(_) => Err(ApiError::new(ErrorCode::NotFound, "There is no such message in the thread.")),
                Err(refusal) => Err(ApiError::from(refusal)),
            };
            Done::Noted { request_id, outcome }
        }));
    }
}
