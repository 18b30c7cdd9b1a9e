//! One authenticated connection, from hello to close.
//!
//! Owns: the loop that carries mail and answers to the socket and client frames to what they ask for.
//! Must not know: how a WebSocket is spoken, what a session tells whom, how shards are found.
//! Invariants: one task; mail is taken and storage asked only when the socket took everything before, so a slow reader
//! holds no more than a mailbox and a batch; frames leave in the order of their numbers.

use super::hints::Hints;
use super::inbound::{self, Inbound, RequestId};
use super::pulse::{Due, Pulse};
use super::replay::Replay;
use super::sends::{Send, Sends};
use super::wire::{BURST, Close, Heard, Wire, WireEvent};
use super::work::{Done, Work};
use crate::auth::{Identity, Scope};
use crate::gateway::error::ApiError;
use crate::gateway::idempotency::{IdempotencyKey, Origin};
use crate::gateway::send::SendRequest;
use crate::rates::Class;
use crate::realtime::mailbox::{CloseReason, Mail, Mailbox};
use crate::realtime::presence::greeting;
use crate::realtime::registry::next_connection_id;
use crate::realtime::session::{FrameSeq, Progress, Session};
use crate::realtime::{Realtime, encode};
use futures_util::StreamExt;
use messenger_proto::command::{Command, CommandResult, MarkRead, MessageReply, Op, ReplyBody, Retention};
use messenger_proto::error::{ErrorCode, Refusal};
use messenger_proto::ids::{ConnectionId, MessageId, ThreadId};
use messenger_proto::query::{Answer, MessageQuery, Query};
use messenger_proto::rpc::RegisterSession;
use messenger_proto::slot::Slot;
use messenger_router::Topic;
use std::collections::BTreeSet;
use std::future::poll_fn;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Frames that wait to be sent beyond which the socket is not read.
const FRAMES_MAX: usize = 256;
/// Futures under way beyond which the socket is not read.
const WORK_MAX: usize = 128;
/// Malformed frames in a row beyond which the connection is closed; one is forgiven a second.
const STRIKES_MAX: u32 = 20;
/// A send that has less time left when its turn comes is not begun: its outcome would hardly be known in time.
const LEAST: Duration = Duration::from_millis(50);

pub(super) struct Connection {
    node: Realtime,
    identity: Arc<Identity>,
    id: ConnectionId,
    mailbox: Arc<Mailbox>,
    session: Session,
    replay: Replay,
    wire: Wire,
    work: Work,
    sends: Sends,
    pulse: Pulse,
    hints: Hints,
    strikes: u32,
    last_strike: Instant,
}

#[allow(clippy::large_enum_variant)] // one at a time, and never kept
enum Step {
    Wire(WireEvent),
    Done(Done),
    Mail,
    Time,
}

/// The connection is over: close it like this, or the peer is gone.
struct Over(Option<Close>);

impl Connection {
    pub(super) fn new(node: Realtime, identity: Arc<Identity>, last_seen: Option<MessageId>, wire: Wire) -> Self {
        let now = Instant::now();
        let (user, device) = (identity.user.clone(), identity.device.clone());
        let left = identity.valid_until().0.saturating_sub(node.now().0);
        // A year is as good as for ever, and always fits.
        let expires = now + Duration::from_millis(left.min(365 * 24 * 3600 * 1000));
        Self {
            id: next_connection_id(),
            mailbox: Arc::default(),
            session: Session::new(user.clone()),
            replay: Replay::new(user, device, last_seen),
            wire,
            work: Work::new(),
            sends: Sends::default(),
            pulse: Pulse::new(now, expires, node.tuning()),
            hints: Hints::default(),
            strikes: 0,
            last_strike: now,
            identity,
            node,
        }
    }

    /// Serves the connection to its end.
    pub(super) async fn run(mut self) {
        self.open();
        let Over(close) = self.serve().await;
        let registered = self.node.registrations().closing(self.id);
        let waits = match close {
            Some(close) => {
                metrics::counter!("messenger_sockets_closed_total", "code" => close.code.to_string()).increment(1);
                self.wire.start_close(close)
            }
            None => self.wire.answer_close(),
        };
        if waits {
            let wire = &mut self.wire;
            let _ = tokio::time::timeout(self.node.tuning().close, poll_fn(|cx| wire.poll_closed(cx))).await;
        }
        let node = self.node.clone();
        drop(self);
        if let Some(session) = registered {
            node.registrations().closed(session).await;
        }
    }

