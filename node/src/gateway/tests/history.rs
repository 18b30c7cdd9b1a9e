//! A thread's messages, page by page.

use super::harness::{Client, admission, world};
use serde_json::Value;

fn ids(page: &Value) -> Vec<String> {
    page["messages"].as_array().unwrap().iter().map(|one| one["id"].as_str().unwrap().to_owned()).collect()
}

/// Reads a whole list, page by page; `with` is repeated beside the cursor when `again`.
async fn read(client: &Client<'_>, thread: &str, with: &str, size: usize, again: bool) -> Vec<String> {
    let mut seen = Vec::new();
    let mut query = with.to_owned();
    loop {
        let page = client.get(&format!("/v1/threads/{thread}/messages?page_size={size}{query}")).await.expect(200);
        let found = ids(&page);
        assert!(found.len() <= size);
        seen.extend(found);
        let Some(cursor) = page["next_cursor"].as_str() else { return seen };
        query = format!("{}&cursor={cursor}", if again { with } else { "" });
        assert!(seen.len() < 1_000, "no end");
    }
}

#[tokio::test]
async fn pages_are_contiguous_in_every_order() {
    let world = world();
    let (alice, bob) = (world.client("alice"), world.client("bob"));
    let thread = alice.group(&["bob"]).await;
    let mut all = Vec::new();
    for n in 0..23 {
        all.push(if n % 3 == 0 { bob.say(&thread, n).await } else { alice.say(&thread, n).await });
        if n == 11 {
            // Events without a message take a seq, too.
            let path = format!("/v1/threads/{thread}/participants");
            alice.post(&path, &serde_json::json!({"user_ids": ["carol"]})).await.expect(200);
        }
    }
    let newest: Vec<String> = all.iter().rev().cloned().collect();
    let time_of = async |id: &str| {
        let message = alice.get(&format!("/v1/messages/{id}")).await.expect(200);
        message["created_at"].as_str().unwrap().to_owned()
    };
    let at = time_of(&all[9]).await;
    for size in [1, 2, 5, 7, 22, 23, 24, 100] {
        for again in [true, false] {
            let page = async |with: &str| read(&bob, &thread, with, size, again).await;
            assert_eq!(page("").await, newest);
            assert_eq!(page(&format!("&before={}", all[9])).await, newest[14..]);
            assert_eq!(page(&format!("&since={}", all[9])).await, all[10..]);
            assert_eq!(page(&format!("&since={at}")).await, all[10..]);
            assert_eq!(page("&since=2000-01-01T00:00:00%2B02:00").await, all);
            assert_eq!(page("&changed_since=0").await, all);
            assert_eq!(page("&changed_since=1").await, all);
            assert_eq!(page("&changed_since=2").await, all[1..]);
            assert_eq!(page(&format!("&since={}", all[22])).await, Vec::<String>::new());
        }
    }
    let page = alice.get(&format!("/v1/threads/{thread}/messages")).await.expect(200);
    assert_eq!((ids(&page), &page["next_cursor"]), (newest, &Value::Null));
}

#[tokio::test]
async fn a_page_begun_goes_on_where_it_ended_whatever_comes() {
    let world = world();
    let alice = world.client("alice");
    let thread = alice.pair("bob").await;
    let mut all = Vec::new();
    for n in 0..10 {
        all.push(alice.say(&thread, n).await);
    }
    let path = format!("/v1/threads/{thread}/messages?page_size=4");
    let first = alice.get(&path).await.expect(200);
    for n in 10..20 {
        all.push(alice.say(&thread, n).await);
    }
    let cursor = first["next_cursor"].as_str().unwrap();
    let second = alice.get(&format!("{path}&cursor={cursor}")).await.expect(200);
    let expected: Vec<String> = all[2..10].iter().rev().cloned().collect();
    assert_eq!([ids(&first), ids(&second)].concat(), expected);
    assert_eq!(alice.get(&format!("{path}&cursor={cursor}")).await.expect(200), second, "a cursor can be used again");
}

#[tokio::test]
async fn a_member_sees_from_its_join_on() {
    let world = world();
    let alice = world.client("alice");
    let thread = alice.group(&["bob"]).await;
    alice.say(&thread, 1).await;
    let path = format!("/v1/threads/{thread}/participants");
    alice.post(&path, &serde_json::json!({"user_ids": ["late"]})).await.expect(200);
    let late = alice.say(&thread, 2).await;
    for with in ["", "&since=2000-01-01T00:00:00Z", "&changed_since=0"] {
        assert_eq!(read(&world.client("late"), &thread, with, 1, true).await, vec![late.clone()]);
    }
    let eve = world.client("eve");
    eve.get(&format!("/v1/threads/{thread}/messages")).await.problem(403, "not_a_member");
    let unknown = "/v1/threads/00000000-0000-4000-8000-000000000000/messages";
    alice.get(unknown).await.problem(404, "not_found");
}

