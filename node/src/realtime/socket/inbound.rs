//! What a client says.
//!
//! Owns: reading client frames.
//! Must not know: what they lead to.
//! Invariants: any text gives a frame or an error that says everything that is wrong with it; work is linear in the text.

use crate::api::error::ApiError;
use crate::gateway::envelopes::ALLOW_MISMATCH;
use crate::gateway::idempotency::IdempotencyKey;
use crate::gateway::input::{Complaint, Object, boolean, integer, text};
use crate::gateway::send::{SendRequest, message_id, thread_id};
use messenger_proto::error::ErrorCode;
use messenger_proto::ids::{MessageId, ThreadId};
use messenger_proto::limits::USER_THREADS_MAX;
use serde_json::value::RawValue;
use std::collections::BTreeSet;

/// Every kind of frame that is read.
const KINDS: [&str; 9] = ["auth", "client_ack", "pong", "send", "read", "delivered", "typing", "presence", "subscribe"];
/// Bytes of a `request_id` at most, as JSON.
const REQUEST_ID_MAX: usize = 128;

/// A client's name for one frame: any JSON string or number, echoed as it came.
pub(super) type RequestId = Option<Box<RawValue>>;

/// A client's frame.
#[derive(Debug)]
pub(super) enum Inbound {
    Ack(u64),
    Pong,
    Send { thread: ThreadId, key: Option<IdempotencyKey>, request: Box<SendRequest> },
    Read { thread: ThreadId, up_to: MessageId },
    Delivered { thread: ThreadId, up_to: MessageId },
    Subscribe(BTreeSet<ThreadId>),
    Typing { thread: ThreadId, stop: bool },
    Presence { away: bool },
    Auth(String),
}

/// Reads a frame; what went wrong, or what it says, beside its `request_id`.
pub(super) fn parse(frame: &str) -> (RequestId, Result<Inbound, ApiError>) {
    let mut object = match Object::parse(frame.as_bytes()) {
        Ok(object) => object,
        Err(error) => return (None, Err(error)),
    };
    let request_id = object.optional("request_id", request_id);
    let kind = object.required("t", text);
    if kind.as_deref().is_some_and(|kind| !KINDS.contains(&kind)) {
        return (request_id, Err(ApiError::field("t", "is not a known kind of frame")));
    }
    let inbound = match kind.as_deref() {
        Some("client_ack") => object.required("frame_seq", |value| integer(value, u64::MAX)).map(Inbound::Ack),
        Some("pong") => Some(Inbound::Pong),
        Some("send") => send(&mut object),
        Some("read") => place(&mut object).map(|(thread, up_to)| Inbound::Read { thread, up_to }),
        Some("delivered") => place(&mut object).map(|(thread, up_to)| Inbound::Delivered { thread, up_to }),
        Some("subscribe") => {
            let threads = object.required_list("thread_ids", USER_THREADS_MAX, thread_id);
            threads.map(|threads| Inbound::Subscribe(threads.into_iter().collect()))
        }
        Some("auth") => object.required("token", text).map(|token| Inbound::Auth(token.into_owned())),
        Some("typing") => typing(&mut object),
        Some("presence") => object.required("status", away).map(|away| Inbound::Presence { away }),
        Some(_) | None => None,
    };
    let outcome = object.finish();
    let missing = || ApiError::new(ErrorCode::InvalidRequest, "The frame is not valid.");
    (request_id, outcome.and_then(|()| inbound.ok_or_else(missing)))
}

fn send(object: &mut Object<'_>) -> Option<Inbound> {
    let thread = object.required("thread_id", thread_id);
    let key = object.optional("idempotency_key", |value| {
        IdempotencyKey::new(&text(value)?).ok_or_else(|| Complaint::from("must have 1 to 64 characters"))
    });
    let allow_mismatch = object.optional(ALLOW_MISMATCH, boolean).unwrap_or_default();
    let request = SendRequest::take(object)?.allowing_mismatch(allow_mismatch);
    Some(Inbound::Send { thread: thread?, key, request: Box::new(request) })
}

fn typing(object: &mut Object<'_>) -> Option<Inbound> {
    let thread = object.required("thread_id", thread_id);
    let stop = object.optional("stop", boolean).unwrap_or_default();
    thread.map(|thread| Inbound::Typing { thread, stop })
}

