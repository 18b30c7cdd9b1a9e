//! What operators see of abuse and do about it: the audit log of all nodes, suspensions, reports, and who sends how much.

use bytes::Bytes;
use http::Method;
use messenger_tests::cluster::{Cluster, Size};
use messenger_tests::device::{Device, base64, text, unique};
use messenger_tests::http::{Answer, Http};
use messenger_tests::socket::{Refused, Socket, handshake};
use messenger_tests::wait::{PATIENCE, eventually};
use serde_json::{Value, json};
use std::fs;
use std::path::PathBuf;
use std::process::Output;

/// What no file of any log may hold.
const CANARY: &str = "canary-that-nobody-else-sings";

fn admin_url(cluster: &Cluster, node: u16) -> String {
    format!("http://{}", cluster.admin_addr(node))
}

async fn admin(cluster: &Cluster, node: u16, path: &str) -> Value {
    ask(cluster, node, Method::GET, path).await.expect(200)
}

async fn ask(cluster: &Cluster, node: u16, method: Method, path: &str) -> Answer {
    let headers = [("x-operator", "dana")];
    Http::new(cluster.admin_addr(node)).request(method, path, &headers, Bytes::new()).await.expect("an answer")
}

/// Every record that fits, page by page, and the nodes that did not answer.
async fn records(cluster: &Cluster, node: u16, filters: &str) -> (Vec<Value>, Vec<Value>) {
    let (mut all, mut cursor) = (Vec::new(), String::new());
    loop {
        let page = admin(cluster, node, &format!("/admin/audit?page_size=7&{filters}{cursor}")).await;
        all.extend(page["records"].as_array().expect("records are a list").iter().cloned());
        let Some(next) = page["next_cursor"].as_str() else {
            return (all, page["unanswered"].as_array().expect("a list").clone());
        };
        cursor = format!("&cursor={next}");
    }
}

/// The records that fit, once there are so many.
async fn settled(cluster: &Cluster, node: u16, filters: &str, count: usize) -> Vec<Value> {
    eventually("the records are there", || async {
        let (records, _) = records(cluster, node, filters).await;
        assert!(records.len() <= count, "{records:#?}");
        (records.len() == count).then_some(records)
    })
    .await
}

fn audit_files(cluster: &Cluster, node: u16) -> Vec<PathBuf> {
    let dir = cluster.node_directory(node).join("data/audit");
    let entries = fs::read_dir(dir).expect("a node keeps a log").map(|entry| entry.expect("readable").path());
    entries.collect()
}

fn said(output: &Output) -> String {
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout.clone()).expect("it prints text")
}

