//! Tests of what users show of themselves.

use super::properties::{family, run_packs};
use super::*;
use crate::machine::rows::privacy::PrivacyKey;
use messenger_proto::command::SetPrivacy;
use messenger_proto::model::PresenceAudience;
use messenger_proto::query::PrivacyQuery;
use proptest::prelude::*;
use std::collections::BTreeSet;

const NAMES: [&str; 3] = ["ann", "bob", "cat"];

fn set(name: &str, presence: PresenceAudience) -> Op {
    Op::SetPrivacy(SetPrivacy { user: user(name), presence })
}

fn hidden(shard: &Shard) -> Vec<UserId> {
    match shard.ask(&Query::Privacy(PrivacyQuery { users: users(&NAMES), viewer: None })).unwrap() {
        Answer::Privacy(answer) => answer.hidden,
        other => panic!("{other:?}"),
    }
}

#[test]
fn who_hides_is_hidden_until_it_shows_itself_again() {
    let mut shard = Shard::new();
    assert_eq!(hidden(&shard), []);
    for name in ["cat", "ann", "ann"] {
        shard.run(set(name, PresenceAudience::Nobody)).unwrap();
    }
    assert_eq!(hidden(&shard), users(&["ann", "cat"]));
    shard.run(set("ann", PresenceAudience::Everyone)).unwrap();
    shard.run(set("bob", PresenceAudience::Everyone)).unwrap();
    assert_eq!(hidden(&shard), users(&["cat"]));
    assert_eq!(family::<PrivacyKey>(&shard.tables).len(), 1, "who shows everything has no row");
    assert!(shard.events.is_empty());
}

proptest! {
    #[test]
    fn the_last_choice_counts(choices in prop::collection::vec((0_usize..3, any::<bool>()), 0..30)) {
        let (mut shard, mut expected) = (Shard::new(), BTreeSet::new());
        for (name, hides) in choices {
            let presence = if hides { PresenceAudience::Nobody } else { PresenceAudience::Everyone };
            shard.run(set(NAMES[name], presence)).unwrap();
            if hides { expected.insert(user(NAMES[name])) } else { expected.remove(&user(NAMES[name])) };
        }
        prop_assert_eq!(hidden(&shard).into_iter().collect::<BTreeSet<_>>(), expected);
        let together: Vec<Command> = shard.log.iter().flat_map(|pack| pack.commands.clone()).collect();
        let (tables, ..) = run_packs(&[Pack { stamp: Millis(shard.now), commands: together }]);
        let rows = |tables: &MemoryTables| family::<PrivacyKey>(tables);
        prop_assert_eq!(rows(&tables), rows(&shard.tables), "however they are packed");
    }
}
