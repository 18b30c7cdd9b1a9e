//! One record, and the line it becomes.
//!
//! Owns: what is said of a write, how it is written as JSON, and how a line is chained to the one before.
//! Must not know: files, who asks for records.
//! Invariants: nothing of what a message says, and no token, is ever part of a record: of what was sent there is a hash and
//! a length. A line is at most [`LINE_MAX`] bytes, since all that a client chooses in it is bounded; its chain is the
//! SHA-256 of the chain before it and of all of the line that stands before its own.

use crate::api::time::Rfc3339;
use crate::api::trace::TraceId;
use crate::auth::Identity;
use messenger_proto::error::ErrorCode;
use messenger_proto::ids::{DeviceId, MessageId, Millis, NodeId, ReportId, ShardId, ThreadId, UserId};
use serde::Serialize;
use sha2::{Digest, Sha256};
use std::fmt::Write;
use std::net::IpAddr;
use std::sync::Arc;

/// Bytes of a line at most.
pub const LINE_MAX: usize = 4 * 1024;
/// What stands between what is said and its chain.
const CHAIN: &str = r#","chain":""#;
/// Bytes of the end of a line: the chain with its name, and the closing of both.
const END: usize = CHAIN.len() + 64 + 2;

/// A chain: the hash of everything up to a record.
pub type Chain = [u8; 32];

/// By which way something came.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// A request of a client.
    Request,
    /// A frame of a client.
    Frame,
    /// A request of an operator.
    Operator,
}

/// What was sent, without being said.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Payload {
    /// SHA-256 of the bytes as they came.
    pub sha256: [u8; 32],
    /// How many they were.
    pub bytes: usize,
}

impl Payload {
    /// Of a body or a frame.
    #[must_use]
    pub fn of(bytes: &[u8]) -> Self {
        Self { sha256: Sha256::digest(bytes).into(), bytes: bytes.len() }
    }
}

/// What a write is about, as far as its path or its answer says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Target {
    /// A thread.
    pub thread: Option<ThreadId>,
    /// A message.
    pub message: Option<MessageId>,
    /// A user.
    pub user: Option<UserId>,
    /// A device.
    pub device: Option<DeviceId>,
    /// A report.
    pub report: Option<ReportId>,
    /// A node.
    pub node: Option<NodeId>,
    /// A shard.
    pub shard: Option<ShardId>,
}

/// How a write ended.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Ending {
    /// Its status; `None` when nobody waited for it, so that it may or may not have been carried out.
    pub status: Option<u16>,
    /// Why not, if it was refused.
    pub code: Option<ErrorCode>,
    /// It had been carried out before.
    pub replayed: bool,
    /// Members that a message went to.
    pub recipients: Option<u32>,
}

impl Ending {
    /// Carried out.
    #[must_use]
    pub fn done(status: u16) -> Self {
        Self { status: Some(status), ..Self::default() }
    }

    /// Refused.
    #[must_use]
    pub fn refused(code: ErrorCode) -> Self {
        Self { status: Some(code.status()), code: Some(code), ..Self::default() }
    }

    /// Whether it surely changed nothing.
    #[must_use]
    pub fn had_no_effect(&self) -> bool {
        match (self.status, self.code) {
            (None, _) => false,
            (Some(_), Some(code)) => !code.may_have_had_effects(),
            (Some(status), None) => (400..500).contains(&status),
        }
    }
}

/// One write.
#[derive(Debug, Clone)]
pub struct Record {
    /// When it ended.
    pub at: Millis,
    /// How it came.
    pub kind: Kind,
    /// Who, if a token was believed.
    pub who: Option<Arc<Identity>>,
    /// Which operator, in its own words.
    pub operator: Option<String>,
    /// Where it came from.
    pub address: Option<IpAddr>,
    /// `POST`, …; the kind of a frame.
    pub method: &'static str,
    /// The route's path as the document names it; empty for frames and for paths that there are none of.
    pub route: &'static str,
    /// Under which it is found elsewhere: a request's trace; of a frame, its connection.
    pub trace: TraceId,
    /// What was sent, if it was read.
    pub payload: Option<Payload>,
    /// What it is about.
    pub target: Target,
    /// How it ended.
    pub ending: Ending,
}

#[derive(Serialize)]
struct Line<'a> {
    n: u64,
    at: Rfc3339,
    node: u64,
    log: &'static str,
    kind: Kind,
    #[serde(skip_serializing_if = "Option::is_none")]
    user: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    device: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    operator: Option<&'a str>,
    address: Option<IpAddr>,
    method: &'static str,
    #[serde(skip_serializing_if = "str::is_empty")]
    route: &'static str,
    status: Option<u16>,
    #[serde(skip_serializing_if = "Option::is_none")]
    code: Option<&'static str>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    replayed: bool,
    trace_id: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    sha256: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    bytes: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    thread_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    message_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    target_user: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    target_device: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    report_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    target_node: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    target_shard: Option<u32>,
}

