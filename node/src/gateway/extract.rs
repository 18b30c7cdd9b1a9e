//! Taking a request apart.
//!
//! Owns: who asks, the ids in its path, its query parameters, its Idempotency-Key and its JSON body.
//! Must not know: what is asked for.
//! Invariants: a body is read only once it is known to be JSON and within bounds, and in bounded time.

use super::GatewayState;
use super::audited::Gathered;
use super::edge::{body_too_large, discard};
use super::idempotency::IdempotencyKey;
use super::input::{Complaint, Object};
use crate::api::error::{ApiError, FieldError};
use crate::auth::{self, AuthError, Identity, Scope};
use axum::body::Body;
use axum::extract::{FromRequestParts, Query, RawPathParams, Request};
use axum::http::request::Parts;
use axum::http::{HeaderMap, Uri, header};
use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt;
use messenger_proto::emoji::Emoji;
use messenger_proto::error::ErrorCode;
use messenger_proto::ids::{DeviceId, InvalidId, MessageId, ThreadId, UserId};
use messenger_proto::limits::{BODY_MAX, PAGE_DEFAULT, PAGE_MAX};
use std::str::FromStr;
use std::sync::Arc;

/// The token in the `Authorization` header.
///
/// # Errors
/// Why there is none.
pub fn bearer_of(headers: &HeaderMap) -> Result<&str, AuthError> {
    let mut values = headers.get_all(header::AUTHORIZATION).iter();
    let value = values.next().ok_or(AuthError::Missing)?;
    if values.next().is_some() {
        return Err(AuthError::Malformed);
    }
    auth::bearer(value.to_str().map_err(|_| AuthError::Malformed)?)
}

/// Who was let in to the route (see [`super::limited`]), if the token is good for this.
fn with_scope(parts: &mut Parts, scope: Scope) -> Result<Arc<Identity>, ApiError> {
    let identity: Option<Arc<Identity>> = parts.extensions.remove();
    let identity = identity.ok_or_else(|| ApiError::internal("a route that wants a token is not limited"))?;
    if identity.scopes.contains(scope) { Ok(identity) } else { Err(ApiError::missing_scope(scope)) }
}

/// Someone who may read.
pub(super) struct Reader(pub(super) Arc<Identity>);

impl FromRequestParts<GatewayState> for Reader {
    type Rejection = ApiError;
    async fn from_request_parts(parts: &mut Parts, _: &GatewayState) -> Result<Self, ApiError> {
        with_scope(parts, Scope::Read).map(Self)
    }
}

/// Someone who may write.
pub(super) struct Writer(pub(super) Arc<Identity>);

impl FromRequestParts<GatewayState> for Writer {
    type Rejection = ApiError;
    async fn from_request_parts(parts: &mut Parts, _: &GatewayState) -> Result<Self, ApiError> {
        with_scope(parts, Scope::Write).map(Self)
    }
}

/// The path's `thread_id`; a bad one is named together with whatever else is bad.
pub(super) struct ThreadPath(Result<ThreadId, FieldError>);

impl ThreadPath {
    /// The id, of a request that has nothing else to read.
    pub(super) fn id(self) -> Result<ThreadId, ApiError> {
        self.0.map_err(|error| ApiError::fields(vec![error]))
    }

    /// The id; a bad one is noted with the fields of the body.
    pub(super) fn beside(self, object: &mut Object<'_>) -> Option<ThreadId> {
        object.beside(self.0)
    }

    /// The id; a bad one is noted with the parameters.
    pub(super) fn among(self, params: &mut Params) -> Option<ThreadId> {
        params.beside(self.0)
    }
}

impl FromRequestParts<GatewayState> for ThreadPath {
    type Rejection = ApiError;
    async fn from_request_parts(parts: &mut Parts, state: &GatewayState) -> Result<Self, ApiError> {
        let mut ids = PathIds::of(parts, state).await?;
        let thread = ids.take("thread_id", "must be a UUID");
        Ok(Self(thread.ok_or_else(|| FieldError::new("thread_id", "must be a UUID"))))
    }
}

/// The path's `thread_id` and `user_id`.
pub(super) struct MemberPath(pub(super) ThreadId, pub(super) UserId);

