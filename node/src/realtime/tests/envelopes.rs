//! Messages in envelopes, as connections hear of them.

use super::cluster::Cluster;
use bytes::Bytes;
use messenger_proto::command::{EditMessage, Op};
use messenger_proto::envelope::{Envelope, Envelopes};
use messenger_proto::ids::{DeviceId, MessageId, RegistrationId, ThreadId, UserId};
use messenger_proto::profile::{Profile, ProfileDevice, UpdateProfile};
use messenger_proto::slot::Slot;
use serde_json::{Value, json};

impl Cluster {
    /// Tells a thread which devices a user has, as the user's shard does.
    async fn told(&self, thread: ThreadId, name: &str, version: u64, devices: &[&str]) {
        let device =
            |name: &&str| ProfileDevice { device: DeviceId::new(name).unwrap(), registration: RegistrationId(1) };
        let devices = devices.iter().map(device).collect();
        let profile = Profile { version, devices_version: version, devices, blocks: Vec::new() };
        let op = Op::UpdateProfile(UpdateProfile { user: UserId::new(name).unwrap(), profile, threads: vec![thread] });
        self.command(Slot::of_thread(thread), op).await.unwrap();
    }

    /// Edits a message of Alice's phone as if it had come by REST.
    async fn edit_sealed(&self, sent: &Value, to: &[(&str, &str, &str)]) {
        let id: MessageId = sent["id"].as_str().unwrap().parse().unwrap();
        let one = |(name, of, text): &(&str, &str, &str)| Envelope {
            user: UserId::new(name).unwrap(),
            device: DeviceId::new(of).unwrap(),
            registration: None,
            kind: None,
            ciphertext: text.as_bytes().to_vec().into(),
        };
        let envelopes = Some(Envelopes { list: to.iter().map(one).collect(), allow_mismatch: false });
        let (actor, device) = (UserId::new("alice").unwrap(), Some(DeviceId::new("phone").unwrap()));
        let op = Op::EditMessage(EditMessage { id, actor, ciphertext: Bytes::new(), envelopes, device });
        self.command(Slot::of_message(id), op).await.unwrap();
    }
}

fn envelope(user: &str, device: &str, ciphertext: &str) -> Value {
    json!({"user_id": user, "device_id": device, "ciphertext": ciphertext, "type": "pre"})
}

fn send(thread: ThreadId, client_seq: u64, envelopes: &[Value]) -> Value {
    json!({"t": "send", "request_id": client_seq, "thread_id": thread.to_string(), "client_seq": client_seq,
        "envelopes": envelopes})
}

fn seen(frame: &Value) -> (Option<&str>, Option<&str>) {
    assert!(frame.as_object().unwrap().contains_key("ciphertext"), "{frame}");
    (frame["ciphertext"].as_str(), frame["envelope_type"].as_str())
}

/// Alice's phone sends; her tablet and Bob's phone and computer are sent something, Bob's watch is new.
async fn made(cluster: &Cluster) -> ThreadId {
    let thread = cluster.group("alice", &["bob"]).await.id;
    cluster.told(thread, "alice", 1_000, &["phone", "tablet"]).await;
    cluster.told(thread, "bob", 1_000, &["pc", "phone"]).await;
    thread
}

fn whole() -> Vec<Value> {
    vec![envelope("bob", "phone", "YnA="), envelope("alice", "tablet", "YXQ="), envelope("bob", "pc", "YmM=")]
}

