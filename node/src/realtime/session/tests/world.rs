//! The session against a world that loses, repeats and reorders everything it is allowed to.
//!
//! The world keeps, per thread, the true history. A lagging stream, a mailbox that overflows, a storage that answers late
//! and in pieces, leaves and joins, held-back reads and acknowledgements happen in any order; what the device was told
//! is then compared with the history.

use super::*;
use messenger_proto::ids::{MessageId, Rev};
use messenger_proto::query::Gap;
use proptest::prelude::*;
use std::collections::{HashMap, HashSet};

const THREADS: u8 = 3;
const CHUNK: usize = 4;

fn thread_id(n: u8) -> ThreadId {
    ThreadId([n % THREADS; 16])
}

fn user(name: &str) -> UserId {
    UserId::new(name).unwrap()
}

#[derive(Debug, Clone)]
enum Op {
    Message { thread: u8, mine: bool },
    Read { thread: u8, by: u8 },
    Delivered { thread: u8, by: u8, for_me: bool },
    Leave(u8),
    Join(u8),
    Emit { thread: u8, count: u8 },
    EmitUser,
    Switch { back: u8, ahead: u8 },
    Flush(u8),
    Overflow,
    Mail(u8),
    Listening { back: u8 },
    Ask(u8),
    Answer { fails: bool },
    Ack(u8),
    Narrow(Vec<u8>),
    AskIndex,
    AnswerIndex,
}

fn op() -> impl Strategy<Value = Op> {
    let t = || 0..THREADS;
    prop_oneof![
        4 => (t(), any::<bool>()).prop_map(|(thread, mine)| Op::Message { thread, mine }),
        3 => (t(), 0u8..3).prop_map(|(thread, by)| Op::Read { thread, by }),
        2 => (t(), 0u8..3, any::<bool>()).prop_map(|(thread, by, for_me)| Op::Delivered { thread, by, for_me }),
        1 => t().prop_map(Op::Leave),
        1 => t().prop_map(Op::Join),
        4 => (t(), 1u8..4).prop_map(|(thread, count)| Op::Emit { thread, count }),
        1 => Just(Op::EmitUser),
        1 => (0u8..4, 0u8..4).prop_map(|(back, ahead)| Op::Switch { back, ahead }),
        1 => t().prop_map(Op::Flush),
        1 => Just(Op::Overflow),
        4 => (1u8..5).prop_map(Op::Mail),
        2 => (0u8..4).prop_map(|back| Op::Listening { back }),
        3 => (1u8..4).prop_map(Op::Ask),
        3 => prop::bool::weighted(0.2).prop_map(|fails| Op::Answer { fails }),
        2 => any::<u8>().prop_map(Op::Ack),
        1 => Just(Op::AskIndex),
        1 => Just(Op::AnswerIndex),
    ]
}

fn narrowing_op() -> impl Strategy<Value = Op> {
    prop_oneof![
        12 => op(),
        1 => prop::collection::vec(0..THREADS, 0..3).prop_map(Op::Narrow),
    ]
}

enum Mail {
    Event(Arc<SharedEvent>),
    Late(LateReads),
    Reset,
    User { thread: ThreadId, present: bool, source_seq: Seq },
}

#[derive(Default)]
struct History {
    events: Vec<Arc<SharedEvent>>,
    seq: u64,
    /// `(first, last)` events that the user may see.
    windows: Vec<(u64, Option<u64>)>,
    /// The next event that the stream gives.
    stream: usize,
    /// Reads that the hub holds back.
    held: Vec<Arc<SharedEvent>>,
    heard: bool,
}

impl History {
    fn append(&mut self, thread: ThreadId, event: bool, kind: EventKind) -> u64 {
        self.seq += u64::from(event);
        let (rev, seq) = (Rev(self.events.len() as u64 + 1), event.then_some(Seq(self.seq)));
        let (body, for_sender) = (Bytes::new(), Bytes::new());
        self.events.push(Arc::new(SharedEvent { thread, rev, seq, kind, body, for_sender, for_device: Bytes::new() }));
        self.seq
    }

    fn member(&self) -> bool {
        self.windows.last().is_some_and(|(_, last)| last.is_none())
    }

    fn visible(&self, seq: u64) -> bool {
        self.windows.iter().any(|(first, last)| *first <= seq && last.is_none_or(|last| seq <= last))
    }

