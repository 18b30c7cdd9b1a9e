//! ⑥ The live tail of a shard's stream.
//!
//! Owns: the last events that apply gave, in a ring bounded by bytes, and the subscribers that follow it.
//! Must not know: storage (a subscriber that fell behind resumes there itself), sessions, sockets.
//! Invariants: a subscriber sees every event published after its interest was in force, in order, or a
//! [`StreamItem::Reset`] in place of what it missed; publishing never waits.

use messenger_proto::event::Event;
use messenger_proto::ids::{ThreadId, UserId};
use messenger_proto::rpc::{InForce, InterestChange, Reset, StreamItem};
use messenger_proto::weight;
use std::collections::{HashSet, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::{mpsc, watch};

/// Changes of interest that may wait at a subscriber.
const INTEREST_QUEUE: usize = 256;
/// Items that may wait for a subscriber before it falls behind in the ring.
const ITEM_QUEUE: usize = 1024;

/// A shard's live tail; cheap to clone.
#[derive(Debug, Clone)]
pub struct Tail {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    ring: Mutex<Ring>,
    /// The ring's end, to wake subscribers.
    end: watch::Sender<u64>,
}

#[derive(Debug)]
struct Ring {
    /// Number of the first event held.
    first: u64,
    events: VecDeque<(Arc<Event>, usize)>,
    bytes: usize,
    capacity: usize,
    /// Bumped when events were skipped for everyone, as by an installed snapshot.
    generation: u64,
    /// Nothing comes any more.
    closed: bool,
}

impl Ring {
    fn end(&self) -> u64 {
        self.first + self.events.len() as u64
    }

    fn push(&mut self, event: Event) {
        let size = weight::of_event(&event);
        self.events.push_back((Arc::new(event), size));
        self.bytes += size;
        while self.bytes > self.capacity
            && let Some((_, size)) = self.events.pop_front()
        {
            self.bytes -= size;
            self.first += 1;
        }
    }
}

/// What a subscriber wants to hear.
#[derive(Debug, Default)]
struct Interest {
    threads: HashSet<ThreadId>,
    users: HashSet<UserId>,
}

impl Interest {
    fn change(&mut self, change: InterestChange) -> u64 {
        for thread in &change.remove_threads {
            self.threads.remove(thread);
        }
        for user in &change.remove_users {
            self.users.remove(user);
        }
        self.threads.extend(change.add_threads);
        self.users.extend(change.add_users);
        change.version
    }

    fn wants(&self, event: &Event) -> bool {
        match event {
            Event::Thread(event) => self.threads.contains(&event.thread),
            Event::User(event) => self.users.contains(&event.user),
            Event::Device(event) => self.users.contains(&event.user),
            Event::Suspension(event) => self.users.contains(&event.user),
            Event::PrekeysLow(event) => self.users.contains(&event.user),
            Event::MemberDevices(event) => self.threads.contains(&event.thread),
        }
    }
}

/// Both ends of a subscription: changes of interest in, items out.
pub type Subscriber = (mpsc::Sender<InterestChange>, mpsc::Receiver<StreamItem>);

impl Tail {
    /// A tail that holds at most about `capacity` bytes of events.
    #[must_use]
    pub fn new(capacity: usize) -> Self {
        let ring = Ring { first: 0, events: VecDeque::new(), bytes: 0, capacity, generation: 0, closed: false };
        Self { shared: Arc::new(Shared { ring: Mutex::new(ring), end: watch::Sender::new(0) }) }
    }

    fn ring(&self) -> std::sync::MutexGuard<'_, Ring> {
        // A ring is consistent between any two statements.
        self.shared.ring.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Appends events, in order.
    pub fn publish(&self, events: Vec<Event>) {
        if events.is_empty() || self.shared.end.receiver_count() == 0 {
            return;
        }
        let end = {
            let mut ring = self.ring();
            for event in events {
                ring.push(event);
            }
            ring.end()
        };
        self.shared.end.send_replace(end);
    }

    /// Tells every subscriber that it may have missed events.
    pub fn reset(&self) {
        let end = {
            let mut ring = self.ring();
            ring.first = ring.end();
            ring.events.clear();
            ring.bytes = 0;
            ring.generation += 1;
            ring.end()
        };
        self.shared.end.send_replace(end);
    }

    /// Ends every subscription: subscribers look for another replica.
    pub fn close(&self) {
        let end = {
            let mut ring = self.ring();
            ring.closed = true;
            ring.end()
        };
        self.shared.end.send_replace(end);
    }

    /// Follows the tail from here on. The task behind it ends when either end is dropped.
    #[must_use]
    pub fn subscribe(&self) -> Subscriber {
        let (interest, changes) = mpsc::channel(INTEREST_QUEUE);
        (interest, self.follow(changes))
    }

    /// [`Tail::subscribe`] for a caller that has the channel for changes.
    #[must_use]
    pub fn follow(&self, changes: mpsc::Receiver<InterestChange>) -> mpsc::Receiver<StreamItem> {
        let (item_sender, item_receiver) = mpsc::channel(ITEM_QUEUE);
        let woken = self.shared.end.subscribe();
        let (next, generation) = {
            let ring = self.ring();
            (ring.end(), ring.generation)
        };
        let follower =
            Follower { tail: self.clone(), next, generation, interest: Interest::default(), items: item_sender };
        tokio::spawn(follower.run(changes, woken));
        item_receiver
    }
}

struct Follower {
    tail: Tail,
    next: u64,
    generation: u64,
    interest: Interest,
    items: mpsc::Sender<StreamItem>,
}

/// The subscriber is gone.
struct Gone;

impl Follower {
    async fn run(mut self, mut changes: mpsc::Receiver<InterestChange>, mut woken: watch::Receiver<u64>) {
        loop {
            tokio::select! {
                biased;
                change = changes.recv() => {
                    let Some(change) = change else { return };
                    let version = self.interest.change(change);
                    if self.items.send(StreamItem::InForce(InForce { version })).await.is_err() {
                        return;
                    }
                }
                _ = woken.changed() => {
                    if self.forward(&mut changes).await.is_err() {
                        return;
                    }
                }
                () = self.items.closed() => return,
            }
        }
    }

    /// Sends what is in the ring, yielding to changes of interest between events.
    async fn forward(&mut self, changes: &mut mpsc::Receiver<InterestChange>) -> Result<(), Gone> {
        loop {
            let batch = match self.take() {
                Taken::Reset => {
                    self.items.send(StreamItem::Reset(Reset {})).await.map_err(|_| Gone)?;
                    continue;
                }
                Taken::Closed => return Err(Gone),
                Taken::Events(batch) if batch.is_empty() => return Ok(()),
                Taken::Events(batch) => batch,
            };
            for event in batch {
                while let Ok(change) = changes.try_recv() {
                    let version = self.interest.change(change);
                    self.items.send(StreamItem::InForce(InForce { version })).await.map_err(|_| Gone)?;
                }
                if self.interest.wants(&event) {
                    let event = Arc::unwrap_or_clone(event);
                    self.items.send(StreamItem::Event(event)).await.map_err(|_| Gone)?;
                }
            }
        }
    }

    fn take(&mut self) -> Taken {
        const BATCH: usize = 64;
        let ring = self.tail.ring();
        if ring.closed {
            return Taken::Closed;
        }
        if self.generation != ring.generation || self.next < ring.first {
            self.generation = ring.generation;
            self.next = ring.end();
            return Taken::Reset;
        }
        // The difference is at most the ring's length.
        let skip = (self.next - ring.first) as usize;
        let batch: Vec<_> = ring.events.iter().skip(skip).take(BATCH).map(|(event, _)| Arc::clone(event)).collect();
        drop(ring);
        self.next += batch.len() as u64;
        Taken::Events(batch)
    }
}

enum Taken {
    Closed,
    Reset,
    Events(Vec<Arc<Event>>),
}

#[cfg(test)]
mod tests {
    use super::*;
    use messenger_proto::event::UserEvent;
    use messenger_proto::ids::Seq;

    fn event(user: &str, seq: u64) -> Event {
        Event::User(UserEvent {
            user: UserId::new(user).unwrap(),
            thread: ThreadId([1; 16]),
            present: true,
            source_seq: Seq(seq),
        })
    }

    fn interest(version: u64, user: &str) -> InterestChange {
        InterestChange {
            version,
            add_threads: vec![],
            remove_threads: vec![],
            add_users: vec![UserId::new(user).unwrap()],
            remove_users: vec![],
        }
    }

    #[tokio::test]
    async fn a_subscriber_hears_what_it_asked_for_in_order() {
        let tail = Tail::new(1 << 20);
        let (changes, mut items) = tail.subscribe();
        changes.send(interest(1, "a")).await.unwrap();
        assert_eq!(items.recv().await, Some(StreamItem::InForce(InForce { version: 1 })));
        tail.publish(vec![event("a", 1), event("b", 2), event("a", 3)]);
        assert_eq!(items.recv().await, Some(StreamItem::Event(event("a", 1))));
        assert_eq!(items.recv().await, Some(StreamItem::Event(event("a", 3))));
    }

    #[tokio::test]
    async fn one_that_fell_behind_or_was_skipped_is_told_so() {
        let tail = Tail::new(1024); // four events
        let (changes, mut items) = tail.subscribe();
        changes.send(interest(1, "a")).await.unwrap();
        items.recv().await.unwrap();
        tail.publish((0..20).map(|seq| event("a", seq)).collect());
        assert_eq!(items.recv().await, Some(StreamItem::Reset(Reset {})));
        tail.publish(vec![event("a", 20)]);
        assert_eq!(items.recv().await, Some(StreamItem::Event(event("a", 20))));
        tail.reset();
        assert_eq!(items.recv().await, Some(StreamItem::Reset(Reset {})));
    }

    #[tokio::test]
    async fn a_tail_that_ends_ends_its_subscriptions() {
        let tail = Tail::new(1024);
        let (changes, mut items) = tail.subscribe();
        changes.send(interest(1, "a")).await.unwrap();
        items.recv().await.unwrap();
        tail.close();
        assert_eq!(items.recv().await, None);
        let (_changes, mut items) = tail.subscribe();
        tail.close();
        assert_eq!(items.recv().await, None);
    }

    #[tokio::test]
    async fn the_follower_ends_with_its_subscriber() {
        let tail = Tail::new(1024);
        let (changes, items) = tail.subscribe();
        drop(items);
        changes.closed().await;
        let (changes, mut items) = tail.subscribe();
        drop(changes);
        assert_eq!(items.recv().await, None);
    }
}
