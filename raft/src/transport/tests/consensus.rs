//! The consensus core itself, over links: replication, failover, handover, catching up.

use super::fixture::{Echo, identity, peer, soon};
use super::memory::*;
use crate::clock::HybridClock;
use crate::transport::*;
use crate::types::{GroupId, PackBytes, TypeConfig};
use bytes::Bytes;
use messenger_proto::ids::NodeId;
use openraft::errors::ForwardToLeader;
use openraft::{BasicNode, Config, Raft, SnapshotPolicy};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

const GROUP: GroupId = GroupId(1);

type Replica = Raft<TypeConfig, MemoryMachine>;

struct OneGroup {
    replica: Replica,
    snapshots: MemorySnapshots,
}

impl Groups for OneGroup {
    type Port = Replica;
    type Snapshots = MemorySnapshots;

    fn port(&self, group: GroupId) -> Option<Replica> {
        (group == GROUP).then(|| self.replica.clone())
    }

    fn snapshots(&self) -> &MemorySnapshots {
        &self.snapshots
    }
}

struct Member {
    replica: Replica,
    log: MemoryLog,
    machine: MemoryMachine,
    links: Links,
    stop: CancellationToken,
}

impl Member {
    async fn start(node: u64, listener: TcpListener, peers: watch::Receiver<Arc<Peers>>) -> Self {
        let config = Config {
            heartbeat_interval: 100,
            election_timeout_min: 800,
            election_timeout_max: 1_200,
            enable_pre_vote: Some(true),
            max_in_snapshot_log_to_keep: 0,
            snapshot_policy: SnapshotPolicy::Never,
            max_payload_entries: 16,
            ..Config::default()
        };
        let (clock, settings) = (HybridClock::system(), TransportConfig::default());
        let (log, machine) = (MemoryLog::default(), MemoryMachine::default());
        let links = Links::start(identity(node), clock.clone(), peers.clone(), settings.clone());
        let network = GroupNetwork::new(links.clone(), GROUP, Arc::new(MemorySnapshots(machine.clone())));
        let config = Arc::new(config.validate().unwrap());
        let replica = Raft::new(node, config, network, log.clone(), machine.clone()).await.unwrap();
        let groups = OneGroup { replica: replica.clone(), snapshots: MemorySnapshots(machine.clone()) };
        let server =
            PeerServer::new(identity(node), clock, peers, Arc::new(groups), Arc::new(Echo::default()), settings);
        let stop = CancellationToken::new();
        tokio::spawn(server.serve(listener, stop.clone()));
        Self { replica, log, machine, links, stop }
    }

    async fn die(&self) {
        self.stop.cancel();
        self.links.shutdown();
        self.replica.shutdown().await.unwrap();
    }

    async fn applied(&self, count: usize) {
        let mut applied = self.machine.applied.subscribe();
        let reached = applied.wait_for(|applied| *applied >= count);
        tokio::time::timeout_at(soon(), reached).await.expect("applied in time").unwrap();
    }
}

async fn cluster(count: u64) -> BTreeMap<u64, Member> {
    let mut listeners = BTreeMap::new();
    for node in 1..=count {
        listeners.insert(node, TcpListener::bind("127.0.0.1:0").await.unwrap());
    }
    let peers: Peers = listeners
        .iter()
        .map(|(node, listener)| (NodeId(*node), peer(&listener.local_addr().unwrap().to_string())))
        .collect();
    let (_sender, peers) = watch::channel(Arc::new(peers));
    let mut members = BTreeMap::new();
    for (node, listener) in listeners {
        members.insert(node, Member::start(node, listener, peers.clone()).await);
    }
    members
}

async fn found(members: &BTreeMap<u64, Member>, voters: &[u64]) {
    let voters: BTreeMap<u64, BasicNode> = voters.iter().map(|node| (*node, BasicNode::default())).collect();
    members[&1].replica.initialize(voters).await.unwrap();
}

