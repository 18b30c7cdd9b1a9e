//! Users that take the keys of one, who publishes new ones now and then, and at times too late.
//!
//! Owns: the publisher's devices, the takers, their repeats, and taking all that is left in the end.
//! Must not know: faults, or what is right.

use super::Stage;
use crate::caller::{self, Caller, End, Insisted};
use crate::history::keys::{Answer, Key, Keys, Publication, Taking};
use crate::workload::Actor;
use bytes::Bytes;
use messenger_client::{Bundles, Prekey, PublishKeys, Rest};
use messenger_proto::ids::{DeviceId, UserId};
use rand::RngExt;
use rand::rngs::StdRng;
use std::collections::BTreeMap;
use std::time::Duration;
use tokio::task::JoinHandle;

const PUBLISHER: &str = "publisher";
/// The device that has a last resort, and the one that has none.
const DEVICES: [(&str, Option<u64>); 2] = [("spare", Some(1_000_000)), ("bare", None)];
const TAKERS: usize = 4;
/// One-time keys of a publication.
const BATCH: u64 = 20;
/// Of those, how many were published before: what was handed out by then stays so.
const AGAIN: u64 = 5;
/// Between two publications: the takers are quicker at times.
const REFILL: std::ops::Range<u64> = 100..1500;
/// How often one device alone is asked for.
const ONE_DEVICE: f64 = 0.2;
/// How often a taker gives up at the first doubt.
const FAINT_HEARTED: f64 = 0.1;
/// How often a request is repeated at once under the same key, and how often when the run is over.
const FORGETFUL: f64 = 0.1;
/// More keys than were published are never left to take.
const DRAIN_MAX: usize = 5_000;

/// The actors at work.
pub struct Takers {
    first: Vec<Publication>,
    publishers: Vec<JoinHandle<Vec<Publication>>>,
    callers: Vec<JoinHandle<Taker>>,
}

impl Takers {
    /// Publishes the first keys and begins.
    pub async fn start(stage: &Stage) -> Self {
        let mut first = Vec::new();
        let mut publishers = Vec::new();
        for (n, (device, last_resort)) in DEVICES.into_iter().enumerate() {
            let mut publisher = Publisher::new(stage, n, device, last_resort);
            first.push(publisher.publish().await);
            publishers.push(tokio::spawn(publisher.run()));
        }
        let callers = (0..TAKERS).map(|n| tokio::spawn(Taker::new(stage, n).run())).collect();
        Self { first, publishers, callers }
    }

    /// Waits until all is done, repeats what was asked, counts what is left, and takes that, too.
    ///
    /// # Panics
    /// When an actor or a node fails.
    pub async fn finish(self, stage: &Stage) -> Keys {
        let devices = DEVICES.map(|(device, last_resort)| (device.to_owned(), last_resort));
        let mut record = Keys { devices: devices.into(), publications: self.first, ..Keys::default() };
        for publisher in self.publishers {
            record.publications.extend(publisher.await.expect("a publisher comes to its end"));
        }
        let mut takers = Vec::new();
        for taker in self.callers {
            let mut taker = taker.await.expect("a taker comes to its end");
            record.takings.append(&mut taker.takings);
            record.repeats.append(&mut taker.repeats);
            takers.push(taker);
        }
        for taker in &mut takers {
            let user = taker.caller.user.clone();
            for taking in record.takings.iter().filter(|taking| taking.by == user) {
                if taken(taking) && taker.random.random_bool(FORGETFUL) {
                    record.repeats.push(taker.take(taking.under.clone(), taking.device.clone(), 0.0).await);
                }
            }
        }
        record.counted = stage.clock.now();
        for (device, _) in DEVICES {
            for (node, rest) in caller::afterwards(&stage.cluster, PUBLISHER, device) {
                let counts = rest.key_counts(&device_id(device)).await.expect("a node answers after the run");
                record.left.entry(device.to_owned()).or_default().insert(node, counts.one_time);
            }
            record.takings.extend(takers[0].drain(device).await);
        }
        record
    }
}

fn device_id(device: &str) -> DeviceId {
    DeviceId::new(device).expect("a well-formed name")
}

struct Publisher {
    stage: Stage,
    caller: Caller,
    random: StdRng,
    device: &'static str,
    last_resort: Option<u64>,
    published: u64,
}

impl Publisher {
    fn new(stage: &Stage, number: usize, device: &'static str, last_resort: Option<u64>) -> Self {
        let caller = Caller::new(&stage.cluster, PUBLISHER, device, stage.clock);
        let random = stage.seed.actor(Actor::Publisher, number);
        Self { stage: stage.clone(), caller, random, device, last_resort, published: 0 }
    }

    async fn run(mut self) -> Vec<Publication> {
        let mut publications = Vec::new();
        while self.stage.goes_on() {
            tokio::time::sleep(Duration::from_millis(self.random.random_range(REFILL))).await;
            publications.push(self.publish().await);
        }
        publications
    }

