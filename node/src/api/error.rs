//! What a client is told when something is not done.
//!
//! Owns: the error that every part of a node answers with, and its problem document (RFC 9457), for REST answers and
//! realtime `error` frames.
//! Must not know: routes, handlers, sockets.
//! Invariants: status and title follow from the code; nothing about nodes, files or storage is said; every bad field is
//! named, up to a bound.

use super::time::Rfc3339;
use super::trace::TraceId;
use super::view::{MessageView, MismatchView, Text};
use crate::auth::{AuthError, Scope};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use messenger_proto::envelope::DeviceMismatch;
use messenger_proto::error::{ErrorCode, Refusal};
use messenger_proto::ids::Millis;
use messenger_proto::model::Message;
use serde::Serialize;
use std::borrow::Cow;
use std::fmt::Display;

/// Bad fields named in one answer at most.
pub const FIELD_ERRORS_MAX: usize = 100;
/// Seconds after which a client that was turned away may try again.
const RETRY_AFTER_S: u32 = 1;

/// The same, of one that nothing but another device's publication helps.
const EXHAUSTED_RETRY_S: u32 = 60;

/// One bad field of a request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct FieldError {
    /// Its path: `participants[2]`, a query parameter's or a header's name.
    pub field: String,
    /// What is wrong with it.
    pub message: Cow<'static, str>,
}

impl FieldError {
    /// Names a field and what is wrong with it.
    #[must_use]
    pub fn new(field: impl Into<String>, message: impl Into<Cow<'static, str>>) -> Self {
        Self { field: field.into(), message: message.into() }
    }
}

/// Why a request was not carried out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApiError {
    code: ErrorCode,
    detail: Cow<'static, str>,
    fields: Vec<FieldError>,
    existing: Option<Box<Message>>,
    mismatch: Option<Box<DeviceMismatch>>,
    challenge: Option<Cow<'static, str>>,
    allow: Option<&'static str>,
    close: bool,
    retry_after_s: u32,
}

impl ApiError {
    /// An error with its code, and what exactly is wrong, in words for the client.
    #[must_use]
    pub fn new(code: ErrorCode, detail: impl Into<Cow<'static, str>>) -> Self {
        let (fields, detail) = (Vec::new(), detail.into());
        Self {
            code,
            detail,
            fields,
            existing: None,
            mismatch: None,
            challenge: None,
            allow: None,
            close: false,
            retry_after_s: RETRY_AFTER_S,
        }
    }

    /// An error of ours: logged here, where it is noticed, and not shown.
    #[must_use]
    pub fn internal(what: impl Display) -> Self {
        tracing::error!(%what, "internal error");
        Self::new(ErrorCode::Internal, INTERNAL_DETAIL)
    }

    /// An [`ErrorCode::InvalidRequest`] for one field.
    #[must_use]
    pub fn field(field: impl Into<String>, message: impl Into<Cow<'static, str>>) -> Self {
        Self::fields(vec![FieldError::new(field, message)])
    }

    /// An [`ErrorCode::InvalidRequest`] for some fields.
    #[must_use]
    pub fn fields(fields: Vec<FieldError>) -> Self {
        Self::new(ErrorCode::InvalidRequest, FIELDS_DETAIL).with_fields(fields)
    }

    /// The same with the bad fields named.
    #[must_use]
    pub fn with_fields(mut self, mut fields: Vec<FieldError>) -> Self {
        fields.truncate(FIELD_ERRORS_MAX);
        self.fields = fields;
        self
    }

    /// The same with one more bad field.
    #[must_use]
    pub fn and_field(mut self, field: FieldError) -> Self {
        if self.fields.len() < FIELD_ERRORS_MAX {
            self.fields.push(field);
        }
        self
    }

    /// The path exists, the method doesn't.
    #[must_use]
    pub fn method_not_allowed(allow: &'static str) -> Self {
        let error = Self::new(ErrorCode::MethodNotAllowed, "The path has other methods; see Allow.");
        Self { allow: Some(allow), ..error }
    }

    /// More was asked for than may be; there is more after so many seconds.
    #[must_use]
    pub fn rate_limited(detail: String, retry_after_s: u32) -> Self {
        Self { retry_after_s, ..Self::new(ErrorCode::RateLimited, detail) }
    }