    /// Whether a receipt that came after an event is in sight: one that follows the removal is not.
    fn receipt_visible(&self, seq: u64) -> bool {
        self.windows.iter().any(|(first, last)| *first <= seq && last.is_none_or(|last| seq < last))
    }

    /// What storage tells from `position`, whole.
    fn after(&self, me: &UserId, position: Option<Position>) -> Vec<Arc<SharedEvent>> {
        let from = position.unwrap_or_default();
        let mut seq = 0;
        let mut latest: HashMap<(bool, UserId), Arc<SharedEvent>> = HashMap::new();
        let mut told = Vec::new();
        for event in &self.events {
            seq = event.seq.map_or(seq, |seq| seq.0);
            let visible = if event.seq.is_some() { self.visible(seq) } else { self.receipt_visible(seq) };
            if !visible || !event.concerns(me) {
                continue;
            }
            match &event.kind {
                EventKind::Read { by, .. } | EventKind::Delivered { by, .. } if event.rev > from.rev => {
                    let key = (matches!(event.kind, EventKind::Read { .. }), by.clone());
                    latest.insert(key, Arc::clone(event));
                }
                EventKind::Read { .. } | EventKind::Delivered { .. } => {}
                _ if event.seq.is_some_and(|seq| seq > from.seq) => told.push(Arc::clone(event)),
                _ => {}
            }
        }
        told.extend(latest.into_values());
        told.sort_by_key(|event| event.rev);
        told
    }

    /// Where what the user sees ends.
    fn end(&self) -> Position {
        let removed = self.windows.last().and_then(|(_, last)| *last).map(Seq);
        let removal = self.events.iter().find(|event| removed.is_some() && event.seq == removed);
        removal.map_or(Position { seq: Seq(self.seq), rev: Rev(self.events.len() as u64) }, |removal| {
            removal.position_after(Position::default())
        })
    }

    fn resume(&self, me: &UserId, thread: ThreadId, position: Option<Position>) -> Resumed {
        let mut events = self.after(me, position);
        let more = events.len() > CHUNK;
        events.truncate(CHUNK);
        let start = position.unwrap_or_default();
        let last = events.iter().fold(start, |at, event| event.position_after(at));
        let position = if more { last } else { self.end() };
        Resumed { thread, events, position, more, gap: None, left: !self.member() && !more }
    }
}

/// A thread that the user left, and whether the device had acknowledged anything of it by then.
struct Departure {
    removed: u64,
    known: bool,
}

#[derive(Default)]
struct Device {
    stored: HashMap<ThreadId, Position>,
    acked: HashMap<ThreadId, Vec<Arc<SharedEvent>>>,
    delivered: HashMap<ThreadId, u64>,
}

/// What the user's shard knows of its threads.
#[derive(Default)]
struct Index {
    present: Vec<(ThreadId, Seq)>,
    left: Vec<(ThreadId, Seq)>,
}

struct World {
    me: UserId,
    threads: HashMap<ThreadId, History>,
    user_stream: VecDeque<(ThreadId, bool, Seq)>,
    session: Session,
    mail: VecDeque<Mail>,
    lagged: BTreeSet<ThreadId>,
    index_lagged: bool,
    listening: VecDeque<ThreadId>,
    answers: VecDeque<Resumed>,
    /// Answers of the index under way, older than what its stream tells meanwhile.
    index_answers: VecDeque<Index>,
    told: HashMap<ThreadId, Vec<(u64, Arc<SharedEvent>)>>,
    frames: u64,
    caught_up: u32,
    device: Device,
}

impl World {
    fn new() -> Self {
        let me = user("me-1");
        let mut world = Self {
            session: Session::new(me.clone()),
            me,
            threads: HashMap::new(),
            user_stream: VecDeque::new(),
            mail: VecDeque::new(),
            lagged: BTreeSet::new(),
            index_lagged: false,
            listening: VecDeque::new(),
            answers: VecDeque::new(),
            index_answers: VecDeque::new(),
            told: HashMap::new(),
            frames: 0,
            caught_up: 0,
            device: Device::default(),
        };
        for n in 0..THREADS - 1 {
            world.change_membership(thread_id(n), true);
        }
        world.threads.entry(thread_id(THREADS - 1)).or_default();
        world.user_stream.clear();
        world
    }

