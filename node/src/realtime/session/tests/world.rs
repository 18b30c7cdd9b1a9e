//! The world of a session.
//!
//! It keeps, per thread, the true history. A lagging stream, a mailbox that overflows, a storage that answers late and in
//! pieces, leaves and joins, held-back reads and acknowledgements happen in any order; what the device was told is then
//! compared with the history.

use super::super::*;
use messenger_proto::ids::Rev;
use std::collections::{HashMap, HashSet};

pub(super) const THREADS: u8 = 3;
pub(super) const CHUNK: usize = 4;

pub(super) fn thread_id(n: u8) -> ThreadId {
    ThreadId([n % THREADS; 16])
}

pub(super) fn user(name: &str) -> UserId {
    UserId::new(name).unwrap()
}

#[derive(Debug, Clone)]
pub(super) enum Op {
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

pub(super) enum Mail {
    Event(Arc<SharedEvent>),
    Late(LateReads),
    Reset,
    User { thread: ThreadId, present: bool, source_seq: Seq },
}

#[derive(Default)]
pub(super) struct History {
    pub(super) events: Vec<Arc<SharedEvent>>,
    pub(super) seq: u64,
    /// `(first, last)` events that the user may see.
    pub(super) windows: Vec<(u64, Option<u64>)>,
    /// The next event that the stream gives.
    pub(super) stream: usize,
    /// Reads that the hub holds back.
    pub(super) held: Vec<Arc<SharedEvent>>,
    pub(super) heard: bool,
}

impl History {
    pub(super) fn append(&mut self, thread: ThreadId, event: bool, kind: EventKind) -> u64 {
        self.seq += u64::from(event);
        let (rev, seq) = (Rev(self.events.len() as u64 + 1), event.then_some(Seq(self.seq)));
        let (body, for_sender) = (Bytes::new(), Bytes::new());
        self.events.push(Arc::new(SharedEvent { thread, rev, seq, kind, body, for_sender, for_device: Bytes::new() }));
        self.seq
    }

    pub(super) fn member(&self) -> bool {
        self.windows.last().is_some_and(|(_, last)| last.is_none())
    }

    pub(super) fn visible(&self, seq: u64) -> bool {
        self.windows.iter().any(|(first, last)| *first <= seq && last.is_none_or(|last| seq <= last))
    }

    /// Whether a receipt that came after an event is in sight: one that follows the removal is not.
    pub(super) fn receipt_visible(&self, seq: u64) -> bool {
        self.windows.iter().any(|(first, last)| *first <= seq && last.is_none_or(|last| seq < last))
    }