/// A record of the log's own: a segment begins, or something is missing.
#[derive(Debug, Clone, Serialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
pub enum Note {
    /// The first line of every segment.
    Segment {
        /// Its number.
        segment: u64,
        /// The chain that it goes on from, hexadecimal.
        prev: String,
        /// Bytes that were no whole line at the end of the segment before, and were cut off.
        cut_bytes: u64,
    },
    /// Writes that have no record: there was no room for it, in memory or on the disk.
    Lost {
        /// How many.
        count: u64,
    },
    /// Refused writes beyond those that are recorded one by one.
    Refused {
        /// From where; `None` for all others together.
        address: Option<IpAddr>,
        /// How many.
        count: u64,
    },
}

#[derive(Serialize)]
struct NoteLine<'a> {
    n: u64,
    at: Rfc3339,
    node: u64,
    log: &'static str,
    #[serde(flatten)]
    note: &'a Note,
}

/// Hexadecimal digits.
#[must_use]
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(2 * bytes.len()), |mut text, byte| {
        // Writing to a String cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// What a line goes on from, and where it stands.
#[derive(Debug, Clone, Copy)]
pub struct Place {
    /// Its number.
    pub n: u64,
    /// Its time.
    pub at: Millis,
    /// The node.
    pub node: u64,
    /// `writes` or `refused`.
    pub log: &'static str,
}

/// Appends a record's line; the chain after it.
pub fn write_record(buf: &mut Vec<u8>, place: Place, record: &Record, before: Chain) -> Chain {
    let (who, target, ending) = (record.who.as_deref(), &record.target, &record.ending);
    let line = Line {
        n: place.n,
        at: Rfc3339(place.at),
        node: place.node,
        log: place.log,
        kind: record.kind,
        user: who.map(|who| who.user.as_str()),
        device: who.map(|who| who.device.as_str()),
        operator: record.operator.as_deref(),
        address: record.address,
        method: record.method,
        route: record.route,
        status: ending.status,
        code: ending.code.map(ErrorCode::as_str),
        replayed: ending.replayed,
        trace_id: record.trace.to_string(),
        sha256: record.payload.map(|payload| hex(&payload.sha256)),
        bytes: record.payload.map(|payload| payload.bytes),
        thread_id: target.thread.map(|id| id.to_string()),
        message_id: target.message.map(|id| id.to_string()),
        target_user: target.user.as_ref().map(UserId::as_str),
        target_device: target.device.as_ref().map(DeviceId::as_str),
        report_id: target.report.map(|id| id.to_string()),
        target_node: target.node.map(|id| id.0),
        target_shard: target.shard.map(|id| id.0),
    };
    write_line(buf, &line, before)
}

/// Appends a note's line; the chain after it.
pub fn write_note(buf: &mut Vec<u8>, place: Place, note: &Note, before: Chain) -> Chain {
    let Place { n, at, node, log } = place;
    write_line(buf, &NoteLine { n, at: Rfc3339(at), node, log, note }, before)
}

fn write_line(buf: &mut Vec<u8>, line: &impl Serialize, before: Chain) -> Chain {
    let start = buf.len();
    // None of the types above can fail to be written.
    let _ = serde_json::to_writer(&mut *buf, line);
    buf.pop();
    let chain = chain_of(before, buf.get(start..).unwrap_or_default());
    buf.extend_from_slice(CHAIN.as_bytes());
    buf.extend_from_slice(hex(&chain).as_bytes());
    buf.extend_from_slice(b"\"}\n");
    chain
}

fn chain_of(before: Chain, said: &[u8]) -> Chain {
    let mut hash = Sha256::new();
    hash.update(before);
    hash.update(said);
    hash.finalize().into()
}

/// Takes a line apart: what is said, and its chain. `None` when it is no line of a log.
#[must_use]
pub fn split(line: &[u8]) -> Option<(&[u8], Chain)> {
    let (said, end) = line.split_at_checked(line.len().checked_sub(END)?)?;
    let chain = end.strip_prefix(CHAIN.as_bytes())?.strip_suffix(b"\"}")?;
    parse_chain(std::str::from_utf8(chain).ok()?).map(|chain| (said, chain))
}

/// Reads a chain's 64 hexadecimal digits.
#[must_use]
pub fn parse_chain(text: &str) -> Option<Chain> {
    let digits = text.as_bytes();
    let mut chain = Chain::default();
    if digits.len() != 64 || !digits.iter().all(u8::is_ascii_hexdigit) {
        return None;
    }
    for (byte, pair) in chain.iter_mut().zip(digits.chunks_exact(2)) {
        *byte = u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()?;
    }
    Some(chain)
}

/// Whether a line's own chain is the one that follows.
#[must_use]
pub fn follows(before: Chain, line: &[u8]) -> Option<Chain> {
    let (said, chain) = split(line)?;
    (chain_of(before, said) == chain).then_some(chain)
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::auth::Scopes;
    use proptest::prelude::*;
    use serde_json::{Value, json};

    pub(crate) fn record(user: &str) -> Record {
        Record {
            at: Millis(1_780_162_931_000),
            kind: Kind::Request,
            who: Some(Arc::new(Identity {
                user: UserId::new(user).unwrap(),
                device: DeviceId::new("phone").unwrap(),
                scopes: Scopes::ALL,
                issued_at: Millis(0),
                expires_at: Millis(1),
            })),
            operator: None,
            address: Some(IpAddr::from([127, 0, 0, 1])),
            method: "POST",
            route: "/v1/threads",
            trace: TraceId([1; 16]),
            payload: Some(Payload::of(b"{}")),
            target: Target::default(),
            ending: Ending::done(201),
        }
    }

    const PLACE: Place = Place { n: 7, at: Millis(1_780_162_931_000), node: 2, log: "writes" };

    #[test]
    fn the_form_of_a_line_is_pinned() {
        let mut buf = Vec::new();
        let chain = write_record(&mut buf, PLACE, &record("alice"), Chain::default());
        let value: Value = serde_json::from_slice(&buf).unwrap();
        let hash = "44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a";
        let expected = json!({"n": 7, "at": "2026-05-30T17:42:11.000Z", "node": 2, "log": "writes",
            "kind": "request", "user": "alice", "device": "phone", "address": "127.0.0.1", "method": "POST", "route": "/v1/threads", "status": 201,
            "trace_id": "01010101010101010101010101010101", "sha256": hash, "bytes": 2, "chain": hex(&chain)});
        assert_eq!(value, expected);
        assert_eq!(buf.pop(), Some(b'\n'));
        assert_eq!(follows(Chain::default(), &buf), Some(chain));
        assert_eq!(follows([1; 32], &buf), None, "it goes on from another");
    }

    #[test]
    fn the_longest_line_fits() {
        let name = "x".repeat(64);
        let user = UserId::new(&name).unwrap();
        let mut longest = record(&name);
        longest.operator = Some(name.clone());
        longest.address = Some(IpAddr::from([0xffff; 8]));
        longest.target = Target {
            thread: Some(ThreadId([9; 16])),
            message: Some(MessageId(u128::MAX)),
            user: Some(user),
            device: Some(DeviceId::new(&name).unwrap()),
            report: Some(ReportId(u128::MAX)),
            node: Some(NodeId(u64::MAX)),
            shard: Some(ShardId(u32::MAX)),
        };
        let mut buf = Vec::new();
        write_record(&mut buf, PLACE, &longest, Chain::default());
        assert!(buf.len() < LINE_MAX, "{}", buf.len());
    }

    #[test]
    fn what_surely_changed_nothing_is_told_from_what_may_have() {
        assert!(!Ending::done(202).had_no_effect());
        assert!(!Ending::default().had_no_effect(), "nobody waited for it");
        assert!(Ending::refused(ErrorCode::NotAMember).had_no_effect());
        assert!(Ending::refused(ErrorCode::Unavailable).had_no_effect());
        assert!(!Ending::refused(ErrorCode::OutcomeUnknown).had_no_effect());
    }

    proptest! {
        #[test]
        fn a_changed_byte_shows(at in 0_usize..400, flip in 1_u8..=255, user in "u[a-z]{0,63}") {
            let mut buf = Vec::new();
            write_record(&mut buf, PLACE, &record(&user), [3; 32]);
            buf.pop();
            prop_assert!(follows([3; 32], &buf).is_some());
            let at = at % buf.len();
            buf[at] ^= flip;
            // The digits of a chain may be written in capitals; nothing else may change.
            let same = at > buf.len() - END && (buf[at] ^ flip).eq_ignore_ascii_case(&buf[at]);
            prop_assert_eq!(follows([3; 32], &buf).is_some(), same);
        }

        #[test]
        fn any_bytes_are_taken_apart_or_not(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = split(&bytes);
        }
    }
}
