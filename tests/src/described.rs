//! What a node says of its own API: the documents it serves.
//!
//! Owns: reading `/v1/openapi.json` and `/v1/asyncapi.json`, and holding answers and frames against their schemas.
//! Must not know: who asks what.
//! Invariants: members that are not described are refused, so that the documents can't fall behind.

use crate::http::Http;
use bytes::Bytes;
use http::Method;
use jsonschema::Validator;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

/// The documents of a node.
#[derive(Debug)]
pub struct Described {
    operations: Vec<Operation>,
    openapi: Value,
    asyncapi: Value,
    /// The schemas of both, which are the same, made strict.
    schemas: Value,
    validators: Mutex<HashMap<String, Arc<Validator>>>,
}

/// One row of the API.
#[derive(Debug, Clone)]
pub struct Operation {
    /// Its method.
    pub method: Method,
    /// Its path, with names in braces.
    pub path: String,
    /// The scope a token must have; `None` where no token is asked for.
    pub scope: Option<String>,
    /// What a request may say, where it says something.
    pub example: Option<Value>,
    /// Whether it is asked for a token at all.
    pub is_open: bool,
    /// Each answer by its status: its schema if it has one, and the codes of its problems.
    pub answers: BTreeMap<u16, Outcome>,
}

/// An answer that there may be.
#[derive(Debug, Clone)]
pub struct Outcome {
    /// The schema of its body; `None` when there is none, or it is no JSON.
    pub schema: Option<Value>,
    /// The codes that a problem of this status may have.
    pub codes: BTreeSet<String>,
}

/// Which way a frame goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// From a node to a client.
    FromNode,
    /// From a client to a node.
    FromClient,
}

fn strict(schema: &mut Value) {
    match schema {
        Value::Object(members) => {
            members.values_mut().for_each(strict);
            if members.contains_key("properties") && !members.contains_key("additionalProperties") {
                members.insert("additionalProperties".into(), json!(false));
            }
        }
        Value::Array(items) => items.iter_mut().for_each(strict),
        _ => {}
    }
}

/// What stands between backquotes and is followed by a colon: the codes that a response's description names.
fn codes_in(description: &str) -> BTreeSet<String> {
    let mut parts = description.split('`');
    let mut codes = BTreeSet::new();
    while let (Some(_), Some(code)) = (parts.next(), parts.next()) {
        codes.insert(code.to_owned());
    }
    codes
}

impl Operation {
    fn of(path: &str, method: &str, described: &Value) -> Self {
        let responses = described["responses"].as_object().cloned().unwrap_or_default();
        let answers = responses.iter().filter_map(|(status, response)| {
            let status: u16 = status.parse().ok()?;
            let content = response["content"].as_object().and_then(|content| content.values().next());
            let schema = content.map(|content| content["schema"].clone());
            let codes = if status >= 400 { codes_in(response["description"].as_str()?) } else { BTreeSet::new() };
            Some((status, Outcome { schema, codes }))
        });
        Self {
            method: method.to_uppercase().parse().expect("a method's name"),
            path: path.to_owned(),
            scope: described["x-required-scope"].as_str().map(str::to_owned),
            example: described.pointer("/requestBody/content/application~1json/example").cloned(),
            is_open: described["security"].as_array().is_some_and(Vec::is_empty),
            answers: answers.collect(),
        }
    }

    fn fits(&self, method: &Method, path: &str) -> bool {
        let (parts, template): (Vec<&str>, Vec<&str>) = (path.split('/').collect(), self.path.split('/').collect());
        let same = |(part, name): (&&str, &&str)| part == name || (name.starts_with('{') && !part.is_empty());
        self.method == *method && parts.len() == template.len() && parts.iter().zip(&template).all(same)
    }
}

impl Described {
    /// The documents of the node at `addr`.
    ///
    /// # Panics
    /// When it does not serve them.
    pub async fn of(addr: SocketAddr) -> Self {
        let http = Http::new(addr);
        let get =
            async |path: &str| http.request(Method::GET, path, &[], Bytes::new()).await.expect("an answer").expect(200);
        Self::new(get("/v1/openapi.json").await, get("/v1/asyncapi.json").await)
    }

