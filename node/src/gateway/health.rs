//! Whether the node lives, and whether it takes requests.
//!
//! Owns: `/livez`, `/readyz`, and what a client is told of a node that isn't ready.
//! Must not know: what makes a node ready, or drains it.

use super::GatewayState;
use crate::api::error::ApiError;
use crate::readiness::Phase;
use axum::extract::State;
use axum::http::{HeaderValue, header};
use axum::response::{IntoResponse, Response};
use messenger_proto::error::ErrorCode;

/// Whether requests are taken.
///
/// # Errors
/// What a client is told when not.
pub(super) fn check(phase: Phase) -> Result<(), ApiError> {
    let detail = match phase {
        Phase::Ready => return Ok(()),
        Phase::Starting => "The node is starting; try again, or another node.",
        Phase::Draining => "The node is draining; try another node.",
    };
    Err(ApiError::new(ErrorCode::Unavailable, detail))
}

/// The process answers.
pub(super) async fn livez() -> Response {
    status("alive")
}

/// The node takes requests.
pub(super) async fn readyz(State(state): State<GatewayState>) -> Result<Response, ApiError> {
    check(state.phase())?;
    Ok(status("ready"))
}

fn status(status: &'static str) -> Response {
    let headers = [
        (header::CONTENT_TYPE, HeaderValue::from_static("application/json")),
        (header::CACHE_CONTROL, HeaderValue::from_static("no-store")),
    ];
    (headers, format!(r#"{{"status":"{status}"}}"#)).into_response()
}
