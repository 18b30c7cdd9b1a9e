//! Changes to what was sent, through different nodes: everyone sees them, hears them, and finds them again.

use messenger_tests::cluster::Cluster;
use messenger_tests::device::{base64, ids, number, text, text_of, unique};
use serde_json::{Value, json};

/// The frames of a thread's events up to its last, less their numbers on the connection.
fn events(frames: Vec<Value>) -> Vec<Value> {
    let of_thread = frames.into_iter().filter(|frame| frame.get("seq").is_some());
    of_thread
        .map(|mut frame| {
            frame.as_object_mut().expect("frames are objects").remove("frame_seq");
            frame
        })
        .collect()
}

#[tokio::test]
async fn what_is_changed_through_one_node_is_seen_through_every_other() {
    let cluster = Cluster::shared();
    let (alice, bob) = (unique("alice"), unique("bob"));
    let hers = cluster.device(1, &alice, "phone");
    let elsewhere = hers.at(cluster.client_addr(3));
    let his = cluster.device(2, &bob, "phone");
    let thread = hers.group("a title", &[&bob]).await;
    let mut live = his.connect().await;
    let mut heard = live.catch_up().await;

    let (edited, deleted) = (hers.send(&thread, "first").await, hers.send(&thread, "second").await);
    let path = |message: &Value| format!("/v1/messages/{}", text(message, "id"));
    let better = elsewhere.patch(&path(&edited), &json!({"ciphertext": base64("better")})).await.expect(200);
    assert_eq!((text_of(&better), number(&better, "seq")), ("better".into(), 2));
    let reacted = his.post(&format!("{}/reactions", path(&edited)), &[], &json!({"emoji": "\u{1f44d}"})).await;
    assert_eq!(reacted.expect(200)["reactions"], json!([{"emoji": "\u{1f44d}", "by": [bob]}]));
    let pins = format!("/v1/threads/{thread}/pins");
    for message in [&edited, &deleted] {
        let _pins = elsewhere.post(&pins, &[], &json!({"message_id": message["id"]})).await.expect(200);
    }
    let _nothing = hers.delete(&path(&deleted)).await.expect(204);
    let _thread = elsewhere.patch(&format!("/v1/threads/{thread}"), &json!({"title": null})).await.expect(200);
    let _nothing = his.delete(&format!("{}/reactions/%F0%9F%91%8D", path(&edited))).await.expect(204);

    for node in cluster.nodes() {
        let his = his.at(cluster.client_addr(node));
        let history = his.history(&thread).await;
        assert_eq!(ids(&history), ids(&[edited.clone(), deleted.clone()]));
        assert_eq!((text_of(&history[0]), &history[0]["reactions"]), ("better".into(), &json!([])));
        assert_eq!((&history[1]["ciphertext"], &history[1]["deleted"]), (&Value::Null, &json!(true)));
        let changes = his.get(&format!("/v1/threads/{thread}/messages?changed_since=3")).await.expect(200);
        let changes = changes["messages"].as_array().expect("a page holds messages").clone();
        assert_eq!(ids(&changes), ids(&[deleted.clone(), edited.clone()]), "oldest change first");
        let pins = his.get(&pins).await.expect(200);
        assert_eq!(pins["pins"].as_array().map(Vec::len), Some(1), "{pins}");
        assert_eq!((&pins["pins"][0]["message_id"], &pins["pins"][0]["by"]), (&edited["id"], &json!(alice)));
        let thread = his.thread(&thread).await;
        assert_eq!((&thread["title"], number(&thread, "last_seq")), (&Value::Null, 10));
        assert_eq!(his.recipients(&text(&deleted, "id")).await.len(), 1);
    }

    while heard.last().is_none_or(|frame: &Value| frame["seq"] != json!(10)) {
        heard.push(live.next().await);
    }
    let heard = events(heard);
    let kinds: Vec<_> =
        heard.iter().map(|frame| (text(frame, "t"), frame["op"].as_str(), number(frame, "seq"))).collect();
    let expected = [
        ("thread", Some("created"), 1),
        ("msg", None, 2),
        ("msg", None, 3),
        ("edit", None, 4),
        ("reaction", Some("added"), 5),
        ("thread", Some("pinned"), 6),
        ("thread", Some("pinned"), 7),
        ("del", None, 8),
        ("thread", Some("updated"), 9),
        ("reaction", Some("removed"), 10),
    ];
    assert_eq!(kinds, expected.map(|(t, op, seq)| (t.to_owned(), op, seq)));
    assert_eq!(heard[3]["ciphertext"], json!(base64("better")));

    // A device that was away is told the same in the same order; what was sent comes as it is now.
    let replayed = events(cluster.device(3, &bob, "tablet").connect().await.catch_up().await);
    assert_eq!(replayed[3..], heard[3..]);
    assert_eq!((text_of(&replayed[1]), &replayed[2]["ciphertext"]), ("better".into(), &Value::Null));
}
