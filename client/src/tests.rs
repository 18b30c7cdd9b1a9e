//! The client against a tiny cluster, over real sockets.

use crate::testing::{FakeCluster, Fault, NOW, THREAD, encoded, minted};
use crate::*;
use messenger_proto::ids::{ClientSeq, DeviceId, MessageId, ThreadId, UserId};
use serde_json::json;
use std::time::Duration;

fn rest(servers: Servers) -> Rest {
    let pause = Pause { first: Duration::from_millis(2), ceiling: Duration::from_millis(20) };
    Rest::new(RestConfig { pause, ..RestConfig::new(servers, minted("alice")) })
}

fn live(servers: Servers) -> Live {
    let pause = Pause { first: Duration::from_millis(2), ceiling: Duration::from_millis(20) };
    let device = DeviceId::new("phone").unwrap();
    Live::connect(LiveConfig { pause, ..LiveConfig::new(servers, minted("alice"), device) })
}

fn thread() -> ThreadId {
    THREAD.parse().unwrap()
}

fn draft(number: u64, text: &str) -> Draft {
    Draft::new(ClientSeq(number), text.as_bytes().to_vec())
}

async fn next(live: &mut Live) -> LiveEvent {
    tokio::time::timeout(Duration::from_secs(20), live.next()).await.expect("within 20 s").expect("not over")
}

/// The next event that is not about the connection.
async fn next_frame(live: &mut Live) -> ServerFrame {
    loop {
        match next(live).await {
            LiveEvent::Frame(ServerFrame::CaughtUp) | LiveEvent::Connected { .. } | LiveEvent::Disconnected { .. } => {}
            LiveEvent::Frame(frame) => return frame,
            LiveEvent::Ended(reason) => panic!("{reason}"),
        }
    }
}

async fn next_message(live: &mut Live) -> MessageId {
    match next_frame(live).await {
        ServerFrame::Message(message) => message.id,
        other => panic!("{other:?}"),
    }
}

async fn connected(live: &mut Live) {
    while !matches!(next(live).await, LiveEvent::Frame(ServerFrame::CaughtUp)) {}
}

#[tokio::test]
async fn calls_are_typed_and_share_a_connection() {
    let cluster = FakeCluster::start(1).await;
    let rest = rest(cluster.servers());
    let made = rest.create_thread(&NewThread::one_to_one(&UserId::new("bob").unwrap()), "k").await.unwrap();
    assert_eq!(made.id, thread());
    let mut ids = Vec::new();
    for number in 0..10 {
        let sent = rest.send(thread(), &draft(number, "hi")).await.unwrap();
        assert!(!sent.replayed);
        ids.push(sent.message.id);
    }
    let mut query = HistoryQuery { page_size: Some(4), ..HistoryQuery::default() };
    let mut read = Vec::new();
    loop {
        let page = rest.messages(thread(), &query).await.unwrap();
        read.extend(page.messages.into_iter().map(|message| message.id));
        query.cursor = page.next_cursor;
        if query.cursor.is_none() {
            break;
        }
    }
    read.reverse();
    assert_eq!(read, ids);
    assert_eq!(rest.recipients(ids[0]).await.unwrap()[0].state, "READ");
    assert_eq!(rest.threads(None, None).await.unwrap().threads[0].unread_count, 3);
    assert_eq!(cluster.memory().connections, 1);
}

#[tokio::test]
async fn a_lost_answer_is_asked_for_again_under_the_same_key() {
    let cluster = FakeCluster::start(2).await;
    let rest = rest(cluster.servers());
    cluster.fault(Fault::LoseAnswer);
    let sent = rest.send(thread(), &draft(1, "hi")).await.unwrap();
    assert!(sent.replayed);
    let memory = cluster.memory();
    assert_eq!(memory.messages.len(), 1);
    assert_eq!(memory.keys.len(), 2);
    assert_eq!(memory.keys[0], memory.keys[1]);
}

#[tokio::test]
async fn a_passing_refusal_is_tried_elsewhere_and_a_final_one_is_not() {
    let cluster = FakeCluster::start(2).await;
    let rest = rest(cluster.servers());
    cluster.fault(Fault::Refuse(503, "unavailable"));
    cluster.fault(Fault::Refuse(503, "outcome_unknown"));
    rest.send(thread(), &draft(1, "hi")).await.unwrap();
    assert_eq!(cluster.memory().keys.len(), 3);
    assert_eq!(cluster.memory().messages.len(), 1);
    cluster.fault(Fault::Refuse(403, "not_a_member"));
    let error = rest.send(thread(), &draft(2, "hi")).await.unwrap_err();
    assert_eq!(error.problem().unwrap().code, "not_a_member");
    assert_eq!(cluster.memory().keys.len(), 4);
}

