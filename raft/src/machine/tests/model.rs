//! What a shard should do, kept as plainly as possible, and random logs to compare with.

use super::*;
use messenger_proto::ids::Rev;
use messenger_proto::limits::{KEYED_RETENTION, MINTED_RETENTION};
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};

pub(super) const NAMES: [&str; 4] = ["ann", "bob", "cid", "dan"];

/// The first is the one that groups of these tests are made with.
const TITLES: [&str; 2] = ["T", "U"];

/// What messages are edited to.
const TEXTS: [&str; 2] = ["one", "another"];

/// What messages are reacted to with.
pub(super) const EMOJI: [&str; 2] = ["+", "-"];

/// Something that someone tries in the group; users and messages by number.
#[derive(Debug, Clone)]
pub(super) enum Action {
    Create { creator: usize, others: Vec<usize> },
    Add { actor: usize, user: usize },
    Remove { actor: usize, user: usize },
    Title { actor: usize, title: Option<usize> },
    Send { sender: usize, client_seq: u64, body: u64 },
    Edit { user: usize, message: usize, text: usize },
    Delete { user: usize, message: usize },
    Pin { user: usize, message: usize, present: bool },
    React { user: usize, message: usize, emoji: usize, present: bool },
    Read { user: usize, message: usize },
    Ack { user: usize, delivered: u64, position: Option<(u64, u64)> },
}

/// An action, how its command is named and remembered, and how the leader's clock moves before it.
#[derive(Debug, Clone)]
pub(super) struct Attempt {
    action: Action,
    key: Option<u8>,
    retention: Retention,
    clock: i64,
}

fn action() -> impl Strategy<Value = Action> {
    let name = || 0..NAMES.len();
    let place = || proptest::option::of((0u64..30, 0u64..40));
    prop_oneof![
        1 => (name(), proptest::collection::vec(name(), 0..4))
            .prop_map(|(creator, others)| Action::Create { creator, others }),
        3 => (name(), name()).prop_map(|(actor, user)| Action::Add { actor, user }),
        2 => (name(), name()).prop_map(|(actor, user)| Action::Remove { actor, user }),
        2 => (name(), proptest::option::of(0usize..TITLES.len())).prop_map(|(actor, title)| Action::Title { actor, title }),
        12 => (name(), 0u64..40, 0u64..2)
            .prop_map(|(sender, client_seq, body)| Action::Send { sender, client_seq, body }),
        6 => (name(), 0usize..20, 0usize..TEXTS.len())
            .prop_map(|(user, message, text)| Action::Edit { user, message, text }),
        3 => (name(), 0usize..20).prop_map(|(user, message)| Action::Delete { user, message }),
        5 => (name(), 0usize..20, proptest::bool::weighted(0.7))
            .prop_map(|(user, message, present)| Action::Pin { user, message, present }),
        6 => (name(), 0usize..20, 0usize..EMOJI.len(), any::<bool>())
            .prop_map(|(user, message, emoji, present)| Action::React { user, message, emoji, present }),
        4 => (name(), 0usize..20).prop_map(|(user, message)| Action::Read { user, message }),
        6 => (name(), 0u64..40, place())
            .prop_map(|(user, delivered, position)| Action::Ack { user, delivered, position }),
    ]
}

/// Logs that begin with a group, in which keys repeat, clocks jump both ways, and retentions run out.
pub(super) fn attempts(length: usize) -> impl Strategy<Value = Vec<Attempt>> {
    let retention = prop_oneof![Just(Retention::Keyed), Just(Retention::Minted)];
    let clock = prop_oneof![20 => -3i64..5, 1 => Just(400_000i64), 1 => Just(50_000_000i64)];
    let one = (action(), proptest::option::weighted(0.5, 0u8..5), retention, clock)
        .prop_map(|(action, key, retention, clock)| Attempt { action, key, retention, clock });
    proptest::collection::vec(one, 1..length).prop_map(|mut all| {
        let action = Action::Create { creator: 0, others: vec![1, 2] };
        all.insert(0, Attempt { action, key: None, retention: Retention::Keyed, clock: 0 });
        all
    })
}

