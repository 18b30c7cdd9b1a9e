//! The keys that devices publish for each other.
//!
//! Owns: `PUT` and `GET /v1/users/me/devices/{device_id}/prekeys`, `GET /v1/users/{id}/prekeys`, and their JSON.
//! Must not know: which key is handed out; the user's shard does.
//! Invariants: a GET of keys takes them and is a command; a HEAD takes nothing.

use super::GatewayState;
use super::devices::of_user;
use super::extract::{DevicePath, Params, Reader, UserPath, Writer, idempotency_key, json_body};
use super::idempotency::{BodyHash, GetPath, IdempotencyKey, Origin};
use super::input::{Complaint, Object, integer, text};
use super::respond::{json, json_done, replayed, unexpected};
use crate::api::error::{ApiError, FieldError};
use crate::api::time::Rfc3339;
use crate::api::view::Base64;
use crate::auth::Identity;
use crate::rates::Charged;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use messenger_proto::command::{Command, Op, ReplyBody};
use messenger_proto::error::ErrorCode;
use messenger_proto::ids::{ClientSeq, DeviceId, KeyId, RegistrationId, UserId};
use messenger_proto::keys::{
    Bundle, Bundles, KeyCounts, KeyCountsQuery, OfferedKey, Prekey, PublishKeys, PublishedKeys, TakePrekeys,
};
use messenger_proto::limits::{CURVE_KEY_MAX, PQ_KEY_MAX, PREKEYS_PER_PUT};
use messenger_proto::query::{Answer, Query};
use messenger_proto::slot::Slot;
use serde::Serialize;
use serde_json::value::RawValue;
use std::collections::BTreeSet;

#[derive(Serialize)]
struct CountsView {
    one_time: u32,
    pq_one_time: u32,
    updated_at: Rfc3339,
}

impl CountsView {
    const SIZE: usize = 96;

    fn of(counts: &KeyCounts) -> Self {
        let KeyCounts { one_time, pq_one_time, updated_at, .. } = *counts;
        Self { one_time, pq_one_time, updated_at: Rfc3339(updated_at) }
    }
}

/// `PUT /v1/users/me/devices/{device_id}/prekeys`
pub(super) async fn publish(
    State(state): State<GatewayState>,
    Writer(actor): Writer,
    path: DevicePath,
    request: Request,
) -> Result<Response, ApiError> {
    if path.is_another(&actor.device) {
        return Err(ApiError::new(ErrorCode::Forbidden, "A device publishes its own keys only."));
    }
    let body = json_body(&state, request).await?;
    let mut object = Object::parse(&body)?;
    path.beside(&mut object);
    let op = take_publication(&mut object, &actor);
    object.finish()?;
    let op = op.ok_or_else(|| ApiError::internal("a body without errors was not read"))?;
    drop(body);
    let origin = Origin::minted();
    let command = Command { id: origin.id, retention: origin.retention, body_hash: 0, op: Op::PublishKeys(op) };
    let reply = state.router().command(Slot::of_user(&actor.user), command, state.deadline()).await?;
    let ReplyBody::KeyCounts(counts) = reply.body else {
        return Err(ApiError::internal("counts were expected of a command"));
    };
    json_done(&state, StatusCode::OK, &CountsView::of(&counts), CountsView::SIZE)
}

/// `GET /v1/users/me/devices/{device_id}/prekeys`
pub(super) async fn in_store(
    State(state): State<GatewayState>,
    Reader(viewer): Reader,
    path: DevicePath,
) -> Result<Response, ApiError> {
    let (user, device) = (viewer.user.clone(), path.id()?);
    let query = Query::KeyCounts(KeyCountsQuery { user, device });
    match state.router().query(Slot::of_user(&viewer.user), query, state.deadline()).await? {
        Answer::KeyCounts(counts) => json(&state, StatusCode::OK, &CountsView::of(&counts), CountsView::SIZE),
        other => Err(unexpected(&other)),
    }
}

