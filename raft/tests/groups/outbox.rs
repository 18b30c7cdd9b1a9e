//! What becomes of rows for other shards, some of which do not answer.
//!
//! Owns: that a shard that does not answer is not tried without pause, and holds back no other.

use crate::fixture::{Node, SHARD, World, addresses, send, user};
use crate::leadership::leader;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use messenger_proto::command::{Command, CreateThread, IndexMembership, Op, Retention, SendMessage};
use messenger_proto::error::{ErrorCode, Refusal};
use messenger_proto::event::ThreadEventBody;
use messenger_proto::ids::{CommandId, DeviceId, KeyId, Millis, RegistrationId, Seq, ShardId, ThreadId, UserId};
use messenger_proto::keys::{Prekey, PublishKeys, PublishedKeys};
use messenger_proto::model::ThreadKind;
use messenger_proto::profile::Profile;
use messenger_proto::query::{Answer, HistoryQuery, HistoryRange, Query, ResumeFrom, ResumeQuery, SeqBound};
use messenger_proto::rpc::{ShardCall, ShardOutcome, ShardRequest};
use messenger_raft::group::outbox::{CrossShard, NotArrived};
use messenger_raft::group::timing::Timing;
use messenger_raft::types::GroupId;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use tokio::time::{Duration, Instant, timeout};

const WITHIN: Duration = Duration::from_secs(30);

/// Two shards: one that answers, and the dead's, which refuses at once or never answers at all.
#[derive(Default)]
struct TwoShards {
    hangs: bool,
    revived: AtomicBool,
    tries_of_dead: AtomicUsize,
    /// Profiles that are not taken, before they are.
    deaf: AtomicUsize,
    told: Mutex<Vec<(UserId, u64, Vec<ThreadId>)>>,
    /// What the dead's shard says of them.
    profile: Mutex<Option<Profile>>,
}

fn is_dead(user: &UserId) -> bool {
    user.as_str().starts_with("dead")
}

impl CrossShard for TwoShards {
    fn shard_of(&self, user: &UserId) -> Option<ShardId> {
        Some(ShardId(u32::from(is_dead(user))))
    }

    fn deliver(&self, change: IndexMembership) -> BoxFuture<'_, Result<Option<Profile>, NotArrived>> {
        if !is_dead(&change.user) {
            return async { Ok(None) }.boxed();
        }
        if self.revived.load(Ordering::Relaxed) {
            let profile = self.profile.lock().unwrap().clone();
            return async { Ok(profile) }.boxed();
        }
        self.tries_of_dead.fetch_add(1, Ordering::Relaxed);
        if self.hangs {
            return std::future::pending().boxed();
        }
        async { Err(Refusal::new(ErrorCode::Unavailable, "no leader").into()) }.boxed()
    }

    fn tell(&self, user: UserId, profile: Profile, threads: Vec<ThreadId>) -> BoxFuture<'_, Result<(), NotArrived>> {
        if self.deaf.load(Ordering::Relaxed) > 0 {
            self.deaf.fetch_sub(1, Ordering::Relaxed);
            return async { Err(Refusal::new(ErrorCode::Unavailable, "no leader").into()) }.boxed();
        }
        self.told.lock().unwrap().push((user, profile.version, threads));
        async { Ok(()) }.boxed()
    }
}

async fn alone(directory: &Path, cross: &Arc<TwoShards>) -> Node {
    let addresses = addresses().await;
    let world = World { cross: Arc::clone(cross) as _, ..World::default() };
    Node::start_with(1, directory, &addresses[..1], Timing::default(), world).await
}

/// Makes a thread; resolves once its members' shards know.
async fn create(node: &Node, number: u16, others: Vec<UserId>) -> ShardOutcome {
    let mut thread = [0; 16];
    thread[..2].copy_from_slice(&number.to_be_bytes());
    let op = Op::CreateThread(CreateThread {
        thread: ThreadId(thread),
        kind: ThreadKind::Group,
        creator: user("alice"),
        others,
        title: None,
        description: None,
    });
    let command = Command { id: CommandId(thread), retention: Retention::Minted, body_hash: 1, op };
    let request = ShardRequest { shard: SHARD, deadline_ms: 60_000, call: ShardCall::Command(command) };
    node.host.call(GroupId::of_shard(SHARD), &request).await.expect("the leader stays")
}