#[tokio::test]
async fn each_device_hears_its_own_live_and_again() {
    let cluster = Cluster::start(2).await;
    let thread = made(&cluster).await;
    let (mut phone, mut tablet) =
        (cluster.online(1, "alice", "phone").await, cluster.online(2, "alice", "tablet").await);
    let (mut his, mut pc) = (cluster.online(1, "bob", "phone").await, cluster.online(2, "bob", "pc").await);
    let mut watch = cluster.online(1, "bob", "watch").await;
    phone.say(&send(thread, 1, &whole())).await;
    let sent = phone.expect("sent").await;
    assert_eq!(seen(&sent), (None, None), "the sending device has none");
    let heard = phone.expect("msg").await;
    assert_eq!((seen(&heard), &heard["receipts"]["of"]), ((None, None), &json!(1)));
    let own = [(&mut tablet, Some("YXQ=")), (&mut his, Some("YnA=")), (&mut pc, Some("YmM=")), (&mut watch, None)];
    for (device, expected) in own {
        let msg = device.expect("msg").await;
        assert_eq!((&msg["id"], seen(&msg)), (&sent["id"], (expected, expected.map(|_| "pre"))));
    }
    phone.say(&send(thread, 1, &whole())).await;
    let again = phone.expect("sent").await;
    assert_eq!((&again["replayed"], &again["id"], seen(&again)), (&json!(true), &sent["id"], (None, None)));
    drop(pc);
    let missed = cluster.connect(1, "bob", "pc", "").await.expect("msg").await;
    assert_eq!(seen(&missed), (Some("YmM="), Some("pre")), "from storage");
    let missed = cluster.connect(2, "bob", "new", "").await.expect("msg").await;
    assert_eq!(seen(&missed), (None, None));
}

#[tokio::test]
async fn an_edit_shows_each_device_its_own() {
    let cluster = Cluster::start(2).await;
    let thread = made(&cluster).await;
    let mut phone = cluster.online(1, "alice", "phone").await;
    let (mut his, mut watch) = (cluster.online(1, "bob", "phone").await, cluster.online(2, "bob", "watch").await);
    phone.say(&json!({"t": "send", "thread_id": thread.to_string(), "client_seq": 1, "ciphertext": "aGk="})).await;
    let sent = phone.expect("sent").await;
    assert_eq!(seen(&his.expect("msg").await), (Some("aGk="), None));
    assert_eq!(seen(&watch.expect("msg").await), (Some("aGk="), None));
    cluster.edit_sealed(&sent, &[("alice", "tablet", "at"), ("bob", "pc", "bc"), ("bob", "phone", "bp")]).await;
    assert_eq!(seen(&his.expect("edit").await), (Some("YnA="), None));
    assert_eq!(seen(&watch.expect("edit").await), (None, None));
    assert_eq!(seen(&phone.expect("edit").await), (None, None));
    let missed = cluster.connect(1, "bob", "pc", "").await.expect("edit").await;
    assert_eq!(seen(&missed), (Some("YmM="), None));
}

#[tokio::test]
async fn a_device_that_comes_between_is_missed_and_then_sent_to() {
    let cluster = Cluster::start(2).await;
    let thread = made(&cluster).await;
    let (mut phone, mut watch) = (cluster.online(1, "alice", "phone").await, cluster.online(2, "bob", "watch").await);
    cluster.told(thread, "bob", 2_000, &["pc", "phone", "watch"]).await;
    phone.say(&send(thread, 1, &whole())).await;
    let error = phone.expect("error").await;
    let expected = json!([{"user_id": "bob", "device_id": "watch"}]);
    assert_eq!((&error["code"], &error["missing_devices"]), (&json!("device_mismatch"), &expected));
    assert_eq!((&error["extra_devices"], &error["stale_devices"]), (&json!([]), &json!([])));
    let mut all = whole();
    all.push(envelope("bob", "watch", "Ync="));
    phone.say(&send(thread, 1, &all)).await;
    let sent = phone.expect("sent").await;
    let msg = watch.expect("msg").await;
    assert_eq!((&msg["id"], seen(&msg)), (&sent["id"], (Some("Ync="), Some("pre"))));
    let mut allowed = send(thread, 2, &whole());
    allowed["allow_mismatch"] = json!(true);
    phone.say(&allowed).await;
    phone.expect("sent").await;
    assert_eq!(seen(&watch.expect("msg").await), (None, None));
}
