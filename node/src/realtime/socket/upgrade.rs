//! From an HTTP request to a connection.
//!
//! Owns: `GET /v1/realtime`: the handshake of RFC 6455, who may open a socket, and authentication by header, subprotocol
//! or first frame.
//! Must not know: what is said on the connection.
//! Invariants: everything that can be refused over HTTP is; a token is in no URL.

use super::connection::Connection;
use super::inbound::{self, Inbound};
use super::wire::{Close, Heard, Wire, WireEvent};
use crate::api::error::{ApiError, FieldError};
use crate::auth::{AuthError, Identity, Scope, bearer};
use crate::gateway::peer_of;
use crate::gateway::respond;
use crate::gateway::serve::ConnectionRoom;
use crate::rates::{Class, Standing};
use crate::realtime::session::{Frame, FrameBody, FrameSeq};
use crate::realtime::{Realtime, encode};
use axum::body::Body;
use axum::extract::{Query, Request};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use hyper::upgrade::OnUpgrade;
use messenger_proto::error::ErrorCode;
use messenger_proto::ids::{DeviceId, MessageId};
use std::future::poll_fn;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::OwnedSemaphorePermit;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;

/// The subprotocol.
const PROTOCOL: &str = "messenger.v1";
/// What the subprotocol that carries a token begins with.
const BEARER: &str = "bearer.";
/// How long the transport may take to change its protocol.
const UPGRADE_TIME: Duration = Duration::from_secs(10);

/// The path's methods.
const METHODS: &str = "GET, HEAD, OPTIONS";
/// What a request without an upgrade is told.
const PLAIN: &str = "This path speaks WebSocket; upgrade the connection.";

/// A connection's place among those that the node can hold, given back when it ends.
struct Seat {
    _permit: OwnedSemaphorePermit,
    _room: Option<ConnectionRoom>,
}

/// What a request asks for.
struct Ask {
    identity: Option<Arc<Identity>>,
    device: Option<DeviceId>,
    last_seen: Option<MessageId>,
    /// Whether the subprotocol is to be named in the answer.
    protocol: bool,
    /// Where it comes from.
    address: Option<IpAddr>,
}

/// Answers `GET /v1/realtime`.
pub(in crate::realtime) async fn upgrade(node: Realtime, request: Request) -> Response {
    let mut standing = None;
    let mut response = answer(node, request, &mut standing).await;
    if let Some(standing) = standing {
        standing.set_headers(response.headers_mut());
    }
    response
}

async fn answer(node: Realtime, mut request: Request, standing: &mut Option<Standing>) -> Response {
    match *request.method() {
        Method::GET => {}
        Method::HEAD => return upgrade_required(PLAIN),
        Method::OPTIONS => return respond::options(METHODS),
        _ => return ApiError::method_not_allowed(METHODS).into_response(),
    }
    let (key, on_upgrade) = match handshake(&mut request) {
        Ok(found) => found,
        Err(refused) => return *refused,
    };
    let ask = match check(&node, &request, standing) {
        Ok(ask) => ask,
        Err(error) => return error.into_response(),
    };
    if let Some(identity) = &ask.identity
        && let Err(error) = node.revocations().check(identity).await
    {
        return ApiError::from(error).into_response();
    }
    let Some(permit) = node.seat() else {
        let detail = "The node has as many connections as it can hold; try another node.";
        return ApiError::new(ErrorCode::Overloaded, detail).into_response();
    };
    let seat = Seat { _permit: permit, _room: request.extensions_mut().remove::<ConnectionRoom>() };
    let protocol = ask.protocol;
    tokio::spawn(serve(node, on_upgrade, ask, seat));
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let headers = response.headers_mut();
    headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
    headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
    headers.insert(header::SEC_WEBSOCKET_ACCEPT, key);
    if protocol {
        headers.insert(header::SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(PROTOCOL));
    }
    response
}