impl FromRequestParts<GatewayState> for MemberPath {
    type Rejection = ApiError;
    async fn from_request_parts(parts: &mut Parts, state: &GatewayState) -> Result<Self, ApiError> {
        let mut ids = PathIds::of(parts, state).await?;
        let thread = ids.take("thread_id", "must be a UUID");
        let user = ids.take("user_id", "must be a user id");
        ids.finish(thread.zip(user)).map(|(thread, user)| Self(thread, user))
    }
}

/// The path's `message_id`; a bad one is named together with whatever else is bad.
pub(super) struct MessagePath(Result<MessageId, FieldError>);

impl MessagePath {
    /// The id, of a request that has nothing else to read.
    pub(super) fn id(self) -> Result<MessageId, ApiError> {
        self.0.map_err(|error| ApiError::fields(vec![error]))
    }

    /// The id; a bad one is noted with the fields of the body.
    pub(super) fn beside(self, object: &mut Object<'_>) -> Option<MessageId> {
        object.beside(self.0)
    }
}

impl FromRequestParts<GatewayState> for MessagePath {
    type Rejection = ApiError;
    async fn from_request_parts(parts: &mut Parts, state: &GatewayState) -> Result<Self, ApiError> {
        let mut ids = PathIds::of(parts, state).await?;
        let message = ids.take("message_id", "must be a ULID");
        Ok(Self(message.ok_or_else(|| FieldError::new("message_id", "must be a ULID"))))
    }
}

/// The path's `thread_id` and `message_id`.
pub(super) struct PinPath(pub(super) ThreadId, pub(super) MessageId);

impl FromRequestParts<GatewayState> for PinPath {
    type Rejection = ApiError;
    async fn from_request_parts(parts: &mut Parts, state: &GatewayState) -> Result<Self, ApiError> {
        let mut ids = PathIds::of(parts, state).await?;
        let thread = ids.take("thread_id", "must be a UUID");
        let message = ids.take("message_id", "must be a ULID");
        ids.finish(thread.zip(message)).map(|(thread, message)| Self(thread, message))
    }
}

/// The path's `message_id` and `emoji`.
pub(super) struct ReactionPath(pub(super) MessageId, pub(super) Emoji);

impl FromRequestParts<GatewayState> for ReactionPath {
    type Rejection = ApiError;
    async fn from_request_parts(parts: &mut Parts, state: &GatewayState) -> Result<Self, ApiError> {
        let mut ids = PathIds::of(parts, state).await?;
        let message = ids.take("message_id", "must be a ULID");
        let emoji = ids.take("emoji", EMOJI);
        ids.finish(message.zip(emoji)).map(|(message, emoji)| Self(message, emoji))
    }
}

/// The path's `user_id`; a bad one is named together with whatever else is bad.
pub(super) struct UserPath(Result<Whom, FieldError>);

/// Who is named by a path.
enum Whom {
    /// The one who asks.
    Me,
    User(UserId),
}

impl FromStr for Whom {
    type Err = InvalidId;
    fn from_str(text: &str) -> Result<Self, InvalidId> {
        if text == "me" { Ok(Self::Me) } else { text.parse().map(Self::User) }
    }
}

impl UserPath {
    fn read(self, viewer: &Identity) -> Result<UserId, FieldError> {
        self.0.map(|whom| match whom {
            Whom::Me => viewer.user.clone(),
            Whom::User(user) => user,
        })
    }

    /// The id, of a request that has nothing else to read.
    pub(super) fn id(self, viewer: &Identity) -> Result<UserId, ApiError> {
        self.read(viewer).map_err(|error| ApiError::fields(vec![error]))
    }

    /// The id; a bad one is noted with the parameters.
    pub(super) fn among(self, viewer: &Identity, params: &mut Params) -> Option<UserId> {
        params.beside(self.read(viewer))
    }
}

impl FromRequestParts<GatewayState> for UserPath {
    type Rejection = ApiError;
    async fn from_request_parts(parts: &mut Parts, state: &GatewayState) -> Result<Self, ApiError> {
        let user = PathIds::of(parts, state).await?.take("user_id", "must be a user id");
        Ok(Self(user.ok_or_else(|| FieldError::new("user_id", "must be a user id"))))
    }
}

