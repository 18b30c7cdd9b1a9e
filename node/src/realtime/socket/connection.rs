//! One authenticated connection, from hello to close.
//!
//! Owns: the loop that carries mail and answers to the socket and client frames to what they ask for.
//! Must not know: how a WebSocket is spoken, what a session tells whom, how shards are found.
//! Invariants: one task; mail is taken and storage asked only when the socket took everything before, so a slow reader
//! holds no more than a mailbox and a batch; frames leave in the order of their numbers.

mod recorded;
mod requests;

use super::hints::Hints;
use super::inbound::{self, Inbound, RequestId};
use super::notices::Told;
use super::pulse::{Due, Pulse};
use super::replay::Replay;
use super::sends::Sends;
use super::wire::{BURST, Close, Heard, Wire, WireEvent};
use super::work::{Done, Indexed, Work};
use crate::api::error::ApiError;
use crate::audit::Payload;
use crate::auth::Identity;
use crate::metric_names as names;
use crate::realtime::mailbox::{CloseReason, Mail, Mailbox};
use crate::realtime::registry::next_connection_id;
use crate::realtime::session::{FrameSeq, Session};
use crate::realtime::{Realtime, encode};
use futures_util::StreamExt;
use messenger_proto::command::{CommandResult, MessageReply, ReplyBody};
use messenger_proto::ids::{ConnectionId, MessageId};
use messenger_proto::keys::DeviceStatus;
use messenger_proto::query::Answer;
use messenger_proto::rpc::RegisterSession;
use messenger_router::Topic;
use std::future::poll_fn;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Frames that wait to be sent beyond which the socket is not read.
const FRAMES_MAX: usize = 256;
/// Futures under way beyond which the socket is not read.
const WORK_MAX: usize = 128;
/// Malformed frames in a row beyond which the connection is closed; one is forgiven a second.
const STRIKES_MAX: u32 = 20;
pub(super) struct Connection {
    node: Realtime,
    identity: Arc<Identity>,
    /// Where the client is.
    address: Option<IpAddr>,
    id: ConnectionId,
    mailbox: Arc<Mailbox>,
    session: Session,
    replay: Replay,
    wire: Wire,
    work: Work,
    sends: Sends,
    pulse: Pulse,
    hints: Hints,
    told: Told,
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
    pub(super) fn new(
        node: Realtime,
        identity: Arc<Identity>,
        address: Option<IpAddr>,
        last_seen: Option<MessageId>,
        wire: Wire,
    ) -> Self {
        let now = Instant::now();
        let (user, device) = (identity.user.clone(), identity.device.clone());
        let left = identity.valid_until().0.saturating_sub(node.now().0);
        // A year is as good as for ever, and always fits.
        let expires = now + Duration::from_millis(left.min(365 * 24 * 3600 * 1000));
        Self {
            id: next_connection_id(),
            mailbox: Arc::new(Mailbox::of(user.clone(), device.clone(), identity.issued_at)),
            session: Session::new(user.clone()),
            replay: Replay::new(user, device, last_seen),
            wire,
            work: Work::new(),
            sends: Sends::default(),
            pulse: Pulse::new(now, expires, node.tuning()),
            hints: Hints::default(),
            told: Told::default(),
            strikes: 0,
            last_strike: now,
            address,
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
                metrics::counter!(names::SOCKETS_CLOSED, names::CODE => close.code.to_string()).increment(1);
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
            Some(CloseReason::Revoked) => {
                self.node.revocations().forget(&self.identity.user, &self.identity.device);
                return Err(Over(Some(Close::REVOKED)));
            }
            Some(CloseReason::Suspended) => {
                self.node.revocations().forget(&self.identity.user, &self.identity.device);
                return Err(Over(Some(Close::SUSPENDED)));
            }
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
                Some(mail @ (Mail::Device(_) | Mail::Low(_) | Mail::Suspension(_) | Mail::Member(_))) => {
                    if let Some(frame) = self.told.frame(&mail, &self.identity) {
                        self.session.push(frame);
                    }
                }
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
            Done::Indexed(answers) => {
                let Indexed { index, status, blocks } = *answers;
                // What could not be asked is asked with the index again; all are of one shard.
                let index = status.clone().and(blocks.clone()).and(index);
                if let Ok(Answer::Blocks(blocks)) = blocks {
                    self.session.keep_away(blocks.users, blocks.version);
                }
                self.replay.indexed(&mut self.session, index, now);
                if let Ok(Answer::DeviceStatus(status)) = status {
                    self.stands(&status);
                }
            }
            Done::Listening(threads) => {
                for thread in threads {
                    self.session.listening(thread);
                }
            }
            Done::Turn(permit) => self.replay.turn(permit, now),
            Done::Resumed(answered) => self.replay.resumed(&mut self.session, answered, now),
            Done::Greeted(greeting, found) => self.hints.greet(&mut self.session, greeting, found),
            Done::Noted { request_id, outcome: Err(error) } => self.refuse(&request_id, &error),
            Done::Sent { thread, bytes, request_id, outcome } => {
                self.answer_send(&request_id, outcome);
                if let Some(next) = self.sends.ended(thread, bytes) {
                    self.begin_send(next);
                }
            }
        }
    }

    /// How the device stands at its user's shard.
    fn stands(&mut self, status: &DeviceStatus) {
        if let Some(at) = status.revoked_at {
            self.mailbox.revoked(at);
        }
        if status.suspended {
            self.mailbox.close(CloseReason::Suspended);
        }
        if let Some(remaining) = status.low {
            self.session.push(encode::prekeys_low(&self.identity.device, remaining));
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
            Ok(Inbound::Send { thread, key, request }) => {
                self.send(request_id, thread, key.as_ref(), *request, Payload::of(text.as_bytes()));
            }
            Ok(Inbound::Read { thread, up_to }) => {
                self.read(request_id, thread, up_to, Payload::of(text.as_bytes()));
            }
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
        metrics::counter!(names::FRAMES_REFUSED).increment(1);
        if self.strikes > STRIKES_MAX {
            return Err(Over(Some(Close::ABUSE)));
        }
        self.record_refused("frame", None, None, error.code());
        self.refuse(request_id, error);
        Ok(())
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
