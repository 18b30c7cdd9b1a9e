//! The listeners for clients and operators.
//!
//! Owns: what is served where, and how serving ends.
//! Must not know: what a route does.

use super::BootError;
use super::node::Node;
use super::reload::InForce;
use super::secured::Secured;
use super::sessions::{Caller, Others};
use crate::admin::status::StatusSource;
use crate::admin::{self, AdminState, Office};
use crate::audit::{Audit, AuditParts};
use crate::auth::{self, Authenticator, KeySet};
use crate::config::Config;
use crate::gateway::cors::Origins;
use crate::gateway::serve::{ServeLimits, serve};
use crate::gateway::{self, AdmissionLimits, DEADLINE, GatewayParts, GatewayState, Revocations};
use crate::metric_names;
use crate::rates::Rates;
use crate::realtime::{Realtime, RealtimeParts, SessionRegistry, Tuning};
use axum::http::{HeaderValue, header};
use axum::response::Response;
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio::time::interval;
use tokio_util::sync::CancellationToken;

/// Over how long a draining node sends its devices away.
const DRAIN_SPREAD: Duration = Duration::from_secs(2);
/// Between two foldings of the metrics' samples.
const UPKEEP_EVERY: Duration = Duration::from_secs(5);
/// How long the last records of writes may take.
const LAST_RECORDS: Duration = Duration::from_secs(2);
/// Connections of operators at once.
const ADMIN_CONNECTIONS: usize = 256;

/// What is being served.
pub struct Serving {
    realtime: Realtime,
    audit: Audit,
    in_force: InForce,
    stop: CancellationToken,
    tasks: Vec<JoinHandle<()>>,
}

/// What those who serve have in common.
struct Shared {
    clock: auth::Clock,
    authenticator: Arc<Authenticator>,
    revocations: Revocations,
    origins: Origins,
    rates: Rates,
    audit: Audit,
}

/// Begins to serve; requests are answered 503 until the node is ready.
///
/// # Errors
/// [`BootError`] when the metrics can't be set up, or the audit log can't be opened.
pub fn start(
    config: &Config,
    keys: KeySet,
    node: &Node,
    secured: Secured,
    client: TcpListener,
    admin: TcpListener,
) -> Result<Serving, BootError> {
    let audit = open_audit(config, node)?;
    let metrics = record_metrics()?;
    let shared = Shared::new(config, keys, node, audit);
    let realtime = shared.realtime(config, node);
    let gateway = shared.gateway(config, node, &realtime);
    let status = StatusSource::new(node.handler.clone(), node.transport.clone(), node.readiness.clone());
    let office = Arc::new(shared.office(node));
    let stop = CancellationToken::new();
    let folded = metrics.clone();
    tokio::spawn(stop.clone().run_until_cancelled_owned(keep_up(move || folded.run_upkeep())));
    let operators = admin::routes(AdminState { status: Arc::new(status), metrics, office });
    let clients = insistent(gateway::router_with(gateway, realtime.routes()), config);
    let client_limits = ServeLimits::new(config.limits.connections as usize);
    let admin_limits = ServeLimits { grace: Duration::from_secs(1), ..ServeLimits::new(ADMIN_CONNECTIONS) };
    let tasks = vec![
        tokio::spawn(serve(client, secured.client.clone(), clients, client_limits, stop.clone().cancelled_owned())),
        tokio::spawn(serve(admin, secured.admin.clone(), operators, admin_limits, stop.clone().cancelled_owned())),
    ];
    let Shared { audit, rates, authenticator, .. } = shared;
    Secured::tell(&config.tls);
    Ok(Serving { realtime, audit, in_force: InForce { rates, authenticator, secured }, stop, tasks })
}

/// Has browsers insist on TLS, where it is spoken (RFC 6797).
fn insistent(clients: axum::Router, config: &Config) -> axum::Router {
    let seconds = config.tls.client.as_ref().map_or(0, |client| client.hsts_seconds);
    let value = HeaderValue::try_from(format!("max-age={seconds}")).ok().filter(|_| seconds > 0);
    let Some(value) = value else { return clients };
    clients.layer(axum::middleware::map_response(move |mut response: Response| {
        response.headers_mut().insert(header::STRICT_TRANSPORT_SECURITY, value.clone());
        std::future::ready(response)
    }))
}

/// Installs the recorder, before anybody takes handles of it.
fn record_metrics() -> Result<PrometheusHandle, BootError> {
    let installed = PrometheusBuilder::new().install_recorder();
    let handle = installed.map_err(|error| BootError::Runtime(format!("metrics can't be recorded: {error}")))?;
    metric_names::describe();
    Ok(handle)
}