    /// A new connection of the device; what the old one had under way is gone.
    fn connect(&mut self) {
        self.session = Session::new(self.me.clone());
        self.mail.clear();
        self.lagged.clear();
        self.index_lagged = false;
        self.listening.clear();
        self.answers.clear();
        self.index_answers.clear();
        self.told.clear();
        self.frames = 0;
        self.caught_up = 0;
        self.user_stream.clear();
        self.threads.values_mut().for_each(|history| history.heard = false);
        let index = self.index();
        self.session.index(&index.present, &index.left);
    }

    fn index(&self) -> Index {
        let mut index = Index::default();
        for (id, history) in &self.threads {
            match history.windows.last() {
                Some((_, Some(last))) => index.left.push((*id, Seq(*last))),
                Some((first, None)) => index.present.push((*id, Seq(*first))),
                None => {}
            }
        }
        index
    }

    fn change_membership(&mut self, thread: ThreadId, present: bool) {
        let me = self.me.clone();
        let history = self.threads.entry(thread).or_default();
        if history.member() == present {
            return;
        }
        let seq = history.append(thread, true, EventKind::Thread { removed: (!present).then_some(me) });
        if present {
            history.windows.push((seq, None));
        } else if let Some((_, last)) = history.windows.last_mut() {
            *last = Some(seq);
        }
        self.user_stream.push_back((thread, present, Seq(seq)));
    }

    fn emit(&mut self, thread: ThreadId) {
        let Some(history) = self.threads.get_mut(&thread) else { return };
        let Some(event) = history.events.get(history.stream).cloned() else { return };
        history.stream += 1;
        if !history.heard {
            return;
        }
        if matches!(event.kind, EventKind::Read { deferred: true, .. }) {
            history.held.push(Arc::clone(&event));
        }
        self.mail.push_back(Mail::Event(event));
    }

    fn flush(&mut self, thread: ThreadId) {
        let Some(history) = self.threads.get_mut(&thread) else { return };
        let mut latest = BTreeMap::new();
        for read in history.held.drain(..) {
            if let EventKind::Read { by, .. } = &read.kind {
                latest.insert(by.clone(), read);
            }
        }
        let mut reads: Vec<_> = latest.into_values().collect();
        reads.sort_by_key(|read: &Arc<SharedEvent>| read.rev);
        if history.heard && !reads.is_empty() {
            self.mail.push_back(Mail::Late(LateReads { thread, reads }));
        }
    }

    fn overflow(&mut self) {
        match self.mail.pop_back() {
            Some(Mail::Event(event)) => drop(self.lagged.insert(event.thread)),
            Some(Mail::Late(late)) => drop(self.lagged.insert(late.thread)),
            Some(Mail::User { .. }) => self.index_lagged = true,
            Some(Mail::Reset) => self.mail.push_back(Mail::Reset),
            None => {}
        }
    }

    /// What the shell does first whenever it looks into the mailbox.
    fn notice_losses(&mut self) {
        if std::mem::take(&mut self.index_lagged) {
            let index = self.index();
            self.session.index(&index.present, &index.left);
        }
        for thread in std::mem::take(&mut self.lagged) {
            self.session.lost(thread);
        }
    }

    fn read_mail(&mut self) {
        self.notice_losses();
        match self.mail.pop_front() {
            Some(Mail::Event(event)) => self.session.live(&event),
            Some(Mail::Late(late)) => self.session.late(&late),
            Some(Mail::Reset) => self.session.lost_where(|_| true),
            Some(Mail::User { thread, present: true, source_seq }) => self.session.joined(thread, source_seq),
            Some(Mail::User { thread, present: false, source_seq }) => self.session.left(thread, source_seq),
            None => {}
        }
    }

    fn drain(&mut self) {
        for thread in self.session.take_forget() {
            self.threads.get_mut(&thread).unwrap().heard = false;
        }
        self.listening.extend(self.session.take_listen());
        while let Some(frame) = self.session.next_frame() {
            self.frames += 1;
            assert_eq!(frame.seq.0, self.frames, "frame numbers have no gaps");
            match frame.body {
                FrameBody::Event { event, .. } => {
                    self.told.entry(event.thread).or_default().push((frame.seq.0, event));
                }
                FrameBody::CaughtUp => self.caught_up += 1,
                FrameBody::Gap { .. } | FrameBody::Plain(_) => unreachable!("the world has none"),
            }
        }
    }