/// The path's `device_id`; a bad one is named together with whatever else is bad.
pub(super) struct DevicePath(Result<DeviceId, FieldError>);

impl DevicePath {
    /// The id, of a request that has nothing else to read.
    pub(super) fn id(self) -> Result<DeviceId, ApiError> {
        self.0.map_err(|error| ApiError::fields(vec![error]))
    }

    /// Whether it is well-formed and names another device.
    pub(super) fn is_another(&self, device: &DeviceId) -> bool {
        self.0.as_ref().is_ok_and(|named| named != device)
    }

    /// The id; a bad one is noted with the fields of the body.
    pub(super) fn beside(self, object: &mut Object<'_>) -> Option<DeviceId> {
        object.beside(self.0)
    }
}

impl FromRequestParts<GatewayState> for DevicePath {
    type Rejection = ApiError;
    async fn from_request_parts(parts: &mut Parts, state: &GatewayState) -> Result<Self, ApiError> {
        let device = PathIds::of(parts, state).await?.take("device_id", "must be a device id");
        Ok(Self(device.ok_or_else(|| FieldError::new("device_id", "must be a device id"))))
    }
}

/// What a bad emoji is told.
pub(super) const EMOJI: &str = "must be 1-64 bytes without control characters, and not \".\" or \"..\"";

struct PathIds {
    params: RawPathParams,
    errors: Vec<FieldError>,
}

impl PathIds {
    async fn of(parts: &mut Parts, state: &GatewayState) -> Result<Self, ApiError> {
        match RawPathParams::from_request_parts(parts, state).await {
            Ok(params) => Ok(Self { params, errors: Vec::new() }),
            Err(_) => Err(ApiError::new(ErrorCode::InvalidRequest, "The path is not UTF-8.")),
        }
    }

    fn take<T: FromStr>(&mut self, name: &'static str, complaint: &'static str) -> Option<T> {
        let text = self.params.iter().find(|(param, _)| *param == name).map(|(_, text)| text);
        let id = text.and_then(|text| text.parse().ok());
        if id.is_none() {
            self.errors.push(FieldError::new(name, complaint));
        }
        id
    }

    fn finish<T>(self, ids: Option<T>) -> Result<T, ApiError> {
        ids.ok_or_else(|| ApiError::fields(self.errors))
    }
}

/// Query parameters, taken one by one; those nobody takes are passed over.
pub(super) struct Params {
    pairs: Vec<(String, String)>,
    errors: Vec<FieldError>,
}

impl Params {
    pub(super) fn of(uri: &Uri) -> Result<Self, ApiError> {
        let invalid = |_| ApiError::new(ErrorCode::InvalidRequest, "The query string is malformed.");
        let Query(pairs) = Query::<Vec<(String, String)>>::try_from_uri(uri).map_err(invalid)?;
        Ok(Self { pairs, errors: Vec::new() })
    }

    /// Takes a parameter that may be absent. `None` also when it is bad, which is noted.
    pub(super) fn take<T>(&mut self, name: &'static str, read: impl FnOnce(&str) -> Result<T, Complaint>) -> Option<T> {
        let mut values = self.pairs.iter().filter(|(param, _)| param == name).map(|(_, value)| value.as_str());
        let value = values.next()?;
        let outcome = if values.next().is_some() { Err("is given more than once".into()) } else { read(value) };
        outcome.map_err(|complaint| self.complain(name, complaint)).ok()
    }

    /// What was read beside the parameters; what is bad about it is noted with them.
    pub(super) fn beside<T>(&mut self, read: Result<T, FieldError>) -> Option<T> {
        read.map_err(|error| self.errors.push(error)).ok()
    }

    pub(super) fn complain(&mut self, name: &'static str, complaint: impl Into<Complaint>) {
        self.errors.push(FieldError::new(name, complaint));
    }

    /// The number of rows asked for.
    pub(super) fn page_size(&mut self) -> u32 {
        let read = |text: &str| {
            let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
            let size = text.parse().ok().filter(|size| digits && (1..=PAGE_MAX).contains(size));
            size.ok_or_else(|| format!("must be an integer from 1 to {PAGE_MAX}").into())
        };
        self.take("page_size", read).unwrap_or(PAGE_DEFAULT)
    }

