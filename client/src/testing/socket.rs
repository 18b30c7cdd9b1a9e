//! The tiny cluster's realtime connections.
//!
//! Owns: the upgrade, replay, live frames, and answering sends.
//! Must not know: what is published or stored.
//! Invariants: an event is shown to a connection once, in order, from what its device acknowledged last.

use super::http::{Answer, Params, body, problem};
use super::{Fault, NOW, Node, THREAD, Who, commit, commit_once, encoded, framed, shown_to};
use futures_util::{SinkExt, StreamExt};
use http::{Request, Response, StatusCode};
use hyper::body::Incoming;
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use std::collections::VecDeque;
use tokio::sync::broadcast;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message as WsMessage;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, Role};

type Live = broadcast::Receiver<(Option<usize>, Value)>;

pub(super) fn open(node: Node, who: Who, params: &Params, request: &mut Request<Incoming>) -> Answer {
    let mut memory = node.memory.lock().unwrap();
    if let Some(Fault::Refuse(status, code)) = memory.faults.front().cloned() {
        memory.faults.pop_front();
        return problem(status, code);
    }
    let last_seen = params.get("last_seen_id").cloned();
    let unseen = |event: &Value| last_seen.as_deref().is_none_or(|seen| event["id"].as_str() > Some(seen));
    let acked = memory.acked.get(&who).copied().unwrap_or(0);
    let from = memory.events.iter().position(unseen).unwrap_or(memory.events.len()).min(acked);
    let missed: Vec<_> = memory.events.iter().cloned().enumerate().skip(from).collect();
    memory.resumes.push(last_seen);
    let live = node.live.subscribe();
    drop(memory);
    node.note();
    let accept = request.headers().get("sec-websocket-key").map(|key| derive_accept_key(key.as_bytes()));
    let upgrade = hyper::upgrade::on(request);
    tokio::spawn(async move {
        let Ok(upgraded) = upgrade.await else { return };
        let stream = WebSocketStream::from_raw_socket(TokioIo::new(upgraded), Role::Server, None).await;
        let talk = Talk { stream, who, frame_seq: 0, places: VecDeque::new() };
        converse(talk, node, live, missed).await;
    });
    let mut answer = Response::new(body(""));
    *answer.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let headers = answer.headers_mut();
    headers.insert("connection", "upgrade".parse().unwrap());
    headers.insert("upgrade", "websocket".parse().unwrap());
    headers.insert("sec-websocket-accept", accept.unwrap_or_default().parse().unwrap());
    answer
}

struct Talk {
    stream: WebSocketStream<TokioIo<Upgraded>>,
    who: Who,
    frame_seq: u64,
    /// Frames that stand for events, and which.
    places: VecDeque<(u64, usize)>,
}

impl Talk {
    async fn write(&mut self, place: Option<usize>, frame: Value) {
        self.frame_seq += 1;
        if let Some(place) = place {
            self.places.push_back((self.frame_seq, place));
        }
        let mut frame = shown_to(&self.who, frame);
        frame["frame_seq"] = json!(self.frame_seq);
        let _ = self.stream.send(WsMessage::text(frame.to_string())).await;
    }

    fn acked(&mut self, frame_seq: u64) -> Option<usize> {
        let mut last = None;
        while let Some((_, place)) = self.places.pop_front_if(|(seq, _)| *seq <= frame_seq) {
            last = Some(place + 1);
        }
        last
    }
}

async fn converse(mut talk: Talk, node: Node, mut live: Live, missed: Vec<(usize, Value)>) {
    let hello = json!({"t": "hello", "connection_id": "c", "user_id": talk.who.0.as_str(),
        "device_id": talk.who.1.as_str(), "server_time": NOW, "ping_interval_s": 30});
    talk.write(None, hello).await;
    let mut shown = missed.first().map_or(0, |(place, _)| *place);
    let most = node.memory.lock().unwrap().replayed_max.unwrap_or(usize::MAX);
    let left_out = missed.len().saturating_sub(most);
    if left_out > 0 {
        let gap = json!({"t": "gap", "thread_id": THREAD, "after_seq": shown, "after_id": null,
            "before_id": missed.get(left_out).map(|(_, event)| event["id"].clone())});
        talk.write(Some(missed[left_out - 1].0), gap).await;
    }
    for (place, event) in missed.into_iter().skip(left_out) {
        talk.write(Some(place), event).await;
        shown = place + 1;
    }
    talk.write(None, json!({"t": "caught_up"})).await;
    let fault = {
        let mut memory = node.memory.lock().unwrap();
        if let Some(Fault::Close(_)) = memory.faults.front() { memory.faults.pop_front() } else { None }
    };
    if let Some(Fault::Close(code)) = fault {
        let close = CloseFrame { code: code.into(), reason: "on purpose".into() };
        let _ = talk.stream.send(WsMessage::Close(Some(close))).await;
        return;
    }
    loop {
        tokio::select! {
            frame = live.recv() => match frame {
                Ok((Some(place), _)) if place < shown => {}
                Ok((place, frame)) => talk.write(place, frame).await,
                Err(_) => return,
            },
            frame = talk.stream.next() => {
                let Some(Ok(WsMessage::Text(text))) = frame else { return };
                let frame: Value = serde_json::from_str(&text).unwrap();
                node.memory.lock().unwrap().frames.push(frame.clone());
                if frame["t"] == "client_ack" && let Some(upto) = talk.acked(frame["frame_seq"].as_u64().unwrap()) {
                    let mut memory = node.memory.lock().unwrap();
                    let acked = memory.acked.entry(talk.who.clone()).or_default();
                    *acked = upto.max(*acked);
                }
                node.note();
                if frame["t"] == "send" && !answer(&mut talk, &node, &frame).await {
                    return;
                }
            }
        }
    }
}

/// Answers a send; false when the connection is to break instead.
async fn answer(talk: &mut Talk, node: &Node, frame: &Value) -> bool {
    let fault = node.rest_fault();
    let request_id = frame["request_id"].clone();
    if let Some(Fault::Refuse(status, code)) = fault {
        node.memory.lock().unwrap().keys.push(frame["idempotency_key"].as_str().unwrap().to_owned());
        let refusal = json!({"t": "error", "request_id": request_id, "status": status, "code": code, "title": "No"});
        talk.write(None, refusal).await;
        return true;
    }
    let crowd = |text: &str| {
        let body = json!({"client_seq": 1, "ciphertext": encoded(text)});
        commit(node, "bob", "phone", THREAD, &body)
    };
    match fault {
        Some(Fault::Crowd(count)) => {
            for _ in 0..count {
                talk.write(None, framed("msg", crowd("crowd"))).await;
            }
        }
        Some(Fault::Overtake) => drop(crowd("in front")),
        _ => {}
    }
    // Without a key the number of the message is what it is known by.
    let number = format!("{:?} {} {}", talk.who, frame["thread_id"], frame["client_seq"]);
    let key = frame["idempotency_key"].as_str().unwrap_or(&number);
    let committed = commit_once(node, key, &talk.who, frame["thread_id"].as_str().unwrap(), frame);
    if matches!(fault, Some(Fault::LoseAnswer)) {
        return false;
    }
    let mut said = match committed {
        Ok((message, replayed)) => {
            let mut sent = framed("sent", message);
            sent["replayed"] = json!(replayed);
            sent
        }
        Err(problem) => framed("error", problem),
    };
    said["request_id"] = request_id;
    talk.write(None, said).await;
    true
}
