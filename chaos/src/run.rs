//! One run: a load, faults meanwhile, and the record of it all.
//!
//! Owns: setting the stage, starting the actors, and reading every thread from every node in the end.
//! Must not know: what is right; the oracle judges.

use crate::actors::{Cast, Stage};
use crate::faults::{self, Fault};
use crate::history::changes::{Event, What};
use crate::history::{Clock, Ear, Glance, Heard, Origin, Record, Replica, Stored, Thread};
use crate::listener::{Ends, Hearing, Listener};
use crate::sender::Sender;
use crate::workload::{Actor, Seed, Shape};
use messenger_tests::cluster::Cluster;
use messenger_tests::device::{Device, number, text, text_of};
use messenger_tests::wait;
use rand::RngExt;
use rand::rngs::StdRng;
use serde_json::Value;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;

/// How long the load runs on after the last fault, on a cluster that is whole again.
const AFTERMATH: Duration = Duration::from_secs(1);
/// Between two looks of one reader.
const LOOKS: Duration = Duration::from_millis(40);

/// Runs a load under faults and records it.
pub async fn record(cluster: &Arc<Cluster>, shape: Shape, seed: Seed, plan: &[Fault<'_>]) -> Record {
    let clock = Clock::start();
    let users: Vec<String> = (0..shape.users).map(|n| format!("user-{n}")).collect();
    let threads: Arc<[Thread]> = stage(cluster, shape, &users).await.into();
    let scene = Stage::new(cluster, seed, clock);
    let cast = Cast::start(&scene, &users, &threads).await;
    let (tell_ends, ends) = watch::channel::<Ends>(None);

    let mut listeners = Vec::new();
    let mut senders = Vec::new();
    for (n, user) in users.iter().enumerate() {
        let listener = Listener::new(cluster, user, seed.actor(Actor::Listener, n));
        listeners.push(tokio::spawn(listener.run(ends.clone())));
        let sender = Sender::new(cluster, user, seed.actor(Actor::Sender, n), clock);
        let (threads, scene) = (threads.clone(), scene.clone());
        senders.push(tokio::spawn(async move { sender.run(&threads, &scene).await }));
    }
    let mut readers = Vec::new();
    for n in 0..shape.readers {
        let device = cluster.device(1, &users[n % users.len()], "eye");
        let through = cluster.nodes().map(|node| device.at(cluster.client_addr(node))).collect();
        let random = seed.actor(Actor::Reader, n);
        readers.push(tokio::spawn(look(through, threads.clone(), scene.clone(), random)));
    }

    let mut random = seed.actor(Actor::Fault, 0);
    for fault in plan {
        faults::strike(cluster, *fault, &mut random).await;
    }
    tokio::time::sleep(AFTERMATH).await;
    scene.wait_for_some().await;
    scene.stop();

    let mut record = Record::default();
    for sender in senders {
        record.sends.extend(sender.await.expect("a sender comes to its end"));
    }
    for reader in readers {
        record.glances.extend(reader.await.expect("a reader comes to its end"));
    }
    cast.finish(&scene, &mut record).await;
    record.told = told(cluster, &users[0], &threads).await;
    record.replicas = settled(cluster).await;
    tell_ends.send_replace(Some(ends_of(&record, &threads)));
    for (listener, user) in listeners.into_iter().zip(users) {
        let heard = listener.await.expect("a listener comes to its end");
        note(&mut record, &Ear { user, device: "ear".into() }, &threads, heard);
    }
    record
}

/// How far each thread goes, going by the first node.
fn ends_of(record: &Record, threads: &[Thread]) -> BTreeMap<Thread, u64> {
    let last = |thread: &Thread| record.history(thread).last().map_or(0, |stored| stored.seq);
    let changed = |thread: &Thread| record.changes.last_told(thread).map_or(0, |told| told.last_seq);
    let plain = threads.iter().map(|thread| (thread.clone(), last(thread)));
    plain.chain(record.changes.threads.keys().map(|thread| (thread.clone(), changed(thread)))).collect()
}

/// Notes what a device heard: of threads that nobody changes, the messages alone.
fn note(record: &mut Record, ear: &Ear, threads: &[Thread], hearing: Hearing) {
    let Hearing { events: mut heard, receipts } = hearing;
    record.receipts.heard.insert(ear.clone(), receipts);
    let message = |Event { connection, seq, what }| match what {
        What::Message { id, .. } => Some(Heard { connection, id, seq }),
        _ => None,
    };
    for thread in threads {
        let messages = heard.remove(thread).unwrap_or_default().into_iter().filter_map(message).collect();
        record.heard.insert((ear.clone(), thread.clone()), messages);
    }
    for thread in record.changes.threads.keys() {
        let events = heard.remove(thread).unwrap_or_default();
        record.changes.heard.insert((ear.clone(), thread.clone()), events);
    }
}

/// Makes the threads, all members in each, so that nothing but messages takes a number afterwards.
async fn stage(cluster: &Cluster, shape: Shape, users: &[String]) -> Vec<Thread> {
    let owner = cluster.device(1, &users[0], "hand");
    let others: Vec<&str> = users[1..].iter().map(String::as_str).collect();
    let mut threads = Vec::new();
    for n in 0..shape.threads {
        threads.push(owner.group(&format!("thread {n}"), &others).await);
    }
    threads
}

/// Looks at the ends of random threads through random nodes.
async fn look(through: Vec<Device>, threads: Arc<[Thread]>, scene: Stage, mut random: StdRng) -> Vec<Glance> {
    let mut glances = Vec::new();
    while scene.goes_on() {
        let device = &through[random.random_range(0..through.len())];
        let thread = &threads[random.random_range(0..threads.len())];
        let began = scene.clock.now();
        let path = format!("/v1/threads/{thread}/messages?page_size=1");
        let answer = device.try_call(http::Method::GET, &path, &[], "").await;
        if let Some(page) = answer.ok().filter(|answer| answer.status == 200).map(|answer| answer.json()) {
            let newest = page["messages"][0]["seq"].as_u64().unwrap_or(0);
            glances.push(Glance { thread: thread.clone(), began, newest });
        }
        tokio::time::sleep(LOOKS).await;
    }
    glances
}

/// Every thread's whole history, as every node tells it to one of its members.
///
/// # Panics
/// When a node does not answer in the end.
pub async fn told(cluster: &Cluster, viewer: &str, threads: &[Thread]) -> BTreeMap<Thread, BTreeMap<u16, Vec<Stored>>> {
    let device = cluster.device(1, viewer, "eye");
    let mut told: BTreeMap<Thread, BTreeMap<u16, Vec<Stored>>> = BTreeMap::new();
    for node in cluster.nodes() {
        let device = device.at(cluster.client_addr(node));
        for thread in threads {
            let history = device.history(thread).await.iter().map(stored).collect();
            told.entry(thread.clone()).or_default().insert(node, history);
        }
    }
    told
}

/// Every replica as its node says it is, again and again until those of each shard have applied the same: what changes
/// after a run (acknowledgements, mostly) comes to rest by itself.
///
/// # Panics
/// When it does not.
pub async fn settled(cluster: &Cluster) -> Vec<Replica> {
    let mut seen = Vec::new();
    wait::eventually("all replicas have applied the same", || {
        let now = replicas(&cluster.status(1));
        let level =
            now.iter().all(|one| now.iter().all(|other| one.shard != other.shard || one.applied == other.applied));
        let whole = now.len() == cluster.size().shards as usize * usize::from(cluster.size().nodes.min(3));
        seen.extend(now);
        async move { (level && whole).then_some(()) }
    })
    .await;
    seen
}

fn replicas(status: &Value) -> Vec<Replica> {
    let shards = status["shards"].as_array().into_iter().flatten();
    let of = |shard: &Value| {
        let id = shard["id"].as_u64()?;
        let replicas = shard["replicas"].as_array()?.iter().filter_map(move |replica| {
            Some(Replica {
                shard: id,
                node: u16::try_from(replica["node"].as_u64()?).ok()?,
                applied: replica["applied"].as_u64()?,
                digest: replica["digest"].as_str()?.to_owned(),
            })
        });
        Some(replicas.collect::<Vec<_>>())
    };
    shards.filter_map(of).flatten().collect()
}

fn stored(message: &Value) -> Stored {
    let origin = Origin {
        user: text(message, "sender_id"),
        device: text(message, "sender_device_id"),
        client_seq: number(message, "client_seq"),
    };
    Stored { id: text(message, "id"), seq: number(message, "seq"), origin, body: text_of(message) }
}
