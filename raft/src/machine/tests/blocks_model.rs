//! Who is shown what, and how far it got, held against a model that notes it message by message.

use super::blocks::tell;
use super::*;
use crate::machine::due_messages;
use crate::machine::rows::block::BlockKey;
use crate::machine::rows::blocker::BlockerKey;
use crate::machine::rows::head::HeadKey;
use crate::machine::rows::{self};
use messenger_proto::event::ThreadEventBody;
use messenger_proto::model::DeliveryState;
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};

const NAMES: [&str; 4] = ["ann", "bob", "cy", "dee"];
const DAY: u64 = 24 * 3_600_000;

/// What is tried; users by number.
#[derive(Debug, Clone)]
enum Try {
    Send {
        by: usize,
        ttl_s: Option<u32>,
    },
    /// The message of this rank, under a new key.
    Again(usize),
    Ack {
        by: usize,
        back: u64,
    },
    Read {
        by: usize,
        message: usize,
    },
    Block {
        by: usize,
        other: usize,
        present: bool,
    },
    Join(usize),
    /// What a user that joined brings arrives.
    Arrive(usize),
    Leave(usize),
    Wait(u64),
    Tick,
}

fn attempt() -> impl Strategy<Value = Try> {
    let who = || 0..NAMES.len();
    prop_oneof![
        4 => (who(), prop::option::weighted(0.4, 1u32..4)).prop_map(|(by, ttl_s)| Try::Send { by, ttl_s }),
        4 => (0usize..12).prop_map(Try::Again),
        4 => (who(), 0u64..4).prop_map(|(by, back)| Try::Ack { by, back }),
        2 => (who(), 0usize..12).prop_map(|(by, message)| Try::Read { by, message }),
        4 => (who(), who(), any::<bool>()).prop_map(|(by, other, present)| Try::Block { by, other, present }),
        2 => (1..NAMES.len()).prop_map(Try::Join),
        2 => (1..NAMES.len()).prop_map(Try::Arrive),
        1 => (1..NAMES.len()).prop_map(Try::Leave),
        3 => prop_oneof![1u64..1_500, 1_500u64..5_000, Just(DAY)].prop_map(Try::Wait),
        1 => Just(Try::Tick),
    ]
}

#[derive(Debug, Clone, Default)]
struct Copy {
    /// It failed then; `None` while it has not.
    failed: Option<u64>,
    /// By a block.
    hidden: bool,
    /// The event that it is to be taken with; the message's own at first.
    event: u64,
    again: bool,
    delivered: Option<u64>,
    read: Option<u64>,
}

#[derive(Debug)]
struct Sent {
    message: Message,
    sender: usize,
    ttl_s: Option<u32>,
    expires: Option<u64>,
    copies: BTreeMap<usize, Copy>,
}

struct World {
    shard: Shard,
    lists: Vec<BTreeSet<usize>>,
    versions: Vec<u64>,
    /// Members, and whether what they brought has arrived.
    members: BTreeMap<usize, bool>,
    spans: BTreeMap<usize, Vec<(u64, u64)>>,
    /// Stays that were over before what the user brought arrived.
    missed: BTreeMap<usize, Vec<(u64, u64)>>,
    sent: Vec<Sent>,
    key: u128,
}

impl World {
    fn new() -> Self {
        let mut world = Self {
            shard: Shard::with_group(&NAMES[..2]),
            lists: vec![BTreeSet::new(); NAMES.len()],
            versions: vec![0; NAMES.len()],
            members: BTreeMap::from([(0, false), (1, false)]),
            spans: BTreeMap::from([(0, vec![(1, u64::MAX)]), (1, vec![(1, u64::MAX)])]),
            missed: BTreeMap::new(),
            sent: Vec::new(),
            key: 1 << 90,
        };
        world.arrive(0);
        world.arrive(1);
        world
    }

    fn head(&self) -> u64 {
        rows::expect(&self.shard.tables, &HeadKey { thread: GROUP }).unwrap().seq.0
    }

