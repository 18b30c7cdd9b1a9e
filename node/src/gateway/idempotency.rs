//! When two requests are the same.
//!
//! Owns: the Idempotency-Key, the command ids made of it, and the hash by which bodies compare.
//! Must not know: what is done under an id; remembering is the shards' matter.
//! Invariants: ids of different users, methods or paths never meet; a hash depends on what a body says, not on how it is
//! written; neither depends on the node or on the version of the program.

use messenger_proto::command::Retention;
use messenger_proto::ids::{CommandId, MessageId, ThreadId, UserId};
use messenger_proto::limits::IDEMPOTENCY_KEY_MAX;
use serde_json::Value;
use sha2::{Digest, Sha256};
use std::fmt::{self, Display};

/// A client's name for one request of its own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IdempotencyKey(String);

impl IdempotencyKey {
    /// Checks and wraps a key; `None` unless it has 1-64 characters and no control characters.
    #[must_use]
    pub fn new(text: &str) -> Option<Self> {
        let length = text.chars().take(IDEMPOTENCY_KEY_MAX + 1).count();
        let fits = (1..=IDEMPOTENCY_KEY_MAX).contains(&length) && !text.chars().any(char::is_control);
        fits.then(|| Self(text.to_owned()))
    }
}

/// A concrete path that takes POSTs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PostPath {
    /// `/v1/threads`
    Threads,
    /// `/v1/threads/{id}/participants`
    Participants(ThreadId),
    /// `/v1/threads/{id}/messages`; realtime `send` frames count as this, too.
    Messages(ThreadId),
    /// `/v1/threads/{id}/read`
    Read(ThreadId),
    /// `/v1/threads/{id}/pins`
    Pins(ThreadId),
    /// `/v1/messages/{id}/reactions`
    Reactions(MessageId),
    /// `/v1/reports`
    Reports,
}

/// A concrete path whose GETs take something, and so count like POSTs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum GetPath {
    /// `/v1/users/{id}/prekeys`
    Prekeys(UserId),
}

impl Display for GetPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Prekeys(user) => write!(f, "/v1/users/{user}/prekeys"),
        }
    }
}

impl Display for PostPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Threads => f.write_str("/v1/threads"),
            Self::Participants(thread) => write!(f, "/v1/threads/{thread}/participants"),
            Self::Messages(thread) => write!(f, "/v1/threads/{thread}/messages"),
            Self::Read(thread) => write!(f, "/v1/threads/{thread}/read"),
            Self::Pins(thread) => write!(f, "/v1/threads/{thread}/pins"),
            Self::Reports => f.write_str("/v1/reports"),
            Self::Reactions(message) => write!(f, "/v1/messages/{message}/reactions"),
        }
    }
}

/// What a command is known by, and for how long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Origin {
    /// The command's id.
    pub id: CommandId,
    /// How long the id is remembered.
    pub retention: Retention,
}

impl Origin {
    /// Known by the client's key, in the scope of the user, the method and the path.
    #[must_use]
    pub fn keyed(user: &UserId, path: PostPath, key: &IdempotencyKey) -> Self {
        Self::scoped(user, b"POST", &path.to_string(), key)
    }

    fn scoped(user: &UserId, method: &[u8], path: &str, key: &IdempotencyKey) -> Self {
        let id = digest(b"key", &[user.as_str().as_bytes(), method, path.as_bytes(), key.0.as_bytes()]);
        Self { id, retention: Retention::Keyed }
    }

    /// A GET's that takes something: known by the key when there is one, else [`Origin::minted`].
    #[must_use]
    pub fn of_get(user: &UserId, path: &GetPath, key: Option<&IdempotencyKey>) -> Self {
        key.map_or_else(Self::minted, |key| Self::scoped(user, b"GET", &path.to_string(), key))
    }

    /// Known by a random id, which only this node's own retries repeat.
    #[must_use]
    pub fn minted() -> Self {
        Self { id: CommandId(rand::random()), retention: Retention::Minted }
    }