/// The leader that `witness` knows, once it is one of `among`.
async fn leader(members: &BTreeMap<u64, Member>, witness: u64, among: &[u64]) -> u64 {
    let wait = members[&witness].replica.wait(Some(Duration::from_secs(20)));
    let is_one = |leader: Option<u64>| leader.is_some_and(|leader| among.contains(&leader));
    let metrics = wait.metrics(|metrics| is_one(metrics.current_leader), "a leader").await.unwrap();
    metrics.current_leader.unwrap()
}

/// Writes packs through the leader; a leader whose lease has yet to be confirmed is asked again.
async fn write(member: &Member, packs: std::ops::Range<usize>, size: usize) {
    let writes = packs.map(|number| {
        let mut bytes = vec![0; size];
        bytes[..8].copy_from_slice(&(number as u64).to_be_bytes());
        let (replica, bytes) = (member.replica.clone(), Bytes::from(bytes));
        async move {
            loop {
                match replica.client_write(PackBytes(bytes.clone())).await {
                    Ok(_) => return,
                    Err(error) => {
                        let forward: Option<&ForwardToLeader<TypeConfig>> = error.forward_to_leader();
                        assert!(forward.is_some_and(|to| to.leader_id.is_none()), "pack {number}: {error}");
                        tokio::time::sleep(Duration::from_millis(5)).await;
                    }
                }
            }
        }
    });
    let all = futures_util::future::join_all(writes);
    tokio::time::timeout_at(soon(), all).await.expect("written in time");
}

fn numbers(packs: &[Bytes]) -> Vec<u64> {
    packs.iter().map(|pack| u64::from_be_bytes(pack[..8].try_into().unwrap())).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_group_replicates_fails_over_and_goes_on() {
    let members = cluster(3).await;
    found(&members, &[1, 2, 3]).await;
    let first = leader(&members, 2, &[1, 2, 3]).await;
    write(&members[&first], 0..2_000, 400).await;
    for member in members.values() {
        member.applied(2_000).await;
    }
    let expected = members[&first].machine.packs();
    assert!(members.values().all(|member| member.machine.packs() == expected));

    members[&first].die().await;
    let rest: Vec<u64> = (1..=3).filter(|node| *node != first).collect();
    let second = leader(&members, rest[0], &rest).await;
    write(&members[&second], 2_000..2_500, 400).await;
    for node in rest {
        members[&node].applied(2_500).await;
        let mut numbers = numbers(&members[&node].machine.packs());
        numbers.sort_unstable();
        assert_eq!(numbers, (0..2_500).collect::<Vec<_>>());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn leadership_is_handed_over() {
    let members = cluster(3).await;
    found(&members, &[1, 2, 3]).await;
    let first = leader(&members, 1, &[1, 2, 3]).await;
    write(&members[&first], 0..10, 400).await;
    let heir = first % 3 + 1;
    members[&first].replica.trigger().transfer_leader(heir).await.unwrap();
    assert_eq!(leader(&members, first, &[heir]).await, heir);
    assert_eq!(leader(&members, heir, &[heir]).await, heir);
    write(&members[&heir], 10..20, 400).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_newcomer_catches_up_by_snapshot_and_then_by_log() {
    let members = cluster(3).await;
    found(&members, &[1]).await;
    leader(&members, 1, &[1]).await;
    write(&members[&1], 0..300, 20_000).await;
    let replica = &members[&1].replica;
    replica.trigger().snapshot().await.unwrap();
    let wait = replica.wait(Some(Duration::from_secs(20)));
    let built = wait.metrics(|metrics| metrics.snapshot.is_some(), "a snapshot").await.unwrap();
    let at = built.snapshot.unwrap().index;
    replica.trigger().purge_log(at).await.unwrap();
    wait.metrics(|metrics| metrics.purged.is_some_and(|purged| purged.index == at), "purged").await.unwrap();
    write(&members[&1], 300..400, 20_000).await;

    for node in [2, 3] {
        replica.add_learner(node, BasicNode::default(), true).await.unwrap();
        members[&node].applied(400).await;
        assert_eq!(members[&node].machine.packs(), members[&1].machine.packs());
        assert!(members[&node].log.first() > Some(at), "the purged entries came by snapshot");
    }
    replica.change_membership([1, 2, 3], false).await.unwrap();
    write(&members[&1], 400..500, 400).await;
    members[&3].applied(500).await;
}