    /// Nothing has this path.
    #[must_use]
    pub fn no_such_path() -> Self {
        Self::new(ErrorCode::NotFound, "Nothing has this path.")
    }

    /// The token does not let its bearer do this.
    #[must_use]
    pub fn missing_scope(scope: Scope) -> Self {
        let name = scope.as_str();
        let challenge = format!(r#"Bearer realm="messenger", error="insufficient_scope", scope="{name}""#);
        let error = Self::new(ErrorCode::MissingScope, format!("The token's scope does not hold {name}."));
        Self { challenge: Some(challenge.into()), ..error }
    }

    /// A message that was sent before under another key, and what became of it.
    #[must_use]
    pub fn duplicate(existing: Message) -> Self {
        let detail = "The device sent this message before, under another Idempotency-Key; here it is.";
        let error = Self::new(ErrorCode::DuplicateClientSeq, detail);
        Self { existing: Some(Box::new(existing)), ..error }
    }

    /// The same, with the connection closed after it: its next bytes would not be a request.
    #[must_use]
    pub fn closing(self) -> Self {
        Self { close: true, ..self }
    }

    /// The error's code.
    #[must_use]
    pub fn code(&self) -> ErrorCode {
        self.code
    }

    /// What exactly is wrong.
    #[must_use]
    pub fn detail(&self) -> &str {
        &self.detail
    }

    /// The error's HTTP status.
    #[must_use]
    pub fn status(&self) -> StatusCode {
        StatusCode::from_u16(self.code.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
    }

    /// The problem document.
    #[must_use]
    pub fn problem<'a>(&'a self, trace: TraceId, instance: Option<&'a str>, at: Millis) -> Problem<'a> {
        Problem {
            r#type: Text(ProblemType(self.code)),
            title: self.code.title(),
            status: self.code.status(),
            detail: &self.detail,
            instance,
            code: self.code.as_str(),
            trace_id: Text(trace),
            timestamp: Rfc3339(at),
            errors: &self.fields,
            existing: self.existing.as_deref().map(MessageView::of),
            mismatch: self.mismatch.as_deref().map(MismatchView::of),
        }
    }

    /// Adds the headers that go with the code.
    pub(crate) fn set_headers(&self, headers: &mut HeaderMap) {
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        if let Some(challenge) = &self.challenge
            && let Ok(value) = HeaderValue::from_str(challenge)
        {
            headers.insert(header::WWW_AUTHENTICATE, value);
        }
        if let Some(allow) = self.allow {
            headers.insert(header::ALLOW, HeaderValue::from_static(allow));
        }
        if matches!(self.code.status(), 429 | 503) {
            // Keys come when the device publishes some, and not because someone asks again.
            let exhausted = self.code == ErrorCode::PrekeysExhausted;
            let after = if exhausted { EXHAUSTED_RETRY_S } else { self.retry_after_s };
            headers.insert(header::RETRY_AFTER, HeaderValue::from(after));
        }
        if self.close {
            headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
    }
}

const INTERNAL_DETAIL: &str = "Something went wrong here; the operator finds it under the trace id.";
const FIELDS_DETAIL: &str = "Some fields are not valid; see errors.";
const UNAVAILABLE_DETAIL: &str = "It was not accepted in time and had no effect; try again.";
const UNKNOWN_DETAIL: &str = "It may or may not have been carried out; try again with the same keys.";

impl From<Refusal> for ApiError {
    fn from(refusal: Refusal) -> Self {
        let Refusal { code, detail, existing, field, mismatch } = refusal;
        if let Some(field) = field {
            return Self { existing, ..Self::new(code, FIELDS_DETAIL) }
                .with_fields(vec![FieldError::new(field, detail)]);
        }
        // What these say is about nodes and storage, and for the operator.
        let detail: Cow<'static, str> = match code {
            ErrorCode::Internal => return Self::internal(detail),
            // What a shard says of a token is answered as what the gateway finds out itself.
            ErrorCode::DeviceRevoked => return AuthError::Revoked.into(),
            ErrorCode::Suspended => return AuthError::Suspended.into(),
            ErrorCode::Unavailable | ErrorCode::OutcomeUnknown | ErrorCode::Overloaded => {
                tracing::debug!(code = code.as_str(), detail, "turned away");
                match code {
                    ErrorCode::OutcomeUnknown => UNKNOWN_DETAIL.into(),
                    _ => UNAVAILABLE_DETAIL.into(),
                }
            }
            _ if detail.is_empty() => code.title().into(),
            _ => detail.into(),
        };
        Self { existing, mismatch, ..Self::new(code, detail) }
    }
}

impl From<AuthError> for ApiError {
    fn from(error: AuthError) -> Self {
        let challenge = match error {
            AuthError::Missing => r#"Bearer realm="messenger""#.into(),
            _ => format!(r#"Bearer realm="messenger", error="invalid_token", error_description="{error}""#).into(),
        };
        Self { challenge: Some(challenge), ..Self::new(error.code(), error.to_string()) }
    }
}

impl IntoResponse for ApiError {
    /// Only the status, and the error beside it: the edge knows the trace id and writes the document.
    fn into_response(self) -> Response {
        let mut response = self.status().into_response();
        response.extensions_mut().insert(self);
        response
    }
}

struct ProblemType(ErrorCode);

impl Display for ProblemType {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "urn:messenger:problem:{}", self.0.as_str())
    }
}

/// The problem document; a duplicate's carries the existing Message's members too, a device mismatch's what differs.
#[derive(Serialize)]
pub struct Problem<'a> {
    r#type: Text<ProblemType>,
    title: &'static str,
    status: u16,
    detail: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    instance: Option<&'a str>,
    code: &'static str,
    trace_id: Text<TraceId>,
    timestamp: Rfc3339,
    errors: &'a [FieldError],
    #[serde(flatten)]
    existing: Option<MessageView<'a>>,
    #[serde(flatten)]
    mismatch: Option<MismatchView<'a>>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn document(error: &ApiError) -> Value {
        let trace = TraceId([1; 16]);
        serde_json::to_value(error.problem(trace, Some("/v1/threads"), Millis(1))).unwrap()
    }

    #[test]
    fn every_code_makes_a_document() {
        for code in ErrorCode::ALL {
            let seen = document(&ApiError::new(*code, "d"));
            assert_eq!(seen["status"], json!(code.status()));
            assert_eq!(seen["code"], json!(code.as_str()));
            assert_eq!(seen["type"], json!(format!("urn:messenger:problem:{}", code.as_str())));
            assert!(seen["title"].as_str().is_some_and(|title| !title.is_empty()));
            assert_eq!(seen["trace_id"], json!("01010101010101010101010101010101"));
            assert_eq!(seen["timestamp"], json!("1970-01-01T00:00:00.001Z"));
            assert_eq!((&seen["instance"], &seen["errors"]), (&json!("/v1/threads"), &json!([])));
        }
    }

    #[test]
    fn what_is_the_operators_is_not_said() {
        for code in [ErrorCode::Internal, ErrorCode::Unavailable, ErrorCode::OutcomeUnknown, ErrorCode::Overloaded] {
            let error = ApiError::from(Refusal::new(code, "disk /var/lib/x at 10.0.0.1:7501"));
            assert_eq!(error.code(), code);
            assert!(!document(&error).to_string().contains("/var"));
        }
        let said = ApiError::from(Refusal::new(ErrorCode::ThreadFull, "at most 250"));
        assert_eq!(document(&said)["detail"], json!("at most 250"));
    }

    #[test]
    fn a_token_that_a_shard_refuses_is_challenged_too() {
        for code in [ErrorCode::DeviceRevoked, ErrorCode::Suspended] {
            let (error, mut headers) = (ApiError::from(Refusal::new(code, "of a shard")), HeaderMap::new());
            error.set_headers(&mut headers);
            assert_eq!(error.code(), code);
            assert!(headers.contains_key(header::WWW_AUTHENTICATE), "{code:?}");
        }
    }

    #[test]
    fn as_many_bad_fields_are_named_as_fit() {
        let fields = (0..1000).map(|n| FieldError::new(format!("f[{n}]"), "bad")).collect();
        assert_eq!(document(&ApiError::fields(fields))["errors"].as_array().unwrap().len(), FIELD_ERRORS_MAX);
    }
}
