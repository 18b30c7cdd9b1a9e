//! What a message says, as its sender sends it: one ciphertext for all, or an envelope for each device.
//!
//! Owns: the two forms of a message's content, their bounds, and their part of the canonical hash.
//! Must not know: which devices there are; the thread's shard does.
//! Invariants: exactly one form is given; no device has two envelopes; envelopes that differ in order alone say the same.

use super::extract::Params;
use super::idempotency::BodyHash;
use super::input::{Complaint, Object, elements, integer, text};
use super::send::{decode, take_ciphertext};
use crate::api::error::FieldError;
use axum::http::Uri;
use bytes::Bytes;
use messenger_proto::envelope::{Envelope, EnvelopeKind, Envelopes, KindName, KindNumber};
use messenger_proto::error::ErrorCode;
use messenger_proto::ids::{ClientSeq, RegistrationId};
use messenger_proto::limits::{
    CIPHERTEXT_MAX, ENVELOPE_KIND_MAX, ENVELOPE_KIND_NAME_MAX, ENVELOPES_BYTES_MAX, ENVELOPES_MAX,
};
use messenger_proto::weight::of_envelopes;
use serde_json::value::RawValue;
use std::collections::BTreeSet;

/// The member, or query parameter, that has envelopes taken as they are.
pub const ALLOW_MISMATCH: &str = "allow_mismatch";

/// What a message says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Content {
    /// To all the same.
    Plain(Bytes),
    /// To each device its own; in order of user and device.
    Sealed(Vec<Envelope>),
}

impl Content {
    /// Takes a message's content off an object. `None` when it is bad, which is noted there.
    pub(super) fn take(object: &mut Object<'_>) -> Option<Self> {
        if !object.has("envelopes") {
            // One that is null is known all the same.
            object.take("envelopes");
            return take_ciphertext(object).map(Self::Plain);
        }
        let both = object.has("ciphertext");
        if both {
            object.complain("envelopes", "must not be given together with ciphertext");
            take_ciphertext(object);
        } else {
            object.take("ciphertext");
        }
        let envelopes = take_envelopes(object)?;
        (!both).then_some(Self::Sealed(envelopes))
    }

    /// About how many bytes it takes.
    pub(super) fn size(&self) -> usize {
        match self {
            Self::Plain(ciphertext) => ciphertext.len(),
            Self::Sealed(envelopes) => of_envelopes(envelopes),
        }
    }

    /// What stands for all devices in the hash; never empty unless there are envelopes.
    pub(super) fn common(&self) -> &[u8] {
        match self {
            Self::Plain(ciphertext) => ciphertext,
            Self::Sealed(_) => &[],
        }
    }

    /// Adds the envelopes, if there are any.
    pub(super) fn hash_envelopes(&self, hash: &mut BodyHash) {
        let Self::Sealed(envelopes) = self else { return };
        hash.integer(envelopes.len() as u64);
        for envelope in envelopes {
            hash.bytes(envelope.user.as_str().as_bytes());
            hash.bytes(envelope.device.as_str().as_bytes());
            hash.integer(u64::from(envelope.registration.is_some()));
            hash.integer(envelope.registration.map_or(0, |registration| registration.0));
            match &envelope.kind {
                None => hash.integer(0),
                Some(EnvelopeKind::Number(kind)) => {
                    hash.integer(1);
                    hash.integer(u64::from(kind.number));
                }
                Some(EnvelopeKind::Name(kind)) => {
                    hash.integer(2);
                    hash.bytes(kind.name.as_bytes());
                }
            }
            hash.bytes(&envelope.ciphertext);
        }
    }

    /// As commands carry it.
    pub(super) fn into_parts(self, allow_mismatch: bool) -> (Bytes, Option<Envelopes>) {
        match self {
            Self::Plain(ciphertext) => (ciphertext, None),
            Self::Sealed(list) => (Bytes::new(), Some(Envelopes { list, allow_mismatch })),
        }
    }
}

fn take_envelopes(object: &mut Object<'_>) -> Option<Vec<Envelope>> {
    let elements = object.required("envelopes", |value| elements(value, ENVELOPES_MAX))?;
    let (mut envelopes, mut seen, mut bytes, count) = (Vec::new(), BTreeSet::new(), 0, elements.len());
    for (at, element) in elements.into_iter().enumerate() {
        let field = format!("envelopes[{at}]");
        let Some(envelope) = read_envelope(object, &field, element) else { continue };
        bytes += envelope.ciphertext.len();
        if seen.insert(envelope.name()) {
            envelopes.push(envelope);
        } else {
            object.complain(field, "is for a device that has one already");
        }
    }
    if bytes > ENVELOPES_BYTES_MAX {
        object.answer_with(ErrorCode::CiphertextTooLarge);
        object.complain("envelopes", "must be at most 1048576 bytes in all, decoded");
        return None;
    }
    envelopes.sort_by(|a, b| (&a.user, &a.device).cmp(&(&b.user, &b.device)));
    (envelopes.len() == count).then_some(envelopes)
}

