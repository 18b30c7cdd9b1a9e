//! The tiny cluster's REST routes.
//!
//! Owns: which request gets which answer.
//! Must not know: sockets, once one is opened.

use super::{Fault, NOW, Node, THREAD, Who, commit_once, keys, shown_to, socket};
use crate::token::bearer_of;
use bytes::Bytes;
use futures_util::stream;
use http::{Method, Request, Response, StatusCode};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use std::collections::{BTreeMap, HashMap};
use std::convert::Infallible;
use std::sync::Arc;
use tokio::net::TcpListener;
use tokio::task::JoinSet;

pub(super) type Answer = Response<BoxBody<Bytes, std::io::Error>>;

pub(super) async fn serve(listener: TcpListener, node: Node) {
    // They end with this task.
    let mut connections = JoinSet::new();
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        node.memory.lock().unwrap().connections += 1;
        let node = Arc::clone(&node);
        let service = service_fn(move |request| {
            let node = Arc::clone(&node);
            async move { Ok::<_, Infallible>(answer(node, request).await) }
        });
        connections.spawn(http1::Builder::new().serve_connection(TokioIo::new(stream), service).with_upgrades());
    }
}

pub(super) fn body(bytes: impl Into<Bytes>) -> BoxBody<Bytes, std::io::Error> {
    Full::new(bytes.into()).map_err(|never| match never {}).boxed()
}

pub(super) fn json(status: StatusCode, value: &Value) -> Answer {
    let mut answer = Response::new(body(value.to_string()));
    *answer.status_mut() = status;
    answer
}

pub(super) fn problem(status: u16, code: &str) -> Answer {
    let document =
        json!({"type": "about:blank", "title": "No", "status": status, "code": code, "detail": "on purpose"});
    json(StatusCode::from_u16(status).unwrap(), &document)
}

fn lost() -> Answer {
    let broken = stream::once(async { Err(std::io::Error::other("on purpose")) });
    let mut answer = Response::new(BodyExt::boxed(StreamBody::new(broken)));
    *answer.status_mut() = StatusCode::ACCEPTED;
    answer.headers_mut().insert("content-length", 100.into());
    answer
}

fn bearer(request: &Request<Incoming>) -> Option<Who> {
    bearer_of(request.headers().get("authorization")?.to_str().ok()?.strip_prefix("Bearer ")?)
}

pub(super) type Params = HashMap<String, String>;

async fn answer(node: Node, mut request: Request<Incoming>) -> Answer {
    let path = request.uri().path().to_owned();
    let params: Params = request
        .uri()
        .query()
        .unwrap_or_default()
        .split('&')
        .filter_map(|pair| pair.split_once('='))
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect();
    let who = bearer(&request);
    let key = request.headers().get("idempotency-key").and_then(|key| key.to_str().ok()).map(str::to_owned);
    if path == "/v1/realtime" {
        let Some(who) = who else { return problem(401, "unauthenticated") };
        return socket::open(node, who, &params, &mut request);
    }
    let method = request.method().clone();
    let bytes = request.into_body().collect().await.map(http_body_util::Collected::to_bytes).unwrap_or_default();
    let sent: Value = serde_json::from_slice(&bytes).unwrap_or(Value::Null);
    let segments: Vec<&str> = path.trim_start_matches('/').split('/').collect();
    if path == "/readyz" {
        return Response::new(body("ready"));
    }
    let Some(who) = who else { return problem(401, "unauthenticated") };
    match (&method, segments.as_slice()) {
        (&Method::POST, ["v1", "threads"]) => match node.rest_fault() {
            Some(Fault::Refuse(status, code)) => problem(status, code),
            _ => json(StatusCode::CREATED, &thread(&node, THREAD)),
        },
        (&Method::GET, ["v1", "threads"]) => {
            let mut summary = thread(&node, THREAD);
            summary["unread_count"] = json!(3);
            json(StatusCode::OK, &json!({"threads": [summary], "next_cursor": null}))
        }
        (&Method::GET, ["v1", "threads", id]) => json(StatusCode::OK, &thread(&node, id)),
        (&Method::POST, ["v1", "threads", id, "messages"]) => send(&node, &who, id, key.as_deref(), &sent),
        (&Method::GET, ["v1", "threads", _, "messages"]) => history(&node, &who, &params),
        (&Method::GET, ["v1", "messages", _, "recipients"]) => recipients(),
        (_, ["v1", "messages", id, rest @ ..]) => change(&node, &who, &method, id, rest, &sent),
        (_, ["v1", "users", rest @ ..]) => keys::answer(&node, &who, &method, rest, &params, &sent),
        _ => problem(404, "not_found"),
    }
}

fn thread(node: &Node, id: &str) -> Value {
    let member = |user: &String| json!({"user_id": user, "role": "member", "joined_at": NOW});
    let members: Vec<_> = node.memory.lock().unwrap().members.iter().map(member).collect();
    json!({"id": id, "type": "1_TO_1", "title": null, "description": null, "created_at": NOW,
        "participants": members, "last_msg_id": null, "last_seq": 0, "settings": {}})
}

