//! The viewer's threads, latest activity first.

use super::harness::{Client, Fault, world};
use serde_json::{Value, json};

fn ids(page: &Value) -> Vec<String> {
    page["threads"].as_array().unwrap().iter().map(|one| one["id"].as_str().unwrap().to_owned()).collect()
}

async fn page(client: &Client<'_>, size: usize, cursor: Option<&str>) -> (Vec<String>, Option<String>) {
    let cursor = cursor.map(|cursor| format!("&cursor={cursor}")).unwrap_or_default();
    let page = client.get(&format!("/v1/threads?page_size={size}{cursor}")).await.expect(200);
    (ids(&page), page["next_cursor"].as_str().map(str::to_owned))
}

#[tokio::test]
async fn the_latest_activity_comes_first() {
    let world = world();
    let alice = world.client("alice");
    assert_eq!(alice.get("/v1/threads").await.expect(200), json!({"threads": [], "next_cursor": null}));
    let mut threads = Vec::new();
    for n in 0..12 {
        threads.push(alice.pair(&format!("user{n}")).await);
    }
    let mut expected: Vec<String> = threads.iter().rev().cloned().collect();
    assert_eq!(page(&alice, 50, None).await, (expected.clone(), None));
    for at in [3, 7] {
        alice.say(&threads[at], 1).await;
        expected.retain(|thread| *thread != threads[at]);
        expected.insert(0, threads[at].clone());
    }
    for size in [1, 5, 6, 12, 100] {
        let (mut seen, mut cursor) = page(&alice, size, None).await;
        while let Some(at) = cursor {
            let (more, next) = page(&alice, size, Some(&at)).await;
            assert!(more.len() <= size);
            seen.extend(more);
            cursor = next;
        }
        assert_eq!(seen, expected, "in pages of {size}");
    }
    assert_eq!(page(&world.client("nobody"), 5, None).await, (vec![], None));
}

#[tokio::test]
async fn a_row_says_what_is_unread() {
    let world = world();
    let (alice, bob) = (world.client("alice"), world.client("bob"));
    let thread = alice.pair("bob").await;
    let row = async |client: &Client<'_>| client.get("/v1/threads").await.expect(200)["threads"][0].clone();
    let empty = row(&bob).await;
    assert_eq!((&empty["last_message"], &empty["last_read_msg_id"]), (&Value::Null, &Value::Null));
    assert_eq!(empty["unread_count"], json!(0));
    let first = alice.say(&thread, 1).await;
    let last = alice.say(&thread, 2).await;
    let unread = row(&bob).await;
    assert_eq!((&unread["last_message"]["id"], &unread["unread_count"]), (&json!(last), &json!(2)));
    assert_eq!((&unread["last_msg_id"], &unread["last_seq"]), (&json!(last), &json!(3)));
    bob.post(&format!("/v1/threads/{thread}/read"), &json!({"up_to_msg_id": first})).await.expect_empty(204);
    let half = row(&bob).await;
    assert_eq!((&half["last_read_msg_id"], &half["unread_count"]), (&json!(first), &json!(1)));
    assert_eq!(row(&alice).await["unread_count"], json!(0), "one's own are not unread");
}

#[tokio::test]
async fn a_busy_list_skips_and_repeats_nothing() {
    let world = world();
    let alice = world.client("alice");
    let mut threads = Vec::new();
    for n in 0..20 {
        threads.push(alice.pair(&format!("user{n}")).await);
        world.advance(1_000);
    }
    let (mut seen, mut cursor) = page(&alice, 3, None).await;
    let mut said = 0;
    while let Some(at) = cursor {
        // Threads that were shown and ones that were not become active, and new ones are made.
        for thread in [&threads[0], &threads[10], &threads[19], seen.last().unwrap()] {
            said += 1;
            alice.say(thread, said).await;
        }
        alice.pair(&format!("new{said}")).await;
        let (more, next) = page(&alice, 3, Some(&at)).await;
        seen.extend(more);
        cursor = next;
    }
    let expected: Vec<String> = threads.iter().rev().cloned().collect();
    assert_eq!(seen, expected, "the order is that of the beginning");
}

#[tokio::test]
async fn a_thread_that_was_left_is_gone() {
    let world = world();
    let (alice, bob) = (world.client("alice"), world.client("bob"));
    let thread = alice.group(&["bob"]).await;
    assert_eq!(page(&bob, 5, None).await.0, std::slice::from_ref(&thread));
    bob.delete(&format!("/v1/threads/{thread}/participants/bob")).await.expect_empty(204);
    assert_eq!(page(&bob, 5, None).await.0, Vec::<String>::new());
    assert_eq!(page(&alice, 5, None).await.0, [thread]);
}

#[tokio::test]
async fn a_list_with_a_shard_missing_is_no_list() {
    let world = world();
    let alice = world.client("alice");
    alice.pair("bob").await;
    world.fault(Fault::NotSent);
    alice.get("/v1/threads").await.problem(503, "unavailable");
    world.fault(Fault::None);
    alice.get("/v1/threads").await.expect(200);
    for query in ["cursor=x", "cursor=", "cursor=AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"] {
        alice.get(&format!("/v1/threads?{query}")).await.problem(400, "invalid_cursor");
    }
    let fields = alice.get("/v1/threads?cursor=x&cursor=y&page_size=0").await.bad_fields();
    assert_eq!(fields, ["cursor", "page_size"]);
}
