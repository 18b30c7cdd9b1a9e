//! One operation of the API, as the document says it.
//!
//! Owns: the facts by which an operation is described, and the errors that follow from them.
//! Must not know: which operations there are.

use super::headers;
use messenger_proto::error::ErrorCode;
use serde_json::{Map, Value, json};
use std::collections::{BTreeMap, BTreeSet};

/// Who may.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::gateway) enum Access {
    /// Anyone.
    Open,
    /// Whose token has `chat.read`.
    Read,
    /// Whose token has `chat.write`.
    Write,
    /// Whose token has `chat.read`, which may come after the answer.
    Later,
}

/// Whether an `Idempotency-Key` is taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Key {
    Unused,
    Honoured,
    Required,
}

/// A parameter of the query string.
pub(super) struct Parameter {
    pub(super) name: &'static str,
    pub(super) about: &'static str,
    pub(super) schema: fn() -> Value,
}

/// What a request says.
pub(super) struct Body {
    /// The name of its schema.
    pub(super) schema: &'static str,
    pub(super) example: fn() -> Value,
}

/// A success.
pub(super) struct Success {
    pub(super) status: u16,
    /// The name of its schema; empty when there is no body.
    pub(super) schema: &'static str,
    pub(super) about: &'static str,
    /// Whether it says where the thing is that was made.
    pub(super) located: bool,
}

/// An operation.
pub(in crate::gateway) struct Operation {
    pub(super) method: &'static str,
    pub(super) path: &'static str,
    pub(super) id: &'static str,
    pub(super) tag: &'static str,
    pub(super) summary: &'static str,
    pub(super) about: &'static str,
    pub(super) access: Access,
    pub(super) query: &'static [Parameter],
    pub(super) key: Key,
    pub(super) body: Option<Body>,
    pub(super) successes: &'static [Success],
    /// Beside those that every operation of its kind may meet.
    pub(super) errors: &'static [ErrorCode],
}

fn reference(name: &str) -> Value {
    json!({ "$ref": format!("#/components/schemas/{name}") })
}

impl Operation {
    /// Whether its answer has an `ETag`, so that who has it is not sent it again.
    pub(super) fn is_tagged(&self) -> bool {
        self.successes.iter().any(|success| success.status == 304)
    }