/// A message as it should be: who should have it, and when each of them took and read it.
#[derive(Debug, Clone)]
pub(super) struct ModelMessage {
    pub(super) id: MessageId,
    pub(super) seq: u64,
    pub(super) sender: usize,
    /// `None` once deleted.
    pub(super) text: Option<String>,
    pub(super) edited_at: Option<u64>,
    /// Who reacted with what, in order.
    pub(super) reactions: Vec<(usize, usize)>,
    /// Its latest change, or else itself.
    pub(super) changed: u64,
    pub(super) recipients: BTreeMap<usize, (Option<u64>, Option<u64>)>,
}

/// The group as it should be.
#[derive(Debug, Clone, Default)]
pub(super) struct Model {
    creator: Option<usize>,
    pub(super) title: Option<&'static str>,
    /// Who is there: when it joined, and whether it is an admin.
    pub(super) members: BTreeMap<usize, (u64, bool)>,
    /// Who sees each event, the first at index 0.
    pub(super) seen: Vec<BTreeSet<usize>>,
    pub(super) messages: Vec<ModelMessage>,
    /// Which are pinned, by whom and since when, in order.
    pub(super) pins: Vec<(usize, usize, u64)>,
    /// The highest message each has read, by its seq.
    pub(super) read: BTreeMap<usize, u64>,
    numbers: BTreeMap<(usize, u64), (u64, MessageId)>,
    /// Remembered commands: body and end.
    pub(super) keys: BTreeMap<CommandId, (u64, u64)>,
    pub(super) now: u64,
    minted: u128,
}

/// A shard and the model of it, which agree on every answer.
#[derive(Clone)]
pub(super) struct World {
    pub(super) shard: Shard,
    pub(super) model: Model,
    /// Every command tried.
    pub(super) tried: Vec<Command>,
}

impl World {
    pub(super) fn new() -> Self {
        let model = Model { minted: 1 << 90, ..Model::default() };
        Self { shard: Shard::new(), model, tried: Vec::new() }
    }

    pub(super) fn after(attempts: &[Attempt]) -> Self {
        let mut world = Self::new();
        world.run(attempts);
        world
    }

    pub(super) fn run(&mut self, attempts: &[Attempt]) {
        for attempt in attempts {
            self.attempt(attempt);
        }
    }

    fn attempt(&mut self, attempt: &Attempt) {
        self.shard.now = self.shard.now.saturating_add_signed(attempt.clock);
        let (rows, events) = (self.shard.tables.clone(), self.shard.events.len());
        let command = self.command(attempt);
        let result = self.shard.command(command.clone());
        self.tried.push(command.clone());
        let now = self.model.now.max(self.shard.now);
        let known = self.model.keys.get(&command.id).filter(|(_, end)| *end > now).map(|(body, _)| *body);
        let expected = match known {
            Some(body) if body != command.body_hash => Err(ErrorCode::IdempotencyKeyReused),
            Some(_) => self.model.repeat(&attempt.action),
            None => self.model.carry_out(&attempt.action, now, &result),
        };
        match (&expected, &result) {
            (Ok(done), Ok(reply)) => assert_eq!(*done == Done::Before, reply.replayed, "{attempt:?} {reply:?}"),
            (Err(code), Err(refusal)) => assert_eq!(*code, refusal.code, "{attempt:?}"),
            _ => panic!("{attempt:?} gave {result:?} instead of {expected:?}"),
        }
        if expected == Ok(Done::Now) {
            let lasts = if attempt.retention == Retention::Keyed { KEYED_RETENTION } else { MINTED_RETENTION };
            let end = now + u64::try_from(lasts.as_millis()).unwrap();
            self.model.keys.insert(command.id, (command.body_hash, end));
            self.model.now = now;
        } else {
            assert_eq!((&self.shard.tables, self.shard.events.len()), (&rows, events), "{attempt:?} left a trace");
        }
    }

