//! Reading JSON that a client wrote.
//!
//! Owns: the bounds JSON must keep before it is parsed, and reading an object member by member, so that every bad field
//! is found in one go.
//! Must not know: what the members mean.
//! Invariants: work is linear in the text; a member is known or refused, and never given twice.

use crate::api::error::{ApiError, FIELD_ERRORS_MAX, FieldError};
use messenger_proto::error::ErrorCode;
use serde::Deserializer as _;
use serde::de::{Error as _, MapAccess, Visitor};
use serde_json::value::RawValue;
use std::borrow::Cow;
use std::fmt;

/// Levels of arrays and objects at most.
pub const DEPTH_MAX: usize = 32;
/// Members of one object at most; none that we know has half as many.
const MEMBERS_MAX: usize = 64;

/// What a bad value is told.
pub type Complaint = Cow<'static, str>;

/// Whether arrays and objects are nested deeper than [`DEPTH_MAX`], without parsing anything.
#[must_use]
pub fn too_deep(text: &[u8]) -> bool {
    let (mut depth, mut quoted, mut escaped) = (0_usize, false, false);
    for byte in text {
        if quoted {
            match byte {
                _ if escaped => escaped = false,
                b'\\' => escaped = true,
                b'"' => quoted = false,
                _ => {}
            }
            continue;
        }
        match byte {
            b'"' => quoted = true,
            b'{' | b'[' => {
                depth += 1;
                if depth > DEPTH_MAX {
                    return true;
                }
            }
            b'}' | b']' => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    false
}

/// A JSON object whose members are taken one by one, and what was found wrong so far.
#[derive(Debug)]
pub struct Object<'a> {
    members: Vec<(Cow<'a, str>, &'a RawValue)>,
    errors: Vec<FieldError>,
    code: ErrorCode,
}

impl<'a> Object<'a> {
    /// Reads an object's members, and nothing of their values but that they are JSON.
    ///
    /// # Errors
    /// [`ErrorCode::InvalidRequest`] when the text is not a JSON object within bounds.
    pub fn parse(text: &'a [u8]) -> Result<Self, ApiError> {
        if too_deep(text) {
            return Err(invalid(format!("The JSON is nested deeper than {DEPTH_MAX} levels.")));
        }
        let text = std::str::from_utf8(text).map_err(|_| invalid("The JSON is not UTF-8."))?;
        let mut deserializer = serde_json::Deserializer::from_str(text);
        let parsed = deserializer.deserialize_map(Members).and_then(|members| deserializer.end().map(|()| members));
        let members = parsed.map_err(|error| {
            let place = format!("line {}, column {}", error.line(), error.column());
            match error.classify() {
                serde_json::error::Category::Data => invalid(format!("A JSON object is expected ({place}).")),
                _ => invalid(format!("The JSON is malformed ({place}).")),
            }
        })?;
        let mut object = Self { members, errors: Vec::new(), code: ErrorCode::InvalidRequest };
        object.refuse_repeats();
        Ok(object)
    }

    fn refuse_repeats(&mut self) {
        let mut seen = Vec::with_capacity(self.members.len());
        for (name, value) in std::mem::take(&mut self.members) {
            if seen.iter().any(|(earlier, _)| *earlier == name) {
                self.complain(shown(&name), "is given more than once");
            } else {
                seen.push((name, value));
            }
        }
        self.members = seen;
    }

    /// Whether a member is there and not null.
    #[must_use]
    pub fn has(&self, name: &str) -> bool {
        self.members.iter().any(|(member, value)| member == name && value.get() != "null")
    }

    /// Takes a member; null counts as absent.
    pub fn take(&mut self, name: &str) -> Option<&'a RawValue> {
        self.take_or_null(name).filter(|value| value.get() != "null")
    }

    /// Takes a member, which may be null.
    pub fn take_or_null(&mut self, name: &str) -> Option<&'a RawValue> {
        let at = self.members.iter().position(|(member, _)| member == name)?;
        let (_, value) = self.members.swap_remove(at);
        Some(value)
    }

    /// Takes a member that may be absent. `None` also when it is bad, which is noted.
    pub fn optional<T>(
        &mut self,
        name: &'static str,
        read: impl FnOnce(&'a RawValue) -> Result<T, Complaint>,
    ) -> Option<T> {
        let value = self.take(name)?;
        read(value).map_err(|complaint| self.complain(name, complaint)).ok()
    }

    /// Takes a member that must be there. `None` when it isn't or is bad, which is noted.
    pub fn required<T>(
        &mut self,
        name: &'static str,
        read: impl FnOnce(&'a RawValue) -> Result<T, Complaint>,
    ) -> Option<T> {
        let Some(value) = self.take(name) else {
            self.complain(name, "is required");
            return None;
        };
        read(value).map_err(|complaint| self.complain(name, complaint)).ok()
    }

    /// Takes an array member that must be there, element by element; bad elements are noted and left out.
    pub fn required_list<T>(
        &mut self,
        name: &'static str,
        max: usize,
        read: impl Fn(&'a RawValue) -> Result<T, Complaint>,
    ) -> Option<Vec<T>> {
        let elements = self.required(name, |value| elements(value, max))?;
        Some(self.read_list(name, elements, read))
    }

    /// Takes an array member that may be absent, element by element; bad elements are noted and left out.
    pub fn optional_list<T>(
        &mut self,
        name: &'static str,
        max: usize,
        read: impl Fn(&'a RawValue) -> Result<T, Complaint>,
    ) -> Option<Vec<T>> {
        let elements = self.optional(name, |value| elements(value, max))?;
        Some(self.read_list(name, elements, read))
    }

    fn read_list<T>(
        &mut self,
        name: &str,
        elements: Vec<&'a RawValue>,
        read: impl Fn(&'a RawValue) -> Result<T, Complaint>,
    ) -> Vec<T> {
        let mut values = Vec::with_capacity(elements.len());
        for (at, element) in elements.into_iter().enumerate() {
            match read(element) {
                Ok(value) => values.push(value),
                Err(complaint) => self.complain(format!("{name}[{at}]"), complaint),
            }
        }
        values
    }

    /// Notes that a field is bad.
    pub fn complain(&mut self, field: impl Into<String>, complaint: impl Into<Complaint>) {
        if self.errors.len() < FIELD_ERRORS_MAX {
            self.errors.push(FieldError::new(field, complaint));
        }
    }

    /// What was read beside the body; what is bad about it is noted with the body's fields.
    pub(super) fn beside<T>(&mut self, read: Result<T, FieldError>) -> Option<T> {
        read.map_err(|error| self.complain(error.field, error.message)).ok()
    }

    /// How many fields were found bad so far.
    #[must_use]
    pub fn complaints(&self) -> usize {
        self.errors.len()
    }

    /// Answers with this code, if anything is wrong at all.
    pub fn answer_with(&mut self, code: ErrorCode) {
        self.code = code;
    }

    /// Ends the reading: members that nobody took are unknown.
    ///
    /// # Errors
    /// Everything that was found wrong.
    pub fn finish(mut self) -> Result<(), ApiError> {
        self.refuse_unknown();
        if self.errors.is_empty() {
            return Ok(());
        }
        let detail = "Some fields are not valid; see errors.";
        Err(ApiError::new(self.code, detail).with_fields(self.errors))
    }

    /// Ends the reading of an object within another: everything that was found wrong, for the outer one to name.
    pub(super) fn into_complaints(mut self) -> Vec<FieldError> {
        self.refuse_unknown();
        self.errors
    }

    fn refuse_unknown(&mut self) {
        for (name, _) in std::mem::take(&mut self.members) {
            self.complain(shown(&name), "is not a known field");
        }
    }
}

fn invalid(detail: impl Into<Cow<'static, str>>) -> ApiError {
    ApiError::new(ErrorCode::InvalidRequest, detail)
}

/// A client's own field name, cut to a length that is fit to show.
fn shown(name: &str) -> String {
    name.chars().take(64).collect()
}

struct Members;

impl<'de> Visitor<'de> for Members {
    type Value = Vec<(Cow<'de, str>, &'de RawValue)>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut members = Vec::with_capacity(8);
        while let Some(Name(name)) = map.next_key()? {
            if members.len() == MEMBERS_MAX {
                return Err(A::Error::custom("too many members"));
            }
            members.push((name, map.next_value()?));
        }
        Ok(members)
    }
}

#[derive(serde::Deserialize)]
struct Name<'a>(#[serde(borrow)] Cow<'a, str>);

/// The elements of an array of at most `max`.
///
/// # Errors
/// When it is none.
pub fn elements(value: &RawValue, max: usize) -> Result<Vec<&RawValue>, Complaint> {
    let elements: Vec<&RawValue> = serde_json::from_str(value.get()).map_err(|_| "must be an array")?;
    if elements.len() > max { Err(format!("must have at most {max} elements").into()) } else { Ok(elements) }
}

/// A string's content, borrowed where it holds no escapes.
///
/// # Errors
/// When it is none.
pub fn text(value: &RawValue) -> Result<Cow<'_, str>, Complaint> {
    match serde_json::from_str::<Name<'_>>(value.get()) {
        Ok(Name(text)) => Ok(text),
        Err(_) => Err("must be a string".into()),
    }
}