    fn listen_done(&mut self, back: u8) {
        let Some(thread) = self.listening.pop_front() else { return };
        let history = self.threads.get_mut(&thread).unwrap();
        history.heard = true;
        history.stream = history.events.len().saturating_sub(usize::from(back));
        self.session.listening(thread);
    }

    fn ask(&mut self, max: usize) {
        for from in self.session.take_behind(max) {
            let position = from.position.or_else(|| self.device.stored.get(&from.thread).copied());
            let history = &self.threads[&from.thread];
            let nothing = from.unless_new && position.is_none() && !history.member();
            self.answers.push_back(if nothing {
                let (thread, position) = (from.thread, Position::default());
                Resumed { thread, events: Vec::new(), position, more: false, gap: None, left: true }
            } else {
                history.resume(&self.me, from.thread, position)
            });
        }
    }

    fn ack(&mut self, frame: u64) {
        for progress in self.session.ack(FrameSeq(frame)).unwrap() {
            let thread = progress.thread;
            let told = self.told.entry(thread).or_default();
            let taken = told.iter().filter(|(seq, _)| *seq <= frame).map(|(_, event)| Arc::clone(event));
            self.device.acked.entry(thread).or_default().extend(taken);
            if let Some(position) = progress.position {
                let stored = self.device.stored.entry(thread).or_default();
                if position.rev > stored.rev {
                    *stored = position;
                }
            }
            let delivered = self.device.delivered.entry(thread).or_default();
            *delivered = (*delivered).max(progress.delivered.0);
        }
    }

    fn run(&mut self, op: &Op) {
        match op {
            Op::Message { thread, mine } => {
                let sender = if *mine { self.me.clone() } else { user("other") };
                self.append(*thread, true, EventKind::Message { sender, hidden_from: Vec::new() });
            }
            Op::Read { thread, by } => {
                // One of the threads is large enough for its reads to be held back.
                let by = if *by == 0 { self.me.clone() } else { user(&format!("u{by}")) };
                self.append(*thread, false, EventKind::Read { by, deferred: *thread == 0 });
            }
            Op::Delivered { thread, by, for_me } => {
                let senders = Some(if *for_me { vec![self.me.clone()] } else { Vec::new() });
                self.append(*thread, false, EventKind::Delivered { by: user(&format!("u{by}")), senders });
            }
            Op::Leave(thread) => self.change_membership(thread_id(*thread), false),
            Op::Join(thread) => self.change_membership(thread_id(*thread), true),
            Op::Emit { thread, count } => (0..*count).for_each(|_| self.emit(thread_id(*thread))),
            Op::EmitUser => {
                if let Some((thread, present, source_seq)) = self.user_stream.pop_front() {
                    self.mail.push_back(Mail::User { thread, present, source_seq });
                }
            }
            Op::Switch { back, ahead } => {
                for history in self.threads.values_mut() {
                    let stream = (history.stream + usize::from(*ahead)).min(history.events.len());
                    history.stream = stream.saturating_sub(usize::from(*back));
                }
                self.mail.push_back(Mail::Reset);
            }
            Op::Flush(thread) => self.flush(thread_id(*thread)),
            Op::Overflow => self.overflow(),
            Op::Mail(count) => (0..*count).for_each(|_| self.read_mail()),
            Op::Listening { back } => self.listen_done(*back),
            Op::Ask(max) => self.ask(usize::from(*max)),
            Op::Answer { fails } => {
                let Some(answer) = self.answers.pop_front() else { return };
                if *fails { self.session.unresumed(answer.thread) } else { self.session.resumed(&answer) }
            }
            Op::Ack(part) => self.ack(self.frames * u64::from(*part) / 255),
            Op::AskIndex => self.index_answers.push_back(self.index()),
            Op::AnswerIndex => {
                if let Some(index) = self.index_answers.pop_front() {
                    self.session.index(&index.present, &index.left);
                }
            }
            Op::Narrow(threads) => self.session.narrow(threads.iter().map(|thread| thread_id(*thread)).collect()),
        }
        self.drain();
    }

    fn append(&mut self, thread: u8, event: bool, kind: EventKind) {
        let thread = thread_id(thread);
        self.threads.entry(thread).or_default().append(thread, event, kind);
    }