    fn command(&mut self, attempt: &Attempt) -> Command {
        let name = |index: &usize| NAMES[*index];
        // Keys are scoped by who does what to what, as a gateway scopes them by user, method and path.
        let (op, body_hash, scope) = match &attempt.action {
            Action::Create { creator, others } => {
                let others: Vec<&str> = others.iter().map(name).collect();
                (create(GROUP, ThreadKind::Group, name(creator), &others), 1, 10 + creator)
            }
            Action::Add { actor, user } => (add(name(actor), &[name(user)]), 1, 20 + actor),
            Action::Remove { actor, user } => (remove(name(actor), name(user)), 1, 30 + actor * 10 + user),
            Action::Title { actor, title: to } => {
                let to = to.map(|to| TITLES[to]);
                (title(name(actor), to), to.map_or(2, |to| u64::from(to == "U")), 80 + actor)
            }
            Action::Send { sender, client_seq, body } => (send(GROUP, name(sender), *client_seq), *body, 100 + sender),
            Action::Edit { user, message, text } => {
                (edit(name(user), self.model.id(*message), TEXTS[*text]), *text as u64, 2_000 + user * 100 + message)
            }
            Action::Pin { user, message, present } => {
                let scope = if *present { 7_000 + user } else { 8_000 + user * 100 + message };
                (pin(name(user), self.model.id(*message), *present), *message as u64, scope)
            }
            Action::React { user, message, emoji, present } => {
                let scope = if *present { 4_000 } else { 5_000 + emoji * 1_000 } + user * 100 + message;
                (react(name(user), self.model.id(*message), EMOJI[*emoji], *present), *emoji as u64, scope)
            }
            Action::Delete { user, message } => {
                (delete(name(user), self.model.id(*message)), 1, 3_000 + user * 100 + message)
            }
            Action::Read { user, message } => {
                let id = self.model.id(*message);
                (read(name(user), id), 1, 1_000 + user * 100 + message)
            }
            Action::Ack { user, delivered, position } => {
                let position = position.map(|(seq, more)| Position { seq: Seq(seq), rev: Rev(seq + more) });
                (ack(name(user), *delivered, position), 1, 0)
            }
        };
        self.model.minted += 1;
        let id = match attempt.key {
            Some(key) if scope > 0 => (scope as u128) << 8 | u128::from(key),
            _ => self.model.minted,
        };
        Command { id: CommandId(id.to_be_bytes()), retention: attempt.retention, body_hash, op }
    }
}

/// How an action is granted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Done {
    Now,
    /// Under the same id.
    Before,
    /// Under the same number, so that the id is not remembered.
    Duplicate,
}

impl Model {
    fn repeat(&self, action: &Action) -> Result<Done, ErrorCode> {
        match action {
            Action::Create { creator: actor, .. }
            | Action::Add { actor, .. }
            | Action::Title { actor, .. }
            | Action::Edit { user: actor, .. }
            | Action::React { user: actor, present: true, .. }
            | Action::Pin { user: actor, present: true, .. }
                if !self.members.contains_key(actor) =>
            {
                Err(ErrorCode::NotAMember)
            }
            _ => Ok(Done::Before),
        }
    }

    /// Does what should happen; only a new message's id is taken from the result.
    fn carry_out(&mut self, action: &Action, now: u64, result: &CommandResult) -> Result<Done, ErrorCode> {
        match action {
            Action::Create { creator, others } => self.create(*creator, others),
            Action::Add { actor, user } => self.add(*actor, *user),
            Action::Remove { actor, user } => self.remove(*actor, *user),
            Action::Title { actor, title } => self.retitle(*actor, title.map(|title| TITLES[title])),
            Action::Send { sender, client_seq, body } => self.send(*sender, (*client_seq, *body), result),
            Action::Edit { user, message, text } => self.edit((*user, *message), TEXTS[*text], now),
            Action::Pin { user, message, present } => self.pin((*user, *message), *present, now),
            Action::React { user, message, emoji, present } => self.react((*user, *message), *emoji, *present),
            Action::Delete { user, message } => self.delete((*user, *message), now),
            Action::Read { user, message } => self.mark_read(*user, *message, now),
            Action::Ack { user, delivered, .. } => {
                // Who left meanwhile takes it all the same.
                self.pass(*user, *delivered, |(delivered_at, _)| {
                    delivered_at.get_or_insert(now);
                });
                Ok(Done::Now)
            }
        }
    }

