//! The operator's listener.
//!
//! Owns: cluster status, metrics and probes for operators; never reachable through the client listener.
//! Must not know: client routes or tokens.

pub mod status;

use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::get;
use metrics_exporter_prometheus::PrometheusHandle;
use status::StatusSource;
use std::sync::Arc;

/// What the operator's routes need.
#[derive(Clone)]
pub struct AdminState {
    /// Where cluster status comes from.
    pub status: Arc<StatusSource>,
    /// Renders this node's metrics.
    pub metrics: PrometheusHandle,
}

/// The operator's routes.
pub fn routes(state: AdminState) -> axum::Router {
    axum::Router::new()
        .route("/v1/cluster/status", get(cluster_status))
        .route("/metrics", get(metrics))
        .route("/livez", get(|| async { StatusCode::OK }))
        .route("/readyz", get(ready))
        .with_state(state)
}

async fn cluster_status(State(state): State<AdminState>) -> impl IntoResponse {
    axum::Json(state.status.collect().await)
}

async fn metrics(State(state): State<AdminState>) -> impl IntoResponse {
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], state.metrics.render())
}

async fn ready(State(state): State<AdminState>) -> impl IntoResponse {
    match state.status.why_not_ready() {
        None => (StatusCode::OK, "ready\n".to_owned()),
        Some(why) => (StatusCode::SERVICE_UNAVAILABLE, format!("{why}\n")),
    }
}