    /// What was found wrong first, for a body's errors to stand beside.
    pub(super) fn first_error(self) -> Option<FieldError> {
        self.errors.into_iter().next()
    }

    pub(super) fn finish(self) -> Result<(), ApiError> {
        if self.errors.is_empty() { Ok(()) } else { Err(ApiError::fields(self.errors)) }
    }
}

/// The name of the header.
pub(super) const IDEMPOTENCY_KEY: &str = "Idempotency-Key";

/// The request's Idempotency-Key, if it has one.
pub(super) fn idempotency_key(headers: &HeaderMap) -> Result<Option<IdempotencyKey>, FieldError> {
    let mut values = headers.get_all(IDEMPOTENCY_KEY).iter();
    let Some(value) = values.next() else { return Ok(None) };
    if values.next().is_some() {
        return Err(FieldError::new(IDEMPOTENCY_KEY, "is given more than once"));
    }
    let key = std::str::from_utf8(value.as_bytes()).ok().and_then(IdempotencyKey::new);
    key.map(Some).ok_or_else(|| FieldError::new(IDEMPOTENCY_KEY, "must have 1 to 64 characters"))
}

/// Whether there is one at all, good or bad.
pub(super) fn has_idempotency_key(headers: &HeaderMap) -> bool {
    headers.contains_key(IDEMPOTENCY_KEY)
}

/// Reads a JSON body, unparsed.
pub(super) async fn json_body(state: &GatewayState, request: Request) -> Result<Bytes, ApiError> {
    check_content_type(request.headers())?;
    let gathered = request.extensions().get::<Gathered>().cloned();
    let mut body = request.into_body();
    let read = tokio::time::timeout(state.body_time(), collect(&mut body)).await;
    match read {
        Ok(Ok(bytes)) => {
            if let Some(gathered) = gathered {
                gathered.read(&bytes);
            }
            Ok(bytes)
        }
        Ok(Err(BodyError::TooLarge)) => {
            discard(&mut body, state.body_time()).await;
            Err(body_too_large())
        }
        Ok(Err(BodyError::Broken)) => Err(ApiError::new(ErrorCode::InvalidRequest, "The body broke off.").closing()),
        Err(_) => Err(ApiError::new(ErrorCode::InvalidRequest, "The body did not arrive in time.").closing()),
    }
}

enum BodyError {
    TooLarge,
    Broken,
}

async fn collect(body: &mut Body) -> Result<Bytes, BodyError> {
    let mut first: Option<Bytes> = None;
    let mut all = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame.map_err(|_| BodyError::Broken)?.into_data() else { continue };
        let had = first.as_ref().map_or(all.len(), Bytes::len);
        if had + data.len() > BODY_MAX {
            return Err(BodyError::TooLarge);
        }
        // Most bodies come in one piece, which is then not copied.
        match first.take() {
            None if all.is_empty() => first = Some(data),
            None => all.extend_from_slice(&data),
            Some(piece) => {
                all.extend_from_slice(&piece);
                all.extend_from_slice(&data);
            }
        }
    }
    Ok(first.unwrap_or_else(|| all.freeze()))
}

/// A body is `application/json`, in UTF-8, as it is.
fn check_content_type(headers: &HeaderMap) -> Result<(), ApiError> {
    let unsupported = |detail| Err(ApiError::new(ErrorCode::UnsupportedMediaType, detail));
    let value = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let mut parts = value.split(';').map(str::trim);
    if !parts.next().is_some_and(|essence| essence.eq_ignore_ascii_case("application/json")) {
        return unsupported("The body must be application/json.");
    }
    let charset = parts.find_map(|part| {
        let (name, value) = part.split_once('=')?;
        name.trim().eq_ignore_ascii_case("charset").then(|| value.trim().trim_matches('"'))
    });
    if charset.is_some_and(|charset| !charset.eq_ignore_ascii_case("utf-8")) {
        return unsupported("The body must be UTF-8.");
    }
    let encoding = headers.get(header::CONTENT_ENCODING);
    if encoding.is_some_and(|encoding| !encoding.as_bytes().eq_ignore_ascii_case(b"identity")) {
        return unsupported("The body must not be compressed.");
    }
    Ok(())
}
