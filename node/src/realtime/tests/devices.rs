//! What connections hear of devices and their keys.

use super::cluster::Cluster;
use super::device::{Device, request};
use messenger_proto::command::{CommandResult, Op};
use messenger_proto::ids::{DeviceId, KeyId, Millis, RegistrationId, UserId};
use messenger_proto::keys::{DeleteDevice, Prekey, PublishKeys, PublishedKeys, TakePrekeys};
use messenger_proto::limits::PREKEYS_LOW;
use messenger_proto::moderation::Suspend;
use messenger_proto::slot::Slot;
use serde_json::json;
use tokio_tungstenite::tungstenite::Error;

fn user(name: &str) -> UserId {
    UserId::new(name).unwrap()
}

fn device(name: &str) -> DeviceId {
    DeviceId::new(name).unwrap()
}

impl Cluster {
    async fn to_bob(&self, op: Op) -> CommandResult {
        self.command(Slot::of_user(&user("bob")), op).await
    }

    /// Publishes so many one-time keys of Bob's.
    async fn publish(&self, name: &str, keys: u32) {
        let key = |id: u64, signature: Option<&'static [u8]>| Prekey {
            id: KeyId(id),
            public_key: format!("{name} {id}").into(),
            signature: signature.map(Into::into),
        };
        let keys = PublishedKeys {
            registration: RegistrationId(1),
            identity_key: "identity".into(),
            signed_prekey: key(1, Some(b"signature")),
            one_time: (0..u64::from(keys)).map(|id| key(id, None)).collect(),
            pq_one_time: Vec::new(),
            last_resort: None,
            pq_last_resort: None,
        };
        let (user, device, issued_at) = (user("bob"), device(name), Millis(u64::MAX));
        let op = Op::PublishKeys(PublishKeys { user, device, issued_at, keys: Box::new(keys) });
        self.to_bob(op).await.unwrap();
    }

    async fn take(&self) {
        let (taker, taker_device) = (user("ann"), device("phone"));
        self.to_bob(Op::TakePrekeys(TakePrekeys { user: user("bob"), device: None, taker, taker_device }))
            .await
            .unwrap();
    }
}

#[tokio::test]
async fn a_device_that_runs_low_hears_of_it_then_and_on_connect() {
    let cluster = Cluster::start(2).await;
    cluster.publish("phone", PREKEYS_LOW).await;
    let (mut phone, mut tablet) = (cluster.online(1, "bob", "phone").await, cluster.online(2, "bob", "tablet").await);
    cluster.take().await;
    let low = |remaining: u32| json!({"t": "prekeys_low", "device_id": "phone", "remaining": remaining});
    assert_eq!(bare(phone.next().await), low(PREKEYS_LOW - 1));
    cluster.take().await;
    cluster.publish("web", 1).await;
    let other = json!({"t": "device", "user_id": "bob"});
    assert_eq!(bare(phone.next().await), other, "once is enough, and the next is something else");
    assert_eq!(bare(tablet.next().await), other, "another's keys are not its concern");
    drop(phone);
    let mut phone = cluster.connect(2, "bob", "phone", "").await;
    assert_eq!(bare(phone.expect("prekeys_low").await), low(PREKEYS_LOW - 2));
}

#[tokio::test]
async fn who_shares_a_thread_hears_of_a_change_once() {
    let cluster = Cluster::start(2).await;
    let threads = [cluster.group("ann", &["bob"]).await, cluster.group("bob", &["ann"]).await];
    let mut ann = cluster.online(1, "ann", "phone").await;
    cluster.publish("phone", 0).await;
    cluster.publish("tablet", 0).await;
    cluster.publish("tablet", 1).await;
    // In each thread's stream, what changed comes before what is sent then.
    for thread in &threads {
        cluster.say(thread.id, "bob", 1, 1).await;
    }
    let (mut heard, mut messages) = (Vec::new(), 0);
    while messages < threads.len() {
        let frame = bare(ann.next().await);
        if frame["t"] == json!("msg") { messages += 1 } else { heard.push(frame) }
    }
    assert_eq!(heard, vec![json!({"t": "device", "user_id": "bob"}); 2]);
}