fn send(node: &Node, who: &Who, thread: &str, key: Option<&str>, sent: &Value) -> Answer {
    let Some(key) = key else { return problem(400, "idempotency_key_required") };
    let fault = node.rest_fault();
    if let Some(Fault::Refuse(status, code)) = fault {
        node.memory.lock().unwrap().keys.push(key.to_owned());
        return problem(status, code);
    }
    match commit_once(node, key, who, thread, sent) {
        Err(document) => json(StatusCode::CONFLICT, &document),
        Ok(_) if fault.is_some() => lost(),
        Ok((message, replayed)) => {
            let mut answer = json(StatusCode::ACCEPTED, &message);
            let replayed = if replayed { "true" } else { "false" };
            answer.headers_mut().insert("idempotent-replayed", replayed.parse().unwrap());
            answer
        }
    }
}

fn history(node: &Node, who: &Who, params: &Params) -> Answer {
    let size = params.get("page_size").map_or(50, |size| size.parse().unwrap());
    let changed_since = params.get("changed_since").map(String::as_str);
    if let Some(after) = changed_since.or_else(|| params.get("cursor")?.strip_prefix('c')) {
        return changed(node, who, after.parse().unwrap(), size);
    }
    let skip = params.get("cursor").map_or(0, |cursor| cursor.parse().unwrap());
    let all = node.memory.lock().unwrap().messages.clone();
    let rows: Vec<_> = all.iter().rev().skip(skip).take(size).map(|row| shown_to(who, row.clone())).collect();
    let end = skip + rows.len();
    let next = (end < all.len()).then(|| end.to_string());
    json(StatusCode::OK, &json!({"messages": rows, "next_cursor": next}))
}

/// Messages by their latest change after an event: a change's number is its place among the events, from 1.
fn changed(node: &Node, who: &Who, after: usize, size: usize) -> Answer {
    let memory = node.memory.lock().unwrap();
    let mut latest: BTreeMap<&str, usize> = BTreeMap::new();
    for (place, event) in memory.events.iter().enumerate() {
        latest.insert(event["id"].as_str().unwrap_or_default(), place + 1);
    }
    let mut places: Vec<(usize, &str)> =
        latest.into_iter().map(|(id, at)| (at, id)).filter(|(at, _)| *at > after).collect();
    places.sort_unstable();
    let next = (places.len() > size).then(|| format!("c{}", places[size - 1].0));
    let rows = places.iter().take(size).filter_map(|(_, id)| {
        let mut row = memory.messages.iter().find(|message| message["id"] == *id)?.clone();
        for event in memory.events.iter().filter(|event| event["id"] == *id) {
            match event["t"].as_str() {
                Some("edit") => {
                    for member in ["edited_at", "ciphertext", "envelopes"] {
                        row[member] = event[member].clone();
                    }
                }
                Some("del") => (row["deleted"], row["ciphertext"]) = (json!(true), Value::Null),
                _ => {}
            }
        }
        Some(shown_to(who, row))
    });
    json(StatusCode::OK, &json!({"messages": rows.collect::<Vec<_>>(), "next_cursor": next}))
}

/// Edits, deletes or reacts; none of it twice or by the wrong person, since nobody tries.
fn change(node: &Node, who: &Who, method: &Method, id: &str, rest: &[&str], sent: &Value) -> Answer {
    let mut frame = json!({"id": id, "thread_id": THREAD, "seq": 1_000, "at": NOW});
    let members = match (method, rest) {
        (&Method::PATCH, []) => {
            if let Some(document) = keys::mismatch(&node.memory.lock().unwrap(), who, sent) {
                return json(StatusCode::CONFLICT, &document);
            }
            let edited_at = format!("2030-01-01T10:{:02}:00.000Z", node.memory.lock().unwrap().events.len() % 60);
            json!({"t": "edit", "edited_at": edited_at, "ciphertext": sent["ciphertext"], "envelopes": sent["envelopes"]})
        }
        (&Method::DELETE, []) => json!({"t": "del", "reason": "sender"}),
        (&Method::POST, ["reactions"]) => {
            json!({"t": "reaction", "emoji": sent["emoji"], "by": who.0.as_str(), "op": "added"})
        }
        _ => return problem(404, "not_found"),
    };
    if let (Some(frame), Value::Object(members)) = (frame.as_object_mut(), members) {
        frame.extend(members);
    }
    node.append(frame);
    let message = node.memory.lock().unwrap().messages.iter().find(|message| message["id"] == id).cloned();
    message.map_or_else(|| problem(404, "not_found"), |message| json(StatusCode::OK, &shown_to(who, message)))
}

fn recipients() -> Answer {
    let bob = json!({"recipient_id": "bob", "state": "READ", "delivered_at": "2030-01-01T10:00:01.000Z",
        "read_at": "2030-01-01T10:00:02.000Z"});
    json(StatusCode::OK, &json!({"recipients": [bob]}))
}
