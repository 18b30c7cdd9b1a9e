//! YAML as JSON.
//!
//! Owns: reading the documents of a file.
//! Must not know: what they say.
//! Invariants: what has no counterpart in JSON fails the test.

use saphyr::{LoadableYamlNode, Scalar, Yaml};
use serde_json::Value;

/// The documents of a file, in order.
///
/// # Panics
/// When it is no YAML, or more than JSON can say.
#[must_use]
pub fn documents(text: &str) -> Vec<Value> {
    let read = Yaml::load_from_str(text).unwrap_or_else(|error| panic!("{error} in\n{text}"));
    read.iter().map(value).collect()
}

fn value(node: &Yaml<'_>) -> Value {
    match node {
        Yaml::Value(Scalar::Null) => Value::Null,
        Yaml::Value(Scalar::Boolean(value)) => (*value).into(),
        Yaml::Value(Scalar::Integer(value)) => (*value).into(),
        Yaml::Value(Scalar::FloatingPoint(value)) => value.into_inner().into(),
        Yaml::Value(Scalar::String(value)) => value.as_ref().into(),
        Yaml::Sequence(items) => items.iter().map(value).collect(),
        Yaml::Mapping(pairs) => mapping(pairs.iter().map(|(key, inner)| (name(key), value(inner))).collect()),
        other => panic!("JSON has nothing like {other:?}"),
    }
}

/// What stands under `<<` is there unless the mapping itself says otherwise.
fn mapping(mut pairs: serde_json::Map<String, Value>) -> Value {
    if let Some(Value::Object(merged)) = pairs.remove("<<") {
        for (name, inner) in merged {
            pairs.entry(name).or_insert(inner);
        }
    }
    Value::Object(pairs)
}

fn name(key: &Yaml<'_>) -> String {
    match value(key) {
        Value::String(name) => name,
        other => panic!("{other} is no name"),
    }
}
