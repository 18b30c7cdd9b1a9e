//! The tiny cluster's devices and keys.
//!
//! Owns: what devices publish, handing it out, and whether a message's envelopes fit.
//! Must not know: what a key is.
//! Invariants: a one-time key is handed out once.

use super::http::{Answer, Params, json, problem};
use super::{Memory, NOW, Node, Who, framed};
use http::{Method, StatusCode};
use serde_json::{Value, json};
use std::collections::BTreeMap;

pub(super) fn answer(node: &Node, who: &Who, method: &Method, path: &[&str], params: &Params, sent: &Value) -> Answer {
    match (method, path) {
        (&Method::PUT, ["me", "devices", device, "prekeys"]) if *device == who.1.as_str() => publish(node, who, sent),
        (&Method::GET, ["me", "devices", device, "prekeys"]) => {
            let memory = node.memory.lock().unwrap();
            match memory.devices.get(&(who.0.to_string(), (*device).to_owned())) {
                Some(published) => json(StatusCode::OK, &counts(published)),
                None => problem(404, "not_found"),
            }
        }
        (&Method::DELETE, ["me", "devices", device]) => {
            let gone = node.memory.lock().unwrap().devices.remove(&(who.0.to_string(), (*device).to_owned()));
            if gone.is_some() {
                announce(node, who.0.as_str());
            }
            json(StatusCode::OK, &json!({}))
        }
        (&Method::GET, [user, "devices"]) => {
            let memory = node.memory.lock().unwrap();
            let rows: Vec<_> = of_user(&memory, user)
                .map(|(device, row)| {
                    json!({"device_id": device, "registration_id": row["registration_id"], "updated_at": NOW})
                })
                .collect();
            json(StatusCode::OK, &json!({"devices": rows}))
        }
        (&Method::GET, [user, "prekeys"]) => take(node, who, user, params),
        _ => problem(404, "not_found"),
    }
}

fn of_user<'a>(memory: &'a Memory, user: &'a str) -> impl Iterator<Item = (&'a str, &'a Value)> {
    memory.devices.iter().filter(move |((owner, _), _)| owner == user).map(|((_, device), row)| (device.as_str(), row))
}

fn announce(node: &Node, user: &str) {
    let _ = node.live.send((None, framed("device", json!({"user_id": user}))));
    node.note();
}

fn counts(published: &Value) -> Value {
    let left = published["one_time_prekeys"].as_array().map_or(0, Vec::len);
    json!({"one_time": left, "pq_one_time": 0, "updated_at": NOW})
}

fn publish(node: &Node, who: &Who, sent: &Value) -> Answer {
    let mut memory = node.memory.lock().unwrap();
    let place = (who.0.to_string(), who.1.to_string());
    let known = memory.devices.get(&place).filter(|row| row["registration_id"] == sent["registration_id"]).cloned();
    let mut row = sent.clone();
    let mut one_time: BTreeMap<u64, Value> = BTreeMap::new();
    let mut given_out: u64 = 0;
    for key in known.iter().flat_map(|row| row["one_time_prekeys"].as_array().into_iter().flatten()) {
        one_time.insert(key["key_id"].as_u64().unwrap(), key.clone());
    }
    if let Some(known) = &known {
        given_out = known["spent"].as_u64().unwrap_or(0);
    }
    for key in sent["one_time_prekeys"].as_array().into_iter().flatten() {
        let id = key["key_id"].as_u64().unwrap();
        if id > given_out {
            one_time.insert(id, key.clone());
        }
    }
    row["spent"] = json!(given_out);
    row["one_time_prekeys"] = one_time.into_values().collect();
    let answer = json(StatusCode::OK, &counts(&row));
    memory.devices.insert(place, row);
    drop(memory);
    if known.is_none() {
        announce(node, who.0.as_str());
    }
    node.note();
    answer
}

fn take(node: &Node, who: &Who, user: &str, params: &Params) -> Answer {
    let mut memory = node.memory.lock().unwrap();
    let wanted = params.get("device_id");
    let mut bundles = Vec::new();
    for ((owner, device), row) in &mut memory.devices {
        let own = owner == who.0.as_str() && device == who.1.as_str();
        if owner != user || own || wanted.is_some_and(|wanted| wanted != device) {
            continue;
        }
        let first = row["one_time_prekeys"].as_array_mut().filter(|keys| !keys.is_empty()).map(|keys| keys.remove(0));
        let one_time = match first {
            Some(mut key) => {
                row["spent"] = key["key_id"].clone();
                key["last_resort"] = json!(false);
                key
            }
            None if row["last_resort"].is_object() => {
                let mut key = row["last_resort"].clone();
                key["last_resort"] = json!(true);
                key
            }
            None => Value::Null,
        };
        bundles.push(json!({"device_id": device, "registration_id": row["registration_id"],
            "identity_key": row["identity_key"], "signed_prekey": row["signed_prekey"], "one_time_prekey": one_time,
            "pq_prekey": null}));
    }
    drop(memory);
    node.note();
    if bundles.is_empty() {
        return problem(404, "not_found");
    }
    json(StatusCode::OK, &json!({"user_id": user, "devices": bundles, "exhausted": []}))
}

/// The problem with a message's envelopes, if there is one.
pub(super) fn mismatch(memory: &Memory, who: &Who, body: &Value) -> Option<Value> {
    let envelopes = body["envelopes"].as_array().filter(|_| body["allow_mismatch"] != true)?;
    let named = |user: &str, device: &str| json!({"user_id": user, "device_id": device});
    let (mut missing, mut extra, mut stale) = (Vec::new(), Vec::new(), Vec::new());
    for ((user, device), row) in &memory.devices {
        let own = user == who.0.as_str() && device == who.1.as_str();
        if own || !memory.members.contains(user) {
            continue;
        }
        match envelopes.iter().find(|e| e["user_id"] == *user && e["device_id"] == *device) {
            None => missing.push(named(user, device)),
            Some(envelope) if envelope["registration_id"] != row["registration_id"] => stale.push(named(user, device)),
            Some(_) => {}
        }
    }
    for envelope in envelopes {
        let (user, device) = (envelope["user_id"].as_str().unwrap(), envelope["device_id"].as_str().unwrap());
        if !memory.devices.contains_key(&(user.to_owned(), device.to_owned())) {
            extra.push(named(user, device));
        }
    }
    if missing.is_empty() && extra.is_empty() && stale.is_empty() {
        return None;
    }
    Some(json!({"type": "about:blank", "title": "No", "status": 409, "code": "device_mismatch", "detail": "",
        "missing_devices": missing, "extra_devices": extra, "stale_devices": stale}))
}