/// The handshake's own rules; the accept key, and the transport to be.
fn handshake(request: &mut Request) -> Result<(HeaderValue, OnUpgrade), Box<Response>> {
    let headers = request.headers();
    if !has_token(headers, header::CONNECTION, "upgrade") || !has_token(headers, header::UPGRADE, "websocket") {
        return Err(Box::new(upgrade_required(PLAIN)));
    }
    let version = headers.get(header::SEC_WEBSOCKET_VERSION);
    if version.is_none_or(|version| version.as_bytes() != b"13") {
        return Err(Box::new(upgrade_required("Version 13 of the WebSocket protocol is served.")));
    }
    let key = headers.get(header::SEC_WEBSOCKET_KEY).filter(|key| is_nonce(key.as_bytes()));
    let accept = key.and_then(|key| HeaderValue::from_str(&derive_accept_key(key.as_bytes())).ok());
    let Some(accept) = accept else {
        return Err(Box::new(ApiError::field("Sec-WebSocket-Key", "must be 16 bytes in base64").into_response()));
    };
    match request.extensions_mut().remove::<OnUpgrade>() {
        Some(on_upgrade) => Ok((accept, on_upgrade)),
        None => Err(Box::new(upgrade_required("Open the WebSocket over HTTP/1.1."))),
    }
}

fn is_nonce(key: &[u8]) -> bool {
    use base64::Engine;
    base64::engine::general_purpose::STANDARD.decode(key).is_ok_and(|nonce| nonce.len() == 16)
}

fn upgrade_required(detail: &'static str) -> Response {
    let mut response = ApiError::new(ErrorCode::UpgradeRequired, detail).into_response();
    let headers = response.headers_mut();
    headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
    headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
    headers.insert(header::SEC_WEBSOCKET_VERSION, HeaderValue::from_static("13"));
    response
}

/// Whether a header that is a list of tokens holds one.
fn has_token(headers: &HeaderMap, name: header::HeaderName, token: &str) -> bool {
    tokens(headers, name).any(|found| found.eq_ignore_ascii_case(token))
}

fn tokens(headers: &HeaderMap, name: header::HeaderName) -> impl Iterator<Item = &str> {
    let values = headers.get_all(name).into_iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).map(str::trim)
}

/// Who asks, from where, and for what.
fn check(node: &Realtime, request: &Request, standing: &mut Option<Standing>) -> Result<Ask, ApiError> {
    let headers = request.headers();
    check_origin(node, headers)?;
    let address = node.rates().client_address(peer_of(request), headers);
    let charged = node.rates().charge_address(Class::Reads, address);
    *standing = charged.standing;
    charged.outcome?;
    let (identity, protocol) = identify(node, headers, address)?;
    if let Some(identity) = &identity {
        let charged = node.rates().charge_identity(Class::Reads, identity);
        *standing = Standing::tighter(standing.take(), charged.standing);
        charged.outcome?;
    }
    let (device, last_seen) = params(request.uri())?;
    let ask = Ask { identity, device, last_seen, protocol, address };
    if let Some(identity) = &ask.identity {
        admit(identity, ask.device.as_ref())?;
    }
    Ok(ask)
}

/// Browsers name the page's origin: it must be one of ours, or the host that is asked itself.
fn check_origin(node: &Realtime, headers: &HeaderMap) -> Result<(), ApiError> {
    let Some(origin) = headers.get(header::ORIGIN) else { return Ok(()) };
    let host = headers.get(header::HOST).and_then(|host| host.to_str().ok());
    let text = origin.to_str().unwrap_or_default();
    let own = text.split_once("://").is_some_and(|(_, authority)| host == Some(authority));
    if own || node.origins().allow(origin) {
        return Ok(());
    }
    Err(ApiError::new(ErrorCode::Forbidden, "The page's origin may not open connections here."))
}

fn identify(
    node: &Realtime,
    headers: &HeaderMap,
    address: Option<IpAddr>,
) -> Result<(Option<Arc<Identity>>, bool), ApiError> {
    let believe = |token| node.rates().authenticate(node.authenticator(), token, address);
    let protocols = || tokens(headers, header::SEC_WEBSOCKET_PROTOCOL);
    let protocol = protocols().any(|name| name == PROTOCOL);
    if let Some(value) = headers.get(header::AUTHORIZATION) {
        let value = value.to_str().map_err(|_| AuthError::Malformed);
        return Ok((Some(believe(value.and_then(bearer))?), protocol));
    }
    match protocols().find_map(|name| name.strip_prefix(BEARER)) {
        Some(token) if protocol => Ok((Some(believe(Ok(token))?), true)),
        _ => Ok((None, protocol)),
    }
}

