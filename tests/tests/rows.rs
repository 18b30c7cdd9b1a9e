//! Every route works through every node, the ones that hold no replica of the thread included, and what was
//! acknowledged through one node is seen at once through all others.

use messenger_proto::ids::ThreadId;
use messenger_proto::slot::{Slot, SlotMap};
use messenger_tests::cluster::{Cluster, Size};
use messenger_tests::device::{Device, ids, number, text, text_of, unique};
use serde_json::{Value, json};
use std::collections::BTreeSet;

const SIZE: Size = Size { nodes: 4, shards: 8 };

/// The same device at every node, the one it works through first.
struct Everywhere(Vec<Device>);

impl Everywhere {
    fn new(cluster: &Cluster, via: u16, user: &str) -> Self {
        let device = cluster.device(via, user, "phone");
        let others = cluster.nodes().filter(|node| *node != via).map(|node| device.at(cluster.client_addr(node)));
        let others: Vec<_> = others.collect();
        Self(std::iter::once(device).chain(others).collect())
    }

    fn via(&self) -> &Device {
        &self.0[0]
    }

    /// What every node answers to a GET: one answer, since reads are consistent.
    async fn get(&self, path: &str) -> Value {
        let first = self.0[0].get(path).await.expect(200);
        for device in &self.0[1..] {
            assert_eq!(device.get(path).await.expect(200), first, "GET {path} at {}", device.http.addr());
        }
        first
    }
}