/// `GET /v1/users/{id}/prekeys`
pub(super) async fn take(
    State(state): State<GatewayState>,
    Reader(taker): Reader,
    path: UserPath,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let mut params = Params::of(&uri)?;
    let device = params.take("device_id", |text| text.parse().map_err(|_| "must be a device id".into()));
    let user = path.among(&taker, &mut params);
    let key = params.beside(idempotency_key(&headers)).flatten();
    if user.as_ref() == Some(&taker.user) && device.as_ref() == Some(&taker.device) {
        params.complain("device_id", "must not be the device that asks");
    }
    params.finish()?;
    let user = user.ok_or_else(|| ApiError::internal("a path without errors was not read"))?;
    if method == Method::HEAD {
        return probe(&state, user, device.as_ref()).await;
    }
    let Charged { standing, outcome } = state.rates().charge_target(&taker, &user);
    let handed = match outcome {
        Ok(()) => hand_out(&state, &taker, user, device, key.as_ref()).await,
        Err(error) => Err(error),
    };
    let mut response = handed.into_response();
    if let Some(standing) = standing {
        response.extensions_mut().insert(standing);
    }
    Ok(response)
}

async fn hand_out(
    state: &GatewayState,
    taker: &Identity,
    user: UserId,
    device: Option<DeviceId>,
    key: Option<&IdempotencyKey>,
) -> Result<Response, ApiError> {
    let origin = Origin::of_get(&taker.user, &GetPath::Prekeys(user.clone()), key);
    let body_hash = hash(taker, &user, device.as_ref());
    let slot = Slot::of_user(&user);
    let (by, by_device) = (taker.user.clone(), taker.device.clone());
    let op = Op::TakePrekeys(TakePrekeys { user: user.clone(), device, taker: by, taker_device: by_device });
    let command = Command { id: origin.id, retention: origin.retention, body_hash, op };
    let reply = state.router().command(slot, command, state.deadline()).await?;
    let was_replayed = reply.replayed;
    let ReplyBody::Bundles(bundles) = reply.body else {
        return Err(ApiError::internal("bundles were expected of a command"));
    };
    let view = BundlesView::of(&user, &bundles);
    let response = json_done(state, StatusCode::OK, &view, size_hint(&bundles))?;
    Ok(not_stored(replayed(response, was_replayed)))
}

/// Whether there would be anything to take.
async fn probe(state: &GatewayState, user: UserId, device: Option<&DeviceId>) -> Result<Response, ApiError> {
    let devices = of_user(state, user).await?;
    if !devices.iter().any(|info| device.is_none_or(|device| info.device == *device)) {
        return Err(ApiError::new(ErrorCode::NotFound, "The user has published no keys there."));
    }
    let mut response = Response::default();
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    Ok(not_stored(response))
}

fn not_stored(mut response: Response) -> Response {
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

/// What a repeat must ask for, too. Of its own user a device is not given itself, so there it matters which one asks.
fn hash(taker: &Identity, user: &UserId, device: Option<&DeviceId>) -> u64 {
    let mut hash = BodyHash::new("prekeys");
    hash.optional(device.map(DeviceId::as_str));
    hash.optional((taker.user == *user).then_some(taker.device.as_str()));
    hash.finish()
}

#[derive(Serialize)]
struct BundlesView<'a> {
    user_id: &'a str,
    devices: Vec<BundleView<'a>>,
    exhausted: Vec<&'a str>,
}

impl<'a> BundlesView<'a> {
    fn of(user: &'a UserId, bundles: &'a Bundles) -> Self {
        Self {
            user_id: user.as_str(),
            devices: bundles.devices.iter().map(BundleView::of).collect(),
            exhausted: bundles.exhausted.iter().map(DeviceId::as_str).collect(),
        }
    }
}

fn size_hint(bundles: &Bundles) -> usize {
    let offered =
        |offered: &OfferedKey| offered.key.public_key.len() + offered.key.signature.as_ref().map_or(0, Bytes::len);
    let bundle = |bundle: &Bundle| 1024 + 2 * bundle.one_time.iter().chain(&bundle.pq).map(offered).sum::<usize>();
    128 + 80 * bundles.exhausted.len() + bundles.devices.iter().map(bundle).sum::<usize>()
}

#[derive(Serialize)]
struct BundleView<'a> {
    device_id: &'a str,
    registration_id: u64,
    identity_key: Base64<'a>,
    signed_prekey: KeyView<'a>,
    one_time_prekey: Option<KeyView<'a>>,
    pq_prekey: Option<KeyView<'a>>,
}

impl<'a> BundleView<'a> {
    fn of(bundle: &'a Bundle) -> Self {
        let offered = |offered: &'a OfferedKey| KeyView::of(&offered.key, Some(offered.last_resort));
        Self {
            device_id: bundle.device.as_str(),
            registration_id: bundle.registration.0,
            identity_key: Base64(&bundle.identity_key),
            signed_prekey: KeyView::of(&bundle.signed_prekey, None),
            one_time_prekey: bundle.one_time.as_ref().map(offered),
            pq_prekey: bundle.pq.as_ref().map(offered),
        }
    }
}

