//! Who sends the most.
//!
//! Owns: `GET /admin/senders`: adding up what all nodes counted.
//! Must not know: how a node counts.
//! Invariants: nothing of what is sent; a node that does not answer is named. Each node answers with more than is asked for,
//! so that who is spread over nodes is found, but whoever is far down everywhere may be missing.

use super::Office;
use super::answer::{Asked, Problem, json};
use crate::operator_api::{FanOut, SenderRow, Senders};
use axum::extract::State;
use axum::http::Uri;
use axum::response::Response;
use messenger_proto::audit::{SenderCounts, SendersAnswer, SendersOrder, SendersQuery};
use messenger_proto::ids::UserId;
use messenger_proto::rpc::NodeCall;
use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::sync::Arc;

/// Of each node so many times what is asked for.
const DEEPER: u32 = 5;

fn row(counts: &SenderCounts) -> SenderRow {
    let size = |n: usize| counts.fan_out.get(n).copied().unwrap_or(0);
    SenderRow {
        user_id: counts.user.to_string(),
        sends: counts.sends,
        peak_sends_per_minute: f64::from(u32::try_from(counts.peak_sends).unwrap_or(u32::MAX)) / 10.0,
        recipients: counts.recipients,
        recipients_max: counts.recipients_max,
        fan_out: FanOut { one: size(0), few: size(1), many: size(2), most: size(3) },
        new_threads: counts.new_threads,
        refused: counts.refused,
    }
}

/// Adds up what nodes counted of the same user.
fn sum(answers: impl IntoIterator<Item = SenderCounts>) -> BTreeMap<UserId, SenderCounts> {
    let mut all: BTreeMap<UserId, SenderCounts> = BTreeMap::new();
    for counts in answers {
        match all.entry(counts.user.clone()) {
            Entry::Vacant(vacant) => drop(vacant.insert(counts)),
            Entry::Occupied(mut known) => {
                let known = known.get_mut();
                known.sends = known.sends.saturating_add(counts.sends);
                known.peak_sends = known.peak_sends.saturating_add(counts.peak_sends);
                known.recipients = known.recipients.saturating_add(counts.recipients);
                known.recipients_max = known.recipients_max.max(counts.recipients_max);
                for (known, more) in known.fan_out.iter_mut().zip(counts.fan_out) {
                    *known = known.saturating_add(more);
                }
                known.new_threads = known.new_threads.saturating_add(counts.new_threads);
                known.refused = known.refused.saturating_add(counts.refused);
            }
        }
    }
    all
}

/// `GET /admin/senders`
pub(super) async fn top(State(office): State<Arc<Office>>, uri: Uri) -> Result<Response, Problem> {
    let mut asked = Asked::of(&uri)?;
    let user = asked.id("user");
    let order = asked.take("by", "must be one of sends, recipients, new_threads, refused", SendersOrder::parse);
    let limit = asked.page_size();
    asked.finish()?;
    let query = SendersQuery { user, order: order.unwrap_or(SendersOrder::Sends), limit: limit * DEEPER };
    let (answers, silent) = office.ask_all::<SendersAnswer>(|_| NodeCall::Senders(query.clone())).await;
    let mut all: Vec<_> = sum(answers.into_iter().flat_map(|(_, answer)| answer.senders)).into_values().collect();
    all.sort_by_key(|counts| std::cmp::Reverse(counts.by(query.order)));
    all.truncate(limit as usize);
    json(&Senders {
        window_s: 3_600,
        senders: all.iter().map(row).collect(),
        unanswered: silent.into_iter().map(|node| node.0).collect(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_nodes_counted_of_a_user_is_added_up() {
        let counts = |user: &str, sends: u64| SenderCounts {
            user: UserId::new(user).unwrap(),
            sends,
            peak_sends: sends,
            recipients: 2 * sends,
            recipients_max: 3,
            fan_out: vec![0, sends, 0, 0],
            new_threads: 1,
            refused: 0,
        };
        let all = sum([counts("ann", 3), counts("bob", 1), counts("ann", 4)]);
        assert_eq!(all.len(), 2);
        let ann = &all[&UserId::new("ann").unwrap()];
        assert_eq!((ann.sends, ann.recipients, ann.recipients_max, ann.new_threads), (7, 14, 3, 2));
        assert_eq!(ann.fan_out, [0, 7, 0, 0]);
    }
}
