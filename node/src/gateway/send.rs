//! What a client sends as a message.
//!
//! Owns: the body of a send, the same for `POST …/messages` and the realtime `send` frame: its members, their bounds,
//! its canonical hash, and the command it becomes.
//! Must not know: by which of the two it came.
//! Invariants: two bodies that say the same have one hash, however they are written.

use super::envelopes::Content;
use super::idempotency::{BodyHash, Origin};
use super::input::{Complaint, Object, integer, text};
use crate::auth::Identity;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use messenger_proto::command::{Command, Op, SendMessage};
use messenger_proto::error::ErrorCode;
use messenger_proto::ids::{ClientSeq, MessageId, ThreadId};
use messenger_proto::limits::{ATTACHMENT_MAX, ATTACHMENTS_MAX, CIPHERTEXT_MAX, TTL_MAX};
use messenger_proto::model::ContentType;
use serde_json::Value;
use serde_json::value::RawValue;
use std::borrow::Cow;

/// A message to be stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SendRequest {
    client_seq: ClientSeq,
    content: Content,
    allow_mismatch: bool,
    content_type: ContentType,
    attachments: Vec<Attachment>,
    reply_to: Option<MessageId>,
    ttl_s: Option<u32>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Attachment {
    /// The JSON object as written.
    text: String,
    value: Value,
}

impl SendRequest {
    /// Takes the members of a send off an object. `None` when one is bad, which is noted there.
    pub fn take(object: &mut Object<'_>) -> Option<Self> {
        let client_seq = object.required("client_seq", |value| integer(value, ClientSeq::MAX).map(ClientSeq));
        let content = Content::take(object);
        let content_type = object.optional("content_type", content_type);
        let attachments = take_attachments(object);
        let reply_to = object.optional("reply_to_msg_id", message_id);
        let ttl_s = object.optional("ttl_seconds", ttl);
        Some(Self {
            client_seq: client_seq?,
            content: content?,
            allow_mismatch: false,
            content_type: content_type.unwrap_or(ContentType::Text),
            attachments,
            reply_to,
            ttl_s,
        })
    }

    /// The same, of which envelopes are taken as they are, or not.
    #[must_use]
    pub fn allowing_mismatch(self, allow_mismatch: bool) -> Self {
        Self { allow_mismatch, ..self }
    }

    /// The client's own number of the message.
    #[must_use]
    pub fn client_seq(&self) -> ClientSeq {
        self.client_seq
    }

    /// About how many bytes it takes.
    #[must_use]
    pub fn size(&self) -> usize {
        self.content.size() + self.attachments.iter().map(|attachment| attachment.text.len()).sum::<usize>()
    }

    /// The hash by which a repeat is told from another message.
    #[must_use]
    pub fn body_hash(&self) -> u64 {
        let mut hash = BodyHash::new("send");
        hash.integer(self.client_seq.0);
        hash.bytes(self.content.common());
        hash.bytes(self.content_type.as_str().as_bytes());
        hash.integer(self.attachments.len() as u64);
        self.attachments.iter().for_each(|attachment| hash.json(&attachment.value));
        hash.integer(u64::from(self.reply_to.is_some()));
        hash.bytes(&self.reply_to.map_or([0; 16], |id| id.0.to_be_bytes()));
        hash.integer(self.ttl_s.map_or(0, u64::from));
        self.content.hash_envelopes(&mut hash);
        hash.finish()
    }

    /// The command that stores it.
    #[must_use]
    pub fn into_command(self, thread: ThreadId, sender: &Identity, origin: Origin) -> Command {
        let body_hash = self.body_hash();
        let (ciphertext, envelopes) = self.content.into_parts(self.allow_mismatch);
        let op = Op::SendMessage(SendMessage {
            thread,
            sender: sender.user.clone(),
            device: sender.device.clone(),
            client_seq: self.client_seq,
            ciphertext,
            content_type: self.content_type,
            attachments: self.attachments.into_iter().map(|attachment| attachment.text).collect(),
            reply_to: self.reply_to,
            ttl_s: self.ttl_s,
            envelopes,
        });
        Command { id: origin.id, retention: origin.retention, body_hash, op }
    }
}

/// A message's id.
///
/// # Errors
/// When it is none.
pub fn message_id(value: &RawValue) -> Result<MessageId, Complaint> {
    text(value)?.parse().map_err(|_| "must be a message id".into())
}

/// A thread's id.
///
/// # Errors
/// When it is none.
pub fn thread_id(value: &RawValue) -> Result<ThreadId, Complaint> {
    text(value)?.parse().map_err(|_| "must be a thread id".into())
}

fn ttl(value: &RawValue) -> Result<u32, Complaint> {
    let longest = TTL_MAX.as_secs();
    match integer(value, longest)? {
        0 => Err(format!("must be between 1 and {longest}").into()),
        seconds => u32::try_from(seconds).map_err(|_| "is too large".into()),
    }
}

fn content_type(value: &RawValue) -> Result<ContentType, Complaint> {
    ContentType::parse(&text(value)?).ok_or_else(|| {
        let known: Vec<_> = ContentType::ALL.iter().map(|known| known.as_str()).collect();
        Cow::Owned(format!("must be one of {}", known.join(", ")))
    })
}