#[tokio::test]
async fn a_dead_server_is_passed_over() {
    let cluster = FakeCluster::start(1).await;
    let rest = rest(cluster.servers_after_a_dead_one().await);
    rest.send(thread(), &draft(1, "hi")).await.unwrap();
    assert_eq!(cluster.memory().messages.len(), 1);
}

#[tokio::test]
async fn a_call_ends_by_its_deadline_and_says_whether_it_may_have_had_effects() {
    let cluster = FakeCluster::start(1).await;
    let mut config = RestConfig::new(cluster.servers(), minted("alice"));
    config.deadline = Duration::from_millis(200);
    let rest = Rest::new(config);
    for _ in 0..100 {
        cluster.fault(Fault::Refuse(503, "unavailable"));
    }
    let error = rest.send(thread(), &draft(1, "hi")).await.unwrap_err();
    assert_eq!(error.code(), "unavailable");
    assert!(!error.may_have_had_effects());
    cluster.memory().faults.clear();
    cluster.fault(Fault::LoseAnswer);
    for _ in 0..100 {
        cluster.fault(Fault::Refuse(503, "unavailable"));
    }
    assert!(rest.send(thread(), &draft(2, "hi")).await.unwrap_err().may_have_had_effects());
}

#[tokio::test]
async fn an_expired_token_is_minted_anew_once() {
    let cluster = FakeCluster::start(1).await;
    let rest = rest(cluster.servers());
    cluster.fault(Fault::Refuse(401, "token_expired"));
    rest.send(thread(), &draft(1, "hi")).await.unwrap();
    cluster.fault(Fault::Refuse(401, "unauthenticated"));
    cluster.fault(Fault::Refuse(401, "unauthenticated"));
    let error = rest.send(thread(), &draft(2, "hi")).await.unwrap_err();
    assert_eq!(error.problem().unwrap().status, 401);
}

#[tokio::test]
async fn messages_arrive_once_and_are_acknowledged_when_taken() {
    let cluster = FakeCluster::start(1).await;
    let mut live = live(cluster.servers());
    connected(&mut live).await;
    let (one, two) = (cluster.say("bob", "one"), cluster.say("bob", "two"));
    cluster.repeat(one);
    let three = cluster.say("bob", "three");
    assert_eq!(next_message(&mut live).await, one);
    assert_eq!(next_message(&mut live).await, two);
    assert_eq!(next_message(&mut live).await, three);
    // The third is given, not yet taken: frames are hello, caught_up, one, two, one, three.
    let acked = |memory: &testing::Memory, upto: u64| {
        let seqs = memory.frames.iter().filter(|frame| frame["t"] == "client_ack").map(|f| f["frame_seq"].as_u64());
        seqs.max().flatten().filter(|seq| *seq >= upto)
    };
    assert_eq!(cluster.until(|memory| acked(memory, 5)).await, 5);
    live.close().await;
    assert_eq!(cluster.until(|memory| acked(memory, 6)).await, 6);
}

#[tokio::test]
async fn a_send_survives_the_connection_it_was_written_to() {
    let cluster = FakeCluster::start(2).await;
    let mut live = live(cluster.servers());
    connected(&mut live).await;
    cluster.fault(Fault::LoseAnswer);
    let sender = live.sender();
    let sending = tokio::spawn(async move { sender.send(thread(), draft(1, "hi")).await });
    let lost = loop {
        match next(&mut live).await {
            LiveEvent::Disconnected { reason } => break reason,
            LiveEvent::Frame(_) => {}
            other => panic!("{other:?}"),
        }
    };
    assert!(!lost.is_empty());
    let LiveEvent::Connected { server, .. } = next(&mut live).await else { panic!("not connected again") };
    assert_eq!(server, cluster.servers().at(1).to_string());
    let sent = sending.await.unwrap().unwrap();
    assert!(sent.replayed);
    let memory = cluster.memory();
    assert_eq!((memory.messages.len(), memory.keys.len()), (1, 2));
    assert_eq!(memory.keys[0], memory.keys[1]);
}

#[tokio::test]
async fn a_refused_send_is_tried_again_if_that_may_help() {
    let cluster = FakeCluster::start(1).await;
    let live = live(cluster.servers());
    // Faults wait for the first send: connecting takes none of them.
    let mut live = {
        let mut live = live;
        connected(&mut live).await;
        live
    };
    cluster.fault(Fault::Refuse(503, "unavailable"));
    live.send(thread(), draft(1, "hi")).await.unwrap();
    assert_eq!(cluster.memory().keys.len(), 2);
    cluster.fault(Fault::Refuse(403, "not_a_member"));
    let error = live.send(thread(), draft(2, "hi")).await.unwrap_err();
    assert_eq!(error.code(), "not_a_member");
    assert!(matches!(next_frame(&mut live).await, ServerFrame::Message(_)));
}