    /// An event that everyone sees who is there before or after it.
    fn event(&mut self, change: impl FnOnce(&mut Self)) {
        let before: BTreeSet<usize> = self.members.keys().copied().collect();
        self.seen.push(BTreeSet::new());
        change(self);
        let seen = self.members.keys().copied().chain(before).collect();
        *self.seen.last_mut().unwrap() = seen;
    }

    fn create(&mut self, creator: usize, others: &[usize]) -> Result<Done, ErrorCode> {
        match self.creator {
            Some(by) if by != creator => return Err(ErrorCode::Conflict),
            Some(_) if !self.members.contains_key(&creator) => return Err(ErrorCode::NotAMember),
            Some(_) => return Ok(Done::Now),
            None => self.creator = Some(creator),
        }
        self.title = Some(TITLES[0]);
        self.event(|model| {
            model.members = others.iter().map(|user| (*user, (1, false))).collect();
            model.members.insert(creator, (1, true));
        });
        Ok(Done::Now)
    }

    fn admin(&self, actor: usize) -> Result<bool, ErrorCode> {
        match self.members.get(&actor) {
            _ if self.creator.is_none() => Err(ErrorCode::NotFound),
            None => Err(ErrorCode::NotAMember),
            Some((_, admin)) => Ok(*admin),
        }
    }

    fn add(&mut self, actor: usize, user: usize) -> Result<Done, ErrorCode> {
        if !self.admin(actor)? {
            return Err(ErrorCode::Forbidden);
        }
        if !self.members.contains_key(&user) {
            let seq = self.seen.len() as u64 + 1;
            self.event(|model| {
                model.members.insert(user, (seq, false));
            });
        }
        Ok(Done::Now)
    }

    fn retitle(&mut self, actor: usize, title: Option<&'static str>) -> Result<Done, ErrorCode> {
        if !self.admin(actor)? {
            return Err(ErrorCode::Forbidden);
        }
        if self.title != title {
            self.event(|model| model.title = title);
        }
        Ok(Done::Now)
    }

    fn remove(&mut self, actor: usize, user: usize) -> Result<Done, ErrorCode> {
        if !self.admin(actor)? && actor != user {
            return Err(ErrorCode::Forbidden);
        }
        if !self.members.contains_key(&user) {
            return Err(ErrorCode::NotFound);
        }
        self.event(|model| {
            model.members.remove(&user);
        });
        if !self.members.values().any(|(_, admin)| *admin)
            && let Some((_, (_, admin))) = self.members.iter_mut().min_by_key(|(user, (joined, _))| (*joined, **user))
        {
            *admin = true;
        }
        Ok(Done::Now)
    }

    fn send(&mut self, sender: usize, (number, body): (u64, u64), result: &CommandResult) -> Result<Done, ErrorCode> {
        self.admin(sender)?;
        if let Some((known, id)) = self.numbers.get(&(sender, number)) {
            if *known != body {
                let existing = result.as_ref().unwrap_err().existing.as_ref();
                assert_eq!(existing.unwrap().id, *id);
                return Err(ErrorCode::DuplicateClientSeq);
            }
            assert_eq!(message(result.clone()).id, *id);
            return Ok(Done::Duplicate);
        }
        let id = message(result.clone()).id;
        self.numbers.insert((sender, number), (body, id));
        self.event(|_| {});
        let recipients = self.members.keys().filter(|user| **user != sender).map(|user| (*user, (None, None)));
        let (recipients, seq) = (recipients.collect(), self.seen.len() as u64);
        let text = Some(format!("{} {number}", NAMES[sender]));
        let (edited_at, reactions) = (None, Vec::new());
        self.messages.push(ModelMessage { id, seq, sender, text, edited_at, reactions, changed: seq, recipients });
        Ok(Done::Now)
    }

    fn id(&self, index: usize) -> MessageId {
        self.messages.get(index).map_or(MessageId(1), |message| message.id)
    }

    /// A message that the user sees, by its index.
    fn find(&self, user: usize, index: usize) -> Result<&ModelMessage, ErrorCode> {
        let message = self.messages.get(index).ok_or(ErrorCode::NotFound)?;
        if !self.members.contains_key(&user) {
            return Err(ErrorCode::NotAMember);
        }
        if self.sees(user, message.seq) { Ok(message) } else { Err(ErrorCode::Forbidden) }
    }