/// Takes a message's content off an object. `None` when it is bad, which is noted there.
pub(super) fn take_ciphertext(object: &mut Object<'_>) -> Option<Bytes> {
    let encoded = object.required("ciphertext", text)?;
    let bytes = decode(object, &encoded)?;
    if bytes.len() > CIPHERTEXT_MAX {
        object.answer_with(ErrorCode::CiphertextTooLarge);
        object.complain("ciphertext", "must be at most 65536 bytes, decoded");
        return None;
    }
    Some(bytes)
}

/// A ciphertext's bytes. `None` when they are none, which is noted.
pub(super) fn decode(object: &mut Object<'_>, encoded: &str) -> Option<Bytes> {
    let complaint = match STANDARD.decode(encoded.as_bytes()) {
        Ok(bytes) if bytes.is_empty() => "must not be empty",
        Ok(bytes) => return Some(bytes.into()),
        Err(_) => "must be base64, standard with padding",
    };
    object.complain("ciphertext", complaint);
    None
}

fn take_attachments(object: &mut Object<'_>) -> Vec<Attachment> {
    let list = object.optional_list("attachments", ATTACHMENTS_MAX, attachment);
    let short = object.optional("attachment_id", |value| {
        let id = text(value)?;
        let value = serde_json::json!({ "id": check_attachment_id(&id)? });
        Ok(Attachment { text: value.to_string(), value })
    });
    match (list, short) {
        (Some(_), Some(_)) => {
            object.complain("attachment_id", "must not be given together with attachments");
            Vec::new()
        }
        (list, short) => list.unwrap_or_default().into_iter().chain(short).collect(),
    }
}

fn attachment(raw: &RawValue) -> Result<Attachment, Complaint> {
    if raw.get().len() > ATTACHMENT_MAX {
        return Err(format!("must be at most {ATTACHMENT_MAX} bytes of JSON").into());
    }
    let value: Value = serde_json::from_str(raw.get()).map_err(|_| "must be a JSON object")?;
    let members = value.as_object().ok_or("must be a JSON object")?;
    let id = members.get("id").and_then(Value::as_str).ok_or("must have an id, a string")?;
    check_attachment_id(id)?;
    Ok(Attachment { text: compact(raw.get()), value })
}

/// JSON as it was written, number by number, but on one line and without white space between its parts.
fn compact(json: &str) -> String {
    let (mut in_string, mut escaped) = (false, false);
    let is_kept = |c: &char| {
        let kept = in_string || !c.is_ascii_whitespace();
        in_string ^= *c == '"' && !escaped;
        escaped = in_string && !escaped && *c == '\\';
        kept
    };
    json.chars().filter(is_kept).collect()
}