    /// Everything under way arrives; the network and the disks are fine from here on.
    fn settle(&mut self) {
        for _ in 0..1_000 {
            while self.user_stream.front().is_some() {
                self.run(&Op::EmitUser);
            }
            for thread in 0..THREADS {
                self.run(&Op::Emit { thread, count: u8::MAX });
                self.run(&Op::Flush(thread));
            }
            self.run(&Op::Listening { back: 0 });
            self.run(&Op::Mail(16));
            self.run(&Op::Ask(2));
            self.run(&Op::Answer { fails: false });
            self.run(&Op::AnswerIndex);
            let idle = self.mail.is_empty() && self.answers.is_empty() && self.listening.is_empty();
            let idle = idle && self.index_answers.is_empty();
            let streamed = self.threads.values().all(|history| history.stream == history.events.len());
            if idle && streamed && !self.session.is_behind() && self.lagged.is_empty() && !self.index_lagged {
                return;
            }
        }
        panic!("it never settles");
    }

    /// Events in order and once; nothing that the user may not see.
    fn check_order(&self) {
        for (thread, told) in &self.told {
            let seqs: Vec<u64> = told.iter().filter_map(|(_, event)| event.seq).map(|seq| seq.0).collect();
            assert!(seqs.is_sorted_by(|a, b| a < b), "told twice or out of order: {seqs:?}");
            for seq in seqs {
                assert!(self.threads[thread].visible(seq), "event {seq} is outside the membership");
            }
        }
    }

    /// The threads that the user is not in, as they are now.
    fn departures(&self) -> Vec<(ThreadId, Departure)> {
        let departure = |(thread, history): (&ThreadId, &History)| {
            let removed = history.windows.last()?.1?;
            Some((*thread, Departure { removed, known: self.device.stored.contains_key(thread) }))
        };
        self.threads.iter().filter_map(departure).collect()
    }

    /// Of threads that were left before the device came back, and not joined since, it heard what it had not taken if it
    /// had ever taken anything, and nothing otherwise.
    fn check_departures(
        &self,
        departures: &[(ThreadId, Departure)],
        before: &HashMap<ThreadId, Vec<Arc<SharedEvent>>>,
    ) {
        for (thread, departure) in departures {
            let history = &self.threads[thread];
            if history.windows.last().and_then(|(_, last)| *last) != Some(departure.removed) {
                continue;
            }
            let seqs = |event: &Arc<SharedEvent>| event.seq;
            let told = self.told.get(thread).map(Vec::as_slice).unwrap_or_default();
            let told: HashSet<Seq> = told.iter().filter_map(|(_, event)| seqs(event)).collect();
            if !departure.known {
                assert!(told.is_empty(), "{thread} is new to the device");
                continue;
            }
            let taken: HashSet<Seq> = before.get(thread).into_iter().flatten().filter_map(seqs).collect();
            for event in history.after(&self.me, None) {
                let heard = event.seq.is_none_or(|seq| told.contains(&seq) || taken.contains(&seq));
                assert!(heard, "{thread} lacks {:?} {:?}", event.seq, event.kind);
            }
        }
    }

    /// Everything after `from` was told, in this connection or in `before`.
    fn check_complete(&self, before: &HashMap<ThreadId, Vec<Arc<SharedEvent>>>) {
        for (thread, history) in &self.threads {
            if !history.member() {
                continue;
            }
            let empty = Vec::new();
            let known = before.get(thread).unwrap_or(&empty).iter();
            let told = self.told.get(thread).map(Vec::as_slice).unwrap_or_default().iter().map(|(_, event)| event);
            let told: HashSet<Rev> = known.chain(told).map(|event| event.rev).collect();
            for event in history.after(&self.me, None) {
                assert!(told.contains(&event.rev), "{thread} lacks {:?} {:?}", event.rev, event.kind);
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_000))]

    #[test]
    fn every_event_is_told_once_and_in_order(ops in prop::collection::vec(op(), 0..120)) {
        let mut world = World::new();
        world.connect();
        for op in &ops {
            world.run(op);
            world.check_order();
        }
        world.settle();
        world.check_order();
        prop_assert_eq!(world.caught_up, 1);
        world.check_complete(&HashMap::new());
    }