fn admit(identity: &Identity, device: Option<&DeviceId>) -> Result<(), ApiError> {
    if !identity.scopes.contains(Scope::Read) {
        return Err(ApiError::missing_scope(Scope::Read));
    }
    match device {
        Some(device) if *device != identity.device => {
            Err(ApiError::new(ErrorCode::Forbidden, "device_id is not the token's device."))
        }
        _ => Ok(()),
    }
}

fn params(uri: &Uri) -> Result<(Option<DeviceId>, Option<MessageId>), ApiError> {
    let invalid = |_| ApiError::new(ErrorCode::InvalidRequest, "The query string is malformed.");
    let Query(pairs) = Query::<Vec<(String, String)>>::try_from_uri(uri).map_err(invalid)?;
    let (mut device, mut last_seen, mut errors) = (None, None, Vec::new());
    for (name, value) in &pairs {
        let complaint = match name.as_str() {
            "device_id" if device.is_some() => Some("is given more than once"),
            "device_id" => {
                device = value.parse().ok();
                device.is_none().then_some("must be a device id")
            }
            "last_seen_id" if last_seen.is_some() => Some("is given more than once"),
            "last_seen_id" => {
                last_seen = value.parse().ok();
                last_seen.is_none().then_some("must be a message id")
            }
            "encoding" if value != "text" => Some("must be text"),
            _ => None,
        };
        errors.extend(complaint.map(|complaint| FieldError::new(name, complaint)));
    }
    if errors.is_empty() { Ok((device, last_seen)) } else { Err(ApiError::fields(errors)) }
}

/// Serves a connection from the moment the transport is ours.
async fn serve(node: Realtime, on_upgrade: OnUpgrade, ask: Ask, seat: Seat) {
    let Ok(Ok(upgraded)) = tokio::time::timeout(UPGRADE_TIME, on_upgrade).await else { return };
    let mut wire = Wire::new(upgraded).await;
    let Ask { identity, device, last_seen, address, .. } = ask;
    let identity = match identity {
        Some(identity) => Some(identity),
        None => Box::pin(first_frame(&node, &mut wire, device.as_ref(), address)).await,
    };
    if let Some(identity) = identity {
        wire.trust();
        Box::pin(Connection::new(node, identity, address, last_seen, wire).run()).await;
    }
    drop(seat);
}

/// Authenticates by the first frame, or closes.
async fn first_frame(
    node: &Realtime,
    wire: &mut Wire,
    device: Option<&DeviceId>,
    address: Option<IpAddr>,
) -> Option<Arc<Identity>> {
    let heard = tokio::time::timeout(node.tuning().auth, poll_fn(|cx| wire.poll(cx, true)));
    let heard = tokio::select! {
        heard = heard => heard,
        () = node.drains() => Ok(WireEvent::Heard(Heard::Broken(Close::DRAINING))),
    };
    let (error, close) = match heard {
        Err(_) => (Some(ApiError::from(AuthError::Missing)), Close::UNAUTHENTICATED),
        Ok(WireEvent::Heard(Heard::Text(text))) => match authenticate(node, &text, device, address).await {
            Ok(identity) => return Some(identity),
            Err(error) => (Some(error), Close::UNAUTHENTICATED),
        },
        Ok(WireEvent::Heard(Heard::Broken(close))) => (None, close),
        Ok(WireEvent::Heard(Heard::Gone) | WireEvent::Flushed) => return None,
    };
    if let Some(error) = error {
        let members = encode::error(None, &error, node.now());
        let frame = Frame { seq: FrameSeq(1), body: FrameBody::Plain(members) };
        wire.hand_over(encode::text(&frame));
    }
    if wire.start_close(close) {
        let _ = tokio::time::timeout(node.tuning().close, poll_fn(|cx| wire.poll_closed(cx))).await;
    }
    None
}

async fn authenticate(
    node: &Realtime,
    frame: &str,
    device: Option<&DeviceId>,
    address: Option<IpAddr>,
) -> Result<Arc<Identity>, ApiError> {
    let Ok(Inbound::Auth(token)) = inbound::parse(frame).1 else {
        return Err(ApiError::new(ErrorCode::Unauthenticated, "The first frame must be auth, with a token."));
    };
    let identity = node.rates().authenticate(node.authenticator(), Ok(&token), address)?;
    node.rates().charge_identity(Class::Reads, &identity).outcome?;
    admit(&identity, device)?;
    node.revocations().check(&identity).await?;
    Ok(identity)
}