    fn open(&mut self) {
        let ping = self.node.tuning().ping.as_secs();
        self.session.push(encode::hello(&self.identity, self.id, self.node.now(), ping));
        let registration = RegisterSession {
            user: self.identity.user.clone(),
            device: self.identity.device.clone(),
            connection: self.id,
            node: self.node.id(),
            opened_at: self.node.now(),
            away: false,
            settled: false,
        };
        let connection = self.id;
        self.node.registrations().opened(registration, &self.mailbox);
        // Either a drain finds it there, or it finds the drain.
        if self.node.is_draining() {
            self.mailbox.close(CloseReason::Draining);
        }
        let node = self.node.clone();
        self.work.push(Box::pin(async move {
            node.registrations().register(connection).await;
            Done::Registered
        }));
    }

    async fn serve(&mut self) -> Over {
        let mut timer = std::pin::pin!(tokio::time::sleep_until(self.deadline().into()));
        loop {
            if let Err(over) = self.advance() {
                return over;
            }
            let deadline = self.deadline().into();
            if timer.deadline() != deadline {
                timer.as_mut().reset(deadline);
            }
            let listen = self.listens();
            let Self { wire, work, mailbox, .. } = self;
            let step = tokio::select! {
                event = poll_fn(|cx| wire.poll(cx, listen)) => Step::Wire(event),
                Some(done) = work.next() => Step::Done(done),
                () = mailbox.woken() => Step::Mail,
                () = timer.as_mut() => Step::Time,
            };
            let outcome = match step {
                Step::Wire(WireEvent::Heard(heard)) => self.heard(heard),
                Step::Done(done) => {
                    self.done(done);
                    Ok(())
                }
                Step::Wire(WireEvent::Flushed) | Step::Mail | Step::Time => Ok(()),
            };
            if let Err(over) = outcome {
                return over;
            }
        }
    }

    fn deadline(&self) -> Instant {
        let pulse = self.pulse.deadline(self.node.tuning());
        self.replay.deadline(Instant::now()).map_or(pulse, |retry| retry.min(pulse))
    }

    /// When what the client asks for now must have ended.
    fn until(&self) -> tokio::time::Instant {
        tokio::time::Instant::now() + self.node.tuning().request
    }

    fn listens(&self) -> bool {
        self.sends.has_room() && self.work.len() < WORK_MAX && self.session.pending() < FRAMES_MAX
    }

    /// Does everything that can be done without waiting.
    fn advance(&mut self) -> Result<(), Over> {
        match self.mailbox.closing() {
            Some(CloseReason::Replaced) => return Err(Over(Some(Close::REPLACED))),
            Some(CloseReason::Draining) => return Err(Over(Some(Close::DRAINING))),
            None => {}
        }
        let now = Instant::now();
        self.replay.retry(&mut self.session, now);
        self.send_out()?;
        let idle = self.wire.is_clear() && self.session.pending() == 0;
        self.replay.start(&self.node, &mut self.session, &self.mailbox, idle, &mut self.work);
        if self.session.is_caught_up()
            && let Some(greeting) = self.hints.begin_greeting()
        {
            self.greet(greeting);
        }
        self.pulse.progress(now, self.wire.is_clear(), self.wire.written());
        match self.pulse.due(now, self.node.tuning()) {
            Due::Nothing => Ok(()),
            Due::Close(close) => Err(Over(Some(close))),
            Due::Ping => {
                self.session.push(encode::ping());
                self.send_out()
            }
        }
    }