/// Reads one envelope; what is bad about it is noted under its place.
fn read_envelope(object: &mut Object<'_>, field: &str, value: &RawValue) -> Option<Envelope> {
    let Ok(mut members) = Object::parse(value.get().as_bytes()) else {
        object.complain(field, "must be an object");
        return None;
    };
    let user = members.required("user_id", |value| text(value)?.parse().map_err(|_| "must be a user id".into()));
    let device = members.required("device_id", |value| text(value)?.parse().map_err(|_| "must be a device id".into()));
    let registration = members.optional("registration_id", |value| integer(value, ClientSeq::MAX).map(RegistrationId));
    let kind = members.optional("type", kind);
    let encoded = members.required("ciphertext", text);
    let ciphertext = encoded.and_then(|encoded| decode(&mut members, &encoded));
    if ciphertext.as_ref().is_some_and(|bytes| bytes.len() > CIPHERTEXT_MAX) {
        object.answer_with(ErrorCode::CiphertextTooLarge);
        members.complain("ciphertext", "must be at most 65536 bytes, decoded");
    }
    let complaints = members.into_complaints();
    let good = complaints.is_empty();
    for FieldError { field: member, message } in complaints {
        object.complain(format!("{field}.{member}"), message);
    }
    let envelope = Envelope { user: user?, device: device?, registration, kind, ciphertext: ciphertext? };
    good.then_some(envelope)
}

fn kind(value: &RawValue) -> Result<EnvelopeKind, Complaint> {
    if !value.get().starts_with('"') {
        let number = integer(value, u64::from(ENVELOPE_KIND_MAX))
            .map_err(|_| format!("must be an integer from 0 to {ENVELOPE_KIND_MAX}, or a string"))?;
        let number = u32::try_from(number).map_err(|_| "is too large")?;
        return Ok(EnvelopeKind::Number(KindNumber { number }));
    }
    let name = text(value)?;
    if name.is_empty() || name.len() > ENVELOPE_KIND_NAME_MAX {
        return Err(format!("must be 1 to {ENVELOPE_KIND_NAME_MAX} bytes, or an integer").into());
    }
    Ok(EnvelopeKind::Name(KindName { name: name.into_owned() }))
}

/// Whether a request's query has envelopes taken as they are.
pub(super) fn allow_mismatch(uri: &Uri) -> Result<bool, FieldError> {
    let Ok(mut params) = Params::of(uri) else {
        return Err(FieldError::new(ALLOW_MISMATCH, "the query string is malformed"));
    };
    let allowed = params.take(ALLOW_MISMATCH, |text| match text {
        "true" => Ok(true),
        "false" => Ok(false),
        _ => Err("must be true or false".into()),
    });
    params.first_error().map_or(Ok(allowed.unwrap_or_default()), Err)
}

#[cfg(test)]
mod tests {
    use super::*;
    use base64::Engine;
    use base64::engine::general_purpose::STANDARD;
    use serde_json::{Value, json};

    fn read(body: &Value) -> Result<Content, (ErrorCode, Vec<String>)> {
        let text = body.to_string();
        let mut object = Object::parse(text.as_bytes()).unwrap();
        let content = Content::take(&mut object);
        object.finish().map(|()| content.unwrap()).map_err(|error| {
            let trace = crate::api::trace::TraceId([1; 16]);
            let problem = serde_json::to_value(error.problem(trace, None, messenger_proto::ids::Millis(0))).unwrap();
            let fields = problem["errors"].as_array().unwrap().iter();
            (error.code(), fields.map(|error| error["field"].as_str().unwrap().to_owned()).collect())
        })
    }

    fn hash(envelopes: &Value) -> u64 {
        let mut hash = BodyHash::new("test");
        read(&json!({ "envelopes": envelopes })).unwrap().hash_envelopes(&mut hash);
        hash.finish()
    }

    fn envelope(user: &str, device: &str) -> Value {
        json!({ "user_id": user, "device_id": device, "ciphertext": "aGk=" })
    }

    fn with(member: &str, value: Value) -> Value {
        let mut envelope = envelope("bob", "pc");
        envelope[member] = value;
        envelope
    }

    #[test]
    fn exactly_one_form_is_taken() {
        assert_eq!(read(&json!({ "ciphertext": "aGk=" })), Ok(Content::Plain(Bytes::from_static(b"hi"))));
        assert_eq!(read(&json!({ "ciphertext": "aGk=", "envelopes": null })).unwrap().common(), b"hi");
        assert_eq!(read(&json!({ "ciphertext": null, "envelopes": [] })), Ok(Content::Sealed(Vec::new())));
        assert_eq!(read(&json!({ "envelopes": [] })), Ok(Content::Sealed(Vec::new())));
        assert_eq!(read(&json!({})).unwrap_err().1, ["ciphertext"]);
        let both = read(&json!({ "ciphertext": "!", "envelopes": [with("device_id", json!(7))] }));
        let expected = ["envelopes", "ciphertext", "envelopes[0].device_id"].map(str::to_owned).to_vec();
        assert_eq!(both.unwrap_err(), (ErrorCode::InvalidRequest, expected));
    }

