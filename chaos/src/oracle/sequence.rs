//! A thread's event numbers have no gaps, ids increase with them, and every node tells the same history.
//!
//! Owns: this one check.
//! Must not know: what other invariants ask.
//! Invariants: the workload changes no membership once it sends, so its messages' numbers are consecutive.

use crate::history::Record;

/// What breaks the invariant.
#[must_use]
pub fn check(record: &Record) -> Vec<String> {
    let mut broken = Vec::new();
    for (thread, nodes) in &record.told {
        for (node, history) in nodes {
            for pair in history.windows(2) {
                let [earlier, later] = pair else { continue };
                if later.seq != earlier.seq + 1 {
                    broken.push(format!("node {node}: {} follows {} in {thread}", later.seq, earlier.seq));
                }
                if later.id <= earlier.id {
                    broken.push(format!("node {node}: {} follows {} in {thread}", later.id, earlier.id));
                }
            }
        }
        let mut told = nodes.iter();
        let Some((first, reference)) = told.next() else {
            broken.push(format!("no node told the history of {thread}"));
            continue;
        };
        for (node, history) in told {
            if history == reference {
                continue;
            }
            let same = history.iter().zip(reference).take_while(|(own, other)| own == other).count();
            let (own, other) = (history.get(same), reference.get(same));
            broken.push(format!("{thread} at place {same}: node {node} tells {own:?}, node {first} {other:?}"));
        }
    }
    broken
}
