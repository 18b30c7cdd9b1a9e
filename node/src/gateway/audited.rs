//! Requests that change something, for the audit log.
//!
//! Owns: which requests are recorded, and what is gathered of one on its way through.
//! Must not know: how a record is kept; what a request says beyond a hash of its bytes and the ids in its path.
//! Invariants: every request that may change something is recorded once, whether it is carried out, refused anywhere on the
//! way, or abandoned by its client; one that only asks is not. Of a path only its ids are kept: an emoji is what someone
//! says. Nothing here waits.

use super::GatewayState;
use crate::api::peer::PeerAddress;
use crate::api::trace::TraceId;
use crate::audit::{Audit, Ending, Kind, Payload, Record, Target};
use crate::auth::Identity;
use axum::extract::Request;
use axum::http::{HeaderMap, Method};
use axum::response::Response;
use messenger_proto::error::ErrorCode;
use messenger_proto::ids::{MessageId, NodeId, ReportId, ShardId};
use std::net::IpAddr;
use std::sync::{Arc, OnceLock};

/// What is gathered of a request; an extension of it.
#[derive(Debug, Clone)]
pub(super) struct Gathered(Arc<Parts>);

#[derive(Debug, Default)]
struct Parts {
    address: Option<IpAddr>,
    identity: OnceLock<Arc<Identity>>,
    route: OnceLock<(&'static str, Target)>,
    payload: OnceLock<Payload>,
}

/// What an answer says of what was done; an extension of it.
#[derive(Debug, Clone, Default)]
pub(super) struct Told {
    pub(super) message: Option<MessageId>,
    pub(super) report: Option<ReportId>,
    /// Members that a message went to.
    pub(super) recipients: Option<u32>,
}

impl Gathered {
    /// Where the request comes from.
    pub(super) fn address(&self) -> Option<IpAddr> {
        self.0.address
    }

    /// Its token was believed.
    pub(super) fn identified(&self, identity: &Arc<Identity>) {
        let _ = self.0.identity.set(Arc::clone(identity));
    }

    /// It found its route; `path` is what it asked for.
    pub(super) fn routed(&self, route: &'static str, path: &str) {
        let _ = self.0.route.set((route, target_of(route, path)));
    }

    /// Its body was read.
    pub(super) fn read(&self, body: &[u8]) {
        let _ = self.0.payload.set(Payload::of(body));
    }
}

/// The ids that stand in a path where its route names them; those that are none are left out.
pub(crate) fn target_of(route: &str, path: &str) -> Target {
    let mut target = Target::default();
    for (name, part) in route.split('/').zip(path.split('/')) {
        match name {
            "{thread_id}" => target.thread = part.parse().ok(),
            "{message_id}" => target.message = part.parse().ok(),
            "{user_id}" => target.user = part.parse().ok(),
            "{device_id}" => target.device = part.parse().ok(),
            "{node_id}" => target.node = part.parse().ok().map(NodeId),
            "{shard_id}" => target.shard = part.parse().ok().map(ShardId),
            _ => {}
        }
    }
    target
}

/// A request that is recorded, while it is under way.
pub(super) struct Audited {
    state: GatewayState,
    parts: Arc<Parts>,
    method: &'static str,
    trace: TraceId,
    ended: bool,
}

impl Audited {
    /// Begins, if the request may change something.
    pub(super) fn begin(state: &GatewayState, request: &mut Request, trace: TraceId) -> Option<Self> {
        let method = recorded(request)?;
        let peer = request.extensions().get::<PeerAddress>().map(|peer| peer.0);
        let address = state.rates().client_address(peer, request.headers());
        let parts = Arc::new(Parts { address, ..Parts::default() });
        request.extensions_mut().insert(Gathered(Arc::clone(&parts)));
        Some(Self { state: state.clone(), parts, method, trace, ended: false })
    }

