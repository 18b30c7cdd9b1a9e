//! ① The REST gateway: where a client's request enters the cluster.
//!
//! Owns: the routes of `/v1` and what each of them takes, asks the router, and answers; the JSON of the contract.
//! Must not know: where a shard lives, how it is replicated, or what sockets are open.
//! Invariants: a 2xx is given only for a shard's own answer; every limit is checked before the work it bounds; every
//! request ends by its deadline.

mod admission;
pub(crate) mod audited;
mod blocks;
mod changes;
mod compress;
pub mod cors;
mod cursor;
mod devices;
mod edge;
pub mod envelopes;
mod etag;
mod extract;
mod health;
mod held;
mod history;
pub mod idempotency;
pub mod input;
mod limited;
mod messages;
mod metrics;
mod openapi;
mod participants;
mod pins;
mod prekeys;
mod presence;
mod privacy;
mod reports;
pub(crate) mod respond;
mod revocations;
pub mod send;
pub mod serve;
mod thread_list;
mod threads;

#[cfg(test)]
mod tests;

/// Holding frames against what clients are told of them.
#[cfg(test)]
pub(crate) mod described_frames {
    pub(crate) use super::openapi::{check_from_client, check_from_node, client_kinds};
}

pub use admission::AdmissionLimits;
pub use edge::HEADERS_MAX;
pub use extract::bearer_of;
pub use held::TakeLimits;
pub use limited::peer_of;
pub use revocations::{Peers, Revocations};

use crate::api::error::ApiError;
use crate::audit::Audit;
use crate::auth::{Authenticator, Clock};
use crate::rates::{Class, Rates};
use crate::readiness::Phase;
use admission::Admission;
use axum::routing::{MethodRouter, delete, get, post, put};
use compress::Compressor;
use cors::Origins;
use limited::limited;
use messenger_proto::ephemeral::Ephemeral;
use messenger_proto::error::ErrorCode;
use messenger_proto::ids::Millis;
use messenger_proto::meta::ClusterState;
use messenger_proto::thread_id::ClusterSecret;
use messenger_router::Router;
use metrics::GatewayMetrics;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::Instant;

/// Tells every node something that is told once.
pub type Tell = Arc<dyn Fn(&Ephemeral) + Send + Sync>;

/// What the gateway is made of.
pub struct GatewayParts {
    /// The way to the shards.
    pub router: Router,
    /// Whose tokens are believed.
    pub authenticator: Arc<Authenticator>,
    /// The cluster's record; its secret makes thread ids and seals cursors.
    pub cluster: watch::Receiver<Arc<ClusterState>>,
    /// Which devices were deleted.
    pub revocations: Revocations,
    /// What time it is.
    pub clock: Clock,
    /// Whether requests are taken.
    pub phase: watch::Receiver<Phase>,
    /// Tells every node something that is told once; never waits.
    pub tell: Tell,
    /// How long a request may take, from its body's arrival.
    pub deadline: Duration,
    /// How much may be in flight.
    pub admission: AdmissionLimits,
    /// Whose pages may use the API.
    pub origins: Origins,
    /// How much clients may ask.
    pub rates: Rates,
    /// Where writes are recorded.
    pub audit: Audit,
}

/// How long a request may take unless the operator says otherwise.
pub const DEADLINE: Duration = Duration::from_secs(5);

struct Inner {
    parts: GatewayParts,
    admission: Admission,
    metrics: GatewayMetrics,
    compressor: Compressor,
}

/// The gateway's shared state; a cheap handle to clone.
#[derive(Clone)]
pub struct GatewayState(Arc<Inner>);

impl GatewayState {
    /// Puts the parts together; after the metrics recorder is installed.
    #[must_use]
    pub fn new(parts: GatewayParts) -> Self {
        let (admission, metrics) = (Admission::new(parts.admission), GatewayMetrics::new());
        Self(Arc::new(Inner { parts, admission, metrics, compressor: Compressor::new() }))
    }

    /// The way to the shards.
    #[must_use]
    pub fn router(&self) -> &Router {
        &self.0.parts.router
    }

    fn tell(&self, item: &Ephemeral) {
        (self.0.parts.tell)(item);
    }

    /// Whose tokens are believed.
    #[must_use]
    pub fn authenticator(&self) -> &Arc<Authenticator> {
        &self.0.parts.authenticator
    }

    /// Which devices were deleted.
    #[must_use]
    pub fn revocations(&self) -> &Revocations {
        &self.0.parts.revocations
    }

    /// What time it is.
    #[must_use]
    pub fn now(&self) -> Millis {
        (self.0.parts.clock)()
    }

    /// When a request that begins now must have ended.
    #[must_use]
    pub fn deadline(&self) -> Instant {
        Instant::now() + self.0.parts.deadline
    }

    fn body_time(&self) -> Duration {
        self.0.parts.admission.body_time
    }

    /// Whether requests are taken.
    #[must_use]
    pub fn phase(&self) -> Phase {
        *self.0.parts.phase.borrow()
    }

    /// The cluster's secret.
    ///
    /// # Errors
    /// [`ErrorCode::Unavailable`] before the cluster's record has reached this node.
    pub fn secret(&self) -> Result<ClusterSecret, ApiError> {
        let cluster = self.0.parts.cluster.borrow();
        let secret = <[u8; 32]>::try_from(&cluster.secret[..]);
        secret.map(ClusterSecret).map_err(|_| {
            ApiError::new(
                ErrorCode::Unavailable,
                "The node has not joined its cluster yet; try again, or another node.",
            )
        })
    }