    /// These documents.
    ///
    /// # Panics
    /// When the first describes no paths.
    #[must_use]
    pub fn new(openapi: Value, asyncapi: Value) -> Self {
        let mut operations = Vec::new();
        for (path, item) in openapi["paths"].as_object().expect("paths are an object") {
            for (method, described) in item.as_object().expect("a path is an object") {
                operations.push(Operation::of(path, method, described));
            }
        }
        let mut schemas = openapi["components"]["schemas"].clone();
        strict(&mut schemas);
        Self { operations, openapi, asyncapi, schemas, validators: Mutex::default() }
    }

    /// Every row.
    #[must_use]
    pub fn operations(&self) -> &[Operation] {
        &self.operations
    }

    /// The row that a request belongs to.
    #[must_use]
    pub fn find(&self, method: &Method, path: &str) -> Option<&Operation> {
        let path = path.split('?').next().unwrap_or(path);
        self.operations.iter().find(|operation| operation.fits(method, path))
    }

    /// Every error code.
    ///
    /// # Panics
    /// When the document lists none.
    #[must_use]
    pub fn codes(&self) -> BTreeSet<String> {
        let listed = self.openapi["components"]["schemas"]["ErrorCode"]["enum"].as_array().expect("codes are listed");
        listed.iter().filter_map(Value::as_str).map(str::to_owned).collect()
    }

    /// Every close code.
    ///
    /// # Panics
    /// When the document lists none.
    #[must_use]
    pub fn close_codes(&self) -> BTreeSet<u16> {
        let listed = self.asyncapi["channels"]["realtime"]["x-close-codes"].as_array().expect("codes are listed");
        let code = |row: &Value| row["code"].as_u64().and_then(|code| u16::try_from(code).ok());
        listed.iter().filter_map(code).collect()
    }

    /// Every kind of frame that goes one way, with its schema.
    ///
    /// # Panics
    /// When the document lists none.
    #[must_use]
    pub fn frames(&self, way: Way) -> BTreeMap<String, Value> {
        let operation = match way {
            Way::FromNode => "fromNode",
            Way::FromClient => "fromClient",
        };
        let listed = self.asyncapi["operations"][operation]["messages"].as_array().expect("frames are listed");
        let named = |reference: &Value| {
            let mut message = reference;
            while let Some(target) = message["$ref"].as_str() {
                message = self.asyncapi.pointer(target.trim_start_matches('#')).expect("references lead somewhere");
            }
            (message["name"].as_str().expect("a frame has a name").to_owned(), message["payload"].clone())
        };
        listed.iter().map(named).collect()
    }

    /// Checks that a value fits a schema.
    ///
    /// # Panics
    /// When it does not.
    pub fn check(&self, schema: &Value, value: &Value, what: &str) {
        let validator = {
            let mut known = self.validators.lock().unwrap_or_else(PoisonError::into_inner);
            let made = known.entry(schema.to_string()).or_insert_with(|| {
                let mut whole = schema.clone();
                whole["components"] = json!({ "schemas": self.schemas });
                Arc::new(jsonschema::draft202012::new(&whole).expect("a served schema is one"))
            });
            Arc::clone(made)
        };
        let problems = validator.iter_errors(value).map(|error| format!("{}: {error}", error.instance_path()));
        let problems: Vec<String> = problems.collect();
        assert!(problems.is_empty(), "{what} is not as described: {problems:#?} in {value}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_found_in_what_is_said_of_an_answer() {
        let said = "`not_found`: Not found. `not_a_member`: Not a participant of the thread.";
        assert_eq!(codes_in(said), ["not_a_member".to_owned(), "not_found".to_owned()].into());
        assert!(codes_in("Done.").is_empty());
    }

    #[test]
    fn a_row_is_found_by_its_path() {
        let row = Operation::of("/v1/users/{user_id}/devices", "get", &json!({}));
        assert!(row.fits(&Method::GET, "/v1/users/bob/devices"));
        assert!(!row.fits(&Method::GET, "/v1/users//devices") && !row.fits(&Method::GET, "/v1/users/bob/device"));
        assert!(!row.fits(&Method::PUT, "/v1/users/bob/devices"));
    }
}
