//! What every request passes on its way in, and every answer on its way out.
//!
//! Owns: the trace id, that a request which changes something is recorded, the bound on headers, admission, readiness,
//! problem documents, the answer to a handler that panics, and the order in which an answer is finished: its document,
//! what a page of another origin may see, its encoding, and last its body's removal for HEAD.
//! Must not know: routes, but for the two that health checks use.
//! Invariants: every answer carries `X-Request-Id`; every error is a problem document.

use super::GatewayState;
use super::audited::Audited;
use super::compress::Accepted;
use super::cors::Visit;
use super::health;
use crate::api::error::ApiError;
use crate::api::trace::TraceId;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{HeaderName, HeaderValue, Method, Uri, header};
use axum::middleware::Next;
use axum::response::Response;
use futures_util::FutureExt;
use http_body_util::BodyExt;
use messenger_proto::error::ErrorCode;
use messenger_proto::limits::BODY_MAX;
use std::panic::AssertUnwindSafe;
use std::time::{Duration, Instant};

/// Bytes of a request's headers at most.
pub const HEADERS_MAX: usize = 16 * 1024;
/// Bytes of a body that is refused for its size that are read and thrown away, so that a client which only listens after
/// it has sent all hears the refusal.
const DISCARD_MAX: u64 = 8 * 1024 * 1024;

static REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// Wraps the whole router.
pub(super) async fn edge(State(state): State<GatewayState>, mut request: Request, next: Next) -> Response {
    let started = Instant::now();
    let trace = TraceId::of(request.headers());
    let (uri, method) = (request.uri().clone(), request.method().clone());
    request.extensions_mut().insert(trace);
    let audited = Audited::begin(&state, &mut request, trace);
    let (visit, accepted) = (Visit::of(&state, &request), Accepted::of(request.headers()));
    let mut response = match enter(&state, request, next, visit.is_preflight()).await {
        Ok(response) => response,
        Err(error) => axum::response::IntoResponse::into_response(error),
    };
    let error = response.extensions_mut().remove::<ApiError>();
    if let Some(audited) = audited {
        audited.answered(&mut response, error.as_ref().map(ApiError::code));
    }
    if let Some(error) = error {
        response = with_problem(&state, response, &error, trace, &uri);
    }
    let headers = response.headers_mut();
    if let Ok(value) = HeaderValue::from_bytes(&trace.hex()) {
        headers.insert(&REQUEST_ID, value);
    }
    if !headers.contains_key(header::CACHE_CONTROL) {
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("private, no-cache"));
    }
    visit.answer(headers);
    response = state.compressor().apply(accepted, response).await;
    if method == Method::HEAD {
        response = without_body(response);
    }
    state.metrics().answered(response.status(), started.elapsed());
    response
}

async fn enter(
    state: &GatewayState,
    mut request: Request,
    next: Next,
    is_preflight: bool,
) -> Result<Response, ApiError> {
    if head_bytes(&request) > HEADERS_MAX {
        let what = "The path and the headers take more than 16 KiB.";
        return Err(ApiError::new(ErrorCode::HeadersTooLarge, what).closing());
    }
    let is_probe = matches!(request.uri().path(), "/livez" | "/readyz");
    // A browser that is refused a preflight could not even show its page why.
    let room = if is_probe || is_preflight {
        None
    } else {
        health::check(state.phase())?;
        let announced = body_length(state, &mut request).await?;
        Some(state.admission().admit(announced)?)
    };
    let handled = AssertUnwindSafe(next.run(request)).catch_unwind().await;
    drop(room);
    handled.map_err(|_| ApiError::internal("a handler panicked"))
}

/// About what the head took on the wire: the path, and each name and value with their separators.
fn head_bytes(request: &Request) -> usize {
    let path = request.uri().path_and_query().map_or(0, |path| path.as_str().len());
    let headers = request.headers().iter().map(|(name, value)| name.as_str().len() + value.len() + 4);
    path + headers.sum::<usize>()
}

/// The answer to HEAD: that to GET, which says how long its body would have been if that is known. The body of a length
/// that is not, as of an answer being compressed, is dropped by the framework: it would call an empty one's length 0.
fn without_body(response: Response) -> Response {
    let Some(length) = axum::body::HttpBody::size_hint(response.body()).exact() else { return response };
    let (mut parts, _) = response.into_parts();
    if length > 0 {
        parts.headers.insert(header::CONTENT_LENGTH, HeaderValue::from(length));
    }
    Response::from_parts(parts, Body::empty())
}

/// Bytes of the body that is to come, at most. One that says it is too large is refused here.
async fn body_length(state: &GatewayState, request: &mut Request) -> Result<u32, ApiError> {
    let Some(value) = request.headers().get(header::CONTENT_LENGTH) else {
        let chunked = request.headers().contains_key(header::TRANSFER_ENCODING) || !body_is_empty(request);
        return Ok(if chunked { BODY_MAX as u32 } else { 0 });
    };
    let length = value.to_str().ok().and_then(|text| text.parse::<u64>().ok());
    match length {
        Some(length) if length <= BODY_MAX as u64 => Ok(length as u32),
        _ => {
            let waits = request.headers().contains_key(header::EXPECT);
            if !waits && length.is_some_and(|length| length <= DISCARD_MAX) {
                discard(request.body_mut(), state.body_time()).await;
            }
            Err(body_too_large())
        }
    }
}

fn body_is_empty(request: &Request) -> bool {
    axum::body::HttpBody::is_end_stream(request.body())
}

/// The answer to a body over the limit.
pub(super) fn body_too_large() -> ApiError {
    ApiError::new(ErrorCode::BodyTooLarge, "A body may take at most 1 MiB.").closing()
}

/// Reads up to [`DISCARD_MAX`] bytes and forgets them, within the time a body may take.
pub(super) async fn discard(body: &mut Body, time: Duration) {
    let reading = async {
        let mut left = DISCARD_MAX;
        while let Some(Ok(frame)) = body.frame().await {
            let taken = frame.data_ref().map_or(0, |data| data.len() as u64);
            match left.checked_sub(taken) {
                Some(rest) => left = rest,
                None => return,
            }
        }
    };
    // Out of time is as good as done: the connection closes either way.
    let _ = tokio::time::timeout(time, reading).await;
}

fn with_problem(state: &GatewayState, response: Response, error: &ApiError, trace: TraceId, uri: &Uri) -> Response {
    let (mut parts, _) = response.into_parts();
    let problem = error.problem(trace, Some(uri.path()), state.now());
    let body = serde_json::to_vec(&problem).unwrap_or_default();
    if error.code() == ErrorCode::Internal {
        tracing::error!(trace_id = %trace, path = uri.path(), "answered 500");
    }
    error.set_headers(&mut parts.headers);
    parts.headers.remove(header::CONTENT_LENGTH);
    Response::from_parts(parts, body.into())
}
