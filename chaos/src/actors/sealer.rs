//! A group in which each device is sent something else, while one of them changes its registration.
//!
//! Owns: the group, the sender and what it believes of the devices, the device that changes, and what each is shown.
//! Must not know: faults, or what is right.

use super::{Audience, Stage};
use crate::caller::{self, Caller, End};
use crate::history::envelopes::{Envelopes, Letter, Opened, Recipient, Registration, Sealed};
use crate::history::{Fate, Outcome, Thread};
use crate::workload::Actor;
use bytes::Bytes;
use messenger_client::{Draft, Envelope, Prekey, PublishKeys, Rest};
use messenger_proto::ids::{ClientSeq, DeviceId, UserId};
use rand::RngExt;
use rand::rngs::StdRng;
use std::collections::BTreeMap;
use std::time::Duration;
use tokio::task::JoinHandle;

const SEALER: &str = "sealer";
/// The devices that are written to; the last one changes.
const DEVICES: [(&str, &str); 3] = [("solo", "only"), ("pair", "left"), ("pair", "right")];
/// Between two registrations, in milliseconds.
const CHANGES: std::ops::Range<u64> = 200..1200;
/// How often a sender gives up at the first doubt.
const FAINT_HEARTED: f64 = 0.2;

/// The actors at work.
pub struct Sealers {
    thread: Thread,
    sealer: JoinHandle<Vec<Sealed>>,
    changer: JoinHandle<Vec<Registration>>,
    audience: Audience,
}

impl Sealers {
    /// Registers the devices, makes the group and begins.
    pub async fn start(stage: &Stage) -> Self {
        for (place, (user, device)) in DEVICES.into_iter().enumerate() {
            let mut random = stage.seed.actor(Actor::Registrar, place);
            let caller = Caller::new(&stage.cluster, user, device, stage.clock);
            let registered = register(&caller, &mut random, device, 1).await;
            assert_eq!(registered.fate, Fate::Acknowledged, "nothing is broken yet");
        }
        let thread = stage.cluster.device(1, SEALER, "pen").group("envelopes", &["solo", "pair"]).await;
        let sealer = tokio::spawn(Sealer::new(stage, &thread).run());
        let changer = tokio::spawn(change(stage.clone()));
        let audience = Audience::of(stage, &DEVICES, Actor::EnvelopeEar);
        Self { thread, sealer, changer, audience }
    }

    /// Waits until all is done, and asks every node how it looks.
    ///
    /// # Panics
    /// When an actor or a node fails.
    pub async fn finish(self, stage: &Stage) -> Envelopes {
        let mut record = Envelopes {
            sends: self.sealer.await.expect("the sender comes to its end"),
            registrations: self.changer.await.expect("the device comes to its end"),
            ..Envelopes::default()
        };
        let mut ends = BTreeMap::new();
        for (user, device) in DEVICES {
            let name = recipient(user, device);
            for (node, rest) in caller::afterwards(&stage.cluster, user, device) {
                let history = caller::history(&rest, &self.thread).await;
                let last = history.last().map_or(0, |message| message.seq);
                ends.insert(name.clone(), BTreeMap::from([(self.thread.clone(), last)]));
                let opened = history.iter().map(|message| Opened {
                    id: message.id.to_string(),
                    body: message.ciphertext.as_ref().map(|body| String::from_utf8_lossy(body).into_owned()),
                });
                record.told.entry(name.clone()).or_default().insert(node, opened.collect());
            }
        }
        for (name, mut hearing) in self.audience.finish(ends).await {
            record.heard.insert(name, hearing.events.remove(&self.thread).unwrap_or_default());
        }
        record
    }
}

fn recipient(user: &str, device: &str) -> Recipient {
    format!("{user}/{device}")
}

/// Publishes a device's keys under a registration.
async fn register(caller: &Caller, random: &mut StdRng, device: &str, id: u64) -> Registration {
    let public_key = Bytes::from(format!("{device} {id}"));
    let signature = Some(Bytes::from_static(b"signature"));
    let keys = PublishKeys {
        registration_id: id,
        identity_key: public_key.clone(),
        signed_prekey: Prekey { key_id: 0, public_key, signature },
        one_time_prekeys: Vec::new(),
        last_resort: None,
    };
    let device_id = DeviceId::new(device).expect("a well-formed name");
    let attempt = |rest: Rest| {
        let (device_id, keys) = (device_id.clone(), keys.clone());
        async move { rest.publish_keys(&device_id, &keys).await.map(drop) }
    };
    let done = caller.insist(random, 0.0, attempt).await;
    let device = recipient(&caller.user, device);
    Registration { device, id, began: done.began, ended: done.ended, fate: done.fate() }
}