/// Leaves rows that can't be delivered, named so that they are read before all others.
async fn leave_dead_rows(node: &Node, threads: u16, each: u16) {
    let replica = node.host.shard(SHARD).unwrap();
    let rows = || messenger_raft::machine::outbox_scan(&replica.reader().view(), None, 10_000).unwrap().len();
    for thread in 0..threads {
        let others = (0..each).map(|n| user(&format!("dead{n}"))).collect();
        let expected = usize::from(thread + 1) * usize::from(each);
        let there = async {
            while rows() < expected {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        // The answer waits for rows that stay.
        tokio::select! {
            answered = create(node, thread, others) => panic!("{answered:?}"),
            there = timeout(WITHIN, there) => there.expect("the thread is made"),
        }
    }
}

async fn create_live(node: &Node, number: u16) {
    let created = timeout(WITHIN, create(node, number, vec![user("bob")])).await;
    assert!(matches!(created, Ok(ShardOutcome::Reply(_))), "held back: {created:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_shard_that_fails_is_tried_ever_more_rarely_while_others_are_served() {
    let (directory, cross) = (tempfile::tempdir().unwrap(), Arc::new(TwoShards::default()));
    let nodes = [alone(directory.path(), &cross).await];
    let node = leader(&nodes).await;
    let begun = Instant::now();
    leave_dead_rows(node, 1, 1).await;
    for number in 100..300 {
        create_live(node, number).await;
    }
    let tries = cross.tries_of_dead.load(Ordering::Relaxed);
    // After 20, 40, 80, 160, 320, 640 ms, and then every second.
    let most = 8 + begun.elapsed().as_secs() as usize;
    assert!((1..=most).contains(&tries), "{tries} tries in {:?}", begun.elapsed());

    cross.revived.store(true, Ordering::Relaxed);
    let replica = node.host.shard(SHARD).unwrap();
    let empty = async {
        while !messenger_raft::machine::outbox_scan(&replica.reader().view(), None, 1).unwrap().is_empty() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(WITHIN, empty).await.expect("what waited arrives once its shard answers");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_shard_that_hangs_holds_back_no_other() {
    let cross = Arc::new(TwoShards { hangs: true, ..TwoShards::default() });
    let directory = tempfile::tempdir().unwrap();
    let nodes = [alone(directory.path(), &cross).await];
    let node = leader(&nodes).await;
    leave_dead_rows(node, 1, 10).await;
    for number in 100..110 {
        create_live(node, number).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn more_rows_than_are_read_at_once_hold_back_none_behind_them() {
    let (directory, cross) = (tempfile::tempdir().unwrap(), Arc::new(TwoShards::default()));
    let nodes = [alone(directory.path(), &cross).await];
    let node = leader(&nodes).await;
    leave_dead_rows(node, 3, 200).await;
    for number in 100..110 {
        create_live(node, number).await;
    }
}

async fn run(node: &Node, id: u8, op: Op) -> ShardOutcome {
    let command = Command { id: CommandId([id; 16]), retention: Retention::Minted, body_hash: 1, op };
    let request = ShardRequest { shard: SHARD, deadline_ms: 60_000, call: ShardCall::Command(command) };
    node.host.call(GroupId::of_shard(SHARD), &request).await.expect("the leader stays")
}

fn publish(name: &str) -> Op {
    let key = Prekey { id: KeyId(1), public_key: "key".into(), signature: None };
    let keys = PublishedKeys {
        registration: RegistrationId(1),
        identity_key: "identity".into(),
        signed_prekey: key,
        one_time: Vec::new(),
        pq_one_time: Vec::new(),
        last_resort: None,
        pq_last_resort: None,
    };
    let device = DeviceId::new(name).unwrap();
    let issued_at = Millis(u64::MAX);
    Op::PublishKeys(PublishKeys { user: user("bob"), device, issued_at, keys: Box::new(keys) })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn threads_are_told_of_a_users_devices_before_the_answer_and_as_often_as_it_takes() {
    let (directory, cross) = (tempfile::tempdir().unwrap(), Arc::new(TwoShards::default()));
    cross.deaf.store(3, Ordering::Relaxed);
    let nodes = [alone(directory.path(), &cross).await];
    let node = leader(&nodes).await;
    let thread = ThreadId([7; 16]);
    let member = IndexMembership { user: user("bob"), thread, source_seq: Seq(1), present: true };
    run(node, 1, Op::IndexMembership(member)).await;
    for (version, name) in [(1, "phone"), (2, "tablet")] {
        let answered = timeout(WITHIN, run(node, 1 + version, publish(name))).await;
        assert!(matches!(answered, Ok(ShardOutcome::Reply(_))), "{answered:?}");
        assert_eq!(cross.told.lock().unwrap().last(), Some(&(user("bob"), u64::from(version), vec![thread])));
    }
    let replica = node.host.shard(SHARD).unwrap();
    assert_eq!(messenger_raft::machine::profiles_due(&replica.reader().view(), None, 9).unwrap(), []);
}

/// What a member reads of a thread, and what its device is told of it, within a time.
async fn reads(node: &Node, member: &str, thread: ThreadId, deadline_ms: u32) -> [ShardOutcome; 2] {
    let (viewer, device) = (user(member), DeviceId::new("phone").unwrap());
    let from = ResumeFrom { thread, position: None, unless_new: false };
    let (user, threads) = (viewer.clone(), vec![from]);
    let resume = ResumeQuery { user, device: device.clone(), threads, last_seen: None, max_bytes: 1 << 20 };
    let range = HistoryRange::NewestBefore(SeqBound { seq: Seq(0) });
    let history = HistoryQuery { thread, viewer, device, range, limit: 9 };
    let ask = |query: Query| async move {
        let request = ShardRequest { shard: SHARD, deadline_ms, call: ShardCall::Query(query) };
        node.host.call(GroupId::of_shard(SHARD), &request).await.expect("the leader stays")
    };
    [ask(Query::History(history)).await, ask(Query::Resume(resume)).await]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_reads_nothing_before_its_shard_has_said_whom_it_keeps_away() {
    let (directory, cross) = (tempfile::tempdir().unwrap(), Arc::new(TwoShards::default()));
    let blocks = vec![user("alice")];
    *cross.profile.lock().unwrap() = Some(Profile { version: 3, devices_version: 0, devices: Vec::new(), blocks });
    let nodes = [alone(directory.path(), &cross).await];
    let node = leader(&nodes).await;
    leave_dead_rows(node, 1, 1).await;
    let thread = ThreadId([0; 16]);
    let Op::SendMessage(send) = send(1).op else { panic!("it sends") };
    let said = run(node, 50, Op::SendMessage(SendMessage { thread, sender: user("alice"), ..send })).await;
    assert!(matches!(said, ShardOutcome::Reply(_)), "{said:?}");
    for refused in reads(node, "dead0", thread, 400).await {
        let ShardOutcome::Refused(refusal) = refused else { panic!("{refused:?}") };
        assert_eq!(refusal.code, ErrorCode::Unavailable);
    }
    let [ShardOutcome::Answer(Answer::Messages(page)), _] = reads(node, "alice", thread, 60_000).await else {
        panic!("others read on");
    };
    assert_eq!(page.messages.len(), 1);
    // Those who ask meanwhile are answered as soon as it has.
    let (answers, ()) = tokio::join!(reads(node, "dead0", thread, 60_000), async {
        cross.revived.store(true, Ordering::Relaxed);
    });
    let [ShardOutcome::Answer(Answer::Messages(page)), ShardOutcome::Answer(Answer::Resume(resumed))] = answers else {
        panic!("{answers:?}");
    };
    let told = resumed.threads[0].events.iter().filter(|event| matches!(event.body, ThreadEventBody::Message(_)));
    assert_eq!((page.messages.len(), told.count()), (0, 0), "he keeps her away");
}