    fn admission(&self) -> &Admission {
        &self.0.admission
    }

    fn rates(&self) -> &Rates {
        &self.0.parts.rates
    }

    fn origins(&self) -> &Origins {
        &self.0.parts.origins
    }

    fn compressor(&self) -> &Compressor {
        &self.0.compressor
    }

    fn metrics(&self) -> &GatewayMetrics {
        &self.0.metrics
    }
}

/// A route of the gateway's own.
struct Route {
    path: &'static str,
    /// Its methods, as `Allow` names them.
    allow: &'static str,
    /// What its requests are limited as; `None` for what takes no token.
    class: Option<Class>,
    methods: MethodRouter<GatewayState>,
}

/// Every route of the gateway's own.
fn routes() -> Vec<Route> {
    let limited = |path, allow, class, methods| Route { path, allow, class: Some(class), methods };
    let open = |path, methods| Route { path, allow: READ, class: None, methods };
    let threads = get(thread_list::list).post(threads::create);
    let thread = get(threads::one).patch(threads::update);
    let messages = get(history::history).post(messages::send);
    let message = get(messages::one).patch(changes::edit).delete(changes::delete);
    let pins = get(pins::list).post(pins::pin);
    let keys = get(prekeys::in_store).put(prekeys::publish);
    let block = put(blocks::add).delete(blocks::remove);
    vec![
        limited("/v1/threads", "GET, HEAD, POST, OPTIONS", Class::Threads, threads),
        limited("/v1/threads/{thread_id}", "GET, HEAD, PATCH, OPTIONS", Class::Writes, thread),
        limited("/v1/threads/{thread_id}/participants", "POST, OPTIONS", Class::Threads, post(participants::add)),
        limited(
            "/v1/threads/{thread_id}/participants/{user_id}",
            "DELETE, OPTIONS",
            Class::Writes,
            delete(participants::remove),
        ),
        limited("/v1/threads/{thread_id}/messages", "GET, HEAD, POST, OPTIONS", Class::Sends, messages),
        limited("/v1/threads/{thread_id}/pins", "GET, HEAD, POST, OPTIONS", Class::Writes, pins),
        limited("/v1/threads/{thread_id}/pins/{message_id}", "DELETE, OPTIONS", Class::Writes, delete(pins::unpin)),
        limited("/v1/threads/{thread_id}/read", "POST, OPTIONS", Class::Writes, post(messages::read)),
        limited("/v1/messages/{message_id}", "GET, HEAD, PATCH, DELETE, OPTIONS", Class::Writes, message),
        limited("/v1/messages/{message_id}/recipients", READ, Class::Reads, get(messages::recipients)),
        limited("/v1/messages/{message_id}/reactions", "POST, OPTIONS", Class::Writes, post(changes::react)),
        limited(
            "/v1/messages/{message_id}/reactions/{emoji}",
            "DELETE, OPTIONS",
            Class::Writes,
            delete(changes::unreact),
        ),
        limited("/v1/users/{user_id}/presence", READ, Class::Reads, get(presence::one)),
        limited("/v1/users/me/privacy", "GET, HEAD, PUT, OPTIONS", Class::Writes, get(privacy::one).put(privacy::set)),
        limited("/v1/users/me/blocks", READ, Class::Reads, get(blocks::list)),
        limited("/v1/users/me/blocks/{user_id}", "PUT, DELETE, OPTIONS", Class::Writes, block),
        limited("/v1/users/{user_id}/devices", READ, Class::Reads, get(devices::list)),
        limited("/v1/users/{user_id}/prekeys", READ, Class::KeyFetches, get(prekeys::take)),
        limited("/v1/users/me/devices/{device_id}", "DELETE, OPTIONS", Class::Writes, delete(devices::delete)),
        limited("/v1/users/me/devices/{device_id}/prekeys", "GET, HEAD, PUT, OPTIONS", Class::Writes, keys),
        limited("/v1/reports", "POST, OPTIONS", Class::Reports, post(reports::file)),
        open("/v1/openapi.json", get(openapi::openapi)),
        open("/v1/asyncapi.json", get(openapi::asyncapi)),
        open("/docs", get(openapi::docs)),
        open("/livez", get(health::livez)),
        open("/readyz", get(health::readyz)),
    ]
}

/// The REST routes, and the ones given, behind the edge.
pub fn router_with(state: GatewayState, more: axum::Router<GatewayState>) -> axum::Router {
    let add = |router: axum::Router<GatewayState>, Route { path, allow, class, methods }| {
        let methods = match class {
            Some(class) => limited(&state, class, path, methods),
            None => methods,
        };
        router.route(path, route(allow, methods))
    };
    routes()
        .into_iter()
        .fold(more, add)
        .fallback(|| async { ApiError::no_such_path() })
        .layer(axum::middleware::from_fn_with_state(state.clone(), edge::edge))
        .with_state(state)
}

/// The REST routes behind the edge.
pub fn router(state: GatewayState) -> axum::Router {
    router_with(state, axum::Router::new())
}

const READ: &str = "GET, HEAD, OPTIONS";

/// A path's methods, OPTIONS among them, and 405 for the others.
fn route(allow: &'static str, methods: MethodRouter<GatewayState>) -> MethodRouter<GatewayState> {
    let options = move || async move { respond::options(allow) };
    let refuse = move || async move { ApiError::method_not_allowed(allow) };
    methods.options(options).fallback(refuse)
}
