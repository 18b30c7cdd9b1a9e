//! The rules, tested through their public doors.

mod blocks;
mod blocks_model;
mod changes;
mod disappear;
mod envelopes;
mod index;
mod keys;
mod membership;
mod meta;
mod model;
mod pages;
mod pins;
mod privacy;
mod profile;
mod properties;
mod reactions;
mod receipts;
mod reports;
mod resend;
mod resume;
mod sending;
mod suspension;
mod updating;

use super::tables::{MemoryTables, Overlay};
use super::{Applied, answer, apply};
use bytes::Bytes;
use messenger_proto::command::{
    Acknowledge, Acknowledgement, AddParticipants, Command, CommandResult, CreateThread, DeleteMessage, DueMessage,
    EditMessage, ExpireMessages, MarkRead, Op, Pack, PinMessage, React, RemoveParticipant, Reply, ReplyBody, Retention,
    SendMessage, UpdateThread,
};
use messenger_proto::emoji::Emoji;
use messenger_proto::error::{ErrorCode, Refusal};
use messenger_proto::event::{Event, ThreadEvent};
use messenger_proto::ids::{
    ClientSeq, CommandId, DeviceId, LogIndex, MessageId, Millis, Position, Seq, ThreadId, UserId,
};
use messenger_proto::model::{ContentType, Message, Pin, Recipient, TextChange, Thread, ThreadKind};
use messenger_proto::query::{
    Answer, HistoryQuery, HistoryRange, MessagesAnswer, PinsQuery, Query, QueryResult, RecipientsQuery, ResumeAnswer,
    ResumeFrom, ResumeQuery, ResumedThread, SeqBound, ThreadQuery,
};

pub(super) const GROUP: ThreadId = ThreadId([7; 16]);
pub(super) const PAIR: ThreadId = ThreadId([9; 16]);

pub(super) fn user(name: &str) -> UserId {
    UserId::new(name).unwrap()
}

pub(super) fn device(name: &str) -> DeviceId {
    DeviceId::new(name).unwrap()
}

pub(super) fn users(names: &[&str]) -> Vec<UserId> {
    names.iter().map(|name| user(name)).collect()
}

/// A shard in memory, with a clock that the test moves.
#[derive(Clone)]
pub(super) struct Shard {
    pub(super) tables: MemoryTables,
    pub(super) now: u64,
    pub(super) events: Vec<Event>,
    /// Every pack so far.
    pub(super) log: Vec<Pack>,
    minted: u128,
}

impl Shard {
    pub(super) fn new() -> Self {
        Self { tables: MemoryTables::default(), now: 1_000_000, events: Vec::new(), log: Vec::new(), minted: 1 << 100 }
    }

    /// A shard with a group of these, the first of whom made it.
    pub(super) fn with_group(names: &[&str]) -> Self {
        let mut shard = Self::new();
        shard.run(create(GROUP, ThreadKind::Group, names[0], &names[1..])).unwrap();
        shard
    }

    pub(super) fn pack(&mut self, commands: Vec<Command>) -> Applied {
        let pack = Pack { stamp: Millis(self.now), commands };
        let mut overlay = Overlay::new(&self.tables);
        let applied = apply(&mut overlay, LogIndex(self.log.len() as u64), &pack).unwrap();
        let writes = overlay.into_writes();
        self.tables.absorb(writes);
        self.log.push(pack);
        self.events.extend(applied.events.iter().cloned());
        applied
    }

    pub(super) fn command(&mut self, command: Command) -> CommandResult {
        self.pack(vec![command]).results.remove(0)
    }

    /// Runs an operation under an id of its own.
    pub(super) fn run(&mut self, op: Op) -> CommandResult {
        self.minted += 1;
        let id = CommandId(self.minted.to_be_bytes());
        self.command(Command { id, retention: Retention::Minted, body_hash: 1, op })
    }

    pub(super) fn refused(&mut self, op: Op) -> ErrorCode {
        self.run(op).unwrap_err().code
    }