    fn blocks(&self, by: usize) -> Vec<&'static str> {
        self.lists[by].iter().map(|other| NAMES[*other]).collect()
    }

    fn is_over(&self, sent: &Sent) -> bool {
        sent.expires.is_some_and(|at| at <= self.shard.now)
    }

    /// Copies that ran out untaken have failed.
    fn settle(&mut self) {
        let now = self.shard.now;
        for sent in &mut self.sent {
            let Some(at) = sent.expires.filter(|at| *at <= now) else { continue };
            for copy in sent.copies.values_mut().filter(|copy| copy.delivered.is_none()) {
                copy.failed.get_or_insert(at);
            }
        }
    }

    fn arrive(&mut self, who: usize) {
        let Some(arrived) = self.members.get_mut(&who) else { return };
        if std::mem::replace(arrived, true) {
            return;
        }
        // One that never kept anybody away has nothing to tell.
        self.versions[who] += u64::from(self.versions[who] > 0 || !self.lists[who].is_empty());
        let (version, blocks) = (self.versions[who], self.blocks(who));
        self.shard.bring(NAMES[who], version, &blocks);
        // All that came since the join, whatever became of it meanwhile.
        let mut stays = self.missed.remove(&who).unwrap_or_default();
        stays.push(*self.spans[&who].last().unwrap());
        let heard_late = |seq: u64| stays.iter().any(|(from, to)| (*from..=*to).contains(&seq));
        for sent in self.sent.iter_mut().filter(|sent| heard_late(sent.message.seq.0)) {
            if self.lists[who].contains(&sent.sender)
                && let Some(copy) = sent.copies.get_mut(&who).filter(|copy| !copy.again)
            {
                let failed = Some(sent.message.id.created_at().0);
                *copy = Copy { failed, hidden: true, event: copy.event, ..Copy::default() };
            }
        }
    }

    fn send(&mut self, by: usize, ttl_s: Option<u32>, again: Option<usize>) {
        self.key += 1;
        let number = again.unwrap_or(self.sent.len()) as u64;
        let op = match (send(GROUP, NAMES[by], number), ttl_s) {
            (Op::SendMessage(send), ttl_s) => Op::SendMessage(SendMessage { ttl_s, ..send }),
            (other, _) => panic!("{other:?}"),
        };
        let id = CommandId(self.key.to_be_bytes());
        let result = self.shard.command(Command { id, retention: Retention::Keyed, body_hash: number, op });
        if !self.members.contains_key(&by) {
            assert_eq!(result.unwrap_err().code, ErrorCode::NotAMember);
            return;
        }
        let ReplyBody::Message(reply) = result.unwrap().body else { panic!() };
        match again {
            None => self.sent_first(by, ttl_s, reply.message),
            Some(rank) => {
                let again = self.sent_again(rank);
                assert_eq!(reply.duplicate, !again, "{:?}", self.sent[rank]);
            }
        }
    }

    fn sent_first(&mut self, sender: usize, ttl_s: Option<u32>, message: Message) {
        let at = message.id.created_at().0;
        let copy = |(who, arrived): (&usize, &bool)| {
            let hidden = *arrived && self.lists[*who].contains(&sender);
            let copy = Copy { failed: hidden.then_some(at), hidden, event: message.seq.0, ..Copy::default() };
            (*who, copy)
        };
        let copies = self.members.iter().filter(|(who, _)| **who != sender).map(copy).collect();
        let expires = ttl_s.map(|ttl| at + u64::from(ttl) * 1_000);
        self.sent.push(Sent { message, sender, ttl_s, expires, copies });
    }

    /// Whether it was.
    fn sent_again(&mut self, rank: usize) -> bool {
        let (now, head) = (self.shard.now, self.head());
        let sent = &mut self.sent[rank];
        let recently = |copy: &Copy| copy.failed.is_some_and(|at| now < at + DAY);
        if !sent.copies.values().any(recently) {
            return false;
        }
        let to = |who: &usize, copy: &Copy, members: &BTreeMap<usize, bool>, lists: &[BTreeSet<usize>]| {
            copy.failed.is_some()
                && members.get(who).is_some_and(|arrived| !(*arrived && lists[*who].contains(&sent.sender)))
        };
        let renewed =
            sent.ttl_s.is_some() || sent.copies.iter().any(|(who, copy)| to(who, copy, &self.members, &self.lists));
        for (who, copy) in &mut sent.copies {
            let arrived = self.members.get(who);
            let blocks = arrived == Some(&true) && self.lists[*who].contains(&sent.sender);
            if copy.failed.is_none() || copy.delivered.is_some() {
                continue;
            }
            if arrived.is_some() && !blocks {
                *copy = Copy { event: head, again: true, ..Copy::default() };
            } else if renewed {
                copy.hidden |= blocks;
            }
        }
        sent.expires = sent.ttl_s.map(|ttl| now + u64::from(ttl) * 1_000);
        true
    }

    fn ack(&mut self, by: usize, up_to: u64) {
        self.shard.run(ack(NAMES[by], up_to, None)).unwrap();
        let now = self.shard.now;
        for sent in &mut self.sent {
            let Some(copy) = sent.copies.get_mut(&by) else { continue };
            let late = sent.expires.is_some_and(|at| at <= now);
            if copy.event <= up_to && copy.failed.is_none() && !late {
                copy.delivered.get_or_insert(now);
            }
        }
    }

    fn read(&mut self, by: usize, rank: usize) {
        let Some((id, seq)) = self.sent.get(rank).map(|sent| (sent.message.id, sent.message.seq.0)) else { return };
        let result = self.shard.run(read(NAMES[by], id));
        let seen = self.spans.get(&by).is_some_and(|spans| spans.iter().any(|(from, to)| (*from..=*to).contains(&seq)));
        if !self.members.contains_key(&by) || !seen || self.is_hidden(by, rank) {
            assert!(result.is_err());
            return;
        }
        result.unwrap();
        let now = self.shard.now;
        for sent in &mut self.sent {
            let own = sent.message.seq.0 == seq;
            let Some(copy) = sent.copies.get_mut(&by) else { continue };
            let late = sent.expires.is_some_and(|at| at <= now);
            if (copy.event <= seq || own) && copy.failed.is_none() && (!late || copy.delivered.is_some()) {
                copy.delivered.get_or_insert(now);
                copy.read.get_or_insert(now);
            }
        }
    }

    fn is_hidden(&self, viewer: usize, rank: usize) -> bool {
        let sent = &self.sent[rank];
        sent.copies.get(&viewer).is_some_and(|copy| copy.hidden)
    }

    fn run(&mut self, attempt: &Try) {
        self.settle();
        match *attempt {
            Try::Send { by, ttl_s } => self.send(by, ttl_s, None),
            Try::Again(rank) => {
                if let Some(sent) = self.sent.get(rank) {
                    self.send(sent.sender, sent.ttl_s, Some(rank));
                }
            }
            Try::Ack { by, back } => self.ack(by, self.head().saturating_sub(back)),
            Try::Read { by, message } => self.read(by, message),
            Try::Block { by, other, present } if by != other => {
                let changed = if present { self.lists[by].insert(other) } else { self.lists[by].remove(&other) };
                match self.members.get(&by) {
                    Some(true) if changed => {
                        self.versions[by] += 1;
                        let op = tell(NAMES[by], self.versions[by], &self.blocks(by));
                        self.shard.run(op).unwrap();
                    }
                    // Whatever comes first is what it brings.
                    Some(false) => self.arrive(by),
                    _ => {}
                }
            }
            Try::Join(who) if !self.members.contains_key(&who) => {
                self.shard.run(add("ann", &[NAMES[who]])).unwrap();
                self.members.insert(who, false);
                let head = self.head();
                self.spans.entry(who).or_default().push((head, u64::MAX));
            }
            Try::Arrive(who) => self.arrive(who),
            Try::Leave(who) if self.members.contains_key(&who) => {
                self.shard.run(remove(NAMES[who], NAMES[who])).unwrap();
                let end = self.head();
                let stay = self.spans.get_mut(&who).unwrap().last_mut().unwrap();
                stay.1 = end;
                if self.members.remove(&who) == Some(false) {
                    self.missed.entry(who).or_default().push(*stay);
                }
            }
            Try::Wait(ms) => self.shard.now += ms,
            Try::Tick => {
                let now = self.shard.now;
                let due = due_messages(&self.shard.tables, 99).unwrap();
                self.shard.run(expire(due.into_iter().filter(|due| due.at.0 <= now).collect())).unwrap();
            }
            Try::Block { .. } | Try::Join(_) | Try::Leave(_) => {}
        }
        self.settle();
    }

    fn check(&self) {
        for sent in &self.sent {
            let expected: BTreeMap<_, _> = sent.copies.iter().map(|(who, copy)| (user(NAMES[*who]), copy)).collect();
            let told = self.shard.recipients(sent.message.id, NAMES[sent.sender]);
            let Ok(told) = told else {
                assert!(!self.members.contains_key(&sent.sender));
                continue;
            };
            assert_eq!(told.len(), expected.len());
            for one in told {
                let copy = expected[&one.user];
                let state = match copy {
                    Copy { read: Some(_), .. } => DeliveryState::Read,
                    Copy { delivered: Some(_), .. } => DeliveryState::Delivered,
                    Copy { failed: Some(_), .. } => DeliveryState::Failed,
                    _ => DeliveryState::Sent,
                };
                let times = (copy.delivered.map(Millis), copy.read.map(Millis));
                assert_eq!((one.state, one.delivered_at, one.read_at), (state, times.0, times.1), "{sent:#?}");
            }
        }
        for who in self.members.keys() {
            let name = NAMES[*who];
            let seen = |seq: u64| self.spans[who].iter().any(|(from, to)| (*from..=*to).contains(&seq));
            let in_sight = |rank: &usize| seen(self.sent[*rank].message.seq.0) && !self.is_hidden(*who, *rank);
            let expected: Vec<_> =
                (0..self.sent.len()).filter(in_sight).map(|rank| self.sent[rank].message.id).collect();
            assert_eq!(self.shard.ids(name), expected, "{name}");
            let gone = |rank: &usize| self.is_over(&self.sent[*rank]);
            let says: Vec<bool> = (0..self.sent.len()).filter(in_sight).map(|rank| !gone(&rank)).collect();
            let history = self.shard.history(GROUP, name).unwrap();
            assert_eq!(history.iter().map(|message| message.ciphertext.is_some()).collect::<Vec<_>>(), says);
            for rank in (0..self.sent.len()).filter(|rank| !in_sight(rank)) {
                assert!(self.shard.by_id(self.sent[rank].message.id, name).is_err());
            }
            let resumed = self.shard.resume_one(GROUP, name, None, None).events;
            for event in &resumed {
                let of = match &event.body {
                    ThreadEventBody::Message(message) => Some(message.id),
                    body => body.subject().map(|of| of.id),
                };
                assert!(of.is_none_or(|id| expected.contains(&id)), "{name} is told of {event:?}");
            }
        }
        self.check_rows();
    }

    /// The counts and pairs say what the stretches do.
    fn check_rows(&self) {
        let stretches = super::properties::family::<BlockKey>(&self.shard.tables);
        let open: BTreeSet<_> = stretches
            .iter()
            .filter(|(_, row)| row.to.is_none())
            .map(|(key, _)| (key.blocker.clone(), key.blocked.clone(), key.from))
            .collect();
        let pairs = super::properties::family::<BlockerKey>(&self.shard.tables);
        let since = pairs.iter().filter_map(|(key, row)| Some((key.blocker.clone(), key.blocked.clone(), row.since?)));
        assert_eq!(since.collect::<BTreeSet<_>>(), open);
        let head = rows::expect(&self.shard.tables, &HeadKey { thread: GROUP }).unwrap();
        assert_eq!(head.blocks as usize, open.len());
        for (who, arrived) in &self.members {
            let blocks = |other: &usize| *arrived && self.lists[*who].contains(other) && self.spans.contains_key(other);
            let expected: BTreeSet<_> = (0..NAMES.len()).filter(blocks).map(|other| user(NAMES[other])).collect();
            let of = open.iter().filter(|(blocker, ..)| *blocker == user(NAMES[*who]));
            assert_eq!(of.map(|(_, blocked, _)| blocked.clone()).collect::<BTreeSet<_>>(), expected, "{}", NAMES[*who]);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn each_recipient_has_what_the_model_says(attempts in prop::collection::vec(attempt(), 1..60)) {
        let mut world = World::new();
        for attempt in &attempts {
            world.run(attempt);
        }
        world.check();
    }
}

/// What was once answered wrongly, in few steps.
#[test]
fn rare_orders_are_as_the_model_says_too() {
    let send = |by, ttl_s| Try::Send { by, ttl_s };
    let block = |by, other| Try::Block { by, other, present: true };
    let orders = [
        // It stays failed for one who is gone, and is sent again to another; then once more.
        vec![Try::Join(3), send(0, Some(1)), Try::Wait(1_500), Try::Leave(1), Try::Again(0), Try::Again(0)],
        // It was sent again to one who then kept its sender away, and stayed failed when its time ran out again.
        vec![send(0, Some(1)), Try::Wait(1_500), Try::Again(0), block(1, 0), Try::Wait(1_500), Try::Again(0)],
        // It failed for one who was gone before its list came, and was sent again to the others.
        vec![
            Try::Join(2),
            send(0, Some(1)),
            Try::Leave(2),
            Try::Wait(1_500),
            Try::Again(0),
            Try::Join(2),
            block(2, 0),
            Try::Again(0),
        ],
    ];
    for order in orders {
        let mut world = World::new();
        for attempt in &order {
            world.run(attempt);
        }
        world.check();
    }
}
