//! Answers made smaller.
//!
//! Owns: which answers are compressed, how much, and how many at a time.
//! Must not know: what an answer says.
//! Invariants: an answer's status never depends on the encodings that a client takes; encoders are bounded in number, and
//! beyond that answers go out as they are. What is compressed is the caller's own data, and nothing of ours that is
//! secret stands beside what a page of another origin could choose.

use axum::body::{Body, HttpBody};
use axum::http::{HeaderMap, HeaderValue, Request, StatusCode, header};
use axum::response::Response;
use http_body_util::BodyExt;
use std::convert::Infallible;
use std::sync::Arc;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tower::ServiceExt;
use tower_http::CompressionLevel;
use tower_http::compression::Compression;
use tower_http::compression::predicate::SizeAbove;

/// Bytes from which an answer is compressed; below, the saving is not worth the work.
const SMALLEST: u64 = 1024;
/// Answers being compressed at once: an encoder holds up to some 5 MiB until the client has taken the last of its input.
const ENCODERS_MAX: usize = 32;
/// Of gzip, br and zstd alike, a level that costs little and gains most of what there is to gain.
const LEVEL: CompressionLevel = CompressionLevel::Precise(4);

/// The encodings that a request says it takes.
pub(super) struct Accepted(Vec<HeaderValue>);

impl Accepted {
    pub(super) fn of(headers: &HeaderMap) -> Self {
        Self(headers.get_all(header::ACCEPT_ENCODING).iter().cloned().collect())
    }
}

/// What is left of the encoders.
#[derive(Debug)]
pub(super) struct Compressor(Arc<Semaphore>);

impl Compressor {
    pub(super) fn new() -> Self {
        Self(Arc::new(Semaphore::new(ENCODERS_MAX)))
    }

    /// The answer in the encoding that the client likes best, if it is worth it and there is an encoder to spare.
    pub(super) async fn apply(&self, accepted: Accepted, mut response: Response) -> Response {
        if !is_worth_it(&response) {
            return response;
        }
        let encoder = if accepted.0.is_empty() { None } else { Arc::clone(&self.0).try_acquire_owned().ok() };
        if let Some(encoder) = encoder {
            return encoded(accepted, response, encoder).await;
        }
        vary(response.headers_mut());
        response
    }
}

fn is_worth_it(response: &Response) -> bool {
    let large = response.body().size_hint().exact().is_none_or(|size| size >= SMALLEST);
    large && response.status() != StatusCode::SWITCHING_PROTOCOLS
}

fn vary(headers: &mut HeaderMap) {
    headers.append(header::VARY, HeaderValue::from_static("Accept-Encoding"));
}

async fn encoded(accepted: Accepted, response: Response, permit: OwnedSemaphorePermit) -> Response {
    let status = response.status();
    let mut request = Request::new(());
    for value in accepted.0 {
        request.headers_mut().append(header::ACCEPT_ENCODING, value);
    }
    let mut given = Some(response);
    let inner = tower::service_fn(move |_: Request<()>| {
        std::future::ready(Ok::<_, Infallible>(given.take().unwrap_or_default()))
    });
    let service = Compression::new(inner).quality(LEVEL).compress_when(SizeAbove::new(SMALLEST));
    let Ok(response) = service.oneshot(request).await;
    let (mut parts, body) = response.into_parts();
    // To a client that takes no encoding there is, not even none, the library says 406, as if nothing had been done.
    parts.status = status;
    if !parts.headers.contains_key(header::CONTENT_ENCODING) {
        return Response::from_parts(parts, Body::new(body));
    }
    let body = body.map_frame(move |frame| {
        let _held = &permit;
        frame
    });
    Response::from_parts(parts, Body::new(body))
}