#[tokio::test]
async fn resume_names_the_newest_message_taken() {
    let cluster = FakeCluster::start(1).await;
    let mut live = live(cluster.servers());
    connected(&mut live).await;
    let id = cluster.say("bob", "one");
    assert_eq!(next_message(&mut live).await, id);
    cluster.fault(Fault::LoseAnswer);
    let sender = live.sender();
    let sending = tokio::spawn(async move { sender.send(thread(), draft(1, "hi")).await });
    // Asking for the next event takes the first message; the break follows.
    while !matches!(next(&mut live).await, LiveEvent::Connected { .. }) {}
    sending.await.unwrap().unwrap();
    let resumes = cluster.memory().resumes.clone();
    assert_eq!(resumes[0], None);
    assert!(resumes[1].as_ref().is_some_and(|seen| *seen >= id.to_string()), "{resumes:?}");
}

#[tokio::test]
async fn a_replaced_device_stays_away() {
    let cluster = FakeCluster::start(1).await;
    cluster.fault(Fault::Close(CloseReason::REPLACED));
    let mut live = live(cluster.servers());
    let reason = loop {
        if let LiveEvent::Ended(reason) = next(&mut live).await {
            break reason;
        }
    };
    assert_eq!(reason, EndReason::Replaced);
    assert_eq!(live.next().await, None);
    assert_eq!(live.send(thread(), draft(1, "hi")).await.unwrap_err().code(), "closed");
    assert_eq!(cluster.memory().resumes.len(), 1);
}

#[tokio::test]
async fn a_draining_node_is_left_for_another() {
    let cluster = FakeCluster::start(2).await;
    cluster.fault(Fault::Close(1001));
    let mut live = live(cluster.servers());
    let mut servers = Vec::new();
    while servers.len() < 2 {
        if let LiveEvent::Connected { server, .. } = next(&mut live).await {
            servers.push(server);
        }
    }
    let all = cluster.servers();
    assert_eq!(servers, [all.at(0).to_string(), all.at(1).to_string()]);
}

#[tokio::test]
async fn a_token_that_is_not_accepted_ends_the_connection() {
    let cluster = FakeCluster::start(1).await;
    cluster.fault(Fault::Refuse(401, "token_expired"));
    let mut renewing = live(cluster.servers());
    connected(&mut renewing).await;
    cluster.fault(Fault::Refuse(401, "unauthenticated"));
    cluster.fault(Fault::Refuse(401, "unauthenticated"));
    let mut refused = live(cluster.servers());
    let reason = loop {
        if let LiveEvent::Ended(reason) = next(&mut refused).await {
            break reason;
        }
    };
    assert!(matches!(reason, EndReason::Unauthenticated(_)), "{reason}");
}

#[tokio::test]
async fn pings_are_answered() {
    let cluster = FakeCluster::start(1).await;
    let mut live = live(cluster.servers());
    connected(&mut live).await;
    cluster.show(serde_json::json!({"t": "ping"}));
    cluster.until(|memory| memory.frames.iter().any(|frame| frame["t"] == "pong").then_some(())).await;
}

#[tokio::test]
async fn read_marks_are_written() {
    let cluster = FakeCluster::start(1).await;
    let live = live(cluster.servers());
    live.read(thread(), MessageId(9)).await;
    let read = cluster.until(|memory| memory.frames.iter().find(|frame| frame["t"] == "read").cloned()).await;
    assert_eq!(read["up_to"], MessageId(9).to_string());
}

#[tokio::test]
async fn sends_that_wait_are_bounded_and_closing_does_not_wait_for_them() {
    let cluster = FakeCluster::start(1).await;
    let mut config = LiveConfig::new(cluster.servers(), minted("alice"), DeviceId::new("phone").unwrap());
    config.pause.first = Duration::from_mins(1);
    config.pause.ceiling = Duration::from_mins(1);
    let mut live = Live::connect(config);
    connected(&mut live).await;
    cluster.fault(Fault::Refuse(503, "unavailable"));
    let (sender, mut waiting) = (live.sender(), Vec::new());
    // The first is to be tried again in a minute, and holds up the others once that is known.
    waiting.push(sender.begin(thread(), draft(0, "hi")).await.unwrap());
    cluster.until(|memory| (memory.keys.len() == 1).then_some(())).await;
    cluster.show(serde_json::json!({"t": "ping"}));
    cluster.until(|memory| memory.frames.iter().any(|frame| frame["t"] == "pong").then_some(())).await;
    while waiting.len() < 2 * (crate::outbox::SENDS_MAX + crate::live::COMMANDS_MAX) {
        let begun = sender.begin(thread(), draft(waiting.len() as u64, "hi"));
        match tokio::time::timeout(Duration::from_millis(500), begun).await {
            Ok(sending) => waiting.push(sending.unwrap()),
            Err(_) => break,
        }
    }
    assert!(waiting.len() <= crate::outbox::SENDS_MAX + crate::live::COMMANDS_MAX + 1, "{}", waiting.len());
    tokio::time::timeout(Duration::from_secs(2), live.close()).await.expect("at once");
}

