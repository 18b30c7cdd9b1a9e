//! Whether the node lives, and whether it takes requests.
//!
//! Owns: `/livez`, `/readyz` and the node's readiness.
//! Must not know: what makes a node ready, or drains it.

use super::GatewayState;
use super::error::ApiError;
use axum::extract::State;
use axum::http::{HeaderValue, header};
use axum::response::{IntoResponse, Response};
use messenger_proto::error::ErrorCode;

/// Whether a node takes requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Readiness {
    /// Not yet.
    Starting,
    /// It does.
    Ready,
    /// No more: its leaders move away and it will end.
    Draining,
}

impl Readiness {
    /// Whether requests are taken.
    ///
    /// # Errors
    /// What a client is told when not.
    pub(super) fn check(self) -> Result<(), ApiError> {
        let detail = match self {
            Self::Ready => return Ok(()),
            Self::Starting => "The node is starting; try again, or another node.",
            Self::Draining => "The node is draining; try another node.",
        };
        Err(ApiError::new(ErrorCode::Unavailable, detail))
    }
}

/// The process answers.
pub(super) async fn livez() -> Response {
    status("alive")
}

/// The node takes requests.
pub(super) async fn readyz(State(state): State<GatewayState>) -> Result<Response, ApiError> {
    state.readiness().check()?;
    Ok(status("ready"))
}

fn status(status: &'static str) -> Response {
    let headers = [
        (header::CONTENT_TYPE, HeaderValue::from_static("application/json")),
        (header::CACHE_CONTROL, HeaderValue::from_static("no-store")),
    ];
    (headers, format!(r#"{{"status":"{status}"}}"#)).into_response()
}
