//! Frames count like requests.

use super::cluster::{Cluster, hasty};
use super::device::{Device, request};
use crate::config::{ClassLimits, FailedAuthLimits, RateLimitsConfig};
use futures_util::SinkExt;
use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::{Error, Message};

fn class(per_user: u32, per_device: u32) -> ClassLimits {
    // So long a window that nothing comes back while a test runs.
    ClassLimits { window_s: 86_400, per_user, per_device, per_address: 0 }
}

async fn cluster(limits: &RateLimitsConfig) -> Cluster {
    Cluster::start_limited(1, hasty(), 10_000, limits).await
}

async fn say(device: &mut Device, frame: Value) {
    device.socket.send(Message::text(frame.to_string())).await.unwrap();
}

#[tokio::test]
async fn frames_draw_from_the_users_and_the_devices_limits() {
    let limits = RateLimitsConfig { sends: class(3, 2), writes: class(0, 1), ..RateLimitsConfig::never_met() };
    let cluster = cluster(&limits).await;
    let thread = cluster.group("alice", &["bob"]).await.id;
    let mut phone = cluster.online(1, "alice", "phone").await;
    let mut tablet = cluster.online(1, "alice", "tablet").await;
    let send = |n: u64| json!({"t": "send", "request_id": n, "thread_id": thread.to_string(), "client_seq": n, "ciphertext": "aGk="});
    let mut last = Value::Null;
    for n in 1..=2 {
        say(&mut phone, send(n)).await;
        last = phone.until("sent").await.0;
    }
    say(&mut phone, send(3)).await;
    let error = phone.until("error").await.0;
    assert_eq!(
        (&error["request_id"], &error["code"], &error["status"]),
        (&json!(3), &json!("rate_limited"), &json!(429))
    );
    assert!(error["detail"].as_str().unwrap().contains("this device"), "{error}");
    // The user has one left, for another device, and over HTTP it is the same.
    say(&mut tablet, send(1)).await;
    let own = tablet.until("sent").await.0;
    assert_eq!(own["seq"].as_u64(), last["seq"].as_u64().map(|seq| seq + 1), "what was refused was not sent");
    say(&mut tablet, send(2)).await;
    let error = tablet.until("error").await.0;
    assert!(error["detail"].as_str().unwrap().contains("this user"), "{error}");

    let place = |kind: &str| json!({"t": kind, "thread_id": thread.to_string(), "up_to": last["id"]});
    for kind in ["read", "delivered"] {
        say(&mut tablet, place(kind)).await;
    }
    let error = tablet.until("error").await.0;
    assert_eq!(error["code"], json!("rate_limited"), "the second of them");
    // Neither closes the connection, nor do acknowledgements count.
    say(&mut tablet, json!({"t": "client_ack", "frame_seq": 1})).await;
    say(&mut tablet, json!({"t": "subscribe", "request_id": "s", "thread_ids": []})).await;
    assert_eq!(tablet.until("subscribed").await.0["request_id"], json!("s"));
}

#[tokio::test]
async fn opening_sockets_is_limited_and_so_is_guessing() {
    let failed_auth = FailedAuthLimits { window_s: 86_400, per_address: 2 };
    let limits = RateLimitsConfig { reads: class(0, 1), failed_auth, ..RateLimitsConfig::never_met() };
    let cluster = cluster(&limits).await;
    let open = async |token: &str| match Device::open(cluster.addresses[0], token, "").await {
        Ok(_) => 101,
        Err(Error::Http(response)) => {
            let known = response.headers().contains_key("ratelimit") || response.status() != 429;
            assert!(known || response.headers().contains_key("retry-after"));
            response.status().as_u16()
        }
        Err(other) => panic!("{other}"),
    };
    let alice = cluster.token("alice", "phone");
    assert_eq!([open(&alice).await, open(&alice).await], [101, 429]);
    assert_eq!([open("forged").await, open("forged").await, open("forged").await], [401, 401, 429]);
    // Also by the first frame.
    let address = cluster.addresses[0];
    let mut silent = Device::open_with(address, request(address, "", &[])).await.unwrap();
    say(&mut silent, json!({"t": "auth", "token": "forged"})).await;
    assert_eq!(silent.next().await["code"], json!("rate_limited"));
}