    /// Sends under a fresh id.
    pub(super) fn send(&mut self, thread: ThreadId, sender: &str, client_seq: u64) -> Message {
        message(self.run(send(thread, sender, client_seq)))
    }

    pub(super) fn ask(&self, query: &Query) -> QueryResult {
        answer(&self.tables, query, Millis(self.now)).unwrap()
    }

    pub(super) fn thread(&self, thread: ThreadId, viewer: &str) -> Result<Thread, Refusal> {
        match self.ask(&Query::Thread(ThreadQuery { thread, viewer: user(viewer) }))? {
            Answer::Thread(thread) => Ok(thread),
            other => panic!("{other:?}"),
        }
    }

    pub(super) fn recipients(&self, id: MessageId, viewer: &str) -> Result<Vec<Recipient>, Refusal> {
        match self.ask(&Query::Recipients(RecipientsQuery { id, viewer: user(viewer) }))? {
            Answer::Recipients(answer) => Ok(answer.recipients),
            other => panic!("{other:?}"),
        }
    }

    pub(super) fn page(
        &self,
        thread: ThreadId,
        viewer: &str,
        range: HistoryRange,
        limit: u32,
    ) -> Result<MessagesAnswer, Refusal> {
        let (viewer, device) = (user(viewer), device("phone"));
        match self.ask(&Query::History(HistoryQuery { thread, viewer, device, range, limit }))? {
            Answer::Messages(answer) => Ok(answer),
            other => panic!("{other:?}"),
        }
    }

    /// Everything a viewer sees, oldest first, page by page.
    pub(super) fn history(&self, thread: ThreadId, viewer: &str) -> Result<Vec<Message>, Refusal> {
        let (mut all, mut after) = (Vec::new(), Seq(0));
        loop {
            let page = self.page(thread, viewer, HistoryRange::OldestAfter(SeqBound { seq: after }), 3)?;
            all.extend(page.messages);
            match page.next {
                Some(next) => after = next,
                None => return Ok(all),
            }
        }
    }

    pub(super) fn pins(&self, thread: ThreadId, viewer: &str) -> Result<Vec<Pin>, Refusal> {
        match self.ask(&Query::Pins(PinsQuery { thread, viewer: user(viewer) }))? {
            Answer::Pins(answer) => Ok(answer.pins),
            other => panic!("{other:?}"),
        }
    }

    /// Everything that changed after an event and that a viewer sees, page by page.
    pub(super) fn changed(&self, thread: ThreadId, viewer: &str, after: u64) -> Result<Vec<Message>, Refusal> {
        let (mut all, mut after) = (Vec::new(), Seq(after));
        loop {
            let page = self.page(thread, viewer, HistoryRange::ChangedAfter(SeqBound { seq: after }), 3)?;
            all.extend(page.messages);
            match page.next {
                Some(next) => after = next,
                None => return Ok(all),
            }
        }
    }

    pub(super) fn resume(&self, query: ResumeQuery) -> Vec<ResumedThread> {
        match self.ask(&Query::Resume(query)).unwrap() {
            Answer::Resume(ResumeAnswer { threads }) => threads,
            other => panic!("{other:?}"),
        }
    }

    /// Resumes one thread for `name`'s phone.
    pub(super) fn resume_one(
        &self,
        thread: ThreadId,
        name: &str,
        position: Option<Position>,
        last_seen: Option<MessageId>,
    ) -> ResumedThread {
        self.resume(ResumeQuery {
            user: user(name),
            device: device("phone"),
            threads: vec![ResumeFrom { thread, position, unless_new: false }],
            last_seen,
            max_bytes: 1 << 30,
        })
        .remove(0)
    }

    pub(super) fn thread_events(&self, thread: ThreadId) -> Vec<ThreadEvent> {
        thread_events(&self.events, thread)
    }
}

pub(super) fn thread_events(events: &[Event], thread: ThreadId) -> Vec<ThreadEvent> {
    let of_thread = |event: &Event| match event {
        Event::Thread(event) if event.thread == thread => Some(event.clone()),
        _ => None,
    };
    events.iter().filter_map(of_thread).collect()
}