    fn change(&mut self, index: usize, change: impl FnOnce(&mut ModelMessage)) {
        self.event(|_| {});
        let changed = self.seen.len() as u64;
        let message = &mut self.messages[index];
        message.changed = changed;
        change(message);
    }

    fn edit(&mut self, (user, index): (usize, usize), text: &str, now: u64) -> Result<Done, ErrorCode> {
        let message = self.find(user, index)?;
        let same = message.text.as_deref() == Some(text);
        let old = now - message.id.created_at().0 > 900_000;
        match message {
            _ if message.sender != user => return Err(ErrorCode::Forbidden),
            ModelMessage { text: None, .. } => return Err(ErrorCode::MessageDeleted),
            ModelMessage { edited_at: Some(_), .. } if same => {}
            _ if old => return Err(ErrorCode::ChangeWindowClosed),
            _ if same => {}
            _ => self.change(index, |message| {
                message.text = Some(text.to_owned());
                message.edited_at = Some(now);
            }),
        }
        Ok(Done::Now)
    }

    fn delete(&mut self, (user, index): (usize, usize), now: u64) -> Result<Done, ErrorCode> {
        let message = self.find(user, index)?;
        let old = now - message.id.created_at().0 > 900_000;
        match message {
            _ if message.sender != user => return Err(ErrorCode::Forbidden),
            ModelMessage { text: None, .. } => {}
            _ if old => return Err(ErrorCode::ChangeWindowClosed),
            _ => {
                self.pins.retain(|(pinned, ..)| *pinned != index);
                self.change(index, |message| {
                    message.text = None;
                    message.reactions.clear();
                });
            }
        }
        Ok(Done::Now)
    }

    fn react(&mut self, (user, index): (usize, usize), emoji: usize, present: bool) -> Result<Done, ErrorCode> {
        let message = self.find(user, index)?;
        if present && message.text.is_none() {
            return Err(ErrorCode::MessageDeleted);
        }
        if message.reactions.contains(&(emoji, user)) != present {
            self.change(index, |message| {
                message.reactions.retain(|one| *one != (emoji, user));
                message.reactions.extend(present.then_some((emoji, user)));
            });
        }
        Ok(Done::Now)
    }

    fn pin(&mut self, (user, index): (usize, usize), present: bool, now: u64) -> Result<Done, ErrorCode> {
        // Unlike those of a message, its path names the thread.
        self.admin(user)?;
        let message = self.find(user, index)?;
        let pinned = self.pins.iter().any(|(pinned, ..)| *pinned == index);
        match present {
            true if message.text.is_none() => return Err(ErrorCode::MessageDeleted),
            true if !pinned && self.pins.len() == 3 => return Err(ErrorCode::TooManyPins),
            true if !pinned => self.event(|model| model.pins.push((index, user, now))),
            false if pinned => self.event(|model| model.pins.retain(|(pinned, ..)| *pinned != index)),
            _ => {}
        }
        Ok(Done::Now)
    }

    fn mark_read(&mut self, user: usize, index: usize, now: u64) -> Result<Done, ErrorCode> {
        self.admin(user)?;
        let Some(seq) = self.messages.get(index).map(|message| message.seq) else {
            return Err(ErrorCode::NotFound);
        };
        if !self.sees(user, seq) {
            return Err(ErrorCode::Forbidden);
        }
        let mark = self.read.entry(user).or_default();
        *mark = seq.max(*mark);
        self.pass(user, seq, |(delivered_at, read_at)| {
            delivered_at.get_or_insert(now);
            read_at.get_or_insert(now);
        });
        Ok(Done::Now)
    }

    fn pass(&mut self, user: usize, up_to: u64, mark: impl Fn(&mut (Option<u64>, Option<u64>))) {
        for message in self.messages.iter_mut().filter(|message| message.seq <= up_to) {
            if let Some(times) = message.recipients.get_mut(&user) {
                mark(times);
            }
        }
    }

    /// Whether the user was there when the event happened.
    pub(super) fn sees(&self, user: usize, seq: u64) -> bool {
        self.seen[seq as usize - 1].contains(&user)
    }
}