fn check_attachment_id(id: &str) -> Result<&str, Complaint> {
    match id.len() {
        0 => Err("must have an id that is not empty".into()),
        1..=256 => Ok(id),
        _ => Err("must have an id of at most 256 bytes".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use messenger_proto::slot::Slot;
    use serde_json::json;

    #[test]
    fn attachments_are_one_line_and_otherwise_as_they_were() {
        let (loose, tight) =
            ("{ \"id\" :\n\"a \\\" \\\\\", \"n\":\t1.50e+02 }", "{\"id\":\"a \\\" \\\\\",\"n\":1.50e+02}");
        assert_eq!(compact(loose), tight);
        assert_eq!(compact(tight), tight);
        let same = |text| serde_json::from_str::<Value>(text).unwrap();
        assert_eq!(same(loose), same(tight));
    }

    fn read(body: &Value) -> Result<SendRequest, ApiErrors> {
        let text = body.to_string();
        let mut object = Object::parse(text.as_bytes()).unwrap();
        let request = SendRequest::take(&mut object);
        match object.finish() {
            Ok(()) => Ok(request.unwrap()),
            Err(error) => {
                let trace = crate::api::trace::TraceId([1; 16]);
                let problem =
                    serde_json::to_value(error.problem(trace, None, messenger_proto::ids::Millis(0))).unwrap();
                let fields = problem["errors"].as_array().unwrap().iter();
                Err((error.code(), fields.map(|error| error["field"].as_str().unwrap().to_owned()).collect()))
            }
        }
    }

    type ApiErrors = (ErrorCode, Vec<String>);

    fn hash(body: &Value) -> u64 {
        read(body).unwrap().body_hash()
    }

    fn refused(body: &Value) -> Vec<String> {
        let (code, fields) = read(body).unwrap_err();
        assert_eq!(code, ErrorCode::InvalidRequest);
        fields
    }

    #[test]
    fn a_whole_body_is_read() {
        let id = MessageId::new(messenger_proto::ids::Millis(7), Slot::of(b"x"), 0, 0);
        let body = json!({
            "client_seq": 0, "ciphertext": "aGk=", "content_type": "file_ref",
            "attachments": [{"id": "a", "size": 3}], "reply_to_msg_id": id.to_string(), "ttl_seconds": 31_536_000,
        });
        let request = read(&body).unwrap();
        assert_eq!((request.client_seq(), request.content.common()), (ClientSeq(0), &b"hi"[..]));
        assert_eq!((request.content_type, request.reply_to), (ContentType::FileRef, Some(id)));
        assert_eq!(request.ttl_s, Some(31_536_000));
        assert_eq!(request.attachments[0].text, r#"{"id":"a","size":3}"#);
    }

    #[test]
    fn what_says_the_same_has_one_hash() {
        let plain = json!({"client_seq": 7, "ciphertext": "aGk="});
        let spelled = json!({
            "ciphertext": "aGk=", "client_seq": 7.0, "content_type": "text", "attachments": [],
            "attachment_id": null, "reply_to_msg_id": null, "ttl_seconds": null,
        });
        assert_eq!(hash(&plain), hash(&spelled));
        let with = |attachments: Value| json!({"client_seq": 7, "ciphertext": "aGk=", "attachments": attachments});
        let short = json!({"client_seq": 7, "ciphertext": "aGk=", "attachment_id": "a"});
        assert_eq!(hash(&short), hash(&with(json!([{"id": "a"}]))));
        let written = br#"{"client_seq":7,"ciphertext":"aGk=","attachments":[{"n":1.0,"id":"\u0061"}]}"#;
        let mut object = Object::parse(written).unwrap();
        let request = SendRequest::take(&mut object).unwrap();
        assert_eq!(request.body_hash(), hash(&with(json!([{"id": "a", "n": 1}]))));

        let mut others = vec![
            hash(&plain),
            hash(&short),
            hash(&json!({"client_seq": 8, "ciphertext": "aGk="})),
            hash(&json!({"client_seq": 7, "ciphertext": "aGo="})),
            hash(&json!({"client_seq": 7, "ciphertext": "aGk=", "content_type": "image_ref"})),
            hash(&json!({"client_seq": 7, "ciphertext": "aGk=", "reply_to_msg_id": "00000000000000000000000000"})),
            hash(&json!({"client_seq": 7, "ciphertext": "aGk=", "ttl_seconds": 60})),
            hash(&json!({"client_seq": 7, "envelopes": []})),
            hash(&with(json!([{"id": "a", "n": 1}]))),
            hash(&with(json!([{"id": "a"}, {"id": "b"}]))),
            hash(&with(json!([{"id": "b"}, {"id": "a"}]))),
        ];
        let count = others.len();
        others.sort_unstable();
        others.dedup();
        assert_eq!(others.len(), count);
    }

    #[test]
    fn every_bad_member_is_named() {
        let bad = json!({
            "client_seq": -1, "ciphertext": "aGk", "content_type": "gif", "attachments": [{"id": ""}, 7, {"name": "x"}],
            "reply_to_msg_id": "x", "ttl_seconds": 0, "seconds": 5,
        });
        let mut fields = refused(&bad);
        fields.sort();
        let expected = [
            "attachments[0]",
            "attachments[1]",
            "attachments[2]",
            "ciphertext",
            "client_seq",
            "content_type",
            "reply_to_msg_id",
            "seconds",
            "ttl_seconds",
        ];
        assert_eq!(fields, expected);
        assert_eq!(refused(&json!({})), ["client_seq", "ciphertext"]);
        for ciphertext in ["", "aGk=\n", "aGk_", "aGl=", "aGk==", "a", "===="] {
            assert_eq!(refused(&json!({"client_seq": 1, "ciphertext": ciphertext})), ["ciphertext"], "{ciphertext:?}");
        }
        for client_seq in [json!(9_007_199_254_740_992_u64), json!(1.5), json!("1"), json!(null)] {
            assert_eq!(refused(&json!({"client_seq": client_seq, "ciphertext": "aGk="})), ["client_seq"]);
        }
        let both = json!({"client_seq": 1, "ciphertext": "aGk=", "attachment_id": "a", "attachments": []});
        assert_eq!(refused(&both), ["attachment_id"]);
        let long = json!({"client_seq": 1, "ciphertext": "aGk=", "attachments": [{"id": "a", "x": "y".repeat(1024)}]});
        assert_eq!(refused(&long), ["attachments[0]"]);
        for ttl in [json!(0), json!(-1), json!(31_536_001), json!(1.5), json!("60")] {
            assert_eq!(refused(&json!({"client_seq": 1, "ciphertext": "aGk=", "ttl_seconds": ttl})), ["ttl_seconds"]);
        }
        let many = vec![json!({"id": "a"}); ATTACHMENTS_MAX + 1];
        assert_eq!(refused(&json!({"client_seq": 1, "ciphertext": "aGk=", "attachments": many})), ["attachments"]);
    }

    #[test]
    fn a_ciphertext_is_bounded() {
        let body = |length: usize| json!({"client_seq": 1, "ciphertext": STANDARD.encode(vec![1; length])});
        assert!(read(&body(CIPHERTEXT_MAX)).is_ok());
        let (code, fields) = read(&body(CIPHERTEXT_MAX + 1)).unwrap_err();
        assert_eq!((code, fields), (ErrorCode::CiphertextTooLarge, vec!["ciphertext".to_owned()]));
    }
}