#[tokio::test]
async fn a_deleted_device_is_closed_wherever_it_is_and_not_let_in_again() {
    let cluster = Cluster::start(2).await;
    let (mut phone, mut tablet) = (cluster.online(1, "bob", "phone").await, cluster.online(2, "bob", "tablet").await);
    let token = cluster.token("bob", "phone");
    cluster.to_bob(Op::DeleteDevice(DeleteDevice { user: user("bob"), device: device("phone") })).await.unwrap();
    assert_eq!(phone.closed().await, Some(4401));
    assert_eq!(bare(tablet.next().await), json!({"t": "device", "user_id": "bob"}));
    match Device::open(cluster.addresses[0], &token, "").await {
        Err(Error::Http(response)) => assert_eq!(response.status(), 401),
        other => panic!("{:?}", other.err()),
    }
    let mut nameless = Device::open_with(cluster.addresses[1], request(cluster.addresses[1], "", &[])).await.unwrap();
    nameless.say(&json!({"t": "auth", "token": token})).await;
    assert_eq!((&nameless.next().await["code"], nameless.closed().await), (&json!("device_revoked"), Some(4401)));
}

#[tokio::test]
async fn who_is_suspended_is_closed_wherever_it_is_and_let_in_again_when_that_is_lifted() {
    let cluster = Cluster::start(2).await;
    let thread = cluster.group("ann", &["bob"]).await;
    let (mut phone, mut tablet) = (cluster.online(1, "bob", "phone").await, cluster.online(2, "bob", "tablet").await);
    let switch =
        |on: Option<&str>, suspended| Op::Suspend(Suspend { user: user("bob"), device: on.map(device), suspended });
    cluster.to_bob(switch(Some("phone"), true)).await.unwrap();
    assert_eq!(phone.closed().await, Some(4401));
    cluster.say(thread.id, "ann", 1, 1).await;
    assert_eq!(tablet.next().await["t"], json!("msg"), "the other device goes on");
    cluster.to_bob(switch(None, true)).await.unwrap();
    assert_eq!(tablet.closed().await, Some(4401));
    let token = cluster.token("bob", "tablet");
    match Device::open(cluster.addresses[1], &token, "").await {
        Err(Error::Http(response)) => assert_eq!(response.status(), 401),
        other => panic!("{:?}", other.err()),
    }
    let mut nameless = Device::open_with(cluster.addresses[0], request(cluster.addresses[0], "", &[])).await.unwrap();
    nameless.say(&json!({"t": "auth", "token": token})).await;
    assert_eq!((&nameless.next().await["code"], nameless.closed().await), (&json!("suspended"), Some(4401)));
    cluster.say(thread.id, "ann", 2, 1).await;

    cluster.to_bob(switch(None, false)).await.unwrap();
    cluster.nodes.iter().for_each(|node| node.forget_user(&user("bob")));
    let mut tablet = cluster.connect(1, "bob", "tablet", "").await;
    let missed = tablet.expect("msg").await;
    assert_eq!(missed["client_seq"], json!(1), "what was not acknowledged comes again");
    assert_eq!(tablet.expect("msg").await["client_seq"], json!(2), "and what came meanwhile");
    match Device::open(cluster.addresses[0], &cluster.token("bob", "phone"), "").await {
        Err(Error::Http(response)) => assert_eq!(response.status(), 401, "it was suspended by itself"),
        other => panic!("{:?}", other.err()),
    }
}

/// A frame without its number on the connection.
fn bare(mut frame: serde_json::Value) -> serde_json::Value {
    frame.as_object_mut().unwrap().remove("frame_seq");
    frame
}