    /// A send's: [`Origin::keyed`] when there is a key; else its `client_seq`, kept with the message, is all it needs.
    #[must_use]
    pub fn of_send(user: &UserId, thread: ThreadId, key: Option<&IdempotencyKey>) -> Self {
        match key {
            Some(key) => Self::keyed(user, PostPath::Messages(thread), key),
            None => Self { retention: Retention::None, ..Self::minted() },
        }
    }

    /// [`Origin::keyed`] when there is a key, else [`Origin::minted`].
    #[must_use]
    pub fn of(user: &UserId, path: PostPath, key: Option<&IdempotencyKey>) -> Self {
        key.map_or_else(Self::minted, |key| Self::keyed(user, path, key))
    }

    /// Another command that belongs to the same request.
    #[must_use]
    pub fn second_step(self) -> Self {
        Self { id: digest(b"second step", &[&self.id.0]), ..self }
    }
}

fn digest(label: &[u8], parts: &[&[u8]]) -> CommandId {
    let mut hash = Sha256::new();
    hash.update(b"messenger command id v1");
    for part in std::iter::once(&label).chain(parts) {
        hash.update((part.len() as u64).to_be_bytes());
        hash.update(part);
    }
    let digest = hash.finalize();
    let mut id = [0; 16];
    id.copy_from_slice(&digest[..16]);
    CommandId(id)
}

/// Hashes what a body says, part by part.
pub struct BodyHash(Sha256);

impl BodyHash {
    /// Begins with what kind of body it is.
    #[must_use]
    pub fn new(kind: &str) -> Self {
        let mut hash = Self(Sha256::new());
        hash.bytes(kind.as_bytes());
        hash
    }

    /// Adds bytes, told apart from their neighbours.
    pub fn bytes(&mut self, bytes: &[u8]) {
        self.integer(bytes.len() as u64);
        self.0.update(bytes);
    }

    /// Adds text that may be absent.
    pub fn optional(&mut self, text: Option<&str>) {
        self.integer(u64::from(text.is_some()));
        self.bytes(text.unwrap_or_default().as_bytes());
    }

    /// Adds a number.
    pub fn integer(&mut self, value: u64) {
        self.0.update(value.to_be_bytes());
    }

    /// Adds texts in their order.
    pub fn list<'a>(&mut self, texts: impl ExactSizeIterator<Item = &'a str>) {
        self.integer(texts.len() as u64);
        for text in texts {
            self.bytes(text.as_bytes());
        }
    }

    /// Adds any JSON: members in any order, numbers by value.
    pub fn json(&mut self, value: &Value) {
        match value {
            Value::Null => self.bytes(b"null"),
            Value::Bool(value) => self.bytes(if *value { b"true" } else { b"false" }),
            Value::Number(number) => self.bytes(canonical(number).as_bytes()),
            Value::String(text) => {
                self.bytes(b"string");
                self.bytes(text.as_bytes());
            }
            Value::Array(elements) => {
                self.bytes(b"array");
                self.integer(elements.len() as u64);
                for element in elements {
                    self.json(element);
                }
            }
            Value::Object(members) => {
                self.bytes(b"object");
                self.integer(members.len() as u64);
                let mut members: Vec<_> = members.iter().collect();
                members.sort_unstable_by_key(|(name, _)| *name);
                for (name, value) in members {
                    self.bytes(name.as_bytes());
                    self.json(value);
                }
            }
        }
    }

    /// The hash.
    #[must_use]
    pub fn finish(self) -> u64 {
        let digest = self.0.finalize();
        let mut first = [0; 8];
        first.copy_from_slice(&digest[..8]);
        u64::from_be_bytes(first)
    }
}