    /// Hands frames to the socket as long as it takes them, and mail to the session as long as frames are short.
    fn send_out(&mut self) -> Result<(), Over> {
        if !self.wire.is_clear() {
            return Ok(());
        }
        let mut handed = 0;
        while handed < BURST {
            if let Some(frame) = self.session.next_frame() {
                let text = encode::text(&frame);
                handed += text.len();
                if !self.wire.hand_over(text) {
                    return Err(Over(None));
                }
                continue;
            }
            let losses = self.mailbox.take_losses();
            self.replay.make_good(&self.node, &mut self.session, &losses);
            match self.mailbox.pop() {
                Some(Mail::Event(event)) => self.session.live(&event),
                Some(Mail::Late(late)) => self.session.late(&late),
                Some(Mail::Index(event)) if event.present => self.session.joined(event.thread, event.source_seq),
                Some(Mail::Index(event)) => self.session.left(event.thread, event.source_seq),
                None => match self.mailbox.pop_ephemeral() {
                    Some(frame) => {
                        if let Some(frame) = self.hints.take(frame) {
                            self.session.show(&frame);
                        }
                    }
                    None => break,
                },
            }
        }
        Ok(())
    }

    fn done(&mut self, done: Done) {
        let now = Instant::now();
        match done {
            Done::Registered | Done::Noted { outcome: Ok(()), .. } => {}
            Done::Indexed(outcome) => self.replay.indexed(&mut self.session, outcome, now),
            Done::Listening(threads) => {
                for thread in threads {
                    self.session.listening(thread);
                }
            }
            Done::Turn(permit) => self.replay.turn(permit, now),
            Done::Resumed(answered) => self.replay.resumed(&mut self.session, answered, now),
            Done::Greeted(greeting, present) => self.hints.greet(&mut self.session, greeting, present.as_deref()),
            Done::Noted { request_id, outcome: Err(error) } => self.refuse(&request_id, &error),
            Done::Sent { thread, bytes, request_id, outcome } => {
                self.answer_send(&request_id, outcome);
                if let Some(next) = self.sends.ended(thread, bytes) {
                    self.begin_send(next);
                }
            }
        }
    }

    fn answer_send(&mut self, request_id: &RequestId, outcome: CommandResult) {
        match outcome.map(|reply| (reply.replayed, reply.body)) {
            Ok((replayed, ReplyBody::Message(MessageReply { message, duplicate }))) => {
                self.session.push(encode::sent(request_id.as_deref(), &message, replayed || duplicate));
            }
            Ok(_) => self.refuse(request_id, &ApiError::internal("a send was answered with something else")),
            Err(refusal) => self.refuse(request_id, &ApiError::from(refusal)),
        }
    }

    fn refuse(&mut self, request_id: &RequestId, error: &ApiError) {
        self.session.push(encode::error(request_id.as_deref(), error, self.node.now()));
    }

    fn heard(&mut self, heard: Heard) -> Result<(), Over> {
        let text = match heard {
            Heard::Text(text) => text,
            Heard::Broken(close) => return Err(Over(Some(close))),
            Heard::Gone => return Err(Over(None)),
        };
        let (request_id, inbound) = inbound::parse(&text);
        match inbound {
            Ok(Inbound::Pong) => self.pulse.pong(Instant::now()),
            Ok(Inbound::Ack(frame)) => return self.acknowledge(&request_id, FrameSeq(frame)),
            Ok(Inbound::Send { thread, key, request }) => self.send(request_id, thread, key.as_ref(), *request),
            Ok(Inbound::Read { thread, up_to }) => self.read(request_id, thread, up_to),
            Ok(Inbound::Delivered { thread, up_to }) => self.deliver(request_id, thread, up_to),
            Ok(Inbound::Subscribe(threads)) => self.subscribe(&request_id, threads),
            Ok(Inbound::Typing { thread, stop }) => self.types(&request_id, thread, stop),
            Ok(Inbound::Presence { away }) => self.node.registrations().set_away(self.id, away),
            Ok(Inbound::Auth(_)) => {
                return self.strike(&request_id, &ApiError::field("t", "auth comes first, and once"));
            }
            Err(error) => return self.strike(&request_id, &error),
        }
        Ok(())
    }

    /// Refuses a frame that no well-behaved client sends.
    fn strike(&mut self, request_id: &RequestId, error: &ApiError) -> Result<(), Over> {
        let now = Instant::now();
        let forgiven = u32::try_from(now.duration_since(self.last_strike).as_secs()).unwrap_or(u32::MAX);
        self.strikes = self.strikes.saturating_sub(forgiven) + 1;
        self.last_strike = now;
        metrics::counter!("messenger_frames_refused_total").increment(1);
        if self.strikes > STRIKES_MAX {
            return Err(Over(Some(Close::ABUSE)));
        }
        self.refuse(request_id, error);
        Ok(())
    }

