//! Whatever bytes a peer sends: a decoder refuses them or gives a value that means the same when it is encoded again, and
//! never panics.
//!
//! Inputs are made of protobuf's own parts, and those that some decoder took are kept and varied further. A run takes
//! `FUZZ_SECONDS` (1 unless set) from `FUZZ_SEED` (random unless set, and printed).

use messenger_proto::audit::{AuditPage, SendersAnswer};
use messenger_proto::command::{Command, Op, Pack, Reply, Retention, SendMessage};
use messenger_proto::ephemeral::{EphemeralItems, PresenceAnswer};
use messenger_proto::error::Refusal;
use messenger_proto::event::Event;
use messenger_proto::ids::{ClientSeq, CommandId, DeviceId, Millis, ShardId, ThreadId, UserId};
use messenger_proto::meta::{ClusterState, MetaCommand};
use messenger_proto::model::ContentType;
use messenger_proto::query::{Answer, Query};
use messenger_proto::rpc::{InterestChange, NodeCall, NodeStatus, ShardCall, ShardOutcome, ShardRequest, StreamItem};
use messenger_proto::wire::Wire;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{Rng, RngExt, SeedableRng};
use std::fmt::Debug;
use std::time::{Duration, Instant};

/// Inputs that are kept at most.
const KEPT: usize = 4_096;
/// Bytes of an input at most.
const SIZE: usize = 4_096;

/// Whether a decoder takes the bytes; then it must also take what it makes of them, and make the same of that.
fn holds<T: Wire + PartialEq + Debug>(bytes: &[u8]) -> bool {
    let Ok(value) = T::from_wire(bytes) else { return false };
    let again = T::from_wire(&value.to_wire());
    assert_eq!(again.as_ref(), Ok(&value), "{bytes:02x?}");
    true
}

const DECODERS: [fn(&[u8]) -> bool; 18] = [
    holds::<Pack>,
    holds::<Command>,
    holds::<Op>,
    holds::<Reply>,
    holds::<Refusal>,
    holds::<Query>,
    holds::<Answer>,
    holds::<Event>,
    holds::<MetaCommand>,
    holds::<ClusterState>,
    holds::<ShardRequest>,
    holds::<ShardOutcome>,
    holds::<NodeCall>,
    holds::<NodeStatus>,
    holds::<InterestChange>,
    holds::<StreamItem>,
    |bytes| holds::<AuditPage>(bytes) | holds::<SendersAnswer>(bytes),
    |bytes| holds::<EphemeralItems>(bytes) | holds::<PresenceAnswer>(bytes),
];

fn varint(mut value: u64, bytes: &mut Vec<u8>) {
    while value >= 0x80 {
        bytes.push(value as u8 | 0x80);
        value >>= 7;
    }
    bytes.push(value as u8);
}

/// A message of random fields, some of which are messages.
fn message(random: &mut StdRng, depth: u32) -> Vec<u8> {
    let mut bytes = Vec::new();
    for _ in 0..random.random_range(0..6) {
        let tag: u64 = random.random_range(1..73);
        if random.random_bool(0.4) {
            varint(tag << 3, &mut bytes);
            let value = [0, 1, 2, random.random_range(0..64), random.random(), u64::MAX];
            varint(*value.choose(random).expect("some"), &mut bytes);
            continue;
        }
        let content = match random.random_range(0..6) {
            0 => Vec::new(),
            1 => b"alice".to_vec(),
            2 => random.random::<[u8; 16]>().to_vec(),
            3 => random.random::<[u8; 8]>().to_vec(),
            _ if depth > 0 => message(random, depth - 1),
            _ => vec![b'x'; random.random_range(1..80)],
        };
        varint(tag << 3 | 2, &mut bytes);
        varint(content.len() as u64, &mut bytes);
        bytes.extend(content);
    }
    bytes
}

/// A kept input, changed a little.
fn varied(random: &mut StdRng, kept: &[Vec<u8>]) -> Vec<u8> {
    let mut bytes = kept.choose(random).expect("there are some").clone();
    for _ in 0..random.random_range(1..4) {
        let at = random.random_range(0..=bytes.len());
        match random.random_range(0..6) {
            0 => bytes.truncate(at),
            1 if at < bytes.len() => bytes[at] ^= 1 << random.random_range(0..8),
            2 if at < bytes.len() => bytes[at] = random.random(),
            3 => bytes.insert(at, random.random()),
            4 => {
                let other = kept.choose(random).expect("there are some");
                let from = random.random_range(0..=other.len());
                bytes.splice(at.., other[from..].iter().copied());
            }
            _ => bytes.extend(message(random, 2)),
        }
    }
    bytes.truncate(SIZE);
    bytes
}

/// One of the calls that carry most.
fn a_send() -> Vec<u8> {
    let op = Op::SendMessage(SendMessage {
        thread: ThreadId([7; 16]),
        sender: UserId::new("alice").expect("a name"),
        device: DeviceId::new("phone").expect("a name"),
        client_seq: ClientSeq(1),
        ciphertext: "hello".into(),
        content_type: ContentType::Text,
        attachments: vec!["{\"id\":\"a\"}".into()],
        reply_to: None,
        ttl_s: Some(9),
        envelopes: None,
    });
    let command = Command { id: CommandId([1; 16]), retention: Retention::Keyed, body_hash: 1, op };
    let pack = Pack { stamp: Millis(1), commands: vec![command.clone(), command.clone()] };
    let mut bytes = pack.to_wire();
    let call = ShardCall::Command(command);
    bytes.extend(ShardRequest { shard: ShardId(1), deadline_ms: 9, call }.to_wire());
    bytes
}

#[test]
fn no_bytes_upset_a_decoder() {
    let number = |name: &str| std::env::var(name).ok().and_then(|value| value.parse::<u64>().ok());
    let seed = number("FUZZ_SEED").unwrap_or_else(rand::random);
    let until = Instant::now() + Duration::from_secs(number("FUZZ_SECONDS").unwrap_or(1));
    println!("again with: FUZZ_SEED={seed}");
    let mut random = StdRng::seed_from_u64(seed);
    let (mut kept, mut tried, mut taken) = (vec![a_send()], 0u64, 0u64);
    while tried < 10_000 || Instant::now() < until {
        let input = if random.random_bool(0.3) { message(&mut random, 4) } else { varied(&mut random, &kept) };
        let takers = DECODERS.iter().filter(|decoder| decoder(&input)).count();
        tried += 1;
        taken += u64::from(takers > 0);
        if takers > 0 && !input.is_empty() {
            if kept.len() < KEPT {
                kept.push(input);
            } else {
                let at = random.next_u64() as usize % KEPT;
                kept[at] = input;
            }
        }
    }
    println!("{tried} inputs, {taken} of them taken");
    assert!(taken > tried / 100, "hardly any input gets past the first field");
}