/// One text for every way to write a number.
fn canonical(number: &serde_json::Number) -> String {
    match number.as_f64() {
        // Exact: whole and below 2^53.
        Some(float) if float.fract() == 0.0 && float.abs() < 9_007_199_254_740_992.0 => format!("{}", float as i64),
        _ => number.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn user(name: &str) -> UserId {
        UserId::new(name).unwrap()
    }

    fn hash(text: &str) -> u64 {
        let mut hash = BodyHash::new("test");
        hash.json(&serde_json::from_str(text).unwrap());
        hash.finish()
    }

    #[test]
    fn ids_keep_to_their_scope() {
        let key = |text: &str| IdempotencyKey::new(text).unwrap();
        let (a, b) = (ThreadId([1; 16]), ThreadId([2; 16]));
        let id = |name: &str, path, text: &str| Origin::keyed(&user(name), path, &key(text)).id;
        let first = id("alice", PostPath::Messages(a), "k");
        assert_eq!(first, id("alice", PostPath::Messages(a), "k"));
        let others = [
            id("bob", PostPath::Messages(a), "k"),
            id("alice", PostPath::Messages(b), "k"),
            id("alice", PostPath::Read(a), "k"),
            id("alice", PostPath::Participants(a), "k"),
            id("alice", PostPath::Threads, "k"),
            id("alice", PostPath::Pins(a), "k"),
            id("alice", PostPath::Reactions(MessageId(1)), "k"),
            id("alice", PostPath::Reactions(MessageId(2)), "k"),
            id("alice", PostPath::Messages(a), "K"),
            Origin::of_get(&user("alice"), &GetPath::Prekeys(user("bob")), Some(&key("k"))).id,
            Origin::of_get(&user("alice"), &GetPath::Prekeys(user("eve")), Some(&key("k"))).id,
            Origin::keyed(&user("alice"), PostPath::Messages(a), &key("k")).second_step().id,
            Origin::minted().id,
        ];
        for (at, other) in others.iter().enumerate() {
            assert_ne!(*other, first);
            assert!(!others[..at].contains(other));
        }
        // Nodes of any version must agree: changing this forgets every key in flight.
        assert_eq!(first.to_string(), "e7a6624b9b5cca8783b2cb58fbcd0721");
    }

    #[test]
    fn keys_are_bounded() {
        assert!(IdempotencyKey::new(&"é".repeat(64)).is_some() && IdempotencyKey::new(" ").is_some());
        for bad in ["", &"x".repeat(65), "a\nb", "\u{7f}"] {
            assert_eq!(IdempotencyKey::new(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn bodies_compare_as_json() {
        let same = [
            r#"{"a": 1, "b": [1.0, "x", {"c": null, "d": 10}]}"#,
            r#"{"b":[1,"x",{"d":1e1,"c":null}],"a":1.0}"#,
            "{\"b\": [10e-1, \"\\u0078\", {\"d\": 10.0, \"c\": null}],\n\"a\": 1}",
        ];
        for text in same {
            assert_eq!(hash(text), hash(same[0]), "{text}");
        }
        let different = [
            r#"{"a":1,"b":["x",1,{"c":null,"d":10}]}"#,
            r#"{"a":"1","b":[1,"x",{"c":null,"d":10}]}"#,
            r#"{"a":1,"b":[1,"x",{"c":null}]}"#,
            r#"{"a":1,"b":[1,"x",{"c":false,"d":10}]}"#,
            r#"{"a":1.5,"b":[1,"x",{"c":null,"d":10}]}"#,
            r#"["a",1]"#,
            r#"[["a"],1]"#,
            r#"[["a",1]]"#,
            r#"["a1"]"#,
            "null",
            r#""null""#,
            "-1",
            "9007199254740993",
            "9007199254740992",
        ];
        let mut hashes: Vec<u64> = different.iter().map(|text| hash(text)).collect();
        hashes.push(hash(same[0]));
        hashes.sort_unstable();
        hashes.dedup();
        assert_eq!(hashes.len(), different.len() + 1);
    }

    fn json() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            any::<f64>().prop_map(Value::from),
            ".{0,4}".prop_map(Value::from),
        ];
        leaf.prop_recursive(3, 16, 4, |inner| {
            prop_oneof![
                proptest::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                proptest::collection::btree_map(".{0,2}", inner, 0..4)
                    .prop_map(|members| Value::Object(members.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn a_body_written_anew_is_the_same(value in json()) {
            let compact = value.to_string();
            let spaced = serde_json::to_string_pretty(&value).unwrap();
            prop_assert_eq!(hash(&compact), hash(&spaced));
        }
    }
}
