//! The JSON of frames that answer one of the client's.
//!
//! Owns: what their members are called.
//! Must not know: what was asked.
//! Invariants: the client's `request_id` comes back as it came.

use super::members;
use crate::api::error::ApiError;
use crate::api::trace::TraceId;
use crate::api::view::{MessageView, Text};
use bytes::Bytes;
use messenger_proto::error::ErrorCode;
use messenger_proto::ids::{Millis, ThreadId};
use messenger_proto::model::Message;
use serde::Serialize;
use serde_json::value::RawValue;

/// The client's message is stored.
#[must_use]
pub fn sent(request_id: Option<&RawValue>, message: &Message, replayed: bool) -> Bytes {
    #[derive(Serialize)]
    struct Sent<'a> {
        t: &'static str,
        request_id: Option<&'a RawValue>,
        #[serde(flatten)]
        message: MessageView<'a>,
        #[serde(skip_serializing_if = "std::ops::Not::not")]
        replayed: bool,
    }
    members(&Sent { t: "sent", request_id, message: MessageView::of(message), replayed })
}

/// What the client asked for is not done. The frame has a trace id of its own; what is the operator's to find is logged
/// under it.
#[must_use]
pub fn error(request_id: Option<&RawValue>, error: &ApiError, now: Millis) -> Bytes {
    #[derive(Serialize)]
    struct Error<'a, P: Serialize> {
        t: &'static str,
        request_id: Option<&'a RawValue>,
        #[serde(flatten)]
        problem: P,
    }
    let trace = TraceId::random();
    if error.code() == ErrorCode::Internal {
        tracing::error!(trace_id = %trace, request_id = request_id.map(RawValue::get), "answered with an internal error");
    }
    let problem = error.problem(trace, None, now);
    members(&Error { t: "error", request_id, problem })
}

/// The threads that a device asked to hear.
#[must_use]
pub fn subscribed<'a>(request_id: Option<&RawValue>, threads: impl Iterator<Item = &'a ThreadId>) -> Bytes {
    #[derive(Serialize)]
    struct Subscribed<'a> {
        t: &'static str,
        request_id: Option<&'a RawValue>,
        thread_ids: Vec<Text<ThreadId>>,
    }
    let thread_ids = threads.map(|thread| Text(*thread)).collect();
    members(&Subscribed { t: "subscribed", request_id, thread_ids })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;
    use std::sync::{Arc, Mutex};

    #[derive(Clone, Default)]
    struct Log(Arc<Mutex<Vec<u8>>>);

    impl Write for Log {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn an_internal_error_is_found_under_its_trace_id() {
        let log = Log::default();
        let writer = log.clone();
        let subscriber = tracing_subscriber::fmt().with_writer(move || writer.clone()).with_ansi(false).finish();
        let frame = |code| {
            let members = error(None, &ApiError::new(code, "d"), Millis(1));
            let text = format!("{{{}}}", std::str::from_utf8(&members).unwrap());
            let frame: serde_json::Value = serde_json::from_str(&text).unwrap();
            frame["trace_id"].as_str().unwrap().to_owned()
        };
        let (internal, other) =
            tracing::subscriber::with_default(subscriber, || (frame(ErrorCode::Internal), frame(ErrorCode::NotFound)));
        let logged = String::from_utf8(log.0.lock().unwrap().clone()).unwrap();
        assert!(logged.contains(&internal) && !logged.contains(&other), "{logged}");
    }
}
