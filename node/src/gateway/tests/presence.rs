//! Whether a user is there, asked by REST; nobody is, where there are no sockets.

use super::harness::world;
use axum::body::Body;
use axum::http::Method;
use serde_json::json;

const PRIVACY: &str = "/v1/users/me/privacy";

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
    assert_eq!(alice.get("/v1/users/a%20b/presence").await.bad_fields(), ["user_id"]);
    let answer = alice.delete("/v1/users/bob/presence").await;
    assert_eq!(answer.header("allow"), Some("GET, HEAD, OPTIONS"));
    answer.problem(405, "method_not_allowed");
}

#[tokio::test]
async fn who_hides_is_shown_to_nobody_and_is_shown_nobody() {
    let world = world();
    let (alice, bob) = (world.client("alice"), world.client("bob"));
    alice.group(&["bob"]).await;
    let put = async |body: serde_json::Value| {
        let headers = [("content-type", "application/json")];
        alice.request(Method::PUT, PRIVACY, &headers, Body::from(body.to_string())).await
    };
    assert_eq!(alice.get(PRIVACY).await.expect(200), json!({"presence": "everyone"}));
    let hidden = json!({"presence": "nobody"});
    assert_eq!(put(hidden.clone()).await.expect(200), hidden);
    assert_eq!(alice.get(PRIVACY).await.expect(200), hidden);
    assert_eq!(bob.get(PRIVACY).await.expect(200), json!({"presence": "everyone"}), "it is alice's");
    bob.get("/v1/users/alice/presence").await.problem(403, "presence_hidden");
    alice.get("/v1/users/bob/presence").await.problem(403, "presence_hidden");
    alice.get("/v1/users/alice/presence").await.expect(200);
    put(json!({"presence": "everyone"})).await.expect(200);
    bob.get("/v1/users/alice/presence").await.expect(200);
    assert_eq!(put(json!({"presence": "friends", "x": 1})).await.bad_fields(), ["presence", "x"]);
    assert_eq!(put(json!({})).await.bad_fields(), ["presence"]);
}
