//! What operators say of a cluster's nodes and shards is done, and what is not safe is refused; a dead node is replaced by
//! itself.

use messenger_tests::cluster::{Cluster, Size};
use messenger_tests::wait;
use serde_json::Value;
use std::collections::BTreeSet;
use std::time::Duration;

/// How long it may take until all is where it should be, on a busy machine.
const SETTLED_WITHIN: Duration = Duration::from_mins(1);

/// What an operator's command comes to: its status and what it says.
fn operate(cluster: &Cluster, arguments: &[&str]) -> (i32, String) {
    let admin = format!("http://{}", cluster.admin_addr(1));
    let all = [&["cluster"], arguments, &["--operator", "dana", "--admin", &admin]].concat();
    let output = cluster.messenger(&all);
    let said = [output.stdout, output.stderr].concat();
    (output.status.code().expect("it exits by itself"), String::from_utf8(said).expect("it is UTF-8"))
}

fn does(cluster: &Cluster, arguments: &[&str]) -> String {
    let (status, said) = operate(cluster, arguments);
    assert_eq!(status, 0, "{arguments:?}: {said}");
    said
}

fn refuses(cluster: &Cluster, arguments: &[&str], named: &str) {
    let (status, said) = operate(cluster, arguments);
    assert!(status == 9 && said.contains(named), "{arguments:?}: {status}: {said}");
}

/// The nodes that a shard is on, those that do not answer too.
fn nodes_of(status: &Value, shard: usize) -> BTreeSet<u64> {
    let rows = status["shards"][shard]["replicas"].as_array().cloned().unwrap_or_default();
    rows.iter().filter_map(|row| row["node"].as_u64()).collect()
}

fn state_of(status: &Value, node: u16) -> String {
    let nodes = status["nodes"].as_array().cloned().unwrap_or_default();
    let row = nodes.iter().find(|row| row["id"] == node);
    row.and_then(|row| row["state"].as_str()).unwrap_or_default().to_owned()
}

fn is_settled(status: &Value) -> bool {
    status["moves"]["in_flight"] == 0 && status["moves"]["to_move"] == 0
}

fn wait_for(cluster: &Cluster, what: &str, reached: impl Fn(&Value) -> bool) -> Value {
    let mut last = Value::Null;
    let status = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        wait::until(what, SETTLED_WITHIN, || {
            last = cluster.status(1);
            reached(&last).then(|| last.clone())
        })
    }));
    status.unwrap_or_else(|_| {
        cluster.print_logs();
        panic!("{what}: {last:#}")
    })
}

fn plan(cluster: &Cluster) -> Vec<Value> {
    let said = does(cluster, &["rebalance", "--dry-run", "--output", "json"]);
    let plan: Value = serde_json::from_str(&said).expect("it is JSON");
    plan["moves"].as_array().cloned().unwrap_or_default()
}

#[test]
fn a_dead_node_is_replaced_by_itself_and_is_one_of_the_cluster_when_it_is_back() {
    let shards = 4;
    let cluster = Cluster::start(Size { nodes: 4, shards });
    for node in 1..=4 {
        let config = std::fs::read_to_string(cluster.config(node)).expect("it has a configuration");
        let hasty = config.replace("[cluster]\n", "[cluster]\nreplace_after_seconds = 2\n");
        assert_ne!(hasty, config);
        std::fs::write(cluster.config(node), hasty).expect("the directory is writable");
        cluster.kill(node);
        cluster.restart(node);
    }
    wait_for(&cluster, "all is settled", |status| is_settled(status) && state_of(status, 4) == "active");
    cluster.kill(4);
    wait_for(&cluster, "what the fourth held is elsewhere", |status| {
        let left = (0..shards as usize).all(|shard| !nodes_of(status, shard).contains(&4));
        left && is_settled(status) && state_of(status, 4) == "absent"
    });
    // Two of three more would be too few: one that dies now stays what it is.
    cluster.kill(3);
    wait_for(&cluster, "it is not heard of", |status| state_of(status, 3) == "unreachable");
    refuses(&cluster, &["replace", "3"], "have another node join first");
    cluster.restart(3);

    cluster.restart(4);
    wait_for(&cluster, "the fourth holds its share again", |status| {
        let held = (0..shards as usize).filter(|shard| nodes_of(status, *shard).contains(&4)).count();
        held >= 3 && is_settled(status) && state_of(status, 4) == "active"
    });
}

#[test]
fn leaders_are_handed_over_and_moves_held_back_as_operators_say() {
    let cluster = Cluster::start(Size { nodes: 3, shards: 6 });
    let leaders = cluster.settled_leaders();
    let other = if leaders[0] == 3 { 1 } else { 3 };
    does(&cluster, &["transfer", "0", &other.to_string()]);
    wait::until("the other one leads", SETTLED_WITHIN, || (cluster.settled_leaders()[0] == other).then_some(()));
    refuses(&cluster, &["transfer", "0", "9"], "has no replica of shard 0; nodes ");
    refuses(&cluster, &["transfer", "60", "1"], "no shard 60");
    assert!(does(&cluster, &["rebalance", "--dry-run"]).contains("all replicas are where they should be"));
    refuses(&cluster, &["replace", "2", "--with", "9"], "have one join first");

    // A fourth comes while moves are paused; one of those that are planned is called off.
    does(&cluster, &["pause"]);
    let _fourth = cluster.join("d", 2);
    let planned = plan(&cluster);
    assert!(planned.len() > 1 && planned.iter().all(|row| row["state"] == "waiting"), "{planned:?}");
    let shard = planned[0]["shard"].as_u64().expect("it has a number");
    let stays = usize::try_from(shard).expect("it is small");
    let before = nodes_of(&cluster.status(1), stays);
    does(&cluster, &["cancel", &shard.to_string()]);
    does(&cluster, &["resume"]);
    wait::until("all others have moved", SETTLED_WITHIN, || {
        let called_off = |row: &Value| row["state"] == "cancelled" && row["shard"] == shard;
        plan(&cluster).iter().all(called_off).then_some(())
    });
    assert_eq!(nodes_of(&cluster.status(1), stays), before);
    does(&cluster, &["rebalance"]);
    wait_for(&cluster, "that one is where it should be, too", is_settled);
    assert!(plan(&cluster).is_empty());
    does(&cluster, &["replace", "2"]);
    wait_for(&cluster, "nothing is left on the second", |status| {
        is_settled(status) && (0..6).all(|shard| !nodes_of(status, shard).contains(&2))
    });
    does(&cluster, &["remove", "2"]);

    let admin = format!("http://{}", cluster.admin_addr(1));
    let audit = cluster.messenger(&["audit", "--admin", &admin, "--output", "json"]);
    let audit = String::from_utf8_lossy(&audit.stdout).into_owned();
    for route in
        ["shards/{shard_id}/transfer", "shards/{shard_id}/cancel", "moves/rebalance", "nodes/{node_id}/replace"]
    {
        assert!(audit.contains(route), "{route}: {audit}");
    }
    assert!(audit.contains("\"target_shard\":0") && audit.contains("\"operator\":\"dana\""), "{audit}");
}