    #[test]
    fn every_bad_member_is_named() {
        let bad = json!([
            7,
            {},
            with("type", json!(-1)),
            with("type", json!("")),
            with("type", json!("x".repeat(33))),
            with("type", json!(2_147_483_648_u64)),
            with("registration_id", json!("1")),
            with("x", json!(1)),
            with("user_id", json!("me")),
            envelope("bob", "a"),
            envelope("bob", "a"),
        ]);
        let (code, mut fields) = read(&json!({ "envelopes": bad })).unwrap_err();
        fields.sort();
        let expected = [
            "envelopes[0]",
            "envelopes[10]",
            "envelopes[1].ciphertext",
            "envelopes[1].device_id",
            "envelopes[1].user_id",
            "envelopes[2].type",
            "envelopes[3].type",
            "envelopes[4].type",
            "envelopes[5].type",
            "envelopes[6].registration_id",
            "envelopes[7].x",
            "envelopes[8].user_id",
        ];
        assert_eq!((code, fields), (ErrorCode::InvalidRequest, expected.map(str::to_owned).to_vec()));
        for bad in [json!(7), json!({}), json!("x")] {
            assert_eq!(read(&json!({ "envelopes": bad })).unwrap_err().1, ["envelopes"]);
        }
    }

    #[test]
    fn envelopes_are_bounded() {
        let sized = |bytes: usize| with("ciphertext", json!(STANDARD.encode(vec![1; bytes])));
        assert!(read(&json!({ "envelopes": [sized(CIPHERTEXT_MAX)] })).is_ok());
        let (code, fields) = read(&json!({ "envelopes": [sized(CIPHERTEXT_MAX + 1)] })).unwrap_err();
        assert_eq!((code, fields), (ErrorCode::CiphertextTooLarge, vec!["envelopes[0].ciphertext".to_owned()]));
        let many = |count: usize| {
            let one = |n| {
                let mut one = sized(CIPHERTEXT_MAX);
                one["device_id"] = json!(format!("d{n}"));
                one
            };
            read(&json!({ "envelopes": (0..count).map(one).collect::<Vec<_>>() }))
        };
        assert!(many(16).is_ok());
        assert_eq!(many(17).unwrap_err(), (ErrorCode::CiphertextTooLarge, vec!["envelopes".to_owned()]));
        let too_many = vec![json!(0); ENVELOPES_MAX + 1];
        assert_eq!(read(&json!({ "envelopes": too_many })).unwrap_err().1, ["envelopes"]);
    }

    #[test]
    fn what_says_the_same_has_one_hash() {
        let (a, b) = (envelope("bob", "a"), envelope("bob", "b"));
        assert_eq!(hash(&json!([a, b])), hash(&json!([b, a])));
        assert_eq!(hash(&json!([with("type", json!(1))])), hash(&json!([with("type", json!(1.0))])));
        assert_eq!(hash(&json!([with("type", Value::Null)])), hash(&json!([envelope("bob", "pc")])));
        let mut others = vec![
            hash(&json!([])),
            hash(&json!([a])),
            hash(&json!([a, b])),
            hash(&json!([envelope("bob", "pc")])),
            hash(&json!([envelope("bo", "bpc")])),
            hash(&json!([with("type", json!(0))])),
            hash(&json!([with("type", json!(1))])),
            hash(&json!([with("type", json!("1"))])),
            hash(&json!([with("registration_id", json!(0))])),
            hash(&json!([with("registration_id", json!(1))])),
            hash(&json!([with("ciphertext", json!("aGo="))])),
        ];
        let count = others.len();
        others.sort_unstable();
        others.dedup();
        assert_eq!(others.len(), count);
    }

    #[test]
    fn the_query_says_whether_a_mismatch_is_allowed() {
        let read = |uri: &str| allow_mismatch(&uri.parse().unwrap()).map_err(|error| error.field);
        assert_eq!((read("/x"), read("/x?a=b"), read("/x?allow_mismatch=false")), (Ok(false), Ok(false), Ok(false)));
        assert_eq!(read("/x?allow_mismatch=true"), Ok(true));
        for bad in ["/x?allow_mismatch=1", "/x?allow_mismatch", "/x?allow_mismatch=true&allow_mismatch=true"] {
            assert_eq!(read(bad), Err(ALLOW_MISMATCH.to_owned()), "{bad}");
        }
    }
}