    /// What storage tells from `position`, whole.
    pub(super) fn after(&self, me: &UserId, position: Option<Position>) -> Vec<Arc<SharedEvent>> {
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
    pub(super) fn end(&self) -> Position {
        let removed = self.windows.last().and_then(|(_, last)| *last).map(Seq);
        let removal = self.events.iter().find(|event| removed.is_some() && event.seq == removed);
        removal.map_or(Position { seq: Seq(self.seq), rev: Rev(self.events.len() as u64) }, |removal| {
            removal.position_after(Position::default())
        })
    }

    pub(super) fn resume(&self, me: &UserId, thread: ThreadId, position: Option<Position>) -> Resumed {
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
pub(super) struct Departure {
    pub(super) removed: u64,
    pub(super) known: bool,
}

#[derive(Default)]
pub(super) struct Device {
    pub(super) stored: HashMap<ThreadId, Position>,
    pub(super) acked: HashMap<ThreadId, Vec<Arc<SharedEvent>>>,
    pub(super) delivered: HashMap<ThreadId, u64>,
}

/// What the user's shard knows of its threads.
#[derive(Default)]
pub(super) struct Index {
    pub(super) present: Vec<(ThreadId, Seq)>,
    pub(super) left: Vec<(ThreadId, Seq)>,
}

pub(super) struct World {
    pub(super) me: UserId,
    pub(super) threads: HashMap<ThreadId, History>,
    pub(super) user_stream: VecDeque<(ThreadId, bool, Seq)>,
    pub(super) session: Session,
    pub(super) mail: VecDeque<Mail>,
    pub(super) lagged: BTreeSet<ThreadId>,
    pub(super) index_lagged: bool,
    pub(super) listening: VecDeque<ThreadId>,
    pub(super) answers: VecDeque<Resumed>,
    /// Answers of the index under way, older than what its stream tells meanwhile.
    pub(super) index_answers: VecDeque<Index>,
    pub(super) told: HashMap<ThreadId, Vec<(u64, Arc<SharedEvent>)>>,
    pub(super) frames: u64,
    pub(super) caught_up: u32,
    pub(super) device: Device,
}

impl World {
    pub(super) fn new() -> Self {
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
    pub(super) fn connect(&mut self) {
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

    pub(super) fn index(&self) -> Index {
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

    pub(super) fn change_membership(&mut self, thread: ThreadId, present: bool) {
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

    pub(super) fn emit(&mut self, thread: ThreadId) {
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

    pub(super) fn flush(&mut self, thread: ThreadId) {
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

    pub(super) fn overflow(&mut self) {
        match self.mail.pop_back() {
            Some(Mail::Event(event)) => drop(self.lagged.insert(event.thread)),
            Some(Mail::Late(late)) => drop(self.lagged.insert(late.thread)),
            Some(Mail::User { .. }) => self.index_lagged = true,
            Some(Mail::Reset) => self.mail.push_back(Mail::Reset),
            None => {}
        }
    }

    /// What the shell does first whenever it looks into the mailbox.
    pub(super) fn notice_losses(&mut self) {
        if std::mem::take(&mut self.index_lagged) {
            let index = self.index();
            self.session.index(&index.present, &index.left);
        }
        for thread in std::mem::take(&mut self.lagged) {
            self.session.lost(thread);
        }
    }

    pub(super) fn read_mail(&mut self) {
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

    pub(super) fn drain(&mut self) {
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

    pub(super) fn listen_done(&mut self, back: u8) {
        let Some(thread) = self.listening.pop_front() else { return };
        let history = self.threads.get_mut(&thread).unwrap();
        history.heard = true;
        history.stream = history.events.len().saturating_sub(usize::from(back));
        self.session.listening(thread);
    }

    pub(super) fn ask(&mut self, max: usize) {
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

    pub(super) fn ack(&mut self, frame: u64) {
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

    pub(super) fn run(&mut self, op: &Op) {
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

    pub(super) fn append(&mut self, thread: u8, event: bool, kind: EventKind) {
        let thread = thread_id(thread);
        self.threads.entry(thread).or_default().append(thread, event, kind);
    }

    /// Everything under way arrives; the network and the disks are fine from here on.
    pub(super) fn settle(&mut self) {
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
    pub(super) fn check_order(&self) {
        for (thread, told) in &self.told {
            let seqs: Vec<u64> = told.iter().filter_map(|(_, event)| event.seq).map(|seq| seq.0).collect();
            assert!(seqs.is_sorted_by(|a, b| a < b), "told twice or out of order: {seqs:?}");
            for seq in seqs {
                assert!(self.threads[thread].visible(seq), "event {seq} is outside the membership");
            }
        }
    }

    /// The threads that the user is not in, as they are now.
    pub(super) fn departures(&self) -> Vec<(ThreadId, Departure)> {
        let departure = |(thread, history): (&ThreadId, &History)| {
            let removed = history.windows.last()?.1?;
            Some((*thread, Departure { removed, known: self.device.stored.contains_key(thread) }))
        };
        self.threads.iter().filter_map(departure).collect()
    }

    /// Of threads that were left before the device came back, and not joined since, it heard what it had not taken if it
    /// had ever taken anything, and nothing otherwise.
    pub(super) fn check_departures(
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
    pub(super) fn check_complete(&self, before: &HashMap<ThreadId, Vec<Arc<SharedEvent>>>) {
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