#[tokio::test]
async fn bad_parameters_are_named_all_at_once() {
    let world = world();
    let alice = world.client("alice");
    let thread = alice.pair("bob").await;
    let elsewhere = alice.pair("carol").await;
    let foreign = alice.say(&elsewhere, 1).await;
    let own = alice.say(&thread, 1).await;
    let cases = [
        ("page_size=0", vec!["page_size"]),
        ("page_size=101", vec!["page_size"]),
        ("page_size=-1", vec!["page_size"]),
        ("page_size=%2B5", vec!["page_size"]),
        ("page_size=1.0", vec!["page_size"]),
        ("page_size=", vec!["page_size"]),
        ("page_size=99999999999999999999", vec!["page_size"]),
        ("page_size=5&page_size=5", vec!["page_size"]),
        ("cursor=a&cursor=a", vec!["cursor"]),
        ("since=yesterday", vec!["since"]),
        ("since=", vec!["since"]),
        ("before=2026-01-01T00:00:00Z", vec!["before"]),
        ("changed_since=-1", vec!["changed_since"]),
        ("changed_since=18446744073709551616", vec!["changed_since"]),
        ("page_size=x&since=y&before=z", vec!["before", "page_size", "since"]),
    ];
    let path = format!("/v1/threads/{thread}/messages");
    for (query, fields) in cases {
        assert_eq!(alice.get(&format!("{path}?{query}")).await.bad_fields(), fields, "{query}");
    }
    for name in ["since", "before"] {
        assert_eq!(alice.get(&format!("{path}?{name}={foreign}")).await.bad_fields(), [name]);
    }
    let two = format!("{path}?since={own}&before={own}");
    assert_eq!(alice.get(&two).await.bad_fields(), ["since"]);
    alice.get(&format!("{path}?utm_source=x&page_size=100")).await.expect(200);
}

#[tokio::test]
async fn a_cursor_is_good_for_its_own_list_alone() {
    let world = world();
    let (alice, bob) = (world.client("alice"), world.client("bob"));
    let thread = alice.group(&["bob"]).await;
    let other = alice.group(&["bob"]).await;
    let mut said = Vec::new();
    for n in 0..4 {
        said.push(alice.say(&thread, n).await);
        alice.say(&other, n).await;
    }
    let path = format!("/v1/threads/{thread}/messages");
    let cursor_of = async |query: &str| {
        let page = alice.get(&format!("{path}?page_size=1&{query}")).await.expect(200);
        page["next_cursor"].as_str().unwrap().to_owned()
    };
    let newest = cursor_of("").await;
    let since = cursor_of(&format!("since={}", said[0])).await;
    let threads = alice.get("/v1/threads?page_size=1").await.expect(200)["next_cursor"].as_str().unwrap().to_owned();
    alice.get(&format!("{path}?cursor={newest}")).await.expect(200);
    alice.get(&format!("{path}?cursor={since}&since={}", said[0])).await.expect(200);
    let bad = [
        format!("{path}?cursor={newest}x"),
        format!("{path}?cursor={}", &newest[..newest.len() - 1]),
        format!("{path}?cursor="),
        format!("{path}?cursor=%00"),
        format!("{path}?cursor={threads}"),
        format!("{path}?cursor={newest}&since={}", said[0]),
        format!("{path}?cursor={since}&since={}", said[1]),
        format!("{path}?cursor={since}&before={}", said[0]),
        format!("/v1/threads/{other}/messages?cursor={newest}"),
        format!("/v1/threads?cursor={newest}"),
    ];
    for path in bad {
        alice.get(&path).await.problem(400, "invalid_cursor");
    }
    bob.get(&format!("{path}?cursor={newest}")).await.problem(400, "invalid_cursor");
    let mut changed = newest.clone().into_bytes();
    for at in 0..changed.len() {
        let before = changed[at];
        changed[at] = if before == b'A' { b'B' } else { b'A' };
        let text = String::from_utf8(changed.clone()).unwrap();
        alice.get(&format!("{path}?cursor={text}")).await.problem(400, "invalid_cursor");
        changed[at] = before;
    }
}

#[tokio::test]
async fn a_page_too_large_for_what_is_in_flight_is_turned_away() {
    let limits = crate::gateway::AdmissionLimits { answer_bytes: 100_000, ..admission() };
    let world = super::harness::world_with(limits, axum::Router::new());
    let alice = world.client("alice");
    let thread = alice.pair("bob").await;
    let path = format!("/v1/threads/{thread}/messages");
    for n in 0..2 {
        let body = serde_json::json!({"client_seq": n, "ciphertext": "AAAA".repeat(15_000)});
        alice.post_as(&n.to_string(), &path, &body).await.expect(202);
    }
    alice.get(&format!("{path}?page_size=1")).await.expect(200);
    alice.get(&path).await.problem(503, "overloaded");
}