    /// It was answered; `code` is that of a refusal.
    pub(super) fn answered(mut self, response: &mut Response, code: Option<ErrorCode>) {
        self.ended = true;
        let told = response.extensions_mut().remove::<Told>().unwrap_or_default();
        let ending = Ending {
            status: Some(response.status().as_u16()),
            code,
            replayed: response.headers().contains_key("idempotent-replayed"),
            recipients: told.recipients,
        };
        self.note(ending, &told, response.headers());
    }

    fn note(&self, ending: Ending, told: &Told, answered: &HeaderMap) {
        let (route, target) = self.parts.route.get().cloned().unwrap_or_default();
        let made = answered.get("location").and_then(|value| value.to_str().ok()).unwrap_or_default();
        let made = target_of("/v1/threads/{thread_id}", made);
        self.state.audit().note(Record {
            at: self.state.now(),
            kind: Kind::Request,
            who: self.parts.identity.get().cloned(),
            operator: None,
            address: self.parts.address,
            method: self.method,
            route,
            trace: self.trace,
            payload: self.parts.payload.get().copied(),
            target: Target {
                thread: target.thread.or(if route == "/v1/threads" { made.thread } else { None }),
                message: target.message.or(told.message),
                report: told.report,
                ..target
            },
            ending,
        });
    }
}

impl Drop for Audited {
    fn drop(&mut self) {
        if !self.ended {
            self.note(Ending::default(), &Told::default(), &HeaderMap::new());
        }
    }
}

/// The method of a request that may change something: any that is not known to only ask, and the fetch of keys, which
/// uses them up.
fn recorded(request: &Request) -> Option<&'static str> {
    Some(match *request.method() {
        Method::HEAD | Method::OPTIONS => return None,
        Method::GET => return takes_keys(request.uri().path()).then_some("GET"),
        Method::POST => "POST",
        Method::PUT => "PUT",
        Method::PATCH => "PATCH",
        Method::DELETE => "DELETE",
        _ => "OTHER",
    })
}

fn takes_keys(path: &str) -> bool {
    let user = path.strip_prefix("/v1/users/").and_then(|rest| rest.strip_suffix("/prekeys"));
    user.is_some_and(|user| !user.contains('/'))
}

impl GatewayState {
    /// Where writes are recorded.
    #[must_use]
    pub fn audit(&self) -> &Audit {
        &self.0.parts.audit
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use messenger_proto::ids::UserId;

    #[test]
    fn ids_are_taken_out_of_a_path_and_nothing_else() {
        let thread = "09090909-0909-0909-0909-090909090909";
        let target = target_of(
            "/v1/threads/{thread_id}/participants/{user_id}",
            &format!("/v1/threads/{thread}/participants/bob"),
        );
        assert_eq!(target.thread.map(|id| id.to_string()).as_deref(), Some(thread));
        assert_eq!(target.user.as_ref().map(UserId::as_str), Some("bob"));
        let message = "01ARZ3NDEKTSV4RRFFQ69G5FAV";
        let emoji =
            target_of("/v1/messages/{message_id}/reactions/{emoji}", &format!("/v1/messages/{message}/reactions/x"));
        assert_eq!(emoji, Target { message: Some(message.parse().unwrap()), ..Target::default() });
        assert_eq!(target_of("/v1/threads/{thread_id}", "/v1/threads/not-one"), Target::default());
    }

    #[test]
    fn what_only_asks_is_not_recorded() {
        let method = |method: Method, path: &str| {
            recorded(&Request::builder().method(method).uri(path).body(axum::body::Body::empty()).unwrap())
        };
        for (asked, path) in [
            (Method::GET, "/v1/threads"),
            (Method::HEAD, "/v1/users/bob/prekeys"),
            (Method::OPTIONS, "/v1/threads"),
            (Method::GET, "/v1/users/me/devices/phone/prekeys"),
        ] {
            assert_eq!(method(asked, path), None, "{path}");
        }
        assert_eq!(method(Method::GET, "/v1/users/bob/prekeys"), Some("GET"));
        assert_eq!(method(Method::POST, "/nowhere"), Some("POST"));
        assert_eq!(method(Method::TRACE, "/nowhere"), Some("OTHER"));
    }
}
