//! Why a call did not succeed.
//!
//! Owns: the client's errors, and what they mean for a retry.
//! Must not know: which call it was.

use crate::devices::Mismatch;
use crate::model::Message;
use bytes::Bytes;
use messenger_proto::error::ErrorCode;
use serde::Deserialize;
use std::time::Duration;

/// One bad field of a request.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct FieldError {
    /// Where.
    pub field: String,
    /// What is wrong with it.
    pub message: String,
}

/// A refusal, as `application/problem+json` has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The HTTP status.
    pub status: u16,
    /// Stable and machine-readable; `http_<status>` when the answer was no problem document.
    pub code: String,
    /// The same for every occurrence.
    pub title: String,
    /// What exactly went wrong this time.
    pub detail: String,
    /// For the operator's logs.
    pub trace_id: Option<String>,
    /// Every bad field.
    pub errors: Vec<FieldError>,
    /// When to come back.
    pub retry_after: Option<Duration>,
    /// The message that is there already; with `duplicate_client_seq`.
    pub existing: Option<Box<Message>>,
    /// Which envelopes don't fit; with `device_mismatch`.
    pub mismatch: Option<Box<Mismatch>>,
}

#[derive(Deserialize)]
struct ProblemDocument {
    #[serde(default)]
    status: Option<u16>,
    code: String,
    #[serde(default)]
    title: Option<String>,
    #[serde(default)]
    detail: Option<String>,
    #[serde(default)]
    trace_id: Option<String>,
    #[serde(default)]
    errors: Vec<FieldError>,
}

impl Problem {
    /// Reads an answer of a status that is no success.
    #[must_use]
    pub fn from_answer(status: u16, retry_after: Option<Duration>, body: &Bytes) -> Self {
        match Self::parse(body) {
            Some(problem) => Self { status, retry_after, ..problem },
            None => Self {
                status,
                code: format!("http_{status}"),
                title: format!("The server answered {status}"),
                detail: String::new(),
                trace_id: None,
                errors: Vec::new(),
                retry_after,
                existing: None,
                mismatch: None,
            },
        }
    }

    /// Reads a problem document; `None` if it is none.
    #[must_use]
    pub fn parse(body: &[u8]) -> Option<Self> {
        let document: ProblemDocument = serde_json::from_slice(body).ok()?;
        let existing = match document.code.as_str() {
            "duplicate_client_seq" => serde_json::from_slice(body).ok().map(Box::new),
            _ => None,
        };
        let mismatch = match document.code.as_str() {
            "device_mismatch" => serde_json::from_slice(body).ok().map(Box::new),
            _ => None,
        };
        Some(Self {
            status: document.status.unwrap_or(0),
            code: document.code,
            title: document.title.unwrap_or_default(),
            detail: document.detail.unwrap_or_default(),
            trace_id: document.trace_id,
            errors: document.errors,
            retry_after: None,
            existing,
            mismatch,
        })
    }

    /// Whether the same request may succeed when it is sent again.
    #[must_use]
    pub fn retryable(&self) -> bool {
        match ErrorCode::parse(&self.code) {
            Some(code) => code.retryable(),
            None => matches!(self.status, 429 | 500..=599),
        }
    }

    /// Whether the request may have been carried out all the same.
    #[must_use]
    pub fn may_have_had_effects(&self) -> bool {
        match ErrorCode::parse(&self.code) {
            Some(code) => code.may_have_had_effects(),
            None => self.status >= 500,
        }
    }
}

impl std::fmt::Display for Problem {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} ({})", self.title, self.code)?;
        if !self.detail.is_empty() {
            write!(f, ": {}", self.detail)?;
        }
        for error in &self.errors {
            write!(f, "; {}: {}", error.field, error.message)?;
        }
        Ok(())
    }
}