async fn change(stage: Stage) -> Vec<Registration> {
    let (user, device) = DEVICES[DEVICES.len() - 1];
    let mut random = stage.seed.actor(Actor::Registrar, DEVICES.len());
    let caller = Caller::new(&stage.cluster, user, device, stage.clock);
    let mut registrations = Vec::new();
    for id in 2.. {
        tokio::time::sleep(Duration::from_millis(random.random_range(CHANGES))).await;
        if !stage.goes_on() {
            break;
        }
        registrations.push(register(&caller, &mut random, device, id).await);
    }
    registrations
}

struct Sealer {
    stage: Stage,
    thread: Thread,
    caller: Caller,
    random: StdRng,
    /// Each device's registration, as far as the sender knows.
    believed: BTreeMap<(&'static str, &'static str), u64>,
}

impl Sealer {
    fn new(stage: &Stage, thread: &str) -> Self {
        Self {
            stage: stage.clone(),
            thread: thread.to_owned(),
            caller: Caller::new(&stage.cluster, SEALER, "pen", stage.clock),
            random: stage.seed.actor(Actor::Sealer, 0),
            believed: DEVICES.into_iter().map(|device| (device, 1)).collect(),
        }
    }

    async fn run(mut self) -> Vec<Sealed> {
        let mut sends: Vec<Sealed> = Vec::new();
        let mut client_seq = 1;
        while self.stage.goes_on() {
            let sealed = self.send(client_seq, sends.len()).await;
            if sealed.outcome == Outcome::Refused {
                // Its number is free, for what matches the devices.
                self.learn().await;
            } else {
                client_seq += 1;
            }
            sends.push(sealed);
            self.stage.breathe().await;
        }
        sends
    }

    async fn send(&mut self, client_seq: u64, attempt: usize) -> Sealed {
        let letter = |(device, registration): (&(&str, &str), &u64)| {
            let name = recipient(device.0, device.1);
            (name.clone(), Letter { registration: *registration, body: format!("{client_seq}, {attempt}, for {name}") })
        };
        let letters: BTreeMap<Recipient, Letter> = self.believed.iter().map(letter).collect();
        let envelope = |(user, device): (&str, &str)| {
            letters.get(&recipient(user, device)).map(|letter| Envelope {
                user_id: UserId::new(user).expect("a well-formed name"),
                device_id: DeviceId::new(device).expect("a well-formed name"),
                registration_id: letter.registration,
                ciphertext: Bytes::from(letter.body.clone()),
            })
        };
        let envelopes: Vec<Envelope> = DEVICES.into_iter().filter_map(envelope).collect();
        let key = format!("{:032x}", self.random.random::<u128>());
        let draft = Draft { key, ..Draft::of_envelopes(ClientSeq(client_seq), envelopes) };
        let thread = caller::thread_id(&self.thread);
        let attempt = |rest: Rest| {
            let draft = draft.clone();
            async move { rest.send(thread, &draft).await }
        };
        let sent = self.caller.insist(&mut self.random, FAINT_HEARTED, attempt).await;
        let outcome = match &sent.end {
            End::Done(sent) => Outcome::Accepted { id: sent.message.id.to_string(), seq: sent.message.seq },
            _ if sent.doubted => Outcome::Unknown,
            End::Refused(problem) if problem.code != "device_mismatch" => panic!("a send was refused: {problem}"),
            End::Refused(_) | End::GivenUp => Outcome::Refused,
        };
        Sealed { client_seq, letters, began: sent.began, ended: sent.ended, outcome }
    }

    /// Asks for the registrations of those that are written to.
    async fn learn(&mut self) {
        for user in ["solo", "pair"] {
            let id = UserId::new(user).expect("a well-formed name");
            let devices = |rest: Rest| {
                let id = id.clone();
                async move { rest.devices(&id).await }
            };
            let Some((_, devices, _)) = self.caller.ask(&mut self.random, devices).await else { continue };
            for found in devices {
                let own = self
                    .believed
                    .iter_mut()
                    .find(|((of, device), _)| (*of, *device) == (user, found.device_id.as_str()));
                if let Some((_, registration)) = own {
                    *registration = found.registration_id;
                }
            }
        }
    }
}
