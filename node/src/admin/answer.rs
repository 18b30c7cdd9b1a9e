//! How operators ask and are answered.
//!
//! Owns: reading a query string, cursors, and problem documents on the operator's listener.
//! Must not know: what is asked for.
//! Invariants: a parameter that is not known is refused, and so is one that is given twice: an operator who mistypes a
//! filter must not take everything for what was asked.

use crate::api::error::{ApiError, FieldError};
use crate::api::time;
use crate::api::trace::TraceId;
use axum::extract::Query;
use axum::http::{HeaderValue, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use messenger_proto::error::{ErrorCode, Refusal};
use messenger_proto::ids::Millis;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::str::FromStr;

/// Rows of a page when none are asked for.
const PAGE_DEFAULT: u32 = 50;
/// Rows of a page at most.
pub(super) const PAGE_MAX: u32 = 200;
/// Seconds after which it may be tried again.
const RETRY_AFTER_S: u32 = 1;

/// What is wrong with a request.
#[derive(Debug)]
pub(super) struct Problem(pub(super) ApiError);

/// Why a request was refused; an extension of its answer, for the record.
#[derive(Debug, Clone, Copy)]
pub(super) struct Refused(pub(super) ErrorCode);

impl From<ApiError> for Problem {
    fn from(error: ApiError) -> Self {
        Self(error)
    }
}

impl From<Refusal> for Problem {
    fn from(refusal: Refusal) -> Self {
        Self(refusal.into())
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        let at = Millis(u64::try_from(now.as_millis()).unwrap_or(u64::MAX));
        let body = serde_json::to_vec(&self.0.problem(TraceId::random(), None, at)).unwrap_or_default();
        let mut response = (self.0.status(), body).into_response();
        response.extensions_mut().insert(Refused(self.0.code()));
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        if self.0.status() == StatusCode::SERVICE_UNAVAILABLE {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(RETRY_AFTER_S));
        }
        response
    }
}

/// A whole answer.
pub(super) fn json(view: &impl Serialize) -> Result<Response, Problem> {
    let body = serde_json::to_vec(view).map_err(|error| ApiError::internal(format!("unwritable: {error}")))?;
    let headers = [(header::CONTENT_TYPE, "application/json"), (header::CACHE_CONTROL, "no-store")];
    Ok((headers, body).into_response())
}

/// The parameters of a request, taken one by one.
pub(super) struct Asked {
    pairs: Vec<(String, String)>,
    errors: Vec<FieldError>,
}

impl Asked {
    pub(super) fn of(uri: &Uri) -> Result<Self, Problem> {
        let invalid = |_| ApiError::new(ErrorCode::InvalidRequest, "The query string is malformed.");
        let Query(pairs) = Query::<Vec<(String, String)>>::try_from_uri(uri).map_err(invalid)?;
        Ok(Self { pairs, errors: Vec::new() })
    }

    /// Takes a parameter that may be absent; what is bad about it is noted.
    pub(super) fn take<T>(
        &mut self,
        name: &str,
        complaint: &'static str,
        read: impl FnOnce(&str) -> Option<T>,
    ) -> Option<T> {
        let (values, rest) =
            std::mem::take(&mut self.pairs).into_iter().partition::<Vec<_>, _>(|(param, _)| param == name);
        self.pairs = rest;
        let value = match values.as_slice() {
            [] => return None,
            [(_, value)] => read(value),
            _ => None,
        };
        if value.is_none() {
            self.errors.push(FieldError::new(name, complaint));
        }
        value
    }

    /// An id.
    pub(super) fn id<T: FromStr>(&mut self, name: &str) -> Option<T> {
        self.take(name, "must be one id", |text| text.parse().ok())
    }

    /// A time, RFC 3339.
    pub(super) fn time(&mut self, name: &str) -> Option<Millis> {
        self.take(name, "must be one RFC 3339 time", time::parse)
    }

    /// How many rows.
    pub(super) fn page_size(&mut self) -> u32 {
        let read = |text: &str| text.parse().ok().filter(|size| (1..=PAGE_MAX).contains(size));
        self.take("page_size", "must be one integer from 1 to 200", read).unwrap_or(PAGE_DEFAULT)
    }

    /// Where the page begins.
    pub(super) fn cursor<T: DeserializeOwned>(&mut self) -> Option<T> {
        self.take("cursor", "must be the next_cursor of the page before", |text| {
            serde_json::from_slice(&URL_SAFE_NO_PAD.decode(text).ok()?).ok()
        })
    }

    /// Ends the reading: parameters that nobody took are unknown.
    pub(super) fn finish(mut self) -> Result<(), Problem> {
        for (name, _) in self.pairs {
            let shown: String = name.chars().take(64).collect();
            self.errors.push(FieldError::new(shown, "is not known"));
        }
        if self.errors.is_empty() { Ok(()) } else { Err(ApiError::fields(self.errors).into()) }
    }
}

/// A cursor's text.
pub(super) fn cursor(place: &impl Serialize) -> String {
    URL_SAFE_NO_PAD.encode(serde_json::to_vec(place).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;
    use messenger_proto::ids::UserId;

    fn asked(query: &str) -> Asked {
        Asked::of(&format!("/admin/x?{query}").parse().unwrap()).unwrap()
    }

    #[test]
    fn parameters_are_taken_and_all_that_is_wrong_is_said() {
        let mut good = asked("user=bob&since=2026-05-30T17:42:11Z&page_size=7");
        assert_eq!(good.id::<UserId>("user"), UserId::new("bob").ok());
        assert_eq!(good.time("since"), Some(Millis(1_780_162_931_000)));
        assert_eq!((good.page_size(), good.time("until")), (7, None));
        good.finish().unwrap();
        let mut bad = asked("user=b%20b&usr=bob&since=soon&since=later&page_size=0&cursor=x");
        assert_eq!((bad.id::<UserId>("user"), bad.time("since"), bad.cursor::<u64>()), (None, None, None));
        assert_eq!(bad.page_size(), PAGE_DEFAULT);
        let problem = bad.finish().unwrap_err().0;
        let document = serde_json::to_value(problem.problem(TraceId([1; 16]), None, Millis(0))).unwrap();
        let mut fields: Vec<_> = document["errors"].as_array().unwrap().iter().map(|it| it["field"].clone()).collect();
        fields.sort_by_key(ToString::to_string);
        assert_eq!(fields, ["cursor", "page_size", "since", "user", "usr"]);
    }

    #[test]
    fn a_cursor_comes_back() {
        let place = (7_u64, vec!["x".to_owned()]);
        let mut asked = asked(&format!("cursor={}", cursor(&place)));
        assert_eq!(asked.cursor(), Some(place));
    }
}