    /// Every error it may answer with.
    pub(in crate::gateway) fn codes(&self) -> BTreeSet<&'static str> {
        use ErrorCode as E;
        let mut codes = vec![E::HeadersTooLarge, E::Internal, E::Overloaded, E::Unavailable];
        codes.extend_from_slice(self.errors);
        if self.access != Access::Open {
            codes.extend([E::Unauthenticated, E::TokenExpired, E::DeviceRevoked, E::Suspended]);
            codes.extend([E::MissingScope, E::RateLimited]);
        }
        let takes = self.path.contains('{') || !self.query.is_empty() || self.key != Key::Unused || self.body.is_some();
        if takes {
            codes.push(E::InvalidRequest);
        }
        if self.access == Access::Write {
            codes.push(E::OutcomeUnknown);
        }
        if self.method != "get" {
            codes.push(E::BodyTooLarge);
        }
        if self.body.is_some() {
            codes.push(E::UnsupportedMediaType);
        }
        match self.key {
            Key::Unused => {}
            Key::Honoured => codes.push(E::IdempotencyKeyReused),
            Key::Required => codes.extend([E::IdempotencyKeyReused, E::IdempotencyKeyRequired]),
        }
        codes.into_iter().map(ErrorCode::as_str).collect()
    }

    #[cfg(test)]
    /// The schema of an answer, if it may have the status; `Null` where it has no body.
    pub(in crate::gateway) fn answer(&self, status: u16) -> Option<Value> {
        if let Some(success) = self.successes.iter().find(|success| success.status == status) {
            return Some(if success.schema.is_empty() { Value::Null } else { reference(success.schema) });
        }
        let codes = self.codes();
        let known = ErrorCode::ALL.iter().any(|code| code.status() == status && codes.contains(code.as_str()));
        known.then(|| reference(problem(status, &codes)))
    }

    /// Its part of the document.
    pub(super) fn describe(&self) -> Value {
        let mut described = json!({
            "operationId": self.id,
            "tags": [self.tag],
            "summary": self.summary,
            "description": self.about,
            "parameters": self.parameters(),
            "responses": self.responses(),
        });
        match self.access {
            Access::Open => described["security"] = json!([]),
            Access::Later => described["security"] = json!([{ "bearer": [] }, {}]),
            Access::Read => described["x-required-scope"] = json!("chat.read"),
            Access::Write => described["x-required-scope"] = json!("chat.write"),
        }
        if let Some(body) = &self.body {
            let content = json!({ "schema": reference(body.schema), "example": (body.example)() });
            described["requestBody"] = json!({ "required": true, "content": { "application/json": content } });
        }
        described
    }

    fn parameters(&self) -> Vec<Value> {
        let names = self.path.split('/').filter_map(|part| part.strip_prefix('{')?.strip_suffix('}'));
        let mut parameters: Vec<Value> = names.map(|name| self.path_parameter(name)).collect();
        parameters.extend(self.query.iter().map(|parameter| {
            json!({
                "name": parameter.name, "in": "query", "required": false,
                "description": parameter.about, "schema": (parameter.schema)(),
            })
        }));
        if self.key != Key::Unused {
            parameters.push(json!({
                "name": "Idempotency-Key", "in": "header", "required": self.key == Key::Required,
                "description": "Names the request for 24 hours: a repeat with the same body is answered as the first one was.",
                "schema": { "type": "string", "minLength": 1, "maxLength": 64 },
            }));
        }
        if self.is_tagged() {
            parameters.push(json!({
                "name": "If-None-Match", "in": "header", "required": false,
                "description": "The `ETag` of what the client has, or several: where nothing changed the answer is 304.",
                "schema": { "type": "string" },
            }));
        }
        parameters
    }

    fn path_parameter(&self, name: &str) -> Value {
        let (about, schema) = match name {
            "user_id" if self.tag == "threads" => {
                ("The participant; to leave, one's own id: `me` is not one.", reference("UserId"))
            }
            "user_id" if self.path.contains("/blocks/") => ("The other user.", reference("UserId")),
            "thread_id" => ("The thread.", reference("ThreadId")),
            "message_id" => ("The message.", reference("MessageId")),
            "user_id" => ("The user; `me` is oneself.", reference("UserRef")),
            "device_id" => ("The device.", reference("DeviceId")),
            "emoji" => ("The emoji, percent-encoded.", json!({ "type": "string", "minLength": 1 })),
            _ => ("", json!({ "type": "string" })),
        };
        json!({ "name": name, "in": "path", "required": true, "description": about, "schema": schema })
    }

    fn responses(&self) -> Map<String, Value> {
        let mut responses = Map::new();
        for success in self.successes {
            let mut response = json!({
                "description": success.about,
                "headers": headers::references(self, success.status),
            });
            if !success.schema.is_empty() {
                response["content"] = json!({ "application/json": { "schema": reference(success.schema) } });
            }
            responses.insert(success.status.to_string(), response);
        }
        let codes = self.codes();
        let mut by_status: BTreeMap<u16, Vec<&ErrorCode>> = BTreeMap::new();
        for code in ErrorCode::ALL.iter().filter(|code| codes.contains(code.as_str())) {
            by_status.entry(code.status()).or_default().push(code);
        }
        for (status, codes_of_status) in by_status {
            let about: Vec<String> =
                codes_of_status.iter().map(|code| format!("`{}`: {}.", code.as_str(), code.title())).collect();
            let schema = reference(problem(status, &codes));
            let response = json!({
                "description": about.join(" "),
                "headers": headers::references(self, status),
                "content": { "application/problem+json": { "schema": schema } },
            });
            responses.insert(status.to_string(), response);
        }
        responses
    }
}

/// A problem that carries the message it collides with has a schema of its own.
fn problem(status: u16, codes: &BTreeSet<&str>) -> &'static str {
    let may_be = |code: ErrorCode| status == code.status() && codes.contains(code.as_str());
    if may_be(ErrorCode::DuplicateClientSeq) {
        "ConflictProblem"
    } else if may_be(ErrorCode::DeviceMismatch) {
        "MismatchProblem"
    } else {
        "Problem"
    }
}