#[derive(Serialize)]
struct KeyView<'a> {
    key_id: u64,
    public_key: Base64<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    signature: Option<Base64<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    last_resort: Option<bool>,
}

impl<'a> KeyView<'a> {
    fn of(key: &'a Prekey, last_resort: Option<bool>) -> Self {
        let signature = key.signature.as_deref().map(Base64);
        Self { key_id: key.id.0, public_key: Base64(&key.public_key), signature, last_resort }
    }
}

/// How long a public key may be, and whether it is signed.
#[derive(Clone, Copy)]
struct Form {
    public_key_max: usize,
    is_signed: bool,
}

const CURVE: Form = Form { public_key_max: CURVE_KEY_MAX, is_signed: false };
const SIGNED: Form = Form { public_key_max: CURVE_KEY_MAX, is_signed: true };
const PQ: Form = Form { public_key_max: PQ_KEY_MAX, is_signed: true };

/// Takes a publication's members off an object. `None` when one is bad, which is noted there.
fn take_publication(object: &mut Object<'_>, actor: &Identity) -> Option<PublishKeys> {
    let registration = object.required("registration_id", |value| integer(value, ClientSeq::MAX).map(RegistrationId));
    let identity_key = object.required("identity_key", |value| key_bytes(value, CURVE_KEY_MAX));
    let signed_prekey = take_key(object, "signed_prekey", SIGNED, true);
    let one_time = take_keys(object, "one_time_prekeys", CURVE);
    let pq_one_time = take_keys(object, "pq_one_time_prekeys", PQ);
    let last_resort = take_key(object, "last_resort", CURVE, false);
    let pq_last_resort = take_key(object, "pq_last_resort", PQ, false);
    let keys = PublishedKeys {
        registration: registration?,
        identity_key: identity_key?,
        signed_prekey: signed_prekey?,
        one_time,
        pq_one_time,
        last_resort,
        pq_last_resort,
    };
    let (user, device) = (actor.user.clone(), actor.device.clone());
    Some(PublishKeys { user, device, issued_at: actor.issued_at, keys: Box::new(keys) })
}

fn take_keys(object: &mut Object<'_>, name: &'static str, form: Form) -> Vec<Prekey> {
    let elements = object.optional_list(name, PREKEYS_PER_PUT, Ok).unwrap_or_default();
    let (mut keys, mut seen) = (Vec::with_capacity(elements.len()), BTreeSet::new());
    for (at, element) in elements.into_iter().enumerate() {
        let field = format!("{name}[{at}]");
        let Some(key) = read_key(object, &field, element, form) else { continue };
        if seen.insert(key.id) {
            keys.push(key);
        } else {
            object.complain(format!("{field}.key_id"), "is given more than once");
        }
    }
    keys
}

fn take_key(object: &mut Object<'_>, name: &'static str, form: Form, is_required: bool) -> Option<Prekey> {
    let value = if is_required { object.required(name, Ok) } else { object.optional(name, Ok) };
    read_key(object, name, value?, form)
}

/// Reads one key; what is bad about it is noted under its place.
fn read_key(object: &mut Object<'_>, field: &str, value: &RawValue, form: Form) -> Option<Prekey> {
    let Ok(mut key) = Object::parse(value.get().as_bytes()) else {
        object.complain(field, "must be an object");
        return None;
    };
    let id = key.required("key_id", |value| integer(value, ClientSeq::MAX).map(KeyId));
    let public_key = key.required("public_key", |value| key_bytes(value, form.public_key_max));
    let signature = form.is_signed.then(|| key.required("signature", |value| key_bytes(value, PQ_KEY_MAX)));
    for FieldError { field: member, message } in key.into_complaints() {
        object.complain(format!("{field}.{member}"), message);
    }
    let signature = match signature {
        Some(signature) => Some(signature?),
        None => None,
    };
    Some(Prekey { id: id?, public_key: public_key?, signature })
}

fn key_bytes(value: &RawValue, max: usize) -> Result<Bytes, Complaint> {
    let bytes = STANDARD.decode(text(value)?.as_bytes()).map_err(|_| "must be base64, standard with padding")?;
    match bytes.len() {
        0 => Err("must not be empty".into()),
        length if length > max => Err(format!("must be at most {max} bytes, decoded").into()),
        _ => Ok(bytes.into()),
    }
}