fn hosts(cluster: &Cluster, thread: &str) -> BTreeSet<u64> {
    let id: ThreadId = thread.parse().expect("a thread id is a UUID");
    let shard = SlotMap::new(SIZE.shards).expect("in range").shard_of(Slot::of_thread(id));
    let status = cluster.status(1);
    let row = status["shards"].as_array().and_then(|rows| rows.iter().find(|row| row["id"] == shard.0).cloned());
    let row = row.unwrap_or_else(|| panic!("no shard {shard} in {status}"));
    row["replicas"].as_array().expect("replicas are a list").iter().map(|replica| number(replica, "node")).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_route_works_through_every_node() {
    let cluster = Cluster::start(SIZE);
    let mut foreign = 0;
    for via in cluster.nodes() {
        foreign += usize::from(!through(&cluster, via).await.contains(&u64::from(via)));
    }
    // With three replicas on four nodes, a thread is foreign to one of them; which one is up to its id.
    for via in cluster.nodes().cycle().take(40) {
        if foreign > 0 {
            break;
        }
        foreign += usize::from(!through(&cluster, via).await.contains(&u64::from(via)));
    }
    assert!(foreign > 0, "no thread was foreign to the node it was used through");
}

/// Uses every route through one node; the nodes that hold the group's thread.
async fn through(cluster: &Cluster, via: u16) -> BTreeSet<u64> {
    let (alice, bob, carol) = (unique("alice"), unique("bob"), unique("carol"));
    let a = Everywhere::new(cluster, via, &alice);
    let b = Everywhere::new(cluster, via, &bob);

    let pair = a.via().one_to_one(&bob).await;
    let again = b.via().post("/v1/threads", &[], &json!({"type": "1_TO_1", "participants": [alice]})).await;
    assert_eq!(text(&again.expect(200), "id"), pair);
    let body = json!({"type": "GROUP", "title": "t", "description": "d", "participants": [bob, alice, bob]});
    let made = a.via().post("/v1/threads", &[], &body).await.expect(201);
    let group = text(&made, "id");
    assert_eq!(a.get(&format!("/v1/threads/{group}")).await, made);
    assert_thread(&made, &alice, &[(&alice, "admin"), (&bob, "member")]);

    let on_pair = a.via().send(&pair, "to bob").await;
    let mut sent = Vec::new();
    for n in 0..7 {
        sent.push(a.via().send(&group, &format!("message {n}")).await);
    }
    history_rows(&a, &b, &group, &sent).await;
    key_rows(&a, &b).await;

    let last = text(&sent[6], "id");
    let listed = b.get("/v1/threads").await;
    let rows = listed["threads"].as_array().expect("threads are a list");
    assert_eq!(ids(rows), [group.clone(), pair.clone()], "latest activity first");
    assert_eq!(number(&rows[0], "unread_count"), 7);
    assert_eq!(rows[0]["last_message"]["id"], json!(last));
    assert!(rows[0]["last_read_msg_id"].is_null());
    assert_eq!(rows[1]["last_message"]["id"], on_pair["id"]);
    // A list is ordered as of when it was begun, so each node's own cursor differs, and all nodes take it.
    let first_page = b.via().get("/v1/threads?page_size=1").await.expect(200);
    assert_eq!(ids(first_page["threads"].as_array().expect("a list")), std::slice::from_ref(&group));
    let cursor = text(&first_page, "next_cursor");
    let second_page = b.get(&format!("/v1/threads?page_size=1&cursor={cursor}")).await;
    assert_eq!(ids(second_page["threads"].as_array().expect("a list")), [pair]);

    b.via().read(&group, &text(&sent[4], "id")).await;
    let listed = b.get("/v1/threads").await;
    assert_eq!(number(&listed["threads"][0], "unread_count"), 2);
    assert_eq!(listed["threads"][0]["last_read_msg_id"], sent[4]["id"]);
    let states = a.get(&format!("/v1/messages/{}/recipients", text(&sent[4], "id"))).await;
    assert_eq!(states["recipients"][0]["state"], "READ");
    let states = a.get(&format!("/v1/messages/{last}/recipients")).await;
    assert_eq!(states["recipients"][0]["state"], "SENT");

    let members = format!("/v1/threads/{group}/participants");
    let grown = a.via().post(&members, &[], &json!({"user_ids": [carol, bob]})).await.expect(200);
    assert_thread(&grown, &alice, &[(&alice, "admin"), (&bob, "member"), (&carol, "member")]);
    let c = Everywhere::new(cluster, via, &carol);
    assert_eq!(c.get("/v1/threads").await["threads"][0]["id"], json!(group));
    let _nothing = a.via().delete(&format!("{members}/{carol}")).await.expect(204);
    assert_eq!(c.get("/v1/threads").await["threads"], json!([]));
    for device in &c.0 {
        device.get(&format!("/v1/threads/{group}")).await.expect_problem(403, "not_a_member");
    }
    hosts(cluster, &group)
}

fn assert_thread(thread: &Value, creator: &str, members: &[(&str, &str)]) {
    assert_eq!((text(thread, "type"), text(thread, "created_by")), ("GROUP".to_owned(), creator.to_owned()));
    assert_eq!((text(thread, "title"), text(thread, "description")), ("t".to_owned(), "d".to_owned()));
    let rows = thread["participants"].as_array().expect("participants are a list");
    let named: BTreeSet<_> = rows.iter().map(|row| (text(row, "user_id"), text(row, "role"))).collect();
    let wanted: BTreeSet<_> = members.iter().map(|(user, role)| ((*user).to_owned(), (*role).to_owned())).collect();
    assert_eq!(named, wanted);
    assert!(thread["settings"].is_object(), "{thread}");
    assert!(rows.iter().all(|row| row["joined_at"].is_string()), "{thread}");
}

/// What is published through one node is counted, listed and taken through every other.
async fn key_rows(a: &Everywhere, b: &Everywhere) {
    let counts = b.via().publish(7, 1..=9).await.expect(200);
    assert_eq!(b.get("/v1/users/me/devices/phone/prekeys").await, counts);
    let listed = a.get(&format!("/v1/users/{}/devices", b.via().user)).await;
    assert_eq!(
        (&listed["devices"][0]["device_id"], number(&listed["devices"][0], "registration_id")),
        (&json!("phone"), 7)
    );
    for (device, id) in a.0.iter().zip(1..) {
        let taken = device.get(&format!("/v1/users/{}/prekeys?device_id=phone", b.via().user)).await.expect(200);
        assert_eq!(number(&taken["devices"][0]["one_time_prekey"], "key_id"), id);
    }
    let _nothing = b.via().delete("/v1/users/me/devices/web").await.expect(204);
}

/// Every way to read a thread's messages.
async fn history_rows(a: &Everywhere, b: &Everywhere, group: &str, sent: &[Value]) {
    let path = format!("/v1/threads/{group}/messages");
    let order = ids(sent);
    let reversed: Vec<String> = order.iter().rev().cloned().collect();
    let of = |page: &Value| ids(page["messages"].as_array().expect("messages are a list"));

    let newest = b.get(&path).await;
    assert_eq!(of(&newest), reversed);
    assert!(newest["next_cursor"].is_null());
    assert_eq!(text_of(&newest["messages"][0]), "message 6");

    let mut walked = Vec::new();
    let mut query = String::from("?page_size=3");
    loop {
        let page = b.get(&format!("{path}{query}")).await;
        walked.extend(of(&page));
        match page["next_cursor"].as_str() {
            Some(cursor) => query = format!("?page_size=3&cursor={cursor}"),
            None => break,
        }
    }
    assert_eq!(walked, reversed, "pages neither skip nor repeat");

    let since = b.get(&format!("{path}?since={}", order[2])).await;
    assert_eq!(of(&since), order[3..], "increments are oldest first, without the one named");
    assert!(since["next_cursor"].is_null(), "caught up");
    let before = b.get(&format!("{path}?before={}", order[3])).await;
    assert_eq!(of(&before), reversed[4..]);
    let since_time = b.get(&format!("{path}?since={}", text(&sent[6], "created_at"))).await;
    assert!(of(&since_time).is_empty(), "later than its own time: none");
    let after_first = number(&sent[0], "seq");
    let changed = b.get(&format!("{path}?changed_since={after_first}")).await;
    assert_eq!(of(&changed), order[1..]);

    let one = b.get(&format!("/v1/messages/{}", order[1])).await;
    assert_eq!((text(&one, "id"), text_of(&one)), (order[1].clone(), "message 1".to_owned()));
    assert_eq!(
        a.get(&format!("/v1/messages/{}", order[1])).await["receipts"],
        json!({"of": 1, "delivered": 0, "read": 0})
    );
}
