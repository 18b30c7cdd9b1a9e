//! Holding JSON against the schemas, for tests.
//!
//! Owns: validators of the schemas, in which members that are not described are refused.
//! Must not know: which answers there are.

use super::*;
use jsonschema::Validator;
use std::collections::HashMap;
use std::sync::{Arc, LazyLock, Mutex};

static KNOWN: LazyLock<Mutex<HashMap<String, Arc<Validator>>>> = LazyLock::new(Mutex::default);

/// Members that are not described are refused here, so that the document can't fall behind.
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

/// A validator of a schema that may refer to the others.
pub(in crate::gateway) fn validator(schema: &Value) -> Arc<Validator> {
    let mut known = KNOWN.lock().unwrap();
    let made = known.entry(schema.to_string()).or_insert_with(|| {
        let mut whole = schema.clone();
        let mut schemas = Value::Object(all());
        strict(&mut schemas);
        whole["components"] = json!({ "schemas": schemas });
        Arc::new(jsonschema::draft202012::new(&whole).unwrap())
    });
    Arc::clone(made)
}

/// Panics, with the reasons, when a value does not fit a schema.
pub(in crate::gateway) fn check(schema: &Value, value: &Value) {
    let validator = validator(schema);
    let problems: Vec<String> =
        validator.iter_errors(value).map(|error| format!("{}: {error}", error.instance_path())).collect();
    assert!(problems.is_empty(), "{schema}: {problems:#?} in {value}");
}
