//! Who asks, and whether they have asked too much.
//!
//! Owns: what a limited route does before its handler: charging the address, believing the token, charging the user and the
//! device; and what the answer says of it.
//! Must not know: limits; see [`crate::rates`].
//! Invariants: nobody unlimited reaches a handler, and every answer of a limited route says where its caller stands.

use super::GatewayState;
use super::audited::Gathered;
use super::extract::bearer_of;
use crate::api::error::ApiError;
use crate::api::peer::PeerAddress;
use crate::auth::Identity;
use crate::rates::{Charged, Class, Standing};
use axum::extract::{Request, State};
use axum::http::Method;
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::MethodRouter;
use std::net::IpAddr;
use std::sync::Arc;

/// The handlers, of which those that change something count as `class`, and the others as reads.
pub(super) fn limited(
    state: &GatewayState,
    class: Class,
    path: &'static str,
    methods: MethodRouter<GatewayState>,
) -> MethodRouter<GatewayState> {
    methods.route_layer(from_fn_with_state((state.clone(), class, path), limit))
}

async fn limit(
    State((state, class, path)): State<(GatewayState, Class, &'static str)>,
    mut request: Request,
    next: Next,
) -> Response {
    let gathered = request.extensions().get::<Gathered>().cloned();
    if let Some(gathered) = &gathered {
        gathered.routed(path, request.uri().path());
    }
    let class = match (class, request.method()) {
        // To take a key is to use it up.
        (Class::KeyFetches, _) => class,
        (_, &Method::GET | &Method::HEAD) => Class::Reads,
        _ => class,
    };
    let (standing, mut identity) = admit(&state, class, &request, gathered.as_ref());
    if let Ok(admitted) = &identity
        && let Err(revoked) = state.revocations().check(admitted).await
    {
        identity = Err(revoked.into());
    }
    let mut response = match identity {
        Ok(identity) => {
            request.extensions_mut().insert(identity);
            next.run(request).await
        }
        Err(error) => error.into_response(),
    };
    // A handler that charged something more says so in an extension.
    let more = response.extensions_mut().remove::<Standing>();
    if let Some(standing) = Standing::tighter(standing, more) {
        standing.set_headers(response.headers_mut());
    }
    response
}

fn admit(
    state: &GatewayState,
    class: Class,
    request: &Request,
    gathered: Option<&Gathered>,
) -> (Option<Standing>, Result<Arc<Identity>, ApiError>) {
    let (rates, headers) = (state.rates(), request.headers());
    let address = gathered.map_or_else(|| rates.client_address(peer_of(request), headers), Gathered::address);
    let Charged { standing, outcome } = rates.charge_address(class, address);
    if let Err(error) = outcome {
        return (standing, Err(error));
    }
    let identity = match rates.authenticate(state.authenticator(), bearer_of(headers), address) {
        Ok(identity) => identity,
        Err(error) => return (standing, Err(error)),
    };
    if let Some(gathered) = gathered {
        gathered.identified(&identity);
    }
    let charged = rates.charge_identity(class, &identity);
    (Standing::tighter(standing, charged.standing), charged.outcome.map(|()| identity))
}

/// The other end of a request's connection.
#[must_use]
pub fn peer_of(request: &Request) -> Option<IpAddr> {
    request.extensions().get::<PeerAddress>().map(|peer| peer.0)
}