    fn acknowledge(&mut self, request_id: &RequestId, frame: FrameSeq) -> Result<(), Over> {
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

    fn subscribe(&mut self, request_id: &RequestId, threads: BTreeSet<ThreadId>) {
        let subscribed = encode::subscribed(request_id.as_deref(), threads.iter());
        self.session.narrow(threads);
        self.session.push(subscribed);
    }

    fn may_write(&mut self, request_id: &RequestId, class: Class) -> bool {
        if !self.identity.scopes.contains(Scope::Write) {
            self.refuse(request_id, &ApiError::missing_scope(Scope::Write));
            return false;
        }
        self.may_ask(request_id, class)
    }

    /// Charges a frame to the same limits that requests are charged to.
    fn may_ask(&mut self, request_id: &RequestId, class: Class) -> bool {
        let outcome = self.node.rates().charge_identity(class, &self.identity).outcome;
        if let Err(error) = &outcome {
            self.refuse(request_id, error);
        }
        outcome.is_ok()
    }

    fn send(&mut self, request_id: RequestId, thread: ThreadId, key: Option<&IdempotencyKey>, request: SendRequest) {
        if !self.may_write(&request_id, Class::Sends) {
            return;
        }
        let bytes = request.size();
        let origin = Origin::of_send(&self.identity.user, thread, key);
        let command = request.into_command(thread, &self.identity, origin);
        let until = self.until();
        if let Some(send) = self.sends.enter(Send { thread, request_id, command, bytes, until }) {
            self.begin_send(send);
        }
    }

    fn begin_send(&mut self, send: Send) {
        let Send { thread, request_id, command, bytes, until } = send;
        let router = self.node.router().clone();
        self.work.push(Box::pin(async move {
            let outcome = if until < tokio::time::Instant::now() + LEAST {
                Err(Refusal::new(ErrorCode::Unavailable, "those before it took all of its time"))
            } else {
                router.command(Slot::of_thread(thread), command, until).await
            };
            Done::Sent { thread, bytes, request_id, outcome }
        }));
    }

    /// Finds out who is there, behind what the device missed.
    fn greet(&mut self, greeting: u32) {
        let (node, user) = (self.node.clone(), self.identity.user.clone());
        let threads = self.session.heard_threads();
        self.work.push(Box::pin(async move { Done::Greeted(greeting, greeting::greet(node, user, threads).await) }));
    }

    fn types(&mut self, request_id: &RequestId, thread: ThreadId, stop: bool) {
        if !self.may_write(request_id, Class::Writes) {
            return;
        }
        match self.session.is_in(thread) {
            Some(true) => self.hints.typing(&self.node, &self.identity.user, thread, stop),
            Some(false) => {
                let error = ApiError::new(ErrorCode::NotAMember, "Only participants are shown typing in a thread.");
                self.refuse(request_id, &error);
            }
            // It is not known yet, and by then it will be late.
            None => {}
        }
    }

    fn read(&mut self, request_id: RequestId, thread: ThreadId, up_to: MessageId) {
        if !self.may_write(&request_id, Class::Writes) {
            return;
        }
        let op = Op::MarkRead(MarkRead { thread, user: self.identity.user.clone(), up_to });
        let id = Origin::minted().id;
        let command = Command { id, retention: Retention::None, body_hash: 0, op };
        let (router, until) = (self.node.router().clone(), self.until());
        self.work.push(Box::pin(async move {
            let outcome = router.command(Slot::of_thread(thread), command, until).await;
            Done::Noted { request_id, outcome: outcome.map(drop).map_err(ApiError::from) }
        }));
    }

    /// What came by another way counts as delivered, too.
    fn deliver(&mut self, request_id: RequestId, thread: ThreadId, up_to: MessageId) {
        if !self.may_ask(&request_id, Class::Writes) {
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

impl Drop for Connection {
    fn drop(&mut self) {
        let Self { node, identity, mailbox, session, .. } = self;
        node.acks().hasten(&identity.user, &identity.device, session.known());
        node.hub().forget(node.shard_of_user(&identity.user), &[Topic::User(identity.user.clone())], mailbox);
        for thread in session.take_heard() {
            node.hub().forget(node.shard_of_thread(thread), &[Topic::Thread(thread)], mailbox);
        }
    }
}
