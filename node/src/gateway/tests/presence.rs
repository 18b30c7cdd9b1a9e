//! Whether a user is there, asked by REST; nobody is, where there are no sockets.

use super::harness::world;
use serde_json::json;

#[tokio::test]
async fn only_those_who_share_a_thread_are_told() {
    let world = world();
    let (alice, bob, eve) = (world.client("alice"), world.client("bob"), world.client("eve"));
    let nobody = json!({"status": "offline", "last_seen": null});
    let path = "/v1/users/alice/presence";
    bob.get(path).await.problem(403, "forbidden");
    let thread = alice.group(&["bob"]).await;
    assert_eq!(bob.get(path).await.expect(200), nobody);
    assert_eq!(alice.get(path).await.expect(200), nobody, "everyone sees its own");
    eve.get(path).await.problem(403, "forbidden");
    eve.get("/v1/users/nobody.of.that.name/presence").await.problem(403, "forbidden");
    alice.delete(&format!("/v1/threads/{thread}/participants/bob")).await.expect_empty(204);
    bob.get(path).await.problem(403, "forbidden");
}

#[tokio::test]
async fn a_user_that_is_none_is_a_bad_request() {
    let world = world();
    let alice = world.client("alice");
    assert_eq!(alice.get("/v1/users/me/presence").await.bad_fields(), ["user_id"]);
    let answer = alice.delete("/v1/users/bob/presence").await;
    assert_eq!(answer.header("allow"), Some("GET, HEAD, OPTIONS"));
    answer.problem(405, "method_not_allowed");
}