    #[test]
    fn what_was_not_acknowledged_is_told_again(
        first in prop::collection::vec(op(), 0..80),
        second in prop::collection::vec(op(), 0..60),
    ) {
        let mut world = World::new();
        world.connect();
        for op in &first {
            world.run(op);
        }
        for (thread, delivered) in &world.device.delivered {
            let acked: HashSet<_> = world.device.acked[thread].iter().filter_map(|event| event.seq).collect();
            for event in world.threads[thread].after(&world.me, None) {
                let foreign = matches!(&event.kind, EventKind::Message { sender, .. } if *sender != world.me);
                let claimed = event.seq.filter(|seq| foreign && seq.0 <= *delivered);
                prop_assert!(claimed.is_none_or(|seq| acked.contains(&seq)), "claims more than the device took");
            }
        }
        let departures = world.departures();
        world.connect();
        for op in &second {
            world.run(op);
            world.check_order();
        }
        world.settle();
        prop_assert_eq!(world.caught_up, 1);
        let acked = world.device.acked.clone();
        world.check_complete(&acked);
        world.check_departures(&departures, &acked);
        // What was acknowledged to the end does not come again.
        world.ack(world.frames);
        let gone: Vec<ThreadId> = world.departures().into_iter().map(|(thread, _)| thread).collect();
        world.connect();
        world.settle();
        for thread in gone {
            // A coming and going that the mailbox lost altogether is heard only now.
            let acked = world.device.acked.get(&thread).map(Vec::as_slice).unwrap_or_default();
            let acked: HashSet<Rev> = acked.iter().map(|event| event.rev).collect();
            let told = world.told.get(&thread).map(Vec::as_slice).unwrap_or_default();
            let again = told.iter().find(|(_, event)| acked.contains(&event.rev));
            prop_assert!(again.is_none(), "{} {:?} {:?}", thread, world.device.stored.get(&thread), told);
        }
    }

    #[test]
    fn narrowing_never_disturbs_order_and_widening_brings_everything(
        ops in prop::collection::vec(narrowing_op(), 0..120),
    ) {
        let mut world = World::new();
        world.connect();
        for op in &ops {
            world.run(op);
            world.check_order();
        }
        world.run(&Op::Narrow((0..THREADS).collect()));
        world.settle();
        world.check_order();
        prop_assert_eq!(world.caught_up, 1);
        world.check_complete(&HashMap::new());
    }
}

fn message(thread: ThreadId, n: u64) -> Arc<SharedEvent> {
    let kind = EventKind::Message { sender: user("other"), hidden_from: Vec::new() };
    let (body, for_sender) = (Bytes::new(), Bytes::new());
    Arc::new(SharedEvent { thread, rev: Rev(n), seq: Some(Seq(n)), kind, body, for_sender, for_device: Bytes::new() })
}

fn at(n: u64) -> Position {
    Position { seq: Seq(n), rev: Rev(n) }
}

/// A session with one thread whose storage is being asked.
fn resuming() -> (Session, ThreadId) {
    let thread = thread_id(1);
    let mut session = Session::new(user("me-1"));
    session.index(&[(thread, Seq(1))], &[]);
    assert_eq!(session.take_listen(), [thread]);
    session.listening(thread);
    assert_eq!(session.take_behind(9), [ResumeFrom { thread, position: None, unless_new: false }]);
    (session, thread)
}

#[test]
fn a_user_without_threads_is_caught_up_at_once() {
    let mut session = Session::new(user("me-1"));
    assert_eq!(session.pending(), 0, "not before the index is known");
    session.index(&[], &[]);
    assert_eq!(session.next_frame().map(|frame| frame.body), Some(FrameBody::CaughtUp));
    session.index(&[], &[]);
    assert_eq!(session.pending(), 0, "and only once");
}

#[test]
fn a_thread_that_the_stream_tells_of_before_the_index_is_waited_for() {
    let (mut session, thread) = (Session::new(user("alice")), thread_id(1));
    session.joined(thread, Seq(1));
    session.index(&[(thread, Seq(1))], &[]);
    assert_eq!(session.pending(), 0, "it was not replayed yet");
    session.listening(thread);
    session.take_behind(1);
    session.resumed(&Resumed {
        thread,
        events: vec![message(thread, 1)],
        position: at(1),
        more: false,
        gap: None,
        left: false,
    });
    let kinds: Vec<_> = std::iter::from_fn(|| session.next_frame()).map(|frame| frame.body).collect();
    assert!(matches!(kinds[..], [FrameBody::Event { .. }, FrameBody::CaughtUp]), "{kinds:?}");
}