impl Shared {
    fn new(config: &Config, keys: KeySet, node: &Node, audit: Audit) -> Self {
        let clock = node.clock.clone();
        let clock: auth::Clock = Arc::new(move || clock.wall());
        let others = Others { transport: node.transport.clone(), record: node.host.record(), this: node.host.node() };
        Self {
            authenticator: Arc::new(Authenticator::new(keys, Arc::clone(&clock))),
            revocations: Revocations::new(node.router.clone()).with_peers(Arc::new(others)),
            origins: Origins::new(&config.auth.allowed_origins),
            rates: Rates::new(&config.rate_limits, &config.proxies, Arc::clone(&clock)),
            clock,
            audit,
        }
    }

    fn realtime(&self, config: &Config, node: &Node) -> Realtime {
        let (hybrid, host) = (node.clock.clone(), node.host.clone());
        let caller = Arc::new(Caller(node.transport.clone()));
        let realtime = Realtime::start(RealtimeParts {
            router: node.router.clone(),
            authenticator: Arc::clone(&self.authenticator),
            revocations: self.revocations.clone(),
            clock: Arc::new(move || hybrid.now()),
            node: node.host.node(),
            origins: self.origins.clone(),
            rates: self.rates.clone(),
            audit: self.audit.clone(),
            caller: Arc::clone(&caller) as _,
            leads: Arc::new(move |shard| host.shard(shard)?.leading_term()),
            sockets_max: config.limits.connections as usize,
            tuning: Tuning::default(),
        });
        node.sessions.connect(SessionRegistry::new(caller), realtime.clone());
        realtime
    }

    fn gateway(&self, config: &Config, node: &Node, realtime: &Realtime) -> GatewayState {
        let teller = realtime.clone();
        GatewayState::new(GatewayParts {
            tell: Arc::new(move |item| teller.tell(item)),
            router: node.router.clone(),
            authenticator: Arc::clone(&self.authenticator),
            revocations: self.revocations.clone(),
            cluster: node.host.record(),
            clock: Arc::clone(&self.clock),
            phase: node.readiness.subscribe(),
            deadline: DEADLINE,
            admission: AdmissionLimits::of(&config.limits),
            origins: self.origins.clone(),
            rates: self.rates.clone(),
            audit: self.audit.clone(),
        })
    }

    fn office(&self, node: &Node) -> Office {
        Office {
            transport: node.transport.clone(),
            record: node.host.record(),
            router: node.router.clone(),
            meta: node.meta.clone(),
            revocations: self.revocations.clone(),
            audit: self.audit.clone(),
            clock: Arc::clone(&self.clock),
        }
    }
}

fn open_audit(config: &Config, node: &Node) -> Result<Audit, BootError> {
    let parts = AuditParts {
        config: config.audit.clone(),
        data: config.node.data_dir.clone(),
        node: node.host.node().0,
        disk_reserve_bytes: config.limits.disk_reserve_bytes,
    };
    let failed = |error: std::io::Error| BootError::Storage(format!("the audit log can't be opened: {error}"));
    Audit::start(parts, node.clock.wall()).map_err(failed)
}

/// Folds what histograms have taken in since the last time: otherwise they keep every sample until someone scrapes.
async fn keep_up(fold: impl Fn()) {
    let mut tick = interval(UPKEEP_EVERY);
    loop {
        tick.tick().await;
        fold();
    }
}

impl Serving {
    /// What it goes by that may change.
    #[must_use]
    pub fn in_force(&self) -> &InForce {
        &self.in_force
    }

    /// Sends devices elsewhere, spread over time.
    pub async fn drain(&self) {
        self.realtime.drain(DRAIN_SPREAD).await;
    }

    /// Lets requests under way finish, and ends.
    pub async fn stop(self) {
        self.stop.cancel();
        for task in self.tasks {
            // One that panicked has been reported.
            let _ = task.await;
        }
        // What was answered is recorded before the process ends.
        let audit = self.audit;
        let _ = tokio::time::timeout(LAST_RECORDS, tokio::task::spawn_blocking(move || audit.close())).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::Cell;

    #[tokio::test(start_paused = true)]
    async fn samples_are_folded_as_long_as_the_node_serves() {
        let folded = Cell::new(0);
        let within = UPKEEP_EVERY * 10 + UPKEEP_EVERY / 2;
        let ended = tokio::time::timeout(within, keep_up(|| folded.set(folded.get() + 1))).await;
        assert!(ended.is_err() && folded.get() == 11, "{}", folded.get());
    }
}