/// Why a call did not succeed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ClientError {
    /// The cluster said no.
    #[error("{0}")]
    Refused(Box<Problem>),
    /// No server took the request.
    #[error("cannot reach {server}: {reason}")]
    Unreachable {
        /// The last one tried.
        server: String,
        /// What the operating system said.
        reason: String,
    },
    /// The request was sent and the connection was lost: the outcome is unknown.
    #[error("lost the connection to {server}: {reason}")]
    Lost {
        /// To which server.
        server: String,
        /// How it ended.
        reason: String,
    },
    /// No answer before the deadline: the outcome is unknown.
    #[error("no answer within {} s", .0.as_secs_f32())]
    TimedOut(Duration),
    /// The answer is not what the contract says.
    #[error("not understood: {0}")]
    Protocol(String),
    /// No token could be had.
    #[error("no token: {0}")]
    Token(String),
    /// Too many sends are waiting already.
    #[error("too many sends are waiting")]
    Full,
    /// The client was closed.
    #[error("the connection was closed: {0}")]
    Closed(String),
}

impl ClientError {
    /// A short stable name for counting.
    #[must_use]
    pub fn code(&self) -> &str {
        match self {
            Self::Refused(problem) => &problem.code,
            Self::Unreachable { .. } => "unreachable",
            Self::Lost { .. } => "connection_lost",
            Self::TimedOut(_) => "timed_out",
            Self::Protocol(_) => "protocol",
            Self::Token(_) => "token",
            Self::Full => "full",
            Self::Closed(_) => "closed",
        }
    }

    /// Whether the same request, with the same keys, may succeed when it is sent again.
    #[must_use]
    pub fn retryable(&self) -> bool {
        match self {
            Self::Refused(problem) => problem.retryable(),
            Self::Unreachable { .. } | Self::Lost { .. } | Self::TimedOut(_) | Self::Full => true,
            Self::Protocol(_) | Self::Token(_) | Self::Closed(_) => false,
        }
    }

    /// Whether the request may have been carried out all the same.
    #[must_use]
    pub fn may_have_had_effects(&self) -> bool {
        match self {
            Self::Refused(problem) => problem.may_have_had_effects(),
            Self::Lost { .. } | Self::TimedOut(_) | Self::Protocol(_) | Self::Closed(_) => true,
            Self::Unreachable { .. } | Self::Token(_) | Self::Full => false,
        }
    }

    /// The refusal, if that is what this is.
    #[must_use]
    pub fn problem(&self) -> Option<&Problem> {
        match self {
            Self::Refused(problem) => Some(problem),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_problem_document_is_read_whole() {
        let body = br#"{"type":"about:blank","title":"The request is not valid","status":400,"detail":"two fields",
            "code":"invalid_request","trace_id":"t1","errors":[{"field":"client_seq","message":"missing"}]}"#;
        let problem = Problem::from_answer(400, None, &Bytes::from_static(body));
        assert_eq!((problem.code.as_str(), problem.status), ("invalid_request", 400));
        assert_eq!(problem.errors[0].field, "client_seq");
        assert!(!problem.retryable() && !problem.may_have_had_effects());
        assert_eq!(problem.to_string(), "The request is not valid (invalid_request): two fields; client_seq: missing");
    }

    #[test]
    fn a_mismatch_names_the_devices() {
        let body =
            br#"{"status":409,"code":"device_mismatch","missing_devices":[{"user_id":"bob","device_id":"phone"}],
            "extra_devices":[],"stale_devices":[{"user_id":"bob","device_id":"tablet"}]}"#;
        let problem = Problem::parse(body).unwrap();
        assert!(!problem.retryable(), "the same envelopes don't fit later either");
        let mismatch = problem.mismatch.unwrap();
        assert_eq!(mismatch.missing_devices[0].device_id.as_str(), "phone");
        assert_eq!((mismatch.extra_devices.len(), mismatch.stale_devices.len()), (0, 1));
    }

    #[test]
    fn an_answer_of_something_else_has_a_code_all_the_same() {
        let problem = Problem::from_answer(502, None, &Bytes::from_static(b"<html>"));
        assert_eq!(problem.code, "http_502");
        assert!(problem.retryable() && problem.may_have_had_effects());
        assert!(!Problem::from_answer(404, None, &Bytes::new()).retryable());
    }

    #[test]
    fn unavailable_has_no_effects_and_outcome_unknown_may() {
        let coded = |code: &str| Problem::from_answer(503, None, &Bytes::from(format!(r#"{{"code":"{code}"}}"#)));
        assert!(!coded("unavailable").may_have_had_effects());
        assert!(coded("outcome_unknown").may_have_had_effects());
        assert!(coded("outcome_unknown").retryable() && coded("unavailable").retryable());
    }
}