    async fn publish(&mut self) -> Publication {
        let from = self.published.saturating_sub(AGAIN);
        self.published = from + BATCH;
        let key = |key_id: u64| Prekey { key_id, public_key: self.public_key(key_id), signature: None };
        let signed_prekey = Prekey { signature: Some(Bytes::from_static(b"signature")), ..key(0) };
        let keys = PublishKeys {
            registration_id: 1,
            identity_key: Bytes::from(self.device),
            signed_prekey,
            one_time_prekeys: (from..self.published).map(key).collect(),
            last_resort: self.last_resort.map(key),
        };
        let device = device_id(self.device);
        let attempt = |rest: Rest| {
            let (device, keys) = (device.clone(), keys.clone());
            async move { rest.publish_keys(&device, &keys).await }
        };
        let done = self.caller.insist(&mut self.random, 0.0, attempt).await;
        let keys = keys.one_time_prekeys.iter().map(of_prekey).collect();
        Publication { device: self.device.to_owned(), keys, ended: done.ended, fate: done.fate() }
    }

    fn public_key(&self, key_id: u64) -> Bytes {
        Bytes::from(format!("{} {key_id}", self.device))
    }
}

fn of_prekey(key: &Prekey) -> Key {
    (key.key_id, key.public_key.to_vec())
}

struct Taker {
    stage: Stage,
    caller: Caller,
    random: StdRng,
    takings: Vec<Taking>,
    repeats: Vec<Taking>,
}

impl Taker {
    fn new(stage: &Stage, number: usize) -> Self {
        let caller = Caller::new(&stage.cluster, &format!("taker-{number}"), "hand", stage.clock);
        Self {
            stage: stage.clone(),
            caller,
            random: stage.seed.actor(Actor::Taker, number),
            takings: Vec::new(),
            repeats: Vec::new(),
        }
    }

    async fn run(mut self) -> Self {
        while self.stage.goes_on() {
            let device = self.random.random_bool(ONE_DEVICE).then(|| {
                let (device, _) = DEVICES[self.random.random_range(0..DEVICES.len())];
                device.to_owned()
            });
            let under = format!("{:032x}", self.random.random::<u128>());
            let taking = self.take(under.clone(), device.clone(), FAINT_HEARTED).await;
            if taken(&taking) && self.random.random_bool(FORGETFUL) {
                let repeat = self.take(under, device, FAINT_HEARTED).await;
                self.repeats.push(repeat);
            }
            self.takings.push(taking);
            self.stage.breathe().await;
        }
        self
    }

    async fn take(&mut self, under: String, device: Option<String>, faint_hearted: f64) -> Taking {
        let publisher = UserId::new(PUBLISHER).expect("a well-formed name");
        let of = device.as_deref().map(device_id);
        let attempt = |rest: Rest| {
            let (publisher, of, under) = (publisher.clone(), of.clone(), under.clone());
            async move { rest.take_keys(&publisher, of.as_ref(), &under).await }
        };
        let taken = self.caller.insist(&mut self.random, faint_hearted, attempt).await;
        let Insisted { began, ended, doubted, .. } = taken;
        Taking { by: self.caller.user.clone(), under, device, began, ended, doubted, answer: answer(taken) }
    }

    /// Takes all that a device has left.
    async fn drain(&mut self, device: &str) -> Vec<Taking> {
        let last_resort = DEVICES.iter().find(|(name, _)| *name == device).and_then(|(_, last_resort)| *last_resort);
        let mut takings = Vec::new();
        for _ in 0..DRAIN_MAX {
            let under = format!("{:032x}", self.random.random::<u128>());
            let taking = self.take(under, Some(device.to_owned()), 0.0).await;
            let empty = match &taking.answer {
                Answer::Given { keys, .. } => keys.get(device).is_none_or(|(id, _)| Some(*id) == last_resort),
                _ => true,
            };
            takings.push(taking);
            if empty {
                break;
            }
        }
        takings
    }
}

/// Whether there is something that a repeat is to be given again: that there was nothing is found anew.
fn taken(taking: &Taking) -> bool {
    matches!(taking.answer, Answer::Given { .. })
}

fn answer(taken: Insisted<Bundles>) -> Answer {
    match taken.end {
        End::Done(Bundles { devices, exhausted }) => {
            let given = devices.into_iter().filter_map(|bundle| {
                let device = bundle.device_id.to_string();
                bundle.one_time_prekey.map(|key| (device, of_prekey(&key)))
            });
            Answer::Given { keys: given.collect::<BTreeMap<_, _>>(), exhausted }
        }
        End::Refused(problem) if problem.code == "prekeys_exhausted" => Answer::Exhausted,
        _ if taken.doubted => Answer::Unknown,
        End::Refused(problem) => panic!("keys were refused: {problem}"),
        End::GivenUp => Answer::Refused,
    }
}