#[test]
fn a_thread_that_was_left_is_asked_for_without_listening() {
    let (mut session, thread) = (Session::new(user("me-1")), thread_id(1));
    session.index(&[], &[(thread, Seq(3))]);
    assert_eq!(session.pending(), 0, "it was not replayed yet");
    assert!(session.take_listen().is_empty());
    assert_eq!(session.take_behind(9), [ResumeFrom { thread, position: None, unless_new: true }]);
    let events = vec![message(thread, 2), message(thread, 3)];
    session.resumed(&Resumed { thread, events, position: at(3), more: false, gap: None, left: true });
    let kinds: Vec<_> = std::iter::from_fn(|| session.next_frame()).map(|frame| frame.body).collect();
    assert!(matches!(kinds[..], [FrameBody::Event { .. }, FrameBody::Event { .. }, FrameBody::CaughtUp]), "{kinds:?}");
    assert!(session.take_heard().is_empty(), "nobody listens to it");
    assert!(session.known().eq([thread]), "its acknowledgement is to be written when the connection ends");
    let progress = session.ack(FrameSeq(2)).unwrap();
    assert_eq!(progress, [Progress { thread, delivered: Seq(3), position: Some(at(3)) }]);
}

#[test]
fn a_user_that_comes_back_to_a_thread_it_had_left_hears_it_again() {
    // The index says so before storage does, or after it.
    for told_by_storage in [false, true] {
        let (mut session, thread) = (Session::new(user("me-1")), thread_id(1));
        session.index(&[], &[(thread, Seq(2))]);
        assert_eq!(session.take_behind(9).len(), 1);
        let resumed = |n, left| {
            let events = vec![message(thread, n)];
            Resumed { thread, events, position: at(n), more: false, gap: None, left }
        };
        if told_by_storage {
            session.resumed(&resumed(3, false));
        } else {
            session.joined(thread, Seq(3));
            assert!(session.take_listen().is_empty(), "an answer is on its way, which would be taken for a later one");
            session.resumed(&resumed(2, true));
        }
        assert_eq!(session.take_listen(), [thread]);
        session.joined(thread, Seq(3));
        session.listening(thread);
        let position = Some(at(if told_by_storage { 3 } else { 2 }));
        assert_eq!(session.take_behind(9), [ResumeFrom { thread, position, unless_new: false }]);
        session.resumed(&resumed(3, false));
        session.live(&message(thread, 4));
        let told = std::iter::from_fn(|| session.next_frame()).filter_map(|frame| match frame.body {
            FrameBody::Event { event, .. } => event.seq,
            _ => None,
        });
        let first = if told_by_storage { 3 } else { 2 };
        assert!(told.eq((first..=4).map(Seq)));
    }
}

#[test]
fn reads_that_were_held_back_are_told_before_the_removal_and_acknowledged_with_it() {
    let (mut session, thread) = resuming();
    session.resumed(&Resumed { thread, events: vec![], position: at(1), more: false, gap: None, left: false });
    let kind = EventKind::Read { by: user("other"), deferred: true };
    let read = Arc::new(SharedEvent { rev: Rev(2), seq: None, kind, ..(*message(thread, 2)).clone() });
    session.live(&read);
    let (kind, position) = (EventKind::Thread { removed: Some(user("me-1")) }, Position { seq: Seq(2), rev: Rev(3) });
    let removal = Arc::new(SharedEvent { rev: Rev(3), seq: Some(Seq(2)), kind, ..(*message(thread, 2)).clone() });
    session.live(&removal);
    assert_eq!(session.take_behind(9), [ResumeFrom { thread, position: Some(at(1)), unless_new: false }]);
    session.resumed(&Resumed { thread, events: vec![read, removal], position, more: false, gap: None, left: true });
    let told = std::iter::from_fn(|| session.next_frame()).filter(|frame| frame.body != FrameBody::CaughtUp);
    let last = told.map(|frame| frame.seq).last().unwrap();
    assert_eq!(session.ack(last).unwrap()[0].position, Some(position));
}

#[test]
fn a_departure_without_news_is_forgotten() {
    let (mut session, thread) = (Session::new(user("me-1")), thread_id(1));
    session.index(&[], &[(thread, Seq(3))]);
    session.take_behind(9);
    let position = Position::default();
    session.resumed(&Resumed { thread, events: vec![], position, more: false, gap: None, left: true });
    assert_eq!(session.next_frame().map(|frame| frame.body), Some(FrameBody::CaughtUp));
    assert_eq!(session.known().count(), 0);
    // A new stay begins where storage says.
    session.joined(thread, Seq(5));
    session.take_listen();
    session.listening(thread);
    assert_eq!(session.take_behind(9), [ResumeFrom { thread, position: None, unless_new: false }]);
}