#[tokio::test]
async fn what_a_gap_leaves_out_is_read_whole_and_no_further_than_once() {
    let cluster = FakeCluster::start(1).await;
    let mut first = live(cluster.servers());
    connected(&mut first).await;
    let known: Vec<MessageId> = ["one", "two", "three"].map(|text| cluster.say("bob", text)).to_vec();
    for id in &known {
        assert_eq!(next_message(&mut first).await, *id);
    }
    // While it is away, more happens than is replayed, to what it has as well.
    first.close().await;
    let acked = |frame: &serde_json::Value| frame["t"] == "client_ack" && frame["frame_seq"] == 5;
    cluster.until(|memory| memory.frames.iter().any(acked).then_some(())).await;
    let missed: Vec<MessageId> = (0..350).map(|number| cluster.say("bob", &format!("missed {number}"))).collect();
    let edit = |id: MessageId| {
        let members = json!({"ciphertext": encoded("edited"), "edited_at": NOW});
        cluster.change(event("edit", id, members));
    };
    edit(known[0]);
    cluster.change(event("del", missed[5], json!({"reason": "sender"})));
    edit(missed[7]);
    let tail: Vec<MessageId> = (0..20).map(|number| cluster.say("bob", &format!("tail {number}"))).collect();
    cluster.memory().replayed_max = Some(20);

    let device = DeviceId::new("phone").unwrap();
    let config = LiveConfig::new(cluster.servers(), minted("alice"), device);
    let mut back = Live::connect(LiveConfig { last_seen: known.last().copied(), ..config.clone() });
    let ServerFrame::Gap(gap) = next_frame(&mut back).await else { panic!("more was missed than is replayed") };
    assert_eq!(gap.after_seq, known.len() as u64);
    let rest = rest(cluster.servers());
    let (mut read, mut pages, mut reader) = (Vec::new(), 0, GapReader::of(&gap));
    while let Some(page) = reader.next(&rest).await.unwrap() {
        read.extend(page);
        pages += 1;
        // The connection breaks, and the same gap comes again.
        reader = if pages == 2 { GapReader::resume(Some(reader), &gap) } else { reader };
    }
    assert_eq!(pages, 4, "nothing is read twice");
    let untouched = |id: &&MessageId| ![missed[5], missed[7]].contains(id);
    let mut expected: Vec<MessageId> = missed.iter().filter(untouched).copied().collect();
    expected.extend([known[0], missed[5], missed[7]]);
    expected.extend(&tail);
    assert_eq!(read.iter().map(|message| message.id).collect::<Vec<_>>(), expected, "in the order of changes");
    let now = |id: MessageId| read.iter().find(|message| message.id == id).unwrap();
    assert_eq!(now(known[0]).ciphertext.as_deref(), Some(b"edited".as_slice()));
    assert!(now(missed[5]).deleted && now(missed[5]).ciphertext.is_none());
    for id in &tail {
        assert_eq!(next_message(&mut back).await, *id, "the newest follow");
    }
    assert!(GapReader::resume(Some(reader.clone()), &gap).next(&rest).await.unwrap().is_some(), "there may be more");
    assert!(reader.next(&rest).await.unwrap().is_none());
    // What the gap covers is acknowledged with it.
    back.close().await;
    let mut again = Live::connect(LiveConfig { last_seen: tail.last().copied(), ..config });
    connected(&mut again).await;
    cluster.say("bob", "news");
    assert!(matches!(next_frame(&mut again).await, ServerFrame::Message(_)));
}

fn event(kind: &str, id: MessageId, members: serde_json::Value) -> serde_json::Value {
    let mut frame = json!({"t": kind, "id": id.to_string(), "thread_id": THREAD, "seq": 1_000, "at": NOW});
    if let (Some(frame), serde_json::Value::Object(members)) = (frame.as_object_mut(), members) {
        frame.extend(members);
    }
    frame
}