fn away(value: &RawValue) -> Result<bool, Complaint> {
    match text(value)?.as_ref() {
        "online" => Ok(false),
        "away" => Ok(true),
        _ => Err("must be online or away".into()),
    }
}

fn place(object: &mut Object<'_>) -> Option<(ThreadId, MessageId)> {
    let thread = object.required("thread_id", thread_id);
    let up_to = object.required("up_to", message_id);
    thread.zip(up_to)
}

fn request_id(value: &RawValue) -> Result<Box<RawValue>, Complaint> {
    let scalar = value.get().starts_with(['"', '-', '0', '1', '2', '3', '4', '5', '6', '7', '8', '9']);
    if !scalar || value.get().len() > REQUEST_ID_MAX {
        return Err(format!("must be a string or a number of at most {REQUEST_ID_MAX} bytes").into());
    }
    Ok(value.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gateway::described_frames;
    use proptest::prelude::*;
    use rand::rngs::StdRng;
    use rand::seq::IndexedRandom;
    use rand::{RngExt, SeedableRng};
    use std::collections::BTreeSet;
    use std::time::{Duration, Instant};

    /// Valid frames, cut, spliced and mistyped, for `FUZZ_SECONDS` (1 unless set) from `FUZZ_SEED` (random unless set).
    #[test]
    fn no_text_upsets_the_reader() {
        const PARTS: [&str; 12] = ["{", "}", "[", "]", "\"", ":", ",", "null", "-1", "1e999", "\\ud800", "\u{1F600}"];
        let number = |name: &str| std::env::var(name).ok().and_then(|value| value.parse::<u64>().ok());
        let seed = number("FUZZ_SEED").unwrap_or_else(rand::random);
        let until = Instant::now() + Duration::from_secs(number("FUZZ_SECONDS").unwrap_or(1));
        println!("again with: FUZZ_SEED={seed}");
        let mut random = StdRng::seed_from_u64(seed);
        let valid: Vec<Vec<char>> = frames().iter().map(|frame| frame.to_string().chars().collect()).collect();
        let (mut tried, mut taken) = (0u64, 0u64);
        while tried < 1_000 || Instant::now() < until {
            let mut text = valid.choose(&mut random).expect("some").clone();
            for _ in 0..random.random_range(0..4) {
                let at = random.random_range(0..=text.len());
                let end = random.random_range(at..=text.len());
                let part: Vec<char> = PARTS.choose(&mut random).expect("some").chars().collect();
                let other = valid.choose(&mut random).expect("some");
                let from = random.random_range(0..=other.len());
                match random.random_range(0..5) {
                    0 => drop(text.drain(at..end)),
                    1 => drop(text.splice(at..end, part)),
                    2 => drop(text.splice(at..at, part)),
                    3 => drop(text.splice(at.., other[from..].iter().copied())),
                    _ => text.insert(at, random.random()),
                }
            }
            let text: String = text.into_iter().collect();
            let (_, frame) = parse(&text);
            tried += 1;
            taken += u64::from(frame.is_ok());
        }
        println!("{tried} frames, {taken} of them taken");
        assert!(taken > tried / 100 && taken < tried);
    }

    #[test]
    fn every_kind_that_is_read_is_described() {
        let described: BTreeSet<_> = described_frames::client_kinds().into_iter().collect();
        assert_eq!(described, BTreeSet::from(KINDS));
        let all = frames();
        let said: BTreeSet<_> = all.iter().filter_map(|frame| frame["t"].as_str()).collect();
        assert_eq!(said, BTreeSet::from(KINDS));
        for frame in all {
            described_frames::check_from_client(&frame);
            assert!(parse(&frame.to_string()).1.is_ok(), "{frame}");
        }
    }

    /// One frame of each kind.
    fn frames() -> [serde_json::Value; KINDS.len()] {
        let thread = "019b0000-0000-7000-8000-000000000000";
        let id = "01ARZ3NDEKTSV4RRFFQ69G5FAV";
        let place = |t: &str| serde_json::json!({"t": t, "request_id": 7, "thread_id": thread, "up_to": id});
        [
            serde_json::json!({"t": "auth", "token": "x"}),
            serde_json::json!({"t": "client_ack", "frame_seq": 3}),
            serde_json::json!({"t": "pong"}),
            serde_json::json!({"t": "send", "request_id": "r", "thread_id": thread, "client_seq": 1, "ciphertext": "aGk=",
                "idempotency_key": "k", "content_type": "text", "attachment_id": "a", "reply_to_msg_id": id, "ttl_seconds": 9}),
            place("read"),
            place("delivered"),
            serde_json::json!({"t": "typing", "thread_id": thread, "stop": true}),
            serde_json::json!({"t": "presence", "status": "away"}),
            serde_json::json!({"t": "subscribe", "thread_ids": [thread]}),
        ]
    }

    fn code(frame: &str) -> Option<ErrorCode> {
        parse(frame).1.err().map(|error| error.code())
    }

    #[test]
    fn frames_are_read() {
        let thread = "09090909-0909-0909-0909-090909090909";
        assert!(matches!(parse(r#"{"t":"client_ack","frame_seq":7}"#).1, Ok(Inbound::Ack(7))));
        assert!(matches!(parse(r#"{"t":"pong"}"#).1, Ok(Inbound::Pong)));
        let typing = |rest: &str| parse(&format!(r#"{{"t":"typing","thread_id":"{thread}"{rest}}}"#)).1;
        assert!(matches!(typing(""), Ok(Inbound::Typing { stop: false, .. })));
        assert!(matches!(typing(r#","stop":true"#), Ok(Inbound::Typing { stop: true, .. })));
        let read = format!(r#"{{"t":"read","thread_id":"{thread}","up_to":"01ARZ3NDEKTSV4RRFFQ69G5FAV"}}"#);
        assert!(matches!(parse(&read).1, Ok(Inbound::Read { .. })));
        let send = format!(
            r#"{{"t":"send","request_id":"r1","thread_id":"{thread}","client_seq":1,"ciphertext":"aGk=","idempotency_key":"k"}}"#
        );
        assert!(matches!(parse(r#"{"t":"presence","status":"away"}"#).1, Ok(Inbound::Presence { away: true })));
        assert!(matches!(parse(r#"{"t":"presence","status":"online"}"#).1, Ok(Inbound::Presence { away: false })));
        let (request_id, inbound) = parse(&send);
        assert_eq!(request_id.map(|id| id.get().to_owned()), Some(r#""r1""#.to_owned()));
        assert!(matches!(inbound, Ok(Inbound::Send { key: Some(_), .. })));
        let subscribe = format!(r#"{{"t":"subscribe","request_id":2,"thread_ids":["{thread}","{thread}"]}}"#);
        assert!(matches!(parse(&subscribe).1, Ok(Inbound::Subscribe(threads)) if threads.len() == 1));
    }

    #[test]
    fn what_is_no_frame_is_refused_and_keeps_its_request_id() {
        let frames = [
            "",
            "[]",
            "{}",
            r#"{"t":"dance"}"#,
            r#"{"t":7}"#,
            r#"{"t":"client_ack"}"#,
            r#"{"t":"client_ack","frame_seq":-1}"#,
            r#"{"t":"send","thread_id":"x"}"#,
            r#"{"t":"pong","extra":1}"#,
            r#"{"t":"pong","request_id":{}}"#,
            r#"{"t":"subscribe","thread_ids":["x"]}"#,
            r#"{"t":"typing"}"#,
            r#"{"t":"presence"}"#,
            r#"{"t":"presence","status":"offline"}"#,
            r#"{"t":"typing","thread_id":"09090909-0909-0909-0909-090909090909","stop":1}"#,
        ];
        for frame in frames {
            assert_eq!(code(frame), Some(ErrorCode::InvalidRequest), "{frame}");
        }
        let (request_id, error) = parse(r#"{"t":"send","request_id":5}"#);
        assert_eq!(request_id.map(|id| id.get().to_owned()), Some("5".to_owned()));
        assert!(error.is_err());
    }

    proptest! {
        #[test]
        fn any_text_gets_an_answer(text in ".{0,200}") {
            let _ = parse(&text);
        }
    }
}