#[test]
fn an_index_older_than_the_stream_takes_no_muted_thread_away() {
    let (mut session, thread) = (Session::new(user("me-1")), thread_id(1));
    session.index(&[], &[]);
    session.narrow(BTreeSet::new());
    session.joined(thread, Seq(5));
    session.index(&[], &[]);
    session.narrow([thread].into());
    assert_eq!(session.take_listen(), [thread]);
    session.narrow(BTreeSet::new());
    session.listening(thread);
    session.left(thread, Seq(4));
    assert_eq!(session.threads().count(), 1, "that was an earlier stay");
    session.left(thread, Seq(6));
    session.narrow(BTreeSet::new());
    assert_eq!(session.threads().count(), 1, "storage says what it may still see");
}

#[test]
fn acknowledging_a_gap_delivers_what_it_covers_and_moves_no_position() {
    let (mut session, thread) = resuming();
    let gap = Gap { after_seq: Seq(0), after_id: None, before_id: MessageId(12_000) };
    let events = vec![message(thread, 11_001), message(thread, 11_002)];
    session.resumed(&Resumed { thread, events, position: at(11_002), more: false, gap: Some(gap), left: false });
    let bodies: Vec<_> = std::iter::from_fn(|| session.next_frame()).map(|frame| frame.body).collect();
    assert!(matches!(bodies[0], FrameBody::Gap { .. }));
    assert_eq!(bodies.len(), 4, "two messages and caught_up");
    let progress = session.ack(FrameSeq(1)).unwrap();
    assert_eq!(progress, [Progress { thread, delivered: Seq(11_000), position: None }]);
    let progress = session.ack(FrameSeq(3)).unwrap();
    assert_eq!(progress, [Progress { thread, delivered: Seq(11_002), position: Some(at(11_002)) }]);
}

#[test]
fn a_thread_busier_than_the_stash_is_asked_for_again_rather_than_held_in_memory() {
    let (mut session, thread) = resuming();
    for n in 1..=stash::EVENTS_MAX as u64 + 1 {
        session.live(&message(thread, n));
    }
    session.resumed(&Resumed { thread, events: vec![], position: at(0), more: false, gap: None, left: false });
    assert_eq!(session.take_behind(9), [ResumeFrom { thread, position: Some(at(0)), unless_new: false }]);
}

#[test]
fn large_events_fill_the_stash_sooner_and_none_behind_them_is_kept_alone() {
    let large = |thread, n| Arc::new(SharedEvent { body: vec![0; 90_000].into(), ..(*message(thread, n)).clone() });
    let ask = |more: &[Arc<SharedEvent>]| {
        let (mut session, thread) = resuming();
        session.live(&large(thread, 1));
        for event in more {
            session.live(event);
        }
        session.resumed(&Resumed { thread, events: vec![], position: at(0), more: false, gap: None, left: false });
        session.take_behind(9).len()
    };
    let (_, thread) = resuming();
    assert_eq!(ask(&[message(thread, 2)]), 0, "one large one and a small one are kept");
    assert_eq!(ask(&[large(thread, 2)]), 1, "two large ones are not");
    assert_eq!(ask(&[large(thread, 2), message(thread, 3)]), 1, "nor is what comes behind them");
}

#[test]
fn an_acknowledgement_of_the_last_frame_takes_what_was_stepped_over_too() {
    let (mut session, thread) = resuming();
    let events = vec![message(thread, 1)];
    session.resumed(&Resumed { thread, events, position: at(1), more: false, gap: None, left: false });
    let kind = EventKind::Delivered { by: user("me-1"), senders: None };
    let receipt = SharedEvent { rev: Rev(2), seq: None, kind, ..(*message(thread, 1)).clone() };
    session.live(&Arc::new(receipt));
    let progress = session.ack(FrameSeq(2)).unwrap();
    assert_eq!(progress[0].position, Some(Position { seq: Seq(1), rev: Rev(2) }));
}

#[test]
fn a_thread_that_was_removed_last_is_still_to_be_forgotten_when_the_connection_ends() {
    let (mut session, thread) = resuming();
    session.resumed(&Resumed { thread, events: vec![], position: at(1), more: false, gap: None, left: true });
    assert_eq!(session.threads().count(), 0);
    assert_eq!(session.take_heard(), [thread]);
}