pub(super) fn create(thread: ThreadId, kind: ThreadKind, creator: &str, others: &[&str]) -> Op {
    let (creator, others) = (user(creator), users(others));
    Op::CreateThread(CreateThread { thread, kind, creator, others, title: Some("T".into()), description: None })
}

/// Takes the title to a text, or away.
pub(super) fn title(actor: &str, to: Option<&str>) -> Op {
    let title = Some(TextChange { to: to.map(str::to_owned) });
    Op::UpdateThread(UpdateThread { thread: GROUP, actor: user(actor), title, description: None })
}

pub(super) fn add(actor: &str, names: &[&str]) -> Op {
    Op::AddParticipants(AddParticipants { thread: GROUP, actor: user(actor), users: users(names) })
}

pub(super) fn remove(actor: &str, name: &str) -> Op {
    Op::RemoveParticipant(RemoveParticipant { thread: GROUP, actor: user(actor), user: user(name) })
}

pub(super) fn send(thread: ThreadId, sender: &str, client_seq: u64) -> Op {
    Op::SendMessage(SendMessage {
        thread,
        sender: user(sender),
        device: device("phone"),
        client_seq: ClientSeq(client_seq),
        ciphertext: Bytes::from(format!("{sender} {client_seq}")),
        content_type: ContentType::Text,
        attachments: Vec::new(),
        reply_to: None,
        ttl_s: None,
        envelopes: None,
    })
}

/// A send of a message that disappears after some seconds.
pub(super) fn send_for(sender: &str, client_seq: u64, ttl_s: u32) -> Op {
    match send(GROUP, sender, client_seq) {
        Op::SendMessage(send) => Op::SendMessage(SendMessage { ttl_s: Some(ttl_s), ..send }),
        other => panic!("{other:?}"),
    }
}

/// What the leader's timer does.
pub(super) fn expire(due: Vec<DueMessage>) -> Op {
    Op::ExpireMessages(ExpireMessages { due })
}

pub(super) fn edit(name: &str, id: MessageId, text: &str) -> Op {
    Op::EditMessage(EditMessage {
        id,
        actor: user(name),
        ciphertext: Bytes::from(text.to_owned()),
        envelopes: None,
        device: Some(device("phone")),
    })
}

pub(super) fn delete(name: &str, id: MessageId) -> Op {
    Op::DeleteMessage(DeleteMessage { id, actor: user(name) })
}

/// Puts an emoji on a message, or takes it off.
pub(super) fn react(name: &str, id: MessageId, emoji: &str, present: bool) -> Op {
    Op::React(React {
        id,
        actor: user(name),
        emoji: Emoji::new(emoji).unwrap(),
        present,
        device: Some(device("phone")),
    })
}

/// Pins a message of the group, or unpins it.
pub(super) fn pin(name: &str, id: MessageId, present: bool) -> Op {
    Op::Pin(PinMessage { thread: GROUP, id, actor: user(name), present })
}

pub(super) fn read(name: &str, up_to: MessageId) -> Op {
    Op::MarkRead(MarkRead { thread: GROUP, user: user(name), up_to })
}

pub(super) fn ack(name: &str, delivered: u64, position: Option<Position>) -> Op {
    let item = Acknowledgement {
        thread: GROUP,
        user: user(name),
        device: device("phone"),
        delivered: Seq(delivered),
        position,
    };
    Op::Acknowledge(Acknowledge { items: vec![item] })
}

pub(super) fn message(result: CommandResult) -> Message {
    match result.unwrap().body {
        ReplyBody::Message(reply) => reply.message,
        other => panic!("{other:?}"),
    }
}

pub(super) fn thread_of(reply: &Reply) -> (&Thread, bool) {
    match &reply.body {
        ReplyBody::Thread(reply) => (&reply.thread, reply.created),
        other => panic!("{other:?}"),
    }
}