fn verify(cluster: &Cluster, node: u16) -> Output {
    let dir = cluster.node_directory(node).join("data");
    cluster.messenger(&["audit", "verify", &dir.to_string_lossy()])
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn writes_through_all_nodes_are_found_through_any_and_survive_kill_nine() {
    let cluster = Cluster::start(Size { nodes: 3, shards: 6 });
    let (alice, bob, eve) = (unique("alice"), unique("bob"), unique("eve"));
    let hers: Vec<Device> = cluster.nodes().map(|node| cluster.device(node, &alice, &format!("phone{node}"))).collect();
    let thread = hers[0].one_to_one(&bob).await;
    let mut sent = Vec::new();
    for device in &hers {
        sent.push(text(&device.send(&thread, CANARY).await, "id"));
    }
    let mut live = hers[1].connect().await;
    let _replayed = live.catch_up().await;
    let frame =
        json!({"t": "send", "request_id": CANARY, "thread_id": thread, "client_seq": 99, "ciphertext": base64(CANARY)});
    live.say(&frame).await;
    sent.push(text(&live.next_of("sent").await, "id"));
    live.say(&json!({"t": "read", "thread_id": thread, "up_to": sent[0]})).await;
    live.say(&json!({"t": "send", "thread_id": CANARY})).await;
    let _refused = live.next_of("error").await;
    let stranger = cluster.device(3, &eve, "phone");
    let refused = stranger.try_send(&thread, "k", 1, CANARY).await.expect("an answer");
    let problem = refused.expect_problem(403, "not_a_member");

    // A thread made, three messages by request and one by frame, a read, and a frame that is none.
    let filters = format!("user={alice}");
    for node in cluster.nodes() {
        let all = settled(&cluster, node, &filters, 7).await;
        let told: Vec<_> = all.iter().filter_map(|record| record["message_id"].as_str()).take(4).collect();
        assert_eq!(told, sent, "in the order of time, through node {node}");
        assert!(all.windows(2).all(|pair| pair[0]["at"].as_str() <= pair[1]["at"].as_str()));
        assert!(all.iter().all(|record| record["address"] == "127.0.0.1" && record["user"] == json!(alice)));
    }
    let theirs = settled(&cluster, 1, &format!("user={eve}"), 1).await;
    assert_eq!((&theirs[0]["status"], &theirs[0]["code"]), (&json!(403), &json!("not_a_member")));
    assert_eq!(theirs[0]["trace_id"], problem["trace_id"]);
    let top = admin(&cluster, 2, &format!("/admin/senders?user={alice}")).await;
    let counts = &top["senders"][0];
    assert_eq!((&counts["sends"], &counts["recipients"], &counts["new_threads"]), (&json!(4), &json!(4), &json!(1)));

    let url = admin_url(&cluster, 2);
    let listed = cluster.messenger(&["audit", "--since", "1h", "--user", &alice, "--output", "json", "--admin", &url]);
    assert_eq!(said(&listed).lines().count(), 7);

    cluster.kill(1);
    let (rest, silent) = records(&cluster, 2, &filters).await;
    assert_eq!((rest.len(), silent), (5, vec![json!(1)]), "of the others, and it is said whose are missing");
    cluster.restart(1);
    assert_eq!(settled(&cluster, 3, &filters, 7).await.len(), 7, "what was recorded is there again");
    for node in cluster.nodes() {
        let _found = said(&verify(&cluster, node));
        for file in audit_files(&cluster, node) {
            let held = fs::read_to_string(&file).expect("readable");
            for secret in [CANARY, &base64(CANARY), &hers[0].token] {
                assert!(!held.contains(secret), "{} holds {secret}", file.display());
            }
        }
    }

    // Whatever is changed shows.
    let file = audit_files(&cluster, 3).into_iter().find(|file| file.to_string_lossy().contains("writes-"));
    let file = file.expect("node 3 took a write");
    let held = fs::read_to_string(&file).expect("readable");
    fs::write(&file, held.replacen(&alice, &eve, 1)).expect("writable");
    let found = verify(&cluster, 3);
    assert_eq!(found.status.code(), Some(6), "{found:?}");
}

async fn refused_everywhere(cluster: &Cluster, device: &Device) {
    for node in cluster.nodes() {
        let at = device.at(cluster.client_addr(node));
        eventually("a suspension is in force", || async {
            let answer = at.get("/v1/threads").await;
            (answer.status == 401).then(|| answer.expect_problem(401, "suspended"))
        })
        .await;
        let again = Socket::try_open(at.http.addr(), handshake(at.http.addr(), "", Some(&at.token))).await;
        assert!(matches!(again, Err(Refused::Status(401, _))), "{again:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_is_suspended_is_out_on_all_nodes_and_finds_what_was_sent_meanwhile() {
    let cluster = Cluster::shared();
    let (alice, bob) = (unique("alice"), unique("bob"));
    let hers = cluster.device(3, &alice, "phone");
    let (phone, tablet) = (cluster.device(1, &bob, "phone"), cluster.device(2, &bob, "tablet"));
    let thread = hers.one_to_one(&bob).await;
    let (mut first, mut second) = (phone.connect().await, tablet.connect().await);
    for socket in [&mut first, &mut second] {
        let _replayed = socket.catch_up().await;
    }
    let state = ask(cluster.as_ref(), 3, Method::POST, &format!("/admin/users/{bob}/suspend")).await.expect(200);
    assert_eq!((&state["user_id"], &state["suspended"], &state["known"]), (&json!(bob), &json!(true), &json!(true)));
    for socket in [&mut first, &mut second] {
        assert_eq!(socket.closed_within(PATIENCE).await, Some(4401));
    }
    refused_everywhere(&cluster, &phone).await;
    let message = text(&hers.send(&thread, "are you there?").await, "id");

    let url = admin_url(&cluster, 1);
    let shown = said(&cluster.messenger(&["user", "show", &bob, "--operator", "eve", "--admin", &url]));
    assert!(shown.contains("is suspended since") && !shown.contains("knows no thread"), "{shown}");
    let slip = said(&cluster.messenger(&["user", "suspend", &unique("bbo"), "--operator", "sam", "--admin", &url]));
    assert!(slip.contains("is suspended since") && slip.contains("knows no thread and no device"), "{slip}");
    let _lifted = said(&cluster.messenger(&["user", "unsuspend", &bob, "--operator", "sam", "--admin", &url]));
    for (node, device) in [(3, &phone), (1, &tablet)] {
        let at = device.at(cluster.client_addr(node));
        let mut socket = eventually("it is lifted", || async {
            let answer = at.get("/v1/threads").await;
            if answer.status == 200 { Some(at.connect().await) } else { None }
        })
        .await;
        assert_eq!(text(&socket.next_of("msg").await, "id"), message, "kept, and delivered now");
    }

    // One device alone.
    let switch = format!("/admin/users/{bob}/devices/phone/suspend");
    let state = ask(&cluster, 2, Method::POST, &switch).await.expect(200);
    assert_eq!((&state["suspended"], &state["devices"][0]["device_id"]), (&json!(false), &json!("phone")));
    refused_everywhere(&cluster, &phone).await;
    let _threads = tablet.get("/v1/threads").await.expect(200);

    let nameless = Http::new(cluster.admin_addr(1)).request(Method::POST, &switch, &[], Bytes::new()).await;
    let _problem = nameless.expect("an answer").expect(400);
    let all = settled(&cluster, 1, &format!("user={bob}&status=200"), 4).await;
    let operators: Vec<_> = all.iter().map(|record| (record["operator"].clone(), record["route"].clone())).collect();
    let route = |what: &str| json!(format!("/admin/users/{{user_id}}/{what}"));
    assert_eq!(
        operators,
        [
            (json!("dana"), route("suspend")),
            (json!("eve"), json!("/admin/users/{user_id}")),
            (json!("sam"), route("unsuspend")),
            (json!("dana"), route("devices/{device_id}/suspend")),
        ]
    );
    assert_eq!(settled(&cluster, 2, &format!("user={bob}&status=400"), 1).await.len(), 1, "an attempt, too");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_report_through_any_node_reaches_the_operators() {
    let cluster = Cluster::shared();
    let (alice, bob) = (unique("alice"), unique("bob"));
    let (hers, his) = (cluster.device(1, &alice, "phone"), cluster.device(2, &bob, "phone"));
    let thread = his.one_to_one(&alice).await;
    let message = his.send(&thread, CANARY).await;
    let body = json!({"message_id": message["id"], "reason": "abuse", "note": "see above"});
    let mut ids = Vec::new();
    for node in cluster.nodes() {
        let key = [("idempotency-key", "one report")];
        let answer = hers.at(cluster.client_addr(node)).post("/v1/reports", &key, &body).await;
        ids.push(text(&answer.expect(202), "report_id"));
    }
    assert!(ids.iter().all(|id| *id == ids[0]), "a repeat through another node is the same report: {ids:?}");
    let (mut mine, mut cursor) = (Vec::new(), String::new());
    loop {
        let page = admin(&cluster, 3, &format!("/admin/reports?page_size=1{cursor}")).await;
        assert_eq!(page["unanswered_shards"], json!([]));
        let reports = page["reports"].as_array().expect("a list");
        mine.extend(reports.iter().filter(|report| report["reporter"] == json!(alice)).cloned());
        let Some(next) = page["next_cursor"].as_str() else { break };
        cursor = format!("&cursor={next}");
    }
    assert_eq!(mine.len(), 1);
    let report = &mine[0];
    assert_eq!(
        (&report["report_id"], &report["reason"], &report["note"]),
        (&json!(ids[0]), &json!("abuse"), &json!("see above"))
    );
    assert_eq!(
        (&report["sender_id"], &report["seq"], &report["thread_id"]),
        (&json!(bob), &message["seq"], &json!(thread))
    );
    assert_eq!(report["sent_at"], message["created_at"]);
    assert!(!report.to_string().contains(&base64(CANARY)));
    let listed = said(&cluster.messenger(&["reports", "--since", "1h", "--admin", &admin_url(&cluster, 2)]));
    assert!(listed.contains(&ids[0]) && listed.contains("see above"), "{listed}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_operators_look_at_is_recorded_without_what_they_looked_for() {
    let cluster = Cluster::shared();
    let (name, nobody) = (unique("dana"), unique("nobody"));
    let headers = [("x-operator", name.as_str())];
    let asked = ["audit", "senders", "reports"].map(|what| format!("/admin/{what}?page_size=1"));
    for (node, path) in (1..).zip(&asked) {
        let http = Http::new(cluster.admin_addr(node));
        let _page = http.request(Method::GET, path, &headers, Bytes::new()).await.expect("an answer").expect(200);
    }
    let http = Http::new(cluster.admin_addr(1));
    let path = format!("/admin/audit?user={nobody}&since=soon");
    let _problem = http.request(Method::GET, &path, &headers, Bytes::new()).await.expect("an answer").expect(400);
    // Others ask, too, and each look leaves a record: a list ends all the same.
    let mine = eventually("the records are there", || async {
        let (all, _) = records(&cluster, 2, "since=2020-01-01T00:00:00Z").await;
        let mine: Vec<_> = all.into_iter().filter(|record| record["operator"] == json!(name)).collect();
        (mine.len() == 4).then_some(mine)
    })
    .await;
    // Those of one millisecond are in any order: they are of several nodes.
    let mut routes: Vec<_> = mine.iter().map(|record| (text(record, "route"), record["status"].as_u64())).collect();
    routes.sort();
    let expected = [("audit", 200), ("audit", 400), ("reports", 200), ("senders", 200)];
    assert_eq!(routes, expected.map(|(what, status)| (format!("/admin/{what}"), Some(status))));
    for record in &mine {
        assert_eq!((&record["kind"], &record["method"]), (&json!("operator"), &json!("GET")), "{record}");
        assert!(record["address"].is_string() && record["at"].is_string(), "{record}");
        assert!(!record.to_string().contains(&nobody), "{record}");
    }
    let page = Http::new(cluster.admin_addr(1));
    let (mut cursor, mut pages) = (String::new(), 0);
    let since = text(&mine[0], "at");
    // Records of this very list don't keep it going.
    loop {
        let path = format!("/admin/audit?page_size=1&since={since}{cursor}");
        let answer = page.request(Method::GET, &path, &headers, Bytes::new()).await.expect("an answer").expect(200);
        pages += 1;
        let Some(next) = answer["next_cursor"].as_str() else { break };
        cursor = format!("&cursor={next}");
    }
    assert!(pages >= 4, "{pages}");
    let listed = said(&cluster.messenger(&["audit", "--since", "1h", "--admin", &admin_url(&cluster, 1)]));
    assert!(listed.contains(&format!("operator {name}")) && listed.contains("GET /admin/senders"), "{listed}");
}