/// An integer of `0..=max`; `7.0` and `7e0` are one too, as JSON knows no difference.
///
/// # Errors
/// When it is none.
pub fn integer(value: &RawValue, max: u64) -> Result<u64, Complaint> {
    let parsed = serde_json::from_str::<u64>(value.get()).ok().or_else(|| {
        let number: f64 = serde_json::from_str(value.get()).ok()?;
        // Exact: whole, not negative, and below 2^53.
        #[allow(clippy::cast_sign_loss)]
        (number.fract() == 0.0 && (0.0..9_007_199_254_740_992.0).contains(&number)).then_some(number as u64)
    });
    parsed.filter(|number| *number <= max).ok_or_else(|| format!("must be an integer from 0 to {max}").into())
}

/// A truth value.
///
/// # Errors
/// When it is none.
pub fn boolean(value: &RawValue) -> Result<bool, Complaint> {
    serde_json::from_str(value.get()).map_err(|_| "must be true or false".into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn errors(result: Result<(), ApiError>) -> Vec<String> {
        let error = result.unwrap_err();
        let problem = error.problem(crate::api::trace::TraceId([1; 16]), None, messenger_proto::ids::Millis(0));
        let value = serde_json::to_value(problem).unwrap();
        let errors = value["errors"].as_array().unwrap();
        errors.iter().map(|error| format!("{} {}", error["field"], error["message"]).replace('"', "")).collect()
    }

    #[test]
    fn every_bad_field_is_found_at_once() {
        let body = br#"{"a": 1, "b": "x", "c": ["u", 2, "v", null], "d": true, "b": "y", "e": null}"#;
        let mut object = Object::parse(body).unwrap();
        assert_eq!(object.required("a", text), None);
        assert_eq!(object.required("b", text).as_deref(), Some("x"));
        assert_eq!(object.required_list("c", 4, text), Some(vec!["u".into(), "v".into()]));
        assert_eq!(object.required("e", text), None);
        assert_eq!(object.optional("f", text), None);
        let expected = [
            "b is given more than once",
            "a must be a string",
            "c[1] must be a string",
            "c[3] must be a string",
            "e is required",
            "d is not a known field",
        ];
        let found = errors(object.finish());
        assert_eq!(found.len(), expected.len(), "{found:?}");
        for line in expected {
            assert!(found.iter().any(|error| error == line), "{line} in {found:?}");
        }
    }

    #[test]
    fn a_list_is_bounded() {
        let mut object = Object::parse(br#"{"c": [1, 2, 3]}"#).unwrap();
        assert_eq!(object.required_list("c", 2, text), None);
        assert_eq!(errors(object.finish()), ["c must have at most 2 elements"]);
    }

    #[test]
    fn what_is_no_object_is_refused() {
        for body in
            ["", " ", "[]", "7", "null", "\"a\"", "{", "{\"a\":}", "{\"a\":1}x", "{a:1}", "{\"a\":1,}", "\u{feff}{}"]
        {
            let error = Object::parse(body.as_bytes()).unwrap_err();
            assert_eq!(error.code(), ErrorCode::InvalidRequest, "{body:?}");
        }
        assert!(Object::parse(b"{\"a\": \"\xff\"}").is_err());
        assert!(Object::parse(b"{\"a\": \"\x01\"}").is_err());
        let wide: Vec<String> = (0..100_000).map(|n| format!("\"{n}\":0")).collect();
        assert!(Object::parse(format!("{{{}}}", wide.join(",")).as_bytes()).is_err());
    }

    #[test]
    fn depth_is_bounded_before_parsing() {
        let nested = |depth: usize| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
        assert!(!too_deep(nested(DEPTH_MAX).as_bytes()));
        assert!(too_deep(nested(DEPTH_MAX + 1).as_bytes()));
        assert!(!too_deep(format!("\"{}\"", "[".repeat(100)).as_bytes()));
        assert!(!too_deep(br#"{"a":"\"[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[["}"#));
        assert!(!too_deep("[]".repeat(1000).as_bytes()));
        let body = format!("{{\"a\":{}}}", nested(500_000));
        assert!(Object::parse(body.as_bytes()).unwrap_err().detail().contains("nested"));
    }

    #[test]
    fn integers_compare_as_json() {
        let read = |text: &str| integer(serde_json::from_str::<&RawValue>(text).unwrap(), 9_007_199_254_740_991).ok();
        assert_eq!(read("9007199254740991"), Some(9_007_199_254_740_991));
        assert_eq!((read("7.0"), read("70e-1"), read("-0"), read("0")), (Some(7), Some(7), Some(0), Some(0)));
        for bad in ["9007199254740992", "-1", "1.5", "1e99", "\"1\"", "true", "[1]", "18446744073709551616"] {
            assert_eq!(read(bad), None, "{bad}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_get_an_answer(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            if let Ok(mut object) = Object::parse(&bytes) {
                object.optional_list("a", 4, text);
                let _ = object.finish();
            }
        }

        #[test]
        fn strings_read_as_the_library_reads_them(string in ".*") {
            let body = serde_json::to_string(&serde_json::json!({"s": string})).unwrap();
            let mut object = Object::parse(body.as_bytes()).unwrap();
            prop_assert_eq!(object.required("s", text).unwrap(), string);
            object.finish().unwrap();
        }
    }
}
